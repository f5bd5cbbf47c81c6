"""Solvers on equations whose solutions are known."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tenfold.errors import DataError, TenfoldError
from tenfold.pde import Outcome, Problem, Step, collocation, gp_hm, read
from tenfold.pde._spectrum import tones

QUICK = (
    "poisson_sin100",
    "poisson_sin6_cos100",
    "poisson_three_scales",
    "poisson_x_sin200",
    "poisson_sin500_square",
    "allen_cahn_sin100",
    "allen_cahn_sin6_cos100",
    "poisson_2d_two_scales",
    "advection",
)
LARGE = ("poisson_2d_sin100", "allen_cahn_2d")


def error(problem: Problem, outcome: Outcome) -> float:
    grids = [axis.grid(300) for axis in problem.axes]
    truth = problem.truth(problem.mesh(grids))
    return float((outcome.process.on(grids) - truth).norm() / truth.norm())


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in LARGE)])
def test_samples_are_solved(name: str) -> None:
    problem = read(f"sample:{name}")
    outcome = collocation(problem)
    assert outcome.stopped == "converged"
    assert outcome.residual < 1e-10
    assert error(problem, outcome) < 1e-5
    assert outcome.process.residual_between(problem) < 1e-4


def test_the_frequencies_are_what_solves_it() -> None:
    problem = read("sample:poisson_sin100")
    assert error(problem, collocation(problem, cosine=False)) > 0.05
    assert error(problem, collocation(problem, cosine=False, spectrum="gaussian")) > 0.05
    assert error(problem, collocation(problem, spectrum="gaussian")) < 1e-3


def test_a_product_is_found_with_rank_one() -> None:
    problem = read("sample:poisson_2d_two_scales").with_grid([64])
    one = read(
        problem.mapping() | {"equation": "u_xx + u_yy", "solution": "sin(9*x)*sin(11*y)", "boundary": "0", "grid": 64}
    )
    values = torch.linalg.svdvals(collocation(one).process.values)
    assert float(values[1] / values[0]) < 1e-6


def test_tones_of_a_known_mixture() -> None:
    (found,) = tones(read("sample:poisson_sin6_cos100"), 12)
    strongest = sorted(2 * math.pi * found.frequencies[1:3])
    assert strongest == pytest.approx([94, 106], abs=0.1)
    assert found.frequencies[0] == 0
    first, second = tones(read("sample:advection"), 12)  # told by the boundary alone
    assert 2 * math.pi * second.frequencies[1] == pytest.approx(200, abs=0.5)
    assert first.frequencies.max() < 1


@given(turns=st.floats(2, 12), slope=st.floats(-3, 3), power=st.integers(-140, 140))
@settings(max_examples=15, deadline=None)
def test_any_sine_and_line_at_any_scale(turns: float, slope: float, power: int) -> None:
    scale = f"1e{power}"
    solution = f"{scale}*(sin({2 * math.pi * turns!r}*x) + {slope!r}*x)"
    problem = read({"domain": {"x": [0, 1]}, "grid": 80, "equation": "u_xx", "solution": solution})
    outcome = collocation(problem)
    grid = problem.axes[0].grid(300)
    truth = problem.truth([grid]) / float(scale)
    assert float((outcome.process.on([grid]) / float(scale) - truth).norm() / truth.norm()) < 1e-2


def test_variable_coefficients_and_slopes() -> None:
    given: dict[str, Any] = {"domain": {"x": [0, 1], "y": [1, 2]}, "grid": 40}
    equation = "(1 + x*y)*u_xx + y*u_yy + x*u*u_x"
    problem = read(given | {"equation": equation, "solution": "sin(5*x)*cos(4*y)"})
    assert error(problem, collocation(problem)) < 1e-3


def test_heat_flows_from_its_first_state() -> None:
    given = {"domain": {"x": [0, "pi"], "t": [0, 0.2]}, "grid": {"x": 60, "t": 50}, "equation": "u_t - u_xx = 0"}
    problem = read(given | {"boundary": {"x=0": 0, "x=pi": 0, "t=0": "sin(6*x)"}, "solution": "exp(-36*t)*sin(6*x)"})
    assert error(problem, collocation(problem)) < 1e-3


def test_nothing_stays_nothing() -> None:
    problem = read({"domain": {"x": [0, 1]}, "equation": "u_xx = 0", "boundary": 0, "grid": 20})
    assert not bool(collocation(problem).process.values.any())


def test_what_cannot_be_solved() -> None:
    small: dict[str, Any] = {"domain": {"x": [0, 1]}, "boundary": 0, "grid": 30}
    with pytest.raises(DataError, match="no width led to a solution: its equations are singular"):
        collocation(read(small | {"equation": "0*u_xx = 1"}))
    with pytest.raises(DataError, match="Newton's method does not come"):
        collocation(read(small | {"equation": "u_xx + 50*exp(u) = 0"}))  # there is no real solution
    with pytest.raises(DataError, match=r"grid of 100 points along x is too coarse for \d+ periods; give at least"):
        collocation(read("sample:poisson_sin100").with_grid([100]))
    with pytest.raises(TenfoldError, match="widths must be positive"):
        collocation(read("sample:poisson_sin100"), widths=(0,))


def test_collocation_interrupted_keeps_the_best_until_then() -> None:
    def stop(step: Step) -> None:
        if step.number == 2:
            raise KeyboardInterrupt

    problem = read("sample:poisson_sin100")
    outcome = collocation(problem, callback=stop)
    assert outcome.stopped == "interrupted"
    assert error(problem, outcome) < 1e-5


def test_a_hundred_steps_of_adam() -> None:
    problem = read("sample:poisson_sin100")
    outcome = gp_hm(problem, steps=100, checkpoints=2)
    found = error(problem, outcome)
    assert 0.25 < found < 0.30  # where a plain port of the paper's code is after as many steps
    assert outcome.steps[-1].error == pytest.approx(found)
    assert outcome.steps[0].objective > outcome.steps[-1].objective


def small() -> Problem:
    return read({"domain": {"x": [0, 1]}, "grid": 24, "equation": "u_xx + u**3", "solution": "sin(12*x)"})


def test_adam_resumed_is_adam_never_interrupted() -> None:
    states: list[dict[str, torch.Tensor]] = []
    whole = gp_hm(small(), steps=40, checkpoints=4, keep=states.append)
    assert [step.number for step in whole.steps] == [1, 10, 20, 30, 40]
    resumed = gp_hm(small(), steps=40, checkpoints=4, resume=states[2])
    torch.testing.assert_close(resumed.process.values, whole.process.values, rtol=0, atol=0)
    assert resumed.steps == whole.steps


def test_adam_interrupted_keeps_where_it_is() -> None:
    def stop(step: Step) -> None:
        if step.number == 15:
            raise KeyboardInterrupt

    outcome = gp_hm(small(), steps=40, checkpoints=4, callback=stop)
    assert outcome.stopped == "interrupted"
    assert [step.number for step in outcome.steps] == [1, 10]
    torch.testing.assert_close(outcome.process.values, gp_hm(small(), steps=15).process.values)


@pytest.mark.parametrize("init", ["spread", "periodogram"])
@pytest.mark.parametrize("spectrum", ["student", "gaussian"])
def test_adam_goes_down(init: Any, spectrum: Any) -> None:
    told: list[Step] = []
    gp_hm(small(), steps=60, init=init, spectrum=spectrum, callback=told.append)
    assert told[-1].objective < told[0].objective
    assert len(told) == 60


def test_adam_does_not_look_at_the_solution() -> None:
    problem = small()
    mapping = problem.mapping() | {"equation": "u_xx + u**3 = sin(12*x)**3 - 144*sin(12*x)"}
    blind = gp_hm(read({key: value for key, value in mapping.items() if key != "solution"}), steps=20)
    seeing = gp_hm(read(mapping), steps=20)
    torch.testing.assert_close(blind.process.values, seeing.process.values, rtol=0, atol=0)
    assert blind.steps[-1].error is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"steps": 0}, "steps must be"),
        ({"peaks": 0}, "peaks must be"),
        ({"rate": -1.0}, "rate must be"),
        ({"emphasis": math.nan}, "emphasis must be"),
        ({"init": "zero"}, "init must be spread or periodogram"),
        ({"spectrum": "cauchy"}, "spectrum must be student or gaussian"),
        ({"resume": {"values": torch.zeros(3)}}, "of another problem"),
    ],
)
def test_options_of_adam(options: dict[str, Any], said: str) -> None:
    with pytest.raises(TenfoldError, match=said):
        gp_hm(small(), **options)
