"""What each candidate of each layer costs, and what the model loses by it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from tenfold.compression._errors import Judge
from tenfold.compression._registry import Candidate, Entry
from tenfold.compression.census import Site, size_of
from tenfold.compression.moments import Call, Moments
from tenfold.compression.outputs import Forward, difference
from tenfold.compression.swapping import swapped
from tenfold.nn.quantized import QuantizedWeight

# Candidates of a layer that are put into the model to see what it loses; between them the loss is read off a line.
_PROBES = 3
# Relative errors of a layer below which a probe would only measure rounding.
_ROUNDING = 1e-10


@dataclass(frozen=True, eq=False)
class Choice:
    """A candidate with its price.

    Attributes:
        candidate: what would take the layer's place; None for the layer itself.
        bytes: of the module.
        parameters: numbers in it, whatever their bits.
        flops: of the module in one call of the model; 0 where it is not known what comes into it.
        error: relative error of the layer's outputs.
        bias: with which the outputs keep their averages.
        loss: what the model's outputs are expected to change by, relative, where only this layer is replaced.
        seconds: of the module in one call of the model; None where time is not asked for.
    """

    candidate: Candidate | None
    bytes: int
    parameters: int
    flops: int
    error: float
    bias: Tensor | None
    loss: float = 0.0
    seconds: float | None = None

    def build(self) -> nn.Module:
        """The module, as often as asked. Raises `ValueError` for the layer itself."""
        if self.candidate is None:
            raise ValueError("the layer itself is not built again")
        return self.candidate.build(self.bias)

    @property
    def label(self) -> str:
        """The method and what of it; ``"as it was"`` for the layer itself."""
        return "as it was" if self.candidate is None else f"{self.candidate.method}, {self.candidate.label}"


def flops_of(model: nn.Module, batch: Any, forward: Forward) -> int:
    """Multiplications and additions of one call, as torch counts them."""
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        forward(model, batch)
    return int(counter.get_total_flops())


def _flops(module: nn.Module, call: Call) -> int:
    """The same of one layer, of shapes alone: nothing is computed."""
    numbers = {name: t.to("meta") for name, t in (*module.named_parameters(), *module.named_buffers())}
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        torch.func.functional_call(module, numbers, (call.x.to("meta"),))
    return int(counter.get_total_flops()) * call.times


def price(
    site: Site,
    moments: Moments | None,
    entries: Sequence[Entry],
    call: Call | None = None,
    *,
    bits: Sequence[int] = (8, 4),
    timed: bool = False,
) -> list[Choice]:
    """The layer itself, and all candidates that no other one beats in everything.

    Where time counts, what multiplies in whole numbers is not beaten by what does not: no flops tell how fast it is.
    """
    judge = Judge(site, moments)

    known: dict[tuple[Any, ...], int] = {}

    def flops(module: nn.Module, method: str = "") -> int:
        """The same for all candidates of a method whose weights have the same shapes, in whatever bits."""
        if call is None:
            return 0
        quantized = [m.shape for m in module.modules() if isinstance(m, QuantizedWeight)]
        key = (method, *quantized, *(tuple(p.shape) for p in module.parameters() if p.ndim > 1))
        if key not in known:
            known[key] = _flops(module, call)
        return known[key]

    found = [Choice(None, site.bytes, *_counted(site), flops(site.module), 0.0, site.bias)]
    for entry in entries:
        if site.kind not in entry.kinds:
            continue
        for candidate in entry.function(site, moments):
            if candidate.bits is not None and candidate.bits not in bits:
                continue
            weight = candidate.weight()
            if candidate.error is None:
                error, bias = judge.measured(weight)
            else:
                error, bias = judge.measured_as(weight, candidate.error)
            del weight
            module = candidate.build(bias).eval()
            if candidate.rounds:
                error = _measured(site, module, moments)
            size, parameters = size_of(module)
            found.append(Choice(candidate, size, parameters, flops(module, candidate.method), error, bias))
    return _front(found, timed=timed)


def _counted(site: Site) -> tuple[int]:
    return (sum(t.numel() for t in (site.weight, site.bias) if t is not None),)


def _measured(site: Site, module: nn.Module, moments: Moments | None) -> float:
    """The relative error of a module's outputs for the inputs that were kept."""
    if moments is None or moments.sample is None:
        raise ValueError(f"a candidate for '{site.name}' rounds its inputs, of which none were kept")
    x, bias = moments.sample, site.bias
    with torch.no_grad():
        wanted = site.module(x).double()
        off = float((module(x).double() - wanted).square().sum())
        if bias is not None:
            wanted -= bias.double().reshape(-1, *(1,) * (site.weight.ndim - 2))
        total = float(wanted.square().sum())
    return off / total if total > 0 else float(off > 0)


def _front(choices: Sequence[Choice], *, timed: bool) -> list[Choice]:
    """Those that no other beats in bytes, flops and error at once; the layer itself always."""

    def traits(one: Choice) -> tuple[float, ...]:
        slow = timed and not (one.candidate is not None and one.candidate.rounds)
        return one.bytes, one.flops, one.error, slow

    def beats(one: Choice, other: Choice) -> bool:
        a, b = traits(one), traits(other)
        return all(x <= y for x, y in zip(a, b, strict=True)) and a != b

    return [c for c in choices if c.candidate is None or not any(beats(other, c) for other in choices)]


class NotReplaceable(Exception):
    """Why a layer has to keep as it is, as was seen when other modules stood in its place."""


def weigh(
    model: nn.Module,
    site: Site,
    choices: Sequence[Choice],
    batches: Sequence[Any],
    reference: Sequence[Sequence[Tensor]],
    forward: Forward,
) -> list[Choice]:
    """The choices with what the model loses: a few are put into it, the others are read off a line between them.

    The line is straight in the logarithms of the layer's error and the model's. What a method proposes is left out
    where the model does not run with it, as models that read the layer's weight do.

    Raises:
        NotReplaceable: the model runs with nothing in the layer's place, or it calls the layer without looking there.
    """
    kept, failure = list(choices), ""
    while len(kept) > 1:
        others = sorted((c for c in kept if c.candidate is not None and c.error > _ROUNDING), key=lambda c: c.error)
        probed = others or [kept[-1]]
        known: list[tuple[float, float]] = []
        for place in sorted({round(x) for x in np.linspace(0, len(probed) - 1, _PROBES)}):
            one = probed[place]
            try:
                with swapped(model, site, one.build()) as runs:
                    loss = difference(model, batches, reference, forward)
            except (MemoryError, torch.OutOfMemoryError):
                raise
            except Exception as error:
                assert one.candidate is not None
                method = one.candidate.method
                failure = f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
                kept = [c for c in kept if c.candidate is None or c.candidate.method != method]
                break
            if not runs.number:
                if _runs(model, site, batches, forward):
                    raise NotReplaceable("the model calls it by another way than its name, so nothing can stand in")
                # On a branch that these batches do not take: its own error is all that is known.
                return [c if c.candidate is None else replace(c, loss=c.error) for c in kept]
            known.append((one.error, loss if math.isfinite(loss) else 1e6))
        else:
            return _read_off(kept, known) if others else kept
    if failure:
        raise NotReplaceable(f"the model does not run with another module in its place ({failure})")
    return kept


def _runs(model: nn.Module, site: Site, batches: Sequence[Any], forward: Forward) -> bool:
    """Whether the layer itself runs on these batches."""
    with swapped(model, site, site.module) as runs, torch.no_grad():
        for batch in batches:
            forward(model, batch)
    return runs.number > 0


def _read_off(choices: Sequence[Choice], known: Sequence[tuple[float, float]]) -> list[Choice]:
    """The choices with losses from a line through what is known."""
    x = np.log([error for error, _ in known])
    # A larger error of the layer counts at least as much as a smaller one.
    y = np.maximum.accumulate(np.log([max(loss, 1e-30) for _, loss in known]))

    def read(error: float) -> float:
        if error <= _ROUNDING:
            return 0.0
        at = math.log(error)
        if at <= x[0]:
            return float(np.exp(y[0] + at - x[0]))
        return float(np.exp(np.interp(at, x, y)))

    return [c if c.candidate is None else replace(c, loss=read(c.error)) for c in choices]
