"""Energies and forces of acetylacetone, learned from a hundred frames by small networks.

    TENFOLD_DATA=... python -m benchmarks.molecule

Forces are gradients of the energy, so training takes second derivatives of every product. The data are those that
"The Design Space of E(3)-Equivariant Atom-Centered Interatomic Potentials" (2022) made: frames at 300 K to train with,
others of the same dynamics to test with. Errors stand beside those of no force at all and of the mean energy.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.messages import CONVOLUTIONS, Layer, lengths_known
from tenfold.nn.so3 import Linear, ManyBody
from tenfold.so3 import Irreps, SymmetricContraction

METHODS = (*CONVOLUTIONS, "SymmetricContraction")
_ELEMENTS = {"H": 0, "C": 1, "O": 2}
_SCALARS = Irreps("16x0e")
_IRREPS = Irreps("16x0e+16x1o+16x2e")
_CENTRES = torch.linspace(0.8, 4.4, 16)


@dataclass(frozen=True)
class Frames:
    """Frames of one molecule: elements by number, positions in Angstrom, energies in eV, and forces."""

    elements: Tensor
    positions: Tensor
    energies: Tensor
    forces: Tensor

    @classmethod
    def read(cls, path: Path, count: int) -> Frames:
        """So many frames of an extended XYZ file, evenly over it; energies are relative to their mean in the file."""
        lines = path.read_text().splitlines()
        atoms = int(lines[0])
        frames = [lines[start : start + atoms + 2] for start in range(0, len(lines), atoms + 2)]
        numbers = torch.tensor([[[float(x) for x in row.split()[1:7]] for row in frame[2:]] for frame in frames])
        # Energies are thousands of eV with differences far below one: single precision comes after the mean.
        found = [float(re.findall(r"\benergy=(\S+)", frame[1])[0]) for frame in frames]
        energies = torch.tensor(found, dtype=torch.float64)
        energies = (energies - energies.mean()).float()
        elements = torch.tensor([_ELEMENTS[row.split()[0]] for row in frames[0][2:]])
        chosen = torch.linspace(0, len(frames) - 1, count).round().long()
        return cls(elements, numbers[chosen, :, :3], energies[chosen], numbers[chosen, :, 3:])


class Potential(nn.Module):
    """Positions of the atoms of some frames to the energy of each; every atom hears of every other."""

    def __init__(self, method: str, elements: Tensor) -> None:
        super().__init__()
        atoms = len(elements)
        pairs = torch.cartesian_prod(torch.arange(atoms), torch.arange(atoms))
        self.register_buffer("pairs", pairs[pairs[:, 0] != pairs[:, 1]].T.contiguous())
        self.register_buffer("elements", elements)
        self.register_buffer("centres", _CENTRES)
        self.embedding = nn.Embedding(len(_ELEMENTS), _SCALARS.dim)
        contracted = method == "SymmetricContraction"
        convolution = "ClebschGordanConvolution" if contracted else method
        # What an edge is told of its length it is told in a place of its own for each pair of elements.
        known = len(_CENTRES) * len(_ELEMENTS) ** 2
        self.first = Layer(convolution, _SCALARS, _IRREPS, known, neighbours=atoms - 1)
        irreps = self.first.irreps_out
        self.power = ManyBody(SymmetricContraction(irreps, irreps, 3), len(_ELEMENTS)) if contracted else None
        self.mix = Linear(irreps, irreps) if contracted else None
        self.second = Layer(convolution, irreps, _SCALARS, known, neighbours=atoms - 1)
        self.last = Linear(self.second.irreps_out + _SCALARS, "1x0e", bias=True)

    def forward(self, positions: Tensor) -> Tensor:
        frames, atoms = positions.shape[:2]
        shifts = atoms * torch.arange(frames)[:, None]
        source, target = ((ends + shifts).flatten() for ends in self.pairs)
        elements = self.elements.repeat(frames)
        flat = positions.flatten(0, 1)
        vectors = flat[source] - flat[target]
        embedded = self.embedding(elements)
        kinds = nn.functional.one_hot(len(_ELEMENTS) * elements[source] + elements[target], len(_ELEMENTS) ** 2)
        bells = len(_ELEMENTS) * lengths_known(vectors, self.centres)
        known = (bells[:, :, None] * kinds[:, None]).flatten(1)
        features = self.first(embedded, vectors, known, source, target)
        if self.power is not None and self.mix is not None:
            features = features + self.mix(self.power(features, elements))
        heard = self.second(features, vectors, known, source, target)
        scalars = features[:, : _SCALARS.dim]
        energies = self.last(torch.cat([heard, scalars], dim=-1))
        return energies.unflatten(0, (frames, atoms)).sum(dim=(1, 2)) / math.sqrt(atoms)

    def with_forces(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Energies and forces, through which gradients go on to the parameters."""
        positions = positions.detach().requires_grad_()
        energies = self(positions)
        (slope,) = torch.autograd.grad(energies.sum(), positions, create_graph=True)
        return energies, -slope


@dataclass(frozen=True)
class Trained:
    """A potential and its errors in eV and eV/Angstrom, with those of the mean energy and of no force."""

    method: str
    potential: Potential
    losses: list[float]
    seconds: float
    energy_error: float
    force_error: float
    mean_energy: float
    no_force: float

    @property
    def parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.potential.parameters())


def train(
    method: str, folder: Path, *, steps: int = 300, batch: int = 5, frames: int = 100, tests: int = 40, seed: int = 0
) -> Trained:
    """A potential from frames at 300 K, by Adam with a learning rate that falls to zero."""
    given = Frames.read(folder / "train_300K.xyz", frames)
    unseen = Frames.read(folder / "test_MD_300K.xyz", tests)
    torch.manual_seed(seed)
    potential = Potential(method, given.elements)
    optimizer = torch.optim.Adam(potential.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    losses: list[float] = []
    start = time.perf_counter()
    for _ in range(steps):
        chosen = torch.randint(frames, (batch,))
        energies, forces = potential.with_forces(given.positions[chosen])
        loss = (forces - given.forces[chosen]).square().mean()
        loss = loss + 0.1 * (energies - given.energies[chosen]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
    seconds = time.perf_counter() - start
    off_energies, off_forces = [], []
    for first in range(0, tests, batch):
        some = slice(first, first + batch)
        energies, forces = potential.with_forces(unseen.positions[some])
        off_energies.append((energies - unseen.energies[some]).detach())
        off_forces.append((forces - unseen.forces[some]).detach())
    # Frames of one file differ from those of the other by a constant that no potential is asked for.
    off = torch.cat(off_energies)
    errors = [off - off.mean(), torch.cat(off_forces), unseen.energies - unseen.energies.mean(), unseen.forces]
    return Trained(method, potential, losses, seconds, *(float(error.square().mean().sqrt()) for error in errors))


def main() -> None:
    parser = argparse.ArgumentParser(description="Energies and forces of acetylacetone")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--steps", type=int, default=300)
    arguments = parser.parse_args()
    folder = Path(os.environ["TENFOLD_DATA"]) / "3bpa" / "acac"
    print("| method | parameters | energy, meV | forces, meV/A | seconds |\n|---|--:|--:|--:|--:|")
    for method in arguments.methods:
        found = train(method, folder, steps=arguments.steps)
        print(
            f"| {method} | {found.parameters} | {1e3 * found.energy_error:.0f} | {1e3 * found.force_error:.0f} "
            f"| {found.seconds:.1f} |",
            flush=True,
        )
    print(f"| mean energy, no force | 0 | {1e3 * found.mean_energy:.0f} | {1e3 * found.no_force:.0f} | |")


if __name__ == "__main__":
    main()
