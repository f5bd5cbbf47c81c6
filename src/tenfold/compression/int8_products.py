"""Weights and inputs of 8 bits, multiplied as whole numbers."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor, nn

from tenfold.compression._registry import Candidate, method
from tenfold.compression.census import Site
from tenfold.compression.moments import Moments
from tenfold.nn import _whole_products as whole
from tenfold.nn.quantized import QuantizedWeight
from tenfold.nn.w8a8 import W8A8Conv, W8A8Linear, fits

# How much of the range of a feature goes from the input over to the weight, and the smallest factor.
_SHARE, _LEAST = 0.5, 1e-5


@method("int8_products", kinds=("linear", "conv"))
def int8_products(site: Site, moments: Moments | None) -> Iterator[Candidate]:
    """Whole numbers of 8 bits that are multiplied as such with inputs of 8 bits: a quarter of the bytes, and faster.

    On processors with an instruction for it, for layers of single precision on the CPU. Linear layers come in two
    kinds, the second with factors that make the features of the input alike before they are rounded.

    Papers: "LLM.int8(): 8-bit matrix multiplication for transformers at scale", 2022;
    "SmoothQuant: Accurate and efficient post-training quantization for large language models", 2023.
    """
    weight = site.weight
    if moments is None or moments.sample is None or not whole.there():
        return
    if weight.dtype != torch.float32 or not weight.is_cpu:
        return
    if site.kind == "conv":
        if fits(site.module) and whole.convolutions_there():
            yield _candidate("a scale for each example", site, None)
        return
    yield _candidate("a scale for each input", site, None)
    yield _candidate("smoothed, a scale for each input", site, _factors(weight, moments))


def _factors(weight: Tensor, moments: Moments) -> Tensor:
    """What each feature of the input is multiplied by: the roots of the ranges of weight and input, divided."""
    assert moments.mean is not None
    assert moments.covariance is not None
    size = (moments.covariance.diagonal() + moments.mean.square()).sqrt()
    largest = weight.abs().amax(dim=0).double()
    found = largest ** (1 - _SHARE) / size.clamp(min=size.max() * _LEAST + 1e-30) ** _SHARE
    found = found / found.max().clamp(min=1e-30)
    return found.clamp(min=_LEAST).to(weight.dtype)


def _candidate(label: str, site: Site, factors: Tensor | None) -> Candidate:
    return Candidate(
        "int8_products",
        label,
        partial(_build, site, factors),
        weight=partial(_weight, site, factors),
        bits=8,
        rounds=True,
    )


def _build(site: Site, factors: Tensor | None, bias: Tensor | None) -> nn.Module:
    if site.kind == "conv":
        return W8A8Conv.from_dense(site.module, bias=bias)  # type: ignore[arg-type]
    return W8A8Linear.from_dense(site.weight, bias=bias, factors=factors)


def _weight(site: Site, factors: Tensor | None) -> Tensor:
    with torch.no_grad():
        if site.kind == "conv":
            return QuantizedWeight.of(site.weight).dequantized()
        return W8A8Linear.from_dense(site.weight, factors=factors).to_dense()
