"""The record on disk: what was done is never done again, whatever stopped the search."""

from __future__ import annotations

import errno
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from search_targets import Formula

from tenfold.errors import TenfoldError
from tenfold.structure_search._journal import Journal
from tenfold.structure_search.objectives import SizeWithin
from tenfold.structure_search.random_search import random_search
from tenfold.structure_search.session import Session, Spent
from tenfold.structure_search.spaces import Ring

SHAPE = (4, 4, 4, 4)
SPACE = Ring(SHAPE, max_rank=3)
ASKED = {"target": "formula", "seed": 1}


def searched(folder: Path, evaluations: int = 60, target: Formula | None = None, **options: Any) -> Session:
    with Session(
        target or Formula(SHAPE),
        SizeWithin(0.2),
        seed=1,
        evaluations=evaluations,
        journal=Journal(folder, ASKED),
        **options,
    ) as session:
        with pytest.raises(Spent):
            random_search(session, SPACE, seed=1)
        return session


def lines(folder: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in ("seconds", "elapsed")} for line in found]


def answer(session: Session) -> tuple[Any, ...]:
    best = session.best
    assert best is not None
    history = [(f.evaluation.number, f.evaluation.value, f.counted) for f in session.history]
    return best.structure, best.error, best.number, session.counted, session.fits, history


def test_one_line_and_one_network_for_each_fit(tmp_path: Path) -> None:
    session = searched(tmp_path)
    kept = lines(tmp_path)
    assert [line["number"] for line in kept] == list(range(session.fits))
    assert len(list((tmp_path / "networks").iterdir())) == session.fits
    assert kept[-1]["counted"] <= session.counted == 60
    finished = [line for line in kept if line["finished"]]
    assert len(finished) == len(session.history)
    for line, found in zip(finished, session.history, strict=True):
        assert line["error"] == found.evaluation.error
        assert line["parameters"] == found.evaluation.parameters


def test_the_same_call_again_fits_nothing(tmp_path: Path) -> None:
    first = searched(tmp_path)
    before = (tmp_path / "journal.jsonl").read_bytes()
    target = Formula(SHAPE)
    again = searched(tmp_path, target=target)
    assert target.asked == []
    assert answer(again) == answer(first)
    assert (tmp_path / "journal.jsonl").read_bytes() == before
    assert [f.elapsed for f in again.history] == pytest.approx([f.elapsed for f in first.history], abs=2e-3)


def test_more_evaluations_go_on_from_there(tmp_path: Path) -> None:
    few, whole = tmp_path / "few", tmp_path / "whole"
    searched(few, 25)
    target = Formula(SHAPE)
    on = searched(few, 60, target)
    assert answer(on) == answer(searched(whole, 60))
    assert lines(few) == lines(whole)
    assert len(target.asked) < on.fits


@pytest.mark.parametrize("cut", [1, 20, 150])
def test_a_torn_last_line_is_written_anew(tmp_path: Path, cut: int) -> None:
    first = searched(tmp_path)
    expected = lines(tmp_path)
    path = tmp_path / "journal.jsonl"
    path.write_bytes(path.read_bytes()[:-cut])
    assert answer(searched(tmp_path)) == answer(first)
    assert lines(tmp_path) == expected


def test_lines_after_one_that_is_no_json_are_written_anew(tmp_path: Path) -> None:
    searched(tmp_path)
    expected = lines(tmp_path)
    path = tmp_path / "journal.jsonl"
    whole = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*whole[:3], b'{"number": 3, \x00\x00\n', *whole[4:]]))
    searched(tmp_path)
    assert lines(tmp_path) == expected


@pytest.mark.parametrize("damage", ["half", "empty", "missing", "noise"])
def test_a_half_written_network_is_made_again(tmp_path: Path, damage: str) -> None:
    first = searched(tmp_path)
    expected = lines(tmp_path)
    path = tmp_path / "networks" / "000003.tn"
    whole = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes({"half": whole[: len(whole) // 2], "empty": b"", "noise": os.urandom(300)}[damage])
    (tmp_path / "networks" / ".0123456789ab.part.tn").write_bytes(whole[:40])
    target = Formula(SHAPE)
    assert answer(searched(tmp_path, target=target)) == answer(first)
    assert len(target.asked) == 1
    assert lines(tmp_path) == expected
    assert len(list((tmp_path / "networks").iterdir())) == first.fits


def test_networks_ahead_of_the_lines_are_used(tmp_path: Path) -> None:
    """Workers keep what they found before the search hears of it."""
    searched(tmp_path)
    expected = lines(tmp_path)
    path = tmp_path / "journal.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:2]))
    target = Formula(SHAPE)
    searched(tmp_path, target=target)
    assert target.asked == []
    assert lines(tmp_path) == expected


def test_another_search_is_refused(tmp_path: Path) -> None:
    Journal(tmp_path, ASKED).close()
    with pytest.raises(TenfoldError, match="holds a search with seed 1, not 2"):
        Journal(tmp_path, {**ASKED, "seed": 2})
    Journal(tmp_path, dict(ASKED)).close()


def test_a_fit_of_another_search_is_refused(tmp_path: Path) -> None:
    searched(tmp_path)
    networks = tmp_path / "networks"
    (networks / "000004.tn").write_bytes((networks / "000000.tn").read_bytes())
    with pytest.raises(TenfoldError, match="is another fit than the search asks for"):
        searched(tmp_path)


def test_folders_of_others_and_what_is_no_record(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(TenfoldError, match="is no folder of a search"):
        Journal(tmp_path, ASKED)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    other = tmp_path / "other"
    other.mkdir()
    (other / "search.json").write_text("{ no json")
    with pytest.raises(TenfoldError, match="is no record of a search"):
        Journal(other, ASKED)
    (other / "search.json").write_text("[1, 2]")
    with pytest.raises(TenfoldError, match="is no record of a search"):
        Journal(other, ASKED)
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(TenfoldError, match="cannot be used for the search"):
        Journal(file, ASKED)


def test_killed_while_the_header_was_written(tmp_path: Path) -> None:
    (tmp_path / "networks").mkdir()
    (tmp_path / "search.part").write_text('{"ver')
    Journal(tmp_path, ASKED).close()
    assert json.loads((tmp_path / "search.json").read_text())["seed"] == 1


@pytest.mark.skipif(os.getuid() == 0, reason="root may read and write everything")
def test_a_folder_that_may_not_be_read(tmp_path: Path) -> None:
    folder = tmp_path / "locked"
    folder.mkdir()
    folder.chmod(0o000)
    try:
        with pytest.raises(TenfoldError, match="cannot be used for the search: Permission denied"):
            Journal(folder, ASKED)
    finally:
        folder.chmod(0o700)


def test_a_full_disk_says_so_and_the_same_call_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = tmp_path / "whole"
    expected = answer(searched(whole))

    folder = tmp_path / "full"
    synced = 0

    def fsync(descriptor: int) -> None:
        nonlocal synced
        synced += 1
        if synced > 7:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as full:
        full.setattr("tenfold.structure_search._journal.os.fsync", fsync)
        with pytest.raises(TenfoldError, match="cannot be written to: No space left on device; the same call goes on"):
            searched(folder)
    assert answer(searched(folder)) == expected
    assert lines(folder) == lines(whole)


def test_no_room_for_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "full"

    def save_file(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as full:
        full.setattr("tenfold.network.save_file", save_file)
        with pytest.raises(TenfoldError, match="No space left on device"):
            searched(folder)
    assert list((folder / "networks").iterdir()) == []
    whole = tmp_path / "whole"
    assert answer(searched(folder)) == answer(searched(whole))
    assert lines(folder) == lines(whole)


@pytest.mark.skipif(sys.platform == "win32", reason="folders cannot be locked here")
def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    first = Journal(tmp_path, ASKED)
    (tmp_path / "networks" / ".0123456789ab.part.tn").write_bytes(b"half")
    with pytest.raises(TenfoldError, match="another search is under way in"):
        Journal(tmp_path, ASKED)
    assert (tmp_path / "networks" / ".0123456789ab.part.tn").exists()
    first.close()
    Journal(tmp_path, ASKED).close()
    assert not (tmp_path / "networks" / ".0123456789ab.part.tn").exists()


@pytest.mark.parametrize(
    "line", [b"3\n", b"{}\n", b'{"number": 9, "elapsed": 1.0}\n', b'{"number": 3, "elapsed": "x"}\n']
)
def test_lines_that_say_nothing_are_written_anew(tmp_path: Path, line: bytes) -> None:
    first = searched(tmp_path)
    expected = lines(tmp_path)
    path = tmp_path / "journal.jsonl"
    whole = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*whole[:3], line, *whole[4:]]))
    assert answer(searched(tmp_path)) == answer(first)
    assert lines(tmp_path) == expected


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full device here")
def test_a_full_disk_is_said_once(tmp_path: Path) -> None:
    """What could not be written is not tried again when the file is closed, where nobody expects it."""
    journal = Journal(tmp_path, ASKED)
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, journal._file.fileno())
    os.close(full)
    with pytest.raises(TenfoldError, match="cannot be written to: No space left on device"):
        journal.write({"number": 0, "elapsed": 0.0})
    journal.close()


def test_everything_that_is_another_is_named_in_words(tmp_path: Path) -> None:
    asked = {"data": "9f", "space": "Ring((3, 3, 3), 8, None, None, ...)", "seed": 1}
    words = {"data": "of shape 3·3·3 (known as 9f)", "space": "rings of 3 modes"}
    Journal(tmp_path, asked, words).close()
    other = {"data": "77", "space": "Chain((3, 3, 3), 8)", "seed": 1}
    with pytest.raises(TenfoldError) as error:
        Journal(tmp_path, other, {"data": "of shape 3·3·3 (known as 77)", "space": "chains of 3 modes"})
    assert str(error.value) == (
        f"'{tmp_path}' holds a search with data of shape 3·3·3 (known as 9f), not of shape 3·3·3 (known as 77), and "
        f"space rings of 3 modes, not chains of 3 modes; give another folder, or ask the same"
    )
    with pytest.raises(TenfoldError, match="holds a search with other data that reads the same, of shape"):
        Journal(tmp_path, {**asked, "data": "9e"}, words)
    Journal(tmp_path, asked, {"data": "words of a later day"}).close()


def test_records_without_words_and_of_other_versions(tmp_path: Path) -> None:
    header = tmp_path / "search.json"
    header.write_text(json.dumps({"version": 2, **ASKED}))  # as it was before there were words
    Journal(tmp_path, ASKED, {"seed": "1"}).close()
    with pytest.raises(TenfoldError, match="holds a search with seed 1, not 2"):
        Journal(tmp_path, {**ASKED, "seed": 2}, {"seed": "2"})
    header.write_text(json.dumps({"version": 3, **ASKED, "more": []}))
    with pytest.raises(TenfoldError, match=r"another version of tenfold began \(its record is of kind 3, this version"):
        Journal(tmp_path, ASKED)
    assert json.loads(header.read_text())["version"] == 3


def test_what_a_killed_worker_left_half_written_is_removed_at_the_end(tmp_path: Path) -> None:
    journal = Journal(tmp_path, ASKED)
    (tmp_path / "networks" / ".0123456789ab.part.tn").write_bytes(b"half")
    journal.close()
    assert list((tmp_path / "networks").iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no limits of file sizes here")
def test_files_that_may_not_grow(tmp_path: Path) -> None:
    """As on a disk that fills up while the lines are written; what was done is kept."""
    import resource

    folder = tmp_path / "full"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2500, limits[1]))
    try:
        with pytest.raises(TenfoldError, match=r"cannot be written to: .*; the same call goes on"):
            searched(folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert answer(searched(folder)) == answer(searched(tmp_path / "whole"))
    assert lines(folder) == lines(tmp_path / "whole")
