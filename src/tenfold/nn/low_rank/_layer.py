"""What a dense layer was, without its numbers: how it applies a matrix, and which plain layers do it in factors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

CONVOLUTIONS: tuple[type[nn.Module], ...] = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_APPLY = (functional.conv1d, functional.conv2d, functional.conv3d)


@dataclass(frozen=True)
class Shape:
    """A linear map or a convolution with one group, as a matrix ``[out, in * kernel]`` applied to patches of the input.

    Attributes:
        kernel: sizes of the kernel; () for a linear map.
        stride, padding, dilation, padding_mode: as in ``torch.nn``; they belong to the factor with the kernel.
    """

    inputs: int
    outputs: int
    kernel: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] | str = ()
    dilation: tuple[int, ...] = ()
    padding_mode: str = "zeros"

    @classmethod
    def of(cls, layer: nn.Module) -> Shape:
        """Of an ``nn.Linear`` or a convolution."""
        if isinstance(layer, nn.Linear):
            return cls(layer.in_features, layer.out_features)
        assert isinstance(layer, nn.Conv1d | nn.Conv2d | nn.Conv3d)
        return cls(
            layer.in_channels,
            layer.out_channels,
            tuple(layer.kernel_size),
            tuple(layer.stride),
            layer.padding if isinstance(layer.padding, str) else tuple(layer.padding),
            tuple(layer.dilation),
            layer.padding_mode,
        )

    @property
    def matrix(self) -> tuple[int, int]:
        """Rows and columns of the weight as a matrix."""
        return self.outputs, self.inputs * math.prod(self.kernel)

    def into(self, features: Tensor, basis: Tensor) -> Tensor:
        """Patches of the input times the columns of ``basis [in * kernel, r]``: ``r`` channels."""
        if not self.kernel:
            return functional.linear(features, basis.T)
        return self.convolve(features, basis.T.reshape(-1, self.inputs, *self.kernel))

    def out_of(self, features: Tensor, basis: Tensor, bias: Tensor | None = None) -> Tensor:
        """``r`` channels times the rows of ``basis [out, r]``."""
        if not self.kernel:
            return functional.linear(features, basis, bias)
        return self.pointwise(features, basis, bias)

    def pointwise(self, features: Tensor, matrix: Tensor, bias: Tensor | None = None) -> Tensor:
        """A matrix applied to the channels at each position."""
        ones = (1,) * len(self.kernel)
        return _APPLY[len(self.kernel) - 1](features, matrix.reshape(*matrix.shape, *ones), bias)

    def convolve(self, features: Tensor, kernel: Tensor, bias: Tensor | None = None) -> Tensor:
        """A kernel of any numbers of channels, where and how far apart the layer applies its own."""
        padding = self.padding
        if self.padding_mode != "zeros":
            features = functional.pad(features, self._margins(), mode=self.padding_mode)
            padding = (0,) * len(self.kernel)
        apply: Any = _APPLY[len(self.kernel) - 1]
        return apply(features, kernel, bias, self.stride, padding, self.dilation)

    def _margins(self) -> list[int]:
        """Before and after the last axis, then before and after the one in front of it, and so on."""
        if self.padding == "valid":
            return [0] * 2 * len(self.kernel)
        if self.padding == "same":
            totals = [d * (k - 1) for d, k in zip(self.dilation, self.kernel, strict=True)]
            pairs = [(total // 2, total - total // 2) for total in totals]
        else:
            pairs = [(int(p), int(p)) for p in self.padding]
        return [margin for pair in reversed(pairs) for margin in pair]

    def dense(self, weight: Tensor, bias: nn.Parameter | None) -> nn.Module:
        """One plain layer; ``weight`` has the shape of its weight, or is that matrix."""
        made = self._made(self.inputs, self.outputs, bias, weight)
        return _filled(made, weight.reshape(self.outputs, self.inputs, *self.kernel), bias)

    def chain(self, left: Tensor, right: Tensor, bias: nn.Parameter | None) -> nn.Module:
        """Plain layers for ``left [out, r] @ right [in * kernel, r].T``: two, or one where that is smaller."""
        rank = left.shape[1]
        rows, columns = self.matrix
        if rank * (rows + columns) >= rows * columns:
            return self.dense(left @ right.T, bias)
        first = self._made(self.inputs, rank, None, right)
        _filled(first, right.T.reshape(rank, self.inputs, *self.kernel), None)
        return nn.Sequential(first, self._point(left, bias))

    def spatial_chain(self, left: Tensor, right: Tensor, bias: nn.Parameter | None) -> nn.Module:
        """Plain layers for ``left [in * height, r] @ right [out * width, r].T``: a column, then a row of the kernel."""
        rank = left.shape[1]
        height, width = self.kernel
        if rank * (left.shape[0] + right.shape[0]) >= self.matrix[0] * self.matrix[1]:
            weight = (left @ right.T).reshape(self.inputs, height, self.outputs, width).permute(2, 0, 1, 3)
            return self.dense(weight, bias)
        padding: list[Any] = [self.padding] * 2
        if not isinstance(self.padding, str):
            padding = [(self.padding[0], 0), (0, self.padding[1])]
        like = {"device": left.device, "dtype": left.dtype}
        column = nn.utils.skip_init(
            nn.Conv2d,
            self.inputs,
            rank,
            (height, 1),
            (self.stride[0], 1),
            padding[0],
            (self.dilation[0], 1),
            bias=False,
            padding_mode=self.padding_mode,
            **like,
        )
        row = nn.utils.skip_init(
            nn.Conv2d,
            rank,
            self.outputs,
            (1, width),
            (1, self.stride[1]),
            padding[1],
            (1, self.dilation[1]),
            bias=bias is not None,
            padding_mode=self.padding_mode,
            **like,
        )
        _filled(column, left.reshape(self.inputs, height, rank).permute(2, 0, 1)[..., None], None)
        _filled(row, right.reshape(self.outputs, width, rank).permute(0, 2, 1)[:, :, None], bias)
        return nn.Sequential(column, row)

    def tucker_chain(self, left: Tensor, core: Tensor, right: Tensor, bias: nn.Parameter | None) -> nn.Module:
        """Plain layers for the kernel ``core [a, b, *kernel]`` between ``left [out, a]`` and ``right [in, b]``."""
        outputs, inputs = core.shape[:2]
        small = right.numel() + core.numel() + left.numel()
        if small >= self.matrix[0] * self.matrix[1]:
            return self.dense(torch.einsum("oa,ab...,ib->oi...", left, core, right), bias)
        middle = _filled(self._made(inputs, outputs, None, core), core, None)
        return nn.Sequential(self._point(right.T, None), middle, self._point(left, bias))

    def _made(self, inputs: int, outputs: int, bias: Tensor | None, like: Tensor) -> nn.Module:
        options: dict[str, Any] = {"bias": bias is not None, "device": like.device, "dtype": like.dtype}
        if not self.kernel:
            return nn.utils.skip_init(nn.Linear, inputs, outputs, **options)
        options |= {"stride": self.stride, "padding": self.padding, "dilation": self.dilation}
        kind = CONVOLUTIONS[len(self.kernel) - 1]
        return nn.utils.skip_init(kind, inputs, outputs, self.kernel, padding_mode=self.padding_mode, **options)

    def _point(self, matrix: Tensor, bias: nn.Parameter | None) -> nn.Module:
        options: dict[str, Any] = {"bias": bias is not None, "device": matrix.device, "dtype": matrix.dtype}
        outputs, inputs = matrix.shape
        if not self.kernel:
            return _filled(nn.utils.skip_init(nn.Linear, inputs, outputs, **options), matrix, bias)
        made = nn.utils.skip_init(CONVOLUTIONS[len(self.kernel) - 1], inputs, outputs, 1, **options)
        return _filled(made, matrix.reshape(outputs, inputs, *(1 for _ in self.kernel)), bias)


def parameters_of(layer: nn.Module) -> tuple[Tensor, nn.Parameter | None]:
    """The weight, detached, and the bias of a linear map or a convolution."""
    weight, bias = layer.weight, layer.bias
    assert isinstance(weight, Tensor)
    assert bias is None or isinstance(bias, nn.Parameter)
    return weight.detach(), bias


def _filled(layer: nn.Module, weight: Tensor, bias: nn.Parameter | None) -> nn.Module:
    layer.weight = nn.Parameter(weight.detach().clone(memory_format=torch.contiguous_format))
    if bias is not None:
        layer.bias = bias  # the same parameter: an optimizer that has it keeps it
    return layer
