"""Columns of a matrix in lanes: several rows, one on each lane, are written and read as they lie in memory.

A vector of a column has what belongs to one row on one lane; memory wants it beside the other columns of that row.
Columns are turned several at a time by interleaving pairs of vectors: first what lies within 16 bytes, which is what
processors do best, then whole pieces.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from tenfold.so3._simd import llvm
from tenfold.so3._simd.arrays import address


class Columns:
    """Columns of as many rows of a contiguous matrix as there are lanes, from a row on.

    Args:
        kind: the type of lanes.
        array, value: the type of the matrix and the matrix itself.
        constant: the first column is one number for all rows, which is not turned but written as it is.
    """

    def __init__(
        self, context: Any, builder: Any, kind: Any, array: Any, value: Any, row: Any, columns: int, *, constant: bool
    ) -> None:
        self.builder, self.kind, self._columns = builder, kind, columns
        # Where entries lie is known but for this: no processor has as many registers as there are rows.
        self._start = address(context, builder, array, value, (row,))
        self._parts = _parts(columns, constant)
        self._kept: dict[int, Any] = {}

    def write(self, column: int, lanes: Any) -> None:
        """Takes a column; written are those that it completes."""
        self._kept[column] = lanes
        part = next(part for part in self._parts if column in part)
        if all(other in self._kept for other in part):
            self._write([self._kept.pop(other) for other in part], part[0])

    def read(self, column: int) -> Any:
        """A column."""
        if column not in self._kept:
            part = next(part for part in self._parts if column in part)
            self._kept.update(zip(part, self._read(part), strict=True))
        return self._kept[column]

    def _write(self, lanes: list[Any], first: int) -> None:
        if len(lanes) == 1:
            for lane in range(self.kind.count):
                number = self.builder.extract_element(lanes[0], llvm.I32(lane))
                self.builder.store(number, self._place(lane, first))
            return
        count = len(lanes)
        for vector, rows in zip(_woven(self.builder, lanes), _order(self.kind, count), strict=True):
            for begin, lane in zip(range(0, self.kind.count, count), rows, strict=True):
                piece = llvm.shuffle(self.builder, vector, vector, list(range(begin, begin + count)))
                llvm.store(self.builder, piece, self._place(lane, first))

    def _read(self, part: range) -> list[Any]:
        count, builder = len(part), self.builder
        if count == 1:
            found = ir.Constant(self.kind, ir.Undefined)
            for lane in range(self.kind.count):
                number = builder.load(self._place(lane, part[0]))
                found = builder.insert_element(found, number, llvm.I32(lane))
            return [found]
        small = ir.VectorType(self.kind.element, count)
        vectors = []
        for rows in _order(self.kind, count):
            pieces = [llvm.load(builder, self._place(lane, part[0]), small) for lane in rows]
            while len(pieces) > 1:
                both = list(range(2 * pieces[0].type.count))
                pieces = [llvm.shuffle(builder, *pair, both) for pair in zip(pieces[::2], pieces[1::2], strict=True)]
            vectors.append(pieces[0])
        return _unwoven(builder, vectors)

    def _place(self, lane: int, column: int) -> Any:
        return self.builder.gep(self._start, [llvm.I64(lane * self._columns + column)])


def _parts(columns: int, constant: bool) -> list[range]:
    """Which columns are turned together: eight, then four, then one by one."""
    parts, begin = [], 0
    if constant and columns % 4 == 1:
        parts, begin = [range(1)], 1
    for size in (8, 4, 1):
        while columns - begin >= size:
            parts.append(range(begin, begin + size))
            begin += size
    return parts


def _stages(kind: Any, count: int) -> list[tuple[int, int]]:
    """How many lanes stay together in each interleaving, and within how many lanes it takes place."""
    within, stages, unit = 16 // llvm.size(kind.element), [], 1
    while unit < count:
        stages.append((unit, within if unit < within else kind.count))
        unit *= 2
    return stages


def _masks(lanes: int, unit: int, within: int) -> tuple[list[int], list[int]]:
    """The places in two vectors of what is in their interleaved ones."""
    masks: tuple[list[int], list[int]] = ([], [])
    for group in range(0, lanes, within):
        for half, mask in enumerate(masks):
            for begin in range(group + half * within // 2, group + (half + 1) * within // 2, unit):
                mask.extend(range(begin, begin + unit))
                mask.extend(range(lanes + begin, lanes + begin + unit))
    return masks


def _woven(builder: Any, vectors: list[Any]) -> list[Any]:
    count, lanes = len(vectors), vectors[0].type.count
    for unit, within in _stages(vectors[0].type, count):
        for first in range(count):
            if not first & unit:
                one, other = vectors[first], vectors[first | unit]
                for place, mask in zip((first, first | unit), _masks(lanes, unit, within), strict=True):
                    vectors[place] = llvm.shuffle(builder, one, other, mask)
    return vectors


def _unwoven(builder: Any, vectors: list[Any]) -> list[Any]:
    count, lanes = len(vectors), vectors[0].type.count
    for unit, within in reversed(_stages(vectors[0].type, count)):
        low, high = _masks(lanes, unit, within)
        # Where each lane of the two went.
        back = sorted(range(2 * lanes), key=(low + high).__getitem__)
        for first in range(count):
            if not first & unit:
                one, other = vectors[first], vectors[first | unit]
                vectors[first] = llvm.shuffle(builder, one, other, back[:lanes])
                vectors[first | unit] = llvm.shuffle(builder, one, other, back[lanes:])
    return vectors


def _order(kind: Any, count: int) -> list[list[int]]:
    """The rows whose pieces are in each of the vectors that `_woven` makes."""
    lanes = kind.count
    vectors = [[(column, lane) for lane in range(lanes)] for column in range(count)]
    for unit, within in _stages(kind, count):
        for first in range(count):
            if not first & unit:
                both = vectors[first] + vectors[first | unit]
                for place, mask in zip((first, first | unit), _masks(lanes, unit, within), strict=True):
                    vectors[place] = [both[number] for number in mask]
    return [[vector[begin][1] for begin in range(0, lanes, count)] for vector in vectors]
