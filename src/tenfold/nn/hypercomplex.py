"""Linear layers and convolutions over algebras, learned or named: a weight of ``1 / n`` of the numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from tenfold import formats
from tenfold._arguments import quoted
from tenfold.errors import DataError, TenfoldError
from tenfold.nn.algebras import algebra as named
from tenfold.nn.learning_rates import Fan
from tenfold.nn.linear import StructuredLinear

Init = Literal["default", "reference"]


def hypercomplex_linear(
    in_features: int,
    out_features: int,
    n: int | None = None,
    *,
    algebra: str | Float[Tensor, "n n n"] = "learned",
    bias: bool = True,
    init: Init = "default",
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    generator: torch.Generator | None = None,
) -> StructuredLinear:
    """A linear layer whose matrix is ``sum_k A[k] (x) S[k]`` with ``A`` of ``n x n x n``: a ``1/n`` of the numbers.

    Components are contiguous: with quaternions the first quarter of the features holds all real parts.

    Args:
        in_features, out_features: divisible by ``n``.
        n: components; needed where the algebra is learned.
        algebra: ``"learned"``, a name that `algebras` lists, or structure constants. Those that are not learned are no
            parameters.
        bias: whether there is one.
        init: ``"default"`` has entries of the matrix of variance ``1 / in_features`` (less where there are fewer
            features out); ``"reference"`` is what the authors do: Xavier's rule on the two tensors of three axes, and a
            bias that is uniform within ``1 / sqrt(in_features)``.
        dtype, device, generator: as of `StructuredLinear`.

    Raises:
        StructureError: features that ``n`` does not divide.
        TenfoldError: no such algebra, one of another size, or no such start.

    Paper: "Beyond fully-connected layers with quaternions: parameterization of hypercomplex multiplications with 1/n
    parameters", 2021.
    """
    _check_init(init)
    n, constants = _constants(n, algebra)
    structure = formats.phm(out_features, in_features, n)
    first, second = (core.name for core in structure.cores)
    layer = StructuredLinear(
        structure,
        bias=bias,
        fixed=None if constants is None else {first: constants},
        dtype=dtype,
        device=device,
        generator=generator,
    )
    if init == "reference":
        cores = [layer.cores[name] for name in (first, second) if name in layer.cores]
        _reference_start(cores, layer.bias, in_features, generator)
    return layer


class _HypercomplexConv(nn.Module):
    """What the convolutions over one, two and three axes share."""

    _axes: int
    _convolve: Callable[..., Tensor]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Sequence[int],
        n: int | None = None,
        *,
        algebra: str | Float[Tensor, "n n n"] = "learned",
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] | str = 0,
        dilation: int | Sequence[int] = 1,
        bias: bool = True,
        init: Init = "default",
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        _check_init(init)
        self.n, constants = _constants(n, algebra)
        for name, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
            if channels % self.n:
                raise TenfoldError(f"{name} {channels} is not divisible by n {self.n}")
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size, self.stride = self._each("kernel_size", kernel_size), self._each("stride", stride)
        self.dilation = self._each("dilation", dilation)
        self.padding = padding if isinstance(padding, str) else self._each("padding", padding)
        self.init = init
        cube = (self.n, self.n, self.n)
        if constants is None:
            self.algebra = nn.Parameter(torch.empty(cube, dtype=dtype, device=device))
        else:
            given = constants.to(dtype=dtype or torch.get_default_dtype(), device=device)
            self.register_buffer("algebra", given.clone())
        shape = (self.n, out_channels // self.n, in_channels // self.n, *self.kernel_size)
        self.kernels = nn.Parameter(torch.empty(shape, dtype=dtype, device=device))
        self.bias = nn.Parameter(torch.zeros(out_channels, dtype=dtype, device=device)) if bias else None
        self.reset_parameters(generator)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Kernels, bias and a learned algebra anew."""
        learned = isinstance(self.algebra, nn.Parameter)
        taps = math.prod(self.kernel_size)
        with torch.no_grad():
            if self.init == "reference":
                cores = [self.algebra, self.kernels] if learned else [self.kernels]
                _reference_start(cores, self.bias, self.in_channels * taps, generator)
                return
            wanted = Fan(self.n, self.n).std
            if learned:
                self.algebra.normal_(0.0, wanted, generator=generator)
            size = wanted if learned else float(self.algebra.float().square().mean().sqrt()) or wanted
            std = Fan(self.in_channels, self.out_channels).std / math.sqrt(taps)
            self.kernels.normal_(0.0, std * wanted / size, generator=generator)
            if self.bias is not None:
                self.bias.zero_()

    @property
    def in_features(self) -> int:
        """Channels in, which is what grows with the width."""
        return self.in_channels

    def fans(self) -> Mapping[str, Fan]:
        """For learning rates, see `param_groups`."""
        found = {"kernels": Fan(self.in_channels, self.out_channels)}
        return {**found, "algebra": Fan(self.n, self.n)} if isinstance(self.algebra, nn.Parameter) else found

    def to_dense(self) -> Tensor:
        """The weight of the ordinary convolution that this is: at each tap ``sum_k A[k] (x) S[k]``."""
        made = torch.einsum("kij,kab...->iajb...", self.algebra, self.kernels)
        return made.reshape(self.out_channels, self.in_channels, *self.kernel_size)

    def forward(self, x: Tensor) -> Tensor:
        """Raises `DataError` where the channels are not ``in_channels``."""
        if x.ndim not in (self._axes + 1, self._axes + 2) or x.shape[-self._axes - 1] != self.in_channels:
            raise DataError(
                f"the layer takes {self.in_channels} channels and then {self._axes} axes, not {tuple(x.shape)}"
            )
        return type(self)._convolve(
            x, self.to_dense(), self.bias, stride=self.stride, padding=self.padding, dilation=self.dilation
        )

    def extra_repr(self) -> str:
        """What ``print`` shows between the brackets."""
        made = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, n={self.n}"
        made += "" if isinstance(self.algebra, nn.Parameter) else ", algebra given"
        return f"{made}, stride={self.stride}, padding={self.padding}, bias={self.bias is not None}"

    def _each(self, name: str, value: int | Sequence[int]) -> tuple[int, ...]:
        found = (value,) * self._axes if isinstance(value, int) else tuple(value)
        if len(found) != self._axes:
            raise TenfoldError(f"{name} must be one number or {self._axes}, not {quoted(value)}")
        return found


class HypercomplexConv1d(_HypercomplexConv):
    """A convolution over one axis whose weight at each tap is ``sum_k A[k] (x) S[k]``, as `HypercomplexConv2d`."""

    _axes = 1
    _convolve = staticmethod(functional.conv1d)


class HypercomplexConv2d(_HypercomplexConv):
    """A convolution whose weight at each tap is ``sum_k A[k] (x) S[k]``: ``n^3`` numbers and ``1/n`` of the weight.

    Args:
        in_channels, out_channels: divisible by ``n``; components are contiguous blocks of channels.
        kernel_size, stride, padding, dilation, bias: as of ``torch.nn.Conv2d``.
        n, algebra, init, dtype, device, generator: as of `hypercomplex_linear`.

    Raises:
        TenfoldError: channels that ``n`` does not divide, no such algebra or start, or lengths of another number.

    Paper: "PHNNs: lightweight neural networks via parameterized hypercomplex convolutions", 2022.
    """

    _axes = 2
    _convolve = staticmethod(functional.conv2d)


class HypercomplexConv3d(_HypercomplexConv):
    """A convolution over three axes whose weight at each tap is ``sum_k A[k] (x) S[k]``, as `HypercomplexConv2d`."""

    _axes = 3
    _convolve = staticmethod(functional.conv3d)


def _constants(n: int | None, algebra: str | Tensor) -> tuple[int, Tensor | None]:
    if isinstance(algebra, str) and algebra == "learned":
        if n is None or n < 1:
            raise TenfoldError(f"n must be a whole number of at least 1 where the algebra is learned, not {quoted(n)}")
        return n, None
    constants = named(algebra, dtype=torch.float64) if isinstance(algebra, str) else algebra.detach()
    if constants.ndim != 3 or len(set(constants.shape)) != 1:
        raise TenfoldError(f"algebra must be of n x n x n numbers, not {' x '.join(map(str, constants.shape))}")
    if n is not None and n != len(constants):
        raise TenfoldError(f"the algebra has {len(constants)} components, but n is {n}")
    return len(constants), constants


def _check_init(init: str) -> None:
    if init not in ("default", "reference"):
        raise TenfoldError(f"init must be 'default' or 'reference', not {quoted(init)}")


def _reference_start(
    cores: Sequence[Tensor], bias: Tensor | None, inputs: int, generator: torch.Generator | None
) -> None:
    for core in cores:
        nn.init.xavier_uniform_(core, generator=generator)
    if bias is not None:
        nn.init.uniform_(bias, -1 / math.sqrt(inputs), 1 / math.sqrt(inputs), generator=generator)
