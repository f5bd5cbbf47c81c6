"""One fit of a completion model, which can be interrupted and go on."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from tenfold._files import atomic
from tenfold.completion import Entry, Model, State, Step, Task
from tenfold.errors import FileError
from tenfold.verbs._progress import Bar
from tenfold.verbs._seal import seal

# Seconds between two times that an unfinished fit is written.
_OFTEN = 5.0


class Stopped(Exception):
    """Ctrl-C during a fit that had come somewhere.

    Attributes:
        model: what it had come to.
    """

    def __init__(self, model: Model) -> None:
        super().__init__("interrupted")
        self.model = model


@dataclass(frozen=True)
class Fitting:
    """Fits of one call of `complete`: how they are shown, kept, and with what options.

    Attributes:
        bar: where they are shown.
        journal: where they are kept, None where they are not.
        seed: of all random draws.
        limits: ``epochs`` and ``tol``, where they are given.
        options: what a method takes besides.
    """

    bar: Bar
    journal: Journal | None
    seed: int
    limits: Mapping[str, Any]
    options: Mapping[str, Any]

    def fit(self, entry: Entry, task: Task, rank: int | None, label: str) -> tuple[Model, float]:
        """The model fitted to a task, and the time that took.

        Raises:
            Stopped: Ctrl-C after the first epoch. KeyboardInterrupt: before.
        """
        started = time.perf_counter()
        key = f"{label}-{entry.name}-{rank}"
        kept = None if self.journal is None else self.journal.read(key)
        if kept is not None and kept.done:
            return entry.restore(kept.state), kept.seconds
        before = 0.0 if kept is None else kept.seconds
        latest: list[Step] = []
        written = time.monotonic()
        words = entry.name if rank is None else f"{entry.name}, rank {rank}"

        def callback(step: Step) -> None:
            nonlocal written
            latest[:] = [step]
            self.bar.epoch(words, step.epoch, step.epochs, step.error)
            if self.journal is not None and time.monotonic() - written > _OFTEN:
                self.journal.write(key, Kept(step.state(), False, before + time.perf_counter() - started))
                written = time.monotonic()

        asked = {"rank": rank} if rank is not None else {}
        own = {name: given for name, given in self.options.items() if name in entry.options}
        try:
            model = entry.function(
                task,
                seed=self.seed,
                callback=callback,
                resume=None if kept is None else kept.state,
                **asked,
                **self.limits,
                **own,
            )
        except KeyboardInterrupt:
            if not latest:
                raise
            state = latest[0].state()
            if self.journal is not None:
                self.journal.write(key, Kept(state, False, before + time.perf_counter() - started))
            raise Stopped(entry.restore(state)) from None
        seconds = before + time.perf_counter() - started
        if self.journal is not None:
            self.journal.write(key, Kept(model.state(), True, seconds))
        return model, seconds


@dataclass(frozen=True)
class Kept:
    """A fit in a journal: how far it had come, whether that was its end, and the time until then."""

    state: State
    done: bool
    seconds: float


class Journal:
    """A folder with the fits of one call, so that the same call goes on from there.

    Args:
        folder: where; it is made where it is not there.
        facts: what the call is: the same facts and data are the same call.
        data: what it is about.

    Raises:
        FileError: the folder cannot be used, or holds the fits of another call.
    """

    def __init__(self, folder: str | os.PathLike[str], facts: Mapping[str, Any], data: Task) -> None:
        self.folder = Path(folder).expanduser()
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode())
        for tensor in (data.coordinates, data.values, data.weights, data.attributes):
            digest.update(b"none" if tensor is None else tensor.contiguous().numpy().tobytes())
        call = digest.hexdigest()
        try:
            self.folder.mkdir(exist_ok=True)
            note = self.folder / "call.json"
            if note.exists():
                if json.loads(note.read_text(encoding="utf-8")).get("call") != call:
                    raise FileError(
                        f"checkpoint '{folder}' is of other data or arguments, or of another version of tenfold: "
                        f"name another folder, or remove this one"
                    )
            elif any(self.folder.iterdir()):
                raise FileError(f"checkpoint '{folder}' is a folder with other files in it: name an empty or new one")
            else:
                with atomic(note) as beside:
                    beside.write_text(json.dumps({"call": call}) + "\n", encoding="utf-8")
        except FileError:
            raise
        except (OSError, ValueError, AttributeError) as error:
            said = getattr(error, "strerror", None) or error
            raise FileError(f"checkpoint '{folder}' cannot be used: {said}") from error

    def read(self, key: str) -> Kept | None:
        """What is kept under a key; None where nothing is, or nothing that can be read."""
        try:
            with safe_open(os.fspath(self._path(key)), framework="pt") as file:
                found = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if found["seal"] != seal(found["fit"], tensors):
                return None
            header = json.loads(found["fit"])
        except (OSError, SafetensorError, KeyError, ValueError):
            return None
        return Kept(State(tensors, header["facts"]), bool(header["done"]), float(header["seconds"]))

    def write(self, key: str, kept: Kept) -> None:
        """Keep a fit; what was kept under the key before is there until the new one is whole."""
        header = {"facts": dict(kept.state.facts), "done": kept.done, "seconds": kept.seconds}
        tensors = {name: tensor.detach().clone().contiguous() for name, tensor in kept.state.tensors.items()}
        tensors = tensors or {"nothing": torch.zeros(1)}
        text = json.dumps(header)
        with atomic(self._path(key)) as beside:
            try:
                save_file(tensors, beside, metadata={"fit": text, "seal": seal(text, tensors)})
            except SafetensorError as cause:
                raise OSError(str(cause)) from cause

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.safetensors"
