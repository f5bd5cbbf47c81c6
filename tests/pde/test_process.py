"""Gaussian processes on grids, beside dense matrices of all points."""

from __future__ import annotations

import math

import pytest
import torch

from tenfold.errors import DataError, TenfoldError
from tenfold.linalg.spectral_mixture import spectral_mixture
from tenfold.pde import Axis, GridProcess, Peaks, read
from tenfold.pde.gp_hm import _Model, _Solved
from tenfold.pde.process import Line

AXES = (Axis("x", 0.0, 2.0, 8, 2.0), Axis("y", -1.0, 0.5, 7, 2.0))


def peaks(seed: int, jitter: float = 1e-6) -> Peaks:
    generator = torch.Generator().manual_seed(seed)
    weights, scales, frequencies = torch.rand(3, 3, generator=generator, dtype=torch.float64) + 0.2
    return Peaks(weights, scales, frequencies, "student", jitter)


def dense(axis: Axis, spectrum: Peaks) -> torch.Tensor:
    """The covariance from every pair of points."""
    grid = axis.grid()
    apart = (grid[:, None] - grid[None, :]).abs().reshape(-1)
    k, _, _ = spectral_mixture(apart, spectrum.weights, spectrum.scales, spectrum.frequencies, spectrum.spectrum)
    return k.reshape(len(grid), -1) + spectrum.jitter * torch.eye(len(grid), dtype=torch.float64)


def process() -> GridProcess:
    values = torch.randn(8, 7, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return GridProcess(AXES, (peaks(1), peaks(2)), values)


def test_misfit_is_that_of_the_dense_covariance() -> None:
    one = process()
    whole = torch.kron(dense(AXES[0], one.peaks[0]), dense(AXES[1], one.peaks[1]))
    flat = one.values.reshape(-1)
    square = float(flat @ torch.linalg.solve(whole, flat))
    wanted = 56 / 2 * math.log(square / 56) + float(torch.linalg.slogdet(whole)[1]) / 2
    assert one.misfit() == pytest.approx(wanted, rel=1e-9)
    # Where the variance is scaled to the values, twice as large ones cost 56 logarithms of 2.
    twice = GridProcess(AXES, one.peaks, 2 * one.values)
    assert twice.misfit() - one.misfit() == pytest.approx(56 * math.log(2))


@pytest.mark.parametrize("orders", [(0, 0), (1, 0), (0, 2)])
def test_other_points_are_those_of_the_dense_covariance(orders: tuple[int, int]) -> None:
    one = process()
    grids = [torch.tensor([0.13, 1.7], dtype=torch.float64), torch.tensor([-0.9, 0.03, 0.44], dtype=torch.float64)]
    found = one.on(grids, orders)
    weights = torch.linalg.solve(
        torch.kron(dense(AXES[0], one.peaks[0]), dense(AXES[1], one.peaks[1])), one.values.reshape(-1)
    )
    whole = [axis.grid() for axis in AXES]
    for i, x in enumerate(grids[0]):
        for j, y in enumerate(grids[1]):
            at = [x.clone().requires_grad_(), y.clone().requires_grad_()]
            rows = [
                spectral_mixture((point - grid).abs(), s.weights, s.scales, s.frequencies, s.spectrum)[0]
                for point, grid, s in zip(at, whole, one.peaks, strict=True)
            ]
            value = torch.kron(*rows) @ weights
            for place, order in enumerate(orders):
                for _ in range(order):
                    (value,) = torch.autograd.grad(value, at[place], create_graph=True)
            assert float(found[i, j]) == pytest.approx(float(value.detach()), rel=1e-6, abs=1e-6)
    if orders == (0, 0):
        pairs = torch.cartesian_prod(*grids)
        torch.testing.assert_close(one.at(pairs), found.reshape(-1))


def test_one_peak_at_the_frequency_differentiates_a_sine() -> None:
    axis = Axis("x", 0.0, 2 * math.pi, 400, 20.0)
    turn = torch.tensor([100 / (2 * math.pi)], dtype=torch.float64)
    one = torch.ones(1, dtype=torch.float64)
    line = Line(axis, Peaks(one, 0.1 * one, turn, "student", 1e-10))
    grid = axis.grid()
    inner = slice(20, -20)
    second = (line.derivative(2) @ torch.sin(100 * grid))[inner]
    first = (line.derivative(1) @ torch.sin(100 * grid))[inner]
    assert float((second + 1e4 * torch.sin(100 * grid[inner])).norm() / second.norm()) < 1e-3
    assert float((first - 100 * torch.cos(100 * grid[inner])).norm() / first.norm()) < 1e-3
    # With four points to a period a prior that does not know of the period says far less of what is between them.
    plain = Line(axis, Peaks(one, 5 * one, None, "student", 1e-10)).derivative(2) @ torch.sin(100 * grid)
    assert float((plain[inner] + 1e4 * torch.sin(100 * grid[inner])).norm() / second.norm()) > 1e-2


def test_state_and_back() -> None:
    one = process()
    again = GridProcess.of_state(AXES, "student", one.state())
    grids = [axis.grid(5) for axis in AXES]
    torch.testing.assert_close(again.on(grids), one.on(grids), rtol=0, atol=0)


def test_points_of_another_number_of_coordinates() -> None:
    with pytest.raises(TenfoldError, match="rows of 2 coordinates"):
        process().at(torch.zeros(3, 1, dtype=torch.float64))


def test_a_covariance_that_rounding_makes_singular() -> None:
    one = torch.ones(1, dtype=torch.float64)
    # All correlations are 1: ever more jitter makes it positive definite.
    line = Line(AXES[0], Peaks(one, 1e-9 * one, None, "gaussian", 0.0))
    assert bool(torch.isfinite(line.factor).all())
    with pytest.raises(DataError, match="not positive definite"):
        Line(AXES[0], Peaks(-one, one, None, "student", 0.0))


def test_factor_and_slopes_of_one_solve() -> None:
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(5, 5, generator=generator, dtype=torch.float64)
    values = torch.randn(5, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    parts = torch.eye(5, dtype=torch.float64).mul(0.3).requires_grad_()

    def both(part: torch.Tensor, right: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        matrix = root @ root.T + part + part.T
        return _Solved.apply(matrix, right)

    assert torch.autograd.gradcheck(both, (parts, values))


def test_objective_is_that_of_dense_matrices() -> None:
    problem = read(
        {
            "domain": {"x": [0, 2], "y": [-1, 0.5]},
            "grid": {"x": 8, "y": 8},
            "equation": "u_xx + 3*u_y + u**3 = x*y",
            "boundary": "x - y",
        }
    )
    model = _Model(problem, 3, "student", True, "spread", 200.0)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for value in model.parameters.values():
            value += 0.3 * torch.randn(value.shape, generator=generator, dtype=torch.float64)
    values = model.parameters["values"].detach()
    state = model.process()
    whole, first, second = [], [], []
    for axis, spectrum in zip(problem.axes, state.peaks, strict=True):
        grid = axis.grid()
        apart = grid[:, None] - grid[None, :]
        _, k1, k2 = spectral_mixture(
            apart.abs().reshape(-1), spectrum.weights, spectrum.scales, spectrum.frequencies, "student"
        )
        whole.append(dense(axis, spectrum))
        first.append(apart.sign() * k1.reshape(8, 8) @ torch.linalg.inv(whole[-1]))
        second.append(k2.reshape(8, 8) @ torch.linalg.inv(whole[-1]))
    every = torch.kron(*whole)
    flat = values.reshape(-1)
    prior = torch.linalg.slogdet(every)[1] / 2 + flat @ torch.linalg.solve(every, flat) / 2
    x, y = problem.mesh()
    residual = second[0] @ values + 3 * values @ first[1].T + values**3 - x * y
    edge = torch.ones(8, 8, dtype=torch.bool)
    edge[1:-1, 1:] = False  # the first derivative needs one side along y, the second both along x
    missed = (values - (x - y))[edge].square().sum()
    tau, v = (model.parameters[name].detach() for name in ("boundary", "equation"))
    fits = 22 / 2 * tau - tau.exp() / 2 * missed + 64 / 2 * v - v.exp() / 2 * residual.square().sum()
    objective, told = model.objective()
    assert float(objective.detach()) == pytest.approx(float(prior - 200 * fits), rel=1e-9)
    assert told == pytest.approx(float(residual.norm() / (x * y).norm()), rel=1e-9)
