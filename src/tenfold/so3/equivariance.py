"""How far a function is from turning with its inputs: what every equivariant layer is measured with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tenfold._arguments import quoted, whole_number
from tenfold.errors import DataError, EquivarianceError, TenfoldError
from tenfold.so3.irreps import Irreps
from tenfold.so3.layouts import Layout
from tenfold.so3.rotate import rotate
from tenfold.so3.rotations import random_rotations


def equivariance_error(
    function: Callable[..., Any],
    irreps_in: Any,
    irreps_out: Any,
    *,
    inputs: Sequence[Any] | None = None,
    batch: int = 4,
    rotations: int = 3,
    improper: bool = True,
    layout: Layout = "mul_ir",
    dtype: torch.dtype | None = None,
    seed: int = 0,
) -> float:
    """The largest difference between turning before and turning after, in units of the largest output.

    Args:
        function: a module, or any function of tensors that draws no random numbers.
        irreps_in: irreps of the only input; or a tuple with the irreps of each, ``"1o"`` for vectors and None for what
            does not turn.
        irreps_out: the same for what is returned, None for invariant numbers.
        inputs: a value for each input, None for one that is drawn from the normal distribution. What has no irreps
            needs a value.
        batch: how many feature vectors are drawn.
        rotations: how many rotations are tried.
        improper: whether each is tried with the inversion too.
        layout: of all features that have irreps.
        dtype: of what is drawn; that of the module's parameters where it has any, else double.
        seed: of what is drawn and of the rotations.

    Returns:
        Zero up to rounding where the function is equivariant; NaN where an output is no number.

    Raises:
        DataError: an output has not the shape that its irreps say.
        TenfoldError: inputs and irreps are not equally many, or one that does not turn has no value.

    Cost: ``1 + rotations`` calls, or ``1 + 2 rotations`` with improper ones.
    """
    return _worst(function, irreps_in, irreps_out, inputs, batch, rotations, improper, layout, dtype, seed).error


def assert_equivariant(
    function: Callable[..., Any],
    irreps_in: Any,
    irreps_out: Any,
    *,
    tol: float | None = None,
    inputs: Sequence[Any] | None = None,
    batch: int = 4,
    rotations: int = 3,
    improper: bool = True,
    layout: Layout = "mul_ir",
    dtype: torch.dtype | None = None,
    seed: int = 0,
) -> float:
    """`equivariance_error`, which must not be above ``tol``: by default the rounding unit to the power 2/3.

    That is 4e-11 in double and 2e-5 in single precision.

    Raises:
        EquivarianceError: it is above; the message names the rotation and the block of the output.
        DataError, TenfoldError: as `equivariance_error`.
    """
    worst = _worst(function, irreps_in, irreps_out, inputs, batch, rotations, improper, layout, dtype, seed)
    allowed = torch.finfo(worst.dtype).eps ** (2 / 3) if tol is None else tol
    if not worst.error <= allowed:
        raise EquivarianceError(
            f"not equivariant: {worst.where} differs by {worst.error:.2g} of the largest output, above {allowed:.2g}, "
            f"after {worst.turn}"
        )
    return worst.error


@dataclass
class _Worst:
    """Where the largest difference was."""

    error: float
    where: str
    turn: str
    dtype: torch.dtype


@torch.no_grad()
def _worst(
    function: Callable[..., Any],
    irreps_in: Any,
    irreps_out: Any,
    inputs: Sequence[Any] | None,
    batch: int,
    rotations: int,
    improper: bool,
    layout: Layout,
    dtype: torch.dtype | None,
    seed: int,
) -> _Worst:
    incoming, outgoing = _several(irreps_in), _several(irreps_out)
    values = _values(incoming, inputs, batch, dtype or _dtype(function), seed)
    first = next((value for value, irreps in zip(values, incoming, strict=True) if irreps is not None), None)
    if first is None:
        raise TenfoldError("irreps_in must name at least one input that turns: all are None")
    turns = random_rotations(whole_number("rotations", rotations, 1), seed=seed, dtype=first.dtype, device=first.device)
    straight = _outputs(function(*values), outgoing)
    worst = _Worst(-1.0, "", "", first.dtype)
    for turn, name in [(turns, "a rotation"), *([(-turns, "a rotation with the inversion")] if improper else [])]:
        for matrix in turn:
            before = [
                value if irreps is None else rotate(value, irreps, matrix, layout)
                for value, irreps in zip(values, incoming, strict=True)
            ]
            found = _outputs(function(*before), outgoing)
            for number, (plain, turned, irreps) in enumerate(zip(straight, found, outgoing, strict=True)):
                expected = plain if irreps is None else rotate(plain, irreps, matrix, layout)
                if expected.shape != turned.shape:
                    shapes = f"{tuple(expected.shape)} and {tuple(turned.shape)}"
                    raise DataError(f"output {number} changes its shape with a rotation: {shapes}")
                if not turned.numel():
                    continue
                largest = float(expected.abs().max())
                off = (turned - expected).abs().reshape(-1, turned.shape[-1] if turned.ndim else 1).amax(0)
                error = float(off.max()) / (largest or 1.0)
                # Also true of NaN, which then stays.
                if not error <= worst.error and worst.error == worst.error:
                    worst = _Worst(error, _place(number, len(outgoing), off, irreps), name, first.dtype)
    worst.error = max(worst.error, 0.0) if worst.error == worst.error else worst.error
    return worst


def _several(irreps: Any) -> tuple[Irreps | None, ...]:
    given = irreps if isinstance(irreps, tuple) else (irreps,)
    return tuple(None if one is None else Irreps(one) for one in given)


def _dtype(function: Callable[..., Any]) -> torch.dtype:
    if isinstance(function, torch.nn.Module):
        for parameter in function.parameters():
            if parameter.is_floating_point():
                return parameter.dtype
    return torch.float64


def _values(
    incoming: tuple[Irreps | None, ...], inputs: Sequence[Any] | None, batch: int, dtype: torch.dtype, seed: int
) -> list[Any]:
    given = [None] * len(incoming) if inputs is None else list(inputs)
    if len(given) != len(incoming):
        raise TenfoldError(f"inputs has {len(given)} entries, and irreps_in has {len(incoming)}: one each")
    generator = torch.Generator().manual_seed(seed)
    for number, (value, irreps) in enumerate(zip(given, incoming, strict=True)):
        if irreps is None and value is None:
            raise TenfoldError(f"inputs needs a value for input {number}: it has no irreps to draw it from")
        if irreps is not None and value is None:
            shape = (whole_number("batch", batch, 0), irreps.dim)
            given[number] = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)
    return given


def _outputs(returned: Any, outgoing: tuple[Irreps | None, ...]) -> list[Tensor]:
    found = list(returned) if isinstance(returned, tuple | list) else [returned]
    if len(found) != len(outgoing) or not all(isinstance(one, Tensor) for one in found):
        raise DataError(f"function returned {quoted(type(returned))}; irreps_out is for {len(outgoing)} tensors")
    return found


def _place(number: int, outputs: int, off: Tensor, irreps: Irreps | None) -> str:
    name = "the output" if outputs == 1 else f"output {number}"
    if irreps is None:
        return name
    column = int(off.argmax())
    position = next(p for p, where in enumerate(irreps.slices()) if where.start <= column < where.stop)
    return f"block {position} ({irreps[position]}) of {name}"
