"""Normal equations of rows that see many cells: sums over the whole array, which are matrix products."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from tenfold.contraction import contract, plan
from tenfold.decomposition._cells import Cells

# Entries of the largest tensor on the way (128 MiB of float64).
_ENTRIES = 2**24
# A multiplication of a matrix product takes this part of the time of one of the sums over listed cells.
_FASTER = 10
# What setting up one product costs, in multiplications.
_CALL = 10**5


class Masked:
    """``sum_n w conj(e) e^T`` and ``sum_n conj(e) numbers`` as `Cells.systems` has them, by contraction.

    The array of the weights, zero where nothing is known, is contracted with the networks of all other cores times
    their own conjugates: the sum over the cells of a row never sees its environments, whose squares are products of
    those of the cores. Repeated cells add up.

    Args:
        cells: where something is known.
        weights: of each cell, in the squares.
        numbers: the values, weighted already.
    """

    def __init__(self, cells: Cells, weights: Float[Tensor, " n"], numbers: Shaped[Tensor, " n"]) -> None:
        self.cells, self.structure = cells, cells.structure
        indices = self.structure.output_indices
        shape = [self.structure.sizes[i] for i in indices]
        place = torch.zeros_like(cells.values, dtype=torch.int64)
        for index in indices:
            place = place * self.structure.sizes[index] + cells.columns[index]
        size = math.prod(shape)

        def spread(each: Shaped[Tensor, " n"]) -> Tensor:
            return torch.zeros(size, dtype=each.dtype, device=each.device).index_add_(0, place, each).reshape(shape)

        self.weights = indices, spread(weights).to(numbers.dtype)
        self.numbers = indices, spread(numbers)
        self._listed = indices, spread(torch.ones_like(weights))
        self._counts: dict[tuple[str, ...], Float[Tensor, " g"]] = {}

    def counts(self, place: int) -> Float[Tensor, " g"]:
        """How many cells each row of a term reads."""
        outer = self.cells.outer(place)
        if outer not in self._counts:
            self._counts[outer] = contract([self._listed], outer).reshape(-1)
        return self._counts[outer]

    def sums(self, place: int) -> Float[Tensor, " g"]:
        """The weights of the cells that each row of a term reads."""
        return contract([self.weights], self.cells.outer(place)).real.reshape(-1)

    def system(self, cores: Sequence[Tensor], place: int) -> tuple[Shaped[Tensor, "g k k"], Shaped[Tensor, "g k"]]:
        """Gram matrices and right-hand sides of all rows of one term."""
        outer, inner = self.cells.outer(place), self.cells.inner(place)
        once, twice = [self.numbers], [self.weights]
        for number, term in enumerate(self.structure.terms):
            if number != place:
                core = cores[self.structure.term_core[number]]
                once.append((term.indices, core.conj()))
                twice.append((_twice(self.cells, number), _squared(self.cells, number, core)))
        columns = math.prod(self.structure.sizes[i] for i in inner)
        gram = contract(twice, (*outer, *inner, *map(_primed, inner)))
        right = contract(once, (*outer, *inner))
        return gram.reshape(-1, columns, columns), right.reshape(-1, columns)


def worthwhile(cells: Cells) -> bool:
    """Whether contractions of the whole array take less time than the cells one by one, and fit into memory."""
    structure = cells.structure
    sizes = {**structure.sizes, **{_primed(i): structure.sizes[i] for i in structure.inner_indices}}
    if structure.size > _ENTRIES:
        return False
    whole, listed = 0.0, 0.0
    for place, term in enumerate(structure.terms):
        others = [n for n in range(len(structure.terms)) if n != place]
        inner = cells.inner(place)
        columns = math.prod(sizes[i] for i in inner)
        if math.prod(sizes[i] for i in term.indices) * columns > _ENTRIES:
            return False
        inputs = [structure.output_indices, *(_twice(cells, n) for n in others)]
        found = plan(inputs, (*cells.outer(place), *inner, *map(_primed, inner)), sizes)
        if found.peak > _ENTRIES:
            return False
        whole += found.flops + _CALL * len(others)
        listed += 2.0 * len(cells) * columns**2
    return whole < _FASTER * listed


def _primed(index: str) -> str:
    """The index of the second factor; no name has an apostrophe."""
    return f"{index}'"


def _twice(cells: Cells, number: int) -> tuple[str, ...]:
    return (*cells.outer(number), *cells.inner(number), *map(_primed, cells.inner(number)))


def _squared(cells: Cells, number: int, core: Tensor) -> Tensor:
    """``conj(W) W`` with the output indices shared and the inner ones apart."""
    table = cells.table(core, number)
    sizes = [cells.structure.sizes[i] for i in _twice(cells, number) if not i.endswith("'")]
    kept = sizes[len(cells.outer(number)) :]
    return (table.conj()[:, :, None] * table[:, None, :]).reshape(*sizes, *kept)
