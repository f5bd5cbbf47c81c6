"""Covariance functions of one coordinate, as small frozen values that add and multiply.

Every one of them is a function of the distance alone and is 1 at distance 0: how large a process is, is said where a
process is made of them. Hyper-parameters are positive and are fitted as logarithms.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import torch
from jaxtyping import Float
from torch import Tensor

from tenfold._arguments import closest
from tenfold.errors import DataError, TenfoldError


@dataclass(frozen=True)
class Covariance:
    """The base of all: what a covariance function can be asked.

    Raises:
        TenfoldError: a hyper-parameter that is not positive and finite.
    """

    def __post_init__(self) -> None:
        for name, value in self.hyperparameters().items():
            if not (isinstance(value, (int, float)) and math.isfinite(value) and value > 0):
                raise TenfoldError(f"{name} of {type(self).__name__} is {value!r}: give a positive finite number")

    def hyperparameters(self) -> dict[str, float]:
        """Their values by name, in the order of `logs`."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def logs(self) -> Float[Tensor, " p"]:
        """The logarithms of the hyper-parameters, in float64."""
        return torch.tensor(list(self.hyperparameters().values()), dtype=torch.float64).log()

    def with_logs(self, logs: Float[Tensor, " p"]) -> Self:
        """The same with other hyper-parameters."""
        values = logs.detach().exp().tolist()
        return replace(self, **dict(zip(self.hyperparameters(), values, strict=True)))

    def at(self, distance: Float[Tensor, "..."], logs: Float[Tensor, " p"] | None = None) -> Float[Tensor, "..."]:
        """The covariance at these distances; differentiable in ``logs``, which default to its own."""
        return self._at(distance, (self.logs().to(distance) if logs is None else logs).exp())

    def _at(self, distance: Tensor, values: Tensor) -> Tensor:
        raise NotImplementedError

    def matrix(
        self,
        left: Float[Tensor, "m ..."],
        right: Float[Tensor, "n ..."] | None = None,
        logs: Float[Tensor, " p"] | None = None,
    ) -> Float[Tensor, "m n"]:
        """The covariances of positions with each other: numbers, or rows of the coordinates of points.

        Raises:
            DataError: the points have several coordinates, and this is no covariance in more than one dimension.
        """
        return self.at(self.distances(left, right), logs)

    def distances(self, left: Tensor, right: Tensor | None = None) -> Float[Tensor, "m n"]:
        """The distances of which `matrix` is made."""
        other = left if right is None else right
        if left.ndim == 1:
            return (left[:, None] - other[None, :]).abs()
        if left.shape[1] > 1 and self.one_dimensional:
            raise DataError(f"{self} is a covariance on a line: give one coordinate to a point, not {left.shape[1]}")
        return torch.cdist(left, other, compute_mode="donot_use_mm_for_euclid_dist")

    @property
    def one_dimensional(self) -> bool:
        """Whether it is a covariance on a line only."""
        return False

    def __add__(self, other: Covariance) -> Sum:
        return Sum(self, other)

    def __mul__(self, other: Covariance) -> Product:
        return Product(self, other)

    def facts(self) -> dict[str, Any]:
        """What `covariance` makes it of again; plain enough for JSON."""
        return {"kind": type(self).__name__, **{field.name: getattr(self, field.name) for field in fields(self)}}


@dataclass(frozen=True)
class RBF(Covariance):
    """``exp(-d² / 2 lengthscale²)``: infinitely often differentiable."""

    lengthscale: float = 1.0

    def _at(self, distance: Tensor, values: Tensor) -> Tensor:
        return torch.exp(-0.5 * (distance / values[0]).square())


@dataclass(frozen=True)
class Matern12(Covariance):
    """``exp(-d / lengthscale)``: continuous, nowhere differentiable."""

    lengthscale: float = 1.0

    def _at(self, distance: Tensor, values: Tensor) -> Tensor:
        return torch.exp(-distance / values[0])


@dataclass(frozen=True)
class Matern32(Covariance):
    """``(1 + u) exp(-u)`` with ``u = √3 d / lengthscale``: once differentiable."""

    lengthscale: float = 1.0

    def _at(self, distance: Tensor, values: Tensor) -> Tensor:
        u = math.sqrt(3) / values[0] * distance
        return (1 + u) * torch.exp(-u)


@dataclass(frozen=True)
class Matern52(Covariance):
    """``(1 + u + u²/3) exp(-u)`` with ``u = √5 d / lengthscale``: twice differentiable."""

    lengthscale: float = 1.0

    def _at(self, distance: Tensor, values: Tensor) -> Tensor:
        u = math.sqrt(5) / values[0] * distance
        return (1 + u + u.square() / 3) * torch.exp(-u)


@dataclass(frozen=True)
class RationalQuadratic(Covariance):
    """``(1 + d² / 2 mixture lengthscale²)^-mixture``: RBF kernels of many lengths, fewer the larger ``mixture``."""

    lengthscale: float = 1.0
    mixture: float = 1.0

    def _at(self, distance: Tensor, values: Tensor) -> Tensor:
        return torch.exp(-values[1] * torch.log1p((distance / values[0]).square() / (2 * values[1])))


@dataclass(frozen=True)
class Periodic(Covariance):
    """``exp(-2 sin²(π d / period) / lengthscale²)``: repeats itself; on a line only."""

    lengthscale: float = 1.0
    period: float = 1.0

    @property
    def one_dimensional(self) -> bool:
        return True

    def _at(self, distance: Tensor, values: Tensor) -> Tensor:
        return torch.exp(-2 * (torch.sin(math.pi * distance / values[1]) / values[0]).square())


@dataclass(frozen=True)
class White(Covariance):
    """1 at distance 0, else 0: levels that know nothing of each other."""

    def _at(self, distance: Tensor, values: Tensor) -> Tensor:
        return (distance == 0).to(distance)


@dataclass(frozen=True)
class Levels(Covariance):
    """``(1 + spread [d = 0]) / (1 + spread)``: levels without order, all alike the more the smaller ``spread``."""

    spread: float = 1.0

    def _at(self, distance: Tensor, values: Tensor) -> Tensor:
        return (1 + values[0] * (distance == 0)) / (1 + values[0])


@dataclass(frozen=True)
class _Two(Covariance):
    left: Covariance
    right: Covariance

    def __post_init__(self) -> None:
        super().__post_init__()
        for side in (self.left, self.right):
            if not isinstance(side, Covariance):
                raise TenfoldError(f"{type(self).__name__} is of two covariances, not of {side!r}")

    def hyperparameters(self) -> dict[str, float]:
        return {
            f"{side}.{name}": value
            for side in ("left", "right")
            for name, value in getattr(self, side).hyperparameters().items()
        }

    def with_logs(self, logs: Tensor) -> Self:
        first = len(self.left.hyperparameters())
        both = first + len(self.right.hyperparameters())
        return replace(self, left=self.left.with_logs(logs[:first]), right=self.right.with_logs(logs[first:both]))

    def _parts(self, distance: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        first = len(self.left.hyperparameters())
        return self.left._at(distance, values[:first]), self.right._at(distance, values[first:])

    @property
    def one_dimensional(self) -> bool:
        return self.left.one_dimensional or self.right.one_dimensional

    def facts(self) -> dict[str, Any]:
        return {**super().facts(), "left": self.left.facts(), "right": self.right.facts()}


@dataclass(frozen=True)
class Product(_Two):
    """The product of two."""

    def _at(self, distance: Tensor, values: Tensor) -> Tensor:
        left, right = self._parts(distance, values)
        return left * right


@dataclass(frozen=True)
class Sum(_Two):
    """``(left + ratio right) / (1 + ratio)``."""

    ratio: float = 1.0

    def hyperparameters(self) -> dict[str, float]:
        return {**super().hyperparameters(), "ratio": self.ratio}

    def with_logs(self, logs: Tensor) -> Self:
        return replace(super().with_logs(logs), ratio=float(logs[-1].exp()))

    def _at(self, distance: Tensor, values: Tensor) -> Tensor:
        left, right = self._parts(distance, values[:-1])
        return (left + values[-1] * right) / (1 + values[-1])


_KINDS: dict[str, Callable[..., Covariance]] = {
    kind.__name__: kind
    for kind in (RBF, Matern12, Matern32, Matern52, RationalQuadratic, Periodic, White, Levels, Product, Sum)
}


def covariance(given: str | Mapping[str, Any] | Covariance) -> Covariance:
    """The covariance of a name (``"rbf"``), with hyper-parameters of 1, or of what `Covariance.facts` gave.

    Raises:
        TenfoldError: the name is not known.
    """
    if isinstance(given, Covariance):
        return given
    if isinstance(given, str):
        names = {name.lower(): name for name in _KINDS if name not in ("Product", "Sum")}
        if given.lower() not in names:
            raise TenfoldError(
                f"covariance '{given}' is not known{closest(given, names)}; there are {', '.join(names)}"
            )
        return _KINDS[names[given.lower()]]()
    inside: dict[str, Any] = {n: covariance(part) if isinstance(part, Mapping) else part for n, part in given.items()}
    return _KINDS[inside.pop("kind")](**inside)


def equally_spaced(positions: Float[Tensor, "n ..."]) -> bool:
    """Whether positions on a line rise or fall by equal steps, to the last digits: then covariances are Toeplitz."""
    if positions.ndim > 1 or len(positions) < 3:
        return False
    even = torch.linspace(float(positions[0]), float(positions[-1]), len(positions), dtype=positions.dtype)
    span = float((positions[-1] - positions[0]).abs())
    return span > 0 and float((positions - even.to(positions)).abs().max()) <= 1e-12 * span


def each_axis(given: Covariance | str | Sequence[Covariance | str], axes: int) -> tuple[Covariance, ...]:
    """One covariance for each axis.

    Raises:
        TenfoldError: there is not one for each.
    """
    if isinstance(given, (Covariance, str)):
        return (covariance(given),) * axes
    if len(given) != axes:
        raise TenfoldError(f"kernels has {len(given)} covariances for {axes} axes: give one for each")
    return tuple(covariance(one) for one in given)
