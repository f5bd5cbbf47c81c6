"""tensor_ring_adaptive: ranks of planted rings found, the error kept, no larger than a train, refusals."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tenfold import formats
from tenfold.decomposition import find
from tenfold.decomposition.tensor_ring_adaptive import tensor_ring_adaptive
from tenfold.decomposition.tree_svd import tree_svd
from tenfold.errors import DataError, StructureError, TenfoldError
from tenfold.network import Network
from tenfold.structure import Structure


def true_error(data: torch.Tensor, network: Network) -> float:
    return float(torch.linalg.vector_norm(data - network.dense()) / torch.linalg.vector_norm(data))


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128, torch.float32], ids=str)
@pytest.mark.parametrize(
    "structure",
    [
        formats.tensor_ring((8, 9, 7), 2),
        formats.tensor_ring((8, 7, 9, 6), (2, 3, 2, 3)),
        formats.tensor_ring((7, 8, 9), (1, 2, 2)),
        Structure("d l a, a i b, c j m d, b k c -> i (m j) k l", i=6, j=3, k=7, l=6, m=2, a=2, b=2, c=2, d=2),
    ],
    ids=str,
)
def test_planted_ranks_are_enough(structure, dtype):
    signal = Network.random(structure, dtype=dtype, seed=1).dense()
    noise = torch.randn(signal.shape, generator=torch.Generator().manual_seed(0), dtype=dtype)
    data = signal + 0.01 * float(torch.linalg.vector_norm(signal) / torch.linalg.vector_norm(noise)) * noise
    largest = structure.replace(dict.fromkeys(structure.inner_indices, 12))
    result = tensor_ring_adaptive(data, largest, error=0.0105)
    assert result.stopped == "error"
    assert true_error(data, result.network) <= 0.0105 * (1 + 1e-5)
    assert result.network.dtype == dtype
    assert result.network.parameters <= structure.parameters
    assert result.error == pytest.approx(true_error(data, result.network), rel=1e-3)


@settings(max_examples=15, deadline=None)
@given(
    shape=st.lists(st.integers(1, 6), min_size=2, max_size=4),
    error=st.sampled_from([0.7, 0.3, 0.05, 1e-4]),
    seed=st.integers(0, 1000),
)
def test_any_error_is_reached_with_no_more_than_a_train(shape, error, seed):
    data = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    largest = formats.tensor_ring(shape, 10**6)
    result = tensor_ring_adaptive(data, largest, error=error, max_sweeps=20)
    assert true_error(data, result.network) <= error * (1 + 1e-9)
    train = tree_svd(data, formats.tensor_train(shape, 10**6), error=error)
    assert result.network.parameters <= train.network.parameters


def test_largest_ranks_are_kept_and_given_ranks_are_those_of_als():
    data = torch.randn(6, 7, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    structure = formats.tensor_ring(data.shape, 2)
    result = tensor_ring_adaptive(data, structure, error=0.01)
    assert result.stopped == "max_sweeps"
    assert result.error > 0.01
    assert all(result.network.structure.sizes[bond] <= 2 for bond in structure.inner_indices)
    given_ranks = tensor_ring_adaptive(data, structure)
    assert given_ranks.network.structure == structure
    assert given_ranks.error < 0.95


def test_zero_scale_callback_and_what_is_refused():
    structure = formats.tensor_ring((5, 6, 7), 4)
    nothing = tensor_ring_adaptive(torch.zeros(5, 6, 7), structure, error=0.1)
    assert nothing.error == 0
    assert nothing.network.parameters == 18
    planted = Network.random(formats.tensor_ring((5, 6, 7), 2), seed=2).dense()
    seen = []
    result = tensor_ring_adaptive(
        planted * 1e-200, structure, error=1e-3, callback=lambda p: seen.append(true_error(planted, p.network()))
    )
    assert result.error <= 1e-3
    assert seen
    again = tensor_ring_adaptive(planted, structure, error=1e-3)
    twice = tensor_ring_adaptive(planted, structure, error=1e-3)
    assert all(torch.equal(a, b) for a, b in zip(again.network.cores, twice.network.cores, strict=True))
    with pytest.raises(DataError, match="NaN"):
        tensor_ring_adaptive(torch.full((5, 6, 7), math.nan), structure, error=0.1)
    with pytest.raises(StructureError, match="closed ring"):
        tensor_ring_adaptive(planted, formats.tensor_train((5, 6, 7), 2), error=0.1)
    with pytest.raises(TenfoldError, match="leave out init"):
        tensor_ring_adaptive(planted, structure, error=0.1, init=Network.random(structure))
    with pytest.raises(TenfoldError, match="at least 0"):
        tensor_ring_adaptive(planted, structure, error=-1.0)
    assert find("tensor_ring_adaptive").finds_ranks
