"""Convolution with Clebsch-Gordan coefficients, as in NequIP and MACE: a weight for each path, channel and edge."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tenfold._arguments import whole_number
from tenfold.errors import TenfoldError
from tenfold.so3._transforms import followed
from tenfold.so3.irreps import Given, Irreps, Path
from tenfold.so3.layouts import Layout, relayout
from tenfold.so3.products._convolution import Convolution
from tenfold.so3.products._edge_operators import edge_messages
from tenfold.so3.products._edge_paths import EdgePath, EdgePaths
from tenfold.so3.products._edge_plain import plain_edge_messages
from tenfold.so3.spherical_harmonics import spherical_harmonics

# Narrower numbers are multiplied as these on the processor.
_WIDE = (torch.float32, torch.float64)


class ClebschGordanConvolution(Convolution):
    """Features of neighbours times harmonics of the edges, through every path, each channel with weights of the edge.

    What e3nn computes with a ``TensorProduct`` of features and spherical harmonics in component normalisation, mode
    ``"uvu"``, ``shared_weights=False``, and a scatter; to rounding, its normalisations included (``"component"`` of
    irreps, ``"element"`` of paths).

    Args:
        irreps_in: of the features.
        degree: the largest degree of the filter.
        irreps_out: with ``keep_paths``, which irreps messages have, multiplicities do not matter; without, the irreps
            of the messages.
        layout: of features and messages, ``"mul_ir"`` or ``"ir_mul"``; the latter, channels last, is the faster one.
        keep_paths: each path has a block of its own in the messages, of as many channels as the feature has; sorted by
            irrep, those of one irrep in the order of ``irreps_in``, then of the filter. This is what NequIP and MACE
            call ``irreps_mid``. Otherwise paths that lead to one irrep are added up.

    Attributes:
        irreps_out: of the messages; with ``keep_paths``, one block for each path.
        paths: which block of the features and which degree of the filter make which irrep, in the order of the weights:
            that of the blocks of ``irreps_out``. Each has as many weights as its feature has channels.

    Raises:
        TenfoldError: irreps are none, or a block of ``irreps_out`` has another number of channels than a block of
            ``irreps_in`` that should be added to it.

    Cost: ``channels (2 l1 + 1) (2 l3 + 1)`` multiplications for each edge and path. Nothing of the size of edges times
    messages is made where there is a ``target``.
    Paper: "E(3)-equivariant graph neural networks for data-efficient and accurate interatomic potentials", 2022.
    """

    def __init__(
        self,
        irreps_in: Given,
        degree: int,
        irreps_out: Given,
        *,
        layout: Layout = "mul_ir",
        keep_paths: bool = True,
    ) -> None:
        irreps_in, irreps_out = Irreps(irreps_in), Irreps(irreps_out)
        filters = Irreps.harmonics(whole_number("degree", degree, 0))
        found = irreps_in.paths(filters, irreps_out)
        if keep_paths:
            blocks = Irreps([(irreps_in[path.left].mul, path.ir) for path in found])
            order = blocks.order()
            irreps_out = blocks.sort()
            chosen = [(found[place], number) for number, place in enumerate(order)]
        else:
            chosen = [(path, number) for number, (_, ir) in enumerate(irreps_out) for path in found if path.ir == ir]
            chosen = [(path, number) for path, number in chosen if irreps_out[number].mul]
            _check_channels(irreps_in, irreps_out, chosen)
        self.paths = tuple(path for path, _ in chosen)
        self._edge_paths = _edge_paths(irreps_in, irreps_out, chosen, filters)
        self._text = self._edge_paths.text
        super().__init__(irreps_in, degree, irreps_out, layout=layout, weight_numel=self._edge_paths.weight_numel)

    def _messages(
        self,
        features: Float[Tensor, "nodes dim"],
        vectors: Float[Tensor, "edges 3"],
        weight: Float[Tensor, "edges weight_numel"] | Float[Tensor, " weight_numel"] | None,
        source: Int[Tensor, " edges"] | None,
        target: Int[Tensor, " edges"] | None,
        nodes: int,
    ) -> Float[Tensor, "rows out"]:
        edges = vectors.shape[0]
        filters = spherical_harmonics(range(self.degree + 1), vectors, normalization="component")
        given = features.new_zeros(0) if weight is None else weight
        given = given if given.ndim == 2 else given.expand(edges, -1)
        channels_last = relayout(features, self.irreps_in, self.layout, "ir_mul")
        rows = edges if target is None else nodes
        transformed = torch._C._are_functorch_transforms_active() or followed(channels_last, filters, given)
        if features.device.type == "cpu" and not transformed:
            dtype = features.dtype if features.dtype in _WIDE else torch.float32
            tensors = (tensor.to(dtype) for tensor in (channels_last, filters, given))
            found = edge_messages(*tensors, source, target, rows, self._text).to(features.dtype)
        else:
            found = plain_edge_messages(channels_last, filters, given, source, target, rows, self._edge_paths)
        return relayout(found, self.irreps_out, "ir_mul", self.layout)


def _check_channels(irreps_in: Irreps, irreps_out: Irreps, chosen: Sequence[tuple[Path, int]]) -> None:
    for path, number in chosen:
        block, other = irreps_out[number], irreps_in[path.left]
        if block.mul != other.mul:
            raise TenfoldError(
                f"irreps_out: {block} has not as many channels as {other} of irreps_in, whose paths are added to it; "
                "keep_paths=True keeps them apart"
            )


def _edge_paths(
    irreps_in: Irreps, irreps_out: Irreps, chosen: Sequence[tuple[Path, int]], filters: Irreps
) -> EdgePaths:
    """Where each path lies, and its factor: e3nn's, for unit variance of what comes out."""
    starts_in, starts_out = ([where.start for where in irreps.slices()] for irreps in (irreps_in, irreps_out))
    into = [number for _, number in chosen]
    paths = []
    for path, number in chosen:
        block = irreps_in[path.left]
        paths.append(
            EdgePath(
                block.ir.l,
                filters[path.right].ir.l,
                path.ir.l,
                block.mul,
                starts_in[path.left],
                starts_out[number],
                math.sqrt(path.ir.dim / into.count(number)),
            )
        )
    return EdgePaths(tuple(paths), (irreps_in.dim, filters.dim, irreps_out.dim))
