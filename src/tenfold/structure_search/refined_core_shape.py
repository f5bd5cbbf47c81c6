"""The core shape of Tucker within a budget: a few of the best by singular values, then the best of them in truth."""

from __future__ import annotations

import torch
from torch import Tensor

from tenfold import formats
from tenfold.decomposition import Decomposition, find
from tenfold.errors import TenfoldError
from tenfold.structure_search.core_shapes import core_shapes
from tenfold.structure_search.spectra import mode_spectra


@torch.no_grad()
def refined_core_shape(tensor: Tensor, parameters: int, *, refine: int = 8, max_sweeps: int = 20) -> Decomposition:
    """The Tucker decomposition of least error among the ``refine`` attainable core shapes with the smallest bounds.

    Args:
        tensor: whole, real or complex.
        parameters: at most so many in the core and the factors together.
        refine: how many shapes are decomposed, by higher-order orthogonal iteration; 1 trusts the bound.
        max_sweeps: of one decomposition.

    Raises:
        TenfoldError: a budget that ranks of one exceed, or ``refine`` below 1.
        DataError: no whole tensor of finite entries.

    Cost: one pass for the singular values of each mode, and ``refine`` decompositions.
    Paper: "Approximately optimal core shapes for tensor decompositions", 2023.
    """
    if isinstance(refine, bool) or not isinstance(refine, int) or refine < 1:
        raise TenfoldError(f"refine is {refine!r}: it must be a positive whole number")
    spectra = mode_spectra(tensor)
    shape = tuple(tensor.shape)
    found: Decomposition | None = None
    for one in core_shapes(spectra, shape, parameters, count=refine, attainable=True):
        done = find("hooi").function(tensor, formats.tucker(shape, one.ranks), max_sweeps=max_sweeps)
        if found is None or done.error < found.error:
            found = done
    assert found is not None  # ranks of one are within any budget that was not refused
    return found
