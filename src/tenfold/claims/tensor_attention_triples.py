"""Whether two other tokens complete a triple: attention to pairs tells, that to single tokens does not learn it."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from tenfold.claims._registry import Measurement, Number, claim
from tenfold.nn import TensorAttention, tensor_attention


@claim(
    "tensor_attention_triples",
    paper="How to Capture Higher-order Correlations? Generalizing Matrix Softmax Attention to Kronecker Computation",
    year=2024,
    where="Introduction: detecting triples of connected words",
    stated="One layer of tensor attention detects triples of tokens, which one layer of ordinary attention cannot.",
)
def tensor_attention_triples(*, seed: int = 0, sequences: int = 200, steps: int = 1000) -> Measurement:
    """Tokens are residues modulo M; a position counts if two others, or the same again, add up with it to zero.

    Every sequence draws from a few residues, so that there are positions of both kinds. First without training: M = 37,
    sequences of 32 from 6 residues, four components of a head in which the score is the cosine of the angle of the sum.
    Then trained, M = 13, sequences of 16 from 4: an embedding of the residue as a point of a circle, a linear layer to
    16 numbers, one layer of attention, and a network of two hidden layers of 64 that sees a token before and after it.
    Attention is `TensorAttention` with one head of 8, or torch's with four heads of 4, which has some more parameters;
    Adam, ``steps`` batches of 64 sequences, and 500 unseen ones.

    Holds if without training every position is right, and if the trained tensor attention gets 99 of 100 positions
    right and ordinary attention less than 90. That ordinary attention cannot, whatever the training, is a theorem about
    long sequences and not measured. Takes about 30 seconds.
    """
    generator = torch.Generator().manual_seed(seed)
    tokens, wanted = _triples(sequences, 32, 37, 6, generator)
    built = float((_constructed(tokens, 37) == wanted).double().mean())
    numbers: dict[str, Number] = {"constructed: accuracy": built, "constructed: positions that count": _share(wanted)}
    lines = [f"constructed, M = 37, {wanted.numel()} positions, {_share(wanted):.0%} count: {built:.2%} right"]
    right = {}
    unseen = _triples(500, 16, 13, 4, generator)
    common = max(_share(unseen[1]), 1 - _share(unseen[1]))
    layers: dict[str, Callable[[], nn.Module]] = {
        "tensor attention": lambda: TensorAttention(16, 1, head_dim=8),
        "attention": _Ordinary,
    }
    for name, attention in layers.items():
        network = _trained(attention, steps, seed)
        with torch.no_grad():
            right[name] = float(((network(unseen[0]) > 0) == unseen[1]).double().mean())
        parameters = sum(parameter.numel() for parameter in network.parameters())
        numbers |= {f"trained, {name}: accuracy": right[name], f"trained, {name}: parameters": parameters}
        lines.append(f"trained, M = 13, {name}: {right[name]:.1%} right, {parameters} parameters")
    lines.append(f"the more frequent answer is right in {common:.1%}")
    numbers["trained: share of the more frequent answer"] = common
    holds = built == 1 and right["tensor attention"] >= 0.99 and right["attention"] < 0.9
    return Measurement(holds, "\n".join(lines), numbers)


def _triples(
    count: int, length: int, modulus: int, residues: int, generator: torch.Generator
) -> tuple[Int[Tensor, "count length"], Bool[Tensor, "count length"]]:
    """Sequences, and which of their positions count."""
    few = torch.stack([torch.randperm(modulus, generator=generator)[:residues] for _ in range(count)])
    tokens = few.gather(1, torch.randint(residues, (count, length), generator=generator))
    sums = tokens[:, :, None, None] + tokens[:, None, :, None] + tokens[:, None, None, :]
    return tokens, (sums % modulus == 0).flatten(2).any(dim=2)


def _share(wanted: Tensor) -> float:
    return float(wanted.double().mean())


def _constructed(tokens: Tensor, modulus: int, sharpness: float = 2000.0) -> Tensor:
    """Which positions count, from the mean score that a query sees: cos(a + b + c) has four terms."""
    angles = 2 * math.pi * tokens.double() / modulus
    c, s = angles.cos(), angles.sin()
    query = torch.stack([c, -c, -s, -s], dim=-1)
    first, second = torch.stack([c, s, c, s], dim=-1), torch.stack([c, s, s, c], dim=-1)
    seen = tensor_attention(query, first, second, first, second, scale=sharpness)
    # A sum that is no multiple of M has a cosine of at most that of one step.
    return (query * seen).sum(dim=-1) > (1 + math.cos(2 * math.pi / modulus)) / 2


class _Network(nn.Module):
    def __init__(self, attention: nn.Module, modulus: int) -> None:
        super().__init__()
        angles = 2 * math.pi * torch.arange(modulus) / modulus
        self.register_buffer("circle", math.sqrt(2) * torch.stack([angles.cos(), angles.sin()], dim=1))
        self.up, self.attention = nn.Linear(2, 16), attention
        self.last = nn.Sequential(
            nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1), nn.Flatten(-2)
        )

    circle: Tensor

    def forward(self, tokens: Int[Tensor, "batch length"]) -> Float[Tensor, "batch length"]:
        x = self.up(self.circle[tokens])
        return self.last(torch.cat([x, self.attention(x)], dim=-1))


class _Ordinary(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.MultiheadAttention(16, 4, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.heads(x, x, x, need_weights=False)[0]


def _trained(attention: Callable[[], nn.Module], steps: int, seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _Network(attention(), 13)
    generator = torch.Generator().manual_seed(seed + 1)
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        tokens, wanted = _triples(64, 16, 13, 4, generator)
        loss = nn.functional.binary_cross_entropy_with_logits(network(tokens), wanted.float())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network
