"""Equations whose solutions turn fast: seconds a step beside a dense implementation, and errors of the sample problems.

    taskset -c 0 python -m benchmarks.gp_hm --out gp_hm.json

A step of Adam on the paper's objective along two coordinates, by `tenfold.pde.gp_hm` and by a plain port: the mixture
of 30 peaks at all pairs of points of an axis, derivatives in closed form, inverses and determinants by LU
(`torch.linalg.solve` and `slogdet`), slopes by autograd. Both have the same parameters, and must have the same
objective and slopes before anything is timed. They take turns; medians of seconds of the processor count, one thread.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from torch import Tensor

import tenfold as tn
from benchmarks import machine
from tenfold.pde import Problem, read, samples
from tenfold.pde.gp_hm import _JITTER, _Model

SIZES = (100, 200, 400, 600)
PEAKS = 30


def dense_objective(model: _Model) -> Tensor:
    """The objective of the paper for u_xx + u_yy = f, as a plain port computes it."""
    problem, values = model.problem, model.parameters["values"]
    solved, second, determinants = [], [], []
    for place, axis in enumerate(problem.axes):
        weights, scales, frequencies = model.peaks(axis.name)
        assert frequencies is not None
        grid = axis.grid()
        d = (grid[:, None] - grid[None, :]).abs()[..., None]
        s = math.sqrt(5) * scales
        turn = 2 * torch.pi * frequencies
        decay, cos, sin = torch.exp(-s * d), torch.cos(turn * d), torch.sin(turn * d)
        m = (1 + s * d + s * s * d * d / 3) * decay
        m1 = -(s * s / 3) * d * (1 + s * d) * decay
        m2 = -(s * s / 3) * (1 + s * d - s * s * d * d) * decay
        k = (weights * m * cos).sum(-1) + _JITTER * torch.eye(len(grid), dtype=torch.float64)
        k2 = (weights * (m2 * cos - 2 * turn * m1 * sin - turn * turn * m * cos)).sum(-1)
        solved.append(torch.linalg.solve(k, values if place == 0 else values.T))
        second.append(k2 @ solved[-1])
        determinants.append(torch.linalg.slogdet(k)[1])
    n1, n2 = values.shape
    prior = (n2 * determinants[0] + n1 * determinants[1] + (solved[0] * solved[1].T).sum()) / 2
    residual = second[0] + second[1].T - model.right
    tau, v = model.parameters["boundary"], model.parameters["equation"]
    missed = (values[model.known] - model.given).square().sum()
    fits = len(model.given) * tau - tau.exp() * missed + values.numel() * v - v.exp() * residual.square().sum()
    return prior - model.emphasis / 2 * fits


def step(model: _Model, objective: Callable[[], Tensor]) -> Callable[[], object]:
    """One step of Adam."""
    adam = torch.optim.Adam(model.parameters.values(), lr=1e-2)

    def run() -> None:
        adam.zero_grad(set_to_none=True)
        objective().backward()
        adam.step()

    return run


def model_of(problem: Problem) -> _Model:
    return _Model(problem, PEAKS, "student", True, "spread", 200.0)


def agree(problem: Problem) -> float:
    """The largest relative difference of objective and slopes; raises where it is no rounding."""
    ours, plain = model_of(problem), model_of(problem)
    first, second = ours.objective()[0], dense_objective(plain)
    first.backward()
    second.backward()
    apart = abs(float((first - second).detach())) / abs(float(second.detach()))
    for name, value in plain.parameters.items():
        other = ours.parameters[name].grad
        assert value.grad is not None
        assert other is not None
        apart = max(apart, float((other - value.grad).norm() / value.grad.norm().clamp_min(1e-300)))
    if not apart < 1e-4:
        raise RuntimeError(f"the two disagree by {apart:.2g}")
    return apart


def step_times(size: int, rounds: int) -> dict[str, Any]:
    """Seconds a step of both on a grid of ``size`` by ``size`` points."""
    problem = read("sample:poisson_2d_sin100").with_grid([size])
    apart = agree(problem)
    ours, plain = model_of(problem), model_of(problem)
    work = {
        "tenfold": step(ours, lambda: ours.objective()[0]),
        "dense": step(plain, lambda: dense_objective(plain)),
    }
    times: dict[str, list[float]] = {name: [] for name in work}
    for turn in range(rounds + 1):
        for name, run in work.items():
            started = time.process_time()
            run()
            if turn:  # the first one compiles and allocates
                times[name].append(time.process_time() - started)
    return {"size": size, "apart": apart, **{name: median(found) for name, found in times.items()}}


def solved(name: str, size: int | None = None) -> dict[str, Any]:
    """A sample by collocation: errors, and seconds."""
    solution = tn.solve(f"sample:{name}", grid=size, progress=False)
    return solution.summary()


def main(arguments: list[str] | None = None) -> int:
    """Run; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gp_hm", description=__doc__.split("\n")[0])
    parser.add_argument("--smoke", action="store_true", help="small grids and two problems, to see that it runs")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), help="points along each coordinate")
    parser.add_argument("--rounds", type=int, default=3, help="steps of each that are timed (default 3)")
    parser.add_argument("--large", type=int, default=1000, help="points along each side of the large grid; 0 for none")
    parser.add_argument("--out", metavar="FILE", help="where the numbers go as JSON")
    chosen = parser.parse_args(arguments)
    sizes = [24] if chosen.smoke else chosen.sizes
    names = ["poisson_sin100", "advection"] if chosen.smoke else list(samples())
    found: dict[str, Any] = {"machine": machine.description(1), "steps": [], "problems": {}}
    print(f"{found['machine']['processor']}, load average {os.getloadavg()[0]:.1f}\n")
    with machine.threads(1):
        print("| grid | tenfold, s a step | dense, s a step | times faster |\n|---|--:|--:|--:|", flush=True)
        for size in sizes:
            row = step_times(size, chosen.rounds)
            found["steps"].append(row)
            ratio = row["dense"] / row["tenfold"]
            print(f"| {size} × {size} | {row['tenfold']:.3g} | {row['dense']:.3g} | {ratio:.1f} |", flush=True)
        print(
            "\n| problem | grid | relative L2 error | residual between | seconds |\n|---|---|--:|--:|--:|", flush=True
        )
        large = [] if chosen.smoke or not chosen.large else [("poisson_2d_sin100", chosen.large)]
        for name, points in [*((name, None) for name in names), *large]:
            told = solved(name, points)
            found["problems"][f"{name} {' x '.join(map(str, told['grid']))}"] = told
            print(
                f"| {name} | {' × '.join(map(str, told['grid']))} | {told['error']:.1e} | "
                f"{told['residual_between']:.1e} | {told['seconds']:.1f} |",
                flush=True,
            )
    if chosen.out:
        with open(chosen.out, "w", encoding="utf-8") as file:
            json.dump(found, file, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
