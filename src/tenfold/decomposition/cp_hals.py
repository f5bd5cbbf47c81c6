"""Nonnegative canonical polyadic decomposition by hierarchical alternating least squares."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tenfold import formats
from tenfold.decomposition._arrays import whole_array
from tenfold.decomposition._compressed import WORTH, alternate
from tenfold.decomposition._cp_factors import balanced
from tenfold.decomposition._cp_layout import Canonical
from tenfold.decomposition._cp_starts import singular_vectors
from tenfold.decomposition._hals import hals
from tenfold.decomposition._normal import solve_normal
from tenfold.decomposition._registry import Callback, Data, Decomposition, method
from tenfold.decomposition._two_groups import TwoGroups, mode_numbers
from tenfold.decomposition.cp_als import cp_als
from tenfold.errors import DataError
from tenfold.network import Network
from tenfold.structure import Structure

# Random starts beside those computed from the data; fewer where a sweep takes long, down to none.
_RANDOM_STARTS = 5
_START_ENTRIES = 10**7
# The unconstrained decomposition that one start is made of need not be a good one.
_WARM_SWEEPS, _WARM_TOL = 60, 1e-4


@method("cp_hals", nonnegative=True)
@torch.no_grad()
def cp_hals(
    data: Data,
    structure: Structure,
    *,
    error: float | None = None,
    init: Network | None = None,
    seed: int = 0,
    max_sweeps: int = 500,
    tol: float = 1e-6,
    callback: Callback | None = None,
    nonnegative: Sequence[str | int] | None = None,
) -> Decomposition:
    """Canonical polyadic decomposition with nonnegative factors, by hierarchical alternating least squares.

    Each vector of a factor in turn becomes the nonnegative one of least squares, up to twenty times before the next
    mode; products with the data are shared between the modes of two groups, so the inner passes cost next to nothing.
    Sweeps are accelerated like those of ``cp_als`` and never raise the error. A term that has died gets random vectors,
    and lives again if it helps. Starts from singular vectors, from the unconstrained decomposition where that is found
    on a compressed array, and from random factors run a few sweeps each, and the best goes on.

    Args:
        data: the whole array, real, of the structure's shape; negative entries are allowed.
        structure: one inner index that lies on every core; each output on one core.
        error: stop once the relative error is as small as this.
        init: where to start instead, a network of this structure; negative entries of it count as zero.
        seed: for everything random.
        max_sweeps: at most so many sweeps after the starts.
        tol: stop when two sweeps running change the error by less than this part of it.
        callback: called after each sweep.
        nonnegative: the modes whose factors are to have no negative entry, by the names of their indices or the
            numbers of their axes; all if left out.

    Returns:
        The network with the columns of all factors balanced, its true error, and the error after each sweep.

    Raises:
        StructureError: the structure is not CP, ``init`` is of another one, or ``nonnegative`` names no mode of it.
        DataError: complex, NaN or infinite entries, another shape, or observations.

    Cost: ``4 |X| R`` flops a sweep and two passes over the data.
    Paper: "Fast local algorithms for large scale nonnegative matrix and tensor factorizations", 2009.
    """
    layout = Canonical.of(structure, "cp_hals")
    if nonnegative is None:
        chosen = frozenset(range(len(layout.order)))
    else:
        names = nonnegative.replace(",", " ").split() if isinstance(nonnegative, str) else nonnegative
        chosen = frozenset(mode_numbers(layout, names, "nonnegative"))
    whole = whole_array(data, structure, "cp_hals")
    if whole.tensor.is_complex():
        raise DataError(f"data is {whole.dtype}, but cp_hals needs real numbers; give its absolute values or real part")
    return alternate(
        data,
        whole,
        _Nonnegative(layout, chosen, seed),
        error=error,
        init=init,
        seed=seed,
        max_sweeps=max_sweeps,
        tol=tol,
        callback=callback,
    )


@dataclass(frozen=True)
class _Nonnegative:
    """The family of CP networks of which some modes, by number, are nonnegative."""

    layout: Canonical
    chosen: frozenset[int]
    seed: int

    @property
    def structure(self) -> Structure:
        return self.layout.structure

    def modes(self, tensor: Tensor) -> Tensor:
        return self.layout.modes(tensor)

    def ranks(self, shape: Sequence[int]) -> list[int]:
        """No compression: nonnegative factors of the core are not those of the whole."""
        return list(shape)

    def problem(self, tensor: Tensor, norm2: float, outside: float) -> _Problem:
        return _Problem(TwoGroups.of(tensor), self.chosen, torch.Generator().manual_seed(self.seed))

    def starts(self, tensor: Tensor, generator: torch.Generator) -> list[list[Tensor]]:
        rank = self.layout.rank
        made = [self._feasible(singular_vectors(tensor, rank, generator))]
        if math.prod(self.layout.ranks(tensor.shape)) < WORTH * tensor.numel():
            free = cp_als(
                tensor, formats.cp(tensor.shape, rank), seed=self.seed, max_sweeps=_WARM_SWEEPS, tol=_WARM_TOL
            )
            made.append(self._feasible([core.T for core in free.network.cores]))
        for _ in range(min(_RANDOM_STARTS, _START_ENTRIES // tensor.numel())):
            made.append(
                [torch.rand(rank, n, generator=generator, dtype=tensor.dtype).to(tensor.device) for n in tensor.shape]
            )
        return made

    def _feasible(self, factors: Sequence[Tensor]) -> list[Tensor]:
        """The larger half of every vector, turned to the positive side; signs are free in modes that may have them."""
        made = []
        for mode, factor in enumerate(balanced(factors)):
            if mode not in self.chosen:
                made.append(factor)
                continue
            above, below = factor.clamp(min=0), (-factor).clamp(min=0)
            longer = torch.linalg.vector_norm(above, dim=1) >= torch.linalg.vector_norm(below, dim=1)
            # A little everywhere: entries that are zero in one mode only start slowly.
            made.append(torch.where(longer[:, None], above, below) + 1e-3 * factor.abs().mean(1, keepdim=True))
        return made

    def expand(self, state: Sequence[Tensor], bases: Sequence[Tensor]) -> list[Tensor]:
        return self.layout.expand(state, bases)

    def state(self, cores: Sequence[Tensor]) -> list[Tensor]:
        return self.layout.state(cores)

    def cores(self, state: Sequence[Tensor]) -> list[Tensor]:
        return self.layout.cores(state)


@dataclass(frozen=True)
class _Problem:
    """A tensor to fit with nonnegative factors."""

    groups: TwoGroups
    chosen: frozenset[int]
    generator: torch.Generator = field(repr=False)

    def sweep(self, state: Sequence[Tensor]) -> tuple[list[Tensor], float]:
        # What the acceleration made may have left the nonnegative orthant.
        factors = [factor.clamp(min=0) if mode in self.chosen else factor for mode, factor in enumerate(state)]
        self._revive(factors)

        def update(mode: int, right: Tensor, gram: Tensor) -> Tensor:
            return hals(factors[mode], right, gram) if mode in self.chosen else solve_normal(gram, right)

        found, square = self.groups.sweep(factors, update)
        return balanced(found), math.sqrt(square / self.groups.norm2)

    def error(self, state: Sequence[Tensor], known: float) -> float:
        """The true relative error, whatever a sweep took it for."""
        return math.sqrt(self.groups.residual(state) / self.groups.norm2)

    def _revive(self, factors: list[Tensor]) -> None:
        """Random vectors for the terms that are zero, but for the mode that is updated first: the error stays."""
        dead = torch.stack([~factor.any(1) for factor in factors]).any(0)
        if not dead.any():
            return
        for mode, factor in enumerate(factors):
            fresh = torch.rand(int(dead.sum()), factor.shape[1], generator=self.generator, dtype=factor.dtype)
            factors[mode] = factor.clone()
            factors[mode][dead] = fresh.to(factor.device) if mode else 0
