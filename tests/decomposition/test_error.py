"""The error that is reported is the true one, also where norms cannot tell it."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
import torch

import tenfold as tn
from tenfold import formats
from tenfold.decomposition import relative_error
from tenfold.network import Network


@pytest.mark.parametrize("size", [1e3, 1e5, 1e7])
def test_terms_that_cancel_lose_no_digits_of_the_error(size: float) -> None:
    generator = torch.Generator().manual_seed(0)

    def vector() -> torch.Tensor:
        return torch.randn(8, 1, generator=generator, dtype=torch.float64)

    a, b, c, near_b, near_c = vector(), vector(), vector(), vector() / size, vector() / size
    cores = [torch.cat(pair, 1) for pair in ((size * a, -size * a), (b, b + near_b), (c, c + near_c))]
    network = Network(formats.cp((8, 8, 8), 2), cores)
    data = network.dense() + 0.1 * torch.randn(8, 8, 8, generator=generator, dtype=torch.float64)
    true = torch.linalg.vector_norm(data - network.dense()) / torch.linalg.vector_norm(data)
    assert relative_error(data, network) == pytest.approx(float(true), rel=1e-9)


def test_zeros_of_a_sparse_array_count_to_the_last_digit() -> None:
    dense = np.zeros((30, 30))
    dense[:10, :10] = np.outer(np.arange(1, 11), np.arange(1, 11))
    fit = tn.fit(scipy.sparse.coo_array(dense), "i r, j r -> i j", sizes={"r": 1})
    true = np.linalg.norm(fit.network.dense().numpy() - dense) / np.linalg.norm(dense)
    assert true < 1e-9
    assert fit.error == pytest.approx(true, rel=1e-6, abs=1e-15)
