"""The best matrix of low rank: the singular value decomposition, of the weight or of what it does to the data."""

from __future__ import annotations

import torch
from torch import Tensor

from tenfold.nn.projection._registry import projection
from tenfold.structure import Structure


def _takes(structure: Structure) -> bool:
    if len(structure.terms) != 2 or len(structure.cores) != 2 or len(structure.inner_indices) != 1:
        return False
    (bond,) = structure.inner_indices
    wanted = {frozenset((*group, bond)) for group in structure.outputs}
    return {frozenset(term.indices) for term in structure.terms} == wanted


@projection("low_rank", takes=_takes, exact=True)
def low_rank(weight: Tensor, structure: Structure, root: Tensor | None) -> list[Tensor]:
    """Singular vectors of ``W C``; what is kept of ``W`` lies in their span, so no inverse of ``C`` is needed.

    The error is ``||(W - V) C||_F^2``, the sum of the squares of the singular values left out.
    Cost: one singular value decomposition of a matrix of the weight's shape.
    Paper: "The approximation of one matrix by another of lower rank", 1936.
    """
    (bond,) = structure.inner_indices
    rank = structure.sizes[bond]
    left, _, _ = torch.linalg.svd(weight if root is None else weight @ root, full_matrices=False)
    left = left[:, :rank]
    right = left.T @ weight
    # Both factors of one scale: neither is then favoured by weight decay or rounded worse.
    norms = right.norm(dim=1)
    # What is not there keeps its left side: were both zero, training would never get a gradient of either.
    scale = torch.where(norms > 0, norms.sqrt(), 1.0)
    left, right = left * scale, right / scale[:, None]
    short = rank - left.shape[1]
    if short > 0:
        left = torch.cat([left, left.new_zeros(left.shape[0], short)], dim=1)
        right = torch.cat([right, right.new_zeros(short, right.shape[1])])
    cores = []
    for core in structure.cores:
        group = structure.outputs[0] if structure.outputs[0][0] in core.indices else structure.outputs[1]
        factor = left if group == structure.outputs[0] else right.T
        laid = factor.reshape(*(structure.sizes[i] for i in group), rank)
        cores.append(laid.permute([(*group, bond).index(i) for i in core.indices]).contiguous())
    return cores
