"""`search` on small tensors whose structure is known."""

from __future__ import annotations

import functools
import json
import math
import re
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import tenfold as tn
from tenfold import formats
from tenfold.errors import DataError, StructureError, TenfoldError
from tenfold.network import Network
from tenfold.structure_search import Budget, climb
from tenfold.structure_search._registry import searchers
from tenfold.structure_search.session import Session
from tenfold.structure_search.spaces import Chain, FullyConnected, Point, Ring
from tenfold.structure_search.targets import Dense, Fitted

SHAPE = (3, 3, 3, 3)
# A ring whose neighbours are not those of the axes; 48 numbers of 81.
PLANTED = Ring(SHAPE).structure(Point((2, 2, 2, 2), (0, 2, 1, 3)))
ARRAY = Network.random(PLANTED, seed=1).dense()


def found(**options: object) -> tn.Search:
    given = {"error": 1e-3, "max_rank": 2, "method": "random_search", "evaluations": 64, **options}
    return tn.search(given.pop("data", ARRAY), **given)


# A search that several tests only read.
kept = functools.cache(found)


def distance(network: Network, array: Tensor) -> float:
    return float((network.dense() - array).norm() / array.norm())


# --- what is found ----------------------------------------------------------------------------------------------------


def test_a_planted_ring_is_found_with_its_order() -> None:
    search = kept(evaluations=200)
    assert search.structure.key == PLANTED.key
    assert search.parameters == PLANTED.parameters == 48
    assert search.met
    assert search.stopped == "evaluations"
    assert search.counted == 200
    assert 0 < search.fits < search.counted
    assert distance(search.network, ARRAY) == pytest.approx(search.error, abs=1e-12)
    assert search.fit.error == search.error <= 1e-3
    assert set(search.structure.inner_indices) == {"r1", "r2", "r3", "r4"}


def test_the_front_is_what_nothing_beats() -> None:
    search = kept(evaluations=200)
    sizes = [one.parameters for one in search.front]
    errors = [one.error for one in search.front]
    assert sizes == sorted(set(sizes))
    assert errors == sorted(set(errors), reverse=True)
    for one in search.history:
        assert any(best.parameters <= one.parameters and best.error <= one.error for best in search.front)
    assert search.structure.key in {one.structure.key for one in search.front}
    assert [one.counted for one in search.history] == sorted(one.counted for one in search.history)


def test_the_front_bends_where_it_gains_less() -> None:
    """The errors fall far at what is planted, in noise, and little beyond."""
    noise = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    search = found(data=ARRAY + 1e-4 * noise * ARRAY.norm() / 9, error=None, weight=200.0, max_rank=3, evaluations=200)
    assert search.knee is not None
    assert search.knee in search.front
    assert search.knee.structure.key == PLANTED.key
    assert search.summary()["knee"] == 48
    assert "it bends at 48 parameters" in str(search)
    assert found(evaluations=1, space="ring").knee is None


def test_a_front_that_bends_outward_has_no_knee() -> None:
    search = kept(evaluations=200)
    ends = [search.front[0], *(replace(one, error=0.9) for one in search.front[1:-1]), search.front[-1]]
    assert len(ends) > 2
    assert replace(search, front=tuple(ends)).knee is None


def test_structures_of_one_name_on_a_front_are_told_apart() -> None:
    search = kept(evaluations=200)
    one = search.front[0]
    chains = [Chain(SHAPE).structure(Point((2, 2, 2), order)) for order in ((0, 1, 2, 3), (0, 2, 1, 3))]
    twins = [replace(one, name="tensor train 2·2·2", structure=chain) for chain in chains]
    said = str(replace(search, front=(*twins, search.front[-1])))
    for chain, order in zip(chains, ("i1 i2 i3 i4", "i1 i3 i2 i4"), strict=True):
        assert f"tensor train 2·2·2 ({order})" in said, (chain.pattern, said)


def test_a_size_gives_the_least_error_within_it() -> None:
    search = found(error=None, parameters=40, evaluations=100)
    assert search.parameters <= 40
    within = [one.error for one in search.history if one.parameters <= 40]
    assert search.error == min(within)
    assert found(error=None, ratio=81 / 40, evaluations=100).error == search.error


def test_a_weighted_sum_is_what_papers_minimise() -> None:
    search = found(error=None, weight=200.0)
    sums = [one.parameters / 81 + 200 * one.error**2 for one in search.history]
    assert search.parameters / 81 + 200 * search.error**2 == pytest.approx(min(sums))


@pytest.mark.parametrize("dtype", [torch.float32, torch.complex128])
def test_the_dtype_of_the_data_is_kept(dtype: torch.dtype) -> None:
    array = Network.random(PLANTED, seed=1, dtype=dtype).dense()
    search = found(data=array, evaluations=16)
    assert search.network.dtype == dtype
    assert distance(search.network, array) == pytest.approx(search.error, abs=1e-5)


@pytest.mark.parametrize("scale", [1e150, 1e-150])
def test_far_scales_are_no_matter(scale: float) -> None:
    search = found(data=ARRAY * scale, evaluations=16)
    assert search.error == pytest.approx(kept(evaluations=16).error, rel=1e-6)
    assert distance(Network(search.structure, search.network.cores), ARRAY * scale) == pytest.approx(
        search.error, abs=1e-9
    )


def test_a_matrix_is_folded() -> None:
    matrix = torch.randn(64, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    asked = {"data": matrix, "error": None, "weight": 1.0, "evaluations": 2}
    search = found(**asked)
    assert search.space.folds == ((8, 8), (16,))
    assert search.shape == (64, 16)
    assert found(**asked, fold=4).space.folds == ((4, 4, 4), (4, 4))
    assert found(**asked, fold=[[2, 32], 16]).space.folds == ((2, 32), (16,))
    assert found(**asked, fold=False).space.folds is None
    assert isinstance(found(**asked, fold=False).space, Chain)


def test_missing_cells_are_predicted() -> None:
    array = Network.random(PLANTED.replace(dict.fromkeys(PLANTED.inner_indices, 1)), seed=2).dense()
    hidden = np.random.default_rng(0).random(SHAPE) < 0.2
    known = tn.Observations.from_nan(np.where(hidden, np.nan, array.numpy()))
    search = found(data=known, error=1e-3, evaluations=4)
    assert search.fit.observed == int((~hidden).sum())
    assert search.met
    assert distance(search.network, array) < 1e-3
    assert "held-out error" in str(search)
    assert len(search.plot().axes) >= 3


def test_a_loss_stands_in_for_data(tmp_path: Path) -> None:
    search = tn.search(
        loss=lambda network: (network.dense() - ARRAY).square().sum() / ARRAY.square().sum(),
        shape=SHAPE,
        parameters=30,
        max_rank=2,
        method="random_search",
        evaluations=4,
    )
    assert search.of_loss
    assert search.parameters <= 30
    assert distance(search.network, ARRAY) ** 2 == pytest.approx(search.error, rel=1e-9)
    assert "loss" in str(search)
    search.report(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert ">loss<" in page
    assert "<h1>a loss</h1>" in page
    assert "A loss has no data to compare with" in page
    assert "from the data" not in page
    assert not any(line.strip().startswith("data ") for line in str(search).splitlines())
    search.save(tmp_path / "found.tn")
    assert tn.load(tmp_path / "found.tn").structure == search.structure


def test_a_loss_may_be_asked_to_be_below_any_number() -> None:
    search = tn.search(
        loss=lambda network: (network.dense() - ARRAY).square().sum() + 5,
        shape=SHAPE,
        error=1e6,
        max_rank=2,
        method="random_search",
        evaluations=2,
    )
    assert search.met
    assert search.error >= 5


@pytest.mark.parametrize("method", ["bound_guided", "tnale", "tnls"])
def test_small_data_are_fitted_from_the_first_evaluation_on(method: str) -> None:
    """Most of the space is larger than they are."""
    search = found(data=np.full((4, 5, 6), 3.0), max_rank=8, evaluations=1, error=0.9, method=method)
    assert search.fits == 1


def test_a_loss_that_is_no_number_is_said() -> None:
    with pytest.raises(TenfoldError, match="loss was no finite number for any of the 2 networks"):
        found(data=None, loss=lambda network: network.norm() * math.nan, shape=SHAPE, evaluations=2)


def test_there_is_an_answer_where_nearly_all_is_larger_than_the_data() -> None:
    space = FullyConnected((2,) * 8, max_rank=8)
    search = found(data=torch.ones((2,) * 8), space=space, max_rank=None, evaluations=2)
    assert search.parameters == 16
    assert search.met


@pytest.mark.parametrize("space", ["ring", "tree", "any_graph"])
def test_there_is_an_answer_at_once_however_many_modes_there_are(space: str) -> None:
    """Before a step is descended, and before anything is known of singular values."""
    array = torch.randn((2,) * 12, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    search = found(data=array, space=space, max_rank=8, error=0.5, method=None, evaluations=None, seconds=1e-9)
    assert (search.counted, search.fits, search.stopped) == (1, 1, "seconds")
    assert search.parameters == 24
    assert search.error == pytest.approx(distance(search.network, array), abs=1e-9)


def test_the_rank_one_network_is_fitted_however_few_cells_there_are() -> None:
    assert found(data=np.ones((1, 1, 1, 1)), evaluations=2).met
    few = np.full((5, 5, 5), np.nan)
    few[0, 1, 2] = few[3, 3, 3] = 1.0
    search = found(data=tn.Observations.from_nan(few), error=0.5, max_rank=1, evaluations=2)
    assert search.parameters == 15
    assert search.fit.observed == 2


def test_without_a_budget_it_ends_after_a_time_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tenfold.verbs.search.DEFAULT_SECONDS", 0.4)
    with pytest.warns(UserWarning, match="the search ends after 0.4 s"):
        search = tn.search(ARRAY, max_rank=2, method="random_search")
    assert search.stopped == "seconds"
    assert search.target == "error at most 0.1"


def test_what_was_not_reached_is_said() -> None:
    with pytest.warns(UserWarning, match="nothing that was tried keeps to error at most 0.001"):
        search = found(space="ring", max_rank=1, evaluations=4)
    assert not search.met
    assert "NOT reached" in str(search)


# --- the same again ---------------------------------------------------------------------------------------------------


def same(one: tn.Search, other: tn.Search) -> None:
    assert one.structure == other.structure
    assert one.error == other.error
    assert (one.counted, one.fits) == (other.counted, other.fits)
    assert [(c.structure, c.error, c.counted) for c in one.history] == [
        (c.structure, c.error, c.counted) for c in other.history
    ]
    for mine, theirs in zip(one.network.cores, other.network.cores, strict=True):
        assert torch.equal(mine, theirs)


def test_the_same_seed_finds_the_same() -> None:
    same(found(), kept())
    first, second = (found(space="ring", seed=seed, evaluations=16).history[1] for seed in (0, 1))
    assert first.structure != second.structure


def test_workers_change_nothing() -> None:
    same(found(evaluations=40), found(evaluations=40, workers=2))


def test_an_interrupt_keeps_the_best_and_the_same_call_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = kept()
    note = Session._note
    seen: list[int] = []

    def stops(self: Session, *arguments: object) -> None:
        note(self, *arguments)  # type: ignore[arg-type]
        seen.append(self.fits)
        if len(seen) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(Session, "_note", stops)
    half = found(resume=tmp_path / "j")
    assert half.interrupted
    assert half.fits == 3
    assert half.stopped == half.fit.stopped == "interrupted"
    assert half.journal == str(tmp_path / "j")
    assert "the same call goes on from" in half.why_stopped
    monkeypatch.setattr(Session, "_note", note)
    same(found(resume=tmp_path / "j"), whole)
    with pytest.raises(TenfoldError, match="holds a search with seed 0, not 1"):
        found(resume=tmp_path / "j", seed=1)
    with pytest.raises(TenfoldError, match="holds a search with data"):
        found(resume=tmp_path / "j", data=ARRAY + 1)


def test_an_interrupt_before_anything_is_found_passes_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stops(self: Session, *arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Session, "_note", stops)
    with pytest.raises(KeyboardInterrupt) as raised:
        found(space="ring", resume=tmp_path / "j")
    assert "goes on from" in raised.value.__notes__[0]


def test_an_interrupt_after_the_search_loses_the_spectra_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def stops(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tenfold.verbs.search.spectra_of", stops)
    search = found(evaluations=16)
    assert search.interrupted
    assert search.fit.spectra == {}
    assert distance(search.network, ARRAY) == pytest.approx(search.error, abs=1e-12)


def test_another_loss_is_refused_in_a_folder(tmp_path: Path) -> None:
    """Its code is the same; what it uses is not."""
    scale = [1.0]
    given = {"shape": SHAPE, "parameters": 30, "max_rank": 2, "method": "random_search", "evaluations": 2}

    def loss(network: Network) -> Tensor:
        return (network.dense() - scale[0] * ARRAY).square().sum()

    first = tn.search(loss=loss, resume=tmp_path, **given)
    again = tn.search(loss=loss, resume=tmp_path, **given)
    assert (again.error, again.fits) == (first.error, first.fits)
    scale[0] = 2.0
    with pytest.raises(TenfoldError, match="holds a search with another loss"):
        tn.search(loss=loss, resume=tmp_path, **given)


def test_more_evaluations_go_on_from_a_journal(tmp_path: Path) -> None:
    found(evaluations=30, resume=tmp_path)
    same(found(evaluations=64, resume=tmp_path), kept())


def test_common_formats_come_first_where_the_space_is_open() -> None:
    search = found(evaluations=8)
    common = [one for one in search.history if one.counted == 0]
    assert {formats.name(one.structure) for one in common} >= {"tucker", "tensor_train"}
    ladder = tn.fit(ARRAY, error=search.objective.error)
    assert search.parameters <= ladder.parameters
    # Without time for more than a single fit they are the answer.
    assert search.seconds >= max(one.elapsed for one in search.history)
    assert [one.elapsed for one in search.history] == sorted(one.elapsed for one in search.history)


@pytest.mark.parametrize("budget", [{"error": 1e-3}, {"error": None, "parameters": 40}])
def test_common_formats_that_there_is_no_time_for_are_left_out(budget: dict[str, Any]) -> None:
    hurried = found(**budget, max_rank=None, evaluations=None, seconds=1e-9)
    assert hurried.fits == 1
    # The array as its own only core is no format.
    (first,) = [one for one in hurried.history if one.counted == 0 and one.structure.inner_indices]
    assert formats.name(first.structure) == "tucker"
    assert hurried.met
    assert distance(hurried.network, ARRAY) == pytest.approx(hurried.error, abs=1e-9)
    assert hurried.stopped == "seconds"


def test_time_that_is_up_ends_a_format_between_two_sweeps() -> None:
    budget, modes = Budget(parameters=40), ("i", "j", "k", "l")
    asked: list[str] = []
    labels: list[str] = []

    def late() -> bool:
        asked.append(labels[-1])
        return asked.count("cp") > 3

    trials = list(climb(ARRAY, budget, modes=modes, on_rung=lambda label, *_: labels.append(label), stop=late))
    # After sweeps of the first fit; the ring is not begun.
    assert labels[-1] == "cp"
    assert asked.count("cp") == 4
    names = {trial.name for trial in trials}
    assert "tensor train" in names
    assert not {"cp", "tensor ring"} & names


@pytest.mark.parametrize("budget", [{"error": 0.3}, {"error": None, "parameters": 60}])
@pytest.mark.parametrize("rank", [1, 2])
def test_no_bond_of_a_common_format_is_larger_than_asked_for(budget: dict[str, Any], rank: int) -> None:
    search = found(**budget, max_rank=rank, evaluations=2)
    common = [one.structure for one in search.history if one.counted == 0]
    assert len(common) >= 4
    assert max(one.sizes[bond] for one in common for bond in one.inner_indices) <= rank
    wider = found(**budget, max_rank=None, evaluations=2)
    assert max(one.structure.sizes[r] for one in wider.history for r in one.structure.inner_indices) > rank


def test_a_folder_that_cannot_be_used_is_refused_before_anything_is_tried(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def tried(*_: object, **__: object) -> None:
        raise AssertionError("a format was tried")

    monkeypatch.setattr("tenfold.verbs.search.climb", tried)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(TenfoldError, match="is no folder of a search"):
        found(resume=tmp_path)


def test_an_interrupt_of_the_common_formats_leaves_the_folder_free(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def stops(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as changed:
        changed.setattr("tenfold.verbs.search.climb", stops)
        with pytest.raises(KeyboardInterrupt):
            found(resume=tmp_path)
    assert (tmp_path / "search.json").exists()
    same(found(resume=tmp_path), kept())


def test_what_was_gained_over_the_common_formats_is_said() -> None:
    search = kept(evaluations=200)
    best = min(one.parameters for one in search.history if one.counted == 0 and one.error <= 1e-3)
    assert search.gained is not None
    assert search.gained.startswith(f"{1 - 48 / best:.0%} fewer parameters than the best common format: ")
    assert search.gained.endswith(f", {best} parameters")
    assert search.summary()["gained"] == search.gained
    assert re.search(r"gained +\d+% fewer", str(search))
    assert found(evaluations=100, space="ring").gained is None
    assert (found(error=0.99).gained or "").startswith("nothing: ")
    smaller = found(error=None, parameters=40, evaluations=100).gained or ""
    assert re.fullmatch(r"\d+% less error than the best common format: .*, error [\d.]+|nothing: .*", smaller)
    common = tuple(replace(one, error=1.0) if one.counted == 0 else one for one in search.history)
    assert "no common format keeps to what was asked for" in (replace(search, history=common).gained or "")


def test_an_interrupt_of_the_search_leaves_the_common_formats(monkeypatch: pytest.MonkeyPatch) -> None:
    def stops(self: Session, *arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Session, "_note", stops)
    search = found()
    assert search.interrupted
    assert search.fits == 0
    assert search.met


@pytest.mark.parametrize("method", sorted(set(searchers()) - {"sparse_edges"}))
def test_a_search_that_has_seen_everything_ends(method: str) -> None:
    search = found(
        space=Chain(SHAPE, max_rank=1, fixed_order=True),
        max_rank=None,
        method=method,
        evaluations=None,
        seconds=300,
        error=0.99,
    )
    assert search.stopped == "finished"
    assert search.fits == 1


def test_the_time_ends_a_search_between_two_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    fit = Dense.fit

    def slow(self: Dense, *arguments: object, **options: object) -> Fitted:
        time.sleep(0.2)
        return fit(self, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Dense, "fit", slow)
    search = found(evaluations=None, seconds=0.5, max_rank=4, error=None, weight=1.0)
    assert search.stopped == "seconds"
    assert 1 <= search.fits <= 3


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"data": np.zeros(SHAPE)}, DataError, "data is zero everywhere"),
        ({"data": np.full(SHAPE, np.nan)}, DataError, "data has 81 NaN"),
        ({"data": np.array(3.0)}, StructureError, "single number"),
        ({"data": np.arange(7.0)}, StructureError, "one mode"),
        ({"data": np.ones((0, 3))}, DataError, "empty"),
        ({"data": None}, DataError, "must hold numbers"),
        ({"error": 2.0}, TenfoldError, "error must be a relative error"),
        ({"parameters": 30}, TenfoldError, "error and parameters are given; one of them is the budget"),
        ({"error": None, "weight": -1}, TenfoldError, "weight must be a positive number, not -1"),
        ({"error": None, "ratio": 0.5}, TenfoldError, "ratio must be a number of at least 1"),
        ({"evaluations": 0}, TenfoldError, "evaluations must be a whole number of at least 1, not 0"),
        ({"seconds": -3}, TenfoldError, "seconds must be a positive number"),
        ({"workers": 0}, TenfoldError, "workers must be a whole number of at least 1, not 0"),
        ({"seconds": 10**400}, TenfoldError, "seconds must be a positive number"),
        ({"method": ["tnale"]}, TenfoldError, "is not known; there are"),
        ({"max_rank": 10**30}, TenfoldError, "max_rank must be below"),
        ({"seed": -1}, TenfoldError, "seed must be"),
        ({"client": 3}, TenfoldError, "client must be a dask.distributed.Client, not int"),
        ({"method": "best"}, TenfoldError, "searcher 'best' is not known; there are"),
        ({"radius": 3}, TenfoldError, "'radius' is no argument of search, nor an option of method 'random_search'"),
        ({"space": "circle"}, TenfoldError, "space 'circle' is not known; there are any, ring, chain"),
        ({"max_rank": 0}, TenfoldError, "max_rank must be a whole number of at least 1, not 0"),
        ({"max_degree": 2}, TenfoldError, "max_degree is given for space 'any'; only any_graph has one"),
        ({"fixed_order": True, "space": "tucker"}, TenfoldError, "whose modes have no order"),
        ({"fixed_order": 3}, TenfoldError, "fixed_order must be true or false, not 3"),
        ({"guard": "off"}, TenfoldError, "guard must be true or false, not 'off'"),
        ({"fold": ((3,), (3,), (3,), (2, 2))}, StructureError, "fold 2·2 does not make axis 3 of size 3"),
        ({"fold": ((3,),)}, StructureError, "fold must say the pieces of each of the 4 axes"),
        ({"space": Ring(SHAPE)}, TenfoldError, "max_rank is given beside a Ring"),
        ({"space": Ring((3, 3, 3)), "max_rank": None}, StructureError, r"space is for shape \(3, 3, 3\)"),
        ({"space": "ring", "data": np.ones((2, 3))}, StructureError, "Ring needs at least 3 modes, not 2"),
        ({"shape": (3, 3)}, TenfoldError, "shape is given without loss"),
        ({"loss": print}, TenfoldError, "data and loss are given"),
        ({"data": None, "loss": print}, TenfoldError, "loss needs the shape"),
        ({"data": None, "loss": print, "shape": SHAPE, "guard": True}, TenfoldError, "guard is for data, and"),
        (
            {"data": None, "loss": print, "shape": SHAPE, "units": {"i": "m"}, "coordinates": {"i": [1, 2, 3]}},
            TenfoldError,
            "coordinates and units are for data, and there is a loss; leave them out",
        ),
        ({"data": None, "loss": 3, "shape": SHAPE}, TenfoldError, "loss must be a function of a Network, not int"),
        ({"data": None, "loss": print, "shape": SHAPE, "error": None}, TenfoldError, "loss is given without a budget"),
        ({"data": None, "loss": lambda _: 1.0, "shape": SHAPE}, DataError, "loss must give a real scalar"),
        ({"data": None, "loss": lambda n: n.norm() - 9, "shape": SHAPE}, DataError, "loss must be at least 0, not -"),
        (
            {"data": None, "loss": lambda network: network.norm(), "shape": SHAPE, "workers": 2},
            TenfoldError,
            "loss cannot be sent to other processes",
        ),
    ],
)
def test_bad_input_is_told_in_one_line(options: dict[str, object], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message) as raised:
        found(**options)
    assert "\n" not in str(raised.value)


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(TenfoldError, match="is no folder of a search"):
        found(resume=tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["notes.txt"]


# --- the result -------------------------------------------------------------------------------------------------------


def test_a_search_saves_prints_and_reports(tmp_path: Path) -> None:
    search = found(dims=("north", "east", "r1", "day"))
    search.save(tmp_path / "found.tn")
    loaded = tn.load(tmp_path / "found.tn")
    assert isinstance(loaded, tn.Fit)
    assert loaded.structure == search.structure
    assert loaded.dims == ("north", "east", "r1", "day")
    assert len(loaded.front) == len(search.history)
    assert loaded.error == search.error
    text = str(search)
    assert "64 as papers count them" in text
    assert f"{search.fits} of them fitted" in text
    json.dumps(search.summary())
    search.report(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    for heading in ("What came near", "The search", "What costs what", "Error against size"):
        assert heading in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert len(search.plot().axes) >= 3


def test_a_search_of_one_structure_reports(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        search = found(space=Chain((3, 3, 3, 3), max_rank=1), max_rank=None, evaluations=3)
    assert len(search.history) == 1
    search.report(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "What came near" not in page
    assert "The search" in page


_NUMBERS: list[Any] = [
    0,
    -1,
    math.nan,
    math.inf,
    -math.inf,
    10**400,
    -(10**400),
    10**5000,
    "",
    "a",
    "1e400",
    [],
    {},
    1j,
    object(),
]


@pytest.mark.parametrize(
    ("name", "fine"),
    [
        ("error", [0]),
        ("parameters", []),
        ("ratio", []),
        ("weight", []),
        ("space", []),
        ("max_rank", []),
        ("fixed_order", []),
        ("fold", []),
        ("method", []),
        ("evaluations", []),
        ("seconds", []),
        ("workers", []),
        ("client", []),
        ("resume", []),
        ("seed", [0]),
        ("loss", []),
        ("shape", []),
        ("dtype", []),
        ("dims", []),
        ("coordinates", [{}]),
        ("units", [{}]),
        ("progress", []),
        ("tries", []),
    ],
)
def test_nonsense_is_told_in_one_line(name: str, fine: list[Any], tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    asked: dict[str, Any] = {"evaluations": 2, "space": "ring", "max_rank": 2, "method": "greedy", "progress": False}
    values = [*_NUMBERS, np.array([1, 2]), torch.ones(2), "x" * 5000, "a\nb", lambda: None, int, b"x", (1, "a")]
    if name == "resume":  # any text names a folder
        values = [value for value in values if not isinstance(value, str) or not value]
    for value in values:
        if any(value is one or (type(value) is type(one) and value == one) for one in fine):
            continue
        with pytest.raises(TenfoldError) as error:
            tn.search(np.ones((2, 2, 2)), **{**asked, name: value})
        said = str(error.value)
        assert "\n" not in said
        assert len(said) < 400
        assert name in said or name == "client" or (name == "method" and "searcher" in said)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_ranks_grow_where_nothing_keeps_the_budget() -> None:
    """Each unfolding of noise allows for what all three together do not; a bound that was given stays."""
    noise = torch.randn(10, 10, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    grown = tn.search(noise, space="tucker", error=0.5, evaluations=1500)
    assert grown.met
    assert grown.space.max_rank > 8
    with pytest.warns(UserWarning, match="a larger max_rank than 8"):
        assert not tn.search(noise, space="tucker", error=0.5, max_rank=8, evaluations=40).met
