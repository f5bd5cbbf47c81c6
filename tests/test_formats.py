"""The named families: parameter counts against closed forms, recognition, refusals."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tenfold import Network, Structure, formats
from tenfold.errors import StructureError

SHAPES = st.lists(st.integers(2, 6), min_size=3, max_size=5).map(tuple)


def product(numbers: Any) -> int:
    return math.prod(numbers)


@given(SHAPES, st.integers(1, 5))
def test_cp_parameters(shape: tuple[int, ...], rank: int) -> None:
    s = formats.cp(shape, rank)
    assert (s.shape, s.parameters) == (shape, rank * sum(shape))
    assert formats.name(s) == "cp"


@given(SHAPES, st.data())
def test_tucker_parameters(shape: tuple[int, ...], data: st.DataObject) -> None:
    ranks = [data.draw(st.integers(1, n)) for n in shape]
    s = formats.tucker(shape, ranks)
    assert (s.shape, s.parameters) == (shape, product(ranks) + sum(n * r for n, r in zip(shape, ranks, strict=True)))
    assert formats.name(s) == "tucker"


@given(SHAPES, st.data())
def test_tensor_train_parameters(shape: tuple[int, ...], data: st.DataObject) -> None:
    limits = [min(product(shape[: k + 1]), product(shape[k + 1 :])) for k in range(len(shape) - 1)]
    ranks = [data.draw(st.integers(1, limit)) for limit in limits]
    s = formats.tensor_train(shape, ranks)
    ends = [1, *ranks, 1]
    assert s.parameters == sum(ends[k] * n * ends[k + 1] for k, n in enumerate(shape))
    assert (s.shape, formats.name(s)) == (shape, "tensor_train")


@given(SHAPES, st.data())
def test_tensor_ring_parameters(shape: tuple[int, ...], data: st.DataObject) -> None:
    ranks = [data.draw(st.integers(1, 4)) for _ in shape]
    s = formats.tensor_ring(shape, ranks)
    assert s.parameters == sum(ranks[k - 1] * n * ranks[k] for k, n in enumerate(shape))
    assert (s.shape, formats.name(s)) == (shape, "tensor_ring")


@given(SHAPES.filter(lambda shape: len(shape) > 3), st.integers(2, 3))
def test_fully_connected_parameters(shape: tuple[int, ...], rank: int) -> None:
    s = formats.fully_connected(shape, rank)
    assert s.parameters == sum(shape) * rank ** (len(shape) - 1)
    assert (s.shape, formats.name(s)) == (shape, "fully_connected")


def test_fully_connected_takes_matrices_and_mappings() -> None:
    matrix = [[0, 2, 1, 4], [2, 0, 3, 1], [1, 3, 0, 1], [4, 1, 1, 0]]
    pairs = {(0, 1): 2, (1, 2): 3, (3, 0): 4}
    s = formats.fully_connected((3, 4, 5, 6), matrix)
    assert s == formats.fully_connected((3, 4, 5, 6), pairs)
    assert s.parameters == 3 * 2 * 4 + 4 * 2 * 3 + 5 * 3 + 6 * 4
    assert formats.name(s) == "tensor_train", "a path of bonds is a train, whatever the order of its modes"
    with pytest.raises(StructureError, match="the modes are 0 to 3"):
        formats.fully_connected((3, 4, 5, 6), {(0, 7): 2})


def test_hierarchical_tucker_parameters_on_three_trees() -> None:
    shape = (3, 4, 5, 6)
    balanced = formats.hierarchical_tucker(shape, 2)
    assert balanced.parameters == 2 * sum(shape) + 2 * 2**3 + 2**2
    comb = formats.hierarchical_tucker(shape, 2, tree=(0, (1, (2, 3))))
    assert comb.parameters == 2 * sum(shape) + 2 * 2**3 + 2**2
    assert balanced.key != comb.key
    ranks = {frozenset({0}): 3, frozenset({1}): 2, frozenset({0, 1}): 4, frozenset({2}): 5, frozenset({3}): 6}
    given_ranks = formats.hierarchical_tucker(shape, ranks, tree=((0, 1), (2, 3)))
    assert given_ranks.parameters == 3 * 3 + 4 * 2 + 3 * 2 * 4 + 5 * 5 + 6 * 6 + 5 * 6 * 4 + 4 * 4
    assert {formats.name(s) for s in (balanced, comb, given_ranks)} == {"hierarchical_tucker"}


@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4)), min_size=2, max_size=4), st.integers(1, 3))
def test_kronecker_parameters(factors: list[tuple[int, int]], terms: int) -> None:
    rows, columns = zip(*factors, strict=True)
    s = formats.kronecker(rows, columns, terms)
    assert s.shape == (product(rows), product(columns))
    assert s.parameters == terms * sum(m * n for m, n in factors)


def test_kronecker_of_two_is_the_kronecker_product() -> None:
    s = formats.kronecker((2, 3), (4, 5), 1)
    a, b = torch.randn(2, 4, dtype=torch.float64), torch.randn(3, 5, dtype=torch.float64)
    dense = Network(s, [a[None], b[None]]).dense()
    torch.testing.assert_close(dense, torch.kron(a, b))


@given(st.lists(st.tuples(st.integers(2, 4), st.integers(2, 4)), min_size=2, max_size=4), st.integers(1, 3))
def test_tensor_train_matrix_parameters(factors: list[tuple[int, int]], rank: int) -> None:
    rows, columns = zip(*factors, strict=True)
    s = formats.tensor_train_matrix(rows, columns, rank)
    ends = [1, *[rank] * (len(rows) - 1), 1]
    assert s.parameters == sum(ends[k] * m * n * ends[k + 1] for k, (m, n) in enumerate(factors))
    # A train matrix of two cores is a sum of Kronecker products of two factors, and is called so.
    expected = {"tensor_train_matrix"} if len(rows) > 2 else {"kronecker", "phm"}
    assert formats.name(s) in expected


@given(st.tuples(*[st.integers(1, 5)] * 4), st.integers(1, 3))
def test_block_tensor_train_and_monarch_parameters(factors: tuple[int, int, int, int], rank: int) -> None:
    m1, m2, n1, n2 = factors
    block = formats.block_tensor_train((m1, m2), (n1, n2), rank)
    monarch = formats.monarch((m1, m2), (n1, n2))
    assert monarch.parameters == m1 * m2 * n1 + m2 * n1 * n2
    assert block.parameters == rank * monarch.parameters
    assert block.shape == monarch.shape == (m1 * m2, n1 * n2)
    assert (formats.name(block), formats.name(monarch)) == ("block_tensor_train", "monarch")


def test_a_monarch_is_a_product_of_permuted_block_diagonals() -> None:
    m1, m2, n1, n2 = 2, 3, 4, 5
    a = torch.randn(m1, m2, n1, dtype=torch.float64)
    b = torch.randn(m2, n1, n2, dtype=torch.float64)
    right = torch.zeros(m2, n1, n1, n2, dtype=torch.float64)  # (i2 j1) x (j1' j2), zero off j1 = j1'
    left = torch.zeros(m1, m2, m2, n1, dtype=torch.float64)  # (i1 i2) x (i2' j1), zero off i2 = i2'
    for j in range(n1):
        right[:, j, j] = b[:, j]
    for i in range(m2):
        left[:, i, i] = a[:, i]
    dense = left.reshape(m1 * m2, -1) @ right.reshape(m2 * n1, -1)
    network = Network(formats.monarch((m1, m2), (n1, n2)), [a, b])
    torch.testing.assert_close(network.dense(), dense)


@pytest.mark.parametrize(("rows", "columns", "n"), [(8, 12, 4), (6, 6, 2), (9, 3, 3)])
def test_phm_parameters(rows: int, columns: int, n: int) -> None:
    s = formats.phm(rows, columns, n)
    assert s.shape == (rows, columns)
    assert s.parameters == n**3 + rows * columns // n
    assert formats.name(s) == "phm"


@given(SHAPES, st.randoms(use_true_random=False))
def test_names_do_not_depend_on_the_order_of_modes(shape: tuple[int, ...], rng: Any) -> None:
    for family in (formats.cp, formats.tucker, formats.tensor_train, formats.tensor_ring):
        s = family(shape, 2)
        outputs = list(s.outputs)
        rng.shuffle(outputs)
        terms = list(s.terms)
        rng.shuffle(terms)
        assert formats.name(Structure.of(terms, outputs, s.sizes)) == family.__name__


@pytest.mark.parametrize(
    "pattern",
    [
        "i j k -> i j k",
        "i, j -> i j",
        "U[i r], U[j r], w[r] -> i j",
        "i a b, j a c, k b c d, d -> i j k",
        "i a, a j b, b k, [] -> i j k",
        "i a, a b, b c, c k -> i k",
        "i r s b, j r s b -> i j",
    ],
)
def test_other_structures_have_no_name(pattern: str) -> None:
    s = Structure(pattern, {i: 3 for i in "ijkabcdrs" if i in pattern.replace("U", "").replace("w", "")})
    assert formats.name(s) is None


def test_one_rank_for_all_is_cut_to_what_is_of_use() -> None:
    assert formats.tensor_train((2, 9, 9, 2), 100).sizes["b"] == 18
    assert formats.tucker((2, 9), 5).sizes["a"] == 2


@pytest.mark.parametrize(
    ("call", "part"),
    [
        (lambda: formats.tucker((64, 64, 64), (8, 70, 8)), "rank 70 exceeds mode 'j' of size 64"),
        (
            lambda: formats.tensor_train((4, 4, 4), (5, 2)),
            "rank 5 exceeds the bond between modes 'i' and 'j' of size 4",
        ),
        (lambda: formats.tensor_train((4, 4, 4), (2, 2, 2)), "2 numbers, not 3"),
        (lambda: formats.cp((4, 4), 0), "rank must be at least 1"),
        (lambda: formats.cp((4, 4), 1.5), "rank must be a whole number"),
        (lambda: formats.cp(4, 1), "shape must be a sequence"),
        (lambda: formats.cp((), 1), "at least one mode"),
        (lambda: formats.cp((4, 0), 1), r"shape\[1\] must be at least 1"),
        (lambda: formats.tensor_ring((4,), 2), "at least 2 modes"),
        (lambda: formats.hierarchical_tucker((4,), 2), "at least 2 modes"),
        (lambda: formats.hierarchical_tucker((4, 4, 4), 2, tree=(0, 1)), "each mode 0 to 2 once"),
        (lambda: formats.hierarchical_tucker((4, 4, 4), 2, tree=(0, 1, 2)), "nest of pairs"),
        (lambda: formats.hierarchical_tucker((4, 4, 4), {frozenset({0}): 2}), "no entry for the edge"),
        (lambda: formats.kronecker((2, 3), (4,)), "as many factors"),
        (lambda: formats.kronecker((2,), (4,), 3), "at least 2 factors"),
        (lambda: formats.phm(10, 12, 4), "rows 10 is not divisible by n 4"),
        (lambda: formats.monarch((4,), (4,)), "at least two factors each"),
        (lambda: formats.block_tensor_train((2, 3, 4), (2, 3, 4), (2,)), "one number or 2 numbers, not 1"),
        (lambda: formats.block_tensor_train((2, 3, 4), (2, 3, 4), (2, 0)), r"rank\[1\] must be at least 1"),
    ],
)
def test_refusals_name_the_argument(call: Any, part: str) -> None:
    with pytest.raises(StructureError, match=part) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_examples_are_of_their_family() -> None:
    for name, (function, structure) in formats.examples().items():
        assert function.__name__ == name
        assert formats.name(structure) in {name, "kronecker"} or name == "low_rank"
        assert formats.name(structure, name) == name


def test_a_matrix_of_low_rank_is_called_so_where_it_is_no_train() -> None:
    plain = formats.low_rank(6, 7, 2)
    assert formats.name(plain) == "tensor_train"
    assert formats.name(plain, "low rank") == "low_rank"
    assert formats.name(Structure("a b r, r c d -> (a b) (c d)", a=2, b=3, c=4, d=5, r=2)) == "low_rank"
    assert formats.name(Structure("a r, r c d -> a (c d)", a=2, c=4, d=5, r=2)) == "low_rank"
    assert formats.name(Structure("a c r, r b d -> (a b) (c d)", a=2, b=3, c=4, d=5, r=2)) == "kronecker"


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3)), min_size=2, max_size=4), st.data())
def test_block_tensor_trains_of_any_order(factors: list[tuple[int, int]], data: st.DataObject) -> None:
    rows, columns = zip(*factors, strict=True)
    count = len(factors)
    ranks = [data.draw(st.integers(1, 3)) for _ in range(count - 1)]
    s = formats.block_tensor_train(rows, columns, ranks)
    ends = [1, *ranks, 1]
    assert s.shape == (product(rows), product(columns))
    assert s.parameters == sum(
        ends[k] * ends[k + 1] * product(rows[k:]) * product(columns[: k + 1]) for k in range(count)
    )
    assert formats.name(s) == "block_tensor_train"
    assert formats.name(formats.monarch(rows, columns)) == "monarch"
    # The products one after the other, each written out: a column index in, a row index and a bond out.
    cores = [torch.randn(core.shape, dtype=torch.float64) for core in s.cores]
    x = torch.randn(product(columns), dtype=torch.float64)
    made = x.reshape(*columns, 1, 1)  # columns to come, rows made (as one axis), bond
    for k in reversed(range(count)):
        core = cores[k].reshape(rows[k], product(rows[k + 1 :]), product(columns[:k]), columns[k], ends[k], ends[k + 1])
        held = made.reshape(product(columns[:k]), columns[k], product(rows[k + 1 :]), ends[k + 1])
        made = torch.einsum("abcdef,cdbf->cabe", core, held)
    torch.testing.assert_close(made.flatten(), Network(s, cores).dense() @ x)
