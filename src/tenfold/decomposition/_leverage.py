"""Rows of a Khatri-Rao product drawn by the leverage scores of its factors, without making the product.

Paper: "Practical leverage-based sampling for low-rank tensor decomposition", 2022.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor


class Sample(NamedTuple):
    """Different rows of a Khatri-Rao product, and what each counts in a least-squares problem over all rows.

    Attributes:
        rows: for each sample the row of each factor.
        weights: by which squares of residuals are multiplied; their sum has the expectation of the sum over all rows.
    """

    rows: Int[Tensor, "s K"]
    weights: Float[Tensor, " s"]


def leverage(factor: Shaped[Tensor, "n r"]) -> Float[Tensor, " n"]:
    """The leverage scores of a matrix over their sum: squared rows of an orthonormal basis of its range."""
    wide = factor.to(torch.complex128 if factor.is_complex() else torch.float64)
    norms = torch.linalg.vector_norm(wide, dim=0)
    unit = wide / torch.where(norms > 0, norms, 1.0)
    values, vectors = torch.linalg.eigh(unit.mH @ unit)
    keep = values > 1e-12 * values[-1].clamp(min=torch.finfo(torch.float64).tiny)
    scores = ((unit @ (vectors[:, keep] / values[keep].sqrt())).abs() ** 2).sum(1)
    total = scores.sum()
    return scores / total if total > 0 else torch.full_like(scores, 1 / len(scores))


def draw(scores: Sequence[Float[Tensor, " n"]], count: int, generator: torch.Generator) -> Sample:
    """About ``count`` rows of the Khatri-Rao product of factors with these leverage scores.

    The probability of a row is the product of its factors' scores. Rows of probability ``1 / count`` and more are all
    taken, once, with weight one; the others are drawn independently, and repeated ones made one row of more weight.
    All rows are taken if there are no more than ``count``.

    Args:
        scores: of each factor, adding up to one.
    """
    if math.prod(len(each) for each in scores) <= count:
        grid = torch.meshgrid([torch.arange(len(each)) for each in scores], indexing="ij")
        rows = torch.stack([axis.reshape(-1) for axis in grid], 1)
        return Sample(rows, torch.ones(len(rows), dtype=torch.float64))
    heavy, sure = _heavy(scores, 1 / count)
    left = 1 - float(sure.sum())
    wanted = count - len(heavy)
    if wanted < 1 or left < 1e-12:
        return Sample(heavy, torch.ones(len(heavy), dtype=torch.float64))
    # Rows that are taken anyhow are thrown away, so that the others have their conditional distribution.
    tries = min(math.ceil(1.1 * wanted / left) + 10, 4 * count)
    uniform = torch.rand(len(scores), tries, generator=generator, dtype=torch.float64)
    columns = []
    for each, numbers in zip(scores, uniform, strict=True):
        total = each.cumsum(0)
        columns.append(torch.searchsorted(total, numbers * total[-1], right=True).clamp(max=len(each) - 1))
    chance = probability(scores, columns)
    light = (chance < 1 / count).nonzero()[:wanted, 0]
    rows, repeats = _different([column[light] for column in columns], [len(each) for each in scores])
    weights = repeats * left / (max(len(light), 1) * probability(scores, rows.unbind(1)))
    return Sample(torch.cat([heavy, rows]), torch.cat([torch.ones(len(heavy), dtype=torch.float64), weights]))


def probability(scores: Sequence[Float[Tensor, " n"]], columns: Sequence[Int[Tensor, " s"]]) -> Float[Tensor, " s"]:
    """The product of the scores of each row."""
    chance = torch.ones(len(columns[0]), dtype=torch.float64)
    for each, column in zip(scores, columns, strict=True):
        chance = chance * each[column]
    return chance


def _different(columns: Sequence[Tensor], sizes: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The different rows, and how often each is there."""
    if math.prod(sizes) > 2**63 - 1:
        rows, repeats = torch.unique(torch.stack(list(columns), 1), dim=0, return_counts=True)
        return rows, repeats
    keys = columns[0]
    for column, size in zip(columns[1:], sizes[1:], strict=True):
        keys = keys * size + column
    keys, repeats = torch.unique(keys, return_counts=True)
    found = []
    for size in reversed(sizes):
        found.append(keys % size)
        keys = keys // size
    return torch.stack(found[::-1], 1), repeats


def _heavy(scores: Sequence[Tensor], least: float) -> tuple[Tensor, Tensor]:
    """All rows of at least this probability, and their probabilities.

    Factor by factor; what cannot become heavy with the highest scores of the factors that follow is left out, so that
    no more than ``1 / least`` are held at any time.
    """
    rows, chance = torch.empty(1, 0, dtype=torch.int64), torch.ones(1, dtype=torch.float64)
    highest = [float(each.max()) for each in scores]
    for number, each in enumerate(scores):
        # Rounding may not keep a row from both sides of the threshold: `draw` tests the product in this order too.
        best, order = each.sort(descending=True)
        bound = least * (1 - 1e-9) / (chance * math.prod(highest[number + 1 :]))
        many = torch.searchsorted(-best, -bound, right=True)
        parent = torch.repeat_interleave(torch.arange(len(rows)), many)
        place = torch.arange(len(parent)) - torch.repeat_interleave(many.cumsum(0) - many, many)
        rows = torch.cat([rows[parent], order[place][:, None]], 1)
        chance = chance[parent] * best[place]
    keep = chance >= least
    return rows[keep], chance[keep]
