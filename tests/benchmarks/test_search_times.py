"""How long searches take: what the arrays are, and that what is measured is what a search does."""

from __future__ import annotations

import re
import time

import pytest
import torch

from benchmarks.search_times import ARRAYS, NOISE, main, measured, ring
from tenfold.decomposition import find
from tenfold.formats import tensor_ring


def test_arrays_have_the_shapes_that_their_names_say() -> None:
    shapes = {name: tuple(make().shape) for name, make in ARRAYS.items()}
    assert list(shapes.values()) == [(20,) * 3, (4,) * 8, (64,) * 3, (256, 256), (512, 512, 3)]
    for name, shape in shapes.items():
        if "photograph" in name:
            assert all(str(n) in name for n in shape)


def test_planted_rings_are_there_but_for_the_noise() -> None:
    fitted = find("tensor_ring_als").function(ring((6,) * 4, 2), tensor_ring((6,) * 4, [2] * 4), max_sweeps=60)
    assert 0.5 * NOISE < fitted.error < 1.1 * NOISE


def test_seconds_are_those_of_the_processor() -> None:
    data = torch.randn((4, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    started = time.process_time()
    took = measured(data, 4)
    assert took.modes == 3
    assert 1 <= took.fits <= 4
    assert took.common > 0
    assert took.searching > 0
    assert took.common + took.searching <= time.process_time() - started


def test_the_command_prints_a_row_for_each_array(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--evaluations", "2", "--only", "20 × 20 × 20"]) == 0
    (row,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| 20")]
    assert re.fullmatch(r"\| 20 × 20 × 20 \| 3 \| [\d.]+ \| \d+ \| [\d.]+ s \| [12] \|", row)
    with pytest.raises(SystemExit):
        main(["--evaluations", "0"])
