"""Nonnegative CP of affinities over time finds communities of neurons and when each of them is active."""

from __future__ import annotations

import math

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from tenfold import formats
from tenfold.claims._registry import Measurement, claim
from tenfold.decomposition import find

_NEURONS, _TIMES, _COMMUNITIES = 80, 120, 4
_INFORMATION, _PROFILE = 0.95, 0.95
_NOISE = 0.3


@claim(
    "dynamic_connectome",
    paper="Learning dynamic representations of the functional connectome in neurobiological networks",
    year=2024,
    where="Section 3, nonnegative tensor factorization",
    stated=(
        "Nonnegative factorization of affinities between neurons over time uncovers communities and their activity "
        "together."
    ),
)
def dynamic_connectome(*, seed: int = 0, seeds: int = 5) -> Measurement:
    """Four groups of 80 neurons, each active in its own bumps of 120 time windows, affinities with 30 % noise.

    Affinities are made nonnegative as they are observed: noise is added and what falls below zero is cut. ``cp_hals``
    of rank 4 is run once on each of ``seeds`` draws. Holds if on every draw the groups read off the factors (the
    largest entry of each neuron) have a normalised mutual information of at least 0.95 with the planted ones, and the
    activities a cosine of at least 0.95.
    """
    worst, profile = 1.0, 1.0
    method = find("cp_hals").function
    for number in range(seed, seed + seeds):
        data, groups, activity = affinities(number)
        fit = method(data, formats.cp(tuple(data.shape), _COMMUNITIES), seed=number, max_sweeps=200)
        one, other, times = fit.network.cores
        worst = min(worst, agreement(groups, (one / one.norm(dim=0) + other / other.norm(dim=0)).argmax(1)))
        cosines = (activity / activity.norm(dim=0)).T @ (times / times.norm(dim=0).clamp(min=1e-30))
        rows, columns = linear_sum_assignment(-cosines.numpy())
        profile = min(profile, float(cosines[rows, columns].min()))
    holds = worst >= _INFORMATION and profile >= _PROFILE
    text = (
        f"{seeds} draws: mutual information with the planted groups at least {worst:.3f}, cosine of "
        f"the activities at least {profile:.3f}"
    )
    numbers = {"information": worst, "profile": profile, "draws": seeds}
    return Measurement(holds, text, numbers)


def affinities(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Affinities (neuron, neuron, time), the group of each neuron, and the activity (time, group) of each group."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*sizes: int) -> Tensor:
        return torch.randn(*sizes, generator=generator, dtype=torch.float64)

    groups = torch.arange(_NEURONS) % _COMMUNITIES
    strength = torch.nn.functional.one_hot(groups, _COMMUNITIES).double() * (0.5 + normal(_NEURONS, 1).abs())
    clock = torch.arange(_TIMES, dtype=torch.float64)[:, None]
    centres = _TIMES * torch.rand(2, 1, _COMMUNITIES, generator=generator, dtype=torch.float64)
    activity = torch.exp(-((clock - centres) ** 2) / (2 * 8.0**2)).sum(0)
    clean = torch.einsum("ir,jr,tr->ijt", strength, strength, activity)
    noise = normal(*clean.shape)
    return (clean + _NOISE * noise * clean.norm() / noise.norm()).clamp(min=0), groups, activity


def agreement(one: Tensor, other: Tensor) -> float:
    """The normalised mutual information of two groupings: 1 if they are the same up to names, about 0 by chance."""
    table = torch.zeros(int(one.max()) + 1, int(other.max()) + 1, dtype=torch.float64)
    table.index_put_((one, other), torch.ones(len(one), dtype=torch.float64), accumulate=True)
    table = table / table.sum()

    def entropy(p: Tensor) -> float:
        return float(-torch.special.xlogy(p, p).sum())

    rows, columns = entropy(table.sum(1)), entropy(table.sum(0))
    if rows == 0 or columns == 0:
        return 1.0 if rows == columns else 0.0
    return (rows + columns - entropy(table)) / math.sqrt(rows * columns)
