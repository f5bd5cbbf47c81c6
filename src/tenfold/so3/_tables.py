"""Coefficients as tensors, by an operator of torch: compilers see one call, and not how the numbers are made."""

from __future__ import annotations

import torch
from torch import Tensor

from tenfold.so3._cartesian_basis import cartesian_basis
from tenfold.so3._wigner3j import gaunt_factor, real_3j


@torch.library.custom_op("tenfold::so3_real_3j", mutates_args=())
def real_3j_tensor(factor: float, l1: int, l2: int, l3: int) -> Tensor:
    """A factor times the real 3j coefficients, in double precision on the CPU."""
    return torch.tensor(factor * real_3j(l1, l2, l3))


@real_3j_tensor.register_fake
def _(factor: float, l1: int, l2: int, l3: int) -> Tensor:
    return torch.empty(2 * l1 + 1, 2 * l2 + 1, 2 * l3 + 1, dtype=torch.float64)


@torch.library.custom_op("tenfold::so3_gaunt", mutates_args=())
def gaunt_tensor(l1: int, l2: int, l3: int) -> Tensor:
    """The integrals of products of three harmonics, in double precision on the CPU."""
    return torch.tensor(gaunt_factor(l1, l2, l3) * real_3j(l1, l2, l3))


@gaunt_tensor.register_fake
def _(l1: int, l2: int, l3: int) -> Tensor:
    return torch.empty(2 * l1 + 1, 2 * l2 + 1, 2 * l3 + 1, dtype=torch.float64)


@torch.library.custom_op("tenfold::so3_cartesian", mutates_args=())
def cartesian_tensor(rank: int, axes: list[int], signs: list[int], components: int) -> Tensor:
    """One row for each component of Cartesian tensors with symmetries, whose axes come one after the other."""
    turns = [tuple(axes[first : first + rank]) for first in range(0, rank * len(signs), rank)] if rank else [()]
    _, basis = cartesian_basis(rank, tuple(zip(turns, signs, strict=True)))
    return torch.tensor(basis).reshape(components, 3**rank)


@cartesian_tensor.register_fake
def _(rank: int, axes: list[int], signs: list[int], components: int) -> Tensor:
    return torch.empty(components, 3**rank, dtype=torch.float64)
