"""A budget shared exactly among the layers of a trained network, beside equal shares."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence

import torch

from tenfold.claims._registry import Measurement, Number, claim
from tenfold.compression import (
    allocate,
    census,
    collect,
    difference,
    forward,
    methods,
    outputs,
    price,
    replaced,
    uniform,
    weigh,
)
from tenfold.models import digits

# Shares of the bytes at which the two are compared, and how much larger the error of the rival must be.
_SIZES = (0.05, 0.08, 0.12, 0.16, 0.2, 0.24)
_LARGER = 1.5


@claim(
    "layerwise_allocation",
    paper="L-GreCo: Layerwise-adaptive gradient compression for efficient data-parallel deep learning",
    year=2024,
    where="the abstract and section 3: choosing for each layer beats one setting for all",
    stated="Per-layer parameters chosen by dynamic programming compress more at the same error than uniform ones.",
)
def layerwise_allocation(*, seed: int = 0, batches: int = 6) -> Measurement:
    """A trained network of five layers at six sizes; all ways of sharing choose from the same candidates.

    The error is measured, not expected: of the outputs of the compressed network on its calibration data, relative.
    Equal shares leave unspent what a layer cannot use of its share. So that this does not decide, the rival is equal
    shares and then the rest spent: again and again the choice that lowers the expected error most for each byte, as
    long as one fits. Equal shares as they are, and such spending from the cheapest choices on, are told beside.

    Holds if the exact allocation is never worse than the rival by more than 2 %, and the rival is worse 1.5 times or
    more at the median of the sizes.
    """
    model = digits.digits()
    order = torch.randperm(len(digits.batches()), generator=torch.Generator().manual_seed(seed))
    data = [digits.batches()[place] for place in order[:batches].tolist()]
    sites = census(model).sites
    moments, kept = collect(model, sites, data, forward, tell=lambda _: None)
    reference = outputs(model, kept, forward)
    entries = list(methods().values())
    choices = [weigh(model, site, price(site, moments[site.name], entries), kept, reference, forward) for site in sites]
    costs = [[float(choice.bytes) for choice in row] for row in choices]
    losses = [[choice.loss for choice in row] for row in choices]
    whole = census(model).bytes

    def error(share: Callable[..., list[int]], size: float) -> float:
        picks: Sequence[int] = share(costs, losses, size * whole)
        chosen = [row[pick] for row, pick in zip(choices, picks, strict=True)]
        modules = {s.names: c.build() for s, c in zip(sites, chosen, strict=True) if c.candidate is not None}
        return math.sqrt(difference(replaced(model, modules), kept, reference, forward))

    numbers: dict[str, Number] = {}
    ratios: dict[str, list[float]] = {name: [] for name in _RIVALS}
    for size in _SIZES:
        exact = error(allocate, size)
        numbers[f"size {size:g}: exact"] = exact
        for name, share in _RIVALS.items():
            numbers[f"size {size:g}: {name}"] = found = error(share, size)
            ratios[name].append(found / exact)
    lines = [f"errors over that of the exact allocation, with {', '.join(f'{size:g}' for size in _SIZES)} of the bytes"]
    for name, each in ratios.items():
        numbers[f"{name}: median ratio"] = statistics.median(each)
        lines.append(f"{name}: {', '.join(f'{ratio:.2f}' for ratio in each)}, median {statistics.median(each):.2f}")
    decides = ratios[_DECIDES]
    return Measurement(min(decides) >= 1 / 1.02 and statistics.median(decides) >= _LARGER, "\n".join(lines), numbers)


def improved(
    costs: Sequence[Sequence[float]], errors: Sequence[Sequence[float]], budget: float, picks: Sequence[int]
) -> list[int]:
    """Choices that are improved one at a time, by the most error for each byte, until nothing more fits the budget."""
    chosen = list(picks)
    while True:
        left = budget - math.fsum(cost[pick] for cost, pick in zip(costs, chosen, strict=True))
        best, step = 0.0, None
        for layer, (cost, loss) in enumerate(zip(costs, errors, strict=True)):
            for number, (needed, made) in enumerate(zip(cost, loss, strict=True)):
                more, gain = needed - cost[chosen[layer]], loss[chosen[layer]] - made
                if gain > 0 and more <= left:
                    rate = gain / more if more > 0 else math.inf
                    if rate > best:
                        best, step = rate, (layer, number)
        if step is None:
            return chosen
        chosen[step[0]] = step[1]


def _filled(costs: Sequence[Sequence[float]], errors: Sequence[Sequence[float]], budget: float) -> list[int]:
    return improved(costs, errors, budget, uniform(costs, errors, budget))


def _greedy(costs: Sequence[Sequence[float]], errors: Sequence[Sequence[float]], budget: float) -> list[int]:
    return improved(costs, errors, budget, [min(range(len(cost)), key=cost.__getitem__) for cost in costs])


_DECIDES = "equal shares, the rest spent"
_RIVALS: Mapping[str, Callable[..., list[int]]] = {
    "equal shares": uniform,
    _DECIDES: _filled,
    "greedy from the cheapest": _greedy,
}
