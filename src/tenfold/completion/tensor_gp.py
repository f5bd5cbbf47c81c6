"""Tensor-GP: a number told from each of many pictures, by a Gaussian process that sees them through few small maps.

Pictures are contracted by one matrix from each side, whose rows are made of few patches (total variation and absolute
size are penalised), and the process has a multilinear kernel on what is left. Not a method of `Task`: its data are
whole tensors, not cells of one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from tenfold.completion.model import Prediction
from tenfold.errors import DataError, TenfoldError
from tenfold.linalg.total_variation import prox_total_variation, total_variation

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Of a step, what it shrinks and grows by, the least before it is given up, and what it is the next time.
_SHRINK, _GROW, _LEAST, _RETRY = 0.5, 2.0, 1e-14, 1e-6


@dataclass(frozen=True, eq=False)
class TensorGP:
    """A fitted process.

    Attributes:
        rows: the contraction A of the first axis of pictures; None without contraction.
        columns: B, of the second.
        factors: of the kernel of each axis: its matrix is U'U.
        noise: the variance of an observation around the process.
        errors: the objective after each iteration, in nats; it never rises.
        stopped: ``"tol"``, ``"iterations"``, or ``"zero"`` where the penalty left nothing of the contraction.
    """

    rows: Float[Tensor, "h H"] | None
    columns: Float[Tensor, "w W"] | None
    factors: tuple[Float[Tensor, "r1 h"], Float[Tensor, "r2 w"], Float[Tensor, "r3 C"]]
    noise: float
    errors: tuple[float, ...]
    stopped: str
    _weights: Float[Tensor, " r"]
    _covariance: Float[Tensor, "r r"]
    _units: tuple[float, float, float]

    def predict(self, pictures: Float[Tensor, "m H W C"]) -> Prediction:
        """The mean, the variance of the process and the noise, at other pictures.

        Raises `DataError` for pictures of another shape, or with NaN.
        """
        left, right = self._sides
        given = (left.shape[1], right.shape[1], self.factors[2].shape[1])
        if tuple(pictures.shape[1:]) != given:
            raise DataError(f"pictures have shape {tuple(pictures.shape[1:])}: give {given} as in the fit")
        if not torch.isfinite(pictures).all():
            raise DataError("pictures hold NaN or inf: leave such pictures out")
        size, shift, spread = self._units
        features = _features(pictures.double() / size, left, right, self.factors[2]).flatten(1)
        mean = features @ self._weights * spread + shift
        variance = ((features @ self._covariance) * features).sum(1).clamp(min=0) * spread * spread
        return Prediction(mean, variance, torch.tensor(self.noise, dtype=torch.float64))

    @property
    def maps(self) -> Float[Tensor, "n H W"]:
        """How much each pixel counts in each number that pictures are contracted to.

        Without contraction, in each pair of rows of the first two factors of the kernel.
        """
        left = self.factors[0] if self.rows is None else self.rows
        right = self.factors[1] if self.columns is None else self.columns
        return torch.einsum("hi,wj->hwij", left, right).flatten(0, 1)

    def support(self, part: float = 0.1) -> Float[Tensor, "H W"]:
        """Which pixels any map counts with more than ``part`` of the largest weight of all maps."""
        sizes = self.maps.abs()
        return (sizes > part * sizes.max()).any(0)

    def plot(self) -> Figure:
        """The maps, a panel each, in the same colours."""
        from matplotlib.figure import Figure

        maps = self.maps
        left = self.factors[0] if self.rows is None else self.rows
        down, across = len(left), len(maps) // len(left)
        figure = Figure(figsize=(1.7 * across, 1.7 * down), layout="constrained")
        largest = float(maps.abs().max()) or 1.0
        panels = figure.subplots(down, across, squeeze=False).ravel()
        for number, (axes, one) in enumerate(zip(panels, maps, strict=True)):
            axes.imshow(one.numpy(), cmap="RdBu_r", vmin=-largest, vmax=largest)
            axes.set_title(f"{number // across}, {number % across}", fontsize=8)
            axes.set_xticks([])
            axes.set_yticks([])
        return figure

    def __repr__(self) -> str:
        left, right = self._sides
        seen = f"{left.shape[1]} × {right.shape[1]} × {self.factors[2].shape[1]}"
        kind = "without contraction" if self.rows is None else f"by {len(self.rows)} × {len(self.columns)} maps"  # type: ignore[arg-type]
        return (
            f"TensorGP of pictures {seen} {kind}: {len(self._weights)} features, noise {math.sqrt(self.noise):.3g}, "
            f"objective {self.errors[-1]:.1f} nats after {len(self.errors)} iterations ({self.stopped})"
        )

    @property
    def _sides(self) -> tuple[Tensor, Tensor]:
        left = self.factors[0] if self.rows is None else self.factors[0] @ self.rows
        right = self.factors[1] if self.columns is None else self.factors[1] @ self.columns
        return left, right


def _features(
    pictures: Float[Tensor, "n H W C"],
    left: Float[Tensor, "r1 H"],
    right: Float[Tensor, "r2 W"],
    channels: Float[Tensor, "r3 C"],
) -> Float[Tensor, "n r1 r2 r3"]:
    """Pictures contracted from all sides."""
    narrow = torch.einsum("nhwc,sc->nhws", pictures, channels)
    return torch.einsum("nhqs,ph->npqs", torch.einsum("nhws,qw->nhqs", narrow, right), left)


@dataclass(frozen=True)
class Likelihood:
    """The negative log likelihood of values under a process with the Gram matrix of features, and its gradients.

    Attributes:
        value: in nats.
        features: gradient by the features.
        log_noise: gradient by the logarithm of the noise variance.
        weights: the mean of the linear model in the features.
        covariance: of these weights.
    """

    value: float
    features: Float[Tensor, "n r"]
    log_noise: float
    weights: Float[Tensor, " r"]
    covariance: Float[Tensor, "r r"]

    @classmethod
    def of(cls, features: Float[Tensor, "n r"], values: Float[Tensor, " n"], log_noise: float) -> Likelihood:
        """Costs O(n r^2 + r^3)."""
        count, rank = features.shape
        noise = math.exp(log_noise)
        gram = features.T @ features
        factor = torch.linalg.cholesky(gram + noise * torch.eye(rank, dtype=gram.dtype))
        weights = torch.cholesky_solve((features.T @ values)[:, None], factor)[:, 0]
        inverse = torch.cholesky_inverse(factor)
        residual = values - features @ weights
        quadratic = float(residual.square().sum()) / noise + float(weights.square().sum())
        determinant = (count - rank) * log_noise + 2 * float(factor.diagonal().log().sum())
        by_features = features @ inverse - torch.outer(residual, weights) / noise
        trace = (count - rank) / noise + float(inverse.trace())
        by_noise = 0.5 * noise * (trace - float(residual.square().sum()) / noise**2)
        value = 0.5 * (determinant + quadratic + count * math.log(2 * math.pi))
        return cls(value, by_features, by_noise, weights, noise * inverse)


def gradient_by_sides(
    pictures: Float[Tensor, "n H W C"], by_features: Float[Tensor, "n r1 r2 r3"], sides: tuple[Tensor, Tensor, Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradient by each of the three matrices that pictures are contracted with."""
    left, right, channels = sides
    narrow = torch.einsum("nhwc,sc->nhws", pictures, channels)
    by_left = torch.einsum("nhqs,npqs->ph", torch.einsum("nhws,qw->nhqs", narrow, right), by_features)
    by_right = torch.einsum("npws,npqs->qw", torch.einsum("nhws,ph->npws", narrow, left), by_features)
    sums = torch.einsum("nhwc,ph->npwc", pictures, left)
    by_channels = torch.einsum("npqc,npqs->sc", torch.einsum("npwc,qw->npqc", sums, right), by_features)
    return by_left, by_right, by_channels


def tensor_gp(
    pictures: Float[Tensor, "n H W C"],
    values: Float[Tensor, " n"],
    *,
    maps: tuple[int, int] | None = (3, 3),
    rank: tuple[int, int, int] = (3, 3, 3),
    penalty: float = 30.0,
    iterations: int = 300,
    tol: float = 1e-6,
    seed: int = 0,
) -> TensorGP:
    """Fit a Gaussian process to a number for each picture.

    Pictures ``X`` are contracted to ``A X B'`` in each channel, and the covariance of two is the multilinear kernel
    with the matrices ``U'U`` on what is left. The objective is the negative log likelihood of the values (of mean zero
    and variance one), plus ``penalty`` times the total variation of the maps ``A ⊗ B``. Each ``U`` has norm one: else
    the penalty would be evaded by a small ``B`` and large ``U``. Contractions start as means over equal parts, and warm
    up under smaller penalties, which ``errors`` does not tell of.

    Args:
        pictures: of height H and width W in C channels.
        values: one for each.
        maps: rows of A and B; None leaves pictures as they are.
        rank: rows of U for height, width and channels.
        penalty: of total variation, in nats.
        iterations: at most, after the warm-up.
        tol: relative fall of the objective at which it ends.
        seed: fixes the start of U.

    Returns the fitted process.

    Raises:
        DataError: no picture, shapes that do not agree, NaN.
        TenfoldError: an option out of its range.

    Cost: O(n H W (C + r3 (r1 + r2)) + n r^2 + r^3) for each step tried, with r the product of the ranks.
    Paper: "Tensor Gaussian process with contraction for multi-channel imaging analysis", 2023.
    """
    if pictures.ndim != 4 or values.ndim != 1 or len(pictures) != len(values):
        raise DataError(
            f"pictures have shape {tuple(pictures.shape)} and values {tuple(values.shape)}: give (n, H, W, C) and (n,)"
        )
    if not pictures.numel():
        raise DataError("pictures are empty: give at least one")
    if not (torch.isfinite(pictures).all() and torch.isfinite(values).all()):
        raise DataError("pictures or values hold NaN or inf: leave such pictures out")
    numbers = {"maps": min(maps or (1,)), "rank": min(rank), "iterations": iterations}
    for name, given in numbers.items():
        if not given > 0:
            raise TenfoldError(f"{name} {given} must be positive")
    if not penalty >= 0:
        raise TenfoldError(f"penalty {penalty} must not be negative")
    size = float(pictures.abs().max()) or 1.0
    size *= float((pictures.double() / size).square().mean().sqrt()) or 1.0
    unit = values.double() / (float(values.abs().max()) or 1.0)
    spread = float(unit.std(correction=0))
    spread = spread if spread > 1e-12 else 1.0
    targets = (unit - unit.mean()) / spread
    scale = float(values.abs().max()) or 1.0
    generator = torch.Generator().manual_seed(seed)
    fit = _Fit(pictures.double() / size, targets, maps, rank, penalty, generator)
    fit.warm_up(min(iterations, _WARM), tol)
    fit.run(iterations, tol)
    likelihood = fit.likelihood
    return TensorGP(
        fit.rows if maps else None,
        fit.columns if maps else None,
        (fit.factors[0], fit.factors[1], fit.factors[2]),
        math.exp(fit.log_noise) * (spread * scale) * (spread * scale),
        tuple(fit.errors),
        fit.stopped,
        likelihood.weights,
        likelihood.covariance,
        (size, float(unit.mean()) * scale, spread * scale),
    )


# Of the penalty, the parts under which a fit warms up, and for how many iterations each.
_PARTS, _WARM = (0.01, 0.1), 20
# The least noise, as a part of the variance of the values: without any the likelihood has no bound.
_LEAST_NOISE = 1e-6


def _pooling(count: int, length: int) -> Float[Tensor, "count length"]:
    """Rows that take the mean of one part of the axis each."""
    part = torch.arange(length) * count // length
    rows = (part == torch.arange(count)[:, None]).double()
    return rows / rows.sum(1, keepdim=True).clamp(min=1)


class _Fit:
    """The alternating proximal gradient method."""

    def __init__(
        self,
        pictures: Tensor,
        values: Tensor,
        maps: tuple[int, int] | None,
        rank: tuple[int, int, int],
        penalty: float,
        generator: torch.Generator,
    ) -> None:
        def normal(rows: int, columns: int) -> Tensor:
            return torch.randn(rows, columns, generator=generator, dtype=torch.float64)

        _, height, width, channels = pictures.shape
        self.pictures, self.values = pictures, values
        self.contracts = maps is not None
        self.penalty = penalty if self.contracts else 0.0
        high, wide = maps or (height, width)
        # Without contraction A and B stay what they are.
        self.rows = _pooling(high, height) if self.contracts else torch.eye(height, dtype=torch.float64)
        self.columns = _pooling(wide, width) if self.contracts else torch.eye(width, dtype=torch.float64)
        if self.contracts:
            self.rows /= self.rows.norm()
        self.factors = [normal(rank[0], high), normal(rank[1], wide), normal(rank[2], channels)]
        self.factors = [factor / factor.norm() for factor in self.factors]
        self.log_noise = math.log(0.25)
        # Such that the process explains what it has to.
        sides = (self.factors[0] @ self.rows, self.factors[1] @ self.columns, self.factors[2])
        lift = float(_features(pictures, *sides).square().sum((1, 2, 3)).mean().sqrt()) or 1.0
        lifted = self.columns if self.contracts else self.factors[2]
        lifted /= lift
        self.likelihood, self.features = self._seen(
            _features(pictures, self.factors[0] @ self.rows, self.factors[1] @ self.columns, self.factors[2])
        )
        self.steps = dict.fromkeys(("rows", "columns", "factors", "noise"), 1e-2)
        self.objective = self._objective()
        self.errors: list[float] = []
        self.stopped = "iterations"

    def warm_up(self, iterations: int, tol: float) -> None:
        """Iterations under smaller penalties, ``iterations`` for each.

        Under the whole penalty a contraction that does not yet explain anything is shrunk to nothing, and stays so.
        """
        penalty = self.penalty
        for part in _PARTS if penalty else ():
            self.penalty = part * penalty
            self.objective = self._objective()
            self.run(iterations, tol)
            self.errors, self.stopped = [], "iterations"
        self.penalty = penalty
        self.objective = self._objective()

    def run(self, iterations: int, tol: float) -> None:
        """Iterations until there have been so many, or the objective falls by less than ``tol`` of its size."""
        while len(self.errors) < iterations:
            before = self.objective
            if self.contracts:
                self._contraction("rows")
                self._contraction("columns")
                norm = float(self.rows.norm())
                if not norm or not float(self.columns.norm()):
                    self.stopped = "zero"
                else:
                    # Neither the process nor the penalty sees how a scale is shared between them.
                    self.rows, self.columns = self.rows / norm, self.columns * norm
            self._factors()
            self._noise()
            self.errors.append(self.objective)
            if before - self.objective <= tol * max(1.0, abs(self.objective)):
                self.stopped = "tol" if self.stopped != "zero" else "zero"
                return

    def _seen(self, features: Tensor) -> tuple[Likelihood, Tensor]:
        flat = features.flatten(1)
        return Likelihood.of(flat, self.values, self.log_noise), flat

    def _by_features(self) -> Float[Tensor, "n r1 r2 r3"]:
        return self.likelihood.features.reshape(len(self.values), *(len(factor) for factor in self.factors))

    def _objective(self) -> float:
        return self.likelihood.value + self._penalty()

    def _penalty(self) -> float:
        if not self.penalty:
            return 0.0
        a, b = self.rows, self.columns
        steps = float(total_variation(a) * b.abs().sum() + a.abs().sum() * total_variation(b))
        return self.penalty * steps

    def _contraction(self, name: str) -> None:
        """A proximal gradient step on A or B, as long as the quadratic bound of the likelihood holds."""
        first = name == "rows"
        now, other = (self.rows, self.columns) if first else (self.columns, self.rows)
        factor, opposite = (self.factors[0], self.factors[1]) if first else (self.factors[1], self.factors[0])
        # Everything but this contraction is done once: pictures as "n i q s", to be contracted over i.
        narrow = torch.einsum("nhwc,sc->nhws", self.pictures, self.factors[2])
        if first:
            narrow = torch.einsum("nhws,qw->nhqs", narrow, opposite @ other)
            by_features = self._by_features()
        else:
            narrow = torch.einsum("nhws,ph->nwps", narrow, opposite @ other)
            by_features = self._by_features().transpose(1, 2)
        gradient = factor.T @ torch.einsum("niqs,npqs->pi", narrow, by_features)
        along, alone = float(other.abs().sum()), float(total_variation(other))
        step = self.steps[name]
        while step > _LEAST:
            # The proximal map of both is that of total variation and then that of absolute values.
            moved = prox_total_variation(now - step * gradient, step * self.penalty * along)
            moved = moved.sign() * (moved.abs() - step * self.penalty * alone).clamp(min=0)
            change = moved - now
            features = torch.einsum("niqs,pi->npqs", narrow, factor @ moved)
            found = self._seen(features if first else features.transpose(1, 2))
            allowed = float((gradient * change).sum()) + float(change.square().sum()) / (2 * step)
            if found[0].value <= self.likelihood.value + allowed:
                kept = (self.rows, self.columns, self.likelihood, self.features)
                self.rows, self.columns = (moved, other) if first else (other, moved)
                self.likelihood, self.features = found
                objective = self._objective()
                if objective <= self.objective:
                    self.objective = objective
                    self.steps[name] = step * _GROW
                    return
                self.rows, self.columns, self.likelihood, self.features = kept
            step *= _SHRINK
        self.steps[name] = _RETRY

    def _factors(self) -> None:
        """A gradient step on all U together."""
        small = self.pictures
        if self.contracts:
            small = torch.einsum("nhwc,ih->niwc", small, self.rows)
            small = torch.einsum("niwc,jw->nijc", small, self.columns)
        gradients = gradient_by_sides(small, self._by_features(), (self.factors[0], self.factors[1], self.factors[2]))
        # All but the scale, which B has (U3 without contraction): or the penalty would be evaded by a small B.
        fixed = [True, True, self.contracts]
        descents = [
            g - (g * u).sum() / u.square().sum() * u if unit else g
            for g, u, unit in zip(gradients, self.factors, fixed, strict=True)
        ]
        square = sum(float(g.square().sum()) for g in descents)
        step = self.steps["factors"]
        kept = (self.factors, self.likelihood, self.features)
        while step > _LEAST:
            moved = [u - step * g for u, g in zip(kept[0], descents, strict=True)]
            self.factors = [u / u.norm() if unit else u for u, unit in zip(moved, fixed, strict=True)]
            self.likelihood, self.features = self._seen(_features(small, *self.factors))
            objective = self._objective()
            if objective <= self.objective - 0.5 * step * square:
                self.objective = objective
                self.steps["factors"] = step * _GROW
                return
            step *= _SHRINK
        self.factors, self.likelihood, self.features = kept
        self.steps["factors"] = _RETRY

    def _noise(self) -> None:
        """A gradient step on the logarithm of the noise."""
        gradient = self.likelihood.log_noise
        step = self.steps["noise"]
        while step > _LEAST:
            moved = max(self.log_noise - step * gradient, math.log(_LEAST_NOISE))
            found = Likelihood.of(self.features, self.values, moved)
            if found.value <= self.likelihood.value + 0.5 * gradient * (moved - self.log_noise):
                self.objective += found.value - self.likelihood.value
                self.log_noise, self.likelihood = moved, found
                self.steps["noise"] = step * _GROW
                return
            step *= _SHRINK
        self.steps["noise"] = _RETRY
