"""The ladder: one try at each common format, ranks guided by singular values, until a budget is met.

Tree-shaped formats (Tucker, trains in every order of few modes, hierarchical Tucker, and trains over modes that are
folded into patches or levels) get their ranks from the spectra of one sequential SVD each. CP and the ring follow with
the size that the best of those needs. The whole array as its own only core is always there, so an error is always met.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations, permutations

import torch
from torch import Tensor

from tenfold import formats
from tenfold._trees import bond_limits
from tenfold.decomposition import Decomposition, find, relative_error
from tenfold.errors import TenfoldError
from tenfold.network import Network
from tenfold.observations import Observations
from tenfold.structure import Structure
from tenfold.structure_search.tree_ranks import choose_ranks

# Modes at least this long are also tried in pieces.
_LONG = 16
# With at most this many modes a train is tried in every order.
_ALL_ORDERS = 4
# Looser errors at which each tree is shown on the front, as multiples of the error asked for.
_LOOSER = (1.5, 2.5, 4.0)
# Tries at spending what the bound on the error of a tree leaves of the error asked for.
_REFINEMENTS = 5
# How many times the parameters of the best so far make these tries not worth their time.
_HOPELESS = 2
# Flops that one alternating fit on the ladder may take; more is left to a fit with a structure given.
_WORK = 3e11
_OBSERVED_WORK = 5e10
_SWEEPS = 25


@dataclass(frozen=True)
class Budget:
    """What is asked for: an error not to exceed with the fewest parameters, or the least error within a size."""

    error: float | None = None
    parameters: int | None = None

    def met(self, trial: Trial) -> bool:
        if self.error is not None:
            return trial.error <= self.error
        return self.parameters is None or trial.parameters <= self.parameters

    def rank(self, trial: Trial) -> tuple[bool, float, float]:
        """A sort key: smallest first is best."""
        # What was left out tells a model of the data from one of their noise.
        seen = trial.error if trial.held_out is None else trial.held_out
        if self.error is None or not self.met(trial):
            return (not self.met(trial), seen, trial.parameters)
        return (False, trial.parameters, trial.error)


@dataclass(frozen=True)
class Trial:
    """One network that was tried.

    Attributes:
        name: the format, as people call it.
        error: true relative Frobenius error (over what is observed).
        held_out: relative error on observations that were left out, where there are missing cells.
        chosen: whether this is the one that was returned.
    """

    name: str
    structure: Structure
    parameters: int
    error: float
    seconds: float
    method: str
    held_out: float | None = None
    chosen: bool = False
    network: Network | None = field(default=None, repr=False, compare=False)

    def without_network(self, *, chosen: bool = False) -> Trial:
        """The same without its numbers, to be kept."""
        return replace(self, network=None, chosen=chosen)


def climb(
    data: Tensor | Observations,
    budget: Budget,
    *,
    modes: Sequence[str],
    seed: int = 0,
    on_rung: Callable[[str, int, int], None] | None = None,
) -> Iterator[Trial]:
    """Networks for ``data``, each with its true error, as they are found.

    Args:
        data: a floating or complex tensor, or observations of one.
        budget: what is asked for; later rungs are sized by the best so far.
        modes: index names for the axes.
        seed: fixes every random draw.
        on_rung: called with a label, the number of the rung and how many there are, before each.
    """
    rungs = _observed_rungs(data) if isinstance(data, Observations) else _dense_rungs(data, budget, modes)
    best: Trial | None = None
    if budget.parameters is not None and budget.parameters < (least := _least(data, modes)):
        raise TenfoldError(
            f"parameters {budget.parameters} is too few: the smallest network for an array of shape "
            f"{tuple(data.shape or ())} has {least}"
        )
    for number, (label, rung) in enumerate(rungs):
        if on_rung is not None:
            on_rung(label, number, len(rungs))
        for trial in rung(data, budget, modes, best, seed):
            if best is None or budget.rank(trial) < budget.rank(best):
                best = trial
            yield trial


Rung = Callable[[Tensor | Observations, Budget, Sequence[str], Trial | None, int], Iterator[Trial]]


def _dense_rungs(data: Tensor, budget: Budget, modes: Sequence[str]) -> list[tuple[str, Rung]]:
    rungs: list[tuple[str, Rung]] = []
    if budget.parameters is None or data.numel() <= budget.parameters:
        rungs.append(("the array itself", _whole))
    families: dict[str, tuple[str, Structure]] = {}
    for label, structure in _tree_families(tuple(data.shape), modes):
        families.setdefault(structure.key, (label, structure))
    rungs += [(label, _tree_rung(label, structure)) for label, structure in families.values()]
    if data.ndim >= 3:
        rungs += [("cp", _cp_rung), ("tensor ring", _ring_rung)]
    return rungs


def _least(data: Tensor | Observations, modes: Sequence[str]) -> int:
    """The parameters of the smallest network that the ladder can make: rank one, folded where that is possible."""
    shape = tuple(data.shape or ())
    least = min(math.prod(shape), sum(shape))
    if isinstance(data, Observations):
        return sum(shape)
    for _, structure in _tree_families(shape, modes):
        least = min(least, structure.replace(dict.fromkeys(structure.inner_indices, 1)).parameters)
    return least


# --- the array as its own core ----------------------------------------------------------------------------------------


def _whole(
    data: Tensor | Observations, budget: Budget, modes: Sequence[str], best: Trial | None, seed: int
) -> Iterator[Trial]:
    assert isinstance(data, Tensor)
    structure = Structure.of([tuple(modes)], modes, dict(zip(modes, data.shape, strict=True)))
    yield _trial("whole array", Network(structure, [data.clone()]), 0.0, time.perf_counter(), "copy")


# --- trees ------------------------------------------------------------------------------------------------------------


def _tree_rung(label: str, full: Structure) -> Rung:
    def rung(
        data: Tensor | Observations, budget: Budget, modes: Sequence[str], best: Trial | None, seed: int
    ) -> Iterator[Trial]:
        assert isinstance(data, Tensor)
        return tree_trials(data, full, budget, label, best)

    return rung


def tree_trials(
    data: Tensor, full: Structure, budget: Budget, label: str, best: Trial | None = None
) -> Iterator[Trial]:
    """Networks of one tree topology with ranks up to those of ``full``, the budgeted one and looser ones.

    One sequential SVD at half the error asked for (or as exact as the dtype allows) gives the spectra of all bonds;
    ranks are chosen on them and the SVD's own network is truncated, so the data is not gone through again.
    """
    started = time.perf_counter()
    done = _base(data, full, budget)
    base = done.network
    spectra = {bond: values.tolist() for bond, values in base.bond_spectra().items()}
    if not spectra:
        yield _trial(label, base, done.error, started, "tree_svd")
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
        return _trial(label, network, relative_error(data, network), started, "tree_svd")

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
        yield _trial(label, base, done.error, started, "tree_svd")
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


def _base(data: Tensor, full: Structure, budget: Budget) -> Decomposition:
    """A sequential SVD with more on every bond than the budget can keep."""
    svd = find("tree_svd").function
    floor = 1e-3 if torch.finfo(data.dtype).bits < 64 else 1e-6
    if budget.error is not None:
        return svd(data, full, error=max(budget.error / 2, min(floor, budget.error)))
    assert budget.parameters is not None
    # The error that so many parameters reach is not known yet: closer and closer, while it costs little.
    for error in (0.1, 0.03, 0.01, 1e-3):
        done = svd(data, full, error=error)
        if done.network.parameters > _HOPELESS * budget.parameters:
            return done
    return svd(data, full, error=floor) if floor < 1e-3 else done


def _tree_families(shape: tuple[int, ...], modes: Sequence[str]) -> Iterator[tuple[str, Structure]]:
    """Labels and structures with the largest ranks that are of use."""
    order = len(shape)
    sizes = dict(zip(modes, shape, strict=True))
    plain = [(mode,) for mode in modes]
    if order >= 3:
        yield "tucker", formats.tucker(shape, max(shape)).name_outputs(modes)
    if order >= 2:
        orders = permutations(range(order)) if order <= _ALL_ORDERS else [tuple(range(order))]
        for chosen in orders:
            if chosen[0] < chosen[-1]:  # a train read backwards is the same train
                natural = chosen == tuple(range(order))
                label = "tensor train" if natural else f"tensor train ({' '.join(modes[k] for k in chosen)})"
                yield label, _train([(modes[k],) for k in chosen], plain, sizes)
    if order >= 4:
        full = formats.hierarchical_tucker(shape, math.prod(shape))
        yield "hierarchical tucker", full.name_outputs(modes)
    yield from _folded_families(shape, modes, sizes)


def _folded_families(
    shape: tuple[int, ...], modes: Sequence[str], sizes: dict[str, int]
) -> Iterator[tuple[str, Structure]]:
    """Trains over modes cut into a coarse and a fine part (patches), or into levels; two long modes together."""
    long = sorted((k for k, n in enumerate(shape) if n >= _LONG), key=lambda k: -shape[k])[:3]
    groups = list(combinations(sorted(long), 2)) if len(long) >= 2 else [tuple(long)] if long else []
    for group in groups:
        others = [(modes[k],) for k in range(len(shape)) if k not in group]
        for patch in (4, 8, 16):
            fine = [_near_divisor(shape[k], patch) for k in group]
            if None in fine:
                continue
            factors = {k: (shape[k] // f, f) for k, f in zip(group, fine, strict=True) if f is not None}
            label = f"patches {' x '.join(f'{modes[k]}/{f[1]}' for k, f in factors.items())}"
            yield label, _folded_train(factors, modes, sizes, others)
        levels = [_levels(shape[k]) for k in group]
        if min(map(len, levels)) >= 3 and len({len(level) for level in levels}) == 1:
            label = f"levels {' x '.join('·'.join(map(str, level)) for level in levels)}"
            yield label, _folded_train(dict(zip(group, levels, strict=True)), modes, sizes, others)


def _folded_train(
    factors: Mapping[int, tuple[int, ...]],
    modes: Sequence[str],
    sizes: dict[str, int],
    others: Sequence[tuple[str, ...]],
) -> Structure:
    depth = len(next(iter(factors.values())))
    taken = set(modes)
    names = {k: [_free(f"{modes[k]}{level + 1}", taken) for level in range(depth)] for k in factors}
    outputs = [tuple(names[k]) if k in names else (mode,) for k, mode in enumerate(modes)]
    split = {name: n for k, factor in factors.items() for name, n in zip(names[k], factor, strict=True)}
    sites = [tuple(names[k][level] for k in factors) for level in range(depth)]
    kept = {mode: n for mode, n in sizes.items() if modes.index(mode) not in factors}
    return _train([*sites, *others], outputs, {**kept, **split})


def _train(sites: Sequence[tuple[str, ...]], outputs: Sequence[tuple[str, ...]], sizes: dict[str, int]) -> Structure:
    """A train with one core for each group of output indices and the largest bonds of use."""
    taken = set(sizes)
    bonds = [_free(f"r{k + 1}" if len(sites) > 2 else "r", taken) for k in range(len(sites) - 1)]
    terms = [(*bonds[max(k - 1, 0) : k], *site, *bonds[k : k + 1]) for k, site in enumerate(sites)]
    thin = Structure.of(terms, outputs, {**sizes, **dict.fromkeys(bonds, 1)})
    return thin.replace(bond_limits(thin))


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    taken.add(name)
    return name


def _near_divisor(n: int, target: int) -> int | None:
    """The proper divisor of n nearest to target, if one is within a factor of two."""
    divisors = [d for d in range(target // 2 + 1, min(2 * target, n // 2 + 1)) if n % d == 0]
    return min(divisors, key=lambda d: abs(math.log(d / target)), default=None)


def _levels(n: int) -> tuple[int, ...]:
    """n as a product of factors of 4 to 8 where its divisors allow, largest factors first."""
    factors = []
    while n > 8:
        step = next((d for d in (8, 7, 6, 5, 4) if n % d == 0 and n // d > 1), None)
        if step is None:
            break
        factors.append(step)
        n //= step
    return (*factors, n)


# --- formats with loops and hyperedges --------------------------------------------------------------------------------


def _cp_rung(
    data: Tensor | Observations, budget: Budget, modes: Sequence[str], best: Trial | None, seed: int
) -> Iterator[Trial]:
    assert isinstance(data, Tensor)
    total = sum(data.shape)

    def build(rank: int) -> Structure:
        return formats.cp(tuple(data.shape), rank).name_outputs(modes)

    yield from _alternating(data, budget, best, "cp", "cp_als", build, lambda size: size // total, 1, seed)


def _ring_rung(
    data: Tensor | Observations, budget: Budget, modes: Sequence[str], best: Trial | None, seed: int
) -> Iterator[Trial]:
    assert isinstance(data, Tensor)
    total = sum(data.shape)

    def build(rank: int) -> Structure:
        return formats.tensor_ring(tuple(data.shape), [rank] * data.ndim).name_outputs(modes)

    def largest(size: int) -> int:
        return math.isqrt(size // total)

    yield from _alternating(data, budget, best, "tensor ring", "tensor_ring_als", build, largest, 2, seed)


def _alternating(
    data: Tensor,
    budget: Budget,
    best: Trial | None,
    label: str,
    method: str,
    build: Callable[[int], Structure],
    largest: Callable[[int], int],
    smallest: int,
    seed: int,
) -> Iterator[Trial]:
    """The largest rank that could still be the best, and smaller ones: by halves of what is not yet decided."""
    size = budget.parameters if budget.parameters is not None else best.parameters if best is not None else data.numel()
    high, low = largest(min(size, data.numel())), smallest
    tries = 4
    while high >= low and tries:
        started = time.perf_counter()
        rank = high if tries == 4 else (low + high) // 2
        structure = build(rank)
        width = structure.parameters / sum(data.shape)
        # A sweep contracts the data once and solves one system of this width for each mode.
        if (4 * data.numel() * width + 30 * data.ndim * width**3) * _SWEEPS > _WORK:
            return
        done = find(method).function(data, structure, error=budget.error, seed=seed, max_sweeps=_SWEEPS, tol=1e-4)
        yield _trial(label, done.network, done.error, started, method)
        tries -= 1
        if budget.error is None:
            # For the picture: what half and a quarter of the budget give.
            high = rank // 2
        elif done.error <= budget.error:
            high = rank - 1
        else:
            low = rank + 1


# --- missing cells ----------------------------------------------------------------------------------------------------


def _observed_rungs(data: Observations) -> list[tuple[str, Rung]]:
    builders: dict[str, Callable[[tuple[int, ...], int], Structure]] = {"tensor train": formats.tensor_train}
    if data.order >= 2:
        builders = {"cp": formats.cp, **builders}
    if data.order >= 3:
        builders["tucker"] = formats.tucker
    return [(label, _growing_rung(label, build)) for label, build in builders.items()]


def _growing_rung(label: str, build: Callable[[tuple[int, ...], int], Structure]) -> Rung:
    """Ranks from one upwards, until the budget is met, held-out observations say stop, or there is too little data."""

    def rung(
        data: Tensor | Observations, budget: Budget, modes: Sequence[str], best: Trial | None, seed: int
    ) -> Iterator[Trial]:
        assert isinstance(data, Observations)
        assert data.shape is not None
        sparse = data.rest == "zero"
        # Where nothing is missing there is nothing to predict.
        complete = sparse or data.distinct == math.prod(data.shape)
        train, held_out = (data, None) if complete or len(data) < 20 else data.split(0.1, seed)
        known = math.prod(data.shape) if sparse else len(train)
        als = find("als").function
        lowest, worse, previous = math.inf, 0, -1
        for rank in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64):
            structure = build(data.shape, rank).name_outputs(modes)
            if structure.parameters == previous:
                return
            previous = structure.parameters
            if budget.parameters is not None and structure.parameters > budget.parameters:
                return
            if rank > 1 and structure.parameters > known:
                return
            if not sparse and 2 * _SWEEPS * len(train) * _unknowns(structure) > _OBSERVED_WORK:
                return
            started = time.perf_counter()
            done = als(train, structure, seed=seed, max_sweeps=2 * _SWEEPS, tol=1e-4)
            outside = None if held_out is None else relative_error(held_out, done.network)
            network = done.network
            if held_out is not None:
                network = als(data, structure, init=network, seed=seed, max_sweeps=_SWEEPS, tol=1e-4).network
            error = relative_error(data, network)
            trial = _trial(label, network, error, started, "als")
            yield replace(trial, held_out=outside)
            if budget.error is not None and error <= budget.error:
                return
            seen = error if outside is None else outside
            worse = worse + 1 if seen > 0.99 * lowest else 0
            lowest = min(lowest, seen)
            if worse == 2:
                return

    return rung


def _unknowns(structure: Structure) -> int:
    """Squares of how many unknowns one observation has in each core, added up: what its row costs a sweep."""
    inner = set(structure.inner_indices)
    return sum(math.prod(structure.sizes[i] for i in term.indices if i in inner) ** 2 for term in structure.terms)


def _trial(name: str, network: Network, error: float, started: float, method: str) -> Trial:
    seconds = time.perf_counter() - started
    return Trial(name, network.structure, network.parameters, error, seconds, method, network=network)
