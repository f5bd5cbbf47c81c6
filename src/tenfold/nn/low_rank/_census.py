"""Which layers of a model can be trained in low rank, and why the others are left alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from tenfold._arguments import closest
from tenfold.errors import TenfoldError
from tenfold.nn.low_rank._layer import Shape
from tenfold.nn.quantized import QuantizedConv, QuantizedLinear

# Why a method cannot have a layer that nothing else speaks against; empty if it can.
Refusal = Callable[[nn.Module], str]
Globs = str | Iterable[str]


def census(
    model: nn.Module, kinds: tuple[type[nn.Module], ...], refusal: Refusal, *, skip: Globs, only: Globs | None
) -> tuple[dict[str, nn.Module], dict[str, str]]:
    """Layers to handle, and for each other linear layer or convolution a reason, both by name.

    Raises:
        TenfoldError: a glob matches no layer, or there is no layer to handle.
    """
    layers = {name: layer for name, layer in model.named_modules(remove_duplicate=False) if _is_candidate(layer)}
    skipped = _matching("skip", skip, layers)
    wanted = set(layers) if only is None else _matching("only", only, layers)
    names: dict[int, list[str]] = {}
    for name, layer in layers.items():
        names.setdefault(id(layer), []).append(name)
    holders: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        holders.setdefault(id(parameter), []).append(name)
    handled: dict[str, nn.Module] = {}
    left_alone: dict[str, str] = {}
    for name, layer in layers.items():
        if name in skipped:
            reason = "skipped"
        elif name not in wanted:
            reason = "not among those asked for"
        else:
            reason = _reason(name, layer, kinds, names, holders) or refusal(layer)
        if reason:
            left_alone[name] = reason
        else:
            handled[name] = layer
    if not handled:
        reasons = "; ".join(f"'{name}': {reason}" for name, reason in left_alone.items())
        raise TenfoldError(f"model has no layer to train in low rank: {reasons or 'no linear map and no convolution'}")
    return handled, left_alone


def factors_pay(layer: nn.Module) -> str:
    """Refuses a layer whose weight is not larger than its two factors of rank one."""
    return "" if largest_rank(layer) else "factors of rank 1 are as large as its weight"


def largest_rank(layer: nn.Module) -> int:
    """The largest rank with which two factors are not larger than the weight."""
    rows, columns = Shape.of(layer).matrix
    return rows * columns // (rows + columns)


def of_each(name: str, given: int | Mapping[str, int] | None, layers: Iterable[str]) -> dict[str, int]:
    """A number for all layers, or one for each that is named. Raises `TenfoldError` for others and below 1."""
    known = list(layers)
    if given is None:
        return {}
    each = dict(given) if isinstance(given, Mapping) else dict.fromkeys(known, given)
    for layer, value in each.items():
        if layer not in known:
            raise TenfoldError(f"{name} names layer '{layer}', which is not trained in low rank{closest(layer, known)}")
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise TenfoldError(f"{name} of layer '{layer}' must be a whole number of at least 1, not {value!r}")
    return each


def _is_candidate(layer: nn.Module) -> bool:
    return isinstance(layer, nn.Linear | _ConvNd | QuantizedLinear | QuantizedConv)


def _matching(argument: str, globs: Globs, layers: Iterable[str]) -> set[str]:
    found: set[str] = set()
    known = list(layers)
    for glob in [globs] if isinstance(globs, str) else globs:
        matched = {name for name in known if fnmatchcase(name, glob)}
        if not matched:
            raise TenfoldError(f"{argument} '{glob}' matches no layer; there are {', '.join(known) or 'none'}")
        found |= matched
    return found


def _reason(
    name: str,
    layer: nn.Module,
    kinds: tuple[type[nn.Module], ...],
    names: Mapping[int, list[str]],
    holders: Mapping[int, list[str]],
) -> str:
    """Why a layer cannot be replaced; empty if it can."""
    kind = type(layer)
    if isinstance(layer, QuantizedLinear | QuantizedConv):
        return "its weight is whole numbers"
    if kind not in kinds:
        known = " or ".join(each.__name__ for each in kinds)
        return f"is {kind.__name__}, not {known}"
    weight, groups = layer.weight, getattr(layer, "groups", 1)
    other = [n for n in names[id(layer)] if n != name]
    if not name:
        return "is the model itself: put it into nn.Sequential"
    if other:
        return f"is the same module as '{other[0]}'"
    if layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks or layer._backward_pre_hooks:
        return "has hooks"
    if not isinstance(weight, nn.Parameter):
        return "its weight is not a parameter"
    others = [n for n in holders[id(weight)] if n != f"{name}.weight"]
    if others:
        return f"its weight is shared with '{others[0]}'"
    return _numbers(weight) or (f"has {groups} groups" if groups != 1 else "")


def _numbers(weight: Tensor) -> str:
    if weight.is_meta:
        return "has no numbers yet (meta device)"
    if not weight.requires_grad:
        return "is frozen"
    if not math.prod(weight.shape):
        return "has size zero"
    if not weight.is_floating_point() or weight.element_size() < 4:
        return f"has dtype {str(weight.dtype).removeprefix('torch.')}: keep float32 and train under autocast"
    if not bool(weight.detach().isfinite().all()):
        return "its weight is not finite"
    return ""
