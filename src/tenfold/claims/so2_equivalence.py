"""A convolution in the frames of edges is that of Clebsch-Gordan paths, with other weights."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tenfold.claims._registry import Measurement, Number, claim
from tenfold.so3 import Irreps, SO2Convolution, join, spherical_harmonics, split, wigner_3j

_ALLOWED = 1e-10
_CHANNELS = 3
# Degrees of features and of messages.
_CASES = (((0, 1, 2), (0, 1, 2)), ((0, 1, 2, 3), (0, 1, 2, 3)), ((1, 3), (0, 2, 4)), ((4,), (4,)))


@claim(
    "so2_equivalence",
    paper="Reducing SO(3) Convolutions to SO(2) for Efficient Equivariant GNNs",
    year=2023,
    where="The reduction of convolutions to the frame of the edge",
    stated=(
        "Products of features with harmonics of an edge over all paths are, in the frame of that edge, linear maps of "
        "the components of order m and -m; the weights of either determine those of the other."
    ),
)
def so2_equivalence(*, seed: int = 0, edges: int = 12) -> Measurement:
    """Compare messages and derivatives with a plain sum over paths, at random edges and weights, in double precision.

    The sum contracts 3j symbols with harmonics; both are done with the parities of harmonics and without regard to
    parity, for four choices of degrees up to 4. Holds if messages, their gradients with respect to features, edges
    and weights of paths, and the derivatives of the squared gradients all differ by at most 1e-10 of their largest
    number; if the matrix from weights of paths to those of the frame is square and orthogonal to 1e-10; and if
    converting weights there and back changes none of them by more than that.
    """
    generator = torch.Generator().manual_seed(seed)
    worst: dict[str, float] = {}
    weights = 0
    for inner, outer in _CASES:
        for parity in (True, False):
            first, last = _signal(inner), _signal(outer)
            product = SO2Convolution(first, last, parity=parity, layout="mul_ir")
            paths = _paths(inner, outer, parity)
            given = [
                torch.randn(shape, generator=generator, dtype=torch.float64)
                for shape in ((edges, first.dim), (edges, 3), (edges, len(paths) * _CHANNELS))
            ]
            seen: list[Tensor] = []
            summed: list[Tensor] = []
            for way, found in (("frame", seen), ("paths", summed)):
                leaves = [tensor.clone().requires_grad_() for tensor in given]
                if way == "frame":
                    messages = product(leaves[0], leaves[1], product.from_path_weights(leaves[2]))
                else:
                    messages = path_sum(leaves[0], leaves[1], leaves[2], first, last, paths)
                found += _derivatives(messages, leaves)
            for name, one, other in zip(_NAMES, seen, summed, strict=True):
                worst[name] = _larger(worst.get(name, 0.0), float((one - other).abs().max() / other.abs().max()))
            each = SO2Convolution(first, last, parity=parity, channelwise=False, layout="ir_mul")
            matrix = each.from_path_weights(torch.eye(len(paths), dtype=torch.float64)).T
            weights += len(paths)
            if matrix.shape[0] != matrix.shape[1]:
                worst["orthogonality"] = math.inf
                continue
            off = float((matrix @ matrix.T - torch.eye(len(matrix), dtype=torch.float64)).abs().max())
            worst["orthogonality"] = _larger(worst.get("orthogonality", 0.0), off)
            back = product.to_path_weights(product.from_path_weights(given[2]))
            worst["there and back"] = _larger(worst.get("there and back", 0.0), float((back - given[2]).abs().max()))
    largest = max(worst.values())
    numbers: dict[str, Number] = {"convolutions": 2 * len(_CASES), "paths": weights, "largest difference": largest}
    lines = [f"{2 * len(_CASES)} convolutions with {weights} paths, {_CHANNELS} channels, {edges} edges; differ by"]
    lines += [f"{name}: {off:.1e}" for name, off in worst.items()]
    return Measurement(largest <= _ALLOWED, "\n".join(lines), numbers | worst)


_NAMES = (
    "messages",
    "gradients of features",
    "gradients of edges",
    "gradients of weights",
    "second derivatives of features",
    "second derivatives of edges",
    "second derivatives of weights",
)


def _derivatives(messages: Tensor, leaves: list[Tensor]) -> list[Tensor]:
    """The messages, gradients of half their square, and those of half the squares of the gradients."""
    first = torch.autograd.grad(messages.square().sum() / 2, leaves, create_graph=True)
    second = torch.autograd.grad(sum(gradient.square().sum() for gradient in first) / 2, leaves)  # type: ignore[arg-type]
    return [tensor.detach() for tensor in (messages, *first, *second)]


def _larger(one: float, other: float) -> float:
    return math.inf if math.isnan(other) else max(one, other)


def _signal(degrees: tuple[int, ...]) -> Irreps:
    return Irreps([(_CHANNELS, (degree, (-1) ** degree)) for degree in degrees])


def _paths(inner: tuple[int, ...], outer: tuple[int, ...], parity: bool) -> list[tuple[int, int, int]]:
    """Degrees in, of the filter and out, in the order of the weights."""
    return [
        (a, b, c)
        for a in inner
        for b in range(max(inner) + max(outer) + 1)
        for c in outer
        if abs(a - b) <= c <= a + b and not (parity and (a + b + c) % 2)
    ]


def path_sum(
    features: Tensor, vectors: Tensor, weight: Tensor, first: Irreps, last: Irreps, paths: list[tuple[int, int, int]]
) -> Tensor:
    """Messages by contracting 3j symbols, path by path, scaled as e3nn scales them."""
    blocks = {block.ir.l: part for block, part in zip(first, split(features, first, "mul_ir"), strict=True)}
    found = {block.ir.l: features.new_zeros(len(vectors), block.mul, block.ir.dim) for block in last}
    for (a, b, c), factor in zip(paths, weight.split(_CHANNELS, dim=-1), strict=True):
        harmonics = spherical_harmonics(b, vectors, normalization="component")
        scale = math.sqrt((2 * c + 1) / sum(path[2] == c for path in paths))
        message = torch.einsum("abc,eua,eb,eu->euc", wigner_3j(a, b, c), blocks[a], harmonics, factor)
        found[c] = found[c] + scale * message
    return join([found[block.ir.l] for block in last], "mul_ir")
