"""Trained networks and real data on which compression is measured, one file each."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import Any, Protocol, cast

from torch import nn

NAMES = ("minilm", "crepe", "digits_cnn")


class Task(Protocol):
    """What each module here has.

    ``calibration`` and ``finetuning`` share nothing with the data of ``metric``. A batch is what `tenfold.compress`
    takes as one: a dictionary of arguments, a tensor, or a pair (input, label).
    """

    TITLE: str

    @staticmethod
    def missing() -> str:
        """Which package or data is not here; empty if all are."""

    @staticmethod
    def model() -> nn.Module:
        """A fresh copy of the trained network, in evaluation mode."""

    @staticmethod
    def example() -> Any:
        """One batch, of which latency is measured."""

    @staticmethod
    def calibration() -> Iterable[Any]:
        """A few hundred real inputs."""

    @staticmethod
    def finetuning() -> Iterable[Any]:
        """Some thousand real inputs; ``calibration`` is a part of them."""

    @staticmethod
    def metrics(model: nn.Module) -> dict[str, float]:
        """All figures on held-out real data; the first is what ``metric`` gives."""

    @staticmethod
    def metric(model: nn.Module) -> float:
        """The network's own metric on held-out real data, between 0 and 1, higher is better."""


def task(name: str) -> Task:
    """One of `NAMES`."""
    return cast(Task, importlib.import_module(f"benchmarks.compress_tasks.{name}"))
