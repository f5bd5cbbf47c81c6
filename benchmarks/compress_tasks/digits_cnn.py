"""A small convolutional network for handwritten digits, trained here once; accuracy on digits that are held out.

The 1797 images of 8 x 8 pixels come with scikit-learn (from UCI's Optical Recognition of Handwritten Digits). The
weights are kept in the user's cache; where they are not there, they are trained, from seed 0 on one thread.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec

import numpy as np
import torch
from platformdirs import user_cache_path
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

TITLE = "A convolutional network of 90 thousand weights on handwritten digits: accuracy"
TRAINED_ON, EPOCHS, CALIBRATION = 1400, 20, 256

Pairs = DataLoader[tuple[Tensor, ...]]


def missing() -> str:
    """What is not here."""
    return "" if find_spec("sklearn") else "the package scikit-learn is not installed"


def network() -> nn.Sequential:
    """Four convolutions and two linear layers, with random weights."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(64, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 10),
    )  # fmt: skip


@cache
def _digits() -> tuple[TensorDataset, TensorDataset]:
    from sklearn.datasets import load_digits

    found = load_digits()
    images = torch.from_numpy(found.images.astype(np.float32) / 16)[:, None]
    labels = torch.from_numpy(found.target.astype(np.int64))
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    first, rest = order[:TRAINED_ON], order[TRAINED_ON:]
    return TensorDataset(images[first], labels[first]), TensorDataset(images[rest], labels[rest])


def train(epochs: int = EPOCHS) -> nn.Sequential:
    """Trained from seed 0 by AdamW, on one thread so that sums are always in one order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = network()
    optimizer = torch.optim.AdamW(made.parameters(), lr=2e-3)
    loader = finetuning()
    for _ in range(epochs):
        for images, labels in loader:
            optimizer.zero_grad()
            functional.cross_entropy(made(images), labels).backward()
            optimizer.step()
    torch.set_num_threads(threads)
    return made.eval()


def model() -> nn.Sequential:
    """The trained network, from the cache where it is."""
    path = user_cache_path("tenfold") / "benchmarks" / "digits_cnn.pt"
    made = network()
    if path.is_file():
        made.load_state_dict(torch.load(path, weights_only=True))
        return made.eval()
    made = train()
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(made.state_dict(), path)
    return made


def example() -> tuple[Tensor]:
    """64 digits."""
    return (_digits()[1].tensors[0][:64],)


def calibration() -> Pairs:
    """256 of the digits that it was trained on, with their labels."""
    images, labels = _digits()[0].tensors
    return DataLoader(TensorDataset(images[:CALIBRATION], labels[:CALIBRATION]), batch_size=64)


def finetuning() -> Pairs:
    """The 1400 digits that it was trained on; in a new order each time, the same in each process."""
    return DataLoader(_digits()[0], batch_size=64, shuffle=True, generator=torch.Generator().manual_seed(0))


def loss(output: Tensor, wanted: Tensor) -> Tensor:
    """Cross entropy between the probabilities of both (Hinton, Vinyals and Dean, 2015, at temperature 1)."""
    return functional.cross_entropy(output, wanted.softmax(-1))


def metrics(model: nn.Module) -> dict[str, float]:
    """Accuracy."""
    images, labels = _digits()[1].tensors
    with torch.inference_mode():
        return {"accuracy": float((model(images).argmax(1) == labels).double().mean())}


def metric(model: nn.Module) -> float:
    """Accuracy on 397 digits that were held out."""
    return metrics(model)["accuracy"]
