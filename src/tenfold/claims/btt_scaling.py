"""How the error of networks with structured layers falls with compute."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from tenfold._threads import threads_for
from tenfold.claims._clock import exponent
from tenfold.claims._registry import Measurement, Number, claim
from tenfold.claims._training import FAMILIES, mean_square, multiplications, perceptron, trained
from tenfold.nn import param_groups

_INPUTS, _OUTPUTS, _HIDDEN, _BASE, _RATE = 16, 16, 2, 64, 0.004
# Chosen so that the families cover the same range of products.
WIDTHS: Mapping[str, Sequence[int]] = {
    "dense": (16, 32, 64, 128),
    "BTT": (16, 36, 100, 256),
    "Monarch": (16, 49, 144, 400),
    "Kronecker": (25, 64, 196, 484),
    "low rank": (16, 49, 144, 400),
}


@claim(
    "btt_scaling",
    paper="Compute better spent: replacing dense layers with structured matrices",
    year=2024,
    where="Section 5, scaling laws of structures",
    stated="At equal compute block tensor trains have a lower error than dense layers, with a better exponent.",
)
def btt_scaling(
    *,
    seed: int = 0,
    seeds: int = 3,
    widths: Mapping[str, Sequence[int]] = WIDTHS,
    steps: int = 600,
    batch: int = 128,
    samples: int = 2000,
) -> Measurement:
    """Train networks of several widths on what a random network does to 2000 inputs; fit error = a products^-p.

    Two layers of each family between dense ones; all families with the same steps of Adam, the same batches and
    learning rates that suit their cores. The error is the mean square on the training inputs, as in the paper, over
    the variance. Products are those of one input through all layers. Errors at equal compute are read off the fitted
    lines in the middle of the range, in logarithms, that all families cover. All of it is done anew, with another
    function, other inputs and other starts, for three seeds.

    Holds if, in the mean over seeds, the exponents of BTT and of Monarch are at least that of dense layers, and if at
    equal compute the error of BTT is lower than those of dense layers, Kronecker products and low rank. The range over
    seeds is told beside.
    """
    runs: dict[str, list[list[tuple[int, float]]]] = {name: [] for name in widths}
    with threads_for(0):
        for number in range(seed, seed + seeds):
            inputs, wanted = problem(number, samples)
            for name, each in widths.items():
                runs[name].append([scaled(name, width, inputs, wanted, steps, batch, number) for width in each])
    counts = {name: [products for products, _ in seen[0]] for name, seen in runs.items()}
    middle = math.sqrt(max(map(min, counts.values())) * min(map(max, counts.values())))
    lines = [
        f"{steps} steps, {samples} inputs, {seeds} seeds, means (least to largest): "
        f"error at {middle:.0f} products, exponent; mean error by products"
    ]
    numbers: dict[str, Number] = {"products": middle}
    powers, level = {}, {}
    for name, seen in runs.items():
        slopes = [-exponent(*zip(*points, strict=True)) for points in seen]
        levels = [_at(points, power, middle) for points, power in zip(seen, slopes, strict=True)]
        powers[name], level[name] = statistics.mean(slopes), statistics.mean(levels)
        errors = [statistics.mean(points[n][1] for points in seen) for n in range(len(counts[name]))]
        listed = ", ".join(f"{error:.3f} at {products}" for products, error in zip(counts[name], errors, strict=True))
        lines.append(
            f"{name}: {level[name]:.4f} ({min(levels):.4f} to {max(levels):.4f}), exponent {powers[name]:.3f} "
            f"({min(slopes):.3f} to {max(slopes):.3f}); {listed}"
        )
        numbers |= {f"{name}: exponent": powers[name], f"{name}: error": level[name]}
        numbers |= {f"{name}: exponent, seed {seed + n}": value for n, value in enumerate(slopes)}
        numbers |= {f"{name}: error, seed {seed + n}": value for n, value in enumerate(levels)}
        pairs = zip(counts[name], errors, strict=True)
        numbers |= {f"{name}: error at {products} products": error for products, error in pairs}
    better = all(powers[name] >= powers["dense"] for name in ("BTT", "Monarch"))
    lower = all(level["BTT"] < level[name] for name in ("dense", "Kronecker", "low rank"))
    return Measurement(better and lower, "\n".join(lines), numbers)


def problem(seed: int, samples: int) -> tuple[Tensor, Tensor]:
    """Normal inputs and what a random network with two hidden layers of 256 makes of them, of variance one."""
    generator = torch.Generator().manual_seed(seed)
    teacher = nn.Sequential(
        nn.Linear(_INPUTS, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, _OUTPUTS)
    )
    for parameter in teacher.parameters():
        nn.init.normal_(parameter, std=(2 / parameter.shape[-1]) ** 0.5, generator=generator)
    inputs = torch.randn(samples, _INPUTS, generator=generator)
    with torch.no_grad():
        wanted = teacher(inputs)
    return inputs, (wanted - wanted.mean(0)) / wanted.std(0)


def scaled(
    name: str, width: int, inputs: Tensor, wanted: Tensor, steps: int, batch: int, seed: int
) -> tuple[int, float]:
    """Products for one input, and the error on the training inputs after training."""
    model = perceptron(inputs.shape[1], width, wanted.shape[1], FAMILIES[name], hidden=_HIDDEN, seed=seed)
    groups = param_groups(model, _RATE, base_width=_BASE, unscaled=["0"])
    trained(model, groups, inputs, wanted, steps=steps, batch=batch, seed=seed)
    return multiplications(model), mean_square(model, inputs, wanted)


def _at(points: Sequence[tuple[int, float]], power: float, products: float) -> float:
    """The fitted line there."""
    level = sum(math.log(error) + power * math.log(x) for x, error in points) / len(points)
    return math.exp(level - power * math.log(products))
