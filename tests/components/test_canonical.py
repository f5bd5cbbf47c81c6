"""Canonical forms keep the tensor and forget how it was written."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tenfold import components, formats
from tenfold.errors import DataError, StructureError, TenfoldError
from tenfold.network import Network
from tenfold.structure import Structure

DTYPES = [torch.float32, torch.float64, torch.complex64, torch.complex128]


def close(a, b, tol=1e-10):
    return float((a - b).norm()) <= tol * max(float(b.norm()), 1e-300)


def rewritten(network, seed):
    """The same tensor from other columns: permuted, scaled, with other signs (phases, for complex numbers)."""
    random = np.random.default_rng(seed)
    rank = network.structure.sizes["r"]
    order = torch.from_numpy(random.permutation(rank))
    cores, left = [], torch.ones(rank, dtype=network.dtype)
    for core in network.cores[:-1]:
        scale = torch.from_numpy(random.uniform(0.01, 100, rank) * random.choice([-1, 1], rank)).to(network.dtype)
        if network.dtype.is_complex:
            scale = scale * torch.exp(1j * torch.from_numpy(random.uniform(0, 6, rank))).to(network.dtype)
        cores.append((core * scale)[:, order])
        left = left / scale
    return network.replace([*cores, (network.cores[-1] * left)[:, order]])


@settings(max_examples=40, deadline=None)
@given(
    shape=st.lists(st.integers(1, 7), min_size=2, max_size=4),
    rank=st.integers(1, 5),
    seed=st.integers(0, 10**6),
    dtype=st.sampled_from([torch.float64, torch.complex128]),
)
def test_cp_keeps_the_tensor_and_forgets_permutation_scale_and_sign(shape, rank, seed, dtype):
    network = Network.random(formats.cp(shape, rank), seed=seed, dtype=dtype)
    found = components.canonical(network)
    assert close(found.network().dense(), network.dense(), 1e-11)
    assert (found.weights[:-1] >= found.weights[1:]).all()
    for factor in found.factors.values():
        assert torch.allclose(factor.norm(dim=0), torch.ones(rank, dtype=torch.float64))
    again = components.canonical(rewritten(network, seed))
    assert torch.allclose(again.weights, found.weights, rtol=1e-9)
    for name, factor in found.factors.items():
        assert close(again.factors[name], factor, 1e-8)
    assert torch.allclose(again.shares, found.shares, rtol=1e-7)
    assert components.factor_match_score(network, rewritten(network, seed)).score == pytest.approx(1)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_becomes_double(dtype):
    network = Network.random(formats.cp((4, 5, 6), 3), seed=1, dtype=dtype)
    found = components.canonical(network)
    assert found.weights.dtype == torch.float64
    assert close(found.network().dense(), network.to(found.network().dtype).dense())


def test_shares_are_those_of_the_definition():
    # Two components at an angle: |c1 + c2|^2 = 1 + 1 + 2 cos, and what one alone explains is sin^2 of the whole.
    cosine = 0.6
    a = torch.tensor([[1.0, cosine], [0.0, math.sqrt(1 - cosine**2)]], dtype=torch.float64)
    same = torch.tensor([[1.0, 1.0], [0.0, 0.0]], dtype=torch.float64)
    found = components.canonical(Network(formats.cp((2, 2, 2), 2), [a, same, same]))
    whole = 2 + 2 * cosine
    assert found.shares.tolist() == pytest.approx([1 / whole] * 2)
    assert found.drops.tolist() == pytest.approx([(1 - cosine**2) / whole] * 2)


def test_drops_are_what_a_fit_of_the_other_weights_loses():
    network = Network.random(formats.cp((5, 4, 3), 4), seed=3)
    found = components.canonical(network)
    columns = torch.stack([
        torch.einsum("i,j,k->ijk", *(f[:, r] for f in found.factors.values())).reshape(-1) for r in range(4)
    ], 1)  # fmt: skip
    whole = network.dense().reshape(-1)
    for r in range(4):
        others = columns[:, [k for k in range(4) if k != r]]
        left = whole - others @ torch.linalg.lstsq(others, whole).solution
        assert float(found.drops[r]) == pytest.approx(float(left.norm() / whole.norm()) ** 2, rel=1e-8)
    by_drop = components.canonical(network, order="drop")
    assert (by_drop.drops[:-1] >= by_drop.drops[1:]).all()
    assert sorted(by_drop.weights.tolist()) == sorted(found.weights.tolist())


def test_a_component_written_twice_explains_nothing_alone():
    network = Network.random(formats.cp((5, 4, 3), 2), seed=3)
    doubled = Network(formats.cp((5, 4, 3), 3), [core[:, [0, 1, 1]] for core in network.cores])
    assert float(components.canonical(doubled).drops.min()) < 1e-12


def test_signs_follow_the_data():
    network = Network.random(formats.cp((6, 5, 4), 2), seed=0)
    positive = network.replace([core.abs() for core in network.cores])
    negative = positive.replace([-positive.cores[0], -positive.cores[1], positive.cores[2]])
    found = components.canonical(negative, sign="data", data=positive.dense())
    assert all((factor >= 0).all() for factor in found.factors.values())
    turned = positive.replace([-positive.cores[0], *positive.cores[1:]])
    found = components.canonical(turned, sign="data", data=turned.dense())
    assert all((factor <= 0).all() for factor in found.factors.values())
    # A network that is the data's negative cannot follow it in all modes: one keeps its sign, so the tensor stays.
    found = components.canonical(turned, sign="data", data=positive.dense())
    assert close(found.network().dense(), turned.dense())
    assert sum(bool((factor < 0).any()) for factor in found.factors.values()) == 1


@pytest.mark.parametrize("scale", [1e150, 1e-150])
def test_weights_of_extreme_size(scale):
    network = Network.random(formats.cp((4, 5, 6), 2), seed=1)
    extreme = network.replace([network.cores[0] * scale, network.cores[1] * scale, network.cores[2] / scale / scale])
    assert torch.allclose(components.canonical(extreme).weights, components.canonical(network).weights)


def test_a_zero_component_and_a_zero_network():
    network = Network.random(formats.cp((4, 5, 6), 2), seed=1)
    one = network.replace([network.cores[0] * torch.tensor([0.0, 1.0]), *network.cores[1:]])
    found = components.canonical(one)
    assert found.weights[1] == 0
    assert found.drops[1] == 0
    assert float(found.shares[0]) == pytest.approx(1)
    assert close(found.network().dense(), one.dense())
    zero = components.canonical(network.replace([core * 0 for core in network.cores]))
    assert zero.shares.tolist() == zero.drops.tolist() == [0, 0]


def test_cores_with_several_modes_with_none_and_used_twice():
    for pattern in ("i j r, k r -> i j k", "i r, j r, k r, r -> (i j) k", "U[i r], U[j r], w[r] -> i j"):
        structure = Structure(pattern, {"i": 3, "j": 3, "k": 4, "r": 2} if "k" in pattern else {"i": 3, "j": 3, "r": 2})
        network = Network.random(structure, seed=2)
        assert close(components.canonical(network).network().dense(), network.dense())
    grouped = components.canonical(Network.random(Structure("i j r, k r -> i j k", i=3, j=3, k=4, r=2)))
    assert list(grouped.factors) == ["i j", "k"]


def test_the_table_names_places_by_their_labels():
    found = components.canonical(Network.random(formats.cp((4, 5, 6), 2), seed=1))
    lines = str(found).splitlines()
    assert len(lines) == 3
    assert lines[0].split()[:4] == ["component", "weight", "share", "alone"]
    assert "%" in lines[1]
    many = components.canonical(Network.random(formats.cp((40, 40, 40), 35), seed=1))
    assert str(many).endswith("5 more")


def test_what_is_refused():
    train = Network.random(formats.tensor_train((3, 4, 5), 2))
    cp = Network.random(formats.cp((3, 4, 5), 2))
    with pytest.raises(StructureError, match="one inner index that lies on every core"):
        components.canonical(train)
    with pytest.raises(StructureError, match="a core and a factor for each mode"):
        components.canonical_tucker(train)
    with pytest.raises(StructureError, match="needs a path of cores"):
        components.canonical_train(cp)
    with pytest.raises(TenfoldError, match="order must be 'weight' or 'drop', not 'size'"):
        components.canonical(cp, order="size")
    with pytest.raises(TenfoldError, match="sign must be 'max' or 'data', not 'plus'"):
        components.canonical(cp, sign="plus")
    with pytest.raises(DataError, match="needs the whole array"):
        components.canonical(cp, sign="data")
    with pytest.raises(DataError, match=r"data has shape \(3, 4\)"):
        components.canonical(cp, sign="data", data=torch.ones(3, 4))


def mixed(network, index, seed):
    """The same tensor with one bond in another basis."""
    random = torch.Generator().manual_seed(seed)
    size = network.structure.sizes[index]
    change = torch.randn(size, size, generator=random, dtype=torch.float64).to(network.dtype)
    inverse = torch.linalg.inv(change)
    cores = list(network.cores)
    for matrix, place in zip((change, inverse.mT), network.structure.terms_with(index), strict=True):
        number = network.structure.term_core[place]
        axis = network.structure.cores[number].indices.index(index)
        cores[number] = torch.tensordot(cores[number], matrix, dims=([axis], [0])).movedim(-1, axis)
    return network.replace(cores)


@settings(max_examples=25, deadline=None)
@given(
    shape=st.lists(st.integers(2, 6), min_size=2, max_size=4),
    rank=st.integers(1, 4),
    seed=st.integers(0, 10**6),
    dtype=st.sampled_from([torch.float64, torch.complex128]),
)
def test_tucker_is_the_higher_order_svd_whatever_the_bases(shape, rank, seed, dtype):
    network = Network.random(formats.tucker(shape, rank), seed=seed, dtype=dtype)
    if formats.name(network.structure) != "tucker":
        return
    form = components.canonical_tucker(network)
    dense = network.dense()
    assert close(form.network().dense(), dense, 1e-9)
    for axis, (mode, factor) in enumerate(form.factors.items()):
        slices = form.core.movedim(axis, 0).flatten(1)
        gram = slices @ slices.mH
        assert close(gram, torch.diag(gram.diagonal()), 1e-9)
        assert close(factor.mH @ factor, torch.eye(factor.shape[1], dtype=dtype), 1e-10)
        values = torch.linalg.svdvals(dense.movedim(axis, 0).flatten(1))[: factor.shape[1]]
        assert torch.allclose(form.norms[mode][: len(values)], values, atol=1e-8 * float(dense.norm()))
    other = components.canonical_tucker(mixed(network, network.structure.inner_indices[0], seed))
    for mode, norms in form.norms.items():
        assert torch.allclose(other.norms[mode], norms, atol=1e-6 * float(dense.norm()))


@settings(max_examples=25, deadline=None)
@given(
    shape=st.lists(st.integers(2, 6), min_size=2, max_size=5),
    rank=st.integers(1, 4),
    seed=st.integers(0, 10**6),
    dtype=st.sampled_from([torch.float64, torch.complex128]),
)
def test_trains_have_orthogonal_cores_and_the_spectra_of_the_unfoldings(shape, rank, seed, dtype):
    network = Network.random(formats.tensor_train(shape, rank), seed=seed, dtype=dtype)
    if formats.name(network.structure) != "tensor_train":
        return
    form = components.canonical_train(network)
    dense = network.dense()
    assert close(form.network().dense(), dense, 1e-9)
    for place, (core, values) in enumerate(zip(form.cores[:-1], form.spectra.values(), strict=True)):
        columns = core.reshape(-1, core.shape[2])
        assert close(columns.mH @ columns, torch.eye(core.shape[2], dtype=dtype), 1e-10)
        truth = torch.linalg.svdvals(dense.reshape(math.prod(shape[: place + 1]), -1))[: len(values)]
        assert torch.allclose(values[: len(truth)], truth, atol=1e-8 * float(dense.norm()))
    other = components.canonical_train(mixed(network, network.structure.inner_indices[0], seed))
    for bond, values in form.spectra.items():
        assert torch.allclose(other.spectra[bond], values, atol=1e-6 * float(dense.norm()))


def test_trains_that_visit_modes_in_another_order_and_ranks_that_are_too_large():
    structure = Structure("b j, i a, a k b -> i j k", i=3, j=4, k=5, a=2, b=3)
    network = Network.random(structure, seed=1)
    form = components.canonical_train(network)
    assert form.modes == ("i", "k", "j")
    assert list(form.spectra) == ["a", "b"]
    assert close(form.network().dense(), network.dense())
    wide = Network.random(Structure("i a, a j -> i j", i=2, j=3, a=7), seed=1)
    if formats.name(wide.structure) == "tensor_train":
        assert components.canonical_train(wide).structure.sizes["a"] == 2
    wide = Network.random(Structure("a b c, i a, j b, k c -> i j k", i=2, j=3, k=4, a=5, b=2, c=2), seed=1)
    form = components.canonical_tucker(wide)
    assert form.structure.sizes["a"] == 2
    assert close(form.network().dense(), wide.dense())
