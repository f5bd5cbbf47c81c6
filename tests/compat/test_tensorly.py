"""TensorLy's functions by its names: its arguments, defaults and kinds of arrays, and errors that are true."""

from __future__ import annotations

import inspect
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
import torch

from tenfold.compat import _ranks, _results
from tenfold.compat import tensorly as compat
from tenfold.compat._arrays import Kind, taken
from tenfold.compat._watch import Watch

FUNCTIONS = [
    name
    for name, value in vars(compat).items()
    if inspect.isfunction(value) and value.__module__ == compat.__name__ and not name.startswith("_")
]
CLASSES = [
    name
    for name, value in vars(compat).items()
    if inspect.isclass(value) and value.__module__ == compat.__name__ and not name.startswith("_")
]


def cube(seed=0, shape=(6, 7, 8), rank=3, noise=0.0):
    generator = np.random.default_rng(seed)
    factors = [generator.random((n, rank)) for n in shape]
    exact = np.einsum("ir,jr,kr->ijk", *factors)
    return exact + noise * exact.std() * generator.standard_normal(shape)


def error(tensor, made):
    return np.linalg.norm(tensor - made) / np.linalg.norm(tensor)


def dense(cp):
    weights, factors = cp
    return np.einsum("r,ir,jr,kr->ijk", weights, *factors)


@pytest.mark.peer
@pytest.mark.parametrize("name", FUNCTIONS)
def test_arguments_and_defaults_are_tensorlys(name):
    peer = pytest.importorskip("tensorly.decomposition")
    ours, theirs = (inspect.signature(getattr(module, name)).parameters for module in (compat, peer))
    mine = [(key, each.default) for key, each in ours.items()]
    assert mine == [(key, each.default) for key, each in theirs.items()]


@pytest.mark.peer
@pytest.mark.parametrize("name", CLASSES)
def test_classes_take_tensorlys_arguments(name):
    peer = pytest.importorskip("tensorly.decomposition")
    theirs = getattr(peer, name, None) or getattr(peer._tucker, name)
    known = set(inspect.signature(getattr(compat, name)).parameters)
    # Theirs have return_errors here and there, where errors_ are always kept, and in one an svd that nothing reads.
    unused = {"return_errors", "svd"} if name == "Tucker_NN" else {"return_errors"}
    assert set(inspect.signature(theirs).parameters) - unused <= known


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy], ids=["numpy", "torch"])
def test_results_are_of_the_kind_and_dtype_given(kind):
    data = kind(cube().astype(np.float32))
    weights, factors = compat.parafac(data, 2, n_iter_max=5)
    core, bases = compat.tucker(data, [2, 2, 2])
    train = compat.tensor_train(data, [1, 2, 2, 1])
    loop = compat.tensor_ring(data, [1, 2, 2, 1])
    made = compat.parafac2(data, 2, n_iter_max=2)
    for part in (weights, *factors, core, *bases, *train, *loop, *made[1], *made[2]):
        assert type(part) is type(data)
        assert part.dtype == data.dtype
    assert [tuple(core.shape) for core in train] == [(1, 6, 2), (2, 7, 2), (2, 8, 1)]


def test_parafac_stops_by_the_absolute_change_and_tells_what_it_did():
    data = cube(noise=0.3)
    seen = []
    cp, errors = compat.parafac(
        data, 3, tol=1e-5, return_errors=True, callback=lambda cp, error: seen.append((error, error_of(data, cp)))
    )
    assert all(told == pytest.approx(true, rel=1e-6) for told, true in seen)
    assert [told for told, _ in seen][1:] == errors
    assert abs(errors[-2] - errors[-1]) < 1e-5
    assert all(abs(a - b) >= 1e-5 for a, b in pairwise(errors[:-1]))
    assert error_of(data, cp) == pytest.approx(errors[-1], rel=1e-6)
    few = compat.parafac(data, 3, init="random", random_state=0, n_iter_max=4, tol=None, return_errors=True)[1]
    assert len(few) <= 4
    stopped = []
    compat.parafac(data, 3, init="random", callback=lambda cp, error: stopped.append(error) or len(stopped) == 3)
    assert len(stopped) == 3


def error_of(data, cp):
    return error(data, dense(cp))


def test_parafac_options():
    data = cube(noise=0.1)
    plain = error_of(data, compat.parafac(data, 3, tol=1e-12))
    weights, factors = compat.parafac(data, 3, tol=1e-12, normalize_factors=True)
    assert all(np.allclose(np.linalg.norm(factor, axis=0), 1) for factor in factors)
    assert error_of(data, (weights, factors)) == pytest.approx(plain, rel=1e-6)
    # A ridge makes the factors smaller and the fit worse.
    pulled = compat.parafac(data, 3, l2_reg=0.5, n_iter_max=300)
    assert plain < error_of(data, pulled)
    assert (
        sum((f**2).sum() for f in pulled[1]) < sum((f**2).sum() for f in factors) + 3 * weights.sum() ** (2 / 3) + 1e9
    )
    start = compat.parafac(data, 3, n_iter_max=3)
    kept = compat.parafac(data, 3, init=start, fixed_modes=[0, 1], n_iter_max=1)
    assert np.array_equal(kept[1][0], start[1][0])
    # With two factors held, the third is an ordinary least-squares solution.
    design = np.einsum("ir,jr->ijr", *start[1][:2]).reshape(-1, 3)
    solution = np.linalg.lstsq(design, data.reshape(-1, 8), rcond=None)[0].T
    assert np.allclose(kept[1][2], solution)
    (low, rest) = compat.parafac(data, 3, sparsity=20)
    assert np.count_nonzero(rest) == 20
    assert error(data, dense(low) + rest) < plain
    rotated = compat.parafac(data, 3, orthogonalise=True, tol=1e-10)
    assert error_of(data, rotated) == pytest.approx(plain, rel=0.05)


@pytest.mark.parametrize("function", ["parafac", "tucker"])
def test_masked_entries_are_not_looked_at(function):
    data = cube(rank=1)
    mask = np.random.default_rng(0).random(data.shape) > 0.2
    spoilt = np.where(mask, data, 1e6)
    if function == "parafac":
        made = dense(compat.parafac(spoilt, 1, mask=mask, random_state=0))
    else:
        core, factors = compat.tucker(spoilt, [1, 1, 1], mask=mask, tol=1e-12, random_state=0)
        made = np.einsum("abc,ia,jb,kc->ijk", core, *factors)
        assert all(np.allclose(factor.T @ factor, np.eye(1)) for factor in factors)
    assert error(data, made) < 1e-4


@pytest.mark.parametrize("function", ["non_negative_parafac", "non_negative_parafac_hals"])
def test_nonnegative_factors(function):
    data = cube(noise=0.1)
    run = getattr(compat, function)
    cp, errors = run(data, 3, return_errors=True, random_state=0, n_iter_max=200)
    assert all((factor >= 0).all() for factor in cp[1])
    assert error_of(data, cp) == pytest.approx(errors[-1], rel=1e-5)
    kept = run(data, 3, init=cp, fixed_modes=[1], n_iter_max=3)
    assert np.array_equal(kept[1][1], cp[1][1])
    assert error_of(data, kept) <= errors[-1] * (1 + 1e-6)


def test_partial_and_fixed_tucker():
    data = cube(noise=0.5)
    (core, factors), errors = compat.partial_tucker(data, [2, 3], modes=[2, 0])
    assert core.shape == (3, 7, 2)
    made = np.einsum("ajc,kc,ia->ijk", core, *factors)
    assert error(data, made) == pytest.approx(errors[-1], rel=1e-6)
    # Nothing is better than the best projection of the unfoldings, which merging the free mode into a Tucker gives.
    full, _ = compat.tucker(data, [3, 7, 2], return_errors=True)
    assert error(data, made) == pytest.approx(error(data, np.einsum("abc,ia,jb,kc->ijk", full[0], *full[1])), rel=1e-4)
    held = compat.tucker(data, [3, 3, 2], init=compat.tucker(data, [3, 3, 2]), fixed_factors=[1])
    again = compat.tucker(data, [3, 3, 2])
    assert np.array_equal(held[1][1], compat.tucker(data, [3, 3, 2])[1][1])
    rebuilt = [np.einsum("abc,ia,jb,kc->ijk", t[0], *t[1]) for t in (held, again)]
    assert error(data, rebuilt[0]) <= error(data, rebuilt[1]) * (1 + 1e-3)


def test_rings_and_matrices_come_back():
    rng = np.random.default_rng(0)
    cores = [rng.standard_normal(shape) for shape in ((2, 6, 3), (3, 7, 2), (2, 8, 2))]
    data = np.einsum("aib,bjc,cka->ijk", *cores)
    for mode in range(2):
        made = compat.tensor_ring(data, [2, 3, 2, 2], mode=mode)
        assert [core.shape for core in made] == [(2, 6, 3), (3, 7, 2), (2, 8, 2)]
        # One pass need not find a ring of these ranks; twice the ranks in the free bonds surely hold the tensor.
    wide = compat.tensor_ring(data, [1, 6, 8, 1])
    assert error(data, np.einsum("aib,bjc,cka->ijk", *wide)) < 1e-12
    with pytest.raises(ValueError, match="unfolding of mode 0 is 6 x 56"):
        compat.tensor_ring(data, [4, 3, 2, 4])
    fitted = compat.tensor_ring_als(data, [2, 3, 2, 2], random_state=0)
    assert error(data, np.einsum("aib,bjc,cka->ijk", *fitted)) < 1e-3
    matrix = rng.standard_normal((2, 3, 4, 5))
    left, right = compat.tensor_train_matrix(matrix, [1, 8, 1])
    assert error(matrix, np.einsum("aikb,bjlc->ijkl", left, right)) < 1e-12


def test_constraints_hold():
    data = cube()
    made = compat.constrained_parafac(data, 2, simplex={1: 3.0}, hard_sparsity=[4, None, None], n_iter_max=20)
    assert np.allclose(made[1][1].sum(0), 3)
    assert np.count_nonzero(made[1][0]) <= 4
    bounded = compat.constrained_parafac(
        data, 2, soft_sparsity=[None, 1.5, None], monotonicity={2: True}, n_iter_max=20
    )
    assert (np.abs(bounded[1][1]).sum(0) <= 1.5 + 1e-9).all()
    assert (np.diff(bounded[1][2], axis=0) >= -1e-12).all()
    with pytest.raises(ValueError, match="second constraint for mode 1"):
        compat.constrained_parafac(data, 2, simplex={1: 3.0}, non_negative=True)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: compat.constrained_parafac(x, 2, l1_reg=0.1), "l1_reg of constrained_parafac is not there; use"),
        (lambda x: compat.non_negative_parafac_hals(x, 2, sparsity_coefficients=[1, 1, 1]), "sparsity_coefficients"),
        (lambda x: compat.non_negative_tucker_hals(x, [2, 2, 2], fixed_modes=[0]), "fixed_modes of nonnegative Tucker"),
    ],
)
def test_what_is_not_there_says_what_to_use(call, message):
    with pytest.raises(NotImplementedError, match=message):
        call(cube())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: compat.parafac(x, 2, init="nvecs"), "init is 'nvecs'"),
        (lambda x: compat.parafac(x, 2, init=(None, [x[0]])), "init has factors of shapes"),
        (lambda x: compat.parafac(x, 2, svd="numpy_svd"), "svd is 'numpy_svd'; it can be truncated_svd"),
        (lambda x: compat.parafac(x, "all"), "rank is 'all'"),
        (lambda x: compat.parafac(x, 2, mask=np.zeros(x.shape)), "nothing is known"),
        (lambda x: compat.parafac(x, 2, mask=x[0]), "mask has shape"),
        (lambda x: compat.parafac(x, 2, fixed_modes=[5]), "fixed_modes names mode 5"),
        (lambda x: compat.parafac(x, 2, random_state="one"), "random_state must be"),
        (lambda x: compat.tucker(x, [2, 2]), "rank has 2 numbers, but there are 3 modes"),
        (lambda x: compat.tucker(x, [2, 2, 2], fixed_factors=[0]), "give a Tucker tensor as init"),
        (lambda x: compat.tensor_train(x, [2, 2, 2, 1]), "must begin and end with 1"),
        (lambda x: compat.tensor_ring_als(x, [2, 2, 2, 1]), "a ring is closed"),
        (lambda x: compat.tensor_ring_als(x, 2, ls_solve="qr"), "ls_solve is 'qr'"),
        (lambda x: compat.parafac2(x, 2, init="best"), "init is 'best'"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message):
        call(cube())


@pytest.mark.peer
@pytest.mark.parametrize("rank", ["same", 0.3, 1.0, 5])
@pytest.mark.parametrize("shape", [(6, 7, 8), (12, 3), (4, 5, 6, 3)])
@pytest.mark.filterwarnings("ignore")
def test_ranks_are_tensorlys(rank, shape):
    tensorly = pytest.importorskip("tensorly")
    from tensorly.tr_tensor import validate_tr_rank

    assert _ranks.cp(shape, rank) == tensorly.cp_tensor.validate_cp_rank(shape, rank)
    assert list(_ranks.tucker(shape, rank)) == list(tensorly.tucker_tensor.validate_tucker_rank(shape, rank))
    assert list(_ranks.train(shape, rank)) == list(tensorly.tt_tensor.validate_tt_rank(shape, rank))
    assert list(_ranks.ring(shape, rank)) == list(validate_tr_rank(shape, rank))


def test_classes_keep_the_decomposition():
    data = cube(noise=0.1)
    model = compat.CP(3, n_iter_max=20)
    assert model.fit(data) is model
    assert error_of(data, model.decomposition_) == pytest.approx(model.errors_[-1], rel=1e-5)
    assert compat.TensorTrain([1, 2, 2, 1]).fit_transform(data)[1].shape == (2, 7, 2)
    assert repr(compat.Tucker([2, 2, 2], tol=0.1)).startswith("Tucker(rank=[2, 2, 2], fixed_factors=None")
    with pytest.raises(TypeError):
        compat.CP(3, 100)


def test_the_watch_stops_and_does_not_count_what_changed_nothing():
    watch = Watch(Kind(numpy=True), tol=0.01)
    steps = iter([1.0, 0.5, 0.5, 0.2, 0.195, 0.1])

    def work():
        for number, value in enumerate(steps):
            watch.add(value, lambda number=number: number)
        return "end"

    assert watch.run(work) == 4
    assert watch.errors == [1.0, 0.5, 0.2, 0.195]
    idle = Watch(Kind(numpy=True), tol=0.0)
    assert idle.run(lambda: [idle.add(1.0, lambda: "stood") for _ in range(9)]) == "stood"
    with pytest.raises(TypeError, match="cvg_criterion"):
        Watch(Kind(numpy=True), tol=0, criterion="rel")


def test_arrays_in_other_guises():
    plain = np.arange(24.0).reshape(2, 3, 4)
    frozen = plain.copy()
    frozen.setflags(write=False)
    for given in (plain[::-1], frozen, plain.astype(">f8"), plain.astype(int), plain.tolist()):
        tensor, kind = taken(given)
        assert kind.numpy
        assert np.array_equal(tensor.numpy(), np.asarray(given, dtype=float))
    assert taken(torch.arange(3))[0].dtype == torch.float64
    with pytest.raises(TypeError, match="tensor holds"):
        taken(np.array(["a"]))
    with pytest.raises(TypeError, match="give a NumPy array or a torch tensor"):
        taken({"a": 1})


WITHOUT = """
import sys
sys.modules["tensorly"] = None
import numpy as np
from tenfold.compat.tensorly import parafac, parafac2, tensor_train, tucker
data = np.random.default_rng(0).random((4, 5, 6))
weights, factors = parafac(data, 2)
assert parafac(data, 2).factors[0].shape == (4, 2)
core, bases = tucker(data, [2, 2, 2])
train = tensor_train(data, 2)
assert len(train) == 3 and train[0].shape == (1, 4, 2) and [core.shape[1] for core in train] == [4, 5, 6]
weights, factors, projections = parafac2(data, 2)
assert train.factors[1] is train[1] and repr(train) == "Cores(1x4x2, 2x5x2, 2x6x1)"
"""


def test_works_without_tensorly():
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert _results.Cores([np.zeros((1, 2, 1))])[0].shape == (1, 2, 1)


@pytest.mark.parametrize(
    "name", ["parafac", "non_negative_parafac", "non_negative_parafac_hals", "constrained_parafac"]
)
def test_numbers_that_cannot_be_fitted(name):
    fit = getattr(compat, name)
    for bad in (np.nan, np.inf):
        tensor = cube()
        tensor[0, 0, 0] = bad
        with pytest.raises(ValueError, match="tensor has 1 entries that are NaN or infinite"):
            fit(tensor, 2)
    with pytest.raises(ValueError, match="is empty"):
        fit(np.zeros((3, 0, 4)), 2)


def test_masked_numbers_may_be_anything():
    tensor, mask = cube(), np.ones((6, 7, 8))
    mask[0, 0, 0] = 0
    tensor[0, 0, 0] = np.nan
    _, factors = compat.parafac(tensor, 3, mask=mask)
    assert all(np.isfinite(factor).all() for factor in factors)
