"""Missing cells: what the methods predict of a tenth that nobody saw."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from benchmarks import data, peers
from benchmarks.harness import Case, Contender
from tenfold import formats
from tenfold.decomposition import find, relative_error
from tenfold.network import Network
from tenfold.observations import Observations
from tenfold.structure import Structure

TITLE = "Missing cells of a noisy network: error on the cells that were not seen"
# Of the peers; tenfold's methods get twice as many, some of them for choosing a ridge.
SWEEPS, FEW = 200, 8
OWN = ("als_observed", "em_imputation", "als")


def cases(smoke: bool) -> Iterator[Case]:
    """Planted CP and Tucker with 10 % noise, of which a tenth or the half is missing."""
    shape, rank = ((10, 11, 12), 2) if smoke else ((40, 40, 40), 5)
    sweeps = FEW if smoke else SWEEPS
    for family, structure in (("cp", formats.cp(shape, rank)), ("tucker", formats.tucker(shape, rank))):
        for missing in (0.5,) if smoke else (0.1, 0.5):
            tensor, _ = data.planted(structure)
            known = torch.rand(shape, generator=torch.Generator().manual_seed(3)) >= missing
            yield Case(
                f"{family} {'x'.join(map(str, shape))}, rank {rank}, {missing:.0%} missing",
                int(known.sum()),
                [
                    *(_own(name, tensor, known, structure, sweeps) for name in OWN),
                    *_tensorly(family, tensor, known, rank, sweeps),
                ],
                # Where cells are left out the same minimum is not reached to the last digit of a prediction.
                agreement=0.02,
            )


def _own(name: str, tensor: Tensor, known: Tensor, structure: Structure, sweeps: int) -> Contender:
    observed = Observations(known.nonzero(), tensor[known], tuple(tensor.shape))
    unseen = Observations((~known).nonzero(), tensor[~known], tuple(tensor.shape))

    def run() -> Network:
        return find(name).function(observed, structure, max_sweeps=2 * sweeps, tol=1e-6).network

    return Contender(f"tenfold {name}", run, lambda network: relative_error(unseen, network))


def _tensorly(family: str, tensor: Tensor, known: Tensor, rank: int, sweeps: int) -> list[Contender]:
    """Both backends; their masked methods fill in as well."""
    filled = torch.where(known, tensor, 0)

    def call(tl: Any, x: Any) -> Any:
        mask = tl.tensor(known.double().numpy())
        if family == "cp":
            return tl.decomposition.parafac(x, rank, n_iter_max=sweeps, init="random", random_state=0, mask=mask)
        return tl.decomposition.tucker(x, [rank] * 3, n_iter_max=sweeps, tol=1e-6, random_state=0, mask=mask)

    def dense(tl: Any, result: Any) -> Any:
        return tl.cp_to_tensor(result) if family == "cp" else tl.tucker_to_tensor(result)

    made = peers.tensorly("parafac(mask=)" if family == "cp" else "tucker(mask=)", filled, call, dense)
    return [Contender(each.name, each.run, _unseen(each, tensor, known, dense), each.missing) for each in made]


def _unseen(
    contender: Contender, tensor: Tensor, known: Tensor, dense: Callable[[Any, Any], Any]
) -> Callable[[Any], float]:
    def error(result: Any) -> float:
        module, _ = peers.load("tensorly")
        backend = "pytorch" if "pytorch" in contender.name else "numpy"
        assert module is not None
        with module.backend_context(backend):
            found = torch.as_tensor(dense(module, result))
        return float((found - tensor)[~known].norm() / tensor[~known].norm())

    return error
