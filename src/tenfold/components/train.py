"""The canonical form of a tensor train: orthogonal cores, bonds in the order of their singular values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from tenfold import formats
from tenfold.errors import StructureError
from tenfold.network import Network
from tenfold.structure import Structure


@dataclass(frozen=True, eq=False)
class TrainForm:
    """A tensor train in canonical form.

    Attributes:
        modes: the modes in the order that the train visits them.
        cores: for each of these (left bond, mode, right bond); all but the last are orthogonal towards the left, and
            the last holds the size of the tensor.
        spectra: the singular values of the tensor across each bond, from left to right, largest first.
        structure: the structure with the names of the network that the form came from.
    """

    modes: tuple[str, ...]
    cores: tuple[Tensor, ...]
    spectra: Mapping[str, Float[Tensor, " r"]]
    structure: Structure

    def network(self) -> Network:
        """The same as a network; its tensor is that which the form came from."""
        bonds = list(self.spectra)
        made = []
        for core in self.structure.cores:
            place = next(n for n, mode in enumerate(self.modes) if mode in core.indices)
            names = [*bonds[max(place - 1, 0) : place], self.modes[place], *bonds[place : place + 1]]
            tensor = self.cores[place].reshape([self.structure.sizes[name] for name in names])
            made.append(tensor.permute([names.index(i) for i in core.indices]))
        return Network(self.structure, made)


def canonical_train(network: Network) -> TrainForm:
    """Left-orthogonal cores whose bond indices are the singular vectors of the unfoldings, in order.

    Bonds wider than the tensor can use shrink; singular values that are zero stay. Double precision; the largest entry
    of each column of a core is positive.

    Raises:
        StructureError: the network is no tensor train.

    Cost: ``O(sum(n r^3))``. Paper: "Tensor-train decomposition", 2011.
    """
    structure = network.structure
    if formats.name(structure) != "tensor_train":
        raise StructureError(f"the canonical form of a tensor train needs a path of cores, not '{structure}'")
    double = torch.complex128 if network.dtype.is_complex else torch.float64
    modes, bonds = _path(structure)
    cores = []
    for place, mode in enumerate(modes):
        indices, tensor = next(term for term in network.terms() if mode in term[0])
        names = [*bonds[max(place - 1, 0) : place], mode, *bonds[place : place + 1]]
        tensor = tensor.detach().resolve_conj().to(double).permute([indices.index(name) for name in names])
        left = 1 if place == 0 else tensor.shape[0]
        cores.append(tensor.reshape(left, structure.sizes[mode], -1))
    for place in range(len(cores) - 1, 0, -1):
        left, size, right = cores[place].shape
        basis, square = torch.linalg.qr(cores[place].reshape(left, -1).mH)
        cores[place] = basis.mH.reshape(-1, size, right)
        cores[place - 1] = torch.tensordot(cores[place - 1], square.mH, dims=([2], [0]))
    spectra = {}
    for place, bond in enumerate(bonds):
        left, size, right = cores[place].shape
        basis, values, rest = torch.linalg.svd(cores[place].reshape(-1, right), full_matrices=False)
        largest = basis.gather(0, basis.abs().argmax(0, keepdim=True))[0]
        phase = torch.where(largest == 0, torch.ones_like(largest), torch.sgn(largest))
        cores[place] = (basis * phase.conj()).reshape(left, size, -1)
        carried = (phase * values)[:, None] * rest
        cores[place + 1] = torch.tensordot(carried, cores[place + 1], dims=([1], [0]))
        spectra[bond] = values
    sizes = {bond: len(values) for bond, values in spectra.items()}
    return TrainForm(tuple(modes), tuple(cores), spectra, structure.replace(sizes))


def _path(structure: Structure) -> tuple[list[str], list[str]]:
    """Modes and bonds in the order of the train, from the end whose mode comes first in the outputs."""
    outside = structure.output_indices
    own = [next(i for i in term.indices if i in outside) for term in structure.terms]
    ends = [place for place, term in enumerate(structure.terms) if len(term.indices) <= 2]
    place: int | None = min(ends, key=lambda end: outside.index(own[end]))
    modes: list[str] = []
    bonds: list[str] = []
    while place is not None:
        modes.append(own[place])
        onward = [i for i in structure.terms[place].indices if i not in outside and i not in bonds]
        if not onward:
            break
        bonds.append(onward[0])
        place = next(other for other in structure.terms_with(onward[0]) if other != place)
    return modes, bonds
