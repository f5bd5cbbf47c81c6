"""Models of counts: steps against plain forms and closed forms, what never rises, what comes back, how wide it is."""

from __future__ import annotations

import pytest
import torch
from scipy.optimize import minimize_scalar
from scipy.stats import nbinom

from tenfold.claims.uc_tc_recovery import synthetic
from tenfold.completion import Step, Task, _counts, find
from tenfold.completion._count_spread import Excess
from tenfold.completion._counts import Cells
from tenfold.completion._detection import DIVERGENCES
from tenfold.completion._detection_doubt import left_out
from tenfold.completion.identifiability import identifiability_report
from tenfold.completion.poisson_cp import poisson_cp
from tenfold.completion.under_counted import under_counted
from tenfold.errors import DataError, TenfoldError
from tenfold.verbs._spread import Counts


def drawn(seed: int, shape: tuple[int, ...] = (12, 10, 8), rank: int = 2, level: float = 5.0, alpha: float = 0.0):
    """All cells, counts and rates."""
    g = torch.Generator().manual_seed(seed)
    factors = [torch._standard_gamma(torch.full((s, rank), 2.0, dtype=torch.float64), generator=g) for s in shape]
    rates = torch.einsum("if,jf,kf->ijk", *factors).reshape(-1)
    rates = rates * level / rates.mean()
    more = torch._standard_gamma(torch.full_like(rates, 1 / alpha), generator=g) * alpha if alpha else 1.0
    counts = torch.poisson(rates * more, generator=g)
    return torch.cartesian_prod(*(torch.arange(s) for s in shape)).double(), counts, rates, shape


def some(seed: int, part: float = 0.5, **options) -> tuple[Task, torch.Tensor, torch.Tensor, torch.Tensor]:
    cells, counts, rates, shape = drawn(seed, **options)
    order = torch.randperm(len(cells), generator=torch.Generator().manual_seed(seed))
    seen, rest = order[: int(part * len(order))], order[int(part * len(order)) :]
    return Task(cells[seen], counts[seen], shape), cells[rest], counts[rest], rates[rest]


@pytest.mark.parametrize("mode", [0, 1, 2])
def test_kernels_agree_with_torch(mode: int) -> None:
    task = some(0)[0]
    cells = Cells.of(task, "poisson_cp")
    g = torch.Generator().manual_seed(1)
    factors = torch.rand(3, 30, 4, generator=g, dtype=torch.float64)
    exposure = torch.rand(3, len(task), generator=g, dtype=torch.float64)
    torch.testing.assert_close(_counts.rates(cells.rows, factors), _counts.rates_plain(cells.rows, factors))
    for one, other in zip(
        _counts.mode_sums(cells, mode, exposure, factors),
        _counts.mode_sums_plain(cells, mode, exposure, factors),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("prior", [0.0, 0.3])
def test_no_step_raises_the_objective(prior: float) -> None:
    cells = Cells.of(some(1)[0], "poisson_cp")
    factors = torch.rand(2, 30, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    seen = torch.rand(2, len(cells), generator=torch.Generator().manual_seed(2), dtype=torch.float64)

    def objective() -> torch.Tensor:
        half = _counts.deviance(cells, seen * _counts.rates(cells.rows, factors))
        return len(cells) * half + _counts.penalty(cells, factors, prior)

    before = objective()
    for _ in range(30):
        _counts.sweep(cells, seen, factors, prior)
        after = objective()
        assert bool((after <= before + 1e-9 * before.abs()).all())
        before = after


@pytest.mark.parametrize("name", list(DIVERGENCES))
def test_probabilities_are_the_exact_minimisers(name: str) -> None:
    task = Task(torch.zeros(4, 1, dtype=torch.float64), torch.tensor([0.0, 1.0, 7.0, 300.0]).double(), (1,))
    cells = Cells.of(task, "under_counted")
    rates = torch.tensor([[3.0, 2.5, 20.0, 200.0]]).double()
    said = torch.tensor([[0.4, 0.9, 0.2, 0.5]]).double()
    for mu in (0.5, 30.0, 1e5):
        found = DIVERGENCES[name].best(rates, cells, said, mu).clamp(1e-12, 1)
        for n in range(4):

            def cost(p: float, n: int = n, mu: float = mu) -> float:
                at = torch.tensor([[p]], dtype=torch.float64)
                mean = rates[0, n] * at[0, 0]
                apart = mean - torch.special.xlogy(task.values[n], mean)
                return float(apart + mu / 2 * DIVERGENCES[name].loss(at, said[:, n : n + 1])[0, 0])

            best = minimize_scalar(cost, bounds=(1e-12, 1), method="bounded", options={"xatol": 1e-12})
            assert cost(float(found[0, n])) <= best.fun + 1e-9 * abs(best.fun)


def test_rank_one_of_whole_arrays_is_the_product_of_margins() -> None:
    cells, counts, _, shape = drawn(3, rank=1)
    model = poisson_cp(Task(cells, counts, shape), rank=1, prior=0.0, starts=1)
    table = counts.reshape(shape)
    margins = [table.sum([axis for axis in range(3) if axis != mode]) for mode in range(3)]
    expected = torch.einsum("i,j,k->ijk", *margins) / table.sum() ** 2
    torch.testing.assert_close(model.predict(cells).mean, expected.reshape(-1))
    assert model.stopped == "tol"


def test_planted_rates_come_back() -> None:
    for seed in range(10):
        task, cells, _, rates = some(seed, level=200.0)
        found = poisson_cp(task, rank=2, seed=seed, starts=1).predict(cells).mean
        assert float((found - rates).square().mean().sqrt() / rates.mean()) < 0.1


@pytest.mark.parametrize(("alpha", "low", "high"), [(0.0, 0.0, 0.02), (0.5, 0.35, 0.7)])
def test_dispersion_and_intervals(alpha: float, low: float, high: float) -> None:
    inside, found = [], []
    for seed in range(5):
        task, cells, counts, _ = some(seed, 0.6, shape=(16, 15, 14), level=20.0, alpha=alpha)
        model = poisson_cp(task, rank=2, seed=seed)
        found.append(model.dispersion)
        told = model.predict(cells)
        mean, extra = told.mean.clamp(min=1e-9), (told.variance + told.noise).clamp(min=1e-9)
        r = (mean.square() / extra).numpy()
        part = r / (r + mean.numpy())
        inside.append(
            ((counts.numpy() >= nbinom.ppf(0.05, r, part)) & (counts.numpy() <= nbinom.ppf(0.95, r, part))).mean()
        )
    assert low <= sorted(found)[2] <= high
    assert 0.87 < sum(inside) / 5 < 0.96


def test_rows_without_counts_get_the_mean_row() -> None:
    cells, counts, _, shape = drawn(5)
    seen = cells[:, 0] != 4
    model = poisson_cp(Task(cells[seen], counts[seen], shape), rank=2)
    told = model.predict(cells[~seen])
    others = model.predict(cells[seen]).mean.mean()
    assert 0.5 * others < told.mean.mean() < 2 * others
    assert float((told.variance / told.mean.square()).min()) > 1


@pytest.mark.parametrize("name", ["poisson_cp", "under_counted"])
def test_an_interrupted_fit_goes_on_exactly(name: str) -> None:
    task = some(6, 0.2)[0]
    attributes = torch.randn(len(task), 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    task = Task(task.coordinates, task.values, task.sizes, attributes=attributes)
    method = find(name)
    epochs, states = [], []

    def keep(step: Step) -> None:
        epochs.append(step.epoch)
        if step.epoch == 3:
            states.append(step.state())

    whole = method.function(task, rank=2, epochs=6, tol=0, callback=keep)
    assert epochs == [1, 2, 3, 4, 5, 6]
    resumed = method.function(task, rank=2, epochs=6, tol=0, resume=states[0])
    again = method.restore(whole.state())
    for model in (resumed, again):
        one, other = (m.predict(task.coordinates, attributes) for m in (model, whole))
        assert torch.equal(one.mean, other.mean)
        assert torch.equal(one.variance, other.variance)
        assert model.errors == whole.errors
    assert len(method.restore(states[0]).errors) == 3


@pytest.mark.parametrize("name", ["poisson_cp", "under_counted"])
@pytest.mark.parametrize("values", [[0.0, 0.0, 0.0], [1e150, 2e150, 0.0], [3.0, 0.0, 1e9]])
def test_any_counts_give_numbers(name: str, values: list[float]) -> None:
    coordinates = torch.tensor([[0.0, 0.0], [1.0, 1.0], [1.0, 0.0]]).double()
    attributes = torch.tensor([[1.0, 2.0], [1.0, 2.0], [1.0, -1.0]]).double()
    task = Task(coordinates, torch.tensor(values, dtype=torch.float64), (2, 3), attributes=attributes)
    model = find(name).function(task, rank=1, epochs=30)
    told = model.predict(torch.tensor([[0.0, 0.0], [0.0, 2.0]]).double(), attributes[:2])
    assert bool(torch.isfinite(told.mean).all())
    assert bool((told.mean >= 0).all())
    assert bool((told.mean <= 1e3 * max(*values, 1.0)).all())
    one = find(name).function(task.rows(torch.tensor([0])), epochs=3)
    assert bool(torch.isfinite(one.predict(coordinates[:1], attributes[:1]).mean).all())


def test_what_is_refused() -> None:
    task = some(0)[0]
    for values, said in ((task.values - 1, "no count"), (task.values + 0.5, "no count")):
        with pytest.raises(DataError, match=said):
            poisson_cp(Task(task.coordinates, values, task.sizes))
    with pytest.raises(DataError, match="attributes are needed by model 'under_counted'"):
        under_counted(task)
    with pytest.raises(TenfoldError, match="rank 1000000 exceeds the number of observations"):
        poisson_cp(task, rank=1_000_000)
    with pytest.raises(TenfoldError, match="mode 0 is continuous"):
        poisson_cp(Task(task.coordinates, task.values, (None, 10, 8)))
    with pytest.raises(DataError, match="coordinates of mode 1"):
        poisson_cp(task, epochs=1).predict(torch.tensor([[0.0, 10.0, 0.0]]).double())
    with pytest.raises(DataError, match="the task has none"):
        identifiability_report(task)
    attributed = Task(task.coordinates, task.values, task.sizes, attributes=task.coordinates)
    with pytest.raises(TenfoldError, match="there are squared, kullback_leibler"):
        under_counted(attributed, divergence="l1")
    with pytest.raises(DataError, match="attributes are needed to predict"):
        under_counted(attributed, epochs=1).predict(task.coordinates)


def test_networks_that_left_out_what_they_are_asked_know_how_far_they_are_off() -> None:
    g = torch.Generator().manual_seed(0)
    inputs = torch.randn(1000, 4, generator=g, dtype=torch.float64)
    # Half of the observations share their attributes: there the mean is known well.
    inputs[::2] = inputs[0]
    truth = (2 * inputs[:, 0].sin() + inputs[:, 1] * inputs[:, 2]).sigmoid()
    wanted = (truth + 0.05 * torch.randn(1000, generator=g, dtype=torch.float64)).clamp(1e-3, 1)
    squared = DIVERGENCES["squared"].loss
    found = left_out(inputs, wanted, squared, [4, 20, 20], 1e-2, 0)
    assert float((found.said - truth).square().mean().sqrt()) < 0.1
    assert float(found.doubt[1::2].mean()) > 10 * float(found.doubt[::2].mean())
    # One that a network learned from moves what it says there; of what it left out it hears nothing.
    moved = wanted.clone()
    moved[1] = 1 - moved[1].round()
    again = left_out(inputs, moved, squared, [4, 20, 20], 1e-2, 0)
    off = [float((one.said[1] - moved[1]).abs()) for one in (found, again)]
    assert off[1] > 0.7 * off[0]


@pytest.mark.parametrize("alpha", [0.0, 0.1])
def test_dispersion_is_told_apart_from_doubt(alpha: float) -> None:
    for seed in range(10):
        g = torch.Generator().manual_seed(seed)
        means = 100 * torch.rand(3000, generator=g, dtype=torch.float64) + 1
        doubt = 0.1 * torch.rand(3000, generator=g, dtype=torch.float64).square()
        r = 1 / (alpha + 4 * doubt).clamp(min=1e-9)
        counts = torch.poisson(means * torch._standard_gamma(r, generator=g) / r, generator=g)
        cells = Cells(torch.zeros(3000, 1, dtype=torch.long), counts, torch.ones(3000, dtype=torch.float64), (1,))
        dispersion, times = Excess(cells, means, 0).dispersion_beside(doubt)
        assert abs(dispersion - alpha) < 0.025
        assert abs(times - 4) < 1


@pytest.mark.parametrize("divergence", list(DIVERGENCES))
def test_the_objective_of_under_counted_never_rises(divergence: str) -> None:
    data = synthetic(0)
    model = under_counted(data.task, rank=3, epochs=25, tol=0, starts=1, divergence=divergence)
    assert all(
        after <= before + 1e-12 * abs(before) for before, after in zip(model.costs, model.costs[1:], strict=False)
    )
    assert model.costs[-1] < 0.2 * model.costs[0]


def test_identifiability_finds_the_cells_that_were_made_alike() -> None:
    data = synthetic(0)
    report = identifiability_report(data.task)
    assert 900 < report.cells < 1200
    assert report.observations == 1600
    assert report.whole
    assert "every level is met" in repr(report)
    narrow = identifiability_report(data.task.rows(torch.arange(8)))
    assert not narrow.whole


@pytest.mark.slow
def test_true_counts_and_detection_come_back() -> None:
    from tenfold.claims.uc_tc_recovery import uc_tc_recovery

    assert uc_tc_recovery(seeds=1).holds


@pytest.mark.slow
def test_true_counts_come_back_ten_times_and_intervals_hold_what_was_not_counted() -> None:
    """The error of the rates, of mean one, is below 0.06 for every seed, the bound of the claim.

    90 % intervals hold between 85 and 95 % of the cells that were not counted on the mean of ten seeds, and between 80
    and 98 % for each; of those whose attributes are shared as of the others. Four minutes where nothing else runs.
    """
    held, alike, off = [], [], []
    for seed in range(10):
        data = synthetic(seed)
        model = under_counted(data.task, rank=3, seed=seed, mu=2000.0)
        rates = model.rate(data.cells).mean
        off.append(float((rates / rates.mean() - data.rates / data.rates.mean()).abs().mean()))
        counted = (data.task.coordinates @ torch.tensor([400.0, 20.0, 1.0]).double()).long()
        rest = torch.ones(len(data.cells), dtype=torch.bool)
        rest[counted] = False
        told = model.predict(data.cells, data.attributes)
        assert told.variance is not None
        deviation = (told.variance + told.noise).sqrt()
        inside = Counts().covered(data.counts.numpy(), told.mean.numpy(), deviation.numpy(), 0.9)
        inside = torch.from_numpy(inside)
        shared = torch.cdist(data.attributes, data.task.attributes).less(0.3).sum(1) > 100
        held.append(float(inside[rest].mean()))
        alike.append(float(inside[rest & shared].mean()))
    assert max(off) < 0.06, off
    for one in (held, alike):
        assert 0.85 < sum(one) / 10 < 0.95, one
        assert all(0.8 < part < 0.98 for part in one), one
