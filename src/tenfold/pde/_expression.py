"""Formulas as people write them, evaluated on tensors: arithmetic, a few functions, and nothing else of Python."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from tenfold._arguments import closest
from tenfold.errors import TenfoldError

FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    name: getattr(torch, name)
    for name in ("sin", "cos", "tan", "exp", "log", "sqrt", "abs", "sinh", "cosh", "tanh", "atan", "erf", "sign")
}
CONSTANTS = {"pi": math.pi, "e": math.e}

_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}
# More than any formula on paper; deeper ones would exhaust Python's stack.
_LONGEST, _DEEPEST = 10_000, 100


@dataclass(frozen=True)
class Expression:
    """A formula of named quantities.

    Attributes:
        text: as it was given.
        names: the quantities in it, without functions and constants.
    """

    text: str
    names: frozenset[str]
    _tree: ast.expr = field(repr=False, compare=False)

    def __call__(self, values: Mapping[str, Tensor]) -> Tensor:
        """The value, by the rules of broadcasting, for float64 tensors by name.

        Raises:
            TenfoldError: the formula has no value there that a float64 holds, or is no arithmetic of real numbers.
        """
        try:
            value = _value(self._tree, values)
        except (ZeroDivisionError, OverflowError) as error:
            raise TenfoldError(f"'{self.text}' has no value: {error}") from None
        if isinstance(value, complex):
            raise TenfoldError(f"'{self.text}' is not a real number")
        return torch.as_tensor(value, dtype=torch.float64)


def parse(text: object, known: Iterable[str], what: str) -> Expression:
    """The formula in ``text``, which may be a number.

    Args:
        text: numbers, names, ``+ - * / **``, brackets and calls of `FUNCTIONS`; ``^`` is taken as ``**``.
        known: the names it may use, besides `CONSTANTS`.
        what: what it is, for messages.

    Raises:
        TenfoldError: anything else stands in it.
    """
    if isinstance(text, bool) or not isinstance(text, str | int | float):
        raise TenfoldError(f"{what} must be a formula, not {text!r:.60}")
    source = " ".join(str(text).split())
    if not source or len(source) > _LONGEST:
        raise TenfoldError(f"{what} is {'empty' if not source else 'too long'}; give a formula as sin(100*x)")
    try:
        tree = ast.parse(source.replace("^", "**"), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else "it cannot be read"
        raise TenfoldError(f"{what} '{source:.80}' is no formula: {reason}; write it as 2*sin(100*x)") from None
    names: set[str] = set()
    _check(tree, set(known), names, f"{what} '{source:.80}'", 0)
    return Expression(source, frozenset(names), tree)


def _check(node: ast.expr, known: set[str], names: set[str], where: str, depth: int) -> None:
    """Raise unless every part of the tree is one that `_value` knows; collect its names."""
    if depth > _DEEPEST:
        raise TenfoldError(f"{where} has more than {_DEEPEST} levels of brackets and signs")
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            if not math.isfinite(_float(value, where)):
                raise TenfoldError(f"{where} has a number beyond what a float64 holds")
        case ast.Name(id=name):
            if name in FUNCTIONS:
                raise TenfoldError(f"{where} uses the function '{name}' without brackets; write {name}(x)")
            if name not in CONSTANTS:
                if name not in known:
                    there = ", ".join(sorted(known | set(CONSTANTS)))
                    raise TenfoldError(f"{where} uses '{name}'{closest(name, known)}; it may use {there}")
                names.add(name)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            _check(left, known, names, where, depth + 1)
            _check(right, known, names, where, depth + 1)
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _UNARY:
            _check(operand, known, names, where, depth + 1)
        case ast.Call(func=ast.Name(id=name), args=[argument], keywords=[]) if name in FUNCTIONS:
            _check(argument, known, names, where, depth + 1)
        case ast.Call(func=ast.Name(id=name)) if name not in FUNCTIONS:
            there = ", ".join(FUNCTIONS)
            raise TenfoldError(f"{where} calls '{name}'{closest(name, FUNCTIONS)}; there are {there}")
        case ast.Call(func=ast.Name(id=name)):
            raise TenfoldError(f"{where} must give '{name}' one argument")
        case _:
            raise TenfoldError(f"{where} holds '{ast.unparse(node):.60}', which is no arithmetic")


def _float(value: int | float, where: str) -> float:
    try:
        return float(value)
    except OverflowError:
        raise TenfoldError(f"{where} has a number beyond what a float64 holds") from None


def _value(node: ast.expr, values: Mapping[str, Tensor]) -> Any:
    match node:
        case ast.Constant(value=value):
            return float(value)  # type: ignore[arg-type]  # `_check` let only numbers in
        case ast.Name(id=name):
            return CONSTANTS[name] if name in CONSTANTS else values[name]
        case ast.BinOp(left=left, op=op, right=right):
            return _BINARY[type(op)](_value(left, values), _value(right, values))
        case ast.UnaryOp(op=op, operand=operand):
            return _UNARY[type(op)](_value(operand, values))
        case ast.Call(func=ast.Name(id=name), args=[argument]):
            return FUNCTIONS[name](torch.as_tensor(_value(argument, values), dtype=torch.float64))
    raise AssertionError(f"{node} got past the check")
