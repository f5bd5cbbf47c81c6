"""One sweep of alternating least squares for CP: two large products, and little besides."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tenfold._threads import blas_threads
from tenfold.decomposition._blas import uses_numpy
from tenfold.decomposition._normal import solve_normal, solve_normal_array

# A NumPy array or a torch tensor. The sweep is written in what both spell alike, so that one BLAS does all of it.
Array = Any

# Entries of a block of the residual, which stays in the cache (2 MiB of float64).
_BLOCK = 2**18
# Multiplications of a product below which threads wait for each other longer than they work.
_WORTH_THREADS = 2**20
# Relative errors below this are lost in single and in double precision when they come from norms.
_FLOOR = {True: 1e-2, False: 1e-6}
# The same for an error that is a result: half of the digits of its square are left.
_EXACT = 1e-4


class Sweeps:
    """A tensor to fit: its two-group unfolding, and what its relative error is counted against.

    ``outside`` are squares that no factors can reach (what a compression left out), ``norm2`` those and the tensor's
    own. Factors are rank x mode, so that all that follows the two large products runs along
    memory.

    Paper: "Fast alternating LS algorithms for high order CANDECOMP/PARAFAC tensor factorizations", 2013.
    """

    def __init__(self, tensor: Tensor, norm2: float, outside: float = 0.0) -> None:
        self.numpy = uses_numpy(tensor)
        self.xp: Any = np if self.numpy else torch
        self.norm2, self.own2, self.outside = norm2, norm2 - outside, outside
        self.complex = tensor.is_complex()
        self.wide = getattr(self.xp, "complex128" if self.complex else "float64")
        self.single = torch.finfo(tensor.dtype).eps > 1e-10
        sides = [abs(math.prod(tensor.shape[:s]) - math.prod(tensor.shape[s:])) for s in range(1, tensor.ndim)]
        self.split = 1 + sides.index(min(sides))
        self.matrix: Array = self._own(tensor).reshape(math.prod(tensor.shape[: self.split]), -1)
        self.rooms: dict[tuple[str, int, int], Array] = {}

    def sweep(self, state: Sequence[Array]) -> tuple[list[Array], float]:
        """Every factor once, and the relative error after that."""
        factors = [self._own(factor) for factor in state]
        grams = [self._gram(factor) for factor in factors]
        left, right = range(self.split), range(self.split, len(factors))
        self._group(self._contract("right", factors, right, self.matrix.T), left, factors, grams)
        last = self._group(self._contract("left", factors, left, self.matrix), right, factors, grams)
        overlap = float(self.xp.vdot(self._wide(factors[-1]).reshape(-1), self._wide(last).reshape(-1)).real)
        gamma = reduce(self.xp.multiply, grams)
        square = self.own2 - 2 * overlap + float(gamma.sum().real)
        # Terms that cancel one another lose digits in the same way as a small error does.
        if not square > _FLOOR[self.single] ** 2 * (self.own2 + float(abs(gamma).sum())):
            square = self._residual(factors, True)
        return self._balanced(factors, grams), self._relative(square)

    def error(self, state: Sequence[Array], known: float) -> float:
        """The true relative error of a state that came from a sweep with the error ``known``."""
        factors = [self._own(factor) for factor in state]
        terms = float(abs(reduce(self.xp.multiply, [self._gram(factor) for factor in factors])).sum())
        if not self.single and known**2 * self.norm2 > _EXACT**2 * (self.own2 + terms):
            return known
        return self._relative(self._residual(factors, not self.single or known < 1e-3 or terms > 4 * self.own2))

    def _relative(self, square: float) -> float:
        return math.sqrt(max(square + self.outside, 0.0) / self.norm2)

    def _group(self, partial: Array, modes: range, factors: list[Array], grams: list[Array]) -> Array:
        """Update a group of modes from the data contracted with all others; returns the last right-hand side."""
        if len(modes) == 1:
            mode = modes[0]
            gamma = reduce(self.xp.multiply, [gram for m, gram in enumerate(grams) if m != mode])
            factors[mode] = (solve_normal_array if self.numpy else solve_normal)(gamma, partial)
            grams[mode] = self._gram(factors[mode])
            return partial
        half = len(modes) // 2
        low, high = modes[:half], modes[half:]
        rank = partial.shape[0]
        cube = partial.reshape(rank, math.prod(factors[m].shape[1] for m in low), -1)
        column = self._khatri_rao(factors, high).reshape(rank, -1, 1)
        self._group(self.xp.matmul(cube, column)[:, :, 0], low, factors, grams)
        row = self._khatri_rao(factors, low).reshape(rank, 1, -1)
        return self._group(self.xp.matmul(row, cube)[:, 0, :], high, factors, grams)

    def _contract(self, name: str, factors: Sequence[Array], modes: range, matrix: Array) -> Array:
        """rank x (the other modes): the large product. Its rooms are kept, for new pages of memory cost more."""
        columns = self._khatri_rao(factors, modes, f"{name} columns")
        room = self._room(f"{name} product", columns.shape[0], matrix.shape[1])
        if columns.shape[0] * self.matrix.shape[0] * self.matrix.shape[1] < _WORTH_THREADS:
            return self.xp.matmul(columns, matrix, out=room)
        with blas_threads(torch.get_num_threads()):
            return self.xp.matmul(columns, matrix, out=room)

    def _khatri_rao(self, factors: Sequence[Array], modes: Sequence[int], room: str = "") -> Array:
        """rank x (product of the modes), the last mode fastest, conjugated."""
        parts = [factors[mode].conj() if self.complex else factors[mode] for mode in modes]
        if self.complex and not self.numpy:
            parts = [part.resolve_conj() for part in parts]
        made = parts[0]
        for number, part in enumerate(parts[1:], 2):
            rank, before, after = made.shape[0], made.shape[1], part.shape[1]
            target = self._room(room, rank, before * after) if room and number == len(parts) else None
            if target is not None:
                target = target.reshape(rank, before, after)
            made = self.xp.multiply(made[:, :, None], part[:, None, :], out=target).reshape(rank, -1)
        return made

    def _room(self, name: str, rows: int, columns: int) -> Array:
        key = (name, rows, columns)
        if key not in self.rooms:
            kind = {} if self.numpy else {"device": self.matrix.device}
            self.rooms[key] = self.xp.empty((rows, columns), dtype=self.matrix.dtype, **kind)
        return self.rooms[key]

    def _residual(self, factors: Sequence[Array], wide: bool) -> float:
        """``|X - N|^2`` block by block, in double precision throughout or but for its last sum."""
        if wide:
            factors = [self._wide(factor) for factor in factors]
        left = self._khatri_rao(factors, range(self.split)).T
        right = self._khatri_rao(factors, range(self.split, len(factors)))
        if self.complex:
            left, right = left.conj(), right.conj()
        step = max(1, _BLOCK // right.shape[1])
        squares = []
        for start in range(0, self.matrix.shape[0], step):
            block = self.matrix[start : start + step]
            with blas_threads(torch.get_num_threads()):
                rest = left[start : start + step] @ right
            rest -= self._wide(block) if wide else block
            flat = self._wide(rest).reshape(-1)
            squares.append(float(self.xp.vdot(flat, flat).real))
        return math.fsum(squares)

    def _gram(self, factor: Array) -> Array:
        wide = self._wide(factor)
        return (wide.conj() if self.complex else wide) @ wide.T

    def _balanced(self, factors: Sequence[Array], grams: Sequence[Array]) -> list[Array]:
        """The same terms with all their vectors equally long; a term with a zero vector is all zeros."""
        xp = self.xp
        norms = xp.stack([gram.diagonal().real for gram in grams]) ** 0.5
        scales = xp.prod(norms ** (1 / len(grams)), 0) / xp.where(norms > 0, norms, 1.0)
        return [factor * self._like(scale, factor)[:, None] for factor, scale in zip(factors, scales, strict=True)]

    # --- where the two libraries differ -------------------------------------------------------------------------------

    def _own(self, part: Array) -> Array:
        if isinstance(part, Tensor):
            return part.numpy() if self.numpy else part
        return part if self.numpy else torch.from_numpy(part)

    def _wide(self, part: Array) -> Array:
        if part.dtype == self.wide:
            return part
        return part.astype(self.wide) if self.numpy else part.to(self.wide)

    def _like(self, scale: Array, factor: Array) -> Array:
        if not self.single:
            return scale
        return scale.astype(factor.real.dtype) if self.numpy else scale.to(factor.real.dtype)
