"""Convolutions trained in the Tucker format: the integrator's formulas and its rank history."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from tenfold.errors import TenfoldError
from tenfold.nn.low_rank import TDLRT

F64 = torch.float64


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def times(tensor: Tensor, matrix: Tensor, mode: int) -> Tensor:
    return torch.tensordot(matrix, tensor, dims=([1], [mode])).movedim(0, mode)


def unfolded(tensor: Tensor, mode: int) -> Tensor:
    return tensor.movedim(mode, 0).flatten(1)


def kernel_of(model: nn.Module) -> Tensor:
    return model[0].to_dense().detach()


@pytest.mark.parametrize("kernel", [True, False])
def test_ranks_find_themselves(kernel: bool) -> None:
    target = normal(2, 3, 2, 2)
    for mode, (size, rank) in enumerate(zip((16, 12, 3, 3), (2, 3, 2, 2), strict=True)):
        target = times(target, normal(size, rank, seed=mode + 1), mode)
    model = nn.Sequential(nn.Conv2d(12, 16, 3, bias=False, dtype=F64))
    model[0].weight.data = normal(16, 12, 3, 3, seed=9)
    start = (5, 5, 2, 2) if kernel else (5, 5)
    scheme = TDLRT(model, rank={"0": start}, lr=0.3, tolerance=0.05, kernel=kernel, min_rank=1)
    patches = torch.eye(108, dtype=F64).reshape(108, 12, 3, 3)

    def loss() -> Tensor:
        return (model(patches).flatten(1).T.reshape(16, 12, 3, 3) - target).square().sum() / 2

    ranks, losses = [], []
    for _ in range(40):
        losses.append(float(scheme.step(loss)))
        ranks.append(scheme.ranks["0"])
    assert ranks[0] != ranks[-1]
    assert ranks[10:] == [(2, 3, 2, 2) if kernel else (2, 3)] * 30
    assert losses[-1] < 1e-6 < losses[0]


@pytest.mark.parametrize("kernel", [True, False])
@pytest.mark.parametrize("tolerance", [0.0, 0.4])
def test_a_step_is_that_of_the_formulas(kernel: bool, tolerance: float) -> None:
    """Beside the integrator written down for a dense kernel, with its full gradient."""
    lr, inputs = 0.02, normal(3, 6, 7, 7, seed=8)
    model = nn.Sequential(nn.Conv2d(6, 8, 3, stride=2, padding=1, dilation=2, dtype=F64))
    start = (3, 2, 2, 2) if kernel else (3, 2)
    scheme = TDLRT(model, rank={"0": start}, lr=lr, tolerance=tolerance, kernel=kernel, min_rank=1)
    layer = model[0]
    layer.core = normal(*layer.core.shape, seed=4)
    modes = range(len(start))
    aim = normal(*model(inputs).shape, seed=5)

    def gradient(kernel_: Tensor) -> Tensor:
        leaf = kernel_.detach().clone().requires_grad_()
        found = conv2d(inputs, leaf, layer.bias, stride=2, padding=1, dilation=2)
        return torch.autograd.grad((found - aim).square().sum(), leaf)[0]

    def product(core: Tensor, bases: list[Tensor]) -> Tensor:
        for mode in modes:
            core = times(core, bases[mode], mode)
        return core

    old, core = [b.clone() for b in layer.bases], layer.core.clone()
    whole, bases = gradient(product(core, old)), []
    for mode in modes:
        q, r = torch.linalg.qr(unfolded(core, mode).T)
        sizes = [size for other, size in enumerate(core.shape) if other != mode]
        v = q.T.reshape(-1, *sizes).movedim(0, mode)
        for other in modes:
            if other != mode:
                v = times(v, old[other], other)
        k = old[mode] @ r.T
        assert torch.allclose(k @ unfolded(v, mode), unfolded(product(core, old), mode), atol=1e-10)
        k = k - lr * unfolded(whole, mode) @ unfolded(v, mode).T
        bases.append(torch.linalg.qr(torch.cat([k, old[mode]], 1)).Q)
    core = product(core, [b.T @ o for b, o in zip(bases, old, strict=True)])
    assert torch.allclose(product(core, bases), product(layer.core, old), atol=1e-10)
    core = core - lr * product(gradient(product(core, bases)), [b.T for b in bases])
    each, cuts = tolerance / math.sqrt(len(start)), []
    for mode in modes:
        p, sigma, _ = torch.linalg.svd(unfolded(core, mode), full_matrices=False)
        rank = next(r for r in range(len(sigma) + 1) if float(sigma[r:].norm()) <= each * float(sigma.norm()))
        cuts.append(p[:, :rank])
    expected = product(product(core, [c.T for c in cuts]), [b @ c for b, c in zip(bases, cuts, strict=True)])
    assert (expected - product(core, bases)).norm() <= tolerance * core.norm() + 1e-12

    scheme.step(lambda: (model(inputs) - aim).square().sum())
    assert scheme.ranks["0"] == tuple(cut.shape[1] for cut in cuts)
    assert torch.allclose(kernel_of(model), expected, atol=1e-10)


def test_one_pass_gives_gradients_to_input_and_bias_too() -> None:
    model = nn.Sequential(nn.Conv2d(4, 6, 3, padding="same", padding_mode="reflect", dtype=F64))
    TDLRT(model, kernel=True)
    layer, inputs = model[0], normal(2, 4, 5, 5).requires_grad_()
    once = model(inputs).pow(3).sum()
    expected = torch.autograd.grad(once, [inputs, layer.bias])
    layer.begin_bases()
    again = model(inputs).pow(3).sum()
    found = torch.autograd.grad(again, [inputs, layer.bias])
    layer.end()
    assert torch.allclose(once, again)
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other)
    assert torch.autograd.gradcheck(lambda x: model(x), inputs[:1].detach().requires_grad_())


def test_fixed_ranks() -> None:
    model = nn.Sequential(nn.Conv2d(6, 8, 3, dtype=F64))
    scheme = TDLRT(model, rank={"0": (2, 3)}, tolerance=None, lr=0.002, min_rank=1)
    inputs, aim = normal(20, 6, 5, 5), normal(20, 8, 3, 3, seed=1)
    losses = [float(scheme.step(lambda: (model(inputs) - aim).square().mean())) for _ in range(30)]
    assert scheme.ranks["0"] == (2, 3)
    assert losses[-1] < losses[0]


def test_what_is_no_convolution_is_left_alone() -> None:
    model = nn.Sequential(nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 1), nn.Flatten(), nn.Linear(8, 8))
    scheme = TDLRT(model)
    assert scheme.ranks == {"0": (4, 4)}
    assert scheme.left_alone == {
        "1": "its kernel has one entry, so that it is a matrix: DLRT trains it",
        "3": "is Linear, not Conv1d or Conv2d or Conv3d",
    }
    with pytest.raises(TenfoldError, match=r"rank of layer '0' must be a tuple of 2 within \(8, 8\), not \(9, 4\)"):
        TDLRT(nn.Sequential(nn.Conv2d(8, 8, 3)), rank={"0": (9, 4)})
