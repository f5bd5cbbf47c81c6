"""An array that is read box by box, and what is left of it in the place of a whole one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tenfold._blocks import Blocks, memory_bytes
from tenfold._scales import times_power
from tenfold.decomposition._error import relative_error, squared_norm
from tenfold.decomposition._factored import Factored, view_of
from tenfold.decomposition._passes import Checkpoint, Passes, Sums, Watch, digest
from tenfold.decomposition._reduction import Group, Reduced, boxes, reduce
from tenfold.decomposition._registry import Decomposition, find
from tenfold.network import Network
from tenfold.structure import Structure

# Errors below this are not asked of the methods that work on what is left.
_LEAST = 1e-6


class Stream:
    """An array and who goes through it.

    Args:
        data: the array.
        memory: as `streamed_svd` takes it, as are checkpoint, client and watch.
        seed: fixes random vectors.
        about: settings that a checkpoint must agree with, besides those of the array and of this.
    """

    def __init__(
        self,
        data: Blocks,
        *,
        memory: int | str | None,
        checkpoint: str | Path | None,
        client: Any,
        watch: Watch | None,
        seed: int,
        about: Mapping[str, Any],
    ) -> None:
        self.data, self.seed = data, seed
        self.bytes = memory_bytes(memory)
        kept = None
        if checkpoint is not None:
            said = {
                "shape": list(data.shape),
                "dtype": f"{data.stored} as {data.dtype}",
                "data": digest(data),
                "memory": None if memory is None else self.bytes,
                "seed": seed,
                **about,
            }
            # The memory that is free differs from run to run, the boxes must not.
            kept = Checkpoint(Path(checkpoint), said, {"memory": self.bytes})
            self.bytes = int(kept.chosen["memory"])
        self.passes = Passes(kept, client, watch)

    def reduce(self, structure: Structure, groups: Sequence[Group], *, allowed: float | None, exact: bool) -> Reduced:
        """What fits of the array, as `tenfold.decomposition._reduction.reduce` makes it."""
        view = view_of(structure)
        return reduce(
            self.data,
            view,
            groups,
            passes=self.passes,
            memory=self.bytes,
            allowed=allowed,
            exact=exact,
            seed=self.seed,
        )

    def projected(
        self, modes: Sequence[str], *, error: float | None = None, parameters: int | None = None
    ) -> Projected:
        """What is left of the array for networks of an error, or of a number of parameters, that are to be found."""
        structure = Structure.of([tuple(modes)], modes, dict(zip(modes, self.data.shape, strict=True)))
        groups = []
        for mode, extent in zip(modes, self.data.shape, strict=True):
            # A core has at least as many entries as its mode times the rank of its mode.
            most = extent if parameters is None else max(1, min(extent, parameters // extent))
            groups.append(Group((mode,), min(most, self.data.size // extent)))
        allowed = None if error is None else error**2
        return Projected(self.data, self.reduce(structure, groups, allowed=allowed, exact=False))

    def residuals(self, networks: Sequence[Network], reduced: Reduced) -> list[float]:
        """The relative errors of some networks of one topology, by one more pass."""
        if reduced.norm2 == 0:
            return [0.0 if float(network.norm()) == 0 else math.inf for network in networks]
        flat = []
        for network in networks:
            structure = network.structure
            power = -reduced.power / len(structure.terms)
            cores = [times_power(_double(core), power) for core in network.cores]
            flat.append(Network(Structure.of(structure.terms, structure.output_indices, structure.sizes), cores))
        view = view_of(networks[0].structure)
        cuts = boxes(self.data, view, self.bytes)
        work = Residuals(tuple(flat))
        sums = self.passes.total("residuals", "checking", self.data, reduced.power, view, cuts, work)
        return [math.sqrt(float(square) / reduced.norm2) for square in sums["squares"]]


@dataclass(frozen=True)
class Residuals:
    """Sums the squares of what networks leave of the array."""

    networks: tuple[Network, ...]

    def add(self, sums: Sums, values: Tensor, places: tuple[slice, ...]) -> None:
        squares = [squared_norm(network[places].dense() - values) for network in self.networks]
        known = sums.get("squares", torch.zeros(len(squares), dtype=torch.float64))
        sums["squares"] = known + torch.tensor(squares, dtype=torch.float64)


def _double(core: Tensor) -> Tensor:
    return core.to(torch.complex128 if core.is_complex() else torch.float64)


class Projected:
    """What projections on single indices have left of an array, in the place of the array.

    Structures and networks are those of the whole array, errors are true for it; only networks within the range of the
    projections are made.

    Args:
        blocks: the array.
        reduced: what is left of it.
    """

    def __init__(self, blocks: Blocks, reduced: Reduced) -> None:
        self.shape, self.reduced, self.result = blocks.shape, reduced, blocks.dtype
        self.dtype = reduced.core.dtype

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def numel(self) -> int:
        """The entries that there is work with."""
        return self.reduced.core.numel()

    def fit(self, method: str, structure: Structure, *, error: float | None = None, **options: Any) -> Decomposition:
        """The decomposition that a method finds in what is left."""
        factored = Factored(structure, self.reduced)
        left = None if error is None else max(factored.error_left(error), _LEAST)
        done = find(method).function(self.reduced.core, factored.structure, error=left, **options)
        network = factored.expand(done.network).to(self.result)
        errors = tuple(factored.error(error) for error in done.errors)
        return Decomposition(network, factored.error(done.error), errors, done.stopped)

    def singular_values(self, mode: str) -> tuple[float, ...]:
        """Those of (mode) x (everything else), largest first, where they are known (``reduced.spectra``)."""
        values = self.reduced.spectra[mode].double().sqrt()
        return tuple(times_power(values, self.reduced.power).tolist())

    def relative_error(self, network: Network) -> float:
        """The relative error of a network for the whole array."""
        factored = Factored(network.structure, self.reduced)
        return factored.error(relative_error(self.reduced.core, factored.project(network)))
