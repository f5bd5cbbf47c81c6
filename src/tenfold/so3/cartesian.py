"""Cartesian tensors with symmetries (dipoles, polarisabilities, stresses, stiffnesses) as irreps, and back."""

from __future__ import annotations

import re
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from tenfold._arguments import quoted
from tenfold.errors import DataError, TenfoldError
from tenfold.so3._cartesian_basis import Symmetry, cartesian_basis
from tenfold.so3._given import check_tensor
from tenfold.so3._tables import cartesian_tensor
from tenfold.so3.irreps import Irrep, Irreps

# Of rank 6 there are 729 numbers, and bases of 532441; nobody needs more of a tensor with names for its axes.
_MOST = 6


class CartesianTensor:
    """Tensors whose axes are vectors, with symmetries under exchange of axes: what irreps they are made of.

    Args:
        formula: e3nn's notation: the axes, and the orders of them that give the same tensor, or its opposite.
            ``"i"`` is a vector, ``"ij=ji"`` a symmetric matrix, ``"ij=-ji"`` an antisymmetric one,
            ``"ijkl=jikl=ijlk=klij"`` a stiffness; ``""`` a scalar.
        indices: ``i="1e"`` makes an axis, and those that it is exchanged with, a pseudovector; others are ``"1o"``.

    Attributes:
        formula: as it was given, without spaces.
        rank: the number of axes.
        irreps: sorted by degree.

    Raises:
        TenfoldError: the formula cannot be read, contradicts itself or leaves nothing but zero, or has more than 6
            axes; or an index does not occur, or is no kind of vector.

    Cost: ``3^(2 rank)`` operations for each degree and symmetry, once for each formula in a process: making another one
    later costs next to nothing.
    """

    def __init__(self, formula: str, **indices: Irrep | str) -> None:
        names, generators = _read(formula)
        self.formula: str = "".join(formula.split())
        self.rank: int = len(names)
        self._symmetries = _closed(generators, self.formula)
        parity = _parity(names, self._symmetries, indices)
        degrees, _ = cartesian_basis(self.rank, self._symmetries)
        if not degrees:
            raise TenfoldError(f"formula {quoted(formula)} leaves no tensor but zero: use fewer antisymmetries")
        self.irreps: Irreps = Irreps([(1, Irrep(degree, parity)) for degree in degrees]).simplify()

    @property
    def change_of_basis(self) -> Float[Tensor, "component *axes"]:
        """The Cartesian tensors that are the components of the irreps: orthonormal, in double precision; a copy."""
        return torch.from_numpy(cartesian_basis(self.rank, self._symmetries)[1].copy())

    def to_irreps(self, tensor: Shaped[Tensor, "*batch_and_axes"]) -> Shaped[Tensor, "*batch component"]:
        """The features of tensors ``[*batch, 3, ..., 3]``, in layout ``"mul_ir"``.

        Lengths are kept. What of a tensor has not the symmetries is dropped: so this is the nearest one that has them.

        Raises:
            DataError: the last axes are not 3, one for each index, or the numbers are whole.

        Cost: a matrix product with ``3^rank irreps.dim`` numbers.
        """
        axes = (3,) * self.rank
        check_tensor("tensor", tensor)
        if tensor.shape[max(0, tensor.ndim - self.rank) :] != axes:
            raise DataError(f"tensor of shape {tuple(tensor.shape)} must end with {axes}, the axes of '{self.formula}'")
        flat = tensor.reshape(*tensor.shape[: tensor.ndim - self.rank], 3**self.rank)
        return flat @ self._basis(tensor).T

    def to_cartesian(self, features: Shaped[Tensor, "*batch component"]) -> Shaped[Tensor, "*batch_and_axes"]:
        """The tensors ``[*batch, 3, ..., 3]`` of features: the inverse of `to_irreps` on tensors with the symmetries.

        Raises:
            DataError: the last axis has not ``irreps.dim`` entries, or the numbers are whole.
        """
        check_tensor("features", features)
        if features.ndim == 0 or features.shape[-1] != self.irreps.dim:
            shape = tuple(features.shape)
            raise DataError(f"features of shape {shape} must end with the {self.irreps.dim} of '{self.irreps}'")
        return (features @ self._basis(features)).reshape(*features.shape[:-1], *(3,) * self.rank)

    def _basis(self, like: Tensor) -> Tensor:
        """One row for each component."""
        if not (like.is_floating_point() or like.is_complex()):
            raise DataError(f"numbers must be floating or complex, not {like.dtype}")
        if not torch.compiler.is_compiling():
            return _kept(self.rank, self._symmetries, like.dtype, like.device)
        axes = [axis for permutation, _ in self._symmetries for axis in permutation]
        signs = [sign for _, sign in self._symmetries]
        return cartesian_tensor(self.rank, axes, signs, self.irreps.dim).to(device=like.device, dtype=like.dtype)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CartesianTensor):
            return NotImplemented
        return (self._symmetries, self.irreps) == (other._symmetries, other.irreps)

    def __hash__(self) -> int:
        return hash((self._symmetries, self.irreps))

    def __repr__(self) -> str:
        return f"CartesianTensor('{self.formula}': {self.irreps})"


@cache
def _kept(rank: int, symmetries: tuple[Symmetry, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    # What is made while inference mode is on would stay out of all later derivatives.
    with torch.inference_mode(False):
        basis = torch.tensor(cartesian_basis(rank, symmetries)[1])
        return basis.reshape(-1, 3**rank).to(device=device, dtype=dtype)


def _read(formula: Any) -> tuple[str, list[Symmetry]]:
    """The names of the axes, and the symmetries that are written down."""
    if not isinstance(formula, str):
        raise TenfoldError(f"formula must be like 'ij=ji', not {quoted(formula)}")
    terms = ["".join(term.split()) for term in formula.split("=")]
    names = terms[0]
    if not re.fullmatch("[a-z]*", names) or len(set(names)) < len(names):
        raise TenfoldError(f"formula {quoted(formula)} must begin with different small letters, as in 'ij=ji'")
    if len(names) > _MOST:
        raise TenfoldError(f"formula {quoted(formula)} has {len(names)} axes: at most {_MOST} are served")
    found: list[Symmetry] = []
    for term in terms[1:]:
        letters = term.removeprefix("-")
        if sorted(letters) != sorted(names):
            raise TenfoldError(f"formula {quoted(formula)}: '{term}' must have the letters of '{names}', each once")
        found.append((tuple(names.index(letter) for letter in letters), -1 if term != letters else 1))
    return names, found


def _closed(generators: list[Symmetry], formula: str) -> tuple[Symmetry, ...]:
    """The group that some symmetries make."""
    size = len(generators[0][0]) if generators else len(formula)
    group: dict[tuple[int, ...], int] = {tuple(range(size)): 1}
    new = list(group)
    while new:
        made = []
        for axes, (turn, sign) in product(new, generators):
            both = tuple(axes[axis] for axis in turn)
            if both not in group:
                group[both] = group[axes] * sign
                made.append(both)
            elif group[both] != group[axes] * sign:
                raise TenfoldError(f"formula '{formula}' leaves no tensor but zero: it equals its own opposite")
        new = made
    return tuple(sorted(group.items()))


def _parity(names: str, symmetries: tuple[Symmetry, ...], given: dict[str, Any]) -> int:
    """The parity of the tensor: that of all its axes together."""
    for name in given:
        if len(name) != 1 or name not in names:
            raise TenfoldError(f"index {quoted(name)} does not occur in '{names}'")
    parities: dict[int, int] = {}
    for name, vector in given.items():
        irrep = Irrep(vector)
        if irrep.l != 1:
            raise TenfoldError(f"index '{name}' must be '1o' or '1e', a vector or a pseudovector, not '{irrep}'")
        for axes, _ in symmetries:
            if parities.setdefault(axes[names.index(name)], irrep.p) != irrep.p:
                raise TenfoldError(f"index '{name}' is exchanged with one of the other parity: make them the same")
    return int(np.prod([parities.get(axis, -1) for axis in range(len(names))]))
