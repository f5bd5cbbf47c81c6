"""The time of Gaunt products grows with the third power of the degree, that of Clebsch-Gordan products much faster."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from tenfold._threads import threads_for
from tenfold.claims._clock import exponent, fastest
from tenfold.claims._registry import Measurement, Number, claim
from tenfold.so3 import GauntGrid, Irreps, tensor_product

# Orders are whole numbers, and so are their differences: measured ones are rounded.
_LARGEST, _APART = 3.5, 2.5
_ORDERS = {"Gaunt": 3, "dense": 6, "sparse": 5}
# Rows of one channel that are multiplied by dense coefficients.
_FEW = 256


@claim(
    "gaunt_growth",
    paper="Enabling Efficient Equivariant Operations in the Fourier Basis via Gaunt Tensor Products",
    year=2024,
    where="The analysis of complexity",
    stated=(
        "All degrees up to L are multiplied in O(L^3) by Gaunt products, where Clebsch-Gordan products over all paths "
        "take O(L^6)."
    ),
)
def gaunt_growth(
    *,
    seed: int = 0,
    gaunt_degrees: Sequence[int] = (8, 12, 16, 20, 24),
    degrees: Sequence[int] = (8, 10, 12, 14),
    rows: int = 512,
    channels: int = 32,
    rounds: int = 5,
) -> Measurement:
    """Time products for degrees up to L on each side and out, and fit time = c (L + 1)^p to the least of some runs.

    All have the same irreps, and so the same paths, those of an even sum of degrees. The Gaunt product is that on a
    separable grid. The Clebsch-Gordan product of the paper, O(L^6), has its coefficients as one dense matrix, zeros
    and all. L + 1 is how many degrees there are: a signal has (L + 1)^2 components, and in L itself powers would look
    smaller than they are. Degrees are large: at small ones products take as long to read and write their numbers,
    which is O(L^2), or to multiply each component with each, which is O(L^4), as to do the rest. Time is that of one
    thread, in single precision. The work is counted beside it, as multiplications for one channel.

    A product that leaves out coefficients that are zero is O(L^5). It is counted and timed too, with a weight for each
    path; but only two powers apart, of which pairs of components take a part away at any degree that can be timed, its
    time decides nothing.

    Holds if the exponents of the work, rounded, are the orders 3, 6 and 5, and if those of the time are nearer to the
    orders than to the next whole number: that of the Gaunt product at most 3.5, and that of the dense one larger by at
    least 2.5.
    """
    generator = torch.Generator().manual_seed(seed)
    seconds: dict[str, list[float]] = {name: [] for name in ("Gaunt", "dense", "sparse")}
    work: dict[str, list[int]] = {name: [] for name in seconds}
    numbers: dict[str, Number] = {}
    sizes = {"Gaunt": gaunt_degrees, "dense": degrees, "sparse": degrees}
    with threads_for(0):
        for degree in gaunt_degrees:
            irreps = Irreps([(channels, ir) for _, ir in Irreps.harmonics(degree)])
            grid = GauntGrid(irreps, irreps, irreps, layout="ir_mul", method="separable")
            left, right = torch.randn(2, rows, irreps.dim, generator=generator)
            seconds["Gaunt"].append(fastest({"": partial(grid, left, right)}, rounds)[""])
            work["Gaunt"].append(grid.operations)
        for degree in degrees:
            irreps = Irreps([(channels, ir) for _, ir in Irreps.harmonics(degree)])
            paths = tensor_product(irreps, irreps, irreps, method="clebsch_gordan", layout="ir_mul")
            left, right = torch.randn(2, rows, irreps.dim, generator=generator)
            weight = paths.random_weight(seed=seed)
            single = Irreps.harmonics(degree)
            one = tensor_product(single, single, single, method="clebsch_gordan")
            table = one.coefficients(one.random_weight(seed=seed)).float().flatten(0, 1)
            few = torch.randn(2, _FEW, single.dim, generator=generator)
            products = {"dense": partial(_dense, few[0], few[1], table), "sparse": partial(paths, left, right, weight)}
            for name, each in fastest(products, rounds).items():
                seconds[name].append(each)
            work["dense"].append(table.numel())
            work["sparse"].append(int((table.abs() > 1e-7).sum()))
    powers = {name: exponent([n + 1 for n in sizes[name]], each) for name, each in seconds.items()}
    counted = {name: exponent([n + 1 for n in sizes[name]], each) for name, each in work.items()}
    lines = [f"{rows} rows of {channels} channels ({_FEW} of one, dense), one thread, exponents in L + 1"]
    for name, taken in seconds.items():
        times = ", ".join(f"{1e3 * time:.3g}" for time in taken)
        listed = ", ".join(map(str, sizes[name]))
        lines.append(f"{name}, L = {listed}: {times} ms, exponent {powers[name]:.2f}, of work {counted[name]:.2f}")
        for degree, time, count in zip(sizes[name], taken, work[name], strict=True):
            numbers[f"{name}, L = {degree}: milliseconds"] = round(1e3 * time, 4)
            numbers[f"{name}, L = {degree}: multiplications"] = count
    holds = (
        powers["Gaunt"] <= _LARGEST
        and powers["dense"] - powers["Gaunt"] >= _APART
        and all(round(counted[name]) == order for name, order in _ORDERS.items())
    )
    exponents: dict[str, Number] = {f"{name}: exponent": power for name, power in powers.items()}
    exponents |= {f"{name}: exponent of work": power for name, power in counted.items()}
    return Measurement(holds, "\n".join(lines), exponents | numbers)


def _dense(left: Tensor, right: Tensor, table: Tensor) -> Tensor:
    return torch.einsum("ni,nj->nij", left, right).flatten(1) @ table
