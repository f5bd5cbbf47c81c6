"""Coefficients as tensors, by an operator of torch: compilers see one call, and not how the numbers are made."""

from __future__ import annotations

import torch
from torch import Tensor

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
