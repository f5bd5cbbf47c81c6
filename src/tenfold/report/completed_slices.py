"""Pictures of a completed tensor: predictions along each mode with their intervals, and maps of two modes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from tenfold.report._ruler import Ruler, plain_name, setting
from tenfold.report._style import HUES, INK, MUTED, SEQUENTIAL, Panel, figure, number, plain, style, svg
from tenfold.report.completed import scaled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from tenfold.verbs._modes import Mode
    from tenfold.verbs.posterior import Posterior

# Places along a continuous mode, and levels of one of many, that are drawn.
_PLACES, _LEVELS = 300, 600
# Up to so many levels are each a dot with its interval.
_DOTS = 40
# Observations that are drawn over a slice.
_SEEN = 400
# Places of a continuous mode and levels of a discrete one in a map.
_CELLS, _ROWS = 64, 96
# The part of the cells of a map that has to be observed there for the observed values to be drawn beside it.
_FULL = 0.08
# Standard deviations whose least is above this part of their largest hardly vary.
_FLAT = 0.8
_WIDE, _NARROW, _MAP = (10.6, 3.3), (5.2, 3.3), (4.3, 3.5)
_FEW_NAMES = 12
_QUANTILES = (0.05, 0.25, 0.75, 0.95)


def along(posterior: Posterior, mode: Mode) -> Panel:
    """The prediction along a mode with its 0.5 and 0.9 intervals where the others stand at a typical place."""
    places, codes = _places_of(mode, _PLACES, _LEVELS)
    fixed = _typical(posterior, mode)
    mean, low, lower, upper, high = _predicted(posterior, {mode.name: places}, fixed)
    seen = _moved(posterior, mode, fixed, _seen(posterior, fixed, _SEEN))
    ruler = Ruler(mode)
    ordered = ruler.kind == "name" and not mode.continuous and mode.labels is not None
    order = np.argsort(-mean, kind="stable") if ordered else np.arange(len(places))
    values = np.stack([mean, low, lower, upper, high])[:, order]
    together, unit = scaled(np.concatenate([values.ravel(), seen.values]))
    values, observed = together[: values.size].reshape(values.shape), together[values.size :]
    xs = np.arange(len(places), dtype=np.float64) if ordered else ruler.positions(places)
    where = dict(zip(places[order].tolist(), xs.tolist(), strict=True)) if ordered else None
    at = seen.places[mode.name]
    if where is not None:
        inside = np.array([place in where for place in at.tolist()], dtype=bool)
        at, observed = np.array([where[place] for place in at[inside].tolist()]), observed[inside]
    else:
        at = ruler.positions(at)
    value = plain(posterior.value, 34) + unit
    few = not mode.continuous and len(places) <= _DOTS
    narrow = few and len(places) <= _FEW_NAMES
    if few and ordered:
        fig = figure(5.2 if narrow else 6.4, 0.9 + 0.21 * len(places))
        ax = style(fig.subplots(), grid=True)
        _dots(ax, values, xs, at, observed, upright=False)
        ax.set_ylim(len(places) - 0.4, -0.6)
        ax.set_yticks(xs, [plain(mode.label(int(place)), 34) for place in places[order]])
        ax.set_xlabel(value)
    else:
        fig = figure(*(_NARROW if narrow else _WIDE))
        ax = style(fig.subplots(), grid=True)
        if few:
            _dots(ax, values, xs, at, observed, upright=True)
        else:
            _bands(ax, values, xs, at, observed, counts=posterior.counts)
        ax.set_ylabel(value)
        if ordered:
            ax.set_xlabel(f"levels of {ruler.label}, highest prediction first")
        else:
            ruler.mark(ax.xaxis, across=mode.size > _FEW_NAMES and not mode.continuous)
    _room(ax, values, observed, upright=not (few and ordered))
    note = _note(posterior, mode, fixed, len(at), seen)
    if ordered and not few:
        ends = [plain_name(mode.label(int(place)), 30) for place in places[order]]
        note += f" Highest: {', '.join(ends[:4])}; lowest: {', '.join(ends[-4:])}."
    if len(codes) < mode.size and not mode.continuous:
        note += f" {len(codes):,} of {mode.size:,} levels are drawn."
    label = f"Prediction along {plain_name(mode.name)} with its intervals"
    return Panel(svg(fig, label), title=f"Along {plain_name(mode.name)}", note=note, wide=not narrow)


def maps(posterior: Posterior) -> list[Panel]:
    """Mean and standard deviation over the two modes with most levels, beside what was observed; empty for one mode."""
    able = [mode for mode in posterior.modes if mode.size > 1]
    if len(able) < 2:
        return []
    able.sort(key=lambda mode: -mode.size)
    across, up = able[:2]
    fixed = {name: place for name, place in _typical(posterior, across).items() if name != up.name}
    (columns, _), (rows, _) = _places_of(across, _CELLS, _ROWS), _places_of(up, _CELLS, _ROWS)
    grid = np.stack(np.meshgrid(rows, columns, indexing="ij"))
    mean, deviation = _moments(posterior, {up.name: grid[0].ravel(), across.name: grid[1].ravel()}, fixed)
    shape = (len(rows), len(columns))
    where = setting(posterior.modes, fixed)
    at = f", at {where}" if where else ""
    near = max((mode.near for mode in posterior.modes if mode.name in fixed), default=0.0)
    close = f"{at} (within {number(100 * near, 2)} % of the range of continuous modes)" if near else at
    value, name = plain(posterior.value, 30), plain_name(posterior.value, 40)
    picked = _picked(across, columns) + _picked(up, rows)
    seen = _seen(posterior, fixed, None)
    cells, unit = scaled(mean.reshape(shape))
    wide, wide_unit = scaled(deviation.reshape(shape))
    ends = float(cells.min()), float(cells.max())
    # What hardly varies is shown to hardly vary.
    flat = (0.0, float(wide.max())) if wide.min() > _FLAT * wide.max() else None
    told = "Noise, and what is not known of the mean: large where little was observed, or where values scatter."
    name_of_spread = "Standard deviation of an observation"
    panels = [
        _map(cells, across, up, f"{value}{unit}", ends=ends, title=f"Predicted {name}", note=f"The mean{at}.{picked}"),
        _map(wide, across, up, f"standard deviation{wide_unit}", ends=flat, title=name_of_spread, note=told),
    ]
    if posterior.data is None:
        return panels
    total, count = _binned(seen, across, up, columns, rows)
    if (count > 0).mean() > _FULL:
        with np.errstate(invalid="ignore", divide="ignore"):
            observed = np.where(count > 0, total / count, np.nan)
        observed = observed if not unit else scaled(np.concatenate([observed.ravel(), mean]))[0][: observed.size]
        known = _map(observed.reshape(shape), across, up, f"{value}{unit}", ends=ends, title=f"Observed {name}",
                     note=f"What was observed{close}; empty where nothing was. Colours as predicted.")  # fmt: skip
        return [known, *panels]
    everything = _seen(posterior, {}, None)
    _, count = _binned(everything, across, up, columns, rows)
    note = f"All {len(everything.values):,} observations, wherever other modes stand; empty where there are none."
    blank = np.where(count > 0, count, np.nan)
    panels.append(_map(blank, across, up, "observations", title="Where it was observed", note=note, counted=True))
    return panels


def _map(
    cells: np.ndarray,
    across: Mode,
    up: Mode,
    label: str,
    *,
    title: str,
    note: str,
    ends: tuple[float, float] | None = None,
    counted: bool = False,
) -> Panel:
    from matplotlib.colors import LogNorm, Normalize

    fig = figure(*_MAP)
    ax = style(fig.subplots())
    rulers = [Ruler(mode, codes=True) for mode in (across, up)]
    left, right, bottom, top = (side for ruler in rulers for side in _sides(ruler))
    largest = float(np.nanmax(cells)) if np.isfinite(cells).any() else 1.0
    norm = LogNorm(1, largest) if counted and largest > 10 else Normalize(*(ends or (None, None)))
    image = ax.imshow(
        cells,
        origin="lower",
        aspect="auto",
        extent=(left, right, bottom, top),
        cmap=SEQUENTIAL,
        norm=norm,
        interpolation="none",
    )
    rulers[0].mark(ax.xaxis, few=_FEW_NAMES, across=_longest(across) * across.size > 0)
    rulers[1].mark(ax.yaxis, few=24)
    bar = fig.colorbar(image, ax=ax, pad=0.02, aspect=28)
    bar.outline.set_visible(False)
    bar.ax.tick_params(which="both", colors=MUTED, labelsize=8)
    bar.set_label(label, color=INK, size=9)
    if counted:
        bar.ax.yaxis.set_major_formatter(lambda count, _: f"{count:,.0f}")
        bar.ax.yaxis.set_minor_formatter(lambda count, _: "")
    words = f"{title} over {plain_name(across.name)} and {plain_name(up.name)}"
    return Panel(svg(fig, words), title=title, note=note)


def _sides(ruler: Ruler) -> tuple[float, float]:
    """The ends of a mode along the side of a map."""
    if not ruler.mode.continuous:
        return -0.5, ruler.mode.size - 0.5
    low, high = ruler.positions([0.0, 1.0]).tolist()
    return low, high


def _longest(mode: Mode) -> int:
    """The length of the longest name of a level that is written along a map; zero where all are short."""
    if mode.continuous or mode.size > _FEW_NAMES:
        return 0
    longest = max(len(mode.label(k)) for k in range(mode.size))
    return longest if longest * mode.size > 36 else 0


def _dots(ax: Axes, values: np.ndarray, xs: np.ndarray, at: np.ndarray, observed: np.ndarray, *, upright: bool) -> None:
    """A dot with both intervals for each level, and what was observed beside it."""
    mean, low, lower, upper, high = values
    lines = ax.vlines if upright else ax.hlines
    lines(xs, low, high, color=HUES[0], linewidth=1.1, alpha=0.6, zorder=2)
    lines(xs, lower, upper, color=HUES[0], linewidth=3.6, alpha=0.75, zorder=3)
    pairs = (xs, mean) if upright else (mean, xs)
    ax.plot(*pairs, "o", color=HUES[0], markersize=4.6, markeredgewidth=0, zorder=4)
    if len(at):
        part = 0.22 if not upright or len(xs) > _FEW_NAMES else 0.1
        step = part * (float(np.diff(xs).min()) if len(xs) > 1 else 1.0)
        beside = (at + step, observed) if upright else (observed, at + step)
        ax.plot(*beside, "o", color=HUES[1], markersize=3, alpha=0.75, markeredgewidth=0, zorder=5)


def _bands(ax: Axes, values: np.ndarray, xs: np.ndarray, at: np.ndarray, observed: np.ndarray, *, counts: bool) -> None:
    """The mean as a line in both of its intervals, and what was observed near it."""
    mean, low, lower, upper, high = values
    order = np.argsort(xs, kind="stable")
    step = {"step": "mid"} if counts else {}
    ax.fill_between(xs[order], low[order], high[order], color=HUES[0], alpha=0.16, linewidth=0, zorder=1, **step)  # type: ignore[arg-type]
    ax.fill_between(xs[order], lower[order], upper[order], color=HUES[0], alpha=0.28, linewidth=0, zorder=2, **step)  # type: ignore[arg-type]
    ax.plot(xs[order], mean[order], "-", color=HUES[0], linewidth=1.5, zorder=3)
    if len(at):
        ax.plot(at, observed, "o", color=HUES[1], markersize=3, alpha=0.75, markeredgewidth=0, zorder=4)


def _room(ax: Axes, values: np.ndarray, observed: np.ndarray, *, upright: bool) -> None:
    """Limits that intervals of a few places far wider than all others do not set."""
    mean, low, *_, high = values
    usual = 3 * float(np.median(high - low))
    bottom = max(low.min(), mean.min() - usual)
    top = min(high.max(), mean.max() + usual)
    if len(observed):
        bottom, top = min(bottom, observed.min()), max(top, observed.max())
    room = 0.05 * (top - bottom) or 1.0
    (ax.set_ylim if upright else ax.set_xlim)(bottom - room, top + room)


def _note(posterior: Posterior, mode: Mode, fixed: dict[str, float], drawn: int, seen: _Seen) -> str:
    where = setting(posterior.modes, fixed)
    at = f", at {where}" if where else ""
    text = f"The mean with the intervals that hold 50 % and 90 % of observations{at}."
    if posterior.data is None:
        return text
    if not drawn:
        return text + " Nothing was observed there."
    near = max((other.near for other in posterior.modes if other.name in fixed), default=0.0)
    part = f"{drawn:,} of {seen.all:,}" if drawn < seen.all else f"{drawn:,}"
    text += f" Orange: {part} observation{'' if drawn == 1 else 's'} there"
    if not near:
        return text + "."
    return (
        f"{text}, within {number(100 * near, 2)} % of the range of continuous modes; each is moved by as much as the "
        f"mean changes from its own place to this one."
    )


def _picked(mode: Mode, places: np.ndarray) -> str:
    if mode.continuous or len(places) == mode.size:
        return ""
    return f" {len(places):,} of the {mode.size:,} levels of {plain_name(mode.name)} are drawn."


def _places_of(mode: Mode, places: int, levels: int) -> tuple[np.ndarray, np.ndarray]:
    """The coordinates of a mode that are drawn, and which of its levels they are."""
    if mode.continuous:
        return np.linspace(0, 1, places), np.arange(0)
    codes = np.arange(mode.size)
    if mode.size > levels:
        codes = np.unique(np.linspace(0, mode.size - 1, levels).round().astype(np.int64))
    return codes.astype(np.float64), codes


def _typical(posterior: Posterior, mode: Mode) -> dict[str, float]:
    found = posterior.diagnosis.typical.get(mode.name, {})
    return {
        other.name: found.get(other.name, 0.5 if other.continuous else 0.0)
        for other in posterior.modes
        if other.name != mode.name
    }


def _coordinates(posterior: Posterior, free: dict[str, np.ndarray], fixed: dict[str, float]) -> torch.Tensor:
    rows = len(next(iter(free.values())))
    columns = [free[mode.name] if mode.name in free else np.full(rows, fixed[mode.name]) for mode in posterior.modes]
    return torch.from_numpy(np.stack(columns, 1))


def _predicted(posterior: Posterior, free: dict[str, np.ndarray], fixed: dict[str, float]) -> tuple[np.ndarray, ...]:
    """Mean and the ends of the 0.9 and 0.5 intervals, from below."""
    mean, _, total = posterior.predict_encoded(_coordinates(posterior, free, fixed), None)
    return (mean, *(posterior.spread.quantile(q, mean, total) for q in _QUANTILES))


def _moments(
    posterior: Posterior, free: dict[str, np.ndarray], fixed: dict[str, float]
) -> tuple[np.ndarray, np.ndarray]:
    mean, _, total = posterior.predict_encoded(_coordinates(posterior, free, fixed), None)
    return mean, posterior.spread.deviation(mean, total)


class _Seen:
    """What was observed where some modes stand; ``all`` is how many there were before some were left out."""

    def __init__(self, values: np.ndarray, places: dict[str, np.ndarray], everything: int) -> None:
        self.values, self.places, self.all = values, places, everything


def _seen(posterior: Posterior, fixed: dict[str, float], most: int | None) -> _Seen:
    data = posterior.data
    if data is None:
        return _Seen(np.empty(0), {mode.name: np.empty(0) for mode in posterior.modes}, 0)
    places = data.coordinates.numpy()
    keep = np.ones(len(places), dtype=bool)
    for n, mode in enumerate(data.modes):
        if mode.name in fixed:
            keep &= np.abs(places[:, n] - fixed[mode.name]) <= mode.near
    rows = np.flatnonzero(keep)
    everything = len(rows)
    if most is not None and everything > most:
        rows = np.sort(np.random.default_rng(posterior.seed).permutation(rows)[:most])
    return _Seen(
        data.values.numpy()[rows], {mode.name: places[rows, n] for n, mode in enumerate(data.modes)}, everything
    )


def _moved(posterior: Posterior, mode: Mode, fixed: dict[str, float], seen: _Seen) -> _Seen:
    """What was observed near the fixed places, as far from the mean at these as it was from that at its own place."""
    if not len(seen.values) or not any(other.near for other in posterior.modes if other.name in fixed):
        return seen
    own = _predicted(posterior, seen.places, {})[0]
    here = _predicted(posterior, {mode.name: seen.places[mode.name]}, fixed)[0]
    return _Seen(seen.values + (here - own), seen.places, seen.all)


def _binned(
    seen: _Seen, across: Mode, up: Mode, columns: np.ndarray, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The sum of the values, and how many there are, in each cell of a map."""
    shape = (len(rows), len(columns))
    index, inside = [], np.ones(len(seen.values), dtype=bool)
    for mode, places in ((up, rows), (across, columns)):
        given = seen.places[mode.name]
        edge = (places[1:] + places[:-1]) / 2
        nearest = np.searchsorted(edge, given)
        index.append(nearest)
        if not mode.continuous:
            inside &= places[nearest] == given
    cell = np.ravel_multi_index([part[inside] for part in index], shape)
    size = shape[0] * shape[1]
    total = np.bincount(cell, seen.values[inside], size).reshape(shape)
    return total, np.bincount(cell, minlength=size).reshape(shape).astype(np.float64)
