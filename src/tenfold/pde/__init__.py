"""Equations: from a partial differential equation and its boundary values to a function."""

from __future__ import annotations

from tenfold.pde.collocation import collocation
from tenfold.pde.outcome import Outcome, Step
from tenfold.pde.problem import Problem, read, samples
from tenfold.pde.process import GridProcess, Peaks

__all__ = ["GridProcess", "Outcome", "Peaks", "Problem", "Step", "collocation", "read", "samples"]
