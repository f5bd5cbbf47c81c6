"""Networks of one tree topology, with ranks chosen from the singular values across its bonds."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

import torch

from tenfold._tree_ranks import choose_ranks
from tenfold.decomposition import Decomposition
from tenfold.structure import Structure
from tenfold.structure_search.trials import Array, Budget, Trial, decompose, error_of, tried

# Looser errors at which each tree is shown on the front, as multiples of the error asked for.
_LOOSER = (1.5, 2.5, 4.0)
# Tries at spending what the bound on the error of a tree leaves of the error asked for.
_REFINEMENTS = 5
# How many times the parameters of the best so far make these tries not worth their time.
_HOPELESS = 2


def tree_trials(data: Array, full: Structure, budget: Budget, label: str, best: Trial | None = None) -> Iterator[Trial]:
    """Networks of one tree topology with ranks up to those of ``full``, the budgeted one and looser ones.

    One sequential SVD at half the error asked for (or as exact as the dtype allows) gives the spectra of all bonds;
    ranks are chosen on them and the SVD's own network is truncated, so the data is not gone through again.
    """
    started = time.perf_counter()
    done = _base(data, full, budget)
    base = done.network
    spectra = {bond: values.tolist() for bond, values in base.bond_spectra().items()}
    if not spectra:
        yield tried(label, base, done.error, started, "tree_svd")
        return

    def at(error: float) -> Trial | None:
        left = (error**2 - done.error**2) / max(1 - done.error**2, 1e-300)
        if left < 0:
            return None
        ranks = choose_ranks(base.structure, spectra, error=math.sqrt(left))
        assert ranks is not None
        return measured(ranks)

    seen: set[tuple[int, ...]] = set()

    def measured(ranks: dict[str, int]) -> Trial | None:
        if tuple(ranks.values()) in seen:
            return None
        seen.add(tuple(ranks.values()))
        network = base.round(ranks=ranks)
        return tried(label, network, error_of(data, network), started, "tree_svd")

    if budget.error is None:
        assert budget.parameters is not None
        ranks = choose_ranks(base.structure, spectra, parameters=budget.parameters)
        if ranks is None:
            return
        first = measured(ranks)
        assert first is not None
        yield first
        asked = max(first.error, done.error)
    else:
        asked = budget.error
        yield tried(label, base, done.error, started, "tree_svd")
        # The bound that ranks are chosen by is above the true error. What it leaves is spent by asking it for more,
        # then by halving between what was enough and what was too much.
        aim, enough, too_much = asked, asked, math.inf
        for _ in range(_REFINEMENTS):
            trial = at(aim)
            if trial is None:
                break
            yield trial
            if best is not None and trial.parameters > _HOPELESS * best.parameters:
                break
            if trial.error > asked:
                too_much = aim
            else:
                enough = aim
                if not 0 < trial.error < 0.998 * asked:
                    break
            aim = enough * asked / trial.error if math.isinf(too_much) else (enough + too_much) / 2
    for looser in _LOOSER:
        if asked * looser < 1 and (trial := at(asked * looser)) is not None:
            yield trial


def _base(data: Array, full: Structure, budget: Budget) -> Decomposition:
    """A sequential SVD with more on every bond than the budget can keep."""
    floor = 1e-3 if torch.finfo(data.dtype).bits < 64 else 1e-6
    if budget.error is not None:
        return decompose("tree_svd", data, full, error=max(budget.error / 2, min(floor, budget.error)))
    assert budget.parameters is not None
    # The error that so many parameters reach is not known yet: closer and closer, while it costs little.
    for error in (0.1, 0.03, 0.01, 1e-3):
        done = decompose("tree_svd", data, full, error=error)
        if done.network.parameters > _HOPELESS * budget.parameters:
            return done
    return decompose("tree_svd", data, full, error=floor) if floor < 1e-3 else done
