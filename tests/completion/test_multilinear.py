"""CP and Tucker of partly known tensors: what was planted, and how sure they are of it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tenfold import Network, formats
from tenfold.completion import Step, Task, find
from tenfold.errors import TenfoldError

SHAPE = (24, 20, 16)


def planted(kind: str, noise: float, part: float = 0.3, seed: int = 0) -> tuple[Tensor, Tensor, Task]:
    structure = formats.cp(SHAPE, 2) if kind == "cp" else formats.tucker(SHAPE, (2, 2, 2))
    tensor = Network.random(structure, seed=seed + 1, dtype=torch.float64).dense()
    tensor = tensor / tensor.std()
    generator = torch.Generator().manual_seed(seed)
    known = torch.rand(SHAPE, generator=generator) < part
    values = tensor[known] + noise * torch.randn(int(known.sum()), generator=generator, dtype=torch.float64)
    return tensor, known, Task(known.nonzero().double(), values, SHAPE)


@pytest.mark.parametrize("kind", ["cp", "tucker"])
def test_planted_tensors_come_back(kind: str) -> None:
    for seed in range(2):
        tensor, known, task = planted(kind, 0.0, seed=seed)
        model = find(kind).function(task, rank=2, tol=1e-12)
        found = model.predict((~known).nonzero().double())
        assert float((found.mean - tensor[~known]).norm() / tensor[~known].norm()) < 1e-6


@pytest.mark.parametrize("kind", ["cp", "tucker"])
def test_intervals_cover_and_the_noise_is_known(kind: str) -> None:
    tensor, known, task = planted(kind, 0.4)
    model = find(kind).function(task, rank=2)
    found = model.predict((~known).nonzero().double())
    assert found.variance is not None
    assert float(found.noise) ** 0.5 == pytest.approx(0.4, rel=0.05)
    score = (tensor[~known] - found.mean) / found.variance.sqrt()
    assert 0.83 < float((score.abs() < 1.645).double().mean()) < 0.95


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["cp", "tucker"])
def test_the_rank_is_found(kind: str) -> None:
    _, _, task = planted(kind, 0.2)
    model = find(kind).function(task)
    assert model.parameters == find(kind).function(task, rank=2).parameters


def test_variances_are_those_of_the_dense_posterior_of_each_row() -> None:
    _, _, task = planted("tucker", 0.3, part=0.1)
    model = find("tucker").function(task, rank=2)
    place = torch.tensor([[3, 4, 5]])
    for mode in range(3):
        factor = model.factors[mode]
        centre = factor.mean(0)
        covariance = (factor - centre).T @ (factor - centre) / (len(factor) - 1) + torch.outer(centre, centre) / len(
            factor
        )
        cells = task.coordinates[task.coordinates[:, mode] == place[0, mode]].long()
        environments = model.environment(mode, cells)
        precision = torch.linalg.inv(covariance) + environments.T @ environments / model.noise
        direction = model.environment(mode, place)[0]
        expected = direction @ torch.linalg.solve(precision, direction)
        torch.testing.assert_close(model.spread(mode, place)[0], expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("kind", ["cp", "tucker"])
def test_a_level_without_observations_is_as_uncertain_as_rows_differ(kind: str) -> None:
    tensor, _known, task = planted(kind, 0.1)
    wider = Task(task.coordinates, task.values, (25, 20, 16))
    model = find(kind).function(wider, rank=2)
    places = torch.cartesian_prod(torch.tensor([24, 3]), torch.arange(20), torch.arange(16)).double()
    found = model.predict(places)
    assert found.variance is not None
    blank, seen = found.variance.split(320)
    assert float(blank.mean()) > 10 * float(seen.mean())
    # It is a guess among rows like those there are: as far off as they are from one another.
    truth = tensor.var(dim=0).mean()
    assert 0.3 < float(blank.mean() / truth) < 3


@pytest.mark.parametrize("kind", ["cp", "tucker"])
def test_states(kind: str) -> None:
    _, _, task = planted(kind, 0.3, part=0.1)
    steps: list[Step] = []
    model = find(kind).function(task, rank=2, callback=steps.append, epochs=60)
    again = find(kind).restore(model.state())
    halfway = find(kind).restore(steps[len(steps) // 2].state())
    places = task.coordinates[:7]
    for one in (again, halfway):
        found, expected = one.predict(places), model.predict(places)
        assert found.variance is not None
        assert expected.variance is not None
        assert torch.isfinite(found.variance).all()
        if one is again:
            assert torch.equal(found.mean, expected.mean)
            assert torch.equal(found.variance, expected.variance)
    resumed = find(kind).function(task, rank=2, epochs=60, resume=steps[len(steps) // 2].state())
    assert torch.equal(resumed.predict(places).mean, model.predict(places).mean)


@pytest.mark.parametrize("kind", ["cp", "tucker"])
def test_little_to_go_by(kind: str) -> None:
    cases = [
        Task(torch.zeros(1, 3).double(), torch.tensor([2.0]).double(), (3, 4, 1)),
        Task(torch.tensor([[0, 0, 0], [1, 1, 0], [2, 3, 0]]).double(), torch.zeros(3).double(), (3, 4, 1)),
        Task(torch.zeros(6, 3).double(), torch.arange(6).double(), (3, 4, 1)),
        Task(torch.zeros(6, 3).double(), torch.arange(6).double() * 1e150, (3, 4, 1)),
    ]
    for task in cases:
        found = find(kind).function(task, rank=2).predict(torch.tensor([[0, 0, 0], [2, 3, 0]]).double())
        assert found.variance is not None
        assert torch.isfinite(found.mean).all()
        assert (found.variance >= 0).all()
    with pytest.raises(TenfoldError, match="rank 0 is no number of components"):
        find(kind).function(cases[0], rank=0)
