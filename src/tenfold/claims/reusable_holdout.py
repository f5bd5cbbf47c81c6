"""A classifier chosen with the held-out data in view: they overfit, unless they are asked through Thresholdout."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from tenfold.claims._registry import Measurement, Number, claim
from tenfold.structure_search.reusable_holdout import ReusableHoldout

# Attributes with a signal, where there is one, and its size in standard deviations of a measured correlation.
_USEFUL, _STRENGTH = 20, 6.0
_FRESH = 20_000

Floats = NDArray[np.float64]
Ask = Callable[[float, float], float]
# What the plain way is off by at least, and Thresholdout at most.
_FOOLED, _WITHIN = 0.05, 0.02


@claim(
    "reusable_holdout",
    paper="Generalization in adaptive data analysis and holdout reuse",
    year=2015,
    where="the algorithm Thresholdout and its experiment on attributes of no and of some use",
    stated=(
        "Attributes chosen by their correlations on training and held-out data make a classifier that looks good on "
        "both and is worth nothing; asked through Thresholdout, the held-out data keep telling its true accuracy, and "
        "useful attributes are still found."
    ),
)
def reusable_holdout(*, seed: int = 0, repeats: int = 10, points: int = 2000) -> Measurement:
    """Choose 10 to 200 of ``points`` normal attributes, on as many training and as many held-out points.

    Labels are independent of all attributes, or 20 of these have a mean of six standard errors with the sign of the
    label. An attribute is a candidate if its correlation has one sign, and is at least a standard error, on both sets;
    the largest ones vote. Thresholdout has a threshold of four standard errors and noise of an eighth of one. Averages
    are over ``repeats`` draws, the truth is the accuracy on 20 000 fresh points.

    Holds if, on labels without a signal, the plain held-out accuracy is above the truth by more than 5 points
    somewhere, the one that Thresholdout tells is everywhere within 2 points of it, with and without a signal, and with
    one its best true accuracy is at most 2 points below that of the plain way. (Two points are less than the threshold,
    which is all that the method promises for so few data.)
    """
    error = 1 / math.sqrt(points)
    threshold = 4 * error
    sizes = [size for size in (10, 20, 50, 100, 200) if size <= points // 4]
    lines: list[str] = []
    numbers: dict[str, Number] = {"threshold": threshold}
    off: dict[tuple[str, str], float] = {}
    best: dict[tuple[str, str], float] = {}
    for kind, useful in (("no signal", 0), ("a signal", min(_USEFUL, points))):
        told = {way: np.zeros((repeats, len(sizes))) for way in ("plain", "thresholdout")}
        true = {way: np.zeros((repeats, len(sizes))) for way in ("plain", "thresholdout")}
        for repeat in range(repeats):
            generator = np.random.default_rng([seed, repeat, useful])
            training, held_out = (_drawn(points, points, useful, generator) for _ in range(2))
            careful = ReusableHoldout(threshold=threshold, noise=error / 8, budget=points, seed=seed + repeat)
            ways: dict[str, Ask] = {"plain": lambda _, held: held, "thresholdout": careful.ask}
            for way, ask in ways.items():
                told[way][repeat], votes = _chosen(training, held_out, ask, sizes)
                true[way][repeat] = [_true_accuracy(vote, useful, points, generator) for vote in votes]
        for way in told:
            apart = told[way].mean(0) - true[way].mean(0)
            off[kind, way] = float(apart[np.abs(apart).argmax()])
            best[kind, way] = float(true[way].mean(0).max())
            numbers[f"{kind}, {way}: told minus true"] = off[kind, way]
            numbers[f"{kind}, {way}: best true accuracy"] = best[kind, way]
            lines.append(
                f"{kind}, {way}: told {told[way].mean(0).max():.3f} at most, in truth {best[kind, way]:.3f}; "
                f"{off[kind, way]:+.3f} where they are furthest apart"
            )
    holds = (
        off["no signal", "plain"] > _FOOLED
        and all(abs(off[kind, "thresholdout"]) <= _WITHIN for kind in ("no signal", "a signal"))
        and best["a signal", "thresholdout"] >= best["a signal", "plain"] - _WITHIN
    )
    return Measurement(holds, "\n".join([f"threshold {threshold:.3f}", *lines]), numbers)


def _drawn(points: int, attributes: int, useful: int, generator: np.random.Generator) -> tuple[Floats, Floats]:
    """Attributes (points x attributes) and labels of plus and minus one."""
    labels = generator.choice([-1.0, 1.0], points)
    values = generator.standard_normal((points, attributes))
    values[:, :useful] += _STRENGTH / math.sqrt(attributes) * labels[:, None]
    return values, labels


def _chosen(
    training: tuple[Floats, Floats], held_out: tuple[Floats, Floats], ask: Ask, sizes: Sequence[int]
) -> tuple[list[float], list[Floats]]:
    """For each number of attributes the accuracy that is told, and the votes: signs for some, zero for the others."""
    correlations, unseen = (labels @ values / len(labels) for values, labels in (training, held_out))
    answers = np.array([ask(float(a), float(b)) for a, b in zip(correlations, unseen, strict=True)])
    error = 1 / math.sqrt(len(training[1]))
    candidate = (correlations * answers > 0) & (np.abs(correlations) >= error) & (np.abs(answers) >= error)
    order = np.argsort(-np.where(candidate, np.abs(correlations), 0.0))
    told, votes = [], []
    for size in sizes:
        taken = order[: min(size, int(candidate.sum()))]
        vote = np.zeros(len(correlations))
        vote[taken] = np.sign(correlations[taken])
        seen, held = (float(np.mean(values @ vote * labels > 0)) for values, labels in (training, held_out))
        told.append(ask(seen, held))
        votes.append(vote)
    return told, votes


def _true_accuracy(vote: Floats, useful: int, attributes: int, generator: np.random.Generator) -> float:
    """On fresh points: only what the votes add up to is drawn, a normal number around the signal's part of it."""
    mean = _STRENGTH / math.sqrt(attributes) * float(vote[:useful].sum())
    spread = math.sqrt(float(np.square(vote).sum()))
    return float(np.mean(mean + spread * generator.standard_normal(_FRESH) > 0))
