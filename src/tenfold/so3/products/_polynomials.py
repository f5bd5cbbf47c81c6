"""What a symmetric contraction is to a kernel: monomials, each one factor longer than another, and terms of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float64, Int64

from tenfold.so3.irreps import Irrep, Irreps
from tenfold.so3.products._couplings import Monomial, symmetric_couplings

_Table = dict[tuple[int, Monomial], list[tuple[int, float]]]


@dataclass(frozen=True)
class Polynomials:
    """``out[component] += (sum of value * weight[path]) * monomial``, a polynomial for each component that comes out.

    Monomials are numbered: the components of the feature, then longer ones, each a shorter one times one component.
    Terms are sorted by monomial, then component. Arrays called ``first`` say where what belongs to a number begins, and
    end with where the last one ends.

    Attributes:
        components: how many the feature has, and how many come out.
        longer_first: of each monomial, among those with one factor more.
        last: their last factor; all of those longer than one are there in their order.
        term_first: of each monomial, among the terms.
        term_out: the component that a term adds to.
        out_first: of each component that comes out, among the terms sorted by it.
        out_term: the terms in that order.
        out_monomial: their monomials.
        value_first: of each term, among the values.
        value_path: the path of each value.
        value: the coefficients.
        paths: how many there are for each irrep that comes out and each degree of polynomials, in that order.
    """

    components: tuple[int, int]
    longer_first: Int64[np.ndarray, " monomial_end"]
    last: Int64[np.ndarray, " longer"]
    term_first: Int64[np.ndarray, " monomial_end"]
    term_out: Int64[np.ndarray, " term"]
    out_first: Int64[np.ndarray, " component_end"]
    out_term: Int64[np.ndarray, " term"]
    out_monomial: Int64[np.ndarray, " term"]
    value_first: Int64[np.ndarray, " term_end"]
    value_path: Int64[np.ndarray, " n"]
    value: Float64[np.ndarray, " n"]
    paths: tuple[tuple[int, ...], ...]

    @property
    def monomials(self) -> int:
        """How many there are, the components of the feature among them."""
        return len(self.term_first) - 1

    @property
    def terms(self) -> int:
        """How many there are."""
        return len(self.term_out)


@cache
def polynomials(irreps_in: str, irreps_out: str, correlation: int) -> Polynomials:
    """Those of all degrees up to ``correlation``, for irreps whose multiplicities do not matter.

    Cost: as many operations as there are coefficients, and the making of the couplings the first time.
    """
    blocks = tuple(block.ir for block in Irreps(irreps_in))
    outs = tuple(block.ir for block in Irreps(irreps_out))
    table: _Table = {}
    start, number, paths = 0, 0, []
    for out in outs:
        counts = []
        for degree in range(1, correlation + 1):
            couplings = symmetric_couplings(blocks, out, degree)
            counts.append(len(couplings))
            for coupling in couplings:
                for component, monomial, value in zip(
                    coupling.component.tolist(), coupling.monomial.tolist(), coupling.value.tolist(), strict=True
                ):
                    entry = table.setdefault((start + component, coupling.monomials[monomial]), [])
                    entry.append((number, value))
                number += 1
        paths.append(tuple(counts))
        start += out.dim
    return _numbered(table, (_dim(blocks), start), tuple(paths))


def _numbered(table: _Table, components: tuple[int, int], paths: tuple[tuple[int, ...], ...]) -> Polynomials:
    needed: set[Monomial] = {(i,) for i in range(components[0])}
    for _, monomial in table:
        # Whatever a kernel multiplies on the way to it.
        needed.update(monomial[:length] for length in range(1, len(monomial) + 1))
    # Those that differ in their last factor alone are neighbours, in the order of what is before it.
    order = sorted(needed, key=lambda monomial: (len(monomial), monomial))
    position = {monomial: n for n, monomial in enumerate(order)}
    longer = order[components[0] :]
    terms = sorted((position[monomial], out, entry) for (out, monomial), entry in table.items())
    which = np.array([monomial for monomial, _, _ in terms], dtype=np.int64)
    outs = np.array([out for _, out, _ in terms], dtype=np.int64)
    values = [one for _, _, entry in terms for one in entry]
    by_out = np.argsort(outs, kind="stable").astype(np.int64)
    return Polynomials(
        components,
        np.searchsorted([position[monomial[:-1]] for monomial in longer], np.arange(len(order) + 1)).astype(np.int64),
        np.array([monomial[-1] for monomial in longer], dtype=np.int64),
        np.searchsorted(which, np.arange(len(order) + 1)).astype(np.int64),
        outs,
        np.searchsorted(outs[by_out], np.arange(components[1] + 1)).astype(np.int64),
        by_out,
        which[by_out],
        np.cumsum([0, *(len(entry) for _, _, entry in terms)]).astype(np.int64),
        np.array([path for path, _ in values], dtype=np.int64),
        np.array([value for _, value in values], dtype=np.float64),
        paths,
    )


def _dim(blocks: tuple[Irrep, ...]) -> int:
    return sum(block.dim for block in blocks)
