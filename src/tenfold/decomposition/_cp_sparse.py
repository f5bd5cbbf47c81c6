"""A sparse array to fit with CP factors: its sweep of alternating least squares, its error, its starts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, reduce

import torch
from torch import Tensor

from tenfold import formats
from tenfold._scales import power_of, times_power
from tenfold.decomposition._cp_layout import Canonical
from tenfold.decomposition._error import relative_error, squared_norm
from tenfold.decomposition._factor_matrices import (
    Factors,
    balanced,
    gram,
    padded,
    random_factors,
    squared,
    to_cores,
    to_factors,
)
from tenfold.decomposition._normal import solve_normal
from tenfold.decomposition._registry import Data
from tenfold.decomposition._sparse import Pattern, SparseArray
from tenfold.decomposition.cp_als import cp_als
from tenfold.errors import DataError
from tenfold.network import Network
from tenfold.observations import Observations
from tenfold.structure import Structure

# Squared relative errors below this are not taken from norms: half of the digits have cancelled.
_FLOOR = {torch.float64: 1e-12, torch.float32: 1e-4}
# The core of a compression is decomposed for a start up to so many entries, and multiplications to make it.
_CORE_ENTRIES, _CORE_WORK, _CORE_SWEEPS = 2**20, 10**10, 100
# Arrays of so many cells are small enough to look at every one.
_SMALL = 2**22


@dataclass(frozen=True)
class SparseProblem:
    """A sparse array and the CP structure that is fitted to it.

    Attributes:
        array: the listed cells, divided by ``2**power``, in the memory of the CPU; a mode for each core.
        norm2: ``sum |x|^2`` of them.
        data: what was given.
    """

    family: Canonical
    array: SparseArray
    norm2: float
    power: int
    data: Observations

    @classmethod
    def of(cls, data: Data, structure: Structure, method: str) -> SparseProblem:
        """Check the data and bring it into the modes of the structure.

        Raises:
            StructureError: the structure is not CP.
            DataError: no observations, a rest that is unknown, weights, or another shape.
        """
        family = Canonical.of(structure, method=method)
        if not isinstance(data, Observations) or data.rest != "zero":
            given = "observations whose rest is unknown" if isinstance(data, Observations) else "a whole array"
            raise DataError(f"method '{method}' needs observations whose rest is zero, not {given}; take 'als'")
        if data.shape != structure.shape:
            raise DataError(f"data has shape {data.shape}, but '{structure}' makes {structure.shape}")
        if weighted(data):
            raise DataError(f"method '{method}' takes no weights; leave them out, or take 'als'")
        coordinates = data.coordinates.cpu()
        indices: dict[str, Tensor] = {}
        for axis, group in enumerate(structure.outputs):
            rest = coordinates[:, axis]
            for index in reversed(group[1:]):
                indices[index] = rest % structure.sizes[index]
                rest = rest // structure.sizes[index]
            indices.update(dict.fromkeys(group[:1], rest))
        columns, sizes = [], []
        for number in family.order:
            column, size = torch.zeros_like(coordinates[:, 0]), 1
            for index in family._own(number):
                column = column * structure.sizes[index] + indices[index]
                size *= structure.sizes[index]
            columns.append(column)
            sizes.append(size)
        values = data.values.detach().cpu().resolve_conj()
        if values.dtype in (torch.float16, torch.bfloat16):
            values = values.float()
        power = power_of(values)
        values = times_power(values, -power)
        return cls(family, SparseArray(Pattern(columns, sizes), values), squared_norm(values), power, data)

    @property
    def numbers(self) -> int:
        """How many numbers a state has."""
        return sum(self.array.shape) * self.family.rank

    @property
    def work(self) -> int:
        """Multiplications of a sweep."""
        order = len(self.array.shape)
        return order**2 * len(self.array.values) * self.family.rank

    # --- states: a factor for each mode, with a row for each index in use ---------------------------------------------

    def start(self, network: Network) -> Factors:
        """The factors of a network of this structure."""
        cores = [
            times_power(core.cpu().to(self.array.values.dtype), -self._share(number))
            for number, core in enumerate(network.cores)
        ]
        whole = zip(to_factors(self.family, cores), self.array.pattern.present, strict=True)
        return balanced([factor[present] for factor, present in whole])

    def random(self, generator: torch.Generator) -> Factors:
        """Gaussian factors."""
        return random_factors(self.array.shape, self.family.rank, self.array.values.dtype, generator)

    def computed(self, generator: torch.Generator) -> list[Factors]:
        """Starts from leading left singular vectors of the unfoldings.

        One has these vectors themselves, and Gaussian columns where there are fewer than the rank. One, if it is
        cheap, is the decomposition of the core that is left of the array in their range; without noise it is exact.
        """
        rank = self.family.rank
        bases = [self.array.leading(mode, rank, generator) for mode in range(len(self.array.shape))]
        plain = [padded(basis, rank, generator) for basis in bases]
        sizes = [basis.shape[1] for basis in bases]
        work = len(self.array.values) * math.prod(sizes[1:])
        if math.prod(sizes) > _CORE_ENTRIES or work > _CORE_WORK:
            return [plain]
        core = self.array.core(bases).to(self._wide)
        small = cp_als(core, formats.cp(sizes, rank), seed=generator.initial_seed(), max_sweeps=_CORE_SWEEPS)
        found = zip(bases, small.network.cores, strict=True)
        return [[basis @ factor.to(basis.dtype) for basis, factor in found], plain]

    def network(self, factors: Sequence[Tensor]) -> Network:
        """The network of a state, for the data as given and in its dtype; rows of indices not in use are zero."""
        whole = []
        for mode, (number, present) in enumerate(zip(self.family.order, self.array.pattern.present, strict=True)):
            full = torch.zeros(self.array.pattern.sizes[mode], self.family.rank, dtype=self.data.dtype)
            full[present] = times_power(factors[mode], self._share(number)).to(self.data.dtype)
            whole.append(full.to(self.data.device))
        return Network(self.family.structure, to_cores(self.family, whole))

    def zero(self) -> Network:
        """The network of zeros."""
        return self.network([torch.zeros(extent, self.family.rank) for extent in self.array.shape])

    def _share(self, number: int) -> int:
        """The powers of two that a core takes of the scale: whole numbers, so that nothing is rounded."""
        count = len(self.family.order)
        return self.power // count + (self.power % count if number == 0 else 0)

    # --- a sweep and its error ----------------------------------------------------------------------------------------

    def sweep(self, factors: Factors) -> tuple[Factors, float]:
        """Every factor once, and the relative error after that."""
        factors = list(factors)
        grams = [gram(factor) for factor in factors]
        last = factors[0]
        for mode in range(len(factors)):
            last = self.array.mttkrp([factor.conj() for factor in factors], mode)
            normal = reduce(torch.mul, [one for m, one in enumerate(grams) if m != mode])
            factors[mode] = solve_normal(normal, last.T).T.contiguous()
            grams[mode] = gram(factors[mode])
        square = self.norm2 - 2 * _inner(factors[-1], last) + float(reduce(torch.mul, grams).sum().real)
        if not square > _FLOOR[self.array.values.dtype.to_real()] * self.norm2:
            square = self._square(factors)
        return balanced(factors), math.sqrt(max(square, 0.0) / self.norm2)

    def _square(self, factors: Sequence[Tensor]) -> float:
        """``|X - N|^2`` from the residual of the listed cells, and what the network has in the others."""
        wide = [factor.to(self._wide) for factor in factors]
        found = self.array.entries(wide)
        outside = max(squared(wide) - squared_norm(found), 0.0)
        return squared_norm(found - self.array.values.to(self._wide)) + outside

    def error(self, factors: Sequence[Tensor], network: Network) -> float:
        """The true relative error of a state and its network."""
        if self.family.structure.size <= _SMALL:
            return relative_error(self.data, network)
        return math.sqrt(self._square(factors) / self.norm2)

    @cached_property
    def _wide(self) -> torch.dtype:
        return torch.complex128 if self.array.values.is_complex() else torch.float64


def weighted(data: Observations) -> bool:
    """Whether some listed cell weighs more or less than the zeros."""
    return data.weights is not None and not bool((data.weights == 1).all())


def _inner(a: Tensor, b: Tensor) -> float:
    double = torch.complex128 if a.is_complex() else torch.float64
    return float(torch.vdot(a.to(double).reshape(-1), b.to(double).reshape(-1)).real)
