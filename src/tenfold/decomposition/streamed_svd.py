"""Arrays larger than memory: projections while they are read box by box, then any method on what is left."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch

from tenfold._blocks import Blocks
from tenfold.decomposition._factored import Factored, arranged, groups_of
from tenfold.decomposition._passes import Watch
from tenfold.decomposition._registry import Callback, Data, Decomposition, Progress, choose, find, method
from tenfold.decomposition._stream import Stream
from tenfold.errors import DataError, TenfoldError
from tenfold.network import Network
from tenfold.structure import Structure

# Squares of norms are exact to about 1e-15 of them; for errors below this the residual itself is summed.
_CANCELLED = 1e-5
# How many ways to spend what is left of an error on the branches of a tree are compared.
_TRIES = 4


@method("streamed_svd", takes=("blocks",), finds_ranks=True)
@torch.no_grad()
def streamed_svd(
    data: Data | Blocks,
    structure: Structure,
    *,
    error: float | None = None,
    init: Network | None = None,
    seed: int = 0,
    max_sweeps: int | None = None,
    tol: float | None = None,
    callback: Callback | None = None,
    memory: int | str | None = None,
    checkpoint: str | Path | None = None,
    client: Any = None,
    inner: str | None = None,
    watch: Watch | None = None,
) -> Decomposition:
    """Any structure of an array that does not fit into memory: projected while it is read, then fitted as usual.

    In a first pass the Gram matrices of some groups of indices are summed box by box, in a second one the array is
    projected on their leading eigenvectors. Groups are single indices that lie on one core, and in trees all that one
    bond cuts off. Where a Gram matrix would be large, its product with random vectors is summed instead. What is left
    of the array is decomposed in memory by the method made for the structure, and its cores take up the bases. Squares
    of what the projections leave out are known exactly; where that is not enough, a third pass sums the residual.

    Sums are made in double precision and in a fixed order: the same call gives the same result, interrupted or not, on
    one process or on a cluster (there to rounding, where threads share the work of a product otherwise).

    Args:
        data: the array, as `Blocks`.
        structure: with ranks; with ``error``, a tree's ranks are the largest allowed.
        error: relative Frobenius error to reach.
        init, max_sweeps, tol: for the method that works in memory.
        seed: fixes random vectors and starts.
        callback: told the progress of the method that works in memory.
        memory: how much may be used, as "2 GB" or a number of bytes; by default half of what is free.
        checkpoint: a folder for what is known so far; the same call goes on from there.
        client: a `dask.distributed.Client` that reads and sums.
        inner: the method that works in memory; by default the one for the structure's format.
        watch: told the name of a pass, the boxes done, and how many there are.

    Returns:
        The network, its true error, and how the method that works in memory ended.

    Raises:
        DataError: NaN or infinite entries, another shape, or an array that is in memory.
        TenfoldError: the memory is too little, or the checkpoint is of another run.
        FileError: the checkpoint cannot be written.

    Cost: two or three times reading all; a group of ``n`` rows costs ``n`` flops for each entry, or four times the
    number of random vectors.
    Papers: "A multilinear singular value decomposition", 2000; "Fixed-rank approximation of a positive-semidefinite
    matrix from streaming data", 2017.
    """
    if not isinstance(data, Blocks):
        raise DataError("method 'streamed_svd' is for arrays that are read box by box; leave out method")
    if data.shape != structure.shape:
        raise DataError(f"data has shape {data.shape}, but '{structure}' makes {structure.shape}")
    settings = {"structure": structure.to_json(), "error": error, "inner": inner}
    stream = Stream(data, memory=memory, checkpoint=checkpoint, client=client, watch=watch, seed=seed, about=settings)
    entry = choose(structure, torch.empty(0)) if inner is None else find(inner)
    if "array" not in entry.takes:
        raise TenfoldError(f"method '{entry.name}' takes no whole arrays, and so not what fits into memory of this one")
    allowed = error**2 if error is not None and entry.finds_ranks else None
    reduced = stream.reduce(structure, groups_of(structure), allowed=allowed, exact=True)
    factored = Factored(structure, reduced)
    core = reduced.core
    left = None if error is None else factored.error_left(error)
    if left is not None and not factored.inside:
        left *= math.sqrt(0.5)  # the branches that are one core for now will want the rest

    def finished(network: Network, rounding: float | None = None) -> Network:
        whole = factored.expand(network)
        if rounding is not None:
            whole = whole.round(error=rounding)
        elif not factored.inside:
            whole = whole.round(ranks={bond: structure.sizes[bond] for bond in structure.inner_indices})
        return arranged(whole, structure, padded=error is None).to(data.dtype)

    def report(state: Progress) -> None:
        if callback is not None:
            reached = factored.error(state.error)
            callback(Progress(reached, state.sweep, state.max_sweeps, lambda: finished(state.network())))

    given: dict[str, Any] = {"max_sweeps": max_sweeps, "tol": tol}
    given = {name: value for name, value in given.items() if value is not None}
    if init is not None:
        given["init"] = factored.project(init)
    done = entry.function(core, factored.structure, error=left, seed=seed, callback=report, **given)
    reached = factored.error(done.error)
    if factored.inside and reached >= _CANCELLED:
        network = finished(done.network)
    elif factored.inside or error is None:
        network = finished(done.network)
        (reached,) = stream.residuals([network], reduced)
    else:
        # What rounding the branches adds is between the sum of the errors and that of their squares.
        most = math.sqrt(max(error**2 - reached**2, 0.0))
        least = max(error - reached, 0.0)
        tries = [finished(done.network, least + (most - least) * n / (_TRIES - 1)) for n in range(_TRIES)]
        found = zip(stream.residuals(tries, reduced), tries, strict=True)
        reached, network = min(found, key=lambda item: (item[0] > error, item[1].parameters))
    return Decomposition(network, reached, (*map(factored.error, done.errors[:-1]), reached), done.stopped)
