"""Convolutions trained in the Tucker format keep their accuracy at ranks at which trained ones lose it."""

from __future__ import annotations

from copy import deepcopy

from tenfold.claims._digits import accuracy, convolutional, digits, numbers_of, train
from tenfold.claims._registry import Measurement, Number, claim
from tenfold.nn.low_rank import TDLRT

_CONVOLUTIONS = ("2", "4")


@claim(
    "tdlrt_accuracy_at_rank",
    paper="Geometry-aware training of factorized layers in tensor Tucker format",
    year=2024,
    where="the experiments: accuracy by compression, beside other factorizations",
    stated=(
        "Convolutions trained in the Tucker format with ranks that find themselves are about as accurate as dense ones "
        "with a fraction of their parameters, and far more than those after a Tucker decomposition to the same ranks."
    ),
)
def tdlrt_accuracy_at_rank(*, seed: int = 0, seeds: int = 3, epochs: int = 20) -> Measurement:
    """Handwritten digits, three convolutions of 32 channels; 1,400 pictures to train on and 397 to test on.

    The second and the third are trained in the Tucker format of their channels, with a tolerance of 0.2 and plain
    descent at 0.5; what else there is, and all of the dense network, by AdamW. Learning rates fall to zero over 20
    epochs. Decomposed is the dense network, by the truncated higher-order SVD to the ranks that were found.

    Holds if in the mean of three seeds both convolutions together have at most a fifth of the dense ones' numbers, and
    the network is at most three points less accurate than the dense one and at least five points more than that one
    decomposed.
    """
    rows, lines = [], []
    for number in range(seed, seed + seeds):
        data = digits(number)
        dense = convolutional(number)
        train(dense, data, epochs=epochs, seed=number)
        model = convolutional(number)
        scheme = TDLRT(model, tolerance=0.2, lr=0.5, only=_CONVOLUTIONS)
        train(model, data, epochs=epochs, seed=number, scheme=scheme)
        ranks = {name: rank for name, rank in scheme.ranks.items() if isinstance(rank, tuple)}
        scheme.finish()
        cut = TDLRT(deepcopy(dense), rank=ranks, min_rank=1, only=_CONVOLUTIONS).finish()
        sizes = [sum(numbers_of(m.get_submodule(name)) for name in _CONVOLUTIONS) for m in (model, dense)]
        rows.append((accuracy(dense, data), accuracy(model, data), accuracy(cut, data), sizes[0] / sizes[1]))
        shown = " and ".join(" × ".join(map(str, rank)) for rank in ranks.values())
        lines.append(
            f"seed {number}: ranks {shown}, {rows[-1][3]:.1%} of the numbers; accuracy {rows[-1][1]:.1%}, "
            f"dense {rows[-1][0]:.1%}, dense and decomposed {rows[-1][2]:.1%}"
        )
    whole, low, cut_to, part = (sum(column) / seeds for column in zip(*rows, strict=True))
    holds = part <= 0.2 and low >= whole - 0.03 and low >= cut_to + 0.05
    numbers: dict[str, Number] = {
        "dense": whole,
        "low rank": low,
        "dense, decomposed": cut_to,
        "part of the numbers": part,
    }
    return Measurement(holds, "\n".join(lines), numbers)
