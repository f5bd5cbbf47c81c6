from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce
from typing import Any

import pytest
import torch
from torch import Tensor

from tenfold.completion import Model, State, Step, Task, find
from tenfold.completion._grid import features, posterior
from tenfold.completion.grid_gp import GridGP, grid_gp
from tenfold.errors import DataError, TenfoldError
from tenfold.linalg.conjugate_gradients import ConvergenceWarning
from tenfold.linalg.covariances import RBF, Covariance, Levels, Matern12, Matern32, Matern52, Periodic


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def line(n: int) -> Tensor:
    return torch.linspace(0, 1, n, dtype=torch.float64)


def mixed() -> GridGP:
    """Rectangular, equally and unequally spaced, unordered, with points in a plane; another kernel on every axis."""
    axes = [line(6), torch.tensor([0.9, 0.0, 0.35, 0.4, 2.0]), random(4, 2, seed=5), torch.zeros(1)]
    kernels = [RBF(0.3), Matern32(0.5) * Periodic(1.0, 0.7) + Matern12(0.2), Matern52(1.5), Levels(0.5)]
    return GridGP(axes, kernels, variance=1.7, noise=0.2)


def dense_nll(gp: GridGP, logs: Tensor, values: Tensor, noise: Tensor) -> Tensor:
    """Of dense algebra, with the covariance of the noise in units of ``gp.noise``; differentiable in ``logs``."""
    place, factors = 2, []
    for k, (axis, kernel) in enumerate(zip(gp.axes, gp.kernels, strict=True)):
        end = place + len(kernel.hyperparameters())
        factors.append(kernel.matrix(axis, None, logs[place:end]))
        if not gp.tied or k == len(gp.axes) - 1:
            place = end
    seen = ~values.flatten().isnan()
    covariance = logs[0].exp() * reduce(torch.kron, factors) + logs[1].exp() * noise
    y = values.flatten()[seen]
    inside = covariance[seen][:, seen]
    quadratic = y @ torch.linalg.solve(inside, y)
    return 0.5 * (quadratic + torch.logdet(inside) + len(y) * math.log(2 * math.pi))


def dense_posterior(prior: Tensor, values: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    seen = ~values.flatten().isnan()
    inside = (prior + noise)[seen][:, seen]
    gain = torch.linalg.solve(inside, prior[seen]).T
    return gain @ values.flatten()[seen], prior - gain @ prior[seen]


HOLES = pytest.mark.parametrize("holes", [0.0, 0.3, 0.8])
WEIGHTED = pytest.mark.parametrize("weighted", [False, True], ids=["equal noise", "unequal noise"])


@pytest.fixture(params=["dense", "features"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Which of the two ways of solving with holes."""
    if request.param == "features":
        monkeypatch.setattr(posterior, "DENSE", 0)
        monkeypatch.setattr(features, "_NEGLIGIBLE", 1e-13)
    return str(request.param)


def observed(gp: GridGP, holes: float, weighted: bool) -> tuple[Tensor, Tensor | None, Tensor]:
    """Values, weights and the covariance of the noise in units of ``gp.noise``."""
    generator = torch.Generator().manual_seed(3)
    values = random(*gp.shape)
    values[torch.rand(gp.shape, generator=generator) < holes] = math.nan
    weights = torch.rand(gp.shape, generator=generator, dtype=torch.float64) + 0.5
    used = weights if weighted else torch.ones_like(weights)
    return values, weights if weighted else None, torch.diag(1 / used.flatten())


@pytest.mark.usefixtures("engine")
@HOLES
@WEIGHTED
def test_likelihood_and_gradient_are_those_of_dense_algebra(holes: float, weighted: bool) -> None:
    gp = mixed()
    values, weights, noise = observed(gp, holes, weighted)
    logs = gp.logs().requires_grad_()
    expected = dense_nll(gp, logs, values, noise)
    expected.backward()
    nll, gradient = gp.nll_and_gradient(values, weights)
    assert nll == pytest.approx(float(expected.detach()), abs=1e-8)
    assert logs.grad is not None
    torch.testing.assert_close(gradient, logs.grad, rtol=0, atol=1e-8)


@pytest.mark.usefixtures("engine")
@HOLES
@WEIGHTED
def test_posterior_is_that_of_dense_algebra(holes: float, weighted: bool) -> None:
    gp = mixed()
    values, weights, noise = observed(gp, holes, weighted)
    # A larger grid, in which the observed one is the first part of every axis.
    new = [line(3) + 0.05, torch.tensor([0.5]), random(2, 2, seed=6), torch.ones(2)]
    both = [torch.cat([axis, more.to(torch.float64)]) for axis, more in zip(gp.axes, new, strict=True)]
    larger = GridGP(both, gp.kernels, variance=gp.variance, noise=gp.noise)
    first = tuple(slice(n) for n in gp.shape)
    rest = tuple(slice(n, None) for n in gp.shape)
    everywhere = torch.full(larger.shape, math.nan, dtype=torch.float64)
    everywhere[first] = values
    spread = torch.ones(larger.shape, dtype=torch.float64)
    spread[first] = noise.diagonal().reshape(gp.shape)
    prior = larger.prior.dense()
    mean, covariance = dense_posterior(prior, everywhere, gp.noise * torch.diag(spread.flatten()))
    mean, variance = mean.reshape(larger.shape), covariance.diagonal().reshape(larger.shape)

    found = gp.condition(values, weights, tol=1e-11)
    close: dict[str, Any] = {"rtol": 0, "atol": 1e-8}
    torch.testing.assert_close(found.mean(), mean[first], **close)
    torch.testing.assert_close(found.variance(), variance[first], **close)
    torch.testing.assert_close(found.mean(new), mean[rest], **close)
    torch.testing.assert_close(found.variance(new), variance[rest], **close)
    corner = torch.tensor([[8, 5, 4, 1], [0, 0, 1, 0], [6, 2, 5, 2]])
    at_mean, at_variance = found.at([axis[place] for axis, place in zip(both, corner.T, strict=True)])
    torch.testing.assert_close(at_mean, mean[tuple(corner.T)], **close)
    torch.testing.assert_close(at_variance, variance[tuple(corner.T)], **close)


def test_noise_that_is_a_kronecker_product() -> None:
    gp = mixed()
    factors = [torch.linspace(0.5, 2, 6), random(5, 5) @ random(5, 5).T + torch.eye(5), torch.ones(4), torch.ones(1)]
    gp = GridGP(gp.axes, gp.kernels, variance=1.7, noise=0.2, noise_factors=factors)
    assert gp.noise_factors is not None
    noise = reduce(torch.kron, gp.noise_factors)
    values = random(*gp.shape)
    logs = gp.logs().requires_grad_()
    expected = dense_nll(gp, logs, values, noise)
    expected.backward()
    nll, gradient = gp.nll_and_gradient(values)
    assert nll == pytest.approx(float(expected.detach()), abs=1e-8)
    torch.testing.assert_close(gradient, logs.grad, rtol=0, atol=1e-8)
    mean, covariance = dense_posterior(gp.prior.dense(), values, gp.noise * noise)
    found = gp.condition(values)
    torch.testing.assert_close(found.mean().flatten(), mean, rtol=0, atol=1e-8)
    torch.testing.assert_close(found.variance().flatten(), covariance.diagonal(), rtol=0, atol=1e-8)
    torch.testing.assert_close(gp.marginal.dense(), gp.prior.dense() + gp.noise * noise)
    with pytest.raises(DataError, match="noise_factors needs every cell"):
        gp.condition(torch.full(gp.shape, math.nan))


def test_the_prior_is_a_network() -> None:
    gp = mixed()
    factors = [kernel.matrix(axis) for axis, kernel in zip(gp.axes, gp.kernels, strict=True)]
    torch.testing.assert_close(gp.prior.dense(), 1.7 * reduce(torch.kron, factors))
    torch.testing.assert_close(gp.marginal.dense(), gp.prior.dense() + 0.2 * torch.eye(120, dtype=torch.float64))
    right = random(*gp.shape)
    torch.testing.assert_close(gp.prior @ right.flatten(), gp.product(right).flatten())
    one = GridGP([line(5)], "rbf", variance=2.0)
    torch.testing.assert_close(one.prior.dense(), 2 * RBF().matrix(line(5)))
    torch.testing.assert_close(one.marginal.dense(), one.prior.dense() + 0.1 * torch.eye(5, dtype=torch.float64))


def test_tied_axes_have_one_gradient() -> None:
    axes = [line(5), line(5), torch.tensor([0.0, 0.1, 0.5])]
    gp = GridGP(axes, Matern32(0.4), noise=0.3, tied=True)
    assert gp.names() == ("variance", "noise", "lengthscale")
    values = random(5, 5, 3)
    logs = gp.logs().requires_grad_()
    dense_nll(gp, logs, values, torch.eye(75, dtype=torch.float64)).backward()
    torch.testing.assert_close(gp.nll_and_gradient(values)[1], logs.grad, rtol=0, atol=1e-8)
    with pytest.raises(TenfoldError, match="tied axes have one kernel"):
        GridGP(axes, [RBF(1), RBF(2), RBF(1)], tied=True)


@pytest.mark.slow
def test_eight_thousand_cells_are_those_of_dense_algebra() -> None:
    gp = GridGP([line(20), line(20) ** 2, line(20)], [RBF(0.3), Matern32(0.5), Matern52(0.8)], noise=0.05)
    values = random(20, 20, 20)
    prior = gp.prior.dense()
    covariance = prior.clone()
    covariance.diagonal().add_(gp.noise)
    root = torch.linalg.cholesky(covariance)
    inverse = torch.cholesky_inverse(root)
    solved = inverse @ values.flatten()
    nll, gradient = gp.nll_and_gradient(values)
    logdet = 2 * float(root.diagonal().log().sum())
    assert nll == pytest.approx(
        0.5 * (float(values.flatten() @ solved) + logdet + 8000 * math.log(2 * math.pi)), rel=1e-12
    )
    found = gp.condition(values)
    torch.testing.assert_close(found.mean().flatten(), prior @ solved, rtol=0, atol=1e-8)
    variance = gp.variance - torch.einsum("ij,ij->i", prior @ inverse, prior)
    torch.testing.assert_close(found.variance().flatten(), variance, rtol=0, atol=1e-8)
    inside = 0.5 * (inverse - torch.outer(solved, solved))
    for place, kernel in enumerate(gp.kernels):
        logs = kernel.logs().requires_grad_()
        (change,) = torch.autograd.functional.jacobian(
            lambda g, p=place, k=kernel: k.matrix(gp.axes[p], None, g), logs
        ).unbind(-1)
        factors = [change if k == place else factor for k, factor in enumerate(gp.factors)]
        assert float(gradient[2 + place]) == pytest.approx(
            float((inside * reduce(torch.kron, factors)).sum()), abs=1e-6
        )


@pytest.mark.parametrize("n", [799, 801])
def test_no_size_at_which_the_way_changes(n: int) -> None:
    # Others change from eigenvectors to Lanczos at 800 rows.
    gp = GridGP([line(n), line(2)], [Matern32(0.2), RBF(1.0)], noise=0.1)
    values = random(n, 2)
    mean, _ = dense_posterior(gp.prior.dense(), values, 0.1 * torch.eye(2 * n, dtype=torch.float64))
    found = gp.condition(values)
    assert found.solver == "eigenvectors"
    torch.testing.assert_close(found.mean().flatten(), mean, rtol=0, atol=1e-8)


@pytest.mark.usefixtures("engine")
@HOLES
def test_the_order_of_the_axes_does_not_matter(holes: float) -> None:
    gp = mixed()
    values, weights, _ = observed(gp, holes, True)
    assert weights is not None
    order = (2, 0, 3, 1)
    turned = GridGP([gp.axes[k] for k in order], [gp.kernels[k] for k in order], variance=1.7, noise=0.2)
    one, other = gp.condition(values, weights), turned.condition(values.permute(order), weights.permute(order))
    torch.testing.assert_close(one.mean().permute(order), other.mean(), rtol=0, atol=1e-9)
    torch.testing.assert_close(one.variance().permute(order), other.variance(), rtol=0, atol=1e-9)
    assert one.evidence == pytest.approx(other.evidence, abs=1e-8)


def test_nothing_observed_leaves_the_prior() -> None:
    gp = mixed()
    found = gp.condition(torch.full(gp.shape, math.nan))
    assert float(found.mean().abs().max()) == 0
    assert bool((found.variance() == gp.variance).all())
    assert found.evidence == 0
    mean, variance = found.at([axis[:1] for axis in gp.axes])
    assert (float(mean), float(variance)) == (0, gp.variance)
    drawn = found.sample(4000, seed=1).flatten(1)
    torch.testing.assert_close(drawn.T.cov(), gp.prior.dense(), rtol=0, atol=0.2)
    with pytest.raises(DataError, match="holds no observation"):
        gp.fit(torch.full(gp.shape, math.nan))


@pytest.mark.usefixtures("engine")
def test_one_cell_observed() -> None:
    gp = GridGP([line(4), line(3)], "rbf", variance=2.0, noise=0.5)
    values = torch.full((4, 3), math.nan, dtype=torch.float64)
    values[1, 2] = 5.0
    found = gp.condition(values)
    # One number: the regression on it.
    covariance = gp.prior.dense()[5].reshape(4, 3)
    torch.testing.assert_close(found.mean(), covariance * 5 / 2.5)
    torch.testing.assert_close(found.variance(), 2 - covariance.square() / 2.5)
    assert found.evidence == pytest.approx(-0.5 * (25 / 2.5 + math.log(2 * math.pi * 2.5)))


def test_single_precision_is_taken_as_double() -> None:
    gp = GridGP([line(4).float(), line(3).float()], "rbf")
    values = random(4, 3).float()
    found = gp.condition(values)
    assert found.mean().dtype == torch.float64
    torch.testing.assert_close(found.mean(), gp.condition(values.double()).mean(), rtol=0, atol=0)


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("scale", [1e-150, 1e150])
def test_means_scale_with_the_values(scale: float) -> None:
    gp = mixed()
    values, _, _ = observed(gp, 0.3, False)
    torch.testing.assert_close(gp.condition(values * scale).mean() / scale, gp.condition(values).mean())


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("holes", [0.0, 0.4])
@pytest.mark.parametrize("new", [False, True], ids=["on the grid", "at new positions"])
def test_samples_have_the_moments_of_the_posterior(holes: float, new: bool) -> None:
    gp = GridGP([line(5), line(4)], [RBF(0.4), Matern32(0.6)], variance=1.5, noise=0.1)
    values, weights, noise = observed(gp, holes, True)
    axes = [line(4) + 0.1, line(4)] if new else list(gp.axes)
    larger = GridGP([torch.cat([gp.axes[0], axes[0]]), gp.axes[1]], gp.kernels, variance=1.5, noise=0.1)
    everywhere = torch.full(larger.shape, math.nan, dtype=torch.float64)
    everywhere[:5] = values
    spread = torch.ones(larger.shape, dtype=torch.float64)
    spread[:5] = noise.diagonal().reshape(5, 4)
    mean, covariance = dense_posterior(larger.prior.dense(), everywhere, 0.1 * torch.diag(spread.flatten()))
    count = 20000
    found = gp.condition(values, weights)
    drawn = found.sample(count, seed=2, axes=[axes[0], None] if new else None).flatten(1)
    error = (covariance.diagonal()[20:] / count).sqrt()
    assert float(((drawn.mean(0) - mean[20:]) / error).abs().max()) < 4.5
    torch.testing.assert_close(drawn.T.cov(), covariance[20:, 20:], rtol=0, atol=0.02)


def rough(holes: float = 0.1) -> tuple[GridGP, Tensor]:
    gp = GridGP([line(14)] * 3, Matern32(0.2), noise=0.01, tied=True)
    values = random(14, 14, 14)
    values[torch.rand(values.shape, generator=torch.Generator().manual_seed(1)) < holes] = math.nan
    return gp, values


def test_few_eigenpairs_and_conjugate_gradients_reach_the_dense_mean() -> None:
    gp, values = rough()
    found = gp.condition(values, rank=100, tol=1e-9)
    assert "100 eigenpairs and" in found.solver
    mean, covariance = dense_posterior(gp.prior.dense(), values, 0.01 * torch.eye(14**3, dtype=torch.float64))
    torch.testing.assert_close(found.mean().flatten(), mean, rtol=0, atol=1e-7)
    seen = ~values.isnan()
    residual = (found.process.product(found.solution) + 0.01 * found.solution - values)[seen].norm() / values[
        seen
    ].norm()
    assert float(residual) == pytest.approx(found.residual, rel=1e-4)
    # What is left out counts as unknown.
    assert bool((found.variance().flatten() >= covariance.diagonal() - 1e-9).all())


def test_what_does_not_converge_warns_with_its_residual() -> None:
    gp, values = rough()
    with pytest.warns(ConvergenceWarning, match="relative residual of"):
        found = gp.condition(values, rank=20, tol=1e-9, max_iterations=3)
    assert found.residual > 1e-9


def test_the_evidence_of_few_eigenpairs_is_a_lower_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    gp, values = rough(0.3)
    bounds = [-gp.nll(values, rank=rank) for rank in (50, 500, 1500, 2744)]
    monkeypatch.setattr(posterior, "DENSE", 10**6)
    exact = -gp.nll(values)
    assert bounds == sorted(bounds)
    assert bounds[-2] < exact
    assert bounds[-1] == pytest.approx(exact, abs=1e-6)


def test_long_axes_are_multiplied_by_fourier_transforms() -> None:
    gp = GridGP([line(600), line(3)], [Matern12(0.1), RBF(1.0)])
    right = random(600, 3)
    torch.testing.assert_close(gp.product(right).flatten(), gp.prior @ right.flatten())


@pytest.mark.parametrize("holes", [0.0, 0.1])
def test_planted_hyperparameters_are_found(holes: float) -> None:
    # Of 1500 cells or nine tenths of them: the noise within 15 %, the lengths within 25 and 50 %.
    truth = GridGP([line(25), line(20), torch.arange(3.0)], [RBF(0.15), Matern32(0.3), Levels(1.0)], noise=0.05)
    nothing = truth.condition(torch.full(truth.shape, math.nan))
    begin = GridGP(truth.axes, [RBF(0.4), Matern32(0.4), Levels(0.3)], noise=0.3)
    for seed in range(10):
        values = nothing.sample(seed=seed)[0] + math.sqrt(0.05) * random(*truth.shape, seed=seed + 100)
        values[torch.rand(truth.shape, generator=torch.Generator().manual_seed(seed)) < holes] = math.nan
        found = begin.fit(values, rank=300)
        ratio = (found.logs() - truth.logs()).exp()
        assert 0.85 < float(ratio[1]) < 1.15, found
        assert 0.75 < float(ratio[2]) < 1.25, found
        assert 0.65 < float(ratio[3]) < 1.5, found


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda gp: gp.condition(random(2, 2)), "values has shape .2, 2.: the grid is 4 x 3"),
        (lambda gp: gp.condition(torch.full((4, 3), math.inf)), "values holds inf: mark holes by NaN"),
        (lambda gp: gp.condition(random(4, 3), -torch.ones(4, 3)), "weights must be finite and not negative"),
        (lambda gp: gp.fit(torch.full((4, 3), 1e200, dtype=torch.float64)), "too large for their squares"),
        (lambda gp: gp.condition(random(4, 3)).mean([None]), "axes has 1 entries for 2 axes"),
        (lambda gp: gp.condition(random(4, 3)).mean([None, ["a"]]), "axis 1 is no list of numbers"),
        (lambda gp: GridGP([], "rbf"), "axes is empty"),
        (lambda gp: GridGP([[1.0, math.nan]], "rbf"), "axis 0 holds NaN or inf"),
        (lambda gp: GridGP([line(3)], "rbf", noise=0.0), "noise is 0.0: give a positive"),
        (lambda gp: GridGP([line(3)], "rbf", noise_factors=[torch.ones(2)]), "noise_factors must be square"),
    ],
)
def test_one_line_of_what_is_wrong(given: Any, message: str) -> None:
    with pytest.raises(TenfoldError, match=message) as error:
        given(GridGP([line(4), line(3)], "rbf"))
    assert "\n" not in str(error.value)


# --- the method ------------------------------------------------------------------------------------------------------


def truth_at(coordinates: Tensor) -> Tensor:
    levels = torch.tensor([0.5, -0.2, 0.1, 0.3], dtype=torch.float64)
    return torch.sin(5 * coordinates[:, 0]) * torch.cos(3 * coordinates[:, 1]) + levels[coordinates[:, 2].long()]


def points(n: int, steps: int | None, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(n, 2, dtype=torch.float64, generator=generator)
    x = x if steps is None else (x * steps).round() / steps
    return torch.cat([x, torch.randint(4, (n, 1), generator=generator).double()], 1)


def task(n: int, steps: int | None, noise: float = 0.1) -> tuple[Task, float, float]:
    coordinates = points(n, steps)
    values = truth_at(coordinates) + noise * random(n, seed=9)
    mean, deviation = float(values.mean()), float(values.std())
    return Task(coordinates, (values - mean) / deviation, (None, None, 4)), mean, deviation


@pytest.mark.parametrize(("n", "steps"), [(250, None), (1500, 20)], ids=["scattered", "grid"])
def test_a_mixed_task_is_predicted_anywhere(n: int, steps: int | None) -> None:
    given, mean, deviation = task(n, steps)
    model = grid_gp(given, epochs=30)
    query = points(400, None, seed=1)
    found = model.predict(query)
    assert found.variance is not None
    off = found.mean * deviation + mean - truth_at(query)
    assert float(off.square().mean().sqrt()) < 0.05
    assert float((off.abs() < 2.5758 * deviation * found.variance.sqrt()).double().mean()) > 0.9
    assert math.sqrt(float(found.noise)) * deviation == pytest.approx(0.1, rel=0.15)
    # What the fit saw is what the model leaves.
    off_seen = (model.predict(given.coordinates).mean - given.values).square().mean().sqrt()
    assert model.errors[-1] == pytest.approx(float(off_seen), rel=1e-3)
    # Points together and one by one are the same.
    alone = torch.cat([model.predict(row[None]).mean for row in query[:5]])
    torch.testing.assert_close(alone, found.mean[:5])


def test_repeated_observations_are_those_of_dense_algebra() -> None:
    coordinates = torch.tensor([[0, 0], [0, 0], [1, 2], [2, 1], [0, 0], [2, 1]], dtype=torch.float64)
    values = torch.tensor([1.0, 2.0, -1.0, 0.5, 1.4, 0.9], dtype=torch.float64)
    weights = torch.tensor([1.0, 0.5, 2.0, 1.0, 3.0, 1.0], dtype=torch.float64)
    model = grid_gp(Task(coordinates, values, (3, 3), weights), kernels=["rbf", None], epochs=5)
    gp = model.process
    columns = coordinates.long().T
    prior = gp.variance * gp.factors[0][columns[0]][:, columns[0]] * gp.factors[1][columns[1]][:, columns[1]]
    covariance = prior + torch.diag(gp.noise / weights)
    mean = prior @ torch.linalg.solve(covariance, values)
    torch.testing.assert_close(model.predict(coordinates).mean, mean)
    nll = 0.5 * (values @ torch.linalg.solve(covariance, values) + torch.logdet(covariance) + 6 * math.log(2 * math.pi))
    assert model.evidence == pytest.approx(-float(nll), abs=1e-9)


@pytest.mark.parametrize(("n", "steps"), [(60, None), (1200, 17)], ids=["scattered", "grid"])
def test_interrupted_and_resumed_is_never_interrupted(n: int, steps: int | None) -> None:
    given, _, _ = task(n, steps)
    whole = grid_gp(given, epochs=6, tol=0, eigenpairs=150)
    states: list[State] = []
    grid_gp(given, epochs=3, tol=0, eigenpairs=150, callback=lambda step: states.append(step.state()))
    resumed = grid_gp(given, epochs=6, tol=0, eigenpairs=150, resume=states[-1])
    assert resumed.errors == whole.errors
    query = points(50, None, seed=1)
    assert torch.equal(resumed.predict(query).mean, whole.predict(query).mean)
    again: Model = find("grid_gp").restore(whole.state())
    one, other = again.predict(query), whole.predict(query)
    assert torch.equal(one.mean, other.mean)
    assert one.variance is not None
    assert other.variance is not None
    assert torch.equal(one.variance, other.variance)
    assert (again.errors, again.stopped, again.evidence) == (whole.errors, whole.stopped, whole.evidence)


def test_what_a_callback_is_told() -> None:
    given, _, _ = task(60, None)
    steps: list[Step] = []
    model = grid_gp(given, epochs=40, callback=steps.append)
    assert [step.epoch for step in steps] == list(range(1, len(model.errors) + 1))
    assert tuple(step.error for step in steps) == model.errors
    assert model.stopped == "tol"
    values = [step.state().facts["value"] for step in steps]
    assert values == sorted(values, reverse=True)


def _task(coordinates: Sequence[Sequence[float]], values: Sequence[float], sizes: tuple[int | None, ...]) -> Task:
    return Task(torch.tensor(coordinates, dtype=torch.float64), torch.tensor(values, dtype=torch.float64), sizes)


@pytest.mark.parametrize("value", [0.0, 1.0, -1e100])
def test_one_observation(value: float) -> None:
    model = grid_gp(_task([[0, 0.0]], [value], (3, None)), epochs=5)
    found = model.predict(torch.tensor([[0, 0.0], [2, 0.5]], dtype=torch.float64))
    assert bool(torch.isfinite(found.mean).all())
    assert found.variance is not None
    assert bool((found.variance >= 0).all())


def test_what_the_method_refuses() -> None:
    many = Task(torch.cat([points(1100, None), random(1100, 1)], 1), random(1100), (None, None, 4, None))
    with pytest.raises(
        DataError, match="the grid of all levels is 1100 x 1100 x 4 x 1100, more than the 8388608 cells"
    ):
        grid_gp(many)
    # As many as need no grid.
    assert grid_gp(many.rows(torch.arange(100)), epochs=0).parameters == 6
    with pytest.raises(DataError, match="mode 0 has 5000 levels and grid_gp takes 4096"):
        grid_gp(Task(torch.arange(5000.0, dtype=torch.float64)[:, None], random(5000), (None,)))
    with pytest.raises(DataError, match="too large for their squares"):
        grid_gp(_task([[0], [1]], [1e200, 0], (2,)))
    with pytest.raises(TenfoldError, match="kernels has 1 entries for 2 modes"):
        grid_gp(_task([[0, 0]], [1], (3, 3)), kernels=["rbf"])
    with pytest.raises(TenfoldError, match="rank is 3, but grid_gp has none"):
        grid_gp(_task([[0, 0]], [1], (3, 3)), rank=3)
    with pytest.raises(TenfoldError, match="eigenpairs is 0"):
        grid_gp(_task([[0, 0]], [1], (3, 3)), eigenpairs=0)
    with pytest.raises(DataError, match="weights must be positive"):
        grid_gp(Task(torch.zeros(1, 1, dtype=torch.float64), torch.ones(1), (1,), torch.zeros(1)))


def test_kernels_by_name_have_lengths_that_fit_the_mode() -> None:
    model = grid_gp(_task([[0, 0.0], [9, 1.0]], [1, -1], (10, None)), kernels=["rbf", "periodic"], epochs=0)
    kernels: Sequence[Covariance] = model.process.kernels
    assert kernels[0].hyperparameters()["lengthscale"] == pytest.approx(2.7)
    assert isinstance(kernels[1], Periodic)


def test_few_observations_of_many_levels_need_no_grid() -> None:
    size = 10**6
    coordinates = torch.tensor([[0, 0], [size - 1, 1], [5, 1]], dtype=torch.float64)
    given = Task(coordinates, torch.tensor([1.0, -1.0, 0.5], dtype=torch.float64), (size, 2))
    model = grid_gp(given, epochs=2)
    assert model.process.shape == (3, 2)
    # A level that was never seen is like all others that were not.
    unseen = model.predict(torch.tensor([[77, 0], [99, 0]], dtype=torch.float64))
    assert float(unseen.mean[0]) == float(unseen.mean[1])
    assert unseen.variance is not None
    assert float(unseen.variance[0]) > float(model.predict(coordinates[:1]).variance)  # type: ignore[arg-type]
