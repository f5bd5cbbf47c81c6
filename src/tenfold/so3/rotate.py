"""Features turned: what an equivariant map is tested with."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from tenfold.errors import DataError
from tenfold.so3._given import check_tensor
from tenfold.so3.irreps import Given, Irreps
from tenfold.so3.layouts import Layout, check, join, split
from tenfold.so3.rotations import is_improper
from tenfold.so3.wigner_d import wigner_d_all


def rotate(
    features: Float[Tensor, "*batch dim"],
    irreps: Given,
    matrices: Float[Tensor, "*batch 3 3"],
    layout: Layout = "mul_ir",
) -> Float[Tensor, "*batch dim"]:
    """Features as they are after a rotation of space, or a rotation with an inversion; batches broadcast.

    Raises:
        DataError: shapes do not fit, or the matrices are not orthogonal.
        TenfoldError: there is no such layout.

    Cost: that of `wigner_d_all` up to the largest degree, and ``O(mul l^2)`` for each block.
    """
    irreps = Irreps(irreps)
    check(features, irreps, layout)
    check_tensor("matrices", matrices)
    try:
        torch.broadcast_shapes(features.shape[:-1], matrices.shape[:-2])
    except RuntimeError as error:
        shapes = f"{tuple(features.shape)} and matrices of shape {tuple(matrices.shape)}"
        raise DataError(f"features of shape {shapes} do not broadcast") from error
    if features.dtype != matrices.dtype:
        raise DataError(f"features and matrices must be of one dtype, not {features.dtype} and {matrices.dtype}")
    if not irreps.num_irreps:
        return features
    turned = []
    by_degree = wigner_d_all(irreps.lmax, matrices)
    improper = is_improper(matrices)
    for block, part in zip(irreps, split(features, irreps, layout), strict=True):
        if not block.mul:
            continue
        turn = by_degree[block.ir.l]
        if not block.ir.natural:
            turn = torch.where(improper[..., None, None], -turn, turn)
        turned.append(part @ turn.mT)
    return join(turned, layout)
