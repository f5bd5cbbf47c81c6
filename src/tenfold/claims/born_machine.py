"""A matrix product state learns a distribution exactly, and its entropies say which features depend on one another."""

from __future__ import annotations

import itertools
import math

import torch

from tenfold.claims._registry import Measurement, claim
from tenfold.models import born_machine as learn

_SIDE = 4
_NEAR = 1e-4
_MASS = 1e-6
_ENTROPY = 1e-3


@claim(
    "born_machine",
    paper="Unsupervised generative modeling using matrix product states",
    year=2018,
    where="Section IV A",
    stated=(
        "A matrix product state learns the bars and stripes data set to its entropy, ln of the number of patterns, and "
        "samples drawn from it are patterns."
    ),
)
def born_machine(*, seed: int = 0, sweeps: int = 8) -> Measurement:
    """The 30 bars and stripes on a grid of 4 x 4 cells, bond dimension at most 16, ``sweeps`` sweeps.

    Holds if the mean negative log-likelihood is within 10^-4 of ln 30, if the patterns have all but 10^-6 of the
    probability, if 1000 samples are all patterns, and if the mutual information of each pair of cells agrees to 10^-3
    nats with that of the data (counted), on average over the pairs.
    """
    rows = bars_and_stripes(_SIDE)
    machine = learn(rows, sweeps=sweeps, seed=seed)
    away = machine.history[-1] - math.log(len(rows))
    outside = 1 - float(machine.log_probability(rows).exp().sum())
    known = set(map(tuple, rows.tolist()))
    strange = sum(tuple(row) not in known for row in machine.sample(1000, seed=seed).tolist())
    found = machine.mutual_information()
    difference = float((found - counted_information(rows)).abs().mean())
    holds = away <= _NEAR and outside <= _MASS and strange == 0 and difference <= _ENTROPY
    text = (
        f"{machine.history[-1]:.6f} nats a row, ln {len(rows)} = {math.log(len(rows)):.6f}; probability outside the "
        f"patterns {outside:.1e}; {strange} of 1000 samples are none; mutual information off by {difference:.1e} nats"
    )
    numbers = {"nats": machine.history[-1], "outside": outside, "strange": strange, "information": difference}
    return Measurement(holds, text, numbers)


def bars_and_stripes(side: int) -> torch.Tensor:
    """Every grid whose rows are each of one colour, and every grid whose columns are, one a row."""
    bits = list(itertools.product([0, 1], repeat=side))
    return torch.tensor(
        sorted({tuple(b for b in line for _ in range(side)) for line in bits} | {line * side for line in bits})
    )


def counted_information(rows: torch.Tensor) -> torch.Tensor:
    """The mutual information of every pair of columns of equally likely rows, entropies on the diagonal."""
    size = int(rows.max()) + 1
    one_hot = torch.nn.functional.one_hot(rows, size).double()
    joint = torch.einsum("mia,mjb->ijab", one_hot, one_hot) / len(rows)
    both = -torch.special.xlogy(joint, joint).sum((2, 3))
    single = both.diagonal()
    made = single[:, None] + single - both
    made.diagonal().copy_(single)
    return made
