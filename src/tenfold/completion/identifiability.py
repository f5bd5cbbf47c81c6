"""Whether counts that miss events can tell true counts from detection."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from scipy.spatial import cKDTree
from torch import Tensor

from tenfold.completion.task import Task
from tenfold.errors import DataError, TenfoldError

# Balls are drawn around so many observations at most.
_CENTRES = 2000


@dataclass(frozen=True)
class Identifiability:
    """The largest set of observations whose attributes are nearly equal.

    On such a set detection is the same everywhere, so that the counts are of low rank themselves. They fix the rates up
    to one factor if the set meets every level of every mode more often than there are components.

    Attributes:
        radius: how far attributes of the set are from its centre at most, each attribute divided by its standard
            deviation.
        cells: how many different cells the set has.
        observations: of how many.
        coverage: for each mode the part of its levels that the set meets.
        fewest: for each mode the smallest number of cells of the set at one level.
    """

    radius: float
    cells: int
    observations: int
    coverage: tuple[float, ...]
    fewest: tuple[int, ...]

    @property
    def whole(self) -> bool:
        """Whether every level of every mode is met."""
        return all(part == 1 for part in self.coverage)

    def __repr__(self) -> str:
        parts = [
            f"mode {mode}: {100 * part:.0f} % of levels, at least {least} cells each"
            for mode, (part, least) in enumerate(zip(self.coverage, self.fewest, strict=True))
        ]
        verdict = "every level is met" if self.whole else "not every level is met: rates there rest on the attributes"
        return (
            f"{self.cells} cells of {self.observations} observations have nearly equal attributes "
            f"(within {self.radius:.2g} standard deviations); {'; '.join(parts)}; {verdict}"
        )


def identifiability_report(task: Task, *, radius: float | None = None) -> Identifiability:
    """The largest set of observations with nearly equal attributes, and which levels it meets.

    Args:
        radius: how near; a tenth of the root of the number of attributes without it.

    Raises:
        DataError: a task without attributes.
        TenfoldError: a continuous mode, a radius that is not positive.

    Cost: neighbours of 2,000 observations at most, drawn evenly, by a tree.
    Paper: "Under-Counted Tensor Completion with Neural Incorporation of Attributes", 2023.
    """
    if task.attributes is None:
        raise DataError("attributes are needed to compare them: the task has none")
    if not task.discrete:
        raise TenfoldError(f"mode {task.sizes.index(None)} is continuous: levels can be met in discrete modes only")
    radius = 0.1 * math.sqrt(task.attributes.shape[1]) if radius is None else radius
    if not radius > 0:
        raise TenfoldError(f"radius {radius:g} must be positive")
    scaled = _scaled(task.attributes)
    tree = cKDTree(scaled.numpy())
    centres = torch.linspace(0, len(task) - 1, min(len(task), _CENTRES)).long()
    sizes = tree.query_ball_point(scaled[centres].numpy(), radius, return_length=True)
    centre = scaled[centres[int(torch.as_tensor(sizes).argmax())]]
    among = torch.as_tensor(tree.query_ball_point(centre.numpy(), radius))
    cells = task.coordinates[among].unique(dim=0).long()
    coverage, fewest = [], []
    for mode, size in enumerate(task.sizes):
        met = torch.bincount(cells[:, mode], minlength=size or 0)
        coverage.append(float((met > 0).double().mean()))
        fewest.append(int(met.min()))
    return Identifiability(radius, len(cells), len(task), tuple(coverage), tuple(fewest))


def _scaled(attributes: Float[Tensor, "n D"]) -> Float[Tensor, "n D"]:
    spread = attributes.std(0, correction=0)
    return (attributes - attributes.mean(0)) / torch.where(spread > 0, spread, 1.0)
