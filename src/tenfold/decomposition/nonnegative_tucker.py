"""Nonnegative Tucker decomposition: factors by hierarchical least squares, the core by accelerated gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float64
from torch import Tensor

from tenfold import formats
from tenfold.decomposition._arrays import whole_array
from tenfold.decomposition._compressed import alternate
from tenfold.decomposition._error import relative_error, squared_norm
from tenfold.decomposition._hals import hals
from tenfold.decomposition._registry import Callback, Data, Decomposition, method
from tenfold.decomposition._star import Star, projected
from tenfold.decomposition.tree_svd import st_hosvd
from tenfold.errors import DataError
from tenfold.network import Network
from tenfold.structure import Structure

# Steps for the core in one sweep, and the relative change at which they end before.
_STEPS, _ENOUGH = 50, 1e-4
_RANDOM_STARTS = 3
_START_ENTRIES = 10**7


@method("nonnegative_tucker", nonnegative=True)
@torch.no_grad()
def nonnegative_tucker(
    data: Data,
    structure: Structure,
    *,
    error: float | None = None,
    init: Network | None = None,
    seed: int = 0,
    max_sweeps: int = 500,
    tol: float = 1e-6,
    callback: Callback | None = None,
) -> Decomposition:
    """Tucker decomposition whose core and factors have no negative entry.

    Each factor is updated by hierarchical alternating least squares on its normal equations, the core by accelerated
    projected gradients (FISTA) on its own, which are small once the data has been projected on all factors. Projections
    are shared between modes as in ``hooi``; sweeps are accelerated like those of ``cp_als`` and never raise the error.

    Args:
        data: the whole array, real, of the structure's shape; negative entries are allowed.
        structure: one core that holds bonds only, and cores with one bond each and outputs of their own.
        error: stop once the relative error is as small as this.
        init: where to start instead, a network of this structure; negative entries of it count as zero.
        seed: for everything random.
        max_sweeps: at most so many sweeps after the starts.
        tol: stop when two sweeps running change the error by less than this part of it.
        callback: called after each sweep.

    Returns:
        The network, with columns of the factors of length one or zero, its true error, and the error after each sweep.

    Raises:
        StructureError: the structure is not Tucker, or ``init`` is of another one.
        DataError: complex, NaN or infinite entries, another shape, or observations.

    Cost: about ``4 |X| r`` flops a sweep.
    Papers: "Nonnegative Tucker decomposition", 2007; "A fast iterative shrinkage-thresholding algorithm for linear
    inverse problems", 2009.
    """
    layout = Star.of(structure, "nonnegative_tucker")
    whole = whole_array(data, structure, "nonnegative_tucker")
    if whole.tensor.is_complex():
        raise DataError(
            f"data is {whole.dtype}, but nonnegative_tucker needs real numbers; give its absolute values or real part"
        )
    return alternate(
        data,
        whole,
        _Nonnegative(layout, seed),
        error=error,
        init=init,
        seed=seed,
        max_sweeps=max_sweeps,
        tol=tol,
        callback=callback,
    )


@dataclass(frozen=True)
class _Nonnegative:
    """The family of Tucker networks without negative entries; states are the core, then factors, rank x mode."""

    layout: Star
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
        return _Problem(tensor, squared_norm(tensor), torch.Generator().manual_seed(self.seed))

    def starts(self, tensor: Tensor, generator: torch.Generator) -> list[list[Tensor]]:
        ranks = self.layout.ranks
        _, bases = st_hosvd(tensor, [min(n, r) for n, r in zip(tensor.shape, ranks, strict=True)])
        factors = []
        for basis, rank in zip(bases, ranks, strict=True):
            above, below = basis.T.clamp(min=0), (-basis.T).clamp(min=0)
            longer = torch.linalg.vector_norm(above, dim=1) >= torch.linalg.vector_norm(below, dim=1)
            turned = torch.where(longer[:, None], above, below) + 1e-3 * basis.T.abs().mean(1, keepdim=True)
            more = _uniform((rank - len(turned), basis.shape[0]), tensor, generator)
            factors.append(torch.cat([turned, more]))
        core = tensor
        for factor in factors:
            core = torch.tensordot(core, factor, dims=([0], [1]))
        made = [[core.clamp(min=0), *factors]]
        for _ in range(min(_RANDOM_STARTS, _START_ENTRIES // tensor.numel())):
            sizes = zip(ranks, tensor.shape, strict=True)
            made.append([_uniform(ranks, tensor, generator), *[_uniform(size, tensor, generator) for size in sizes]])
        return made

    def expand(self, state: Sequence[Tensor], bases: Sequence[Tensor]) -> list[Tensor]:
        return [state[0], *[factor @ basis.T for factor, basis in zip(state[1:], bases, strict=True)]]

    def state(self, cores: Sequence[Tensor]) -> list[Tensor]:
        return [cores[self.layout.centre], *[factor.T for factor in self.layout.factors(cores)]]

    def cores(self, state: Sequence[Tensor]) -> list[Tensor]:
        return self.layout.cores(state[0], [factor.T for factor in state[1:]])


@dataclass(frozen=True)
class _Problem:
    """A tensor to fit with a nonnegative core and nonnegative factors."""

    tensor: Tensor
    norm2: float
    generator: torch.Generator = field(repr=False)

    def sweep(self, state: Sequence[Tensor]) -> tuple[list[Tensor], float]:
        # What the acceleration made may have left the nonnegative orthant.
        core, *factors = [part.clamp(min=0) for part in state]
        core, factors = self._normalized(core, factors)
        seen = self._update(self.tensor, range(len(factors)), core, factors)
        core, factors, seen = self._rescaled(core, factors, seen)
        grams = [factor.double() @ factor.double().T for factor in factors]
        core64, square = _core(core.double(), seen.double(), grams)
        core = core64.to(core.dtype)
        square += self.norm2
        floor = 1e-2 if torch.finfo(self.tensor.dtype).eps > 1e-10 else 1e-6
        if not square > floor**2 * self.norm2:
            return [core, *factors], self.error([core, *factors], 0.0)
        return [core, *factors], math.sqrt(square / self.norm2)

    def error(self, state: Sequence[Tensor], known: float) -> float:
        """The true relative error, whatever a sweep took it for."""
        core, *factors = state
        structure = formats.tucker(self.tensor.shape, list(core.shape))
        return relative_error(self.tensor, Network(structure, [core, *[factor.T.contiguous() for factor in factors]]))

    def _update(self, tensor: Tensor, modes: range, core: Tensor, factors: list[Tensor]) -> Tensor:
        """New factors for a group of modes of the data projected on all others; returns that, projected on all."""
        bases = [factor.T for factor in factors]
        if len(modes) == 1:
            (mode,) = modes
            wide = core.double()
            others = [factor.double() @ factor.double().T if m != mode else None for m, factor in enumerate(factors)]
            own = _unfolded(wide, mode)
            gram = _unfolded(_times(wide, others), mode) @ own.T
            right = own.to(tensor.dtype) @ _unfolded(tensor, mode).T
            factors[mode] = hals(factors[mode], right, gram)
            return projected(tensor, modes, [factor.T for factor in factors])
        half = len(modes) // 2
        low, high = modes[:half], modes[half:]
        self._update(projected(tensor, high, bases), low, core, factors)
        return self._update(projected(tensor, low, [factor.T for factor in factors]), high, core, factors)

    def _normalized(self, core: Tensor, factors: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Vectors of length one; random ones, which the core leaves out at first, for those that are zero."""
        made = []
        for mode, factor in enumerate(factors):
            length = torch.linalg.vector_norm(factor, dim=1)
            core = _along(core, length, mode)
            dead = length == 0
            if dead.any():
                factor = torch.where(dead[:, None], _uniform(factor.shape, factor, self.generator), factor)
                length = torch.linalg.vector_norm(factor, dim=1)
            made.append(factor / length[:, None])
        return core, made

    def _rescaled(self, core: Tensor, factors: Sequence[Tensor], seen: Tensor) -> tuple[Tensor, list[Tensor], Tensor]:
        """Vectors of length one or zero, and the data projected on them."""
        made = []
        for mode, factor in enumerate(factors):
            length = torch.linalg.vector_norm(factor, dim=1)
            inverse = torch.where(length > 0, 1 / length, 0)
            core, seen = _along(core, length, mode), _along(seen, inverse, mode)
            made.append(factor * inverse[:, None])
        return core, made, seen


def _core(
    core: Float64[Tensor, "..."], seen: Float64[Tensor, "..."], grams: Sequence[Tensor]
) -> tuple[Float64[Tensor, "..."], float]:
    """A nonnegative core that lowers ``<g, Gg> - 2 <seen, g>``, G the product of the Gram matrices; and that value.

    FISTA, started again whenever a step raises the value; the best core is kept.
    """
    bound = math.prod(float(torch.linalg.eigvalsh(gram)[-1]) for gram in grams)
    image = _times(core, grams)
    value = float((core * (image - 2 * seen)).sum())
    if not bound > 0:
        return core, value
    best, lowest = core, value
    point, point_image, momentum = core, image, 1.0
    for _ in range(_STEPS):
        found = (point - (point_image - seen) / bound).clamp(min=0)
        found_image = _times(found, grams)
        reached = float((found * (found_image - 2 * seen)).sum())
        if reached > value:
            if point is core:
                break
            # A plain step from where it stands goes down.
            point, point_image, momentum = core, image, 1.0
            continue
        if reached < lowest:
            best, lowest = found, reached
        following = (1 + math.sqrt(1 + 4 * momentum * momentum)) / 2
        ahead, momentum = (momentum - 1) / following, following
        change, change_image = found - core, found_image - image
        moved, size = float(change.norm()), float(found.norm())
        core, image, value = found, found_image, reached
        point, point_image = core + ahead * change, image + ahead * change_image
        if moved <= _ENOUGH * size:
            break
    return best, lowest


def _times(core: Tensor, matrices: Sequence[Tensor | None]) -> Tensor:
    """The core times a symmetric matrix along each of its modes but those with None."""
    for mode, matrix in enumerate(matrices):
        if matrix is not None:
            core = torch.tensordot(core, matrix, dims=([mode], [0])).movedim(-1, mode)
    return core


def _unfolded(tensor: Tensor, mode: int) -> Tensor:
    return tensor.movedim(mode, 0).reshape(tensor.shape[mode], -1)


def _along(tensor: Tensor, scale: Tensor, mode: int) -> Tensor:
    return tensor * scale.reshape([-1 if m == mode else 1 for m in range(tensor.ndim)])


def _uniform(shape: Sequence[int], like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.rand(tuple(shape), generator=generator, dtype=like.dtype).to(like.device)
