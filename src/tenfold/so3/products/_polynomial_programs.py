"""The loops of `_polynomial_kernels` written out for polynomials that are known: no index is left, and no branch.

Monomials are walked from each to those with one factor more, so that what is multiplied stays in registers. LLVM gets
the code as it is; Numba compiles what is around it, and keeps the whole on disk for the next process. This module loads
Numba.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from numba.core import types
from numba.extending import NativeValue, models, register_model, typeof_impl, unbox

from tenfold.so3._compiled import compiled
from tenfold.so3._simd import llvm
from tenfold.so3._simd.arrays import address, scratch, store
from tenfold.so3._simd.lanes import Lanes, intrinsic, width, zero
from tenfold.so3.products._polynomial_kernels import _unweighted, _weighted
from tenfold.so3.products._polynomials import Polynomials, polynomials


class Program(types.Opaque):
    """Polynomials as a type, for which functions are compiled, and an argument of that type.

    Attributes:
        source: what `polynomials` makes them of.
        by_features: whether gradients of the features are wanted,
        by_weight: and of the weights.
    """

    def __init__(self, source: tuple[str, str, int], by_features: bool, by_weight: bool) -> None:
        self.source, self.by_features, self.by_weight = source, by_features, by_weight
        made = polynomials(*source)
        # What is kept on disk must not outlive another order of the terms.
        digest = hashlib.sha256(b"".join(array.tobytes() for array in (made.longer_first, made.last, made.term_out)))
        digest.update(made.term_first.tobytes())
        super().__init__(name=f"Program({digest.hexdigest()}, {made.components}, {by_features}, {by_weight})")

    @property
    def polynomials(self) -> Polynomials:
        """Those that it computes."""
        return polynomials(*self.source)


register_model(Program)(models.OpaqueModel)
typeof_impl.register(Program)(lambda program, context: program)


@unbox(Program)
def _unboxed(kind: Any, program: Any, c: Any) -> Any:
    return NativeValue(c.context.get_dummy_value())


@compiled
def evaluate(code, features, weight, order, first, species, tables, out, begin, end):  # type: ignore[no-untyped-def]
    """As there."""
    value_first, value_path, value = tables[-3:]
    coefficients = scratch(len(value_first) - 1, features)
    for unit in range(begin, end):
        for channel in range(0, features.shape[2], width(features)):
            _weighted(weight, species[unit], channel, value_first, value_path, value, coefficients)
            for position in range(first[unit], first[unit + 1]):
                _evaluate(code, order[position], channel, coefficients, features, out)


@compiled
def pull(code, features, weight, order, first, species, tables, grad, by_features, by_weight, begin, end):  # type: ignore[no-untyped-def]
    """As there; arrays of gradients are empty where the code makes none."""
    value_first, value_path, value = tables[-3:]
    coefficients, changes = scratch(len(value_first) - 1, features), scratch(len(value_first) - 1, features)
    for unit in range(begin, end):
        for channel in range(0, features.shape[2], width(features)):
            _weighted(weight, species[unit], channel, value_first, value_path, value, coefficients)
            _clear(changes)
            for position in range(first[unit], first[unit + 1]):
                _pull(code, order[position], channel, coefficients, changes, features, grad, by_features)
            if len(by_weight):
                _unweighted(changes, unit, channel, value_first, value_path, value, by_weight)


@compiled
def push(code, features, weight, order, first, species, tables, grad, along, out, by_features, by_weight, begin, end):  # type: ignore[no-untyped-def]
    """As there; arrays of gradients are empty where the code makes none."""
    value_first, value_path, value = tables[-3:]
    coefficients, changes = scratch(len(value_first) - 1, features), scratch(len(value_first) - 1, features)
    for unit in range(begin, end):
        for channel in range(0, features.shape[2], width(features)):
            _weighted(weight, species[unit], channel, value_first, value_path, value, coefficients)
            _clear(changes)
            for position in range(first[unit], first[unit + 1]):
                node = order[position]
                _push(code, node, channel, coefficients, changes, features, grad, along, out, by_features)
            if len(by_weight):
                _unweighted(changes, unit, channel, value_first, value_path, value, by_weight)


@compiled
def _clear(rows):  # type: ignore[no-untyped-def]
    for row in range(len(rows)):
        store(rows, row, zero(rows))


class _Writer:
    """Writes the code for one node: arrays of three axes by node, component and channel, scratch by term."""

    def __init__(self, context: Any, builder: Any, arrays: Any, values: Any, node: Any, channel: Any) -> None:
        self.context, self.builder, self.node, self.channel = context, builder, node, channel
        self.arrays = list(zip(arrays, values, strict=True))
        self.lanes = Lanes(arrays[0].dtype)
        self.kind = context.get_value_type(self.lanes)
        self._starts: dict[int, Any] = {}

    def read(self, array: int, components: int) -> list[Any]:
        """The lanes of all components of the node."""
        return [self.load(self._place(array, component)) for component in range(components)]

    def write(self, array: int, lanes: list[Any]) -> None:
        """Writes them; what nothing was added to is zero."""
        for component, value in enumerate(lanes):
            self.store(llvm.zero(self.kind) if value is None else value, self._place(array, component))

    def row(self, array: int, term: int) -> Any:
        """Where a row of a scratch array is, by one addition to where the array is: there are many."""
        if array not in self._starts:
            kind, value = self.arrays[array]
            self._starts[array] = address(self.context, self.builder, kind, value, ())
        return self.builder.gep(self._starts[array], [self._index(term * self.lanes.count)])

    def load(self, place: Any) -> Any:
        return llvm.load(self.builder, place, self.kind)

    def store(self, value: Any, place: Any) -> None:
        llvm.store(self.builder, value, place)

    def times(self, left: Any, right: Any) -> Any:
        return self.builder.fmul(left, right)

    def add(self, left: Any, right: Any, total: Any) -> Any:
        """``left * right + total``, where nothing is zero and stays out of it."""
        if left is None or right is None:
            return total
        return self.times(left, right) if total is None else llvm.multiply_add(self.builder, left, right, total)

    def plus(self, left: Any, right: Any) -> Any:
        if left is None or right is None:
            return right if left is None else left
        return self.builder.fadd(left, right)

    def _place(self, array: int, component: int) -> Any:
        kind, value = self.arrays[array]
        return address(self.context, self.builder, kind, value, (self.node, self._index(component), self.channel))

    def _index(self, number: int) -> Any:
        return self.context.get_constant(types.intp, int(number))


def _written(write: Callable[[_Writer, Program], None]) -> Callable[..., Any]:
    """The code that a function of a writer and a program writes, between the node and the rest of its arguments."""

    def generator(program: Any, arrays: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            _, node, channel, *values = arguments
            write(_Writer(context, builder, arrays, values, node, channel), program)
            return context.get_dummy_value()

        return generate

    return generator


@_written
def _write_evaluate(code: _Writer, program: Program) -> None:
    coefficients, features, out = 0, 1, 2
    made = program.polynomials
    powers = code.read(features, made.components[0])
    totals: list[Any] = [None] * made.components[1]

    def walk(monomial: int, value: Any) -> None:
        for term, component in _terms(made, monomial):
            totals[component] = code.add(code.load(code.row(coefficients, term)), value, totals[component])
        for longer, factor in _longer(made, monomial):
            walk(longer, code.times(value, powers[factor]))

    for component, power in enumerate(powers):
        walk(component, power)
    code.write(out, totals)


@_written
def _write_pull(code: _Writer, program: Program) -> None:
    coefficients, changes, features, grad, by_features = range(5)
    made = program.polynomials
    powers, given = code.read(features, made.components[0]), code.read(grad, made.components[1])
    totals: list[Any] = [None] * made.components[0]

    def walk(monomial: int, value: Any) -> Any:
        """Returns the gradient for the monomial."""
        total = None
        for term, component in _terms(made, monomial):
            if program.by_features:
                total = code.add(code.load(code.row(coefficients, term)), given[component], total)
            if program.by_weight:
                place = code.row(changes, term)
                code.store(code.add(given[component], value, code.load(place)), place)
        for longer, factor in _longer(made, monomial):
            change = walk(longer, code.times(value, powers[factor]))
            total = code.add(change, powers[factor], total)
            totals[factor] = code.add(change, value, totals[factor])
        return total

    for component, power in enumerate(powers):
        totals[component] = code.plus(walk(component, power), totals[component])
    if program.by_features:
        code.write(by_features, totals)


@_written
def _write_push(code: _Writer, program: Program) -> None:
    coefficients, changes, features, grad, along, out, by_features = range(7)
    made = program.polynomials
    powers, slopes = code.read(features, made.components[0]), code.read(along, made.components[0])
    given = code.read(grad, made.components[1])
    sums: list[Any] = [None] * made.components[1]
    totals: list[Any] = [None] * made.components[0]

    def walk(monomial: int, value: Any, slope: Any) -> tuple[Any, Any]:
        """Returns the gradients for the slope of the monomial, and for itself."""
        by_slope, by_value = None, None
        for term, component in _terms(made, monomial):
            coefficient = code.load(code.row(coefficients, term))
            sums[component] = code.add(coefficient, slope, sums[component])
            if program.by_features:
                by_slope = code.add(coefficient, given[component], by_slope)
            if program.by_weight:
                place = code.row(changes, term)
                code.store(code.add(given[component], slope, code.load(place)), place)
        for longer, factor in _longer(made, monomial):
            steeper = code.add(slope, powers[factor], code.times(value, slopes[factor]))
            one, other = walk(longer, code.times(value, powers[factor]), steeper)
            by_slope = code.add(one, powers[factor], by_slope)
            by_value = code.add(other, powers[factor], code.add(one, slopes[factor], by_value))
            totals[factor] = code.add(other, value, code.add(one, slope, totals[factor]))
        return by_slope, by_value

    for component, (power, slope) in enumerate(zip(powers, slopes, strict=True)):
        totals[component] = code.plus(walk(component, power, slope)[1], totals[component])
    code.write(out, sums)
    if program.by_features:
        code.write(by_features, totals)


@intrinsic
def _evaluate(typing, program, node, channel, coefficients, features, out):  # type: ignore[no-untyped-def]
    arrays = (coefficients, features, out)
    return types.void(program, node, channel, *arrays), _write_evaluate(program, arrays)


@intrinsic
def _pull(typing, program, node, channel, coefficients, changes, features, grad, by_features):  # type: ignore[no-untyped-def]
    arrays = (coefficients, changes, features, grad, by_features)
    return types.void(program, node, channel, *arrays), _write_pull(program, arrays)


@intrinsic
def _push(typing, program, node, channel, coefficients, changes, features, grad, along, out, by_features):  # type: ignore[no-untyped-def]
    arrays = (coefficients, changes, features, grad, along, out, by_features)
    return types.void(program, node, channel, *arrays), _write_push(program, arrays)


def _terms(made: Polynomials, monomial: int) -> list[tuple[int, int]]:
    """The terms of a monomial and the components that they add to."""
    bounds = made.term_first[monomial : monomial + 2]
    return [(term, int(made.term_out[term])) for term in range(*bounds.tolist())]


def _longer(made: Polynomials, monomial: int) -> list[tuple[int, int]]:
    """The monomials with one factor more, and that factor."""
    bounds = made.longer_first[monomial : monomial + 2]
    return [(made.components[0] + entry, int(made.last[entry])) for entry in range(*bounds.tolist())]
