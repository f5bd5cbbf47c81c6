"""The pictures of docs/matrix-sensing.md and docs/dynamic-mri.md: python docs/images/sensing_and_mri.py"""

from __future__ import annotations

from pathlib import Path

import torch
from matplotlib.figure import Figure

from tenfold.claims._phantom import beating, lines, sampled
from tenfold.completion.dynamic_mri import dynamic_mri
from tenfold.completion.matrix_sensing import Everything, matrix_sensing

FOLDER = Path(__file__).parent


def sensing() -> Figure:
    """Errors of five descents."""
    generator = torch.Generator().manual_seed(0)
    u, v = (torch.linalg.qr(torch.randn(50, 3, generator=generator, dtype=torch.float64)).Q for _ in range(2))
    spectrum = torch.tensor([1.0, 0.8, 0.6], dtype=torch.float64)
    square, general = u * spectrum @ u.T, u * spectrum @ v.T
    runs = {
        "symmetric, rank 3": (square, {"rank": 3, "symmetric": True}),
        "symmetric, rank 6": (square, {"rank": 6, "symmetric": True}),
        "two factors, rank 6, start 0.2": (general, {"rank": 6, "start": 0.2}),
        "two factors, rank 6, start 1": (general, {"rank": 6, "start": 1.0}),
        "two factors, rank 6, start 0.2, balanced anew": (general, {"rank": 6, "start": 0.2, "rebalance": 0.1}),
    }
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.add_subplot()
    for name, (matrix, options) in runs.items():
        found = matrix_sensing(matrix, Everything((50, 50)), steps=10_000, truth=matrix, **options)
        assert found.errors is not None
        axes.loglog(range(1, 10_001), found.errors[1:], label=name)
    axes.set_xlabel("steps of gradient descent")
    axes.set_ylabel("distance from the truth")
    axes.set_ylim(1e-15, 10)
    axes.legend(frameon=False, fontsize=8, loc="lower left")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def frames() -> Figure:
    """Five frames of the phantom."""
    truth = beating()
    mask = lines(64, 20, 8, 0)
    return dynamic_mri(sampled(truth, mask, 0.01, 0), mask).plot(truth, frames=5)


if __name__ == "__main__":
    sensing().savefig(FOLDER / "sensing.png", dpi=110)
    frames().savefig(FOLDER / "mri.png", dpi=110)
