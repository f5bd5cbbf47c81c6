"""A matrix structure applied to vectors as a chain of products: the vectors with one core after the other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations

from tenfold.contraction import Plan, plan
from tenfold.structure import Structure

Names = tuple[str, ...]

# Orders of so many cores are compared one by one; of more, only the order of the terms and its reverse.
_MANY = 6


@dataclass(frozen=True)
class Link:
    """One product of a chain: what was made so far, with a core.

    Attributes:
        term: the place of the core in the structure.
        before, after: the indices of what goes in and comes out, without the rows of the batch.
        groups: indices of both that stay: the product is one of matrices for each of their values.
        made: indices that the core brings.
        summed: indices that end here.
        others: indices that the core does not have.
    """

    term: int
    before: Names
    after: Names
    groups: Names
    made: Names
    summed: Names
    others: Names


@dataclass(frozen=True)
class Step:
    """A link in numbers: how the core and what was made are laid, so that their product is one of matrices.

    Attributes:
        core: the number of the core in the structure's `cores`.
        core_axes, core_shape: bring the core to ``[groups, made, summed]``.
        axes: bring what was made, features first and rows last, to groups, summed, others, rows.
        others: how many there are of what the core does not have.
        after: the sizes of the indices that come out.
    """

    core: int
    core_axes: tuple[int, ...]
    core_shape: tuple[int, int, int]
    axes: tuple[int, ...]
    others: int
    after: tuple[int, ...]


@dataclass(frozen=True)
class Chain:
    """How a structure is applied to vectors.

    Attributes:
        structure: which.
        links: the products in order.
        steps: the same in numbers.
        flops: multiplications and additions for one vector.
        down: the sizes of the indices that come in.
        finish: brings the indices that come out, and the rows after them, to their order.
        flat: whether each product is that of one matrix with all that was made.
        whole: how the matrix in full is made.
    """

    structure: Structure
    links: tuple[Link, ...]
    steps: tuple[Step, ...]
    flops: int
    down: tuple[int, ...]
    finish: tuple[int, ...]
    flat: bool
    whole: Plan


@lru_cache(maxsize=1024)
def chain(structure: Structure) -> Chain:
    """The cheapest chain of a matrix structure."""
    count = len(structure.terms)
    orders = permutations(range(count)) if count <= _MANY else iter((range(count), range(count)[::-1]))
    links, flops = min((_links(structure, order) for order in orders), key=lambda found: found[1])
    up, down = structure.outputs
    steps = tuple(_step(structure, link) for link in links)
    last = links[-1].after
    return Chain(
        structure,
        links,
        steps,
        flops,
        tuple(structure.sizes[i] for i in down),
        (*(last.index(i) for i in up), len(last)),
        not any(link.groups or link.others for link in links),
        plan([t.indices for t in structure.terms], structure.output_indices, structure.sizes),
    )


def _step(structure: Structure, link: Link) -> Step:
    names = structure.terms[link.term].indices
    parts = (link.groups, link.made, link.summed)
    groups, made, summed = (math.prod(structure.sizes[i] for i in part) for part in parts)
    return Step(
        structure.term_core[link.term],
        tuple(names.index(i) for part in parts for i in part),
        (groups, made, summed),
        (*(link.before.index(i) for i in (*link.groups, *link.summed, *link.others)), len(link.before)),
        math.prod(structure.sizes[i] for i in link.others),
        tuple(structure.sizes[i] for i in link.after),
    )


def _links(structure: Structure, order: Sequence[int]) -> tuple[tuple[Link, ...], int]:
    up, now = structure.outputs[0], structure.outputs[1]
    links, flops = [], 0
    for n, term in enumerate(order):
        core = structure.terms[term].indices
        wanted = {*up, *(i for later in order[n + 1 :] for i in structure.terms[later].indices)}
        groups = tuple(i for i in now if i in core and i in wanted)
        summed = tuple(i for i in now if i in core and i not in wanted)
        others = tuple(i for i in now if i not in core)
        made = tuple(i for i in core if i not in now and i in wanted)
        # What only this core has and nobody wants any more cannot be: a structure has no such index.
        after = (*groups, *made, *others)
        links.append(Link(term, now, after, groups, made, summed, others))
        flops += (2 if summed else 1) * math.prod(structure.sizes[i] for i in (*now, *made))
        now = after
    return tuple(links), flops
