"""The product of two features with every path kept separate, beside e3nn's, and beside a copy of as many bytes.

    python -m benchmarks.so3_products --degrees 1 2 --threads 2

Milliseconds are the least of several runs that take turns: forward, forward and backward, and with the derivatives of
the gradients. A copy reads half of what forward reads and writes, and writes the other half.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tenfold.so3 import Irreps
from tenfold.so3.products import ClebschGordan


def irreps(degree: int, channels: int) -> Irreps:
    """A function on the sphere in each channel."""
    return Irreps([(channels, block.ir) for block in Irreps.harmonics(degree)])


def ours(degree: int, channels: int) -> ClebschGordan:
    feature = irreps(degree, channels)
    wanted = [ir for ir in {path.ir for path in feature.paths(feature)} if ir.l <= degree]
    return ClebschGordan.separate(feature, feature, wanted, layout="ir_mul")


def theirs(product: ClebschGordan) -> Any:
    """The same in e3nn, compiled as it does by default; None where it is not installed."""
    try:
        from e3nn import o3
    except ImportError:
        return None
    sides = [o3.Irreps(str(side)) for side in (product.irreps_in1, product.irreps_in2, product.irreps_out)]
    return o3.TensorProduct(*sides, [tuple(one) for one in product.instructions])


def works(product: Any, left: Tensor, right: Tensor) -> dict[str, Callable[[], Any]]:
    one, other = left.clone().requires_grad_(), right.clone().requires_grad_()
    grad = torch.randn_like(product(left, right))

    def backward() -> Any:
        return torch.autograd.grad(product(one, other), (one, other), grad)

    def double_backward() -> Any:
        up = grad.clone().requires_grad_()
        first = torch.autograd.grad(product(one, other), (one, other), up, create_graph=True)
        return torch.autograd.grad(first, (one, other, up), (left, right))

    return {"forward": lambda: product(left, right), "backward": backward, "double": double_backward}


def least(functions: list[Callable[[], Any]], repeats: int, clock: Callable[[], float]) -> list[float]:
    """Milliseconds of each, in turns."""
    found = [float("inf")] * len(functions)
    for repeat in range(repeats + 1):
        for number, function in enumerate(functions):
            start = clock()
            function()
            if repeat:
                found[number] = min(found[number], 1e3 * (clock() - start))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--degrees", type=int, nargs="+", default=[2, 4, 6])
    parser.add_argument("--batch", type=int, default=1000)
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--cpu", action="store_true", help="time of one thread on the processor, on a busy machine")
    given = parser.parse_args()
    torch.set_num_threads(1 if given.cpu else given.threads)
    clock = time.thread_time if given.cpu else time.perf_counter
    for degree in given.degrees:
        product = ours(degree, given.channels)
        peer = theirs(product)
        left, right = torch.randn(2, given.batch, product.irreps_in1.dim)
        size = (2 * left.numel() + given.batch * product.irreps_out.dim) // 2
        source, target = torch.randn(size), torch.empty(size)
        mine, their = works(product, left, right), None if peer is None else works(peer, left, right)
        (copy,) = least([lambda target=target, source=source: target.copy_(source)], given.repeats, clock)
        print(f"L = {degree}: {8 * size / 1e6:.0f} MB, a copy of as much {copy:.2f} ms, {8e-6 * size / copy:.1f} GB/s")
        for name, function in mine.items():
            times = least([function, *([] if their is None else [their[name]])], given.repeats, clock)
            line = f"  {name:9} {times[0]:8.2f} ms, {times[0] / copy:.1f} copies"
            print(line + (f"; e3nn {times[1]:8.2f} ms, {times[1] / times[0]:.0f} times as long" if their else ""))


if __name__ == "__main__":
    main()
