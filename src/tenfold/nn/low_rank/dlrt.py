"""Dynamical low-rank training: matrices that stay in factors, whose ranks find themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tenfold.nn.low_rank._census import Globs, factors_pay, largest_rank, of_each
from tenfold.nn.low_rank._integrator import FactoredLayer, Integrator, orthonormal, widened
from tenfold.nn.low_rank._layer import CONVOLUTIONS, Shape, parameters_of
from tenfold.nn.low_rank._scheme import kept, part


class DLRT(Integrator):
    """Trains weights as ``U S V^T`` with orthonormal U and V, by the basis-update and Galerkin integrator.

    A step is two passes. The first gives the gradients along both bases, ``G V`` and ``G^T U`` for the gradient G of
    the weight, which itself is never formed; the bases grow to span these too. The second is an ordinary step: S
    descends in the wider bases, and the optimizer moves all other parameters. Then singular values of S are dropped
    as long as the weight changes by no more than ``tolerance``. Small singular values do no harm, as no inverse of S is
    taken. A convolution is the matrix from patches to channels.

    Factors are buffers and are moved by plain descent with ``lr``, whatever the optimizer is.

    Args:
        model: its layers are replaced in place, starting from the truncated SVD of the weights they have.
        tolerance: relative error of a weight, in the Frobenius norm, that each truncation may make; None keeps ranks
            as they are, with bases that descend instead of growing.
        lr: learning rate of the factors.
        rank: to begin with, of all layers or by name; by default the largest.
        max_rank: of all layers or by name; by default the largest with which factors are not larger than the weight.
        min_rank: below which no layer goes.
        skip: names of layers to leave alone, with ``*``; the last layer of a classifier usually.
        only: names of the layers to train in low rank, by default all.

    Raises:
        TenfoldError: there is no layer that can be trained in low rank, or an argument is out of its range.

    Cost: forward and backward of both passes cost about as much as those of factors of rank 2r and 3r; for each layer
        two QR decompositions of width 2r, and an SVD of the 2r x 2r core.
    Paper: "Low-rank lottery tickets: finding efficient low-rank neural networks via matrix differential equations",
        2022.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        tolerance: float | None = 0.1,
        lr: float = 0.05,
        rank: int | Mapping[str, int] | None = None,
        max_rank: int | Mapping[str, int] | None = None,
        min_rank: int = 2,
        skip: Globs = (),
        only: Globs | None = None,
    ) -> None:
        super().__init__(
            model,
            (nn.Linear, *CONVOLUTIONS),
            factors_pay,
            lr=lr,
            tolerance=None if tolerance is None else part("tolerance", tolerance),
            skip=skip,
            only=only,
        )
        self._start = of_each("rank", rank, self._originals)
        self._most = of_each("max_rank", max_rank, self._originals)
        self._least = of_each("min_rank", min_rank, self._originals)
        self._replace_all()

    def _made(self, name: str, layer: nn.Module) -> FactoredLayer:
        shape = Shape.of(layer)
        most = min(self._most.get(name, largest_rank(layer)), *shape.matrix)
        least = min(self._least[name], most)
        start = max(min(self._start.get(name, most), most), least)
        weight, bias = parameters_of(layer)
        left, values, right = torch.linalg.svd(weight.reshape(shape.matrix), full_matrices=False)
        core = torch.diag(values[:start])
        return _Matrix(shape, left[:, :start], core, right[:start].T, bias, (least, most))


class _Matrix(FactoredLayer):
    """``left [out, r] @ core [r, r] @ right [in * kernel, r].T``."""

    left: Tensor
    right: Tensor

    def __init__(
        self,
        shape: Shape,
        left: Tensor,
        core: Tensor,
        right: Tensor,
        bias: nn.Parameter | None,
        limits: tuple[int, int],
    ) -> None:
        super().__init__(shape, core, bias)
        self.limits = limits
        self.register_buffer("left", left.contiguous())
        self.register_buffer("right", right.contiguous())

    @property
    def rank(self) -> int:
        return self.core.shape[0]

    def forward(self, features: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """As the dense layer does it."""
        shape = self.shape
        if self._along:
            # One forward of the same function with both gradients: the second term is zero and is there for its own.
            outer, zero = self._along
            found = shape.out_of(shape.into(features, self.right), outer, self.bias)
            return found + shape.out_of(shape.into(features.detach(), zero), self.left)
        core = self.core if self._inner is None else self._inner
        return shape.out_of(shape.into(features, self.right), self.left @ core, self.bias)

    def open_bases(self) -> tuple[Tensor, Tensor]:
        return self.left @ self.core, torch.zeros_like(self.right)

    def widen(self, gradients: Sequence[Tensor], step: float | None) -> None:
        if step is None:
            left, right = widened(self.left, gradients[0]), widened(self.right, gradients[1])
        else:
            left = orthonormal(self.left @ self.core - step * gradients[0])
            right = orthonormal(self.right @ self.core.T - step * gradients[1])
        self.core = left.T @ self.left @ self.core @ (right.T @ self.right).T
        self.left, self.right = left, right

    def truncate(self, tolerance: float) -> None:
        left, values, right = torch.linalg.svd(self.core)
        least, most = self.limits
        rank = kept(values, tolerance, least=least, most=most)
        self.core = torch.diag(values[:rank])
        self.left, self.right = self.left @ left[:, :rank], self.right @ right[:rank].T

    def to_dense(self) -> Tensor:
        kernel = self.shape.kernel
        return (self.left @ self.core @ self.right.T).reshape(self.shape.outputs, self.shape.inputs, *kernel)

    def plain(self) -> nn.Module:
        left, values, right = torch.linalg.svd(self.core)
        root = values.sqrt()
        return self.shape.chain(self.left @ left * root, self.right @ right.T * root, self.bias)

    def size(self) -> int:
        rows, columns = self.shape.matrix
        return min(self.rank * (rows + columns), rows * columns)
