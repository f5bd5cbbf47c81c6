"""Which product of two features? What each can express and how long it takes, measured here and now."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor

from tenfold._arguments import whole_number
from tenfold._tables import columns
from tenfold.errors import TenfoldError
from tenfold.so3.freedom import degrees_of_freedom, interactability
from tenfold.so3.irreps import Given, Irreps
from tenfold.so3.products import Product, Unsuited, product_methods

# Timed so often, after two calls that are not.
_ROUNDS = 5
# One call that takes longer than this is not repeated.
_LONG = 2.0


@dataclass(frozen=True)
class Advised:
    """What was measured of one product.

    Attributes:
        method: its name, for `tenfold.so3.tensor_product`.
        paths: how many triples of irreps have a coefficient that is not zero.
        freedom: how many numbers its weights choose independently in one channel; 1 for a product without weights.
        seconds: of the product; the median.
        gradient_seconds: of the product and its gradient with respect to both features and the weights.
        refused: why it cannot multiply these irreps; empty if it can, and then the rest is there.
    """

    method: str
    paths: int = 0
    freedom: int = 0
    seconds: float = 0.0
    gradient_seconds: float = 0.0
    refused: str = ""


@dataclass(frozen=True)
class Advice:
    """Products side by side, the fastest that lacks no path first; prints as a table.

    Attributes:
        rows: one for each method.
        paths: how many triples of irreps there are.
        batch: rows of features that were multiplied.
        channels: of each irrep.
        device: where.
        threads: of torch.
    """

    rows: tuple[Advised, ...]
    paths: int
    batch: int
    channels: int
    device: str
    threads: int

    @property
    def complete(self) -> str | None:
        """The fastest method that lacks no path, if there is one."""
        return self._fastest(self.paths)

    @property
    def freest(self) -> str | None:
        """The fastest of those whose weights reach most."""
        return self._fastest(1, max((row.freedom for row in self.rows), default=0))

    @property
    def fastest(self) -> str | None:
        """The fastest of all."""
        return self._fastest(1)

    def _fastest(self, paths: int, freedom: int = 0) -> str | None:
        able = [row for row in self.rows if not row.refused and row.paths >= paths and row.freedom >= freedom]
        return min(able, key=lambda row: row.gradient_seconds).method if able else None

    def __repr__(self) -> str:
        able = [row for row in self.rows if not row.refused]
        shown = [
            (
                row.method,
                f"{row.paths} of {self.paths}",
                row.freedom,
                f"{1e3 * row.seconds:.3g} ms",
                f"{1e3 * row.gradient_seconds:.3g} ms",
                f"{1e6 * row.gradient_seconds / max(row.freedom, 1) / max(self.batch, 1):.3g}",
            )
            for row in able
        ]
        header = ("method", "paths", "freedom", "forward", "with gradient", "us/row/freedom")
        lines = [
            f"{self.batch} rows, {self.channels} channels, {self.device}, {self.threads} threads",
            columns(header, shown, right=(1, 2, 3, 4, 5)),
        ]
        lines += [f"{row.method}: not here, {row.refused}" for row in self.rows if row.refused]
        if able:
            every = self.complete or "none of these"
            lines += [
                f"paths: which of the {self.paths} triples of these irreps meet; fastest with all of them: {every}",
                f"freedom: how many numbers weights choose for one channel; fastest with most: {self.freest}",
                f"fastest of all, whatever it lacks: {self.fastest}",
            ]
        return "\n".join(lines)


def advise(
    irreps_in1: Given,
    irreps_in2: Given,
    irreps_out: Given,
    *,
    batch: int = 1000,
    channels: int = 64,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Advice:
    """Measure every product of channels that there is, for features of these irreps.

    Products differ in what they can express: those of functions on the sphere have no path whose degrees add up to an
    odd number, and weights by degree where Clebsch-Gordan products have one for each path. So paths and freedom stand
    beside the times.

    Args:
        irreps_in1, irreps_in2, irreps_out: of one channel, like ``"0e+1o+2e"``.
        batch: rows of features.
        channels: how often each irrep occurs.
        device: where to measure.
        dtype: of the features.

    Raises:
        TenfoldError: the irreps are empty or none, or a number is not positive.

    Cost: about ten products of each kind with gradients, and twice ``dim1 dim2`` rows of one channel.
    Papers: "The Price of Freedom: Exploring Expressivity and Runtime Tradeoffs in Equivariant Tensor Products", 2025.
    """
    channels, batch = whole_number("channels", channels, 1), whole_number("batch", batch, 1)
    single = [Irreps(irreps).simplify() for irreps in (irreps_in1, irreps_in2, irreps_out)]
    for name, irreps in zip(("irreps_in1", "irreps_in2", "irreps_out"), single, strict=True):
        if not irreps.dim:
            raise TenfoldError(f"{name} must have at least one irrep")
    many = [Irreps([(block.mul * channels, block.ir) for block in irreps]) for irreps in single]
    rows = []
    for name, method in product_methods().items():
        try:
            small = method.make(*single, layout="ir_mul")
            large = method.make(*many, layout="ir_mul")
        except Unsuited as reason:
            rows.append(Advised(name, refused=str(reason)))
            continue
        forward, gradient = _timed(large, batch, torch.device(device), dtype)
        rows.append(Advised(name, len(interactability(small)), degrees_of_freedom(small), forward, gradient))
    paths = len({(single[0][p.left].ir, single[1][p.right].ir, p.ir) for p in single[0].paths(single[1], single[2])})
    rows.sort(key=lambda row: (bool(row.refused), -row.paths, row.gradient_seconds))
    return Advice(tuple(rows), paths, batch, channels, str(device), torch.get_num_threads())


def _timed(product: Product, batch: int, device: torch.device, dtype: torch.dtype) -> tuple[float, float]:
    """Seconds of a product, and of one with its gradient."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=dtype).to(device)

    left, right = normal(batch, product.irreps_in1.dim), normal(batch, product.irreps_in2.dim)
    weight = normal(product.weight_numel) if product.weight_numel else None
    cotangent = normal(batch, product.irreps_out.dim)
    given = [tensor.clone().requires_grad_() for tensor in (left, right, weight) if tensor is not None]

    def forward() -> None:
        with torch.no_grad():
            product(left, right, weight)

    def gradient() -> None:
        torch.autograd.grad(product(*given), given, cotangent, allow_unused=True)

    return _median(forward, device), _median(gradient, device)


def _median(work: Callable[[], None], device: torch.device) -> float:
    times = []
    for _ in range(_ROUNDS + 2):
        before = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - before)
        # The first call compiles kernels, which says nothing about the product.
        if len(times) > 1 and times[-1] > _LONG:
            return times[-1]
    return median(times[2:])
