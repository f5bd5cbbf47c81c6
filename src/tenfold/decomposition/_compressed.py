"""Alternating methods on the core of a Tucker compression first, where that is much smaller, then on the whole."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, Protocol

import torch
from torch import Tensor

from tenfold._threads import blas_threads
from tenfold.decomposition._anderson import Iterated, State, iterate
from tenfold.decomposition._arrays import Whole
from tenfold.decomposition._error import relative_error, squared_norm
from tenfold.decomposition._registry import Callback, Data, Decomposition, Progress
from tenfold.decomposition.tree_svd import st_hosvd
from tenfold.errors import StructureError
from tenfold.network import Network
from tenfold.structure import Structure

# Compression is taken if it leaves less than this part of the entries.
WORTH = 0.2
# The sweeps on the whole tensor after a solution of the compressed one end at this relative change.
_POLISH = 1e-5
# Rounds of the starts: sweeps for each, after which the better third goes on.
_ROUNDS = (10, 25)


class Problem(Protocol):
    """A tensor to fit by sweeps over all cores."""

    def sweep(self, state: State) -> tuple[State, float]:
        """Every core once, and the relative error after that."""
        ...

    def error(self, state: State, known: float) -> float:
        """The true relative error of a state that came from a sweep with the error ``known``."""
        ...


class Family(Protocol):
    """What the two stages need to know of a method: how its states, problems and starts are made.

    States have one tensor for each mode of ``modes(data)``.
    """

    @property
    def structure(self) -> Structure: ...

    def modes(self, tensor: Tensor) -> Tensor: ...

    def ranks(self, shape: Sequence[int]) -> list[int]:
        """For each mode, the size that a compression may leave it."""
        ...

    def problem(self, tensor: Tensor, norm2: float, outside: float) -> Problem:
        """A tensor of squared norm ``norm2 - outside``; its relative errors count what is outside too."""
        ...

    def starts(self, tensor: Tensor, generator: torch.Generator) -> list[State]: ...

    def expand(self, state: State, bases: Sequence[Tensor]) -> State: ...

    def state(self, cores: Sequence[Tensor]) -> State: ...

    def cores(self, state: State) -> list[Tensor]: ...


def alternate(
    data: Data,
    whole: Whole,
    family: Family,
    *,
    error: float | None,
    init: Network | None,
    seed: int,
    max_sweeps: int,
    tol: float,
    callback: Callback | None,
    accelerate: bool = True,
    compress: bool | Literal["auto"] = "auto",
) -> Decomposition:
    """Fit a family of structures to a whole array: compress if it pays, try the starts, iterate, polish.

    What the compression leaves out is orthogonal to everything that factors in its range can make, so the error on the
    core determines the error on the whole.
    """
    structure = family.structure
    if init is not None and init.structure != structure:
        raise StructureError(f"init has structure '{init.structure}', not '{structure}'")
    if whole.norm2 == 0:
        zeros = [torch.zeros(core.shape, dtype=whole.dtype, device=whole.tensor.device) for core in structure.cores]
        return Decomposition(Network(structure, zeros), 0.0, (), "exact")
    # Threads pay in the large products only, which ask for them.
    with blas_threads(1):
        work = _Work(whole, family, error, seed, max_sweeps, tol, callback, accelerate)
        found = work.run(init, compress)
        cores = family.cores(found.state)
        if whole.dtype == whole.tensor.dtype:
            # The scale is a power of two and changes no digit.
            reached = work.problem.error(found.state, found.errors[-1])
            result = Network(structure, whole.finish(cores))
        else:
            result = Network(structure, whole.finish(cores))
            reached = relative_error(data, result)
    return Decomposition(result, reached, tuple(work.errors), found.stopped)


class _Work:
    """One fit on its way: what all its phases share, and the errors so far."""

    def __init__(
        self,
        whole: Whole,
        family: Family,
        error: float | None,
        seed: int,
        max_sweeps: int,
        tol: float,
        callback: Callback | None,
        accelerate: bool,
    ) -> None:
        self.whole, self.family = whole, family
        self.error, self.seed, self.max_sweeps, self.tol = error, seed, max_sweeps, tol
        self.callback, self.accelerate = callback, accelerate
        self.tensor = family.modes(whole.tensor)
        self.problem = family.problem(self.tensor, whole.norm2, 0.0)
        self.errors: list[float] = []

    def run(self, init: Network | None, compress: bool | Literal["auto"]) -> Iterated:
        """From the first start to the last sweep; the state found is one of the whole tensor."""
        family, shape = self.family, self.tensor.shape
        start = None
        if init is not None:
            start = family.state([core.to(self.tensor.dtype) for core in init.cores])
            start[0] = start[0] / self.whole.scale
        kept = family.ranks(shape)
        if compress == "auto":
            compress = init is None and math.prod(kept) < WORTH * self.tensor.numel()
        if not compress or kept == list(shape):
            return self._iterate(self.problem, self._best(self.problem, self.tensor) if start is None else start)
        core, bases = st_hosvd(self.tensor, kept)
        # The core is small enough for double precision.
        core = core.to(torch.complex128 if core.is_complex() else torch.float64)
        bases = [basis.to(core.dtype) for basis in bases]
        # By rounding this may be a little less than nothing.
        small = family.problem(core, self.whole.norm2, self.whole.norm2 - squared_norm(core))
        if start is None:
            start = self._best(small, core, bases)
        else:
            start = family.expand([part.to(core.dtype) for part in start], [basis.mH for basis in bases])
        found = self._iterate(small, start, bases)
        expanded = found._replace(state=self._expand(found.state, bases))
        if len(self.errors) >= self.max_sweeps or found.stopped == "error":
            return expanded
        polished = self._iterate(self.problem, expanded.state, tol=max(self.tol, _POLISH))
        return polished._replace(stopped=polished.stopped if found.stopped == "tol" else found.stopped)

    def _iterate(
        self, problem: Problem, start: State, bases: Sequence[Tensor] | None = None, *, tol: float | None = None
    ) -> Iterated:
        done = len(self.errors)

        def report(state: State, reached: float, number: int) -> None:
            # Between the compressed and the whole data nothing but rounding can raise it.
            self.errors.append(min(reached, self.errors[-1]) if self.errors else reached)
            self._tell(self.errors[-1], done + number, state, bases)

        return iterate(
            problem.sweep,
            start,
            error=self.error,
            tol=self.tol if tol is None else tol,
            max_sweeps=max(self.max_sweeps - done, 1),
            accelerate=self.accelerate,
            report=report,
        )

    def _best(self, problem: Problem, tensor: Tensor, bases: Sequence[Tensor] | None = None) -> State:
        """The start that is ahead a few sweeps on; at once, one after which there is nothing left to do."""
        generator = torch.Generator().manual_seed(self.seed)
        states = self.family.starts(tensor, generator)
        enough = max(self.error or 0.0, 4 * torch.finfo(tensor.dtype).eps)
        least, ahead = math.inf, states[0]

        def report(state: State, reached: float, number: int) -> None:
            nonlocal least, ahead
            if reached < least:
                least, ahead = reached, state
            self._tell(least, 0, ahead, bases)

        for sweeps in _ROUNDS:
            if len(states) == 1:
                break
            runs = []
            for start in states:
                runs.append(
                    iterate(
                        problem.sweep,
                        start,
                        error=enough,
                        tol=1e-7,
                        max_sweeps=sweeps,
                        accelerate=self.accelerate,
                        report=report,
                    )
                )
                if runs[-1].errors[-1] <= enough:
                    return start
            runs.sort(key=lambda run: run.errors[-1])
            states = [run.state for run in runs[: -(-len(runs) // 3)]]
        return states[0]

    def _tell(self, reached: float, sweep: int, state: State, bases: Sequence[Tensor] | None) -> None:
        if self.callback is None:
            return

        def network() -> Network:
            whole = state if bases is None else self._expand(state, bases)
            return Network(self.family.structure, self.whole.finish(self.family.cores(whole)))

        self.callback(Progress(reached, sweep, self.max_sweeps, network))

    def _expand(self, state: State, bases: Sequence[Tensor]) -> State:
        return [part.to(self.tensor.dtype) for part in self.family.expand(state, bases)]
