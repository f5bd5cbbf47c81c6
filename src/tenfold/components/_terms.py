"""A sum of rank-one terms as unit columns for each mode, and one weight for each term."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from tenfold.errors import DataError, StructureError
from tenfold.network import Network
from tenfold.structure import Structure


@dataclass(frozen=True)
class Terms:
    """The rank-one terms of a network in double precision, in the order that it has them.

    Attributes:
        weights: the norm of each term.
        factors: unit columns by mode, in the order of the outputs; a zero term has zero columns.
        structure: a CP structure with one core for each factor, of the same outputs.
    """

    weights: Float[Tensor, " R"]
    factors: dict[str, Shaped[Tensor, "n R"]]
    structure: Structure

    @property
    def rank(self) -> int:
        return len(self.weights)

    def cosines(self) -> Shaped[Tensor, "R R"]:
        """The inner product of every two terms of norm one."""
        product = torch.ones(self.rank, self.rank, dtype=torch.float64, device=self.weights.device)
        for factor in self.factors.values():
            product = product * (factor.mH @ factor)
        return product


def is_sum_of_terms(structure: Structure) -> bool:
    """Whether one inner index lies on every core, and each output on one of them."""
    inner = structure.inner_indices
    return (
        len(inner) == 1
        and len(structure.terms_with(inner[0])) == len(structure.terms)
        and all(len(structure.terms_with(index)) == 1 for index in structure.output_indices)
        and bool(structure.output_indices)
    )


def terms_of(network: Network) -> Terms:
    """The terms of a network with one inner index on every core.

    A core may carry several modes, which then share a factor; one without modes scales the terms; one that is used
    twice is two factors.

    Raises:
        StructureError: the network is no sum of rank-one terms.
        DataError: a core has NaN or infinite entries.
    """
    structure = network.structure
    if not is_sum_of_terms(structure):
        raise StructureError(f"components need one inner index that lies on every core (CP), not '{structure}'")
    (index,) = structure.inner_indices
    rank = structure.sizes[index]
    for core, tensor in zip(structure.cores, network.cores, strict=True):
        if not bool(torch.isfinite(tensor).all()):
            raise DataError(f"core '{core.name}' of the network has entries that are NaN or infinite")
    outside = structure.output_indices
    found: list[tuple[int, tuple[str, ...], Tensor]] = []
    mantissa = torch.ones(rank, dtype=torch.float64, device=network.device)
    exponent = torch.zeros(rank, dtype=torch.int64, device=network.device)
    alone = torch.ones(rank, dtype=torch.float64, device=network.device)
    for indices, tensor in network.terms():
        own = tuple(i for i in indices if i != index)
        columns = tensor.detach().resolve_conj().movedim(indices.index(index), -1).reshape(-1, rank)
        unit, top, norm = _unit(columns.to(torch.complex128 if columns.is_complex() else torch.float64))
        # As mantissas and powers of two: the product of large and small norms must not leave the range on its way.
        for part in (top, norm):
            fraction, power = torch.frexp(part)
            mantissa, exponent = mantissa * fraction, exponent + power
            mantissa, power = torch.frexp(mantissa)
            exponent = exponent + power
        if own:
            found.append((min(outside.index(i) for i in own), own, unit))
        else:
            alone = alone * unit[0]
    weights = torch.ldexp(mantissa, exponent)
    found.sort(key=lambda item: item[0])
    # Signs, or phases, of a core without modes go to the last factor.
    factors = {" ".join(own): unit for _, own, unit in found}
    last = next(reversed(factors))
    factors[last] = factors[last] * alone
    dead = weights == 0
    if dead.any():
        factors = {name: factor * ~dead for name, factor in factors.items()}
    sizes = {i: structure.sizes[i] for i in (*outside, index)}
    terms = [(*own, index) for _, own, _ in found]
    if len(terms) == 1:
        terms.append((index,))
    return Terms(weights, factors, Structure.of(terms, structure.outputs, sizes))


def _unit(columns: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Unit columns, and their norms as two factors."""
    top = columns.abs().amax(0)
    scaled = columns / torch.where(top > 0, top, 1.0)
    norm = torch.linalg.vector_norm(scaled, dim=0)
    return scaled / torch.where(norm > 0, norm, 1.0), top, norm
