"""Writing a file so that a reader finds the whole new one or the whole old one, never a part."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tenfold.errors import FileError


@contextmanager
def atomic(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place when the block ends without an exception.

    The block may create a file or a directory there. Whatever goes wrong (no room, an interrupt, an error in the
    block), the temporary is removed and what stood at ``path`` stays as it was. A symbolic link is written through.

    Raises:
        FileError: the folder does not exist, ``path`` cannot be written, or the system reported an error while the
            block wrote. Exceptions of the block that are not ``OSError`` pass unchanged.
    """
    target = check_writable(path)
    # The suffix stays last, because writers choose the format by it.
    temporary = target.with_name(f".{secrets.token_hex(6)}.part{target.suffix}")
    try:
        yield temporary
        _replace(temporary, target)
    except OSError as error:
        raise FileError(f"cannot write '{path}': {error.strerror or error}") from error
    finally:
        _remove(temporary)


def check_writable(path: str | os.PathLike[str]) -> Path:
    """The absolute path, if a file may be written there as far as can be seen before it is.

    Raises:
        FileError: the folder does not exist or may not be written to, or something else than a file stands there.
    """
    try:
        target = Path(path).expanduser().resolve()
    except (OSError, RuntimeError) as error:  # links in a circle; an unknown user's home
        raise FileError(f"cannot write '{path}': {error}") from error
    if not target.name:
        raise FileError(f"cannot write '{path}': it is the root of all folders")
    if not target.parent.is_dir():
        raise FileError(f"cannot write '{path}': there is no folder '{target.parent}'")
    if target.exists():
        if not (target.is_file() or target.is_dir()):
            raise FileError(f"cannot write '{path}': not a regular file ('-' is standard output)")
        if not os.access(target, os.W_OK):
            raise FileError(f"cannot write '{path}': permission denied")
    elif not os.access(target.parent, os.W_OK):
        raise FileError(f"cannot write '{path}': the folder '{target.parent}' may not be written to")
    return target


def _replace(temporary: Path, target: Path) -> None:
    if temporary.is_dir():
        # A directory that is not empty cannot be renamed over: step aside, and back should the rename fail.
        aside = target.with_name(f"{temporary.name}.old")
        if target.exists():
            os.rename(target, aside)
        try:
            os.rename(temporary, target)
        except OSError:
            if aside.exists():
                os.rename(aside, target)
            raise
        _remove(aside)
        return
    if target.is_file():
        shutil.copymode(target, temporary)
    else:
        # Some writers make files that nobody else may read; a new file is as open as the user's umask says.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
    with temporary.open("rb+") as handle:
        os.fsync(handle.fileno())
    os.replace(temporary, target)


def _remove(path: Path) -> None:
    with suppress(OSError):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
