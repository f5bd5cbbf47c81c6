"""Products of inputs that are rounded on the way with weights of 8 bits, in whole numbers: where they run, and how.

Each row of the input is divided by its largest entry and rounded to 8 bits, the product sums in 32 bits, and what comes
out is multiplied by the scales of both. The product is oneDNN's, which has an instruction of the processor for it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int8
from torch import Tensor

from tenfold.nn._blocks import in_parts
from tenfold.nn._execution import plain, watched
from tenfold.nn.quantized import QuantizedWeight

_MOST = 127
# Products of 8 bits whose sum fits into 32 bits for sure.
_LONGEST = 2**31 // 128**2 - 1
# The unsigned number that stands for zero.
_ZERO = 128
# Rows that a thread takes at least: for fewer the others would cost more than they save.
_ROWS = 64


def _supported() -> bool:
    known: Callable[[], bool] | None = getattr(torch.cpu, "_is_vnni_supported", None)
    return known is not None and known() and hasattr(torch, "_int_mm") and torch.backends.mkldnn.is_available()


# A number that compilers of models can read, as they could not the call.
_SUPPORTED = _supported()


def there() -> bool:
    """Whether this processor multiplies whole numbers of 8 bits exactly and faster than floating point."""
    return _SUPPORTED


def traced() -> bool:
    """Whether a program is being made of what runs: it may hold operators of torch only."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


def possible(x: Tensor, weight: QuantizedWeight, bias: Tensor | None, factors: Tensor | None = None) -> bool:
    """Whether this can be multiplied so: single precision on the CPU, and nobody asks for gradients."""
    if weight.trained is not None or not there() or torch.is_autocast_enabled("cpu"):
        return False
    read = [tensor for tensor in (x, weight.scale, bias, factors) if tensor is not None]
    if any(tensor.dtype != torch.float32 or not tensor.is_cpu for tensor in read):
        return False
    rows, columns = weight.shape[0], weight.shape[1]
    # Kernels read by address as much as there should be: what has another size is torch's to refuse.
    if weight.numbers.shape[1] > _LONGEST or (bias is not None and bias.shape != (rows,)):
        return False
    if factors is not None and factors.shape != (columns,):
        return False
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in read):
        return False
    return traced() or (not watched() and plain(weight.numbers) and all(map(plain, read)))


def product(
    x: Float[Tensor, "*batch columns"],
    numbers: Int8[Tensor, "rows columns"],
    scale: Float[Tensor, "rows 1"],
    factors: Float[Tensor, " columns"] | None,
    bias: Float[Tensor, " rows"] | None,
) -> Float[Tensor, "*batch rows"]:
    """``round(x * factors) (numbers * scale)^T + bias``, each row of x rounded to 8 bits by a scale of its own.

    Cost: columns * rows multiplications of whole numbers for each row of x; the rest is a few percent of them.
    """
    if traced():
        return product_by_torch(x, numbers, scale, factors, bias)
    rows = x.reshape(-1, x.shape[-1])
    whole, scales = rounded(rows, factors)
    sums = torch._int_mm(whole, numbers.t())
    return scaled(sums, scales, scale, bias).view(*x.shape[:-1], len(numbers))


def product_by_torch(
    x: Float[Tensor, "*batch columns"],
    numbers: Int8[Tensor, "rows columns"],
    scale: Float[Tensor, "rows 1"],
    factors: Float[Tensor, " columns"] | None,
    bias: Float[Tensor, " rows"] | None,
) -> Float[Tensor, "*batch rows"]:
    """The same by operators of torch alone."""
    rows = x.reshape(-1, x.shape[-1])
    if factors is not None:
        rows = rows * factors
    scales = rows.abs().amax(dim=1, keepdim=True) / _MOST
    whole = (rows / torch.where(scales > 0, scales, 1.0)).round().to(torch.int8)
    made = torch._int_mm(whole, numbers.t()) * scales * scale.t()
    return (made if bias is None else made + bias).reshape(*x.shape[:-1], numbers.shape[0])


def rounded(
    rows: Float[Tensor, "n columns"], factors: Float[Tensor, " columns"] | None = None, *, unsigned: bool = False
) -> tuple[Tensor, Float[Tensor, " n"]]:
    """Rows times their factors as whole numbers from -127 to 127, or with 128 added, and the scale of each."""
    from tenfold.nn._rounding_kernels import round_rows

    # Of a view that is negative, the address tells the numbers without their sign.
    rows = rows.resolve_neg()
    if rows.stride(1) != 1:
        rows = rows.contiguous()
    if factors is not None:
        factors = factors.resolve_neg().contiguous()
    count, columns = rows.shape
    numbers = torch.empty(count, columns, dtype=torch.uint8 if unsigned else torch.int8)
    scales = torch.empty(count)
    factors = None if factors is None else factors.contiguous()
    given = (rows.data_ptr(), 4 * rows.stride(0), 0 if factors is None else factors.data_ptr(), columns)
    target, flip, place = numbers.data_ptr(), _ZERO if unsigned else 0, scales.data_ptr()
    in_parts(
        count,
        _ROWS,
        lambda _, first, last: round_rows(*given, target, flip, place, first, last),
        torch.get_num_threads(),
    )
    return numbers, scales


def scaled(
    sums: Tensor,
    row_scales: Float[Tensor, " n"],
    scale: Float[Tensor, "rows 1"],
    bias: Float[Tensor, " rows"] | None,
    *,
    each: int = 1,
) -> Float[Tensor, "m rows"]:
    """Sums, contiguous, in whole numbers or floating point, times their scales and with the bias; in their memory.

    ``each`` rows of sums after each other belong to one row that was rounded.
    """
    from tenfold.nn._rounding_kernels import scale_rows

    count, features = sums.shape
    scale = scale.resolve_neg().contiguous()
    bias = None if bias is None else bias.resolve_neg().contiguous()
    whole = int(sums.dtype == torch.int32)
    given = (sums.data_ptr(), whole, features, each, row_scales.data_ptr(), scale.data_ptr())
    added = 0 if bias is None else bias.data_ptr()
    in_parts(count, _ROWS, lambda _, first, last: scale_rows(*given, added, first, last), torch.get_num_threads())
    return sums.view(torch.float32)


@cache
def convolutions_there() -> bool:
    """Whether this torch has oneDNN's convolution of whole numbers, under the name that it has now."""
    return hasattr(torch.ops.onednn, "qconv_pointwise") and hasattr(torch.ops.onednn, "qconv_prepack")


class _Settings(NamedTuple):
    stride: list[int]
    padding: list[int]
    dilation: list[int]
    groups: int


def _settings(conv: Any) -> _Settings:
    """Those of a convolution over two axes; one over one axis has a first axis of length 1."""
    one = len(conv.kernel_size) == 1
    if isinstance(conv.padding, str):
        same = conv.padding == "same"
        padding = [d * (k - 1) // 2 * same for d, k in zip(conv.dilation, conv.kernel_size, strict=True)]
    else:
        padding = list(conv.padding)
    stride, dilation = list(conv.stride), list(conv.dilation)
    return _Settings(
        [1, *stride] if one else stride,
        [0, *padding] if one else padding,
        [1, *dilation] if one else dilation,
        conv.groups,
    )


def packed(numbers: Int8[Tensor, "out channels ..."], conv: Any) -> Tensor:
    """The numbers of a convolution as `convolution` wants them."""
    if numbers.ndim == 3:
        numbers = numbers[:, :, None]
    ones = torch.ones(len(numbers))
    with torch.inference_mode(False), torch.no_grad():
        made: Tensor = torch.ops.onednn.qconv_prepack(numbers, ones, 1.0, _ZERO, *_settings(conv), None)
    return made


def convolution(
    x: Float[Tensor, "batch channels ..."],
    weight: Tensor,
    conv: Any,
    scale: Float[Tensor, "out 1"],
    bias: Tensor | None,
) -> Float[Tensor, "batch out ..."]:
    """The convolution of examples, each rounded to 8 bits by a scale of its own, with packed whole numbers.

    What comes out lies in memory with its channels last.
    """
    line = x.ndim == 3
    if line:
        x = x[:, :, None]
    last = x.is_contiguous(memory_format=torch.channels_last)
    lying = x.permute(0, 2, 3, 1) if last else x.contiguous()
    numbers, scales = rounded(lying.reshape(len(x), -1), unsigned=True)
    numbers = numbers.view(lying.shape)
    if last:
        numbers = numbers.permute(0, 3, 1, 2)
    count = len(scale)
    sums = torch.ops.onednn.qconv_pointwise(
        numbers,
        1.0,
        _ZERO,
        weight,
        torch.ones(count),
        torch.zeros(count, dtype=torch.int64),
        None,
        *_settings(conv),
        1.0,
        0,
        torch.float32,
        "none",
        [None],
        "none",
    )
    sums = sums.permute(0, 2, 3, 1).contiguous()
    scaled(sums.view(-1, count), scales, scale, bias, each=sums.shape[1] * sums.shape[2])
    made = sums.permute(0, 3, 1, 2)
    return made[:, :, 0] if line else made
