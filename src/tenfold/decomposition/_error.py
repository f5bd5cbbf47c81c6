"""Bringing data into the shape of a structure, and the true relative error of a network."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tenfold.decomposition._registry import Data
from tenfold.errors import DataError
from tenfold.network import Network
from tenfold.observations import Observations
from tenfold.structure import Structure

# Entries of a block of the residual (32 MiB of float64).
_BLOCK = 2**22


def split_axes(data: Data, structure: Structure) -> Data:
    """The data with one axis for each output index of ``structure``.

    Raises:
        DataError: the shapes differ, or the numbers are no floating or complex ones.
    """
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
    return math.fsum(
        float(torch.linalg.vector_norm(part, dtype=torch.complex128 if part.is_complex() else torch.float64)) ** 2
        for part in flat.split(_BLOCK)
    )


def relative_error(data: Data, network: Network) -> float:
    """The true relative Frobenius error of ``network`` for ``data`` (over what is observed, with its weights).

    ``|X - N|^2 = |X|^2 - 2 Re <N, X> + |N|^2`` needs no dense residual, but cancels when the error is small; then the
    residual is summed block by block. A zero tensor has error 0 if the network is zero and infinity otherwise.
    """
    if isinstance(data, Observations):
        return _observed_error(data, network)
    total = squared_norm(data)
    own = float(network.norm()) ** 2
    square = total - 2 * float(network.inner(data).real) + own
    floor = 1e-2 if data.dtype in (torch.float32, torch.complex64, torch.float16, torch.bfloat16) else 1e-6
    if square < floor**2 * max(total, own) or not math.isfinite(square):
        square = _residual(data, network)
    return _ratio(square, total)


def _residual(data: Tensor, network: Network) -> float:
    """``|X - N|^2`` by blocks of the first axis, where it can be cut."""
    rows = network.shape[0] if network.shape and len(network.structure.outputs[0]) == 1 else 1
    if rows == 1:
        return squared_norm(_difference(data, network))
    step = max(1, _BLOCK * rows // max(network.structure.size, 1))
    return math.fsum(
        squared_norm(_difference(data[start : start + step], network[start : start + step]))
        for start in range(0, rows, step)
    )


def _difference(data: Tensor, network: Network) -> Tensor:
    double = torch.complex128 if data.is_complex() or network.dtype.is_complex else torch.float64
    return data.to(double) - network.to(double).dense()


def _observed_error(data: Observations, network: Network) -> float:
    found = network.at(data.coordinates)
    weights = torch.ones((), dtype=torch.float64) if data.weights is None else data.weights.double()
    values = data.values.to(torch.promote_types(data.values.dtype, torch.float64))
    total = float((weights * values.abs() ** 2).sum())
    square = float((weights * (found.to(values.dtype) - values).abs() ** 2).sum())
    if data.rest == "zero":
        # Cells that are not listed hold zero: their residual is the network itself.
        square += max(float(network.norm()) ** 2 - float((found.abs().double() ** 2).sum()), 0.0)
    return _ratio(square, total)


def _ratio(square: float, total: float) -> float:
    if total == 0:
        return 0.0 if square == 0 else math.inf
    return math.sqrt(max(square, 0.0) / total)
