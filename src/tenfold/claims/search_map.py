"""A map of elites is fuller, and better, than the map of as many random structures."""

from __future__ import annotations

from contextlib import suppress
from statistics import median

import numpy as np
import torch

from tenfold.claims._registry import Measurement, claim
from tenfold.claims._tensors import photograph
from tenfold.structure_search import Chain, Dense, Session, Spent, WeightedSum
from tenfold.structure_search.map_elites import Archive, elites, map_elites

_SHARE = 0.8


@claim(
    "search_map",
    paper="Illuminating search spaces by mapping elites",
    year=2015,
    where="Section 3, coverage and reliability",
    stated="Breeding from all cells of a map fills more of it, and with better solutions, than sampling at random does.",
)
def search_map(*, seed: int = 0, seeds: int = 5, evaluations: int = 160) -> Measurement:
    """Search trains of a photograph folded into six modes of four, with ranks and order free, by both.

    Both are granted as many evaluations, each a fit to the end, and leave out what has more parameters than the data.
    Holds if in eight of ten runs the map of elites covers more cells than that of random structures and its
    QD-score, the sum of what its cells explain, is larger.
    """
    data = photograph(64).reshape((4,) * 6)
    space = Chain((4,) * 6, max_rank=16)
    ours, theirs = [], []
    for number in range(seed, seed + seeds):
        ours.append(_bred(data, space, number, evaluations))
        theirs.append(_drawn(data, space, number, evaluations))
    fuller = sum(a.coverage > b.coverage for a, b in zip(ours, theirs, strict=True))
    better = sum(a.qd_score > b.qd_score for a, b in zip(ours, theirs, strict=True))
    text = (
        f"with {evaluations} evaluations, median of {seeds} runs: {_told(ours)}; random structures {_told(theirs)}; "
        f"more cells in {fuller} runs, a larger QD-score in {better}"
    )
    numbers = {
        "runs": seeds,
        "evaluations": evaluations,
        "coverage": median(one.coverage for one in ours),
        "random_coverage": median(one.coverage for one in theirs),
        "qd_score": median(one.qd_score for one in ours),
        "random_qd_score": median(one.qd_score for one in theirs),
        "fuller": fuller,
        "better": better,
    }
    return Measurement(min(fuller, better) >= _SHARE * seeds, text, numbers)


def _bred(data: torch.Tensor, space: Chain, seed: int, evaluations: int) -> Archive:
    with Session(Dense(data), WeightedSum(data.numel()), seed=seed, evaluations=evaluations) as session:
        with suppress(Spent):
            map_elites(session, space, seed)
        return elites(session.history)


def _drawn(data: torch.Tensor, space: Chain, seed: int, evaluations: int) -> Archive:
    generator = np.random.default_rng(seed)
    with Session(Dense(data), WeightedSum(data.numel()), seed=seed, evaluations=evaluations) as session:
        while session.counted < evaluations:
            structure = space.structure(space.random(generator))
            if structure.parameters <= data.numel():
                session.evaluate([structure])
        return elites(session.history)


def _told(maps: list[Archive]) -> str:
    return f"{median(map(len, maps)):g} cells, QD-score {median(one.qd_score for one in maps):.2f}"
