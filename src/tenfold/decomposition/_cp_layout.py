"""How the cores of a CP structure lie in an array, and what alternating methods need to make of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from tenfold.decomposition._cp_factors import balanced
from tenfold.decomposition._cp_starts import from_slices, gaussian, singular_vectors
from tenfold.decomposition._cp_sweep import Sweeps
from tenfold.errors import StructureError
from tenfold.structure import Structure

# Random starts beside those computed from the data; fewer where a sweep takes long, down to none.
_RANDOM_STARTS = 7
_START_ENTRIES = 10**7


@dataclass(frozen=True)
class Canonical:
    """How the cores of a CP structure lie in the data: modes are cores in the order of their outputs."""

    structure: Structure
    index: str
    order: tuple[int, ...]
    random: int | None = None

    @classmethod
    def of(cls, structure: Structure, method: str = "cp_als", random: int | None = None) -> Canonical:
        """The layout of a CP structure; ``method`` is who refuses any other."""
        inner = structure.inner_indices
        if len(inner) != 1 or len(structure.terms_with(inner[0])) != len(structure.terms):
            raise StructureError(f"{method} needs one inner index that lies on every core, not '{structure}'")
        for core in structure.cores:
            if len(core.terms) > 1:
                raise StructureError(
                    f"{method} needs different cores, but '{core.name}' is used {len(core.terms)} times"
                )
        outside = structure.output_indices
        for index in outside:
            if len(structure.terms_with(index)) > 1:
                raise StructureError(f"{method} needs each output on one core, but '{index}' lies on several")
        first = [
            min((outside.index(i) for i in core.indices if i != inner[0]), default=len(outside))
            for core in structure.cores
        ]
        return cls(structure, inner[0], tuple(sorted(range(len(first)), key=first.__getitem__)), random)

    @property
    def rank(self) -> int:
        return self.structure.sizes[self.index]

    def _own(self, number: int) -> list[str]:
        return [index for index in self.structure.cores[number].indices if index != self.index]

    def modes(self, tensor: Tensor) -> Tensor:
        """The data with one axis for each core; cores without outputs have one of size 1."""
        outside = self.structure.output_indices
        order = [outside.index(index) for number in self.order for index in self._own(number)]
        sizes = [math.prod(self.structure.sizes[i] for i in self._own(number)) for number in self.order]
        return tensor.permute(order).reshape(sizes).contiguous()

    def along(self, tensor: Tensor) -> Canonical:
        """The same with the modes in the order in which the data lies in memory, where it then needs no copy."""
        if tensor.is_contiguous():
            return self
        outside, strides = self.structure.output_indices, tensor.stride()
        step = [max((strides[outside.index(i)] for i in self._own(n)), default=0) for n in self.order]
        order = [self.order[place] for place in sorted(range(len(step)), key=lambda place: -step[place])]
        axes = [outside.index(index) for number in order for index in self._own(number)]
        return replace(self, order=tuple(order)) if tensor.permute(axes).is_contiguous() else self

    def ranks(self, shape: Sequence[int]) -> list[int]:
        """Twice the rank leaves room for what noise adds to the exact range; one compressed mode saves too little."""
        if sum(2 * self.rank < n for n in shape) < 2:
            return list(shape)
        return [min(n, max(2 * self.rank, self.rank + 8)) for n in shape]

    def problem(self, tensor: Tensor, norm2: float, outside: float) -> Sweeps:
        return Sweeps(tensor, norm2, outside)

    def starts(self, tensor: Tensor, generator: torch.Generator) -> list[list[Tensor]]:
        """From slices where they determine the factors, from singular vectors, and random ones."""
        by_slices = from_slices(tensor, self.rank, generator)
        made = [] if by_slices is None else [by_slices]
        made.append(singular_vectors(tensor, self.rank, generator))
        count = min(_RANDOM_STARTS, _START_ENTRIES // tensor.numel()) if self.random is None else self.random
        for _ in range(count):
            made.append([gaussian(self.rank, n, tensor, generator) for n in tensor.shape])
        return made

    def expand(self, state: Sequence[Any], bases: Sequence[Tensor]) -> list[Tensor]:
        return [torch.as_tensor(factor) @ basis.T for factor, basis in zip(state, bases, strict=True)]

    def state(self, cores: Sequence[Tensor]) -> list[Tensor]:
        """The factors, rank x mode for each mode, balanced."""
        found = []
        for number in self.order:
            axis = self.structure.cores[number].indices.index(self.index)
            found.append(cores[number].movedim(axis, 0).reshape(self.rank, -1))
        return balanced(found)

    def cores(self, state: Sequence[Any]) -> list[Tensor]:
        by_number = dict(zip(self.order, state, strict=True))
        made = []
        for number, core in enumerate(self.structure.cores):
            axis = core.indices.index(self.index)
            own = [self.structure.sizes[index] for index in self._own(number)]
            made.append(torch.as_tensor(by_number[number]).reshape(self.rank, *own).movedim(0, axis))
        return made
