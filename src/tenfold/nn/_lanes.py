"""Products of small matrices with many rows, made ready for the kernel that applies them to blocks of rows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from tenfold.nn._blocks import in_blocks, threads_for
from tenfold.nn._chains import Chain
from tenfold.structure import Structure

# Where products read and write: what comes in, the result, and two places between.
IN, RESULT, BETWEEN, AGAIN = range(4)


class Move(NamedTuple):
    """``out[y + made] (+)= sum A[group, made, summed] in[x + summed]``, for each group and each of the others.

    Attributes:
        groups: for each matrix, where in both places it begins.
        others: where else it is applied to, in both places.
        summed: where what is summed lies.
        made: where the sums go.
        source, target: the places.
        add: whether the target has something to add to.
    """

    groups: Sequence[tuple[int, int]]
    others: Sequence[tuple[int, int]]
    summed: Sequence[int]
    made: Sequence[int]
    source: int
    target: int
    add: bool


class Ready(NamedTuple):
    """Matrices as the kernel reads them, and the program that says what it does with them.

    Attributes:
        packed: the matrices, in tiles.
        programs: for blocks of one vector and of as many as there can be, with the memory that they work in.
        rows: features that come out.
        flops: multiplications and additions for one vector.
    """

    packed: np.ndarray
    programs: dict[int, tuple[np.ndarray, int]]
    rows: int
    flops: int


def of_chains(chains: tuple[Chain, ...], cores: Sequence[Sequence[Tensor]]) -> Ready:
    """The sum of some chains."""
    matrices = [
        numbers[step.core].permute(step.core_axes).reshape(step.core_shape)
        for one, numbers in zip(chains, cores, strict=True)
        for step in one.steps
    ]
    rows, columns = chains[0].structure.shape
    return ready(_moves(chains), columns, rows, matrices)


def ready(moves: tuple[Move, ...], columns: int, rows: int, matrices: Sequence[Tensor]) -> Ready:
    """The matrices ``[groups, made, summed]`` of some moves in the tiles of the kernel."""
    from tenfold.nn._kernels import TILE, VECTORS

    kinds = {matrix.dtype for matrix in matrices}
    if len(kinds) > 1:
        raise TypeError(f"cores are all of one dtype, not of {', '.join(sorted(map(str, kinds)))}")
    parts = []
    for matrix in matrices:
        groups, height, summed = matrix.shape
        tiles, done = [], 0
        for tall in (TILE, TILE // 2, 1):
            count = (height - done) // tall
            tile = matrix.detach()[:, done : done + count * tall].reshape(groups, count, tall, summed)
            tiles.append(tile.transpose(2, 3).reshape(groups, count * tall * summed))
            done += count * tall
        parts.append(torch.cat(tiles, 1).flatten())
    size = matrices[0].element_size()
    programs = {vectors: _program(moves, columns, rows, size, vectors) for vectors in {1, VECTORS}}
    flops = sum(2 * len(m.groups) * len(m.others) * len(m.made) * len(m.summed) for m in moves)
    return Ready(torch.cat(parts).numpy(), programs, rows, flops)


def run(subject: object, made: Ready, rows: Tensor, bias: Tensor | None) -> Tensor:
    """The products of all rows, with as many threads as are worth it; what the matrix is, the program knows."""
    from tenfold.nn._kernels import VECTORS, lanes
    from tenfold.nn._kernels import chain as kernel

    count, features = rows.shape
    size = rows.element_size()
    # Thick blocks read the matrices less often; thin ones for few rows, and where else a thread would have nothing.
    threads = threads_for(count, made.flops)
    thick = count > lanes(size, 1) and -(-count // lanes(size)) >= threads
    vectors = VECTORS if thick else 1
    program, memory = made.programs[vectors]

    def part(x: int, x_pitch: int, y: int, y_pitch: int, added: int, work: int, first: int, last: int) -> None:
        kernel(
            made.packed,
            program,
            vectors,
            x,
            x_pitch,
            y,
            y_pitch,
            added,
            features,
            made.rows,
            work,
            first,
            last,
        )

    return in_blocks(part, rows, bias, made.rows, lanes(size, vectors), memory, threads)


@lru_cache(maxsize=256)
def _moves(chains: tuple[Chain, ...]) -> tuple[Move, ...]:
    moves, turn = [], BETWEEN
    for term, one in enumerate(chains):
        structure = one.structure
        source, layout = IN, structure.outputs[1]
        for link in one.links:
            ends = link is one.links[-1]
            after = structure.outputs[0] if ends else link.after
            target = RESULT if ends else turn
            incoming, outgoing = _apart(structure, layout), _apart(structure, after)
            moves.append(
                Move(
                    _places(structure, link.groups, incoming, outgoing),
                    _places(structure, link.others, incoming, outgoing),
                    tuple(x for x, _ in _places(structure, link.summed, incoming, {})),
                    tuple(y for _, y in _places(structure, link.made, {}, outgoing)),
                    source,
                    target,
                    ends and term > 0,
                )
            )
            source, layout, turn = target, after, BETWEEN + AGAIN - turn
    return tuple(moves)


def _apart(structure: Structure, layout: Sequence[str]) -> dict[str, int]:
    """Features from one value of an index to the next."""
    found, step = {}, 1
    for index in reversed(layout):
        found[index] = step
        step *= structure.sizes[index]
    return found


def _places(
    structure: Structure, names: Sequence[str], first: dict[str, int], second: dict[str, int]
) -> tuple[tuple[int, int], ...]:
    """For each value of some indices, in order, where it lies in two layouts."""
    places = []
    for values in product(*(range(structure.sizes[i]) for i in names)):
        pairs = list(zip(names, values, strict=True))
        places.append((sum(v * first.get(i, 0) for i, v in pairs), sum(v * second.get(i, 0) for i, v in pairs)))
    return tuple(places)


@lru_cache(maxsize=256)
def _program(moves: tuple[Move, ...], columns: int, rows: int, size: int, vectors: int) -> tuple[np.ndarray, int]:
    """What the kernel reads: how many products, where the result is, a head for each product, tables of offsets."""
    from tenfold.nn._kernels import HEAD, lanes

    wide = lanes(size, vectors) * size
    between = [
        max(y for _, y in m.groups) + max(y for _, y in m.others) + max(m.made, default=0) + 1
        for m in moves
        if m.target != RESULT
    ]
    widest = max(between, default=0)
    at = (0, columns, columns + rows, columns + rows + widest)
    heads: list[int] = []
    tables: list[int] = []
    start, core = 2 + HEAD * len(moves), 0
    for move in moves:
        values = (
            [v for pair in move.groups for v in pair],
            [v for pair in move.others for v in pair],
            move.summed,
            move.made,
        )
        heads += [len(move.groups), len(move.others), len(move.made), len(move.summed), core, int(move.add)]
        heads += [at[move.source] * wide, at[move.target] * wide]
        for table in values:
            heads.append(start + len(tables))
            tables += [v * wide for v in table]
        core += len(move.groups) * len(move.made) * len(move.summed)
    numbers = [len(moves), columns * wide, *heads, *tables]
    return np.array(numbers, dtype=np.int64), (columns + rows + 2 * widest) * wide
