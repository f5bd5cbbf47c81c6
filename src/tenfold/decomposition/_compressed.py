"""Alternating methods on the core of a Tucker compression first, where that is much smaller, then on the whole."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from tenfold.decomposition._anderson import Iterated, State, iterate
from tenfold.decomposition._arrays import Whole
from tenfold.decomposition._error import relative_error, squared_norm
from tenfold.decomposition._registry import Callback, Data, Decomposition, Progress
from tenfold.decomposition.tree_svd import st_hosvd
from tenfold.errors import StructureError
from tenfold.network import Network
from tenfold.structure import Structure

# Compression is taken if it leaves less than this part of the entries.
_WORTH = 0.2
# The sweeps on the whole tensor after a solution of the compressed one end at this relative change.
_POLISH = 1e-5
# Rounds of the starts: sweeps for each, after which the better third goes on.
_ROUNDS = (10, 25)


class Problem(Protocol):
    """A tensor to fit by sweeps over all cores."""

    def sweep(self, state: State) -> tuple[State, float]:
        """Every core once, and the relative error after that."""
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

    def problem(self, tensor: Tensor, norm2: float, outside: float) -> Problem: ...

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
    tensor = family.modes(whole.tensor)
    errors: list[float] = []

    def run(problem: Problem, start: State, bases: Sequence[Tensor] | None, tol: float) -> Iterated:
        done = len(errors)

        def network(state: State) -> Network:
            return Network(structure, whole.finish(family.cores(_expand(family, state, bases, tensor.dtype))))

        def report(state: State, reached: float, number: int) -> None:
            # Between the compressed and the whole data nothing but rounding can raise it.
            errors.append(min(reached, errors[-1]) if errors else reached)
            if callback is not None:
                callback(Progress(errors[-1], done + number, max_sweeps, lambda: network(state)))

        left = max(max_sweeps - done, 1)
        return iterate(problem.sweep, start, error=error, tol=tol, max_sweeps=left, report=report)

    kept = family.ranks(tensor.shape)
    if init is not None:
        state = family.state([core.to(tensor.dtype) for core in init.cores])
        state[0] = state[0] / whole.scale
        found = run(family.problem(tensor, whole.norm2, 0.0), state, None, tol)
    elif math.prod(kept) < _WORTH * tensor.numel():
        core, bases = st_hosvd(tensor, kept)
        # The core is small enough for double precision.
        core = core.to(torch.complex128 if core.is_complex() else torch.float64)
        small = family.problem(core, whole.norm2, max(whole.norm2 - squared_norm(core), 0.0))
        found = run(small, _best_start(family, small, core, seed, error), bases, tol)
        if len(errors) < max_sweeps and found.stopped != "error":
            state = _expand(family, found.state, bases, tensor.dtype)
            polished = run(family.problem(tensor, whole.norm2, 0.0), state, None, max(tol, _POLISH))
            found = polished._replace(stopped=polished.stopped if found.stopped == "tol" else found.stopped)
        else:
            found = found._replace(state=_expand(family, found.state, bases, tensor.dtype))
    else:
        problem = family.problem(tensor, whole.norm2, 0.0)
        found = run(problem, _best_start(family, problem, tensor, seed, error), None, tol)
    scaled = Network(structure, [core.contiguous() for core in family.cores(found.state)])
    result = Network(structure, whole.finish(family.cores(found.state)))
    if whole.scale != 1:
        # Its squares are out of range; those of the scaled data are not.
        reached = relative_error(whole.tensor.reshape(structure.shape), scaled)
    else:
        reached = relative_error(data, result)
    return Decomposition(result, reached, tuple(errors), found.stopped)


def _expand(family: Family, state: State, bases: Sequence[Tensor] | None, dtype: torch.dtype) -> State:
    if bases is None:
        return list(state)
    return [part.to(dtype) for part in family.expand(state, [basis.to(state[0].dtype) for basis in bases])]


def _best_start(family: Family, problem: Problem, tensor: Tensor, seed: int, error: float | None) -> State:
    """The start that is ahead of the others a few sweeps on; at once, one after which there is nothing left to do."""
    generator = torch.Generator().manual_seed(seed)
    states = family.starts(tensor, generator)
    enough = max(error or 0.0, 4 * torch.finfo(tensor.dtype).eps)
    for sweeps in _ROUNDS:
        runs = []
        for start in states:
            runs.append(iterate(problem.sweep, start, error=enough, tol=1e-7, max_sweeps=sweeps))
            if runs[-1].errors[-1] <= enough:
                return start
        runs.sort(key=lambda run: run.errors[-1])
        states = [run.state for run in runs[: -(-len(runs) // 3)]]
    return states[0]
