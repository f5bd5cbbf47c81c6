"""Gram matrices of views, their leading eigenvectors, and projections on them, each by the fastest kernel.

A view is (before, rows, after): the rows of a matricisation stand between the axes before and after them in memory, so
that nothing has to be copied.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from tenfold.decomposition._blas import product

Precision = Literal["half", "own", "double"]

# Entries converted at once: for single precision what stays in the cache of a core, for double 8 MiB.
_HALF_BLOCK = 2**18
_DOUBLE_BLOCK = 2**20
# Blocks whose products are added up in single precision before they go into a sum in double precision.
_HALF_SUMS = 8
# Of more rows than this, a part of the eigenvectors is found faster than all of them, if it is at most this part.
_PART_ROWS = 96
_PART = 0.25


def gram(view: Shaped[Tensor, "before rows after"], precision: Precision) -> Shaped[Tensor, "rows rows"]:
    """``A A^H`` for ``A`` = rows x everything else.

    Args:
        precision: ``"own"`` multiplies in the dtype of the view, ``"double"`` in double precision, ``"half"`` real
            double precision in single precision, which takes half the time and has an error of about 10^-7 of the
            largest eigenvalue. The latter two return double precision.
    """
    if precision == "half":
        return _half_gram(view)
    if precision == "double":
        return _double_gram(view)
    before, _, after = view.shape
    if before == 1:
        return product(view[0], view[0].mH)
    if after == 1:
        tall = view[:, :, 0]
        # The conjugate transpose goes into the product as a flag; a plain conjugate would be a copy.
        return product(tall.mH, tall).conj().resolve_conj()
    total = product(view[0], view[0].mH)
    for part in view[1:]:
        total += product(part, part.mH)
    return total


def can_halve(view: Tensor) -> bool:
    """Whether ``gram`` takes the view with precision ``"half"``."""
    return view.dtype == torch.float64 and view.device.type == "cpu"


def matrix(view: Tensor) -> Tensor:
    """rows x everything else."""
    return view.movedim(1, 0).flatten(1)


def _double_gram(view: Tensor) -> Tensor:
    _, rows, after = view.shape
    wide = torch.complex128 if view.is_complex() else torch.float64
    total = torch.zeros(rows, rows, dtype=wide, device=view.device)
    step = max(1, _DOUBLE_BLOCK // max(rows * min(after, _DOUBLE_BLOCK), 1))
    width = max(1, _DOUBLE_BLOCK // rows)
    for batch in view.split(step, 0):
        for part in batch.split(width, 2):
            block = matrix(part.to(wide))
            total += product(block, block.mH)
    return total


def _half_gram(view: Float[Tensor, "before rows after"]) -> Float[Tensor, "rows rows"]:
    from scipy.linalg.blas import ssyrk

    _, rows, after = view.shape
    total = np.zeros((rows, rows))
    part = np.zeros((rows, rows), dtype=np.float32, order="F")
    step = max(1, _HALF_BLOCK // (rows * after))
    width = min(after, max(1, _HALF_BLOCK // rows))
    made = 0
    for batch in view.split(1 if after > 1 else step, 0):
        # Column by column in the order of Fortran: rows x columns of a tall block is its transpose there.
        pieces = batch.reshape(-1, rows).split(batch.shape[0]) if after == 1 else batch[0].split(width, 1)
        for piece in pieces:
            block = piece.to(torch.float32, memory_format=torch.contiguous_format).contiguous().numpy()
            part = ssyrk(1.0, block.T, beta=1.0, c=part, trans=int(after > 1), overwrite_c=1)
            made += 1
            if made % _HALF_SUMS == 0:
                total += part
                part[:] = 0
    total += part
    # Only the upper triangle was made.
    upper = torch.from_numpy(total)
    return upper.triu() + upper.triu(1).T


def leading(square: Shaped[Tensor, "n n"], count: int | None) -> tuple[Shaped[Tensor, " k"], Shaped[Tensor, "n k"]]:
    """Eigenvalues, largest first, and eigenvectors of a Hermitian matrix: the first ``count`` of them, or all."""
    n = square.shape[0]
    real = square.device.type == "cpu" and square.dtype in (torch.float32, torch.float64)
    if not real:
        values, vectors = torch.linalg.eigh(square)
        values, vectors = values.flip(0), vectors.flip(1)
        return (values, vectors) if count is None else (values[:count], vectors[:, :count])
    from scipy.linalg import eigh

    part = (n - count, n - 1) if count is not None and n > _PART_ROWS and count <= _PART * n else None
    found = eigh(square.numpy(), subset_by_index=part, driver="evr" if part else "evd", check_finite=False)
    values, vectors = (torch.from_numpy(np.ascontiguousarray(array)) for array in found)
    values, vectors = values.flip(0), vectors.flip(1)
    return (values, vectors) if count is None else (values[:count], vectors[:, :count])


def coordinates(
    basis: Shaped[Tensor, "rows rank"], view: Shaped[Tensor, "before rows after"]
) -> Shaped[Tensor, "before rank after"]:
    """The coordinates of the rows in an orthonormal basis."""
    if view.shape[2] == 1:
        return product(view[:, :, 0], basis.conj().resolve_conj()).unsqueeze(2)
    if view.shape[0] == 1:
        return product(basis.mH, view[0]).unsqueeze(0)
    return basis.mH @ view
