"""`stability`: one CP structure fitted from many starts, and how alike the components are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from tenfold import formats
from tenfold._arguments import whole_number
from tenfold._threads import threads_for
from tenfold.decomposition import find
from tenfold.errors import StructureError, TenfoldError
from tenfold.network import Network
from tenfold.structure import Structure
from tenfold.structure_search.restarts import Restarts, restarts
from tenfold.verbs._arrays import prepare
from tenfold.verbs._progress import progress_bar

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Fits of one structure from different starts, best first.

    Attributes:
        runs: the networks, their errors, and the factor match score of every two.
    """

    runs: Restarts

    @property
    def best(self) -> Network:
        """The network of the least error."""
        return self.runs.networks[0]

    @property
    def errors(self) -> tuple[float, ...]:
        """The relative error of each start, ascending."""
        return self.runs.errors

    @property
    def scores(self) -> Float[Tensor, "starts starts"]:
        """The factor match score of every two starts, in the order of ``errors``."""
        return self.runs.scores

    @property
    def stability(self) -> float:
        """The mean score between the best start and those as good; 1 where they all find the same components."""
        return self.runs.stability

    def plot(self) -> Figure:
        """A matplotlib figure: similarity to the best against error, and the scores of all pairs."""
        from tenfold.report.ensemble import plot_ensemble

        return plot_ensemble(self)

    def __str__(self) -> str:
        starts, near = len(self.errors), len(self.runs.near)
        return (
            f"{starts} starts, errors {self.errors[0]:.5g} to {self.errors[-1]:.5g}; {near} of them within 1% of the "
            f"least, whose components agree with the best to {self.stability:.3f}"
        )

    __repr__ = __str__


def stability(
    data: Any,
    structure: Structure | str | int,
    starts: int = 10,
    *,
    sizes: Mapping[str, int] | None = None,
    method: str | None = None,
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
    dtype: torch.dtype | str | None = None,
    progress: bool | None = None,
) -> Ensemble:
    """Fit a CP structure from several random starts and compare the components that they find.

    Args:
        data: an array as `tenfold.fit` takes it.
        structure: a CP structure, a pattern of one with ``sizes`` for its inner index, or a number of components.
        starts: how many, at least 2.
        sizes: index sizes for a pattern.
        method: the name of a method; the one made for the structure by default.
        options: what the method takes besides, such as ``{"max_sweeps": 1000}``.
        seed: fixes every random draw.
        dtype: compute in this dtype instead of the data's own.
        progress: show a progress bar on standard error; by default when that is a terminal.

    Raises:
        DataError: the data cannot be fitted.
        StructureError: the structure is not CP, or does not fit the data.
        TenfoldError: ``starts`` is below 2, ``seed`` below 0, or there is no such method.

    Cost: that of ``starts`` fits.
    """
    ready = prepare(data, dtype=dtype)
    if isinstance(starts, bool) or not isinstance(starts, int) or starts < 2:
        raise TenfoldError(f"starts must be a whole number of at least 2, to be compared, not {starts!r}")
    seed = whole_number("seed", seed, 0)
    if isinstance(structure, int):
        full = formats.cp(ready.shape, structure)
    elif isinstance(structure, str):
        full = Structure.for_shape(structure, ready.shape, dict(sizes or {}))
    else:
        full = structure
    if full.shape != ready.shape:
        raise StructureError(f"'{full}' makes shape {full.shape}, but the data has shape {ready.shape}")
    entry = None if method is None else find(method)
    with threads_for(ready.cells), progress_bar(progress) as bar:
        runs = restarts(
            ready.whole,
            full,
            starts=starts,
            seed=seed,
            method=entry,
            options=options,
            on_start=lambda start: bar.rung(f"start {start + 1}", start, starts),
        )
    return Ensemble(runs)
