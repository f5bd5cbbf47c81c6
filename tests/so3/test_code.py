"""Code compiled at run time: what it computes, and what is kept of it on disk."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("llvmlite")

from llvmlite import ir

from tenfold.so3 import _code

I64 = ir.IntType(64)


def added(number: int) -> ir.Module:
    """A function that adds a number to the first entry."""
    module = ir.Module("added")
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [I64.as_pointer()]), "run")
    builder = ir.IRBuilder(function.append_basic_block())
    builder.store(builder.add(builder.load(function.args[0]), I64(number)), function.args[0])
    builder.ret_void()
    return module


def compiled(number: int) -> _code.Code:
    return _code.compiled(lambda: added(number), "run", str(number), [])


def result(code: _code.Code) -> int:
    numbers = np.array([100], dtype=np.int64)
    code(numbers.ctypes.data)
    return int(numbers[0])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(_code, "folder", lambda: tmp_path / "code")
    return tmp_path / "code"


@pytest.fixture
def written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were compiled anew."""
    found: list[Path] = []
    write = _code._write

    def noted(file: Path, content: bytes) -> None:
        found.append(file)
        write(file, content)

    monkeypatch.setattr(_code, "_write", noted)
    return found


def test_it_is_compiled_once_and_then_read(folder: Path, written: list[Path]) -> None:
    assert [result(compiled(5)) for _ in range(3)] == [105] * 3
    assert len(written) == 1
    assert list(folder.iterdir()) == written
    assert result(compiled(6)) == 106
    assert len(written) == 2


def test_nothing_is_read_of_writers_that_were_edited(written: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    compiled(5)
    monkeypatch.setattr(_code.inspect, "getsource", lambda module: "edited")
    assert result(compiled(5)) == 105
    assert len(written) == 2


def test_sources_need_not_be_there(written: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(module: object) -> str:
        raise OSError("could not get source code")

    monkeypatch.setattr(_code.inspect, "getsource", missing)
    assert [result(compiled(5)) for _ in range(2)] == [105] * 2
    assert len(written) == 1


@pytest.mark.parametrize("left", [0, 10, 40, -1])
def test_a_broken_file_is_compiled_again(written: list[Path], left: int) -> None:
    compiled(7)
    [file] = written
    whole = file.read_bytes()
    file.write_bytes(whole[:left])
    assert result(compiled(7)) == 107
    assert file.read_bytes() == whole
    changed = bytearray(whole)
    changed[len(changed) // 2] ^= 1
    file.write_bytes(bytes(changed))
    assert result(compiled(7)) == 107
    assert len(written) == 3


def test_without_a_place_on_disk_it_is_compiled_each_time(folder: Path, written: list[Path]) -> None:
    folder.write_text("not a folder")
    assert [result(compiled(8)) for _ in range(2)] == [108] * 2
    assert len(written) == 2
    assert folder.read_text() == "not a folder"


def test_nothing_half_written_stays(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, target: Path) -> Path:
        raise OSError("no space left")

    monkeypatch.setattr(Path, "replace", full)
    assert result(compiled(9)) == 109
    assert list(folder.iterdir()) == []


def test_threads_compile_at_once(folder: Path) -> None:
    found: dict[int, int] = {}
    ready = threading.Barrier(4)

    def work(number: int) -> None:
        ready.wait()
        for step in range(5):
            found[10 * number + step] = result(compiled(10 * (number % 2) + step))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {10 * number + step: 100 + 10 * (number % 2) + step for number in range(4) for step in range(5)}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_does_not_wait_for_threads_it_lacks(folder: Path) -> None:
    code = compiled(1)
    with _code._lock:
        child = os.fork()
        if child == 0:
            signal.alarm(60)
            right = result(code) == 101 and result(compiled(2)) == 102
            os._exit(0 if right else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
