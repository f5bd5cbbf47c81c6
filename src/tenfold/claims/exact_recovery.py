"""Networks that are trees are recovered exactly by sequential singular value decompositions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from tenfold import formats
from tenfold.claims._registry import Measurement, Number, claim
from tenfold.decomposition import find, relative_error
from tenfold.network import Network
from tenfold.structure import Structure

_BOUND = 1e-8
_FORMATS: dict[str, Callable[[Sequence[int], int], Structure]] = {
    "tensor_train": formats.tensor_train,
    "tucker": formats.tucker,
    "hierarchical_tucker": formats.hierarchical_tucker,
}
_SHAPES = ((12, 11, 10), (8, 7, 6, 8), (5, 6, 5, 4, 6))


@claim(
    "exact_recovery",
    paper="Tensor-train decomposition",
    year=2011,
    where="Theorem 2.1",
    stated=(
        "A tensor whose unfoldings have ranks r_k is a tensor train with exactly these ranks, which successive "
        "singular value decompositions find."
    ),
)
def exact_recovery(*, seed: int = 0, seeds: int = 10) -> Measurement:
    """Plant trains, and Tucker and hierarchical Tucker networks, for which the same proof serves; ask for error 10^-9.

    Holds if every one of them comes back with the planted ranks and a relative error of at most 10^-8.
    """
    numbers: dict[str, Number] = {}
    lines = []
    holds = True
    for name, build in _FORMATS.items():
        worst, right, runs = 0.0, 0, 0
        for shape in _SHAPES:
            planted_structure, free = build(shape, 3), build(shape, 10**6)
            for number in range(seed, seed + seeds):
                planted = Network.random(planted_structure, seed=number, dtype=torch.float64).dense()
                found = find("tree_svd").function(planted, free, error=1e-9).network
                worst = max(worst, relative_error(planted, found))
                right += _ranks(found.structure) == _ranks(planted_structure)
                runs += 1
        holds = holds and worst <= _BOUND and right == runs
        numbers |= {f"{name}_runs": runs, f"{name}_right_ranks": right, f"{name}_largest_error": worst}
        lines.append(f"{name}: planted ranks in {right} of {runs} runs, largest relative error {worst:.1e}")
    return Measurement(holds, "\n".join(lines), numbers)


def _ranks(structure: Structure) -> dict[str, int]:
    return {bond: structure.sizes[bond] for bond in structure.inner_indices}
