"""The canonical form of a Tucker network: an all-orthogonal core with ordered slices, orthonormal factors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from tenfold import formats
from tenfold.errors import StructureError
from tenfold.network import Network
from tenfold.structure import Structure


@dataclass(frozen=True, eq=False)
class TuckerForm:
    """A Tucker network in canonical form.

    Attributes:
        core: any two of its slices along any mode are orthogonal; in each mode they are ordered by their norms.
        factors: orthonormal columns by mode, in the order of the outputs; the largest entry of each is positive.
        norms: the norms of the core's slices by mode: the singular values of the tensor's unfoldings.
        structure: the Tucker structure of ``core`` and ``factors``, with the names of the network that they came from.
    """

    core: Shaped[Tensor, "..."]
    factors: Mapping[str, Shaped[Tensor, "n r"]]
    norms: Mapping[str, Float[Tensor, " r"]]
    structure: Structure

    def network(self) -> Network:
        """The same as a network; its tensor is that which the form came from."""
        made = []
        modes = list(self.factors)
        for core in self.structure.cores:
            mode = next((m for m in modes if m in core.indices), None)
            if mode is None:
                joined = [_bond(self.structure, m) for m in modes]
                made.append(self.core.permute([joined.index(i) for i in core.indices]))
            else:
                made.append(self.factors[mode] if core.indices[0] == mode else self.factors[mode].mT)
        return Network(self.structure, made)


def canonical_tucker(network: Network) -> TuckerForm:
    """The higher-order singular value decomposition of the tensor that a Tucker network stands for, from its cores.

    Ranks that exceed what the tensor's shape can use shrink to it. Double precision.

    Raises:
        StructureError: the network is no Tucker decomposition.

    Cost: ``O(sum(n r^2) + |core| sum(r))``. Paper: "A multilinear singular value decomposition", 2000.
    """
    structure = network.structure
    if formats.name(structure) != "tucker":
        raise StructureError(f"the canonical form of Tucker needs a core and a factor for each mode, not '{structure}'")
    double = torch.complex128 if network.dtype.is_complex else torch.float64
    terms = {frozenset(indices): (indices, tensor.detach().to(double)) for indices, tensor in network.terms()}
    modes = list(structure.output_indices)
    bonds = {mode: _bond(structure, mode) for mode in modes}
    indices, core = terms[frozenset(bonds.values())]
    core = core.resolve_conj().permute([indices.index(bonds[mode]) for mode in modes])
    factors: dict[str, Tensor] = {}
    for axis, mode in enumerate(modes):
        indices, factor = terms[frozenset((mode, bonds[mode]))]
        factor = factor.resolve_conj()
        basis, square = torch.linalg.qr(factor if indices[0] == mode else factor.mT)
        core = torch.tensordot(core, square, dims=([axis], [1])).movedim(-1, axis)
        factors[mode] = basis
    # All bases are known before any is turned: turning one mode leaves the others' singular vectors as they are.
    sides = [core.movedim(axis, 0).reshape(core.shape[axis], -1) for axis in range(core.ndim)]
    turns = [torch.linalg.svd(side, full_matrices=False).U for side in sides]
    for axis, mode in enumerate(modes):
        factor = factors[mode] @ turns[axis]
        largest = factor.gather(0, factor.abs().argmax(0, keepdim=True))[0]
        phase = torch.where(largest == 0, torch.ones_like(largest), torch.sgn(largest))
        factors[mode] = factor * phase.conj()
        core = torch.tensordot(core, (turns[axis] * phase.conj()).conj(), dims=([axis], [0])).movedim(-1, axis)
    norms = {}
    for axis, mode in enumerate(modes):
        slices = core.movedim(axis, 0).reshape(core.shape[axis], -1)
        norms[mode] = torch.linalg.vector_norm(slices, dim=1)
    sizes = {bonds[mode]: factors[mode].shape[1] for mode in modes}
    return TuckerForm(core, factors, norms, structure.replace(sizes))


def _bond(structure: Structure, mode: str) -> str:
    """The inner index of a mode's factor."""
    (place,) = structure.terms_with(mode)
    (bond,) = (index for index in structure.terms[place].indices if index != mode)
    return bond
