"""Ordered dropout of ranks: factors whose leading columns are by themselves the best approximation of their rank."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Optimizer

from tenfold.errors import TenfoldError
from tenfold.nn.low_rank._census import Globs, factors_pay, of_each
from tenfold.nn.low_rank._layer import CONVOLUTIONS, Shape, parameters_of
from tenfold.nn.low_rank._scheme import Closure, Rank, Scheme, enabled, needs_closure, part, rate
from tenfold.nn.placing import place


class Maestro(Scheme):
    """Trains weights as ``U V^T``, at each step with one layer cut to its leading columns, layer and width drawn anew.

    So columns become ordered by what they contribute, and a trained layer can be cut at any width. A hierarchical
    group lasso, ``penalty`` times the norms of all tails ``U[:, b:]`` and ``V[:, b:]``, drives those that contribute
    nothing to zero; `epoch` drops them from the factors.

    Factors are parameters of the model: the optimizer must have them, so make it after the scheme. Where `epoch`
    narrows them, what the optimizer keeps of each is narrowed too.

    Args:
        model: its layers are replaced in place, by factors from the SVD of the weights they have.
        penalty: weight of the group lasso.
        tolerance: relative error of a weight, in the Frobenius norm, that dropping columns may make in an epoch.
        rank: width to begin with, of all layers or by name; by default the smaller side of the weight.
        whole: whether the loss at full width is added to that of the width that was drawn, at twice the cost.
        seed: of the draws.
        skip: names of layers to leave alone, with ``*``.
        only: names of the layers to train in low rank, by default all.

    Raises:
        TenfoldError: there is no layer that can be trained in low rank, or an argument is out of its range.

    Cost: a step is that of a network with these factors; no decomposition while training.
    Paper: "Maestro: Uncovering Low-Rank Structures via Trainable Decomposition", 2024.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        penalty: float = 1e-4,
        tolerance: float = 0.01,
        rank: int | Mapping[str, int] | None = None,
        whole: bool = False,
        seed: int = 0,
        skip: Globs = (),
        only: Globs | None = None,
    ) -> None:
        super().__init__(model, (nn.Linear, *CONVOLUTIONS), factors_pay, skip=skip, only=only)
        self._penalty, self._tolerance, self._whole = rate("penalty", penalty), part("tolerance", tolerance), whole
        self._generator = torch.Generator().manual_seed(seed)
        self._optimizer: Optimizer | None = None
        # Pairs of layer and width that this round has still to draw, the next one last.
        self._round: list[tuple[str, int]] = []
        start = of_each("rank", rank, self._originals)
        self._layers: dict[str, _Ordered] = {}
        with torch.no_grad(), self._plainly():
            for name, layer in self._originals.items():
                shape, (weight, bias) = self._shapes[name], parameters_of(layer)
                left, values, right = torch.linalg.svd(weight.reshape(shape.matrix), full_matrices=False)
                width = min(start.get(name, len(values)), len(values))
                root = values[:width].sqrt()
                made = _Ordered(shape, left[:, :width] * root, right[:width].T * root, bias)
                self._layers[name] = made.train(layer.training)
        for name, made in self._layers.items():
            place(model, name, made)

    @property
    def ranks(self) -> dict[str, Rank]:
        return {name: layer.rank for name, layer in self._layers.items()}

    def step(
        self, closure: Closure, optimizer: Optimizer | None = None, *, scaler: torch.amp.GradScaler | None = None
    ) -> Tensor:
        self._ready(closure)
        scaler = enabled(scaler)
        self._held(optimizer, {name: [layer.left, layer.right] for name, layer in self._layers.items()})
        self._optimizer = optimizer
        drawn = self._draw()

        def cut() -> Tensor:
            with self._cut(drawn):
                loss = closure()
            return loss + closure() if self._whole else loss

        def prepare(_: float) -> None:
            if not self._penalty:
                return
            with torch.no_grad(), self._plainly():
                for layer in self._layers.values():
                    for factor in (layer.left, layer.right):
                        if factor.grad is not None:
                            factor.grad.add_(tails_gradient(factor), alpha=self._penalty)

        return self._descend(cut, optimizer, scaler, prepare)

    def epoch(self) -> None:
        """Drop trailing columns from each layer as long as its weight changes by no more than ``tolerance``."""
        self._running()
        with torch.no_grad(), self._plainly():
            for layer in self._layers.values():
                errors = layer.errors()
                width = max(1, int((errors > self._tolerance * errors[0]).sum()))
                if width < layer.rank:
                    self._followed(layer)
                    self._narrow(layer, width)
        self._round = [(name, width) for name, width in self._round if width <= self._layers[name].rank]

    def truncated(self, ranks: int | Mapping[str, int]) -> nn.Module:
        """A copy of the model in plain layers, cut at these ranks, of all layers or by name; training can go on.

        Raises `TenfoldError` for a layer that is not trained in low rank, or a rank below 1.
        """
        self._running()
        wanted = of_each("ranks", ranks, self._layers)
        with torch.no_grad(), self._plainly():
            copy = deepcopy(self.model)
            for name in self._layers:
                layer = copy.get_submodule(name)
                assert isinstance(layer, _Ordered)
                place(copy, name, layer.plain(wanted.get(name, layer.rank)).train(layer.training))
        return copy

    def _draw(self) -> dict[str, int]:
        """One layer and its width: each pair once in a round, in random order."""
        if not self._round:
            pairs = [(name, width) for name, layer in self._layers.items() for width in range(1, layer.rank + 1)]
            order = torch.randperm(len(pairs), generator=self._generator).tolist()
            self._round = [pairs[number] for number in order]
        name, width = self._round.pop()
        return {name: width}

    @contextmanager
    def _cut(self, widths: Mapping[str, int]) -> Iterator[None]:
        for name, width in widths.items():
            self._layers[name].width = width
        try:
            yield
        finally:
            for name in widths:
                self._layers[name].width = None

    def _followed(self, layer: _Ordered) -> None:
        """Raises `TenfoldError` if the optimizer cannot go on with narrower factors."""
        optimizer = self._optimizer
        if optimizer is None:
            return
        tensors = [
            (value, factor)
            for factor in (layer.left, layer.right)
            for value in optimizer.state.get(factor, {}).values()
            if isinstance(value, Tensor) and value.ndim
        ]
        if needs_closure(optimizer) or any(value.shape != factor.shape for value, factor in tensors):
            raise TenfoldError(
                f"optimizer {type(optimizer).__name__} keeps numbers of other shapes than its parameters, so that it "
                "cannot follow a change of rank: leave out epoch(), or take one like Adam or SGD"
            )

    def _narrow(self, layer: _Ordered, width: int) -> None:
        for factor in (layer.left, layer.right):
            kept = {} if self._optimizer is None else self._optimizer.state.get(factor, {})
            for key, value in kept.items():
                if isinstance(value, Tensor) and value.ndim:
                    kept[key] = value[:, :width].clone()
            factor.grad = None
            factor.data = factor.data[:, :width].clone()

    def _factored(self, name: str) -> nn.Module:
        layer = self._layers[name]
        return layer.plain(layer.rank)

    def _size(self, name: str) -> int:
        rows, columns = self._shapes[name].matrix
        return min(self._layers[name].rank * (rows + columns), rows * columns)

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"round": list(self._round), "generator": self._generator.get_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._round = [(name, width) for name, width in state["round"]]
        self._generator.set_state(state["generator"])


class _Ordered(nn.Module):
    """``left [out, R] @ right [in * kernel, R].T``, of which a step may use the leading columns only.

    Attributes:
        width: how many columns are used; None for all.
    """

    def __init__(self, shape: Shape, left: Tensor, right: Tensor, bias: nn.Parameter | None) -> None:
        super().__init__()
        self.shape = shape
        self.left = nn.Parameter(left.contiguous())
        self.right = nn.Parameter(right.contiguous())
        self.bias = bias
        self.width: int | None = None

    @property
    def rank(self) -> int:
        return self.left.shape[1]

    @property
    def weight(self) -> Tensor:
        """The dense weight, computed: for code that looks at it."""
        return (self.left @ self.right.T).reshape(self.shape.outputs, self.shape.inputs, *self.shape.kernel)

    def forward(self, features: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """As the dense layer does it."""
        left, right = self.left[:, : self.width], self.right[:, : self.width]
        return self.shape.out_of(self.shape.into(features, right), left, self.bias)

    def errors(self) -> Float[Tensor, "R"]:
        """The norm of what is lost of the weight when columns from each on are dropped, the first being all of it."""
        left, right = self.left.double(), self.right.double()
        both = (left.T @ left) * (right.T @ right)
        return both.flip(0, 1).cumsum(0).cumsum(1).diagonal().flip(0).clamp(min=0).sqrt()

    def plain(self, rank: int) -> nn.Module:
        return self.shape.chain(self.left[:, :rank], self.right[:, :rank], self.bias)

    def _load_from_state_dict(self, state: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        # A checkpoint has the ranks of its time; these are not part of the layer's shape.
        saved = state.get(f"{prefix}left")
        if isinstance(saved, Tensor) and saved.ndim == 2:
            for factor in (self.left, self.right):
                factor.data = factor.data.new_empty(len(factor), saved.shape[1])
        super()._load_from_state_dict(state, prefix, *rest)

    def extra_repr(self) -> str:
        """Sizes and rank."""
        size = ", ".join(map(str, (self.shape.inputs, self.shape.outputs, *self.shape.kernel)))
        return f"{size}, rank={self.rank}, bias={self.bias is not None}"


def tails_gradient(factor: Float[Tensor, "n R"]) -> Float[Tensor, "n R"]:
    """The gradient of the sum over b of the norm of ``factor[:, b:]``; zero along tails that are zero."""
    tails = factor.square().sum(0).flip(0).cumsum(0).flip(0).sqrt()
    inverse = torch.where(tails > 0, 1 / tails, torch.zeros_like(tails))
    return factor * inverse.cumsum(0)
