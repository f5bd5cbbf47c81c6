"""`Structure`: which small tensors are contracted over which named indices to make one big tensor.

A structure is a value: frozen, hashable, without numbers inside but sizes. It is written as a pattern, cores separated
by commas and indices by spaces::

    Structure("i a, a j b, b k -> i j k", i=64, j=64, k=64, a=8, b=8)   # tensor train
    Structure("i r, j r, k r -> i j k", i=9, j=9, k=9, r=4)             # CP: r lies on three cores, a hyperedge
    Structure("n a b, n c d -> (a c) (b d)", n=3, a=4, b=4, c=5, d=5)   # a matrix: sum of 3 Kronecker products
    Structure("U[i r], U[j r], w[r] -> i j", i=9, j=9, r=2)             # one core used twice: symmetric
"""

from __future__ import annotations

import hashlib
import json
import math
import operator
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from opt_einsum import get_symbol

from tenfold._canonical import certificate
from tenfold.errors import StructureError

if TYPE_CHECKING:
    from tenfold.contraction import Cost

JSON_VERSION = 1


class Term(NamedTuple):
    """One comma-separated item of a pattern: a core at one place of the network."""

    name: str | None
    indices: tuple[str, ...]

    def __str__(self) -> str:
        inside = " ".join(self.indices)
        if self.name is not None or not self.indices:
            return f"{self.name or ''}[{inside}]"
        return inside


class Core(NamedTuple):
    """One tensor of numbers: its name, the indices of its first use, its shape and the terms that use it."""

    name: str
    indices: tuple[str, ...]
    shape: tuple[int, ...]
    terms: tuple[int, ...]


class Structure:
    """Cores contracted over named indices; see the module's docstring for the pattern language.

    An index that is no output is summed over all the cores that carry it. Parentheses in the output group indices into
    one axis, first index slowest (row-major). A named core may appear several times and is then one tensor.

    Args:
        pattern: the pattern, ``"core, core, ... -> output"``.
        sizes: index sizes as a mapping; keyword arguments add to it.

    Raises:
        StructureError: the pattern does not parse or cannot be contracted; the message marks the place as »here«.
    """

    def __init__(self, pattern: str, sizes: Mapping[str, int] | None = None, /, **more: int) -> None:
        terms, outputs = _parse(pattern)
        self._set(terms, outputs, {**(sizes or {}), **more})

    @classmethod
    def of(
        cls,
        terms: Iterable[Sequence[str] | Term],
        outputs: Iterable[Sequence[str] | str],
        sizes: Mapping[str, int],
    ) -> Structure:
        """A structure from lists instead of a pattern: ``of([("i", "a"), ("a", "j")], ["i", "j"], sizes)``.

        Each term is a `Term` or a sequence of index names; each output an index name or a sequence of names (a group).
        """
        self = cls.__new__(cls)
        made = tuple(Term(t.name, tuple(t.indices)) if isinstance(t, Term) else Term(None, tuple(t)) for t in terms)
        groups = tuple((o,) if isinstance(o, str) else tuple(o) for o in outputs)
        self._set(made, groups, sizes)
        return self

    @classmethod
    def for_shape(
        cls,
        pattern: str,
        shape: Sequence[int],
        sizes: Mapping[str, int] | None = None,
        *,
        bonds: int | None = None,
    ) -> Structure:
        """The structure of ``pattern`` for data of ``shape``: output sizes come from it, ``sizes`` gives the rest.

        Within a grouped axis at most one index may be left without a size; it is the quotient. ``bonds`` is the size of
        every inner index that ``sizes`` does not name.
        """
        terms, outputs = _parse(pattern)
        known = dict(sizes or {})
        if bonds is not None:
            outside = {index for group in outputs for index in group}
            inner = {index for term in terms for index in term.indices if index not in outside}
            known = {**dict.fromkeys(inner, bonds), **known}
        if len(outputs) != len(shape):
            raise StructureError(
                f"pattern '{_print(terms, outputs)}' has {_count(len(outputs), 'output axis', 'output axes')} but the "
                f"data has {_count(len(shape), 'axis', 'axes')}, shape {_shape_text(shape)}"
            )
        for axis, (group, extent) in enumerate(zip(outputs, shape, strict=True)):
            unknown = [index for index in group if index not in known]
            rest = math.prod(_size(index, known[index]) for index in group if index in known)
            if len(unknown) > 1:
                raise StructureError(
                    f"axis {axis} of size {extent} is split into '{' '.join(group)}': give a size to all but one of "
                    f"{', '.join(map(repr, unknown))}"
                )
            if extent % rest or (not unknown and rest != extent):
                given = " x ".join(f"{index}={known[index]}" for index in group if index in known)
                raise StructureError(
                    f"axis {axis} of the data has size {extent}, which is not "
                    f"{'divisible by' if unknown else 'equal to'} {given}"
                )
            for index in unknown:
                known[index] = extent // rest
        return cls.of(terms, outputs, known)

    def _set(self, terms: tuple[Term, ...], outputs: tuple[tuple[str, ...], ...], sizes: Mapping[str, int]) -> None:
        order = _check(terms, outputs)
        unknown = [index for index in sizes if index not in order]
        if unknown:
            raise StructureError(
                f"a size is given for '{unknown[0]}', which is not in '{_print(terms, outputs)}': "
                f"its indices are {', '.join(order)}"
            )
        missing = [index for index in order if index not in sizes]
        if missing:
            raise StructureError(
                f"index '{missing[0]}' of '{_print(terms, outputs)}' has no size: give {missing[0]}=..."
            )
        checked = {index: _size(index, sizes[index]) for index in order}
        _check_uses(terms, outputs, checked)
        state = self.__dict__
        state["terms"] = terms
        state["outputs"] = outputs
        state["sizes"] = MappingProxyType(checked)

    terms: tuple[Term, ...]
    outputs: tuple[tuple[str, ...], ...]
    sizes: Mapping[str, int]

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError("a Structure cannot be changed; use replace() or rename() to make another")

    def __getstate__(self) -> dict[str, Any]:
        return {"terms": self.terms, "outputs": self.outputs, "sizes": dict(self.sizes)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._set(state["terms"], state["outputs"], state["sizes"])

    # --- what it is made of -------------------------------------------------------------------------------------------

    @cached_property
    def cores(self) -> tuple[Core, ...]:
        """The distinct cores, in order of first use. Nameless ones are called ``core0``, ``core1``, ... by position."""
        taken = {term.name for term in self.terms}
        found: dict[str, Core] = {}
        for place, term in enumerate(self.terms):
            name = term.name
            if name is None:
                name = f"core{place}"
                while name in taken:
                    name += "_"
            if name in found:
                found[name] = found[name]._replace(terms=(*found[name].terms, place))
            else:
                found[name] = Core(name, term.indices, tuple(self.sizes[i] for i in term.indices), (place,))
        return tuple(found.values())

    @cached_property
    def term_core(self) -> tuple[int, ...]:
        """For each term, the number of its core in `cores`."""
        number = {place: n for n, core in enumerate(self.cores) for place in core.terms}
        return tuple(number[place] for place in range(len(self.terms)))

    @cached_property
    def output_indices(self) -> tuple[str, ...]:
        """The output indices without their grouping."""
        return tuple(index for group in self.outputs for index in group)

    @cached_property
    def inner_indices(self) -> tuple[str, ...]:
        """The indices that are summed (bonds and hyperedges), in order of appearance."""
        outside = set(self.output_indices)
        return tuple(index for index in self.sizes if index not in outside)

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """The shape of the dense tensor: one number for each output axis."""
        return tuple(math.prod(self.sizes[i] for i in group) for group in self.outputs)

    @cached_property
    def output_shape(self) -> tuple[int, ...]:
        """The sizes of `output_indices`: the dense shape with every group split."""
        return tuple(self.sizes[index] for index in self.output_indices)

    @property
    def order(self) -> int:
        """The number of axes of the dense tensor."""
        return len(self.outputs)

    @cached_property
    def size(self) -> int:
        """The number of entries of the dense tensor."""
        return math.prod(self.shape)

    @cached_property
    def parameters(self) -> int:
        """The number of entries of all distinct cores together."""
        return sum(math.prod(core.shape) for core in self.cores)

    @property
    def pattern(self) -> str:
        """The pattern, in canonical spacing; ``Structure(s.pattern, s.sizes) == s``."""
        return _print(self.terms, self.outputs)

    def terms_with(self, index: str) -> tuple[int, ...]:
        """The numbers of the terms that carry ``index``."""
        return tuple(place for place, term in enumerate(self.terms) if index in term.indices)

    # --- what it costs ------------------------------------------------------------------------------------------------

    def cost(self) -> Cost:
        """Parameters, flops and peak memory of making the dense tensor along the best contraction path; printable."""
        from tenfold.contraction import cost

        return cost(self)

    def einsum(self) -> str:
        """The equation for ``opt_einsum.contract`` (or ``torch.einsum`` up to 52 indices), one operand for each term.

        Its result has the shape `output_shape`; reshape it to `shape` where axes are grouped.
        """
        symbol = {index: get_symbol(n) for n, index in enumerate(self.sizes)}
        inputs = ",".join("".join(symbol[i] for i in term.indices) for term in self.terms)
        return f"{inputs}->{''.join(symbol[i] for i in self.output_indices)}"

    # --- equality -----------------------------------------------------------------------------------------------------

    @cached_property
    def key(self) -> str:
        """A digest that is equal exactly for structures that differ only in names and in the order of their parts.

        Renaming cores or indices, reordering cores, and reordering the indices within a core leave it unchanged; sizes,
        outputs (order and grouping) and which places share a core do not.
        """
        colours: list[tuple[str, int, int, int]] = []
        edges: list[tuple[int, int]] = []

        def vertex(kind: str, *label: int) -> int:
            size, axis, position = (*label, 0, 0, 0)[:3]
            colours.append((kind, size, axis, position))
            return len(colours) - 1

        place = {index: (a + 1, p + 1) for a, group in enumerate(self.outputs) for p, index in enumerate(group)}
        index_vertex = {i: vertex("index", self.sizes[i], *place.get(i, (0, 0))) for i in self.sizes}
        for core in self.cores:
            uses = [vertex("use") for _ in core.terms]
            if len(uses) == 1:
                edges += [(uses[0], index_vertex[i]) for i in core.indices]
                continue
            # A core used several times: its axes must correspond between the uses, so they become vertices too.
            body = vertex("core")
            axes = [vertex("axis") for _ in core.indices]
            edges += [(body, axis) for axis in axes]
            for use, term in zip(uses, core.terms, strict=True):
                edges.append((body, use))
                for axis, index in zip(axes, self.terms[term].indices, strict=True):
                    slot = vertex("slot")
                    edges += [(slot, use), (slot, axis), (slot, index_vertex[index])]
        form = (tuple(sorted(colours)), certificate(colours, edges), len(self.outputs))
        return hashlib.blake2b(repr(form).encode(), digest_size=16).hexdigest()

    def _identity(self) -> tuple[Any, ...]:
        return self.terms, self.outputs, tuple(sorted(self.sizes.items()))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Structure) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    # --- changing it --------------------------------------------------------------------------------------------------

    def replace(self, sizes: Mapping[str, int] | None = None, /, **more: int) -> Structure:
        """The same structure with other sizes for the indices given."""
        return Structure.of(self.terms, self.outputs, {**self.sizes, **(sizes or {}), **more})

    def rename(self, names: Mapping[str, str]) -> Structure:
        """The same structure with other names for the indices given; the new names must be free."""
        new = {index: names.get(index, index) for index in self.sizes}
        twice = [name for name, count in Counter(new.values()).items() if count > 1]
        if twice:
            raise StructureError(f"rename gives the name '{twice[0]}' to two indices")
        terms = tuple(Term(t.name, tuple(new[i] for i in t.indices)) for t in self.terms)
        outputs = tuple(tuple(new[i] for i in group) for group in self.outputs)
        return Structure.of(terms, outputs, {new[i]: size for i, size in self.sizes.items()})

    def to_json(self) -> str:
        """A versioned JSON text that `from_json` reads back to an equal structure."""
        return json.dumps(
            {
                "v": JSON_VERSION,
                "cores": [{"name": t.name, "indices": t.indices} for t in self.terms],
                "out": self.outputs,
                "sizes": dict(self.sizes),
            }
        )

    @classmethod
    def from_json(cls, text: str) -> Structure:
        """The structure that `to_json` wrote. Raises `StructureError` for anything else."""
        try:
            data = json.loads(text)
            version = data["v"]
            if version != JSON_VERSION:
                raise StructureError(
                    f"structure format version {version!r} is not known: this tenfold reads version {JSON_VERSION}"
                )
            terms = tuple(Term(_optional_name(c["name"]), _names(c["indices"])) for c in data["cores"])
            outputs = tuple(_names(group) for group in data["out"])
            return cls.of(terms, outputs, dict(data["sizes"]))
        except StructureError:
            raise
        except (KeyError, TypeError, ValueError, RecursionError) as cause:
            raise StructureError(f"not the JSON text of a structure: {cause!r}") from cause

    def name_outputs(self, names: Sequence[str]) -> Structure:
        """The same structure with its `output_indices` called ``names``; inner indices that clash get a new name."""
        if len(names) != len(self.output_indices):
            raise StructureError(f"{len(names)} names for the {len(self.output_indices)} outputs of '{self.pattern}'")
        new = dict(zip(self.output_indices, names, strict=True))
        taken = set(names)
        for index in self.inner_indices:
            name = index
            while name in taken:
                name += "_"
            taken.add(name)
            new[index] = name
        return self.rename(new)

    # --- printing -----------------------------------------------------------------------------------------------------

    def __str__(self) -> str:
        return self.pattern

    def __repr__(self) -> str:
        sizes = ", ".join(f"{index}={size}" for index, size in self.sizes.items())
        return f"Structure({self.pattern!r}, {sizes})" if sizes else f"Structure({self.pattern!r})"


def index_names(labels: Sequence[str]) -> list[str]:
    """Axis names as index names: letters, digits and underscores, each once."""
    names: list[str] = []
    for axis, label in enumerate(labels):
        word = "".join(c if c.isalnum() or c == "_" else "_" for c in label)
        if not word.isidentifier():
            word = f"_{word}" if word and f"_{word}".isidentifier() else f"i{axis + 1}"
        while word in names:
            word += "_"
        names.append(word)
    return names


# --- reading and printing the pattern ---------------------------------------------------------------------------------

_TOKEN = re.compile(r"\s+|->|[,()\[\]]|[^\W\d]\w*|.", re.DOTALL)
_WORD = re.compile(r"[^\W\d]\w*")


class _Token(NamedTuple):
    text: str
    start: int


def _parse(pattern: str) -> tuple[tuple[Term, ...], tuple[tuple[str, ...], ...]]:
    """Terms and output groups of a pattern; syntax errors mark the place in the pattern as it was written."""
    if not isinstance(pattern, str):
        raise StructureError(f"pattern must be a string like 'i a, a j -> i j', not {type(pattern).__name__}")

    def fail(token: _Token | None, why: str) -> StructureError:
        if token is None:
            return StructureError(f"in '{pattern.strip()} »«': {why}")
        end = token.start + len(token.text)
        return StructureError(f"in '{pattern[: token.start]}»{token.text}«{pattern[end:]}': {why}")

    tokens = [_Token(m.group(), m.start()) for m in _TOKEN.finditer(pattern) if not m.group().isspace()]
    for token in tokens:
        if token.text not in ("->", ",", "(", ")", "[", "]") and not _WORD.fullmatch(token.text):
            raise fail(token, "an index is a letter followed by letters, digits or '_', with spaces between indices")
    arrows = [n for n, token in enumerate(tokens) if token.text == "->"]
    if not arrows:
        raise fail(None, "there is no output: write '-> ' and the indices to keep")
    if len(arrows) > 1:
        raise fail(tokens[arrows[1]], "a second '->'")
    left, right = tokens[: arrows[0]], tokens[arrows[0] + 1 :]

    terms: list[Term] = []
    name: str | None = None
    indices: list[str] = []
    bracket: _Token | None = None
    closed = False
    for token in [*left, _Token(",", arrows[0] and tokens[arrows[0]].start)]:
        if token.text == ",":
            if bracket is not None and not closed:
                raise fail(bracket, "this bracket is never closed")
            if not indices and not closed:
                at = token if token in left else tokens[arrows[0]]
                raise fail(at, "an empty core before this; write '[]' for a scalar core")
            terms.append(Term(name, tuple(indices)))
            name, indices, bracket, closed = None, [], None, False
        elif closed:
            raise fail(token, "a comma is missing before this")
        elif token.text == "[":
            if bracket is not None:
                raise fail(token, "brackets do not nest")
            if len(indices) > 1:
                raise fail(token, "a comma is missing before the core's name")
            name = indices.pop() if indices else None
            bracket = token
        elif token.text == "]":
            if bracket is None:
                raise fail(token, "no bracket is open here")
            closed = True
        elif token.text in "()":
            raise fail(token, "parentheses group output indices, after '->' only; a named core is written U[i r]")
        else:
            indices.append(token.text)

    outputs: list[tuple[str, ...]] = []
    group: list[str] | None = None
    opened: _Token | None = None
    for token in right:
        if token.text == "(":
            if group is not None:
                raise fail(token, "groups do not nest")
            group, opened = [], token
        elif token.text == ")":
            if group is None:
                raise fail(token, "no group is open here")
            outputs.append(tuple(group))
            group = None
        elif token.text == ",":
            raise fail(token, "output indices are separated by spaces, not commas")
        elif token.text in "[]":
            raise fail(token, "brackets name cores, before '->' only")
        elif group is not None:
            group.append(token.text)
        else:
            outputs.append((token.text,))
    if group is not None:
        raise fail(opened, "this group is never closed")
    return tuple(terms), tuple(outputs)


def _print(
    terms: Sequence[Term],
    outputs: Sequence[tuple[str, ...]],
    mark_term: int | None = None,
    mark_output: int | None = None,
) -> str:
    left = [f"»{term}«" if n == mark_term else str(term) for n, term in enumerate(terms)]
    right = []
    for n, group in enumerate(outputs):
        text = group[0] if len(group) == 1 else f"({' '.join(group)})"
        right.append(f"»{text}«" if n == mark_output else text)
    return f"{', '.join(left)} -> {' '.join(right)}".rstrip()


def _check(terms: tuple[Term, ...], outputs: tuple[tuple[str, ...], ...]) -> tuple[str, ...]:
    """Whether the parts can be contracted at all. Returns the indices in order of first appearance."""

    def fail(why: str, term: int | None = None, output: int | None = None) -> StructureError:
        return StructureError(f"in '{_print(terms, outputs, term, output)}': {why}")

    if not terms:
        raise StructureError("a structure needs at least one core")
    carried: Counter[str] = Counter()
    for n, term in enumerate(terms):
        for word in (*term.indices, *([term.name] if term.name is not None else [])):
            if not (isinstance(word, str) and _WORD.fullmatch(word)):
                raise StructureError(f"{word!r} is no name for an index or core: use letters, digits and '_'")
        for index, count in Counter(term.indices).items():
            if count > 1:
                raise fail(f"index '{index}' appears twice in one core; give it two names", term=n)
        carried.update(term.indices)
    seen: set[str] = set()
    for axis, group in enumerate(outputs):
        for index in group:
            if index in seen:
                raise fail(f"index '{index}' appears twice in the output", output=axis)
            if index not in carried:
                raise fail(f"no core carries output index '{index}'; add it to a core or drop it", output=axis)
            seen.add(index)
    for n, term in enumerate(terms):
        for index in term.indices:
            if carried[index] == 1 and index not in seen:
                raise fail(
                    f"index '{index}' lies on this core only and is no output; join it to another core, "
                    f"add it to the output or drop it",
                    term=n,
                )
    return tuple(carried)


def _check_uses(terms: tuple[Term, ...], outputs: tuple[tuple[str, ...], ...], sizes: Mapping[str, int]) -> None:
    """A core used several times must have one shape."""
    first: dict[str, Term] = {}
    for n, term in enumerate(terms):
        if term.name is None:
            continue
        other = first.setdefault(term.name, term)
        if len(other.indices) != len(term.indices):
            raise StructureError(
                f"in '{_print(terms, outputs, n)}': core '{term.name}' is used before with "
                f"{_count(len(other.indices), 'index', 'indices')} and here with {len(term.indices)}"
            )
        for a, b in zip(other.indices, term.indices, strict=True):
            if sizes[a] != sizes[b]:
                raise StructureError(
                    f"in '{_print(terms, outputs, n)}': core '{term.name}' is one tensor, so '{a}' and '{b}' must have "
                    f"one size, not {sizes[a]} and {sizes[b]}"
                )


def _size(index: str, value: Any) -> int:
    try:
        if isinstance(value, bool):
            raise TypeError
        size = operator.index(value)
    except TypeError:
        raise StructureError(f"size of index '{index}' must be a whole number, not {value!r}") from None
    if size < 1:
        raise StructureError(f"size of index '{index}' must be at least 1, not {size}")
    return size


def _names(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        raise StructureError(f"expected a list of index names, not {value!r}")
    return tuple(value)


def _optional_name(value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise StructureError(f"expected a core name or null, not {value!r}")
    return value


def _count(n: int, one: str, many: str) -> str:
    return f"{n} {one if n == 1 else many}"


def _shape_text(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape)) if shape else "()"
