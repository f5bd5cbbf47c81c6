"""A map of elites is fuller, and better, than the map of as many random structures."""

from __future__ import annotations

import math
from contextlib import suppress
from statistics import median

import numpy as np
import torch

from tenfold.claims._progress import steps
from tenfold.claims._registry import Measurement, Number, claim
from tenfold.claims._tensors import photograph
from tenfold.structure_search import Chain, Dense, FullyConnected, Session, Space, Spent, WeightedSum, hypervolume
from tenfold.structure_search.map_elites import Archive, elites, map_elites

_SHARE = 0.8
# 27 x 27 pixels as six modes of three.
_EXTENT, _FOLDED = 27, (3,) * 6
# Errors below this are zero to rounding.
_EXACT = 1e-7


@claim(
    "search_map",
    paper="Illuminating search spaces by mapping elites",
    year=2015,
    where="Section 3, coverage and reliability",
    stated="Breeding from all cells of a map fills more of it, and with better solutions, than random samples do.",
)
def search_map(*, seed: int = 0, seeds: int = 5, evaluations: int = 120) -> Measurement:
    """Search a photograph folded into six modes, all trains and then all graphs, by a map of elites and at random.

    Both are granted as many evaluations, each a fit to the end, and leave out what has more parameters than the data.
    Holds if in both spaces, in eight of ten runs, the map of elites covers more cells than that of random structures,
    and in as many its QD-score, the sum of what its cells explain, is larger. What the elites' sizes and errors beat
    of all that is smaller than the data and better than nothing (an area between logarithms) is told beside.
    """
    data = photograph(_EXTENT).reshape(_FOLDED)
    places: dict[str, Space] = {"trains": Chain(_FOLDED, max_rank=8), "graphs": FullyConnected(_FOLDED, max_rank=4)}
    numbers: dict[str, Number] = {"runs": seeds, "evaluations": evaluations}
    lines, holds = [], True
    for name, space in places.items():
        runs = range(seed, seed + seeds)
        ours = [_bred(data, space, number, evaluations) for number in steps(f"{name}, a map bred,", runs)]
        theirs = [_drawn(data, space, number, evaluations) for number in steps(f"{name}, a map at random,", runs)]
        fuller = sum(len(a) > len(b) for a, b in zip(ours, theirs, strict=True))
        better = sum(a.qd_score > b.qd_score for a, b in zip(ours, theirs, strict=True))
        holds = holds and min(fuller, better) >= _SHARE * seeds
        lines.append(
            f"{name}, {evaluations} evaluations, medians of {seeds} runs: bred {_told(ours)}, at random "
            f"{_told(theirs)}; more cells in {fuller} runs, a larger QD-score in {better}"
        )
        numbers |= {
            f"{name}: coverage": median(one.coverage for one in ours),
            f"{name}: coverage at random": median(one.coverage for one in theirs),
            f"{name}: QD-score": median(one.qd_score for one in ours),
            f"{name}: QD-score at random": median(one.qd_score for one in theirs),
            f"{name}: area beaten": median(map(_beaten, ours)),
            f"{name}: area beaten at random": median(map(_beaten, theirs)),
            f"{name}: fuller": fuller,
            f"{name}: better": better,
        }
    return Measurement(holds, "\n".join(lines), numbers)


def _bred(data: torch.Tensor, space: Space, seed: int, evaluations: int) -> Archive:
    with Session(Dense(data), WeightedSum(data.numel()), seed=seed, evaluations=evaluations) as session:
        with suppress(Spent):
            map_elites(session, space, seed)
        return elites(session.history)


def _drawn(data: torch.Tensor, space: Space, seed: int, evaluations: int) -> Archive:
    generator = np.random.default_rng(seed)
    with Session(Dense(data), WeightedSum(data.numel()), seed=seed, evaluations=evaluations) as session:
        while session.counted < evaluations:
            structure = space.structure(space.random(generator))
            if structure.parameters <= data.numel():
                session.evaluate([structure])
        return elites(session.history)


def _beaten(archive: Archive) -> float:
    points = [(math.log(one.parameters), math.log(max(one.error, _EXACT))) for _, one in archive]
    return hypervolume(points, (math.log(math.prod(_FOLDED)), 0.0))


def _told(maps: list[Archive]) -> str:
    return (
        f"{median(map(len, maps)):g} cells with QD-score {median(one.qd_score for one in maps):.2f}, area "
        f"{median(map(_beaten, maps)):.2f}"
    )
