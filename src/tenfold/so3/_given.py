"""Tensors that people give, checked in one place."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tenfold.errors import DataError


def check_tensor(name: str, value: Any) -> None:
    """Raises `DataError` where a value is no tensor.

    Lists and arrays are not taken as tensors: whole numbers, and NumPy's double precision where the rest is single,
    would only be refused later, in words about a dtype that nobody chose.
    """
    if not isinstance(value, Tensor):
        raise DataError(f"{name} must be a torch.Tensor, not of type {type(value).__name__}: torch.tensor makes one")


def check_floating(name: str, tensor: Any) -> None:
    """Raises `DataError` where a value is no tensor of real numbers of 16 bits or more: torch cannot add others."""
    check_tensor(name, tensor)
    if tensor.is_complex():
        raise DataError(f"{name} must be floating, not {tensor.dtype}: give real and imaginary part one by one")
    if not tensor.is_floating_point():
        raise DataError(f"{name} must be floating, not {tensor.dtype}: convert with {name}.float()")
    if tensor.dtype.itemsize < 2:
        raise DataError(f"{name} must be of 16 bits or more, not {tensor.dtype}: convert with {name}.float()")


def value_of(tensor: Tensor) -> float | None:
    """The number in a tensor of one; none where it has no value: for compilers, in `torch.vmap`, on no real device."""
    if torch.compiler.is_compiling():
        return None
    try:
        return float(tensor)
    except RuntimeError:
        return None
