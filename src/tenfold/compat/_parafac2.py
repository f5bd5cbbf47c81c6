"""PARAFAC2 for scripts: starts, and slices of which some entries are unknown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tenfold.compat._arrays import taken
from tenfold.compat._watch import Watch
from tenfold.decomposition import parafac2 as fit_parafac2
from tenfold.decomposition.parafac2 import Parafac2 as Parafac2Fit


def start(init: Any, slices: Sequence[Tensor], rank: int) -> Parafac2Fit:
    try:
        weights, factors, *_ = init
        a, h, c = (taken(factor, "init")[0].to(slices[0]) for factor in factors)
        if weights is not None:
            a = a * taken(weights, "init")[0].to(a)
    except (TypeError, ValueError):
        raise ValueError("init must be 'random', 'svd' or a PARAFAC2 tensor: weights, factors, projections") from None
    if h.shape[0] != rank:
        # A CP tensor: the rows that all slices share have the products of their triangular factor.
        h = torch.linalg.qr(h).R
    return Parafac2Fit(a=a, h=h, c=c, projections=(), error=0.0, errors=(), stopped="init")


def imputed(
    slices: Sequence[Tensor],
    known: Sequence[Tensor],
    rank: int,
    init: Any,
    counts: tuple[int, int],
    watch: Watch,
    options: dict[str, Any],
) -> Parafac2Fit:
    """Sweeps between which the unknown entries become the model's; errors are those of the known ones."""
    filled = [
        torch.where(k, x, x[k].mean() if bool(k.any()) else x.new_zeros(())) for x, k in zip(slices, known, strict=True)
    ]
    total = sum(float(x[k].norm() ** 2) for x, k in zip(slices, known, strict=True)) ** 0.5
    model = init
    for _ in range(counts[0]):
        model = fit_parafac2(filled, rank, init=model, max_sweeps=counts[1], tol=0.0, **options)
        made = model.slices()
        lost = sum(float((x - y)[k].norm() ** 2) for x, y, k in zip(slices, made, known, strict=True)) ** 0.5
        watch.add(lost / total if total else 0.0, lambda model=model: model)  # type: ignore[misc]
        filled = [torch.where(k, x, y) for x, y, k in zip(slices, made, known, strict=True)]
    return model
