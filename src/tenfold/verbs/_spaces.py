"""The space that a search looks among, from what people say of it and of their data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tenfold._arguments import quoted, whole_number
from tenfold.errors import StructureError, TenfoldError
from tenfold.structure_search.objectives import ErrorWithin, Objective, SizeWithin
from tenfold.structure_search.spaces import AnyGraph, Chain, FullyConnected, Ring, Space, Tree, Tucker, folded, spaces
from tenfold.structure_search.targets import Target

Fold = bool | int | Sequence[int | Sequence[int]]

# Modes longer than this are folded unless people say otherwise, into pieces no longer than that; twice as long ones,
# and so on, where there would be too many.
_LONG, _PIECE, _MOST_MODES = 32, 16, 12
# The ranks that a space allows if nobody says so: the least, and the most.
_LEAST_RANK, _MOST_RANK = 8, 64
# A network of the largest ranks has this many times the parameters that are allowed, or this part of the error.
_ROOMY, _CLOSE = 4, 0.5

_PLURALS: dict[type[Space], str] = {
    Ring: "rings",
    Chain: "chains",
    Tree: "trees",
    Tucker: "Tucker networks",
    FullyConnected: "fully connected networks and parts of them",
    AnyGraph: "graphs",
}


def space_of(
    said: str | Space,
    shape: tuple[int, ...],
    names: tuple[str, ...],
    *,
    max_rank: int | None = None,
    fixed_order: bool | None = None,
    fold: Fold | None = None,
    max_degree: int | None = None,
) -> Space:
    """The space, with ranks up to 8 where nobody says how large they may be.

    Raises:
        StructureError: it does not fit the data.
        TenfoldError: it is not known, or does not have what is given for it.
    """
    given = {"max_rank": max_rank, "fixed_order": fixed_order, "fold": fold, "max_degree": max_degree}
    if isinstance(said, Space):
        for name, value in given.items():
            if value is not None:
                raise TenfoldError(f"{name} is given beside a {type(said).__name__}; give it to that")
        if said.shape != shape:
            raise StructureError(f"space is for shape {said.shape}, but the data has shape {shape}")
        return said if said.names is not None else replace(said, names=names)
    known = spaces()
    if not isinstance(said, str) or said not in ("any", *known):
        raise TenfoldError(f"space {quoted(said)} is not known; there are any, {', '.join(known)}")
    if fixed_order is not None and not isinstance(fixed_order, bool | np.bool_):
        raise TenfoldError(f"fixed_order must be true or false, not {quoted(fixed_order)}")
    if len(shape) == 0:
        raise StructureError("data is a single number, which has no structure to look for")
    folds = _folds(fold, shape, whole=said == "tucker")
    order = len(shape) if folds is None else sum(map(len, folds))
    kind: type[Space] = known[said] if said != "any" else Ring if order >= 3 else Chain
    options: dict[str, Any] = {"folds": folds, "names": names, "max_rank": _LEAST_RANK}
    if order < 2:
        raise StructureError(
            f"data of shape {shape} is one mode, and a network has at least two: give fold=, or reshape it"
        )
    if max_rank is not None:
        options["max_rank"] = whole_number("max_rank", max_rank, 1)
    if max_degree is not None:
        if not issubclass(kind, AnyGraph):
            raise TenfoldError(f"max_degree is given for space '{said}'; only any_graph has one")
        options["max_degree"] = whole_number("max_degree", max_degree, 1)
    if fixed_order is not None:
        if issubclass(kind, Tucker | FullyConnected):
            raise TenfoldError(f"fixed_order is given for space '{said}', whose modes have no order; leave it out")
        options["fixed_order"] = bool(fixed_order)
    return kind(shape, **options)


def roomy(space: Space, target: Target, objective: Objective) -> Space:
    """The same space with ranks large enough for what is asked for, as far as that can be seen without a fit."""
    if space.sparse:
        return space
    rank = space.max_rank
    while rank < _MOST_RANK:
        full = space.structure(space.first(rank))
        if isinstance(objective, SizeWithin) and target.bound(full) <= _CLOSE * objective.allowed:
            break
        if isinstance(objective, ErrorWithin) and full.parameters >= _ROOMY * objective.parameters:
            break
        if not isinstance(objective, SizeWithin | ErrorWithin):
            break
        larger = space.structure(space.first(2 * rank))
        if larger.parameters == full.parameters or larger.parameters >= target.size:
            break
        rank *= 2
    return replace(space, max_rank=rank)


def roomier(space: Space, target: Target) -> Space | None:
    """The same space with ranks twice as large, or None where those would be of no use."""
    if 2 * space.max_rank > _MOST_RANK:
        return None
    larger = replace(space, max_rank=2 * space.max_rank)
    now, then = (one.structure(one.first(one.max_rank)).parameters for one in (space, larger))
    return larger if now < min(then, target.size) else None


def in_words(space: Space) -> str:
    """A space as people say it."""
    parts = [kinds_in_words(space)]
    if not isinstance(space, Tucker | FullyConnected):
        parts.append("their order free" if space.orders else "their order fixed")
    parts.append(f"ranks up to {space.max_rank}")
    if isinstance(space, AnyGraph):
        parts.append(f"no core with more than {space.max_degree} bonds")
    return ", ".join(parts)


def kinds_in_words(space: Space) -> str:
    """What lies in a space, and of which modes."""
    kinds = f"{_PLURALS.get(type(space), type(space).__name__)} of {space.modes} modes"
    if space.folds is None:
        return kinds
    return f"{kinds} ({', '.join('·'.join(map(str, fold)) for fold in space.folds)})"


def _folds(fold: Fold | None, shape: tuple[int, ...], *, whole: bool) -> tuple[tuple[int, ...], ...] | None:
    if fold is None:
        if whole or (len(shape) >= 3 and max(shape) <= _LONG):
            return None
        longest = _PIECE
        while sum(map(len, folded(shape, longest))) > max(_MOST_MODES, len(shape)):
            longest *= 2
        folds = folded(shape, longest)
    elif isinstance(fold, bool | np.bool_):
        folds = folded(shape) if fold else tuple((n,) for n in shape)
    elif isinstance(fold, int | np.integer):
        folds = folded(shape, whole_number("fold", fold, 2))
    else:
        folds = _given(fold, shape)
    return None if all(len(pieces) == 1 for pieces in folds) else folds


def _given(fold: Any, shape: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """What was given for each axis, as pieces."""
    each_axis = f"the pieces of each of the {len(shape)} axes, as ((8, 8), (4, 16), (3,))"
    wanted = f"fold must say {each_axis}, not {quoted(fold)}"
    if isinstance(fold, str) or not isinstance(fold, Sequence) or len(fold) != len(shape):
        raise StructureError(wanted)
    folds = []
    for axis, pieces in enumerate(fold):
        each = (pieces,) if isinstance(pieces, int | np.integer) else pieces
        if isinstance(each, str) or not isinstance(each, Sequence) or not each:
            raise StructureError(wanted)
        sizes = tuple(whole_number("a piece of fold", piece, 1) for piece in each)
        if int(np.prod(sizes)) != shape[axis]:
            raise StructureError(f"fold {'·'.join(map(str, sizes))} does not make axis {axis} of size {shape[axis]}")
        folds.append(sizes)
    return tuple(folds)
