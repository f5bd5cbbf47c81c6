"""Functional Bayesian CP and Tucker, beside exact Gaussian processes, brute force and planted functions."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tenfold.completion import State, Step, Task, find
from tenfold.completion._funbat import RATE, SHAPE, FunctionalModel, Seen, unfolded
from tenfold.errors import DataError, TenfoldError

METHODS = ("funbat_cp", "funbat_tucker")


def fit(name: str, task: Task, **given: Any) -> FunctionalModel:
    model = find(name).function(task, **given)
    assert isinstance(model, FunctionalModel)
    return model


def planted(seed: int, n: int = 1500, noise: float = 0.1, rank: int = 2) -> tuple[Task, Tensor, Tensor]:
    """Smooth products over an interval, twelve levels and another interval; the truth at new points."""
    generator = torch.Generator().manual_seed(seed)
    coordinates = torch.rand(2 * n, 3, generator=generator, dtype=torch.float64)
    coordinates[:, 1] = torch.randint(12, (2 * n,), generator=generator).double()
    phase = 3 * torch.rand(2, rank, generator=generator, dtype=torch.float64)
    table = torch.randn(12, rank, generator=generator, dtype=torch.float64)
    rate = torch.arange(1, rank + 1) * math.pi
    first = torch.cos(rate * coordinates[:, :1] + phase[0])
    last = torch.cos(rate.flip(0) * coordinates[:, 2:] + phase[1])
    truth = (first * table[coordinates[:, 1].long()] * last).sum(1)
    truth = (truth - truth[:n].mean()) / truth[:n].std()
    values = truth + noise * torch.randn(2 * n, generator=generator, dtype=torch.float64)
    return Task(coordinates[:n], values[:n], (None, 12, None)), coordinates[n:], truth[n:]


def small(seed: int = 0, n: int = 200) -> Task:
    return planted(seed, n)[0]


def test_one_mode_is_gaussian_process_regression() -> None:
    """One function of one mode: after one epoch, with the noise that it begins with, and at new points."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(40, 1, generator=generator, dtype=torch.float64)
    y = torch.sin(6 * x[:, 0])
    model = fit("funbat_cp", Task(x, y, (None,)), rank=1, epochs=1, starts=1, smoothness=1.5, length=0.2)
    new = torch.linspace(-0.3, 1.3, 50, dtype=torch.float64)[:, None]

    def covariance(one: Tensor, other: Tensor) -> Tensor:
        z = (one - other.T).abs() * math.sqrt(3) / 0.2
        return (1 + z) * torch.exp(-z)

    system = covariance(x, x) + torch.eye(40, dtype=torch.float64) / 30
    across = covariance(new, x)
    mean = across @ torch.linalg.solve(system, y / model.scale) * model.scale
    variance = (1 - (across * torch.linalg.solve(system, across.T).T).sum(1)) * model.scale**2
    found = model.predict(new)
    assert found.variance is not None
    assert (found.mean - mean).abs().max() < 1e-10
    assert (found.variance - variance).abs().max() < 1e-10


def test_the_bound_is_below_the_evidence_and_near_it() -> None:
    """With one function of one mode the evidence is an integral over the precision of the noise only."""
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(60, 1, generator=generator, dtype=torch.float64)
    y = torch.sin(6 * x[:, 0]) + 0.3 * torch.randn(60, generator=generator, dtype=torch.float64)
    y = (y - y.mean()) / y.square().mean().sqrt()
    task = Task(x, y, (None,))
    model = fit("funbat_cp", task, rank=1, epochs=60, tol=0.0, starts=1, smoothness=0.5, learn=False, length=0.2)
    prior = torch.exp(-(x - x.T).abs() / 0.2)
    logs = torch.linspace(-3, 6, 2001, dtype=torch.float64)
    terms = []
    for log in logs:
        root = torch.linalg.cholesky(prior + torch.exp(-log) * torch.eye(60, dtype=torch.float64))
        white = torch.linalg.solve_triangular(root, (y / model.scale)[:, None], upper=False)
        likelihood = -0.5 * float(white.square().sum()) - float(root.diagonal().log().sum())
        likelihood -= 30 * math.log(2 * math.pi) + 60 * math.log(model.scale)
        gamma = SHAPE * math.log(RATE) - math.lgamma(SHAPE) + SHAPE * float(log) - RATE * math.exp(float(log))
        terms.append(likelihood + gamma)
    exact = float(torch.logsumexp(torch.tensor(terms), 0)) + math.log(float(logs[1] - logs[0]))
    assert exact - 3 < model.evidence < exact


@pytest.mark.parametrize("order", [1, 2, 3])
def test_messages_and_moments_of_a_core(order: int) -> None:
    """Beside sums over all entries of ``E[w w^T]`` and of the second moments of the modes."""
    task = planted(0, 60)[0]
    task = Task(task.coordinates[:, :order], task.values, task.sizes[:order])
    model = fit("funbat_tucker", task, rank=(3, 2, 2)[:order], epochs=3, starts=1)
    (start,), seen = model.starts, Seen.of(task, 100)
    ranks = list(start.core.shape)  # type: ignore[attr-defined]
    whole = start.spread + torch.outer(start.core.reshape(-1), start.core.reshape(-1))  # type: ignore[attr-defined]
    whole = whole.reshape(ranks + ranks)
    levels = [task.levels(mode)[1] for mode in range(order)]
    seconds = [unfolded(mode.second, mode.rank)[level] for mode, level in zip(start.modes, levels, strict=False)]
    means = [mode.mean[level] for mode, level in zip(start.modes, levels, strict=False)]
    upper, lower = "abc"[:order], "def"[:order]
    every = [f"n{one}{other}" for one, other in zip(upper, lower, strict=False)]
    square = torch.einsum(f"{upper}{lower},{','.join(every)}->n", whole, *seconds)
    mean = torch.einsum(f"{upper},{','.join('n' + one for one in upper)}->n", start.core, *means)  # type: ignore[attr-defined]
    found = start.moments(means, [mode.second[level] for mode, level in zip(start.modes, levels, strict=False)])
    assert torch.allclose(found[0], mean, atol=1e-12)
    assert torch.allclose(found[1], square, atol=1e-12)
    for mode in range(order):
        others = [one for one in range(order) if one != mode]
        terms = ",".join([f"{upper}{lower}", "n", *(every[one] for one in others)])
        ones = torch.ones(len(task), dtype=torch.float64)
        each = torch.einsum(f"{terms}->n{upper[mode]}{lower[mode]}", whole, ones, *(seconds[one] for one in others))
        terms = ",".join([upper, "n", *("n" + upper[one] for one in others)])
        value = task.values / seen.scale
        shift = torch.einsum(f"{terms}->n{upper[mode]}", start.core, value, *(means[one] for one in others))  # type: ignore[attr-defined]
        size, rank = len(seen.positions[mode]), ranks[mode]
        got = start.messages(seen, mode)
        expected = torch.zeros(size, rank, rank, dtype=torch.float64).index_add_(0, levels[mode], each)
        assert torch.allclose(unfolded(got[0], rank), expected, atol=1e-11)
        expected = torch.zeros(size, rank, dtype=torch.float64).index_add_(0, levels[mode], shift)
        assert torch.allclose(got[1], expected, atol=1e-11)


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("seed", range(2))
def test_the_bound_rises(name: str, seed: int) -> None:
    model = fit(name, small(seed), rank=3, epochs=40, tol=0.0, starts=2, seed=seed)
    for start in model.starts:
        bounds = torch.tensor(start.bounds, dtype=torch.float64)
        # To leave a component out costs a rounding.
        assert (torch.diff(bounds) > -1e-3).all(), torch.diff(bounds).min()


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(
    "seed", [seed if seed < 2 else pytest.param(seed, marks=pytest.mark.slow) for seed in range(10)]
)
def test_planted_functions_are_found(name: str, seed: int) -> None:
    """The function within half of the noise, the noise within a tenth."""
    task, points, truth = planted(seed)
    model = fit(name, task, rank=3, epochs=60, seed=seed, starts=2)
    found = model.predict(points)
    assert float((found.mean - truth).square().mean().sqrt()) < 0.05
    assert float(found.noise) ** 0.5 == pytest.approx(0.1, rel=0.1)


@pytest.mark.parametrize(
    ("seed", "rank"),
    [(0, 6), *(pytest.param(seed, rank, marks=pytest.mark.slow) for seed in range(5) for rank in (6, 12))],
)
def test_components_too_many_are_left_out(seed: int, rank: int) -> None:
    """Of six at least three, where the truth has two, of twelve at least eight; and what is left predicts as well."""
    task, points, truth = planted(seed, n=1000)
    model = fit("funbat_cp", task, rank=rank, starts=2, epochs=100, seed=seed)
    for kept in model.ranks:
        assert len(set(kept)) == 1
        assert 2 <= kept[0] <= (3 if rank == 6 else 4)
    assert float((model.predict(points).mean - truth).square().mean().sqrt()) < 0.04


@pytest.mark.parametrize("name", METHODS)
def test_interrupted_and_resumed_is_not_interrupted(name: str) -> None:
    task = small()
    states: dict[int, State] = {}

    def keep(step: Step) -> None:
        states[step.epoch] = step.state()

    whole = fit(name, task, rank=4, epochs=30, starts=2, tol=0.0, callback=keep)
    again = fit(name, task, rank=4, epochs=30, starts=2, tol=0.0, resume=states[12])
    one, other = whole.predict(task.coordinates), again.predict(task.coordinates)
    assert torch.equal(one.mean, other.mean)
    assert one.variance is not None
    assert other.variance is not None
    assert torch.equal(one.variance, other.variance)
    assert whole.errors == again.errors
    assert whole.evidence == again.evidence
    loaded = find(name).restore(whole.state()).predict(task.coordinates)
    assert torch.equal(one.mean, loaded.mean)


@pytest.mark.parametrize("name", METHODS)
def test_the_order_of_observations_does_not_matter(name: str) -> None:
    task = small()
    order = torch.randperm(len(task), generator=torch.Generator().manual_seed(3))
    one = fit(name, task, rank=2, epochs=8, starts=1)
    other = fit(name, task.rows(order), rank=2, epochs=8, starts=1)
    gap = one.predict(task.coordinates).mean - other.predict(task.coordinates).mean
    assert gap.abs().max() < 1e-10


@pytest.mark.parametrize("name", [METHODS[0], *(pytest.param(m, marks=pytest.mark.slow) for m in METHODS[1:])])
def test_weights(name: str) -> None:
    """Weight zero is not observed, and what has a hundredth of the precision says less than the rest."""
    task, points, truth = planted(4, 700)
    bad = torch.arange(len(task)) % 3 == 0
    noise = torch.randn(len(task), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    values = torch.where(bad, task.values + 2 * noise, task.values)
    errors = []
    for low in (1.0, 0.0025, 0.0):
        weights = torch.where(bad, low, 1.0).to(torch.float64)
        model = fit(name, Task(task.coordinates, values, task.sizes, weights), rank=3, epochs=40)
        errors.append(float((model.predict(points).mean - truth).square().mean().sqrt()))
    assert errors[1] < 0.5 * errors[0]
    assert errors[2] < 0.5 * errors[0]


@pytest.mark.slow
@pytest.mark.parametrize("rank", [1, 2])
def test_intervals_of_data_drawn_from_the_model(rank: int) -> None:
    inside = []
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        x = torch.rand(800, 2, generator=generator, dtype=torch.float64)
        parts = torch.ones(800, rank, dtype=torch.float64)
        for mode in range(2):
            prior = torch.exp(-(x[:, mode : mode + 1] - x[:, mode]).abs() / 0.3)
            root = torch.linalg.cholesky(prior + 1e-10 * torch.eye(800, dtype=torch.float64))
            parts = parts * (root @ torch.randn(800, rank, generator=generator, dtype=torch.float64))
        truth = parts.sum(1)
        scale = truth[:400].std()
        values = (truth + 0.2 * torch.randn(800, generator=generator, dtype=torch.float64)) / scale
        model = fit(
            "funbat_cp", Task(x[:400], values[:400], (None, None)), rank=rank, epochs=30, smoothness=0.5, seed=seed
        )
        found = model.predict(x[400:])
        assert found.variance is not None
        width = 1.96 * (found.variance + found.noise).sqrt()
        inside.append(float(((found.mean - values[400:]).abs() < width).double().mean()))
    assert 0.90 <= float(np.mean(inside)) <= 0.98, np.mean(inside)


@pytest.mark.parametrize("name", METHODS)
def test_away_from_what_was_observed(name: str) -> None:
    """Far beyond the ends, and at levels that were never seen, the mean is that of all values and nothing is known."""
    task, _, _ = planted(0)
    task = Task(task.coordinates, task.values, (None, 13, None))
    model = fit(name, task, rank=2, starts=2, epochs=30)
    near = model.predict(task.coordinates)
    for point in ([500.0, 3.0, 0.5], [0.5, 12.0, 0.5], [-500.0, 3.0, 0.5]):
        far = model.predict(torch.tensor([point], dtype=torch.float64))
        assert far.variance is not None
        assert near.variance is not None
        assert float(far.mean.abs()) < 1e-3
        assert float(far.variance) > 4 * float(near.variance.mean())


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("sizes", [(3, 4), (None, None, None, None), (5,), (None,)])
def test_few_observations_and_any_order(name: str, sizes: tuple[int | None, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    for n in (1, 2, 7):
        columns = [
            torch.rand(n, generator=generator, dtype=torch.float64)
            if size is None
            else torch.randint(size, (n,), generator=generator).double()
            for size in sizes
        ]
        coordinates = torch.stack(columns, 1)
        for values in (torch.randn(n, generator=generator, dtype=torch.float64), torch.zeros(n, dtype=torch.float64)):
            model = fit(name, Task(coordinates, values, sizes), epochs=12, starts=1)
            found = model.predict(coordinates)
            assert found.variance is not None
            assert torch.isfinite(found.mean).all()
            assert torch.isfinite(found.variance).all()
            assert math.isfinite(model.evidence)
            assert (found.mean - values).abs().max() <= values.abs().max() + 1e-9


@pytest.mark.parametrize("name", METHODS)
def test_scale(name: str) -> None:
    task = small()
    one = fit(name, task, rank=2, epochs=10, starts=1)
    huge = fit(name, Task(task.coordinates, task.values * 1e150, task.sizes), rank=2, epochs=10, starts=1)
    near, far = one.predict(task.coordinates), huge.predict(task.coordinates)
    assert torch.allclose(far.mean / 1e150, near.mean, rtol=1e-8, atol=1e-10)
    assert huge.errors[-1] / 1e150 == pytest.approx(one.errors[-1])


@pytest.mark.parametrize("name", METHODS)
def test_damping_ends_at_the_same_place(name: str) -> None:
    task = small()
    plain = fit(name, task, rank=1, epochs=200, tol=1e-7, starts=1, learn=False, smoothness=1.5)
    damped = fit(name, task, rank=1, epochs=400, tol=1e-7, starts=1, learn=False, smoothness=1.5, damping=0.5)
    assert damped.evidence == pytest.approx(plain.evidence, abs=0.05)
    assert len(damped.errors) > len(plain.errors)


def test_many_positions_are_rounded_to_a_grid() -> None:
    task, points, truth = planted(1)
    model = fit("funbat_cp", task, rank=3, epochs=60, levels=64)
    assert [len(mode.positions) for mode in model.starts[0].modes] == [64, 12, 64]
    assert float((model.predict(points).mean - truth).square().mean().sqrt()) < 0.1


def test_what_is_refused() -> None:
    task = small()
    for given, said in (
        ({"rank": 0}, "rank must be at least 1"),
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"starts": 0}, "starts must be at least 1"),
        ({"smoothness": 2.0}, "smoothness must be"),
        ({"smoothness": [0.5, 0.5]}, "smoothness must be"),
        ({"length": -1.0}, "length must be a positive number"),
        ({"damping": 1.0}, "damping must be at least 0 and below 1"),
        ({"levels": 1}, "levels must be at least 2"),
    ):
        for name in METHODS:
            with pytest.raises(TenfoldError, match=said):
                fit(name, task, **given)  # type: ignore[arg-type]
    with pytest.raises(TenfoldError, match="core of 8000 entries"):
        fit("funbat_tucker", task, rank=[20, 20, 20])
    with pytest.raises(TenfoldError, match="rank must be at least 1, one number or 3 of them"):
        fit("funbat_tucker", task, rank=[2, 2])
    with pytest.raises(DataError, match="weights must not be negative"):
        fit("funbat_cp", Task(task.coordinates, task.values, task.sizes, -torch.ones(200, dtype=torch.float64)))
    model = fit("funbat_cp", task, rank=1, epochs=1, starts=1)
    with pytest.raises(DataError, match="give 3 columns"):
        model.predict(torch.zeros(1, 2))
    with pytest.raises(DataError, match="mode 1 must be whole numbers from 0 to 11"):
        model.predict(torch.tensor([[0.5, 12.0, 0.5]]))
    with pytest.raises(DataError, match="NaN"):
        model.predict(torch.tensor([[math.nan, 1.0, 0.5]]))


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_temperatures_of_the_united_states(name: str, tenfold_data: Path) -> None:
    """The first published split: less than 1.171 degrees Fahrenheit, and intervals that hold what they say."""
    with np.load(tenfold_data / "completion" / "us_temp_15x95x267.npz") as kept:
        coordinates = torch.from_numpy(kept["idx"].astype(np.float64)) / (torch.from_numpy(kept["shape"]) - 1)
        values, test = torch.from_numpy(kept["y"].astype(np.float64)), torch.from_numpy(kept["test_masks"][0])
    mean, scale = values[~test].mean(), values[~test].std()
    model = fit(name, Task(coordinates[~test], (values[~test] - mean) / scale, (None,) * 3), epochs=40, starts=2)
    found = model.predict(coordinates[test])
    assert found.variance is not None
    gap = (found.mean * scale + mean - values[test]).abs()
    assert float(gap.square().mean().sqrt()) < 1.171
    width = 1.645 * (found.variance + found.noise).sqrt() * scale
    assert 0.85 < float((gap < width).double().mean()) < 0.95
