"""Regularised least squares, row by row, for arrays with missing cells: the objective and one sweep."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from tenfold.decomposition._loss import Loss, balance
from tenfold.decomposition._masked import Masked, worthwhile
from tenfold.decomposition._solve import conjugate_gradient, solve

# How much less the mean of the rows is pulled to zero than the rows are pulled to their mean.
_MEAN = 1e-2
# Ridges of the solver itself, relative to the diagonal: without a ridge of ours, and with one.
_TINY = 1e-12
_ROUNDING = 1e-15
# Normal matrices with more entries than this (128 MiB) are applied instead of made.
_GRAM_ENTRIES = 2**24
_CG_TOLERANCE = 1e-9
_CG_ITERATIONS = 60

System = tuple[slice, Tensor, Tensor, Tensor]
Response = tuple[slice, Tensor]


class Ridge:
    """``J = |X - N|^2 / n + ridge sum_c (sum_i (n_i / n) |a_ci - m_c|^2 + |m_c|^2 / 100)`` over what is observed.

    ``a_ci`` are the rows of core c (a row for each value of its output indices), ``n_i`` the weight of the cells that
    read row i, ``n`` that of all, and ``m_c`` the mean of the rows, itself fitted; a core with no output index or with
    one row is all mean. The data is divided by its root mean square. As ``ridge`` nears one the network becomes
    constant, the mean of the data; a row that no cell reads is the mean row.

    Args:
        loss: of partly known data, for a structure that uses every core once.
    """

    def __init__(self, loss: Loss) -> None:
        assert loss.cells is not None
        assert loss.gram_weights is not None
        self.loss, self.cells, self.weights = loss, loss.cells, loss.gram_weights
        self.numbers = loss.weighted_values()
        self.masked = Masked(self.cells, self.weights, self.numbers) if worthwhile(self.cells) else None
        self.shares: list[Float[Tensor, " g"]] = []
        for place in range(len(loss.structure.terms)):
            if self.masked is not None:
                self.shares.append(self.masked.sums(place) / loss.total)
                continue
            rows = math.prod(loss.structure.sizes[i] for i in self.cells.outer(place))
            share = torch.zeros(rows, dtype=torch.float64, device=loss.device)
            self.shares.append(share.index_add_(0, self.cells.rows(place), self.weights) / loss.total)

    def sweep(self, cores: Sequence[Tensor], ridge: float) -> tuple[list[Tensor], float, float]:
        """Every core once: the new cores, their relative error and ``J``. Neither makes ``J`` larger."""
        structure = self.loss.structure
        current = list(cores)
        square = math.nan
        for place in range(len(structure.terms)):
            columns = math.prod(structure.sizes[i] for i in self.cells.inner(place))
            if columns**2 > _GRAM_ENTRIES:
                square = self._iterative_update(current, place, ridge)
            else:
                square = self._update(current, place, ridge)
        penalty = 0.0
        if ridge:
            current, penalty = self._balanced(current)
        else:
            current = balance(structure, current)
        error = math.sqrt(max(square / self.loss.total, 0.0))
        if self.loss.cancelled(error):
            error = self.loss.error(current)
        return current, error, error**2 + ridge * penalty

    def penalties(self, cores: Sequence[Tensor]) -> list[float]:
        """What each core adds to ``J``, over ``ridge``."""
        found = []
        for place, number in enumerate(self.loss.structure.term_core):
            table, share = self.cells.table(cores[number], place), self.shares[place]
            if len(table) == 1:
                found.append(_MEAN * float(table.abs().square().sum()))
                continue
            # The mean that is best for the rows as they are.
            mean = share.to(table.dtype) @ table / (1 + _MEAN)
            apart = (share[:, None] * (table - mean).abs().square()).sum()
            found.append(float(apart + _MEAN * mean.abs().square().sum()))
        return found

    def _balanced(self, cores: Sequence[Tensor]) -> tuple[list[Tensor], float]:
        """Cores that make the same tensor with the smallest sum of penalties, all of them equal, and that sum."""
        penalties = self.penalties(cores)
        if not all(value > 0 and math.isfinite(value) for value in penalties):
            return list(cores), sum(penalties)
        level = sum(map(math.log, penalties)) / len(penalties)
        factors = dict(
            zip(self.loss.structure.term_core, [(level - math.log(value)) / 2 for value in penalties], strict=True)
        )
        made = [core * math.exp(factors[number]) for number, core in enumerate(cores)]
        return made, len(penalties) * math.exp(level)

    def _update(self, cores: list[Tensor], place: int, ridge: float) -> float:
        """The rows of one core and their mean, together the least of ``J``; returns ``|X - N|^2``."""
        number = self.loss.structure.term_core[place]
        old, share = self.cells.table(cores[number], place), self.shares[place]
        columns = old.shape[1]
        new = torch.empty_like(old)
        pull = ridge * self.loss.total * share  # each row's own ridge
        if len(old) == 1:
            pull = pull * _MEAN
        mean = torch.zeros(columns, dtype=old.dtype, device=old.device)
        parts: Iterable[System] = self._systems(cores, place)
        responses: list[Response] = []
        if ridge and len(old) > 1:
            # Where the systems are few enough they are made and solved once.
            if len(old) * columns**2 <= _GRAM_ENTRIES:
                parts = list(parts)
                responses = [self._response(part, pull) for part in parts]
                mean = self._mean(responses, pull, columns)
            else:
                mean = self._mean((self._response(part, pull) for part in parts), pull, columns)
                parts = self._systems(cores, place)
        square = self.loss.total
        for block, (part, gram, right, count) in enumerate(parts):
            if responses:
                known = responses[block][1]
                to_gram, to_right = known[:, :, :-1], known[:, :, -1:]
                after = mean[:, None] + to_right - (to_gram @ mean)[:, :, None]
            elif ridge:
                matrix = gram.clone()
                matrix.diagonal(dim1=1, dim2=2).add_(pull[part, None])
                after = mean[:, None] + solve(matrix, (right - gram @ mean)[:, :, None], _ROUNDING)
            else:
                # Rows with fewer cells than unknowns get the solution of least norm; for the others the correction is
                # solved for, so that the solver's own ridge damps the step and not the row.
                before = old[part, :, None] * (count >= columns)[:, None, None]
                after = before + solve(gram, right[:, :, None] - gram @ before, _TINY)
            new[part] = after.squeeze(2)
            square += float(torch.sum(after.conj() * (gram @ after - 2 * right[:, :, None])).real)
        unseen = share == 0
        if len(old) > 1 and bool(unseen.any()):
            new[unseen] = share.to(new.dtype) @ new
        cores[number] = self.cells.untable(new, place)
        return square

    def _systems(self, cores: list[Tensor], place: int) -> Iterator[System]:
        if self.masked is None:
            return self.cells.systems(cores, place, self.weights, self.numbers)
        gram, right = self.masked.system(cores, place)
        return iter([(slice(0, len(gram)), gram, right, self.masked.counts(place))])

    def _response(self, system: System, pull: Float[Tensor, " g"]) -> Response:
        """Rows, and ``(G + pull)^-1`` times each column of G and the right-hand side of each."""
        part, gram, numbers, _ = system
        matrix = gram.clone()
        matrix.diagonal(dim1=1, dim2=2).add_(pull[part, None])
        return part, solve(matrix, torch.cat([gram, numbers[:, :, None]], 2), _ROUNDING)

    def _mean(self, responses: Iterable[Response], pull: Float[Tensor, " g"], columns: int) -> Shaped[Tensor, " k"]:
        """The mean row that is best together with the rows, which depend on it linearly."""
        left = torch.zeros(columns, columns, dtype=self.loss.dtype, device=self.loss.device)
        left.diagonal().add_(_MEAN * float(pull.sum()))
        right = torch.zeros(columns, 1, dtype=self.loss.dtype, device=self.loss.device)
        for part, response in responses:
            both = response * pull[part, None, None]
            left += both[:, :, :-1].sum(0)
            right += both[:, :, -1:].sum(0)
        return solve(left[None], right[None], _ROUNDING)[0, :, 0]

    def _iterative_update(self, cores: list[Tensor], place: int, ridge: float) -> float:
        """The same by conjugate gradients for a core with very many unknowns in a row, the mean held."""
        loss = self.loss
        number = loss.structure.term_core[place]
        old, share = self.cells.table(cores[number], place), self.shares[place].to(loss.dtype)
        mean = share @ old / (1 + _MEAN) if len(old) > 1 else torch.zeros_like(old[0])
        pull = (ridge * loss.total * share * (_MEAN if len(old) == 1 else 1.0))[:, None]

        def apply(direction: Tensor) -> Tensor:
            table = self.cells.table(direction, place)
            return loss.normal(cores, number, direction) + self.cells.untable(pull * table, place)

        right = loss.right(cores, place)
        target = right + self.cells.untable(pull * mean, place)
        start = cores[number]
        change = conjugate_gradient(apply, target - apply(start), tolerance=_CG_TOLERANCE, iterations=_CG_ITERATIONS)
        cores[number] = start + change
        image = loss.normal(cores, number, cores[number])
        return loss.total + float(torch.sum(cores[number].conj() * (image - 2 * right)).real)
