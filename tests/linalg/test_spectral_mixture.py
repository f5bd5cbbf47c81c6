"""Covariances with peaks in their spectra, beside autograd and the formulas they are made of."""

from __future__ import annotations

import math

import pytest
import torch

from tenfold.errors import TenfoldError
from tenfold.linalg.spectral_mixture import Spectrum, spectral_mixture
from tenfold.linalg.toeplitz import toeplitz

SPECTRA: tuple[Spectrum, ...] = ("student", "gaussian")


def mixture() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    weights, scales, frequencies = torch.rand(3, 5, generator=generator, dtype=torch.float64) + 0.1
    return weights, scales, 3 * frequencies


@pytest.mark.parametrize("spectrum", SPECTRA)
def test_derivatives_are_those_of_autograd(spectrum: Spectrum) -> None:
    d = torch.linspace(0.01, 4, 57, dtype=torch.float64, requires_grad=True)
    k, first, second = spectral_mixture(d, *mixture(), spectrum)
    (by_d,) = torch.autograd.grad(k.sum(), d, create_graph=True)
    (twice,) = torch.autograd.grad(by_d.sum(), d)
    torch.testing.assert_close(first, by_d, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(second, twice, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("spectrum", SPECTRA)
def test_at_zero_are_the_limits(spectrum: Spectrum) -> None:
    near = torch.tensor([0.0, 1e-9], dtype=torch.float64)
    k, first, second = spectral_mixture(near, *mixture(), spectrum)
    assert first[0] == 0
    for values in (k, first, second):
        assert bool(torch.isfinite(values).all())
        assert math.isclose(float(values[0]), float(values[1]), rel_tol=1e-5, abs_tol=1e-5)


def test_one_peak_at_zero_is_matern() -> None:
    d = torch.linspace(0, 3, 31, dtype=torch.float64)
    length = 0.7
    one, scale = torch.ones(1, dtype=torch.float64), torch.tensor([1 / length], dtype=torch.float64)
    k, _, second = spectral_mixture(d, one, scale, None)
    s = math.sqrt(5) / length
    torch.testing.assert_close(k, (1 + s * d + s * s * d * d / 3) * torch.exp(-s * d))
    assert math.isclose(float(second[0]), -s * s / 3, rel_tol=1e-12)
    at_zero = spectral_mixture(d, one, scale, torch.zeros(1, dtype=torch.float64))[0]
    torch.testing.assert_close(k, at_zero)


@pytest.mark.parametrize("spectrum", SPECTRA)
def test_slopes_by_all_parameters(spectrum: Spectrum) -> None:
    d = torch.linspace(0, 2, 6, dtype=torch.float64)
    parameters = tuple(value.clone().requires_grad_() for value in mixture())
    assert torch.autograd.gradcheck(lambda *given: spectral_mixture(d, *given, spectrum), parameters)


@pytest.mark.parametrize("spectrum", SPECTRA)
def test_covariances_of_a_grid_are_positive(spectrum: Spectrum) -> None:
    d = torch.arange(60, dtype=torch.float64) / 10
    matrix = toeplitz(spectral_mixture(d, *mixture(), spectrum)[0])
    assert float(torch.linalg.eigvalsh(matrix)[0]) > -1e-10


def test_another_spectrum() -> None:
    with pytest.raises(TenfoldError, match="'student' or 'gaussian'"):
        spectral_mixture(torch.zeros(1), *mixture(), "cauchy")  # type: ignore[arg-type]
