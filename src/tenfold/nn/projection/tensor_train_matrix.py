"""Tensor-train matrices: the tensor train of the matrix with the factors of rows and columns taken in pairs."""

from __future__ import annotations

from torch import Tensor

from tenfold.nn.projection._chain import order_of_chain, split_chain
from tenfold.nn.projection._registry import projection
from tenfold.nn.projection._sweeps import refined
from tenfold.structure import Structure


def _takes(structure: Structure) -> bool:
    apart = all(len(structure.terms_with(index)) == 1 for index in structure.output_indices)
    return apart and order_of_chain(structure) is not None


@projection("two_factors", takes=lambda structure: _takes(structure) and len(structure.terms) == 2, exact=True)
@projection("tensor_train_matrix", takes=_takes, exact=False)
def tensor_train_matrix(weight: Tensor, structure: Structure, root: Tensor | None) -> list[Tensor]:
    """The axes of the matrix in pairs ``(i1 j1), (i2 j2), ...``, and the singular vectors of one bond after the other.

    The error is at most ``sqrt(cores - 1)`` times the least before sweeps of least squares lower it; with two cores it
    is the least. With a covariance sweeps start from the solution without one.

    Cost: one singular value decomposition for each bond.
    Paper: "Approximation of 2^d x 2^d matrices using tensor decomposition", 2010.
    """
    cores = split_chain(weight, structure)
    if root is None and len(structure.terms) == 2:
        return cores
    return refined(weight, structure, root, cores)
