"""Canonical polyadic decomposition by alternating least squares."""

from __future__ import annotations

from typing import Literal

import torch

from tenfold.decomposition._arrays import whole_array
from tenfold.decomposition._compressed import alternate
from tenfold.decomposition._cp_layout import Canonical
from tenfold.decomposition._registry import Callback, Data, Decomposition, method
from tenfold.errors import TenfoldError
from tenfold.network import Network
from tenfold.structure import Structure

# Random starts beside those computed from the data, at most.
_MOST_STARTS = 1000


@method("cp_als", formats=("cp",))
@torch.no_grad()
def cp_als(
    data: Data,
    structure: Structure,
    *,
    error: float | None = None,
    init: Network | None = None,
    seed: int = 0,
    max_sweeps: int = 500,
    tol: float = 1e-7,
    callback: Callback | None = None,
    accelerate: bool = True,
    compress: bool | Literal["auto"] = "auto",
    starts: int | None = None,
) -> Decomposition:
    """Canonical polyadic decomposition by alternating least squares with Anderson acceleration.

    The modes are split into two groups whose unfolding is a view of the data; a sweep contracts it once with the
    factors of each group, and the rest works on what is left. Starts from leading singular vectors, from a
    generalised eigenproblem (exact for noiseless data whose rank no two modes are smaller than) and from random
    factors run a few sweeps each, and the best goes on. If the rank is small against the modes, all of this happens
    on the core of a Tucker compression, and some sweeps on the whole data follow.

    Args:
        data: the whole array, real or complex, of the structure's shape.
        structure: one inner index that lies on every core; each output on one core. The rank may exceed every mode.
        error: stop once the relative error is as small as this.
        init: where to start instead, a network of this structure.
        seed: for the random starts. Equal calls give results equal to rounding, not always to the last bit: a BLAS sums
            in an order that depends on where in memory its operands begin, and which BLAS it is was measured.
        max_sweeps: at most so many sweeps after the starts.
        tol: stop when two sweeps running change the error by less than this part of it.
        callback: called after each sweep; those of the starts all have the number 0.
        accelerate: False for plain sweeps, the textbook's method.
        compress: whether to begin on the core of a Tucker compression of twice the rank, if two modes are longer than
            that; ``"auto"`` where the core is much smaller than the data and there is no ``init``.
        starts: how many random starts there are beside those computed from the data; None for up to seven, the fewer
            the longer a sweep takes.

    Returns:
        The network with the columns of all factors balanced, its true error, and the error after each sweep.

    Raises:
        StructureError: the structure is not CP, or ``init`` is of another one.
        DataError: NaN or infinite entries, another shape, or observations.
        TenfoldError: ``starts`` is not from 0 to 1000, or ``compress`` none of its values.

    Cost: ``4 |X| R`` flops a sweep and two passes over the data; compressed, hardly more than the passes at both ends.
    Papers: "Analysis of individual differences in multidimensional scaling via an N-way generalization of
    'Eckart-Young' decomposition", 1970; "Fast alternating LS algorithms for high order CANDECOMP/PARAFAC tensor
    factorizations", 2013.
    """
    if compress not in (True, False, "auto"):
        raise TenfoldError(f"compress is {compress!r}; it can be True, False or 'auto'")
    if starts is not None and not 0 <= starts <= _MOST_STARTS:
        raise TenfoldError(f"starts must be from 0 to {_MOST_STARTS}, or None, not {starts}")
    family = Canonical.of(structure, "cp_als", starts)
    whole = whole_array(data, structure, "cp_als")
    return alternate(
        data,
        whole,
        family.along(whole.tensor),
        error=error,
        init=init,
        seed=seed,
        max_sweeps=max_sweeps,
        tol=tol,
        callback=callback,
        accelerate=accelerate,
        compress=compress,
    )
