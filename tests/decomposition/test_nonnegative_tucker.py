"""nonnegative_tucker: planted factors, nothing negative, monotone errors, the core against SciPy's."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment, nnls

from tenfold import formats
from tenfold.decomposition.nonnegative_tucker import _core, nonnegative_tucker
from tenfold.errors import DataError, StructureError
from tenfold.network import Network
from tenfold.structure import Structure


def planted(structure: Structure, seed: int, dtype: torch.dtype = torch.float64) -> Network:
    """Nonnegative cores, half of the entries of larger ones zero."""
    generator = torch.Generator().manual_seed(seed)
    cores = []
    for core in structure.cores:
        uniform = torch.rand(core.shape, generator=generator, dtype=dtype)
        zero = torch.rand(core.shape, generator=generator) < 1 / 2
        cores.append(uniform if math.prod(core.shape) < 20 else uniform.masked_fill(zero, 0))
    return Network(structure, cores)


def true_error(data: torch.Tensor, network: Network) -> float:
    return float(torch.linalg.vector_norm(data - network.dense()) / torch.linalg.vector_norm(data))


def factor_match(wanted: torch.Tensor, found: torch.Tensor) -> float:
    unit = [factor / factor.norm(dim=0) for factor in (wanted, found)]
    cosines = (unit[0].T @ unit[1]).numpy()
    return float(cosines[linear_sum_assignment(-cosines)].min())


@pytest.mark.parametrize("seed", range(4))
def test_planted_factors_are_found_in_noise(seed):
    # A sparse core with a full diagonal, and factors each of whose columns has a row to itself, leave no other choice.
    generator = torch.Generator().manual_seed(seed)
    structure = formats.tucker((20, 21, 22), 3)
    core = torch.rand(3, 3, 3, generator=generator, dtype=torch.float64)
    core = core * (torch.rand(3, 3, 3, generator=generator) > 0.6)
    core[range(3), range(3), range(3)] += 1
    cores = [core]
    for extent in (20, 21, 22):
        factor = torch.rand(extent, 3, generator=generator, dtype=torch.float64)
        factor = factor * (torch.rand(extent, 3, generator=generator) > 0.5)
        cores.append(torch.cat([4 * torch.eye(3, dtype=torch.float64), factor[3:]]))
    wanted = Network(structure, cores)
    signal = wanted.dense()
    noise = torch.randn(signal.shape, generator=generator, dtype=signal.dtype)
    data = signal + 0.05 * signal.norm() / noise.norm() * noise
    result = nonnegative_tucker(data, structure, seed=seed, tol=1e-8, max_sweeps=1000)
    assert result.error <= true_error(data, wanted) * 1.01
    for number in (1, 2, 3):
        assert factor_match(wanted.cores[number], result.network.cores[number]) > 0.99


@settings(max_examples=20, deadline=None)
@given(
    shape=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    rank=st.integers(1, 4),
    seed=st.integers(0, 1000),
    dtype=st.sampled_from([torch.float64, torch.float32]),
    signed=st.booleans(),
)
def test_any_shape_gives_a_true_falling_error_and_nothing_negative(shape, rank, seed, dtype, signed):
    generator = torch.Generator().manual_seed(seed)
    data = (torch.randn if signed else torch.rand)(shape, generator=generator, dtype=dtype)
    result = nonnegative_tucker(data, formats.tucker(shape, rank), max_sweeps=20)
    assert all(b <= a for a, b in pairwise(result.errors))
    assert all(bool((core >= 0).all() and torch.isfinite(core).all()) for core in result.network.cores)
    slack = 1e-6 if dtype == torch.float64 else 1e-3
    assert result.error == pytest.approx(
        true_error(data.double(), result.network.to(torch.float64)), rel=1e-3, abs=slack
    )
    assert result.error <= 1 + 1e-6


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize(
    "structure",
    [
        formats.tucker((8, 9, 10), (2, 3, 2)),
        formats.tucker((5,), 1),
        Structure("j b, a b, k i a -> i (j k)", i=3, j=5, k=2, a=2, b=2),
        Structure("i a, b a c, c k, j b -> k i j", i=4, j=5, k=6, a=2, b=3, c=2),
    ],
    ids=str,
)
def test_exact_data_is_fitted(structure, dtype):
    data = planted(structure, 1, dtype).dense()
    result = nonnegative_tucker(data, structure, tol=1e-8, max_sweeps=300)
    assert result.network.structure == structure
    assert result.network.dtype == dtype
    assert true_error(data, result.network) < 0.02


def test_the_core_is_nonnegative_least_squares():
    generator = torch.Generator().manual_seed(0)
    factors = [torch.rand(rank, 8, generator=generator, dtype=torch.float64) for rank in (2, 3, 2)]
    data = torch.randn(8, 8, 8, generator=generator, dtype=torch.float64)
    seen = torch.einsum("ijk,ai,bj,ck->abc", data, *factors)
    grams = [factor @ factor.T for factor in factors]
    core, values = torch.zeros(2, 3, 2, dtype=torch.float64), []
    for _ in range(100):
        core, value = _core(core, seen, grams)
        values.append(value)
    assert all(b <= a + 1e-12 * abs(a) for a, b in pairwise(values))
    design = torch.einsum("ai,bj,ck->ijkabc", *factors).reshape(512, 12)
    best, residual = nnls(design.numpy(), data.reshape(-1).numpy())
    np.testing.assert_allclose(core.reshape(-1), best, atol=1e-5)
    assert values[-1] + float(data.norm()) ** 2 == pytest.approx(residual**2)


def test_vectors_that_died_live_again():
    structure = formats.tucker((10, 11, 12), 2)
    data = planted(structure, 0).dense()
    cores = [core.clone() for core in nonnegative_tucker(data, structure).network.cores]
    cores[2][:, 0] = 0
    crippled = Network(structure, cores)
    again = nonnegative_tucker(data, structure, init=crippled)
    assert again.error < 0.5 * true_error(data, crippled)


def test_init_seed_callback_zero_scale_and_refusals():
    structure = formats.tucker((6, 7, 8), 2)
    generator = torch.Generator().manual_seed(0)
    data = planted(structure, 2).dense() + 0.1 * torch.rand(6, 7, 8, generator=generator, dtype=torch.float64)
    seen = []
    first = nonnegative_tucker(
        data, structure, seed=5, callback=lambda p: seen.append((p.error, true_error(data, p.network())))
    )
    second = nonnegative_tucker(data, structure, seed=5)
    assert all(torch.equal(a, b) for a, b in zip(first.network.cores, second.network.cores, strict=True))
    assert tuple(error for error, _ in seen[-first.sweeps :]) == first.errors
    assert all(error == pytest.approx(true, rel=1e-6) for error, true in seen)
    again = nonnegative_tucker(data, structure, init=first.network)
    assert again.error <= first.error * (1 + 1e-9)
    assert nonnegative_tucker(data, structure, error=0.9).stopped == "error"
    assert nonnegative_tucker(torch.zeros(6, 7, 8), structure).error == 0
    assert nonnegative_tucker(-data, structure).error == pytest.approx(1)
    assert nonnegative_tucker(data, formats.tucker((6, 7, 8), 9), max_sweeps=20).error < first.error
    for scale in (1e-150, 1e150):
        assert nonnegative_tucker(data * scale, structure).error == pytest.approx(first.error, rel=1e-2)
    with pytest.raises(DataError, match="NaN"):
        nonnegative_tucker(torch.full((6, 7, 8), math.nan), structure)
    with pytest.raises(DataError, match="needs real numbers"):
        nonnegative_tucker(data.to(torch.complex64), structure)
    with pytest.raises(StructureError, match="nonnegative_tucker needs one core of bonds only"):
        nonnegative_tucker(data, formats.cp((6, 7, 8), 2))
    with pytest.raises(StructureError, match="init has structure"):
        nonnegative_tucker(data, structure, init=planted(formats.tucker((6, 7, 8), 3), 0))


@pytest.mark.peer
def test_not_behind_tensorly():
    tensorly = pytest.importorskip("tensorly")
    from tensorly.decomposition import non_negative_tucker_hals

    structure = formats.tucker((12, 13, 14), 3)
    generator = torch.Generator().manual_seed(0)
    data = planted(structure, 3).dense()
    data = data + 0.2 * data.std() * torch.randn(data.shape, generator=generator, dtype=data.dtype)
    peer = non_negative_tucker_hals(data.numpy(), rank=[3, 3, 3], n_iter_max=60, tol=1e-9)
    reached = np.linalg.norm(data.numpy() - tensorly.tucker_to_tensor(peer)) / np.linalg.norm(data.numpy())
    assert nonnegative_tucker(data, structure, tol=1e-8).error <= reached * (1 + 1e-4)
