"""A trained model in, a smaller and measurably faster one out: what may take the place of each layer, and who gets how
much of the budget. A method is a file of its own."""

from __future__ import annotations

from tenfold.compression._registry import Candidate, Entry, Method, find, method, methods
from tenfold.compression.allocation import allocate, allocate_jointly, spent, uniform
from tenfold.compression.careful import Careful, to_evaluation
from tenfold.compression.census import Census, LeftAlone, Site, census, size_of
from tenfold.compression.distillation import distil
from tenfold.compression.latency import seconds, seconds_inside
from tenfold.compression.moments import Call, Moments, calls, collect
from tenfold.compression.outputs import Forward, as_tensors, difference, forward, outputs
from tenfold.compression.pricing import Choice, NotReplaceable, flops_of, price, weigh
from tenfold.compression.swapping import check_copies, every_layer_runs, reached_from_copies, replaced, swapped

__all__ = [
    "Call",
    "Candidate",
    "Careful",
    "Census",
    "Choice",
    "Entry",
    "Forward",
    "LeftAlone",
    "Method",
    "Moments",
    "NotReplaceable",
    "Site",
    "allocate",
    "allocate_jointly",
    "as_tensors",
    "calls",
    "census",
    "check_copies",
    "collect",
    "difference",
    "distil",
    "every_layer_runs",
    "find",
    "flops_of",
    "forward",
    "method",
    "methods",
    "outputs",
    "price",
    "reached_from_copies",
    "replaced",
    "seconds",
    "seconds_inside",
    "size_of",
    "spent",
    "swapped",
    "to_evaluation",
    "uniform",
    "weigh",
]
