"""Ranks of a tree-shaped structure from the singular values across its bonds.

Truncating every bond of a tree loses at most the sum of what each bond alone loses, so the tails of the spectra are an
upper bound on the squared error of any choice of ranks. Of all choices the best by this bound is found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tenfold._tree_program import Program, rooted
from tenfold.structure import Structure


def choose_ranks(
    structure: Structure,
    spectra: Mapping[str, Sequence[float]],
    *,
    error: float | None = None,
    parameters: int | None = None,
) -> dict[str, int] | None:
    """The ranks with the fewest parameters for an error, or of the least error within a number of parameters.

    Args:
        structure: a tree; only its topology and the sizes of its outputs matter.
        spectra: the singular values across each bond, largest first.
        error: the bound on the relative error stays within this.
        parameters: at most so many.

    Returns:
        The rank of each bond, or None when even ranks of one have more than ``parameters``.
    """
    values = {bond: np.asarray(spectrum, dtype=np.float64) for bond, spectrum in spectra.items()}
    largest = max((float(spectrum[0]) for spectrum in values.values()), default=0.0) or 1.0
    squares = {bond: np.square(spectrum / largest) for bond, spectrum in values.items()}
    tails = {bond: np.append(square[::-1].cumsum()[::-1], 0.0) for bond, square in squares.items()}
    total = max((float(tail[0]) for tail in tails.values()), default=0.0)
    program = Program(rooted(structure, tails))
    found = program.solve(size=parameters) if error is None else program.solve(cost=error**2 * total)
    return {bond: found[0].ranks[bond] for bond in spectra} if found else None
