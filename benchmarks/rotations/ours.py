"""The same work by tenfold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.rotations.questions import Question
from benchmarks.rotations.torch_modes import runner
from tenfold.so3 import (
    ClebschGordan,
    ClebschGordanConvolution,
    GauntConvolution,
    GauntGrid,
    Irreps,
    SymmetricContraction,
    spherical_harmonics,
)


def prepare(
    question: Question, numbers: dict[str, np.ndarray], told: Sequence[np.ndarray] = ()
) -> tuple[Callable[[], tuple[Any, ...]], list[np.ndarray]]:
    """What is timed, and its results in channels last.

    Args:
        told: for contractions, what MACE says of its own: coupling tensors and weights, by degree and power.
    """
    function = _WORKS[question.work](question, numbers, told)
    names = [name.removeprefix("input_") for name in numbers if name.startswith("input_")]
    inputs = [_flat(question, name, numbers[f"input_{name}"]) for name in names]
    directions = [_flat(question, name, numbers[f"direction_{name}"]) for name in names]
    run = runner(
        function, inputs, _flat(question, "result", numbers["cotangent"]), directions, question.mode, question.device
    )
    for _ in range(2):
        run()
    found = [result.detach().cpu().numpy() for result in run()]
    shapes = [numbers[f"input_{name}"].shape for name in names]
    shapes = [numbers["cotangent"].shape] if question.mode == "forward" else [*shapes, numbers["cotangent"].shape]
    return run, [array.reshape(shape) for array, shape in zip(found, shapes[: len(found)], strict=True)]


def moved(question: Question, numbers: dict[str, np.ndarray]) -> int:
    """Bytes that are read and written if everything given and asked for passes once.

    Derivatives read the inputs and the cotangent, and write as much as the inputs; second ones read the directions too
    and write as much as inputs and cotangent.
    """
    given = sum(array.nbytes for name, array in numbers.items() if name.startswith("input_"))
    result = numbers["cotangent"].nbytes
    return {"forward": given + result, "backward": 2 * given + result, "double": 3 * given + 2 * result}[question.mode]


def _flat(question: Question, name: str, array: np.ndarray) -> Tensor:
    """Channels last is our ``"ir_mul"``, block by block or as a whole."""
    return torch.from_numpy(array.reshape(len(array), -1))


def _features(question: Question) -> Irreps:
    return Irreps([(question.channels, (degree, (-1) ** degree)) for degree in range(question.degree + 1)])


def _kept(question: Question, parities: tuple[int, ...]) -> Irreps:
    degrees = range(question.degree + 1)
    return Irreps([(1, (degree, sign * (-1) ** degree)) for degree in degrees for sign in parities])


def _full(question: Question, numbers: dict[str, np.ndarray], told: Sequence[np.ndarray]) -> Callable[..., Tensor]:
    features = _features(question)
    return ClebschGordan.separate(features, features, _kept(question, (1, -1)), layout="ir_mul")


def _summed(question: Question, numbers: dict[str, np.ndarray], told: Sequence[np.ndarray]) -> Callable[..., Tensor]:
    features = _features(question)
    return GauntGrid(features, features, features, layout="ir_mul", normalization="integral")


def _edges(question: Question, numbers: dict[str, np.ndarray], told: Sequence[np.ndarray]) -> Callable[..., Tensor]:
    features, kept = _features(question), _kept(question, (1,))
    made = ClebschGordanConvolution(features, question.filter_degree, kept, layout="ir_mul")
    source, target = (torch.from_numpy(numbers[name]).to(question.device) for name in ("source", "target"))
    return lambda x, vectors, weight: made(x, vectors, weight, source=source, target=target)


def _filter(question: Question, numbers: dict[str, np.ndarray], told: Sequence[np.ndarray]) -> Callable[..., Tensor]:
    features = _features(question)
    made = GauntConvolution(features, question.filter_degree, features, layout="ir_mul")
    source, target = (torch.from_numpy(numbers[name]).to(question.device) for name in ("source", "target"))
    return lambda x, vectors, weight: made(x, vectors, weight, source=source, target=target)


def _contraction(
    question: Question, numbers: dict[str, np.ndarray], told: Sequence[np.ndarray]
) -> Callable[..., Tensor]:
    features = _features(question)
    made = SymmetricContraction(features, features, 3, layout="ir_mul")
    parts = []
    for number in range(0, len(told), 2):
        coupling, weight = (torch.from_numpy(array).double() for array in told[number : number + 2])
        parts.append(made.change_of_basis(number // 6, coupling).T @ weight)
    weights = torch.cat([part.flatten() for part in parts]).float() if parts else made.random_weight()
    weights = weights.to(question.device)
    return lambda x: made(x, weights)


def _harmonics(question: Question, numbers: dict[str, np.ndarray], told: Sequence[np.ndarray]) -> Callable[..., Tensor]:
    degrees = range(question.degree + 1)
    return lambda vectors: spherical_harmonics(degrees, vectors, normalization="component")


_WORKS = {
    "full": _full,
    "summed": _summed,
    "edges": _edges,
    "filter": _filter,
    "contraction": _contraction,
    "harmonics": _harmonics,
}
