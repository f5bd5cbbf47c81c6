"""A small trained network that comes with tenfold: it reads handwritten digits of 8 by 8 pixels."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from safetensors.torch import load_file
from torch import Tensor, nn

_SAMPLES = Path(str(files("tenfold"))) / "samples"
# The first so many images are those that it was trained on.
TRAINED = 1400


def architecture() -> nn.Sequential:
    """Three convolutions and two linear layers, 89,930 numbers, not trained."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(64, 64, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(256, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    )


def digits() -> nn.Sequential:
    """The trained network, in evaluation mode: from images ``[n, 1, 8, 8]`` with values 0 to 1 to scores of ten digits.

    It reads 99.7 % of the images right that it was not trained on; ``python -m benchmarks.train_digits`` trains it.
    """
    model = architecture()
    numbers = load_file(str(Path(__file__).with_name("digits.safetensors")))
    model.load_state_dict(numbers)
    return model.eval()


def images() -> tuple[Float[Tensor, "1797 1 8 8"], Int[Tensor, " 1797"]]:
    """All images, values 0 to 1, and which digit each shows. The first 1400 are those of the training."""
    with np.load(_SAMPLES / "digits.npz") as held:
        pixels = torch.from_numpy(held["digits"].astype(np.float32) / 16)
    labels = np.load(Path(__file__).with_name("digits_labels.npy"))
    return pixels[:, None], torch.from_numpy(labels.astype(np.int64))


def batches(size: int = 100) -> list[tuple[Tensor, Tensor]]:
    """The images of the training with their digits, in batches."""
    pixels, labels = images()
    return list(zip(pixels[:TRAINED].split(size), labels[:TRAINED].split(size), strict=True))


def accuracy(model: nn.Module) -> float:
    """The share of the other 397 images that a model reads right."""
    pixels, labels = images()
    with torch.no_grad():
        return float((model(pixels[TRAINED:]).argmax(dim=1) == labels[TRAINED:]).float().mean())
