"""What is written for vectors: LLVM's instructions, by functions of a builder."""

from __future__ import annotations

from typing import Any

from llvmlite import binding, ir

from tenfold.so3._simd import BYTES

I32, I64 = ir.IntType(32), ir.IntType(64)


def size(number: Any) -> int:
    """The bytes of a number of a type."""
    return 4 if isinstance(number, ir.FloatType) else 8


def vector(number: Any) -> Any:
    """The type of a vector of numbers of a type."""
    return ir.VectorType(number, BYTES // size(number))


def zero(kind: Any) -> Any:
    """A vector of zeros."""
    return ir.Constant(kind, None)


def load(builder: Any, pointer: Any, kind: Any, mask: Any = None) -> Any:
    """The vector at a place, where any number may begin; zeros where there is a mask and it is false."""
    align, pointer = size(kind.element), builder.bitcast(pointer, kind.as_pointer())
    if mask is None:
        return builder.load(pointer, align=align)
    name = f"llvm.masked.load.{_name(kind)}.{_pointer(_name(kind))}"
    function = _declared(builder, name, kind, [pointer, I32, mask, kind])
    return builder.call(function, [pointer, I32(align), mask, zero(kind)])


def store(builder: Any, value: Any, pointer: Any, mask: Any = None, *, past_caches: bool = False) -> None:
    """Writes a vector where any number may begin; what goes past the caches must begin where a line of them does."""
    kind = value.type
    align, pointer = size(kind.element), builder.bitcast(pointer, kind.as_pointer())
    if mask is None:
        stored = builder.store(value, pointer, align=BYTES if past_caches else align)
        if past_caches:
            stored.set_metadata("nontemporal", builder.module.add_metadata([I32(1)]))
        return
    name = f"llvm.masked.store.{_name(kind)}.{_pointer(_name(kind))}"
    function = _declared(builder, name, ir.VoidType(), [kind, pointer, I32, mask])
    builder.call(function, [value, pointer, I32(align), mask])


def fetch(builder: Any, pointer: Any, *, near: bool = True) -> None:
    """Has the line at a place brought to all caches, or to all but the first; the place may be any."""
    pointer = builder.bitcast(pointer, ir.IntType(8).as_pointer())
    function = _declared(builder, f"llvm.prefetch.{_pointer('i8')}", ir.VoidType(), [pointer, I32, I32, I32])
    builder.call(function, [pointer, I32(0), I32(3 if near else 2), I32(1)])


def spread(builder: Any, number: Any, kind: Any = None) -> Any:
    """A number on all lanes: as many as numbers of its type fill, or those of another type."""
    kind = kind or vector(number.type)
    undefined = ir.Constant(kind, ir.Undefined)
    return shuffle(builder, builder.insert_element(undefined, number, I32(0)), undefined, [0] * kind.count)


def shuffle(builder: Any, left: Any, right: Any, places: list[int]) -> Any:
    """Lanes of two vectors, counted through."""
    mask = ir.Constant(ir.VectorType(I32, len(places)), [I32(place) for place in places])
    return builder.shuffle_vector(left, right, mask)


def turned(builder: Any, rows: list[Any]) -> list[Any]:
    """Rows as columns: blocks of one, two and four change places.

    Rows may have more lanes than there are rows: then they are several squares side by side, each turned in its place.
    """
    rows, count, lanes, half = list(rows), len(rows), rows[0].type.count, 1
    while half < count:
        # Lanes whose number has this bit come from the other of two rows that differ in it.
        low = [lane + lanes - half if lane & half else lane for lane in range(lanes)]
        high = [lane + lanes if lane & half else lane + half for lane in range(lanes)]
        for row in range(count):
            if not row & half:
                one, other = rows[row], rows[row | half]
                rows[row] = shuffle(builder, one, other, low)
                rows[row | half] = shuffle(builder, one, other, high)
        half *= 2
    return rows


def multiply_add(builder: Any, left: Any, right: Any, more: Any) -> Any:
    """``left * right + more``, rounded once where the processor can."""
    return call(builder, "llvm.fmuladd", left, right, more)


def call(builder: Any, name: str, *values: Any) -> Any:
    """What an operation that LLVM knows by name makes of vectors of one type."""
    kind = values[0].type
    return builder.call(_declared(builder, f"{name}.{_name(kind)}", kind, [kind] * len(values)), values)


def _pointer(to: str) -> str:
    # Before version 15 pointers had the type of what they point to.
    return "p0" if binding.llvm_version_info[0] >= 15 else f"p0{to}"


def _name(kind: Any) -> str:
    return f"v{kind.count}f{8 * size(kind.element)}"


def _declared(builder: Any, name: str, result: Any, arguments: list[Any]) -> Any:
    kinds = [argument if isinstance(argument, ir.Type) else argument.type for argument in arguments]
    found = builder.module.globals.get(name)
    return found or ir.Function(builder.module, ir.FunctionType(result, kinds), name)
