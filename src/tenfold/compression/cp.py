"""A convolution as a sum of products: 1 x 1, one tap at a time along each axis of space, and 1 x 1 again."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor, nn

from tenfold import formats
from tenfold.compression._chains import chain, channels, convolution, rounded
from tenfold.compression._registry import Candidate, method
from tenfold.compression.census import Site
from tenfold.compression.moments import Moments
from tenfold.decomposition.cp_als import cp_als

# Parts of the channels that are tried as ranks; sweeps; weights above this take too long.
_PARTS, _SWEEPS, _LARGEST = (0.25, 0.5, 1.0, 1.5), 40, 500_000
# Where single terms are so many times larger than what they add up to, they cancel, and rounding shows.
_CANCELLED = 100.0


@method("cp", kinds=("conv",))
def cp(site: Site, moments: Moments | None) -> Iterator[Candidate]:
    """Channels in, one filter for each component along each axis, channels out; the fewest flops of all.

    By alternating least squares, for the channels that come in as they vary. Components that cancel each other are
    refused, and weights of more than half a million entries left to other methods.
    Cost: forty sweeps for each of four ranks.
    Paper: "Speeding-up convolutional neural networks using fine-tuned CP-decomposition", 2015.
    """
    weight = site.weight.double()
    axes = [axis for axis, length in enumerate(weight.shape[2:]) if length > 1]
    if not axes or weight.numel() > _LARGEST or not weight.any():
        return
    root = channels(site, moments)
    seen = weight if root is None else torch.movedim(torch.movedim(weight, 1, -1) @ root, -1, 1)
    laid = seen.reshape(*seen.shape[:2], *(weight.shape[2 + axis] for axis in axes))
    wide = max(weight.shape[:2])
    for rank in sorted({max(1, round(part * wide)) for part in _PARTS}):
        fit = cp_als(laid, formats.cp(laid.shape, rank), max_sweeps=_SWEEPS, starts=0)
        factors = [core.clone() for core in fit.network.cores]
        sizes = torch.stack([factor.norm(dim=0) for factor in factors]).prod(dim=0)
        if float(sizes.norm()) > _CANCELLED * float(laid.norm()):
            continue
        if root is not None:
            factors[1] = torch.linalg.solve_triangular(root.T, factors[1], upper=True)
        for bits in (None, 8):
            if bits is None and sum(factor.numel() for factor in factors) >= weight.numel():
                continue
            label = f"rank {rank}" + ("" if bits is None else f" in {bits} bits")
            yield Candidate(
                "cp",
                label,
                partial(_build, site, factors, axes, bits),
                weight=partial(_dense, factors, weight.shape, bits),
                bits=bits,
            )


def _build(site: Site, factors: list[Tensor], axes: list[int], bits: int | None, bias: Tensor | None) -> nn.Module:
    spatial = site.weight.ndim - 2
    ones = (1,) * spatial
    outs, ins, *along = factors
    rank = outs.shape[1]
    modules = [convolution(site, ins.T.reshape(rank, -1, *ones), ())]
    for axis, factor in zip(axes, along, strict=True):
        shape = [len(factor) if axis == other else 1 for other in range(spatial)]
        modules.append(convolution(site, factor.T.reshape(rank, 1, *shape), (axis,), groups=rank))
    modules.append(convolution(site, outs.reshape(-1, rank, *ones), (), bias))
    return chain(modules, bits)


def _dense(factors: list[Tensor], shape: torch.Size, bits: int | None) -> Tensor:
    outs, ins, *along = factors
    rows = rounded(ins.T, bits).T
    for factor in along:
        rows = (rows[:, None] * rounded(factor.T, bits).T).flatten(0, 1)
    return (rounded(outs, bits) @ rows.T).reshape(shape)
