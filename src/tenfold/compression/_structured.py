"""Candidates whose matrix is a structure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial

import torch
from torch import Tensor, nn

from tenfold.compression._registry import Candidate
from tenfold.compression.census import Site
from tenfold.compression.moments import Moments
from tenfold.nn.linear import StructuredLinear
from tenfold.nn.projection import project
from tenfold.structure import Structure


def structured(
    name: str, site: Site, moments: Moments | None, structures: Iterable[tuple[str, Structure]]
) -> Iterator[Candidate]:
    """For each structure that is smaller than the layer, the best matrix in it for the data that comes in."""
    covariance = None if moments is None else moments.covariance
    weight = site.weight.double()
    if not torch.isfinite(weight).all():
        return
    for label, structure in structures:
        if structure.parameters >= weight.numel():
            continue
        (cores,) = project(weight, (structure,), covariance=covariance)
        cores = [core.to(site.weight.dtype) for core in cores]
        yield Candidate(name, label, partial(_build, structure, cores), weight=partial(_dense, structure, cores))


def two_factors(size: int) -> tuple[int, int]:
    """The two factors of a size that are nearest to each other, the smaller first."""
    small = max(factor for factor in range(1, int(size**0.5) + 1) if size % factor == 0)
    return small, size // small


def _layer(structure: Structure, cores: list[Tensor], bias: Tensor | None) -> StructuredLinear:
    made = StructuredLinear(structure, bias=bias is not None, dtype=cores[0].dtype, device=cores[0].device)
    with torch.no_grad():
        for mine, core in zip(made.cores.values(), cores, strict=True):
            mine.copy_(core)
        if made.bias is not None and bias is not None:
            made.bias.copy_(bias)
    return made


def _build(structure: Structure, cores: list[Tensor], bias: Tensor | None) -> nn.Module:
    return _layer(structure, cores, bias)


def _dense(structure: Structure, cores: list[Tensor]) -> Tensor:
    with torch.no_grad():
        return _layer(structure, cores, None).to_dense()
