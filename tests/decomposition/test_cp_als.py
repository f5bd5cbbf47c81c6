"""cp_als: planted factors, monotone errors, the sweep against its textbook form, agreement with TensorLy."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from tenfold import formats
from tenfold.decomposition import choose
from tenfold.decomposition._cp_layout import Canonical
from tenfold.decomposition.cp_als import cp_als
from tenfold.errors import DataError, StructureError, TenfoldError
from tenfold.network import Network
from tenfold.structure import Structure

DTYPES = [torch.float64, torch.complex128, torch.float32, torch.complex64]


def true_error(data: torch.Tensor, network: Network) -> float:
    return float(torch.linalg.vector_norm(data - network.dense()) / torch.linalg.vector_norm(data))


def falls(errors: tuple[float, ...]) -> bool:
    return all(b <= a for a, b in pairwise(errors))


PLANTED = [
    formats.cp((6, 7, 8), 3),
    formats.cp((5, 4, 3, 6), 4),
    formats.cp((9, 8), 3),
    formats.cp((7,), 2),
    formats.cp((1, 1, 1), 2),
    formats.cp((5, 1, 4), 2),
    formats.cp((30, 40, 50), 4),
    formats.cp((2, 3, 2, 2, 3), 2),
    formats.cp((4, 4, 4, 4), 6),
    Structure("r k, w[r], i r, j l r -> i (j k) l", i=4, j=3, k=5, l=2, r=3),
    Structure("k r, i r, j r -> i j k", i=4, j=5, k=6, r=3),
]


@pytest.mark.parametrize("structure", PLANTED, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_planted_factors_are_found_exactly(structure, dtype):
    data = Network.random(structure, dtype=dtype, seed=1).dense()
    result = cp_als(data, structure)
    assert result.network.structure == structure
    assert result.network.dtype == dtype
    assert falls(result.errors)
    limit = 1e-10 if dtype in (torch.float64, torch.complex128) else 1e-5
    assert true_error(data, result.network) < limit
    assert result.error < limit


def test_the_factors_are_the_planted_ones():
    structure = formats.cp((9, 10, 11), 4)
    planted = Network.random(structure, seed=7)
    result = cp_als(planted.dense(), structure)
    for found, wanted in zip(result.network.cores, planted.cores, strict=True):
        cosines = torch.nn.functional.normalize(found, dim=0).T @ torch.nn.functional.normalize(wanted, dim=0)
        assert torch.allclose(cosines.abs().max(0).values, torch.ones(4, dtype=torch.float64), atol=1e-9)


def test_terms_are_balanced():
    data = torch.randn(5, 6, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    result = cp_als(data, formats.cp((5, 6, 7), 3))
    norms = torch.stack([torch.linalg.vector_norm(core, dim=0) for core in result.network.cores])
    torch.testing.assert_close(norms, norms[:1].expand(3, -1))


@settings(max_examples=15, deadline=None)
@given(
    shape=st.lists(st.integers(1, 6), min_size=1, max_size=5),
    rank=st.integers(1, 7),
    seed=st.integers(0, 1000),
    dtype=st.sampled_from(DTYPES),
)
def test_any_shape_gives_a_true_and_falling_error(shape, rank, seed, dtype):
    data = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    result = cp_als(data, formats.cp(shape, rank), max_sweeps=30)
    assert falls(result.errors)
    assert result.sweeps <= 30
    exact = torch.complex128 if dtype.is_complex else torch.float64
    assert result.error == pytest.approx(true_error(data.to(exact), result.network.to(exact)), rel=1e-3, abs=1e-12)
    assert result.error <= 1 + 1e-6


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
def test_a_sweep_is_textbook_alternating_least_squares(dtype):
    generator = torch.Generator().manual_seed(0)
    data = torch.randn(4, 5, 3, 6, 2, generator=generator, dtype=dtype)
    structure = formats.cp(data.shape, 3)
    family = Canonical.of(structure)
    norm2 = float(torch.linalg.vector_norm(data) ** 2)
    problem = family.problem(data, norm2, 0.0)
    start = [torch.randn(3, n, generator=generator, dtype=dtype) for n in data.shape]
    found, error = problem.sweep(start)
    plain = [factor.T for factor in start]
    for mode in range(5):
        design = torch.ones(1, 3, dtype=dtype)
        for other in (m for m in range(5) if m != mode):
            design = (design[:, None] * plain[other][None]).reshape(-1, 3)
        unfolding = data.movedim(mode, 0).reshape(data.shape[mode], -1)
        plain[mode] = torch.linalg.lstsq(design, unfolding.T).solution.T
    wanted = torch.einsum("ar,br,cr,dr,er->abcde", *plain)
    whole = torch.einsum("ra,rb,rc,rd,re->abcde", *map(torch.as_tensor, found))
    torch.testing.assert_close(whole, wanted)
    assert error == pytest.approx(float(torch.linalg.vector_norm(data - wanted)) / math.sqrt(norm2), rel=1e-10)


def test_compression_gives_what_the_whole_tensor_gives():
    structure = formats.cp((30, 30, 30), 3)
    generator = torch.Generator().manual_seed(0)
    data = Network.random(structure, seed=3).dense()
    data = data + 0.1 * torch.randn(data.shape, generator=generator, dtype=data.dtype)
    result = cp_als(data, structure)
    longer = cp_als(data, structure, init=result.network, tol=1e-12)
    assert result.error == pytest.approx(longer.error, rel=1e-4)
    assert longer.error <= result.error * (1 + 1e-12)


def collinear(extent: int, rank: int, cosine: float, seed: int) -> tuple[torch.Tensor, Structure, Network]:
    """Exact data whose factors have this cosine between any two columns, its structure, and a random start."""
    generator = torch.Generator().manual_seed(seed)
    factors = []
    for _ in range(3):
        q = torch.linalg.qr(torch.randn(extent, rank, generator=generator, dtype=torch.float64)).Q
        cosines = torch.full((rank, rank), cosine, dtype=torch.float64).fill_diagonal_(1.0)
        factors.append(q @ torch.linalg.cholesky(cosines).T)
    structure = formats.cp((extent,) * 3, rank)
    start = [torch.rand(extent, rank, generator=generator, dtype=torch.float64) for _ in range(3)]
    return torch.einsum("ir,jr,kr->ijk", *factors), structure, Network(structure, start)


@pytest.mark.parametrize("seed", range(3))
def test_acceleration_gets_through_a_swamp(seed):
    data, structure, start = collinear(20, 5, 0.9, seed)
    result = cp_als(data, structure, init=start, error=1e-6, max_sweeps=600)
    assert result.stopped == "error"
    assert true_error(data, result.network) <= 1.001e-6
    plain = cp_als(data, structure, init=start, error=1e-6, max_sweeps=3 * result.sweeps, accelerate=False, tol=0)
    assert plain.error > 1e-6
    assert falls(plain.errors)


def test_a_deeper_swamp_has_a_way_through():
    data, structure, start = collinear(20, 5, 0.97, 0)
    result = cp_als(data, structure, init=start, error=1e-6, max_sweeps=2000, tol=0)
    assert true_error(data, result.network) <= 1.001e-6
    assert cp_als(data, structure).error < 1e-12  # the slices say it at once


def test_plain_sweeps_are_those_of_the_textbook():
    data = torch.randn(6, 5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    structure = formats.cp(data.shape, 3)
    start = Network.random(structure, seed=1)
    factors = [core.clone() for core in start.cores]
    wanted = []
    for _ in range(6):
        for mode in range(3):
            first, second = (factors[m] for m in range(3) if m != mode)
            design = (first[:, None] * second[None]).reshape(-1, 3)
            unfolding = data.movedim(mode, 0).flatten(1)
            factors[mode] = torch.linalg.lstsq(design, unfolding.T).solution.T
        wanted.append(float(torch.linalg.vector_norm(data - torch.einsum("ir,jr,kr->ijk", *factors)) / data.norm()))
    result = cp_als(data, structure, init=start, max_sweeps=6, tol=0, accelerate=False)
    assert result.errors == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
def test_compression_can_be_had_and_left(dtype):
    structure = formats.cp((20, 22, 24), 3)
    generator = torch.Generator().manual_seed(0)
    data = Network.random(structure, seed=3, dtype=dtype).dense()
    data = data + 0.1 * data.abs().mean() * torch.randn(data.shape, generator=generator, dtype=dtype)
    start = Network.random(structure, seed=8, dtype=dtype)
    errors = [
        cp_als(data, structure, init=init, compress=compress, tol=1e-10).error
        for compress in (True, False, "auto")
        for init in (None, start)
    ]
    assert errors == pytest.approx([errors[0]] * 6, rel=1e-5)


def test_random_starts_are_as_many_as_asked_for():
    data = torch.randn(7, 8, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    structure = formats.cp(data.shape, 4)
    trying = []
    for starts in (0, 1, 12):
        seen = []
        result = cp_als(data, structure, starts=starts, callback=seen.append)
        trying.append(sum(progress.sweep == 0 for progress in seen))
        assert result.error < 1
    assert trying[0] < trying[1] < trying[2]
    with pytest.raises(TenfoldError, match="starts must be from 0 to 1000"):
        cp_als(data, structure, starts=-1)
    with pytest.raises(TenfoldError, match="starts must be from 0 to 1000"):
        cp_als(data, structure, starts=10**7)
    with pytest.raises(TenfoldError, match="compress is 'yes'"):
        cp_als(data, structure, compress="yes")


@pytest.mark.parametrize("order", [(2, 1, 0), (1, 2, 0), (0, 2, 1)])
def test_any_order_in_memory_gives_the_same_fit(order):
    structure = formats.cp((9, 10, 11), 3)
    data = Network.random(structure, seed=3).dense()
    data = data + 0.1 * torch.randn(data.shape, generator=torch.Generator().manual_seed(0), dtype=data.dtype)
    back = [order.index(axis) for axis in range(3)]
    strided = data.permute(order).contiguous().permute(back)
    assert not strided.is_contiguous()
    assert cp_als(strided, structure, tol=1e-10).error == pytest.approx(
        cp_als(data, structure, tol=1e-10).error, rel=1e-7
    )
    start = Network.random(structure, seed=5)
    result = cp_als(strided, structure, init=start, tol=1e-10)
    assert result.error == pytest.approx(true_error(data, result.network), rel=1e-9)


def match(planted: Network, found: Network) -> float:
    """The factor match score: the mean over the terms of the product of cosines, best partners."""
    scores = math.prod(
        (torch.nn.functional.normalize(a, dim=0).mH @ torch.nn.functional.normalize(b, dim=0)).abs()
        for a, b in zip(planted.cores, found.cores, strict=True)
    )
    rows, columns = linear_sum_assignment(-scores.numpy())
    return float(scores[rows, columns].mean())


@pytest.mark.parametrize("seed", range(20))
def test_planted_factors_are_found_in_noise(seed):
    structure = formats.cp((15, 16, 17), 5)
    planted = Network.random(structure, seed=seed, dtype=torch.float64)
    data = planted.dense()
    noise = torch.randn(data.shape, generator=torch.Generator().manual_seed(seed), dtype=data.dtype)
    result = cp_als(data + 0.1 * float(data.norm() / noise.norm()) * noise, structure, seed=seed)
    assert match(planted, result.network) > 0.99


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_rank_above_every_mode(dtype):
    structure = formats.cp((3, 3, 3), 7)
    data = torch.randn(3, 3, 3, generator=torch.Generator().manual_seed(0), dtype=dtype)
    result = cp_als(data, structure, max_sweeps=2000, tol=1e-10)
    assert result.error == pytest.approx(true_error(data, result.network), rel=1e-2, abs=1e-6)
    assert result.error < 1e-3  # generic tensors of this shape have rank 5
    assert all(bool(core.isfinite().all()) for core in result.network.cores)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_rank_above_that_of_the_data(dtype):
    data = Network.random(formats.cp((8, 9, 10), 2), seed=1, dtype=dtype).dense()
    result = cp_als(data, formats.cp((8, 9, 10), 5))
    double = dtype in (torch.float64, torch.complex128)
    assert true_error(data, result.network) < (1e-7 if double else 1e-4)
    assert all(bool(core.isfinite().all()) for core in result.network.cores)


@pytest.mark.parametrize("scale", [1e-300, 1e-150, 1e150, 1e300])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
def test_scale_changes_nothing(dtype, scale):
    structure = formats.cp((5, 6, 7), 2)
    data = Network.random(structure, seed=2, dtype=dtype).dense()
    data = data / data.abs().max()
    data = data + 0.1 * torch.randn(data.shape, generator=torch.Generator().manual_seed(0), dtype=dtype)
    data = data / data.abs().max()
    result = cp_als(data * scale, structure)
    assert result.error == pytest.approx(cp_als(data, structure).error, rel=1e-6)
    back = Network(structure, [result.network.cores[0] / scale, *result.network.cores[1:]])
    assert true_error(data, back) == pytest.approx(result.error, rel=1e-6)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_one_element(dtype):
    for value in (2.0, -3.0):
        data = torch.full((1, 1, 1), value, dtype=dtype)
        for rank in (1, 3):
            result = cp_als(data, formats.cp((1, 1, 1), rank))
            torch.testing.assert_close(result.network.dense(), data)
            assert result.error < 1e-6


@pytest.mark.parametrize("distance", [1e-1, 1e-3, 1e-5, 1e-7])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_the_error_is_the_true_one_at_every_size(dtype, distance):
    structure = formats.cp((20, 21, 22), 3)
    data = Network.random(structure, seed=4, dtype=torch.float64).dense()
    noise = torch.randn(data.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    data = (data + distance * float(data.norm() / noise.norm()) * noise).to(dtype)
    result = cp_als(data, structure)
    exact = true_error(data.double(), result.network.to(torch.float64))
    assert result.error == pytest.approx(exact, rel=1e-6 if dtype == torch.float64 else 1e-4)


def test_same_seed_same_bits_and_callback():
    data = torch.randn(6, 7, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    structure = formats.cp(data.shape, 4)
    seen = []
    first = cp_als(
        data,
        structure,
        seed=5,
        callback=lambda p: seen.append((p.error, p.sweep, true_error(data, p.network()))),
    )
    second = cp_als(data, structure, seed=5)
    assert all(torch.equal(a, b) for a, b in zip(first.network.cores, second.network.cores, strict=True))
    trying = [error for error, sweep, _ in seen if sweep == 0]
    assert trying
    assert falls(tuple(trying))
    assert tuple(error for error, _, _ in seen[len(trying) :]) == first.errors
    assert [sweep for _, sweep, _ in seen[len(trying) :]] == list(range(1, first.sweeps + 1))
    assert all(error == pytest.approx(true, rel=1e-6) for error, _, true in seen)


def test_callback_networks_of_the_compressed_phase_are_whole():
    structure = formats.cp((30, 30, 30), 2)
    noise = torch.randn(30, 30, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    data = Network.random(structure, seed=3).dense() + 0.1 * noise
    seen = []
    cp_als(data, structure, callback=lambda p: seen.append((p.error, true_error(data, p.network()))))
    assert all(error == pytest.approx(true, rel=1e-6) for error, true in seen)


def test_zero_scale_and_bad_data():
    structure = formats.cp((3, 4, 5), 2)
    result = cp_als(torch.zeros(3, 4, 5), structure)
    assert result.error == 0
    assert not result.network.dense().any()
    planted = Network.random(structure, seed=2).dense()
    for scale in (1e-250, 1e250):
        assert cp_als(planted * scale, structure).error < 1e-10
    with pytest.raises(DataError, match="NaN"):
        cp_als(torch.full((3, 4, 5), math.nan), structure)
    with pytest.raises(StructureError, match="one inner index"):
        cp_als(torch.ones(3, 4, 5), formats.tucker((3, 4, 5), 2))
    with pytest.raises(StructureError, match="different cores"):
        cp_als(torch.ones(3, 3), Structure("U[i r], U[j r] -> i j", i=3, j=3, r=2))
    with pytest.raises(StructureError, match="init has structure"):
        cp_als(torch.ones(3, 4, 5), structure, init=Network.random(formats.cp((3, 4, 5), 3)))
    assert choose(structure, planted).name == "cp_als"


def test_agrees_with_tensorly():
    tensorly = pytest.importorskip("tensorly")
    from tensorly.decomposition import parafac

    generator = torch.Generator().manual_seed(1)
    structure = formats.cp((12, 13, 14), 3)
    data = Network.random(structure, seed=3).dense()
    data = data + 0.2 * data.std() * torch.randn(data.shape, generator=generator, dtype=data.dtype)
    peer = tensorly.cp_to_tensor(parafac(data.numpy(), rank=3, n_iter_max=2000, tol=1e-12))
    expected = np.linalg.norm(data.numpy() - peer) / np.linalg.norm(data.numpy())
    assert cp_als(data, structure, tol=1e-10).error == pytest.approx(expected, rel=1e-6)
