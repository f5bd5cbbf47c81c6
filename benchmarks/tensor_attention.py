"""Attention to pairs of tokens beside the einsum that defines it: time, memory, and errors beside their bounds.

    python -m benchmarks.tensor_attention [--smoke] [--threads N] [--json FILE]

The plain einsum writes all scores down and lets autograd keep them. In pieces it does so for a few queries at a time;
the size of the pieces is the fastest of some. Compiled is the plain one by ``torch.compile``.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import machine
from benchmarks.harness import Case, Contender, Outcome, measure
from benchmarks.resident import growth
from tenfold.nn import polynomial_degree, polynomial_error, polynomial_tensor_attention, score_bound, tensor_attention

_PIECES = (1, 2, 4, 16)
Inputs = Sequence[Tensor]


def inputs(n: int, dim: int, seed: int = 0) -> list[Tensor]:
    """Queries, keys and values, standard normal, in single precision."""
    return list(torch.randn(5, n, dim, generator=torch.Generator().manual_seed(seed)).unbind(0))


def plain(q: Tensor, k1: Tensor, k2: Tensor, v1: Tensor, v2: Tensor, *, causal: bool = False, start: int = 0) -> Tensor:
    """The definition; queries begin at position ``start``."""
    scores = torch.einsum("il,jl,kl->ijk", q * q.shape[1] ** -0.5, k1, k2)
    if causal:
        seen = torch.arange(len(k1)) <= torch.arange(start, start + len(q))[:, None]
        scores = scores.masked_fill(~(seen[:, :, None] & seen[:, None, :]), -torch.inf)
    weights = torch.softmax(scores.flatten(1), dim=1).view_as(scores)
    return torch.einsum("ijk,jl,kl->il", weights, v1, v2)


def pieces(size: int, q: Tensor, *others: Tensor, causal: bool = False) -> Tensor:
    """The same for ``size`` queries at a time; where these see only what is before them, without the rest."""
    found = []
    for start in range(0, len(q), size):
        seen = [x[: start + size] if causal else x for x in others]
        found.append(plain(q[start : start + size], *seen, causal=causal, start=start))
    return torch.cat(found)


def fastest_pieces(given: Inputs) -> int:
    """The best size of pieces, on an eighth of the queries."""
    taken = {}
    part = [given[0][: max(16, len(given[0]) // 8)], *given[1:]]
    for size in _PIECES:
        pieces(size, *part)
        started = time.process_time()
        pieces(size, *part)
        taken[size] = time.process_time() - started
    return min(taken, key=lambda size: taken[size])


def trained(way: Callable[..., Tensor], given: Inputs) -> Tensor:
    """Forward and backward; the derivative in the queries."""
    leaves = [x.detach().requires_grad_() for x in given]
    return torch.autograd.grad(way(*leaves).square().sum(), leaves)[0]


def case(label: str, given: Inputs, *, causal: bool, backward: bool, compiled: bool) -> Case:
    """Contenders at one size; errors are those to the definition in double precision, for some queries."""
    n, dim = given[0].shape
    size = fastest_pieces(given)
    ways: dict[str, Callable[..., Tensor]] = {
        "tenfold": partial(tensor_attention, causal=causal),
        "plain einsum": partial(plain, causal=causal),
        f"einsum, pieces of {size}": partial(pieces, size, causal=causal),
    }
    if compiled:
        ways["plain einsum, compiled"] = torch.compile(partial(plain, causal=causal))
    rows = [0, n // 2, n - 1]
    parts = []
    if not backward:
        for row in rows:
            seen = row + 1 if causal else n
            parts.append(plain(given[0][row : row + 1].double(), *(x[:seen].double() for x in given[1:]))[0])

    def error(found: Tensor) -> float:
        exact = torch.stack(parts)
        return float((found[rows].double() - exact).norm() / exact.norm())

    def run(way: Callable[..., Tensor]) -> Callable[[], Tensor]:
        if backward:
            return lambda: trained(way, given)

        def forward() -> Tensor:
            with torch.no_grad():
                return way(*given)

        return forward

    check = None if backward else error
    products = (6 + 2) * 2 * n**3 * dim if backward else 2 * 2 * n**3 * dim
    flops = products / 3 if causal else products
    contenders = [Contender(name, run(way), check) for name, way in ways.items()]
    return Case(label, n, contenders, agreement=1.0, flops=flops)


def gemm_rate(size: int, clock: Callable[[], float], rounds: int = 5) -> float:
    """Gflop/s of a product of matrices in single precision."""
    left = torch.randn(size, size)
    best = float("inf")
    for _ in range(rounds):
        started = clock()
        left @ left
        best = min(best, clock() - started)
    return 2 * size**3 / best / 1e9


def peak(way: str, n: int, dim: int, backward: bool, threads: int) -> float:
    """Megabytes that a process of its own takes more than before."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_peak, (way, n, dim, backward, threads))


def _peak(way: str, n: int, dim: int, backward: bool, threads: int) -> float:
    torch.set_num_threads(threads)
    call = {"tenfold": tensor_attention, "plain einsum": plain, "einsum, pieces of 1": partial(pieces, 1)}[way]
    trained(call, inputs(16, dim))  # what libraries take when they are used for the first time
    given = inputs(n, dim)

    def once() -> None:
        if backward:
            trained(call, given)
        else:
            with torch.no_grad():
                call(*given)

    taken = growth(once)
    if taken is None:
        raise RuntimeError("memory is measured on Linux only")
    return taken


def approximation(n: int, dim: int, error: float, rows: int) -> dict[str, Any]:
    """Polynomial attention to ``n`` tokens with entries between -1 and 1: seconds, and its error beside its bound."""
    given = [x.clamp(-2, 2) / 2 for x in inputs(n, dim)]
    scores = score_bound(*given[:3])
    degree = polynomial_degree(scores, error)
    bound = polynomial_error(scores, degree, dim)
    units = float(given[3].abs().max() * given[4].abs().max())
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        found = polynomial_tensor_attention(*given, degree=degree)
        seconds.append(time.perf_counter() - started)
    started = time.perf_counter()
    exact = tensor_attention(given[0][:rows], *given[1:])
    for_rows = time.perf_counter() - started
    return {
        "n": n,
        "dim": dim,
        **asdict(bound),
        "measured": float((found[:rows] - exact).abs().max()) / units,
        "rows compared": rows,
        "seconds": min(seconds),
        "seconds, exact, from these rows": for_rows * n / rows,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--smoke", action="store_true", help="tiny sizes: does everything run?")
    parser.add_argument("--threads", type=int, default=machine.cores())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-compile", action="store_true", help="without the compiled einsum")
    parser.add_argument("--json", type=Path, metavar="FILE")
    chosen = parser.parse_args()
    n, dim, small = (24, 8, 16) if chosen.smoke else (1024, 64, 384)
    compiled = not (chosen.smoke or chosen.no_compile)
    # On one thread, what other programs take away does not count.
    clock = time.process_time if chosen.threads == 1 else time.perf_counter
    outcomes: dict[str, Outcome] = {}
    with machine.threads(chosen.threads):
        rate = gemm_rate(200 if chosen.smoke else 2000, clock)
        for title, length, causal, backward in (
            ("forward", n, False, False),
            ("forward, causal", n, True, False),
            ("forward and backward", small, False, True),
            ("forward and backward, causal", small, True, True),
        ):
            given = inputs(length, dim)
            one = case(f"n = {length}, d = {dim}", given, causal=causal, backward=backward, compiled=compiled)
            outcomes[title] = measure(one, rounds=chosen.rounds, seconds=240, clock=clock)
            _show(title, outcomes[title], rate)
        memory = {
            f"{way}, {'forward and backward' if backward else 'forward'}, n = {length}": peak(
                way, length, dim, backward, chosen.threads
            )
            for way in ("tenfold", "plain einsum", "einsum, pieces of 1")
            for backward, length in ((False, n), (True, small))
        }
        for name, megabytes in memory.items():
            print(f"memory, {name}: {megabytes:.0f} MB", flush=True)
        close = approximation(*((256, 2, 1e-2, 8) if chosen.smoke else (16384, 4, 1e-3, 16)))
    print(", ".join(f"{name} {value:.3g}" for name, value in close.items()))
    if chosen.json is not None:
        record = {
            "machine": machine.description(chosen.threads),
            "gemm_gflops_single": rate,
            "clock": clock.__name__,
            "outcomes": {title: asdict(outcome) for title, outcome in outcomes.items()},
            "memory_megabytes": memory,
            "approximation": close,
        }
        chosen.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _show(title: str, outcome: Outcome, rate: float) -> None:
    print(f"{title}, {outcome.label}; {(outcome.gflops or 0) / rate:.0%} of the rate of a product of matrices")
    for row in outcome.rows:
        if row.seconds is None or row.fastest is None:
            print(f"  {row.name}: {row.note}")
            continue
        ratio = "" if row.ratio is None else f", {row.ratio:.2f} times tenfold's"
        error = "" if row.error is None else f", error {row.error:.1e}"
        print(f"  {row.name}: {row.seconds:.3f} s, fastest {row.fastest:.3f} s{ratio}{error}", flush=True)


if __name__ == "__main__":
    main()
