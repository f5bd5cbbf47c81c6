"""Filters along one axis at a time learn a step of the wave equation from data."""

from __future__ import annotations

import torch
from torch import Tensor

from tenfold.claims._registry import Measurement, Number, claim
from tenfold.nn.one_way import OneWayConv

# The relative error that rank 2 must reach.
_REACHED = 1e-5
# Square of the Courant number; steps of the optimizer, and random starts of which the best by the data counts.
_COURANT, _STEPS, _STARTS = 0.25, 300, 4


@claim(
    "one_way_laplacian",
    paper="A priori compression of convolutional neural networks for wave simulators",
    year=2023,
    where="the abstract: filters along one axis in place of full ones, as accurate on the wave equation in the plane",
    stated="Convolutions compressed before training simulate waves as well as full ones.",
)
def one_way_laplacian(*, seed: int = 0, problems: int = 3, side: int = 64) -> Measurement:
    """One step of ``u_tt = c^2 (u_xx + u_yy)`` on a periodic grid, from a solver with the stencil of five points.

    Learnt is what a step adds to ``2 u(t) - u(t - 1)``, a convolution of 3 x 3 with ``u(t)``, from two fields of random
    numbers: by `OneWayConv` of rank 2, and of rank 1. L-BFGS in double precision
    from random starts, of which the one that fits the data best is taken. Measured is the error of the addition on
    fields that were not learnt from, relative to it.

    Holds if rank 2, which the Laplacian has, reaches an error of at most 1e-5 in each of the problems. Rank 1 is shown
    beside it; the best such kernel leaves 0.10.
    """
    numbers: dict[str, Number] = {}
    errors: dict[int, list[float]] = {1: [], 2: []}
    for number in range(problems):
        generator = torch.Generator().manual_seed(1000 * seed + number)
        learnt, unseen = (torch.randn(2, 1, side, side, dtype=torch.float64, generator=generator) for _ in range(2))
        for rank in (1, 2):
            layer = min(
                (_trained(learnt, rank, generator) for _ in range(_STARTS)), key=lambda one: _error(one, learnt)
            )
            errors[rank].append(_error(layer, unseen))
            numbers[f"problem {number + 1}: rank {rank}"] = errors[rank][-1]
    one, two = min(errors[1]), max(errors[2])
    said = f"error of a step at most {two:.1e} with rank 2, at least {one:.2f} with rank 1, in {problems} problems"
    return Measurement(two <= _REACHED, said, numbers)


def _added(u: Tensor) -> Tensor:
    """What a step of leapfrog adds, by the five points."""
    around = sum((u.roll(shift, axis) for axis in (2, 3) for shift in (1, -1)), start=-4 * u)
    return _COURANT * around


def _error(layer: OneWayConv, fields: Tensor) -> float:
    with torch.no_grad():
        wanted = _added(fields)
        return float((layer(fields) - wanted).norm() / wanted.norm())


def _trained(fields: Tensor, rank: int, generator: torch.Generator) -> OneWayConv:
    layer = OneWayConv(
        1,
        1,
        (3, 3),
        rank,
        padding=1,
        padding_mode="circular",
        bias=False,
        execution="materialised",
        dtype=torch.float64,
        generator=generator,
    )
    wanted = _added(fields)
    scale = wanted.square().mean()
    optimizer = torch.optim.LBFGS(
        layer.parameters(), max_iter=_STEPS, tolerance_grad=1e-12, tolerance_change=1e-16, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        made = (layer(fields) - wanted).square().mean() / scale
        made.backward()
        return made

    optimizer.step(loss)
    return layer
