"""Problems in YAML, and formulas that are no more than formulas."""

from __future__ import annotations

import math
import operator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tenfold.errors import DataError, FileError, TenfoldError
from tenfold.pde import read, samples
from tenfold.pde._expression import FUNCTIONS, parse

SMALL: dict[str, Any] = {"domain": {"x": [0, 1]}, "equation": "u_xx = 1", "boundary": 0}


@pytest.mark.parametrize("name", samples())
def test_samples_are_what_their_mappings_say(name: str) -> None:
    problem = read(f"sample:{name}")
    again = read(problem.mapping())
    assert again.mapping() == problem.mapping()
    assert again.axes == problem.axes
    mesh = problem.mesh([axis.grid(9) for axis in problem.axes])
    torch.testing.assert_close(again.right_side(mesh), problem.right_side(mesh))


@pytest.mark.parametrize("name", samples())
def test_known_solutions_meet_equation_and_boundary(name: str) -> None:
    # Derivatives by autograd, which the explicit right sides of the samples know nothing of.
    problem = read(f"sample:{name}")
    mesh = problem.mesh([axis.grid(11) for axis in problem.axes])
    left = problem.residual(problem._derived(mesh), mesh)
    size = max(float(term.abs().max()) for term in problem._derived(mesh).values())
    torch.testing.assert_close(left, problem.right_side(mesh).contiguous(), rtol=1e-9, atol=1e-9 * size)
    values, known = problem.given(mesh)
    torch.testing.assert_close(values[known], problem.truth(mesh)[known])


def test_sides_follow_the_order_of_the_equation() -> None:
    heat = read(
        {
            "domain": {"x": [0, 1], "t": [0, 2]},
            "equation": "u_t - u_xx = 0",
            "boundary": "x + t",
            "grid": {"x": 9, "t": 8},
        }
    )
    assert [(side.axis, side.end) for side in heat.sides] == [(0, 0), (0, 1), (1, 0)]
    values, known = heat.given(heat.mesh())
    assert known.sum() == 9 + 2 * 8 - 2
    assert values[0, 3] == pytest.approx(3 * 2 / 7)
    assert values[-1, 3] == pytest.approx(1 + 3 * 2 / 7)
    assert not known[4, -1]


def test_parameters_and_grid() -> None:
    given = SMALL | {"domain": {"x": [0, "k*pi"]}, "parameters": {"k": 2}, "grid": {"x": 20}}
    (axis,) = read(given).axes
    assert axis.high == pytest.approx(2 * math.pi)
    assert axis.points == 20
    assert read(given).with_grid([30]).shape == (30,)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"equation": "u_xx = f(x)"}, "calls 'f'"),
        ({"equation": "u_xx = sinn(x)"}, "did you mean 'sin'"),
        ({"equation": "u_xx = y"}, "uses 'y'"),
        ({"equation": "u_xx = sin"}, "without brackets"),
        ({"equation": "u_xx = sin(x, x)"}, "one argument"),
        ({"equation": "u_xx = 2 +"}, "no formula"),
        ({"equation": "u_xx = x.real"}, "no arithmetic"),
        ({"equation": "u_xx = [x][0]"}, "no arithmetic"),
        ({"equation": "u_xx = __import__('os').system('true')"}, "no arithmetic|no formula|calls"),
        ({"equation": "u_xx = (lambda: x)()"}, "no arithmetic"),
        ({"equation": "u_xx = 'a'"}, "no arithmetic"),
        ({"equation": "u_xx = x == 1"}, "no arithmetic"),
        ({"equation": "u_xx = 1" + "0" * 400}, "beyond what a float64 holds"),
        ({"equation": "u_xx = " + "-" * 300 + "x"}, "levels"),
        ({"equation": "u_xx"}, "no right side"),
        ({"equation": "u = 1"}, "no derivative"),
        ({"equation": "u_yy = 1"}, "uses 'u_yy'"),
        ({"domain": {"x": [1, 0]}}, "must be greater"),
        ({"domain": {"x": 1}}, "give both ends"),
        ({"domain": {"u": [0, 1]}}, "name of something else"),
        ({"domain": {"sin": [0, 1]}}, "name of something else"),
        ({"domain": {"x": [0, 1], "y": [0, 1], "z": [0, 1]}}, "3 coordinates"),
        ({"domain": {"x": [0, "1/0"]}}, "no value|no number"),
        ({"domain": "x"}, "must be names with values"),
        ({"boundary": None}, "no 'boundary'"),
        ({"boundary": {"x=2": 0}}, "no end of it"),
        ({"boundary": {"z=0": 0}}, "name a side as x=0"),
        ({"boundary": {"x=0": 0, "x=0.0": 1}}, "twice"),
        ({"boundary": {}}, "many solutions"),
        ({"grid": 3}, "at least 8"),
        ({"grid": {"y": 30}}, "no coordinate"),
        ({"grid": 20.5}, "whole number"),
        ({"frequencies": 0}, "above 0"),
        ({"frequences": 3}, "did you mean 'frequencies'"),
        ({"parameters": {"x": 3}}, "name of something else"),
        ({"parameters": 3}, "must be names with values"),
    ],
)
def test_what_is_no_problem_is_told_in_one_line(change: dict[str, Any], said: str) -> None:
    with pytest.raises(TenfoldError, match=said) as caught:
        read(SMALL | change)
    assert "\n" not in str(caught.value)


def test_values_that_are_not_finite() -> None:
    problem = read(SMALL | {"equation": "u_xx = log(x)"})
    with pytest.raises(DataError, match="not finite"):
        problem.right_side(problem.mesh())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("domain: {x: [0, 1]", "not YAML"),
        ("- 1\n- 2", "holds no problem"),
        ("", "holds no problem"),
        ("a: &a [1]\nb: *a", "aliases"),
        ("equation: !!python/object/apply:os.system ['true']", "not YAML"),
        ("\x00", "not YAML"),
    ],
)
def test_files_that_are_no_problem(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(text)
    with pytest.raises(FileError, match=said) as caught:
        read(path)
    assert "\n" not in str(caught.value)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="cannot read"):
        read(tmp_path / "none.yaml")
    with pytest.raises(FileError, match="did you mean 'poisson_sin100'"):
        read("sample:poisson_sin10")
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FileError, match="not text"):
        read(tmp_path / "b.yaml")
    with pytest.raises(TenfoldError, match="must be a YAML file"):
        read(3)  # type: ignore[arg-type]


# Formulas, each with the function of x that it should be.
LEAVES = st.one_of(
    st.just(("x", lambda x: x)),
    st.just(("pi", lambda x: math.pi)),
    st.floats(0.1, 9).map(lambda value: (repr(value), lambda x, v=value: v)),
)


def grown(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    signs = {"+": operator.add, "-": operator.sub, "*": operator.mul}
    both = st.tuples(inner, st.sampled_from(sorted(signs)), inner).map(
        lambda t: (f"({t[0][0]} {t[1]} {t[2][0]})", lambda x: signs[t[1]](t[0][1](x), t[2][1](x)))
    )
    calls = st.tuples(st.sampled_from(["sin", "cos", "tanh", "atan"]), inner).map(
        lambda t: (f"{t[0]}({t[1][0]})", lambda x: getattr(math, t[0])(t[1][1](x)))
    )
    squares = inner.map(lambda one: (f"-({one[0]})**2", lambda x: -(one[1](x) ** 2)))
    return st.one_of(both, calls, squares)


@given(formula=st.recursive(LEAVES, grown, max_leaves=8), x=st.floats(-2, 2))
@settings(max_examples=150, deadline=None)
def test_formulas_have_the_values_of_mathematics(formula: Any, x: float) -> None:
    text, function = formula
    value = float(parse(text, {"x"}, "f")({"x": torch.tensor(x, dtype=torch.float64)}))
    wanted = function(x)
    assert value == pytest.approx(wanted, rel=1e-9, abs=1e-9 * (1 + abs(wanted)))


@given(st.text(max_size=40))
@settings(max_examples=200, deadline=None)
def test_any_text_is_a_formula_or_an_error_of_one_line(text: str) -> None:
    said = ""
    try:
        parse(text, {"x"}, "f")
    except TenfoldError as error:
        said = str(error)
    assert len(said.splitlines()) <= 1


def test_every_function_is_one_of_one_number() -> None:
    for name, function in FUNCTIONS.items():
        assert float(parse(f"{name}(0.5)", (), "f")({})) == float(function(torch.tensor(0.5, dtype=torch.float64)))
