"""Code for the processor at hand, written as LLVM's language for one problem: compiled once, then kept on disk.

Loading llvmlite takes a while: this is imported where such code runs.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import inspect
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import llvmlite
from llvmlite import binding, ir
from platformdirs import user_cache_path

import tenfold

_DIGEST = 32

_lock = threading.Lock()


def _after_fork() -> None:
    # Another thread may have held it.
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class Code:
    """A compiled function that takes the address of whole numbers of 64 bits."""

    def __init__(self, engine: binding.ExecutionEngine, name: str) -> None:
        self._engine = engine  # owns the memory the code lies in
        self._function: Any = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(engine.get_function_address(name))

    def __call__(self, arguments: int) -> None:
        """Runs it; other threads run meanwhile."""
        self._function(arguments)


def compiled(write: Callable[[], ir.Module], name: str, description: str, writers: Sequence[ModuleType]) -> Code:
    """The function of this name in the module that is written, from disk where it was for such a processor before.

    What is on disk is checked against its digest: a broken file is compiled again, and a folder that cannot be written
    to stays as it is.

    Args:
        write: writes the module; not called where the code is on disk.
        description: everything that the module depends on.
        writers: the Python modules that write it: when one of them was edited, code on disk is not what it writes.
    """
    with _lock:
        machine, described = _machine()
        words = (described, name, *map(_source, (*writers, sys.modules[__name__])), description)
        file = folder() / f"{hashlib.sha256(chr(0).join(words).encode()).hexdigest()}.o"
        found = _read(file)
        if found is None:
            parsed = binding.parse_assembly(str(write()))
            parsed.verify()
            found = machine.emit_object(parsed)
            _write(file, found)
        # An engine keeps the machine it is given.
        engine = binding.create_mcjit_compiler(binding.parse_assembly(""), _new_machine())
        engine.add_object_file(binding.ObjectFileRef.from_data(found))
        engine.finalize_object()
        return Code(engine, name)


def folder() -> Path:
    """Where compiled code is kept."""
    return user_cache_path("tenfold") / "code"


@cache
def _machine() -> tuple[binding.TargetMachine, str]:
    """What compiles for this processor, and what that is in words."""
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    words = (*_target(), llvmlite.__version__, *binding.llvm_version_info)
    return _new_machine(), " ".join(map(str, words))


def _target() -> tuple[str, str, str]:
    return binding.get_process_triple(), binding.get_host_cpu_name(), binding.get_host_cpu_features().flatten()


def _new_machine() -> binding.TargetMachine:
    triple, cpu, features = _target()
    target = binding.Target.from_triple(triple)
    return target.create_target_machine(cpu=cpu, features=features, opt=2, reloc="default", codemodel="jitdefault")


def _source(module: ModuleType) -> str:
    try:
        return inspect.getsource(module)
    except OSError:  # without sources there is one release and no editing
        return tenfold.__version__


def _read(file: Path) -> bytes | None:
    try:
        content = file.read_bytes()
    except OSError:
        return None
    digest, found = content[:_DIGEST], content[_DIGEST:]
    return found if hashlib.sha256(found).digest() == digest else None


def _write(file: Path, found: bytes) -> None:
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=file.parent)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(hashlib.sha256(found).digest() + found)
            Path(name).replace(file)  # no one ever sees half a file
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
