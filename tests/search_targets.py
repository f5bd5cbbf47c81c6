"""Targets of searches whose error is a formula, so that a search takes milliseconds."""

from __future__ import annotations

import hashlib
import math
import os
import signal
import time
from dataclasses import dataclass, field
from multiprocessing import parent_process
from pathlib import Path

import torch

from tenfold.network import Network
from tenfold.structure import Structure
from tenfold.structure_search.targets import Fitted


def chance(text: str) -> float:
    """A number from 0 to 1 that a text stands for."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=6).digest()) / 2**48


@dataclass(frozen=True)
class Formula:
    """Errors that fall with the ranks, more or less; fits give up where they are told that they may.

    Args:
        sharp: the part of the error that the bound knows.
        asked: the keys of the structures that were fitted, in this process.
        dies: a file; the first process that fits, beside the one that searches, makes it and kills itself.
        signs: a folder; every process leaves a file there that is named after its number and the structure it fits.
    """

    shape: tuple[int, ...]
    salt: int = 0
    sharp: float = 0.9
    gives_up: bool = True
    pause: float = 0.0
    asked: list[str] = field(default_factory=list, compare=False)
    dies: Path | None = None
    signs: Path | None = None

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def error(self, structure: Structure) -> float:
        ranks = sum(math.log(structure.sizes[index]) for index in structure.inner_indices)
        return math.exp(-0.4 * ranks) * (0.5 + chance(f"{self.salt} {structure.key}"))

    def bound(self, structure: Structure) -> float:
        return self.error(structure) * self.sharp * chance(f"bound {self.salt} {structure.key}")

    def fit(
        self,
        structure: Structure,
        *,
        near: Network | None = None,
        seed: int = 0,
        sweeps: int | None = None,
        within: float = math.inf,
    ) -> Fitted:
        self.asked.append(structure.key)
        if self.signs is not None:
            (self.signs / f"{os.getpid()} {chance(structure.key)}").touch()
        if self.dies is not None and parent_process() is not None and not self.dies.exists():
            self.dies.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if self.pause:
            time.sleep(self.pause)
        error = self.error(structure)
        network = Network(structure, [torch.full(core.shape, float(seed % 7)) for core in structure.cores])
        if sweeps is not None:
            return Fitted(network, error * (1.1 if near is None else 1.05), sweeps)
        if self.gives_up and error > within:
            return Fitted(network, error * 1.5, 3, finished=False)
        return Fitted(network, error, 10)
