"""Missing cells filled in by the network itself, again and again."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from tenfold.decomposition import _anderson
from tenfold.decomposition._error import relative_error, split_axes
from tenfold.decomposition._registry import Callback, Data, Decomposition, Progress, choose, find, method
from tenfold.errors import DataError, StructureError, TenfoldError
from tenfold.network import Network
from tenfold.observations import Observations
from tenfold.structure import Structure

# Random starts of the inner method in the first round, if it has such.
_STARTS = 1


@method("em_imputation", takes=("missing",))
def em_imputation(
    data: Data,
    structure: Structure,
    *,
    error: float | None = None,
    init: Network | None = None,
    seed: int = 0,
    max_sweeps: int = 500,
    tol: float = 1e-6,
    callback: Callback | None = None,
    inner: str | None = None,
    inner_sweeps: int = 1,
) -> Decomposition:
    """Expectation maximisation: fill what is missing from the network, fit the network to the whole array, repeat.

    The filled array is fitted by a method for whole arrays, from where the last network was, so BLAS does the work and
    any structure for which such a method exists can have missing cells. Each round lowers the error over what is
    observed; the rounds are accelerated by Anderson's method on the missing cells. With weights, a cell of weight w is
    filled with ``w`` parts of its value and ``1 - w`` parts of the network's, weights being relative to the largest. At
    its best where less than a third is missing; the array is made dense.

    Args:
        data: partly known data.
        structure: any structure of the data's shape.
        error: stop when the relative error over what is observed is this small.
        init: where to start, instead of at the mean in every missing cell.
        seed: of the inner method.
        max_sweeps: rounds at most.
        tol: stop when two rounds in a row change the error by less than this, relatively.
        callback: called after every round.
        inner: the method for whole arrays; by default the one for the structure's format.
        inner_sweeps: its sweeps in each round.

    Returns:
        The network with the smallest error over what is observed, in the data's dtype.

    Raises:
        DataError: the data is a whole or sparse array, or of another shape.
        StructureError: ``init`` has another structure.
        TenfoldError: the inner method does not take whole arrays.

    Cost of a round: ``inner_sweeps`` sweeps of the inner method on the whole array, and the network at every cell.
    Paper: "Scalable tensor factorizations for incomplete data", 2011.
    """
    if not isinstance(data, Observations) or data.rest == "zero":
        raise DataError(
            "method 'em_imputation' needs observations of which the rest is unknown; 'als' takes the others"
        )
    if init is not None and init.structure != structure:
        raise StructureError(f"init has structure {init.structure!r}, not {structure!r}")
    for name, value, least in (("max_sweeps", max_sweeps, 1), ("inner_sweeps", inner_sweeps, 1), ("tol", tol, 0)):
        if not value >= least:
            raise TenfoldError(f"{name} must be at least {least}, not {value}")
    split_axes(data, structure)
    norm = data.norm()
    if norm == 0:
        zeros = [torch.zeros(core.shape, dtype=data.dtype, device=data.device) for core in structure.cores]
        return Decomposition(Network(structure, zeros), 0.0, (), "exact")
    filled = _Filled(data, structure, norm)
    entry = choose(structure, filled.values) if inner is None else find(inner)
    if "array" not in entry.takes:
        raise TenfoldError(f"inner method '{entry.name}' does not take whole arrays; leave inner out")
    # The first array is filled with its mean: how well networks fit that is worth no search.
    options: dict[str, Any] = {"seed": seed, **({"starts": _STARTS} if "starts" in entry.options else {})}
    factor = filled.scale ** (1 / len(structure.terms))
    latest = (
        None if init is None else Network(structure, [core.to(filled.values.dtype) / factor for core in init.cores])
    )
    best: list[tuple[float, Network]] = []
    errors: list[float] = []

    def result(network: Network) -> Network:
        return Network(structure, [(core * factor).to(data.dtype) for core in network.cores])

    def round_(state: list[Tensor]) -> tuple[list[Tensor], float]:
        nonlocal latest
        array = filled.with_missing(state[0])
        # Always on from the best network: one that Anderson's method led astray is forgotten.
        start = best[0][1] if best else latest
        found = entry.function(array, structure, init=start, max_sweeps=inner_sweeps, tol=0.0, **options).network
        dense = found.dense().to(array.dtype)
        reached = filled.error(dense)
        if not best or reached <= best[0][0]:
            best[:] = [(reached, found)]
        errors.append(best[0][0])
        if callback is not None:
            callback(Progress(best[0][0], len(errors), max_sweeps, lambda: result(best[0][1])))
        return [filled.missing(dense)], reached

    first = filled.values if latest is None else latest.dense()
    done = _anderson.iterate(round_, [filled.missing(first)], error=error, tol=tol, max_sweeps=max_sweeps)
    network = result(best[0][1])
    return Decomposition(network, relative_error(data, network), tuple(errors), done.stopped)


class _Filled:
    """The array with its missing cells at the mean, and what of each cell is known.

    Values are divided by their root mean square; ``share`` is each cell's weight over the largest, 0 where nothing is
    known.
    """

    def __init__(self, data: Observations, structure: Structure, norm: float) -> None:
        cells = data if data.distinct == len(data) else data.coalesce("mean")
        weights = torch.ones_like(cells.values.real, dtype=torch.float64)
        if cells.weights is not None:
            weights = cells.weights.double()
        dtype = torch.complex128 if data.dtype.is_complex else torch.float64
        total = len(data) if data.weights is None else float(data.weights.double().sum())
        self.scale = norm / math.sqrt(total)
        values = cells.values.to(dtype) / self.scale
        mean = (weights * values).sum() / weights.sum()
        place, shape = cells.linear(), structure.shape
        self.known: Tensor = mean.repeat(structure.size).index_copy_(0, place, values).reshape(shape)
        share = weights.new_zeros(structure.size).index_copy_(0, place, weights / weights.max())
        self.share: Tensor = share.reshape(shape)
        # Weights of a repeated cell add up; what its values differ by among themselves no network can fit.
        self.total = float((weights * values.abs().square()).sum())
        self.largest = float(weights.max())
        self.values = self.known
        # Places rather than a mask, which would be looked through each time.
        self.partial = (self.share.reshape(-1) < 1).nonzero()[:, 0]
        part = self.share.reshape(-1)[self.partial]
        self.given, self.lacking = part * self.known.reshape(-1)[self.partial], 1 - part

    def missing(self, dense: Tensor) -> Tensor:
        """The cells of which something is missing."""
        return dense.reshape(-1).index_select(0, self.partial)

    def with_missing(self, cells: Tensor) -> Tensor:
        filled = torch.addcmul(self.given, self.lacking, cells)
        return self.known.reshape(-1).index_copy(0, self.partial, filled).reshape(self.known.shape)

    def error(self, dense: Tensor) -> float:
        apart = (self.known - dense).reshape(-1)
        square = torch.dot(self.share.reshape(-1), (apart.abs() if apart.is_complex() else apart).square())
        return math.sqrt(float(square) * self.largest / self.total)
