"""Tensor ring with the ranks that an error needs: they grow together, then shrink one by one."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from tenfold import formats
from tenfold.decomposition._anderson import iterate
from tenfold.decomposition._arrays import Whole, whole_array
from tenfold.decomposition._error import relative_error
from tenfold.decomposition._registry import Callback, Data, Decomposition, Progress, method
from tenfold.decomposition.tensor_ring import Ring, RingProblem, gaussian, opened, tensor_ring_als
from tenfold.decomposition.tree_svd import tree_svd
from tenfold.errors import TenfoldError
from tenfold.network import Network
from tenfold.structure import Structure

# Sweeps that every start of some ranks gets, and those that the best one gets after them.
_TRIAL = 8
# What a wider bond begins with, against the root mean square of its core.
_FILL = 0.1
# Of a bond's size, the part that growing adds and that shrinking tries to take away first.
_STEP = 4
# Shrinking aims this much below the error, so that rounding leaves it kept.
_MARGIN = 1e-7


@method("tensor_ring_adaptive", finds_ranks=True)
@torch.no_grad()
def tensor_ring_adaptive(
    data: Data,
    structure: Structure,
    *,
    error: float | None = None,
    init: Network | None = None,
    seed: int = 0,
    max_sweeps: int = 60,
    tol: float = 1e-4,
    callback: Callback | None = None,
) -> Decomposition:
    """Tensor ring with adaptive ranks: alternating least squares whose bonds widen until the error is reached.

    All bonds widen together; at each size the ring found so far, with small random numbers in the new places, competes
    with rings cut by singular values and a random one. Once the error is reached, bonds are narrowed one after the
    other, each by the singular values of its two cores together, for as long as sweeps bring the error back. The tensor
    train of the same error is a ring too, with one bond of size 1, and is returned if it has fewer parameters.

    Args:
        data: the whole array, real or complex, of the structure's shape.
        structure: one closed ring of cores; its sizes are the largest ranks allowed.
        error: relative Frobenius error to reach. None for exactly the structure's ranks, by ``tensor_ring_als``.
        init: where to start, with ``error=None`` only.
        seed: for random starts.
        max_sweeps: at most so many sweeps for each choice of ranks.
        tol: give a choice of ranks up when two sweeps running change the error by less than this part of it.
        callback: called when a choice of ranks is done with the best network so far.

    Returns:
        The network, its true error and the error of each choice of ranks. ``stopped`` is ``"error"`` if the error is
        reached, ``"max_sweeps"`` if the largest ranks do not reach it.

    Raises:
        StructureError: the structure is no ring.
        TenfoldError: a start is given together with an error, or the error is negative.
        DataError: NaN or infinite entries, another shape, or observations.

    Cost: about ``4 |X| r^2 + N r^6`` flops a sweep; some ten sweeps for each choice of ranks.
    Paper: "Tensor ring decomposition", 2016 (its algorithm with adaptive ranks).
    """
    family = Ring.of(structure)
    if error is None:
        return tensor_ring_als(
            data, structure, init=init, seed=seed, max_sweeps=max_sweeps, tol=min(tol, 1e-7), callback=callback
        )
    if init is not None:
        raise TenfoldError("method 'tensor_ring_adaptive' takes no start with an error: leave out init")
    if not error >= 0:
        raise TenfoldError(f"error must be at least 0, not {error}")
    whole = whole_array(data, structure, "tensor_ring_adaptive")
    if whole.norm2 == 0:
        narrow = structure.replace(dict.fromkeys(structure.inner_indices, 1))
        zeros = [torch.zeros(core.shape, dtype=whole.dtype, device=whole.tensor.device) for core in narrow.cores]
        return Decomposition(Network(narrow, zeros), 0.0, (), "exact")
    tensor = family.modes(whole.tensor)

    def network(state: Sequence[Tensor]) -> Network:
        found = structure.replace({bond: core.shape[0] for bond, core in zip(family.entering, state, strict=True)})
        return Network(found, whole.finish(Ring.of(found).cores([core.contiguous() for core in state])))

    search = _Search(whole, tensor, family.bonds, error, seed, max_sweeps, tol)
    best: list[Tensor] = []
    for best in search.run():
        if callback is not None:
            number = len(search.errors)
            callback(Progress(search.errors[-1], number, number, partial(network, best)))
    result = network(best)
    reached = relative_error(data, result)
    return Decomposition(
        result, reached, tuple(search.errors), "error" if reached <= max(error, search.aim) else "max_sweeps"
    )


@dataclass
class _Search:
    """Choices of ranks, tried one after the other; states are (bond, mode, bond) tensors in the order of the ring."""

    whole: Whole
    tensor: Tensor
    caps: Sequence[int]
    error: float
    seed: int
    max_sweeps: int
    tol: float
    errors: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.problem = RingProblem.of(self.tensor, self.whole.norm2)
        self.generator = torch.Generator().manual_seed(self.seed)
        self.aim = max(self.error * (1 - _MARGIN), 4 * torch.finfo(self.tensor.dtype).eps)

    def run(self) -> Iterator[list[Tensor]]:
        """The best state so far, again and again."""
        train = self._train()
        found: list[Tensor] | None = None
        for state, reached in self._growing(math.inf if train is None else _parameters(train)):
            found = state
            yield state
            if reached <= self.aim:
                break
        else:
            if train is not None:
                yield train
            return
        assert found is not None
        for state in self._shrinking(found):
            found = state
            yield state
        if train is not None and _parameters(train) < _parameters(found):
            yield train

    # --- the ways to a ring -------------------------------------------------------------------------------------------

    def _train(self) -> list[Tensor] | None:
        """The tensor train of this error as a ring; None if the largest ranks do not allow it."""
        shape = self.tensor.shape
        train = tree_svd(self.tensor, formats.tensor_train(shape, self.tensor.numel()), error=self.error)
        cores = train.network.cores
        # Open where the ring begins: one more bond, of size 1, at both ends.
        state = [cores[0][None], *cores[1:-1], cores[-1][..., None]]
        if train.error > max(self.error, self.aim) or any(
            core.shape[0] > cap for core, cap in zip(state, self.caps, strict=True)
        ):
            return None
        self.errors.append(train.error)
        return [core.contiguous() for core in state]

    def _growing(self, most: float) -> Iterator[tuple[list[Tensor], float]]:
        """Rings of equal bonds that widen, until they have as many parameters as are allowed."""
        state: list[Tensor] | None = None
        rank = 1
        while True:
            bonds = [min(rank, cap) for cap in self.caps]
            if sum(a * n * b for a, n, b in zip(bonds, self.tensor.shape, _next(bonds), strict=True)) >= most:
                return
            state, reached = self._best(self._starts(bonds, state))
            yield state, reached
            if rank >= max(self.caps) or reached <= self.aim:
                return
            rank += max(1, rank // _STEP)

    def _starts(self, bonds: list[int], before: list[Tensor] | None) -> list[list[Tensor]]:
        shapes = list(zip(bonds, self.tensor.shape, _next(bonds), strict=True))
        made = [opened(self.tensor, bonds, turn, self.generator) for turn in range(min(2, len(bonds)))]
        scale = (self.problem.own2 / self.tensor.numel() / math.prod(bonds)) ** (0.5 / len(bonds))
        made.append([gaussian(shape, self.tensor, self.generator) * scale for shape in shapes])
        if before is not None:
            made.append([self._widened(core, shape) for core, shape in zip(before, shapes, strict=True)])
        return made

    def _widened(self, core: Tensor, shape: Sequence[int]) -> Tensor:
        rms = float(torch.linalg.vector_norm(core)) / math.sqrt(core.numel())
        wide = gaussian(shape, core, self.generator) * (_FILL * rms)
        wide[tuple(slice(extent) for extent in core.shape)] = core
        return wide

    def _best(self, starts: list[list[Tensor]]) -> tuple[list[Tensor], float]:
        """A few sweeps for every start, more for the best one."""
        least, ahead = math.inf, starts[0]
        for start in starts:
            run = iterate(self.problem.sweep, start, error=self.aim, tol=self.tol, max_sweeps=_TRIAL)
            if run.errors[-1] < least:
                least, ahead = run.errors[-1], run.state
            if least <= self.aim:
                break
        return self._settled(ahead, least)

    def _settled(self, state: list[Tensor], reached: float) -> tuple[list[Tensor], float]:
        if reached > self.aim:
            run = iterate(self.problem.sweep, state, error=self.aim, tol=self.tol, max_sweeps=self.max_sweeps)
            state, reached = run.state, run.errors[-1]
        self.errors.append(reached)
        return state, reached

    def _shrinking(self, state: list[Tensor]) -> Iterator[list[Tensor]]:
        """Rings of fewer and fewer parameters that keep the error."""
        steps = {place: max(1, core.shape[0] // _STEP) for place, core in enumerate(state)}
        while steps:
            # The bond whose narrowing saves most.
            place = max(steps, key=lambda p: steps[p] * (state[p - 1][..., 0].numel() + state[p][0].numel()))
            if state[place].shape[0] <= steps[place]:
                steps[place] = state[place].shape[0] - 1
            if steps[place] == 0:
                del steps[place]
                continue
            narrow = _narrowed(state, place, state[place].shape[0] - steps[place])
            found, reached = self._settled(narrow, math.inf)
            if reached <= self.aim:
                state = found
                yield state
            else:
                steps[place] //= 2


def _next(bonds: Sequence[int]) -> list[int]:
    return [*bonds[1:], bonds[0]]


def _parameters(state: Sequence[Tensor]) -> int:
    return sum(core.numel() for core in state)


def _narrowed(state: Sequence[Tensor], place: int, rank: int) -> list[Tensor]:
    """The ring with the bond that enters a core cut by the singular values of the two cores beside it together."""
    made = list(state)
    left, right = state[place - 1], state[place]
    if len(state) == 2:
        # Both bonds lie between the same two cores; drop the smallest slices.
        sizes = torch.linalg.vector_norm(left, dim=(0, 1)) * torch.linalg.vector_norm(right, dim=(1, 2))
        kept = sizes.argsort(descending=True)[:rank]
        made[place - 1], made[place] = left[..., kept], right[kept]
        return made
    pair = left.flatten(0, 1) @ right.flatten(1)
    u, s, vh = torch.linalg.svd(pair, full_matrices=False)
    half = s[:rank].sqrt().to(u.dtype)
    made[place - 1] = (u[:, :rank] * half).reshape(*left.shape[:2], -1)
    made[place] = (half[:, None] * vh[:rank]).reshape(-1, *right.shape[1:])
    return made
