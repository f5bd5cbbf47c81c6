"""Real spherical harmonics as polynomials of x, y and z: no angle occurs, so no pole does."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
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
    # Components first: then everything runs along the batch, and sums of squares need no reduction.
    first = vectors.movedim(-1, 0).contiguous()
    scales = [_scale(degree, normalization) for degree in range(max(wanted) + 1)]
    by_degree = _harmonics(_directions(first) if normalize else first, scales)
    return torch.cat([by_degree[degree] for degree in wanted]).movedim(0, -1).contiguous()


def _harmonics(vectors: Float[Tensor, "3 *batch"], scales: Sequence[float]) -> list[Float[Tensor, "component *batch"]]:
    """The harmonics of each degree times ``|x|^l`` and its scale; at scale 1 their squares add up to ``2 l + 1``.

    Associated Legendre functions, divided by the power of the sine that they contain, follow from the two degrees
    below, for all orders at once; the powers go to sine and cosine of ``m`` times the angle around y.
    """
    x, y, z = vectors[0:1], vectors[1:2], vectors[2:3]
    square = x * x + y * y + z * z
    one, largest = torch.ones_like(y), len(scales) - 1
    if not largest:
        return [scales[0] * one + 0 * y]  # a constant with a derivative: zero
    # Real and imaginary parts of (z + ix)^m, m = 1, 2, ...
    cosines, sines = [z], [x]
    for _ in range(largest - 1):
        cosine, sine = cosines[-1], sines[-1]
        cosines.append(z * cosine - x * sine)
        sines.append(x * cosine + z * sine)
    # Sines are wanted from the largest order down.
    cosine, sine = torch.cat(cosines), torch.cat(sines[::-1])
    below, before, diagonal = one, one, 1.0
    found = [scales[0] * one]
    for degree in range(1, largest + 1):
        diagonal *= math.sqrt((2 * degree + 1) / (2 * degree))
        parts = [math.sqrt(2 * degree + 1) * y * before[degree - 1 :], diagonal * one]
        if degree > 1:
            lead, less = _recurrence(degree, y)
            parts.insert(0, lead * y * before[: degree - 1] - less * square * below)
        below, before = before, torch.cat(parts)
        tail = math.sqrt(2) * scales[degree] * before[1:]
        negative = tail.flip(0) * sine[len(sines) - degree :]
        found.append(torch.cat([negative, scales[degree] * before[:1], tail * cosine[:degree]]))
    return found


def _recurrence(degree: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """The two factors for orders 0 to ``degree - 2``, along the first axis."""
    lead, less = [], []
    for order in range(degree - 1):
        ratio = (4 * degree**2 - 1) / (degree**2 - order**2)
        lead.append(math.sqrt(ratio))
        less.append(math.sqrt(ratio * ((degree - 1) ** 2 - order**2) / (4 * (degree - 1) ** 2 - 1)))
    shape = (-1,) + (1,) * (like.ndim - 1)
    return like.new_tensor(lead).reshape(shape), like.new_tensor(less).reshape(shape)


def _directions(vectors: Float[Tensor, "3 *batch"]) -> Float[Tensor, "3 *batch"]:
    """Vectors of length one; zero stays zero, with derivatives of zero instead of infinite ones."""
    # A direction does not depend on this scale, so its derivatives do not either; squares would underflow without it.
    scale = vectors.detach().abs().amax(dim=0)
    zero = scale == 0
    scaled = torch.where(zero, torch.ones_like(vectors), vectors / torch.where(zero, 1.0, scale))
    x, y, z = scaled
    return torch.where(zero, torch.zeros_like(vectors), scaled * torch.rsqrt(x * x + y * y + z * z))


def _scale(degree: int, normalization: Normalization) -> float:
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
