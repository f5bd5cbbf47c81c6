"""Total variation of rows of numbers, and its proximal map."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def total_variation(values: Float[Tensor, "*rows n"]) -> Float[Tensor, ""]:
    """The sum of the sizes of all steps along the last axis."""
    return values.diff(dim=-1).abs().sum()


def prox_total_variation(values: Float[Tensor, "*rows n"], weight: float) -> Float[Tensor, "*rows n"]:
    """The rows ``x`` with the least ``|x - values|^2 / 2 + weight * total_variation(x)``, exactly.

    Each row along the last axis is a problem of its own. Not differentiable.

    Raises:
        ValueError: weight is negative or NaN.

    Cost: O(n) for each row, on the processor, in float64.
    Paper: "A dynamic programming algorithm for the fused lasso and L0-segmentation", 2013.
    """
    if not weight >= 0:
        raise ValueError(f"weight {weight} must not be negative")
    if not weight or not values.numel():
        return values.detach().clone()
    from tenfold.linalg._total_variation_kernel import prox_rows

    rows = values.detach().reshape(-1, values.shape[-1]).to("cpu", torch.float64).contiguous()
    return torch.from_numpy(prox_rows(rows.numpy(), float(weight))).to(values).reshape(values.shape)
