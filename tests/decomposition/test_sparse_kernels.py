"""Products of sparse arrays with factors: compiled loops against plain torch and against the dense array."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tenfold.decomposition import _sparse
from tenfold.decomposition._sparse import Pattern, SparseArray, mttkrp_reference

DTYPES = [torch.float64, torch.float32, torch.complex128, torch.complex64]


def drawn(shape, count, dtype, seed=0):
    """Cells of an array, none twice, in no order, with some rows much heavier than others."""
    generator = torch.Generator().manual_seed(seed)
    columns = [(torch.rand(2 * count, generator=generator) ** 3 * size).long().clamp(max=size - 1) for size in shape]
    cells = torch.stack(columns, 1).unique(dim=0)
    cells = cells[torch.randperm(len(cells), generator=generator)[:count]]
    return list(cells.unbind(1)), torch.randn(len(cells), generator=generator, dtype=dtype)


def factors_of(shape, rank, dtype, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(size, rank, generator=generator, dtype=dtype) for size in shape]


@settings(max_examples=60, deadline=None)
@given(
    shape=st.lists(st.integers(1, 9), min_size=2, max_size=6),
    count=st.integers(1, 60),
    rank=st.integers(1, 11),
    chunk=st.integers(1, 20),
    seed=st.integers(0, 99),
)
def test_every_product_is_that_of_plain_torch(shape, count, rank, chunk, seed):
    dtype = torch.float64
    columns, values = drawn(shape, count, dtype, seed)
    array = SparseArray(Pattern(columns, shape), values)
    factors = factors_of(array.shape, rank, dtype)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_sparse, "_CHUNK", chunk)
        patch.setattr(_sparse, "_WORTH_THREADS", 0)
        found = [array.mttkrp(factors, mode) for mode in range(len(shape))]
        cells = array.entries(factors)
    for mode, mine in enumerate(found):
        wanted = mttkrp_reference(array.pattern.columns, values, factors, mode, array.shape[mode])
        torch.testing.assert_close(mine, wanted, rtol=1e-10, atol=1e-10)
    terms = torch.ones(len(values), rank, dtype=dtype)
    for column, factor in zip(array.pattern.columns, factors, strict=True):
        terms = terms * factor[column.long()]
    torch.testing.assert_close(cells, terms.sum(1), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(40, 50), (40, 6, 50), (30, 4, 5, 7), (5, 4, 3, 2, 6)], ids=str)
@pytest.mark.parametrize("count", [60, 1500])
def test_products_are_those_of_the_dense_array(shape, count, dtype):
    columns, values = drawn(shape, count, dtype)
    dense = torch.zeros(shape, dtype=dtype)
    dense[tuple(columns)] = values
    array = SparseArray(Pattern(columns, shape), values)
    whole = factors_of(shape, 7, dtype)
    factors = [factor[present] for factor, present in zip(whole, array.pattern.present, strict=True)]
    letters = "abcde"[: len(shape)]
    for mode in range(len(shape)):
        others = [m for m in range(len(shape)) if m != mode]
        rule = ",".join([letters, *(f"{letters[m]}r" for m in others)]) + f"->{letters[mode]}r"
        wanted = torch.einsum(rule, dense, *(whole[m] for m in others))
        found = torch.zeros_like(wanted)
        found[array.pattern.present[mode]] = array.mttkrp(factors, mode)
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3 if dtype.to_real() == torch.float32 else 1e-10)


@pytest.mark.parametrize("shape", [(50, 40, 400), (50, 12, 9, 200)], ids=str)
def test_fibres_are_used_where_there_are_any(shape):
    columns, values = drawn(shape, 30_000, torch.float64)
    array = SparseArray(Pattern(columns, shape), values)
    kinds = {array.pattern.plan(mode).fibres for mode in range(len(shape))}
    assert kinds == {True, False} or kinds == {True}
    factors = factors_of(array.shape, 5, torch.float64)
    for mode in range(len(shape)):
        wanted = mttkrp_reference(array.pattern.columns, values, factors, mode, array.shape[mode])
        torch.testing.assert_close(array.mttkrp(factors, mode), wanted)


def test_threads_change_no_bit():
    shape = (300, 3, 400)
    columns, values = drawn(shape, 100_000, torch.float64)
    array = SparseArray(Pattern(columns, shape), values)
    factors = factors_of(array.shape, 16, torch.float64)
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append([array.mttkrp(factors, mode) for mode in range(3)])
    finally:
        torch.set_num_threads(before)
    for others in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], others, strict=True))


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
def test_leading_vectors_are_those_of_the_dense_unfolding(dtype):
    shape = (30, 20, 25)
    columns, values = drawn(shape, 4000, dtype)
    dense = torch.zeros(shape, dtype=dtype)
    dense[tuple(columns)] = values
    array = SparseArray(Pattern(columns, shape), values)
    for mode in range(3):
        basis = array.leading(mode, 4, torch.Generator().manual_seed(0), iterations=30)
        torch.testing.assert_close(basis.mH @ basis, torch.eye(4, dtype=dtype))
        unfolding = dense.movedim(mode, 0).flatten(1)[array.pattern.present[mode]]
        kept = float(torch.linalg.vector_norm(basis.mH @ unfolding) ** 2)
        best = float((torch.linalg.svdvals(unfolding)[:4] ** 2).sum())
        assert best * (1 - 1e-6) <= kept <= best * (1 + 1e-12)


def test_long_modes_cost_nothing():
    shape = (2**62, 2**40, 10**6)
    generator = torch.Generator().manual_seed(0)
    columns = [torch.randint(0, size, (1000,), generator=generator) for size in shape]
    array = SparseArray(Pattern(columns, shape), torch.ones(1000, dtype=torch.float64))
    assert max(array.shape) <= 1000
    ones = [torch.ones(extent, 2, dtype=torch.float64) for extent in array.shape]
    assert float(array.mttkrp(ones, 0).sum()) == 2000


@pytest.mark.parametrize("shape", [(30, 20), (30, 20, 25), (9, 8, 7, 6), (5, 4, 3, 2, 6)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
def test_the_core_is_that_of_the_dense_array(shape, dtype):
    columns, values = drawn(shape, 300, dtype)
    dense = torch.zeros(shape, dtype=dtype)
    dense[tuple(columns)] = values
    array = SparseArray(Pattern(columns, shape), values)
    generator = torch.Generator().manual_seed(3)
    bases = [torch.randn(n, 2 + m, generator=generator, dtype=dtype) for m, n in enumerate(array.shape)]
    wanted = dense
    for mode, (basis, present) in enumerate(zip(bases, array.pattern.present, strict=True)):
        whole = torch.zeros(shape[mode], basis.shape[1], dtype=dtype)
        whole[present] = basis
        wanted = torch.tensordot(wanted, whole.conj(), dims=([0], [0]))
    torch.testing.assert_close(array.core(bases), wanted)
