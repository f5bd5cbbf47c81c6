"""What small networks of each product and each layer tell apart, on all pairs of `tenfold.so3.expressivity`.

    python -m benchmarks.expressivity

Two tables, for neighbourhoods and for chains. Weights are random: a network that could learn to tell two structures
apart does so with almost all of them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import torch
from torch import Tensor, nn

from tenfold.nn.so3 import Convolution, Linear, ManyBody, TensorProduct
from tenfold.so3 import (
    ClebschGordanConvolution,
    GauntConvolution,
    GridPower,
    Irreps,
    SO2Convolution,
    SO2MixingConvolution,
    SymmetricContraction,
    expressivity,
    split,
    tensor_product,
)
from tenfold.so3.expressivity import FeaturesOf, Pair
from tenfold.so3.products import Convolution as Along
from tenfold.so3.products import ManyBodyProduct, Product

CONVOLUTIONS = (
    "ClebschGordanConvolution",
    "SO2Convolution",
    "SO2Convolution(parity=False)",
    "SO2MixingConvolution",
    "GauntConvolution",
)
CHAINS = (2, 3, 4, 5)
# The others take features that are functions on the sphere, and keep them such.
_WITH_A_HAND = ("ClebschGordanConvolution", "SO2Convolution(parity=False)")
_CHANNELS = 3
_SCALARS = Irreps([(_CHANNELS, "0e")])
_DOUBLE = torch.float64


def _true(degree: int) -> Irreps:
    """Functions on the sphere."""
    return Irreps([(_CHANNELS, (n, (-1) ** n)) for n in range(degree + 1)])


def _both(degree: int) -> Irreps:
    """With those that a mirror negates."""
    return Irreps([(_CHANNELS, (n, sign * (-1) ** n)) for n in range(degree + 1) for sign in (1, -1)])


def _even(degree: int) -> Irreps:
    """Of one parity, as matrices are that need not know their mirror image."""
    return Irreps([(_CHANNELS, (n, 1)) for n in range(degree + 1)])


@dataclass(frozen=True)
class Network:
    """One row of the table for neighbourhoods, and what theory says of it.

    Attributes:
        name: the layers.
        make: with fresh weights, from the numbers of each edge to features at the nodes.
        neighbours: of how many neighbours at once the scalars can know; 0: of distances of single ones.
        degree: of features.
        hand: whether there are paths of an odd sum of degrees, which mirror images need.
    """

    name: str
    make: Callable[[], nn.Module]
    neighbours: int
    degree: int
    hand: bool

    def reason(self, pair: Pair) -> str:
        """Why it cannot tell a pair apart; empty where it must."""
        needed, degree, hand = _NEEDS[pair.name]
        if not needed:
            return "they are the same"
        if self.neighbours < needed:
            return f"knows of {self.neighbours} neighbour{'' if self.neighbours == 1 else 's'} at once, not of {needed}"
        if self.degree < degree:
            return f"has no degree {degree}"
        if hand and not self.hand:
            return "has no pseudoscalars"
        return ""


# What `pairs` of neighbourhoods need: neighbours at once, degree, a hand.
_NEEDS: dict[str, tuple[int, int, bool]] = {
    expressivity.two_body().name: (2, 1, False),
    expressivity.three_body().name: (3, 1, False),
    expressivity.four_body().name: (4, 1, False),
    expressivity.chiral().name: (3, 1, True),
    expressivity.chiral_in_fours().name: (4, 3, True),
    **{expressivity.shells(fold).name: (2, fold, False) for fold in (2, 3, 5)},
    **{control.name: (0, 0, False) for control in expressivity.controls()},
}


def _known(vectors: Tensor) -> Tensor:
    """What a network is told of the length of an edge."""
    length = vectors.norm(dim=-1, keepdim=True) / 5
    return torch.cat([torch.ones_like(length), length, length**2], dim=-1)


class _Mixing(nn.Module):
    """A convolution whose matrices all edges share, and factors of each edge."""

    def __init__(self, along: SO2MixingConvolution) -> None:
        super().__init__()
        self.along, self.irreps_out = along, along.irreps_out
        self.weight = nn.Parameter(torch.randn(along.weight_numel, dtype=_DOUBLE))
        self.network = nn.Linear(3, along.radial_numel, dtype=_DOUBLE)

    def forward(self, features: Tensor, vectors: Tensor, known: Tensor, **graph: Tensor) -> Tensor:
        return self.along(features, vectors, self.weight, radial=self.network(known), **graph)


def _convolution(kind: str, irreps_in: Irreps, degree: int) -> nn.Module:
    """From features at the senders to features of all degrees up to this one."""
    made = _value(kind, irreps_in, degree)
    if isinstance(made, SO2MixingConvolution):
        return _Mixing(made)
    return Convolution(made, 3, hidden=(8,), dtype=_DOUBLE)


@cache
def _value(kind: str, irreps_in: Irreps, degree: int) -> Along:
    if kind == "ClebschGordanConvolution":
        irreps_out = _true(degree) if irreps_in == _SCALARS else _both(degree)
        return ClebschGordanConvolution(irreps_in, degree, irreps_out)
    if kind.startswith("SO2Convolution"):
        return SO2Convolution(irreps_in, _true(degree), parity=kind == "SO2Convolution", layout="mul_ir")
    if kind == "SO2MixingConvolution":
        return SO2MixingConvolution(irreps_in, _true(degree), layout="mul_ir")
    return GauntConvolution(irreps_in, degree, _true(degree), layout="mul_ir")


class _Convolutions(nn.Module):
    """Some convolutions one after the other, each followed by a linear layer of what the node heard and had."""

    def __init__(self, kind: str, layers: int, degree: int) -> None:
        super().__init__()
        handed = kind == "ClebschGordanConvolution"
        self.layers, self.mixes = nn.ModuleList(), nn.ModuleList()
        irreps = _SCALARS
        for number in range(layers):
            layer = _convolution(kind, irreps, degree)
            made = _both(degree) if handed and number else _true(degree)
            self.layers.append(layer)
            self.mixes.append(Linear(layer.irreps_out + irreps, made, dtype=_DOUBLE))
            irreps = made
        self.irreps_out = irreps

    def forward(self, features: Tensor, vectors: Tensor, source: Tensor, target: Tensor) -> Tensor:
        known = _known(vectors)
        for layer, mix in zip(self.layers, self.mixes, strict=True):
            heard = layer(features, vectors, known, source=source, target=target, nodes=len(features))
            # Sums of many messages grow from layer to layer; a factor keeps numbers near one.
            features = mix(torch.cat([heard, features], dim=-1)) / 3
        return features


class _AtNodes(nn.Module):
    """Harmonics of the neighbours added up, then products of what a node has: one product, or one after the other."""

    def __init__(self, method: str, count: int, degree: int) -> None:
        super().__init__()
        self.embedding = _convolution("ClebschGordanConvolution", _SCALARS, degree)
        # Matrices take vectors for axial ones: networks of them do not ask for parities.
        embedded = _even(degree) if method == "cartesian_matrix" else self.embedding.irreps_out
        products = _products(method, count, degree)
        self.first = Linear(embedded, products[0].irreps_in1, dtype=_DOUBLE)
        self.factors, self.products = nn.ModuleList(), nn.ModuleList()
        for product in products:
            self.factors.append(Linear(embedded, product.irreps_in2, dtype=_DOUBLE))
            self.products.append(TensorProduct(product, dtype=_DOUBLE))
        self.irreps_out = products[-1].irreps_out

    def forward(self, features: Tensor, vectors: Tensor, source: Tensor, target: Tensor) -> Tensor:
        known = _known(vectors)
        heard = self.embedding(features, vectors, known, source=source, target=target, nodes=len(features))
        found = self.first(heard)
        for factor, product in zip(self.factors, self.products, strict=True):
            found = product(found, factor(heard))
        return found


class _Power(nn.Module):
    """Harmonics of the neighbours added up, then a product of copies of what a node has."""

    def __init__(self, product: ManyBodyProduct, degree: int) -> None:
        super().__init__()
        self.embedding = _convolution("ClebschGordanConvolution", _SCALARS, degree)
        self.entry = Linear(self.embedding.irreps_out, product.irreps_in, dtype=_DOUBLE)
        self.power = ManyBody(product, dtype=_DOUBLE)
        self.irreps_out = product.irreps_out

    def forward(self, features: Tensor, vectors: Tensor, source: Tensor, target: Tensor) -> Tensor:
        known = _known(vectors)
        heard = self.embedding(features, vectors, known, source=source, target=target, nodes=len(features))
        return self.power(self.entry(heard))


@cache
def _products(method: str, count: int, degree: int) -> list[Product]:
    """So many products one after the other; the last makes scalars."""
    if method == "cartesian_matrix":
        first = middle = _even(degree)
    else:
        first = _true(degree)
        middle = first if method.startswith(("gaunt_grid", "gaunt_fourier")) else _both(degree)
    made: list[Product] = []
    for number in range(count):
        left, out = (made[-1].irreps_out if number else first), middle
        if number == count - 1:
            out = Irreps([block for block in middle if not block.ir.l])
        if not number:
            # Two true functions make no pseudoscalar.
            out = Irreps([block for block in out if str(block.ir) != "0o"])
        made.append(tensor_product(left, first, out, method=method))
    return made


@cache
def _contraction(correlation: int, degree: int) -> SymmetricContraction:
    # In one channel a hand takes three vectors, or more degrees.
    irreps = ("0e", "1o", "1o", "1o", "2e") if degree == 2 else ("0e", "1o", "2e", "3o")
    scalars = ("0e", "0o") if correlation > 2 else ("0e",)
    entry, out = (Irreps([(_CHANNELS, ir) for ir in irs]) for irs in (irreps, scalars))
    return SymmetricContraction(entry, out, correlation)


def networks() -> tuple[Network, ...]:
    """All rows of the table for neighbourhoods."""
    found = []
    for kind in CONVOLUTIONS:
        for layers, neighbours in ((1, 1), (3, 2), (5, 3)):
            hand = kind in _WITH_A_HAND
            make = partial(_Convolutions, kind, layers, 3)
            name = f"{kind}, {layers} layer{'s' if layers > 1 else ''}"
            found.append(Network(name, make, neighbours, 3, hand))
    for method, degree, hand, counts in (
        ("clebsch_gordan", 3, True, (1, 2, 3)),
        ("gaunt_grid", 3, False, (1, 2, 3)),
        ("gaunt_grid", 5, False, (1,)),
        ("gaunt_fourier", 3, False, (3,)),
        ("gaunt_poisson", 3, True, (2, 3)),
        ("vector_signal", 3, True, (2, 3)),
        ("matrix", 3, True, (2, 3)),
        ("cartesian_matrix", 2, True, (1, 2, 3)),
    ):
        for count in counts:
            times = ("once", "twice", "three times")[count - 1]
            make = partial(_AtNodes, method, count, degree)
            found.append(Network(f"`{method}` {times}", make, count + 1, degree, hand))
    for correlation, degree in ((2, 2), (3, 2), (4, 2), (4, 3)):
        make = partial(_Power, _contraction(correlation, degree), degree)
        name = f"SymmetricContraction of {correlation}"
        found.append(Network(name, make, correlation, degree, True))
    for correlation in (2, 3, 4):
        make = partial(_Power, GridPower(_true(3), _SCALARS, correlation, rank=2), 3)
        found.append(Network(f"GridPower of {correlation}", make, correlation, 3, False))
    return tuple(found)


def scalars_of(network: Network) -> FeaturesOf:
    """The scalars and pseudoscalars of the centre, with new weights at each call."""

    def features_of(positions: Tensor, edges: Tensor, centre: int | None) -> Tensor:
        found, irreps = _run(network.make(), positions, edges)
        scalars = [
            part[centre].flatten() for block, part in zip(irreps, split(found, irreps), strict=True) if not block.ir.l
        ]
        return torch.cat(scalars)

    return features_of


def lengths_of(make: Callable[[], nn.Module]) -> FeaturesOf:
    """The lengths of all irreps of all nodes, and their squares, added up over the nodes."""

    def features_of(positions: Tensor, edges: Tensor, centre: int | None) -> Tensor:
        found, irreps = _run(make(), positions, edges)
        squares = torch.cat([part.square().sum(dim=-1) for part in split(found, irreps)], dim=-1)
        return torch.cat([squares.sum(dim=0), squares.square().sum(dim=0)])

    return features_of


def _run(module: nn.Module, positions: Tensor, edges: Tensor) -> tuple[Tensor, Irreps]:
    features = torch.ones(len(positions), _CHANNELS, dtype=_DOUBLE)
    source, target = edges
    return module(features, positions[source] - positions[target], source, target), module.irreps_out


def neighbourhoods() -> tuple[Pair, ...]:
    """The pairs of the first table, in the order of its columns."""
    return tuple(pair for pair in expressivity.pairs() if pair.first.centre is not None)


def chain_row(kind: str, degree: int, layers: int, seeds: int = 2) -> tuple[bool, ...]:
    """Which of `CHAINS` so many layers tell apart, by the lengths of what their nodes have."""
    features_of = lengths_of(partial(_Convolutions, kind, layers, degree))
    return tuple(expressivity.separates(features_of, expressivity.chains(length), seeds) for length in CHAINS)


def tables(seeds: int = 2) -> str:
    """Both tables as Markdown; prints which networks are done.

    Raises:
        RuntimeError: a network tells apart what is the same, or two that theory takes for equals differ.
    """
    pairs = neighbourhoods()
    shown = [pair for pair in pairs if not pair.same]
    alike: dict[tuple[int, int, bool], list[str]] = {}
    marks: dict[tuple[int, int, bool], list[str]] = {}
    for network in networks():
        found = expressivity.suite(scalars_of(network), pairs, seeds=seeds)
        if not found.sound:
            raise RuntimeError(f"{network.name} tells apart what is the same:\n{found}")
        print(network.name, file=sys.stderr, flush=True)
        key = network.neighbours, network.degree, network.hand
        row = ["yes" if found.separated[pair.name] else "" for pair in shown]
        if marks.setdefault(key, row) != row:
            raise RuntimeError(f"{network.name} is not like {alike[key]}:\n{found}")
        alike.setdefault(key, []).append(network.name)
    lines = [
        f"| neighbours at once | degree | hand | layers | {' | '.join(_SHORT[pair.name] for pair in shown)} |",
        f"|--:|--:|---|---|{':-:|' * len(shown)}",
    ]
    for key in sorted(alike):
        neighbours, degree, hand = key
        cells = [str(neighbours), str(degree), "yes" if hand else "no", "; ".join(alike[key]), *marks[key]]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "| layers | degree | " + " | ".join(f"chain of {n}" for n in CHAINS) + " |",
        "|---|--:|:-:|:-:|:-:|:-:|",
    ]
    for layers in (1, 2, 3):
        for kinds, degree in ((CONVOLUTIONS, 1), (CONVOLUTIONS[:1], 0)):
            rows = {kind: chain_row(kind, degree, layers, seeds) for kind in kinds}
            print(layers, "layers", file=sys.stderr, flush=True)
            (row,) = set(rows.values())
            names = "any convolution" if len(kinds) > 1 else kinds[0]
            told = " | ".join("yes" if mark else "" for mark in row)
            lines.append(f"| {layers} of {names} | {degree} | {told} |")
    return "\n".join(lines) + "\n"


_SHORT = {
    expressivity.two_body().name: "equal distances",
    expressivity.three_body().name: "equal angles",
    expressivity.four_body().name: "equal triples",
    expressivity.chiral().name: "hand of 3",
    expressivity.chiral_in_fours().name: "hand of 4",
    **{expressivity.shells(fold).name: f"{fold}-fold rings" for fold in (2, 3, 5)},
}


if __name__ == "__main__":
    print(tables(), end="")
