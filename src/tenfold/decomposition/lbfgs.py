"""Quasi-Newton descent in all cores at once, for any structure."""

from __future__ import annotations

import torch
from torch import Tensor

from tenfold.decomposition._iterate import Sweep, iterate
from tenfold.decomposition._loss import Loss
from tenfold.decomposition._registry import Callback, Data, Decomposition, method
from tenfold.network import Network
from tenfold.structure import Structure

# Evaluations of the error and its gradient in one sweep, and steps that the curvature is remembered from.
_EVALUATIONS = 20
_HISTORY = 20
# Relative error below which the residual itself is squared: its digits have begun to cancel in the norms. Data with few
# entries can afford the dense residual from the start.
_RESIDUAL = 1e-3
_FEW = 2**20
# The search starts afresh, in units of the error reached, whenever that has fallen by this factor: torch ignores
# curvature below an absolute threshold.
_RESTART = 1e-2


@method("lbfgs", takes=("array", "sparse", "missing"))
def lbfgs(
    data: Data,
    structure: Structure,
    *,
    error: float | None = None,
    init: Network | None = None,
    seed: int = 0,
    max_sweeps: int = 200,
    tol: float = 1e-6,
    callback: Callback | None = None,
) -> Decomposition:
    """L-BFGS with a strong Wolfe line search on the squared error of all cores together.

    Slower a sweep than alternating least squares, but not led astray where cores are used several times or where single
    cores can only move together. Works in double precision whatever the data's own.

    Args:
        data: a dense tensor, sparse data (only its entries are read) or partly known data.
        structure: any structure of the data's shape.
        error: stop when the relative error is this small.
        init: where to start, instead of at random.
        seed: of the random starts; equal seeds give equal results.
        max_sweeps: sweeps of 20 evaluations at most, those of discarded starts included.
        tol: stop when two sweeps in a row change the error by less than this, relatively.
        callback: called after every sweep.

    Returns:
        The best network seen, in the data's dtype. A zero tensor gives zero cores and error 0.

    Raises:
        DataError: the data has another shape than the structure, or NaN or infinite entries.
        StructureError: ``init`` has another structure.

    Cost of an evaluation: about three times the contraction of the network with the data. Paper: "On the limited memory
    BFGS method for large scale optimization", 1989.
    """
    loss = Loss(data, structure, init=init, double=True)
    return iterate(
        loss,
        lambda cores: _sweeps(loss, cores),
        error=error,
        init=init,
        seed=seed,
        max_sweeps=max_sweeps,
        tol=tol,
        callback=callback,
    )


def _sweeps(loss: Loss, cores: list[Tensor]) -> Sweep:
    moving = [core.clone().requires_grad_() for core in cores]
    few = loss.data is not None and loss.data.numel() <= _FEW
    residual, unit = few, 1.0

    def optimizer() -> torch.optim.LBFGS:
        return torch.optim.LBFGS(
            moving,
            max_iter=_EVALUATIONS,
            max_eval=_EVALUATIONS,
            history_size=_HISTORY,
            tolerance_grad=0,
            tolerance_change=0,
            line_search_fn="strong_wolfe",
        )

    search = optimizer()

    def closure() -> float:
        search.zero_grad()
        value = loss.backward(moving, residual=residual)
        for core in moving:
            if core.grad is not None:
                core.grad /= unit**2
        return value / unit**2

    def sweep() -> tuple[list[Tensor], float]:
        nonlocal search, residual, unit
        search.step(closure)
        found = [core.detach().clone() for core in moving]
        error = loss.measure(found)
        if 0 < error < _RESTART * unit:
            residual, unit, search = few or error < _RESIDUAL, error, optimizer()
        return found, error

    return sweep
