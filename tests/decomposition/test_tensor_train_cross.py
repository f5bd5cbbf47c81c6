"""Cross interpolation: exact where the ranks are low, honest about its error, sparing with evaluations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tenfold import Network, formats
from tenfold.decomposition import Progress
from tenfold.decomposition import tensor_train_cross as cross
from tenfold.errors import DataError, TenfoldError


def hilbert(indices: Tensor) -> Tensor:
    return 1 / (1.0 + indices.double().sum(1))


def ranks(network: Network) -> list[int]:
    return [network.structure.sizes[bond] for bond in network.structure.inner_indices]


def true_error(found: Network, function, shape: tuple[int, ...], scale: float = 1.0) -> float:
    if math.prod(shape) <= 10**6:
        points = torch.cartesian_prod(*(torch.arange(n) for n in shape)).reshape(-1, len(shape))
    else:
        generator = torch.Generator().manual_seed(11)
        points = torch.stack([torch.randint(0, n, (20_000,), generator=generator) for n in shape], 1)
    true = torch.as_tensor(function(points)) / scale
    return float((found.at(points) / scale - true).norm() / true.norm())


@pytest.mark.parametrize("error", [1e-3, 1e-6, 1e-8])
def test_reaches_the_error_asked_for(error: float):
    shape = (20, 15, 20, 15)
    found = cross(hilbert, shape, error=error)
    assert found.stopped == "error"
    assert found.error <= error
    # Rounding and interpolation may each spend the error.
    assert true_error(found.network, hilbert, shape) <= 3 * error
    assert found.evaluations < math.prod(shape)


@pytest.mark.parametrize(
    ("function", "rank"),
    [
        (lambda i: i.double().sum(1), 2),
        (lambda i: torch.sin(0.1 * i.double().sum(1)), 2),
        (lambda i: torch.ones(len(i), dtype=torch.float64), 1),
        (lambda i: (i[:, 0] * i[:, -1] + i[:, 1]).double(), 2),
    ],
)
def test_known_ranks(function, rank: int):
    shape = (12,) * 9
    found = cross(function, shape, error=1e-10)
    assert max(ranks(found.network)) == rank
    assert true_error(found.network, function, shape) < 1e-9
    assert found.evaluations < 40_000


@settings(max_examples=15, deadline=None)
@given(
    shape=st.lists(st.integers(1, 6), min_size=2, max_size=5).map(tuple),
    rank=st.integers(1, 4),
    seed=st.integers(0, 1000),
    dtype=st.sampled_from([torch.float64, torch.complex128]),
)
def test_finds_planted_trains(shape: tuple[int, ...], rank: int, seed: int, dtype: torch.dtype):
    planted = Network.random(formats.tensor_train(shape, rank), seed=seed, dtype=dtype)
    found = cross(planted.at, shape, error=1e-9, seed=seed)
    assert found.stopped == "error"
    assert true_error(found.network, planted.at, shape) < 1e-8


def test_products_of_trains_are_found_with_the_product_of_the_ranks():
    shape = (9,) * 6
    one, other = (Network.random(formats.tensor_train(shape, 2), seed=s, dtype=torch.float64) for s in (1, 2))
    found = cross(lambda i: one.at(i) * other.at(i), shape, error=1e-10)
    assert max(ranks(found.network)) <= 4
    assert true_error(found.network, lambda i: one.at(i) * other.at(i), shape) < 1e-9


def test_noise_of_full_rank_on_tiny_modes_comes_to_an_end():
    values = torch.randn(2, 2, 2, 2, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = cross(lambda i: values[tuple(i.T)], values.shape, error=1e-9)
    assert ranks(found.network) == [2, 4, 8, 4, 2]
    torch.testing.assert_close(found.network.dense(), values)


@pytest.mark.parametrize("scale", [1e150, 1e-150])
def test_scales_whose_squares_are_out_of_range(scale: float):
    shape = (15,) * 4
    found = cross(lambda i: scale * hilbert(i), shape, error=1e-7)
    assert found.stopped == "error"
    assert true_error(found.network, lambda i: scale * hilbert(i), shape, scale) < 3e-7


def test_a_ridge_that_random_points_miss():
    """Far from the diagonal the function is zero to all digits."""

    def ridge(i: Tensor) -> Tensor:
        return torch.exp(-((i[:, 0] - i[:, 1]).double() ** 2) - ((i[:, 1] - i[:, 2]).double() ** 2))

    shape = (64, 64, 64)
    found = cross(ridge, shape, error=1e-6)
    assert found.stopped == "error"
    assert true_error(found.network, ridge, shape) < 1e-5


def test_same_seed_same_result():
    one, other = (cross(hilbert, (10,) * 5, seed=3) for _ in range(2))
    assert one.evaluations == other.evaluations
    for mine, theirs in zip(one.network.cores, other.network.cores, strict=True):
        assert torch.equal(mine, theirs)


def test_the_largest_value_is_kept():
    found = cross(lambda i: -hilbert(i), (10,) * 5)
    assert found.largest == ((0, 0, 0, 0, 0), -1.0)
    assert "largest value -1 at (0, 0, 0, 0, 0)" in repr(found)


def test_one_index_and_one_place():
    assert cross(hilbert, (7,)).network.dense().shape == (7,)
    found = cross(hilbert, (1, 1, 1))
    assert found.network.dense().item() == 1


def test_a_function_that_is_zero():
    found = cross(lambda i: torch.zeros(len(i)), (5, 6, 7))
    assert found.stopped == "zero"
    assert not found.network.dense().any()


def test_stops_at_a_number_of_evaluations_with_a_train_that_fits_together():
    for limit in (1500, 3000, 5000, 10_000):
        found = cross(hilbert, (30,) * 5, error=1e-10, max_evaluations=limit)
        assert found.stopped == "max_evaluations"
        assert found.evaluations <= limit
        assert found.network.at(torch.zeros(1, 5, dtype=torch.int64)).isfinite().all()


def test_ranks_stay_within_the_largest_allowed():
    found = cross(hilbert, (20,) * 4, error=1e-10, max_rank=3)
    assert found.stopped == "max_rank"
    assert max(ranks(found.network)) <= 3
    assert found.error > 1e-10


def test_progress_has_a_network():
    seen: list[Progress] = []
    cross(hilbert, (10,) * 4, callback=seen.append)
    assert [state.sweep for state in seen] == list(range(1, len(seen) + 1))
    assert seen[-1].network().shape == (10,) * 4


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda i: torch.zeros(len(i), 2), "the function returned shape"),
        (lambda i: torch.full((len(i),), math.nan), "the function returned nan at index"),
        (lambda i: np.full(len(i), "a"), "must return numbers"),
    ],
)
def test_functions_that_return_something_else(function, said: str):
    with pytest.raises(DataError, match=said):
        cross(function, (3, 4))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"error": 0}, "error must be above 0"),
        ({"max_rank": 0}, "max_rank must be a whole number of at least 1, not 0"),
        ({"kick": 1.5}, "kick must be"),
        ({"shape": ()}, "is empty"),
        ({"shape": (3, 0)}, "is empty"),
    ],
)
def test_arguments_out_of_range(options: dict, said: str):
    with pytest.raises(TenfoldError, match=said):
        cross(hilbert, **{"shape": (3, 4), **options})


def test_an_error_below_the_precision_of_the_values():
    with pytest.raises(TenfoldError, match="below what values of float32 can show"):
        cross(lambda i: hilbert(i).float(), (5, 6), error=1e-9)


@pytest.mark.parametrize("scale", [5e-310, 1e-200, 1e200, 1.7e308])
@pytest.mark.parametrize("phase", [1.0, 0.6 + 0.8j])
@pytest.mark.parametrize("shape", [(8,), (8, 7), (6, 5, 4, 3)])
def test_values_of_extreme_size(scale: float, phase: complex, shape: tuple[int, ...]):
    def function(indices: Tensor) -> Tensor:
        return hilbert(indices) * phase * scale

    found = cross(function, shape, error=1e-8)
    points = torch.cartesian_prod(*(torch.arange(n) for n in shape)).reshape(-1, len(shape))
    # The parts of complex numbers one by one, because a complex quotient of subnormal numbers is NaN.
    made, true = (
        torch.view_as_real(x.to(torch.complex128)) / scale for x in (found.network.at(points), function(points))
    )
    apart = (made - true).abs().max()
    assert float(apart) < 1e-6
    assert found.error < 1e-7
    assert found.stopped in ("error", "max_rank")


@pytest.mark.parametrize(
    ("how", "said"),
    [
        *(({"max_evaluations": n}, "max_evaluations must be a whole number of at least 1000") for n in (0, 1, -1, "x")),
        ({"seed": -1}, "seed must be a whole number of at least 0, not -1"),
        ({"error": "x"}, "error must be above 0 and below 1, not 'x'"),
        ({"shape": (3.5, 4)}, r"shape\[0\] must be a whole number of at least 1, not 3.5"),
        ({"shape": 5}, "shape must be a sequence of whole numbers"),
        ({"shape": (3, -1)}, r"shape\[1\] must be a whole number"),
    ],
)
def test_arguments_of_other_kinds(how, said: str):
    with pytest.raises(TenfoldError, match=said):
        cross(hilbert, **{"shape": (4, 5), **how})
