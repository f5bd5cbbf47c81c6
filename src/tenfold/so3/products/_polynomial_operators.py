"""Symmetric contractions as operators of torch, so that autograd, compilers and exports see them as one call each.

The derivatives of a polynomial are polynomials of the same terms: a gradient is one pass over them, its derivatives are
another, and the third derivative is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor

from tenfold.errors import TenfoldError
from tenfold.so3._shares import shared
from tenfold.so3._simd import BYTES
from tenfold.so3.products._polynomials import polynomials

# Nodes are shared between threads in portions of at least so many, and about so many portions at most: gradients of
# weights are kept for each of them. Neither depends on the number of threads, so that results do not.
_LEAST, _MOST = 32, 64
# Polynomials of more terms are run through in loops: written out they would take more than seconds to compile.
_WRITTEN_OUT = {"evaluate": 2000, "pull": 700, "push": 700}


def symmetric_polynomials(
    features: Float[Tensor, "nodes component channel"],
    weight: Float[Tensor, "species path channel"],
    species: Int[Tensor, " nodes"] | None,
    irreps_in: str,
    irreps_out: str,
    correlation: int,
) -> Float[Tensor, "nodes out channel"]:
    """The polynomials of `polynomials`, with the weights of each node's species; without species, of the only one."""
    channels = features.shape[-1]
    if missing := -channels % (BYTES // features.itemsize):
        features, weight = (torch.nn.functional.pad(tensor, (0, missing)) for tensor in (features, weight))
    found = _contract(features, weight, species, irreps_in, irreps_out, correlation)
    return found[..., :channels] if missing else found


class _Units(NamedTuple):
    """Nodes sorted by species and portioned: where portions begin, and the species of each."""

    order: NDArray[np.int64]
    first: NDArray[np.int64]
    species: NDArray[np.int64]


@torch.library.custom_op("tenfold::so3_symmetric_contraction", mutates_args=(), device_types="cpu")
def _contract(
    features: Tensor, weight: Tensor, species: Tensor | None, irreps_in: str, irreps_out: str, correlation: int
) -> Tensor:
    key = (irreps_in, irreps_out, correlation)
    out = _like(features, polynomials(*key).components[1])
    units = _portions(species, features.shape[0])
    arrays = (*_arrays(features, weight), *units, _tables(*key, features.dtype), out.numpy())
    kernel = _kernel("evaluate", key, [False, False])
    shared(len(units.species), lambda begin, end: kernel(*arrays, begin, end))
    return out


@_contract.register_fake
def _(
    features: Tensor, weight: Tensor, species: Tensor | None, irreps_in: str, irreps_out: str, correlation: int
) -> Tensor:
    return _like(features, polynomials(irreps_in, irreps_out, correlation).components[1])


@torch.library.custom_op("tenfold::so3_symmetric_contraction_pull", mutates_args=(), device_types="cpu")
def _pull(
    features: Tensor,
    weight: Tensor,
    species: Tensor | None,
    grad: Tensor,
    irreps_in: str,
    irreps_out: str,
    correlation: int,
    wants: list[bool],
) -> tuple[Tensor, Tensor]:
    """Gradients for features and weights; an empty one where it is not wanted."""
    tables = _tables(irreps_in, irreps_out, correlation, features.dtype)
    units = _portions(species, features.shape[0])
    by_features, by_units = _targets(features, weight, units, wants)
    arrays = (*_arrays(features, weight), *units, tables, *_arrays(grad), by_features.numpy(), by_units)
    kernel = _kernel("pull", (irreps_in, irreps_out, correlation), wants)
    shared(len(units.species), lambda begin, end: kernel(*arrays, begin, end))
    return by_features, _added(by_units, units, weight, wants[1])


@_pull.register_fake
def _(
    features: Tensor,
    weight: Tensor,
    species: Tensor | None,
    grad: Tensor,
    irreps_in: str,
    irreps_out: str,
    correlation: int,
    wants: list[bool],
) -> tuple[Tensor, Tensor]:
    return _wanted(features, wants[0]), _wanted(weight, wants[1])


@torch.library.custom_op("tenfold::so3_symmetric_contraction_push", mutates_args=(), device_types="cpu")
def _push(
    features: Tensor,
    weight: Tensor,
    species: Tensor | None,
    grad: Tensor,
    along: Tensor,
    irreps_in: str,
    irreps_out: str,
    correlation: int,
    wants: list[bool],
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of ``sum(along * gradient for features)``, for features, weights and ``grad``."""
    tables = _tables(irreps_in, irreps_out, correlation, features.dtype)
    units = _portions(species, features.shape[0])
    out = _like(features, grad.shape[1])
    by_features, by_units = _targets(features, weight, units, wants)
    given = (*_arrays(features, weight), *units, tables, *_arrays(grad, along))
    arrays = (*given, out.numpy(), by_features.numpy(), by_units)
    kernel = _kernel("push", (irreps_in, irreps_out, correlation), wants)
    shared(len(units.species), lambda begin, end: kernel(*arrays, begin, end))
    return by_features, _added(by_units, units, weight, wants[1]), out


@_push.register_fake
def _(
    features: Tensor,
    weight: Tensor,
    species: Tensor | None,
    grad: Tensor,
    along: Tensor,
    irreps_in: str,
    irreps_out: str,
    correlation: int,
    wants: list[bool],
) -> tuple[Tensor, Tensor, Tensor]:
    return _wanted(features, wants[0]), _wanted(weight, wants[1]), _like(features, grad.shape[1])


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    features, weight, species, *ctx.key = inputs
    ctx.save_for_backward(features, weight, species)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    features, weight, species = ctx.saved_tensors
    wants = list(ctx.needs_input_grad[:2])
    found = _pull(features, weight, species, grad, *ctx.key, wants)
    return (*_some(found, wants), None, None, None, None)


def _keep_pull(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    features, weight, species, grad, *ctx.key, ctx.made = inputs
    ctx.save_for_backward(features, weight, species, grad)
    ctx.set_materialize_grads(False)


def _pull_backward(ctx: Any, along: Tensor | None, more: Tensor | None) -> tuple[Tensor | None, ...]:
    features, weight, species, grad = ctx.saved_tensors
    by_features: Tensor | None = None
    by_weight: Tensor | None = None
    by_grad: Tensor | None = None
    needs = ctx.needs_input_grad
    if ctx.made[0] and along is not None:
        wants = list(needs[:2])
        *found, by_grad = _push(features, weight, species, grad, along, *ctx.key, wants)
        by_features, by_weight = _some(found, wants)
    if ctx.made[1] and more is not None:
        # The output is linear in the weights: their gradient meets another set of them as the output does.
        if needs[0]:
            pulled, _ = _pull(features, more, species, grad, *ctx.key, [True, False])
            by_features = pulled if by_features is None else by_features + pulled
        if needs[3]:
            made = _contract(features, more, species, *ctx.key)
            by_grad = made if by_grad is None else by_grad + made
    return by_features, by_weight, None, by_grad, None, None, None, None


def _push_backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
    raise TenfoldError("backend 'polynomials' has two derivatives: use 'dense' for a third")


_contract.register_autograd(_backward, setup_context=_keep)
_pull.register_autograd(_pull_backward, setup_context=_keep_pull)
_push.register_autograd(_push_backward)


def _kernel(name: str, key: tuple[str, str, int], wants: list[bool]) -> Callable[..., None]:
    """Loops over the terms of any polynomials, or what was compiled for these."""
    if polynomials(*key).terms > _WRITTEN_OUT[name]:
        from tenfold.so3.products import _polynomial_kernels as kernels

        return getattr(kernels, name)
    return partial(_written_out(name), _program(key, *wants))


@cache
def _written_out(name: str) -> Callable[..., None]:
    from tenfold.so3.products import _polynomial_programs as programs

    return getattr(programs, name)


@cache
def _program(key: tuple[str, str, int], by_features: bool, by_weight: bool) -> Any:
    from tenfold.so3.products._polynomial_programs import Program

    return Program(key, by_features, by_weight)


def _some(found: Any, wants: list[bool]) -> tuple[Tensor | None, ...]:
    return tuple(one if wanted else None for one, wanted in zip(found, wants, strict=True))


def _like(features: Tensor, components: int) -> Tensor:
    return features.new_empty(features.shape[0], components, features.shape[-1])


def _wanted(tensor: Tensor, wanted: bool) -> Tensor:
    return tensor.new_empty(tensor.shape if wanted else (0, *tensor.shape[1:]))


def _arrays(*tensors: Tensor) -> tuple[NDArray[Any], ...]:
    return tuple(tensor.detach().contiguous().numpy() for tensor in tensors)


def _targets(features: Tensor, weight: Tensor, units: _Units, wants: list[bool]) -> tuple[Tensor, NDArray[Any]]:
    rows = len(units.species) if wants[1] else 0
    return _wanted(features, wants[0]), np.zeros((rows, *weight.shape[1:]), _numpy(features.dtype))


def _added(by_units: NDArray[Any], units: _Units, weight: Tensor, wanted: bool) -> Tensor:
    """What the units of one species add up to, in their order."""
    if not wanted:
        return _wanted(weight, False)
    total = np.zeros(tuple(weight.shape), by_units.dtype)
    if len(np.unique(units.species)) == len(units.species):
        total[units.species] = by_units
    else:
        for row, part in zip(units.species, by_units, strict=True):
            total[row] += part
    return torch.from_numpy(total)


def _portions(species: Tensor | None, nodes: int) -> _Units:
    if species is None:
        order, sizes = np.arange(nodes), np.array([nodes])
        present = np.array([0])
    else:
        given = species.detach().numpy()
        order = np.argsort(given, kind="stable")
        present, sizes = np.unique(given, return_counts=True)
    portion = max(_LEAST, -(-nodes // _MOST))
    starts = np.cumsum([0, *sizes])
    parts = [np.arange(start, stop, portion) for start, stop in pairwise(starts)]
    first = np.concatenate([*parts, [nodes]]).astype(np.int64)
    return _Units(order, first, np.repeat(present, [len(part) for part in parts]).astype(np.int64))


@cache
def _tables(irreps_in: str, irreps_out: str, correlation: int, dtype: torch.dtype) -> tuple[NDArray[Any], ...]:
    """What kernels take: the arrays of the polynomials, their values in the dtype of the features."""
    made = polynomials(irreps_in, irreps_out, correlation)
    indices = (made.longer_first, made.last, made.term_first, made.term_out)
    by_out = (made.out_first, made.out_term, made.out_monomial)
    return (*indices, *by_out, made.value_first, made.value_path, made.value.astype(_numpy(dtype)))


def _numpy(dtype: torch.dtype) -> Any:
    return torch.empty(0, dtype=dtype).numpy().dtype
