"""Weights of 8 or 4 bits."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor, nn

from tenfold.compression._registry import Candidate, method
from tenfold.compression.census import Site
from tenfold.compression.moments import Moments
from tenfold.nn.quantized import QuantizedConv, QuantizedEmbedding, QuantizedLinear, QuantizedWeight

# Entries of a row that share a scale in 4 bits.
_GROUP = 32


@method("int8", kinds=("linear", "conv", "embedding"))
def int8(site: Site, moments: Moments | None) -> Iterator[Candidate]:
    """Whole numbers of 8 bits and a scale for each row: a quarter of the bytes, as fast as before."""
    yield _rounded(site, 8, None)


@method("int4", kinds=("linear", "conv", "embedding"))
def int4(site: Site, moments: Moments | None) -> Iterator[Candidate]:
    """Whole numbers of 4 bits and a scale for each 32 in a row: a seventh of the bytes, as fast as before."""
    yield _rounded(site, 4, None if site.kind == "embedding" else _GROUP)


def _rounded(site: Site, bits: int, group: int | None) -> Candidate:
    label = "a scale for each row" if group is None else f"a scale for each {group}"
    return Candidate(
        f"int{bits}",
        label,
        partial(_build, site, bits, group),
        weight=partial(_weight, site, bits, group),
        bits=bits,
    )


def _build(site: Site, bits: int, group: int | None, bias: Tensor | None) -> nn.Module:
    if site.kind == "conv":
        return QuantizedConv.from_dense(site.module, bias=bias, bits=bits, group=group)  # type: ignore[arg-type]
    if site.kind == "embedding":
        return QuantizedEmbedding.from_dense(site.module, bits=bits)  # type: ignore[arg-type]
    return QuantizedLinear.from_dense(site.weight, bias=bias, bits=bits, group=group)


def _weight(site: Site, bits: int, group: int | None) -> Tensor:
    with torch.no_grad():
        return QuantizedWeight.of(site.weight, bits=bits, group=group).dequantized()
