"""The claims on products of features that turn with space: small runs, and their measuring tools."""

from __future__ import annotations

import math

import pytest
import torch

from tenfold.claims import product_equivariance as equivariance
from tenfold.claims._clock import exponent, medians
from tenfold.claims.gaunt_exactness import gaunt_exactness
from tenfold.claims.gaunt_grid_fourier import gaunt_grid_fourier
from tenfold.claims.gaunt_growth import gaunt_growth
from tenfold.claims.so2_equivalence import so2_equivalence
from tenfold.claims.tensor_product_expressivity import tensor_product_expressivity
from tenfold.so3 import GauntFourier, GauntGrid, SO2Convolution, products
from tenfold.so3.products import Convolution, ManyBodyProduct, product_methods


def test_gaunt_products_are_exact() -> None:
    found = gaunt_exactness(lmax=2)
    assert found.holds, found.text
    assert found.numbers["products"] == 3 * 21
    assert 0 < found.numbers["largest difference"] < 1e-13


def test_a_product_that_is_a_little_off_is_not_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = GauntFourier.coefficients
    monkeypatch.setattr(GauntFourier, "coefficients", lambda product: exact(product) + 1e-10)
    found = gaunt_exactness(lmax=1)
    assert not found.holds
    assert found.numbers["Fourier series and quadrature"] == pytest.approx(1e-10, rel=1e-3)
    assert found.numbers["dense grid and quadrature"] < 1e-13


def test_times_are_fitted_by_a_power() -> None:
    assert exponent((2, 3, 5), (8.0, 18.0, 50.0)) == pytest.approx(2)
    calls = []
    found = medians({"one": lambda: calls.append(1), "two": lambda: calls.append(2)}, 3)
    assert calls == [1, 2] * 4
    assert set(found) == {"one", "two"}
    assert all(0 <= seconds < 0.1 for seconds in found.values())


def test_growth_is_timed_and_counted_for_each_degree() -> None:
    found = gaunt_growth(gaunt_degrees=(1, 2, 3), degrees=(1, 2), rows=8, channels=4, rounds=1)
    for name in ("Gaunt", "dense", "sparse"):
        assert math.isfinite(found.numbers[f"{name}: exponent"])
    assert sum("milliseconds" in name for name in found.numbers) == 7
    assert found.numbers["dense, L = 2: multiplications"] == 9**3
    assert found.numbers["dense: exponent of work"] == pytest.approx(6)


def test_the_work_grows_as_stated() -> None:
    found = gaunt_growth(gaunt_degrees=(8, 16, 24), degrees=(4, 6, 8), rows=1, channels=1, rounds=1)
    assert 2.5 < found.numbers["Gaunt: exponent of work"] < 3.1
    assert 4.9 < found.numbers["sparse: exponent of work"] < 5.3


@pytest.mark.slow
def test_clebsch_gordan_products_grow_faster() -> None:
    found = gaunt_growth(rounds=3)
    assert found.numbers["dense: exponent"] > found.numbers["Gaunt: exponent"] + 2
    assert found.numbers["sparse: exponent"] > found.numbers["Gaunt: exponent"] + 0.5


def test_grids_and_series_are_the_same_and_timed() -> None:
    found = gaunt_grid_fourier(degrees=(1, 3), rows=8, channels=4, rounds=3)
    assert 0 < found.numbers["largest difference"] < 1e-5
    assert found.holds == (found.numbers["least ratio"] > 1)


def test_a_grid_that_returns_something_else_is_no_faster_product(monkeypatch: pytest.MonkeyPatch) -> None:
    right = GauntGrid._scaled
    monkeypatch.setattr(GauntGrid, "_scaled", lambda *given: 1.01 * right(*given))
    assert not gaunt_grid_fourier(degrees=(2,), rows=8, channels=4, rounds=1).holds


def test_expressivity_is_that_of_the_paper() -> None:
    found = tensor_product_expressivity()
    assert found.holds, found.text
    assert found.numbers["Clebsch-Gordan, all, (3, 3, 3): expressivity"] == 34
    assert found.numbers["Gaunt, (3, 3, 3): expressivity"] == 10
    assert found.numbers["Gaunt, (3, 3, 3): interactions"] == 23


@pytest.mark.slow
def test_frames_do_what_paths_do() -> None:
    found = so2_equivalence(edges=3)
    assert found.holds, found.text
    assert 0 < found.numbers["second derivatives of edges"] < 1e-12
    assert 0 < found.numbers["orthogonality"] < 1e-13


@pytest.mark.slow
def test_weights_that_are_not_converted_do_something_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SO2Convolution, "from_path_weights", lambda product, weight: weight)
    found = so2_equivalence(edges=3)
    assert not found.holds
    assert found.numbers["messages"] > 1e-2


def test_every_product_is_turned() -> None:
    found = equivariance.product_equivariance(rotations=1)
    assert found.holds, found.text
    kinds = [getattr(products, name) for name in products.__all__]
    kinds = [kind for kind in kinds if isinstance(kind, type)]
    along = {kind for kind in kinds if issubclass(kind, Convolution)} - {Convolution}
    polynomials = {kind for kind in kinds if issubclass(kind, ManyBodyProduct)} - {ManyBodyProduct}
    assert along == set(equivariance.CONVOLUTIONS)
    assert polynomials == set(equivariance.MANY_BODY)
    names = {kind.__name__ for kind in along | polynomials} | set(product_methods())
    assert names == set(found.numbers) - {"products", "cases", "largest difference"}


def test_a_product_that_does_not_turn_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = GauntGrid._weighted

    def tilted(*given: object) -> torch.Tensor:
        found = right(*given)
        return found + 1e-8 * torch.arange(found.shape[1], dtype=found.dtype)[:, None]

    monkeypatch.setattr(GauntGrid, "_weighted", tilted)
    found = equivariance.product_equivariance(rotations=1)
    assert not found.holds
    assert found.numbers["gaunt_grid"] > 1e-10
    assert found.numbers["gaunt_fourier"] < 1e-10


def test_zeros_and_what_is_no_number_do_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        GauntFourier, "_multiply", lambda self, left, right, degrees: 0 * GRID(self, left, right, degrees)
    )
    found = equivariance.product_equivariance(rotations=1)
    assert not found.holds
    assert found.numbers["gaunt_fourier"] == math.inf


GRID = GauntFourier._multiply
