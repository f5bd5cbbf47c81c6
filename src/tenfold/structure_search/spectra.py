"""Singular values of the matricisations of a whole tensor: of its modes, or across the bonds of a tree."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from tenfold._scales import power_of, times_power
from tenfold._trees import check_tree, outputs_beyond
from tenfold.decomposition._blas import product
from tenfold.errors import DataError, StructureError
from tenfold.structure import Structure

# Norms between which neither squares of entries overflow nor those that count vanish.
_LEAST, _MOST = 1e-100, 1e100
# Entries of a tensor that are brought in order and multiplied at a time.
_BLOCK = 2**22


def mode_spectra(tensor: Shaped[Tensor, "..."]) -> list[Float[Tensor, " extent"]]:
    """For each mode the singular values of the unfolding with this mode as rows, largest first.

    In double precision from Gram matrices: values below about 10^-8 of the largest are rounding, and are zero here.

    Raises:
        DataError: no whole tensor, no modes, no entries, or entries that are not finite.

    Cost: ``|X|`` flops or up to twice as many, as the BLAS has it, for each row of each unfolding; the memory of a copy
    of some million entries.
    """
    _check(tensor)
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
    _check(tensor)
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


def _check(tensor: object) -> None:
    if not isinstance(tensor, Tensor):
        raise DataError(f"tensor is of type {type(tensor).__name__}: give a torch tensor, as by torch.as_tensor")
    if tensor.layout != torch.strided:
        raise DataError(f"tensor is of layout {tensor.layout}: give a whole one, such as its to_dense()")
    if not tensor.ndim or not tensor.numel():
        raise DataError(f"tensor has shape {tuple(tensor.shape)}: it has no singular values")


def _prepared(tensor: Tensor) -> tuple[Tensor, int]:
    """The tensor in double precision, scaled where its squares would leave the range, and by which power of two."""
    wide = tensor.detach().to(torch.complex128 if tensor.is_complex() else torch.float64)
    # One pass that tells in most cases that all is well; squares whose sum is in here lose nothing that counts.
    if _LEAST < float(torch.linalg.vector_norm(wide)) < _MOST:
        return wide, 0
    if not torch.isfinite(wide).all():
        raise DataError("tensor has entries that are not finite")
    power = power_of(wide)
    return times_power(wide, -power), power


def _singular_values(tensor: Tensor, rows: list[int]) -> Tensor:
    others = [axis for axis in range(tensor.ndim) if axis not in rows]
    height = math.prod(tensor.shape[axis] for axis in rows)
    if height**2 > tensor.numel():
        rows, others, height = others, rows, tensor.numel() // height
    squares = torch.linalg.eigvalsh(_gram(tensor, rows, others, height)).flip(0)
    noise = height * torch.finfo(squares.dtype).eps * squares[0]
    return squares.where(squares > noise, 0).sqrt()


def _gram(tensor: Tensor, rows: list[int], others: list[int], height: int) -> Tensor:
    """The products of all pairs of rows of a matricisation, of which no more than a block is copied at once."""
    longest = max(others or rows, key=lambda axis: tensor.shape[axis])
    gram = tensor.new_zeros(height, height)
    for block in tensor.split(max(1, _BLOCK * tensor.shape[longest] // tensor.numel()), longest):
        matrix = block.permute([*rows, *others]).reshape(height, -1)
        gram += product(matrix, matrix.mH)
    return gram
