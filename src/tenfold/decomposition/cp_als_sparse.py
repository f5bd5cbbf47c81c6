"""Canonical polyadic decomposition of sparse arrays, whose cells that are not listed are zeros."""

from __future__ import annotations

import torch

from tenfold.decomposition._anderson import State, iterate
from tenfold.decomposition._cp_sparse import SparseProblem, weighted
from tenfold.decomposition._registry import Callback, Data, Decomposition, Progress, method
from tenfold.decomposition.als import als
from tenfold.errors import StructureError, TenfoldError
from tenfold.network import Network
from tenfold.observations import Observations
from tenfold.structure import Structure

# Random starts beside those computed from the data; fewer where a sweep takes long, down to none.
_RANDOM_STARTS, _MOST_STARTS = 4, 1000
_START_WORK = 10**8
# Rounds of the starts: sweeps for each, after which the better half goes on.
_ROUNDS = (5, 10)
# Numbers of a state that are kept several times over to accelerate; plain sweeps beyond.
_ACCELERATED = 2**24


@method("cp_als_sparse", formats=("cp",), takes=("sparse",))
@torch.no_grad()
def cp_als_sparse(
    data: Data,
    structure: Structure,
    *,
    error: float | None = None,
    init: Network | None = None,
    seed: int = 0,
    max_sweeps: int = 200,
    tol: float = 1e-6,
    callback: Callback | None = None,
    starts: int | None = None,
) -> Decomposition:
    """Canonical polyadic decomposition of a sparse array by alternating least squares with Anderson acceleration.

    The cells that are not listed are zeros that count. The array is never made dense, and neither its number of cells
    nor the sizes of its modes limit it: a sweep reads the listed cells once for each mode, sorted along that mode, and
    the error comes from norms and inner products. Starts are leading singular vectors of the unfoldings, found by block
    power iterations, the decomposition of the small core in their range, and random factors; they run a few sweeps
    each, and the best goes on.

    Args:
        data: observations whose rest is zero, real or complex. With weights, rows no longer share a normal matrix, and
            `als`, which gives each its own, does the work.
        structure: one inner index that lies on every core; each output on one core. The rank may exceed every mode.
        error: stop once the relative error is as small as this.
        init: where to start instead, a network of this structure.
        seed: for the random starts.
        max_sweeps: at most so many sweeps after the starts.
        tol: stop when two sweeps running change the error by less than this part of it.
        callback: called after each sweep.
        starts: how many random starts there are beside those computed from the data; None for up to four, the fewer
            the longer a sweep takes.

    Returns:
        The network with the columns of all factors balanced, its true error (below 1e-7 that is known to about 1e-8,
        because norms cancel), and the error after each sweep. Rows of factors whose slices have no entry are zero.

    Raises:
        StructureError: the structure is not CP, or ``init`` is of another one.
        DataError: another shape, a whole array, or observations whose rest is unknown.
        TenfoldError: ``starts`` is not from 0 to 1000.

    Cost: ``N^2 n R`` multiplications a sweep for n listed cells of order N; memory for ``N`` sorted copies of them
    and for the factors.
    Paper: "Efficient MATLAB computations with sparse and factored tensors", 2008.
    """
    if starts is not None and not 0 <= starts <= _MOST_STARTS:
        raise TenfoldError(f"starts must be from 0 to {_MOST_STARTS}, or None, not {starts}")
    if isinstance(data, Observations) and data.rest == "zero" and weighted(data):
        return als(
            data, structure, error=error, init=init, seed=seed, max_sweeps=max_sweeps, tol=tol, callback=callback
        )
    problem = SparseProblem.of(data, structure, "cp_als_sparse")
    if init is not None and init.structure != structure:
        raise StructureError(f"init has structure '{init.structure}', not '{structure}'")
    if problem.norm2 == 0:
        return Decomposition(problem.zero(), 0.0, (), "exact")
    errors: list[float] = []

    def report(state: State, reached: float, number: int) -> None:
        errors.append(reached)
        if callback is not None:
            callback(Progress(reached, number, max_sweeps, lambda: problem.network(state)))

    found = iterate(
        problem.sweep,
        problem.start(init) if init is not None else _best_start(problem, seed, starts, error),
        error=error,
        tol=tol,
        max_sweeps=max_sweeps,
        accelerate=problem.numbers <= _ACCELERATED,
        report=report,
    )
    network = problem.network(found.state)
    return Decomposition(network, problem.error(found.state, network), tuple(errors), found.stopped)


def _best_start(problem: SparseProblem, seed: int, starts: int | None, error: float | None) -> State:
    """The start that is ahead of the others a few sweeps on."""
    generator = torch.Generator().manual_seed(seed)
    states = problem.computed(generator)
    count = min(_RANDOM_STARTS, _START_WORK // problem.work) if starts is None else starts
    states += [problem.random(generator) for _ in range(count)]
    if len(states) == 1:
        return states[0]
    accelerate = problem.numbers <= _ACCELERATED
    for sweeps in _ROUNDS:
        runs = [
            iterate(problem.sweep, state, error=error, tol=1e-7, max_sweeps=sweeps, accelerate=accelerate)
            for state in states
        ]
        runs.sort(key=lambda run: run.errors[-1])
        states = [run.state for run in runs[: -(-len(runs) // 2)]]
        if error is not None and runs[0].errors[-1] <= error:
            break
    return states[0]
