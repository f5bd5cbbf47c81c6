"""How alike the components of two fits are."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tenfold.components._terms import terms_of
from tenfold.components.canonical import Components
from tenfold.errors import StructureError
from tenfold.network import Network


@dataclass(frozen=True)
class Match:
    """Which component of one fit belongs to which of another.

    Attributes:
        score: the mean of ``scores`` over those that have a partner; 1 for equal components, near 0 for unrelated ones.
        permutation: for each component of the first fit the number of its partner in the second, -1 for none.
        scores: the agreement of each component of the first fit with its partner, 0 for none.
    """

    score: float
    permutation: tuple[int, ...]
    scores: tuple[float, ...]


def factor_match_score(a: Network | Components, b: Network | Components, weights: bool = True) -> Match:
    """The factor match score of two CP networks, over the best assignment of their components.

    Two components agree by the product over the modes of the absolute cosines between their columns; with ``weights``
    times ``1 - |u - v| / max(|u|, |v|)`` (at least 0) for their signed weights u and v. Order, scale and signs of
    columns play no role. Where the ranks differ, each component of the smaller one gets a partner.

    Raises:
        StructureError: a network is no sum of rank-one terms, or the modes differ.

    Cost: ``O(sum(n) Ra Rb + max(Ra, Rb)^3)``.
    Paper: "A scalable optimization approach for fitting canonical tensor decompositions", 2011.
    """
    first, second = _read(a), _read(b)
    shapes = [tuple(f.shape[0] for f in factors) for _, factors in (first, second)]
    if shapes[0] != shapes[1]:
        raise StructureError(f"factors have {shapes[0]} rows, the others {shapes[1]}: match fits of one array")
    mixed = any(factor.is_complex() for factor in (*first[1], *second[1]))
    double = torch.complex128 if mixed else torch.float64
    cosine = torch.ones(len(first[0]), len(second[0]), dtype=double)
    for mine, other in zip(first[1], second[1], strict=True):
        cosine = cosine * (mine.mH.to(double) @ other.to(double))
    scores = cosine.abs().clamp(max=1)
    if weights:
        u, v = first[0][:, None], second[0][None, :]
        top = torch.maximum(u, v)
        turn = torch.where(scores > 0, cosine / torch.where(scores > 0, scores, 1.0), 1.0)
        apart = (u - v * turn).abs() / torch.where(top > 0, top, 1.0)
        scores = scores * (1 - apart).clamp(min=0)
    from scipy.optimize import linear_sum_assignment  # loads for long, and few need it

    rows, places = linear_sum_assignment(-scores.numpy())
    permutation, each = [-1] * len(first[0]), [0.0] * len(first[0])
    for row, place in zip(rows.tolist(), places.tolist(), strict=True):
        permutation[row], each[row] = place, float(scores[row, place])
    return Match(sum(each) / max(len(rows), 1), tuple(permutation), tuple(each))


def _read(fit: Network | Components) -> tuple[Tensor, list[Tensor]]:
    terms = terms_of(fit) if isinstance(fit, Network) else fit
    return terms.weights.cpu(), [factor.cpu() for factor in terms.factors.values()]
