"""What a fitted network says: its canonical form, how it compares with another, whether it can be trusted.

components = tn.components.canonical(network)           # CP: unit columns, weights, shares
tn.components.factor_match_score(first, second)         # how alike two fits are
tn.components.core_consistency(data, network)           # whether patterns of different components mix
tn.components.kruskal(network)                          # whether the components are the only ones
tn.components.degeneracy(network)                       # whether components cancel one another
"""

from __future__ import annotations

from tenfold.components.canonical import Components, canonical
from tenfold.components.core_consistency import core_consistency
from tenfold.components.degeneracy import Degeneracy, degeneracy
from tenfold.components.kruskal import Kruskal, kruskal
from tenfold.components.matching import Match, factor_match_score
from tenfold.components.train import TrainForm, canonical_train
from tenfold.components.tucker import TuckerForm, canonical_tucker

__all__ = [
    "Components",
    "Degeneracy",
    "Kruskal",
    "Match",
    "TrainForm",
    "TuckerForm",
    "canonical",
    "canonical_train",
    "canonical_tucker",
    "core_consistency",
    "degeneracy",
    "factor_match_score",
    "kruskal",
]
