"""The star operation: two linear maps of a vector, multiplied, and StarNets made of it."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tenfold._arguments import closest, quoted, real_number, whole_number
from tenfold.errors import DataError, TenfoldError

# Channels of the first stage, blocks of each stage, and how much wider the product is.
_SIZES: dict[str, tuple[int, tuple[int, ...], int]] = {
    "s050": (16, (1, 1, 3, 1), 3),
    "s100": (20, (1, 2, 4, 1), 4),
    "s150": (24, (1, 2, 4, 2), 3),
    "s1": (24, (2, 2, 8, 3), 4),
    "s2": (32, (1, 2, 6, 2), 4),
    "s3": (32, (2, 2, 8, 4), 4),
    "s4": (32, (3, 3, 12, 5), 4),
}


class StarLinear(nn.Module):
    """``(W_1 x + b_1) * (W_2 x + b_2)``: every output is a quadratic form of the input, of rank two or less.

    With ``d`` inputs a layer has ``(d + 1)(d + 2) / 2`` monomials to choose from; layers behind one another double the
    degree, without any activation.

    Args:
        in_features, out_features: sizes of the vectors.
        bias: whether there are constants.
        activation: applied to the first factor, such as ``torch.relu``; none if left out.
        dtype, device: of the parameters.
        generator: of the random numbers that parameters begin with.

    Raises:
        TenfoldError: sizes that are not positive.

    Cost: ``2 in out`` multiplications for each vector, as one product with both matrices.
    Paper: "Rewrite the Stars", 2024.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        bias: bool = True,
        activation: nn.Module | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.in_features = whole_number("in_features", in_features, 1)
        self.out_features = whole_number("out_features", out_features, 1)
        self.activation = activation
        made = {"dtype": dtype, "device": device}
        self.weight = nn.Parameter(torch.empty(2, self.out_features, self.in_features, **made))  # type: ignore[arg-type]
        self.bias = nn.Parameter(torch.zeros(2, self.out_features, **made)) if bias else None  # type: ignore[arg-type]
        reach = (3 / self.in_features) ** 0.5
        nn.init.uniform_(self.weight, -reach, reach, generator=generator)

    def forward(self, x: Float[Tensor, "*batch in_features"]) -> Float[Tensor, "*batch out_features"]:
        """The product; raises `DataError` where the last axis is not ``in_features``."""
        if x.ndim < 1 or x.shape[-1] != self.in_features:
            raise DataError(f"the input must have shape (*batch, {self.in_features}), not {tuple(x.shape)}")
        bias = None if self.bias is None else self.bias.flatten()
        both = nn.functional.linear(x, self.weight.flatten(0, 1), bias)
        first, second = both.unflatten(-1, (2, self.out_features)).unbind(-2)
        return (first if self.activation is None else self.activation(first)) * second

    def to_polynomial(
        self,
    ) -> tuple[
        Float[Tensor, " out_features"],
        Float[Tensor, "out_features in_features"],
        Float[Tensor, "out_features in_features in_features"],
    ]:
        """Coefficients of degrees 0, 1 and 2, the last symmetric.

        Raises:
            TenfoldError: an activation makes it no polynomial.
        """
        if self.activation is not None:
            raise TenfoldError(f"with activation {type(self.activation).__name__} this layer is no polynomial")
        first, second = self.weight.unbind(0)
        b, c = (torch.zeros_like(first[:, 0]),) * 2 if self.bias is None else self.bias.unbind(0)
        products = torch.einsum("oi,oj->oij", first, second)
        return b * c, b[:, None] * second + c[:, None] * first, (products + products.mT) / 2

    def extra_repr(self) -> str:
        """Sizes."""
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}"


class StarBlock(nn.Module):
    """StarNet's block on pictures: a 7 x 7 filter of each channel, a star of two 1 x 1 convolutions, and back.

    ``y = BN(DW(x))``, ``y = ReLU6(f_1(y)) * f_2(y)``, ``x + DW(BN(g(y)))``; the modules have the names that they have
    in the authors' code.

    Args:
        channels: of input and output.
        ratio: how many times more channels the product has.
        drop_path: the probability with which a sample of the batch skips the block in training.

    Raises:
        TenfoldError: sizes that are not positive, or no probability below one.

    Paper: "Rewrite the Stars", 2024.
    """

    def __init__(self, channels: int, ratio: int = 3, *, drop_path: float = 0.0) -> None:
        super().__init__()
        channels, ratio = whole_number("channels", channels, 1), whole_number("ratio", ratio, 1)
        self.drop_path = real_number("drop_path", drop_path, "a probability below 1")
        if not 0 <= self.drop_path < 1:
            raise TenfoldError(f"drop_path must be a probability below 1, not {quoted(drop_path)}")
        inner = ratio * channels
        self.dwconv = _convolution(channels, channels, 7, groups=channels)
        self.f1 = _convolution(channels, inner, 1, norm=False)
        self.f2 = _convolution(channels, inner, 1, norm=False)
        self.g = _convolution(inner, channels, 1)
        self.dwconv2 = _convolution(channels, channels, 7, groups=channels, norm=False)

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch channels height width"]:
        """Pictures to pictures of the same size."""
        y = self.dwconv(x)
        y = self.dwconv2(self.g(nn.functional.relu6(self.f1(y)) * self.f2(y)))
        if self.training and self.drop_path:
            kept = torch.rand(x.shape[0], 1, 1, 1, device=x.device) >= self.drop_path
            y = y * kept.to(y.dtype) / (1 - self.drop_path)
        return x + y


class StarNet(nn.Module):
    """A StarNet: four stages of `StarBlock`, each at half the resolution of the one before.

    Names of modules are those of the authors' code. Convolutions begin as torch's do,
    linear layers with a truncated normal of 0.02.

    Args:
        size: ``s050``, ``s100``, ``s150``, ``s1``, ``s2``, ``s3`` or ``s4``.
        classes: how many numbers come out.
        channels: of the pictures.
        drop_path: of the last block; it grows from zero at the first one.

    Raises:
        TenfoldError: there is no such size.

    Paper: "Rewrite the Stars", 2024.
    """

    def __init__(self, size: str = "s1", classes: int = 1000, *, channels: int = 3, drop_path: float = 0.0) -> None:
        super().__init__()
        if size not in _SIZES:
            raise TenfoldError(
                f"size must be one of {', '.join(_SIZES)}, not {quoted(size)}{closest(str(size), _SIZES)}"
            )
        base, depths, ratio = _SIZES[size]
        width = 32
        self.stem = nn.Sequential(_convolution(whole_number("channels", channels, 1), width, 3, stride=2), nn.ReLU6())
        last = real_number("drop_path", drop_path, "a probability below 1") / (sum(depths) - 1)
        rates = [last * block for block in range(sum(depths))]
        self.stages = nn.ModuleList()
        for stage, depth in enumerate(depths):
            out = base * 2**stage
            blocks = [StarBlock(out, ratio, drop_path=rates.pop(0)) for _ in range(depth)]
            self.stages.append(nn.Sequential(_convolution(width, out, 3, stride=2), *blocks))
            width = out
        self.norm = nn.BatchNorm2d(width)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(width, whole_number("classes", classes, 1))
        nn.init.trunc_normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        """Pictures to one number for each class."""
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        return self.head(self.avgpool(self.norm(x)).flatten(1))


def _convolution(
    channels: int, out: int, width: int, *, stride: int = 1, groups: int = 1, norm: bool = True
) -> nn.Sequential:
    """A convolution, with a bias, and a batch norm that begins as one."""
    made = nn.Sequential()
    made.add_module("conv", nn.Conv2d(channels, out, width, stride, padding=width // 2, groups=groups))
    if norm:
        made.add_module("bn", nn.BatchNorm2d(out))
    return made
