"""A search that is killed again and again ends where an undisturbed one ends: the same lines, the same answer."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest
from search_targets import Formula

from tenfold.network import load_file
from tenfold.structure_search._journal import Journal
from tenfold.structure_search.objectives import SizeWithin
from tenfold.structure_search.random_search import random_search
from tenfold.structure_search.session import Session, Spent
from tenfold.structure_search.spaces import Ring

_SEARCH = """
    import json, sys
    from tenfold.network import Network
    from tenfold.structure_search import _processes
    from tenfold.structure_search._journal import Journal
    from tenfold.structure_search.objectives import ErrorWithin
    from tenfold.structure_search.random_search import random_search
    from tenfold.structure_search.session import Session, Spent
    from tenfold.structure_search.spaces import Point, Ring
    from tenfold.structure_search.targets import Dense

    class Patient(Dense):
        def bound(self, structure):  # every structure is fitted
            return 0.0

    if __name__ == "__main__":
        folder, evaluations = sys.argv[1], int(sys.argv[2])
        space = Ring((3, 3, 3, 3), max_rank=5)
        data = Network.random(space.structure(Point((2, 3, 1, 2), (0, 2, 1, 3))), seed=3).dense()
        journal = Journal(folder, {"data": "planted ring", "seed": 5})
        _processes._WORTH = 0.0
        with Session(
            Patient(data), ErrorWithin(10**6), seed=5, evaluations=evaluations, workers=2, journal=journal
        ) as session:
            # Every other time all fits are made by the workers, and none here until they are there.
            session._workers._begun = len(sys.argv) > 3
            try:
                random_search(session, space, seed=5)
            except Spent:
                best = session.best
                answer = [best.number, best.structure.to_json(), best.error, session.counted, session.fits]
                with open(folder + ".answer", "w") as file:
                    json.dump(answer, file)
"""


def lines(folder: Path) -> list[dict[str, Any]]:
    path = folder / "journal.jsonl"
    if not path.exists():
        return []
    found = [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]
    return [{name: value for name, value in line.items() if name not in ("seconds", "elapsed")} for line in found]


def started(script: Path, folder: Path, evaluations: int, *others: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, str(script), str(folder), str(evaluations), *others]
    return subprocess.Popen(command, env=environment, start_new_session=True, stdout=subprocess.DEVNULL)


@pytest.mark.slow
def test_killed_twenty_times_on_two_workers(tmp_path: Path) -> None:
    """Over 500 evaluations; the whole process group is killed at random moments and the search taken up again."""
    evaluations, kills = 520, 20
    script = tmp_path / "search.py"
    script.write_text(textwrap.dedent(_SEARCH))
    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"
    begun = time.perf_counter()
    assert started(script, undisturbed, evaluations).wait() == 0
    alone = time.perf_counter() - begun
    expected = lines(undisturbed)

    generator = random.Random(0)
    killed_at = []
    for number in range(kills):
        process = started(script, disturbed, evaluations, *(["by workers"] if number % 2 else []))
        # Some die while they begin or read what there is, the others after some more fits.
        more = 0 if number % 5 == 0 else generator.randint(1, max(1, len(expected) // (kills + 2)))
        goal = len(lines(disturbed)) + more
        if more == 0:
            time.sleep(generator.uniform(0.0, 6.0))
        while len(lines(disturbed)) < goal:
            assert process.poll() is None, "the search ended before it could be killed"
            time.sleep(0.002)
        time.sleep(generator.uniform(0.0, 0.03))
        os.killpg(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        killed_at.append(len(lines(disturbed)))
    assert killed_at[-1] < len(expected)
    assert len(expected) > 250
    assert started(script, disturbed, evaluations).wait() == 0
    print(f"\nundisturbed {alone:.1f} s, killed at lines {killed_at} of {len(expected)}, "
          f"{time.perf_counter() - begun:.1f} s in all")  # fmt: skip
    assert lines(disturbed) == expected
    answers = [json.loads(Path(f"{folder}.answer").read_text()) for folder in (undisturbed, disturbed)]
    assert answers[0] == answers[1]
    for line in expected:
        name = f"networks/{line['number']:06d}.tn"
        (one, _), (other, _) = load_file(undisturbed / name), load_file(disturbed / name)
        assert one.structure == other.structure
        assert all(a.equal(b) for a, b in zip(one.cores, other.cores, strict=True))
    assert not list((disturbed / "networks").glob(".*"))


def _search(folder: str) -> None:
    shape = (3, 3, 3, 3)
    journal = Journal(folder, {"seed": 5})
    with Session(Formula(shape, sharp=0.0, pause=0.002), SizeWithin(0.2), evaluations=150, journal=journal) as session:
        try:
            random_search(session, Ring(shape, max_rank=5), seed=5)
        except Spent:
            best = session.best
            assert best is not None
            answer = [best.number, best.structure.to_json(), best.error, session.counted, session.fits]
            Path(f"{folder}.answer").write_text(json.dumps(answer))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot be forked here")
def test_killed_three_times(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")

    def begin(folder: Path) -> Any:
        process = fork.Process(target=_search, args=(str(folder),))
        process.start()
        return process

    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"
    whole = begin(undisturbed)
    whole.join()
    assert whole.exitcode == 0
    expected = lines(undisturbed)
    for goal in (len(expected) * part // 8 for part in (1, 3, 6)):
        process = begin(disturbed)
        while len(lines(disturbed)) < goal and process.is_alive():
            time.sleep(0.001)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
    assert len(lines(disturbed)) < len(expected)
    last = begin(disturbed)
    last.join()
    assert last.exitcode == 0
    assert lines(disturbed) == expected
    answers = [json.loads(Path(f"{folder}.answer").read_text()) for folder in (undisturbed, disturbed)]
    assert answers[0] == answers[1]
