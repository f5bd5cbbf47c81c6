"""Structure unknown: which topology, which ranks, which order of modes."""

from __future__ import annotations

from tenfold._tree_ranks import choose_ranks
from tenfold.structure_search._guard import Guard
from tenfold.structure_search._registry import SearcherEntry, find_searcher, searcher, searchers
from tenfold.structure_search.alternating import rank_trials
from tenfold.structure_search.core_shapes import CoreShape, core_shape, core_shapes
from tenfold.structure_search.held_out import as_whole, leaves_out, listed_size, observed_trials
from tenfold.structure_search.ladder import climb
from tenfold.structure_search.map_elites import Archive, elites
from tenfold.structure_search.objectives import ErrorWithin, Objective, SizeWithin, WeightedSum
from tenfold.structure_search.pareto import front, hypervolume, knee
from tenfold.structure_search.refined_core_shape import refined_core_shape
from tenfold.structure_search.reusable_holdout import ReusableHoldout
from tenfold.structure_search.rre_greedy import rre_greedy
from tenfold.structure_search.session import Evaluation, Session, Spent
from tenfold.structure_search.spaces import (
    AnyGraph,
    Chain,
    FullyConnected,
    Point,
    Ring,
    Space,
    Tree,
    Tucker,
    folded,
    spaces,
)
from tenfold.structure_search.spectra import bond_spectra, mode_spectra
from tenfold.structure_search.targets import Dense, Loss, Observed, Target
from tenfold.structure_search.tree_shapes import TreeShape, tree_shape
from tenfold.structure_search.trees import tree_trials
from tenfold.structure_search.trials import Budget, Trial

__all__ = [
    "AnyGraph",
    "Archive",
    "Budget",
    "Chain",
    "CoreShape",
    "Dense",
    "ErrorWithin",
    "Evaluation",
    "FullyConnected",
    "Guard",
    "Loss",
    "Objective",
    "Observed",
    "Point",
    "ReusableHoldout",
    "Ring",
    "SearcherEntry",
    "Session",
    "SizeWithin",
    "Space",
    "Spent",
    "Target",
    "Tree",
    "TreeShape",
    "Trial",
    "Tucker",
    "WeightedSum",
    "as_whole",
    "bond_spectra",
    "choose_ranks",
    "climb",
    "core_shape",
    "core_shapes",
    "elites",
    "find_searcher",
    "folded",
    "front",
    "hypervolume",
    "knee",
    "leaves_out",
    "listed_size",
    "mode_spectra",
    "observed_trials",
    "rank_trials",
    "refined_core_shape",
    "rre_greedy",
    "searcher",
    "searchers",
    "spaces",
    "tree_shape",
    "tree_trials",
]
