"""The Gaunt product by Fourier series on the torus: coefficients convolved, by the fast Fourier transform."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float
from scipy.fft import next_fast_len
from torch import Tensor

from tenfold.so3._wigner3j import gaunt_factor
from tenfold.so3.irreps import Given, Irreps
from tenfold.so3.layouts import Layout
from tenfold.so3.products import _sphere_tables as tables
from tenfold.so3.products._registry import product_method
from tenfold.so3.products._signal_product import SignalNormalization, Weights, WholeSignalProduct


class GauntFourier(WholeSignalProduct):
    """Functions multiplied point by point, by way of their Fourier series. The same numbers as of `GauntGrid`.

    A function continued beyond the poles is one on the torus, with ``f(-b, a) = f(b, a + pi)``: of its series in the
    angle from the pole only cosines are left for even orders and only sines for odd ones.

    Args: as of `SignalProduct`. Raises: as it does.

    Cost: for all degrees up to L, ``O(L^3)`` operations to the series and back, ``O(L^2 log L)`` for the convolution.
    Paper: "Enabling Efficient Equivariant Operations in the Fourier Basis via Gaunt Tensor Products", 2024.
    """

    factor = staticmethod(gaunt_factor)

    def __init__(
        self,
        irreps_in1: Given,
        irreps_in2: Given,
        irreps_out: Given = None,
        *,
        layout: Layout = "mul_ir",
        weights: Weights = "none",
        rank: int = 1,
        normalization: SignalNormalization = "component",
    ) -> None:
        super().__init__(
            irreps_in1,
            irreps_in2,
            irreps_out,
            layout=layout,
            weights=weights,
            rank=rank,
            normalization=normalization,
        )
        degrees = (self.left.lmax, self.right.lmax, self.out.lmax)
        down, around = (next_fast_len(length, real=True) for length in lengths(degrees))
        self._series = Series(degrees, (down, around))

    def _multiply(
        self,
        left: Float[Tensor, "batch dim1 mul"],
        right: Float[Tensor, "batch dim2 mul"],
        degrees: tuple[int, int, int],
    ) -> Float[Tensor, "batch out mul"]:
        if left.dtype.itemsize > 2:
            return self._series(left, right)
        # Libraries transform numbers of single and double precision only.
        return self._series(left.float(), right.float()).to(left.dtype)


def lengths(degrees: tuple[int, int, int]) -> tuple[int, int]:
    """The shortest transforms from the pole and around it that hold both series and do not wrap into what is kept."""
    both = degrees[0] + degrees[1]
    return 2 * both + 1, max(both + min(degrees[2], both) + 1, 2 * max(degrees[:2]) + 1)


class Series:
    """The product of two signals with all degrees up to some, by transforms of a given size."""

    def __init__(self, degrees: tuple[int, int, int], size: tuple[int, int]) -> None:
        self.degrees, self.size = degrees, size
        self._left, self._right = (Transform(degree, 0) for degree in degrees[:2])
        self._out = Transform(degrees[2], degrees[0] + degrees[1])

    def __call__(
        self, left: Float[Tensor, "batch dim1 mul"], right: Float[Tensor, "batch dim2 mul"]
    ) -> Float[Tensor, "batch out mul"]:
        if not left.numel():  # libraries refuse to transform nothing
            return (left.sum() + right.sum()) * left.new_zeros(left.shape[0], (self.degrees[2] + 1) ** 2, left.shape[2])
        values = self._values(left, self._left) * self._values(right, self._right)
        return self._out.back(torch.fft.rfft2(values, dim=(0, 1), norm="forward"))

    def _values(self, signal: Tensor, transform: Transform) -> Float[Tensor, "down around batch mul"]:
        series, degree = transform.into(signal), transform.degree
        spectrum = series.new_zeros(self.size[0], self.size[1] // 2 + 1, *series.shape[2:])
        # Frequencies 0, 1, ... then -1, ...: what lies beyond the series is zero.
        spectrum[: degree + 1, : degree + 1] = series[degree:]
        if degree:
            spectrum[-degree:, : degree + 1] = series[:degree]
        return torch.fft.irfft2(spectrum, s=self.size, dim=(0, 1), norm="forward")


class Transform:
    """From harmonics up to a degree to Fourier series, and from series up to ``largest`` back.

    Args:
        degree: of the harmonics.
        largest: of the frequencies from the pole that are read on the way back.
    """

    def __init__(self, degree: int, largest: int) -> None:
        self.degree, self._largest = degree, largest
        missing = (degree + 1) ** 2
        places = [(v, n) for v in range(degree + 1) for n in range(degree + 1)]
        # Where cosines and sines of [order, degree] are among components; what there is not is one after the last.
        cosines = [n * n + n + v if n >= v else missing for v, n in places]
        sines = [n * n + n - v if n >= v > 0 else missing for v, n in places]
        self._cosines, self._sines = torch.tensor(cosines), torch.tensor(sines)
        where = [0] * (missing + 1)
        for row, component in enumerate(cosines + sines):
            where[component] = row
        self._where = torch.tensor(where[:missing])
        # sqrt(2) (a cos + b sin) is (a - ib) / sqrt(2) times one wave, and its conjugate.
        scale = np.where(np.arange(degree + 1) > 0, math.sqrt(0.5), 1.0)[:, None, None]
        angle = 2 * math.pi * np.arange(2 * degree + 1) / (2 * degree + 1)
        polar = tables.legendre(degree, np.cos(angle), np.sin(angle))  # [degree, order, angle]
        series = np.roll(np.fft.fft(polar, axis=-1) / len(angle), degree, axis=-1)
        self._into = torch.from_numpy(series.transpose(1, 2, 0) * scale)
        # Against sin(b) on half the circle: cosines times even orders and sines times odd ones are polynomials there.
        grid = tables.grid(*tables.sizes(largest + degree + 1))
        beta = np.arccos(grid.cosine)
        polar = tables.legendre(degree, grid.cosine, np.sin(beta)) * (grid.area * len(grid.turn))
        wave = np.arange(largest + 1)[:, None] * beta
        twice = np.where(np.arange(largest + 1) > 0, 2.0, 1.0)[:, None]
        by_parity = [twice * np.cos(wave), twice * 1j * np.sin(wave)]
        integrals = np.stack([polar[:, v] @ by_parity[v % 2].T for v in range(degree + 1)])
        self._back = torch.from_numpy((integrals / scale).astype(np.complex128))

    def into(self, signal: Float[Tensor, "batch component mul"]) -> Float[Tensor, "u v batch mul"]:
        """Complex coefficients, ``u`` from ``-degree`` to ``degree``, ``v`` from 0."""
        batch, _, mul = signal.shape
        rows = torch.cat([signal.transpose(0, 1).flatten(1), signal.new_zeros(1, batch * mul)])
        shape = (self.degree + 1, self.degree + 1, batch * mul)
        even, odd = (rows[index.to(signal.device)].reshape(shape) for index in (self._cosines, self._sines))
        half = torch.complex(even, -odd)
        series = torch.bmm(self._into.to(half), half)
        return series.transpose(0, 1).unflatten(-1, (batch, mul))

    def back(self, spectrum: Float[Tensor, "u v batch mul"]) -> Float[Tensor, "batch component mul"]:
        """Integrals against the harmonics; of frequencies from the pole only those from 0 on are read."""
        kept = spectrum[: self._largest + 1, : self.degree + 1].transpose(0, 1).flatten(2)
        found = torch.bmm(self._back.to(kept), kept)
        flat = torch.cat([found.real.flatten(0, 1), -found.imag.flatten(0, 1)])
        signal = flat[self._where.to(spectrum.device)]
        return signal.unflatten(1, spectrum.shape[2:]).transpose(0, 1)


@product_method("gaunt_fourier", complete=False, summary="functions on the sphere multiplied by their Fourier series")
def gaunt_fourier(irreps_in1: Irreps, irreps_in2: Irreps, irreps_out: Irreps, *, layout: Layout) -> GauntFourier:
    """`GauntFourier` with a weight for each degree and channel."""
    return GauntFourier(irreps_in1, irreps_in2, irreps_out, layout=layout, weights="degree")
