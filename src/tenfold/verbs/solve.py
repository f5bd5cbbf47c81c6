"""`solve`: an equation and its boundary values in, a function out."""

from __future__ import annotations

import os
import time
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tenfold._arguments import quoted
from tenfold._files import atomic, check_writable
from tenfold.errors import FileError, TenfoldError
from tenfold.pde import Problem, Step, find, read
from tenfold.verbs._options import check_options
from tenfold.verbs._progress import progress_bar
from tenfold.verbs.solution import Solution


def solve(
    problem: str | os.PathLike[str] | Mapping[str, Any] | Problem,
    *,
    method: str = "collocation",
    grid: int | Sequence[int] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool | None = None,
    **options: Any,
) -> Solution:
    """Solve a partial differential equation along one or two coordinates by a Gaussian process on a grid.

    Args:
        problem: a YAML file, ``"sample:NAME"``, a mapping with the same keys, or a `tenfold.pde.Problem`.
        method: ``"collocation"`` meets the equation at every point of the grid, under a spectrum read off the right
            side and the boundary values; ``"adam"`` is the descent of the paper.
        grid: points along each coordinate, or one number for all, in place of what the problem says.
        checkpoint: a file in which ``"adam"`` keeps its state; the same call goes on from there.
        progress: a bar on standard error; None shows it where that is a terminal.
        options: what the method takes besides; see `tenfold.pde.collocation` and `tenfold.pde.gp_hm`.

    Returns:
        The solution, which is a function of the coordinates. Interrupted, what there is until then.

    Raises:
        FileError: the problem or the checkpoint cannot be read.
        DataError: the grid is too coarse, or values are not finite.
        TenfoldError: what is given is no problem, or an argument cannot be used.

    Cost: that of the method.
    Paper: "Solving High Frequency and Multi-Scale PDEs with Gaussian Processes", 2024.
    """
    entry = find(method)
    check_options(entry, options, "solve")
    known = read(problem)
    if grid is not None:
        if not isinstance(grid, int | np.integer | Sequence) or isinstance(grid, str | bool):
            raise TenfoldError(f"grid must be a number of points, or one for each coordinate, not {quoted(grid)}")
        known = known.with_grid([int(grid)] if isinstance(grid, int | np.integer) else grid)
    if checkpoint is not None:
        if not entry.resumes:
            raise TenfoldError(f"method '{method}' has no checkpoint: it takes seconds; leave it out, or take 'adam'")
        place = check_writable(checkpoint)
        if place.is_file():
            options["resume"] = _state(place)
        options["keep"] = lambda state: _keep(place, state)
    began = time.perf_counter()
    with progress_bar(progress) as bar:

        def tell(step: Step) -> None:
            what = "width" if method == "collocation" else "step"
            bar.residual(f"{method}, {what}", step.number, step.total, step.residual)

        outcome = entry.function(known, callback=tell, **options)
    return Solution.of(known, outcome, method, time.perf_counter() - began)


def _keep(place: Path, state: Mapping[str, Tensor]) -> None:
    with atomic(place) as beside, beside.open("wb") as file:
        arrays: dict[str, Any] = {name: value.numpy() for name, value in state.items()}
        np.savez(file, **arrays)


def _state(place: Path) -> dict[str, Tensor]:
    try:
        with np.load(place, allow_pickle=False) as numbers:
            return {name: torch.from_numpy(numbers[name]) for name in numbers.files}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise FileError(f"'{place}' is no checkpoint of 'adam'; remove it, or give another file") from error
