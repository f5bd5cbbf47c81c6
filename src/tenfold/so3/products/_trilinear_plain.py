"""The sum over paths and its derivatives in sums of torch: on any device, in any dtype, for `torch.func`."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from tenfold.so3.products._trilinear_plan import Plan


def _index(numbers: np.ndarray, like: Tensor) -> Tensor:
    return torch.from_numpy(numbers).to(like.device)


def _pairs(left: Tensor, right: Tensor, left2: Tensor | None, right2: Tensor | None, plan: Plan) -> Tensor:
    i, j = _index(plan.pair_left, left), _index(plan.pair_right, left)
    found = left[:, i] * right[:, j]
    return found if left2 is None or right2 is None else found + left2[:, i] * right2[:, j]


def forward(
    left: Tensor, right: Tensor, weight: Tensor | None, left2: Tensor | None, right2: Tensor | None, plan: Plan
) -> Tensor:
    pairs = _pairs(left, right, left2, right2, plan)
    ends = torch.einsum("brc,re->bec", pairs, plan.matrix.to(pairs))
    if weight is not None:
        ends = ends * weight[:, _index(plan.end_path, left)]
    out = left.new_zeros(left.shape[0], plan.sizes[2], left.shape[2])
    return out.index_add(1, _index(plan.end_out, left), ends)


def gradients(left: Tensor, right: Tensor, weight: Tensor | None, grad: Tensor, plan: Plan) -> tuple[Tensor, Tensor]:
    i, j = _index(plan.pair_left, left), _index(plan.pair_right, left)
    ends = grad[:, _index(plan.end_out, left)]
    if weight is not None:
        ends = ends * weight[:, _index(plan.end_path, left)]
    pairs = torch.einsum("bec,re->brc", ends, plan.matrix.to(ends))
    by_left = torch.zeros_like(left).index_add(1, i, pairs * right[:, j])
    by_right = right.new_zeros(*right.shape[:2], left.shape[2]).index_add(1, j, pairs * left[:, i])
    return by_left.contiguous(), summed_to(by_right, right.shape)


def weights(
    left: Tensor,
    right: Tensor,
    grad: Tensor,
    left2: Tensor | None,
    right2: Tensor | None,
    plan: Plan,
    shared: bool,
    narrow: bool,
) -> Tensor:
    pairs = _pairs(left, right, left2, right2, plan)
    ends = torch.einsum("brc,re->bec", pairs, plan.matrix.to(pairs)) * grad[:, _index(plan.end_out, left)]
    found = left.new_zeros(left.shape[0], plan.sizes[3], left.shape[2])
    found = found.index_add(1, _index(plan.end_path, left), ends)
    return summed_to(
        found, torch.Size([1 if shared else left.shape[0], found.shape[1], 1 if narrow else found.shape[2]])
    )


def summed_to(tensor: Tensor, shape: torch.Size) -> Tensor:
    """Sums over rows and channels where there is one of them in the shape."""
    axes = [axis for axis in (0, 2) if tensor.shape[axis] != shape[axis]]
    return tensor.sum(axes, keepdim=True) if axes else tensor
