"""Several networks of the same shape, trained side by side: what "neural" and "dain" are made of.

A network has an embedding of each mode and a perceptron on the embeddings of a cell, one after another. A continuous
mode has its embedding at knots and between them a mean of the two beside. All members are one batch of matrices, so
that a step of all of them is one call of BLAS for each layer.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from tenfold.completion._registry import Callback, Step
from tenfold.completion.model import Prediction, State
from tenfold.completion.task import Task
from tenfold.errors import DataError

# Rows that pass through the networks at once where nothing is learned of them.
_CHUNK = 8192
# Standard deviation of embeddings at the start. Of levels with few observations much of the start remains: from 1 the
# error on days of which seven were observed was twice that from 0.1.
_SMALL = 0.1
# The part of a continuous mode over which most of what is known of a position is forgotten.
_FORGOTTEN = 0.1


@dataclass(frozen=True)
class Shape:
    """What an ensemble looks like.

    Attributes:
        levels: of each mode, levels of a discrete one and knots of a continuous one.
        continuous: which modes are continuous.
        embedding: numbers for each level.
        widths: of the hidden layers.
        members: how many networks.
    """

    levels: tuple[int, ...]
    continuous: tuple[bool, ...]
    embedding: int
    widths: tuple[int, ...]
    members: int

    @classmethod
    def of(cls, task: Task, *, embedding: int, widths: tuple[int, ...], members: int, knots: int) -> Shape:
        """For a task; a continuous mode has at most as many knots as positions."""
        levels = [
            min(knots, len(task.levels(mode)[0])) if size is None else size for mode, size in enumerate(task.sizes)
        ]
        return cls(tuple(levels), tuple(size is None for size in task.sizes), embedding, widths, members)

    @property
    def parameters(self) -> int:
        """Numbers in all members."""
        sizes = (len(self.levels) * self.embedding, *self.widths, 1)
        layers = sum(one * other + other for one, other in itertools.pairwise(sizes))
        return self.members * (sum(self.levels) * self.embedding + layers)


@dataclass(frozen=True)
class Places:
    """Where rows are in the table of embeddings of the first member.

    Attributes:
        left: of each row and mode the level, or the knot before.
        right: the knot after; None where no mode is continuous.
        fraction: how far from the left to the right, 0 in discrete modes.
    """

    left: Int[Tensor, "n N"]
    right: Int[Tensor, "n N"] | None
    fraction: Float[Tensor, "n N"] | None

    @classmethod
    def of(cls, coordinates: Float[Tensor, "n N"], shape: Shape) -> Places:
        """Raises `DataError` for a level that is none; positions beyond the ends count as the ends."""
        levels = torch.tensor(shape.levels, device=coordinates.device)
        offsets = levels.cumsum(0) - levels
        continuous = torch.tensor(shape.continuous, device=coordinates.device)
        steps = torch.where(continuous, coordinates.clamp(0, 1) * (levels - 1), coordinates)
        left = torch.where(continuous, steps.floor(), steps).long()
        wrong = ((left < 0) | (left >= levels)).any(0).nonzero()
        if len(wrong):
            mode = int(wrong[0])
            raise DataError(f"coordinates of mode {mode} must be whole numbers from 0 to {shape.levels[mode] - 1}")
        if not any(shape.continuous):
            return cls(left + offsets, None, None)
        left = torch.where(continuous, torch.minimum(left, (levels - 2).clamp(min=0)), left)
        right = torch.where(continuous, torch.minimum(left + 1, levels - 1), left)
        fraction = torch.where(continuous, steps - left, 0.0)
        return cls(left + offsets, right + offsets, fraction.float())

    def __getitem__(self, rows: Tensor | slice) -> Places:
        if self.right is None or self.fraction is None:
            return Places(self.left[rows], None, None)
        return Places(self.left[rows], self.right[rows], self.fraction[rows])


Weights = dict[str, Tensor]


def initial(shape: Shape, generator: torch.Generator, device: torch.device) -> Weights:
    """Random weights: of a discrete mode small normal numbers, of a continuous one smooth random curves as small."""
    tables = []
    for levels, continuous in zip(shape.levels, shape.continuous, strict=True):
        if continuous:
            # Sums of cosines of low frequency: at the start neighbouring knots say nearly the same.
            size = (shape.members, 8, shape.embedding)
            frequency = 2 * math.pi * torch.randn(size, generator=generator)
            phase = 2 * math.pi * torch.rand(size, generator=generator)
            position = torch.linspace(0, 1, levels)[:, None, None, None]
            table = ((frequency * position + phase).cos() / 2).sum(2).movedim(0, 1)
        else:
            table = torch.randn(shape.members, levels, shape.embedding, generator=generator)
        tables.append(table)
    weights = {"embedding": _SMALL * torch.cat(tables, 1).flatten(0, 1)}
    sizes = (len(shape.levels) * shape.embedding, *shape.widths, 1)
    for number, (rows, columns) in enumerate(itertools.pairwise(sizes)):
        bound = 1 / math.sqrt(rows)
        for name, height in ((f"weight{number}", rows), (f"bias{number}", 1)):
            weights[name] = (2 * torch.rand(shape.members, height, columns, generator=generator) - 1) * bound
    return {name: value.to(device).contiguous() for name, value in weights.items()}


def activations(weights: Mapping[str, Tensor], places: Places, shape: Shape) -> Float[Tensor, "members n width"]:
    """The last hidden layer; places are those of each member, or of all of them alike."""
    table = weights["embedding"]
    offsets = torch.arange(shape.members, device=table.device)[:, None, None] * sum(shape.levels)
    hidden = functional.embedding(places.left + offsets, table)
    if places.right is not None and places.fraction is not None:
        hidden = hidden.lerp(functional.embedding(places.right + offsets, table), places.fraction[..., None])
    hidden = hidden.flatten(2)
    for number in range(len(shape.widths)):
        hidden = torch.baddbmm(weights[f"bias{number}"], hidden, weights[f"weight{number}"]).relu_()
    return hidden


def outputs(
    weights: Mapping[str, Tensor], hidden: Float[Tensor, "members n width"], shape: Shape
) -> Float[Tensor, "members n"]:
    """The linear layer at the end."""
    last = len(shape.widths)
    return torch.baddbmm(weights[f"bias{last}"], hidden, weights[f"weight{last}"])[..., 0]


@torch.no_grad()
def predictions(weights: Mapping[str, Tensor], places: Places, shape: Shape) -> Float[Tensor, "members n"]:
    """Of all members at the same rows."""
    parts = [
        outputs(weights, activations(weights, places[start : start + _CHUNK], shape), shape)
        for start in range(0, len(places.left), _CHUNK)
    ]
    return torch.cat(parts, 1) if parts else torch.zeros(shape.members, 0)


def filled(weights: Weights, places: Places, shape: Shape) -> tuple[Weights, Float[Tensor, " levels"]]:
    """The same with embeddings of what no row meets, of which training says nothing; and how unknown everything is.

    A level not met has the mean of those met, and knots lie on the line between those met beside them. Known things
    are at 0, levels not met at 1, and knots go from one to the other with the distance to the nearest that is met.
    """
    met = torch.zeros(sum(shape.levels), dtype=torch.bool)
    for side in (places.left, places.right):
        if side is not None:
            met[side.flatten().cpu()] = True
    unknown = (~met).double()
    if bool(met.all()):
        return weights, unknown
    table = weights["embedding"].unflatten(0, (shape.members, -1)).clone()
    begin = 0
    for levels, continuous in zip(shape.levels, shape.continuous, strict=True):
        some = slice(begin, begin + levels)
        known, missing = (part.nonzero()[:, 0] for part in (met[some], ~met[some]))
        if continuous:
            after = torch.searchsorted(known, missing)
            left, right = known[(after - 1).clamp(min=0)], known[after.clamp(max=len(known) - 1)]
            part = ((missing - left) / (right - left).clamp(min=1)).clamp(0, 1)[:, None].to(table)
            table[:, begin + missing] = table[:, begin + left].lerp(table[:, begin + right], part)
            distance = torch.minimum((missing - left).abs(), (missing - right).abs()) / max(levels - 1, 1)
            unknown[begin + missing] = forgotten(distance)
        else:
            table[:, begin + missing] = table[:, begin + known].mean(1, keepdim=True)
        begin += levels
    return {**weights, "embedding": table.flatten(0, 1)}, unknown


def forgotten(distance: Tensor) -> Tensor:
    """The part that is forgotten at a distance along a continuous mode."""
    return 1 - (-distance.double() / _FORGOTTEN).exp()


@dataclass(frozen=True)
class Scale:
    """Values as networks see them: of mean zero and variance one."""

    shift: float
    factor: float

    @classmethod
    def of(cls, values: Float[Tensor, " n"]) -> Scale:
        # The largest first: squares of numbers near the ends of float64 are none.
        largest = float(values.abs().max()) or 1.0
        small = values / largest
        spread = float(small.std(correction=0))
        return cls(float(small.mean()) * largest, (spread if spread > 1e-12 else 1.0) * largest)

    def apply(self, values: Tensor) -> Tensor:
        return ((values - self.shift) / self.factor).float()

    def undo(self, values: Tensor) -> Tensor:
        return values.double() * self.factor + self.shift


@dataclass(frozen=True)
class Settings:
    """How an ensemble is trained.

    Attributes:
        rate: of Adam.
        batch: rows of each member in a step, None for a sixteenth of them between 32 and 256.
        patience: epochs without a better validation error after which a member is done.
        validation: the part of the observations that each member leaves out; the next member leaves out the next.
    """

    rate: float
    batch: int | None
    patience: int
    validation: float


def split(rows: int, members: int, part: float, seed: int) -> tuple[Int[Tensor, "M t"], Int[Tensor, "M v"]]:
    """The rows that each member learns from, and those that it leaves out; each draws for itself."""
    generator = torch.Generator().manual_seed(seed)
    orders = torch.stack([torch.randperm(rows, generator=generator) for _ in range(members)])
    if rows == 1:
        return orders, orders
    held = min(max(1, round(part * rows)), rows - 1)
    return orders[:, held:].contiguous(), orders[:, :held].contiguous()


@dataclass(frozen=True)
class Extra:
    """Rows that every member learns from besides, with a value of its own for each member."""

    places: Places
    values: Float[Tensor, "members m"]


@dataclass(frozen=True, eq=False)
class Trained:
    """What training ends with.

    Attributes:
        weights: of each member those of its best epoch.
        unknown: of each level and knot, from 0 of one that was met to 1.
        held: the mean square of the residuals of each member on what it left out, at its best epoch.
        spread: the mean variance between members at observations that they had left out.
        errors: root mean square of the residuals in each epoch, as the fit saw them.
        stopped: ``"tol"`` where all members were done before the last epoch.
        influence: of each row on what each member left out, summed up to its best epoch; 0 of rows left out.
    """

    weights: Weights
    unknown: Float[Tensor, " levels"]
    held: Float[Tensor, " members"]
    spread: float
    errors: tuple[float, ...]
    stopped: str
    influence: Float[Tensor, "members n"]


class Training:
    """The state of a training, an epoch at a time.

    Args:
        task: what is learned.
        shape: of the ensemble.
        settings: of the optimiser.
        seed: fixes the split, the start and the order of batches.
        extra: further rows to learn from.
    """

    def __init__(self, task: Task, shape: Shape, settings: Settings, *, seed: int, extra: Extra | None = None) -> None:
        device = task.values.device
        self.shape, self.settings, self.extra = shape, settings, extra
        self.scale = Scale.of(task.values)
        self.rows = len(task)
        self.learned, self.left_out = split(self.rows, shape.members, settings.validation, seed)
        self.places = Places.of(task.coordinates, shape)
        values = self.scale.apply(task.values).expand(shape.members, -1)
        precision = torch.ones(self.rows, device=device) if task.weights is None else task.weights
        precision = (precision / precision.mean()).float()
        if extra is not None:
            self.places = _together(self.places, extra.places)
            values = torch.cat([values, extra.values.to(values)], 1)
            precision = torch.cat([precision, torch.ones(extra.values.shape[1], device=device)])
            more = torch.arange(self.rows, len(precision)).expand(shape.members, -1)
            self.learned = torch.cat([self.learned, more], 1)
        self.values, self.precision = values, precision
        self.generator = torch.Generator().manual_seed(seed)
        self.weights = initial(shape, self.generator, device)
        self.best = {name: value.clone() for name, value in self.weights.items()}
        self.optimiser = _adam(self.weights, settings.rate)
        self.best_held = torch.full((shape.members,), math.inf, dtype=torch.float64)
        self.waited = torch.zeros(shape.members, dtype=torch.long)
        self.influence = torch.zeros(shape.members, self.rows, dtype=torch.float64)
        self.best_influence = self.influence.clone()
        self.errors: list[float] = []
        self.pull = self._validate()[1]

    def epoch(self, tol: float) -> None:
        """Every member sees each of its rows once, in an order of its own."""
        members, count = self.learned.shape
        noise = torch.rand(members, count, generator=self.generator)
        order = self.learned.gather(1, noise.argsort(1))
        places, precision = self.places[order], self.precision[order]
        values = self.values.gather(1, order)
        batch = self.settings.batch or min(max(32, count // 16), 256)
        pieces = math.ceil(count / batch)
        bounds = [count * piece // pieces for piece in range(pieces + 1)]
        squares = 0.0
        gained = torch.empty(members, count)
        for start, end in itertools.pairwise(bounds):
            piece = slice(start, end)
            self.optimiser.zero_grad(set_to_none=True)
            hidden = activations(self.weights, _columns(places, piece), self.shape)
            residual = outputs(self.weights, hidden, self.shape) - values[:, piece]
            squared = precision[:, piece] * residual.square()
            squared.mean(1).sum().backward()
            with torch.no_grad():
                gained[:, piece] = residual * torch.bmm(hidden, self.pull[..., None])[..., 0]
                squares += float(squared.sum())
            self.optimiser.step()
        gained *= precision
        # What was added to the observations has no influence of its own.
        sums = torch.zeros(members, self.places.left.shape[0]).scatter_(1, order, gained)
        self.influence += sums[:, : self.rows]
        held, self.pull = self._validate()
        # Members that are done go on with the others; their best epoch stays where it was.
        better = (held < self.best_held * (1 - tol)) & (self.waited < self.settings.patience)
        done = self.waited >= self.settings.patience
        for name, value in self.weights.items():
            best, now = (one.unflatten(0, (members, -1)) for one in (self.best[name], value.detach()))
            best[better] = now[better]
        self.best_influence[better] = self.influence[better]
        self.best_held = torch.where(better, held, self.best_held)
        self.waited = torch.where(better, 0, torch.where(done, self.waited, self.waited + 1))
        self.errors.append(math.sqrt(squares / (members * count)) * self.scale.factor)

    @property
    def done(self) -> bool:
        """Whether no member can become better any more."""
        return bool((self.waited >= self.settings.patience).all())

    @torch.no_grad()
    def _validate(self) -> tuple[Float[Tensor, " M"], Float[Tensor, "M width"]]:
        """The mean squared error of each member on what it left out, and the sum of its last layer's gradients there.

        The gradient of half a squared error by the last weights is the residual times the last hidden layer.
        """
        squares = torch.zeros(self.shape.members, dtype=torch.float64)
        pull = torch.zeros(self.shape.members, self.shape.widths[-1], device=self.values.device)
        for start in range(0, self.left_out.shape[1], _CHUNK):
            rows = self.left_out[:, start : start + _CHUNK]
            hidden = activations(self.weights, self.places[rows], self.shape)
            residual = outputs(self.weights, hidden, self.shape) - self.values.gather(1, rows)
            weighted = self.precision[rows] * residual
            squares += (weighted * residual).double().sum(1)
            pull += torch.bmm(weighted[:, None], hidden)[:, 0]
        return squares / self.left_out.shape[1], pull

    def finish(self) -> Trained:
        """What was best of each member."""
        weights = {name: value.clone() for name, value in self.best.items()}
        every, unknown = filled(weights, self.places, self.shape)
        return Trained(
            every,
            unknown,
            self.best_held * self.scale.factor * self.scale.factor,
            self._spread(weights) * self.scale.factor * self.scale.factor,
            tuple(self.errors),
            "tol" if self.done else "epochs",
            self.best_influence,
        )

    def _spread(self, weights: Weights) -> float:
        """The mean variance between two members at observations that both had left out.

        Where they learned members agree better than elsewhere. Of too few such observations it is that at all of them.
        """
        if self.shape.members == 1:
            return 0.0
        seen = predictions(weights, self.places[slice(0, self.rows)], self.shape).double()
        left = torch.zeros(self.shape.members, self.rows, dtype=torch.bool).scatter_(1, self.left_out, True)
        left &= left.sum(0) > 1
        if int(left.sum()) < 20:
            left = torch.ones_like(left)
        count = left.sum(0)
        mean = (seen * left).sum(0) / count.clamp(min=1)
        deviations = ((seen - mean).square() * left).sum(0)
        return float(deviations.sum() / (count - 1).clamp(min=0).sum())

    def tensors(self) -> dict[str, Tensor]:
        """All numbers that `load` needs to go on; `Trained` weights are those that begin with ``best.``."""
        kept = {
            "waited": self.waited,
            "held": self.best_held,
            "influence": self.influence,
            "best_influence": self.best_influence,
            "pull": self.pull,
            "generator": self.generator.get_state(),
            "residuals": torch.tensor(self.errors, dtype=torch.float64),
        }
        for name, value in self.weights.items():
            kept[f"now.{name}"] = value.detach()
            kept[f"best.{name}"] = self.best[name]
            moments = self.optimiser.state[value]
            for moment in ("exp_avg", "exp_avg_sq", "step"):
                kept[f"{moment}.{name}"] = moments[moment]
        return {name: value.clone() for name, value in kept.items()}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from what `tensors` returned."""
        self.waited, self.best_held = tensors["waited"].clone(), tensors["held"].clone()
        self.influence, self.best_influence = tensors["influence"].clone(), tensors["best_influence"].clone()
        self.pull = tensors["pull"].clone()
        self.generator.set_state(tensors["generator"].clone())
        self.errors = tensors["residuals"].tolist()
        for name, value in self.weights.items():
            value.data.copy_(tensors[f"now.{name}"])
            self.best[name].copy_(tensors[f"best.{name}"])
            self.optimiser.state[value] = {
                moment: tensors[f"{moment}.{name}"].clone() for moment in ("step", "exp_avg", "exp_avg_sq")
            }


def _adam(weights: Weights, rate: float) -> torch.optim.Adam:
    for value in weights.values():
        value.requires_grad_(True)
    return torch.optim.Adam(list(weights.values()), lr=rate, fused=True)


def _columns(places: Places, piece: slice) -> Places:
    """Of places of each member, the same columns."""
    if places.right is None or places.fraction is None:
        return Places(places.left[:, piece], None, None)
    return Places(places.left[:, piece], places.right[:, piece], places.fraction[:, piece])


def _together(one: Places, other: Places) -> Places:
    left = torch.cat([one.left, other.left])
    if one.right is None or one.fraction is None or other.right is None or other.fraction is None:
        return Places(left, None, None)
    return Places(left, torch.cat([one.right, other.right]), torch.cat([one.fraction, other.fraction]))


def train(
    training: Training,
    *,
    epochs: int,
    tol: float,
    callback: Callback | None,
    state: Callable[[], State],
    before: int = 0,
    of: int | None = None,
) -> Trained:
    """Epochs until all members are done; the callback is told of those ``before``, and of how many in all."""
    while len(training.errors) < epochs and not training.done:
        training.epoch(tol)
        if callback is not None:
            epoch = before + len(training.errors)
            callback(Step(epoch, of or epochs, training.errors[-1], state))
    return training.finish()


@dataclass(frozen=True, eq=False)
class Networks:
    """Trained networks: the `Model` of "neural", and what "dain" predicts with.

    The mean is that of the members and the variance the one between them. The noise is such that both together are, on
    average, what the mean is wrong by where it has learned nothing, squared. Members agree about what none of them was
    shown: at levels without observations, and with the distance from the next in continuous modes, that of all values
    is added to the variance.
    """

    weights: Weights
    unknown: Float[Tensor, " levels"]
    shape: Shape
    scale: Scale
    noise: float
    errors: tuple[float, ...]
    stopped: str
    evidence: float | None = None

    @classmethod
    def of(cls, trained: Trained, shape: Shape, scale: Scale, before: tuple[float, ...] = ()) -> Networks:
        """From the end of a training, and the errors of epochs ``before`` it."""
        # The square error of a mean is the mean square error of the members less the variance between them. What is
        # left of that beside the variance that is told is noise, a hundredth of the error at least.
        held = float(trained.held.mean())
        of_mean = held - trained.spread * (shape.members - 1) / shape.members
        noise = max(of_mean - trained.spread, 0.01 * held)
        return cls(trained.weights, trained.unknown, shape, scale, noise, before + trained.errors, trained.stopped)

    @property
    def parameters(self) -> int:
        """How many numbers all members have."""
        return self.shape.parameters

    def members(self, coordinates: Float[Tensor, "m N"]) -> Float[Tensor, "members m"]:
        """What each member predicts."""
        return self.scale.undo(predictions(self.weights, Places.of(coordinates, self.shape), self.shape))

    def predict(self, coordinates: Float[Tensor, "m N"], attributes: Float[Tensor, "m D"] | None = None) -> Prediction:
        """The mean of the members and the variance between them; None of one member alone."""
        each = self.members(coordinates)
        # The variance of no column at all warns.
        variance = (each.var(0) if each.numel() else each.sum(0)) if self.shape.members > 1 else None
        if variance is not None:
            variance = variance + self._unknown(coordinates) * self.scale.factor * self.scale.factor
        return Prediction(each.mean(0), variance, torch.tensor(self.noise, dtype=torch.float64))

    def _unknown(self, coordinates: Float[Tensor, "m N"]) -> Float[Tensor, " m"]:
        """From 0 where every mode is known to 1 where one is not at all."""
        if not any(self.shape.continuous) and not bool(self.unknown.any()):
            return torch.zeros(len(coordinates), dtype=torch.float64, device=coordinates.device)
        places, table = Places.of(coordinates, self.shape), self.unknown.to(coordinates.device)
        part = table[places.left]
        if places.right is not None and places.fraction is not None:
            part = part.lerp(table[places.right], places.fraction.double())
            # Positions beyond the ends count as the ends, which are as far away.
            continuous = torch.tensor(self.shape.continuous, device=coordinates.device)
            beyond = (coordinates - coordinates.clamp(0, 1)).abs() * continuous
            part = 1 - (1 - part) * (1 - forgotten(beyond))
        return 1 - (1 - part).prod(1)

    def state(self) -> State:
        """Weights as tensors, all else as facts."""
        return State(
            {f"best.{name}": value for name, value in self.weights.items()}
            | {"errors": torch.tensor(self.errors, dtype=torch.float64), "unknown": self.unknown},
            {
                "shape": asdict(self.shape),
                "scale": asdict(self.scale),
                "noise": self.noise,
                "stopped": self.stopped,
            },
        )

    @classmethod
    def restore(cls, state: State) -> Networks:
        """The same again."""
        facts: Mapping[str, Any] = state.facts
        given: dict[str, Any] = {
            name: tuple(v) if isinstance(v, list | tuple) else v for name, v in facts["shape"].items()
        }
        shape = Shape(**given)
        weights = {name[5:]: value for name, value in state.tensors.items() if name.startswith("best.")}
        errors = tuple(state.tensors["errors"].tolist())
        return cls(
            weights, state.tensors["unknown"], shape, Scale(**facts["scale"]), facts["noise"], errors, facts["stopped"]
        )
