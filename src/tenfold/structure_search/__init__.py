"""Structure unknown: which topology, which ranks."""

from __future__ import annotations

from tenfold.structure_search.ladder import Budget, Trial, climb
from tenfold.structure_search.tree_ranks import choose_ranks

__all__ = ["Budget", "Trial", "choose_ranks", "climb"]
