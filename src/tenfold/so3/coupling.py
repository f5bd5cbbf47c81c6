"""How two irreps of SO(3) make a third: 3j, Clebsch-Gordan and Gaunt coefficients of real bases."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from tenfold._arguments import whole_number
from tenfold.so3._tables import gaunt_tensor, real_3j_tensor


def wigner_3j(
    l1: int, l2: int, l3: int, *, dtype: torch.dtype = torch.float64, device: torch.device | str | None = None
) -> Float[Tensor, "m1 m2 m3"]:
    """The only trilinear invariant of three irreps: real, of norm one, in e3nn's basis and with its signs.

    ``einsum("abc,ai,bj,ck", w, D1, D2, D3)`` is ``w`` again for the Wigner D matrices of any rotation. Zero where
    the degrees break the triangle inequality.

    Raises:
        TenfoldError: a degree is negative or no whole number.

    Cost: ``O(l^3)`` operations on whole numbers and ``O(l^4)`` on floats the first time, then a copy.
    Paper: "Theory of complex spectra. II", 1942.
    """
    return real_3j_tensor(1.0, *_degrees(l1, l2, l3)).to(device=device, dtype=dtype)


def clebsch_gordan(
    l1: int, l2: int, l3: int, *, dtype: torch.dtype = torch.float64, device: torch.device | str | None = None
) -> Float[Tensor, "m1 m2 m3"]:
    """Orthonormal vectors of degree ``l3`` in the product of two irreps: ``sqrt(2 l3 + 1)`` times `wigner_3j`.

    Over all ``l3`` they are an orthogonal change of basis of the product.

    Raises, cost: as `wigner_3j`.
    """
    degrees = _degrees(l1, l2, l3)
    return real_3j_tensor(math.sqrt(2 * degrees[2] + 1), *degrees).to(device=device, dtype=dtype)


def gaunt(
    l1: int, l2: int, l3: int, *, dtype: torch.dtype = torch.float64, device: torch.device | str | None = None
) -> Float[Tensor, "m1 m2 m3"]:
    """The integrals over the sphere of products of three spherical harmonics of norm one.

    A positive number times `wigner_3j`, in closed form; zero where the sum of the degrees is odd.

    Raises, cost: as `wigner_3j`.
    Paper: "The triplets of helium", 1929.
    """
    return gaunt_tensor(*_degrees(l1, l2, l3)).to(device=device, dtype=dtype)


def _degrees(l1: int, l2: int, l3: int) -> tuple[int, int, int]:
    return whole_number("l1", l1, 0), whole_number("l2", l2, 0), whole_number("l3", l3, 0)
