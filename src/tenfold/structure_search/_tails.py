"""What truncating each matricisation costs, from its singular values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from tenfold.errors import DataError, TenfoldError

Spectrum = Tensor | Sequence[float] | NDArray[Any]

# Sums of squares that differ by less are those of one tensor with rounding; by more, a spectrum stops early.
_ROUNDING = 1e-6


def tails(spectra: Mapping[str, Spectrum]) -> dict[str, NDArray[np.float64]]:
    """For each spectrum, what keeping so many values costs: ``tail[k]`` is a squared error relative to the whole.

    A tail ends where nothing is left to gain: values that are zero to rounding count as zero. The squares of all
    spectra of one tensor have one sum; what a shorter spectrum lacks of the largest sum is lost at any rank.

    Raises:
        DataError: a spectrum that is empty, not finite, negative or increasing.
    """
    values = {name: _checked(name, spectrum) for name, spectrum in spectra.items()}
    largest = max((float(spectrum[0]) for spectrum in values.values()), default=0.0)
    squares = {name: np.square(spectrum / largest) if largest else spectrum for name, spectrum in values.items()}
    sums = {name: float(np.sum(square[::-1])) for name, square in squares.items()}
    total = max(sums.values(), default=0.0)
    found = {}
    for name, square in squares.items():
        # The first value stays: there is no rank of zero.
        square = square[: max(1, int(np.count_nonzero(square > np.finfo(float).eps ** 2 * total)))]
        lacking = total - sums[name] if total - sums[name] > _ROUNDING * total else 0.0
        tail = np.append(square[::-1].cumsum()[::-1], 0.0) + lacking
        found[name] = tail / total if total else tail
    return found


def check_budget(parameters: object, least: int, shape: Sequence[int]) -> int:
    """``parameters`` as a whole number that is enough for ranks of one."""
    if isinstance(parameters, bool) or not isinstance(parameters, int | np.integer):
        raise TenfoldError(f"parameters must be a whole number, not {parameters!r}")
    if parameters < least:
        raise TenfoldError(
            f"parameters {parameters} is too few: ranks of one for shape {tuple(shape)} need at least {least}"
        )
    return int(parameters)


def _checked(name: str, spectrum: Spectrum) -> NDArray[np.float64]:
    if spectrum.is_complex() if isinstance(spectrum, Tensor) else np.iscomplexobj(spectrum):
        raise DataError(f"spectrum of {name} is complex: singular values are real")
    try:
        # NumPy has no bfloat16.
        plain = spectrum.detach().cpu().double().numpy() if isinstance(spectrum, Tensor) else spectrum
        values = np.asarray(plain, dtype=np.float64)
    except (TypeError, ValueError) as cause:
        raise DataError(f"spectrum of {name} is no sequence of real numbers: {cause}") from None
    if values.ndim != 1 or not values.size:
        raise DataError(f"spectrum of {name} has shape {values.shape}: give its singular values, at least one")
    if not np.isfinite(values).all():
        raise DataError(f"spectrum of {name} has values that are not finite")
    if (values < 0).any():
        raise DataError(f"spectrum of {name} has a negative value, {values.min():g}: singular values are not")
    rises = np.flatnonzero(np.diff(values) > 1e-9 * values.max())
    if rises.size:
        raise DataError(f"spectrum of {name} increases after its value {rises[0] + 1}: give the largest first")
    return values
