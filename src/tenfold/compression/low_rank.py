"""Two thin matrices in place of a wide one, in 32 bits or in 8."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor, nn

from tenfold.compression._chains import rounded
from tenfold.compression._errors import Judge
from tenfold.compression._ladder import ladder
from tenfold.compression._registry import Candidate, method
from tenfold.compression.census import Site
from tenfold.compression.moments import Moments
from tenfold.nn.quantized import QuantizedLinear


@method("low_rank", kinds=("linear",))
def low_rank(site: Site, moments: Moments | None) -> Iterator[Candidate]:
    """Two linear layers through fewer features: the best for the data that comes in, by its covariance.

    Cost: one singular value decomposition for a layer.
    Paper: "ASVD: Activation-aware singular value decomposition for compressing large language models", 2023.
    """
    weight = site.weight.double()
    root = None if moments is None or moments.covariance is None else moments.root
    seen = weight if root is None else weight @ root
    left, values, _ = torch.linalg.svd(seen, full_matrices=False)
    total = Judge(site, moments).total or 1.0
    (rows, columns), dtype = weight.shape, site.weight.dtype
    # All ranks share these two, so they are kept in no more bits than the layer will have.
    kept = dtype if dtype.itemsize >= 4 else torch.float32
    left, right = (f.to(kept) for f in balanced(left, left.T @ weight))
    for rank in ladder(len(values)):
        factors = left[:, :rank], right[:rank]
        if rank * (rows + columns) < rows * columns:
            error = float(values[rank:].square().sum()) / total
            yield Candidate(
                "low_rank", f"rank {rank}", _Pair(*factors, dtype), weight=partial(torch.matmul, *factors), error=error
            )
        yield Candidate(
            "low_rank",
            f"rank {rank} in 8 bits",
            _Pair(*factors, dtype, bits=8),
            weight=partial(_rounded, *factors),
            bits=8,
        )


class _Pair:
    def __init__(self, left: Tensor, right: Tensor, dtype: torch.dtype, bits: int | None = None) -> None:
        self.left, self.right, self.dtype, self.bits = left, right, dtype, bits

    def __call__(self, bias: Tensor | None) -> nn.Module:
        dtype = self.dtype
        left, right = self.left.to(dtype), self.right.to(dtype)
        if self.bits is not None:
            return nn.Sequential(
                QuantizedLinear.from_dense(right, bits=self.bits),
                QuantizedLinear.from_dense(left, bias=bias, bits=self.bits),
            )
        first = nn.Linear(right.shape[1], right.shape[0], bias=False, dtype=dtype, device=right.device)
        second = nn.Linear(left.shape[1], left.shape[0], bias=bias is not None, dtype=dtype, device=left.device)
        with torch.no_grad():
            first.weight.copy_(right)
            second.weight.copy_(left)
            if bias is not None:
                second.bias.copy_(bias)
        return nn.Sequential(first, second)


def balanced(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """The same product with both factors of one scale, so that neither is rounded or trained worse."""
    scale = right.norm(dim=1).clamp(min=torch.finfo(right.dtype).tiny).sqrt()
    return left * scale, right / scale[:, None]


def _rounded(left: Tensor, right: Tensor) -> Tensor:
    return rounded(left, 8) @ rounded(right, 8)
