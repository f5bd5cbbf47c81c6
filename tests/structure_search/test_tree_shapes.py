"""Ranks of trees: the exact best against all ranks there are, and the bounds against true errors."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tenfold import formats
from tenfold._tree_program import Program, rooted
from tenfold._tree_ranks import choose_ranks
from tenfold._trees import outputs_beyond
from tenfold.decomposition import find
from tenfold.errors import DataError, StructureError, TenfoldError
from tenfold.network import Network
from tenfold.structure import Structure
from tenfold.structure_search.core_shapes import core_shape
from tenfold.structure_search.spectra import bond_spectra, mode_spectra
from tenfold.structure_search.tree_shapes import tree_shape

TRAIN = Structure("i a, a j b, b k -> i j k", i=4, j=3, k=5, a=4, b=5)
TREES = [
    TRAIN,
    Structure("i a, a j b, b k c, c l -> i j k l", i=2, j=4, k=3, l=3, a=2, b=4, c=3),
    Structure("a b c, i a, j b, k c -> i j k", i=5, j=4, k=3, a=5, b=4, c=3),
    Structure("p q, a b p, c d q, i a, j b, k c, l d -> i j k l", i=3, j=2, k=4, l=2, a=3, b=2, c=4, d=2, p=3, q=3),
    # Outputs in the middle, several of them on a core, a core without any, and a part without connection.
    Structure("a b c n, i m a, j b, c d, d k -> i m j k n", i=2, m=2, j=3, k=4, n=2, a=4, b=3, c=3, d=3),
    Structure("i a, a j, k b, b l -> i j k l", i=4, j=5, k=3, l=4, a=4, b=3),
    Structure("i, j -> i j", i=3, j=4),
]


@st.composite
def trees(draw: st.DrawFn) -> Structure:
    """Up to five cores, each joined to one before it, with up to two outputs each; ends have one at least."""
    count = draw(st.integers(2, 5))
    parents = [draw(st.integers(0, node - 1)) for node in range(1, count)]
    terms: list[list[str]] = [[] for _ in range(count)]
    sizes: dict[str, int] = {}
    for node, parent in enumerate(parents, start=1):
        sizes[f"b{node}"] = 1
        terms[node].append(f"b{node}")
        terms[parent].append(f"b{node}")
    for node in range(count):
        for number in range(draw(st.integers(int(len(terms[node]) == 1), 2))):
            name = f"i{node}{number}"
            sizes[name] = draw(st.integers(1, 4))
            terms[node].append(name)
    outputs = draw(st.permutations([name for name in sizes if name.startswith("i")]))
    inputs = ", ".join(" ".join(draw(st.permutations(term))) for term in terms)
    structure = Structure(f"{inputs} -> {' '.join(outputs)}", **sizes)
    sides = {bond: outputs_beyond(structure, bond) for bond in structure.inner_indices}
    total = math.prod(structure.shape)
    rows = {bond: math.prod(structure.sizes[index] for index in side) for bond, side in sides.items()}
    # Four ranks a bond are few enough to try them all.
    return structure.replace({bond: min(4, size, total // size) for bond, size in rows.items()})


def drawn(structure: Structure, seed: int) -> dict[str, np.ndarray]:
    """Spectra that fall as powers or stay level, with ties; squares adding up to one."""
    generator = np.random.default_rng(seed)
    found = {}
    for bond in structure.inner_indices:
        count = int(generator.integers(1, structure.sizes[bond] + 1))
        values = np.arange(1, count + 1) ** -generator.choice([0.0, 0.5, 1.5])
        values = np.sort(values * np.exp(generator.choice([0.0, 0.3]) * generator.standard_normal(count)))[::-1]
        found[bond] = values / np.linalg.norm(values)
    return found


def every(structure: Structure, spectra: dict[str, np.ndarray]) -> list[tuple[int, float]]:
    """Size and bound of all ranks there are."""
    bonds = structure.inner_indices
    tails = [[math.fsum(spectra[bond][k:] ** 2) for k in range(len(spectra[bond]) + 1)] for bond in bonds]
    found = []
    for ranks in itertools.product(*(range(1, len(spectra[bond]) + 1) for bond in bonds)):
        size = structure.replace(dict(zip(bonds, ranks, strict=True))).parameters
        found.append((size, math.fsum(tail[rank] for tail, rank in zip(tails, ranks, strict=True))))
    return found


@given(st.sampled_from(TREES) | trees(), st.integers(0, 2**20), st.floats(0, 1), st.integers(1, 5))
@settings(max_examples=200)
def test_exact_is_the_best_of_all(structure: Structure, seed: int, part: float, count: int) -> None:
    spectra = drawn(structure, seed)
    known = every(structure, spectra)
    sizes = sorted(size for size, _ in known)
    budget = round(sizes[0] + part * (sizes[-1] - sizes[0]))
    found = tree_shape(structure, spectra, parameters=budget)
    assert found.parameters <= budget
    within = sorted(cost for size, cost in known if size <= budget)
    assert found.bound == pytest.approx(within[0], abs=1e-12)
    bonds = len(structure.inner_indices)
    assert found.lower <= found.bound <= max(bonds, 1) * found.lower + 1e-15

    costs = {bond: np.append(np.square(v)[::-1].cumsum()[::-1], 0.0) for bond, v in spectra.items()}
    several = Program(rooted(structure, costs)).solve(size=budget, count=count)
    assert [one.cost for one in several] == pytest.approx(within[:count], abs=1e-12)
    assert len({tuple(one.ranks.items()) for one in several}) == len(several)

    error = part * math.sqrt(max(cost for _, cost in known))
    smallest = tree_shape(structure, spectra, error=error)
    assert smallest.bound <= error**2 * (1 + 1e-9)
    assert smallest.parameters == min(size for size, cost in known if cost <= error**2 * (1 + 1e-12))
    assert choose_ranks(structure, {bond: v.tolist() for bond, v in spectra.items()}, error=error) is not None


def test_a_star_is_a_core_shape() -> None:
    generator = torch.Generator().manual_seed(4)
    tensor = torch.randn(9, 8, 7, 6, generator=generator, dtype=torch.float64).cumsum(0).cumsum(2)
    structure = formats.tucker(tensor.shape, 1)
    spectra = bond_spectra(tensor, structure)
    for mode, values in zip(mode_spectra(tensor), spectra.values(), strict=True):
        torch.testing.assert_close(mode, values)
    for budget in (40, 100, 300, 1000):
        star = tree_shape(structure, spectra, parameters=budget)
        core = core_shape(list(spectra.values()), tensor.shape, budget)
        assert star.bound == pytest.approx(core.bound, abs=1e-14)


def test_order_eight_takes_no_enumeration() -> None:
    generator = np.random.default_rng(0)
    spectra = []
    for extent in (20,) * 8:
        values = np.sort(np.arange(1, extent + 1) ** -0.8 * np.exp(0.3 * generator.standard_normal(extent)))[::-1]
        spectra.append(values / np.linalg.norm(values))
    shapes = {how: core_shape(spectra, (20,) * 8, 100_000, how=how) for how in ("exact", "greedy", "bang_for_buck")}
    assert shapes["exact"].parameters <= 100_000
    assert shapes["exact"].bound < min(shapes["greedy"].bound, shapes["bang_for_buck"].bound)


def test_products_of_many_long_modes_are_no_whole_numbers_of_64_bits() -> None:
    values = np.arange(1, 101) ** -0.6
    shapes = {how: core_shape([values] * 10, (100,) * 10, 10**5, how=how) for how in ("exact", "bang_for_buck")}
    assert shapes["exact"].parameters <= 10**5
    assert shapes["exact"].bound <= shapes["bang_for_buck"].bound


@pytest.mark.parametrize("scale", [1.0, 1e200, 1e-200, 0.0])
def test_the_scale_of_spectra_does_not_matter(scale: float) -> None:
    spectra = {"a": [4.0, 2.0, 1.0, 0.5], "b": [4.0, 2.2, 0.6, 0.1, 0.0]}
    scaled = {bond: [scale * value for value in values] for bond, values in spectra.items()}
    ranks = choose_ranks(TRAIN, scaled, error=0.2)
    assert ranks == (choose_ranks(TRAIN, spectra, error=0.2) if scale else {"a": 1, "b": 1})
    assert ranks == tree_shape(TRAIN, scaled, error=0.2).ranks


@pytest.mark.parametrize("name", ["tensor_train", "hierarchical_tucker"])
def test_planted_ranks_are_found_and_errors_lie_between_the_bounds(name: str) -> None:
    shape = (5, 6, 4, 5)
    full = getattr(formats, name)(shape, 3)
    planted = Network.random(full, seed=2, dtype=torch.float64).dense()
    found = tree_shape(full, bond_spectra(planted, full), error=1e-6)
    assert found.structure == full
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    tensor = planted / planted.norm() + 0.3 * noise / noise.norm()
    spectra = bond_spectra(tensor, full)
    for budget in (40, 80, 150):
        chosen = tree_shape(full, spectra, parameters=budget)
        done = find("two_site").function(tensor, chosen.structure, max_sweeps=4)
        truncated = find("tree_svd").function(tensor, chosen.structure)
        assert chosen.lower - 1e-12 <= done.error**2
        assert truncated.error**2 <= chosen.bound + 1e-12


def test_singular_values_across_a_bond_are_those_of_the_matricisation() -> None:
    generator = torch.Generator().manual_seed(1)
    tensor = torch.randn(4, 3, 5, 2, generator=generator, dtype=torch.complex128)
    structure = Structure("i k a, a j l -> i j k l", i=4, j=3, k=5, l=2, a=2)
    (found,) = bond_spectra(1e200 * tensor, structure).values()
    matrix = tensor.permute(0, 2, 1, 3).reshape(20, 6)
    torch.testing.assert_close(found / 1e200, torch.linalg.svdvals(matrix))
    with pytest.raises(StructureError, match=r"structure is for shape \(4, 3, 5, 2\), but tensor has shape \(2, 3\)"):
        bond_spectra(torch.ones(2, 3), structure)
    with pytest.raises(DataError, match="tensor is of type ndarray: give a torch tensor"):
        bond_spectra(np.ones(structure.shape), structure)


@given(trees(), st.integers(0, 2**20), st.floats(0, 1))
@settings(max_examples=25)
def test_errors_of_random_trees_lie_between_the_bounds(structure: Structure, seed: int, part: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    tensor = torch.randn(structure.shape, generator=generator, dtype=torch.float64)
    low = structure.replace(dict.fromkeys(structure.inner_indices, 1)).parameters
    chosen = tree_shape(
        structure, bond_spectra(tensor, structure), parameters=round(low + part * (3 * structure.parameters - low))
    )
    truncated = find("tree_svd").function(tensor, chosen.structure)
    assert chosen.lower - 1e-12 <= truncated.error**2 <= chosen.bound + 1e-12


def test_a_tensor_of_nothing_and_budgets_beyond_all_need() -> None:
    nothing = bond_spectra(torch.zeros(TRAIN.shape), TRAIN)
    for asked in ({"parameters": 12}, {"parameters": 10**30}, {"error": 0.0}, {"error": 1e300}, {"error": 10**400}):
        found = tree_shape(TRAIN, nothing, **asked)
        assert (found.ranks, found.bound, found.lower) == ({"a": 1, "b": 1}, 0.0, 0.0)
    # What is left of a budget is not spent on nothing.
    spectra = bond_spectra(torch.ones(TRAIN.shape), TRAIN)
    assert tree_shape(TRAIN, spectra, parameters=10**30).parameters == 12


GOOD = {"a": [3.0, 1.0], "b": [3.0, 1.0]}


@pytest.mark.parametrize(
    ("structure", "spectra", "asked", "said"),
    [
        (TRAIN, GOOD, {"parameters": 11}, "parameters 11 is too few: .* at least 12"),
        (TRAIN, GOOD, {}, "give either parameters or error"),
        (TRAIN, GOOD, {"parameters": 20, "error": 0.1}, "give either parameters or error"),
        (TRAIN, GOOD, {"parameters": 0}, "parameters 0 is too few: .* at least 12"),
        (TRAIN, GOOD, {"parameters": -3}, "parameters -3 is too few: .* at least 12"),
        (TRAIN, GOOD, {"parameters": 20.5}, "parameters must be a whole number, not 20.5"),
        (TRAIN, GOOD, {"error": "0.1"}, "error is '0.1': it must be a number of at least 0"),
        (TRAIN, GOOD, {"error": True}, "error is True"),
        (TRAIN, [[3.0], [3.0]], {"error": 0.1}, "spectra is of type list: give a mapping"),
        (
            TRAIN,
            {"a": [3.0] * 5, "b": [3.0]},
            {"error": 0.1},
            "bond 'a' has 5 singular values, more than the 4 ",
        ),
        (TRAIN, {"a": [3.0, math.nan], "b": [3.0]}, {"error": 0.1}, "spectrum of a has values that are not finite"),
        (TRAIN, GOOD, {"error": math.nan}, "error is nan"),
        (TRAIN, GOOD, {"error": -1.0}, "error is -1.0"),
        (TRAIN, {"a": [1.0]}, {"error": 0.1}, "spectra has 'a': give one for each bond of the tree, 'a', 'b'"),
        (TRAIN, GOOD | {"c": [1.0]}, {"error": 0.1}, "give one for each bond"),
        (TRAIN, {"a": [3.0, 4.0], "b": [5.0]}, {"error": 0.1}, "spectrum of a increases"),
        (TRAIN, {"a": [3.0, 1.0], "b": [3.0]}, {"error": 0.1}, "error 0.1 is too small: .* the bound is 0.316"),
        (formats.tensor_ring((3, 3, 3), 2), {}, {"error": 0.1}, "close a cycle"),
        (Structure("i a b, a b j -> i j", i=2, j=2, a=2, b=2), {}, {"error": 0.1}, "bonds 'a' and 'b' join the same"),
    ],
)
def test_what_is_refused(structure: Structure, spectra: dict, asked: dict, said: str) -> None:
    with pytest.raises(TenfoldError, match=said) as caught:
        tree_shape(structure, spectra, **asked)
    assert "\n" not in str(caught.value)
