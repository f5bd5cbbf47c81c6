"""Original, reconstruction and difference, as pictures of the whole or of a few slices."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from tenfold.contraction import contract, plan
from tenfold.errors import DataError
from tenfold.network import Network
from tenfold.observations import Observations
from tenfold.report._axes import Axis, axes_of
from tenfold.report._style import (
    CYCLIC,
    DIVERGING,
    HUES,
    INK,
    MISSING,
    MUTED,
    SEQUENTIAL,
    Panel,
    figure,
    number,
    plain,
    png,
    shrink,
    style,
    svg,
    thin,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from tenfold.verbs.result import Fit

Selection = tuple[int | slice, ...]

# Entries of a slice that are made dense; beyond that places are left out before anything is computed.
_DENSE = 2**22
# Cells of a picture along its longer side: photographs and matrices, and slices of which there are several.
_PHOTO, _IMAGE, _SLICE = 400, 400, 240
_SLICES = 3
# Entries and operations that finding the interesting slices may cost.
_SEARCH_ENTRIES, _SEARCH_FLOPS = 2**24, 2**32
_FIBRES, _ALONG = 64, 32
_COLOUR = {"channel", "channels", "colour", "color", "rgb", "rgba", "band", "c"}
_PLANES = (
    ("row", "column"),
    ("rows", "columns"),
    ("row", "col"),
    ("y", "x"),
    ("x", "y"),
    ("lat", "lon"),
    ("lon", "lat"),
    ("latitude", "longitude"),
    ("longitude", "latitude"),
    ("height", "width"),
    ("h", "w"),
)


@dataclass(frozen=True)
class Part:
    """A part of the data and of the network that can be looked at: 1 or 2 axes, or 3 with colours last."""

    title: str
    axes: tuple[Axis, ...]
    original: np.ndarray | None
    model: np.ndarray
    thinned: bool

    @property
    def complex(self) -> bool:
        return np.iscomplexobj(self.model) or (self.original is not None and np.iscomplexobj(self.original))


@dataclass(frozen=True)
class Row:
    """Pictures that belong together."""

    title: str
    panels: tuple[Panel, ...]


def rows(fit: Fit, data: Any) -> list[Row]:
    """The pictures of a fit, a row for each part that is shown.

    Args:
        fit: the fit.
        data: the original array, tensor or `Observations`, or None when it is not at hand.

    Raises:
        DataError: ``data`` has another shape than the fit.
    """
    source = source_of(data, tuple(fit.shape))
    if not fit.shape:
        return []
    if _is_photo(fit, source):
        return [_photo(_part(fit, source, tuple(slice(None) for _ in fit.shape), ""))]
    order = len(fit.shape)
    if order == 1:
        return [_curves(_part(fit, source, (slice(None),), ""))]
    if order == 2:
        return _images(_part(fit, source, (slice(None), slice(None)), ""), _IMAGE)
    return [row for selection in slices(fit) for row in _images(_sliced(fit, source, selection), _SLICE)]


# --- reading the data -------------------------------------------------------------------------------------------------


class Source:
    """The original data, read by parts."""

    def __init__(self, data: Any) -> None:
        self.data = data

    def part(self, selection: Selection) -> np.ndarray:
        """The cells of a selection in double precision; missing ones are NaN."""
        if isinstance(self.data, Observations):
            return self._observed(self.data, selection)
        found = self.data[selection]
        if isinstance(found, torch.Tensor):
            return _numpy(found)
        if isinstance(found, np.ma.MaskedArray):
            double = np.complex128 if found.dtype.kind == "c" else np.float64
            return np.ma.filled(found.astype(double), np.nan)
        array = np.asarray(found)
        return array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)

    @staticmethod
    def _observed(data: Observations, selection: Selection) -> np.ndarray:
        assert data.shape is not None
        places, values = data.coordinates.cpu().numpy(), _numpy(data.values)
        keep = np.ones(len(values), dtype=bool)
        # One axis of size 1 more, so that a single cell is assigned like all others.
        shape, columns = [1], [np.zeros(len(values), dtype=np.int64)]
        for axis, (item, extent) in enumerate(zip(selection, data.shape, strict=True)):
            column = places[:, axis]
            if isinstance(item, int):
                keep &= column == item
                continue
            start, stop, step = item.indices(extent)
            keep &= (column >= start) & (column < stop) & ((column - start) % step == 0)
            shape.append(len(range(start, stop, step)))
            columns.append((column - start) // step)
        result = np.full(shape, np.nan if data.rest == "unknown" else 0, dtype=values.dtype)
        result[tuple(column[keep] for column in columns)] = values[keep]
        return result[0]


def source_of(data: Any, shape: tuple[int, ...]) -> Source | None:
    """The data as something that can be read by parts; None for none, or for observations off a grid."""
    if data is None or (isinstance(data, Observations) and data.shape is None):
        return None
    if not isinstance(data, Observations) and not (hasattr(data, "shape") and hasattr(data, "__getitem__")):
        data = np.asarray(data)
    # Labelled arrays index by label in places; their values do not.
    if hasattr(data, "dims") and hasattr(data, "data"):
        data = data.data
    if tuple(data.shape) != shape:
        raise DataError(f"data has shape {tuple(data.shape)}, but the fit has {shape}")
    return Source(data)


def _numpy(tensor: torch.Tensor) -> np.ndarray:
    double = torch.complex128 if tensor.is_complex() else torch.float64
    return tensor.detach().to("cpu", double).resolve_conj().numpy()


def _model(network: Network, selection: Selection) -> np.ndarray:
    """The network's cells of a selection, without making more of it than needed."""
    groups = network.structure.outputs
    first: list[int | slice] = []
    rest: list[slice] = []
    for group, item in zip(groups, selection, strict=True):
        if isinstance(item, int):
            first.append(item)
            continue
        # A group of indices is taken whole and cut afterwards.
        whole = len(group) != 1
        first.append(slice(None) if whole else item)
        rest.append(item if whole else slice(None))
    cut = network[tuple(first)]
    if cut.structure.size > 4 * _DENSE:
        places = [
            torch.tensor([item]) if isinstance(item, int) else torch.arange(*item.indices(extent))
            for item, extent in zip(selection, network.shape, strict=True)
        ]
        grid = torch.meshgrid(*places, indexing="ij")
        kept = [len(p) for p, item in zip(places, selection, strict=True) if not isinstance(item, int)]
        return _numpy(network.at(tuple(g.reshape(-1) for g in grid)).reshape(kept))
    return _numpy(cut.dense())[tuple(rest)]


def _part(fit: Fit, source: Source | None, selection: Selection, title: str) -> Part:
    axes = axes_of(fit)
    kept = [n for n, item in enumerate(selection) if isinstance(item, slice)]
    entries = math.prod(fit.shape[n] for n in kept)
    thinned = entries > _DENSE
    cut = list(selection)
    if thinned:
        for n in kept:
            step = math.ceil(fit.shape[n] / (2 * _IMAGE if len(kept) > 1 else _DENSE))
            cut[n] = slice(None, None, step)
    chosen = tuple(cut)
    shown = []
    for n in kept:
        item = chosen[n]
        assert isinstance(item, slice)
        axis = axes[n]
        if item == slice(None):
            shown.append(axis)
        else:
            values = (np.arange(axis.size) if axis.values is None else axis.values)[item]
            kind = "number" if axis.values is None else axis.kind
            shown.append(replace(axis, size=len(values), values=values, kind=kind))
    original = None if source is None else source.part(chosen)
    return Part(title, tuple(shown), original, _model(fit.network, chosen), thinned)


# --- which slices -----------------------------------------------------------------------------------------------------


def slices(fit: Fit) -> list[Selection]:
    """A few two-dimensional slices: along the two axes that vary most, where the others hold most energy."""
    axes = axes_of(fit)
    plane = _plane(fit, axes)
    others = [n for n in range(len(axes)) if n not in plane]
    longest = max(others, key=lambda n: (axes[n].size, -n))
    rest = [n for n in others if n != longest]
    chosen: list[Selection] = []
    for place in _spread(_energy(fit.network, longest), _SLICES):
        selection: list[int | slice] = [slice(None)] * len(axes)
        selection[longest] = place
        cut = fit.network
        # One axis after the other goes, from the last on, each to where most energy is left.
        cut = cut[tuple(selection)]
        for axis in sorted(rest, reverse=True):
            position = axis - (1 if axis > longest else 0)
            found = _energy(cut, position)
            selection[axis] = int(found.argmax())
            cut = cut[tuple([slice(None)] * position + [selection[axis]])]
        chosen.append(tuple(selection))
    return chosen


def _plane(fit: Fit, axes: Sequence[Axis]) -> tuple[int, int]:
    names = [axis.name.lower() for axis in axes]
    for a, b in _PLANES:
        if a in names and b in names and names.index(a) < names.index(b):
            return names.index(a), names.index(b)
    network = fit.network
    spread = np.zeros(len(axes))
    random = np.random.default_rng(0)
    for n, axis in enumerate(axes):
        if axis.size < 2:
            continue
        along = np.unique(np.linspace(0, axis.size - 1, min(axis.size, _ALONG)).astype(np.int64))
        places = [random.integers(0, other.size, (_FIBRES, 1)) for other in axes]
        places[n] = along[None, :]
        columns = [torch.from_numpy(np.broadcast_to(p, (_FIBRES, len(along))).copy()) for p in places]
        fibres = _numpy(network.at(tuple(columns)))
        # A long axis shows more than a short one that varies as much.
        spread[n] = float(np.var(fibres, axis=1).mean()) * min(1.0, axis.size / 16)
    first, second = np.argsort(-spread, kind="stable")[:2]
    return (int(min(first, second)), int(max(first, second)))


def _energy(network: Network, axis: int) -> np.ndarray:
    """``sum |X|^2`` over all other axes, for each place of one axis, from the cores; flat where that costs too much."""
    structure = network.structure
    extent = structure.shape[axis]
    group = structure.outputs[axis]
    again = {i: i if i in structure.output_indices else f"{i} (again)" for i in structure.sizes}
    inputs = [term.indices for term in structure.terms]
    inputs += [tuple(again[i] for i in indices) for indices in inputs]
    sizes = {**structure.sizes, **{again[i]: size for i, size in structure.sizes.items()}}
    found = plan(inputs, group, sizes)
    if not group or found.peak > _SEARCH_ENTRIES or found.flops > _SEARCH_FLOPS:
        return np.ones(extent)
    tensors = [tensor for _, tensor in network.terms()]
    both = [*tensors, *(tensor.conj() for tensor in tensors)]
    energy = _numpy(contract(list(zip(inputs, both, strict=True)), group)).real.reshape(extent)
    return np.clip(np.nan_to_num(energy), 0, None)


def _spread(energy: np.ndarray, count: int) -> list[int]:
    """Places that divide the energy evenly, in order."""
    if energy.sum() <= 0:
        energy = np.ones_like(energy)
    cumulated = np.cumsum(energy) / energy.sum()
    wanted = (np.arange(count) + 0.5) / count
    return sorted({int(min(p, len(energy) - 1)) for p in np.searchsorted(cumulated, wanted)})


def _sliced(fit: Fit, source: Source | None, selection: Selection) -> Part:
    axes = axes_of(fit)
    fixed = [f"{axes[n].name} = {axes[n].at(item)}" for n, item in enumerate(selection) if isinstance(item, int)]
    return _part(fit, source, selection, ", ".join(fixed))


# --- photographs ------------------------------------------------------------------------------------------------------


def _is_photo(fit: Fit, source: Source | None) -> bool:
    """Whether the last of three axes holds red, green, blue (and opacity)."""
    shape = tuple(fit.shape)
    if len(shape) != 3 or shape[2] not in (3, 4) or min(shape[:2]) < 8 or fit.network.dtype.is_complex:
        return False
    if isinstance(source.data if source else None, Observations):
        return False
    axis = axes_of(fit)[2]
    labels = (
        "".join(str(v)[:1].lower() for v in axis.values) if axis.kind == "label" and axis.values is not None else ""
    )
    return (
        str(fit.source_dtype or "").removeprefix("torch.") in ("uint8", "uint16")
        or axis.name.lower() in _COLOUR
        or labels in ("rgb", "rgba")
    )


def _photo(part: Part) -> Row:
    reference = part.model if part.original is None else part.original
    top = float(np.nanmax(np.abs(reference), initial=0.0))
    white = 1.0 if top <= 1.5 else (255.0 if top <= 400 else 65535.0)
    panels = []
    if part.original is not None:
        panels.append(Panel(_picture(part.original / white, "Original"), "Original"))
    panels.append(Panel(_picture(part.model / white, "Reconstruction"), "Reconstruction"))
    if part.original is not None:
        gap = (part.model - part.original)[:, :, :3]
        limit = _reach(gap.mean(2))
        pixels = _coloured(shrink(gap.mean(2), _PHOTO), DIVERGING, -limit, limit)
        bar = svg(_bar(DIVERGING, -limit, limit), "Scale of the difference")
        panels.append(
            Panel(
                png(pixels, "Difference", smooth=True) + bar,
                "Difference",
                f"Mean over the colours. {_amounts(gap, part)}",
            )
        )
    return Row("", tuple(panels))


def _picture(image: np.ndarray, label: str) -> str:
    small = np.stack([shrink(image[:, :, k], _PHOTO) for k in range(image.shape[2])], axis=2)
    pixels = (np.clip(np.nan_to_num(small, nan=0.6), 0, 1) * 255).round().astype(np.uint8)
    return png(pixels, label, smooth=max(image.shape) > 64)


def _coloured(image: np.ndarray, name: str, low: float, high: float) -> np.ndarray:
    scaled = (image - low) / ((high - low) or 1.0)
    return (_colours(name)(np.ma.masked_invalid(scaled))[:, :, :3] * 255).round().astype(np.uint8)


def _colours(name: str) -> Any:
    import matplotlib

    # With fewer than 256 colours a picture and its missing cells fit a palette, a third of the bytes.
    return matplotlib.colormaps[name].resampled(250).with_extremes(bad=MISSING)


def _bar(name: str, low: float, high: float) -> Any:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    fig = figure(3.4, 0.42)
    ax = fig.subplots()
    fig.colorbar(ScalarMappable(Normalize(low, high), _colours(name)), cax=ax, orientation="horizontal")
    style(ax)
    ax.tick_params(colors=MUTED, labelsize=8)
    return fig


# --- curves and matrices ----------------------------------------------------------------------------------------------


def _amounts(gap: np.ndarray, part: Part) -> str:
    known = np.abs(gap[np.isfinite(gap)])
    if not known.size:
        return "No cell of this part is known."
    rms = math.sqrt(float((known**2).mean()))
    assert part.original is not None
    whole = np.abs(part.original[np.isfinite(part.original)])
    own = math.sqrt(float((whole**2).mean()))
    text = f"Largest |difference| {number(float(known.max()))}, rms {number(rms)}; rms of the data {number(own)}."
    if gap.size > known.size:
        missing = gap.size - known.size
        text += f" {missing:,} of the {gap.size:,} cells ({missing / gap.size:.1%}) are missing and grey."
    return text


def _reach(gap: np.ndarray) -> float:
    """The end of a symmetric scale: nearly the largest value, so that one cell does not fade all the others."""
    known = np.abs(gap[np.isfinite(gap)])
    if not known.size or known.max() == 0:
        return 1.0
    high = float(np.percentile(known, 99.8))
    return high if high > 0 else float(known.max())


def _curves(part: Part) -> Row:
    if part.complex:
        views: list[tuple[str, Callable[[np.ndarray], np.ndarray]]] = [("magnitude", np.abs), ("phase", np.angle)]
    else:
        views = [("", np.real)]
    panels = []
    (axis,) = part.axes
    for name, view in views:
        fig = figure(7.4, 3.0)
        ax = style(fig.subplots(), grid=True)
        if part.original is not None:
            _curve(ax, axis, view(part.original), color=MUTED, linewidth=2.6, alpha=0.55, label="original")
        _curve(ax, axis, view(part.model), color=HUES[0], linewidth=1.3, label="reconstruction")
        ax.legend(
            fontsize=8, labelcolor=INK, frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderpad=0.2
        )
        ax.set_ylabel(name)
        panels.append(Panel(svg(fig, f"Original and reconstruction {name}"), name.capitalize(), wide=True))
    if part.original is not None:
        gap = part.model - part.original
        fig = figure(7.4, 1.9)
        ax = style(fig.subplots(), grid=True)
        ax.axhline(0, color=MUTED, linewidth=0.8)
        _curve(ax, axis, np.abs(gap) if np.iscomplexobj(gap) else gap, color=HUES[1], linewidth=1.1)
        panels.append(
            Panel(svg(fig, "Difference"), "Difference (reconstruction - original)", _amounts(gap, part), wide=True)
        )
    return Row(part.title, tuple(panels))


def _curve(ax: Axes, axis: Axis, values: np.ndarray, **how: Any) -> None:
    keep = thin(values, 1200)
    x = axis.positions
    if axis.kind == "number":
        order = np.argsort(x, kind="stable")
        x, values = x[order], values[order]
        keep = thin(values, 1200)
    alone = len(values) < 2 or not np.isfinite(values[:-1] + values[1:]).any()
    ax.plot(x[keep], values[keep], marker="o" if alone or len(values) <= 12 else None, markersize=4, **how)
    label_axis(ax.xaxis, axis)


def label_axis(which: Any, axis: Axis, *, places: bool = False, most: int = 8) -> None:
    """Name a plotted axis and its ticks.

    Args:
        which: the axis of matplotlib.
        axis: the axis of the data.
        places: whether it is drawn by place, 0, 1, 2, ..., also where its coordinates are numbers or times.
        most: how many ticks at most.
    """
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    which.set_label_text(plain(axis.label))
    if axis.kind in ("number", "time") and not places:
        return

    def named(x: float, _: Any) -> str:
        place = round(x)
        return axis.at(place) if abs(x - place) < 1e-6 and 0 <= place < axis.size else ""

    which.set_major_locator(MaxNLocator(nbins=min(most, max(axis.size, 1)), integer=True))
    which.set_major_formatter(FuncFormatter(named))


def _images(part: Part, cells: int) -> list[Row]:
    """One row of pictures, or two where numbers are complex."""
    note = " Places are left out evenly to keep this small." if part.thinned else ""
    if not (part.complex):
        return [Row(part.title, tuple(_three(part, cells, note)))]
    joint = f"{part.title}: " if part.title else ""
    magnitude = Part(part.title, part.axes, None, np.abs(part.model), part.thinned)
    low, high = _range(magnitude.model if part.original is None else np.abs(part.original))
    panels, phases = [], []
    views = [("Reconstruction", part.model)]
    if part.original is not None:
        views.insert(0, ("Original", part.original))
    for name, values in views:
        shown = np.abs(values)
        panels.append(Panel(_image(part.axes, shown, cells, SEQUENTIAL, low, high, f"{name}, magnitude"), f"|{name}|"))
        turned = np.angle(values)
        phases.append(
            Panel(
                _image(part.axes, turned, cells, CYCLIC, -math.pi, math.pi, f"{name}, phase"),
                f"{name}, phase in radians",
            )
        )
    if part.original is not None:
        gap = part.model - part.original
        panels.append(
            Panel(
                _image(part.axes, np.abs(gap), cells, SEQUENTIAL, 0.0, _reach(gap), "Magnitude of the difference"),
                "|Difference|",
                _amounts(gap, part) + note,
            )
        )
    return [Row(f"{joint}magnitude", tuple(panels)), Row(f"{joint}phase", tuple(phases))]


def _three(part: Part, cells: int, note: str) -> list[Panel]:
    low, high = _range(part.model if part.original is None else part.original)
    panels = []
    if part.original is not None:
        unknown = int((~np.isfinite(part.original)).sum())
        missing = f"{unknown:,} of {part.original.size:,} cells are missing (grey)." if unknown else ""
        panels.append(
            Panel(_image(part.axes, part.original, cells, SEQUENTIAL, low, high, "Original"), "Original", missing)
        )
    panels.append(
        Panel(
            _image(part.axes, part.model, cells, SEQUENTIAL, low, high, "Reconstruction"),
            "Reconstruction",
            "" if part.original is not None else note,
        )
    )
    if part.original is not None:
        gap = part.model - part.original
        limit = _reach(gap)
        panels.append(
            Panel(
                _image(part.axes, gap, cells, DIVERGING, -limit, limit, "Difference"),
                "Difference",
                _amounts(gap, part) + note,
            )
        )
    return panels


def _range(values: np.ndarray) -> tuple[float, float]:
    known = values[np.isfinite(values)]
    if not known.size:
        return 0.0, 1.0
    low, high = (float(v) for v in np.percentile(known, (0.2, 99.8)))
    if low == high:
        low, high = float(known.min()), float(known.max())
    if low == high:
        low, high = low - 0.5, high + 0.5
    return low, high


def _image(
    axes: Sequence[Axis], values: np.ndarray, cells: int, colours: str, low: float, high: float, label: str
) -> str:
    fig = figure(3.7, picture_height(axes, values.shape))
    paint(fig.subplots(), axes, values, cells, colours, low, high)
    return svg(fig, label)


def picture_height(axes: Sequence[Axis], shape: tuple[int, ...]) -> float:
    """Inches of height that fit a picture of so many rows and columns, with its labels, at the width of a panel."""
    return min(3.6, 2.4 * shape[0] / shape[1] + 0.6) if _square(axes, shape) else 2.9


def _square(axes: Sequence[Axis], shape: tuple[int, ...]) -> bool:
    """Whether cells are drawn as squares: axes of one kind, and not so long and narrow that nothing would be seen."""
    return axes[0].kind == axes[1].kind != "label" and 0.45 < shape[1] / shape[0] < 2.2


def paint(
    ax: Axes, axes: Sequence[Axis], values: np.ndarray, cells: int, colours: str, low: float, high: float
) -> None:
    """A matrix as an image with its own colour bar; the axes carry the coordinates of the data."""
    rows_, columns = values.shape
    known = values[np.isfinite(values)]
    beyond = ((known < low).any(), (known > high).any()) if known.size else (False, False)
    image = ax.imshow(
        shrink(values, cells),
        cmap=_colours(colours),
        vmin=low,
        vmax=high,
        interpolation="none",
        extent=(-0.5, columns - 0.5, rows_ - 0.5, -0.5),
        aspect="equal" if _square(axes, values.shape) else "auto",
    )
    style(ax)
    if axes[1].falls:
        ax.invert_xaxis()  # as curves over the same coordinates are drawn
    label_axis(ax.yaxis, axes[0], places=True, most=16 if axes[0].kind == "label" else 6)
    label_axis(ax.xaxis, axes[1], places=True, most=8 if axes[1].kind == "label" else 6)
    longest = max((len(axes[1].at(n)) for n in range(min(axes[1].size, 40))), default=0)
    if longest > 5:
        ax.tick_params(axis="x", rotation=35)
        for text in ax.get_xticklabels():
            text.set(ha="right", rotation_mode="anchor")
    fig = ax.get_figure(root=True)
    assert fig is not None
    extend = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}[beyond]
    bar = fig.colorbar(image, ax=ax, extend=extend, aspect=22, pad=0.03, extendfrac=0.03)
    bar.outline.set_visible(False)
    style(bar.ax)


def draw_error(ax: Axes, fit: Fit, data: Any) -> None:
    """The most telling single picture on given axes: the difference, or the reconstruction where there is no data."""
    source = source_of(data, tuple(fit.shape))
    order = len(fit.shape)
    if order == 0:
        ax.axis("off")
        ax.text(0.5, 0.5, f"{_model(fit.network, ()).item():.6g}", ha="center", va="center", color=INK)
        return
    whole: Selection = tuple(slice(None) for _ in fit.shape)
    if order <= 2:
        part = _part(fit, source, whole, "")
    elif _is_photo(fit, source):
        part = _part(fit, source, whole, "")
        original = None if part.original is None else part.original.mean(2)
        part = Part("mean over the colours", part.axes[:2], original, part.model.mean(2), part.thinned)
    else:
        chosen = slices(fit)
        part = _sliced(fit, source, chosen[len(chosen) // 2])
    values = part.model if part.original is None else part.model - part.original
    if np.iscomplexobj(values):
        values = np.abs(values)
    title = "reconstruction" if part.original is None else "difference"
    if order == 1:
        style(ax, grid=True)
        _curve(ax, part.axes[0], values, color=HUES[1], linewidth=1.1)
    elif part.original is None or np.iscomplexobj(part.model):
        paint(ax, part.axes, values, _IMAGE, SEQUENTIAL, *_range(values))
    else:
        limit = _reach(values)
        paint(ax, part.axes, values, _IMAGE, DIVERGING, -limit, limit)
    ax.set_title(f"{title}{', ' if part.title else ''}{part.title}".replace("$", r"\$"), size=9, color=INK)
