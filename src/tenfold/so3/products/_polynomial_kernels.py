"""Loops over the terms of polynomials, and over those of their first and second derivatives; this module loads Numba.

All of them work on `width` channels of two nodes at a time, whose monomials stay in the cache. Nodes come in units of
one species, so that the coefficients of a unit, weights included, are made once for all its nodes. What becomes of a
node, and of the weights in a unit, does not depend on other units.
"""

from __future__ import annotations

from tenfold.so3._compiled import compiled
from tenfold.so3._simd.arrays import load, scratch, store
from tenfold.so3._simd.lanes import multiply_add, spread, width, zero


@compiled
def evaluate(features, weight, order, first, species, tables, out, begin, end):  # type: ignore[no-untyped-def]
    """``out[node, component, channel]`` for the nodes of the units from ``begin`` to ``end``."""
    longer_first, last, term_first, _, out_first, out_term, out_monomial, value_first, value_path, value = tables
    coefficients = scratch(len(value_first) - 1, features)
    powers = scratch(2 * (len(term_first) - 1), features)
    for unit in range(begin, end):
        for channel in range(0, features.shape[2], width(features)):
            _weighted(weight, species[unit], channel, value_first, value_path, value, coefficients)
            for position in range(first[unit], first[unit + 1], 2):
                one, other = order[position], order[min(position + 1, first[unit + 1] - 1)]
                _pick(features, one, other, channel, powers)
                _multiply(longer_first, last, powers)
                _sum(out_first, out_term, out_monomial, coefficients, powers, out, one, other, channel)


@compiled
def pull(features, weight, order, first, species, tables, grad, by_features, by_weight, begin, end):  # type: ignore[no-untyped-def]
    """What a gradient of the output is for features and, in each unit, for the weights.

    Either is left out where its array is empty.
    """
    longer_first, last, term_first, term_out, _, _, _, value_first, value_path, value = tables
    size, monomials, terms = features.shape[1], len(term_first) - 1, len(value_first) - 1
    coefficients = scratch(terms, features)
    changes = scratch(terms, features)
    powers = scratch(2 * monomials, features)
    adjoint = scratch(2 * monomials, features)
    given = scratch(2 * grad.shape[1], features)
    nothing = zero(features)
    for unit in range(begin, end):
        for channel in range(0, features.shape[2], width(features)):
            _weighted(weight, species[unit], channel, value_first, value_path, value, coefficients)
            for term in range(terms):
                store(changes, term, nothing)
            for position in range(first[unit], first[unit + 1], 2):
                pair = position + 1 < first[unit + 1]
                one, other = order[position], order[position + 1 if pair else position]
                _pick(features, one, other, channel, powers)
                _pick(grad, one, other, channel, given)
                if not pair:
                    _forget(given)
                _multiply(longer_first, last, powers)
                _distribute(term_first, term_out, coefficients, given, adjoint)
                if len(by_weight):
                    _collect(term_first, term_out, given, powers, changes)
                if len(by_features):
                    for monomial in range(monomials - 1, -1, -1):
                        left, right, here = nothing, nothing, 2 * monomial
                        one_power, other_power = load(powers, here), load(powers, here + 1)
                        for entry in range(longer_first[monomial], longer_first[monomial + 1]):
                            factor, longer = 2 * last[entry], 2 * (size + entry)
                            change = load(adjoint, longer)
                            left = multiply_add(change, load(powers, factor), left)
                            _add(adjoint, factor, change, one_power)
                            change = load(adjoint, longer + 1)
                            right = multiply_add(change, load(powers, factor + 1), right)
                            _add(adjoint, factor + 1, change, other_power)
                        # Only now: the last factor may have been this monomial itself.
                        store(adjoint, here, load(adjoint, here) + left)
                        store(adjoint, here + 1, load(adjoint, here + 1) + right)
                    _put(adjoint, one, other, pair, channel, by_features)
            if len(by_weight):
                _unweighted(changes, unit, channel, value_first, value_path, value, by_weight)


@compiled
def push(features, weight, order, first, species, tables, grad, along, out, by_features, by_weight, begin, end):  # type: ignore[no-untyped-def]
    """The derivative of ``sum(grad * output)`` along a direction of the features, and its own derivatives.

    Those are for ``grad``, which is the derivative of the output along the direction; for the features; and in each
    unit for the weights. The last two are left out where their arrays are empty.
    """
    (
        longer_first,
        last,
        term_first,
        term_out,
        out_first,
        out_term,
        out_monomial,
        value_first,
        value_path,
        value,
    ) = tables
    size, monomials, terms = features.shape[1], len(term_first) - 1, len(value_first) - 1
    coefficients = scratch(terms, features)
    changes = scratch(terms, features)
    powers = scratch(2 * monomials, features)
    slopes = scratch(2 * monomials, features)
    adjoint = scratch(2 * monomials, features)
    by_powers = scratch(2 * monomials, features)
    given = scratch(2 * grad.shape[1], features)
    nothing = zero(features)
    for unit in range(begin, end):
        for channel in range(0, features.shape[2], width(features)):
            _weighted(weight, species[unit], channel, value_first, value_path, value, coefficients)
            for term in range(terms):
                store(changes, term, nothing)
            for position in range(first[unit], first[unit + 1], 2):
                pair = position + 1 < first[unit + 1]
                one, other = order[position], order[position + 1 if pair else position]
                _pick(features, one, other, channel, powers)
                _pick(along, one, other, channel, slopes)
                _pick(grad, one, other, channel, given)
                if not pair:
                    _forget(given)
                _multiply(longer_first, last, powers)
                for monomial in range(monomials):
                    for k in range(2):
                        power, slope = load(powers, 2 * monomial + k), load(slopes, 2 * monomial + k)
                        for entry in range(longer_first[monomial], longer_first[monomial + 1]):
                            factor = 2 * last[entry] + k
                            rest = power * load(slopes, factor)
                            store(slopes, 2 * (size + entry) + k, multiply_add(slope, load(powers, factor), rest))
                _sum(out_first, out_term, out_monomial, coefficients, slopes, out, one, other, channel)
                if len(by_weight):
                    _collect(term_first, term_out, given, slopes, changes)
                if len(by_features):
                    _distribute(term_first, term_out, coefficients, given, adjoint)
                    for row in range(2 * monomials):
                        store(by_powers, row, nothing)
                    for monomial in range(monomials - 1, -1, -1):
                        for k in range(2):
                            here = 2 * monomial + k
                            power, slope = load(powers, here), load(slopes, here)
                            total, by_power = nothing, nothing
                            for entry in range(longer_first[monomial], longer_first[monomial + 1]):
                                factor, longer = 2 * last[entry] + k, 2 * (size + entry) + k
                                change, by_longer = load(adjoint, longer), load(by_powers, longer)
                                total = multiply_add(change, load(powers, factor), total)
                                by_power = multiply_add(change, load(slopes, factor), by_power)
                                by_power = multiply_add(by_longer, load(powers, factor), by_power)
                                more = multiply_add(by_longer, power, load(by_powers, factor))
                                store(by_powers, factor, multiply_add(change, slope, more))
                            store(adjoint, here, load(adjoint, here) + total)
                            store(by_powers, here, load(by_powers, here) + by_power)
                    _put(by_powers, one, other, pair, channel, by_features)
            if len(by_weight):
                _unweighted(changes, unit, channel, value_first, value_path, value, by_weight)


@compiled
def _weighted(weight, row, channel, value_first, value_path, value, coefficients):  # type: ignore[no-untyped-def]
    """The coefficient of each term: the weights of its paths times their values."""
    for term in range(len(value_first) - 1):
        start = value_first[term]
        total = load(weight, (row, value_path[start], channel)) * value[start]
        for entry in range(start + 1, value_first[term + 1]):
            total = multiply_add(load(weight, (row, value_path[entry], channel)), spread(value[entry]), total)
        store(coefficients, term, total)


@compiled
def _unweighted(changes, unit, channel, value_first, value_path, value, by_weight):  # type: ignore[no-untyped-def]
    """The transpose of `_weighted`, added to the rows of a unit."""
    for term in range(len(value_first) - 1):
        change = load(changes, term)
        for entry in range(value_first[term], value_first[term + 1]):
            path = value_path[entry]
            total = multiply_add(change, spread(value[entry]), load(by_weight, (unit, path, channel)))
            store(by_weight, (unit, path, channel), total)


@compiled
def _pick(array, one, other, channel, rows):  # type: ignore[no-untyped-def]
    """Rows of two nodes, side by side."""
    for row in range(array.shape[1]):
        store(rows, 2 * row, load(array, (one, row, channel)))
        store(rows, 2 * row + 1, load(array, (other, row, channel)))


@compiled
def _put(rows, one, other, pair, channel, array):  # type: ignore[no-untyped-def]
    """The inverse of `_pick`."""
    for row in range(array.shape[1]):
        store(array, (one, row, channel), load(rows, 2 * row))
        if pair:
            store(array, (other, row, channel), load(rows, 2 * row + 1))


@compiled
def _forget(rows):  # type: ignore[no-untyped-def]
    """Zeros for the second of two nodes, where there is only one."""
    nothing = zero(rows)
    for row in range(1, len(rows), 2):
        store(rows, row, nothing)


@compiled
def _multiply(longer_first, last, powers):  # type: ignore[no-untyped-def]
    """All monomials from those of degree one."""
    longer = len(powers) - 2 * len(last)
    for monomial in range(len(longer_first) - 1):
        left, right = load(powers, 2 * monomial), load(powers, 2 * monomial + 1)
        for entry in range(longer_first[monomial], longer_first[monomial + 1]):
            factor = 2 * last[entry]
            store(powers, longer, left * load(powers, factor))
            store(powers, longer + 1, right * load(powers, factor + 1))
            longer += 2


@compiled
def _sum(out_first, out_term, out_monomial, coefficients, powers, out, one, other, channel):  # type: ignore[no-untyped-def]
    """Monomials times coefficients, added up for each component that comes out; two sums each, to keep both busy."""
    nothing = zero(powers)
    for component in range(len(out_first) - 1):
        left, right, more_left, more_right = nothing, nothing, nothing, nothing
        start, stop = out_first[component], out_first[component + 1]
        for entry in range(start, stop - 1, 2):
            coefficient, here = load(coefficients, out_term[entry]), 2 * out_monomial[entry]
            left = multiply_add(coefficient, load(powers, here), left)
            right = multiply_add(coefficient, load(powers, here + 1), right)
            coefficient, here = load(coefficients, out_term[entry + 1]), 2 * out_monomial[entry + 1]
            more_left = multiply_add(coefficient, load(powers, here), more_left)
            more_right = multiply_add(coefficient, load(powers, here + 1), more_right)
        if (stop - start) % 2:
            coefficient, here = load(coefficients, out_term[stop - 1]), 2 * out_monomial[stop - 1]
            left = multiply_add(coefficient, load(powers, here), left)
            right = multiply_add(coefficient, load(powers, here + 1), right)
        store(out, (one, component, channel), left + more_left)
        store(out, (other, component, channel), right + more_right)


@compiled
def _distribute(term_first, term_out, coefficients, given, adjoint):  # type: ignore[no-untyped-def]
    """The transpose of `_sum`: for each monomial what its terms were given, times their coefficients."""
    nothing = zero(given)
    for monomial in range(len(term_first) - 1):
        left, right = nothing, nothing
        for term in range(term_first[monomial], term_first[monomial + 1]):
            coefficient, component = load(coefficients, term), 2 * term_out[term]
            left = multiply_add(coefficient, load(given, component), left)
            right = multiply_add(coefficient, load(given, component + 1), right)
        store(adjoint, 2 * monomial, left)
        store(adjoint, 2 * monomial + 1, right)


@compiled
def _collect(term_first, term_out, given, powers, changes):  # type: ignore[no-untyped-def]
    """What was given to each term times its monomial, added to what coefficients change by."""
    for monomial in range(len(term_first) - 1):
        left, right = load(powers, 2 * monomial), load(powers, 2 * monomial + 1)
        for term in range(term_first[monomial], term_first[monomial + 1]):
            component = 2 * term_out[term]
            change = multiply_add(load(given, component), left, load(changes, term))
            store(changes, term, multiply_add(load(given, component + 1), right, change))


@compiled
def _add(rows, row, left, right):  # type: ignore[no-untyped-def]
    store(rows, row, multiply_add(left, right, load(rows, row)))
