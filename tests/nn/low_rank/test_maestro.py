"""Ordered dropout: nested truncations are the best ones, and factors narrow with what the optimizer keeps of them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tenfold.errors import TenfoldError
from tenfold.nn.low_rank import Maestro
from tenfold.nn.low_rank.maestro import tails_gradient

F64 = torch.float64


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def planted(layer: nn.Module, left: Tensor, right: Tensor) -> None:
    layer.left.data, layer.right.data = left.clone(), right.clone()


def test_every_prefix_is_the_best_approximation_of_its_rank() -> None:
    """Singular values 5, 3 and 1, turned; inputs are all directions alike."""
    left, right = torch.linalg.qr(normal(6, 3)).Q, torch.linalg.qr(normal(6, 3, seed=1)).Q
    values = torch.tensor([5.0, 3.0, 1.0], dtype=F64)
    target = left * values @ right.T
    model = nn.Sequential(nn.Linear(6, 6, bias=False, dtype=F64))
    scheme = Maestro(model, rank=3, penalty=0.0)
    planted(model[0], 0.5 * normal(6, 3, seed=2), 0.5 * normal(6, 3, seed=3))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 1500)
    identity = torch.eye(6, dtype=F64)
    for _ in range(1500):
        scheme.step(lambda: (model(identity) - target.T).square().sum(), optimizer)
        decay.step()
    lost = []
    for rank in (1, 2, 3):
        cut = scheme.truncated(rank)(identity).detach().T
        lost.append(float((cut - target).norm()))
        assert lost[-1] <= 1.02 * float(values[rank:].norm()) + 0.02
    assert lost[0] > lost[1] > lost[2]
    u, v = torch.linalg.svd(target).U[:, 0], model[0].left[:, 0].detach()
    assert abs(float(u @ v / v.norm())) > 0.99


def test_the_gradient_of_the_lasso_is_that_of_its_norms() -> None:
    factor = normal(5, 4).requires_grad_()
    sum(factor[:, column:].norm() for column in range(4)).backward()
    assert torch.allclose(tails_gradient(factor.detach()), factor.grad)
    gone = factor.detach().clone()
    gone[:, 2:] = 0
    found = tails_gradient(gone)
    assert bool(found.isfinite().all())
    assert torch.equal(found[:, 2:], torch.zeros(5, 2, dtype=F64))


def test_each_pair_of_layer_and_width_is_drawn_once_in_a_round() -> None:
    model = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6))
    scheme = Maestro(model, rank={"0": 2, "1": 3})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    seen = []

    def loss() -> Tensor:
        cut = [(name, layer.width) for name, layer in model.named_children() if layer.width is not None]
        assert len(cut) == 1
        seen.extend(cut)
        return model(torch.ones(1, 6)).sum()

    for _ in range(10):
        scheme.step(loss, optimizer)
    pairs = sorted([("0", 1), ("0", 2), ("1", 1), ("1", 2), ("1", 3)])
    assert sorted(seen[:5]) == sorted(seen[5:]) == pairs
    assert seen[:5] != seen[5:]
    whole = Maestro(nn.Sequential(nn.Linear(6, 6)), whole=True)
    calls = []

    def twice() -> Tensor:
        calls.append(whole.model[0].width)
        return whole.model(torch.ones(1, 6)).sum()

    whole.step(twice, torch.optim.SGD(whole.model.parameters(), lr=0.0))
    assert len(calls) == 2
    assert calls[0] is not None
    assert calls[1] is None


def test_columns_that_contribute_nothing_are_dropped_with_what_the_optimizer_keeps() -> None:
    model = nn.Sequential(nn.Linear(8, 9, dtype=F64))
    scheme = Maestro(model, rank=5, tolerance=0.01, penalty=0.0)
    layer = model[0]
    left, right = normal(9, 5), normal(8, 5, seed=1)
    left[:, 3:] *= 1e-3
    right[:, 4:] *= 1e-3
    planted(layer, left, right)
    weight, factors = layer.weight.detach().clone(), (layer.left, layer.right)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-9, weight_decay=0.0)
    inputs = normal(4, 8, seed=2)
    for _ in range(3):
        scheme.step(lambda: model(inputs).square().sum(), optimizer)
    moments = [optimizer.state[factor]["exp_avg_sq"].clone() for factor in factors]
    assert torch.allclose(layer.errors()[0], weight.norm())
    assert torch.allclose(layer.errors()[3], (left[:, 3:] @ right[:, 3:].T).norm(), rtol=1e-4)
    scheme.epoch()
    assert scheme.ranks == {"0": 3}
    assert (layer.left, layer.right) == factors  # the same parameters
    for factor, moment in zip(factors, moments, strict=True):
        assert torch.equal(optimizer.state[factor]["exp_avg_sq"], moment[:, :3])
    assert (layer.weight - weight).norm() <= 0.01 * weight.norm()
    scheme.step(lambda: model(inputs).square().sum(), optimizer)


def test_an_optimizer_must_have_the_factors_and_follow_them() -> None:
    model = nn.Sequential(nn.Linear(8, 9))
    before = torch.optim.SGD(model.parameters(), lr=0.1)
    scheme = Maestro(model, rank=4, tolerance=0.9)
    with pytest.raises(TenfoldError, match="does not have the weight of layer '0': make it of model"):
        scheme.step(lambda: model(torch.ones(1, 8)).sum(), before)
    scheme.step(lambda: model(torch.ones(1, 8)).square().sum(), torch.optim.LBFGS(model.parameters(), max_iter=2))
    with pytest.raises(TenfoldError, match="LBFGS keeps numbers of other shapes"):
        scheme.epoch()


def test_cuts_are_plain_copies() -> None:
    model = nn.Sequential(nn.Conv2d(4, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 5, 3))
    scheme = Maestro(model)
    inputs = normal(2, 4, 6, 6).float()
    cut = scheme.truncated({"0": 2})
    assert [type(layer) for layer in cut[0]] == [nn.Conv2d, nn.Conv2d]
    assert cut[0][0].out_channels == 2
    assert torch.allclose(scheme.truncated(54)(inputs), model(inputs), atol=1e-5)
    with scheme._cut({"0": 2}):
        expected = model(inputs)
    assert torch.allclose(cut(inputs), expected, atol=1e-5)
    assert cut[0][1].bias is not model[0].bias
    with pytest.raises(TenfoldError, match="ranks of layer '0' must be a whole number of at least 1, not 0"):
        scheme.truncated({"0": 0})
