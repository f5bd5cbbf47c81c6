"""How a layer is made again from a few words, without its numbers.

A class of this room says so itself (`recipe`, `from_recipe`); those of ``torch.nn`` are here.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn

from tenfold.errors import FileError, TenfoldError

_CONVOLUTIONS = {"Conv1d": nn.Conv1d, "Conv2d": nn.Conv2d, "Conv3d": nn.Conv3d}


@runtime_checkable
class Recorded(Protocol):
    """A layer that can be made again."""

    def recipe(self) -> dict[str, Any]:
        """What `from_recipe` needs, as JSON knows it."""

    @classmethod
    def from_recipe(cls, recipe: Mapping[str, Any]) -> nn.Module:
        """The layer, its numbers not yet those of the original."""


def recipe_of(module: nn.Module) -> dict[str, Any]:
    """What `module_of` needs to make the same module again, up to its numbers.

    Raises:
        TypeError: a class that is not known here.
    """
    if isinstance(module, Recorded):
        return {"class": type(module).__name__, **module.recipe()}
    if type(module) is nn.Sequential:
        return {"class": "Sequential", "modules": [recipe_of(m) for m in module]}
    if type(module) is nn.Linear:
        return {
            "class": "Linear",
            "in_features": module.in_features,
            "out_features": module.out_features,
            "bias": module.bias is not None,
            "dtype": name_of(module.weight.dtype),
        }
    if type(module) in _CONVOLUTIONS.values():
        return {"class": type(module).__name__, **convolution_recipe(module)}
    raise TypeError(f"no recipe for a {type(module).__name__}")


def module_of(recipe: Mapping[str, Any]) -> nn.Module:
    """The module of a recipe.

    Raises:
        FileError: a recipe of something that this version does not know.
    """
    given = dict(recipe)
    name = given.pop("class", None)
    try:
        if name == "Sequential":
            return nn.Sequential(*(module_of(one) for one in given["modules"]))
        if name == "Linear":
            return nn.Linear(given["in_features"], given["out_features"], given["bias"], dtype=dtype_of(given["dtype"]))
        if name in _CONVOLUTIONS:
            return convolution_of(_CONVOLUTIONS[name], given)
        made = getattr(importlib.import_module("tenfold.nn"), str(name), None)
        if isinstance(made, type) and issubclass(made, nn.Module) and hasattr(made, "from_recipe"):
            make: Callable[[Mapping[str, Any]], nn.Module] = made.from_recipe
            return make(given)
    except FileError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, TenfoldError) as cause:
        raise FileError(f"the file's recipe of a '{name}' is damaged ({cause})") from cause
    raise FileError(f"the file holds a layer '{name}', which this version of tenfold does not know")


def convolution_recipe(module: Any) -> dict[str, Any]:
    """The arguments of a convolution of ``torch.nn``."""
    return {
        "in_channels": module.in_channels,
        "out_channels": module.out_channels,
        "kernel_size": list(module.kernel_size),
        "stride": list(module.stride),
        "padding": module.padding if isinstance(module.padding, str) else list(module.padding),
        "dilation": list(module.dilation),
        "groups": module.groups,
        "bias": module.bias is not None,
        "padding_mode": module.padding_mode,
        "dtype": name_of(module.weight.dtype),
    }


def convolution_of(cls: type[nn.Module], recipe: Mapping[str, Any], **more: Any) -> Any:
    """The convolution with these arguments."""
    given: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in recipe.items()}
    return cls(**{**given, "dtype": dtype_of(given["dtype"])}, **more)


def name_of(dtype: torch.dtype) -> str:
    """``"float32"`` and so on."""
    return str(dtype).removeprefix("torch.")


def dtype_of(name: str) -> torch.dtype:
    """The dtype of a name. Raises `FileError` where there is none."""
    found = getattr(torch, name, None)
    if not isinstance(found, torch.dtype):
        raise FileError(f"'{name}' is no dtype")
    return found
