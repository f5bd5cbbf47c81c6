"""Core shapes: the exact minimum against all shapes there are, and the bounds against true errors."""

from __future__ import annotations

import itertools
import math
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tenfold import formats
from tenfold.decomposition import find
from tenfold.errors import DataError, TenfoldError
from tenfold.network import Network
from tenfold.structure_search.core_shapes import core_shape, core_shapes, size
from tenfold.structure_search.refined_core_shape import refined_core_shape
from tenfold.structure_search.rre_greedy import rre_greedy
from tenfold.structure_search.spectra import mode_spectra


def drawn(shape: tuple[int, ...], seed: int) -> list[np.ndarray]:
    """Spectra that fall as powers, with jitter, squares adding up to one."""
    generator = np.random.default_rng(seed)
    found = []
    for extent in shape:
        values = np.arange(1, extent + 1) ** -generator.uniform(0.2, 1.5)
        values = np.sort(values * np.exp(0.3 * generator.standard_normal(extent)))[::-1]
        found.append(values / np.linalg.norm(values))
    return found


def every(spectra: list[np.ndarray], shape: tuple[int, ...], parameters: int, attainable: bool) -> list[float]:
    """The bounds of all shapes within the budget, smallest first."""
    tails = [[math.fsum(values[k:] ** 2) for k in range(len(values) + 1)] for values in spectra]
    return sorted(
        math.fsum(tail[rank] for tail, rank in zip(tails, ranks, strict=True))
        for ranks in itertools.product(*(range(1, extent + 1) for extent in shape))
        if size(shape, ranks) <= parameters and (not attainable or of_use(ranks))
    )


def of_use(ranks: tuple[int, ...]) -> bool:
    return all(rank <= math.prod(ranks) // rank for rank in ranks)


@st.composite
def problems(draw: st.DrawFn) -> tuple[tuple[int, ...], int, int]:
    shape = tuple(draw(st.lists(st.integers(1, 6), min_size=1, max_size=4)))
    return shape, draw(st.integers(1 + sum(shape), size(shape, shape) + 2)), draw(st.integers(0, 2**20))


@given(problems(), st.integers(1, 7), st.booleans())
def test_exact_is_the_best_of_all(problem: tuple[tuple[int, ...], int, int], count: int, attainable: bool) -> None:
    shape, parameters, seed = problem
    spectra = drawn(shape, seed)
    known = every(spectra, shape, parameters, attainable)
    found = core_shapes(spectra, shape, parameters, count=count, attainable=attainable)
    assert [one.bound for one in found] == pytest.approx(known[:count], abs=1e-12)
    assert len({one.ranks for one in found}) == len(found)
    for one in found:
        assert one.parameters == size(shape, one.ranks) <= parameters
        assert one.lower <= one.bound <= len(shape) * one.lower + 1e-15
        assert not attainable or of_use(one.ranks)


@given(problems(), st.integers(1, 4), st.booleans())
@settings(max_examples=30)
def test_merging_is_the_same_as_enumerating(
    problem: tuple[tuple[int, ...], int, int], count: int, attainable: bool
) -> None:
    shape, parameters, seed = problem
    spectra = drawn(shape, seed)
    enumerated = core_shapes(spectra, shape, parameters, count=count, attainable=attainable)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys.modules[core_shapes.__module__], "_ENUMERATED", 0)
        merged = core_shapes(spectra, shape, parameters, count=count, attainable=attainable)
    assert [one.bound for one in merged] == pytest.approx([one.bound for one in enumerated], abs=1e-12)


@given(st.integers(0, 2**20))
def test_exact_is_never_worse_than_greedy(seed: int) -> None:
    generator = np.random.default_rng(seed)
    shape = tuple(int(n) for n in generator.integers(2, 40, generator.integers(3, 6)))
    parameters = int(generator.integers(1 + sum(shape), 6 * sum(shape)))
    spectra = drawn(shape, seed)
    exact = core_shape(spectra, shape, parameters)
    for how in ("greedy", "bang_for_buck"):
        other = core_shape(spectra, shape, parameters, how=how)
        assert other.parameters <= parameters
        assert exact.bound <= other.bound + 1e-15


@pytest.mark.parametrize("seed", range(2))
def test_exact_is_never_worse_than_integer_programs(seed: int) -> None:
    shape, parameters = (12, 15, 9), 400
    spectra = drawn(shape, seed)
    exact = core_shape(spectra, shape, parameters)
    coarse, fine = (core_shape(spectra, shape, parameters, how="milp", eps=eps) for eps in (0.5, 0.1))
    assert max(coarse.parameters, fine.parameters) <= parameters
    assert exact.bound <= fine.bound <= 1.1 * exact.bound
    # What the paper proves is about the squares kept.
    kept = len(shape) - exact.bound
    assert kept >= len(shape) - coarse.bound >= kept / 1.5


@pytest.mark.slow
def test_exact_is_never_worse_on_a_hundred_spectra() -> None:
    generator = np.random.default_rng(0)
    better = 0
    for seed in range(100):
        shape = tuple(int(n) for n in generator.integers(4, 16, generator.integers(3, 5)))
        low, high = 1 + sum(shape), size(shape, shape)
        parameters = low + int(generator.uniform(0.02, 0.5) * (high - low))
        spectra = drawn(shape, seed)
        exact = core_shape(spectra, shape, parameters).bound
        others = [core_shape(spectra, shape, parameters, how=how) for how in ("milp", "greedy", "bang_for_buck")]
        assert max(one.parameters for one in others) <= parameters
        assert exact <= min(one.bound for one in others) + 1e-13
        better += exact < min(one.bound for one in others) - 1e-9
    assert better > 10


# Shapes and budgets of real data: a film of a heart, and two images of many wavelengths and of many moments.
LARGE = [((256, 256, 14, 20), 40_000), ((100, 100, 100), 5_000), ((1024, 1344, 33), 40_000)]


@pytest.mark.parametrize(("shape", "parameters"), LARGE)
def test_large_shapes_are_as_good_as_greedy_ones(shape: tuple[int, ...], parameters: int) -> None:
    spectra = drawn(shape, 1)
    found = core_shapes(spectra, shape, parameters, count=5)
    bounds = [one.bound for one in found]
    assert bounds == sorted(bounds)
    greedy, bang = (core_shape(spectra, shape, parameters, how=how) for how in ("greedy", "bang_for_buck"))
    assert bounds[0] <= min(greedy.bound, bang.bound)
    assert found[0].parameters > 0.95 * parameters


@pytest.mark.slow
@pytest.mark.parametrize(("shape", "parameters"), LARGE)
def test_integer_programs_come_near_on_large_shapes(shape: tuple[int, ...], parameters: int) -> None:
    spectra = drawn(shape, 1)
    exact, found = (core_shape(spectra, shape, parameters, how=how) for how in ("exact", "milp"))
    # The paper's solver is a heuristic for the split; at eps = 0.5 it was within five per cent here.
    assert exact.bound <= found.bound <= 1.05 * exact.bound


@pytest.mark.parametrize("seed", range(3))
def test_true_errors_lie_between_the_bounds(seed: int) -> None:
    planted = Network.random(formats.tucker((12, 10, 8), (3, 4, 2)), seed=seed, dtype=torch.float64).dense()
    noise = torch.randn(planted.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    tensor = planted / planted.norm() + 0.3 * noise / noise.norm()
    for parameters in (60, 120, 250):
        for one in core_shapes(mode_spectra(tensor), tensor.shape, parameters, count=3):
            done = find("hooi").function(tensor, formats.tucker(tensor.shape, one.ranks))
            assert done.network.parameters == one.parameters
            assert one.lower - 1e-12 <= done.error**2 <= one.bound + 1e-12


@pytest.mark.parametrize("scale", [1.0, 1e150, 1e-150])
def test_planted_ranks_are_found_with_nothing_to_spare(scale: float) -> None:
    structure = formats.tucker((9, 8, 7), (2, 3, 4))
    tensor = scale * Network.random(structure, seed=1, dtype=torch.float64).dense()
    found = core_shape(mode_spectra(tensor), tensor.shape, structure.parameters)
    assert found.ranks == (2, 3, 4)
    assert found.bound < 1e-15
    # What is left of a larger budget is not spent on nothing.
    assert core_shape(mode_spectra(tensor), tensor.shape, 10**6) == found


def test_refining_looks_at_true_errors() -> None:
    generator = torch.Generator().manual_seed(2)
    tensor = torch.randn(8, 9, 10, generator=generator, dtype=torch.float64)
    trusting, refined = (refined_core_shape(tensor, 150, refine=count) for count in (1, 6))
    shapes = core_shapes(mode_spectra(tensor), tensor.shape, 150, count=6, attainable=True)
    errors = [find("hooi").function(tensor, formats.tucker(tensor.shape, s.ranks), max_sweeps=20).error for s in shapes]
    assert trusting.error == pytest.approx(errors[0])
    assert refined.error == pytest.approx(min(errors))
    assert refined.network.parameters <= 150


def test_greedy_by_true_errors_grows_within_its_budget() -> None:
    structure = formats.tucker((8, 7, 6), (2, 3, 2))
    tensor = Network.random(structure, seed=3, dtype=torch.float64).dense()
    exact = rre_greedy(tensor, structure.parameters)
    assert exact.network.parameters == structure.parameters
    assert exact.error < 1e-7
    less = rre_greedy(tensor, 35)
    assert less.network.parameters <= 35
    assert less.error > exact.error
    with pytest.raises(TenfoldError, match="at least 22"):
        rre_greedy(tensor, 21)


GOOD = [[3.0, 2.0, 1.0], [3.5, 1.3], [3.0, 2.0, 1.0]]


@pytest.mark.parametrize(
    ("spectra", "shape", "parameters", "said"),
    [
        (GOOD, (3, 2, 3), 8, r"parameters 8 is too few: ranks of one for shape \(3, 2, 3\) need at least 9"),
        (GOOD, (3, 2, 3), 12.5, "parameters must be a whole number, not 12.5"),
        (GOOD, (3, 2, 3), True, "parameters must be a whole number, not True"),
        (GOOD, (3, 1, 3), 20, "mode 1 of size 1 has 2 singular values"),
        (GOOD, (3, 2), 20, r"spectra has 3 entries but shape \(3, 2\) has 2 modes"),
        ([], (), 20, r"shape \(\) is not one of positive sizes"),
        ([[], [1.0]], (1, 1), 20, r"spectrum of mode 0 has shape \(0,\)"),
        ([[1.0], [math.nan]], (1, 1), 20, "spectrum of mode 1 has values that are not finite"),
        ([[1.0, math.inf], [1.0]], (2, 1), 20, "spectrum of mode 0 has values that are not finite"),
        ([[1.0, 2.0], [1.0]], (2, 1), 20, "spectrum of mode 0 increases after its value 1: give the largest first"),
        ([[1.0, -2.0], [1.0]], (2, 1), 20, "spectrum of mode 0 has a negative value, -2"),
        ([["much"], [1.0]], (1, 1), 20, "spectrum of mode 0 is no sequence of real numbers"),
        ([torch.ones(1, dtype=torch.complex64), [1.0]], (1, 1), 20, "spectrum of mode 0 is complex"),
        ([[1j], [1.0]], (1, 1), 20, "spectrum of mode 0 is complex"),
        (GOOD, (3, 2, 3), -5, "parameters -5 is too few: .* at least 9"),
        (GOOD, (3, 2, 3), math.inf, "parameters must be a whole number, not inf"),
        (None, (3, 2, 3), 20, "must have an entry for each mode; they are of type NoneType and tuple"),
        (GOOD, 3, 20, "must have an entry for each mode; they are of type list and int"),
        (GOOD, "3 2", 20, r"shape \('3', ' ', '2'\) is not one of positive sizes"),
    ],
)
def test_what_is_refused(spectra: list, shape: tuple, parameters: object, said: str) -> None:
    with pytest.raises(TenfoldError, match=said) as caught:
        core_shape(spectra, shape, parameters)
    assert "\n" not in str(caught.value)


def test_options_are_checked() -> None:
    for options, said in (
        ({"how": "best"}, "how is 'best'"),
        ({"how": ["exact"]}, r"how is \['exact'\]"),
        ({"how": "milp", "eps": 0.0}, "eps is 0.0"),
        ({"how": "milp", "eps": math.inf}, "eps is inf"),
        ({"how": "milp", "eps": "fine"}, "eps is 'fine'"),
    ):
        with pytest.raises(TenfoldError, match=said):
            core_shape(GOOD, (3, 2, 3), 20, **options)
    with pytest.raises(TenfoldError, match="count is 0"):
        core_shapes(GOOD, (3, 2, 3), 20, count=0)


@pytest.mark.parametrize(
    ("tensor", "said"),
    [
        (np.ones((2, 3)), "tensor is of type ndarray: give a torch tensor"),
        (torch.ones(2, 3).to_sparse(), r"tensor is of layout torch.sparse_coo: give a whole one"),
        (torch.ones(()), r"tensor has shape \(\): it has no singular values"),
        (torch.ones(0, 3), r"tensor has shape \(0, 3\): it has no singular values"),
        (torch.tensor([[1.0, math.nan]]), "tensor has entries that are not finite"),
        (torch.tensor([[1.0, -math.inf]]), "tensor has entries that are not finite"),
    ],
)
def test_what_has_no_singular_values(tensor: object, said: str) -> None:
    for attempt in (mode_spectra, lambda data: refined_core_shape(data, 100)):
        with pytest.raises(DataError, match=said) as caught:
            attempt(tensor)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("refine", [0, -1, 1.5, True])
def test_as_many_shapes_are_tried_as_make_sense(refine: object) -> None:
    with pytest.raises(TenfoldError, match=f"refine is {refine}: it must be a positive whole number"):
        refined_core_shape(torch.ones(2, 3), 100, refine=refine)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex128, torch.bfloat16, torch.int64])
@pytest.mark.parametrize("block", [1, 7, 2**22])
def test_singular_values_are_those_of_the_unfoldings(
    dtype: torch.dtype, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[mode_spectra.__module__], "_BLOCK", block)
    generator = torch.Generator().manual_seed(0)
    tensor = torch.randint(-9, 9, (4, 3, 1, 5, 30), generator=generator).to(dtype)
    wide = tensor.to(torch.complex128 if dtype.is_complex else torch.float64)
    found = mode_spectra(tensor)
    for mode, values in enumerate(found):
        known = torch.linalg.svdvals(wide.movedim(mode, 0).reshape(tensor.shape[mode], -1))
        torch.testing.assert_close(values[: len(known)], known, rtol=1e-9, atol=1e-6)
    (alone,) = mode_spectra(tensor[0, 0, 0, 0])
    assert float(alone[0]) == pytest.approx(float(wide[0, 0, 0, 0].norm()))
    assert core_shape(found, tensor.shape, 10**6) == core_shape([one.float() for one in found], tensor.shape, 10**6)


@pytest.mark.parametrize("scale", [1e-300, 1e-160, 1e160, 1e300])
def test_squares_that_leave_the_range_are_scaled(scale: float) -> None:
    tensor = torch.randn(4, 5, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for plain, scaled in zip(mode_spectra(tensor), mode_spectra(scale * tensor), strict=True):
        torch.testing.assert_close(scaled / scale, plain)


def test_a_tensor_of_nothing_needs_ranks_of_one() -> None:
    found = core_shape(mode_spectra(torch.zeros(4, 5, 6)), (4, 5, 6), 1000)
    assert (found.ranks, found.bound, found.lower) == ((1, 1, 1), 0.0, 0.0)
    assert core_shape([[2.0]], (1,), 2).ranks == (1,)


def test_a_spectrum_that_stops_early_is_lost_at_any_rank() -> None:
    found = core_shape([[1.0, 1.0], [1.0], [1.0, 1.0]], (2, 2, 2), 1000)
    assert found.ranks == (2, 1, 2)
    assert found.bound == found.lower == pytest.approx(0.5)
