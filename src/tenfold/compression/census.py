"""Which layers of a model can be replaced, and why the others are left alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize

from tenfold.nn.quantized import QuantizedConv, QuantizedEmbedding, QuantizedLinear

Kind = Literal["linear", "conv", "embedding"]

# Below this many entries a layer is not worth its place in the table.
_SMALLEST = 256


@dataclass(frozen=True, eq=False)
class Site:
    """A layer that can be replaced.

    Attributes:
        name: of the module in the model, the first where it is used under several.
        names: all of them.
        kind: ``"linear"``, ``"conv"`` or ``"embedding"``.
        module: the layer.
        weight: its weight as ``torch.nn`` lays it out, ``(out, in, ...)``; (rows, columns) of an embedding.
        bias: its bias, or None.
    """

    name: str
    names: tuple[str, ...]
    kind: Kind
    module: nn.Module
    weight: Tensor
    bias: Tensor | None

    @property
    def bytes(self) -> int:
        """Of weight and bias."""
        return sum(t.numel() * t.element_size() for t in (self.weight, self.bias) if t is not None)


@dataclass(frozen=True)
class LeftAlone:
    """A layer that keeps as it is.

    Attributes:
        name: of the module.
        kind: the name of its class.
        why: the reason, a few words.
        bytes: of its own numbers; of those that are shared, only where they come first.
    """

    name: str
    kind: str
    why: str
    bytes: int


@dataclass(frozen=True, eq=False)
class Census:
    """What a model is made of.

    Attributes:
        sites: the layers that can be replaced, in the order of the model.
        left_alone: layers with weights that cannot or shall not.
        bytes: of all parameters and buffers that are saved, shared ones once.
        parameters: their number.
    """

    sites: tuple[Site, ...]
    left_alone: tuple[LeftAlone, ...]
    bytes: int
    parameters: int


def census(model: nn.Module, *, skip: Sequence[str] = (), only: Sequence[str] = ()) -> Census:
    """Go through the modules of a model.

    Args:
        model: any module.
        skip: patterns of module names that are left alone, as ``"encoder.*"``.
        only: where given, everything else is.

    Returns:
        Each layer of a kind that can be replaced, once, or the reason why it is left alone.
    """
    places: dict[int, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        places.setdefault(id(module), []).append(name)
    # What attention computes in one step with its own numbers, it reads from the layer and does not call it.
    read = {id(m.out_proj) for m in model.modules() if isinstance(m, nn.MultiheadAttention)}
    owners: dict[int, set[int]] = {}
    for module in model.modules():
        for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
            owners.setdefault(_storage(tensor), set()).add(id(module))
    sites, left = [], []
    counted: set[tuple[Any, ...]] = set()
    for name, module in model.named_modules():
        weights = [p for p in module.parameters(recurse=False) if is_lazy(p) or p.ndim > 1]
        kind, why = _kind(module)
        if kind is None and why is None and not weights:
            continue
        names = tuple(places[id(module)])
        if kind is not None and why is None:
            why = "attention reads its weight and does not call it" if id(module) in read else _obstacle(module, owners)
        if why is None and (_matches(names, skip) or (only and not _matches(names, only))):
            why = "skipped, as asked"
        if kind is None and why is None:
            why = _held(module, name)
        if kind is not None and why is None and not name:
            why = "it is the whole model; give torch.nn.Sequential(model)"
        if kind is None or why is not None:
            own = {_key(t): t for t in _numbers(module)}
            size = sum(t.numel() * t.element_size() for key, t in own.items() if key not in counted)
            counted |= set(own)
            left.append(LeftAlone(name, type(module).__name__, why or "no method replaces layers of this class", size))
        else:
            sites.append(_site(names, kind, module))
    unique = {_key(t): t for _, t in _saved(model)}
    return Census(
        tuple(sites),
        tuple(left),
        sum(t.numel() * t.element_size() for t in unique.values()),
        sum(t.numel() for t in unique.values()),
    )


def size_of(model: nn.Module) -> tuple[int, int]:
    """Bytes and numbers of all parameters and buffers that are saved, shared ones once."""
    unique = {_key(t): t for _, t in _saved(model)}
    return sum(t.numel() * t.element_size() for t in unique.values()), sum(t.numel() for t in unique.values())


def _saved(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    for name, value in model.state_dict(keep_vars=True).items():
        if isinstance(value, Tensor) and not is_lazy(value):
            yield name, value


def _numbers(module: nn.Module) -> Iterator[Tensor]:
    """Of the module itself, not of those in it, but of those that compute its weights."""
    inside = module.parametrizations.parameters() if parametrize.is_parametrized(module) else ()  # type: ignore[union-attr]
    for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False), *inside):
        if not is_lazy(tensor):
            yield tensor


def _held(module: nn.Module, name: str) -> str | None:
    """Why parameters beside the layers of a module of one's own stay; None of layers."""
    if type(module).__module__.startswith("torch.nn.") or (name and not any(True for _ in module.children())):
        return None
    held = [f"`{key}` ({_kilobytes(p)})" for key, p in module.named_parameters(recurse=False) if p.ndim > 1]
    return f"parameter{'s' if len(held) > 1 else ''} {', '.join(held)} of the {'module' if name else 'model'} itself"


def _kilobytes(tensor: Tensor) -> str:
    return f"{tensor.numel() * tensor.element_size() / 1e3:.3g} kB"


def _storage(tensor: Tensor) -> int:
    if is_lazy(tensor):
        return id(tensor)
    return tensor.untyped_storage().data_ptr() or id(tensor)


def _key(tensor: Tensor) -> tuple[Any, ...]:
    return (_storage(tensor), tensor.storage_offset(), tuple(tensor.shape), tuple(tensor.stride()))


def _kind(module: Any) -> tuple[Kind | None, str | None]:
    """What a module is, and what keeps its kind from being replaced."""
    if parametrize.is_parametrized(module):
        return None, "its weight is computed from other tensors (a parametrization)"
    if any(is_lazy(p) for p in module.parameters(recurse=False)):
        return None, "its weight has no values yet; run the model once before"
    if isinstance(module, QuantizedLinear | QuantizedConv | QuantizedEmbedding):
        return None, "its weight is whole numbers"
    if type(module) in (nn.Linear, nn.modules.linear.NonDynamicallyQuantizableLinear):
        return "linear", None
    if _is_transposed_linear(module):
        return "linear", None
    if type(module) in (nn.Conv1d, nn.Conv2d, nn.Conv3d):
        if module.groups != 1:
            return "conv", f"a convolution in {module.groups} groups"
        return "conv", None
    if type(module) is nn.Embedding:
        if module.max_norm is not None or module.sparse:
            return "embedding", "an embedding with max_norm or sparse gradients"
        return "embedding", None
    if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Embedding):
        return None, f"a subclass of its own ({type(module).__name__}), whose forward may do more"
    return None, None


def _is_transposed_linear(module: nn.Module) -> bool:
    """Whether this is the ``Conv1D`` of transformers: a linear layer whose weight is (in, out)."""
    return type(module).__name__ == "Conv1D" and type(module).__module__ == "transformers.pytorch_utils"


def _obstacle(module: Any, owners: dict[int, set[int]]) -> str | None:
    weight = module.weight
    if type(weight) not in (nn.Parameter, Tensor):
        return f"its weight is a {type(weight).__name__}, not a plain tensor"
    if weight.is_meta:
        return "its weight is on the device 'meta', without values"
    if weight.numel() == 0:
        return "it has no weights"
    if not weight.is_floating_point():
        return f"its weight is of dtype {str(weight.dtype).removeprefix('torch.')}"
    if weight.numel() < _SMALLEST:
        return f"small ({weight.numel()} weights)"
    if len(owners[_storage(weight)]) > 1:
        return "its weight is shared with another layer (tied)"
    if not torch.isfinite(weight).all():
        return "its weight has entries that are not finite"
    if any(value for name, value in vars(module).items() if name.endswith("_hooks")):
        return "it has hooks, which a replacement would lose"
    if "forward" in vars(module):
        return "its forward was replaced by another function"
    own = [*module._parameters, *module._buffers, *module._modules]
    if set(own) - {"weight", "bias"}:
        return f"it holds more than weight and bias ({', '.join(sorted(set(own) - {'weight', 'bias'}))})"
    return None


def _matches(names: Sequence[str], patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for name in names for pattern in patterns)


def _site(names: tuple[str, ...], kind: Kind, module: Any) -> Site:
    weight = module.weight.detach()
    if _is_transposed_linear(module):
        weight = weight.T
    bias = getattr(module, "bias", None)
    return Site(names[0], names, kind, module, weight, None if bias is None else bias.detach())
