"""Rounding keeps within the error asked for, with ranks no larger than the unfoldings need."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch

from tenfold import formats
from tenfold.claims._registry import Measurement, Number, claim
from tenfold.network import Network
from tenfold.structure import Structure

_FORMATS: dict[str, Callable[[Sequence[int], int], Structure]] = {
    "tensor_train": formats.tensor_train,
    "tucker": formats.tucker,
    "hierarchical_tucker": formats.hierarchical_tucker,
}
_SHAPE = (8, 7, 6, 8)
_ERRORS = (0.5, 0.1, 1e-2, 1e-4, 1e-6)


@claim(
    "tree_rounding",
    paper="Tensor-train decomposition",
    year=2011,
    where="Algorithm 2",
    stated=(
        "Rounding a tensor train to a relative error costs at most that error, and leaves every rank no larger than "
        "the number of singular values that its unfolding needs for the error divided by sqrt(d - 1)."
    ),
)
def tree_rounding(*, seed: int = 0, seeds: int = 8) -> Measurement:
    """Round trains, Tucker and hierarchical Tucker networks whose terms decay to errors of 0.5 to 10^-6.

    The singular values are those of the network before rounding; for other trees than trains the number of bonds takes
    the place of d - 1. Holds if no error is exceeded (but for 10^-12 of the norm) and no rank is larger.
    """
    numbers: dict[str, Number] = {}
    lines = []
    holds = True
    for name, build in _FORMATS.items():
        structure = build(_SHAPE, 6)
        bonds = structure.inner_indices
        part, over, runs = 0.0, 0, 0
        for number in range(seed, seed + seeds):
            network = decaying(structure, number)
            dense, spectra = network.dense(), network.bond_spectra()
            norm = float(dense.norm())
            for error in _ERRORS:
                rounded = network.round(error=error)
                part = max(part, (float((rounded.dense() - dense).norm()) / norm - 1e-12) / error)
                allowed = error * norm / math.sqrt(len(bonds))
                over += any(rounded.structure.sizes[bond] > needed(spectra[bond].tolist(), allowed) for bond in bonds)
                runs += 1
        holds = holds and part <= 1 and over == 0
        numbers |= {f"{name}_runs": runs, f"{name}_largest_part_of_error": part, f"{name}_ranks_too_large": over}
        lines.append(f"{name}: at most {part:.4f} of the error asked for in {runs} runs; ranks too large in {over}")
    return Measurement(holds, "\n".join(lines), numbers)


def decaying(structure: Structure, seed: int) -> Network:
    """A random network whose bonds carry singular values of very different size."""
    network = Network.random(structure, seed=seed, dtype=torch.float64)
    cores = []
    for core, tensor in zip(structure.cores, network.cores, strict=True):
        for axis, index in enumerate(core.indices):
            if index in structure.inner_indices:
                decay = 10.0 ** -torch.arange(tensor.shape[axis], dtype=torch.float64)
                tensor = tensor * decay.reshape([-1 if n == axis else 1 for n in range(tensor.ndim)])
        cores.append(tensor)
    return network.replace(cores)


def needed(values: Sequence[float], allowed: float) -> int:
    """How many of the values, largest first, must stay so that the others have at most the norm ``allowed``."""
    lost = 0.0
    for rank in range(len(values), 0, -1):
        lost += values[rank - 1] ** 2
        if math.sqrt(lost) > allowed:
            return rank
    return 1
