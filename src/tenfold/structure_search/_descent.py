"""A differentiable loss of a network made small: Adam for a while, then L-BFGS from the best there was."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from tenfold.errors import DataError
from tenfold.network import Network

# Adam's part of the steps, and its learning rate. It passes over kinks at which L-BFGS would end; that is more exact
# and needs fewer steps where losses are smooth: on a layer of a trained network 300 steps of Adam left 1.03 to 1.6
# times the loss that these 300 do.
_FIRST, _RATE = 6, 2e-2
_HISTORY = 10
# Where L-BFGS ends by itself: changes below are rounding.
_SETTLED = 1e-12
# Both take gradients far below one for rounding: a small loss is multiplied by a power of two, no larger than this one.
_LARGEST = 120


class _Ended(Exception):
    """The steps or the time are used up, or the loss is no number any more."""


class Descent:
    """The cores of a network on their way down.

    Attributes:
        best, lowest: the best cores and their loss.
        made: steps, each an evaluation of the loss and its gradient.
        cut: whether it was told to stop before it was done.

    Args:
        stop: asked after each step whether it is too late to go on.
    """

    def __init__(
        self,
        loss: Callable[[Network], Tensor],
        first: Network,
        steps: int,
        stop: Callable[[], bool] | None = None,
    ) -> None:
        self._loss, self._structure, self._most, self._stop = loss, first.structure, steps, stop
        self.cut = False
        self.best = [core.detach().clone() for core in first.cores]
        self.lowest = math.inf
        self.made = 0
        self._factor = 0.0  # until the first loss is known

    def run(self) -> None:
        """Descend until the steps are used up or nothing more is gained.

        Raises:
            DataError: the loss is no real scalar of the cores, or negative.
        """
        try:
            self._adam(max(1, self._most // _FIRST))
            if self._drawn():
                self._adam(self._most - self.made)
            else:
                self._lbfgs()
        except _Ended:
            pass

    def _adam(self, steps: int) -> None:
        cores = self._cores()
        optimizer = torch.optim.Adam(cores, lr=_RATE)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(steps, 1), eta_min=_RATE / 100)
        for _ in range(steps):
            optimizer.zero_grad()
            self._value(cores)
            optimizer.step()
            schedule.step()

    def _lbfgs(self) -> None:
        cores = self._cores()
        optimizer = torch.optim.LBFGS(
            cores,
            max_iter=self._most,
            history_size=_HISTORY,
            tolerance_grad=_SETTLED,
            tolerance_change=_SETTLED,
            line_search_fn="strong_wolfe",
        )

        def closure() -> float:
            optimizer.zero_grad()
            return self._value(cores)

        optimizer.step(closure)

    def _cores(self) -> list[Tensor]:
        # L-BFGS looks at gradients as one vector.
        return [core.clone(memory_format=torch.contiguous_format).requires_grad_() for core in self.best]

    def _drawn(self) -> bool:
        """Whether the loss has chance in it, which no line search stands."""
        with torch.no_grad():
            network = Network(self._structure, self.best)
            return float(self._loss(network)) != float(self._loss(network))

    def _value(self, cores: Sequence[Tensor]) -> float:
        """The loss, with its gradient in the cores."""
        if self.made == self._most:
            raise _Ended
        value = self._loss(Network(self._structure, cores))
        if not isinstance(value, Tensor) or value.numel() != 1 or value.is_complex() or not value.requires_grad:
            raise DataError(f"loss must give a real scalar that depends on the cores, not {_shown(value)}")
        now = value.item()
        if now < 0:
            raise DataError(f"loss must be at least 0, not {now:g}; add a constant to it")
        self.made += 1
        if now < self.lowest:
            self.best, self.lowest = [core.detach().clone() for core in cores], now
        self.cut = self._stop is not None and self._stop()
        if self.cut or not math.isfinite(now):
            raise _Ended
        self._factor = self._factor or 2.0 ** min(max(-math.frexp(now)[1], 0), _LARGEST)
        (value * self._factor).backward()
        return now * self._factor


def _shown(value: object) -> str:
    """What a loss gave that is no loss."""
    if not isinstance(value, Tensor):
        return f"a value of type {type(value).__name__}"
    if not value.requires_grad:
        return "a tensor without a gradient"
    return f"a tensor of shape {tuple(value.shape)} and dtype {str(value.dtype).removeprefix('torch.')}"
