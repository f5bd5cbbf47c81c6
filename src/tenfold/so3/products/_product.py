"""What every product of two features is: linear in each, equivariant, with weights or without."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor

from tenfold.errors import DataError
from tenfold.so3._given import check_floating, check_tensor
from tenfold.so3.irreps import Given, Irreps
from tenfold.so3.layouts import Layout, check, known


class Product(ABC):
    """A map of two features to a third that is linear in each, and turns with them.

    A product is a value: it holds irreps and tables of coefficients, and no weights. Layers of `tenfold.nn` hold those.

    Attributes:
        irreps_in1: of the left feature.
        irreps_in2: of the right one.
        irreps_out: of what comes out.
        layout: of all three, ``"mul_ir"`` or ``"ir_mul"``; the latter, channels last, is the faster one.
        weight_numel: how many weights it takes; 0 if none.
    """

    def __init__(
        self, irreps_in1: Given, irreps_in2: Given, irreps_out: Given, *, layout: Layout, weight_numel: int = 0
    ) -> None:
        known(layout)
        self.irreps_in1 = Irreps(irreps_in1)
        self.irreps_in2 = Irreps(irreps_in2)
        self.irreps_out = Irreps(irreps_out)
        self.layout: Layout = layout
        self.weight_numel = weight_numel

    def __call__(
        self,
        left: Float[Tensor, "*batch dim1"],
        right: Float[Tensor, "*batch dim2"],
        weight: Float[Tensor, "*batch weight_numel"] | None = None,
    ) -> Float[Tensor, "*batch out"]:
        """The product; batches broadcast, those of the weights too: ``[weight_numel]`` shares them.

        Raises:
            DataError: shapes, dtypes or devices do not fit, or weights are missing or not wanted.
        """
        check(left, self.irreps_in1, self.layout, "left")
        check(right, self.irreps_in2, self.layout, "right")
        if self.weight_numel:
            weight = check_weight(weight, self.weight_numel)
            left, right, weight = uniform(left=left, right=right, weight=weight)
            batch = broadcast([tensor.shape[:-1] for tensor in (left, right, weight)])
        else:
            if weight is not None:
                raise DataError(f"weight must be None: {type(self).__name__} of these irreps takes none")
            left, right = uniform(left=left, right=right)
            batch = broadcast([tensor.shape[:-1] for tensor in (left, right)])
        flat = [self._flat(tensor, batch) for tensor in (left, right)]
        shared = weight is None or weight.ndim == 1
        factors = weight if weight is None or shared else self._flat(weight, batch)
        return self._product(flat[0], flat[1], factors).reshape(*batch, self.irreps_out.dim)

    @staticmethod
    def _flat(tensor: Tensor, batch: torch.Size) -> Tensor:
        return tensor.expand(*batch, tensor.shape[-1]).reshape(math.prod(batch), tensor.shape[-1])

    @abstractmethod
    def _product(
        self,
        left: Float[Tensor, "batch dim1"],
        right: Float[Tensor, "batch dim2"],
        weight: Float[Tensor, "batch weight_numel"] | Float[Tensor, " weight_numel"] | None,
    ) -> Float[Tensor, "batch out"]:
        """The same for one batch axis and checked arguments; weights without a batch are shared."""

    def random_weight(
        self, *batch: int, seed: int = 0, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, "*batch weight_numel"]:
        """Independent normal weights, what layers begin with: all scaling is in the coefficients."""
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(*batch, self.weight_numel, generator=generator, dtype=dtype)

    def coefficients(self, weight: Float[Tensor, " weight_numel"] | None = None) -> Float[Tensor, "dim1 dim2 out"]:
        """The bilinear map as a dense tensor, in double precision. Cost: ``dim1 dim2`` products."""
        ones = [torch.eye(irreps.dim, dtype=torch.float64) for irreps in (self.irreps_in1, self.irreps_in2)]
        return self(ones[0][:, None], ones[1], None if weight is None else weight.double())

    def __repr__(self) -> str:
        weights = f", {self.weight_numel} weights" if self.weight_numel else ""
        return f"{type(self).__name__}({self.irreps_in1} x {self.irreps_in2} -> {self.irreps_out}{weights})"


def check_weight(weight: Tensor | None, numel: int) -> Tensor:
    """The weights. Raises `DataError` where they are missing, or the last axis has not so many numbers."""
    if weight is None:
        raise DataError(f"weight must end with {numel} numbers, and is missing")
    check_tensor("weight", weight)
    if weight.ndim == 0 or weight.shape[-1] != numel:
        raise DataError(f"weight must end with {numel} numbers, not have shape {tuple(weight.shape)}")
    return weight


def uniform(**tensors: Tensor) -> list[Tensor]:
    """Tensors of one dtype. Under autocast that is the widest of theirs, as where torch adds or joins tensors.

    Raises `DataError` where they are not floating, not on one device or, without autocast, not of one dtype.
    """
    for name, tensor in tensors.items():
        check_floating(name, tensor)
    (first_name, first), *others = tensors.items()
    mixed = False
    for name, tensor in others:
        if tensor.device != first.device:
            raise DataError(f"{first_name} is on {first.device} and {name} on {tensor.device}: move one to the other")
        if tensor.dtype != first.dtype:
            mixed = True
            if not torch.is_autocast_enabled(first.device.type):
                raise DataError(
                    f"{first_name} is {first.dtype} and {name} {tensor.dtype}: convert one of them, as by "
                    f"{name}.to({first.dtype})"
                )
    found = list(tensors.values())
    if not mixed:
        return found
    widest = first.dtype
    for tensor in found:
        widest = torch.promote_types(widest, tensor.dtype)
    return [tensor.to(widest) for tensor in found]


def broadcast(batches: list[torch.Size]) -> torch.Size:
    """The batch that all of them broadcast to. Raises `DataError` where there is none."""
    try:
        return torch.broadcast_shapes(*batches)
    except RuntimeError as error:
        shapes = " and ".join(str(tuple(batch)) for batch in batches)
        raise DataError(f"batches of shape {shapes} do not broadcast") from error
