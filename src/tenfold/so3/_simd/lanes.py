"""The type `Lanes`, as many numbers as fill a vector, and arithmetic with them."""

# Intrinsics get types and return a signature and a generator of code; there is nothing in them to annotate.
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import extending
from numba.core import types
from numba.extending import models, overload, register_model

from tenfold.so3._simd import BYTES, llvm

# What it makes is called by compiled code only, with other arguments than those that it is written with.
intrinsic: Any = extending.intrinsic


class Lanes(types.Type):
    """As many numbers of one floating dtype as fill a vector."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype
        self.count = BYTES // (dtype.bitwidth // 8)
        super().__init__(name=f"Lanes({dtype}, {self.count})")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Lanes) -> None:
        super().__init__(manager, kind, llvm.vector(manager.lookup(kind.dtype).get_value_type()))


@intrinsic
def width(typing, array):
    """How many numbers of the dtype of an array there are in a vector."""
    count = Lanes(array.dtype).count

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return context.get_constant(types.intp, count)

    return types.intp(array), generate


@intrinsic
def zero(typing, array):
    """Zeros of the dtype of an array."""
    lanes = Lanes(array.dtype)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return llvm.zero(context.get_value_type(lanes))

    return lanes(array), generate


@intrinsic
def spread(typing, number):
    """A number on every lane."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return llvm.spread(builder, arguments[0])

    return Lanes(number)(number), generate


@intrinsic
def multiply_add(typing, left, right, more):
    """``left * right + more``, rounded once where the processor can."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return llvm.multiply_add(builder, *arguments)

    return left(left, right, more), generate


@intrinsic
def root(typing, lanes):
    """Square roots."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return llvm.call(builder, "llvm.sqrt", *arguments)

    return lanes(lanes), generate


@intrinsic
def magnitude(typing, lanes):
    """Absolute values."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return llvm.call(builder, "llvm.fabs", *arguments)

    return lanes(lanes), generate


@intrinsic
def larger(typing, left, right):
    """The larger of each two; the second where one is NaN."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", *arguments), *arguments)

    return left(left, right), generate


@intrinsic
def where_zero(typing, test, then, other):
    """``then`` on lanes where ``test`` is zero, ``other`` elsewhere."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        tested, chosen, rest = arguments
        return builder.select(builder.fcmp_ordered("==", tested, llvm.zero(tested.type)), chosen, rest)

    return then(test, then, other), generate


@intrinsic
def all_between(typing, low, lanes, high):
    """Whether all lanes are above one number and below another; false where one is NaN."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        least, value, most = arguments
        above = builder.fcmp_ordered(">", value, llvm.spread(builder, least))
        inside = builder.and_(above, builder.fcmp_ordered("<", value, llvm.spread(builder, most)))
        bits = builder.bitcast(inside, ir.IntType(value.type.count))
        return builder.icmp_unsigned("==", bits, ir.Constant(bits.type, -1))

    return types.boolean(low, lanes, high), generate


@intrinsic
def across(typing, lanes):
    """The sum of all lanes."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        # Halves are added until one lane is left: an order that does not depend on the compiler.
        (found,) = arguments
        count = lanes.count
        while count > 1:
            count //= 2
            low, high = (llvm.shuffle(builder, found, found, list(range(begin, begin + count))) for begin in (0, count))
            found = builder.fadd(low, high)
        return builder.extract_element(found, llvm.I32(0))

    return lanes.dtype(lanes), generate


def _arithmetic(operation: Callable[[Any, Any], Any], instruction: str) -> None:
    """Makes an operator of Python work on lanes, and on lanes and numbers."""

    @intrinsic
    def both(typing, left, right):
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return getattr(builder, instruction)(*arguments)

        return left(left, right), generate

    @overload(operation)
    def of_lanes(left, right):
        if isinstance(left, Lanes) and left == right:
            return lambda left, right: both(left, right)
        if isinstance(left, Lanes) and left.dtype == right:
            return lambda left, right: both(left, spread(right))
        if isinstance(right, Lanes) and right.dtype == left:
            return lambda left, right: both(spread(left), right)
        return None


for _operation, _instruction in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    _arithmetic(_operation, _instruction)


@intrinsic
def _opposite(typing, lanes):
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fneg(arguments[0])

    return lanes(lanes), generate


@overload(operator.neg)
def _negative(lanes):
    return (lambda lanes: _opposite(lanes)) if isinstance(lanes, Lanes) else None
