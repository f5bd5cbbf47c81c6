"""Kernels of Triton for products of few terms, written out: each component is read once and stays in a register.

Values are numbers in the text, so that neither tables nor loops are left.
"""

from __future__ import annotations

import linecache
from collections.abc import Iterator
from functools import lru_cache
from hashlib import sha256
from typing import Any

import numpy as np

from tenfold.so3.products._trilinear_plan import Plan, plan_of

# Components of right, and of what gradients come from, are kept between groups where there are not more of them.
_KEPT = 16


@lru_cache(maxsize=256)
def forward(key: str, *, weighted: bool, second: bool) -> Any:
    """The kernel of ``out``: of ``left * right``, and of ``left2 * right2`` if there is a second product."""
    return _compiled(_Text("forward", plan_of(key), weighted=weighted, second=second).forward())


@lru_cache(maxsize=256)
def gradients(key: str, *, weighted: bool, narrow: bool) -> Any:
    """The kernel of what comes back to left and right, the latter summed over channels if it is narrow."""
    return _compiled(_Text("gradients", plan_of(key), weighted=weighted, narrow=narrow).gradients())


@lru_cache(maxsize=256)
def weights(key: str, *, second: bool, summed: bool, narrow: bool) -> Any:
    """The kernel of what comes back to weights, summed over rows, over channels, or over both."""
    return _compiled(_Text("weights", plan_of(key), second=second, summed=summed, narrow=narrow).weights())


def _compiled(text: str) -> Any:
    import triton
    import triton.language as tl

    # Triton reads the text of a kernel as `inspect` finds it.
    name = f"<tenfold trilinear {sha256(text.encode()).hexdigest()[:16]}>"
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    names: dict[str, Any] = {"triton": triton, "tl": tl, "__name__": __name__}
    exec(compile(text, name, "exec"), names)
    return names["kernel"]


class _Text:
    """The lines of one kernel, and which components have been read."""

    def __init__(
        self,
        role: str,
        plan: Plan,
        *,
        weighted: bool = False,
        second: bool = False,
        summed: bool = False,
        narrow: bool = False,
    ) -> None:
        self.plan, self.weighted, self.second, self.summed, self.narrow = plan, weighted, second, summed, narrow
        self.lefts, self.rights, self.outs, self.paths = plan.sizes
        self.read: set[str] = set()
        self.lines: list[str] = []
        outputs = {"forward": ["out"], "gradients": ["to_left", "to_right"], "weights": ["to_weight"]}[role]
        inputs = ["left", "right"]
        inputs += ["left2", "right2"] if second else []
        inputs += ["weight"] if weighted else []
        inputs += [] if role == "forward" else ["grad"]
        numbers = ["batch", "channels", "right_channels"]
        numbers += ["weight_row", "weight_channels"] if weighted else []
        numbers += ["depth"] if summed else []
        constants = ["ROWS", "LANES", "RIGHT_STEP", *(["WEIGHT_STEP"] if weighted else []), "NUMBER"]
        arguments = [f"{name}_ptr" for name in outputs + inputs] + numbers
        arguments += [f"{name}: tl.constexpr" for name in constants]
        # A kernel for each remainder of the batch would be compiled anew for no gain.
        varying = ["batch", *(["depth"] if summed else [])]
        self.inputs = inputs
        self.head = [f"@triton.jit(do_not_specialize={varying})", f"def kernel({', '.join(arguments)}):"]

    # --- the three kernels

    def forward(self) -> str:
        plan = self.plan
        left_over = np.bincount(plan.end_out, minlength=self.outs)
        begun: set[int] = set()
        self._tiles()
        self._rows()
        for group in range(len(plan.group_pairs) - 1):
            for end in range(plan.group_ends[group], plan.group_ends[group + 1]):
                out, value = int(plan.end_out[end]), self._end(group, end)
                if self.weighted:
                    value = f"({value}) * {self._component('weight', int(plan.end_path[end]))}"
                left_over[out] -= 1
                self._add(f"o{out}", value, begun, out)
                if not left_over[out]:
                    self._store("out", self.outs, out, f"o{out}")
            self._forget(group)
        for unused in sorted(set(range(self.outs)) - begun):
            self._store("out", self.outs, unused, "tl.zeros((ROWS * LANES,), NUMBER)")
        return self._whole()

    def gradients(self) -> str:
        plan = self.plan
        pairs = np.arange(len(plan.pair_left))
        last_left = dict(zip(plan.pair_left, pairs, strict=True))
        last_right = dict(zip(plan.pair_right, pairs, strict=True))
        begun: tuple[set[int], set[int]] = (set(), set())
        self._tiles()
        self._rows()
        for group in range(len(plan.group_pairs) - 1):
            first_end = plan.group_ends[group]
            for end in range(first_end, plan.group_ends[group + 1]):
                value = self._component("grad", int(plan.end_out[end]))
                if self.weighted:
                    value += " * " + self._component("weight", int(plan.end_path[end]))
                self._line(f"e{end - first_end} = {value}")
            for pair in range(plan.group_pairs[group], plan.group_pairs[group + 1]):
                i, j = int(plan.pair_left[pair]), int(plan.pair_right[pair])
                terms = range(plan.pair_terms[pair], plan.pair_terms[pair + 1])
                self._line("p = " + " + ".join(f"{float(plan.pair_values[t])!r} * e{plan.pair_ends[t]}" for t in terms))
                self._add(f"a{i}", f"p * {self._component('right', j)}", begun[0], i)
                self._add(f"b{j}", f"p * {self._component('left', i)}", begun[1], j)
                if last_left[i] == pair:
                    self._store("to_left", self.lefts, i, f"a{i}")
                if last_right[j] == pair:
                    self._store_right(j, f"b{j}")
            self._forget(group)
        zeros = "tl.zeros((ROWS * LANES,), NUMBER)"
        for i in sorted(set(range(self.lefts)) - begun[0]):
            self._store("to_left", self.lefts, i, zeros)
        for j in sorted(set(range(self.rights)) - begun[1]):
            self._store_right(j, zeros)
        return self._whole()

    def weights(self) -> str:
        plan = self.plan
        self._tiles()
        every = range(self.paths)
        if self.summed:
            self.lines += [f"    w{path} = tl.zeros((ROWS * LANES,), NUMBER)" for path in every]
            self.lines.append("    for step in range(depth):")
        self._rows()
        begun: set[int] = set(every) if self.summed else set()
        for group in range(len(plan.group_pairs) - 1):
            ends = np.arange(plan.group_ends[group], plan.group_ends[group + 1])
            ends = ends[np.argsort(plan.end_path[ends], kind="stable")]
            for place, end in enumerate(ends):
                path = int(plan.end_path[end])
                value = f"({self._end(group, end)}) * {self._component('grad', int(plan.end_out[end]))}"
                self._add(f"w{path}", value, begun, path)
                done = place + 1 == len(ends) or plan.end_path[ends[place + 1]] != path
                if done and not self.summed:
                    self._store_weight(path, f"w{path}")
            self._forget(group)
        for path in every:
            if self.summed:
                self._store_weight(path, f"w{path}")
            elif path not in begun:
                self._store_weight(path, "tl.zeros((ROWS * LANES,), NUMBER)")
        return self._whole()

    # --- parts

    def _line(self, line: str) -> None:
        self.lines.append(f"{'        ' if self.summed else '    '}{line}")

    def _tiles(self) -> None:
        self.lines += [
            "    across = tl.cdiv(channels, LANES)",
            "    tile = tl.program_id(0) % across",
            "    slab = tl.program_id(0) // across",
            "    place = tl.arange(0, ROWS * LANES)",
            "    lanes = tile * LANES + place % LANES",
        ]

    def _rows(self) -> None:
        self._line(f"rows = {'(slab * depth + step)' if self.summed else 'slab'} * ROWS + place // LANES")
        self._line("inside = (rows < batch) & (lanes < channels)")
        self._line("row = rows.to(tl.int64)")
        sizes = {"left": self.lefts, "right": self.rights, "grad": self.outs}
        for name in self.inputs:
            if name == "weight":
                place = "row * weight_row + lanes * WEIGHT_STEP"
            else:
                kind = name.rstrip("2")
                width = "right_channels" if kind == "right" else "channels"
                lanes = "lanes * RIGHT_STEP" if kind == "right" else "lanes"
                place = f"row * ({sizes[kind]} * {width}) + {lanes}"
            self._line(f"{name}_at = {name}_ptr + {place}")

    def _component(self, name: str, number: int) -> str:
        """The variable that holds it, which is read here if it has not been."""
        variable = f"{name}_{number}"
        if variable not in self.read:
            self.read.add(variable)
            kind = name.rstrip("2")
            width = f"{kind}_channels" if kind in ("right", "weight") else "channels"
            self._line(f"{variable} = tl.load({name}_at + {number} * {width}, inside, other=0.0).to(NUMBER)")
        return variable

    def _end(self, group: int, end: int) -> str:
        """The sum of the terms of an end."""
        plan, parts = self.plan, []
        for term in range(plan.end_terms[end], plan.end_terms[end + 1]):
            pair = plan.group_pairs[group] + plan.end_pairs[term]
            parts.append(f"{float(plan.end_values[term])!r} * {self._pair(pair)}")
        return " + ".join(parts)

    def _pair(self, pair: int) -> str:
        variable = f"pair_{pair}"
        if variable not in self.read:
            self.read.add(variable)
            i, j = int(self.plan.pair_left[pair]), int(self.plan.pair_right[pair])
            value = f"{self._component('left', i)} * {self._component('right', j)}"
            if self.second:
                value += f" + {self._component('left2', i)} * {self._component('right2', j)}"
            self._line(f"{variable} = {value}")
        return variable

    def _add(self, variable: str, value: str, begun: set[int], number: int) -> None:
        self._line(f"{variable} {'+=' if number in begun else '='} {value}")
        begun.add(number)

    def _forget(self, group: int) -> None:
        """What the next group reads again rather than that it stays in registers."""
        following = set(_lefts(self.plan, group + 1))
        many = {"right": self.rights > _KEPT, "right2": self.rights > _KEPT, "grad": self.outs > _KEPT}
        for variable in list(self.read):
            name, number = variable.rsplit("_", 1)
            gone = name.startswith("left") and int(number) not in following
            if gone or name in ("pair", "weight") or many.get(name, False):
                self.read.remove(variable)

    def _store(self, name: str, size: int, number: int, value: str) -> None:
        place = f"row * ({size} * channels) + {number} * channels + lanes"
        self._line(f"tl.store({name}_ptr + {place}, {value}, inside)")

    def _store_right(self, number: int, value: str) -> None:
        if self.narrow:
            self._store_row("to_right", self.rights, number, value)
        else:
            self._store("to_right", self.rights, number, value)

    def _store_row(self, name: str, size: int, number: int, value: str) -> None:
        """Summed over the channels of this tile."""
        self._line("heights = slab * ROWS + tl.arange(0, ROWS)")
        place = f"heights.to(tl.int64) * ({size} * across) + {number} * across + tile"
        total = f"tl.sum(tl.reshape({value}, (ROWS, LANES)), axis=1)"
        self._line(f"tl.store({name}_ptr + {place}, {total}, heights < batch)")

    def _store_weight(self, path: int, value: str) -> None:
        if not self.summed and not self.narrow:
            self._store("to_weight", self.paths, path, value)
        elif not self.summed:
            self._store_row("to_weight", self.paths, path, value)
        elif self.narrow:
            place = f"slab.to(tl.int64) * ({self.paths} * across) + {path} * across + tile"
            self.lines.append(f"    tl.store(to_weight_ptr + {place}, tl.sum({value}, axis=0))")
        else:
            total = f"tl.sum(tl.reshape({value}, (ROWS, LANES)), axis=0)"
            place = f"slab.to(tl.int64) * ({self.paths} * channels) + {path} * channels + columns"
            self.lines.append("    columns = tile * LANES + tl.arange(0, LANES)")
            self.lines.append(f"    tl.store(to_weight_ptr + {place}, {total}, columns < channels)")

    def _whole(self) -> str:
        return "\n".join([*self.head, *self.lines]) + "\n"


def _lefts(plan: Plan, group: int) -> Iterator[int]:
    if group + 1 < len(plan.group_pairs):
        yield from map(int, plan.pair_left[plan.group_pairs[group] : plan.group_pairs[group + 1]])
