"""The claims on structured layers: small runs, and their measuring tools."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tenfold.claims._training import FAMILIES, multiplications, perceptron, side
from tenfold.claims.btt_scaling import btt_scaling
from tenfold.claims.phm_parameters import phm_parameters
from tenfold.claims.structured_lr_transfer import _lowest, structured_lr_transfer
from tenfold.nn import StructuredLinear


def test_products_are_counted() -> None:
    assert side(64) == (8, 8)
    assert side(36) == (6, 6)
    counted = {name: multiplications(perceptron(4, 64, 2, make, hidden=1, seed=0)) for name, make in FAMILIES.items()}
    around = 4 * 64 + 64 * 2
    assert counted["dense"] == around + 64 * 64
    assert counted["BTT"] == around + 2 * 2 * 8 * 8 * 8
    assert counted["low rank"] == around + 2 * 64 * 8
    assert counted["Kronecker"] == around + 2 * 64 * 8
    # Products with nothing summed are counted singly.
    assert counted["Monarch"] == around + 2 * 8 * 8 * 8


def test_networks_start_at_zero_and_have_the_layers_asked_for() -> None:
    model = perceptron(4, 64, 2, FAMILIES["Monarch"], hidden=2, seed=0)
    assert not model(torch.randn(3, 4)).any()
    assert sum(isinstance(layer, StructuredLinear) for layer in model) == 2
    assert sum(isinstance(layer, nn.Linear) for layer in perceptron(4, 64, 2, FAMILIES["dense"], hidden=2, seed=0)) == 4


def test_the_best_rate_lies_between_those_tried() -> None:
    rates = [2.0**n for n in range(5)]
    errors = [2 ** ((n - 2.3) ** 2) for n in range(5)]
    assert _lowest(rates, errors) == pytest.approx(2**2.3)
    assert _lowest(rates, [*errors[2:], 9.0, 9.0]) == 1.0


def test_small_runs_tell_what_they_measured() -> None:
    found = structured_lr_transfer(seeds=2, widths=(16, 64), rates=(0.001, 0.01, 0.1), steps=3, batch=8)
    for rule in ("structured", "dense"):
        each = [float(str(found.numbers[f"{rule}, seed {seed}: drift"])) for seed in (0, 1)]
        assert found.numbers[f"{rule}: drift"] == pytest.approx(sum(each) / 2)
    found = btt_scaling(seeds=1, widths={name: (16, 25) for name in FAMILIES}, steps=3, batch=8, samples=20)
    for name in FAMILIES:
        assert found.numbers[f"{name}: exponent"] == found.numbers[f"{name}: exponent, seed 0"]
    found = phm_parameters(components=(2,), runs=1, steps=3, batch=8)
    assert found.numbers["n = 2: weights"] * 2 == found.numbers["dense: weights"]
    assert found.numbers["n = 2: numbers of algebras"] == 3 * 8
