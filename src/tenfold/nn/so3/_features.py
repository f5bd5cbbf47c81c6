"""What every layer asks of the features that it gets."""

from __future__ import annotations

import torch
from torch import Tensor

from tenfold.errors import DataError
from tenfold.so3.irreps import Irreps
from tenfold.so3.layouts import Layout, check


def check_features(features: Tensor, irreps: Irreps, layout: Layout, parameter: Tensor | None = None) -> None:
    """Raises `DataError` where features are not floating, not of these irreps, or not of the parameter's dtype."""
    check(features, irreps, layout)
    if not features.is_floating_point():
        raise DataError(f"features must be floating, not {features.dtype}: convert them with features.float()")
    # Under autocast torch itself converts.
    if parameter is None or parameter.dtype == features.dtype or torch.is_autocast_enabled(features.device.type):
        return
    raise DataError(
        f"features are {features.dtype} and the layer is {parameter.dtype}: convert one of them, as by "
        f"layer.to({features.dtype})"
    )
