"""Features as functions on the sphere: how far a surface is from the centre, and on which side of zero."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tenfold._arguments import quoted
from tenfold.errors import DataError, TenfoldError
from tenfold.report._style import HUES, INK, MUTED, RULE, figure, number, plain
from tenfold.so3.irreps import Irreps
from tenfold.so3.layouts import Layout, check
from tenfold.so3.products import Signal
from tenfold.so3.spherical_harmonics import spherical_harmonics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Inches of one panel, and how many stand side by side.
_WIDTH, _HEIGHT, _BESIDE = 2.1, 2.45, 5
# The surface reaches this far; points of a molecule are scaled into the same box.
_REACH = 1.15
# Cells of the surface by polar angle; twice as many around.
_CELLS = 72
# Below this part of the largest of all signals a signal is zero but for rounding.
_ZERO = 1e-6
# Degrees: the eye is above and to the right of the z axis; y points up.
_AROUND, _ABOVE = 32.0, 22.0
_LIGHT = np.array([-0.35, 0.6, 0.72])


def plot_signals(
    features: Float[Tensor, "*batch dim"],
    irreps: Irreps | str,
    *,
    names: Sequence[str] | None = None,
    points: Float[Tensor, "*batch points 3"] | None = None,
    layout: Layout = "mul_ir",
) -> Figure:
    """Features as functions on the sphere, side by side: the distance from the centre is the absolute value.

    Blue is above zero and orange below, which stay apart under the common colour-vision deficiencies. Each signal fills
    its panel, and its largest absolute value is written below it; one that is zero beside the others is a dot.

    Args:
        features: one feature or several.
        irreps: theirs, a function on the sphere or several channels of functions, like ``"0e+1o+2e"`` or ``"4x1e"``;
            every channel has a panel of its own.
        names: a title for each panel.
        points: of each feature, points around its centre, drawn as balls on sticks: the atoms that it came from.
        layout: of the features.

    Returns:
        The figure, not registered with pyplot.

    Raises:
        DataError: features have not these irreps, or points not three coordinates for each feature.
        TenfoldError: irreps are no function on the sphere, or there is not one name for each panel.

    Cost: the harmonics of 10 000 directions for all signals, and as many polygons for each.
    """
    irreps = Irreps(irreps)
    check(features, irreps, layout)
    signal = Signal.of("irreps", irreps)
    batch = features.shape[:-1]
    if points is not None and (points.shape[:-2] != batch or points.shape[-1:] != (3,)):
        raise DataError(f"points of shape {tuple(points.shape)} must be of shape {(*batch, 'points', 3)}")
    components = signal.components(features.detach().double().reshape(-1, irreps.dim), layout)
    if not components.isfinite().all():
        raise DataError("features must be finite numbers to be drawn")
    directions = _directions()
    harmonics = spherical_harmonics(signal.degrees, torch.from_numpy(directions))
    values = torch.einsum("xyk,bkc->bcxy", harmonics, components.cpu()).flatten(0, 1).numpy()
    if names is not None and (isinstance(names, str) or len(names) != len(values)):
        raise TenfoldError(f"names must hold one name for each of the {len(values)} signals, not {quoted(names)}")
    rows = max(1, math.ceil(len(values) / _BESIDE))
    columns = max(1, min(len(values), _BESIDE))
    fig = figure(_WIDTH * columns, _HEIGHT * rows)
    largest = float(np.abs(values).max(initial=0.0))
    around = None if points is None else points.detach().double().cpu().reshape(-1, *points.shape[-2:]).numpy()
    for place, ax in enumerate(fig.subplots(rows, columns, squeeze=False).ravel()):
        ax.set_aspect("equal")
        ax.set_xlim(-_REACH - 0.1, _REACH + 0.1)
        ax.set_ylim(-_REACH - 0.1, _REACH + 0.1)
        ax.axis("off")
        if place >= len(values):
            continue
        _axes_of_space(ax)
        _surface(ax, directions, values[place], largest, None if around is None else around[place // signal.channels])
        if names is not None:
            ax.set_title(plain(names[place]), color=INK, size=9)
        top = float(np.abs(values[place]).max())
        said = "0" if top <= _ZERO * largest else f"up to {number(top, 2)}"
        ax.text(0.5, 0.04, said, transform=ax.transAxes, ha="center", va="top", color=MUTED, size=8)
    return fig


def _directions() -> Float[np.ndarray, "polar around 3"]:
    """The corners of the surface, pole to pole along y."""
    polar = np.linspace(0, np.pi, _CELLS + 1)[:, None]
    around = np.linspace(0, 2 * np.pi, 2 * _CELLS + 1)[None]
    sine = np.sin(polar)
    return np.stack([sine * np.sin(around), np.cos(polar) + 0 * around, sine * np.cos(around)], axis=-1)


def _seen(positions: Float[np.ndarray, "*shape 3"]) -> Float[np.ndarray, "*shape 3"]:
    """Right, up and towards the eye."""
    around, above = math.radians(_AROUND), math.radians(_ABOVE)
    right = (math.cos(around), 0.0, -math.sin(around))
    eye = (math.sin(around) * math.cos(above), math.sin(above), math.cos(around) * math.cos(above))
    up = np.cross(eye, right)
    found: np.ndarray = positions @ np.array([right, up, eye]).T
    return found


def _axes_of_space(ax: Axes) -> None:
    """x, y and z, thin, behind everything."""
    ends = _seen(_REACH * np.eye(3))
    for name, end in zip("xyz", ends, strict=True):
        ax.plot((0, end[0]), (0, end[1]), color=RULE, linewidth=0.8, zorder=0, solid_capstyle="round")
        ax.text(1.07 * end[0], 1.07 * end[1], name, color=MUTED, size=7, ha="center", va="center", zorder=0)


def _surface(ax: Axes, directions: np.ndarray, values: np.ndarray, largest: float, points: np.ndarray | None) -> None:
    """Cells of the surface, sticks and balls, the farthest first."""
    from matplotlib.collections import PolyCollection

    polygons: list[np.ndarray] = []
    colours: list[np.ndarray] = []
    top = float(np.abs(values).max())
    if top <= _ZERO * largest:
        ax.plot(0, 0, "o", color=MUTED, markersize=4)
    else:
        corners = _seen(directions * (np.abs(values) / top)[..., None])
        cells = np.stack([corners[:-1, :-1], corners[1:, :-1], corners[1:, 1:], corners[:-1, 1:]], axis=2)
        middle = (values[:-1, :-1] + values[1:, :-1] + values[1:, 1:] + values[:-1, 1:]) / 4
        normals = np.cross(cells[:, :, 2] - cells[:, :, 0], cells[:, :, 3] - cells[:, :, 1])
        normals /= np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-300)
        polygons.extend(cells.reshape(-1, 4, 3))
        colours.extend(_shaded(np.where(middle[..., None] >= 0, _rgb(HUES[0]), _rgb(HUES[1])), normals).reshape(-1, 3))
    for polygon, colour in _balls_and_sticks(points):
        polygons.append(polygon)
        colours.append(colour)
    order = np.argsort([polygon[:, 2].mean() for polygon in polygons])
    faces = np.array(colours).reshape(-1, 3)[order]
    flat = [polygons[place][:, :2] for place in order]
    # Edges of the colour of the cell close the seams between cells. Vector formats would be slow with so many cells.
    ax.add_collection(PolyCollection(flat, facecolors=faces, edgecolors=faces, linewidths=0.4, rasterized=True))


def _shaded(colours: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Under one lamp, seen from outside or inside alike, with a little light from everywhere."""
    towards = np.where(normals[..., 2:] < 0, -normals, normals)
    lit = np.clip(towards @ (_LIGHT / np.linalg.norm(_LIGHT)), 0, 1)[..., None]
    found: np.ndarray = np.clip(colours * (0.55 + 0.5 * lit) + 0.28 * lit**6, 0, 1)
    return found


def _balls_and_sticks(points: np.ndarray | None) -> list[tuple[np.ndarray, np.ndarray]]:
    """A stick in short pieces from the centre to each point, and balls at both ends, the farthest point at the rim."""
    if points is None or not len(points):
        return []
    farthest = max(float(np.linalg.norm(points, axis=1).max()), 1e-300)
    ends = _seen(points / farthest * _REACH)
    found = []
    turn = np.linspace(0, 2 * np.pi, 25)[:-1]
    circle = np.stack([np.cos(turn), np.sin(turn), 0 * turn], axis=1)
    for end in ends:
        across = np.array([-end[1], end[0], 0.0])
        across *= 0.022 / max(float(np.linalg.norm(across)), 1e-9)
        steps = np.linspace(0, 1, 25)[:, None] * end
        for before, after in itertools.pairwise(steps):
            found.append((np.stack([before - across, before + across, after + across, after - across]), _rgb(MUTED)))
        for radius, shade in ((0.075, INK), (0.06, MUTED)):
            # The rim of a ball lies a little behind its face.
            found.append((end + radius * circle + (0, 0, 0.075 - radius), _rgb(shade)))
    return found


def _rgb(colour: str) -> np.ndarray:
    return np.array([int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)])
