"""Geometric parametrisation (GmP): each neuron by the angles of its weights, their length, and where it bends."""

from __future__ import annotations

from typing import Literal, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tenfold.errors import DataError

Plain = TypeVar("Plain", nn.Linear, nn.Conv2d)


def directions(angles: Float[Tensor, "*neurons angles"]) -> Float[Tensor, "*neurons size"]:
    """Unit vectors of hyperspherical angles: ``u_i = cos a_i prod_{j<i} sin a_j``, the last without its cosine.

    Cost: linear in the angles. In double precision where they are, else in single.
    """
    wide = angles.to(torch.promote_types(angles.dtype, torch.float32))
    one = wide.new_ones(*wide.shape[:-1], 1)
    return torch.cat([wide.cos(), one], dim=-1) * torch.cat([one, wide.sin().cumprod(dim=-1)], dim=-1)


def angles_of(vectors: Float[Tensor, "*neurons size"]) -> Float[Tensor, "*neurons angles"]:
    """Angles of vectors of any length, one fewer than there are components; those of a zero vector are zero.

    All but the last lie in [0, pi], the last in (-pi, pi].
    """
    wide = vectors.double()
    # Lengths of what comes after each component, added up from the end.
    rest = wide.square().flip(-1).cumsum(dim=-1).flip(-1).sqrt()
    if wide.shape[-1] < 2:
        return vectors[..., :0].clone()
    last = torch.atan2(wide[..., -1:], wide[..., -2:-1])
    return torch.cat([torch.atan2(rest[..., 1:-1], wide[..., :-2]), last], dim=-1).to(vectors.dtype)


class _Geometric(nn.Module):
    """Neurons ``r (u(angles) . x + shift)`` for the rows of any affine map."""

    radius: nn.Parameter
    angles: nn.Parameter
    shift: nn.Parameter | None

    def _take(self, weight: Tensor, bias: Tensor | None) -> None:
        """Parameters of a weight whose first axis is that of the neurons; its shape is kept."""
        self._shape = tuple(weight.shape)
        rows = weight.detach().flatten(1)
        # One weight has no angle; its sign is that of the radius.
        radius = rows[:, 0].clone() if rows.shape[1] == 1 else rows.double().norm(dim=1).to(rows.dtype)
        self.radius = nn.Parameter(radius)
        self.angles = nn.Parameter(angles_of(rows))
        if bias is None:
            self.register_parameter("shift", None)
            return
        bias = bias.detach()
        lost = ((radius == 0) & (bias != 0)).nonzero()
        if len(lost):
            raise DataError(
                f"neuron {int(lost[0, 0])} has a bias but no weights, and so no direction to bend in; set that bias to "
                "zero, or leave the layer as it is"
            )
        self.shift = nn.Parameter(torch.where(radius == 0, 0.0, bias / radius.masked_fill(radius == 0, 1.0)))

    @property
    def weight(self) -> Tensor:
        """The weights, with gradients to radius and angles."""
        rows = self.radius[:, None] * directions(self.angles).to(self.radius.dtype)
        return rows.view(self._shape)

    @property
    def bias(self) -> Tensor | None:
        """The biases: radius times shift."""
        return None if self.shift is None else self.radius * self.shift

    def characteristic_points(self) -> Float[Tensor, "neurons size"]:
        """Of each neuron the point nearest to the origin at which it bends, if a ReLU follows: ``-shift u``."""
        found = directions(self.angles).to(self.radius.dtype)
        return torch.zeros_like(found) if self.shift is None else -self.shift[:, None] * found


class GeometricLinear(_Geometric):
    """A linear layer whose neurons are ``radius * (u(angles) . x + shift)``, with unit vectors ``u``.

    It has as many parameters as ``nn.Linear`` and makes the same functions. With a ReLU behind it, a neuron bends where
    ``u . x = -shift``; a step of an angle turns that boundary by no more than the step, however short the weights are,
    whereas a step of short weights themselves may turn it by any angle.

    Args:
        in_features, out_features, bias: as in ``nn.Linear``.
        dtype, device: of the parameters.
        generator: of the random numbers. Weights begin as Glorot's uniform ones, biases with zero.

    Parameters: ``radius [out]``, ``angles [out, in - 1]``, ``shift [out]`` or None. ``weight`` and ``bias`` are
    computed from them.

    Cost: that of ``nn.Linear``, and a sine and a cosine for each weight.
    Paper: "Neural Characteristic Activation Analysis and Geometric Parameterization for ReLU Networks", 2024.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        plain = nn.Linear(in_features, out_features, bias, dtype=dtype, device=device)
        self.in_features, self.out_features = plain.in_features, plain.out_features
        self._take(_glorot(plain.weight, generator), plain.bias if plain.bias is None else plain.bias.detach() * 0)

    @classmethod
    def from_linear(cls, layer: nn.Linear) -> GeometricLinear:
        """The same function as a ``nn.Linear``.

        Raises:
            DataError: a neuron has a bias, but weights that are all zero.
        """
        made = cls.__new__(cls)
        nn.Module.__init__(made)
        made.in_features, made.out_features = layer.in_features, layer.out_features
        made._take(layer.weight, layer.bias)
        return made.train(layer.training)

    def to_linear(self) -> nn.Linear:
        """A ``nn.Linear`` that is the same function."""
        made = {"dtype": self.radius.dtype, "device": self.radius.device}
        plain = nn.Linear(self.in_features, self.out_features, self.shift is not None, **made)
        return _filled(plain, self).train(self.training)

    def forward(self, x: Float[Tensor, "*batch in_features"]) -> Float[Tensor, "*batch out_features"]:
        """As ``nn.Linear``."""
        if x.ndim < 1 or x.shape[-1] != self.in_features:
            raise DataError(f"the input must have shape (*batch, {self.in_features}), not {tuple(x.shape)}")
        return nn.functional.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        """Sizes."""
        return f"{self.in_features}, {self.out_features}, bias={self.shift is not None}"


class GeometricConv2d(_Geometric):
    """A convolution whose filters are ``radius * (u(angles) . patch + shift)``; see `GeometricLinear`.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode: as in
            ``nn.Conv2d``.
        dtype, device: of the parameters.
        generator: of the random numbers. Weights begin as Glorot's uniform ones, biases with zero.

    Paper: "Neural Characteristic Activation Analysis and Geometric Parameterization for ReLU Networks", 2024.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] | str = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: Literal["zeros", "reflect", "replicate", "circular"] = "zeros",
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        plain = nn.Conv2d(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            bias,
            padding_mode,
            dtype=dtype,
            device=device,
        )
        weight = _glorot(plain.weight, generator)
        self._convolve_as(plain, weight, plain.bias if plain.bias is None else plain.bias.detach() * 0)

    @classmethod
    def from_conv2d(cls, layer: nn.Conv2d) -> GeometricConv2d:
        """The same function as a ``nn.Conv2d``, with its strides, padding, dilation and groups.

        Raises:
            DataError: a filter has a bias, but weights that are all zero.
        """
        made = cls.__new__(cls)
        nn.Module.__init__(made)
        made._convolve_as(layer, layer.weight, layer.bias)
        return made.train(layer.training)

    def to_conv2d(self) -> nn.Conv2d:
        """A ``nn.Conv2d`` that is the same function."""
        made = {"dtype": self.radius.dtype, "device": self.radius.device}
        plain = nn.Conv2d(**self._geometry, bias=self.shift is not None, **made)  # type: ignore[arg-type]
        return _filled(plain, self).train(self.training)

    def forward(self, x: Float[Tensor, "*batch in_channels height width"]) -> Tensor:
        """As ``nn.Conv2d``."""
        return self._plain[0]._conv_forward(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        """Channels and geometry."""
        return ", ".join(f"{name}={value}" for name, value in self._geometry.items())

    def _convolve_as(self, plain: nn.Conv2d, weight: Tensor, bias: Tensor | None) -> None:
        names = (
            "in_channels",
            "out_channels",
            "kernel_size",
            "stride",
            "padding",
            "dilation",
            "groups",
            "padding_mode",
        )
        self._geometry = {name: getattr(plain, name) for name in names}
        # One that has no weights of its own and knows strides and padding; in a tuple, it is no child.
        self._plain = (nn.Conv2d(**self._geometry, bias=False, device="meta"),)
        self._take(weight, bias)


def _glorot(like: Tensor, generator: torch.Generator | None) -> Tensor:
    return nn.init.xavier_uniform_(torch.empty_like(like), generator=generator)


def _filled(plain: Plain, layer: _Geometric) -> Plain:
    with torch.no_grad():
        plain.weight.copy_(layer.weight)
        if plain.bias is not None and layer.bias is not None:
            plain.bias.copy_(layer.bias)
    return plain
