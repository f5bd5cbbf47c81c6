"""A budget shared exactly among the layers of a trained network, beside equal shares."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence

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

# Shares of the bytes at which the two are compared, and how much larger the error of equal shares must be.
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
    """A trained network of five layers at six sizes; both ways of sharing choose from the same candidates.

    The error is measured, not expected: of the outputs of the compressed network on its calibration data, relative.

    Holds if the exact allocation is never worse by more than 2 %, and equal shares are worse 1.5 times or more at the
    median of the sizes.
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
    ratios = []
    for size in _SIZES:
        exact, equal = error(allocate, size), error(uniform, size)
        numbers |= {f"size {size:g}: exact": exact, f"size {size:g}: equal shares": equal}
        ratios.append(equal / exact)
    said = ", ".join(f"{ratio:.2f} at {size:g}" for ratio, size in zip(ratios, _SIZES, strict=True))
    holds = min(ratios) >= 1 / 1.02 and statistics.median(ratios) >= _LARGER
    return Measurement(holds, f"error of equal shares over that of the exact allocation: {said} of the bytes", numbers)
