"""How far a candidate's outputs are from the layer's, by the second moments of what comes in."""

from __future__ import annotations

import torch
from torch import Tensor

from tenfold.compression.census import Site
from tenfold.compression.moments import Moments

# Rows of an embedding that calibration never asked for count as if this share of it had been spread evenly.
_UNSEEN = 0.1
# A bias is added where it takes away more than this share of a candidate's error.
_WORTH = 0.1
# Between these, squares and products of 32 bits neither vanish nor overflow.
_SMALL, _LARGE = 1e-12, 1e12


class Judge:
    """Measures candidates of one layer; keeps the root of the moments, which all of them share.

    What a weight that is a little off adds to the outputs on average goes into the bias, so only what varies counts.
    Differences are multiplied in 32 bits, where the weights have no more and the sizes of the numbers allow it.
    """

    def __init__(self, site: Site, moments: Moments | None) -> None:
        self.site = site
        self.root: Tensor | None = None
        self.mean: Tensor | None = None
        self.shares: Tensor | None = None
        if moments is not None and moments.covariance is not None:
            self.root, self.mean = moments.root, moments.mean
        self.dtype = torch.float64
        if site.weight.dtype != torch.float64:
            factors = [site.weight] if self.root is None else [site.weight, self.root]
            if all(_SMALL < float(f.abs().max()) < _LARGE for f in factors):
                self.dtype = torch.float32
        self._weight = site.weight.to(self.dtype)
        self._root = None if self.root is None else self.root.to(self.dtype)
        if moments is not None and moments.counts is not None:
            self.shares = (1 - _UNSEEN) * moments.counts + _UNSEEN * moments.counts.mean()
        weight = site.weight.double()
        self.total = self._energy(weight)
        if self.mean is not None:
            self.total += float(self._average(weight).square().sum())

    def __call__(self, weight: Tensor) -> float:
        """``E||(W - V)(x - E[x])||^2 / E||W x||^2``; of entries where nothing is known of x."""
        left = self._energy(self._weight - weight.to(self.dtype))
        return left / self.total if self.total > 0 else float(left > 0)

    def measured(self, weight: Tensor) -> tuple[float, Tensor | None]:
        """The error of a weight, and the bias with which it gives the outputs their averages."""
        off = self._weight - weight.to(self.dtype)
        return self._with_bias(off, self._energy(off))

    def measured_as(self, weight: Tensor, error: float) -> tuple[float, Tensor | None]:
        """The same where it is known what of the error varies."""
        return self._with_bias(self._weight - weight.to(self.dtype), error * self.total)

    def _with_bias(self, off: Tensor, left: float) -> tuple[float, Tensor | None]:
        bias = self.site.bias
        if self.mean is not None:
            shift = self._average(off.double())
            steady = float(shift.square().sum())
            if bias is not None:
                bias = (bias.double() + shift).to(bias.dtype)
            elif steady > _WORTH * left:
                bias = shift.to(self.site.weight.dtype)
            else:  # a bias is not worth its bytes, so the averages stay off
                left += steady
        return left / self.total if self.total > 0 else float(left > 0), bias

    def _average(self, weight: Tensor) -> Tensor:
        """``W E[x]``."""
        assert self.mean is not None
        flat = weight.flatten(1)
        if len(self.mean) == flat.shape[1]:
            return flat @ self.mean
        return weight.flatten(2).sum(dim=2) @ self.mean

    def _energy(self, weight: Tensor) -> float:
        if self.site.kind == "embedding":
            energies = weight.square().sum(dim=1).double()
            return float(energies.sum() if self.shares is None else energies @ self.shares)
        flat = weight.flatten(1)
        if self.root is None:
            return _squares(flat)
        root = self.root if weight.dtype == torch.float64 or self._root is None else self._root
        if len(root) == flat.shape[1]:
            return _squares(flat @ root)
        return _squares(torch.movedim(weight, 1, -1).matmul(root))


def _squares(values: Tensor) -> float:
    return float(torch.linalg.vector_norm(values, dtype=torch.float64)) ** 2
