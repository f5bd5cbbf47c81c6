"""Recordings of human voices, and what their pitch is by two estimators that know nothing of neural networks.

The recordings are in Debian's packages ``asterisk-core-sounds-*-wav`` (prompts of a telephone exchange, one speaker for
each language, CC BY-SA 3.0 and CC BY 3.0) and ``pocketsphinx-testdata`` (readings of LibriVox, public domain, and
commands). ``python -m benchmarks.compress_tasks.voices`` brings them into the user's cache with ``apt-get download``;
where they are installed they are read from there. `TENFOLD_VOICES` names another folder.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import wave
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from platformdirs import user_cache_path
from scipy.signal import resample_poly

RATE = 16000
FRAME = 1024
# Nobody whose voice is in one of these is heard in the other: the Spanish prompts are left out since the speaker of the
# English ones read them too.
FOR_TRAINING = ("asterisk/sounds/fr_CA_f_June", "asterisk/sounds/ru_RU_f_IvrvoiceRU")
HELD_OUT = ("asterisk/sounds/en_US_f_Allison", "asterisk/sounds/it_IT_m_Carlo", "pocketsphinx/test/data")
PACKAGES = (*(f"asterisk-core-sounds-{language}-wav" for language in ("fr", "ru", "en", "it")), "pocketsphinx-testdata")

Signal = NDArray[np.float32]


def folder() -> Path | None:
    """Where the recordings are; None where they are not."""
    named = os.environ.get("TENFOLD_VOICES")
    places = [Path(named)] if named else [user_cache_path("tenfold") / "voices" / "usr" / "share", Path("/usr/share")]
    return next((place for place in places if all((place / part).is_dir() for part in FOR_TRAINING + HELD_OUT)), None)


def fetch() -> Path:
    """Bring the packages into the cache, 76 MB; nothing is installed. Returns where they are."""
    target = user_cache_path("tenfold") / "voices"
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as passing:
        subprocess.run(["apt-get", "download", *PACKAGES], cwd=passing, check=True)
        for package in sorted(Path(passing).glob("*.deb")):
            subprocess.run(["dpkg-deb", "-x", package, target], check=True)
    return target


@cache
def recordings(parts: tuple[str, ...]) -> dict[str, Signal]:
    """Those of the folders named, at 16 kHz, by path and in order of it; what is shorter than 0.3 s is left out."""
    place = folder()
    if place is None:
        raise FileNotFoundError("no recordings: run `python -m benchmarks.compress_tasks.voices`")
    found = {}
    for part in parts:
        for path in sorted((place / part).rglob("*.wav")):
            signal = _read(path)
            if len(signal) > 0.3 * RATE:
                found[str(path.relative_to(place))] = signal
    return found


def _read(path: Path) -> Signal:
    with wave.open(str(path)) as stream:
        rate, width, channels = stream.getframerate(), stream.getsampwidth(), stream.getnchannels()
        raw = stream.readframes(stream.getnframes())
    if (width, channels) != (2, 1):
        raise ValueError(f"{path} has {channels} channels of {width} bytes, not one of 2")
    signal = np.frombuffer(raw, dtype="<i2").astype(np.float32) / 32768
    return at_rate(signal, Fraction(RATE, rate))


def at_rate(signal: Signal, factor: Fraction) -> Signal:
    """Resampled to ``factor`` times as many samples: played at the same rate, the pitch is divided by it."""
    if factor == 1:
        return signal
    return resample_poly(signal, factor.numerator, factor.denominator).astype(np.float32)


def frames(signal: Signal, hop: int) -> Signal:
    """Stretches of 1024 samples, (frames, 1024), as they are."""
    if len(signal) < FRAME:
        return np.zeros((0, FRAME), dtype=np.float32)
    return np.lib.stride_tricks.sliding_window_view(signal, FRAME)[::hop].copy()


def normalised(stretches: Signal) -> Signal:
    """Mean zero and deviation one each, as CREPE takes them."""
    centred = stretches - stretches.mean(axis=1, keepdims=True)
    return (centred / np.maximum(centred.std(axis=1, keepdims=True), 1e-10)).astype(np.float32)


@dataclass(frozen=True)
class Pitched:
    """Frames in which a voice sounds, (frames, 1024), and their pitch in Hz."""

    frames: Signal
    hertz: NDArray[np.float64]


def pitched(signal: Signal, hop: int) -> Pitched:
    """The frames where two estimators agree.

    One is YIN (de Cheveigné and Kawahara, 2002): cumulative mean normalised difference, threshold 0.1, parabola
    through the dip. The other is the normalised cross-correlation of a frame's first samples with later ones: its
    first peak of nearly the greatest height, which must be 0.9. They agree where they differ by less than 50 cents,
    the frame is no softer than 30 dB below the loudest of the recording, and 5 ms before and after it YIN is as sure
    and within a semitone: no onsets. The pitch is YIN's.
    """
    stretches = frames(signal, hop)
    if not len(stretches):
        return Pitched(stretches, np.zeros(0))
    loudness = np.sqrt((stretches.astype(np.float64) ** 2).mean(axis=1))
    chosen = np.flatnonzero(loudness > max(loudness.max() * 10 ** (-30 / 20), 1e-4))
    first, certain = yin(stretches[chosen])
    second, height = cross_correlation(stretches[chosen])
    agreed = certain & (height > 0.9) & (np.abs(1200 * np.log2(first / second)) < 50)
    for shift in (-RATE // 200, RATE // 200):
        start = chosen * hop + shift
        inside = (start >= 0) & (start + FRAME <= len(signal))
        pitch, sure = yin(signal[np.clip(start, 0, len(signal) - FRAME)[:, None] + np.arange(FRAME)])
        agreed &= inside & sure & (np.abs(1200 * np.log2(pitch / first)) < 100)
    return Pitched(stretches[chosen[agreed]], first[agreed])


LOWEST, HIGHEST = 60.0, 800.0
_LAGS = np.arange(1, int(RATE / LOWEST) + 2)


def _halves(stretches: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """For a window of the middle: energy of the window, of what is each lag later, and their products."""
    window = FRAME - len(_LAGS) - 1
    wide = stretches.astype(np.float64)
    fixed = wide[:, :window]
    power = np.concatenate([np.zeros((len(wide), 1)), np.cumsum(wide**2, axis=1)], axis=1)
    moved = power[:, _LAGS + window] - power[:, _LAGS]
    size = 2 * FRAME
    spectrum = np.conj(np.fft.rfft(fixed, size)) * np.fft.rfft(wide, size)
    products = np.fft.irfft(spectrum, size)[:, _LAGS]
    return power[:, window, None], moved, products


def yin(stretches: NDArray[np.floating], threshold: float = 0.1) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The pitch in Hz of each, and whether the dip is below the threshold.

    De Cheveigné and Kawahara, "YIN, a fundamental frequency estimator for speech and music", 2002, steps 1 to 5.
    """
    fixed, moved, products = _halves(stretches)
    difference = np.maximum(fixed + moved - 2 * products, 0)
    mean = np.cumsum(difference, axis=1) / _LAGS
    normal = difference / np.maximum(mean, 1e-12)
    least = int(RATE / HIGHEST) - 1
    normal[:, :least] = np.inf
    below = normal < threshold
    sure = below[:, :-1].any(axis=1)
    at = np.where(sure, below.argmax(axis=1), normal.argmin(axis=1))
    rows = np.arange(len(normal))
    while True:  # down into the dip
        after = np.minimum(at + 1, normal.shape[1] - 1)
        falls = normal[rows, after] < normal[rows, at]
        if not falls.any():
            break
        at = np.where(falls, after, at)
    return RATE / _vertex(difference, at), sure


def cross_correlation(stretches: NDArray[np.floating]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The pitch in Hz by the first peak that is at least 0.95 of the highest, and how high it is."""
    fixed, moved, products = _halves(stretches)
    correlation = products / np.sqrt(np.maximum(fixed * moved, 1e-20))
    least = int(RATE / HIGHEST) - 1
    inner = correlation[:, 1:-1]
    peaks = (inner >= correlation[:, :-2]) & (inner >= correlation[:, 2:])
    peaks[:, :least] = False
    values = np.where(peaks, inner, -np.inf)
    highest = values.max(axis=1, keepdims=True)
    at = (values >= 0.95 * np.maximum(highest, 0)).argmax(axis=1) + 1
    return RATE / _vertex(correlation, at), np.where(
        np.isfinite(highest[:, 0]), correlation[np.arange(len(at)), at], 0.0
    )


def _vertex(values: NDArray[np.float64], at: NDArray[np.intp]) -> NDArray[np.float64]:
    """The lag of the extremum of the parabola through three points."""
    rows = np.arange(len(values))
    at = np.clip(at, 1, values.shape[1] - 2)
    left, middle, right = (values[rows, at + shift] for shift in (-1, 0, 1))
    bend = left - 2 * middle + right
    shift = np.where(np.abs(bend) > 1e-15, 0.5 * (left - right) / np.where(bend == 0, 1, bend), 0.0)
    return _LAGS[at] + np.clip(shift, -1, 1)


if __name__ == "__main__":
    print(f"recordings are in {folder() or fetch()}", file=sys.stderr)
