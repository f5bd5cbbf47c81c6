"""Matrix products through the BLAS that is faster for thin factors and for a matrix times its own transpose."""

from __future__ import annotations

import torch
from jaxtyping import Shaped
from torch import Tensor


def product(left: Shaped[Tensor, "m k"], right: Shaped[Tensor, "k n"]) -> Shaped[Tensor, "m n"]:
    """``left @ right``, without gradients.

    Real matrices on the CPU go through NumPy without a copy: it sees when ``right`` is the transpose of ``left`` and
    does half the work, which torch does not, and its BLAS was 1.3 to 2 times as fast as torch's for thin factors.
    """
    if left.device.type == "cpu" and left.dtype in (torch.float64, torch.float32):
        return torch.from_numpy(left.detach().numpy() @ right.detach().numpy())
    return left @ right
