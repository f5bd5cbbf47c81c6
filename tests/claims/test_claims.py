"""The claims measure what they say: small runs, and the measuring tools against closed forms."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from tenfold import formats
from tenfold.claims._quasi_optimal import Case, Cases
from tenfold.claims._tensors import tail, varied
from tenfold.claims.als_monotone import als_monotone
from tenfold.claims.born_machine import born_machine
from tenfold.claims.core_consistency import core_consistency
from tenfold.claims.cp_compression import cp_compression
from tenfold.claims.cp_cost import cp_cost
from tenfold.claims.cp_recovery import cp_recovery, match
from tenfold.claims.cp_swamps import collinear, cp_swamps
from tenfold.claims.dynamic_connectome import agreement, dynamic_connectome
from tenfold.claims.exact_recovery import exact_recovery
from tenfold.claims.hidden_cells import hidden_cells
from tenfold.claims.hosvd_truncation import hosvd_truncation, truncated_hosvd
from tenfold.claims.kruskal_uniqueness import kruskal_uniqueness
from tenfold.claims.nested_matrix_tensor import alignment, nested_matrix_tensor
from tenfold.claims.parafac2_recovery import parafac2_recovery
from tenfold.claims.randomized_rounding import randomized_rounding
from tenfold.claims.range_finder_bound import range_finder_bound
from tenfold.claims.ring_recovery import ring_recovery
from tenfold.claims.st_hosvd_bound import st_hosvd_bound
from tenfold.claims.tensor_train_cross import tensor_train_cross
from tenfold.claims.tree_rounding import needed, tree_rounding
from tenfold.claims.tt_svd_bound import tt_svd_bound
from tenfold.claims.weighted_ridge import weighted_ridge
from tenfold.network import Network


@pytest.mark.parametrize("measure", [tt_svd_bound, st_hosvd_bound, hosvd_truncation])
def test_bounds_of_truncation_hold_on_a_few(measure) -> None:
    found = measure(seed=5, tensors=8, sweeps=1)
    assert found.holds, found.text
    assert found.numbers["truncated"] >= 8
    assert 0 < found.numbers["largest_ratio_to_tails"] <= 1 + 1e-9
    assert found.numbers["largest_ratio_to_refined"] >= 1


def test_recovery_and_rounding_hold_on_a_few() -> None:
    assert exact_recovery(seeds=1).holds
    assert tree_rounding(seeds=1).holds
    assert als_monotone(seeds=1, sweeps=4).holds
    found = range_finder_bound(draws=20)
    assert found.holds
    assert 1 - 1e-9 <= found.numbers["tree_svd: largest error over the best one"] <= 1.001
    assert tensor_train_cross(seeds=1).holds


@pytest.mark.slow
def test_rounding_by_a_random_train_holds() -> None:
    found = randomized_rounding(most=16)
    assert found.numbers["largest ratio of errors"] <= 2
    assert found.numbers["16 terms: ratio of times"] > 1


@pytest.mark.slow
def test_models_hold() -> None:
    assert born_machine(sweeps=6).holds
    assert nested_matrix_tensor(draws=10).holds
    assert dynamic_connectome(seeds=2).holds


def test_agreement_of_groupings() -> None:
    one = torch.tensor([0, 0, 1, 1, 2, 2])
    assert agreement(one, torch.tensor([5, 5, 3, 3, 0, 0])) == pytest.approx(1)
    assert agreement(one, torch.tensor([0, 1, 0, 1, 0, 1])) == pytest.approx(0, abs=1e-12)
    assert agreement(one, torch.zeros(6, dtype=torch.int64)) == 0


def test_the_alignment_has_a_threshold_in_both_strengths() -> None:
    shape = (300, 400, 200)
    assert alignment(1.0, 1.5, shape) == pytest.approx(0.659, abs=1e-3)
    assert alignment(0.5, 1.5, shape) == pytest.approx(0.358, abs=1e-3)
    assert alignment(0.35, 1.5, shape) == 0
    # Without a tensor's help a matrix shows its spike above the fourth root of a product of aspect ratios only.
    assert alignment(1e6, 0.70, shape) == 0
    assert alignment(1e6, 0.71, shape) > 0


def test_what_cp_costs_and_gains_holds_on_a_few() -> None:
    cost = cp_cost()
    assert cost.holds, cost.text
    compressed = cp_compression(tensors=4)
    assert compressed.holds, compressed.text
    assert 0 <= compressed.numbers["worst_difference"] < 1e-12
    swamps = cp_swamps(tensors=1, extent=12)
    assert swamps.holds, swamps.text
    assert swamps.numbers["median_plain"] > swamps.numbers["median_accelerated"]
    # With too few sweeps for either there is no difference, and the claim says that it does not hold.
    assert not cp_swamps(tensors=1, extent=12, most=10).holds


def test_collinear_factors_have_that_cosine() -> None:
    data, start = collinear(9, 3, 0.9, 1)
    cosines = torch.full((3, 3), 0.9, dtype=torch.float64).fill_diagonal_(1.0)
    squares = torch.linalg.eigvals(cosines @ cosines.square()).real.sort().values
    assert torch.allclose(torch.linalg.svdvals(data.flatten(1)).square()[:3].flip(0), squares)
    assert start.shape == (9, 9, 9)


@pytest.mark.slow
def test_alternating_methods_recover() -> None:
    assert cp_recovery(seeds=2).holds
    assert ring_recovery(seeds=2).holds
    assert parafac2_recovery(seeds=2).holds


CASE = Case("noise", norm=10.0, error=2.0, tails=(1.0, 3.0), refined=1.9, factor=math.sqrt(2))


@pytest.mark.parametrize(
    "case",
    [
        replace(CASE, error=2.001),  # more than the tails allow
        replace(CASE, tails=(1.0, 1.0)),  # and so more than sqrt(2) times the largest
        replace(CASE, refined=1.4),  # a network was found that is more than sqrt(2) better
    ],
)
def test_a_bound_that_is_exceeded_does_not_hold(case: Case) -> None:
    assert Cases([CASE]).measurement("a refinement").holds
    assert not Cases([CASE, case]).measurement("a refinement").holds


def test_tail_is_what_the_best_matrix_leaves() -> None:
    singular = torch.tensor([4.0, 2.0, 1.0], dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    left = torch.linalg.qr(torch.randn(6, 3, generator=generator, dtype=torch.float64)).Q
    right = torch.linalg.qr(torch.randn(20, 3, generator=generator, dtype=torch.float64)).Q
    tensor = (left * singular @ right.T).reshape(2, 3, 4, 5).permute(2, 0, 3, 1)
    assert tail(tensor, [1, 3], 1) == pytest.approx(5.0)
    assert tail(tensor, [1, 3], 3) == pytest.approx(0.0, abs=1e-20)


def test_hosvd_projects_on_every_mode() -> None:
    planted = Network.random(formats.tucker((7, 6, 5), (2, 3, 2)), seed=1).dense()
    assert torch.allclose(truncated_hosvd(planted, [2, 3, 2]).dense(), planted)


def test_components_are_unique_where_kruskal_says_so_and_core_consistency_is_high_at_the_right_rank() -> None:
    found = kruskal_uniqueness(seeds=1, starts=3)
    assert found.holds, found.text
    found = core_consistency(seeds=1, starts=2)
    assert found.numbers["high"] == found.numbers["tensors"] == 3
    assert found.holds == (found.numbers["low"] == 3)


def test_match_sees_order_and_scale_away_and_nothing_else() -> None:
    planted = Network.random(formats.cp((5, 6, 7), 3), seed=2)
    order = torch.tensor([2, 0, 1])
    same = planted.replace([core[:, order] * scale for core, scale in zip(planted.cores, (2, -3, 0.5), strict=True)])
    assert match(planted, same) == pytest.approx(1.0)
    first, *others = planted.cores
    assert match(planted, planted.replace([first.flip(0), *others])) < 0.99


def test_needed_counts_what_must_stay() -> None:
    assert needed([4.0, 3.0, 1.0], 0.5) == 3
    assert needed([4.0, 3.0, 1.0], 1.0) == 2
    assert needed([4.0, 3.0, 1.0], math.sqrt(10)) == 1
    assert needed([0.0], 0.0) == 1


def test_tensors_are_the_same_for_a_seed() -> None:
    first, again, other = (list(varied(seed, random=4)) for seed in (1, 1, 2))
    assert all(torch.equal(a.tensor, b.tensor) for a, b in zip(first, again, strict=True))
    assert first[0].tensor.shape != other[0].tensor.shape or not torch.equal(first[0].tensor, other[0].tensor)
    assert {named.tensor.ndim for named in first} == {3, 4, 5, 6}


def test_hidden_cells_of_planted_networks_are_found() -> None:
    found = hidden_cells(seeds=1)
    assert found.holds, found.text
    assert found.numbers["largest_error"] < 1e-6


def test_a_weighted_ridge_overfits_less_than_none() -> None:
    found = weighted_ridge(seeds=1)
    assert found.holds == (found.numbers["worst_growth"] <= 1.05)
    assert found.numbers["ridge 0.1, rank 8"] < 0.7 * found.numbers["ridge 0, rank 8"]
