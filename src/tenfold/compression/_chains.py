"""Convolutions one after the other in the place of one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tenfold.compression.census import Site
from tenfold.compression.moments import Moments
from tenfold.linalg.roots import root_of
from tenfold.nn.quantized import QuantizedConv, QuantizedWeight

Kernel = tuple[int, ...]


def convolution(
    site: Site, weight: Tensor, axes: Sequence[int], bias: Tensor | None = None, *, groups: int = 1
) -> nn.Module:
    """One convolution of a chain, whose kernel is as long as the site's along ``axes`` and 1 along the others.

    It takes the site's stride, padding and dilation along those axes.
    """
    conv: Any = site.module
    spatial = site.weight.ndim - 2

    def along(values: Sequence[int], other: int) -> tuple[int, ...]:
        return tuple(values[a] if a in axes else other for a in range(spatial))

    padding = conv.padding
    made: nn.Module = type(conv)(
        weight.shape[1] * groups,
        weight.shape[0],
        along(conv.kernel_size, 1),
        stride=along(conv.stride, 1),
        padding=padding if isinstance(padding, str) and axes else along(padding, 0) if axes else 0,
        dilation=along(conv.dilation, 1),
        groups=groups,
        bias=bias is not None,
        padding_mode=conv.padding_mode if axes else "zeros",
        dtype=site.weight.dtype,
        device=site.weight.device,
    )
    with torch.no_grad():
        made.get_parameter("weight").copy_(weight)
        if bias is not None:
            made.get_parameter("bias").copy_(bias)
    return made


def chain(modules: Sequence[nn.Module], bits: int | None) -> nn.Module:
    """The modules one after the other, in 32 bits or fewer."""
    if bits is not None:
        modules = [QuantizedConv.from_dense(module, bias=module.bias, bits=bits) for module in modules]  # type: ignore[arg-type]
    return modules[0] if len(modules) == 1 else nn.Sequential(*modules)


def rounded(weight: Tensor, bits: int | None) -> Tensor:
    """What is left of a weight in so many bits."""
    if bits is None:
        return weight
    return QuantizedWeight.of(weight, bits=bits).dequantized()


def channels(site: Site, moments: Moments | None) -> Tensor | None:
    """A triangular root of the covariance of the channels."""
    if moments is None or moments.covariance is None:
        return None
    found, ins = moments.covariance, site.weight.shape[1]
    if len(found) != ins:
        taps = len(found) // ins
        found = found.reshape(ins, taps, ins, taps).diagonal(dim1=1, dim2=3).mean(dim=-1)
    return torch.linalg.qr(root_of(found).T).R.T
