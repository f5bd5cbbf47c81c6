"""The linear maps that commute with rotations: each irrep is mixed with its equals, and with nothing else."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tenfold.errors import DataError
from tenfold.nn.so3._features import check_features
from tenfold.so3._given import check_tensor
from tenfold.so3.irreps import Given, Irrep, Irreps
from tenfold.so3.layouts import Layout, known, relayout


class Linear(nn.Module):
    """Every copy of an irrep in the output is a weighted sum of the copies of that irrep in the input.

    The same as e3nn's ``o3.Linear``: weights start standard normal, sums are divided by the root of the number of
    their terms, biases start at zero and are for ``0e`` only. An irrep of the output that the input lacks is zero.

    The flat ``weight`` holds one matrix ``[copies in, copies out]`` for each irrep, in the order in which irreps come
    in the input. Where no irrep is spread over several blocks, that is e3nn's flat weight; `load_e3nn` converts in
    any case.

    Args:
        irreps_in: irreps of the input.
        irreps_out: irreps of the output.
        bias: whether a number is added to each ``0e`` of the output.
        layout: of input and output.
        dtype, device: of the parameters, as in ``torch.nn``.

    Raises:
        TenfoldError: irreps cannot be read, or there is no such layout.

    Cost: one matrix product for each irrep, ``2 (2 l + 1) copies_in copies_out`` operations for each feature vector.
    Paper: "e3nn: Euclidean neural networks", 2022.
    """

    def __init__(
        self,
        irreps_in: Given,
        irreps_out: Given,
        *,
        bias: bool = False,
        layout: Layout = "mul_ir",
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        super().__init__()
        known(layout)
        self.irreps_in, self.irreps_out, self.layout = Irreps(irreps_in), Irreps(irreps_out), layout
        irreps = dict.fromkeys(block.ir for block in self.irreps_in)
        self._irreps = tuple(ir for ir in irreps if self.irreps_in.count(ir) and self.irreps_out.count(ir))
        self._shapes = tuple((self.irreps_in.count(ir), self.irreps_out.count(ir)) for ir in self._irreps)
        self.weight = nn.Parameter(torch.empty(sum(map(math.prod, self._shapes)), dtype=dtype, device=device))
        biases = self.irreps_out.count(Irrep(0, 1)) if bias else 0
        self.bias = nn.Parameter(torch.empty(biases, dtype=dtype, device=device)) if biases else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weights anew from torch's generator of random numbers, as ``torch.nn`` does; biases zero."""
        nn.init.normal_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, features: Float[Tensor, "*batch dim_in"]) -> Float[Tensor, "*batch dim_out"]:
        """Raises `DataError` where features have not these irreps or another dtype than the weights."""
        check_features(features, self.irreps_in, self.layout, self.weight)
        features = relayout(features, self.irreps_in, self.layout, "ir_mul")
        mixed = {ir: self._mix(features, ir, matrix) for ir, matrix in self._matrices(self.weight).items()}
        if self.bias is not None:
            scalar = Irrep(0, 1)
            bias = self.bias.to(features.dtype).expand(*features.shape[:-1], 1, -1)
            mixed[scalar] = mixed[scalar] + bias if scalar in mixed else bias
        blocks, start = [], dict.fromkeys(mixed, 0)
        for block in self.irreps_out:
            if block.ir in mixed:
                found = mixed[block.ir].narrow(-1, start[block.ir], block.mul)
                blocks.append(found.flatten(-2))
                start[block.ir] += block.mul
            else:
                blocks.append(features.new_zeros((*features.shape[:-1], block.dim)))
        out = torch.cat(blocks, dim=-1) if blocks else features.new_zeros((*features.shape[:-1], 0))
        return relayout(out, self.irreps_out, "ir_mul", self.layout)

    @torch.no_grad()
    def load_e3nn(self, weight: Float[Tensor, " weights"], bias: Float[Tensor, " biases"] | None = None) -> None:
        """Takes ``weight`` and ``bias`` of e3nn's ``o3.Linear`` of the same irreps, which has them in its own order.

        Raises:
            DataError: there are not as many numbers as this layer has.
        """
        check_tensor("weight", weight)
        if bias is not None:
            check_tensor("bias", bias)
        biases = 0 if bias is None else bias.numel()
        own = 0 if self.bias is None else self.bias.numel()
        if weight.numel() != self.weight.numel() or biases != own:
            raise DataError(
                f"weight of {weight.numel()} and bias of {biases} numbers are not of this layer, which has "
                f"{self.weight.numel()} and {own}"
            )
        matrices = self._matrices(self.weight)
        start = 0
        for ir, rows, columns in self._e3nn_order():
            part = matrices[ir][rows, columns]
            part.copy_(weight.flatten()[start : start + part.numel()].reshape(part.shape))
            start += part.numel()
        if self.bias is not None and bias is not None:
            self.bias.copy_(bias.flatten())

    @torch.no_grad()
    def e3nn_weight(self) -> Float[Tensor, " weights"]:
        """The weights in the order of e3nn's ``o3.Linear`` of the same irreps; the order of biases is the same."""
        matrices = self._matrices(self.weight)
        parts = [matrices[ir][rows, columns].flatten() for ir, rows, columns in self._e3nn_order()]
        return torch.cat(parts) if parts else self.weight.new_zeros(0)

    def extra_repr(self) -> str:
        """What the layer maps to what."""
        return f"{self.irreps_in} -> {self.irreps_out}, bias={self.bias is not None}, layout={self.layout!r}"

    def _matrices(self, weight: Tensor) -> dict[Irrep, Tensor]:
        """The matrix of each irrep: a view of the flat weight."""
        parts = weight.split([math.prod(shape) for shape in self._shapes])
        return {ir: part.view(s) for ir, part, s in zip(self._irreps, parts, self._shapes, strict=True)}

    def _mix(self, features: Tensor, ir: Irrep, matrix: Tensor) -> Float[Tensor, "*batch component copies_out"]:
        """All copies of an irrep in the output."""
        parts = []
        for block, where in zip(self.irreps_in, self.irreps_in.slices(), strict=True):
            if block.ir == ir and block.mul:
                parts.append(features[..., where].unflatten(-1, (ir.dim, block.mul)))
        # Where they are not contiguous, torch makes many small products of the large one.
        copies = torch.cat(parts, dim=-1) if len(parts) > 1 else parts[0].contiguous()
        return copies @ (matrix / math.sqrt(matrix.shape[0]))

    def _e3nn_order(self) -> Iterator[tuple[Irrep, slice, slice]]:
        """The pairs of an input and an output block as e3nn has them, and where each is in the matrix of its irrep."""
        row = dict.fromkeys(self._irreps, 0)
        for mul_in, ir in self.irreps_in:
            if ir not in row:
                continue
            column = 0
            for mul_out, ir_out in self.irreps_out:
                if ir_out == ir:
                    yield ir, slice(row[ir], row[ir] + mul_in), slice(column, column + mul_out)
                    column += mul_out
            row[ir] += mul_in
