"""EvoNorm: normalisation and activation in one layer, found by evolution."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tenfold._arguments import real_number, whole_number
from tenfold.errors import DataError


class _EvoNorm(nn.Module):
    """What all have: a factor and a shift for each channel, and variances in single precision at least."""

    def __init__(
        self,
        channels: int,
        *,
        activation: bool = True,
        eps: float = 1e-5,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        self.channels = whole_number("channels", channels, 1)
        self.activation = activation
        self.eps = real_number("eps", eps, "a positive number")
        self.weight = nn.Parameter(torch.ones(self.channels, dtype=dtype, device=device))
        self.bias = nn.Parameter(torch.zeros(self.channels, dtype=dtype, device=device))

    def forward(self, x: Float[Tensor, "batch channels *places"]) -> Float[Tensor, "batch channels *places"]:
        """Normalised and bent; raises `DataError` where the second axis is not that of the channels."""
        if x.ndim < 3 or x.shape[1] != self.channels:
            raise DataError(f"the input must have shape (batch, {self.channels}, *places), not {tuple(x.shape)}")
        if self.activation and x.numel():
            wide = x.to(torch.promote_types(x.dtype, torch.float32))
            with torch.autocast(x.device.type, enabled=False):
                y = self._bent(wide)
        else:
            y = x
        return (y * self._of_channels(self.weight, x) + self._of_channels(self.bias, x)).to(x.dtype)

    def _bent(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    @staticmethod
    def _of_channels(given: Tensor, x: Tensor) -> Tensor:
        return given.view(1, -1, *[1] * (x.ndim - 2))

    def extra_repr(self) -> str:
        """Channels, and whether it bends."""
        return f"{self.channels}, activation={self.activation}, eps={self.eps}"


class _BatchEvoNorm(_EvoNorm):
    """Divides by the larger of the batch's deviation, running in evaluation, and something of each sample."""

    def __init__(
        self,
        channels: int,
        *,
        activation: bool = True,
        momentum: float = 0.1,
        eps: float = 1e-5,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(channels, activation=activation, eps=eps, dtype=dtype, device=device)
        self.momentum = real_number("momentum", momentum, "a number between 0 and 1")
        wide = torch.promote_types(self.weight.dtype, torch.float32)
        self.register_buffer("running_var", torch.ones(self.channels, dtype=wide, device=device))

    running_var: Tensor

    def _bent(self, x: Tensor) -> Tensor:
        return x / torch.maximum(self._deviation(x), self._of_sample(x))

    def _of_sample(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def _deviation(self, x: Tensor) -> Tensor:
        if self.training:
            variance = _variance(x, [0, *range(2, x.ndim)]).flatten()
            count = x.numel() // self.channels
            with torch.no_grad():
                unbiased = variance * (count / max(1, count - 1))
                self.running_var.lerp_(unbiased.to(self.running_var.dtype), self.momentum)
        else:
            variance = self.running_var.to(x.dtype)
        return self._of_channels((variance + self.eps).sqrt(), x)


class EvoNormB0(_BatchEvoNorm):
    """``x / max(sqrt(var_batch + eps), v x + sqrt(var_sample + eps))``, times a factor, plus a shift.

    No activation follows. Variances are over batch and places, and over the places of each sample. In evaluation that
    of the batch is the running one, ``running_var``, as in batch norm.

    Args:
        channels: of the input ``(batch, channels, *places)``.
        activation: whether it normalises and bends at all; without, only factor and shift are left, as the paper has it
            at the end of a residual branch.
        momentum: of the running variance.
        eps: added to variances.
        dtype, device: of the parameters.

    Paper: "Evolving Normalization-Activation Layers", 2020.
    """

    def __init__(
        self,
        channels: int,
        *,
        activation: bool = True,
        momentum: float = 0.1,
        eps: float = 1e-3,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(channels, activation=activation, momentum=momentum, eps=eps, dtype=dtype, device=device)
        self.v = nn.Parameter(torch.ones(self.channels, dtype=dtype, device=device))

    def _of_sample(self, x: Tensor) -> Tensor:
        return self._of_channels(self.v, x) * x + (_variance(x, _places(x)) + self.eps).sqrt()


class EvoNormB1(_BatchEvoNorm):
    """``x / max(sqrt(var_batch + eps), (x + 1) sqrt(mean_sample(x^2) + eps))``; arguments as in `EvoNormB0`.

    Paper: "Evolving Normalization-Activation Layers", 2020.
    """

    def _of_sample(self, x: Tensor) -> Tensor:
        return (x + 1) * (x.square().mean(dim=_places(x), keepdim=True) + self.eps).sqrt()


class EvoNormB2(_BatchEvoNorm):
    """``x / max(sqrt(var_batch + eps), sqrt(mean_sample(x^2) + eps) - x)``; arguments as in `EvoNormB0`.

    Paper: "Evolving Normalization-Activation Layers", 2020.
    """

    def _of_sample(self, x: Tensor) -> Tensor:
        return (x.square().mean(dim=_places(x), keepdim=True) + self.eps).sqrt() - x


class _SampleEvoNorm(_EvoNorm):
    """Divides by something of each sample and group of channels: the same in training and evaluation."""

    def __init__(
        self,
        channels: int,
        *,
        groups: int | None = None,
        activation: bool = True,
        eps: float = 1e-5,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(channels, activation=activation, eps=eps, dtype=dtype, device=device)
        # 32 is what the paper has, for channels that are multiples of it.
        self.groups = math.gcd(self.channels, 32) if groups is None else whole_number("groups", groups, 1)
        if self.channels % self.groups:
            divisors = ", ".join(str(n) for n in range(1, self.channels + 1) if self.channels % n == 0)
            raise DataError(f"groups must divide the {self.channels} channels: one of {divisors}, not {groups}")

    def _grouped(self, x: Tensor, moment: Callable[[Tensor, list[int]], Tensor]) -> Tensor:
        """The root of a moment of each group, for each channel."""
        grouped = x.unflatten(1, (self.groups, self.channels // self.groups))
        found = (moment(grouped, list(range(2, grouped.ndim))) + self.eps).sqrt()
        return found.expand(-1, -1, self.channels // self.groups, *[1] * (x.ndim - 2)).flatten(1, 2)

    def extra_repr(self) -> str:
        """Channels, groups, and whether it bends."""
        return f"{super().extra_repr()}, groups={self.groups}"


class EvoNormS0(_SampleEvoNorm):
    """``x sigmoid(v x) / sqrt(var_group + eps)``, times a factor, plus a shift.

    No activation follows. The variance is over the places and the channels of a group, of each sample: nothing depends
    on the batch.

    Args:
        channels: of the input ``(batch, channels, *places)``.
        groups: of channels, a divisor of their number; by default the largest one that they have in common with 32.
        activation: whether it normalises and bends at all; without, only factor and shift are left.
        eps: added to variances.
        dtype, device: of the parameters.

    Raises:
        DataError: groups that do not divide the channels.

    Paper: "Evolving Normalization-Activation Layers", 2020.
    """

    def __init__(
        self,
        channels: int,
        *,
        groups: int | None = None,
        activation: bool = True,
        eps: float = 1e-5,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__(channels, groups=groups, activation=activation, eps=eps, dtype=dtype, device=device)
        self.v = nn.Parameter(torch.ones(self.channels, dtype=dtype, device=device))

    def _bent(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self._of_channels(self.v, x) * x) / self._grouped(x, _variance)


class EvoNormS1(_SampleEvoNorm):
    """``x sigmoid(x) / sqrt(var_group + eps)``; arguments as in `EvoNormS0`.

    Paper: "Evolving Normalization-Activation Layers", 2020.
    """

    def _bent(self, x: Tensor) -> Tensor:
        return nn.functional.silu(x) / self._grouped(x, _variance)


class EvoNormS2(_SampleEvoNorm):
    """``x sigmoid(x) / sqrt(mean_group(x^2) + eps)``; arguments as in `EvoNormS0`.

    Paper: "Evolving Normalization-Activation Layers", 2020.
    """

    def _bent(self, x: Tensor) -> Tensor:
        return nn.functional.silu(x) / self._grouped(x, lambda y, axes: y.square().mean(dim=axes, keepdim=True))


def _places(x: Tensor) -> list[int]:
    return list(range(2, x.ndim))


def _variance(x: Tensor, axes: list[int]) -> Tensor:
    return x.var(dim=axes, correction=0, keepdim=True)
