"""How long fits of a search take, and the common formats before it, for arrays of several sizes.

    taskset -c 0 python -m benchmarks.search_times --evaluations 20

Seconds are those of the processor, of one thread. A search among rings takes all that its searcher computes itself, and
is divided by the fits that it made.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

import tenfold as tn
from benchmarks import machine
from tenfold import formats
from tenfold.io import read
from tenfold.network import Network
from tenfold.structure import index_names
from tenfold.structure_search import Budget, climb

ERROR = 0.1
# Of the planted rings, relative to their norm.
NOISE = 0.05


@dataclass(frozen=True)
class Times:
    """What one array took: modes of its rings, fits, seconds of the processor in all and for the common formats."""

    modes: int
    fits: int
    searching: float
    common: float


def ring(shape: tuple[int, ...], rank: int) -> Tensor:
    """A tensor ring with noise."""
    data = Network.random(formats.tensor_ring(shape, [rank] * len(shape)), seed=0).dense()
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=data.dtype)
    return data + NOISE * noise * data.norm() / noise.norm()


def photograph(size: int, *, grey: bool) -> Tensor:
    """The picture that comes with tenfold, by means over squares of pixels."""
    picture = np.asarray(read("sample:astronaut").values, dtype=np.float64)
    step = len(picture) // size
    small = picture.reshape(size, step, size, step, -1).mean((1, 3))
    return torch.from_numpy(small.mean(2) if grey else small)


ARRAYS: dict[str, Callable[[], Tensor]] = {
    "20 × 20 × 20": lambda: ring((20,) * 3, 3),
    "4⁸ = 65,536": lambda: ring((4,) * 8, 2),
    "64 × 64 × 64": lambda: ring((64,) * 3, 3),
    "photograph, 256 × 256, grey": lambda: photograph(256, grey=True),
    "photograph, 512 × 512 × 3": lambda: photograph(512, grey=False),
}


def measured(data: Tensor, evaluations: int) -> Times:
    """The common formats, and then a search among rings."""
    started = time.process_time()
    for _ in climb(data, Budget(error=ERROR), modes=index_names([f"i{n}" for n in range(data.ndim)])):
        pass
    common = time.process_time() - started
    started = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what was not reached
        found = tn.search(data, error=ERROR, space="ring", evaluations=evaluations, progress=False)
    return Times(found.space.modes, found.fits, time.process_time() - started, common)


def main(arguments: list[str] | None = None) -> int:
    """Run; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search_times", description=__doc__.split("\n")[0])
    parser.add_argument("--evaluations", type=int, default=20, metavar="N", help="of each search (default 20)")
    parser.add_argument("--only", choices=list(ARRAYS), help="one of the arrays")
    chosen = parser.parse_args(arguments)
    if chosen.evaluations < 1:
        parser.error("--evaluations must be positive")
    print(f"{machine.description(1)['processor']}, load average {os.getloadavg()[0]:.1f}\n")
    print("| array | modes of the rings | seconds a fit | fits a minute | common formats | fits |")
    print("|---|--:|--:|--:|--:|--:|", flush=True)
    with machine.threads(1):
        measured(ring((3,) * 4, 2), 2)  # what is compiled and loaded once is no part of any row
        for name, make in ARRAYS.items():
            if chosen.only in (None, name):
                took = measured(make(), chosen.evaluations)
                each = took.searching / took.fits
                print(
                    f"| {name} | {took.modes} | {each:.2g} | {60 / each:.0f} | {took.common:.1f} s | {took.fits} |",
                    flush=True,
                )
    return 0


if __name__ == "__main__":
    sys.exit(main())
