"""The best of many structures by its prediction of held-out cells: what is told of it, and what is true."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from tenfold.claims._registry import Measurement, Number, claim
from tenfold.network import Network
from tenfold.observations import Observations
from tenfold.structure_search import Observed, Point, Ring
from tenfold.structure_search._guard import Guard
from tenfold.structure_search.targets import Fitted

_SHAPE, _RANKS, _ORDER = (6, 6, 6, 6), (2, 2, 2, 2), (0, 2, 1, 3)
# How much nearer to the truth the answers of the guard must be, and how much worse what is chosen by them may be.
_NEARER, _WORSE = 0.5, 1.05


@claim(
    "held_out_choice",
    paper="Preserving statistical validity in adaptive data analysis",
    year=2015,
    where="the reusable holdout, as the abstract sums it up",
    stated="Held-out data that answer through Thresholdout stay valid, whatever is chosen by their answers.",
)
def held_out_choice(*, seed: int = 0, repeats: int = 8, structures: int = 40, noise: float = 0.3) -> Measurement:
    """Fit random rings to 500 noisy cells of a planted one, and take that which predicts held-out cells best.

    A tenth of the cells is held out, another tenth kept for the end. The prediction of the held-out cells is asked
    plainly, and through Thresholdout as searches ask it. The truth is the error on all other cells with fresh noise;
    distances are mean absolute differences of logarithms over ``repeats`` planted rings.

    Holds if what Thresholdout says of its choice is at most half as far from the truth as what is said plainly of the
    other choice, and its choice is at most 5 % worse in truth. What the cells that were kept for the end say of both is
    told beside.
    """
    told: dict[str, list[float]] = {name: [] for name in ("plain", "guarded")}
    unseen: dict[str, list[float]] = {name: [] for name in told}
    true: dict[str, list[float]] = {name: [] for name in told}
    for number in range(seed, seed + repeats):
        target, space, truth, rest = planted(number, noise)
        generator = np.random.default_rng(number)
        fitted = [target.fit(space.structure(space.random(generator)), seed=k) for k in range(structures)]
        assert target.held is not None
        guard = Guard(len(target.held), number)
        plain = [one.error for one in fitted]
        guarded = [_answer(guard, one) for one in fitted]
        for name, answers in (("plain", plain), ("guarded", guarded)):
            place = int(np.argmin(answers))
            network = fitted[place].network
            tested = target.tested(network)
            assert tested is not None
            told[name].append(answers[place])
            unseen[name].append(tested)
            true[name].append(_fresh_error(network, truth, rest, noise))
    numbers: dict[str, Number] = {}
    lines = []
    far: dict[str, float] = {}
    error: dict[str, float] = {}
    for name in told:
        part, far[name] = _apart(told[name], true[name])
        kept, kept_far = _apart(unseen[name], true[name])
        error[name] = float(np.mean(true[name]))
        numbers |= {
            f"{name}: told over true": part,
            f"{name}: distance of what is told": far[name],
            f"{name}: kept cells over true": kept,
            f"{name}: distance of the kept cells": kept_far,
            f"{name}: true error": error[name],
        }
        lines.append(
            f"{name}: told {part:.2f} times the truth, {far[name]:.3f} from it; by cells kept for the end {kept:.2f} "
            f"times, {kept_far:.3f} from it; true error {error[name]:.3f}"
        )
    holds = far["guarded"] <= _NEARER * far["plain"] and error["guarded"] <= _WORSE * error["plain"]
    return Measurement(holds, "\n".join(lines), numbers)


def planted(seed: int, noise: float, cells: int = 500) -> tuple[Observed, Ring, torch.Tensor, torch.Tensor]:
    """What is fitted, the space, the tensor without noise, and which of its cells nothing is known of."""
    space = Ring(_SHAPE, max_rank=3)
    truth = Network.random(space.structure(Point(_RANKS, _ORDER)), seed=seed, dtype=torch.float64).dense()
    truth = truth / truth.square().mean().sqrt()
    generator = torch.Generator().manual_seed(seed)
    known = torch.zeros(truth.numel(), dtype=torch.bool)
    known[torch.randperm(truth.numel(), generator=generator)[:cells]] = True
    known = known.reshape(_SHAPE)
    values = truth + noise * torch.randn(_SHAPE, generator=generator, dtype=truth.dtype)
    data = Observations(known.nonzero(), values[known], shape=_SHAPE)
    return Observed(data, seed=seed, test=0.1), space, truth, ~known


def _answer(guard: Guard, one: Fitted) -> float:
    assert one.inside is not None
    # Where it has answered as often as it may, nothing more is asked.
    return math.inf if guard.spent else guard.answer(one.inside, one.error)


def _fresh_error(network: Network, truth: torch.Tensor, cells: torch.Tensor, noise: float) -> float:
    """What the relative error on noisy values of these cells is on average."""
    off = float((network.dense() - truth)[cells].square().mean())
    return math.sqrt((off + noise**2) / (float(truth[cells].square().mean()) + noise**2))


def _apart(told: Sequence[float], true: Sequence[float]) -> tuple[float, float]:
    """The geometric mean of the ratios and the mean absolute difference of the logarithms."""
    logs = np.log(told) - np.log(true)
    return math.exp(float(logs.mean())), float(np.abs(logs).mean())
