"""Products of sparse arrays with factors as torch operators, with derivatives: ``torch.ops.tenfold.sparse_*``.

Each is linear in the values and in every factor, and its derivatives are the other one and itself, so both can be
differentiated any number of times.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Int, Shaped
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from tenfold.decomposition._sparse import Pattern, SparseArray

# Coordinates are sorted once, for as long as their tensor lives.
_patterns = WeakTensorKeyDictionary()


def sparse_mttkrp(
    coordinates: Int[Tensor, "n N"], values: Shaped[Tensor, " n"], factors: Sequence[Shaped[Tensor, "d r"]], mode: int
) -> Shaped[Tensor, "d r"]:
    """The unfolding of a sparse array along ``mode`` times the Khatri-Rao product of all factors but that one.

    ``coordinates`` lists no cell twice, and is kept sorted for as long as it lives: do not write into it.
    """
    return torch.ops.tenfold.sparse_mttkrp(coordinates, values, list(factors), mode)


def sparse_entries(coordinates: Int[Tensor, "n N"], factors: Sequence[Shaped[Tensor, "d r"]]) -> Shaped[Tensor, " n"]:
    """What CP factors make of the listed cells."""
    return torch.ops.tenfold.sparse_entries(coordinates, list(factors))


@torch.library.custom_op("tenfold::sparse_mttkrp", mutates_args=(), device_types="cpu")
def _mttkrp(coordinates: Tensor, values: Tensor, factors: list[Tensor], mode: int) -> Tensor:
    pattern = _pattern(coordinates, factors)
    compact = [factor[present] for factor, present in zip(factors, pattern.present, strict=True)]
    found = SparseArray(pattern, values.detach()).mttkrp(compact, mode)
    return torch.zeros_like(factors[mode], dtype=found.dtype).index_copy(0, pattern.present[mode], found)


@_mttkrp.register_fake
def _(coordinates: Tensor, values: Tensor, factors: list[Tensor], mode: int) -> Tensor:
    return torch.empty_like(factors[mode], dtype=torch.promote_types(values.dtype, factors[0].dtype))


@torch.library.custom_op("tenfold::sparse_entries", mutates_args=(), device_types="cpu")
def _entries(coordinates: Tensor, factors: list[Tensor]) -> Tensor:
    pattern = _pattern(coordinates, factors)
    compact = [factor[present] for factor, present in zip(factors, pattern.present, strict=True)]
    return SparseArray(pattern, torch.empty(0)).entries(compact)


@_entries.register_fake
def _(coordinates: Tensor, factors: list[Tensor]) -> Tensor:
    return factors[0].new_empty(len(coordinates))


def _keep_product(ctx: Any, inputs: tuple[Tensor, Tensor, list[Tensor], int], output: Tensor) -> None:
    coordinates, values, factors, ctx.mode = inputs
    ctx.save_for_backward(coordinates, values, *factors)


def _product_backward(ctx: Any, grad: Tensor) -> tuple[None, Tensor | None, list[Tensor | None], None]:
    coordinates, values, *factors = ctx.saved_tensors
    moved = [factor.conj().resolve_conj() for factor in factors]
    moved[ctx.mode] = grad
    by_values = sparse_entries(coordinates, moved) if ctx.needs_input_grad[1] else None
    by_factors: list[Tensor | None] = [
        None if other == ctx.mode else sparse_mttkrp(coordinates, values.conj().resolve_conj(), moved, other)
        for other in range(len(factors))
    ]
    return None, by_values, by_factors, None


def _keep_entries(ctx: Any, inputs: tuple[Tensor, list[Tensor]], output: Tensor) -> None:
    coordinates, factors = inputs
    ctx.save_for_backward(coordinates, *factors)


def _entries_backward(ctx: Any, grad: Tensor) -> tuple[None, list[Tensor]]:
    coordinates, *factors = ctx.saved_tensors
    moved = [factor.conj().resolve_conj() for factor in factors]
    return None, [sparse_mttkrp(coordinates, grad, moved, mode) for mode in range(len(factors))]


_mttkrp.register_autograd(_product_backward, setup_context=_keep_product)
_entries.register_autograd(_entries_backward, setup_context=_keep_entries)


def _pattern(coordinates: Tensor, factors: Sequence[Tensor]) -> Pattern:
    sizes = tuple(len(factor) for factor in factors)
    kept = _patterns.get(coordinates)
    if kept is None or kept.sizes != sizes:
        kept = Pattern(list(coordinates.unbind(1)), sizes)
        _patterns[coordinates] = kept
    return kept
