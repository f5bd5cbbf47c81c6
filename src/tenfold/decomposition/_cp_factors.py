"""Factors of CP as tensors of torch, rank x mode, so that what is done with them runs along memory."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def khatri_rao(factors: Sequence[Tensor], modes: Sequence[int]) -> Tensor:
    """rank x (product of the modes), the last mode fastest."""
    made = factors[modes[0]]
    for mode in modes[1:]:
        made = (made.unsqueeze(2) * factors[mode].unsqueeze(1)).flatten(1)
    return made


def gram(factor: Tensor) -> Tensor:
    """In double precision."""
    wide = factor.to(torch.complex128 if factor.is_complex() else torch.float64)
    return wide.conj() @ wide.T


def inner(a: Tensor, b: Tensor) -> float:
    """``Re <a, b>``, accumulated in double precision."""
    double = torch.complex128 if a.is_complex() else torch.float64
    return float(torch.vdot(a.to(double).reshape(-1), b.to(double).reshape(-1)).real)


def balanced(factors: Sequence[Tensor]) -> list[Tensor]:
    """Rank x mode factors of the same terms with all their vectors equally long."""
    norms = torch.stack([torch.linalg.vector_norm(factor, dim=1) for factor in factors]).double()
    scales = (norms ** (1 / len(factors))).prod(0) / torch.where(norms > 0, norms, 1.0)
    return [factor * scale.to(factor.real.dtype)[:, None] for factor, scale in zip(factors, scales, strict=True)]
