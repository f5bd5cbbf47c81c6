"""The time of Gaunt products grows with the third power of the degree, that of Clebsch-Gordan products much faster."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from tenfold.claims._clock import exponent, medians
from tenfold.claims._registry import Measurement, Number, claim
from tenfold.so3 import GauntGrid, Irreps, tensor_product

_LARGEST, _APART = 3.5, 2.0
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
    degrees: Sequence[int] = (4, 6, 8, 10, 12),
    rows: int = 1024,
    channels: int = 16,
    rounds: int = 5,
) -> Measurement:
    """Time both for degrees up to L on each side and out, and fit time = c L^p to the medians.

    Both have the same irreps, and so the same paths, those of an even sum of degrees. The Gaunt product is that on a
    separable grid; the Clebsch-Gordan product has a weight for each path and leaves out coefficients that are zero,
    which is O(L^5). There are so many rows that what a call costs beside its work does not count. Time is that of the
    processor, in single precision. Holds if the exponent of the Gaunt product is at most 3.5 and that of the
    Clebsch-Gordan product larger by at least 2. The same product with its coefficients as one dense matrix, zeros and
    all, which is the O(L^6) of the paper, is timed beside both for fewer rows, and decides nothing.
    """
    generator = torch.Generator().manual_seed(seed)
    seconds: dict[str, list[float]] = {"Gaunt": [], "Clebsch-Gordan": [], "dense": []}
    numbers: dict[str, Number] = {}
    for degree in degrees:
        irreps = Irreps([(channels, ir) for _, ir in Irreps.harmonics(degree)])
        grid = GauntGrid(irreps, irreps, irreps, layout="ir_mul", method="separable")
        paths = tensor_product(irreps, irreps, irreps, method="clebsch_gordan", layout="ir_mul")
        left, right = torch.randn(2, rows, irreps.dim, generator=generator)
        weight = paths.random_weight(seed=seed)
        single = Irreps.harmonics(degree)
        one = tensor_product(single, single, single, method="clebsch_gordan")
        table = one.coefficients(one.random_weight(seed=seed)).float().flatten(0, 1)
        few = torch.randn(2, _FEW, single.dim, generator=generator)
        found = medians(
            {
                "Gaunt": partial(grid, left, right),
                "Clebsch-Gordan": partial(paths, left, right, weight),
                "dense": partial(_dense, few[0], few[1], table),
            },
            rounds,
        )
        for name, each in found.items():
            seconds[name].append(each)
            numbers[f"{name}, L = {degree}: milliseconds"] = round(1e3 * each, 4)
    powers = {name: exponent(degrees, each) for name, each in seconds.items()}
    lines = [f"{rows} rows of {channels} channels ({_FEW} of one, dense), L = {', '.join(map(str, degrees))}"]
    lines += [
        f"{name}: {', '.join(f'{1e3 * one:.3g}' for one in each)} ms, exponent {powers[name]:.2f}"
        for name, each in seconds.items()
    ]
    holds = powers["Gaunt"] <= _LARGEST and powers["Clebsch-Gordan"] - powers["Gaunt"] >= _APART
    return Measurement(holds, "\n".join(lines), {f"{name}: exponent": p for name, p in powers.items()} | numbers)


def _dense(left: Tensor, right: Tensor, table: Tensor) -> Tensor:
    return torch.einsum("ni,nj->nij", left, right).flatten(1) @ table
