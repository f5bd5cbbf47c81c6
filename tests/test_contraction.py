"""Contraction against numpy.einsum, its dtypes, gradients and plans."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tenfold import Network, formats
from tenfold.contraction import contract, contract_scaled, plan

CASES = [
    "ab,bc->ac",
    "ab,bc->ca",
    "ab,cd->abcd",
    "abr,bcr->acr",
    "ar,br,cr->abc",
    "a,a,a->",
    "a,a,a->a",
    "abc->b",
    "abc->cab",
    "ab,b->a",
    "abx,bcy->ac",
    ",ab,->ba",
    "ab,bc,cd,de->ae",
    "abe,bce,cde,dae->e",
]


@pytest.mark.parametrize("equation", CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex128])
def test_against_numpy(equation: str, dtype: torch.dtype) -> None:
    inputs, output = equation.split("->")
    size = {letter: 2 + n for n, letter in enumerate("abcderxy")}
    generator = torch.Generator().manual_seed(1)
    tensors = [torch.randn([size[c] for c in term], dtype=dtype, generator=generator) for term in inputs.split(",")]
    result = contract(list(zip(inputs.split(","), tensors, strict=True)), output)
    expected = np.einsum(equation, *[t.numpy() for t in tensors])
    np.testing.assert_allclose(result.numpy(), expected, rtol=2e-5 if dtype == torch.float32 else 1e-12, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_runs(dtype: torch.dtype) -> None:
    network = Network.random(formats.tensor_train((4, 5, 6), 2), dtype=dtype)
    assert network.dense().dtype == dtype
    exact = network.to(torch.float64).dense()
    assert torch.allclose(network.dense().double(), exact, atol=0.1)


def test_gradients_are_right() -> None:
    structure = formats.tensor_ring((3, 2, 3), 2)
    cores = [c.requires_grad_() for c in Network.random(structure, seed=3).cores]
    assert torch.autograd.gradcheck(lambda *c: Network(structure, c).dense(), cores)
    assert torch.autograd.gradcheck(lambda *c: Network(structure, c).norm(), cores)
    places = torch.tensor([[0, 1, 2], [2, 0, 1]])
    assert torch.autograd.gradcheck(lambda *c: Network(structure, c).at(places), cores)


def test_no_limit_of_52_indices_and_a_planner_for_many_cores() -> None:
    structure = formats.tensor_train((2,) * 60, 3)
    network = Network.random(structure, seed=1)
    vector = torch.ones(1, 3, dtype=torch.float64)
    first, *rest = [core for core in network.cores]
    transfer = torch.einsum("ia,ib->ab", first, first)
    for core in rest:
        core = core if core.ndim == 3 else core[..., None]
        transfer = torch.einsum("ab,aic,bid->cd", transfer, core, core)
    assert vector.shape == (1, 3)
    assert network.norm().item() == pytest.approx(transfer.item() ** 0.5)


def test_plans_are_kept_and_count_their_work() -> None:
    found = plan([("i", "k"), ("k", "j")], ("i", "j"), {"i": 30, "k": 40, "j": 50})
    assert found.flops == 2 * 30 * 40 * 50 == found.naive_flops
    assert found.largest == 1500
    assert found.peak == 30 * 40 + 40 * 50 + 1500
    assert plan([("x", "z"), ("z", "y")], ("x", "y"), {"x": 30, "z": 40, "y": 50}) is found


def test_errors() -> None:
    with pytest.raises(ValueError, match="needs 2 axes, not 1"):
        contract([(("i", "j"), torch.ones(3))], ("i",))
    with pytest.raises(ValueError, match="sizes 3 and 4"):
        contract([(("i",), torch.ones(3)), (("i",), torch.ones(4))], ("i",))
    with pytest.raises(ValueError, match="lies on no term"):
        contract([(("i",), torch.ones(3))], ("j",))


@pytest.mark.parametrize(
    ("inputs", "output", "part"),
    [
        (["ii"], "", r"indices \('i', 'i'\) has one twice"),
        (["ij"], "ii", r"output \('i', 'i'\) has an index twice"),
        ([], "", "no term"),
    ],
)
def test_no_index_twice_in_one_place(inputs: list[str], output: str, part: str) -> None:
    with pytest.raises(ValueError, match=part):
        contract([(term, torch.ones(3, 3)) for term in inputs], output)


def test_scaled_products_leave_the_range_of_floats() -> None:
    matrices = [torch.full((2, 2), 1e250, dtype=torch.float64) for _ in range(6)]
    terms = [((f"i{k}", f"i{k + 1}"), matrix) for k, matrix in enumerate(matrices)]
    result, power = contract_scaled(terms, ("i0", "i6"))
    found = torch.log10(result) + power * math.log10(2)
    assert torch.allclose(found, torch.full((2, 2), 6 * 250 + 5 * math.log10(2), dtype=torch.float64))
