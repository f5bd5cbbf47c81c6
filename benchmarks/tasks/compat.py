"""Scripts written for TensorLy, with one import line changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from benchmarks import data, peers
from benchmarks.harness import Case, Contender
from tenfold import formats
from tenfold.compat import tensorly as compat

TITLE = "Scripts for TensorLy with one import line changed, default settings"


def cases(smoke: bool) -> Iterator[Case]:
    """The same call with TensorLy's functions and with tenfold's; random states are fixed, nothing else is set.

    Both stop by the rule of TensorLy, each where it arrives. Errors may differ by a hundredth: the starts differ.
    """
    size, deep, rank = (8, 4, 2) if smoke else (100, 10, 5)
    cp, _ = data.planted(formats.cp([size] * 3, rank))
    tucker, _ = data.planted(formats.tucker([size] * 3, rank))
    train, _ = data.planted(formats.tensor_train([deep] * 5, 3))
    positive = cp.abs()
    ring, _ = data.planted(formats.tensor_ring([2 * deep] * 3, 2))
    yield _case("parafac", cp, lambda f, x: f(x, rank, random_state=0))
    yield _case("non_negative_parafac_hals", positive, lambda f, x: f(x, rank, random_state=0))
    yield _case("tucker", tucker, lambda f, x: f(x, [rank] * 3))
    yield _case("partial_tucker", tucker, lambda f, x: f(x, [rank] * 2, modes=[0, 1]))
    yield _case("tensor_train", train, lambda f, x: f(x, [1, 3, 3, 3, 3, 1]))
    yield _case("tensor_ring_als", ring, lambda f, x: f(x, 2, random_state=0))


_DENSE: dict[str, Callable[[Any], Any]] = {
    "parafac": lambda r: np.einsum("r,ir,jr,kr->ijk", *_plain(r[0], *r[1])),
    "non_negative_parafac_hals": lambda r: np.einsum("r,ir,jr,kr->ijk", *_plain(r[0], *r[1])),
    "tucker": lambda r: np.einsum("abc,ia,jb,kc->ijk", *_plain(r[0], *r[1]), optimize=True),
    "partial_tucker": lambda r: np.einsum("abk,ia,jb->ijk", *_plain(r[0][0], *r[0][1]), optimize=True),
    "tensor_train": lambda r: np.einsum("aib,bjc,ckd,dle,emf->ijklm", *_plain(*r), optimize=True),
    "tensor_ring_als": lambda r: np.einsum("aib,bjc,cka->ijk", *_plain(*r), optimize=True),
}


def _plain(*arrays: Any) -> list[Any]:
    return [np.asarray(array) for array in arrays]


def _case(name: str, tensor: torch.Tensor, call: Callable[[Any, Any], Any]) -> Case:
    def theirs(tl: Any, x: Any) -> Any:
        return call(getattr(tl.decomposition, name), x)

    mine = getattr(compat, name)
    error = peers.dense_error(tensor, _DENSE[name])
    array = tensor.numpy()
    return Case(
        f"{name}, {'x'.join(map(str, tensor.shape))}",
        0,
        [
            Contender("tenfold.compat (numpy)", lambda: call(mine, array), error),
            Contender("tenfold.compat (torch)", lambda: call(mine, tensor), error),
            *peers.tensorly(name, tensor, theirs, lambda tl, result: _DENSE[name](result)),
        ],
        agreement=1e-2,
    )
