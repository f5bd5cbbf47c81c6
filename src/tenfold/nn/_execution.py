"""How a structured matrix is applied: the ways there are, and which one is the fastest for the vectors at hand.

A way makes something of the cores (`prepare`), which is kept as long as they do not change and no gradient is wanted
of them, and applies it to rows (`run`). All ways compute the same product. Which one is used is measured once for each
structure, number of rows (as a power of two), kind of numbers, device, number of threads and gradients that are asked
for, on the first rows that come, and kept for the process.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from tenfold.contraction import contract, execute
from tenfold.nn import _lanes
from tenfold.nn._chains import Chain, chain
from tenfold.structure import Structure

Chains = tuple[Chain, ...]
Cores = Sequence[Sequence[Tensor]]
Asked = Literal["auto", "factorised", "materialised"]

# No index of a structure contains a space, so this name is free.
_BATCH = "the batch"
# Rounds of a measurement, and the seconds after which there are no more of them.
_ROUNDS, _SECONDS = 7, 0.03
# A way that took so many times the shortest first try is not tried again.
_HOPELESS = 8.0
# The matrix in full must be so much faster than the factors to be worth its memory.
_MARGIN = 0.98
# Multiplications and additions below which calling a kernel of our own is not worth compiling it.
_SMALL = 200_000
# The matrix in full is not made to be tried where it has more entries.
_LARGEST = 2**28
# Where nothing is measured: the factors, if they need less than this part of the operations of the matrix in full.
_SHARE = 0.5


class Way(NamedTuple):
    """One way to apply a structured matrix."""

    name: str
    prepare: Callable[[Chains, Cores], Any]
    run: Callable[[Chains, Any, Tensor, Tensor | None], Tensor]


def _as_they_are(chains: Chains, cores: Cores) -> Any:
    return cores


def _contracted(chains: Chains, cores: Cores, rows: Tensor, bias: Tensor | None) -> Tensor:
    """Along the cheapest order of products there is, rows first."""
    made = None
    for one, numbers in zip(chains, cores, strict=True):
        structure = one.structure
        up, down = structure.outputs
        operands = [(t.indices, numbers[c]) for t, c in zip(structure.terms, structure.term_core, strict=True)]
        x = rows.reshape(rows.shape[0], *one.down)
        part = contract([((_BATCH, *down), x), *operands], (_BATCH, *up)).reshape(rows.shape[0], structure.shape[0])
        made = part if made is None else made + part
    assert made is not None
    return made if bias is None else made + bias.to(made.dtype)


def _matrices(chains: Chains, cores: Cores) -> list[list[Tensor]]:
    """The cores in the order of the chain, each as matrices ``[groups, made, summed]``."""
    return [
        [numbers[step.core].permute(step.core_axes).reshape(step.core_shape) for step in one.steps]
        for one, numbers in zip(chains, cores, strict=True)
    ]


def _chained(chains: Chains, prepared: list[list[Tensor]], rows: Tensor, bias: Tensor | None) -> Tensor:
    """One core after the other, features first: then a product's result is the next one's operand without a copy."""
    count = rows.shape[0]
    total = None
    for one, matrices in zip(chains, prepared, strict=True):
        if one.flat:
            part = rows
            for matrix in matrices:
                part = part @ matrix[0].t()
        else:
            held = rows.t().reshape(*one.down, count)
            for step, matrix in zip(one.steps, matrices, strict=True):
                groups, _, summed = step.core_shape
                held = held.permute(step.axes).reshape(groups, summed, step.others * count)
                held = torch.bmm(matrix, held) if groups > 1 else matrix[0] @ held[0]
                held = held.reshape(*step.after, count)
            part = held.permute(one.finish).reshape(one.structure.shape[0], count).t()
        total = part if total is None else total + part
    assert total is not None
    made = total.contiguous()
    return made if bias is None else made + bias.to(made.dtype)


def dense(chains: Chains, cores: Cores) -> Tensor:
    """The matrix in full; gradients flow to the cores."""
    made = None
    for one, numbers in zip(chains, cores, strict=True):
        operands = [numbers[c] for c in one.structure.term_core]
        part = execute(one.whole, operands).reshape(one.structure.shape)
        made = part if made is None else made + part
    assert made is not None
    return made


def _dense(chains: Chains, matrix: Tensor, rows: Tensor, bias: Tensor | None) -> Tensor:
    return nn.functional.linear(rows, matrix, bias)


def _by_lanes(chains: Chains, prepared: _lanes.Ready, rows: Tensor, bias: Tensor | None) -> Tensor:
    if rows.stride(1) != 1:
        rows = rows.contiguous()
    own = bias is not None and bias.dtype == rows.dtype and bias.is_contiguous()
    made = _lanes.run(prepared, rows, bias if own else None, chains[0].structure.shape[0])
    return made if own or bias is None else made + bias.to(made.dtype)


_CONTRACTED = Way("contracted", _as_they_are, _contracted)
_CHAINED = Way("chained", _matrices, _chained)
_LANES = Way("lanes", _lanes.ready, _by_lanes)
_MATERIALISED = Way("materialised", dense, _dense)

_table: dict[Hashable, Way] = {}


class Execution:
    """Which way a layer takes, and what is kept for it; it belongs to the layer and goes into no file and no copy."""

    def __init__(self, structures: Sequence[Structure], asked: Asked) -> None:
        self.asked = asked
        self.chains = tuple(map(chain, structures))
        self.structures = tuple(structures)
        self._chosen: dict[Hashable, Way] = {}
        self._kept: dict[str, tuple[list[tuple[Tensor, int, int]], Any]] = {}
        self._flops = sum(one.flops for one in self.chains)
        whole = 2 * math.prod(structures[0].shape)
        fewer = asked == "factorised" or (asked == "auto" and self._flops <= _SHARE * whole)
        self._rule = _CHAINED if fewer else _MATERIALISED

    def __reduce__(self) -> tuple[Any, ...]:
        return Execution, (self.structures, self.asked)

    def forget(self) -> None:
        """Make what is kept of the cores anew when it is needed."""
        self._kept.clear()

    def dense(self, cores: Cores) -> Tensor:
        """The matrix in full; gradients flow to the cores."""
        return dense(self.chains, cores)

    def by_rule(self, cores: Cores, rows: Tensor, bias: Tensor | None) -> Tensor:
        """Without measuring and without keeping anything; the same way for any number of rows."""
        way = self._rule
        return way.run(self.chains, way.prepare(self.chains, cores), rows, bias)

    def __call__(self, cores: Cores, rows: Tensor, bias: Tensor | None) -> Tensor:
        """The product, by the fastest way for such rows."""
        count = rows.shape[0]
        if (
            count == 0
            or torch.jit.is_tracing()
            or torch._C._are_functorch_transforms_active()
            or torch._C._len_torch_dispatch_stack()
        ):
            return self.by_rule(cores, rows, bias)
        graded = torch.is_grad_enabled()
        trained = graded and any(core.requires_grad for numbers in cores for core in numbers)
        wanted = trained or (graded and rows.requires_grad)
        kind = rows.device.type
        half = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
        threads = torch.get_num_threads() if kind == "cpu" else 0
        key = (count.bit_length(), rows.dtype, rows.device, threads, trained, wanted, half)
        way = self._chosen.get(key)
        if way is None:
            way = self._chosen[key] = self._choose(key, cores, rows, bias)
        return way.run(self.chains, self._prepared(way, cores, trained), rows, bias)

    def _prepared(self, way: Way, cores: Cores, trained: bool) -> Any:
        if trained or way is _CONTRACTED:
            return way.prepare(self.chains, cores)
        kept = self._kept.get(way.name)
        if kept is not None and _unchanged(kept[0], cores):
            return kept[1]
        # What is kept may serve where gradients are wanted, so it is no tensor of inference mode.
        with torch.inference_mode(False), torch.no_grad():
            made = way.prepare(self.chains, cores)
        marks = _marks(cores)
        if marks is not None:
            self._kept[way.name] = marks, made
        return made

    def _choose(self, key: Hashable, cores: Cores, rows: Tensor, bias: Tensor | None) -> Way:
        if self.asked == "materialised":
            return _MATERIALISED
        known = (self.structures, self.asked, key)
        way = _table.get(known)
        if way is None:
            ways = self._candidates(cores, rows, bias)
            way = _table[known] = ways[0] if len(ways) == 1 else self._fastest(ways, cores, rows, bias)
        return way

    def _candidates(self, cores: Cores, rows: Tensor, bias: Tensor | None) -> list[Way]:
        ways = [self._rule] if self.asked == "factorised" else [_CONTRACTED, _CHAINED]
        graded = torch.is_grad_enabled() and (
            rows.requires_grad or any(core.requires_grad for numbers in cores for core in numbers)
        )
        same = {(core.dtype, core.device.type) for numbers in cores for core in numbers} == {(rows.dtype, "cpu")}
        if (
            same
            and rows.device.type == "cpu"
            and rows.dtype in (torch.float32, torch.float64)
            and not graded
            and not torch.is_autocast_enabled("cpu")
            and rows.shape[0] * self._flops >= _SMALL
        ):
            ways = [_LANES] if self.asked == "factorised" else [*ways, _LANES]
        if self.asked == "auto" and math.prod(self.structures[0].shape) <= _LARGEST:
            ways.append(_MATERIALISED)
        return ways

    def _fastest(self, ways: Sequence[Way], cores: Cores, rows: Tensor, bias: Tensor | None) -> Way:
        trained = torch.is_grad_enabled() and any(core.requires_grad for numbers in cores for core in numbers)
        wanted = torch.is_grad_enabled() and (trained or rows.requires_grad)

        def tried(way: Way) -> Callable[[], object]:
            if not wanted:
                state = way.prepare(self.chains, cores)
                return partial(way.run, self.chains, state, rows, bias)
            x = rows.detach().requires_grad_(rows.requires_grad)
            mine = [[core.detach().requires_grad_(core.requires_grad) for core in numbers] for numbers in cores]
            state = None if trained else way.prepare(self.chains, mine)
            leaves = [t for t in (x, *(core for numbers in mine for core in numbers)) if t.requires_grad]

            def once() -> None:
                made = way.run(self.chains, state or way.prepare(self.chains, mine), x, None)
                torch.autograd.grad(made, leaves, made.detach())

            return once

        wait = torch.cuda.synchronize if rows.device.type == "cuda" else int
        runs = {way: tried(way) for way in ways}
        best = dict.fromkeys(ways, math.inf)
        for run in runs.values():
            run()
        started = time.perf_counter()
        for turn in range(_ROUNDS):
            for way, run in runs.items():
                if turn and best[way] > _HOPELESS * min(best.values()):
                    continue
                wait()
                before = time.perf_counter()
                run()
                wait()
                best[way] = min(best[way], time.perf_counter() - before)
            if turn > 1 and time.perf_counter() - started > _SECONDS:
                break
        if _MATERIALISED in best:
            best[_MATERIALISED] /= _MARGIN
        return min(best, key=best.__getitem__)


def _marks(cores: Cores) -> list[tuple[Tensor, int, int]] | None:
    """What tells that a core is the same and unchanged; None where that cannot be told."""
    if any(core.is_inference() for numbers in cores for core in numbers):
        return None
    return [(core, core._version, core.data_ptr()) for numbers in cores for core in numbers]


def _unchanged(marks: list[tuple[Tensor, int, int]], cores: Cores) -> bool:
    place = 0
    for numbers in cores:
        for core in numbers:
            held, version, address = marks[place]
            if held is not core or core._version != version or core.data_ptr() != address:
                return False
            place += 1
    return True
