"""The ladder: one try at each common format, ranks guided by singular values, until a budget is met.

Tree-shaped formats (Tucker, trains in every order of few modes, hierarchical Tucker, and trains over modes that are
folded into patches or levels) get their ranks from the spectra of one sequential SVD each. CP and the ring follow with
the size that the best of those needs. The whole array as its own only core is always there, so an error is always met.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from torch import Tensor

from tenfold.decomposition import Projected
from tenfold.errors import TenfoldError
from tenfold.network import Network
from tenfold.observations import Observations
from tenfold.structure import Structure
from tenfold.structure_search.alternating import cp_rung, ring_rung
from tenfold.structure_search.families import tree_families
from tenfold.structure_search.held_out import as_whole, listed_size, observed_rungs, searched
from tenfold.structure_search.trees import tree_trials
from tenfold.structure_search.trials import Array, Budget, Late, Rung, Trial, tried


def climb(
    data: Array | Observations,
    budget: Budget,
    *,
    modes: Sequence[str],
    seed: int = 0,
    max_rank: int | None = None,
    on_rung: Callable[[str, int, int], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> Iterator[Trial]:
    """Networks for ``data``, each with its true error, as they are found.

    Args:
        data: a floating or complex tensor, what stands for one that is too large, or observations of one; they are made
            dense where every cell is known and that is affordable.
        budget: what is asked for; later rungs are sized by the best so far. A large sparse array is given up where no
            network that is smaller than a list of its entries has the error asked for.
        modes: index names for the axes.
        seed: fixes every random draw.
        max_rank: the largest size of a bond, of networks for whole arrays.
        on_rung: called with a label, the number of the rung and how many there are, before each.
        stop: asked after each trial that is no copy of the array, and after each sweep where there are some; as soon as
            it says so, what was found before is all there is.

    Raises:
        TenfoldError: too few parameters for any network, or ``max_rank`` with cells missing.
    """
    listed = None if isinstance(data, Projected) else listed_size(data)
    data = as_whole(data)
    if budget.parameters is not None and budget.parameters < (least := _least(data, modes)):
        raise TenfoldError(
            f"parameters {budget.parameters} is too few: the smallest network for an array of shape "
            f"{tuple(data.shape or ())} has {least}"
        )
    if isinstance(data, Observations):
        if max_rank is not None:
            raise TenfoldError(f"max_rank {max_rank} is given where cells are missing; it bounds whole arrays only")
        rungs = observed_rungs(data)
        yield from searched(data, lambda some: _climbed(some, rungs, budget, modes, seed, on_rung), budget, seed)
    else:
        best: Trial | None = None
        if listed is not None and budget.error is not None:
            within = Budget(parameters=max(listed, _least(data, modes)))
            rungs = _dense_rungs(data, within, modes, max_rank, stop)
            for trial in _climbed(data, rungs, within, modes, seed, on_rung, stop):
                best = trial if best is None or budget.rank(trial) < budget.rank(best) else best
                yield trial
            if best is None or not budget.met(best):
                return
        rungs = _dense_rungs(data, budget, modes, max_rank, stop)
        yield from _climbed(data, rungs, budget, modes, seed, on_rung, stop, best)


def _climbed(
    data: Array | Observations,
    rungs: Sequence[tuple[str, Rung]],
    budget: Budget,
    modes: Sequence[str],
    seed: int,
    on_rung: Callable[[str, int, int], None] | None,
    stop: Callable[[], bool] | None = None,
    best: Trial | None = None,
) -> Iterator[Trial]:
    for number, (label, rung) in enumerate(rungs):
        if on_rung is not None:
            on_rung(label, number, len(rungs))
        try:
            for trial in rung(data, budget, modes, best, seed):
                if best is None or budget.rank(trial) < budget.rank(best):
                    best = trial
                yield trial
                if trial.method != "copy" and stop is not None and stop():
                    return
        except Late:
            return


def _dense_rungs(
    data: Array, budget: Budget, modes: Sequence[str], max_rank: int | None, stop: Callable[[], bool] | None
) -> list[tuple[str, Rung]]:
    rungs: list[tuple[str, Rung]] = []
    whole = not isinstance(data, Projected)
    if whole and (budget.parameters is None or data.numel() <= budget.parameters):
        rungs.append(("the array itself", _whole))
    families: dict[str, tuple[str, Structure]] = {}
    for label, structure in tree_families(tuple(data.shape), modes, folded=whole):
        if max_rank is not None:
            structure = structure.replace(
                {bond: min(structure.sizes[bond], max_rank) for bond in structure.inner_indices}
            )
        families.setdefault(structure.key, (label, structure))
    rungs += [(label, _tree_rung(label, structure)) for label, structure in families.values()]
    if data.ndim >= 3:
        options: dict[str, Any] = {"max_rank": max_rank, "stop": stop}
        rungs += [("cp", partial(cp_rung, **options)), ("tensor ring", partial(ring_rung, **options))]
    return rungs


def _least(data: Array | Observations, modes: Sequence[str]) -> int:
    """The parameters of the smallest network that the ladder can make: rank one, folded where that is possible."""
    shape = tuple(data.shape or ())
    least = min(math.prod(shape), sum(shape))
    if isinstance(data, Observations):
        return sum(shape)
    for _, structure in tree_families(shape, modes, folded=not isinstance(data, Projected)):
        least = min(least, structure.replace(dict.fromkeys(structure.inner_indices, 1)).parameters)
    return least


def _whole(
    data: Array | Observations, budget: Budget, modes: Sequence[str], best: Trial | None, seed: int
) -> Iterator[Trial]:
    assert isinstance(data, Tensor)
    structure = Structure.of([tuple(modes)], modes, dict(zip(modes, data.shape, strict=True)))
    yield tried("whole array", Network(structure, [data.clone()]), 0.0, time.perf_counter(), "copy")


def _tree_rung(label: str, full: Structure) -> Rung:
    def rung(
        data: Array | Observations, budget: Budget, modes: Sequence[str], best: Trial | None, seed: int
    ) -> Iterator[Trial]:
        assert not isinstance(data, Observations)
        return tree_trials(data, full, budget, label, best)

    return rung
