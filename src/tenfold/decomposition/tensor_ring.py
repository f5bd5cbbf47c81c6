"""Tensor ring decomposition by alternating least squares."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from tenfold.decomposition._arrays import whole_array
from tenfold.decomposition._blas import product
from tenfold.decomposition._compressed import alternate
from tenfold.decomposition._error import squared_norm
from tenfold.decomposition._registry import Callback, Data, Decomposition, method
from tenfold.decomposition._ring_sweep import balance, chain, sweep
from tenfold.errors import StructureError
from tenfold.network import Network
from tenfold.structure import Structure

# Random starts beside those by singular values, fewer where a sweep takes long; the latter begin at each mode in turn.
_RANDOM_STARTS = 5
_START_ENTRIES = 10**7
_TURNS = 4
# What fills the places that singular values leave empty, against the root mean square of the rest.
_FILL = 0.1


@method("tensor_ring_als", formats=("tensor_ring",))
@torch.no_grad()
def tensor_ring_als(
    data: Data,
    structure: Structure,
    *,
    error: float | None = None,
    init: Network | None = None,
    seed: int = 0,
    max_sweeps: int = 500,
    tol: float = 1e-7,
    callback: Callback | None = None,
) -> Decomposition:
    """Tensor ring by alternating least squares with Anderson acceleration, started by singular values.

    Each core in turn solves its normal equations: their matrix is a product of the other cores' transfer matrices,
    their right side comes from a two-group tree of products on views of the data. Starts are rings opened at
    different modes and cut by singular values, and random ones; each runs a few sweeps and the best goes on. Where
    modes are much larger than the ranks around them, this happens on the core of a Tucker compression first.

    Args:
        data: the whole array, real or complex, of the structure's shape.
        structure: one closed ring of cores, in any order of the modes, each with outputs of its own.
        error: stop once the relative error is as small as this.
        init: where to start instead, a network of this structure.
        seed: for the random starts.
        max_sweeps: at most so many sweeps after the starts.
        tol: stop when two sweeps running change the error by less than this part of it.
        callback: called after each sweep.

    Returns:
        The network with cores of one norm and balanced bonds, its true error, and the error after each sweep. The cores
        are determined up to an invertible matrix on each bond only.

    Raises:
        StructureError: the structure is no ring, or ``init`` is of another one.
        DataError: NaN or infinite entries, another shape, or observations.

    Cost: about ``4 |X| r^2 + N r^6`` flops a sweep and two passes over the data.
    Paper: "Tensor ring decomposition", 2016.
    """
    family = Ring.of(structure)
    whole = whole_array(data, structure, "tensor_ring_als")
    return alternate(
        data,
        whole,
        family,
        error=error,
        init=init,
        seed=seed,
        max_sweeps=max_sweeps,
        tol=tol,
        callback=callback,
    )


@dataclass(frozen=True)
class Ring:
    """The cores in the order of the ring, each with the bond that enters it; states are (bond, mode, bond) tensors."""

    structure: Structure
    order: tuple[int, ...]
    entering: tuple[str, ...]

    @classmethod
    def of(cls, structure: Structure) -> Ring:
        inner = structure.inner_indices

        def refuse(why: str) -> StructureError:
            return StructureError(f"tensor_ring_als needs a closed ring of cores, but in '{structure}' {why}")

        for core in structure.cores:
            if len(core.terms) > 1:
                raise refuse(f"'{core.name}' is used {len(core.terms)} times")
            count = sum(index in inner for index in core.indices)
            if count != 2:
                raise refuse(f"'{core.name}' has {count} bonds, not 2")
        for index in structure.sizes:
            places = len(structure.terms_with(index))
            if places != (2 if index in inner else 1):
                raise refuse(f"'{index}' lies on {places} cores")
        # Begin at the core of the first output and go on towards that of the second one, where that is a neighbour.
        outside = structure.output_indices
        start = structure.terms_with(outside[0])[0] if outside else 0
        ahead = [structure.terms_with(index)[0] for index in outside]
        second = next((core for core in ahead if core != start), start)
        bonds = [index for index in structure.cores[start].indices if index in inner]
        leaving = next((bond for bond in bonds if second in structure.terms_with(bond)), bonds[-1])
        (first,) = (bond for bond in bonds if bond != leaving)
        order, entering = [start], [first]
        while len(order) < len(structure.cores):
            here = next(n for n in structure.terms_with(leaving) if n != order[-1])
            if here == start:
                raise refuse("the cores make more than one ring")
            order.append(here)
            entering.append(leaving)
            leaving = next(i for i in structure.cores[here].indices if i in inner and i != leaving)
        return cls(structure, tuple(order), tuple(entering))

    @property
    def bonds(self) -> list[int]:
        """The size of the bond that enters each core."""
        return [self.structure.sizes[bond] for bond in self.entering]

    def _leaving(self, place: int) -> str:
        return self.entering[(place + 1) % len(self.entering)]

    def _own(self, place: int) -> list[str]:
        core = self.structure.cores[self.order[place]]
        return [index for index in core.indices if index not in self.structure.inner_indices]

    def modes(self, tensor: Tensor) -> Tensor:
        """The data with one axis for each core, in the order of the ring."""
        outside = self.structure.output_indices
        groups = [self._own(place) for place in range(len(self.order))]
        order = [outside.index(index) for group in groups for index in group]
        sizes = [math.prod(self.structure.sizes[index] for index in group) for group in groups]
        return tensor.permute(order).reshape(sizes).contiguous()

    def ranks(self, shape: Sequence[int]) -> list[int]:
        """A mode's unfolding has at most the rank of its two bonds together; twice that is room for noise."""
        bonds = self.bonds
        around = [a * b for a, b in zip(bonds, bonds[1:] + bonds[:1], strict=True)]
        return [min(n, max(2 * r, r + 8)) for n, r in zip(shape, around, strict=True)]

    def problem(self, tensor: Tensor, norm2: float, outside: float) -> RingProblem:
        return RingProblem.of(tensor, norm2, outside)

    def starts(self, tensor: Tensor, generator: torch.Generator) -> list[list[Tensor]]:
        count = tensor.ndim
        bonds = self.bonds
        made = [opened(tensor, bonds, turn, generator) for turn in range(min(count, _TURNS))]
        scale = (squared_norm(tensor) / tensor.numel() / math.prod(bonds)) ** (0.5 / count)
        for _ in range(min(_RANDOM_STARTS, _START_ENTRIES // tensor.numel())):
            shapes = zip(bonds, tensor.shape, bonds[1:] + bonds[:1], strict=True)
            made.append([gaussian(shape, tensor, generator) * scale for shape in shapes])
        return made

    def expand(self, state: Sequence[Tensor], bases: Sequence[Tensor]) -> list[Tensor]:
        return [torch.einsum("aib,ni->anb", core, basis) for core, basis in zip(state, bases, strict=True)]

    def state(self, cores: Sequence[Tensor]) -> list[Tensor]:
        made = []
        for place, number in enumerate(self.order):
            names = self.structure.cores[number].indices
            order = [self.entering[place], *self._own(place), self._leaving(place)]
            tensor = cores[number].permute([names.index(index) for index in order])
            made.append(tensor.reshape(tensor.shape[0], -1, tensor.shape[-1]))
        return _balanced(made)

    def cores(self, state: Sequence[Tensor]) -> list[Tensor]:
        made: dict[int, Tensor] = {}
        for place, number in enumerate(self.order):
            names = [self.entering[place], *self._own(place), self._leaving(place)]
            tensor = state[place].reshape([self.structure.sizes[index] for index in names])
            made[number] = tensor.permute([names.index(index) for index in self.structure.cores[number].indices])
        return [made[number] for number in range(len(made))]


@dataclass(frozen=True)
class RingProblem:
    """A tensor to fit: its two-group unfolding, and what its relative error is counted against.

    ``outside`` are squares that no cores can reach (what a compression left out) and ``norm2`` those of all the data.
    """

    tensor: Tensor
    split: int
    norm2: float
    own2: float
    outside: float

    @classmethod
    def of(cls, tensor: Tensor, norm2: float, outside: float = 0.0) -> RingProblem:
        """The unfolding that is nearest to a square."""
        sides = [abs(math.prod(tensor.shape[:s]) - math.prod(tensor.shape[s:])) for s in range(1, tensor.ndim)]
        return cls(tensor, 1 + sides.index(min(sides)), norm2, squared_norm(tensor), outside)

    @property
    def matrix(self) -> Tensor:
        return self.tensor.reshape(math.prod(self.tensor.shape[: self.split]), -1)

    def sweep(self, state: list[Tensor]) -> tuple[list[Tensor], float]:
        """Every core once, and the relative error after that."""
        quick = self.tensor.device.type == "cpu"
        cores = [core.resolve_conj().numpy() if quick else core for core in state]
        square = sweep(self.matrix.numpy() if quick else self.matrix, cores, self.split) + self.own2
        floor = 1e-2 if torch.finfo(self.tensor.dtype).eps > 1e-10 else 1e-6
        found = [torch.as_tensor(core) for core in cores]
        if not square > floor**2 * self.own2:
            square = self._residual(found)
        balance(cores)
        return [torch.as_tensor(core) for core in cores], math.sqrt(max(square + self.outside, 0.0) / self.norm2)

    def error(self, state: list[Tensor], known: float) -> float:
        """The true relative error of a state, whatever the last sweep took it for."""
        return math.sqrt(max(self._residual(state) + self.outside, 0.0) / self.norm2)

    def _residual(self, cores: list[Tensor]) -> float:
        wide = torch.complex128 if self.tensor.is_complex() else torch.float64
        rows = chain(cores, range(self.split)).movedim(1, 0).flatten(1).to(wide)
        columns = chain(cores, range(self.split, len(cores))).permute(2, 0, 1).flatten(0, 1).to(wide)
        step = max(1, 2**20 // columns.shape[1])
        pieces = zip(rows.split(step), self.matrix.split(step), strict=True)
        return math.fsum(squared_norm(x.to(wide) - a @ columns) for a, x in pieces)


def _balanced(cores: Sequence[Tensor]) -> list[Tensor]:
    cores = list(cores)
    balance(cores)
    return cores


# --- where to start ---------------------------------------------------------------------------------------------------


def opened_rings(data: Float[Tensor, "*modes"], structure: Structure, seed: int = 0) -> list[Network]:
    """Rings cut by singular values, opened at up to four modes: where to start from. None where it is no closed ring.

    Args:
        data: a whole array with one axis for each output index.
        seed: of what fills the places that singular values leave empty.
    """
    try:
        ring = Ring.of(structure)
    except StructureError:
        return []
    generator = torch.Generator().manual_seed(seed)
    tensor = ring.modes(data)
    turns = range(min(tensor.ndim, _TURNS))
    return [Network(structure, ring.cores(opened(tensor, ring.bonds, turn, generator))) for turn in turns]


def gaussian(shape: Sequence[int], like: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal numbers, where the data is."""
    return torch.randn(list(shape), generator=generator, dtype=like.dtype).to(like.device)


def opened(tensor: Tensor, bonds: Sequence[int], turn: int, generator: torch.Generator) -> list[Tensor]:
    """The ring cut by singular values, beginning at mode ``turn``: that mode's rank is split over its two bonds."""
    count = tensor.ndim
    places = [(turn + k) % count for k in range(count)]
    sizes = [tensor.shape[place] for place in places]
    ranks = [bonds[place] for place in places]
    rest = tensor.permute(places).reshape(sizes[0], -1)
    basis, values, vectors = _svd(rest, ranks[0] * ranks[1])
    # Bonds as equal as the ranks allow: with less to share, the wider one is used in part only.
    found = len(values)
    used = _balanced_split(found, ranks[0], ranks[1])
    first = _filled(basis, (sizes[0], used[0] * used[1]), generator)
    first = _filled(
        first.reshape(sizes[0], used[0], used[1]).permute(1, 0, 2), (ranks[0], sizes[0], ranks[1]), generator
    )
    work = _filled(values[:, None] * vectors, (used[0] * used[1], vectors.shape[1]), None)
    work = work.reshape(used[0], used[1], -1).permute(1, 2, 0)
    made = [first]
    for step in range(1, count - 1):
        entering = work.shape[0]
        matrix = work.reshape(entering * sizes[step], -1)
        basis, values, vectors = _svd(matrix, ranks[step + 1])
        core = basis.reshape(entering, sizes[step], -1)
        made.append(_filled(core, (ranks[step], sizes[step], ranks[step + 1]), generator))
        work = (values[:, None] * vectors).reshape(len(values), -1, used[0])
    made.append(_filled(work, (ranks[-1], sizes[-1], ranks[0]), generator))
    return _balanced([made[(place - turn) % count] for place in range(count)])


def _svd(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """Leading singular triplets by the smaller Gram matrix; a start needs no more digits than that has."""
    if matrix.shape[0] > matrix.shape[1]:
        left, values, right = _svd(matrix.mH, rank)
        return right.mH, values, left.mH
    left = torch.linalg.eigh(product(matrix, matrix.mH)).eigenvectors.flip(1)[:, :rank]
    right = product(left.mH, matrix)
    values = torch.linalg.vector_norm(right, dim=1)
    right = right / values.clamp(min=torch.finfo(values.dtype).tiny)[:, None]
    return left, values, right


def _balanced_split(count: int, first: int, second: int) -> tuple[int, int]:
    """Two numbers of at most ``first`` and ``second``, as equal as can be, whose product holds ``count``."""
    options = [(a, -(-count // a)) for a in range(1, first + 1) if -(-count // a) <= second]
    return min(options, key=lambda pair: (abs(pair[0] - pair[1]), pair[0] * pair[1]))


def _filled(tensor: Tensor, shape: Sequence[int], generator: torch.Generator | None) -> Tensor:
    """The tensor in the corner of a larger one, whose other entries are small and random, or zero without a generator.

    Zeros on both sides of a bond would stay zeros in every sweep.
    """
    if tuple(tensor.shape) == tuple(shape):
        return tensor
    if generator is None:
        made = tensor.new_zeros(list(shape))
    else:
        made = gaussian(shape, tensor, generator) * (
            _FILL * float(torch.linalg.vector_norm(tensor)) / math.sqrt(tensor.numel())
        )
    made[tuple(slice(extent) for extent in tensor.shape)] = tensor
    return made
