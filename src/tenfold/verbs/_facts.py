"""What a result says of its data beside the network."""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor

from tenfold._scales import times_power
from tenfold.contraction import contract
from tenfold.decomposition import Projected
from tenfold.network import Network
from tenfold.observations import Observations
from tenfold.structure import index_names
from tenfold.verbs._arrays import Prepared

# Modes longer than this have no spectrum in the record: its Gram matrix would cost more than the fit.
_SPECTRUM = 2048


def rescaled(network: Network, power: int) -> Network:
    """The network times ``2**power``, shared among its terms so that no core leaves the range of its dtype."""
    if power == 0:
        return network
    return network.replace([times_power(core, power / len(network.structure.terms)) for core in network.cores])


def observed_cells(ready: Prepared) -> int:
    """How many cells are known; the zeros of a sparse array are."""
    if isinstance(ready.data, Observations) and ready.data.rest == "unknown":
        return ready.data.distinct
    return ready.cells


def spectra_of(ready: Prepared, searched: Any) -> dict[str, tuple[float, ...]]:
    """Singular values along each axis, from the Gram matrix of the unfolding."""
    if isinstance(searched, Projected):
        known = zip(ready.dims, index_names(ready.dims), strict=True)
        return {dim: searched.singular_values(mode) for dim, mode in known if mode in searched.reduced.spectra}
    if not isinstance(ready.scaled, Tensor):
        return {}
    spectra = {}
    largest = sys.float_info.max
    names = [str(axis) for axis in range(len(ready.shape))]
    for axis, dim in enumerate(ready.dims):
        if not 1 < ready.shape[axis] <= _SPECTRUM:
            continue
        left = [name if n != axis else "row" for n, name in enumerate(names)]
        right = [name if n != axis else "column" for n, name in enumerate(names)]
        gram = contract([(left, ready.scaled), (right, ready.scaled.conj())], ("row", "column"))
        values = torch.linalg.eigvalsh(gram.to(torch.promote_types(gram.dtype, torch.float64)))
        values = times_power(values.clamp(min=0).sqrt().flip(0), ready.power)
        spectra[dim] = tuple(values.clamp(max=largest).tolist())
    return spectra
