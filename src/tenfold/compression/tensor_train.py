"""A convolution as a train: into few channels, along one axis of space after the other, and out of them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor, nn

from tenfold.compression._chains import chain, channels, convolution, rounded
from tenfold.compression._registry import Candidate, method
from tenfold.compression.census import Site
from tenfold.compression.moments import Moments

# Shares of the energy that all cuts together may lose.
_SHARES = tuple(10 ** (-x / 3) for x in range(1, 13))


@method("tensor_train", kinds=("conv",))
def tensor_train(site: Site, moments: Moments | None) -> Iterator[Candidate]:
    """One small convolution for the channels that come in, one for each axis of space, one for those that go out.

    Cut one after the other by singular values, for the channels that come in as they vary. Kernels that are longer than
    1 along one axis only are left to ``tucker2``, which is the same there.
    Cost: an eigendecomposition of a Gram matrix for each cut.
    Paper: "Tensor-train decomposition", 2011.
    """
    weight = site.weight.double()
    axes = [axis for axis, length in enumerate(weight.shape[2:]) if length > 1]
    if len(axes) < 2:
        return
    root = channels(site, moments)
    seen = weight if root is None else torch.movedim(torch.movedim(weight, 1, -1) @ root, -1, 1)
    laid = seen.reshape(*seen.shape[:2], *(weight.shape[2 + axis] for axis in axes)).movedim(0, -1)
    first = _spectrum(laid.flatten(1))
    reached = set()
    for share in _SHARES:
        cores = _cut(laid, first, share / (laid.ndim - 1))
        ranks = tuple(core.shape[-1] for core in cores[:-1])
        if ranks in reached:
            continue
        reached.add(ranks)
        if root is not None:
            cores[0] = torch.linalg.solve_triangular(root.T, cores[0], upper=True)
        for bits in (None, 8):
            if bits is None and sum(core.numel() for core in cores) >= weight.numel():
                continue
            label = f"ranks {', '.join(map(str, ranks))}" + ("" if bits is None else f" in {bits} bits")
            yield Candidate(
                "tensor_train",
                label,
                partial(_build, site, cores, axes, bits),
                weight=partial(_dense, cores, weight.shape, bits),
                bits=bits,
            )


def _spectrum(flat: Tensor) -> tuple[Tensor, Tensor]:
    """Squared singular values, falling, and left singular vectors; shares of the energy down to 1e-10 are right."""
    wide = flat.shape[0] <= flat.shape[1]
    values, vectors = torch.linalg.eigh(flat @ flat.T if wide else flat.T @ flat)
    values, vectors = values.flip(0).clamp(min=0), vectors.flip(1)
    if not wide:
        vectors = flat @ vectors / values.clamp(min=torch.finfo(values.dtype).tiny).sqrt()
    return values, vectors


def _cut(laid: Tensor, first: tuple[Tensor, Tensor], share: float) -> list[Tensor]:
    """Cores ``(in, r1)``, ``(r1, length, r2)``, ..., ``(r, out)``; each cut loses at most this share of the energy."""
    whole = float(laid.square().sum()) or 1.0
    cores: list[Tensor] = []
    rest = laid.reshape(laid.shape[0], -1)
    # A cut before each mode but the first; what is left after the last cut is the last core.
    for place, length in enumerate(laid.shape[1:], start=1):
        values, left = first if place == 1 else _spectrum(rest)
        lost = values.flip(0).cumsum(0).flip(0) / whole
        rank = min(max(int((lost > share).sum()), 1), *rest.shape)
        before = cores[-1].shape[-1] if cores else 0
        cores.append(left[:, :rank].reshape(before, -1, rank) if before else left[:, :rank])
        rest = left[:, :rank].T @ rest
        if place < laid.ndim - 1:
            rest = rest.reshape(rank * length, -1)
    return [*cores, rest]


def _build(site: Site, cores: list[Tensor], axes: list[int], bits: int | None, bias: Tensor | None) -> nn.Module:
    spatial = site.weight.ndim - 2
    ones = (1,) * spatial
    modules = [convolution(site, cores[0].T.reshape(*cores[0].T.shape, *ones), ())]
    for axis, core in zip(axes, cores[1:-1], strict=True):
        shape = [core.shape[1] if axis == other else 1 for other in range(spatial)]
        modules.append(convolution(site, core.permute(2, 0, 1).reshape(core.shape[2], core.shape[0], *shape), (axis,)))
    last = cores[-1]
    modules.append(convolution(site, last.T.reshape(*last.T.shape, *ones), (), bias))
    return chain(modules, bits)


def _dense(cores: list[Tensor], shape: torch.Size, bits: int | None) -> Tensor:
    made = rounded(cores[0].T, bits).T
    for core in cores[1:-1]:
        small = rounded(core.permute(2, 0, 1), bits).permute(1, 2, 0)
        made = torch.tensordot(made, small, dims=([-1], [0]))
    made = torch.tensordot(made, rounded(cores[-1].T, bits).T, dims=([-1], [0]))
    return made.movedim(-1, 0).reshape(shape)
