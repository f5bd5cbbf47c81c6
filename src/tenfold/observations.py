"""What is known of a tensor when not all of it is: sparse, masked, tabular and continuous-index data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Shaped
from numpy.typing import ArrayLike
from torch import Tensor

from tenfold.errors import DataError

Rest: TypeAlias = Literal["unknown", "zero"]
Policy: TypeAlias = Literal["sum", "mean", "max", "error"]

_REAL = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_COMPLEX = (torch.complex64, torch.complex128)
_INT64_MAX = 2**63 - 1
_ARROW_INTEGERS = {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}


@dataclass(frozen=True, eq=False, repr=False)
class Observations:
    """Values of a tensor at listed coordinates.

    Integer coordinates name the cells of a tensor of a given ``shape``. Floating coordinates are points of a
    function of N continuous variables; they have no shape. The tensors are kept, not copied: do not write
    into them afterwards.

    Args:
        coordinates: one row for each observation, one column for each mode; int64, or floating for continuous
            modes.
        values: what was observed; any real floating or complex dtype.
        shape: the size of each mode for integer coordinates, None for continuous ones.
        weights: nonnegative weights of a weighted least-squares loss ``sum w |y - x|^2``, of the real dtype
            of ``values``; None weighs every observation one.
        rest: what the cells that are not listed are: ``"unknown"`` (missing), or ``"zero"`` as in a sparse
            array, where they count as observed, with weight one, and where no cell may be listed twice. With
            ``"unknown"`` a cell listed twice is one that was measured twice.

    Raises:
        DataError: for anything that cannot be observations: a wrong type, dtype, shape or device, no
            observation, NaN or inf, a coordinate outside its mode, a negative weight, no positive weight, or
            a cell listed twice in a sparse array.

    Validation costs O(n N), and one sort of n integers for a sparse array that is not in row-major order.
    """

    coordinates: Shaped[Tensor, "n N"]
    values: Shaped[Tensor, " n"]
    shape: tuple[int, ...] | None
    weights: Float[Tensor, " n"] | None = None
    rest: Rest = "unknown"

    def __post_init__(self) -> None:
        if self.rest not in get_args(Rest):
            raise DataError(f"rest is {self.rest!r}: give 'unknown' (missing cells) or 'zero' (a sparse array)")
        _check_tensor("coordinates", self.coordinates, (torch.int64, *_REAL), "n N")
        _check_tensor("values", self.values, (*_REAL, *_COMPLEX), "n")
        if len(self.values) != len(self.coordinates):
            raise DataError(
                f"values has {len(self.values)} entries for {len(self.coordinates)} rows of coordinates: "
                "give one value for each row"
            )
        if not len(self.values):
            raise DataError("coordinates has no row, so nothing was observed: give at least one observation")
        if not self.order:
            raise DataError("coordinates has no column: give one column for each mode of the tensor")
        _check_finite("values", self.values, "leave it out, or give arrays with holes to Observations.from_nan")
        if self.weights is not None:
            self._check_weights(self.weights)
        for name, tensor in (("coordinates", self.coordinates), ("weights", self.weights)):
            if tensor is not None and tensor.device != self.values.device:
                raise DataError(
                    f"{name} is on {tensor.device} and values on {self.values.device}: move both to one device"
                )
        if self.continuous:
            self._check_continuous()
        else:
            self._check_cells()

    def _check_weights(self, weights: Tensor) -> None:
        _check_tensor("weights", weights, (self.values.dtype.to_real(),), "n")
        if len(weights) != len(self.values):
            raise DataError(
                f"weights has {len(weights)} entries for {len(self.values)} values: give one weight for each value"
            )
        _check_finite("weights", weights, "give finite weights, 0 for a value that should not count")
        if (weights < 0).any():
            row = int((weights < 0).nonzero()[0])
            raise DataError(f"weights[{row}] is {weights[row].item():g}: weights must be 0 or more")
        if not weights.any():
            raise DataError("weights are all zero: give at least one positive weight")

    def _check_continuous(self) -> None:
        if self.shape is not None:
            raise DataError(
                f"shape {tuple(self.shape)} given with floating coordinates: leave it None for continuous "
                "modes, "
                "or give int64 coordinates"
            )
        if self.rest == "zero":
            raise DataError("rest 'zero' given with floating coordinates: between points only 'unknown' has a meaning")
        bad = ~torch.isfinite(self.coordinates)
        if bad.any():
            row, mode = bad.nonzero()[0].tolist()
            value = self.coordinates[row, mode].item()
            raise DataError(f"coordinates[{row}, {mode}] is {value}: leave that observation out")

    def _check_cells(self) -> None:
        if self.shape is None:
            raise DataError(
                "shape is None with integer coordinates: give the size of each mode, or use Observations.from_coo"
            )
        shape = _sizes("shape", self.shape)
        object.__setattr__(self, "shape", shape)
        if len(shape) != self.order:
            raise DataError(
                f"shape {shape} has {len(shape)} modes and coordinates has {self.order} columns: "
                "give one size for each column"
            )
        low, high = self.coordinates.amin(0).tolist(), self.coordinates.amax(0).tolist()
        for mode, size in enumerate(shape):
            if size > _INT64_MAX:
                raise DataError(f"shape[{mode}] is {size}: a mode can have at most 2**63 - 1 indices")
            if low[mode] < 0 or high[mode] >= size:
                column = self.coordinates[:, mode]
                row = int(((column < 0) | (column >= size)).nonzero()[0])
                raise DataError(
                    f"coordinates[{row}, {mode}] is {int(column[row])}, outside of mode {mode} of size "
                    f"{size}: "
                    f"indices run from 0 to {size - 1}"
                )
        if self.rest == "zero" and self.distinct < len(self):
            cell, times = self._repeated()
            raise DataError(
                f"coordinates lists cell {cell} {times} times, which a sparse array (rest 'zero') cannot: "
                "give "
                "from_coo or from_table duplicates='sum', 'mean' or 'max'"
            )

    def __len__(self) -> int:
        """Number of observations n, repeated ones counted each time."""
        return len(self.values)

    def __repr__(self) -> str:
        if self.shape is None:
            parts = [f"{_count(len(self))} points of {self.order} continuous modes"]
        else:
            modes = " x ".join(map(_count, self.shape))
            parts = [
                f"{_count(self.distinct)} of {_count(self.size)} cells of {modes}",
                f"{100 * self.density:.3g} %",
                f"rest {self.rest}",
            ]
            if self.distinct < len(self):
                parts.append(f"{_count(len(self))} values")
        if self.weights is not None:
            parts.append("weighted")
        return f"Observations({', '.join(parts)})"

    @property
    def continuous(self) -> bool:
        """Whether the coordinates are floating points of continuous modes rather than cells."""
        return self.coordinates.dtype.is_floating_point

    @property
    def order(self) -> int:
        """Number of modes N."""
        return self.coordinates.shape[1]

    @property
    def size(self) -> int:
        """Number of cells of the whole tensor, listed or not, as an exact integer.

        Raises:
            DataError: when the modes are continuous.
        """
        return math.prod(self._cells("size"))

    @cached_property
    def distinct(self) -> int:
        """Number of distinct cells (or points). Costs O(n) in row-major order, else one sort."""
        if not self.continuous:
            keys = self._keys()
            if (keys[1:] > keys[:-1]).all():
                return len(self)
        return len(self._groups()[0])

    @property
    def density(self) -> float:
        """Distinct observed cells over all cells, in (0, 1].

        Raises:
            DataError: when the modes are continuous.
        """
        return self.distinct / self.size

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the values."""
        return self.values.dtype

    @property
    def device(self) -> torch.device:
        """Device of the coordinates, values and weights."""
        return self.values.device

    def norm(self) -> float:
        """Weighted Frobenius norm ``sqrt(sum w |y|^2)``, accumulated in float64 and safe from overflow."""
        size = self.values.detach().to(_wide(self.dtype)).abs()
        largest = size.max()
        if not largest:
            return 0.0
        squares = (size / largest).square()
        if self.weights is not None:
            squares = squares * self.weights.detach().double()
        return float(largest * squares.sum().sqrt())

    def to(self, *args: Any, **kwargs: Any) -> Observations:
        """The same observations on another device or of another dtype; arguments as ``Tensor.to``.

        Coordinates and weights follow to the device, weights to the real dtype of the values; coordinates
        keep theirs.

        Raises:
            DataError: when the dtype is not a supported one, cannot hold a value, or is real for complex
                values.
        """
        target = torch.empty(0, dtype=self.dtype, device=self.device).to(*args, **kwargs)
        if target.dtype not in (*_REAL, *_COMPLEX):
            raise DataError(f"dtype {target.dtype} given for values: give a real floating or complex dtype")
        if self.dtype.is_complex and not target.dtype.is_complex:
            raise DataError(f"dtype {target.dtype} would drop the imaginary part of {self.dtype} values: take .real")
        values = self.values.to(*args, **kwargs)
        return replace(
            self,
            coordinates=self.coordinates.to(values.device),
            values=values,
            weights=None if self.weights is None else self.weights.to(values.device, values.dtype.to_real()),
        )

    def linear(self) -> Int[Tensor, " n"]:
        """Row-major linear index of each observation, as ``numpy.ravel_multi_index`` counts.

        Raises:
            DataError: when the modes are continuous, or when the tensor has more than 2**63 - 1 cells.
        """
        shape = self._cells("linear()")
        if self.size > _INT64_MAX:
            raise DataError(
                f"shape {shape} has {self.size} cells, too many for an int64 linear index: keep the coordinates apart"
            )
        index = self.coordinates[:, 0]
        for mode, size in enumerate(shape[1:], start=1):
            index = index * size + self.coordinates[:, mode]
        return index

    def coalesce(self, policy: Policy = "sum") -> Observations:
        """One observation for each distinct cell (or point), in row-major order.

        Args:
            policy: what becomes of the values of a repeated cell. ``"sum"`` adds them; weights, read as
                inverse variances, become ``1 / sum(1 / w)``. ``"mean"`` averages them by weight, and the
                weights add up (to counts when there were none and a cell repeats), which leaves every
                weighted least-squares fit as it was. ``"max"`` keeps the largest with its weight. ``"error"``
                refuses repeated cells.

        Raises:
            DataError: for an unknown policy, for ``"max"`` of complex values, for a sum too large for the
                dtype, and with ``"error"`` when a cell repeats.

        Costs one sort of n integers; sums are accumulated in float64.
        """
        if policy not in get_args(Policy):
            raise DataError(f"policy is {policy!r}: give one of {', '.join(map(repr, get_args(Policy)))}")
        if policy == "max" and self.dtype.is_complex:
            raise DataError(f"policy 'max' given for {self.dtype} values, which have no order: give 'sum' or 'mean'")
        if policy == "error" and self.distinct < len(self):
            cell, times = self._repeated()
            raise DataError(f"coordinates lists {cell} {times} times: give policy 'sum', 'mean' or 'max'")
        rows, group, counts = self._groups()
        if len(rows) == len(self):
            return self._take(rows)

        def total(each: Tensor) -> Tensor:
            return torch.zeros(len(rows), dtype=each.dtype, device=each.device).index_add(0, group, each)

        y = self.values.to(_wide(self.dtype))
        w = None if self.weights is None else self.weights.double()
        weights: Tensor | None = None
        if policy == "mean":
            values = total(y) / counts
            if w is None:
                weights = counts
            else:
                weights = total(w)
                # A cell whose weights are all zero keeps its plain mean: it does not count, but must be a
                # number.
                values = torch.where(weights > 0, total(w * y) / weights.where(weights > 0, 1.0), values)
        elif policy == "max":
            values = torch.zeros_like(y[: len(rows)]).scatter_reduce(0, group, y, "amax", include_self=False)
            if w is not None:
                held = torch.where(y == values[group], w, 0.0)
                weights = torch.zeros_like(held[: len(rows)]).scatter_reduce(0, group, held, "amax")
        else:
            values = total(y)
            if w is not None:
                weights = 1 / total(1 / w)
        return replace(
            self,
            coordinates=self.coordinates[rows],
            values=values.to(self.dtype),
            weights=None if weights is None else weights.to(self.dtype.to_real()),
        )

    def split(self, fraction: float, seed: int = 0) -> tuple[Observations, Observations]:
        """Observations to fit on and observations held out, drawn at random: ``(train, held_out)``.

        Every observation is in exactly one of the two. Repeated observations of a cell stay together, so that
        what is held out was not seen, and cells of weight zero stay in ``train``.

        Args:
            fraction: share of the distinct cells to hold out, between 0 and 1; at least one cell lands on
                each side.
            seed: of a generator of its own; the same seed draws the same split on every device.

        Raises:
            DataError: for a fraction outside (0, 1), fewer than two cells of positive weight, or a sparse
                array, where a value taken out would read as zero.
        """
        if not 0 < fraction < 1:
            raise DataError(f"fraction is {fraction}: give the share to hold out, between 0 and 1")
        if self.rest == "zero":
            raise DataError(
                "rest is 'zero', so a held-out cell would read as zero: split observations whose rest is 'unknown'"
            )
        rows, group, _ = self._groups()
        counted = torch.ones(len(rows), dtype=torch.bool, device=self.device)
        if self.weights is not None:
            counted = torch.zeros_like(counted).index_fill(0, group[self.weights > 0], True)
        candidates = counted.nonzero()[:, 0]
        if len(candidates) < 2:
            raise DataError(f"split of {len(candidates)} cell of positive weight: observe at least 2 distinct cells")
        held_count = min(max(round(fraction * len(candidates)), 1), len(candidates) - 1)
        drawn = torch.randperm(len(candidates), generator=torch.Generator().manual_seed(seed))[:held_count]
        held = torch.zeros_like(counted).index_fill(0, candidates[drawn.to(self.device)], True)[group]
        return self._take((~held).nonzero()[:, 0]), self._take(held.nonzero()[:, 0])

    def dense(self, fill: complex | None = None, *, max_bytes: int = 2**33) -> Shaped[Tensor, "*shape"]:
        """The whole tensor, of ``shape``; weights are left out.

        Args:
            fill: what the cells not listed hold; by default NaN when the rest is unknown, 0 when it is zero.
            max_bytes: the largest tensor to make.

        Raises:
            DataError: when the modes are continuous, when a cell is listed twice, when the tensor would take
                more than ``max_bytes``, or for a complex fill of real values.
        """
        shape = self._cells("dense()")
        needed = self.size * self.values.element_size()
        if needed > max_bytes:
            raise DataError(
                f"max_bytes is {max_bytes} and dense() of {_count(self.size)} cells takes {needed} bytes: "
                "give a larger max_bytes, or work on the observations"
            )
        if isinstance(fill, complex) and not self.dtype.is_complex:
            raise DataError(f"fill is {fill} for {self.dtype} values: give a real number")
        if self.distinct < len(self):
            cell, times = self._repeated()
            raise DataError(f"coordinates lists cell {cell} {times} times, dense() takes it once: coalesce() first")
        if fill is None:
            fill = math.nan if self.rest == "unknown" else 0.0
        flat = torch.full((self.size,), fill, dtype=self.dtype, device=self.device)
        return flat.index_copy(0, self.linear(), self.values).reshape(shape)

    def with_axes(self, factors: Sequence[Sequence[int]]) -> Observations:
        """The same observations with each mode n split, row-major, into modes of sizes ``factors[n]``.

        The dense tensor becomes its own ``reshape`` to the concatenated factors. A mode of size 1 may be
        dropped by giving it no factor.

        Raises:
            DataError: when the modes are continuous, or when the factors of a mode do not multiply to its
                size.
        """
        shape = self._cells("with_axes()")
        if len(factors) != len(shape):
            raise DataError(f"factors has {len(factors)} groups for {len(shape)} modes: give one group for each mode")
        groups = [_sizes(f"factors[{mode}]", group) for mode, group in enumerate(factors)]
        if groups == [(size,) for size in shape]:
            return self
        columns: list[Tensor] = []
        for mode, (size, group) in enumerate(zip(shape, groups, strict=True)):
            if math.prod(group) != size:
                raise DataError(
                    f"factors[{mode}] is {group}, of product {math.prod(group)}: mode {mode} has size {size}"
                )
            index = self.coordinates[:, mode]
            digits: list[Tensor] = []
            for factor in reversed(group):
                digits.append(index % factor)
                index = index // factor
            columns += reversed(digits)
        coordinates = torch.stack(columns, 1) if columns else self.coordinates[:, :0]
        return replace(self, coordinates=coordinates, shape=tuple(size for group in groups for size in group))

    def on_grid(self, decimals: int | None = None) -> tuple[Observations, list[Float[Tensor, " size"]]]:
        """Continuous observations as cells of the grid of all coordinates that occur.

        Args:
            decimals: round the coordinates to so many decimals first; None takes them as they are.

        Returns:
            Observations with integer coordinates (points that fall together become repeated cells), and for
            each mode the sorted distinct coordinates that its indices stand for.

        Raises:
            DataError: when the coordinates are integers already, or when rounding overflows their dtype.
        """
        if not self.continuous:
            raise DataError(
                f"coordinates are {self.coordinates.dtype}, on a grid already: on_grid() takes floating ones"
            )
        points = self.coordinates
        if decimals is not None:
            points = torch.round(points, decimals=decimals)
            if not torch.isfinite(points).all():
                raise DataError(f"decimals is {decimals}, too many for {points.dtype} coordinates: give fewer")
        levels, indices = zip(*(column.unique(return_inverse=True) for column in points.unbind(1)), strict=True)
        shape = tuple(len(level) for level in levels)
        return replace(self, coordinates=torch.stack(indices, 1), shape=shape), list(levels)

    @classmethod
    def from_coo(
        cls,
        coordinates: ArrayLike | Tensor,
        values: ArrayLike | Tensor,
        shape: Sequence[int] | None = None,
        *,
        weights: ArrayLike | Tensor | None = None,
        rest: Rest = "unknown",
        duplicates: Policy | None = None,
    ) -> Observations:
        """Observations from a list of coordinates and one of values: arrays, tensors or nested lists.

        Integer coordinates of any width become int64, integer and boolean values float64, weights the real
        dtype of the values; everything moves to the device of the values. Arrays share their memory where no
        conversion is due.

        Args:
            coordinates: (n, N), integer for cells or floating for continuous modes.
            values: (n,).
            shape: of the tensor; by default the largest index of each mode plus one.
            weights: (n,), nonnegative.
            rest: what cells not listed are.
            duplicates: the policy of ``coalesce`` for cells listed more than once; None keeps them as
                repeated measurements, which a sparse array (rest ``"zero"``) refuses. In a sparse array
                ``"mean"`` makes no weights of its own.

        Raises:
            DataError: as the class does, and for coordinates that do not fit int64.
        """
        y = _numbers("values", values)
        x = _tensor("coordinates", coordinates).to(y.device)
        if not x.numel() and not y.numel():
            raise DataError("coordinates has no row, so nothing was observed: give at least one observation")
        if x.dtype is not torch.bool and not x.is_floating_point() and not x.is_complex():
            x = _int64("coordinates", x)
            if shape is None and x.ndim == 2 and x.numel():
                shape = tuple(index + 1 for index in _nonnegative_maxima(x))
        w = None if weights is None else _tensor("weights", weights).to(y.device, y.dtype.to_real())
        sizes = None if shape is None else _sizes("shape", shape)
        if duplicates is None:
            return cls(x, y, sizes, w, rest)
        merged = cls(x, y, sizes, w).coalesce(duplicates)
        if rest == "unknown":
            return merged
        return replace(merged, rest=rest, weights=None if w is None else merged.weights)

    @classmethod
    def from_masked(
        cls,
        array: ArrayLike | Tensor,
        observed: ArrayLike | Tensor | None = None,
        *,
        weights: ArrayLike | Tensor | None = None,
    ) -> Observations:
        """Observations from an array of which a part is known; the rest is unknown.

        Args:
            array: (I1, ..., IN); a ``numpy.ma.MaskedArray``, whose mask is True where a cell is missing, or
                any array together with ``observed``. Whatever the missing cells hold is not looked at.
            observed: booleans of the shape of ``array``, True where a cell is known; not with a masked array.
            weights: nonnegative, of the shape of ``array``.

        Raises:
            DataError: as the class does, and when there is no mask or two, or one of another shape or dtype.
        """
        if isinstance(array, np.ma.MaskedArray):
            if observed is not None:
                raise DataError("observed given with a masked array, which has its own mask: give one of the two")
            observed = ~np.ma.getmaskarray(array)
            array = np.ma.getdata(array)
        elif observed is None:
            raise DataError("observed is None and array has no mask: give a numpy masked array or observed=")
        data = _numbers("array", array)
        known = _tensor("observed", observed).to(data.device)
        if known.dtype is not torch.bool:
            raise DataError(f"observed has dtype {known.dtype}: give booleans, True where a cell is known")
        return cls._from_known(data, known, weights)

    @classmethod
    def from_nan(cls, array: ArrayLike | Tensor, *, weights: ArrayLike | Tensor | None = None) -> Observations:
        """Observations from an array (I1, ..., IN) in which NaN marks the missing cells; the rest is unknown.

        Args:
            array: real or complex; a complex cell is missing when either part is NaN.
            weights: nonnegative, of the shape of ``array``.

        Raises:
            DataError: as the class does: in particular when every cell is NaN, or one is inf.
        """
        data = _numbers("array", array)
        return cls._from_known(data, ~torch.isnan(data), weights)

    @classmethod
    def _from_known(
        cls, data: Shaped[Tensor, "*shape"], known: Bool[Tensor, "*shape"], weights: ArrayLike | Tensor | None
    ) -> Observations:
        if not data.ndim:
            raise DataError("array has no mode (it is a single number): give an array of at least one")
        if known.shape != data.shape:
            raise DataError(f"observed has shape {tuple(known.shape)} and array {tuple(data.shape)}: give them alike")
        if not known.any():
            raise DataError(f"array of shape {tuple(data.shape)} has no known cell: give at least one")
        w = None if weights is None else _tensor("weights", weights).to(data.device, data.dtype.to_real())
        if w is not None and w.shape != data.shape:
            raise DataError(f"weights has shape {tuple(w.shape)} and array {tuple(data.shape)}: give them alike")
        return cls(known.nonzero(), data[known], tuple(data.shape), None if w is None else w[known])

    @classmethod
    def from_table(
        cls,
        table: Any,
        *,
        value: str,
        modes: Sequence[str],
        weights: str | None = None,
        levels: bool = False,
        shape: Sequence[int] | None = None,
        rest: Rest = "unknown",
        duplicates: Policy | None = None,
    ) -> tuple[Observations, dict[str, np.ndarray]]:
        """Observations from a table with one row for each observation (long format).

        Args:
            table: a pandas DataFrame or a pyarrow Table.
            value: the column of values.
            modes: the column of each mode, in the order of the modes.
            weights: the column of weights.
            levels: whether integer columns hold labels too; by default they hold indices, from 0 on.
            shape: of the tensor; by default the number of levels or the largest index plus one.
            rest: what cells not listed are.
            duplicates: as in ``from_coo``.

        Returns:
            The observations, and for every mode column that is not of indices its sorted distinct entries (in
            the order of the categories for a pandas categorical): entry k is what index k of that mode stands
            for.

        Raises:
            DataError: as the class does, and for another kind of table, a column that is not there, a missing
                entry, a negative index, or entries that have no common order.
        """
        if not (_comes_from(table, "pandas") or _comes_from(table, "pyarrow")) or not hasattr(table, "columns"):
            raise DataError(f"table is a {type(table).__name__}: give a pandas DataFrame or a pyarrow Table")
        if isinstance(modes, str) or not modes or len({value, weights, *modes}) < 2 + len(modes):
            raise DataError(
                f"modes is {modes!r}: give a list of distinct columns other than those of the value and the weights"
            )
        columns: list[np.ndarray] = []
        found: dict[str, np.ndarray] = {}
        for mode in modes:
            column = _column(table, mode)
            if _is_integer(column) and not levels:
                index = _int64(f"column {mode!r}", _tensor(f"column {mode!r}", _entries(column)))
                if len(index) and index.min() < 0:
                    row = int((index < 0).nonzero()[0])
                    raise DataError(
                        f"column {mode!r} holds {int(index[row])} at row {row}: indices count from 0, or "
                        "give levels=True"
                    )
                columns.append(index.numpy())
            else:
                codes, found[mode] = _encoded(mode, column)
                columns.append(codes)
        coordinates = np.stack(columns, axis=1)
        if shape is None and len(coordinates):
            largest = (coordinates.max(0) + 1).tolist()
            shape = [len(found[mode]) if mode in found else size for mode, size in zip(modes, largest, strict=True)]
        observations = cls.from_coo(
            coordinates,
            _numbers(f"column {value!r}", _entries(_column(table, value))),
            shape,
            weights=None if weights is None else _entries(_column(table, weights)),
            rest=rest,
            duplicates=duplicates,
        )
        return observations, found

    @classmethod
    def from_sparse(cls, array: Any, *, rest: Rest = "zero") -> Observations:
        """Observations from the stored entries of a sparse array, zeros that are stored included.

        Args:
            array: a SciPy sparse array or matrix of any format, a torch tensor of any sparse layout, or a
                pydata ``sparse`` array. Entries stored twice are added up, as those libraries read them.
            rest: what the cells that are not stored are; ``"unknown"`` reads the stored entries as the known
                ones.

        Raises:
            DataError: as the class does, and for another kind of array, a torch tensor with dense dimensions,
                or a fill value other than zero where the rest is zero.
        """
        coordinates: Any
        if isinstance(array, Tensor) and array.layout is not torch.strided:
            if array.dense_dim():
                raise DataError(
                    f"array has {array.dense_dim()} dense dimensions: give array.to_dense().to_sparse() instead"
                )
            stored = array.to_sparse_coo().coalesce()
            coordinates, values = stored.indices().T, stored.values()
        elif _comes_from(array, "scipy") and hasattr(array, "tocoo"):
            stored = array.tocoo()
            # Added up in the array's own dtype, where True and True make True.
            if not stored.has_canonical_format:
                stored = stored.copy()
                stored.sum_duplicates()
            coordinates = np.stack(getattr(stored, "coords", None) or (stored.row, stored.col), axis=1)
            values = stored.data
        elif _comes_from(array, "sparse") and hasattr(array, "fill_value"):
            if rest == "zero" and array.fill_value != 0:
                raise DataError(f"array has fill value {array.fill_value}: subtract it first, or give rest='unknown'")
            stored = array.asformat("coo")
            coordinates, values = stored.coords.T, stored.data
        else:
            raise DataError(
                f"array is a {type(array).__name__}: give a scipy.sparse, torch sparse or pydata sparse array"
            )
        return cls.from_coo(coordinates, values, tuple(array.shape), rest=rest, duplicates="sum")

    def _cells(self, what: str) -> tuple[int, ...]:
        """The shape, for what only a tensor of cells has."""
        if self.shape is None:
            raise DataError(f"coordinates are continuous and have no cells for {what}: use on_grid() first")
        return self.shape

    def _take(self, rows: Int[Tensor, " m"]) -> Observations:
        return replace(
            self,
            coordinates=self.coordinates[rows],
            values=self.values[rows],
            weights=None if self.weights is None else self.weights[rows],
        )

    def _groups(self) -> tuple[Int[Tensor, " g"], Int[Tensor, " n"], Int[Tensor, " g"]]:
        """A row of each distinct cell in row-major order, the group of each row, the size of each group."""
        if self.continuous:
            _, group, counts = torch.unique(self.coordinates, dim=0, return_inverse=True, return_counts=True)
        else:
            keys = self._keys()
            if (keys[1:] > keys[:-1]).all():
                rows = torch.arange(len(self), device=self.device)
                return rows, rows, torch.ones_like(rows)
            _, group, counts = torch.unique(keys, return_inverse=True, return_counts=True)
        rows = torch.empty_like(counts)
        rows[group] = torch.arange(len(self), device=self.device)
        return rows, group, counts

    def _keys(self) -> Int[Tensor, " n"]:
        """An integer for each row, equal for equal cells and in row-major order: the linear index where that fits."""
        keys, count = torch.zeros_like(self.coordinates[:, 0]), 1
        for column, size in zip(self.coordinates.unbind(1), self._cells("keys"), strict=True):
            if count * size > _INT64_MAX:
                # Among n rows no more than n of the cells so far, and n indices of a mode, are in use.
                keys, count = torch.unique(keys, return_inverse=True)[1], len(self)
                if count * size > _INT64_MAX:
                    column, size = torch.unique(column, return_inverse=True)[1], len(self)
            keys, count = keys * size + column, count * size
        return keys

    def _repeated(self) -> tuple[tuple[float, ...], int]:
        """The first cell that is listed more than once, and how often it is."""
        rows, _, counts = self._groups()
        first = int((counts > 1).nonzero()[0])
        return tuple(self.coordinates[rows[first]].tolist()), int(counts[first])


def _check_tensor(name: str, given: object, dtypes: Sequence[torch.dtype], dims: str) -> None:
    if not isinstance(given, Tensor):
        raise DataError(
            f"{name} is a {type(given).__name__}: give a torch tensor, or use Observations.from_coo for "
            "arrays and lists"
        )
    if given.ndim != len(dims.split()):
        raise DataError(f"{name} has shape {tuple(given.shape)}: give a tensor of shape ({', '.join(dims.split())})")
    if given.dtype not in dtypes:
        names = ", ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
        raise DataError(f"{name} has dtype {str(given.dtype).removeprefix('torch.')}: give {names}")
    if given.layout is not torch.strided:
        raise DataError(f"{name} is a sparse tensor: give a dense one, or use Observations.from_sparse")


def _check_finite(name: str, given: Shaped[Tensor, " n"], cure: str) -> None:
    finite = torch.isfinite(given)
    if not finite.all():
        row = int((~finite).nonzero()[0])
        raise DataError(f"{name}[{row}] is {given[row].item()}: {cure}")


def _sizes(name: str, given: Sequence[int]) -> tuple[int, ...]:
    sizes = []
    for position, size in enumerate(given):
        # bool is an int to Python, but True is no size that anybody meant.
        if isinstance(size, bool) or not hasattr(size, "__index__") or size.__index__() < 1:
            raise DataError(f"{name}[{position}] is {size!r}: give a positive integer")
        sizes.append(size.__index__())
    return tuple(sizes)


def _count(number: int) -> str:
    return f"{number:,}".replace(",", " ")


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.complex128 if dtype.is_complex else torch.float64


def _tensor(name: str, given: ArrayLike | Tensor) -> Tensor:
    """A dense tensor that shares the memory of ``given`` where torch can."""
    if isinstance(given, Tensor):
        if given.layout is not torch.strided:
            raise DataError(f"{name} is a sparse tensor: use Observations.from_sparse")
        return given
    if isinstance(given, np.ma.MaskedArray) and np.ma.is_masked(given):
        raise DataError(f"{name} is a masked array with missing entries: use Observations.from_masked")
    try:
        array = np.asarray(given)
    except (ValueError, TypeError) as error:
        raise DataError(f"{name} is no array of numbers: give a rectangular array") from error
    if array.dtype.kind not in "biufc" or array.dtype.itemsize > (16 if array.dtype.kind == "c" else 8):
        raise DataError(f"{name} has dtype {array.dtype}: give numbers of at most double precision")
    # torch takes neither foreign byte orders nor negative strides, and warns of arrays that may not be
    # written to.
    if not array.dtype.isnative or not array.flags.writeable or any(step < 0 for step in array.strides):
        array = array.astype(array.dtype.newbyteorder("="), order="C", copy=True)
    return torch.from_numpy(array)


def _numbers(name: str, given: ArrayLike | Tensor) -> Tensor:
    """A floating or complex tensor; integers and booleans become float64."""
    tensor = _tensor(name, given)
    return tensor if tensor.is_floating_point() or tensor.is_complex() else tensor.double()


def _int64(name: str, given: Tensor) -> Int[Tensor, "*shape"]:
    index = given.long()
    # Only uint64 has numbers beyond int64; they wrap around to negative ones.
    if given.dtype is torch.uint64 and (index < 0).any():
        raise DataError(f"{name} holds an index of 2**63 or more: an index must fit int64")
    return index


def _nonnegative_maxima(coordinates: Int[Tensor, "n N"]) -> list[int]:
    if (coordinates < 0).any():
        row, mode = (coordinates < 0).nonzero()[0].tolist()
        raise DataError(f"coordinates[{row}, {mode}] is {int(coordinates[row, mode])}: indices count from 0")
    return coordinates.amax(0).tolist()


def _comes_from(given: object, package: str) -> bool:
    """Whether a class of ``given`` is defined in ``package``, told without importing it."""
    return any(kind.__module__.partition(".")[0] == package for kind in type(given).__mro__)


def _column(table: Any, name: str) -> Any:
    """A pandas Series or a pyarrow ChunkedArray without missing entries."""
    names = list(table.columns) if _comes_from(table, "pandas") else list(table.column_names)
    if names.count(name) != 1:
        raise DataError(
            f"column {name!r} is in the table {names.count(name)} times: columns are {', '.join(map(str, names))}"
        )
    if _comes_from(table, "pandas"):
        column = table[name]
        missing = column.isna().to_numpy()
    else:
        column = table.column(name)
        missing = column.is_null(nan_is_null=True).to_numpy()
    if missing.any():
        raise DataError(f"column {name!r} has no entry at row {int(missing.argmax())}: drop such rows first")
    return column


def _is_integer(column: Any) -> bool:
    if _comes_from(column, "pandas"):
        return column.dtype.kind in "iu"
    return str(column.type) in _ARROW_INTEGERS


def _entries(column: Any) -> np.ndarray:
    if _comes_from(column, "pandas"):
        # Nullable columns name their NumPy dtype; left to themselves some pandas versions hand out objects.
        return column.to_numpy(dtype=getattr(column.dtype, "numpy_dtype", None))
    return column.to_numpy()


def _encoded(name: str, column: Any) -> tuple[np.ndarray, np.ndarray]:
    """The index of each entry among the sorted distinct entries, and those."""
    try:
        if _comes_from(column, "pandas"):
            codes, distinct = column.factorize(sort=True)
            return codes.astype(np.int64), np.asarray(distinct)
        if str(column.type).startswith("dictionary"):
            # Its dictionary may hold entries that no row uses; plain values are encoded anew.
            column = column.cast(column.type.value_type)
        encoded = column.combine_chunks().dictionary_encode()
        distinct = encoded.dictionary.to_numpy(zero_copy_only=False)
        order = np.argsort(distinct, kind="stable")
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        return rank[encoded.indices.to_numpy(zero_copy_only=False)], distinct[order]
    except TypeError as error:
        raise DataError(f"column {name!r} mixes entries that cannot be sorted: give one type in a column") from error
