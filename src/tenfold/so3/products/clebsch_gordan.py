"""The Clebsch-Gordan product: every path between irreps, with or without weights, normalised as e3nn does."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from tenfold.errors import TenfoldError
from tenfold.so3.irreps import Given, Irrep, Irreps
from tenfold.so3.layouts import Layout, relayout
from tenfold.so3.products._instruction_calls import Path, calls_of
from tenfold.so3.products._instructions import (
    Instruction,
    IrrepNormalization,
    Mode,
    PathNormalization,
    checked,
    factors,
    one_of,
)
from tenfold.so3.products._product import Product
from tenfold.so3.products._registry import Unsuited, product_method


class _Way(NamedTuple):
    """A path without weights to a block of out of its own."""

    left: int
    right: int
    mul: int
    ir: Irrep
    mode: Mode


class ClebschGordan(Product):
    """The sum over paths of 3j coefficients times both features, times weights where a path has them.

    Args:
        irreps_in1: of the left feature.
        irreps_in2: of the right one.
        irreps_out: of what comes out.
        instructions: the paths, as `Instruction` or tuples like ``(0, 1, 0, "uvw", True)``.
        layout: of all three.
        irrep_normalization: ``"component"``: out has components of variance one if both features do; ``"norm"``: the
            same for norms.
        path_normalization: ``"element"``: each summand in a block of out has equal weight; ``"path"``: each path.

    Raises:
        TenfoldError: an instruction names a block that is not there, a mode that is none, irreps that do not couple, or
            multiplicities that its mode cannot connect.

    Cost: that of `trilinear` for each multiplicity that occurs, with one channel for each u (or v, where v is kept) and
    as many terms as there are of the other; modes that end with w then are a matrix product for each block of out.
    Papers: "Tensor field networks: Rotation- and translation-equivariant neural networks for 3D point clouds", 2018;
    the normalisation is that of "e3nn: Euclidean neural networks", 2022.
    """

    def __init__(
        self,
        irreps_in1: Given,
        irreps_in2: Given,
        irreps_out: Given,
        instructions: Iterable[Instruction | tuple[Any, ...]],
        *,
        layout: Layout = "mul_ir",
        irrep_normalization: IrrepNormalization = "component",
        path_normalization: PathNormalization = "element",
    ) -> None:
        one_of("irrep_normalization", irrep_normalization, get_args(IrrepNormalization))
        one_of("path_normalization", path_normalization, get_args(PathNormalization))
        sides = (Irreps(irreps_in1), Irreps(irreps_in2), Irreps(irreps_out))
        self.instructions = tuple(checked(number, one, sides) for number, one in enumerate(instructions))
        shares = factors(self.instructions, sides, irrep_normalization, path_normalization)
        paths, numel = [], 0
        for one, factor in zip(self.instructions, shares, strict=True):
            path = Path.of(one, factor, sides, numel)
            numel += path.weights
            if path.left.mul and path.right.mul and path.out.mul:
                paths.append(path)
        super().__init__(*sides, layout=layout, weight_numel=numel)
        self._calls = calls_of(paths, self)

    @classmethod
    def full(
        cls,
        irreps_in1: Given,
        irreps_in2: Given,
        filter_out: Given = None,
        *,
        layout: Layout = "mul_ir",
        irrep_normalization: IrrepNormalization = "component",
    ) -> ClebschGordan:
        """Every channel of the left with every one of the right, every path kept separate, no weights.

        Args:
            irreps_in1: of the left feature; simplified.
            irreps_in2: of the right one; simplified.
            filter_out: only these irreps come out; by default all.
            layout: of all three.
            irrep_normalization: as of the class.
        """
        left, right = Irreps(irreps_in1).simplify(), Irreps(irreps_in2).simplify()
        ways = [
            _Way(i, j, left[i].mul * right[j].mul, ir, "uvuv")
            for i, j, ir in left.paths(right)
            if _wanted(ir, filter_out)
        ]
        return cls._separate(left, right, sorted(ways, key=lambda way: way.ir), layout, irrep_normalization)

    @classmethod
    def fully_connected(
        cls,
        irreps_in1: Given,
        irreps_in2: Given,
        irreps_out: Given,
        *,
        layout: Layout = "mul_ir",
        irrep_normalization: IrrepNormalization = "component",
        path_normalization: PathNormalization = "element",
    ) -> ClebschGordan:
        """Every channel of both sides with every one of out, on every path, each with a weight of its own."""
        left, right, out = Irreps(irreps_in1), Irreps(irreps_in2), Irreps(irreps_out)
        instructions = [
            Instruction(i, j, k, "uvw", True)
            for i, one in enumerate(left)
            for j, other in enumerate(right)
            for k, block in enumerate(out)
            if block.ir in one.ir * other.ir
        ]
        return cls(
            left,
            right,
            out,
            instructions,
            layout=layout,
            irrep_normalization=irrep_normalization,
            path_normalization=path_normalization,
        )

    @classmethod
    def elementwise(
        cls,
        irreps_in1: Given,
        irreps_in2: Given,
        filter_out: Given = None,
        *,
        layout: Layout = "mul_ir",
        irrep_normalization: IrrepNormalization = "component",
    ) -> ClebschGordan:
        """The first irrep of the left with the first of the right, and so on, every path kept separate, no weights.

        Blocks are cut so that those of the two sides are equally long: with layout ``"ir_mul"`` features have to be cut
        likewise, into blocks of ``irreps_in1`` and ``irreps_in2`` of the product.

        Raises:
            TenfoldError: one side has more irreps than the other.
        """
        left, right = Irreps(irreps_in1).simplify(), Irreps(irreps_in2).simplify()
        if left.num_irreps != right.num_irreps:
            raise TenfoldError(
                f"irreps_in2 '{right}' must be as many irreps as irreps_in1 '{left}', {left.num_irreps}, "
                f"not {right.num_irreps}"
            )
        lefts, rights = _cut(left, right), _cut(right, left)
        ways = [
            _Way(n, n, one.mul, ir, "uuu")
            for n, (one, other) in enumerate(zip(lefts, rights, strict=True))
            for ir in one.ir * other.ir
            if _wanted(ir, filter_out)
        ]
        return cls._separate(lefts, rights, ways, layout, irrep_normalization)

    @classmethod
    def separate(
        cls,
        irreps_in1: Given,
        irreps_in2: Given,
        filter_out: Given = None,
        *,
        layout: Layout = "mul_ir",
        irrep_normalization: IrrepNormalization = "component",
    ) -> ClebschGordan:
        """Channel c of the left with channel c of the right, every path between them kept separate, no weights.

        All channels of the left meet the right where that has one. Blocks of out are sorted, one for each path.

        Raises:
            Unsuited: multiplicities are not all alike, or one on the right.
        """
        left, right = Irreps(irreps_in1), Irreps(irreps_in2)
        mul = _channels(left, right)
        ways = [
            _Way(i, j, mul, ir, "uuu" if right[j].mul == mul else "uvu")
            for i, j, ir in left.paths(right)
            if _wanted(ir, filter_out)
        ]
        return cls._separate(left, right, sorted(ways, key=lambda way: way.ir), layout, irrep_normalization)

    @classmethod
    def channelwise(
        cls,
        irreps_in1: Given,
        irreps_in2: Given,
        irreps_out: Given = None,
        *,
        layout: Layout = "mul_ir",
        irrep_normalization: IrrepNormalization = "component",
        path_normalization: PathNormalization = "element",
    ) -> ClebschGordan:
        """Channel c of the left with channel c of the right to channel c of out: a weight for each path and channel.

        All channels of the left meet the right where that has one. Paths to one irrep are added up.

        Args:
            irreps_in1: of the left feature, equally many of each.
            irreps_in2: of the right one, as many of each or one of each.
            irreps_out: of what comes out; by default all that paths lead to, up to the largest degree of both sides.
            layout: of all three.
            irrep_normalization: as of the class.
            path_normalization: as of the class.

        Raises:
            Unsuited: multiplicities are not all alike, or one on the right.
        """
        left, right = Irreps(irreps_in1), Irreps(irreps_in2)
        mul = _channels(left, right)
        if irreps_out is None:
            reached = {path.ir for path in left.paths(right)}
            most = max(left.lmax, right.lmax) if reached else 0
            out = Irreps([(mul, ir) for ir in sorted(reached) if ir.l <= most])
        else:
            out = Irreps(irreps_out)
        if any(block.mul != mul for block in out):
            raise Unsuited(f"irreps_out '{out}' must have {mul} of each, as many as there are channels")
        instructions = [
            Instruction(i, j, k, "uuu" if right[j].mul == mul else "uvu", True)
            for k, block in enumerate(out)
            for i, j, ir in left.paths(right)
            if ir == block.ir
        ]
        return cls(
            left,
            right,
            out,
            instructions,
            layout=layout,
            irrep_normalization=irrep_normalization,
            path_normalization=path_normalization,
        )

    @classmethod
    def _separate(
        cls,
        left: Irreps,
        right: Irreps,
        ways: Iterable[_Way],
        layout: Layout,
        irrep_normalization: IrrepNormalization,
    ) -> ClebschGordan:
        """A block of out for each path."""
        ways = list(ways)
        return cls(
            left,
            right,
            [(way.mul, way.ir) for way in ways],
            [Instruction(way.left, way.right, number, way.mode, False) for number, way in enumerate(ways)],
            layout=layout,
            irrep_normalization=irrep_normalization,
        )

    def _product(
        self,
        left: Float[Tensor, "batch dim1"],
        right: Float[Tensor, "batch dim2"],
        weight: Float[Tensor, "batch weight_numel"] | Float[Tensor, " weight_numel"] | None,
    ) -> Float[Tensor, "batch out"]:
        weights = None if weight is None else weight.reshape(-1, self.weight_numel)
        left, right = (
            relayout(features, irreps, self.layout, "ir_mul")
            for features, irreps in ((left, self.irreps_in1), (right, self.irreps_in2))
        )
        if len(self._calls) == 1 and self._calls[0].whole:
            out = self._calls[0](left, right, weights).flatten(1)
        else:
            out = self._joined(left, right, weights)
        return relayout(out, self.irreps_out, "ir_mul", self.layout)

    def _joined(self, left: Tensor, right: Tensor, weights: Tensor | None) -> Float[Tensor, "batch out"]:
        """What several calls, or blocks in another order, make."""
        found: list[list[Tensor]] = [[] for _ in self.irreps_out]
        for call in self._calls:
            for number, part in call.blocks(left, right, weights):
                found[number].append(part)
        columns = [left.new_zeros(left.shape[0], 0)]
        for block, parts in zip(self.irreps_out, found, strict=True):
            if not parts:
                columns.append(left.new_zeros(left.shape[0], block.dim))
                continue
            total = parts[0]
            for part in parts[1:]:
                total = total + part
            columns.append(total.flatten(1))
        return torch.cat(columns, dim=1)


@product_method("clebsch_gordan", complete=True, summary="every path, with a weight for each and each channel")
def clebsch_gordan(irreps_in1: Irreps, irreps_in2: Irreps, irreps_out: Irreps, *, layout: Layout) -> ClebschGordan:
    """`ClebschGordan.channelwise`."""
    return ClebschGordan.channelwise(irreps_in1, irreps_in2, irreps_out, layout=layout)


def _wanted(ir: Irrep, filter_out: Given) -> bool:
    return filter_out is None or Irreps(filter_out).count(ir) > 0


def _channels(left: Irreps, right: Irreps) -> int:
    muls, others = {block.mul for block in left}, {block.mul for block in right}
    mul = max(muls, default=1)
    if len(muls) > 1 or len(others) > 1 or not others <= {1, mul}:
        raise Unsuited(f"irreps_in1 '{left}' must have equally many of each, and irreps_in2 '{right}' as many or one")
    return mul


def _cut(irreps: Irreps, other: Irreps) -> Irreps:
    """Irreps with blocks that end where those of the other end, too."""
    ends = set()
    for each in (irreps, other):
        end = 0
        for block in each:
            end += block.mul
            ends.add(end)
    found, begin = [], 0
    for block in irreps:
        end = begin + block.mul
        for stop in sorted(cut for cut in ends if begin < cut <= end):
            found.append((stop - begin, block.ir))
            begin = stop
    return Irreps(found)
