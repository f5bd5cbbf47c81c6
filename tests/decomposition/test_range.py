"""The range finder against the singular value decomposition, and through tree_svd where a side is long."""

from __future__ import annotations

import importlib
import math

import pytest
import torch

from tenfold import formats
from tenfold.decomposition._range import dominant
from tenfold.decomposition.tree_svd import tree_svd

SPECTRA = {
    "gap": [1.0] * 8 + [1e-2] * 200,
    "polynomial": [1 / (1 + k) for k in range(200)],
    "exponential": [0.8**k for k in range(200)],
    "exact": [1.0, 0.5, 0.1, 1e-3],
}


def matrix_of(values, shape=(300, 420), dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    left, right = (torch.linalg.qr(torch.randn(n, len(values), generator=generator, dtype=dtype)).Q for n in shape)
    return (left * torch.tensor(values, dtype=torch.float64)) @ right.mH


def find(matrix, **options):
    square = float(torch.linalg.vector_norm(matrix)) ** 2
    given = {"rank": None, "allowed": 0.0, "most": 200, "precise": False} | options
    return square, dominant(matrix, square, generator=torch.Generator().manual_seed(1), **given)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
@pytest.mark.parametrize("spectrum", SPECTRA)
def test_given_ranks_leave_out_what_the_svd_leaves_out(spectrum, dtype):
    matrix = matrix_of(SPECTRA[spectrum], dtype=dtype)
    for rank in (1, 4, 8, 30):
        square, found = find(matrix, rank=rank)
        if found is None:
            # No gap and a flat rest: to be decided by a Gram matrix.
            assert spectrum == "gap"
            continue
        torch.testing.assert_close(found.vectors.mH @ found.vectors, torch.eye(rank, dtype=dtype))
        rest = matrix - found.vectors @ (found.vectors.mH @ matrix)
        best = math.fsum(value**2 for value in SPECTRA[spectrum][rank:])
        left = float(torch.linalg.vector_norm(rest)) ** 2
        assert left <= best * (1 + 1e-3) + 1e-13 * square
        assert found.lost == pytest.approx(left, rel=1e-6, abs=1e-13 * square)


@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize("error", [0.3, 0.1, 1e-2, 1e-4])
def test_an_error_finds_the_rank_of_the_svd(spectrum, error):
    matrix = matrix_of(SPECTRA[spectrum])
    total = math.fsum(value**2 for value in SPECTRA[spectrum])
    _, found = find(matrix, allowed=error**2 * total)
    tails = [math.fsum(value**2 for value in SPECTRA[spectrum][rank:]) for rank in range(len(SPECTRA[spectrum]) + 1)]
    needed = next(rank for rank, tail in enumerate(tails) if tail <= error**2 * total)
    if found is None:
        assert needed > 40
        return
    assert needed <= len(found.squares) <= needed + 1
    rest = matrix - found.vectors @ (found.vectors.mH @ matrix)
    assert float(torch.linalg.vector_norm(rest)) <= error * math.sqrt(total) * (1 + 1e-9)


def test_small_singular_values_are_kept_where_that_is_asked_for():
    values = [10.0**-k for k in range(13)]
    matrix = matrix_of(values)
    _, found = find(matrix, allowed=1e-21, precise=True)
    assert len(found.squares) == 11
    torch.testing.assert_close(found.squares.sqrt(), torch.tensor(values[:11], dtype=torch.float64), rtol=1e-3, atol=0)
    assert found.lost == pytest.approx(1e-22 + 1e-24, rel=1e-3)


def test_white_noise_and_too_many_columns_are_left_to_others():
    noise = torch.randn(300, 420, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert find(noise, allowed=0.01 * 300 * 420)[1] is None
    assert find(matrix_of(SPECTRA["polynomial"]), rank=50, most=40)[1] is None


@pytest.mark.parametrize("error", [None, 1e-2, 1e-9])
@pytest.mark.parametrize("turned", [False, True])
def test_long_sides_go_through_it(monkeypatch, error, turned):
    used = []
    module = importlib.import_module("tenfold.decomposition.tree_svd")
    monkeypatch.setattr(module, "dominant", lambda *given, **options: used.append(1) or dominant(*given, **options))
    values = [0.5**k for k in range(40)]
    data = matrix_of(values, (1600, 2000))
    data = data.T if turned else data
    structure = formats.tensor_train(data.shape, 12 if error is None else 1000)
    result = tree_svd(data, structure, error=error)
    assert used
    rank = result.network.structure.sizes["a"]
    true = float((data - result.network.dense()).norm() / data.norm())
    assert result.error == pytest.approx(true, rel=1e-4, abs=1e-14)
    tail = math.sqrt(sum(value**2 for value in values[rank:]) / sum(value**2 for value in values))
    assert true == pytest.approx(tail, rel=1e-3)
    if error is not None:
        assert true <= error < 2 * tail + 1e-15
