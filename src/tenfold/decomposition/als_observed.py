"""Regularised alternating least squares for arrays with missing cells; what is left out says how much."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tenfold.decomposition import _anderson
from tenfold.decomposition._cells import Cells
from tenfold.decomposition._error import relative_error
from tenfold.decomposition._iterate import is_tree
from tenfold.decomposition._left_out import split, whole_modes
from tenfold.decomposition._loss import Loss, balance
from tenfold.decomposition._registry import Callback, Data, Decomposition, Progress, method
from tenfold.decomposition._ridge import Ridge
from tenfold.decomposition._spectral import spectral_start
from tenfold.errors import DataError, StructureError, TenfoldError
from tenfold.network import Network
from tenfold.observations import Observations
from tenfold.structure import Structure

# Ridges from one that leaves little but the mean down to none, each from what the one before it found, and sweeps with
# each. Where cells are few this is the way that overfits least, but it begins by forgetting its start.
_DOWN = tuple((ridge, 5) for ridge in (1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001, 1e-4, 0.0))
# From a random start: damped for a moment, because rows with few cells would else fit them exactly with huge numbers
# and never come back, then without a ridge, then with growing ones.
_DAMPED = tuple((ridge, 1) for ridge in (0.3, 0.1, 0.03, 0.01, 0.003))
_UP = ((0.0, 15), *((ridge, 4) for ridge in (1e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3)))
# A start from singular vectors is not random: ridges from this one on would only take from it.
_LARGE = 0.05
# Where such a start leaves more than this part, components were missed, and others found in the noise. After so many
# sweeps with this ridge the latter are gone, and what is left has singular vectors too; as long as it gets smaller.
_PART, _FURTHER = 0.3, 0.95
_CLEANED, _CLEANING = 3, 0.1
# A level ends sooner where the objective settles: at this relative change.
_SETTLED = 1e-3
# Sweeps with a ridge that is given.
_GIVEN = 15
# What is left out got worse by this factor, this often running: smaller ridges will not mend it.
_WORSE, _OFTEN = 1.05, 2
# Errors on what is left out that differ by less than this, relatively, are equal: the larger ridge is taken.
_EQUAL = 1e-3
# With fewer cells than this, none is left out, and the ridge is this one unless given.
_FEW, _DEFAULT = 20, 1e-6
# With fewer sweeps than this there are none to choose a ridge with.
_SHORT = 20
# Noise in the start from the mean, and sweeps of each random start before the best of them go on.
_NOISE, _TRIED, _FOLLOWED = 0.3, 4, 2
# A mean smaller than this, relative to the root mean square, starts as this.
_LEAST = 0.1
# Noise added to the cores before a smaller ridge, relative to their root mean square.
_STIR = 0.1
# A start that predicts what the best network so far does, to this part of its error, would only be swept to the same.
_SAME = 0.2
# Above this part of the error of the mean a network has found nothing.
_NOTHING = 0.98
# Ridges up to this one may be none at all.
_SMALL = 0.01
# Sweeps that watch what is left out once its ridge is chosen.
_MORE = 20
# With so many times more cells than unknowns, in every row and in all, a ridge will hardly matter. It does not where
# what is left out is predicted as well as the rest is fitted, to this part of the error: no ridge mends more than that.
_PLENTY, _AS_WELL = 10, 0.05
# Where little is found at all, pulling it to the mean is worth more: the squares of the two may differ by this part of
# what the network predicts better than the mean does.
_OF_FOUND = 0.1
# Where not all starts lead to one error, one to which two of them lead, to this part of it, is likely the smallest.
_TWICE = 0.01
# Changes of the error that end the fit to the rest, and errors that are none.
_ENDED, _ROUNDING = 1e-4, 1e-6


@dataclass(frozen=True)
class Observed(Decomposition):
    """A `Decomposition` of partly known data.

    Attributes:
        ridge: what the network was fitted with in the end.
        held_out: relative error on the cells that were left out, of the network fitted without them; None where none
            were. It chose the ridge, so it is a little smaller than that on cells nobody has seen.
        baseline: the same of the weighted mean of the other cells.
        residuals: squared residuals (times weights) of the cells left out, over the sum of their squares, first of the
            network, which add up to the square of ``held_out``, then of the mean.
    """

    ridge: float = 0.0
    held_out: float | None = None
    baseline: float | None = None
    residuals: Tensor | None = None


@method("als_observed", takes=("missing",))
def als_observed(
    data: Data,
    structure: Structure,
    *,
    error: float | None = None,
    init: Network | None = None,
    seed: int = 0,
    max_sweeps: int = 400,
    tol: float = 1e-6,
    callback: Callback | None = None,
    ridge: float | None = None,
    holdout: float = 0.1,
    starts: int = 4,
    fibres: bool = False,
) -> Observed:
    """Alternating least squares for missing cells, with a ridge on each row that cells left out choose.

    Minimises, for data divided by its root mean square, ``sum w |x - y|^2 / sum w`` over what is observed plus ``ridge
    sum_i (n_i / n) |a_i - m|^2`` for each core: its rows a_i are pulled to their mean m the more strongly, relative to
    what their n_i cells say, the larger the ridge; m is fitted too, and pulled to zero a hundredth as much. So a ridge
    of one or more leaves little but the mean of the data, none gives plain least squares, and a row that no cell
    reads is the mean row.

    On a part of the cells, ridges are tried from large to small, starting from the mean, and from small to large,
    starting from the best of some random networks and of those made of the leading singular vectors of what is known,
    with zeros elsewhere, which find what is there where cells are too few for random ones. The ridge, and the sweep, at
    which the cells left out were predicted best are kept, and the fit goes on from there on all cells: to its end, or,
    where more sweeps made the prediction worse, by as many sweeps as were good.

    Where cells are ten times as many as unknowns, in all rows, a fit without a ridge from singular vectors comes first,
    and is all, if it predicts what is left out nearly as well as it fits the rest.

    Args:
        data: partly known data.
        structure: any structure of the data's shape that uses each core once.
        error: stop when the relative error is this small.
        init: where to start, instead of at random.
        seed: of the random starts and of what is left out; equal seeds give equal results.
        max_sweeps: sweeps at most, those of the search for the ridge included, which takes at most half of them.
        tol: stop when two sweeps in a row change the objective by less than this, relatively.
        callback: called after every sweep.
        ridge: instead of one chosen by what is left out; then only the number of sweeps is.
        holdout: the part of the cells that is left out, 0 for none. Nothing is left out of fewer than 20 cells, nor
            where no cell is missing: then the ridge is 1e-6, or 0.
        starts: the start near the mean of the data and the random ones. Of these and those from singular vectors the
            best two are followed; with two starts or less, the best.
        fibres: leave out whole fibres where whole fibres are missing, so that it is their prediction that counts;
            a structure larger than that needs is then damped, or stopped early, and ends where the start leads it.

    Returns:
        The network, in the data's dtype, and how well it predicted what was left out. ``errors`` is the relative error
        after each sweep over the cells fitted in that sweep; the objective, not the error, falls from sweep to sweep.

    Raises:
        DataError: the data is a whole or sparse array or of another shape.
        StructureError: ``init`` has another structure, or the structure uses a core twice.

    Cost of a sweep: ``n K^2`` for n cells and a core with bond indices of product K, and ``K^3`` for each of its rows;
    where that is less, the contraction of the whole array with the other cores, each times its own conjugate.
    Papers: "Large-scale parallel collaborative filtering for the Netflix prize", 2008; "Subspace estimation from
    unbalanced and incomplete data matrices: l2,inf statistical guarantees", 2021.
    """
    if not isinstance(data, Observations) or data.rest == "zero":
        raise DataError("method 'als_observed' needs observations of which the rest is unknown; 'als' takes the others")
    _check(structure, init, error, max_sweeps, tol, ridge, holdout, starts)
    loss = Loss(data, structure, init=init)
    if loss.total == 0:
        zero = [torch.zeros(core.shape, dtype=loss.dtype, device=loss.device) for core in structure.cores]
        return Observed(loss.network(zero), 0.0, (), "exact", ridge=ridge or 0.0)
    run = _Run(max_sweeps, tol, error, callback)
    complete = loss.total > 0 and data.distinct == math.prod(data.shape or ())
    counted = len(data) if data.weights is None else int((data.weights > 0).sum())
    fixed = (0.0 if complete else _DEFAULT) if ridge is None else ridge
    if complete or counted < _FEW or not holdout or max_sweeps < _SHORT:
        problem = Ridge(loss)
        cores = _damped(run, problem, seed, fixed, starts)[0] if init is None else loss.start(init)
        return run.finish(problem, cores, fixed)
    train, held = split(data, holdout, seed) if fibres else data.split(holdout, seed)
    # Fibres are predicted from few others, however many cells those have.
    straight = not (fibres and whole_modes(data)) and init is None and ridge is None and starts > 1
    return _chosen(run, train, held, loss, init, seed, ridge, starts, straight)


def _check(
    structure: Structure,
    init: Network | None,
    error: float | None,
    max_sweeps: int,
    tol: float,
    ridge: float | None,
    holdout: float,
    starts: int,
) -> None:
    for core in structure.cores:
        if len(core.terms) > 1:
            raise StructureError(f"method 'als_observed' takes no core twice, as '{core.name}' is; 'lbfgs' does")
    if init is not None and init.structure != structure:
        raise StructureError(f"init has structure {init.structure!r}, not {structure!r}")
    if error is not None and not error >= 0:
        raise TenfoldError(f"error must be at least 0, not {error}")
    if max_sweeps < 1:
        raise TenfoldError(f"max_sweeps must be at least 1, not {max_sweeps}")
    if not tol >= 0:
        raise TenfoldError(f"tol must be at least 0, not {tol}")
    if ridge is not None and not 0 <= ridge < math.inf:
        raise TenfoldError(f"ridge must be a finite number of at least 0, not {ridge}")
    if not 0 <= holdout < 1:
        raise TenfoldError(f"holdout must be at least 0 and below 1, not {holdout}")
    if starts < 1:
        raise TenfoldError(f"starts must be at least 1, not {starts}")


class _Run:
    """Sweeps, counted and reported."""

    def __init__(self, max_sweeps: int, tol: float, goal: float | None, callback: Callback | None) -> None:
        self.max_sweeps, self.tol, self.goal, self.callback = max_sweeps, tol, goal, callback
        self.errors: list[float] = []

    @property
    def left(self) -> int:
        return self.max_sweeps - len(self.errors)

    def sweep(self, problem: Ridge, cores: list[Tensor], ridge: float) -> tuple[list[Tensor], float, float]:
        found, reached, objective = problem.sweep(cores, ridge)
        self.note(problem.loss, found, reached)
        return found, reached, objective

    def note(self, loss: Loss, cores: list[Tensor], reached: float) -> None:
        self.errors.append(reached)
        if self.callback is not None:
            self.callback(Progress(reached, len(self.errors), self.max_sweeps, lambda: loss.network(cores)))

    def finish(
        self, problem: Ridge, cores: list[Tensor], ridge: float, sweeps: int | None = None, **found: object
    ) -> Observed:
        """Sweeps with one ridge to the end (or ``sweeps`` of them), accelerated, and the result."""
        loss = problem.loss

        def step(state: list[Tensor]) -> tuple[list[Tensor], float]:
            after, error, objective = problem.sweep(state, ridge)
            self.note(loss, after, error)
            # At the error asked for, whatever the ridge adds, there is nothing left to do.
            return after, 0.0 if self.goal is not None and error <= self.goal else math.sqrt(objective)

        limit = max(self.left if sweeps is None else min(self.left, sweeps), 1)
        done = _anderson.iterate(step, cores, error=self.goal, tol=self.tol, max_sweeps=limit)
        # As many sweeps as were good are all that were wanted.
        stopped = "tol" if done.stopped == "max_sweeps" and self.left > 0 else done.stopped
        network = loss.network(done.state)
        error = relative_error(loss.original, network)
        if not error <= 1:
            # The zero network is one of this structure, and its error is 1.
            network, error = Network(network.structure, [torch.zeros_like(core) for core in network.cores]), 1.0
        return Observed(network, error, tuple(self.errors), stopped, ridge=ridge, **found)  # type: ignore[arg-type]


class _Outside:
    """The cells that were left out, for networks of the other cells' loss.

    ``baseline`` and ``inside`` are the relative errors of the mean of the other cells, on these and on those.
    """

    def __init__(self, loss: Loss, held: Observations) -> None:
        self.cells = Cells(loss.structure, held, loss.scale, loss.dtype)
        assert loss.cells is not None
        self.weights = torch.ones_like(self.cells.values.real) if self.cells.weights is None else self.cells.weights
        self.total = float((self.weights * self.cells.values.abs().square()).sum())
        inside = torch.ones_like(loss.cells.values.real) if loss.cells.weights is None else loss.cells.weights
        mean = (inside * loss.cells.values).sum() / inside.sum()
        self.mean = self._squares(mean)
        self.baseline = float(self.mean.sum()) ** 0.5
        self.inside = float((inside * (loss.cells.values - mean).abs().square()).sum() / loss.total) ** 0.5

    def _squares(self, found: Tensor) -> Tensor:
        square = self.weights * (self.cells.values - found).abs().square()
        return square / self.total if self.total else square

    def residuals(self, cores: Sequence[Tensor]) -> Tensor:
        return self._squares(torch.cat([self.cells.evaluate(cores, part) for part in self.cells.batches(None)]))

    def apart(self, one: Sequence[Tensor], other: Sequence[Tensor]) -> float:
        """By how much two networks predict differently, as `error` counts."""
        found = [torch.cat([self.cells.evaluate(c, part) for part in self.cells.batches(None)]) for c in (one, other)]
        square = float((self.weights * (found[0] - found[1]).abs().square()).sum())
        return math.sqrt(square / self.total) if self.total else 0.0

    def error(self, cores: Sequence[Tensor]) -> float:
        error = float(self.residuals(cores).sum()) ** 0.5
        return error if math.isfinite(error) else math.inf


@dataclass
class _Best:
    """The best prediction of what was left out, and where the sweeps with its ridge ended."""

    error: float
    ridge: float
    sweeps: int
    cores: list[Tensor]
    last: list[Tensor]


def _near_mean(loss: Loss, seed: int) -> list[Tensor]:
    """The mean of the data as a network of rank one, and noise."""
    assert loss.cells is not None
    structure = loss.structure
    noise = Network.random(structure, seed=seed, dtype=loss.dtype, device=loss.device)
    mean = complex(loss.weighted_values().sum() / loss.total)
    each = (mean if abs(mean) > _LEAST else complex(_LEAST)) ** (1 / len(structure.terms))
    cores = []
    for core, random in zip(structure.cores, noise.cores, strict=True):
        start = _NOISE * random
        first = tuple(slice(None) if index in structure.output_indices else 0 for index in core.indices)
        start[first] += each if loss.dtype.is_complex else abs(each)
        cores.append(start)
    if mean.real < 0 and not loss.dtype.is_complex:
        cores[0] = -cores[0]
    return balance(structure, cores)


def _damped(run: _Run, problem: Ridge, seed: int, ridge: float, starts: int) -> list[list[Tensor]]:
    """Starts from singular vectors and some random ones after a few sweeps, damped first, best first."""
    loss = problem.loss
    tried: list[tuple[float, list[Tensor]]] = []

    def swept(cores: list[Tensor], damped: Sequence[tuple[float, int]]) -> tuple[list[Tensor], float]:
        objective, reached = math.inf, math.inf
        for value, sweeps in (*(step for step in damped if step[0] > ridge), (ridge, _TRIED)):
            before = cores
            for _ in range(min(sweeps, run.left - 1)):
                cores, reached, objective = run.sweep(problem, cores, value)
            if reached > _NOTHING and value > ridge:
                cores = before  # such a ridge takes all to zero, from where there is no way back
        tried.append((objective if math.isfinite(objective) else math.inf, cores))
        return cores, reached

    most = len(_DAMPED) + 2 * _TRIED
    near, last = None, math.inf
    while not tried or most <= run.left // 2:
        start = spectral_start(loss, seed, near)
        if start is None:
            break
        near, reached = swept(start, [step for step in _DAMPED if step[0] < _LARGE])
        if not _PART < reached < _FURTHER * last:
            break
        last = reached
        for _ in range(min(_CLEANED, run.left - 1)):
            near, reached, _ = run.sweep(problem, near, _CLEANING)
        if reached > _NOTHING:
            break
    generator = torch.Generator().manual_seed(seed)
    for _ in range(starts):
        if tried and most > run.left // 2:
            break
        network = Network.random(loss.structure, std=loss.scale, seed=generator, dtype=loss.dtype)
        swept(loss.start(network), _DAMPED)
    return [cores for _, cores in sorted(tried, key=lambda pair: pair[0])]


def _chosen(
    run: _Run,
    train: Observations,
    held: Observations,
    loss: Loss,
    init: Network | None,
    seed: int,
    ridge: float | None,
    starts: int,
    straight: bool,
) -> Observed:
    """The ridge and the number of sweeps by what is left out, then all cells."""
    inside = Loss(train, loss.structure, init=init)
    if inside.total == 0:
        cores = _near_mean(loss, seed) if init is None else loss.start(init)
        return run.finish(Ridge(loss), cores, _DEFAULT if ridge is None else ridge)
    outside, problem = _Outside(inside, held), Ridge(inside)
    if straight and _plenty(problem):
        found = _straight(run, problem, outside, seed, starts)
        if found is not None:
            return _on_all(run, loss, inside, outside, found, None)
    levels = _UP if ridge is None else ((ridge, _GIVEN),)
    if init is not None:
        best = _climbed(run, problem, outside, inside.start(init), (), levels, None)
    else:
        shapes = [core.shape for core in loss.structure.cores]
        generator = torch.Generator().manual_seed(seed)
        stir = [torch.randn(shape, generator=generator, dtype=loss.dtype).to(loss.device) for shape in shapes]
        above = () if ridge is None else tuple(step for step in _DOWN if step[0] > ridge)
        down = _DOWN if ridge is None else levels
        best = _climbed(run, problem, outside, _near_mean(inside, seed), above, down, stir)
        if starts > 1 and run.left > 2 * sum(sweeps for _, sweeps in levels):
            tried = _damped(run, problem, seed, 0.0 if ridge is None else ridge, starts - 1)
            for cores in tried[: min(_FOLLOWED, starts - 1)]:
                if run.left <= sum(sweeps for _, sweeps in levels):
                    break
                if outside.apart(cores, best.cores) < _SAME * best.error:
                    continue
                found = _climbed(run, problem, outside, cores, (), levels, None)
                best = found if found.error < best.error else best
    best, wanted = _continued(run, problem, outside, best, ridge is None)
    return _on_all(run, loss, inside, outside, best, wanted)


def _on_all(run: _Run, loss: Loss, inside: Loss, outside: _Outside, best: _Best, wanted: int | None) -> Observed:
    """On from the best network with its ridge on all cells."""
    factor = (inside.scale / loss.scale) ** (1 / len(loss.structure.terms))
    cores = [core * factor for core in best.cores]
    return run.finish(
        Ridge(loss),
        cores,
        best.ridge,
        wanted,
        held_out=best.error,
        baseline=outside.baseline,
        residuals=torch.stack([outside.residuals(best.cores), outside.mean]),
    )


def _plenty(problem: Ridge) -> bool:
    """Whether there are many times more cells than unknowns, in all rows of all cores."""
    if problem.masked is None:
        return False
    structure, cells = problem.loss.structure, problem.cells
    each = []
    for place in range(len(structure.terms)):
        columns = math.prod(structure.sizes[i] for i in cells.inner(place))
        each.append(float(problem.masked.counts(place).min()) / columns)
    return min(*each, len(cells) / structure.parameters) >= _PLENTY


def _straight(run: _Run, problem: Ridge, outside: _Outside, seed: int, starts: int) -> _Best | None:
    """Without a ridge, from singular vectors; where those leave much, from several starts, of which two must agree.

    None where they do not, and where a ridge could predict what is left out better.
    """

    def step(state: list[Tensor]) -> tuple[list[Tensor], float]:
        after, error, _ = run.sweep(problem, state, 0.0)
        return after, 0.0 if run.goal is not None and error <= run.goal else error

    def fitted(cores: list[Tensor]) -> tuple[float, list[Tensor]]:
        done = _anderson.iterate(step, cores, error=run.goal, tol=_ENDED, max_sweeps=max(run.left // 4, 1))
        return done.errors[-1], done.state

    start = spectral_start(problem.loss, seed, starts=1)
    found = [] if start is None else [fitted(start)]
    if not found or found[0][0] > (_PART if is_tree(problem.loss.structure) else _PART / 2):
        found.extend(fitted(cores) for cores in _damped(run, problem, seed, 0.0, starts - 1)[:_FOLLOWED])
        found.sort(key=lambda pair: pair[0])
        if len(found) < 2 or found[1][0] > (1 + _TWICE) * found[0][0] + _ROUNDING:
            return None
    reached, cores = found[0]
    error = outside.error(cores)
    # Cell by cell, for the cells left out may be larger or smaller than the others; how well so many are predicted is
    # known to two standard errors only.
    size = math.sqrt(outside.total / float(outside.weights.sum()))
    if not error * size <= (1 + _AS_WELL + 2 / math.sqrt(2 * len(outside.cells))) * reached + _ROUNDING:
        return None
    if (error * size) ** 2 - reached**2 > _OF_FOUND * (outside.baseline**2 - error**2) * size**2 + _ROUNDING**2:
        return None
    return _Best(error, 0.0, 0, cores, cores)


Ladder = tuple[tuple[float, int], ...]


def _climbed(
    run: _Run,
    problem: Ridge,
    outside: _Outside,
    cores: list[Tensor],
    damped: Ladder,
    levels: Ladder,
    stir: list[Tensor] | None,
) -> _Best:
    """From one start over the ridges, as long as what is left out may be predicted better.

    ``stir`` is noise of standard deviation 1: a ridge takes whole components to zero, where they would stay for ever.
    """
    first = cores
    for ridge, sweeps in damped:
        reached = 0.0
        for _ in range(min(sweeps, max(run.left - 2, 0))):
            cores, reached, _ = run.sweep(problem, cores, ridge)
        if reached > _NOTHING * outside.inside:
            cores = first
    first = cores
    best = _Best(math.inf, levels[0][0], 0, cores, cores)
    worse, reached = 0, 0.0
    for ridge, sweeps in levels:
        before, lowest = math.inf, math.inf
        if reached > _NOTHING * outside.inside:
            cores = first  # such a network says no more than the mean, and would never again
        elif stir is not None and best.sweeps:
            cores = [core + _STIR * _spread(core) * noise for core, noise in zip(cores, stir, strict=True)]
        for number in range(1, min(sweeps, max(run.left - 1, 0)) + 1):
            cores, reached, objective = run.sweep(problem, cores, ridge)
            error = outside.error(cores)
            lowest = min(lowest, error)
            if error < (best.error if best.ridge == ridge else best.error * (1 - _EQUAL)) or not best.sweeps:
                best = _Best(error, ridge, number, cores, cores)
            elif best.ridge == ridge:
                best.last = cores
            if abs(before - objective) <= _SETTLED * objective or (run.goal is not None and reached <= run.goal):
                break
            before = objective
        worse = worse + 1 if lowest > _WORSE * best.error else 0
        if worse == _OFTEN or (run.goal is not None and reached <= run.goal):
            break
    return best


def _spread(core: Tensor) -> float:
    return float(torch.linalg.vector_norm(core)) / math.sqrt(core.numel())


def _continued(run: _Run, problem: Ridge, outside: _Outside, best: _Best, chosen: bool) -> tuple[_Best, int | None]:
    """More sweeps with the best ridge; how many were good, or None if more only made the prediction better."""
    if chosen and 0 < best.ridge <= _SMALL:
        without = _followed(run, problem, outside, _Best(best.error, 0.0, 0, best.cores, best.last))
        if without[0].error < best.error:
            return without
    return _followed(run, problem, outside, best)


def _followed(run: _Run, problem: Ridge, outside: _Outside, best: _Best) -> tuple[_Best, int | None]:
    cores, number = best.last, best.sweeps
    for _ in range(min(_MORE, run.left // 2)):
        number += 1
        cores, reached, _ = run.sweep(problem, cores, best.ridge)
        error = outside.error(cores)
        if error < best.error:
            best = _Best(error, best.ridge, number, cores, cores)
        elif error > _WORSE * best.error:
            return best, best.sweeps
        if run.goal is not None and reached <= run.goal:
            break
    return best, None
