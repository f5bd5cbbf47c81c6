"""How fast gradient descent senses a matrix whose rank it takes for larger than it is."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from tenfold.claims._clock import exponent
from tenfold.claims._registry import Measurement, Number, claim
from tenfold.completion.matrix_sensing import Everything, matrix_sensing

PAPER = (
    "How over-parameterization slows down gradient descent in matrix sensing: the curses of symmetry and initialization"
)
_SIZE, _SPECTRUM, _RANK = 50, (1.0, 0.8, 0.6), 6
_STARTS = (0.2, 0.5, 1.0)
_SLOPE, _FALL = (-1.15, -0.85), 10


@claim(
    "sensing_rates",
    paper=PAPER,
    year=2024,
    where="the abstract",
    stated=(
        "With too large a rank the squared error of the symmetric factorisation falls no faster than 1/T^2, that of "
        "two factors like exp(-c a^2 T) for starts of size a."
    ),
)
def sensing_rates(*, seed: int = 0, seeds: int = 3) -> Measurement:
    """50 × 50 matrices with singular values 1, 0.8 and 0.6, measured wholly; steps of 0.02 at rank 6 (and at 3).

    Holds if on each draw the error of the symmetric descent at rank 6 falls between steps 1,000 and 20,000 with a power
    of T from -1.15 to -0.85 (its square twice that), at rank 3 it is below 1e-10 after 5,000 steps, and after 5,000
    steps of two factors each larger start of 0.2, 0.5, 1 has an error smaller by a factor of ten at least.
    """
    numbers: dict[str, Number] = {}
    lines = []
    holds = True
    sensing = Everything((_SIZE, _SIZE))
    for number in range(seed, seed + seeds):
        square, general = drawn(number)
        wide = matrix_sensing(square, sensing, rank=_RANK, symmetric=True, steps=20_000, truth=square, seed=number)
        exact = matrix_sensing(square, sensing, rank=3, symmetric=True, steps=5_000, truth=square, seed=number)
        assert wide.errors is not None
        assert exact.errors is not None
        times = [round(1000 * 20 ** (part / 10)) for part in range(11)]
        slope = exponent(times, [wide.errors[time] for time in times])
        ends = []
        for start in _STARTS:
            both = matrix_sensing(general, sensing, rank=_RANK, steps=5_000, start=start, truth=general, seed=number)
            assert both.errors is not None
            ends.append(both.errors[-1])
        ordered = all(after * _FALL <= before for before, after in itertools.pairwise(ends))
        holds &= _SLOPE[0] <= slope <= _SLOPE[1] and exact.errors[-1] < 1e-10 and ordered
        numbers |= {f"draw {number}: power": slope, f"draw {number}: rank 3": exact.errors[-1]}
        numbers |= {f"draw {number}: start {start:g}": end for start, end in zip(_STARTS, ends, strict=True)}
        lines.append(
            f"draw {number}: symmetric, rank 6: T^{slope:.2f}, rank 3: {exact.errors[-1]:.0e}; two factors after 5,000 "
            f"steps: {', '.join(f'{end:.0e} from {start:g}' for start, end in zip(_STARTS, ends, strict=True))}"
        )
    return Measurement(holds, "\n".join(lines), numbers)


def drawn(seed: int) -> tuple[Tensor, Tensor]:
    """A symmetric and a general matrix with these singular values."""
    generator = torch.Generator().manual_seed(seed)
    left, right = (
        torch.linalg.qr(torch.randn(_SIZE, len(_SPECTRUM), generator=generator, dtype=torch.float64)).Q
        for _ in range(2)
    )
    spectrum = torch.tensor(_SPECTRUM, dtype=torch.float64)
    return left * spectrum @ left.T, left * spectrum @ right.T
