"""The cores as pictures: what the structure found along each axis, in the data's own coordinates."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tenfold import formats
from tenfold.components import canonical_train, canonical_tucker
from tenfold.report._axes import Axis, axes_of
from tenfold.report._style import (
    DIVERGING,
    HUES,
    INK,
    MUTED,
    RULE,
    SEQUENTIAL,
    Panel,
    figure,
    log_axis,
    number,
    plain,
    shrink,
    style,
    svg,
    thin,
)
from tenfold.report.pictures import label_axis, paint, picture_height

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from tenfold.components import TrainForm
    from tenfold.structure import Core, Structure
    from tenfold.verbs.result import Fit

# Columns of one core, cores of one page, and bars of one column that are drawn.
_COLUMNS, _CORES, _BARS = 12, 12, 24
# Small pictures of one core that carries two indices.
_PICTURES = 24
_CELLS = 160
_POINTS = 300
# Powers of ten of an ordered core that are told apart.
_DECADES = 4


def panels(fit: Fit) -> tuple[list[Panel], str]:
    """A picture for each core, and a sentence about what is not drawn ('' if all is).

    Tucker networks and tensor trains are drawn in their canonical form: what comes first weighs most.
    """
    made: list[Panel] = []
    known: dict[tuple[int, str], np.ndarray] = {}
    family = formats.name(fit.structure)
    if family == "tucker":
        fit = replace(fit, network=canonical_tucker(fit.network).network())
    elif family == "tensor_train" and fit.structure.inner_indices:
        form = canonical_train(fit.network)
        fit = replace(fit, network=form.network())
        known = _known_loads(form, fit.structure)
        made.append(_bond_spectra(form))
    structure = fit.structure
    arrays = [_numpy(tensor) for tensor in fit.network.cores]
    # Cores that carry an axis of the data say more than those between them.
    carries = [bool(set(core.indices) & set(structure.output_indices)) for core in structure.cores]
    order = sorted(range(len(arrays)), key=lambda n: (not carries[n], n))
    for n in order[:_CORES]:
        made.append(_core(fit, structure, structure.cores[n], arrays[n], arrays, known))
    left_out = len(arrays) - _CORES
    return made, f"{left_out} more cores are not drawn." if left_out > 0 else ""


def _known_loads(form: TrainForm, structure: Structure) -> dict[tuple[int, str], np.ndarray]:
    """What each value of a bond counts for in a canonical train.

    For the core on its left these are the singular values; the core on its right has them in what comes after it.
    """
    loads = {}
    for place, (bond, values) in enumerate(form.spectra.items()):
        left, right = (structure.terms_with(form.modes[n])[0] for n in (place, place + 1))
        loads[left, bond] = _numpy(values) / (float(values.max()) or 1.0)
        loads[right, bond] = np.ones(len(values))
    return loads


def _bond_spectra(form: TrainForm) -> Panel:
    fig = figure(3.7, 2.9)
    draw_bond_spectra(fig.subplots(), form)
    return Panel(
        svg(fig, "Singular values across each bond"),
        "Singular values across the bonds",
        "Each relative to its largest; the columns of the cores are in this order.",
    )


def draw_bond_spectra(ax: Axes, form: TrainForm) -> None:
    """The singular values of the tensor across each bond of a train, on given axes."""
    style(ax, grid=True)
    longest = 1
    for n, (bond, values) in enumerate(form.spectra.items()):
        relative = _numpy(values) / (float(values.max()) or 1.0)
        kept = np.where(relative > 1e-17, relative, np.nan)
        longest = max(longest, len(kept))
        label = f"{plain(bond)}: {plain(form.modes[n], 12)} | {plain(form.modes[n + 1], 12)}" if n < _COLUMNS else None
        dots = "." if len(kept) <= 40 else None
        ax.plot(np.arange(1, len(kept) + 1), kept, marker=dots, color=HUES[n % len(HUES)], linewidth=1.3, label=label)
    ax.set_yscale("log")
    ax.set_xticks(range(1, longest + 1, max(1, longest // 8)))
    ax.set(xlabel="number", ylabel="singular value / largest")
    log_axis(ax.yaxis)
    ax.legend(fontsize=7.5, labelcolor=INK, frameon=False, loc="best", handlelength=1.4)


def _numpy(tensor: Any) -> np.ndarray:
    import torch

    double = torch.complex128 if tensor.is_complex() else torch.float64
    return tensor.detach().to("cpu", double).resolve_conj().numpy()


# --- one core ---------------------------------------------------------------------------------------------------------


def _core(
    fit: Fit,
    structure: Structure,
    core: Core,
    array: np.ndarray,
    arrays: Sequence[np.ndarray],
    known: Mapping[tuple[int, str], np.ndarray],
) -> Panel:
    groups = [[i for i in core.indices if i in group] for group in structure.outputs]
    on = [axis for axis, mine in enumerate(groups) if mine]
    bonds = [i for i in core.indices if i not in structure.output_indices]
    title = _title(fit, structure, core, on)
    load = _loads(structure, arrays, core.terms[0], bonds, known)
    if len(on) == 1 and len(core.terms) > 1:
        # The one core stands for several axes; its rows are those of all of them.
        title += f" (used {len(core.terms)} times)"
    mine = [index for group in groups for index in group]
    # Two of one axis, or one of each of two that are not labels: blocks, or the coarse image, of a folded photograph.
    flat = len(on) == 1 or all(axes_of(fit)[axis].kind != "label" for axis in on)
    if flat and len(mine) == 2 and min(structure.sizes[i] for i in mine) > 3:
        return _mosaic(title, core, array, mine, bonds, load)
    if len(on) == 1 and groups[on[0]] == list(structure.outputs[on[0]]):
        axis = axes_of(fit)[on[0]]
        columns = _columns(core, array, groups[on[0]], bonds)
        if len(bonds) > 1 and axis.size > 1 and axis.kind != "label":
            return _bond_image(title, axis, columns, bonds, load)
        return _profile(title, axis, columns, bonds, load, share=formats.name(structure) == "tucker")
    if len(on) == 1 and len(groups[on[0]]) == 1:
        (index,) = groups[on[0]]
        axis = Axis(index, structure.sizes[index], None, "place")
        columns = _columns(core, array, [index], bonds)
        return (
            _bond_image(title, axis, columns, bonds, load)
            if len(bonds) > 1
            else _profile(title, axis, columns, bonds, load)
        )
    return _heat(title, core, array, decades=formats.name(structure) == "tucker")


def _title(fit: Fit, structure: Structure, core: Core, on: Sequence[int]) -> str:
    names = [axis.name for axis in axes_of(fit)]
    shape = " × ".join(f"{i} {n:,}" for i, n in zip(core.indices, core.shape, strict=True)) or "a number"
    along = ", ".join(names[axis] for axis in on)
    return f"{core.name}: {along} [{shape}]" if along else f"{core.name} [{shape}]"


def _columns(core: Core, array: np.ndarray, mine: Sequence[str], bonds: Sequence[str]) -> np.ndarray:
    order = [core.indices.index(i) for i in (*mine, *bonds)]
    rows = math.prod(array.shape[k] for k in order[: len(mine)])
    return array.transpose(order).reshape(rows, -1)


def _loads(
    structure: Structure,
    arrays: Sequence[np.ndarray],
    term: int,
    bonds: Sequence[str],
    known: Mapping[tuple[int, str], np.ndarray],
) -> np.ndarray:
    """For each combination of a core's bonds, the size of what it is joined to, where that is not ``known``.

    The columns of an orthonormal core all have one norm; what they count for stands in the cores beside it.
    """
    load = np.ones(())
    for bond in bonds:
        own = known.get((term, bond), np.ones(structure.sizes[bond]))
        for other in structure.terms_with(bond):
            if other != term and (term, bond) not in known:
                array = arrays[structure.term_core[other]]
                place = structure.terms[other].indices.index(bond)
                own = own * np.linalg.norm(np.moveaxis(array, place, 0).reshape(len(own), -1), axis=1)
        load = np.multiply.outer(load, own / (own.max() or 1.0))
    return load.reshape(-1)


def _strongest(columns: np.ndarray, load: np.ndarray, most: int) -> tuple[np.ndarray, str]:
    """The numbers of the columns that count for most, in their order, and a sentence about the others."""
    count = columns.shape[1]
    if count <= most:
        return np.arange(count), ""
    norms = np.linalg.norm(columns, axis=0) * load
    kept = np.sort(np.argsort(-norms, kind="stable")[:most])
    share = 1 - (norms[kept] ** 2).sum() / max(float((norms**2).sum()), 1e-300)
    return kept, f"The {most} strongest of {count:,} columns; the others hold {share:.1%} of the squares."


def percent(part: float) -> str:
    """A share in percent, with a digit also where it is small."""
    return f"{part:.1%}" if part >= 1e-3 else f"{100 * part:.1g}%"


def _profile(
    title: str, axis: Axis, columns: np.ndarray, bonds: Sequence[str], load: np.ndarray, *, share: bool = False
) -> Panel:
    """The columns of a core along an axis; with ``share`` they are orthonormal, and named by what each holds."""
    kept, note = _strongest(columns, load, _COLUMNS)
    labels = [f"{bonds[0]} = {n}" if len(bonds) == 1 else str(n) for n in kept] if bonds else [""]
    if share:
        parts = load**2 / max(float((load**2).sum()), 1e-300)
        labels = [f"{n + 1}: {percent(parts[n])}" for n in kept]
        note = f"{note} The percentage is what a column holds of the squares of the fit.".strip()
    if axis.kind == "label" or axis.size <= 4:
        return _bars(title, axis, columns[:, kept], labels, note)
    return _stack(title, axis, columns[:, kept], labels, note)


def _stack(title: str, axis: Axis, columns: np.ndarray, labels: Sequence[str], note: str) -> Panel:
    """One small curve below the other over the coordinate; imaginary parts are dashed."""
    fig = figure(3.7, 0.75 + 0.42 * columns.shape[1])
    # One axes with a strip of height 1 for each curve: many axes cost far more to lay out than to draw.
    ax = fig.subplots()
    draw_strips(ax, axis, columns)
    label_strips(ax, labels)
    if np.iscomplexobj(columns):
        note = f"Solid: real part, dashed: imaginary part. {note}".strip()
    return Panel(svg(fig, f"Curves of {title}"), title, note)


def draw_strips(ax: Axes, axis: Axis, columns: np.ndarray) -> None:
    """A curve for each column over the coordinate of an axis, in strips of height 1 from the top, each scaled alone.

    Imaginary parts are dashed.
    """
    count = columns.shape[1]
    style(ax)
    ax.spines["left"].set_visible(False)
    ax.set_yticks([])
    ax.margins(x=0.01)
    x = axis.positions
    order = np.argsort(x, kind="stable") if axis.kind == "number" else np.arange(axis.size)
    for n in range(count):
        values = columns[order, n]
        parts = [(values.real, "-")] + ([(values.imag, (0, (3, 2)))] if np.iscomplexobj(values) else [])
        low = min(0.0, *(float(part.min()) for part, _ in parts))
        span = max(0.0, *(float(part.max()) for part, _ in parts)) - low or 1.0
        floor = count - 1 - n + 0.1
        ax.axhline(floor - 0.8 * low / span, color=RULE, linewidth=0.8, zorder=0)
        for part, dash in parts:
            _line(ax, x[order], floor + 0.8 * (part - low) / span, hue(n), dash)
    ax.set_ylim(0, count)
    _coordinate(ax, axis)


def label_strips(ax: Axes, labels: Sequence[str]) -> None:
    """Text at the right of each strip, from the top."""
    for n, label in enumerate(labels):
        height = len(labels) - n - 0.5
        ax.text(1.015, height, label, transform=ax.get_yaxis_transform(), size=8, color=MUTED, va="center")


def hue(number: int) -> str:
    """The colour of a column, the same wherever it is drawn."""
    return HUES[number % (len(HUES) - 1)]


def _line(ax: Axes, x: np.ndarray, y: np.ndarray, colour: str, dash: Any) -> None:
    keep = thin(y, _POINTS)
    dots = "o" if len(y) <= 12 else None
    ax.plot(x[keep], y[keep], color=colour, linewidth=1.2, linestyle=dash, marker=dots, markersize=3)


def _coordinate(ax: Axes, axis: Axis) -> None:
    label_axis(ax.xaxis, axis, most=6)
    if axis.kind == "time":
        from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

        locator = AutoDateLocator(maxticks=6)
        ax.xaxis.set_major_locator(locator)
        ax.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    elif axis.kind == "number" and _geometric(axis.positions):
        ax.set_xscale("log")
        log_axis(ax.xaxis)
    elif axis.kind == "number":
        from matplotlib.ticker import MaxNLocator

        ax.xaxis.set_major_locator(MaxNLocator(6))


def _geometric(values: np.ndarray) -> bool:
    """Whether coordinates, such as doses, grow by factors: on a straight axis most would fall on one spot."""
    if len(values) < 3 or values.min() <= 0 or values.max() < 100 * values.min():
        return False
    ordered = np.sort(values.astype(np.float64))
    straight, factors = (np.diff(ordered) / np.ptp(ordered), np.diff(np.log(ordered)) / np.ptp(np.log(ordered)))
    return bool(factors.max() < straight.max() / 2)


def _bars(title: str, axis: Axis, columns: np.ndarray, labels: Sequence[str], note: str) -> Panel:
    """Bars over the labels of an axis, one block for each column; of many labels those that weigh most."""
    if np.iscomplexobj(columns):
        columns, note = np.abs(columns), f"Magnitudes. {note}".strip()
    places = np.arange(axis.size)
    if axis.size > _BARS:
        places = np.sort(np.argsort(-np.abs(columns).max(1), kind="stable")[:_BARS])
        note = f"The {_BARS} of {axis.size:,} labels that weigh most. {note}".strip()
    count = columns.shape[1]
    names = [axis.at(int(n)) for n in places]
    margin = 0.3 + 0.075 * max(map(len, names))
    # Where four columns beside their labels do not fit a panel, all columns share one row of the page and its labels.
    wide = count > 1 and margin + 0.62 * min(count, 4) > 3.7
    across = count if wide else min(count, 4)
    down = math.ceil(count / across)
    width = min(10.6, max(3.7, margin + 0.85 * across)) if wide else 3.7
    fig = figure(width, down * (0.35 + 0.17 * len(places)) + 0.2)
    # All columns to one scale, side by side on one axes for each row of them.
    low, high = min(0.0, float(columns.min(initial=0))), float(columns.max(initial=0))
    step = 1.15 * (high - low) or 1.0
    rows = np.arange(len(places))
    for row, ax in enumerate(fig.subplots(down, 1, squeeze=False)[:, 0]):
        style(ax)
        for n in range(row * across, min(count, (row + 1) * across)):
            zero = (n - row * across) * step
            ax.barh(rows, columns[places, n], left=zero, color=hue(n), height=0.72)
            ax.plot([zero, zero], [-0.5, len(places) - 0.5], color=MUTED, linewidth=0.8)
            ax.text(zero + (low + high) / 2, -0.7, labels[n], size=8, color=MUTED, ha="center", va="bottom")
        ax.set_yticks(rows, names)
        ax.set_xticks([])
        ax.tick_params(axis="y", length=0)
        ax.spines[["bottom", "left"]].set_visible(False)
        ax.set_xlim(low - 0.04 * step, low + (across - 0.04) * step)
        ax.set_ylim(len(places) - 0.5, -0.5)
    return Panel(svg(fig, f"Bars of {title}"), title, note, wide=wide)


def _bond_image(title: str, axis: Axis, columns: np.ndarray, bonds: Sequence[str], load: np.ndarray) -> Panel:
    """All combinations of the bonds as rows, the axis across."""
    kept, note = _strongest(columns, load, _CELLS)
    note = note.replace("columns", "combinations")
    values = columns[:, kept].T
    rows = Axis(" × ".join(bonds), values.shape[0], kept if note else None, "label" if note else "place")
    return _matrix(title, (rows, axis), values, note)


def _heat(title: str, core: Core, array: np.ndarray, *, decades: bool = False) -> Panel:
    """A core as a matrix of magnitudes: its first index (or the first half of many) down, all others across.

    With ``decades`` the logarithms of the magnitudes: those of an ordered core fall by orders of magnitude.
    """
    indices = core.indices or ("",)
    split = 1 if array.ndim <= 3 else array.ndim // 2
    # The longest index down keeps a three-way core from becoming a thin band.
    order = list(range(array.ndim))
    if array.ndim == 3:
        order.sort(key=lambda k: (-array.shape[k], k))
    moved = array.transpose(order)
    matrix = moved.reshape(math.prod(moved.shape[:split]), -1)
    down = " × ".join(indices[k] for k in order[:split])
    across = " × ".join(indices[k] for k in order[split:])
    if array.ndim < 2:
        matrix, down, across = array.reshape(1, -1), "", indices[0]
    axes = (Axis(down, matrix.shape[0], None, "place"), Axis(across, matrix.shape[1], None, "place"))
    if array.size == 1:
        return Panel(f"<p class='single'>{number(float(np.abs(array).item()))}</p>", title, "Its magnitude.")
    total = float((np.abs(array) ** 2).sum())
    largest = float(np.abs(array).max() ** 2)
    note = f"Magnitudes; the largest entry holds {largest / total:.1%} of the squares." if total > 0 else "All zero."
    if decades and total > 0:
        relative = np.maximum(np.abs(matrix) / math.sqrt(largest), 10.0**-_DECADES)
        note = note.replace("Magnitudes;", "Powers of ten of the magnitudes, relative to the largest entry, which")
        return _matrix(title, axes, np.log10(relative), note.replace("which the largest entry", "which"), low=-_DECADES)
    return _matrix(title, axes, np.abs(matrix), note)


def _matrix(title: str, axes: tuple[Axis, Axis], values: np.ndarray, note: str, low: float | None = None) -> Panel:
    if np.iscomplexobj(values):
        values, note = np.abs(values), f"Magnitudes. {note}".strip()
    fig = figure(3.7, picture_height(axes, values.shape))
    known = values[np.isfinite(values)]
    signed = known.size and known.min() < 0
    top = float(np.percentile(np.abs(known), 99.8)) if known.size else 1.0
    top = top or float(np.abs(known).max(initial=0)) or 1.0
    if low is not None:
        paint(fig.subplots(), axes, values, _CELLS, SEQUENTIAL, low, 0.0)
    else:
        paint(fig.subplots(), axes, values, _CELLS, DIVERGING if signed else SEQUENTIAL, -top if signed else 0.0, top)
    return Panel(svg(fig, f"Image of {title}"), title, note)


def _mosaic(
    title: str, core: Core, array: np.ndarray, mine: Sequence[str], bonds: Sequence[str], load: np.ndarray
) -> Panel:
    """A small picture for each value of the bonds of a core that carries two indices of the data."""
    columns = _columns(core, array, mine, bonds)
    kept, note = _strongest(columns, load, _PICTURES)
    note = note.replace("columns", "pictures")
    colours = "red positive, blue negative"
    if np.iscomplexobj(columns):
        columns, colours = np.abs(columns), "magnitudes"
    shape = tuple(core.shape[core.indices.index(i)] for i in mine)
    wide = len(kept) > _COLUMNS
    across = min(8 if wide else 4, len(kept))
    down = math.ceil(len(kept) / across)
    width = 10.4 if wide else 3.7
    # Pictures are 1 wide; each has a line of text above it.
    tall, apart = shape[0] / shape[1], 0.06
    line = 0.24 / (width / (across * (1 + apart)))
    fig = figure(width, min(9.0, max(1.0, width / (1 + apart) / across * down * (tall + line + apart))))
    ax = fig.subplots()
    ax.axis("off")
    # Pictures of usual strength fill the scale; a mean that outweighs all others by far may run out of it.
    highest = np.abs(columns[:, kept]).max(0)
    top = min(1.5 * float(np.median(highest)), float(highest.max())) or float(highest.max()) or 1.0
    beyond = " (the strongest exceed it)" if top < highest.max() else ""
    sizes = [core.shape[core.indices.index(i)] for i in bonds]
    for n, column in enumerate(kept):
        image = shrink(columns[:, column].reshape(shape), _CELLS)
        left, low = n % across * (1 + apart), -(n // across) * (tall + line + apart)
        ax.imshow(
            image, cmap=DIVERGING, vmin=-top, vmax=top, interpolation="none", extent=(left, left + 1, low - tall, low)
        )
        place = ", ".join(map(str, np.unravel_index(column, sizes))) if bonds else ""
        text = f"{plain(bonds[0])} = {place}" if len(bonds) == 1 else place
        ax.text(left + 0.5, low + 0.2 * line, text, size=8, color=MUTED, ha="center", va="bottom")
    ax.set_xlim(0, across * (1 + apart) - apart)
    ax.set_ylim(-down * (tall + line + apart) + line + apart, line)
    ax.set_aspect("equal")
    numbers = f" The numbers above are {plain(', '.join(bonds))}." if len(bonds) > 1 else ""
    note = f"{mine[0]} down, {mine[1]} across, {colours}, one scale for all{beyond}.{numbers} {note}".strip()
    return Panel(svg(fig, f"Images of {title}"), title, note, wide=wide)
