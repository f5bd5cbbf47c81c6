"""Algebras as tensors: what the product of two numbers with several components is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from jaxtyping import Float
from torch import Tensor

from tenfold._arguments import closest, quoted
from tenfold.errors import TenfoldError


def algebra(name: str, *, dtype: torch.dtype | None = None) -> Float[Tensor, "n n n"]:
    """The structure constants ``A`` of a named algebra: ``(p q)[i] = sum_kj A[k,i,j] p[k] q[j]``.

    ``A[0]`` is the identity. ``sum_k p[k] A[k]`` is the matrix that multiplies by ``p`` from the left, and with blocks
    for the components of ``p`` the weight of a hypercomplex layer.

    Args:
        name: ``real``, ``complex``, ``quaternion``, ``octonion``, ``split_complex`` (j^2 = 1) or ``dual`` (e^2 = 0).
        dtype: torch's default where none is given.

    Raises:
        TenfoldError: there is no algebra of that name.
    """
    if name not in _ALGEBRAS:
        raise TenfoldError(
            f"algebra must be one of {', '.join(_ALGEBRAS)}, not {quoted(name)}{closest(str(name), _ALGEBRAS)}"
        )
    return _ALGEBRAS[name]().to(dtype or torch.get_default_dtype())


def algebras() -> tuple[str, ...]:
    """The names that `algebra` takes."""
    return tuple(_ALGEBRAS)


def multiply(
    constants: Float[Tensor, "n n n"], left: Float[Tensor, "*batch n"], right: Float[Tensor, "*batch n"]
) -> Float[Tensor, "*batch n"]:
    """The product of two numbers of an algebra."""
    return torch.einsum("kij,...k,...j->...i", constants, left, right)


def _doubled(smaller: Tensor) -> Tensor:
    """Pairs of numbers with ``(a, b)(c, d) = (a c - d* b, d a + b c*)``, the rule of Cayley and Dickson."""
    n = len(smaller)
    conjugate = torch.eye(n, dtype=smaller.dtype)
    conjugate[1:] *= -1
    made = smaller.new_zeros(2 * n, 2 * n, 2 * n)
    made[:n, :n, :n] = smaller
    # d* b: the left factor is the conjugate of what comes in.
    made[n:, :n, n:] = -torch.einsum("kij,kd->jid", smaller, conjugate)
    made[:n, n:, n:] = torch.einsum("kij->jik", smaller)
    made[n:, n:, :n] = torch.einsum("kij,jc->kic", smaller, conjugate)
    return made


def _real() -> Tensor:
    return torch.ones(1, 1, 1, dtype=torch.float64)


def _of_two(square: float) -> Tensor:
    """Numbers ``a + b e`` with this square of ``e``."""
    made = torch.zeros(2, 2, 2, dtype=torch.float64)
    made[0] = torch.eye(2)
    made[1, 1, 0], made[1, 0, 1] = 1.0, square
    return made


_ALGEBRAS: Mapping[str, Callable[[], Tensor]] = MappingProxyType(
    {
        "real": _real,
        "complex": lambda: _doubled(_real()),
        "quaternion": lambda: _doubled(_doubled(_real())),
        "octonion": lambda: _doubled(_doubled(_doubled(_real()))),
        "split_complex": lambda: _of_two(1.0),
        "dual": lambda: _of_two(0.0),
    }
)
