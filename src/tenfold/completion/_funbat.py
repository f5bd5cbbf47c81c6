"""What both forms of functional Bayesian Tucker share: modes, messages, noise, hyper-parameters, the bound."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tenfold.completion._funbat_sums import Sorted
from tenfold.completion._registry import Callback, Step
from tenfold.completion.model import Prediction, State
from tenfold.completion.task import Task
from tenfold.errors import DataError, TenfoldError
from tenfold.linalg.state_space import SMOOTHNESS, Chain, Smoothed, independent, matern, matern_slopes, smooth

# Gamma prior on the precision of the noise: as if one value had been seen with a square of a thousandth of the variance
# of all of them.
SHAPE, RATE = 0.5, 5e-4
# Logarithms of length scales, of which the range of a mode is one, and of variances stay within these.
_LENGTHS = math.log(1e-4), math.log(30.0)
_VARIANCES = math.log(1e-12), math.log(1e6)
# Steps of the logarithms of hyper-parameters: the first, the smallest, the largest, and how they change while the
# slope keeps its sign and when it does not.
_FIRST_STEP, _STEPS, _LONGER, _SHORTER = 0.1, (1e-4, 1.0), 1.3, 0.4
# The first epochs leave the hyper-parameters and the noise as they are, for nothing is known yet: noise as large as
# what a bad start leaves would take components away that never come back. It is this part of the variance.
_LEARN, _NOISE = 5, 1 / 30
# Beyond this many epochs the hyper-parameters take a step in every second only, for a step costs two smoothings.
_EVERY = 20
# Components that add less than this to the square of the function, relative to the noise, are left out.
IDLE = 1e-6
# Starts are weighed by their evidence, but as if there had been no more observations than this: of more, a difference
# between bounds tells of what the approximation makes of a start, not of how probable it is.
_COUNTED = 20
# At most so many query levels are inserted at a time, and so many rows are predicted at a time.
_QUERIES, _ROWS = 20_000, 65_536


def pairs(rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """The places ``a <= c`` of a symmetric matrix, and how often each stands in it."""
    a, c = torch.triu_indices(rank, rank)
    return a, c, torch.where(a == c, 1.0, 2.0).to(torch.float64)


def folded(matrices: Tensor) -> Tensor:
    """The upper triangles of symmetric matrices."""
    a, c, _ = pairs(matrices.shape[-1])
    return matrices[..., a, c]


def unfolded(upper: Tensor, rank: int) -> Tensor:
    """The inverse of `folded`."""
    a, c, _ = pairs(rank)
    full = upper.new_empty(*upper.shape[:-1], rank, rank)
    full[..., a, c] = upper
    full[..., c, a] = upper
    return full


@dataclass
class Mode:
    """One mode: its levels, its prior and its posterior.

    Attributes:
        positions: ascending; for a discrete mode 0, 1, ...
        smoothness: of the Matern prior, None for a discrete mode.
        mean: of the components at each level.
        second: the upper triangles of ``E[u u^T]``.
        precision: the upper triangles of what the observations say.
        shift: the same, times where.
        log_length: of each component.
        log_variance: of each component.
        steps: of the last two, how far to try.
        slopes: their signs last time.
        divergence: of the posterior from the prior.
    """

    positions: Tensor
    smoothness: float | None
    mean: Tensor
    second: Tensor
    precision: Tensor
    shift: Tensor
    log_length: Tensor
    log_variance: Tensor
    steps: Tensor
    slopes: Tensor
    divergence: float = 0.0

    @property
    def rank(self) -> int:
        return self.mean.shape[1]

    def chain(self, positions: Tensor, log_length: Tensor, log_variance: Tensor) -> Chain:
        if self.smoothness is None:
            return independent(len(positions), log_variance.exp())
        return matern(positions, log_length.exp(), log_variance.exp(), self.smoothness)

    def smoothed(self, log_length: Tensor, log_variance: Tensor, slopes: bool) -> tuple[Smoothed, Tensor | None]:
        chain = self.chain(self.positions, log_length, log_variance)
        found = smooth(chain, unfolded(self.precision, self.rank), self.shift, slopes=slopes)
        if not slopes:
            return found, None
        if self.smoothness is None:
            assert found.by_stationary is not None
            by_variance = (found.by_stationary * chain.stationary).sum((1, 2))
            return found, torch.stack([torch.zeros_like(by_variance), by_variance])
        return found, torch.stack(matern_slopes(chain, self.positions, log_length.exp(), found, self.smoothness))

    def update(self, learn: bool) -> None:
        """The posterior for the present messages, and a step of the hyper-parameters if the evidence rises by it."""
        found, slopes = self.smoothed(self.log_length, self.log_variance, learn)
        if slopes is not None:
            signs = slopes.sign()
            same = signs * self.slopes
            change = torch.where(same > 0, _LONGER, torch.where(same < 0, _SHORTER, 1.0))
            self.steps = (self.steps * change).clamp(*_STEPS)
            self.slopes = signs
            log_length = (self.log_length + signs[0] * self.steps[0]).clamp(*_LENGTHS)
            log_variance = (self.log_variance + signs[1] * self.steps[1]).clamp(*_VARIANCES)
            tried, _ = self.smoothed(log_length, log_variance, False)
            if tried.evidence >= found.evidence:
                found, self.log_length, self.log_variance = tried, log_length, log_variance
            else:
                self.steps = (self.steps * _SHORTER).clamp(*_STEPS)
        self.mean = found.mean
        self.second = folded(found.covariance + found.mean[:, :, None] * found.mean[:, None, :])
        *_, times = pairs(self.rank)
        inside = float((self.shift * self.mean).sum() - 0.5 * (self.precision * self.second * times).sum())
        self.divergence = inside - found.evidence

    def keep(self, kept: Tensor) -> None:
        """Leave out the other components."""
        a, c, _ = pairs(self.rank)
        both = kept[a] & kept[c]
        self.mean, self.shift = self.mean[:, kept], self.shift[:, kept]
        self.second, self.precision = self.second[:, both], self.precision[:, both]
        self.log_length, self.log_variance = self.log_length[kept], self.log_variance[kept]
        self.steps, self.slopes = self.steps[:, kept], self.slopes[:, kept]

    def at(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """``E[u]`` and the upper triangles of ``E[u u^T]`` anywhere: levels of which nothing is seen are inserted."""
        if self.smoothness is None:
            index = positions.long()
            return self.mean[index], self.second[index]
        wanted, index = torch.unique(positions, return_inverse=True)
        means, seconds = [], []
        for part in wanted.split(_QUERIES):
            every, place = torch.unique(torch.cat([self.positions, part]), return_inverse=True)
            own, asked = place[: len(self.positions)], place[len(self.positions) :]
            precision = self.precision.new_zeros(len(every), self.rank, self.rank)
            precision[own] = unfolded(self.precision, self.rank)
            shift = self.shift.new_zeros(len(every), self.rank)
            shift[own] = self.shift
            found = smooth(self.chain(every, self.log_length, self.log_variance), precision, shift)
            means.append(found.mean[asked])
            seconds.append(folded(found.covariance + found.mean[:, :, None] * found.mean[:, None, :])[asked])
        return torch.cat(means)[index], torch.cat(seconds)[index]


@dataclass(frozen=True, eq=False)
class Seen:
    """The observations, sorted by the levels of each mode; values are divided by ``scale``, weights are one on average.

    Attributes:
        count: how many have a positive weight.
        squares: the weighted sum of the squares of the values.
        logarithms: the sum of the logarithms of the weights.
    """

    positions: tuple[Tensor, ...]
    sizes: tuple[int | None, ...]
    sorted: tuple[Sorted, ...]
    count: int
    squares: float
    logarithms: float
    scale: float

    @classmethod
    def of(cls, task: Task, levels: int) -> Seen:
        largest = float(task.values.abs().max())
        scale = largest * float((task.values / largest).square().mean().sqrt()) if largest else 1.0
        values = task.values / scale
        weights = torch.ones_like(values) if task.weights is None else task.weights
        if not bool((weights >= 0).all()) or not bool(weights.any()):
            raise DataError("weights must not be negative, and not all zero: leave them out for equal ones")
        positive = weights > 0
        weights = weights / weights[positive].mean()
        found = [_levels(task, mode, levels) for mode in range(task.order)]
        index = torch.stack([place for _, place in found])
        ordered = tuple(
            Sorted.of(index, mode, len(positions), values, weights) for mode, (positions, _) in enumerate(found)
        )
        return cls(
            tuple(positions for positions, _ in found),
            task.sizes,
            ordered,
            int(positive.sum()),
            float((weights * values.square()).sum()),
            float(weights[positive].log().sum()),
            scale,
        )


def _levels(task: Task, mode: int, most: int) -> tuple[Tensor, Tensor]:
    """As `Task.levels`, but of a continuous mode with more than ``most`` levels those of a grid."""
    positions, index = task.levels(mode)
    if task.sizes[mode] is None and len(positions) > most:
        rounded = torch.round(task.coordinates[:, mode] * (most - 1)) / (most - 1)
        positions, index = torch.unique(rounded, return_inverse=True)
    return positions, index


class Start(ABC):
    """The posterior that one start led to: independent modes and a precision of the noise, and what a form adds.

    Attributes:
        modes: one for each mode of the data.
        shape: of the Gamma posterior of the precision of the noise.
        rate: of the same.
        bounds: the lower bound on the logarithm of the evidence after each epoch, of values divided by the scale.
        error: the root of the expected square of a residual.
    """

    def __init__(self, modes: list[Mode], rate: float, shape: float) -> None:
        self.modes, self.rate, self.shape = modes, rate, shape
        self.bounds: list[float] = []
        self.error = math.inf

    @classmethod
    @abstractmethod
    def random(cls, modes: list[Mode], rate: float, shape: float, generator: torch.Generator) -> Start:
        """Where a fit begins; of the modes the means are drawn already."""

    @abstractmethod
    def messages(self, seen: Seen, number: int) -> tuple[Tensor, Tensor]:
        """Sums over the observations of each level of ``w E[a a^T]`` (upper triangles) and ``w y E[a]``.

        The function at an observation is ``a^T u`` for the components u of this mode.
        """

    @abstractmethod
    def rest(self, seen: Seen, messages: tuple[Tensor, Tensor], damping: float) -> tuple[float, float]:
        """What comes after the modes: the expected sum of squared residuals, and the divergence of what is no mode."""

    @abstractmethod
    def moments(self, means: Sequence[Tensor], seconds: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """``E[f]`` and ``E[f^2]`` of rows of which the moments of all modes are given."""

    @abstractmethod
    def keep(self, kept: list[Tensor]) -> None:
        """Leave out all other components of each mode."""

    @abstractmethod
    def idle(self, powers: list[Tensor]) -> list[Tensor]:
        """Which components of each mode are wanted, given what each adds relative to the noise."""

    @property
    @abstractmethod
    def parameters(self) -> int: ...

    @property
    def noise(self) -> float:
        """Expected, of which the posterior is inverse Gamma."""
        return self.rate / self.shape

    def epoch(self, seen: Seen, number: int, learn: bool, damping: float, held: bool) -> None:
        """Every mode once, then what the form adds, then the noise, unless it is held."""
        precise = self.shape / self.rate
        learn = learn and number > _LEARN and (number <= _EVERY or number % 2 == 0)
        for place, mode in enumerate(self.modes):
            messages = self.messages(seen, place)
            old = damping if number > 1 else 0.0
            mode.precision = torch.lerp(precise * messages[0], mode.precision, old)
            mode.shift = torch.lerp(precise * messages[1], mode.shift, old)
            mode.update(learn)
        residual, divergence = self.rest(seen, messages, damping)
        powers = [self._powers(mode) for mode in self.modes]
        if not held:
            self.rate = RATE + max(residual, 0.0) / 2
        self.error = math.sqrt(max(residual, 0.0) / seen.count)
        likelihood = 0.5 * seen.count * (_digamma(self.shape) - math.log(2 * math.pi * self.rate))
        likelihood += 0.5 * seen.logarithms - 0.5 * residual * self.shape / self.rate
        divergence += _gamma_divergence(self.shape, self.rate) + sum(mode.divergence for mode in self.modes)
        self.bounds.append(likelihood - divergence)
        if learn:
            wanted = self.idle([power / seen.count for power in powers])
            if not all(bool(kept.all()) for kept in wanted):
                self.keep(wanted)

    def _powers(self, mode: Mode) -> Tensor:
        a, c, _ = pairs(mode.rank)
        return (mode.precision * mode.second).sum(0)[a == c]

    def predict(self, coordinates: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of the function."""
        tables = [mode.at(coordinates[:, place]) for place, mode in enumerate(self.modes)]
        means, variances = [], []
        for rows in torch.arange(len(coordinates)).split(_ROWS):
            mean, second = self.moments([table[0][rows] for table in tables], [table[1][rows] for table in tables])
            means.append(mean)
            variances.append((second - mean.square()).clamp(min=0.0))
        return torch.cat(means), torch.cat(variances)

    def tensors(self) -> dict[str, Tensor]:
        """Everything, by name."""
        found = {"noise": torch.tensor([self.shape, self.rate, self.error], dtype=torch.float64)}
        found["bounds"] = torch.tensor(self.bounds, dtype=torch.float64)
        for place, mode in enumerate(self.modes):
            for name in _TENSORS:
                found[f"{place}.{name}"] = getattr(mode, name)
            own = [mode.divergence, math.nan if mode.smoothness is None else mode.smoothness]
            found[f"{place}.own"] = torch.tensor(own, dtype=torch.float64)
        return found

    @classmethod
    def of(cls, tensors: dict[str, Tensor], order: int) -> Start:
        """The inverse of `tensors`."""
        modes = []
        for place in range(order):
            divergence, smoothness = tensors[f"{place}.own"].tolist()
            values: dict[str, Any] = {name: tensors[f"{place}.{name}"] for name in _TENSORS}
            smoothness = None if math.isnan(smoothness) else smoothness
            modes.append(Mode(**values, divergence=divergence, smoothness=smoothness))
        shape, rate, error = tensors["noise"].tolist()
        start = cls(modes, rate, shape)
        start.bounds, start.error = tensors["bounds"].tolist(), error
        return start


_TENSORS = (
    "positions", "mean", "second", "precision", "shift", "log_length", "log_variance", "steps", "slopes"
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class FunctionalModel:
    """What both forms return: the mixture of what several starts led to.

    Attributes:
        starts: the posteriors.
        sizes: as of the task.
        scale: what values were divided by.
        errors: after each epoch the root of the expected square of a residual, the mean over the starts.
        stopped: ``"tol"`` or ``"epochs"``.
        evidence: the largest of the starts' lower bounds on the log marginal likelihood.
        count: how many observations there were.
    """

    starts: tuple[Start, ...]
    sizes: tuple[int | None, ...]
    scale: float
    errors: tuple[float, ...]
    stopped: str
    count: int

    @property
    def evidence(self) -> float:
        return max(start.bounds[-1] for start in self.starts) - self.count * math.log(self.scale)

    @property
    def parameters(self) -> int:
        return sum(start.parameters for start in self.starts)

    @property
    def weights(self) -> Tensor:
        """Of the starts in the mixture; they add up to one."""
        bounds = torch.tensor([start.bounds[-1] for start in self.starts], dtype=torch.float64)
        return torch.softmax(bounds * min(_COUNTED / self.count, 1.0), 0)

    @property
    def ranks(self) -> tuple[tuple[int, ...], ...]:
        """How many components each mode has kept, for each start."""
        return tuple(tuple(mode.rank for mode in start.modes) for start in self.starts)

    @property
    def smoothness(self) -> tuple[tuple[float | None, ...], ...]:
        """Of the prior of each mode, for each start; None of discrete modes."""
        return tuple(tuple(mode.smoothness for mode in start.modes) for start in self.starts)

    @property
    def lengths(self) -> tuple[tuple[Tensor, ...], ...]:
        """The length scales of the components of each mode, for each start."""
        return tuple(tuple(mode.log_length.exp() for mode in start.modes) for start in self.starts)

    def predict(self, coordinates: Tensor, attributes: Tensor | None = None) -> Prediction:
        """Mean and variance of the function at points, which need not be levels that were observed.

        Raises:
            DataError: another number of modes, numbers that are not finite, a level outside its discrete mode.

        Cost: one pass of the smoother over the levels and the new positions of each continuous mode, and as much for
        each point as an observation costs.
        """
        coordinates = coordinates.to(torch.float64)
        if coordinates.ndim != 2 or coordinates.shape[1] != len(self.sizes):
            raise DataError(f"coordinates has shape {tuple(coordinates.shape)}: give {len(self.sizes)} columns")
        if not torch.isfinite(coordinates).all():
            raise DataError("coordinates holds NaN or inf: leave such points out")
        for mode, size in enumerate(self.sizes):
            column = coordinates[:, mode]
            if size is not None and bool(((column < 0) | (column >= size) | (column != column.round())).any()):
                raise DataError(f"coordinates of mode {mode} must be whole numbers from 0 to {size - 1}")
        found = [start.predict(coordinates) for start in self.starts]
        means = torch.stack([mean for mean, _ in found])
        weights = self.weights
        mean = weights @ means
        inside = weights @ torch.stack([variance for _, variance in found])
        noise = weights @ torch.tensor([start.noise for start in self.starts], dtype=torch.float64)
        between = weights @ (means - mean).square()
        return Prediction(mean * self.scale, (inside + between) * self.scale**2, noise * self.scale**2)

    def state(self) -> State:
        tensors = {
            f"{number}.{name}": tensor
            for number, start in enumerate(self.starts)
            for name, tensor in start.tensors().items()
        }
        facts = {
            "starts": len(self.starts),
            "sizes": list(self.sizes),
            "scale": self.scale,
            "errors": list(self.errors),
            "stopped": self.stopped,
            "count": self.count,
        }
        return State(tensors, facts)


def restored(state: State, kind: type[Start]) -> FunctionalModel:
    """The model of a state."""
    facts, order = state.facts, len(state.facts["sizes"])
    starts = []
    for number in range(facts["starts"]):
        before = f"{number}."
        own = {name[len(before) :]: t.clone() for name, t in state.tensors.items() if name.startswith(before)}
        starts.append(kind.of(own, order))
    return FunctionalModel(
        tuple(starts),
        tuple(facts["sizes"]),
        facts["scale"],
        tuple(facts["errors"]),
        facts["stopped"],
        facts["count"],
    )


def fitted(
    kind: type[Start],
    task: Task,
    ranks: Sequence[int],
    *,
    seed: int,
    epochs: int,
    tol: float,
    callback: Callback | None,
    resume: State | None,
    starts: int,
    smoothness: float | Sequence[float],
    learn: bool,
    length: float,
    variance: float,
    damping: float,
    levels: int,
) -> FunctionalModel:
    """Epochs of all starts until none of their bounds rises by more than ``tol`` for each observation."""
    if epochs < 1:
        raise TenfoldError(f"epochs must be at least 1, not {epochs}")
    if starts < 1:
        raise TenfoldError(f"starts must be at least 1, not {starts}")
    if not 0 <= damping < 1:
        raise TenfoldError(f"damping must be at least 0 and below 1, not {damping}")
    if levels < 2:
        raise TenfoldError(f"levels must be at least 2, not {levels}")
    for name, given in (("length", length), ("variance", variance)):
        if not 0 < given < math.inf:
            raise TenfoldError(f"{name} must be a positive number, not {given}")
    each = [smoothness] * task.order if isinstance(smoothness, (int, float)) else [*smoothness]
    if len(each) != task.order or any(one not in SMOOTHNESS for one in each):
        raise TenfoldError(f"smoothness must be 0.5, 1.5 or 2.5, one or {task.order} of them, not {smoothness}")
    seen = Seen.of(task, levels)
    errors: list[float] = []
    if resume is None:
        generator, shape = torch.Generator().manual_seed(seed), SHAPE + seen.count / 2
        begun = [
            kind.random(_modes(seen, ranks, each, length, variance, generator), shape * _NOISE, shape, generator)
            for _ in range(starts)
        ]
    else:
        model = restored(resume, kind)
        begun, errors = list(model.starts), list(model.errors)
    stopped = "epochs"

    def model_now() -> FunctionalModel:
        return FunctionalModel(tuple(begun), task.sizes, seen.scale, tuple(errors), stopped, seen.count)

    for number in range(len(errors) + 1, epochs + 1):
        if _settled(begun, seen.count, tol):
            stopped = "tol"
            break
        for start in begun:
            start.epoch(seen, number, learn, damping, number <= min(_LEARN, epochs // 2))
        errors.append(sum(start.error for start in begun) / len(begun) * seen.scale)
        if callback is not None:
            callback(Step(number, epochs, errors[-1], lambda: model_now().state()))
    else:
        stopped = "tol" if _settled(begun, seen.count, tol) else "epochs"
    return model_now()


def _modes(
    seen: Seen,
    ranks: Sequence[int],
    smoothness: Sequence[float],
    length: float,
    variance: float,
    generator: torch.Generator,
) -> list[Mode]:
    """Means at random, and certain: were they as uncertain as the prior, the first epochs would find nothing."""
    modes = []
    for positions, size, rank, smooth_by in zip(seen.positions, seen.sizes, ranks, smoothness, strict=True):
        mean = torch.randn(len(positions), rank, generator=generator, dtype=torch.float64)
        second = folded(mean[:, :, None] * mean[:, None, :])
        modes.append(
            Mode(
                positions,
                None if size is not None else smooth_by,
                mean,
                second,
                torch.zeros_like(second),
                torch.zeros_like(mean),
                torch.full((rank,), math.log(length), dtype=torch.float64),
                torch.full((rank,), math.log(variance), dtype=torch.float64),
                torch.full((2, rank), _FIRST_STEP, dtype=torch.float64),
                torch.zeros(2, rank, dtype=torch.float64),
            )
        )
    return modes


def _digamma(x: float) -> float:
    return float(torch.digamma(torch.tensor(x, dtype=torch.float64)))


def _gamma_divergence(shape: float, rate: float) -> float:
    """Of the posterior of the precision from its prior."""
    found = (shape - SHAPE) * _digamma(shape) - math.lgamma(shape) + math.lgamma(SHAPE)
    return found + SHAPE * (math.log(rate) - math.log(RATE)) + shape * (RATE - rate) / rate


def _settled(starts: list[Start], count: int, tol: float) -> bool:
    # Not before the hyper-parameters had a chance.
    if len(starts[0].bounds) < 2 * _LEARN:
        return False
    return all(max(abs(s.bounds[-1] - s.bounds[-2]), abs(s.bounds[-2] - s.bounds[-3])) <= tol * count for s in starts)
