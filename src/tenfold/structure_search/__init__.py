"""Structure unknown: which topology, which ranks."""

from __future__ import annotations

from tenfold._tree_ranks import choose_ranks
from tenfold.structure_search.alternating import rank_trials
from tenfold.structure_search.held_out import as_whole, leaves_out, listed_size, observed_trials
from tenfold.structure_search.ladder import climb
from tenfold.structure_search.trees import tree_trials
from tenfold.structure_search.trials import Budget, Trial

__all__ = [
    "Budget",
    "Trial",
    "as_whole",
    "choose_ranks",
    "climb",
    "leaves_out",
    "listed_size",
    "observed_trials",
    "rank_trials",
    "tree_trials",
]
