"""The log-mel of several threads is that of PyTorch's front end."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from pannslib.errors import ModelError
from pannslib.features import FRONT_ENDS, FrontEnd, LogMel
from pannslib.inference import front_end
from pannslib.inference import threads as sharing
from pannslib.inference.front_end import ParallelLogMel

SETTINGS = [*FRONT_ENDS.values(), FrontEnd(mel_bins=128), FrontEnd(mel_bins=3), FrontEnd(fmin=0, fmax=16_000)]
SETTINGS += [FrontEnd(hop=1_000), FrontEnd(window=1_000), FrontEnd(window=8_192)]  # the kernel lacks the last windows


def close(given, expected, atol=2e-5):
    """Amplitudes differ by roundings of the largest in their frame, which in dB is more where hardly any power is."""
    expected = expected.numpy()
    np.testing.assert_allclose(given, expected, atol=2e-4, rtol=0)
    strong = expected > expected.max(axis=-1, keepdims=True) - 40
    np.testing.assert_allclose(given[strong], expected[strong], atol=atol, rtol=0)
    amplitude, wanted = 10 ** (given / 20), 10 ** (expected / 20)
    assert (np.abs(amplitude - wanted) <= 2e-6 * wanted.max(axis=-1, keepdims=True)).all()


def warm(log_mel):
    """A front end that has the kernel from the next call on."""
    parallel = ParallelLogMel(log_mel)
    parallel(np.zeros((1, log_mel.front_end.least_samples), np.float32))
    return parallel


@pytest.fixture(params=[1, 2, 3])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_the_log_mel_is_the_same(settings, threads, monkeypatch):
    monkeypatch.setattr(front_end, "FRAMES", 40)
    log_mel = LogMel(settings).eval()
    parallel = warm(log_mel)
    for batch, samples in ((1, settings.least_samples), (3, settings.sample_rate), (2, 100 * settings.hop - 1)):
        waveform = torch.rand(batch, samples, generator=torch.Generator().manual_seed(0)) - 0.5
        waveform[-1, samples // 2 :] = 0  # silence has its floor
        # a filter may be of one frequency, where hardly any power is left two FFTs round differently
        close(parallel(waveform.numpy()), log_mel(waveform), atol=2e-4 if settings.mel_bins == 128 else 2e-5)
        assert torch.get_num_threads() == threads


def test_several_callers_do_not_mix_their_clips(monkeypatch):
    monkeypatch.setattr(front_end, "FRAMES", 16)
    log_mel = LogMel(FrontEnd()).eval()
    parallel = warm(log_mel)
    clips = [torch.rand(1, 32_000, generator=torch.Generator().manual_seed(seed)) for seed in range(8)]
    with ThreadPoolExecutor(4) as pool:
        given = list(pool.map(parallel, [clip.numpy() for clip in clips]))
    for clip, one in zip(clips, given, strict=True):
        close(one, log_mel(clip))


def test_threads_that_never_come_are_not_waited_for():
    """As in a process that was forked, where the pool's threads are gone."""
    log_mel, gate = LogMel(FrontEnd()).eval(), threading.Event()
    waveform = torch.rand(1, 320_000, generator=torch.Generator().manual_seed(0)) - 0.5
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        busy = sharing._pool(2).submit(gate.wait, 60)
        close(warm(log_mel)(waveform.numpy()), log_mel(waveform))
        assert not busy.done()
    finally:
        gate.set()
        torch.set_num_threads(before)


def test_too_short_clips_are_refused():
    with pytest.raises(ModelError, match="at least 513"):
        ParallelLogMel(LogMel(FrontEnd()))(np.zeros((1, 100), np.float32))


def test_the_kernel_comes_with_the_second_call():
    """Loading it takes longer than one clip."""
    code = """
import sys
import numpy as np
from pannslib.features import FrontEnd, LogMel
from pannslib.inference.front_end import ParallelLogMel

front_end, clip = ParallelLogMel(LogMel(FrontEnd())), np.random.default_rng(0).random((1, 32_000), np.float32)
first, loaded_first = front_end(clip), "numba" in sys.modules
second, loaded_second = front_end(clip), "numba" in sys.modules
print(loaded_first, loaded_second, bool(np.abs(second - first).max() < 2e-5))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True", "True"]
