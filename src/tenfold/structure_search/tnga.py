"""A genetic search of graphs, ranks and orders (TNGA, and TNGA+ where ranks and orders are genes too)."""

from __future__ import annotations

import numpy as np

from tenfold.errors import TenfoldError
from tenfold.structure_search._drawn import Drawn
from tenfold.structure_search._genome import Nursery, crossed, mutated, random_graph
from tenfold.structure_search._registry import searcher
from tenfold.structure_search.session import Session
from tenfold.structure_search.spaces import Point, Space

# The paper's weight of the k-th best as a parent is max(ln(200 / (0.01 + 5 k)), 0.01).
_FIRST, _STEP, _LEAST = 200.0, 5.0, 0.01
# Generations that a population is small enough for, where evaluations are few.
_GENERATIONS = 12
# Generations in a row that bring nothing new before the search ends.
_STALE = 20
# Pairs of parents for each child before newcomers take the places of children that were all too large.
_PATIENCE = 20


@searcher("tnga")
def tnga(
    session: Session,
    space: Space,
    seed: int = 0,
    *,
    population: int | None = None,
    parents: int | None = None,
    generations: int | None = None,
    mutation: float = 0.05,
    elites: int = 1,
    fixed_rank: int | None = None,
) -> None:
    """A population of structures: the best are crossed, their children changed a little, again and again.

    On graphs two parents exchange all the edges of one core. On other templates ranks are exchanged edge by edge, and
    orders by order crossover. Networks larger than the data die before they are fitted. A generation of which every
    structure is known makes room for newcomers; the search ends when they are known too, many times in a row.

    Args:
        population: structures in a generation; by default 50 as in the paper, or as many as leave a dozen generations
            to the evaluations of the session, but at least 10.
        parents: how many of them, the best, may have children; by default four of five, as in the paper.
        generations: at most so many; until the budget is used up by default.
        mutation: the probability that a gene changes.
        elites: the best so many live on as they are.
        fixed_rank: the size of every edge that is there, so that only the graph is looked for, as in the first paper.

    Raises:
        TenfoldError: options out of their ranges.

    Paper: "Evolutionary topology search for tensor network decomposition", 2020; ranks and orders as genes after
    "Permutation search of tensor network structures via local sampling", 2022, which compares with that.
    """
    if population is None:
        population = 50 if session.evaluations is None else max(10, min(50, session.evaluations // _GENERATIONS))
    parents = max(2, population * 4 // 5) if parents is None else parents
    _check(space, population, parents, generations, mutation, elites, fixed_rank)
    generator = np.random.default_rng(seed)
    nursery = Nursery(space, session.target.size)

    def newcomer() -> Point:
        return nursery.born(lambda: random_graph(space, generator, fixed_rank))

    first = Drawn(population, newcomer, nursery.structure)
    found = session.evaluate(first)
    people = first.points
    weights = np.maximum(np.log(_FIRST / (_LEAST + _STEP * np.arange(parents))), _LEAST)
    weights /= weights.sum()
    known: set[str] = set()
    stale, generation = 0, 0
    while True:
        structures = [nursery.structure(point) for point in people]
        generation += 1
        before = len(known)
        known.update(structure.key for structure in structures)
        stale = stale + 1 if len(known) == before else 0
        if stale == _STALE or generation == generations:
            return
        order = sorted(range(population), key=lambda k: (found[k].value, found[k].parameters))
        able = [people[k] for k in order[:parents]]
        # What is worse than all parents of this generation would have hardly a child in the next: a bound is enough.
        beat = found[order[parents - 1]].value
        children: list[Point] = []
        if stale:
            children = [newcomer() for _ in range((population - elites) // 2)]
        for _ in range(_PATIENCE * population):
            if len(children) >= population - elites:
                break
            a, b = generator.choice(parents, 2, replace=False, p=weights).tolist()
            pair = [
                mutated(space, child, generator, mutation, size=fixed_rank)
                for child in crossed(space, able[a], able[b], generator)
            ]
            children += filter(nursery.viable, pair)
        children += [newcomer() for _ in range(population - elites - len(children))]
        people = [*able[:elites], *children[: population - elites]]
        found = session.evaluate([nursery.structure(point) for point in people], beat=beat)


def _check(
    space: Space,
    population: int,
    parents: int,
    generations: int | None,
    mutation: float,
    elites: int,
    fixed_rank: int | None,
) -> None:
    if not 2 <= parents <= population:
        raise TenfoldError(f"parents must be between 2 and the population of {population}, not {parents!r}")
    if not 0 <= elites <= parents or elites == population:
        raise TenfoldError(
            f"elites must be between 0 and the {parents} parents, and leave room for children, not {elites!r}"
        )
    if generations is not None and generations < 1:
        raise TenfoldError(f"generations must be at least 1, not {generations!r}")
    if not 0 <= mutation <= 1:
        raise TenfoldError(f"mutation must be a probability, not {mutation!r}")
    if fixed_rank is not None and not (space.sparse and 2 <= fixed_rank <= space.max_rank):
        raise TenfoldError(
            f"fixed_rank {fixed_rank!r} needs a space of graphs with a max_rank of at least as much, not {space}"
        )
