"""Hypercomplex layers do with 1/n of the numbers what dense ones do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import mean

import numpy as np
import torch
from torch import Tensor, nn

from tenfold._threads import threads_for
from tenfold.claims._registry import Measurement, Number, claim
from tenfold.claims._training import dense, mean_square, trained
from tenfold.io.samples import find
from tenfold.nn import hypercomplex_linear

_WIDTH, _WORSE = 256, 1.1
# What each network may choose from.
_RATES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)

Pixels = tuple[Tensor, Tensor]


@claim(
    "phm_parameters",
    paper=(
        "Beyond fully-connected layers with quaternions: parameterization of hypercomplex multiplications with 1/n "
        "parameters"
    ),
    year=2021,
    where="the abstract, and the tables of experiments",
    stated="Layers with parameterised hypercomplex multiplication reach what dense ones do with 1/n of the parameters.",
)
def phm_parameters(
    *, seed: int = 0, components: Sequence[int] = (2, 4), runs: int = 3, steps: int = 1000, batch: int = 128
) -> Measurement:
    """Predict 144 bands of a hyperspectral image from 48 others, with hidden layers of 256, on pixels held out.

    The image is the bundled one of Indian Pines; each band is standardised, a random half of the pixels is for
    training. Three layers, all dense or all hypercomplex with a learned algebra, biases and all; the means of some
    runs with other starts and halves. As in the paper, Adam has one learning rate for all numbers of a network. Each
    network has its own, the best of five on a quarter of the training pixels that was left out for that, with a start
    and a half that are not measured then; it falls to zero as a cosine in each run. Takes three minutes.

    Holds if the networks with n components have at most 1/n of the weights (the n^3 numbers of each algebra not
    counted, and told beside) and a mean square error at most 10 % above that of the dense one. What a dense network
    with as few weights as that of the largest n does, because it is narrower, is told beside.
    """
    most = max(components)
    # Key 0: dense and narrow, w^2 + (48 + 144) w weights.
    sides = dict.fromkeys((1, *components), _WIDTH)
    sides[0] = int(math.sqrt(96**2 + (_WIDTH**2 + 192 * _WIDTH) / most) - 96)
    errors: dict[int, list[float]] = {n: [] for n in sides}
    weights: dict[int, int] = {}
    extra: dict[int, int] = {}
    rates: dict[int, float] = {}

    def error(n: int, rate: float, learn: Pixels, test: Pixels, number: int) -> float:
        model = _network(n, sides[n], number)
        group = {"params": list(model.parameters()), "lr": rate}
        trained(model, [group], *learn, steps=steps, batch=batch, seed=number)
        matrices = [p.numel() for p in model.parameters() if p.ndim > 1]
        extra[n] = 0 if n < 2 else sum(size for size in matrices if size == n**3)
        weights[n] = sum(matrices) - extra[n]
        return mean_square(model, *test)

    with threads_for(0):
        (known, wanted), _ = _pixels(seed + runs)
        kept = len(known) * 3 // 4
        shown, apart = (known[:kept], wanted[:kept]), (known[kept:], wanted[kept:])
        for n in errors:
            tried = {rate: error(n, rate, shown, apart, seed + runs) for rate in _RATES}
            rates[n] = min(tried, key=tried.__getitem__)
        for run in range(runs):
            learn, test = _pixels(seed + run)
            for n, found in errors.items():
                found.append(error(n, rates[n], learn, test, seed + run))
    numbers: dict[str, Number] = {}
    lines = []
    for n, found in errors.items():
        name = {0: "dense and narrow", 1: "dense"}.get(n, f"n = {n}")
        beside = f" and {extra[n]} of algebras" if extra[n] else ""
        each = ", ".join(f"{error:.4f}" for error in found)
        lines.append(
            f"{name}: {weights[n]} weights{beside}, mean square error {mean(found):.4f} ({each}), rate {rates[n]:g}"
        )
        numbers |= {
            f"{name}: weights": weights[n],
            f"{name}: numbers of algebras": extra[n],
            f"{name}: mean square error": mean(found),
            f"{name}: learning rate": rates[n],
        }
    holds = all(weights[n] * n <= weights[1] and mean(errors[n]) <= _WORSE * mean(errors[1]) for n in components)
    return Measurement(holds, "\n".join(lines), numbers)


def _pixels(seed: int) -> tuple[Pixels, Pixels]:
    """Bands known and wanted, of the pixels for training and of the others."""
    values = torch.as_tensor(np.load(find("indian_pines").path)["values"].astype("float32")).flatten(0, 1)
    values = values[:, : 4 * 48]
    order = torch.randperm(len(values), generator=torch.Generator().manual_seed(seed))
    learn, test = order.chunk(2)
    values = (values - values[learn].mean(0)) / values[learn].std(0)
    known = torch.arange(values.shape[1]) % 4 == 0
    return (values[learn][:, known], values[learn][:, ~known]), (values[test][:, known], values[test][:, ~known])


def _network(n: int, width: int, seed: int) -> nn.Sequential:
    generator = torch.Generator().manual_seed(seed)

    def layer(inputs: int, outputs: int) -> nn.Module:
        if n < 2:
            return dense(inputs, outputs, generator)
        return hypercomplex_linear(inputs, outputs, n, generator=generator)

    return nn.Sequential(layer(48, width), nn.GELU(), layer(width, width), nn.GELU(), layer(width, 144))
