"""Real spherical harmonics as polynomials of x, y and z: no angle occurs, so no pole does."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from tenfold._arguments import closest, quoted, whole_number
from tenfold.errors import DataError, TenfoldError
from tenfold.so3._given import check_floating
from tenfold.so3._harmonics import evaluated, served
from tenfold.so3._harmonics_plain import plain_harmonics
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

    Cost: ``O(L^2)`` operations and numbers for each vector, ``L`` the largest degree: on the CPU in one pass over the
    vectors, for values as for first and second derivatives; elsewhere in ``O(L)`` operations on whole tensors.
    Paper: "A unified approach to the Clenshaw summation and the recursive computation of very high degree and order
    normalised associated Legendre functions", 2002.
    """
    wanted = _degrees(degrees)
    if normalization not in NORMALIZATIONS:
        hint = closest(normalization, NORMALIZATIONS) if isinstance(normalization, str) else ""
        raise TenfoldError(
            f"normalization must be 'integral', 'component' or 'norm', not {quoted(normalization)}{hint}"
        )
    check_floating("vectors", vectors)
    if vectors.ndim == 0 or vectors.shape[-1] != 3:
        raise DataError(f"vectors of shape {tuple(vectors.shape)} must have x, y and z on the last axis, 3 numbers")
    if not wanted:
        return vectors[..., :0]
    if not served(vectors):
        return plain_harmonics(vectors, wanted, normalize, normalization)
    different = list(dict.fromkeys(wanted))
    found = evaluated(vectors, different, normalize, normalization)
    if len(different) == len(wanted):
        return found
    blocks = dict(zip(different, found.split([2 * degree + 1 for degree in different], dim=-1), strict=True))
    return torch.cat([blocks[degree] for degree in wanted], dim=-1)


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
