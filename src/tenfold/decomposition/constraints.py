"""What the factors of a constrained decomposition must be, or what they pay for: proximal maps, by name.

A constraint acts on a factor whose rows are the vectors of one mode, one for each term.

>>> from tenfold.decomposition import constraints
>>> constraints.parse("smooth:0.1+nonnegative")
Smooth(weight=0.1, nonnegative=True)
"""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from tenfold._arguments import closest
from tenfold.decomposition._pool import unimodal
from tenfold.errors import TenfoldError

# They settle after a dozen; rounding must not make them turn in circles.
_ACTIVE_SETS = 200


class Constraint(ABC):
    """A set that vectors must lie in, or a penalty that they pay.

    Attributes:
        degree: how the penalty grows with the scale of the vectors: 1, 2, or 0 where nothing is paid.
        bounded: whether multiples of a vector that is allowed may not be.
    """

    degree: ClassVar[int] = 0
    bounded: ClassVar[bool] = False

    @abstractmethod
    def prox(self, rows: Float[Tensor, "r n"], step: float) -> Float[Tensor, "r n"]:
        """The x that minimises ``|x - rows|^2 / 2 + step * value(x)`` among those allowed.

        For a set that is the nearest point of it, whatever the step.
        """

    def value(self, rows: Float[Tensor, "r n"]) -> float:
        """The penalty; zero for sets."""
        return 0.0

    def nearest(self, rows: Float[Tensor, "r n"]) -> Float[Tensor, "r n"]:
        """The nearest vectors that are allowed, whatever they pay."""
        return self.prox(rows, 0.0)


@dataclass(frozen=True)
class Nonnegative(Constraint):
    """No entry below zero."""

    def prox(self, rows: Float[Tensor, "r n"], step: float) -> Float[Tensor, "r n"]:
        return rows.clamp(min=0)


@dataclass(frozen=True)
class Box(Constraint):
    """Every entry from ``low`` to ``high``."""

    low: float
    high: float
    bounded: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise TenfoldError(f"box from {self.low:g} to {self.high:g} is empty; give the lower bound first")

    def prox(self, rows: Float[Tensor, "r n"], step: float) -> Float[Tensor, "r n"]:
        return rows.clamp(min=self.low, max=self.high)


@dataclass(frozen=True)
class Simplex(Constraint):
    """Every vector a distribution: nonnegative entries with the sum ``total``.

    Paper: "Efficient projections onto the l1-ball for learning in high dimensions", 2008.
    """

    total: float = 1.0
    bounded: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _positive("simplex", "total", self.total)

    def prox(self, rows: Float[Tensor, "r n"], step: float) -> Float[Tensor, "r n"]:
        wide = rows.double()
        ordered = wide.sort(dim=1, descending=True).values
        count = torch.arange(1, rows.shape[1] + 1, dtype=wide.dtype, device=rows.device)
        lowered = (ordered.cumsum(1) - self.total) / count
        last = (ordered > lowered).sum(1, keepdim=True) - 1
        return (wide - lowered.gather(1, last.clamp(min=0))).clamp(min=0).to(rows.dtype)


@dataclass(frozen=True)
class L2Ball(Constraint):
    """Every vector of Euclidean length at most ``radius``."""

    radius: float = 1.0
    nonnegative: bool = False
    bounded: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _positive("l2_ball", "radius", self.radius)

    def prox(self, rows: Float[Tensor, "r n"], step: float) -> Float[Tensor, "r n"]:
        return in_ball(rows.clamp(min=0) if self.nonnegative else rows, self.radius)


@dataclass(frozen=True)
class L1(Constraint):
    """Pays ``weight`` times the sum of the absolute entries: many become zero."""

    weight: float
    nonnegative: bool = False
    degree: ClassVar[int] = 1

    def __post_init__(self) -> None:
        _weight("l1", self.weight)

    def prox(self, rows: Float[Tensor, "r n"], step: float) -> Float[Tensor, "r n"]:
        if self.nonnegative:
            return (rows - step * self.weight).clamp(min=0)
        return torch.nn.functional.softshrink(rows, step * self.weight)

    def value(self, rows: Float[Tensor, "r n"]) -> float:
        return self.weight * float(rows.abs().sum(dtype=torch.float64))


@dataclass(frozen=True)
class GroupLasso(Constraint):
    """Pays ``weight`` times the sum, over the mode's indices, of the length of that index's entries in all terms.

    An index is then in many terms or in none.
    Paper: "Model selection and estimation in regression with grouped variables", 2006.
    """

    weight: float
    nonnegative: bool = False
    degree: ClassVar[int] = 1

    def __post_init__(self) -> None:
        _weight("group_lasso", self.weight)

    def prox(self, rows: Float[Tensor, "r n"], step: float) -> Float[Tensor, "r n"]:
        if self.nonnegative:
            rows = rows.clamp(min=0)
        length = torch.linalg.vector_norm(rows, dim=0)
        left = 1 - step * self.weight / length.clamp(min=torch.finfo(rows.dtype).tiny)
        return rows * left.clamp(min=0)

    def value(self, rows: Float[Tensor, "r n"]) -> float:
        return self.weight * float(torch.linalg.vector_norm(rows.double(), dim=0).sum())


@dataclass(frozen=True)
class Smooth(Constraint):
    """Pays ``weight / 2`` times the squared differences of neighbouring entries."""

    weight: float
    nonnegative: bool = False
    degree: ClassVar[int] = 2

    def __post_init__(self) -> None:
        _weight("smooth", self.weight)

    def prox(self, rows: Float[Tensor, "r n"], step: float) -> Float[Tensor, "r n"]:
        try:
            return _on_numpy(rows, lambda values: _smoothed(values, step * self.weight, self.nonnegative))
        except np.linalg.LinAlgError:
            raise TenfoldError(f"smooth has weight {self.weight:g}, too large for this data; give a smaller") from None

    def value(self, rows: Float[Tensor, "r n"]) -> float:
        return self.weight / 2 * float((rows.double().diff(dim=1) ** 2).sum())


@dataclass(frozen=True)
class Monotone(Constraint):
    """Entries that never fall, or never rise.

    Paper: "An empirical distribution function for sampling with incomplete information", 1955.
    """

    increasing: bool = True
    nonnegative: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.increasing, bool):
            raise TenfoldError(f"monotone needs increasing to be true or false, not {self.increasing!r}")

    def prox(self, rows: Float[Tensor, "r n"], step: float) -> Float[Tensor, "r n"]:
        from scipy.optimize import isotonic_regression  # takes as long to import as half of tenfold

        made = _on_numpy(
            rows, lambda values: np.stack([isotonic_regression(row, increasing=self.increasing).x for row in values])
        )
        return made.clamp(min=0) if self.nonnegative else made


@dataclass(frozen=True)
class Unimodal(Constraint):
    """Entries that rise to a peak and fall after it.

    Paper: "Unimodal regression via prefix isotonic regression", 2008.
    """

    nonnegative: bool = False

    def prox(self, rows: Float[Tensor, "r n"], step: float) -> Float[Tensor, "r n"]:
        return _on_numpy(rows, lambda values: unimodal(values, self.nonnegative))


@dataclass(frozen=True)
class Sparse(Constraint):
    """At most ``count`` entries of every vector that are not zero."""

    count: int
    nonnegative: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.count, bool) or not float(self.count).is_integer() or self.count < 1:
            raise TenfoldError(f"sparse keeps a whole number of entries of at least 1, not {self.count}")
        object.__setattr__(self, "count", int(self.count))

    def prox(self, rows: Float[Tensor, "r n"], step: float) -> Float[Tensor, "r n"]:
        if self.nonnegative:
            rows = rows.clamp(min=0)
        kept = rows.abs().topk(min(self.count, rows.shape[1]), dim=1).indices
        return torch.zeros_like(rows).scatter(1, kept, rows.gather(1, kept))


def parse(text: str) -> Constraint:
    """A constraint from its name: ``"nonnegative"``, ``"box:0,1"``, ``"smooth:0.1+nonnegative"``.

    Numbers follow a colon, in the order of the arguments; ``+nonnegative`` adds that to those that can have it;
    ``monotone`` takes ``increasing`` or ``decreasing``.

    Raises:
        TenfoldError: there is no such constraint, or its numbers are no numbers, too many, or out of range.
    """
    head, *more = (part.strip() for part in text.split("+"))
    name, _, given = head.partition(":")
    name = name.strip()
    if name not in _NAMES:
        raise TenfoldError(f"constraint '{text}' is not known{closest(name, _NAMES)}; there are {', '.join(_NAMES)}")
    if any(other != "nonnegative" for other in more):
        raise TenfoldError(f"constraint '{text}' adds '{more[0]}'; only '+nonnegative' can be added")
    arguments = [_argument(part.strip(), text) for part in given.split(",")] if given else []
    takes = [argument for argument in inspect.signature(_NAMES[name]).parameters if argument != "nonnegative"]
    try:
        if len(arguments) > len(takes):
            raise TypeError
        made: Constraint = _NAMES[name](*arguments)
    except TypeError:
        raise TenfoldError(f"constraint '{text}' does not have the form {_FORMS[name]}") from None
    if more and name not in ("nonnegative", "simplex"):
        if not hasattr(made, "nonnegative"):
            raise TenfoldError(f"constraint '{text}' cannot be made nonnegative; give box a lower bound of 0")
        made = replace(made, nonnegative=True)  # type: ignore[type-var]
    return made


def in_ball(rows: Float[Tensor, "r n"], radius: float) -> Float[Tensor, "r n"]:
    """Longer vectors shortened to the radius."""
    length = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    return rows * (radius / length.clamp(min=radius))


_NAMES: dict[str, Callable[..., Constraint]] = {
    "nonnegative": Nonnegative,
    "l1": L1,
    "simplex": Simplex,
    "box": Box,
    "l2_ball": L2Ball,
    "smooth": Smooth,
    "monotone": Monotone,
    "unimodal": Unimodal,
    "sparse": Sparse,
    "group_lasso": GroupLasso,
}
_FORMS = {
    "nonnegative": "nonnegative",
    "l1": "l1:WEIGHT",
    "simplex": "simplex or simplex:TOTAL",
    "box": "box:LOW,HIGH",
    "l2_ball": "l2_ball or l2_ball:RADIUS",
    "smooth": "smooth:WEIGHT",
    "monotone": "monotone:increasing or monotone:decreasing",
    "unimodal": "unimodal",
    "sparse": "sparse:COUNT",
    "group_lasso": "group_lasso:WEIGHT",
}


def _argument(part: str, text: str) -> float | bool:
    if text.startswith("monotone"):
        if part not in ("increasing", "decreasing"):
            raise TenfoldError(f"constraint '{text}' does not have the form {_FORMS['monotone']}")
        return part == "increasing"
    try:
        number = float(part)
    except ValueError:
        number = math.nan
    if math.isnan(number):
        raise TenfoldError(f"constraint '{text}' has '{part}' where a number belongs")
    return number


def _positive(name: str, argument: str, number: float) -> None:
    if not 0 < number < math.inf:
        raise TenfoldError(f"{name} needs a {argument} above 0, not {number}")


def _weight(name: str, weight: float) -> None:
    if not 0 <= weight < math.inf:
        raise TenfoldError(f"{name} needs a weight of at least 0, not {weight}")


def _on_numpy(rows: Tensor, work: Callable[[Any], Any]) -> Tensor:
    return torch.from_numpy(work(rows.detach().double().cpu().numpy())).to(rows)


def _smoothed(rows: Float64[np.ndarray, "r n"], weight: float, nonnegative: bool) -> Float64[np.ndarray, "r n"]:
    """``(I + weight D'D)^-1`` of each row; nonnegative by the primal-dual active set method.

    All rows are one banded system without ties between them. As its matrix has no positive entry off the diagonal the
    active sets settle after finitely many steps.
    """
    from scipy.linalg import solveh_banded

    count, extent = rows.shape
    if extent == 1:
        return np.maximum(rows, 0) if nonnegative else rows.copy()
    own = np.full((count, extent), 1 + 2 * weight)
    own[:, [0, -1]] = 1 + weight
    between = np.full((count, extent), -weight)
    between[:, -1] = 0
    diagonal, ties, right = own.reshape(-1), between.reshape(-1), rows.reshape(-1)
    active = np.zeros(count * extent, dtype=bool)
    for _ in range(_ACTIVE_SETS):
        held = ties.copy()
        held[active] = 0
        held[:-1][active[1:]] = 0
        bands = np.stack([np.concatenate([[0.0], held[:-1]]), np.where(active, 1.0, diagonal)])
        found = solveh_banded(bands, np.where(active, 0.0, right), check_finite=False)
        if not nonnegative:
            break
        force = diagonal * found - right
        force[:-1] += ties[:-1] * found[1:]
        force[1:] += ties[:-1] * found[:-1]
        chosen = np.where(active, force > 0, found < 0)
        if (chosen == active).all():
            break
        active = chosen
    return (np.maximum(found, 0) if nonnegative else found).reshape(count, extent)
