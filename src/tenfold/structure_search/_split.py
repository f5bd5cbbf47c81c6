"""Cores of low rank across some parting of their indices, each replaced by two smaller ones."""

from __future__ import annotations

import math
from itertools import combinations, count

import torch
from torch import Tensor

from tenfold.network import Network
from tenfold.structure import Structure

# Singular values below this part of the largest are none.
_ZERO = 1e-5


def split_cores(network: Network, zero: float = _ZERO) -> Network:
    """The same tensor, with every core in two that has a low rank and is larger than both its halves.

    For each core with more than two indices, each parting into two sides is tried; the parting that leaves the fewest
    parameters is made, until none leaves fewer. A side that carries no mode becomes a core without one. Where no core
    is split, the network itself is returned.

    Args:
        zero: singular values below this part of the largest are dropped, which is all that changes the tensor.

    Cost: one singular value decomposition for each parting of each core, 2^(k-1) for k indices.
    """
    structure = network.structure
    if any(len(core.terms) > 1 for core in structure.cores):
        return network
    terms = [(term.indices, core) for term, core in zip(structure.terms, network.cores, strict=True)]
    sizes = dict(structure.sizes)
    place = 0
    while place < len(terms):
        halves = _halves(*terms[place], zero)
        if halves is None:
            place += 1
            continue
        (left, one), (right, other) = halves
        if one.shape[-1] > 1:
            bond = next(name for n in count(1) if (name := f"s{n}") not in sizes)
            sizes[bond] = one.shape[-1]
            left, right = (*left, bond), (bond, *right)
        else:
            one, other = one[..., 0], other[0]
        terms[place : place + 1] = [(left, one), (right, other)]
    if len(terms) == len(network.cores):
        return network
    made = Structure.of([indices for indices, _ in terms], structure.outputs, sizes)
    return Network(made, [core for _, core in terms])


_Half = tuple[tuple[str, ...], Tensor]


def _halves(indices: tuple[str, ...], core: Tensor, zero: float) -> tuple[_Half, _Half] | None:
    """The smallest pair of cores that makes this one, if there is one smaller than it; their bond is last and first."""
    best = core.numel()
    found = None
    for number in range(1, len(indices)) if len(indices) > 2 else ():
        for right in combinations(indices[1:], number):
            left = tuple(index for index in indices if index not in right)
            rows = math.prod(core.shape[indices.index(index)] for index in left)
            matrix = core.permute([indices.index(index) for index in (*left, *right)]).reshape(rows, -1)
            values = torch.linalg.svdvals(matrix)
            rank = max(1, int((values > zero * values[0]).sum()))
            if rank * sum(matrix.shape) < best:
                best = rank * sum(matrix.shape)
                found = left, right, matrix, rank
    if found is None:
        return None
    left, right, matrix, rank = found
    u, values, vh = torch.linalg.svd(matrix, full_matrices=False)
    root = values[:rank].sqrt()
    shape = dict(zip(indices, core.shape, strict=True))
    one = (u[:, :rank] * root).reshape(*(shape[index] for index in left), rank)
    other = (root[:, None] * vh[:rank]).reshape(rank, *(shape[index] for index in right))
    return (left, one), (right, other)
