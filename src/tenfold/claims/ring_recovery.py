"""How often alternating least squares finds a planted tensor ring."""

from __future__ import annotations

import torch

from tenfold import formats
from tenfold.claims._registry import Measurement, Number, claim
from tenfold.decomposition import find
from tenfold.network import Network

_FITS = 1e-8
_PLANTED = (((10, 10, 10), 3), ((6, 6, 6, 6), 2), ((5, 5, 5, 5, 5), 2))


@claim(
    "ring_recovery",
    paper="Tensor ring decomposition",
    year=2016,
    where="the algorithm TR-ALS",
    stated="Alternating least squares over the cores fits a tensor by a tensor ring of given ranks.",
)
def ring_recovery(*, seed: int = 0, seeds: int = 10, restarts: int = 3) -> Measurement:
    """Plant rings with Gaussian cores and fit each with the planted ranks, from up to ``restarts`` seeds.

    A fit is exact at a relative error of 10^-8. Nothing guarantees it: the problem is not convex. Holds if for every
    shape more than half of the tensors are fitted exactly; the rates are what there is to know.
    """
    numbers: dict[str, Number] = {}
    lines = []
    holds = True
    method = find("tensor_ring_als").function
    for shape, rank in _PLANTED:
        structure = formats.tensor_ring(shape, [rank] * len(shape))
        first = exact = 0
        worst = 0.0
        for number in range(seed, seed + seeds):
            data = Network.random(structure, seed=number, dtype=torch.float64).dense()
            least = float("inf")
            for attempt in range(restarts):
                fit = method(data, structure, error=1e-9, seed=1000 * attempt + number, max_sweeps=500, tol=1e-9)
                least = min(least, fit.error)
                if fit.error <= _FITS:
                    first += attempt == 0
                    exact += 1
                    break
            worst = max(worst, least)
        holds = holds and 2 * exact > seeds
        label = f"{'x'.join(map(str, shape))} ranks {rank}"
        lines.append(
            f"{label}: fitted to {_FITS:.0e} in {exact} of {seeds} tensors ({first} at once, the others in up to "
            f"{restarts} tries); largest error left {worst:.1e}"
        )
        numbers |= {f"{label}: exact": exact, f"{label}: exact at once": first, f"{label}: largest error": worst}
    return Measurement(holds, "\n".join(lines), {"tensors": seeds, **numbers})
