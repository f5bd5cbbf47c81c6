"""Constrained canonical polyadic decomposition: alternating optimisation, each mode by ADMM."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from tenfold import formats
from tenfold.decomposition._arrays import Whole, whole_array
from tenfold.decomposition._cp_factors import balanced
from tenfold.decomposition._cp_layout import Canonical
from tenfold.decomposition._error import relative_error
from tenfold.decomposition._normal import solve_normal
from tenfold.decomposition._objective import descend
from tenfold.decomposition._registry import Callback, Data, Decomposition, Progress, method
from tenfold.decomposition._two_groups import TwoGroups, factors_of, mode_numbers
from tenfold.decomposition.constraints import Constraint, in_ball, parse
from tenfold.decomposition.cp_als import cp_als
from tenfold.errors import DataError, StructureError, TenfoldError
from tenfold.network import Network
from tenfold.structure import Structure

# Steps of ADMM for one mode, and the squared relative residuals at which it ends before. Where no constraint is active
# there is no dual variable to measure a step by; then the factor is the measure.
_INNER, _ENOUGH, _SETTLED = 10, 1e-4, 1e-6
_RANDOM_STARTS = 3
_START_ENTRIES = 10**7
_START_SWEEPS = 10
# The unconstrained decomposition that one start is made of need not be a good one.
_WARM_SWEEPS, _WARM_TOL = 60, 1e-4


@method("cp_ao_admm", scales=True, nonnegative=True)
@torch.no_grad()
def cp_ao_admm(
    data: Data,
    structure: Structure,
    *,
    error: float | None = None,
    init: Network | None = None,
    seed: int = 0,
    max_sweeps: int = 500,
    tol: float = 1e-6,
    callback: Callback | None = None,
    constraints: Mapping[str | int, Constraint | str] | Constraint | str | None = None,
) -> Decomposition:
    """Canonical polyadic decomposition with a constraint on each mode: alternating optimisation with ADMM.

    What is minimised is ``|X - M|^2 / 2`` and what the factors pay, for data of norm one: weights mean the same
    whatever the units of the data are. The scale of the data then goes to the first mode that pays, or the first that
    may be of any size. Where a mode pays, the vectors of modes that could take its scale without paying are held
    within the unit ball; otherwise every penalty could be made as small as one likes.

    Each mode is updated by up to ten steps of ADMM, whose dual variable is kept for the next sweep. An update that
    does not lower the objective is replaced by a proximal gradient step, which does, also where the constraint is not
    convex. Modes without a constraint are least squares. Sweeps are accelerated like those of ``cp_als``.

    Args:
        data: the whole array, real, of the structure's shape.
        structure: one inner index that lies on every core; each output on one core.
        error: stop once the relative error is as small as this.
        init: where to start instead, a network of this structure; it is brought to the nearest one that is allowed.
        seed: for the random starts.
        max_sweeps: at most so many sweeps after the starts.
        tol: stop when two sweeps running change the root of the objective by less than this part of it.
        callback: called after each sweep.
        constraints: for modes, by the name of an index or the number of an axis, an object of
            ``tenfold.decomposition.constraints`` or its text, such as ``{"band": "smooth:0.1+nonnegative"}``; one
            without a mode is for all modes with outputs.

    Returns:
        The network, whose factors keep to the constraints, its true relative error, and the error after each sweep.

    Raises:
        StructureError: the structure is not CP, ``init`` is of another one, or a mode that is named is not there.
        TenfoldError: a constraint that is not known.
        DataError: complex, NaN or infinite entries, another shape, or observations.

    Cost: ``4 |X| R`` flops a sweep and two passes over the data.
    Paper: "A flexible and efficient algorithmic framework for constrained matrix and tensor factorization", 2016.
    """
    layout = Canonical.of(structure, "cp_ao_admm")
    chosen = _chosen(layout, constraints)
    if init is not None and init.structure != structure:
        raise StructureError(f"init has structure '{init.structure}', not '{structure}'")
    whole = whole_array(data, structure, "cp_ao_admm")
    if whole.tensor.is_complex():
        raise DataError(
            f"data is {whole.dtype}, but cp_ao_admm needs real numbers; give its absolute values or real part"
        )
    _check_sizes(chosen, whole.tensor.dtype)
    model = Model.of(chosen, whole)

    def network(state: Sequence[Tensor], finished: bool = True) -> Network:
        cores = layout.cores(state[: len(chosen)])
        if finished:
            return Network(structure, whole.finish(cores, 0 if model.carrier is None else layout.order[model.carrier]))
        return Network(structure, [core.contiguous() for core in cores])

    def result(state: Sequence[Tensor], errors: Sequence[float], stopped: str) -> Decomposition:
        made = network(state)
        if whole.scale == 1:
            return Decomposition(made, relative_error(data, made), tuple(errors), stopped)
        reached = relative_error(whole.tensor.reshape(structure.shape), network(state, finished=False))
        return Decomposition(made, reached, tuple(errors), stopped)

    tensor = layout.modes(whole.tensor)
    if whole.norm2 == 0:
        zeros = [tensor.new_zeros(layout.rank, extent) for extent in tensor.shape]
        return result(model.nearest(zeros), (), "exact")
    problem = Problem(TwoGroups.of(tensor), model, torch.Generator().manual_seed(seed))
    if init is None:
        start = _best_start(problem, layout, seed, error)
    else:
        start = factors_of(layout, [core.to(tensor) for core in init.cores])
        if whole.scale != 1:
            assert model.carrier is not None
            start[model.carrier] = start[model.carrier] / whole.scale
        start = problem.begin(start)
    errors: list[float] = []

    def report(state: list[Tensor], reached: float, number: int) -> None:
        errors.append(reached)
        if callback is not None:
            callback(Progress(reached, number, max_sweeps, lambda: network(state)))

    found = descend(problem.sweep, start, error=error, tol=tol, max_sweeps=max_sweeps, report=report)
    return result(found.state, errors, found.stopped)


def _chosen(
    layout: Canonical, constraints: Mapping[str | int, Constraint | str] | Constraint | str | None
) -> list[Constraint | None]:
    """The constraint of each mode."""
    chosen: list[Constraint | None] = [None] * len(layout.order)
    if constraints is None:
        return chosen
    if not isinstance(constraints, Mapping):
        with_outputs = [mode for mode, core in enumerate(layout.order) if len(layout.structure.cores[core].indices) > 1]
        for mode in with_outputs:
            chosen[mode] = _constraint(constraints)
        return chosen
    for name, given in constraints.items():
        (mode,) = mode_numbers(layout, [name], "constraints")
        if chosen[mode] is not None:
            raise TenfoldError(f"constraints has two for the mode of '{name}'; give one for each mode")
        chosen[mode] = _constraint(given)
    return chosen


def _constraint(given: object) -> Constraint:
    if isinstance(given, str):
        return parse(given)
    if not isinstance(given, Constraint):
        raise TenfoldError(f"constraints holds {given!r}; give objects of tenfold.decomposition.constraints or names")
    return given


def _check_sizes(chosen: Sequence[Constraint | None], dtype: torch.dtype) -> None:
    """Raise for numbers of constraints whose squares are out of range; bounds that are infinite are none."""
    largest = math.sqrt(torch.finfo(dtype).max)
    for constraint in chosen:
        for name, value in {} if constraint is None else vars(constraint).items():
            if isinstance(value, int | float) and largest < abs(value) < math.inf:
                raise TenfoldError(
                    f"constraint {constraint} has a {name} that is out of range for {dtype}; give at most {largest:.1e}"
                )


@dataclass(frozen=True)
class Model:
    """The constraints of the modes for data as they are: what weights count, and where the scale may go.

    Attributes:
        constraints: for each mode, or None.
        pays: by what the penalty of each mode is multiplied.
        held: the modes whose vectors may be no longer than one.
        carrier: the mode that the scale of the data goes to, if there is one.
    """

    constraints: Sequence[Constraint | None]
    pays: Sequence[float]
    held: frozenset[int]
    carrier: int | None

    @classmethod
    def of(cls, constraints: Sequence[Constraint | None], whole: Whole) -> Model:
        paying = [mode for mode, constraint in enumerate(constraints) if constraint is not None and constraint.degree]
        free = [mode for mode, constraint in enumerate(constraints) if constraint is None or not constraint.bounded]
        carrier = next(iter([*paying, *free]), None)
        if carrier is None and whole.scale != 1:
            raise DataError(
                f"data of size {whole.scale:g} is out of range where the constraints bound every mode; divide it first"
            )
        pays = []
        for mode, constraint in enumerate(constraints):
            degree = 0 if constraint is None else constraint.degree
            pays.append(whole.norm2 ** ((2 - degree) / 2 if mode == carrier else 1))
        return cls(constraints, pays, frozenset(free) - frozenset(paying) if paying else frozenset(), carrier)

    @property
    def scalable(self) -> bool:
        """Whether scale may be moved from any mode to any other."""
        return all(c is None or not (c.bounded or c.degree) for c in self.constraints)

    @property
    def paying(self) -> bool:
        return any(c is not None and c.degree for c in self.constraints)

    def prox(self, mode: int, rows: Tensor, step: float) -> Tensor:
        constraint = self.constraints[mode]
        if constraint is not None:
            rows = constraint.prox(rows, step * self.pays[mode])
        # The nearest point of a cone within a ball is that of the cone, shortened.
        return in_ball(rows, 1.0) if mode in self.held else rows

    def value(self, mode: int, rows: Tensor) -> float:
        constraint = self.constraints[mode]
        return 0.0 if constraint is None else self.pays[mode] * constraint.value(rows)

    def nearest(self, factors: Sequence[Tensor]) -> list[Tensor]:
        return [self.prox(mode, factor, 0.0) for mode, factor in enumerate(factors)]


class Inner(NamedTuple):
    """What ADMM found for one mode: the factor, its dual variable, and the steps it took."""

    factor: Tensor
    dual: Tensor
    steps: int


def admm(model: Model, mode: int, factor: Tensor, dual: Tensor, right: Tensor, gram: Tensor) -> Inner:
    """A factor that is allowed and lowers ``<x, gram x> / 2 - <right, x>`` with its penalty."""
    rank = len(gram)
    rho = float(gram.trace()) / rank
    if not rho > 0:
        return Inner(factor, dual, 0)
    # The multiplier outlives the step size: that changes from sweep to sweep.
    dual = dual / rho
    inverse = torch.linalg.inv(gram + rho * torch.eye(rank, dtype=gram.dtype, device=gram.device)).to(factor.dtype)
    found, steps = factor, 0
    while steps < _INNER:
        steps += 1
        free = inverse @ (right + rho * (found + dual))
        before, found = found, model.prox(mode, free - dual, 1 / rho)
        dual = dual + found - free
        gap, moved = _square(found - free), _square(found - before)
        size = _square(found)
        if gap <= _ENOUGH * size and moved <= max(_ENOUGH * _square(dual), _SETTLED * size):
            break
    own = gram.to(factor.dtype)

    def objective(rows: Tensor) -> float:
        rows64 = rows.double()
        return float((rows64 * (gram @ rows64 / 2 - right.double())).sum()) + model.value(mode, rows)

    reached = objective(factor)
    if objective(found) <= reached:
        return Inner(found, dual * rho, steps)
    bound = float(torch.linalg.eigvalsh(gram)[-1])
    careful = model.prox(mode, factor - (own @ factor - right) / bound, 1 / bound)
    return Inner(careful if objective(careful) <= reached else factor, dual * rho, steps)


def _square(rows: Tensor) -> float:
    return float(torch.linalg.vector_norm(rows)) ** 2


@dataclass(frozen=True)
class Problem:
    """A tensor to fit; states are the factors, then their dual variables."""

    groups: TwoGroups
    model: Model
    generator: torch.Generator = field(repr=False)

    def begin(self, factors: Sequence[Tensor]) -> list[Tensor]:
        """A state from factors that may not be allowed."""
        factors = self.model.nearest(factors)
        return [*factors, *[torch.zeros_like(factor) for factor in factors]]

    def sweep(self, state: Sequence[Tensor]) -> tuple[list[Tensor], float, float]:
        model, order = self.model, len(state) // 2
        # What the acceleration made may not be allowed.
        factors, duals = model.nearest(state[:order]), list(state[order:])
        self._revive(factors)

        def update(mode: int, right: Tensor, gram: Tensor) -> Tensor:
            if model.constraints[mode] is None and mode not in model.held:
                return solve_normal(gram, right)
            found, duals[mode], _ = admm(model, mode, factors[mode], duals[mode], right, gram)
            return found

        found, square = self.groups.sweep(factors, update)
        if model.scalable:
            even = balanced(found)
            for mode, (before, after) in enumerate(zip(found, even, strict=True)):
                old, new = (torch.linalg.vector_norm(f, dim=1, keepdim=True) for f in (before, after))
                duals[mode] = duals[mode] * torch.where(new > 0, old / new.clamp(min=torch.finfo(new.dtype).tiny), 1)
            found = even
        paid = sum(model.value(mode, factor) for mode, factor in enumerate(found))
        norm2 = self.groups.norm2
        return [*found, *duals], math.sqrt((square + 2 * paid) / norm2), math.sqrt(square / norm2)

    def _revive(self, factors: list[Tensor]) -> None:
        """Terms that are zero get random vectors in all modes but one, so that they can grow again; nothing changes.

        Where modes pay, a term may have died of its price.
        """
        if self.model.paying:
            return
        dead = torch.stack([~factor.any(1) for factor in factors])
        left = dead.int().argmax(0)
        for mode, factor in enumerate(factors):
            chosen = dead[mode] & (left != mode)
            if chosen.any():
                random = torch.rand(factor.shape, generator=self.generator, dtype=factor.dtype).to(factor.device)
                factors[mode] = torch.where(chosen[:, None], self.model.prox(mode, random, 0.0), factor)


def _best_start(problem: Problem, layout: Canonical, seed: int, error: float | None) -> list[Tensor]:
    """Of the unconstrained solution, brought to what is allowed, and random ones, the best a few sweeps on."""
    tensor, model = problem.groups.tensor, problem.model
    generator = torch.Generator().manual_seed(seed)
    free = cp_als(tensor, formats.cp(tensor.shape, layout.rank), seed=seed, max_sweeps=_WARM_SWEEPS, tol=_WARM_TOL)
    starts = [_turned([core.T for core in free.network.cores], model.carrier)]
    for _ in range(min(_RANDOM_STARTS, _START_ENTRIES // tensor.numel())):
        starts.append(
            [
                torch.rand(layout.rank, extent, generator=generator, dtype=tensor.dtype).to(tensor.device)
                for extent in tensor.shape
            ]
        )
    runs = []
    for start in starts:
        runs.append(descend(problem.sweep, problem.begin(start), error=error, tol=1e-7, max_sweeps=_START_SWEEPS))
        if runs[-1].stopped == "error":
            break
    return min(runs, key=lambda run: run.errors[-1]).state


def _turned(factors: Sequence[Tensor], carrier: int | None) -> list[Tensor]:
    """Vectors whose larger half is positive, with a largest entry of one but for the mode that takes the scale."""
    made, scale = [], torch.ones_like(factors[0][:, :1])
    for mode, factor in enumerate(factors):
        above = torch.linalg.vector_norm(factor.clamp(min=0), dim=1, keepdim=True)
        below = torch.linalg.vector_norm(factor.clamp(max=0), dim=1, keepdim=True)
        factor = factor * torch.where(above >= below, 1, -1)
        if mode != carrier:
            peak = factor.abs().amax(1, keepdim=True)
            peak = torch.where(peak > 0, peak, 1)
            factor, scale = factor / peak, scale * peak
        made.append(factor)
    if carrier is not None:
        made[carrier] = made[carrier] * scale
    return made
