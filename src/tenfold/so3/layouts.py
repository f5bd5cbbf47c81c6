"""The two orders in which libraries keep the numbers of a block: by multiplicity first, or by component first."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Shaped
from torch import Tensor

from tenfold._arguments import closest, quoted
from tenfold.errors import DataError, TenfoldError
from tenfold.so3._given import check_tensor
from tenfold.so3._relayout import Layout, turned
from tenfold.so3.irreps import Given, Irreps

LAYOUTS = ("mul_ir", "ir_mul")


def split(
    features: Shaped[Tensor, "*batch dim"], irreps: Given, layout: Layout = "mul_ir"
) -> tuple[Shaped[Tensor, "*batch mul component"], ...]:
    """One tensor ``[*batch, mul, 2 l + 1]`` for each block: views of the features, in either layout.

    Raises:
        DataError: the last axis has not ``irreps.dim`` entries.
        TenfoldError: there is no such layout.
    """
    irreps = Irreps(irreps)
    check(features, irreps, layout)
    found = []
    for block, where in zip(irreps, irreps.slices(), strict=True):
        part = features[..., where]
        if layout == "mul_ir":
            found.append(part.unflatten(-1, (block.mul, block.ir.dim)))
        else:
            found.append(part.unflatten(-1, (block.ir.dim, block.mul)).transpose(-1, -2))
    return tuple(found)


def join(
    blocks: Sequence[Shaped[Tensor, "*batch mul component"]], layout: Layout = "mul_ir"
) -> Shaped[Tensor, "*batch dim"]:
    """The inverse of `split`: features of blocks ``[*batch, mul, 2 l + 1]``.

    Raises:
        DataError: there are no blocks.
        TenfoldError: there is no such layout.
    """
    known(layout)
    if not blocks:
        raise DataError("blocks must be at least one tensor: of none there is no shape to return")
    for number, block in enumerate(blocks):
        check_tensor(f"blocks[{number}]", block)
    return torch.cat([(b if layout == "mul_ir" else b.transpose(-1, -2)).flatten(-2) for b in blocks], dim=-1)


def relayout(
    features: Shaped[Tensor, "*batch dim"], irreps: Given, source: Layout, target: Layout
) -> Shaped[Tensor, "*batch dim"]:
    """Features in another layout; the same tensor where nothing changes place.

    ``"mul_ir"`` is e3nn's: all components of the first copy of an irrep, then of the second. ``"ir_mul"`` is
    cuEquivariance's: the first component of all copies, then the second.

    Raises:
        DataError: the last axis has not ``irreps.dim`` entries.
        TenfoldError: there is no such layout.

    Cost: numbers of 4 and 8 bytes on the CPU are read and written once, by code that is compiled for the irreps when it
    is needed first and kept on disk; others go through torch.
    """
    irreps = Irreps(irreps)
    known(target)
    check(features, irreps, source)
    if source == target:
        return features
    return turned(features, [block.mul for block in irreps], [block.ir.dim for block in irreps], target)


def check(features: Tensor, irreps: Irreps, layout: Layout, name: str = "features") -> None:
    """Raises where features cannot be of these irreps, or there is no such layout."""
    known(layout)
    check_tensor(name, features)
    if features.ndim == 0 or features.shape[-1] != irreps.dim:
        raise DataError(f"{name} of shape {tuple(features.shape)} must end with the {irreps.dim} of '{irreps}'")


def known(layout: Layout) -> None:
    """Raises `TenfoldError` if there is no such layout."""
    if layout not in LAYOUTS:
        hint = closest(layout, LAYOUTS) if isinstance(layout, str) else ""
        raise TenfoldError(f"a layout is 'mul_ir' or 'ir_mul', not {quoted(layout)}{hint}")
