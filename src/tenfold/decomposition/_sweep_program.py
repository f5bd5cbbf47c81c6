"""Sweeps of alternating least squares for many networks of one structure, as a list of matrix products made once.

For small tensors a sweep is made of calls, not of arithmetic. So everything that depends on the structure only (which
products, in which order, which axes go where) is found once, and a sweep is a loop over what was found. The terms are
halved again and again as in `environments`, where few and thin bonds join the halves. On the way down either the data
and the doubled network are contracted, or the other cores alone, whose product with itself is then the Gram matrix:
fewer and, where ranks are high and the tensor is small, smaller products. Every tensor but the data has one axis more,
the first: it counts the networks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import torch
from torch import Tensor

from tenfold.contraction import plan
from tenfold.structure import Structure

# Several terms are one tensor up to this many entries, or as many as the data has.
_KEPT_ENTRIES = 2**20
# What a call costs, and moving a number from memory to memory, in multiplications; networks that share the calls.
_CALL, _MOVED, _TYPICAL = 20_000, 8, 4

# Terms are put in order by trying all halves, of no more than so many.
_MOST_TERMS = 12

Names = tuple[str, ...]


@dataclass(frozen=True)
class _Operand:
    names: Names
    slot: int


@dataclass(frozen=True)
class _Multiply:
    """The product of two tensors as (batch, rows, summed) times (batch, summed, columns), for each network.

    A permutation is None where nothing moves. ``turned``: the last two axes come the other way round, which is free.
    """

    to: int
    left: int
    right: int
    permute_left: tuple[int, ...] | None
    permute_right: tuple[int, ...] | None
    turned_left: bool
    turned_right: bool
    batch: int
    rows: int
    summed: int
    columns: int
    shape: tuple[int, ...]

    def run(self, values: list[Tensor], starts: int) -> None:
        left, right = values[self.left], values[self.right]
        if self.permute_left is not None:
            left = left.permute(self.permute_left)
        if self.permute_right is not None:
            right = right.permute(self.permute_right)
        batch = starts * self.batch
        if self.turned_left:
            left = left.reshape(batch, self.summed, self.rows).mT
        else:
            left = left.reshape(batch, self.rows, self.summed)
        if self.turned_right:
            right = right.reshape(batch, self.columns, self.summed).mT
        else:
            right = right.reshape(batch, self.summed, self.columns)
        values[self.to] = torch.bmm(left, right).view(starts, *self.shape)


@dataclass(frozen=True)
class _MultiplyData:
    """The product of a tensor with the data, which is the same for all networks and is not repeated for each.

    ``first``: the data is the left factor, which spares moving a tensor larger than the data is.
    """

    to: int
    left: int
    right: int
    permute_left: tuple[int, ...]
    permute_right: tuple[int, ...]
    first: bool
    batch: int
    rows: int
    summed: int
    columns: int
    shape: tuple[int, ...]

    def run(self, values: list[Tensor], starts: int) -> None:
        left = values[self.left]
        right = values[self.right].permute(self.permute_right)
        if self.first:
            data = right.reshape(self.columns, self.summed).expand(starts, self.columns, self.summed)
            made = torch.bmm(data, left.reshape(starts, self.summed, self.rows))
            values[self.to] = made.view(starts, *self.shape)
            return
        left = left.permute(self.permute_left)
        if self.batch == 1:
            made = left.reshape(-1, self.summed) @ right.reshape(self.summed, self.columns)
            values[self.to] = made.view(starts, *self.shape)
            return
        made = torch.bmm(
            left.reshape(self.batch, -1, self.summed), right.reshape(self.batch, self.summed, self.columns)
        )
        made = made.view(self.batch, starts, self.rows, self.columns).transpose(0, 1)
        values[self.to] = made.reshape(starts, *self.shape)


@dataclass(frozen=True)
class _Move:
    """A permutation of axes, or the complex conjugate where there is none."""

    to: int
    source: int
    permute: tuple[int, ...] | None

    def run(self, values: list[Tensor], starts: int) -> None:
        source = values[self.source]
        values[self.to] = source.conj() if self.permute is None else source.permute(self.permute).contiguous()


@dataclass(frozen=True)
class Solve:
    """The least-squares problem of the core at one term: ``blocks`` Gram matrices of ``columns`` rows.

    ``right`` and ``matrix`` are slots; -1 where the only core is the data itself.
    """

    place: int
    right: int
    matrix: int
    blocks: int
    columns: int


@dataclass(frozen=True)
class Program:
    """What a sweep does, in order.

    Attributes:
        layouts: the order of the axes that each core is kept in: shared with other cores and output, summed, its own.
        steps: products, moves, and one `Solve` for each term.
        order: of the terms, as they are solved.
        slots: how many tensors there are on the way, the cores and the data first.
        data: the slot of the data.
        work: multiplications of a sweep of one network, about.
        largest: entries of the largest tensor on the way, for one network.
    """

    layouts: tuple[Names, ...]
    steps: tuple[_Multiply | _MultiplyData | _Move | Solve, ...]
    order: tuple[int, ...]
    slots: int
    data: int
    work: float
    largest: int


def layout(structure: Structure, place: int) -> tuple[Names, Names, Names]:
    """The indices of a term: outputs that other terms carry too, summed ones, outputs of its own."""
    indices, outputs = structure.terms[place].indices, structure.output_indices
    inner = tuple(i for i in indices if i not in outputs)
    shared = tuple(i for i in indices if i in outputs and len(structure.terms_with(i)) > 1)
    return shared, inner, tuple(i for i in indices if i not in inner and i not in shared)


@lru_cache(maxsize=512)
def program(structure: Structure, is_complex: bool) -> Program:
    """The program for a structure every core of which is used once; found once and kept."""
    given = tuple(range(len(structure.terms)))
    orders = dict.fromkeys((given, _arranged(structure, given)))
    ways = [_Compiler(structure, is_complex, whole, order) for order in orders for whole in (False, True)]
    return min(ways, key=lambda way: way.work).program


def _arranged(structure: Structure, places: tuple[int, ...]) -> tuple[int, ...]:
    """The terms, so that halves of them, and halves of those, are joined to the others by as little as there can be."""
    if not 2 < len(places) <= _MOST_TERMS:
        return places

    def joined(part: tuple[int, ...]) -> float:
        inside = set(part)
        bonds = (structure.terms_with(index) for index in structure.inner_indices)
        across = (
            index
            for index, ends in zip(structure.inner_indices, bonds, strict=True)
            if not inside.isdisjoint(ends) and not inside.issuperset(ends)
        )
        return sum(math.log(structure.sizes[index]) for index in across)

    def rest(part: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(place for place in places if place not in part)

    halves = combinations(places, len(places) // 2)
    best = min(halves, key=lambda part: round(joined(part) + joined(rest(part)), 9))
    return _arranged(structure, best) + _arranged(structure, rest(best))


class _Compiler:
    """``whole``: the product of all other cores is made for each core."""

    def __init__(self, structure: Structure, is_complex: bool, whole: bool, order: tuple[int, ...]) -> None:
        self.structure, self.is_complex, self.whole = structure, is_complex, whole
        self.outputs = set(structure.output_indices)
        self.parts = [layout(structure, place) for place in range(len(structure.terms))]
        self.cores = [_Operand((*s, *i, *o), place) for place, (s, i, o) in enumerate(self.parts)]
        self.data = _Operand(structure.output_indices, len(self.cores))
        self.slots = len(self.cores) + 1
        self.steps: list[_Multiply | _MultiplyData | _Move | Solve] = []
        self.sizes = {**structure.sizes, **{f"{i}'": structure.sizes[i] for i in structure.inner_indices}}
        self.limit = max(_KEPT_ENTRIES, structure.size)
        self.work, self.largest = 0.0, structure.size
        self._visit(order, [] if whole else [self.data], [])
        self.program = Program(
            tuple(core.names for core in self.cores),
            tuple(self.steps),
            order,
            self.slots,
            self.data.slot,
            self.work / _TYPICAL,
            self.largest,
        )

    def _visit(self, mine: Sequence[int], data: list[_Operand], gram: list[_Operand]) -> None:
        if len(mine) == 1:
            self._solve(mine[0], data, gram)
            return
        half = len(mine) // 2
        for part, others in ((mine[:half], mine[half:]), (mine[half:], mine[:half])):
            if self.whole:
                self._descend_whole(part, others, data)
            else:
                self._descend(part, others, data, gram)

    def _descend_whole(self, part: Sequence[int], others: Sequence[int], made: list[_Operand]) -> None:
        wanted = {i for place in part for i in self.cores[place].names}
        made = [*made, *(self.cores[place] for place in others)]
        if len(part) > 1:
            made = self._merged(made, wanted | self.outputs)
        else:
            shared, inner, own = self.parts[part[0]]
            rest = tuple(i for i in self.structure.output_indices if i not in shared and i not in own)
            names = (*shared, *rest, *inner)
            if self._size(names) > self.limit:
                self.work = math.inf
            made = [_Operand(names, self._contract(made, names))]
        self._visit(part, [self.data, *(self._conjugate(one) for one in made)] if len(part) == 1 else made, made)

    def _descend(self, part: Sequence[int], others: Sequence[int], data: list[_Operand], gram: list[_Operand]) -> None:
        outside = {i for place, core in enumerate(self.cores) if place not in set(others) for i in core.names}
        terms = self._merged([self.cores[place] for place in others], outside | self.outputs)
        conjugates = [self._conjugate(term) for term in terms]
        data = [*data, *conjugates]
        gram = [*gram, *conjugates, *(_Operand(self._primed(term.names), term.slot) for term in terms)]
        if len(part) > 1:
            wanted = {i for place in part for i in self.cores[place].names}
            data = self._merged(data, wanted)
            gram = self._merged(gram, wanted | {f"{i}'" for i in wanted})
        self._visit(part, data, gram)

    def _solve(self, place: int, data: list[_Operand], gram: list[_Operand]) -> None:
        shared, inner, _ = self.parts[place]
        right = matrix = -1
        if len(self.cores) > 1:
            if self.whole:
                gram = [data[1], *(_Operand(self._primed(one.names), one.slot) for one in gram)]
            right = self._contract(data, self.cores[place].names)
            matrix = self._contract(gram, (*shared, *inner, *self._primed(inner)))
        blocks, columns = (math.prod(self.sizes[i] for i in names) for names in (shared, inner))
        self.work += _TYPICAL * blocks * columns**3 / 3
        self.largest = max(self.largest, blocks * columns**2)
        self.steps.append(Solve(place, right, matrix, blocks, columns))

    def _primed(self, names: Names) -> Names:
        return tuple(i if i in self.outputs else f"{i}'" for i in names)

    def _conjugate(self, operand: _Operand) -> _Operand:
        if not self.is_complex:
            return operand
        self.steps.append(_Move(self._new(), operand.slot, None))
        return _Operand(operand.names, self.slots - 1)

    def _new(self) -> int:
        self.slots += 1
        return self.slots - 1

    def _merged(self, operands: list[_Operand], wanted: set[str]) -> list[_Operand]:
        """One operand with the wanted indices, if it is not too large; else as they are."""
        kept = tuple(dict.fromkeys(i for operand in operands for i in operand.names if i in wanted))
        if len(operands) < 2 or math.prod(self.sizes[i] for i in kept) > self.limit:
            return operands
        return [self._product(operands, kept)]

    def _contract(self, operands: list[_Operand], names: Names) -> int:
        """The slot of a product whose axes are in this order."""
        made = self._product(operands, names)
        if made.names == names:
            return made.slot
        permute = (0, *(made.names.index(i) + 1 for i in names))
        self.work += _CALL + _TYPICAL * _MOVED * self._size(names)
        self.steps.append(_Move(self._new(), made.slot, permute))
        return self.slots - 1

    def _product(self, operands: list[_Operand], kept: Names) -> _Operand:
        if len(operands) == 1:
            return operands[0]
        found = plan([operand.names for operand in operands], kept, self.sizes)
        values = list(operands)
        for step in found.steps:
            assert step.right is not None
            left, right = values[step.left], values[step.right]
            wanted = {i for n, other in enumerate(values) if n not in (step.left, step.right) for i in other.names}
            values[step.left] = values[step.right] = _Operand((), -1)
            values.append(self._pair(left, right, wanted | set(kept)))
        return values[-1]

    def _pair(self, left: _Operand, right: _Operand, wanted: set[str]) -> _Operand:
        if left.slot == self.data.slot:
            left, right = right, left
        data = right.slot == self.data.slot
        both = [i for i in left.names if i in right.names]
        batch = tuple(i for i in both if i in wanted)
        summed = tuple(i for i in both if i not in wanted)
        only = [tuple(i for i in operand.names if i not in both) for operand in (left, right)]
        to = self._new()
        count, rows, inner, columns = (self._size(names) for names in (batch, only[0], summed, only[1]))
        names = (*batch, *only[0], *only[1])
        self.work += _CALL + _TYPICAL * count * rows * inner * columns
        self.largest = max(self.largest, count * rows * columns)
        if data:
            swapped = not batch and left.names == (*summed, *only[0]) and rows > columns
            if swapped:
                names = (*only[1], *only[0])
            elif left.names != (*batch, *only[0], *summed):
                self.work += _TYPICAL * _MOVED * self._size(left.names)
            shape = tuple(self.sizes[i] for i in names)
            first = (*(left.names.index(i) + 1 for i in batch), 0)
            permute_left = (*first, *(left.names.index(i) + 1 for i in (*only[0], *summed)))
            order = (*only[1], *summed) if swapped else (*batch, *summed, *only[1])
            permute_right = tuple(right.names.index(i) for i in order)
            self.steps.append(
                _MultiplyData(
                    to, left.slot, right.slot, permute_left, permute_right, swapped, count, rows, inner, columns, shape
                )
            )
            return _Operand(names, to)
        turned_left, moved_left = _brought(left.names, batch, only[0], summed)
        turned_right, moved_right = _brought(right.names, batch, summed, only[1])
        for operand, moved in ((left, moved_left), (right, moved_right)):
            if moved is not None:
                self.work += _TYPICAL * _MOVED * self._size(operand.names)
        shape = tuple(self.sizes[i] for i in names)
        self.steps.append(
            _Multiply(
                to,
                left.slot,
                right.slot,
                moved_left,
                moved_right,
                turned_left,
                turned_right,
                count,
                rows,
                inner,
                columns,
                shape,
            )
        )
        return _Operand(names, to)

    def _size(self, names: Sequence[str]) -> int:
        return math.prod(self.sizes[i] for i in names)


def _brought(names: Names, batch: Names, first: Names, last: Names) -> tuple[bool, tuple[int, ...] | None]:
    """How axes come to (batch, first, last), or to (batch, last, first) where nothing has to move for that."""
    if names == (*batch, *last, *first) and first and last:
        return True, None
    wanted = (*batch, *first, *last)
    return False, None if names == wanted else (0, *(names.index(i) + 1 for i in wanted))
