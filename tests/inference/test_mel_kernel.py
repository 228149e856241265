"""The compiled kernel gives what NumPy's FFT gives in double precision."""

import subprocess
import sys

import numpy as np
import pytest
from numba.core import caching

from pannslib.inference import mel_kernel
from pannslib.inference.mel_kernel import LANES, can_take, mel_power, tables_of

WINDOWS = [2**power for power in range(2, 13)]


def expected_power(samples, window, hop, filters):
    half = len(window) // 2
    padded = np.pad(samples.astype(np.float64), half, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, len(window))[::hop]
    return np.abs(np.fft.rfft(frames * window)) ** 2 @ filters


def given_power(samples, window, hop, filters, start=0, stop=None):
    frames = len(samples) // hop + 1
    power = np.full((frames, filters.shape[1]), np.nan, np.float32)
    mel_power(samples, power, start, frames if stop is None else stop, hop, tables_of(window, filters))
    return power


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def bands(rng, half, count=3):
    """Filters of neighbouring frequencies with zeros around them, as mel filters are."""
    filters = np.zeros((half + 1, count))
    for column in filters.T:
        low = rng.integers(0, half)
        high = rng.integers(low + 1, half + 2)
        column[low:high] = rng.uniform(0.1, 1, high - low)
    return filters


@pytest.mark.parametrize("window", WINDOWS)
def test_the_power_is_that_of_the_definition(window, rng):
    weights, filters = rng.uniform(0.1, 1, window), bands(rng, window // 2)
    for hop in (1, max(1, window // 3), window + 5):
        for samples in (window // 2 + 1, window, 70 * hop + window):
            clip = rng.uniform(-1, 1, samples).astype(np.float32)
            expected = expected_power(clip, weights, hop, filters)
            given = given_power(clip, weights, hop, filters)
            np.testing.assert_allclose(given, expected, rtol=2e-4, atol=2e-6 * expected.max())


def test_each_frequency_is_in_its_place():
    """A cosine of frequency k has power at k alone."""
    window, n = np.ones(64), np.arange(640)
    for k in range(33):
        wave = np.cos(2 * np.pi * k * n / 64).astype(np.float32)
        inside = given_power(wave, window, 64, np.eye(33))[1:-1]
        assert (inside.argmax(axis=1) == k).all()
        assert np.delete(inside, k, axis=1).max() < 1e-6 * inside.max()


def test_only_the_frames_asked_for_are_written(rng):
    clip, window, filters = rng.uniform(-1, 1, 3_000).astype(np.float32), np.hanning(16), bands(rng, 8)
    whole = given_power(clip, window, 10, filters)
    part = given_power(clip, window, 10, filters, start=LANES + 1, stop=3 * LANES - 5)
    np.testing.assert_array_equal(part[LANES + 1 : 3 * LANES - 5], whole[LANES + 1 : 3 * LANES - 5])
    assert np.isnan(part[: LANES + 1]).all()
    assert np.isnan(part[3 * LANES - 5 :]).all()


def test_windows_that_there_are():
    assert [window for window in range(8_193) if can_take(window)] == WINDOWS


def test_it_is_compiled_once_for_the_machine(tmp_path):
    code = (
        "import numpy as np\n"
        "from pannslib.inference import mel_kernel as k\n"
        "tables = k.tables_of(np.ones(8), np.ones((5, 1)))\n"
        "k.mel_power(np.ones(100, np.float32), np.ones((11, 1), np.float32), 0, 11, 10, tables)\n"
        "print(sum(k._mel_power.stats.cache_hits.values()))"
    )
    call = [sys.executable, "-c", code]
    environment = {"NUMBA_CACHE_DIR": str(tmp_path), "PATH": ""}
    hits = [subprocess.run(call, env=environment, capture_output=True, text=True, check=True).stdout for _ in range(2)]
    assert [hit.strip() for hit in hits] == ["0", "1"]


def test_where_nothing_can_be_written_it_is_compiled_for_the_process(monkeypatch):
    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", [])
    assert mel_kernel._cached(mel_kernel._mel_power.py_func).stats.cache_path is None
