"""Which functions may act on every number of a feature alone: the guard of equivariance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, overload

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tenfold.errors import DataError, EquivarianceError, TenfoldError
from tenfold.so3.irreps import Given, Irrep, Irreps

Pointwise: TypeAlias = Callable[[Tensor], Tensor]


@overload
def check_pointwise(representation: Float[Tensor, "*count n n"], function: Pointwise) -> Tensor: ...
@overload
def check_pointwise(representation: Given, function: Pointwise) -> Irreps: ...


def check_pointwise(representation: Any, function: Pointwise) -> Any:
    """How ``function(features)`` turns, if it is equivariant when it is applied to every number alone.

    A function that is not affine must not see sums: then every matrix of the representation has one entry ``a`` in
    each row, and ``f(a x) = b f(x)`` for some ``b``, the entry of the matrices of the result. So permutations allow
    every function; signed permutations allow odd functions, and even ones, whose result has no signs; positive factors
    allow ReLU, and whatever else is homogeneous. Irreps above degree 0 allow linear functions alone. An affine function
    with a constant needs matrices whose rows add up to one.

    What the function is, is found out by calling it on numbers between -30 and 30. It is not called where the
    representation is trivial.

    Args:
        representation: irreps; or matrices of elements that generate a group, of any finite representation.
        function: of tensors, entry by entry; or a module.

    Returns:
        Irreps of the result where irreps were given: ``0o`` becomes ``0e`` under an even function. Where matrices were
        given, those of the result.

    Raises:
        EquivarianceError: it is not equivariant. The message says which block or matrix, and why.
        DataError: the matrices are not square or not finite.
        TenfoldError: the function does not act entry by entry, or has no finite value at some number.

    Cost: a few calls of the function on some hundred numbers; ``O(n^2)`` for each matrix.
    Paper: "A Characterization Theorem for Equivariant Networks with Point-wise Activations", 2024.
    """
    if isinstance(representation, Tensor):
        return _of_matrices(representation, function)
    irreps = Irreps(representation)
    probe: _Probe | None = None
    found = []
    for position, (mul, ir) in enumerate(irreps):
        if ir == Irrep(0, 1) or not mul:
            found.append((mul, ir))
            continue
        probe = probe or _Probe(function)
        place = f"block {position} ({mul}x{ir})"
        if probe.kind == "linear":
            found.append((mul, ir))
        elif probe.kind == "constant":
            found.append((mul * ir.dim, Irrep(0, 1)))
        elif ir.l:
            does = "adds a constant" if probe.kind == "affine" else "is not linear"
            raise EquivarianceError(
                f"{place} allows no function that {does}: rotations mix its {ir.dim} components; gate it, or act on "
                "its norm"
            )
        else:
            sign = probe.factor(-1.0)
            if sign is None:
                raise EquivarianceError(
                    f"{place} allows odd and even functions only: the inversion changes its sign, and this function is "
                    "neither"
                )
            found.append((mul, Irrep(0, -1 if sign < 0 else 1)))
    return Irreps(found)


def _of_matrices(matrices: Tensor, function: Pointwise) -> Tensor:
    if matrices.ndim < 2 or matrices.shape[-1] != matrices.shape[-2] or not matrices.is_floating_point():
        raise DataError(f"matrices of shape {tuple(matrices.shape)} and {matrices.dtype} must be floating and square")
    if not matrices.isfinite().all():
        raise DataError("matrices must be finite")
    size = matrices.shape[-1]
    probe = _Probe(function)
    if probe.kind == "linear" or not matrices.numel():
        return matrices.clone()
    if probe.kind == "constant":
        return torch.eye(size, dtype=matrices.dtype, device=matrices.device).expand(matrices.shape).clone()
    tol = max(torch.finfo(matrices.dtype).eps ** 0.5, probe.tol)
    flat = matrices.reshape(-1, size, size)
    if probe.kind == "affine":
        for number, sums in enumerate(flat.sum(dim=-1)):
            if float((sums - 1).abs().max()) > tol:
                row = int((sums - 1).abs().argmax())
                raise EquivarianceError(
                    f"matrix {number} allows no function that adds a constant: row {row} adds up to "
                    f"{float(sums[row]):.4g}, not 1"
                )
        return matrices.clone()
    result = torch.zeros_like(flat)
    factors: dict[float, float | None] = {}
    for number, matrix in enumerate(flat):
        large = matrix.abs() > tol
        entries = large.sum(dim=-1)
        if not bool((entries == 1).all()):
            row = int((entries != 1).nonzero()[0])
            raise EquivarianceError(
                f"matrix {number} allows affine functions only: row {row} has {int(entries[row])} entries that are not "
                "zero, and a function that is not affine needs one"
            )
        for row, column in large.nonzero().tolist():
            # Rounded, so that entries that are equal but for roundoff are tried once.
            entry = float(f"{float(matrix[row, column]):.12g}")
            if entry not in factors:
                factors[entry] = probe.factor(entry)
            factor = factors[entry]
            if factor is None:
                raise EquivarianceError(
                    f"matrix {number} does not allow this function: f({entry:.4g} x) is no multiple of f(x), and row "
                    f"{row} multiplies by {entry:.4g}"
                )
            result[number, row, column] = factor
    return result.reshape(matrices.shape)


class _Probe:
    """What a function is, by its values at some numbers."""

    def __init__(self, function: Pointwise) -> None:
        like = next(function.parameters(), None) if isinstance(function, nn.Module) else None
        dtype = torch.float64 if like is None else like.dtype
        # Numbers of all sizes, and no two in a ratio that a function could be made for.
        sizes = 30 * torch.logspace(-3.5, 0, 61, dtype=torch.float64) ** 1.07
        self._numbers = torch.cat([-sizes * 0.93, sizes]).to(dtype=dtype, device=None if like is None else like.device)
        self._function = function
        self.tol = torch.finfo(dtype).eps ** 0.5
        self._values = self._at(self._numbers)
        half = self._numbers.numel() // 2
        if not _equal(self._at(self._numbers[:half]), self._values[:half], self.tol):
            raise TenfoldError("function must act entry by entry: what it makes of a number is not always the same")
        self.kind = self._kind()

    def factor(self, entry: float) -> float | None:
        """The number b with ``f(entry x) = b f(x)``, if there is one."""
        scaled = self._at(entry * self._numbers)
        # At the largest value, where it is known best.
        where = self._values.abs().argmax()
        factor = float(scaled[where] / self._values[where])
        return factor if _equal(scaled, factor * self._values, self.tol) else None

    def _kind(self) -> str:
        """``"linear"``, ``"constant"``, ``"affine"`` where it is neither but their sum, or nothing."""
        x, y = self._numbers.double(), self._values.double()
        slope = (y[-1] - y[0]) / (x[-1] - x[0])
        constant = y[-1] - slope * x[-1]
        least = self.tol * float(y.abs().max())
        if float((y - slope * x - constant).abs().max()) > least:
            return ""
        if float(constant.abs()) <= least:
            return "linear"
        return "affine" if float(slope.abs() * x.abs().max()) > least else "constant"

    @torch.no_grad()
    def _at(self, numbers: Tensor) -> Tensor:
        values = self._function(numbers)
        if not isinstance(values, Tensor) or values.shape != numbers.shape:
            raise TenfoldError("function must act entry by entry: it does not return a tensor of the shape that it got")
        if not values.isfinite().all():
            worst = float(numbers[~values.isfinite()][0])
            raise TenfoldError(f"function must be finite everywhere; at {worst:.4g} it is not")
        return values.detach()


def _equal(left: Tensor, right: Tensor, tol: float) -> bool:
    """Number by number, relative to the larger one; what is tiny beside the largest of all is no evidence."""
    sizes = torch.maximum(left.abs(), right.abs())
    return bool(((left - right).abs() <= tol * (sizes + tol * float(sizes.max()))).all())
