"""Layers whose weights are small whole numbers with a scale for each row, or for each group in a row."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from tenfold.errors import DataError, TenfoldError
from tenfold.nn._checks import check_real
from tenfold.nn._execution import Marks, marks_of, plain, unchanged, watched
from tenfold.nn.recipes import convolution_of, convolution_recipe, dtype_of, name_of


class QuantizedWeight(nn.Module):
    """A weight ``[rows, ...]`` kept as whole numbers of 8 or 4 bits times a scale.

    Rounded to the nearest of ``scale * {-2^(bits-1)+1, ..., 2^(bits-1)-1}``: the error of an entry is at most half its
    scale. Two numbers of 4 bits share a byte. Buffers, not parameters; between `thaw` and `freeze` the weight is a
    parameter that is rounded in each call, and whose gradient passes the rounding as if it were not there.

    Paper: "Quantization and training of neural networks for efficient integer-arithmetic-only inference", 2018.

    Args:
        shape: of the weight.
        bits: 8 or 4.
        group: entries of a row that share a scale; None for whole rows.
        dtype: of the scales, and of what `dequantized` returns.

    Raises:
        TenfoldError: other bits, or a group that is not positive.
    """

    numbers: Tensor
    scale: Tensor

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        bits: int = 8,
        group: int | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        if bits not in (4, 8):
            raise TenfoldError(f"bits must be 8 or 4, not {bits}")
        if group is not None and group < 1:
            raise TenfoldError(f"group must be a positive number of entries, not {group}")
        self.shape, self.bits, self.group = tuple(shape), bits, group
        rows, columns = self.shape[0], math.prod(self.shape[1:])
        groups = 1 if group is None else -(-columns // group)
        width = columns if bits == 8 else -(-columns // 2)
        self.register_buffer(
            "numbers", torch.zeros(rows, width, dtype=torch.int8 if bits == 8 else torch.uint8, device=device)
        )
        self.register_buffer("scale", torch.ones(rows, groups, dtype=dtype, device=device))
        self.trained: nn.Parameter | None = None
        self._cached: tuple[Marks, Tensor] | None = None

    @classmethod
    def of(cls, weight: Float[Tensor, "rows ..."], *, bits: int = 8, group: int | None = None) -> QuantizedWeight:
        """The nearest such weight; a row or group of zeros stays zero.

        Raises:
            DataError: numbers that are not real, not in floating point, or not finite.
        """
        check_real(weight)
        if not weight.isfinite().all():
            raise DataError("the weight has entries that are not finite; whole numbers cannot be near them")
        made = cls(tuple(weight.shape), bits=bits, group=group, dtype=weight.dtype, device=weight.device)
        made._take(weight.detach())
        return made

    def _take(self, weight: Tensor) -> None:
        """Become the nearest to a weight."""
        if not weight.numel():
            self.scale.fill_(1)
            return
        numbers, scale = self._rounded(weight.double())
        self.scale.copy_(scale)
        if self.bits == 8:
            self.numbers.copy_(numbers.to(torch.int8))
        else:
            odd = numbers.shape[1] % 2
            pairs = functional.pad(numbers + 8, (0, odd)).to(torch.uint8).reshape(len(numbers), -1, 2)
            self.numbers.copy_(pairs[..., 0] | pairs[..., 1] << 4)

    def _rounded(self, weight: Tensor) -> tuple[Float[Tensor, "rows columns"], Float[Tensor, "rows groups"]]:
        """Whole numbers, in floating point, and the scales."""
        flat = weight.reshape(weight.shape[0], -1)
        most = 2 ** (self.bits - 1) - 1
        length = max(flat.shape[1] if self.group is None else self.group, 1)
        parts = functional.pad(flat, (0, -flat.shape[1] % length)).reshape(len(flat), -1, length)
        scale = _representable(parts.abs().amax(dim=-1), most, self.scale.dtype)
        used = torch.where(scale > 0, scale, torch.ones_like(scale)).to(weight.dtype)
        numbers = (parts / used[..., None]).round().clamp(-most, most)
        return numbers.reshape(len(flat), -1)[:, : flat.shape[1]], scale

    def thaw(self) -> None:
        """Let the weight be trained, starting from what it is."""
        self.trained = nn.Parameter(self.dequantized())

    def freeze(self) -> None:
        """Round what was trained, and keep the whole numbers only."""
        if self.trained is not None:
            self._take(self.trained.detach())
            self.trained = None

    def dequantized(self) -> Float[Tensor, "rows ..."]:
        """The weight, in floating point."""
        columns, numbers = math.prod(self.shape[1:]), self.numbers
        if self.bits == 4:
            numbers = torch.stack((numbers & 15, numbers >> 4), dim=-1).flatten(1)[:, :columns].to(torch.int8) - 8
        return self._scaled(numbers.to(self.scale.dtype), self.scale)

    def _scaled(self, numbers: Tensor, scale: Tensor) -> Tensor:
        if self.group is not None:
            scale = scale.repeat_interleave(self.group, dim=1)[:, : numbers.shape[1]]
        return (numbers * scale).reshape(self.shape)

    def forward(self) -> Float[Tensor, "rows ..."]:
        """`dequantized`, kept between calls while nothing is trained: small on disk, as fast as a dense one."""
        if self.trained is not None:
            with torch.no_grad():
                off = self._scaled(*self._rounded(self.trained)) - self.trained
            return self.trained + off
        if self.training or torch.compiler.is_compiling() or watched():
            return self.dequantized()
        held = ((self.numbers, self.scale),)
        if not all(map(plain, held[0])) or (torch.is_grad_enabled() and self.scale.requires_grad):
            return self.dequantized()
        if self._cached is not None and unchanged(self._cached[0], held):
            return self._cached[1]
        # What is kept may serve where gradients are wanted, so it is no tensor of inference mode.
        with torch.inference_mode(False), torch.no_grad():
            made = self.dequantized()
        marks = marks_of(held)
        self._cached = None if marks is None else (marks, made)
        return made

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cached": None}

    def recipe(self) -> dict[str, Any]:
        """The settings, as JSON knows them."""
        return {"bits": self.bits, "group": self.group, "dtype": name_of(self.scale.dtype)}

    def extra_repr(self) -> str:
        """What ``print`` shows between the brackets."""
        of = "row" if self.group is None else f"{self.group} entries"
        return f"{' x '.join(map(str, self.shape))} of {self.bits} bits, a scale for each {of}"


def _representable(largest: Tensor, most: int, dtype: torch.dtype) -> Tensor:
    """Largest numbers over ``most`` in a dtype, so that ``most`` times that is in it too, and nothing small is lost."""
    known = torch.finfo(dtype)
    exact = largest.to(torch.promote_types(largest.dtype, torch.float32)) / most
    made = exact.to(dtype)
    # Where the numbers of the dtype lie at equal distances, the next one up: the largest weight still fits.
    step = known.smallest_normal * known.eps
    up = (largest.to(exact.dtype) / step / most).ceil() * step
    made = torch.where(made < known.smallest_normal, up.to(dtype), made)
    bound = torch.full_like(made, known.max / most * (1 - known.eps))
    return torch.where(made.to(exact.dtype) * most > known.max, bound, made)


class QuantizedLinear(nn.Module):
    """``nn.Linear`` with a `QuantizedWeight`.

    Args:
        in_features, out_features: as of ``nn.Linear``.
        bias: whether there is one; it stays in floating point.
        bits, group: of the weight.
        dtype, device: of scales and bias.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        bias: bool = True,
        bits: int = 8,
        group: int | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.quantized = QuantizedWeight(
            (out_features, in_features), bits=bits, group=group, dtype=dtype, device=device
        )
        self.bias = nn.Parameter(torch.zeros(out_features, dtype=dtype, device=device)) if bias else None

    @classmethod
    def from_dense(
        cls,
        weight: Float[Tensor, "out_features in_features"],
        *,
        bias: Float[Tensor, " out_features"] | None = None,
        bits: int = 8,
        group: int | None = None,
    ) -> QuantizedLinear:
        """The layer with the nearest weight."""
        rows, columns = weight.shape
        made = cls(
            columns, rows, bias=bias is not None, bits=bits, group=group, dtype=weight.dtype, device=weight.device
        )
        made.quantized = QuantizedWeight.of(weight, bits=bits, group=group)
        if made.bias is not None and bias is not None:
            made.bias = nn.Parameter(bias.detach().clone())
        return made

    def to_dense(self) -> Float[Tensor, "out_features in_features"]:
        """The weight, in floating point."""
        return self.quantized.dequantized()

    def forward(self, input: Float[Tensor, "*batch in_features"]) -> Float[Tensor, "*batch out_features"]:
        """As ``nn.Linear``."""
        return functional.linear(input, self.quantized(), self.bias)

    def extra_repr(self) -> str:
        """What ``print`` shows between the brackets."""
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"

    def recipe(self) -> dict[str, Any]:
        """See `tenfold.nn.recipes`."""
        return {
            "in_features": self.in_features,
            "out_features": self.out_features,
            "bias": self.bias is not None,
            **self.quantized.recipe(),
        }

    @classmethod
    def from_recipe(cls, recipe: Mapping[str, Any]) -> QuantizedLinear:
        """See `tenfold.nn.recipes`."""
        return cls(**{**recipe, "dtype": dtype_of(recipe["dtype"])})


class QuantizedConv(nn.Module):
    """``nn.Conv1d``, ``nn.Conv2d`` or ``nn.Conv3d`` with a `QuantizedWeight`.

    Args:
        like: the convolution whose channels, kernel, stride, padding, dilation and groups it has; may live on the
            device "meta", for its weight is not used.
        bits, group: of the weight.
    """

    _conv: Any

    def __init__(self, like: nn.Conv1d | nn.Conv2d | nn.Conv3d, *, bits: int = 8, group: int | None = None) -> None:
        super().__init__()
        device = None if like.weight.is_meta else like.weight.device
        self._settings = convolution_recipe(like)
        # Only its settings and its forward are wanted; the weight is given with each call. It is no child, for whoever
        # walks through the modules of a model expects a convolution to have a weight.
        conv = convolution_of(type(like), {**self._settings, "bias": False}, device="meta")
        del conv.weight
        object.__setattr__(self, "_conv", conv)
        shape, dtype = tuple(like.weight.shape), like.weight.dtype
        self.quantized = QuantizedWeight(shape, bits=bits, group=group, dtype=dtype, device=device)
        self.bias = None if like.bias is None else nn.Parameter(torch.zeros(shape[0], dtype=dtype, device=device))

    @classmethod
    def from_dense(
        cls,
        conv: nn.Conv1d | nn.Conv2d | nn.Conv3d,
        *,
        bias: Float[Tensor, " out"] | None = None,
        bits: int = 8,
        group: int | None = None,
    ) -> QuantizedConv:
        """The layer with the nearest weight, and this bias."""
        made = cls(conv, bits=bits, group=group)
        made.quantized = QuantizedWeight.of(conv.weight, bits=bits, group=group)
        made.bias = None if bias is None else nn.Parameter(bias.detach().clone())
        return made

    def to_dense(self) -> Float[Tensor, "out in ..."]:
        """The kernel, in floating point."""
        return self.quantized.dequantized()

    def forward(self, input: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """As the convolution."""
        made: Tensor = self._conv._conv_forward(input, self.quantized(), self.bias)
        return made

    def extra_repr(self) -> str:
        """What ``print`` shows between the brackets."""
        shown: str = self._conv.extra_repr()
        return shown if self.bias is None else shown.replace(", bias=False", "")

    def recipe(self) -> dict[str, Any]:
        """See `tenfold.nn.recipes`."""
        held = self.quantized
        settings = {**self._settings, "bias": self.bias is not None}
        return {"type": type(self._conv).__name__, "conv": settings, "bits": held.bits, "group": held.group}

    @classmethod
    def from_recipe(cls, recipe: Mapping[str, Any]) -> QuantizedConv:
        """See `tenfold.nn.recipes`."""
        return cls(like_of(recipe), bits=recipe["bits"], group=recipe["group"])


def like_of(recipe: Mapping[str, Any]) -> Any:
    """The convolution that a quantized one was made from, its numbers not yet those of the original."""
    kind = {"Conv1d": nn.Conv1d, "Conv2d": nn.Conv2d, "Conv3d": nn.Conv3d}[recipe["type"]]
    return convolution_of(kind, recipe["conv"])


class QuantizedEmbedding(nn.Module):
    """``nn.Embedding`` with a `QuantizedWeight`; only the rows asked for are made.

    Args:
        num_embeddings, embedding_dim, padding_idx: as of ``nn.Embedding``.
        bits: of the numbers.
        dtype, device: of the scales.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        padding_idx: int | None = None,
        bits: int = 8,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        self.num_embeddings, self.embedding_dim, self.padding_idx = num_embeddings, embedding_dim, padding_idx
        self.quantized = QuantizedWeight((num_embeddings, embedding_dim), bits=bits, dtype=dtype, device=device)

    @classmethod
    def from_dense(cls, embedding: nn.Embedding, *, bits: int = 8) -> QuantizedEmbedding:
        """The layer with the nearest weight."""
        rows, columns = embedding.weight.shape
        made = cls(
            rows,
            columns,
            padding_idx=embedding.padding_idx,
            bits=bits,
            dtype=embedding.weight.dtype,
            device=embedding.weight.device,
        )
        made.quantized = QuantizedWeight.of(embedding.weight, bits=bits)
        return made

    def to_dense(self) -> Float[Tensor, "num_embeddings embedding_dim"]:
        """The table, in floating point."""
        return self.quantized.dequantized()

    def forward(self, input: Tensor) -> Float[Tensor, "*batch embedding_dim"]:
        """As ``nn.Embedding``."""
        held = self.quantized
        if held.trained is not None:
            return functional.embedding(input, held(), self.padding_idx)
        numbers = functional.embedding(input, held.numbers)
        if held.bits == 4:
            numbers = torch.stack((numbers & 15, numbers >> 4), dim=-1).flatten(-2)[..., : self.embedding_dim]
            numbers = numbers.to(torch.int8) - 8
        return numbers.to(held.scale.dtype) * functional.embedding(input, held.scale)

    def recipe(self) -> dict[str, Any]:
        """See `tenfold.nn.recipes`."""
        return {
            "num_embeddings": self.num_embeddings,
            "embedding_dim": self.embedding_dim,
            "padding_idx": self.padding_idx,
            "bits": self.quantized.bits,
            "dtype": name_of(self.quantized.scale.dtype),
        }

    @classmethod
    def from_recipe(cls, recipe: Mapping[str, Any]) -> QuantizedEmbedding:
        """See `tenfold.nn.recipes`."""
        return cls(**{**recipe, "dtype": dtype_of(recipe["dtype"])})
