"""Convolutions along edges that mix channels, by matrix products in the frame of each edge."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tenfold._arguments import whole_number
from tenfold.errors import DataError
from tenfold.so3._given import check_tensor, value_of
from tenfold.so3.irreps import Given
from tenfold.so3.layouts import Layout, check
from tenfold.so3.products._aligned_convolution import signal
from tenfold.so3.products._aligned_form import Form, Slot
from tenfold.so3.products._convolution import Convolution
from tenfold.so3.products._edge_frames import from_edge_frames, to_edge_frames
from tenfold.so3.products._registry import Unsuited


class SO2MixingConvolution(Convolution):
    """A convolution that mixes channels: in the frame of an edge, one matrix for each order.

    All channels and degrees of the orders m and -m are taken together, by a matrix for what stays and one for what is
    crossed: ``[[p, -q], [q, p]]``, which is what a complex matrix does. Weights are these matrices, channels in by
    channels out for each number of the frame that `SO2Convolution` has; all edges share them. What depends on an edge,
    on its length for instance, is a factor for each degree and channel that comes in.

    Args:
        irreps_in: each degree once, in equally many channels.
        irreps_out: the same; the number of channels may be another.
        m_max: orders above this are left out; all are kept by default. Edges of length zero then keep degrees up to it.
        parity: as in `SO2Convolution`.
        layout: of features and messages.

    Attributes:
        radial_numel: how many factors each edge may have: by degree in, then channel.

    Raises:
        Unsuited: the irreps are no functions on the sphere, or no path leads from one to the other.

    Cost: ``O(L^3)`` for each edge and pair of channels, in one matrix product for each order; the features of all edges
    are in memory, twice.
    Paper: "Reducing SO(3) Convolutions to SO(2) for Efficient Equivariant GNNs", 2023.
    """

    def __init__(
        self,
        irreps_in: Given,
        irreps_out: Given,
        *,
        m_max: int | None = None,
        parity: bool = True,
        layout: Layout = "mul_ir",
    ) -> None:
        super().__init__(irreps_in, 0, irreps_out, layout=layout)
        self._inner = signal("irreps_in", self.irreps_in, parity)
        self._outer = signal("irreps_out", self.irreps_out, parity)
        self.degree = self._inner.lmax + self._outer.lmax
        self.m_max = min(self._inner.lmax, self._outer.lmax) if m_max is None else whole_number("m_max", m_max, 0)
        sign = self._inner.parity * self._outer.parity if parity else 0
        inner, outer = self._inner.degrees, self._outer.degrees
        self._form = Form("frame", inner, outer, self.degree, self.m_max, sign >= 0, sign <= 0)
        if not self._form.slots():
            raise Unsuited(f"no path leads from '{self.irreps_in}' to '{self.irreps_out}' with this filter")
        self.weight_numel = len(self._form.slots()) * self._inner.channels * self._outer.channels
        self._plan, self._places = _plan(self._form)
        self._blind = self._form.blind().tolist()
        self.radial_numel = len(inner) * self._inner.channels

    def __call__(
        self,
        features: Float[Tensor, "nodes dim"],
        vectors: Float[Tensor, "edges 3"],
        weight: Float[Tensor, "edges weight_numel"] | Float[Tensor, " weight_numel"] | None = None,
        *,
        source: Int[Tensor, " edges"] | None = None,
        target: Int[Tensor, " edges"] | None = None,
        nodes: int | None = None,
        radial: Float[Tensor, "edges radial_numel"] | None = None,
    ) -> Float[Tensor, "nodes out"]:
        """The messages, as in `Convolution`; weights are shared.

        Args:
            radial: factors of what comes in at each edge.

        Raises:
            DataError: weights are those of edges, or factors are not as many as they should be; else as there.
        """
        if weight is not None:
            check_tensor("weight", weight)
        if weight is not None and weight.ndim != 1:
            raise DataError(f"weight must be of shape ({self.weight_numel},): all edges share it; radial is of edges")
        if radial is None:
            return super().__call__(features, vectors, weight, source=source, target=target, nodes=nodes)
        check(features, self.irreps_in, self.layout)
        for name, tensor in (("vectors", vectors), ("radial", radial)):
            check_tensor(name, tensor)
        if radial.shape != (vectors.shape[0], self.radial_numel) or radial.dtype != features.dtype:
            expected = f"({vectors.shape[0]}, {self.radial_numel}) and {features.dtype}"
            raise DataError(f"radial must be of shape {expected}, not {tuple(radial.shape)} and {radial.dtype}")
        rows = nodes if nodes is not None or target is None else features.shape[0]
        if source is not None:
            features = features.index_select(0, source)
        by_degree = radial.unflatten(-1, (-1, self._inner.channels))
        repeats = torch.tensor([2 * degree + 1 for degree in self._inner.degrees], device=radial.device)
        factors = by_degree.repeat_interleave(repeats, dim=1, output_size=sum(2 * n + 1 for n in self._inner.degrees))
        scaled = self._inner.features(self._inner.components(features, self.layout) * factors, self.layout)
        return super().__call__(scaled, vectors, weight, target=target, nodes=rows)

    def _messages(
        self,
        features: Float[Tensor, "nodes dim"],
        vectors: Float[Tensor, "edges 3"],
        weight: Float[Tensor, "edges weight_numel"] | Float[Tensor, " weight_numel"] | None,
        source: Int[Tensor, " edges"] | None,
        target: Int[Tensor, " edges"] | None,
        nodes: int,
    ) -> Float[Tensor, "rows out"]:
        assert weight is not None
        inner, outer, orders = self._inner, self._outer, self.m_max
        numbers = weight.reshape(-1, inner.channels, outer.channels)
        seen = to_edge_frames(inner.components(features, self.layout), vectors, source, inner.degrees, orders)
        made = self._mixed(seen, numbers)
        zero = (vectors == 0).all(dim=-1)
        if value_of(zero.any()) != 0:
            blind = numbers.new_tensor(self._blind)
            made = torch.where(
                zero[:, None, None], self._mixed(seen, torch.einsum("rs,sio->rio", blind, numbers)), made
            )
        return outer.features(from_edge_frames(made, vectors, target, nodes, outer.degrees, orders), self.layout)

    def _mixed(
        self, seen: Float[Tensor, "edges cut channels_in"], numbers: Float[Tensor, "slots channels_in channels_out"]
    ) -> Float[Tensor, "edges cut channels_out"]:
        """Each order's matrix times what edges see of it."""
        made, scale = [], 1 / math.sqrt(self._inner.channels)
        for one in self._plan:
            plus, minus = (seen[:, rows].flatten(1) for rows in (one.plus, one.minus))
            factors = scale * numbers.new_tensor(one.factors)[:, None]
            kept, crossed = (
                # [in, out, channels in, channels out] to rows and columns
                None
                if slots is None
                else (numbers[torch.tensor(slots, device=numbers.device)] * factors[..., None])
                .transpose(1, 2)
                .flatten(2)
                .flatten(0, 1)
                for slots in (one.kept, one.crossed)
            )
            if kept is not None and crossed is not None:
                matrix = torch.cat([torch.cat([kept, crossed]), torch.cat([-crossed, kept])], dim=1)
                made.append(torch.cat([plus, minus], dim=1) @ matrix)
            elif kept is not None:
                made += [plus @ kept] if one.order == 0 else [plus @ kept, minus @ kept]
            elif crossed is not None:
                made += [minus @ crossed, -(plus @ crossed)]
        # Components that nothing leads to take what stands at the end.
        made.append(seen.new_zeros(seen.shape[0], self._outer.channels))
        return torch.cat(made, dim=1).unflatten(-1, (-1, self._outer.channels))[:, self._places]


class _Order(NamedTuple):
    """The matrix of one order: components m and -m of what comes in, slots, and factors by degree out."""

    order: int
    plus: list[int]
    minus: list[int]
    kept: list[list[int]] | None
    crossed: list[list[int]] | None
    factors: list[float]


def _plan(form: Form) -> tuple[list[_Order], list[int]]:
    """The matrices of a form, and where each component out is among their results side by side."""
    number = {slot: n for n, slot in enumerate(form.slots())}
    middles = [_middles(degrees, form.orders) for degrees in (form.inner, form.outer)]
    plan, found, at = [], {}, 0
    for m in range(form.orders + 1):
        inner, outer = ([n for n in degrees if n >= m] for degrees in (form.inner, form.outer))
        if not inner or not outer:
            continue
        tables = [
            [[number[Slot(i, o, crossed, m)] for o in outer] for i in inner] if some and (m or not crossed) else None
            for crossed, some in ((False, form.even), (True, form.odd))
        ]
        if tables == [None, None]:
            continue
        factors = [form.scale(o) / math.sqrt(2 if m else 1) for o in outer]
        plus, minus = ([middles[0][i] + sign * m for i in inner] for sign in (1, -1))
        plan.append(_Order(m, plus, minus, tables[0], tables[1], factors))
        for sign in (1, -1) if m else (1,):
            for o in outer:
                found[middles[1][o] + sign * m] = at
                at += 1
    size = sum(2 * min(n, form.orders) + 1 for n in form.outer)
    return plan, [found.get(component, at) for component in range(size)]


def _middles(degrees: tuple[int, ...], orders: int) -> dict[int, int]:
    """Where order 0 of each degree is among the components that a frame keeps."""
    found, start = {}, 0
    for degree in degrees:
        found[degree] = start + min(degree, orders)
        start += 2 * min(degree, orders) + 1
    return found
