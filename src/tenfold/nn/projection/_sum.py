"""Sums of structures: each takes what the others leave."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from tenfold.nn.projection._sweeps import Approximation
from tenfold.structure import Structure

# Rounds in which each structure is projected on what the others leave, at most and for large matrices, and then sweeps
# over all cores of all structures.
_ROUNDS, _LARGE_ROUNDS, _LARGE = 8, 2, 2**20
_SWEEPS, _LARGE_SWEEPS, _STEPS, _TOLERANCE = 30, 20, 50, 1e-4
# A squared relative error that nothing improves.
_NOTHING = 1e-24

One = Callable[[Tensor, Structure, Tensor | None, Mapping[int, Tensor]], list[Tensor]]


def project_sum(
    weight: Tensor,
    structures: Sequence[Structure],
    root: Tensor | None,
    fixed: Sequence[Mapping[int, Tensor]],
    one: One,
) -> list[list[Tensor]]:
    """The cores of a sum that is near, for each of its structures; the error never grows on the way.

    Each structure in turn is projected by its own method on the matrix less the others; then least squares in one core
    after the other, over all structures, and Gauss-Newton steps in all cores at once. A local optimum: the best of the
    one order and the other, and of the solution without the covariance. A large matrix gets one order.
    """
    problem = Approximation(weight, structures, root, [frozenset(each) for each in fixed])
    zero = [
        [each[n].to(weight) if n in each else weight.new_zeros(core.shape) for n, core in enumerate(structure.cores)]
        for structure, each in zip(structures, fixed, strict=True)
    ]
    forward = tuple(range(len(structures)))
    if weight.numel() > _LARGE:
        cores = _rounds(problem, zero, forward, fixed, one, _LARGE_ROUNDS)
        cores = problem.sweeps(cores, most=_LARGE_SWEEPS, tolerance=_TOLERANCE)
        twice = any(len(core.terms) > 1 for structure in structures for core in structure.cores)
        return problem.newton(cores, most=_LARGE_SWEEPS, tolerance=_TOLERANCE) if twice else cores
    starts = [_rounds(problem, zero, order, fixed, one, _ROUNDS) for order in (forward, forward[::-1])]
    if root is not None:
        starts.append(project_sum(weight, structures, None, fixed, one))
    found = []
    for start in starts:
        swept = problem.sweeps(start, most=_SWEEPS, tolerance=_TOLERANCE)
        found.append(problem.newton(swept, most=_STEPS, tolerance=_TOLERANCE))
        if problem.error(found[-1]) < _NOTHING:
            break
    return min(found, key=problem.error)


def _rounds(
    problem: Approximation,
    cores: list[list[Tensor]],
    order: Sequence[int],
    fixed: Sequence[Mapping[int, Tensor]],
    one: One,
    most: int,
) -> list[list[Tensor]]:
    error = problem.error(cores)
    for _ in range(most):
        before = error
        for term in order:
            others = [list(each) for each in cores]
            others[term] = [torch.zeros_like(core) for core in others[term]]
            trial = [list(each) for each in cores]
            left = problem.weight - problem.dense(others)
            trial[term] = one(left, problem.structures[term], problem.root, fixed[term])
            after = problem.error(trial)
            if after < error:
                cores, error = trial, after
        if not error < (1 - _TOLERANCE) * before:
            break
    return cores
