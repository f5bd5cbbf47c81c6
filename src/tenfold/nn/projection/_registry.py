"""What every projection is, and how the one for a structure is found.

A projection is a function in a file of its own, marked with `projection`. Nothing else changes when one is added.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Protocol

import torch
from jaxtyping import Float
from torch import Tensor

from tenfold._arguments import quoted
from tenfold.errors import DataError, StructureError
from tenfold.structure import Structure


class Projection(Protocol):
    """From a matrix to the cores of its best approximation.

    ``root`` is a square root ``C`` of the covariance of what comes in, ``E[x x^T] = C C^T``, None for the identity: the
    error to make small is ``||(W - V) C||_F``. Both are float64 and finite. The cores come back one for each of
    ``structure.cores``.
    """

    def __call__(
        self,
        weight: Float[Tensor, "rows columns"],
        structure: Structure,
        root: Float[Tensor, "columns columns"] | None,
    ) -> list[Tensor]: ...


@dataclass(frozen=True)
class Entry:
    """A registered projection.

    Attributes:
        name: of the family.
        takes: whether it can do with a structure.
        function: the projection.
        exact: whether what it finds is the best there is (without a covariance); else it is a local optimum.
    """

    name: str
    takes: Callable[[Structure], bool]
    function: Projection
    exact: bool


_entries: dict[str, Entry] = {}


def projection(name: str, *, takes: Callable[[Structure], bool], exact: bool) -> Callable[[Projection], Projection]:
    """Register a function as the projection onto the family ``name``; arguments as of `Entry`."""

    def register(function: Projection) -> Projection:
        _entries[name] = Entry(name, takes, function, exact)
        return function

    return register


def projections() -> Mapping[str, Entry]:
    """All projections by name, exact ones first."""
    _import_room()
    return MappingProxyType(dict(sorted(_entries.items(), key=lambda item: (not item[1].exact, item[0]))))


@cache
def _import_room() -> None:
    package = importlib.import_module("tenfold.nn.projection")
    for module in pkgutil.iter_modules(package.__path__):
        if not module.name.startswith("_"):
            importlib.import_module(f"{package.__name__}.{module.name}")


def project(
    weight: Float[Tensor, "rows columns"],
    structures: Sequence[Structure],
    *,
    covariance: Float[Tensor, "columns columns"] | None = None,
) -> list[list[Tensor]]:
    """The cores of the best approximation of ``weight`` in a structure; of a sum, for each of its structures.

    Raises:
        StructureError: another shape than the weight's, or no projection takes the structure.
        DataError: numbers that are not finite, or a covariance of another shape.
    """
    for structure in structures:
        if structure.shape != tuple(weight.shape):
            raise StructureError(f"the structure is of shape {structure.shape}, the matrix of {tuple(weight.shape)}")
    matrix = weight.to(torch.float64)
    if not matrix.isfinite().all():
        raise DataError("the matrix has entries that are not finite; there is no best approximation of it")
    root = None if covariance is None else _root(covariance, matrix.shape[1])
    if len(structures) > 1:
        raise NotImplementedError("projection onto a sum of structures")
    (structure,) = structures
    for entry in projections().values():
        if entry.takes(structure):
            return [entry.function(matrix, structure, root)]
    raise StructureError(f"nothing projects a dense matrix onto {quoted(str(structure))}")


def _root(covariance: Tensor, columns: int) -> Tensor:
    if tuple(covariance.shape) != (columns, columns):
        raise DataError(
            f"covariance must be {columns} x {columns}, as the matrix has columns, not {tuple(covariance.shape)}"
        )
    made = covariance.to(torch.float64)
    if not made.isfinite().all():
        raise DataError("covariance has entries that are not finite")
    # What never came in still counts a little, so that a direction without data is not thrown away at random.
    made = made + 1e-6 * made.diagonal().mean().clamp(min=1e-300) * torch.eye(
        columns, dtype=made.dtype, device=made.device
    )
    root, failed = torch.linalg.cholesky_ex(made)
    if not failed:
        return root
    values, vectors = torch.linalg.eigh(made)
    return vectors * values.clamp(min=0).sqrt()
