"""The pattern language, keys, sizes and JSON of structures."""

from __future__ import annotations

import copy
import pickle
import random

import numpy as np
import opt_einsum
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tenfold import Structure
from tenfold.errors import StructureError
from tenfold.structure import Term

TRAIN = Structure("i a, a j b, b k -> i j k", i=4, j=5, k=6, a=2, b=3)
PHM = Structure("n a b, n c d -> (a c) (b d)", n=2, a=3, b=4, c=5, d=6)
SYMMETRIC = Structure("U[i r], U[j r], w[r] -> i j", i=7, j=7, r=2)


def test_shape_parameters_and_cores_of_the_examples() -> None:
    assert TRAIN.shape == (4, 5, 6)
    assert TRAIN.parameters == 4 * 2 + 2 * 5 * 3 + 3 * 6
    assert PHM.shape == (15, 24)
    assert PHM.output_shape == (3, 5, 4, 6)
    assert PHM.inner_indices == ("n",)
    assert SYMMETRIC.parameters == 7 * 2 + 2, "a core that is used twice counts once"
    assert [core.name for core in SYMMETRIC.cores] == ["U", "w"]
    assert SYMMETRIC.cores[0].terms == (0, 1)
    assert SYMMETRIC.term_core == (0, 0, 1)


def test_scalars() -> None:
    s = Structure("i, i, [], c[] ->", i=3)
    assert (s.shape, s.size, s.parameters) == ((), 1, 8)
    assert Structure(s.pattern, s.sizes) == s


def test_an_empty_group_is_an_axis_of_one() -> None:
    assert Structure("i -> i ()", i=3).shape == (3, 1)


@pytest.mark.parametrize(
    ("pattern", "marked"),
    [
        ("i a, a j", "»«"),
        ("i a -> i -> a", "»->«"),
        ("i a,, a j -> i j", "»,«"),
        (", a -> a", "»,«"),
        (" -> i", "»->«"),
        ("i a, -> i", "»->«"),
        ("i 2a -> i", "»2«"),
        ("i.a -> i", "».«"),
        ("(i a) -> i", "»(«"),
        ("U[i r -> i", "»[«"),
        ("U[i [r]] -> i", "»[«"),
        ("i] -> i", "»]«"),
        ("U[i r] j -> i", "»j«"),
        ("i j U[r] -> i", "»[«"),
        ("i j -> (i j", "»(«"),
        ("i j -> ((i) j)", "»(«"),
        ("i j -> i) j", "»)«"),
        ("i j -> i, j", "»,«"),
        ("i j -> [i j]", "»[«"),
        ("i j -> i j i", "»i«"),
        ("i j -> (i i) j", "»(i i)«"),
        ("i j -> i j k", "»k«"),
        ("i i -> i", "»i i«"),
        ("i a -> i", "»i a«"),
        ("i a, j -> i j", "»i a«"),
    ],
)
def test_errors_point_into_the_pattern_in_one_line(pattern: str, marked: str) -> None:
    with pytest.raises(StructureError) as caught:
        Structure(pattern, dict.fromkeys("iajkr", 2))
    message = str(caught.value)
    assert marked in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("pattern", "sizes", "part"),
    [
        ("i a, a j -> i j", {"i": 2, "j": 2}, "'a' of"),
        ("i a, a j -> i j", {"i": 2, "j": 2, "a": 2, "z": 1}, "'z'"),
        ("i j -> i j", {"i": 0, "j": 2}, "at least 1"),
        ("i j -> i j", {"i": -3, "j": 2}, "at least 1"),
        ("i j -> i j", {"i": 2.5, "j": 2}, "whole number"),
        ("i j -> i j", {"i": True, "j": 2}, "whole number"),
        ("i j -> i j", {"i": "3", "j": 2}, "whole number"),
        ("U[i r], U[j r] -> i j", {"i": 3, "j": 4, "r": 2}, "one tensor"),
        ("U[i r], U[j] -> i j r", {"i": 3, "j": 3, "r": 2}, "used before with 2 indices"),
    ],
)
def test_size_errors_name_the_index(pattern: str, sizes: dict, part: str) -> None:
    with pytest.raises(StructureError, match=part):
        Structure(pattern, sizes)


def test_pattern_must_be_a_string() -> None:
    with pytest.raises(StructureError, match="must be a string"):
        Structure(["i j"], i=1)  # type: ignore[arg-type]


def test_sizes_from_a_shape() -> None:
    s = Structure.for_shape("x a, a t b, b y -> x t y", (10, 20, 30), {"a": 2, "b": 3})
    assert s.sizes == {"x": 10, "a": 2, "t": 20, "b": 3, "y": 30}
    grouped = Structure.for_shape("n a b, n c d -> (a c) (b d)", (12, 10), {"n": 2, "a": 3, "d": 5})
    assert (grouped.sizes["c"], grouped.sizes["b"]) == (4, 2)
    assert Structure.for_shape("i a, a j -> i j", (3, 4), bonds=1).sizes["a"] == 1


@pytest.mark.parametrize(
    ("pattern", "shape", "sizes", "part"),
    [
        ("i j -> i j", (3,), {}, "2 output axes but the data has 1 axis"),
        ("a c -> (a c)", (12,), {}, "all but one"),
        ("a c -> (a c)", (12,), {"a": 5}, "not divisible by a=5"),
        ("a c -> (a c)", (12,), {"a": 5, "c": 2}, "not equal to a=5 x c=2"),
        ("i j -> i j", (3, 4), {"i": 5}, "not equal to i=5"),
    ],
)
def test_shape_errors(pattern: str, shape: tuple, sizes: dict, part: str) -> None:
    with pytest.raises(StructureError, match=part):
        Structure.for_shape(pattern, shape, sizes)


def test_a_structure_is_a_value() -> None:
    same = Structure(" i a ,a j b,b k->i j k ", TRAIN.sizes)
    assert same == TRAIN
    assert hash(same) == hash(TRAIN)
    assert {TRAIN: 1}[same] == 1
    assert TRAIN.replace(a=3) != TRAIN
    with pytest.raises(AttributeError, match="cannot be changed"):
        TRAIN.outputs = ()  # type: ignore[misc]
    for twin in (pickle.loads(pickle.dumps(TRAIN)), copy.deepcopy(TRAIN)):
        assert twin == TRAIN
        assert twin.key == TRAIN.key


def test_terms_may_be_lists() -> None:
    structure = Structure.of([Term(None, ["i"]), ["i"]], [], {"i": 2})  # type: ignore[arg-type]
    assert hash(structure) == hash(Structure("i, i ->", i=2))


def test_replace_and_rename() -> None:
    assert TRAIN.replace(a=4).parameters == 4 * 4 + 4 * 5 * 3 + 3 * 6
    swapped = TRAIN.rename({"i": "a", "a": "i"})
    assert swapped.pattern == "a i, i j b, b k -> a j k"
    assert swapped.key == TRAIN.key
    with pytest.raises(StructureError, match="to two indices"):
        TRAIN.rename({"i": "j"})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "null",
        "{}",
        '{"v": 2, "cores": [], "out": [], "sizes": {}}',
        '{"v": 1, "cores": [{"name": null, "indices": "i"}], "out": [["i"]], "sizes": {"i": 2}}',
        '{"v": 1, "cores": [{"name": 7, "indices": ["i"]}], "out": [["i"]], "sizes": {"i": 2}}',
        '{"v": 1, "cores": [{"name": null, "indices": ["i"]}], "out": [["i"]], "sizes": {"i": "2"}}',
        '{"v": 1, "cores": [{"name": null, "indices": ["i j"]}], "out": [["i j"]], "sizes": {"i j": 2}}',
        "[" * 100_000,
    ],
)
def test_json_of_anything_else_is_refused(text: str) -> None:
    with pytest.raises(StructureError):
        Structure.from_json(text)


def test_einsum_of_more_than_52_indices() -> None:
    n = 40
    sizes = {**{f"i{k}": 1 for k in range(n)}, **{f"r{k}": 2 for k in range(n - 1)}}
    terms = [tuple(x for x in (f"r{k - 1}", f"i{k}", f"r{k}") if x in sizes) for k in range(n)]
    s = Structure.of(terms, [f"i{k}" for k in range(n)], sizes)
    cores = [np.full([sizes[i] for i in term], 0.5) for term in terms]
    value = opt_einsum.contract(s.einsum(), *cores).item()
    assert value == pytest.approx(0.5**n * 2 ** (n - 1))


def test_einsum_runs_on_torch() -> None:
    cores = [torch.ones(core.shape, dtype=torch.float64) for core in PHM.cores]
    assert torch.einsum(PHM.einsum(), *cores).shape == PHM.output_shape


def test_cost_of_a_train_is_what_its_products_cost() -> None:
    cost = TRAIN.cost()
    # (i a, a j b) then (i j b, b k), or from the other end: the cheaper one.
    left = 2 * 4 * 2 * 5 * 3 + 2 * 4 * 5 * 3 * 6
    right = 2 * 2 * 5 * 3 * 6 + 2 * 4 * 2 * 5 * 6
    assert cost.flops == min(left, right)
    assert cost.parameters == TRAIN.parameters
    assert cost.largest == TRAIN.size
    text = str(cost)
    assert "i a , a j b" in text or "a j b , b k" in text
    assert "speedup" in text


# --- keys -------------------------------------------------------------------------------------------------------------


def _shuffled(s: Structure, seed: int) -> Structure:
    """The same structure with other names, cores in another order, and other index orders within cores."""
    rng = random.Random(seed)
    names = [f"n{k}" for k in range(len(s.sizes))]
    rng.shuffle(names)
    renamed = s.rename(dict(zip(s.sizes, names, strict=True)))
    order = {}
    for core in renamed.cores:
        order[core.name] = rng.sample(range(len(core.indices)), len(core.indices))
    terms = [
        Term(f"q_{t.name}" if t.name else None, tuple(t.indices[k] for k in order[renamed.cores[c].name]))
        for t, c in zip(renamed.terms, renamed.term_core, strict=True)
    ]
    rng.shuffle(terms)
    return Structure.of(terms, renamed.outputs, renamed.sizes)


@given(st.sampled_from([TRAIN, PHM, SYMMETRIC]), st.integers(0, 10**6))
def test_key_does_not_depend_on_names_and_order(s: Structure, seed: int) -> None:
    assert _shuffled(s, seed).key == s.key


@given(st.integers(2, 7), st.integers(0, 10**6))
def test_key_of_symmetric_graphs_without_outputs(n: int, seed: int) -> None:
    edges = [(a, b) for a in range(n) for b in range(a)]
    terms = [tuple(f"e{a}_{b}" for a, b in edges if v in (a, b)) for v in range(n)]
    s = Structure.of(terms, [], {f"e{a}_{b}": 2 for a, b in edges})
    assert _shuffled(s, seed).key == s.key


@pytest.mark.parametrize("part", ["[]", "a{0}, a{0}", "a{0} b{0}, b{0} c{0}, c{0} a{0}"])
def test_key_of_many_equal_parts(part: str) -> None:
    """Hundreds of interchangeable parts have factorially many automorphisms together."""

    def repeated(times: int) -> Structure:
        pattern = ", ".join(part.format(k) for k in range(times)) + " ->"
        return Structure(pattern, {f"{name}{k}": 2 for k in range(times) for name in "abc" if name in part})

    assert _shuffled(repeated(300), 0).key == repeated(300).key
    assert repeated(299).key != repeated(300).key


def test_key_tells_different_structures_apart() -> None:
    different = [
        TRAIN,
        TRAIN.replace(a=3),
        Structure("i a, a j b, b k -> i k j", TRAIN.sizes),
        Structure("i a, a j b, b k -> (i j) k", TRAIN.sizes),
        Structure("i a, a j b, b k -> (j i) k", TRAIN.sizes),
        Structure("i a b, a j, b k -> i j k", TRAIN.sizes),
        Structure("i a, j a b, b k -> i j k", {**TRAIN.sizes, "a": 3, "b": 2}),
        SYMMETRIC,
        Structure("U[i r], V[j r], w[r] -> i j", SYMMETRIC.sizes),
        Structure("U[i r], U[j r], U[k r] -> i j k", i=7, j=7, k=7, r=2),
        Structure("U[i r], U[r j] -> i j", i=7, j=7, r=7),
        Structure("U[i r], U[j r] -> i j", i=7, j=7, r=7),
        Structure("i a b, j a b -> i j", i=7, j=7, a=2, b=2),
        Structure("i a, j a -> i j", i=7, j=7, a=4),
    ]
    keys = [s.key for s in different]
    assert len(set(keys)) == len(keys)


def test_key_tells_cospectral_graphs_apart() -> None:
    """Two six-cycles' worth of edges: one hexagon or two triangles. Colour refinement alone cannot tell them apart."""

    def cycle_graph(edges: list[tuple[int, int]]) -> Structure:
        terms = [tuple(f"e{n}" for n, edge in enumerate(edges) if v in edge) for v in range(6)]
        return Structure.of(terms, [], {f"e{n}": 2 for n in range(len(edges))})

    hexagon = cycle_graph([(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 0)])
    triangles = cycle_graph([(0, 1), (1, 2), (2, 0), (3, 4), (4, 5), (5, 3)])
    assert hexagon.key != triangles.key
