"""CP factors as matrices with a row for each index of a mode and a column for each term."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Shaped
from torch import Tensor

from tenfold.decomposition._cp_layout import Canonical

Factors = list[Tensor]


def to_factors(family: Canonical, cores: Sequence[Tensor]) -> Factors:
    """The factor of each core, in the order of the modes."""
    found = []
    for number in family.order:
        axis = family.structure.cores[number].indices.index(family.index)
        found.append(cores[number].detach().movedim(axis, -1).reshape(-1, family.rank))
    return found


def to_cores(family: Canonical, factors: Sequence[Tensor]) -> list[Tensor]:
    """The cores of the structure that the factors, in the order of the modes, belong to."""
    by_number = dict(zip(family.order, factors, strict=True))
    made = []
    for number, core in enumerate(family.structure.cores):
        own = [family.structure.sizes[index] for index in core.indices if index != family.index]
        axis = core.indices.index(family.index)
        made.append(by_number[number].reshape(*own, family.rank).movedim(-1, axis).contiguous())
    return made


def gram(factor: Shaped[Tensor, "d r"]) -> Shaped[Tensor, "r r"]:
    """``A^H A`` in double precision."""
    wide = factor.to(torch.complex128 if factor.is_complex() else torch.float64)
    return wide.mH @ wide


def squared(factors: Sequence[Shaped[Tensor, "d r"]]) -> float:
    """``|N|^2`` of the array that the factors make."""
    product = gram(factors[0])
    for factor in factors[1:]:
        product = product * gram(factor)
    return float(product.sum().real)


def lines(factors: Sequence[Shaped[Tensor, "d r"]], rows: Sequence[Tensor]) -> Shaped[Tensor, "s r"]:
    """Rows of the Khatri-Rao product: the product of one row of each factor, for each of the ``rows``."""
    made = factors[0][rows[0]]
    for factor, row in zip(factors[1:], rows[1:], strict=True):
        made = made * factor[row]
    return made


def balanced(factors: Sequence[Shaped[Tensor, "d r"]]) -> Factors:
    """The same terms with all their vectors equally long; terms with a vector of zeros are zero."""
    norms = torch.stack([torch.linalg.vector_norm(factor, dim=0).double() for factor in factors])
    dead = (norms == 0).any(0)
    safe = torch.where(norms == 0, 1.0, norms)
    target = torch.where(dead, 0.0, torch.exp(safe.log().mean(0)))
    return [factor * (target / norm).to(factor.dtype.to_real()) for factor, norm in zip(factors, safe, strict=True)]


def random_factors(shape: Sequence[int], rank: int, dtype: torch.dtype, generator: torch.Generator) -> Factors:
    """Independent Gaussian entries."""
    return [torch.randn(extent, rank, generator=generator, dtype=dtype) for extent in shape]


def padded(basis: Shaped[Tensor, "d k"], rank: int, generator: torch.Generator) -> Shaped[Tensor, "d r"]:
    """Orthonormal columns with Gaussian ones of about unit length after them, where they are fewer than the rank."""
    extent, missing = len(basis), rank - basis.shape[1]
    if missing < 1:
        return basis
    (noise,) = random_factors([extent], missing, basis.dtype, generator)
    return torch.cat([basis, noise / math.sqrt(extent)], 1)
