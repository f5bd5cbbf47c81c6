"""Functional Bayesian CP: the components of each mode are functions, or numbers of each level."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from tenfold.completion._funbat import IDLE, FunctionalModel, Mode, Seen, Start, fitted, pairs, restored
from tenfold.completion._registry import Callback, method
from tenfold.completion.model import State
from tenfold.completion.task import Task
from tenfold.errors import TenfoldError

_RANK = 8


class _Sum(Start):
    """The sum over components of the products of what the modes say."""

    @classmethod
    def random(cls, modes: list[Mode], count: int, generator: torch.Generator) -> _Sum:
        return cls(modes, 0.5 * count, 0.5 * count)

    def messages(self, seen: Seen, number: int) -> tuple[Tensor, Tensor]:
        mode = self.modes[number]
        split = mode.second.shape[1]
        tables = [torch.cat([other.second, other.mean], 1) for other in self.modes if other is not mode]
        tables = tables or [torch.ones(1, split + mode.rank, dtype=torch.float64)]
        sums = seen.sorted[number].products(tables, split)
        return sums[:, :split], sums[:, split:]

    def rest(self, seen: Seen, messages: tuple[Tensor, Tensor], damping: float) -> tuple[float, float]:
        # The last mode's messages were made of the others as they are now.
        mode = self.modes[-1]
        *_, times = pairs(mode.rank)
        square = float((messages[0] * mode.second * times).sum())
        return seen.squares - 2 * float((messages[1] * mode.mean).sum()) + square, 0.0

    def moments(self, means: Sequence[Tensor], seconds: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        *_, times = pairs(self.modes[0].rank)
        return math.prod(means[1:], start=means[0]).sum(1), math.prod(seconds[1:], start=seconds[0]) @ times

    def idle(self, powers: list[Tensor]) -> list[Tensor]:
        power = powers[-1]
        kept = power > IDLE
        kept[power.argmax()] = True
        return [kept] * len(self.modes)

    def keep(self, kept: list[Tensor]) -> None:
        for mode, own in zip(self.modes, kept, strict=True):
            mode.keep(own)

    @property
    def parameters(self) -> int:
        return 1 + sum(mode.mean.numel() + mode.log_length.numel() + mode.log_variance.numel() for mode in self.modes)


def _restore(state: State) -> FunctionalModel:
    return restored(state, _Sum)


@method("funbat_cp", restore=_restore, continuous=True)
def funbat_cp(
    task: Task,
    *,
    rank: int | None = None,
    seed: int = 0,
    epochs: int = 100,
    tol: float = 3e-4,
    callback: Callback | None = None,
    resume: State | None = None,
    starts: int = 4,
    smoothness: float | Sequence[float | None] | None = None,
    learn: bool = True,
    length: float = 0.1,
    variance: float = 1.0,
    damping: float = 0.0,
    levels: int = 4096,
) -> FunctionalModel:
    """DOC"""
    if rank is not None and rank < 1:
        raise TenfoldError(f"rank must be at least 1, not {rank}")
    return fitted(
        _Sum,
        task,
        [_RANK if rank is None else rank] * task.order,
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
