"""Values of several lanes for kernels compiled by Numba: what runs along channels is said, not hoped for.

Loops over channels are short, and whether a compiler makes vectors of them hangs on what it can prove about memory. A
kernel that is written with these functions reads ``width(array)`` channels at once, keeps sums in registers, and needs
no proof. Arrays are flat and contiguous. Where the length of a tuple must be known, ``like`` is a tuple of that length.
``lanes`` is None, for all lanes, or how many there are still to come: then those beyond are read as zero and not
written.
"""

# Intrinsics get types and return a signature and a generator of code; there is nothing in them to annotate.
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model


def _register_bytes() -> int:
    try:
        features = llvmlite.binding.get_host_cpu_features()
    except RuntimeError:  # a platform where they cannot be asked for
        return 16
    return 64 if features.get("avx512f") else 32 if features.get("avx2") else 16


_BYTES = _register_bytes()


def lanes_of(itemsize: int) -> int:
    """How many numbers of so many bytes a value has."""
    return _BYTES // itemsize


class Vector(types.Type):
    """The type of one value of several lanes."""

    def __init__(self, dtype: types.Float) -> None:
        self.dtype = dtype
        self.lanes = lanes_of(dtype.bitwidth // 8)
        super().__init__(name=f"Vector({dtype}, {self.lanes})")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager, of) -> None:
        element = ir.FloatType() if of.dtype.bitwidth == 32 else ir.DoubleType()
        super().__init__(manager, of, ir.VectorType(element, of.lanes))


@intrinsic
def width(typingctx, array):
    """How many lanes a value has."""
    lanes = Vector(array.dtype).lanes

    def generate(context, builder, signature, arguments):
        return context.get_constant(types.intp, lanes)

    return types.intp(array), generate


@intrinsic
def remaining(typingctx, channels, first, partial):
    """``lanes`` of the channels from ``first`` on: None where ``partial`` is None, which says that all are whole."""
    result = types.none if isinstance(partial, types.NoneType) else types.intp

    def generate(context, builder, signature, arguments):
        if signature.return_type is types.none:
            return context.get_dummy_value()
        return builder.sub(arguments[0], arguments[1])

    return result(types.intp, types.intp, partial), generate


@intrinsic
def row(typingctx, array, start, lanes):
    """The entries from ``start`` on."""
    vector = Vector(array.dtype)

    def generate(context, builder, signature, arguments):
        mask = _mask(context, builder, signature, arguments, 2)
        return _load(context, builder, signature, arguments[0], arguments[1], mask)

    return vector(array, types.intp, lanes), generate


@intrinsic
def rows(typingctx, array, start, stride, lanes, like):
    """Those from ``start``, ``start + stride``, and so on."""
    result = types.UniTuple(Vector(array.dtype), len(like))

    def generate(context, builder, signature, arguments):
        mask = _mask(context, builder, signature, arguments, 3)
        place, found = arguments[1], []
        for _ in range(len(like)):
            found.append(_load(context, builder, signature, arguments[0], place, mask))
            place = builder.add(place, arguments[2])
        return context.make_tuple(builder, signature.return_type, found)

    return result(array, types.intp, types.intp, lanes, like), generate


@intrinsic
def store(typingctx, array, start, lanes, vector):
    """Write a value."""

    def generate(context, builder, signature, arguments):
        mask = _mask(context, builder, signature, arguments, 2)
        _store(context, builder, signature, arguments[0], arguments[1], mask, arguments[3])
        return context.get_dummy_value()

    return types.none(array, types.intp, lanes, vector), generate


@intrinsic
def store_rows(typingctx, array, start, stride, lanes, vectors):
    """Write values to ``start``, ``start + stride``, and so on."""

    def generate(context, builder, signature, arguments):
        mask = _mask(context, builder, signature, arguments, 3)
        place = arguments[1]
        for value in cgutils.unpack_tuple(builder, arguments[4]):
            _store(context, builder, signature, arguments[0], place, mask, value)
            place = builder.add(place, arguments[2])
        return context.get_dummy_value()

    return types.none(array, types.intp, types.intp, lanes, vectors), generate


@intrinsic
def zero(typingctx, array):
    """A value of zeros."""
    vector = Vector(array.dtype)

    def generate(context, builder, signature, arguments):
        return ir.Constant(context.get_value_type(vector), None)

    return vector(array), generate


@intrinsic
def zeros(typingctx, array, like):
    """A tuple of them."""
    vector = Vector(array.dtype)

    def generate(context, builder, signature, arguments):
        nothing = ir.Constant(context.get_value_type(vector), None)
        return context.make_tuple(builder, signature.return_type, [nothing] * len(like))

    return types.UniTuple(vector, len(like))(array, like), generate


@intrinsic
def fetch(typingctx, array, start):
    """Have the entries from ``start`` on brought closer while something else is done."""

    def generate(context, builder, signature, arguments):
        pointer, _ = _pointer(context, builder, signature, arguments[0], arguments[1])
        flag = ir.IntType(32)
        of = ir.FunctionType(ir.VoidType(), [pointer.type, flag, flag, flag])
        function = cgutils.get_or_insert_function(builder.module, of, "llvm.prefetch.p0")
        builder.call(function, [pointer, ir.Constant(flag, 0), ir.Constant(flag, 3), ir.Constant(flag, 1)])
        return context.get_dummy_value()

    return types.none(array, types.intp), generate


@intrinsic
def multiply_add(typingctx, a, b, c):
    """``a b + c``, lane by lane."""

    def generate(context, builder, signature, arguments):
        return _multiply_add(builder, *arguments)

    return a(a, b, c), generate


@intrinsic
def scale_add(typingctx, array, place, vector, total):
    """``array[place]`` times a value, plus another."""

    def generate(context, builder, signature, arguments):
        factor = _everywhere(context, builder, signature, arguments[0], arguments[1])
        return _multiply_add(builder, factor, arguments[2], arguments[3])

    return vector(array, types.intp, vector, total), generate


@intrinsic
def combine_add(typingctx, array, start, vectors, total):
    """The sum of ``array[start + i]`` times value ``i``, plus another value."""

    def generate(context, builder, signature, arguments):
        place, found = arguments[1], arguments[3]
        for value in cgutils.unpack_tuple(builder, arguments[2]):
            found = _multiply_add(builder, _everywhere(context, builder, signature, arguments[0], place), value, found)
            place = builder.add(place, context.get_constant(types.intp, 1))
        return found

    return total(array, types.intp, vectors, total), generate


@intrinsic
def spread_add(typingctx, array, start, vector, totals):
    """``array[start + i]`` times a value, plus value ``i`` of a tuple: a tuple again."""

    def generate(context, builder, signature, arguments):
        place, found = arguments[1], []
        for total in cgutils.unpack_tuple(builder, arguments[3]):
            factor = _everywhere(context, builder, signature, arguments[0], place)
            found.append(_multiply_add(builder, factor, arguments[2], total))
            place = builder.add(place, context.get_constant(types.intp, 1))
        return context.make_tuple(builder, signature.return_type, found)

    return totals(array, types.intp, vector, totals), generate


@intrinsic
def multiply_each(typingctx, vector, vectors):
    """A value times each of a tuple."""

    def generate(context, builder, signature, arguments):
        found = [builder.fmul(arguments[0], value) for value in cgutils.unpack_tuple(builder, arguments[1])]
        return context.make_tuple(builder, signature.return_type, found)

    return vectors(vector, vectors), generate


@intrinsic
def multiply_add_each(typingctx, vector, vectors, totals):
    """A value times each of a tuple, plus each of another."""

    def generate(context, builder, signature, arguments):
        pairs = zip(*(cgutils.unpack_tuple(builder, tuple_) for tuple_ in arguments[1:]), strict=True)
        found = [_multiply_add(builder, arguments[0], value, total) for value, total in pairs]
        return context.make_tuple(builder, signature.return_type, found)

    return totals(vector, vectors, totals), generate


@intrinsic
def inner_add(typingctx, left, right, total):
    """The products of the values of two tuples, summed lane by lane, plus another value."""

    def generate(context, builder, signature, arguments):
        found = arguments[2]
        for a, b in zip(*(cgutils.unpack_tuple(builder, tuple_) for tuple_ in arguments[:2]), strict=True):
            found = _multiply_add(builder, a, b, found)
        return found

    return total(left, right, total), generate


@intrinsic
def across(typingctx, vector):
    """The sum of all lanes."""

    def generate(context, builder, signature, arguments):
        # Halves are added until one lane is left: an order that does not depend on the compiler.
        found, lanes = arguments[0], vector.lanes
        while lanes > 1:
            lanes //= 2
            index = ir.VectorType(ir.IntType(32), lanes)
            halves = [
                builder.shuffle_vector(found, found, ir.Constant(index, list(range(begin, begin + lanes))))
                for begin in (0, lanes)
            ]
            found = builder.fadd(*halves)
        return builder.extract_element(found, ir.Constant(ir.IntType(32), 0))

    return vector.dtype(vector), generate


def _pointer(context, builder, signature, array, place, element=None):
    """To entry ``place``, as a pointer to a value of lanes, or to one number."""
    of = signature.args[0]
    data = context.make_array(of)(context, builder, array).data
    pointer = builder.gep(data, [place], source_etype=context.get_value_type(of.dtype))
    kind = element or context.get_value_type(Vector(of.dtype))
    return builder.bitcast(pointer, kind.as_pointer()), kind


def _load(context, builder, signature, array, place, mask):
    pointer, kind = _pointer(context, builder, signature, array, place)
    align = signature.args[0].dtype.bitwidth // 8
    if mask is None:
        return builder.load(pointer, align=align, typ=kind)
    name = f"llvm.masked.load.v{kind.count}f{8 * align}.p0"
    of = ir.FunctionType(kind, [pointer.type, ir.IntType(32), mask.type, kind])
    function = cgutils.get_or_insert_function(builder.module, of, name)
    return builder.call(function, [pointer, ir.Constant(ir.IntType(32), align), mask, ir.Constant(kind, None)])


def _store(context, builder, signature, array, place, mask, value):
    pointer, kind = _pointer(context, builder, signature, array, place)
    align = signature.args[0].dtype.bitwidth // 8
    if mask is None:
        builder.store(value, pointer, align=align)
        return
    name = f"llvm.masked.store.v{kind.count}f{8 * align}.p0"
    of = ir.FunctionType(ir.VoidType(), [kind, pointer.type, ir.IntType(32), mask.type])
    function = cgutils.get_or_insert_function(builder.module, of, name)
    builder.call(function, [value, pointer, ir.Constant(ir.IntType(32), align), mask])


def _mask(context, builder, signature, arguments, position):
    """Which lanes count; None for all."""
    if isinstance(signature.args[position], types.NoneType):
        return None
    count = Vector(signature.args[0].dtype).lanes
    kind = ir.VectorType(ir.IntType(64), count)
    numbers = ir.Constant(kind, list(range(count)))
    return builder.icmp_signed("<", numbers, _splat(builder, kind, arguments[position]))


def _everywhere(context, builder, signature, array, place):
    """A number of an array in all lanes."""
    of = signature.args[0].dtype
    pointer, kind = _pointer(context, builder, signature, array, place, context.get_value_type(of))
    return _splat(builder, context.get_value_type(Vector(of)), builder.load(pointer, typ=kind))


def _splat(builder, kind, number):
    undefined = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(undefined, number, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(ir.IntType(32), kind.count), None))


def _multiply_add(builder, a, b, c):
    """Fused where the machine can."""
    name = f"llvm.fmuladd.v{a.type.count}f{32 if a.type.element == ir.FloatType() else 64}"
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(a.type, [a.type] * 3), name)
    return builder.call(function, [a, b, c])
