"""What is timed: the work, its size, and the numbers that every library is given."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

MODES = ("forward", "backward", "double")


@dataclass(frozen=True)
class Question:
    """One piece of work for every library.

    Attributes:
        work: ``"full"``, every path of two features kept apart; ``"summed"``, added up by degree with the coefficients
            of Gaunt integrals; ``"edges"``, features along edges, each path and channel with a weight for each edge,
            gathered from nodes and added up at nodes; ``"filter"``, the same with weights by degree of the filter only
            and Gaunt's coefficients, scaled by `filter_scale`; ``"contraction"``, products of a feature with itself;
            ``"harmonics"``.
        degree: of features, and of what comes out.
        filter_degree: of the spherical harmonics along edges.
        channels: of features.
        rows: of features; nodes where there are edges.
        edges: how many.
        mode: values; values and first derivatives; or the derivatives of a function of first derivatives too.
        device: where torch computes.
    """

    work: str
    degree: int
    channels: int = 64
    rows: int = 1000
    edges: int = 0
    filter_degree: int = 0
    mode: str = "forward"
    device: str = "cpu"

    @property
    def label(self) -> str:
        """The size, as people write it."""
        edges = f", {self.edges} edges" if self.edges else ""
        return f"{self.work} L={self.degree}, {self.rows} x {self.channels}{edges}, {self.mode}"

    def as_json(self) -> dict[str, Any]:
        """What another process is told."""
        return asdict(self)


def triples(first: int, second: int, out: int) -> Iterator[tuple[int, int, int]]:
    """All paths of natural parity or not, in the order in which both loops run."""
    for l1 in range(first + 1):
        for l2 in range(second + 1):
            for l3 in range(abs(l1 - l2), min(l1 + l2, out) + 1):
                yield l1, l2, l3


def sorted_paths(first: int, second: int, out: int) -> list[tuple[int, int, int]]:
    """The paths as libraries sort them: by degree, then odd before even, then in their order."""
    return sorted(triples(first, second, out), key=lambda t: (t[2], (-1) ** (t[0] + t[1])))


def natural(paths: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Those whose degrees have an even sum."""
    return [path for path in paths if sum(path) % 2 == 0]


def numbers(question: Question, seed: int = 0) -> dict[str, np.ndarray]:
    """The inputs, a cotangent of the result and a direction for each input, channels last, in single precision."""
    generator = np.random.default_rng(seed)

    def normal(*shape: int) -> np.ndarray:
        return generator.standard_normal(shape).astype(np.float32)

    q, components = question, (question.degree + 1) ** 2
    inputs: dict[str, np.ndarray]
    if q.work in ("full", "summed"):
        paths = sorted_paths(q.degree, q.degree, q.degree)
        out = sum(2 * path[2] + 1 for path in paths) if q.work == "full" else components
        inputs = {"left": normal(q.rows, components, q.channels), "right": normal(q.rows, components, q.channels)}
        result = normal(q.rows, out, q.channels)
    elif q.work in ("edges", "filter"):
        inputs = {"features": normal(q.rows, components, q.channels), "vectors": normal(q.edges, 3)}
        if q.work == "edges":
            paths = natural(sorted_paths(q.degree, q.filter_degree, q.degree))
            inputs["weight"] = normal(q.edges, len(paths), q.channels)
            result = normal(q.rows, sum(2 * path[2] + 1 for path in paths), q.channels)
        else:
            inputs["weight"] = normal(q.edges, q.filter_degree + 1, q.channels)
            result = normal(q.rows, components, q.channels)
    elif q.work == "contraction":
        inputs = {"features": normal(q.rows, components, q.channels)}
        result = normal(q.rows, components, q.channels)
    elif q.work == "harmonics":
        inputs = {"vectors": normal(q.rows, 3)}
        result = normal(q.rows, components)
    else:
        raise ValueError(f"no such work: {q.work}")
    made = {f"input_{name}": value for name, value in inputs.items()}
    made |= {f"direction_{name}": normal(*value.shape) for name, value in inputs.items()}
    made["cotangent"] = result
    if q.edges:
        made["source"] = generator.integers(0, q.rows, q.edges)
        made["target"] = generator.integers(0, q.rows, q.edges)
    return made


def gaunt_factor(l1: int, l2: int, l3: int) -> float:
    """The integral of three harmonics, in units of their 3j coefficients of norm one; for even sums of degrees."""
    half = (l1 + l2 + l3) // 2
    f = math.factorial
    square = f(2 * half - 2 * l1) * f(2 * half - 2 * l2) * f(2 * half - 2 * l3) / f(2 * half + 1)
    symbol = math.sqrt(square) * f(half) / (f(half - l1) * f(half - l2) * f(half - l3))
    return math.sqrt((2 * l1 + 1) * (2 * l2 + 1) * (2 * l3 + 1) / (4 * math.pi)) * symbol


def filter_scale(question: Question, degree: int) -> float:
    """What gives messages of a degree the variance of features, for independent weights of variance one."""
    paths = natural(sorted_paths(question.degree, question.filter_degree, question.degree))
    square = sum(gaunt_factor(*path) ** 2 for path in paths if path[2] == degree)
    return math.sqrt(4 * math.pi * (2 * degree + 1) / square)
