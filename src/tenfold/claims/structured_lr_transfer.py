"""With learning rates that suit each core the best rate is the same at every width."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tenfold._threads import threads_for
from tenfold.claims._registry import Measurement, Number, claim
from tenfold.claims._training import FAMILIES, mean_square, perceptron, trained
from tenfold.nn import StructuredLinear, param_groups

_INPUTS, _HIDDEN, _BASE = 32, 2, 64
# The theory: no drift with ours, a factor sqrt(1024 / 64) = 4 with the rule for dense layers. The bounds are at the
# geometric mean of the two.
_FLAT = _DRIFT = 2.0


@claim(
    "structured_lr_transfer",
    paper="Compute better spent: replacing dense layers with structured matrices",
    year=2024,
    where="Section 4, structure-aware learning rates",
    stated=(
        "With structure-aware learning rates the best rate is the same at all widths; with the rule for dense layers "
        "it is not."
    ),
)
def structured_lr_transfer(
    *,
    seed: int = 0,
    seeds: int = 3,
    widths: Sequence[int] = (64, 256, 1024),
    rates: Sequence[float] = tuple(2.0**n for n in range(-11, -1)),
    steps: int = 80,
    batch: int = 128,
) -> Measurement:
    """Train networks with two Monarch layers on a random function at each width and rate, with either rule.

    The function is that of a random dense network with one hidden layer of 64, of 32 normal numbers. Rates are powers
    of two; the best rate is where a parabola through the three errors around the least one, in logarithms, is lowest.
    Ours is ``lr base / (cores inputs)`` of each core; the rule for dense layers gives each core ``lr base / width``.
    Three seeds give three functions with their inputs and starts.

    Holds if the largest best rate over the smallest one, over all widths, is in the mean over seeds at most 2 with ours
    and above 2 with the other, where theory says 1 and 4. The range over seeds is told beside.
    """
    drifts: dict[str, list[float]] = {"structured": [], "dense": []}
    best: dict[str, list[list[float]]] = {rule: [] for rule in drifts}
    numbers: dict[str, Number] = {}
    with threads_for(0):
        for number in range(seed, seed + seeds):
            inputs, wanted = _problem(number)
            for rule, found in drifts.items():
                here = []
                for width in widths:
                    errors = [_error(rule, width, rate, inputs, wanted, steps, batch, number) for rate in rates]
                    here.append(_lowest(rates, errors))
                    numbers[f"{rule}, width {width}, seed {number}: best rate"] = here[-1]
                    numbers[f"{rule}, width {width}, seed {number}: least error"] = min(errors)
                found.append(max(here) / min(here))
                best[rule].append(here)
                numbers[f"{rule}, seed {number}: drift"] = found[-1]
    lines = [f"widths {', '.join(map(str, widths))}; Monarch layers, {steps} steps of Adam, {seeds} seeds"]
    drift = {rule: statistics.mean(found) for rule, found in drifts.items()}
    for rule, found in drifts.items():
        shown = "; ".join(", ".join(f"{rate:.3g}" for rate in each) for each in best[rule])
        lines.append(
            f"{rule} rule: a factor {drift[rule]:.2f} in the mean ({min(found):.2f} to {max(found):.2f}), "
            f"best rates {shown}"
        )
        numbers[f"{rule}: drift"] = drift[rule]
    return Measurement(drift["structured"] <= _FLAT and drift["dense"] > _DRIFT, "\n".join(lines), numbers)


def _problem(seed: int) -> tuple[Tensor, Tensor]:
    """Normal inputs and what a random network makes of them, of variance one."""
    generator = torch.Generator().manual_seed(seed)
    teacher = nn.Sequential(nn.Linear(_INPUTS, 64), nn.ReLU(), nn.Linear(64, 1))
    for parameter in teacher.parameters():
        nn.init.normal_(parameter, std=parameter.shape[-1] ** -0.5, generator=generator)
    inputs = torch.randn(4096, _INPUTS, generator=generator)
    with torch.no_grad():
        wanted = teacher(inputs)
    return inputs, (wanted - wanted.mean()) / wanted.std()


def _error(
    rule: str, width: int, rate: float, inputs: Tensor, wanted: Tensor, steps: int, batch: int, seed: int
) -> float:
    model = perceptron(_INPUTS, width, 1, FAMILIES["Monarch"], hidden=_HIDDEN, seed=seed)
    groups: Sequence[Mapping[str, Any]] = param_groups(model, rate, base_width=_BASE, unscaled=["0"])
    if rule == "dense":
        groups = _dense_rule(model, rate)
    trained(model, groups, inputs, wanted, steps=steps, batch=batch, seed=seed)
    return mean_square(model, inputs, wanted)


def _dense_rule(model: nn.Sequential, rate: float) -> list[dict[str, Any]]:
    """Each core at the rate of a dense matrix of the layer's width; all else as ours."""
    cores = {
        id(core): rate * _BASE / layer.in_features
        for layer in model
        if isinstance(layer, StructuredLinear)
        for core in layer.cores.values()
    }
    ours = param_groups(model, rate, base_width=_BASE, unscaled=["0"])
    return [{"params": [p], "lr": cores.get(id(p), group["lr"])} for group in ours for p in group["params"]]


def _lowest(rates: Sequence[float], errors: Sequence[float]) -> float:
    """Where the parabola around the least error is lowest, in logarithms; the rate itself at an end."""
    place = min(range(len(errors)), key=errors.__getitem__)
    if place in (0, len(errors) - 1):
        return rates[place]
    before, here, after = (math.log(min(errors[n], 1e3)) for n in (place - 1, place, place + 1))
    bend = before - 2 * here + after
    shift = 0.0 if bend <= 0 else (before - after) / (2 * bend)
    return rates[place] * (rates[place + 1] / rates[place]) ** shift
