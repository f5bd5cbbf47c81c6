"""Functions on the sphere are multiplied faster on a grid than as Fourier series."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from tenfold.claims._clock import medians
from tenfold.claims._registry import Measurement, Number, claim
from tenfold.so3 import GauntFourier, GauntGrid, Irreps
from tenfold.so3.products import Product


@claim(
    "gaunt_grid_fourier",
    paper="The Price of Freedom: Exploring Expressivity and Runtime Tradeoffs in Equivariant Tensor Products",
    year=2025,
    where="The comparison of run times",
    stated="Gaunt products by values on a grid of the sphere are simpler and faster than those by Fourier series.",
)
def gaunt_grid_fourier(
    *,
    seed: int = 0,
    degrees: Sequence[int] = (1, 2, 3, 4, 6, 8, 10),
    rows: int = 64,
    channels: int = 16,
    rounds: int = 9,
) -> Measurement:
    """Time both for degrees up to L on each side and out: the product, and the product with its gradients.

    Both are made as users make them, in single precision; what they return is the same up to rounding. Time is that of
    the processor, the median of some rounds. Holds if the grid is faster at every L, with gradients and without.
    """
    generator = torch.Generator().manual_seed(seed)
    numbers: dict[str, Number] = {}
    lines, ratios, apart = [], [], 0.0
    for degree in degrees:
        irreps = Irreps([(channels, ir) for _, ir in Irreps.harmonics(degree)])
        products: dict[str, Product] = {
            "grid": GauntGrid(irreps, irreps, irreps, layout="ir_mul"),
            "Fourier": GauntFourier(irreps, irreps, irreps, layout="ir_mul"),
        }
        left, right, cotangent = torch.randn(3, rows, irreps.dim, generator=generator)
        values = {name: product(left, right) for name, product in products.items()}
        off = float((values["grid"] - values["Fourier"]).abs().max() / values["Fourier"].abs().max())
        apart = max(apart, math.inf if math.isnan(off) else off)

        work: dict[str, Callable[[], object]] = {}
        for name, product in products.items():
            work[name] = partial(product, left, right)
            work[f"{name} with gradients"] = partial(_gradients, product, left, right, cotangent)
        found = medians(work, rounds)
        here = [found[f"Fourier{what}"] / found[f"grid{what}"] for what in ("", " with gradients")]
        ratios += here
        numbers |= {f"{name}, L = {degree}: milliseconds": round(1e3 * each, 4) for name, each in found.items()}
        lines.append(
            f"L = {degree}: {1e3 * found['grid']:.3g} ms, Fourier {1e3 * found['Fourier']:.3g} ms, {here[0]:.1f} times "
            f"as long; with gradients {here[1]:.1f} times"
        )
    lines.append(f"results differ by {apart:.0e} of the largest number")
    holds = min(ratios) > 1 and apart < 1e-4
    return Measurement(holds, "\n".join(lines), {"least ratio": min(ratios), "largest difference": apart, **numbers})


def _gradients(product: Product, left: Tensor, right: Tensor, cotangent: Tensor) -> None:
    given = [left.clone().requires_grad_(), right.clone().requires_grad_()]
    torch.autograd.grad(product(given[0], given[1]), given, cotangent)
