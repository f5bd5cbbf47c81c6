"""One sweep of alternating least squares over the cores of a ring.

The arrays may be torch's or NumPy's. A ring's cores are small, so that on the CPU most of a sweep is the time that
calls take, and NumPy's take a third of torch's.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import matmul
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tenfold.decomposition._normal import solve_normal

# Pivots of a Cholesky factor below this part of the largest one ask for eigenvectors instead.
_PIVOT = 1e-6


def sweep(matrix: Any, cores: list[Any], split: int) -> float:
    """Replace every core by the solution of its least squares problem, one after the other.

    Args:
        matrix: the data, with the modes of the first ``split`` cores as rows.
        cores: (bond, mode, bond) each, in the order of the ring.

    Returns:
        ``|N|^2 - 2 Re <N, X>`` at the end.
    """
    work = _Sweep(cores)
    left, right = range(split), range(split, len(cores))
    # (e, P, f) with e the bond that enters the right group and f the one that leaves it for the left one.
    flat, e, f = _flat(chain(cores, right))
    work.update(_turned((matrix @ flat).reshape(-1, e, f), 2, 0, 1), left)
    flat, e, f = _flat(chain(cores, left))
    return work.update(_turned((flat.T @ matrix).reshape(e, f, -1), 1, 2, 0), right)


class _Sweep:
    """The cores during a sweep, with the products of transfer matrices that their normal equations need."""

    def __init__(self, cores: list[Any]) -> None:
        self.cores = cores
        # after[k]: the transfer matrices behind core k, as they were before the sweep; before: those of the cores done.
        self.after: list[Any] = [None] * len(cores)
        for place in range(len(cores) - 2, -1, -1):
            behind = self.after[place + 1]
            own = _transfer(cores[place + 1])
            self.after[place] = own if behind is None else own @ behind
        self.before: Any = None

    def update(self, partial: Any, places: range) -> float:
        """Solve for a group of cores, given the data contracted with all others, (entering, modes, leaving).

        Returns ``|N|^2 - 2 Re <N, X>`` after the last of them.
        """
        entering, extent, leaving = partial.shape
        if len(places) > 1:
            half = len(places) // 2
            low, high = places[:half], places[half:]
            ahead = chain(self.cores, high)
            width = ahead.shape[1]
            matrix = partial.reshape(-1, width * leaving)
            ahead = ahead.reshape(-1, width * leaving)
            self.update((matrix @ ahead.conj().T).reshape(entering, -1, ahead.shape[0]), low)
            behind = chain(self.cores, low)
            behind = behind.reshape(-1, behind.shape[2])
            return self.update((behind.conj().T @ matrix).reshape(-1, width, leaving), high)
        (place,) = places
        parts = [part for part in (self.after[place], self.before) if part is not None]
        around = reduce(matmul, parts).reshape(leaving, leaving, entering, entering)
        # Conjugates come first in each pair of a transfer matrix: rows of the normal equations, then columns.
        gram = _turned(around, 2, 0, 3, 1).reshape(entering * leaving, entering * leaving)
        right = _turned(partial, 0, 2, 1).reshape(entering * leaving, extent)
        solved = _solved(gram, right)
        self.cores[place] = _turned(solved.reshape(entering, leaving, extent), 0, 2, 1)
        own = _transfer(self.cores[place])
        self.before = own if self.before is None else self.before @ own
        wide = _wide(solved)
        return float((wide.conj() * (gram @ wide - 2 * _wide(right))).sum().real)


def chain(cores: Sequence[Any], places: Sequence[int]) -> Any:
    """The product of neighbouring cores: (bond, modes together, bond)."""
    made = cores[places[0]]
    for place in places[1:]:
        core = cores[place]
        first, _, last = made.shape
        made = made.reshape(-1, last) @ core.reshape(core.shape[0], -1)
        made = made.reshape(first, -1, core.shape[2])
    return made


def balance(cores: list[Any]) -> None:
    """Make every bond's slices equally large on both sides, and all cores of one norm; the ring stays what it is."""
    for place, left in enumerate(cores):
        following = (place + 1) % len(cores)
        right = cores[following]
        own, other = _squares(left, 0, 1), _squares(right, 1, 2)
        usable = (own > 0) & (other > 0)
        scale = (_where(usable, other, 1.0) / _where(usable, own, 1.0)) ** 0.25
        cores[place] = left * _narrow(scale, left)
        # The core after the last one is the first, which has been replaced by now.
        cores[following] = cores[following] / _narrow(scale, left)[:, None, None]
    squares = [float(_squares(core, 0, 1, 2)) for core in cores]
    if min(squares) > 0:
        mean = float(np.exp(np.log(squares).mean()))
        for place, square in enumerate(squares):
            cores[place] = cores[place] * (mean / square) ** 0.5


def _flat(made: Any) -> tuple[Any, int, int]:
    """A chain as modes x its two bonds, conjugated."""
    e, extent, f = made.shape
    flat = _turned(made, 1, 0, 2).reshape(extent, e * f).conj()
    return (flat.resolve_conj() if isinstance(flat, Tensor) else flat), e, f


def _transfer(core: Any) -> Any:
    """``sum_i conj(G_i) (x) G_i``, bonds on the left x bonds on the right, in double precision."""
    wide = _wide(core)
    left, extent, right = wide.shape
    flat = _turned(wide, 1, 0, 2).reshape(extent, left * right)
    pairs = (flat.conj().T @ flat).reshape(left, right, left, right)
    return _turned(pairs, 0, 2, 1, 3).reshape(left * left, right * right)


def _solved(gram: Any, right: Any) -> Any:
    """`solve_normal` for arrays of either kind."""
    if isinstance(gram, Tensor):
        return solve_normal(gram, right)
    from scipy.linalg.lapack import dpotrf, dpotrs, zpotrf, zpotrs

    factor, solve = (zpotrf, zpotrs) if np.iscomplexobj(gram) else (dpotrf, dpotrs)
    diagonal = gram.diagonal().real
    scale = np.where(diagonal > 0, diagonal, 1.0) ** -0.5
    lower, failed = factor(gram * scale[:, None] * scale, lower=1)
    pivots = lower.diagonal().real
    if failed or pivots.min() < _PIVOT * pivots.max():
        return solve_normal(torch.as_tensor(gram), torch.as_tensor(right)).numpy()
    solved, _ = solve(lower, scale[:, None] * _wide(right), lower=1)
    return (scale[:, None] * solved).astype(right.dtype)


def _turned(array: Any, *order: int) -> Any:
    return array.permute(order) if isinstance(array, Tensor) else array.transpose(order)


def _wide(array: Any) -> Any:
    if isinstance(array, Tensor):
        return array.to(torch.complex128 if array.is_complex() else torch.float64)
    return array.astype(np.complex128 if np.iscomplexobj(array) else np.float64, copy=False)


def _narrow(scale: Any, like: Any) -> Any:
    return scale.to(like.real.dtype) if isinstance(like, Tensor) else scale.astype(like.real.dtype, copy=False)


def _squares(core: Any, *axes: int) -> Any:
    """The sums of squares over some axes, in double precision."""
    wide = _wide(core)
    return (wide * wide.conj()).real.sum(axes)


def _where(kept: Any, values: Any, other: float) -> Any:
    return torch.where(kept, values, other) if isinstance(values, Tensor) else np.where(kept, values, other)
