"""``python -m benchmarks.peaks``: how much memory one CP of each contender needs beside its data."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from benchmarks import data
from benchmarks.harness import Contender
from benchmarks.tasks.cp import others
from tenfold import formats
from tenfold.decomposition import find
from tenfold.network import Network

SWEEPS = 3


def contenders(array: np.ndarray, rank: int) -> list[Contender]:
    """All of them on this array, from one start."""
    tensor = torch.from_numpy(array)
    structure = formats.cp(tensor.shape, rank)
    start = Network.random(structure, seed=1, dtype=tensor.dtype)

    def own():
        return find("cp_als").function(tensor, structure, init=start, max_sweeps=SWEEPS)

    return [Contender("tenfold cp_als", own), *others(tensor, structure, start, SWEEPS)]


def peak(file: Path, rank: int, number: int) -> int:
    """Bytes by which one contender raises the most that this process had in use; called in a process of its own."""
    # What the libraries keep for themselves, once for all sizes, is no part of it.
    contenders(np.random.default_rng(0).standard_normal((64, 64, 64)), rank)[number].run()
    chosen = contenders(np.load(file), rank)[number]
    before = most(reset=True)
    chosen.run()
    return max(most() - before, 0)


def most(*, reset: bool = False) -> int:
    """The most bytes that this process has had in memory, or has now if that is forgotten first (Linux)."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    (line,) = (line for line in status if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def main(arguments: list[str] | None = None) -> int:
    """Run; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peaks", description=__doc__)
    parser.add_argument("--extent", type=int, default=200, help="of each of three modes")
    parser.add_argument("--rank", type=int, default=10)
    parser.add_argument("--one", nargs=2, metavar=("FILE", "NUMBER"), help=argparse.SUPPRESS)
    chosen = parser.parse_args(arguments)
    if chosen.one is not None:
        print(peak(Path(chosen.one[0]), chosen.rank, int(chosen.one[1])))
        return 0
    tensor, _ = data.planted(formats.cp([chosen.extent] * 3, chosen.rank))
    print(f"| {chosen.extent}^3, rank {chosen.rank}, {SWEEPS} sweeps | peak beside the data, of its size |\n|---|--:|")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "data.npy"
        np.save(file, tensor.numpy())
        for number, contender in enumerate(contenders(np.zeros((2, 2, 2)), 1)):
            if contender.missing:
                print(f"| {contender.name} | {contender.missing} |")
                continue
            command = [sys.executable, "-m", "benchmarks.peaks", "--rank", str(chosen.rank)]
            done = subprocess.run(
                [*command, "--one", str(file), str(number)], capture_output=True, text=True, check=True
            )
            print(f"| {contender.name} | {int(done.stdout) / tensor.nbytes:.2f} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
