"""Gradient descent on factors: its gradients, its rates, and what balancing changes."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from tenfold.claims.sensing_rates import drawn
from tenfold.completion.matrix_sensing import Entries, Everything, Matrices, Sensing, matrix_sensing
from tenfold.errors import DataError, TenfoldError

SHAPE = (7, 5)


def maps() -> list[Sensing]:
    places = torch.cartesian_prod(torch.arange(7), torch.arange(5))[::2]
    return [Everything(SHAPE), Matrices.gaussian(60, SHAPE), Entries(torch.cat([places, places[:2]]), SHAPE)]


@pytest.mark.parametrize("sensing", maps(), ids=lambda sensing: type(sensing).__name__)
def test_adjoints(sensing: Sensing) -> None:
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(SHAPE, generator=generator, dtype=torch.float64)
    there = sensing.measure(matrix)
    other = torch.randn(there.shape, generator=generator, dtype=torch.float64)
    assert float((there * other).sum()) == pytest.approx(float((matrix * sensing.adjoint(other)).sum()), rel=1e-12)


@pytest.mark.parametrize("symmetric", [False, True])
def test_a_step_is_one_along_the_gradient_of_the_loss(symmetric: bool) -> None:
    shape = (6, 6) if symmetric else SHAPE
    sensing = Matrices.gaussian(40, shape)
    generator = torch.Generator().manual_seed(1)
    measurements = torch.randn(40, generator=generator, dtype=torch.float64)
    options = {"rank": 3, "symmetric": symmetric, "step_size": 0.01, "seed": 4}
    # Factors before the last step are those of a run that is one step shorter.
    before, after = (matrix_sensing(measurements, sensing, steps=steps, **options) for steps in (5, 6))  # type: ignore[arg-type]
    f, g = before.left.clone().requires_grad_(), before.right.clone().requires_grad_()
    product = f @ f.T if symmetric else f @ g.T
    loss = (sensing.measure(product) - measurements).square().sum() / (4 if symmetric else 2)
    gradients = torch.autograd.grad(loss, [f] if symmetric else [f, g])
    torch.testing.assert_close(after.left, before.left - 0.01 * gradients[0], rtol=1e-10, atol=1e-12)
    if not symmetric:
        torch.testing.assert_close(after.right, before.right - 0.01 * gradients[1], rtol=1e-10, atol=1e-12)


def at(found: object, step: int) -> float:
    errors = found.errors  # type: ignore[attr-defined]
    return float(errors[step])


def test_the_symmetric_rates() -> None:
    square, _ = drawn(0)
    sensing = Everything((50, 50))
    exact = matrix_sensing(square, sensing, rank=3, symmetric=True, steps=2000, truth=square)
    assert at(exact, 2000) < 1e-12
    wide = matrix_sensing(square, sensing, rank=6, symmetric=True, steps=8000, truth=square)
    slope = math.log(at(wide, 8000) / at(wide, 1000)) / math.log(8)
    assert -1.15 < slope < -0.85


def test_larger_starts_and_balanced_factors_are_faster() -> None:
    _, general = drawn(0)
    sensing = Everything((50, 50))
    ends = [
        at(matrix_sensing(general, sensing, rank=6, steps=3000, start=a, truth=general), 3000) for a in (0.2, 0.5, 1)
    ]
    assert ends[0] > 10 * ends[1] > 100 * ends[2]
    anew = matrix_sensing(general, sensing, rank=6, steps=3000, start=0.2, rebalance=0.1, truth=general)
    assert anew.rebalanced is not None
    assert 1e3 * at(anew, 3000) < ends[0]


def test_balancing_keeps_the_product() -> None:
    _, general = drawn(1)
    sensing = Everything((50, 50))
    plain = matrix_sensing(general, sensing, rank=6, steps=600, start=0.2)
    anew = matrix_sensing(general, sensing, rank=6, steps=600, start=0.2, rebalance=0.1)
    assert anew.rebalanced is not None
    assert anew.losses[: anew.rebalanced + 1] == plain.losses[: anew.rebalanced + 1]
    shorter = matrix_sensing(general, sensing, rank=6, steps=anew.rebalanced + 1, start=0.2, rebalance=0.1)
    values = torch.linalg.svdvals(shorter.left)
    assert float(values.min() / values.max()) > 0.9  # one step after they were equal


def test_gaussian_measurements_and_entries_find_the_matrix() -> None:
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.linalg.qr(torch.randn(20, 2, generator=generator, dtype=torch.float64)).Q for _ in range(2))
    truth = left @ right.T
    shape = (20, 20)
    places = torch.rand(shape, generator=generator).lt(0.8).nonzero()
    for sensing in (Matrices.gaussian(350, shape), Entries(places, shape)):
        found = matrix_sensing(
            sensing.measure(truth), sensing, rank=4, steps=4000, start=0.5, rebalance=0.2, truth=truth
        )
        assert at(found, 4000) < 1e-3


def test_scale() -> None:
    _, general = drawn(2)
    sensing = Everything((50, 50))
    for scale in (1e-100, 1e100):
        one = matrix_sensing(general, sensing, rank=4, steps=50)
        other = matrix_sensing(general * scale, sensing, rank=4, steps=50)
        torch.testing.assert_close(other.matrix / scale, one.matrix, rtol=1e-9, atol=1e-12)


def test_what_is_refused() -> None:
    sensing = Everything(SHAPE)
    zeros = torch.zeros(SHAPE, dtype=torch.float64)
    cases: list[tuple[type[Exception], str, Tensor, dict[str, object]]] = [
        (DataError, "measurements has shape", zeros[:3], {}),
        (DataError, "NaN or inf", zeros + math.nan, {}),
        (DataError, "truth has shape", zeros, {"truth": zeros.T}),
        (TenfoldError, "symmetric=True needs a square matrix", zeros, {"symmetric": True}),
        (TenfoldError, "rank 0 is none", zeros, {"rank": 0}),
        (TenfoldError, "start 0", zeros, {"start": 0.0}),
        (TenfoldError, "step_size 100 is too long", zeros + 1, {"step_size": 100.0}),
    ]
    for kind, words, measurements, options in cases:
        with pytest.raises(kind, match=words):
            matrix_sensing(measurements, sensing, **{"rank": 2, **options})  # type: ignore[arg-type]


def test_zero_is_sensed_and_results_print_and_plot() -> None:
    zeros = torch.zeros(SHAPE, dtype=torch.float64)
    found = matrix_sensing(zeros, Everything(SHAPE), rank=2, steps=200, truth=zeros)
    assert found.errors is not None
    assert found.errors[-1] < found.errors[0]
    assert "7 × 5 of rank 2, 200 steps" in repr(found)
    axes = found.plot().axes[0]
    assert axes.get_xscale() == axes.get_yscale() == "log"
    assert len(axes.lines[0].get_xdata()) == 200
