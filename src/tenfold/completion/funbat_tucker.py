"""Functional Bayesian Tucker: a core between modes whose components are functions, or numbers of each level."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from tenfold.completion._funbat import IDLE, FunctionalModel, Mode, Seen, Start, fitted, pairs, restored
from tenfold.completion._registry import Callback, method
from tenfold.completion.model import State
from tenfold.completion.task import Task
from tenfold.errors import TenfoldError

# Entries of the core, about, where the rank is not given, and at most, for their covariance is kept.
_CORE, _MOST = 128, 2048
# Components of a mode at most, where the rank is not given.
_RANK = 8
# Numbers that sums over the observations of some levels may take at a time.
_NUMBERS = 2**22
_ROWS = 8192


class _Core(Start):
    """A core, of which mean and covariance are known.

    Attributes:
        core: the mean.
        spread: the covariance of its entries in row-major order.
        precision: of what the observations say of them.
        shift: the same, times where.
    """

    def __init__(self, modes: list[Mode], rate: float, shape: float) -> None:
        super().__init__(modes, rate, shape)
        ranks = [mode.rank for mode in modes]
        size = math.prod(ranks)
        self.core = torch.zeros(ranks, dtype=torch.float64)
        self.spread = torch.zeros(size, size, dtype=torch.float64)
        self.precision = torch.zeros(size, size, dtype=torch.float64)
        self.shift = torch.zeros(size, dtype=torch.float64)

    @classmethod
    def random(cls, modes: list[Mode], rate: float, shape: float, generator: torch.Generator) -> _Core:
        start = cls(modes, rate, shape)
        start.core = torch.randn(start.core.shape, generator=generator, dtype=torch.float64)
        return start

    def _second(self, front: int | None) -> Tensor:
        """``E[w w^T]``, with the two indices of each mode as one that runs over the upper triangle.

        Entries that stand for two are added, but those of mode ``front``, which comes first.
        """
        ranks, order = list(self.core.shape), self.core.ndim
        whole = self.spread + torch.outer(self.core.reshape(-1), self.core.reshape(-1))
        found = whole.reshape(ranks + ranks).permute([i + k * order for i in range(order) for k in (0, 1)])
        found = found.reshape([rank**2 for rank in ranks])
        for axis, rank in enumerate(ranks):
            a, c, times = pairs(rank)
            rows = found.movedim(axis, 0)
            added = (rows[a * rank + c] + rows[c * rank + a]) / 2
            if axis != front:
                added = added * times.reshape(-1, *[1] * (order - 1))
            found = added.movedim(0, axis)
        return found if front is None else found.movedim(front, 0).reshape(found.shape[front], -1)

    def _sums(self, seen: Seen, number: int) -> Iterator[tuple[int, int, Tensor, Tensor]]:
        """Sums of outer products of second moments and of means of the other modes, for some levels at a time."""
        others = [mode for mode in self.modes if mode is not self.modes[number]]
        seconds = [mode.second for mode in others] or [torch.ones(1, 1, dtype=torch.float64)]
        means = [mode.mean for mode in others] or [torch.ones(1, 1, dtype=torch.float64)]
        levels = seen.sorted[number].levels
        step = max(_NUMBERS // math.prod(table.shape[1] for table in seconds), 1)
        for low in range(0, levels, step):
            high = min(low + step, levels)
            outer = seen.sorted[number].outer
            yield low, high, outer(seconds, False, low, high), outer(means, True, low, high)

    def messages(self, seen: Seen, number: int) -> tuple[Tensor, Tensor]:
        second = self._second(number).T.contiguous()
        mean = self.core.movedim(number, 0).reshape(self.core.shape[number], -1).T.contiguous()
        found = [(squares @ second, values @ mean) for _, _, squares, values in self._sums(seen, number)]
        return torch.cat([one for one, _ in found]), torch.cat([other for _, other in found])

    def rest(self, seen: Seen, messages: tuple[Tensor, Tensor], damping: float) -> tuple[float, float]:
        ranks, order = list(self.core.shape), self.core.ndim
        last = self.modes[-1]
        square, value = torch.zeros(()), torch.zeros(())
        for low, high, squares, values in self._sums(seen, order - 1):
            square = square + squares.T @ last.second[low:high]
            value = value + values.T @ last.mean[low:high]
        found = square.reshape([rank * (rank + 1) // 2 for rank in ranks])
        for axis, rank in enumerate(ranks):
            a, c, _ = pairs(rank)
            place = torch.empty(rank, rank, dtype=torch.int64)
            place[a, c] = place[c, a] = torch.arange(len(a))
            found = found.index_select(axis, place.reshape(-1))
        found = found.reshape([rank for rank in ranks for _ in (0, 1)])
        size = self.core.numel()
        gram = found.permute([2 * i + k for k in (0, 1) for i in range(order)]).reshape(size, size)
        right = value.reshape(-1)
        precise = self.shape / self.rate
        old = damping if self.bounds else 0.0
        self.precision = torch.lerp(precise * gram, self.precision, old)
        self.shift = torch.lerp(precise * right, self.shift, old)
        system = torch.linalg.cholesky(self.precision + torch.eye(size, dtype=torch.float64))
        self.spread = torch.cholesky_inverse(system)
        core = torch.cholesky_solve(self.shift[:, None], system)[:, 0]
        self.core = core.reshape(ranks)
        divergence = float(self.spread.trace() + core @ core - size) / 2 + float(system.diagonal().log().sum())
        residual = (
            seen.squares - 2 * float(core @ right) + float(core @ gram @ core) + float((self.spread * gram).sum())
        )
        return residual, divergence

    def moments(self, means: Sequence[Tensor], seconds: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        second = self._second(None)
        parts = []
        for rows in torch.arange(len(means[0])).split(_ROWS):
            parts.append(
                (
                    _contracted(self.core, [table[rows] for table in means]),
                    _contracted(second, [table[rows] for table in seconds]),
                )
            )
        return torch.cat([one for one, _ in parts]), torch.cat([other for _, other in parts])

    def idle(self, powers: list[Tensor]) -> list[Tensor]:
        wanted = []
        for power in powers:
            kept = power > IDLE
            kept[power.argmax()] = True
            wanted.append(kept)
        return wanted

    def keep(self, kept: list[Tensor]) -> None:
        chosen = kept[0]
        for own in kept[1:]:
            chosen = (chosen[:, None] & own).flatten()
        self.shift, self.core = self.shift[chosen], self.core.reshape(-1)[chosen].reshape([int(k.sum()) for k in kept])
        self.spread, self.precision = self.spread[chosen][:, chosen], self.precision[chosen][:, chosen]
        for mode, own in zip(self.modes, kept, strict=True):
            mode.keep(own)

    def tensors(self) -> dict[str, Tensor]:
        own = {"core": self.core, "spread": self.spread, "precision": self.precision, "shift": self.shift}
        return super().tensors() | own

    @classmethod
    def of(cls, tensors: dict[str, Tensor], order: int) -> Start:
        start = super().of(tensors, order)
        for name in ("core", "spread", "precision", "shift"):
            setattr(start, name, tensors[name])
        return start

    @property
    def parameters(self) -> int:
        own = sum(mode.mean.numel() + mode.log_length.numel() + mode.log_variance.numel() for mode in self.modes)
        return 1 + own + self.core.numel()


def _contracted(core: Tensor, rows: list[Tensor]) -> Tensor:
    """``sum core[a, b, ...] rows1[n, a] rows2[n, b] ...`` for each n."""
    found = (rows[0] @ core.flatten(1)).reshape(len(rows[0]), *core.shape[1:]) if core.ndim > 1 else rows[0] * core
    for table in rows[1:]:
        found = torch.einsum("na...,na->n...", found, table)
    return found if found.ndim == 1 else found.sum(1)


def _restore(state: State) -> FunctionalModel:
    return restored(state, _Core)


@method("funbat_tucker", restore=_restore, continuous=True)
def funbat_tucker(
    task: Task,
    *,
    rank: int | Sequence[int] | None = None,
    seed: int = 0,
    epochs: int = 100,
    tol: float = 3e-4,
    callback: Callback | None = None,
    resume: State | None = None,
    starts: int = 4,
    smoothness: float | Sequence[float] = 1.5,
    learn: bool = True,
    length: float = 0.1,
    variance: float = 1.0,
    damping: float = 0.0,
    levels: int = 4096,
) -> FunctionalModel:
    """Functional Bayesian Tucker: functions of each mode, multiplied out by a core, with uncertainty.

    A mode with an interval of positions has a Matern process for each component, in the form of a Markov chain, so that
    a smoother finds the posterior of all its levels in linear time; a mode with levels has independent normal numbers.
    Each mode is updated given the moments of the others, then the core, then the precision of the noise, so that
    a lower bound of the evidence rises from epoch to epoch. The length scale and the variance of every component
    climb the evidence that the smoother gives, and components that come to add less than a millionth of the noise to
    the function are left out.

    Such a posterior is centred on one of many explanations, and too certain of it. So several starts are fitted, and
    what is returned is their mixture: its mean predicts better than each of them, and its variance tells where they
    disagree.

    Args:
        task: what was observed; modes may be intervals, levels, or some of each.
        rank: components of each mode at the start, one for each or one number, which is lowered where a mode has fewer
            levels and where the core would have more than 2048 entries; None takes what makes about 128 entries,
            but no more than 8.
        seed: of the starts.
        epochs: at most.
        tol: stop when no start's bound changed by more than this for each observation, twice running.
        callback: called after every epoch.
        resume: a state that ``callback`` was given.
        starts: how many posteriors are mixed.
        smoothness: of the Matern processes, 1/2, 3/2 or 5/2, one or one for each mode (of which those of
            discrete modes do not matter).
        learn: whether length scales and variances are learned and components left out, else they stay what they are.
        length: the length scales at the start, in units of the range of the mode.
        variance: the variances at the start.
        damping: the part of the messages to a mode that stays as it was; the bound may then fall.
        levels: a continuous mode with more distinct positions than this is rounded to a grid of so many.

    Returns:
        A model whose ``variance`` has both parts of the uncertainty, of each start and between them. ``errors`` is the
        root of the expected squared residual, which is larger than the residual of the mean. ``noise`` is that of an
        observation of average weight.

    Raises:
        TenfoldError: an argument outside of what is said above.
        DataError: negative weights.

    Cost of an epoch and start: ``n R^(2 N - 2) / 2^(N - 1)`` for n observations and N modes, ``R^(3 N)``
    for the core, and ``(b R)^3`` for each level of each mode, with b = 1, 2, 3 for smoothness 1/2, 3/2, 5/2.
    Papers: "Functional Bayesian Tucker decomposition for continuous-indexed tensor data", 2024; "Kalman filtering and
    smoothing solutions to temporal Gaussian process regression models", 2010.
    """
    if rank is None:
        rank = min(max(int(_CORE ** (1 / task.order) + 1e-9), 2), _RANK)
    one = isinstance(rank, int)
    ranks = [rank] * task.order if isinstance(rank, int) else [*rank]
    if len(ranks) != task.order or min(ranks) < 1:
        raise TenfoldError(f"rank must be at least 1, one number or {task.order} of them, not {rank}")
    if one:
        ranks = [min(own, size or own) for own, size in zip(ranks, task.sizes, strict=True)]
    while math.prod(ranks) > _MOST:
        if not one:
            raise TenfoldError(
                f"rank {rank} makes a core of {math.prod(ranks)} entries: give ranks of product at most {_MOST}"
            )
        ranks[ranks.index(max(ranks))] -= 1
    return fitted(
        _Core,
        task,
        ranks,
        seed=seed,
        epochs=epochs,
        tol=tol,
        callback=callback,
        resume=resume,
        starts=starts,
        smoothness=smoothness,
        learn=learn,
        length=length,
        variance=variance,
        damping=damping,
        levels=levels,
    )
