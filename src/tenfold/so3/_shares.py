"""Rows of a kernel's work, shared between threads."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch

from tenfold import _team


def shared(rows: int, run: Callable[[int, int], Any], threads: int | None = None) -> None:
    """``run(first, last)`` over all rows, shared between as many threads as torch has, or fewer.

    What a row becomes must not depend on where the shares begin.
    """
    number = min(rows, torch.get_num_threads() if threads is None else threads)
    if number <= 1:
        run(0, rows)
        return
    bounds = [rows * k // number for k in range(number + 1)]
    _team.shared(list(pairwise(bounds)), lambda _, share: run(*share), number)
