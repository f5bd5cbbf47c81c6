"""Low-rank matrices by robust alternating minimisation: rows solved approximately, ridges that the data choose."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import scipy.sparse
import torch
from jaxtyping import Float, Int
from torch import Tensor

from tenfold.completion._registry import Callback, Step, method
from tenfold.completion.model import Prediction, State
from tenfold.completion.task import Task
from tenfold.errors import TenfoldError
from tenfold.linalg.least_squares import Gathered, Solver, gathered_least_squares, gathered_products, gathered_variances

# From this rank on rows are solved approximately where no solver is named.
_LARGE = 24
# Components at most where no rank is given.
_MOST = 20
# Of the start: rounds of the power iteration, and columns more than components.
_ROUNDS, _MORE = 6, 8
# A part of the mean square that begins as noise.
_NOISE = 0.1
# The degrees of freedom are taken for at most this part of the observations.
_FREE = 0.95
# A change of the fit that is rounding, and noise that is none, relative to the values (squared).
_ROUNDING = 1e-15
_LEAST = 1e-30
# Components vanish when the squares of their means are this part of their variances.
_VANISHED = 1e-3
# Noise below this, relative to the values (squared), would make posterior variances rounding errors.
_SEEN = 1e-11
# Errors of the other factor count for at most this part of the noise.
_PART = 0.5


@dataclass(frozen=True, eq=False)
class _Factors:
    """Means and variances of the two factors, of components that are orthogonal, in units of the values.

    Attributes:
        rows: of the first mode; their scale is that of the values.
        columns: of the second mode; each component has a mean square of one, its variance included.
        row_variances: of the entries of ``rows``, given the columns; the same of ``columns``.
        row_prior: variance that each component has over the rows; the same over the columns.
        noise: variance of an observation of weight one.
    """

    rows: Float[Tensor, "n k"]
    columns: Float[Tensor, "m k"]
    row_variances: Float[Tensor, "n k"]
    column_variances: Float[Tensor, "m k"]
    row_prior: Float[Tensor, " k"]
    column_prior: Float[Tensor, " k"]
    noise: float


@dataclass(frozen=True, eq=False, repr=False)
class LowRankMatrix:
    """A matrix of low rank with the posterior of its factors; a `tenfold.completion.Model`."""

    factors: _Factors
    observed: Int[Tensor, "N 2"]
    weights: Float[Tensor, " N"]
    ridge: float | None
    errors: tuple[float, ...]
    stopped: str
    evidence: float | None

    @property
    def parameters(self) -> int:
        """Numbers that describe a matrix of this rank."""
        (n, k), m = self.factors.rows.shape, len(self.factors.columns)
        return k * (n + m - k)

    @property
    def rank(self) -> int:
        return self.factors.rows.shape[1]

    def __repr__(self) -> str:
        n, m = len(self.factors.rows), len(self.factors.columns)
        return (
            f"LowRankMatrix({n} × {m} of rank {self.rank}, {len(self.errors)} epochs, residuals {self.errors[-1]:.3g}, "
            f"noise {math.sqrt(self.factors.noise):.3g})"
        )

    def predict(self, coordinates: Float[Tensor, "q 2"], attributes: Tensor | None = None) -> Prediction:
        """The matrix at these places, with what either factor's uncertainty does to it.

        The variance is that of the row given the columns plus that of the column given the rows. To the entries of a
        row, errors of the columns are noise too: its variance is larger by ``1 / (1 - s)``, where s is the part of the
        noise that they make up there, and so is that of a column.

        Cost: k^2 for each observation in the rows and columns asked for, k^3 for each of these, k^2 for each place.
        """
        f = self.factors
        i, j = coordinates.long().unbind(1)
        u, v = f.rows[i], f.columns[j]
        noise = max(f.noise, _SEEN * float(f.row_prior.sum()))
        (by_row, row_ridge, row_growth), (by_column, column_ridge, column_growth) = self._problems
        spread = row_growth[i] * gathered_variances(f.columns, by_row, row_ridge, i, v)
        spread += column_growth[j] * gathered_variances(f.rows, by_column, column_ridge, j, u)
        both = (f.row_variances[i] * f.column_variances[j]).sum(1)
        return Prediction((u * v).sum(1), noise * spread + both, torch.tensor(f.noise, dtype=torch.float64))

    @cached_property
    def _problems(self) -> tuple[tuple[Gathered, Tensor, Tensor], ...]:
        """For each mode its least-squares problems, their ridges, and how much larger variances are for the other."""
        f = self.factors
        noise = max(f.noise, _SEEN * float(f.row_prior.sum()))
        blank = torch.zeros_like(self.weights)
        sides = (
            (0, f.rows, f.column_variances, f.row_prior),
            (1, f.columns, f.row_variances, f.column_prior),
        )
        result = []
        for mode, means, variances, prior in sides:
            groups, others = self.observed[:, mode], self.observed[:, 1 - mode]
            problems = Gathered.by(groups, len(means), others, blank, self.weights)
            summed = _summed(problems, variances)
            total = torch.bincount(groups, self.weights, minlength=len(means)).clamp(min=_LEAST)
            part = (means.square() * summed).sum(1) / (noise * total)
            ridge = summed + noise / prior.clamp(min=_LEAST)
            result.append((problems, ridge, 1 / (1 - part.clamp(max=_PART))))
        return tuple(result)

    def state(self) -> State:
        """Everything, the places of the observations included."""
        return _state(self.factors, self.observed, self.weights, self.errors, self.ridge, self.stopped, self.evidence)


def restore(state: State) -> LowRankMatrix:
    """The model of a state."""
    tensors, facts = state.tensors, state.facts
    factors = _Factors(**{name: tensors[name] for name in _NAMES}, noise=facts["noise"])
    return LowRankMatrix(
        factors,
        tensors["observed"].long(),
        tensors["weights"],
        facts["ridge"],
        tuple(facts["errors"]),
        facts["stopped"],
        facts["evidence"],
    )


_NAMES = ("rows", "columns", "row_variances", "column_variances", "row_prior", "column_prior")


def _state(
    factors: _Factors,
    observed: Tensor,
    weights: Tensor,
    errors: tuple[float, ...],
    ridge: float | None,
    stopped: str,
    evidence: float | None,
) -> State:
    tensors = {name: getattr(factors, name) for name in _NAMES}
    facts = {"noise": factors.noise, "errors": list(errors), "ridge": ridge, "stopped": stopped, "evidence": evidence}
    return State({**tensors, "observed": observed.to(torch.int32), "weights": weights}, facts)


@method("alternating_minimization", restore=restore, orders=(2,))
def alternating_minimization(
    task: Task,
    *,
    rank: int | None = None,
    seed: int = 0,
    epochs: int = 200,
    tol: float = 1e-6,
    callback: Callback | None = None,
    resume: State | None = None,
    solver: Solver | None = None,
    steps: int = 3,
    ridge: float | None = None,
    split: bool = False,
    incoherence: float = 2.0,
) -> LowRankMatrix:
    """A matrix of low rank from some of its entries: least squares for the rows of one factor, then of the other.

    The start are the leading singular vectors of what is observed with zeros elsewhere, with rows that are too long
    cut (``incoherence``). The method contracts the error even where each row is solved with an error of its own; so
    rows may be solved approximately, and an epoch takes a time proportional to observations times rank.

    By default the ridges are those of a variational posterior in which entries of the factors are independent: noise,
    the spread of each component and the variances of the other factor make them, so components that the data do not
    support vanish, and rows with few observations are drawn to zero. Without noise they vanish by themselves.

    Args:
        task: two discrete modes. Rows of which nothing is observed get their prior.
        rank: components; None takes up to 20 (fewer where observations are few) and lets those without support vanish.
        seed: of the start, of sketches and of splits.
        epochs: sweeps at most.
        tol: stop when a sweep changes the fitted values by less than this, relative to their root mean square.
        callback: called after every sweep.
        resume: a state to go on from.
        solver: of rows, one of `tenfold.linalg.least_squares`: ``"exact"``, ``"cg"`` or ``"sketched"``; by default
            exact below rank 24, then conjugate gradients.
        steps: of conjugate gradients for each row, which start from the row as it was.
        ridge: one ridge for all rows instead, relative to the mean square of a component; 0 is plain least squares.
        split: every half sweep sees a part of the observations that no other sees, ``2 epochs + 1`` parts in all with
            that of the start. What the theory of the method asks for; it takes many more observations.
        incoherence: rows of the singular vectors in the start that are longer than ``2 incoherence`` times the root
            mean square of all are cut to that.

    Raises:
        TenfoldError: a rank beyond a mode, too few observations to split.

    Cost of an epoch: ``N k^2`` operations for N observations with exact solves, ``steps N k`` with approximate ones.
    Papers: "Low-rank matrix completion using alternating minimization", 2013; "Low rank matrix completion via robust
    alternating minimization in nearly linear time", 2024; of the ridges "Variational Bayesian approach to movie rating
    prediction", 2007.
    """
    n, m = (int(size) for size in task.sizes if size is not None)
    rank = _rank(rank, n, m, len(task))
    solver = solver or ("exact" if rank < _LARGE else "cg")
    weights = torch.ones_like(task.values) if task.weights is None else task.weights / task.weights.mean()
    scale = float(task.values.abs().max()) or 1.0
    values = task.values / scale
    scale *= float(torch.sqrt((weights * values.square()).mean())) or 1.0
    values = task.values / scale
    observed = task.coordinates.long()
    parts = _parts(len(task), 2 * epochs + 1 if split else 1, rank * (n + m - rank), seed)
    begun = 0
    errors: tuple[float, ...] = ()
    if resume is None:
        factors = _start(observed[parts[0]], values[parts[0]], n, m, rank, seed, incoherence)
    else:
        factors = _scaled(restore(resume).factors, 1 / scale)
        errors = tuple(resume.facts["errors"])
        begun = len(errors)
    sweep = _Sweep(observed, values, weights, solver, steps, ridge, parts)
    fitted = sweep.fitted(factors)
    stopped = "epochs"
    for epoch in range(begun, epochs):
        factors = sweep(factors, seed, epoch)
        before, fitted = fitted, sweep.fitted(factors)
        residuals = values - fitted
        factors = replace(factors, noise=sweep.noise(factors, residuals))
        errors = (*errors, scale * math.sqrt(float((weights * residuals.square()).mean())))
        if callback is not None:

            def state(factors: _Factors = factors, errors: tuple[float, ...] = errors) -> State:
                return _state(_scaled(factors, scale), observed, weights, errors, ridge, "epochs", None)

            callback(Step(epoch + 1, epochs, errors[-1], state))
        changed = math.sqrt(float((fitted - before).square().mean()))
        if changed <= max(tol, _ROUNDING) * math.sqrt(float(fitted.square().mean())):
            stopped = "tol"
            break
    bound = None if ridge is not None else sweep.bound(factors) - len(task) * math.log(scale)
    return LowRankMatrix(_scaled(factors, scale), observed, weights, ridge, errors, stopped, bound)


def _rank(rank: int | None, n: int, m: int, observations: int) -> int:
    if rank is None:
        return max(1, min(_MOST, n, m, observations // (n + m)))
    if rank > min(n, m):
        raise TenfoldError(f"rank {rank} exceeds mode {0 if n <= m else 1} of size {min(n, m)}: give at most that")
    if rank < 1:
        raise TenfoldError(f"rank {rank} is no number of components: give 1 or more")
    return rank


def _parts(observations: int, parts: int, unknowns: int, seed: int) -> list[Tensor]:
    """Which observations each half sweep sees; the first part is that of the start."""
    if parts == 1:
        return [torch.arange(observations)]
    if observations < parts * unknowns:
        raise TenfoldError(
            f"split=True makes {parts} parts of {observations} observations, each of fewer than the {unknowns} "
            f"unknowns: give fewer epochs or split=False"
        )
    order = torch.randperm(observations, generator=torch.Generator().manual_seed(seed))
    return [part.sort().values for part in order.tensor_split(parts)]


def _start(observed: Tensor, values: Tensor, n: int, m: int, rank: int, seed: int, incoherence: float) -> _Factors:
    """Leading right singular vectors of the zero-filled matrix, by subspace iteration, their long rows cut."""
    matrix = scipy.sparse.coo_array((values.numpy(), tuple(observed.T.numpy())), shape=(n, m)).tocsr()
    generator = np.random.default_rng(seed)
    width = min(rank + _MORE, n, m)
    right = generator.standard_normal((m, width))
    for _ in range(_ROUNDS):
        left = np.linalg.qr(matrix @ right).Q
        right = np.linalg.qr(matrix.T @ left).Q
    _, _, turned = np.linalg.svd(matrix @ right, full_matrices=False)
    vectors = torch.from_numpy(right @ turned.T)[:, :rank]
    lengths = vectors.norm(dim=1)
    longest = 2 * incoherence * math.sqrt(rank / m)
    vectors = vectors * (longest / lengths.clamp(min=longest))[:, None]
    columns = torch.linalg.qr(vectors).Q * math.sqrt(m)
    nothing = torch.zeros(n, rank, dtype=torch.float64)
    prior = torch.full((rank,), 1 / rank, dtype=torch.float64)
    return _Factors(nothing, columns, nothing, torch.zeros_like(columns), prior, torch.ones_like(prior), _NOISE)


def _scaled(factors: _Factors, scale: float) -> _Factors:
    return replace(
        factors,
        rows=factors.rows * scale,
        row_variances=factors.row_variances * scale * scale,
        row_prior=factors.row_prior * scale * scale,
        noise=factors.noise * scale * scale,
    )


def _summed(problems: Gathered, variances: Tensor) -> Tensor:
    """The weighted sum, for each group, of the variances that its entries read."""
    matrix = scipy.sparse.csr_array(
        (problems.weights.numpy(), problems.index.numpy(), problems.first.numpy()),
        shape=(problems.groups, len(variances)),
    )
    return torch.from_numpy(matrix @ variances.numpy())


class _Sweep:
    """Both half sweeps; holds the observations sorted by either mode."""

    def __init__(
        self,
        observed: Tensor,
        values: Tensor,
        weights: Tensor,
        solver: Solver,
        steps: int,
        ridge: float | None,
        parts: list[Tensor],
    ) -> None:
        self.observed = observed[:, 0].contiguous(), observed[:, 1].contiguous()
        self.values, self.weights = values, weights
        self.solver, self.steps, self.ridge = solver, steps, ridge
        self.parts = parts
        self._whole: dict[tuple[int, int], Gathered] = {}

    def problems(self, mode: int, size: int, part: int) -> Gathered:
        """The least-squares problems of one mode; ``part`` is 0 where all observations are one part."""
        if (mode, size) not in self._whole or len(self.parts) > 1:
            seen = self.parts[part]
            groups, others = self.observed[mode][seen], self.observed[1 - mode][seen]
            found = Gathered.by(groups, size, others, self.values[seen], self.weights[seen])
            if len(self.parts) > 1:
                return found
            self._whole[mode, size] = found
        return self._whole[mode, size]

    def __call__(self, factors: _Factors, seed: int, epoch: int) -> _Factors:
        split = len(self.parts) > 1
        half = self.rows(factors, 2 * epoch + 1 if split else 0, seed + 2 * epoch)
        return _turned(self.columns(half, 2 * epoch + 2 if split else 0, seed + 2 * epoch + 1), self.ridge)

    def rows(self, f: _Factors, part: int, seed: int) -> _Factors:
        """New rows for the columns there are."""
        problems = self.problems(0, len(f.rows), part)
        found, spread = self._solve(problems, f.columns, f.column_variances, f.row_prior, f.rows, f.noise, seed)
        return replace(f, rows=found, row_variances=spread)

    def columns(self, f: _Factors, part: int, seed: int) -> _Factors:
        """New columns for the rows there are."""
        problems = self.problems(1, len(f.columns), part)
        found, spread = self._solve(problems, f.rows, f.row_variances, f.column_prior, f.columns, f.noise, seed)
        return replace(f, columns=found, column_variances=spread)

    def _solve(
        self,
        problems: Gathered,
        factor: Tensor,
        variances: Tensor,
        prior: Tensor,
        start: Tensor,
        noise: float,
        seed: int,
    ) -> tuple[Tensor, Tensor]:
        shrinks = _summed(problems, variances) + noise / prior.clamp(min=_LEAST)
        ridge = shrinks if self.ridge is None else torch.full_like(shrinks, self.ridge * float(factor.square().mean()))
        found, diagonal = gathered_least_squares(
            factor, problems, ridge, solver=self.solver, start=start, steps=self.steps, seed=seed
        )
        return found, noise / (diagonal + shrinks)

    def fitted(self, f: _Factors) -> Tensor:
        """The matrix at the observations."""
        i, j = self.observed
        return gathered_products(f.rows, i, f.columns, j)

    def spread(self, f: _Factors) -> Tensor:
        """Its variance there, of independent entries of the factors."""
        i, j = self.observed
        one = torch.cat([f.rows.square() + f.row_variances, f.row_variances], 1)
        other = torch.cat([f.column_variances, f.columns.square()], 1)
        return gathered_products(one, i, other, j)

    def noise(self, f: _Factors, residuals: Tensor) -> float:
        """Residuals over what is left of the observations when the model's degrees of freedom are gone.

        That falls at once with the error; it rises no faster than the bound would have it, because a fit that has
        not yet lost the components that are too many would take everything for noise.
        """
        squares = float((self.weights * residuals.square()).sum())
        free = float((self.weights * self.spread(f)).sum())
        left = len(residuals) - min(free / f.noise, _FREE * len(residuals))
        return max(min(squares / left, (squares + free) / len(residuals)), _LEAST)

    def bound(self, f: _Factors) -> float:
        """The variational lower bound of the log marginal likelihood."""
        off = (self.values - self.fitted(f)).square() + self.spread(f)
        fit = (math.log(2 * math.pi * f.noise) - self.weights.log() + self.weights * off / f.noise).sum()
        rows = _divergence(f.rows, f.row_variances, f.row_prior)
        return -0.5 * float(fit) - rows - _divergence(f.columns, f.column_variances, f.column_prior)


def _divergence(means: Tensor, variances: Tensor, prior: Tensor) -> float:
    prior = prior.clamp(min=_LEAST)
    ratio = variances.clamp(min=_LEAST) / prior
    return 0.5 * float((ratio + means.square() / prior - 1 - ratio.log()).sum())


def _turned(f: _Factors, ridge: float | None) -> _Factors:
    """The same matrix in its singular vectors, with the spread of each component anew; without those that vanished."""
    m = len(f.columns)
    left, upper = torch.linalg.qr(f.rows)
    right, lower = torch.linalg.qr(f.columns)
    a, s, b = torch.linalg.svd(upper @ lower.T)
    # rows_new = rows T and columns_new = columns T^-T; variances go with the squares.
    there = lower.T @ b.mT / math.sqrt(m)
    back = upper.T @ a / s.clamp(min=_ROUNDING * float(s[0]) + _LEAST) * math.sqrt(m)
    rows, row_variances = left @ (a * s) / math.sqrt(m), f.row_variances @ there.square()
    columns, column_variances = right @ b.mT * math.sqrt(m), f.column_variances @ back.square()
    if ridge is None:
        squares = rows.square().mean(0)
        lives = (squares > _VANISHED * row_variances.mean(0)) & (squares > _LEAST * squares[0])
        lives[0] = True
        rows, row_variances = rows[:, lives], row_variances[:, lives]
        columns, column_variances = columns[:, lives], column_variances[:, lives]
    # The second moment of the columns is one, not that of their means, which vanish where the data say nothing.
    length = (columns.square() + column_variances).mean(0).sqrt()
    rows, row_variances = rows * length, row_variances * length.square()
    columns, column_variances = columns / length, column_variances / length.square()
    row_prior = (rows.square() + row_variances).mean(0)
    return _Factors(rows, columns, row_variances, column_variances, row_prior, torch.ones_like(length), f.noise)
