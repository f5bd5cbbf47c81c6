"""A phantom that beats, and which of its Fourier coefficients a scanner would measure."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def beating(size: int = 64, frames: int = 20) -> Tensor:
    """Ellipses for a chest, lungs, and a heart whose wall and chamber change size over one period; complex."""
    grid = torch.linspace(-1, 1, size, dtype=torch.float64)
    y, x = torch.meshgrid(grid, grid, indexing="ij")

    def ellipse(cx: float, cy: float, rx: float, ry: float) -> Tensor:
        # An edge of about a pixel, as a scanner sees it.
        inside = 1 - torch.sqrt(((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2)
        return torch.sigmoid(inside * min(rx, ry) * size)

    phase = torch.exp(1j * (0.6 * x + 0.4 * y * y))
    series = []
    for frame in range(frames):
        beat = math.sin(2 * math.pi * frame / frames)
        radius = 0.24 + 0.06 * beat
        picture = 0.5 * ellipse(0, 0, 0.9, 0.75)
        picture = picture - 0.35 * ellipse(-0.5, 0, 0.22, 0.4) - 0.35 * ellipse(0.58, 0, 0.2, 0.4)
        picture = picture + 0.25 * ellipse(0.05, 0.05, 0.34, 0.34 + 0.02 * beat)
        picture = picture + 0.25 * ellipse(0.05, 0.05, radius, radius)
        picture = picture + 0.15 * ellipse(0.05, -0.55 + 0.03 * beat, 0.1, 0.07)
        series.append(picture * phase)
    return torch.stack(series, 2)


def lines(size: int, frames: int, acceleration: int, seed: int) -> Tensor:
    """Whole lines of each frame: half of them around frequency zero, the others drawn, near frequencies more often."""
    generator = torch.Generator().manual_seed(seed)
    count = size // acceleration
    frequency = torch.fft.fftfreq(size, 1 / size).abs()
    middle = frequency.argsort(stable=True)[: count // 2]
    chance = 1 / (1 + frequency.double()) ** 1.5
    chance[middle] = 0
    mask = torch.zeros(size, size, frames, dtype=torch.bool)
    for frame in range(frames):
        others = torch.multinomial(chance, count - len(middle), generator=generator)
        mask[torch.cat([middle, others]), :, frame] = True
    return mask


def sampled(series: Tensor, mask: Tensor, noise: float, seed: int) -> Tensor:
    """The Fourier coefficients within the mask, with complex noise of this standard deviation."""
    generator = torch.Generator().manual_seed(seed)
    coefficients = torch.fft.fft2(series, dim=(0, 1), norm="ortho")
    error = torch.view_as_complex(torch.randn(*series.shape, 2, generator=generator, dtype=torch.float64))
    return torch.where(mask, coefficients + noise / math.sqrt(2) * error, 0)
