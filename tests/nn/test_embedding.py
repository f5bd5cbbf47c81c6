from __future__ import annotations

from typing import Any

import pytest
import torch
from nn.linear_oracles import check_copies, check_exports
from torch import Tensor, nn

from tenfold import formats
from tenfold.errors import DataError, StructureError, TenfoldError
from tenfold.nn import StructuredEmbedding
from tenfold.nn.recipes import module_of, recipe_of
from tenfold.structure import Structure

TABLES = {
    "low rank": formats.low_rank(24, 10, 3),
    "kronecker": formats.kronecker((4, 6), (5, 2), 3),
    "three factors": formats.kronecker((2, 3, 4), (5, 2, 1), 3),
    "train": formats.tensor_train_matrix((2, 3, 4), (5, 1, 2), (4, 3)),
    "monarch": formats.monarch((4, 6), (5, 2)),
    "a part of the row on two cores": formats.block_tensor_train((4, 6), (5, 2), 2),
    "one core twice": Structure("U[i r], U[j r], w[r] -> i j", i=9, j=9, r=2),
    "two parts on a core": Structure("a b r, c r j -> (a b c) j", a=2, b=3, c=4, r=5, j=10),
}


def layer_of(name: str, **settings: Any) -> StructuredEmbedding:
    return StructuredEmbedding(
        TABLES[name], dtype=torch.float64, generator=torch.Generator().manual_seed(0), **settings
    )


@pytest.mark.parametrize("name", TABLES)
def test_rows_are_those_of_the_table(name: str) -> None:
    layer = layer_of(name)
    table = layer.to_dense()
    assert tuple(table.shape) == (layer.num_embeddings, layer.embedding_dim) == layer.structure.shape
    torch.testing.assert_close(layer(torch.arange(layer.num_embeddings)), table)
    generator = torch.Generator().manual_seed(1)
    for batch in ((), (5,), (2, 3), (0,), (2, 0)):
        index = torch.randint(layer.num_embeddings, batch, generator=generator)
        made = layer(index)
        assert made.shape == (*batch, layer.embedding_dim)
        torch.testing.assert_close(made, nn.functional.embedding(index, table))
        torch.testing.assert_close(layer(index.to(torch.int32)), made)
    assert sum(p.numel() for p in layer.parameters()) == layer.structure.parameters
    for wrong in (-1, layer.num_embeddings, 10**6):
        with pytest.raises(IndexError):
            layer(torch.tensor([0, wrong]))
    assert 0 <= layer.flops(1) <= layer.flops(64) <= 64 * layer.flops(1)


@pytest.mark.parametrize("name", ["low rank", "train", "one core twice"])
def test_derivatives_are_those_of_the_table(name: str) -> None:
    layer = layer_of(name, padding_idx=3)
    index = torch.tensor([[0, 3, 5], [5, 1, 8]])
    weight = torch.randn(2, 3, layer.embedding_dim, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    cores = list(layer.parameters())
    mine = torch.autograd.grad((layer(index) * weight).sum(), cores)
    theirs = torch.autograd.grad((layer.to_dense()[index] * weight).sum(), cores)
    for a, b in zip(mine, theirs, strict=True):
        torch.testing.assert_close(a, b)
    names = [n for n, _ in layer.named_parameters()]

    def call(*numbers: Tensor) -> Tensor:
        return torch.func.functional_call(layer, dict(zip(names, numbers, strict=True)), (index,))

    assert torch.autograd.gradcheck(call, tuple(p.detach().clone().requires_grad_() for p in cores), fast_mode=True)


def test_the_padding_row_is_zero_and_is_not_trained() -> None:
    layer = layer_of("kronecker", padding_idx=-1)
    assert layer.padding_idx == 23
    assert not layer(torch.tensor([23])).any()
    assert not layer.to_dense()[23].any()
    grads = torch.autograd.grad(layer(torch.tensor([23, 23])).sum(), list(layer.parameters()))
    assert not any(g.any() for g in grads)


def test_a_table_may_have_more_rows_than_are_used() -> None:
    layer = layer_of("kronecker", num_embeddings=21)
    assert layer.to_dense().shape == (21, 10)
    with pytest.raises(IndexError):
        layer(torch.tensor([21]))
    table = torch.randn(21, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = StructuredEmbedding.from_dense(table, formats.low_rank(24, 10, 10))
    torch.testing.assert_close(found.to_dense(), table)


@pytest.mark.parametrize("name", ["low rank", "train", "monarch"])
def test_copies_and_files(name: str) -> None:
    layer = layer_of(name, padding_idx=2)
    index = torch.tensor([[0, 2, 5], [5, 1, 23]])
    check_copies(layer, index)
    again = module_of(recipe_of(layer))
    again.load_state_dict(layer.state_dict())
    torch.testing.assert_close(again(index), layer(index))
    for dtype in (torch.bfloat16, torch.float16):
        single = layer_of(name).float()
        with torch.autocast("cpu", dtype=dtype):
            made = single(index)
        assert (made - single(index)).norm() < 0.05 * single(index).norm()
    broken = layer_of(name)
    with torch.no_grad():
        next(iter(broken.cores.values())).fill_(torch.nan)
    assert broken(index).isnan().any()


def test_any_number_of_rows_is_exported() -> None:
    layer = layer_of("train", padding_idx=2, num_embeddings=20)
    check_exports(layer, lambda n: torch.arange(3 * n).reshape(n, 3) % 20)


@pytest.mark.slow
def test_one_graph_of_compile() -> None:
    layer = layer_of("train", padding_idx=2)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    index = torch.tensor([[0, 2, 5], [5, 1, 23]])
    torch.testing.assert_close(compiled(index), layer(index))


def test_the_start_has_variance_one() -> None:
    layer = StructuredEmbedding(formats.tensor_train_matrix((10, 20), (8, 8), (16,)))
    assert layer.to_dense().var().item() == pytest.approx(1.0, rel=0.3)


def test_from_dense_counts_rows_as_they_are_asked_for() -> None:
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(24, 10, dtype=torch.float64, generator=generator)
    counts = torch.rand(24, dtype=torch.float64, generator=generator) ** 4 * 100
    counts[5] = 0
    shares = 0.9 * counts / counts.mean() + 0.1

    def error(layer: StructuredEmbedding) -> float:
        return float((shares[:, None] * (table - layer.to_dense()).square()).sum())

    # The best of low rank, by Eckart and Young.
    low = StructuredEmbedding.from_dense(table, TABLES["low rank"], counts=counts)
    best = torch.linalg.svdvals(shares.sqrt()[:, None] * table)[3:].square().sum().item()
    assert error(low) == pytest.approx(best, rel=1e-9)
    for name in ("kronecker", "train"):
        blind = StructuredEmbedding.from_dense(table, TABLES[name])
        assert error(StructuredEmbedding.from_dense(table, TABLES[name], counts=counts)) < 0.97 * error(blind)
    one = layer_of("train")
    again = StructuredEmbedding.from_dense(one.to_dense(), one.structure)
    assert (again.to_dense() - one.to_dense()).norm() < 1e-6 * one.to_dense().norm()
    held = nn.Embedding(24, 10, padding_idx=4)
    assert StructuredEmbedding.from_dense(held, TABLES["low rank"]).padding_idx == 4


def test_what_is_no_table_is_refused() -> None:
    low = TABLES["low rank"]
    with pytest.raises(StructureError, match="2 output axes"):
        StructuredEmbedding(formats.cp((2, 3, 4), 2))
    with pytest.raises(StructureError, match="24 rows"):
        StructuredEmbedding(low, 25)
    with pytest.raises(TenfoldError, match="padding_idx 24"):
        StructuredEmbedding(low, padding_idx=24)
    with pytest.raises(StructureError, match="columns must agree"):
        StructuredEmbedding.from_dense(torch.ones(24, 9), low)
    with pytest.raises(DataError, match="not finite"):
        StructuredEmbedding.from_dense(torch.full((24, 10), torch.inf), low)
    with pytest.raises(DataError, match="24 numbers"):
        StructuredEmbedding.from_dense(torch.ones(24, 10), low, counts=torch.ones(3))
