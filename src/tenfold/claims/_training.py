"""Small networks with layers of some structure, and how they are trained where claims are measured."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tenfold import formats
from tenfold.nn import StructuredLinear
from tenfold.structure import Structure

# The layer from a width to the same width, dense where there is no structure.
Family = Callable[[int], Structure | None]


def side(width: int) -> tuple[int, int]:
    """Two factors of the width, as near to each other as they can be; the smaller one first."""
    small = next(n for n in range(math.isqrt(width), 0, -1) if width % n == 0)
    return small, width // small


FAMILIES: Mapping[str, Family] = {
    "dense": lambda width: None,
    "BTT": lambda width: formats.block_tensor_train(side(width), side(width), 2),
    "Monarch": lambda width: formats.monarch(side(width), side(width)),
    "Kronecker": lambda width: formats.kronecker(side(width), side(width), 1),
    "low rank": lambda width: formats.low_rank(width, width, math.isqrt(width)),
}


def perceptron(inputs: int, width: int, outputs: int, family: Family, *, hidden: int, seed: int) -> nn.Sequential:
    """A dense layer in, some of a family, and a dense layer out that starts at zero; GELU between."""
    generator = torch.Generator().manual_seed(seed)
    layers: list[nn.Module] = [dense(inputs, width, generator)]
    for _ in range(hidden):
        structure = family(width)
        layers.append(nn.GELU())
        layers.append(
            dense(width, width, generator) if structure is None else StructuredLinear(structure, generator=generator)
        )
    last = dense(width, outputs, generator)
    nn.init.zeros_(last.weight)
    return nn.Sequential(*layers, nn.GELU(), last)


def dense(inputs: int, outputs: int, generator: torch.Generator) -> nn.Linear:
    """A dense layer that starts as structured ones do: with a spectral norm that does not depend on the width."""
    layer = nn.Linear(inputs, outputs)
    std = math.sqrt(1 / inputs) * min(1.0, math.sqrt(outputs / inputs))
    nn.init.normal_(layer.weight, std=std, generator=generator)
    nn.init.zeros_(layer.bias)
    return layer


def multiplications(model: nn.Sequential) -> int:
    """Products for one input, all layers together."""
    total = 0
    for layer in model:
        if isinstance(layer, StructuredLinear):
            # An even number of vectors, so that no product of matrices is one of vectors, which is counted otherwise.
            total += layer.flops(32) // 64
        elif isinstance(layer, nn.Linear):
            total += layer.in_features * layer.out_features
    return total


def trained(
    model: nn.Module,
    groups: Sequence[Mapping[str, Any]],
    inputs: Tensor,
    wanted: Tensor,
    *,
    steps: int,
    batch: int,
    seed: int,
) -> None:
    """Adam with a rate that falls to zero as a cosine, on random batches; in place."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam([dict(group) for group in groups])
    rates = [group["lr"] for group in optimizer.param_groups]
    for step in range(steps):
        chosen = torch.randint(len(inputs), (batch,), generator=generator)
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * (1 + math.cos(math.pi * step / steps)) / 2
        optimizer.zero_grad()
        functional.mse_loss(model(inputs[chosen]), wanted[chosen]).backward()
        optimizer.step()


@torch.no_grad()
def mean_square(model: nn.Module, inputs: Tensor, wanted: Tensor) -> float:
    """The error of a model, squared and averaged, over the variance of what is wanted; infinite where it is NaN."""
    found = float(functional.mse_loss(model(inputs), wanted) / wanted.var())
    return found if math.isfinite(found) else math.inf
