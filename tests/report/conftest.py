"""Real fits of many kinds of data, each made once."""

from __future__ import annotations

import dataclasses
from functools import cache

import numpy as np
import pytest
import torch

import tenfold
from tenfold.network import Network
from tenfold.observations import Observations
from tenfold.structure import Structure


def waves(*shape: int, dtype: type = float) -> np.ndarray:
    """A smooth array of low rank with a little noise."""
    grids = np.meshgrid(*(np.linspace(0, 1, n) for n in shape), indexing="ij", sparse=True)
    total = sum((k + 1) * g for k, g in enumerate(grids))
    array = np.cos(3 * total) + 0.3 * np.sin(7 * total)
    if dtype is complex:
        array = array * np.exp(2j * total)
    return array + 0.01 * np.random.default_rng(0).normal(size=shape)


def _photo():
    from skimage.data import astronaut

    return tenfold.fit(
        astronaut()[::4, ::4],
        parameters=6000,
        dims=["row", "column", "channel"],
        coordinates={"channel": np.array(["red", "green", "blue"])},
        source="astronaut.png",
        source_dtype="uint8",
    )


def _holes():
    array = waves(14, 12)
    array[np.random.default_rng(1).random(array.shape) < 0.2] = np.nan
    return tenfold.fit(Observations.from_nan(array), "i r, j r -> i j", sizes={"r": 3}, dims=["i", "j"])


def _scalar():
    network = Network(Structure("a, a ->", a=3), [torch.ones(3).double(), torch.arange(3).double()])
    return dataclasses.replace(
        MAKERS["matrix"](), network=network, front=(), dims=(), coordinates={}, spectra={}, data=torch.tensor(3.5)
    )


def _grouped():
    return tenfold.fit(waves(24, 30), "i a, a j b, b k l -> (i k) (j l)", sizes={"i": 6, "j": 5, "a": 3, "b": 3})


def _twice():
    array = waves(20, 4)
    return tenfold.fit(array @ array.T, "U[i r], U[j r], w[r] -> i j", sizes={"r": 2}, max_sweeps=40)


def _named():
    days = np.datetime64("2024-03-01") + np.arange(18)
    return tenfold.fit(
        waves(18, 5, 30),
        "i r, j r, k r -> i j k",
        sizes={"r": 2},
        dims=["day", "<script>alert(1)</script>", "$x_{$ naïve 温度 ☃"],
        coordinates={
            "day": days,
            "<script>alert(1)</script>": np.array(["a&b", "<b>bold</b>", '"quoted"', "</svg>", "]]>"]),
            "$x_{$ naïve 温度 ☃": np.linspace(-5, 5, 30),
        },
        source="<img src=x onerror=alert(2)>\n{{ 7*7 }}",
    )


MAKERS = {
    "vector": lambda: tenfold.fit(waves(24), "i a, a -> i", sizes={"a": 1}),
    "matrix": lambda: tenfold.fit(waves(40, 30), error=0.05),
    "cube": lambda: tenfold.fit(waves(16, 18, 20), error=0.02),
    "four": lambda: tenfold.fit(waves(8, 7, 6, 5), error=0.02),
    "five": lambda: tenfold.fit(waves(5, 4, 5, 4, 6), parameters=200),
    "six": lambda: tenfold.fit(waves(4, 3, 4, 3, 4, 3), error=0.05),
    "complex": lambda: tenfold.fit(waves(16, 12, 9, dtype=complex), error=0.05),
    "complex vector": lambda: tenfold.fit(waves(24, dtype=complex), "i a, a -> i", sizes={"a": 1}),
    "photo": _photo,
    "holes": _holes,
    "scalar": _scalar,
    "grouped": _grouped,
    "twice": _twice,
    "named": _named,
    "single": lambda: tenfold.fit(np.full((1, 1, 4), 2.0), "i r, j r, k r -> i j k", sizes={"r": 1}),
}


@cache
def _made(name: str):
    return MAKERS[name]()


@pytest.fixture
def made():
    """The fit of that name."""
    return _made
