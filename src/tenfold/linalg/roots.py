"""Square roots of covariances."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from tenfold.errors import DataError

# Of the mean variance; what never came in still counts a little, so that a direction without data is not thrown away
# at random.
_FLOOR = 1e-6


def root_of(covariance: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
    """A matrix ``C`` with ``C C^T`` the covariance, plus a millionth of its mean variance on the diagonal; float64.

    Raises:
        DataError: not square, or numbers that are not finite.

    Cost: a Cholesky decomposition; an eigendecomposition where rounding has made it indefinite.
    """
    if covariance.ndim != 2 or covariance.shape[0] != covariance.shape[1]:
        raise DataError(f"a covariance is square, not {' x '.join(map(str, covariance.shape))}")
    made = covariance.to(torch.float64)
    if not made.isfinite().all():
        raise DataError("covariance has entries that are not finite")
    floor = _FLOOR * made.diagonal().mean().clamp(min=torch.finfo(made.dtype).tiny)
    made = made + floor * torch.eye(len(made), dtype=made.dtype, device=made.device)
    root, failed = torch.linalg.cholesky_ex(made)
    if not failed:
        return root
    values, vectors = torch.linalg.eigh(made)
    return vectors * values.clamp(min=0).sqrt()
