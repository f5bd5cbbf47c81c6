"""Instructions of a product as calls of `trilinear`: one for all paths whose channels run along together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from tenfold.so3.irreps import Block, Irreps
from tenfold.so3.layouts import split
from tenfold.so3.products._instructions import Instruction
from tenfold.so3.products._product import Product
from tenfold.so3.products._terms import Coupling, Terms, terms
from tenfold.so3.products._trilinear import trilinear


@dataclass(frozen=True)
class Path:
    """An instruction with its blocks, its factor, and where its weights begin, of which there are so many."""

    instruction: Instruction
    left: Block
    right: Block
    out: Block
    factor: float
    first: int
    weights: int

    @classmethod
    def of(cls, one: Instruction, factor: float, sides: tuple[Irreps, Irreps, Irreps], first: int) -> Path:
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


def calls_of(paths: Sequence[Path], product: Product) -> list[Call]:
    """The calls that compute all paths."""
    found: dict[tuple[bool, bool, str, int], list[Path]] = {}
    for path in sorted(paths, key=lambda path: path.instruction.out):
        weighted = path.instruction.weighted and not path.mixed
        found.setdefault((path.mixed, weighted, path.kept, path.mul), []).append(path)
    return [Call(*alike, group, product) for alike, group in found.items()]


class _Side:
    """The components of one side of a call, ``[batch, component, channel]``: blocks of one multiplicity, or all."""

    def __init__(self, side: int, mul: int | None, product: Product, paths: Sequence[Path]) -> None:
        self.side, self.mul = side, mul
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

    def place(self, path: Path, channel: int) -> tuple[int, int]:
        """The first component of a path's block, or of one of its channels, and how far the next one is."""
        number = self._number(path.instruction)
        if self.mul is not None:
            return self.places[number, path.instruction.mode == "uvu<v"], 1
        block, start = self.irreps[number], self.irreps.slices()[number].start
        return start + channel, block.mul

    def components(self, features: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch component channel"]:
        if self.mul is None:
            return features[..., None]
        whole = all(block.mul == self.mul for block in self.irreps) and not any(half for _, half in self.places)
        if whole:
            return features.unflatten(-1, (-1, self.mul))
        blocks = split(features, self.irreps, "ir_mul")
        parts = []
        for number, halved in self.places:
            part = blocks[number].transpose(-1, -2)
            if halved:
                mul = self.irreps[number].mul
                part = part[..., torch.triu_indices(mul, mul, 1, device=features.device)[self.side]]
            parts.append(part)
        return torch.cat(parts, dim=-2)


class Call:
    """Paths with the same kept channels: one call of `trilinear`, then a matrix product for each block of out.

    Attributes:
        whole: whether what `trilinear` returns is the feature of out as it is.
    """

    def __init__(
        self, mixed: bool, weighted: bool, kept: str, mul: int, paths: Sequence[Path], product: Product
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
            and list(self.rows) == [number for number, block in enumerate(self.irreps_out) if block.mul]
        )

    @staticmethod
    def _width(path: Path) -> int:
        return path.others if path.instruction.mode == "uvuv" else 1

    def _by_out(self) -> dict[int, list[Path]]:
        found: dict[int, list[Path]] = {}
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
        paths: Sequence[Path],
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
