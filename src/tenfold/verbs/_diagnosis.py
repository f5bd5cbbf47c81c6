"""How good predictions are, which observations matter, and what the data cannot tell."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
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
# A stretch of a continuous mode without observations is told of when it is this part of the mode, and so many times as
# long as stretches between neighbours are.
_GAP, _LONGER = 0.1, 4.0
# Levels that are off throughout: by so many standard errors, and by this part of the usual residual.
_ERRORS, _OFF = 4.0, 0.5
# Predictions that explain less than this share of the variance are hardly better than a constant.
_LITTLE = 0.1
# A training error below this part of the held-out one, which is itself above the second number, follows noise.
_FOLLOWS, _LARGE = 0.5, 0.1
# The share of the observations at cells that were observed more than once that is told of.
_REPEATED = 0.2

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
        deviation: that standard deviation; errors times it are in the units of the data.
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
    deviation: float = 1.0

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
        points: some of them as predicted, observed, and the ends of the 0.9 interval.
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
    points: list[tuple[float, float, float, float]]

    @property
    def explained(self) -> float:
        """The share of the variance that the predictions explain; below zero where a constant is better."""
        return 1 - (self.rmse / self.deviation) ** 2 if self.deviation > 0 else 0.0

    def chance(self, level: float, within: float = 0.95) -> tuple[float, float]:
        """The shares that exact intervals hold of so many observations, but for a part ``1 - within`` of all cases."""
        from scipy import stats

        low, high = stats.binom.ppf([(1 - within) / 2, (1 + within) / 2], self.count, level) / self.count
        return float(low), float(high)

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
        residuals: for each mode its levels (or stretches of it) with their place, how many were observed, the mean and
            the root mean square of observed minus predicted.
        influential: the observations that matter most: where, observed, predicted, and Cook's distance.
        typical: for each mode a setting of the others, as coordinates of the model, at which much was observed along
            it.
    """

    warnings: tuple[str, ...]
    residuals: dict[str, list[dict[str, Any]]]
    influential: list[dict[str, Any]]
    typical: dict[str, dict[str, float]] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Diagnosis:
        return cls(
            tuple(map(str, record["warnings"])),
            {str(mode): list(rows) for mode, rows in record["residuals"].items()},
            list(record["influential"]),
            {
                str(mode): {str(other): float(place) for other, place in setting.items()}
                for mode, setting in record["typical"].items()
            },
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
    low, high = (spread.quantile(q, mean[kept], deviation[kept]) for q in (0.05, 0.95))
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
        [
            (float(a), float(b), float(c), float(d))
            for a, b, c, d in zip(mean[kept], value[kept], low, high, strict=True)
        ],
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
    residuals = {mode.name: _by_level(mode, places[:, k], residual) for k, mode in enumerate(data.modes)}
    return Diagnosis(
        (*doubts(data, rank), *_off(residuals, residual)),
        residuals,
        _influential(data, rows, mean, own, total),
        _typical(data.modes, places),
    )


def worries(
    data: Observed,
    held: HeldOut | None,
    tried: Sequence[Tried],
    *,
    by_cell: bool,
    interrupted: bool,
    untried: Sequence[str] = (),
) -> list[str]:
    """What speaks against a fit, in sentences: nothing held out, little explained, noise followed, wrong intervals.

    ``untried`` are the models for which no time was left.
    """
    found = []
    if interrupted:
        found.append("the fit was interrupted: this is what there was until then")
    if held is None:
        return [*found, f"of {len(data):,} observations none was held out: nothing tells how good the predictions are"]
    explained = held.explained
    if explained < _LITTLE:
        found.append(
            f"held-out observations are predicted {'hardly' if explained > 0 else 'no'} better than by a constant: "
            f"{100 * max(explained, 0):.0f} % of their variance is explained"
        )
    for level, share in held.coverage.items():
        low, high = held.chance(float(level))
        if held.kind == "test" and not low <= share <= high:
            lowest, highest = held.chance(float(level), 0.99)
            way = f"too {'narrow' if share < low else 'wide'}"
            found.append(
                f"{100 * float(level):g} % intervals hold {100 * share:.1f} % of {held.count:,} test observations: "
                + (
                    f"they may be {way}; exact ones hold {100 * low:.1f} to {100 * high:.1f} % in 95 of 100 cases"
                    if lowest <= share <= highest
                    else f"they are {way}"
                )
            )
    chosen = next((one for one in tried if one.chosen), None)
    if chosen is not None and chosen.error is not None and chosen.training is not None:
        if chosen.error > _LARGE and chosen.training < _FOLLOWS * chosen.error:
            found.append(
                f"when models were compared, the error on what was fitted, {chosen.training:.3g} standard deviations, "
                f"was far below that on what was held out, {chosen.error:.3g}: part of what was learnt is noise, and "
                f"more observations would help"
            )
        ranks = [one.rank for one in tried if one.method == chosen.method and one.rank is not None]
        if len(ranks) > 1 and chosen.rank == max(ranks) and not interrupted:
            found.append(f"the largest rank that was tried, {chosen.rank}, predicts best: a larger one may be better")
    if untried:
        found.append(
            f"time was up before {', '.join(untried)} {'was' if len(untried) == 1 else 'were'} tried: more seconds may "
            f"find a better model"
        )
    if not by_cell:
        _, count = np.unique(data.coordinates.numpy(), axis=0, return_counts=True)
        repeated = int(count[count > 1].sum())
        if repeated > _REPEATED * len(data):
            found.append(
                f"{100 * repeated / len(data):.0f} % of the observations are at places that were observed more than "
                f"once, so held-out ones have likes among the others; held out by cell, the errors may be larger"
            )
    return found


def _off(residuals: Mapping[str, Sequence[Mapping[str, Any]]], residual: np.ndarray) -> list[str]:
    """Levels at which predictions are too high, or too low, throughout."""
    largest = float(np.abs(residual).max()) or 1.0
    usual = largest * math.sqrt(float(np.mean((residual / largest) ** 2)))
    found = []
    for name, rows in residuals.items():
        off = [
            row
            for row in rows
            if row["count"] > _ERRORS**2
            and abs(row["mean"]) > _OFF * usual
            and abs(row["mean"]) * math.sqrt(row["count"]) > _ERRORS * row["rms"]
        ]
        if off and len(rows) > 1:
            off.sort(key=lambda row: -abs(row["mean"]))
            shown = ", ".join(f"{row['level']} by {abs(row['mean']):.3g}" for row in off[:3])
            what = "predictions are too low or too high throughout at"
            places = "a place" if len(off) == 1 else f"{len(off):,} places"
            found.append(f"{what} {places} of mode '{name}' ({shown}{', ...' if len(off) > 3 else ''})")
    return found


def _typical(modes: Sequence[Mode], places: np.ndarray) -> dict[str, dict[str, float]]:
    """For each mode where the others stand so that many different places along it were observed."""
    places = np.unique(places, axis=0)
    found = {}
    for along, mode in enumerate(modes):
        rows, setting = places, {}
        others = [k for k in range(len(modes)) if k != along]
        for k in sorted(others, key=lambda k: (modes[k].continuous, modes[k].size)):
            levels, index, count = np.unique(rows[:, k], return_inverse=True, return_counts=True)
            near = modes[k].near
            before = np.concatenate([[0], np.cumsum(count)])
            first, last = np.searchsorted(levels, levels - near), np.searchsorted(levels, levels + near, side="right")
            best = int((before[last] - before[first]).argmax())
            setting[modes[k].name] = float(levels[best])
            rows = rows[(index >= first[best]) & (index < last[best])]
        found[mode.name] = setting
    return found


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
            "place": float(levels[k]),
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
            found += _gaps(mode, places[:, number])
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


def _gaps(mode: Mode, places: np.ndarray) -> list[str]:
    """Long stretches of a continuous mode without observations."""
    levels = np.unique(places)
    apart = np.diff(levels)
    if len(apart) < 3:
        return []
    long = np.flatnonzero((apart > _GAP) & (apart > _LONGER * np.median(apart)))
    return [
        f"nothing was observed of mode '{mode.name}' between {mode.at(float(levels[k]))} and "
        f"{mode.at(float(levels[k + 1]))}: there only what lies around speaks"
        for k in long
    ]


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
