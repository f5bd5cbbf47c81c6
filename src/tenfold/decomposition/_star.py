"""How the cores of a Tucker structure lie in an array, and its projection on bases of the modes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from tenfold.decomposition._blas import product
from tenfold.errors import StructureError
from tenfold.structure import Structure


def projected(tensor: Tensor, modes: range, bases: Sequence[Tensor]) -> Tensor:
    """The tensor with some modes multiplied by the adjoints of their bases, those first that shrink it most."""
    for mode in sorted(modes, key=lambda m: bases[m].shape[1] / bases[m].shape[0]):
        shape = tensor.shape
        view = tensor.reshape(math.prod(shape[:mode]), shape[mode], -1)
        if view.shape[2] == 1:
            small = product(view[:, :, 0], bases[mode].conj().resolve_conj())
        elif view.shape[0] == 1:
            small = product(bases[mode].mH, view[0])
        else:
            small = bases[mode].mH @ view
        tensor = small.reshape(*shape[:mode], -1, *shape[mode + 1 :])
    return tensor


@dataclass(frozen=True)
class Star:
    """A centre, and the cores around it in the order of the centre's bonds."""

    structure: Structure
    centre: int
    around: tuple[int, ...]

    @classmethod
    def of(cls, structure: Structure, method: str = "hooi", *, partial: bool = False) -> Star:
        """The layout of a Tucker structure; ``method`` refuses any other, ``partial`` allows outputs on the centre."""
        inner = structure.inner_indices
        outside = set(structure.output_indices)
        # A centre of bonds only is the one that is meant, where there is one.
        centres = sorted(
            (
                n
                for n, core in enumerate(structure.cores)
                if core.indices and (partial or not outside & set(core.indices))
            ),
            key=lambda n: bool(outside & set(structure.cores[n].indices)),
        )
        for centre in centres:
            bonds = [index for index in structure.cores[centre].indices if index in inner]
            found = []
            for bond in bonds:
                others = [
                    structure.term_core[t] for t in structure.terms_with(bond) if structure.term_core[t] != centre
                ]
                if len(others) == 1:
                    found.append(others[0])
            leaves = [structure.cores[n] for n in found]
            if (
                len(found) == len(bonds) == len(set(found)) == len(structure.cores) - 1 > 0
                and all(len(core.terms) == 1 for core in structure.cores)
                and all(sum(i in inner for i in leaf.indices) == 1 and len(leaf.indices) > 1 for leaf in leaves)
                and all(len(structure.terms_with(i)) == 1 for i in outside)
            ):
                return cls(structure, centre, tuple(found))
        raise StructureError(
            f"{method} needs {'a core in the middle' if partial else 'one core of bonds only'} and around it cores "
            f"with one bond and outputs each, not '{structure}'"
        )

    @property
    def rest(self) -> list[str]:
        """The outputs on the centre."""
        return [index for index in self.structure.cores[self.centre].indices if index not in self._bonds]

    @property
    def _bonds(self) -> list[str]:
        inner = self.structure.inner_indices
        return [index for index in self.structure.cores[self.centre].indices if index in inner]

    @property
    def ranks(self) -> list[int]:
        return [self.structure.sizes[bond] for bond in self._bonds]

    def _own(self, place: int) -> list[str]:
        return [i for i in self.structure.cores[self.around[place]].indices if i != self._bonds[place]]

    def modes(self, tensor: Tensor) -> Tensor:
        """The data with one axis for each bond of the centre, and one for its outputs if it has any."""
        groups = [self._own(place) for place in range(len(self.around))] + ([self.rest] if self.rest else [])
        order = [self.structure.output_indices.index(index) for group in groups for index in group]
        return (
            tensor.permute(order).reshape([math.prod(self.structure.sizes[i] for i in g) for g in groups]).contiguous()
        )

    def factors(self, cores: Sequence[Tensor]) -> list[Tensor]:
        """mode x rank for each bond of the centre."""
        found = []
        for bond, number in zip(self._bonds, self.around, strict=True):
            axis = self.structure.cores[number].indices.index(bond)
            found.append(cores[number].movedim(axis, -1).flatten(0, -2))
        return found

    def cores(self, core: Tensor, bases: Sequence[Tensor]) -> list[Tensor]:
        sizes = [self.structure.sizes[index] for index in self.rest]
        middle = _padded(core, [*self.ranks, *core.shape[len(bases) :]]).reshape(*self.ranks, *sizes)
        names = [*self._bonds, *self.rest]
        made: dict[int, Tensor] = {
            self.centre: middle.permute([names.index(i) for i in self.structure.cores[self.centre].indices])
        }
        for place, basis in enumerate(bases):
            number = self.around[place]
            wide = _padded(basis, (basis.shape[0], self.ranks[place]))
            wide = wide.reshape(*[self.structure.sizes[i] for i in self._own(place)], -1)
            made[number] = wide.movedim(-1, self.structure.cores[number].indices.index(self._bonds[place]))
        return [made[number].contiguous() for number in range(len(made))]


def _padded(tensor: Tensor, shape: Sequence[int]) -> Tensor:
    made = tensor.new_zeros(list(shape))
    made[tuple(slice(extent) for extent in tensor.shape)] = tensor
    return made
