"""Canonical polyadic decomposition by alternating least squares."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from tenfold.decomposition._anderson import Iterated, iterate
from tenfold.decomposition._arrays import whole_array
from tenfold.decomposition._blas import product
from tenfold.decomposition._error import relative_error, squared_norm
from tenfold.decomposition._registry import Callback, Data, Decomposition, Progress, method
from tenfold.decomposition.tree_svd import st_hosvd
from tenfold.errors import StructureError
from tenfold.network import Network
from tenfold.structure import Structure

# Random starts beside the one from singular vectors, and the sweeps after which the best start goes on alone.
_RANDOM_STARTS = 3
_TRIAL = 10
# The polish on the whole tensor that follows a solution of the compressed one ends at this relative change.
_POLISH = 1e-5


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

    The modes are split into two groups whose unfolding is a view of the data; a sweep contracts it once with the factors of
    each group, and the rest works on what is left. Starts from leading singular vectors, from a generalised
    eigenproblem (exact for noiseless data whose rank no two modes are smaller than) and from random factors run a few
    sweeps each, and the best goes on. If the rank is small against the modes, all of this happens on the core of a
    Tucker compression, and some sweeps on the whole data follow.

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
    layout = _Layout.of(structure)
    if init is not None and init.structure != structure:
        raise StructureError(f"init has structure '{init.structure}', not '{structure}'")
    whole = whole_array(data, structure, "cp_als")
    if whole.norm2 == 0:
        zeros = [torch.zeros(core.shape, dtype=whole.dtype, device=whole.tensor.device) for core in structure.cores]
        return Decomposition(Network(structure, zeros), 0.0, (), "exact")
    tensor = layout.modes(whole.tensor)
    rank = layout.rank
    total: list[float] = []

    def network(factors: Sequence[Tensor]) -> Network:
        return Network(structure, whole.finish(layout.cores(factors)))

    def run(problem: _Problem, start: list[Tensor], bases: Sequence[Tensor] | None, tol: float) -> Iterated:
        done = len(total)

        def report(state: list[Tensor], reached: float, number: int) -> None:
            # Between the compressed and the whole data nothing but rounding can raise it.
            total.append(min(reached, total[-1]) if total else reached)
            if callback is not None:
                callback(Progress(total[-1], number + done, max_sweeps, lambda: network(_expand(state, bases))))

        return iterate(
            problem.sweep, start, error=error, tol=tol, max_sweeps=max(max_sweeps - done, 1), report=report
        )

    if init is not None:
        factors = layout.factors([core.to(tensor.dtype) for core in init.cores])
        factors[0] = factors[0] / whole.scale
        found = run(_Problem.of(tensor, whole.norm2, 0.0), _balanced(factors), None, tol)
    elif _compresses(tensor.shape, rank):
        core, bases = st_hosvd(tensor, [min(n, max(2 * rank, rank + 8)) for n in tensor.shape])
        # The core is small enough for double precision, which starts from eigenvectors profit from.
        core = core.to(torch.complex128 if core.is_complex() else torch.float64)
        small = _Problem.of(core, whole.norm2, max(whole.norm2 - squared_norm(core), 0.0))
        found = run(small, _start(small, rank, seed), bases, tol)
        if len(total) < max_sweeps:
            whole_problem = _Problem.of(tensor, whole.norm2, 0.0)
            state = _expand(found.state, bases)
            found = run(whole_problem, state, None, max(tol, _POLISH))
    else:
        problem = _Problem.of(tensor, whole.norm2, 0.0)
        found = run(problem, _start(problem, rank, seed), None, tol)
    result = network(found.state)
    if whole.scale == 1:
        return Decomposition(result, relative_error(data, result), tuple(total), found.stopped)
    scaled = Network(structure, layout.cores(found.state))
    return Decomposition(result, relative_error(whole.tensor.reshape(structure.shape), scaled), tuple(total), found.stopped)


@dataclass(frozen=True)
class _Layout:
    """How the cores of a CP structure lie in the data: modes are cores in the order of their outputs."""

    structure: Structure
    index: str
    order: tuple[int, ...]

    @classmethod
    def of(cls, structure: Structure) -> _Layout:
        inner = structure.inner_indices
        if len(inner) != 1 or len(structure.terms_with(inner[0])) != len(structure.terms):
            raise StructureError(f"cp_als needs one inner index that lies on every core, not '{structure}'")
        for core in structure.cores:
            if len(core.terms) > 1:
                raise StructureError(f"cp_als needs different cores, but '{core.name}' is used {len(core.terms)} times")
        outside = structure.output_indices
        for index in outside:
            if len(structure.terms_with(index)) > 1:
                raise StructureError(f"cp_als needs each output on one core, but '{index}' lies on several")
        first = [min((outside.index(i) for i in core.indices if i != inner[0]), default=len(outside)) for core in structure.cores]
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

    def factors(self, cores: Sequence[Tensor]) -> list[Tensor]:
        """rank x mode for each mode."""
        found = []
        for number in self.order:
            axis = self.structure.cores[number].indices.index(self.index)
            found.append(cores[number].movedim(axis, 0).reshape(self.rank, -1))
        return found

    def cores(self, factors: Sequence[Tensor]) -> list[Tensor]:
        by_number = dict(zip(self.order, factors, strict=True))
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

    @classmethod
    def of(cls, tensor: Tensor, norm2: float, outside: float) -> _Problem:
        sides = [abs(math.prod(tensor.shape[:s]) - math.prod(tensor.shape[s:])) for s in range(1, tensor.ndim)]
        return cls(tensor, 1 + sides.index(min(sides)), norm2, squared_norm(tensor), outside)

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
        last = self._group(product(_khatri_rao(factors, left).conj().resolve_conj(), self.matrix), right, factors, grams)
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
            factors[mode] = _solve(reduce(torch.mul, others), partial)
            grams[mode] = _gram(factors[mode])
            return partial
        half = len(modes) // 2
        low, high = modes[:half], modes[half:]
        rank = partial.shape[0]
        cube = partial.reshape(rank, math.prod(factors[m].shape[1] for m in low), -1)
        self._group(
            (cube @ _khatri_rao(factors, high).conj().unsqueeze(2)).squeeze(2), low, factors, grams
        )
        return self._group(
            (_khatri_rao(factors, low).conj().unsqueeze(1) @ cube).squeeze(1), high, factors, grams
        )

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


def _solve(gram: Tensor, right: Tensor) -> Tensor:
    """``gram^-1 right`` in double precision for a positive semidefinite matrix, scaled to a unit diagonal.

    Where columns of the factors (nearly) coincide this is the solution of least norm.
    """
    scale = gram.diagonal().real.clamp(min=torch.finfo(torch.float64).tiny).rsqrt()
    scaled = gram * scale[:, None] * scale
    wide = scale[:, None] * right.to(gram.dtype)
    lower, failed = torch.linalg.cholesky_ex(scaled)
    pivots = lower.diagonal().real
    if int(failed) or float(pivots.min()) < 1e-6 * float(pivots.max()):
        values, vectors = torch.linalg.eigh(scaled)
        keep = values > 1e-12 * values[-1]
        solved = vectors[:, keep] @ ((vectors[:, keep].mH @ wide) / values[keep, None])
    else:
        solved = torch.cholesky_solve(wide, lower)
    return (scale[:, None] * solved).to(right.dtype)


def _balanced(factors: Sequence[Tensor]) -> list[Tensor]:
    """The same terms with all their vectors equally long."""
    norms = [torch.linalg.vector_norm(factor, dim=1).double() for factor in factors]
    tiny = torch.finfo(torch.float64).tiny
    target = torch.exp(torch.stack([norm.clamp(min=tiny).log() for norm in norms]).mean(0))
    dead = torch.stack([norm == 0 for norm in norms]).any(0)
    target[dead] = 0
    return [factor * (target / norm.clamp(min=tiny)).to(factor.real.dtype)[:, None] for factor, norm in zip(factors, norms, strict=True)]


def _expand(factors: Sequence[Tensor], bases: Sequence[Tensor] | None) -> list[Tensor]:
    if bases is None:
        return list(factors)
    return [factor.to(basis.dtype) @ basis.T for factor, basis in zip(factors, bases, strict=True)]


def _compresses(shape: Sequence[int], rank: int) -> bool:
    kept = math.prod(min(n, max(2 * rank, rank + 8)) for n in shape)
    return sum(2 * rank < n for n in shape) >= 2 and kept < 0.2 * math.prod(shape)


# --- where to start ---------------------------------------------------------------------------------------------------


def _start(problem: _Problem, rank: int, seed: int) -> list[Tensor]:
    """The best of several starts after a few sweeps each."""
    generator = torch.Generator().manual_seed(seed)
    tensor = problem.tensor
    starts = [_singular_vectors(tensor, rank, generator)]
    by_slices = _from_slices(tensor, rank, generator)
    if by_slices is not None:
        starts.append(by_slices)
    for _ in range(_RANDOM_STARTS):
        starts.append([_gaussian(rank, n, tensor, generator) for n in tensor.shape])
    # One sweep brings each start to the scale of the data.
    runs = [iterate(problem.sweep, start, error=None, tol=0.0, max_sweeps=_TRIAL) for start in starts]
    return min(runs, key=lambda run: run.errors[-1]).state


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
