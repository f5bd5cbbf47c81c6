"""Convolutions along edges without messages: features are read where they are, products are added where they go.

With ``m`` the matrix that an edge's filter makes of the coefficients of a path, a message is ``w (m x)``, channel by
channel. The form ``g . w (m x)`` is linear in each of features, filter, weights and g: derivatives are the same
loops with other things left out. Edges come grouped by the node that they add to, so that a thread owns its nodes, and
what a node gets does not depend on how many threads there are.

Loading this module loads Numba: it is imported where a kernel runs.
"""

# mypy: disable-error-code="no-untyped-def, call-arg, unreachable, var-annotated"

from __future__ import annotations

import numpy as np
from numba import njit

from tenfold.so3._compiled import compiled
from tenfold.so3._simd.arrays import fetch, load, load_rows, remaining, store, store_rows, zeros
from tenfold.so3._simd.lanes import across, width, zero
from tenfold.so3._simd.sums import combine_add, inner_add, multiply_add_each, multiply_each, scale_add, spread_add

# Lengths of pieces, as tuples of that length: a loop is compiled for the length of a tuple.
_ONE = (0,)
_THREE = (0,) * 3
_FIVE = (0,) * 5
_SEVEN = (0,) * 7

# Calls would take longer than what is called does for a piece.
_inlined = njit(forceinline=True)


@compiled
def group_edges(ends, nodes):
    """The edges by the node in ``ends``, in their order, and where each node's begin."""
    begins = np.zeros(nodes + 1, np.int64)
    for edge in range(len(ends)):
        begins[ends[edge] + 1] += 1
    for node in range(nodes):
        begins[node + 1] += begins[node]
    place = begins[:-1].copy()
    order = np.empty(len(ends), np.int64)
    for edge in range(len(ends)):
        node = ends[edge]
        order[place[node]] = edge
        place[node] += 1
    return order, begins


@_inlined
def _matrices(y, start, tables, m):
    """The matrices of all pieces for the filter of an edge."""
    lanes = width(y)
    for group in range(len(tables.groups)):
        component, count, begin, size, part = tables.groups[group]
        for first in range(0, size, lanes):
            total = zero(y)
            for j in range(count):
                total = scale_add(y, start + component + j, load(tables.table, part + j * size + first), total)
            store(m, begin + first, total)


@_inlined
def _filter(products, tables, out, start):
    """The adjoint of `_matrices`, for products of features and messages that are still to be added up across lanes."""
    lanes = width(out)
    for component in range(len(tables.begins) - 1):
        total = zero(out)
        for place in range(tables.begins[component], tables.begins[component + 1]):
            total = scale_add(tables.value, place, load(products, tables.entry[place] * lanes), total)
        out[start + component] = across(total)


@_inlined
def _fetch(array, start, size):
    """Rows of the next edge are fetched while one is worked on: they lie anywhere, and take longer than the work."""
    for place in range(start, start + size, width(array)):
        fetch(array, place)


@_inlined
def _message(x, x_at, w, w_at, m, m_at, out, out_at, count, channels, partial, like):
    """``out += m (w x)`` for a piece."""
    for c in range(0, channels, width(x)):
        lanes = remaining(channels, c, partial)
        weighted = multiply_each(load(w, w_at + c, lanes), load_rows(x, x_at + c, channels, lanes, like))
        for k in range(count):
            at = out_at + k * channels + c
            store(out, at, combine_add(m, m_at + k * len(like), weighted, load(out, at, lanes)), lanes)


@compiled
def messages(first, last, edges, tables, partial, given, out):
    """The messages to the nodes first..last, written to ``out``.

    ``edges`` are in their order, where those of each node begin, and where each comes from. ``given`` are features,
    filters, weights, and how far the weights of an edge are from those of the next.
    """
    order, begins, source = edges
    x, y, w, step = given
    m = np.empty(tables.sizes[4], x.dtype)
    for node in range(first, last):
        base = node * tables.sizes[2]
        out[base : base + tables.sizes[2]] = 0
        for place in range(begins[node], begins[node + 1]):
            edge = order[place]
            ahead = order[min(place + 1, len(order) - 1)]
            _matrices(y, edge * tables.sizes[1], tables, m)
            for piece in range(len(tables.pieces)):
                length, count, n, x_at, out_at, w_at, m_at, _ = tables.pieces[piece]
                x_at += source[edge] * tables.sizes[0]
                out_at += base
                _fetch(w, w_at + ahead * step, n)
                w_at += edge * step
                if length == 1:
                    _message(x, x_at, w, w_at, m, m_at, out, out_at, count, n, partial, _ONE)
                elif length == 3:
                    _message(x, x_at, w, w_at, m, m_at, out, out_at, count, n, partial, _THREE)
                elif length == 5:
                    _message(x, x_at, w, w_at, m, m_at, out, out_at, count, n, partial, _FIVE)
                else:
                    _message(x, x_at, w, w_at, m, m_at, out, out_at, count, n, partial, _SEVEN)


@_inlined
def _message_along(x, dx, x_at, w, w_at, dw, dw_at, m, dm, m_at, out, out_at, count, channels, partial, like):
    """``out += m (w dx + dw x) + dm (w x)`` for a piece."""
    for c in range(0, channels, width(x)):
        lanes = remaining(channels, c, partial)
        weight = load(w, w_at + c, lanes)
        features = load_rows(x, x_at + c, channels, lanes, like)
        weighted = multiply_each(weight, features)
        changed = multiply_add_each(
            weight,
            load_rows(dx, x_at + c, channels, lanes, like),
            multiply_each(load(dw, dw_at + c, lanes), features),
        )
        for k in range(count):
            at, row_at = out_at + k * channels + c, m_at + k * len(like)
            total = combine_add(m, row_at, changed, load(out, at, lanes))
            store(out, at, combine_add(dm, row_at, weighted, total), lanes)


@compiled
def messages_along(first, last, edges, tables, partial, given, changes, out):
    """How `messages` change where what is given does."""
    order, begins, source = edges
    x, y, w, step = given
    dx, dy, dw, dstep = changes
    m = np.empty(tables.sizes[4], x.dtype)
    dm = np.empty(tables.sizes[4], x.dtype)
    for node in range(first, last):
        base = node * tables.sizes[2]
        out[base : base + tables.sizes[2]] = 0
        for place in range(begins[node], begins[node + 1]):
            edge = order[place]
            ahead = order[min(place + 1, len(order) - 1)]
            _matrices(y, edge * tables.sizes[1], tables, m)
            _matrices(dy, edge * tables.sizes[1], tables, dm)
            for piece in range(len(tables.pieces)):
                length, count, n, x_at, out_at, w_at, m_at, _ = tables.pieces[piece]
                x_at += source[edge] * tables.sizes[0]
                out_at += base
                _fetch(w, w_at + ahead * step, n)
                _fetch(dw, w_at + ahead * dstep, n)
                dw_at = w_at + edge * dstep
                w_at += edge * step
                if length == 1:
                    _message_along(x, dx, x_at, w, w_at, dw, dw_at, m, dm, m_at, out, out_at, count, n, partial, _ONE)
                elif length == 3:
                    _message_along(x, dx, x_at, w, w_at, dw, dw_at, m, dm, m_at, out, out_at, count, n, partial, _THREE)
                elif length == 5:
                    _message_along(x, dx, x_at, w, w_at, dw, dw_at, m, dm, m_at, out, out_at, count, n, partial, _FIVE)
                else:
                    _message_along(x, dx, x_at, w, w_at, dw, dw_at, m, dm, m_at, out, out_at, count, n, partial, _SEVEN)


@_inlined
def _gradient(
    x, x_at, w, w_at, m, m_at, g, g_at, gx, gw, gw_at, products, scratch, count, channels, begun, partial, like
):
    """For a piece: ``gx += w (m' g)``, ``gw = x (m' g)``, and the products of ``w x`` with g."""
    for c in range(0, channels, width(x)):
        lanes = remaining(channels, c, partial)
        weight = load(w, w_at + c, lanes)
        features = load_rows(x, x_at + c, channels, lanes, like)
        back = zeros(x, like)
        for k in range(count):
            back = spread_add(m, m_at + k * len(like), load(g, g_at + k * channels + c, lanes), back)
        if len(gw):
            total = load(gw, gw_at + c, lanes) if begun else zero(x)
            store(gw, gw_at + c, inner_add(features, back, total), lanes)
        if len(gx):
            before = load_rows(gx, x_at + c, channels, lanes, like)
            store_rows(gx, x_at + c, channels, lanes, multiply_add_each(weight, back, before))
        store_rows(scratch, c, channels, lanes, multiply_each(weight, features))
    if len(products):
        _products(g, g_at, scratch, products, m_at, count, channels, partial, like)


@_inlined
def _products(g, g_at, scratch, products, m_at, count, channels, partial, like):
    """The products of a piece of messages and of features, over the channels that go to one lane."""
    size = width(g)
    for k in range(count):
        totals = zeros(g, like)
        for c in range(0, channels, size):
            lanes = remaining(channels, c, partial)
            totals = multiply_add_each(
                load(g, g_at + k * channels + c, lanes), load_rows(scratch, c, channels, lanes, like), totals
            )
        store_rows(products, (m_at + k * len(like)) * size, size, None, totals)


@compiled
def gradients(first, last, edges, tables, partial, given, g, gx, gy, gw):
    """Derivatives of ``g`` times `messages` by the features of the nodes first..last and by what their edges have.

    ``edges`` are in the order of where they come from, and say where they go to. What is empty is left out.
    """
    order, begins, target = edges
    x, y, w, step = given
    m = np.empty(tables.sizes[4], x.dtype)
    products = np.empty(tables.sizes[4] * width(x) if len(gy) else 0, x.dtype)
    scratch = np.empty(tables.sizes[5], x.dtype)
    for node in range(first, last):
        base = node * tables.sizes[0]
        if len(gx):
            gx[base : base + tables.sizes[0]] = 0
        for place in range(begins[node], begins[node + 1]):
            edge = order[place]
            ahead = order[min(place + 1, len(order) - 1)]
            _matrices(y, edge * tables.sizes[1], tables, m)
            for piece in range(len(tables.pieces)):
                length, count, n, x_at, g_at, w_at, m_at, begun = tables.pieces[piece]
                x_at += base
                _fetch(g, g_at + target[ahead] * tables.sizes[2], count * n)
                _fetch(w, w_at + ahead * step, n)
                g_at += target[edge] * tables.sizes[2]
                gw_at = w_at + edge * tables.sizes[3]
                w_at += edge * step
                if length == 1:
                    _gradient(
                        x, x_at, w, w_at, m, m_at, g, g_at, gx, gw, gw_at, products, scratch,
                        count, n, begun, partial, _ONE,
                    )  # fmt: skip
                elif length == 3:
                    _gradient(
                        x, x_at, w, w_at, m, m_at, g, g_at, gx, gw, gw_at, products, scratch,
                        count, n, begun, partial, _THREE,
                    )  # fmt: skip
                elif length == 5:
                    _gradient(
                        x, x_at, w, w_at, m, m_at, g, g_at, gx, gw, gw_at, products, scratch,
                        count, n, begun, partial, _FIVE,
                    )  # fmt: skip
                else:
                    _gradient(
                        x, x_at, w, w_at, m, m_at, g, g_at, gx, gw, gw_at, products, scratch,
                        count, n, begun, partial, _SEVEN,
                    )  # fmt: skip
            if len(gy):
                _filter(products, tables, gy, edge * tables.sizes[1])


@_inlined
def _gradient_along(
    x, dx, x_at, w, w_at, dw, dw_at, m, dm, m_at, g, g_at, gx, gw, gw_at, products, scratch, count, channels, begun,
    partial, like,
):  # fmt: skip
    """The derivative of `_gradient` where features, filters and weights change."""
    for c in range(0, channels, width(x)):
        lanes = remaining(channels, c, partial)
        weight = load(w, w_at + c, lanes)
        change = load(dw, dw_at + c, lanes)
        features = load_rows(x, x_at + c, channels, lanes, like)
        changes = load_rows(dx, x_at + c, channels, lanes, like)
        back = zeros(x, like)
        changed = zeros(x, like)
        for k in range(count):
            message = load(g, g_at + k * channels + c, lanes)
            back = spread_add(m, m_at + k * len(like), message, back)
            changed = spread_add(dm, m_at + k * len(like), message, changed)
        total = load(gw, gw_at + c, lanes) if begun else zero(x)
        store(gw, gw_at + c, inner_add(features, changed, inner_add(changes, back, total)), lanes)
        before = load_rows(gx, x_at + c, channels, lanes, like)
        after = multiply_add_each(weight, changed, multiply_add_each(change, back, before))
        store_rows(gx, x_at + c, channels, lanes, after)
        weighted = multiply_add_each(weight, changes, multiply_each(change, features))
        store_rows(scratch, c, channels, lanes, weighted)
    _products(g, g_at, scratch, products, m_at, count, channels, partial, like)


@compiled
def gradients_along(first, last, edges, tables, partial, given, changes, g, gx, gy, gw):
    """How `gradients` change where what is given does, but not ``g``."""
    order, begins, target = edges
    x, y, w, step = given
    dx, dy, dw, dstep = changes
    m = np.empty(tables.sizes[4], x.dtype)
    dm = np.empty(tables.sizes[4], x.dtype)
    products = np.empty(tables.sizes[4] * width(x), x.dtype)
    scratch = np.empty(tables.sizes[5], x.dtype)
    for node in range(first, last):
        base = node * tables.sizes[0]
        gx[base : base + tables.sizes[0]] = 0
        for place in range(begins[node], begins[node + 1]):
            edge = order[place]
            ahead = order[min(place + 1, len(order) - 1)]
            _matrices(y, edge * tables.sizes[1], tables, m)
            _matrices(dy, edge * tables.sizes[1], tables, dm)
            for piece in range(len(tables.pieces)):
                length, count, n, x_at, g_at, w_at, m_at, begun = tables.pieces[piece]
                x_at += base
                _fetch(g, g_at + target[ahead] * tables.sizes[2], count * n)
                _fetch(w, w_at + ahead * step, n)
                _fetch(dw, w_at + ahead * dstep, n)
                g_at += target[edge] * tables.sizes[2]
                gw_at = w_at + edge * tables.sizes[3]
                dw_at = w_at + edge * dstep
                w_at += edge * step
                if length == 1:
                    _gradient_along(
                        x, dx, x_at, w, w_at, dw, dw_at, m, dm, m_at, g, g_at, gx, gw, gw_at,
                        products, scratch, count, n, begun, partial, _ONE,
                    )  # fmt: skip
                elif length == 3:
                    _gradient_along(
                        x, dx, x_at, w, w_at, dw, dw_at, m, dm, m_at, g, g_at, gx, gw, gw_at,
                        products, scratch, count, n, begun, partial, _THREE,
                    )  # fmt: skip
                elif length == 5:
                    _gradient_along(
                        x, dx, x_at, w, w_at, dw, dw_at, m, dm, m_at, g, g_at, gx, gw, gw_at,
                        products, scratch, count, n, begun, partial, _FIVE,
                    )  # fmt: skip
                else:
                    _gradient_along(
                        x, dx, x_at, w, w_at, dw, dw_at, m, dm, m_at, g, g_at, gx, gw, gw_at,
                        products, scratch, count, n, begun, partial, _SEVEN,
                    )  # fmt: skip
            _filter(products, tables, gy, edge * tables.sizes[1])
