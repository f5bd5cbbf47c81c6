"""The error of alternating least squares never grows."""

from __future__ import annotations

from itertools import pairwise

import torch

from tenfold import formats
from tenfold.claims._registry import Measurement, claim
from tenfold.decomposition import Progress, find, relative_error
from tenfold.network import Network

_SHAPE = (7, 6, 5, 6)


@claim(
    "als_monotone",
    paper="The alternating linear scheme for tensor optimization in the tensor train format",
    year=2012,
    where="the algorithm ALS",
    stated="As every step of the alternating linear scheme solves for one core exactly, no sweep raises the error.",
)
def als_monotone(*, seed: int = 0, seeds: int = 5, sweeps: int = 20) -> Measurement:
    """Fit noise by trains, rings, Tucker and CP networks from random starts, and measure the error after every sweep.

    The errors are those of the networks themselves, not what the method reports. Holds if none is larger than the one
    before by more than one part in 10^9.
    """
    structures = {
        "tensor_train": formats.tensor_train(_SHAPE, 3),
        "tucker": formats.tucker(_SHAPE, 3),
        "tensor_ring": formats.tensor_ring(_SHAPE, [2, 2, 2, 2]),
        "cp": formats.cp(_SHAPE, 4),
    }
    largest, count = -1.0, 0
    for structure in structures.values():
        for number in range(seed, seed + seeds):
            noise = torch.randn(_SHAPE, generator=torch.Generator().manual_seed(number), dtype=torch.float64)
            start = Network.random(structure, seed=number, dtype=torch.float64)
            errors: list[float] = []

            def note(progress: Progress, noise: torch.Tensor = noise, errors: list[float] = errors) -> None:
                errors.append(relative_error(noise, progress.network()))

            find("als").function(noise, structure, init=start, max_sweeps=sweeps, tol=0.0, callback=note)
            for before, after in pairwise(errors):
                largest = max(largest, after / before - 1)
                count += 1
    text = (
        f"{count} sweeps of {', '.join(structures)} on noise: the largest relative change of the error in a sweep is "
        f"{largest:+.1e}"
    )
    return Measurement(largest <= 1e-9, text, {"sweeps": count, "largest_relative_change": largest})
