from __future__ import annotations

import warnings

import pytest
import torch

from tenfold.linalg.conjugate_gradients import ConvergenceWarning, conjugate_gradients


def system(n: int, condition: float) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(n)
    basis = torch.linalg.qr(torch.randn(n, n, dtype=torch.float64, generator=generator)).Q
    values = torch.logspace(0, torch.tensor(condition).log10().item(), n, dtype=torch.float64)
    return basis @ torch.diag(values) @ basis.T, torch.randn(3, n, dtype=torch.float64, generator=generator)


def test_rows_are_solved_together() -> None:
    matrix, right = system(40, 1e3)
    right[1] = 0  # nothing to solve, and nothing to divide by
    found = conjugate_gradients(lambda rows: rows @ matrix, right, tol=1e-10)
    torch.testing.assert_close(found.solution, torch.linalg.solve(matrix, right.T).T)
    off = (right - found.solution @ matrix).norm(dim=1)[[0, 2]] / right.norm(dim=1)[[0, 2]]
    assert float(off.max()) == pytest.approx(found.residual, rel=1e-6)
    assert found.residual <= 1e-10


def test_the_inverse_as_preconditioner_needs_one_step() -> None:
    matrix, right = system(40, 1e8)
    inverse = torch.linalg.inv(matrix)
    found = conjugate_gradients(lambda rows: rows @ matrix, right, precondition=lambda rows: rows @ inverse, tol=1e-6)
    assert found.iterations <= 2


def test_what_has_not_converged_is_said_with_its_residual() -> None:
    matrix, right = system(60, 1e6)
    with pytest.warns(ConvergenceWarning, match="after 5 iterations"):
        found = conjugate_gradients(lambda rows: rows @ matrix, right, tol=1e-8, max_iterations=5)
    assert found.residual > 1e-8
    assert found.iterations == 5


def test_the_residual_that_is_told_is_the_true_one() -> None:
    # Where the arithmetic ends, the residual that the recursion carries goes on falling; the true one does not.
    matrix, right = system(60, 1e10)
    with pytest.warns(ConvergenceWarning):
        found = conjugate_gradients(lambda rows: rows @ matrix, right, tol=1e-18, max_iterations=2000)
    true = float(((right - found.solution @ matrix).norm(dim=1) / right.norm(dim=1)).max())
    assert found.residual == pytest.approx(true, rel=1e-6)


def test_nothing_to_do() -> None:
    matrix, right = system(10, 10)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        zero = conjugate_gradients(lambda rows: rows @ matrix, torch.zeros_like(right))
        there = conjugate_gradients(lambda rows: rows @ matrix, right @ matrix, start=right, tol=1e-10)
    assert zero.iterations == there.iterations == 0
    assert float(zero.solution.abs().max()) == 0
