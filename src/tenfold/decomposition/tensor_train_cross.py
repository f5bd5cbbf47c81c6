"""Tensor trains of functions, from few of their values: cross interpolation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.linalg
import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from tenfold import formats
from tenfold._arguments import real_number, whole_number
from tenfold.decomposition._registry import Callback, Progress
from tenfold.errors import DataError, TenfoldError
from tenfold.network import Network

# Rows are exchanged while one would enlarge the volume by more than this, and so many times at most.
_GROWTH, _SWAPS = 1.05, 200
# Points at which the error is estimated: at least so many, and as many as a part of the parameters.
_CHECKS, _PART = 1000, 10
# Half sweeps running whose estimates must be small enough.
_AGREED = 2
# Rounding of the values makes ranks grow without end below so many units of their precision.
_PRECISE = 30
# Values of the function asked for at once.
_BATCH = 2**18
# Values are scaled if their exponents are beyond this part of the range.
_FAR = 0.4
# Bonds are truncated this much finer than what is asked for; rounding at the end takes the difference away.
_FINER = 0.1

Function = Callable[[Int[Tensor, "batch order"]], Any]


@dataclass(frozen=True)
class Cross:
    """What cross interpolation found.

    Attributes:
        network: a tensor train for the function.
        error: estimated relative error: the root mean square over random points that were not used for the fit.
        evaluations: how many values of the function were asked for.
        largest: where the largest absolute value among them is, and the value there.
        sweeps: half sweeps.
        stopped: ``"error"`` (small enough), ``"max_sweeps"``, ``"max_evaluations"``, ``"max_rank"`` (no bond may grow)
            or ``"zero"`` (no value but zero was seen).
    """

    network: Network
    error: float
    evaluations: int
    largest: tuple[tuple[int, ...], Any]
    sweeps: int
    stopped: str

    def __repr__(self) -> str:
        index, value = self.largest
        structure = self.network.structure
        ranks = ", ".join(str(structure.sizes[bond]) for bond in structure.inner_indices)
        shape = " x ".join(map(str, structure.shape))
        return (
            f"Cross(train of {shape} with ranks {ranks or 'none'}, error about {self.error:.3g}, "
            f"{self.evaluations:,} evaluations, largest value {value:.6g} at {index}, stopped: {self.stopped})"
        )


@torch.no_grad()
def tensor_train_cross(
    function: Function,
    shape: Sequence[int],
    *,
    error: float = 1e-5,
    max_rank: int = 100,
    kick: int = 4,
    max_sweeps: int = 40,
    max_evaluations: int | None = None,
    seed: int = 0,
    callback: Callback | None = None,
) -> Cross:
    """A tensor train of a function on a grid, from values that it is asked for where they say most.

    Each core is interpolated from the rows and columns of its unfolding that span the largest volume. Half sweeps go
    from left to right and back; before each, the points of a random sample (and the best of the fibres through them)
    where the train is furthest from the function join the bonds, so that ranks grow where they have to. The array is
    never made: a train of ranks r is found from about ``sum r n r`` values for each half sweep.

    Args:
        function: takes indices, an integer tensor of shape (batch, order), and returns the values there, (batch,), as a
            tensor or an array.
        shape: how many places each index has.
        error: relative error to reach, estimated on random points.
        max_rank: no bond gets larger.
        kick: by how much a bond may grow in one half sweep.
        max_sweeps: at most so many half sweeps.
        max_evaluations: stop before more values than this are asked for; at least 1000, the size of the first sample.
        seed: of the random points.
        callback: called after each half sweep.

    Returns:
        A `Cross`, with the train rounded to the error.

    Raises:
        DataError: the function returns another number of values, or NaN or infinity.
        TenfoldError: an argument is out of range.

    A function that is zero at almost all points (a needle in a haystack) can be missed: no method finds it from few
    values. Cost: ``O(sum n r^3)`` besides the evaluations.
    Papers: "TT-cross approximation for multidimensional arrays", 2010; "How to find a good submatrix", 2010.
    """
    if not hasattr(shape, "__len__"):
        raise DataError(f"shape must be a sequence of whole numbers, not {shape!r}")
    if not len(shape) or 0 in tuple(shape):
        raise DataError(f"shape {tuple(shape)} is empty; every index needs at least one place")
    shape = tuple(whole_number(f"shape[{axis}]", n, 1) for axis, n in enumerate(shape))
    max_rank, kick = whole_number("max_rank", max_rank, 1), whole_number("kick", kick, 1)
    max_sweeps, seed = whole_number("max_sweeps", max_sweeps, 1), whole_number("seed", seed, 0)
    if max_evaluations is not None:
        # The first sample is the least from which anything can be said.
        max_evaluations = whole_number("max_evaluations", max_evaluations, _CHECKS)
    error = real_number("error", error, "above 0 and below 1")
    if not 0 < error < 1:
        raise TenfoldError(f"error must be above 0 and below 1, not {error!r}")
    values = _Values(function, shape, max_evaluations)
    work = _Interpolation(values, shape, error, max_rank, kick, np.random.default_rng(seed))
    try:
        return work.run(max_sweeps, callback)
    except _SpentError:
        return work.result("max_evaluations")


class _SpentError(Exception):
    """No more values may be asked for."""


@dataclass
class _Values:
    """The function, counted and checked, and divided by ``2**power``.

    The power is 0 unless the first values are so large or small that what is computed from them leaves the range.
    """

    function: Function
    shape: tuple[int, ...]
    limit: int | None
    count: int = 0
    largest: tuple[tuple[int, ...], Any] = field(default=((), 0.0))
    power: int | None = None

    def __call__(self, indices: Int[np.ndarray, "batch order"]) -> Shaped[np.ndarray, " batch"]:
        if self.limit is not None and self.count + len(indices) > self.limit:
            raise _SpentError
        parts = [self._some(indices[start : start + _BATCH]) for start in range(0, len(indices), _BATCH)]
        made = np.concatenate(parts) if parts else np.zeros(0)
        if self.power is None and len(made):
            part = made.view(made.real.dtype)
            exponent = int(np.frexp(np.abs(part).max())[1])
            far = int(np.finfo(part.dtype).maxexp * _FAR)
            self.power = exponent - min(max(exponent, -far), far)
        return _times_power(made, -self.power) if self.power else made

    def _some(self, indices: Int[np.ndarray, "batch order"]) -> Shaped[np.ndarray, " batch"]:
        found = self.function(torch.from_numpy(np.ascontiguousarray(indices)))
        made = found.detach().cpu().resolve_conj().numpy() if isinstance(found, Tensor) else np.asarray(found)
        if made.shape != (len(indices),):
            raise DataError(
                f"the function returned shape {made.shape} for {len(indices)} indices, not ({len(indices)},)"
            )
        if made.dtype.kind not in "biufc":
            raise DataError(f"the function must return numbers, not {made.dtype}")
        if made.dtype.kind in "biu":
            made = made.astype(np.float64)
        bad = np.flatnonzero(~np.isfinite(made))
        if len(bad):
            raise DataError(f"the function returned {made[bad[0]]} at index {tuple(indices[bad[0]].tolist())}")
        self.count += len(indices)
        best = int(np.abs(made).argmax())
        if not self.largest[0] or abs(made[best]) > abs(self.largest[1]):
            self.largest = (tuple(indices[best].tolist()), made[best].item())
        return made


@dataclass
class _Interpolation:
    """Index sets on both sides of every bond, and the cores between them.

    ``left[k]`` are indices of the modes before bond k and ``right[k]`` of those after it, one row for each value of the
    bond; bond 0 is before the first mode. ``size`` is the root mean square of the function.
    """

    values: _Values
    shape: tuple[int, ...]
    error: float
    max_rank: int
    kick: int
    random: np.random.Generator
    left: list[np.ndarray] = field(default_factory=list)
    right: list[np.ndarray] = field(default_factory=list)
    cores: list[np.ndarray] = field(default_factory=list)
    size: float = math.inf
    estimate: float = math.inf
    sweeps: int = 0

    @property
    def order(self) -> int:
        return len(self.shape)

    def run(self, max_sweeps: int, callback: Callback | None) -> Cross:
        if not self._start():
            return self.result("zero")
        agreed, extra = 0, np.zeros((0, self.order), dtype=np.int64)
        while self.sweeps < max_sweeps:
            before = self._ranks()
            (self._rightwards if self.sweeps % 2 == 0 else self._leftwards)(extra)
            self.sweeps += 1
            self.estimate, extra = self._check()
            if callback is not None:
                callback(Progress(self.estimate, self.sweeps, max_sweeps, self.network))
            agreed = agreed + 1 if self.estimate <= self.error else 0
            if agreed == _AGREED:
                return self.result("error")
            if self._ranks() == before == self._limits() and self.sweeps > 2 and not agreed:
                return self.result("max_rank")
        return self.result("max_sweeps")

    def _start(self) -> bool:
        """Rank one through the largest of some random values; False if all of them are zero."""
        points = self._sample(_CHECKS)
        found = self.values(points)
        precision = float(np.finfo(found.dtype).eps)
        if self.error < _PRECISE * precision:
            raise TenfoldError(
                f"error {self.error:g} is below what values of {found.dtype} can show; ask for at least "
                f"{_PRECISE * precision:.0e}, or return numbers of higher precision"
            )
        best = int(np.abs(found).argmax())
        if found[best] == 0:
            self.cores = [np.zeros((1, n, 1), dtype=found.dtype) for n in self.shape]
            self.estimate = 0.0
            return False
        point = points[best : best + 1]
        self.left = [point[:, :k] for k in range(self.order + 1)]
        self.right = [point[:, k:] for k in range(self.order + 1)]
        self.cores = [np.zeros((1, n, 1), dtype=found.dtype) for n in self.shape]
        return True

    def _ranks(self) -> list[int]:
        return [core.shape[2] for core in self.cores[:-1]]

    def _limits(self) -> list[int]:
        sides = [(math.prod(self.shape[:k]), math.prod(self.shape[k:])) for k in range(1, self.order)]
        return [min(*side, self.max_rank) for side in sides]

    def _sample(self, count: int) -> Int[np.ndarray, "count order"]:
        return np.stack([self.random.integers(0, n, count) for n in self.shape], axis=1)

    def _block(self, k: int) -> Shaped[np.ndarray, "left mode right"]:
        """The function on (left rows of mode k) x (mode k) x (right rows after it)."""
        left, right, n = self.left[k], self.right[k + 1], self.shape[k]
        a, i, b = len(left), n, len(right)
        points = np.empty((a, i, b, self.order), dtype=np.int64)
        points[..., :k] = left[:, None, None, :]
        points[..., k] = np.arange(n)[None, :, None]
        points[..., k + 1 :] = right[None, None, :, :]
        return self.values(points.reshape(-1, self.order)).reshape(a, i, b)

    def _rightwards(self, extra: np.ndarray) -> None:
        # Only a whole half sweep makes cores that fit each other.
        cores = list(self.cores)
        for k in range(self.order - 1):
            self.right[k + 1] = _joined(self.right[k + 1], extra[:, k + 1 :], self.kick)
            block = self._block(k)
            a, n, b = block.shape
            basis = self._basis(block.reshape(a * n, b), k + 1)
            rows, core = _maxvol(basis)
            cores[k] = core.reshape(a, n, -1)
            self.left[k + 1] = np.concatenate([self.left[k][rows // n], (rows % n)[:, None]], axis=1)
        cores[-1] = self._block(self.order - 1)
        self.cores = cores

    def _leftwards(self, extra: np.ndarray) -> None:
        cores = list(self.cores)
        for k in range(self.order - 1, 0, -1):
            self.left[k] = _joined(self.left[k], extra[:, :k], self.kick)
            block = self._block(k)
            a, n, b = block.shape
            basis = self._basis(block.reshape(a, n * b).T, k)
            rows, core = _maxvol(basis)
            cores[k] = core.T.reshape(-1, n, b)
            self.right[k] = np.concatenate([(rows // b)[:, None], self.right[k + 1][rows % b]], axis=1)
        cores[0] = self._block(0)
        self.cores = cores

    def _basis(self, matrix: Shaped[np.ndarray, "m c"], bond: int) -> Shaped[np.ndarray, "m r"]:
        """Orthonormal columns for a matrix, as few as the error allows."""
        peak = np.abs(matrix).max()
        basis, values, _ = scipy.linalg.svd(matrix / peak if peak else matrix, full_matrices=False)
        tails = np.sqrt(np.cumsum(values[::-1] ** 2)[::-1])
        # Rows and columns gather at peaks, but the error is counted over the whole array.
        whole = min(tails[0], self.size / peak * math.sqrt(matrix.size)) if peak else 0.0
        allowed = _FINER * self.error / math.sqrt(max(self.order - 1, 1)) * whole
        allowed = max(allowed, float(np.finfo(values.dtype).eps) * tails[0])
        rank = int((tails > allowed).sum())
        return basis[:, : max(1, min(rank, self.max_rank, self._limits()[bond - 1]))]

    def _check(self) -> tuple[float, np.ndarray]:
        """The estimated error, and points at which the train is far from the function."""
        parameters = sum(core.size for core in self.cores)
        cells = math.prod(self.shape)
        points = self._sample(min(max(_CHECKS, _PART * parameters // self.order), 20 * _CHECKS, cells))
        found = self.values(points)
        residual = np.abs(found - self._at(points))
        # The train knows of peaks that random points miss, so it tells how large the function is.
        self.size = max(_root_mean_square(self.cores), _root_mean(np.abs(found)))
        missed = _root_mean(residual)
        estimate = missed / self.size if self.size else (0.0 if missed == 0 else math.inf)
        if self.order < 2:
            return estimate, points[:0]
        worst = points[np.argsort(residual)[::-1][: self.kick]]
        return estimate, self._climb(worst)

    def _climb(self, points: np.ndarray) -> np.ndarray:
        """Move each point to the largest residual on the fibre of each mode in turn."""
        points = points.copy()
        for k, n in enumerate(self.shape):
            fibres = np.repeat(points[:, None, :], n, axis=1)
            fibres[:, :, k] = np.arange(n)
            flat = fibres.reshape(-1, self.order)
            residual = np.abs(self.values(flat) - self._at(flat)).reshape(len(points), n)
            points[:, k] = residual.argmax(1)
        return points

    def _at(self, points: Int[np.ndarray, "batch order"]) -> Shaped[np.ndarray, " batch"]:
        row = self.cores[0][0, points[:, 0]]
        for k in range(1, self.order):
            row = np.einsum("ba,bac->bc", row, self.cores[k][:, points[:, k]].transpose(1, 0, 2))
        return row[:, 0]

    def network(self) -> Network:
        return self._restored(self._train())

    def _restored(self, train: Network) -> Network:
        """In the units of the function: each core takes a part of the power, so that none leaves the range."""
        power, order = self.values.power or 0, self.order
        if not power:
            return train
        parts = [power * (k + 1) // order - power * k // order for k in range(order)]
        pairs = zip(train.cores, parts, strict=True)
        return train.replace([torch.from_numpy(_times_power(core.numpy(), part)) for core, part in pairs])

    def _train(self) -> Network:
        structure = formats.tensor_train(self.shape, [1] * (self.order - 1))
        bonds = structure.inner_indices
        structure = structure.replace(dict(zip(bonds, self._ranks(), strict=True)))
        cores = []
        for k, core in enumerate(self.cores):
            ends = core[0] if k == 0 else core
            cores.append(torch.from_numpy(np.ascontiguousarray(ends[..., 0] if k == self.order - 1 else ends)))
        return Network(structure, cores)

    def result(self, stopped: str) -> Cross:
        network = self._train()
        if self.order > 1 and stopped != "zero":
            # The interpolation is not optimal; what it needs too much is not needed for this error.
            network = network.round(error=min(self.error, 0.5))
        return Cross(
            self._restored(network), self.estimate, self.values.count, self.values.largest, self.sweeps, stopped
        )


def _times_power(numbers: Shaped[np.ndarray, "..."], power: int) -> Shaped[np.ndarray, "..."]:
    """Numbers times a power of two that may itself be out of range."""
    whole = np.ascontiguousarray(numbers)
    return np.ldexp(whole.view(whole.real.dtype), power).view(whole.dtype)


def _root_mean(numbers: Shaped[np.ndarray, " n"]) -> float:
    """The root mean square of numbers whose squares may be out of range."""
    peak = float(numbers.max())
    return peak * math.sqrt(float(np.mean((numbers / peak) ** 2))) if peak else 0.0


def _root_mean_square(cores: Sequence[np.ndarray]) -> float:
    """The root mean square of all entries of a train."""
    gram, scale = np.ones((1, 1)), 1.0
    for core in cores:
        peak = float(np.abs(core).max())
        if peak == 0:
            return 0.0
        small = core / peak
        gram = np.einsum("ab,anc,bnd->cd", gram, small.conj(), small, optimize=True) / core.shape[1]
        # Each step in its own units: the norm of a long train is out of range long before its entries are.
        size = float(np.abs(gram).max())
        gram, scale = gram / size, scale * peak * math.sqrt(size)
    return scale * math.sqrt(abs(float(gram[0, 0].real)))


def _joined(rows: np.ndarray, more: np.ndarray, most: int) -> np.ndarray:
    """Rows with at most so many others that are not among them."""
    new = np.unique(more, axis=0)
    if len(new):
        fresh = ~(new[:, None, :] == rows[None, :, :]).all(2).any(1)
        new = new[fresh]
    return np.concatenate([rows, new[:most]])


def _maxvol(basis: Shaped[np.ndarray, "m r"]) -> tuple[Int[np.ndarray, " r"], Shaped[np.ndarray, "m r"]]:
    """Rows of (almost) largest volume, and the matrix that makes all rows from them: ``basis @ basis[rows]^-1``.

    Pivoted QR chooses the first rows; then single ones are exchanged while that enlarges the volume.
    """
    rank = basis.shape[1]
    _, _, order = scipy.linalg.qr(basis.conj().T, mode="economic", pivoting=True)
    rows = order[:rank].copy()
    made = scipy.linalg.solve(basis[rows].T, basis.T, check_finite=False).T
    for _ in range(_SWAPS):
        i, j = divmod(int(np.abs(made).argmax()), rank)
        if abs(made[i, j]) <= _GROWTH:
            break
        change = made[i].copy()
        change[j] -= 1
        made = made - np.outer(made[:, j], change / made[i, j])
        rows[j] = i
    return rows, made
