"""A boundary value problem as a value: domain, equation, boundary values, and the solution where it is known."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from tenfold._arguments import closest, quoted, whole_number
from tenfold.errors import DataError, FileError, TenfoldError
from tenfold.pde._expression import CONSTANTS, FUNCTIONS, Expression, parse

_KEYS = ("title", "domain", "grid", "equation", "boundary", "solution", "parameters", "frequencies")
_FEWEST = 8
# Longer files are no problem of this kind.
_LARGEST = 1 << 20
_FOLDER = Path(__file__).parent / "problems"
_UNKNOWN = "u"


@dataclass(frozen=True)
class Axis:
    """One coordinate, and the grid along it.

    Attributes:
        points: of the grid, both ends among them.
        frequencies: the highest one that the paper's own start spreads peaks up to, in cycles per unit.
    """

    name: str
    low: float
    high: float
    points: int
    frequencies: float

    @property
    def ends(self) -> tuple[float, float]:
        return self.low, self.high

    @property
    def length(self) -> float:
        return self.high - self.low

    def grid(self, points: int | None = None) -> Float[Tensor, "n"]:
        """The points, evenly spread from end to end."""
        return torch.linspace(self.low, self.high, points or self.points, dtype=torch.float64)


@dataclass(frozen=True)
class Side:
    """An end of an axis where the solution is given.

    Attributes:
        axis: its number.
        end: 0 for the low end, 1 for the high one.
        value: what the solution is there, by the coordinates.
    """

    axis: int
    end: int
    value: Expression


@dataclass(frozen=True)
class Problem:
    """``left(u, its derivatives, coordinates) = right(coordinates)`` inside, and values on sides.

    Attributes:
        title: a name for people.
        axes: one or two.
        left: a formula of ``u``, its derivatives as ``u_x`` and ``u_xx``, the coordinates and the parameters.
        right: a formula of the coordinates; None puts what the left side is for the known solution.
        sides: where values are given.
        solution: the true one, by which a result is judged and which no solver looks at; None where nobody knows.
        parameters: numbers by name.
        source: where it was read from.
    """

    title: str
    axes: tuple[Axis, ...]
    left: Expression
    right: Expression | None
    sides: tuple[Side, ...]
    solution: Expression | None = None
    parameters: Mapping[str, float] = field(default_factory=dict)
    source: str = ""

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(axis.points for axis in self.axes)

    @property
    def equation(self) -> str:
        """Left and right side in one line."""
        return f"{self.left.text} = {self.right.text if self.right is not None else 'what the solution makes it'}"

    @property
    def terms(self) -> dict[str, tuple[int, ...]]:
        """``u`` and the derivatives that the equation has, with their order by each coordinate."""
        named = {_UNKNOWN: (0,) * len(self.axes)}
        for place, axis in enumerate(self.axes):
            for order in (1, 2):
                if (name := f"{_UNKNOWN}_{axis.name * order}") in self.left.names:
                    named[name] = tuple(order * (other == place) for other in range(len(self.axes)))
        return named

    def mapping(self) -> dict[str, Any]:
        """What `read` makes this problem of."""
        given: dict[str, Any] = {
            "title": self.title,
            "domain": {axis.name: [axis.low, axis.high] for axis in self.axes},
            "grid": {axis.name: axis.points for axis in self.axes},
            "frequencies": {axis.name: axis.frequencies for axis in self.axes},
            "parameters": dict(self.parameters),
            "equation": self.left.text + (f" = {self.right.text}" if self.right is not None else ""),
            "boundary": {
                f"{(axis := self.axes[side.axis]).name}={axis.ends[side.end]!r}": side.value.text for side in self.sides
            },
        }
        return given | ({"solution": self.solution.text} if self.solution is not None else {})

    def with_grid(self, points: Sequence[int]) -> Problem:
        """The same problem on another grid: one number of points for each axis, or one for all.

        Raises:
            TenfoldError: another number of numbers, or too few points.
        """
        if len(points) not in (1, len(self.axes)):
            raise TenfoldError(f"grid has {len(points)} numbers for {len(self.axes)} axes; give one, or one for each")
        every = list(points) * (len(self.axes) // len(points))
        axes = [
            dataclasses.replace(axis, points=whole_number(f"grid of '{axis.name}'", given, _FEWEST))
            for axis, given in zip(self.axes, every, strict=True)
        ]
        return dataclasses.replace(self, axes=tuple(axes))

    def mesh(self, grids: Sequence[Tensor] | None = None) -> tuple[Tensor, ...]:
        """Coordinates that broadcast to a grid: that of the problem, or of other points along each axis."""
        grids = [axis.grid() for axis in self.axes] if grids is None else grids
        return tuple(
            grid.reshape([-1 if other == place else 1 for other in range(len(grids))])
            for place, grid in enumerate(grids)
        )

    def residual(self, terms: Mapping[str, Tensor], mesh: Sequence[Tensor]) -> Tensor:
        """The left side, from ``u`` and its derivatives by name."""
        return self.left({**self._values(mesh), **terms})

    def slopes(self, terms: Mapping[str, Tensor], mesh: Sequence[Tensor]) -> dict[str, Tensor]:
        """The derivative of the left side by ``u`` and by each of its derivatives, at every point."""
        with torch.enable_grad():
            inputs = {name: value.detach().clone().requires_grad_() for name, value in terms.items()}
            left = self.residual(inputs, mesh)
            found = torch.autograd.grad(left.sum(), list(inputs.values()), allow_unused=True)
        pairs = zip(inputs.items(), found, strict=True)
        return {name: torch.zeros_like(value) if slope is None else slope for (name, value), slope in pairs}

    def right_side(self, mesh: Sequence[Tensor]) -> Tensor:
        """What the left side has to be."""
        right = self.right
        value = self.residual(self._derived(mesh), mesh) if right is None else right(self._values(mesh))
        return _finite(value, "the right side of 'equation'").expand(_shape(mesh))

    def truth(self, mesh: Sequence[Tensor]) -> Tensor:
        """The known solution.

        Raises:
            TenfoldError: nobody knows it.
        """
        if self.solution is None:
            raise TenfoldError("the problem gives no 'solution'")
        return _finite(self.solution(self._values(mesh)), "'solution'").expand(_shape(mesh))

    def given(self, mesh: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Values on the sides of a grid that holds them, and where those are; where two meet, the first counts."""
        shape = _shape(mesh)
        values = torch.zeros(shape, dtype=torch.float64)
        known = torch.zeros(shape, dtype=torch.bool)
        for side in reversed(self.sides):
            place = tuple(-side.end if axis == side.axis else slice(None) for axis in range(len(shape)))
            points = [
                grid.narrow(axis, (grid.shape[axis] - 1) * side.end, 1) if axis == side.axis else grid
                for axis, grid in enumerate(mesh)
            ]
            name = self.axes[side.axis].name
            there = _finite(side.value(self._values(points)), f"'boundary' of {name}").expand(_shape(points))
            values[place] = there.squeeze(side.axis)
            known[place] = True
        return values, known

    def _values(self, mesh: Sequence[Tensor]) -> dict[str, Tensor]:
        values = {name: torch.tensor(number, dtype=torch.float64) for name, number in self.parameters.items()}
        return values | {axis.name: grid for axis, grid in zip(self.axes, mesh, strict=True)}

    def _derived(self, mesh: Sequence[Tensor]) -> dict[str, Tensor]:
        """The known solution and the derivatives of it that the equation has."""
        terms: dict[str, Tensor] = {}
        shape = _shape(mesh)
        with torch.enable_grad():
            whole = [grid.expand(shape).clone().requires_grad_() for grid in mesh]
            u = self.truth(whole)
            for name, orders in self.terms.items():
                value = u
                for grid, order in zip(whole, orders, strict=True):
                    for _ in range(order):
                        value = _slope(value, grid)
                terms[name] = value.detach()
        return terms


def read(source: str | os.PathLike[str] | Mapping[str, Any] | Problem) -> Problem:
    """A problem from a YAML file, from ``sample:NAME``, or from a mapping with the same keys.

    Raises:
        FileError: there is no such file or sample, or it is not YAML.
        TenfoldError: what it says is no problem; the message names the key.
    """
    if isinstance(source, Problem):
        return source
    if isinstance(source, Mapping):
        return _problem(source, "")
    if not isinstance(source, str | os.PathLike):
        raise TenfoldError(f"problem must be a YAML file, sample:NAME or a mapping, not {quoted(source)}")
    name = os.fspath(source)
    path = Path(name).expanduser()
    if name.startswith("sample:"):
        known = samples()
        name = name.removeprefix("sample:")
        if name not in known:
            raise FileError(f"there is no sample problem '{name}'{closest(name, known)}; there are {', '.join(known)}")
        path = _FOLDER / f"{name}.yaml"
    return _problem(_load(path), os.fspath(source))


def samples() -> tuple[str, ...]:
    """Names of the problems that come with tenfold: ``sample:NAME`` reads one."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml")))


def _load(path: Path) -> Mapping[str, Any]:
    import yaml

    try:
        if path.stat().st_size > _LARGEST:
            raise FileError(f"'{path}' is larger than 1 MB; a problem is a few lines of YAML")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise FileError(f"cannot read '{path}': {error.strerror or error}") from error
    except UnicodeDecodeError:
        raise FileError(f"cannot read '{path}': it is not text") from None
    try:
        # A file of references to references says little and means gigabytes.
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):
            raise FileError(f"'{path}' uses aliases (*name); write the values out")
        given = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        if isinstance(error, TenfoldError):
            raise
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark is not None else ""
        said = getattr(error, "problem", None) or "it cannot be read"
        raise FileError(f"'{path}' is not YAML: {said}{where}") from None
    if not isinstance(given, Mapping):
        raise FileError(f"'{path}' holds no problem; it needs keys: {', '.join(_KEYS)}")
    return given


def _problem(given: Mapping[str, Any], source: str) -> Problem:
    for key in given:
        if key not in _KEYS:
            raise TenfoldError(f"a problem has no '{key}'{closest(str(key), _KEYS)}; it may have {', '.join(_KEYS)}")
    for key in ("domain", "equation"):
        if key not in given:
            raise TenfoldError(f"the problem has no '{key}'")
    parameters: dict[str, float] = {}
    for name, text in _mapping(given.get("parameters", {}), "parameters").items():
        _check_name(name, parameters, "parameter")
        parameters[name] = _number(text, parameters, f"parameter '{name}'")
    axes = _axes(given, parameters)
    coordinates = {axis.name for axis in axes} | set(parameters)
    derived = {f"{_UNKNOWN}_{axis.name * order}" for axis in axes for order in (1, 2)}
    left_text, equals, right_text = str(given["equation"]).partition("=")
    left = parse(left_text, coordinates | derived | {_UNKNOWN}, "the left side of 'equation'")
    if not left.names & derived:
        raise TenfoldError(f"'equation' has no derivative of u; there are {', '.join(sorted(derived))}")
    right = parse(right_text, coordinates, "the right side of 'equation'") if equals else None
    solution = parse(given["solution"], coordinates, "'solution'") if given.get("solution") is not None else None
    if right is None and solution is None:
        raise TenfoldError(
            "'equation' has no right side; write '... = formula', or give the 'solution' it is made from"
        )
    sides = _sides(given.get("boundary"), axes, left, solution, coordinates, parameters)
    title = str(given.get("title", source or "problem"))
    return Problem(title, axes, left, right, sides, solution, parameters, source)


def _axes(given: Mapping[str, Any], parameters: Mapping[str, float]) -> tuple[Axis, ...]:
    domain = _mapping(given["domain"], "domain")
    if len(domain) not in (1, 2):
        raise TenfoldError(f"'domain' has {len(domain)} coordinates; one or two can be solved")
    grid, highest = given.get("grid"), given.get("frequencies")
    axes: list[Axis] = []
    taken = dict.fromkeys(parameters)
    for name, ends in domain.items():
        _check_name(name, taken, "coordinate")
        taken[name] = None
        if not isinstance(ends, Sequence) or isinstance(ends, str) or len(ends) != 2:
            raise TenfoldError(f"'domain' gives {name} as {quoted(ends)}; give both ends, as {name}: [0, 2*pi]")
        low, high = (_number(end, parameters, f"an end of '{name}' in 'domain'") for end in ends)
        if not low < high:
            raise TenfoldError(f"'domain' gives {name} from {low:g} to {high:g}; the second must be greater")
        points = _of_axis(grid, name, 200)
        top = _of_axis(highest, name, None)
        points = whole_number(f"'grid' of {name}", points, _FEWEST)
        # Without a word of the highest frequency: half of what the grid can carry.
        top = points / (4 * (high - low)) if top is None else _number(top, parameters, "'frequencies'")
        if not top > 0:
            raise TenfoldError(f"'frequencies' of {name} must be above 0, not {top:g}")
        axes.append(Axis(name, low, high, points, top))
    for key, value in (("grid", grid), ("frequencies", highest)):
        if isinstance(value, Mapping):
            for name in value:
                if name not in domain:
                    raise TenfoldError(f"'{key}' names '{name}', which is no coordinate of 'domain'")
    return tuple(axes)


def _of_axis(given: Any, name: str, default: Any) -> Any:
    if isinstance(given, Mapping):
        return given.get(name, default)
    return default if given is None else given


def _sides(
    given: Any,
    axes: Sequence[Axis],
    left: Expression,
    solution: Expression | None,
    coordinates: set[str],
    parameters: Mapping[str, float],
) -> tuple[Side, ...]:
    """Where values are given: as listed, else where an equation of this order needs them."""
    if isinstance(given, Mapping):
        sides: list[Side] = []
        for key, text in given.items():
            name, equals, end_text = str(key).partition("=")
            number = next((n for n, axis in enumerate(axes) if axis.name == name.strip()), None)
            if number is None or not equals:
                raise TenfoldError(f"'boundary' names '{key}'; name a side as {axes[0].name}={axes[0].low:g}")
            axis = axes[number]
            at = _number(end_text, parameters, f"'boundary' {name.strip()}")
            if not any(
                math.isclose(at, end, rel_tol=1e-9, abs_tol=1e-9 * axis.length) for end in (axis.low, axis.high)
            ):
                raise TenfoldError(
                    f"'boundary' names {axis.name} = {at:g}, which is no end of it; "
                    f"those are {axis.low:g} and {axis.high:g}"
                )
            end = int(abs(at - axis.high) < abs(at - axis.low))
            if any((side.axis, side.end) == (number, end) for side in sides):
                raise TenfoldError(f"'boundary' names {axis.name} = {at:g} twice")
            sides.append(Side(number, end, parse(text, coordinates, f"'boundary' of {key}")))
        if not sides:
            raise TenfoldError("'boundary' is empty; without values there are many solutions")
        return tuple(sides)
    value = solution if given is None else parse(given, coordinates, "'boundary'")
    if value is None:
        raise TenfoldError("the problem has no 'boundary'; give a formula, or one for each side as x=0: sin(y)")
    return tuple(
        Side(number, end, value) for number, axis in enumerate(axes) for end in range(min(_order(left, axis.name), 2))
    )


def _order(left: Expression, name: str) -> int:
    return next((order for order in (2, 1) if f"{_UNKNOWN}_{name * order}" in left.names), 0)


def _mapping(given: Any, key: str) -> Mapping[str, Any]:
    if not isinstance(given, Mapping):
        raise TenfoldError(f"'{key}' must be names with values, as x: ..., not {quoted(given)}")
    return given


def _check_name(name: Any, taken: Mapping[str, Any], what: str) -> None:
    if not isinstance(name, str) or not name.isidentifier() or not name.isascii():
        raise TenfoldError(f"{what} {quoted(name)} is no name; use letters, as x")
    if name == _UNKNOWN or name.startswith(f"{_UNKNOWN}_") or name in FUNCTIONS or name in CONSTANTS or name in taken:
        raise TenfoldError(f"{what} '{name}' is the name of something else already; choose another")


def _number(given: Any, parameters: Mapping[str, float], what: str) -> float:
    values = {name: torch.tensor(number, dtype=torch.float64) for name, number in parameters.items()}
    number = float(parse(given, parameters, what)(values))
    if not math.isfinite(number):
        raise TenfoldError(f"{what} is {number}, which is no number to compute with")
    return number


def _finite(values: Tensor, what: str) -> Tensor:
    if not bool(torch.isfinite(values).all()):
        raise DataError(f"{what} is not finite everywhere in the domain")
    return values


def _shape(mesh: Sequence[Tensor]) -> tuple[int, ...]:
    return tuple(torch.broadcast_shapes(*(grid.shape for grid in mesh)))


def _slope(values: Tensor, by: Tensor) -> Tensor:
    """The derivative of every value by its own coordinate; zeros where there is none."""
    if not values.requires_grad:
        return torch.zeros_like(by)
    (slope,) = torch.autograd.grad(values.sum(), by, create_graph=True, allow_unused=True)
    return torch.zeros_like(by) if slope is None else slope
