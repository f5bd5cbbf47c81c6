"""Arrays of NumPy and tensors of torch, in and out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

Array = Any
"""A NumPy array or a torch tensor."""


@dataclass(frozen=True)
class Kind:
    """What a caller's arrays are, so that results are the same: NumPy's or torch's."""

    numpy: bool

    def out(self, tensor: Tensor) -> Array:
        return tensor.detach().resolve_conj().cpu().numpy() if self.numpy else tensor

    def number(self, value: float) -> Array:
        """An error as the caller's library has numbers: with ``item()``, comparable, and printable as a float."""
        return np.float64(value) if self.numpy else torch.tensor(value, dtype=torch.float64)


def taken(array: Array, name: str = "tensor") -> tuple[Tensor, Kind]:
    """An array as a floating or complex tensor, without a copy where that is possible, and its kind.

    Raises:
        TypeError: it is neither NumPy's nor torch's.
    """
    if isinstance(array, Tensor):
        tensor, kind = array.detach(), Kind(numpy=False)
    elif isinstance(array, np.ndarray | np.generic | list | tuple | float | int):
        plain = np.asarray(array)
        if plain.dtype.kind not in "biufc":
            raise TypeError(f"{name} holds {plain.dtype}, not numbers")
        if plain.dtype.kind in "biu" or plain.dtype.itemsize // (1 + (plain.dtype.kind == "c")) > 8:
            plain = plain.astype(np.complex128 if plain.dtype.kind == "c" else np.float64)
        if not plain.flags.writeable or not plain.dtype.isnative or any(stride < 0 for stride in plain.strides):
            plain = np.array(plain, dtype=plain.dtype.newbyteorder("="))
        tensor, kind = torch.from_numpy(np.atleast_1d(plain)), Kind(numpy=True)
    else:
        raise TypeError(f"{name} is a {type(array).__name__}; give a NumPy array or a torch tensor")
    return (tensor if tensor.is_floating_point() or tensor.is_complex() else tensor.double()), kind


def taken_mask(mask: Array, shape: Sequence[int]) -> Tensor | None:
    """Where a mask says that entries are known, or None where all are.

    Raises:
        ValueError: another shape than the data's, or nothing is known.
    """
    if mask is None:
        return None
    known = taken(mask, "mask")[0] != 0
    if tuple(known.shape) != tuple(shape):
        raise ValueError(f"mask has shape {tuple(known.shape)}, but the tensor has {tuple(shape)}")
    if not bool(known.any()):
        raise ValueError("mask is zero everywhere: nothing is known")
    return None if bool(known.all()) else known


def check_numbers(tensor: Tensor, known: Tensor | None = None) -> None:
    """Raise `ValueError` unless there is something to fit, and all that is known of it is finite."""
    if not tensor.numel():
        raise ValueError(f"tensor of shape {tuple(tensor.shape)} is empty")
    bad = ~torch.isfinite(tensor) if known is None else ~torch.isfinite(tensor) & known
    if bool(bad.any()):
        raise ValueError(f"tensor has {int(bad.sum()):,} entries that are NaN or infinite; mask them")


def seed_of(random_state: Any) -> int:
    """A seed for whatever scripts give as ``random_state``.

    None is a draw from NumPy's global state, as scripts expect that seed it, or that restart to get something new.

    Raises:
        ValueError: it is none of None, an integer, a ``RandomState`` or a ``Generator``.
    """
    if random_state is None:
        return int(np.random.randint(2**31))  # noqa: NPY002
    if isinstance(random_state, int | np.integer):
        return int(random_state)
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(2**31))
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(2**31))
    raise ValueError(f"random_state must be None, an integer or a RandomState, not {random_state!r}")
