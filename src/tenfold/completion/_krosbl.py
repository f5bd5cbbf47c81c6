"""What the forms of Kronecker-structured sparse Bayesian learning have in common.

``y = (H_1 ⊗ ... ⊗ H_K) x + n``; x has independent normal entries of variances ``γ_1 ⊗ ... ⊗ γ_K``, which are fitted:
most become zero. With ``H_k Γ_k H_kᴴ = Q_k diag(λ_k) Q_kᴴ`` the covariance of y is diagonal in the basis ``⊗ Q_k``, so
neither it nor the dictionary is ever made.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Inexact
from torch import Tensor

from tenfold.errors import DataError, TenfoldError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Variances are kept above this part of the largest of their mode, so that their reciprocals are numbers.
_SMALL = 1e-30
# From the mean squares of the entries and the variances before, of the modes' kept entries: the new variances.
Update = Callable[[Tensor, list[Tensor], list[Tensor]], list[Tensor]]


@dataclass(frozen=True, eq=False)
class SparseRecovery:
    """What was recovered of linear measurements.

    Attributes:
        mean: the posterior mean of the tensor.
        variance: the posterior variance of each entry; for a complex one of both parts together.
        scales: for each mode the prior variances; an entry's is their product. Zero where it was left out.
        noise: the variance of the noise, as given or as found.
        costs: ``yᴴ C⁻¹ y + log |C|`` before each iteration and at the end, C being the covariance of y, all divided by
            the largest measurement.
        stopped: ``"tol"``, ``"iterations"``, or ``"zero"`` where nothing was measured but zeros.
    """

    mean: Inexact[Tensor, "..."]
    variance: Float[Tensor, "..."]
    scales: tuple[Float[Tensor, " size"], ...]
    noise: float
    costs: tuple[float, ...]
    stopped: str

    @property
    def support(self) -> tuple[tuple[int, ...], ...]:
        """For each mode the places that were kept."""
        return tuple(tuple(scale.nonzero()[:, 0].tolist()) for scale in self.scales)

    def __repr__(self) -> str:
        kept = " × ".join(str(len(places)) for places in self.support)
        sizes = " × ".join(str(len(scale)) for scale in self.scales)
        return (
            f"SparseRecovery({kept} of {sizes} entries, noise variance {self.noise:.3g}, "
            f"{max(len(self.costs) - 1, 0)} iterations, stopped by {self.stopped})"
        )

    def plot(self) -> Figure:
        """The prior variances of each mode, relative to the largest."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(3 * len(self.scales), 2.5), layout="constrained")
        for mode, (axes, scale) in enumerate(
            zip(figure.subplots(1, len(self.scales), squeeze=False)[0], self.scales, strict=True)
        ):
            axes.bar(range(len(scale)), (scale / scale.max().clamp(min=1e-300)).tolist())
            axes.set_title(f"mode {mode}")
            axes.set_xlabel("entry")
        return figure


@dataclass(frozen=True, eq=False)
class Posterior:
    """Of the entries, given all variances; and the cost of these."""

    mean: Inexact[Tensor, "..."]
    variance: Float[Tensor, "..."]
    cost: float


def along(matrices: Sequence[Tensor], tensor: Tensor) -> Tensor:
    """``(A_1 ⊗ ... ⊗ A_K) vec(tensor)`` as a tensor: each matrix along its mode."""
    for mode, matrix in enumerate(matrices):
        tensor = torch.tensordot(matrix, tensor, dims=([1], [mode])).movedim(0, mode)
    return tensor


def product(vectors: Sequence[Tensor]) -> Tensor:
    """The outer product of vectors."""
    result = vectors[0]
    for vector in vectors[1:]:
        result = result[..., None] * vector
    return result


def posterior(measured: Tensor, dictionaries: Sequence[Tensor], scales: Sequence[Tensor], noise: float) -> Posterior:
    """The mean and variance of each entry.

    Costs an eigendecomposition of M_k × M_k for each mode, and products of one mode at a time.
    """
    spectra, bases, back = [], [], []
    for matrix, scale in zip(dictionaries, scales, strict=True):
        values, vectors = torch.linalg.eigh((matrix * scale) @ matrix.mH)
        spectra.append(values.clamp(min=0))
        bases.append(vectors.mH)
        back.append(scale[:, None] * (matrix.mH @ vectors))
    spread = product(spectra) + noise
    turned = along(bases, measured)
    mean = along(back, turned / spread)
    prior = product(scales)
    variance = (prior - along([part.abs().square() for part in back], 1 / spread)).clamp(min=0)
    return Posterior(mean, variance, float((turned.abs().square() / spread).sum() + spread.log().sum()))


def recover(
    measured: Tensor,
    dictionaries: Sequence[Tensor],
    noise: float | None,
    update: Update,
    prune: float | Sequence[float],
    start: float | None,
    part: float,
    iterations: int,
    tol: float,
) -> SparseRecovery:
    """Expectation maximisation: the posterior of the entries, then new variances by ``update``.

    Before each expectation the entries of a mode whose variance is below ``prune`` of its largest are left out for
    good. Without ``noise`` its variance is fitted too, from a tenth of that of what was measured. Without ``start`` all
    variances begin as ``part`` of what would explain the power of the measurements.
    """
    measured, dictionaries = _checked(measured, dictionaries)
    if noise is not None and not noise > 0:
        raise TenfoldError(f"noise {noise:g} must be positive: give its variance, or leave it out to have it fitted")
    if start is not None and not start > 0:
        raise TenfoldError(f"start {start:g} must be positive: it is the first variance of every entry")
    order = len(dictionaries)
    parts = [prune] * order if isinstance(prune, (int, float)) else list(prune)
    if len(parts) != order or not all(0 <= least < 1 for least in parts):
        raise TenfoldError(f"prune {prune} must be from 0 to 1, one number or one for each of {order} modes")
    sizes = [matrix.shape[1] for matrix in dictionaries]
    real = measured.abs().dtype
    largest = float(measured.abs().max())
    if largest == 0:
        nothing = torch.zeros(sizes, dtype=measured.dtype)
        empty = tuple(torch.zeros(size, dtype=real) for size in sizes)
        return SparseRecovery(nothing, nothing.abs(), empty, noise or 0.0, (), "zero")
    scaled = measured / largest
    # Noise below what rounding makes of the measurements cannot be told from none.
    level = max(noise / largest / largest, 1e-20) if noise is not None else 0.1 * max(float(scaled.abs().var()), 1e-12)
    kept = [torch.arange(size) for size in sizes]
    power = math.prod(float(matrix.abs().square().sum()) or 1.0 for matrix in dictionaries)
    first = part * float(scaled.abs().square().sum()) / power if start is None else start / largest / largest
    scales = balanced(
        [*(torch.ones(size, dtype=real) for size in sizes[:-1]), torch.full((sizes[-1],), first, dtype=real)]
    )
    matrices = list(dictionaries)
    costs, stopped = [], "iterations"
    for _ in range(iterations):
        for mode, least in enumerate(parts):
            keep = scales[mode] >= least * scales[mode].max()
            if not bool(keep.all()):
                kept[mode], scales[mode] = kept[mode][keep], scales[mode][keep]
                matrices[mode] = matrices[mode][:, keep]
        now = posterior(scaled, matrices, scales, level)
        costs.append(now.cost)
        before = product(scales)
        found = update(now.variance + now.mean.abs().square(), scales, kept)
        if noise is None:
            left = (scaled - along(matrices, now.mean)).abs().square().sum()
            used = (1 - now.variance / before.clamp(min=1e-300)).sum()
            level = max(float((left + level * used) / scaled.numel()), 1e-20)
        scales = [scale.clamp(min=_SMALL * float(scale.max())) for scale in found]
        moved = float((product(scales) - before).norm() / before.norm())
        if moved < tol:
            stopped = "tol"
            break
    last = posterior(scaled, matrices, scales, level)
    costs.append(last.cost)
    mean = torch.zeros(sizes, dtype=measured.dtype)
    variance = torch.zeros(sizes, dtype=real)
    where = torch.meshgrid(*kept, indexing="ij")
    mean[where], variance[where] = last.mean * largest, last.variance * largest * largest
    whole = []
    for mode, (places, scale, size) in enumerate(zip(kept, scales, sizes, strict=True)):
        filled = torch.zeros(size, dtype=real)
        filled[places] = scale * (largest * largest if mode == order - 1 else 1)
        whole.append(filled)
    noise_found = noise if noise is not None else level * largest * largest
    return SparseRecovery(mean, variance, tuple(whole), noise_found, tuple(costs), stopped)


def expected(squares: Tensor, scales: Sequence[Tensor], mode: int) -> Tensor:
    """The mean over the other modes of the squares divided by the other modes' variances."""
    ratio = squares
    for other in reversed(range(len(scales))):
        if other != mode:
            ratio = torch.tensordot(ratio, 1 / scales[other], dims=([other], [0])) / len(scales[other])
    return ratio


def balanced(scales: list[Tensor]) -> list[Tensor]:
    """The same product with all vectors but the last of norm one."""
    last = scales[-1]
    unit = []
    for scale in scales[:-1]:
        norm = scale.norm()
        unit.append(scale / norm)
        last = last * norm
    return [*unit, last]


def _checked(measured: Tensor, dictionaries: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    if not dictionaries:
        raise DataError("dictionaries is empty: give a matrix for each mode")
    rows = tuple(matrix.shape[0] for matrix in dictionaries)
    total = int(torch.tensor(rows).prod())
    if measured.numel() != total or total == 0 or 0 in (matrix.shape[1] for matrix in dictionaries):
        raise DataError(
            f"measured has {measured.numel()} entries: give {' × '.join(map(str, rows))} for these matrices"
        )
    for name, tensors in (("measured", [measured]), ("dictionaries", dictionaries)):
        if not all(bool(torch.isfinite(tensor).all()) for tensor in tensors):
            raise DataError(f"{name} holds NaN or inf: a measurement of which nothing is known cannot be given")
    dtype = torch.float64
    for tensor in (measured, *dictionaries):
        dtype = torch.promote_types(dtype, tensor.dtype)
    return measured.reshape(rows).to(dtype), [matrix.to(dtype) for matrix in dictionaries]
