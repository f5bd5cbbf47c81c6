"""How many components: every criterion finds what was planted; what is refused; what is printed."""

import io
import json
import math

import numpy as np
import pytest
import torch

import tenfold as tn
from tenfold import formats
from tenfold.errors import DataError, TenfoldError
from tenfold.network import Network
from tenfold.structure_search import select_rank as room
from tenfold.structure_search.restarts import Restarts

CRITERIA = ["stability", "core_consistency", "held_out", "bic"]


def planted(shape, rank, seed, noise):
    """A CP tensor with positive, so correlated, factors, and noise of a relative size."""
    network = Network.random(formats.cp(shape, rank), seed=seed)
    whole = network.replace([core.abs() for core in network.cores]).dense()
    rough = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return whole + noise * whole.norm() / rough.norm() * rough


@pytest.mark.parametrize("seed", [0, 1])
def test_every_criterion_finds_the_planted_rank(seed):
    table = tn.select_rank(planted((9, 8, 7), 2, seed, 0.05), range(1, 4), starts=2)
    assert dict(table.choices) == dict.fromkeys(CRITERIA, 2)
    assert table.chosen == 2


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("shape", "rank"), [((12, 11, 10), 3), ((15, 10, 8, 6), 3)])
def test_every_criterion_finds_the_planted_rank_over_many_seeds(shape, rank, seed):
    table = tn.select_rank(planted(shape, rank, seed, 0.1), range(1, rank + 3))
    assert dict(table.choices) == dict.fromkeys(CRITERIA, rank)


def test_exact_data_and_missing_cells():
    exact = planted((7, 6, 5), 2, 0, 0.0)
    table = tn.select_rank(exact, [1, 2, 3], "bic", starts=2)
    assert table.chosen == 2
    assert table.choices["stability"] == 2
    holes = planted((12, 10, 8), 2, 0, 0.05).numpy()
    holes[np.random.default_rng(0).random(holes.shape) < 0.1] = np.nan
    table = tn.select_rank(tn.Observations.from_nan(holes), [1, 2, 3], "held_out", starts=2)
    assert table.chosen == 2
    assert table.choices["core_consistency"] == 2


def row(rank, **given):
    numbers = {"error": 0.1, "errors": (0.1,), "stability": 1.0, "core_consistency": 100.0, "held_out": math.nan}
    numbers |= {"held_out_se": math.nan, "bic": 0.0, "seconds": 0.0}
    return room.RankRow(rank=rank, **{**numbers, **given})


def test_the_rules_of_choice():
    rows = [
        row(1, held_out=0.5, held_out_se=0.1, bic=5.0),
        row(2, error=0.09, held_out=0.32, held_out_se=0.01, bic=3.0, stability=0.91, core_consistency=61.0),
        row(3, error=0.08, held_out=0.30, held_out_se=0.03, bic=4.0, stability=0.89, core_consistency=59.0),
    ]
    assert dict(room.choices(rows)) == {"stability": 2, "core_consistency": 2, "held_out": 2, "bic": 2}
    assert room.choices([row(1)])["held_out"] is None
    assert room.choices([row(1, stability=0.5, core_consistency=math.nan)])["stability"] is None
    assert room.choices([row(1, stability=0.5, core_consistency=math.nan)])["core_consistency"] is None


def test_components_that_fit_nothing_are_not_chosen():
    rows = [row(1, error=1e-9, exact=True), row(2, error=1e-10, exact=True), row(3, error=1e-9, exact=True)]
    assert room.choices(rows)["stability"] == room.choices(rows)["core_consistency"] == 1
    assert room.choices([row(1), row(2, error=0.1), row(3, error=0.12)])["stability"] == 1
    assert room.choices([row(1), row(2, error=0.12), row(3, error=0.05)])["stability"] == 3
    vectors = [torch.randn(n, generator=torch.Generator().manual_seed(n), dtype=torch.float64) for n in (8, 7, 6)]
    assert tn.select_rank(torch.einsum("i,j,k->ijk", *vectors), range(1, 4), starts=2).chosen == 1
    assert tn.select_rank(np.ones((3, 3, 3)), range(1, 4), starts=2).chosen == 1


def test_components_that_are_one_are_not_stable():
    ones = torch.ones(4, 4, 4, dtype=torch.float64)
    ensemble = tn.stability(ones, 2, starts=3)
    assert ensemble.errors[-1] < 1e-6
    assert ensemble.stability == 0
    assert tn.stability(ones, 1, starts=3).stability == pytest.approx(1)


@pytest.mark.parametrize("seed", [-1, 0.5, True, "x", None])
def test_seeds_are_whole_numbers(seed):
    data = planted((6, 5, 4), 1, 0, 0.1)
    with pytest.raises(TenfoldError, match="seed must be a whole number of at least 0"):
        tn.select_rank(data, [1], starts=2, seed=seed)
    with pytest.raises(TenfoldError, match="seed must be a whole number of at least 0"):
        tn.stability(data, 1, starts=2, seed=seed)


def test_bic_is_that_of_its_definition():
    data = planted((6, 5, 4), 1, 0, 0.2)
    (found,) = room.rank_rows(data, [1], starts=2)
    rss = (found.error * float(data.norm())) ** 2
    assert found.bic == pytest.approx(120 * math.log(rss / 120) + (15 - 3 + 1) * math.log(120))


def test_held_out_cells_of_large_arrays_are_fitted_only_if_asked(monkeypatch):
    data = planted((8, 7, 6), 1, 0, 0.1)
    monkeypatch.setattr(room, "_HELD_OUT_CELLS", 100)
    (found,) = room.rank_rows(data, [1], starts=2)
    assert math.isnan(found.held_out)
    (found,) = room.rank_rows(data, [1], starts=2, criterion="held_out")
    assert found.held_out > 0


def test_local_minima_do_not_count_against_stability():
    networks = (Network.random(formats.cp((3, 3, 3), 1)),) * 3
    scores = torch.tensor([[1, 0.98, 0.1], [0.98, 1, 0.2], [0.1, 0.2, 1]], dtype=torch.float64)
    assert Restarts(networks, (0.1, 0.1005, 0.5), scores).stability == pytest.approx(0.98)
    assert Restarts(networks, (0.1, 0.4, 0.5), scores).stability == pytest.approx(0.54)
    assert math.isnan(Restarts(networks[:1], (0.1,), scores[:1, :1]).stability)


def test_an_interrupt_keeps_the_ranks_that_are_done(monkeypatch):
    real = room.restarts

    def interrupted(data, structure, **how):
        if structure.sizes["r"] == 2:
            raise KeyboardInterrupt
        return real(data, structure, **how)

    monkeypatch.setattr(room, "restarts", interrupted)
    table = tn.select_rank(planted((6, 5, 4), 1, 0, 0.1), [1, 2], starts=2)
    assert table.interrupted
    assert [row.rank for row in table.rows] == [1]
    with pytest.raises(KeyboardInterrupt):
        tn.select_rank(planted((6, 5, 4), 1, 0, 0.1), [2], starts=2)


def test_the_table_prints_plots_and_becomes_json():
    table = tn.select_rank(planted((4, 5, 3), 1, 0, 0.1), [4, 1], starts=2)  # a mode shorter than the rank
    assert [row.rank for row in table.rows] == [1, 4]
    text = str(table)
    assert "chosen by stability" in text
    assert "core consistency" in text
    assert math.isnan(table.rows[1].core_consistency)
    assert json.loads(json.dumps(table.summary()))["rows"][1]["core_consistency"] is None
    table.plot().savefig(io.BytesIO(), format="png", dpi=30)


def vast(rank: int = 2) -> tn.Observations:
    """A sparse array of 27 million cells that is a CP of few long blocks."""
    random = np.random.default_rng(0)
    parts = []
    for term in range(rank):
        rows = [10 * term + np.arange(8 + axis) for axis in range(3)]
        values = np.einsum("i,j,k->ijk", *(random.uniform(1, 2, len(row)) for row in rows))
        where = np.stack(np.meshgrid(*rows, indexing="ij"), -1).reshape(-1, 3)
        parts.append((where, (3 - term) * values.reshape(-1)))
    where, values = (np.concatenate(part) for part in zip(*parts, strict=True))
    return tn.Observations.from_coo(where, values, (300, 300, 300), rest="zero")


def test_ranks_of_sparse_arrays():
    table = tn.select_rank(vast(), range(1, 4), starts=3)
    assert table.choices == {"stability": 2, "core_consistency": None, "held_out": None, "bic": 2}
    assert table.rows[1].error < 1e-4
    small = tn.Observations(vast().coordinates, vast().values, (25, 25, 25), rest="zero")
    rows = tn.select_rank(small, range(1, 4), starts=3)
    whole = tn.select_rank(small.dense(), range(1, 4), starts=3)
    assert rows.choices == whole.choices


@pytest.mark.parametrize(
    ("data", "how", "error", "said"),
    [
        (torch.zeros(5, 5, 5), {}, DataError, "data is zero"),
        (torch.ones(50), {}, DataError, "components need at least 2"),
        (torch.ones(2, 2), {}, DataError, "fewer than 20 known cells"),
        (
            vast(),
            {"criterion": "held_out"},
            DataError,
            "held_out needs a whole array, but data is sparse with 27,000,000",
        ),
        (vast(), {"criterion": "core_consistency"}, DataError, "choose by stability or bic, or take a part of it"),
        (torch.ones(5, 5, 5), {"ranks": [0]}, TenfoldError, "ranks must be whole numbers of at least 1, not 0"),
        (torch.ones(5, 5, 5), {"ranks": []}, TenfoldError, "not 'none at all'"),
        (torch.ones(5, 5, 5), {"starts": 1}, TenfoldError, "starts must be a whole number of at least 2"),
        (torch.ones(5, 5, 5), {"criterion": "aic"}, TenfoldError, "criterion must be one of stability"),
        (torch.ones(5, 5, 5), {"method": "magic"}, TenfoldError, "method 'magic' is not known"),
    ],
)
def test_what_select_rank_refuses(data, how, error, said):
    with pytest.raises(error, match=said):
        tn.select_rank(data, **how)


def test_an_ensemble_of_starts():
    data = planted((9, 8, 7), 2, 3, 0.05)
    ensemble = tn.stability(data, 2, starts=4)
    assert list(ensemble.errors) == sorted(ensemble.errors)
    assert ensemble.scores.shape == (4, 4)
    assert torch.equal(ensemble.scores, ensemble.scores.T)
    assert ensemble.stability > 0.99
    assert tn.components.factor_match_score(ensemble.best, tn.fit(data, "cp", ranks=2).network).score > 0.99
    assert "4 starts" in str(ensemble)
    ensemble.plot().savefig(io.BytesIO(), format="png", dpi=30)
    again = tn.stability(data, "i r, j r, k r -> i j k", starts=4, sizes={"r": 2}, options={"max_sweeps": 300})
    assert again.stability > 0.99
    assert tn.stability(data, formats.cp((9, 8, 7), 4), starts=4).stability < 0.9
    with pytest.raises(TenfoldError, match="starts must be"):
        tn.stability(data, 2, starts=1)
    with pytest.raises(TenfoldError, match="but the data has shape"):
        tn.stability(data, formats.cp((9, 8, 6), 2))
    with pytest.raises(TenfoldError, match="one inner index that lies on every core"):
        tn.stability(data, formats.tensor_train((9, 8, 7), 2), starts=2)
