"""A table of embeddings as a thin one, times a small matrix, in 32 bits or in 8."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor, nn

from tenfold import formats
from tenfold.compression._errors import Judge
from tenfold.compression._ladder import ladder
from tenfold.compression._registry import Candidate, method
from tenfold.compression.census import Site
from tenfold.compression.moments import Moments
from tenfold.nn.embedding import StructuredEmbedding
from tenfold.nn.quantized import QuantizedEmbedding, QuantizedLinear


@method("embedding_low_rank", kinds=("embedding",))
def embedding_low_rank(site: Site, moments: Moments | None) -> Iterator[Candidate]:
    """Fewer numbers for each row, and one matrix that makes rows of them: the best for rows as often as they are asked.

    Cost: an eigendecomposition of a matrix of columns by columns, and one pass over the table.
    Paper: "GroupReduce: Block-wise low-rank approximation for neural language model shrinking", 2018.
    """
    weight = site.weight.double()
    judge = Judge(site, moments)
    seen = weight if judge.shares is None else judge.shares.sqrt()[:, None] * weight
    # Rows are as long as the table is wide, so the right singular vectors are had from their Gram matrix.
    values, vectors = torch.linalg.eigh(seen.T @ seen)
    values, vectors = values.flip(0).clamp(min=0), vectors.flip(1)
    rows, columns = weight.shape
    for rank in ladder(min(rows, columns)):
        basis = vectors[:, :rank]
        if rank * (rows + columns) < rows * columns:
            yield Candidate(
                "embedding_low_rank",
                f"rank {rank}",
                partial(_build, site, basis),
                weight=partial(_dense, weight, basis),
                error=float(values[rank:].sum()) / judge.total if judge.total > 0 else None,
            )
        yield Candidate(
            "embedding_low_rank",
            f"rank {rank} in 8 bits",
            partial(_build_rounded, site, basis),
            weight=partial(_dense_rounded, weight, basis),
            bits=8,
        )


def _factors(weight: Tensor, basis: Tensor) -> tuple[Tensor, Tensor]:
    """Both of one scale, so that neither is rounded or trained worse."""
    left = weight @ basis
    scale = left.norm(dim=0).clamp(min=torch.finfo(left.dtype).tiny).sqrt()
    return left / scale, scale[:, None] * basis.T


def _build(site: Site, basis: Tensor, bias: Tensor | None) -> nn.Module:
    left, right = _factors(site.weight.double(), basis)
    (rows, columns), rank = site.weight.shape, basis.shape[1]
    made = StructuredEmbedding(
        formats.low_rank(rows, columns, rank),
        padding_idx=_padding(site),
        dtype=site.weight.dtype,
        device=site.weight.device,
    )
    with torch.no_grad():
        for core, factor in zip(made.cores.values(), (left, right), strict=True):
            core.copy_(factor)
    return made


def _build_rounded(site: Site, basis: Tensor, bias: Tensor | None) -> nn.Module:
    left, right = (factor.to(site.weight.dtype) for factor in _factors(site.weight.double(), basis))
    thin = nn.Embedding.from_pretrained(left, padding_idx=_padding(site))
    return nn.Sequential(QuantizedEmbedding.from_dense(thin), QuantizedLinear.from_dense(right.T))


def _padding(site: Site) -> int | None:
    padding = site.module.padding_idx
    assert padding is None or isinstance(padding, int)
    # A row of zeros is made of zeros; one that is trained to something is a row like others.
    return padding if padding is not None and not site.weight[padding].any() else None


def _dense(weight: Tensor, basis: Tensor) -> Tensor:
    return weight @ basis @ basis.T


def _dense_rounded(weight: Tensor, basis: Tensor) -> Tensor:
    left, right = _factors(weight, basis)
    return QuantizedLinear.from_dense(left).to_dense() @ QuantizedLinear.from_dense(right.T).to_dense().T
