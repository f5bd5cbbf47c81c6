"""What every equivariant convolution along vectors is: products with spherical harmonics of edges, summed at nodes."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tenfold._arguments import whole_number
from tenfold.errors import DataError
from tenfold.so3._given import check_tensor
from tenfold.so3.irreps import Given, Irreps
from tenfold.so3.layouts import Layout, check, known
from tenfold.so3.products._product import uniform


class Convolution(ABC):
    """Messages along edges: features times a filter of spherical harmonics of the edge's direction.

    A convolution is a value: it holds irreps and tables of coefficients, and no weights. Layers of `tenfold.nn` hold
    those, or the networks that make them of edge lengths.

    Attributes:
        irreps_in: of the features at nodes.
        degree: the largest degree of the filter.
        irreps_out: of the messages.
        layout: of both, ``"mul_ir"`` or ``"ir_mul"``; the latter, channels last, is the faster one.
        weight_numel: how many weights each edge takes; 0 if none.
    """

    def __init__(
        self, irreps_in: Given, degree: int, irreps_out: Given, *, layout: Layout, weight_numel: int = 0
    ) -> None:
        known(layout)
        self.irreps_in = Irreps(irreps_in)
        self.degree = whole_number("degree", degree, 0)
        self.irreps_out = Irreps(irreps_out)
        self.layout: Layout = layout
        self.weight_numel = weight_numel

    def __call__(
        self,
        features: Float[Tensor, "nodes dim"],
        vectors: Float[Tensor, "edges 3"],
        weight: Float[Tensor, "edges weight_numel"] | Float[Tensor, " weight_numel"] | None = None,
        *,
        source: Int[Tensor, " edges"] | None = None,
        target: Int[Tensor, " edges"] | None = None,
        nodes: int | None = None,
    ) -> Float[Tensor, "nodes out"]:
        """The messages: at their edges, or added up at nodes.

        Args:
            features: of nodes; without ``source``, one row for each edge.
            vectors: of the edges; only their directions matter. One of length zero has a filter of degree 0 alone.
            weight: one row for each edge, or shared.
            source: the node each edge comes from.
            target: the node each edge goes to. Without it messages are returned as they are, a row for each edge.
            nodes: how many rows are returned with ``target``; by default as many as ``features`` has.

        Raises:
            DataError: shapes, dtypes or devices do not fit, or weights are missing or not wanted.
        """
        check(features, self.irreps_in, self.layout)
        if features.ndim != 2:
            raise DataError(f"features of shape {tuple(features.shape)} must have two axes, nodes and {self.irreps_in}")
        check_tensor("vectors", vectors)
        if vectors.ndim != 2 or vectors.shape[-1] != 3:
            raise DataError(f"vectors of shape {tuple(vectors.shape)} must have two axes, edges and x, y, z")
        # Not len, which would fix the number of edges where a graph is exported.
        edges = vectors.shape[0]
        if self.weight_numel:
            if weight is not None:
                check_tensor("weight", weight)
            # Of one length only: comparing others would keep a number of edges from graphs that are exported.
            expected = (self.weight_numel,) if weight is not None and weight.ndim == 1 else (edges, self.weight_numel)
            if weight is None or weight.ndim != len(expected) or weight.shape != expected:
                shape = "missing" if weight is None else f"of shape {tuple(weight.shape)}"
                raise DataError(f"weight must be of shape ({edges}, {self.weight_numel}), not {shape}")
            features, vectors, weight = uniform(features=features, vectors=vectors, weight=weight)
        else:
            if weight is not None:
                raise DataError(f"weight must be None: {type(self).__name__} of these irreps takes none")
            features, vectors = uniform(features=features, vectors=vectors)
        for name, ends in (("source", source), ("target", target)):
            if ends is not None:
                check_tensor(name, ends)
            if ends is not None and (ends.shape != (edges,) or ends.dtype != torch.int64):
                raise DataError(f"{name} must be {edges} of torch.int64, not {tuple(ends.shape)} of {ends.dtype}")
        if source is None and features.shape[0] != edges:
            raise DataError(
                f"features have {features.shape[0]} rows for {edges} edges: give source, or one row for each"
            )
        if nodes is not None and target is None:
            raise DataError("nodes is of no use without target")
        rows = features.shape[0] if nodes is None else whole_number("nodes", nodes, 0)
        return self._messages(features, vectors, weight, source, target, rows)

    @abstractmethod
    def _messages(
        self,
        features: Float[Tensor, "nodes dim"],
        vectors: Float[Tensor, "edges 3"],
        weight: Float[Tensor, "edges weight_numel"] | Float[Tensor, " weight_numel"] | None,
        source: Int[Tensor, " edges"] | None,
        target: Int[Tensor, " edges"] | None,
        nodes: int,
    ) -> Float[Tensor, "rows out"]:
        """The same for checked arguments; methods that fuse the gather and the scatter do both here."""

    def random_weight(
        self, *batch: int, seed: int = 0, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, "*batch weight_numel"]:
        """Independent normal weights, what layers begin with: all scaling is in the coefficients."""
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(*batch, self.weight_numel, generator=generator, dtype=dtype)

    def __repr__(self) -> str:
        weights = f", {self.weight_numel} weights" if self.weight_numel else ""
        return f"{type(self).__name__}({self.irreps_in} x {self.degree}y -> {self.irreps_out}{weights})"


def scatter(
    messages: Float[Tensor, "edges out"], target: Int[Tensor, " edges"] | None, nodes: int
) -> Float[Tensor, "rows out"]:
    """Messages added up at the nodes they go to; as they are without ``target``."""
    if target is None:
        return messages
    return messages.new_zeros(nodes, messages.shape[-1]).index_add(0, target, messages)
