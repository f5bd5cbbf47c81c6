"""PARAFAC2 models of four slices or more are unique as a rule, so whoever fits one exactly has found its factors."""

from __future__ import annotations

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from tenfold.claims._registry import Measurement, Number, claim
from tenfold.decomposition import parafac2

_FITS = 1e-8
_MATCHES = 1e-5
# Heights of the slices, their columns, the rank.
_PLANTED = (((8, 9, 10, 11), 7, 2), ((6, 12, 9, 7), 12, 3), ((9, 5, 8, 14, 6, 7), 10, 3))


@claim(
    "parafac2_recovery",
    paper="PARAFAC2 - Part I. A direct fitting algorithm for the PARAFAC2 model",
    year=1999,
    where="Uniqueness",
    stated=(
        "With four slices or more the PARAFAC2 solution is, as far as was seen, unique up to the order, the scale and "
        "the sign of its components."
    ),
)
def parafac2_recovery(*, seed: int = 0, seeds: int = 5, restarts: int = 4) -> Measurement:
    """Plant models of four and six slices, fit each from up to ``restarts`` seeds.

    A fit is exact at a relative error of 10^-8; the factors are found if the cosines of the matched columns of ``C``
    and of the slice weights differ from 1 by at most 10^-5. Holds if every exact fit has found them and every size was
    fitted exactly at least once; how often, is a number of the method, not of the model.
    """
    numbers: dict[str, Number] = {}
    lines = []
    holds = True
    for heights, columns, rank in _PLANTED:
        exact = found = 0
        for number in range(seed, seed + seeds):
            slices, weights, shared = _plant(heights, columns, rank, number)
            for attempt in range(restarts):
                fit = parafac2(slices, rank, seed=1000 * attempt + number, max_sweeps=600)
                if fit.error <= _FITS:
                    exact += 1
                    found += min(_congruence(shared, fit.c), _congruence(weights, fit.a)) >= 1 - _MATCHES
                    break
        holds = holds and found == exact > 0
        label = f"{len(heights)} slices of {min(heights)} to {max(heights)} x {columns}, rank {rank}"
        lines.append(f"{label}: fitted to {_FITS:.0e} in {exact} of {seeds} models; factors right in {found} of these")
        key = f"slices_{len(heights)}_rank_{rank}"
        numbers |= {f"{key}_runs": seeds, f"{key}_exact": exact, f"{key}_found": found}
    return Measurement(holds, "\n".join(lines), numbers)


def _plant(heights: tuple[int, ...], columns: int, rank: int, seed: int) -> tuple[list[Tensor], Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    weights, base, shared = draw(len(heights), rank).abs() + 0.2, draw(rank, rank), draw(columns, rank)
    bases = [torch.linalg.qr(draw(height, rank)).Q for height in heights]
    return [(basis @ base * row) @ shared.T for basis, row in zip(bases, weights, strict=True)], weights, shared


def _congruence(first: Tensor, second: Tensor) -> float:
    """The smallest cosine of matched columns, in the best matching."""
    cosines = ((first / first.norm(dim=0)).T @ (second / second.norm(dim=0))).abs()
    return float(cosines[linear_sum_assignment(-cosines.numpy())].min())
