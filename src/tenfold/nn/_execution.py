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
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from tenfold.errors import StructureError

Cores = Sequence[Sequence[Tensor]]
# Tensors with their version and address.
Marks = list[tuple[Tensor, int, int]]
Asked = Literal["auto", "factorised", "materialised"]

# Rounds of a measurement, and the seconds after which there are no more of them.
_ROUNDS, _SECONDS = 25, 0.05
# A way that took so many times the shortest first try is not tried again.
_HOPELESS = 8.0
# Where the factors promise much, the matrix in full must take less than this part of their time to be worth its memory;
# where they promise little, they must take less than that part of its time to be believed.
_MARGIN, _DOUBT = 0.98, 0.9
# Multiplications and additions below which calling a kernel of our own is not worth compiling it.
_SMALL = 200_000
# The matrix in full is not made to be tried where it has more entries.
_LARGEST = 2**28
# Where nothing is measured: the factors, if they need less than this part of the operations of the matrix in full.
_SHARE = 0.5


class Way(NamedTuple):
    """One way to apply a matrix. ``subject`` is what the matrix is, without its numbers.

    Attributes:
        name: what `_kept` has it under.
        prepare: what is made of the cores, from subject and cores; differentiable, except for a kernel.
        run: the product, from the subject, what was prepared, rows and bias.
    """

    name: str
    prepare: Callable[[Any, Cores], Any]
    run: Callable[[Any, Any, Tensor, Tensor | None], Tensor]


@dataclass(frozen=True)
class Ways:
    """All ways to apply one kind of matrix.

    Attributes:
        subject: what the matrix is, without its numbers.
        factors: ways that do not make the matrix; the first is taken where nothing is measured.
        whole: the way that makes it.
        kernel: one for numbers of single or double precision on the CPU where no gradients are wanted, or None.
        flops: multiplications and additions of the factors for one vector.
        entries: of the matrix.
    """

    subject: Hashable
    factors: tuple[Way, ...]
    whole: Way
    kernel: Way | None
    flops: int
    entries: int


_table: dict[Hashable, Way] = {}


class Execution:
    """Which way a layer takes, and what is kept for it; copies of the layer begin with nothing."""

    def __init__(self, ways: Ways, asked: Asked) -> None:
        if asked not in get_args(Asked):
            raise StructureError(f"execution must be {', '.join(get_args(Asked))}, not {asked!r}")
        self.asked = asked
        self._ways = ways
        self._chosen: dict[Hashable, Way] = {}
        self._kept: dict[str, tuple[Marks, Any, torch.dtype | None]] = {}
        fewer = asked == "auto" and ways.flops <= _SHARE * 2 * ways.entries
        self._rule = ways.factors[0] if fewer or asked == "factorised" else ways.whole

    def __reduce__(self) -> tuple[Any, ...]:
        return Execution, (self._ways, self.asked)

    def forget(self) -> None:
        """Make what is kept of the cores anew when it is needed."""
        self._kept.clear()

    def dense(self, cores: Cores) -> Tensor:
        """The matrix in full; gradients flow to the cores."""
        made: Tensor = self._ways.whole.prepare(self._ways.subject, cores)
        return made

    def by_rule(self, cores: Cores, rows: Tensor, bias: Tensor | None) -> Tensor:
        """Without measuring and without keeping anything; the same way for any number of rows."""
        way, subject = self._rule, self._ways.subject
        return way.run(subject, way.prepare(subject, cores), rows, bias)

    def __call__(self, cores: Cores, rows: Tensor, bias: Tensor | None) -> Tensor:
        """The product, by the fastest way for such rows."""
        count = rows.shape[0]
        if count == 0 or not self._ways.entries or watched() or not plain(rows):
            return self.by_rule(cores, rows, bias)
        trained = wanted = False
        if torch.is_grad_enabled():
            trained = _trained(cores)
            wanted = trained or rows.requires_grad or (bias is not None and bias.requires_grad)
        # This runs in every call of every layer: for small ones it is most of the time.
        if rows.is_cpu:
            half = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None
            place: Hashable = torch.get_num_threads()
        else:
            if rows.is_meta:
                return self.by_rule(cores, rows, bias)
            kind = rows.device.type
            half = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
            place = rows.device
        key = (count.bit_length(), place, rows.dtype, cores[0][0].dtype, trained, wanted, half)
        way = self._chosen.get(key)
        if way is not None:
            if trained:
                return way.run(self._ways.subject, way.prepare(self._ways.subject, cores), rows, bias)
            kept = self._kept.get(way.name)
            # What was made under autocast is of its numbers.
            if kept is not None and kept[2] is half and unchanged(kept[0], cores):
                return way.run(self._ways.subject, kept[1], rows, bias)
        if not all(plain(core) for numbers in cores for core in numbers):
            return self.by_rule(cores, rows, bias)
        if way is None:
            way = self._chosen[key] = self._choose(key, cores, rows, bias, trained=trained, wanted=wanted)
        return way.run(self._ways.subject, self._prepared(way, cores, trained, half), rows, bias)

    def _prepared(self, way: Way, cores: Cores, trained: bool, half: torch.dtype | None) -> Any:
        if trained:
            return way.prepare(self._ways.subject, cores)
        # What is kept may serve where gradients are wanted, so it is no tensor of inference mode.
        with torch.inference_mode(False), torch.no_grad():
            made = way.prepare(self._ways.subject, cores)
        marks = marks_of(cores)
        if marks is not None:
            self._kept[way.name] = marks, made, half
        return made

    def _choose(
        self, key: Hashable, cores: Cores, rows: Tensor, bias: Tensor | None, *, trained: bool, wanted: bool
    ) -> Way:
        if self.asked == "materialised":
            return self._ways.whole
        kernel = self._ways.kernel
        if (
            wanted
            or {(core.dtype, core.device.type) for numbers in cores for core in numbers} != {(rows.dtype, "cpu")}
            or rows.device.type != "cpu"
            or rows.dtype not in (torch.float32, torch.float64)
            or torch.is_autocast_enabled("cpu")
            or rows.shape[0] * self._ways.flops < _SMALL
        ):
            kernel = None
        if self.asked == "factorised":
            return kernel or self._rule
        known = (self._ways.subject, key)
        way = _table.get(known)
        if way is None:
            ways = [*self._ways.factors, *([kernel] if kernel else [])]
            if self._ways.entries <= _LARGEST:
                ways.append(self._ways.whole)
            way = _table[known] = self._fastest(ways, cores, rows, bias, trained=trained, wanted=wanted)
        return way

    def _fastest(
        self, ways: Sequence[Way], cores: Cores, rows: Tensor, bias: Tensor | None, *, trained: bool, wanted: bool
    ) -> Way:
        subject = self._ways.subject

        def tried(way: Way) -> Callable[[], object]:
            if not wanted:
                return partial(way.run, subject, way.prepare(subject, cores), rows, bias)
            x = rows.detach().requires_grad_(rows.requires_grad)
            mine = [[core.detach().requires_grad_(core.requires_grad) for core in numbers] for numbers in cores]
            state = None if trained else way.prepare(subject, mine)
            added = None if bias is None else bias.detach().requires_grad_(bias.requires_grad)
            leaves = [t for t in (x, added, *(core for numbers in mine for core in numbers)) if t is not None]
            leaves = [t for t in leaves if t.requires_grad]

            def once() -> None:
                made = way.run(subject, way.prepare(subject, mine) if trained else state, x, added)
                torch.autograd.grad(made, leaves, made.detach())

            return once

        # One thread's own time is not disturbed by others that want the same core.
        alone = rows.device.type == "cpu" and torch.get_num_threads() == 1
        clock = time.thread_time if alone else time.perf_counter
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
                # Twice, for the way before may have put other numbers into the cache.
                for _ in range(2):
                    wait()
                    before = clock()
                    run()
                    wait()
                    best[way] = min(best[way], clock() - before)
            if turn > 1 and time.perf_counter() - started > _SECONDS:
                break
        if self._ways.whole in best:
            little = self._ways.flops > _SHARE * 2 * self._ways.entries
            best[self._ways.whole] *= _DOUBT if little else 1 / _MARGIN
        return min(best, key=best.__getitem__)


def materialised(subject: Any, matrix: Tensor, rows: Tensor, bias: Tensor | None) -> Tensor:
    """The product with the matrix in full."""
    return torch.nn.functional.linear(rows, matrix, bias)


def transformed() -> bool:
    """Whether torch.func or forward-mode derivatives are at work, which only see operators of torch."""
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0


def watched() -> bool:
    """Whether somebody looks at what is computed and not only at the result: nothing is measured or kept then."""
    return bool(torch._C._len_torch_dispatch_stack() or transformed() or torch.jit.is_tracing())


def plain(tensor: Tensor) -> bool:
    """Whether a tensor is one of torch's own classes: others may have no numbers at their address."""
    return type(tensor) is Tensor or type(tensor) is nn.Parameter


def _trained(cores: Cores) -> bool:
    for numbers in cores:
        for core in numbers:
            if core.requires_grad:
                return True
    return False


def marks_of(cores: Cores) -> Marks | None:
    """What tells that a core is the same and unchanged; None where that cannot be told."""
    if any(core.is_inference() for numbers in cores for core in numbers):
        return None
    return [(core, core._version, core.data_ptr()) for numbers in cores for core in numbers]


def unchanged(marks: Marks, cores: Cores) -> bool:
    """Whether these are the cores that the marks were taken of."""
    place = 0
    for numbers in cores:
        for core in numbers:
            held, version, address = marks[place]
            if held is not core or core._version != version or core.data_ptr() != address:
                return False
            place += 1
    return True
