"""Products on a grid and of Fourier series are integrals of three harmonics, to rounding."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from tenfold.claims._registry import Measurement, claim
from tenfold.so3 import GauntFourier, GauntGrid, Irreps, gaunt, spherical_harmonics

_ALLOWED = 1e-11


@claim(
    "gaunt_exactness",
    paper="Enabling Efficient Equivariant Operations in the Fourier Basis via Gaunt Tensor Products",
    year=2024,
    where="From Clebsch-Gordan to Gaunt coefficients, and the change to the Fourier basis",
    stated=(
        "Multiplying features as functions on the sphere has the integrals of products of three harmonics as its "
        "coefficients, and Fourier series compute it without approximation."
    ),
)
def gaunt_exactness(*, seed: int = 0, lmax: int = 4) -> Measurement:
    """Compare all coefficients of features of degrees up to 4 each, and all that comes of them, with the integrals.

    There are three ways to multiply (dense and separable grids, Fourier series) and two to know the integrals: Gaunt's
    closed form, and a sum over more points of the sphere than exactness needs. Holds if no coefficient of any way
    differs from either by more than 1e-11, in double precision. Nothing is drawn at random.
    """
    whole = 2 * lmax
    truth = {"closed form": _closed_form(lmax, whole), "quadrature": _quadrature(lmax, whole)}
    worst: dict[str, float] = {}
    products = 0
    for first in range(lmax + 1):
        for second in range(lmax + 1):
            # All degrees that come out, and fewer, for which a smaller grid is used.
            for out in sorted({first + second, max(first, second), 0}):
                sides = [Irreps.harmonics(degree) for degree in (first, second, out)]
                found = {
                    f"{method} grid": GauntGrid(*sides, normalization="integral", method=method).coefficients()
                    for method in ("dense", "separable")
                }
                found["Fourier series"] = GauntFourier(*sides, normalization="integral").coefficients()
                dims = [(degree + 1) ** 2 for degree in (first, second, out)]
                for way, table in found.items():
                    for source, integrals in truth.items():
                        label = f"{way} and {source}"
                        off = _difference(table, integrals[: dims[0], : dims[1], : dims[2]])
                        worst[label] = max(worst.get(label, 0.0), off)
                    products += 1
    largest = max(worst.values())
    lines = [
        f"{products} products, coefficients up to {float(truth['closed form'].abs().max()):.2f}; differ at most by"
    ]
    lines += [f"{label}: {off:.1e}" for label, off in worst.items()]
    numbers = {"products": products, "largest difference": largest, **worst}
    return Measurement(largest <= _ALLOWED, "\n".join(lines), numbers)


def _difference(one: Tensor, other: Tensor) -> float:
    off = float((one - other).abs().max())
    return math.inf if math.isnan(off) else off


def _closed_form(lmax: int, whole: int) -> Tensor:
    table = torch.zeros((lmax + 1) ** 2, (lmax + 1) ** 2, (whole + 1) ** 2, dtype=torch.float64)
    places = [slice(degree**2, (degree + 1) ** 2) for degree in range(whole + 1)]
    for a in range(lmax + 1):
        for b in range(lmax + 1):
            for c in range(whole + 1):
                table[places[a], places[b], places[c]] = gaunt(a, b, c)
    return table


def _quadrature(lmax: int, whole: int) -> Tensor:
    """The sum over a product grid, exact for a few degrees more than the product has."""
    degree = 2 * lmax + whole + 4
    cosine, weight = np.polynomial.legendre.leggauss(degree // 2 + 1)
    turn = 2 * np.pi * np.arange(degree + 1) / (degree + 1)
    sine = np.sqrt(1 - cosine**2)[:, None]
    # The polar axis is y.
    points = np.stack(
        [sine * np.sin(turn), np.broadcast_to(cosine[:, None], (len(cosine), len(turn))), sine * np.cos(turn)]
    )
    area = torch.from_numpy(np.repeat(weight * 2 * np.pi / len(turn), len(turn)))
    values = spherical_harmonics(
        Irreps.harmonics(whole), torch.from_numpy(points.reshape(3, -1).T.copy()), normalization="integral"
    )
    inner = values[:, : (lmax + 1) ** 2]
    return torch.einsum("pa,pb,pc->abc", inner * area[:, None], inner, values)
