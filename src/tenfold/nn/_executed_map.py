"""Linear layers that choose how they are applied."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor

from tenfold.nn._execution import Cores, Execution
from tenfold.nn._linear_map import LinearMap


class ExecutedMap(LinearMap):
    """A linear layer with several ways to apply its matrix, which are in ``_execution``."""

    _execution: Execution

    @abstractmethod
    def _tensors(self) -> Cores:
        """The tensors that the matrix is made of."""

    def _times(self, rows: Float[Tensor, "batch in_features"]) -> Float[Tensor, "batch out_features"]:
        return self._run(rows, None)

    def _mapped(self, rows: Float[Tensor, "batch in_features"]) -> Float[Tensor, "batch out_features"]:
        return self._run(rows, self.bias).contiguous()

    def forward(self, x: Float[Tensor, "*batch in_features"]) -> Float[Tensor, "*batch out_features"]:
        """Raises `DataError` where the last axis is not of ``in_features``."""
        shape = x.shape
        if len(shape) == 2 and shape[1] == self.in_features:
            made = self._run(x, self.bias)
            return made if made.is_contiguous() else made.contiguous()
        return super().forward(x)

    def _run(self, rows: Tensor, bias: Tensor | None) -> Tensor:
        if torch.compiler.is_compiling():
            return self._execution.by_rule(self._tensors(), rows, bias)
        return self._execution(self._tensors(), rows, bias)

    def train(self, mode: bool = True) -> Self:
        """As of any module; what was kept of the cores is forgotten."""
        self._execution.forget()
        return super().train(mode)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # Torch may swap a parameter for its successor, if nobody else holds it.
        self._execution.forget()
        return super()._apply(fn, recurse)

    def to_dense(self) -> Float[Tensor, "out_features in_features"]:
        """The matrix, in full; gradients flow to its parameters."""
        return self._execution.dense(self._tensors())
