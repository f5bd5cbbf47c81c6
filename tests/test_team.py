"""Work that is shared among threads."""

from __future__ import annotations

import os
import threading

import pytest
import torch

from tenfold import _team


@pytest.fixture(params=["of torch", "our own"])
def threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "our own":
        monkeypatch.setattr(_team, "_openmp", lambda: None)
    elif _team._openmp() is None:
        pytest.skip("this torch has no OpenMP of GCC")
    return request.param


@pytest.mark.parametrize("number", [1, 2, 5])
def test_every_task_is_done_once(threads: str, number: int) -> None:
    done: list[int] = []
    numbers: set[int] = set()

    def work(thread: int, task: int) -> None:
        numbers.add(thread)
        done.append(task)

    for tasks in (0, 1, 3, 100):
        done.clear()
        _team.shared(range(tasks), work, number)
        assert sorted(done) == list(range(tasks))
    assert numbers <= set(range(number))


def test_threads_work_at_the_same_time(threads: str) -> None:
    """Each waits for the other."""
    met = threading.Barrier(2, timeout=30)
    _team.shared(range(2), lambda number, task: met.wait(), 2)


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt])
def test_what_a_task_raises_is_raised(threads: str, kind: type[BaseException]) -> None:
    def work(number: int, task: int) -> None:
        if task == 3:
            raise kind("no")

    with pytest.raises(kind, match="no"):
        _team.shared(range(10), work, 2)
    _team.shared(range(10), lambda number, task: None, 2)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here")
def test_a_fork_has_threads_of_its_own(threads: str) -> None:
    _team.shared(range(4), lambda number, task: None, 2)
    child = os.fork()
    if not child:
        done: list[int] = []
        try:
            _team.shared(range(4), lambda number, task: done.append(task), 2)
        finally:
            os._exit(0 if sorted(done) == [0, 1, 2, 3] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_torch_keeps_its_threads() -> None:
    before = torch.get_num_threads()
    _team.shared(range(4), lambda number, task: None, 3)
    assert torch.get_num_threads() == before
