"""Coupled variances of neighbours find channels whose angles spread better than singular vectors do."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from tenfold.claims._registry import Measurement, claim
from tenfold.claims._sparse_recovery import nmse
from tenfold.completion._krosbl import along
from tenfold.completion.am_krosbl import am_krosbl
from tenfold.completion.pc_krosbl import pc_krosbl
from tenfold.completion.svd_krosbl import svd_krosbl

_USER, _BASE, _SURFACE, _ATOMS = 6, 16, 256, 18
_PILOTS, _PATTERNS, _SPREAD = 3, 6, 3
_LARGEST = 0.12


@claim(
    "krosbl_irs",
    paper=(
        "Structure-Aware Sparse Bayesian Learning-Based Channel Estimation for Intelligent Reflecting Surface-Aided "
        "MIMO"
    ),
    year=2023,
    where="the simulations of channels whose angles spread",
    stated=(
        "Where the paths of a channel over a reflecting surface arrive from neighbouring angles, variances that are "
        "coupled find it better than variances by singular vectors."
    ),
)
def krosbl_irs(*, seed: int = 0, trials: int = 10, decibel: float = 12.0) -> Measurement:
    """Six antennas, a surface of 256 elements, sixteen antennas, angles on a grid of 18, three of them side by side.

    Three pilots for each of six patterns of the surface; the noise is known. The error is that of the whole channel,
    averaged over the patterns. Pruning is that of the authors' programs: for coupled variances (0.8 at the surface and
    at the base, none at the user) 0.01, 0.1 and 0.01 of the largest, for singular vectors 0.0001; so is the start, from
    variances of one. Holds if the mean error over ``trials`` channels at 12 dB is below 0.12 with coupled variances,
    and below that of singular vectors. What all reach from a start that follows the data is told beside.
    """
    names = ("coupled", "singular vectors", "alternating")
    errors: dict[str, list[float]] = {name + beside: [] for beside in ("", ", own start") for name in names}
    for number in range(seed, seed + trials):
        measured, dictionaries, noise, whole, truth = channel(number, decibel)
        for start, beside in ((1.0, ""), (None, ", own start")):
            every: dict[str, Any] = {"noise": noise, "start": start}
            for name, found in zip(
                names,
                (
                    pc_krosbl(measured, dictionaries, coupling=(0.8, 0, 0.8), prune=(0.01, 0.1, 0.01), **every),
                    svd_krosbl(measured, dictionaries, prune=1e-4, **every),
                    am_krosbl(measured, dictionaries, **every),
                ),
                strict=True,
            ):
                there = along(whole, found.mean)
                parts = [nmse(a, b) for a, b in zip(there, truth, strict=True)]
                errors[name + beside].append(sum(parts) / _PATTERNS)
    means = {name: sum(some) / len(some) for name, some in errors.items()}
    holds = means["coupled"] < min(_LARGEST, means["singular vectors"])
    text = "; ".join(f"{name} {value:.3f}" for name, value in means.items())
    return Measurement(holds, f"mean error of {trials} channels at {decibel:g} dB: {text}", {"trials": trials, **means})


def channel(seed: int, decibel: float) -> tuple[Tensor, list[Tensor], float, list[Tensor], Tensor]:
    """What is measured (pattern, pilot, base), its dictionaries, the noise, and the channel (pattern, user, base).

    The fourth are the dictionaries of the channel itself. The columns of the surface's dictionary are products of an
    angle in and an angle out; on one grid only as many differ as the grid has angles.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.complex128)

    def drawn(most: int) -> int:
        return int(torch.randint(most, (1,), generator=generator))

    user, base, surface = (_steering(count) for count in (_USER, _BASE, _SURFACE))
    phases = torch.randint(4, (_USER, _PILOTS), generator=generator)
    pilots = torch.exp(0.5j * math.pi * phases.double()) / _USER**0.5
    patterns = (2 * torch.randint(2, (_SURFACE, _PATTERNS), generator=generator) - 1).to(torch.complex128)
    patterns = patterns / _SURFACE**0.5
    arriving, reaching = (torch.arange(_SPREAD) + drawn(_ATOMS - _SPREAD + 1) for _ in range(2))
    first = surface[:, arriving] @ normal(_SPREAD, 1) @ user[:, drawn(_ATOMS)][None].conj()
    first = first * (_USER * _SURFACE / _SPREAD) ** 0.5
    second = base[:, reaching] @ normal(_SPREAD, 1) @ surface[:, drawn(_ATOMS)][None].conj()
    second = second * (_BASE * _SURFACE / _SPREAD) ** 0.5
    truth = torch.einsum("be,ep,eu->pub", second, patterns, first)
    over_surface = patterns.T @ (surface[:, :1] * surface.conj())
    signal = torch.einsum("pub,ut->ptb", truth, pilots)
    noise = float(signal.abs().square().mean()) * 10 ** (-decibel / 10)
    measured = signal + noise**0.5 * normal(*signal.shape)
    dictionaries = [over_surface, pilots.T @ user.conj(), base]
    return measured, dictionaries, noise, [over_surface, user.conj(), base], truth


def _steering(count: int) -> Tensor:
    """A column for each angle of the grid."""
    angles = 2 * torch.arange(_ATOMS, dtype=torch.float64) / _ATOMS - 1
    places = torch.arange(count, dtype=torch.float64)
    return torch.exp(1j * math.pi * places[:, None] * angles) / count**0.5
