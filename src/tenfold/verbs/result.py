"""`Fit`: what the verb `fit` returns, and its record in a file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from torch import Tensor

from tenfold import formats
from tenfold._blocks import Blocks
from tenfold.components import Components, canonical
from tenfold.contraction import ratio
from tenfold.network import Network
from tenfold.observations import Observations
from tenfold.structure import Structure
from tenfold.structure_search import Trial

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, eq=False)
class Fit:
    """What `fit` found: a network, its true error, and everything that was tried on the way.

    Attributes:
        network: the fitted network.
        error: its true relative Frobenius error ``|X - N| / |X|`` (over what is observed).
        method: the method that made it.
        seconds: the time the whole fit took.
        stopped: why it ended: ``"exact"``, ``"tol"``, ``"max_sweeps"``, ``"error"``, ``"budget"`` (a ladder that met
            its budget), ``"best"`` (a ladder that could not), ``"tried"`` (one without a budget), ``"interrupted"``.
        target: what was asked for, in words.
        front: every network that was tried, without its numbers.
        dims: the names of the axes.
        coordinates: labels or positions along axes, by name.
        units: the units of coordinates, by name.
        of_loss: whether ``error`` is a loss that was given in place of data, and no relative error.
        deviance: the Poisson deviance (`poisson_deviance` in ``decomposition.cp_poisson``), where that was minimised.
        spectra: singular values of the unfolding along each axis, largest first (whole arrays only, where known).
        source, source_dtype: where the data came from and how its numbers were stored.
        observed, cells: how many cells were known, of how many.
        seed: the seed of all random draws.
        searched: what a search beyond the common formats did and gained, in words; empty where there was none.
        data: what was fitted, `Blocks` where it was not in memory; None for a fit read from a file.
    """

    network: Network
    error: float
    method: str
    seconds: float
    stopped: str
    target: str
    front: tuple[Trial, ...]
    dims: tuple[str, ...]
    coordinates: Mapping[str, np.ndarray]
    spectra: Mapping[str, tuple[float, ...]]
    source: str | None
    source_dtype: str
    observed: int
    cells: int
    seed: int
    data: Tensor | Observations | Blocks | None = field(default=None, repr=False)
    units: Mapping[str, str] = field(default_factory=dict)
    deviance: float | None = None
    of_loss: bool = False
    searched: str = ""

    @property
    def measure(self) -> str:
        """What ``error`` is called."""
        return "loss" if self.of_loss else "relative error"

    @property
    def subject(self) -> str:
        """What it was fitted to: the name that the data or the loss came with, else "array" or "loss"."""
        return str(self.source or ("loss" if self.of_loss else "array"))

    @property
    def structure(self) -> Structure:
        return self.network.structure

    @property
    def parameters(self) -> int:
        return self.network.parameters

    @property
    def shape(self) -> tuple[int, ...]:
        return self.network.shape

    @property
    def ratio(self) -> float:
        """Entries of the array for each parameter of the network."""
        return ratio(self.structure.size, self.parameters)

    @property
    def format(self) -> str | None:
        """The name of the format, the one that was asked for where the structure has several; None without one."""
        return formats.name(self.structure, next((trial.name for trial in self.front if trial.chosen), ""))

    @property
    def interrupted(self) -> bool:
        return self.stopped == "interrupted"

    @property
    def why_stopped(self) -> str:
        """``stopped`` in words."""
        return _STOPPED.get(self.stopped, self.stopped)

    def summary(self) -> dict[str, Any]:
        """The result as plain numbers and text, for JSON."""
        return {
            **{name: getattr(self, name) for name in _PLAIN},
            "structure": self.structure.pattern,
            "sizes": dict(self.structure.sizes),
            "format": self.format,
            "shape": list(self.shape),
            "dims": list(self.dims),
            "parameters": self.parameters,
            "ratio": self.ratio,
            "tried": len(self.front),
        }

    def components(
        self, order: Literal["weight", "drop"] = "weight", sign: Literal["max", "data"] = "max"
    ) -> Components:
        """The components of a CP network in canonical form, with the names of the axes; prints as a table.

        Raises:
            StructureError: the network is no sum of rank-one terms.
            DataError: ``sign="data"`` without the whole array, as after loading from a file.
        """
        data = self.data if isinstance(self.data, Tensor) else None
        return canonical(self.network, order, sign, data=data).named(self.dims, self.coordinates)

    def report(self, path: str | os.PathLike[str], *, saved: str | None = None) -> None:
        """Write one HTML page that opens offline: drawing, front, pictures, spectra, factors.

        Args:
            path: where.
            saved: the file that the network was saved to, for the page to name it.
        """
        from tenfold import report

        report.write(self, path, saved=saved)

    def plot(self) -> Figure:
        """A matplotlib figure: the network, the front and the error at a glance."""
        from tenfold import report

        return report.plot(self)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write network and record to one file, ``.tn`` by custom; `tenfold.load` reads it. The data is not in it."""
        self.network.save(path, record={"fit": _record(self)})

    def __str__(self) -> str:
        from tenfold.verbs._table import table

        return table(self)

    __repr__ = __str__


_STOPPED = {
    "budget": "within what was asked for",
    "best": "nothing tried is within what was asked for",
    "tried": "everything was tried",
    "interrupted": "interrupted; this is the best until then",
    "exact": "no sweeps were needed",
    "tol": "the error no longer fell",
    "max_sweeps": "all sweeps were done; more may lower the error",
    "error": "the error asked for was reached",
}

# --- the record in a file ---------------------------------------------------------------------------------------------

_PLAIN = (
    "error",
    "of_loss",
    "deviance",
    "method",
    "seconds",
    "stopped",
    "target",
    "searched",
    "source",
    "source_dtype",
    "observed",
    "cells",
    "seed",
)


def _record(fit: Fit) -> dict[str, Any]:
    return {
        **{name: getattr(fit, name) for name in _PLAIN},
        "dims": list(fit.dims),
        "coordinates": {dim: _labels(values) for dim, values in fit.coordinates.items()},
        "units": dict(fit.units),
        "spectra": {dim: list(values) for dim, values in fit.spectra.items()},
        "front": [
            {
                "name": trial.name,
                "pattern": trial.structure.pattern,
                "sizes": dict(trial.structure.sizes),
                "error": trial.error,
                "seconds": trial.seconds,
                "method": trial.method,
                "held_out": trial.held_out,
                "chosen": trial.chosen,
            }
            for trial in fit.front
        ],
    }


def _labels(values: np.ndarray) -> dict[str, Any]:
    if values.dtype.kind in "mM":
        # In their own unit: nanoseconds reach from 1678 to 2262 only.
        return {"dtype": values.dtype.newbyteorder("=").str, "values": values.astype(np.int64).tolist()}
    if values.dtype.kind == "f" and values.dtype.itemsize > 8:
        values = values.astype(np.float64)
    if values.dtype.kind in "biuf":
        return {"dtype": values.dtype.str, "values": values.tolist()}
    return {"dtype": "str", "values": [str(value) for value in values.tolist()]}


def from_record(network: Network, record: Mapping[str, Any]) -> Fit:
    """The `Fit` whose record was saved with ``network``. Raises KeyError, TypeError or ValueError for anything else."""
    front = []
    for item in record["front"]:
        structure = Structure(item["pattern"], dict(item["sizes"]))
        held_out = None if item["held_out"] is None else float(item["held_out"])
        front.append(
            Trial(
                name=str(item["name"]),
                structure=structure,
                parameters=structure.parameters,
                error=float(item["error"]),
                seconds=float(item["seconds"]),
                method=str(item["method"]),
                held_out=held_out,
                chosen=bool(item["chosen"]),
            )
        )
    dims = tuple(str(dim) for dim in record["dims"])
    if len(dims) != len(network.shape) or len(set(dims)) != len(dims):
        raise ValueError(f"dims {dims} do not name the {len(network.shape)} axes")
    extents = dict(zip(dims, network.shape, strict=True))
    coordinates = {}
    for dim, labels in record["coordinates"].items():
        kind = np.dtype(labels["dtype"])
        # Strings say no length: they are as long as they are.
        if kind.kind not in "biufmM" and labels["dtype"] != "str":
            raise ValueError(f"coordinates of '{dim}' have the dtype {kind}")
        coordinates[dim] = np.asarray(labels["values"], dtype=kind)
        if coordinates[dim].shape != (extents[dim],):
            raise ValueError(f"coordinates of '{dim}' have shape {coordinates[dim].shape}, not ({extents[dim]},)")
    return Fit(
        network=network,
        front=tuple(front),
        dims=dims,
        coordinates=coordinates,
        units={str(dim): str(unit) for dim, unit in record.get("units", {}).items()},
        spectra={str(dim): tuple(float(v) for v in values) for dim, values in record["spectra"].items()},
        error=float(record["error"]),
        of_loss=bool(record.get("of_loss", False)),
        deviance=None if record.get("deviance") is None else float(record["deviance"]),
        method=str(record["method"]),
        seconds=float(record["seconds"]),
        stopped=str(record["stopped"]),
        target=str(record["target"]),
        searched=str(record.get("searched", "")),
        source=None if record["source"] is None else str(record["source"]),
        source_dtype=str(record["source_dtype"]),
        observed=int(record["observed"]),
        cells=int(record["cells"]),
        seed=int(record["seed"]),
    )
