"""Chains of products made ready for the kernel that applies them to blocks of rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, lru_cache
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from tenfold.nn._chains import Chain, chain
from tenfold.structure import Structure


class Ready(NamedTuple):
    """Cores as the kernel reads them, and the program that says what it does with them."""

    packed: np.ndarray
    program: np.ndarray
    work: int


def ready(chains: Sequence[Chain], cores: Sequence[Sequence[Tensor]]) -> Ready:
    """The cores of each structure, in the order of its chain and in the tiles of the kernel."""
    from tenfold.nn._kernels import TILE

    kinds = {core.dtype for numbers in cores for core in numbers}
    if len(kinds) > 1:
        raise TypeError(f"cores are all of one dtype, not of {', '.join(sorted(map(str, kinds)))}")
    size = cores[0][0].element_size()
    program, work = _program(tuple(one.structure for one in chains), size)
    parts = []
    for one, numbers in zip(chains, cores, strict=True):
        for step in one.steps:
            shape = step.core_shape
            core = numbers[step.core].detach().permute(step.core_axes).reshape(shape)
            tiles, done = [], 0
            for height in (TILE, TILE // 2, 1):
                count = (shape[1] - done) // height
                tile = core[:, done : done + count * height].reshape(shape[0], count, height, shape[2])
                tiles.append(tile.transpose(2, 3).reshape(shape[0], -1))
                done += count * height
            parts.append(torch.cat(tiles, 1).flatten())
    return Ready(torch.cat(parts).numpy(), program, work)


def run(made: Ready, rows: Tensor, bias: Tensor | None, out_features: int) -> Tensor:
    """The products of all rows, with as many threads as torch has; each row of ``rows`` is contiguous."""
    from tenfold.nn._kernels import chain as kernel
    from tenfold.nn._kernels import lanes

    count, features = rows.shape
    size = rows.element_size()
    block = lanes(size)
    result = torch.empty(count, out_features, dtype=rows.dtype)
    blocks = -(-count // block)
    threads = min(torch.get_num_threads(), blocks)
    work = torch.empty(threads * made.work, dtype=torch.uint8)
    source, pitch, target, added = rows.data_ptr(), rows.stride(0) * size, result.data_ptr(), 0
    if bias is not None:
        added = bias.data_ptr()

    def part(n: int) -> None:
        first, last = (min(blocks * k // threads * block, count) for k in (n, n + 1))
        kernel(
            made.packed,
            made.program,
            source,
            pitch,
            target,
            out_features * size,
            added,
            features,
            out_features,
            work.data_ptr() + n * made.work,
            first,
            last,
        )

    if threads > 1:
        others = [_pool().submit(part, n) for n in range(1, threads)]
        part(0)
        for other in others:
            other.result()
    elif threads:
        part(0)
    return result


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(thread_name_prefix="tenfold-lanes")


@lru_cache(maxsize=256)
def _program(structures: tuple[Structure, ...], size: int) -> tuple[np.ndarray, int]:
    """What `_kernels` reads: how many products, where the result is, a head for each product, tables of offsets."""
    from tenfold.nn._kernels import HEAD, lanes

    wide = lanes(size) * size
    rows, columns = structures[0].shape
    links = [(s, link, n) for n, s in enumerate(structures) for link in chain(s).links]
    widest = max((math.prod(s.sizes[i] for i in link.after) for s, link, _ in links), default=1)
    # The rows that come in, the result, and two places between which the products go.
    result = columns * wide
    between = [result + rows * wide, result + (rows + widest) * wide]
    heads: list[list[int]] = []
    tables: list[int] = []
    start = 2 + HEAD * len(links)
    core = 0

    def table(values: Any) -> int:
        place = start + len(tables)
        tables.extend(values)
        return place

    turn, source, layout = 0, 0, ()
    for position, (structure, link, term) in enumerate(links):
        if position == 0 or links[position - 1][2] != term:
            source, layout = 0, structure.outputs[1]
        ends = position + 1 == len(links) or links[position + 1][2] != term
        after = structure.outputs[0] if ends else link.after
        target = result if ends else between[turn]
        incoming, outgoing = _offsets(structure, layout, wide), _offsets(structure, after, wide)
        groups = _both(structure, link.groups, incoming, outgoing)
        others = _both(structure, link.others, incoming, outgoing)
        summed = [x for x, _ in _both(structure, link.summed, incoming, {})]
        made = [y for _, y in _both(structure, link.made, {}, outgoing)]
        heads.append(
            [
                len(groups),
                len(others),
                len(made),
                len(summed),
                core,
                int(ends and term > 0),
                source,
                target,
                table(v for pair in groups for v in pair),
                table(v for pair in others for v in pair),
                table(summed),
                table(made),
            ]
        )
        core += len(groups) * len(made) * len(summed)
        source, layout, turn = target, after, 1 - turn
    numbers = [len(links), result, *(v for head in heads for v in head), *tables]
    return np.array(numbers, dtype=np.int64), between[1] + widest * wide


def _offsets(structure: Structure, layout: Sequence[str], wide: int) -> dict[str, int]:
    """Bytes from one value of an index to the next."""
    found, step = {}, wide
    for index in reversed(layout):
        found[index] = step
        step *= structure.sizes[index]
    return found


def _both(
    structure: Structure, names: Sequence[str], first: dict[str, int], second: dict[str, int]
) -> list[tuple[int, int]]:
    """For each value of some indices, in order, where it lies in two layouts."""
    places = []
    for values in product(*(range(structure.sizes[i]) for i in names)):
        pairs = list(zip(names, values, strict=True))
        places.append(tuple(sum(v * at.get(i, 0) for i, v in pairs) for at in (first, second)))
    return places
