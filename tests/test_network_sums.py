"""Sums of networks, and rounding them by singular values, Gram matrices and random networks."""

from __future__ import annotations

import math
from functools import reduce

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tenfold import Network, Structure, formats
from tenfold.errors import DataError, StructureError, TenfoldError

SUMMABLE = {
    "cp": formats.cp((3, 4, 5), 2),
    "tucker": formats.tucker((3, 4, 5), 2),
    "train": formats.tensor_train((3, 4, 5, 2), 3),
    "ring": formats.tensor_ring((3, 4, 5), 2),
    "tree": formats.hierarchical_tucker((3, 4, 5, 2), 2),
    "train matrix": formats.tensor_train_matrix((2, 3), (4, 5), 3),
    "symmetric": Structure("U[i r], U[j r], w[r] -> i j", i=5, j=5, r=2),
    "scalar": Structure("i a, i a ->", i=3, a=2),
    "vector": Structure("i -> i", i=4),
    "parallel bonds": Structure("i a b, a b j -> j i", i=7, j=8, a=2, b=2),
}
TREES = ["tucker", "train", "tree", "train matrix", "vector", "parallel bonds"]


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
@pytest.mark.parametrize("name", SUMMABLE)
def test_sums_are_those_of_the_dense_tensors(name: str, dtype: torch.dtype) -> None:
    structure = SUMMABLE[name]
    first = Network.random(structure, seed=1, dtype=dtype)
    wider = structure.replace({index: structure.sizes[index] + 1 for index in structure.inner_indices})
    second = Network.random(wider, seed=2, dtype=dtype)
    torch.testing.assert_close((first + second).dense(), first.dense() + second.dense())
    torch.testing.assert_close((first - second).dense(), first.dense() - second.dense())
    torch.testing.assert_close((2.5 * first * -1.0).dense(), -2.5 * first.dense())
    for index in structure.inner_indices:
        assert (first + second).structure.sizes[index] == 2 * structure.sizes[index] + 1


def test_names_of_inner_indices_do_not_matter_and_gradients_flow() -> None:
    first = Network.random(Structure("i a, a j -> i j", i=3, j=4, a=2), seed=1)
    second = Network.random(Structure("i c, c j -> i j", i=3, j=4, c=3), seed=2)
    core = second.cores[0].clone().requires_grad_()
    total = first + second.replace([core, second.cores[1]])
    assert total.structure.sizes["a"] == 5
    (gradient,) = torch.autograd.grad(total.dense().sum(), core)
    torch.testing.assert_close(gradient, second.cores[1].sum(1).expand(3, 3))


@pytest.mark.parametrize("name", [name for name in TREES if name != "parallel bonds"])
def test_a_rounded_network_can_be_subtracted(name: str) -> None:
    network = Network.random(SUMMABLE[name], seed=1)
    for method in ("svd", "gram"):
        difference = network - network.round(error=1e-6, method=method)
        assert float(difference.dense().norm()) <= 1e-5 * float(network.norm())


def test_what_cannot_be_added_says_why() -> None:
    train = Network.random(formats.tensor_train((3, 4, 5), 2))
    with pytest.raises(StructureError, match="only the sizes of inner indices may differ"):
        train + Network.random(formats.tucker((3, 4, 5), 2))
    with pytest.raises(StructureError, match=r"networks of shapes \(3, 4, 5\) and \(3, 5, 4\)"):
        train + Network.random(formats.tensor_train((3, 5, 4), 2))
    with pytest.raises(DataError, match="float32"):
        train + Network.random(train.structure, dtype=torch.float32)
    parts = Network.random(Structure("i, j -> i j", i=3, j=4))
    with pytest.raises(StructureError, match="parts that no inner index connects"):
        parts + parts
    mixed = Network.random(Structure("U[i r], U[r j] -> i j", i=3, j=3, r=3))
    with pytest.raises(StructureError, match="inside and outside"):
        mixed + mixed
    twice = Network.random(Structure("U[i r], U[j r] -> i j", i=3, j=3, r=2))
    with pytest.raises(StructureError, match="every core is used more than once"):
        2 * twice
    with pytest.raises(TypeError):
        train + 1


@settings(max_examples=40, deadline=None)
@given(
    name=st.sampled_from(TREES),
    method=st.sampled_from(["gram", "random"]),
    copies=st.integers(1, 4),
    seed=st.integers(0, 100),
    is_complex=st.booleans(),
)
def test_a_sum_of_equals_is_as_narrow_as_one(name: str, method: str, copies: int, seed: int, is_complex: bool) -> None:
    structure = SUMMABLE[name]
    one = Network.random(structure, seed=seed, dtype=torch.complex128 if is_complex else torch.float64)
    total = reduce(lambda left, right: left + right, [one] * copies)
    ranks = {bond: structure.sizes[bond] for bond in structure.inner_indices}
    if name == "parallel bonds":
        ranks = {"a": 4}  # both bonds together
    rounded = total.round(ranks=ranks, method=method)
    torch.testing.assert_close(rounded.dense(), copies * one.dense(), rtol=1e-6, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(name=st.sampled_from(TREES), error=st.sampled_from([0.5, 0.1, 1e-3, 1e-5]), seed=st.integers(0, 100))
def test_gram_rounding_keeps_its_word(name: str, error: float, seed: int) -> None:
    structure = SUMMABLE[name]
    network = Network.random(structure, seed=seed) + 0.05 * Network.random(structure, seed=seed + 1)
    network = network + 1e-4 * Network.random(structure, seed=seed + 2)
    dense = network.dense()
    rounded = network.round(error=error, method="gram")
    assert float((rounded.dense() - dense).norm()) <= (error + 1e-7) * float(dense.norm())
    by_svd = network.round(error=error / math.sqrt(max(len(structure.inner_indices), 1)))
    assert rounded.parameters <= by_svd.parameters


def test_rounding_to_ranks_is_nearly_as_good_as_by_singular_values() -> None:
    """Two hundred terms that decay: no exact rank, so sketches have something to lose."""
    shape = (8, 9, 7, 8, 9)
    terms = [(0.7**k) * Network.random(formats.tensor_train(shape, 2), seed=k) for k in range(30)]
    total = reduce(lambda left, right: left + right, terms)
    dense = total.dense()
    ranks = dict.fromkeys(total.structure.inner_indices, 12)
    errors = {
        method: float((total.round(ranks=ranks, method=method).dense() - dense).norm() / dense.norm())
        for method in ("svd", "gram", "random")
    }
    assert 1e-3 < errors["svd"] < 0.5
    assert errors["gram"] == pytest.approx(errors["svd"], rel=0.05)
    assert errors["random"] < 1.25 * errors["svd"]


def test_rounding_methods_refuse_what_they_cannot() -> None:
    train = Network.random(formats.tensor_train((3, 4, 5), 2))
    with pytest.raises(StructureError, match="'svd'"):
        train.round(error=1e-9, method="gram")
    with pytest.raises(StructureError, match="takes ranks"):
        train.round(error=0.1, method="random")
    with pytest.raises(StructureError, match="there are svd, gram, random"):
        train.round(error=0.1, method="qr")  # type: ignore[arg-type]
    zero = train.replace([torch.zeros_like(core) for core in train.cores])
    for method in ("gram", "random"):
        assert not zero.round(ranks={"a": 1, "b": 1}, method=method).dense().any()
    cycle = Network.random(formats.tensor_ring((3, 4, 5), 2))
    for method in ("gram", "random"):
        with pytest.raises(StructureError, match="cycle"):
            cycle.round(ranks={"a": 1}, method=method)


def test_random_rounding_is_that_of_its_seed() -> None:
    train = Network.random(formats.tensor_train((6, 7, 8), 5))
    first, again, other = (train.round(ranks={"a": 2, "b": 2}, method="random", seed=s) for s in (3, 3, 4))
    assert all(torch.equal(a, b) for a, b in zip(first.cores, again.cores, strict=True))
    assert not torch.equal(first.cores[1], other.cores[1])


@pytest.mark.parametrize("method", ["svd", "gram", "random"])
def test_rounding_keeps_the_order_of_axes(method: str) -> None:
    for name in ("tucker", "train", "tree", "train matrix"):
        structure = SUMMABLE[name]
        rounded = Network.random(structure).round(ranks=dict.fromkeys(structure.inner_indices, 1), method=method)
        assert [core.indices for core in rounded.structure.cores] == [core.indices for core in structure.cores]


def test_negation_division_and_complex_numbers() -> None:
    network = Network.random(SUMMABLE["train"], seed=0)
    torch.testing.assert_close((-network).dense(), -network.dense())
    torch.testing.assert_close((network / 4).dense(), network.dense() / 4)
    torch.testing.assert_close((network * np.float64(2)).dense(), 2 * network.dense())
    turned = (1 + 2j) * network
    assert {core.dtype for core in turned.cores} == {torch.complex128}
    torch.testing.assert_close(turned.dense(), (1 + 2j) * network.dense())
    torch.testing.assert_close((network / 2j).dense(), network.dense() / 2j)
    with pytest.raises(TypeError):
        network / "x"  # type: ignore[operator]


def test_networks_of_other_shapes_are_not_added() -> None:
    wide, narrow = Network.random(formats.cp((3, 4), 2)), Network.random(formats.cp((3, 5), 2))
    with pytest.raises(StructureError, match=r"cannot add networks of shapes \(3, 4\) and \(3, 5\)"):
        wide + narrow


@pytest.mark.parametrize("method", ["svd", "gram", "random"])
def test_one_rank_is_that_of_every_bond(method: str) -> None:
    network = Network.random(SUMMABLE["train"], seed=0)
    narrow = network.round(ranks=2, method=method)  # type: ignore[arg-type]
    assert {narrow.structure.sizes[bond] for bond in narrow.structure.inner_indices} == {2}
    for wrong in (0, True, 1.5, "2"):
        with pytest.raises(TenfoldError, match="ranks must be a whole number of at least 1"):
            network.round(ranks=wrong, method=method)  # type: ignore[arg-type]
    with pytest.raises(TenfoldError, match="error must be at least 0 and below 1, not 'x'"):
        network.round(error="x", method=method)  # type: ignore[arg-type]
