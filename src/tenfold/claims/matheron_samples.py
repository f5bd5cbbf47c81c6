"""Functions drawn from a posterior: by correcting functions drawn from the prior, and jointly."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tenfold.claims._clock import exponent, fastest
from tenfold.claims._registry import Measurement, Number, claim
from tenfold.completion.grid_gp import GridGP, GridPosterior, GridPrior
from tenfold.linalg.covariances import RBF, Matern32

_SIGMAS, _COVARIANCE, _LINEAR, _JOINT = 5.0, 0.03, 1.3, 2.0
_DRAWS, _LEVELS = 20000, (20, 30, 45, 60)


@claim(
    "matheron_samples",
    paper="Efficiently sampling functions from Gaussian process posteriors",
    year=2020,
    where="pathwise conditioning: Matheron's rule, and the cost by the number of locations",
    stated=(
        "A prior draw plus an update by the data is a draw from the posterior, and costs time linear in the number of "
        "locations where joint draws cost its cube."
    ),
)
def matheron_samples(*, seed: int = 0) -> Measurement:
    """Draw 20,000 functions on a grid with holes, and time one draw at more and more new positions.

    On 9 x 8 cells, 40 % of them hidden, mean and covariance of the draws are compared with those of the dense
    posterior. Then one function at a time is drawn on 20² to 60² new positions, by correction and with the Cholesky
    factor of their joint posterior covariance.

    Holds if no mean is off by more than 5 of its standard errors, no covariance by more than 0.03 (the prior variance
    is 1), and the times grow with powers of the number of positions of at most 1.3 and at least 2.
    """
    gp, values = _grid(seed)
    found = gp.condition(values)
    mean, covariance = dense(gp, values, gp)
    drawn = found.sample(_DRAWS, seed=seed).flatten(1)
    sigmas = float(((drawn.mean(0) - mean) / (covariance.diagonal() / _DRAWS).sqrt()).abs().max())
    off = float((drawn.T.cov() - covariance).abs().max())
    times = {}
    for label in ("corrected", "joint"):
        work = {}
        for n in _LEVELS:
            axes = [torch.linspace(0.01, 0.99, n, dtype=torch.float64)] * 2
            if label == "corrected":
                work[str(n)] = lambda axes=axes: found.sample(1, seed=seed, axes=axes)
            else:
                work[str(n)] = lambda axes=axes: _joint(found, values, axes, seed)
        times[label] = fastest(work, 5)
    powers = {label: exponent([int(n) ** 2 for n in each], list(each.values())) for label, each in times.items()}
    holds = sigmas <= _SIGMAS and off <= _COVARIANCE and powers["corrected"] <= _LINEAR and powers["joint"] >= _JOINT
    last = str(_LEVELS[-1])
    text = (
        f"{_DRAWS} draws: means off by {sigmas:.1f} standard errors at most, covariances by {off:.3f}\n"
        f"one draw on {last} x {last} positions: {1e3 * times['corrected'][last]:.1f} ms, growing as "
        f"n^{powers['corrected']:.2f}; jointly {1e3 * times['joint'][last]:.0f} ms, growing as n^{powers['joint']:.2f}"
    )
    numbers: dict[str, Number] = {"means: standard errors": sigmas, "covariances: largest difference": off}
    numbers |= {f"{label}: power of positions": power for label, power in powers.items()}
    return Measurement(holds, text, numbers)


def _grid(seed: int) -> tuple[GridGP, Tensor]:
    axes = [torch.linspace(0, 1, n, dtype=torch.float64) for n in (9, 8)]
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(9, 8, dtype=torch.float64, generator=generator)
    values[torch.rand(9, 8, generator=generator) < 0.4] = math.nan
    return GridGP(axes, [RBF(0.3), Matern32(0.5)], noise=0.1), values


def dense(gp: GridPrior, values: Tensor, where: GridPrior) -> tuple[Tensor, Tensor]:
    """Posterior mean and covariance on the grid of ``where``, by dense algebra."""
    seen = ~values.flatten().isnan()
    cross = torch.kron(*(k.matrix(new, own) for k, new, own in zip(gp.kernels, where.axes, gp.axes, strict=True)))
    inside = gp.prior.dense()[seen][:, seen]
    inside.diagonal().add_(gp.noise)
    gain = torch.linalg.solve(inside, cross[:, seen].T).T
    return gain @ values.flatten()[seen], where.prior.dense() - gain @ cross[:, seen].T


def _joint(found: GridPosterior, values: Tensor, axes: list[Tensor], seed: int) -> Tensor:
    gp = found.process
    mean, covariance = dense(gp, values, GridGP(axes, gp.kernels, noise=gp.noise))
    covariance.diagonal().add_(1e-8)  # smooth kernels are singular in floating point
    white = torch.randn(len(mean), dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return mean + torch.linalg.cholesky(covariance) @ white
