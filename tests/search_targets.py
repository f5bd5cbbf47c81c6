"""Targets of searches whose error is a formula, so that a search takes milliseconds."""

from __future__ import annotations

import hashlib
import math
import os
import signal
import time
from collections.abc import Callable, Mapping
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
        formula: the error, instead of one that falls with the ranks, at the first look too; the bound is then ``sharp``
            of it, and not less.
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
    formula: Callable[[Structure], float] | None = None
    signs: Path | None = None

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def error(self, structure: Structure) -> float:
        if self.formula is not None:
            return self.formula(structure)
        ranks = sum(math.log(structure.sizes[index]) for index in structure.inner_indices)
        return math.exp(-0.4 * ranks) * (0.5 + chance(f"{self.salt} {structure.key}"))

    def has_room(self, structure: Structure) -> bool:
        return True

    def bound(self, structure: Structure) -> float:
        part = 1.0 if self.formula is not None else chance(f"bound {self.salt} {structure.key}")
        return self.error(structure) * self.sharp * part

    def fit(
        self,
        structure: Structure,
        *,
        near: Network | None = None,
        seed: int = 0,
        sweeps: int | None = None,
        within: float = math.inf,
        stop: Callable[[], bool] | None = None,
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
        if sweeps is not None and self.formula is None:
            return Fitted(network, error * (1.1 if near is None else 1.05), sweeps)
        if self.gives_up and error > within:
            return Fitted(network, error * 1.5, 3, finished=False)
        return Fitted(network, error, 10)


def exactly(shape: tuple[int, ...], formula: Callable[[Structure], float], *, bounded: bool = True) -> Formula:
    """A target whose errors, and the bounds on them if there are any, are what ``formula`` says of structures."""
    return Formula(shape, sharp=float(bounded), gives_up=False, formula=formula)


def missing_ranks(wanted: Mapping[str, int]) -> Callable[[Structure], int]:
    """How many ranks of the bonds of these sizes are missing."""
    return lambda structure: sum(max(0, size - structure.sizes.get(bond, 1)) for bond, size in wanted.items())


def missing_edges(wanted: Structure) -> Callable[[Structure], float]:
    """Zero where every bond of ``wanted`` is there and as large, else more the more is missing."""
    bonds = {index: wanted.sizes[index] for index in wanted.inner_indices}

    def error(structure: Structure) -> float:
        lost = sum(max(0, math.log(size / structure.sizes.get(index, 1))) for index, size in bonds.items())
        return 1 - math.exp(-lost) if lost else 0.0

    return error


def hashed(structure: Structure) -> float:
    """An error that says nothing: any number between 0 and 1, the same for the same structure."""
    return (int(structure.key[:12], 16) + 1) / (16**12 + 2)
