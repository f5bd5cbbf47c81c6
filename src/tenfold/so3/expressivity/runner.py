"""Which pairs of structures a map of invariant features tells apart."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from tenfold._arguments import quoted, real_number, whole_number
from tenfold._tables import columns
from tenfold.errors import DataError, EquivarianceError, TenfoldError
from tenfold.so3.expressivity.structures import Geometry, Pair, pairs
from tenfold.so3.rotations import random_rotations

# Features that are all far below this are zero but for rounding, as pseudoscalars of what has no hand are.
_SMALLEST = 1e-3

FeaturesOf: TypeAlias = Callable[[Tensor, Tensor, int | None], Tensor]


def separates(features_of: FeaturesOf, pair: Pair, seeds: int = 5, tol: float = 1e-6) -> bool:
    """Whether features of the two structures differ by more than ``tol``, for any of some seeds.

    That is relative to the largest feature, or to 0.001 where all are smaller.

    Args:
        features_of: from positions ``[nodes, 3]``, edges ``[2, edges]`` and the node in the centre (None where there
            is none) to numbers that no rotation and no order of the nodes changes. It may draw random weights: before
            each call torch's generator is set to the seed, so that both structures see the same, and afterwards it is
            as it was.
        pair: the structures.
        seeds: how many rotations, orders of the nodes and weights are tried.
        tol: the least difference that counts.

    Raises:
        EquivarianceError: a rotation and another order of the nodes change the features of one structure.
        DataError: features are no tensor of finite numbers.
        TenfoldError: ``seeds`` is below 1, or ``tol`` is no number above 0.

    Cost: three calls of the function for each seed.
    Paper: "On the Expressive Power of Geometric Graph Neural Networks", 2023.
    """
    return difference(features_of, pair, seeds, tol) > tol


def difference(features_of: FeaturesOf, pair: Pair, seeds: int = 5, tol: float = 1e-6) -> float:
    """The largest difference of features between the two structures, as `separates` has it; else as there."""
    if not real_number("tol", tol, "a number above 0") > 0:
        raise TenfoldError(f"tol must be a number above 0, not {tol:g}")
    largest = 0.0
    for seed in range(whole_number("seeds", seeds, 1)):
        first = _features(features_of, pair.first, seed)
        off = _off(first, _features(features_of, _moved(pair.first, seed), seed))
        # Where invariance only holds this roughly, a difference above tol says nothing.
        if off > 0.1 * tol:
            raise EquivarianceError(
                f"features_of must be invariant: a rotation and another order of the nodes change features of "
                f"'{pair.name}' by {off:.2g}, above {0.1 * tol:.2g}"
            )
        largest = max(largest, _off(first, _features(features_of, _moved(pair.second, seed), seed)))
    return largest


@dataclass(frozen=True, eq=False)
class Outcome:
    """What became of one pair."""

    pair: Pair
    difference: float
    separated: bool


@dataclass(frozen=True, eq=False)
class Suite:
    """What became of all pairs; prints as a table.

    Attributes:
        outcomes: one for each pair.
    """

    outcomes: tuple[Outcome, ...]

    @property
    def separated(self) -> dict[str, bool]:
        """Which pairs, by name, were told apart."""
        return {outcome.pair.name: outcome.separated for outcome in self.outcomes}

    @property
    def sound(self) -> bool:
        """Whether no pair was told apart that a rotation makes one."""
        return not any(outcome.separated and outcome.pair.same for outcome in self.outcomes)

    def __str__(self) -> str:
        rows = []
        for outcome in self.outcomes:
            told = "yes" if outcome.separated else "no"
            if outcome.pair.same and outcome.separated:
                told = "WRONG"
            needs = outcome.pair.needs or "nothing: they are the same"
            rows.append((outcome.pair.name, needs, f"{outcome.difference:.1e}", told))
        return columns(("pair", "to tell it apart takes", "difference", "told apart"), rows, right=(2,))

    __repr__ = __str__


def suite(features_of: FeaturesOf, tried: Iterable[Pair] | None = None, *, seeds: int = 5, tol: float = 1e-6) -> Suite:
    """`separates` for many pairs: all of `pairs` unless others are given.

    Raises, cost: as `separates`, for each pair.
    """
    found = []
    for pair in pairs() if tried is None else tried:
        off = difference(features_of, pair, seeds, tol)
        found.append(Outcome(pair, off, off > tol))
    return Suite(tuple(found))


def _moved(geometry: Geometry, seed: int) -> Geometry:
    """The same structure, turned, with nodes and edges in another order."""
    generator = torch.Generator().manual_seed(seed)
    count = len(geometry.positions)
    order = torch.randperm(count, generator=generator)
    turn = random_rotations(1, seed=seed)[0]
    place = torch.empty_like(order)
    place[order] = torch.arange(count)
    edges = place[geometry.edges][:, torch.randperm(geometry.edges.shape[1], generator=generator)]
    centre = None if geometry.centre is None else int(place[geometry.centre])
    return Geometry(geometry.positions[order] @ turn.T, edges, centre)


def _features(features_of: FeaturesOf, geometry: Geometry, seed: int) -> Tensor:
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        found = features_of(geometry.positions, geometry.edges, geometry.centre)
    if not isinstance(found, Tensor):
        raise DataError(f"features_of must return a tensor, not {quoted(found)}")
    if not found.isfinite().all():
        raise DataError("features_of must return finite numbers")
    return found.double().flatten()


def _off(first: Tensor, second: Tensor) -> float:
    if first.shape != second.shape:
        raise DataError(f"features_of must return equally many numbers, not {len(first)} and {len(second)}")
    if not len(first):
        return 0.0
    return float((first - second).abs().max()) / max(float(torch.maximum(first.abs(), second.abs()).max()), _SMALLEST)
