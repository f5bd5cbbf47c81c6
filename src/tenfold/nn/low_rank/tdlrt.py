"""Dynamical low-rank training of convolutions in the Tucker format, each mode with a rank of its own."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tenfold.errors import TenfoldError
from tenfold.nn.low_rank._census import Globs, of_each
from tenfold.nn.low_rank._integrator import FactoredLayer, Integrator, orthonormal, widened
from tenfold.nn.low_rank._layer import CONVOLUTIONS, Shape, parameters_of
from tenfold.nn.low_rank._scheme import kept, part

Ranks = tuple[int, ...]


class TDLRT(Integrator):
    """Trains kernels as a core times an orthonormal basis of each mode: of output channels, input channels, kernel.

    A step is two passes, as in `DLRT`. The first gives the gradient along the basis of every mode, that of the kernel
    itself is never formed; bases grow to span it, the core is re-expressed in them, descends in the second pass
    together with all other parameters, and its higher-order SVD is truncated.

    Args:
        model: its convolutions are replaced in place, starting from the truncated higher-order SVD of their kernels.
        tolerance: relative error of a kernel, in the Frobenius norm, that each truncation may make in all modes
            together; None keeps ranks as they are, with bases that descend instead of growing.
        lr: learning rate of bases and cores.
        rank: to begin with, of each mode of each layer: a tuple for the output channels, the input channels and, with
            ``kernel``, the axes of the kernel; by default half of the channels.
        max_rank: of the output and input channels of all layers; by default none but their number.
        min_rank: below which no number of channels goes.
        kernel: whether the axes of the kernel have ranks too, as in the paper. Plain convolutions, which `finish`
            makes, get no smaller by these.
        skip: names of layers to leave alone, with ``*``; the first convolution usually.
        only: names of the layers to train in low rank, by default all convolutions.

    Raises:
        TenfoldError: there is no convolution that can be trained, or an argument is out of its range.

    Cost: the first pass applies the core once for each mode, the second once; for each mode of each layer a QR
        decomposition of width 2r, and an SVD of the unfolded core.
    Paper: "Geometry-aware training of factorized layers in tensor Tucker format", 2024.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        tolerance: float | None = 0.1,
        lr: float = 0.05,
        rank: Mapping[str, Ranks] | None = None,
        max_rank: int | Mapping[str, int] | None = None,
        min_rank: int = 2,
        kernel: bool = False,
        skip: Globs = (),
        only: Globs | None = None,
    ) -> None:
        super().__init__(
            model,
            CONVOLUTIONS,
            _refused,
            lr=lr,
            tolerance=None if tolerance is None else part("tolerance", tolerance),
            skip=skip,
            only=only,
        )
        self._kernel = kernel
        self._start = dict(rank or {})
        of_each("rank", dict.fromkeys(self._start, 1), self._originals)
        self._most = of_each("max_rank", max_rank, self._originals)
        self._least = of_each("min_rank", min_rank, self._originals)
        self._replace_all()

    def _made(self, name: str, layer: nn.Module) -> FactoredLayer:
        shape = Shape.of(layer)
        sizes = (shape.outputs, shape.inputs, *shape.kernel) if self._kernel else (shape.outputs, shape.inputs)
        given = self._start.get(name, (*(math.ceil(n / 2) for n in sizes[:2]), *sizes[2:]))
        if len(given) != len(sizes) or not all(1 <= rank <= size for rank, size in zip(given, sizes, strict=False)):
            raise TenfoldError(f"rank of layer '{name}' must be a tuple of {len(sizes)} within {sizes}, not {given}")
        limits = []
        for mode, size in enumerate(sizes):
            most = min(size, self._most.get(name, size)) if mode < 2 else size
            limits.append((min(self._least[name] if mode < 2 else 1, most), most))
        core, bias = parameters_of(layer)
        bases = []
        for mode, rank in enumerate(given):
            least, most = limits[mode]
            basis = torch.linalg.svd(_unfolded(core, mode), full_matrices=False).U[:, : max(least, min(rank, most))]
            core = _times(core, basis.T, mode)
            bases.append(basis)
        return _Tucker(shape, core, bases, bias, tuple(limits))


class _Tucker(FactoredLayer):
    """``core [a, b, kernel...]`` times a basis of each mode that has one."""

    def __init__(
        self,
        shape: Shape,
        core: Tensor,
        bases: Sequence[Tensor],
        bias: nn.Parameter | None,
        limits: tuple[tuple[int, int], ...],
    ) -> None:
        super().__init__(shape, core.contiguous(), bias)
        self.limits = limits
        # The cores with the unfoldings along both channels made orthonormal, while the bases are open.
        self._turned: tuple[Tensor, ...] = ()
        for mode, basis in enumerate(bases):
            self.register_buffer(f"basis{mode}", basis.contiguous())

    @property
    def bases(self) -> list[Tensor]:
        """Of output channels, input channels and perhaps the axes of the kernel."""
        return [self.get_buffer(f"basis{mode}") for mode in range(len(self.limits))]

    @property
    def rank(self) -> Ranks:
        return tuple(self.core.shape[: len(self.limits)])

    def forward(self, features: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """As the dense layer does it."""
        shape, bases = self.shape, self.bases
        if not self._along:
            core = self.core if self._inner is None else self._inner
            found = shape.convolve(shape.pointwise(features, bases[1].T), self._spread(core))
            return shape.pointwise(found, bases[0], self.bias)
        # One forward of the same function with the gradients of all modes. The output's is that of the function as it
        # is computed; the others' are those of terms that are zero and are there for their gradients only.
        outer, zero, *rest = self._along
        inner = shape.pointwise(features, bases[1].T)
        found = shape.pointwise(shape.convolve(inner, self._turned[0]), outer, self.bias)
        beside = shape.convolve(shape.pointwise(features.detach(), zero.T), self._turned[1])
        for core in rest:
            beside = beside + shape.convolve(inner.detach(), core)
        return found + shape.pointwise(beside, bases[0])

    def open_bases(self) -> tuple[Tensor, ...]:
        turned, leaves = [], []
        for mode in (0, 1):
            q, r = _factored(self.core, mode)
            sizes = [size for other, size in enumerate(self.core.shape) if other != mode]
            turned.append(self._spread(q.T.reshape(-1, *sizes).movedim(0, mode)))
            leaves.append(self.bases[mode] @ r.T)
        self._turned = turned[0], turned[1]
        leaves[1] = torch.zeros_like(leaves[1])
        if len(self.limits) > 2:
            leaves.append(torch.zeros_like(self._spread(self.core)))
        return tuple(leaves)

    def end(self) -> None:
        super().end()
        self._turned = ()

    def widen(self, gradients: Sequence[Tensor], step: float | None) -> None:
        along = list(gradients[:2])
        bases = self.bases
        for mode in range(2, len(bases)):
            # Of the kernel between the channels' bases all modes but this one are projected.
            inner = gradients[2]
            for other in range(2, len(bases)):
                if other != mode:
                    inner = _times(inner, bases[other].T, other)
            along.append(_unfolded(inner, mode) @ _factored(self.core, mode)[0])
        turned = []
        for mode, (basis, gradient) in enumerate(zip(bases, along, strict=True)):
            if step is None:
                wide = widened(basis, gradient)
            else:
                wide = orthonormal(basis @ _factored(self.core, mode)[1].T - step * gradient)
            turned.append(wide.T @ basis)
            setattr(self, f"basis{mode}", wide)
        self._turn(turned)

    def truncate(self, tolerance: float) -> None:
        each = tolerance / math.sqrt(len(self.limits))
        turned = []
        for mode, (least, most) in enumerate(self.limits):
            left, values, _ = torch.linalg.svd(_unfolded(self.core, mode), full_matrices=False)
            left = left[:, : kept(values, each, least=least, most=most)]
            setattr(self, f"basis{mode}", self.bases[mode] @ left)
            turned.append(left.T)
        self._turn(turned)

    def _turn(self, matrices: Sequence[Tensor]) -> None:
        for mode, matrix in enumerate(matrices):
            self.core = _times(self.core, matrix, mode).contiguous()

    def _spread(self, core: Tensor) -> Tensor:
        """The kernel between the channels' bases."""
        for mode in range(2, len(self.limits)):
            core = _times(core, self.bases[mode], mode)
        return core

    def to_dense(self) -> Tensor:
        return _times(_times(self._spread(self.core), self.bases[0], 0), self.bases[1], 1)

    def plain(self) -> nn.Module:
        return self.shape.tucker_chain(self.bases[0], self._spread(self.core), self.bases[1], self.bias)

    def size(self) -> int:
        (outputs, inputs), kernel = self.rank[:2], math.prod(self.shape.kernel)
        small = outputs * self.shape.outputs + inputs * self.shape.inputs + outputs * inputs * kernel
        return min(small, self.shape.matrix[0] * self.shape.matrix[1])


def _refused(layer: nn.Module) -> str:
    shape = Shape.of(layer)
    if math.prod(shape.kernel) == 1:
        return "its kernel has one entry, so that it is a matrix: DLRT trains it"
    if shape.inputs + shape.outputs + math.prod(shape.kernel) >= shape.matrix[0] * shape.matrix[1]:
        return "factors of rank 1 are as large as its weight"
    return ""


def _unfolded(tensor: Tensor, mode: int) -> Tensor:
    return tensor.movedim(mode, 0).flatten(1)


def _times(tensor: Tensor, matrix: Tensor, mode: int) -> Tensor:
    """The product of a mode with a matrix."""
    first = tensor.movedim(mode, 0)
    return (matrix @ first.flatten(1)).unflatten(1, first.shape[1:]).movedim(0, mode)


def _factored(core: Tensor, mode: int) -> tuple[Tensor, Tensor]:
    """``Q`` and ``R`` of the transposed unfolding."""
    found = torch.linalg.qr(_unfolded(core, mode).T)
    return found.Q, found.R
