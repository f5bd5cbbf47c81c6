"""Which observations are left out to see how well a network predicts: such as the missing cells are."""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from tenfold.observations import Observations

# Arrays up to this many cells are looked at as a whole.
_CELLS = 10**8
# This part of the missing cells must lie in fibres that are missing as a whole.
_MOST = 0.9


def split(data: Observations, fraction: float, seed: int) -> tuple[Observations, Observations]:
    """Observations to fit on and observations left out, at random: ``(train, left_out)``.

    Where what is missing are whole fibres along some modes (a sensor that was off, a condition that was not measured),
    whole fibres are left out too: cells beside known ones are predicted much better than such fibres are. Else it is
    `Observations.split`.
    """
    modes = whole_modes(data)
    if not modes:
        return data.split(fraction, seed)
    fibres, group = _fibres(data, modes)
    count = round(fraction * fibres)
    if not 0 < count < fibres:
        return data.split(fraction, seed)
    drawn = torch.randperm(fibres, generator=torch.Generator().manual_seed(seed))[:count].to(data.device)
    chosen = torch.zeros(fibres, dtype=torch.bool, device=data.device).index_fill(0, drawn, True)[group]
    return _part(data, ~chosen), _part(data, chosen)


def drawn_from(data: Observations) -> int:
    """How many cells, or whole fibres, `split` draws from."""
    modes = whole_modes(data)
    return _fibres(data, modes)[0] if modes else len(data)


def _fibres(data: Observations, modes: tuple[int, ...]) -> tuple[int, Int[Tensor, " n"]]:
    """How many fibres along some modes there are, and the one of each cell."""
    shape = data.shape
    assert shape is not None
    key = torch.zeros(len(data), dtype=torch.int64, device=data.device)
    for mode in range(len(shape)):
        if mode not in modes:
            key = key * shape[mode] + data.coordinates[:, mode]
    keys, group = torch.unique(key, return_inverse=True)
    return len(keys), group


def whole_modes(data: Observations) -> tuple[int, ...]:
    """The modes along which nearly all of what is missing is missing as a whole; none where cells are scattered."""
    shape = data.shape
    if shape is None or data.rest == "zero" or data.weights is not None or data.size > _CELLS:
        return ()
    missing = torch.ones(shape, dtype=torch.bool, device=data.device)
    missing[tuple(data.coordinates.T)] = False
    total = int(missing.sum())
    if total == 0:
        return ()

    def part(modes: tuple[int, ...]) -> float:
        whole = missing
        for mode in modes:
            whole = whole.all(mode, keepdim=True)
        return float((missing & whole).sum()) / total

    single = [(part((mode,)), mode) for mode in range(len(shape)) if shape[mode] > 1]
    able = [mode for share, mode in sorted(single, reverse=True) if share > _MOST]
    found: tuple[int, ...] = ()
    # Never all modes but one: leaving out whole slices would leave nothing to know their rows by.
    for mode in able:
        if len(found) < len(shape) - 2 and part((*found, mode)) > _MOST:
            found = (*found, mode)
    return tuple(sorted(found))


def _part(data: Observations, cells: Bool[Tensor, " n"]) -> Observations:
    weights = None if data.weights is None else data.weights[cells]
    return replace(data, coordinates=data.coordinates[cells], values=data.values[cells], weights=weights)
