"""A network trained in low rank keeps its accuracy at ranks at which a network trained whole loses its own."""

from __future__ import annotations

from copy import deepcopy

from tenfold.claims._digits import accuracy, digits, numbers_of, perceptron, train
from tenfold.claims._registry import Measurement, Number, claim
from tenfold.nn.low_rank import DLRT, TrainedRankPruning

_HEAD = "5"


@claim(
    "dlrt_accuracy_at_rank",
    paper="Low-rank lottery tickets: finding efficient low-rank neural networks via matrix differential equations",
    year=2022,
    where="the experiments: accuracy by tolerance, and beside truncating a trained network",
    stated=(
        "Trained along low-rank matrices whose ranks find themselves, a network with a fraction of the parameters is "
        "about as accurate as the dense one, and far more than the dense one truncated to the same ranks."
    ),
)
def dlrt_accuracy_at_rank(*, seed: int = 0, seeds: int = 3, epochs: int = 30) -> Measurement:
    """Handwritten digits, two hidden layers of 128; 1,400 pictures to train on and 397 to test on, drawn each time.

    The hidden layers' matrices are trained with a tolerance of 0.2 and plain descent at 0.5; what else there is, and
    all of the dense network, by AdamW. Learning rates fall to zero over 30 epochs. Truncated is the dense network, by
    SVDs to the ranks that were found.

    Holds if in the mean of three seeds the network of low rank has at most a fifth of the dense one's numbers, is at
    most three points less accurate than it, and at least five points more than the dense one truncated.
    """
    rows = []
    for number in range(seed, seed + seeds):
        data = digits(number)
        dense = perceptron(number)
        train(dense, data, epochs=epochs, seed=number)
        model = perceptron(number)
        scheme = DLRT(model, tolerance=0.2, lr=0.5, skip=_HEAD)
        train(model, data, epochs=epochs, seed=number, scheme=scheme)
        ranks = {name: rank for name, rank in scheme.ranks.items() if isinstance(rank, int)}
        scheme.finish()
        cut = TrainedRankPruning(deepcopy(dense), rank=ranks, skip=_HEAD).finish()
        part = numbers_of(model) / numbers_of(dense)
        rows.append((accuracy(dense, data), accuracy(model, data), accuracy(cut, data), part, *ranks.values()))
    whole, low, cut_to, part = (sum(row[column] for row in rows) / seeds for column in range(4))
    holds = part <= 0.2 and low >= whole - 0.03 and low >= cut_to + 0.05
    lines = [
        f"seed {seed + n}: ranks {' and '.join(str(rank) for rank in ranks)}, {share:.1%} of the numbers; accuracy "
        f"{one:.1%}, dense {dense_one:.1%}, dense and truncated {truncated:.1%}"
        for n, (dense_one, one, truncated, share, *ranks) in enumerate(rows)
    ]
    numbers: dict[str, Number] = {
        "dense": whole,
        "low rank": low,
        "dense, truncated": cut_to,
        "part of the numbers": part,
    }
    return Measurement(holds, "\n".join(lines), numbers)
