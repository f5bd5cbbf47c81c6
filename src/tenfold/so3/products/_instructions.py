"""What paths of a product are told: which blocks meet, how their channels do, and with which factor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, get_args

from tenfold._arguments import closest, quoted
from tenfold.errors import TenfoldError
from tenfold.so3.irreps import Irreps

Mode = Literal["uvw", "uvu", "uvv", "uuw", "uuu", "uvuv", "uvu<v"]
IrrepNormalization = Literal["component", "norm"]
PathNormalization = Literal["element", "path"]


class Instruction(NamedTuple):
    """One path: which block of each side, how channels meet, whether it has weights, and its share of the variance.

    The letters of a mode are the channels of left and right, then those of out. Channels of left that are not in out
    are summed over, and so are those of right; ``"uvu<v"`` takes each pair of two channels once.
    """

    left: int
    right: int
    out: int
    mode: Mode
    weighted: bool
    path_weight: float = 1.0


def one_of(name: str, given: Any, choices: tuple[str, ...]) -> None:
    """Refuses what is none of the choices."""
    if given not in choices:
        hint = closest(given, choices) if isinstance(given, str) else ""
        raise TenfoldError(f"{name} must be {' or '.join(map(repr, choices))}, not {quoted(given)}{hint}")


def checked(number: int, given: Any, sides: tuple[Irreps, Irreps, Irreps]) -> Instruction:
    """An instruction of this number between these sides, if it can be followed."""
    name = f"instructions[{number}]"
    try:
        one = Instruction(*given)
    except TypeError as error:
        raise TenfoldError(f"{name} must be like (0, 1, 0, 'uvw', True), not {quoted(given)}") from error
    for side, block, irreps in zip(("left", "right", "out"), one[:3], sides, strict=True):
        if not isinstance(block, int) or not 0 <= block < len(irreps):
            raise TenfoldError(f"{name} has {side} {quoted(block)}, but '{irreps}' has {len(irreps)} blocks")
    one_of(f"the mode of {name}", one.mode, get_args(Mode))
    left, right, out = (irreps[block] for irreps, block in zip(sides, one[:3], strict=True))
    if out.ir not in left.ir * right.ir:
        raise TenfoldError(f"{name} makes {out.ir} of {left.ir} and {right.ir}, which does not occur in their product")
    wanted = {
        "uvu": left.mul == out.mul,
        "uvv": right.mul == out.mul,
        "uuw": left.mul == right.mul and (one.weighted or out.mul == 1),
        "uuu": left.mul == right.mul == out.mul,
        "uvuv": left.mul * right.mul == out.mul,
        "uvu<v": left.mul == right.mul and left.mul * (left.mul - 1) // 2 == out.mul,
    }
    if not wanted.get(one.mode, True):
        muls = f"{left.mul}, {right.mul} and {out.mul}"
        weights = " without weights" if one.mode == "uuw" and not one.weighted else ""
        raise TenfoldError(f"{name}: mode '{one.mode}'{weights} cannot connect multiplicities {muls}")
    if one.mode == "uvw" and not one.weighted:
        raise TenfoldError(f"{name}: mode 'uvw' must have weights")
    if not one.path_weight >= 0:
        raise TenfoldError(f"{name} has path_weight {quoted(one.path_weight)}, which must be at least 0")
    return one


def factors(
    instructions: Sequence[Instruction],
    sides: tuple[Irreps, Irreps, Irreps],
    irrep_normalization: IrrepNormalization,
    path_normalization: PathNormalization,
) -> list[float]:
    """What each path is multiplied by, beside its 3j coefficients of norm one."""
    blocks = [[irreps[n] for irreps, n in zip(sides, one[:3], strict=True)] for one in instructions]
    elements = []
    for one, (left, right, _) in zip(instructions, blocks, strict=True):
        summed = {"uvw": left.mul * right.mul, "uvu": right.mul, "uvv": left.mul, "uuw": left.mul}
        elements.append(summed.get(one.mode, 1))
    together: dict[int, list[int]] = {}
    for one, number in zip(instructions, elements, strict=True):
        together.setdefault(one.out, []).append(number)
    found = []
    for one, number, (left, right, out) in zip(instructions, elements, blocks, strict=True):
        variance = out.ir.dim if irrep_normalization == "component" else left.ir.dim * right.ir.dim
        others = together[one.out]
        summands = sum(others) if path_normalization == "element" else len(others) * number
        found.append(math.sqrt(one.path_weight * variance / (summands or 1)))
    return found
