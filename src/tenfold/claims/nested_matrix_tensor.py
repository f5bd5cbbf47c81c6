"""How well the leading singular vector of an unfolding finds two clusters seen through several views."""

from __future__ import annotations

import math

import torch

from tenfold.claims._registry import Measurement, Number, claim
from tenfold.decomposition import find
from tenfold.structure import Structure

_SHAPE = (150, 200, 100)
_MATRIX = 1.5
_STRENGTHS = (1.0, 0.5)
_WEAK = 0.15
_WITHIN, _NOTHING = 0.1, 0.1


@claim(
    "nested_matrix_tensor",
    paper="Performance gaps in multi-view clustering under the nested matrix-tensor model",
    year=2024,
    where="Section 3, the unfolding estimator",
    stated=(
        "Clusters under a nested matrix-tensor model are found from the unfolding only above a threshold of the "
        "signal, of the order of the fourth root of the size, and then with an alignment that has a closed form."
    ),
)
def nested_matrix_tensor(*, seed: int = 0, draws: int = 12) -> Measurement:
    """Views ``T = b M (x) z + W`` of ``M = 1.5 x y' + Z``, 150 x 200 x 100, ``draws`` of each of three strengths.

    Strength is ``b^2 n_T / sqrt(n1 n2 n3)``; 1 and 0.5 are above the threshold, 0.15 is below it. The estimate of y is
    the leading left singular vector of the unfolding along its mode, as ``tree_svd`` finds it; the alignment is
    ``<estimate, y>^2``. Holds if the mean alignment is within 0.1 of the limit for large sizes above the threshold, at
    most 0.1 below it, and if at half of all sizes and strength 1 it is further from the limit. (The closed form was
    derived for this measurement; for a finite size the alignment stays below the limit.)
    """
    numbers: dict[str, Number] = {}
    lines = []
    holds = True
    for strength in (*_STRENGTHS, _WEAK):
        limit = alignment(strength, _MATRIX, _SHAPE)
        found = _mean_alignment(strength, _SHAPE, seed, draws)
        if strength == _WEAK:
            holds &= limit == 0 and found <= _NOTHING
        else:
            holds &= limit > 0 and abs(found - limit) <= _WITHIN
        lines.append(f"strength {strength:g}: alignment {found:.3f}, limit {limit:.3f}")
        numbers |= {f"strength {strength:g}": found, f"strength {strength:g}: limit": limit}
    half = (_SHAPE[0] // 2, _SHAPE[1] // 2, _SHAPE[2] // 2)
    small = _mean_alignment(_STRENGTHS[0], half, seed, draws)
    limit = alignment(_STRENGTHS[0], _MATRIX, half)
    holds &= limit - small > float(numbers["strength 1: limit"] or 0) - float(numbers["strength 1"] or 0)
    lines.append(f"at half the sizes and strength 1: alignment {small:.3f}, limit {limit:.3f}")
    return Measurement(holds, "\n".join(lines), {"draws": draws, "half": small, **numbers})


def alignment(strength: float, matrix: float, shape: tuple[int, int, int]) -> float:
    """The limit of ``<estimate, y>^2``; 0 below the threshold.

    The unfolding's Gram matrix, centred and scaled, tends to ``strength * M'M`` plus a semicircle of radius 2.
    """
    first, second = (n / (shape[0] + shape[1]) for n in shape[:2])
    above = matrix**4 - first * second
    if above <= 0:
        return 0.0
    lost = matrix**4 / (strength**2 * (matrix**2 + second) ** 2)
    return max((above - lost) / (matrix**2 * (matrix**2 + second)), 0.0)


def _mean_alignment(strength: float, shape: tuple[int, int, int], seed: int, draws: int) -> float:
    svd = find("tree_svd").function
    structure = Structure("i r k, j r -> i j k", i=shape[0], j=shape[1], k=shape[2], r=1)
    total = 0.0
    for number in range(draws):
        data, hidden = views(strength, _MATRIX, shape, seed + number)
        basis = svd(data, structure).network.cores[1][:, 0]
        total += float(basis @ hidden) ** 2 / float(basis @ basis)
    return total / draws


def views(strength: float, matrix: float, shape: tuple[int, int, int], seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A tensor of the model and the unit vector of its classes."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*sizes: int) -> torch.Tensor:
        return torch.randn(*sizes, generator=generator, dtype=torch.float64)

    rows, columns, sights = shape
    x, z = normal(rows), normal(sights)
    x, z = x / x.norm(), z / z.norm()
    y = torch.where(normal(columns) < 0, -1.0, 1.0).double() / math.sqrt(columns)
    inner = matrix * torch.outer(x, y) + normal(rows, columns) / math.sqrt(rows + columns)
    size = rows + columns + sights
    signal = math.sqrt(strength * math.sqrt(math.prod(shape)) / size)
    return signal * inner[:, :, None] * z + normal(*shape) / math.sqrt(size), y
