"""Two-site sweeps: better than the sequential SVD at equal ranks, smaller at equal error."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tenfold import Network, Structure, formats
from tenfold.decomposition import Progress, hooi, relative_error, tree_svd, two_site
from tenfold.errors import DataError, StructureError

TREES = {
    "train": formats.tensor_train((7, 6, 8, 5), 3),
    "tucker": formats.tucker((7, 6, 8), 3),
    "tree": formats.hierarchical_tucker((5, 6, 4, 5), 3),
    "grouped": Structure("i a, a j b, b k -> (i j) k", i=5, j=6, k=7, a=3, b=3),
    "matrix": formats.tensor_train((9, 8), 3),
}


def noise(shape: tuple[int, ...], seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@pytest.mark.parametrize("name", TREES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
def test_no_sweep_raises_the_error_and_the_svd_is_never_better(name: str, dtype: torch.dtype):
    structure = TREES[name]
    data = noise(structure.shape, dtype=dtype)
    start = tree_svd(data, structure)
    found = two_site(data, structure)
    assert found.network.structure == structure
    assert found.error == pytest.approx(relative_error(data, found.network), rel=1e-12)
    assert found.error <= start.error * (1 + 1e-12)
    for before, after in zip(found.errors, found.errors[1:], strict=False):
        assert after <= before * (1 + 1e-10)
    if name in ("train", "tucker", "tree"):
        assert found.error < start.error


def test_on_a_star_it_is_as_good_as_orthogonal_iteration():
    data = noise((9, 8, 7))
    structure = formats.tucker((9, 8, 7), 3)
    other = hooi(data, structure, max_sweeps=300, tol=1e-12)
    found = two_site(data, structure, max_sweeps=300, tol=1e-12)
    assert found.error == pytest.approx(other.error, rel=1e-3)


@settings(max_examples=20, deadline=None)
@given(name=st.sampled_from(list(TREES)), seed=st.integers(0, 99), error=st.sampled_from([0.05, 0.2, 0.5]))
def test_error_holds_with_ranks_no_larger_than_those_of_the_svd(name: str, seed: int, error: float):
    structure = TREES[name]
    wide = structure.replace(dict.fromkeys(structure.inner_indices, 40))
    data = noise(structure.shape, seed)
    start = tree_svd(data, wide, error=error).network
    found = two_site(data, wide, error=error)
    assert found.error <= error
    for bond in structure.inner_indices:
        assert found.network.structure.sizes[bond] <= start.structure.sizes[bond]


def test_finds_smaller_ranks_than_the_svd_somewhere():
    smaller = 0
    for seed in range(8):
        data = noise((8, 8, 8, 8), seed)
        wide = formats.tensor_train((8, 8, 8, 8), 64)
        start = tree_svd(data, wide, error=0.5).network
        found = two_site(data, wide, error=0.5).network
        smaller += found.parameters < start.parameters
    assert smaller > 0


@pytest.mark.parametrize("name", TREES)
def test_planted_structures_are_exact(name: str):
    structure = TREES[name]
    data = Network.random(structure, seed=3, dtype=torch.float64).dense()
    assert two_site(data, structure).error < 1e-12
    wide = structure.replace(dict.fromkeys(structure.inner_indices, 30))
    found = two_site(data, wide, error=1e-9)
    assert found.error < 1e-9
    assert found.network.structure == structure


def test_starts_where_it_is_told_to():
    structure = TREES["train"]
    data = Network.random(structure, seed=3, dtype=torch.float64).dense()
    found = two_site(data, structure, init=Network.random(structure, seed=5, dtype=torch.float64), max_sweeps=30)
    assert found.error < 1e-6
    with pytest.raises(StructureError, match="init has structure"):
        two_site(data, structure, init=Network.random(formats.cp(structure.shape, 2)))


@pytest.mark.parametrize("scale", [1e150, 1e-150])
def test_scales_whose_squares_are_out_of_range(scale: float):
    structure = TREES["train"]
    data = noise(structure.shape)
    found = two_site(data * scale, structure)
    assert found.error == pytest.approx(two_site(data, structure).error, rel=1e-9)
    torch.testing.assert_close(found.network.dense() / scale, two_site(data, structure).network.dense())


def test_zero_one_entry_one_core_and_bonds_wider_than_of_use():
    assert two_site(torch.zeros(3, 4, 5), formats.tensor_train((3, 4, 5), 2)).error == 0
    assert two_site(torch.full((1, 1), 3.0), formats.tensor_train((1, 1), 1)).error < 1e-6
    single = Structure("i j -> i j", i=3, j=4)
    assert two_site(noise((3, 4)), single).error < 1e-12
    wide = Structure("i a, a j -> i j", i=3, j=4, a=7)
    found = two_site(noise((3, 4)), wide)
    assert found.network.structure == wide
    assert found.error < 1e-12


def test_progress_has_a_network():
    seen: list[Progress] = []
    data = noise((7, 6, 8, 5))
    two_site(data, TREES["train"], callback=seen.append)
    assert seen
    assert relative_error(data, seen[0].network()) == pytest.approx(seen[0].error)


@pytest.mark.parametrize(
    ("structure", "said"),
    [
        (formats.cp((7, 6, 8), 2), "hyperedge"),
        (formats.tensor_ring((7, 6, 8), 2), "cycle"),
        (Structure("i a b, a b j k -> i j k", i=7, j=6, k=8, a=2, b=2), "join a and b"),
        (Structure("i a, a j, k -> i j k", i=7, j=6, k=8, a=2), "several parts"),
    ],
)
def test_what_is_no_tree_is_refused(structure: Structure, said: str):
    with pytest.raises(StructureError, match=said):
        two_site(noise((7, 6, 8)), structure)


def test_bad_numbers_are_refused():
    data = noise((7, 6, 8, 5))
    data[0, 0, 0, 0] = torch.nan
    with pytest.raises(DataError, match="NaN"):
        two_site(data, TREES["train"])
