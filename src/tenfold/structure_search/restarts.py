"""The same fit from many random starts: whether they end at the same components."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tenfold.components import factor_match_score
from tenfold.components._terms import terms_of
from tenfold.decomposition import Data, Decomposition, Entry, choose
from tenfold.errors import TenfoldError
from tenfold.network import Network
from tenfold.observations import Observations
from tenfold.structure import Structure

# Components with a cosine this near to one are one component, and those of less than this part of the weight none.
_SAME = 1e-6
# A start whose error is this much above the least, relatively and absolutely, ended in a local minimum.
_NEAR, _EXACT = 1.01, 1e-6


@dataclass(frozen=True, eq=False)
class Restarts:
    """Fits of one CP structure from different starts, best first.

    Attributes:
        networks: what each start ended with.
        errors: their true relative errors, ascending.
        scores: the factor match score of every two of them; 0 where one has a component that is zero or a multiple of
            another, for such components can be split in any other way.
    """

    networks: tuple[Network, ...]
    errors: tuple[float, ...]
    scores: Float[Tensor, "starts starts"]

    @property
    def near(self) -> tuple[int, ...]:
        """The starts that reached the least error within 1 %; the others ended in local minima."""
        limit = _NEAR * self.errors[0] + _EXACT
        return tuple(n for n, error in enumerate(self.errors) if error <= limit)

    @property
    def stability(self) -> float:
        """The mean score between the best fit and the others that are as good; if none is, between it and all others.

        NaN for a single start.
        """
        others = self.near[1:] or tuple(range(1, len(self.errors)))
        return math.fsum(self.scores[0, list(others)].tolist()) / len(others) if others else math.nan


def restarts(
    data: Data,
    structure: Structure,
    *,
    starts: int,
    seed: int = 0,
    method: Entry | None = None,
    options: Mapping[str, Any] | None = None,
    on_start: Callable[[int], None] | None = None,
) -> Restarts:
    """Fit a CP structure from random starts of different seeds and compare the components.

    Whole arrays start from random networks; with missing cells the method draws its own from each seed.

    Args:
        starts: how many.
        method: what fits; the one made for the structure by default.
        options: what the method takes besides.
        on_start: called with 0, 1, 2, ... before each.

    Raises:
        StructureError: the structure is not CP.
        TenfoldError: ``starts`` is below 1.

    Cost: that of ``starts`` fits.
    """
    if isinstance(starts, bool) or not isinstance(starts, int) or starts < 1:
        raise TenfoldError(f"starts must be a whole number of at least 1, not {starts!r}")
    entry = choose(structure, data) if method is None else method
    done = sorted(_fits(data, structure, entry, starts, seed, options or {}, on_start), key=lambda fit: fit.error)
    scores = torch.eye(len(done), dtype=torch.float64)
    apart = [_apart(fit.network) for fit in done]
    for a in range(len(done)):
        for b in range(a):
            if not (apart[a] and apart[b]):
                continue
            scores[a, b] = scores[b, a] = factor_match_score(done[a].network, done[b].network).score
    return Restarts(tuple(fit.network for fit in done), tuple(fit.error for fit in done), scores)


def _apart(network: Network) -> bool:
    """Whether no component is zero or a multiple of another."""
    terms = terms_of(network)
    if bool((terms.weights <= _SAME * terms.weights.max()).any()):
        return False
    return bool((terms.cosines().abs().triu(1) < 1 - _SAME).all())


def _fits(
    data: Data,
    structure: Structure,
    entry: Entry,
    starts: int,
    seed: int,
    options: Mapping[str, Any],
    on_start: Callable[[int], None] | None,
) -> Iterator[Decomposition]:
    for start in range(starts):
        if on_start is not None:
            on_start(start)
        init = None
        if not isinstance(data, Observations):
            std = float(torch.linalg.vector_norm(data)) / math.sqrt(data.numel())
            drawn = Network.random(structure, std=std or 1.0, seed=seed + start, dtype=data.dtype)
            init = drawn.to(data.device)
        yield entry.function(data, structure, init=init, seed=seed + start, **options)
