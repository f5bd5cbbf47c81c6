"""What every product of one feature with itself is: a polynomial, equivariant, with weights or without."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tenfold._arguments import whole_number
from tenfold.errors import DataError
from tenfold.so3._given import check_floating, check_tensor
from tenfold.so3.irreps import Given, Irreps
from tenfold.so3.layouts import Layout, check, known
from tenfold.so3.products._product import broadcast, check_weight, uniform


class ManyBodyProduct(ABC):
    """A map of a feature to another that is a polynomial in its numbers, and turns with it.

    A product is a value: it holds irreps and tables of coefficients, and no weights. Layers of `tenfold.nn` hold those.

    Attributes:
        irreps_in: of the feature.
        irreps_out: of what comes out.
        correlation: the degree of the polynomials: how many copies of the feature are multiplied at most.
        layout: of both, ``"mul_ir"`` or ``"ir_mul"``; the latter, channels last, is the faster one.
        weight_numel: how many weights it takes; 0 if none.
    """

    def __init__(
        self, irreps_in: Given, irreps_out: Given, correlation: int, *, layout: Layout, weight_numel: int = 0
    ) -> None:
        known(layout)
        self.irreps_in = Irreps(irreps_in)
        self.irreps_out = Irreps(irreps_out)
        self.correlation = whole_number("correlation", correlation, 1)
        self.layout: Layout = layout
        self.weight_numel = weight_numel

    def __call__(
        self,
        features: Float[Tensor, "*batch dim"],
        weight: Float[Tensor, "*rows weight_numel"] | None = None,
        species: Int[Tensor, "*batch"] | None = None,
    ) -> Float[Tensor, "*batch out"]:
        """The product.

        Args:
            features: of nodes.
            weight: ``[weight_numel]`` for all of them; a batch of its own, which broadcasts with that of the features;
                or with ``species`` a table with a row for each of them.
            species: which row of the table each node takes, such as the number of its chemical element. Rows are not
                copied to the nodes.

        Raises:
            DataError: shapes, dtypes or devices do not fit, a species has no row, or weights are missing or not wanted.
        """
        check(features, self.irreps_in, self.layout)
        if not self.weight_numel:
            if weight is not None or species is not None:
                name = "species" if weight is None else "weight"
                raise DataError(f"{name} must be None: {type(self).__name__} of these irreps takes no weights")
            check_floating("features", features)
            batch = features.shape[:-1]
            made = self._product(features.reshape(-1, self.irreps_in.dim), None, None)
            return made.reshape(*batch, self.irreps_out.dim)
        features, weight = uniform(features=features, weight=check_weight(weight, self.weight_numel))
        if species is not None:
            self._check_species(features, weight, species)
            batch, table, rows = features.shape[:-1], weight, species.reshape(-1)
        else:
            batch = broadcast([features.shape[:-1], weight.shape[:-1]])
            features = features.expand(*batch, features.shape[-1])
            if weight.ndim == 1:
                table, rows = weight[None], None
            else:
                table = weight.expand(*batch, self.weight_numel).reshape(-1, self.weight_numel)
                rows = torch.arange(table.shape[0], device=weight.device)
        flat = features.reshape(-1, self.irreps_in.dim)
        return self._product(flat, table, rows).reshape(*batch, self.irreps_out.dim)

    def _check_species(self, features: Tensor, weight: Tensor, species: Tensor) -> None:
        check_tensor("species", species)
        if species.dtype != torch.int64 or species.device != features.device:
            one, other = f"{species.dtype} on {species.device}", f"torch.int64 on {features.device}"
            raise DataError(f"species must be {other}, not {one}")
        if species.shape != features.shape[:-1]:
            batch = tuple(features.shape[:-1])
            raise DataError(f"species of shape {tuple(species.shape)} must be one for each feature, {batch}")
        if weight.ndim != 2:
            shape = tuple(weight.shape)
            raise DataError(f"weight of shape {shape} must be a table with a row for each species")
        if torch.compiler.is_compiling() or not species.numel():
            return
        least, most = (int(bound) for bound in torch.aminmax(species))
        if least < 0 or most >= weight.shape[0]:
            which = least if least < 0 else most
            raise DataError(f"species {which} has no row in weight, which has {weight.shape[0]}, counted from 0")

    @abstractmethod
    def _product(
        self,
        features: Float[Tensor, "batch dim"],
        weight: Float[Tensor, "rows weight_numel"] | None,
        species: Int[Tensor, " batch"] | None,
    ) -> Float[Tensor, "batch out"]:
        """The same for one batch axis and checked arguments; without species all take the only row of the weights."""

    def random_weight(
        self, *batch: int, seed: int = 0, dtype: torch.dtype = torch.float32
    ) -> Float[Tensor, "*batch weight_numel"]:
        """Independent normal weights, what layers begin with: all scaling is in the coefficients."""
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(*batch, self.weight_numel, generator=generator, dtype=dtype)

    def __repr__(self) -> str:
        weights = f", {self.weight_numel} weights" if self.weight_numel else ""
        return f"{type(self).__name__}({self.irreps_in} -> {self.irreps_out}, degree {self.correlation}{weights})"
