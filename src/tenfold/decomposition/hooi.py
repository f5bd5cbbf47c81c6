"""Tucker decomposition by higher-order orthogonal iteration."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tenfold.decomposition._arrays import whole_array
from tenfold.decomposition._blas import product
from tenfold.decomposition._error import relative_error
from tenfold.decomposition._registry import Callback, Data, Decomposition, Progress, method
from tenfold.decomposition.tree_svd import st_hosvd
from tenfold.errors import StructureError
from tenfold.network import Network
from tenfold.structure import Structure


@method("hooi")
@torch.no_grad()
def hooi(
    data: Data,
    structure: Structure,
    *,
    error: float | None = None,
    init: Network | None = None,
    seed: int = 0,
    max_sweeps: int = 100,
    tol: float = 1e-6,
    callback: Callback | None = None,
) -> Decomposition:
    """Tucker by higher-order orthogonal iteration, from the sequentially truncated higher-order SVD.

    Each mode's basis in turn becomes the leading left singular vectors of the data projected on all other bases; no
    sweep raises the error. It usually gains a digit in the fourth or fifth place over ``tree_svd``, and more where
    the spectra of the modes fall slowly. Bonds wider than a mode are filled with zeros. Nothing is random, so
    ``seed`` changes nothing.

    Args:
        data: the whole array, real or complex, of the structure's shape.
        structure: a core in the middle and cores around it with one bond each and outputs of their own; outputs on the
            middle one are modes that are not compressed.
        error: stop once the relative error is as small as this.
        init: a network of this structure, from whose factors to start instead.
        max_sweeps: at most so many sweeps.
        tol: stop when a sweep changes the error by less than this part of it.
        callback: called after each sweep.

    Returns:
        The network with orthonormal factors, its true error, and the error after each sweep.

    Raises:
        StructureError: the structure is not Tucker, or ``init`` is of another one.
        DataError: NaN or infinite entries, another shape, or observations.

    Cost: about ``4 |X| r`` flops a sweep after the first pass.
    Paper: "On the best rank-1 and rank-(R1,R2,...,RN) approximation of higher-order tensors", 2000.
    """
    layout = _Star.of(structure, partial=True)
    if init is not None and init.structure != structure:
        raise StructureError(f"init has structure '{init.structure}', not '{structure}'")
    whole = whole_array(data, structure, "hooi")
    if whole.norm2 == 0:
        zeros = [torch.zeros(core.shape, dtype=whole.dtype, device=whole.tensor.device) for core in structure.cores]
        return Decomposition(Network(structure, zeros), 0.0, (), "exact")
    tensor = layout.modes(whole.tensor)
    if init is None:
        ranks = [min(n, r) for n, r in zip(tensor.shape, layout.ranks, strict=False)]
        bases = _first(tensor, ranks) if layout.rest else st_hosvd(tensor, ranks)[1]
    else:
        bases = [torch.linalg.qr(factor.to(tensor.dtype)).Q for factor in layout.factors(init.cores)]

    def network(bases: Sequence[Tensor], finish: bool = True) -> Network:
        core = tensor
        for basis in bases:
            core = torch.tensordot(core, basis.conj(), dims=([0], [0]))
        if layout.rest:
            core = core.movedim(0, -1)
        cores = layout.cores(core, bases)
        return Network(structure, whole.finish(cores, layout.centre) if finish else cores)

    # Below this the difference of two norms holds rounding only.
    floor = 1e-2 if torch.finfo(tensor.dtype).eps > 1e-10 else 1e-6
    errors: list[float] = []
    stopped = "max_sweeps"
    for number in range(1, max_sweeps + 1):
        bases = list(bases)
        kept = _update(tensor, range(len(bases)), bases)
        reached = math.sqrt(max(1 - kept / whole.norm2, 0.0))
        if reached < floor:
            reached = relative_error(whole.tensor.reshape(structure.shape), network(bases, finish=False))
        change = abs(errors[-1] - reached) if errors else math.inf
        errors.append(min(reached, errors[-1]) if errors else reached)
        if callback is not None:
            callback(Progress(errors[-1], number, max_sweeps, functools.partial(network, bases)))
        if error is not None and errors[-1] <= error:
            stopped = "error"
            break
        if change <= tol * reached or reached <= 4 * torch.finfo(tensor.dtype).eps:
            stopped = "tol"
            break
    result = network(bases)
    if whole.scale == 1:
        true = relative_error(data, result)
    else:
        true = relative_error(whole.tensor.reshape(structure.shape), network(bases, finish=False))
    return Decomposition(result, true, tuple(errors), stopped)


def _first(tensor: Tensor, ranks: Sequence[int]) -> list[Tensor]:
    """Bases for the first modes, each of the data projected on those before."""
    bases: list[Tensor] = []
    for mode, rank in enumerate(ranks):
        matrix = tensor.movedim(mode, 0).reshape(tensor.shape[mode], -1)
        bases.append(torch.linalg.eigh(product(matrix, matrix.mH)).eigenvectors.flip(1)[:, :rank])
        tensor = _projected(tensor, range(mode, mode + 1), bases)
    return bases


def _update(tensor: Tensor, modes: range, bases: list[Tensor]) -> float:
    """New bases for a group of modes of the data projected on all others; returns the square that the last one keeps.

    Axes outside the group have been projected already. Halving the group shares the projections.
    """
    if len(modes) == 1:
        (mode,) = modes
        matrix = tensor.movedim(mode, 0).reshape(tensor.shape[mode], -1)
        values, vectors = torch.linalg.eigh(product(matrix, matrix.mH))
        rank = bases[mode].shape[1]
        bases[mode] = vectors.flip(1)[:, :rank]
        return float(values.flip(0)[:rank].double().sum())
    half = len(modes) // 2
    low, high = modes[:half], modes[half:]
    _update(_projected(tensor, high, bases), low, bases)
    return _update(_projected(tensor, low, bases), high, bases)


def _projected(tensor: Tensor, modes: range, bases: Sequence[Tensor]) -> Tensor:
    for mode in sorted(modes, key=lambda m: bases[m].shape[1] / bases[m].shape[0]):
        shape = tensor.shape
        view = tensor.reshape(math.prod(shape[:mode]), shape[mode], -1)
        if view.shape[2] == 1:
            small = product(view[:, :, 0], bases[mode].conj().resolve_conj())
        elif view.shape[0] == 1:
            small = product(bases[mode].mH, view[0])
        else:
            small = bases[mode].mH @ view
        tensor = small.reshape(*shape[:mode], -1, *shape[mode + 1 :])
    return tensor


@dataclass(frozen=True)
class _Star:
    """A centre, and the cores around it in the order of the centre's bonds."""

    structure: Structure
    centre: int
    around: tuple[int, ...]

    @classmethod
    def of(cls, structure: Structure, method: str = "hooi", *, partial: bool = False) -> _Star:
        """The layout of a Tucker structure; ``method`` refuses any other, ``partial`` allows outputs on the centre."""
        inner = structure.inner_indices
        outside = set(structure.output_indices)
        # A centre of bonds only is the one that is meant, where there is one.
        centres = sorted(
            (
                n
                for n, core in enumerate(structure.cores)
                if core.indices and (partial or not outside & set(core.indices))
            ),
            key=lambda n: bool(outside & set(structure.cores[n].indices)),
        )
        for centre in centres:
            bonds = [index for index in structure.cores[centre].indices if index in inner]
            found = []
            for bond in bonds:
                others = [
                    structure.term_core[t] for t in structure.terms_with(bond) if structure.term_core[t] != centre
                ]
                if len(others) == 1:
                    found.append(others[0])
            leaves = [structure.cores[n] for n in found]
            if (
                len(found) == len(bonds) == len(set(found)) == len(structure.cores) - 1 > 0
                and all(len(core.terms) == 1 for core in structure.cores)
                and all(sum(i in inner for i in leaf.indices) == 1 and len(leaf.indices) > 1 for leaf in leaves)
                and all(len(structure.terms_with(i)) == 1 for i in outside)
            ):
                return cls(structure, centre, tuple(found))
        raise StructureError(
            f"{method} needs {'a core in the middle' if partial else 'one core of bonds only'} and around it cores "
            f"with one bond and outputs each, not '{structure}'"
        )

    @property
    def rest(self) -> list[str]:
        """The outputs on the centre."""
        return [index for index in self.structure.cores[self.centre].indices if index not in self._bonds]

    @property
    def _bonds(self) -> list[str]:
        inner = self.structure.inner_indices
        return [index for index in self.structure.cores[self.centre].indices if index in inner]

    @property
    def ranks(self) -> list[int]:
        return [self.structure.sizes[bond] for bond in self._bonds]

    def _own(self, place: int) -> list[str]:
        return [i for i in self.structure.cores[self.around[place]].indices if i != self._bonds[place]]

    def modes(self, tensor: Tensor) -> Tensor:
        """The data with one axis for each bond of the centre, and one for its outputs if it has any."""
        groups = [self._own(place) for place in range(len(self.around))] + ([self.rest] if self.rest else [])
        order = [self.structure.output_indices.index(index) for group in groups for index in group]
        return (
            tensor.permute(order).reshape([math.prod(self.structure.sizes[i] for i in g) for g in groups]).contiguous()
        )

    def factors(self, cores: Sequence[Tensor]) -> list[Tensor]:
        """mode x rank for each bond of the centre."""
        found = []
        for bond, number in zip(self._bonds, self.around, strict=True):
            axis = self.structure.cores[number].indices.index(bond)
            found.append(cores[number].movedim(axis, -1).flatten(0, -2))
        return found

    def cores(self, core: Tensor, bases: Sequence[Tensor]) -> list[Tensor]:
        sizes = [self.structure.sizes[index] for index in self.rest]
        middle = _padded(core, [*self.ranks, *core.shape[len(bases) :]]).reshape(*self.ranks, *sizes)
        names = [*self._bonds, *self.rest]
        made: dict[int, Tensor] = {
            self.centre: middle.permute([names.index(i) for i in self.structure.cores[self.centre].indices])
        }
        for place, basis in enumerate(bases):
            number = self.around[place]
            wide = _padded(basis, (basis.shape[0], self.ranks[place]))
            wide = wide.reshape(*[self.structure.sizes[i] for i in self._own(place)], -1)
            made[number] = wide.movedim(-1, self.structure.cores[number].indices.index(self._bonds[place]))
        return [made[number].contiguous() for number in range(len(made))]


def _padded(tensor: Tensor, shape: Sequence[int]) -> Tensor:
    made = tensor.new_zeros(list(shape))
    made[tuple(slice(extent) for extent in tensor.shape)] = tensor
    return made
