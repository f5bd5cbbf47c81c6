"""First-order descent in all cores at once, for any structure."""

from __future__ import annotations

import torch
from torch import Tensor

from tenfold.decomposition._iterate import Sweep, iterate
from tenfold.decomposition._loss import Loss
from tenfold.decomposition._registry import Callback, Data, Decomposition, method
from tenfold.network import Network
from tenfold.structure import Structure

# Steps in one sweep; the learning rate falls from the first number to the second as a cosine over all sweeps.
_STEPS = 100
_RATES = (1e-2, 1e-4)


@method("adam", takes=("array", "sparse", "missing"))
def adam(
    data: Data,
    structure: Structure,
    *,
    error: float | None = None,
    init: Network | None = None,
    seed: int = 0,
    max_sweeps: int = 50,
    tol: float = 1e-6,
    callback: Callback | None = None,
) -> Decomposition:
    """Adam on the squared error of all cores together, the learning rate falling as a cosine.

    What most papers compare with; alternating least squares and L-BFGS need far fewer passes over the data. The data is
    scaled to unit root mean square and the cores are balanced, so the learning rates fit data of any size. Works in
    double precision whatever the data's own.

    Args:
        data: a dense tensor, sparse data (only its entries are read) or partly known data.
        structure: any structure of the data's shape.
        error: stop when the relative error is this small.
        init: where to start, instead of at random.
        seed: of the random start; equal seeds give equal results.
        max_sweeps: sweeps of 100 steps at most; the learning rate is planned for all of them.
        tol: stop when two sweeps in a row change the error by less than this, relatively.
        callback: called after every sweep.

    Returns:
        The best network seen after a sweep, in the data's dtype. A zero tensor gives zero cores and error 0.

    Raises:
        DataError: the data has another shape than the structure, or NaN or infinite entries.
        StructureError: ``init`` has another structure.

    Cost of a step: about three times the contraction of the network with the data. Paper: "Adam: a method for
    stochastic optimization", 2015.
    """
    loss = Loss(data, structure, init=init, double=True)
    return iterate(
        loss,
        lambda cores: _sweeps(loss, cores, max_sweeps),
        error=error,
        init=init,
        seed=seed,
        max_sweeps=max_sweeps,
        tol=tol,
        callback=callback,
        several=False,
    )


def _sweeps(loss: Loss, cores: list[Tensor], max_sweeps: int) -> Sweep:
    moving = [core.clone().requires_grad_() for core in cores]
    optimizer = torch.optim.Adam(moving, lr=_RATES[0])
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max_sweeps * _STEPS, eta_min=_RATES[1])

    def sweep() -> tuple[list[Tensor], float]:
        for _ in range(_STEPS):
            optimizer.zero_grad()
            loss.backward(moving)
            optimizer.step()
            schedule.step()
        found = [core.detach().clone() for core in moving]
        return found, loss.measure(found)

    return sweep
