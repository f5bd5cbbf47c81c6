"""Core consistency: whether data is as trilinear as a CP network says."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tenfold.components._terms import terms_of
from tenfold.errors import DataError
from tenfold.network import Network
from tenfold.observations import Observations


def core_consistency(data: Tensor | Observations | Any, network: Network) -> float:
    """How near the best Tucker core for the factors of a CP network is to the diagonal core that CP stands for.

    100 where patterns of different components do not mix; above 90 is good, below 50 doubtful. At too large a rank the
    value is low or negative, without limit - unless what the components too many follow is noise that is orthogonal to
    all others - and so it is where components are much alike. A single component has 100 whatever the data is, and too
    few may. The first mode carries the weights. Missing cells are filled by the network, which flatters it.

    Args:
        data: a tensor, an array of numbers, observations, or a dataset as `tenfold.io.read` makes it (NaN in a dataset
            stands for missing).
        network: of the data's shape.

    Returns:
        ``100 (1 - |G - T|^2 / R)`` for the core ``G = data x_0 A_0^+ ... x_N-1 A_N-1^+`` and the superdiagonal ``T`` of
        ones; NaN where a mode is shorter than the rank, for then its factor has no left inverse.

    Raises:
        StructureError: the network is no sum of rank-one terms.
        DataError: the data is no array of numbers, has NaN or another shape than the network, or does not fit memory
            as a whole array; the network has NaN.

    Cost: ``2 |X| R`` flops and a little more: the pseudo-inverses are applied mode by mode.
    Paper: "A new efficient method for determining the number of components in PARAFAC models", 2003.
    """
    terms = terms_of(network)
    data = _taken(data)
    structure, rank = terms.structure, terms.rank
    if tuple(data.shape or ()) != structure.shape:
        raise DataError(f"data has shape {tuple(data.shape or ())}, but the network has {structure.shape}")
    factors = list(terms.factors.values())
    if min(factor.shape[0] for factor in factors) < rank:
        return math.nan
    whole = _filled(data, network) if isinstance(data, Observations) else data
    double = torch.complex128 if whole.is_complex() or any(f.is_complex() for f in factors) else torch.float64
    largest = float(whole.abs().max())
    if not math.isfinite(largest):
        raise DataError("data has entries that are NaN or infinite; give missing cells as Observations")
    if largest == 0:
        return math.nan
    # Relative to the largest entry, so that no product leaves the range; components without weight stay zero.
    weighted = [factors[0] * (terms.weights / largest), *factors[1:]]
    (index,) = structure.inner_indices
    core = (whole / largest).reshape(structure.output_shape)
    order = [structure.output_indices.index(i) for c in structure.cores for i in c.indices if i != index]
    core = core.permute(order).reshape([factor.shape[0] for factor in factors])
    # The mode that shrinks most goes first; each product puts its mode last.
    todo = list(range(len(factors)))
    for mode in sorted(range(len(factors)), key=lambda m: -factors[m].shape[0]):
        inverse = torch.linalg.pinv(weighted[mode].to(double))
        # The first product is the only one over all the data: in its own precision, so that it is not copied.
        right = inverse.to(core.dtype) if core.dtype.is_complex == double.is_complex else inverse
        core = torch.tensordot(core.to(right.dtype), right, dims=([todo.index(mode)], [1])).to(double)
        todo.append(todo.pop(todo.index(mode)))
    ideal = torch.zeros_like(core)
    places = torch.arange(rank, device=core.device)
    ideal[(places,) * core.ndim] = 1
    return 100 * (1 - float((core - ideal).abs().square().sum()) / rank)


def _taken(data: Any) -> Tensor | Observations:
    """Whatever holds the numbers as a tensor or observations."""
    dataset = hasattr(data, "coordinates") and callable(getattr(data, "load", None))
    if dataset:
        data = data.load().values
    if isinstance(data, Observations):
        return data
    try:
        tensor = data if isinstance(data, Tensor) else torch.as_tensor(np.asarray(data))
    except (TypeError, ValueError):
        raise DataError(f"data must be an array of numbers, not {type(data).__name__}") from None
    if tensor.dtype == torch.bool or not (tensor.is_floating_point() or tensor.is_complex()):
        tensor = tensor.double()
    return Observations.from_nan(tensor) if dataset and bool(tensor.isnan().any()) else tensor


def _filled(data: Observations, network: Network) -> Tensor:
    """The array with missing cells as the network has them."""
    if data.rest == "zero":
        return data.dense()
    made = network.dense().to(data.dtype).reshape(-1).clone()
    known = data.coalesce("mean")
    made[known.linear().to(made.device)] = known.values.to(made.device)
    assert data.shape is not None
    return made.reshape(data.shape)
