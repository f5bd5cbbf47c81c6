"""A Gaussian process on a uniform grid: its matrices along each axis, and what it says between the points."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from tenfold.errors import DataError, TenfoldError
from tenfold.linalg.spectral_mixture import Spectrum, spectral_mixture
from tenfold.linalg.toeplitz import toeplitz
from tenfold.pde.problem import Axis, Problem

# Beyond this part of the variance, noise on the diagonal is no remedy for rounding any more.
_MOST_JITTER = 1e-4


@dataclass(frozen=True, eq=False)
class Peaks:
    """The spectrum along one axis.

    Attributes:
        weights, scales: of each peak, positive.
        frequencies: in cycles per unit; None puts all at 0.
        spectrum: their form.
        jitter: what is added to the diagonal of the covariance of the grid.
    """

    weights: Tensor
    scales: Tensor
    frequencies: Tensor | None
    spectrum: Spectrum
    jitter: float

    def of(self, distances: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The covariance at these distances and its first two derivatives."""
        return spectral_mixture(distances, self.weights, self.scales, self.frequencies, self.spectrum)


class Line:
    """The covariance of the points of one axis.

    Attributes:
        factor: Cholesky's.

    Raises:
        DataError: it is singular to rounding.
    """

    def __init__(self, axis: Axis, peaks: Peaks) -> None:
        self.axis, self.peaks = axis, peaks
        grid = axis.grid()
        self._first, *self._slopes = peaks.of(grid - grid[0])
        self.factor = _factor(toeplitz(self._first), peaks.jitter)

    def solve(self, right: Tensor) -> Tensor:
        """The inverse of the covariance times ``right``."""
        return torch.cholesky_solve(right, self.factor)

    def log_determinant(self) -> float:
        return float(2 * self.factor.diagonal().log().sum())

    def derivative(self, order: int) -> Tensor:
        """The matrix that takes values at the points to their derivative there; order 1 or 2."""
        slope = toeplitz(self._slopes[order - 1], odd=order == 1)
        return (-self.solve(slope) if order == 1 else self.solve(slope)).T

    def with_points(self, points: Tensor, order: int) -> Tensor:
        """Covariances of other points with those of the grid, or the derivative of that order by the former."""
        apart = points.unsqueeze(1) - self.axis.grid()
        covariance = self.peaks.of(apart.abs())[order]
        return apart.sign() * covariance if order == 1 else covariance


def norm(values: Tensor) -> float:
    """The Euclidean norm, also of numbers whose squares no float64 holds."""
    top = float(values.abs().max())
    return top * float((values / top).norm()) if 0 < top < math.inf else top


def _factor(matrix: Tensor, jitter: float) -> Tensor:
    """Cholesky's factor, with as little more noise on the diagonal than asked for as rounding lets through."""
    variance = float(matrix[0, 0])
    while True:
        factor, failed = torch.linalg.cholesky_ex(matrix + jitter * torch.eye(len(matrix), dtype=matrix.dtype))
        if not int(failed):
            return factor
        jitter = max(10 * jitter, 1e-15 * variance)
        if not jitter < _MOST_JITTER * variance:
            raise DataError("the covariance of the grid is not positive definite; take a coarser grid or more jitter")


@dataclass(frozen=True, eq=False)
class GridProcess:
    """What is known of a function from its values on a grid and its spectrum along each axis.

    Attributes:
        axes: of the grid.
        peaks: the spectrum along each.
        values: on the grid.
    """

    axes: tuple[Axis, ...]
    peaks: tuple[Peaks, ...]
    values: Tensor

    @cached_property
    def lines(self) -> tuple[Line, ...]:
        """The covariance along each axis; their Kronecker product is that of the grid."""
        return tuple(Line(axis, peaks) for axis, peaks in zip(self.axes, self.peaks, strict=True))

    def on(self, grids: Sequence[Tensor], orders: Sequence[int] | None = None) -> Tensor:
        """Values on the grid of other points along each axis, or a derivative of them.

        Args:
            grids: the points along each axis.
            orders: of the derivative by each coordinate: 0, 1 or 2.

        Cost: O(n² + n m) for each number of the other axes, with n points of the grid and m others.
        """
        orders = orders or [0] * len(self.axes)
        values = self.values
        for axis, (line, points, order) in enumerate(zip(self.lines, grids, orders, strict=True)):
            turned = values.movedim(axis, 0)
            solved = line.with_points(points, order) @ line.solve(turned.reshape(len(turned), -1))
            values = solved.reshape(len(points), *turned.shape[1:]).movedim(0, axis)
        return values

    def at(self, points: Tensor) -> Tensor:
        """Values at scattered points, one in each row.

        Raises:
            TenfoldError: the rows have another length than the grid has axes.
        """
        if points.ndim != 2 or points.shape[1] != len(self.axes):
            raise TenfoldError(
                f"points must be rows of {len(self.axes)} coordinates, not of shape {tuple(points.shape)}"
            )
        if len(self.axes) == 1:
            return self.on([points[:, 0]])
        first, second = self.lines
        weights = second.solve(first.solve(self.values).T).T
        return torch.cat(
            [
                ((first.with_points(part[:, 0], 0) @ weights) * second.with_points(part[:, 1], 0)).sum(1)
                for part in points.split(4096)
            ]
        )

    def residual_between(self, problem: Problem) -> float:
        """How far the equation is from being met halfway between the points of the grid, where no solver looked.

        Returns:
            The root mean square of left minus right side, by that of the largest part of the equation.
        """
        grids = [(grid[:-1] + grid[1:]) / 2 for grid in (axis.grid() for axis in self.axes)]
        mesh = problem.mesh(grids)
        right = problem.right_side(mesh)
        terms = {name: self.on(grids, orders) for name, orders in problem.terms.items()}
        left = problem.residual(terms, mesh)
        size = max(norm(part) for part in (right, *(terms[name] for name in terms if name != "u")))
        return norm(left - right) / size if size > 0 else norm(left)

    def misfit(self) -> float:
        """What the prior says against the values, at the variance that suits them best; lower is better.

        This is the negative logarithm of their density up to a constant, and the objective of the paper where equation
        and boundary values are met.
        """
        size = self.values.numel()
        top = float(self.values.abs().max()) or 1.0
        determinants = 0.0
        solved = self.values / top
        for axis, line in enumerate(self.lines):
            turned = solved.movedim(axis, 0)
            solved = line.solve(turned.reshape(len(turned), -1)).reshape(turned.shape).movedim(0, axis)
            determinants += line.log_determinant() * size / len(turned)
        square = max(float((self.values / top * solved).sum()), 1e-300)
        return size / 2 * (math.log(square / size) + 2 * math.log(top)) + determinants / 2

    def state(self) -> dict[str, Tensor]:
        """All numbers, by name."""
        numbers = {"values": self.values}
        for axis, peaks in zip(self.axes, self.peaks, strict=True):
            numbers[f"{axis.name}.weights"], numbers[f"{axis.name}.scales"] = peaks.weights, peaks.scales
            numbers[f"{axis.name}.jitter"] = torch.tensor(peaks.jitter, dtype=torch.float64)
            if peaks.frequencies is not None:
                numbers[f"{axis.name}.frequencies"] = peaks.frequencies
        return numbers

    @classmethod
    def of_state(cls, axes: tuple[Axis, ...], spectrum: Spectrum, numbers: Mapping[str, Tensor]) -> GridProcess:
        """The process that `state` was asked of."""
        peaks = tuple(
            Peaks(
                numbers[f"{axis.name}.weights"],
                numbers[f"{axis.name}.scales"],
                numbers.get(f"{axis.name}.frequencies"),
                spectrum,
                float(numbers[f"{axis.name}.jitter"]),
            )
            for axis in axes
        )
        return cls(axes, peaks, numbers["values"])
