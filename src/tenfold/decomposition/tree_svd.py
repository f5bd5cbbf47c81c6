"""Sequentially truncated projections from the leaves of a tree to its root."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from tenfold._tree_ranks import choose_ranks
from tenfold._trees import check_tree
from tenfold.decomposition._arrays import whole_array
from tenfold.decomposition._error import relative_error, squared_norm
from tenfold.decomposition._gram import can_halve, coordinates, gram, leading, matrix
from tenfold.decomposition._range import Dominant, columns, dominant, work
from tenfold.decomposition._registry import Callback, Data, Decomposition, Progress, method
from tenfold.decomposition._tree_plan import EIGEN, Node, Step, plan, split, tree
from tenfold.formats import tucker
from tenfold.network import Network
from tenfold.structure import Structure

# Below this many entries a slice is multiplied faster after one copy of all of them than by itself.
_SLICE = 2**12
# Gram matrices of at least so many entries are tried in single precision first, if errors are no smaller than this.
_HALF_ENTRIES, _HALF_ERROR = 2**18, 1e-3
# What single precision changes in a Gram matrix, relative to its largest eigenvalue, and what of the squared error it
# may cost.
_HALF_CHANGE, _HALF_COST = 1e-6, 1e-6
# What is left of errors above this is spent, if the spectra that show where take at most so many operations an entry.
_SMALLEST_SPENT, _SPENDING = 1e-12, 32.0
# Parts of it that are tried.
_SPENT_PARTS = (1.0, 0.9, 0.7)
# Of at least so many rows, a basis is looked for by a range finder if that takes this part of the work or less.
_LONG, _RANGE_WORTH = 1000, 0.5
# Squares lost are the difference of norms above this part of the whole.
_NORMS = 1e-8
# Flops of a basis by Gram matrix, for an entry and a row, in those of a large product: half of the result is made, in
# single precision in half the time; by a triangular factor twice the product's, at a lower speed.
_GRAM, _HALF_GRAM, _FACTOR = 1.0, 0.5, 4.0


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
    spend; what is left at the end goes to the bonds where it saves most.

    The result is within ``sqrt(number of bonds)`` of the best error possible with its ranks. Bonds wider than their
    matricisation are filled with zeros. There is nothing iterative here, so ``init``, ``max_sweeps`` and ``tol`` change
    nothing.

    Bases come from Gram matrices, in single precision first where its rounding cannot cost a digit of the error; small
    neighbouring modes are taken together and split afterwards. Errors too small for squares go through triangular
    factors. Sides of thousands with small ranks go to a range finder with random vectors, whose result is measured.

    Args:
        data: the whole array, of the structure's shape.
        structure: a tree: every inner index joins two cores, no cycle, each output on one core. Its sizes are the
            ranks, or with ``error`` the largest ranks allowed.
        error: relative Frobenius error to reach with the smallest ranks; None for exactly the structure's ranks.
        seed: for the random vectors.
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
    work = _Projection.of(structure, whole.tensor, whole.norm2, error, precise=precise, seed=seed)
    result, cores, square = work.run()
    network = Network(result, cores)
    # Cancellation in the squares that were kept and lost makes them useless further down.
    floor = 3e-2 if real > 1e-10 else 1e-5
    reached = math.sqrt(square) if square > floor**2 else _true_error(whole.tensor, network)
    if error is not None and reached > error and not precise and not work.limited:
        work = _Projection.of(structure, whole.tensor, whole.norm2, error, precise=True, seed=seed)
        result, cores, square = work.run()
        network = Network(result, cores)
        reached = _true_error(whole.tensor, network)
    root = work.root
    if error is not None:
        smaller = _spent(network, whole.tensor, error, reached)
        if smaller is not None:
            network, reached = smaller
            result, cores, root = network.structure, list(network.cores), 0
    network = Network(result, whole.finish(cores, root))
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
    work = _Projection.of(structure, tensor, squared_norm(tensor), None)
    _, (core, *bases), _ = work.run()
    return core, bases


def _spent(network: Network, tensor: Tensor, error: float, reached: float) -> tuple[Network, float] | None:
    """The network with ranks cut by what it leaves of the error, and its error; None where nothing is to be had.

    What is cut is not quite orthogonal to what was left out before, so the error is measured, and less is cut if the
    sum of the squares was too little for it.
    """
    structure = network.structure
    bonds = structure.inner_indices
    widest = max((structure.sizes[bond] for bond in bonds), default=1)
    ends = {structure.terms_with(bond) for bond in bonds}
    if (
        not max(reached, _SMALLEST_SPENT) < error < 1
        or network.parameters * widest > _SPENDING * tensor.numel()
        or len(ends) < len(bonds)
        or len(bonds) < len(structure.terms) - 1
    ):
        return None
    left = math.sqrt((error**2 - reached**2) / (1 - reached**2))
    spectra = {bond: values.tolist() for bond, values in network.bond_spectra().items()}
    for part in _SPENT_PARTS:
        ranks = choose_ranks(structure, spectra, error=part * left)
        if ranks is None or all(ranks[bond] == structure.sizes[bond] for bond in bonds):
            return None
        smaller = network.round(ranks=ranks)
        found = _true_error(tensor, smaller)
        if found <= error and smaller.parameters < network.parameters:
            return smaller, found
    return None


def _true_error(tensor: Tensor, network: Network) -> float:
    return relative_error(tensor.reshape(network.shape), network)


@dataclass
class _Projection:
    """The tensor on its way down to the root core, and the cores split off so far.

    ``norm2`` is the squared norm of all the data, ``square`` that of what is left of it in ``tensor``.
    """

    structure: Structure
    tensor: Tensor
    norm2: float
    error: float | None
    precise: bool
    axes: list[str]
    nodes: list[Node]
    bonds: dict[str, tuple[str, ...]]
    sizes: dict[str, int]
    square: float
    eps: float
    generator: torch.Generator
    root: int = 0
    limited: bool = False
    cores: dict[int, tuple[tuple[str, ...], Tensor]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        structure: Structure,
        tensor: Tensor,
        norm2: float,
        error: float | None,
        *,
        precise: bool = False,
        seed: int = 0,
    ) -> _Projection:
        # Axes in the order of memory, so that transposed data needs no copy.
        strides = tensor.stride()
        order = sorted(range(tensor.ndim), key=lambda axis: -strides[axis])
        axes = [structure.output_indices[axis] for axis in order]
        eps = torch.finfo(tensor.dtype).eps
        generator = torch.Generator().manual_seed(seed)
        known = tree(structure)
        return cls(structure, tensor.permute(order), norm2, error, precise, axes, *known, norm2, eps, generator)

    def run(self) -> tuple[Structure, list[Tensor], float]:
        """The structure found, its cores, and the squared relative error as the discarded squares tell it."""
        rate = _FACTOR if self.precise else _HALF_GRAM if self._halves(self.tensor) else _GRAM
        self.root, steps = plan(self.nodes, self.sizes, self.axes, exact_ranks=self.error is None, rate=rate)
        total = self.square
        budget = math.inf if self.error is None else self.error**2 * total * (1 - 1e-6)
        bonds = sum(1 + len(step.inner) for step in steps)
        lost = 0.0
        for number, step in enumerate(steps):
            following = (*steps[number + 1].rows,) if number + 1 < len(steps) else ()
            spent = self._project(step, max(budget, 0.0) / bonds, following)
            bonds -= 1 + len(step.inner)
            budget -= spent
            lost += spent
        root = self.nodes[self.root]
        self.cores[self.root] = (
            root.labels,
            self.tensor.permute([self.axes.index(label) for label in root.labels]),
        )
        if self.error is not None:
            for done in reversed([part for step in steps for part in (*step.inner, step)]):
                self._trim(done.node)
        result = self._structure()
        return result, self._finish(result), lost / total if total > 0 else 0.0

    # --- one step -----------------------------------------------------------------------------------------------------

    def _project(self, step: Step, allowed: float, following: tuple[str, ...]) -> float:
        """Split off a node, or a whole subtree, with at most ``allowed`` lost for each; returns what was lost."""
        left, block, right = self._view(step.rows)
        extent = self.tensor.shape
        before = math.prod(extent[:left])
        rows = math.prod(extent[left : left + block])
        after = math.prod(extent[left + block :])
        shape, labels = list(extent[left : left + block]), self.axes[left : left + block]
        view = self.tensor.reshape(before, rows, after)
        cap = min(self.sizes[step.bond], rows, before * after)
        if self.error is None and cap == rows:
            self.cores[step.node] = ((*labels, step.bond), _identity(rows, view).reshape(*shape, rows))
            projected, spent = view, 0.0
        else:
            found = self._basis(view, cap, allowed)
            lost, basis = found.lost, found.vectors.reshape(*shape, -1)
            if step.inner:
                more, basis = self._split_off(step, labels, basis, found.squares, allowed)
                lost += more
            else:
                self.cores[step.node] = ((*labels, step.bond), basis)
            projected = coordinates(basis.reshape(rows, -1), view)
            # Eigenvalues know how little is lost, norms how much.
            spent = max(self.square - squared_norm(projected), 0.0) if lost > _NORMS * self.square else lost
        self.square = max(self.square - spent, 0.0)
        self.tensor = projected.reshape(*extent[:left], -1, *extent[left + block :])
        self.axes[left : left + block] = [step.bond]
        self._turn(left, right, following)
        return spent

    def _split_off(
        self, step: Step, labels: list[str], basis: Tensor, squares: Tensor, allowed: float
    ) -> tuple[float, Tensor]:
        """The cores of a subtree, from the basis that all of its rows have together.

        What the inner nodes lose of the tensor is at most what they lose of the basis with its singular values as
        weights.

        Returns:
            A bound on what was lost, and the orthonormal basis that the subtree makes.
        """
        weighted = basis * squares.clamp(min=0).sqrt().to(basis.dtype)
        part = replace(self, tensor=weighted, square=float(squares.double().sum()), axes=[*labels, step.bond])
        lost = sum(part._project(inner, allowed, ()) for inner in step.inner)
        self.limited |= part.limited
        names = [*(label for label in part.axes if label != step.bond), step.bond]
        core = part.tensor.permute([part.axes.index(label) for label in names])
        unit = torch.linalg.qr(core.reshape(-1, core.shape[-1])).Q.reshape(*core.shape[:-1], -1)
        self.cores[step.node] = (tuple(names), unit)
        for inner in reversed(step.inner):
            below, vectors = self.cores[inner.node]
            axis = names.index(inner.bond)
            unit = torch.tensordot(unit, vectors, dims=([axis], [vectors.ndim - 1]))
            names = [*names[:axis], *names[axis + 1 :], *below[:-1]]
        return lost, unit.permute([names.index(label) for label in (*labels, step.bond)])

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

    # --- one basis ----------------------------------------------------------------------------------------------------

    def _halves(self, tensor: Tensor) -> bool:
        """Whether a Gram matrix of so much data is worth a try in single precision."""
        enough = self.error is None or self.error >= _HALF_ERROR
        return enough and not self.precise and tensor.numel() >= _HALF_ENTRIES and can_halve(tensor)

    def _basis(self, view: Tensor, cap: int, allowed: float) -> Dominant:
        """Orthonormal columns (rows x rank) that span the leading left singular vectors."""
        before, rows, after = view.shape
        if rows > before * after:
            return self._tall(view, cap, allowed)
        sketched = self._by_range(view, cap, allowed)
        if sketched is not None:
            return sketched
        double = self.precise and self.eps > 1e-10
        if self.precise and not double:
            return self._by_factor(view, cap, allowed)
        # One more than is wanted shows the gap.
        count = cap + 1 if self.error is None else None
        if self._halves(view):
            values, vectors = leading(gram(view, "half"), count)
            rank, lost = self._choose(values, cap, allowed, self._others(values, rows))
            if self._half_will_do(values, rank, lost):
                return Dominant(vectors[:, :rank], values[:rank], lost)
        values, vectors = leading(gram(view, "double" if double else "own"), count)
        rank, lost = self._choose(values, cap, allowed, self._others(values, rows))
        if self.error is None and self._unresolved(values, rank, lost):
            if self.eps < 1e-10:
                return self._by_factor(view, cap, allowed)
            values, vectors = leading(gram(view, "double"), count)
            rank, lost = self._choose(values, cap, allowed, self._others(values, rows))
        return Dominant(vectors[:, :rank].to(view.dtype), values[:rank], lost)

    def _others(self, values: Tensor, rows: int) -> float:
        """What eigenvalues beyond the given ones have together."""
        return max(self.square - float(values.double().sum()), 0.0) if len(values) < rows else 0.0

    def _half_will_do(self, values: Tensor, rank: int, lost: float) -> bool:
        """Whether the rounding of single precision leaves the error what it is.

        A change of size ``d`` in a matrix turns its leading eigenvectors so that each loses at most ``d``, and about
        ``d^2`` over the gap where that is wider.
        """
        change = _HALF_CHANGE * float(values[0])
        gap = float(values[rank - 1] - values[rank]) if rank < len(values) else 0.0
        turned = rank * change * min(1.0, change / gap if gap > 0 else 1.0)
        return turned <= _HALF_COST * lost

    def _unresolved(self, values: Tensor, rank: int, spent: float) -> bool:
        """Whether the squares in the Gram matrix have drowned what matters: little is lost, and much is small.

        A direction of relative singular value ``s`` comes out of a Gram matrix with an error of about ``eps / s``.
        """
        top, last = float(values[0]), float(values[rank - 1])
        return spent < 100 * self.eps * self.square and last < math.sqrt(self.eps) * top

    def _by_range(self, view: Tensor, cap: int, allowed: float) -> Dominant | None:
        """By a range finder, where a side is so long that a Gram matrix takes longer; else None, and if it fails."""
        before, rows, after = view.shape
        double = self.eps < 1e-10
        if rows < _LONG or min(before, after) > 1 or (self.precise and not double):
            return None
        exact = self.error is None
        rate = _FACTOR if self.precise else _HALF_GRAM if self._halves(view) else _GRAM
        budget = _RANGE_WORTH * (view.numel() * rate * rows + EIGEN * rows**3)
        most = rows // 2
        while most and work((rows, before * after), most) > budget:
            most //= 2
        if columns(cap if exact else None) > most:
            return None
        flat = view[0] if before == 1 else view[:, :, 0].mT
        least = max(allowed, (4 * self.eps) ** 2 * self.norm2)

        def find(precise: bool) -> Dominant | None:
            return dominant(
                flat,
                self.square,
                rank=cap if exact else None,
                allowed=least,
                most=most,
                precise=precise,
                generator=self.generator,
            )

        found = find(self.precise)
        if found is not None and exact and self._unresolved(found.squares, cap, found.lost):
            found = find(True) if double else None
        if found is None or len(found.squares) <= cap:
            return found
        self.limited = True
        vectors, squares, lost = found
        return Dominant(vectors[:, :cap], squares[:cap], lost + float(squares[cap:].sum()))

    def _by_factor(self, view: Tensor, cap: int, allowed: float) -> Dominant:
        """By the triangular factor instead of the Gram matrix: a few times slower, but nothing is squared."""
        triangle = torch.linalg.qr(matrix(view).mH, mode="r").R
        basis, values, _ = torch.linalg.svd(triangle.mH, full_matrices=False)
        squares = values.double() ** 2
        rank, lost = self._choose(squares, cap, allowed)
        return Dominant(basis[:, :rank], squares[:rank], lost)

    def _tall(self, view: Tensor, cap: int, allowed: float) -> Dominant:
        """The same where there are more rows than columns: the triangular factor is the cheap one here."""
        basis, triangle = torch.linalg.qr(matrix(view))
        inside, values, _ = torch.linalg.svd(triangle, full_matrices=False)
        squares = values.double() ** 2
        rank, lost = self._choose(squares, cap, allowed)
        return Dominant(basis @ inside[:, :rank], squares[:rank], lost)

    def _choose(self, squares: Tensor, cap: int, allowed: float, others: float = 0.0) -> tuple[int, float]:
        """The rank for descending squared singular values, and the squares it leaves out.

        ``others`` is what the values that are not among ``squares`` have together.
        """
        kept = squares.double().cpu().clamp(min=0)
        tail = torch.cat([kept.flip(0).cumsum(0).flip(0), kept.new_zeros(1)]) + others
        rank = cap
        if self.error is not None:
            # What is zero to rounding goes even without a budget.
            least = max(allowed, (4 * self.eps) ** 2 * self.norm2)
            needed = max(1, int((tail[:-1] > least).sum()))
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
                split_up = split(extent, [self.structure.sizes[index] for index in group])
                found.update(zip(group, split_up, strict=True))
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


def _identity(rows: int, like: Tensor) -> Tensor:
    return torch.eye(rows, dtype=like.dtype, device=like.device)


def _place(axes: Sequence[str], rows: Sequence[str]) -> int:
    """0 if the rows lie side by side at an end of the axes, 1 if inside, 2 if not side by side."""
    places = sorted(axes.index(label) for label in rows)
    if places and places[-1] - places[0] != len(places) - 1:
        return 2
    return 0 if not places or places[0] == 0 or places[-1] == len(axes) - 1 else 1
