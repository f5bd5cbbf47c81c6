"""MACE's symmetric contraction, as its package has it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from e3nn import o3
from mace.modules.symmetric_contraction import SymmetricContraction

from benchmarks.rotations.layout import from_mul_ir, to_mul_ir
from benchmarks.rotations.questions import Question
from benchmarks.rotations.torch_modes import runner

CORRELATION = 3


def prepare(
    question: Question, numbers: dict[str, np.ndarray], variant: str, threads: int
) -> Callable[[], tuple[Any, ...]]:
    """The contraction, for one chemical element; weights are its own, told with the results."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    irreps = o3.Irreps([(question.channels, (degree, (-1) ** degree)) for degree in range(question.degree + 1)])
    global _made
    _made = SymmetricContraction(irreps, irreps, correlation=CORRELATION, num_elements=1).to(question.device)
    for parameter in _made.parameters():
        parameter.requires_grad_(False)
    element = torch.ones(question.rows, 1, device=question.device)
    inputs, directions = (_channels_first(numbers[f"{kind}_features"]) for kind in ("input", "direction"))
    cotangent = torch.from_numpy(_mul_ir(question, numbers["cotangent"]))
    return runner(
        lambda features: _made(features, element), [inputs], cotangent, [directions], question.mode, question.device
    )


def arrays(question: Question, results: tuple[Any, ...]) -> list[np.ndarray]:
    """Results in channels last; after them, for each degree and power, the coupling tensor and its weights."""
    degrees = list(range(question.degree + 1))
    results = tuple(result.detach().cpu() for result in results)
    last = results[-1].numpy() if question.mode != "backward" else None
    found = [result.numpy().swapaxes(1, 2) for result in (results if last is None else results[:-1])]
    if last is not None:
        found.append(from_mul_ir(last, degrees, question.channels))
    for contraction in _made.contractions:
        for power in range(1, CORRELATION + 1):
            coupling = getattr(contraction, f"U_matrix_{power}").cpu().numpy()
            weight = contraction.weights_max if power == CORRELATION else contraction.weights[CORRELATION - 1 - power]
            # A scalar has no axis of components there.
            found.append(coupling if coupling.ndim == power + 2 else coupling[None])
            found.append(weight[0].detach().cpu().numpy())
    return found


def _channels_first(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array.swapaxes(1, 2)))


def _mul_ir(question: Question, array: np.ndarray) -> np.ndarray:
    return to_mul_ir(array, list(range(question.degree + 1)))
