"""Peers as contenders: absent ones say so, chatty ones are silenced."""

from __future__ import annotations

import contextlib
import importlib
import io
import warnings
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from benchmarks.harness import Contender


def load(package: str) -> tuple[ModuleType | None, str]:
    """The package, or None and why not."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(package), ""
    except Exception as cause:  # whatever keeps it from loading is the row's note
        return None, f"cannot import {package}: {type(cause).__name__}"


def dense_error(data: Tensor, dense: Callable[[Any], Any]) -> Callable[[Any], float]:
    """The relative error of a peer's result, from its dense tensor."""

    def error(result: Any) -> float:
        # In double precision: the norm of many numbers in single precision has too few digits.
        exact = data.double()
        return float((exact - torch.as_tensor(dense(result))).norm() / exact.norm())

    return error


def tensorly(
    name: str, data: Tensor, call: Callable[[ModuleType, Any], Any], dense: Callable[[ModuleType, Any], Any]
) -> list[Contender]:
    """TensorLy with both its backends; ``call`` and ``dense`` get the package and the data or a result."""
    module, missing = load("tensorly")
    made = []
    for backend, tensor in (("numpy", data.numpy()), ("pytorch", data)):

        def within(work: Callable[..., Any], backend: str = backend) -> Callable[..., Any]:
            def inside(*arguments: Any) -> Any:
                assert module is not None
                with module.backend_context(backend), warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    return work(module, *arguments)

            return inside

        run = within(lambda tl, tensor=tensor: call(tl, tensor))
        error = dense_error(data, within(dense))
        made.append(Contender(f"tensorly {name} ({backend})", run, error, missing))
    return made


def pyttb(
    name: str, data: Tensor, call: Callable[[ModuleType, Any], Any], dense: Callable[[Any], Any]
) -> list[Contender]:
    """pyttb; its tensor is made before the clock runs."""
    module, missing = load("pyttb")
    held = None if module is None else module.tensor(data.numpy())

    def run() -> Any:
        assert module is not None
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return call(module, held)

    return [Contender(f"pyttb {name}", run, dense_error(data, dense), missing)]


def tntorch(name: str, data: Tensor, call: Callable[[ModuleType, Any], Any]) -> list[Contender]:
    """tntorch; a result is one of its tensors."""
    module, missing = load("tntorch")
    return [
        Contender(
            f"tntorch {name}", lambda: call(module, data), dense_error(data, lambda found: found.torch()), missing
        )
    ]


def torchtt(name: str, data: Tensor, call: Callable[[ModuleType, Any], Any]) -> list[Contender]:
    """torchTT, by its Python code where its extension in C++ is not built."""
    module, missing = load("torchtt")
    return [
        Contender(f"torchTT {name}", lambda: call(module, data), dense_error(data, lambda found: found.full()), missing)
    ]


def sptensor(coordinates: Tensor, values: Tensor, shape: Sequence[int]) -> tuple[Any, str]:
    """A sparse tensor of pyttb's, or None and why not.

    pyttb starts the threads of Numba, which sets the number of torch's too; so they are started here.
    """
    module, missing = load("pyttb")
    if module is None:
        return None, missing
    import numba

    threads = torch.get_num_threads()
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
    torch.set_num_threads(threads)
    return module.sptensor(coordinates.numpy(), values.numpy()[:, None], tuple(shape)), ""
