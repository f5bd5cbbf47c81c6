"""The claims on convolutions: small runs, and what is compared."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tenfold.claims.flora_against_lora import _Lora, _tucker, flora_against_lora
from tenfold.claims.one_way_laplacian import one_way_laplacian


def test_two_one_way_filters_are_the_laplacian() -> None:
    found = one_way_laplacian(problems=1, side=16)
    assert found.holds
    # The best of rank 1, by Eckart and Young, leaves a tenth.
    assert 0.05 < float(str(found.numbers["problem 1: rank 1"])) < 0.2


def test_both_adapters_begin_with_the_layer_and_have_a_budget() -> None:
    layer, generator = nn.Conv2d(8, 12, 3, padding=1, stride=2), torch.Generator().manual_seed(0)
    x = torch.randn(2, 8, 9, 9)
    for made in (_Lora(2, layer, 4.0, generator), _tucker(2, layer, 4.0, generator)):
        torch.testing.assert_close(made(x), layer(x))
        count = sum(p.numel() for name, p in made.named_parameters() if not name.startswith("base."))
        assert 0.5 * 2 * (12 + 72) < count <= 2 * (12 + 72)


def test_a_small_run_tells_what_it_measured() -> None:
    found = flora_against_lora(repeats=2, ranks=(1,), rates=(1e-2,), scales=(8.0,), steps=2)
    for name in ("LoRA", "Tucker"):
        assert found.numbers[f"{name}: at an end"]
        each = [float(str(found.numbers[f"992 numbers: {name}, seed {seed}"])) for seed in (1, 2)]
        assert found.numbers[f"992 numbers: {name}"] == pytest.approx(sum(each) / 2)
    assert float(str(found.numbers["not adapted"])) < 50
