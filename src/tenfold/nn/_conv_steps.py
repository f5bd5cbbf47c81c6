"""A kernel of some structure as convolutions one after the other, one for each core or for a few that belong together.

What goes from one to the next has axes for the indices that are carried: those that came in and are still wanted, those
that a core before has made. A core sums some of them, keeps some that it shares with others (groups of a convolution),
makes new ones, and lies along some axes of space; indices that it knows nothing of are more of the batch.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tenfold.contraction import Plan, plan
from tenfold.structure import Structure

# No index of a structure contains a space, so this name is free: the groups of the convolution.
GROUP = "the group"
# A number that is written on the way costs as much as so many multiplications.
_WRITTEN = 8
# Above so many parts not every order is tried.
_PARTS = 6


@dataclass(frozen=True)
class Operand:
    """A term as the chain reads it: which core, its indices, and the shape that gives the groups an axis."""

    core: int
    indices: tuple[str, ...]
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Step:
    """One convolution.

    Attributes:
        operands: the terms whose product is its kernel.
        product: how they are multiplied; the result's axes are shared, new, summed, and those of space.
        weight: shape of the kernel as torch has it.
        order: permutation of the carried axes into (others, shared, summed); None where they lie so.
        carried: their sizes before.
        made: sizes of the carried axes after.
        batch: product of the sizes that are more of the batch.
        groups: of the convolution.
        axes: of space, along which it is longer than nothing.
    """

    operands: tuple[Operand, ...]
    product: Plan
    weight: tuple[int, ...]
    order: tuple[int, ...] | None
    carried: tuple[int, ...]
    made: tuple[int, ...]
    batch: int
    groups: int
    axes: tuple[int, ...]


@dataclass(frozen=True)
class Chain:
    """All convolutions.

    Attributes:
        steps: in their order.
        finish: permutation of the carried axes into those that go out; None where they lie so.
        flops: multiplications and additions for each position, as if no step had a stride.
    """

    steps: tuple[Step, ...]
    finish: tuple[int, ...] | None
    flops: int


def operands(structure: Structure, groups: int) -> tuple[Operand, ...] | None:
    """The terms, the first index that goes out split into groups; None where it cannot be."""
    first = structure.outputs[0][0]
    if structure.sizes[first] % groups:
        return None
    found = []
    for term, core in zip(structure.terms, structure.term_core, strict=True):
        indices: list[str] = []
        shape: list[int] = []
        for index in term.indices:
            if index == first and groups > 1:
                indices.append(GROUP)
                shape.append(groups)
            indices.append(index)
            shape.append(structure.sizes[index] // (groups if index == first else 1))
        found.append(Operand(core, tuple(indices), tuple(shape)))
    return tuple(found)


def chain(structure: Structure, groups: int, strides: Sequence[int]) -> Chain | None:
    """The cheapest order of convolutions, or None where the kernel is no such chain.

    It is none where an axis of space lies on several cores.
    """
    terms = operands(structure, groups)
    if terms is None:
        return None
    space = {index: axis for axis, group in enumerate(structure.outputs[2:]) for index in group}
    for group in structure.outputs[2:]:
        holders = [{n for n, term in enumerate(terms) if index in term.indices} for index in group]
        if any(len(holder) != 1 for holder in holders) or len(set.union(*holders)) != 1:
            return None
    sizes = {index: size for term in terms for index, size in zip(term.indices, term.shape, strict=True)}
    best: tuple[float, Chain] | None = None
    for parts in {_single(terms), _folded(terms, set(space))}:
        for order in _orders(parts):
            cost, found = _chain(structure, terms, order, sizes, space, groups, strides)
            if best is None or cost < best[0]:
                best = cost, found
    assert best is not None
    return best[1]


Parts = tuple[tuple[int, ...], ...]


def _single(terms: Sequence[Operand]) -> Parts:
    return tuple((n,) for n in range(len(terms)))


def _folded(terms: Sequence[Operand], space: set[str]) -> Parts:
    """Cores that hold space and one bond are multiplied into the core at its other end."""
    parts = {n: [n] for n in range(len(terms))}
    for n, term in enumerate(terms):
        bonds = [index for index in term.indices if index not in space]
        others = [m for m, other in enumerate(terms) if m != n and set(bonds) & set(other.indices)]
        if len(others) != 1 or not bonds or not set(bonds) <= set(terms[others[0]].indices):
            continue
        into = next(root for root, members in parts.items() if others[0] in members)
        if len(bonds) < len(term.indices) and into != n:
            parts[into] += parts.pop(n)
    return tuple(tuple(sorted(members)) for members in parts.values())


def _orders(parts: Parts) -> Iterator[Parts]:
    if len(parts) > _PARTS:
        yield parts
        yield parts[::-1]
        return
    yield from itertools.permutations(parts)


def _chain(
    structure: Structure,
    terms: Sequence[Operand],
    order: Parts,
    sizes: dict[str, int],
    space: dict[str, int],
    groups: int,
    strides: Sequence[int],
) -> tuple[float, Chain]:
    out = ((GROUP,) if groups > 1 else ()) + structure.outputs[0]
    carried = ((GROUP,) if groups > 1 else ()) + structure.outputs[1]
    steps = []
    positions, cost, flops = 1.0, 0.0, 0
    for place, part in enumerate(order):
        held = [index for n in part for index in terms[n].indices]
        mine = dict.fromkeys(index for index in held if index not in space)
        later = {index for others in order[place + 1 :] for n in others for index in terms[n].indices} | set(out)
        rest = [i for i in carried if i not in mine]
        shared = [i for i in carried if i in mine and i in later]
        summed = [i for i in carried if i in mine and i not in later]
        new = [i for i in mine if i not in carried and i in later]
        along = [i for group in structure.outputs[2:] for i in group if i in held]
        wanted = [*rest, *shared, *summed]
        others, kept, gone, made = (math.prod(sizes[i] for i in some) for some in (rest, shared, summed, new))
        axes = tuple(sorted({space[i] for i in along}))
        lengths = [math.prod(structure.sizes[i] for i in group if i in held) for group in structure.outputs[2:]]
        for axis in axes:
            positions /= strides[axis]
        work = 2 * others * kept * gone * made * math.prod(lengths)
        flops += work
        cost += positions * (work + _WRITTEN * others * kept * made)
        steps.append(
            Step(
                tuple(terms[n] for n in part),
                plan([terms[n].indices for n in part], (*shared, *new, *summed, *along), sizes),
                (kept * made, gone, *lengths),
                None if wanted == list(carried) else tuple(carried.index(i) for i in wanted),
                tuple(sizes[i] for i in carried),
                tuple(sizes[i] for i in (*rest, *shared, *new)),
                others,
                kept,
                axes,
            )
        )
        carried = (*rest, *shared, *new)
    finish = None if carried == out else tuple(carried.index(i) for i in out)
    return cost, Chain(tuple(steps), finish, flops)
