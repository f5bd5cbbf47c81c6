"""The sweep of alternating CP methods: whatever the update of one mode is, it gets its normal equations."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from tenfold.decomposition._blas import product
from tenfold.decomposition._cp_factors import gram, inner, khatri_rao
from tenfold.decomposition._cp_layout import Canonical
from tenfold.decomposition._error import squared_norm
from tenfold.errors import StructureError

# (mode, right-hand side, Gram matrix of the other modes) -> the new factor, rank x mode. The factor x is to lower
# ``<x, gram x> / 2 - <right, x>``.
Update = Callable[[int, Shaped[Tensor, "r n"], Float[Tensor, "r r"]], Shaped[Tensor, "r n"]]


@dataclass(frozen=True)
class TwoGroups:
    """A tensor with one axis for each mode, unfolded between the two groups of modes of most equal size."""

    tensor: Tensor
    split: int
    norm2: float

    @classmethod
    def of(cls, tensor: Tensor) -> TwoGroups:
        order = tensor.ndim
        sides = [abs(math.prod(tensor.shape[:s]) - math.prod(tensor.shape[s:])) for s in range(1, order)]
        return cls(tensor, 1 + sides.index(min(sides)), squared_norm(tensor))

    @property
    def matrix(self) -> Tensor:
        return self.tensor.reshape(math.prod(self.tensor.shape[: self.split]), -1)

    def sweep(self, factors: Sequence[Tensor], update: Update) -> tuple[list[Tensor], float]:
        """Every factor (rank x mode) once, in order; returns them and ``|X - M|^2`` after that.

        Cost ``4 |X| R`` flops and two passes over the data.
        """
        factors = list(factors)
        grams = [gram(factor) for factor in factors]
        left, right = range(self.split), range(self.split, len(factors))
        self._group(product(khatri_rao(factors, right), self.matrix.T), left, factors, grams, update)
        last = self._group(product(khatri_rao(factors, left), self.matrix), right, factors, grams, update)
        square = self.norm2 - 2 * inner(factors[-1], last) + float(reduce(torch.mul, grams).sum())
        floor = 1e-2 if torch.finfo(self.tensor.dtype).eps > 1e-10 else 1e-6
        if not square > floor**2 * self.norm2:
            square = self.residual(factors)
        return factors, max(square, 0.0)

    def _group(
        self, partial: Tensor, modes: range, factors: list[Tensor], grams: list[Tensor], update: Update
    ) -> Tensor:
        """Update a group from the data contracted with all other modes; returns the last right-hand side."""
        if len(modes) == 1:
            (mode,) = modes
            others = reduce(torch.mul, [gram for m, gram in enumerate(grams) if m != mode])
            factors[mode] = update(mode, partial, others)
            grams[mode] = gram(factors[mode])
            return partial
        half = len(modes) // 2
        low, high = modes[:half], modes[half:]
        cube = partial.reshape(partial.shape[0], math.prod(factors[m].shape[1] for m in low), -1)
        self._group((cube @ khatri_rao(factors, high).unsqueeze(2)).squeeze(2), low, factors, grams, update)
        seen = (khatri_rao(factors, low).unsqueeze(1) @ cube).squeeze(1)
        return self._group(seen, high, factors, grams, update)

    def residual(self, factors: Sequence[Tensor]) -> float:
        """``|X - M|^2`` by blocks of the rows of the unfolding, in double precision."""
        left = khatri_rao(factors, range(self.split)).double()
        right = khatri_rao(factors, range(self.split, len(factors))).double()
        step = max(1, 2**20 // right.shape[1])
        pieces = zip(left.split(step, 1), self.matrix.split(step, 0), strict=True)
        return math.fsum(squared_norm(x.double() - a.T @ right) for a, x in pieces)


def mode_numbers(layout: Canonical, names: Sequence[str | int], argument: str) -> list[int]:
    """The modes of a CP structure that hold the axes named: by the name of an index, or by the axis of the array.

    Raises:
        StructureError: there is no such index or axis.
    """
    structure = layout.structure
    holder = {index: place for place, core in enumerate(layout.order) for index in structure.cores[core].indices}
    found = []
    for name in names:
        if isinstance(name, bool) or not isinstance(name, (str, int)):
            raise StructureError(f"{argument} names modes by index or axis, not by {name!r}")
        if isinstance(name, str) and name.lstrip("-").isdecimal() and name not in structure.output_indices:
            name = int(name)
        if isinstance(name, int):
            if not -len(structure.outputs) <= name < len(structure.outputs):
                raise StructureError(f"{argument} names axis {name} of an array of {len(structure.outputs)} axes")
            inside = structure.outputs[name]
            if len({holder[index] for index in inside}) != 1:
                raise StructureError(f"{argument} names axis {name}, which lies on several cores of '{structure}'")
            found.append(holder[inside[0]])
        elif name in structure.output_indices:
            found.append(holder[name])
        else:
            known = ", ".join(structure.output_indices)
            raise StructureError(f"{argument} names index '{name}', but '{structure}' has the modes {known}")
    return found


def factors_of(layout: Canonical, cores: Sequence[Tensor]) -> list[Tensor]:
    """The factors of a CP network, rank x mode for each mode, as they are."""
    found = []
    for number in layout.order:
        axis = layout.structure.cores[number].indices.index(layout.index)
        found.append(cores[number].movedim(axis, 0).reshape(layout.rank, -1))
    return found
