"""A layer of a small trained network made smaller: by its weight, and by what it does on the data it was trained on.

    python -m benchmarks.layer

The network tells the infrared half of spectra (1.4 to 2.5 micrometres) from the other half, for pixels of an image of
fields taken from the air. It is trained on the left half of the image and tested on the right one.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

import tenfold as tn
from tenfold import io
from tenfold.network import Network

_BANDS, _HIDDEN = 100, 64
# What keeps the weights from growing, as a part of their mean square.
_DECAY = 1e-4


@dataclass(frozen=True)
class Trained:
    """A network of one hidden layer, its data, and the loss of another weight in place of that layer's."""

    inputs: Tensor
    outputs: Tensor
    unseen_inputs: Tensor
    unseen_outputs: Tensor
    hidden: torch.nn.Linear
    last: torch.nn.Linear

    @property
    def weight(self) -> Tensor:
        return self.hidden.weight.detach().clone()

    @cached_property
    def _factor(self) -> tuple[Tensor, Tensor]:
        # The triangular factor of the inputs has their singular values, and as few rows as they have columns.
        factor = torch.linalg.qr(self.inputs).R
        return factor, factor @ self.weight.T

    def loss(self, network: Network) -> Tensor:
        """How far the outputs of the hidden layer are from what they were, relatively, on all training data."""
        factor, wanted = self._factor
        return (factor @ network.dense().T - wanted).norm() / wanted.norm()

    @torch.no_grad()
    def explained(self, weight: Tensor) -> float:
        """The part of the variance of unseen outputs that the network with this weight tells (R^2)."""
        told = self.last(torch.tanh(self.unseen_inputs @ weight.T + self.hidden.bias))
        spread = self.unseen_outputs - self.unseen_outputs.mean(0)
        return 1 - float((told - self.unseen_outputs).square().sum() / spread.square().sum())


def trained(seed: int = 0, steps: int = 60) -> Trained:
    """The network after so many steps of L-BFGS."""
    image = torch.as_tensor(np.asarray(io.read("sample:indian_pines").values), dtype=torch.float64)
    seen, unseen = (half.reshape(-1, image.shape[2]) for half in image.chunk(2, dim=1))
    mean, spread = seen.mean(0), seen.std(0)
    seen, unseen = (seen - mean) / spread, (unseen - mean) / spread
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        hidden = torch.nn.Linear(_BANDS, _HIDDEN, dtype=torch.float64)
        last = torch.nn.Linear(_HIDDEN, _BANDS, dtype=torch.float64)
    inputs, outputs = seen[:, :_BANDS], seen[:, _BANDS:]
    optimizer = torch.optim.LBFGS(
        [*hidden.parameters(), *last.parameters()], max_iter=steps, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        error = (last(torch.tanh(hidden(inputs))) - outputs).square().mean()
        large = sum(layer.weight.square().sum() for layer in (hidden, last)) / _BANDS
        total = error + _DECAY * large
        total.backward()
        return total.detach()

    optimizer.step(closure)
    return Trained(inputs, outputs, unseen[:, :_BANDS], unseen[:, _BANDS:], hidden, last)


def searched(network: Trained, parameters: int, evaluations: int, **options: object) -> tuple[tn.Search, tn.Search]:
    """A search by what the layer does, and one by its weight, with as many parameters and evaluations."""
    asked = {"parameters": parameters, "evaluations": evaluations, "space": "ring", **options}
    by_loss = tn.search(loss=network.loss, shape=(_HIDDEN, _BANDS), **asked)
    return by_loss, tn.search(network.weight, **asked)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parameters", type=int, nargs="+", default=[640, 1280])
    parser.add_argument("--evaluations", type=int, default=60)
    given = parser.parse_args()
    network = trained()
    print(f"{network.weight.numel():,} weights: R2 {network.explained(network.weight):.3f} on unseen pixels")
    for parameters in given.parameters:
        for name, found in zip(
            ("what it does", "its weight"), searched(network, parameters, given.evaluations), strict=True
        ):
            weight = found.network.dense().detach()
            off = float((weight - network.weight).norm() / network.weight.norm())
            print(
                f"by {name}: {found.parameters:,} parameters, weight off by {off:.3f}, outputs by "
                f"{float(network.loss(found.network)):.3f}, R2 {network.explained(weight):.3f}; {found.method}, "
                f"{found.fits} fits, {found.seconds:.0f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
