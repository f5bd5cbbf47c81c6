"""Sequentially truncated projections from the leaves of a tree to its root."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from tenfold._trees import check_tree
from tenfold.decomposition._arrays import whole_array
from tenfold.decomposition._blas import product
from tenfold.decomposition._error import relative_error, squared_norm
from tenfold.decomposition._registry import Callback, Data, Decomposition, Progress, method
from tenfold.formats import tucker
from tenfold.network import Network
from tenfold.structure import Structure

# Below this many entries a slice is multiplied faster after one copy of all of them than by itself.
_SLICE = 2**12
# Work for an entry of the tensor that a pass costs besides its multiplications, in flops.
_PASS = 60
# Eigensolver of an n x n matrix, in units of n^3.
_EIGEN = 25
# Entries converted to double precision at once (8 MiB).
_BLOCK = 2**20


@method(
    "tree_svd",
    formats=("tucker", "tensor_train", "hierarchical_tucker", "tensor_train_matrix"),
    finds_ranks=True,
)
@torch.no_grad()
def tree_svd(
    data: Data,
    structure: Structure,
    *,
    error: float | None = None,
    init: Network | None = None,
    seed: int = 0,
    max_sweeps: int = 1,
    tol: float = 0.0,
    callback: Callback | None = None,
) -> Decomposition:
    """Any tree of cores by singular values, in one pass from its leaves to a root.

    Each core but the root becomes an orthonormal basis of the leading left singular vectors of (its outputs and the
    bonds from below) x (everything else), and the tensor is projected on it before the next core is taken. On a chain
    this is TT-SVD, on a star ST-HOSVD, on a dimension tree the leaves-to-root hierarchical SVD. The squares of what
    the steps discard add up to the squared error exactly, so what a step leaves of ``error`` the later ones may
    spend.

    The result is within ``sqrt(number of bonds)`` of the best error possible with its ranks. Bonds wider than their
    matricisation are filled with zeros. There is nothing random and nothing iterative here, so ``init``, ``seed``,
    ``max_sweeps`` and ``tol`` change nothing.

    Args:
        data: the whole array, of the structure's shape.
        structure: a tree: every inner index joins two cores, no cycle, each output on one core. Its sizes are the
            ranks, or with ``error`` the largest ranks allowed.
        error: relative Frobenius error to reach with the smallest ranks; None for exactly the structure's ranks.
        callback: called once, at the end.

    Returns:
        The network, its true error, and ``stopped`` ``"exact"``.

    Raises:
        StructureError: the structure is no tree.
        DataError: NaN or infinite entries, another shape, or observations.

    Cost: for the first core of ``m`` rows ``2 |X| m`` flops, then falling as the tensor shrinks.
    Papers: "A new truncation strategy for the higher-order singular value decomposition", 2012; "Tensor-train
    decomposition", 2011; "Hierarchical singular value decomposition of tensors", 2010.
    """
    check_tree(structure, "tree_svd")
    whole = whole_array(data, structure, "tree_svd")
    real = torch.finfo(whole.tensor.dtype).eps
    precise = error is not None and error < 10 * math.sqrt(real)
    work = _Projection(structure, whole.tensor, whole.norm2, error, precise)
    result, cores, square = work.run()
    network = Network(result, cores)
    # Cancellation in the squares that were kept and lost makes them useless further down.
    floor = 3e-2 if real > 1e-10 else 1e-5
    reached = math.sqrt(square) if square > floor**2 else _true_error(whole.tensor, network)
    if error is not None and reached > error and not precise and not work.limited:
        work = _Projection(structure, whole.tensor, whole.norm2, error, True)
        result, cores, square = work.run()
        network = Network(result, cores)
        reached = _true_error(whole.tensor, network)
    network = Network(result, whole.finish(cores, work.root))
    if whole.dtype != whole.tensor.dtype:
        reached = relative_error(data, network)
    if callback is not None:
        callback(Progress(reached, 1, 1, lambda: network))
    return Decomposition(network, reached, (reached,), "exact")


def st_hosvd(tensor: Tensor, ranks: Sequence[int]) -> tuple[Tensor, list[Tensor]]:
    """The sequentially truncated higher-order SVD: a core of shape ``ranks`` and an orthonormal basis for each mode.

    Ranks may not exceed the modes' sizes.
    """
    structure = tucker(tensor.shape, ranks)
    work = _Projection(structure, tensor, squared_norm(tensor), None, False)
    _, (core, *bases), _ = work.run()
    return core, bases


def _true_error(tensor: Tensor, network: Network) -> float:
    return relative_error(tensor.reshape(network.shape), network)


class _Node(NamedTuple):
    """A core in the tree: its axes by label, those of its own outputs, and its neighbours by the label of the bond."""

    labels: tuple[str, ...]
    outputs: tuple[str, ...]
    neighbours: dict[str, int]


class _Step(NamedTuple):
    """Project the rows of a node; the new axis is its bond upwards."""

    node: int
    rows: tuple[str, ...]
    bond: str


@dataclass
class _Projection:
    """The tensor on its way down to the root core, and the cores split off so far."""

    structure: Structure
    tensor: Tensor
    norm2: float
    error: float | None
    precise: bool
    root: int = 0
    limited: bool = False
    cores: dict[int, tuple[tuple[str, ...], Tensor]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        # Axes in the order of memory, so that transposed data needs no copy.
        strides = self.tensor.stride()
        order = sorted(range(self.tensor.ndim), key=lambda axis: -strides[axis])
        self.tensor = self.tensor.permute(order)
        self.axes = [self.structure.output_indices[axis] for axis in order]
        self.nodes, self.bonds, self.sizes = _tree(self.structure)
        self.eps = torch.finfo(self.tensor.dtype).eps

    def run(self) -> tuple[Structure, list[Tensor], float]:
        """The structure found, its cores, and the squared relative error as the discarded squares tell it."""
        self.root, steps = _plan(self.nodes, self.sizes, self.axes, exact_ranks=self.error is None)
        budget = math.inf if self.error is None else self.error**2 * self.norm2 * (1 - 1e-6)
        lost = 0.0
        for number, step in enumerate(steps):
            following = (*steps[number + 1].rows,) if number + 1 < len(steps) else ()
            spent = self._project(step, max(budget, 0.0) / (len(steps) - number), following)
            budget -= spent
            lost += spent
        root = self.nodes[self.root]
        self.cores[self.root] = (
            root.labels,
            self.tensor.permute([self.axes.index(label) for label in root.labels]),
        )
        if self.error is not None:
            for step in reversed(steps):
                self._trim(step.node)
        result = self._structure()
        return result, self._finish(result), lost / self.norm2 if self.norm2 > 0 else 0.0

    # --- one step -----------------------------------------------------------------------------------------------------

    def _project(self, step: _Step, allowed: float, following: tuple[str, ...]) -> float:
        left, block, right = self._view(step.rows)
        extent = self.tensor.shape
        before = math.prod(extent[:left])
        rows = math.prod(extent[left : left + block])
        after = math.prod(extent[left + block :])
        shape, labels = list(extent[left : left + block]), self.axes[left : left + block]
        view = self.tensor.reshape(before, rows, after)
        cap = min(self.sizes[step.bond], rows, before * after)
        if self.error is None and cap == rows:
            basis, spent = torch.eye(rows, dtype=view.dtype, device=view.device), 0.0
            projected = view
        else:
            basis, spent = self._basis(view, cap, allowed)
            projected = _apply(basis, view)
        rank = basis.shape[1]
        self.cores[step.node] = ((*labels, step.bond), basis.reshape(*shape, rank))
        self.tensor = projected.reshape(*extent[:left], rank, *extent[left + block :])
        self.axes[left : left + block] = [step.bond]
        self._turn(left, right, following)
        return spent

    def _view(self, rows: Sequence[str]) -> tuple[int, int, int]:
        """Axes before, in and after the block of ``rows``, permuting the tensor only if they are not side by side."""
        places = sorted(self.axes.index(label) for label in rows)
        if places and places != list(range(places[0], places[-1] + 1)):
            others = [n for n in range(len(self.axes)) if n not in places]
            self._permute([*places, *others])
            places = list(range(len(places)))
        elif places:
            before, slice_ = (
                math.prod(self.tensor.shape[: places[0]]),
                math.prod(self.tensor.shape[places[0] :]),
            )
            if before > 1 and places[-1] < len(self.axes) - 1 and slice_ < _SLICE:
                others = [n for n in range(len(self.axes)) if n not in places]
                self._permute([*others, *places])
                places = list(range(len(others), len(self.axes)))
        first = places[0] if places else 0
        return first, len(places), len(self.axes) - first - len(places)

    def _permute(self, order: Sequence[int]) -> None:
        self.tensor = self.tensor.permute(tuple(order))
        self.axes = [self.axes[n] for n in order]

    def _turn(self, left: int, right: int, following: tuple[str, ...]) -> None:
        """Move a new axis from one end of the tensor to the other if that puts the next step's rows side by side.

        The move costs a transposition of what has just been made small.
        """
        if not following or (left and right) or len(self.axes) < 2:
            return
        turned = self.axes[1:] + self.axes[:1] if not left else self.axes[-1:] + self.axes[:-1]
        if _place(turned, following) < _place(self.axes, following):
            self._permute([self.axes.index(label) for label in turned])

    def _basis(self, view: Tensor, cap: int, allowed: float) -> tuple[Tensor, float]:
        """Orthonormal columns (rows x rank) that span the leading left singular vectors, and the squares left out."""
        before, rows, after = view.shape
        if rows > before * after:
            return self._tall(_matrix(view), cap, allowed)
        double = self.precise and self.eps > 1e-10
        if self.precise and not double:
            return self._by_factor(view, cap, allowed)
        values, vectors = torch.linalg.eigh(_gram(view, double))
        rank, spent = self._choose(values.flip(0).clamp(min=0), cap, allowed)
        if self.error is None and self._unresolved(values, rank, spent):
            if self.eps > 1e-10:
                values, vectors = torch.linalg.eigh(_gram(view, True))
                rank, spent = self._choose(values.flip(0).clamp(min=0), cap, allowed)
            else:
                return self._by_factor(view, cap, allowed)
        return vectors.flip(1)[:, :rank].to(view.dtype), spent

    def _unresolved(self, values: Tensor, rank: int, spent: float) -> bool:
        """Whether the squares in the Gram matrix have drowned what matters: little is lost, and much is small.

        A direction of relative singular value ``s`` comes out of a Gram matrix with an error of about ``eps / s``.
        """
        top, last = float(values[-1]), float(values[len(values) - rank])
        return spent < 100 * self.eps * self.norm2 and last < math.sqrt(self.eps) * top

    def _by_factor(self, view: Tensor, cap: int, allowed: float) -> tuple[Tensor, float]:
        """By the triangular factor instead of the Gram matrix: a few times slower, but nothing is squared."""
        triangle = torch.linalg.qr(_matrix(view).mH, mode="r").R
        basis, values, _ = torch.linalg.svd(triangle.mH, full_matrices=False)
        rank, spent = self._choose(values.double() ** 2, cap, allowed)
        return basis[:, :rank], spent

    def _tall(self, matrix: Tensor, cap: int, allowed: float) -> tuple[Tensor, float]:
        """The same where there are more rows than columns: the triangular factor is the cheap one here."""
        basis, triangle = torch.linalg.qr(matrix)
        inside, values, _ = torch.linalg.svd(triangle, full_matrices=False)
        rank, spent = self._choose(values.double() ** 2, cap, allowed)
        return basis @ inside[:, :rank], spent

    def _choose(self, squares: Tensor, cap: int, allowed: float) -> tuple[int, float]:
        """The rank for descending squared singular values, and the squares it leaves out."""
        kept = squares.double().cpu()
        tail = torch.cat([kept.flip(0).cumsum(0).flip(0), kept.new_zeros(1)])
        rank = cap
        if self.error is not None:
            # What is zero to rounding goes even without a budget.
            least = max(allowed, (4 * self.eps) ** 2 * self.norm2)
            needed = max(1, int((tail > least).sum()))
            self.limited |= needed > cap
            rank = min(needed, cap)
        return rank, float(tail[rank])

    # --- the end ------------------------------------------------------------------------------------------------------

    def _trim(self, node: int) -> None:
        """Narrow the bond above ``node`` to what the core at its other end can use; loses nothing."""
        bond = self.cores[node][0][-1]
        above = self.nodes[node].neighbours[bond]
        labels, tensor = self.cores[above]
        axis = labels.index(bond)
        matrix = tensor.movedim(axis, 0).flatten(1) if tensor.ndim > 1 else tensor.reshape(-1, 1)
        if matrix.shape[0] <= matrix.shape[1]:
            return
        q, r = torch.linalg.qr(matrix)
        rest = [extent for n, extent in enumerate(tensor.shape) if n != axis]
        self.cores[above] = (labels, r.reshape(-1, *rest).movedim(0, axis))
        self.cores[node] = (self.cores[node][0], self.cores[node][1] @ q)

    def _structure(self) -> Structure:
        """The structure asked for, with ``error`` with the ranks found."""
        if self.error is None:
            return self.structure
        found = dict(self.structure.sizes)
        for labels, tensor in self.cores.values():
            for label, extent in zip(labels, tensor.shape, strict=True):
                group = self.bonds.get(label, ())
                split = _split(extent, [self.structure.sizes[index] for index in group])
                found.update(zip(group, split, strict=True))
        return self.structure.replace(found)

    def _finish(self, result: Structure) -> list[Tensor]:
        cores = []
        for number, core in enumerate(result.cores):
            labels, tensor = self.cores[number]
            for axis, label in enumerate(labels):
                missing = math.prod(result.sizes[i] for i in self.bonds.get(label, (label,))) - tensor.shape[axis]
                if missing > 0:
                    extent = [missing if n == axis else size for n, size in enumerate(tensor.shape)]
                    tensor = torch.cat([tensor, tensor.new_zeros(extent)], axis)
            names = [index for label in labels for index in self.bonds.get(label, (label,))]
            tensor = tensor.reshape([result.sizes[index] for index in names])
            cores.append(tensor.permute([names.index(index) for index in core.indices]).contiguous())
        return cores


def _place(axes: Sequence[str], rows: Sequence[str]) -> int:
    """0 if the rows lie side by side at an end of the axes, 1 if inside, 2 if not side by side."""
    places = sorted(axes.index(label) for label in rows)
    if places and places[-1] - places[0] != len(places) - 1:
        return 2
    return 0 if not places or places[0] == 0 or places[-1] == len(axes) - 1 else 1


# --- products on views (before, rows, after) --------------------------------------------------------------------------


def _matrix(view: Tensor) -> Tensor:
    """rows x everything else."""
    return view.movedim(1, 0).flatten(1)


def _gram(view: Tensor, double: bool) -> Tensor:
    """``A A^H`` for ``A`` = rows x everything else, without a copy of the tensor."""
    before, rows, after = view.shape
    if double:
        view_dtype = torch.complex128 if view.is_complex() else torch.float64
        total = torch.zeros(rows, rows, dtype=view_dtype, device=view.device)
        step = max(1, _BLOCK // max(rows * min(after, _BLOCK), 1))
        width = max(1, _BLOCK // rows)
        for batch in view.split(step, 0):
            for part in batch.split(width, 2):
                wide = _matrix(part.to(view_dtype))
                total += product(wide, wide.mH)
        return total
    if before == 1:
        return product(view[0], view[0].mH)
    if after == 1:
        tall = view[:, :, 0]
        # The conjugate transpose goes into the product as a flag; a plain conjugate would be a copy.
        return product(tall.mH, tall).conj().resolve_conj()
    total = product(view[0], view[0].mH)
    for part in view[1:]:
        total += product(part, part.mH)
    return total


def _apply(basis: Tensor, view: Tensor) -> Tensor:
    """The coordinates of the rows in the basis: (before, rank, after)."""
    if view.shape[2] == 1:
        return product(view[:, :, 0], basis.conj().resolve_conj()).unsqueeze(2)
    if view.shape[0] == 1:
        return product(basis.mH, view[0]).unsqueeze(0)
    return basis.mH @ view


# --- the tree and the way through it ----------------------------------------------------------------------------------


def _tree(structure: Structure) -> tuple[list[_Node], dict[str, tuple[str, ...]], dict[str, int]]:
    """Nodes, the inner indices behind each bond's label, and the size of each label.

    Parallel bonds are joined into one; parts that nothing connects are, by a bond of size 1.
    """
    outside = set(structure.output_indices)
    between: dict[tuple[int, int], list[str]] = {}
    for index in structure.inner_indices:
        first, second = structure.terms_with(index)
        between.setdefault((first, second), []).append(index)
    part = list(range(len(structure.terms)))
    for first, second in between:
        old, new = part[second], part[first]
        part = [new if p == old else p for p in part]
    for number in range(1, len(part)):
        if part[number] != part[0]:
            between[(0, number)] = []
            part = [part[0] if p == part[number] else p for p in part]
    bonds: dict[str, tuple[str, ...]] = {}
    sizes = {index: structure.sizes[index] for index in structure.output_indices}
    own: list[list[str]] = [[i for i in term.indices if i in outside] for term in structure.terms]
    neighbours: list[dict[str, int]] = [{} for _ in structure.terms]
    for (first, second), group in between.items():
        # No index has a space in its name, so joined and added labels are new ones.
        label = " ".join(group) if group else f" {second}"
        bonds[label] = tuple(group)
        sizes[label] = math.prod(structure.sizes[index] for index in group)
        neighbours[first][label], neighbours[second][label] = second, first
    nodes = [_Node((*o, *n), tuple(o), n) for o, n in zip(own, neighbours, strict=True)]
    return nodes, bonds, sizes


def _plan(
    nodes: list[_Node], sizes: dict[str, int], axes: Sequence[str], *, exact_ranks: bool
) -> tuple[int, list[_Step]]:
    """The root and the order of the steps with the least predicted work.

    A node without outputs is preferred for the root: it holds what couples the others, as the core of a Tucker network.
    """
    total = math.prod(sizes[label] for label in axes)
    found: list[tuple[float, int, list[_Step]]] = []
    inner = [number for number, node in enumerate(nodes) if not node.outputs]
    for root in inner or range(len(nodes)):
        work, steps = _order(nodes, sizes, total, root, exact_ranks)
        found.append((work, root, steps))
    _, root, steps = min(found, key=lambda plan: plan[:2])
    return root, steps


def _order(
    nodes: list[_Node], sizes: dict[str, int], entries: int, root: int, exact_ranks: bool
) -> tuple[float, list[_Step]]:
    parent: dict[int, str] = {}
    todo, seen = [root], {root}
    while todo:
        node = todo.pop()
        for label, other in nodes[node].neighbours.items():
            if other not in seen:
                seen.add(other)
                parent[other] = label
                todo.append(other)
    now = dict(sizes)
    waiting = {
        n: sum(m != root and node.neighbours.get(parent[m]) == m for m in parent) for n, node in enumerate(nodes)
    }
    steps: list[_Step] = []
    work = 0.0
    while parent:
        best: tuple[float, float, int, int, float] | None = None
        for number, bond in parent.items():
            if waiting[number]:
                continue
            rows = math.prod(now[label] for label in nodes[number].labels if label != bond)
            rest = max(entries // rows, 1)
            rank = min(sizes[bond], rows, rest)
            if exact_ranks and rank == rows:
                cost = 0.0
            else:
                small = min(rows, rest)
                cost = entries * (2 * small + 2 * rank + _PASS) + _EIGEN * small**3
            # Of two steps the one with the smaller ratio goes first: exchanging neighbours in the order shows it.
            shrink = rank / rows
            ratio = cost / (1 - shrink) if shrink < 1 else (math.inf if cost else 0.0)
            if best is None or (ratio, cost, number) < best[:3]:
                best = (ratio, cost, number, rank, shrink)
        assert best is not None
        _, cost, number, rank, shrink = best
        bond = parent.pop(number)
        steps.append(_Step(number, tuple(label for label in nodes[number].labels if label != bond), bond))
        now[bond] = rank
        waiting[nodes[number].neighbours[bond]] -= 1
        entries = max(1, round(entries * shrink))
        work += cost
    return work, steps


def _split(extent: int, caps: Sequence[int]) -> list[int]:
    """Sizes of at most ``caps`` each with the smallest product that is at least ``extent``."""
    if len(caps) <= 1:
        return [extent] * len(caps)
    best: list[int] | None = None
    for first in range(1, min(caps[0], extent) + 1):
        rest = -(-extent // first)
        if rest > math.prod(caps[1:]):
            continue
        sizes = [first, *_split(rest, caps[1:])]
        if best is None or math.prod(sizes) < math.prod(best):
            best = sizes
    assert best is not None
    return best
