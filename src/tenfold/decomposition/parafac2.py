"""PARAFAC2: matrices of differing heights that share their columns."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor

from tenfold._arguments import real_number, whole_number
from tenfold.decomposition._anderson import Iterated, State, iterate
from tenfold.decomposition._blas import product
from tenfold.decomposition._error import squared_norm
from tenfold.decomposition._normal import solve_normal
from tenfold.errors import DataError, TenfoldError

# Steps that the acceleration combines: states are small, and plain sweeps slow.
_MEMORY = 15
# Rounds of the starts: sweeps for each, after which the better third goes on.
_ROUNDS = (10, 25)
# Random starts of each kind: non-negative ones, and ones of either sign.
_RANDOM_STARTS = 4
# The sweeps on the whole data after a solution of the compressed one end at this relative change.
_POLISH = 1e-5
# Ratios of eigenvalues of a Gram matrix: above the first its polar factor is accurate, between them one Newton step
# makes it so, below it takes a singular value decomposition.
_ACCURATE, _POOR = 1e-4, 1e-10
# Passes over the columns of a non-negative factor in one update.
_PASSES = 5

Start = Literal["svd", "random"]


@dataclass(frozen=True, eq=False, repr=False)
class Parafac2:
    """``X_i = P_i H diag(a_i) C^T`` with orthonormal columns in each ``P_i`` (rows, where there are fewer rows).

    The columns of ``h`` and ``c`` have unit norm, those of ``a`` carry the sizes and fall; the largest entries of the
    columns of ``a`` and ``c`` are positive.

    Attributes:
        a: the weight of each component in each slice.
        h: the base: its products ``H^T H`` are those of ``P_i H`` for every slice.
        c: the columns that all slices share.
        projections: ``P_i``, rows of slice i x rank.
        error: the relative Frobenius error over all slices.
        errors: the error after each sweep.
        stopped: why it ended: ``"exact"`` (nothing to fit), ``"tol"``, ``"max_sweeps"``.
    """

    a: Shaped[Tensor, "slices rank"]
    h: Shaped[Tensor, "rank rank"]
    c: Shaped[Tensor, "columns rank"]
    projections: tuple[Shaped[Tensor, "_ rank"], ...]
    error: float
    errors: tuple[float, ...]
    stopped: str

    @property
    def rank(self) -> int:
        return self.a.shape[1]

    def evolving(self, number: int) -> Shaped[Tensor, "rows rank"]:
        """``P_i H``: how the components look in the rows of slice ``number``."""
        return self.projections[number] @ self.h

    def slices(self) -> list[Shaped[Tensor, "_ columns"]]:
        """The slices as the model has them."""
        return [(self.evolving(i) * self.a[i]) @ self.c.T for i in range(len(self.projections))]

    def __repr__(self) -> str:
        heights = sorted({len(part) for part in self.projections})
        rows = f"{heights[0]}" if len(heights) == 1 else f"{heights[0]} to {heights[-1]}"
        return (
            f"Parafac2(rank {self.rank}, {len(self.projections)} slices of {rows} x {len(self.c)}, "
            f"error {self.error:.4g}, {len(self.errors)} sweeps, stopped: {self.stopped})"
        )


@dataclass(frozen=True)
class Parafac2Progress:
    """Where `parafac2` stands after a sweep: the relative error so far, sweeps done, and what makes the result."""

    error: float
    sweep: int
    max_sweeps: int
    result: Callable[[], Parafac2]


@torch.no_grad()
def parafac2(
    slices: Sequence[Shaped[Tensor, "_ columns"] | Any] | Shaped[Tensor, "slices rows columns"] | np.ndarray,
    rank: int,
    *,
    nonnegative: Collection[Literal["a", "c"]] = (),
    init: Parafac2 | Start | None = None,
    seed: int = 0,
    max_sweeps: int = 1000,
    tol: float = 1e-9,
    callback: Callable[[Parafac2Progress], None] | None = None,
    accelerate: bool = True,
) -> Parafac2:
    """PARAFAC2 by direct fitting: alternating least squares with Anderson acceleration.

    ``P_i`` is the polar factor of ``X_i conj(C) diag(conj a_i) H^H``, the other factors solve least-squares problems.
    Slices taller than wide are replaced by their triangular factors first, which changes nothing. If the rank is
    small against the columns, all slices are projected on their leading right singular vectors, the starts and most
    sweeps happen there, and some sweeps on the whole data follow. The model is unique (up to order, sign and scale)
    for at least four slices, as a rule.

    Args:
        slices: matrices with equally many columns, tensors or arrays, real or complex, or an array of order 3 whose
            first axis numbers them.
        rank: of all slices; at most the number of columns.
        nonnegative: factors whose entries must not be negative, of ``"a"`` and ``"c"``.
        init: ``"svd"`` for singular vectors, ``"random"`` for the most promising of some random starts, an earlier
            result to go on from it; None runs starts of all kinds for some sweeps and goes on with the best.
        seed: for the random starts.
        max_sweeps: at most so many sweeps after the starts.
        tol: stop when two sweeps running change the error by less than this part of it.
        callback: called after each sweep.
        accelerate: False for plain sweeps, the textbook's method.

    Raises:
        DataError: slices that are no matrices, have different numbers of columns or dtypes, are empty, or hold NaN or
            infinity.
        TenfoldError: another argument cannot be used.

    Cost: ``4 |X| R`` flops a sweep; compressed, ``2 |X| K`` once for K columns, and sweeps that do not grow with the
    data but with slices x R^2.
    Paper: "PARAFAC2 - Part I. A direct fitting algorithm for the PARAFAC2 model", 1999.
    """
    parts = _checked(slices)
    columns = parts[0].shape[1]
    rank, max_sweeps = whole_number("rank", rank, 1), whole_number("max_sweeps", max_sweeps, 1)
    seed, tol = whole_number("seed", seed, 0), real_number("tol", tol, "at least 0")
    _check_arguments(rank, columns, nonnegative, tol)
    dtype = parts[0].dtype
    if (
        init is not None
        and not isinstance(init, Parafac2)
        and not (isinstance(init, str) and init in ("svd", "random"))
    ):
        raise TenfoldError(f"init must be 'svd', 'random', an earlier result or None, not {init!r}")
    if nonnegative and dtype.is_complex:
        raise TenfoldError("nonnegative needs real slices, not complex ones")
    wide = torch.complex128 if dtype.is_complex else torch.float64
    largest = max(float(part.abs().max()) for part in parts)
    scale = 2.0 ** math.frexp(largest)[1] if largest else 1.0
    # In two steps, because the reciprocal of a subnormal number is out of range.
    root = 2.0 ** (math.frexp(scale)[1] // 2)
    data = [part.detach().to(wide) / root / (scale / root) for part in parts]
    norm2 = math.fsum(squared_norm(part) for part in data)
    kept = max(2 * rank, rank + 8)
    whole = _Problem.of(data, nonnegative, rank, norm2)
    errors: list[float] = []

    def finish(state: State, stopped: str) -> Parafac2:
        return _finished(data, state, scale, dtype, tuple(errors), stopped)

    if largest == 0:
        h, a, c = whole.singular_start()
        return finish([h, torch.zeros_like(a), c], "exact")

    def run(problem: _Problem, start: State, tol: float, basis: Tensor | None = None) -> Iterated:
        done = len(errors)

        def report(state: State, reached: float, number: int) -> None:
            # Between the compressed and the whole data nothing but rounding can raise it.
            errors.append(min(reached, errors[-1]) if errors else reached)
            if callback is not None:
                whole_state = _widened(state, basis)
                callback(
                    Parafac2Progress(errors[-1], done + number, max_sweeps, lambda: finish(whole_state, "callback"))
                )

        left = max(max_sweeps - done, 1)
        return iterate(
            problem.sweep,
            start,
            error=None,
            tol=tol,
            max_sweeps=left,
            accelerate=accelerate,
            memory=_MEMORY,
            report=report,
        )

    if isinstance(init, Parafac2):
        _check_start(init, parts, rank)
        start = [part.to(wide) for part in (init.h, init.a / scale, init.c)]
        found = run(whole, _balanced(start), tol)
    elif 2 * kept <= columns and "c" not in nonnegative:
        basis = _leading(whole.rows, kept)
        core = _Problem.of([part @ basis for part in whole.parts()], nonnegative, rank, norm2)
        found = run(core, _chosen(core, init, seed, basis), tol, basis)
        state = _widened(found.state, basis)
        if len(errors) < max_sweeps:
            polished = run(whole, state, max(tol, _POLISH))
            found = polished._replace(stopped=polished.stopped if found.stopped == "tol" else found.stopped)
        else:
            found = found._replace(state=state)
    else:
        found = run(whole, _chosen(whole, init, seed), tol)
    return finish(found.state, found.stopped)


# --- the sweeps -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Problem:
    """Slices one below the other, none taller than wide; states are [H, A, C], each with a column for a component.

    Slices with fewer rows than the rank are filled up with zero rows: then every ``P_i`` has orthonormal columns, and
    what the filled rows of the model hold counts as error, which bounds the true one from above.
    """

    rows: Tensor
    heights: tuple[int, ...]
    norm2: float
    own2: float
    rank: int
    nonnegative: Collection[str]
    places: Tensor = field(repr=False)

    @classmethod
    def of(cls, parts: Sequence[Tensor], nonnegative: Collection[str], rank: int, norm2: float) -> _Problem:
        columns = parts[0].shape[1]
        small = [torch.linalg.qr(part, mode="r").R if len(part) > columns else part for part in parts]
        heights = tuple(len(part) for part in small)
        rows = torch.cat(small)
        high = max(*heights, rank)
        firsts = torch.tensor([0, *heights[:-1]]).cumsum(0)[:, None]
        inside = torch.arange(high) < torch.tensor(heights)[:, None]
        places = torch.where(inside, firsts + torch.arange(high), len(rows)).to(rows.device)
        return cls(rows, heights, norm2, squared_norm(rows), rank, nonnegative, places)

    def parts(self) -> list[Tensor]:
        return list(self.rows.split(self.heights))

    def sweep(self, state: State) -> tuple[State, float]:
        """Every factor, and the relative error after that."""
        h, a, c = state
        seen = self._raised(product(self.rows, c.conj().resolve_conj()))
        gram_c = c.mH @ c
        projections = _polar((seen * a.conj()[:, None, :]) @ h.mH)
        cores = projections.mH @ seen
        a = self._solved("a", (h.mH @ h) * gram_c, (h.conj() * cores).sum(1), a)
        h = solve_normal((a.mH @ a) * gram_c, (cores * a.conj()[:, None, :]).sum(0).T).T
        model = (projections @ h) * a[:, None, :]
        # The rows of the model, without those that were filled up.
        flat = model.flatten(0, 1)[(self.places < len(self.rows)).flatten()]
        right = product(self.rows.T, flat.conj().resolve_conj())
        gram = (h.mH @ h) * (a.mH @ a)
        c = self._solved("c", gram, right, c)
        square = self.own2 - 2 * float((c.conj() * right).sum().real) + float((gram * (c.mH @ c)).sum().real)
        if not square > 1e-12 * self.own2:
            filled = float((model.mH @ model).sum(0).mul(c.mH @ c).sum().real)
            filled -= float((flat.mH @ flat).mul(c.mH @ c).sum().real)
            square = squared_norm(self.rows - flat @ c.T) + max(filled, 0.0) * (min(self.heights) < self.rank)
        lost = max(self.norm2 - self.own2, 0.0)
        return _balanced([h, a, c]), math.sqrt(max(square + lost, 0.0) / self.norm2)

    def _raised(self, rows: Tensor) -> Tensor:
        """Rows as (slice, row, component), with zeros below short slices."""
        return torch.cat([rows, rows.new_zeros(1, rows.shape[1])])[self.places]

    def _solved(self, name: str, gram: Tensor, right: Tensor, old: Tensor) -> Tensor:
        """``F conj(gram) = right`` in the least-squares sense, by coordinate descent if F must not be negative."""
        if name not in self.nonnegative:
            return solve_normal(gram, right.T).T
        new = old.clamp(min=0)
        for _ in range(_PASSES):
            for column, curvature in enumerate(gram.diagonal().tolist()):
                if curvature > 0:
                    step = (right[:, column] - new @ gram[:, column]) / curvature
                    new[:, column] = (new[:, column] + step).clamp_(min=0)
        # A column of zeros would never come back.
        dead = (new == 0).all(0)
        return torch.where(dead, 1e-8 * new.max().clamp(min=1e-8), new) if bool(dead.any()) else new

    def singular_start(self) -> State:
        """Columns along the leading right singular vectors, equal weights."""
        count, columns = len(self.heights), self.rows.shape[1]
        c = _leading(self.rows, self.rank).conj().resolve_conj()
        # Fewer rows in all than components: any columns do for the rest.
        c = torch.cat([c, torch.eye(columns, self.rank - c.shape[1], dtype=c.dtype, device=c.device)], 1)
        h = torch.eye(self.rank, dtype=c.dtype, device=c.device)
        return _balanced([h, c.new_ones(count, self.rank), c])

    def random_start(self, generator: torch.Generator, basis: Tensor | None, *, positive: bool) -> State:
        """Uniform or Gaussian factors; the columns are drawn for the whole data and projected like it."""
        count, columns = len(self.heights), self.rows.shape[1] if basis is None else len(basis)
        shapes = ((self.rank, self.rank), (count, self.rank), (columns, self.rank))
        if positive:
            h, a, c = (torch.rand(*shape, generator=generator, dtype=torch.float64).to(self.rows) for shape in shapes)
        else:
            h, a, c = (
                torch.randn(*shape, generator=generator, dtype=self.rows.dtype).to(self.rows) for shape in shapes
            )
            a = a.abs().to(a)
            c = c.abs().to(c) if "c" in self.nonnegative else c
        return _balanced([h, a, c if basis is None else basis.T @ c])


def _polar(stack: Tensor) -> Tensor:
    """For each matrix of a batch the nearest one with orthonormal columns, of which no matrix has more than rows."""
    values, vectors = torch.linalg.eigh(stack.mH @ stack)
    least, top = values[:, :1], values[:, -1:]
    ratio = torch.where(top > 0, least / top.clamp(min=torch.finfo(top.dtype).tiny), 0)
    poor = (ratio < _POOR).squeeze(1)
    scaled = vectors * values.clamp(min=torch.finfo(values.dtype).tiny).rsqrt()[:, None, :]
    found = stack @ (scaled @ vectors.mH)
    if bool((ratio < _ACCURATE).any()):
        found = 1.5 * found - 0.5 * found @ (found.mH @ found)
    if bool(poor.any()):
        left, _, right = torch.linalg.svd(stack[poor], full_matrices=False)
        found[poor] = left @ right
    return found


def _leading(rows: Tensor, rank: int) -> Tensor:
    """Orthonormal columns along the leading right singular vectors, at most as many as there are."""
    if rows.shape[0] < rows.shape[1]:
        basis = torch.linalg.qr(rows.mH).Q
        return basis @ _leading(rows @ basis, rank)
    return torch.linalg.eigh(product(rows.mH, rows)).eigenvectors.flip(1)[:, :rank]


def _balanced(state: State) -> State:
    """The same model with the columns of all three factors equally long."""
    norms = torch.stack([torch.linalg.vector_norm(factor, dim=0) for factor in state])
    safe = norms.clamp(min=torch.finfo(norms.dtype).tiny)
    target = torch.where((norms == 0).any(0), 0, safe.log().mean(0).exp())
    return [factor * (target / norm) for factor, norm in zip(state, safe, strict=True)]


# --- both ends --------------------------------------------------------------------------------------------------------


def _chosen(problem: _Problem, init: Start | None, seed: int, basis: Tensor | None = None) -> State:
    """The start asked for; of several the one that is ahead of the others a few sweeps on."""
    generator = torch.Generator().manual_seed(seed)
    if init == "svd":
        return problem.singular_start()

    def ahead(states: Sequence[State], sweeps: int) -> list[tuple[State, State]]:
        runs = [(iterate(problem.sweep, state, error=None, tol=1e-7, max_sweeps=sweeps), state) for state in states]
        runs.sort(key=lambda run: run[0].errors[-1])
        return [(run.state, state) for run, state in runs[: -(-len(runs) // 3)]]

    positive = [problem.random_start(generator, basis, positive=True) for _ in range(_RANDOM_STARTS)]
    if init == "random":
        return ahead(positive, _ROUNDS[1])[0][1]
    either = [problem.random_start(generator, basis, positive=False) for _ in range(_RANDOM_STARTS)]
    states = [problem.singular_start(), *positive, *either]
    for sweeps in _ROUNDS:
        states = [reached for reached, _ in ahead(states, sweeps)]
    return states[0]


def _widened(state: State, basis: Tensor | None) -> State:
    h, a, c = state
    return [h, a, c if basis is None else basis.conj() @ c.to(basis.dtype)]


def _finished(
    data: Sequence[Tensor], state: State, scale: float, dtype: torch.dtype, errors: tuple[float, ...], stopped: str
) -> Parafac2:
    """The projections that are best for these factors, the canonical form, and the true error."""
    h, a, c = (factor.to(data[0].dtype) for factor in state)
    norms_h, norms_c = (torch.linalg.vector_norm(factor, dim=0) for factor in (h, c))
    h, c = h / norms_h.where(norms_h > 0, 1), c / norms_c.where(norms_c > 0, 1)
    a = a * (norms_h * norms_c)
    order = torch.linalg.vector_norm(a, dim=0).argsort(descending=True, stable=True)
    h, a, c = h[:, order], a[:, order], c[:, order]
    phase_a, phase_c = _phase(a), _phase(c)
    # Where both are turned, the base takes what is left.
    h, a, c = h * (phase_a * phase_c), a / phase_a, c / phase_c
    projections, squares, total = [], [], []
    for part, weights in zip(data, a, strict=True):
        left, _, right = torch.linalg.svd((part @ c.conj() * weights.conj()) @ h.mH, full_matrices=False)
        projections.append(left @ right)
        squares.append(squared_norm(part - (projections[-1] @ h * weights) @ c.T))
        total.append(squared_norm(part))
    norm2 = math.fsum(total)
    error = math.sqrt(math.fsum(squares) / norm2) if norm2 else 0.0
    h, a, c = (factor.to(dtype).resolve_conj().contiguous() for factor in (h, a * scale, c))
    return Parafac2(
        h=h, a=a, c=c, projections=tuple(p.to(dtype) for p in projections), error=error, errors=errors, stopped=stopped
    )


def _phase(factor: Tensor) -> Tensor:
    """The sign, or complex phase, of each column's largest entry; 1 where all are zero."""
    largest = factor.gather(0, factor.abs().argmax(0, keepdim=True))[0]
    return torch.where(largest == 0, 1, largest / largest.abs().where(largest != 0, 1)).to(factor.dtype)


def _checked(slices: Any) -> list[Tensor]:
    try:
        given = list(slices.unbind(0)) if isinstance(slices, Tensor) and slices.ndim > 0 else list(slices)
    except TypeError:
        raise DataError(f"slices must be matrices or an array of order 3, not {type(slices).__name__}") from None
    parts = [_tensor(part, number) for number, part in enumerate(given)]
    if not parts:
        raise DataError("slices is empty; PARAFAC2 needs at least one matrix")
    first = parts[0]
    for number, part in enumerate(parts):
        if part.ndim != 2:
            raise DataError(f"slice {number} has {part.ndim} axes; a slice is a matrix")
        if part.shape[1] != first.shape[1]:
            raise DataError(f"slice {number} has {part.shape[1]} columns, but slice 0 has {first.shape[1]}")
        if part.numel() == 0:
            raise DataError(f"slice {number} has shape {tuple(part.shape)}, which holds nothing; leave it out")
        if not (part.is_floating_point() or part.is_complex()) or part.dtype != first.dtype:
            raise DataError(f"slice {number} is {part.dtype}; slices must be floating or complex, all of one dtype")
        bad = int((~torch.isfinite(part)).sum())
        if bad:
            raise DataError(f"slice {number} has {bad:,} entries that are NaN or infinite; fill them first")
    return parts


def _tensor(part: Any, number: int) -> Tensor:
    """A slice as a tensor; whole numbers in double precision."""
    if isinstance(part, Tensor):
        return part
    try:
        made = torch.as_tensor(np.ascontiguousarray(part))
    except (TypeError, ValueError):
        raise DataError(f"slice {number} must be a matrix of numbers, not {type(part).__name__}") from None
    return made if made.is_floating_point() or made.is_complex() else made.double()


def _check_arguments(rank: int, columns: int, nonnegative: Collection[str], tol: float) -> None:
    if rank > columns:
        raise TenfoldError(f"rank {rank} exceeds the {columns} columns of the slices")
    for name in nonnegative:
        if name not in ("a", "c"):
            raise TenfoldError(f"nonnegative may name the factors 'a' and 'c', not {name!r}")
    if not tol >= 0:
        raise TenfoldError(f"tol must be at least 0, not {tol}")


def _check_start(init: Parafac2, parts: Sequence[Tensor], rank: int) -> None:
    columns = parts[0].shape[1]
    expected = [(rank, rank), (len(parts), rank), (columns, rank)]
    given = [tuple(factor.shape) for factor in (init.h, init.a, init.c)]
    if given != expected:
        raise TenfoldError(f"init has factors h, a, c of shapes {given}, but rank and slices need {expected}")
