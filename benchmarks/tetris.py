"""Eight pieces of four cubes, two of them mirror images, told apart by small networks, one for each product.

    python -m benchmarks.tetris

Pieces are turned at random. A network makes eight invariants and a pseudoscalar, which decides between the two mirror
images and is the only thing that can.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmarks.messages import CONVOLUTIONS, Layer, gated, lengths_known
from tenfold.nn.so3 import Linear, ManyBody, TensorProduct
from tenfold.so3 import GridPower, Irreps, SymmetricContraction, random_rotations, tensor_product

# The last two are mirror images of each other.
PIECES = {
    "line": ((0, 0, 0), (1, 0, 0), (2, 0, 0), (3, 0, 0)),
    "square": ((0, 0, 0), (1, 0, 0), (0, 1, 0), (1, 1, 0)),
    "L": ((0, 0, 0), (1, 0, 0), (2, 0, 0), (2, 1, 0)),
    "T": ((0, 0, 0), (1, 0, 0), (2, 0, 0), (1, 1, 0)),
    "zigzag": ((0, 0, 0), (1, 0, 0), (1, 1, 0), (2, 1, 0)),
    "corner": ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "left screw": ((0, 0, 1), (0, 0, 0), (1, 0, 0), (1, 1, 0)),
    "right screw": ((0, 0, 1), (0, 0, 0), (1, 0, 0), (1, -1, 0)),
}
PRODUCTS = ("clebsch_gordan", "gaunt_grid", "gaunt_poisson", "vector_signal")
POWERS = ("SymmetricContraction", "GridPower")
METHODS = (*CONVOLUTIONS, *PRODUCTS, *POWERS)
# Functions on the sphere multiplied point by point, without what is made like a cross product.
WITHOUT_A_HAND = ("GauntConvolution", "gaunt_grid", "GridPower")

IRREPS_OUT = "8x0e+1x0o"
_CHANNELS = 8
_TRUE = Irreps("8x0e+8x1o+8x2e")
_BOTH = Irreps("8x0e+8x1e+8x1o+8x2e+8x2o")
_CENTRES = torch.tensor([0.5, 1.0, 1.5, 2.0, 2.5, 3.0])


class Tetris(nn.Module):
    """Positions of the pieces' cubes to eight invariants and a pseudoscalar for each piece."""

    def __init__(self, method: str) -> None:
        super().__init__()
        pairs = [(4 * piece + a, 4 * piece + b) for piece in range(8) for a in range(4) for b in range(4) if a != b]
        edges = torch.tensor(pairs)
        self.register_buffer("source", edges[:, 0].contiguous())
        self.register_buffer("target", edges[:, 1].contiguous())
        self.register_buffer("centres", _CENTRES)
        ones = Irreps([(_CHANNELS, "0e")])
        stages = [ones, _TRUE, _BOTH, Irreps("8x0e+8x0o")] if method in CONVOLUTIONS else [ones, _TRUE]
        convolution = method if method in CONVOLUTIONS else "ClebschGordanConvolution"
        self.layers = nn.ModuleList()
        irreps = ones
        for stage in stages[1:]:
            layer = Layer(convolution, irreps, stage, len(_CENTRES), neighbours=3)
            self.layers.append(layer)
            irreps = layer.irreps_out
        self.at_nodes = nn.Identity() if method in CONVOLUTIONS else AtNodes(method)
        self.last = Linear(irreps if method in CONVOLUTIONS else self.at_nodes.irreps_out, IRREPS_OUT, bias=True)

    def forward(self, positions: Tensor) -> Tensor:
        vectors = positions[self.source] - positions[self.target]
        known = lengths_known(vectors, self.centres)
        features = positions.new_ones(len(positions), _CHANNELS)
        for layer in self.layers:
            features = layer(features, vectors, known, self.source, self.target)
        return self.last(self.at_nodes(features)).unflatten(0, (8, 4)).mean(dim=1)


class AtNodes(nn.Module):
    """Three copies of a feature multiplied, then gated: by two products one after the other, or by a power."""

    def __init__(self, method: str) -> None:
        super().__init__()
        hand = method not in WITHOUT_A_HAND
        made = Irreps("8x0e+8x0o") if hand else Irreps("8x0e")
        self.products = nn.ModuleList()
        if method in PRODUCTS:
            middle = _BOTH if hand else _TRUE
            self.products.append(TensorProduct(tensor_product(_TRUE, _TRUE, middle, method=method)))
            self.products.append(TensorProduct(tensor_product(middle, _TRUE, made, method=method)))
            entries = [_TRUE, _TRUE, _TRUE]
            self.between = Linear(middle, middle)
        elif method == "SymmetricContraction":
            # In one channel a hand takes three vectors.
            entries = [Irreps("8x0e+8x1o+8x1o+8x1o+8x2e")]
            self.products.append(ManyBody(SymmetricContraction(entries[0], made, 3)))
        else:
            entries = [_TRUE]
            self.products.append(ManyBody(GridPower(_TRUE, made, 3, rank=4)))
        self.entries = nn.ModuleList(Linear(_TRUE, irreps) for irreps in entries)
        self.gate = gated(made)
        self.linear = Linear(made + _TRUE, self.gate.irreps_in, bias=True)
        self.irreps_out = self.gate.irreps_out

    def forward(self, features: Tensor) -> Tensor:
        copies = [entry(features) for entry in self.entries]
        found = self.products[0](*copies[:2])
        if len(copies) == 3:
            found = self.products[1](self.between(found), copies[2])
        return self.gate(self.linear(torch.cat([found, features], dim=-1)))


def logits(found: Tensor) -> Tensor:
    """Of eight pieces: the invariants, and the pseudoscalar for one of the mirror images and against the other."""
    sign = found.new_tensor([0, 0, 0, 0, 0, 0, 1, -1])
    return found[..., :8] + found[..., 8:] * sign


def pieces(seed: int) -> Iterator[Tensor]:
    """Positions of all cubes, each piece about its centre and turned by a rotation of its own, without an end."""
    straight = torch.tensor(list(PIECES.values()), dtype=torch.float32)
    straight = straight - straight.mean(dim=1, keepdim=True)
    while True:
        turns = random_rotations(len(PIECES), seed=seed, dtype=torch.float32)
        yield (straight @ turns.mT).flatten(0, 1)
        seed += 1


@dataclass(frozen=True)
class Trained:
    """A network, the losses on its way, and of how many pieces in unseen poses it names the right one."""

    method: str
    network: Tetris
    losses: list[float]
    seconds: float

    @property
    def parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.network.parameters())

    @torch.no_grad()
    def accuracy(self, poses: int = 20, margin: float = 1e-3) -> float:
        """The right piece has to lead by ``margin``: mirror images in a tie are not told apart by rounding errors."""
        right = 0
        for _, positions in zip(range(poses), pieces(seed=1_000_000), strict=False):
            found = logits(self.network(positions))
            own = found.diagonal()
            others = found.masked_fill(torch.eye(8, dtype=torch.bool), -torch.inf).amax(dim=1)
            right += int((own > others + margin).sum())
        return right / (8 * poses)


def train(method: str, *, steps: int = 80, seed: int = 0) -> Trained:
    """A network for one of `METHODS`, by Adam."""
    torch.manual_seed(seed)
    network = Tetris(method)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    wanted, losses = torch.arange(8), []
    start = time.perf_counter()
    for _, positions in zip(range(steps), pieces(seed=1000 * seed), strict=False):
        loss = cross_entropy(logits(network(positions)), wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return Trained(method, network, losses, time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description="Tetris pieces told apart by each product")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--steps", type=int, default=80)
    arguments = parser.parse_args()
    print("| method | parameters | accuracy | last loss | seconds |\n|---|--:|--:|--:|--:|")
    for method in arguments.methods:
        found = train(method, steps=arguments.steps)
        numbers = f"{found.parameters} | {found.accuracy():.1%} | {found.losses[-1]:.1e} | {found.seconds:.1f}"
        print(f"| {method} | {numbers} |", flush=True)


if __name__ == "__main__":
    main()
