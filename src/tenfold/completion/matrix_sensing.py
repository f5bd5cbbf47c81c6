"""Matrices from linear measurements by gradient descent on factors that are wider than they need be."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tenfold.errors import DataError, TenfoldError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Singular values of a factor below this part of its largest are none when factors are balanced anew.
_TINY = 1e-14
# The loss of a descent that is lost, relative to that of zero.
_LOST = 1e6


class Sensing(Protocol):
    """A linear map from matrices to measurements."""

    @property
    def shape(self) -> tuple[int, int]:
        """Of the matrices."""
        ...

    def measure(self, matrix: Float[Tensor, "n m"]) -> Tensor:
        """The measurements of a matrix."""
        ...

    def adjoint(self, measurements: Tensor) -> Float[Tensor, "n m"]:
        """The adjoint map."""
        ...


@dataclass(frozen=True)
class Everything:
    """The matrix itself: what infinitely many measurements tell."""

    shape: tuple[int, int]

    def measure(self, matrix: Tensor) -> Tensor:
        return matrix

    def adjoint(self, measurements: Tensor) -> Tensor:
        return measurements


@dataclass(frozen=True, eq=False)
class Matrices:
    """Inner products with given matrices. Cost: the size of all of them for each use."""

    matrices: Float[Tensor, "c n m"]

    @staticmethod
    def gaussian(count: int, shape: tuple[int, int], *, seed: int = 0) -> Matrices:
        """Independent normal entries of variance ``1 / count``: norms of matrices of low rank are nearly kept."""
        generator = torch.Generator().manual_seed(seed)
        return Matrices(torch.randn(count, *shape, generator=generator, dtype=torch.float64) / math.sqrt(count))

    @property
    def shape(self) -> tuple[int, int]:
        return self.matrices.shape[1], self.matrices.shape[2]

    def measure(self, matrix: Tensor) -> Tensor:
        return self.matrices.flatten(1) @ matrix.flatten()

    def adjoint(self, measurements: Tensor) -> Tensor:
        return (measurements @ self.matrices.flatten(1)).reshape(self.shape)


@dataclass(frozen=True, eq=False)
class Entries:
    """Some entries, times the root of how many times fewer they are than all."""

    places: Int[Tensor, "c 2"]
    shape: tuple[int, int]

    @property
    def _factor(self) -> float:
        return math.sqrt(self.shape[0] * self.shape[1] / len(self.places))

    def measure(self, matrix: Tensor) -> Tensor:
        return self._factor * matrix[self.places[:, 0], self.places[:, 1]]

    def adjoint(self, measurements: Tensor) -> Tensor:
        result = torch.zeros(self.shape, dtype=measurements.dtype)
        return result.index_put((self.places[:, 0], self.places[:, 1]), self._factor * measurements, accumulate=True)


@dataclass(frozen=True, eq=False, repr=False)
class SensedMatrix:
    """What the descent found.

    Attributes:
        left: the factor F of ``F G'``.
        right: the factor G; that same F where the matrix is symmetric.
        losses: norm of what the measurements are missed by, before the first step and after each.
        errors: Frobenius distance from the truth at the same times, where a truth was given.
        rebalanced: the step before which the factors were balanced anew, None if they never were.
    """

    left: Float[Tensor, "n k"]
    right: Float[Tensor, "m k"]
    losses: tuple[float, ...]
    errors: tuple[float, ...] | None
    rebalanced: int | None

    @property
    def matrix(self) -> Float[Tensor, "n m"]:
        return self.left @ self.right.T

    def __repr__(self) -> str:
        kind = "symmetric " if self.right is self.left else ""
        error = "" if self.errors is None else f", {self.errors[-1]:.3g} from the truth"
        anew = "" if self.rebalanced is None else f", balanced anew before step {self.rebalanced}"
        (n, k), m = self.left.shape, len(self.right)
        return (
            f"SensedMatrix({kind}{n} × {m} of rank {k}, {len(self.losses) - 1} steps, measurements missed by "
            f"{self.losses[-1]:.3g}{error}{anew})"
        )

    def plot(self) -> Figure:
        """Error (or loss) against steps, both in logarithms: powers of the steps are straight lines."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6, 4), layout="constrained")
        axes = figure.add_subplot()
        shown = self.losses if self.errors is None else self.errors
        axes.loglog(range(1, len(shown)), shown[1:])
        if self.rebalanced is not None:
            axes.axvline(max(self.rebalanced, 1), color="0.6", linestyle=":", label="factors balanced anew")
            axes.legend(frameon=False)
        axes.set_xlabel("steps of gradient descent")
        axes.set_ylabel("measurements missed by" if self.errors is None else "distance from the truth")
        axes.spines[["top", "right"]].set_visible(False)
        return figure


def matrix_sensing(
    measurements: Tensor,
    sensing: Sensing,
    *,
    rank: int,
    symmetric: bool = False,
    steps: int = 2000,
    step_size: float | None = None,
    start: float = 0.5,
    rebalance: float | None = None,
    truth: Float[Tensor, "n m"] | None = None,
    seed: int = 0,
) -> SensedMatrix:
    """Gradient descent on ``|A(F G') - y|^2 / 2`` (symmetric: ``|A(F F') - y|^2 / 4``) from small random factors.

    A rank larger than that of the matrix slows the symmetric descent from a linear rate to squared errors of order
    ``1 / T^2``. Factors of two sides keep a linear rate, one that falls with the square of the size of the start,
    because ``F'F - G'G`` stays what it was; balanced anew once, so that all singular values of F are equal, the rate no
    longer depends on the start.

    Args:
        measurements: y.
        sensing: A: `Everything`, `Matrices`, `Entries`, or any `Sensing`.
        rank: columns of the factors.
        symmetric: ``F F'`` for a positive semidefinite matrix; the map's adjoint is made symmetric.
        steps: how many.
        step_size: by default 1/50 of what the largest singular value of ``A* y`` allows, 0.02 where that is 1.
        start: entries of F are normal with this standard deviation over the root of its rows; those of G a third.
        rebalance: when the loss is below this part of that of zero, once: ``F <- F V diag(b / s) V'`` and ``G <- G V
            diag(s / b) V'`` for the singular values s and right vectors V of F, b the root of the largest singular
            value of ``F G'``; the product stays as it was. None: never.
        truth: to tell the distance from.
        seed: of the start.

    Raises:
        DataError: numbers that are not finite, a truth of another shape.
        TenfoldError: a rank or a number that cannot be, a symmetric matrix that is not square, steps so long that the
            descent is lost.

    Cost of a step: the map and its adjoint, and ``n m k``.
    Paper: "How over-parameterization slows down gradient descent in matrix sensing: the curses of symmetry and
    initialization", 2024.
    """
    n, m = sensing.shape
    _check(measurements, sensing, rank, symmetric, steps, start, truth)
    generator = torch.Generator().manual_seed(seed)
    back = sensing.adjoint(measurements)
    largest = float(torch.linalg.matrix_norm(back, 2)) if measurements.any() else 1.0
    size = 0.02 / largest if step_size is None else step_size
    whole = float(measurements.norm())
    unit = math.sqrt(largest)
    f = start * unit / math.sqrt(n) * torch.randn(n, rank, generator=generator, dtype=torch.float64)
    g = start * unit / 3 / math.sqrt(m) * torch.randn(m, rank, generator=generator, dtype=torch.float64)
    if symmetric:
        g = f
    losses: list[float] = []
    errors: list[float] = []
    anew: int | None = None
    for step in range(steps + 1):
        product = f @ g.T
        missed = sensing.measure(product) - measurements
        losses.append(float(missed.norm()))
        if truth is not None:
            errors.append(float((product - truth).norm()))
        if not losses[-1] <= _LOST * max(whole, losses[0]):
            raise TenfoldError(f"step_size {size:.3g} is too long: after {step} steps the loss only grew; give less")
        if step == steps:
            break
        if rebalance is not None and anew is None and not symmetric and losses[-1] <= rebalance * whole:
            f, g = _rebalanced(f, g, product)
            anew = step
        gradient = sensing.adjoint(missed)
        if symmetric:
            f = f - size * 0.5 * (gradient + gradient.T) @ f
            g = f
        else:
            f, g = f - size * gradient @ g, g - size * gradient.T @ f
    return SensedMatrix(f, g, tuple(losses), None if truth is None else tuple(errors), anew)


def _check(
    measurements: Tensor,
    sensing: Sensing,
    rank: int,
    symmetric: bool,
    steps: int,
    start: float,
    truth: Tensor | None,
) -> None:
    n, m = sensing.shape
    expected = sensing.measure(torch.zeros(n, m, dtype=torch.float64)).shape
    if measurements.shape != expected:
        raise DataError(f"measurements has shape {tuple(measurements.shape)}; the map gives {tuple(expected)}")
    if not torch.isfinite(measurements).all():
        raise DataError("measurements holds NaN or inf: leave such measurements out")
    if truth is not None and truth.shape != (n, m):
        raise DataError(f"truth has shape {tuple(truth.shape)}; the map takes {(n, m)}")
    if symmetric and n != m:
        raise TenfoldError(f"symmetric=True needs a square matrix, and the map takes {n} × {m}")
    for name, value in (("rank", rank), ("steps", steps)):
        if value < 1:
            raise TenfoldError(f"{name} {value} is none: give 1 or more")
    if not 0 < start < math.inf:
        raise TenfoldError(f"start {start} is no size: give a positive number")


def _rebalanced(f: Tensor, g: Tensor, product: Tensor) -> tuple[Tensor, Tensor]:
    _, s, vt = torch.linalg.svd(f, full_matrices=False)
    s = s.clamp(min=_TINY * float(s[0]))
    size = math.sqrt(float(torch.linalg.matrix_norm(product, 2)))
    return f @ (vt.T * (size / s)) @ vt, g @ (vt.T * (s / size)) @ vt
