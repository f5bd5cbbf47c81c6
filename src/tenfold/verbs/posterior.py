"""`Posterior`: what the verb `complete` returns."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from tenfold._arguments import closest, quoted, real_number, whole_number
from tenfold._files import atomic
from tenfold.completion import Model, State, find
from tenfold.errors import DataError, FileError, TenfoldError
from tenfold.verbs._budget import check_seed
from tenfold.verbs._diagnosis import Diagnosis, HeldOut, Tried
from tenfold.verbs._modes import Mode
from tenfold.verbs._observed import Observed
from tenfold.verbs._seal import seal
from tenfold.verbs._spread import Counts, Spread, spread_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# One more whenever the record of a posterior or the state of a model changes.
FILE_VERSION = 2
# Points that are predicted at once.
_CHUNK = 200_000
# Points of a whole array that `mean()` without points may have.
_CELLS = 50_000_000


@dataclass(frozen=True, eq=False, repr=False)
class Posterior:
    """What is known of a tensor after some of it was observed: a mean, an interval and a sample anywhere.

    Points are given as a mapping from the name of each mode to one value or as many as there are points, in the units
    of the data; as a table with these columns; or as an array with a column for each mode.

    Attributes:
        method: the name of the model.
        rank: its rank, None where it has none.
        modes: what the modes are.
        value: what the values are called.
        attribute_names: what is to be given besides for each point.
        model: the fitted model itself, whose units are ``(value - center) / scale``.
        spread: the distribution of observations around the prediction; its width was set by observations held out.
        held_out: how well observations that were held out are predicted; None where none was.
        diagnosis: what there is to worry about, and which observations matter most.
        tried: all models that were compared, in the order they were.
        observations: how many there were.
        empty: how many rows of a table had no value and were left out.
        seconds: the time everything took.
        seed: the seed of all random draws.
        source: where the data came from.
        stopped: why the fit ended; ``"interrupted"`` by Ctrl-C.
        data: what was completed; None for a posterior read from a file.
    """

    method: str
    rank: int | None
    modes: tuple[Mode, ...]
    value: str
    attribute_names: tuple[str, ...]
    model: Model
    center: float
    scale: float
    spread: Spread
    held_out: HeldOut | None
    diagnosis: Diagnosis
    tried: tuple[Tried, ...]
    observations: int
    empty: int
    seconds: float
    seed: int
    source: str
    stopped: str
    data: Observed | None = field(default=None)

    # --- what it predicts -------------------------------------------------------------------------------------------

    def mean(self, points: Any = None, *, attributes: Any = None) -> np.ndarray:
        """The expected value at points; without points the whole array over all levels that were observed.

        Returns:
            One number for each point, or an array with an axis for each mode.

        Raises:
            DataError: a mode that is missing or not known, a level that is not known, or no number.
        """
        if points is None:
            grid = self._grid()
            return self._predicted(grid, None)[0].reshape([mode.size for mode in self.modes])
        return self._at(points, attributes)[0]

    def std(self, points: Any = None, *, attributes: Any = None, noise: bool = True) -> np.ndarray:
        """The standard deviation of an observation at points; without ``noise`` that of the mean alone.

        Raises:
            DataError: as `mean` does, and where ``noise`` is false and the model has no uncertainty of its own.
        """
        if points is None:
            grid = self._grid()
            return self._deviation(self._predicted(grid, None), noise).reshape([mode.size for mode in self.modes])
        return self._deviation(self._at(points, attributes), noise)

    def quantiles(self, points: Any, q: Sequence[float] = (0.05, 0.5, 0.95), *, attributes: Any = None) -> np.ndarray:
        """Quantiles of an observation at points, of shape (points, quantiles).

        Raises:
            DataError: as `mean` does. TenfoldError: a quantile that is not between 0 and 1.
        """
        asked: list[Any] = list(q) if isinstance(q, list | tuple | np.ndarray) and np.ndim(q) else [q]
        if not asked:
            raise TenfoldError("q is empty: give at least one number between 0 and 1")
        for one in asked:
            if not 0 < real_number("q", one, "numbers between 0 and 1") < 1:
                raise TenfoldError(f"q is {one}: a quantile is between 0 and 1, both excluded")
        mean, _, total = self._at(points, attributes)
        return np.stack([self.spread.quantile(float(one), mean, total) for one in asked], 1)

    def sample(self, points: Any, count: int = 1, *, attributes: Any = None, seed: int = 0) -> np.ndarray:
        """Observations drawn at points, each point for itself, of shape (count, points)."""
        number = whole_number("count", count, 1)
        seed = check_seed(seed)
        mean, _, total = self._at(points, attributes)
        return self.spread.sample(number, mean, total, np.random.default_rng(seed))

    def log_density(self, points: Any, values: Any, *, attributes: Any = None) -> np.ndarray:
        """The logarithm of the predictive density (of counts, the probability) of values at points."""
        mean, _, total = self._at(points, attributes)
        try:
            given = np.broadcast_to(np.asarray(values, dtype=np.float64), mean.shape)
        except (ValueError, TypeError):
            raise DataError(f"values must be {len(mean)} numbers, one for each point, not {quoted(values)}") from None
        return self.spread.log_density(given, mean, total)

    def _at(self, points: Any, attributes: Any) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
        coordinates = self._encoded(points)
        return self._predicted(coordinates, self._given_attributes(attributes, len(coordinates)))

    def predict_encoded(
        self, coordinates: torch.Tensor, attributes: torch.Tensor | None
    ) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
        """Mean, standard deviation of the mean and of an observation before ``spread``, in the units of the data."""
        return self._predicted(coordinates.numpy(), attributes)

    def _predicted(
        self, coordinates: np.ndarray, attributes: torch.Tensor | None
    ) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
        means, deviations, totals = [], [], []
        for start in range(0, len(coordinates), _CHUNK):
            part = slice(start, start + _CHUNK)
            some = None if attributes is None else attributes[part]
            found = self.model.predict(torch.from_numpy(coordinates[part]), some)
            means.append(found.mean.detach().double().numpy())
            noise = np.broadcast_to(found.noise.detach().double().numpy(), means[-1].shape)
            own = None if found.variance is None else found.variance.detach().double().clamp(min=0).numpy()
            if own is not None:
                deviations.append(np.sqrt(own))
            totals.append(np.sqrt(noise + (0.0 if own is None else own)))
        mean = np.concatenate(means) * self.scale + self.center
        own_deviation = np.concatenate(deviations) * self.scale if deviations else None
        return mean, own_deviation, np.concatenate(totals) * self.scale

    def _deviation(self, found: tuple[np.ndarray, np.ndarray | None, np.ndarray], noise: bool) -> np.ndarray:
        mean, own, total = found
        if noise:
            return self.spread.deviation(mean, total)
        if own is None:
            raise DataError(
                f"model '{self.method}' has no uncertainty of its mean; noise=True tells that of observations"
            )
        return own

    # --- points -----------------------------------------------------------------------------------------------------

    def _encoded(self, points: Any) -> np.ndarray:
        names = [mode.name for mode in self.modes]
        if hasattr(points, "columns") and hasattr(points, "iloc"):
            points = {str(name): points[name].to_numpy() for name in points.columns if str(name) in names}
        if isinstance(points, Mapping):
            for name in points:
                if name not in names:
                    raise DataError(f"there is no mode '{name}'{closest(str(name), names)}; give {', '.join(names)}")
            lacking = [name for name in names if name not in points]
            if lacking:
                raise DataError(f"points lack mode '{lacking[0]}': give {', '.join(names)}")
            columns = [mode.encode(points[mode.name]) for mode in self.modes]
        else:
            # Rows of several types keep them: as one array text would be made of numbers, and fractions of ids.
            rows = isinstance(points, list | tuple) and not any(
                isinstance(p, np.ndarray | torch.Tensor) for p in points
            )
            try:
                table = np.asarray(points, dtype=object if rows else None)
            except ValueError:
                table = np.array([()])
            if rows and any(isinstance(value, list | tuple) for value in table.flat):
                raise DataError(f"points are no table: give rows of {len(names)}, one for each of {', '.join(names)}")
            if table.ndim == 1 and len(names) > 1:
                table = table[None]
            if table.ndim == 1:
                table = table[:, None]
            if table.ndim != 2 or table.shape[1] != len(names):
                raise DataError(
                    f"points have shape {table.shape}: give a column for each of {', '.join(names)}, or a mapping"
                )
            parts = [np.asarray(column.tolist()) if rows else column for column in table.T]
            columns = [mode.encode(column) for mode, column in zip(self.modes, parts, strict=True)]
        count = max(map(len, columns))
        for name, column in zip(names, columns, strict=True):
            if len(column) not in (1, count):
                raise DataError(f"mode '{name}' has {len(column)} values and another {count}: give as many, or one")
        if not count or not min(map(len, columns)):
            raise DataError("points are empty: give at least one")
        return np.stack([np.broadcast_to(column, (count,)) for column in columns], 1)

    def _given_attributes(self, given: Any, rows: int) -> torch.Tensor | None:
        if not self.attribute_names:
            if given is not None:
                raise DataError("attributes are given, but the model was fitted without; leave them out")
            return None
        if given is None:
            raise DataError(f"attributes are missing: give {', '.join(self.attribute_names)} for each point")
        if isinstance(given, Mapping):
            lacking = [name for name in self.attribute_names if name not in given]
            if lacking:
                raise DataError(f"attributes lack '{lacking[0]}': give {', '.join(self.attribute_names)}")
            parts = [given[name] for name in self.attribute_names]
        else:
            parts = None
        names = self.attribute_names
        try:
            if parts is not None:
                table = np.stack([np.broadcast_to(np.asarray(one, dtype=np.float64), (rows,)) for one in parts], 1)
            else:
                table = np.asarray(given, dtype=np.float64)
                # One attribute may come as a number for each point, several of one point as a row.
                table = table[:, None] if table.ndim == 1 and len(names) == 1 else table
                table = np.broadcast_to(table, (rows, len(names)))
        except (ValueError, TypeError):
            raise DataError(
                f"attributes must be numbers, a row of {', '.join(names)} for each of {rows} points, "
                f"not {quoted(given)}"
            ) from None
        if not np.isfinite(table).all():
            raise DataError("attributes hold NaN or inf: give finite numbers")
        return torch.from_numpy(np.array(table, order="C"))

    def _grid(self) -> np.ndarray:
        cells = math.prod(mode.size for mode in self.modes)
        if self.attribute_names:
            raise DataError("the whole array needs attributes for each of its cells: give points with theirs")
        if cells > _CELLS:
            raise DataError(f"the whole array has {cells:,} cells, too many to predict at once: give points")
        axes = np.meshgrid(*(mode.positions() for mode in self.modes), indexing="ij")
        return np.stack([axis.ravel() for axis in axes], 1)

    # --- what people see ----------------------------------------------------------------------------------------------

    @property
    def interrupted(self) -> bool:
        return self.stopped == "interrupted"

    @property
    def counts(self) -> bool:
        """Whether the values are counts."""
        return isinstance(self.spread, Counts)

    def summary(self) -> dict[str, Any]:
        """The result as plain numbers and text, for JSON."""
        return {
            "method": self.method,
            "rank": self.rank,
            "value": self.value,
            "modes": [{"name": mode.name, "continuous": mode.continuous, "size": mode.size} for mode in self.modes],
            "observations": self.observations,
            "rows_without_value": self.empty,
            "held_out": None if self.held_out is None else self.held_out.record(),
            "tried": [one.record() for one in self.tried],
            "warnings": list(self.diagnosis.warnings),
            "parameters": self.model.parameters,
            "evidence": self.model.evidence,
            "seconds": self.seconds,
            "stopped": self.stopped,
            "seed": self.seed,
            "source": self.source,
        }

    def __str__(self) -> str:
        from tenfold.verbs._posterior_table import table

        return table(self)

    __repr__ = __str__

    def plot(self) -> Figure:
        """A matplotlib figure: predicted against observed, calibration, residuals by mode."""
        from tenfold import report

        return report.plot_posterior(self)

    def report(self, path: str | os.PathLike[str], *, saved: str | None = None) -> None:
        """Write one HTML page that opens offline: how good the predictions are, slices, what matters, what worries.

        Args:
            path: where.
            saved: the file that the posterior was saved to, for the page to name it.
        """
        from tenfold import report

        report.write_posterior(self, path, saved=saved)

    # --- files --------------------------------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model and its record to one file, ``.tn`` by custom; `tenfold.load` reads it. No data is in it."""
        state = self.model.state()
        tensors = {f"model.{name}": tensor.detach().clone().contiguous() for name, tensor in state.tensors.items()}
        record = {
            "method": self.method,
            "rank": self.rank,
            "modes": [mode.record() for mode in self.modes],
            "value": self.value,
            "attribute_names": list(self.attribute_names),
            "facts": dict(state.facts),
            "center": self.center,
            "scale": self.scale,
            "spread": self.spread.record(),
            "held_out": None if self.held_out is None else self.held_out.record(),
            "diagnosis": self.diagnosis.record(),
            "tried": [one.record() for one in self.tried],
            "observations": self.observations,
            "empty": self.empty,
            "seconds": self.seconds,
            "seed": self.seed,
            "source": self.source,
            "stopped": self.stopped,
        }
        text = json.dumps(record)
        header = {"tenfold_posterior": str(FILE_VERSION), "record": text, "seal": seal(text, tensors)}
        with atomic(path) as beside:
            try:
                save_file(tensors, beside, metadata=header)
            except SafetensorError as cause:
                raise OSError(str(cause)) from cause


def holds_posterior(path: str | os.PathLike[str]) -> bool:
    """Whether a file holds a posterior, as far as its header says."""
    try:
        with safe_open(os.fspath(path), framework="pt") as file:
            return "tenfold_posterior" in (file.metadata() or {})
    except (SafetensorError, OSError, ValueError, UnicodeError):
        return False


def load_posterior(path: str | os.PathLike[str]) -> Posterior:
    """The posterior in a file.

    Raises:
        FileError: truncated, damaged, or made by another version of tenfold.
    """
    try:
        with safe_open(os.fspath(path), framework="pt") as file:
            header = file.metadata() or {}
            version = header.get("tenfold_posterior")
            if version != str(FILE_VERSION):
                raise FileError(_another_version(os.fspath(path), version))
            record = json.loads(header["record"])
            stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        # What was changed by hand may be read and yet predict what nothing was fitted to.
        if header.get("seal") != seal(header["record"], stored):
            raise FileError(f"'{path}' holds a damaged posterior: it is not as it was written")
        tensors = {name.removeprefix("model."): tensor for name, tensor in stored.items()}
        return Posterior(
            method=str(record["method"]),
            rank=None if record["rank"] is None else int(record["rank"]),
            modes=tuple(Mode.from_record(mode) for mode in record["modes"]),
            value=str(record["value"]),
            attribute_names=tuple(str(name) for name in record["attribute_names"]),
            model=find(str(record["method"])).restore(State(tensors, record["facts"])),
            center=float(record["center"]),
            scale=float(record["scale"]),
            spread=spread_of(record["spread"]),
            held_out=None if record["held_out"] is None else HeldOut.from_record(record["held_out"]),
            diagnosis=Diagnosis.from_record(record["diagnosis"]),
            tried=tuple(Tried.from_record(one) for one in record["tried"]),
            observations=int(record["observations"]),
            empty=int(record["empty"]),
            seconds=float(record["seconds"]),
            seed=int(record["seed"]),
            source=str(record["source"]),
            stopped=str(record["stopped"]),
        )
    except FileError:
        raise
    except (SafetensorError, OSError) as cause:
        raise FileError(f"'{Path(path)}' is truncated or cannot be read ({cause})") from cause
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError, OverflowError) as cause:
        raise FileError(f"'{path}' holds a damaged posterior ({cause!r})") from cause


def _another_version(path: str, version: str | None) -> str:
    if version is not None and version.isdecimal() and int(version) < FILE_VERSION:
        return (
            f"'{path}' was made by an older version of tenfold, and models have changed since: complete the data again"
        )
    return f"'{path}' has posterior version {quoted(version)}; this tenfold reads version {FILE_VERSION}"
