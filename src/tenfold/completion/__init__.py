"""Completion: from what was observed of a tensor to all of it, with uncertainty.

A method is a function in a file of its own that takes a `Task` and returns a `Model`, which predicts anywhere.
"""

from __future__ import annotations

from tenfold.completion._registry import Callback, Entry, Method, Step, find, method, methods
from tenfold.completion.model import Model, Prediction, State
from tenfold.completion.task import Task

__all__ = [
    "Callback",
    "Entry",
    "Method",
    "Model",
    "Prediction",
    "State",
    "Step",
    "Task",
    "find",
    "method",
    "methods",
]
