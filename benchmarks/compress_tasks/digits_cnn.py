"""The small convolutional network of `tenfold.models.digits`: accuracy on handwritten digits that are held out."""

from __future__ import annotations

from torch import Tensor, nn

from tenfold.models import digits

TITLE = "A convolutional network of 90 thousand weights on handwritten digits: accuracy"
CALIBRATION = 300

Pairs = list[tuple[Tensor, Tensor]]


def missing() -> str:
    """Nothing: weights and images come with tenfold."""
    return ""


def model() -> nn.Sequential:
    """The trained network."""
    return digits.digits()


def example() -> Tensor:
    """100 digits."""
    return digits.images()[0][digits.TRAINED :][:100]


def calibration() -> Pairs:
    """300 of the digits that it was trained on, with their labels."""
    return digits.batches()[: CALIBRATION // 100]


def finetuning() -> Pairs:
    """The 1400 digits that it was trained on."""
    return digits.batches(50)


def metrics(model: nn.Module) -> dict[str, float]:
    """Accuracy."""
    return {"accuracy": digits.accuracy(model)}


def metric(model: nn.Module) -> float:
    """Accuracy on 397 digits that were held out."""
    return digits.accuracy(model)
