"""CP of exact data with nearly parallel factors: how many sweeps it takes, and how long."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks import peers
from benchmarks.harness import Case, Contender
from benchmarks.tasks.cp import others
from tenfold.claims.cp_swamps import collinear
from tenfold.decomposition import find

TITLE = "CP to an error of 1e-6, exact data of rank 5 and collinearity 0.9, from random starts"
ERROR = 1e-6
MOST = 3000


def cases(smoke: bool) -> Iterator[Case]:
    """Peers make as many sweeps as plain alternating least squares needs; all sweeps of the acceleration count."""
    for seed in range(1 if smoke else 4):
        extent = 10 if smoke else 40
        tensor, start = collinear(extent, 5, 0.5 if smoke else 0.9, seed)

        def own(accelerate, tensor=tensor, start=start):
            return find("cp_als").function(
                tensor, start.structure, init=start, error=ERROR, max_sweeps=MOST, tol=0.0, accelerate=accelerate
            )

        fast, plain = own(True).sweeps, own(False).sweeps
        error = peers.dense_error(tensor, lambda found: found.network.dense())
        yield Case(
            f"{extent}^3, start {seed}",
            0,
            [
                Contender(f"tenfold cp_als, {fast} sweeps", lambda own=own: own(True), error),
                Contender(f"the same, {plain} plain sweeps", lambda own=own: own(False), error),
                *others(tensor, start.structure, start, plain),
            ],
            agreement=1.0,  # both are below the error asked for
        )
