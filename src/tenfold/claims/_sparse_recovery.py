"""What the claims about sparse recovery share: planted tensors, and the methods that others are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tenfold.completion._krosbl import along


@dataclass(frozen=True, eq=False)
class Planted:
    """A tensor whose nonzeros are a grid, measured along each mode with noise of variance ``noise``."""

    truth: Tensor
    support: tuple[Tensor, ...]
    dictionaries: tuple[Tensor, ...]
    measured: Tensor
    noise: float


def planted(
    seed: int, decibel: float, *, size: int = 15, rows: Sequence[int] = (8, 12, 15), nonzeros: int = 3
) -> Planted:
    """Normal nonzeros, normal dictionaries; noise by the mean power of the signal."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    support = tuple(torch.randperm(size, generator=generator)[:nonzeros].sort().values for _ in rows)
    truth = torch.zeros([size] * len(rows), dtype=torch.float64)
    truth[torch.meshgrid(*support, indexing="ij")] = normal(*[nonzeros] * len(rows))
    dictionaries = tuple(normal(count, size) for count in rows)
    signal = along(dictionaries, truth)
    noise = float(signal.square().mean()) * 10 ** (-decibel / 10)
    return Planted(truth, support, dictionaries, signal + noise**0.5 * normal(*rows), noise)


def nmse(found: Tensor, truth: Tensor) -> float:
    """The squared error over the squared norm."""
    return float((found - truth).abs().square().sum() / truth.abs().square().sum())


def kronecker(matrices: Sequence[Tensor]) -> Tensor:
    whole = matrices[0]
    for matrix in matrices[1:]:
        whole = torch.kron(whole, matrix)
    return whole


def dense_posterior(measured: Tensor, dictionary: Tensor, prior: Tensor, noise: float) -> tuple[Tensor, Tensor, float]:
    """Mean and variance of each entry and the cost, by a Cholesky factor of the whole covariance."""
    spread = (dictionary * prior) @ dictionary.mH
    spread.diagonal().add_(noise)
    factor = torch.linalg.cholesky(spread)
    half = torch.linalg.solve_triangular(factor, dictionary, upper=False)
    white = torch.linalg.solve_triangular(factor, measured.reshape(-1, 1), upper=False)
    mean = prior * (half.mH @ white)[:, 0]
    variance = prior - prior.square() * half.abs().square().sum(0)
    cost = float(white.abs().square().sum() + 2 * factor.diagonal().real.log().sum())
    return mean, variance, cost


def classic_sbl(
    measured: Tensor, dictionary: Tensor, noise: float, *, prune: float = 1e-3, iterations: int = 150, tol: float = 1e-4
) -> Tensor:
    """Sparse Bayesian learning with a variance for each entry by itself."""
    kept = torch.arange(dictionary.shape[1])
    scales = torch.ones(len(kept), dtype=torch.float64)
    for _ in range(iterations):
        keep = scales >= prune * scales.max()
        kept, scales = kept[keep], scales[keep]
        mean, variance, _ = dense_posterior(measured, dictionary[:, kept], scales, noise)
        before, scales = scales, variance.clamp(min=0) + mean.abs().square()
        if float((scales - before).norm()) < tol * float(before.norm()):
            break
    found = torch.zeros(dictionary.shape[1], dtype=dictionary.dtype)
    found[kept] = dense_posterior(measured, dictionary[:, kept], scales, noise)[0]
    return found


def on_support(measured: Tensor, dictionaries: Sequence[Tensor], support: Sequence[Tensor]) -> Tensor:
    """Least squares on a grid of places."""
    inverses = [torch.linalg.pinv(matrix[:, places]) for matrix, places in zip(dictionaries, support, strict=True)]
    found = torch.zeros([matrix.shape[1] for matrix in dictionaries], dtype=measured.dtype)
    found[torch.meshgrid(*support, indexing="ij")] = along(inverses, measured)
    return found


def kronecker_omp(measured: Tensor, dictionaries: Sequence[Tensor], nonzeros: int) -> Tensor:
    """Orthogonal matching pursuit on grids: the place that agrees best with what is left joins the grid.

    It is told how many places each mode has.
    """
    support: list[set[int]] = [set() for _ in dictionaries]
    unit = [matrix / matrix.norm(dim=0) for matrix in dictionaries]
    left = measured
    found = torch.zeros([matrix.shape[1] for matrix in dictionaries], dtype=measured.dtype)
    for _ in range(len(dictionaries) * nonzeros):
        agree = along([matrix.mH for matrix in unit], left).abs()
        for mode, places in enumerate(support):
            if len(places) == nonzeros:
                outside = [place for place in range(agree.shape[mode]) if place not in places]
                agree.index_fill_(mode, torch.tensor(outside, dtype=torch.int64), -1)
        best = torch.unravel_index(agree.argmax(), agree.shape)
        grown = [places | {int(place)} for places, place in zip(support, best, strict=True)]
        if grown == support:
            break
        support = grown
        found = on_support(measured, dictionaries, [torch.tensor(sorted(places)) for places in support])
        left = measured - along(list(dictionaries), found)
    return found
