"""A convolution through fewer channels: into them, over space, and out of them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor, nn

from tenfold.compression._chains import chain, channels, convolution, rounded
from tenfold.compression._ladder import ladder
from tenfold.compression._registry import Candidate, method
from tenfold.compression.census import Site
from tenfold.compression.moments import Moments

# Shares of the energy of each side that may be lost.
_SHARES = tuple(10 ** (-x / 4) for x in range(1, 17))


@method("tucker2", kinds=("conv",))
def tucker2(site: Site, moments: Moments | None) -> Iterator[Candidate]:
    """Two 1 x 1 convolutions around a small one, the best for the channels that come in; or one of them alone.

    The channels are weighted by their covariance, as if neighbouring pixels knew nothing of each other; ranks are
    those that lose equal shares of the energy on both sides, and each side alone.
    Cost: eigendecompositions of the Gram matrices of both sides.
    Paper: "Compression of deep convolutional neural networks for fast and low power mobile applications", 2016.
    """
    weight = site.weight.double()
    outs, ins = weight.shape[:2]
    root = channels(site, moments)
    seen = weight if root is None else torch.movedim(torch.movedim(weight, 1, -1) @ root, -1, 1)
    values_in, basis_in = _spectrum(seen.movedim(1, 0))
    values_out, basis_out = _spectrum(seen)
    if values_out.sum() <= 0:
        return
    # C^-T applied to the basis brings the reduced channels back to those that come in.
    back = basis_in if root is None else torch.linalg.solve_triangular(root.T, basis_in, upper=True)
    # All ranks are parts of these, kept in no more bits than the layer will have.
    kept = site.weight.dtype if site.weight.dtype.itemsize >= 4 else torch.float32
    inside = torch.tensordot(seen, basis_in, dims=([1], [0])).movedim(-1, 1)
    both = torch.tensordot(basis_out.T, inside, dims=([1], [0])).to(kept)
    outside = torch.tensordot(basis_out.T, weight, dims=([1], [0])).to(kept)
    inside, into, out_of = inside.to(kept), back.T.to(kept), basis_out.to(kept)
    reached = set()
    for share in _SHARES:
        r_in, r_out = _rank(values_in, share), _rank(values_out, share)
        for pair in ((r_in, r_out), (r_in, outs), (ins, r_out)):
            if pair in reached or pair == (ins, outs):
                continue
            reached.add(pair)
            first = into[: pair[0]] if pair[0] < ins else None
            last = out_of[:, : pair[1]] if pair[1] < outs else None
            core = inside if last is None else outside if first is None else both
            factors = first, core[: pair[1], : pair[0]], last
            for bits in (None, 8):
                small = sum(f.numel() for f in factors if f is not None)
                if bits is None and small >= weight.numel():
                    continue
                label = f"ranks {pair[0]} and {pair[1]}" + ("" if bits is None else f" in {bits} bits")
                yield Candidate(
                    "tucker2",
                    label,
                    partial(_build, site, factors, bits),
                    weight=partial(_dense, factors, bits),
                    bits=bits,
                )


# Into the small channels, over space, out of them; None for a side that stays whole.
Factors = tuple[Tensor | None, Tensor, Tensor | None]


def _spectrum(tensor: Tensor) -> tuple[Tensor, Tensor]:
    """Squared singular values of the first unfolding, falling, and its left singular vectors."""
    flat = tensor.flatten(1)
    values, vectors = torch.linalg.eigh(flat @ flat.T)
    return values.flip(0).clamp(min=0), vectors.flip(1)


def _rank(values: Tensor, share: float) -> int:
    """The smallest rank of the ladder that loses at most this share of the energy."""
    lost = 1 - values.cumsum(0) / values.sum()
    exact = int((lost > share).sum()) + 1
    return min((rank for rank in (*ladder(len(values)), len(values)) if rank >= exact), default=len(values))


def _build(site: Site, factors: Factors, bits: int | None, bias: Tensor | None) -> nn.Module:
    first, core, last = factors
    ones = (1,) * (core.ndim - 2)
    modules = []
    if first is not None:
        modules.append(convolution(site, first.reshape(*first.shape, *ones), ()))
    modules.append(convolution(site, core, range(core.ndim - 2), bias if last is None else None))
    if last is not None:
        modules.append(convolution(site, last.reshape(*last.shape, *ones), (), bias))
    return chain(modules, bits)


def _dense(factors: Factors, bits: int | None) -> Tensor:
    first, core, last = factors
    made = rounded(core, bits)
    if first is not None:
        made = torch.tensordot(made, rounded(first, bits), dims=([1], [0])).movedim(-1, 1)
    if last is not None:
        made = torch.tensordot(rounded(last, bits), made, dims=([1], [0]))
    return made
