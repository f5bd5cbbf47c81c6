"""Where alternating least squares for CP starts. Factors are rank x mode."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tenfold.decomposition._blas import product


def gaussian(rank: int, extent: int, like: Tensor, generator: torch.Generator) -> Tensor:
    """Normally distributed numbers, of the kind and on the device of ``like``."""
    return torch.randn(rank, extent, generator=generator, dtype=like.dtype).to(like.device)


def singular_vectors(tensor: Tensor, rank: int, generator: torch.Generator) -> list[Tensor]:
    """The leading left singular vectors of every unfolding, with random ones where the rank exceeds a mode."""
    factors = []
    for mode, extent in enumerate(tensor.shape):
        leading = _leading(tensor.movedim(mode, 0).reshape(extent, -1), rank).T
        missing = rank - leading.shape[0]
        if missing > 0:
            leading = torch.cat([leading, gaussian(missing, extent, tensor, generator) / math.sqrt(extent)])
        factors.append(leading)
    return factors


def _leading(matrix: Tensor, rank: int) -> Tensor:
    """Orthonormal columns along the leading left singular vectors, at most as many as there are rows."""
    return torch.linalg.eigh(product(matrix, matrix.mH)).eigenvectors.flip(1)[:, :rank]


def from_slices(tensor: Tensor, rank: int, generator: torch.Generator) -> list[Tensor] | None:
    """Factors from the generalised eigenproblem of two random mixtures of slices, where the two largest modes allow it.

    For a tensor that is exactly of this rank, with independent factors in those modes, they are its own.
    Paper: "Tensorial resolution: a direct trilinear decomposition", 1990.
    """
    order = sorted(range(tensor.ndim), key=lambda mode: -tensor.shape[mode])
    if tensor.ndim < 3 or tensor.shape[order[1]] < rank:
        return None
    first, second = tensor.shape[order[0]], tensor.shape[order[1]]
    cube = tensor.permute(order).reshape(first, second, -1)
    rows, columns = _leading(cube.flatten(1), rank), _leading(cube.movedim(1, 0).flatten(1), rank)
    mixing = torch.randn(cube.shape[2], 2, generator=generator, dtype=tensor.dtype).to(tensor.device)
    a, b = (rows.mH @ mixture @ columns.conj() for mixture in (cube @ mixing).unbind(2))
    if float(torch.linalg.cond(b)) * torch.finfo(tensor.dtype).eps > 1e-2:
        return None
    values, vectors = torch.linalg.eig(torch.linalg.solve(b, a, left=False))
    if not tensor.is_complex():
        # Noise makes pairs of conjugate vectors; their real and imaginary parts span the same plane.
        vectors = torch.where(values.imag < 0, vectors.imag, vectors.real)
    # What is left of the data for each term has rank one: its leading vectors are the other factors.
    terms = torch.linalg.lstsq(vectors, rows.mH @ cube.flatten(1)).solution
    found: dict[int, Tensor] = {order[0]: (rows @ vectors).T}
    shape = [tensor.shape[mode] for mode in order[1:]]
    for place, mode in enumerate(order[1:]):
        unfolded = terms.reshape(rank, *shape).movedim(place + 1, 1).flatten(2)
        found[mode] = torch.linalg.eigh(unfolded @ unfolded.mH).eigenvectors[:, :, -1]
    return [found[mode].to(tensor.dtype) for mode in range(tensor.ndim)]
