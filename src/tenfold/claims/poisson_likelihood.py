"""On sparse counts the Poisson model is likelier and finds the factors better than nonnegative least squares."""

from __future__ import annotations

import numpy as np
import torch

from tenfold import formats
from tenfold.claims._registry import Measurement, Number, claim
from tenfold.components import factor_match_score
from tenfold.decomposition import find
from tenfold.decomposition.cp_poisson import poisson_deviance
from tenfold.network import Network

_SHAPE, _RANK = (40, 42, 44), 4
# A cell holds less than half a count on average, and three.
_TOTALS = (20_000, 200_000)


@claim(
    "poisson_likelihood",
    paper="On tensors, sparsity, and nonnegative factorizations",
    year=2012,
    where="Section 7, on simulated sparse counts",
    stated=(
        "For sparse counts, CP by Poisson likelihood finds the factors that made them better than CP by nonnegative "
        "least squares, and is the likelier model."
    ),
)
def poisson_likelihood(*, seed: int = 0, seeds: int = 10) -> Measurement:
    """Draw counts from planted nonnegative CP tensors, fit them by both from the same seeds.

    The likelihood is that of the counts themselves; where a least-squares network is zero under a count it is raised to
    10^-3 of the mean there, which favours it. Holds if the Poisson network is likelier for every tensor and the
    agreement of its worst term with a planted one is larger on average, for each number of counts.
    """
    numbers: dict[str, Number] = {}
    lines, holds = [], True
    structure = formats.cp(_SHAPE, _RANK)
    for total in _TOTALS:
        likelier, gaps, agreement = 0, [], {"cp_poisson": 0.0, "cp_hals": 0.0}
        filled = 0.0
        for number in range(seed, seed + seeds):
            counts, planted = _draw(total, number)
            filled += float((counts > 0).double().mean()) / seeds
            deviance = {}
            for name in agreement:
                network = find(name).function(counts, structure, seed=number).network
                agreement[name] += min(factor_match_score(planted, network, weights=False).scores) / seeds
                deviance[name] = _deviance(counts, network)
            likelier += deviance["cp_poisson"] < deviance["cp_hals"]
            gaps.append((deviance["cp_hals"] - deviance["cp_poisson"]) / counts.numel())
        holds = holds and likelier == seeds and agreement["cp_poisson"] > agreement["cp_hals"]
        label = f"{total:,} counts, {100 * filled:.0f} % of cells above zero"
        lines.append(
            f"{label}: likelier in {likelier} of {seeds}, by a deviance of {np.mean(gaps):.2g} a cell; worst term "
            f"agrees to {agreement['cp_poisson']:.4f} against {agreement['cp_hals']:.4f}"
        )
        numbers |= {f"{total}: likelier": likelier, f"{total}: deviance a cell": float(np.mean(gaps))}
        numbers |= {f"{total}: {name}": value for name, value in agreement.items()}
    return Measurement(holds, "\n".join(lines), {"tensors": seeds, **numbers})


def _draw(total: int, seed: int) -> tuple[torch.Tensor, Network]:
    random = np.random.default_rng(seed)
    factors = [torch.from_numpy(random.gamma(0.5, size=(extent, _RANK))) for extent in _SHAPE]
    planted = Network(formats.cp(_SHAPE, _RANK), factors)
    means = planted.dense()
    counts = random.poisson((means * (total / means.sum())).numpy()).astype(float)
    return torch.from_numpy(counts), planted


def _deviance(counts: torch.Tensor, network: Network) -> float:
    found = poisson_deviance(counts, network)
    if np.isfinite(found):
        return found
    model = network.dense().clamp(min=1e-3 * float(counts.mean()))
    return 2 * float((torch.xlogy(counts, counts) - torch.xlogy(counts, model) - counts + model).sum())
