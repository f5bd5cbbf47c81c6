"""What every layer asks of the features that it gets."""

from __future__ import annotations

import torch
from jaxtyping import Shaped
from torch import Tensor

from tenfold._arguments import quoted, real_number
from tenfold.errors import DataError, TenfoldError
from tenfold.so3._given import check_floating
from tenfold.so3.irreps import Irreps
from tenfold.so3.layouts import Layout, check


def check_features(features: Tensor, irreps: Irreps, layout: Layout, parameter: Tensor | None = None) -> None:
    """Raises `DataError` where features are not floating, not of these irreps, or not of the parameter's dtype."""
    check(features, irreps, layout)
    check_floating("features", features)
    # Under autocast torch itself converts.
    if parameter is None or parameter.dtype == features.dtype or torch.is_autocast_enabled(features.device.type):
        return
    raise DataError(
        f"features are {features.dtype} and the layer is {parameter.dtype}: convert one of them, as by "
        f"layer.to({features.dtype})"
    )


def copies(numbers: Shaped[Tensor, "*batch num_irreps"], irreps: Irreps) -> tuple[Shaped[Tensor, "*batch mul 1"], ...]:
    """A number for each copy of an irrep, beside the blocks of `split`."""
    return numbers.unsqueeze(-1).split([block.mul for block in irreps], dim=-2)


def positive(name: str, value: float) -> float:
    """The value. Raises `TenfoldError` unless it is a positive number."""
    number = real_number(name, value, "a positive number")
    if not 0 < number < float("inf"):
        raise TenfoldError(f"{name} must be a positive number, not {quoted(value)}")
    return number
