"""Many small least-squares problems whose matrices are rows gathered out of one factor, exactly or approximately."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tenfold.errors import TenfoldError

Solver = Literal["exact", "cg", "sketched"]
_CODES: dict[str, int] = {"exact": 0, "cg": 1, "sketched": 2}
# Rows of a sketch for each column of the matrix.
_OVERSAMPLING = 4
# Numbers read below which threads would cost more than they save.
_WORTH = 10**6


@dataclass(frozen=True, eq=False)
class Gathered:
    """Problems ``min_x sum_p w_p (y_p - f[index_p] x)^2 + sum_r ridge_r x_r^2``, one for each group of entries.

    Attributes:
        index: for each entry the row of the factor that it reads.
        values: what the row should give.
        weights: of the squared residuals.
        first: where the entries of each group begin, and where the last ends.
    """

    index: Int[Tensor, " n"]
    values: Float[Tensor, " n"]
    weights: Float[Tensor, " n"]
    first: Int[Tensor, " g+1"]

    @property
    def groups(self) -> int:
        return len(self.first) - 1

    @staticmethod
    def by(
        groups: Int[Tensor, " n"],
        count: int,
        index: Int[Tensor, " n"],
        values: Float[Tensor, " n"],
        weights: Float[Tensor, " n"],
    ) -> Gathered:
        """The entries of ``count`` groups in any order. Costs a sort of n whole numbers."""
        order = torch.argsort(groups, stable=True)
        first = torch.zeros(count + 1, dtype=torch.int64)
        first[1:] = torch.bincount(groups, minlength=count).cumsum(0)
        kept = (index[order].contiguous(), values[order].contiguous(), weights[order].contiguous())
        return Gathered(*kept, first)


def gathered_least_squares(
    factor: Float[Tensor, "m k"],
    problems: Gathered,
    ridge: Float[Tensor, "g k"],
    *,
    solver: Solver = "exact",
    start: Float[Tensor, "g k"] | None = None,
    steps: int = 3,
    seed: int = 0,
) -> tuple[Float[Tensor, "g k"], Float[Tensor, "g k"]]:
    """Solve all of them, and give the diagonals of their Gram matrices (without the ridge).

    ``"exact"`` takes Gram matrices and their Cholesky factors: ``n k^2`` operations. ``"cg"`` takes ``steps`` steps of
    conjugate gradients, preconditioned by the diagonal, from ``start`` (else zero): ``n k`` operations for each.
    ``"sketched"`` takes the same steps with a better preconditioner, the Gram matrix of a random sketch: of each matrix
    with more than 4 k rows, rows are added up with random signs in 4 k places, at a cost of ``n k`` and ``4 k^3`` for
    each group; matrices with fewer rows are solved exactly. A group without entries gets zeros.

    A Gram matrix that is singular to rounding gets 1e-13 of its trace as a ridge, so that there is always an answer.
    Groups are shared among as many threads as torch has; what is computed does not depend on their number.

    Raises:
        TenfoldError: a solver that is not known.

    Paper of the sketched one: "A fast randomized algorithm for overdetermined linear least-squares regression", 2008.
    """
    if solver not in _CODES:
        raise TenfoldError(f"solver '{solver}' is not known: give one of {', '.join(_CODES)}")
    from tenfold.linalg._gathered import solve

    groups, rank = ridge.shape
    out = torch.zeros(groups, rank, dtype=torch.float64) if start is None else start.clone().contiguous()
    diagonal = torch.zeros(groups, rank, dtype=torch.float64)
    shared = (
        *(part.contiguous().numpy() for part in (factor, problems.index, problems.values, problems.weights)),
        problems.first.numpy(),
        ridge.contiguous().numpy(),
        _CODES[solver],
        steps,
        _OVERSAMPLING * rank,
        seed,
        out.numpy(),
        diagonal.numpy(),
    )
    _share(lambda low, high: solve(*shared, low, high), problems.first, len(problems.values) * rank)
    return out, diagonal


def gathered_variances(
    factor: Float[Tensor, "m k"],
    problems: Gathered,
    ridge: Float[Tensor, "g k"],
    groups: Int[Tensor, " q"],
    directions: Float[Tensor, "q k"],
) -> Float[Tensor, " q"]:
    """``d' (G + diag(ridge))^-1 d`` for directions d, each with the Gram matrix G of its group.

    Times the variance of the noise this is the posterior variance of ``d' x``. Cost ``k^2`` for each entry of the
    groups asked for, ``k^3`` for each group and ``k^2`` for each direction.
    """
    from tenfold.linalg._gathered import variances

    order = torch.argsort(groups, stable=True)
    asked, counts = torch.unique_consecutive(groups[order], return_counts=True)
    first = torch.zeros(len(asked) + 1, dtype=torch.int64)
    first[1:] = counts.cumsum(0)
    sorted_directions = directions[order].contiguous()
    found = torch.empty(len(groups), dtype=torch.float64)
    shared = (
        *(part.contiguous().numpy() for part in (factor, problems.index, problems.weights, problems.first, ridge)),
        asked.numpy(),
        first.numpy(),
        sorted_directions.numpy(),
        found.numpy(),
    )
    _share(lambda low, high: variances(*shared, low, high), first, len(problems.values) * factor.shape[1])
    result = torch.empty_like(found)
    result[order] = found
    return result


def gathered_products(
    left: Float[Tensor, "n k"], i: Int[Tensor, " p"], right: Float[Tensor, "m k"], j: Int[Tensor, " p"]
) -> Float[Tensor, " p"]:
    """``left[i] . right[j]``, row by row, without making the gathered rows. Cost k for each pair."""
    from tenfold.linalg._gathered import products

    out = torch.empty(len(i), dtype=torch.float64)
    products(*(part.contiguous().numpy() for part in (left, i, right, j)), out.numpy())
    return out


def _share(work, first: Tensor, size: int) -> None:  # type: ignore[no-untyped-def]
    """``work(low, high)`` for ranges of groups with equally many entries, on as many threads as torch has."""
    groups, threads = len(first) - 1, torch.get_num_threads()
    if threads == 1 or size < _WORTH:
        work(0, groups)
        return
    shares = torch.arange(1, threads) * int(first[-1]) // threads
    bounds = [0, *torch.searchsorted(first, shares).clamp(max=groups).tolist(), groups]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, bounds[:-1], bounds[1:]))
