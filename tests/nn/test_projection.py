"""The best approximation of a matrix in each family: exact where theory has it, and never worse than a general fit."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from tenfold import formats
from tenfold.errors import DataError, StructureError
from tenfold.network import Network
from tenfold.nn import StructuredLinear
from tenfold.nn.projection import project, projections
from tenfold.nn.projection._sweeps import Approximation
from tenfold.nn.projection.alternating import alternating
from tenfold.structure import Structure

TWICE = Structure("U[i r], U[j r], w[r] -> i j", i=9, j=9, r=2)
FAMILIES = {
    "low rank": formats.low_rank(12, 20, 3),
    "Kronecker": formats.kronecker((3, 4), (5, 4), 2),
    "Kronecker of three": formats.kronecker((3, 2, 2), (4, 2, 2), 2),
    "hypercomplex": formats.phm(12, 20, 4),
    "Monarch": formats.monarch((3, 4), (5, 4)),
    "block tensor train": formats.block_tensor_train((3, 4), (5, 4), 2),
    "block tensor train of three": Structure(
        "r i1 i2 i3 j1, r s i2 i3 j1 j2, s i3 j1 j2 j3 -> (i1 i2 i3) (j1 j2 j3)",
        {"i1": 3, "i2": 2, "i3": 2, "j1": 5, "j2": 2, "j3": 2, "r": 2, "s": 2},
    ),
    "tensor train of two": formats.tensor_train_matrix((3, 4), (5, 4), 3),
    "tensor train": formats.tensor_train_matrix((3, 2, 2), (5, 2, 2), (3, 2)),
    "three factors": Structure("i a, a b, b j -> i j", i=12, j=20, a=4, b=3),
    "a core used twice": TWICE,
}


def _random(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _covariance(columns: int) -> Tensor:
    mixing = _random((columns, columns), 7)
    return mixing @ mixing.T / columns


def _square(left: Tensor, covariance: Tensor | None = None) -> float:
    return float((left * (left if covariance is None else left @ covariance)).sum())


def _dense(structure: Structure, weight: Tensor, **more: Tensor | None) -> Tensor:
    (cores,) = project(weight, [structure], **more)
    return Network(structure, cores).dense()


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("structure", FAMILIES.values(), ids=FAMILIES.keys())
def test_a_matrix_of_the_family_is_recovered(structure: Structure, weighted: bool) -> None:
    weight = Network.random(structure, seed=1).dense()
    covariance = _covariance(weight.shape[1]) if weighted else None
    found = _dense(structure, weight, covariance=covariance)
    assert torch.linalg.norm(found - weight) <= 1e-8 * torch.linalg.norm(weight)


@pytest.mark.parametrize("structure", [s for s in FAMILIES.values() if s is not TWICE], ids=lambda s: s.pattern[:20])
def test_none_is_worse_than_the_general_method_and_the_covariance_counts(structure: Structure) -> None:
    weight = _random(structure.shape)
    found = _dense(structure, weight)
    general = Network(structure, alternating(weight, structure, None)).dense()
    assert _square(weight - found) <= 1.01 * _square(weight - general)
    covariance = _covariance(weight.shape[1])
    weighted = _dense(structure, weight, covariance=covariance)
    assert _square(weight - weighted, covariance) < 0.99 * _square(weight - found, covariance)
    assert _square(weight - weighted) >= _square(weight - found) * 0.99


@pytest.mark.parametrize("structure", [s for s in FAMILIES.values() if s is not TWICE], ids=lambda s: s.pattern[:20])
def test_the_identity_as_covariance_changes_nothing(structure: Structure) -> None:
    weight = _random(structure.shape)
    plain, weighted = _dense(structure, weight), _dense(structure, weight, covariance=torch.eye(weight.shape[1]))
    assert _square(weight - weighted) == pytest.approx(_square(weight - plain), rel=1e-3)


def test_the_error_of_two_cores_is_what_singular_values_say() -> None:
    weight = _random((12, 20))
    blocks = weight.reshape(3, 4, 5, 4).permute(1, 2, 0, 3)
    left_out = torch.linalg.svdvals(blocks)[:, :, 1:].square().sum()
    found = _dense(formats.monarch((3, 4), (5, 4)), weight)
    assert _square(weight - found) == pytest.approx(float(left_out), rel=1e-12)
    rearranged = weight.reshape(3, 4, 5, 4).permute(0, 2, 1, 3).reshape(15, 16)
    left_out = torch.linalg.svdvals(rearranged)[3:].square().sum()
    found = _dense(formats.kronecker((3, 4), (5, 4), 3), weight)
    assert _square(weight - found) == pytest.approx(float(left_out), rel=1e-12)


@pytest.mark.parametrize(
    "structure",
    [
        formats.low_rank(12, 20, 30),
        formats.kronecker((3, 4), (5, 4), 20),
        formats.block_tensor_train((3, 4), (5, 4), 6),
        formats.tensor_train_matrix((3, 2, 2), (5, 2, 2), (15, 4)),
        FAMILIES["block tensor train of three"].replace(r=40, s=40),
    ],
    ids=lambda s: s.pattern,
)
def test_full_rank_is_exact_and_more_than_possible_is_filled(structure: Structure) -> None:
    weight = _random(structure.shape)
    torch.testing.assert_close(_dense(structure, weight), weight, rtol=0, atol=1e-10)


def test_large_sides_find_only_what_leads() -> None:
    structure = formats.kronecker((16, 16), (16, 16), 3)
    weight = Network.random(structure, seed=2).dense()
    torch.testing.assert_close(_dense(structure, weight), weight, rtol=0, atol=1e-9)
    noisy = weight + 0.1 * _random((256, 256))
    rearranged = noisy.reshape(16, 16, 16, 16).permute(0, 2, 1, 3).reshape(256, 256)
    left_out = float(torch.linalg.svdvals(rearranged)[3:].square().sum())
    assert _square(noisy - _dense(structure, noisy)) == pytest.approx(left_out, rel=1e-6)


@pytest.mark.parametrize(
    "structure", [FAMILIES[name] for name in ("low rank", "Monarch", "tensor train", "three factors")]
)
def test_the_scale_of_a_matrix_changes_nothing(structure: Structure) -> None:
    weight = _random(structure.shape)
    plain = _dense(structure, weight)
    for power in (500, -500):
        found = _dense(structure, weight * 2.0**power) * 2.0**-power
        torch.testing.assert_close(found, plain, rtol=1e-9, atol=1e-12)
    assert not _dense(structure, weight * 0).any()
    assert _dense(structure, weight * 1e-310).isfinite().all()


def test_sweeps_and_steps_never_raise_the_error() -> None:
    structure = FAMILIES["block tensor train of three"]
    weight, root = _random(structure.shape), torch.linalg.cholesky(_covariance(20))
    problem = Approximation(weight, [structure, formats.low_rank(12, 20, 2)], root, [frozenset(), frozenset()])
    cores = [list(Network.random(s, seed=3, std=0.1).cores) for s in problem.structures]
    errors = [problem.error(cores)]
    for most in (1, 1, 1, 1):
        cores = problem.sweeps(cores, most=most, tolerance=0.0)
        errors.append(problem.error(cores))
    for most in (1, 1, 1):
        cores = problem.newton(cores, most=most, tolerance=0.0)
        errors.append(problem.error(cores))
    assert all(after <= before for before, after in pairwise(errors))
    assert errors[-1] < 0.5 * errors[0]


def test_large_normal_equations_are_applied_and_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    structure, covariance = FAMILIES["block tensor train"], _covariance(20)
    weight = _random(structure.shape)
    made = _dense(structure, weight, covariance=covariance)
    monkeypatch.setattr("tenfold.nn.projection._sweeps._ENTRIES", 0)
    applied = _dense(structure, weight, covariance=covariance)
    assert _square(weight - applied, covariance) == pytest.approx(_square(weight - made, covariance), rel=2e-2)


SUMS = [
    (formats.low_rank(12, 20, 2), formats.kronecker((3, 4), (5, 4), 2)),
    (formats.low_rank(12, 20, 2), formats.monarch((3, 4), (5, 4))),
]


@pytest.mark.parametrize(("parts", "weighted"), [(SUMS[0], False), (SUMS[1], True)], ids=["Kronecker", "Monarch"])
def test_a_sum_is_recovered_and_better_than_its_parts(parts: tuple[Structure, Structure], weighted: bool) -> None:
    covariance = _covariance(20) if weighted else None
    weight = sum(Network.random(one, seed=n).dense() for n, one in enumerate(parts))
    layer = StructuredLinear.from_dense(weight, parts, covariance=covariance)
    torch.testing.assert_close(layer.to_dense(), weight, rtol=0, atol=1e-6)
    weight = _random((12, 20))
    both = StructuredLinear.from_dense(weight, parts, covariance=covariance).to_dense().detach()
    for one in parts:
        alone = StructuredLinear.from_dense(weight, one, covariance=covariance).to_dense().detach()
        assert _square(weight - both, covariance) < _square(weight - alone, covariance)


def test_blocks_on_the_diagonal_are_linear_and_so_exact() -> None:
    structure = Structure("b i j, D[b c] -> (b i) (c j)", b=3, c=3, i=4, j=5)
    weight = _random((12, 15))
    layer = StructuredLinear.from_dense(weight, structure, fixed={"D": torch.eye(3)})
    wanted = torch.block_diag(*(weight[4 * b : 4 * b + 4, 5 * b : 5 * b + 5] for b in range(3)))
    torch.testing.assert_close(layer.to_dense(), wanted)
    covariance = _covariance(15)
    layer = StructuredLinear.from_dense(weight, structure, fixed={"D": torch.eye(3)}, covariance=covariance)
    gradient = (weight - layer.to_dense()) @ covariance
    for b in range(3):
        assert gradient[4 * b : 4 * b + 4, 5 * b : 5 * b + 5].abs().max() < 1e-4


def test_a_sum_with_a_matrix_that_is_given() -> None:
    structures = (formats.low_rank(12, 20, 3), formats.kronecker((3, 4), (5, 4), 1))
    low, given = (Network.random(one, seed=n) for n, one in enumerate(structures))
    weight = 1e4 * (low.dense() + given.dense())
    cores = [1e4 * given.cores[0], given.cores[1]]
    found = project(weight, structures, fixed=[{}, dict(enumerate(cores))])
    assert all(torch.equal(mine, core) for mine, core in zip(found[1], cores, strict=True))
    torch.testing.assert_close(Network(structures[0], found[0]).dense(), 1e4 * low.dense(), rtol=0, atol=1e-6)


def test_a_start_from_fixed_cores_finds_the_others() -> None:
    structure = FAMILIES["tensor train"]
    truth = Network.random(structure, seed=4)
    (cores,) = project(truth.dense(), [structure], fixed=[{1: truth.cores[1]}])
    torch.testing.assert_close(Network(structure, cores).dense(), truth.dense(), rtol=0, atol=1e-8)
    assert torch.equal(cores[1], truth.cores[1])


def test_cores_are_of_one_size() -> None:
    (cores,) = project(1e6 * _random((12, 20)), [formats.block_tensor_train((3, 4), (5, 4), 2)])
    norms = [float(torch.linalg.norm(core)) for core in cores]
    assert math.isclose(*norms, rel_tol=1e-6)


def test_what_cannot_be_approximated_is_refused() -> None:
    structure = formats.low_rank(3, 4, 1)
    with pytest.raises(DataError, match="not finite"):
        project(torch.full((3, 4), math.nan), [structure])
    with pytest.raises(StructureError, match="of shape"):
        project(torch.ones(4, 3), [structure])
    with pytest.raises(DataError, match="4 x 4"):
        project(torch.ones(3, 4), [structure], covariance=torch.eye(3))


def test_every_structure_has_its_projection() -> None:
    order = [entry.name for entry in projections().values()]
    assert order[-1] == "any"
    taken = {name: next(e.name for e in projections().values() if e.takes(s)) for name, s in FAMILIES.items()}
    assert taken["Monarch"] == "blocks"
    assert taken["hypercomplex"] == "kronecker"
    assert taken["tensor train"] == "tensor_train_matrix"
    assert taken["a core used twice"] == "any"
