"""The best core shape of a Tucker decomposition within a number of parameters, from the singular values of each mode.

Truncating mode n to rank R_n costs at least the tail of its singular values, and truncating all of them at most the
sum of the tails. The sum stands for the error, which it exceeds at most N times, and its minimum over all core shapes
within the budget is found exactly: with all ranks but one given, the last one is as large as the budget allows. Where
there are too many of the others to try, sets of (size, bound) are merged mode by mode, the hopeless left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tenfold._tree_program import Node, Program
from tenfold.errors import TenfoldError
from tenfold.structure_search._core_shape_greedy import greedy
from tenfold.structure_search._core_shape_milp import milp
from tenfold.structure_search._tails import Spectrum, check_budget, tails

How = Literal["exact", "milp", "greedy", "bang_for_buck"]

_HOW: dict[str, Callable[..., tuple[int, ...]]] = {
    "milp": milp,
    "greedy": greedy,
    "bang_for_buck": lambda shape, costs, parameters: greedy(shape, costs, parameters, per_parameter=True),
}
# Budgets beyond this are beyond any memory, and products of ranks stay whole numbers of 64 bits.
_LARGEST = 2**61
# Ranks of all modes but the longest that are enumerated at most; if there are more, sets of the best are merged.
_ENUMERATED = 2**17


@dataclass(frozen=True)
class CoreShape:
    """The shape of a Tucker core, and between which limits the error of the best such decomposition lies.

    Attributes:
        ranks: one for each mode.
        parameters: of the core and the factors together.
        bound: the sum of the tails: a relative squared error that truncating the HOSVD does not exceed.
        lower: the largest tail: a relative squared error that no decomposition of this shape is below. At least
            ``bound / len(ranks)``.
    """

    ranks: tuple[int, ...]
    parameters: int
    bound: float
    lower: float


def core_shape(
    spectra: Sequence[Spectrum], shape: Sequence[int], parameters: int, *, how: How = "exact", eps: float = 0.5
) -> CoreShape:
    """The core shape with the smallest bound on the error among those with at most so many parameters.

    Where spectra fall slowly it may have a rank above the product of the others; `core_shapes` can leave those out.

    Args:
        spectra: the singular values of each mode's unfolding, largest first; a rank is at most their number.
        shape: of the tensor.
        parameters: the budget: the product of the ranks plus, for each mode, its size times its rank.
        how: ``"exact"`` enumerates; ``"milp"`` solves integer programs for guessed splits of the budget between core
            and factors; ``"greedy"`` raises the rank with the largest next singular value, ``"bang_for_buck"`` that
            with the most for each parameter added.
        eps: how finely ``"milp"`` guesses: budgets that grow by factors of ``1 + eps``.

    Raises:
        TenfoldError: a budget that ranks of one exceed, another number of spectra than modes, an unknown ``how``.
        DataError: spectra that are empty, not finite, negative or increasing.

    Cost: of ``"exact"``, about the number of feasible ranks of all modes but the longest, vectorised; tens of
    milliseconds to a second where these are more than 10^5.
    Paper: "Approximately optimal core shapes for tensor decompositions", 2023.
    """
    if how == "exact":
        return core_shapes(spectra, shape, parameters)[0]
    if not isinstance(how, str) or how not in _HOW:
        raise TenfoldError(f"how is {how!r}: use one of 'exact', {', '.join(map(repr, _HOW))}")
    if isinstance(eps, bool) or not isinstance(eps, int | float) or not 0 < eps < math.inf:
        raise TenfoldError(f"eps is {eps!r}: it must be a positive number")
    extents, costs, budget = _prepared(spectra, shape, parameters)
    options = {"eps": eps} if how == "milp" else {}
    return _described(extents, costs, _HOW[how](extents, costs, budget, **options))


def core_shapes(
    spectra: Sequence[Spectrum],
    shape: Sequence[int],
    parameters: int,
    *,
    count: int = 1,
    attainable: bool = False,
) -> list[CoreShape]:
    """The ``count`` core shapes with the smallest bounds, best first; fewer where there are fewer.

    The error of the second-best may well be smaller than that of the best: what is chosen by is a bound. Trying a few
    of these with the true error, as `refined_core_shape` does, costs a few decompositions. Ranks that add nothing are
    left out.

    Args:
        count: so many at most.
        attainable: leave out shapes with a rank above the product of the others. No core uses such a rank, so that a
            smaller shape has the same error: it buys a smaller bound, and nothing else. Some attainable shape is
            always the best in truth.

    The other arguments, errors and cost are those of `core_shape`.
    """
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise TenfoldError(f"count is {count!r}: it must be a positive whole number")
    extents, costs, budget = _prepared(spectra, shape, parameters)
    return [_described(extents, costs, ranks) for ranks in _enumerated(extents, costs, budget, count, attainable)]


def size(shape: Sequence[int], ranks: Sequence[int]) -> int:
    """The parameters of a Tucker decomposition."""
    return math.prod(ranks) + sum(extent * rank for extent, rank in zip(shape, ranks, strict=True))


def _prepared(
    spectra: Sequence[Spectrum], shape: Sequence[int], parameters: int
) -> tuple[list[int], list[NDArray[np.float64]], int]:
    """The shape, the tails of every mode and the budget, checked."""
    try:
        extents, given = list(shape), list(spectra)
    except TypeError:
        kinds = f"{type(spectra).__name__} and {type(shape).__name__}"
        raise TenfoldError(f"spectra and shape must have an entry for each mode; they are of type {kinds}") from None
    if not extents or any(isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1 for n in extents):
        raise TenfoldError(f"shape {tuple(extents)} is not one of positive sizes")
    if len(given) != len(extents):
        raise TenfoldError(f"spectra has {len(given)} entries but shape {tuple(extents)} has {len(extents)} modes")
    costs = list(tails({f"mode {n}": spectrum for n, spectrum in enumerate(given)}).values())
    for n, (extent, cost) in enumerate(zip(extents, costs, strict=True)):
        if len(cost) - 1 > extent:
            raise TenfoldError(f"mode {n} of size {extent} has {len(cost) - 1} singular values, more than its size")
    return extents, costs, check_budget(parameters, 1 + sum(extents), extents)


def _described(shape: Sequence[int], costs: Sequence[NDArray[np.float64]], ranks: Sequence[int]) -> CoreShape:
    each = [float(cost[rank]) for cost, rank in zip(costs, ranks, strict=True)]
    return CoreShape(tuple(map(int, ranks)), size(shape, ranks), math.fsum(each), max(each))


def _enumerated(
    shape: Sequence[int], costs: Sequence[NDArray[np.float64]], parameters: int, count: int, attainable: bool
) -> list[tuple[int, ...]]:
    """The best ranks by enumerating those of all modes but the one with most of them."""
    budget = min(parameters, _LARGEST)
    order = sorted(range(len(shape)), key=lambda n: (len(costs[n]), shape[n]))
    *others, last = order
    ranks = np.zeros((1, 0), dtype=np.int64)
    product, total, cost = np.ones(1, np.int64), np.zeros(1, np.int64), np.zeros(1)
    rest = sum(shape)  # what ranks of one cost on the modes still to come
    for mode in others:
        rest -= shape[mode]
        most = np.minimum((budget - total - rest) // (product + shape[mode]), len(costs[mode]) - 1)
        if most.sum() > _ENUMERATED:
            return _merged(shape, costs, budget, count, attainable)
        parent = np.repeat(np.arange(len(most)), most)
        rank = np.arange(len(parent)) - np.repeat(np.cumsum(most) - most, most) + 1
        ranks = np.column_stack([ranks[parent], rank])
        product, total = product[parent] * rank, total[parent] + shape[mode] * rank
        cost = cost[parent] + costs[mode][rank]
    rank = np.minimum((budget - total) // (product + shape[last]), len(costs[last]) - 1)
    least = np.ones_like(rank)
    if attainable:
        # The last rank is at most the product of the others, and large enough for each of these to be so too.
        rank = np.minimum(rank, product)
        least = -(-np.square(ranks).max(1, initial=1) // product)
        kept = rank >= least
        ranks, product, total, cost, rank, least = (
            column[kept] for column in (ranks, product, total, cost, rank, least)
        )
    best = cost + costs[last][rank]
    # What is not among the best with its last rank as large as can be has no smaller one among them either.
    limit = np.partition(best, count - 1)[count - 1] if count < len(best) else math.inf
    kept = np.flatnonzero(best <= limit)
    found = []
    for step in range(count):
        kept = kept[rank[kept] - step >= least[kept]]
        lower = rank[kept] - step
        found.append(
            (cost[kept] + costs[last][lower], (product[kept] + shape[last]) * lower + total[kept], kept, lower)
        )
    bounds, sizes, places, lasts = (np.concatenate(column) for column in zip(*found, strict=True))
    chosen = np.lexsort((sizes, bounds))[:count]
    table = np.column_stack([ranks[places[chosen]], lasts[chosen]])
    return [tuple(int(row[order.index(n)]) for n in range(len(shape))) for row in table]


def _merged(
    shape: Sequence[int], costs: Sequence[NDArray[np.float64]], parameters: int, count: int, attainable: bool
) -> list[tuple[int, ...]]:
    """The same by the dynamic program over a tree, whose root is the core."""
    modes = [
        Node(extent, str(n), cost, np.arange(1, len(cost)))
        for n, (extent, cost) in enumerate(zip(shape, costs, strict=True))
    ]
    program = Program(Node(1, "", np.zeros(2), np.ones(1, np.int64), modes))
    asked = count
    while True:
        found = program.solve(size=parameters, count=asked)
        ranks = [tuple(choice.ranks[mode.bond] for mode in modes) for choice in found]
        of_use = [one for one in ranks if not attainable or max(one) ** 2 <= math.prod(one)]
        if len(of_use) >= count or len(found) < asked:
            return of_use[:count]
        asked *= 4
