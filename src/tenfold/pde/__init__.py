"""Equations: from a partial differential equation and its boundary values to a function.

from tenfold import pde

problem = pde.read("sample:poisson_sin100")     # or a YAML file, or a mapping
found = pde.collocation(problem)                # or pde.gp_hm(problem, steps=10_000)
found.process.on([problem.axes[0].grid(1000)])
"""

from __future__ import annotations

from tenfold.pde._methods import Entry, find, methods
from tenfold.pde.collocation import collocation
from tenfold.pde.gp_hm import gp_hm
from tenfold.pde.outcome import Callback, Outcome, Step
from tenfold.pde.problem import Axis, Problem, Side, read, samples
from tenfold.pde.process import GridProcess, Peaks

__all__ = [
    "Axis",
    "Callback",
    "Entry",
    "GridProcess",
    "Outcome",
    "Peaks",
    "Problem",
    "Side",
    "Step",
    "collocation",
    "find",
    "gp_hm",
    "methods",
    "read",
    "samples",
]
