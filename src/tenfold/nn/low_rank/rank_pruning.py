"""Trained rank pruning: dense weights that are pulled to low rank, and projected on it now and then."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from tenfold._arguments import whole_number
from tenfold.errors import TenfoldError
from tenfold.nn.low_rank._census import Globs, factors_pay, largest_rank, of_each
from tenfold.nn.low_rank._layer import CONVOLUTIONS, Shape, parameters_of
from tenfold.nn.low_rank._scheme import Closure, Rank, Scheme, enabled, kept, part, rate

Unfolding = Literal["channel", "spatial"]


class TrainedRankPruning(Scheme):
    """Trains the layers as they are, and every ``period`` steps puts the best approximation of low rank in their place.

    Between the projections the gradient of ``nuclear`` times the sum of singular values is added, ``U V^T`` of the last
    projection. At the end weights are near low rank, and `finish`, which projects once more, changes little.

    Args:
        model: its layers stay what they are until `finish`.
        tolerance: relative error of a weight, in the Frobenius norm, that each projection may make; unlike a threshold
            on singular values it does not depend on the scale that weight decay and normalisation leave.
        rank: to project on, of all layers or by name, whatever the error.
        period: steps from one projection to the next.
        nuclear: weight of the sum of singular values.
        unfolding: "channel", the matrix from patches to output channels, which becomes a convolution with the kernel
            and one with a single point; or "spatial", from input channels and rows of the kernel to output channels and
            columns, which becomes a column and a row of the kernel and is for ``Conv2d`` only.
        skip: names of layers to leave alone, with ``*``.
        only: names of the layers to train in low rank, by default all.

    Raises:
        TenfoldError: there is no layer that can be trained in low rank, or an argument is out of its range.

    Cost: a step is that of the dense layers, and a product of two factors; a projection takes an SVD of each weight.
    Paper: "TRP: Trained Rank Pruning for Efficient Deep Neural Networks", 2020.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        tolerance: float = 0.1,
        rank: int | Mapping[str, int] | None = None,
        period: int = 5,
        nuclear: float = 3e-4,
        unfolding: Unfolding = "channel",
        skip: Globs = (),
        only: Globs | None = None,
    ) -> None:
        if unfolding not in ("channel", "spatial"):
            raise TenfoldError(f"unfolding must be 'channel' or 'spatial', not {unfolding!r}")
        self._tolerance = part("tolerance", tolerance)
        self._period = whole_number("period", period, 1)
        self._nuclear = rate("nuclear", nuclear)
        self._spatial = unfolding == "spatial"
        kinds: tuple[type[nn.Module], ...] = (nn.Conv2d,) if self._spatial else (nn.Linear, *CONVOLUTIONS)
        super().__init__(model, kinds, _pays if self._spatial else factors_pay, skip=skip, only=only)
        self._fixed = of_each("rank", rank, self._originals)
        self._steps = 0
        self._projected = False  # since the last step: a second projection would only cut again
        # Singular vectors that the last projection kept: what the gradient of the sum of singular values is made of.
        self._vectors: dict[str, tuple[Tensor, Tensor]] = {}
        self._kept: dict[str, int] = {}
        with torch.no_grad(), self._plainly():
            for name in self._originals:
                left, values, right = self._svd(name)
                nonzero = kept(values, torch.finfo(values.dtype).eps * len(values))
                self._vectors[name] = left[:, :nonzero], right[:, :nonzero]
                self._kept[name] = self._rank(name, values)

    @property
    def ranks(self) -> dict[str, Rank]:
        """The rank of each layer at the last projection; before the first, what it would be."""
        return dict(self._kept)

    def step(
        self, closure: Closure, optimizer: Optimizer | None = None, *, scaler: torch.amp.GradScaler | None = None
    ) -> Tensor:
        self._ready(closure)
        scaler = enabled(scaler)
        self._held(optimizer, {name: [self._weight(name)] for name in self._originals})

        def prepare(_: float) -> None:
            with torch.no_grad(), self._plainly():
                for name, (left, right) in self._vectors.items():
                    weight = self._weight(name)
                    if weight.grad is not None:
                        weight.grad.add_(self._folded(name, left @ right.T), alpha=self._nuclear)

        loss = self._descend(closure, optimizer, scaler, prepare)
        self._steps, self._projected = self._steps + 1, False
        if self._steps % self._period == 0:
            self.project()
        return loss

    def project(self) -> None:
        """Put the best approximation of low rank in the place of each weight; once after a step."""
        self._running()
        if self._projected:
            return
        self._projected = True
        with torch.no_grad(), self._plainly():
            for name in self._originals:
                left, values, right = self._svd(name)
                rank = self._rank(name, values)
                left, values, right = left[:, :rank], values[:rank], right[:, :rank]
                self._weight(name).copy_(self._folded(name, left * values @ right.T))
                self._kept[name], self._vectors[name] = rank, (left, right)

    def finish(self) -> nn.Module:
        self.project()
        return super().finish()

    def _rank(self, name: str, values: Tensor) -> int:
        fixed = self._fixed.get(name)
        return kept(values, self._tolerance) if fixed is None else min(fixed, len(values))

    def _weight(self, name: str) -> nn.Parameter:
        weight = self.model.get_submodule(name).weight
        assert isinstance(weight, nn.Parameter)
        return weight

    def _svd(self, name: str) -> tuple[Tensor, Tensor, Tensor]:
        weight = self._weight(name).detach()
        matrix = weight.permute(1, 2, 0, 3).flatten(2).flatten(0, 1) if self._spatial else weight.flatten(1)
        left, values, right = torch.linalg.svd(matrix, full_matrices=False)
        return left, values, right.T

    def _folded(self, name: str, matrix: Tensor) -> Tensor:
        """The matrix in the shape of the weight."""
        shape = self._shapes[name]
        if self._spatial:
            height, width = shape.kernel
            return matrix.reshape(shape.inputs, height, shape.outputs, width).permute(2, 0, 1, 3)
        return matrix.reshape(shape.outputs, shape.inputs, *shape.kernel)

    def _factored(self, name: str) -> nn.Module:
        left, values, right = self._svd(name)
        rank = self._kept[name]
        root = values[:rank].sqrt()
        shape, (_, bias) = self._shapes[name], parameters_of(self.model.get_submodule(name))
        make = shape.spatial_chain if self._spatial else shape.chain
        return make(left[:, :rank] * root, right[:, :rank] * root, bias)

    def _size(self, name: str) -> int:
        rows, columns = self._shapes[name].matrix
        left, right = self._vectors[name]
        return min(self._kept[name] * (len(left) + len(right)), rows * columns)

    def state_dict(self) -> dict[str, Any]:
        vectors = {name: [vector.clone() for vector in each] for name, each in self._vectors.items()}
        return super().state_dict() | {
            "steps": self._steps,
            "projected": self._projected,
            "ranks": dict(self._kept),
            "vectors": vectors,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        super().load_state_dict(state)
        self._steps, self._projected, self._kept = state["steps"], state["projected"], dict(state["ranks"])
        for name, (left, right) in state["vectors"].items():
            like = self._weight(name)
            self._vectors[name] = left.to(like, copy=True), right.to(like, copy=True)


def _pays(layer: nn.Module) -> str:
    shape = Shape.of(layer)
    if shape.kernel[0] == 1 or shape.kernel[1] == 1:
        return "its kernel is no rectangle, so that there is nothing to separate"
    rows, columns = shape.inputs * shape.kernel[0], shape.outputs * shape.kernel[1]
    return (
        ""
        if largest_rank(layer) and rows + columns < rows * columns
        else "factors of rank 1 are as large as its weight"
    )
