"""cp_hals: planted factors, nothing negative, monotone errors, the kernel against torch, agreement with peers."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import nnls

from tenfold import formats
from tenfold.claims.cp_recovery import match
from tenfold.decomposition._hals import hals, hals_plain
from tenfold.decomposition.cp_hals import cp_hals
from tenfold.errors import DataError, StructureError
from tenfold.network import Network
from tenfold.observations import Observations
from tenfold.structure import Structure


def planted(structure: Structure, seed: int, dtype: torch.dtype = torch.float64) -> Network:
    """Nonnegative cores, a third of the entries of larger ones zero."""
    generator = torch.Generator().manual_seed(seed)
    cores = []
    for core in structure.cores:
        uniform = torch.rand(core.shape, generator=generator, dtype=dtype)
        zero = torch.rand(core.shape, generator=generator) < 1 / 3
        cores.append(uniform if math.prod(core.shape) < 20 else uniform.masked_fill(zero, 0))
    return Network(structure, cores)


def true_error(data: torch.Tensor, network: Network) -> float:
    return float(torch.linalg.vector_norm(data - network.dense()) / torch.linalg.vector_norm(data))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("shape", "rank"), [((20, 22, 24), 4), ((8, 9, 10, 11), 5)])
def test_planted_factors_are_found_in_noise(shape, rank, seed):
    structure = formats.cp(shape, rank)
    wanted = planted(structure, seed)
    data = wanted.dense()
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=data.dtype)
    result = cp_hals(data + 0.05 * data.norm() / noise.norm() * noise, structure, seed=seed)
    assert match(wanted, result.network) > 0.99
    assert all(bool((core >= 0).all()) for core in result.network.cores)


STRUCTURES = [
    formats.cp((5, 4, 3, 6), 2),
    formats.cp((9, 8), 3),
    formats.cp((7,), 2),
    formats.cp((1, 3, 1), 2),
    formats.cp((2, 3, 2, 2, 3), 2),
    Structure("r k, w[r], i r, j l r -> i (j k) l", i=4, j=3, k=5, l=2, r=3),
]


@pytest.mark.parametrize("structure", STRUCTURES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_exact_data_is_fitted(structure, dtype):
    data = planted(structure, 3, dtype).dense()
    result = cp_hals(data, structure, tol=1e-10, max_sweeps=2000)
    assert result.network.structure == structure
    assert result.network.dtype == dtype
    assert all(b <= a for a, b in pairwise(result.errors))
    assert true_error(data, result.network) < (2e-3 if dtype == torch.float64 else 5e-3)


@settings(max_examples=20, deadline=None)
@given(
    shape=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    rank=st.integers(1, 8),
    seed=st.integers(0, 1000),
    dtype=st.sampled_from([torch.float64, torch.float32]),
)
def test_any_shape_gives_a_true_falling_error_and_nothing_negative(shape, rank, seed, dtype):
    data = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    result = cp_hals(data, formats.cp(shape, rank), max_sweeps=20)
    assert all(b <= a for a, b in pairwise(result.errors))
    assert all(bool((core >= 0).all()) for core in result.network.cores)
    assert result.error == pytest.approx(
        true_error(data.double(), result.network.to(torch.float64)), rel=1e-3, abs=1e-7
    )
    assert result.error <= 1 + 1e-6


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("extent", [1, 7, 300])
def test_the_kernel_is_what_torch_computes(dtype, extent):
    generator = torch.Generator().manual_seed(extent)
    design = torch.rand(30, 6, generator=generator, dtype=torch.float64)
    gram = design.T @ design
    gram[2], gram[:, 2] = 0, 0
    start, right = (torch.randn(6, extent, generator=generator, dtype=dtype) for _ in range(2))
    start = start.clamp(min=0)
    for passes in (1, 3):
        torch.testing.assert_close(
            hals(start, right, gram, passes), hals_plain(start, right, gram, passes), rtol=1e-4, atol=1e-5
        )
    assert torch.equal(hals(start, right, gram)[2], start[2])


def test_many_passes_are_nonnegative_least_squares():
    generator = torch.Generator().manual_seed(0)
    design = torch.rand(30, 5, generator=generator, dtype=torch.float64)
    wanted = torch.randn(30, 12, generator=generator, dtype=torch.float64)
    found = torch.zeros(5, 12, dtype=torch.float64)
    for _ in range(200):
        found = hals(found, design.T @ wanted, design.T @ design, 50)
    for column in range(12):
        np.testing.assert_allclose(found[:, column], nnls(design.numpy(), wanted[:, column].numpy())[0], atol=1e-8)


def test_modes_that_are_left_out_may_be_negative():
    structure = formats.cp((12, 13, 14), 3)
    factors = [core.clone() for core in planted(structure, 0).cores]
    factors[1] = torch.randn(13, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    data = Network(structure, factors).dense()
    for named in ([0, 2], ["i", "k"], "i,k", (-3, "2")):
        result = cp_hals(data, structure, nonnegative=named, tol=1e-10, max_sweeps=2000)
        assert result.error < 1e-3
        assert (result.network.cores[0] >= 0).all()
        assert (result.network.cores[2] >= 0).all()
        assert (result.network.cores[1] < 0).any()
    assert cp_hals(data, structure).error > 0.1
    assert cp_hals(data, structure, nonnegative=[]).error < 1e-3
    with pytest.raises(StructureError, match=r"nonnegative names index 'z', but .* has the modes i, j, k"):
        cp_hals(data, structure, nonnegative=["z"])
    with pytest.raises(StructureError, match="nonnegative names axis 3 of an array of 3 axes"):
        cp_hals(data, structure, nonnegative=[3])
    with pytest.raises(StructureError, match=r"not by 1\.5"):
        cp_hals(data, structure, nonnegative=[1.5])


def test_a_dead_term_lives_again():
    structure = formats.cp((10, 11, 12), 3)
    data = planted(structure, 0).dense()
    alive = cp_hals(data, structure, max_sweeps=1000)
    cores = [core.clone() for core in alive.network.cores]
    cores[1][:, 0] = 0
    crippled = Network(structure, cores)
    again = cp_hals(data, structure, init=crippled, max_sweeps=1000)
    assert again.errors[0] <= true_error(data, crippled)
    assert again.error < 0.02 < true_error(data, crippled)


def test_zero_scale_and_bad_data():
    structure = formats.cp((6, 7, 8), 2)
    data = planted(structure, 2).dense()
    assert cp_hals(torch.zeros(6, 7, 8), structure).error == 0
    # Nothing nonnegative is nearer to negative data than zero.
    assert cp_hals(-data, structure).error == pytest.approx(1)
    usual = cp_hals(data, structure).error
    for scale in (1e-150, 1e150, 1e-300):
        assert cp_hals(data * scale, structure).error == pytest.approx(usual, rel=0.1, abs=1e-3)
    with pytest.raises(DataError, match="NaN"):
        cp_hals(torch.full((6, 7, 8), math.nan), structure)
    with pytest.raises(DataError, match="needs real numbers"):
        cp_hals(data.to(torch.complex128), structure)
    with pytest.raises(DataError, match="needs a whole array"):
        cp_hals(Observations.from_nan(data), structure)
    with pytest.raises(StructureError, match="cp_hals needs one inner index"):
        cp_hals(data, formats.tucker((6, 7, 8), 2))
    with pytest.raises(StructureError, match="init has structure"):
        cp_hals(data, structure, init=planted(formats.cp((6, 7, 8), 3), 0))


def test_same_seed_same_bits_and_callback():
    data = torch.rand(6, 7, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    structure = formats.cp(data.shape, 9)
    seen = []
    first = cp_hals(data, structure, seed=5, callback=lambda p: seen.append((p.error, true_error(data, p.network()))))
    second = cp_hals(data, structure, seed=5)
    assert all(torch.equal(a, b) for a, b in zip(first.network.cores, second.network.cores, strict=True))
    # The starts report too, before the sweeps that count.
    assert tuple(error for error, _ in seen[-first.sweeps :]) == first.errors
    assert len(seen) > first.sweeps
    assert all(error == pytest.approx(true, rel=1e-6) for error, true in seen)


@pytest.mark.peer
def test_not_behind_tensorly():
    tensorly = pytest.importorskip("tensorly")
    from tensorly.decomposition import non_negative_parafac_hals

    structure = formats.cp((12, 13, 14), 4)
    data = planted(structure, 3).dense()
    noise = torch.randn(data.shape, generator=torch.Generator().manual_seed(1), dtype=data.dtype)
    data = data + 0.2 * data.std() * noise
    peer = non_negative_parafac_hals(data.numpy(), rank=4, n_iter_max=1000, tol=1e-10, random_state=0)
    reached = np.linalg.norm(data.numpy() - tensorly.cp_to_tensor(peer)) / np.linalg.norm(data.numpy())
    assert cp_hals(data, structure, tol=1e-9).error <= reached * (1 + 1e-5)
