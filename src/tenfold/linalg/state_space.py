"""Gaussian processes on a line as Markov chains: Matern covariances, filter, smoother and evidence in linear time.

A chain has R components that are independent a priori. What is seen of their values u at a level comes in information
form: a factor ``exp(-u^T L u / 2 + h^T u)`` with a precision L that may be singular or zero, where nothing is seen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tenfold.errors import TenfoldError

SMOOTHNESS = (0.5, 1.5, 2.5)


@dataclass(frozen=True, eq=False)
class Chain:
    """A prior on functions of R components at some levels.

    Attributes:
        steps: the transition of the state from the level before, for each component; at the first level zero.
        stationary: the covariance of the state of each component before anything is seen.
    """

    steps: Float[Tensor, "levels R b b"]
    stationary: Float[Tensor, "R b b"]


@dataclass(frozen=True, eq=False)
class Smoothed:
    """The posterior of a chain.

    Attributes:
        mean: of the values at each level.
        covariance: of the values at each level.
        evidence: the logarithm of the integral of the prior times all factors.
        by_steps: the slope of the evidence by ``Chain.steps``, where it was asked for.
        by_stationary: that by ``Chain.stationary``.
    """

    mean: Float[Tensor, "levels R"]
    covariance: Float[Tensor, "levels R R"]
    evidence: float
    by_steps: Float[Tensor, "levels R b b"] | None = None
    by_stationary: Float[Tensor, "R b b"] | None = None


def matern(
    positions: Float[Tensor, " levels"], length: Float[Tensor, " R"], variance: Float[Tensor, " R"], smoothness: float
) -> Chain:
    """The chain of Matern processes at ascending positions; differentiable in ``length`` and ``variance``.

    Derivatives are in units of the length scale, so that every number of the state has the same magnitude. Equal
    positions are fine: the step between them is the identity.

    Raises:
        TenfoldError: a smoothness other than 1/2, 3/2 and 5/2.

    Paper: "Kalman filtering and smoothing solutions to temporal Gaussian process regression models", 2010.
    """
    rate = _rate(smoothness) / length
    gaps = torch.diff(positions, prepend=positions[:1])
    steps = _steps(gaps[:, None] * rate, smoothness)
    if len(steps):
        steps = torch.cat([torch.zeros_like(steps[:1]), steps[1:]])
    shape = torch.tensor(_STATIONARY[smoothness], dtype=variance.dtype)
    return Chain(steps, variance[:, None, None] * shape)


def independent(levels: int, variance: Float[Tensor, " R"]) -> Chain:
    """The chain of levels that know nothing of each other, each component with its variance."""
    return Chain(variance.new_zeros(levels, len(variance), 1, 1), variance[:, None, None])


def matern_slopes(
    chain: Chain,
    positions: Float[Tensor, " levels"],
    length: Float[Tensor, " R"],
    smoothed: Smoothed,
    smoothness: float,
) -> tuple[Float[Tensor, " R"], Float[Tensor, " R"]]:
    """The slopes of the evidence by the logarithms of the length scales and of the variances of a `matern` chain."""
    assert smoothed.by_steps is not None
    assert smoothed.by_stationary is not None
    drift = torch.tensor(_DRIFT[smoothness], dtype=length.dtype)
    gaps = torch.diff(positions, prepend=positions[:1])[:, None] * (_rate(smoothness) / length)
    moved = torch.einsum("ij,drjk->drik", drift, chain.steps)
    by_length = -(gaps * (smoothed.by_steps * moved).sum((2, 3))).sum(0)
    return by_length, (smoothed.by_stationary * chain.stationary).sum((1, 2))


def smooth(
    chain: Chain,
    precision: Float[Tensor, "levels R R"],
    shift: Float[Tensor, "levels R"],
    *,
    slopes: bool = False,
    plain: bool = False,
) -> Smoothed:
    """The posterior of a chain, given what is seen at each level.

    Args:
        chain: the prior.
        precision: the matrix L of each level, positive semidefinite.
        shift: the vector h of each level.
        slopes: whether the slopes of the evidence are wanted too.
        plain: take torch and no compiled kernel; to compare with.

    Cost: ``levels (b R)^3``, memory ``levels (b R)^2``, in float64.
    Papers: "Maximum likelihood estimates of linear dynamic systems", 1965 (Rauch, Tung, Striebel); the form without
    inverses is that of "Smoothing for linear and nonlinear dynamic systems", 1963 (Bryson, Frazier).
    """
    if not len(shift):
        return Smoothed(shift, precision, 0.0)
    if plain:
        return _plain(chain, precision, shift)
    kernels = _kernels()
    levels, size, order, _ = chain.steps.shape
    states = size * order
    steps, stationary, precisions, shifts = (
        array.detach().to(torch.float64).contiguous().numpy()
        for array in (chain.steps, chain.stationary, precision, shift)
    )
    means, covariances = _empty(levels, states), _empty(levels, states, states)
    gains, innovations = _empty(levels, size, size), _empty(levels, size)
    evidence = kernels.forward(steps, stationary, precisions, shifts, means, covariances, gains, innovations)
    mean, covariance = _tensor(levels, size), _tensor(levels, size, size)
    by_steps = torch.zeros(chain.steps.shape if slopes else (1, 1, 1, 1), dtype=torch.float64)
    by_stationary = torch.zeros(chain.stationary.shape, dtype=torch.float64)
    kernels.backward(steps, stationary, means, covariances, gains, innovations, mean.numpy(), covariance.numpy(),
                     by_steps.numpy(), by_stationary.numpy(), slopes)  # fmt: skip
    if slopes:
        return Smoothed(mean, covariance, float(evidence), by_steps, by_stationary)
    return Smoothed(mean, covariance, float(evidence))


def log_evidence(
    chain: Chain, precision: Float[Tensor, "levels R R"], shift: Float[Tensor, "levels R"]
) -> Float[Tensor, ""]:
    """`Smoothed.evidence` as a tensor that is differentiable in the chain, the precisions and the shifts."""
    found: Tensor = _Evidence.apply(chain.steps, chain.stationary, precision, shift)
    return found


class _Evidence(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, steps: Tensor, stationary: Tensor, precision: Tensor, shift: Tensor) -> Tensor:
        found = smooth(Chain(steps, stationary), precision, shift, slopes=True)
        second = found.covariance + found.mean[:, :, None] * found.mean[:, None, :]
        ctx.save_for_backward(found.by_steps, found.by_stationary, -second / 2, found.mean)
        return steps.new_tensor(found.evidence)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        return tuple(grad * slope for slope in ctx.saved_tensors)


def _plain(chain: Chain, precision: Tensor, shift: Tensor) -> Smoothed:
    """`smooth` in torch, by the smoother of Rauch, Tung and Striebel."""
    levels, size, order, _ = chain.steps.shape
    whole = [
        torch.stack([torch.stack([torch.diag(block[:, i, j]) for j in range(order)]) for i in range(order)])
        .permute(0, 2, 1, 3)
        .reshape(size * order, size * order)
        for block in (*chain.steps, chain.stationary)
    ]
    steps, stationary = whole[:-1], whole[-1]
    m, p = shift.new_zeros(size * order), stationary
    predicted, filtered, evidence = [], [], shift.new_zeros(())
    for step, seen, h in zip(steps, precision, shift, strict=True):
        m, p = step @ m, step @ (p - stationary) @ step.T + stationary
        predicted.append((m, p))
        u, observed = m[:size], p[:size, :size]
        system = torch.eye(size, dtype=p.dtype) + seen @ observed
        gain, right = torch.linalg.solve(system, seen), torch.linalg.solve(system, h - seen @ u)
        evidence = evidence - torch.linalg.slogdet(system).logabsdet / 2
        evidence = evidence + u @ h - u @ seen @ u / 2 + (h - seen @ u) @ observed @ right / 2
        m, p = m + p[:, :size] @ right, p - p[:, :size] @ gain @ p[:size]
        filtered.append((m, p))
    smoothed = [(m, p)]
    for level in range(levels - 2, -1, -1):
        (m_next, p_next), (m_before, p_before), (m, p) = smoothed[-1], predicted[level + 1], filtered[level]
        back = torch.linalg.solve(p_before, steps[level + 1] @ p).T
        smoothed.append((m + back @ (m_next - m_before), p + back @ (p_next - p_before) @ back.T))
    mean = torch.stack([m[:size] for m, _ in reversed(smoothed)])
    return Smoothed(mean, torch.stack([p[:size, :size] for _, p in reversed(smoothed)]), float(evidence))


# Of states whose derivatives are in units of the length scale over the square root of twice the smoothness: the
# stationary covariance at variance one, and the matrix whose exponential is the step by one such unit.
_STATIONARY: dict[float, list[list[float]]] = {
    0.5: [[1.0]],
    1.5: [[1.0, 0.0], [0.0, 1.0]],
    2.5: [[1.0, 0.0, -1 / 3], [0.0, 1 / 3, 0.0], [-1 / 3, 0.0, 1.0]],
}
_DRIFT: dict[float, list[list[float]]] = {
    0.5: [[-1.0]],
    1.5: [[0.0, 1.0], [-1.0, -2.0]],
    2.5: [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [-1.0, -3.0, -3.0]],
}
_ENTRIES: dict[float, Callable[[Tensor], list[Tensor]]] = {
    0.5: lambda t: [torch.ones_like(t)],
    1.5: lambda t: [1 + t, t, -t, 1 - t],
    2.5: lambda t: [
        1 + t + t**2 / 2, t * (1 + t), t**2 / 2,
        -(t**2) / 2, 1 + t - t**2, t * (1 - t / 2),
        t * (t / 2 - 1), t * (t - 3), 1 - 2 * t + t**2 / 2,
    ],
}  # fmt: skip


def _rate(smoothness: float) -> float:
    if smoothness not in SMOOTHNESS:
        raise TenfoldError(f"smoothness must be 0.5, 1.5 or 2.5, not {smoothness}")
    return float((2 * smoothness) ** 0.5)


def _steps(t: Tensor, smoothness: float) -> Tensor:
    order = len(_DRIFT[smoothness])
    entries = torch.stack(_ENTRIES[smoothness](t), -1) * torch.exp(-t)[..., None]
    return entries.reshape(*t.shape, order, order)


def _tensor(*shape: int) -> Tensor:
    return torch.empty(*shape, dtype=torch.float64)


def _empty(*shape: int) -> Any:
    return _tensor(*shape).numpy()


@cache
def _kernels() -> ModuleType:
    from tenfold.linalg import _state_space_kernels

    return _state_space_kernels
