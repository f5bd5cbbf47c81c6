"""Singular values of the matricisations of a whole tensor: of its modes, or across the bonds of a tree."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from tenfold._scales import power_of, times_power
from tenfold._trees import check_tree, outputs_beyond
from tenfold.errors import DataError, StructureError
from tenfold.structure import Structure


def mode_spectra(tensor: Shaped[Tensor, "..."]) -> list[Float[Tensor, " extent"]]:
    """For each mode the singular values of the unfolding with this mode as rows, largest first.

    In double precision from Gram matrices: values below about 10^-8 of the largest are rounding, and are zero here.

    Raises:
        DataError: no modes, no entries, or entries that are not finite.

    Cost: ``2 |X|`` flops for each row of each unfolding.
    """
    scaled, power = _prepared(tensor)
    return [times_power(_singular_values(scaled, [mode]), power) for mode in range(tensor.ndim)]


def bond_spectra(tensor: Shaped[Tensor, "..."], structure: Structure) -> dict[str, Float[Tensor, " side"]]:
    """For each bond of a tree the singular values of the matricisation that it separates, largest first.

    Sizes of the structure's bonds do not matter. Accuracy, errors and cost are those of `mode_spectra`, with the
    shorter side of each matricisation as its rows.

    Raises:
        StructureError: the structure is no tree, or not one for arrays of this shape.
    """
    check_tree(structure, "bond_spectra")
    if tuple(tensor.shape) != structure.shape:
        raise StructureError(f"structure is for shape {structure.shape}, but tensor has shape {tuple(tensor.shape)}")
    scaled, power = _prepared(tensor)
    scaled = scaled.reshape(structure.output_shape)
    axis = {index: n for n, index in enumerate(structure.output_indices)}
    found = {}
    for bond in structure.inner_indices:
        beyond = [axis[index] for index in outputs_beyond(structure, bond)]
        found[bond] = times_power(_singular_values(scaled, beyond), power)
    return found


def _prepared(tensor: Tensor) -> tuple[Tensor, int]:
    """The tensor in double precision with entries of size one, and the power of two that it was divided by."""
    if not tensor.ndim or not tensor.numel():
        raise DataError(f"tensor has shape {tuple(tensor.shape)}: it has no singular values")
    wide = tensor.detach().to(torch.complex128 if tensor.is_complex() else torch.float64)
    if not torch.isfinite(wide).all():
        raise DataError("tensor has entries that are not finite")
    power = power_of(wide)
    return times_power(wide, -power), power


def _singular_values(tensor: Tensor, rows: list[int]) -> Tensor:
    others = [axis for axis in range(tensor.ndim) if axis not in rows]
    height = math.prod(tensor.shape[axis] for axis in rows)
    if height**2 > tensor.numel():
        rows, others, height = others, rows, tensor.numel() // height
    matrix = tensor.permute([*rows, *others]).reshape(height, -1)
    squares = torch.linalg.eigvalsh(matrix @ matrix.mH).flip(0)
    noise = height * torch.finfo(squares.dtype).eps * squares[0]
    return torch.where(squares > noise, squares, 0).sqrt()
