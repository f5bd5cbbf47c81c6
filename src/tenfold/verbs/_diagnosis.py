"""How good predictions are, which observations matter, and what the data cannot tell."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from tenfold.verbs._modes import Mode
from tenfold.verbs._observed import Observed
from tenfold.verbs._spread import Spread

# The intervals that are told of, and those of the calibration curve.
LEVELS = (0.5, 0.9)
_CURVE = tuple(k / 20 for k in range(1, 20))
# How many of the held-out points, levels of a mode and observations are kept for people to see.
_POINTS, _SHOWN, _TOP = 1500, 60, 20
# Observations whose influence is computed.
_MOST = 200_000

Predict = Callable[[torch.Tensor, torch.Tensor | None], tuple[np.ndarray, np.ndarray | None, np.ndarray]]


@dataclass(frozen=True)
class Tried:
    """A model that was compared.

    Attributes:
        method, rank: what it was.
        error: the root mean square error on held-out observations, in units of their standard deviation.
        training: the same on those it was fitted to.
        evidence: its approximate log marginal likelihood, where the method knows it.
        parameters: how many numbers it has.
        seconds: the time its fit took.
        chosen: whether it was taken.
        note: why it has no error, where it has none.
    """

    method: str
    rank: int | None
    error: float | None
    training: float | None
    evidence: float | None
    parameters: int | None
    seconds: float
    chosen: bool = False
    note: str = ""

    def record(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Tried:
        return cls(**record)


@dataclass(frozen=True)
class HeldOut:
    """How well observations that were held out are predicted, in the units of the data.

    Attributes:
        count: how many.
        kind: ``"test"``: nothing was chosen or set by them; ``"calibration"``: the model was chosen and the width of
            its intervals set by them, so that the numbers are a little too good.
        rmse, mae: root mean square and mean absolute error.
        deviation: the standard deviation of what was observed there, which a constant would have for its error.
        coverage: for the level of an interval the share that is within it.
        width: for the level of an interval its mean width (how sharp it is).
        log_density: the mean logarithm of the predictive density.
        curve: levels and the shares within, for the calibration plot.
        points: some of predicted, observed and the predicted standard deviation.
    """

    count: int
    kind: str
    rmse: float
    mae: float
    deviation: float
    coverage: dict[str, float]
    width: dict[str, float]
    log_density: float
    curve: list[tuple[float, float]]
    points: list[tuple[float, float, float]]

    def record(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> HeldOut:
        pairs = {
            "curve": [tuple(map(float, one)) for one in record["curve"]],
            "points": [tuple(map(float, one)) for one in record["points"]],
        }
        return cls(**{**record, **pairs})


@dataclass(frozen=True)
class Diagnosis:
    """What there is to know before predictions are believed.

    Attributes:
        warnings: what the data cannot tell, in sentences.
        residuals: for each mode its levels (or stretches of it) with how many were observed, the mean and the root mean
            square of observed minus predicted.
        influential: the observations that matter most: where, observed, predicted, and Cook's distance.
    """

    warnings: tuple[str, ...]
    residuals: dict[str, list[dict[str, Any]]]
    influential: list[dict[str, Any]]

    def record(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Diagnosis:
        return cls(
            tuple(map(str, record["warnings"])),
            {str(mode): list(rows) for mode, rows in record["residuals"].items()},
            list(record["influential"]),
        )


def measure(
    spread: Spread, value: np.ndarray, mean: np.ndarray, deviation: np.ndarray, kind: str, seed: int
) -> HeldOut:
    """Compare held-out observations with what was predicted for them."""
    off = value - mean
    largest = float(np.abs(off).max()) or 1.0
    coverage = {f"{level:g}": float(spread.covered(value, mean, deviation, level).mean()) for level in LEVELS}
    width = {
        f"{level:g}": float(
            np.mean(
                spread.quantile((1 + level) / 2, mean, deviation) - spread.quantile((1 - level) / 2, mean, deviation)
            )
        )
        for level in LEVELS
    }
    kept = np.random.default_rng(seed).permutation(len(value))[:_POINTS]
    wide = spread.deviation(mean, deviation)
    return HeldOut(
        len(value),
        kind,
        largest * math.sqrt(float(np.mean((off / largest) ** 2))),
        float(np.abs(off).mean()),
        _deviation(value),
        coverage,
        width,
        float(spread.log_density(value, mean, deviation).mean()),
        [(level, float(spread.covered(value, mean, deviation, level).mean())) for level in _CURVE],
        [(float(mean[k]), float(value[k]), float(wide[k])) for k in kept],
    )


def _deviation(value: np.ndarray) -> float:
    largest = float(np.abs(value).max()) or 1.0
    return largest * float(np.std(value / largest))


def diagnose(data: Observed, rank: int | None, predict: Predict, seed: int) -> Diagnosis:
    """Residuals by mode, observations that matter, and what the data cannot tell.

    Costs one prediction at (a sample of at most 200,000 of) the observations.
    """
    rows = np.arange(len(data))
    if len(rows) > _MOST:
        rows = np.sort(np.random.default_rng(seed).permutation(len(rows))[:_MOST])
    part = torch.from_numpy(rows)
    attributes = None if data.attributes is None else data.attributes[part]
    mean, own, total = predict(data.coordinates[part], attributes)
    value = data.values[part].numpy()
    residual = value - mean
    places = data.coordinates[part].numpy()
    return Diagnosis(
        tuple(doubts(data, rank)),
        {mode.name: _by_level(mode, places[:, k], residual) for k, mode in enumerate(data.modes)},
        _influential(data, rows, mean, own, total),
    )


def _by_level(mode: Mode, places: np.ndarray, residual: np.ndarray) -> list[dict[str, Any]]:
    """The levels of a mode, or as many stretches of it, and how far off the model is there."""
    levels, index = np.unique(places, return_inverse=True)
    if mode.continuous and len(levels) > _SHOWN:
        index = np.minimum((places * _SHOWN).astype(np.int64), _SHOWN - 1)
        levels = (np.arange(_SHOWN) + 0.5) / _SHOWN
    count = np.bincount(index, minlength=len(levels))
    safe = np.maximum(count, 1)
    mean = np.bincount(index, residual, len(levels)) / safe
    largest = float(np.abs(residual).max()) or 1.0
    rms = largest * np.sqrt(np.bincount(index, (residual / largest) ** 2, len(levels)) / safe)
    shown = np.flatnonzero(count)
    if not mode.continuous and len(shown) > _SHOWN:
        shown = np.sort(shown[np.argsort(-rms[shown], kind="stable")[:_SHOWN]])
    return [
        {
            "level": mode.at(float(levels[k])),
            "count": int(count[k]),
            "mean": float(mean[k]),
            "rms": float(rms[k]),
        }
        for k in shown
    ]


def _influential(
    data: Observed, rows: np.ndarray, mean: np.ndarray, own: np.ndarray | None, total: np.ndarray
) -> list[dict[str, Any]]:
    """Cook's distance with the posterior variance for the leverage: how far an observation moved its own prediction."""
    value = data.values.numpy()[rows]
    unit = np.maximum(total, np.finfo(np.float64).tiny)
    leverage = np.zeros(len(rows)) if own is None else np.clip((own / unit) ** 2, 0.0, 0.99)
    apart = ((value - mean) / unit) ** 2
    distance = apart * leverage / (1 - leverage) ** 2 if own is not None else apart
    order = np.argsort(-distance, kind="stable")[:_TOP]
    places = data.coordinates.numpy()[rows]
    return [
        {
            "where": {mode.name: mode.at(float(places[k, n])) for n, mode in enumerate(data.modes)},
            "observed": float(value[k]),
            "predicted": float(mean[k]),
            "influence": float(distance[k]),
            "leverage": float(leverage[k]),
        }
        for k in order
        if distance[k] > 0
    ]


def doubts(data: Observed, rank: int | None) -> list[str]:
    """What the data cannot tell, in sentences: thin slices, a pattern in parts, modes that never change.

    Paper for connectedness as a condition of completion: "A singular value thresholding algorithm for matrix
    completion", 2010, has it for matrices in the form of no empty row; "The algebraic combinatorial approach for
    low-rank matrix completion", 2015, in the form of the graph of the pattern.
    """
    found = []
    places = data.coordinates.numpy()
    wanted = max(1, rank or 1)
    for number, mode in enumerate(data.modes):
        if mode.size == 1:
            found.append(f"mode '{mode.name}' has one level, so nothing can be told about how it matters")
            continue
        if mode.continuous:
            continue
        count = np.bincount(places[:, number].astype(np.int64), minlength=mode.size)
        empty = np.flatnonzero(count == 0)
        thin = np.flatnonzero((count > 0) & (count < wanted))
        if len(empty):
            found.append(
                f"{_levels(mode, empty)} of mode '{mode.name}' {'was' if len(empty) == 1 else 'were'} never observed: "
                f"there only the prior speaks"
            )
        if len(thin):
            found.append(
                f"{_levels(mode, thin)} of mode '{mode.name}' {'has' if len(thin) == 1 else 'have'} fewer observations "
                f"than the rank, {wanted}: predictions there lean on the prior"
            )
    parts = _parts(data.modes, places)
    if parts > 1:
        found.append(
            f"the observations fall into {parts:,} parts that share no level: nothing tells how one is scaled against "
            f"another, so predictions across them are guesses"
        )
    return found


def _parts(modes: Sequence[Mode], places: np.ndarray) -> int:
    """Into how many parts the observations fall that have no level in common; a continuous mode joins all."""
    if any(mode.continuous for mode in modes) or len(modes) < 2:
        return 1
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    offsets = np.cumsum([0, *(mode.size for mode in modes)])
    nodes = places.astype(np.int64) + offsets[:-1]
    first = np.repeat(nodes[:, :1], len(modes) - 1, axis=1).ravel()
    other = nodes[:, 1:].ravel()
    graph = coo_array((np.ones(len(first), dtype=np.int8), (first, other)), shape=(offsets[-1], offsets[-1]))
    _, label = connected_components(graph, directed=False)
    return len(np.unique(label[nodes[:, 0]]))


def _levels(mode: Mode, which: np.ndarray) -> str:
    names = ", ".join(mode.label(int(k)) for k in which[:3])
    if len(which) == 1:
        return f"level {names}"
    return f"{len(which):,} levels ({names}{', ...' if len(which) > 3 else ''})"
