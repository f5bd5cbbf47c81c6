"""Convolutions whose kernel is a structure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from tenfold import decomposition
from tenfold.contraction import Plan, execute, plan
from tenfold.decomposition.hooi import hooi
from tenfold.errors import DataError, StructureError, TenfoldError
from tenfold.nn._checks import check_real
from tenfold.nn._conv_steps import Chain, chain
from tenfold.nn._execution import Asked, Cores, Execution, Way, Ways
from tenfold.nn.recipes import dtype_of, name_of
from tenfold.structure import Structure

Along = int | Sequence[int]

_CONVOLUTIONS: dict[int, Any] = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}
_MODULES: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_PADDINGS = ("zeros", "reflect", "replicate", "circular")
# A direction of the channels in which nothing came in counts as this share of the average one.
_UNSEEN = 1e-6


@dataclass(frozen=True)
class _Subject:
    """A convolution without its numbers.

    Attributes:
        structure: of the kernel.
        steps: the convolutions in its place, or None.
        dense: how the kernel in full is made.
        stride, dilation: along each axis of space.
        padding: how much on both sides of each axis.
        padding_mode: what is put there.
        groups: of channels.
        extent: of what comes in, as the powers of two that it is above.
    """

    structure: Structure
    steps: Chain | None
    dense: Plan
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    padding_mode: str
    groups: int
    extent: tuple[int, ...] = ()

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None, axes: Sequence[int], groups: int) -> Tensor:
        """One convolution that moves along ``axes`` as this one does, and not at all along the others."""
        spatial = len(self.stride)
        sides = [self.padding[axis] if axis in axes else (0, 0) for axis in range(spatial)]
        even = [left for left, _ in sides]
        if self.padding_mode != "zeros" or any(left != right for left, right in sides):
            if any(left or right for left, right in sides):
                mode = "constant" if self.padding_mode == "zeros" else self.padding_mode
                x = functional.pad(x, [n for side in reversed(sides) for n in side], mode=mode)
            even = [0] * spatial
        stride = [self.stride[axis] if axis in axes else 1 for axis in range(spatial)]
        dilation = [self.dilation[axis] if axis in axes else 1 for axis in range(spatial)]
        made: Tensor = _CONVOLUTIONS[spatial](x, weight, bias, stride, even, dilation, groups)
        return made


def _weights(subject: _Subject, cores: Cores) -> list[Tensor]:
    """The kernels of the chain."""
    assert subject.steps is not None
    (numbers,) = cores
    return [
        execute(step.product, [numbers[one.core].reshape(one.shape) for one in step.operands]).reshape(step.weight)
        for step in subject.steps.steps
    ]


def _chained(subject: _Subject, prepared: list[Tensor], x: Tensor, bias: Tensor | None) -> Tensor:
    """One convolution after the other."""
    assert subject.steps is not None
    count, last = x.shape[0], len(prepared) - 1
    added = bias is None
    for place, (step, weight) in enumerate(zip(subject.steps.steps, prepared, strict=True)):
        if step.order is not None:
            x = _permuted(x, count, step.carried, step.order)
        x = x.reshape(count * step.batch, step.groups * step.weight[1], *x.shape[2:])
        # A bias is of the channels that go out, as the last convolution makes them.
        whole = place == last and step.batch == 1 and subject.steps.finish is None
        x = subject.convolve(x, weight, bias if whole else None, step.axes, step.groups)
        x = x.reshape(count, step.batch * step.weight[0], *x.shape[2:])
        added = added or whole
    if subject.steps.finish is not None:
        x = _permuted(x, count, subject.steps.steps[-1].made, subject.steps.finish)
    if bias is None or added:
        return x
    return x + bias.to(x.dtype).reshape(-1, *(1,) * len(subject.stride))


def _permuted(x: Tensor, count: int, sizes: Sequence[int], order: Sequence[int]) -> Tensor:
    """The carried axes in another order, and one axis again."""
    apart = x.reshape(count, *sizes, *x.shape[2:])
    spatial = range(1 + len(sizes), apart.ndim)
    laid = apart.permute(0, *(1 + axis for axis in order), *spatial)
    return laid.reshape(count, math.prod(sizes), *x.shape[2:])


def _kernel(subject: _Subject, cores: Cores) -> Tensor:
    """The kernel in full."""
    (numbers,) = cores
    structure = subject.structure
    return execute(subject.dense, [numbers[core] for core in structure.term_core]).reshape(structure.shape)


def _whole(subject: _Subject, kernel: Tensor, x: Tensor, bias: Tensor | None) -> Tensor:
    return subject.convolve(x, kernel, bias, range(len(subject.stride)), subject.groups)


_CHAINED = Way("chained", _weights, _chained)
_MATERIALISED = Way("materialised", _kernel, _whole)


class StructuredConv(nn.Module):
    """A convolution in 1, 2 or 3 dimensions of space whose kernel ``[out, in / groups, k...]`` is a structure.

    It runs as a chain of small convolutions, one for each core, in the cheapest order (of Tucker-2: 1 x 1, the kernel,
    1 x 1; of CP: 1 x 1, one tap at a time along each axis, 1 x 1), or with the kernel in full, whichever is measured
    to be faster; under ``torch.compile`` and ``torch.export`` the chain, if it needs less than half of the operations.
    Kernels that are no chain (an axis of space on several cores) are always made in full.

    Args:
        structure: of the kernel; its first two output axes are the channels that go out and those that come in.
        stride, padding, dilation, groups, padding_mode: as of ``nn.Conv2d``.
        bias: whether a number is added to each channel that goes out; it starts at zero.
        execution: ``"factorised"`` for the chain, ``"materialised"`` for the kernel, ``"auto"`` for the faster.
        dtype, device: of the parameters.
        generator: where the random numbers of the start come from; torch's own by default.

    Attributes:
        structure: as given.
        cores: one parameter for each core, by its name.
        bias: or None.

    Raises:
        StructureError: a structure of less than 3 or more than 5 output axes, or channels that the groups do not
            divide; ``execution="factorised"`` of a kernel that is no chain.
        TenfoldError: a stride, padding or dilation that is none.

    Papers: "Compression of deep convolutional neural networks for fast and low power mobile applications", 2016;
    "Speeding-up convolutional neural networks using fine-tuned CP-decomposition", 2015.
    """

    def __init__(
        self,
        structure: Structure,
        *,
        stride: Along = 1,
        padding: Along | str = 0,
        dilation: Along = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        execution: Asked = "auto",
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        spatial = structure.order - 2
        if spatial not in _CONVOLUTIONS:
            raise StructureError(
                f"a kernel has 3 to 5 axes (out, in, and 1 to 3 of space); '{structure}' has {structure.order}"
            )
        # Its size is kept, because torch.compile cannot enter the lock behind which a structure works it out.
        self.structure, self._entries = structure, structure.size
        self.out_channels, self.in_channels = structure.shape[0], structure.shape[1] * groups
        if groups < 1 or self.out_channels % groups:
            raise StructureError(f"{groups} groups do not divide {self.out_channels} channels that go out")
        self.kernel_size, self.groups, self.padding_mode = structure.shape[2:], groups, padding_mode
        self.stride = _each(stride, spatial, "stride", 1)
        self.dilation = _each(dilation, spatial, "dilation", 1)
        self.padding = padding if isinstance(padding, str) else _each(padding, spatial, "padding", 0)
        if padding_mode not in _PADDINGS:
            raise TenfoldError(f"padding_mode must be {', '.join(_PADDINGS)}, not {padding_mode!r}")
        steps = chain(structure, groups, self.stride)
        if execution == "factorised" and steps is None:
            raise StructureError(f"'{structure}' is no chain of convolutions; its kernel must be made")
        dense = plan([t.indices for t in structure.terms], structure.output_indices, structure.sizes)
        self._subject = _Subject(
            structure, steps, dense, self.stride, self.dilation, self._sides(), padding_mode, groups
        )
        self.execution = execution
        self._executions: dict[tuple[int, ...], Execution] = {}
        self.cores = nn.ParameterDict(
            {core.name: nn.Parameter(torch.empty(core.shape, dtype=dtype, device=device)) for core in structure.cores}
        )
        self.bias = nn.Parameter(torch.zeros(self.out_channels, dtype=dtype, device=device)) if bias else None
        self.reset_parameters(generator)

    def _sides(self) -> tuple[tuple[int, int], ...]:
        if not isinstance(self.padding, str):
            return tuple((one, one) for one in self.padding)
        if self.padding not in ("same", "valid"):
            raise TenfoldError(f"padding must be whole numbers, 'same' or 'valid', not {self.padding!r}")
        if self.padding == "valid":
            return ((0, 0),) * len(self.kernel_size)
        if any(one != 1 for one in self.stride):
            raise TenfoldError(f"padding 'same' needs a stride of 1, not {self.stride}")
        reaches = [d * (k - 1) for d, k in zip(self.dilation, self.kernel_size, strict=True)]
        return tuple((reach // 2, reach - reach // 2) for reach in reaches)

    def _cores(self) -> list[list[Tensor]]:
        return [[self.cores[core.name] for core in self.structure.cores]]

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Cores anew, so that the entries of the kernel have variance ``1 / (in / groups * taps)``; the bias zero."""
        structure = self.structure
        summed = math.prod(structure.sizes[i] for i in structure.inner_indices)
        variance = 1 / (math.prod(structure.shape[1:]) * summed)
        with torch.no_grad():
            for core in self.cores.values():
                core.normal_(0.0, variance ** (0.5 / len(structure.terms)), generator=generator)
            if self.bias is not None:
                self.bias.zero_()

    def forward(self, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """As ``nn.Conv2d``, with or without an axis of the batch. Raises `DataError` for another number of channels."""
        spatial = len(self.kernel_size)
        if x.ndim not in (spatial + 1, spatial + 2) or x.shape[-spatial - 1] != self.in_channels:
            raise DataError(
                f"the layer takes {self.in_channels} channels and {spatial} axes of space, not an array of "
                f"{' x '.join(map(str, x.shape)) or 'no axes'}"
            )
        made = self._run(x if x.ndim == spatial + 2 else x[None])
        return made if x.ndim == spatial + 2 else made[0]

    def _run(self, x: Tensor) -> Tensor:
        if torch.compiler.is_compiling():
            return self._execution(()).by_rule(self._cores(), x, self.bias)
        return self._execution(tuple(int(n).bit_length() for n in x.shape[2:]))(self._cores(), x, self.bias)

    def _execution(self, extent: tuple[int, ...]) -> Execution:
        """What chooses for inputs of about one extent."""
        found = self._executions.get(extent)
        if found is None:
            subject = _Subject(**{**self._subject.__dict__, "extent": extent})
            factors = () if subject.steps is None else (_CHAINED,)
            flops = 2 * self._entries if subject.steps is None else subject.steps.flops
            ways = Ways(subject, factors, _MATERIALISED, None, flops, self._entries)
            found = self._executions[extent] = Execution(
                ways, "materialised" if subject.steps is None else self.execution
            )
        return found

    def train(self, mode: bool = True) -> Self:
        """As of any module; what was kept of the cores is forgotten."""
        self._executions.clear()
        return super().train(mode)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_executions": {}}

    def to_dense(self) -> Float[Tensor, "out in_of_group ..."]:
        """The kernel, in full; gradients flow to the cores."""
        return _kernel(self._subject, self._cores())

    @property
    def parameters_of_kernel(self) -> int:
        """The number of entries that make the kernel, without the bias."""
        return self.structure.parameters

    def flops(self, batch: int = 1, size: Sequence[int] | None = None) -> int:
        """Multiplications and additions of one call along the chain (of the kernel in full, where there is none).

        Args:
            batch: number of inputs.
            size: of their axes of space; those of the kernel by default, which is one position without padding.
        """
        extent = list(self.kernel_size if size is None else size)
        made = [
            (n + sum(side) - d * (k - 1) - 1) // s + 1
            for n, side, d, k, s in zip(
                extent, self._subject.padding, self.dilation, self.kernel_size, self.stride, strict=True
            )
        ]
        if self._subject.steps is None:
            return 2 * batch * self.structure.size * math.prod(made)
        total = 0
        for step in self._subject.steps.steps:
            for axis in step.axes:
                extent[axis] = made[axis]
            total += 2 * batch * step.batch * math.prod(step.weight) * math.prod(extent)
        return total

    @classmethod
    def from_dense(
        cls,
        dense: nn.Conv1d | nn.Conv2d | nn.Conv3d | Float[Tensor, "out in_of_group ..."],
        structure: Structure,
        *,
        covariance_of_channels: Float[Tensor, "in_of_group in_of_group"] | None = None,
        max_sweeps: int = 100,
        **settings: Any,
    ) -> StructuredConv:
        """The layer whose kernel is the best approximation of another's in the structure.

        Tensor trains by singular values (not worse than the best by more than the square root of their number of
        cuts), Tucker by orthogonal iteration, others by alternating least squares.

        Args:
            dense: a convolution, or a kernel.
            structure: as for the class.
            covariance_of_channels: ``E[x x^T]`` of the channels that come in, over all positions: their errors count
                as much as they vary, as if neighbouring positions knew nothing of each other.
            max_sweeps: of methods that go in sweeps.
            settings: of the class, where a kernel is given.

        Raises:
            StructureError: the structure has another shape; or the channels that come in lie on several cores, and
                their covariance is given.
            DataError: numbers that are not real and finite, or a covariance of another shape.
        """
        bias: Tensor | None = None
        if isinstance(dense, nn.Module):
            taken = ("stride", "padding", "dilation", "groups", "padding_mode")
            settings = {**{name: getattr(dense, name) for name in taken}, **settings}
            bias, kernel = dense.bias, dense.weight.detach()
        else:
            settings = {"bias": False, **settings}
            kernel = dense.detach()
        check_real(kernel)
        if structure.shape != tuple(kernel.shape):
            raise StructureError(f"the structure is of shape {structure.shape}, the kernel of {tuple(kernel.shape)}")
        if isinstance(dense, nn.Module):
            settings["bias"] = bias is not None
        made = StructuredConv(structure, dtype=kernel.dtype, device=kernel.device, **settings)
        cores = _approximated(kernel.double(), structure, covariance_of_channels, max_sweeps)
        with torch.no_grad():
            for mine, core in zip(made._cores()[0], cores, strict=True):
                mine.copy_(core)
            if bias is not None and made.bias is not None:
                made.bias.copy_(bias)
        return made

    def recipe(self) -> dict[str, Any]:
        """See `tenfold.nn.recipes`."""
        return {"structure": self.structure.to_json(), **self._settings()}

    def _settings(self) -> dict[str, Any]:
        return {
            "stride": list(self.stride),
            "padding": self.padding if isinstance(self.padding, str) else list(self.padding),
            "dilation": list(self.dilation),
            "groups": self.groups,
            "bias": self.bias is not None,
            "padding_mode": self.padding_mode,
            "execution": self.execution,
            "dtype": name_of(next(iter(self.cores.values())).dtype),
        }

    @classmethod
    def from_recipe(cls, recipe: Mapping[str, Any]) -> StructuredConv:
        """See `tenfold.nn.recipes`."""
        given = {**recipe, "dtype": dtype_of(recipe["dtype"])}
        return cls(Structure.from_json(given.pop("structure")), **given)

    def extra_repr(self) -> str:
        """What ``print`` shows between the brackets."""
        count = self.structure.parameters
        return (
            f"{self.structure}, stride={self.stride}, padding={self.padding}, bias={self.bias is not None}, "
            f"{count:,} numbers, {count / self.structure.size:.3g} of a dense one"
        )


def _each(given: Along, spatial: int, name: str, least: int) -> tuple[int, ...]:
    values = (given,) * spatial if isinstance(given, int) else tuple(given)
    if len(values) == 1:
        values *= spatial
    if len(values) != spatial or any(value < least for value in values):
        raise TenfoldError(f"{name} must be a whole number of at least {least}, or {spatial} of them, not {given!r}")
    return values


def _approximated(
    kernel: Tensor, structure: Structure, covariance: Tensor | None, max_sweeps: int
) -> tuple[Tensor, ...]:
    """Cores of the best approximation, as far as the method for the structure finds it."""
    if not kernel.isfinite().all():
        raise DataError("the kernel has entries that are not finite; there is no best approximation of it")
    if covariance is None:
        return _decomposed(kernel, structure, max_sweeps)
    ins = kernel.shape[1]
    if tuple(covariance.shape) != (ins, ins) or not covariance.isfinite().all():
        raise DataError(f"covariance_of_channels must be {ins} x {ins} finite numbers, not {tuple(covariance.shape)}")
    holders = [n for n, core in enumerate(structure.cores) if set(core.indices) & set(structure.outputs[1])]
    if len(holders) != 1 or len(structure.outputs[1]) != 1 or len(structure.cores[holders[0]].terms) != 1:
        raise StructureError(f"covariance_of_channels needs them as one index of one core, which '{structure}' has not")
    full = covariance.double() + torch.eye(ins, dtype=torch.float64, device=kernel.device) * (
        _UNSEEN * covariance.double().diagonal().mean().clamp(min=1e-300)
    )
    values, vectors = torch.linalg.eigh(full)
    root = values.clamp(min=values[-1] * 1e-15).sqrt()
    seen = torch.movedim(torch.movedim(kernel, 1, -1) @ (vectors * root), -1, 1)
    cores = list(_decomposed(seen, structure, max_sweeps))
    axis = structure.cores[holders[0]].indices.index(structure.outputs[1][0])
    cores[holders[0]] = torch.movedim(torch.movedim(cores[holders[0]], axis, -1) / root @ vectors.T, -1, axis)
    return tuple(cores)


def _decomposed(kernel: Tensor, structure: Structure, max_sweeps: int) -> tuple[Tensor, ...]:
    try:
        return hooi(kernel, structure, max_sweeps=max_sweeps).network.cores
    except StructureError:
        method = decomposition.choose(structure, kernel).function
        return method(kernel, structure, max_sweeps=max_sweeps).network.cores
