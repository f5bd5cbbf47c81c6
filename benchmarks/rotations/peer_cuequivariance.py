"""cuEquivariance: its polynomial of segments; on a processor by the only method that it has there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cuequivariance as cue
import cuequivariance_torch as cuet
import numpy as np
import torch

from benchmarks.rotations.questions import Question, natural, sorted_paths
from benchmarks.rotations.torch_modes import runner


def prepare(
    question: Question, numbers: dict[str, np.ndarray], variant: str, threads: int
) -> Callable[[], tuple[Any, ...]]:
    """The work as cuEquivariance does it; ``"compiled"`` by torch.compile."""
    torch.set_num_threads(threads)
    function = _function(question, numbers)
    if variant == "compiled":
        function = torch.compile(function)
    names = [name.removeprefix("input_") for name in numbers if name.startswith("input_")]
    inputs = [_flat(name, numbers[f"input_{name}"]) for name in names]
    directions = [_flat(name, numbers[f"direction_{name}"]) for name in names]
    return runner(function, inputs, _flat("result", numbers["cotangent"]), directions, question.mode, question.device)


def arrays(question: Question, results: tuple[Any, ...]) -> list[np.ndarray]:
    """Results in channels last, which is its own layout."""
    found = []
    for array in results:
        plain = array.detach().cpu().numpy()
        found.append(plain if plain.shape[-1] == 3 else plain.reshape(len(plain), -1, question.channels))
    return found


def _flat(name: str, array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array if name == "vectors" else array.reshape(len(array), -1))


def _coupling(l1: int, l2: int, l3: int) -> np.ndarray:
    """Of norm ``sqrt(2 l3 + 1)``: the same basis and signs as e3nn's."""
    first, second, third = (cue.O3(degree, (-1) ** degree) for degree in (l1, l2, l3))
    natural_third = cue.O3(l3, first.p * second.p)
    table = cue.clebsch_gordan(first, second, natural_third)[0]
    return table / np.linalg.norm(table) * np.sqrt(third.dim)


def _function(question: Question, numbers: dict[str, np.ndarray]) -> Callable[..., torch.Tensor]:
    q, c = question, question.channels
    degrees = range(q.degree + 1)
    method = "naive" if q.device == "cpu" else "uniform_1d"
    if q.work == "full":
        made = cue.SegmentedTensorProduct.from_subscripts("iu,ju,ku+ijk")
        for operand in (0, 1):
            for degree in degrees:
                made.add_segment(operand, (2 * degree + 1, c))
        for number, (l1, l2, l3) in enumerate(sorted_paths(q.degree, q.degree, q.degree)):
            made.add_segment(2, (2 * l3 + 1, c))
            made.add_path(l1, l2, number, c=_coupling(l1, l2, l3))
        product = cuet.SegmentedPolynomial(cue.SegmentedPolynomial.eval_last_operand(made), method=method).to(q.device)
        return lambda left, right: product([left, right])[0]
    if q.work != "edges":
        raise NotImplementedError(f"cuEquivariance has no such product as '{q.work}'")
    made = cue.SegmentedTensorProduct.from_subscripts("u,iu,j,ku+ijk")
    paths = natural(sorted_paths(q.degree, q.filter_degree, q.degree))
    for degree in degrees:
        made.add_segment(1, (2 * degree + 1, c))
    for degree in range(q.filter_degree + 1):
        made.add_segment(2, (2 * degree + 1,))
    for number, (l1, l2, l3) in enumerate(paths):
        made.add_segment(0, (c,))
        made.add_segment(3, (2 * l3 + 1, c))
        made.add_path(number, l1, l2, number, c=_coupling(l1, l2, l3))
    product = cuet.SegmentedPolynomial(cue.SegmentedPolynomial.eval_last_operand(made), method=method).to(q.device)
    along = cuet.SegmentedPolynomial(
        cue.descriptors.spherical_harmonics(cue.SO3(1), list(range(q.filter_degree + 1))).polynomial, method=method
    ).to(q.device)
    source, target = (torch.from_numpy(numbers[name]).to(q.device) for name in ("source", "target"))
    rows = torch.empty(q.rows, 1, device=q.device)

    def edges(features: torch.Tensor, vectors: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        filters = along([torch.nn.functional.normalize(vectors, dim=-1)])[0]
        return product([weight, features, filters], {1: source}, {0: rows}, {0: target})[0]

    return edges
