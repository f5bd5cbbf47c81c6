"""``python -m benchmarks.train_digits FILE``: train the network of `tenfold.models.digits` again, half a minute."""

from __future__ import annotations

import sys

import torch
from safetensors.torch import save_file
from torch.nn import functional

from tenfold.models.digits import TRAINED, accuracy, architecture, images


def main(place: str, epochs: int = 20, batch: int = 32) -> None:
    """AdamW, weight decay 1e-2, cosine; seed 0."""
    torch.manual_seed(0)
    model = architecture()
    pixels, labels = images()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for _ in range(epochs):
        for part in torch.randperm(TRAINED).split(batch):
            optimizer.zero_grad()
            functional.cross_entropy(model(pixels[part]), labels[part]).backward()
            optimizer.step()
        schedule.step()
    save_file(model.eval().state_dict(), place)
    print(f"{accuracy(model):.2%} of the images that it was not trained on; wrote {place}")


if __name__ == "__main__":
    main(sys.argv[1])
