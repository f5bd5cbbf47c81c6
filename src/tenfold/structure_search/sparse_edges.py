"""One network with every edge, whose edges are made to vanish: ranks found by one optimisation instead of by trials."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import torch
from jaxtyping import Float
from torch import Tensor

from tenfold._scales import power_of, times_power
from tenfold.contraction import contract
from tenfold.decomposition._solve import solve
from tenfold.errors import TenfoldError
from tenfold.network import Network
from tenfold.structure import Structure
from tenfold.structure_search._adapted import adapted
from tenfold.structure_search._registry import searcher
from tenfold.structure_search.session import Session
from tenfold.structure_search.spaces import AnyGraph, Edge, FullyConnected, Point
from tenfold.structure_search.targets import Dense

# Edges at one mode at the start, the strongest, and flops of a sweep at the start, which bound the ranks.
_DEGREE, _FLOPS = 5, 3e9
# Penalties on entries of the diagonals, for data of norm one: the first leaves everything, the last nearly nothing.
_FIRST, _LAST = 1e-6, 1e-2
# On the squares of the cores, in units of the penalty, so that they do not make up for what a diagonal loses.
_CORES = 1.0
# Steps of the proximal gradient for a diagonal, which has a few entries.
_STEPS = 30
# Entries of a diagonal below this part of its largest are none.
_GONE = 1e-3
# No data beside it.
_RIDGE = 1e-12


@searcher("sparse_edges", spaces=(FullyConnected,))
def sparse_edges(
    session: Session, space: FullyConnected, seed: int = 0, *, stages: int = 24, stage_sweeps: int = 10
) -> None:
    """A diagonal on every edge of the full graph, driven to zero; what is left on the way is evaluated.

    One network with all edges is fitted, alternating least squares for its cores and proximal steps for the diagonals,
    while the penalty on the diagonals grows from stage to stage. Entries that reach zero are taken out. After each
    stage the graph that is left is evaluated if it is new and could win. Each stage counts as an evaluation.

    Args:
        stages: how many penalties.
        stage_sweeps: sweeps with each.

    Raises:
        TenfoldError: the target is no whole tensor, or a number is below 1.

    Cost: ``stages * stage_sweeps`` sweeps of a network with ranks such that one takes about 3e9 flops, at most five
    edges at each mode, and a fit for each graph.
    Paper: "SVDinsTN: A Tensor Network Paradigm for Efficient Structure Search from Regularized Modeling Perspective",
    2024; this keeps its idea, a sparse diagonal on each edge, with penalties and steps of its own.
    """
    if not isinstance(session.target, Dense):
        raise TenfoldError(f"'sparse_edges' needs a whole tensor, not {type(session.target).__name__}; take 'greedy'")
    for name, number in (("stages", stages), ("stage_sweeps", stage_sweeps)):
        if number < 1:
            raise TenfoldError(f"{name} must be at least 1, not {number!r}")
    (first,) = session.evaluate([space.structure(space.first())])
    if first.network is None or not first.error > 0:
        return  # zero, or of rank one
    objective = session.objective
    model = _Graph(session.target.data.detach().reshape(space.sizes), first.network, space, seed)
    seen = {first.structure.key}
    for stage in range(stages):
        session.work()
        penalty = _FIRST * (_LAST / _FIRST) ** (stage / max(stages - 1, 1))
        for _ in range(stage_sweeps):
            session.check()
            model.sweep(penalty)
        network = model.network()
        best = session.best or first
        too_large = network.parameters >= session.target.size
        if too_large or network.structure.key in seen or objective.error_for(network.parameters, best.value) < 0:
            continue
        seen.add(network.structure.key)
        session.evaluate([network.structure], near=replace(first, network=network), beat=best.value)


class _Graph:
    """A network with a diagonal on every edge, fitted to data of norm one.

    Args:
        data: with one axis for each mode.
        start: a network of rank one near it, which says what edges there are to begin with.
    """

    def __init__(self, data: Tensor, start: Network, space: FullyConnected, seed: int) -> None:
        wide = torch.complex128 if data.is_complex() else torch.float64
        power = power_of(data)
        scaled = times_power(data, -power).to(wide)
        self._data = scaled / scaled.norm()
        self._dtype, self._scale = data.dtype, float(scaled.norm()) * 2.0**power
        self._space = space
        vectors = [core.to(wide) / core.norm() for core in start.cores]
        degree = min(_DEGREE, space.max_degree) if isinstance(space, AnyGraph) else _DEGREE
        self._edges = _strongest(self._data, vectors, degree)
        bonds = FullyConnected(space.shape, 2, names=space.names, folds=space.folds)
        whole = bonds.structure(bonds.first(2))
        self._modes = whole.output_indices
        self._names = {edge: _between(whole, edge) for edge in self._edges}
        self._ranks = dict.fromkeys(self._edges, self._widest())
        self._diagonals = {edge: torch.ones(rank, dtype=torch.float64) for edge, rank in self._ranks.items()}
        generator = torch.Generator().manual_seed(seed)
        self._cores = []
        for mode in range(space.modes):
            shape = [*(self._ranks[edge] for edge in self._at(mode)), space.sizes[mode]]
            drawn = torch.randn(shape, generator=generator, dtype=torch.float64)
            self._cores.append((drawn / drawn.norm()).to(data.device, wide))
        self._diagonals = {edge: one.to(data.device) for edge, one in self._diagonals.items()}

    def _at(self, mode: int) -> list[Edge]:
        """The edges at a mode, in the order of the axes of its core, which ends with the mode itself."""
        return [edge for edge in self._edges if mode in edge]

    def _widest(self) -> int:
        """The largest rank of all edges with which a sweep is cheap enough and no core is larger than the data."""
        entries = self._data.numel()
        degree = max(len(self._at(mode)) for mode in range(self._data.ndim))
        for rank in range(self._space.max_rank, 2, -1):
            sizes = {name: rank for name in self._names.values()} | dict(
                zip(self._modes, self._data.shape, strict=True)
            )
            terms = [(*(self._names[edge] for edge in self._at(mode)), name) for mode, name in enumerate(self._modes)]
            flops = len(terms) * Structure.of(terms, self._modes, sizes).cost().flops
            for mode, extent in enumerate(self._data.shape):
                flops += 2 * entries // extent * rank ** (2 * len(self._at(mode)))
            if flops <= _FLOPS and rank**degree * max(self._data.shape) <= entries:
                return rank
        return min(2, self._space.max_rank)

    def sweep(self, penalty: float) -> None:
        """Every core and every diagonal once."""
        for mode in range(len(self._cores)):
            self._update(mode, penalty)
        self._prune()
        norms = torch.stack([core.norm() for core in self._cores])
        if bool((norms > 0).all()):
            level = norms.log().mean().exp()
            self._cores = [core * (level / norm) for core, norm in zip(self._cores, norms, strict=True)]

    def _weighted(self, mode: int, without: Edge | None = None) -> Tensor:
        """A core with the diagonals that belong to it: those of edges to later modes."""
        core = self._cores[mode]
        for axis, edge in enumerate(self._at(mode)):
            if edge[0] == mode and edge != without:
                core = core * self._diagonals[edge].reshape([-1 if k == axis else 1 for k in range(core.ndim)])
        return core

    def _operand(self, mode: int, tensor: Tensor) -> tuple[tuple[str, ...], Tensor]:
        return (*(self._names[edge] for edge in self._at(mode)), self._modes[mode]), tensor

    def _update(self, mode: int, penalty: float) -> None:
        edges = self._at(mode)
        core = self._cores[mode]
        shape, extent = core.shape[:-1], core.shape[-1]
        columns = math.prod(shape)
        others = [name for k, name in enumerate(self._modes) if k != mode]
        rest = [self._operand(k, self._weighted(k)) for k in range(len(self._cores)) if k != mode]
        around = contract(rest, (*others, *(self._names[edge] for edge in edges))).reshape(-1, columns)
        data = self._data.movedim(mode, -1).reshape(-1, extent)
        gram, right = around.mH @ around, around.mH @ data
        # The core: least squares with the diagonals that belong to it, and a penalty on its squares.
        mine = torch.ones(shape, dtype=torch.float64, device=core.device)
        for axis, edge in enumerate(edges):
            if edge[0] == mode:
                mine = mine * self._diagonals[edge].reshape([-1 if k == axis else 1 for k in range(len(shape))])
        weights = mine.reshape(-1, 1)
        ridged = weights * gram * weights.mT
        ridged.diagonal().add_(_CORES * penalty)
        self._cores[mode] = solve(ridged[None], (weights * right)[None], _RIDGE)[0].reshape(core.shape)
        # Each diagonal that belongs to it is a least-squares problem of its own in the same products.
        for axis, edge in enumerate(edges):
            if edge[0] == mode and self._ranks[edge] > 1:
                bare = self._weighted(mode, without=edge).reshape(columns, extent)
                split = (math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :]))
                matrix = (gram * (bare.conj() @ bare.mT)).real.reshape(*split, *split).sum((0, 2, 3, 5))
                vector = (bare.conj() * right).real.reshape(*split, extent).sum((0, 2, 3))
                found = _shrunk(matrix, vector, self._diagonals[edge], penalty)
                most = found.abs().max()
                if most > 0:
                    self._diagonals[edge] = found / most
                    self._cores[mode] = self._cores[mode] * most

    def _prune(self) -> None:
        """Take out what has become zero; the largest entry of each diagonal stays."""
        for edge in self._edges:
            kept = (self._diagonals[edge].abs() > _GONE).nonzero().flatten()
            if len(kept) < self._ranks[edge]:
                self._ranks[edge] = len(kept)
                self._diagonals[edge] = self._diagonals[edge][kept]
                for mode in edge:
                    axis = self._at(mode).index(edge)
                    self._cores[mode] = self._cores[mode].index_select(axis, kept)

    def network(self) -> Network:
        """What is left, as a network of the space for the data as given."""
        scale = self._scale ** (1 / len(self._cores))
        terms, cores = [], []
        sizes = dict(zip(self._modes, self._data.shape, strict=True))
        for mode in range(len(self._cores)):
            edges = [edge for edge in self._at(mode) if self._ranks[edge] > 1]
            sizes |= {self._names[edge]: self._ranks[edge] for edge in edges}
            terms.append((*(self._names[edge] for edge in edges), self._modes[mode]))
            core = self._weighted(mode).reshape(*(self._ranks[edge] for edge in edges), -1)
            cores.append((core * scale).to(self._dtype))
        ranks = tuple(self._ranks.get(edge, 1) for edge in self._space.edges)
        structure = self._space.structure(Point(ranks, tuple(range(len(cores)))))
        return adapted(Network(Structure.of(terms, structure.outputs, sizes), cores), structure)


def _strongest(data: Tensor, vectors: Sequence[Tensor], degree: int) -> list[Edge]:
    """The pairs of modes that a rank-one network leaves most of, at most ``degree`` of them at each mode."""
    names = [f"m{mode}" for mode in range(len(vectors))]
    strength = {}
    for a, b in combinations(range(len(vectors)), 2):
        rest = [((names[k],), vector.conj()) for k, vector in enumerate(vectors) if k not in (a, b)]
        values = torch.linalg.svdvals(contract([(names, data), *rest], (names[a], names[b])))
        strength[a, b] = float(values[1:].square().sum())
    degrees = [0] * len(vectors)
    chosen = []
    for a, b in sorted(strength, key=lambda edge: (-strength[edge], edge)):
        if max(degrees[a], degrees[b]) < degree:
            chosen.append((a, b))
            degrees[a] += 1
            degrees[b] += 1
    return sorted(chosen)


def _between(structure: Structure, edge: Edge) -> str:
    """The bond between two modes; any name where the modes are too small to have one."""
    shared = set(structure.terms[edge[0]].indices) & set(structure.terms[edge[1]].indices)
    return next(iter(shared), f"b{edge[0]}_{edge[1]}_")


def _shrunk(
    gram: Float[Tensor, "r r"], right: Float[Tensor, " r"], start: Float[Tensor, " r"], penalty: float
) -> Float[Tensor, " r"]:
    """Proximal gradient for ``x.G x / 2 - right.x + penalty * |x|_1``, the largest entry left free.

    One entry makes no edge, so none is saved by making the last one small.
    """
    top = float(torch.linalg.eigvalsh(gram)[-1])
    if not top > 0:
        return start
    weights = torch.full_like(start, penalty / top)
    weights[start.abs().argmax()] = 0.0
    found = start
    for _ in range(_STEPS):
        moved = found - (gram @ found - right) / top
        found = moved.sign() * (moved.abs() - weights).clamp(min=0)
    return found
