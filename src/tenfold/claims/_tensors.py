"""The tensors on which bounds are measured, and what limits the best error possible with given ranks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tenfold import formats
from tenfold.io import read
from tenfold.network import Network


class Named(NamedTuple):
    """A tensor with the kind of tensor that it is."""

    kind: str
    tensor: Tensor


def varied(seed: int, *, random: int) -> Iterator[Named]:
    """Tensors of orders 3 to 6 in double precision: ``random`` of them drawn, some smooth functions, some real data.

    Drawn ones are in turn: white noise, a tensor train with noise, CP with noise, and noise whose entries decay along
    every mode.
    """
    generator = torch.Generator().manual_seed(seed)
    for number in range(random):
        order = 3 + number % 4
        longest = {3: 16, 4: 9, 5: 6, 6: 5}[order]
        shape = torch.randint(2, longest + 1, (order,), generator=generator).tolist()
        yield _drawn(number // 4, shape, seed + number, generator)
    yield from _smooth()
    yield from _real()


def _drawn(number: int, shape: Sequence[int], seed: int, generator: torch.Generator) -> Named:
    noise = torch.randn(*shape, generator=generator, dtype=torch.float64)
    kind = ("noise", "train + noise", "cp + noise", "decaying")[number % 4]
    if kind == "noise":
        return Named(kind, noise)
    if kind == "decaying":
        for axis, extent in enumerate(shape):
            decay = torch.exp2(-torch.arange(extent, dtype=torch.float64))
            noise = noise * decay.reshape([-1 if n == axis else 1 for n in range(len(shape))])
        return Named(kind, noise)
    structure = formats.tensor_train(shape, 2) if kind == "train + noise" else formats.cp(shape, 3)
    planted = Network.random(structure, seed=seed, dtype=torch.float64).dense()
    return Named(kind, planted / planted.norm() + 0.1 * noise / noise.norm())


def _smooth() -> Iterator[Named]:
    for order, extent in ((3, 14), (4, 9), (5, 6)):
        grid = torch.meshgrid([torch.linspace(0, 1, extent, dtype=torch.float64)] * order, indexing="ij")
        total = torch.stack(grid).sum(0)
        yield Named("smooth", 1 / (1 + total))
        yield Named("smooth", torch.sin(3 * total * total))
        yield Named("smooth", torch.stack(grid).square().sum(0).sqrt())


def _real() -> Iterator[Named]:
    photograph = _sample("astronaut")[100:228:4, 150:278:4]
    yield Named("photograph", photograph)
    # Both sides of the photograph in two levels: rows and columns of tiles and of pixels within them.
    yield Named("photograph", photograph.reshape(4, 8, 4, 8, 3).permute(0, 2, 1, 3, 4).contiguous())
    yield Named("hyperspectral", _sample("indian_pines")[::4, ::4, ::10])
    yield Named("measurements", torch.nan_to_num(_sample("il2")))


def photograph(extent: int) -> Tensor:
    """A square of grey pixels of a photograph."""
    return _sample("astronaut")[100 : 100 + extent, 150 : 150 + extent].mean(-1)


def _sample(name: str) -> Tensor:
    return torch.from_numpy(np.asarray(read(f"sample:{name}").values, dtype=np.float64))


def tail(tensor: Tensor, rows: Sequence[int], rank: int) -> float:
    """The squared error of the best matrix of ``rank``, for the matricisation with the axes ``rows`` as its rows.

    No network whose bond of that rank separates these axes from the others can have a smaller error.
    """
    others = [axis for axis in range(tensor.ndim) if axis not in rows]
    height = math.prod(tensor.shape[axis] for axis in rows)
    matrix = tensor.permute([*rows, *others]).reshape(height, -1)
    return float(torch.linalg.svdvals(matrix)[rank:].square().sum())


def residual(tensor: Tensor, network: Network) -> float:
    """The norm of the difference, entry by entry: where bounds are tight, an error from norms has too few digits."""
    return float((tensor - network.dense()).norm())


def some_rank(limit: int, generator: torch.Generator) -> int:
    """A rank that truncates: from 1 to half of what the bond can use."""
    return int(torch.randint(1, max(limit // 2, 1) + 1, (), generator=generator))


def by_kind(kinds: Iterable[str]) -> str:
    """How many of which kind, as text."""
    counts: dict[str, int] = {}
    for kind in kinds:
        counts[kind] = counts.get(kind, 0) + 1
    return ", ".join(f"{count} {kind}" for kind, count in counts.items())
