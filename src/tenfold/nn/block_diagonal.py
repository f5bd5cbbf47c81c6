"""A linear layer whose matrix is block-diagonal plus low rank."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import groupby
from operator import index
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from tenfold._arguments import quoted
from tenfold.errors import DataError
from tenfold.nn import _lanes
from tenfold.nn._checks import checked_covariance, checked_weight
from tenfold.nn._executed_map import ExecutedMap
from tenfold.nn._execution import Asked, Cores, Execution, Way, Ways, materialised
from tenfold.nn.learning_rates import Fan
from tenfold.nn.recipes import dtype_of, name_of


class Run(NamedTuple):
    """Neighbouring blocks of one shape: how many, their rows and columns, and where the first one begins."""

    repeats: int
    rows: int
    columns: int
    row: int
    column: int


class BlockDiagonalLinear(ExecutedMap):
    """``y = x (D + L R)^T + b``: ``D`` block-diagonal, ``L`` and ``R`` of low rank, or ``D`` alone.

    Args:
        blocks: rows and columns of each block, from the upper left corner on; they need not be squares or alike.
        rank: of the low-rank part; 0 for none.
        bias: whether a number is added to each feature that goes out; it starts at zero.
        execution: as of `StructuredLinear`.
        dtype, device: of the parameters, as in ``torch.nn``.
        generator: where the random numbers of the start come from; torch's own by default.

    Attributes:
        blocks: a tensor ``[count, rows, columns]`` for each run of neighbouring blocks of one shape.
        left, right: the low-rank part, ``[out_features, rank]`` and ``[rank, in_features]``; None for rank 0.

    Raises:
        DataError: something else than pairs, no block, a negative size or a negative rank.

    Cost: ``2 * (sum(rows * columns) + rank * (in_features + out_features))`` operations for a vector.
    Paper: "Robust principal component analysis?", 2011, for sums of a sparse matrix and one of low rank.
    """

    def __init__(
        self,
        blocks: Sequence[tuple[int, int]],
        rank: int = 0,
        *,
        bias: bool = True,
        execution: Asked = "auto",
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        shapes = _shapes(blocks)
        if not shapes:
            raise DataError("blocks must give the rows and columns of one block at least; the list is empty")
        if rank < 0 or any(side < 0 for shape in shapes for side in shape):
            raise DataError(f"rank and the sides of blocks are at least 0, not rank {rank} with blocks {shapes}")
        columns, rows = (sum(shape[side] for shape in shapes) for side in (1, 0))
        super().__init__(columns, rows, bias=bias, dtype=dtype, device=device)
        self.rank = rank
        runs = _runs(shapes)
        flops = 2 * (sum(r * c for r, c in shapes) + rank * (rows + columns))
        subject = tuple(runs)
        self._execution = Execution(
            Ways(subject, (_BLOCKWISE,), _MATERIALISED, _LANES, flops, rows * columns), execution
        )
        self._flops = flops
        self.blocks = nn.ParameterList(
            torch.empty(run.repeats, run.rows, run.columns, dtype=dtype, device=device) for run in runs
        )
        self.left = nn.Parameter(torch.empty(rows, rank, dtype=dtype, device=device)) if rank else None
        self.right = nn.Parameter(torch.empty(rank, columns, dtype=dtype, device=device)) if rank else None
        self._runs = runs
        self.reset_parameters(generator)

    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Features of variance 1, half of it from the blocks where there is a low-rank part; the bias zero."""
        share = 0.5 if self.left is not None else 1.0
        with torch.no_grad():
            for block in self.blocks:
                block.normal_(0.0, math.sqrt(share / max(block.shape[2], 1)), generator=generator)
            if self.left is not None and self.right is not None:
                self.right.normal_(0.0, max(self.in_features, 1) ** -0.5, generator=generator)
                self.left.normal_(0.0, math.sqrt(share / self.rank), generator=generator)
            if self.bias is not None:
                self.bias.zero_()

    def _tensors(self) -> Cores:
        low = () if self.left is None or self.right is None else (self.left, self.right)
        return ((*self.blocks, *low),)

    def fans(self) -> Mapping[str, Fan]:
        """The sizes of the small matrices, for learning rates; see `param_groups`."""
        found = {f"blocks.{n}": Fan(run.columns, run.rows) for n, run in enumerate(self._runs)}
        if self.rank:
            found |= {"left": Fan(self.rank, self.out_features), "right": Fan(self.in_features, self.rank)}
        return found

    def flops(self, batch: int = 1) -> int:
        """Multiplications and additions of the blocks and of the low-rank part for ``batch`` vectors."""
        return batch * self._flops

    def recipe(self) -> dict[str, Any]:
        """See `tenfold.nn.recipes`."""
        return {
            "blocks": [[run.rows, run.columns] for run in self._runs for _ in range(run.repeats)],
            "rank": self.rank,
            "bias": self.bias is not None,
            "execution": self._execution.asked,
            "dtype": name_of(self.blocks[0].dtype),
        }

    @classmethod
    def from_recipe(cls, recipe: Mapping[str, Any]) -> BlockDiagonalLinear:
        """See `tenfold.nn.recipes`."""
        return cls(**{**recipe, "dtype": dtype_of(recipe["dtype"])})

    @classmethod
    def from_dense(
        cls,
        weight: Float[Tensor, "out_features in_features"],
        blocks: Sequence[tuple[int, int]],
        rank: int = 0,
        *,
        bias: Float[Tensor, " out_features"] | None = None,
        covariance: Float[Tensor, "in_features in_features"] | None = None,
        sweeps: int = 50,
        tol: float = 1e-6,
    ) -> BlockDiagonalLinear:
        """The layer whose matrix is near ``weight``: for rank 0 the nearest, else a local optimum.

        The blocks are the best ones for the low-rank part that there is, and it is the best one for the blocks, in
        turn; the error never grows.

        Args:
            weight: the matrix.
            blocks, rank: as for the class.
            bias: the layer's bias, taken as it is; None for none.
            covariance: ``E[x x^T]`` of what comes in: the error is then that of the outputs,
                ``tr((W - V) C (W - V)^T)``.
            sweeps: turns at most.
            tol: a turn that lowers the error by less than this part of it is the last one.

        Raises:
            DataError: blocks that do not make the shape of the weight, numbers that are not finite, a covariance of
                another shape.

        Cost: a singular value decomposition of the weight's shape for each turn.
        """
        matrix = checked_weight(weight)
        made = cls(blocks, rank, bias=bias is not None, dtype=weight.dtype, device=weight.device)
        if (made.out_features, made.in_features) != tuple(matrix.shape):
            raise DataError(
                f"the blocks make a matrix of {made.out_features} x {made.in_features}, the weight is of "
                f"{' x '.join(map(str, matrix.shape))}"
            )
        spread = None if covariance is None else checked_covariance(covariance, matrix.shape[1])
        found, left, right = _alternated(matrix, made._runs, rank, spread, sweeps, tol)
        with torch.no_grad():
            for mine, block in zip(made.blocks, found, strict=True):
                mine.copy_(block)
            if made.left is not None and made.right is not None:
                made.left.copy_(left)
                made.right.copy_(right)
            if bias is not None and made.bias is not None:
                made.bias.copy_(bias)
        return made

    def extra_repr(self) -> str:
        """What ``print`` shows between the brackets."""
        shapes = ", ".join(f"{run.repeats} of {run.rows} x {run.columns}" for run in self._runs)
        return f"blocks: {shapes}, rank={self.rank}, {super().extra_repr()}"


Subject = tuple[Run, ...]


def _shapes(blocks: Any) -> list[tuple[int, int]]:
    """Rows and columns as they were given. Raises `DataError` for something else than pairs of whole numbers."""
    try:
        return [(index(rows), index(columns)) for rows, columns in blocks]
    except (TypeError, ValueError):
        raise DataError(
            f"blocks must be a list of the rows and columns of each block, as [(16, 16)] * 4, not {quoted(blocks)}"
        ) from None


def _runs(shapes: Sequence[tuple[int, int]]) -> list[Run]:
    runs, row, column = [], 0, 0
    for (rows, columns), same in groupby(shapes):
        count = len(list(same))
        runs.append(Run(count, rows, columns, row, column))
        row, column = row + count * rows, column + count * columns
    return runs


def _as_they_are(subject: Subject, cores: Cores) -> Cores:
    return cores


def _blockwise(subject: Subject, cores: Cores, rows: Tensor, bias: Tensor | None) -> Tensor:
    runs = subject
    ((*tensors,),) = cores
    blocks, low = tensors[: len(runs)], tensors[len(runs) :]
    count = rows.shape[0]
    parts = []
    for run, block in zip(runs, blocks, strict=True):
        x = rows[:, run.column : run.column + run.repeats * run.columns].reshape(count, run.repeats, run.columns)
        made = torch.bmm(x.transpose(0, 1), block.transpose(1, 2))
        parts.append(made.transpose(0, 1).reshape(count, run.repeats * run.rows))
    total = parts[0] if len(parts) == 1 else torch.cat(parts, 1)
    if low:
        left, right = low
        total = total + (rows @ right.t()) @ left.t()
    return total if bias is None else total + bias.to(total.dtype)


def _matrix(subject: Subject, cores: Cores) -> Tensor:
    ((*tensors,),) = cores
    blocks, low = tensors[: len(subject)], tensors[len(subject) :]
    made = torch.block_diag(*(part for block in blocks for part in block.unbind(0)))
    return made + low[0] @ low[1] if low else made


def _ready(subject: Subject, cores: Cores) -> _lanes.Ready:
    ((*tensors,),) = cores
    blocks, low = tensors[: len(subject)], tensors[len(subject) :]
    rank = low[0].shape[1] if low else 0
    last = subject[-1]
    columns, rows = last.column + last.repeats * last.columns, last.row + last.repeats * last.rows
    return _lanes.ready(_moves(subject, rank), columns, rows, [*blocks, *(part[None] for part in reversed(low))])


@cache
def _moves(subject: Subject, rank: int) -> tuple[_lanes.Move, ...]:
    moves = []
    whole = ((0, 0),)
    for run in subject:
        begin = tuple((run.column + n * run.columns, run.row + n * run.rows) for n in range(run.repeats))
        summed, made = tuple(range(run.columns)), tuple(range(run.rows))
        moves.append(_lanes.Move(begin, whole, summed, made, _lanes.IN, _lanes.RESULT, False))
    if rank:
        columns, rows = begin[-1][0] + run.columns, begin[-1][1] + run.rows
        between = tuple(range(rank))
        moves.append(_lanes.Move(whole, whole, tuple(range(columns)), between, _lanes.IN, _lanes.BETWEEN, False))
        moves.append(_lanes.Move(whole, whole, between, tuple(range(rows)), _lanes.BETWEEN, _lanes.RESULT, True))
    return tuple(moves)


_LANES = Way("lanes", _ready, _lanes.run)
_BLOCKWISE = Way("blockwise", _as_they_are, _blockwise)
_MATERIALISED = Way("materialised", _matrix, materialised)


def _alternated(
    matrix: Tensor, runs: Sequence[Run], rank: int, covariance: Tensor | None, sweeps: int, tol: float
) -> tuple[list[Tensor], Tensor, Tensor]:
    """Blocks and the two factors of the low-rank part."""
    rows, columns = matrix.shape
    left, right = matrix.new_zeros(rows, rank), matrix.new_zeros(rank, columns)
    root = None
    if covariance is not None:
        values, vectors = torch.linalg.eigh(covariance)
        root = vectors * values.clamp(min=0).sqrt()
    before = math.inf
    blocks: list[Tensor] = []
    for _ in range(sweeps if rank else 1):
        rest = matrix - left @ right
        blocks = [_best_blocks(rest, run, covariance) for run in runs]
        parts = [part for block in blocks for part in block]
        rest = matrix - torch.block_diag(*parts)
        if rank:
            shown = rest if root is None else rest @ root
            basis, values, _ = torch.linalg.svd(shown, full_matrices=False)
            kept = min(rank, basis.shape[1])
            right[:kept] = basis[:, :kept].T @ rest
            norms = right.norm(dim=1)
            # What is not there keeps a left side: were both zero, there would never be a gradient of either.
            scale = torch.where(norms > 0, norms.sqrt(), 1.0)
            left[:, :kept] = basis[:, :kept]
            left, right = left * scale, right / scale[:, None]
            error = float(values[kept:].square().sum())
            if before - error <= tol * before:
                break
            before = error
    return blocks, left, right


def _best_blocks(rest: Tensor, run: Run, covariance: Tensor | None) -> Tensor:
    found = []
    for n in range(run.repeats):
        row, column = run.row + n * run.rows, run.column + n * run.columns
        mine, across = rest[row : row + run.rows], slice(column, column + run.columns)
        if covariance is None:
            found.append(mine[:, across])
            continue
        # The regression of what the rows should give on what comes into the block.
        within = covariance[across, across]
        found.append(mine @ covariance[:, across] @ torch.linalg.pinv(within, hermitian=True))
    return torch.stack(found)
