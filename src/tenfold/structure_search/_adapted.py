"""A network of one structure made into a start for another that differs from it little."""

from __future__ import annotations

import torch
from torch import Tensor

from tenfold.network import Network
from tenfold.structure import Structure

# New slices of a core, in units of the root mean square of its entries.
_NOISE = 1e-2


def adapted(network: Network, structure: Structure, seed: int = 0, noise: float = _NOISE) -> Network:
    """A network of ``structure`` that makes nearly the same tensor, where index names say that this is possible.

    Cores are paired by the output indices they carry, cores without any by the bonds they share. A bond that grows gets
    small random slices; one that shrinks or goes is first turned so that its least important part is what is lost. A
    core that is new with all its bonds begins as what changes nothing; any other that nothing is paired with is drawn
    at random. Cost: a QR factorisation for each end of each smaller bond.

    Args:
        noise: new slices, in units of the root mean square of the entries of their core. With none, a network whose
            bonds only grow makes the same tensor.
    """
    if structure == network.structure:
        return network
    generator = torch.Generator().manual_seed(seed)
    old = network.structure
    cores = dict(enumerate(network.cores))
    for index in old.inner_indices:
        if structure.sizes.get(index, 1) < old.sizes[index]:
            _turn(old, cores, index)
    pairs = _paired(old, structure)
    fresh = set(structure.inner_indices) - set(old.inner_indices)
    made = []
    for place, term in enumerate(structure.terms):
        shape = [structure.sizes[index] for index in term.indices]
        source = pairs.get(place)
        if source is not None:
            core, before = cores.pop(source), old.terms[source].indices
        elif fresh.issuperset(term.indices):
            core, before = torch.ones((), device=network.device, dtype=network.dtype), ()
        else:
            made.append(torch.randn(shape, generator=generator, dtype=torch.float64).to(network.device, network.dtype))
            continue
        made.append(_fitted(core, before, term.indices, shape, generator, noise))
    for source, core in cores.items():
        # A core without modes that goes with all its bonds was a number on their first slices.
        if not set(structure.sizes) & set(old.terms[source].indices):
            made[0] = made[0] * core.flatten()[0]
    return Network(structure, made)


def _paired(old: Structure, new: Structure) -> dict[int, int]:
    """For each term of ``new``, the term of ``old`` that it continues."""
    outside = set(new.output_indices)

    def modes(indices: tuple[str, ...]) -> frozenset[str]:
        return frozenset(index for index in indices if index in outside)

    known = {modes(term.indices): place for place, term in enumerate(old.terms) if modes(term.indices)}
    inner = [place for place, term in enumerate(old.terms) if not modes(term.indices)]
    pairs = {}
    for place, term in enumerate(new.terms):
        bonds = set(term.indices) - outside
        if modes(term.indices):
            source = known.get(modes(term.indices))
            if source is None:
                continue
            before = set(old.terms[source].indices) - outside
            # A mode that lies on another vertex now has other bonds: nothing of its core is left.
            if before and bonds and not bonds & before:
                continue
            pairs[place] = source
        else:
            source = max(inner, key=lambda one: len(bonds & set(old.terms[one].indices)), default=None)
            if source is not None and bonds & set(old.terms[source].indices):
                pairs[place] = source
                inner.remove(source)
    return pairs


def _fitted(
    core: Tensor,
    before: tuple[str, ...],
    after: tuple[str, ...],
    shape: list[int],
    generator: torch.Generator,
    noise: float,
) -> Tensor:
    """A core with its indices in a new order, each cut or filled up to its new size."""
    for index in before:
        if index not in after:
            core = core.select(before.index(index), 0)
            before = tuple(i for i in before if i != index)
    level = float(core.abs().double().square().mean().sqrt()) * noise
    core = core.permute([before.index(index) for index in after if index in before])
    for axis, index in enumerate(after):
        if index not in before:
            core = core.unsqueeze(axis)
    filled = torch.randn(shape, generator=generator, dtype=torch.float64).to(core.device, core.dtype) * level
    window = tuple(slice(min(a, b)) for a, b in zip(core.shape, shape, strict=True))
    filled[window] = core[window]
    return filled


def _turn(structure: Structure, cores: dict[int, Tensor], bond: str) -> None:
    """Rotate a bond so that its slices are in the order of what they carry."""
    places = structure.terms_with(bond)
    if len(places) != 2 or any(len(structure.cores[structure.term_core[p]].terms) > 1 for p in places):
        return
    triangles, moved = [], []
    for place in places:
        axis = structure.terms[place].indices.index(bond)
        matrix = cores[place].movedim(axis, -1)
        q, r = torch.linalg.qr(matrix.reshape(-1, matrix.shape[-1]))
        triangles.append(r)
        moved.append((q, matrix.shape, axis))
    left, values, right = torch.linalg.svd(triangles[0] @ triangles[1].mT, full_matrices=False)
    root = values.sqrt()
    for place, (q, shape, axis), sides in zip(places, moved, (left * root, right.mT * root), strict=True):
        turned = q @ sides
        size = shape[-1]
        if turned.shape[1] < size:  # ranks beyond what the ends can carry
            turned = torch.nn.functional.pad(turned, (0, size - turned.shape[1]))
        cores[place] = turned.reshape(shape).movedim(-1, axis)
