"""The pictures of docs/products.md: signals on the sphere, their products, a feature that turns with its molecule.

python docs/images/signals.py
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

import tenfold as tn

# Ammonia, in Angstrom: nitrogen is at the centre.
AMMONIA = torch.tensor([(0.94, -0.38, 0.0), (-0.47, -0.38, 0.81), (-0.47, -0.38, -0.81)], dtype=torch.float64)


def main(folder: Path) -> None:
    """Write all pictures into a folder."""
    for name, figure in (("product", product()), ("cross", cross()), ("turn", turn())):
        figure.savefig(folder / f"signals_{name}.png", dpi=160, facecolor="white")


def product() -> Figure:
    """Two signals and what comes out where they are multiplied point by point."""
    left = torch.tensor([0.4, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    right = torch.tensor([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0], dtype=torch.float64)
    signal = "0e+1o+2e"
    gaunt = tn.so3.GauntGrid(signal, signal, "0e+1o+2e+3o+4e", normalization="integral")
    found = torch.zeros(3, 25, dtype=torch.float64)
    found[0, :9], found[1, :9], found[2] = left, right, gaunt(left, right)
    return tn.report.plot_signals(found, "0e+1o+2e+3o+4e", names=["f", "g", "Gaunt product f · g"])


def cross() -> Figure:
    """Two vectors: their product on the sphere does not know their order, their cross product does."""
    v, w = torch.tensor([(1.0, 0.0, 0.0), (0.0, 0.0, 1.0)], dtype=torch.float64)
    gaunt = tn.so3.GauntGrid("1o", "1o", "0e+2e", normalization="integral")
    every = tn.so3.ClebschGordan.full("1o", "1o")
    panels = [_signal(v, "1o"), _signal(w, "1o"), _signal(gaunt(v, w), "0e+2e")]
    for pair in ((v, w), (w, v)):
        parts = dict(zip(every.irreps_out, tn.so3.split(every(*pair), every.irreps_out), strict=True))
        (vector,) = (part for block, part in parts.items() if str(block.ir) == "1e")
        panels.append(_signal(vector.flatten(), "1o"))
    names = ["v", "w", "Gaunt: v · w and w · v", "Clebsch-Gordan 1e: v × w", "the same of w and v"]
    return tn.report.plot_signals(torch.stack(panels), "0e+1o+2e", names=names)


def turn() -> Figure:
    """The harmonics of a molecule's bonds, added up, while it turns."""
    signal = "0e+1o+2e+3o+4e"
    turns = tn.so3.angles_to_matrix(*torch.tensor([(0.6, 0.6, 0.6), (0.0, 0.7, 1.4), (0.0, 0.0, 0.0)]).double())
    atoms = AMMONIA @ turns.mT
    features = tn.so3.spherical_harmonics(signal, atoms).sum(dim=1)
    names = ["a molecule", "turned", "turned further"]
    return tn.report.plot_signals(features, signal, names=names, points=atoms)


def _signal(feature: Tensor, irreps: str) -> Tensor:
    """Filled up with zeros to ``"0e+1o+2e"``."""
    found = feature.new_zeros(9)
    parts = dict(zip(("0e", "1o", "2e"), found.split([1, 3, 5]), strict=True))
    for block, part in zip(tn.so3.Irreps(irreps), tn.so3.split(feature, irreps), strict=True):
        parts[str(block.ir)].copy_(part.flatten())
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
