"""How far off detection is where nothing was counted: networks that each leave out a fifth of the observations."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from tenfold.completion._detection import Loss, Networks

# Each observation is left out by two of them.
_FOLDS, _TIMES = 5, 2
_EPOCHS, _PATIENCE = 80, 20


@dataclass(frozen=True, eq=False)
class LeftOut:
    """Networks, and what they say of observations that they left out.

    Attributes:
        networks: each as it was after the epoch that was best on what it left out.
        said: of each observation, the mean of the networks that left it out.
        doubt: of each observation, the variance between networks, as large as it is between those that left out.
    """

    networks: Networks
    said: Float[Tensor, " n"]
    doubt: Float[Tensor, " n"]


def left_out(
    inputs: Float[Tensor, "n D"],
    wanted: Float[Tensor, " n"],
    loss: Loss,
    sizes: list[int],
    rate: float,
    seed: int,
) -> LeftOut:
    """Train them to say what is ``wanted``, a probability for each observation.

    Costs at most 80 epochs of ten networks side by side.
    """
    generator = torch.Generator().manual_seed(seed)
    count = len(inputs)
    out = torch.zeros(_FOLDS * _TIMES, count, dtype=torch.float64)
    for begin in range(0, len(out), _FOLDS):
        out[begin + torch.arange(count) % _FOLDS, torch.randperm(count, generator=generator)] = 1
    learned = 1 - out
    networks = Networks.first(sizes, len(out), rate, generator)
    every = wanted.expand(len(out), -1)
    batch = min(max(32, count // 5), 1024)
    best = torch.full((len(out),), math.inf, dtype=torch.float64)
    kept, waited = networks.layers, 0
    for _ in range(_EPOCHS):
        for some in torch.randperm(count, generator=generator).split(batch):
            networks.step(inputs[some], every[:, some], loss, learned[:, some])
        now = (loss(every, networks(inputs)) * out).sum(1)
        better = now < best
        best = torch.where(better, now, best)
        kept = [torch.where(better[:, None, None], new, old) for new, old in zip(networks.layers, kept, strict=True)]
        waited = 0 if bool(better.any()) else waited + 1
        if waited == _PATIENCE:
            break
    networks = Networks(kept, [], 0, networks.rate)
    each = networks(inputs)
    said = (each * out).sum(0) / _TIMES
    among = ((each - said).square() * out).sum(0) / (_TIMES - 1)
    doubt = each.var(0)
    # Where they learned networks agree better than where they left out.
    return LeftOut(networks, said, doubt * max(1.0, float(among.mean()) / max(float(doubt.mean()), 1e-300)))
