from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tenfold import formats
from tenfold.errors import DataError
from tenfold.linalg.kronecker import KroneckerPair, kron_apply, kron_dense
from tenfold.network import Network


def positive(n: int, seed: int) -> Tensor:
    root = torch.randn(n, n, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return root @ root.T + 0.1 * torch.eye(n, dtype=torch.float64)


@given(
    rows=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    columns=st.lists(st.integers(1, 12), min_size=4, max_size=4),
    batch=st.sampled_from([(), (3,), (2, 2)]),
)
def test_factors_along_their_axes(rows: list[int], columns: list[int], batch: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    columns = columns[: len(rows)]
    factors = [torch.randn(m, n, dtype=torch.float64, generator=generator) for m, n in zip(rows, columns, strict=True)]
    tensor = torch.randn((*batch, *columns), dtype=torch.float64, generator=generator)
    flat = tensor.reshape(*batch, -1) @ kron_dense(factors).T
    torch.testing.assert_close(kron_apply(factors, tensor), flat.reshape(*batch, *rows))


def test_shapes_that_do_not_agree() -> None:
    with pytest.raises(DataError, match="the factors have 2 x 3 columns, but the tensor is of shape"):
        kron_apply([torch.eye(2), torch.eye(3)], torch.zeros(3, 2))


@pytest.mark.parametrize("structured", [False, True])
def test_a_pair_is_the_dense_sum(structured: bool) -> None:
    sizes = (3, 4, 2)
    signal = [positive(n, seed) for seed, n in enumerate(sizes)]
    background = [positive(n, seed + 9) for seed, n in enumerate(sizes)] if structured else None
    pair = KroneckerPair.of(signal, background, scale=1.7, noise=0.3)
    dense = 1.7 * kron_dense(signal) + 0.3 * (
        kron_dense(background) if background else torch.eye(24, dtype=torch.float64)
    )
    right = torch.randn(2, *sizes, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(pair.solve(right).flatten(1).T, torch.linalg.solve(dense, right.flatten(1).T))
    torch.testing.assert_close(pair.product(right).flatten(1).T, dense @ right.flatten(1).T)
    assert pair.log_determinant() == pytest.approx(float(torch.logdet(dense)), abs=1e-9)


@pytest.mark.parametrize("terms", [1, 2])
def test_of_a_network(terms: int) -> None:
    structure = formats.kronecker((3, 4), (3, 4), terms)
    stacks = [torch.stack([positive(n, n + s) for s in range(terms)]) for n in (3, 4)]
    network = Network(structure, stacks)
    noise = 0.5 if terms == 1 else None
    pair = KroneckerPair.of_network(network, noise)
    dense = network.dense() + (0.5 * torch.eye(12, dtype=torch.float64) if noise else 0)
    right = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(pair.solve(right).flatten(), torch.linalg.solve(dense, right.flatten()))


def test_what_no_basis_diagonalises() -> None:
    stacks = [torch.stack([positive(n, n + s) for s in range(3)]) for n in (3, 4)]
    network = Network(formats.kronecker((3, 4), (3, 4), 3), stacks)
    with pytest.raises(NotImplementedError, match="no basis diagonalises 3 Kronecker products"):
        KroneckerPair.of_network(network)
    two = Network(formats.kronecker((3, 4), (3, 4), 2), [stack[:2] for stack in stacks])
    with pytest.raises(NotImplementedError, match="no basis diagonalises 3 Kronecker products"):
        KroneckerPair.of_network(two, 0.1)
    one = Network(formats.kronecker((3, 4), (3, 4), 1), [stack[:1] for stack in stacks])
    with pytest.raises(DataError, match="noise is None"):
        KroneckerPair.of_network(one)
    with pytest.raises(DataError, match="no sum of Kronecker products"):
        KroneckerPair.of_network(Network.random(formats.tensor_train((3, 4), [2])), 0.1)


def test_noise_that_is_no_covariance() -> None:
    with pytest.raises(DataError, match="the noise of axis 1 is not positive definite"):
        KroneckerPair.of([torch.eye(2), torch.eye(2)], [torch.eye(2), -torch.eye(2)])
