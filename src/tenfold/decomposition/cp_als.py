"""Canonical polyadic decomposition by alternating least squares."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from tenfold.decomposition._arrays import whole_array
from tenfold.decomposition._blas import product
from tenfold.decomposition._compressed import alternate
from tenfold.decomposition._error import squared_norm
from tenfold.decomposition._normal import solve_normal
from tenfold.decomposition._registry import Callback, Data, Decomposition, method
from tenfold.errors import StructureError
from tenfold.network import Network
from tenfold.structure import Structure

# Random starts beside those computed from the data; fewer where a sweep takes long, down to none.
_RANDOM_STARTS = 7
_START_ENTRIES = 10**7


@method("cp_als", formats=("cp",))
@torch.no_grad()
def cp_als(
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
    """Canonical polyadic decomposition by alternating least squares with Anderson acceleration.

    The modes are split into two groups whose unfolding is a view of the data; a sweep contracts it once with the
    factors of each group, and the rest works on what is left. Starts from leading singular vectors, from a
    generalised eigenproblem (exact for noiseless data whose rank no two modes are smaller than) and from random
    factors run a few sweeps each, and the best goes on. If the rank is small against the modes, all of this happens
    on the core of a Tucker compression, and some sweeps on the whole data follow.

    Args:
        data: the whole array, real or complex, of the structure's shape.
        structure: one inner index that lies on every core; each output on one core. The rank may exceed every mode.
        error: stop once the relative error is as small as this.
        init: where to start instead, a network of this structure.
        seed: for the random starts.
        max_sweeps: at most so many sweeps after the starts.
        tol: stop when two sweeps running change the error by less than this part of it.
        callback: called after each sweep.

    Returns:
        The network with the columns of all factors balanced, its true error, and the error after each sweep.

    Raises:
        StructureError: the structure is not CP, or ``init`` is of another one.
        DataError: NaN or infinite entries, another shape, or observations.

    Cost: ``4 |X| R`` flops a sweep and two passes over the data; compressed, hardly more than the passes at both ends.
    Papers: "Analysis of individual differences in multidimensional scaling via an N-way generalization of
    'Eckart-Young' decomposition", 1970; "Fast alternating LS algorithms for high order CANDECOMP/PARAFAC tensor
    factorizations", 2013.
    """
    family = _Canonical.of(structure)
    whole = whole_array(data, structure, "cp_als")
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
class _Canonical:
    """How the cores of a CP structure lie in the data: modes are cores in the order of their outputs."""

    structure: Structure
    index: str
    order: tuple[int, ...]

    @classmethod
    def of(cls, structure: Structure, method: str = "cp_als") -> _Canonical:
        """The layout of a CP structure; ``method`` is who refuses any other."""
        inner = structure.inner_indices
        if len(inner) != 1 or len(structure.terms_with(inner[0])) != len(structure.terms):
            raise StructureError(f"{method} needs one inner index that lies on every core, not '{structure}'")
        for core in structure.cores:
            if len(core.terms) > 1:
                raise StructureError(
                    f"{method} needs different cores, but '{core.name}' is used {len(core.terms)} times"
                )
        outside = structure.output_indices
        for index in outside:
            if len(structure.terms_with(index)) > 1:
                raise StructureError(f"{method} needs each output on one core, but '{index}' lies on several")
        first = [
            min((outside.index(i) for i in core.indices if i != inner[0]), default=len(outside))
            for core in structure.cores
        ]
        return cls(structure, inner[0], tuple(sorted(range(len(first)), key=first.__getitem__)))

    @property
    def rank(self) -> int:
        return self.structure.sizes[self.index]

    def _own(self, number: int) -> list[str]:
        return [index for index in self.structure.cores[number].indices if index != self.index]

    def modes(self, tensor: Tensor) -> Tensor:
        """The data with one axis for each core; cores without outputs have one of size 1."""
        outside = self.structure.output_indices
        order = [outside.index(index) for number in self.order for index in self._own(number)]
        sizes = [math.prod(self.structure.sizes[i] for i in self._own(number)) for number in self.order]
        return tensor.permute(order).reshape(sizes).contiguous()

    def ranks(self, shape: Sequence[int]) -> list[int]:
        """Twice the rank leaves room for what noise adds to the exact range; one compressed mode saves too little."""
        if sum(2 * self.rank < n for n in shape) < 2:
            return list(shape)
        return [min(n, max(2 * self.rank, self.rank + 8)) for n in shape]

    def problem(self, tensor: Tensor, norm2: float, outside: float) -> _Problem:
        sides = [abs(math.prod(tensor.shape[:s]) - math.prod(tensor.shape[s:])) for s in range(1, tensor.ndim)]
        return _Problem(tensor, 1 + sides.index(min(sides)), norm2, squared_norm(tensor), outside)

    def starts(self, tensor: Tensor, generator: torch.Generator) -> list[list[Tensor]]:
        """From slices where they determine the factors, from singular vectors, and random ones."""
        by_slices = _from_slices(tensor, self.rank, generator)
        made = [] if by_slices is None else [by_slices]
        made.append(_singular_vectors(tensor, self.rank, generator))
        for _ in range(min(_RANDOM_STARTS, _START_ENTRIES // tensor.numel())):
            made.append([_gaussian(self.rank, n, tensor, generator) for n in tensor.shape])
        return made

    def expand(self, state: Sequence[Tensor], bases: Sequence[Tensor]) -> list[Tensor]:
        return [factor @ basis.T for factor, basis in zip(state, bases, strict=True)]

    def state(self, cores: Sequence[Tensor]) -> list[Tensor]:
        """The factors, rank x mode for each mode, balanced."""
        found = []
        for number in self.order:
            axis = self.structure.cores[number].indices.index(self.index)
            found.append(cores[number].movedim(axis, 0).reshape(self.rank, -1))
        return _balanced(found)

    def cores(self, state: Sequence[Tensor]) -> list[Tensor]:
        by_number = dict(zip(self.order, state, strict=True))
        made = []
        for number, core in enumerate(self.structure.cores):
            axis = core.indices.index(self.index)
            own = [self.structure.sizes[index] for index in self._own(number)]
            made.append(by_number[number].reshape(self.rank, *own).movedim(0, axis))
        return made


@dataclass(frozen=True)
class _Problem:
    """A tensor to fit: its two-group unfolding, and what its relative error is counted against.

    ``outside`` are squares that no factors can reach (what a compression left out) and ``norm2`` those of all the data.
    Factors are rank x mode, so that all that follows the two large products runs along memory.
    """

    tensor: Tensor
    split: int
    norm2: float
    own2: float
    outside: float

    @property
    def matrix(self) -> Tensor:
        return self.tensor.reshape(math.prod(self.tensor.shape[: self.split]), -1)

    def sweep(self, factors: list[Tensor]) -> tuple[list[Tensor], float]:
        """Every factor once, and the relative error after that."""
        factors = list(factors)
        grams = [_gram(factor) for factor in factors]
        order = len(factors)
        left, right = range(self.split), range(self.split, order)
        self._group(product(_khatri_rao(factors, right).conj().resolve_conj(), self.matrix.T), left, factors, grams)
        last = self._group(
            product(_khatri_rao(factors, left).conj().resolve_conj(), self.matrix), right, factors, grams
        )
        overlap = _inner(factors[-1], last)
        square = self.own2 - 2 * overlap + float(reduce(torch.mul, grams).sum().real)
        floor = 1e-2 if torch.finfo(self.tensor.dtype).eps > 1e-10 else 1e-6
        if not square > floor**2 * self.own2:
            square = self._residual(factors)
        return _balanced(factors), math.sqrt(max(square + self.outside, 0.0) / self.norm2)

    def _group(self, partial: Tensor, modes: range, factors: list[Tensor], grams: list[Tensor]) -> Tensor:
        """Update a group of modes from the data contracted with all others; returns the last right-hand side."""
        if len(modes) == 1:
            mode = modes[0]
            others = [gram for m, gram in enumerate(grams) if m != mode]
            factors[mode] = solve_normal(reduce(torch.mul, others), partial)
            grams[mode] = _gram(factors[mode])
            return partial
        half = len(modes) // 2
        low, high = modes[:half], modes[half:]
        rank = partial.shape[0]
        cube = partial.reshape(rank, math.prod(factors[m].shape[1] for m in low), -1)
        self._group((cube @ _khatri_rao(factors, high).conj().unsqueeze(2)).squeeze(2), low, factors, grams)
        return self._group((_khatri_rao(factors, low).conj().unsqueeze(1) @ cube).squeeze(1), high, factors, grams)

    def _residual(self, factors: list[Tensor]) -> float:
        left = _khatri_rao(factors, range(self.split))
        right = _khatri_rao(factors, range(self.split, len(factors)))
        step = max(1, 2**20 // right.shape[1])
        wide = torch.complex128 if right.is_complex() else torch.float64
        pieces = zip(left.split(step, 1), self.matrix.split(step, 0), strict=True)
        return math.fsum(squared_norm(x.to(wide) - a.T.to(wide) @ right.to(wide)) for a, x in pieces)


def _khatri_rao(factors: Sequence[Tensor], modes: Sequence[int]) -> Tensor:
    """rank x (product of the modes), the last mode fastest."""
    made = factors[modes[0]]
    for mode in modes[1:]:
        made = (made.unsqueeze(2) * factors[mode].unsqueeze(1)).flatten(1)
    return made


def _gram(factor: Tensor) -> Tensor:
    wide = factor.to(torch.complex128 if factor.is_complex() else torch.float64)
    return wide.conj() @ wide.T


def _inner(a: Tensor, b: Tensor) -> float:
    double = torch.complex128 if a.is_complex() else torch.float64
    return float(torch.vdot(a.to(double).reshape(-1), b.to(double).reshape(-1)).real)


def _balanced(factors: Sequence[Tensor]) -> list[Tensor]:
    """The same terms with all their vectors equally long."""
    norms = [torch.linalg.vector_norm(factor, dim=1).double() for factor in factors]
    tiny = torch.finfo(torch.float64).tiny
    target = torch.exp(torch.stack([norm.clamp(min=tiny).log() for norm in norms]).mean(0))
    dead = torch.stack([norm == 0 for norm in norms]).any(0)
    target[dead] = 0
    return [
        factor * (target / norm.clamp(min=tiny)).to(factor.real.dtype)[:, None]
        for factor, norm in zip(factors, norms, strict=True)
    ]


# --- where to start ---------------------------------------------------------------------------------------------------


def _gaussian(rank: int, extent: int, like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(rank, extent, generator=generator, dtype=like.dtype).to(like.device)


def _singular_vectors(tensor: Tensor, rank: int, generator: torch.Generator) -> list[Tensor]:
    factors = []
    for mode, extent in enumerate(tensor.shape):
        leading = _leading(tensor.movedim(mode, 0).reshape(extent, -1), rank).T
        missing = rank - leading.shape[0]
        if missing > 0:
            leading = torch.cat([leading, _gaussian(missing, extent, tensor, generator) / math.sqrt(extent)])
        factors.append(leading)
    return factors


def _leading(matrix: Tensor, rank: int) -> Tensor:
    """Orthonormal columns along the leading left singular vectors, at most as many as there are rows."""
    return torch.linalg.eigh(product(matrix, matrix.mH)).eigenvectors.flip(1)[:, :rank]


def _from_slices(tensor: Tensor, rank: int, generator: torch.Generator) -> list[Tensor] | None:
    """Factors from the generalised eigenproblem of two random mixtures of slices, where the two largest modes allow it.

    For a tensor that is exactly of this rank, with independent factors in those modes, they are its own.
    Paper: "Tensorial resolution: a direct trilinear decomposition", 1990.
    """
    order = sorted(range(tensor.ndim), key=lambda mode: -tensor.shape[mode])
    if tensor.ndim < 3 or tensor.shape[order[1]] < rank:
        return None
    first, second = tensor.shape[order[0]], tensor.shape[order[1]]
    cube = tensor.permute(order).reshape(first, second, -1)
    rows, columns = _leading(cube.flatten(1), rank), _leading(cube.movedim(1, 0).flatten(1), rank)
    mixing = torch.randn(cube.shape[2], 2, generator=generator, dtype=tensor.dtype).to(tensor.device)
    a, b = (rows.mH @ mixture @ columns.conj() for mixture in (cube @ mixing).unbind(2))
    if float(torch.linalg.cond(b)) * torch.finfo(tensor.dtype).eps > 1e-2:
        return None
    values, vectors = torch.linalg.eig(torch.linalg.solve(b, a, left=False))
    if not tensor.is_complex():
        # Noise makes pairs of conjugate vectors; their real and imaginary parts span the same plane.
        vectors = torch.where(values.imag < 0, vectors.imag, vectors.real)
    # What is left of the data for each term has rank one: its leading vectors are the other factors.
    terms = torch.linalg.lstsq(vectors, rows.mH @ cube.flatten(1)).solution
    found: dict[int, Tensor] = {order[0]: (rows @ vectors).T}
    shape = [tensor.shape[mode] for mode in order[1:]]
    for place, mode in enumerate(order[1:]):
        unfolded = terms.reshape(rank, *shape).movedim(place + 1, 1).flatten(2)
        found[mode] = torch.linalg.eigh(unfolded @ unfolded.mH).eigenvectors[:, :, -1]
    return [found[mode].to(tensor.dtype) for mode in range(tensor.ndim)]
