"""The prior of a Gaussian process on a grid: its covariance as a Kronecker product, and its hyper-parameters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tenfold import formats
from tenfold.errors import DataError, TenfoldError
from tenfold.linalg.covariances import Covariance, each_axis, equally_spaced
from tenfold.linalg.kronecker import KroneckerPair, kron_apply
from tenfold.linalg.toeplitz import SHORT, toeplitz, toeplitz_eigh, toeplitz_product
from tenfold.network import Network

Axes = Sequence[Any]


@dataclass(frozen=True, eq=False)
class GridPrior:
    """A Gaussian process of mean zero on a grid, and the variance of the noise; see `GridGP`."""

    axes: tuple[Float[Tensor, "n ..."], ...]
    kernels: tuple[Covariance, ...]
    variance: float = 1.0
    noise: float = 0.1
    tied: bool = False
    noise_factors: tuple[Float[Tensor, "n n"], ...] | None = None

    def __init__(
        self,
        axes: Axes,
        kernels: Covariance | str | Sequence[Covariance | str] = "matern52",
        *,
        variance: float = 1.0,
        noise: float = 0.1,
        tied: bool = False,
        noise_factors: Sequence[Any] | None = None,
    ) -> None:
        put = object.__setattr__
        put(self, "axes", tuple(positions(axis, place) for place, axis in enumerate(axes)))
        if not self.axes:
            raise DataError("axes is empty: give the positions of at least one axis")
        put(self, "kernels", each_axis(kernels, len(self.axes)))
        for name, given in (("variance", variance), ("noise", noise)):
            if not (math.isfinite(given) and given > 0):
                raise TenfoldError(f"{name} is {given}: give a positive finite number")
            put(self, name, float(given))
        put(self, "tied", tied)
        if tied and any(kernel != self.kernels[0] for kernel in self.kernels):
            raise TenfoldError("tied axes have one kernel: give one for all of them")
        factors = None
        if noise_factors is not None:
            factors = tuple(torch.as_tensor(factor, dtype=torch.float64) for factor in noise_factors)
            factors = tuple(torch.diag(factor) if factor.ndim == 1 else factor for factor in factors)
            if [tuple(factor.shape) for factor in factors] != [(n, n) for n in self.shape]:
                raise DataError(f"noise_factors must be square, of the sizes {self.shape} of the axes")
        put(self, "noise_factors", factors)

    # --- what it is ---------------------------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes of the axes."""
        return tuple(len(axis) for axis in self.axes)

    @property
    def cells(self) -> int:
        """The number of cells of the grid."""
        return math.prod(self.shape)

    @cached_property
    def factors(self) -> tuple[Float[Tensor, "n n"], ...]:
        """The covariance of each axis."""
        return tuple(self._factor(place, kernel.logs()) for place, kernel in enumerate(self.kernels))

    def _factor(self, place: int, logs: Tensor) -> Tensor:
        axis, kernel = self.axes[place], self.kernels[place]
        if equally_spaced(axis):
            return toeplitz(kernel.at((axis - axis[0]).abs(), logs))
        return kernel.matrix(axis, None, logs)

    @property
    def prior(self) -> Network:
        """The covariance of all cells, as a Kronecker product of the covariances of the axes."""
        return self._network([self.factors], [self.variance])

    @property
    def marginal(self) -> Network:
        """The covariance of observations of all cells, as a sum of two Kronecker products: the prior and the noise."""
        if self.noise_factors is None:
            background: Sequence[Tensor] = [torch.eye(n, dtype=torch.float64) for n in self.shape]
        else:
            background = self.noise_factors
        if len(self.shape) == 1:
            return self._network([[self.variance * self.factors[0] + self.noise * background[0]]], [1.0])
        return self._network([self.factors, background], [self.variance, self.noise])

    def _network(self, terms: Sequence[Sequence[Tensor]], scales: Sequence[float]) -> Network:
        structure = formats.kronecker(self.shape, self.shape, len(terms))
        cores = [torch.stack(list(factors)) for factors in zip(*terms, strict=True)]
        cores[0] = cores[0] * torch.tensor(scales, dtype=torch.float64)[:, None, None]
        return Network(structure, [core.reshape(c.shape) for core, c in zip(cores, structure.cores, strict=True)])

    @cached_property
    def pair(self) -> KroneckerPair:
        """The covariance of observations of all cells, diagonalised."""
        if self.noise_factors is not None:
            return KroneckerPair.of(self.factors, self.noise_factors, scale=self.variance, noise=self.noise)
        values, vectors = self.eigenpairs()
        return KroneckerPair.diagonal(values, vectors, scale=self.variance, noise=self.noise)

    def eigenpairs(self) -> tuple[list[Tensor], list[Tensor]]:
        """Of the covariance of each axis; equal axes share them, and equally spaced ones take a quarter of the work."""
        found: list[tuple[Tensor, Tensor]] = []
        for place, axis in enumerate(self.axes):
            same = next((j for j in range(place) if self._alike(j, place)), None)
            if same is not None:
                found.append(found[same])
            elif equally_spaced(axis):
                found.append(toeplitz_eigh(self.factors[place][0]))
            else:
                values, vectors = torch.linalg.eigh(self.factors[place])
                found.append((values, vectors))
        return [values.clamp(min=0) for values, _ in found], [vectors for _, vectors in found]

    def _alike(self, one: int, other: int) -> bool:
        return self.kernels[one] == self.kernels[other] and torch.equal(self.axes[one], self.axes[other])

    # --- hyper-parameters ---------------------------------------------------------------------------------------------

    def logs(self) -> Float[Tensor, " p"]:
        """Logarithms of the variance, of the noise and of the hyper-parameters of the kernels, which `fit` changes."""
        kernels = self.kernels[:1] if self.tied else self.kernels
        own = torch.tensor([self.variance, self.noise], dtype=torch.float64).log()
        return torch.cat([own, *(kernel.logs() for kernel in kernels)])

    def names(self) -> tuple[str, ...]:
        """The names of `logs`."""
        kernels = self.kernels[:1] if self.tied else self.kernels
        inside = [f"axis {k}: {name}" for k, kernel in enumerate(kernels) for name in kernel.hyperparameters()]
        return ("variance", "noise", *(name.replace("axis 0: ", "") if self.tied else name for name in inside))

    def with_logs(self, logs: Float[Tensor, " p"]) -> Self:
        """The same with other hyper-parameters."""
        variance, noise = logs[:2].exp().tolist()
        kernels, place = [], 2
        for kernel in self.kernels[:1] if self.tied else self.kernels:
            end = place + len(kernel.hyperparameters())
            kernels.append(kernel.with_logs(logs[place:end]))
            place = end
        kernels = kernels * len(self.axes) if self.tied else kernels
        return type(self)(
            self.axes, kernels, variance=variance, noise=noise, tied=self.tied, noise_factors=self.noise_factors
        )

    def facts(self) -> dict[str, Any]:
        """Kernels and variances, plain enough for JSON; the axes are not among them."""
        kernels = [kernel.facts() for kernel in self.kernels]
        return {"kernels": kernels, "variance": self.variance, "noise": self.noise, "tied": self.tied}

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self.shape))
        kernels = f"{self.kernels[0]} on every axis" if self.tied else ", ".join(map(repr, self.kernels))
        return f"{type(self).__name__}({shape}; {kernels}; variance={self.variance:.4g}, noise={self.noise:.4g})"

    # --- products -----------------------------------------------------------------------------------------------------

    def product(self, tensor: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The prior covariance of all cells applied to a tensor of them, or to a batch of such."""
        if max(self.shape) <= SHORT or not all(map(equally_spaced, self.axes)):
            return self.variance * kron_apply(self.factors, tensor)
        for place, factor in enumerate(self.factors):
            axis = place - len(self.shape)
            tensor = toeplitz_product(factor[0], tensor.movedim(axis, -1)).movedim(-1, axis)
        return self.variance * tensor

    def cross(self, axes: Axes) -> list[Float[Tensor, "m n"]]:
        """The covariances of new positions with those of each axis; None in place of an axis stands for its own."""
        if len(axes) != len(self.axes):
            raise DataError(f"axes has {len(axes)} entries for {len(self.axes)} axes: give None for one that stays")
        made = []
        for place, given in enumerate(axes):
            if given is None:
                made.append(self.factors[place])
                continue
            new = positions(given, place)
            if new.shape[1:] != self.axes[place].shape[1:]:
                raise DataError(f"axis {place} has positions of another shape than those of the grid")
            made.append(self.kernels[place].matrix(new, self.axes[place]))
        return made


def positions(given: Any, place: int) -> Tensor:
    try:
        axis = torch.as_tensor(given if isinstance(given, Tensor) else np.asarray(given)).to(torch.float64)
    except (TypeError, ValueError):
        raise DataError(f"axis {place} is no list of numbers: give the positions of its levels") from None
    if axis.ndim not in (1, 2) or not axis.numel():
        raise DataError(f"axis {place} has shape {tuple(axis.shape)}: give a list of positions, or of points")
    if not torch.isfinite(axis).all():
        raise DataError(f"axis {place} holds NaN or inf: give finite positions")
    return axis
