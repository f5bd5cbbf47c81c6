from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tenfold.linalg import masked_gram
from tenfold.linalg.covariances import RBF, Matern12, Matern32
from tenfold.linalg.kronecker import kron_dense
from tenfold.linalg.masked_gram import MaskedGram, leading

SHAPES = [(6,), (5, 4), (4, 3, 5), (3, 2, 3, 2)]
SCALE, ABOVE = 1.3, 1e-3


def made(shape: tuple[int, ...], at_most: int = 10**6) -> tuple[MaskedGram, Tensor, list[Tensor]]:
    """The features, the dense matrix of them on the grid, and the covariances of the axes."""
    generator = torch.Generator().manual_seed(len(shape))
    kernels = [RBF(0.5), Matern32(0.4), Matern12(2.0), RBF(0.2)]
    axes = [torch.rand(n, generator=generator, dtype=torch.float64) for n in shape]
    factors = [kernel.matrix(axis) for kernel, axis in zip(kernels, axes, strict=False)]
    values, vectors = zip(*map(torch.linalg.eigh, factors), strict=True)
    precisions = torch.rand(shape, generator=generator, dtype=torch.float64) * 20
    precisions[torch.rand(shape, generator=generator) < 0.3] = 0
    values = tuple(value.clamp(min=0) for value in values)
    gram = MaskedGram(values, tuple(vectors), precisions, SCALE, ABOVE, at_most)
    columns = [
        kron_dense([basis[:, place, None] for basis, place in zip(gram.bases, row, strict=True)]) for row in gram.places
    ]
    return gram, torch.cat(columns, 1) * gram.roots, factors


@pytest.fixture(params=["one table", "blocks"])
def ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "blocks":
        monkeypatch.setattr(masked_gram, "_TABLE", 1)
        monkeypatch.setattr(masked_gram, "_GATHER", 7)


def test_leading_products_are_the_largest() -> None:
    generator = torch.Generator().manual_seed(0)
    values = [torch.rand(n, generator=generator, dtype=torch.float64) for n in (5, 4, 6)]
    every = torch.einsum("a,b,c->abc", *values).flatten().sort(descending=True).values
    for above, at_most in ((0.1, 10**6), (0.01, 17), (2.0, 5)):
        kept, places = leading(values, above=above, at_most=at_most)
        product = torch.ones(len(places), dtype=torch.float64)
        for axis, value in enumerate(values):
            product = product * value[kept[axis]][places[:, axis]]
        torch.testing.assert_close(product.sort(descending=True).values, every[every > above][:at_most])


@pytest.mark.usefixtures("ways")
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("at_most", [10**6, 5])
def test_all_of_it_is_dense_algebra(shape: tuple[int, ...], at_most: int) -> None:
    gram, features, _ = made(shape, at_most)
    weights = gram.precisions.flatten()
    seen = weights > 0
    torch.testing.assert_close(gram.gram, features.T @ (weights[:, None] * features))
    covariance = features[seen] @ features[seen].T + torch.diag(1 / weights[seen])
    right = torch.randn(3, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * (
        gram.precisions > 0
    )
    solved = gram.solve(right).flatten(1)
    torch.testing.assert_close(solved[:, seen].T, torch.linalg.solve(covariance, right.flatten(1)[:, seen].T))
    assert float(solved[:, ~seen].abs().sum()) == 0
    assert gram.log_determinant() == pytest.approx(float(torch.logdet(covariance)), abs=1e-9)
    inverse = torch.linalg.inv(torch.eye(gram.rank, dtype=torch.float64) + gram.gram)
    torch.testing.assert_close(gram.variance().flatten(), (features @ inverse @ features.T).diagonal())
    torch.testing.assert_close(gram.spread().flatten(), features.square().sum(1))


@pytest.mark.parametrize("shape", SHAPES)
def test_derivatives_are_the_dense_traces(shape: tuple[int, ...]) -> None:
    gram, features, factors = made(shape)
    inside = torch.randn(gram.rank, gram.rank, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    inside = inside + inside.T
    bases = features / gram.roots
    for axis, n in enumerate(shape):
        change = torch.randn(n, n, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
        change = change + change.T
        # Of the other factors only what the features have of them.
        dense = SCALE * kron_dense([change if k == axis else factor for k, factor in enumerate(factors)])
        expected = (inside * (bases.T @ dense @ bases)).sum()
        torch.testing.assert_close((gram.derivatives(inside, axis) * change).sum(), expected)
