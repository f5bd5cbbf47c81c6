"""Image series from few of their Fourier coefficients: total variation and nuclear norms, in space and in time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Complex, Float
from torch import Tensor

from tenfold.errors import DataError, TenfoldError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Squared norms of the differences in space and in time, and of the two unfoldings.
_NORMS = 8 + 4 + 1 + 1
# Dual step: images are of size one, dual variables of the size of the penalties.
_SIGMA = 0.05
# Steps from one objective to the next: it takes as long as a step. The end is looked for as often.
_EVERY = 10
_LEAST = 1e-300


@dataclass(frozen=True, eq=False, repr=False)
class ImageSeries:
    """What was reconstructed.

    Attributes:
        images: the series.
        error: the part of the measurements in the image domain that is taken for error.
        objectives: after every ten steps and at the end, of the data divided by the largest modulus of the zero-filled
            images.
        steps: how many were taken.
        stopped: ``"tol"`` or ``"steps"``.
        zero_filled: what the inverse Fourier transform makes of the samples alone.
    """

    images: Complex[Tensor, "h w t"]
    error: Complex[Tensor, "h w t"]
    objectives: tuple[float, ...]
    steps: int
    stopped: str
    zero_filled: Complex[Tensor, "h w t"]

    def __repr__(self) -> str:
        h, w, t = self.images.shape
        return (
            f"ImageSeries({h} × {w}, {t} frames, {self.steps} steps ({self.stopped}), objective "
            f"{self.objectives[-1]:.4g})"
        )

    def plot(self, truth: Complex[Tensor, "h w t"] | None = None, frames: int = 4) -> Figure:
        """Some frames in grey, zero-filled and reconstructed, and the truth where it is known, in one scale."""
        from matplotlib.figure import Figure

        rows = {"zero-filled": self.zero_filled, "reconstructed": self.images}
        if truth is not None:
            rows["truth"] = truth
        count = min(frames, self.images.shape[2])
        chosen = [round(place * self.images.shape[2] / count) for place in range(count)]
        figure = Figure(figsize=(1.6 * count + 0.4, 1.7 * len(rows)), layout="constrained")
        grid = figure.subplots(len(rows), count, squeeze=False)
        brightest = float((self.images if truth is None else truth).abs().max())
        for axes, (name, series) in zip(grid, rows.items(), strict=True):
            for place, frame in zip(axes, chosen, strict=True):
                place.imshow(series[:, :, frame].abs().numpy(), cmap="gray", vmin=0, vmax=brightest)
                place.set_xticks([])
                place.set_yticks([])
            axes[0].set_ylabel(name)
        for place, frame in zip(grid[0], chosen, strict=True):
            place.set_title(f"frame {frame}", fontsize=9)
        return figure


def dynamic_mri(
    samples: Complex[Tensor, "h w t"],
    mask: Bool[Tensor, "h w t"],
    *,
    spatial_variation: float = 1e-3,
    temporal_variation: float = 2e-3,
    spatial_nuclear: float = 0.02,
    temporal_nuclear: float = 0.05,
    error: float | None = 1.0,
    steps: int = 200,
    tol: float = 1e-5,
    callback: Callable[[int, float], None] | None = None,
) -> ImageSeries:
    """Split what was measured into an image series, smooth and of low rank, and an error.

    Minimises ``|M F(X + E) - b|^2 / 2 + a TV_s(X) + b TV_t(X) + c |X_s|_* + d |X_t|_* + e |E|^2 / 2``, F the unitary
    Fourier transform of each frame and M the mask: total variation in space (of both differences together) and in
    time, nuclear norms of the series as ``h × w t`` and as ``h w × t`` matrix. The method is the primal-dual one of
    Condat and Vu. Penalties are for data whose zero-filled images have the largest modulus one; data come in any scale.

    Without the penalties of one kind the other remains: none of the nuclear norms is total variation, none of the
    variations is recovery of low rank. With a whole mask and no penalties the result is the inverse transform.

    Args:
        samples: Fourier coefficients of the frames, as of ``torch.fft.fft2(..., norm="ortho")``: frequency zero at
            ``[0, 0]``. What is outside the mask is not read.
        mask: what was measured.
        spatial_variation: a, at least 0, as the next three.
        temporal_variation: b.
        spatial_nuclear: c.
        temporal_nuclear: d.
        error: e; None: there is no E.
        steps: at most.
        tol: stop when a step changes images and dual variables by less than this, relatively.
        callback: called after every ten steps with their number and the objective.

    Raises:
        DataError: shapes that do not agree, nothing measured, NaN or inf among what was.
        TenfoldError: a negative penalty.

    Cost of a step: two Fourier transforms of the series, and ``h w t (h + t)`` for the nuclear norms.
    Papers: "Robust depth linear error decomposition with double total variation and nuclear norm for dynamic MRI
    reconstruction", 2023, of whose model this is our reading; "A primal-dual splitting method for convex optimization
    involving Lipschitzian, proximable and linear composite terms", 2013.
    """
    weights = {
        "spatial_variation": spatial_variation,
        "temporal_variation": temporal_variation,
        "spatial_nuclear": spatial_nuclear,
        "temporal_nuclear": temporal_nuclear,
        "error": 1.0 if error is None else error,
    }
    _check(samples, mask, weights)
    if steps < 1:
        raise TenfoldError(f"steps {steps} is none: give 1 or more")
    largest = float(samples[mask].abs().max()) or 1.0
    b = torch.where(mask, samples / largest, 0).to(torch.complex128)
    filled = backward(b)
    scale = float(filled.abs().max()) or 1.0
    b, x = b / scale, filled / scale
    e = torch.zeros_like(x)
    p = torch.zeros(2, *x.shape, dtype=x.dtype)
    q, r, s = (torch.zeros_like(x) for _ in range(3))
    tau = 1 / (1 + _SIGMA * _NORMS)
    objectives: list[float] = []
    stopped, taken = "steps", 0
    missed = torch.zeros_like(x)  # of the zero-filled images nothing
    for step in range(steps):
        smooth = backward(missed)
        new = x - tau * (smooth + space_adjoint(p) + time_adjoint(q) + r + s)
        if error is not None:
            e = (e - tau * smooth) / (1 + tau * error)
        ahead = 2 * new - x
        before = p, q, r, s
        p = _clipped(p + _SIGMA * space(ahead), spatial_variation, pointwise=True)
        q = _clipped(q + _SIGMA * time(ahead), temporal_variation, pointwise=False)
        r = _spectral(r + _SIGMA * ahead, spatial_nuclear, 1)
        s = _spectral(s + _SIGMA * ahead, temporal_nuclear, 2)
        last, x = x, new
        missed = torch.where(mask, forward(x + e) - b, 0)
        taken = step + 1
        if taken % _EVERY and taken < steps:
            continue
        objectives.append(0.5 * _norm(missed) ** 2 + _penalties(x, e, weights))
        if callback is not None:
            callback(taken, objectives[-1])
        if _apart((x, p, q, r, s), (last, *before)) <= tol:
            stopped = "tol"
            break
    unit = largest * scale
    return ImageSeries(x * unit, e * unit, tuple(objectives), taken, stopped, filled * largest)


def forward(series: Tensor) -> Tensor:
    """The unitary Fourier transform of each frame."""
    return torch.fft.fft2(series, dim=(0, 1), norm="ortho")


def backward(coefficients: Tensor) -> Tensor:
    """Its inverse, which is its adjoint."""
    return torch.fft.ifft2(coefficients, dim=(0, 1), norm="ortho")


def space(series: Tensor) -> Tensor:
    """Periodic differences along both axes of the frames."""
    return torch.stack([series.roll(-1, axis) - series for axis in (0, 1)])


def space_adjoint(differences: Tensor) -> Tensor:
    """The adjoint of `space`."""
    return sum(
        (differences[axis].roll(1, axis) - differences[axis] for axis in (0, 1)), torch.zeros_like(differences[0])
    )


def time(series: Tensor) -> Tensor:
    """Periodic differences from frame to frame."""
    return series.roll(-1, 2) - series


def time_adjoint(differences: Tensor) -> Tensor:
    """The adjoint of `time`."""
    return differences.roll(1, 2) - differences


def _apart(now: tuple[Tensor, ...], before: tuple[Tensor, ...]) -> float:
    """The largest relative change of one of them."""
    return max(_norm(a - b) / max(_norm(a), _LEAST) for a, b in zip(now, before, strict=True))


def _norm(series: Tensor) -> float:
    # Ten times as fast as that of complex numbers.
    return float(torch.linalg.vector_norm(torch.view_as_real(series)))


def _clipped(dual: Tensor, most: float, *, pointwise: bool) -> Tensor:
    """Vectors (of two differences, or single numbers) that are longer than ``most`` are cut to that."""
    length = dual.abs().square().sum(0, keepdim=True).sqrt() if pointwise else dual.abs()
    return dual * (most / length.clamp(min=max(most, _LEAST)))


def _spectral(dual: Tensor, most: float, axes: int) -> Tensor:
    """Singular values of an unfolding, its first ``axes`` axes against the others, cut to ``most``."""
    matrix = dual.flatten(0, axes - 1).flatten(1)
    tall = matrix.shape[0] > matrix.shape[1]
    squares, vectors = torch.linalg.eigh(matrix.mH @ matrix if tall else matrix @ matrix.mH)
    factor = most / squares.clamp(min=max(most * most, _LEAST)).sqrt()
    turned = (vectors * factor) @ vectors.mH
    return (matrix @ turned if tall else turned @ matrix).reshape(dual.shape)


def _penalties(x: Tensor, e: Tensor, weights: dict[str, float]) -> float:
    total = 0.5 * weights["error"] * _norm(e) ** 2
    if weights["spatial_variation"]:
        total += weights["spatial_variation"] * float(space(x).abs().square().sum(0).sqrt().sum())
    if weights["temporal_variation"]:
        total += weights["temporal_variation"] * float(time(x).abs().sum())
    for name, axes in (("spatial_nuclear", 1), ("temporal_nuclear", 2)):
        if weights[name]:
            matrix = x.flatten(0, axes - 1).flatten(1)
            gram = matrix @ matrix.mH if axes == 1 else matrix.mH @ matrix
            total += weights[name] * float(torch.linalg.eigvalsh(gram).clamp(min=0).sqrt().sum())
    return total


def _check(samples: Tensor, mask: Tensor, weights: dict[str, float]) -> None:
    if samples.ndim != 3:
        raise DataError(f"samples has shape {tuple(samples.shape)}: give height × width × frames")
    if mask.shape != samples.shape or mask.dtype != torch.bool:
        raise DataError(
            f"mask is {mask.dtype} of shape {tuple(mask.shape)}: give bool of the samples' {tuple(samples.shape)}"
        )
    if not mask.any():
        raise DataError("mask has no True: nothing was measured")
    if not torch.isfinite(torch.view_as_real(samples[mask].to(torch.complex128))).all():
        raise DataError("samples holds NaN or inf where the mask is True: take them out of the mask")
    for name, value in weights.items():
        if not 0 <= value < math.inf:
            raise TenfoldError(f"{name} is {value}: give a finite number of at least 0")


def psnr(series: Float[Tensor, "h w t"] | Complex[Tensor, "h w t"], truth: Tensor) -> float:
    """The peak signal-to-noise ratio in dB: the largest modulus of the truth over the root mean square error."""
    return 20 * math.log10(float(truth.abs().max()) / max(float((series - truth).abs().square().mean().sqrt()), _LEAST))
