"""Networks: entries, norms, slices, products, rounding, variance, files."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from tenfold import Network, Structure, formats
from tenfold.errors import DataError, FileError, StructureError

STRUCTURES = {
    "cp": formats.cp((3, 4, 5), 2),
    "tucker": formats.tucker((3, 4, 5), 2),
    "train": formats.tensor_train((3, 4, 5, 2), 3),
    "ring": formats.tensor_ring((3, 4, 5), 2),
    "fully connected": formats.fully_connected((3, 4, 5, 2), 2),
    "tree": formats.hierarchical_tucker((3, 4, 5, 2), 2),
    "kronecker": formats.kronecker((2, 3), (4, 5), 3),
    "train matrix": formats.tensor_train_matrix((2, 3), (4, 5), 3),
    "monarch": formats.monarch((4, 5), (6, 3)),
    "block train": formats.block_tensor_train((4, 5), (6, 3), 2),
    "symmetric": Structure("U[i r], U[j r], w[r] -> i j", i=5, j=5, r=2),
    "parts": Structure("i a b, j a b, k, [] -> (i j) k", i=3, j=4, k=5, a=2, b=2),
    "scalar": Structure("i a, i a ->", i=3, a=2),
    "vector": Structure("i -> i", i=4),
}


@pytest.fixture(params=STRUCTURES, ids=str)
def structure(request: pytest.FixtureRequest) -> Structure:
    return STRUCTURES[request.param]


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128, torch.float32])
def test_dense_norm_inner_and_entries_agree_with_numpy(structure: Structure, dtype: torch.dtype) -> None:
    network = Network.random(structure, seed=4, dtype=dtype)
    operands = [tensor.numpy() for _, tensor in network.terms()]
    expected = np.einsum(structure.einsum(), *operands).reshape(structure.shape)
    close = {"rtol": 1e-4, "atol": 1e-4} if dtype == torch.float32 else {"rtol": 1e-10, "atol": 1e-12}
    np.testing.assert_allclose(network.dense().numpy(), expected, **close)
    np.testing.assert_allclose(network.norm().item(), np.linalg.norm(expected), **close)
    other = Network.random(structure, seed=5, dtype=dtype)
    product = np.vdot(expected, other.dense().numpy())
    np.testing.assert_allclose(network.inner(other).item(), product, **close)
    np.testing.assert_allclose(network.inner(other.dense()).item(), product, **close)
    if structure.order:
        rng = np.random.default_rng(0)
        places = np.stack([rng.integers(-n, n, 40) for n in structure.shape], 1)
        np.testing.assert_allclose(network.at(places).numpy(), expected[tuple(places.T)], **close)


def test_inner_product_of_different_groups() -> None:
    a = Network.random(formats.kronecker((2, 3), (4, 5), 2))
    b = Network.random(Structure("i a, a j -> i j", i=6, j=20, a=3))
    assert a.inner(b).item() == pytest.approx(float((a.dense() * b.dense()).sum()))
    assert b.inner(a).item() == pytest.approx(float((a.dense() * b.dense()).sum()))


def test_a_scalar_network_has_one_entry_for_each_row() -> None:
    scalar = Network.random(STRUCTURES["scalar"])
    assert torch.equal(scalar.at(torch.zeros((5, 0), dtype=torch.int64)), scalar.dense().expand(5))


@pytest.mark.parametrize("scale", [1e-250, 1e250])
def test_norm_rounding_and_spectra_at_the_ends_of_the_range(scale: float) -> None:
    middle = torch.randn(6, 7, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    structure = formats.tensor_train((6, 7, 8), (6, 8))
    a, b = torch.eye(6, dtype=torch.float64), torch.eye(8, dtype=torch.float64)
    plain = Network(structure, [a, middle, b])
    network = plain.replace([plain.cores[0], plain.cores[1] * scale, plain.cores[2]])
    assert float(network.norm()) == pytest.approx(float(middle.norm()) * scale)
    for bond, values in plain.bond_spectra().items():
        torch.testing.assert_close(network.bond_spectra()[bond] / scale, values)
    rounded = network.round(error=0.3)
    assert rounded.parameters == plain.round(error=0.3).parameters
    assert 0.1 < float((rounded.dense() - network.dense()).div(scale).norm() / middle.norm()) < 0.3


def test_two_hundred_cores() -> None:
    structure = formats.tensor_train((64,) * 200, 4)
    network = Network.random(structure)
    assert float(network.norm()) == pytest.approx(64.0**100, rel=0.5)
    assert "ratio inf" in repr(network)
    assert f"for {structure.size:,} entries" in str(structure.cost())
    doubled = Network(structure.replace(dict.fromkeys(structure.inner_indices, 8)), _doubled(network))
    assert doubled.round(error=1e-9).parameters == structure.parameters


def _doubled(network: Network) -> list[torch.Tensor]:
    """The same tensor with every bond twice as wide."""
    inner = network.structure.inner_indices
    cores = []
    for core, tensor in zip(network.structure.cores, network.cores, strict=True):
        for axis, index in enumerate(core.indices):
            if index in inner:
                tensor = torch.cat([tensor, tensor], axis) / 2**0.5
        cores.append(tensor)
    return cores


def test_at_broadcasts_like_arrays() -> None:
    network = Network.random(STRUCTURES["train"])
    rows = torch.arange(3)[:, None]
    found = network.at((rows, torch.arange(4)[None], 2, -1))
    torch.testing.assert_close(found, network.dense()[:, :, 2, -1])
    assert network.at(torch.zeros(0, 4, dtype=torch.int64)).shape == (0,)
    assert network.at(([], [], [], [])).shape == (0,)


def test_slices_are_networks_of_parts(structure: Structure) -> None:
    network = Network.random(structure, seed=6)
    dense = network.dense()
    if not structure.order:
        return
    for selection in [(0,), (-1,), (Ellipsis, 1), (slice(None), Ellipsis), (Ellipsis,)]:
        torch.testing.assert_close(network[selection].dense(), dense[selection])
    if all(len(group) == 1 for group in structure.outputs):
        for selection in [(slice(1, 3),), (Ellipsis, slice(None, None, 2))]:
            torch.testing.assert_close(network[selection].dense(), dense[selection])
        reversed_ = network[..., ::-1].dense()
        torch.testing.assert_close(reversed_, dense.flip(-1))


def test_slicing_one_use_of_a_core_leaves_the_other() -> None:
    network = Network.random(STRUCTURES["symmetric"])
    torch.testing.assert_close(network[1:3].dense(), network.dense()[1:3])
    torch.testing.assert_close(network[1:3, 1:3].dense(), network.dense()[1:3, 1:3])


@pytest.mark.parametrize("name", ["kronecker", "train matrix", "monarch", "block train", "symmetric"])
def test_matrix_products(name: str) -> None:
    network = Network.random(STRUCTURES[name])
    x = torch.randn(network.shape[1], 7, dtype=torch.float64)
    torch.testing.assert_close(network @ x, network.dense() @ x)
    torch.testing.assert_close(network @ x[:, 0], network.dense() @ x[:, 0])
    torch.testing.assert_close(network @ x.numpy(), network.dense() @ x)


@pytest.mark.parametrize("make", [formats.cp, formats.tucker, formats.tensor_ring, formats.tensor_train])
@pytest.mark.parametrize("std", [0.5, 3.0])
def test_random_entries_have_the_stated_variance(make: Any, std: float) -> None:
    structure = make((20, 20, 20), 4)
    squares = [float((Network.random(structure, std=std, seed=k).dense() ** 2).mean()) for k in range(60)]
    assert np.mean(squares) == pytest.approx(std**2, rel=0.15)


def test_random_is_deterministic_and_never_overflows() -> None:
    a, b = (Network.random(STRUCTURES["ring"], seed=7) for _ in range(2))
    assert all(torch.equal(x, y) for x, y in zip(a.cores, b.cores, strict=True))
    assert torch.isfinite(Network.random(formats.tensor_train((2,) * 900, 8)).cores[0]).all()
    assert not Network.random(STRUCTURES["ring"], std=0.0).dense().any()


# --- rounding ---------------------------------------------------------------------------------------------------------

TREES = [
    formats.tensor_train((4, 5, 6, 3), 6),
    formats.tucker((5, 6, 4), 4),
    formats.hierarchical_tucker((4, 3, 5, 4, 3), 5),
    Structure("i a b, j a b c, c k, l -> (i j) k l", i=4, j=4, k=5, l=3, a=2, b=3, c=4),
]


@given(st.sampled_from(TREES), st.floats(0.0, 0.9), st.integers(0, 10**6), st.booleans())
@settings(max_examples=60)
def test_rounding_keeps_its_word(structure: Structure, error: float, seed: int, is_complex: bool) -> None:
    network = Network.random(structure, seed=seed, dtype=torch.complex128 if is_complex else torch.float64)
    dense = network.dense()
    rounded = network.round(error=error)
    reached = float((rounded.dense() - dense).norm() / dense.norm())
    assert reached <= error + 1e-12
    assert rounded.shape == network.shape
    assert all(size >= 1 for size in rounded.structure.sizes.values())


def test_rounding_finds_the_rank_of_a_sum() -> None:
    """A train of rank 2 written with rank 6 comes back with rank 2."""
    small = Network.random(formats.tensor_train((5, 6, 7), 2), seed=1)
    wide = []
    for core in small.cores:
        for axis, index in enumerate(small.structure.cores[len(wide)].indices):
            if index in small.structure.inner_indices:
                core = torch.cat([core, core, core], axis)
        wide.append(core / 3)
    big = Network(formats.tensor_train((5, 6, 7), (5, 6)).replace(a=6, b=6), wide)
    rounded = big.round(error=1e-12)
    assert rounded.parameters == small.parameters
    torch.testing.assert_close(rounded.dense(), big.dense())


def test_rounding_to_ranks_and_spectra_match_the_svd() -> None:
    network = Network.random(formats.tensor_train((4, 5, 6), 4), seed=2)
    dense = network.dense()
    for bond, rows in (("a", 4), ("b", 20)):
        expected = torch.linalg.svdvals(dense.reshape(rows, -1))[:4]
        torch.testing.assert_close(network.bond_spectra()[bond], expected)
    cut = network.round(ranks={"a": 2})
    best = float(torch.linalg.svdvals(dense.reshape(4, -1))[2:].norm())
    assert float((cut.dense() - dense).norm()) == pytest.approx(best)
    assert cut.structure.sizes["a"] == 2


def test_rounding_a_zero_network_and_half_precision() -> None:
    zero = Network.random(TREES[0], std=0.0).round(error=0.1)
    assert zero.structure.sizes["a"] == 1
    assert not zero.dense().any()
    assert Network.random(TREES[0], dtype=torch.bfloat16).round(error=0.5).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("name", "part"),
    [("ring", "close a cycle"), ("cp", "hyperedge"), ("symmetric", "used 2 times"), ("monarch", "lies on 2 cores")],
)
def test_rounding_says_why_it_cannot(name: str, part: str) -> None:
    with pytest.raises(StructureError, match=part):
        Network.random(STRUCTURES[name]).round(error=0.1)


@pytest.mark.parametrize(
    "arguments",
    [{}, {"error": 0.1, "ranks": {}}, {"error": 1.0}, {"error": -0.1}, {"ranks": {"z": 1}}, {"ranks": {"a": 0}}],
)
def test_rounding_arguments(arguments: dict[str, Any]) -> None:
    with pytest.raises(StructureError):
        Network.random(TREES[0]).round(**arguments)


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "part"),
    [
        (lambda n: n.at(torch.zeros(3, 2, dtype=torch.int64)), r"shape \(batch, 4\)"),
        (lambda n: n.at(([0], [0])), "each of the 4 axes, not 2"),
        (lambda n: n.at(([3], [0], [0], [0])), "index 3 is out of range for axis 0 of size 3"),
        (lambda n: n.at([[0, -5, 0, 0]]), "index -5 is out of range"),
        (lambda n: n.at(([0.5], [0], [0], [0])), "must be integers"),
        (lambda n: n.at(([0, 1], [0, 1, 2], 0, 0)), "cannot be broadcast"),
        (lambda n: n[9], "out of range"),
        (lambda n: n[0, 0, 0, 0, 0], "5 indices for a tensor with 4 axes"),
        (lambda n: n[..., 0, ...], "one '...'"),
        (lambda n: n[[0, 1]], "use at"),
        (lambda n: n[np.array([0, 1])], "use at"),
        (lambda n: n[3:1], "empty"),
        (lambda n: n @ torch.ones(3), "two axes"),
        (lambda n: n[0, 0] @ torch.ones(2), "network of torch.float64 with torch.float32"),
        (lambda n: n.inner(np.ones((3, 4, 5, 2))), "inner product with ndarray"),
        (lambda n: n.inner(torch.ones(3)), "inner product of shapes"),
        (lambda n: n.core("nope"), "the cores are"),
        (lambda n: n.replace(n.cores[:2]), "4 cores, but 2 tensors"),
        (lambda n: n.replace([c.mT for c in n.cores]), "has shape"),
        (lambda n: n.replace([c.int() for c in n.cores]), "floating or complex"),
        (lambda n: n.replace([n.cores[0].float(), *n.cores[1:]]), "float64"),
    ],
)
def test_one_line_refusals(call: Any, part: str) -> None:
    with pytest.raises((DataError, StructureError), match=part) as caught:
        call(Network.random(STRUCTURES["train"]))
    assert "\n" not in str(caught.value)


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.complex64, torch.complex128])
def test_files_give_back_what_was_saved(structure: Structure, dtype: torch.dtype, tmp_path: Path) -> None:
    network = Network.random(structure, dtype=dtype)
    network.save(tmp_path / "n.tn")
    back = Network.load(tmp_path / "n.tn")
    assert back.structure == structure
    assert back.dtype == dtype
    assert all(torch.equal(a, b) for a, b in zip(back.cores, network.cores, strict=True))
    assert [p.name for p in tmp_path.iterdir()] == ["n.tn"]


def test_views_and_shared_memory_are_saved_once_each(tmp_path: Path) -> None:
    base = torch.randn(6, 6, dtype=torch.float64)
    network = Network(Structure("i a, a j -> i j", i=6, a=6, j=6), [base, base.T])
    network.save(tmp_path / "n.tn")
    torch.testing.assert_close(Network.load(tmp_path / "n.tn").dense(), base @ base.T)


def _header(**change: str) -> dict[str, str]:
    structure = Structure("i a, a j -> i j", i=2, a=1, j=2)
    return {"tenfold": "1", "structure": structure.to_json(), "dtype": "float64", **change}


@pytest.mark.parametrize(
    ("header", "tensors", "part"),
    [
        (None, {"x": torch.ones(2)}, "no tenfold network"),
        ({"tenfold": "1"}, {}, "no tenfold network"),
        (_header(tenfold="99"), {}, "version '99'"),
        (_header(structure="{"), {}, "damaged"),
        (_header(structure="[" * 50_000), {}, "damaged"),
        (_header(structure=json.dumps({"v": 1, "cores": [], "out": [], "sizes": {}})), {}, "damaged"),
        (_header(dtype="os.system"), {}, "dtype"),
        (_header(dtype="int64"), {}, "dtype"),
        (_header(), {"core.core0": torch.ones(2, 1).double()}, "missing or extra"),
        (_header(), {"core.core0": torch.ones(2, 1).double(), "core.core1": torch.ones(1, 3).double()}, "damaged"),
        (_header(), {"core.core0": torch.ones(2, 1), "core.core1": torch.ones(1, 2)}, "not torch.float64"),
        (
            _header(record="]"),
            {"core.core0": torch.ones(2, 1).double(), "core.core1": torch.ones(1, 2).double()},
            "damaged",
        ),
        (
            _header(record="3"),
            {"core.core0": torch.ones(2, 1).double(), "core.core1": torch.ones(1, 2).double()},
            "record",
        ),
        (
            _header(dtype="complex128"),
            {"core.core0": torch.ones(2, 1).double(), "core.core1": torch.ones(1, 2).double()},
            "pairs",
        ),
    ],
)
def test_foreign_and_hostile_files(header: Any, tensors: dict, part: str, tmp_path: Path) -> None:
    path = tmp_path / "n.tn"
    save_file(tensors or {"x": torch.ones(1)}, path, metadata=header)
    with pytest.raises(FileError, match=part) as caught:
        Network.load(path)
    assert "\n" not in str(caught.value)
    assert "n.tn" in str(caught.value)


@given(st.data())
@settings(max_examples=60)
def test_truncated_and_altered_files_never_do_worse_than_an_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("damaged") / "n.tn"
    Network.random(STRUCTURES["train"]).save(path)
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    with suppress(FileError):  # anything else than a tenfold error fails the test; so does executing what is inside
        assert isinstance(Network.load(path), Network)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="does not exist"):
        Network.load(tmp_path / "none.tn")
    with pytest.raises(FileError, match="is a directory"):
        Network.load(tmp_path)
    with pytest.raises(FileError, match="no folder"):
        Network.random(STRUCTURES["vector"]).save(tmp_path / "none" / "n.tn")


def test_names_that_are_no_text_are_said_to_be(tmp_path: Path) -> None:
    path = os.path.join(os.fsencode(tmp_path), b"n\xff.tn")
    Network.random(STRUCTURES["vector"]).save(os.fsdecode(path))
    with pytest.raises(FileError, match="no UTF-8"):
        Network.load(os.fsdecode(path))


def test_a_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "n.tn"
    network = Network.random(STRUCTURES["train"])
    network.save(path)
    before = path.read_bytes()

    def full(*args: Any, **kwargs: Any) -> None:
        Path(args[1]).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tenfold.network.save_file", full)
    with pytest.raises(FileError, match="No space left"):
        network.save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["n.tn"]


def test_repr_tells_what_it_is() -> None:
    text = repr(Network.random(STRUCTURES["train"]))
    for part in ("tensor_train", "3 x 4 x 5 x 2", "parameters", "float64"):
        assert part in text


def test_numpy_gets_the_whole_tensor_and_python_a_single_number():
    network = Network.random(formats.tensor_train((3, 4, 5), 2), seed=0)
    dense = network.dense().numpy()
    np.testing.assert_array_equal(np.asarray(network), dense)
    assert np.asarray(network, dtype=np.float32).dtype == np.float32
    assert float(network[1, 2, 3]) == pytest.approx(dense[1, 2, 3])
    assert network[1, 2, 3].item() == pytest.approx(dense[1, 2, 3])
    assert complex(network[0, 0, 0]).imag == 0
    with pytest.raises(DataError, match="no single number"):
        float(network)
