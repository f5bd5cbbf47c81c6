"""Values, first and second derivatives of one function of torch tensors, as a training step asks for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


def runner(
    function: Callable[..., Tensor],
    inputs: Sequence[Tensor],
    cotangent: Tensor,
    directions: Sequence[Tensor],
    mode: str,
    device: str = "cpu",
) -> Callable[[], tuple[Any, ...]]:
    """What is timed, until the device has done it.

    ``"double"`` is what forces ask for: gradients of the result along the cotangent, then those of these gradients
    along the directions, with respect to inputs and cotangent.
    """
    device = torch.device(device)
    leaves = [tensor.to(device, copy=True).requires_grad_(mode != "forward") for tensor in inputs]
    cotangent, directions = cotangent.to(device), [direction.to(device) for direction in directions]

    def forward() -> tuple[Any, ...]:
        with torch.no_grad():
            return (function(*leaves),)

    def backward() -> tuple[Any, ...]:
        return torch.autograd.grad(function(*leaves), leaves, cotangent)

    seed = cotangent.clone().requires_grad_(mode == "double")

    def double() -> tuple[Any, ...]:
        first = torch.autograd.grad(function(*leaves), leaves, seed, create_graph=True)
        return torch.autograd.grad(first, [*leaves, seed], directions)

    run = {"forward": forward, "backward": backward, "double": double}[mode]

    def finished() -> tuple[Any, ...]:
        found = run()
        torch.cuda.synchronize(device)
        return found

    return finished if device.type == "cuda" else run
