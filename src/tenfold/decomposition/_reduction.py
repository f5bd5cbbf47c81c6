"""A large array made small enough for memory by projections on the leading singular vectors of groups of its indices.

A stage is two passes over the array. The first sums, for some groups of indices, the Gram matrix of (group) x (all
other indices), or, where that would be large, its product with a few random vectors. The second projects on the leading
eigenvectors. Boxes hold the whole range of the groups, so each box gives its own part of the smaller array. What the
projections leave out is orthogonal to everything that is kept, so squares of norms tell exactly how much it is.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tenfold._blocks import Blocks, Cuts, memory_text
from tenfold._scales import times_power
from tenfold.decomposition._blas import product
from tenfold.decomposition._error import squared_norm
from tenfold.decomposition._passes import Passes, Sums, Target, View
from tenfold.errors import TenfoldError

# Parts of the memory: what stays of the array, which is decomposed in memory; a box, of which there are several copies;
# the same where chunks are too large for that; sums and their copies. What boxes leave behind in the allocator of the
# system is up to twenty times a box.
_KEPT = 6
_BOX, _LARGE_BOX = 48, 24
# The same of a chunk, which is decoded as a whole even where a box is a part of it.
_CHUNK = 4
_SUMS = 3
# Groups with more rows get a product with random vectors in place of a Gram matrix; so do others where that is so much
# cheaper.
_ROWS = 3000
_CHEAPER = 2
# Random vectors where the ranks are not known.
_SKETCH = 512
# Directions kept beyond the ranks asked for, so that the steps in memory have something to choose from.
_MORE = 10
# Flops that an entry costs besides its multiplications, what a break in the order of a file without chunks costs, and
# an eigensolver of an n x n matrix in units of n^3.
_ENTRY, _SEEK, _EIGEN = 100, 20000, 25
# Parts of the error that the projections of a stage may spend: as little as is needed for what is left to fit. The same
# without an error asked for, as parts of all.
_SPEND = (0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 0.9)
_TAILS = tuple(4.0**n for n in range(-25, 1))
# Numbers below 2**this have squares within the range of double precision, with room for sums.
_POWER = 300
# A stage must leave at most this part of the array, else there is no end to stages.
_PROGRESS = 0.7
# Sets of groups that are looked at before the memory is too little.
_PLANS = 3
# Groups that are projected on in one stage, and those that are thought of, at most.
_TOGETHER, _CANDIDATES = 4, 16
# The squares of relative errors below this are lost in rounding.
_FLOOR = 1e-14


@dataclass(frozen=True)
class Group:
    """Indices that can be projected together.

    Attributes:
        indices: some indices of the array.
        rank: the most directions that the structure can use, or that may be kept.
    """

    indices: tuple[str, ...]
    rank: int


@dataclass(frozen=True)
class Reduced:
    """An array as a smaller one and an orthonormal basis for each group of indices that was projected on.

    Attributes:
        core: in double precision, an axis for each of ``indices`` and ``groups``, in this order.
        indices: those that were left as they are.
        groups: those that were projected on.
        bases: for each group, rows x directions.
        norm2: ``sum |x|^2`` of the array over ``2**(2 power)``.
        lost: the part of it that the projections left out.
        power: core and norms are those of the array over ``2**power``.
        spectra: squares of the singular values of (index) x (everything else), largest first, where they are known.
    """

    core: Tensor
    indices: tuple[str, ...]
    groups: tuple[Group, ...]
    bases: tuple[Tensor, ...]
    norm2: float
    lost: float
    power: int
    spectra: Mapping[str, Tensor]


def reduce(
    blocks: Blocks,
    view: View,
    candidates: Sequence[Group],
    *,
    passes: Passes,
    memory: int,
    allowed: float | None = None,
    exact: bool = False,
    seed: int = 0,
) -> Reduced:
    """Project an array on groups of its indices until it fits into memory.

    Args:
        blocks: the array.
        view: its indices.
        candidates: groups whose bases are of use.
        passes: goes through the array.
        memory: bytes that may be used.
        allowed: the part of the squared norm that may be left out.
        exact: whether the ranks of the groups are needed, so that no fewer directions may be kept; with ``allowed``
            only if there is room for them.
        seed: fixes the random vectors.

    Raises:
        TenfoldError: what has to be kept does not fit.
        DataError: NaN or infinite entries.
    """
    with TemporaryDirectory(prefix="tenfold-") as scratch:
        folder = Path(scratch) if passes.checkpoint is None else passes.checkpoint.folder

        def start(allowed: float | None, exact: bool) -> _Reduction:
            return _Reduction(blocks, view, list(candidates), passes, memory, allowed, exact, seed, folder)

        work = start(None, True) if exact else start(allowed, False)
        if exact and allowed is not None and not work.fits and not work.one_stage:
            work = start(allowed, False)
        while not work.fits:
            work.stage()
        return work.finished()


class _Part(NamedTuple):
    """What was found about a group.

    Attributes:
        values: the largest eigenvalues of its Gram matrix.
        vectors: their eigenvectors.
        tails: for each number of directions the squares that they leave out.
        complete: whether these are all eigenvalues.
    """

    group: Group
    values: Tensor
    vectors: Tensor
    tails: Tensor
    complete: bool


class _Plan(NamedTuple):
    """A stage: groups, for each the number of random vectors (0: its Gram matrix), and boxes that hold them whole."""

    groups: tuple[Group, ...]
    sketches: tuple[int, ...]
    cuts: Cuts


class _Reduction:
    """The array on its way to one that fits."""

    def __init__(
        self,
        blocks: Blocks,
        view: View,
        candidates: list[Group],
        passes: Passes,
        memory: int,
        allowed: float | None,
        exact: bool,
        seed: int,
        folder: Path,
    ) -> None:
        self.blocks, self.view, self.candidates = blocks, view, candidates
        self.passes, self.memory, self.exact, self.seed, self.folder = passes, memory, exact, seed, folder
        self.allowed = None if allowed is None else max(allowed, _FLOOR)
        self.item = _item(blocks)
        self.room = memory // _KEPT // self.item
        self.stages = 0
        self.power = 0
        self.norm2 = self.kept2 = 0.0
        self.groups: list[Group] = []
        self.bases: list[Tensor] = []
        self.spectra: dict[str, Tensor] = {}
        self.target: Target | None = None

    @property
    def fits(self) -> bool:
        return math.prod(self.view.sizes.values()) <= self.room

    @property
    def one_stage(self) -> bool:
        """Whether there is room for all that the ranks need after one stage."""
        try:
            plan = self._plan()
        except TenfoldError:
            return False
        sizes = self.view.sizes
        rows = {group: math.prod(sizes[index] for index in group.indices) for group in plan.groups}
        left = math.prod(self._directions(group, rows[group])[0] / rows[group] for group in plan.groups)
        return left * math.prod(sizes.values()) <= self.room

    def stage(self) -> None:
        """Two passes: one looks at the groups, one projects on them."""
        rejected: list[tuple[Group, ...]] = []
        while True:
            plan = self._plan(rejected)
            tried = f"{self.stages}" if not rejected else f"{self.stages}-{len(rejected)}"
            sums = self._look(plan, tried)
            if self.stages == 0:
                self.norm2 = self.kept2 = float(sums["norm2"])
            parts = self._parts(plan, sums, tried)
            if self.stages == 0:
                known = (part for part in parts if part.complete and len(part.group.indices) == 1)
                self.spectra |= {part.group.indices[0]: part.values for part in known}
            chosen = self._choose(parts)
            if chosen is not None:
                break
            # How many directions an error needs is known only now: other groups may need fewer.
            rejected.append(plan.groups)
            if self.exact or len(rejected) == _PLANS:
                raise self._too_large()
        taken = {index for part in chosen for index in part.group.indices}
        rest = tuple(index for index in self.view.indices if index not in taken)
        shape = (*(self.view.sizes[index] for index in rest), *(part.vectors.shape[1] for part in chosen))
        self._fill("projecting", plan.cuts, chosen, shape)
        # Groups come behind what is left, of which those of earlier stages are part.
        names = tuple(f"|{len(self.groups) + n}" for n in range(len(chosen)))
        self.view = View((*rest, *names), tuple((extent,) for extent in shape))
        self.groups += [part.group for part in chosen]
        self.bases += [part.vectors for part in chosen]
        self.candidates = [group for group in self.candidates if not taken & set(group.indices)]
        self.stages += 1

    def finished(self) -> Reduced:
        """What fits, in memory."""
        if self.target is None:
            cuts = boxes(self.blocks, self.view, self.memory)
            core = self._fill("reading", cuts, [], tuple(self.view.sizes.values())).load()
            self.power = _power(float(torch.linalg.vector_norm(core, math.inf)))
            core = times_power(core, -self.power) if self.power else core
            self.norm2 = self.kept2 = squared_norm(core)
        else:
            core = self.target.load()
        rest = [index for index in self.view.indices if not index.startswith("|")]
        order = [*rest, *(f"|{n}" for n in range(len(self.groups)))]
        core = core.permute([self.view.indices.index(name) for name in order])
        lost = max(self.norm2 - self.kept2, 0.0) / self.norm2 if self.norm2 > 0 else 0.0
        return Reduced(
            core, tuple(rest), tuple(self.groups), tuple(self.bases), self.norm2, lost, self.power, self.spectra
        )

    # --- the plan -----------------------------------------------------------------------------------------------------

    def _plan(self, rejected: Sequence[tuple[Group, ...]] = ()) -> _Plan:
        """The groups whose projection leaves what fits with the least work; else what leaves least."""
        sizes, current = self.view.sizes, math.prod(self.view.sizes.values())
        useful = []
        for group in self.candidates:
            rows = math.prod(sizes[index] for index in group.indices)
            kept, sketch = self._directions(group, rows)
            sums = rows * (4 * sketch if sketch else rows)
            if kept < _PROGRESS * rows and sums * self.item <= self.memory // _SUMS // 4:
                useful.append((group, rows, kept, sketch))
        useful.sort(key=lambda item: (item[2] / item[1], item[1]))
        best: tuple[tuple[bool, float], tuple[Any, ...]] | None = None
        for count in range(1, _TOGETHER + 1):
            for chosen in itertools.combinations(useful[:_CANDIDATES], count):
                names = [index for group, *_ in chosen for index in group.indices]
                sums = sum(rows * (4 * sketch if sketch else rows) for _, rows, _, sketch in chosen)
                if len(set(names)) < len(names) or sums * self.item > self.memory // _SUMS // 4:
                    continue
                if any({item[0] for item in chosen} <= set(groups) for groups in rejected):
                    continue
                run = self._run(names)
                if run is None:
                    continue
                least, times = run
                left = math.prod(kept / rows for _, rows, kept, _ in chosen) * current
                fits = left <= self.room
                work = current * (2 * _ENTRY * times + _SEEK / least)
                work += sum(current * (4 * sketch if sketch else rows) for _, rows, _, sketch in chosen)
                work += sum(2 * current * kept + _EIGEN * min(rows, 4 * kept) ** 3 for _, rows, kept, _ in chosen)
                rank = (not fits, work if fits else left)
                if best is None or rank < best[0]:
                    best = (rank, chosen)
        if best is None:
            raise self._too_large()
        chosen = best[1]
        cuts = boxes(self.blocks, self.view, self.memory, [index for group, *_ in chosen for index in group.indices])
        return _Plan(tuple(item[0] for item in chosen), tuple(item[3] for item in chosen), cuts)

    def _directions(self, group: Group, rows: int) -> tuple[int, int]:
        """How many directions of a group are expected to stay, and how many random vectors find them (0: all do)."""
        most = min(rows, 2 * group.rank + _MORE) if self.exact else min(rows, group.rank)
        known = self.exact or self.allowed is None
        guess = 2 * math.isqrt(rows) + 1
        sketch = most if known else min(most, _SKETCH)
        if rows <= _ROWS and (not known or rows <= _CHEAPER * 4 * sketch):
            return (most if self.exact else min(most, guess)), 0
        return (sketch if self.exact else min(sketch, guess)), sketch

    def _run(self, names: Sequence[str]) -> tuple[int, int] | None:
        """The run of neighbouring entries in the smallest box that holds all of some indices, and how often it is read.

        None if no box can.
        """
        whole, most = _whole(self.view, names), _box(self.blocks, self.memory)[1]
        widths = self.blocks.widths(whole, self.view.units)
        smallest = math.prod(widths)
        if smallest > most:
            if not _within(self.blocks, self.memory):
                return None
            cuts = self.blocks.cuts(whole, self.view.units, most, within=True)
            return None if cuts is None else (cuts.largest, -(-smallest // cuts.largest))
        if self.blocks.chunked:
            return smallest, 1
        run = 1
        for width, extent in zip(reversed(widths), reversed(self.blocks.shape), strict=True):
            run *= width
            if width < extent:
                break
        return run, 1

    def _too_large(self) -> TenfoldError:
        boxes(self.blocks, self.view, self.memory)  # says so if it is the chunks
        memory = memory_text(self.memory)
        asked = "for the error asked for" if self.allowed is not None else "for the ranks asked for"
        kept = memory_text(math.prod(self.view.sizes.values()) * self.item)
        return TenfoldError(
            f"memory {memory} is too little {asked}: what has to be kept of {self.blocks.name} cannot be made smaller "
            f"than {kept}; give {memory_text(_KEPT * math.prod(self.view.sizes.values()) * self.item)} or "
            f"{'a larger error' if self.allowed is not None else 'smaller ranks'}"
        )

    # --- the passes ---------------------------------------------------------------------------------------------------

    def _look(self, plan: _Plan, tried: str) -> Sums:
        places = tuple(tuple(self.view.indices.index(i) for i in group.indices) for group in plan.groups)
        while True:
            work = Look(places, plan.sketches, tuple(self.seed + n for n in range(len(places))))
            power = self.power if self.stages == 0 else 0
            key = f"look{tried}" if power == 0 else f"look{tried} over 2^{power}"
            sums = self.passes.total(key, self._label("looking"), self.blocks, power, self.view, plan.cuts, work)
            # Where squares would be out of range, once more with all numbers over a power of two.
            needed = _power(math.ldexp(float(sums["max"]), power)) if self.stages == 0 else 0
            if needed == power:
                return sums
            self.power = needed

    def _parts(self, plan: _Plan, sums: Sums, tried: str) -> list[_Part]:
        """Eigenvalues and eigenvectors, or as many as the random vectors tell of."""
        saved = self.passes.checkpoint
        done, found = (0, {}) if saved is None else saved.load(f"bases{tried}")
        if not done:
            if saved is not None and saved.load(f"core{self.stages}")[0]:
                raise saved.damaged(f"bases{tried}.npz is missing")
            for n, (sketch, seed) in enumerate(zip(plan.sketches, itertools.count(self.seed))):
                matrix = sums.pop(f"sum{n}")
                values, vectors = nystrom(matrix, sketch, seed) if sketch else _eigen(matrix)
                found |= {f"values{n}": values, f"vectors{n}": vectors}
            if saved is not None:
                # Eigenvectors are not unique, so those that were begun with are gone on with.
                saved.save(f"bases{tried}", 1, found)
        parts = []
        for n, (group, sketch) in enumerate(zip(plan.groups, plan.sketches, strict=True)):
            values, vectors = found[f"values{n}"], found[f"vectors{n}"]
            if sketch:
                tails = (self.kept2 - torch.cat([values.new_zeros(1), values.cumsum(0)])).clamp(min=0)
            else:
                tails = torch.cat([values.flip(0).cumsum(0).flip(0), values.new_zeros(1)])
            parts.append(_Part(group, values, vectors, tails, not sketch))
        return parts

    def _choose(self, parts: Sequence[_Part]) -> list[_Part] | None:
        """The groups to project on and their directions: those that fit and leave out least; None if none do."""
        left = None
        if self.allowed is not None:
            left = max(self.allowed * self.norm2 - (self.norm2 - self.kept2), 0.0)
        spends = (
            [0.0, *(4.0**n * 1e-15 * self.norm2 for n in range(26))] if left is None else [left * f for f in _SPEND]
        )
        sizes = self.view.sizes
        smallest: tuple[int, list[_Part]] | None = None
        for spend in spends:
            best: tuple[int, list[_Part]] | None = None
            for count in range(1, len(parts) + 1):
                for subset in itertools.combinations(parts, count):
                    cut = [self._cut(part, spend / count) for part in subset]
                    taken = {index for part in cut for index in part.group.indices}
                    entries = math.prod(part.vectors.shape[1] for part in cut)
                    entries *= math.prod(size for index, size in sizes.items() if index not in taken)
                    spent = sum(float(part.tails[part.vectors.shape[1]]) for part in cut)
                    if left is not None and spent > max(_SPEND[-1] * left, spend):
                        continue
                    if best is None or entries < best[0]:
                        best = (entries, cut)
            if best is not None and best[0] <= self.room:
                return best[1]
            # What does not fit goes to a file, to be made smaller by what is left of the error.
            if best is not None and (left is None or spend <= left / 4) and (smallest is None or best[0] < smallest[0]):
                smallest = best
        if smallest is None or smallest[0] > _PROGRESS * math.prod(sizes.values()):
            return None
        return smallest[1]

    def _cut(self, part: _Part, spend: float) -> _Part:
        most = part.vectors.shape[1]
        least = min(part.group.rank, most) if self.exact else 1
        most = min(most, 2 * part.group.rank + _MORE if self.exact else part.group.rank)
        kept = min(max(int((part.tails > spend).sum()), least), most)
        return part._replace(vectors=part.vectors[:, :kept])

    def _fill(self, label: str, cuts: Cuts, chosen: Sequence[_Part], shape: tuple[int, ...]) -> Target:
        """The projections of all boxes, in a new array that takes the place of the old one."""
        in_file = math.prod(shape) > self.room or self.passes.checkpoint is not None
        target = Target(shape, self.blocks.dtype, self.folder / f"core{self.stages}.bin" if in_file else None)
        places = [tuple(self.view.indices.index(index) for index in part.group.indices) for part in chosen]
        work = Project(tuple(places), tuple(part.vectors.contiguous() for part in chosen))
        power = self.power if self.stages == 0 else 0
        key = f"core{self.stages}"
        self.kept2 = self.passes.fill(key, self._label(label), self.blocks, power, self.view, cuts, work, target)
        self.target, self.blocks = target, target.blocks(self.blocks.name)
        return target

    def _label(self, label: str) -> str:
        return f"{label} (stage {self.stages + 1})" if self.stages else label


# --- boxes ------------------------------------------------------------------------------------------------------------


def boxes(blocks: Blocks, view: View, memory: int, names: Sequence[str] = ()) -> Cuts:
    """Boxes for a pass that hold the whole range of some indices.

    Raises:
        TenfoldError: the chunks of the array are too large for the memory.
    """
    whole = _whole(view, names)
    for entries in _box(blocks, memory):
        cuts = blocks.cuts(whole, view.units, entries)
        if cuts is not None:
            return cuts
    if _within(blocks, memory):
        cuts = blocks.cuts(whole, view.units, _box(blocks, memory)[1], within=True)
        if cuts is not None:
            return cuts
    smallest = min(math.prod(blocks.widths(whole, view.units)) * _LARGE_BOX, max(blocks.chunk * _CHUNK, _LARGE_BOX))
    needed = memory_text(-(-smallest * _item(blocks) // 10**6) * 10**6)
    raise TenfoldError(
        f"memory {memory_text(memory)} is too little: chunks of {blocks.name} have up to {blocks.chunk:,} entries; "
        f"give at least {needed}, or store it in smaller chunks"
    )


def _within(blocks: Blocks, memory: int) -> bool:
    """Whether chunks may be cut: there is room for a whole one while it is."""
    return blocks.chunked and blocks.chunk * _item(blocks) <= memory // _CHUNK


def _box(blocks: Blocks, memory: int) -> tuple[int, int]:
    """Entries that a box may have: better, and at most."""
    return memory // (_BOX * _item(blocks)), memory // (_LARGE_BOX * _item(blocks))


def _item(blocks: Blocks) -> int:
    """Bytes of an entry in double precision."""
    return 16 if blocks.dtype.is_complex else 8


def _whole(view: View, names: Sequence[str]) -> list[bool]:
    whole = [False] * len(view.groups)
    for index in names:
        if index in view.first:
            whole[view.first[index]] = True
    return whole


# --- what a pass does to a box ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Look:
    """Sums ``X X^H`` of (group) x (everything else), or its products with random vectors; the norm, the largest."""

    groups: tuple[tuple[int, ...], ...]
    sketches: tuple[int, ...]
    seeds: tuple[int, ...]

    def add(self, sums: Sums, values: Tensor, places: tuple[slice, ...]) -> None:
        _plus(sums, "norm2", torch.linalg.vector_norm(values) ** 2)
        largest = torch.linalg.vector_norm(values, math.inf)
        sums["max"] = torch.maximum(sums["max"], largest) if "max" in sums else largest
        for number, (group, sketch, seed) in enumerate(zip(self.groups, self.sketches, self.seeds, strict=True)):
            rows = _rows(values, group)
            if sketch:
                vectors = random_vectors(rows.shape[1], sketch, seed, rows.dtype)
                _plus(sums, f"sum{number}", product(rows.mT, product(rows.conj().resolve_conj(), vectors)))
            else:
                _plus(sums, f"sum{number}", product(rows.mH, rows).conj().resolve_conj())


@dataclass(frozen=True)
class Project:
    """The coordinates of a box in the bases of groups, behind the axes that are left, by their place."""

    groups: tuple[tuple[int, ...], ...]
    bases: tuple[Tensor, ...]

    def add(self, sums: Sums, values: Tensor, places: tuple[slice, ...]) -> None:
        axes = list(range(values.ndim))
        for group, basis in zip(self.groups, self.bases, strict=True):
            at = tuple(axes.index(axis) for axis in group)
            axes = [axis for axis in axes if axis not in group]
            rest = [values.shape[n] for n in range(values.ndim) if n not in at]
            values = product(_rows(values, at), basis.conj().resolve_conj()).reshape(*rest, basis.shape[1])
            # The axes of groups that are done stay behind all others.
            axes = [*axes, -1]
        kept = [places[axis] for axis in axes if axis >= 0]
        key = (*((part.start, part.stop) for part in kept), *((0, basis.shape[1]) for basis in self.bases))
        sums[key] = values.contiguous()


def _rows(values: Tensor, group: Sequence[int]) -> Tensor:
    """(everything else) x (group)."""
    moved = values.movedim(tuple(group), tuple(range(-len(group), 0)))
    return moved.reshape(-1, math.prod(values.shape[axis] for axis in group))


def _plus(sums: Sums, name: str, value: Tensor) -> None:
    if name in sums:
        sums[name] += value
    else:
        sums[name] = value


# --- eigenvectors -----------------------------------------------------------------------------------------------------


@lru_cache(maxsize=8)
def random_vectors(rows: int, count: int, seed: int, dtype: torch.dtype) -> Tensor:
    """The same orthonormal random vectors wherever they are asked for."""
    noise = torch.randn(rows, count, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    return torch.linalg.qr(noise).Q


def _eigen(gram: Tensor) -> tuple[Tensor, Tensor]:
    values, vectors = torch.linalg.eigh(gram)
    return values.flip(0).clamp(min=0), vectors.flip(1)


def nystrom(product_: Tensor, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Leading eigenpairs of a positive semidefinite ``G`` from ``G Q`` alone, Q random and orthonormal.

    The values are those of ``(G Q) (Q^H G Q)^-1 (G Q)^H``, which nowhere exceeds ``G``: they are never too large.
    """
    vectors = random_vectors(product_.shape[0], count, seed, product_.dtype)
    shift = math.sqrt(product_.shape[0]) * torch.finfo(torch.float64).eps * float(torch.linalg.matrix_norm(product_))
    if shift == 0:
        return torch.zeros(count, dtype=torch.float64), vectors
    shifted = product_ + shift * vectors
    inner = product(vectors.mH.resolve_conj(), shifted)
    factor = torch.linalg.cholesky((inner + inner.mH) / 2)
    half = torch.linalg.solve_triangular(factor.mH, shifted, upper=True, left=False)
    basis, values, _ = torch.linalg.svd(half, full_matrices=False)
    return (values**2 - shift).clamp(min=0), basis


def _power(largest: float) -> int:
    """The power of two to divide by so that squares stay in range; 0 for ordinary numbers."""
    exponent = math.frexp(largest)[1] if 0 < largest < math.inf else 0
    return exponent if abs(exponent) > _POWER else 0
