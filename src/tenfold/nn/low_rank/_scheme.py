"""What every way of training in low rank is: something added to an ordinary training loop."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from tenfold._arguments import real_number
from tenfold._tables import columns
from tenfold.errors import DataError, TenfoldError
from tenfold.nn.low_rank._census import Globs, Refusal, census
from tenfold.nn.low_rank._layer import Shape
from tenfold.nn.placing import place

Closure = Callable[[], Tensor]
_SO = "scheme.step(lambda: loss_fn(model(x), y), optimizer)"
Rank = int | tuple[int, ...]


class Scheme(ABC):
    """Trains layers of a model in low rank, inside a training loop that stays the user's.

        scheme = DLRT(model)
        optimizer = torch.optim.AdamW(model.parameters())
        for epoch in range(epochs):
            for x, y in loader:
                loss = scheme.step(lambda: cross_entropy(model(x), y), optimizer)
            scheme.epoch()
        model = scheme.finish()

    The model is changed in place. Linear maps and convolutions that the method can have are trained in low rank; the
    others are left as they are, with a reason in `left_alone`. The optimizer is made after the scheme, of
    ``model.parameters()``. To go on after an interruption, make model, scheme and optimizer as before and load the
    ``state_dict`` of all three.

    Attributes:
        model: the model.
        left_alone: why, for each linear map and convolution that is not trained in low rank.
    """

    def __init__(
        self,
        model: nn.Module,
        kinds: tuple[type[nn.Module], ...],
        refusal: Refusal,
        *,
        skip: Globs,
        only: Globs | None,
    ) -> None:
        self.model = model
        self._originals, self.left_alone = census(model, kinds, refusal, skip=skip, only=only)
        self._shapes = {name: Shape.of(layer) for name, layer in self._originals.items()}
        self._finished = False

    @property
    @abstractmethod
    def ranks(self) -> dict[str, Rank]:
        """The rank of each layer as it is now."""

    @abstractmethod
    def step(
        self, closure: Closure, optimizer: Optimizer | None = None, *, scaler: torch.amp.GradScaler | None = None
    ) -> Tensor:
        """One step of training.

        Args:
            closure: computes the loss, under autocast if wanted, and does not call ``backward``.
            optimizer: any of ``torch.optim``; its ``zero_grad`` and ``step`` are called here.
            scaler: of losses in half precision; its ``step`` and ``update`` are called here.

        Returns:
            The loss, detached.

        Raises:
            TenfoldError: training was finished, the closure is no function, returns no loss or calls ``backward``, or
                the optimizer cannot be used.
            DataError: loss or gradients are not finite, and there is no scaler to skip the step.
        """

    def epoch(self) -> None:
        """What is done at the end of an epoch; most methods do nothing."""
        self._running()

    @abstractmethod
    def _factored(self, name: str) -> nn.Module:
        """Plain layers in the place of one."""

    @abstractmethod
    def _size(self, name: str) -> int:
        """How many numbers the weight of a layer has, in factors or whole, whichever is less."""

    def finish(self) -> nn.Module:
        """The model with plain layers of ``torch.nn`` in the place of those that were trained, the same function.

        A weight becomes factors where they have fewer numbers, else one matrix. The scheme is of no use afterwards.
        """
        self._running()
        with torch.no_grad(), self._plainly():
            for name in self._originals:
                training = self.model.get_submodule(name).training
                place(self.model, name, self._factored(name).train(training))
        self._finished = True
        return self.model

    def state_dict(self) -> dict[str, Any]:
        """What `model` and the optimizer do not keep, for a checkpoint."""
        return {"method": type(self).__name__, "layers": list(self._originals)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint; load that of the model as well, and before that of the optimizer.

        Raises `TenfoldError` for a state of another method or of other layers.
        """
        own = self.state_dict()
        for what in ("method", "layers"):
            if state.get(what) != own[what]:
                raise TenfoldError(f"state is of {what} {state.get(what)}, this scheme of {own[what]}")

    def __str__(self) -> str:
        rows: list[tuple[object, ...]] = []
        for name, rank in self.ranks.items():
            shape = self._shapes[name]
            before = shape.matrix[0] * shape.matrix[1]
            size = " × ".join(map(str, (shape.outputs, shape.inputs, *shape.kernel)))
            shown = " × ".join(map(str, rank)) if isinstance(rank, tuple) else rank
            rows.append((name, size, shown, f"{self._size(name):,}", f"{before:,}", ""))
        rows += [(name, "", "", "", "", f"left alone: {reason}") for name, reason in self.left_alone.items()]
        return columns(("layer", "weight", "rank", "numbers", "of", ""), rows, right=(2, 3, 4))

    def _running(self) -> None:
        if self._finished:
            raise TenfoldError("training in low rank was finished; make a new scheme to go on")

    def _ready(self, closure: Closure) -> None:
        """Raises `TenfoldError` where training was finished, or something else than a function was given."""
        self._running()
        if not callable(closure):
            raise TenfoldError(f"step takes a function that computes the loss, not a {type(closure).__name__}: {_SO}")

    def _loss(self, closure: Closure, scaler: torch.amp.GradScaler | None) -> Tensor:
        """What the closure returns; raises `TenfoldError` where it is no loss, or its gradients were taken already."""
        before = [(p, p.grad, None if p.grad is None else p.grad._version) for p in self.model.parameters()]
        loss = closure()
        for parameter, gradient, version in before:
            now = parameter.grad
            if now is not None and (now is not gradient or now._version != version):
                raise TenfoldError(f"closure must not call backward, for step does: {_SO}")
        return checked(loss, scaler)

    def _held(self, optimizer: Optimizer | None, parameters: Mapping[str, Sequence[nn.Parameter]]) -> None:
        """Raises `TenfoldError` where a layer's own parameters are not the optimizer's, and would stay as they are."""
        groups = [] if optimizer is None else optimizer.param_groups
        held = {id(parameter) for group in groups for parameter in group["params"]}
        for name, each in parameters.items():
            if not all(id(parameter) in held for parameter in each):
                raise TenfoldError(
                    f"optimizer does not have the weight of layer '{name}': make it of model.parameters(), "
                    f"after {type(self).__name__}"
                )

    def _descend(
        self,
        closure: Closure,
        optimizer: Optimizer | None,
        scaler: torch.amp.GradScaler | None,
        prepare: Callable[[float], None],
    ) -> Tensor:
        """Gradients, ``prepare`` with the factor by which they are too large, and a step of the optimizer."""
        losses: list[Tensor] = []

        def evaluate() -> float:
            if optimizer is not None:
                optimizer.zero_grad()
            with torch.enable_grad():
                loss = self._loss(closure, scaler)
            losses.append(loss.detach())
            (loss if scaler is None else scaler.scale(loss)).backward()
            if scaler is not None and optimizer is not None:
                scaler.unscale_(optimizer)
            # What the optimizer has is unscaled by now, what only the scheme has is not.
            prepare(1.0 if scaler is None else float(scaler.get_scale()))
            return float(loss.detach())

        if optimizer is not None and needs_closure(optimizer):
            if scaler is not None:
                raise TenfoldError(f"scaler cannot be used with {type(optimizer).__name__}: leave it out")
            optimizer.step(evaluate)
            return losses[0]
        evaluate()
        if optimizer is not None:
            if scaler is None:
                optimizer.step()
            else:
                scaler.step(optimizer)
                scaler.update()
        return losses[0]

    @contextmanager
    def _plainly(self) -> Iterator[None]:
        """Full precision for the algebra of factors, though the loop may run under autocast."""
        with torch.autocast("cpu", enabled=False):
            device = next(self.model.parameters(), torch.empty(0)).device.type
            if device == "cpu":
                yield
                return
            with torch.autocast(device, enabled=False):
                yield


@contextmanager
def statistics_kept(model: nn.Module) -> Iterator[None]:
    """A forward pass that leaves the running statistics of batch norms as they are."""
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.training and m.track_running_stats]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True


def kept(values: Tensor, tolerance: float, *, least: int = 1, most: int | None = None) -> int:
    """How many of the largest singular values to keep: what is dropped has at most ``tolerance`` of the norm."""
    tails = values.double().square().flip(0).cumsum(0).flip(0).sqrt()
    rank = int((tails > tolerance * tails[0]).sum())
    rank = max(rank, least)
    return min(rank, len(values), len(values) if most is None else most)


def part(name: str, value: float) -> float:
    """A number from 0 to below 1. Raises `TenfoldError`."""
    number = real_number(name, value, "a number from 0 to below 1")
    if not 0 <= number < 1:
        raise TenfoldError(f"{name} must be a number from 0 to below 1, not {number:g}")
    return number


def rate(name: str, value: float) -> float:
    """A finite number of at least zero. Raises `TenfoldError`."""
    number = real_number(name, value, "a number of at least 0")
    if not 0 <= number < float("inf"):
        raise TenfoldError(f"{name} must be a number of at least 0, not {number:g}")
    return number


def enabled(scaler: torch.amp.GradScaler | None) -> torch.amp.GradScaler | None:
    """None for one that is switched off."""
    return scaler if scaler is not None and scaler.is_enabled() else None


def checked(loss: Any, scaler: torch.amp.GradScaler | None) -> Tensor:
    if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.requires_grad:
        raise TenfoldError(
            f"closure must return the loss, one number that depends on the model, before its backward: {_SO}"
        )
    if scaler is None and not bool(loss.detach().isfinite()):
        raise DataError("the loss is not finite: a smaller learning rate, or other input")
    return loss


def needs_closure(optimizer: Optimizer) -> bool:
    """Whether it evaluates the loss more than once, like L-BFGS."""
    return _closure_required(type(optimizer).step)


@cache
def _closure_required(step: Callable[..., Any]) -> bool:
    closure = inspect.signature(step).parameters.get("closure")
    return closure is not None and closure.default is inspect.Parameter.empty
