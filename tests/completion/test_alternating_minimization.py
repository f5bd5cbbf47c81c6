"""Alternating minimisation finds planted matrices, says how sure it is, and goes on where it was stopped."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tenfold.completion import State, Step, Task, find
from tenfold.completion.alternating_minimization import LowRankMatrix, _Sweep, alternating_minimization, restore
from tenfold.errors import TenfoldError


def planted(
    shape: tuple[int, int] = (300, 300), rank: int = 5, part: float = 0.15, noise: float = 0.0, seed: int = 0
) -> tuple[Tensor, Tensor, Task]:
    generator = torch.Generator().manual_seed(seed)
    left = torch.randn(shape[0], rank, generator=generator, dtype=torch.float64)
    right = torch.randn(shape[1], rank, generator=generator, dtype=torch.float64)
    matrix = left @ right.T / rank**0.5
    known = torch.rand(shape, generator=generator) < part
    values = matrix[known] + noise * torch.randn(int(known.sum()), generator=generator, dtype=torch.float64)
    return matrix, known, Task(known.nonzero().double(), values, shape)


def whole(model: LowRankMatrix) -> Tensor:
    return model.factors.rows @ model.factors.columns.T


def off(model: LowRankMatrix, matrix: Tensor) -> float:
    return float((whole(model) - matrix).norm() / matrix.norm())


@pytest.mark.parametrize("seed", [s if s < 4 else pytest.param(s, marks=pytest.mark.slow) for s in range(10)])
def test_a_planted_matrix_is_found_to_1e_8_in_40_sweeps(seed: int) -> None:
    matrix, _, task = planted(seed=seed)
    model = alternating_minimization(task, rank=5, epochs=40, tol=1e-10)
    assert off(model, matrix) < 1e-8
    # After the first sweeps each takes away two fifths of the error at least.
    steps = [after / before for before, after in zip(model.errors[3:14], model.errors[4:15], strict=True)]
    assert max(steps) < 0.6


@pytest.mark.parametrize("solver", ["cg", "sketched"])
@pytest.mark.parametrize("ridge", [None, 0.0])
def test_approximate_solves_reach_the_same_in_twice_the_sweeps(solver: str, ridge: float | None) -> None:
    for seed in range(3):
        matrix, _, task = planted(seed=seed)
        exact = alternating_minimization(task, rank=5, tol=1e-10, solver="exact", ridge=ridge)
        loose = alternating_minimization(task, rank=5, tol=1e-10, solver=solver, steps=3, ridge=ridge)
        assert off(loose, matrix) < 1e-8
        assert len(loose.errors) <= 2 * len(exact.errors)


@pytest.mark.parametrize("rank", [8, 20, None])
def test_components_without_support_vanish(rank: int | None) -> None:
    matrix, _known, task = planted(noise=0.3)
    right = alternating_minimization(task, rank=5)
    more = alternating_minimization(task, rank=rank)
    assert more.rank == 5
    assert off(more, matrix) < 1.001 * off(right, matrix)
    assert abs(more.factors.noise**0.5 - 0.3) < 0.01
    assert more.evidence == pytest.approx(right.evidence, abs=1e-3)
    plain = alternating_minimization(task, rank=8, ridge=0.0, epochs=40)
    assert off(plain, matrix) > 1.5 * off(more, matrix)


def test_intervals_cover_what_was_not_seen() -> None:
    for shape, rank, part in (((300, 300), 5, 0.15), ((600, 150), 5, 0.2), ((200, 200), 2, 0.1)):
        matrix, known, task = planted(shape, rank, part, noise=0.4)
        hidden = (~known).nonzero()[::7].double()
        found = alternating_minimization(task, rank=rank).predict(hidden)
        assert found.variance is not None
        score = (matrix[~known][::7] - found.mean) / found.variance.sqrt()
        assert 0.86 < float((score.abs() < 1.645).double().mean()) < 0.93


def test_variances_are_of_the_size_of_the_errors_where_rows_differ() -> None:
    # Rows with few observations and rows with many: the variance says which.
    generator = torch.Generator().manual_seed(0)
    matrix, _, _ = planted((200, 200), 2)
    chance = torch.where(torch.arange(200) < 100, 0.05, 0.4)[:, None]
    known = torch.rand(200, 200, generator=generator) < chance
    values = matrix[known] + 0.3 * torch.randn(int(known.sum()), generator=generator, dtype=torch.float64)
    found = alternating_minimization(Task(known.nonzero().double(), values, (200, 200)), rank=2)
    hidden = (~known).nonzero()
    spread = found.predict(hidden.double())
    wrong = (matrix[~known] - spread.mean).square()
    assert spread.variance is not None
    poor = hidden[:, 0] < 100
    assert float(wrong[poor].mean()) > 3 * float(wrong[~poor].mean())
    for part in (poor, ~poor):
        assert 0.8 < float(wrong[part].mean() / spread.variance[part].mean()) < 1.3


def test_weights_are_precisions() -> None:
    matrix, known, _ = planted((150, 150), 3, 0.3)
    generator = torch.Generator().manual_seed(5)
    sure = torch.rand(int(known.sum()), generator=generator) < 0.5
    noise = torch.where(sure, 0.05, 1.0) * torch.randn(len(sure), generator=generator, dtype=torch.float64)
    places = known.nonzero().double()
    plain = alternating_minimization(Task(places, matrix[known] + noise, (150, 150)), rank=3)
    weights = torch.where(sure, 400.0, 1.0).double()
    weighted = alternating_minimization(Task(places, matrix[known] + noise, (150, 150), weights), rank=3)
    assert off(weighted, matrix) < 0.3 * off(plain, matrix)
    # The noise of an observation of mean weight.
    assert weighted.factors.noise == pytest.approx(0.05**2 * 400 / float(weights.mean()), rel=0.1)


def test_repeated_observations_are_more_certain() -> None:
    _matrix, _known, task = planted((100, 100), 2, 0.3, noise=0.5)
    twice = Task(task.coordinates.repeat(4, 1), task.values.repeat(4), task.sizes)
    once, more = alternating_minimization(task, rank=2), alternating_minimization(twice, rank=2)
    one, four = once.predict(task.coordinates), more.predict(task.coordinates)
    assert one.variance is not None
    assert four.variance is not None
    assert float((four.variance / one.variance).median()) == pytest.approx(0.25, rel=0.15)


def test_half_sweeps_raise_the_bound() -> None:
    for seed in range(10):
        _, _, task = planted((60, 40), 3, 0.3, noise=0.5, seed=seed)
        states: list[State] = []
        keep = states.append
        alternating_minimization(task, rank=4, epochs=6, callback=lambda step, keep=keep: keep(step.state()))
        for state in states:
            sweep = _Sweep(
                task.coordinates.long(),
                task.values,
                torch.ones(len(task)).double(),
                "exact",
                3,
                None,
                [torch.arange(len(task))],
            )
            start = restore(state).factors
            rows = sweep.rows(start, 0, 0)
            columns = sweep.columns(rows, 0, 0)
            bounds = [sweep.bound(each) for each in (start, rows, columns)]
            assert bounds[0] <= bounds[1] + 1e-9 * abs(bounds[1])
            assert bounds[1] <= bounds[2] + 1e-9 * abs(bounds[2])


def test_plain_least_squares_never_get_worse() -> None:
    for seed in range(10):
        _, _, task = planted((60, 40), 3, 0.4, noise=0.5, seed=seed)
        errors = alternating_minimization(task, rank=3, ridge=0.0, epochs=50).errors
        assert all(after <= before * (1 + 1e-10) for before, after in itertools.pairwise(errors))


@pytest.mark.parametrize("options", [{}, {"solver": "sketched"}, {"solver": "cg", "rank": 9}, {"ridge": 0.1}])
def test_a_fit_goes_on_as_if_never_interrupted(options: dict[str, object]) -> None:
    _, _, task = planted((80, 70), 3, 0.4, noise=0.2)
    options = {"rank": 3, "epochs": 9, "tol": 0.0, **options}
    states = []

    def note(step: Step) -> None:
        if step.epoch == 4:
            states.append(step.state())

    straight = alternating_minimization(task, callback=note, **options)  # type: ignore[arg-type]
    resumed = alternating_minimization(task, resume=states[0], **options)  # type: ignore[arg-type]
    assert len(resumed.errors) == 9
    torch.testing.assert_close(whole(resumed), whole(straight), rtol=1e-9, atol=1e-11)
    assert resumed.errors == pytest.approx(straight.errors, rel=1e-9)


def test_a_state_makes_an_equal_model() -> None:
    _, _, task = planted((80, 70), 3, 0.3, noise=0.2)
    model = alternating_minimization(task, rank=3)
    again = find("alternating_minimization").restore(model.state())
    places = torch.tensor([[0.0, 0.0], [79.0, 69.0], [3.0, 5.0]], dtype=torch.float64)
    one, other = model.predict(places), again.predict(places)
    assert torch.equal(one.mean, other.mean)
    assert one.variance is not None
    assert other.variance is not None
    assert torch.equal(one.variance, other.variance)
    assert (again.errors, again.stopped, again.evidence) == (model.errors, model.stopped, model.evidence)
    assert again.parameters == model.parameters == 3 * (80 + 70 - 3)


def test_parts_that_no_other_sweep_sees_are_enough() -> None:
    matrix, _, task = planted((400, 400), 2, 0.9)
    model = alternating_minimization(task, rank=2, split=True, epochs=6, ridge=0.0, tol=0.0)
    assert off(model, matrix) < 1e-3
    with pytest.raises(TenfoldError, match="split=True makes 1001 parts of"):
        alternating_minimization(task, rank=2, split=True, epochs=500)


def test_long_rows_of_the_start_are_cut() -> None:
    # One row of huge values: its place alone would be the leading singular vector.
    matrix, _known, task = planted((150, 150), 2, 0.2)
    values = task.values.clone()
    column = task.coordinates[:, 1] == 7
    values[column] *= 100
    matrix = matrix.clone()
    matrix[:, 7] *= 100
    model = alternating_minimization(Task(task.coordinates, values, task.sizes), rank=2, tol=1e-12)
    assert off(model, matrix) < 1e-8


def test_levels_without_observations_get_their_prior() -> None:
    _, _known, task = planted((40, 30), 2, 0.6, noise=0.1)
    wider = Task(task.coordinates, task.values, (41, 31))
    model = alternating_minimization(wider, rank=2)
    found = model.predict(torch.tensor([[40.0, 0.0], [0.0, 30.0], [40.0, 30.0], [0.0, 0.0]], dtype=torch.float64))
    assert found.mean[:3].tolist() == [0.0, 0.0, 0.0]
    assert found.variance is not None
    assert float(found.variance[:3].min()) > 10 * float(found.variance[3])


@pytest.mark.parametrize("scale", [1e-150, 1e150])
def test_any_scale(scale: float) -> None:
    _matrix, _, task = planted((60, 50), 2, 0.5, noise=0.1)
    plain = alternating_minimization(task, rank=2)
    scaled = alternating_minimization(Task(task.coordinates, task.values * scale, task.sizes), rank=2)
    torch.testing.assert_close(whole(scaled) / scale, whole(plain), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("rank", [1, 3, None])
def test_little_to_go_by(rank: int | None) -> None:
    cases = [
        Task(torch.zeros(1, 2).double(), torch.tensor([2.0]).double(), (5, 4)),  # a single observation
        Task(torch.tensor([[0, 0], [1, 1], [4, 3]]).double(), torch.zeros(3).double(), (5, 4)),  # zeros
        Task(torch.zeros(6, 2).double(), torch.arange(6).double(), (5, 4)),  # one place, again and again
    ]
    for task in cases:
        model = alternating_minimization(task, rank=rank)
        found = model.predict(torch.cartesian_prod(torch.arange(5), torch.arange(4)).double())
        assert found.variance is not None
        assert torch.isfinite(found.mean).all()
        assert torch.isfinite(found.variance).all()
        assert (found.variance >= 0).all()
        assert float(found.mean.abs().max()) <= float(task.values.abs().max()) * 1.01


def test_ranks_that_do_not_fit() -> None:
    _, _, task = planted((40, 30), 2, 0.5)
    with pytest.raises(TenfoldError, match="rank 31 exceeds mode 1 of size 30: give at most that"):
        alternating_minimization(task, rank=31)
    with pytest.raises(TenfoldError, match="rank 0 is no number of components"):
        alternating_minimization(task, rank=0)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 12), st.integers(1, 12), st.integers(1, 4), st.integers(1, 60), st.integers(0, 10**6), st.booleans()
)
def test_the_order_of_observations_does_not_matter_and_nothing_is_nan(
    n: int, m: int, rank: int, count: int, seed: int, plain: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)
    places = torch.stack([torch.randint(0, size, (count,), generator=generator) for size in (n, m)], 1).double()
    values = torch.randn(count, generator=generator, dtype=torch.float64)
    model = alternating_minimization(
        Task(places, values, (n, m)), rank=min(rank, n, m), epochs=20, ridge=1e-3 if plain else None
    )
    found = model.predict(places)
    assert found.variance is not None
    assert torch.isfinite(found.mean).all()
    assert torch.isfinite(found.variance).all()
    assert (found.variance >= 0).all()
    order = torch.randperm(count, generator=generator)
    again = alternating_minimization(
        Task(places[order], values[order], (n, m)), rank=min(rank, n, m), epochs=20, ridge=1e-3 if plain else None
    )
    torch.testing.assert_close(again.predict(places).mean, found.mean, rtol=1e-4, atol=1e-4)
