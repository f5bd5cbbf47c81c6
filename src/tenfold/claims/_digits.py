"""Written digits: a small real task on which networks are trained, whole and in low rank."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tenfold.models.digits import TRAINED, images
from tenfold.nn.low_rank import DLRT, TDLRT, Scheme


@dataclass(frozen=True, eq=False)
class Digits:
    """Pictures ``[n, 1, 8, 8]`` with numbers from 0 to 1, and which digit each shows."""

    pictures: Tensor
    labels: Tensor
    test_pictures: Tensor
    test_labels: Tensor


def digits(seed: int) -> Digits:
    """1,400 of the 1,797 pictures to train on, drawn at random, and the others."""
    pictures, labels = images()
    order = torch.randperm(len(pictures), generator=torch.Generator().manual_seed(seed))
    train, test = order[:TRAINED], order[TRAINED:]
    return Digits(pictures[train], labels[train], pictures[test], labels[test])


def perceptron(seed: int, width: int = 128) -> nn.Sequential:
    """Two hidden layers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Flatten(),
            nn.Linear(64, width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, 10),
        )


def convolutional(seed: int, width: int = 32) -> nn.Sequential:
    """Three convolutions, of which the second halves the picture."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(4 * width, 10),
        )


def train(
    model: nn.Module,
    data: Digits,
    *,
    epochs: int,
    seed: int,
    scheme: Scheme | None = None,
    lr: float = 2e-3,
    batch: int = 50,
) -> None:
    """AdamW, its learning rate falling to zero, and that of a scheme which has one of its own with it."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    generator = torch.Generator().manual_seed(seed)
    own = scheme.lr if isinstance(scheme, DLRT | TDLRT) else 0.0
    for epoch in range(epochs):
        for group in optimizer.param_groups:
            group["lr"] = lr * (1 - epoch / epochs)
        if isinstance(scheme, DLRT | TDLRT):
            scheme.lr = own * (1 - epoch / epochs)
        for rows in torch.randperm(len(data.labels), generator=generator).split(batch):
            pictures, labels = data.pictures[rows], data.labels[rows]
            if scheme is None:
                optimizer.zero_grad()
                cross_entropy(model(pictures), labels).backward()
                optimizer.step()
            else:
                scheme.step(lambda x=pictures, y=labels: cross_entropy(model(x), y), optimizer)  # type: ignore[misc]
        if scheme is not None:
            scheme.epoch()


def numbers_of(model: nn.Module) -> int:
    """How many numbers its parameters have."""
    return sum(parameter.numel() for parameter in model.parameters())


def accuracy(model: nn.Module, data: Digits) -> float:
    """The part of the test pictures that are recognised."""
    with torch.no_grad():
        return float((model(data.test_pictures).argmax(1) == data.test_labels).double().mean())
