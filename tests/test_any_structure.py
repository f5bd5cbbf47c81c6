"""Any valid structure goes the whole way: fit, read, norm, save, load, and agrees with numpy.einsum."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import structures

import tenfold as tn


@given(structures(), st.integers(0, 10**6), st.booleans())
@settings(max_examples=80)
def test_fit_at_dense_norm_save_load(
    tmp_path_factory: pytest.TempPathFactory, structure: tn.Structure, seed: int, is_complex: bool
) -> None:
    dtype = torch.complex128 if is_complex else torch.float64
    data = torch.randn(structure.shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit = tn.fit(data, structure, seed=seed, max_sweeps=2)
    network = fit.network
    operands = [tensor.numpy() for _, tensor in network.terms()]
    expected = np.einsum(structure.einsum(), *operands).reshape(structure.shape)
    scale = max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(network.dense().numpy() / scale, expected / scale, atol=1e-9)
    np.testing.assert_allclose(network.norm().item() / scale, np.linalg.norm(expected) / scale, atol=1e-8)
    true = np.linalg.norm(expected - data.numpy()) / np.linalg.norm(data.numpy())
    assert fit.error == pytest.approx(true, abs=1e-6)
    assert fit.error <= 1 + 1e-9, "no network is worse than the zero network"
    if structure.order:
        rng = np.random.default_rng(seed)
        places = np.stack([rng.integers(0, n, 5) for n in structure.shape], 1)
        np.testing.assert_allclose(network.at(places).numpy() / scale, expected[tuple(places.T)] / scale, atol=1e-9)
    path = Path(tmp_path_factory.mktemp("any")) / "fit.tn"
    fit.save(path)
    back = tn.load(path)
    assert isinstance(back, tn.Fit)
    assert back.structure == fit.structure
    assert all(torch.equal(a, b) for a, b in zip(back.network.cores, network.cores, strict=True))
    assert back.summary() == fit.summary()
    assert tn.Structure(structure.pattern, structure.sizes) == structure
    assert math.prod(structure.shape) == structure.size
