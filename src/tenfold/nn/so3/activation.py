"""Functions of scalars, number by number; what is no scalar is refused."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tenfold.errors import TenfoldError
from tenfold.nn.so3._features import check_features
from tenfold.so3.irreps import Block, Given, Irreps
from tenfold.so3.pointwise import Pointwise, check_pointwise

# The normal density is far below rounding beyond this.
_TAIL = 12.0
_STEPS = 12000


class Activation(nn.Module):
    """A function for each block of the input, applied to every number of it; None leaves a block as it is.

    Blocks of ``0e`` take any function, blocks of ``0o`` odd ones, and even ones, which make them ``0e``. Higher degrees
    take none: each layer that claims otherwise is not equivariant.

    Args:
        irreps: irreps of the input.
        functions: one for every block, or a single one for all. Modules among them are submodules.
        normalize: divide by the root mean square of the function of a normal number, as e3nn does.

    Attributes:
        irreps_in: irreps of the input.
        irreps_out: irreps of the output.

    Raises:
        EquivarianceError: a function is not allowed where it is; the message says why.
        TenfoldError: there are not as many functions as blocks, or irreps cannot be read.

    Cost: that of the functions.
    Paper: "A Characterization Theorem for Equivariant Networks with Point-wise Activations", 2024.
    """

    def __init__(
        self, irreps: Given, functions: Pointwise | Sequence[Pointwise | None], *, normalize: bool = True
    ) -> None:
        super().__init__()
        self.irreps_in = Irreps(irreps)
        given = list(functions) if isinstance(functions, Sequence) else [functions] * len(self.irreps_in)
        if len(given) != len(self.irreps_in):
            raise TenfoldError(f"functions has {len(given)} entries, and '{self.irreps_in}' has {len(self.irreps_in)}")
        self.irreps_out = Irreps(
            [
                block if function is None else _allowed(self.irreps_in, position, function)
                for position, (block, function) in enumerate(zip(self.irreps_in, given, strict=True))
            ]
        )
        self._functions = given
        self.learned = nn.ModuleList(function for function in given if isinstance(function, nn.Module))
        used = [function is not None and bool(b.mul) for function, b in zip(given, self.irreps_in, strict=True)]
        self._factors = [
            1 / root_mean_square(function) if use and normalize and function is not None else 1.0
            for function, use in zip(given, used, strict=True)
        ]

    def forward(self, features: Float[Tensor, "*batch dim_in"]) -> Float[Tensor, "*batch dim_out"]:
        """Raises `DataError` where features have not these irreps or another dtype than parameters of functions."""
        check_features(features, self.irreps_in, "mul_ir", next(self.parameters(), None))
        blocks = []
        for where, function, factor in zip(self.irreps_in.slices(), self._functions, self._factors, strict=True):
            part = features[..., where]
            if function is not None:
                part = function(part) if factor == 1 else factor * function(part)
            blocks.append(part)
        return torch.cat(blocks, dim=-1) if blocks else features

    def extra_repr(self) -> str:
        """What the layer maps to what."""
        return f"{self.irreps_in} -> {self.irreps_out}"


def _allowed(irreps: Irreps, position: int, function: Pointwise) -> Block:
    """What becomes of one block."""
    # Empty blocks take any function; with them the number of the block in a message is that of the input.
    before = Irreps([(0, block.ir) for block in irreps[:position]])
    (found,) = check_pointwise(before + irreps[position : position + 1], function)[position:]
    return found


@torch.no_grad()
def root_mean_square(function: Pointwise) -> float:
    """Of a function of a number with the normal distribution, by the midpoint rule, with zero between two midpoints.

    Raises `TenfoldError` where the function is zero everywhere, or its square has no finite mean.
    """
    like = next(function.parameters(), None) if isinstance(function, nn.Module) else None
    steps = torch.arange(-_STEPS, _STEPS, dtype=torch.float64, device=None if like is None else like.device)
    numbers = _TAIL / _STEPS * (steps + 0.5)
    values = function(numbers if like is None else numbers.to(like.dtype)).double()
    density = torch.exp(-numbers.square() / 2)
    found = float(((density * values.square()).sum() / density.sum()).sqrt())
    if not 0 < found < float("inf"):
        raise TenfoldError(f"function has root mean square {found:.4g} and cannot be normalized: set normalize=False")
    return found
