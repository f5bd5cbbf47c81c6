"""DAIN: neural completion with more cells where observations help most.

What an observation does to the error on what was left out is followed through the training; cells are drawn by it, get
the values that a model predicts, and the networks learn once more with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from tenfold.completion._ensemble import Extra, Networks, Places, Shape, Training, Weights, predictions, train
from tenfold.completion._registry import Callback, find, method
from tenfold.completion.model import Prediction, State
from tenfold.completion.neural import check, settings, shape
from tenfold.completion.task import Task
from tenfold.errors import TenfoldError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class Augmented:
    """What "dain" returns: networks, and what they were shown.

    Attributes:
        networks: trained on observations and added cells.
        importance: of each observation, in the order of the task: what its gradients had in common with those of the
            cells left out, summed over epochs and members. Above zero it lowered the error there.
        entities: of each mode the importance of its levels (knots of a continuous mode); each sums to one.
        cells: coordinates of what was added.
    """

    networks: Networks
    importance: Float[Tensor, " n"]
    entities: tuple[Float[Tensor, " levels"], ...]
    cells: Float[Tensor, "m N"]

    @property
    def errors(self) -> tuple[float, ...]:
        """Of the first training and then of the second."""
        return self.networks.errors

    @property
    def stopped(self) -> str:
        """Why the second training ended."""
        return self.networks.stopped

    @property
    def parameters(self) -> int:
        """Of the networks."""
        return self.networks.parameters

    @property
    def evidence(self) -> float | None:
        """Networks have none."""
        return self.networks.evidence

    def predict(self, coordinates: Float[Tensor, "m N"], attributes: Float[Tensor, "m D"] | None = None) -> Prediction:
        """As of "neural"."""
        return self.networks.predict(coordinates, attributes)

    def plot(self) -> Figure:
        """How important the levels of each mode are."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(3.2 * len(self.entities), 2.6), layout="constrained")
        panels = figure.subplots(1, len(self.entities), squeeze=False)[0]
        for mode, (axes, importance) in enumerate(zip(panels, self.entities, strict=True)):
            axes.fill_between(range(len(importance)), importance.numpy(), step="mid", linewidth=0)
            axes.set_title(f"mode {mode}")
            axes.set_xlabel("knot" if self.networks.shape.continuous[mode] else "level")
            axes.set_ylim(bottom=0)
        panels[0].set_ylabel("importance")
        return figure

    def state(self) -> State:
        """That of the networks with the importances."""
        inner = self.networks.state()
        named = {f"entities{mode}": given for mode, given in enumerate(self.entities)}
        return State({**inner.tensors, **named, "importance": self.importance, "cells": self.cells}, inner.facts)

    @classmethod
    def restore(cls, state: State) -> Augmented:
        """The same again."""
        networks = Networks.restore(state)
        tensors = state.tensors
        entities = tuple(tensors[f"entities{mode}"] for mode in range(len(networks.shape.levels)))
        return cls(networks, tensors["importance"], entities, tensors["cells"])


def entity_importance(
    importance: Float[Tensor, " n"], coordinates: Float[Tensor, "n N"], shape: Shape, *, sign: str = "abs"
) -> tuple[Float[Tensor, " levels"], ...]:
    """Of each mode, the importance of its levels: the sum of that of their cells, as a distribution.

    ``sign`` says what of cells counts: ``"abs"`` their size, ``"positive"`` only what lowered the error. Without any
    importance every cell counts alike. A position of a continuous mode counts for the nearest knot.
    """
    weight = importance.abs() if sign == "abs" else importance.clamp(min=0)
    if not float(weight.sum()) > 0:
        weight = torch.ones_like(weight)
    weight = weight / weight.max()
    found = []
    for mode, (levels, continuous) in enumerate(zip(shape.levels, shape.continuous, strict=True)):
        column = coordinates[:, mode]
        level = (column.clamp(0, 1) * (levels - 1)).round() if continuous else column
        sums = torch.zeros(levels, dtype=torch.float64).index_add_(0, level.long(), weight.double())
        found.append(sums / sums.sum())
    return tuple(found)


def draw(
    entities: tuple[Float[Tensor, " levels"], ...],
    count: int,
    shape: Shape,
    *,
    seed: int,
    apart: Float[Tensor, "n N"] | None = None,
) -> Float[Tensor, "m N"]:
    """Cells, each mode drawn by itself: a level, or a position nearer to the drawn knot than to others.

    With ``apart`` no cell comes twice, and none of these; then there may be fewer than ``count``.
    """
    generator = torch.Generator().manual_seed(seed)
    columns = []
    for levels, continuous, weights in zip(shape.levels, shape.continuous, entities, strict=True):
        # By the distribution function: multinomial takes no more than 2^24 levels.
        steps = weights.cumsum(0)
        uniform = torch.rand(count, generator=generator, dtype=torch.float64) * steps[-1]
        column = torch.searchsorted(steps, uniform, right=True).clamp(max=levels - 1).double()
        if continuous:
            around = torch.rand(count, generator=generator, dtype=torch.float64) - 0.5
            column = ((column + around) / max(levels - 1, 1)).clamp(0, 1)
        columns.append(column)
    cells = torch.stack(columns, 1)
    if apart is None:
        return cells
    _, group = torch.unique(torch.cat([apart, cells]), dim=0, return_inverse=True)
    first = torch.full((int(group.max()) + 1,), len(group)).scatter_reduce_(
        0, group, torch.arange(len(group)), "amin", include_self=True
    )
    fresh = first[group] == torch.arange(len(group))
    return cells[fresh[len(apart) :]]


@method("dain", restore=Augmented.restore, continuous=True, ladder=(None,), automatic=0)
def dain(
    task: Task,
    *,
    rank: int | None = None,
    seed: int = 0,
    epochs: int = 200,
    tol: float = 0.0,
    callback: Callback | None = None,
    resume: State | None = None,
    amount: float = 0.5,
    predictor: str = "network",
    sign: str = "abs",
    dedup: bool = True,
    widths: tuple[int, ...] = (128, 128, 64),
    members: int = 5,
    rate: float = 2e-3,
    batch: int | None = None,
    patience: int = 10,
    validation: float = 0.2,
    knots: int = 64,
) -> Augmented:
    """Neural completion, trained again with predicted cells where observations have most influence.

    Args:
        task: what was observed.
        rank: numbers in the embedding of a level, 16 unless given.
        seed: fixes every random draw.
        epochs: at most, of each of two trainings.
        tol: by how much, relatively, the validation error must fall to count as better.
        callback: called after every epoch of both trainings.
        resume: a state that a callback was given.
        amount: how many cells are drawn, for each observation that a member learns from.
        predictor: where values of drawn cells come from: ``"network"``, each member its own, or the name of another
            method of completion, which is fitted to what each member learns from. So no member hears of what it left
            out, and its validation error stays one.
        sign: ``"abs"`` draws by the size of the influence, ``"positive"`` only by that which lowered the error.
        dedup: leave out drawn cells that were observed, or drawn before. Of continuous modes there are none.
        widths: of the hidden layers.
        members: networks.
        rate: the learning rate of Adam.
        batch: observations in a step, None for a sixteenth of them between 32 and 256.
        patience: epochs without a better validation error after which a member is done.
        validation: the part of the observations that a member leaves out.
        knots: of a continuous mode.

    Returns the networks with the importances and the cells that were added.

    Raises `TenfoldError` for an option out of its range, or a predictor that does not take these modes.

    Cost: twice that of "neural" and a half (more cells the second time); one inner product for each observation and
    epoch besides, and two numbers for each observation and member in memory.
    Paper: "Influence-guided data augmentation for neural tensor completion", 2021.
    """
    check(epochs=epochs, amount=amount)
    if sign not in ("abs", "positive"):
        raise TenfoldError(f"sign '{sign}' must be 'abs' or 'positive'")
    check_predictor(predictor, task)
    chosen = settings(rate, batch, patience, validation)
    form = shape(task, rank, widths, members, knots)

    def progress(training: Training, done: Networks, added: _Added, number: int) -> State:
        shown = Augmented(done, added.importance, added.entities(task, form, sign), added.cells).state()
        return State({**training.tensors(), **shown.tensors, **added.tensors()}, {**shown.facts, "training": number})

    if resume is None or resume.facts["training"] == 1:
        first = Training(task, form, chosen, seed=seed)
        if resume is not None:
            first.load(resume.tensors)

        def first_state() -> State:
            added = _Added(first.best_influence.sum(0), task.coordinates[:0], torch.zeros(members, 0), ())
            return progress(first, Networks.of(first.finish(), form, first.scale), added, 1)

        trained = train(first, epochs=epochs, tol=tol, callback=callback, state=first_state, of=2 * epochs)
        importance = trained.influence.sum(0)
        count = max(1, round(amount * first.learned.shape[1]))
        apart = task.coordinates if dedup and task.discrete else None
        entities = entity_importance(importance, task.coordinates, form, sign=sign)
        cells = draw(entities, count, form, seed=seed, apart=apart)
        added = _Added(importance, cells, _values(predictor, task, first, trained.weights, cells, seed), trained.errors)
    else:
        added = _Added.restore(resume.tensors)
    extra = Extra(Places.of(added.cells, form), added.values)
    second = Training(task, form, chosen, seed=seed, extra=extra)
    if resume is not None and resume.facts["training"] == 2:
        second.load(resume.tensors)

    def second_state() -> State:
        return progress(second, Networks.of(second.finish(), form, second.scale, added.before), added, 2)

    done = len(added.before)
    trained = train(second, epochs=epochs, tol=tol, callback=callback, state=second_state, before=done, of=2 * epochs)
    networks = Networks.of(trained, form, second.scale, added.before)
    return Augmented(networks, added.importance, added.entities(task, form, sign), added.cells)


@dataclass(frozen=True, eq=False)
class _Added:
    """What the first training leaves to the second: importances, cells with the values of each member, its errors."""

    importance: Float[Tensor, " n"]
    cells: Float[Tensor, "m N"]
    values: Float[Tensor, "members m"]
    before: tuple[float, ...]

    def entities(self, task: Task, shape: Shape, sign: str) -> tuple[Float[Tensor, " levels"], ...]:
        return entity_importance(self.importance, task.coordinates, shape, sign=sign)

    def tensors(self) -> dict[str, Tensor]:
        before = torch.tensor(self.before, dtype=torch.float64)
        return {"importance": self.importance, "cells": self.cells, "values": self.values, "before": before}

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor]) -> _Added:
        return cls(tensors["importance"], tensors["cells"], tensors["values"], tuple(tensors["before"].tolist()))


def check_predictor(name: str, task: Task) -> None:
    """Raise `TenfoldError` unless ``name`` is "network" or a method that takes the modes and values of ``task``."""
    if name == "network":
        return
    entry = find(name)
    if entry.counts:
        raise TenfoldError(f"predictor '{name}' is a method of counts; give 'network' or a method of other values")
    if not (task.discrete or entry.continuous):
        raise TenfoldError(f"predictor '{name}' takes no continuous modes; give 'network' or a method that does")
    if entry.orders is not None and task.order not in entry.orders:
        raise TenfoldError(f"predictor '{name}' takes {entry.orders} modes, not {task.order}; give 'network'")


def _values(
    predictor: str, task: Task, training: Training, weights: Weights, cells: Float[Tensor, "m N"], seed: int
) -> Float[Tensor, "members m"]:
    """The values of cells for each member, as its networks see values; from nothing that it left out."""
    shape = training.shape
    if predictor == "network":
        return predictions(weights, Places.of(cells, shape), shape)
    fit = find(predictor).function
    means = [fit(task.rows(rows), seed=seed).predict(cells).mean for rows in training.learned]
    return training.scale.apply(torch.stack(means))
