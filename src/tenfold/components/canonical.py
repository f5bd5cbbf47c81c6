"""The canonical form of a CP network: what is left to choose once the tensor is given is chosen by rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from tenfold._tables import columns
from tenfold.components._terms import Terms, terms_of
from tenfold.errors import DataError, TenfoldError
from tenfold.network import Network
from tenfold.structure import Structure

# Lines of a table; the rest is counted.
_LINES = 30


@dataclass(frozen=True, eq=False)
class Components:
    """The components of a CP network in canonical form; prints as a table.

    Attributes:
        weights: the norm of each component, in double precision.
        factors: unit columns by axis, a column for each component.
        shares: squared size of each component over that of the whole network. Components that overlap do not add up
            to 1; of some that cancel one another each may be larger than the whole.
        drops: the part of the network that is lost without a component, the weights of the others fitted anew: what it
            alone explains. At most its share, and equal to it where it is orthogonal to all others.
        structure: a CP structure with one core for each factor.
        coordinates: labels or positions along axes, by name.
    """

    weights: Float[Tensor, " R"]
    factors: Mapping[str, Shaped[Tensor, "n R"]]
    shares: Float[Tensor, " R"]
    drops: Float[Tensor, " R"]
    structure: Structure
    coordinates: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def rank(self) -> int:
        return len(self.weights)

    def named(self, dims: Sequence[str], coordinates: Mapping[str, np.ndarray]) -> Components:
        """The same with the names of the data's axes, where a factor belongs to a whole one of them."""
        shown = {group[0]: dim for dim, group in zip(dims, self.structure.outputs, strict=True) if len(group) == 1}
        factors = {shown.get(name, name): factor for name, factor in self.factors.items()}
        return replace(self, factors=factors, coordinates=dict(coordinates))

    def network(self) -> Network:
        """The components as a network again, the weights in the first core; equal to what they came from."""
        (index,) = self.structure.inner_indices
        cores: list[Tensor] = []
        for core, factor in zip(self.structure.cores, (*self.factors.values(), None), strict=False):
            if factor is None:  # of a single mode: a core for the sum alone
                cores.append(torch.ones_like(cores[0][0]))
                continue
            weighted = factor * self.weights if not cores else factor
            own = [self.structure.sizes[i] for i in core.indices if i != index]
            cores.append(weighted.reshape(*own, -1))
        return Network(self.structure, cores)

    def __str__(self) -> str:
        peaks = {name: factor.abs().argmax(0).tolist() for name, factor in self.factors.items()}
        rows = [
            (
                number + 1,
                f"{float(self.weights[number]):.4g}",
                _percent(float(self.shares[number])),
                _percent(float(self.drops[number])),
                *(self._label(name, places[number]) for name, places in peaks.items()),
            )
            for number in range(min(self.rank, _LINES))
        ]
        header = ("component", "weight", "share", "alone", *(f"largest at {name}" for name in peaks))
        text = columns(header, rows, right=(0, 1, 2, 3))
        return text + (f"\n{self.rank - _LINES:,} more" if self.rank > _LINES else "")

    __repr__ = __str__

    def _label(self, name: str, place: int) -> str:
        labels = self.coordinates.get(name)
        if labels is None:
            return str(place)
        value = labels[place]
        return f"{value:.5g}" if isinstance(value, np.floating) else str(value)


def canonical(
    network: Network,
    order: Literal["weight", "drop"] = "weight",
    sign: Literal["max", "data"] = "max",
    *,
    data: Shaped[Tensor, ...] | None = None,
) -> Components:
    """The components of a CP network: unit columns, weights, an order and signs that do not depend on how it was found.

    Args:
        network: one inner index on every core. A core that carries several modes is one factor.
        order: largest first, by ``"weight"`` or by ``"drop"``, what a component alone explains; equal ones by their
            first column.
        sign: ``"max"`` makes the largest entry of each column positive (real and positive, for complex numbers), in
            all modes but the last, which takes the sign of the component. ``"data"`` turns each column to where the
            fibres of the data point, as far as the signs of a component can agree with that.
        data: the whole array, for ``sign="data"``.

    Raises:
        StructureError: the network is no sum of rank-one terms.
        DataError: ``sign="data"`` without real data of the network's shape.
        TenfoldError: another order or sign.

    Cost: ``O(sum(n) R^2 + R^3)``; with ``sign="data"`` ``2 |X| R`` for each mode.
    Paper of ``sign="data"``: "Resolving the sign ambiguity in the singular value decomposition", 2008.
    """
    if order not in ("weight", "drop"):
        raise TenfoldError(f"order must be 'weight' or 'drop', not {order!r}")
    if sign not in ("max", "data"):
        raise TenfoldError(f"sign must be 'max' or 'data', not {sign!r}")
    terms = terms_of(network)
    shares, drops = _shares(terms)
    factors = _positive(terms.factors)
    if sign == "data":
        factors = _towards(factors, terms.structure, data)
    by = (terms.weights if order == "weight" else drops).tolist()
    first = next(iter(factors.values()))
    plain = torch.view_as_real(first).transpose(1, 2).flatten(0, 1) if first.is_complex() else first
    places = sorted(range(terms.rank), key=lambda k: (-by[k], plain[:, k].tolist()))
    return Components(
        weights=terms.weights[places],
        factors={name: factor[:, places].contiguous() for name, factor in factors.items()},
        shares=shares[places],
        drops=drops[places],
        structure=terms.structure,
    )


def _shares(terms: Terms) -> tuple[Tensor, Tensor]:
    """What each term is of the whole, and what of the whole is out of reach of all others."""
    largest = terms.weights.max()
    if not largest > 0:
        return torch.zeros_like(terms.weights), torch.zeros_like(terms.weights)
    relative = terms.weights / largest
    cosines = terms.cosines()
    whole = torch.clamp((relative * (cosines @ relative.to(cosines.dtype)).real).sum(), min=1e-300)
    # The squared distance of a unit vector from the span of all others is one over the diagonal of the inverse Gram
    # matrix; dependent ones are at distance zero.
    alive = terms.weights > 0
    values, vectors = torch.linalg.eigh(cosines[alive][:, alive])
    floor = torch.finfo(torch.float64).eps * len(values) * values.max()
    inverse = (vectors.abs().square() / values.clamp(min=floor)).sum(1)
    distance = torch.zeros_like(relative)
    distance[alive] = 1 / inverse
    return relative.square() / whole, relative.square() * distance.clamp(max=1) / whole


def _positive(factors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The largest entry of each column real and positive, in all modes but the last, which takes the product."""
    *others, last = factors
    made: dict[str, Tensor] = {}
    turned = factors[last]
    for name in others:
        factor = factors[name]
        largest = factor.gather(0, factor.abs().argmax(0, keepdim=True))[0]
        phase = torch.where(largest == 0, torch.ones_like(largest), torch.sgn(largest))
        made[name] = factor * phase.conj()
        turned = turned * phase
    return {**made, last: turned}


def _towards(factors: Mapping[str, Tensor], structure: Structure, data: Tensor | None) -> dict[str, Tensor]:
    """Columns in the direction of the data's fibres; where an odd number would turn, the least certain one does not."""
    if not isinstance(data, Tensor) or data.is_complex() or any(f.is_complex() for f in factors.values()):
        raise DataError("sign='data' needs the whole array, real, as data")
    if tuple(data.shape) != structure.shape:
        raise DataError(f"data has shape {tuple(data.shape)}, but the network has {structure.shape}")
    (index,) = structure.inner_indices
    whole = data.to(torch.float64).reshape(structure.output_shape)
    whole = whole / (whole.abs().max() or 1.0)
    score = []
    for core, factor in zip(structure.cores, factors.values(), strict=False):
        axes = [structure.output_indices.index(i) for i in core.indices if i != index]
        unfolded = whole.movedim(axes, list(range(len(axes)))).reshape(factor.shape[0], -1)
        along = factor.mT @ unfolded
        score.append((along.sign() * along.square()).sum(1))
    scores = torch.stack(score)
    turn = torch.where(scores < 0, -1.0, 1.0).to(torch.float64)
    odd = turn.prod(0) < 0
    least = scores.abs().argmin(0)
    turn[least[odd], odd.nonzero()[:, 0]] *= -1
    return {name: factor * flip for (name, factor), flip in zip(factors.items(), turn, strict=True)}


def _percent(part: float) -> str:
    """A share in percent; of components that cancel each other, how many times the whole."""
    return f"{part:.1%}" if part < 10 else f"{part:,.0f}x"
