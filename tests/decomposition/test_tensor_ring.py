"""tensor_ring_als: planted rings in any order of modes, the sweep against dense least squares, monotone errors."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tenfold import formats
from tenfold.decomposition import choose
from tenfold.decomposition.tensor_ring import Ring, tensor_ring_als
from tenfold.errors import DataError, StructureError
from tenfold.network import Network
from tenfold.structure import Structure

DTYPES = [torch.float64, torch.complex128, torch.float32, torch.complex64]

PLANTED = [
    formats.tensor_ring((6, 7, 8), 2),
    formats.tensor_ring((5, 4, 3, 6), 2),
    formats.tensor_ring((6, 7, 5, 6), (2, 3, 1, 2)),
    formats.tensor_ring((9, 8), 2),
    formats.tensor_ring((30, 20, 25), 2),
    formats.tensor_ring((1, 1, 1), 2),
    formats.tensor_ring((5, 1, 4), 2),
    formats.tensor_ring((10, 11, 12, 9), 3),
    Structure("d l a, a i b, c j m d, b k c -> i (m j) k l", i=4, j=3, k=5, l=6, m=2, a=2, b=2, c=3, d=2),
    Structure("i a c, a k b, j c b -> i j k", i=8, j=7, k=6, a=2, b=2, c=2),
]


def true_error(data: torch.Tensor, network: Network) -> float:
    return float(torch.linalg.vector_norm(data - network.dense()) / torch.linalg.vector_norm(data))


def falls(errors: tuple[float, ...]) -> bool:
    return all(b <= a for a, b in pairwise(errors))


@pytest.mark.parametrize("structure", PLANTED, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_planted_rings_are_found_exactly(structure, dtype):
    data = Network.random(structure, dtype=dtype, seed=1).dense()
    result = tensor_ring_als(data, structure)
    assert result.network.structure == structure
    assert result.network.dtype == dtype
    assert falls(result.errors)
    limit = 1e-10 if dtype in (torch.float64, torch.complex128) else 1e-5
    assert true_error(data, result.network) < limit
    assert result.error < limit


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 6), (3, 4, 2, 5, 3)], ids=str)
def test_a_sweep_is_alternating_least_squares(shape, dtype):
    generator = torch.Generator().manual_seed(0)
    data = torch.randn(shape, generator=generator, dtype=dtype)
    count = len(shape)
    structure = formats.tensor_ring(shape, [2, 3, 2, 1, 2][:count])
    family = Ring.of(structure)
    bonds = family.bonds
    norm2 = float(torch.linalg.vector_norm(data) ** 2)
    turned = zip(bonds, shape, bonds[1:] + bonds[:1], strict=True)
    start = [torch.randn(size, generator=generator, dtype=dtype) for size in turned]
    found, error = family.problem(data, norm2, 0.0).sweep(start)

    plain = list(start)

    def dense(cores):
        return Network(structure, family.cores(cores)).dense()

    for place in range(count):
        # The design matrix column by column: the ring with a unit core in this place.
        columns = []
        size = plain[place].shape
        for a in range(size[0]):
            for b in range(size[2]):
                for i in range(size[1]):
                    unit = torch.zeros(size, dtype=dtype)
                    unit[a, i, b] = 1
                    columns.append(dense([*plain[:place], unit, *plain[place + 1 :]]).reshape(-1))
        solution = torch.linalg.lstsq(torch.stack(columns, 1), data.reshape(-1, 1), driver="gelsd").solution
        plain[place] = solution.reshape(size[0], size[2], size[1]).permute(0, 2, 1)
    torch.testing.assert_close(dense(found), dense(plain))
    assert error == pytest.approx(float(torch.linalg.vector_norm(data - dense(plain))) / math.sqrt(norm2), rel=1e-8)


@settings(max_examples=15, deadline=None)
@given(
    shape=st.lists(st.integers(1, 6), min_size=2, max_size=5),
    rank=st.integers(1, 3),
    seed=st.integers(0, 1000),
    dtype=st.sampled_from(DTYPES),
)
def test_any_shape_gives_a_true_and_falling_error(shape, rank, seed, dtype):
    data = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    result = tensor_ring_als(data, formats.tensor_ring(shape, rank), max_sweeps=20)
    assert falls(result.errors)
    exact = torch.complex128 if dtype.is_complex else torch.float64
    assert result.error == pytest.approx(true_error(data.to(exact), result.network.to(exact)), rel=1e-3, abs=1e-12)
    assert result.error <= 1 + 1e-6


def test_no_worse_than_a_train_of_its_ranks():
    """A ring with one bond of size 1 is a tensor train, for which singular values are nearly the best."""
    from tenfold.decomposition.tree_svd import tree_svd

    data = torch.rand(6, 7, 8, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    train = tree_svd(data, formats.tensor_train(data.shape, 3))
    ring = tensor_ring_als(data, formats.tensor_ring(data.shape, (3, 3, 3, 1)))
    assert ring.error <= train.error * (1 + 1e-9)


def test_compression_start_and_callback():
    structure = formats.tensor_ring((40, 40, 40), 2)
    noise = torch.randn(40, 40, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    data = Network.random(structure, seed=3).dense() + 0.1 * noise
    seen = []
    result = tensor_ring_als(data, structure, callback=lambda p: seen.append((p.error, true_error(data, p.network()))))
    assert all(error == pytest.approx(true, rel=1e-6) for error, true in seen)
    longer = tensor_ring_als(data, structure, init=result.network, tol=1e-12)
    assert result.error == pytest.approx(longer.error, rel=1e-4)
    again = tensor_ring_als(data, structure)
    assert all(torch.equal(a, b) for a, b in zip(result.network.cores, again.network.cores, strict=True))


def test_zero_scale_and_bad_data():
    structure = formats.tensor_ring((3, 4, 5), 2)
    assert tensor_ring_als(torch.zeros(3, 4, 5), structure).error == 0
    planted = Network.random(structure, seed=2).dense()
    assert tensor_ring_als(planted * 1e-250, structure).error < 1e-10
    with pytest.raises(DataError, match="NaN"):
        tensor_ring_als(torch.full((3, 4, 5), math.nan), structure)
    with pytest.raises(StructureError, match="closed ring"):
        tensor_ring_als(torch.ones(3, 4, 5), formats.tensor_train((3, 4, 5), 2))
    two = Structure("i a b, j a b, k c d, l c d -> i j k l", i=2, j=2, k=2, l=2, a=2, b=2, c=2, d=2)
    with pytest.raises(StructureError, match="more than one ring"):
        tensor_ring_als(torch.ones(2, 2, 2, 2), two)
    assert choose(structure, planted).name == "tensor_ring_als"
