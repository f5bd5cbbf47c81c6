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
from typing import Protocol, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from tenfold._scales import power_of, times_power
from tenfold.errors import DataError, StructureError
from tenfold.linalg.roots import root_of
from tenfold.nn.projection._sum import project_sum
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


_Made = TypeVar("_Made", bound=Projection)


@dataclass(frozen=True)
class Entry:
    """A registered projection.

    Attributes:
        name: of the family.
        takes: whether it can do with a structure.
        function: the projection.
        exact: whether what it finds is the best there is (without a covariance); else it is a local optimum.
        last: whether it is for structures that no other takes.
    """

    name: str
    takes: Callable[[Structure], bool]
    function: Projection
    exact: bool
    last: bool = False


_entries: dict[str, Entry] = {}


def projection(
    name: str, *, takes: Callable[[Structure], bool], exact: bool, last: bool = False
) -> Callable[[_Made], _Made]:
    """Register a function as the projection onto the family ``name``; arguments as of `Entry`."""

    def register(function: _Made) -> _Made:
        _entries[name] = Entry(name, takes, function, exact, last)
        return function

    return register


def projections() -> Mapping[str, Entry]:
    """All projections by name, in the order in which they are asked: exact ones first."""
    _import_room()
    return MappingProxyType(dict(sorted(_entries.items(), key=lambda item: (item[1].last, not item[1].exact, item[0]))))


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
    fixed: Sequence[Mapping[int, Tensor]] | None = None,
) -> list[list[Tensor]]:
    """The cores of the best approximation of ``weight`` in a structure; of a sum, for each of its structures.

    Args:
        weight: the matrix.
        structures: one, or several that are added.
        covariance: ``E[x x^T]`` of what comes in; the error is that of the outputs.
        fixed: for each structure, cores that are given, by their numbers in ``structure.cores``.

    Returns:
        For each structure one tensor for each of its cores, in double precision.

    Raises:
        StructureError: another shape than the weight's.
        DataError: numbers that are not finite, or a covariance of another shape.
    """
    for structure in structures:
        if structure.shape != tuple(weight.shape):
            raise StructureError(f"the structure is of shape {structure.shape}, the matrix of {tuple(weight.shape)}")
    matrix = weight.detach().to(torch.float64)
    if not matrix.isfinite().all():
        raise DataError("the matrix has entries that are not finite; there is no best approximation of it")
    root = None if covariance is None else _root(covariance.detach(), matrix.shape[1])
    given = [dict(each) for each in fixed] if fixed is not None else [{} for _ in structures]
    # Squares of the entries must neither overflow nor vanish.
    power = power_of(matrix)
    matrix = times_power(matrix, -power)
    inside = [_lowered(structure, each, power) for structure, each in zip(structures, given, strict=True)]
    if len(structures) > 1:
        found = project_sum(matrix, structures, root, inside, _one)
    else:
        found = [_one(matrix, structures[0], root, inside[0])]
    return [_scaled(s, cores, kept, power) for s, cores, kept in zip(structures, found, given, strict=True)]


def _one(matrix: Tensor, structure: Structure, root: Tensor | None, fixed: Mapping[int, Tensor]) -> list[Tensor]:
    from tenfold.nn.projection.alternating import alternating  # it registers itself here

    if fixed:
        return alternating(matrix, structure, root, fixed)
    entry = next(entry for entry in projections().values() if entry.takes(structure))
    return entry.function(matrix, structure, root)


def _lowered(structure: Structure, fixed: Mapping[int, Tensor], power: int) -> dict[int, Tensor]:
    """The fixed cores; where all are, the matrix that they make must go down with the one that is approximated."""
    if len(fixed) < len(structure.cores):
        return dict(fixed)
    return {**fixed, 0: times_power(fixed[0].to(torch.float64), -power / len(structure.cores[0].terms))}


def _scaled(structure: Structure, cores: Sequence[Tensor], fixed: Mapping[int, Tensor], power: int) -> list[Tensor]:
    """The cores of ``2**power`` times the matrix; each that is not fixed takes an equal part."""
    uses = sum(len(core.terms) for n, core in enumerate(structure.cores) if n not in fixed)
    return [fixed[n] if n in fixed else times_power(core, power / uses).contiguous() for n, core in enumerate(cores)]


def _root(covariance: Tensor, columns: int) -> Tensor:
    if tuple(covariance.shape) != (columns, columns):
        raise DataError(
            f"covariance must be {columns} x {columns}, as the matrix has columns, not {tuple(covariance.shape)}"
        )
    # Its scale changes nothing of what is best.
    made = covariance.to(torch.float64)
    return root_of(times_power(made, -power_of(made)) if made.isfinite().all() else made)
