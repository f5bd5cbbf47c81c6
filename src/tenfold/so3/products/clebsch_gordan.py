"""The Clebsch-Gordan product: every path between irreps, with or without weights, normalised as e3nn does."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from tenfold._arguments import closest, quoted
from tenfold.errors import TenfoldError
from tenfold.so3.irreps import Block, Given, Irrep, Irreps
from tenfold.so3.layouts import Layout, split
from tenfold.so3.products._product import Product
from tenfold.so3.products._registry import Unsuited, product_method
from tenfold.so3.products._terms import Coupling, Terms, terms
from tenfold.so3.products._trilinear import trilinear

Mode = Literal["uvw", "uvu", "uvv", "uuw", "uuu", "uvuv", "uvu<v"]
IrrepNormalization = Literal["component", "norm"]
PathNormalization = Literal["element", "path"]


class Instruction(NamedTuple):
    """One path: which block of each side, how channels meet, whether it has weights, and its share of the variance.

    The letters of a mode are the channels of left and right, then those of out. Channels of left that are not in out
    are summed over, and so are those of right; ``"uvu<v"`` takes each pair of two channels once.
    """

    left: int
    right: int
    out: int
    mode: Mode
    weighted: bool
    path_weight: float = 1.0


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
        _one_of("irrep_normalization", irrep_normalization, get_args(IrrepNormalization))
        _one_of("path_normalization", path_normalization, get_args(PathNormalization))
        sides = (Irreps(irreps_in1), Irreps(irreps_in2), Irreps(irreps_out))
        self.instructions = tuple(_checked(number, one, sides) for number, one in enumerate(instructions))
        factors = _factors(self.instructions, sides, irrep_normalization, path_normalization)
        paths, numel = [], 0
        for one, factor in zip(self.instructions, factors, strict=True):
            path = _Path.of(one, factor, sides, numel)
            numel += path.weights
            if path.left.mul and path.right.mul and path.out.mul:
                paths.append(path)
        super().__init__(*sides, layout=layout, weight_numel=numel)
        self._calls = [
            _Call(mixed, weighted, kept, mul, group, self)
            for (mixed, weighted, kept, mul), group in _grouped(paths).items()
        ]

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
        if len(self._calls) == 1 and self._calls[0].whole:
            return self._calls[0](left, right, weights).flatten(1)
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
            columns.append((total if self.layout == "ir_mul" else total.transpose(1, 2)).flatten(1))
        return torch.cat(columns, dim=1)


@product_method("clebsch_gordan", complete=True, summary="every path, with a weight for each and each channel")
def clebsch_gordan(irreps_in1: Irreps, irreps_in2: Irreps, irreps_out: Irreps, *, layout: Layout) -> ClebschGordan:
    """`ClebschGordan.channelwise`."""
    return ClebschGordan.channelwise(irreps_in1, irreps_in2, irreps_out, layout=layout)


# --- what instructions say


def _one_of(name: str, given: Any, choices: tuple[str, ...]) -> None:
    if given not in choices:
        hint = closest(given, choices) if isinstance(given, str) else ""
        raise TenfoldError(f"{name} must be {' or '.join(map(repr, choices))}, not {quoted(given)}{hint}")


def _checked(number: int, given: Any, sides: tuple[Irreps, Irreps, Irreps]) -> Instruction:
    name = f"instructions[{number}]"
    try:
        one = Instruction(*given)
    except TypeError as error:
        raise TenfoldError(f"{name} must be like (0, 1, 0, 'uvw', True), not {quoted(given)}") from error
    for side, block, irreps in zip(("left", "right", "out"), one[:3], sides, strict=True):
        if not isinstance(block, int) or not 0 <= block < len(irreps):
            raise TenfoldError(f"{name} has {side} {quoted(block)}, but '{irreps}' has {len(irreps)} blocks")
    _one_of(f"the mode of {name}", one.mode, get_args(Mode))
    left, right, out = (irreps[block] for irreps, block in zip(sides, one[:3], strict=True))
    if out.ir not in left.ir * right.ir:
        raise TenfoldError(f"{name} makes {out.ir} of {left.ir} and {right.ir}, which does not occur in their product")
    wanted = {
        "uvu": left.mul == out.mul,
        "uvv": right.mul == out.mul,
        "uuw": left.mul == right.mul and (one.weighted or out.mul == 1),
        "uuu": left.mul == right.mul == out.mul,
        "uvuv": left.mul * right.mul == out.mul,
        "uvu<v": left.mul == right.mul and left.mul * (left.mul - 1) // 2 == out.mul,
    }
    if not wanted.get(one.mode, True):
        muls = f"{left.mul}, {right.mul} and {out.mul}"
        weights = " without weights" if one.mode == "uuw" and not one.weighted else ""
        raise TenfoldError(f"{name}: mode '{one.mode}'{weights} cannot connect multiplicities {muls}")
    if one.mode == "uvw" and not one.weighted:
        raise TenfoldError(f"{name}: mode 'uvw' must have weights")
    if not one.path_weight >= 0:
        raise TenfoldError(f"{name} has path_weight {quoted(one.path_weight)}, which must be at least 0")
    return one


def _factors(
    instructions: Sequence[Instruction],
    sides: tuple[Irreps, Irreps, Irreps],
    irrep_normalization: IrrepNormalization,
    path_normalization: PathNormalization,
) -> list[float]:
    """What each path is multiplied by, beside its 3j coefficients of norm one."""
    blocks = [[irreps[n] for irreps, n in zip(sides, one[:3], strict=True)] for one in instructions]
    elements = []
    for one, (left, right, _) in zip(instructions, blocks, strict=True):
        summed = {"uvw": left.mul * right.mul, "uvu": right.mul, "uvv": left.mul, "uuw": left.mul}
        elements.append(summed.get(one.mode, 1))
    together: dict[int, list[int]] = {}
    for one, number in zip(instructions, elements, strict=True):
        together.setdefault(one.out, []).append(number)
    found = []
    for one, number, (left, right, out) in zip(instructions, elements, blocks, strict=True):
        variance = out.ir.dim if irrep_normalization == "component" else left.ir.dim * right.ir.dim
        others = together[one.out]
        summands = sum(others) if path_normalization == "element" else len(others) * number
        found.append(math.sqrt(one.path_weight * variance / (summands or 1)))
    return found


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


# --- how they are computed


@dataclass(frozen=True)
class _Path:
    """An instruction with its blocks, its factor, and where its weights begin, of which there are so many."""

    instruction: Instruction
    left: Block
    right: Block
    out: Block
    factor: float
    first: int
    weights: int

    @classmethod
    def of(cls, one: Instruction, factor: float, sides: tuple[Irreps, Irreps, Irreps], first: int) -> _Path:
        left, right, out = (irreps[n] for irreps, n in zip(sides, one[:3], strict=True))
        u, v, w = left.mul, right.mul, out.mul
        numbers = {"uvw": u * v * w, "uvu": u * v, "uvv": u * v, "uuw": u * w, "uuu": u, "uvuv": u * v, "uvu<v": w}
        return cls(one, left, right, out, factor, first, numbers[one.mode] if one.weighted else 0)

    @property
    def kept(self) -> Literal["left", "right", "both"]:
        """Whose channels run along the last axis: one side's, each of the other's then is a path; or both, together."""
        mode = self.instruction.mode
        if mode in ("uuw", "uuu", "uvu<v"):
            return "both"
        if mode in ("uvu", "uvv"):
            return "left" if mode == "uvu" else "right"
        return "left" if self.left.mul > self.right.mul else "right"

    @property
    def mul(self) -> int:
        """How many channels that axis has."""
        if self.instruction.mode == "uvu<v":
            return self.out.mul
        return self.right.mul if self.kept == "right" else self.left.mul

    @property
    def others(self) -> int:
        """How many channels of the other side there are."""
        return {"left": self.right.mul, "right": self.left.mul, "both": 1}[self.kept]

    @property
    def mixed(self) -> bool:
        """Whether a matrix product follows, or a sum over channels."""
        return self.instruction.mode in ("uvw", "uuw")


def _grouped(paths: Sequence[_Path]) -> dict[tuple[bool, bool, str, int], list[_Path]]:
    """Paths that one call of `trilinear` computes."""
    found: dict[tuple[bool, bool, str, int], list[_Path]] = {}
    for path in sorted(paths, key=lambda path: path.instruction.out):
        weighted = path.instruction.weighted and not path.mixed
        found.setdefault((path.mixed, weighted, path.kept, path.mul), []).append(path)
    return found


class _Side:
    """The components of one side of a call, ``[batch, component, channel]``: blocks of one multiplicity, or all."""

    def __init__(self, side: int, mul: int | None, product: ClebschGordan, paths: Sequence[_Path]) -> None:
        self.side, self.mul, self.layout = side, mul, product.layout
        self.irreps = (product.irreps_in1, product.irreps_in2)[side]
        self.places: dict[tuple[int, bool], int] = {}
        self.size = 0
        if mul is None:
            self.size = self.irreps.dim
            return
        half = {(self._number(path.instruction), True) for path in paths if path.instruction.mode == "uvu<v"}
        whole = {(number, False) for number, block in enumerate(self.irreps) if block.mul == mul}
        used = {(self._number(path.instruction), False) for path in paths} & whole
        for number, halved in sorted((whole if used else set()) | half):
            self.places[number, halved] = self.size
            self.size += self.irreps[number].ir.dim

    def _number(self, one: Instruction) -> int:
        return one.right if self.side else one.left

    def place(self, path: _Path, channel: int) -> tuple[int, int]:
        """The first component of a path's block, or of one of its channels, and how far the next one is."""
        number = self._number(path.instruction)
        if self.mul is not None:
            return self.places[number, path.instruction.mode == "uvu<v"], 1
        block, start = self.irreps[number], self.irreps.slices()[number].start
        return (start + channel, block.mul) if self.layout == "ir_mul" else (start + channel * block.ir.dim, 1)

    def components(self, features: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch component channel"]:
        if self.mul is None:
            return features[..., None]
        whole = all(block.mul == self.mul for block in self.irreps) and not any(half for _, half in self.places)
        if whole and self.layout == "ir_mul":
            return features.unflatten(-1, (-1, self.mul))
        blocks = split(features, self.irreps, self.layout)
        parts = []
        for number, halved in self.places:
            part = blocks[number].transpose(-1, -2)
            if halved:
                mul = self.irreps[number].mul
                part = part[..., torch.triu_indices(mul, mul, 1, device=features.device)[self.side]]
            parts.append(part)
        return torch.cat(parts, dim=-2)


class _Call:
    """Paths with the same kept channels: one call of `trilinear`, then a matrix product for each block of out.

    Attributes:
        whole: whether what `trilinear` returns is the feature of out as it is.
    """

    def __init__(
        self, mixed: bool, weighted: bool, kept: str, mul: int, paths: Sequence[_Path], product: ClebschGordan
    ) -> None:
        self.mixed, self.swapped, self.mul, self.paths = mixed, kept == "right", mul, paths
        self.left = _Side(int(self.swapped), mul, product, paths)
        self.right = _Side(int(not self.swapped), mul if kept == "both" else None, product, paths)
        self.irreps_out = product.irreps_out
        # Which rows of the result a block of out gets: its components one after the other, each so many rows.
        self.rows: dict[int, tuple[int, int]] = {}
        size = 0
        for number, each in self._by_out().items():
            width = sum(path.others for path in each) if mixed else self._width(each[0])
            self.rows[number] = (size, width)
            size += self.irreps_out[number].ir.dim * width
        self.terms = self._terms(size)
        self.weights = self._weights() if weighted else None
        straight = all(path.instruction.mode != "uvuv" or path.others == 1 or self.swapped for path in paths)
        self.whole = (
            not mixed
            and straight
            and product.layout == "ir_mul"
            and list(self.rows) == [number for number, block in enumerate(self.irreps_out) if block.mul]
        )

    @staticmethod
    def _width(path: _Path) -> int:
        return path.others if path.instruction.mode == "uvuv" else 1

    def _by_out(self) -> dict[int, list[_Path]]:
        found: dict[int, list[_Path]] = {}
        for path in self.paths:
            found.setdefault(path.instruction.out, []).append(path)
        return found

    def _terms(self, size: int) -> Terms:
        couplings, used = [], dict.fromkeys(self.rows, 0)
        for path in self.paths:
            number = path.instruction.out
            first, width = self.rows[number]
            degrees, factor = (path.left.ir.l, path.right.ir.l, path.out.ir.l), path.factor
            if self.swapped:
                # 3j coefficients of an odd sum of degrees change sign.
                factor *= (-1) ** sum(degrees)
                degrees = (degrees[1], degrees[0], degrees[2])
            for channel in range(path.others):
                left, left_step = self.left.place(path, channel)
                right, right_step = self.right.place(path, channel)
                row = first + (used[number] + channel if width > 1 else 0)
                couplings.append(Coupling(degrees, factor, left, right, row, (left_step, right_step, width)))
            if self.mixed:
                used[number] += path.others
        return terms(couplings, (self.left.size, self.right.size, size))

    def _weights(self) -> Tensor | slice:
        """Which weights the paths have, in the order of paths and channels."""
        parts = []
        for path in self.paths:
            numbers = torch.arange(path.first, path.first + path.weights)
            if not self.swapped and path.others > 1:
                numbers = numbers.reshape(self.mul, path.others).T.flatten()
            parts.append(numbers)
        index = torch.cat(parts)
        first = int(index[0])
        if torch.equal(index, torch.arange(first, first + len(index))):
            return slice(first, first + len(index))
        return index

    def __call__(
        self,
        left: Float[Tensor, "batch dim1"],
        right: Float[Tensor, "batch dim2"],
        weight: Float[Tensor, "batch_or_one numel"] | None,
    ) -> Float[Tensor, "batch row channel"]:
        first, second = (right, left) if self.swapped else (left, right)
        chosen = None
        if weight is not None and self.weights is not None:
            index = self.weights if isinstance(self.weights, slice) else self.weights.to(weight.device)
            chosen = weight[:, index].unflatten(-1, (-1, self.mul))
        return trilinear(self.left.components(first), self.right.components(second), chosen, self.terms)

    def blocks(
        self, left: Tensor, right: Tensor, weight: Tensor | None
    ) -> Iterable[tuple[int, Float[Tensor, "batch component mul"]]]:
        """The blocks of out with their numbers."""
        found = self(left, right, weight)
        for number, paths in self._by_out().items():
            (first, width), dim = self.rows[number], self.irreps_out[number].ir.dim
            part = found[:, first : first + dim * width]
            if self.mixed:
                yield number, self._mix(part.unflatten(1, (dim, width)).flatten(2), paths, weight)
            elif width > 1:
                part = part.unflatten(1, (dim, width))
                yield number, (part if self.swapped else part.transpose(2, 3)).flatten(2)
            else:
                yield number, part

    def _mix(
        self,
        part: Float[Tensor, "batch component u_or_uv"],
        paths: Sequence[_Path],
        weight: Float[Tensor, "batch_or_one numel"] | None,
    ) -> Float[Tensor, "batch component w"]:
        matrices = []
        for path in paths:
            if weight is None or not path.weights:
                matrices.append(part.new_ones(1, self.mul, 1))
                continue
            matrix = weight[:, path.first : path.first + path.weights]
            if path.instruction.mode == "uvw" and not self.swapped:
                matrix = matrix.unflatten(1, (self.mul, path.others, path.out.mul)).transpose(1, 2).flatten(1)
            matrices.append(matrix.unflatten(1, (-1, path.out.mul)))
        rows = 1 if weight is None else weight.shape[0]
        return part @ torch.cat([matrix.expand(rows, -1, -1) for matrix in matrices], dim=1)
