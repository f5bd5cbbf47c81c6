"""Canonical polyadic decomposition by least squares on few rows, drawn by leverage scores."""

from __future__ import annotations

import math
from functools import partial
from typing import Protocol

import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from tenfold.decomposition._anderson import iterate
from tenfold.decomposition._arrays import whole_array
from tenfold.decomposition._cp_layout import Canonical
from tenfold.decomposition._cp_sparse import SparseProblem
from tenfold.decomposition._error import relative_error
from tenfold.decomposition._factor_matrices import (
    Factors,
    balanced,
    lines,
    random_factors,
    squared,
    to_cores,
    to_factors,
)
from tenfold.decomposition._leverage import draw, leverage
from tenfold.decomposition._normal import solve_normal
from tenfold.decomposition._registry import Callback, Data, Decomposition, Progress, method
from tenfold.decomposition._sparse import Fibres, entries
from tenfold.decomposition.cp_als import cp_als
from tenfold.errors import StructureError, TenfoldError
from tenfold.network import Network
from tenfold.observations import Observations
from tenfold.structure import Structure

# Sampled sweeps between two looks at the error, and looks without a better one until the exact sweeps.
_EPOCH, _PATIENCE = 5, 3
# Entries that the error is estimated from.
_LOOKED_AT = 2**14
# Samples for each update, unless the rank asks for more, and for arrays with so many entries and more.
_FEW, _MANY, _LARGE = 2**13, 2**17, 10**7
# More than these would cost more than exact sweeps do.
_MOST_SAMPLES = 10**8
# Random starts; the one that is ahead after an epoch goes on.
_STARTS = 5
# Numbers gathered from a whole array at once (128 MiB of float64).
_GATHERED = 2**24


@method("cp_als_sampled", takes=("array", "sparse"))
@torch.no_grad()
def cp_als_sampled(
    data: Data,
    structure: Structure,
    *,
    error: float | None = None,
    init: Network | None = None,
    seed: int = 0,
    max_sweeps: int = 50,
    tol: float = 1e-4,
    callback: Callback | None = None,
    samples: int | None = None,
    exact_sweeps: int = 2,
) -> Decomposition:
    """Alternating least squares for CP in which each update solves a sample of its equations.

    The rows of the Khatri-Rao product are drawn by products of the leverage scores of the factors, the most probable
    ones taken for certain, and only the fibres of the data that belong to them are read: the cost of an update does not
    grow with the number of entries. After five such sweeps, an epoch, the error is estimated from a fixed sample of the
    entries; when that no longer falls, sweeps of exact alternating least squares follow.

    Args:
        data: a whole array or observations whose rest is zero, real or complex, without weights.
        structure: one inner index that lies on every core; each output on one core. The rank may exceed every mode.
        error: stop once the relative error is as small as this; before the exact sweeps that is the estimate.
        init: where to start instead, a network of this structure.
        seed: for the random starts and all samples.
        max_sweeps: at most so many epochs, and so many exact sweeps.
        tol: the epochs end when three of them lower the estimate by less than this part of it.
        callback: called after each epoch and each exact sweep.
        samples: rows for each update, at least four times the rank; by default 8,192 or 20 R log R if that is more,
            and 131,072 for data of ten million entries and more.
        exact_sweeps: how many follow the sampled ones; 0 for none.

    Returns:
        The network with the columns of all factors balanced, its true error, and the error after each epoch (an
        estimate, the smallest so far) and each exact sweep.

    Raises:
        StructureError: the structure is not CP, or ``init`` is of another one.
        DataError: NaN or infinite entries, another shape, weights, or observations whose rest is unknown.
        TenfoldError: ``samples`` or ``exact_sweeps`` is too small.

    Cost: for s samples, ``s R^2 + s n R`` flops for an update of a mode of size n, less where the data is sparse, and
    ``n R^2`` for the scores; the exact sweeps as in `cp_als` and `cp_als_sparse`.
    Paper: "Practical leverage-based sampling for low-rank tensor decomposition", 2022.
    """
    family = Canonical.of(structure, method="cp_als_sampled")
    if init is not None and init.structure != structure:
        raise StructureError(f"init has structure '{init.structure}', not '{structure}'")
    if samples is not None and samples < 4 * family.rank:
        raise TenfoldError(f"samples {samples} is too few for rank {family.rank}; give {4 * family.rank} or more")
    if samples is not None and samples > _MOST_SAMPLES:
        raise TenfoldError(f"samples {samples} is too many; give at most {_MOST_SAMPLES}")
    if exact_sweeps < 0:
        raise TenfoldError(f"exact_sweeps {exact_sweeps} is negative; give 0 for none")
    source = _of(data, family)
    if source.norm2 == 0:
        zeros = [torch.zeros(n, family.rank, dtype=source.dtype) for n in source.shape]
        return Decomposition(source.network(zeros), 0.0, (), "exact")
    if samples is None:
        some = _MANY if source.entries >= _LARGE else _FEW
        samples = max(some, math.ceil(20 * family.rank * math.log(family.rank + 1)))
    generator = torch.Generator().manual_seed(seed)
    source.look(generator)
    state, errors, stopped = _sampled(source, init, samples, error, max_sweeps, tol, callback, generator)
    network = source.network(state)
    if not exact_sweeps:
        return Decomposition(network, source.error(state, network), tuple(errors), stopped)
    done = len(errors)

    def go_on(progress: Progress) -> None:
        if callback is not None:
            callback(Progress(progress.error, done + progress.sweep, done + exact_sweeps, progress.network))

    exact = source.exact(state, network, error, min(exact_sweeps, max_sweeps), go_on)
    if exact.stopped == "error":
        stopped = "error"
    return Decomposition(exact.network, exact.error, (*errors, *exact.errors), stopped)


class _Source(Protocol):
    """Data that can be read in part; factors have a row for each of ``shape``."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    norm2: float
    entries: int

    def right(self, mode: int, rows: Tensor, lines: Tensor) -> Tensor:
        """The fibres along ``mode`` at the rows of the others, times ``lines``, a row for each."""
        ...

    def look(self, generator: torch.Generator) -> None:
        """Choose the entries that the error is estimated from."""
        ...

    def estimate(self, factors: Factors) -> float:
        """The relative error, from those entries."""
        ...

    def fibres(self, count: int, generator: torch.Generator) -> Factors:
        """Factors of random combinations of so many random fibres."""
        ...

    def start(self, network: Network) -> Factors: ...

    def network(self, factors: Factors) -> Network: ...

    def error(self, factors: Factors, network: Network) -> float: ...

    def exact(
        self, factors: Factors, network: Network, error: float | None, sweeps: int, callback: Callback
    ) -> Decomposition: ...


def _sampled(
    source: _Source,
    init: Network | None,
    samples: int,
    error: float | None,
    max_sweeps: int,
    tol: float,
    callback: Callback | None,
    generator: torch.Generator,
) -> tuple[Factors, list[float], str]:
    """Epochs from the best start until the estimate no longer falls: the best factors, the estimates, why it ended."""
    count = max(samples // 16, 1)
    starts = [source.start(init)] if init is not None else [source.fibres(count, generator) for _ in range(_STARTS)]
    tried = []
    for start in starts:
        state = _epoch(source, start, samples, generator)
        tried.append((source.estimate(state), state))
    lowest, best = min(tried, key=lambda one: one[0])
    state, errors, idle, stopped = best, [lowest], 0, "max_sweeps"
    while True:
        if callback is not None:
            callback(Progress(lowest, len(errors), max_sweeps, partial(source.network, best)))
        if error is not None and lowest <= error:
            stopped = "error"
        elif idle >= _PATIENCE:
            stopped = "tol"
        if stopped != "max_sweeps" or len(errors) >= max_sweeps:
            return best, errors, stopped
        state = _epoch(source, state, samples, generator)
        reached = source.estimate(state)
        idle = 0 if reached < lowest * (1 - tol) else idle + 1
        if reached < lowest:
            lowest, best = reached, state
        errors.append(lowest)


def _epoch(source: _Source, start: Factors, samples: int, generator: torch.Generator) -> Factors:
    """Some sweeps in which each factor solves a sample of its equations."""
    factors = list(start)
    scores = [leverage(factor) for factor in factors]
    for _ in range(_EPOCH):
        for mode in range(len(factors)):
            others = [m for m in range(len(factors)) if m != mode]
            drawn = draw([scores[m] for m in others], samples, generator)
            chosen = lines([factors[m] for m in others], drawn.rows.unbind(1))
            heavy = chosen.conj() * drawn.weights.to(chosen.dtype.to_real())[:, None]
            double = torch.promote_types(chosen.dtype, torch.float64)
            normal = heavy.to(double).T @ chosen.to(double)
            factors[mode] = solve_normal(normal, source.right(mode, drawn.rows, heavy).T).T.contiguous()
            scores[mode] = leverage(factors[mode])
        factors = balanced(factors)
    return factors


class _Whole:
    """A whole array; entries and fibres are gathered from it."""

    def __init__(self, data: Tensor, family: Canonical) -> None:
        self.data, self.family = data, family
        self.whole = whole_array(data, family.structure, "cp_als_sampled")
        self.tensor = family.modes(self.whole.tensor)
        self.shape = tuple(self.tensor.shape)
        self.dtype, self.norm2, self.entries = self.tensor.dtype, self.whole.norm2, self.tensor.numel()

    def right(self, mode: int, rows: Int[Tensor, "s K"], lines: Shaped[Tensor, "s r"]) -> Shaped[Tensor, "n r"]:
        last = self.tensor.movedim(mode, -1)
        step = max(1, _GATHERED // self.shape[mode])
        total = torch.zeros(self.shape[mode], lines.shape[1], dtype=self.dtype)
        for some, line in zip(rows.split(step), lines.split(step), strict=True):
            total += last[tuple(some.unbind(1))].T @ line
        return total

    def look(self, generator: torch.Generator) -> None:
        if self.entries <= _LOOKED_AT:
            grid = torch.meshgrid([torch.arange(n) for n in self.shape], indexing="ij")
            self.cells = [axis.reshape(-1) for axis in grid]
        else:
            self.cells = [torch.randint(n, (_LOOKED_AT,), generator=generator) for n in self.shape]

    def estimate(self, factors: Factors) -> float:
        found = lines(factors, self.cells).sum(1)
        square = float(torch.linalg.vector_norm(found - self.tensor[tuple(self.cells)], dtype=_double(self.dtype))) ** 2
        return math.sqrt(square * self.entries / len(found) / self.norm2)

    def fibres(self, count: int, generator: torch.Generator) -> Factors:
        factors = []
        for mode in range(len(self.shape)):
            others = [n for m, n in enumerate(self.shape) if m != mode]
            rows = torch.stack([torch.randint(n, (count,), generator=generator) for n in others], 1)
            (mixing,) = random_factors([count], self.family.rank, self.dtype, generator)
            factors.append(self.right(mode, rows, mixing))
        return balanced(factors)

    def start(self, network: Network) -> Factors:
        factors = to_factors(self.family, [core.to(self.dtype) for core in network.cores])
        factors[0] = factors[0] / self.whole.scale
        return balanced(factors)

    def network(self, factors: Factors) -> Network:
        cores = to_cores(self.family, factors)
        return Network(self.family.structure, self.whole.finish(cores))

    def error(self, factors: Factors, network: Network) -> float:
        return relative_error(self.data, network)

    def exact(
        self, factors: Factors, network: Network, error: float | None, sweeps: int, callback: Callback
    ) -> Decomposition:
        return cp_als(
            self.data, self.family.structure, init=network, error=error, max_sweeps=sweeps, tol=0.0, callback=callback
        )


class _Sparse:
    """Listed cells; of a fibre only those are found."""

    def __init__(self, data: Observations, family: Canonical) -> None:
        self.problem = SparseProblem.of(data, family.structure, "cp_als_sampled")
        self.family = family
        self.array = self.problem.array
        self.shape, self.dtype = self.array.shape, self.array.values.dtype
        self.norm2, self.entries = self.problem.norm2, len(self.array.values)
        self.listed: dict[int, Fibres] = {}

    def right(self, mode: int, rows: Int[Tensor, "s K"], lines: Shaped[Tensor, "s r"]) -> Shaped[Tensor, "n r"]:
        if mode not in self.listed:
            self.listed[mode] = self.array.pattern.fibres(mode)
        sample, cells = self.listed[mode].find(rows)
        terms = self.array.values[cells, None] * lines[sample]
        total = torch.zeros(self.shape[mode], lines.shape[1], dtype=self.dtype)
        return total.index_add(0, self.array.pattern.columns[mode][cells], terms)

    def look(self, generator: torch.Generator) -> None:
        self.cells = torch.randperm(self.entries, generator=generator)[:_LOOKED_AT]
        self.columns = [column[self.cells] for column in self.array.pattern.columns]

    def estimate(self, factors: Factors) -> float:
        """Zeros are looked at by the norm of the network, all of them; only the listed cells are a sample.

        ``|N|^2 - |X|^2 + 2 Re <X, X - N>`` is the squared residual, and where the fit is good its last term, the only
        one from a sample, is small.
        """
        double = _double(self.dtype)
        values = self.array.values[self.cells].to(double)
        overlap = float(torch.vdot(values, values - entries(self.columns, factors).to(double)).real)
        square = squared(factors) - self.norm2 + 2 * overlap * self.entries / len(values)
        return math.sqrt(max(square, 0.0) / self.norm2)

    def fibres(self, count: int, generator: torch.Generator) -> Factors:
        factors = []
        for mode in range(len(self.shape)):
            cells = torch.randint(self.entries, (count,), generator=generator)
            rows = torch.stack([column[cells] for m, column in enumerate(self.array.pattern.columns) if m != mode], 1)
            (mixing,) = random_factors([count], self.family.rank, self.dtype, generator)
            factors.append(self.right(mode, rows.long(), mixing))
        return balanced(factors)

    def start(self, network: Network) -> Factors:
        return self.problem.start(network)

    def network(self, factors: Factors) -> Network:
        return self.problem.network(factors)

    def error(self, factors: Factors, network: Network) -> float:
        return self.problem.error(factors, network)

    def exact(
        self, factors: Factors, network: Network, error: float | None, sweeps: int, callback: Callback
    ) -> Decomposition:
        def report(state: Factors, reached: float, number: int) -> None:
            callback(Progress(reached, number, sweeps, lambda: self.network(state)))

        found = iterate(
            self.problem.sweep, factors, error=error, tol=0.0, max_sweeps=sweeps, accelerate=False, report=report
        )
        network = self.network(found.state)
        return Decomposition(network, self.error(found.state, network), found.errors, found.stopped)


def _of(data: Data, family: Canonical) -> _Source:
    return _Sparse(data, family) if isinstance(data, Observations) else _Whole(data, family)


def _double(dtype: torch.dtype) -> torch.dtype:
    return torch.complex128 if dtype.is_complex else torch.float64
