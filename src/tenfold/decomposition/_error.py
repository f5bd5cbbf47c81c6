"""Bringing data into the shape of a structure, and the true relative error of a network."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from tenfold.decomposition._registry import Data, kind_of
from tenfold.errors import DataError
from tenfold.network import Network
from tenfold.observations import Observations
from tenfold.structure import Structure

# Entries of a block of the residual (32 MiB of float64).
_BLOCK = 2**22
# Entries converted at once to double precision, 0.5 MiB of it.
_CACHED = 2**16
# Cells of a network are read off the whole array where that has at most so many times as many.
_THICK = 4
# Relative errors below this have lost digits when they come from norms: at 1e-4 eight of sixteen are left.
_CANCELLED = 1e-4
# Bounds on rounding above this part of the squared error ask for the residual too; `fit` leaves as much of a budget.
_ROUNDED = 1e-9
# Norms whose squares are safe in double precision.
_SAFE = (1e-100, 1e100)


def split_axes(data: Data, structure: Structure) -> Data:
    """The data with one axis for each output index of ``structure``.

    Raises:
        DataError: no tensor or observations, the shapes differ, or the numbers are no floating or complex ones.
    """
    if kind_of(data) == "blocks":
        raise DataError("data is read box by box, which takes method 'streamed_svd'; read it whole, or give that one")
    if not isinstance(data, Tensor | Observations):  # people call methods with NumPy arrays
        kind = type(data).__name__  # type: ignore[unreachable]
        raise DataError(f"data is a {kind}; give a torch tensor or Observations here, or the {kind} to tn.fit")
    if data.shape is None:
        raise DataError("observations at continuous coordinates have no grid; put them on one with on_grid()")
    if tuple(data.shape) != structure.shape:
        raise DataError(f"data has shape {tuple(data.shape)}, but '{structure}' makes {structure.shape}")
    if isinstance(data, Observations):
        return data.with_axes([[structure.sizes[i] for i in group] for group in structure.outputs])
    if not (data.is_floating_point() or data.is_complex()):
        raise DataError(f"data must be floating or complex, not {data.dtype}; convert it first")
    return data.reshape(structure.output_shape)


def squared_norm(tensor: Tensor) -> float:
    """``sum |x|^2``, accumulated in double precision in blocks."""
    flat = tensor.reshape(-1)
    wide = _double(flat.dtype)
    if flat.dtype == wide:
        return math.fsum(float(torch.linalg.vector_norm(part)) ** 2 for part in flat.split(_BLOCK))
    # Converted piece by piece within the cache; a norm that converts as it goes takes four times as long.
    pieces = (part.to(wide) for part in flat.split(_CACHED))
    return math.fsum(float(torch.vdot(part, part).real) for part in pieces)


def relative_error(data: Data, network: Network) -> float:
    """The true relative Frobenius error of ``network`` for ``data`` (over what is observed, with its weights).

    ``|X - N|^2 = |X|^2 - 2 Re <N, X> + |N|^2`` needs no dense residual, but cancels when the error is small, and when
    the terms of the network are large and cancel one another; then the residual is summed block by block. A zero tensor
    has error 0 if the network is zero and infinity otherwise.
    """
    if isinstance(data, Observations):
        return _observed_error(data, network)
    total = squared_norm(data)
    if not _SAFE[0] ** 2 < total < _SAFE[1] ** 2:
        largest = float(data.abs().max())
        if 0 < largest < math.inf:
            return relative_error(data.to(_double(data.dtype)) / largest, _divided(network, largest))
    norm = float(network.norm())
    own = norm * norm
    square = total - 2 * float(network.inner(data).real) + own
    # Terms that cancel one another, as in a CP network near its border rank, lose digits in the products themselves.
    terms = float(Network(network.structure, [core.abs() for core in network.cores]).norm())
    rounding = torch.finfo(torch.float64).eps * terms * (terms + 2 * math.sqrt(total))
    lost = max(_CANCELLED**2 * max(total, own), rounding / _ROUNDED)
    if square < lost or not math.isfinite(square):
        square = _residual(data, network)
    return _ratio(square, total)


def _residual(data: Tensor, network: Network) -> float:
    """``|X - N|^2`` by blocks of the longest output index."""
    structure = network.structure
    flat = Network(Structure.of(structure.terms, structure.output_indices, structure.sizes), network.cores)
    whole = data.reshape(structure.output_shape)
    if not flat.shape:
        return squared_norm(_difference(whole, flat))
    axis = max(range(len(flat.shape)), key=flat.shape.__getitem__)
    rows = flat.shape[axis]
    step = max(1, _BLOCK * rows // structure.size)
    before = (slice(None),) * axis
    return math.fsum(
        squared_norm(_difference(whole[part], flat[part]))
        for part in ((*before, slice(start, start + step)) for start in range(0, rows, step))
    )


def _difference(data: Tensor, network: Network) -> Tensor:
    double = _double(torch.promote_types(data.dtype, network.dtype))
    return data.to(double) - network.to(double).dense()


def _observed_error(data: Observations, network: Network) -> float:
    norm = data.norm()
    if norm and not _SAFE[0] < norm < _SAFE[1]:
        wide = data.to(_double(data.dtype))
        return _observed_error(replace(wide, values=wide.values / norm), _divided(network, norm))
    network = network.to(_double(network.dtype))
    if network.structure.size <= min(_BLOCK, _THICK * len(data)):
        found = network.dense().reshape(-1)[data.linear()]
    else:
        found = network.at(data.coordinates)
    weights = 1.0 if data.weights is None else data.weights.double()
    square = float((weights * (found - data.values).abs() ** 2).sum())
    if data.rest == "zero":
        # Cells that are not listed hold zero: their residual is the network itself.
        square += _outside(network, data, found)
    return _ratio(square, norm**2)


def _outside(network: Network, data: Observations, found: Tensor) -> float:
    """``sum |x|^2`` over the cells of a network that are not listed; ``found`` are those that are.

    Where little is left of the difference of norms and the array is not large, its cells are added up one by one.
    """
    norm = float(network.norm())
    square = norm * norm - float((found.abs() ** 2).sum())
    if network.structure.size <= _BLOCK and not square > _CANCELLED * norm * norm:
        cells = network.dense().reshape(-1).clone()
        cells[data.linear()] = 0
        return squared_norm(cells)
    return max(square, 0.0)


def _double(dtype: torch.dtype) -> torch.dtype:
    return torch.complex128 if dtype.is_complex else torch.float64


def _divided(network: Network, factor: float) -> Network:
    """The network over ``factor``, in double precision."""
    each = factor ** (-1 / len(network.structure.terms))
    return Network(network.structure, [core.to(_double(core.dtype)) * each for core in network.cores])


def _ratio(square: float, total: float) -> float:
    if total == 0:
        return 0.0 if square == 0 else math.inf
    return math.sqrt(max(square, 0.0) / total)
