"""hooi: planted cores, never worse than its start, stationary at the end, agreement with TensorLy."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tenfold import formats
from tenfold.decomposition.hooi import hooi
from tenfold.decomposition.tree_svd import tree_svd
from tenfold.errors import DataError, StructureError
from tenfold.network import Network
from tenfold.structure import Structure

DTYPES = [torch.float64, torch.complex128, torch.float32, torch.complex64]


def true_error(data: torch.Tensor, network: Network) -> float:
    return float(torch.linalg.vector_norm(data - network.dense()) / torch.linalg.vector_norm(data))


PLANTED = [
    formats.tucker((6, 7, 8), (3, 2, 4)),
    formats.tucker((5,), 1),
    formats.tucker((6, 1, 5, 3), 2),
    formats.tucker((1, 1, 1), 1),
    Structure("j b, a b, k i a -> i (j k)", i=3, j=5, k=2, a=3, b=3),
    Structure("i a, b a c, c k, j b -> k i j", i=4, j=5, k=6, a=2, b=3, c=2),
    # Modes that are not compressed.
    Structure("a k b, i a, j b -> i j k", i=6, j=5, k=4, a=2, b=3),
    Structure("a k l, i a -> k i l", i=6, k=5, l=4, a=2),
]


@pytest.mark.parametrize("structure", PLANTED, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_planted_cores_are_found_exactly(structure, dtype):
    data = Network.random(structure, dtype=dtype, seed=1).dense()
    result = hooi(data, structure)
    limit = 1e-12 if dtype in (torch.float64, torch.complex128) else 3e-6
    assert result.network.structure == structure
    assert true_error(data, result.network) < limit
    assert result.error < limit


@settings(max_examples=30, deadline=None)
@given(
    shape=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    rank=st.integers(1, 3),
    seed=st.integers(0, 1000),
    dtype=st.sampled_from(DTYPES),
)
def test_never_worse_than_one_pass(shape, rank, seed, dtype):
    data = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    structure = formats.tucker(shape, rank)
    result = hooi(data, structure)
    assert all(b <= a for a, b in pairwise(result.errors))
    assert result.error <= tree_svd(data, structure).error * (1 + 1e-5) + 1e-6 * (dtype in DTYPES[2:]) + 1e-13
    exact = torch.complex128 if dtype.is_complex else torch.float64
    assert result.error == pytest.approx(true_error(data.to(exact), result.network.to(exact)), rel=1e-3, abs=1e-13)


def test_factors_are_orthonormal_and_stationary():
    data = torch.randn(7, 8, 9, generator=torch.Generator().manual_seed(0), dtype=torch.complex128)
    result = hooi(data, formats.tucker(data.shape, (2, 3, 4)), tol=1e-14, max_sweeps=2000)
    core, *factors = result.network.cores
    for factor in factors:
        torch.testing.assert_close(factor.mH @ factor, torch.eye(factor.shape[1], dtype=factor.dtype))
    torch.testing.assert_close(core, torch.einsum("ijk,ia,jb,kc->abc", data, *[factor.conj() for factor in factors]))
    seen = torch.einsum("ijk,jb,kc->ibc", data, factors[1].conj(), factors[2].conj()).flatten(1)
    leading = torch.linalg.svd(seen).U[:, :2]
    torch.testing.assert_close(leading @ leading.mH, factors[0] @ factors[0].mH, atol=1e-5, rtol=0)


def test_init_error_callback_and_refusals():
    data = torch.randn(7, 8, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    structure = formats.tucker(data.shape, 3)
    seen = []
    result = hooi(data, structure, tol=1e-12, callback=lambda p: seen.append((p.error, true_error(data, p.network()))))
    assert all(error == pytest.approx(true) for error, true in seen)
    assert hooi(data, structure, init=result.network).errors[0] == pytest.approx(result.error, rel=1e-6)
    assert hooi(data, structure, error=1.0).stopped == "error"
    wide = Structure("a b, i a, j b -> i j", i=3, j=4, a=5, b=2)
    assert hooi(torch.ones(3, 4, dtype=torch.float64), wide).network.structure == wide
    assert hooi(torch.zeros(7, 8, 9), structure).error == 0
    assert hooi(data * 1e-250, structure).error == pytest.approx(hooi(data, structure).error)
    with pytest.raises(DataError, match="NaN"):
        hooi(torch.full((7, 8, 9), math.inf), structure)
    with pytest.raises(StructureError, match="hooi needs a core in the middle"):
        hooi(data.reshape(7, 2, 4, 9), formats.tensor_train((7, 2, 4, 9), 2))


def test_agrees_with_tensorly():
    tensorly = pytest.importorskip("tensorly")
    from tensorly.decomposition import tucker as peer_tucker

    generator = torch.Generator().manual_seed(1)
    data = Network.random(formats.tucker((12, 13, 14), 3), seed=3).dense()
    data = data + 0.3 * data.std() * torch.randn(data.shape, generator=generator, dtype=data.dtype)
    peer = tensorly.tucker_to_tensor(peer_tucker(data.numpy(), rank=[3, 3, 3], n_iter_max=200, tol=1e-12))
    expected = np.linalg.norm(data.numpy() - peer) / np.linalg.norm(data.numpy())
    assert hooi(data, formats.tucker(data.shape, 3), tol=1e-12).error == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("ranks", [(2, 3, 2), (6, 5, 4), (9, 1, 9)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_tall_and_wide_projections_give_the_same_bases(
    ranks: tuple[int, ...], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensor = torch.randn(30, 24, 28, dtype=dtype, generator=torch.Generator().manual_seed(3))
    structure = formats.tucker(tensor.shape, ranks)
    found = hooi(tensor, structure, max_sweeps=5, tol=0.0)

    def wide(matrix: torch.Tensor, full_matrices: bool) -> tuple[torch.Tensor, ...]:
        values, vectors = torch.linalg.eigh(matrix @ matrix.mH)
        return vectors.flip(1), values.flip(0).clamp(min=0).sqrt(), vectors

    monkeypatch.setattr(torch.linalg, "svd", wide)
    known = hooi(tensor, structure, max_sweeps=5, tol=0.0)
    assert found.errors == pytest.approx(known.errors, abs=1e-12)
    torch.testing.assert_close(found.network.dense(), known.network.dense(), rtol=1e-6, atol=1e-8)
