"""sphericart's spherical harmonics on torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import sphericart.torch
import torch

from benchmarks.rotations.questions import Question
from benchmarks.rotations.torch_modes import runner


def prepare(
    question: Question, numbers: dict[str, np.ndarray], variant: str, threads: int
) -> Callable[[], tuple[Any, ...]]:
    """Harmonics of directions; its axes are named otherwise, so results are turned to those of e3nn when compared."""
    if question.work != "harmonics":
        raise NotImplementedError(f"sphericart has harmonics, not '{question.work}'")
    torch.set_num_threads(threads)
    harmonics = sphericart.torch.SphericalHarmonics(question.degree)
    inputs, directions = (torch.from_numpy(_turned(numbers[f"{kind}_vectors"])) for kind in ("input", "direction"))
    scale = (4 * torch.pi) ** 0.5
    # The factor to e3nn's normalisation is not part of the work: it goes to the cotangent and to the results.
    cotangent = torch.from_numpy(numbers["cotangent"]) * scale
    return runner(harmonics, [inputs], cotangent, [directions], question.mode)


def arrays(question: Question, results: tuple[Any, ...]) -> list[np.ndarray]:
    """Results with e3nn's axes and normalisation."""
    found = [result.detach().numpy() for result in results]
    if question.mode == "forward":
        return [found[0] * (4 * np.pi) ** 0.5]
    back = [found[0][:, [1, 2, 0]]]
    return [*back, *(array * (4 * np.pi) ** 0.5 for array in found[1:])]


def _turned(vectors: np.ndarray) -> np.ndarray:
    """Its x, y and z are e3nn's z, x and y."""
    return np.ascontiguousarray(vectors[:, [2, 0, 1]])
