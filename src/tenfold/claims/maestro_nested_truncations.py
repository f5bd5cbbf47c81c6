"""Factors trained by ordered dropout can be cut at any rank, and each cut is a good one."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import nn

from tenfold.claims._digits import accuracy, digits, perceptron, train
from tenfold.claims._registry import Measurement, Number, claim
from tenfold.nn.low_rank import Maestro, TrainedRankPruning

_RANKS = (2, 3, 4, 5, 6)
_HEAD = "5"
_VALUES = (5.0, 3.0, 1.0)


@claim(
    "maestro_nested_truncations",
    paper="Maestro: Uncovering Low-Rank Structures via Trainable Decomposition",
    year=2024,
    where="the theorem on linear maps, and the experiments: accuracy by size without retraining",
    stated=(
        "Ordered dropout of ranks finds the singular value decomposition of a linear map, for all ranks at once, and "
        "networks trained by it can be cut to any rank with a graceful loss of accuracy."
    ),
)
def maestro_nested_truncations(*, seed: int = 0, seeds: int = 3, epochs: int = 40) -> Measurement:
    """A linear map with singular values 5, 3 and 1 in random bases, and two hidden layers of 128 on digits.

    The map takes inputs on the sphere to what a target of its own makes of them, 64 a step in 2,000 steps of Adam. The
    network is trained once, at rank 12 and without the group lasso, and both hidden layers are cut at ranks 2 to 6;
    beside it the dense network, trained as long, is truncated by SVDs.

    Holds if the map's leading columns are within 2 % of the norm that the best approximation of their rank loses (of
    the least singular value, where that is nothing), and if in the mean of three seeds the network loses accuracy with
    every rank less, and at each rank less of it than the dense one.
    """
    lost, best = _linear(seed)
    within = all(one <= other + 0.02 * max(other, _VALUES[-1]) for one, other in zip(lost, best, strict=True))
    ours, theirs = dict.fromkeys(_RANKS, 0.0), dict.fromkeys(_RANKS, 0.0)
    whole = full = 0.0
    for number in range(seed, seed + seeds):
        data = digits(number)
        dense = perceptron(number)
        train(dense, data, epochs=epochs, seed=number)
        model = perceptron(number)
        scheme = Maestro(model, rank=12, penalty=0.0, seed=number, skip=_HEAD)
        train(model, data, epochs=epochs, seed=number, scheme=scheme, lr=6e-3)
        whole, full = whole + accuracy(dense, data) / seeds, full + accuracy(model, data) / seeds
        for rank in _RANKS:
            cut = TrainedRankPruning(deepcopy(dense), rank=rank, skip=_HEAD).finish()
            ours[rank] += accuracy(scheme.truncated(rank), data) / seeds
            theirs[rank] += accuracy(cut, data) / seeds
    graceful = all(ours[rank] <= ours[rank + 1] for rank in _RANKS[:-1])
    holds = within and graceful and all(ours[rank] > theirs[rank] for rank in _RANKS)
    numbers: dict[str, Number] = {"dense": whole, "rank 12": full}
    lines = [
        f"a map cut at rank {n}: loses {one:.3f}, the best {two:.3f}"
        for n, (one, two) in enumerate(zip(lost, best, strict=True), start=1)
    ]
    lines.append(f"digits: at rank 12 {full:.1%}, dense {whole:.1%}")
    for n, (one, two) in enumerate(zip(lost, best, strict=True), start=1):
        numbers |= {f"map, rank {n}: loses": one, f"map, rank {n}: least loss": two}
    for rank in _RANKS:
        numbers |= {f"digits, rank {rank}: cut": ours[rank], f"digits, rank {rank}: dense, truncated": theirs[rank]}
        lines.append(f"cut at rank {rank} {ours[rank]:.1%}, dense and truncated {theirs[rank]:.1%}")
    return Measurement(holds, "\n".join(lines), numbers)


def _linear(seed: int, size: int = 6, steps: int = 2000) -> tuple[list[float], list[float]]:
    """Norms of what is lost at each rank: of the trained factors, and by the best approximation."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    values = torch.tensor(_VALUES, dtype=torch.float64)
    target = torch.linalg.qr(normal(size, 3)).Q * values @ torch.linalg.qr(normal(size, 3)).Q.T
    model = nn.Sequential(nn.utils.skip_init(nn.Linear, size, size, bias=False, dtype=torch.float64))
    model[0].weight.data = normal(size, size) / size**0.5
    scheme = Maestro(model, rank=3, penalty=0.0, seed=seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        inputs = normal(64, size)
        inputs = size**0.5 * inputs / inputs.norm(dim=1, keepdim=True)
        scheme.step(lambda x=inputs: (model(x) - x @ target.T).square().sum(1).mean(), optimizer)  # type: ignore[misc]
        schedule.step()
    identity = torch.eye(size, dtype=torch.float64)
    with torch.no_grad():
        lost = [float((scheme.truncated(rank)(identity).T - target).norm()) for rank in (1, 2, 3)]
    return lost, [float(values[rank:].norm()) for rank in (1, 2, 3)]
