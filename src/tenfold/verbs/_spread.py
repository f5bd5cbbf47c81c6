"""How far observations lie from what is predicted: distributions whose width held-out observations have set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

# A Student t with fewer degrees of freedom than this has a variance that says little.
_LEAST, _MOST = 2.2, 200.0
# Counts: the least share of the variance that is not the Poisson one.
_NARROW = 1e-6
_TINY = float(np.finfo(np.float64).tiny)


@dataclass(frozen=True)
class Gaussian:
    """Observations around the prediction: normal, or Student's t where their tails are heavier.

    Attributes:
        scale: what the predicted standard deviation is multiplied by.
        degrees: degrees of freedom; inf is the normal distribution.
    """

    scale: float = 1.0
    degrees: float = np.inf

    @classmethod
    def fitted(cls, off: np.ndarray, deviation: np.ndarray) -> Gaussian:
        """The distribution that half and nine tenths of the held-out observations are within the intervals of.

        Args:
            off: observed minus predicted.
            deviation: the predicted standard deviations.

        Paper: "A tutorial on conformal prediction", 2008, for the quantile with its correction for few observations.
        """
        apart = np.sort(np.abs(off) / np.maximum(deviation, _TINY))
        half, most = (_conformal(apart, level) for level in (0.5, 0.9))
        if not (np.isfinite(most) and most > 0):
            return cls()
        degrees = _LEAST if half <= 0 else _degrees(most / half)
        return cls(float(most / _quantile(0.95, degrees)), degrees)

    def carried(self, before: tuple[np.ndarray, np.ndarray], after: tuple[np.ndarray, np.ndarray]) -> Gaussian:
        """The same for another fit of the model, whose own residuals may be narrower or wider for what it predicts.

        Args:
            before, after: residuals and predicted standard deviations where both were fitted.
        """
        old, new = (_conformal(np.sort(np.abs(off) / np.maximum(wide, _TINY)), 0.9) for off, wide in (before, after))
        return self if not (old > 0 and new > 0) else Gaussian(self.scale * new / old, self.degrees)

    def quantile(self, q: float, mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
        return mean + self.scale * deviation * _quantile(q, self.degrees)

    def covered(self, value: np.ndarray, mean: np.ndarray, deviation: np.ndarray, level: float) -> np.ndarray:
        """One for each observation that is within its central interval, else zero."""
        half = self.scale * deviation * _quantile((1 + level) / 2, self.degrees)
        return (np.abs(value - mean) <= half).astype(np.float64)

    def deviation(self, mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
        """The standard deviation of an observation."""
        wide = 1.0 if np.isinf(self.degrees) else np.sqrt(self.degrees / (self.degrees - 2))
        return self.scale * deviation * wide

    def log_density(self, value: np.ndarray, mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
        from scipy import stats

        width = np.maximum(self.scale * deviation, _TINY)
        family = stats.norm if np.isinf(self.degrees) else stats.t(self.degrees)
        return np.asarray(family.logpdf((value - mean) / width) - np.log(width))

    def sample(self, count: int, mean: np.ndarray, deviation: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        drawn = generator.standard_normal((count, len(mean)))
        if not np.isinf(self.degrees):
            drawn /= np.sqrt(generator.chisquare(self.degrees, (count, len(mean))) / self.degrees)
        return mean + self.scale * deviation * drawn

    def record(self) -> dict[str, Any]:
        return {"kind": "gaussian", "scale": self.scale, "degrees": None if np.isinf(self.degrees) else self.degrees}


@dataclass(frozen=True)
class Counts:
    """Counts around an expected count: Poisson, or negative binomial where they are spread wider.

    Attributes:
        scale: what the variance beyond that of a Poisson count is multiplied by.
    """

    scale: float = 1.0

    @classmethod
    def fitted(cls, value: np.ndarray, mean: np.ndarray, deviation: np.ndarray) -> Counts:
        """The scale at which nine tenths of held-out counts are within their intervals, on the whole.

        Counts are whole numbers, so what is within is weighed by the share of the probability at the ends.
        """
        scales = np.geomspace(1e-3, 1e3, 61)
        off = [abs(float(np.mean(cls(scale).covered(value, mean, deviation, 0.9))) - 0.9) for scale in scales]
        least = min(off)
        near = [scale for scale, one in zip(scales, off, strict=True) if one <= least + 1e-12]
        return cls(float(near[len(near) // 2]))

    def covered(self, value: np.ndarray, mean: np.ndarray, deviation: np.ndarray, level: float) -> np.ndarray:
        """The share of each count that is within its central interval."""
        below = self._cumulative(value - 1, mean, deviation)
        up_to = self._cumulative(value, mean, deviation)
        low, high = (1 - level) / 2, (1 + level) / 2
        inside = np.clip(np.minimum(up_to, high) - np.maximum(below, low), 0, None)
        return inside / np.maximum(up_to - below, _TINY)

    def _family(self, mean: np.ndarray, deviation: np.ndarray) -> Any:
        from scipy import stats

        rate = np.maximum(mean, 1e-12)
        beyond = np.maximum(self.scale * deviation**2, _NARROW * rate)
        return stats.nbinom(rate**2 / beyond, rate / (rate + beyond))

    def _cumulative(self, value: np.ndarray, mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
        return np.asarray(self._family(mean, deviation).cdf(value))

    def quantile(self, q: float, mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
        return np.asarray(self._family(mean, deviation).ppf(q), dtype=np.float64)

    def deviation(self, mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
        """The standard deviation of a count."""
        return np.asarray(self._family(mean, deviation).std())

    def log_density(self, value: np.ndarray, mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
        return np.asarray(self._family(mean, deviation).logpmf(value))

    def sample(self, count: int, mean: np.ndarray, deviation: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        return np.asarray(
            self._family(mean, deviation).rvs((count, len(mean)), random_state=generator), dtype=np.float64
        )

    def record(self) -> dict[str, Any]:
        return {"kind": "counts", "scale": self.scale}


Spread = Gaussian | Counts


def spread_of(record: Mapping[str, Any]) -> Spread:
    """The spread that ``record`` was made of. Raises KeyError, TypeError or ValueError for anything else."""
    if record["kind"] == "counts":
        return Counts(float(record["scale"]))
    if record["kind"] != "gaussian":
        raise ValueError(f"spread {record['kind']!r} is not known")
    return Gaussian(float(record["scale"]), np.inf if record["degrees"] is None else float(record["degrees"]))


def _conformal(ordered: np.ndarray, level: float) -> float:
    place = int(np.ceil(level * (len(ordered) + 1))) - 1
    return float(ordered[min(place, len(ordered) - 1)])


def _quantile(q: float, degrees: float) -> float:
    from scipy import special  # scipy.stats takes longer to load than a question to answer

    return float(special.ndtri(q) if np.isinf(degrees) else special.stdtrit(degrees, q))


def _degrees(ratio: float) -> float:
    """The degrees of freedom whose 0.9 interval is ``ratio`` times as wide as the 0.5 one; inf for the normal ratio."""
    from scipy.optimize import brentq

    def apart(degrees: float) -> float:
        return _quantile(0.95, degrees) / _quantile(0.75, degrees) - ratio

    if apart(_MOST) >= 0:
        return np.inf
    return _LEAST if apart(_LEAST) <= 0 else float(brentq(apart, _LEAST, _MOST))
