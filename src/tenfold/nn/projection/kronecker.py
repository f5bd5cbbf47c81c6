"""Sums of Kronecker products, hypercomplex ones among them: a matrix whose entries are put in another order."""

from __future__ import annotations

import torch
from torch import Tensor

from tenfold import formats
from tenfold.decomposition.cp_als import cp_als
from tenfold.nn.projection._chain import balanced, split_chain
from tenfold.nn.projection._registry import projection
from tenfold.nn.projection._sweeps import refined
from tenfold.structure import Structure

_SWEEPS, _TOLERANCE = 300, 1e-9


def _takes(structure: Structure) -> bool:
    """Terms that each hold some factor of rows and columns of their own, and all the one index that is summed."""
    if len(structure.terms) < 2 or len(structure.inner_indices) != 1 or len(structure.cores) < len(structure.terms):
        return False
    (term,) = structure.inner_indices
    apart = all(len(structure.terms_with(index)) == 1 for index in structure.output_indices)
    # Else the matrix is of low rank, and its covariance is no trouble.
    mixed = any(all(set(t.indices) & set(group) for group in structure.outputs) for t in structure.terms)
    return apart and mixed and all(term in t.indices and len(t.indices) > 1 for t in structure.terms)


@projection("kronecker", takes=lambda structure: _takes(structure) and len(structure.terms) == 2, exact=True)
@projection("kronecker_of_many", takes=_takes, exact=False)
def kronecker(weight: Tensor, structure: Structure, root: Tensor | None) -> list[Tensor]:
    """With the factors of rows and columns in pairs a sum of Kronecker products is one of outer products.

    Of two factors it is a matrix of low rank, and its singular value decomposition gives the best sum. Of more it is a
    canonical polyadic decomposition, found by alternating least squares. With a covariance sweeps start from the
    solution without one.

    Cost: for two factors, the leading singular vectors of a matrix with as many entries.
    Paper: "Approximation with Kronecker products", 1993.
    """
    cores = split_chain(weight, structure) if len(structure.terms) == 2 else _polyadic(weight, structure)
    return cores if root is None else refined(weight, structure, root, cores)


def _polyadic(weight: Tensor, structure: Structure) -> list[Tensor]:
    (term,) = structure.inner_indices
    groups = [[i for i in core.indices if i != term] for core in structure.cores]
    turn = [structure.output_indices.index(i) for group in groups for i in group]
    shape = [torch.Size([structure.sizes[i] for i in group]) for group in groups]
    laid = weight.reshape(structure.output_shape).permute(turn).reshape([s.numel() for s in shape])
    rank = structure.sizes[term]
    found = cp_als(laid, formats.cp(laid.shape, rank), max_sweeps=_SWEEPS, tol=_TOLERANCE).network
    cores = []
    for core, group, sizes, factor in zip(structure.cores, groups, shape, found.cores, strict=True):
        cores.append(factor.reshape(*sizes, rank).permute([[*group, term].index(i) for i in core.indices]))
    return balanced(structure, cores)
