"""The choice of a BLAS: what decides it, where it is kept, and that gradients do not notice."""

from __future__ import annotations

import json

import pytest
import torch

from tenfold import formats
from tenfold.decomposition import _blas, blas, find
from tenfold.errors import TenfoldError
from tenfold.network import Network


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache directory of its own, with nothing chosen yet."""
    monkeypatch.delenv("TENFOLD_BLAS", raising=False)
    monkeypatch.setattr(_blas, "user_cache_path", lambda name: tmp_path / name)
    _blas._chosen.cache_clear()
    yield tmp_path / "tenfold" / "blas.json"
    _blas._chosen.cache_clear()


def test_it_is_measured_once_and_kept(cache):
    first = blas()
    assert first.why == "measured"
    assert first.provider == min(first.seconds, key=first.seconds.__getitem__)
    assert set(first.seconds) == {"numpy", "torch"}
    assert first.threads == torch.get_num_threads()
    assert blas() is first
    _blas._chosen.cache_clear()
    again = blas()
    assert again.why == "measured before"
    assert (again.provider, again.seconds) == (first.provider, first.seconds)
    assert blas(torch.float32).why == "measured"
    assert blas(torch.complex128).dtype == "float64"
    assert len(json.loads(cache.read_text())) == 2
    assert again.provider in str(again)
    assert "ms" in str(again)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"a": 1}', '{"a": {"numpy": "x", "torch": 1}}'])
def test_a_broken_file_is_measured_over(cache, text):
    cache.parent.mkdir()
    cache.write_text(text)
    assert blas().why == "measured"
    json.loads(cache.read_text())


def test_a_directory_that_cannot_be_written_is_no_error(cache):
    cache.parent.write_text("a file where the directory should be")
    assert blas().why == "measured"


def test_what_was_measured_decides(cache):
    blas()
    (key,) = json.loads(cache.read_text())
    for provider in _blas.PROVIDERS:
        cache.write_text(json.dumps({key: {name: 1.0 if name == provider else 2.0 for name in _blas.PROVIDERS}}))
        _blas._chosen.cache_clear()
        assert blas().provider == provider


def test_the_variable_decides(monkeypatch):
    for provider in _blas.PROVIDERS:
        monkeypatch.setenv("TENFOLD_BLAS", provider)
        assert blas().provider == provider
        assert blas().seconds == {}
        assert f"TENFOLD_BLAS={provider}" in str(blas())
    monkeypatch.setenv("TENFOLD_BLAS", "mkl")
    with pytest.raises(TenfoldError, match="TENFOLD_BLAS is 'mkl'; it can be auto, numpy or torch"):
        blas()
    with pytest.raises(TenfoldError, match="int64"):
        blas(torch.int64)


@pytest.mark.parametrize("provider", _blas.PROVIDERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64, torch.complex128], ids=str)
def test_products_are_products(monkeypatch, provider, dtype):
    monkeypatch.setenv("TENFOLD_BLAS", provider)
    generator = torch.Generator().manual_seed(0)
    left = torch.randn(7, 30, generator=generator, dtype=dtype)
    right = torch.randn(30, 5, generator=generator, dtype=dtype)
    torch.testing.assert_close(_blas.product(left, right), left @ right)
    torch.testing.assert_close(_blas.product(left, left.mH), left @ left.mH)
    assert _blas.product(left, right).dtype == dtype


@pytest.mark.parametrize("provider", _blas.PROVIDERS)
def test_gradients_pass(monkeypatch, provider):
    monkeypatch.setenv("TENFOLD_BLAS", provider)
    left = torch.randn(3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    right = torch.randn(4, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(_blas.product, (left, right))


@pytest.mark.parametrize("provider", _blas.PROVIDERS)
def test_a_fitted_network_has_gradients_whichever_blas_fitted_it(monkeypatch, provider):
    monkeypatch.setenv("TENFOLD_BLAS", provider)
    structure = formats.cp((4, 5, 6), 2)
    data = Network.random(structure, seed=0, dtype=torch.float64).dense().requires_grad_()
    found = find("cp_als").function(data, structure).network
    cores = [core.requires_grad_() for core in found.cores]
    (found.replace(cores).dense() * 2).sum().backward()
    assert all(core.grad is not None and bool(core.grad.isfinite().all()) for core in cores)


@pytest.mark.parametrize("name", ["cp_als", "tree_svd"])
def test_both_fit_the_same(monkeypatch, name):
    structure = formats.cp((9, 10, 11), 3) if name == "cp_als" else formats.tucker((9, 10, 11), 3)
    data = Network.random(structure, seed=0, dtype=torch.float64).dense()
    data = data + 0.1 * torch.randn(data.shape, generator=torch.Generator().manual_seed(1), dtype=data.dtype)
    errors = []
    for provider in _blas.PROVIDERS:
        monkeypatch.setenv("TENFOLD_BLAS", provider)
        errors.append(find(name).function(data, structure, tol=1e-10).error)
    assert errors[0] == pytest.approx(errors[1], rel=1e-8)
