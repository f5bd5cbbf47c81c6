"""Any structure, by least squares in one core after the other."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from tenfold.decomposition.als import als
from tenfold.nn.projection._registry import projection
from tenfold.nn.projection._sweeps import Approximation, refined, start
from tenfold.structure import Structure

_SWEEPS, _TOLERANCE = 400, 1e-7
# Random starts where cores are fixed, and the sweeps that each gets before the best goes on.
_STARTS, _FIRST = 3, 5


@projection("any", takes=lambda structure: True, exact=False, last=True)
def alternating(
    weight: Tensor,
    structure: Structure,
    root: Tensor | None,
    fixed: Mapping[int, Tensor] = MappingProxyType({}),
) -> list[Tensor]:
    """Alternating least squares of `tenfold.decomposition.als`, and with a covariance sweeps from its solution.

    The error of a sweep is never larger than that before, and what is found is a local optimum. Where all cores but one
    are ``fixed`` it is the least error there is, after one step; so it is for a hypercomplex layer of a named algebra.

    Cost of a sweep: a contraction of the matrix with the other cores, and the normal equations, for each core.
    Paper: "The alternating linear scheme for tensor optimization in the tensor train format", 2012.
    """
    if not fixed:
        cores = als(weight, structure, max_sweeps=_SWEEPS, tol=_TOLERANCE).network.cores
        return list(cores) if root is None else refined(weight, structure, root, cores)
    problem = Approximation(weight, [structure], root, [frozenset(fixed)])
    generator = torch.Generator().manual_seed(0)
    linear = sum(len(core.terms) for n, core in enumerate(structure.cores) if n not in fixed) <= 1
    tried = [
        problem.sweeps([start(structure, fixed, weight, generator)], most=_FIRST, tolerance=0.0)
        for _ in range(1 if linear else _STARTS)
    ]
    best = min(tried, key=problem.error)
    best = problem.sweeps(best, most=_SWEEPS, tolerance=_TOLERANCE)
    if any(len(core.terms) > 1 for n, core in enumerate(structure.cores) if n not in fixed):
        best = problem.newton(best, most=_SWEEPS, tolerance=_TOLERANCE)
    return best[0]
