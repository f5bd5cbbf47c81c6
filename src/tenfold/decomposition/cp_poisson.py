"""Nonnegative canonical polyadic decomposition of counts: Poisson likelihood, which is Kullback-Leibler divergence."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from tenfold.contraction import contract
from tenfold.decomposition._cp_factors import balanced, gram, khatri_rao
from tenfold.decomposition._cp_layout import Canonical
from tenfold.decomposition._error import relative_error, split_axes, squared_norm
from tenfold.decomposition._objective import descend
from tenfold.decomposition._registry import Callback, Data, Decomposition, Progress, method
from tenfold.decomposition._two_groups import factors_of
from tenfold.errors import DataError, StructureError
from tenfold.network import Network
from tenfold.observations import Observations
from tenfold.structure import Structure

# Passes over the coordinates of a row before the next mode.
_PASSES = 5
# Whole arrays with fewer entries above zero than this part are treated as sparse ones.
_SPARSE = 0.4
# Random starts, fewer for much data, and rounds of sweeps after which the better third of them goes on.
_RANDOM_STARTS = 12
_START_WORK = 10**8
_ROUNDS = (4, 10)
# Data whose largest entry is outside of this range is scaled.
_RANGE = (1e-60, 1e60)


@method("cp_poisson", takes=("array", "sparse"), nonnegative=True)
@torch.no_grad()
def cp_poisson(
    data: Data,
    structure: Structure,
    *,
    error: float | None = None,
    init: Network | None = None,
    seed: int = 0,
    max_sweeps: int = 500,
    tol: float = 1e-5,
    callback: Callback | None = None,
) -> Decomposition:
    """Canonical polyadic decomposition with nonnegative factors that makes counts most likely.

    Every entry is taken for a Poisson variable whose mean is that of the network, so what is minimised is the
    Kullback-Leibler divergence ``sum x log(x / m) - x + m``, and not the error, which may go up (`poisson_deviance` is
    twice the divergence). Each row of a factor is a convex problem of its own; a few passes of coordinate descent, each
    step of which has a closed form and never raises the divergence, are made before the next mode. Of a sparse array
    only the entries that are listed are touched; whole arrays that are mostly zero are treated as one. Sweeps are
    accelerated like those of ``cp_als``.

    Args:
        data: an array or a sparse array (``Observations`` with rest ``"zero"``), nowhere negative; whole numbers are
            not required.
        structure: one inner index that lies on every core; each output on one core.
        error: stop once the relative error is as small as this.
        init: where to start instead, a network of this structure; zeros and negative entries of it are made small.
        seed: for the random starts.
        max_sweeps: at most so many sweeps after the starts.
        tol: stop when two sweeps running change the root of the divergence by less than this part of it.
        callback: called after each sweep, with the relative error.

    Returns:
        The network with the columns of all factors balanced, its true relative Frobenius error, that after each sweep,
        and the deviance.

    Raises:
        StructureError: the structure is not CP, or ``init`` is of another one.
        DataError: negative, complex, NaN or infinite entries, missing cells, weights, or another shape.

    Cost: about ``10 nnz R`` fractions a mode and sweep, with ``nnz`` the entries above zero.
    Papers: "On tensors, sparsity, and nonnegative factorizations", 2012; "Fast coordinate descent methods with variable
    selection for non-negative matrix factorization", 2011.
    """
    layout = Canonical.of(structure, "cp_poisson")
    if init is not None and init.structure != structure:
        raise StructureError(f"init has structure '{init.structure}', not '{structure}'")
    counts = _Counts.of(data, layout)
    dtype, device = data.dtype, data.device

    def network(state: Sequence[Tensor], scale: float = counts.scale) -> Network:
        cores = layout.cores(state)
        cores[layout.order[0]] = cores[layout.order[0]] * scale
        return Network(structure, [core.to(device, dtype).contiguous() for core in cores])

    if counts.total == 0:
        zeros = [torch.zeros(layout.rank, extent, dtype=torch.float64) for extent in counts.shape]
        return Decomposition(network(zeros), 0.0, (), "exact", 0.0)
    if init is None:
        start = _best_start(counts, layout.rank, seed, error)
    else:
        start = factors_of(layout, [core.double().cpu() for core in init.cores])
        start[0] = start[0] / counts.scale
        # Where all are zero any size will do.
        start = [factor.clamp(min=1e-8 * float(factor.abs().max()) or 1e-8) for factor in start]
    errors: list[float] = []

    def report(state: list[Tensor], reached: float, number: int) -> None:
        errors.append(reached)
        if callback is not None:
            callback(Progress(reached, number, max_sweeps, lambda: network(state)))

    found = descend(counts.sweep, start, error=error, tol=tol, max_sweeps=max_sweeps, report=report)
    made = network(found.state)
    deviance = poisson_deviance(data, made)
    return Decomposition(made, relative_error(data, made), tuple(errors), found.stopped, deviance)


def poisson_deviance(data: Data, network: Network) -> float:
    """Twice the logarithm of how much likelier counts are under their own values than under a network's.

    ``2 sum x log(x / m) - x + m``, over all cells of an array or a sparse array, over what is observed otherwise.
    Infinite where the network is zero or less under a count. For counts that the network does describe it is about the
    number of cells, less the parameters, if the counts are not small.

    Raises:
        DataError: negative entries, or another shape than the network's.
    """
    listed = split_axes(data, network.structure)
    wide = Network(network.structure, [core.detach().double() for core in network.cores])
    if isinstance(listed, Observations):
        assert isinstance(data, Observations)
        values, model = data.values.double(), wide.at(data.coordinates)
        if data.rest == "zero":
            structure = network.structure
            terms = [(core.indices, wide.cores[n]) for n, core in enumerate(structure.cores) for _ in core.terms]
            total = float(contract(terms, ()))
        else:
            total = float(model.sum())
    else:
        values, model = listed.double().reshape(-1), wide.dense().reshape(-1)
        total = float(model.sum())
    _refuse_negative(values)
    above = values > 0
    values, model = values[above], model[above]
    if bool((model <= 0).any()):
        return math.inf
    return max(2 * (float((values * (values / model).log() - values).sum()) + total), 0.0)


class _Counts(ABC):
    """Nonnegative data over ``scale``, one axis for each mode; factors are rank x mode and in double precision."""

    shape: tuple[int, ...]
    scale: float
    norm2: float
    total: float
    self_log: float

    @staticmethod
    def of(data: Data, layout: Canonical) -> _Counts:
        listed = split_axes(data, layout.structure)
        if isinstance(listed, Observations):
            if listed.rest != "zero":
                raise DataError("method 'cp_poisson' takes no missing cells; use one that does, such as 'als'")
            if listed.weights is not None:
                raise DataError("method 'cp_poisson' takes no weights; leave them out")
            values = _checked(listed.values)
            coordinates = listed.coordinates.cpu().numpy()
            return _Sparse.listed(coordinates, values, layout)
        values = _checked(listed)
        if int((values > 0).sum()) < _SPARSE * values.numel():
            coordinates = (values > 0).nonzero().numpy()
            return _Sparse.listed(coordinates, values[values > 0], layout)
        scale = _scale(values)
        return _Whole(layout.modes(values) / scale, scale)

    @abstractmethod
    def rows(self, mode: int, factors: list[Tensor], sums: Tensor, summed: bool) -> tuple[Tensor, float, float]:
        """The new factor of a mode, and (of the last one) ``sum x log m`` and ``sum x m``."""

    @property
    @abstractmethod
    def work(self) -> int:
        """How many entries a sweep goes through."""

    def _note(self, values: Tensor) -> None:
        """What of the data alone is needed."""
        self.norm2 = squared_norm(values)
        self.total = math.fsum(float(part.sum()) for part in values.reshape(-1).split(2**20))
        self.self_log = math.fsum(float(torch.xlogy(part, part).sum()) for part in values.reshape(-1).split(2**20))

    def sweep(self, state: Sequence[Tensor]) -> tuple[list[Tensor], float, float]:
        """Every mode once; the root of the divergence for each count, twice, and the relative error."""
        factors = [factor.clamp(min=0) for factor in state]
        logs = overlap = 0.0
        for mode in range(len(factors)):
            sums = reduce(torch.mul, [factor.sum(1) for other, factor in enumerate(factors) if other != mode])
            factors[mode], logs, overlap = self.rows(mode, factors, sums, mode == len(factors) - 1)
        mass = float(reduce(torch.mul, [factor.sum(1) for factor in factors]).sum())
        divergence = self.self_log - logs - self.total + mass
        square = self.norm2 - 2 * overlap + float(reduce(torch.mul, [gram(factor) for factor in factors]).sum())
        objective = math.sqrt(max(2 * divergence / self.total, 0.0))
        return balanced(factors), objective, math.sqrt(max(square, 0.0) / self.norm2)


@dataclass
class _Whole(_Counts):
    """An array of which most entries are above zero."""

    tensor: Tensor
    scale: float

    def __post_init__(self) -> None:
        self.shape = tuple(self.tensor.shape)
        self._note(self.tensor)

    @property
    def work(self) -> int:
        return self.tensor.numel()

    def rows(self, mode: int, factors: list[Tensor], sums: Tensor, summed: bool) -> tuple[Tensor, float, float]:
        from tenfold.decomposition._poisson_rows import dense_rows

        others = [other for other in range(len(factors)) if other != mode]
        unfolded = self.tensor.movedim(mode, 0).reshape(self.shape[mode], -1).contiguous()
        made = factors[mode].T.contiguous()
        found = dense_rows(
            made.numpy(), sums.numpy(), unfolded.numpy(), khatri_rao(factors, others).numpy(), _PASSES, summed
        )
        return made.T.contiguous(), *found


@dataclass
class _Sparse(_Counts):
    """Listed entries: for each mode in the order of its indices, with where the other factors' rows are."""

    shape: tuple[int, ...]
    scale: float
    values: list[Tensor]
    starts: list[Int64[np.ndarray, " rows"]]
    places: list[Int64[np.ndarray, "n others"]]

    @classmethod
    def listed(cls, coordinates: Int64[np.ndarray, "n N"], values: Tensor, layout: Canonical) -> _Sparse:
        structure, outside = layout.structure, layout.structure.output_indices
        scale = _scale(values)
        values = values / scale
        columns, shape = [], []
        for number in layout.order:
            own = [index for index in structure.cores[number].indices if index != layout.index]
            sizes = [structure.sizes[index] for index in own]
            picked = tuple(coordinates[:, outside.index(index)] for index in own)
            columns.append(np.ravel_multi_index(picked, sizes) if own else np.zeros(len(coordinates), np.int64))
            shape.append(math.prod(sizes))
        ordered, starts, places = [], [], []
        for mode, column in enumerate(columns):
            order = np.argsort(column, kind="stable")
            others = [other for other in range(len(shape)) if other != mode]
            offsets = np.cumsum([0, *[shape[other] for other in others[:-1]]])
            ordered.append(values[torch.from_numpy(order)])
            starts.append(np.searchsorted(column[order], np.arange(shape[mode] + 1)))
            places.append(np.stack([columns[o][order] + f for o, f in zip(others, offsets, strict=True)], axis=1))
        return cls(tuple(shape), scale, ordered, starts, places)

    def __post_init__(self) -> None:
        self._note(self.values[0])

    @property
    def work(self) -> int:
        return len(self.values[0])

    def rows(self, mode: int, factors: list[Tensor], sums: Tensor, summed: bool) -> tuple[Tensor, float, float]:
        from tenfold.decomposition._poisson_rows import sparse_rows

        made = factors[mode].T.contiguous()
        table = torch.cat([factor.T for other, factor in enumerate(factors) if other != mode]).contiguous()
        found = sparse_rows(
            made.numpy(),
            sums.numpy(),
            self.starts[mode],
            self.places[mode],
            self.values[mode].numpy(),
            table.numpy(),
            _PASSES,
            summed,
        )
        return made.T.contiguous(), *found


def _checked(values: Tensor) -> Tensor:
    if values.is_complex():
        raise DataError(f"data is {values.dtype}, but counts are real; give its absolute values")
    values = values.detach().double().cpu()
    if not bool(torch.isfinite(values).all()):
        bad = int((~torch.isfinite(values)).sum())
        raise DataError(f"data has {bad:,} entries that are NaN or infinite; cp_poisson needs every entry")
    _refuse_negative(values)
    return values


def _refuse_negative(values: Tensor) -> None:
    if values.numel() and float(values.min()) < 0:
        count = int((values < 0).sum())
        raise DataError(f"data has {count:,} negative entries (down to {float(values.min()):g}), but counts have none")


def _scale(values: Tensor) -> float:
    peak = float(values.max()) if values.numel() else 0.0
    return 1.0 if peak == 0 or _RANGE[0] < peak < _RANGE[1] else 2.0 ** (math.frexp(peak)[1] - 1)


def _best_start(counts: _Counts, rank: int, seed: int, error: float | None) -> list[Tensor]:
    """Of some random factors that add up to what the data does, those that are ahead a few sweeps on."""
    generator = torch.Generator().manual_seed(seed)
    states = []
    for _ in range(max(1, min(_RANDOM_STARTS, _START_WORK // (counts.work * rank * len(counts.shape))))):
        factors = [0.1 + torch.rand(rank, n, generator=generator, dtype=torch.float64) for n in counts.shape]
        factors = [factor / factor.sum(1, keepdim=True) for factor in factors]
        factors[0] = factors[0] * (counts.total / rank)
        states.append(balanced(factors))
    for sweeps in _ROUNDS:
        runs = [descend(counts.sweep, state, error=error, tol=1e-7, max_sweeps=sweeps) for state in states]
        runs.sort(key=lambda run: run.errors[-1])
        states = [run.state for run in runs[: -(-len(runs) // 3)]]
    return states[0]
