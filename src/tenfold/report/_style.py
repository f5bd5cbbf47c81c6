"""Colours, figures, SVG and numbers: what every picture of the page shares."""

from __future__ import annotations

import base64
import io
import itertools
import math
import re
import threading
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tenfold import formats

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from PIL import Image

    from tenfold.structure import Structure

# Inks of the light page. In the page's SVG each becomes a CSS variable, which the dark page redefines.
INK = "#1c2128"
MUTED = "#667080"
RULE = "#d3d8df"
PAPER = "#fdfdfe"
MISSING = "#9aa3ad"
# Eight hues that stay apart under the common colour-vision deficiencies (after Okabe and Ito, without the yellow, which
# vanishes on white).
HUES = ("#0072b2", "#d55e00", "#00896b", "#b0578d", "#c98500", "#3d9bd1", "#7d6bc4", "#8a8f98")
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "*")
SEQUENTIAL = "viridis"
# What is larger is drawn as if it were this: logarithmic axes with room above it would end beyond what a float can be.
TALLEST = 1e100
DIVERGING = "RdBu_r"
CYCLIC = "twilight"

_FAMILIES = {
    "cp": "CP",
    "tucker": "Tucker",
    "hierarchical_tucker": "hierarchical Tucker",
    "kronecker": "Kronecker",
    "monarch": "Monarch",
    "phm": "PHM",
}

_VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    RULE: "var(--rule)",
    PAPER: "var(--paper)",
    **{hue: f"var(--hue{n})" for n, hue in enumerate(HUES)},
}
# matplotlib reads the SVG options from its one global table while it writes, so pages of two threads take turns.
_svg_options = threading.Lock()


@dataclass(frozen=True)
class Panel:
    """One picture of the page.

    Attributes:
        markup: safe HTML (an SVG or an ``img`` element) that draws it.
        title: plain text above it.
        note: plain text below it.
        wide: whether it takes a row of its own.
    """

    markup: str
    title: str = ""
    note: str = ""
    wide: bool = False


def figure(width: float, height: float) -> Figure:
    """An empty figure, in inches, that belongs to nobody."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", facecolor="none")


def style(ax: Axes, *, grid: bool = False) -> Axes:
    """Quiet axes: no box, muted ticks."""
    ax.set_facecolor("none")
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        ax.spines[side].set_color(MUTED)
    ax.tick_params(which="both", colors=MUTED, labelsize=8)
    ax.tick_params(which="minor", length=2)
    ax.xaxis.label.set(color=INK, size=9)
    ax.yaxis.label.set(color=INK, size=9)
    ax.title.set(color=INK, size=9)
    for offset in (ax.xaxis.offsetText, ax.yaxis.offsetText):
        offset.set(color=MUTED, size=8)
    if grid:
        ax.grid(True, which="major", color=RULE, linewidth=0.6)
        ax.set_axisbelow(True)
    return ax


def log_axis(axis: Any) -> None:
    """A logarithmic axis labelled in plain text: 0.01, 1, 100, 1e6."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(numticks=9))
    low, high = axis.get_view_interval()
    # Within less than a decade and a half no two powers of ten are in view, so 2 and 5 are named too.
    if low > 0 and high / low < 30:
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=12))
    axis.set_major_formatter(FuncFormatter(lambda value, _: tick(value)))
    axis.set_minor_formatter(NullFormatter())


def family(structure: Structure, called: str = "") -> str | None:
    """The family of a structure as the field writes it, the one it is ``called`` where it has several, or None."""
    found = formats.name(structure, called)
    return None if found is None else _FAMILIES.get(found, found.replace("_", " "))


def tick(value: float) -> str:
    """A tick of a logarithmic axis."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    power = math.floor(math.log10(abs(value)) + 1e-9)
    if -4 < power < 5:
        return f"{value:,.10g}"
    lead = value / 10.0**power
    raised = str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"10{raised}" if abs(lead - 1) < 1e-6 else f"{lead:.3g}·10{raised}"


def plain(text: object, longest: int = 40) -> str:
    """Text for matplotlib as it stands: one line, cut to ``longest``, no mathematics between dollar signs."""
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
    return shorten(line, longest).replace("$", r"\$")


def shorten(text: str, longest: int) -> str:
    """At most ``longest`` characters, the middle left out."""
    if len(text) <= longest:
        return text
    half = (longest - 1) // 2
    return f"{text[: longest - 1 - half]}…{text[len(text) - half :]}"


def number(value: float, digits: int = 4) -> str:
    """A number for reading: 1,234, 0.0123, 1.2e-09."""
    if value != value:
        return "not a number"
    if isinstance(value, int) or (float(value).is_integer() and abs(value) < 1e12):
        return f"{int(value):,}"
    if 1e-4 <= abs(value) < 1e6:
        text = f"{value:,.{digits}g}" if abs(value) < 10**digits else f"{value:,.0f}"
        return text
    return f"{value:.{digits - 1}e}"


def times(shape: Any) -> str:
    """``(3, 4)`` as ``3 × 4``."""
    return " × ".join(f"{n:,}" for n in shape) if len(shape) else "a single number"


def svg(fig: Figure, label: str) -> str:
    """The figure as an SVG element to put inside an HTML page: text kept as text, colours as CSS variables.

    Args:
        fig: drawn with the inks of this module.
        label: plain text for readers who cannot see it.
    """
    import matplotlib

    out = io.StringIO()
    with (
        _svg_options,
        matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": label}),
        warnings.catch_warnings(),
    ):
        # The browser has the glyphs that matplotlib's own font lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        fig.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", text, flags=re.S)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.S)
    # Names that only matplotlib uses would appear once in each figure of the page.
    text = re.sub(r'(<g) id="[^"]*"', r"\1", text)
    text = text.replace("xlink:href=", "href=")
    text = re.sub(r'(?<= d=")[^"]*', _coarser, text)
    text = re.sub(r"(?<=data:image/png;base64,)[^\"]*", _repacked, text)
    text = re.sub(r"#[0-9a-f]{6}(?=[;\"])", lambda m: _VARIABLES.get(m.group(), m.group()), text)
    text = re.sub(r"font-family: [^;\"]*", "font-family: var(--font)", text)
    text = re.sub(r"font: ([0-9.]+px) [^;\"]*", r"font: \1 var(--font)", text)
    width, height = (float(v) * 96 for v in fig.get_size_inches())
    head = (
        f'<svg role="img" aria-label="{_attribute(label)}" style="width:{width:.0f}px;min-width:{0.75 * width:.0f}px" '
        f'viewBox="0 0 {width * 0.75:.6g} {height * 0.75:.6g}">'
    )
    return head + text[text.index(">") + 1 :].strip()


def _coarser(match: re.Match[str]) -> str:
    """Path data to a hundredth of a point: nobody sees more, and the page is half as long."""
    return re.sub(r"-?\d+\.\d+", lambda m: f"{float(m.group()):.2f}".rstrip("0").rstrip("."), match.group())


def png(pixels: np.ndarray, label: str, *, smooth: bool) -> str:
    """An ``img`` element holding uint8 pixels, (height, width) or (height, width, 3 or 4), as a PNG."""
    from PIL import Image

    data = _encoded(Image.fromarray(np.ascontiguousarray(pixels)))
    kind = "smooth" if smooth else "blocky"
    height, width = pixels.shape[:2]
    return (
        f'<img class="{kind}" alt="{_attribute(label)}" width="{width}" height="{height}" '
        f'src="data:image/png;base64,{data}">'
    )


def _repacked(match: re.Match[str]) -> str:
    from PIL import Image

    return _encoded(Image.open(io.BytesIO(base64.b64decode(match.group()))))


def _encoded(image: Image.Image) -> str:
    """A PNG in base64, with a palette where 256 colours are enough: a third of the bytes, and no loss."""
    from PIL import Image

    pixels = np.asarray(image)
    if pixels.ndim == 3 and pixels.shape[2] == 4 and (pixels[:, :, 3] == 255).all():
        pixels = np.ascontiguousarray(pixels[:, :, :3])
        image = Image.fromarray(pixels)
    if pixels.ndim == 3 and pixels.shape[2] == 3:
        packed = pixels.astype(np.uint32) @ np.array([65536, 256, 1], dtype=np.uint32)
        colours, index = np.unique(packed, return_inverse=True)
        if len(colours) <= 256:
            image = Image.fromarray(index.reshape(packed.shape).astype(np.uint8))
            image.putpalette(
                np.stack([colours >> 16, colours >> 8 & 255, colours & 255], axis=1).astype(np.uint8).tobytes()
            )
    out = io.BytesIO()
    image.save(out, format="PNG", optimize=True)
    return base64.b64encode(out.getvalue()).decode("ascii")


def _attribute(text: str) -> str:
    from markupsafe import escape

    return str(escape(text))


def thin(values: np.ndarray, most: int) -> np.ndarray:
    """Positions of at most about ``most`` points that keep a curve's shape: the least and greatest of each stretch."""
    n = len(values)
    if n <= most:
        return np.arange(n)
    edges = np.linspace(0, n, most // 2 + 1).astype(int)
    keep = {0, n - 1}
    for start, stop in itertools.pairwise(edges):
        part = np.nan_to_num(values[start:stop])
        keep |= {start + int(part.argmin()), start + int(part.argmax())}
    return np.array(sorted(keep))


def shrink(image: np.ndarray, most: int) -> np.ndarray:
    """An image of at most ``most`` by ``most`` cells: means over blocks, missing cells left out of them."""
    for axis in (0, 1):
        n = image.shape[axis]
        if n <= most:
            continue
        edges = np.linspace(0, n, most + 1).astype(int)
        known = np.isfinite(image)
        total = np.add.reduceat(np.where(known, image, 0), edges[:-1], axis=axis)
        count = np.add.reduceat(known.astype(np.float64), edges[:-1], axis=axis)
        with np.errstate(invalid="ignore", divide="ignore"):
            image = np.where(count > 0, total / count, np.nan)
    return image
