"""EvoNorm-S0 trains as well with batches of four as with large ones, and batch norm does not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import mean

import torch
from torch import nn

from tenfold.claims._registry import Measurement, Number, claim
from tenfold.models import digits
from tenfold.nn import EvoNormS0


@claim(
    "evonorm_batch_size",
    paper="Evolving Normalization-Activation Layers",
    year=2020,
    where="Section 6, batch-independent layers: accuracy as the batch size decreases",
    stated="EvoNorm-S0 keeps its accuracy at small batch sizes, where batch norm with ReLU loses it.",
)
def evonorm_batch_size(
    *, seed: int = 0, seeds: int = 3, epochs: int = 6, batches: Sequence[int] = (128, 4)
) -> Measurement:
    """Train a network of four convolutions on 1400 handwritten digits of 8 x 8 pixels, and read 397 others.

    With EvoNorm-S0 in 8 groups, or batch norm and ReLU, behind each convolution; as many epochs with batches of 128 and
    of 4, by SGD with Nesterov momentum and a rate of 0.1 per 128 samples, in proportion to the batch as in the paper,
    that falls to zero by a cosine. Accuracies are the means over seeds.

    Holds if EvoNorm-S0 loses at most one point of 100 from large to small batches, and if batch norm does lose, and
    more than it. Takes about a minute.
    """
    layers: dict[str, Callable[[int], nn.Module]] = {
        "EvoNorm-S0": lambda channels: EvoNormS0(channels, groups=8),
        "batch norm": lambda channels: nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU()),
    }
    numbers: dict[str, Number] = {}
    lines = []
    lost = {}
    for name, layer in layers.items():
        found = {
            size: [_accuracy(layer, size, epochs, number) for number in range(seed, seed + seeds)] for size in batches
        }
        means = {size: mean(each) for size, each in found.items()}
        lost[name] = means[max(batches)] - means[min(batches)]
        numbers |= {f"{name}, batches of {size}: accuracy": each for size, each in means.items()}
        shown = ", ".join(f"{100 * each:.2f} % with batches of {size}" for size, each in means.items())
        lines.append(f"{name}: {shown}")
    holds = lost["EvoNorm-S0"] <= 0.01 and lost["batch norm"] > max(0.0, lost["EvoNorm-S0"])
    return Measurement(holds, "\n".join(lines), numbers)


def _accuracy(layer: Callable[[int], nn.Module], batch: int, epochs: int, seed: int) -> float:
    pixels, labels = digits.images()
    pixels, labels = pixels[: digits.TRAINED], labels[: digits.TRAINED]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = nn.Sequential()
        channels = 1
        for width, stride in ((16, 1), (32, 2), (32, 1), (64, 2)):
            network.append(nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)).append(layer(width))
            channels = width
        network.append(nn.AdaptiveAvgPool2d(1)).append(nn.Flatten()).append(nn.Linear(channels, 10))
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1 * batch / 128, momentum=0.9, nesterov=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * (len(pixels) // batch))
    for _ in range(epochs):
        order = torch.randperm(len(pixels), generator=generator)
        for rows in order[: len(order) // batch * batch].split(batch):
            loss = nn.functional.cross_entropy(network(pixels[rows]), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return digits.accuracy(network.eval())
