"""Features drawn as functions on the sphere."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg

from tenfold import report
from tenfold.errors import DataError, TenfoldError
from tenfold.so3 import random_rotations, rotate, spherical_harmonics

ROOT = Path(__file__).parents[2]
BLUE, ORANGE = np.array([0x00, 0x72, 0xB2]), np.array([0xD5, 0x5E, 0x00])


def pixels(features, irreps, **others):
    """The picture, as it would be saved on white, in whole numbers of colour."""
    figure = report.plot_signals(features, irreps, **others)
    figure.set_facecolor("white")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].astype(int)


def painted(picture):
    """Where it is blue, and where orange: hues, whatever the light."""
    red, blue = picture[..., 0], picture[..., 2]
    return blue - red > 60, red - blue > 60


def middle(mask):
    """Of what is painted: right and down, in parts of the picture."""
    rows, columns = np.nonzero(mask)
    return columns.mean() / mask.shape[1], rows.mean() / mask.shape[0]


def test_a_vector_is_blue_where_it_points_and_orange_behind() -> None:
    up = torch.tensor([0.0, 1.0, 0.0])
    for sign in (1, -1):
        blue, orange = painted(pixels(sign * up, "1o"))
        assert blue.sum() == pytest.approx(orange.sum(), rel=0.3)
        assert (middle(blue)[1] < middle(orange)[1]) == (sign == 1)


def test_signals_stand_side_by_side_with_names_and_sizes() -> None:
    features = torch.tensor([[2.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    figure = report.plot_signals(features, "0e+1o", names=["one", "two", "$x"])
    assert [ax.get_title() for ax in figure.axes] == ["one", "two", r"\$x"]
    said = [[text.get_text() for text in ax.texts][-1] for ax in figure.axes]
    # 2 / sqrt(4 pi) and sqrt(3 / (4 pi)).
    assert said == ["up to 0.56", "up to 0.49", "0"]
    assert report.plot_signals(torch.zeros(7, 4), "0e+1o").get_size_inches() == pytest.approx([5 * 2.1, 2 * 2.45])


def test_channels_and_layouts() -> None:
    feature = torch.tensor([0.0, 1.0, 0.0, 0.0, -1.0, 0.0])
    figure = report.plot_signals(feature, "2x1e")
    assert len(figure.axes) == 2
    other = pixels(torch.tensor([0.0, 0.0, 1.0, -1.0, 0.0, 0.0]), "2x1e", layout="ir_mul")
    assert np.array_equal(pixels(feature, "2x1e"), other)


def test_the_surface_turns_with_the_points() -> None:
    """A lobe covers the stick of the only point, wherever it turns."""
    point = torch.tensor([[0.3, 0.5, 0.4]])
    feature = spherical_harmonics("0e+1o+2e+3o+4e", point).sum(dim=0)
    for turn in random_rotations(3, seed=1, dtype=torch.float32):
        turned = rotate(feature, "0e+1o+2e+3o+4e", turn)
        blue, _ = painted(pixels(turned, "0e+1o+2e+3o+4e"))
        both = pixels(turned, "0e+1o+2e+3o+4e", points=point @ turn.T)
        alone = pixels(turned, "0e+1o+2e+3o+4e")
        ball = middle(np.abs(both - alone).sum(axis=-1) > 100)
        lobe = middle(blue)
        centre = (0.5, middle(painted(pixels(torch.ones(1), "0e"))[0])[1])
        there, here = np.subtract(ball, centre), np.subtract(lobe, centre)
        if np.linalg.norm(there) > 0.1:
            assert there @ here > 0.8 * np.linalg.norm(there) * np.linalg.norm(here)


def test_what_cannot_be_drawn() -> None:
    with pytest.raises(TenfoldError, match="no function on the sphere"):
        report.plot_signals(torch.zeros(8), "0e+1o+1x1e+1x0o")
    with pytest.raises(TenfoldError, match="one name for each of the 2 signals"):
        report.plot_signals(torch.zeros(2, 4), "0e+1o", names=["one"])
    with pytest.raises(DataError, match=r"points of shape \(2, 3\) must be of shape \(2, 'points', 3\)"):
        report.plot_signals(torch.zeros(2, 4), "0e+1o", points=torch.zeros(2, 3))
    with pytest.raises(DataError, match="finite"):
        report.plot_signals(torch.full((4,), torch.nan), "0e+1o")
    assert report.plot_signals(torch.zeros(0, 4), "0e+1o") is not None


def test_pictures_of_the_documentation_are_made_by_their_script(tmp_path: Path) -> None:
    script = ROOT / "docs" / "images" / "signals.py"
    spec = importlib.util.spec_from_file_location("signals", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main(tmp_path)
    page = (ROOT / "docs" / "products.md").read_text(encoding="utf-8")
    shown = set(re.findall(r"images/(signals_\w+\.png)", page))
    assert shown == {file.name for file in tmp_path.iterdir()}
    for name in shown:
        from PIL import Image

        made, kept = (np.asarray(Image.open(folder / name), dtype=int) for folder in (tmp_path, script.parent))
        # Fonts differ from one matplotlib to the next; the surfaces do not.
        assert made.shape == kept.shape
        assert float(np.abs(made - kept).mean()) < 6
