"""Attention of each token to pairs of others, exact in bounded memory, and the layer made of it."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from tenfold._arguments import real_number, whole_number
from tenfold.errors import DataError, TenfoldError
from tenfold.nn._attention_inputs import check_causal, computed_in, mask_of, scale_of
from tenfold.nn._execution import transformed
from tenfold.nn._tensor_attention import attend, attend_by_operators
from tenfold.nn.polynomial_attention import even_degree, polynomial_tensor_attention


def tensor_attention(
    query: Float[Tensor, "*batch query dim"],
    key1: Float[Tensor, "*batch first dim"],
    key2: Float[Tensor, "*batch second dim"],
    value1: Float[Tensor, "*batch first value"],
    value2: Float[Tensor, "*batch second value"],
    *,
    scale: float | None = None,
    causal: bool = False,
    mask1: Bool[Tensor, "*batch first"] | None = None,
    mask2: Bool[Tensor, "*batch second"] | None = None,
) -> Float[Tensor, "*batch query value"]:
    """Third-order attention: each query weighs all pairs of a first and a second key.

    The score of a pair is ``S_ijk = scale * sum_l Q_il K1_jl K2_kl``; weights are the softmax over pairs ``(j, k)``
    together, and outputs ``O_il = sum_jk A_ijk V1_jl V2_kl``. Exact but for rounding. Leading axes are broadcast.

    Args:
        scale: of the scores; ``1 / sqrt(dim)`` if left out.
        causal: query ``i`` sees pairs with ``j <= i`` and ``k <= i`` only, which takes a third of the time.
        mask1, mask2: true where a key may be attended to; a query without any pair gets zeros. What stands in masked
            places has no influence, even if it is no number.

    Returns: outputs in the dtype of the inputs. Half precision, and everything under ``torch.autocast``, is computed
    in single precision.

    Raises:
        DataError: shapes or dtypes do not fit together.

    Cost: ``2 n^3 d`` multiplications, three times as many backward, at nearly the rate of matrix products. Memory for a
    few hundred thousand scores beside inputs and outputs, whatever ``n``: weights are not kept, but computed again
    backward. It can be differentiated once; under the transforms of ``torch.func`` and for forward-mode derivatives any
    number of times, which takes memory for all pairs.

    Paper: "How to Capture Higher-order Correlations? Generalizing Matrix Softmax Attention to Kronecker Computation",
    2024; the running maximum is that of "FlashAttention: Fast and Memory-Efficient Exact Attention with IO-Awareness",
    2022.
    """
    scale = scale_of(scale, query)
    dtype, batch, tensors = computed_in(query, key1, key2, value1, value2)
    if causal:
        check_causal(query, key1, key2)
    masks = [mask_of(name, mask, key, batch) for name, mask, key in (("mask1", mask1, key1), ("mask2", mask2, key2))]
    for mask, places in zip(masks, ((1, 3), (2, 4)), strict=True):
        if mask is not None:
            for place in places:
                tensors[place] = tensors[place].masked_fill(~mask[..., None], 0.0)
    flat = [x.flatten(0, -3) if batch else x[None] for x in tensors]
    seen = [None if m is None else m.flatten(0, -2) if batch else m[None] for m in masks]
    q, k1, k2, v1, v2 = flat
    given = (q, k1, k2, v1, v2, seen[0], seen[1], scale, causal)
    if not torch.compiler.is_compiling() and transformed():
        out = attend_by_operators(*given)
    else:
        out, _ = attend(*given)
    return out.reshape(*batch, *out.shape[1:]).to(dtype)


class TensorAttention(nn.Module):
    """Self-attention of several heads in which each token looks at pairs of tokens.

    Five projections make a query, two keys and two values of each token and head; after `tensor_attention` one more
    mixes the heads. What takes pairs to tell, such as whether two other tokens add up with this one to something, one
    such layer can tell, and one layer of attention to single tokens cannot.

    Args:
        dim: size of the tokens.
        heads: how many.
        head_dim: size of queries, keys and values of a head; ``dim // heads`` if left out.
        bias: whether projections have one.
        scale, causal: as in `tensor_attention`.
        degree: if given, `polynomial_tensor_attention` of this degree is used in place of the exact one.
        dtype, device: of the parameters.
        generator: of the random numbers that parameters begin with.

    Raises:
        TenfoldError: sizes are not positive, heads do not divide ``dim``, or the degree is odd.

    Cost: ``2 heads n^3 head_dim`` multiplications for a sequence of ``n``.
    Paper: "How to Capture Higher-order Correlations? Generalizing Matrix Softmax Attention to Kronecker Computation",
    2024.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        *,
        head_dim: int | None = None,
        bias: bool = True,
        scale: float | None = None,
        causal: bool = False,
        degree: int | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.dim, self.heads = whole_number("dim", dim, 1), whole_number("heads", heads, 1)
        if head_dim is None and self.dim % self.heads:
            raise TenfoldError(f"heads {heads} do not divide dim {dim}; name head_dim, or take heads that do")
        self.head_dim = self.dim // self.heads if head_dim is None else whole_number("head_dim", head_dim, 1)
        self.scale = None if scale is None else real_number("scale", scale, "a number")
        self.causal = causal
        self.degree = None if degree is None else even_degree(degree)
        inner = self.heads * self.head_dim
        self.project = nn.Linear(self.dim, 5 * inner, bias=bias, dtype=dtype, device=device)
        self.mix = nn.Linear(inner, self.dim, bias=bias, dtype=dtype, device=device)
        self.reset_parameters(generator)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Weights anew, uniform with variance ``1 / fan_in``, so that queries and keys keep the size of tokens."""
        for layer in (self.project, self.mix):
            reach = math.sqrt(3 / layer.in_features)
            nn.init.uniform_(layer.weight, -reach, reach, generator=generator)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)

    def forward(
        self, tokens: Float[Tensor, "*batch length dim"], mask: Bool[Tensor, "*batch length"] | None = None
    ) -> Float[Tensor, "*batch length dim"]:
        """Tokens to tokens; ``mask`` is true where there is a token, false where a sequence is filled up."""
        if tokens.ndim < 2 or tokens.shape[-1] != self.dim:
            raise DataError(f"tokens must have shape (*batch, length, {self.dim}), not {tuple(tokens.shape)}")
        parts = self.project(tokens).unflatten(-1, (5, self.heads, self.head_dim)).movedim(-3, 0).transpose(-3, -2)
        given = parts.unbind(0)
        masks = None if mask is None else mask[..., None, :]
        options: dict[str, Any] = {"scale": self.scale, "causal": self.causal, "mask1": masks, "mask2": masks}
        if self.degree is None:
            heads = tensor_attention(*given, **options)
        else:
            heads = polynomial_tensor_attention(*given, **options, degree=self.degree)
        return self.mix(heads.transpose(-3, -2).flatten(-2))

    def extra_repr(self) -> str:
        """Sizes, and how weights are computed."""
        how = "exact" if self.degree is None else f"degree={self.degree}"
        return f"{self.dim}, heads={self.heads}, head_dim={self.head_dim}, causal={self.causal}, {how}"
