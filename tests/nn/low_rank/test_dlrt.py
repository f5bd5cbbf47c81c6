"""Matrices trained in factors: the integrator's formulas, its rank history, and that no full gradient is made."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tenfold.errors import DataError, TenfoldError
from tenfold.nn.low_rank import DLRT

F64 = torch.float64


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def matrix_of(layer: nn.Module) -> Tensor:
    return layer.weight.detach().flatten(1)


def quadratic(target: Tensor, start: Tensor, **options: Any) -> tuple[DLRT, list[int], list[float]]:
    """Forty steps of the loss ``|W - target|² / 2``."""
    linear = nn.Linear(target.shape[1], target.shape[0], bias=False, dtype=F64)
    linear.weight.data = start.clone()
    model = nn.Sequential(linear)
    scheme = DLRT(model, **options)
    identity = torch.eye(target.shape[1], dtype=F64)
    ranks, losses = [], []
    for _ in range(40):
        losses.append(float(scheme.step(lambda: (model(identity) - target.T).square().sum() / 2)))
        ranks.append(scheme.ranks["0"])
    return scheme, ranks, losses


def test_the_rank_finds_itself() -> None:
    target = normal(30, 3) @ normal(3, 20, seed=1)
    start = 3 * torch.linalg.qr(normal(30, 4, seed=2)).Q @ torch.linalg.qr(normal(20, 4, seed=3)).Q.T
    scheme, ranks, losses = quadratic(target, start, rank=4, lr=0.3, tolerance=0.05)
    assert ranks[0] in (5, 6, 7)  # the start's four and the target's three, some of them dropped
    assert ranks[5:] == [3] * 35
    assert losses[-1] < 1e-6 < losses[0]
    assert torch.allclose(matrix_of(scheme.model[0]), target, atol=1e-3)


@pytest.mark.parametrize("kind", ["linear", "conv"])
@pytest.mark.parametrize("tolerance", [0.0, 0.3])
def test_a_step_is_that_of_the_formulas(kind: str, tolerance: float) -> None:
    """Beside the integrator written down for a dense weight, with its full gradient."""
    lr, inputs = 0.1, normal(5, 4, 6, 6, seed=8) if kind == "conv" else normal(9, 12, seed=8)
    layer = nn.Conv2d(4, 10, 3, stride=2, dtype=F64) if kind == "conv" else nn.Linear(12, 10, dtype=F64)
    model = nn.Sequential(layer)
    scheme = DLRT(model, rank=3, max_rank=4, min_rank=1, lr=lr, tolerance=tolerance)
    made = model[0]
    made.core = normal(3, 3, seed=4)  # dense, as in the middle of training
    weight = made.to_dense().detach().clone().requires_grad_()
    aim = normal(*model(inputs).shape, seed=5)

    def dense(w: Tensor) -> Tensor:
        if kind == "linear":
            return nn.functional.linear(inputs, w, made.bias)
        return nn.functional.conv2d(inputs, w, made.bias, stride=2)

    def gradient(matrix: Tensor) -> Tensor:
        shaped = matrix.reshape(weight.shape).requires_grad_()
        return torch.autograd.grad(mse_loss(dense(shaped), aim, reduction="sum"), shaped)[0].flatten(1)

    u, s, v = made.left, made.core, made.right
    whole = gradient(u @ s @ v.T)
    q_left = torch.linalg.qr(torch.cat([u @ s - lr * whole @ v, u], 1)).Q
    q_right = torch.linalg.qr(torch.cat([v @ s.T - lr * whole.T @ u, v], 1)).Q
    core = q_left.T @ u @ s @ (q_right.T @ v).T
    assert torch.allclose(q_left @ core @ q_right.T, u @ s @ v.T, atol=1e-10)
    core = core - lr * q_left.T @ gradient(q_left @ core @ q_right.T) @ q_right
    p, sigma, qh = torch.linalg.svd(core)
    rank = next(r for r in range(7) if float(sigma[r:].norm()) <= tolerance * float(sigma.norm()))
    rank = min(rank, 4)
    expected = q_left @ p[:, :rank] * sigma[:rank] @ (qh[:rank] @ q_right.T)

    scheme.step(lambda: mse_loss(model(inputs), aim, reduction="sum"))
    assert scheme.ranks["0"] == rank
    assert torch.allclose(matrix_of(made), expected, atol=1e-10)


def test_wider_bases_hold_the_same_matrix_and_truncation_is_the_best_one() -> None:
    model = nn.Sequential(nn.Linear(9, 11, dtype=F64))
    DLRT(model, rank=3, tolerance=0.2, max_rank=9)
    layer = model[0]
    layer.core = normal(3, 3)
    before = matrix_of(layer)
    layer.widen([normal(11, 3, seed=1), normal(9, 3, seed=2)], None)
    assert layer.core.shape == (6, 6)
    assert torch.allclose(matrix_of(layer), before, atol=1e-12)
    layer.core = normal(6, 6, seed=3)
    before = matrix_of(layer)
    layer.truncate(0.2)
    values = torch.linalg.svdvals(before)
    lost = (matrix_of(layer) - before).norm()
    assert torch.allclose(lost, values[layer.rank :].norm(), atol=1e-12)
    assert lost <= 0.2 * before.norm() < values[layer.rank - 1 :].norm()
    for basis in (layer.left, layer.right):
        assert torch.allclose(basis.T @ basis, torch.eye(layer.rank, dtype=F64), atol=1e-12)


def test_tiny_singular_values_do_no_harm() -> None:
    target = normal(12, 3) @ normal(3, 10, seed=1)
    u, v = torch.linalg.qr(normal(12, 3, seed=2)).Q, torch.linalg.qr(normal(10, 3, seed=3)).Q
    traces = []
    for least in (1e-12, 1e-6):
        start = u * torch.tensor([1.0, 0.5, least], dtype=F64) @ v.T
        traces.append(quadratic(target, start, rank=3, lr=0.3, tolerance=0.0, max_rank=5, min_rank=3)[2])
    assert torch.allclose(torch.tensor(traces[0]), torch.tensor(traces[1]), rtol=1e-4, atol=1e-12)
    assert traces[0][-1] < 1e-6


def test_gradients_along_the_bases_in_one_pass() -> None:
    conv = nn.Conv2d(4, 6, 3, stride=2, dilation=2, padding=1, padding_mode="circular", dtype=F64)
    inputs = normal(3, 4, 9, 9).requires_grad_()
    model = nn.Sequential(conv)
    weight, bias = conv.weight, conv.bias
    DLRT(model, rank=8, max_rank=8)
    layer = model[0]
    weight.data = layer.to_dense()
    plain = conv(inputs).pow(3).sum()
    by_weight, by_input, by_bias = torch.autograd.grad(plain, [weight, inputs, bias])
    outer, zero = layer.begin_bases()
    found = model(inputs).pow(3).sum()
    along = torch.autograd.grad(found, [outer, zero, inputs, bias])
    assert torch.allclose(found, plain)
    for one, other in zip(
        along, [by_weight.flatten(1) @ layer.right, by_weight.flatten(1).T @ layer.left, by_input, by_bias], strict=True
    ):
        assert torch.allclose(one, other, atol=1e-9)
    layer.end()
    assert torch.autograd.gradcheck(lambda x: model(x), inputs[:1, :, :5, :5].detach().requires_grad_())


class Largest(TorchDispatchMode):
    """The most numbers that any result has had."""

    numbers = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self.numbers = max(self.numbers, tensor.numel())
        return result


def test_no_full_gradient_is_formed() -> None:
    model = nn.Sequential(nn.Linear(200, 300), nn.ReLU(), nn.Linear(300, 10))
    scheme = DLRT(model, rank=4, max_rank=4, skip="2")
    optimizer = torch.optim.Adam(model.parameters())
    inputs = torch.ones(5, 200)
    with Largest() as seen:
        scheme.step(lambda: model(inputs).square().sum(), optimizer)
    assert 300 * 8 <= seen.numbers < 300 * 200 / 10


def test_fixed_ranks() -> None:
    target = normal(12, 3) @ normal(3, 10, seed=1)
    start = normal(12, 10, seed=2) / 10
    _, ranks, losses = quadratic(target, start, rank=3, lr=0.3, tolerance=None)
    assert ranks == [3] * 40
    assert losses[-1] < 1e-6 * losses[0]


def test_fixed_bases_train_the_core_only() -> None:
    model = nn.Sequential(nn.Linear(9, 11, dtype=F64))
    scheme = DLRT(model, rank=3, lr=1e-3)
    scheme.fixed_bases = True
    layer, inputs, calls = model[0], normal(7, 9), []
    left, right, core = layer.left.clone(), layer.right.clone(), layer.core.clone()

    def loss() -> Tensor:
        calls.append(1)
        return model(inputs).square().sum()

    before = scheme.step(loss, torch.optim.SGD(model.parameters(), lr=1e-3))
    assert len(calls) == 1
    assert torch.equal(layer.left, left)
    assert torch.equal(layer.right, right)
    assert not torch.equal(layer.core, core)
    assert loss() < before


def test_statistics_of_batch_norm_are_those_of_one_pass() -> None:
    def network() -> nn.Sequential:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(8, 12), nn.BatchNorm1d(12), nn.Linear(12, 12))

    with torch.random.fork_rng():
        model, twin = network(), network()
    inputs = normal(20, 8).float()
    scheme = DLRT(model, only="2", lr=0.01)
    scheme.step(lambda: model(inputs).square().mean(), torch.optim.SGD(model.parameters(), lr=0.1))
    twin(inputs)
    assert model[1].num_batches_tracked == 1
    assert torch.equal(model[1].running_mean, twin[1].running_mean)
    assert model[1].track_running_stats


def test_ranks_have_limits() -> None:
    model = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 16))
    scheme = DLRT(model, rank={"0": 5}, max_rank={"1": 3}, min_rank=2, tolerance=0.9)
    assert scheme.ranks == {"0": 5, "1": 3}
    inputs = torch.eye(16)
    scheme.step(lambda: model(inputs).square().mean())
    assert scheme.ranks == {"0": 2, "1": 2}
    with pytest.raises(TenfoldError, match="rank names layer '3', which is not trained in low rank"):
        DLRT(nn.Sequential(nn.Linear(16, 16)), rank={"3": 5})
    with pytest.raises(TenfoldError, match="min_rank of layer '0' must be a whole number of at least 1, not 0"):
        DLRT(nn.Sequential(nn.Linear(16, 16)), min_rank=0)
    with pytest.raises(TenfoldError, match="tolerance must be a number from 0 to below 1, not 1"):
        DLRT(nn.Sequential(nn.Linear(16, 16)), tolerance=1.0)


def test_a_gradient_that_is_not_finite_is_an_error_and_a_scaler_skips_the_step() -> None:
    model = nn.Sequential(nn.Linear(8, 8))
    scheme = DLRT(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    inputs, kept = torch.ones(3, 8), matrix_of(model[0])

    def steep() -> Tensor:
        return (model(inputs).square().sum() * 0).sqrt()  # zero, and its slope is infinite times zero

    with pytest.raises(DataError, match="the gradient of layer '0' is not finite: a smaller lr"):
        scheme.step(steep, optimizer)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    scheme.step(steep, optimizer, scaler=scaler)
    assert scaler.get_scale() == 2
    assert torch.allclose(matrix_of(model[0]), kept)
