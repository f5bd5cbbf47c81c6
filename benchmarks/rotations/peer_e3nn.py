"""e3nn on torch, as it is and compiled; every result back in channels last."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import e3nn
import numpy as np
import torch
from e3nn import o3

from benchmarks.rotations.layout import from_mul_ir, to_mul_ir
from benchmarks.rotations.questions import Question, filter_scale, gaunt_factor, natural, sorted_paths
from benchmarks.rotations.torch_modes import runner


def prepare(
    question: Question, numbers: dict[str, np.ndarray], variant: str, threads: int
) -> Callable[[], tuple[Any, ...]]:
    """The work as e3nn does it; ``"compiled"`` by torch.compile, else with the compiler that e3nn uses itself."""
    torch.set_num_threads(threads)
    if variant == "compiled":
        e3nn.set_optimization_defaults(jit_script_fx=False)
    function = _function(question, numbers)
    if isinstance(function, torch.nn.Module):
        function = function.to(question.device)
    if variant == "compiled":
        function = torch.compile(function, fullgraph=True)
    names = [name.removeprefix("input_") for name in numbers if name.startswith("input_")]
    inputs = [torch.from_numpy(_to(question, name, numbers[f"input_{name}"])) for name in names]
    directions = [torch.from_numpy(_to(question, name, numbers[f"direction_{name}"])) for name in names]
    cotangent = torch.from_numpy(_to(question, "result", numbers["cotangent"]))
    return runner(function, inputs, cotangent, directions, question.mode, question.device)


def arrays(question: Question, results: tuple[Any, ...]) -> list[np.ndarray]:
    """Results in channels last."""
    names = {
        "full": ["left", "right"],
        "summed": ["left", "right"],
        "edges": ["features", "vectors", "weight"],
        "filter": ["features", "vectors", "weight"],
        "harmonics": ["vectors"],
    }[question.work]
    kinds = ["result"] if question.mode == "forward" else [*names, "result"][: len(results)]
    return [_back(question, kind, array.detach().cpu().numpy()) for kind, array in zip(kinds, results, strict=True)]


def _blocks(question: Question, name: str) -> list[int] | None:
    """The degrees of blocks with channels; None for what has none, or none that e3nn turns round."""
    if name in ("vectors", "weight") or question.work == "harmonics":
        return None
    if name == "result" and question.work in ("full", "edges"):
        return [path[2] for path in _paths(question)]
    return list(range(question.degree + 1))


def _paths(question: Question) -> list[tuple[int, int, int]]:
    if question.work == "full":
        return sorted_paths(question.degree, question.degree, question.degree)
    if question.work == "summed":
        return natural(sorted_paths(question.degree, question.degree, question.degree))
    return natural(sorted_paths(question.degree, question.filter_degree, question.degree))


def _to(question: Question, name: str, array: np.ndarray) -> np.ndarray:
    blocks = _blocks(question, name)
    if blocks is not None:
        return to_mul_ir(array, blocks)
    return array.reshape(len(array), -1)


def _back(question: Question, name: str, array: np.ndarray) -> np.ndarray:
    blocks = _blocks(question, name)
    if blocks is not None:
        return from_mul_ir(array, blocks, question.channels)
    return array.reshape(len(array), -1, question.channels) if name == "weight" else array


def _function(question: Question, numbers: dict[str, np.ndarray]) -> Callable[..., torch.Tensor]:
    q, c = question, question.channels
    features = o3.Irreps([(c, (degree, (-1) ** degree)) for degree in range(q.degree + 1)])
    if q.work == "harmonics":
        return o3.SphericalHarmonics(o3.Irreps.spherical_harmonics(q.degree), True, "component")
    paths = _paths(q)
    if q.work == "full":
        out = o3.Irreps([(c, (l3, (-1) ** (l1 + l2))) for l1, l2, l3 in paths])
        steps = [(l1, l2, number, "uuu", False) for number, (l1, l2, _) in enumerate(paths)]
        return o3.TensorProduct(features, features, out, steps, path_normalization="path")
    if q.work == "summed":
        # e3nn's own factor of a path is taken back: what remains are the coefficients of Gaunt integrals.
        product = o3.TensorProduct(
            features,
            features,
            features,
            [(l1, l2, l3, "uuu", False, gaunt_factor(l1, l2, l3) ** 2 * _among(paths, l3)) for l1, l2, l3 in paths],
            path_normalization="path",
            irrep_normalization="none",
        )
        return product
    source, target = (torch.from_numpy(numbers[name]).to(q.device) for name in ("source", "target"))
    harmonics = o3.Irreps.spherical_harmonics(q.filter_degree)
    if q.work == "edges":
        out = o3.Irreps([(c, (l3, (-1) ** (l1 + l2))) for l1, l2, l3 in paths])
        steps = [(l1, l2, number, "uvu", True) for number, (l1, l2, _) in enumerate(paths)]
        product = o3.TensorProduct(features, harmonics, out, steps, shared_weights=False, internal_weights=False)
        product = product.to(q.device)
        directions = o3.SphericalHarmonics(harmonics, True, "component").to(q.device)

        def edges(x: torch.Tensor, vectors: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
            along = directions(vectors)
            messages = product(x[source], along, weight)
            return messages.new_zeros(q.rows, messages.shape[1]).index_add(0, target, messages)

        return edges
    filters = o3.Irreps([(c, ir) for _, ir in harmonics])
    product = o3.TensorProduct(
        features,
        filters,
        features,
        [
            (l1, l2, l3, "uuu", False, (gaunt_factor(l1, l2, l3) * filter_scale(q, l3)) ** 2 * _among(paths, l3))
            for l1, l2, l3 in paths
        ],
        path_normalization="path",
        irrep_normalization="none",
    ).to(q.device)

    directions = o3.SphericalHarmonics(harmonics, True, "integral").to(q.device)

    def filtered(x: torch.Tensor, vectors: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        along = directions(vectors)
        weights = weight.view(len(weight), q.filter_degree + 1, c)
        made = [
            (weights[:, n, :, None] * along[:, None, n * n : (n + 1) ** 2]).flatten(1)
            for n in range(q.filter_degree + 1)
        ]
        messages = product(x[source], torch.cat(made, dim=1), None)
        return messages.new_zeros(q.rows, messages.shape[1]).index_add(0, target, messages)

    return filtered


def _among(paths: list[tuple[int, int, int]], degree: int) -> int:
    """How many paths lead to a degree: e3nn divides by it."""
    return sum(path[2] == degree for path in paths)
