"""A model some of whose layers were replaced, as one file, and back into the model that it was made from."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from tenfold._files import atomic
from tenfold.errors import FileError, TenfoldError
from tenfold.nn.placing import place
from tenfold.nn.recipes import module_of, recipe_of

_VERSION = 1
_KEY = "tenfold.model"


def save(
    path: str | os.PathLike[str],
    model: nn.Module,
    replaced: Mapping[tuple[str, ...], nn.Module],
    *,
    record: Mapping[str, Any] | None = None,
) -> None:
    """Write a model's numbers, and how the replaced layers are made, as one safetensors file.

    Args:
        path: of the file.
        model: with the replaced layers in it.
        replaced: under which names each of them is.
        record: what else is to be known of it, as JSON knows it.

    Raises:
        FileError: the file cannot be written.
    """
    tensors, aliases = _unique(model)
    layers = [{"names": list(names), "recipe": recipe_of(module)} for names, module in replaced.items()]
    header = {"version": _VERSION, "layers": layers, "aliases": aliases, "record": dict(record or {})}
    with atomic(path) as beside:
        try:
            save_file(tensors, beside, metadata={_KEY: json.dumps(header)})
        except SafetensorError as error:
            raise FileError(f"cannot write '{path}': {error}") from error


def _unique(model: nn.Module) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Each tensor once, and for other names of the same numbers under which they are."""
    tensors: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    first: dict[tuple[Any, ...], str] = {}
    for name, value in model.state_dict().items():
        if not isinstance(value, Tensor):
            continue
        key = (value.untyped_storage().data_ptr(), value.storage_offset(), tuple(value.shape), value.stride())
        if value.numel() and key in first:
            aliases[name] = first[key]
            continue
        first[key] = name
        tensors[name] = value.detach().cpu().contiguous().clone()
    return tensors, aliases


def record_of(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What else was to be known of the model. Raises `FileError` where the file holds none."""
    return dict(_header(path)["record"])


def load(path: str | os.PathLike[str], model: nn.Module) -> nn.Module:
    """Put a stored model's layers and numbers into the model that it was made from.

    Args:
        path: of a file that `save` wrote.
        model: the same architecture; its numbers do not matter. It is changed.

    Returns:
        The model, in evaluation mode.

    Raises:
        FileError: no such file, or not one of these, or damaged, or of a newer version.
        TenfoldError: the model is not the one that the file was made from.
    """
    header = _header(path)
    for layer in header["layers"]:
        made = module_of(layer["recipe"])
        for name in layer["names"]:
            try:
                place(model, name, made)
            except AttributeError:
                raise TenfoldError(
                    f"'{path}' replaces the layer '{name}', which this {type(model).__name__} does not have; "
                    "give the model that was compressed"
                ) from None
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    for name, source in header["aliases"].items():
        tensors[name] = tensors[source]
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        said = " ".join(str(error).split())
        raise TenfoldError(f"'{path}' does not fit this {type(model).__name__}: {said[:300]}") from error
    return model.eval()


def _header(path: str | os.PathLike[str]) -> dict[str, Any]:
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(_KEY)
    except FileNotFoundError:
        raise FileError(f"there is no file '{path}'") from None
    except (SafetensorError, OSError) as error:
        raise FileError(f"'{path}' is truncated or no tenfold file ({error})") from error
    if text is None:
        raise FileError(f"'{path}' holds no compressed model")
    try:
        header = json.loads(text)
        version = header["version"]
        known = isinstance(header["layers"], list) and isinstance(header["aliases"], dict)
    except (ValueError, KeyError, TypeError) as cause:
        raise FileError(f"'{path}' has a damaged header ({cause})") from cause
    if not isinstance(version, int) or version > _VERSION:
        raise FileError(f"'{path}' is of version {version}; this tenfold reads up to {_VERSION}")
    if not known:
        raise FileError(f"'{path}' has a damaged header")
    return dict(header)
