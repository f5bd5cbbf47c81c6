"""Training in low rank: schemes that are added to an ordinary training loop."""

from tenfold.nn.low_rank._scheme import Scheme
from tenfold.nn.low_rank.dlrt import DLRT
from tenfold.nn.low_rank.maestro import Maestro
from tenfold.nn.low_rank.rank_pruning import TrainedRankPruning
from tenfold.nn.low_rank.tdlrt import TDLRT

__all__ = ["DLRT", "TDLRT", "Maestro", "Scheme", "TrainedRankPruning"]
