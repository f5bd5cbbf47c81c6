"""Two passes a step: gradients along the bases widen them, then the core descends in the wider bases."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from tenfold.errors import DataError
from tenfold.nn.low_rank._census import Globs, Refusal
from tenfold.nn.low_rank._layer import Shape
from tenfold.nn.low_rank._scheme import Closure, Rank, Scheme, enabled, rate, statistics_kept
from tenfold.nn.placing import place


class FactoredLayer(nn.Module):
    """A layer whose weight is a core between orthonormal bases. They are buffers: no optimizer has them.

    Attributes:
        shape: what the dense layer was.
        core: the core.
        bias: that of the dense layer.
    """

    core: Tensor

    def __init__(self, shape: Shape, core: Tensor, bias: nn.Parameter | None) -> None:
        super().__init__()
        self.shape = shape
        self.bias = bias
        self.register_buffer("core", core)
        # What a pass differentiates by, while it runs.
        self._along: tuple[Tensor, ...] = ()
        self._inner: Tensor | None = None

    @property
    @abstractmethod
    def rank(self) -> Rank:
        """The rank, or one for each mode."""

    @abstractmethod
    def open_bases(self) -> tuple[Tensor, ...]:
        """Leaves whose gradients are those along the bases."""

    @abstractmethod
    def widen(self, gradients: Sequence[Tensor], step: float | None) -> None:
        """New bases, the core re-expressed in them: twice as wide, or as wide as before after a ``step`` of descent."""

    @abstractmethod
    def truncate(self, tolerance: float) -> None:
        """Drop what is not needed for a relative error of the weight."""

    @abstractmethod
    def to_dense(self) -> Tensor:
        """The weight as the dense layer had it."""

    @abstractmethod
    def plain(self) -> nn.Module:
        """Plain layers, the same function."""

    @abstractmethod
    def size(self) -> int:
        """How many numbers the plain layers' weights will have."""

    @property
    def weight(self) -> Tensor:
        """The dense weight, computed: for code that looks at it."""
        return self.to_dense()

    def begin_bases(self) -> tuple[Tensor, ...]:
        self._along = tuple(leaf.detach().requires_grad_() for leaf in self.open_bases())
        return self._along

    def begin_core(self) -> Tensor:
        self._inner = self.core.detach().requires_grad_()
        return self._inner

    def end(self) -> None:
        """No pass is running."""
        self._along, self._inner = (), None

    def descend(self, gradient: Tensor, lr: float) -> None:
        self.core = self.core - lr * gradient

    def _load_from_state_dict(self, state: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        # A checkpoint has the ranks of its time; these are not part of the layer's shape.
        for name, buffer in self._buffers.items():
            saved = state.get(prefix + name)
            if buffer is not None and isinstance(saved, Tensor) and saved.ndim == buffer.ndim:
                self._buffers[name] = buffer.new_empty(saved.shape)
        super()._load_from_state_dict(state, prefix, *rest)

    def extra_repr(self) -> str:
        """Sizes and ranks."""
        size = ", ".join(map(str, (self.shape.inputs, self.shape.outputs, *self.shape.kernel)))
        return f"{size}, rank={self.rank}, bias={self.bias is not None}"


class Integrator(Scheme):
    """The steps that matrices and Tucker tensors have in common; a method says which layers, and how they are made.

    Attributes:
        lr: learning rate of the factors; may be changed at any time, as a schedule does.
        fixed_bases: whether only cores are trained from now on, in one pass a step and with the ranks they have.
    """

    def __init__(
        self,
        model: nn.Module,
        kinds: tuple[type[nn.Module], ...],
        refusal: Refusal,
        *,
        lr: float,
        tolerance: float | None,
        skip: Globs,
        only: Globs | None,
    ) -> None:
        self.lr = rate("lr", lr)
        self.tolerance = tolerance
        self.fixed_bases = False
        super().__init__(model, kinds, refusal, skip=skip, only=only)
        self._layers: dict[str, FactoredLayer] = {}

    @abstractmethod
    def _made(self, name: str, layer: nn.Module) -> FactoredLayer:
        """The layer in factors."""

    def _replace_all(self) -> None:
        with torch.no_grad(), self._plainly():
            made = {name: self._made(name, layer) for name, layer in self._originals.items()}
        for name, layer in made.items():
            layer.train(self._originals[name].training)
            place(self.model, name, layer)
        self._layers = made

    @property
    def ranks(self) -> dict[str, Rank]:
        return {name: layer.rank for name, layer in self._layers.items()}

    def step(
        self, closure: Closure, optimizer: Optimizer | None = None, *, scaler: torch.amp.GradScaler | None = None
    ) -> Tensor:
        self._ready(closure)
        scaler = enabled(scaler)
        moved = [] if self.fixed_bases else self._move_bases(closure, scaler)
        gradients: dict[str, Tensor] = {}

        def prepare(scale: float) -> None:
            if not gradients:  # of the first evaluation, if the optimizer wants several
                found = {name: layer._inner.grad for name, layer in self._layers.items() if layer._inner is not None}
                gradients.update({name: grad / scale for name, grad in found.items() if grad is not None})

        for layer in self._layers.values():
            layer.begin_core()
        try:
            loss = self._descend(closure, optimizer, scaler, prepare)
        finally:
            for layer in self._layers.values():
                layer.end()
        with torch.no_grad(), self._plainly():
            for name, gradient in gradients.items():
                if _finite(name, gradient, scaler):
                    self._layers[name].descend(gradient, self.lr)
            if self.tolerance is not None:
                for name in moved:
                    self._layers[name].truncate(self.tolerance)
        return loss

    def _move_bases(self, closure: Closure, scaler: torch.amp.GradScaler | None) -> list[str]:
        with torch.no_grad(), self._plainly():
            leaves = {name: layer.begin_bases() for name, layer in self._layers.items()}
        try:
            with statistics_kept(self.model), torch.enable_grad():
                loss = self._loss(closure, scaler)
                if scaler is not None:
                    loss = scaler.scale(loss)
            flat = [leaf for each in leaves.values() for leaf in each]
            found = list(torch.autograd.grad(loss, flat, allow_unused=True))
        finally:
            for layer in self._layers.values():
                layer.end()
        scale = 1.0 if scaler is None else float(scaler.get_scale())
        step = self.lr if self.tolerance is None else None
        moved = []
        with torch.no_grad(), self._plainly():
            for name, each in leaves.items():
                own, found = found[: len(each)], found[len(each) :]
                # A layer that this pass did not come through has no gradient, and stays.
                if any(gradient is None for gradient in own):
                    continue
                own = [gradient / scale for gradient in own]
                if all(_finite(name, gradient, scaler) for gradient in own):
                    self._layers[name].widen(own, step)
                    moved.append(name)
        return moved

    def _factored(self, name: str) -> nn.Module:
        return self._layers[name].plain()

    def _size(self, name: str) -> int:
        return self._layers[name].size()

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"lr": self.lr, "fixed_bases": self.fixed_bases}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self.lr, self.fixed_bases = state["lr"], state["fixed_bases"]


def widened(basis: Tensor, gradient: Tensor) -> Tensor:
    """An orthonormal basis of both, whose first columns span ``basis``.

    ``basis`` times any matrix minus any multiple of the gradient is in its span, so the learning rate does not matter.
    """
    return orthonormal(torch.cat([basis, gradient], dim=1))


def orthonormal(matrix: Tensor) -> Tensor:
    """An orthonormal basis of the columns, laid out row by row, as it comes out of a checkpoint."""
    return torch.linalg.qr(matrix).Q.contiguous()


def _finite(name: str, gradient: Tensor, scaler: torch.amp.GradScaler | None) -> bool:
    if bool(gradient.isfinite().all()):
        return True
    if scaler is None:
        raise DataError(f"the gradient of layer '{name}' is not finite: a smaller lr, or other input")
    return False
