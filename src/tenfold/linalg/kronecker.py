"""Kronecker products of small matrices, and sums of two of them: products, solutions, determinants, never dense.

Vectors of the product space are tensors with an axis for each factor, the first factor on the slowest axis.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from jaxtyping import Float
from torch import Tensor

from tenfold.errors import DataError
from tenfold.network import Network

# Fewer columns than this are better multiplied from the right.
_NARROW = 8


def kron_apply(factors: Sequence[Float[Tensor, "m n"]], tensor: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """``(factors[0] ⊗ … ⊗ factors[-1])`` applied to a tensor: each factor along its axis.

    The tensor may have axes of a batch in front. Cost: one matrix product a factor.
    """
    order = len(factors)
    batch, shape = tensor.shape[: tensor.ndim - order], tensor.shape[tensor.ndim - order :]
    if tuple(shape) != tuple(factor.shape[1] for factor in factors):
        raise DataError(
            f"the factors have {' x '.join(str(factor.shape[1]) for factor in factors)} columns, but the tensor is of "
            f"shape {tuple(tensor.shape)}"
        )
    before, after = math.prod(batch), math.prod(shape)
    flat = tensor
    # Each case is the form of a product that takes the least time for it, without a transposed copy where there is one.
    for factor in factors:
        rows, columns = factor.shape
        after //= columns
        if before == 1:
            flat = factor @ flat.reshape(columns, after)
        elif after == 1:
            flat = flat.reshape(before, columns) @ factor.T
        elif after < _NARROW:
            flat = (flat.reshape(before, columns, after).transpose(1, 2) @ factor.T).transpose(1, 2)
        else:
            flat = factor @ flat.reshape(before, columns, after)
        before *= rows
    return flat.reshape(*batch, *(factor.shape[0] for factor in factors))


def kron_dense(factors: Sequence[Float[Tensor, "m n"]]) -> Float[Tensor, "M N"]:
    """The whole matrix."""
    return reduce(torch.kron, factors)


def outer(vectors: Sequence[Float[Tensor, " n"]]) -> Float[Tensor, "..."]:
    """The products of one entry of each vector: a tensor with an axis for each."""
    return reduce(lambda left, right: left[..., None] * right, vectors)


@dataclass(frozen=True, eq=False)
class KroneckerPair:
    """``scale · A1 ⊗ … ⊗ AK + noise · B1 ⊗ … ⊗ BK``, diagonalised by one basis for each axis.

    Of each pair the generalised eigenvectors V with ``A = V diag(λ) Vᵀ`` and ``B = V Vᵀ`` are kept, so that the sum is
    ``V (scale ⊗λ + noise) Vᵀ``. Make one with `of` or `of_network`.

    Attributes:
        values: λ of each axis, not negative.
        vectors: V of each axis.
        inverses: V⁻¹ of each axis.
        log_noise: log determinant of ``B1 ⊗ … ⊗ BK``.
        scale, noise: the factors in front.
    """

    values: tuple[Float[Tensor, " n"], ...]
    vectors: tuple[Float[Tensor, "n n"], ...]
    inverses: tuple[Float[Tensor, "n n"], ...]
    log_noise: float
    scale: float
    noise: float

    @classmethod
    def of(
        cls,
        signal: Sequence[Float[Tensor, "n n"]],
        background: Sequence[Float[Tensor, "n n"]] | None = None,
        *,
        scale: float = 1.0,
        noise: float = 1.0,
    ) -> KroneckerPair:
        """Of the matrices of both terms; ``background`` None is the identity.

        Raises:
            DataError: a matrix of the background is not positive definite.
        """
        if background is None:
            values, vectors = zip(*(torch.linalg.eigh(matrix) for matrix in signal), strict=True)
            return cls.diagonal(values, vectors, scale=scale, noise=noise)
        spectra, forward, back, log_noise = [], [], [], 0.0
        size = math.prod(len(matrix) for matrix in signal)
        for axis, (matrix, other) in enumerate(zip(signal, background, strict=True)):
            root, failed = torch.linalg.cholesky_ex(other)
            if int(failed):
                raise DataError(f"the noise of axis {axis} is not positive definite: give a covariance that is")
            half = torch.linalg.solve_triangular(root, matrix, upper=False)
            white = torch.linalg.solve_triangular(root, half.T.contiguous(), upper=False)
            value, vector = torch.linalg.eigh((white + white.T) / 2)
            spectra.append(value.clamp(min=0))
            forward.append(root @ vector)
            back.append(torch.linalg.solve_triangular(root.T, vector, upper=True).T)
            log_noise += 2 * float(root.diagonal().log().sum()) * (size // len(matrix))
        return cls(tuple(spectra), tuple(forward), tuple(back), log_noise, scale, noise)

    @classmethod
    def diagonal(
        cls, values: Sequence[Tensor], vectors: Sequence[Tensor], *, scale: float, noise: float
    ) -> KroneckerPair:
        """Of eigenvalues and orthonormal eigenvectors that are known already; the background is the identity."""
        spectra = tuple(value.clamp(min=0) for value in values)
        return cls(spectra, tuple(vectors), tuple(vector.T for vector in vectors), 0.0, scale, noise)

    @classmethod
    def of_network(cls, network: Network, noise: float | None = None) -> KroneckerPair:
        """Of a network that is a Kronecker product plus ``noise`` times the identity, or a sum of two of them.

        Of two terms the second must be positive definite. Costs an eigendecomposition for each axis.

        Raises:
            NotImplementedError: more terms than one basis diagonalises: two with noise, or three.
            DataError: the network is no sum of Kronecker products, or one term comes without noise.
        """
        if network.structure.order != 2 or len({len(group) for group in network.structure.outputs}) != 1:
            raise DataError(f"'{network.structure}' is no sum of Kronecker products: see tenfold.formats.kronecker")
        rows, columns = network.structure.outputs
        places = {tuple(indices[-2:]): tensor for indices, tensor in network.terms() if len(indices) in (2, 3)}
        shared = {indices[:-2] for indices, _ in network.terms()}
        if set(places) != set(zip(rows, columns, strict=True)) or len(shared) != 1:
            raise DataError(f"'{network.structure}' is no sum of Kronecker products: see tenfold.formats.kronecker")
        factors = [places[pair] for pair in zip(rows, columns, strict=True)]
        stacks = [(factor[None] if factor.ndim == 2 else factor).to(torch.float64) for factor in factors]
        terms = len(stacks[0]) + (noise is not None)
        if terms > 2:
            raise NotImplementedError(
                f"no basis diagonalises {terms} Kronecker products at once: give two at most, with the noise among them"
            )
        if terms < 2:
            raise DataError("noise is None: give the variance of the noise, or a network of two terms")
        if noise is not None:
            return cls.of([stack[0] for stack in stacks], noise=noise)
        return cls.of([stack[0] for stack in stacks], [stack[1] for stack in stacks])

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes of the axes."""
        return tuple(len(value) for value in self.values)

    def spectrum(self) -> Float[Tensor, "..."]:
        """``scale ⊗λ``: the signal in the basis of V; a tensor with an axis for each factor."""
        return self.scale * outer(self.values)

    def solve(self, right: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The sum, inverted, applied to a tensor (or a batch of them)."""
        inside = kron_apply(self.inverses, right) / (self.spectrum() + self.noise)
        return kron_apply([inverse.T for inverse in self.inverses], inside)

    def product(self, right: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The sum applied to a tensor (or a batch of them)."""
        inside = kron_apply([vector.T for vector in self.vectors], right) * (self.spectrum() + self.noise)
        return kron_apply(self.vectors, inside)

    def log_determinant(self) -> float:
        """Exact, in as many steps as there are cells."""
        return float((self.spectrum() + self.noise).log().sum()) + self.log_noise
