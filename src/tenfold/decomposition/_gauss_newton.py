"""Gauss-Newton systems in all cores of a network at once, for many networks of one structure.

What alternating least squares goes around in hundreds of sweeps, because cores can only move together, is a few steps
here. The matrix has a row for each number of the network, so it is for networks of some hundred numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Shaped
from torch import Tensor

from tenfold.contraction import contract
from tenfold.structure import Structure

# The index that counts networks; no name that a person gives has an apostrophe.
STARTS = "networks'"

# For more cores than that it takes longer to find in which order to contract them than to do it.
_MOST_CORES = 8

Names = tuple[str, ...]


class GaussNewton:
    """Gradients and Gauss-Newton matrices of ``|data - network|^2 / 2``.

    Args:
        structure: every core used once, every output index on one core.
        layouts: the order of the axes that each core is given in, behind one that counts networks.
    """

    def __init__(self, structure: Structure, layouts: Sequence[Names]) -> None:
        self._layouts = layouts
        self._outputs = structure.output_indices
        self.sizes = [math.prod(structure.sizes[i] for i in names) for names in layouts]
        self._own = [tuple(i for i in names if i in self._outputs) for names in layouts]
        self._inner = [tuple(i for i in names if i not in self._outputs) for names in layouts]
        self._ends = torch.tensor([0, *self.sizes]).cumsum(0).tolist()
        self._index_sizes = structure.sizes

    @staticmethod
    def takes(structure: Structure) -> bool:
        """Whether there is one for the structure."""
        once = all(len(core.terms) == 1 for core in structure.cores) and 1 < len(structure.cores) <= _MOST_CORES
        outer = all(len(structure.terms_with(index)) == 1 for index in structure.output_indices)
        return once and outer and all(len(structure.terms_with(index)) > 1 for index in structure.inner_indices)

    def network(self, cores: Sequence[Tensor]) -> Shaped[Tensor, "starts *modes"]:
        """The tensors that the networks stand for."""
        return contract(self._terms(cores), (STARTS, *self._outputs))

    def descent(
        self, cores: Sequence[Tensor], residual: Shaped[Tensor, "starts *modes"]
    ) -> Shaped[Tensor, "starts parameters"]:
        """The negative gradient, ``J^H residual``. Cost: one contraction with the residual for each core."""
        parts = []
        for place, names in enumerate(self._layouts):
            others = [(n, core.conj()) for k, (n, core) in enumerate(self._terms(cores)) if k != place]
            parts.append(contract([((STARTS, *self._outputs), residual), *others], (STARTS, *names)).flatten(1))
        return torch.cat(parts, 1)

    def matrix(self, cores: Sequence[Tensor]) -> Shaped[Tensor, "starts parameters parameters"]:
        """``J^H J``. Cost: for each two cores, a contraction of the network with itself that leaves both open."""
        starts, count, total = len(cores[0]), len(cores), self._ends[-1]
        found = cores[0].new_zeros(starts, total, total)
        # The left network is conjugate, the bonds of the right one have names of their own.
        left = [(names, core.conj()) for names, core in self._terms(cores)]
        right = [((STARTS, *self._primed(names)), core) for names, core in zip(self._layouts, cores, strict=True)]
        both: list[tuple[Names, Tensor]] = []
        for place, inner in enumerate(self._inner):
            names = (STARTS, *inner, *self._primed(inner))
            both.append((names, contract([left[place], right[place]], names)))
        for a in range(count):
            rows = slice(self._ends[a], self._ends[a + 1])
            found[:, rows, rows] = self._diagonal(a, [one for k, one in enumerate(both) if k != a], starts)
            for b in range(a + 1, count):
                others = [one for k, one in enumerate(both) if k not in (a, b)]
                names = (STARTS, *self._layouts[a], *self._primed(self._layouts[b]))
                block = contract([left[b], right[a], *others], names).reshape(starts, self.sizes[a], self.sizes[b])
                columns = slice(self._ends[b], self._ends[b + 1])
                found[:, rows, columns] = block
                found[:, columns, rows] = block.mH
        return found

    def split(self, step: Shaped[Tensor, "starts parameters"], cores: Sequence[Tensor]) -> list[Tensor]:
        """One tensor of the shape of each core."""
        return [part.reshape(core.shape) for part, core in zip(step.split(self.sizes, 1), cores, strict=True)]

    def _diagonal(self, place: int, others: list[tuple[Names, Tensor]], starts: int) -> Tensor:
        """The block of one core: its modes move on their own, its bonds by a Gram matrix."""
        inner, own = self._inner[place], self._own[place]
        columns = math.prod(self._index_sizes[i] for i in inner)
        rows = math.prod(self._index_sizes[i] for i in own)
        like = others[0][1]
        gram = contract(others, (STARTS, *inner, *self._primed(inner))).reshape(starts, columns, columns)
        eye = torch.eye(rows, dtype=like.dtype, device=like.device)
        names = (*inner, *own)
        shape = [self._index_sizes[i] for i in names]
        order = [names.index(i) for i in self._layouts[place]]
        block = torch.einsum("kpq,mn->kpmqn", gram, eye).reshape(starts, *shape, *shape)
        axes = [0, *(1 + axis for axis in order), *(1 + len(names) + axis for axis in order)]
        return block.permute(axes).reshape(starts, columns * rows, columns * rows)

    def _terms(self, cores: Sequence[Tensor]) -> list[tuple[Names, Tensor]]:
        return [((STARTS, *names), core) for names, core in zip(self._layouts, cores, strict=True)]

    def _primed(self, names: Names) -> Names:
        return tuple(i if i in self._outputs else f"{i}'" for i in names)
