"""What structures are fitted to: whole tensors, observations, losses."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
import torch

from tenfold.decomposition import relative_error
from tenfold.errors import DataError
from tenfold.network import Network
from tenfold.observations import Observations
from tenfold.structure import Structure
from tenfold.structure_search._adapted import adapted
from tenfold.structure_search.objectives import SizeWithin
from tenfold.structure_search.session import Session
from tenfold.structure_search.spaces import Chain, FullyConnected, Point, Ring, Tucker
from tenfold.structure_search.targets import Dense, Loss, Observed

RING = Ring((5, 5, 5, 5), max_rank=4)
PLANTED = RING.structure(Point((2, 3, 2, 2), (0, 1, 2, 3)))


def tensor(seed: int = 1, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return Network.random(PLANTED, seed=seed, dtype=dtype).dense()


# --- whole tensors ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.complex128])
def test_a_planted_ring_is_found(dtype: torch.dtype) -> None:
    data = tensor(dtype=dtype)
    fitted = Dense(data).fit(PLANTED, seed=0)
    assert fitted.finished
    assert fitted.error < 1e-5
    assert fitted.network.dtype == dtype
    assert relative_error(data, fitted.network) == pytest.approx(fitted.error, abs=1e-9)


def test_what_a_fit_gives_depends_on_its_arguments_only() -> None:
    target = Dense(tensor())
    one = target.fit(PLANTED, seed=3)
    target.fit(RING.structure(RING.first(2)), seed=1)
    two = pickle.loads(pickle.dumps(target)).fit(PLANTED, seed=3)
    assert (one.error, one.sweeps) == (two.error, two.sweeps)
    assert all(torch.equal(a, b) for a, b in zip(one.network.cores, two.network.cores, strict=True))


def test_trees_are_no_worse_than_their_sequential_svd() -> None:
    data = torch.randn(5, 5, 5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for space in (Chain((5,) * 4), Tucker((5,) * 4)):
        structure = space.structure(space.first(2))
        from tenfold.decomposition import find

        assert Dense(data).fit(structure).error <= find("tree_svd").function(data, structure).error + 1e-9


def test_a_fit_that_cannot_win_is_given_up() -> None:
    data = torch.randn(4, 4, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    space = Ring((4,) * 4)
    structure = space.structure(space.first(2))
    whole = Dense(data).fit(structure)
    short = Dense(data).fit(structure, within=whole.error / 2)
    assert whole.finished
    assert not short.finished
    assert short.sweeps < whole.sweeps
    assert short.error >= whole.error - 1e-9
    assert Dense(data).fit(structure, within=whole.error * 1.01).finished


def test_a_first_look_starts_from_what_is_near() -> None:
    data = tensor()
    fitted = Dense(data).fit(RING.structure(RING.first(2)))
    start = adapted(fitted.network, PLANTED)
    look = Dense(data).fit(PLANTED, near=start, sweeps=2)
    assert look.sweeps == 2
    assert look.error <= relative_error(data, start)


def test_bounds_of_two_ways_to_fold_are_not_mixed_up() -> None:
    data = torch.randn(4, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    target = Dense(data)
    spaces = [Ring((4, 4, 4), folds=folds, max_rank=2) for folds in (((2, 2), (4,), (4,)), ((4,), (4,), (2, 2)))]
    for space in spaces:
        structure = space.structure(space.first(2))
        assert target.bound(structure) == Dense(data).bound(structure)
        assert target.bound(structure) <= target.fit(structure).error


@pytest.mark.parametrize("data", [torch.zeros(3, 3, 3), torch.ones(3, 3, 3), torch.full((1, 1, 1), 2.0)])
def test_tensors_of_nothing_much(data: torch.Tensor) -> None:
    space = Ring(tuple(data.shape), max_rank=2)
    for rank in (1, 2):
        structure = space.structure(space.first(rank))
        assert Dense(data).bound(structure) == 0
        assert Dense(data).fit(structure).error < 1e-6


@pytest.mark.parametrize("scale", [1e150, 1e-150])
def test_tensors_of_any_scale(scale: float) -> None:
    assert Dense(tensor() * scale).fit(PLANTED).error < 1e-6


def test_tensors_that_are_refused() -> None:
    with pytest.raises(DataError, match="must be floating or complex, not torch"):
        Dense(torch.ones(2, 2, dtype=torch.int64))
    with pytest.raises(DataError, match="is empty"):
        Dense(torch.ones(2, 0))
    with pytest.raises(DataError, match="NaN or infinite"):
        Dense(torch.tensor([[1.0, float("nan")]]))


# --- observations -----------------------------------------------------------------------------------------------------


def some_cells(part: float = 0.4, noise: float = 0.1) -> tuple[Observations, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    data = tensor()
    mask = torch.rand(data.shape, generator=generator) < part
    values = data + noise * data.std() * torch.randn(data.shape, generator=generator, dtype=data.dtype)
    return Observations(mask.nonzero(), values[mask], shape=tuple(data.shape)), data


def test_the_same_cells_are_left_out_for_every_structure() -> None:
    data, _ = some_cells()
    target = Observed(data, seed=2)
    assert target.held is not None
    assert len(target.train) + len(target.held) == len(data)
    assert len(target.held) == pytest.approx(0.1 * len(data), abs=1)
    for seed, rank in ((0, 1), (1, 2)):
        fitted = target.fit(RING.structure(RING.first(rank)), seed=seed)
        assert fitted.error == pytest.approx(relative_error(target.held, fitted.network))
    same, other = Observed(data, seed=2), Observed(data, seed=3)
    assert same.held is not None
    assert other.held is not None
    assert torch.equal(same.held.coordinates, target.held.coordinates)
    assert not torch.equal(other.held.coordinates, target.held.coordinates)


def test_errors_are_comparable_from_seed_to_seed() -> None:
    """Fits that find the planted ring agree on what it is worth to some per cent, and it is worth more than less."""
    data, _ = some_cells()
    target = Observed(data)
    planted = sorted(target.fit(PLANTED, seed=seed).error for seed in range(5))[:3]
    small = [target.fit(RING.structure(RING.first(1)), seed=seed).error for seed in range(2)]
    assert planted[-1] < 0.3 * min(small)
    assert planted[-1] < 1.1 * planted[0]


def test_a_warm_start_is_as_good() -> None:
    data, _ = some_cells()
    target = Observed(data)
    near = adapted(target.fit(PLANTED).network, RING.structure(Point((2, 3, 3, 2), (0, 1, 2, 3))))
    assert target.fit(near.structure, near=near).error < 2 * target.fit(PLANTED).error


def test_few_cells_and_whole_tensors_leave_nothing_out() -> None:
    data = tensor()
    whole = Observations(torch.ones(data.shape).nonzero(), data.reshape(-1), shape=tuple(data.shape))
    for observed in (whole, Observations(whole.coordinates[:15], whole.values[:15], shape=whole.shape)):
        target = Observed(observed)
        assert target.held is None
        fitted = target.fit(RING.structure(RING.first(1)))
        assert fitted.error == pytest.approx(relative_error(observed, fitted.network))


def test_observations_that_are_refused() -> None:
    data, _ = some_cells()
    with pytest.raises(DataError, match="holdout must be above 0 and below 1"):
        Observed(data, holdout=1.0)
    with pytest.raises(DataError, match="known to be zero"):
        Observed(Observations(data.coordinates, data.values, shape=data.shape, rest="zero"))


# --- losses -----------------------------------------------------------------------------------------------------------


def layer() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A linear layer trained on data in a subspace, its inputs, its outputs on them."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(300, 4, generator=generator, dtype=torch.float64) @ torch.randn(
        4, 16, generator=generator, dtype=torch.float64
    )
    wanted = inputs @ torch.randn(16, 16, generator=generator, dtype=torch.float64)
    module = torch.nn.Linear(16, 16, bias=False, dtype=torch.float64)
    with torch.no_grad():
        module.weight.copy_(torch.randn(16, 16, generator=generator, dtype=torch.float64))
    optimizer = torch.optim.LBFGS(module.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        error = (module(inputs) - wanted).square().mean()
        error.backward()
        return error

    optimizer.step(closure)
    weight = module.weight.detach().clone()
    return weight, inputs, inputs @ weight.T


def test_a_layer_is_made_small_by_what_it_does() -> None:
    """Inputs fill four dimensions of sixteen: rank 4 does what the layer does, though its weight has all sixteen."""
    weight, inputs, outputs = layer()

    def loss(network: Network) -> torch.Tensor:
        return (inputs @ network.dense().T - outputs).norm() / outputs.norm()

    structure = Structure("o a, a i -> o i", o=16, i=16, a=4)
    target = Loss(loss, (16, 16), steps=400)
    by_weight = Dense(weight).fit(structure).network
    cold = target.fit(structure, seed=0)
    warm = target.fit(structure, near=by_weight)
    assert float(loss(by_weight)) > 0.3
    assert warm.error < 0.05
    assert warm.error < float(loss(by_weight)) / 5
    assert cold.error < 1
    for fitted in (cold, warm):
        assert float(loss(fitted.network)) == pytest.approx(fitted.error, rel=1e-9)
        assert not fitted.network.cores[0].requires_grad
    short = target.fit(structure, near=by_weight, sweeps=5)
    assert short.sweeps == 10
    assert warm.error <= short.error <= float(loss(by_weight))
    assert target.size == 256
    assert target.bound(structure) <= warm.error


def test_a_loss_that_breaks_down_keeps_the_best() -> None:
    calls = 0

    def loss(network: Network) -> torch.Tensor:
        nonlocal calls
        calls += 1
        value = network.dense().square().sum()
        return value if calls < 5 else value * float("nan")

    structure = Structure("i a, a j -> i j", i=3, j=3, a=1)
    fitted = Loss(loss, (3, 3)).fit(structure)
    assert np.isfinite(fitted.error)
    assert fitted.error == pytest.approx(float(fitted.network.dense().square().sum()))


def test_smooth_losses_end_at_their_minimum_and_soon() -> None:
    """Six starts of a ring too small for the data end at one loss; those of a ring large enough at none."""
    data = tensor()

    def loss(network: Network) -> torch.Tensor:
        return (network.dense() - data).norm() / data.norm()

    target = Loss(loss, (5,) * 4)
    small = [target.fit(RING.structure(RING.first(2)), seed=seed) for seed in range(4)]
    assert max(one.error for one in small) < 1.001 * min(one.error for one in small)
    assert max(one.sweeps for one in small) < target.steps
    assert max(target.fit(PLANTED, seed=seed).error for seed in (0, 2, 3)) < 1e-6


def test_losses_with_kinks_or_with_chance_are_made_small_too() -> None:
    """Some entries are far off, and do not matter to the absolute error; or only a fifth of them is seen each time."""
    data = tensor()
    generator = torch.Generator().manual_seed(0)
    off = torch.rand(data.shape, generator=generator) < 0.05
    spoilt = data + 10 * off * torch.randn(data.shape, generator=generator, dtype=data.dtype)

    def kinks(network: Network) -> torch.Tensor:
        return (network.dense() - spoilt).abs().mean() / data.abs().mean()

    def chance(network: Network) -> torch.Tensor:
        seen = torch.rand(data.shape, generator=generator) < 0.2
        return (network.dense() - data)[seen].norm() / data[seen].norm()

    for loss in (kinks, chance):
        network = Loss(loss, (5,) * 4).fit(PLANTED, seed=2).network
        assert relative_error(data, network) < 0.2


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
@pytest.mark.parametrize("unit", [1.0, 1e-9, 1e-30])
def test_losses_are_made_small_in_whatever_unit(unit: float, kind: torch.dtype) -> None:
    data = tensor().to(kind)

    def loss(network: Network) -> torch.Tensor:
        return unit * (network.dense() - data).square().sum() / data.square().sum()

    assert Loss(loss, (5,) * 4, kind).fit(PLANTED, seed=0).error < 1e-4 * unit


def test_what_has_no_room_on_the_way_is_not_fitted() -> None:
    """Few enough parameters, but all bonds of eight modes are left after the first products."""
    space = FullyConnected((3,) * 8, 4)
    large, small = space.structure(space.first(3)), space.structure(space.first(1))
    data = Dense(torch.randn((3,) * 8, generator=torch.Generator().manual_seed(0)))
    assert not data.has_room(large)
    assert data.has_room(small)
    assert data.has_room(Chain((3,) * 8, 3).structure(Chain((3,) * 8, 3).first(3)))
    with Session(data, SizeWithin(0.1), seed=0) as session:
        (found,) = session.evaluate([large])
        assert found.value == math.inf
        assert session.fits == 0
