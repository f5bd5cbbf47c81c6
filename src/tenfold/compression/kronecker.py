"""A sum of Kronecker products in place of a dense matrix."""

from __future__ import annotations

from collections.abc import Iterator

from tenfold import formats
from tenfold.compression._registry import Candidate, method
from tenfold.compression._structured import structured, two_factors
from tenfold.compression.census import Site
from tenfold.compression.moments import Moments

_TERMS = (1, 2, 4, 8, 16)


@method("kronecker", kinds=("linear",), default=False)
def kronecker(site: Site, moments: Moments | None) -> Iterator[Candidate]:
    """A sum of 1 to 16 Kronecker products of two matrices; the fewest numbers of all.

    Not tried unless it is named: for most trained layers it is further off than low rank.
    Cost: a singular value decomposition of the rearranged matrix, and alternating least squares for the data.
    Paper: "Approximation with Kronecker products", 1993.
    """
    rows, columns = (two_factors(size) for size in site.weight.shape)
    if 1 in (*rows, *columns):
        return
    family = ((f"{terms} term{'' if terms == 1 else 's'}", formats.kronecker(rows, columns, terms)) for terms in _TERMS)
    yield from structured("kronecker", site, moments, family)
