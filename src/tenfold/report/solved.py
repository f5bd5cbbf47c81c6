"""Pictures of the solution of an equation, and its page."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from tenfold._files import atomic
from tenfold.pde import methods
from tenfold.report._style import (
    DIVERGING,
    HUES,
    INK,
    MUTED,
    SEQUENTIAL,
    Panel,
    figure,
    log_axis,
    number,
    plain,
    shorten,
    style,
    svg,
    times,
)
from tenfold.report._template import filled, footer, marked

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from tenfold.verbs.solution import Solution

# Points of a curve or along each side of an image, and periods that a view from near holds.
_CURVE, _IMAGE, _PERIODS = 2400, 320, 5
# A view from near is of less than this part of some side.
_PART = 0.9
# Below this an error is rounding, and its picture would be noise to nobody's use.
_TINY = 1e-18


def plot_solution(solution: Solution) -> Figure:
    """The whole solution, a part of it from near, and its error, or its spectrum where nobody knows the solution.

    Returns:
        A figure of 13 by 3.8 inches, not registered with pyplot; of 9 by 3.8 where a view from near would show all.
    """
    near = shows_more(solution)
    fig = figure(13 if near else 9, 3.8)
    fig.set_facecolor("white")
    left, *middle, right = fig.subplots(1, 3 if near else 2)
    draw_whole(left, solution)
    if near:
        draw_near(middle[0], solution)
    if solution.problem.solution is None:
        draw_spectrum(right, solution)
    else:
        draw_error(right, solution)
    said = f"residual {number(solution.residual_between, 3)} between the points"
    if solution.error is not None:
        said = f"relative L2 error {number(solution.error, 3)}, {said}"
    fig.suptitle(plain(f"{solution.problem.title}: {said}", 140), color=INK, size=11)
    return fig


def draw_whole(ax: Axes, solution: Solution) -> None:
    """The solution over the whole domain."""
    ends = [(axis.low, axis.high) for axis in solution.problem.axes]
    if len(ends) == 2:
        _image(ax, solution, ends, _values(solution, ends), SEQUENTIAL)
    else:
        # More periods than a picture has columns: the band between least and greatest of each stretch.
        (low, high), values = ends[0], _values(solution, ends)
        points = np.linspace(low, high, len(values))
        pieces = np.array_split(np.arange(len(values)), 300)
        middles = [points[piece].mean() for piece in pieces]
        ax.fill_between(
            middles,
            [values[piece].min() for piece in pieces],
            [values[piece].max() for piece in pieces],
            color=HUES[0],
            alpha=0.35,
            linewidth=0,
        )
        ax.plot(points, values, color=HUES[0], linewidth=0.5)
        style(ax, grid=True)
        ax.set(xlabel=solution.problem.axes[0].name, ylabel="u")
    ax.set_title("the solution", size=9, color=INK)


def draw_near(ax: Axes, solution: Solution) -> None:
    """A few periods in the middle, with the points of the grid and, where it is known, the true solution."""
    ends = _near(solution)
    if len(ends) == 2:
        _image(ax, solution, ends, _values(solution, ends), SEQUENTIAL)
        ax.set_title("from near", size=9, color=INK)
        return
    (low, high), axis = ends[0], solution.problem.axes[0]
    points = np.linspace(low, high, _CURVE)
    ax.plot(points, _values(solution, ends), color=HUES[0], linewidth=1.4, label="solution")
    if solution.problem.solution is not None:
        truth = solution.problem.truth([torch.from_numpy(points)]).numpy()
        ax.plot(points, truth, color=HUES[1], linewidth=1.2, linestyle=(0, (3, 3)), label="true")
    grid = axis.grid().numpy()
    inside = (grid >= low) & (grid <= high)
    ax.plot(grid[inside], solution.process.values.numpy()[inside], "o", color=INK, markersize=3.5, label="grid")
    style(ax, grid=True)
    ax.margins(y=0.22)
    ax.legend(fontsize=8, labelcolor=INK, frameon=False, loc="upper center", ncols=3)
    ax.set(xlabel=axis.name, ylabel="u")
    ax.set_title("from near", size=9, color=INK)


def shows_more(solution: Solution) -> bool:
    """Whether a view from near shows what that of the whole does not: a part, or the points of a curve."""
    axes = solution.problem.axes
    parts = [(high - low) / axis.length for (low, high), axis in zip(_near(solution), axes, strict=True)]
    return len(axes) == 1 or min(parts) < _PART


def draw_error(ax: Axes, solution: Solution) -> None:
    """How far the solution is from the known one."""
    ends = [(axis.low, axis.high) for axis in solution.problem.axes]
    grids = _grids(solution, ends)
    apart = (solution.process.on(grids) - solution.problem.truth(solution.problem.mesh(grids))).numpy()
    if len(ends) == 2:
        top = float(np.abs(apart).max()) or 1.0
        _image(ax, solution, ends, apart, DIVERGING, (-top, top))
    else:
        ax.plot(grids[0].numpy(), np.maximum(np.abs(apart), _TINY), color=HUES[1], linewidth=0.6)
        ax.set_yscale("log")
        log_axis(ax.yaxis)
        style(ax, grid=True)
        ax.set(xlabel=solution.problem.axes[0].name, ylabel="|u - true|")
    ax.set_title("error", size=9, color=INK)


def draw_spectrum(ax: Axes, solution: Solution) -> None:
    """The weight of each peak of the prior's spectrum, at its frequency, by axis."""
    for place, (axis, peaks) in enumerate(zip(solution.problem.axes, solution.process.peaks, strict=True)):
        weights = (peaks.weights / peaks.weights.sum()).numpy()
        turns = np.zeros(len(weights)) if peaks.frequencies is None else peaks.frequencies.abs().numpy()
        marker = ("o", "s")[place]
        ax.vlines(turns, 1e-12, weights, color=HUES[place], linewidth=1.2, alpha=0.7)
        ax.plot(turns, weights, marker, color=HUES[place], markersize=5, label=f"along {axis.name}")
    ax.set_yscale("log")
    floor = min(float((peaks.weights / peaks.weights.sum()).min()) for peaks in solution.process.peaks)
    ax.set_ylim(max(floor / 3, 1e-9), 2)
    log_axis(ax.yaxis)
    style(ax, grid=True)
    ax.set(xlabel="frequency, periods per unit", ylabel="weight")
    ax.legend(fontsize=8, labelcolor=INK, frameon=False)
    ax.set_title("spectrum of the prior", size=9, color=INK)


def draw_way(ax: Axes, solution: Solution) -> None:
    """Residual and, where it is known, error at the checkpoints."""
    numbers = [step.number for step in solution.steps]
    ax.plot(numbers, [step.residual for step in solution.steps], "o-", color=HUES[0], markersize=4, label="residual")
    checked = [(step.number, step.error) for step in solution.steps if step.error is not None]
    if checked:
        ax.plot(*zip(*checked, strict=True), "s-", color=HUES[1], markersize=4, label="relative L2 error")
    ax.set_yscale("log")
    log_axis(ax.yaxis)
    style(ax, grid=True)
    ax.set(xlabel="step", ylabel="relative")
    ax.legend(fontsize=8, labelcolor=INK, frameon=False)


def write(solution: Solution, path: str | os.PathLike[str], *, saved: str | None = None) -> None:
    """Write a solution as one self-contained HTML page.

    Raises:
        FileError: the file cannot be written; what stood there before is unchanged.
    """
    text = render(solution, saved=saved)
    with atomic(os.fspath(path)) as beside:
        beside.write_text(text, encoding="utf-8")


def render(solution: Solution, *, saved: str | None = None) -> str:
    """The page of `write` as text."""
    problem = solution.problem
    known = problem.solution is not None
    panels = [_panel(draw_whole, solution, "The solution")]
    near = shows_more(solution)
    if near:
        note = "A few periods of the strongest frequency in the middle of the domain."
        panels.append(_panel(draw_near, solution, "From near", note))
    if known:
        panels.append(_panel(draw_error, solution, "Error", "Distance from the known solution."))
    panels.append(
        _panel(
            draw_spectrum,
            solution,
            "Spectrum",
            "Peaks of the prior along each coordinate: where they stand and what weight they have.",
        )
    )
    way = _panel(draw_way, solution, "") if solution.method == "adam" and len(solution.steps) > 1 else None
    return filled(
        "solved.html.j2",
        title=shorten(problem.title, 80),
        near=near,
        head={
            "title": problem.title,
            "equation": problem.equation,
            "grid": times(problem.shape),
            "domain": ", ".join(f"{axis.name} from {axis.low:g} to {axis.high:g}" for axis in problem.axes),
            "boundary": [
                (f"{problem.axes[side.axis].name} = {problem.axes[side.axis].ends[side.end]:g}", side.value.text)
                for side in problem.sides
            ],
            "parameters": ", ".join(f"{name} = {value:g}" for name, value in problem.parameters.items()),
            "solution": problem.solution.text if problem.solution is not None else "",
            "made": problem.right is None,
            "method": solution.method,
            "stopped": solution.why_stopped,
            "doubtful": solution.doubtful,
            "remedy": solution.remedy,
        },
        facts=_facts(solution),
        use=_use(solution, saved),
        panels=[marked(panel) for panel in panels],
        way=marked(way),
        footer=[line for line in footer(0, "float64 on cpu") if line[0] != "seed"],
        problem_json=json.dumps(problem.mapping(), indent=1, ensure_ascii=False),
    )


def _panel(draw: Any, solution: Solution, title: str, note: str = "") -> Panel:
    fig = figure(5.2, 3.6)
    ax = fig.subplots()
    draw(ax, solution)
    ax.set_title("")
    return Panel(svg(fig, title or "Residual by step"), title, note)


def _facts(solution: Solution) -> list[dict[str, str]]:
    facts = []
    if solution.error is not None:
        facts.append(
            {"name": "relative L2 error", "value": number(solution.error, 3), "note": "against the known solution"}
        )
    best = solution.best
    if best is not None and best.error is not None:
        note = f"after step {best.number:,}; nothing was chosen by it"
        facts.append({"name": "least on the way", "value": number(best.error, 3), "note": note})
    facts += [
        {
            "name": "residual between",
            "value": number(solution.residual_between, 3),
            "note": "halfway between the points",
        },
        {"name": "residual", "value": number(solution.residual, 3), "note": "at the points of the grid"},
        {"name": "time", "value": f"{solution.seconds:.2f} s", "note": solution.method},
    ]
    return facts


def _use(solution: Solution, saved: str | None) -> dict[str, str]:
    place = json.dumps(saved or "solution.npz", ensure_ascii=False)
    points = ", ".join("[" + f"{(axis.low + axis.high) / 2:.4g}" + "]" for axis in solution.problem.axes)
    first = [] if saved else [f"solution.save({place})   # once, where it was found"]
    lines = [f"solution = tn.Solution.load({place})", f"solution({points})", "solution.process.values"]
    again = shlex.quote(solution.problem.source or "problem.yaml")
    return {
        "python": "\n".join(["import tenfold as tn", "", *first, *lines]),
        "terminal": f"tenfold solve {again}"
        + ("" if solution.method == methods()[0] else f" --method {solution.method}"),
    }


def _near(solution: Solution) -> list[tuple[float, float]]:
    """A stretch of each axis in the middle that holds a few periods of the strongest frequency but 0."""
    ends = []
    for axis, peaks in zip(solution.problem.axes, solution.process.peaks, strict=True):
        length = axis.length / 8 if len(solution.problem.axes) == 1 else axis.length
        if peaks.frequencies is not None:
            turns = peaks.frequencies.abs().numpy()
            weights = np.where(turns > 0.5 / axis.length, peaks.weights.numpy(), 0)
            if weights.max() > 0:
                length = min(axis.length, _PERIODS / turns[int(weights.argmax())])
        middle = (axis.low + axis.high) / 2
        ends.append((middle - length / 2, middle + length / 2))
    return ends


def _grids(solution: Solution, ends: Sequence[tuple[float, float]]) -> list[torch.Tensor]:
    count = _CURVE if len(ends) == 1 else _IMAGE
    return [torch.linspace(low, high, count, dtype=torch.float64) for low, high in ends]


def _values(solution: Solution, ends: Sequence[tuple[float, float]]) -> np.ndarray:
    return solution.process.on(_grids(solution, ends)).numpy()


def _image(
    ax: Axes,
    solution: Solution,
    ends: Sequence[tuple[float, float]],
    values: np.ndarray,
    colours: str,
    span: tuple[float | None, float | None] = (None, None),
) -> None:
    """Values over two coordinates, the first to the right."""
    (left, right), (low, high) = ends
    image = ax.imshow(
        values.T,
        origin="lower",
        extent=(left, right, low, high),
        aspect="auto",
        cmap=colours,
        vmin=span[0],
        vmax=span[1],
        interpolation="nearest",
    )
    style(ax)
    first, second = solution.problem.axes
    ax.set(xlabel=first.name, ylabel=second.name)
    bar = ax.figure.colorbar(image, ax=ax)
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors=MUTED, labelsize=8)
