"""Two block-diagonal matrices in place of a dense one."""

from __future__ import annotations

from collections.abc import Iterator

from tenfold import formats
from tenfold.compression._registry import Candidate, method
from tenfold.compression._structured import structured, two_factors
from tenfold.compression.census import Site
from tenfold.compression.moments import Moments

_RANKS = (1, 2, 4, 8)


@method("block_tensor_train", kinds=("linear",), default=False)
def block_tensor_train(site: Site, moments: Moments | None) -> Iterator[Candidate]:
    """A block tensor train of two cores, of rank 1 (Monarch) to 8: often nearer than low rank at the same size.

    Not tried unless it is named: fitting one to the data takes a second for a layer of 384 features, minutes for one of
    thousands.
    Cost: alternating least squares with conjugate gradients for each rank.
    Paper: "Compute better spent: replacing dense layers with structured matrices", 2024.
    """
    rows, columns = (two_factors(size) for size in site.weight.shape)
    if 1 in (*rows, *columns):
        return
    family = ((f"rank {rank}", formats.block_tensor_train(rows, columns, rank)) for rank in _RANKS)
    yield from structured("block_tensor_train", site, moments, family)
