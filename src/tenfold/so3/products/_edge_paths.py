"""The paths of a convolution along edges, channel by channel, and their coefficients as kernels run through them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Shaped
from numpy.typing import NDArray

from tenfold.so3._wigner3j import real_3j

# How many components of a feature a kernel holds in registers at once, largest first.
PIECES = (7, 5, 3, 1)


class EdgePath(NamedTuple):
    """One path: degrees of feature, filter and message, the factor of its 3j coefficients, and what it joins.

    ``left`` and ``out`` are where its blocks begin in features and messages, channels last.
    """

    feature: int
    filter: int
    message: int
    channels: int
    left: int
    out: int
    factor: float

    @property
    def degrees(self) -> tuple[int, int, int]:
        """The three degrees."""
        return self.feature, self.filter, self.message


@dataclass(frozen=True)
class EdgePaths:
    """All of them, in the order of their weights: one for each path and channel.

    Attributes:
        components: how many numbers features, filters and messages have.
    """

    paths: tuple[EdgePath, ...]
    components: tuple[int, int, int]

    @property
    def weight_numel(self) -> int:
        """How many weights an edge has."""
        return sum(path.channels for path in self.paths)

    @property
    def text(self) -> str:
        """What operators of torch are told, who take no objects; `read` is the inverse."""
        return "|".join(" ".join(map(repr, row)) for row in (self.components, *self.paths))


@cache
def read(text: str) -> EdgePaths:
    """The paths that are written in a text."""
    rows = [row.split() for row in text.split("|")]
    paths = (EdgePath._make([*map(int, row[:-1]), float(row[-1])]) for row in rows[1:])
    components = tuple(map(int, rows[0]))
    return EdgePaths(tuple(paths), (components[0], components[1], components[2]))


class EdgeTables(NamedTuple):
    """What the kernels read.

    The components of a path's feature are done in pieces that fit into registers. For each edge, coefficients times
    filter are a matrix ``[message, feature]`` for every piece: its entries lie at ``entry`` and after.

    Attributes:
        pieces: one row each: how many components of the feature and of the message, channels, where feature, message,
            weights and entries begin, and whether its path has begun before.
        groups: one row for each degree of the filter: where its components begin, how many, where its entries begin,
            how many, and where its part of ``table`` begins, which is ``[component, entry]``.
        table: coefficients, so many entries for each degree that registers are filled.
        begins, entry, value: the same coefficients without zeros, by the component of the filter.
        sizes: of features, filters, messages, weights; of the entries; and the most numbers in a piece of a feature.
    """

    pieces: Shaped[np.ndarray, "piece 8"]
    groups: Shaped[np.ndarray, "group 5"]
    table: Shaped[np.ndarray, " n"]
    begins: Shaped[np.ndarray, " component"]
    entry: Shaped[np.ndarray, " nonzero"]
    value: Shaped[np.ndarray, " nonzero"]
    sizes: tuple[int, int, int, int, int, int]


@cache
def tables(text: str, dtype: torch.dtype, lanes: int) -> EdgeTables:
    """The tables of the paths in a text, for registers of so many numbers."""
    edge_paths = read(text)
    size, pieces, groups = 0, [], []
    parts: list[NDArray[np.float64]] = []
    weights = np.cumsum([0, *(path.channels for path in edge_paths.paths)])
    for degree in sorted({path.filter for path in edge_paths.paths}):
        begin, columns = size, []
        for path, weight in zip(edge_paths.paths, weights, strict=False):
            if path.filter != degree:
                continue
            table = path.factor * real_3j(*path.degrees)
            done = 0
            for length in _lengths(table.shape[0]):
                part = table[done : done + length].transpose(1, 2, 0)  # [filter, message, feature]
                left = path.left + done * path.channels
                pieces.append((length, part.shape[1], path.channels, left, path.out, weight, size, done > 0))
                columns.append(part.reshape(len(part), -1))
                size += columns[-1].shape[1]
                done += length
        padding = -(size - begin) % lanes
        columns.append(np.zeros((2 * degree + 1, padding)))
        size += padding
        groups.append((degree**2, 2 * degree + 1, begin, size - begin, sum(part.size for part in parts)))
        parts.append(np.concatenate(columns, axis=1))
    # In the order in which weights and messages lie in memory.
    pieces.sort(key=lambda piece: (piece[5], piece[6]))
    found = [[np.nonzero(row)[0] for row in part] for part in parts]
    by_component: list[tuple[NDArray[np.int64], NDArray[np.float64]]] = []
    for component in range(edge_paths.components[1]):
        entry, value = np.empty(0, np.int64), np.empty(0)
        for group, part, places in zip(groups, parts, found, strict=True):
            if group[0] <= component < group[0] + group[1]:
                row = component - group[0]
                entry, value = places[row] + group[2], part[row, places[row]]
        by_component.append((entry, value))
    kind = {torch.float32: np.float32, torch.float64: np.float64}[dtype]
    sizes = (*edge_paths.components, edge_paths.weight_numel, size, max((p[0] * p[2] for p in pieces), default=0))
    return EdgeTables(
        np.array(pieces, np.int64).reshape(-1, 8),
        np.array(groups, np.int64).reshape(-1, 5),
        np.concatenate([*(part.ravel() for part in parts), np.empty(0)]).astype(kind),
        np.cumsum([0, *(len(entry) for entry, _ in by_component)]).astype(np.int64),
        np.concatenate([*(entry for entry, _ in by_component), np.empty(0)]).astype(np.int64),
        np.concatenate([*(value for _, value in by_component), np.empty(0)]).astype(kind),
        sizes,
    )


def _lengths(components: int) -> Sequence[int]:
    """Pieces that make up so many components, as few as possible by taking the largest first."""
    found = []
    while components:
        found.append(next(length for length in PIECES if length <= components))
        components -= found[-1]
    return found
