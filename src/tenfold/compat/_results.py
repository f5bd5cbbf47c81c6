"""What the functions return: TensorLy's own classes where it is installed, else tuples of the same parts."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

from tenfold.compat._arrays import Array


class CPTensor(NamedTuple):
    """``(weights, factors)``, factors of mode x rank."""

    weights: Array
    factors: list[Array]


class TuckerTensor(NamedTuple):
    """``(core, factors)``, factors of mode x rank."""

    core: Array
    factors: list[Array]


class Parafac2Tensor(NamedTuple):
    """``(weights, factors, projections)``; slice i is ``P_i B diag(weights * A[i]) C^T``."""

    weights: Array
    factors: list[Array]
    projections: list[Array]


class Cores(Sequence[Array]):
    """The cores of a train or a ring, each (rank, mode, rank); of a train matrix (rank, row, column, rank)."""

    def __init__(self, factors: list[Array]) -> None:
        self.factors = factors

    def __getitem__(self, place: Any) -> Any:
        return self.factors[place]

    def __len__(self) -> int:
        return len(self.factors)

    def __iter__(self) -> Iterator[Array]:
        return iter(self.factors)

    def __repr__(self) -> str:
        return f"Cores({', '.join('x'.join(map(str, factor.shape)) for factor in self.factors)})"


@cache
def _tensorly(module: str, name: str) -> Any:
    try:
        return getattr(importlib.import_module(f"tensorly.{module}"), name)
    except ImportError:
        return None


def cp(weights: Array, factors: list[Array]) -> Any:
    made = _tensorly("cp_tensor", "CPTensor")
    return CPTensor(weights, factors) if made is None else made((weights, factors))


def tucker(core: Array, factors: list[Array]) -> Any:
    made = _tensorly("tucker_tensor", "TuckerTensor")
    return TuckerTensor(core, factors) if made is None else made((core, factors))


def parafac2(weights: Array, factors: list[Array], projections: list[Array]) -> Any:
    made = _tensorly("parafac2_tensor", "Parafac2Tensor")
    parts = (weights, factors, projections)
    return Parafac2Tensor(*parts) if made is None else made(parts)


def train(factors: list[Array]) -> Any:
    return (_tensorly("tt_tensor", "TTTensor") or Cores)(factors)


def train_matrix(factors: list[Array]) -> Any:
    return (_tensorly("tt_matrix", "TTMatrix") or Cores)(factors)


def ring(factors: list[Array]) -> Any:
    return (_tensorly("tr_tensor", "TRTensor") or Cores)(factors)
