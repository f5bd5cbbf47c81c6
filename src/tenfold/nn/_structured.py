"""The ways to apply a structured matrix, or the sum of several."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from tenfold.contraction import contract, execute
from tenfold.nn import _lanes
from tenfold.nn._chains import Chain, chain
from tenfold.nn._execution import Cores, Way, Ways, materialised
from tenfold.structure import Structure

Chains = tuple[Chain, ...]

# No index of a structure contains a space, so this name is free.
_BATCH = "the batch"


def ways(structures: Sequence[Structure]) -> Ways:
    """The ways to apply the sum of some matrix structures of one shape."""
    chains = tuple(map(chain, structures))
    flops = sum(one.flops for one in chains)
    return Ways(chains, (CHAINED, CONTRACTED), MATERIALISED, LANES, flops, math.prod(structures[0].shape))


def _as_they_are(chains: Chains, cores: Cores) -> Cores:
    return cores


def _contracted(chains: Chains, cores: Cores, rows: Tensor, bias: Tensor | None) -> Tensor:
    """Along the cheapest order of products there is, rows first."""
    made = None
    for one, numbers in zip(chains, cores, strict=True):
        structure = one.structure
        up, down = structure.outputs
        operands = [(t.indices, numbers[c]) for t, c in zip(structure.terms, structure.term_core, strict=True)]
        x = rows.reshape(rows.shape[0], *one.down)
        part = contract([((_BATCH, *down), x), *operands], (_BATCH, *up)).reshape(rows.shape[0], structure.shape[0])
        made = part if made is None else made + part
    assert made is not None
    return made if bias is None else made + bias.to(made.dtype)


def _matrices(chains: Chains, cores: Cores) -> list[list[Tensor]]:
    """The cores in the order of the chain, each as matrices ``[groups, made, summed]``."""
    return [
        [numbers[step.core].permute(step.core_axes).reshape(step.core_shape) for step in one.steps]
        for one, numbers in zip(chains, cores, strict=True)
    ]


def _chained(chains: Chains, prepared: list[list[Tensor]], rows: Tensor, bias: Tensor | None) -> Tensor:
    """One core after the other, features first: then a product's result is the next one's operand without a copy."""
    count = rows.shape[0]
    total = None
    for one, matrices in zip(chains, prepared, strict=True):
        if one.flat:
            part = rows
            for matrix in matrices:
                part = part @ matrix[0].t()
        else:
            held = rows.t().reshape(*one.down, count)
            for step, matrix in zip(one.steps, matrices, strict=True):
                groups, _, summed = step.core_shape
                held = held.permute(step.axes).reshape(groups, summed, step.others * count)
                held = torch.bmm(matrix, held) if groups > 1 else matrix[0] @ held[0]
                held = held.reshape(*step.after, count)
            part = held.permute(one.finish).reshape(one.structure.shape[0], count).t()
        total = part if total is None else total + part
    assert total is not None
    made = total.contiguous()
    return made if bias is None else made + bias.to(made.dtype)


def _dense(chains: Chains, cores: Cores) -> Tensor:
    """The matrix in full."""
    made = None
    for one, numbers in zip(chains, cores, strict=True):
        operands = [numbers[c] for c in one.structure.term_core]
        part = execute(one.whole, operands).reshape(one.structure.shape)
        made = part if made is None else made + part
    assert made is not None
    return made


CONTRACTED = Way("contracted", _as_they_are, _contracted)
CHAINED = Way("chained", _matrices, _chained)
LANES = Way("lanes", _lanes.of_chains, _lanes.run)
MATERIALISED = Way("materialised", _dense, materialised)
