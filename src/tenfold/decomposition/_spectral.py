"""A start for data of which few cells are known: from the leading singular vectors of what is, with zeros elsewhere."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from tenfold.contraction import contract
from tenfold.decomposition._loss import Loss, balance
from tenfold.decomposition._registry import choose
from tenfold.structure import Structure

# Directions of each mode beyond those that the bonds can have: weak ones may hide behind noise in one mode, but not in
# the small array, where all modes come together.
_MORE = 5
# Directions of one mode, and entries of the core between them, at most.
_DIRECTIONS, _CORE_ENTRIES = 40, 2**18
# Modes up to this size have all their eigenvectors computed.
_SMALL = 200
# Of the others, this accuracy of the leading eigenvalues is enough: noise in them is larger.
_ACCURATE = 1e-3
# Data of which at least this part is known, of an array up to `_ROOM`, is a whole array with zeros.
_THICK = 0.05
# Sweeps on the core.
_SWEEPS = 100
# Entries of the largest array that is made on the way from the cells to the core.
_ROOM = 2**24


def spectral_start(
    loss: Loss, seed: int, near: Sequence[Tensor] | None = None, starts: int | None = None
) -> list[Tensor] | None:
    """Cores, for the scaled data, from the data projected on its leading singular vectors; None where none are made.

    The observed cells minus their mean, zeros elsewhere, are in expectation the whole array, thinned out. So are the
    products of their rows, but for each row with itself: without that diagonal their eigenvectors are those of the
    whole array as soon as cells are enough to stand out of the noise, however small a part of all. The network is
    fitted to what is left of the data between those directions and that of the mean, which is a small array.

    ``near`` are cores that have found some of it: they take the place of the mean, and what they leave is less noise.
    ``starts`` goes to the method for the small array, if that has such an option.

    Nothing is made where an axis of the data is a group of indices or lies on several cores, for bonds so wide that
    the small array is none, nor for data on other devices.

    Cost: some ``n k`` for n cells and k directions of each mode.
    Paper: "Subspace estimation from unbalanced and incomplete data matrices: l2,inf statistical guarantees", 2021.
    """
    cells, structure = loss.cells, loss.structure
    assert cells is not None
    indices, shape = structure.output_indices, structure.shape
    uses = [structure.terms_with(index) for index in indices]
    places = [use[0] for use in uses]
    if loss.device.type != "cpu" or len(indices) < 2 or any(len(group) != 1 for group in structure.outputs):
        return None
    if any(len(use) != 1 for use in uses) or len(set(places)) < len(places):
        return None
    bonds = [math.prod(structure.sizes[i] for i in cells.inner(place)) for place in places]
    kept = [min(n, bond + _MORE) for n, bond in zip(shape, bonds, strict=True)]
    if max(kept) > _DIRECTIONS or math.prod(kept) > _CORE_ENTRIES or structure.size >= 2**63:
        return None
    columns = [cells.columns[index] for index in indices]
    if near is None:
        known = loss.weighted_values().sum() / loss.total
        tables = [torch.ones(n, 1, dtype=loss.dtype) for n in shape]
    else:
        known = torch.cat([cells.evaluate(near, part) for part in cells.batches(None)])
        tables = [cells.table(near[structure.term_core[place]], place) for place in places]
    values = cells.values - known if cells.weights is None else cells.weights * (cells.values - known)
    generator = np.random.default_rng(seed)
    whole = _whole(values, columns, shape)
    bases = []
    for mode, (table, directions) in enumerate(zip(tables, kept, strict=True)):
        if directions == shape[mode]:
            bases.append(torch.eye(directions, dtype=loss.dtype))
            continue
        unfolded = _unfolded(values, columns, shape, mode) if whole is None else _matrix(whole, mode)
        # In expectation the products of different rows are thinned out twice, that of a row with itself once.
        own = 0.0 if whole is None else min(len(values) / whole.numel(), 1.0)
        leading = _leading(unfolded, own, directions - table.shape[1], generator)
        if leading is None:
            return None
        bases.append(torch.linalg.qr(torch.cat([table, leading], 1)).Q)
    core = _projected(values, columns, bases) if whole is None else _on_bases(whole, bases)
    core = core * (structure.size / loss.total)
    if near is None:
        for basis in bases:
            known = known[..., None] * basis.sum(0).conj()
    else:
        known = contract(loss.terms(_along(near, structure, [basis.mH for basis in bases])), indices)
    core = core + known
    if not bool(core.any()):
        return None
    small = structure.replace(dict(zip(indices, core.shape, strict=True)))
    entry = choose(small, core)
    options: dict[str, Any] = {"seed": seed, "max_sweeps": _SWEEPS, "tol": 1e-4}
    if starts is not None and "starts" in entry.options:
        options["starts"] = starts
    found = entry.function(core, small, **options).network
    return balance(structure, _along([part.detach().to(loss.dtype) for part in found.cores], structure, bases))


def _along(cores: Sequence[Tensor], structure: Structure, matrices: Sequence[Shaped[Tensor, "d k"]]) -> list[Tensor]:
    """The cores with the output index of each mode multiplied by a matrix."""
    made = list(cores)
    for index, matrix in zip(structure.output_indices, matrices, strict=True):
        number = structure.term_core[structure.terms_with(index)[0]]
        axis = structure.cores[number].indices.index(index)
        made[number] = torch.tensordot(matrix, made[number], dims=([1], [axis])).movedim(0, axis)
    return made


def _whole(values: Shaped[Tensor, " n"], columns: Sequence[Int[Tensor, " n"]], shape: Sequence[int]) -> Tensor | None:
    """The array with zeros where nothing is known; None where that would be nearly all of it."""
    size = math.prod(shape)
    if size > min(_ROOM, len(values) / _THICK):
        return None
    place = torch.zeros_like(columns[0])
    for column, extent in zip(columns, shape, strict=True):
        place = place * extent + column
    return torch.zeros(size, dtype=values.dtype).index_add_(0, place, values).reshape(tuple(shape))


def _matrix(whole: Tensor, mode: int) -> np.ndarray:
    return whole.movedim(mode, 0).reshape(whole.shape[mode], -1).resolve_conj().numpy()


def _unfolded(
    values: Shaped[Tensor, " n"], columns: Sequence[Int[Tensor, " n"]], shape: Sequence[int], mode: int
) -> Any:
    """The unfolding as a sparse matrix without the columns that are empty."""
    from scipy.sparse import csr_array

    key = torch.zeros_like(columns[0])
    for other, column in enumerate(columns):
        if other != mode:
            key = key * shape[other] + column
    distinct, key = torch.unique(key, return_inverse=True)
    where = columns[mode].numpy(), key.numpy()
    return csr_array((values.resolve_conj().numpy(), where), shape=(shape[mode], len(distinct)))


def _leading(unfolded: Any, own: float, count: int, generator: np.random.Generator) -> Shaped[Tensor, "d k"] | None:
    """Leading eigenvectors of the products of the rows of a matrix, None if all are zero.

    Products of a row with itself count only ``own`` times.
    """
    from scipy.sparse import issparse
    from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

    extent = unfolded.shape[0]
    adjoint = unfolded.conj().T
    squares = abs(unfolded) ** 2
    diagonal = (1 - own) * np.asarray(squares.sum(1)).reshape(-1)
    if issparse(unfolded):
        adjoint = adjoint.tocsr()
    if extent <= _SMALL:
        gram = unfolded @ adjoint
        gram = (gram.toarray() if issparse(gram) else gram) - np.diag(diagonal)
        return torch.from_numpy(np.linalg.eigh(gram)[1][:, ::-1][:, :count].copy()) if gram.any() else None

    def apply(vector: np.ndarray) -> np.ndarray:
        return unfolded @ (adjoint @ vector) - diagonal * vector.reshape(-1)

    first = generator.standard_normal(extent).astype(unfolded.dtype)
    if not np.linalg.norm(apply(first)) > 1e-12 * np.linalg.norm(squares.sum(1)):
        return None
    operator = LinearOperator((extent, extent), matvec=apply, dtype=unfolded.dtype)
    try:
        vectors = eigsh(operator, count, which="LA", v0=first, tol=_ACCURATE)[1]
    except ArpackNoConvergence as partly:
        vectors = partly.eigenvectors
    return torch.from_numpy(vectors.copy())


def _on_bases(whole: Tensor, bases: Sequence[Shaped[Tensor, "d k"]]) -> Tensor:
    """`_projected` for the whole array."""
    for basis in bases:
        whole = torch.tensordot(whole, basis.conj(), dims=([0], [0]))
    return whole


def _projected(
    values: Shaped[Tensor, " n"], columns: Sequence[Int[Tensor, " n"]], bases: Sequence[Shaped[Tensor, "d k"]]
) -> Tensor:
    """``sum_n values[n] conj(b_1[i_1n]) x ... x conj(b_N[i_Nn])``, outer products of the rows that the cells read."""
    sizes = [basis.shape[1] for basis in bases]
    last = bases[-1].conj().resolve_conj()
    made = torch.zeros(math.prod(sizes[:-1]), sizes[-1], dtype=values.dtype)
    step = max(1, _ROOM // math.prod(sizes[:-1]))
    for start in range(0, len(values), step):
        cells = slice(start, start + step)
        part = values[cells, None]
        for basis, column in zip(bases[:-1], columns[:-1], strict=True):
            part = (part[:, :, None] * basis.conj()[column[cells]][:, None, :]).flatten(1)
        made += part.T @ last[columns[-1][cells]]
    return made.reshape(sizes)
