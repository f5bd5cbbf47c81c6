from __future__ import annotations

import pytest
import torch
from scipy.linalg import toeplitz as reference

from tenfold.errors import DataError
from tenfold.linalg.covariances import Matern32
from tenfold.linalg.toeplitz import toeplitz, toeplitz_eigh, toeplitz_log_determinant, toeplitz_product

sizes = pytest.mark.parametrize("n", [1, 2, 3, 4, 7, 20, 31])


def column(n: int) -> torch.Tensor:
    return Matern32(0.3).at(torch.linspace(0, 1, n, dtype=torch.float64)) + 0.1 * (torch.arange(n) == 0)


@sizes
def test_the_matrix_is_scipys(n: int) -> None:
    torch.testing.assert_close(toeplitz(column(n)), torch.from_numpy(reference(column(n).numpy())))


def test_entries_and_slopes_by_their_places() -> None:
    values = torch.tensor([5.0, 1.0, 2.0, 3.0], dtype=torch.float64, requires_grad=True)
    even, odd = toeplitz(values), toeplitz(values, odd=True)
    for i in range(4):
        for j in range(4):
            assert even[i, j] == values[abs(i - j)]
            assert odd[i, j] == (values[0] if i == j else values[abs(i - j)] * (1 if i > j else -1))
    even.sum().backward()
    assert values.grad is not None
    assert values.grad.tolist() == [4, 6, 4, 2]


@sizes
@pytest.mark.parametrize("dense", [True, False, None])
def test_products(n: int, dense: bool | None) -> None:
    right = torch.randn(3, 2, n, dtype=torch.float64, generator=torch.Generator().manual_seed(n))
    torch.testing.assert_close(toeplitz_product(column(n), right, dense=dense), right @ toeplitz(column(n)))


def test_long_products_take_the_way_of_fourier() -> None:
    right = torch.randn(2, 700, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(toeplitz_product(column(700), right), right @ toeplitz(column(700)))


@sizes
def test_eigenvectors_by_halves(n: int) -> None:
    # Any column, also of indefinite matrices, and a batch of them.
    columns = torch.stack([column(n), torch.randn(n, dtype=torch.float64, generator=torch.Generator().manual_seed(n))])
    values, vectors = toeplitz_eigh(columns)
    identity = torch.eye(n, dtype=torch.float64)
    for given, value, vector in zip(columns, values, vectors, strict=True):
        torch.testing.assert_close(vector.T @ vector, identity, rtol=0, atol=1e-13)
        torch.testing.assert_close(vector @ torch.diag(value) @ vector.T, toeplitz(given), rtol=0, atol=1e-13)


@sizes
def test_determinant(n: int) -> None:
    assert toeplitz_log_determinant(column(n)) == pytest.approx(float(torch.logdet(toeplitz(column(n)))), abs=1e-10)


def test_no_determinant_of_what_is_not_positive_definite() -> None:
    with pytest.raises(DataError, match="its leading 2 rows are not"):
        toeplitz_log_determinant(torch.tensor([1.0, 1.5, 0.0], dtype=torch.float64))
