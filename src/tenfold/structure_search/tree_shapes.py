"""The best ranks of a tree (a train, a hierarchical Tucker, any other) from the singular values across its bonds.

A bond of rank R costs at least the tail of the singular values of the matricisation that it separates, and all bonds
together at most the sum of their tails. The sum stands for the squared error, which it exceeds at most as many times as
there are bonds, and it is made as small as a number of parameters allows, or the number of parameters as small as
an error allows: exactly, by a dynamic program over the tree.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tenfold._tree_program import Program, rooted
from tenfold._trees import check_tree, outputs_beyond
from tenfold.errors import StructureError, TenfoldError
from tenfold.structure import Structure
from tenfold.structure_search._tails import Spectrum, check_budget, tails


@dataclass(frozen=True)
class TreeShape:
    """Ranks of a tree, and between which limits the error of the best network with them lies.

    Attributes:
        structure: the tree with these ranks.
        bound: the sum of the tails: a relative squared error that truncating every bond does not exceed.
        lower: the largest tail: a relative squared error that no network of these ranks is below.
    """

    structure: Structure
    bound: float
    lower: float

    @property
    def ranks(self) -> dict[str, int]:
        """One for each bond."""
        return {bond: self.structure.sizes[bond] for bond in self.structure.inner_indices}

    @property
    def parameters(self) -> int:
        """Of all cores together."""
        return self.structure.parameters


def tree_shape(
    structure: Structure,
    spectra: Mapping[str, Spectrum],
    *,
    parameters: int | None = None,
    error: float | None = None,
) -> TreeShape:
    """The ranks with the smallest bound within a number of parameters, or with the fewest parameters for an error.

    Args:
        structure: a tree; sizes of its bonds do not matter. Where it falls into parts, the bounds are for tensors that
            are products of such parts.
        spectra: for each bond the singular values across it, largest first (`bond_spectra`, `Network.bond_spectra`); a
            rank is at most their number.
        parameters: at most so many.
        error: the bound on the relative error, not squared, is at most this. Either this or ``parameters``.

    Raises:
        StructureError: the structure is no tree, or two bonds join the same cores.
        TenfoldError: bonds without a spectrum or with one that is too long, a budget that ranks of one exceed, an error
            that all the spectra exceed.
        DataError: spectra that are empty, not finite, negative or increasing.

    Cost: milliseconds for spectra of tens of values, tens of them for hundreds; ten seconds for a small error of a
    train of thirty modes with hundreds at most of its bonds.
    Paper: "Approximately optimal core shapes for tensor decompositions", 2023, for Tucker.
    """
    check_tree(structure, "tree_shape")
    joined: dict[tuple[int, ...], str] = {}
    for bond in structure.inner_indices:
        other = joined.setdefault(structure.terms_with(bond), bond)
        if other != bond:
            raise StructureError(f"bonds '{other}' and '{bond}' join the same two cores: make them one")
    if not isinstance(spectra, Mapping):
        raise TenfoldError(f"spectra is of type {type(spectra).__name__}: give a mapping of bonds to singular values")
    odd = set(structure.inner_indices) ^ set(spectra)
    if odd:
        raise TenfoldError(
            f"spectra has {', '.join(map(repr, spectra)) or 'nothing'}: give one for each bond of the tree, "
            f"{', '.join(map(repr, structure.inner_indices))}"
        )
    if (parameters is None) == (error is None):
        raise TenfoldError("give either parameters or error")
    costs = tails(spectra)
    for bond, cost in costs.items():
        beyond = math.prod(structure.sizes[index] for index in outputs_beyond(structure, bond))
        side = min(beyond, math.prod(structure.shape) // beyond)
        if len(cost) - 1 > side:
            raise TenfoldError(
                f"bond '{bond}' has {len(cost) - 1} singular values, more than the {side} entries on its shorter side"
            )
    program = Program(rooted(structure, costs))
    if error is not None:
        if isinstance(error, bool) or not isinstance(error, int | float | np.floating) or not 0 <= error < math.inf:
            raise TenfoldError(f"error is {error!r}: it must be a number of at least 0")
        # No tail is above one, so what is above their number is as good as that.
        found = program.solve(cost=min(error, len(costs) + 1) ** 2)
        if not found:
            least = math.sqrt(math.fsum(float(cost[-1]) for cost in costs.values()))
            raise TenfoldError(f"error {error:g} is too small: with all values of the spectra the bound is {least:.3g}")
    else:
        least = structure.replace(dict.fromkeys(structure.inner_indices, 1)).parameters
        found = program.solve(size=check_budget(parameters, least, structure.shape))
    ranks = {bond: found[0].ranks[bond] for bond in structure.inner_indices}
    each = [float(costs[bond][rank]) for bond, rank in ranks.items()]
    return TreeShape(structure.replace(ranks), math.fsum(each), max(each, default=0.0))
