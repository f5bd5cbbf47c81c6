"""Spherical harmonics as torch operators on the CPU, with exact first and second derivatives by kernels.

`torch.ops.tenfold.so3_harmonics` and its derivatives are functions of whole batches: what is differentiated, and how
often, decides which kernel runs. The third derivative and what follows are those of the polynomials in plain torch.
"""

from __future__ import annotations

import math
from functools import cache, partial
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tenfold.so3._harmonics_plain import plain_harmonics, recurrence, scale
from tenfold.so3._memory import empty
from tenfold.so3._shares import shared
from tenfold.so3._transforms import followed

# Harmonics below which threads wait for each other longer than they work.
_WORTH_THREADS = 2**20
# The most vectors that are worked on at once.
_BLOCK = 16
# All degrees up to one that is at most this are written out: others would have to be compiled for each choice.
_WRITTEN_OUT = 6
# Squares of lengths between which vectors need no scale of their own, by the bytes of a number: nothing overflows, and
# no digits are lost.
_LIMITS = {4: (1e-30, 1e30), 8: (1e-280, 1e280)}


def served(vectors: Tensor) -> bool:
    """Whether the kernels do this: numbers on the CPU, and no transform of functions that would look into them."""
    if vectors.device.type != "cpu" or vectors.dtype not in (torch.float32, torch.float64):
        return False
    return not (torch._C._are_functorch_transforms_active() or followed(vectors))


@torch.library.custom_op("tenfold::so3_harmonics", mutates_args=(), device_types="cpu")
def harmonics(vectors: Tensor, degrees: list[int], normalize: bool, normalization: str) -> Tensor:
    """The harmonics of different degrees, side by side, at vectors ``[*batch, 3]`` of single or double precision.

    Cost: ``O(L^2)`` operations and numbers for each vector, in one pass.
    """
    return _values(vectors, degrees, normalize, normalization)


def evaluated(vectors: Tensor, degrees: list[int], normalize: bool, normalization: str) -> Tensor:
    """`harmonics`, and without torch's way to an operator, which takes as long as 5000 vectors, where nobody looks."""
    traced = torch.compiler.is_compiling() or torch.jit.is_tracing() or torch._C._len_torch_dispatch_stack()
    if traced or type(vectors) is not Tensor or (vectors.requires_grad and torch.is_grad_enabled()):
        return harmonics(vectors, degrees, normalize, normalization)
    return _values(vectors, degrees, normalize, normalization)


def _values(vectors: Tensor, degrees: list[int], normalize: bool, normalization: str) -> Tensor:
    flat = _rows(vectors)
    out = empty((len(flat), _components(degrees)), flat.dtype)
    _run("values", (flat,), degrees, normalize, normalization, (out,))
    return out.view(*vectors.shape[:-1], out.shape[1])


@torch.library.custom_op("tenfold::so3_harmonics_slopes", mutates_args=(), device_types="cpu")
def slopes(vectors: Tensor, grad: Tensor, degrees: list[int], normalize: bool, normalization: str) -> Tensor:
    """The gradient of ``sum(grad * harmonics)`` by the vectors. Nothing is kept for it: harmonics are made again."""
    flat = _rows(vectors)
    out = torch.empty_like(flat)
    _run("slopes", (flat, _rows(grad)), degrees, normalize, normalization, (out,))
    return out.view(vectors.shape)


@torch.library.custom_op("tenfold::so3_harmonics_bends", mutates_args=(), device_types="cpu")
def bends(
    vectors: Tensor, grad: Tensor, pull: Tensor, degrees: list[int], normalize: bool, normalization: str
) -> tuple[Tensor, Tensor]:
    """The gradients of ``sum(pull * slopes)`` by the vectors and by ``grad``."""
    flat, given = _rows(vectors), _rows(grad)
    by_vectors, by_grad = torch.empty_like(flat), empty(tuple(given.shape), given.dtype)
    arrays = (flat, given, _rows(pull))
    _run("bends", arrays, degrees, normalize, normalization, (by_grad, by_vectors))
    return by_vectors.view(vectors.shape), by_grad.view(grad.shape)


@harmonics.register_fake
def _(vectors: Tensor, degrees: list[int], normalize: bool, normalization: str) -> Tensor:
    return vectors.new_empty(*vectors.shape[:-1], _components(degrees))


@slopes.register_fake
def _(vectors: Tensor, grad: Tensor, degrees: list[int], normalize: bool, normalization: str) -> Tensor:
    return vectors.new_empty(vectors.shape)


@bends.register_fake
def _(
    vectors: Tensor, grad: Tensor, pull: Tensor, degrees: list[int], normalize: bool, normalization: str
) -> tuple[Tensor, Tensor]:
    return vectors.new_empty(vectors.shape), grad.new_empty(grad.shape)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.save_for_backward(*(given for given in inputs if isinstance(given, Tensor)))
    ctx.options = inputs[-3:]


def _harmonics_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    (vectors,) = ctx.saved_tensors
    return slopes(vectors, grad, *ctx.options), None, None, None


def _slopes_backward(ctx: Any, pull: Tensor) -> tuple[Tensor | None, ...]:
    vectors, grad = ctx.saved_tensors
    return *bends(vectors, grad, pull, *ctx.options), None, None, None


def _bends_backward(ctx: Any, by_vectors: Tensor, by_grad: Tensor) -> tuple[Tensor | None, ...]:
    # Whoever needs a fourth derivative needs this graph; others get numbers that remember nothing.
    further = torch.is_grad_enabled()
    with torch.enable_grad():
        # Views: what one of them depends on through another is for autograd to follow, not for these derivatives.
        vectors, grad, pull = (
            kept.view_as(kept) if further and kept.requires_grad else kept.detach().requires_grad_()
            for kept in ctx.saved_tensors
        )
        values = plain_harmonics(vectors, *ctx.options)
        (first,) = torch.autograd.grad(values, vectors, grad, create_graph=True)
        second = torch.autograd.grad(first, (vectors, grad), pull, create_graph=True)
        third = torch.autograd.grad(
            second, (vectors, grad, pull), (by_vectors, by_grad), create_graph=further, materialize_grads=True
        )
    return *third, None, None, None


harmonics.register_autograd(_harmonics_backward, setup_context=_keep)
slopes.register_autograd(_slopes_backward, setup_context=_keep)
bends.register_autograd(_bends_backward, setup_context=_keep)


def _run(
    kernel: str,
    given: tuple[Tensor, ...],
    degrees: list[int],
    normalize: bool,
    normalization: str,
    out: tuple[Tensor, ...],
) -> None:
    """One kernel over all vectors, in equal parts for as many threads as torch has where that pays."""
    count = len(given[0])
    if 0 < count < _BLOCK:
        padded = tuple(torch.nn.functional.pad(tensor, (0, 0, 0, _BLOCK - count)) for tensor in given)
        whole = tuple(tensor.new_empty(_BLOCK, tensor.shape[1]) for tensor in out)
        _run(kernel, padded, degrees, normalize, normalization, whole)
        for tensor, found in zip(out, whole, strict=True):
            tensor.copy_(found[:count])
        return
    arrays = [tensor.detach().resolve_neg().numpy() for tensor in given]
    made = [tensor.numpy() for tensor in out]
    largest = max(degrees)
    # Shares are of whole blocks: what a vector becomes does not depend on them.
    blocks = -(-count // _BLOCK)
    threads = 1 if count * (largest + 1) ** 2 < _WORTH_THREADS else None
    if largest <= _WRITTEN_OUT and degrees == list(range(largest + 1)):
        program, limits = _program(tuple(degrees), normalization), _limits(arrays[0].dtype.str)
        work = partial(getattr(_programs(), kernel), program, *arrays, limits, normalize, *made)
    else:
        tables = _tables(tuple(degrees), normalization, arrays[0].dtype.str)
        work = partial(getattr(_kernels(), kernel), *arrays, *tables, normalize, *made)

    def run(first: int, last: int) -> None:
        work(first * _BLOCK, min(last * _BLOCK, count))

    shared(blocks, run, threads)


def _rows(tensor: Tensor) -> Tensor:
    return tensor.reshape(-1, tensor.shape[-1]).contiguous()


def _components(degrees: list[int]) -> int:
    return sum(2 * degree + 1 for degree in degrees)


@cache
def _kernels() -> ModuleType:
    from tenfold.so3 import _harmonics_kernels

    return _harmonics_kernels


@cache
def _programs() -> ModuleType:
    from tenfold.so3 import _harmonics_programs

    return _harmonics_programs


@cache
def _program(degrees: tuple[int, ...], normalization: str) -> Any:
    return _programs().Harmonics(degrees, normalization)


@cache
def _limits(dtype: str) -> NDArray[np.floating]:
    number = np.dtype(dtype)
    return np.array(_LIMITS[number.itemsize], number)


@cache
def _tables(
    degrees: tuple[int, ...], normalization: str, dtype: str
) -> tuple[NDArray[np.int64], NDArray[np.floating], NDArray[np.floating]]:
    """What the kernels look up: where degrees begin, factors for each degree and order, limits of squares."""
    largest = max(degrees)
    places = np.full(largest + 1, -1)
    lead, less, rise, shrink, factor = tables = np.zeros((5, largest + 1, largest + 1))
    begin, diagonal = 0, 1.0
    for degree in degrees:
        places[degree], begin = begin, begin + 2 * degree + 1
    for degree in range(largest + 1):
        factor[degree] = scale(degree, normalization)
        factor[degree, 1:] *= math.sqrt(2)
        if degree:
            diagonal *= math.sqrt((2 * degree + 1) / (2 * degree))
            lead[degree, degree - 1] = math.sqrt(2 * degree + 1)
            lead[degree, : degree - 1], less[degree, : degree - 1] = recurrence(degree)
        lead[degree, degree] = diagonal
        for order in range(degree):
            ratio = (2 * degree + 1) / (2 * degree - 1) * (degree - order)
            rise[degree, order] = math.sqrt(ratio * (degree + order))
            shrink[degree, order] = math.sqrt(ratio * (degree - order - 1))
    number = np.dtype(dtype)
    return places, tables.astype(number), _limits(dtype)
