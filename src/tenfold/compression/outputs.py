"""What a model says, as numbers that can be compared."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tenfold.errors import TenfoldError

Forward = Callable[[nn.Module, Any], Any]


def forward(model: nn.Module, batch: Any) -> Any:
    """A mapping is given as keyword arguments; of a tuple or list, the first is the input and the rest are labels."""
    if isinstance(batch, Mapping):
        return model(**batch)
    if isinstance(batch, tuple | list):
        return model(batch[0])
    return model(batch)


def as_tensors(batch: Any, model: nn.Module) -> Any:
    """The batch with tensors for NumPy arrays, those of floating point in the precision of the model."""
    if isinstance(batch, Mapping):
        return {key: as_tensors(value, model) for key, value in batch.items()} if _has_arrays(batch.values()) else batch
    if isinstance(batch, tuple | list):
        return [as_tensors(value, model) for value in batch] if _has_arrays(batch) else batch
    if not isinstance(batch, np.ndarray) or batch.dtype.kind not in "biufc":
        return batch
    made = torch.tensor(np.ascontiguousarray(batch))
    if made.is_floating_point():
        made = made.to(next((p.dtype for p in model.parameters() if p.is_floating_point()), made.dtype))
    return made


def _has_arrays(values: Iterable[Any]) -> bool:
    return any(isinstance(value, np.ndarray) for value in values)


def numbers(output: Any) -> list[Tensor]:
    """All floating-point tensors in an output, however it is nested; complex ones as pairs of real numbers.

    Raises:
        TenfoldError: there is none.
    """
    found = list(_tensors(output))
    if not found:
        raise TenfoldError(
            f"the output, a {type(output).__name__}, holds no floating-point tensor: the model, or forward= where it "
            "is given, must return a tensor, or a list, mapping or dataclass of tensors"
        )
    return found


def _tensors(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        if output.is_floating_point():
            yield output
        elif output.is_complex():
            yield torch.view_as_real(output.resolve_conj())
    elif isinstance(output, Mapping):
        for value in output.values():
            yield from _tensors(value)
    elif isinstance(output, Sequence) and not isinstance(output, str):
        for value in output:
            yield from _tensors(value)
    elif is_dataclass(output) and not isinstance(output, type):
        for field in fields(output):
            yield from _tensors(getattr(output, field.name))


def outputs(model: nn.Module, batches: Sequence[Any], forward: Forward) -> list[list[Tensor]]:
    """What the model says of each batch; without gradients."""
    with torch.no_grad():
        return [[tensor.clone() for tensor in numbers(forward(model, batch))] for batch in batches]


def difference(
    model: nn.Module, batches: Sequence[Any], reference: Sequence[Sequence[Tensor]], forward: Forward
) -> float:
    """``||f(x) - g(x)||^2 / ||g(x)||^2`` over all batches; ``reference`` is ``g(x)``; inf where f is not finite."""
    over = under = 0.0
    with torch.no_grad():
        for batch, known in zip(batches, reference, strict=True):
            for mine, theirs in zip(numbers(forward(model, batch)), known, strict=True):
                over += float((mine.double() - theirs.double()).square().sum())
                under += float(theirs.double().square().sum())
    if over != over:
        return float("inf")
    return over / under if under > 0 else (0.0 if over == 0 else float("inf"))
