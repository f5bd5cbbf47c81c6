"""What operators of torch are not differentiated by, though tensors look as if they were."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import forward_ad


def followed(*tensors: Tensor | None) -> bool:
    """Whether tensors are differentiated in another way than by ``backward``: by `torch.func`, or in forward mode.

    Operators know their derivatives for ``backward`` alone: in forward mode what comes out of them has none, and
    nothing says so. `torch.vmap` by itself runs them as they are; compilers see to it themselves.
    """
    if torch.compiler.is_compiling():
        return False
    if torch._C._are_functorch_transforms_active():
        levels = torch._C._functorch.get_interpreter_stack() or []
        return any(level.key() != torch._C._functorch.TransformType.Vmap for level in levels)
    if forward_ad._current_level < 0:
        return False
    return any(tensor is not None and forward_ad.unpack_dual(tensor).tangent is not None for tensor in tensors)
