"""Cores that are kept from growing: each is divided by how far its numbers are above those of its start.

The ways to apply a matrix are wrapped: what they make of the cores, they make of the normalised ones, so that this is
done once as long as the cores do not change, and gradients flow through it where they are wanted.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from tenfold.nn._execution import Cores, Way, Ways

# Keeps the derivative of the root finite at a core of zeros.
_LITTLE = 1e-8

Levels = tuple[tuple[float | None, ...], ...]


class _Subject(NamedTuple):
    """A matrix without its numbers.

    Attributes:
        inner: what the wrapped ways know it as.
        levels: for each core of each structure the root mean square above which it is normalised; None for never.
    """

    inner: Hashable
    levels: Levels


def normalised(ways: Ways, levels: Levels) -> Ways:
    """The same ways for cores that are normalised first; a last group of tensors holds a gain for each level."""
    return Ways(
        _Subject(ways.subject, levels),
        tuple(map(_wrapped, ways.factors)),
        _wrapped(ways.whole),
        None if ways.kernel is None else _wrapped(ways.kernel),
        ways.flops,
        ways.entries,
    )


def excess(core: Tensor, level: float) -> Tensor:
    """By what a core is divided: its root mean square over ``level``, and at least 1; in single precision or better."""
    wide = core if core.dtype == torch.float64 else core.float()
    return ((wide.square().mean() + _LITTLE).sqrt() / level).clamp(min=1.0)


def cores_of(levels: Levels, cores: Cores) -> list[list[Tensor]]:
    """``gain * core / excess`` for each core that has a level; the others as they are."""
    *groups, gains = cores
    left = iter(gains)
    return [
        [
            core if level is None else core * (next(left) / excess(core, level)).to(core.dtype)
            for core, level in zip(group, each, strict=True)
        ]
        for group, each in zip(groups, levels, strict=True)
    ]


def _wrapped(way: Way) -> Way:
    return Way(way.name, partial(_prepare, way), partial(_run, way))


def _prepare(way: Way, subject: _Subject, cores: Sequence[Sequence[Tensor]]) -> Any:
    return way.prepare(subject.inner, cores_of(subject.levels, cores))


def _run(way: Way, subject: _Subject, prepared: Any, rows: Tensor, bias: Tensor | None) -> Tensor:
    return way.run(subject.inner, prepared, rows, bias)
