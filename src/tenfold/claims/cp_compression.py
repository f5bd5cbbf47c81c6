"""CP on the core of an orthogonal compression has, up to a constant, the squared error of CP on the data."""

from __future__ import annotations

import math

from tenfold import formats
from tenfold.claims._registry import Measurement, claim
from tenfold.claims._tensors import residual, varied
from tenfold.decomposition import find
from tenfold.decomposition.tree_svd import st_hosvd
from tenfold.network import Network

_ROUNDING = 1e-9


@claim(
    "cp_compression",
    paper="CANDELINC: a general approach to multidimensional analysis of many-way arrays with linear constraints on "
    "parameters",
    year=1980,
    where="The reduction of the constrained fit to an unconstrained one",
    stated=(
        "With factors confined to the ranges of orthonormal bases, fitting CP to the data is fitting it to the data's "
        "coordinates in these bases: the squared errors differ by what the bases leave out, whatever the factors."
    ),
)
def cp_compression(*, seed: int = 0, tensors: int = 32, rank: int = 3) -> Measurement:
    """Compress random, smooth and real tensors, fit CP to each core, and expand the factors.

    Compared for random factors and for fitted ones: the squared error on the whole tensor, entry by entry, with that on
    the core plus the squares left out. Holds if they differ by at most 10^-9 of the squared norm. How far the fit of
    the core is from that of the whole tensor is a number and decides nothing: bases of twice the rank leave some of it
    out.
    """
    method = find("cp_als").function
    worst, behind, count = 0.0, 0.0, 0
    for number, (_, tensor) in enumerate(varied(seed, random=tensors)):
        # No more basis vectors than the unfolding has columns: there would be none to fill the basis with.
        ranks = [min(n, 2 * rank, tensor.numel() // n) for n in tensor.shape]
        core, bases = st_hosvd(tensor, ranks)
        total = float(tensor.norm()) ** 2
        outside = total - float(core.norm()) ** 2
        small, large = formats.cp(core.shape, rank), formats.cp(tensor.shape, rank)
        fitted = method(core, small, seed=seed).network
        drawn = Network.random(small, seed=seed + number, dtype=core.dtype)
        drawn = drawn.replace([drawn.cores[0] * (math.sqrt(total) / float(drawn.norm())), *drawn.cores[1:]])
        for network in (fitted, drawn):
            expanded = Network(large, [basis @ factor for basis, factor in zip(bases, network.cores, strict=True)])
            whole, inside = residual(tensor, expanded) ** 2, residual(core, network) ** 2
            worst = max(worst, abs(whole - inside - outside) / total)
            count += 1
        start = Network(large, [basis @ factor for basis, factor in zip(bases, fitted.cores, strict=True)])
        polished = method(tensor, large, init=start).network
        behind = max(behind, residual(tensor, start) / max(residual(tensor, polished), 1e-12 * math.sqrt(total)) - 1)
    text = (
        f"{count} sets of factors on {count // 2} tensors: the squared errors differ by at most {worst:.1e} of the "
        f"squared norm; going on with the whole tensor lowers the error of a fit by at most {100 * behind:.2g} %"
    )
    numbers = {"factors": count, "worst_difference": worst, "largest_gain_after": behind}
    return Measurement(worst <= _ROUNDING, text, numbers)
