"""Proximal maps: allowed, once is enough, the best there is (against brute force and SciPy), and their names."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import isotonic_regression, lsq_linear, minimize

from tenfold.decomposition import constraints as c
from tenfold.decomposition._pool import fit_rows, unimodal
from tenfold.errors import TenfoldError

SETS = [
    c.Nonnegative(),
    c.Box(-0.5, 0.7),
    c.Simplex(),
    c.Simplex(2.5),
    c.L2Ball(0.8),
    c.L2Ball(0.8, nonnegative=True),
    c.Monotone(),
    c.Monotone(increasing=False),
    c.Monotone(nonnegative=True),
    c.Unimodal(),
    c.Unimodal(nonnegative=True),
    c.Sparse(2),
    c.Sparse(2, nonnegative=True),
]
PENALTIES = [
    c.L1(0.3),
    c.L1(0.3, nonnegative=True),
    c.GroupLasso(0.4),
    c.GroupLasso(0.4, nonnegative=True),
    c.Smooth(2.0),
    c.Smooth(2.0, nonnegative=True),
]

vectors = st.integers(0, 10**6).map(
    lambda seed: torch.randn(
        int(seed % 4) + 1, int(seed % 7) + 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
)


def allowed(constraint: c.Constraint, rows: torch.Tensor, slack: float = 1e-12) -> bool:
    """Written down again from the definition of each constraint."""
    nonnegative = isinstance(constraint, c.Nonnegative | c.Simplex) or getattr(constraint, "nonnegative", False)
    if nonnegative and (rows < 0).any():
        return False
    steps = rows.diff(dim=1)
    match constraint:
        case c.Box(low, high):
            return bool(((rows >= low) & (rows <= high)).all())
        case c.Simplex(total):
            return bool(((rows.sum(1) - total).abs() <= slack).all())
        case c.L2Ball(radius):
            return bool((rows.norm(dim=1) <= radius + slack).all())
        case c.Monotone(increasing):
            return bool((steps >= 0).all() if increasing else (steps <= 0).all())
        case c.Unimodal():
            signs = [[int(step) for step in row.sign() if step != 0] for row in steps]
            return all(row == sorted(row, reverse=True) for row in signs)
        case c.Sparse(count):
            return bool(((rows != 0).sum(1) <= count).all())
    return True


@settings(max_examples=40, deadline=None)
@given(rows=vectors)
def test_projections_are_allowed_and_idempotent(rows):
    for constraint in SETS:
        once = constraint.prox(rows, 0.7)
        assert allowed(constraint, once), constraint
        torch.testing.assert_close(constraint.prox(once, 0.2), once, rtol=1e-12, atol=1e-12)
        assert constraint.value(once) == 0


@settings(max_examples=40, deadline=None)
@given(rows=vectors, step=st.floats(0.01, 3), seed=st.integers(0, 1000))
def test_no_allowed_point_nearby_or_random_is_better(rows, step, seed):
    generator = torch.Generator().manual_seed(seed)

    def cost(constraint: c.Constraint, x: torch.Tensor) -> float:
        return float(((x - rows) ** 2).sum()) / 2 + step * constraint.value(x)

    for constraint in SETS + PENALTIES:
        best = constraint.prox(rows, step)
        assert allowed(constraint, best), constraint
        for size in (1e-3, 0.1, 1.0):
            other = constraint.nearest(best + size * torch.randn(rows.shape, generator=generator, dtype=rows.dtype))
            assert allowed(constraint, other), constraint
            assert cost(constraint, best) <= cost(constraint, other) + 1e-12, constraint


@settings(max_examples=40, deadline=None)
@given(rows=vectors, nonnegative=st.booleans())
def test_unimodal_against_all_peaks(rows, nonnegative):
    found = c.Unimodal(nonnegative).prox(rows, 1.0)
    for row, mine in zip(rows.numpy(), found.numpy(), strict=True):
        errors = []
        for peak in range(len(row)):
            rising = isotonic_regression(row[: peak + 1]).x
            falling = isotonic_regression(row[peak + 1 :], increasing=False).x if peak + 1 < len(row) else []
            whole = np.concatenate([rising, falling])
            errors.append((((np.maximum(whole, 0) if nonnegative else whole) - row) ** 2).sum())
        assert ((mine - row) ** 2).sum() == pytest.approx(min(errors), abs=1e-12)


def test_the_kernel_is_the_function_that_it_compiles():
    rows = np.random.default_rng(0).normal(size=(20, 50))
    for nonnegative in (False, True):
        plain = np.empty_like(rows)
        fit_rows(rows, plain, nonnegative)
        np.testing.assert_allclose(unimodal(rows, nonnegative), plain, rtol=1e-14)


def test_sparse_against_all_supports():
    rows = torch.randn(3, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for nonnegative in (False, True):
        found = c.Sparse(2, nonnegative).prox(rows, 1.0)
        for row, mine in zip(rows, found, strict=True):
            inside = row.clamp(min=0) if nonnegative else row
            errors = []
            for support in itertools.combinations(range(6), 2):
                kept = torch.zeros_like(row)
                kept[list(support)] = inside[list(support)]
                errors.append(float(((kept - row) ** 2).sum()))
            assert float(((mine - row) ** 2).sum()) == pytest.approx(min(errors))


@settings(max_examples=20, deadline=None)
@given(rows=vectors, weight=st.floats(0, 100))
def test_smooth_against_scipy(rows, weight):
    extent = rows.shape[1]
    differences = np.sqrt(weight) * np.diff(np.eye(extent), axis=0)
    design = np.concatenate([np.eye(extent), differences])
    for row in rows.numpy():
        wanted = np.concatenate([row, np.zeros(extent - 1)])
        plain = np.linalg.lstsq(design, wanted)[0]
        np.testing.assert_allclose(
            c.Smooth(weight).prox(torch.from_numpy(row[None]), 1.0)[0].numpy(), plain, atol=1e-10
        )
        bounded = lsq_linear(design, wanted, bounds=(0, np.inf), method="bvls", tol=1e-14).x
        found = c.Smooth(weight, nonnegative=True).prox(torch.from_numpy(row[None]), 1.0)[0]
        np.testing.assert_allclose(found.numpy(), bounded, atol=1e-7)


def test_long_nonnegative_smooth_rows_satisfy_their_optimality_conditions():
    rows = torch.randn(8, 500, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for weight in (0.1, 10.0, 1e4):
        found = c.Smooth(weight, nonnegative=True).prox(rows, 1.0)
        padded = torch.nn.functional.pad(found, (1, 1), mode="replicate")
        force = found - rows + weight * (2 * found - padded[:, :-2] - padded[:, 2:])
        assert force.min() > -1e-9 * (1 + weight)
        assert (force * found).abs().max() < 1e-9 * (1 + weight)


def test_simplex_against_a_general_solver():
    rows = torch.randn(2, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for row in rows.numpy():
        general = minimize(
            lambda x, row=row: ((x - row) ** 2).sum(),
            np.full(4, 0.25),
            bounds=[(0, None)] * 4,
            constraints={"type": "eq", "fun": lambda x: x.sum() - 1},
            tol=1e-14,
        )
        np.testing.assert_allclose(c.Simplex().prox(torch.from_numpy(row[None]), 1.0)[0].numpy(), general.x, atol=1e-6)


def test_group_lasso_satisfies_its_optimality_conditions():
    rows = torch.randn(3, 40, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = c.GroupLasso(1.5).prox(rows, 1.0)
    length = found.norm(dim=0)
    dead = length == 0
    assert 0 < dead.sum() < 40
    assert (rows[:, dead].norm(dim=0) <= 1.5).all()
    torch.testing.assert_close(rows[:, ~dead] - found[:, ~dead], 1.5 * found[:, ~dead] / length[~dead])


@pytest.mark.parametrize("constraint", SETS + PENALTIES, ids=str)
def test_float32_stays_and_zero_is_fine(constraint):
    rows = torch.randn(3, 9, generator=torch.Generator().manual_seed(0))
    found = constraint.prox(rows, 0.5)
    assert found.dtype == torch.float32
    assert allowed(constraint, found, 1e-6)
    assert torch.isfinite(constraint.prox(torch.zeros(3, 9), 0.5)).all()


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("nonnegative", c.Nonnegative()),
        ("l1:0.5", c.L1(0.5)),
        ("l1:0.5+nonnegative", c.L1(0.5, nonnegative=True)),
        ("simplex", c.Simplex()),
        ("box:0,1", c.Box(0, 1)),
        ("box: -1, 1e3", c.Box(-1, 1000)),
        ("l2_ball:2", c.L2Ball(2)),
        ("smooth:0.1 + nonnegative", c.Smooth(0.1, nonnegative=True)),
        ("monotone", c.Monotone()),
        ("monotone:decreasing", c.Monotone(increasing=False)),
        ("unimodal+nonnegative", c.Unimodal(nonnegative=True)),
        ("sparse:5", c.Sparse(5)),
        ("group_lasso:1", c.GroupLasso(1)),
    ],
)
def test_names(text, wanted):
    assert c.parse(text) == wanted


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("positive", "constraint 'positive' is not known; there are nonnegative, l1"),
        ("smooth", "constraint 'smooth' does not have the form smooth:WEIGHT"),
        ("box:1", "does not have the form box:LOW,HIGH"),
        ("box:1,0", "box from 1 to 0 is empty"),
        ("smooth:much", "constraint 'smooth:much' has 'much' where a number belongs"),
        ("smooth:-1", "smooth needs a weight of at least 0, not -1"),
        ("l2_ball:0", "l2_ball needs a radius above 0"),
        ("sparse:1.5", "sparse keeps a whole number"),
        ("sparse:inf", "sparse keeps a whole number"),
        ("l1:0.1+smooth", r"only '\+nonnegative' can be added"),
        ("box:0,1+nonnegative", "cannot be made nonnegative"),
        ("monotone:up", "does not have the form monotone:increasing"),
        ("", "constraint '' is not known"),
    ],
)
def test_refusals(text, message):
    with pytest.raises(TenfoldError, match=message):
        c.parse(text)


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("unimodal:1", "unimodal"),
        ("nonnegative:1", "nonnegative"),
        ("l1:0.1,1", "l1:WEIGHT"),
        ("simplex:1,1", "simplex or simplex:TOTAL"),
        ("box:0,1,1", "box:LOW,HIGH"),
        ("smooth:1,1", "smooth:WEIGHT"),
        ("monotone:increasing,decreasing", "monotone:increasing or monotone:decreasing"),
    ],
)
def test_more_numbers_than_there_are_arguments(text: str, form: str) -> None:
    with pytest.raises(TenfoldError, match=f"^constraint '{text}' does not have the form {form}$"):
        c.parse(text)


@pytest.mark.parametrize("given", ["decreasing", "increasing", 0, 1.0, None])
def test_a_direction_that_is_no_truth_value(given: object) -> None:
    with pytest.raises(TenfoldError, match=f"monotone needs increasing to be true or false, not {given!r}"):
        c.Monotone(given)  # type: ignore[arg-type]
