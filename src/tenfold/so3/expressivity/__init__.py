"""What geometric networks can tell apart: pairs of structures that differ by as little as there can be.

suite = tn.so3.expressivity.suite(features_of)   # features_of(positions, edges, centre) -> invariants
print(suite)
"""

from __future__ import annotations

from tenfold.so3.expressivity.runner import FeaturesOf, Outcome, Suite, difference, separates, suite
from tenfold.so3.expressivity.structures import (
    Geometry,
    Pair,
    chains,
    chiral,
    chiral_in_fours,
    controls,
    four_body,
    pairs,
    shells,
    three_body,
    two_body,
)

__all__ = [
    "FeaturesOf",
    "Geometry",
    "Outcome",
    "Pair",
    "Suite",
    "chains",
    "chiral",
    "chiral_in_fours",
    "controls",
    "difference",
    "four_body",
    "pairs",
    "separates",
    "shells",
    "suite",
    "three_body",
    "two_body",
]
