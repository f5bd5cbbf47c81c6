"""Convolutions along edges by plain operations of torch: for other devices, under `torch.func`, and to compare."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tenfold.so3._tables import real_3j_tensor
from tenfold.so3.products._convolution import scatter
from tenfold.so3.products._edge_paths import EdgePaths


def plain_edge_messages(
    features: Float[Tensor, "nodes dim"],
    filters: Float[Tensor, "edges component"],
    weight: Float[Tensor, "edges weight_numel"],
    source: Int[Tensor, " edges"] | None,
    target: Int[Tensor, " edges"] | None,
    nodes: int,
    paths: EdgePaths,
) -> Float[Tensor, "nodes out"]:
    """What `edge_messages` computes; it holds the messages of all edges."""
    gathered = features if source is None else features.index_select(0, source)
    parts: dict[int, Tensor] = {}
    first = 0
    for path in paths.paths:
        size = path.channels * (2 * path.feature + 1)
        left = gathered[:, path.left : path.left + size].unflatten(-1, (-1, path.channels))
        right = filters[:, path.filter**2 : (path.filter + 1) ** 2]
        matrices = torch.einsum("ijk,ej->eki", real_3j_tensor(path.factor, *path.degrees).to(right), right)
        part = ((matrices @ left) * weight[:, None, first : first + path.channels]).flatten(1)
        parts[path.out] = parts[path.out] + part if path.out in parts else part
        first += path.channels
    found, done = [], 0
    for start, part in (*sorted(parts.items()), (paths.components[2], gathered[:, :0])):
        # Where no path leads there are zeros.
        found += [gathered.new_zeros(filters.shape[0], start - done), part]
        done = start + part.shape[1]
    return scatter(torch.cat(found, dim=-1), target, nodes)
