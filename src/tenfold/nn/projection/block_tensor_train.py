"""Monarch matrices and block tensor trains with any number of cores: blocks split one after the other."""

from __future__ import annotations

from torch import Tensor

from tenfold.nn.projection._chain import order_of_chain, split_chain
from tenfold.nn.projection._registry import projection
from tenfold.nn.projection._sweeps import refined
from tenfold.structure import Structure


def _shares_outputs(structure: Structure) -> bool:
    return any(len(structure.terms_with(index)) > 1 for index in structure.output_indices)


def _takes(structure: Structure) -> bool:
    return order_of_chain(structure) is not None and _shares_outputs(structure)


@projection("blocks", takes=lambda structure: _takes(structure) and len(structure.terms) == 2, exact=True)
@projection("block_tensor_train", takes=_takes, exact=False)
def block_tensor_train(weight: Tensor, structure: Structure, root: Tensor | None) -> list[Tensor]:
    """For each value of the output indices that two cores share, the singular vectors of a block of the matrix.

    With two cores the error is the sum of the squares of all singular values left out, the least there is. With more
    the last core is split off and the same is done with what is left, which is at most ``sqrt(cores - 1)`` times the
    least error; sweeps of least squares then lower it. With a covariance blocks in one row of blocks are no longer
    apart, and sweeps start from the solution without one.

    Cost: singular value decompositions of ``rows columns / (m n)`` blocks of ``m x n``.
    Paper: "Monarch: expressive structured matrices for efficient and accurate training", 2022.
    """
    cores = split_chain(weight, structure)
    if root is None and len(structure.terms) == 2:
        return cores
    return refined(weight, structure, root, cores)
