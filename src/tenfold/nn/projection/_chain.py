"""Chains of cores, split off one after the other by singular values."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from tenfold.decomposition.tree_svd import tree_svd
from tenfold.formats import low_rank
from tenfold.structure import Structure

# From this size a decomposition that finds only the leading part, of at most this share, is faster than a whole one.
_LARGE, _SHARE = 256, 0.25


def order_of_chain(structure: Structure) -> tuple[int, ...] | None:
    """The terms in an order in which they can be split off from the last to the first, or None.

    A core may share output indices with the one before it; then there is one matrix for each of their values. What the
    last core shares with all before it must lie on the one just before it, so that the matrix of what is split off can
    be taken up there: a matrix that has the structure is then found without an error.
    """
    forward = tuple(range(len(structure.terms)))
    for order in (forward, forward[::-1]):
        if _is_chain(structure, order):
            return order
    return None


def _is_chain(structure: Structure, order: tuple[int, ...]) -> bool:
    if len(order) < 2 or any(len(core.terms) > 1 for core in structure.cores):
        return False
    if any(len(structure.terms_with(bond)) != 2 for bond in structure.inner_indices):
        return False
    terms = [set(structure.terms[place].indices) for place in order]
    return all((terms[k] & set().union(*terms[:k])) <= terms[k - 1] for k in range(1, len(terms)))


def split_chain(weight: Float[Tensor, "rows columns"], structure: Structure) -> list[Tensor]:
    """Cores of a chain by singular values; the best ones where there are two cores, and a good start for more.

    The error is at most ``sqrt(cores - 1)`` times the least.
    Cost: a singular value decomposition of each matrix that is split.
    """
    order = order_of_chain(structure)
    assert order is not None
    sizes = structure.sizes
    rest, names = weight.reshape(structure.output_shape), list(structure.output_indices)
    cores: dict[int, Tensor] = {}
    for k in range(len(order) - 1, 0, -1):
        indices = structure.terms[order[k]].indices
        before = {i for place in order[:k] for i in structure.terms[place].indices}
        bond = [i for i in indices if i in before and i in structure.inner_indices]
        shared = [i for i in names if i in indices and i in before]
        left = [i for i in names if i not in indices]
        right = [i for i in names if i not in before]
        count, height, width = (math.prod(sizes[i] for i in group) for group in (shared, left, right))
        laid = rest.permute([names.index(i) for i in (*shared, *left, *right)]).reshape(count, height, width)
        head, tail = _leading(laid, math.prod(sizes[i] for i in bond))
        tail = tail.reshape([sizes[i] for i in (*shared, *bond, *right)])
        cores[order[k]] = tail.permute([[*shared, *bond, *right].index(i) for i in indices])
        names = [*shared, *left, *bond]
        rest = head.reshape([sizes[i] for i in names])
    first = structure.terms[order[0]].indices
    cores[order[0]] = rest.permute([names.index(i) for i in first])
    return balanced(structure, [cores[core.terms[0]] for core in structure.cores])


def _leading(matrices: Float[Tensor, "count m n"], rank: int) -> tuple[Tensor, Tensor]:
    """``[count, m, rank]`` and ``[count, rank, n]`` whose products are nearest; the second has orthonormal rows.

    A rank that is larger than it can be is filled with zeros.
    """
    count, m, n = matrices.shape
    useful = min(rank, m, n)
    if count == 1 and min(m, n) >= _LARGE and useful <= _SHARE * min(m, n):
        found = tree_svd(matrices[0], low_rank(m, n, useful)).network
        basis, upper = torch.linalg.qr(found.cores[1].T)
        head, tail = (found.cores[0] @ upper.T)[None], basis.T[None]
    else:
        left, values, right = torch.linalg.svd(matrices, full_matrices=False)
        head, tail = left[:, :, :useful] * values[:, None, :useful], right[:, :useful]
    if rank > useful:
        head = torch.cat([head, head.new_zeros(count, m, rank - useful)], dim=2)
        tail = torch.cat([tail, tail.new_zeros(count, rank - useful, n)], dim=1)
    return head, tail


def balanced(structure: Structure, cores: list[Tensor], fixed: frozenset[int] = frozenset()) -> list[Tensor]:
    """Cores of the same matrix where two that share indices are of equal norm for each value of these.

    None is then favoured by weight decay, or rounded worse. Cores that are fixed, or used twice, stay.
    """
    made = list(cores)
    free = [n for n, core in enumerate(structure.cores) if len(core.terms) == 1 and n not in fixed]
    for position, one in enumerate(free):
        for other in free[position + 1 :]:
            mine, theirs = structure.cores[one].indices, structure.cores[other].indices
            common = [i for i in mine if i in theirs]
            if not common:
                continue
            a, b = _norms(made[one], mine, common), _norms(made[other], theirs, common)
            scale = torch.where((a > 0) & (b > 0), (b / a.clamp(min=1e-300)).sqrt(), 1.0)
            scale = torch.where(scale.isfinite() & (scale > 0), scale, 1.0)
            made[one] = made[one] * _spread(scale, common, mine)
            made[other] = made[other] / _spread(scale, common, theirs)
    return made


def _norms(core: Tensor, indices: tuple[str, ...], common: list[str]) -> Tensor:
    rest = [n for n, i in enumerate(indices) if i not in common]
    squares = core.square().sum(rest) if rest else core.square()
    kept = [i for i in indices if i in common]
    return squares.permute([kept.index(i) for i in common]).sqrt()


def _spread(scale: Tensor, common: list[str], indices: tuple[str, ...]) -> Tensor:
    kept = [i for i in indices if i in common]
    shape = iter(scale.permute([common.index(i) for i in kept]).shape)
    laid = scale.permute([common.index(i) for i in kept])
    return laid.reshape([next(shape) if i in common else 1 for i in indices])
