"""How far a candidate's outputs are from the layer's, by the second moments of what comes in."""

from __future__ import annotations

import torch
from torch import Tensor

from tenfold.compression.census import Site
from tenfold.compression.moments import Moments
from tenfold.linalg.roots import root_of

# Rows of an embedding that calibration never asked for count as if this share of it had been spread evenly.
_UNSEEN = 0.1


class Judge:
    """Measures candidates of one layer; keeps the root of the moments, which all of them share."""

    def __init__(self, site: Site, moments: Moments | None) -> None:
        self.site = site
        self.root: Tensor | None = None
        self.shares: Tensor | None = None
        if moments is not None and moments.covariance is not None:
            self.root = root_of(moments.covariance)
        if moments is not None and moments.counts is not None:
            self.shares = (1 - _UNSEEN) * moments.counts + _UNSEEN * moments.counts.mean()
        self.total = self._energy(site.weight.double())

    def __call__(self, weight: Tensor) -> float:
        """``||X (W - V)^T||^2 / ||X W^T||^2``; of entries where nothing is known of X."""
        left = self._energy(self.site.weight.double() - weight.double())
        return left / self.total if self.total > 0 else float(left > 0)

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
