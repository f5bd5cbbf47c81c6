"""`compress`: a trained model in, a smaller or faster one out."""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tenfold._arguments import closest, quoted, real_number, whole_number
from tenfold.compression import (
    Call,
    Careful,
    Census,
    Choice,
    Forward,
    LeftAlone,
    Moments,
    NotReplaceable,
    Site,
    allocate,
    allocate_jointly,
    as_tensors,
    calls,
    census,
    check_copies,
    collect,
    difference,
    distil,
    every_layer_runs,
    find,
    flops_of,
    methods,
    outputs,
    price,
    reached_from_copies,
    replaced,
    seconds,
    seconds_inside,
    size_of,
    spent,
    to_evaluation,
    uniform,
    weigh,
)
from tenfold.compression import forward as usual_forward
from tenfold.errors import DataError, TenfoldError
from tenfold.verbs._progress import Bar, progress_bar
from tenfold.verbs.compressed import Compressed, Facts, Layer, Point

# Seconds that probes may take, about: so many batches are shown to each.
_PROBING = 60.0
# Halvings in the search for the smallest model that keeps an error.
_HALVINGS = 7
# Times that a model which takes too long is made anew, and how near to the time asked for is near enough.
_TIGHTER, _CLOSE = 4, 1.02
# Points of the trade-off curve.
_POINTS = 16
# A metric that rises by more than this share of itself in the smallest model is none.
_BETTER = 0.2
# Seconds for which the whole models are timed.
_TIMING = 1.5
# Of what stays where a budget is out of reach so many are named, and none below this share of the whole.
_LARGEST, _NAMED = 3, 0.005
# A small model is slower where it has less than this of the original's speed.
_SLOWER = 0.97

Evaluate = Callable[[nn.Module], float]


def compress(
    model: nn.Module,
    *,
    size: float | None = None,
    latency: float | None = None,
    error: float | None = None,
    data: Iterable[Any] | None = None,
    example: Any = None,
    forward: Forward | None = None,
    evaluate: Evaluate | None = None,
    methods: Sequence[str] | None = None,
    bits: Sequence[int] = (8, 4),
    skip: Sequence[str] = (),
    only: Sequence[str] = (),
    finetune: int | Callable[[nn.Module], object] = 0,
    training: Iterable[Any] | None = None,
    learning_rate: float = 1e-4,
    seed: int = 0,
    source: str | None = None,
    progress: bool | None = None,
) -> Compressed:
    """Replace the layers of a trained model by smaller ones, each by what suits it, under one budget for all.

    For each layer several methods propose what may take its place. What the layer's outputs lose is measured on the
    data that comes into it, what the model loses by putting a few of them into it, and what it costs is counted, or
    timed where time is a budget. Then one choice for each layer is made so that the whole loses least: exactly, not
    greedily, under one budget; under two by a relaxation and exchanges.

    Args:
        model: any module; it is not changed. Layers that cannot be replaced keep as they are, with the reason.
        size: share of the model's bytes that may be left, as 0.3.
        latency: share of its time on ``example`` that may be left, on this machine and as many threads as torch uses;
            alone or together with ``size``.
        error: relative loss that is allowed, and the smallest model is looked for: of what ``evaluate`` says, or else
            of the outputs, ``||f(x) - g(x)|| / ||g(x)||`` on the data. Not together with the others.
        data: batches of real inputs, a hundred examples or so; without it weights are compared, not outputs.
        example: one batch for timing; the first of the data by default.
        forward: how a batch is given to the model, ``forward(model, batch)``, and what of the output counts. By default
            a mapping is keyword arguments, and of a tuple the first is the input.
        evaluate: the model's own metric, larger is better; it is asked before and after.
        methods: names of methods; all that are tried by default are in ``tn.compression.methods()``.
        bits: whole numbers of so many bits may be used; () for floating point alone.
        skip, only: patterns of names of layers, as ``"encoder.*"``.
        finetune: how many times the small model sees ``training`` to learn to say what the original says; or a function
            that trains it your way, in place.
        training: batches for ``finetune``; ``data`` by default.
        learning_rate: of the fine-tuning.
        seed: of the order of its batches.
        source: what the model is called in tables, and where the command line finds it again.
        progress: a bar on standard error; None shows it where that is a terminal.

    Returns:
        The small model, an ordinary module, with what was done to each layer and what it costs and loses.

    Raises:
        TenfoldError: no budget, an error beside another, a budget or two together out of reach (the message names the
            nearest), no layer to replace.
        DataError: the data is empty, or the model's outputs on it are not finite.

    Cost: one decomposition for each layer and method, three passes of the model over the data for each layer.
    Paper: "L-GreCo: Layerwise-adaptive gradient compression for efficient data-parallel deep learning", 2024, for the
    allocation.
    """
    began = time.perf_counter()
    budget = _budget(size, latency, error)
    if not isinstance(model, nn.Module):
        raise TenfoldError(f"model must be a torch.nn.Module, not {quoted(type(model).__name__)}")
    if isinstance(model, torch.jit.ScriptModule):
        raise TenfoldError("model is a program of TorchScript, without layers; give the module that it was made from")
    compiled = getattr(model, "_orig_mod", None)
    if isinstance(compiled, nn.Module):
        model = compiled  # of torch.compile; each change of a layer would be compiled anew
    entries = _entries(methods)
    widths = (bits,) if isinstance(bits, int) else tuple(bits)
    if not set(widths) <= {8, 4}:
        raise TenfoldError(f"bits are 8, 4 or both, or () for floating point alone; not {quoted(bits)}")
    functions: dict[str, Any] = {"evaluate": evaluate, "forward": forward}
    for name, given in functions.items():
        if given is not None and not callable(given):
            what = "the model and a batch" if name == "forward" else "the model that returns a number, larger is better"
            raise TenfoldError(f"{name} must be a function of {what}, not {quoted(given)}")
    run = Careful(usual_forward if forward is None else forward)
    epochs = finetune if callable(finetune) else whole_number("finetune", finetune, least=0)
    timed = "latency" in budget
    if (timed or ("error" in budget and evaluate is None)) and data is None and example is None:
        raise TenfoldError(f"a budget of {'latency' if timed else 'error'} needs data=, batches of inputs of the model")
    if epochs and not callable(epochs) and data is None and example is None and training is None:
        raise TenfoldError("fine-tuning needs data= or training=, batches of inputs of the model")
    if epochs and not callable(epochs) and not any(p.requires_grad for p in model.parameters()):
        raise TenfoldError("fine-tuning has nothing to train: all of the model is frozen (requires_grad is False)")
    _check_data(data)
    _check_data(training, "training")
    if forward is None:
        data, training = _tensors(data, model), _tensors(training, model)
        example = as_tensors(example, model)
    check_copies(model)
    was_training = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        # Modules that are made draw random weights first; what the caller draws afterwards is as it would have been.
        with progress_bar(progress) as bar, torch.random.fork_rng(_cuda_devices(model)):
            with every_layer_runs():
                work = _Work(model, run, entries, widths, skip, only, example, bar)
                work.metric = None if evaluate is None else _metric(evaluate, model)
                if work.metric == 0 and "error" in budget:
                    raise DataError(
                        "evaluate gives 0 for the original, so there is no relative loss; give size= or latency=, or "
                        "another metric"
                    )
                work.look(data, budget)
                picks = work.choose(budget, evaluate)
            return work.finish(picks, budget, evaluate, epochs, training, learning_rate, seed, source, began)
    finally:
        for module, training_before in was_training:
            module.training = training_before


def _cuda_devices(model: nn.Module) -> list[int]:
    return sorted({t.device.index for t in (*model.parameters(), *model.buffers()) if t.is_cuda})


def _check_data(data: Any, name: str = "data") -> None:
    """Refuses what would be gone through in the wrong pieces."""
    if isinstance(data, Tensor | np.ndarray | Mapping | str | bytes):
        raise DataError(f"{name} must be batches, as a list of them, not one {quoted(type(data).__name__)}: [{name}]")
    if data is not None and not isinstance(data, Iterable):
        raise DataError(f"{name} must be batches, as a list of them, not {quoted(type(data).__name__)}")
    if isinstance(data, tuple) and len(data) == 2 and all(isinstance(one, Tensor | np.ndarray) for one in data):
        first, second = data
        if (first.ndim, str(first.dtype)) != (second.ndim, str(second.dtype)):
            raise DataError(f"{name} is a tuple of two unlike arrays where batches are wanted: was [(X, y)] meant?")


def _tensors(data: Iterable[Any] | None, model: nn.Module) -> Iterable[Any] | None:
    return None if data is None else (as_tensors(batch, model) for batch in data)


def _budget(size: float | None, latency: float | None, error: float | None) -> dict[str, float]:
    given = {"size": size, "latency": latency, "error": error}
    asked = {name: value for name, value in given.items() if value is not None}
    if not asked or ("error" in asked and len(asked) > 1):
        raise TenfoldError(
            "give a budget: size= (share of the bytes), latency= (share of the time), both of them, or error= "
            "(relative loss) alone" + (f"; not {' and '.join(asked)}" if asked else "")
        )
    budget = {name: real_number(name, value, "a share between 0 and 1") for name, value in asked.items()}
    for name, number in budget.items():
        # As fast as before is something to ask for: what is smaller may be slower.
        if not 0 < number < 1 and not (name == "latency" and number == 1):
            raise TenfoldError(f"{name} is a share between 0 and 1, as 0.3, not {number:g}")
    return budget


def _entries(names: Sequence[str] | None) -> list[Any]:
    if names is None:
        return [entry for entry in methods().values() if entry.default]
    if isinstance(names, str):
        names = [names]
    if not names:
        raise TenfoldError("methods is empty; name at least one, or leave it out")
    return [find(name) for name in names]


def _patterns(model: nn.Module, argument: str, patterns: Sequence[str]) -> tuple[str, ...]:
    """The patterns, each of which is there for something."""
    given = (patterns,) if isinstance(patterns, str) else tuple(patterns)
    every = dict(model.named_modules(remove_duplicate=False))
    names = [name for name, module in every.items() if any(True for _ in module.parameters(recurse=False))]
    for pattern in given:
        if not any(fnmatchcase(name, pattern) for name in names):
            hint = f" (did you mean '{pattern}.*'?)" if pattern in every else closest(pattern, names)
            raise TenfoldError(f"{argument}: no layer's name matches '{pattern}'{hint}")
    return given


class _Work:
    """What is known on the way from the model to the choice for each of its layers."""

    def __init__(
        self,
        model: nn.Module,
        forward: Careful,
        entries: Sequence[Any],
        bits: Sequence[int],
        skip: Sequence[str],
        only: Sequence[str],
        example: Any,
        bar: Bar,
    ) -> None:
        self.model, self.forward, self.entries, self.bits, self.bar = model, forward, entries, bits, bar
        skip, only = _patterns(model, "skip", skip), _patterns(model, "only", only)
        self.census: Census = census(model, skip=skip, only=only)
        if not self.census.sites:
            why = "; ".join(sorted({f"{one.kind}: {one.why}" for one in self.census.left_alone})[:3])
            raise TenfoldError(
                f"there is no layer to replace in this {type(model).__name__}" + (f" ({why})" if why else "")
            )
        self.example = example
        self.batches: list[Any] = []
        self.reference: list[list[Tensor]] = []
        self.moments: Mapping[str, Moments] = {}
        self.calls: Mapping[str, Call] = {}
        self.choices: list[list[Choice]] = []
        self.warnings: list[str] = []
        # Why layers that could be replaced are not, by their names.
        self.kept: dict[str, str] = {}
        # Of the model itself, by ``evaluate``.
        self.metric: float | None = None

    @property
    def sites(self) -> tuple[Site, ...]:
        return self.census.sites

    def look(self, data: Iterable[Any] | None, budget: Mapping[str, float]) -> None:
        """See what comes into each layer, and price what may take its place."""
        timed = "latency" in budget
        if data is not None:
            self._calibrate(data)
        elif self.example is not None:
            self._calibrate([self.example])
            self.warnings.append("no data was given, so the moments are those of the example alone")
        else:
            self.warnings.append("no data was given: weights were compared, not outputs, and nothing was timed")
        probing = self._probing()
        few: list[tuple[str, int, int]] = []
        for number, site in enumerate(self.sites):
            self.bar.rung(site.name, number, len(self.sites))
            seen = self.moments.get(site.name)
            if self.batches and seen is None:
                self.choices.append(price(site, None, []))
                self._keep(site, "it did not run on the data")
                continue
            if seen is not None and seen.mean is not None and seen.number < len(seen.mean):
                few.append((site.name, seen.number, len(seen.mean)))
            found = price(site, seen, self.entries, self.calls.get(site.name), bits=self.bits, timed=timed)
            if probing:
                batches, reference = self.batches[:probing], self.reference[:probing]
                try:
                    found = weigh(self.model, site, found, batches, reference, self.forward)
                except NotReplaceable as why:
                    found = found[:1]
                    self._keep(site, str(why))
            else:
                found = [replace(c, loss=c.error) for c in found]
            if timed and site.name in self.calls:
                found = _timed(found, self.calls[site.name], site)
                if "size" not in budget:  # what is smaller and slower is of no use
                    found = _faster(found)
            self.choices.append(found)
        if few:
            name, number, wide = min(few, key=lambda one: one[1] / one[2])
            self.warnings.append(
                f"little data: {number} input{'' if number == 1 else 's'} of {wide} numbers came into '{name}'"
                + (f", and {len(few) - 1} more layers saw too few" if len(few) > 1 else "")
                + "; what is lost on other data is not seen. Give more"
            )

    def _keep(self, site: Site, why: str) -> None:
        self.kept[site.name] = why
        self.warnings.append(f"'{site.name}' keeps as it was: {why}")

    def _calibrate(self, data: Iterable[Any]) -> None:
        place = 0

        def tell(number: int) -> None:
            nonlocal place
            place = number
            self.bar.note(f"looking at the data, batch {number}")

        try:
            self.moments, self.batches = collect(self.model, self.sites, _told(data), self.forward, tell=tell)
        except (TenfoldError, MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            said = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            raise DataError(
                f"the model does not run on batch {place + 1} of the data ({said}); give forward= where it is called "
                "in another way"
            ) from error
        if not self.batches:
            raise DataError("data holds no batch")
        if self.example is None:
            self.example = self.batches[0]
        else:
            # What does not run is told before the work, not after it.
            outputs(self.model, [self.example], self.forward)
        self.forward.watching = False
        self._leave_what_copies_share()
        if not self.moments:
            raise DataError("no layer that can be replaced ran on the data, or its batches are empty")
        self.calls = calls(self.model, self.sites, self.example, self.forward)
        self.reference = outputs(self.model, self.batches, self.forward)
        if not all(torch.isfinite(t).all() for batch in self.reference for t in batch):
            raise DataError("the model's own outputs on the data are not finite; check the data and the model")

    def _leave_what_copies_share(self) -> None:
        """Layers that a copy of the model would still run in the model itself keep as they are."""
        ran = [site for site in self.sites if site.name in self.moments]
        shared = reached_from_copies(self.model, ran, self.batches, self.forward)
        if not shared:
            return
        why = "a function or hook that copies do not take along calls it in the original"
        kept = [s for s in self.sites if s.name in shared]
        left = tuple(LeftAlone(s.name, type(s.module).__name__, why, s.bytes) for s in kept)
        sites = tuple(site for site in self.sites if site.name not in shared)
        if not sites:
            raise TenfoldError(f"there is no layer to replace in this {type(self.model).__name__} ({why})")
        self.census = replace(self.census, sites=sites, left_alone=(*self.census.left_alone, *left))
        named = ", ".join(f"'{one.name}'" for one in left)
        self.warnings.append(
            f"copies of this model go on using {named} of the original, and so does "
            "the small model: leave the original as it is, or save the small model and load it into a model made anew"
        )

    def _probing(self) -> int:
        """How many batches each probe sees."""
        if not self.batches:
            return 0
        began = time.perf_counter()
        difference(self.model, self.batches[:1], self.reference[:1], self.forward)
        once = time.perf_counter() - began
        return max(1, min(len(self.batches), int(_PROBING / max(once * 3 * len(self.sites), 1e-9))))

    # --- choosing -----------------------------------------------------------------------------------------------------

    def _costs(self, goal: str) -> list[list[float]]:
        if goal == "latency":
            return [[c.seconds or 0.0 for c in choices] for choices in self.choices]
        return [[float(c.bytes) for c in choices] for choices in self.choices]

    def _losses(self) -> list[list[float]]:
        return [[c.loss for c in choices] for choices in self.choices]

    def choose(self, budget: Mapping[str, float], evaluate: Evaluate | None) -> list[int]:
        """One choice for each layer."""
        self.bar.note("sharing the budget")
        if "error" in budget:
            return self._within(budget["error"], evaluate)
        room, wholes = {}, {}
        for goal, bound in budget.items():
            rest, whole = self._rest(goal)
            least = rest + math.fsum(min(c) for c in self._costs(goal))
            if bound * whole < least:
                raise TenfoldError(
                    f"{goal}={bound:g} is out of reach: the smallest that the methods can do is "
                    f"{goal}={least / whole:.3g}" + self._staying(goal, whole)
                )
            room[goal], wholes[goal] = bound * whole - rest, whole
        if len(budget) > 1:
            self._check_together(budget, room, wholes)
        picks = self._share(room)
        return self._as_fast(picks, budget["latency"], room, wholes["latency"]) if "latency" in budget else picks

    def _staying(self, goal: str, whole: float) -> str:
        """The largest of what no method makes smaller, or faster, each with its share of the whole and the reason."""
        left = [one for one in self.census.left_alone if one.bytes]
        if goal == "latency":
            modules = [self.model.get_submodule(one.name) for one in left if one.name]
            times = seconds_inside(lambda: self.forward(self.model, self.example), modules)
            costs = dict(zip([one.name for one in left if one.name], times, strict=True))
            found = [(costs.get(one.name, 0.0), one.name, one.why) for one in left]
        else:
            found = [(float(one.bytes), one.name or type(self.model).__name__, one.why) for one in left]
        for site, choices, prices in zip(self.sites, self.choices, self._costs(goal), strict=True):
            if len(choices) == 1:
                why = self.kept.get(site.name, "no method makes it " + ("faster" if goal == "latency" else "smaller"))
                found.append((prices[0], site.name, why))
        largest = [one for one in sorted(found, key=lambda one: -one[0])[:_LARGEST] if one[0] >= _NAMED * whole]
        told = "; ".join(f"{cost / whole:.2g} in '{name}' ({why})" for cost, name, why in largest)
        return f"; what stays as it is: {told}" if told else ""

    def _share(self, room: Mapping[str, float]) -> list[int]:
        """The choices that lose least with so many bytes, seconds or both for the layers that can be replaced."""
        losses = self._losses()
        if len(room) == 1:
            ((goal, most),) = room.items()
            return allocate(self._costs(goal), losses, most)
        return allocate_jointly(self._costs("size"), self._costs("latency"), losses, room["size"], room["latency"])

    def _check_together(
        self, budget: Mapping[str, float], room: Mapping[str, float], wholes: Mapping[str, float]
    ) -> None:
        """Tells what is nearest where each budget can be kept alone, but not both."""
        nearest = []
        for goal, other in (("size", "latency"), ("latency", "size")):
            costs = self._costs(other)
            least = spent(costs, allocate(self._costs(goal), costs, room[goal]))
            if least <= room[other]:
                return
            share = budget[other] + (least - room[other]) / wholes[other]
            nearest.append(f"with {goal}={budget[goal]:g} the least is {other}={share:.3g}")
        raise TenfoldError(
            f"size={budget['size']:g} and latency={budget['latency']:g} are out of reach together: "
            + ", ".join(nearest)
        )

    def _as_fast(self, picks: list[int], bound: float, room: Mapping[str, float], whole: float) -> list[int]:
        """Choices whose model takes the share of the time that was asked for, measured and not summed over layers.

        Layers take longer between others than alone, so what is promised to them is made less until the whole keeps it.
        """
        rest = bound * whole - room["latency"]
        promised = bound * whole
        tries = 0
        while True:
            small = self.apply(picks).eval()
            models = [self.model, small]
            was, now = seconds([partial(self.forward, m, self.example) for m in models], budget=_TIMING)
            promised *= bound * was / now
            if now <= bound * was * _CLOSE:
                return picks
            tries += 1
            tighter = None
            if tries < _TIGHTER:
                with suppress(TenfoldError):  # nothing keeps less
                    tighter = self._share({**room, "latency": promised - rest})
            if tighter is None:
                self.warnings.append(
                    f"it takes {now / was:.2f} of the time: layers take longer in the model than alone"
                )
                return picks
            picks = tighter

    def _rest(self, goal: str) -> tuple[float, float]:
        """What the layers that can be replaced do not cost, and what all costs."""
        if goal == "latency":
            (whole,) = seconds([lambda: self.forward(self.model, self.example)], budget=_TIMING)
            inside = math.fsum(c[0].seconds or 0.0 for c in self.choices)
            return max(whole - inside, 0.0), whole
        inside = math.fsum(c[0].bytes for c in self.choices)
        return self.census.bytes - inside, self.census.bytes

    def _within(self, bound: float, evaluate: Evaluate | None) -> list[int]:
        """The fewest bytes whose loss, measured and not predicted, keeps the bound."""
        costs, losses = self._costs("size"), self._losses()
        before = self.metric

        def loss(picks: Sequence[int]) -> float:
            small = self.apply(picks)
            if evaluate is None or before is None:
                return math.sqrt(difference(small, self.batches, self.reference, self.forward))
            return (before - _metric(evaluate, small)) / abs(before)

        low, high = -14.0, 1.0
        best = [0] * len(self.choices)
        if evaluate is not None and before is not None:
            smallest = _metric(evaluate, self.apply(allocate(costs, losses, math.fsum(map(min, costs)))))
            if smallest - before > _BETTER * abs(before):
                raise DataError(
                    f"evaluate gives {smallest:.4g} for the smallest model and {before:.4g} for the original: larger "
                    "must be better; return minus a loss"
                )
        for turn in range(_HALVINGS):
            middle = (low + high) / 2
            self.bar.rung(f"models that keep an error of {bound:g}", turn, _HALVINGS)
            picks = allocate(losses, costs, 10**middle)
            if loss(picks) <= bound:
                low, best = middle, picks
            else:
                high = middle
        if not any(best):
            self.warnings.append(f"no smaller model that was tried keeps an error of {bound:g}; all is as it was")
        return best

    def apply(self, picks: Sequence[int]) -> nn.Module:
        """A copy of the model with the choices in it."""
        return replaced(self.model, self.modules(picks))

    def modules(self, picks: Sequence[int]) -> dict[tuple[str, ...], nn.Module]:
        """What takes the place of the layers that do not keep as they are."""
        made = {}
        for site, choices, pick in zip(self.sites, self.choices, picks, strict=True):
            if choices[pick].candidate is not None:
                made[site.names] = choices[pick].build()
                if not _trained(site):
                    made[site.names].requires_grad_(False)
        return made

    # --- the end ------------------------------------------------------------------------------------------------------

    def finish(
        self,
        picks: Sequence[int],
        budget: Mapping[str, float],
        evaluate: Evaluate | None,
        finetune: int | Callable[[nn.Module], object],
        training: Iterable[Any] | None,
        learning_rate: float,
        seed: int,
        source: str | None,
        began: float,
    ) -> Compressed:
        modules = self.modules(picks)
        small = replaced(self.model, modules).eval()
        untuned = None
        tuned = callable(finetune) or bool(finetune)
        if tuned:
            untuned = self._facts(small, evaluate)
            weights = {name: value.clone() for name, value in small.state_dict().items() if isinstance(value, Tensor)}
            frozen = [modules[s.names] for s in self.sites if s.names in modules and not _trained(s)]
            self._tune(small, finetune, training, learning_rate, seed, frozen)
            after = self._kept_or_not(small, untuned, evaluate, finetune, weights)
        else:
            after = self._facts(small, evaluate)
        before = replace(self._facts(self.model, None), metric=self.metric)
        if self.example is not None:
            was, now = seconds(
                [lambda: self.forward(self.model, self.example), lambda: self.forward(small, self.example)],
                budget=_TIMING,
            )
            before, after = replace(before, seconds=was), replace(after, seconds=now)
            if "size" in budget and "latency" not in budget and was < _SLOWER * now:
                self.warnings.append(
                    "slower than before: give a budget of time too (latency=1.0), or floating point alone (bits=())"
                )
        return Compressed(
            model=small,
            modules=modules,
            layers=self._layers(picks, modules),
            left_alone=self.census.left_alone,
            before=before,
            after=after,
            untuned=untuned,
            budget=dict(budget),
            curve=self._curve(allocate),
            uniform=self._curve(uniform),
            epochs=0 if callable(finetune) else finetune,
            threads=torch.get_num_threads(),
            warnings=tuple(self.warnings),
            source=source or type(self.model).__name__,
            seconds=time.perf_counter() - began,
            example=self.example,
        )

    def _kept_or_not(
        self,
        small: nn.Module,
        untuned: Facts,
        evaluate: Evaluate | None,
        finetune: int | Callable[[nn.Module], object],
        weights: Mapping[str, Tensor],
    ) -> Facts:
        """Of the fine-tuned model, or of that before where it was better: then the weights are taken back."""
        tuned = self._facts(small, evaluate)
        if _goodness(tuned) >= _goodness(untuned):
            return tuned
        alike = tuned.metric == untuned.metric  # so they are where there is none
        now, was = (
            f"a relative difference of {one.difference:.3g}" if alike else f"a metric of {one.metric:.4g}"
            for one in (tuned, untuned)
        )
        if callable(finetune):
            self.warnings.append(f"finetune made the model worse: {now}, {was} before")
            return tuned
        small.load_state_dict(weights, strict=False)
        self.warnings.append(f"fine-tuning did not help and was dropped: {now}, {was} without")
        return untuned

    def _tune(
        self,
        small: nn.Module,
        finetune: int | Callable[[nn.Module], object],
        training: Iterable[Any] | None,
        learning_rate: float,
        seed: int,
        frozen: Sequence[nn.Module],
    ) -> None:
        if callable(finetune):
            finetune(small)
            small.eval()
            return
        batches = self.batches if training is None else list(training)
        if not batches:
            raise TenfoldError("fine-tuning needs data=, batches of inputs of the model")
        distil(
            small,
            self.model,
            batches,
            self.forward,
            epochs=finetune,
            learning_rate=learning_rate,
            seed=seed,
            frozen=frozen,
            tell=lambda step, total, loss: self.bar.epoch("fine-tuning", step, total, math.sqrt(loss)),
        )

    def _facts(self, model: nn.Module, evaluate: Evaluate | None) -> Facts:
        size, parameters = size_of(model)
        known = self.example is not None
        return Facts(
            bytes=size,
            parameters=parameters,
            flops=flops_of(model, self.example, self.forward) if known else None,
            seconds=None,
            metric=None if evaluate is None else _metric(evaluate, model),
            difference=(
                math.sqrt(difference(model, self.batches, self.reference, self.forward)) if self.batches else None
            ),
        )

    def _layers(self, picks: Sequence[int], modules: Mapping[tuple[str, ...], nn.Module]) -> tuple[Layer, ...]:
        found = []
        for number, (site, choices, pick) in enumerate(zip(self.sites, self.choices, picks, strict=True)):
            self.bar.rung(f"timing {site.name}", number, len(self.sites))
            was, now = choices[0], choices[pick]
            call = self.calls.get(site.name)
            times: Sequence[float | None] = (None, None)
            if call is not None:
                timed = [site.module, *(m for m in [modules.get(site.names)] if m is not None)]
                found_times = seconds([lambda m=m, x=call.x: m(x) for m in timed])  # type: ignore[misc]
                times = found_times[0], found_times[-1]
            found.append(Layer(site.name, site.kind, tuple(site.weight.shape), was, now, *times))
        return tuple(found)

    def _curve(self, share: Callable[..., list[int]]) -> tuple[Point, ...]:
        """Predicted loss over bytes, by a way of sharing."""
        costs, losses = self._costs("size"), self._losses()
        rest, whole = self._rest("size")
        least, most = math.fsum(min(c) for c in costs), math.fsum(max(c) for c in costs)
        found = []
        for step in range(_POINTS):
            budget = least + (most - least) * (step / (_POINTS - 1)) ** 1.5
            picks = share(costs, losses, budget * (1 + 1e-12))
            spent = rest + math.fsum(c[p] for c, p in zip(costs, picks, strict=True))
            found.append(Point(spent / whole, math.sqrt(math.fsum(e[p] for e, p in zip(losses, picks, strict=True)))))
        return tuple(found)


def _trained(site: Site) -> bool:
    """Whether training the model would change the layer."""
    return any(p.requires_grad for p in site.module.parameters())


def _told(data: Iterable[Any]) -> Iterator[Any]:
    """The batches; what goes wrong in making one is told as such."""
    number, batches = 0, iter(data)
    while True:
        try:
            batch = next(batches)
        except StopIteration:
            return
        except (TenfoldError, MemoryError):
            raise
        except Exception as error:
            raise DataError(f"data raised {type(error).__name__} after {number} batches: {error}") from error
        number += 1
        yield batch


def _timed(choices: Sequence[Choice], call: Call, site: Site) -> list[Choice]:
    """The choices with the time of each."""
    modules = [site.module if c.candidate is None else c.build().eval() for c in choices]
    times = seconds([lambda m=m: m(call.x) for m in modules])  # type: ignore[misc]
    return [replace(c, seconds=t * call.times) for c, t in zip(choices, times, strict=True)]


def _faster(choices: Sequence[Choice]) -> list[Choice]:
    """The layer itself and what takes less time than it."""
    own = next(c.seconds for c in choices if c.candidate is None)
    return [c for c in choices if c.candidate is None or (c.seconds or 0.0) < (own or 0.0)]


def _goodness(known: Facts) -> tuple[float, float]:
    """By the metric, then by the difference of the outputs; larger is better."""
    return known.metric or 0.0, -(known.difference or 0.0)


def _metric(evaluate: Evaluate, model: nn.Module) -> float:
    try:
        inspect.signature(evaluate).bind(model)
    except TypeError as error:
        raise TenfoldError(
            "evaluate must be a function of the model that returns a number, larger is better; it cannot be called "
            f"with the model alone ({error})"
        ) from error
    except ValueError:
        pass  # written in C, without a signature
    with torch.no_grad():
        said = evaluate(model)
    to_evaluation(model)
    try:
        number = float(said)
    except (TypeError, ValueError, RuntimeError):
        raise DataError(
            f"evaluate(model) must return a number, larger is better, not {quoted(type(said).__name__)}"
        ) from None
    if not math.isfinite(number):
        raise DataError(f"evaluate(model) returned {number}; the metric must be a number, larger is better")
    return number
