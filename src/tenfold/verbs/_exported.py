"""A model as a program that runs without the classes it was made of."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any

import torch
from torch import Tensor, nn

from tenfold._files import atomic
from tenfold.errors import TenfoldError


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the graphs that torch prints where it fails; what it raises says enough."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(before)


def export(model: nn.Module, path: str | os.PathLike[str], example: Any, dynamic_shapes: Any = None) -> None:
    """Write the program of ``torch.export``; by default the first axis of each input is free where torch lets it be.

    Raises:
        TenfoldError: there is no example, or torch cannot export the model.
        FileError: the file cannot be written.
    """
    if example is None:
        raise TenfoldError("export needs example=, one batch of inputs")
    words: dict[str, Any] = dict(example) if isinstance(example, Mapping) else {}
    given: tuple[Any, ...] = () if words else (example[0] if isinstance(example, tuple | list) else example,)
    batch = torch.export.Dim.AUTO

    def free(value: Any) -> Any:
        return {0: batch} if isinstance(value, Tensor) and value.ndim and len(value) > 1 else None

    shapes = dynamic_shapes
    if shapes is None:
        shapes = {name: free(value) for name, value in words.items()} if words else tuple(map(free, given))
    try:
        with torch.no_grad(), _quiet():
            program = torch.export.export(model, given, words or None, dynamic_shapes=shapes)
    except Exception as error:
        said = " ".join(str(error).split())[:200]
        raise TenfoldError(f"torch cannot export this {type(model).__name__}: {said}") from error
    # The program would keep the whole example; what it takes is in its signature.
    program.example_inputs = None
    with atomic(path) as beside:
        torch.export.save(program, beside)
