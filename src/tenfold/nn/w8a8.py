"""Layers that multiply in whole numbers of 8 bits: the weights are, and what comes in is rounded on the way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tenfold.errors import DataError, TenfoldError
from tenfold.nn import _whole_products as whole
from tenfold.nn._execution import Marks, marks_of, unchanged
from tenfold.nn.quantized import QuantizedConv, QuantizedLinear, QuantizedWeight, like_of


class W8A8Linear(QuantizedLinear):
    """``nn.Linear`` whose weights and inputs are whole numbers of 8 bits, multiplied as such.

    Each row of the weight has a scale, and each vector that comes in gets one of its own: its largest entry divided by
    127. So it is where the processor has an instruction for that (AVX512-VNNI), for numbers of single
    precision on the CPU of which nobody asks for gradients, and in programs of ``torch.export`` that are made there.
    Elsewhere, and in training, the inputs are not rounded and the product is one of floating point.

    Papers: "LLM.int8(): 8-bit matrix multiplication for transformers at scale", 2022, for a scale for each vector;
    "SmoothQuant: Accurate and efficient post-training quantization for large language models", 2023, for ``smooth``.

    Args:
        in_features, out_features: as of ``nn.Linear``.
        bias: whether there is one; it stays in floating point.
        smooth: whether inputs are multiplied by ``factors``, one for each feature, before they are rounded; the weight
            is divided by them.
        dtype, device: of scales and bias.
    """

    factors: Tensor | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        bias: bool = True,
        smooth: bool = False,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(in_features, out_features, bias=bias, dtype=dtype, device=device)
        self.register_buffer("factors", torch.ones(in_features, dtype=dtype, device=device) if smooth else None)

    @classmethod
    def from_dense(  # type: ignore[override]
        cls,
        weight: Float[Tensor, "out_features in_features"],
        *,
        bias: Float[Tensor, " out_features"] | None = None,
        factors: Float[Tensor, " in_features"] | None = None,
    ) -> W8A8Linear:
        """The layer with the nearest weight, whose inputs are multiplied by these factors first.

        Raises `DataError` for factors that are not positive, finite and one for each feature.
        """
        rows, columns = weight.shape
        if factors is not None and (
            factors.shape != (columns,) or not bool((factors > 0).all()) or not bool(factors.isfinite().all())
        ):
            raise DataError(f"factors must be {columns} positive numbers, one for each feature that comes in")
        smooth = factors is not None
        made = cls(columns, rows, bias=bias is not None, smooth=smooth, dtype=weight.dtype, device=weight.device)
        if factors is not None:
            made.factors = factors.detach().to(weight).clone()
            weight = weight / made.factors
        made.quantized = QuantizedWeight.of(weight)
        if bias is not None:
            made.bias = nn.Parameter(bias.detach().to(weight.dtype).clone())
        return made

    def to_dense(self) -> Float[Tensor, "out_features in_features"]:
        """The weight, in floating point."""
        weight = self.quantized.dequantized()
        return weight if self.factors is None else weight * self.factors

    def forward(self, input: Float[Tensor, "*batch in_features"]) -> Float[Tensor, "*batch out_features"]:
        """As ``nn.Linear``, with inputs rounded to 8 bits where that is faster."""
        held = self.quantized
        if input.shape[-1:] == (self.in_features,) and whole.possible(input, held, self.bias, self.factors):
            return whole.product(input, held.numbers, held.scale, self.factors, self.bias)
        return super().forward(input if self.factors is None else input * self.factors)

    def recipe(self) -> dict[str, Any]:
        """See `tenfold.nn.recipes`."""
        known = super().recipe()
        return {
            **{name: known[name] for name in ("in_features", "out_features", "bias", "dtype")},
            "smooth": self.factors is not None,
        }


class W8A8Conv(QuantizedConv):
    """``nn.Conv1d`` or ``nn.Conv2d`` whose weights and inputs are whole numbers of 8 bits, multiplied as such.

    As `W8A8Linear`, with a scale for each example. Programs of ``torch.export`` hold a product of floating point.

    Args:
        like: the convolution whose channels, kernel, stride, padding, dilation and groups it has; may live on the
            device "meta", for its weight is not used.

    Raises:
        TenfoldError: another kind of convolution, or padding other than zeros, as many on both sides.
    """

    def __init__(self, like: nn.Conv1d | nn.Conv2d) -> None:
        if not fits(like):
            raise TenfoldError(
                "whole numbers are multiplied in Conv1d and Conv2d with zeros as padding, alike on both sides"
            )
        super().__init__(like)
        self._packed: tuple[Marks, Tensor] | None = None

    @classmethod
    def from_dense(  # type: ignore[override]
        cls, conv: nn.Conv1d | nn.Conv2d, *, bias: Float[Tensor, " out"] | None = None
    ) -> W8A8Conv:
        """The layer with the nearest weight, and this bias."""
        made = cls(conv)
        made.quantized = QuantizedWeight.of(conv.weight)
        made.bias = None if bias is None else nn.Parameter(bias.detach().clone())
        return made

    def forward(self, input: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """As the convolution, with inputs rounded to 8 bits where that is faster."""
        held = self.quantized
        if (
            input.ndim == len(held.shape)
            and input.numel()
            and not whole.traced()
            and whole.possible(input, held, self.bias)
            and whole.convolutions_there()
        ):
            return whole.convolution(input, self._ready(), self._conv, held.scale, self.bias)
        return super().forward(input)

    def _ready(self) -> Tensor:
        """The numbers as oneDNN wants them, made once for as long as they do not change."""
        numbers, packed = self.quantized.numbers, self._packed
        if packed is not None and unchanged(packed[0], ((numbers,),)):
            return packed[1]
        marks = marks_of(((numbers,),))
        made = whole.packed(numbers.view(self.quantized.shape), self._conv)
        self._packed = None if marks is None else (marks, made)
        return made

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_packed": None}

    def recipe(self) -> dict[str, Any]:
        """See `tenfold.nn.recipes`."""
        known = super().recipe()
        return {"type": known["type"], "conv": known["conv"]}

    @classmethod
    def from_recipe(cls, recipe: Mapping[str, Any]) -> W8A8Conv:
        """See `tenfold.nn.recipes`."""
        return cls(like_of(recipe))


def fits(conv: Any) -> bool:
    """Whether `W8A8Conv` can be this convolution."""
    if type(conv) not in (nn.Conv1d, nn.Conv2d) or conv.padding_mode != "zeros":
        return False
    if conv.padding != "same":
        return True
    return all(d * (k - 1) % 2 == 0 for d, k in zip(conv.dilation, conv.kernel_size, strict=True))
