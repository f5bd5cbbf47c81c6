"""Products of one feature with itself as products of functions on the sphere, on the points of one grid."""

from __future__ import annotations

import math
from functools import cache
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from tenfold._arguments import closest, quoted, whole_number
from tenfold.errors import TenfoldError
from tenfold.so3._wigner3j import gaunt_factor
from tenfold.so3.irreps import Given
from tenfold.so3.layouts import Layout
from tenfold.so3.products import _sphere_tables as tables
from tenfold.so3.products._many_body import ManyBodyProduct
from tenfold.so3.products._registry import Unsuited
from tenfold.so3.products._signals import Signal

Normalization = Literal["integral", "component"]
NORMALIZATIONS = ("integral", "component")
# Nodes are worked on together as long as one of their grids has no more numbers: it stays in the cache then.
_CACHED = 1 << 17


class GridPower(ManyBodyProduct):
    """The product of ``correlation`` copies of a feature as functions on the sphere, harmonics by harmonics.

    Each channel is a function of direction. Without weights what comes out is its power. With them it is a sum of
    ``rank`` products: in each, every copy has its degrees multiplied by weights of its own first, and so has what comes
    out. These are the symmetric contractions whose tensors are products of Gaunt coefficients and whose weights have a
    rank: all paths are weighted, but not one by one. Functions without a hand multiply to functions without a hand, so
    what tells left from right never comes out; `SymmetricContraction` has that.

    Copies are multiplied on one grid that is fine enough for the degrees of all of them together, so that nothing is
    rounded but numbers, and there is one way back. Weights are ordered by rank, then copies and what comes out, then
    degree and channel.

    Args:
        irreps_in: each degree once, in equally many channels, all of the parity of harmonics or all of the other.
        irreps_out: the same; parities are those of the product.
        correlation: how many copies are multiplied, no more and no fewer.
        rank: how many products are added up; 0 for the power itself, without weights.
        layout: of both.
        normalization: ``"integral"`` for the harmonics of the functions that harmonics of norm one make. With
            ``"component"`` they are scaled by degree so that copies, components and weights that are independent and of
            variance one would give variance one.

    Attributes:
        rank: how many products are added up.
        points: how many the grid has.

    Raises:
        Unsuited: irreps are no function on the sphere, or not of equally many channels, or of other parities.
        TenfoldError: the irreps, the layout or the normalization are none, or the rank is negative.

    Cost: ``points`` multiplications and additions for each component and channel, there for each copy and back once,
    for each product; ``points`` is about ``(correlation * lmax + lmax_out) ** 2 / 2``. As many numbers are kept for
    each copy.
    Paper: "Enabling efficient equivariant operations in the Fourier basis via Gaunt tensor products", 2024.
    """

    def __init__(
        self,
        irreps_in: Given,
        irreps_out: Given,
        correlation: int,
        *,
        rank: int = 0,
        layout: Layout = "mul_ir",
        normalization: Normalization = "component",
    ) -> None:
        super().__init__(irreps_in, irreps_out, correlation, layout=layout)
        self.rank = whole_number("rank", rank, 0)
        if normalization not in NORMALIZATIONS:
            hint = closest(normalization, NORMALIZATIONS) if isinstance(normalization, str) else ""
            raise TenfoldError(f"normalization must be 'integral' or 'component', not {quoted(normalization)}{hint}")
        self._in = Signal.of("irreps_in", self.irreps_in)
        self._out = Signal.of("irreps_out", self.irreps_out)
        if self._in.channels != self._out.channels:
            raise Unsuited(
                f"irreps_out '{self.irreps_out}' must have the {self._in.channels} channels of '{self.irreps_in}'"
            )
        if self._out.parity != self._in.parity**self.correlation:
            raise Unsuited(
                f"irreps_out '{self.irreps_out}' have the other parity: {self.correlation} functions of the parity of "
                f"'{self.irreps_in}' multiply to one whose degree 0 is 0{'e' if self._out.parity == -1 else 'o'}"
            )
        self._factors = (len(self._in.degrees), len(self._out.degrees))
        self.weight_numel = self.rank * (self.correlation * self._factors[0] + self._factors[1]) * self._in.channels
        total = self.correlation * self._in.lmax + self._out.lmax
        self.points = _points(total)
        self._normalization: Normalization = normalization

    def _product(
        self,
        features: Float[Tensor, "batch dim"],
        weight: Float[Tensor, "rows weight_numel"] | None,
        species: Int[Tensor, " batch"] | None,
    ) -> Float[Tensor, "batch out"]:
        total = self.correlation * self._in.lmax + self._out.lmax
        values = _harmonics(list(self._in.degrees), total).to(features)
        back = _projection(
            list(self._out.degrees), list(self._in.degrees), self.correlation, total, self._normalization
        ).to(features)
        nodes = features.shape[0]
        # Compilers choose how far they go at once, and see no sizes.
        portion = nodes if torch.compiler.is_compiling() else max(1, _CACHED // (self.points * self._in.channels))
        if nodes <= portion:
            return self._powers(features, weight, species, values, back)
        parts = [slice(start, start + portion) for start in range(0, nodes, portion)]
        rows = [None if species is None else species[part] for part in parts]
        found = [self._powers(features[part], weight, row, values, back) for part, row in zip(parts, rows, strict=True)]
        return torch.cat(found)

    def _powers(
        self,
        features: Float[Tensor, "batch dim"],
        weight: Float[Tensor, "rows weight_numel"] | None,
        species: Int[Tensor, " batch"] | None,
        values: Float[Tensor, "point component"],
        back: Float[Tensor, "out point"],
    ) -> Float[Tensor, "batch out"]:
        """For nodes whose grids are all kept at once."""
        components = self._in.components(features, self.layout)
        if weight is None:
            function = values @ components
            grid = function
            for _ in range(self.correlation - 1):
                grid = grid * function
            return self._out.features(back @ grid, self.layout)
        copies, (degrees, outs) = self.correlation, self._factors
        table = weight.unflatten(-1, (self.rank, copies * degrees + outs, self._in.channels))
        # The rows of nodes are few numbers beside their grids.
        rows = table if species is None else table[species]
        before, after = rows.split([copies * degrees, outs], dim=2)
        before = _by_component(before.unflatten(2, (copies, degrees)), self._in.degrees)
        after = _by_component(after, self._out.degrees)
        found = None
        for product in range(self.rank):
            grid = values @ (before[:, product, 0] * components)
            for copy in range(1, copies):
                grid = grid * (values @ (before[:, product, copy] * components))
            part = after[:, product] * (back @ grid)
            found = part if found is None else found + part
        assert found is not None  # without weights there is no rank
        return self._out.features(found / math.sqrt(self.rank), self.layout)


def _by_component(
    weight: Float[Tensor, "*rows degree channel"], degrees: tuple[int, ...]
) -> Float[Tensor, "*rows component channel"]:
    """The weight of each degree for all its components."""
    which = [n for n, degree in enumerate(degrees) for _ in range(2 * degree + 1)]
    return weight[..., which, :]


# Operators, so that compilers take tables as they are instead of following how they are made.
@torch.library.custom_op("tenfold::so3_power_harmonics", mutates_args=())
def _harmonics(degrees: list[int], total: int) -> Tensor:
    """Harmonics of norm one at the points of a grid that integrates polynomials of a degree: ``[point, component]``."""
    return _made_harmonics(tuple(degrees), total).clone()


@_harmonics.register_fake
def _(degrees: list[int], total: int) -> Tensor:
    return torch.empty(_points(total), sum(2 * n + 1 for n in degrees), dtype=torch.float64)


@torch.library.custom_op("tenfold::so3_power_projection", mutates_args=())
def _projection(degrees: list[int], factors: list[int], copies: int, total: int, normalization: str) -> Tensor:
    """The harmonics that a function on the grid is made of, scaled: ``[component, point]``."""
    scales = _scales(tuple(degrees), tuple(factors), copies, normalization)
    by_component = [scale for degree, scale in zip(degrees, scales, strict=True) for _ in range(2 * degree + 1)]
    grid = tables.grid(*tables.sizes(total))
    area = torch.from_numpy(np.repeat(grid.area, len(grid.turn)))
    harmonics = _made_harmonics(tuple(degrees), total)
    return torch.tensor(by_component, dtype=torch.float64)[:, None] * (harmonics * area[:, None]).T


@_projection.register_fake
def _(degrees: list[int], factors: list[int], copies: int, total: int, normalization: str) -> Tensor:
    return torch.empty(sum(2 * n + 1 for n in degrees), _points(total), dtype=torch.float64)


def _points(total: int) -> int:
    rings, steps = tables.sizes(total)
    return rings * steps


@cache
def _made_harmonics(degrees: tuple[int, ...], total: int) -> Float[Tensor, "point component"]:
    grid = tables.grid(*tables.sizes(total))
    largest = max(degrees)
    polar = tables.legendre(largest, grid.cosine, np.sqrt(1 - grid.cosine**2))
    every = tables.values(largest, polar, tables.waves(largest, grid.turn))
    return torch.from_numpy(np.concatenate([every[:, n * n : (n + 1) ** 2] for n in degrees], axis=1))


@cache
def _scales(degrees: tuple[int, ...], factors: tuple[int, ...], copies: int, normalization: str) -> tuple[float, ...]:
    """What each degree is multiplied by: the root of the variance that independent copies would give, inverted."""
    if normalization == "integral":
        return (1.0,) * len(degrees)
    variances = dict.fromkeys(factors, 1.0)
    for _ in range(copies - 1):
        largest = max(variances) + max(factors)
        variances = {
            out: sum(
                gaunt_factor(one, other, out) ** 2 / (2 * out + 1) * variance
                for one, variance in variances.items()
                for other in factors
                if abs(one - other) <= out <= one + other
            )
            for out in range(largest + 1)
        }
    # A degree that never comes out is zero in any scale.
    return tuple(1 / math.sqrt(found) if (found := variances.get(n, 0.0)) else 1.0 for n in degrees)
