"""Sweeps over the bonds of a tree that solve for the two cores of each bond at once, and with them for its rank."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from tenfold._trees import check_tree
from tenfold.contraction import contract
from tenfold.decomposition._arrays import Whole, whole_array
from tenfold.decomposition._error import relative_error
from tenfold.decomposition._registry import Callback, Data, Decomposition, Progress, method
from tenfold.decomposition.tree_svd import tree_svd
from tenfold.errors import StructureError
from tenfold.network import Network
from tenfold.structure import Structure, Term


@method("two_site", finds_ranks=True)
@torch.no_grad()
def two_site(
    data: Data,
    structure: Structure,
    *,
    error: float | None = None,
    init: Network | None = None,
    seed: int = 0,
    max_sweeps: int = 10,
    tol: float = 1e-6,
    callback: Callback | None = None,
) -> Decomposition:
    """Any tree by two-site sweeps from its sequential SVD: the same ranks with less error, or less rank for an error.

    A sweep walks along the edges of the tree. With all other cores orthonormal, the best pair of cores at an edge is
    the data projected on the others, and the singular values of that pair say which rank the edge needs. Without
    ``error`` ranks stay and no step raises the error, as in higher-order orthogonal iteration, which this is for stars.
    With it, each bond in turn is cut by what is left of the budget, so no step raises a rank. Nothing is random, so
    ``seed`` changes nothing.

    Args:
        data: the whole array, real or complex, of the structure's shape.
        structure: a connected tree without parallel bonds; its sizes are the ranks, or with ``error`` the largest ones.
        error: relative error not to exceed.
        init: a network of this topology to start from, instead of the sequential SVD.
        max_sweeps: at most so many sweeps.
        tol: stop when a sweep changes the error by less than this part of it, and no rank.
        callback: called after each sweep.

    Returns:
        The network, its true error, and the error after each sweep.

    Raises:
        StructureError: the structure is no such tree, or ``init`` is of another one.
        DataError: NaN or infinite entries, another shape, or observations.

    Cost: one contraction of the data with all other cores for each crossing of a bond, about ``4 |X| r`` flops for each
    of twice as many bonds as there are.
    Papers: "Density matrix formulation for quantum renormalization groups", 1992; "The alternating linear scheme for
    tensor optimization in the tensor train format", 2012.
    """
    tree = _Tree.of(structure)
    whole = whole_array(data, structure, "two_site")
    if init is not None and [t.indices for t in init.structure.terms] != [t.indices for t in structure.terms]:
        raise StructureError(f"init has structure '{init.structure}', not '{structure}'")
    tensor = whole.tensor
    shaped = tensor.reshape(structure.shape)
    start = tree_svd(shaped, structure, error=error) if init is None else _Start(init, whole.scale)
    norm = math.sqrt(whole.norm2)
    # Below this the difference of two norms holds rounding only, and singular values were exact before.
    floor = 1e-2 if torch.finfo(tensor.dtype).eps > 1e-10 else 1e-6
    cores = [core.to(tensor.dtype) for core in start.network.cores]
    errors: list[float] = []
    stopped = "exact"
    if norm > 0 and len(cores) > 1 and (start.error > floor or init is not None):
        stopped = "max_sweeps"
        cores = tree.canonical(cores)
        for number in range(1, max_sweeps + 1):
            before = tree.ranks(cores)
            reached = tree.sweep(tensor, cores, norm, error)
            change = abs((errors[-1] if errors else start.error) - reached)
            errors.append(reached)
            if callback is not None:
                callback(Progress(reached, number, max_sweeps, partial(_finished, tree, whole, tuple(cores))))
            if (change <= tol * reached or reached <= floor) and tree.ranks(cores) == before:
                stopped = "tol"
                break
    if error is None:
        cores = tree.padded(cores)
    fitted = tree.network(cores)
    result = _finished(tree, whole, cores)
    true = relative_error(shaped, fitted) if whole.scale != 1 else relative_error(data, result)
    if not errors and callback is not None:
        callback(Progress(true, 1, 1, lambda: result))
    return Decomposition(result, true, tuple(errors) or (true,), stopped)


def _finished(tree: _Tree, whole: Whole, cores: Sequence[Tensor]) -> Network:
    return tree.network(whole.finish(list(cores)))


class _Start:
    """A network given to start from, in the units of the scaled data."""

    def __init__(self, network: Network, scale: float) -> None:
        first, *rest = network.cores
        self.network = network.replace([first / scale, *rest])
        self.error = math.inf


@dataclass(frozen=True)
class _Tree:
    """The edges of a tree in the order of a walk that crosses each of them down and up again."""

    structure: Structure
    walk: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, structure: Structure) -> _Tree:
        check_tree(structure, "two_site")
        cores = structure.cores
        joined = {n: [m for m in range(len(cores)) if m != n and _bonds(structure, n, m)] for n in range(len(cores))}
        for n, others in joined.items():
            for m in others:
                if len(bonds := _bonds(structure, n, m)) > 1:
                    raise StructureError(f"two_site needs one bond between two cores; join {' and '.join(bonds)}")
        # From an end, so that a chain is crossed once each way.
        root = min(range(len(cores)), key=lambda n: len(joined[n]))
        walk = list(_walk(root, None, joined))
        if len({root, *(node for step in walk for node in step)}) < len(cores):
            raise StructureError(f"two_site needs a connected tree, but '{structure}' has several parts")
        return cls(structure, tuple(walk))

    def network(self, cores: Sequence[Tensor]) -> Network:
        old = self.structure
        sizes = dict(old.sizes)
        for core, tensor in zip(old.cores, cores, strict=True):
            sizes.update(zip(core.indices, tensor.shape, strict=True))
        terms = [Term(term.name, term.indices) for term in old.terms]
        return Network(Structure.of(terms, old.outputs, sizes), [core.contiguous() for core in cores])

    def ranks(self, cores: Sequence[Tensor]) -> dict[str, int]:
        inner = self.structure.inner_indices
        return {
            index: extent
            for core, tensor in zip(self.structure.cores, cores, strict=True)
            for index, extent in zip(core.indices, tensor.shape, strict=True)
            if index in inner
        }

    def canonical(self, cores: Sequence[Tensor]) -> list[Tensor]:
        """The same network with every core but the first of the walk orthonormal towards that one."""
        made = list(cores)
        for source, target in reversed(self.walk):
            if self.walk.index((source, target)) > self.walk.index((target, source)):
                (bond,) = _bonds(self.structure, source, target)
                axis = self.structure.cores[source].indices.index(bond)
                moved = made[source].movedim(axis, -1)
                basis, rest = torch.linalg.qr(moved.reshape(-1, moved.shape[-1]))
                made[source] = basis.reshape(*moved.shape[:-1], -1).movedim(-1, axis)
                axis = self.structure.cores[target].indices.index(bond)
                made[target] = torch.tensordot(rest, made[target], dims=([1], [axis])).movedim(0, axis)
        return made

    def sweep(self, tensor: Tensor, cores: list[Tensor], norm: float, error: float | None) -> float:
        """Cross every edge twice; changes ``cores`` and returns the relative error."""
        square = 0.0
        for source, target in self.walk:
            (bond,) = _bonds(self.structure, source, target)
            rows = [i for i in self.structure.cores[source].indices if i != bond]
            columns = [i for i in self.structure.cores[target].indices if i != bond]
            others = [
                (core.indices, cores[n].conj())
                for n, core in enumerate(self.structure.cores)
                if n not in (source, target)
            ]
            pair = contract([(self.structure.output_indices, tensor), *others], (*rows, *columns)) / norm
            left, right = pair.shape[: len(rows)], pair.shape[len(rows) :]
            basis, values, rest = torch.linalg.svd(pair.reshape(math.prod(left), -1), full_matrices=False)
            squares = values.double() ** 2
            lost = torch.cat([squares.flip(0).cumsum(0).flip(0), squares.new_zeros(1)])
            outside = max(1 - float(lost[0]), 0.0)
            if error is None:
                rank = min(self.structure.sizes[bond], len(values))
            else:
                left_over = max(error**2 * (1 - 1e-9) - outside, 0.0)
                rank = max(1, int((lost[:-1] > left_over).sum()))
                rank = min(rank, self.structure.sizes[bond])
            square = outside + float(lost[rank])
            cores[source] = self._placed(basis[:, :rank].reshape(*left, rank), (*rows, bond), source)
            weighted = norm * values[:rank, None].to(rest.dtype) * rest[:rank]
            cores[target] = self._placed(weighted.reshape(rank, *right), (bond, *columns), target)
        return math.sqrt(square)

    def _placed(self, tensor: Tensor, indices: tuple[str, ...], node: int) -> Tensor:
        return tensor.permute([indices.index(i) for i in self.structure.cores[node].indices])

    def padded(self, cores: Sequence[Tensor]) -> list[Tensor]:
        """Bonds wider than they can be used are filled with zeros."""
        made = []
        for core, tensor in zip(self.structure.cores, cores, strict=True):
            whole = torch.zeros(core.shape, dtype=tensor.dtype, device=tensor.device)
            whole[tuple(slice(extent) for extent in tensor.shape)] = tensor
            made.append(whole)
        return made


def _bonds(structure: Structure, one: int, other: int) -> list[str]:
    return [index for index in structure.cores[one].indices if index in structure.cores[other].indices]


def _walk(node: int, parent: int | None, joined: dict[int, list[int]]) -> Iterator[tuple[int, int]]:
    for other in joined[node]:
        if other != parent:
            yield node, other
            yield from _walk(other, node, joined)
            yield other, node
