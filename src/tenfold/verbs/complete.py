"""`complete`: what was observed of a tensor in, a posterior of all of it out."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from tenfold._arguments import quoted, real_number, whole_number
from tenfold._threads import threads_for
from tenfold.completion import Entry, Model, Task, find, methods
from tenfold.errors import DataError, FileError, TenfoldError
from tenfold.structure_search import Guard
from tenfold.verbs._budget import check_seconds, check_seed
from tenfold.verbs._completing import Fitting, Journal, Stopped
from tenfold.verbs._diagnosis import Diagnosis, HeldOut, Tried, diagnose, measure, worries
from tenfold.verbs._observed import Observed, observed
from tenfold.verbs._options import check_options
from tenfold.verbs._progress import progress_bar
from tenfold.verbs._spread import Counts, Gaussian, Spread
from tenfold.verbs.posterior import FILE_VERSION, Posterior

_CHOICES = ("held_out", "evidence")

# The share of the observations by which models are compared and the width of intervals is set, and how many there have
# to be for that.
_SHARE, _FEW = 0.1, 20
# Ranks are tried until one is no better, so often running. Better is an error lower by this part, and by this many
# standard errors of an error, which is three times the noise of the guard that tells it.
_OFTEN = 2
_BETTER, _SURE = 0.01, 0.3
# A fit to everything whose residuals are so many times those of the fit to a part has ended in another optimum; of so
# many observations. Squares below the last are rounding.
_WORSE, _SEEN, _ROUNDING = 1.1, 50_000, 1e-20
# How often what is held out answers at least: every model and rank is compared also where little is held out.
_ANSWERS = 100
# How long models are compared, and how many times longer than a rank the next one takes at least.
_SECONDS, _LONGER = 120.0, 2.0
# A Poisson count has such a small share of the range of doubles that larger numbers are none.
_LARGEST_COUNT = 2**53


def complete(
    observations: Any,
    model: str = "auto",
    *,
    rank: int | None = None,
    value: str | None = None,
    modes: Sequence[str] | None = None,
    continuous: Sequence[str] | None = None,
    weights: Any = None,
    attributes: Any = None,
    counts: bool | None = None,
    choose: str = "held_out",
    holdout: float | None = None,
    by_cell: bool = False,
    epochs: int | None = None,
    tol: float | None = None,
    seconds: float | None = None,
    seed: int = 0,
    dims: Sequence[str] | None = None,
    coordinates: Mapping[str, Any] | None = None,
    source: str | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: bool | None = None,
    **options: Any,
) -> Posterior:
    """Complete a tensor of which some was observed: a mean, an interval and a sample anywhere.

    A tenth of the observations is held out; by it the model and its rank are chosen where they are not given, and the
    width of the intervals is set. Then the model is fitted to all.

    Args:
        observations: an array with NaN where nothing is known (NumPy, torch, xarray, ``numpy.ma``), `Observations`,
            what `tenfold.io.read` gives, or a table (pandas, pyarrow) with a row for each observation.
        model: the name of a model (`tenfold.completion.methods`), or ``"auto"``, which compares those for such data.
        rank: the number of components; by default the one that predicts held-out observations best.
        value, modes: which columns of a table hold the values, and which the modes (all others by default).
        continuous: the modes that are intervals; by default those of fractions and dates, and all of `Observations` at
            floating coordinates. The other modes are sets of levels. ``"dose:log"`` tells places apart by their ratios,
            ``"dose:linear"`` by their differences; without either, ratios where positive numbers crowd at the low end.
        weights: precisions of the observations relative to one another (what is predicted is an observation of
            average precision; of precision zero it counts for nothing); for a table the name of a column.
        attributes: what is known besides of each observation, a row each, for models that make use of it; for a table
            the names of columns.
        counts: whether the values are counts of events; None tries models of counts too where they may be.
        choose: by what models and ranks are compared: ``"held_out"``, the error on the tenth, told through a reusable
            holdout, or ``"evidence"``, the approximate log marginal likelihood of the models that know it.
        holdout: the share of the observations on which the result is tested, beyond the tenth; nothing is chosen by
            them, and the model is not fitted to them.
        by_cell: hold out all observations of a cell or none, so that repeated measurements do not tell of each other.
        epochs, tol: when the fit of a model stops; each has its own defaults.
        seconds: the time after which no further model or rank is compared, 120 by default; on a slower machine fewer
            are.
        seed: fixes every random draw.
        dims, coordinates: names of the axes of an array and labels along them, where it does not bring its own.
        source: where the data came from, for people.
        checkpoint: a folder from which the same call goes on when it was killed.
        progress: show a progress bar on standard error; by default when that is a terminal.
        options: what the model takes besides.

    Returns:
        A `Posterior`. Ctrl-C returns what there is so far, with ``posterior.interrupted`` set; before anything is
        fitted it passes through.

    Raises:
        DataError: the data cannot be completed: nothing observed, infinite, complex, names that are not there.
        TenfoldError: an argument that is out of its range, a model that is not known or does not take such data.
        FileError: the checkpoint cannot be used.
    """
    started = time.perf_counter()
    seed = check_seed(seed)
    entries = _entries(model)
    if rank is not None:
        rank = whole_number("rank", rank, 1)
        if len(entries) == 1 and not entries[0].ranks:
            raise TenfoldError(f"rank is {rank}, and model '{entries[0].name}' has none; leave it out")
    limits = _limits(epochs, tol)
    limit = check_seconds(seconds) or _SECONDS
    if choose not in _CHOICES:
        raise TenfoldError(f"choose must be {' or '.join(map(repr, _CHOICES))}, not {quoted(choose)}")
    share = 0.0 if holdout is None else real_number("holdout", holdout, "a share between 0 and 1")
    if not 0 <= share < 1:
        raise TenfoldError(f"holdout is {quoted(holdout)}: it is a share of the observations, at least 0 and below 1")
    data = observed(
        observations,
        value=value,
        modes=modes,
        continuous=continuous,
        weights=weights,
        attributes=attributes,
        dims=dims,
        coordinates=coordinates,
        source=source,
    )
    candidates = _suited(entries, data, counts, named=model != "auto")
    if model == "auto":
        _check_any(candidates, options)
    else:
        check_options(candidates[0], options, "complete")
    whole = _task(data)
    kept, tested = _split(data, share, by_cell, seed, "holdout") if share else (torch.arange(len(data)), None)
    facts = {
        "model": model,
        "rank": rank,
        "seed": seed,
        "holdout": share,
        "by_cell": by_cell,
        "choose": choose,
        "limits": limits,
        "options": options,
        "modes": [mode.record() for mode in data.modes],
        "version": FILE_VERSION,
    }
    journal = None if checkpoint is None else Journal(checkpoint, facts, whole)
    with progress_bar(progress) as bar, threads_for(len(data) * 100):
        work = _Work(data, kept, seed, by_cell, choose, limit, Fitting(bar, journal, seed, limits, options))
        chosen = work.compare(candidates, rank)
        bar.note("measuring the predictions")
        return work.posterior(chosen, tested, started)


@dataclass(frozen=True, eq=False)
class _Fitted:
    """A model with what turns its units into those of the data."""

    entry: Entry
    rank: int | None
    model: Model
    center: float
    scale: float
    stopped: str


@dataclass(frozen=True, eq=False)
class _Chosen:
    """What was chosen, how wide its intervals are, and what was compared."""

    fitted: _Fitted
    spread: Spread
    held_out: HeldOut | None
    tried: tuple[Tried, ...]


class _Work:
    """Comparing models on a part of the observations and fitting one to all of them."""

    def __init__(
        self,
        data: Observed,
        rows: Tensor,
        seed: int,
        by_cell: bool,
        choose: str,
        seconds: float,
        fitting: Fitting,
    ) -> None:
        self.data, self.rows, self.seed, self.seconds, self.fitting = data, rows, seed, seconds, fitting
        self.by_cell = by_cell
        self.untried: tuple[str, ...] = ()
        inner = _take(data, rows)
        self.part, self.held = rows, rows[:0]
        if len(rows) >= _FEW:
            first, second = _split(inner, _SHARE, by_cell, seed + 1, "calibration")
            self.part, self.held = rows[first], rows[second]
        # Where too little can be held out, the evidence is all there is.
        self.guard: Guard | None = None
        if len(self.held) and choose == "held_out":
            self.guard = Guard(len(self.held), seed, max(len(self.held), _ANSWERS))

    def compare(self, candidates: Sequence[Entry], rank: int | None) -> _Chosen:
        """Fit the candidates to a part; the one that predicts the rest best is fitted to everything."""
        tried: list[Tried] = []
        best: tuple[float, _Fitted] | None = None
        # Models that grow by rank have half of the time before those that are fitted once, which take long.
        growing = [entry for entry in candidates if entry.ranks and rank is None and len(entry.ladder) > 1]
        once = [entry for entry in candidates if entry not in growing]
        started = time.perf_counter()
        try:
            for group, seconds in ((growing, self.seconds / 2 if once else self.seconds), (once, self.seconds)):
                for one, answer, fitted in self._in_turn(group, rank, started + seconds):
                    tried.append(one)
                    # More components of the same model have to be worth it.
                    least = math.inf if best is None else best[0]
                    same = best is not None and fitted is not None and best[1].entry is fitted.entry
                    if fitted is not None and (self._better(answer, least) if same else answer < least):
                        best = (answer, fitted)
            reached = {one.method for one in tried}
            self.untried = tuple(entry.name for entry in candidates if entry.name not in reached)
        except (KeyboardInterrupt, Stopped) as stop:
            if best is None:
                if not isinstance(stop, Stopped):
                    raise
                raise KeyboardInterrupt from None
            return self._ended(replace(best[1], stopped="interrupted"), tried)
        if best is None:
            said = next((one.note for one in tried if one.note), "no model can be fitted to such data")
            raise DataError(said)
        kept = best[1]
        chosen = self._ended(kept, tried)
        if not len(self.held):
            return chosen
        try:
            final, _ = self._fit(kept.entry, kept.rank, self.rows, "all")
        except Stopped as stop:
            return replace(chosen, fitted=replace(kept, model=stop.model, stopped="interrupted"))
        except KeyboardInterrupt:
            return replace(chosen, fitted=replace(kept, stopped="interrupted"))
        return self._carried(chosen, final)

    def _carried(self, chosen: _Chosen, final: _Fitted) -> _Chosen:
        """The fit to everything with the intervals that the fit to a part had held out for.

        Where it has ended in a far worse optimum, that on the part is kept.
        """
        rows = self.part[:_SEEN]
        value = self.data.values[rows].numpy()
        seen = []
        for fitted in (chosen.fitted, final):
            mean, total = self._at(fitted, rows)
            seen.append((value - mean, total))
        before, after = seen
        unit = float(np.abs(before[0]).max()) or 1.0
        old, new = (float(np.average((off / unit) ** 2, weights=self._weights(rows))) for off, _ in seen)
        if new > _WORSE**2 * old + _ROUNDING:
            return chosen
        spread = chosen.spread
        return replace(
            chosen, fitted=final, spread=spread.carried(before, after) if isinstance(spread, Gaussian) else spread
        )

    def _in_turn(
        self, entries: Sequence[Entry], rank: int | None, until: float
    ) -> Iterator[tuple[Tried, float, _Fitted | None]]:
        """Each model in turn tries its next rank, so that quick ones are not kept waiting by slow ones."""
        waiting = [self._ranks(entry, rank, until) for entry in entries]
        first = True
        while waiting:
            for ranks in list(waiting):
                if not first and time.perf_counter() > until:
                    return
                found = next(ranks, None)
                if found is None:
                    waiting.remove(ranks)
                    continue
                first = False
                yield found

    def _better(self, answer: float, least: float) -> bool:
        """Whether one error (or negative evidence) is below another by more than chance."""
        if self.guard is None or not math.isfinite(least):
            return answer < least
        return answer < math.exp(-_BETTER - _SURE / math.sqrt(2 * len(self.held))) * least

    def _ranks(self, entry: Entry, rank: int | None, until: float) -> Iterator[tuple[Tried, float, _Fitted | None]]:
        """The ranks of one model, growing until that does not help, or takes longer than there is time."""
        ranks: Sequence[int | None] = entry.ladder if entry.ranks and rank is None else (rank if entry.ranks else None,)
        if not len(self.held) and len(ranks) > 1:
            ranks = ranks[:1]
        lowest, worse = math.inf, 0
        took: list[float] = []
        for one in ranks:
            if self.guard is not None and self.guard.spent:
                return
            if took and time.perf_counter() + _next(took) > until:
                return
            try:
                fitted, seconds = self._fit(entry, one, self.part, "part")
            except FileError:  # a full disk says nothing about a model
                raise
            except (TenfoldError, torch.linalg.LinAlgError, np.linalg.LinAlgError) as refused:
                yield Tried(entry.name, one, None, None, None, None, 0.0, note=str(refused)), math.inf, None
                return
            error, training, deviation = self._errors(fitted)
            model = fitted.model
            if self.guard is not None and training is not None:
                answer = self.guard.answer(training, error)
            else:
                answer = sys.float_info.max if model.evidence is None else -model.evidence
            took.append(seconds)
            said = Tried(
                entry.name, one, error, training, model.evidence, model.parameters, seconds, deviation=deviation
            )
            if not math.isfinite(answer):
                yield replace(said, error=None, note="its predictions are not finite"), math.inf, None
                return
            yield said, answer, fitted
            worse = 0 if self._better(answer, lowest) else worse + 1
            lowest = min(lowest, answer)
            if worse == _OFTEN:
                return

    def _fit(self, entry: Entry, rank: int | None, rows: Tensor, label: str) -> tuple[_Fitted, float]:
        data = _take(self.data, rows)
        center, scale = (0.0, 1.0) if entry.counts else _standard(data.values, data.weights)
        values = data.values if entry.counts else (data.values - center) / scale
        task = Task(
            data.coordinates,
            values,
            tuple(None if mode.continuous else mode.size for mode in data.modes),
            data.weights,
            data.attributes if entry.attributes else None,
        )
        model, seconds = self.fitting.fit(entry, task, rank, label)
        return _Fitted(entry, rank, model, center, scale, model.stopped), seconds

    def _errors(self, fitted: _Fitted) -> tuple[float, float | None, float]:
        """Root mean square errors held out and on what was fitted, over the deviation of the former; and that."""
        inside = self.part[: 10 * max(len(self.held), 1000)]
        rows = self.held if len(self.held) else inside
        weights = None if self.data.weights is None else self.data.weights[rows]
        unit = _standard(self.data.values[rows], weights)[1]
        found = [self._rms(fitted, some) / unit for some in (rows, inside)]
        return found[0], found[1] if len(self.held) else None, unit

    def _rms(self, fitted: _Fitted, rows: Tensor) -> float:
        off = self.data.values[rows].numpy() - self._at(fitted, rows)[0]
        largest = float(np.abs(off).max()) or 1.0
        return largest * math.sqrt(float(np.average((off / largest) ** 2, weights=self._weights(rows))))

    def _weights(self, rows: Tensor) -> np.ndarray | None:
        return None if self.data.weights is None else self.data.weights[rows].numpy()

    def _at(self, fitted: _Fitted, rows: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Means, and the standard deviations of observations as precise as those of the rows."""
        plain = self._posterior(fitted, Gaussian(), None, ())
        mean, own, total = plain.predict_encoded(*self._points(fitted.entry, rows))
        weights = self._weights(rows)
        if weights is None or fitted.entry.counts:
            return mean, total
        part = 0.0 if own is None else np.clip(own / np.maximum(total, sys.float_info.min), 0.0, 1.0) ** 2
        return mean, total * np.sqrt(part + (1 - part) / weights)

    def _points(self, entry: Entry, rows: Tensor) -> tuple[Tensor, Tensor | None]:
        attributes = self.data.attributes if entry.attributes else None
        return self.data.coordinates[rows], None if attributes is None else attributes[rows]

    def _ended(self, fitted: _Fitted, tried: Sequence[Tried]) -> _Chosen:
        """Set the width of intervals by what was held out, and say how good they are."""
        marked = tuple(
            replace(one, chosen=one.method == fitted.entry.name and one.rank == fitted.rank) for one in tried
        )
        if not len(self.held):
            return _Chosen(fitted, Counts() if fitted.entry.counts else Gaussian(), None, marked)
        mean, total = self._at(fitted, self.held)
        value = self.data.values[self.held].numpy()
        spread: Spread = (
            Counts.fitted(value, mean, total) if fitted.entry.counts else Gaussian.fitted(value - mean, total)
        )
        return _Chosen(fitted, spread, measure(spread, value, mean, total, "calibration", self.seed), marked)

    def posterior(self, chosen: _Chosen, tested: Tensor | None, started: float) -> Posterior:
        """The result, tested on what nothing was chosen by."""
        plain = self._posterior(chosen.fitted, chosen.spread, chosen.held_out, chosen.tried)
        plain = replace(plain, data=self.data)
        try:
            measured = self._measured(plain, chosen, tested)
        except KeyboardInterrupt:  # the model is there, only what is to be said of it is not
            measured = replace(plain, stopped="interrupted")
        return replace(measured, seconds=time.perf_counter() - started)

    def _measured(self, plain: Posterior, chosen: _Chosen, tested: Tensor | None) -> Posterior:
        fitted, held_out = chosen.fitted, chosen.held_out
        if tested is not None:
            mean, total = self._at(fitted, tested)
            value = self.data.values[tested].numpy()
            held_out = measure(chosen.spread, value, mean, total, "test", self.seed)
        seen = _take(self.data, self.rows)
        own = seen if fitted.entry.attributes else replace(seen, attributes=None)
        diagnosis = diagnose(own, fitted.rank, plain.predict_encoded, self.seed)
        found = worries(
            seen, held_out, chosen.tried, by_cell=self.by_cell, interrupted=plain.interrupted, untried=self.untried
        )
        if self.data.attribute_names and not fitted.entry.attributes:
            able = " or ".join(f"'{entry.name}'" for entry in methods().values() if entry.attributes)
            said = ", ".join(self.data.attribute_names)
            found.append(f"'{fitted.entry.name}' makes no use of {said}; model {able} does")
        return replace(plain, held_out=held_out, diagnosis=replace(diagnosis, warnings=(*found, *diagnosis.warnings)))

    def _posterior(
        self, fitted: _Fitted, spread: Spread, held_out: HeldOut | None, tried: tuple[Tried, ...]
    ) -> Posterior:
        return Posterior(
            method=fitted.entry.name,
            rank=fitted.rank,
            modes=self.data.modes,
            value=self.data.value,
            attribute_names=self.data.attribute_names if fitted.entry.attributes else (),
            model=fitted.model,
            center=fitted.center,
            scale=fitted.scale,
            spread=spread,
            held_out=held_out,
            diagnosis=Diagnosis((), {}, []),
            tried=tried,
            observations=len(self.rows),
            empty=self.data.empty,
            seconds=0.0,
            seed=self.seed,
            source=self.data.source,
            stopped=fitted.stopped,
        )


def _next(took: Sequence[float]) -> float:
    """How long the next rank takes, after those before took so long: as many times longer as the last one did."""
    return took[-1] * max(_LONGER, took[-1] / took[-2] if len(took) > 1 else 0.0)


def _entries(model: Any) -> list[Entry]:
    if not isinstance(model, str):
        raise TenfoldError(f"model must be the name of a model or 'auto', not {quoted(model)}")
    if model == "auto":
        return list(methods().values())
    return [find(model)]


def _limits(epochs: int | None, tol: float | None) -> dict[str, Any]:
    limits: dict[str, Any] = {}
    if epochs is not None:
        limits["epochs"] = whole_number("epochs", epochs, 1)
    if tol is not None:
        limits["tol"] = real_number("tol", tol, "a number of at least 0")
        if not 0 <= limits["tol"] < math.inf:
            raise TenfoldError(f"tol is {quoted(tol)}: it must be at least 0 and finite")
    return limits


def _suited(entries: Sequence[Entry], data: Observed, counts: bool | None, *, named: bool) -> list[Entry]:
    """The models that take such data."""
    values = data.values
    other = (~((values >= 0) & (values == values.round()) & (values < _LARGEST_COUNT))).nonzero()[:, 0].tolist()
    whole = not other
    least = "" if whole or values[other[0]] < _LARGEST_COUNT else " and below 2**53"
    said = "" if whole else f"whole numbers of at least 0{least}, and value {other[0]} is {values[other[0]].item():g}"
    if counts and not whole:
        raise DataError(f"counts are {said}")
    found = []
    for entry in entries:
        if any(mode.continuous for mode in data.modes) and not entry.continuous:
            why = "takes modes of levels only, and " + ", ".join(
                f"'{mode.name}'" for mode in data.modes if mode.continuous
            )
            why += " is continuous; leave it out of continuous"
        elif entry.orders is not None and len(data.modes) not in entry.orders:
            why = f"takes {' or '.join(map(str, entry.orders))} modes, and there are {len(data.modes)}"
        elif not named and entry.automatic is not None and len(values) > entry.automatic:
            continue
        elif entry.counts and not whole:
            why = f"takes counts, {said}"
        elif counts and not entry.counts:
            why = "is no model of counts; leave counts out"
        elif counts is False and entry.counts:
            why = "is a model of counts; leave counts out"
        else:
            found.append(entry)
            continue
        if named:
            raise DataError(f"model '{entry.name}' {why}")
    # Whole numbers are as often counts as not, and models of counts are quick: they do not wait for time to be left.
    found.sort(key=lambda entry: not entry.counts)
    if not found:
        raise DataError("there is no model for such data; tenfold.completion.methods() lists what there is")
    return found


def _check_any(candidates: Sequence[Entry], options: Mapping[str, Any]) -> None:
    """With model 'auto' an option must belong to one of the models that are compared."""
    for name, given in options.items():
        owner = next((entry for entry in candidates if name in entry.options), None)
        if owner is None:
            raise TenfoldError(f"'{name}' is no argument of complete, nor an option of any model that is compared")
        with suppress(KeyError):
            check_options(owner, {name: given}, "complete")


def _task(data: Observed) -> Task:
    return Task(
        data.coordinates,
        data.values,
        tuple(None if mode.continuous else mode.size for mode in data.modes),
        data.weights,
        data.attributes,
    )


def _take(data: Observed, rows: Tensor) -> Observed:
    return replace(
        data,
        coordinates=data.coordinates[rows],
        values=data.values[rows],
        weights=None if data.weights is None else data.weights[rows],
        attributes=None if data.attributes is None else data.attributes[rows],
    )


def _standard(values: Float[Tensor, " n"], weights: Float[Tensor, " n"] | None) -> tuple[float, float]:
    """The mean and the standard deviation (one where that is zero), of numbers of any size."""
    largest = float(values.abs().max()) or 1.0
    part = values / largest
    weight = torch.ones_like(part) if weights is None else weights / weights.max()
    mean = float((weight * part).sum() / weight.sum())
    deviation = math.sqrt(float((weight * (part - mean) ** 2).sum() / weight.sum()))
    if deviation < 1e-14:
        deviation = 1.0
    return mean * largest, deviation * largest


def _split(data: Observed, share: float, by_cell: bool, seed: int, what: str) -> tuple[Tensor, Tensor]:
    """Rows to keep and rows to leave out, both in ascending order."""
    generator = torch.Generator().manual_seed(seed)
    if by_cell:
        _, group = torch.unique(data.coordinates, dim=0, return_inverse=True)
        groups = int(group.max()) + 1
        out = torch.zeros(groups, dtype=torch.bool)
        out[torch.randperm(groups, generator=generator)[: max(1, round(share * groups))]] = True
        left = out[group]
    else:
        left = torch.zeros(len(data), dtype=torch.bool)
        left[torch.randperm(len(data), generator=generator)[: max(1, round(share * len(data)))]] = True
    if left.all():
        raise DataError(f"nothing is left to fit when {share:g} of {len(data)} observations are left out for {what}")
    return (~left).nonzero()[:, 0], left.nonzero()[:, 0]
