"""What products of functions on the sphere have in common: degrees, channels, weights, scales."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from tenfold._arguments import closest, quoted, whole_number
from tenfold.errors import TenfoldError
from tenfold.so3._transforms import followed
from tenfold.so3.irreps import Given, Irrep, Irreps
from tenfold.so3.layouts import Layout
from tenfold.so3.products._factors import Factors
from tenfold.so3.products._product import Product
from tenfold.so3.products._registry import Unsuited
from tenfold.so3.products._signals import Signal, chosen, filled, spread
from tenfold.so3.products._sphere_weighted import on_sphere_weighted

Weights = Literal["none", "degree"]
SignalNormalization = Literal["integral", "component"]


class SignalProduct(Product):
    """Functions on the sphere multiplied, channel by channel, and cut to the degrees wanted.

    The coefficients of degrees ``l1, l2, l3`` are a fixed number times `tenfold.so3.wigner_3j`, times a factor of each
    degree. What the number is depends on how functions are multiplied: see `factor`.

    Args:
        irreps_in1: a function for each channel: each degree once, equally often, like ``"64x0e+64x1o+64x2e"``.
        irreps_in2: as many channels, or one that multiplies all.
        irreps_out: degrees up to the sum of the largest two; by default all up to the larger.
        layout: of all three.
        weights: ``"degree"``: one for each degree and channel of left, right and out. ``"none"``.
        rank: how many products with weights of their own are added up.
        normalization: ``"integral"``: as functions in harmonics of norm one are multiplied. ``"component"``: each
            degree scaled so that independent numbers of variance one, weights included, give such numbers.

    Raises:
        Unsuited: irreps are no functions on the sphere, channels differ, or degrees or the parity out cannot occur.
        TenfoldError: there is no such option.
    """

    #: Whether true scalars make true scalars (1), or what changes sign under the inversion (-1).
    turns = 1
    #: The smallest degree of what comes out.
    lowest = 0
    #: What `tenfold.so3.products._sphere_grid.on_sphere` calls it, and by which method; "" where it is none of those.
    kind = ""
    method: str = "auto"

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
        choice("weights", weights, ("none", "degree"))
        choice("normalization", normalization, ("integral", "component"))
        self.rank = whole_number("rank", rank, 1)
        if weights == "none" and self.rank > 1:
            raise TenfoldError(f"rank {rank} needs weights='degree': without weights its products are all the same")
        left, right = (
            self.signal(name, Irreps(irreps))
            for name, irreps in (("irreps_in1", irreps_in1), ("irreps_in2", irreps_in2))
        )
        same_channels(left, right)
        parity = self.turns * left.parity * right.parity
        if irreps_out is None:
            degrees = range(self.lowest, max(left.lmax, right.lmax) + 1)
            irreps_out = Irreps([(left.channels, (n, self.grade(Irrep(n, parity)))) for n in degrees])
        out = self.signal("irreps_out", Irreps(irreps_out))
        if out.channels != left.channels:
            raise Unsuited(f"irreps_out '{Irreps(irreps_out)}' must have {left.channels} channels, as irreps_in1")
        if out.parity != parity:
            raise Unsuited(
                f"irreps_out '{Irreps(irreps_out)}' have not the parity of this product of '{Irreps(irreps_in1)}' and "
                f"'{Irreps(irreps_in2)}', whose degree 1 is {Irrep(1, self.grade(Irrep(1, parity)))}"
            )
        if out.lmax > left.lmax + right.lmax:
            raise Unsuited(
                f"irreps_out '{Irreps(irreps_out)}' have degree {out.lmax}, above {left.lmax} + {right.lmax}"
            )
        self.left, self.right, self.out = left, right, out
        signals = [(signal.degrees, signal.channels) for signal in (left, right, out)]
        self._factors = Factors(signals, self.rank) if weights == "degree" else None
        numel = self._factors.numel if self._factors else 0
        super().__init__(irreps_in1, irreps_in2, irreps_out, layout=layout, weight_numel=numel)
        self.scale = [1.0] * len(out.degrees)
        if normalization == "component":
            self.scale = [self._variance(degree) for degree in out.degrees]

    def _variance(self, degree: int) -> float:
        """What makes a degree's variance one. Where no path leads to it, it is zero anyway."""
        pairs = ((a, b) for a in self.left.degrees for b in self.right.degrees)
        found = self.rank * sum(self.factor(a, b, degree) ** 2 for a, b in pairs)
        return math.sqrt((2 * degree + 1) / found) if found else 1.0

    @staticmethod
    def grade(ir: Irrep) -> int:
        """1 for the irreps of true scalars that are functions on the sphere, -1 for others."""
        return 1 if ir.natural else -1

    @classmethod
    def signal(cls, name: str, irreps: Irreps) -> Signal:
        """What irreps are. Raises `Unsuited` where they are no such thing."""
        return Signal.of(name, irreps)

    @staticmethod
    @abstractmethod
    def factor(l1: int, l2: int, l3: int) -> float:
        """What multiplies `tenfold.so3.wigner_3j` in ``normalization="integral"``; zero where there is no path."""

    def _product(
        self,
        left: Float[Tensor, "batch dim1"],
        right: Float[Tensor, "batch dim2"],
        weight: Float[Tensor, "batch weight_numel"] | Float[Tensor, " weight_numel"] | None,
    ) -> Float[Tensor, "batch out"]:
        first, second = self.left.components(left, self.layout), self.right.components(right, self.layout)
        channels = self.left.channels
        if weight is not None and self._factors is not None and self._in_one_pass(first, second, weight):
            factors = [one.reshape(-1, *one.shape[-3:]).squeeze(-2) for one in self._factors.by_degree(weight)]
            factors[1] = factors[1].expand(-1, -1, channels)
            found = self._weighted(first, second.expand(-1, -1, channels), factors)
        elif weight is not None and self._factors is not None:
            one, two, three = self._factors(weight)
            first = (first[..., None, :] * one).flatten(-2)
            second = (second[..., None, :] * two).expand(-1, -1, -1, channels).flatten(-2)
            found = self._scaled(first, second).unflatten(-1, (self.rank, channels)) * three
            found = found.squeeze(-2) if self.rank == 1 else found.sum(-2)
        else:
            found = self._scaled(first, second.expand(-1, -1, channels))
        return self.out.features(found, self.layout)

    @abstractmethod
    def _scaled(
        self, left: Float[Tensor, "batch dim1 mul"], right: Float[Tensor, "batch dim2 mul"]
    ) -> Float[Tensor, "batch out mul"]:
        """The product of signals with the degrees that they have, each degree out multiplied by its scale."""

    def _in_one_pass(self, left: Tensor, right: Tensor, weight: Tensor) -> bool:
        """Whether `_weighted` is how this product is taken with weights."""
        return (
            self.kind != ""
            and self.rank == 1
            and self.method != "dense"
            and left.device.type == "cpu"
            and not followed(left, right, weight)
        )

    def _weighted(
        self,
        left: Float[Tensor, "batch dim1 mul"],
        right: Float[Tensor, "batch dim2 mul"],
        factors: Sequence[Float[Tensor, "batch degree mul"]],
    ) -> Float[Tensor, "batch out mul"]:
        """`_scaled` with factors of left, right and out, by a kernel that multiplies by them on the way."""
        assert self.kind != ""
        return on_sphere_weighted((left, right), factors, self.kind, self._degrees, self.scale, self.method)

    @property
    def _degrees(self) -> tuple[tuple[int, ...], ...]:
        return self.left.degrees, self.right.degrees, self.out.degrees


class WholeSignalProduct(SignalProduct):
    """A product of signals that have all degrees up to some: what is missing is zero, what is not wanted cut off."""

    def _scaled(
        self, left: Float[Tensor, "batch dim1 mul"], right: Float[Tensor, "batch dim2 mul"]
    ) -> Float[Tensor, "batch out mul"]:
        first, second = filled(left, self.left.degrees), filled(right, self.right.degrees)
        found = self._multiply(first, second, (self.left.lmax, self.right.lmax, self.out.lmax))
        return chosen(found, self.out.degrees) * spread(self.scale, self.out.degrees, left)

    @abstractmethod
    def _multiply(
        self,
        left: Float[Tensor, "batch dim1 mul"],
        right: Float[Tensor, "batch dim2 mul"],
        degrees: tuple[int, int, int],
    ) -> Float[Tensor, "batch out mul"]:
        """The product of signals with all degrees up to these."""


def choice(name: str, value: object, among: Sequence[str]) -> None:
    """Raises `TenfoldError` where an option is none of those there are."""
    if value not in among:
        hint = closest(value, among) if isinstance(value, str) else ""
        raise TenfoldError(f"{name} must be {' or '.join(map(repr, among))}, not {quoted(value)}{hint}")


def same_channels(left: Signal, right: Signal) -> None:
    """Raises `Unsuited` where channels of the right are neither as many as of the left nor one."""
    if right.channels not in (1, left.channels):
        raise Unsuited(
            f"irreps_in2 have {right.channels} channels for {left.channels} of irreps_in1: as many are needed, or one"
        )
