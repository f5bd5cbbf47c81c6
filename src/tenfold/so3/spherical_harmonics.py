"""Real spherical harmonics as polynomials of x, y and z: no angle occurs, so no pole does."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from tenfold._arguments import closest, quoted, whole_number
from tenfold.errors import DataError, TenfoldError
from tenfold.so3.irreps import Irreps

Normalization = Literal["integral", "component", "norm"]
NORMALIZATIONS = ("integral", "component", "norm")


def spherical_harmonics(
    degrees: int | Iterable[int] | Irreps | str,
    vectors: Float[Tensor, "*batch 3"],
    *,
    normalize: bool = True,
    normalization: Normalization = "integral",
) -> Float[Tensor, "*batch component"]:
    """The real spherical harmonics of some degrees at each vector, in e3nn's basis.

    The polar axis is y. In degree 1 the components are x, y, z; in degree l they are ordered by ``m`` from -l to l,
    sines of the angle from z to x for negative m, cosines for others.

    Args:
        degrees: one degree; several, whose harmonics are put side by side; or irreps like ``"0e+1o+2e"``.
        vectors: x, y and z on the last axis.
        normalize: take the direction of each vector only. Otherwise degree l is multiplied by the length to the power
            l, which makes a polynomial.
        normalization: ``"integral"``: the square integrates to one over the sphere. ``"component"``: the squares of a
            degree add up to ``2 l + 1``. ``"norm"``: they add up to one.

    Returns ``sum(2 l + 1)`` components on the last axis. Derivatives of all orders are those of polynomials, at the
    poles as elsewhere. The zero vector has no direction: with ``normalize`` its harmonics above degree 0 are zero, and
    so are their derivatives.

    Raises:
        DataError: the last axis is not 3, or the numbers are not floating.
        TenfoldError: a degree is negative, there is no such normalization, or an irrep has not the parity of harmonics.

    Cost: ``O(L)`` operations on whole tensors and ``O(L^2)`` numbers for each vector, ``L`` the largest degree.
    Paper: "A unified approach to the Clenshaw summation and the recursive computation of very high degree and order
    normalised associated Legendre functions", 2002.
    """
    wanted = _degrees(degrees)
    if normalization not in NORMALIZATIONS:
        hint = closest(normalization, NORMALIZATIONS) if isinstance(normalization, str) else ""
        raise TenfoldError(
            f"normalization must be 'integral', 'component' or 'norm', not {quoted(normalization)}{hint}"
        )
    if vectors.ndim == 0 or vectors.shape[-1] != 3:
        raise DataError(f"vectors of shape {tuple(vectors.shape)} must have x, y and z on the last axis, 3 numbers")
    if not vectors.is_floating_point():
        raise DataError(f"vectors must be floating, not {vectors.dtype}")
    if not wanted:
        return vectors[..., :0]
    by_degree = solid_harmonics(_directions(vectors) if normalize else vectors, max(wanted))
    scaled = [by_degree[degree] * _scale(degree, normalization) for degree in wanted]
    return torch.cat(scaled, dim=-1)


def solid_harmonics(vectors: Tensor, largest: int) -> list[Tensor]:
    """For each degree up to the largest its harmonics times ``|x|^l``, with squares that average to one on the sphere.

    Associated Legendre functions, divided by the power of the sine that they contain, follow from two of the degree
    below, for all orders at once; the powers go to sine and cosine of ``m`` times the angle around y.
    """
    x, y, z = vectors[..., 0:1], vectors[..., 1:2], vectors[..., 2:3]
    square = x * x + y * y + z * z
    # Real and imaginary parts of (z + ix)^m.
    cosines, sines = [torch.ones_like(y)], [torch.zeros_like(y)]
    for _ in range(largest):
        cosine, sine = cosines[-1], sines[-1]
        cosines.append(z * cosine - x * sine)
        sines.append(x * cosine + z * sine)
    cosine, sine = torch.cat(cosines, dim=-1), torch.cat(sines, dim=-1)
    below, before = torch.ones_like(y), torch.ones_like(y)
    # The root of two of all orders but the zeroth is put on at the end.
    diagonal = 1.0
    found = [below]
    for degree in range(1, largest + 1):
        diagonal *= math.sqrt((2 * degree + 1) / (2 * degree))
        parts = [math.sqrt(2 * degree + 1) * y * before[..., degree - 1 :], torch.full_like(y, diagonal)]
        if degree > 1:
            first, second = _recurrence(degree, y)
            parts.insert(0, first * y * before[..., : degree - 1] - second * square * below)
        below, before = before, torch.cat(parts, dim=-1)
        tail = math.sqrt(2) * before[..., 1:]
        negative = (tail * sine[..., 1 : degree + 1]).flip(-1)
        found.append(torch.cat([negative, before[..., :1], tail * cosine[..., 1 : degree + 1]], dim=-1))
    return found


def _recurrence(degree: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """The two factors for orders 0 to ``degree - 2``."""
    first, second = [], []
    for order in range(degree - 1):
        lead = (4 * degree**2 - 1) / (degree**2 - order**2)
        first.append(math.sqrt(lead))
        second.append(math.sqrt(lead * ((degree - 1) ** 2 - order**2) / (4 * (degree - 1) ** 2 - 1)))
    return like.new_tensor(first), like.new_tensor(second)


def _directions(vectors: Tensor) -> Tensor:
    """Vectors of length one; zero stays zero, with derivatives of zero instead of infinite ones."""
    # A direction does not depend on this scale, so its derivatives do not either; squares would underflow without it.
    scale = vectors.detach().abs().amax(dim=-1, keepdim=True)
    zero = scale == 0
    scaled = torch.where(zero, torch.ones_like(vectors), vectors / torch.where(zero, 1.0, scale))
    unit = scaled * (scaled * scaled).sum(dim=-1, keepdim=True).rsqrt()
    return torch.where(zero, torch.zeros_like(unit), unit)


def _scale(degree: int, normalization: Normalization) -> float:
    # The recurrence starts from one, which is "component": squares of a degree add up to 2 l + 1.
    if normalization == "integral":
        return math.sqrt(1 / (4 * math.pi))
    return math.sqrt(1 / (2 * degree + 1)) if normalization == "norm" else 1.0


def _degrees(given: Any) -> list[int]:
    if isinstance(given, str | Irreps):
        irreps = Irreps(given)
        for block in irreps:
            if not block.ir.natural:
                raise TenfoldError(
                    f"degrees '{irreps}': spherical harmonics of degree {block.ir.l} are "
                    f"{block.ir.l}{'o' if block.ir.l % 2 else 'e'}, not {block.ir}"
                )
        return [block.ir.l for block in irreps for _ in range(block.mul)]
    if isinstance(given, Iterable):
        return [whole_number("each of degrees", degree, 0) for degree in given]
    return [whole_number("degrees", given, 0)]
