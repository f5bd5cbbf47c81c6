"""Gathered least squares against dense solves, one group after the other."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tenfold.errors import TenfoldError
from tenfold.linalg.least_squares import Gathered, gathered_least_squares, gathered_variances


def drawn(rank: int = 5, count: int = 3000, groups: int = 9, seed: int = 0) -> tuple[Tensor, Gathered, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    factor = torch.randn(200, rank, generator=generator, dtype=torch.float64)
    # Group 3 has nothing, group 4 a single entry.
    of = torch.randint(5, groups, (count,), generator=generator)
    of[:40] = torch.randint(0, 3, (40,), generator=generator)
    of[40] = 4
    index = torch.randint(0, 200, (count,), generator=generator)
    values = torch.randn(count, generator=generator, dtype=torch.float64)
    weights = torch.rand(count, generator=generator, dtype=torch.float64) + 0.1
    ridge = torch.rand(groups, rank, generator=generator, dtype=torch.float64) + 0.01
    return factor, Gathered.by(of, groups, index, values, weights), ridge


def dense(factor: Tensor, problems: Gathered, ridge: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    found, diagonal, inverse = [], [], []
    for group in range(problems.groups):
        part = slice(int(problems.first[group]), int(problems.first[group + 1]))
        matrix, w, y = factor[problems.index[part]], problems.weights[part], problems.values[part]
        gram = (matrix * w[:, None]).T @ matrix
        inverse.append(torch.linalg.inv(gram + ridge[group].diag()))
        found.append(inverse[-1] @ (matrix.T @ (w * y)))
        diagonal.append(gram.diagonal())
    return torch.stack(found), torch.stack(diagonal), torch.stack(inverse)


@pytest.mark.parametrize("rank", [1, 5, 17])
def test_exact_solves_are_those_of_dense_algebra(rank: int) -> None:
    factor, problems, ridge = drawn(rank)
    found, diagonal = gathered_least_squares(factor, problems, ridge)
    expected, gram, _ = dense(factor, problems, ridge)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(diagonal, gram, rtol=1e-12, atol=0)
    assert not found[3].any()


@pytest.mark.parametrize("solver", ["cg", "sketched"])
def test_conjugate_gradients_get_there(solver: str) -> None:
    factor, problems, ridge = drawn(8)
    expected, _, _ = dense(factor, problems, ridge)
    few, _ = gathered_least_squares(factor, problems, ridge, solver=solver, steps=3)
    many, _ = gathered_least_squares(factor, problems, ridge, solver=solver, steps=12)
    torch.testing.assert_close(many, expected, rtol=1e-8, atol=1e-9)
    assert float((few - expected).norm()) < 0.5 * float(expected.norm())
    again, _ = gathered_least_squares(factor, problems, ridge, solver=solver, steps=0, start=expected)
    assert torch.equal(again[5:], expected[5:])


def test_a_sketch_is_a_better_preconditioner_than_the_diagonal() -> None:
    # Directions of very different lengths that mix all columns: the diagonal says nothing about them.
    generator = torch.Generator().manual_seed(1)
    turned = torch.linalg.qr(torch.randn(12, 12, generator=generator, dtype=torch.float64)).Q
    lengths = torch.logspace(0, -3, 12, dtype=torch.float64)
    factor = torch.randn(4000, 12, generator=generator, dtype=torch.float64) @ (lengths[:, None] * turned)
    values = torch.randn(4000, generator=generator, dtype=torch.float64)
    where = torch.arange(4000)
    problems = Gathered.by(torch.zeros(4000, dtype=torch.int64), 1, where, values, torch.ones_like(values))
    ridge = torch.zeros(1, 12, dtype=torch.float64)
    expected = torch.linalg.lstsq(factor, values[:, None]).solution.T

    def excess(solver: str) -> float:
        found, _ = gathered_least_squares(factor, problems, ridge, solver=solver, steps=8)
        return float((factor @ (found - expected).T).norm() / (factor @ expected.T).norm())

    assert excess("sketched") < 1e-3 < 0.1 < excess("cg")


def test_threads_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    factor, problems, ridge = drawn(6)
    monkeypatch.setattr("tenfold.linalg.least_squares._WORTH", 1)
    for solver in ("exact", "cg", "sketched"):
        one, _ = gathered_least_squares(factor, problems, ridge, solver=solver, seed=3)
        monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
        other, _ = gathered_least_squares(factor, problems, ridge, solver=solver, seed=3)
        monkeypatch.undo()
        monkeypatch.setattr("tenfold.linalg.least_squares._WORTH", 1)
        assert torch.equal(one, other)


def test_variances_are_quadratic_forms_of_the_inverse() -> None:
    factor, problems, ridge = drawn(5)
    generator = torch.Generator().manual_seed(2)
    groups = torch.randint(0, 9, (50,), generator=generator)
    directions = torch.randn(50, 5, generator=generator, dtype=torch.float64)
    found = gathered_variances(factor, problems, ridge, groups, directions)
    _, _, inverse = dense(factor, problems, ridge)
    expected = torch.einsum("qa,qab,qb->q", directions, inverse[groups], directions)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)


def test_a_singular_group_gets_an_answer_that_fits() -> None:
    factor = torch.eye(4, dtype=torch.float64)
    problems = Gathered.by(
        torch.zeros(2, dtype=torch.int64),
        1,
        torch.tensor([0, 2]),
        torch.tensor([2.0, -1.0]).double(),
        torch.ones(2).double(),
    )
    found, _ = gathered_least_squares(factor, problems, torch.zeros(1, 4, dtype=torch.float64))
    torch.testing.assert_close(found, torch.tensor([[2.0, 0.0, -1.0, 0.0]], dtype=torch.float64))


def test_an_unknown_solver_is_named() -> None:
    factor, problems, ridge = drawn()
    with pytest.raises(TenfoldError, match="solver 'qr' is not known: give one of exact, cg, sketched"):
        gathered_least_squares(factor, problems, ridge, solver="qr")  # type: ignore[arg-type]
