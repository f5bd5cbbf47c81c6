"""Alternating least squares for any structure."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tenfold.contraction import contract
from tenfold.decomposition._environments import environments
from tenfold.decomposition._iterate import Sweep, iterate
from tenfold.decomposition._loss import Loss, Operand, balance, primed
from tenfold.decomposition._registry import Callback, Data, Decomposition, method
from tenfold.decomposition._solve import conjugate_gradient, solve
from tenfold.network import Network
from tenfold.structure import Structure

# Gram matrices with more entries than this (128 MiB) are applied by contraction instead of made.
_GRAM_ENTRIES = 2**24
# So are those of a core with more unknowns than this in a row, if all neighbours can be made orthogonal for it.
_ORTHOGONAL = 256
# Conjugate gradients in one core: relative residual and iterations at most.
_CG_TOLERANCE = 1e-9
_CG_ITERATIONS = 60
# Ridges, relative to the diagonal, of the first sweeps from a random start where cells are missing: rows with few cells
# would else fit them exactly with huge numbers, and never come back.
_DAMPING = (0.3, 0.1, 0.03, 0.01, 0.003)
# Halvings of a Gauss-Newton step until it lowers the error.
_HALVINGS = 12


@method("als", takes=("array", "sparse", "missing"))
def als(
    data: Data,
    structure: Structure,
    *,
    error: float | None = None,
    init: Network | None = None,
    seed: int = 0,
    max_sweeps: int = 200,
    tol: float = 1e-6,
    callback: Callback | None = None,
) -> Decomposition:
    """Alternating least squares: each core in turn gets the values that are best while all others stay.

    With all cores but one fixed the network is linear in it, so a sweep solves one least-squares problem for each core
    and the error never grows (but in the first five sweeps from a random start where cells are missing, which are
    damped). A core that is used several times makes a Gauss-Newton step, shortened until it lowers the error.
    Structures with loops, hyperedges or shared parts, and data with gaps, are tried from three random networks for five
    sweeps each; the best goes on.

    Args:
        data: a dense tensor, sparse data (only its entries are read, nothing is made dense) or partly known data, whose
            weighted error over what is known is minimised row by row.
        structure: any structure of the data's shape.
        error: stop when the relative error is this small.
        init: where to start, instead of at random.
        seed: of the random starts; equal seeds give equal results.
        max_sweeps: sweeps at most, those of discarded starts included.
        tol: stop when two sweeps in a row change the error by less than this, relatively.
        callback: called after every sweep.

    Returns:
        The best network seen, in the data's dtype. A zero tensor gives zero cores and error 0.

    Raises:
        DataError: the data has another shape than the structure, or NaN or infinite entries.
        StructureError: ``init`` has another structure.

    Cost of a sweep, for a core with bond indices of product K: the data times the other cores along the best path,
    about ``2 |X| K`` where nothing is shared, and a Cholesky factor of K x K; above 2^24 entries of that matrix,
    conjugate gradients instead. With partly known data, ``n K^2`` for n cells. Paper: "The alternating linear scheme
    for tensor optimization in the tensor train format", 2012.
    """
    loss = Loss(data, structure, init=init)
    return iterate(
        loss,
        lambda cores: _sweeps(loss, cores, _DAMPING if init is None else ()),
        error=error,
        init=init,
        seed=seed,
        max_sweeps=max_sweeps,
        tol=tol,
        callback=callback,
    )


def _sweeps(loss: Loss, cores: list[Tensor], damped: tuple[float, ...] = ()) -> Sweep:
    structure = loss.structure
    once = [core.terms[0] for core in structure.cores if len(core.terms) == 1]
    often = [n for n, core in enumerate(structure.cores) if len(core.terms) > 1]
    large = [structure.term_core[place] for place in once if _too_large(loss, place)]
    # What orthogonal neighbours are worth: the Gram matrix of a Tucker core becomes the identity.
    gauges = [
        (source, number, index)
        for number in large
        for index in structure.cores[number].indices
        for source in _movable(structure, number, index)
    ]
    current = list(cores)

    done = 0

    def sweep() -> tuple[list[Tensor], float]:
        nonlocal current, done
        damping = damped[done] if done < len(damped) else 0.0
        done += 1
        for source, target, index in gauges:
            _orthogonalise(structure, current, source, target, index)
        square = math.nan
        if once:
            for place, operands, gram in environments(loss, current, once):
                number = structure.term_core[place]
                if number in large:
                    square = _iterative_update(loss, current, number)
                elif loss.gram_weights is not None:
                    square = _row_update(loss, current, place, gram, damping)
                else:
                    square = _update(loss, current, place, operands, gram)
        for number in often:
            square = _newton_update(loss, current, number)
        current = balance(structure, current)
        error = math.sqrt(max(square / loss.total, 0.0))
        # Near an exact fit the terms of the squared error have cancelled.
        if loss.cancelled(error):
            error = loss.error(current)
        return list(current), error

    return sweep


def _too_large(loss: Loss, place: int) -> bool:
    """Whether the normal equations of a core are better applied than made."""
    structure = loss.structure
    number = structure.term_core[place]
    inner = [i for i in structure.terms[place].indices if i not in structure.output_indices]
    columns = math.prod(structure.sizes[i] for i in inner)
    if loss.gram_weights is not None:
        return columns**2 > _GRAM_ENTRIES
    if columns > _ORTHOGONAL and all(_movable(structure, number, i) for i in inner):
        return True
    return columns**2 * _shared_rows(structure, place)[1] > _GRAM_ENTRIES


def _shared_rows(structure: Structure, place: int) -> tuple[tuple[str, ...], int]:
    """The output indices that a term shares with others, for each value of which there is one Gram matrix."""
    shared = tuple(
        i for i in structure.terms[place].indices if i in structure.output_indices and len(structure.terms_with(i)) > 1
    )
    return shared, math.prod(structure.sizes[i] for i in shared)


def _ridge(loss: Loss) -> float:
    return 1e-7 if loss.coarse else 1e-12


def _update(loss: Loss, cores: list[Tensor], place: int, operands: list[Operand], gram: list[Operand]) -> float:
    """Solve for the core of one term; returns the squared distance.

    The correction of the old core is solved for, so that the ridge damps the step and never the core: the error cannot
    grow, whatever the ridge.
    """
    structure = loss.structure
    indices = structure.terms[place].indices
    number = structure.term_core[place]
    shared, count = _shared_rows(structure, place)
    inner = tuple(i for i in indices if i not in structure.output_indices)
    own = tuple(i for i in indices if i not in inner and i not in shared)
    columns = math.prod(structure.sizes[i] for i in inner)
    layout = (*shared, *inner, *own)
    if operands:
        right = contract(operands, layout).to(loss.dtype) / loss.scale
    else:
        right = loss.right(cores, place).permute([indices.index(i) for i in layout])
    right = right.reshape(count, columns, -1)
    old = cores[number].permute([indices.index(i) for i in layout])
    shape = old.shape
    old = old.reshape(count, columns, -1)
    if gram:
        matrix = contract(gram, (*shared, *inner, *primed(structure, inner))).reshape(count, columns, columns)
    else:
        matrix = torch.ones(1, 1, 1, dtype=loss.dtype, device=loss.device)
    new = old + solve(matrix, right - matrix @ old, _ridge(loss))
    cores[number] = new.reshape(shape).permute([layout.index(i) for i in indices])
    return loss.total + _quadratic(matrix @ new - 2 * right, new)


def _row_update(loss: Loss, cores: list[Tensor], place: int, gram: list[Operand], damping: float) -> float:
    """The same where each row of the core sees cells of its own.

    Rows with fewer cells than unknowns get the solution of least norm. ``damping`` is a ridge that pulls to zero.
    """
    structure = loss.structure
    cells, weights = loss.cells, loss.gram_weights
    assert cells is not None
    assert weights is not None
    number = structure.term_core[place]
    inner, outer = cells.inner(place), cells.outer(place)
    old = cells.table(cores[number], place)
    new = torch.empty_like(old)
    background: Tensor | None = None
    if gram:
        shared, _ = _shared_rows(structure, place)
        each = contract(gram, (*shared, *inner, *primed(structure, inner)))
        sizes = [structure.sizes[i] if i in shared else 1 for i in outer]
        full = [structure.sizes[i] for i in outer]
        background = each.permute(
            [*(shared.index(i) for i in outer if i in shared), *range(len(shared), each.ndim)]
        ).reshape(*sizes, old.shape[1], old.shape[1])
        background = background.expand(*full, -1, -1).reshape(-1, old.shape[1], old.shape[1])
    elif loss.background:
        background = torch.ones(1, 1, 1, dtype=loss.dtype, device=loss.device)
    square = loss.total
    for part, listed, right, count in cells.systems(cores, place, weights, loss.weighted_values()):
        matrix = listed if background is None else listed + background[part]
        before = old[part, :, None]
        if background is None:
            before = before * (count >= old.shape[1])[:, None, None]
        if damping and background is None:
            after = solve(matrix, right[:, :, None], damping)
        else:
            after = before + solve(matrix, right[:, :, None] - matrix @ before, _ridge(loss))
        new[part] = after.squeeze(2)
        square += _quadratic(matrix @ after - 2 * right[:, :, None], after)
    cores[number] = cells.untable(new, place)
    return square


def _quadratic(left: Tensor, right: Tensor) -> float:
    return float(torch.sum(left.conj() * right).real)


def _iterative_update(loss: Loss, cores: list[Tensor], number: int) -> float:
    """The least-squares solution for a large core by conjugate gradients, without its Gram matrix."""
    right = loss.right(cores, loss.structure.cores[number].terms[0])
    old = cores[number]
    image = loss.normal(cores, number, old)
    change = conjugate_gradient(
        lambda direction: loss.normal(cores, number, direction),
        right - image,
        tolerance=_CG_TOLERANCE,
        iterations=_CG_ITERATIONS,
    )
    cores[number] = old + change
    image = image + loss.normal(cores, number, change)
    return loss.total + _quadratic(image - 2 * right, cores[number])


def _newton_update(loss: Loss, cores: list[Tensor], number: int) -> float:
    """A Gauss-Newton step in a core that is used several times."""
    uses = loss.structure.cores[number].terms
    old = cores[number]
    # Linear in each use, so J core = uses * network and J^H network needs no network.
    gradient = -loss.normal(cores, number, old) / len(uses)
    for use in uses:
        gradient = gradient + loss.right(cores, use)
    step = conjugate_gradient(
        lambda direction: loss.normal(cores, number, direction),
        gradient,
        tolerance=_CG_TOLERANCE,
        iterations=min(_CG_ITERATIONS, old.numel()),
    )
    return _line_search(loss, cores, number, step)


def _line_search(loss: Loss, cores: list[Tensor], number: int, step: Tensor) -> float:
    """The first of 1, 1/2, 1/4, ... steps that lowers the squared distance, which is returned; else none."""
    old = cores[number]

    def at(length: float) -> float:
        cores[number] = old + length * step
        return loss.measure(cores) ** 2 * loss.total

    before = at(0.0)
    for halving in range(_HALVINGS):
        after = at(0.5**halving)
        if after < before:
            return after
    cores[number] = old
    return before


def _movable(structure: Structure, number: int, index: str) -> list[int]:
    """The core at the other end of a bond of core ``number``, in a list, if its columns can be made orthonormal."""
    if index in structure.output_indices or len(structure.terms_with(index)) != 2:
        return []
    (source,) = {structure.term_core[place] for place in structure.terms_with(index)} - {number} or {number}
    core = structure.cores[source]
    rest = math.prod(size for i, size in zip(core.indices, core.shape, strict=True) if i != index)
    return [source] if source != number and len(core.terms) == 1 and rest >= structure.sizes[index] else []


def _orthogonalise(structure: Structure, cores: list[Tensor], source: int, target: int, index: str) -> None:
    """Make a core's columns over ``index`` orthonormal; the triangular factor goes into ``target``."""
    axis = structure.cores[source].indices.index(index)
    moved = cores[source].movedim(axis, -1)
    orthogonal, factor = torch.linalg.qr(moved.reshape(-1, moved.shape[-1]))
    cores[source] = orthogonal.reshape(moved.shape).movedim(-1, axis)
    axis = structure.cores[target].indices.index(index)
    cores[target] = torch.tensordot(factor, cores[target], dims=([1], [axis])).movedim(0, axis)
