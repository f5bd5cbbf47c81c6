"""Gaussian processes on grids: the numbers of dense algebra, at a cost that hardly grows faster than the grid."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from tenfold.claims._clock import exponent, fastest
from tenfold.claims._registry import Measurement, Number, claim
from tenfold.completion.grid_gp import GridGP
from tenfold.linalg.covariances import RBF, Matern32, Matern52

_EXACT, _GRID, _DENSE = 1e-8, 1.5, 2.0
_SIZES, _DENSE_SIZES = (32, 48, 64, 96), (6, 8, 10, 12)


@claim(
    "kronecker_gp",
    paper="Scalable inference for structured Gaussian process models",
    year=2011,
    where="the chapter on Gaussian processes on multidimensional grids",
    stated=(
        "On a grid of D axes a Gaussian process with a product covariance is exact in O(N^((D+1)/D)) operations, where "
        "others need O(N^3)."
    ),
)
def kronecker_gp(*, seed: int = 0) -> Measurement:
    """Compare with dense algebra on 11 x 10 x 9 cells, and time the likelihood with its gradient on growing cubes.

    Holds if negative log likelihood (relative), gradient, posterior mean and variance differ by at most 1e-8, the time
    grows with a power of the number of cells of at most 1.5 between 32 and 96 levels of each axis (the paper's bound is
    4/3, and single products of matrices are below it), and the time of dense algebra with one of at least 2 between 6
    and 12 levels.
    """
    gp = process((11, 10, 9))
    values = _values((11, 10, 9), seed)
    nll, gradient = gp.nll_and_gradient(values)
    found = gp.condition(values)
    exact = dense(gp, values)
    mine = (gradient, found.mean().flatten(), found.variance().flatten())
    off = {"negative log likelihood": abs(nll / float(exact[0]) - 1)}
    for name, one, other in zip(("gradient", "mean", "variance"), mine, exact[1:], strict=True):
        off[name] = float((one - other).abs().max())
    seconds = {}
    for label, sizes in (("grid", _SIZES), ("dense", _DENSE_SIZES)):
        work: dict[str, Callable[[], object]] = {}
        for n in sizes:
            cube, given = process((n,) * 3), _values((n,) * 3, seed)
            work[str(n)] = partial(_anew if label == "grid" else dense, cube, given)
        seconds[label] = fastest(work, 3)
    powers = {label: exponent([int(n) ** 3 for n in times], list(times.values())) for label, times in seconds.items()}
    holds = max(off.values()) <= _EXACT and powers["grid"] <= _GRID and powers["dense"] >= _DENSE
    grid = seconds["grid"]
    text = (
        f"990 cells: {', '.join(f'{name} within {value:.0e}' for name, value in off.items())} of dense algebra\n"
        f"likelihood and gradient: {1e3 * grid['32']:.1f} ms on 32^3 cells, {1e3 * grid['96']:.0f} ms on 96^3; it "
        f"grows as N^{powers['grid']:.2f}, with dense algebra as N^{powers['dense']:.2f}"
    )
    numbers: dict[str, Number] = {f"{name}: largest difference": value for name, value in off.items()}
    numbers |= {f"{label}: power of N": power for label, power in powers.items()}
    return Measurement(holds, text, numbers)


def process(shape: tuple[int, ...]) -> GridGP:
    """Three kernels, of the unit cube."""
    axes = [torch.linspace(0, 1, n, dtype=torch.float64) for n in shape]
    return GridGP(axes, [RBF(0.3), Matern32(0.5), Matern52(0.4)], variance=1.3, noise=0.1)


def _anew(gp: GridGP, values: Tensor) -> object:
    """The likelihood and its gradient, with nothing kept of the last time."""
    return gp.with_logs(gp.logs()).nll_and_gradient(values)


def _values(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def dense(gp: GridGP, values: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Negative log likelihood, its gradient, posterior mean and variance by the dense covariance."""
    prior = gp.prior.dense()
    covariance = prior.clone()
    covariance.diagonal().add_(gp.noise)
    root = torch.linalg.cholesky(covariance)
    inverse, y = torch.cholesky_inverse(root), values.flatten()
    solved = inverse @ y
    nll = 0.5 * (y @ solved) + root.diagonal().log().sum() + 0.5 * len(y) * math.log(2 * math.pi)
    inside = 0.5 * (inverse - torch.outer(solved, solved))
    gradient = [(inside * prior).sum(), gp.noise * inside.trace()]
    for place, (axis, kernel) in enumerate(zip(gp.axes, gp.kernels, strict=True)):
        logs = kernel.logs().requires_grad_()
        factors = [*gp.factors[:place], kernel.matrix(axis, None, logs), *gp.factors[place + 1 :]]
        whole = gp.variance * torch.kron(torch.kron(factors[0], factors[1]), factors[2])
        gradient.append(torch.autograd.grad((inside * whole).sum(), logs)[0][0])
    variance = gp.variance - torch.einsum("ij,ij->i", prior @ inverse, prior)
    return nll, torch.stack(gradient), prior @ solved, variance
