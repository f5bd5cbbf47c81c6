"""Calling a model by code that is not ours, so that neither batches nor modes of modules are others afterwards."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tenfold.compression.outputs import Forward, forward


def to_evaluation(model: nn.Module) -> None:
    """Every module in evaluation mode again, whatever the code that was called left behind."""
    if any(module.training for module in model.modules()):
        model.eval()


class Careful:
    """A way to call a model that keeps batches as they are, also where the model changes its input in place.

    While it is `watching`, the model is given copies and they are looked at afterwards; else copies are given only
    where a model changed one.
    """

    def __init__(self, function: Forward) -> None:
        self.function = function
        self.watching, self.changes = True, False

    def __call__(self, model: nn.Module, batch: Any) -> Any:
        """What the function gives."""
        given = _copied(batch) if self.watching or self.changes else batch
        made = self.function(model, given)
        if self.function is not forward:
            to_evaluation(model)
        if self.watching and not self.changes:
            own, seen = list(_arrays(batch, set())), list(_arrays(given, set()))
            self.changes = len(own) != len(seen) or not all(map(_same, own, seen))
        return made


def _copied(batch: Any) -> Any:
    # The memo says which copies there are: those of tensors alone would be of all that they are views of.
    memo: dict[int, Any] = {}
    for one in _arrays(batch, set()):
        if isinstance(one, Tensor):
            memo[id(one)] = one.detach().clone().requires_grad_(one.requires_grad)
    try:
        return copy.deepcopy(batch, memo)
    except Exception:  # a batch that holds what has no copy
        return batch


def _arrays(batch: Any, met: set[int]) -> Iterator[Tensor | np.ndarray]:
    """All arrays in a batch, each once, however it is nested."""
    if id(batch) in met:
        return
    met.add(id(batch))
    if isinstance(batch, Tensor | np.ndarray):
        yield batch
    elif isinstance(batch, Mapping):
        for value in batch.values():
            yield from _arrays(value, met)
    elif isinstance(batch, tuple | list):
        for value in batch:
            yield from _arrays(value, met)
    elif hasattr(batch, "__dict__") and not isinstance(batch, type | nn.Module):
        for value in vars(batch).values():
            if isinstance(value, Tensor | np.ndarray | Mapping | tuple | list):
                yield from _arrays(value, met)


def _same(mine: Tensor | np.ndarray, other: Tensor | np.ndarray) -> bool:
    if mine is other:
        return True
    try:
        if isinstance(mine, Tensor) and isinstance(other, Tensor):
            return torch.equal(mine, other)
        return bool(np.array_equal(mine, other))
    except (RuntimeError, TypeError):  # on another device, or of a layout that is not compared: taken for changed
        return False
