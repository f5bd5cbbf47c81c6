"""What iterative methods have in common: starts, records of the errors, when to stop, the best network seen."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from tenfold.decomposition._error import relative_error
from tenfold.decomposition._loss import Loss
from tenfold.decomposition._registry import Callback, Decomposition, Progress
from tenfold.errors import StructureError, TenfoldError
from tenfold.network import Network
from tenfold.structure import Structure

# Structures with local minima are tried from several random starts for a few sweeps each; the best goes on. Short runs
# try fewer, so that at most half of the sweeps go into the choice.
STARTS = 3
START_SWEEPS = 5
# So many sweeps in a row must change the error by less than the tolerance.
QUIET = 2
# So many sweeps that do not lower the error by a tenth, within this factor of the precision at hand, are rounding.
STALLED, NOISE = 10, 1e4

Sweep = Callable[[], tuple[list[Tensor], float]]


def iterate(
    loss: Loss,
    begin: Callable[[list[Tensor]], Sweep],
    *,
    error: float | None,
    init: Network | None,
    seed: int,
    max_sweeps: int,
    tol: float,
    callback: Callback | None,
    several: bool = True,
) -> Decomposition:
    """Run a method to its end.

    Args:
        loss: what is minimised.
        begin: makes, from starting cores, the function that does one sweep and returns cores and their relative error.
        several: whether structures with loops or hyperedges, and data with gaps, are worth several starts.

    Returns:
        The best network seen. ``errors`` has the smallest error so far after each sweep, those of discarded starts too.
    """
    structure = loss.structure
    _check_arguments(structure, error, init, max_sweeps, tol)
    record = _Record(loss, error, max_sweeps, tol, callback)
    if loss.total == 0:
        zero = [torch.zeros(core.shape, dtype=loss.dtype, device=loss.device) for core in structure.cores]
        return Decomposition(loss.network(zero), 0.0, (), "exact")
    if init is not None:
        firsts = [loss.start(init)]
    else:
        # With cells missing even trees have local minima.
        simple = is_tree(structure) and loss.background
        count = min(STARTS, max_sweeps // (2 * START_SWEEPS)) if several and not simple else 1
        generator = torch.Generator().manual_seed(seed)
        firsts = [
            loss.start(Network.random(structure, std=loss.scale, seed=generator, dtype=loss.dtype))
            for _ in range(max(count, 1))
        ]
    sweep, reached, stopped = begin(firsts[0]), math.inf, None
    if len(firsts) > 1:
        for n, first in enumerate(firsts):
            candidate = sweep if n == 0 else begin(first)
            for _ in range(START_SWEEPS):
                stopped = record.add(*candidate())
                if stopped:
                    break
            if record.last < reached:
                sweep, reached = candidate, record.last
            if stopped == "tol" and record.smallest > loss.exact:
                stopped = None  # a start that settles early may have settled badly
            if stopped:
                break
            record.settle()
    while not stopped:
        stopped = record.add(*sweep())
    return record.finish(stopped)


class _Record:
    """The errors so far and the best cores."""

    def __init__(self, loss: Loss, error: float | None, max_sweeps: int, tol: float, callback: Callback | None) -> None:
        self.loss, self.goal, self.max_sweeps, self.tol, self.callback = loss, error, max_sweeps, tol, callback
        self.errors: list[float] = []
        self.best: list[Tensor] = []
        self.smallest = math.inf
        self.last = math.inf
        self.quiet = 0
        self.stalled, self.mark = 0, math.inf

    def settle(self) -> None:
        """Another start comes next: its first error is no change of the last one."""
        self.last, self.quiet = math.inf, 0
        self.stalled, self.mark = 0, math.inf

    def add(self, cores: list[Tensor], error: float) -> str | None:
        """Note a sweep; returns why to stop, or None."""
        self.stalled += 1
        if error < 0.9 * self.mark:
            self.stalled, self.mark = 0, error
        if not self.best or error < self.smallest:
            self.best, self.smallest = cores, error
        self.errors.append(self.smallest)
        change, self.last = abs(self.last - error), error
        # A method that broke down (NaN) has nothing more to give either.
        self.quiet = 0 if change >= self.tol * error else self.quiet + 1
        if self.callback is not None:
            best, loss = self.best, self.loss
            self.callback(Progress(self.smallest, len(self.errors), self.max_sweeps, lambda: loss.network(best)))
        if self.goal is not None and self.smallest <= self.goal:
            return "error"
        noise = self.stalled >= STALLED and self.smallest <= NOISE * self.loss.exact
        if self.quiet >= QUIET or noise or self.smallest <= self.loss.exact:
            return "tol"
        return "max_sweeps" if len(self.errors) >= self.max_sweeps else None

    def finish(self, stopped: str) -> Decomposition:
        network = self.loss.network(self.best)
        error = relative_error(self.loss.original, network)
        if not error <= 1:
            # The zero network is one of this structure, and its error is 1.
            network, error = Network(network.structure, [torch.zeros_like(core) for core in network.cores]), 1.0
        return Decomposition(network, error, tuple(self.errors), stopped)


def is_tree(structure: Structure) -> bool:
    """Whether every inner index joins two terms, without cycles, and no output or core is shared."""
    if any(len(core.terms) > 1 for core in structure.cores):
        return False
    if any(len(structure.terms_with(index)) > 1 for index in structure.output_indices):
        return False
    part = list(range(len(structure.terms)))
    for index in structure.inner_indices:
        places = structure.terms_with(index)
        if len(places) != 2 or part[places[0]] == part[places[1]]:
            return False
        old, new = part[places[0]], part[places[1]]
        part = [new if p == old else p for p in part]
    return True


def _check_arguments(
    structure: Structure, error: float | None, init: Network | None, max_sweeps: int, tol: float
) -> None:
    if error is not None and not error >= 0:
        raise TenfoldError(f"error must be at least 0, not {error}")
    if max_sweeps < 1:
        raise TenfoldError(f"max_sweeps must be at least 1, not {max_sweeps}")
    if not tol >= 0:
        raise TenfoldError(f"tol must be at least 0, not {tol}")
    if init is not None and init.structure != structure:
        raise StructureError(f"init has structure {init.structure!r}, not {structure!r}")
