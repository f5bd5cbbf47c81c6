"""Dense weights projected on low rank: the projections, the gradient between them, and the two unfoldings."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tenfold.errors import TenfoldError
from tenfold.nn.low_rank import TrainedRankPruning

F64 = torch.float64


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


@pytest.mark.parametrize("unfolding", ["channel", "spatial"])
def test_a_projection_is_the_best_approximation(unfolding: str) -> None:
    model = nn.Sequential(nn.Conv2d(5, 6, (3, 2), dtype=F64))
    scheme = TrainedRankPruning(model, tolerance=0.3, unfolding=unfolding)
    weight = model[0].weight

    def matrix() -> Tensor:
        return (
            weight.detach().flatten(1)
            if unfolding == "channel"
            else weight.detach().permute(1, 2, 0, 3).reshape(15, 12)
        )

    before = matrix().clone()
    values = torch.linalg.svdvals(before)
    scheme.project()
    rank = scheme.ranks["0"]
    assert torch.linalg.matrix_rank(matrix()) == rank
    assert torch.allclose((matrix() - before).norm(), values[rank:].norm())
    assert values[rank:].norm() <= 0.3 * before.norm() < values[rank - 1 :].norm()


def test_the_gradient_between_projections_is_that_of_the_singular_values() -> None:
    model = nn.Sequential(nn.Linear(7, 5, bias=False, dtype=F64))
    scheme = TrainedRankPruning(model, nuclear=0.25, period=3, tolerance=0.0)
    weight, before = model[0].weight, model[0].weight.detach().clone()
    leaf = before.clone().requires_grad_()
    (slope,) = torch.autograd.grad(torch.linalg.matrix_norm(leaf, "nuc"), leaf)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scheme.step(lambda: 0 * weight.sum(), optimizer)
    assert torch.allclose(weight, before - 0.1 * 0.25 * slope)


def test_projections_come_every_period() -> None:
    model = nn.Sequential(nn.Linear(9, 8, dtype=F64))
    scheme = TrainedRankPruning(model, rank=2, period=3, nuclear=0.0)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    inputs, aim = normal(20, 9), normal(20, 8, seed=1)
    ranks = []
    for _ in range(6):
        scheme.step(lambda: (model(inputs) - aim).square().mean(), optimizer)
        ranks.append(int(torch.linalg.matrix_rank(model[0].weight.detach())))
    assert ranks == [8, 8, 2, 8, 8, 2]
    plain = scheme.finish()
    assert [type(layer) for layer in plain[0]] == [nn.Linear, nn.Linear]
    assert plain[0][0].out_features == 2


def test_spatial_chains_are_a_column_and_a_row() -> None:
    conv = nn.Conv2d(4, 6, (3, 5), stride=(2, 1), padding=(1, 2), dilation=(1, 2), dtype=F64)
    model = nn.Sequential(conv, nn.Conv2d(6, 6, 1, dtype=F64))
    scheme = TrainedRankPruning(model, rank=3, unfolding="spatial")
    assert scheme.left_alone == {"1": "its kernel is no rectangle, so that there is nothing to separate"}
    scheme.project()
    inputs = normal(2, 4, 11, 13)
    expected = model(inputs)
    plain = scheme.finish()
    assert [layer.kernel_size for layer in plain[0]] == [(3, 1), (1, 5)]
    assert torch.allclose(plain(inputs), expected, atol=1e-10)


def test_what_cannot_be() -> None:
    model = nn.Sequential(nn.Linear(9, 8))
    with pytest.raises(TenfoldError, match="unfolding must be 'channel' or 'spatial', not 'rows'"):
        TrainedRankPruning(model, unfolding="rows")
    with pytest.raises(TenfoldError, match="period must be a whole number of at least 1, not 0"):
        TrainedRankPruning(model, period=0)
    with pytest.raises(TenfoldError, match="optimizer does not have the weight of layer '0'"):
        TrainedRankPruning(model).step(lambda: model(torch.ones(1, 9)).sum())
