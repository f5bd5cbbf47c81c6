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
    def random(cls, modes: list[Mode], rate: float, shape: float, generator: torch.Generator) -> _Sum:
        return cls(modes, rate, shape)

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
    smoothness: float | Sequence[float] = 1.5,
    learn: bool = True,
    length: float = 0.1,
    variance: float = 1.0,
    damping: float = 0.0,
    levels: int = 4096,
) -> FunctionalModel:
    """Functional Bayesian CP: sums of products of one function for each mode, with uncertainty.

    A mode with an interval of positions has a Matern process for each component, in the form of a Markov chain, so that
    a smoother finds the posterior of all its levels in linear time; a mode with levels has independent normal numbers.
    Each mode is updated given the moments of the others, then the precision of the noise, so that
    a lower bound of the evidence rises from epoch to epoch. The length scale and the variance of every component
    climb the evidence that the smoother gives, and components that come to add less than a millionth of the noise to
    the function are left out.

    Such a posterior is centred on one of many explanations, and too certain of it. So several starts are fitted, and
    what is returned is their mixture: its mean predicts better than each of them, and its variance tells where they
    disagree.

    Args:
        task: what was observed; modes may be intervals, levels, or some of each.
        rank: components at the start, 8 if None.
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

    Cost of an epoch and start: ``n N R^2`` for n observations and N modes, and ``(b R)^3``
    for each level of each mode, with b = 1, 2 or 3 for the smoothness 1/2, 3/2, 5/2.
    Papers: "Functional Bayesian Tucker decomposition for continuous-indexed tensor data", 2024; "Kalman filtering and
    smoothing solutions to temporal Gaussian process regression models", 2010.
    """
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
