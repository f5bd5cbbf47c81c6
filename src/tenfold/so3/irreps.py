"""Irreducible representations of O(3), and lists of them with multiplicities, in the notation ``32x0e+16x1o``."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from tenfold._arguments import quoted, whole_number
from tenfold.errors import MissingExtra, TenfoldError

# Numbers that somebody can mean: longer ones are not even read.
_ONE = re.compile(r"(\d{1,6})([eoy])", re.ASCII)
_BLOCK = re.compile(r"(?:(\d{1,12})\s*x\s*)?(\d{1,6}[eoy])", re.ASCII)
_SHAPE = "'1o': a degree, then 'e' for even, 'o' for odd or 'y' for the parity of spherical harmonics"


@dataclass(frozen=True, order=True, init=False)
class Irrep:
    """An irreducible representation of O(3): a degree and a parity.

    They compare by degree, then parity, odd before even. Two of them multiplied are the irreps of their product.

    Args:
        degree: ``"1o"`` and the like, a degree, another `Irrep`, or another library's, which has ``l`` and ``p``.
        parity: 1 (even) or -1 (odd) beside a degree, and only there.

    Attributes:
        l: the degree.
        p: the parity.

    Raises:
        TenfoldError: the text is no irrep, the degree negative, or the parity neither 1 nor -1.
    """

    l: int  # noqa: E741
    p: int

    def __init__(self, degree: Any, parity: int | None = None) -> None:
        if parity is None:
            degree, parity = _one(degree)
        degree = whole_number("degree", degree, 0)
        if isinstance(parity, bool) or parity not in (1, -1):
            raise TenfoldError(f"parity must be 1 (even) or -1 (odd), not {quoted(parity)}")
        object.__setattr__(self, "l", degree)
        object.__setattr__(self, "p", int(parity))

    @property
    def dim(self) -> int:
        """``2 l + 1``."""
        return 2 * self.l + 1

    @property
    def natural(self) -> bool:
        """Whether the parity is that of the spherical harmonics of this degree."""
        return self.p == (-1) ** self.l

    def __mul__(self, other: Irrep | str) -> tuple[Irrep, ...]:
        """The irreps of the product of two, each once: degrees from ``|l1 - l2|`` to ``l1 + l2``, parity ``p1 p2``."""
        other = Irrep(other)
        degrees = range(abs(self.l - other.l), self.l + other.l + 1)
        return tuple(Irrep(degree, self.p * other.p) for degree in degrees)

    def __rmul__(self, multiplicity: int) -> Irreps:
        return Irreps([(multiplicity, self)])

    def __str__(self) -> str:
        return f"{self.l}{'e' if self.p == 1 else 'o'}"

    __repr__ = __str__


class Block(NamedTuple):
    """``mul`` times the irrep ``ir``, an entry of `Irreps`."""

    mul: int
    ir: Irrep

    @property
    def dim(self) -> int:
        """``mul (2 l + 1)``."""
        return self.mul * self.ir.dim

    def __repr__(self) -> str:
        return f"{self.mul}x{self.ir}"


class Path(NamedTuple):
    """A way through a product: which block of the left, which of the right, and the irrep that comes out."""

    left: int
    right: int
    ir: Irrep


Given: TypeAlias = "Irreps | Irrep | str | Iterable[Any] | None"


class Irreps(Sequence[Block]):
    """Irreps with multiplicities, in an order: what the numbers of a feature vector are.

    A sequence of blocks ``(mul, ir)``. ``str`` writes the notation that this reads, which is e3nn's, so that
    ``Irreps(str(theirs))`` and ``o3.Irreps(str(ours))`` convert; objects of e3nn and of cuEquivariance are taken too.

    Args:
        blocks: ``"32x0e+16x1o"``; a list of irreps, or of pairs of a multiplicity and an irrep; an irrep; or `Irreps`.

    Raises:
        TenfoldError: an entry is no irrep, or a multiplicity is negative.
    """

    __slots__ = ("_blocks",)

    def __init__(self, blocks: Given = None) -> None:
        if blocks is None:
            self._blocks: tuple[Block, ...] = ()
        elif isinstance(blocks, Irreps):
            self._blocks = blocks._blocks
        elif isinstance(blocks, str):
            parts = blocks.split("+") if blocks.strip() else []
            self._blocks = tuple(_block(part, blocks) for part in parts)
        elif isinstance(blocks, Irrep) or (hasattr(blocks, "l") and hasattr(blocks, "p")):
            self._blocks = (Block(1, Irrep(blocks)),)
        elif isinstance(blocks, Iterable):
            self._blocks = tuple(_entry(entry) for entry in blocks)
        else:
            raise TenfoldError(f"irreps must be like '32x0e+16x1o', not {quoted(blocks)}")

    @classmethod
    def harmonics(cls, degree: int) -> Irreps:
        """The irreps of spherical harmonics of all degrees up to this: ``1x0e+1x1o+1x2e+...``."""
        return cls([(1, Irrep(n, (-1) ** n)) for n in range(whole_number("degree", degree, 0) + 1)])

    @property
    def dim(self) -> int:
        """How many numbers a feature vector has."""
        return sum(block.dim for block in self._blocks)

    @property
    def num_irreps(self) -> int:
        """The sum of the multiplicities."""
        return sum(block.mul for block in self._blocks)

    @property
    def lmax(self) -> int:
        """The largest degree. Raises `TenfoldError` where no irrep occurs."""
        degrees = [block.ir.l for block in self._blocks if block.mul]
        if not degrees:
            raise TenfoldError(f"irreps '{self}' have no largest degree: no irrep occurs in them")
        return max(degrees)

    def slices(self) -> tuple[slice, ...]:
        """Where each block lies in a feature vector, in either layout."""
        found, start = [], 0
        for block in self._blocks:
            found.append(slice(start, start + block.dim))
            start += block.dim
        return tuple(found)

    def count(self, ir: Any) -> int:
        """How often an irrep occurs, over all blocks."""
        ir = Irrep(ir)
        return sum(block.mul for block in self._blocks if block.ir == ir)

    def simplify(self) -> Irreps:
        """Neighbouring blocks of one irrep joined, empty ones dropped. The order of the numbers stays as it is."""
        joined: list[Block] = []
        for block in self._blocks:
            if not block.mul:
                continue
            if joined and joined[-1].ir == block.ir:
                joined[-1] = Block(joined[-1].mul + block.mul, block.ir)
            else:
                joined.append(block)
        return Irreps(joined)

    def order(self) -> tuple[int, ...]:
        """The positions of the blocks, sorted by degree, then parity with odd first; equal ones keep their order."""
        return tuple(sorted(range(len(self)), key=lambda position: self._blocks[position].ir))

    def sort(self) -> Irreps:
        """The blocks in that `order`."""
        return Irreps([self._blocks[position] for position in self.order()])

    def paths(self, other: Given, out: Given = None) -> tuple[Path, ...]:
        """The ways in which a block of these and one of the others give an irrep; only those that occur in ``out``.

        Cost: as many as there are, at most ``2 lmax + 1`` for each pair of blocks.
        """
        other = Irreps(other)
        wanted = None if out is None else {block.ir for block in Irreps(out) if block.mul}
        return tuple(
            Path(i, j, ir)
            for i, left in enumerate(self)
            for j, right in enumerate(other)
            if left.mul and right.mul
            for ir in left.ir * right.ir
            if wanted is None or ir in wanted
        )

    def tensor_product(self, other: Given) -> Irreps:
        """The irreps of all products of a number of these with one of the others, sorted and simplified."""
        other = Irreps(other)
        found = [(self[path.left].mul * other[path.right].mul, path.ir) for path in self.paths(other)]
        return Irreps(found).sort().simplify()

    def to_e3nn(self) -> Any:
        """The same as ``e3nn.o3.Irreps``. Raises `MissingExtra` where e3nn is not installed."""
        try:
            o3 = importlib.import_module("e3nn.o3")
        except ImportError as error:
            raise MissingExtra("to_e3nn needs e3nn: pip install e3nn") from error
        return o3.Irreps(str(self))

    def to_cuequivariance(self) -> Any:
        """The same as ``cuequivariance.Irreps("O3", ...)``, which says nothing of the layout: that goes beside it.

        Their ``cue.mul_ir`` and ``cue.ir_mul`` are the layouts of the same names here, and irreps have the same basis.

        Raises:
            MissingExtra: cuequivariance is not installed.
        """
        try:
            cue = importlib.import_module("cuequivariance")
        except ImportError as error:
            raise MissingExtra("to_cuequivariance needs cuequivariance: pip install cuequivariance") from error
        return cue.Irreps("O3", str(self))

    def __len__(self) -> int:
        return len(self._blocks)

    def __iter__(self) -> Iterator[Block]:
        return iter(self._blocks)

    def __getitem__(self, position: Any) -> Any:
        """A block; for a slice, `Irreps`."""
        return Irreps(self._blocks[position]) if isinstance(position, slice) else self._blocks[position]

    def __contains__(self, ir: object) -> bool:
        """Whether an irrep occurs."""
        return self.count(ir) > 0

    def __add__(self, other: Given) -> Irreps:
        return Irreps([*self._blocks, *Irreps(other)])

    def __radd__(self, other: Given) -> Irreps:
        return Irreps(other) + self

    def __mul__(self, times: int) -> Irreps:
        """The whole list several times over."""
        return Irreps(self._blocks * whole_number("times", times, 0))

    __rmul__ = __mul__

    def __eq__(self, other: object) -> bool:
        return self._blocks == other._blocks if isinstance(other, Irreps) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._blocks)

    def __str__(self) -> str:
        return "+".join(map(repr, self._blocks))

    __repr__ = __str__


def _one(given: Any) -> tuple[int, int]:
    if hasattr(given, "l") and hasattr(given, "p"):
        return given.l, given.p
    found = _ONE.fullmatch(given.strip()) if isinstance(given, str) else None
    if found is None:
        raise TenfoldError(f"an irrep is written as {_SHAPE}; not {quoted(given)}")
    degree = int(found[1])
    return degree, {"e": 1, "o": -1, "y": (-1) ** (degree % 2)}[found[2]]


def _block(part: str, whole: str) -> Block:
    found = _BLOCK.fullmatch(part.strip())
    if found is None:
        raise TenfoldError(f"irreps {quoted(whole)}: {quoted(part.strip())} is not like '16x1o' or '1o'")
    return Block(int(found[1]) if found[1] else 1, Irrep(found[2]))


def _entry(entry: Any) -> Block:
    if isinstance(entry, str):
        return _block(entry, entry)
    if isinstance(entry, Irrep) or (hasattr(entry, "l") and hasattr(entry, "p")):
        return Block(1, Irrep(entry))
    if hasattr(entry, "mul") and hasattr(entry, "ir"):
        if not hasattr(entry.ir, "p"):
            raise TenfoldError(f"irreps: {quoted(entry)} is no irrep of O(3), it has no parity: write '1o' or '1e'")
        entry = (entry.mul, entry.ir)
    if isinstance(entry, tuple | list) and len(entry) == 2:
        mul, ir = entry
        return Block(whole_number("a multiplicity", mul, 0), Irrep(*ir) if type(ir) is tuple else Irrep(ir))
    raise TenfoldError(f"irreps: each entry must be like '16x1o' or (16, '1o'), not {quoted(entry)}")
