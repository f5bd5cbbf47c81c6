"""A frozen layer, and a change of its weight that has the format of Tucker."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from tenfold._arguments import quoted
from tenfold.errors import StructureError, TenfoldError

_CONVOLUTIONS: dict[type[nn.Module], Any] = {
    nn.Conv1d: functional.conv1d,
    nn.Conv2d: functional.conv2d,
    nn.Conv3d: functional.conv3d,
}


class TuckerAdapter(nn.Module):
    """A linear layer or convolution with ``W + s G x1 A x2 B x3 ...`` in place of its weight ``W``, which is frozen.

    ``A [in, r1]`` and ``B [out, r2]`` are factors of the channels; a convolution has one more for each axis of its
    kernel, and the core ``G`` an axis for each factor. The core starts at zero, so that nothing changes at first. While
    it is not merged, the change is applied as a chain through the small channels and its weight is never made.

    Args:
        base: ``nn.Linear``, or a convolution of ``torch.nn``, in groups or not (``A`` is then of the channels of one
            group).
        rank: of the factors, one for both channels, or one for each mode (in, out, kernel...); kernels keep their full
            lengths by default. Ranks larger than a mode are cut to it.
        scale: the number ``s``.
        dropout: share of what comes in that the change does not see while training.
        generator: where the random numbers of the start come from; torch's own by default.

    Raises:
        StructureError: a rank below one, or a wrong number of them.
        TenfoldError: another kind of layer.

    Cost: linear, ``r1 in + r1 r2 + r2 out`` multiplications for each vector.
    Paper: "FLoRA: Low-rank core space for N-dimension", 2024.
    """

    weight_before: Tensor | None

    def __init__(
        self,
        base: nn.Module,
        rank: int | Sequence[int],
        *,
        scale: float = 1.0,
        dropout: float = 0.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if type(base) is not nn.Linear and type(base) not in _CONVOLUTIONS:
            raise TenfoldError(f"an adapter takes nn.Linear or a convolution, not a {type(base).__name__}")
        weight = base.weight
        assert isinstance(weight, Tensor)
        shape = (weight.shape[1], weight.shape[0], *weight.shape[2:])
        ranks = _ranks(rank, shape)
        self.base, self.scale, self.ranks = base, float(scale), ranks
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        kind: dict[str, Any] = {"dtype": weight.dtype, "device": weight.device}
        self.factors = nn.ParameterList(
            nn.Parameter(torch.empty(n, r, **kind)) for n, r in zip(shape, ranks, strict=True)
        )
        self.core = nn.Parameter(torch.zeros(ranks, **kind))
        # The weight without the change while that is in it; part of the state, which tells so what the weight is.
        self.register_buffer("weight_before", None)
        self.reset_parameters(generator)
        base.requires_grad_(False)
        self.train(base.training)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Factors anew, uniform with a variance of a third over their length; the core zero."""
        with torch.no_grad():
            for factor in self.factors:
                bound = math.sqrt(1 / factor.shape[0])
                factor.uniform_(-bound, bound, generator=generator)
            self.core.zero_()

    @property
    def merged(self) -> bool:
        """Whether the change is in the weight of the layer."""
        return self.weight_before is not None

    def change(self) -> Float[Tensor, "out in ..."]:
        """What is added to the weight, in its layout; gradients flow to the factors and the core."""
        made = self.core
        for factor in self.factors:
            made = torch.tensordot(made, factor, dims=([0], [1]))
        return self.scale * made.transpose(0, 1)

    def forward(self, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The layer's outputs, changed; their backward pass raises `TenfoldError` while the change is merged."""
        made: Tensor = self.base(x)
        if self.merged:
            if torch.is_grad_enabled() and self.core.requires_grad and not torch.compiler.is_compiling():
                made = made + _NoGradient.apply(self.core)
            return made
        x = self.dropout(x)
        into, out, *kernel = self.factors
        if not kernel:
            return made + self.scale * functional.linear(functional.linear(x, into.T) @ self.core, out)
        base: Any = self.base
        small = self.core
        for axis, factor in enumerate(kernel, start=2):
            small = torch.tensordot(small, factor, dims=([axis], [1])).movedim(-1, axis)
        ones = (1,) * len(kernel)
        apply = _CONVOLUTIONS[type(self.base)]
        groups = base.groups
        if groups > 1:
            # Channels of each group go through factors of their own in the same way, so the weight is made.
            return made + base._conv_forward(x, self.change(), None)
        x = apply(x, into.T.reshape(*into.T.shape, *ones))
        x = base._conv_forward(x, small.transpose(0, 1), None)
        return made + self.scale * apply(x, out.reshape(*out.shape, *ones))

    def merge(self) -> None:
        """Add the change to the layer's weight; nothing happens if it is there."""
        if not self.merged:
            weight = self.base.weight
            assert isinstance(weight, Tensor)
            self.weight_before = weight.detach().clone()
            with torch.no_grad():
                weight.add_(self.change())

    def unmerge(self) -> None:
        """The layer's weight as it was, to the last bit."""
        if self.weight_before is not None:
            weight = self.base.weight
            assert isinstance(weight, Tensor)
            with torch.no_grad():
                weight.copy_(self.weight_before)
            self.weight_before = None

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        # Merged or not, as the weight is that comes.
        if f"{prefix}base.weight" in state_dict:
            came = f"{prefix}weight_before" in state_dict
            if came and not self.merged:
                self.weight_before = torch.empty_like(self.base.weight)  # type: ignore[arg-type]
            elif not came:
                self.weight_before = None
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def to_lora(self) -> tuple[Float[Tensor, "r in"], Float[Tensor, "out r"]]:
        """Of a linear layer, the same change as a product ``B A``, which runtimes of LoRA load.

        Raises:
            TenfoldError: a convolution.
        """
        if len(self.factors) > 2:
            raise TenfoldError("the change of a convolution is no product of two matrices; merge it")
        into, out = self.factors
        return into.detach().T.contiguous(), (self.scale * out @ self.core.T).detach().contiguous()

    def extra_repr(self) -> str:
        """What ``print`` shows between the brackets."""
        count = self.core.numel() + sum(factor.numel() for factor in self.factors)
        return f"ranks={self.ranks}, scale={self.scale:g}, {count:,} numbers{', merged' if self.merged else ''}"


class _NoGradient(torch.autograd.Function):
    """A zero whose backward pass tells that the change cannot be trained."""

    @staticmethod
    def forward(ctx: Any, core: Tensor) -> Tensor:
        return core.new_zeros(())

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        raise TenfoldError("adapters are merged into the weights, where training does not reach them: unmerge() first")


def _ranks(rank: int | Sequence[int], shape: Sequence[int]) -> tuple[int, ...]:
    given = (rank, rank, *shape[2:]) if isinstance(rank, int) else tuple(rank) if isinstance(rank, Sequence) else ()
    if not given or not all(isinstance(one, int) for one in given):
        raise StructureError(f"rank is a whole number, or a sequence of them, not {quoted(rank)}")
    if len(given) == 2:
        given = (*given, *shape[2:])
    if len(given) != len(shape):
        raise StructureError(f"rank is one number, or one for each of the {len(shape)} modes, not {len(given)}")
    if min(given) < 1:
        raise StructureError(f"ranks must be at least 1, not {min(given)}")
    return tuple(min(r, n) for r, n in zip(given, shape, strict=True))
