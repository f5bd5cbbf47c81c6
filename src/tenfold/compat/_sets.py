"""Sets that the factors of a CP tensor must lie in, as scripts ask for them: for all modes, in a list, by mode."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from tenfold.decomposition.constraints import Constraint, Monotone, Nonnegative, Simplex, Unimodal


@dataclass(frozen=True)
class AbsoluteSum(Constraint):
    """Every vector with absolute entries that add up to at most ``radius``."""

    radius: float
    bounded: ClassVar[bool] = True

    def prox(self, rows: Float[Tensor, "r n"], step: float) -> Float[Tensor, "r n"]:
        outside = rows.abs().sum(1, keepdim=True) > self.radius
        return torch.where(outside, rows.sign() * Simplex(self.radius).prox(rows.abs(), step), rows)


@dataclass(frozen=True)
class Largest(Constraint):
    """At most ``count`` entries of the whole factor that are not zero."""

    count: int

    def prox(self, rows: Float[Tensor, "r n"], step: float) -> Float[Tensor, "r n"]:
        flat = rows.reshape(-1)
        kept = flat.abs().topk(min(self.count, len(flat))).indices
        return torch.zeros_like(flat).scatter(0, kept, flat[kept]).reshape(rows.shape)


_MAKERS: dict[str, Callable[[Any], Constraint]] = {
    "non_negative": lambda given: Nonnegative(),
    "unimodality": lambda given: Unimodal(),
    "monotonicity": lambda given: Monotone(),
    "simplex": lambda given: Simplex(float(given)),
    "soft_sparsity": lambda given: AbsoluteSum(float(given)),
    "hard_sparsity": lambda given: Largest(int(given)),
}


def by_mode(order: int, **given: Any) -> dict[int, Constraint]:
    """For each mode that must lie in a set, which.

    Raises:
        ValueError: two sets for one mode, or a mode that is not there.
    """
    found: dict[int, Constraint] = {}
    for name, value in given.items():
        for mode, parameter in _each(value, order):
            if not 0 <= mode < order:
                raise ValueError(f"{name} names mode {mode}, but the tensor has modes 0 to {order - 1}")
            if mode in found:
                raise ValueError(f"{name} is a second constraint for mode {mode}; each mode can have one")
            found[mode] = _MAKERS[name](parameter)
    return found


def _each(value: Any, order: int) -> list[tuple[int, Any]]:
    if isinstance(value, Mapping):
        pairs = list(value.items())
    elif isinstance(value, Sequence) and not isinstance(value, str):
        pairs = list(enumerate(value))
    else:
        pairs = [(mode, value) for mode in range(order)]
    return [(mode, parameter) for mode, parameter in pairs if parameter]
