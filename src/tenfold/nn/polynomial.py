"""Polynomials as layers: coefficients of all degrees in a coupled or a nested CP decomposition."""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tenfold._arguments import whole_number
from tenfold.errors import DataError, TenfoldError

# Numbers that the coefficients may have together, when they are written out.
_MOST_COEFFICIENTS = 10_000_000


class _Polynomial(nn.Module):
    """What both decompositions share: sizes, the outer matrix, and coefficients by the same recursion as values."""

    def __init__(
        self, in_features: int, out_features: int, *, degree: int, rank: int, bias: bool, made: dict[str, Any]
    ) -> None:
        super().__init__()
        self.in_features = whole_number("in_features", in_features, 1)
        self.out_features = whole_number("out_features", out_features, 1)
        self.degree = whole_number("degree", degree, 1)
        self.rank = whole_number("rank", rank, 1)
        self._made = made
        self.outer = self._empty(self.out_features, self.rank)
        self.bias = self._empty(self.out_features) if bias else None

    def _empty(self, *shape: int) -> nn.Parameter:
        return nn.Parameter(torch.empty(*shape, **self._made))

    def _start(self, generator: torch.Generator | None) -> None:
        for name, parameter in self.named_parameters():
            if name == "bias":
                nn.init.zeros_(parameter)
            else:
                nn.init.normal_(parameter, std=1 / math.sqrt(parameter.shape[-1]), generator=generator)

    def _check(self, x: Tensor) -> None:
        if x.ndim < 1 or x.shape[-1] != self.in_features:
            raise DataError(f"the input must have shape (*batch, {self.in_features}), not {tuple(x.shape)}")

    def _out(self, last: Tensor) -> Tensor:
        return nn.functional.linear(last, self.outer, self.bias)

    def _collected(self, last: list[Tensor]) -> list[Tensor]:
        """Coefficients ``[out, in, ..., in]`` of those ``[rank, in, ..., in]`` of the last step."""
        found = [torch.tensordot(self.outer, c, dims=1) for c in last]
        if self.bias is not None:
            found[0] = found[0] + self.bias
        return found

    def _check_size(self) -> None:
        numbers = max(self.out_features, self.rank) * self.in_features**self.degree
        if numbers > _MOST_COEFFICIENTS:
            raise TenfoldError(
                f"a polynomial of degree {self.degree} in {self.in_features} variables has {numbers:,} coefficients, "
                f"more than {_MOST_COEFFICIENTS:,}; it can be evaluated, not written out"
            )

    def extra_repr(self) -> str:
        """Sizes."""
        sizes = f"{self.in_features}, {self.out_features}, degree={self.degree}, rank={self.rank}"
        return f"{sizes}, bias={self.bias is not None}"


class CCP(_Polynomial):
    """A polynomial of a vector whose coefficients of all degrees are one coupled CP decomposition.

    ``x_1 = U_1 z``, ``x_n = (U_n z) * x_{n-1} + x_{n-1}``, out ``C x_N + b``: as many matrices as degrees, and no
    activation. Written out, the coefficient of degree ``t`` is the sum over all choices of ``U_1`` and
    ``t - 1`` others.

    Args:
        in_features, out_features: sizes of the vectors.
        degree: of the polynomial.
        rank: how many products are added up.
        bias: whether there is a constant.
        dtype, device: of the parameters.
        generator: of the random numbers that parameters begin with.

    Parameters: ``inner [degree, rank, in]``, ``outer [out, rank]`` and ``bias [out]``. They begin with variance one
    over the size that they add up. Values grow like a power of the degree: keep inputs of mean square one.

    Raises:
        TenfoldError: sizes that are not positive.

    Cost: ``rank (degree in + out)`` multiplications for each vector.
    Paper: "Deep Polynomial Neural Networks", 2021.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        degree: int,
        rank: int,
        bias: bool = True,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        made = {"dtype": dtype, "device": device}
        super().__init__(in_features, out_features, degree=degree, rank=rank, bias=bias, made=made)
        self.inner = self._empty(self.degree, self.rank, self.in_features)
        self._start(generator)

    def forward(self, x: Float[Tensor, "*batch in_features"]) -> Float[Tensor, "*batch out_features"]:
        """Values of the polynomial; raises `DataError` where the last axis is not ``in_features``."""
        self._check(x)
        steps = nn.functional.linear(x, self.inner.flatten(0, 1)).unflatten(-1, (self.degree, self.rank))
        first, *others = steps.unbind(-2)
        for other in others:
            first = first + other * first
        return self._out(first)

    def to_polynomial(self) -> list[Float[Tensor, "out_features *variables"]]:
        """Coefficients of degrees 0, 1, ..., the one of degree ``t`` with ``t`` axes of variables behind the outputs.

        The value is the sum of all of them, each contracted with ``t`` copies of the input. They are not symmetric.

        Raises:
            TenfoldError: there are more than ten million.
        """
        self._check_size()
        found = [self.inner.new_zeros(self.rank), self.inner[0]]
        for matrix in self.inner[1:]:
            found = _sum(_times(matrix, found), found)
        return self._collected(found)


class NCP(_Polynomial):
    """A polynomial whose coefficients are a nested CP decomposition: each step mixes the one before.

    ``x_1 = (A_1 z) * c_1``, ``x_n = (A_n z) * (S_n x_{n-1} + c_n)``, out ``C x_N + b``; with ``skip``, ``V_n x_{n-1}``
    is added to each. (The paper writes ``c_n`` as a product ``B_n b_n``; a product of two parameters is one.)

    Args:
        in_features, out_features, degree, rank, bias, dtype, device, generator: as in `CCP`.
        skip: whether each step adds a matrix times the one before.

    Parameters: ``inner [degree, rank, in]``, ``constants [degree, rank]``, ``between [degree - 1, rank, rank]``,
    ``skips`` of the same shape or None, ``outer`` and ``bias``. Constants begin with ones.

    Raises:
        TenfoldError: sizes that are not positive.

    Cost: ``rank (degree in + (degree - 1) rank + out)`` multiplications for each vector.
    Paper: "Deep Polynomial Neural Networks", 2021.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        degree: int,
        rank: int,
        bias: bool = True,
        skip: bool = False,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        made = {"dtype": dtype, "device": device}
        super().__init__(in_features, out_features, degree=degree, rank=rank, bias=bias, made=made)
        self.inner = self._empty(self.degree, self.rank, self.in_features)
        self.constants = self._empty(self.degree, self.rank)
        self.between = self._empty(self.degree - 1, self.rank, self.rank)
        self.skips = self._empty(self.degree - 1, self.rank, self.rank) if skip else None
        self._start(generator)
        nn.init.ones_(self.constants)

    def forward(self, x: Float[Tensor, "*batch in_features"]) -> Float[Tensor, "*batch out_features"]:
        """Values of the polynomial; raises `DataError` where the last axis is not ``in_features``."""
        self._check(x)
        steps = nn.functional.linear(x, self.inner.flatten(0, 1)).unflatten(-1, (self.degree, self.rank))
        last = steps[..., 0, :] * self.constants[0]
        for n in range(1, self.degree):
            new = steps[..., n, :] * nn.functional.linear(last, self.between[n - 1], self.constants[n])
            last = new if self.skips is None else new + nn.functional.linear(last, self.skips[n - 1])
        return self._out(last)

    def to_polynomial(self) -> list[Float[Tensor, "out_features *variables"]]:
        """Coefficients as `CCP.to_polynomial` has them."""
        self._check_size()
        found = [self.inner.new_zeros(self.rank), self.inner[0] * self.constants[0][:, None]]
        for n in range(1, self.degree):
            mixed = [torch.tensordot(self.between[n - 1], c, dims=1) for c in found]
            mixed[0] = mixed[0] + self.constants[n]
            new = _times(self.inner[n], mixed)
            if self.skips is not None:
                new = _sum(new, [torch.tensordot(self.skips[n - 1], c, dims=1) for c in found])
            found = new
        return self._collected(found)

    def extra_repr(self) -> str:
        """Sizes, and whether steps are skipped."""
        return f"{super().extra_repr()}, skip={self.skips is not None}"


def _times(matrix: Tensor, polynomial: list[Tensor]) -> list[Tensor]:
    """A linear form times a polynomial, for each row: the new variable comes last."""
    shifted = [torch.einsum("r...,rd->r...d", c, matrix) for c in polynomial]
    return [matrix.new_zeros(matrix.shape[0]), *shifted]


def _sum(first: list[Tensor], second: list[Tensor]) -> list[Tensor]:
    longer, shorter = (first, second) if len(first) >= len(second) else (second, first)
    return [c + shorter[n] if n < len(shorter) else c for n, c in enumerate(longer)]
