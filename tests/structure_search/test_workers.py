"""Processes and clusters: the same results as in one process, whoever dies."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from search_targets import Formula, chance

from tenfold.errors import TenfoldError
from tenfold.network import Network, load_file
from tenfold.structure import Structure
from tenfold.structure_search import _processes
from tenfold.structure_search._workers import Task, work
from tenfold.structure_search.objectives import SizeWithin
from tenfold.structure_search.random_search import random_search
from tenfold.structure_search.session import Session, Spent
from tenfold.structure_search.spaces import Point, Ring
from tenfold.structure_search.targets import Dense, Target

SHAPE = (3, 3, 3, 3)
SPACE = Ring(SHAPE, max_rank=3)


def planted() -> Dense:
    return Dense(Network.random(SPACE.structure(Point((2, 3, 1, 2), (0, 2, 1, 3))), seed=3).dense())


def searched(target: Target, evaluations: int = 40, **options: Any) -> list[tuple[Any, ...]]:
    with Session(target, SizeWithin(1e-3), evaluations=evaluations, **options) as session, pytest.raises(Spent):
        random_search(session, SPACE, seed=2)
    assert session.best is not None
    return [
        (f.counted, f.evaluation.number, f.evaluation.structure, f.evaluation.error, f.evaluation.sweeps)
        for f in session.history
    ]


@pytest.fixture
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes are started for the shortest search."""
    monkeypatch.setattr(_processes, "_WORTH", 0.0)


def test_what_is_kept_in_a_file_is_a_start_like_what_is_not(tmp_path: Path) -> None:
    """To the last bit: who goes on from the file finds what would have been found without it."""
    structure = SPACE.structure(Point((2, 3, 1, 2), (0, 2, 1, 3)))
    near = work(planted(), Task(0, structure, None, 1, None, 1.0, tmp_path / "0.tn")).fitted.network
    for core, kept in zip(near.cores, load_file(tmp_path / "0.tn")[0].cores, strict=True):
        assert core.stride() == kept.stride()
        assert torch.equal(core, kept)


def helpers(signs: Path) -> set[int]:
    """The processes beside this one that fitted something."""
    return {int(path.name.split()[0]) for path in signs.iterdir()} - {os.getpid()}


class Patient(Formula):
    """The process that searches takes a long time over its third fit: until another process has made one."""

    def fit(self, structure: Structure, **options: Any) -> Any:
        assert self.signs is not None
        fitted = super().fit(structure, **options)
        limit = time.monotonic() + 120
        while multiprocessing.parent_process() is None and len(self.asked) == 3 and not helpers(self.signs):
            assert time.monotonic() < limit
            time.sleep(0.01)
        return fitted


@pytest.mark.usefixtures("_at_once")
def test_two_processes_find_what_one_finds(tmp_path: Path) -> None:
    target = Patient(SHAPE, signs=tmp_path)
    found = searched(target, workers=2)
    assert len(target.asked) == 3
    assert 1 <= len(helpers(tmp_path)) <= 2
    assert found == searched(Formula(SHAPE))


@pytest.mark.slow
@pytest.mark.usefixtures("_at_once")
def test_real_fits_are_the_same_in_other_processes() -> None:
    structures = [SPACE.structure(Point((a, b, 2, 2), (0, 2, 1, 3))) for a in (1, 2, 3) for b in (1, 2, 3)]
    tasks = [Task(n, structure, None, 7, None, float("inf"), None) for n, structure in enumerate(structures)]
    target = planted()
    workers = _processes.Processes(target, 2)
    workers._begun = True  # nothing is fitted here
    try:
        found = list(workers.run(tasks))
    finally:
        workers.close()
    for task, done in zip(tasks, found, strict=True):
        here = work(target, task).fitted
        assert (done.fitted.error, done.fitted.sweeps) == (here.error, here.sweeps)
        assert all(a.equal(b) for a, b in zip(done.fitted.network.cores, here.network.cores, strict=True))


def test_short_searches_start_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr("multiprocessing.context.SpawnProcess.start", start)
    assert searched(Formula(SHAPE), workers=2) == searched(Formula(SHAPE))


@pytest.mark.slow
def test_a_cluster_finds_what_one_process_finds(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    cluster = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, scheduler_port=0
    )
    with cluster, distributed.Client(cluster) as client:
        assert searched(planted(), client=client) == searched(planted())
        mark = tmp_path / "died"
        assert searched(Formula(SHAPE, dies=mark), client=client) == searched(Formula(SHAPE))
        assert mark.exists()


@pytest.mark.slow
def test_clients_that_are_closed_are_told_in_one_line() -> None:
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None
    ) as cluster:
        client = distributed.Client(cluster)
        timer = threading.Timer(1.0, client.close)
        timer.start()
        with pytest.raises(TenfoldError, match="client was closed, or lost its workers, while it was at work"):
            searched(Formula(SHAPE, pause=0.3), client=client)
        timer.join()
        with pytest.raises(TenfoldError, match="client is closed; give one that is connected"):
            searched(Formula(SHAPE), client=client)


def test_a_cluster_of_threads_finds_what_one_process_finds(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed")
    from tenfold.structure_search._journal import Journal

    with distributed.Client(processes=False, n_workers=1, threads_per_worker=2, dashboard_address=None) as client:
        journal = Journal(tmp_path, {"seed": 2})
        found = searched(Formula(SHAPE), client=client, journal=journal)
    assert found == searched(Formula(SHAPE))
    assert len(list((tmp_path / "networks").iterdir())) == len((tmp_path / "journal.jsonl").read_bytes().splitlines())


@pytest.mark.usefixtures("_at_once")
def test_one_worker_that_is_killed_is_replaced(tmp_path: Path) -> None:
    mark, signs = tmp_path / "died", tmp_path / "signs"
    signs.mkdir()
    found = searched(Patient(SHAPE, dies=mark, signs=signs), workers=2)
    assert mark.exists()
    assert found == searched(Formula(SHAPE))


@pytest.mark.slow
@pytest.mark.usefixtures("_at_once")
def test_workers_that_are_always_killed_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(TenfoldError, match="worker processes keep being killed"):
        searched(Fatal(SHAPE, signs=tmp_path), workers=2)


class Fatal(Patient):
    """Every process that fits is killed, but the one that searches."""

    def fit(self, structure: Structure, **options: Any) -> Any:
        if multiprocessing.parent_process() is not None:
            Formula.fit(self, structure)
            os.kill(os.getpid(), signal.SIGKILL)
        return super().fit(structure, **options)


class Choosy(Formula):
    """Some structures cannot be fitted: the search hears of it when it is their turn, wherever that was tried."""

    def fit(self, structure: Structure, **options: Any) -> Any:
        if chance(structure.key) < 0.1:
            raise (Odd if self.salt else TenfoldError)(structure.key, "is not to be fitted")
        return super().fit(structure, **options)


class Odd(Exception):
    """Cannot be read again where it was sent to."""

    def __init__(self, key: str, what: str) -> None:
        super().__init__(f"{what}: {key}")


@pytest.mark.slow
@pytest.mark.parametrize("salt", [0, 1])
@pytest.mark.usefixtures("_at_once")
def test_errors_of_workers_arrive_when_it_is_their_turn(salt: int) -> None:
    structures = [SPACE.structure(SPACE.random(np.random.default_rng(n))) for n in range(30)]
    before = next(n for n, structure in enumerate(structures) if chance(structure.key) < 0.1)
    assert before > 3
    tasks = [Task(n, structure, None, 7, None, float("inf"), None) for n, structure in enumerate(structures)]
    workers = _processes.Processes(Choosy(SHAPE, salt=salt), 2)
    workers._begun = True  # nothing is fitted here
    run = workers.run(tasks)
    for _ in range(before):
        next(run)
    with pytest.raises(RuntimeError if salt else TenfoldError, match="is not to be fitted") as error:
        next(run)
    workers.close()
    if not salt:
        assert "in a worker process" in error.value.__notes__[0]


@pytest.mark.slow
def test_what_nobody_wants_any_more_is_not_begun() -> None:
    """Seconds run out in the middle of a batch: what waits is taken back, what runs ends by itself."""
    target = Formula(SHAPE, pause=0.3)
    with Session(target, SizeWithin(0.1), workers=2, seconds=0.5) as session:
        started = time.perf_counter()
        with pytest.raises(Spent):
            random_search(session, SPACE)
        assert time.perf_counter() - started < 60
    assert session.fits < 16


_ORPHANS = """
    import sys
    from pathlib import Path
    from search_targets import Formula
    from tenfold.structure_search.objectives import SizeWithin
    from tenfold.structure_search.random_search import random_search
    from tenfold.structure_search.session import Session
    from tenfold.structure_search.spaces import Ring

    if __name__ == "__main__":
        shape = (3, 3, 3, 3)
        signs = Path(sys.argv[1]) if sys.argv[1:] else None
        with Session(Formula(shape, pause=0.05, signs=signs), SizeWithin(1e-3), workers=2) as session:
            random_search(session, Ring(shape, max_rank=9))
"""


@pytest.mark.slow
@pytest.mark.parametrize("when", ["starting", "fitting"])
def test_no_process_survives_its_parent(tmp_path: Path, when: str) -> None:
    script = tmp_path / "search.py"
    script.write_text(textwrap.dedent(_ORPHANS))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    signs = tmp_path / "signs"
    signs.mkdir()
    command = [sys.executable, str(script), str(signs)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=environment, text=True) as parent:
        limit = time.monotonic() + 120
        children: list[psutil.Process] = []
        while len(children) < 3:  # with the tracker of resources
            assert time.monotonic() < limit
            time.sleep(0.005)
            children = psutil.Process(parent.pid).children(recursive=True)
        while when == "fitting" and len({path.name.split()[0] for path in signs.iterdir()}) < 3:
            assert time.monotonic() < limit
            time.sleep(0.005)
        parent.send_signal(signal.SIGKILL)
        gone, alive = psutil.wait_procs(children, timeout=30)
        for process in alive:
            process.kill()
        assert parent.stderr is not None
        said = parent.stderr.read()
    if when == "fitting":  # Python itself says so where a process that has not begun finds nobody to begin for
        assert said == ""
    assert not alive
    assert len(gone) == 3


@pytest.mark.slow
def test_a_script_that_searches_when_it_is_imported_is_told_so(tmp_path: Path) -> None:
    script = tmp_path / "search.py"
    script.write_text(textwrap.dedent(_ORPHANS).replace('if __name__ == "__main__":', "if True:"))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "worker processes end before they begin" in last
    assert "if __name__ == '__main__'" in last


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="there are no process groups here")
def test_an_interrupt_of_the_whole_group_is_heard_by_the_parent_only(tmp_path: Path) -> None:
    """Ctrl-C in a terminal, while the workers are starting: they have nothing to say of it."""
    script = tmp_path / "search.py"
    script.write_text(textwrap.dedent(_ORPHANS))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    with subprocess.Popen(
        [sys.executable, str(script)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as parent:
        while len(psutil.Process(parent.pid).children()) < 3:  # with the tracker of resources
            time.sleep(0.005)
        os.killpg(parent.pid, signal.SIGINT)
        _, said = parent.communicate(timeout=60)
    assert said.count("Traceback") == 1
