"""Training a compressed model to say what the original says."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from tenfold.compression.outputs import Forward, numbers
from tenfold.nn.quantized import QuantizedEmbedding, QuantizedWeight


def distil(
    small: nn.Module,
    teacher: nn.Module,
    batches: Sequence[Any],
    forward: Forward,
    *,
    epochs: int,
    learning_rate: float,
    seed: int,
    frozen: Sequence[nn.Module] = (),
    tell: Callable[[int, int, float], None],
) -> None:
    """Change the small model's weights so that its outputs come near to the teacher's, in squares; in place.

    The learning rate rises over the first twentieth and falls as a cosine. Both run as in use (dropout off, averages of
    normalisation fixed), so that what is learned is what will be asked; weights of 8 or 4 bits are rounded in each
    step. What is in ``frozen`` keeps its weights.

    Paper: "Distilling the knowledge in a neural network", 2015.
    """
    # Tables of words are left as they are: rounding all of a table for each batch would take longer than the batch.
    kept = {id(m.quantized) for m in small.modules() if isinstance(m, QuantizedEmbedding)}
    kept |= {id(m) for one in frozen for m in one.modules()}
    rounded = [m for m in small.modules() if isinstance(m, QuantizedWeight) and id(m) not in kept]
    for weight in rounded:
        weight.thaw()
    try:
        _train(small, teacher, batches, forward, epochs=epochs, learning_rate=learning_rate, seed=seed, tell=tell)
    finally:
        for weight in rounded:
            weight.freeze()


def _train(
    small: nn.Module,
    teacher: nn.Module,
    batches: Sequence[Any],
    forward: Forward,
    *,
    epochs: int,
    learning_rate: float,
    seed: int,
    tell: Callable[[int, int, float], None],
) -> None:
    parameters = [p for p in small.parameters() if p.requires_grad and p.is_floating_point()]
    if not parameters or not batches or epochs < 1:
        return
    teacher.eval()
    small.eval()
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=0.0)
    total = epochs * len(batches)
    warm = max(1, total // 20)

    def rate(step: int) -> float:
        return min(1.0, (step + 1) / warm) * 0.5 * (1 + math.cos(math.pi * min(step / total, 1.0)))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    order = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        wanted = [[t.clone() for t in numbers(forward(teacher, batch))] for batch in batches]
    step = 0
    for _ in range(epochs):
        for place in torch.randperm(len(batches), generator=order).tolist():
            optimizer.zero_grad(set_to_none=True)
            mine = numbers(forward(small, batches[place]))
            over = sum((a - b).square().sum() for a, b in zip(mine, wanted[place], strict=True))
            under = sum(b.square().sum() for b in wanted[place])
            loss = over / under.clamp(min=1e-30)
            if torch.isfinite(loss):
                loss.backward()
                torch.nn.utils.clip_grad_norm_(parameters, 1.0)
                optimizer.step()
            schedule.step()
            step += 1
            tell(step, total, float(loss.detach()))
