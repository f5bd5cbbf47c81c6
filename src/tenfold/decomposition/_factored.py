"""A structure over an array, and the same structure over what projections have left of the array."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from tenfold._scales import times_power
from tenfold._trees import bond_limits, check_tree
from tenfold.decomposition._passes import View
from tenfold.decomposition._reduction import Group, Reduced
from tenfold.decomposition.tree_svd import tree_svd
from tenfold.errors import StructureError
from tenfold.network import Network
from tenfold.structure import Structure, Term


def view_of(structure: Structure) -> View:
    """The output indices of a structure as those of an array."""
    groups = tuple(tuple(structure.sizes[index] for index in group) for group in structure.outputs)
    return View(structure.output_indices, groups)


def groups_of(structure: Structure) -> list[Group]:
    """The groups of output indices whose bases the cores can take, with the directions that they can use.

    These are single indices that lie on one core, and in a tree whatever one bond cuts off.
    """
    found = {indices: Group(indices, rank) for indices, (_, rank) in _branches(structure).items()}
    return list(found.values())


def _branches(structure: Structure) -> dict[tuple[str, ...], tuple[tuple[int, ...], int]]:
    """For each group its terms, and its rank."""
    found: dict[tuple[str, ...], tuple[tuple[int, ...], int]] = {}
    shared = {term for core in structure.cores if len(core.terms) > 1 for term in core.terms}
    for index in structure.output_indices:
        places = structure.terms_with(index)
        if len(places) == 1 and not shared & set(places):
            others = [i for i in structure.terms[places[0]].indices if i != index]
            rank = min(math.prod(structure.sizes[i] for i in others), structure.size // structure.sizes[index])
            found[(index,)] = (places, rank)
    try:
        check_tree(structure)
    except StructureError:
        return found
    outside = set(structure.output_indices)
    for bond in structure.inner_indices:
        for start in structure.terms_with(bond):
            reached, todo = {start}, [start]
            while todo:
                for index in structure.terms[todo.pop()].indices:
                    new = [p for p in structure.terms_with(index) if index != bond and p not in reached]
                    reached.update(new)
                    todo += new
            if len(reached & set(structure.terms_with(bond))) > 1:
                continue  # a parallel bond keeps the sides together
            own = {index for place in reached for index in structure.terms[place].indices} & outside
            indices = tuple(index for index in structure.output_indices if index in own)
            if 0 < len(indices) < len(outside) and indices not in found:
                found[indices] = (tuple(sorted(reached)), structure.sizes[bond])
    return found


class Factored:
    """A structure over a reduced array.

    Attributes:
        structure: the same over its core: a group's indices are one; a group on several cores is one core.
        inside: whether every network that `expand` makes lies in the range of the projections.
    """

    def __init__(self, whole: Structure, reduced: Reduced) -> None:
        self.whole, self.reduced = whole, reduced
        branches = _branches(whole)
        self.labels = [_fresh(f"g{n}", whole) for n in range(len(reduced.groups))]
        # By the first term of a group: what stands in its place.
        self.terms_of = [branches[group.indices][0] for group in reduced.groups]
        self.inside = all(len(terms) == 1 for terms in self.terms_of)
        self.bonds: list[str | None] = []
        terms: list[Term] = []
        self.place: dict[int, int] = {}  # of a term or of the first of a branch
        swallowed = {t: n for n, places in enumerate(self.terms_of) if len(places) > 1 for t in places}
        for place, term in enumerate(whole.terms):
            if place in swallowed:
                number = swallowed[place]
                if place == self.terms_of[number][0]:
                    self.place[place] = len(terms)
                    terms.append(Term(None, (self.labels[number], self._bond(number))))
                continue
            indices = list(term.indices)
            for group, label, places in zip(reduced.groups, self.labels, self.terms_of, strict=True):
                if places == (place,):
                    indices[indices.index(group.indices[0])] = label
                    indices = [index for index in indices if index not in group.indices]
            self.place[place] = len(terms)
            terms.append(Term(term.name, tuple(indices)))
        outputs = [(index,) for index in (*reduced.indices, *self.labels)]
        sizes = dict(zip((index for (index,) in outputs), reduced.core.shape, strict=True))
        used = {index for term in terms for index in term.indices}
        self.structure = Structure.of(terms, outputs, {i: n for i, n in {**whole.sizes, **sizes}.items() if i in used})

    def _bond(self, number: int) -> str:
        """What joins a branch to the rest."""
        own = set(self.terms_of[number])
        inner = set(self.whole.inner_indices)
        (bond,) = (
            index
            for place in own
            for index in self.whole.terms[place].indices
            if index in inner and not set(self.whole.terms_with(index)) <= own
        )
        return bond

    def error(self, of_core: float) -> float:
        """The relative error for the array of a network that has this one for the core."""
        return math.sqrt(self.reduced.lost + (1 - self.reduced.lost) * of_core**2)

    def error_left(self, error: float) -> float:
        """The relative error for the core that is left of one for the array."""
        left = (error**2 - self.reduced.lost) / max(1 - self.reduced.lost, 1e-300)
        return math.sqrt(max(left, 0.0))

    def expand(self, network: Network) -> Network:
        """The network of the array that a network of the core is; in double precision."""
        tensors: dict[int, Tensor] = {}
        sizes = {**self.whole.sizes, **{i: n for i, n in network.structure.sizes.items() if i in self.whole.sizes}}
        held = network.terms()
        for place, at in self.place.items():
            indices, tensor = held[at]
            names = list(indices)
            for number, label in enumerate(self.labels):
                if label not in names:
                    continue
                group, basis = self.reduced.groups[number], self.reduced.bases[number]
                tensor = torch.tensordot(tensor, basis.to(tensor.dtype), dims=([names.index(label)], [1]))
                names.remove(label)
                tensor = tensor.reshape(*tensor.shape[:-1], *(self.whole.sizes[index] for index in group.indices))
                names += group.indices
                if len(self.terms_of[number]) > 1:
                    for term, core in self._split(number, names, tensor, sizes).items():
                        tensors[term] = core
            if place not in tensors:
                order = self.whole.terms[place].indices
                tensors[place] = tensor.permute([names.index(index) for index in order])
        structure = self.whole.replace({i: sizes[i] for i in self.whole.inner_indices})
        power = self.reduced.power / len(structure.terms)
        cores = [tensors[core.terms[0]].contiguous() for core in structure.cores]
        return Network(structure, [times_power(core, power) for core in cores] if power else cores)

    def _split(self, number: int, names: list[str], tensor: Tensor, sizes: dict[str, int]) -> dict[int, Tensor]:
        """The cores of a branch, as wide as they have to be to lose nothing."""
        terms = [self.whole.terms[place] for place in self.terms_of[number]]
        used = {index for term in terms for index in term.indices}
        known = {**{i: sizes[i] for i in used}, **dict(zip(names, tensor.shape, strict=True))}
        thin = Structure.of(terms, [(index,) for index in names], known)
        thin = thin.replace(dict.fromkeys(thin.inner_indices, 1))
        full = thin.replace(bond_limits(thin))
        done = tree_svd(tensor, full)
        sizes.update({index: full.sizes[index] for index in full.inner_indices})
        cores = zip(done.network.structure.cores, done.network.cores, strict=True)
        return {self.terms_of[number][core.terms[0]]: held for core, held in cores}

    def project(self, network: Network) -> Network:
        """The network of the core that is nearest to one of the array: the other way round from `expand`."""
        if not self.inside:
            raise StructureError(f"no start can be taken for '{self.whole}': leave out init")
        power = -self.reduced.power / len(self.whole.terms)
        tensors: dict[int, Tensor] = {}
        for place, at in self.place.items():
            term = self.whole.terms[place]
            tensor, names = network.terms()[place][1], list(term.indices)
            tensor = times_power(tensor.to(self.reduced.core.dtype), power)
            for number, group in enumerate(self.reduced.groups):
                if self.terms_of[number] == (place,):
                    axes = [names.index(index) for index in group.indices]
                    basis = self.reduced.bases[number].conj().reshape(*(tensor.shape[axis] for axis in axes), -1)
                    tensor = torch.tensordot(tensor, basis, dims=(axes, list(range(len(axes)))))
                    names = [*(index for index in names if index not in group.indices), self.labels[number]]
            order = self.structure.terms[at].indices
            tensors[at] = tensor.permute([names.index(index) for index in order]).contiguous()
        sizes = {index: network.structure.sizes[index] for index in self.structure.inner_indices}
        return Network(self.structure.replace(sizes), [tensors[core.terms[0]] for core in self.structure.cores])


def arranged(network: Network, structure: Structure, *, padded: bool) -> Network:
    """The same network with the indices of its cores in the order of ``structure``.

    Args:
        padded: give inner indices the sizes that they have there; what is more is zero.
    """
    sizes = structure.sizes if padded else network.structure.sizes
    wanted = structure.replace({index: sizes[index] for index in structure.inner_indices})
    if wanted == network.structure:
        return network
    cores = []
    for core, own, tensor in zip(wanted.cores, network.structure.cores, network.cores, strict=True):
        wide = tensor.new_zeros(core.shape)
        held = tensor.permute([own.indices.index(index) for index in core.indices])
        wide[tuple(slice(0, extent) for extent in held.shape)] = held
        cores.append(wide)
    return Network(wanted, cores)


def _fresh(name: str, structure: Structure) -> str:
    while name in structure.sizes:
        name += "_"
    return name
