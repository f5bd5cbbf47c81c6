"""The claims on multilinear layers: small runs, and that they can fail."""

from __future__ import annotations

import pytest
import torch

from tenfold.claims import tensor_attention_error_bound as errors
from tenfold.claims import tensor_attention_triples as triples
from tenfold.claims.evonorm_batch_size import evonorm_batch_size
from tenfold.claims.geometric_convergence import geometric_convergence
from tenfold.claims.tensor_attention_growth import tensor_attention_growth


def test_labels_of_triples_are_those_of_a_loop() -> None:
    tokens, wanted = triples._triples(20, 6, 7, 3, torch.Generator().manual_seed(0))
    for sequence, labels in zip(tokens.tolist(), wanted.tolist(), strict=True):
        assert labels == [any((a + b + c) % 7 == 0 for b in sequence for c in sequence) for a in sequence]


def test_the_constructed_head_tells_every_triple_and_needs_to_be_sharp() -> None:
    tokens, wanted = triples._triples(50, 32, 37, 6, torch.Generator().manual_seed(0))
    assert torch.equal(triples._constructed(tokens, 37), wanted)
    assert not torch.equal(triples._constructed(tokens, 37, sharpness=20.0), wanted)
    assert 0.2 < wanted.double().mean() < 0.8


def test_without_training_no_attention_tells_triples() -> None:
    found = triples.tensor_attention_triples(sequences=20, steps=1)
    assert not found.holds
    assert found.numbers["constructed: accuracy"] == 1


@pytest.mark.slow
def test_trained_attention_to_pairs_tells_triples() -> None:
    found = triples.tensor_attention_triples(sequences=20)
    assert found.holds, found.text


def test_errors_of_polynomials_keep_to_their_bounds() -> None:
    found = errors.tensor_attention_error_bound(n=12, long=256, rows=4)
    assert found.holds, found.text
    assert found.numbers["B = 2.0, degree 2: error"] > 1e-3


def test_a_polynomial_that_is_off_does_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    right = errors.polynomial_tensor_attention
    monkeypatch.setattr(errors, "polynomial_tensor_attention", lambda *given, **how: 1.02 * right(*given, **how))
    assert not errors.tensor_attention_error_bound(n=12, long=256, rows=4).holds


def test_growth_is_timed() -> None:
    found = tensor_attention_growth(lengths=(64, 256), exact_lengths=(16, 32), rounds=1)
    assert found.numbers["exact, n = 32: milliseconds"] > 0
    assert isinstance(found.numbers["polynomial: exponent"], float)


@pytest.mark.slow
def test_growth() -> None:
    found = tensor_attention_growth()
    assert found.holds, found.text


def test_small_batches_are_trained_on() -> None:
    found = evonorm_batch_size(seeds=1, epochs=1, batches=(128, 64))
    assert 0.2 < found.numbers["EvoNorm-S0, batches of 64: accuracy"] <= 1
    assert len(found.numbers) == 4


def test_forms_begin_alike_and_are_trained() -> None:
    still = geometric_convergence(seeds=1, steps=1, rates=(1e-3,)).numbers
    assert len({round(float(loss), 4) for loss in still.values()}) == 1
    moved = geometric_convergence(seeds=1, steps=30, rates=(1e-2,)).numbers
    assert all(float(moved[name]) < 0.9 * float(still[name.replace("0.01", "0.001")]) for name in moved)
    assert len({round(float(loss), 6) for loss in moved.values()}) == 3
