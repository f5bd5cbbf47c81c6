"""A linear layer whose matrix is constant along its diagonals."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from scipy.fft import next_fast_len
from torch import Tensor, nn

from tenfold.errors import DataError
from tenfold.nn import _spectral
from tenfold.nn._checks import checked_covariance, checked_weight
from tenfold.nn._executed_map import ExecutedMap
from tenfold.nn._execution import Asked, Cores, Execution, Way, Ways, materialised
from tenfold.nn.learning_rates import Fan
from tenfold.nn.recipes import dtype_of, name_of

# Columns, rows, and the length of the transforms.
Subject = tuple[int, int, int]


class ToeplitzLinear(ExecutedMap):
    """``y = x W^T + b`` with ``W[i, j] = t[in_features - 1 + i - j]``, for any two sizes.

    Args:
        in_features, out_features: lengths of the vectors that come in and go out; 0 is one.
        bias: whether a number is added to each feature that goes out; it starts at zero.
        execution: ``"factorised"`` multiplies by fast Fourier transforms, ``"materialised"`` with the matrix in full,
            ``"auto"`` does what was faster when it was measured.
        dtype, device: of the parameters, as in ``torch.nn``. Half precision is transformed in single precision.
        generator: where the random numbers of the start come from; torch's own by default.

    Attributes:
        diagonals: the numbers ``t``, from the upper right corner to the lower left one.

    Raises:
        DataError: a negative size.

    Cost: ``O(n log n)`` for a vector, with ``n = in_features + out_features``.
    Paper: "An algorithm for the machine calculation of complex Fourier series", 1965.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        bias: bool = True,
        execution: Asked = "auto",
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        if in_features < 0 or out_features < 0:
            raise DataError(f"in_features and out_features are at least 0, not {in_features} and {out_features}")
        super().__init__(in_features, out_features, bias=bias, dtype=dtype, device=device)
        count = in_features + out_features - 1 if in_features and out_features else 0
        length = next_fast_len(max(count, 1), real=True)
        entries = in_features * out_features
        # Two transforms of a vector and a product of spectra; that of the diagonals is made once.
        flops = round(5 * length * math.log2(length) + 3 * length) if entries else 0
        kernel = _LANES if entries and _spectral.split(-(-count // 2)) else None
        way = Ways((in_features, out_features, length), (_FOURIER,), _MATERIALISED, kernel, flops, entries)
        self._execution = Execution(way, execution)
        self._flops = flops
        self.diagonals = nn.Parameter(torch.empty(count, dtype=dtype, device=device))
        self.reset_parameters(generator)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Diagonals of variance ``1 / in_features``; the bias zero."""
        with torch.no_grad():
            self.diagonals.normal_(0.0, max(self.in_features, 1) ** -0.5, generator=generator)
            if self.bias is not None:
                self.bias.zero_()

    def _tensors(self) -> Cores:
        return ((self.diagonals,),)

    def fans(self) -> Mapping[str, Fan]:
        """The size of the matrix, for learning rates; see `param_groups`."""
        return {"diagonals": Fan(self.in_features, self.out_features)}

    def flops(self, batch: int = 1) -> int:
        """Multiplications and additions of the transforms of ``batch`` vectors and of the products of their spectra."""
        return batch * self._flops

    def recipe(self) -> dict[str, Any]:
        """See `tenfold.nn.recipes`."""
        return {
            "in_features": self.in_features,
            "out_features": self.out_features,
            "bias": self.bias is not None,
            "execution": self._execution.asked,
            "dtype": name_of(self.diagonals.dtype),
        }

    @classmethod
    def from_recipe(cls, recipe: Mapping[str, Any]) -> ToeplitzLinear:
        """See `tenfold.nn.recipes`."""
        return cls(**{**recipe, "dtype": dtype_of(recipe["dtype"])})

    @classmethod
    def from_dense(
        cls,
        weight: Float[Tensor, "out_features in_features"],
        *,
        bias: Float[Tensor, " out_features"] | None = None,
        covariance: Float[Tensor, "in_features in_features"] | None = None,
    ) -> ToeplitzLinear:
        """The layer whose matrix is the nearest to ``weight``: the mean along each diagonal.

        Args:
            weight: the matrix.
            bias: the layer's bias, taken as it is; None for none.
            covariance: ``E[x x^T]`` of what comes in: the error is then that of the outputs,
                ``tr((W - V) C (W - V)^T)``, and the diagonals solve its normal equations.

        Raises:
            DataError: numbers that are not real and finite, or a covariance of another shape.

        Cost: ``O(entries)``, with a covariance ``O((in_features + out_features)^3)``.
        """
        matrix = checked_weight(weight)
        rows, columns = matrix.shape
        made = cls(columns, rows, bias=bias is not None, dtype=weight.dtype, device=weight.device)
        if not matrix.numel():
            found: Tensor = made.diagonals
        elif covariance is None:
            place = _places(rows, columns, matrix.device).flatten()
            zero = matrix.new_zeros(made.diagonals.shape)
            found = zero.index_add(0, place, matrix.flatten()) / zero.index_add(
                0, place, torch.ones_like(matrix).flatten()
            )
        else:
            found = _weighted(matrix, checked_covariance(covariance, columns))
        with torch.no_grad():
            made.diagonals.copy_(found)
            if bias is not None and made.bias is not None:
                made.bias.copy_(bias)
        return made


def _places(rows: int, columns: int, device: torch.device) -> Tensor:
    """For each entry of the matrix, which diagonal it is on."""
    return columns - 1 + torch.arange(rows, device=device)[:, None] - torch.arange(columns, device=device)


def _weighted(matrix: Tensor, covariance: Tensor) -> Tensor:
    """The diagonals ``t`` that make ``tr((W - T) C (W - T)^T)`` smallest.

    With ``S_d`` the matrix of ones on a diagonal, the normal equations have ``<S_d C, S_e> = sum_i C[i - d, i - e]``
    on the left, sums along a part of a diagonal of ``C``, so differences of its running sums.
    """
    rows, columns = matrix.shape
    device = matrix.device
    # running[1 + a, 1 + b] = C[a, b] + C[a - 1, b - 1] + ...
    running = covariance.new_zeros(columns + 1, columns + 1)
    for a in range(columns):
        running[a + 1, 1:] = running[a, :-1] + covariance[a]
    lag = torch.arange(rows + columns - 1, device=device) - (columns - 1)
    first = torch.maximum(lag[:, None], lag).clamp(min=0)
    last = torch.minimum(lag[:, None], lag).add_(columns - 1).clamp(max=rows - 1)
    some = last >= first
    ends = [torch.where(some, bound - at, 0) for bound in (last + 1, first) for at in (lag[:, None], lag)]
    left = torch.where(some, running[ends[0], ends[1]] - running[ends[2], ends[3]], 0.0)
    place = _places(rows, columns, device).flatten()
    right = matrix.new_zeros(rows + columns - 1).index_add(0, place, (matrix @ covariance).flatten())
    return torch.linalg.lstsq(left.cpu(), right.cpu()[:, None], driver="gelsd").solution[:, 0].to(device)


def _real(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def _spectrum(subject: Subject, cores: Cores) -> tuple[Tensor, Tensor]:
    ((diagonals,),) = cores
    return torch.fft.rfft(_real(diagonals), subject[2]), diagonals


def _by_fourier(subject: Subject, prepared: tuple[Tensor, Tensor], rows: Tensor, bias: Tensor | None) -> Tensor:
    columns, count, length = subject
    spectrum, diagonals = prepared
    if not columns or not count:
        # Nothing comes in or goes out; a product of empty matrices is right in every mode.
        made = rows @ diagonals.new_zeros(columns, count, dtype=rows.dtype)
    else:
        if not rows.shape[0]:
            # There are no transforms of nothing; the row is cut off again.
            return _by_fourier(subject, prepared, torch.nn.functional.pad(rows, (0, 0, 0, 1)), bias)[:0]
        # Of the convolution with the diagonals, what lies before `columns - 1` is wrapped around; nobody reads it.
        whole = torch.fft.irfft(torch.fft.rfft(_real(rows), length) * spectrum, length)
        made = whole[:, columns - 1 : columns - 1 + count].to(rows.dtype)
    return made if bias is None else made + bias.to(made.dtype)


def _matrix(subject: Subject, cores: Cores) -> Tensor:
    ((diagonals,),) = cores
    columns, rows, _ = subject
    if not columns or not rows:
        return diagonals.new_zeros(rows, columns)
    # Row i is t[columns - 1 + i], t[columns - 2 + i], ...
    return diagonals.unfold(0, columns, 1).flip(1)


def _filter(subject: Subject, cores: Cores) -> _spectral.Ready:
    ((diagonals,),) = cores
    columns, count, _ = subject
    numbers, lags = diagonals.detach().double().resolve_neg().numpy(), np.arange(1 - columns, count)
    split = _spectral.split(-(-len(numbers) // 2))
    assert split is not None
    return _spectral.ready(numbers, lags, split, count, diagonals.dtype)


_LANES = Way("lanes", _filter, _spectral.run)
_FOURIER = Way("fourier", _spectrum, _by_fourier)
_MATERIALISED = Way("materialised", _matrix, materialised)
