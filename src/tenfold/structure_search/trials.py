"""What is asked of a search, what it tried, and one step of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from tenfold.decomposition import Decomposition, Projected, find, relative_error
from tenfold.network import Network
from tenfold.observations import Observations
from tenfold.structure import Structure

# Sweeps of one alternating fit on the way; more is left to a fit with a structure given.
SWEEPS = 25


@dataclass(frozen=True)
class Budget:
    """What is asked for: an error not to exceed with the fewest parameters, or the least error within a size."""

    error: float | None = None
    parameters: int | None = None

    def met(self, trial: Trial) -> bool:
        if self.error is not None:
            return trial.error <= self.error
        return self.parameters is None or trial.parameters <= self.parameters

    def rank(self, trial: Trial) -> tuple[bool, bool, float, float]:
        """A sort key: smallest first is best."""
        # What was left out tells a model of the data from one of their noise.
        seen = trial.error if trial.held_out is None else trial.held_out
        if self.error is None or not self.met(trial):
            return (not self.met(trial), not trial.preferred, seen, trial.parameters)
        return (False, False, trial.parameters, trial.error)


@dataclass(frozen=True)
class Trial:
    """One network that was tried.

    Attributes:
        name: the format, as people call it.
        error: true relative Frobenius error (over what is observed).
        held_out: relative error on observations that were left out, where there are missing cells.
        baseline: the same of the weighted mean of the other observations.
        residuals: squared residuals of those left out over the sum of their squares, of the network and of the mean,
            while they are needed.
        preferred: whether it is the smallest of those that predict what was left out as well as any.
        deviance: its Poisson deviance, of methods that minimise that.
        chosen: whether this is the one that was returned.
    """

    name: str
    structure: Structure
    parameters: int
    error: float
    seconds: float
    method: str
    held_out: float | None = None
    baseline: float | None = None
    residuals: Tensor | None = field(default=None, repr=False, compare=False)
    preferred: bool = False
    deviance: float | None = None
    chosen: bool = False
    network: Network | None = field(default=None, repr=False, compare=False)

    def without_network(self, *, chosen: bool = False) -> Trial:
        """The same without its numbers, to be kept."""
        return replace(self, network=None, chosen=chosen)


class Late(Exception):
    """There is no time for the rest of a rung."""


# A whole array, or what stands for one that does not fit into memory.
Array = Tensor | Projected
# One step of a search: the data, what is asked for, names for the axes, the best so far, the seed.
Rung = Callable[[Array | Observations, Budget, Sequence[str], Trial | None, int], Iterator[Trial]]


def tried(name: str, network: Network, error: float, started: float, method: str) -> Trial:
    """The trial of a network that was begun at ``started`` on `time.perf_counter`."""
    seconds = time.perf_counter() - started
    return Trial(name, network.structure, network.parameters, error, seconds, method, network=network)


def decompose(method: str, data: Array, structure: Structure, **options: Any) -> Decomposition:
    """What the method called ``method`` finds."""
    if isinstance(data, Projected):
        return data.fit(method, structure, **options)
    return find(method).function(data, structure, **options)


def error_of(data: Array, network: Network) -> float:
    """The true relative error of a network."""
    return data.relative_error(network) if isinstance(data, Projected) else relative_error(data, network)
