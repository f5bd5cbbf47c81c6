"""Gaussian processes on grids beside GPyTorch: a step of training, the posterior, and grids with holes.

    taskset -c 0 python -m benchmarks.grid_gp --json grid_gp.json

Seconds of the processor, of one thread. What is compared takes turns; given are medians. Kernels and hyper-parameters
are equal: one RBF kernel of length 0.2 on all axes of the unit cube (Matérn 3/2 where said), noise of variance 0.01.
tenfold computes in double precision, GPyTorch in single precision, as each does by default. GPyTorch has its kernel in
the form that tutorials show (``ScaleKernel(GridKernel)``) and in its fastest one (a bare ``GridKernel``, Toeplitz off).

With holes there is no peer that goes beyond conjugate gradients: compared are linear_operator's, with its pivoted
Cholesky preconditioner, and our own with the full grid's inverse as a preconditioner. Each ends at a relative residual
of 1e-5, computed anew from what it returns, or at its limit of iterations, and the residual is given.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gpytorch
import torch
from linear_operator import settings as solver
from linear_operator.operators import DenseLinearOperator, KroneckerProductLinearOperator, MaskedLinearOperator
from torch import Tensor

from benchmarks import machine
from tenfold.completion.grid_gp import GridGP
from tenfold.linalg.conjugate_gradients import conjugate_gradients
from tenfold.linalg.covariances import RBF, Covariance, Matern32

LENGTH, NOISE, TOL = 0.2, 0.01, 1e-5
PARTS = ("steps", "predictions", "large predictions", "holes", "rough")
Numbers = dict[str, Any]


def cube(n: int) -> tuple[Tensor, Tensor]:
    """The positions of one axis, and noisy values of a smooth function on the grid of three of them."""
    line = torch.linspace(0, 1, n, dtype=torch.float64)
    smooth = torch.sin(6 * line)[:, None, None] * torch.cos(4 * line)[:, None] + line * line
    noise = torch.randn((n, n, n), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return line, smooth + math.sqrt(NOISE) * noise


def process(line: Tensor, kernel: Covariance) -> GridGP:
    return GridGP([line] * 3, kernel, noise=NOISE, tied=True)


class Peer(gpytorch.models.ExactGP):
    """The same process of GPyTorch."""

    def __init__(self, line: Tensor, values: Tensor, *, scaled: bool) -> None:
        likelihood = gpytorch.likelihoods.GaussianLikelihood()
        likelihood.noise = NOISE
        grid = [line.float()] * 3
        super().__init__(gpytorch.utils.grid.create_data_from_grid(grid), values.float().flatten(), likelihood)
        self.mean_module = gpytorch.means.ZeroMean()
        base = gpytorch.kernels.RBFKernel()
        base.lengthscale = LENGTH
        kernel: Any = gpytorch.kernels.GridKernel(base, grid=grid)
        if scaled:
            kernel = gpytorch.kernels.ScaleKernel(kernel)
            kernel.outputscale = 1.0
        self.covar_module = kernel

    def forward(self, x: Tensor) -> Any:
        return gpytorch.distributions.MultivariateNormal(self.mean_module(x), self.covar_module(x))

    def step(self) -> float:
        """The negative log likelihood of each cell, and its gradient."""
        self.train()
        self.zero_grad()
        loss = -gpytorch.mlls.ExactMarginalLogLikelihood(self.likelihood, self)(
            self(*self.train_inputs), self.train_targets
        )
        loss.backward()
        return float(loss)

    def predict(self) -> tuple[Tensor, Tensor]:
        """Mean and variance on the whole grid."""
        self.train()  # forgets what was kept of the last call
        self.eval()
        with torch.no_grad():
            found = self(*self.train_inputs)
            return found.mean, found.variance


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    started = time.process_time()
    result = run()
    return time.process_time() - started, result


def turns(runs: dict[str, tuple[Callable[[], Any], int]]) -> tuple[dict[str, float], dict[str, Any]]:
    """Median seconds of each, taken in turns as often as each says, and what it gave. More than once: after a first."""
    took: dict[str, list[float]] = {name: [] for name in runs}
    gave: dict[str, Any] = {}
    for run, times in runs.values():
        if times > 1:
            run()
    for turn in range(max(times for _, times in runs.values())):
        for name, (run, times) in runs.items():
            if turn < times:
                seconds, gave[name] = timed(run)
                took[name].append(seconds)
    return {name: statistics.median(seconds) for name, seconds in took.items()}, gave


def steps(n: int, repeats: int, slow: int) -> Numbers:
    """One negative log likelihood with its gradient."""
    line, values = cube(n)
    bare, scaled = Peer(line, values, scaled=False), Peer(line, values, scaled=True)

    def plain() -> float:
        with gpytorch.settings.use_toeplitz(False):
            return bare.step()

    seconds, gave = turns(
        {
            "tenfold": (lambda: process(line, RBF(LENGTH)).nll_and_gradient(values)[0] / values.numel(), repeats),
            "tenfold, Matérn 3/2": (lambda: process(line, Matern32(LENGTH)).nll_and_gradient(values)[0], repeats),
            "GPyTorch, bare GridKernel, Toeplitz off": (plain, repeats),
            "GPyTorch, ScaleKernel(GridKernel)": (scaled.step, slow),
        }
    )
    return {"what": f"a step of training, {n}³", "seconds": seconds, "gave": {k: str(v)[:12] for k, v in gave.items()}}


def predictions(n: int, repeats: int, slow: int, *, peer: bool) -> Numbers:
    """Posterior mean and variance on the whole grid, from the values."""
    line, values = cube(n)

    def ours() -> tuple[Tensor, Tensor]:
        found = process(line, RBF(LENGTH)).condition(values)
        return found.mean(), found.variance()

    runs: dict[str, tuple[Callable[[], Any], int]] = {"tenfold": (ours, repeats)}
    if peer:
        runs["GPyTorch, bare GridKernel"] = (Peer(line, values, scaled=False).predict, slow)
        runs["GPyTorch, ScaleKernel(GridKernel)"] = (Peer(line, values, scaled=True).predict, slow)
    seconds, gave = turns(runs)
    mean, variance = gave["tenfold"]
    apart = {
        name: [
            float((one.flatten() - theirs.double().flatten()).abs().max())
            for one, theirs in zip((mean, variance), found, strict=True)
        ]
        for name, found in gave.items()
        if name != "tenfold"
    }
    return {"what": f"mean and variance on the grid, {n}³", "seconds": seconds, "largest differences": apart}


def holes(n: int, kernel: Covariance, repeats: int, iterations: int, part: float = 0.1) -> Numbers:
    """Solving with the covariance of what was observed of a grid with holes."""
    line, values = cube(n)
    mask = torch.rand(values.shape, generator=torch.Generator().manual_seed(1)) >= part
    given = values.masked_fill(~mask, math.nan)
    gp = process(line, kernel)
    observed = values * mask

    def residual(solution: Tensor) -> float:
        off = (gp.product(solution) + NOISE * solution) * mask - observed
        return float(off.norm() / observed.norm())

    rank = 1000 if isinstance(kernel, Matern32) else 2000

    def ours() -> Tensor:
        # Made anew, so that nothing is kept of the last time.
        return process(line, kernel).condition(given, tol=TOL, rank=rank).solution

    def by_grid() -> Tensor:
        def product(rows: Tensor) -> Tensor:
            cells = rows.reshape(values.shape)
            return ((gp.product(cells) + NOISE * cells) * mask).reshape(1, -1)

        def precondition(rows: Tensor) -> Tensor:
            return (gp.pair.solve(rows.reshape(values.shape)) * mask).reshape(1, -1)

        found = conjugate_gradients(
            product, observed.reshape(1, -1), precondition=precondition, tol=TOL, max_iterations=iterations
        )
        return found.solution.reshape(values.shape)

    def by_pivots() -> Tensor:
        factors = [DenseLinearOperator(factor) for factor in gp.factors]
        seen = mask.flatten()
        covariance = MaskedLinearOperator(KroneckerProductLinearOperator(*factors), seen, seen).add_diagonal(
            torch.tensor(NOISE, dtype=torch.float64)
        )
        with (
            torch.no_grad(),
            solver.cg_tolerance(TOL * 0.1),
            solver.max_cg_iterations(iterations),
            solver.max_preconditioner_size(100),
            solver.max_cholesky_size(1),
        ):
            found = covariance.solve(values.flatten()[seen][:, None])[:, 0]
        solution = torch.zeros(values.numel(), dtype=torch.float64)
        solution[seen] = found
        return solution.reshape(values.shape)

    runs: dict[str, tuple[Callable[[], Any], int]] = {
        "tenfold": (ours, repeats),
        "conjugate gradients, preconditioned by the full grid": (by_grid, 1),
        "linear_operator, pivoted Cholesky of rank 100": (by_pivots, 1),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what has not converged is told by its residual
        seconds, gave = turns(runs)
    reached = {name: residual(solution) for name, solution in gave.items()}
    name = f"{type(kernel).__name__}, {part:.0%} holes, {n}³, {iterations} iterations at most"
    return {
        "what": name,
        "seconds": seconds,
        "residuals": reached,
        "solver": gp.condition(given, tol=TOL, rank=1000).solver,
    }


def show(numbers: Numbers) -> None:
    print(f"\n{numbers['what']}")
    ours = numbers["seconds"]["tenfold"]
    for name, seconds in numbers["seconds"].items():
        beside = f"residual {numbers['residuals'][name]:.1e}" if "residuals" in numbers else ""
        beside += f"gave {numbers['gave'][name]}" if "gave" in numbers else ""
        print(f"  {name:55s} {seconds:10.4f} s {seconds / ours:10.1f} times tenfold's  {beside}", flush=True)
    for name, (mean, variance) in numbers.get("largest differences", {}).items():
        print(f"  {name}: differs from tenfold's by {mean:.1e} in the mean, {variance:.1e} in the variance")


def main(arguments: list[str] | None = None) -> int:
    """Run; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.grid_gp", description=__doc__.split("\n")[0])
    parser.add_argument("--smoke", action="store_true", help="small grids, one repeat")
    parser.add_argument("--levels", type=int, default=64, metavar="N", help="of each axis of the cube (default 64)")
    parser.add_argument("--only", choices=PARTS, help="one of the comparisons")
    parser.add_argument("--json", type=Path, help="write the numbers there")
    chosen = parser.parse_args(arguments)
    large, small, repeats, iterations = (8, 6, 2, 50) if chosen.smoke else (chosen.levels, 16, 9, 600)
    parts: dict[str, Callable[[], Numbers]] = {
        "steps": lambda: steps(large, repeats, 1),
        "predictions": lambda: predictions(small, repeats, 1, peer=True),
        "large predictions": lambda: predictions(large, repeats, 0, peer=False),
        "holes": lambda: holes(large, RBF(LENGTH), min(repeats, 5), iterations),
        "rough": lambda: holes(large, Matern32(LENGTH), 2, iterations),
    }
    made: list[Numbers] = []
    print(f"{machine.description(1)['processor']}, load average {os.getloadavg()[0]:.1f}")
    with machine.threads(1):
        for name, part in parts.items():
            if chosen.only not in (None, name):
                continue
            made.append(part())
            show(made[-1])
            if chosen.json is not None:
                told = {"machine": machine.description(1), "numbers": made}
                chosen.json.write_text(json.dumps(told, indent=1), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
