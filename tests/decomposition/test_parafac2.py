"""parafac2: planted models come back, errors are true ones, what is refused, agreement with TensorLy's error."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

import tenfold as tn
from tenfold.decomposition.parafac2 import Parafac2, _polar, parafac2
from tenfold.errors import DataError, TenfoldError

DOUBLE, COMPLEX = torch.float64, torch.complex128
UNEQUAL = (9, 14, 30, 7, 21)


def planted(heights, columns, rank, seed, dtype=DOUBLE, positive=False):
    """Slices of an exact model, and its factors."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        made = torch.randn(*shape, generator=generator, dtype=dtype)
        return made.abs().to(dtype) if positive else made

    a = torch.rand(len(heights), rank, generator=generator, dtype=DOUBLE).to(dtype) + 0.2
    h, c = torch.randn(rank, rank, generator=generator, dtype=dtype), draw(columns, rank)
    slices = []
    for height, weights in zip(heights, a, strict=True):
        basis = torch.linalg.qr(torch.randn(height, rank, generator=generator, dtype=dtype)).Q
        slices.append((basis @ h * weights) @ c.T)
    return slices, (a, h, c)


def true_error(slices, model):
    wide = torch.promote_types(slices[0].dtype, DOUBLE)
    squares = sum(float((x.to(wide) - y.to(wide)).norm() ** 2) for x, y in zip(slices, model.slices(), strict=True))
    return math.sqrt(squares / sum(float(x.to(wide).norm() ** 2) for x in slices))


def congruence(first, second):
    """The smallest cosine between matched columns, of the matching that is best."""
    cosines = (first / first.norm(dim=0)).mH @ (second / second.norm(dim=0))
    rows, columns = linear_sum_assignment(-cosines.abs().numpy())
    return float(cosines.abs().numpy()[rows, columns].min())


@pytest.mark.parametrize("columns", [8, 60], ids=["whole", "compressed"])
@pytest.mark.parametrize("seed", range(3))
def test_planted_models_are_found(columns, seed):
    slices, (a, _, c) = planted(UNEQUAL, columns, 3, seed)
    for attempt in range(3):
        best = parafac2(slices, 3, seed=attempt)
        if best.error < 1e-8:
            break
    assert best.error < 1e-8
    assert congruence(c, best.c) > 1 - 1e-6
    assert congruence(a, best.a) > 1 - 1e-6
    for number, part in enumerate(slices):
        # Components of the fit, as the slice's own rows show them.
        wanted = part @ torch.linalg.pinv(c.T) / a[number]
        assert congruence(wanted, best.evolving(number)) > 1 - 1e-6


@pytest.mark.parametrize("columns", [8, 60], ids=["whole", "compressed"])
def test_a_complex_model_stays_one_and_is_approached(columns):
    """Complex sweeps converge slowly; at the planted factors there is nothing left to do."""
    slices, (a, h, c) = planted(UNEQUAL, columns, 2, 0, COMPLEX)
    bases = tuple(torch.zeros(len(part), 2, dtype=COMPLEX) for part in slices)
    exact = Parafac2(a=a, h=h, c=c, projections=bases, error=0.0, errors=(), stopped="exact")
    assert parafac2(slices, 2, init=exact, max_sweeps=1).error < 1e-12
    found = parafac2(slices, 2, max_sweeps=400)
    assert found.error < 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE, torch.complex64, COMPLEX], ids=str)
def test_projections_are_orthonormal_and_the_form_is_canonical(dtype):
    slices, _ = planted(UNEQUAL, 12, 3, 4, dtype)
    generator = torch.Generator().manual_seed(0)
    noisy = [part + 0.1 * torch.randn(part.shape, generator=generator, dtype=dtype) for part in slices]
    model = parafac2(noisy, 3)
    exact = 1e-12 if dtype in (DOUBLE, COMPLEX) else 1e-5
    for number, basis in enumerate(model.projections):
        assert basis.shape == (UNEQUAL[number], 3)
        assert torch.allclose(basis.mH @ basis, torch.eye(3, dtype=dtype), atol=exact)
    assert model.a.dtype == model.h.dtype == model.c.dtype == dtype
    for factor in (model.h, model.c):
        assert torch.allclose(factor.norm(dim=0), torch.ones(3, dtype=factor.real.dtype), atol=exact)
    assert all(x >= y for x, y in pairwise(model.a.norm(dim=0).tolist()))
    for factor in (model.a, model.c):
        largest = factor.gather(0, factor.abs().argmax(0, keepdim=True))
        assert torch.allclose(largest, largest.abs().to(dtype), atol=exact)
    assert model.error == pytest.approx(true_error(noisy, model), rel=1e-5)
    assert all(later <= earlier for earlier, later in pairwise(model.errors))
    assert model.errors[-1] == pytest.approx(model.error, rel=1e-5)


@settings(max_examples=25, deadline=None)
@given(
    heights=st.lists(st.integers(1, 7), min_size=1, max_size=5),
    columns=st.integers(1, 7),
    rank=st.integers(1, 3),
    kept=st.integers(0, 3),
    seed=st.integers(0, 1000),
)
def test_any_slices(heights, columns, rank, kept, seed):
    """Short, rank-deficient, single and zero slices: a monotone fit whose error is the true one."""
    generator = torch.Generator().manual_seed(seed)
    parts = [
        torch.randn(height, kept, generator=generator, dtype=DOUBLE)
        @ torch.randn(kept, columns, generator=generator, dtype=DOUBLE)
        for height in heights
    ]
    if rank > columns:
        with pytest.raises(TenfoldError, match="exceeds the"):
            parafac2(parts, rank)
        return
    model = parafac2(parts, rank, max_sweeps=30)
    assert all(later <= earlier for earlier, later in pairwise(model.errors))
    total = math.sqrt(sum(float(part.norm() ** 2) for part in parts))
    residual = math.sqrt(sum(float((x - y).norm() ** 2) for x, y in zip(parts, model.slices(), strict=True)))
    assert model.error * total == pytest.approx(residual, abs=1e-9 * max(total, 1))
    # Filled up or not, the sweeps never promise less than they keep.
    assert model.error <= (model.errors[-1] if model.errors else 0) + 1e-7
    for basis in model.projections:
        smaller = basis.mH @ basis if len(basis) >= rank else basis @ basis.mH
        assert torch.allclose(smaller, torch.eye(len(smaller), dtype=DOUBLE), atol=1e-10)


@pytest.mark.parametrize("scale", [1e150, 1e-150, 1e-300])
def test_sizes_out_of_the_range_of_squares(scale):
    slices, _ = planted(UNEQUAL, 8, 2, 1)
    model = parafac2([part * scale for part in slices], 2, init="svd")
    plain = parafac2(slices, 2, init="svd")
    assert model.error == pytest.approx(plain.error, rel=1e-3, abs=1e-9)
    assert torch.allclose(model.a / scale, plain.a, rtol=1e-4)


def test_nonnegative_factors():
    slices, (_, _, c) = planted((10, 12, 9, 11, 10), 15, 3, 2, positive=True)
    model = min((parafac2(slices, 3, nonnegative=("a", "c"), seed=seed) for seed in range(2)), key=lambda m: m.error)
    assert float(model.a.min()) >= 0
    assert float(model.c.min()) >= 0
    assert model.error < 1e-4
    assert congruence(c, model.c) > 0.999
    # White noise wants negative entries; it must not get them, and the free fit is better.
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(6, 9, 30, generator=generator, dtype=DOUBLE)
    bound = parafac2(noise, 2, nonnegative=("c",))
    assert float(bound.c.min()) >= 0
    assert parafac2(noise, 2).error < bound.error


def test_starts_callback_and_repetition():
    slices, _ = planted(UNEQUAL, 40, 3, 7)
    generator = torch.Generator().manual_seed(1)
    noisy = [part + 0.3 * torch.randn(part.shape, generator=generator, dtype=DOUBLE) for part in slices]
    seen = []
    model = parafac2(
        noisy, 3, seed=3, callback=lambda p: seen.append((p.error, p.sweep, true_error(noisy, p.result())))
    )
    assert [sweep for _, sweep, _ in seen] == list(range(1, len(model.errors) + 1))
    assert [error for error, _, _ in seen] == list(model.errors)
    # A result has the best projections for its factors, so it can only be better than the sweep says.
    assert all(true <= error * (1 + 1e-9) for error, _, true in seen)
    again = parafac2(noisy, 3, seed=3)
    assert torch.equal(again.a, model.a)
    further = parafac2(noisy, 3, init=model, max_sweeps=5)
    assert further.error <= model.error * (1 + 1e-12)
    assert parafac2(noisy, 3, init="svd", max_sweeps=1).stopped == "max_sweeps"
    assert len(parafac2(noisy, 3, init="random", max_sweeps=4, tol=0).errors) == 4
    assert "rank 3, 5 slices of 7 to 30 x 40" in repr(model)
    assert tn.decomposition.parafac2 is parafac2
    assert isinstance(model, Parafac2)


def test_an_array_is_its_slices_and_zero_fits_exactly():
    cube = torch.randn(4, 6, 5, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)
    assert parafac2(cube, 2).error == parafac2(list(cube), 2).error
    zero = parafac2(torch.zeros(3, 4, 5), 2)
    assert (zero.error, zero.stopped) == (0.0, "exact")
    assert all(float(part.abs().max()) == 0 for part in zero.slices())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: parafac2([], 1), "slices is empty"),
        (lambda x: parafac2([x, x[:, :3]], 1), "slice 1 has 3 columns, but slice 0 has 5"),
        (lambda x: parafac2([x, x[0]], 1), "slice 1 has 1 axes"),
        (lambda x: parafac2([x, x[:0]], 1), "which holds nothing"),
        (lambda x: parafac2([x, x.float()], 1), "all of one dtype"),
        (lambda x: parafac2([x, x / 0], 1), "slice 1 has 20 entries that are NaN or infinite"),
        (lambda x: parafac2([x], 6), "rank 6 exceeds the 5 columns"),
        (lambda x: parafac2([x], 0), "rank must be a whole number of at least 1"),
        (lambda x: parafac2([x], 1, nonnegative=("b",)), "not 'b'"),
        (lambda x: parafac2([x.to(COMPLEX)], 1, nonnegative=("a",)), "needs real slices"),
        (lambda x: parafac2([x], 1, max_sweeps=0), "max_sweeps must be a whole number of at least 1"),
        (lambda x: parafac2([x], 1, tol=-1), "tol must be at least 0"),
        (lambda x: parafac2([x], 1, init=parafac2([x, x], 1)), "init has factors h, a, c of shapes"),
        (lambda x: parafac2([x], 1, init="nvecs"), "init must be 'svd', 'random'"),
    ],
)
def test_refusals(call, message):
    with pytest.raises((DataError, TenfoldError), match=message):
        call(torch.ones(4, 5, dtype=DOUBLE))


@pytest.mark.parametrize("condition", [1.0, 1e3, 1e7, math.inf])
def test_polar_factors_are_orthonormal_and_nearest(condition):
    generator = torch.Generator().manual_seed(0)
    left = torch.linalg.qr(torch.randn(4, 9, 3, generator=generator, dtype=DOUBLE)).Q
    right = torch.linalg.qr(torch.randn(4, 3, 3, generator=generator, dtype=DOUBLE)).Q
    values = torch.tensor([1.0, 0.5, 1 / condition], dtype=DOUBLE)
    found = _polar(left * values @ right)
    assert torch.allclose(found.mH @ found, torch.eye(3, dtype=DOUBLE), atol=1e-10)
    if condition < 1e4:
        assert torch.allclose(found, left @ right, atol=1e-10)


@pytest.mark.peer
def test_as_good_as_tensorly():
    tensorly = pytest.importorskip("tensorly")
    from tensorly.decomposition import parafac2 as peer

    slices, _ = planted((12, 15, 18, 11, 16, 14), 20, 3, 9)
    generator = torch.Generator().manual_seed(1)
    noisy = [part + 0.2 * torch.randn(part.shape, generator=generator, dtype=DOUBLE) for part in slices]
    reached = []
    with tensorly.backend_context("numpy"):
        for seed in range(5):
            arrays = [part.numpy() for part in noisy]
            _, errors = peer(arrays, 3, random_state=np.random.RandomState(seed), return_errors=True, n_iter_max=500)
            reached.append(float(errors[-1]))
    assert parafac2(noisy, 3).error <= min(reached) * (1 + 1e-5)


def test_slices_of_numpy_and_lists_are_taken():
    slices, *_ = planted(UNEQUAL, 8, 2, 0)
    expected = parafac2(slices, 2, max_sweeps=20)
    arrays = [part.numpy() for part in slices]
    for way in (arrays, [part.tolist() for part in arrays]):
        assert parafac2(way, 2, max_sweeps=20).error == pytest.approx(expected.error, abs=1e-12)
    cube = np.arange(60).reshape(5, 4, 3)
    assert parafac2(cube, 2, max_sweeps=5).c.dtype == DOUBLE
    with pytest.raises(DataError, match="slice 1 must be a matrix of numbers, not str"):
        parafac2([arrays[0], "x"], 1)
    with pytest.raises(DataError, match="slices must be matrices or an array of order 3, not int"):
        parafac2(3, 1)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        *(({"rank": rank}, "rank must be a whole number of at least 1") for rank in (1.5, True, "2", None, 0)),
        ({"max_sweeps": "x"}, "max_sweeps must be a whole number of at least 1, not 'x'"),
        ({"seed": -1}, "seed must be a whole number of at least 0, not -1"),
        ({"tol": "x"}, "tol must be at least 0, not 'x'"),
        ({"init": np.ones(3)}, "init must be 'svd', 'random'"),
    ],
)
def test_arguments_of_other_kinds(how, said):
    with pytest.raises(TenfoldError, match=said):
        parafac2(torch.ones(4, 5, 3), **{"rank": 1, **how})
