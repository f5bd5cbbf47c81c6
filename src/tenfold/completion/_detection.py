"""Small networks from attributes to probabilities, several side by side, and Adam on them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from tenfold.completion._counts import Cells

Loss = Callable[[Tensor, Tensor], Tensor]

_LEAST = 1e-12


@dataclass(frozen=True)
class Divergence:
    """How far probabilities are from those that a network says.

    Attributes:
        loss: of each, from the probability and what the network says.
        best: the probabilities that minimise, for each cell by itself, ``rate p - count log(rate p)`` plus ``mu / 2``
            times the loss, from the rates, the cells, what the network says, and mu; above 1 the best one allowed is 1.
    """

    loss: Loss
    best: Callable[[Tensor, Cells, Tensor, float], Tensor]


def _squared(p: Tensor, said: Tensor) -> Tensor:
    return (p - said).square()


def _squared_best(rates: Tensor, cells: Cells, said: Tensor, mu: float) -> Tensor:
    counts = cells.weights * cells.told
    half = mu * said - cells.weights * rates
    root = (half.square() + 4 * mu * counts).sqrt()
    # Of the two equal forms that which does not subtract nearly equal numbers.
    return torch.where(half > 0, (half + root) / (2 * mu), 2 * counts / (root - half).clamp(min=1e-300))


def _kullback_leibler(p: Tensor, said: Tensor) -> Tensor:
    said, p = said.clamp(min=_LEAST), p.clamp(min=_LEAST)
    return said * (said / p).log() - said + p


def _kullback_leibler_best(rates: Tensor, cells: Cells, said: Tensor, mu: float) -> Tensor:
    return (cells.weights * cells.told + mu / 2 * said) / (cells.weights * rates + mu / 2)


DIVERGENCES: Mapping[str, Divergence] = {
    "squared": Divergence(_squared, _squared_best),
    "kullback_leibler": Divergence(_kullback_leibler, _kullback_leibler_best),
}


@dataclass(eq=False)
class Networks:
    """Layers of ReLU units with a sigmoid at the end, for each start its own weights.

    Attributes:
        layers: weights (starts, inputs, outputs) and biases (starts, 1, outputs), in turn.
        moments: Adam's two for each of them.
        steps: of Adam.
        rate: its learning rate, for each start.
    """

    layers: list[Tensor]
    moments: list[Tensor]
    steps: int
    rate: Float[Tensor, " starts"]

    @classmethod
    def first(cls, sizes: list[int], starts: int, rate: float, generator: torch.Generator) -> Networks:
        """Uniform weights as torch's linear layers begin with; sizes are those of the inputs and hidden layers."""
        layers = []
        for before, after in pairwise([*sizes, 1]):
            bound = 1 / math.sqrt(before)
            for rows in (before, 1):
                numbers = torch.rand(starts, rows, after, generator=generator, dtype=torch.float64)
                layers.append(bound * (2 * numbers - 1))
        moments = [torch.zeros_like(layer) for layer in layers for _ in range(2)]
        return cls(layers, moments, 0, torch.full((starts,), rate, dtype=torch.float64))

    @property
    def sizes(self) -> list[int]:
        """What each layer is given."""
        return [weight.shape[1] for weight in self.layers[::2]]

    def features(self, inputs: Float[Tensor, "n D"]) -> Float[Tensor, "starts n width"]:
        """What the last layer is given."""
        at = inputs.expand(len(self.rate), *inputs.shape)
        for weight, bias in zip(self.layers[:-2:2], self.layers[1:-2:2], strict=True):
            at = torch.baddbmm(bias, at, weight).relu()
        return at

    def logits(self, inputs: Float[Tensor, "n D"]) -> Float[Tensor, "starts n"]:
        return torch.baddbmm(self.layers[-1], self.features(inputs), self.layers[-2])[..., 0]

    def __call__(self, inputs: Float[Tensor, "n D"]) -> Float[Tensor, "starts n"]:
        """The probabilities."""
        return self.logits(inputs).sigmoid()

    def only(self, start: int) -> Networks:
        """The network of one start."""
        chosen = slice(start, start + 1)
        return Networks(
            [a[chosen] for a in self.layers], [a[chosen] for a in self.moments], self.steps, self.rate[chosen]
        )

    def packed(self) -> dict[str, Tensor]:
        """Everything as tensors by name."""
        named = {f"layer {place}": layer for place, layer in enumerate(self.layers)}
        named |= {f"moment {place}": moment.clone() for place, moment in enumerate(self.moments)}
        return {**named, "learning_rate": self.rate, "steps": torch.tensor(self.steps)}

    @classmethod
    def unpacked(cls, tensors: Mapping[str, Tensor]) -> Networks:
        layers = [tensors[f"layer {place}"] for place in range(sum(name.startswith("layer ") for name in tensors))]
        moments = [tensors[f"moment {place}"].clone() for place in range(2 * len(layers))]
        return cls(layers, moments, int(tensors["steps"]), tensors["learning_rate"])

    def train(
        self,
        inputs: Float[Tensor, "n D"],
        wanted: Float[Tensor, "starts n"],
        loss: Loss,
        epochs: int,
        batch: int,
        generator: torch.Generator,
    ) -> None:
        """``epochs`` of Adam on the mean of ``loss(wanted, probabilities)``; of each start the best epoch is kept.

        A start that no epoch improved stays as it was, and its rate is halved: the loss never rises.
        """
        best = self.mean_loss(inputs, wanted, loss)
        kept = [layer.clone() for layer in self.layers]
        improved = torch.zeros(len(self.rate), dtype=torch.bool)
        for _ in range(epochs):
            order = torch.randperm(len(inputs), generator=generator)
            for chosen in order.split(batch):
                self.step(inputs[chosen], wanted[:, chosen], loss)
            now = self.mean_loss(inputs, wanted, loss)
            better = now < best
            best = torch.where(better, now, best)
            improved |= better
            kept = [torch.where(better[:, None, None], new, old) for new, old in zip(self.layers, kept, strict=True)]
        self.layers = kept
        self.rate = torch.where(improved, self.rate, self.rate / 2)

    def mean_loss(self, inputs: Tensor, wanted: Tensor, loss: Loss) -> Float[Tensor, " starts"]:
        return loss(wanted, self(inputs)).mean(1)

    def step(self, inputs: Tensor, wanted: Tensor, loss: Loss, weights: Tensor | float = 1.0) -> None:
        """One of Adam on the mean of the weighted losses."""
        leaves = [layer.detach().requires_grad_() for layer in self.layers]
        with torch.enable_grad():
            moving = Networks(leaves, [], 0, self.rate)
            total = (weights * loss(wanted, moving(inputs))).mean(1).sum()
            gradients = torch.autograd.grad(total, leaves)
        self.steps += 1
        # Adam's usual constants.
        first, second = 1 - 0.9**self.steps, 1 - 0.999**self.steps
        rate = self.rate[:, None, None]
        for place, gradient in enumerate(gradients):
            mean, square = self.moments[2 * place], self.moments[2 * place + 1]
            mean.mul_(0.9).add_(gradient, alpha=0.1)
            square.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
            step = mean / first / ((square / second).sqrt() + 1e-8)
            self.layers[place] = self.layers[place] - rate * step
