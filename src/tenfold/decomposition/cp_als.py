"""Canonical polyadic decomposition by alternating least squares."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from tenfold.decomposition._arrays import whole_array
from tenfold.decomposition._compressed import alternate
from tenfold.decomposition._cp_factors import balanced
from tenfold.decomposition._cp_starts import from_slices, gaussian, singular_vectors
from tenfold.decomposition._cp_sweep import Sweeps
from tenfold.decomposition._registry import Callback, Data, Decomposition, method
from tenfold.errors import StructureError, TenfoldError
from tenfold.network import Network
from tenfold.structure import Structure

# Random starts beside those computed from the data; fewer where a sweep takes long, down to none.
_RANDOM_STARTS = 7
_START_ENTRIES = 10**7


@method("cp_als", formats=("cp",))
@torch.no_grad()
def cp_als(
    data: Data,
    structure: Structure,
    *,
    error: float | None = None,
    init: Network | None = None,
    seed: int = 0,
    max_sweeps: int = 500,
    tol: float = 1e-7,
    callback: Callback | None = None,
    accelerate: bool = True,
    compress: bool | Literal["auto"] = "auto",
    starts: int | None = None,
) -> Decomposition:
    """Canonical polyadic decomposition by alternating least squares with Anderson acceleration.

    The modes are split into two groups whose unfolding is a view of the data; a sweep contracts it once with the
    factors of each group, and the rest works on what is left. Starts from leading singular vectors, from a
    generalised eigenproblem (exact for noiseless data whose rank no two modes are smaller than) and from random
    factors run a few sweeps each, and the best goes on. If the rank is small against the modes, all of this happens
    on the core of a Tucker compression, and some sweeps on the whole data follow.

    Args:
        data: the whole array, real or complex, of the structure's shape.
        structure: one inner index that lies on every core; each output on one core. The rank may exceed every mode.
        error: stop once the relative error is as small as this.
        init: where to start instead, a network of this structure.
        seed: for the random starts.
        max_sweeps: at most so many sweeps after the starts.
        tol: stop when two sweeps running change the error by less than this part of it.
        callback: called after each sweep; those of the starts all have the number 0.
        accelerate: False for plain sweeps, the textbook's method.
        compress: whether to begin on the core of a Tucker compression of twice the rank, if two modes are longer than
            that; ``"auto"`` where the core is much smaller than the data and there is no ``init``.
        starts: how many random starts there are beside those computed from the data; None for up to seven, the fewer
            the longer a sweep takes.

    Returns:
        The network with the columns of all factors balanced, its true error, and the error after each sweep.

    Raises:
        StructureError: the structure is not CP, or ``init`` is of another one.
        DataError: NaN or infinite entries, another shape, or observations.
        TenfoldError: ``starts`` is negative, or ``compress`` none of its values.

    Cost: ``4 |X| R`` flops a sweep and two passes over the data; compressed, hardly more than the passes at both ends.
    Papers: "Analysis of individual differences in multidimensional scaling via an N-way generalization of
    'Eckart-Young' decomposition", 1970; "Fast alternating LS algorithms for high order CANDECOMP/PARAFAC tensor
    factorizations", 2013.
    """
    if compress not in (True, False, "auto"):
        raise TenfoldError(f"compress is {compress!r}; it can be True, False or 'auto'")
    if starts is not None and starts < 0:
        raise TenfoldError(f"starts {starts} is negative; give how many random starts to add, or None")
    family = _Canonical.of(structure, "cp_als", starts)
    whole = whole_array(data, structure, "cp_als")
    return alternate(
        data,
        whole,
        family.along(whole.tensor),
        error=error,
        init=init,
        seed=seed,
        max_sweeps=max_sweeps,
        tol=tol,
        callback=callback,
        accelerate=accelerate,
        compress=compress,
    )


@dataclass(frozen=True)
class _Canonical:
    """How the cores of a CP structure lie in the data: modes are cores in the order of their outputs."""

    structure: Structure
    index: str
    order: tuple[int, ...]
    random: int | None = None

    @classmethod
    def of(cls, structure: Structure, method: str = "cp_als", random: int | None = None) -> _Canonical:
        """The layout of a CP structure; ``method`` is who refuses any other."""
        inner = structure.inner_indices
        if len(inner) != 1 or len(structure.terms_with(inner[0])) != len(structure.terms):
            raise StructureError(f"{method} needs one inner index that lies on every core, not '{structure}'")
        for core in structure.cores:
            if len(core.terms) > 1:
                raise StructureError(
                    f"{method} needs different cores, but '{core.name}' is used {len(core.terms)} times"
                )
        outside = structure.output_indices
        for index in outside:
            if len(structure.terms_with(index)) > 1:
                raise StructureError(f"{method} needs each output on one core, but '{index}' lies on several")
        first = [
            min((outside.index(i) for i in core.indices if i != inner[0]), default=len(outside))
            for core in structure.cores
        ]
        return cls(structure, inner[0], tuple(sorted(range(len(first)), key=first.__getitem__)), random)

    @property
    def rank(self) -> int:
        return self.structure.sizes[self.index]

    def _own(self, number: int) -> list[str]:
        return [index for index in self.structure.cores[number].indices if index != self.index]

    def modes(self, tensor: Tensor) -> Tensor:
        """The data with one axis for each core; cores without outputs have one of size 1."""
        outside = self.structure.output_indices
        order = [outside.index(index) for number in self.order for index in self._own(number)]
        sizes = [math.prod(self.structure.sizes[i] for i in self._own(number)) for number in self.order]
        return tensor.permute(order).reshape(sizes).contiguous()

    def along(self, tensor: Tensor) -> _Canonical:
        """The same with the modes in the order in which the data lies in memory, where it then needs no copy."""
        if tensor.is_contiguous():
            return self
        outside, strides = self.structure.output_indices, tensor.stride()
        step = [max((strides[outside.index(i)] for i in self._own(n)), default=0) for n in self.order]
        order = [self.order[place] for place in sorted(range(len(step)), key=lambda place: -step[place])]
        axes = [outside.index(index) for number in order for index in self._own(number)]
        return replace(self, order=tuple(order)) if tensor.permute(axes).is_contiguous() else self

    def ranks(self, shape: Sequence[int]) -> list[int]:
        """Twice the rank leaves room for what noise adds to the exact range; one compressed mode saves too little."""
        if sum(2 * self.rank < n for n in shape) < 2:
            return list(shape)
        return [min(n, max(2 * self.rank, self.rank + 8)) for n in shape]

    def problem(self, tensor: Tensor, norm2: float, outside: float) -> Sweeps:
        return Sweeps(tensor, norm2, outside)

    def starts(self, tensor: Tensor, generator: torch.Generator) -> list[list[Tensor]]:
        """From slices where they determine the factors, from singular vectors, and random ones."""
        by_slices = from_slices(tensor, self.rank, generator)
        made = [] if by_slices is None else [by_slices]
        made.append(singular_vectors(tensor, self.rank, generator))
        count = min(_RANDOM_STARTS, _START_ENTRIES // tensor.numel()) if self.random is None else self.random
        for _ in range(count):
            made.append([gaussian(self.rank, n, tensor, generator) for n in tensor.shape])
        return made

    def expand(self, state: Sequence[Any], bases: Sequence[Tensor]) -> list[Tensor]:
        return [torch.as_tensor(factor) @ basis.T for factor, basis in zip(state, bases, strict=True)]

    def state(self, cores: Sequence[Tensor]) -> list[Tensor]:
        """The factors, rank x mode for each mode, balanced."""
        found = []
        for number in self.order:
            axis = self.structure.cores[number].indices.index(self.index)
            found.append(cores[number].movedim(axis, 0).reshape(self.rank, -1))
        return balanced(found)

    def cores(self, state: Sequence[Any]) -> list[Tensor]:
        by_number = dict(zip(self.order, state, strict=True))
        made = []
        for number, core in enumerate(self.structure.cores):
            axis = core.indices.index(self.index)
            own = [self.structure.sizes[index] for index in self._own(number)]
            made.append(torch.as_tensor(by_number[number]).reshape(self.rank, *own).movedim(0, axis))
        return made
