"""Completion by networks that see an embedding of each mode."""

from __future__ import annotations

from tenfold.completion._ensemble import Networks, Settings, Shape, Training, train
from tenfold.completion._registry import Callback, method
from tenfold.completion.model import State
from tenfold.completion.task import Task
from tenfold.errors import TenfoldError


def check(**positive: float) -> None:
    """Raise `TenfoldError` for the first that is not above zero."""
    for name, given in positive.items():
        if not given > 0:
            raise TenfoldError(f"{name} {given} must be positive")


def settings(rate: float, batch: int | None, patience: int, validation: float) -> Settings:
    """Raises `TenfoldError` for what cannot be trained with."""
    check(rate=rate, batch=1 if batch is None else batch, patience=patience)
    if not 0 < validation < 1:
        raise TenfoldError(f"validation {validation} must lie between 0 and 1")
    return Settings(rate, batch, patience, validation)


def shape(task: Task, rank: int | None, widths: tuple[int, ...], members: int, knots: int) -> Shape:
    """Raises `TenfoldError` for a network without numbers."""
    rank = 16 if rank is None else rank
    check(rank=rank, members=members, knots=knots)
    if not widths or min(widths) < 1:
        raise TenfoldError(f"widths {widths} must be one or more positive numbers")
    return Shape.of(task, embedding=rank, widths=tuple(widths), members=members, knots=knots)


@method("neural", restore=Networks.restore, continuous=True, ladder=(None,))
def neural(
    task: Task,
    *,
    rank: int | None = None,
    seed: int = 0,
    epochs: int = 200,
    tol: float = 0.0,
    callback: Callback | None = None,
    resume: State | None = None,
    widths: tuple[int, ...] = (128, 128, 64),
    members: int = 5,
    rate: float = 2e-3,
    batch: int | None = None,
    patience: int = 10,
    validation: float = 0.2,
    knots: int = 64,
) -> Networks:
    """Embeddings of all modes through a perceptron, several of them, each stopped early on what it left out.

    Args:
        task: what was observed.
        rank: numbers in the embedding of a level, 16 unless given.
        seed: fixes what is left out, the start and the order of batches.
        epochs: at most.
        tol: by how much, relatively, the validation error must fall to count as better.
        callback: called after every epoch.
        resume: a state that a callback was given.
        widths: of the hidden layers.
        members: networks; the mean of them predicts, the variance between them is the variance of the prediction.
        rate: the learning rate of Adam.
        batch: observations in a step, None for a sixteenth of them between 32 and 256.
        patience: epochs without a better validation error after which a member is done.
        validation: the part of the observations that a member leaves out, drawn anew for each.
        knots: of a continuous mode, evenly spaced; between them embeddings are interpolated linearly, beyond the ends
            they are those of the ends. As a knot is what a level is, continuous modes have importances like others.

    Returns the networks. The noise is chosen so that noise and variance together are the mean square error on what
    was left out.

    Raises `TenfoldError` for an option out of its range.

    Cost: 6 flops an epoch for each observation, member and weight of the perceptron, in float32, and Adam on all
    numbers in every step: a mode of millions of levels is slow.
    Paper: "CoSTCo: a neural tensor completion model for sparse tensors", 2019, with a perceptron for its convolutions.
    """
    check(epochs=epochs)
    training = Training(
        task,
        shape(task, rank, widths, members, knots),
        settings(rate, batch, patience, validation),
        seed=seed,
    )

    def state() -> State:
        model = Networks.of(training.finish(), training.shape, training.scale).state()
        return State({**training.tensors(), **model.tensors}, model.facts)

    if resume is not None:
        training.load(resume.tensors)
    trained = train(training, epochs=epochs, tol=tol, callback=callback, state=state)
    return Networks.of(trained, training.shape, training.scale)
