"""tree_svd: exactness on planted trees, agreement with NumPy's SVD and TensorLy, error bounds, ranks found."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tenfold import formats
from tenfold.decomposition import choose, find
from tenfold.decomposition.tree_svd import st_hosvd, tree_svd
from tenfold.errors import DataError, StructureError
from tenfold.network import Network
from tenfold.observations import Observations
from tenfold.structure import Structure

DTYPES = [torch.float64, torch.complex128, torch.float32, torch.complex64]

PLANTED = [
    Structure("x a, a t b, b y z c, c w -> x t (y z) w", x=5, t=4, y=3, z=2, w=6, a=3, b=4, c=3),
    Structure("a b c, i a, j b, k c -> k i j", i=5, j=6, k=4, a=2, b=3, c=2),
    Structure("i a, a j b, b k -> k i j", i=5, j=6, k=4, a=3, b=3),
    Structure("i a b, a b j -> j i", i=7, j=8, a=2, b=2),
    Structure("i, j -> i j", i=3, j=4),
    Structure("i a, a j, k -> (i k) j", i=4, j=5, a=2, k=3),
    Structure("i a, a c b, b j, c -> i j", i=4, j=5, a=2, b=2, c=1),
    Structure("i r, r -> i", i=3, r=2),
    Structure("i -> i", i=3),
    Structure("[] ->"),
    formats.hierarchical_tucker((5, 6, 7, 4), 3),
    formats.hierarchical_tucker((3, 4, 2, 3, 4), 3, ((0, (3, 1)), (2, 4))),
    formats.tensor_train_matrix((3, 4, 5), (2, 3, 2), 4),
    formats.tensor_train((4, 5, 6, 7), 3),
    formats.tucker((9, 8, 7), (3, 4, 2)),
    formats.tucker((1, 5, 1), (1, 1, 1)),
]


def true_error(data: torch.Tensor, network: Network) -> float:
    return float(torch.linalg.vector_norm(data - network.dense()) / torch.linalg.vector_norm(data))


@pytest.mark.parametrize("structure", PLANTED, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_planted_trees_are_found_exactly(structure, dtype):
    data = Network.random(structure, dtype=dtype, seed=3).dense()
    result = tree_svd(data, structure)
    assert result.network.structure == structure
    assert result.network.dtype == dtype
    assert result.stopped == "exact"
    limit = 1e-12 if dtype in (torch.float64, torch.complex128) else 3e-6
    assert true_error(data, result.network) < limit
    assert result.error < limit


@pytest.mark.parametrize("structure", PLANTED, ids=str)
def test_ranks_of_planted_trees_are_found(structure):
    data = Network.random(structure, seed=1).dense()
    largest = structure.replace({index: 4 * structure.sizes[index] for index in structure.inner_indices})
    for dtype, error in [(torch.float64, 1e-9), (torch.float64, 1e-4), (torch.float32, 1e-5)]:
        result = tree_svd(data.to(dtype), largest, error=error)
        assert result.error <= error
        assert result.network.parameters <= structure.parameters


def test_tensor_train_ranks_are_those_of_numpy():
    generator = torch.Generator().manual_seed(0)
    shape = (6, 5, 4, 7)
    data = torch.randn(shape, generator=generator, dtype=torch.float64)
    decay = [torch.exp(-1.2 * torch.arange(n, dtype=torch.float64)) for n in shape]
    for axis, scale in enumerate(decay):
        data = data * scale.reshape([-1 if a == axis else 1 for a in range(4)])
    norm = float(torch.linalg.vector_norm(data))
    error = 1e-3
    result = tree_svd(data, formats.tensor_train(shape, 100), error=error)
    for bond, cut in zip("abc", (1, 2, 3), strict=True):
        values = np.linalg.svd(data.numpy().reshape(math.prod(shape[:cut]), -1), compute_uv=False)
        tail = np.append(np.sqrt(np.cumsum(values[::-1] ** 2))[::-1], 0.0)
        # With a third of the budget or all of it: the rank lies between what NumPy says for the two.
        fewest = int((tail > error * norm).sum())
        most = int((tail > error * norm / math.sqrt(3)).sum())
        assert fewest <= result.network.structure.sizes[bond] <= most
    assert error / 3 < result.error <= error


def sequential_loss(data, ranks):
    """What TT-SVD from the right loses, written out with numpy.linalg.svd."""
    lost, matrix, last = 0.0, data.numpy(), 1
    for extent, rank in zip(reversed(data.shape), reversed(ranks), strict=False):
        u, s, _ = np.linalg.svd(matrix.reshape(-1, extent * last), full_matrices=False)
        lost += (s[rank:] ** 2).sum()
        matrix, last = u[:, :rank] * s[:rank], rank
    return math.sqrt(lost) / float(torch.linalg.vector_norm(data))


def test_error_is_that_of_sequential_numpy_svd():
    generator = torch.Generator().manual_seed(5)
    data = torch.randn(60, 24, 30, generator=generator, dtype=torch.float64)
    result = tree_svd(data, formats.tensor_train(data.shape, (40, 15)))
    assert result.error == pytest.approx(sequential_loss(data, (40, 15)), rel=1e-10)


@pytest.mark.parametrize("shape", [(30, 4, 5), (4, 5, 3, 40), (3, 2, 2, 2, 30, 3)], ids=str)
def test_subtrees_split_off_at_once_lose_no_more_than_one_by_one(shape):
    """Neighbouring small modes are one basis first, which is then split: another quasi-optimal train."""
    data = torch.randn(*shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    ranks = [min(3, *[math.prod(side) for side in (shape[:k], shape[k:])]) for k in range(1, len(shape))]
    result = tree_svd(data, formats.tensor_train(shape, ranks))
    assert result.error == pytest.approx(true_error(data, result.network), rel=1e-10)
    assert result.error == pytest.approx(sequential_loss(data, ranks), rel=3e-2)


def best_bound(data: torch.Tensor, structure: Structure) -> tuple[float, int]:
    """The largest error that a single bond forces, and the sum of the squares that all bonds would lose alone."""
    outside = structure.output_indices
    losses = []
    for bond in structure.inner_indices:
        first = structure.terms_with(bond)[0]
        side, todo = {first}, [first]
        while todo:
            for index in structure.terms[todo.pop()].indices:
                for other in structure.terms_with(index):
                    if index != bond and other not in side:
                        side.add(other)
                        todo.append(other)
        rows = [n for n, index in enumerate(outside) if structure.terms_with(index)[0] in side]
        columns = [n for n in range(len(outside)) if n not in rows]
        tensor = data.reshape(structure.output_shape).permute(rows + columns)
        matrix = tensor.reshape(math.prod(tensor.shape[: len(rows)]), -1)
        values = torch.linalg.svdvals(matrix)
        losses.append(float((values[structure.sizes[bond] :] ** 2).sum()))
    return math.sqrt(max(losses, default=0.0)), math.sqrt(sum(losses))


@settings(max_examples=60, deadline=None)
@given(
    shape=st.lists(st.integers(1, 6), min_size=1, max_size=5),
    rank=st.integers(1, 4),
    family=st.sampled_from(["tensor_train", "tucker", "hierarchical_tucker"]),
    smooth=st.booleans(),
    error=st.sampled_from([0.5, 0.1, 1e-3, 1e-9, 0.0]),
    seed=st.integers(0, 1000),
    dtype=st.sampled_from([torch.float64, torch.complex128]),
)
def test_bounds_and_requested_errors(shape, rank, family, smooth, error, seed, dtype):
    if family == "hierarchical_tucker" and len(shape) < 2:
        return
    generator = torch.Generator().manual_seed(seed)
    data = torch.randn(shape, generator=generator, dtype=dtype)
    if smooth:
        grids = torch.meshgrid(*[torch.linspace(0, 1, n, dtype=torch.float64) for n in shape], indexing="ij")
        data = torch.exp(-sum(grids)) / (1 + sum(grids)) + 0 * data
    norm = float(torch.linalg.vector_norm(data))
    make = getattr(formats, family)
    structure = make(shape, rank)
    result = tree_svd(data, structure)
    assert result.error == pytest.approx(true_error(data, result.network), rel=1e-3, abs=1e-13)
    least, most = best_bound(data, structure)
    assert least <= result.error * norm * (1 + 1e-9) + 1e-12 * norm
    assert result.error * norm <= most * (1 + 1e-9) + 1e-12 * norm
    # Ranks without limits: any error can be reached.
    result = tree_svd(data, make(shape, 10**6), error=error)
    assert result.error <= max(error, 1e-14)
    assert true_error(data, result.network) <= max(error, 1e-14) * (1 + 1e-9)


def test_limits_of_the_structure_are_kept():
    data = torch.randn(6, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    structure = formats.tensor_train((6, 6, 6), (2, 3))
    result = tree_svd(data, structure, error=0.01)
    assert result.network.structure == structure
    assert result.error == pytest.approx(true_error(data, result.network))


@pytest.mark.parametrize("seed", range(3))
def test_axes_may_come_in_any_order_of_memory(seed):
    generator = torch.Generator().manual_seed(seed)
    data = torch.randn(5, 6, 7, 4, generator=generator, dtype=torch.float64)
    order = torch.randperm(4, generator=generator).tolist()
    turned = data.permute(order).contiguous().permute([order.index(n) for n in range(4)])
    structure = formats.hierarchical_tucker(data.shape, 3)
    result = tree_svd(turned, structure)
    assert result.error == pytest.approx(true_error(data, result.network), rel=1e-12)
    # Which core is split off first may depend on where its modes lie.
    assert result.error == pytest.approx(tree_svd(data, structure).error, rel=1e-2)


def test_lazily_conjugated_data():
    data = torch.randn(5, 6, 7, generator=torch.Generator().manual_seed(0), dtype=torch.complex128)
    structure = formats.tensor_train(data.shape, 3)
    assert tree_svd(data.conj(), structure).error == pytest.approx(tree_svd(data, structure).error)
    assert tree_svd(data.conj().imag, structure).error == pytest.approx(tree_svd(data.imag, structure).error)


def test_many_binary_modes():
    grid = torch.linspace(0, 1, 2**14, dtype=torch.float64)
    data = (torch.sin(9 * grid) * torch.exp(-grid)).reshape([2] * 14)
    result = tree_svd(data, formats.tensor_train(data.shape, 10**6), error=1e-10)
    assert result.error <= 1e-10
    # A damped sine takes two states.
    assert max(result.network.structure.sizes[bond] for bond in result.network.structure.inner_indices) == 2


def test_small_singular_values_beyond_the_reach_of_a_gram_matrix():
    generator = torch.Generator().manual_seed(0)
    u, v = (torch.linalg.qr(torch.randn(40, 40, generator=generator, dtype=torch.float64)).Q for _ in range(2))
    values = torch.logspace(0, -12, 13, dtype=torch.float64)
    data = (u[:, :13] * values) @ v[:, :13].T
    structure = formats.tensor_train((40, 40), 40)
    for error, rank in [(3e-4, 4), (3e-8, 8), (3e-11, 11)]:
        result = tree_svd(data, structure, error=error)
        assert result.network.structure.sizes["a"] == rank
        assert result.error <= error
    assert tree_svd(data, formats.tensor_train((40, 40), 11)).error < 2e-11


def planted_spectrum(shape, values, seed=0):
    """A tensor whose matricisations all have the singular values given: a sum of rank-one terms, orthonormal each."""
    generator = torch.Generator().manual_seed(seed)
    sides = [torch.linalg.qr(torch.randn(n, len(values), generator=generator, dtype=torch.float64)).Q for n in shape]
    letters = "ijkl"[: len(shape)]
    pattern = ",".join(f"{letter}r" for letter in letters)
    return torch.einsum(f"{pattern},r->{letters}", *sides, torch.tensor(values, dtype=torch.float64))


TERMS = (1.0, 1e-4, 1e-7, 1e-10)


@pytest.mark.parametrize("family", ["tensor_train", "tucker", "hierarchical_tucker"])
def test_terms_of_very_different_size_are_told_apart(family):
    data = planted_spectrum((12, 11, 13, 10), TERMS)
    largest = getattr(formats, family)(data.shape, 100)
    for error, rank in [(1e-2, 1), (1e-5, 2), (1e-8, 3), (1e-12, 4)]:
        result = tree_svd(data, largest, error=error)
        bonds = result.network.structure.inner_indices
        assert {result.network.structure.sizes[bond] for bond in bonds} == {rank}
        assert true_error(data, result.network) <= error
    assert true_error(data, tree_svd(data, largest, error=1e-14).network) < 1e-12
    # The same with ranks instead of an error.
    for rank in (1, 2, 3):
        expected = math.sqrt(sum(value**2 for value in TERMS[rank:]))
        result = tree_svd(data, getattr(formats, family)(data.shape, rank))
        assert true_error(data, result.network) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.complex128, torch.complex64], ids=str)
@pytest.mark.parametrize("family", ["tensor_train", "tucker"])
def test_errors_from_large_to_rounding(family, dtype):
    double = torch.float64 if dtype in (torch.float64, torch.float32) else torch.complex128
    data = planted_spectrum((40, 30, 50), [0.5**k for k in range(30)]).to(double)
    largest = getattr(formats, family)(data.shape, 100)
    rounding = 2e-15 if dtype == double else 1.2e-6  # ten units in the last place; four to eight are seen
    for power in range(2, 13):
        error = 10.0**-power
        result = tree_svd(data.to(dtype), largest, error=error)
        reached = true_error(data.to(dtype).to(double), result.network.to(double))
        assert reached <= math.hypot(error * (1 + 1e-6), rounding)
        assert result.error == pytest.approx(reached, rel=1e-2, abs=rounding)
        if error > rounding:
            # No more ranks than one bond after the other needs for its part of the error.
            rank = max(result.network.structure.sizes[bond] for bond in result.network.structure.inner_indices)
            assert rank <= math.ceil(math.log2(math.sqrt(3) / error)) + 1


def test_single_precision_inside_costs_no_digit():
    """Large tensors in double precision: the error is that of double precision, whatever their spectra."""
    for structure in (formats.tensor_train([16] * 5, 5), formats.tucker((80, 90, 100), (4, 5, 6))):
        network = Network.random(structure, seed=3)
        signal = network.dense()
        noise = torch.randn(signal.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        unit = float(signal.norm() / noise.norm())
        for level in (0.0, 1e-9, 1e-5, 1e-2, 1.0, 100.0):
            data = signal + level * unit * noise
            result = tree_svd(data, structure)
            assert result.error == pytest.approx(true_error(data, result.network), rel=1e-5, abs=1e-14)
            # The planted network, and so the best one, is this near.
            assert result.error <= level / math.sqrt(1 + level**2) * (1 + 5e-2) + 1e-13
    # Steep spectra, where rounding to single precision would turn the small directions.
    data = planted_spectrum((400, 1000), [10.0**-k for k in range(12)])
    for rank in (2, 5, 9):
        result = tree_svd(data, formats.tensor_train(data.shape, rank))
        best = math.sqrt(sum(10.0 ** (-2 * k) for k in range(rank, 12)) / sum(10.0 ** (-2 * k) for k in range(12)))
        assert true_error(data, result.network) == pytest.approx(best, rel=1e-6, abs=1e-15)


def test_what_is_left_of_the_error_is_spent():
    grid = torch.arange(16, dtype=torch.float64)
    data = 1 / (1 + grid[:, None, None, None] + 2 * grid[:, None, None] + grid[:, None] + 3 * grid)
    for family in ("tensor_train", "hierarchical_tucker"):
        largest = getattr(formats, family)(data.shape, 100)
        for error in (0.1, 1e-2, 1e-3, 1e-4, 1e-6):
            result = tree_svd(data, largest, error=error)
            assert true_error(data, result.network) <= error
            assert result.error == pytest.approx(true_error(data, result.network), rel=1e-6)
            # No bond can be narrowed within half of what is left.
            left = (error**2 - result.error**2) * float(torch.linalg.vector_norm(data)) ** 2
            for values in result.network.bond_spectra().values():
                assert len(values) == 1 or float(values[-1] ** 2) > 0.5 * left


def test_wider_bonds_than_can_be_used_are_kept():
    structure = Structure("i a, a j -> i j", i=3, j=4, a=9)
    data = torch.arange(12, dtype=torch.float64).reshape(3, 4)
    result = tree_svd(data, structure)
    assert result.network.structure == structure
    assert result.error < 1e-14
    assert tree_svd(data, structure, error=1e-12).network.structure.sizes["a"] == 2


def test_zero_and_single_entries():
    structure = formats.tensor_train((3, 4, 5), 2)
    result = tree_svd(torch.zeros(3, 4, 5), structure)
    assert result.error == 0
    assert result.network.structure == structure
    assert not result.network.dense().any()
    found = tree_svd(torch.zeros(3, 4, 5), structure, error=0.1)
    assert found.error == 0
    assert found.network.parameters == 12
    one = tree_svd(torch.full((1, 1, 1), -2.5), formats.tucker((1, 1, 1), 1))
    assert float(one.network.dense()) == pytest.approx(-2.5)


@pytest.mark.parametrize("scale", [1e-300, 1e-160, 1e160, 1e300])
def test_range_of_the_numbers(scale):
    structure = formats.tucker((5, 4, 6), (2, 2, 2))
    data = Network.random(structure, seed=2).dense()
    result = tree_svd(data * scale, structure)
    assert result.error < 1e-13
    torch.testing.assert_close(result.network.dense() / scale, data, rtol=1e-9, atol=1e-11)
    narrow = tree_svd((data * 1e30).float(), structure)
    assert narrow.error < 1e-5


def test_half_precision_data_keep_their_dtype():
    structure = formats.tensor_train((5, 4, 6), 2)
    data = Network.random(structure, seed=2).dense().to(torch.bfloat16)
    result = tree_svd(data, structure)
    assert result.network.dtype == torch.bfloat16
    assert 1e-4 < result.error < 2e-2


def test_bad_data_and_structures_are_refused():
    structure = formats.tensor_train((3, 4), 2)
    for bad in (math.nan, math.inf):
        data = torch.ones(3, 4)
        data[1, 2] = bad
        with pytest.raises(DataError, match="1 entries that are NaN or infinite"):
            tree_svd(data, structure)
    with pytest.raises(DataError, match="shape"):
        tree_svd(torch.ones(4, 3), structure)
    with pytest.raises(DataError, match="floating"):
        tree_svd(torch.ones(3, 4, dtype=torch.int64), structure)
    with pytest.raises(DataError, match="whole array"):
        tree_svd(Observations(torch.zeros(1, 2, dtype=torch.int64), torch.ones(1), (3, 4)), structure)
    with pytest.raises(StructureError, match="tree_svd needs a tree"):
        tree_svd(torch.ones(3, 4, 5), formats.cp((3, 4, 5), 2))
    with pytest.raises(StructureError, match="close a cycle"):
        tree_svd(torch.ones(3, 4, 5), formats.tensor_ring((3, 4, 5), 2))


def test_callback_and_registry():
    structure = formats.tucker((4, 5, 6), 2)
    data = Network.random(structure).dense()
    seen = []
    result = tree_svd(data, structure, callback=seen.append)
    (progress,) = seen
    assert progress.error == result.error
    assert progress.network() is result.network
    assert find("tree_svd").finds_ranks
    for made in (structure, formats.tensor_train((4, 5, 6), 2), formats.hierarchical_tucker((4, 5, 6), 2)):
        assert choose(made, data).name == "tree_svd"


def test_tucker_factors_are_orthonormal():
    data = torch.randn(6, 7, 8, generator=torch.Generator().manual_seed(0), dtype=torch.complex128)
    core, bases = st_hosvd(data, (2, 3, 4))
    assert core.shape == (2, 3, 4)
    for basis in bases:
        torch.testing.assert_close(basis.mH @ basis, torch.eye(basis.shape[1], dtype=basis.dtype))


def test_agrees_with_tensorly():
    tensorly = pytest.importorskip("tensorly")
    from tensorly.decomposition import tensor_train as peer_train

    data = torch.randn(8, 9, 10, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    peer = tensorly.tt_to_tensor(peer_train(data.numpy(), rank=[1, 4, 5, 3, 1]))
    expected = np.linalg.norm(data.numpy() - peer) / np.linalg.norm(data.numpy())
    result = tree_svd(data, formats.tensor_train(data.shape, (4, 5, 3)))
    # Both are quasi-optimal, from different ends.
    assert result.error == pytest.approx(expected, rel=2e-2)
    planted = Network.random(formats.tensor_train((8, 9, 10), (3, 4)), seed=4).dense()
    noisy = planted + 1e-2 * planted.std() * torch.randn(8, 9, 10, generator=torch.Generator().manual_seed(2))
    peer = tensorly.tt_to_tensor(peer_train(noisy.numpy(), rank=[1, 3, 4, 1]))
    expected = np.linalg.norm(noisy.numpy() - peer) / np.linalg.norm(noisy.numpy())
    assert tree_svd(noisy, formats.tensor_train((8, 9, 10), (3, 4))).error == pytest.approx(expected, rel=1e-3)
