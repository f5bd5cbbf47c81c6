"""How far a candidate's outputs are from the layer's, by the second moments of what comes in."""

from __future__ import annotations

import torch
from torch import Tensor

from tenfold.compression.census import Site
from tenfold.compression.moments import Moments
from tenfold.linalg.roots import root_of

# Rows of an embedding that calibration never asked for count as if this share of it had been spread evenly.
_UNSEEN = 0.1
# A bias is added where it takes away more than this share of a candidate's error.
_WORTH = 0.1


class Judge:
    """Measures candidates of one layer; keeps the root of the moments, which all of them share.

    What a weight that is a little off adds to the outputs on average goes into the bias, so only what varies counts.
    """

    def __init__(self, site: Site, moments: Moments | None) -> None:
        self.site = site
        self.root: Tensor | None = None
        self.mean: Tensor | None = None
        self.shares: Tensor | None = None
        if moments is not None and moments.covariance is not None:
            self.root, self.mean = root_of(moments.covariance), moments.mean
        if moments is not None and moments.counts is not None:
            self.shares = (1 - _UNSEEN) * moments.counts + _UNSEEN * moments.counts.mean()
        weight = site.weight.double()
        self.total = self._energy(weight)
        if self.mean is not None:
            self.total += float(self._average(weight).square().sum())

    def __call__(self, weight: Tensor) -> float:
        """``E||(W - V)(x - E[x])||^2 / E||W x||^2``; of entries where nothing is known of x."""
        left = self._energy(self.site.weight.double() - weight.double())
        return left / self.total if self.total > 0 else float(left > 0)

    def bias(self, weight: Tensor) -> Tensor | None:
        """The bias with which a weight gives the outputs their averages."""
        if self.mean is None:
            return self.site.bias
        shift = self._average(self.site.weight.double() - weight.double())
        if self.site.bias is None:
            # A layer without a bias gets one only where it is worth its bytes.
            worth = float(shift.square().sum()) > _WORTH * self._energy(self.site.weight.double() - weight.double())
            return shift.to(self.site.weight.dtype) if worth else None
        return (self.site.bias.double() + shift).to(self.site.bias.dtype)

    def _average(self, weight: Tensor) -> Tensor:
        """``W E[x]``."""
        assert self.mean is not None
        flat = weight.flatten(1)
        if len(self.mean) == flat.shape[1]:
            return flat @ self.mean
        return weight.flatten(2).sum(dim=2) @ self.mean

    def _energy(self, weight: Tensor) -> float:
        if self.site.kind == "embedding":
            energies = weight.square().sum(dim=1)
            return float(energies.sum() if self.shares is None else energies @ self.shares)
        flat = weight.flatten(1)
        if self.root is None:
            return float(flat.square().sum())
        if len(self.root) == flat.shape[1]:
            return float((flat @ self.root).square().sum())
        return float(torch.movedim(weight, 1, -1).matmul(self.root).square().sum())
