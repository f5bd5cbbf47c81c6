"""A sparse array to fit with CP factors: its sweep of alternating least squares, its error, its starts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, reduce

import torch
from jaxtyping import Shaped
from torch import Tensor

from tenfold import formats
from tenfold._scales import power_of, times_power
from tenfold.decomposition._error import relative_error, squared_norm
from tenfold.decomposition._normal import solve_normal
from tenfold.decomposition._registry import Data
from tenfold.decomposition._sparse import Pattern, SparseArray
from tenfold.decomposition.cp_als import _Canonical, cp_als
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

Factors = list[Tensor]


@dataclass(frozen=True)
class SparseProblem:
    """A sparse array and the CP structure that is fitted to it.

    Attributes:
        array: the listed cells, divided by ``2**power``, in the memory of the CPU; a mode for each core.
        norm2: ``sum |x|^2`` of them.
        data: what was given.
    """

    family: _Canonical
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
        family = _Canonical.of(structure, method)
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
            for index in reversed(group):
                indices[index] = rest % structure.sizes[index] if len(group) > 1 else rest
                rest = rest // structure.sizes[index]
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
        factors = []
        for number, present in zip(self.family.order, self.array.pattern.present, strict=True):
            axis = self.family.structure.cores[number].indices.index(self.family.index)
            core = network.cores[number].detach().to(self.array.values)
            core = times_power(core, -self._share(number))
            factors.append(core.movedim(axis, -1).reshape(-1, self.family.rank)[present])
        return balanced(factors)

    def random(self, generator: torch.Generator) -> Factors:
        """Gaussian factors."""
        like = self.array.values
        return [
            torch.randn(extent, self.family.rank, generator=generator, dtype=like.dtype) for extent in self.array.shape
        ]

    def computed(self, generator: torch.Generator) -> list[Factors]:
        """Starts from leading left singular vectors of the unfoldings.

        One has these vectors themselves, and Gaussian columns where there are fewer than the rank. One, if it is
        cheap, is the decomposition of the core that is left of the array in their range; without noise it is exact.
        """
        rank = self.family.rank
        bases = [self.array.leading(mode, rank, generator) for mode in range(len(self.array.shape))]
        plain = []
        for basis in bases:
            extent, missing = len(basis), rank - basis.shape[1]
            if missing > 0:
                noise = torch.randn(extent, missing, generator=generator, dtype=basis.dtype)
                basis = torch.cat([basis, noise / math.sqrt(extent)], 1)
            plain.append(basis)
        sizes = [basis.shape[1] for basis in bases]
        work = len(self.array.values) * math.prod(sizes[1:])
        if len(sizes) < 2 or math.prod(sizes) > _CORE_ENTRIES or work > _CORE_WORK:
            return [plain]
        core = self.array.core(bases).to(self._wide)
        small = cp_als(core, formats.cp(sizes, rank), seed=generator.initial_seed(), max_sweeps=_CORE_SWEEPS)
        found = zip(bases, small.network.cores, strict=True)
        return [[basis @ factor.to(basis.dtype) for basis, factor in found], plain]

    def network(self, factors: Sequence[Tensor]) -> Network:
        """The network of a state, for the data as given and in its dtype; rows of indices not in use are zero."""
        structure = self.family.structure
        cores: list[Tensor] = [torch.empty(0)] * len(structure.cores)
        for number, present, factor in zip(self.family.order, self.array.pattern.present, factors, strict=True):
            core = structure.cores[number]
            own = self.family._own(number)
            sizes = [structure.sizes[index] for index in own]
            full = torch.zeros(math.prod(sizes), self.family.rank, dtype=self.data.dtype)
            full[present] = times_power(factor, self._share(number)).to(self.data.dtype)
            axis = core.indices.index(self.family.index)
            cores[number] = full.reshape(*sizes, self.family.rank).movedim(-1, axis).contiguous().to(self.data.device)
        return Network(structure, cores)

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
            others = [one for m, one in enumerate(grams) if m != mode]
            normal = reduce(torch.mul, others) if others else torch.ones_like(grams[0])
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
        own = float(reduce(torch.mul, [gram(factor) for factor in wide]).sum().real)
        return squared_norm(found - self.array.values.to(self._wide)) + max(own - squared_norm(found), 0.0)

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


def gram(factor: Shaped[Tensor, "d r"]) -> Shaped[Tensor, "r r"]:
    """``A^H A`` in double precision."""
    wide = factor.to(torch.complex128 if factor.is_complex() else torch.float64)
    return wide.mH @ wide


def balanced(factors: Sequence[Shaped[Tensor, "d r"]]) -> Factors:
    """The same terms with all their vectors equally long; terms with a vector of zeros are zero."""
    norms = torch.stack([torch.linalg.vector_norm(factor, dim=0).double() for factor in factors])
    dead = (norms == 0).any(0)
    safe = torch.where(norms == 0, 1.0, norms)
    target = torch.where(dead, 0.0, torch.exp(safe.log().mean(0)))
    return [factor * (target / norm).to(factor.dtype.to_real()) for factor, norm in zip(factors, safe, strict=True)]


def _inner(a: Tensor, b: Tensor) -> float:
    double = torch.complex128 if a.is_complex() else torch.float64
    return float(torch.vdot(a.to(double).reshape(-1), b.to(double).reshape(-1)).real)
