"""Who gets how much of a budget: one choice for each layer, the best there is."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tenfold.errors import TenfoldError

# Steps into which a budget is cut; rounding up never spends more than there is.
_STEPS = 10_000
# Powers of ten between which the price of a second cost is looked for, and halvings on the way.
_PRICES, _HALVINGS = 6.0, 16
# Rounds of changes of one or two layers.
_SWEEPS = 20


def allocate(
    costs: Sequence[Sequence[float]], errors: Sequence[Sequence[float]], budget: float, *, steps: int = _STEPS
) -> list[int]:
    """One choice for each layer: the least sum of errors whose sum of costs keeps the budget.

    With the two swapped: the least cost whose errors keep a bound.

    Args:
        costs: of each choice of each layer, not negative.
        errors: of the same.
        budget: the most that the costs may sum up to.
        steps: how finely the budget is cut. Costs are rounded up to a step, so the budget is kept and what is lost is
            at most one step a layer; where rounding forbids what exact numbers allow, steps are made finer.

    Returns:
        The number of the choice for each layer.

    Raises:
        TenfoldError: the cheapest choices together cost more than the budget.

    Cost: layers times choices times steps.
    Paper: "L-GreCo: Layerwise-adaptive gradient compression for efficient data-parallel deep learning", 2024.
    """
    _check(costs, errors)
    least = [float(min(c)) for c in costs]
    if math.fsum(least) > budget:
        raise TenfoldError(f"the cheapest choices cost {math.fsum(least):.6g} together, the budget is {budget:.6g}")
    # What every choice of a layer costs at least is spent already; the rest is what there is to share.
    rest = budget - math.fsum(least)
    over = [np.asarray(c, dtype=np.float64) - low for c, low in zip(costs, least, strict=True)]
    if rest <= 0:
        return [
            min((n for n, extra in enumerate(o) if extra <= 0), key=lambda n, e=e: e[n])  # type: ignore[misc]
            for o, e in zip(over, errors, strict=True)
        ]
    return _exact([np.ceil(o / rest * steps - 1e-9) for o in over], errors, steps)


def _exact(units: Sequence[np.ndarray], errors: Sequence[Sequence[float]], steps: int) -> list[int]:
    table = np.zeros(steps + 1)
    picks = []
    for unit, error in zip(units, errors, strict=True):
        best = np.full(steps + 1, np.inf)
        pick = np.zeros(steps + 1, dtype=np.int32)
        for number, (needed, loss) in enumerate(zip(unit, error, strict=True)):
            if needed > steps:
                continue
            start = int(needed)
            made = table[: steps + 1 - start] + loss
            better = made < best[start:]
            best[start:][better] = made[better]
            pick[start:][better] = number
        table = best
        picks.append(pick)
    place, chosen = steps, []
    for unit, pick in zip(reversed(units), reversed(picks), strict=True):
        number = int(pick[place])
        chosen.append(number)
        place -= int(unit[number])
    return chosen[::-1]


def _check(costs: Sequence[Sequence[float]], errors: Sequence[Sequence[float]]) -> None:
    if len(costs) != len(errors) or any(len(c) != len(e) or not len(c) for c, e in zip(costs, errors, strict=True)):
        raise TenfoldError("costs and errors need the same layers, with the same choices and at least one each")
    if not all(math.isfinite(value) and value >= 0 for layer in (*costs, *errors) for value in layer):
        raise TenfoldError("costs and errors must be finite and not negative")


def allocate_jointly(
    costs: Sequence[Sequence[float]],
    others: Sequence[Sequence[float]],
    errors: Sequence[Sequence[float]],
    budget: float,
    limit: float,
) -> list[int]:
    """One choice for each layer: a small sum of errors where costs of two kinds keep a budget each.

    The second costs get a price in errors, the least one with which `allocate` keeps both budgets (a Lagrangian
    relaxation). What this leaves over is spent by changing one or two layers at a time for as long as that helps.

    Args:
        costs: of each choice of each layer, not negative.
        others: costs of another kind, as bytes are beside seconds.
        errors: of each choice of each layer.
        budget, limit: the most that costs and others may sum up to; both are kept.

    Returns:
        The number of the choice for each layer.

    Raises:
        TenfoldError: no choices keep both together.

    Cost: some twenty times that of `allocate`, and choices of all layers squared for the changes.
    Paper: "Lagrangean relaxation for integer programming", 1974.
    """
    _check(others, errors)
    picks = allocate(costs, errors, budget)
    if spent(others, picks) <= limit:
        return _exchanged(costs, others, errors, budget, limit, picks)
    cheapest = allocate(costs, others, budget)
    if spent(others, cheapest) > limit:
        raise TenfoldError(f"no choices keep {budget:.6g} and {limit:.6g} together")
    best = cheapest

    def priced(price: float) -> list[int]:
        sums = [
            [e + price * o for e, o in zip(error, other, strict=True)]
            for error, other in zip(errors, others, strict=True)
        ]
        return allocate(costs, sums, budget)

    # A second of all costs is worth as many errors as there can be, or as few as count.
    unit = math.fsum(map(max, errors)) / math.fsum(map(max, others))
    low, high = -_PRICES, _PRICES
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        picks = priced(unit * 10**middle)
        if spent(others, picks) > limit:
            low = middle
        else:
            high = middle
            best = min(best, picks, key=lambda one: spent(errors, one))
    return _exchanged(costs, others, errors, budget, limit, best)


def _exchanged(
    costs: Sequence[Sequence[float]],
    others: Sequence[Sequence[float]],
    errors: Sequence[Sequence[float]],
    budget: float,
    limit: float,
    picks: Sequence[int],
) -> list[int]:
    """The choices after changes of one or two layers, each of which loses less and keeps both budgets."""
    picks = list(picks)
    owner = np.repeat(np.arange(len(errors)), [len(layer) for layer in errors])
    first = np.concatenate([[0], np.cumsum([len(layer) for layer in errors])])
    flat = np.array(
        [np.concatenate([np.asarray(layer, dtype=np.float64) for layer in t]) for t in (costs, others, errors)]
    )

    def left() -> tuple[np.ndarray, np.ndarray]:
        """What each choice would change in its layer's place, and what is left of the budgets."""
        change = flat - flat[:, first[:-1] + picks][:, owner]
        return change, np.array([budget - spent(costs, picks), limit - spent(others, picks)])

    change, slack = left()
    for _ in range(_SWEEPS):
        helped = False
        for one in np.argsort(change[2]):
            gain = change[:, one]
            if gain[2] >= 0:
                continue
            room = slack - gain[:2]
            fits = (change[0] <= room[0]) & (change[1] <= room[1]) & (change[2] < -gain[2]) & (owner != owner[one])
            if fits.any():
                partner = int(np.argmin(np.where(fits, change[2], np.inf)))
            elif min(room) >= 0:
                partner = int(one)
            else:
                continue
            made = picks.copy()
            for changed in {int(one), partner}:
                made[owner[changed]] = int(changed - first[owner[changed]])
            # Sums in another order may be off by the last digit.
            if (
                spent(errors, made) < spent(errors, picks)
                and spent(costs, made) <= budget
                and spent(others, made) <= limit
            ):
                picks, helped = made, True
                change, slack = left()
        if not helped:
            break
    return picks


def spent(costs: Sequence[Sequence[float]], picks: Sequence[int]) -> float:
    """The sum over the layers of what is chosen."""
    return math.fsum(layer[pick] for layer, pick in zip(costs, picks, strict=True))


def uniform(costs: Sequence[Sequence[float]], errors: Sequence[Sequence[float]], budget: float) -> list[int]:
    """The same share for each layer: its least error among the choices that cost at most that share of its dearest.

    What the exact allocation is compared with. Raises `TenfoldError` where no share keeps the budget.
    """
    shares = np.linspace(0.0, 1.0, 1001)
    chosen = np.empty((len(costs), len(shares)), dtype=np.int64)
    for row, cost, error in zip(chosen, costs, errors, strict=True):
        order = np.argsort(cost, kind="stable").tolist()
        # The least error among the cheapest one, two, ... choices.
        least: int = order[0]
        best: list[int] = []
        for number in order:
            least = number if error[number] < error[least] else least
            best.append(least)
        limits = np.maximum(shares * max(cost), min(cost))
        row[:] = np.asarray(best)[np.searchsorted([cost[n] for n in order], limits, side="right") - 1]
    for place in reversed(range(len(shares))):
        picks: list[int] = chosen[:, place].tolist()
        if math.fsum(cost[n] for cost, n in zip(costs, picks, strict=True)) <= budget:
            return picks
    raise TenfoldError(f"no uniform share keeps the budget {budget:.6g}")
