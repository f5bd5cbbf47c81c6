"""Peak memory and time of decompositions of arrays larger than a budget, which are made up box by box.

    python -m benchmarks.large --gigabytes 20 --memory "2 GB"

Each array is a Tucker network of rank 10 with noise of a tenth of its norm, so that the error to be found is known. It
is never anywhere as a whole: each chunk has a random generator of its own. Each size runs in a process of its own,
whose memory before the fit is taken off.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

RANK = 10
NOISE = 0.1
ENTRIES = 2**19  # of a chunk, about


@dataclass(frozen=True)
class Virtual:
    """An n x n x n array in chunks of some rows x a quarter x all; picklable, so that workers can make it up too."""

    n: int

    @property
    def chunks(self) -> tuple[int, int, int]:
        quarter = -(-self.n // 4)
        return max(1, ENTRIES // (quarter * self.n)), quarter, self.n

    def __call__(self, box: tuple[slice, ...]) -> np.ndarray:
        core, (a, b, c) = _signal(self.n)
        i, j, k = box
        values = np.tensordot(np.tensordot(a[i], core, 1), c[k], ([2], [1])).transpose(0, 2, 1) @ b[j].T
        values = np.ascontiguousarray(values.transpose(0, 2, 1))
        rows, columns, _ = self.chunks
        for row in range(i.start // rows, -(-i.stop // rows)):
            for column in range(j.start // columns, -(-j.stop // columns)):
                high = (min((row + 1) * rows, self.n), min((column + 1) * columns, self.n))
                extent = (high[0] - row * rows, high[1] - column * columns, self.n)
                noise = np.random.default_rng([row, column]).standard_normal(extent, dtype=np.float32)
                here = (
                    slice(max(i.start, row * rows), min(i.stop, high[0])),
                    slice(max(j.start, column * columns), min(j.stop, high[1])),
                )
                inside = (
                    slice(here[0].start - row * rows, here[0].stop - row * rows),
                    slice(here[1].start - column * columns, here[1].stop - column * columns),
                    k,
                )
                out = (
                    slice(here[0].start - i.start, here[0].stop - i.start),
                    slice(here[1].start - j.start, here[1].stop - j.start),
                )
                values[out] += NOISE * noise[inside]
        return values

    @property
    def error(self) -> float:
        """Of the best network of these ranks, but for what its parameters take of the noise."""
        return NOISE / np.sqrt(1 + NOISE**2)


@lru_cache(maxsize=1)
def _signal(n: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Core and orthonormal factors of an array whose entries are 1 in the root mean square."""
    random = np.random.default_rng(0)
    core = random.standard_normal((RANK,) * 3)
    core *= n**1.5 / np.linalg.norm(core)
    return core, [np.linalg.qr(random.standard_normal((n, RANK)))[0] for _ in range(3)]


def measure(gigabytes: float, memory: str, error: float | None, checkpoint: str | None) -> dict[str, float]:
    """One fit in this process."""
    import tenfold as tn

    # What is loaded by the first fit is no memory of the second.
    tn.fit(np.random.default_rng(0).standard_normal((20, 20, 20)), "tucker", ranks=2)
    virtual = Virtual(round((gigabytes * 1e9 / 8) ** (1 / 3)))
    array = tn.Blocks(virtual, (virtual.n,) * 3, np.float64, chunks=virtual.chunks)
    array.box(tuple(slice(0, chunk) for chunk in virtual.chunks))
    before, started = peak(), time.perf_counter()
    asked = {"ranks": RANK, "structure": "tucker"} if error is None else {"error": error}
    fit = tn.fit(array, memory=memory, checkpoint=checkpoint, progress=sys.stderr.isatty(), **asked)
    return {
        "gigabytes": virtual.n**3 * 8 / 1e9,
        "seconds": time.perf_counter() - started,
        "megabytes": (peak() - before) / 1e6,
        "error": fit.error,
        "known": virtual.error,
        "parameters": fit.parameters,
    }


def peak() -> int:
    """The most memory that this process has had, in bytes."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, nargs="+", default=[0.6, 1.2, 2.4])
    parser.add_argument("--memory", default="150 MB")
    parser.add_argument("--error", type=float, help="find a structure with this error instead of Tucker of rank 10")
    parser.add_argument("--checkpoint", help="a folder to go on from, to be used with one size")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.here:
        print(json.dumps(measure(given.gigabytes[0], given.memory, given.error, given.checkpoint)))
        return
    print(f"{'array':>9} {'memory':>9} {'peak':>9} {'seconds':>8} {'error':>9} {'known':>9}")
    for size in given.gigabytes:
        command = [
            sys.executable,
            "-m",
            "benchmarks.large",
            "--here",
            "--gigabytes",
            str(size),
            "--memory",
            given.memory,
        ]
        command += [] if given.error is None else ["--error", str(given.error)]
        command += [] if given.checkpoint is None else ["--checkpoint", given.checkpoint]
        found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        print(
            f"{found['gigabytes']:6.1f} GB {given.memory:>9} {found['megabytes']:6.0f} MB {found['seconds']:8.1f} "
            f"{found['error']:9.6f} {found['known']:9.6f}"
        )


if __name__ == "__main__":
    main()
