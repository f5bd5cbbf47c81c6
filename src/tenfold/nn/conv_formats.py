"""Structures of kernels ``[out, in, k...]`` beyond those of any array (`tenfold.formats`)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tenfold.errors import StructureError
from tenfold.structure import Structure

_SPACE = "xyz"


def tucker2(shape: Sequence[int], ranks: tuple[int, int]) -> Structure:
    """Both channels through fewer: ``K[o,i,x,y] = sum_ab U[o,a] G[a,b,x,y] V[i,b]``; ``ranks`` are those of out and in.

    As a layer: 1 x 1, the kernel between the fewer channels, 1 x 1. Parameters: ``a o + a b k k + b i``.
    Paper: "Compression of deep convolutional neural networks for fast and low power mobile applications", 2016.
    """
    space = _space(shape)
    for rank, extent, name in zip(ranks, shape, ("out", "in"), strict=False):
        _check(rank, extent, f"the channels that go {name}" if name == "out" else "the channels that come in")
    sizes = {"o": shape[0], "i": shape[1], "a": ranks[0], "b": ranks[1], **dict(zip(space, shape[2:], strict=True))}
    return Structure.of([("a", "b", *space), ("o", "a"), ("i", "b")], ["o", "i", *space], sizes)


def space_train(shape: Sequence[int], ranks: Sequence[int]) -> Structure:
    """A tensor train in the order in which a convolution runs: channels in, each axis of space, channels out.

    ``K[o,i,x,y] = sum_abc V[i,a] X[a,x,b] Y[b,y,c] U[c,o]``; as a layer: 1 x 1, k x 1, 1 x k, 1 x 1.
    Parameters: ``i a + a k b + b k c + c o``. Paper: "Tensor-train decomposition", 2011.
    """
    space = _space(shape)
    modes = ("i", *space, "o")
    lengths = (shape[1], *shape[2:], shape[0])
    if len(ranks) != len(modes) - 1:
        raise StructureError(f"ranks are {len(modes) - 1} numbers, one between each two cores, not {len(ranks)}")
    bonds = tuple("abcd"[: len(ranks)])
    for place, rank in enumerate(ranks):
        limit = min(math.prod(lengths[: place + 1]), math.prod(lengths[place + 1 :]))
        _check(rank, limit, f"the bond between '{modes[place]}' and '{modes[place + 1]}'")
    sizes = {**dict(zip(modes, lengths, strict=True)), **dict(zip(bonds, ranks, strict=True))}
    cores = [(*bonds[max(k - 1, 0) : k], mode, *bonds[k : k + 1]) for k, mode in enumerate(modes)]
    return Structure.of(cores, ["o", "i", *space], sizes)


def _space(shape: Sequence[int]) -> tuple[str, ...]:
    if not 3 <= len(shape) <= 5:
        raise StructureError(f"shape is (out, in, k...) with 1 to 3 axes of space, not {tuple(shape)}")
    return tuple(_SPACE[: len(shape) - 2])


def _check(rank: int, limit: int, of: str) -> None:
    if not 1 <= rank <= limit:
        raise StructureError(f"rank {rank} of {of} must be from 1 to {limit}")
