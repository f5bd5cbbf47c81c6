"""Structure unknown: which topology, which ranks."""

from __future__ import annotations

from tenfold._tree_ranks import choose_ranks
from tenfold.structure_search.alternating import rank_trials
from tenfold.structure_search.core_shapes import CoreShape, core_shape, core_shapes
from tenfold.structure_search.held_out import as_whole, leaves_out, listed_size, observed_trials
from tenfold.structure_search.ladder import climb
from tenfold.structure_search.refined_core_shape import refined_core_shape
from tenfold.structure_search.reusable_holdout import ReusableHoldout
from tenfold.structure_search.rre_greedy import rre_greedy
from tenfold.structure_search.spectra import bond_spectra, mode_spectra
from tenfold.structure_search.tree_shapes import TreeShape, tree_shape
from tenfold.structure_search.trees import tree_trials
from tenfold.structure_search.trials import Budget, Trial

__all__ = [
    "Budget",
    "CoreShape",
    "ReusableHoldout",
    "TreeShape",
    "Trial",
    "as_whole",
    "bond_spectra",
    "choose_ranks",
    "climb",
    "core_shape",
    "core_shapes",
    "leaves_out",
    "listed_size",
    "mode_spectra",
    "observed_trials",
    "rank_trials",
    "refined_core_shape",
    "rre_greedy",
    "tree_shape",
    "tree_trials",
]
