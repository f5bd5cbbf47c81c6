"""Regularised least squares and imputation for arrays with missing cells."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import tenfold as tn
from tenfold import formats
from tenfold.decomposition import find, relative_error
from tenfold.decomposition._left_out import split, whole_modes
from tenfold.decomposition._loss import Loss
from tenfold.decomposition._masked import Masked, worthwhile
from tenfold.decomposition._ridge import Ridge
from tenfold.decomposition._row_kernels import plain_row_systems, row_systems
from tenfold.decomposition._spectral import spectral_start
from tenfold.decomposition.als_observed import als_observed
from tenfold.decomposition.em_imputation import em_imputation
from tenfold.errors import DataError, StructureError, TenfoldError
from tenfold.network import Network
from tenfold.observations import Observations
from tenfold.structure import Structure

PLANTED = {
    "cp": formats.cp((12, 13, 14), 3),
    "tucker": formats.tucker((12, 13, 14), (3, 2, 3)),
    "tensor_train": formats.tensor_train((8, 9, 10, 7), 2),
    "tensor_ring": formats.tensor_ring((12, 13, 14), 2),
    "loop": Structure("i a b, j a c, k b c d, l d -> i j k l", i=9, j=8, k=9, l=7, a=2, b=2, c=2, d=2),
}
METHODS = [als_observed, em_imputation]


def part_of(data, share, seed=0, weights=False):
    generator = torch.Generator().manual_seed(seed)
    known = torch.rand(data.shape, generator=generator) < share
    values = data[known]
    w = torch.rand(len(values), generator=generator, dtype=values.dtype.to_real()) + 0.1 if weights else None
    return Observations(known.nonzero(), values, tuple(data.shape), w), known


def unseen(network, data, known):
    return float((network.dense() - data)[~known].norm() / data[~known].norm())


def noisy(structure, noise, seed=0):
    signal = Network.random(structure, seed=seed).dense()
    other = torch.randn(signal.shape, generator=torch.Generator().manual_seed(seed + 100), dtype=signal.dtype)
    return signal + noise * other * float(signal.norm() / other.norm())


# --- what was planted -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("share", "seed"),
    [
        (0.35, 0),
        (0.5, 1),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in [(0.35, 1), (0.35, 2), (0.5, 0), (0.5, 2)]),
    ],
)
@pytest.mark.parametrize("family", ["cp", "tucker", "tensor_train"])
def test_what_was_planted_is_found_from_a_part_of_the_cells(family, share, seed):
    structure = PLANTED[family]
    data = Network.random(structure, seed=seed + 10).dense()
    observed, known = part_of(data, share, seed)
    found = als_observed(observed, structure, seed=seed, tol=1e-8)
    assert found.error == pytest.approx(relative_error(observed, found.network), abs=1e-14)
    assert unseen(found.network, data, known) < 1e-6
    assert found.ridge == 0


@pytest.mark.parametrize(
    ("family", "method"), [("tensor_ring", als_observed), ("tensor_ring", em_imputation), ("loop", als_observed)]
)
def test_structures_with_loops_are_found_from_half_of_the_cells(family, method):
    structure = PLANTED[family]
    for seed in range(2):
        data = Network.random(structure, seed=seed + 10).dense()
        observed, known = part_of(data, 0.5, seed)
        assert unseen(method(observed, structure, seed=seed, tol=1e-8).network, data, known) < 1e-5


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64, torch.complex128])
def test_every_dtype_is_kept(method, dtype):
    structure = formats.cp((8, 9, 10), 2)
    data = Network.random(structure, seed=4, dtype=dtype).dense()
    observed, known = part_of(data, 0.6)
    found = method(observed, structure, tol=1e-9)
    assert found.network.dtype == dtype
    assert unseen(found.network, data, known) < (1e-4 if dtype.to_real() == torch.float32 else 1e-7)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("magnitude", [1e-150, 1e150])
def test_numbers_of_any_size(method, magnitude):
    structure = formats.tensor_train((8, 9, 10), 2)
    data = Network.random(structure, seed=3).dense()
    observed, known = part_of(data, 0.6)
    large = Observations(observed.coordinates, observed.values * magnitude, observed.shape)
    found = method(large, structure, tol=1e-9)
    assert found.error < 1e-9
    assert float(((found.network.dense() / magnitude - data)[~known]).norm() / data[~known].norm()) < 1e-7


@pytest.mark.parametrize("method", METHODS)
def test_weights_count_as_repeated_measurements_do(method):
    structure = formats.tucker((6, 7, 8), (2, 2, 2))
    data = noisy(structure, 0.3)
    observed, _ = part_of(data, 0.8)
    twice = torch.arange(len(observed)) % 3 == 0
    weights = torch.where(twice, 2.0, 1.0).double()
    once = Observations(observed.coordinates, observed.values, observed.shape, weights)
    rows = torch.cat([torch.arange(len(observed)), twice.nonzero()[:, 0]])
    repeated = Observations(observed.coordinates[rows], observed.values[rows], observed.shape)
    start = Network.random(structure, seed=5)
    options = {"init": start, "tol": 1e-10, "max_sweeps": 400}
    if method is als_observed:
        options |= {"ridge": 0.01, "holdout": 0.0}
    a, b = method(once, structure, **options), method(repeated, structure, **options)
    assert a.error == pytest.approx(b.error, rel=1e-6)
    assert float((a.network.dense() - b.network.dense()).norm() / a.network.norm()) < 1e-3


# --- the objective ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ridge", [0.0, 0.01, 1.0])
@pytest.mark.parametrize("family", list(PLANTED))
def test_no_sweep_raises_the_objective(family, ridge):
    structure = PLANTED[family]
    observed, _ = part_of(noisy(structure, 0.5), 0.4, weights=True)
    loss = Loss(observed, structure)
    problem, cores = Ridge(loss), loss.start(Network.random(structure, std=loss.scale, seed=1))
    objectives = []
    for _ in range(12):
        cores, reached, objective = problem.sweep(cores, ridge)
        objectives.append(objective)
        assert reached == pytest.approx(loss.error(cores), rel=1e-8)
    assert all(after <= before * (1 + 1e-9) for before, after in pairwise(objectives))


def test_the_objective_is_the_one_that_is_documented():
    structure = formats.cp((4, 5), 2)
    observed, _ = part_of(noisy(structure, 0.5), 0.8, weights=True)
    loss = Loss(observed, structure)
    cores, reached, objective = Ridge(loss).sweep(loss.start(Network.random(structure, seed=1)), 0.1)
    weights = observed.weights.numpy()
    penalty = 0.0
    for axis, core in enumerate(cores):
        share = np.bincount(observed.coordinates[:, axis], weights, minlength=len(core)) / weights.sum()
        rows = core.numpy()
        mean = share @ rows / 1.01
        penalty += (share[:, None] * (rows - mean) ** 2).sum() + 0.01 * (mean**2).sum()
    assert objective == pytest.approx(reached**2 + 0.1 * penalty, rel=1e-9)


def test_one_core_and_its_mean_are_the_least_of_the_objective():
    structure = formats.cp((5, 6, 4), 2)
    observed, _ = part_of(noisy(structure, 0.5), 0.5)
    loss = Loss(observed, structure)
    problem, cores = Ridge(loss), loss.start(Network.random(structure, seed=1))
    problem._update(cores, 1, 0.3)

    def objective(core):
        changed = [cores[0], core, cores[2]]
        return loss.measure(changed) ** 2 + 0.3 * sum(problem.penalties(changed))

    least = objective(cores[1])
    generator = torch.Generator().manual_seed(0)
    for size in (1e-3, 1e-2, 0.1):
        for _ in range(5):
            step = size * torch.randn(cores[1].shape, generator=generator, dtype=torch.float64)
            assert objective(cores[1] + step) > least


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 6), st.integers(0, 40), st.integers(1, 9), st.booleans(), st.integers(0, 99))
def test_compiled_sums_are_those_of_torch(columns, cells, rows, is_complex, seed):
    generator = torch.Generator().manual_seed(seed)
    dtype = torch.complex128 if is_complex else torch.float64
    e = torch.randn(cells, columns, generator=generator, dtype=dtype)
    w = torch.rand(cells, generator=generator, dtype=torch.float64)
    y = torch.randn(cells, generator=generator, dtype=dtype)
    cuts = torch.randint(0, cells + 1, (rows - 1,), generator=generator).sort().values
    first = torch.cat([torch.zeros(1, dtype=torch.int64), cuts, torch.tensor([cells])])
    for a, b in zip(row_systems(e, w, y, first), plain_row_systems(e, w, y, first), strict=True):
        assert torch.allclose(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("family", list(PLANTED))
def test_contractions_of_the_whole_array_are_sums_over_its_cells(family, dtype):
    structure = PLANTED[family]
    data = Network.random(structure, seed=1, dtype=dtype).dense()
    once, _ = part_of(data, 0.6, weights=True)
    rows = torch.cat([torch.arange(len(once)), torch.arange(40)])
    observed = Observations(once.coordinates[rows], once.values[rows], once.shape, once.weights[rows])
    loss = Loss(observed, structure)
    assert worthwhile(loss.cells)
    weights, numbers = loss.gram_weights, loss.weighted_values()
    masked = Masked(loss.cells, weights, numbers)
    cores = loss.start(Network.random(structure, seed=2, dtype=dtype))
    for place in range(len(structure.terms)):
        gram, right = masked.system(cores, place)
        for part, listed, numbers_of, count in loss.cells.systems(cores, place, weights, numbers):
            assert torch.allclose(gram[part], listed, rtol=1e-10, atol=1e-10 * float(gram.abs().max()))
            assert torch.allclose(right[part], numbers_of, rtol=1e-10, atol=1e-10 * float(right.abs().max()))
            assert torch.equal(masked.counts(place)[part].long(), count)
        sums = torch.zeros(len(gram), dtype=torch.float64).index_add_(0, loss.cells.rows(place), weights)
        assert torch.allclose(masked.sums(place), sums)


def test_few_cells_of_a_large_array_are_summed_one_by_one():
    structure = formats.cp((200, 200, 200), 4)
    assert not worthwhile(Loss(scattered(structure, 3000, 0.1, 0), structure).cells)


def test_threads_do_not_change_the_sums(monkeypatch):
    monkeypatch.setattr("tenfold.decomposition._row_kernels._WORTH", 0)
    e = torch.randn(500, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    first = torch.tensor([0, 10, 10, 300, 499, 500])
    one = plain_row_systems(e, e[:, 0].abs(), e[:, 1], first)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        three = row_systems(e, e[:, 0].abs(), e[:, 1], first)
    finally:
        torch.set_num_threads(before)
    assert all(torch.allclose(a, b, rtol=1e-12) for a, b in zip(one, three, strict=True))


# --- many cells -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", [0.1, 0.5])
@pytest.mark.parametrize(
    "structure",
    [formats.cp((24, 25, 26), 3), formats.tucker((24, 25, 26), (3, 2, 3)), formats.tensor_train((12, 11, 10, 12), 2)],
    ids=["cp", "tucker", "tensor_train"],
)
def test_where_cells_are_many_one_fit_without_a_ridge_is_enough(structure, missing):
    data = noisy(structure, 0.1)
    observed, known = part_of(data, 1 - missing)
    found = als_observed(observed, structure)
    assert found.sweeps < 30
    assert found.ridge == 0
    # What is left out is still predicted by a network that has not seen it.
    train, held = observed.split(0.1, 0)
    plain = find("als").function(train, structure, init=found.network, tol=1e-9)
    assert found.held_out == pytest.approx(relative_error(held, plain.network), rel=1e-3)
    assert found.residuals.shape == (2, len(held))
    assert float(found.residuals[0].sum()) == pytest.approx(found.held_out**2)
    clean = Network.random(structure, seed=0).dense()
    assert float((found.network.dense() - clean).norm() / clean.norm()) < 0.1 * 0.3
    # The ladder of ridges, from elsewhere, finds the same.
    searched = als_observed(observed, structure, ridge=0.0)
    assert unseen(found.network, data, known) == pytest.approx(unseen(searched.network, data, known), rel=5e-3)


def test_a_ridge_is_searched_where_what_is_left_out_asks_for_one():
    """Ten cells to an unknown, but noise nine times as large as the rest."""
    structure = formats.tucker((14, 15, 16), (3, 3, 3))
    observed, _ = part_of(noisy(structure, 9.0), 0.9)
    found = als_observed(observed, structure)
    assert found.ridge > 0
    assert found.held_out <= found.baseline * 1.01


# --- few cells --------------------------------------------------------------------------------------------------------


def test_a_large_ridge_leaves_the_mean():
    structure = formats.tensor_train((6, 7, 8), 2)
    data = noisy(structure, 0.2) + 5 * float(noisy(structure, 0.2).std())
    observed, known = part_of(data, 0.3)
    found = als_observed(observed, structure, ridge=3.0, holdout=0.0).network.dense()
    assert float((found - data[known].mean()).norm() / found.norm()) < 0.1


@pytest.mark.parametrize("ridge", [None, 0.0, 0.1])
def test_a_row_that_no_cell_reads_is_the_mean_row(ridge):
    structure = formats.cp((9, 8, 7), 2)
    data = noisy(structure, 0.1)
    known = torch.rand(data.shape, generator=torch.Generator().manual_seed(0)) < 0.6
    known[4] = False
    observed = Observations(known.nonzero(), data[known], tuple(data.shape))
    found = als_observed(observed, structure, ridge=ridge)
    factor = found.network.cores[0]
    rows = torch.arange(9) != 4
    share = known.sum((1, 2)).double() / known.sum()
    assert torch.allclose(factor[4], share[rows] @ factor[rows], rtol=1e-6)


def test_sparse_observations_are_not_learnt_by_heart():
    """Fewer observations than rows times rank: effects of one mode, noise, and no more."""
    generator = torch.Generator().manual_seed(0)
    shape = (60, 50, 70)
    cells = torch.stack([torch.randint(0, n, (900,), generator=generator) for n in shape], 1)
    effect = torch.randn(70, generator=generator, dtype=torch.float64)
    values = 1 + effect[cells[:, 2]] + 0.3 * torch.randn(900, generator=generator, dtype=torch.float64)
    train = Observations(cells[:700], values[:700], shape)
    test = Observations(cells[700:], values[700:], shape)
    structure = formats.cp(shape, 4)
    ours, plain = als_observed(train, structure), find("als").function(train, structure)
    mean = float((values[700:] - values[:700].mean()).norm() / values[700:].norm())
    assert relative_error(test, ours.network) < 0.5 * mean
    assert relative_error(test, ours.network) < 0.5 * relative_error(test, plain.network)
    assert ours.ridge > 0
    assert ours.held_out < 0.5 * ours.baseline
    assert float(ours.residuals[0].sum()) == pytest.approx(ours.held_out**2)


@pytest.mark.parametrize("method", METHODS)
def test_one_observation(method):
    one = Observations(torch.tensor([[1, 2, 3]]), torch.tensor([-3.0], dtype=torch.float64), (4, 5, 6))
    found = method(one, formats.cp((4, 5, 6), 2))
    assert found.error < 1e-3
    assert bool(torch.isfinite(found.network.dense()).all())


@pytest.mark.parametrize("method", METHODS)
def test_a_zero_tensor_and_equal_values(method):
    cells = torch.cartesian_prod(torch.arange(5), torch.arange(6))[::2]
    zero = method(Observations(cells, torch.zeros(15, dtype=torch.float64), (5, 6)), formats.cp((5, 6), 2))
    assert zero.error == 0
    assert not zero.network.dense().any()
    ones = method(Observations(cells, torch.full((15,), 7.0, dtype=torch.float64), (5, 6)), formats.cp((5, 6), 1))
    assert torch.allclose(ones.network.dense(), torch.tensor(7.0, dtype=torch.float64), rtol=1e-3)


# --- the start from singular vectors ----------------------------------------------------------------------------------


def scattered(structure, count, noise, seed, weights=False):
    """A planted network at cells drawn at random; nothing of the size of the array is made."""
    generator = torch.Generator().manual_seed(seed)
    truth = Network.random(structure, seed=generator)
    cells = torch.unique(
        torch.stack([torch.randint(0, n, (count,), generator=generator) for n in structure.shape], 1), dim=0
    )
    values = Loss(Observations(cells, torch.ones(len(cells), dtype=torch.float64), structure.shape), structure).cells
    clean = values.evaluate(truth.cores, slice(None))
    other = torch.randn(len(cells), generator=generator, dtype=torch.float64)
    w = torch.rand(len(cells), generator=generator, dtype=torch.float64) + 0.1 if weights else None
    return Observations(cells, clean + noise * float(clean.std()) * other, structure.shape, w)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_what_was_planted_is_found_where_one_cell_in_several_hundred_is_known(seed):
    """Without singular vectors two of these three found nothing."""
    structure = formats.cp((200, 200, 200), 4)
    observed = scattered(structure, 30_000, 0.1, seed)
    found = als_observed(observed, structure, max_sweeps=160, tol=1e-4, starts=2)
    assert found.held_out < 0.12
    assert found.error < 0.11


@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize(
    "structure",
    [formats.cp((60, 260, 40), 2), formats.tucker((50, 60, 40), (2, 2, 2)), formats.tensor_train((220, 60, 4), 2)],
    ids=["cp", "tucker", "tensor_train"],
)
def test_singular_vectors_are_near_what_was_planted(structure, weights):
    loss = Loss(scattered(structure, 60_000, 0.1, 3, weights), structure)
    start = spectral_start(loss, 0)
    assert loss.measure(start) < 0.6
    problem, cores = Ridge(loss), start
    for _ in range(5):
        cores, reached, _ = problem.sweep(cores, 0.0)
    assert reached < 0.11
    assert all(torch.equal(a, b) for a, b in zip(start, spectral_start(loss, 0), strict=True))


def test_singular_vectors_of_complex_numbers_and_of_a_mean():
    generator = torch.Generator().manual_seed(0)
    structure = formats.cp((40, 30, 20), 2)
    complex_data = Network.random(structure, seed=generator, dtype=torch.complex128).dense()
    observed, _ = part_of(complex_data, 0.3)
    loss = Loss(observed, structure)
    assert loss.measure(spectral_start(loss, 0)) < 0.5
    raised, _ = part_of(Network.random(structure, seed=5).dense() + 50, 0.02)
    loss = Loss(raised, structure)
    assert loss.measure(spectral_start(loss, 0)) < 0.1


@pytest.mark.parametrize(
    "structure",
    [
        Structure("i a, j a, k b, a b -> (i j) k", i=4, j=3, k=12, a=2, b=2),
        Structure("i a, i j a -> i j", i=12, j=12, a=2),
        formats.cp((48, 3), 40),
    ],
)
def test_where_singular_vectors_say_nothing_there_is_no_such_start(structure):
    data = torch.randn(structure.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    observed, _ = part_of(data, 0.5)
    assert spectral_start(Loss(observed, structure), 0) is None
    assert math.isfinite(als_observed(observed, structure, max_sweeps=40).error)


def test_cells_that_share_no_row_make_no_start():
    """Products of different rows are all zero."""
    cells = torch.arange(300)[:, None].expand(300, 3).contiguous()
    observed = Observations(cells, torch.linspace(-1, 2, 300, dtype=torch.float64), (300, 300, 300))
    structure = formats.cp((300, 300, 300), 2)
    assert spectral_start(Loss(observed, structure), 0) is None
    assert math.isfinite(als_observed(observed, structure, max_sweeps=30).error)


# --- manners ----------------------------------------------------------------------------------------------------------


def test_sweeps_are_counted_reported_and_repeated():
    structure = formats.cp((7, 8, 9), 2)
    observed, _ = part_of(noisy(structure, 0.1), 0.5)
    for most in (1, 5, 30, 100):
        seen = []
        found = als_observed(observed, structure, max_sweeps=most, callback=seen.append, seed=3)
        assert [p.sweep for p in seen] == list(range(1, len(seen) + 1))
        assert len(seen) == found.sweeps <= most
        assert [p.error for p in seen] == list(found.errors)
        again = als_observed(observed, structure, max_sweeps=most, seed=3)
        assert all(torch.equal(a, b) for a, b in zip(found.network.cores, again.network.cores, strict=True))


@pytest.mark.parametrize("method", METHODS)
def test_stops_at_the_error_asked_for(method):
    structure = formats.cp((7, 8, 9), 2)
    observed, _ = part_of(Network.random(structure, seed=2).dense(), 0.6)
    found = method(observed, structure, error=0.05)
    assert found.error <= 0.05
    assert found.stopped == "error"


@pytest.mark.parametrize("method", METHODS)
def test_goes_on_from_a_start(method):
    structure = formats.tensor_ring((7, 8, 9), 2)
    truth = Network.random(structure, seed=2)
    observed, _ = part_of(truth.dense(), 0.6)
    found = method(observed, structure, init=truth, max_sweeps=20)
    assert found.error < 1e-10
    with pytest.raises(StructureError, match="init has structure"):
        method(observed, structure, init=Network.random(formats.cp((7, 8, 9), 2)))


@pytest.mark.parametrize("method", METHODS)
def test_what_is_refused(method):
    structure = formats.cp((4, 5), 1)
    whole = torch.ones(4, 5, dtype=torch.float64)
    with pytest.raises(DataError, match="needs observations"):
        method(whole, structure)
    with pytest.raises(DataError, match="needs observations"):
        method(Observations(torch.tensor([[0, 0]]), torch.tensor([1.0]), (4, 5), rest="zero"), structure)
    observed, _ = part_of(whole, 0.5)
    with pytest.raises(DataError, match="shape"):
        method(observed, formats.cp((4, 6), 1))
    with pytest.raises(TenfoldError, match="max_sweeps must be at least 1"):
        method(observed, structure, max_sweeps=0)


def test_bad_options():
    observed, _ = part_of(torch.ones(4, 5, dtype=torch.float64), 0.5)
    structure = formats.cp((4, 5), 1)
    for options, said in (
        ({"ridge": -1.0}, "ridge must be"),
        ({"ridge": math.nan}, "ridge must be"),
        ({"holdout": 1.0}, "holdout must be"),
        ({"starts": 0}, "starts must be"),
        ({"tol": -1.0}, "tol must be"),
    ):
        with pytest.raises(TenfoldError, match=said):
            als_observed(observed, structure, **options)
    with pytest.raises(StructureError, match="'U' is"):
        als_observed(observed, Structure("U[i r], U[j r] -> i j", i=5, j=5, r=1))
    with pytest.raises(TenfoldError, match="does not take whole arrays"):
        em_imputation(observed, structure, inner="als_observed")
    with pytest.raises(TenfoldError, match="inner_sweeps"):
        em_imputation(observed, structure, inner_sweeps=0)


# --- imputation -------------------------------------------------------------------------------------------------------


def test_imputation_never_raises_the_error_and_ends_where_least_squares_does():
    structure = formats.tucker((8, 9, 10), (2, 2, 2))
    observed, _ = part_of(noisy(structure, 0.3), 0.75)
    filled = em_imputation(observed, structure, tol=1e-10)
    assert all(after <= before for before, after in pairwise(filled.errors))
    rows = find("als").function(observed, structure, init=filled.network, tol=1e-10)
    assert filled.error == pytest.approx(rows.error, rel=5e-3)


def test_imputation_with_weights_and_repeated_cells_minimises_the_weighted_error():
    structure = formats.cp((6, 7), 2)
    observed, _ = part_of(noisy(structure, 0.3), 0.8, weights=True)
    rows = torch.cat([torch.arange(len(observed)), torch.arange(5)])
    repeated = Observations(observed.coordinates[rows], observed.values[rows], observed.shape, observed.weights[rows])
    filled = em_imputation(repeated, structure, tol=1e-11, max_sweeps=3000)
    better = find("als").function(repeated, structure, init=filled.network, tol=1e-11)
    assert filled.error == pytest.approx(better.error, rel=1e-4)


# --- through the verb -------------------------------------------------------------------------------------------------


def test_every_cell_known_is_the_whole_array():
    structure = formats.tensor_train((8, 9, 10), 3)
    data = noisy(structure, 0.1).contiguous()  # the order in memory decides the order of steps
    listed = Observations.from_masked(data, observed=torch.ones(data.shape, dtype=torch.bool))
    for how in ({"error": 0.2}, {"parameters": 300}, {"structure": structure}, {"structure": "tucker", "error": 0.2}):
        a, b = tn.fit(listed, **how), tn.fit(data, **how)
        assert (a.structure, a.method) == (b.structure, b.method)
        assert a.error == pytest.approx(b.error, rel=1e-9)


def test_a_small_sparse_array_is_its_dense_self():
    dense = torch.zeros(9, 8, 7, dtype=torch.float64)
    dense[::3, ::2, 1] = torch.arange(12.0, dtype=torch.float64).reshape(3, 4) + 1
    sparse = Observations(dense.nonzero(), dense[dense != 0], tuple(dense.shape), rest="zero")
    a, b = tn.fit(sparse, error=0.1), tn.fit(dense, error=0.1)
    assert a.parameters == b.parameters
    assert a.error == pytest.approx(b.error, rel=1e-9)


def test_open_bonds_and_formats_find_their_ranks_where_cells_are_missing():
    structure = formats.tensor_train((10, 11, 12), 3)
    data = noisy(structure, 0.05)
    observed, known = part_of(data, 0.5)
    for how in ("i a, a j b, b k -> i j k", "tensor_train", "cp", "tensor_ring"):
        fit = tn.fit(observed, how, parameters=250)
        assert fit.parameters <= 250
        if how not in ("cp", "tensor_ring"):
            assert fit.structure == structure
            assert unseen(fit.network, data, known) < 0.1


def test_noise_alone_is_its_mean_and_said_to_be_too_little():
    generator = torch.Generator().manual_seed(0)
    cells = torch.stack([torch.randint(0, 20, (400,), generator=generator) for _ in range(3)], 1)
    values = 1 + torch.randn(400, generator=generator, dtype=torch.float64)
    with pytest.warns(UserWarning, match="observations are too few"):
        fit = tn.fit(Observations(cells, values, (20, 20, 20)))
    chosen = next(trial for trial in fit.front if trial.chosen)
    assert chosen.name == "mean"
    assert torch.allclose(fit.network.dense(), values.mean(), rtol=1e-9)


# --- what is left out -------------------------------------------------------------------------------------------------


def test_fibres_are_left_out_where_fibres_are_missing():
    values = torch.randn(9, 7, 5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    values[2, 3] = torch.nan
    values[5, 1] = torch.nan
    data = Observations.from_nan(values)
    assert whole_modes(data) == (2, 3)
    train, held = split(data, 0.1, seed=1)
    assert len(train) + len(held) == len(data)
    left_out = torch.unique(held.coordinates[:, :2], dim=0)
    assert len(held) == len(left_out) * 5 * 4
    assert len(left_out) == round(0.1 * (9 * 7 - 2))


def test_scattered_cells_are_left_out_where_cells_are_missing_here_and_there():
    values = torch.randn(9, 7, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    values[torch.rand(9, 7, 5, generator=torch.Generator().manual_seed(1)) < 0.2] = torch.nan
    data = Observations.from_nan(values)
    assert whole_modes(data) == ()
    (_, held), (_, other) = split(data, 0.1, seed=1), data.split(0.1, 1)
    assert torch.equal(held.coordinates, other.coordinates)


@pytest.mark.slow
def test_missing_blocks_of_a_real_tensor_are_predicted_within_reach_of_what_is_known():
    response = torch.as_tensor(np.asarray(tn.io.read("sample:il2").load().values))
    found = tn.fit(Observations.from_nan(response)).network.dense()[response.isnan()]
    assert found.min() > -0.25
    assert found.max() < 1.25


def test_two_components_of_a_real_tensor_are_found_from_all_starts_that_get_as_far():
    response = torch.as_tensor(np.asarray(tn.io.read("sample:il2").load().values))
    data = Observations.from_nan(response)
    # One curve in twenty-six is missing as a whole, which is no reason to damp a structure that was asked for.
    assert whole_modes(data) == (2, 3)
    found = tn.stability(data, 2, starts=4)
    assert len(found.runs.near) >= 2
    assert found.stability > 0.99
    searched = als_observed(data, formats.cp(response.shape, 2), seed=1, fibres=True)
    plain = als_observed(data, formats.cp(response.shape, 2), seed=1)
    assert plain.error < searched.error
    assert plain.held_out < searched.held_out
