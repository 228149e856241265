"""The log-mel of several threads is that of PyTorch's front end."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from pannslib.errors import ModelError
from pannslib.features import FRONT_ENDS, FrontEnd, LogMel
from pannslib.inference import front_end
from pannslib.inference.front_end import ParallelLogMel

SETTINGS = [*FRONT_ENDS.values(), FrontEnd(mel_bins=128), FrontEnd(mel_bins=3), FrontEnd(fmin=0, fmax=16_000)]


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
    parallel = ParallelLogMel(log_mel)
    for batch, samples in ((1, settings.least_samples), (3, settings.sample_rate), (2, 100 * settings.hop - 1)):
        waveform = torch.rand(batch, samples, generator=torch.Generator().manual_seed(0)) - 0.5
        waveform[-1, samples // 2 :] = 0  # silence has its floor
        torch.testing.assert_close(parallel(waveform), log_mel(waveform), atol=2e-5, rtol=0)
        assert torch.get_num_threads() == threads


def test_several_callers_do_not_mix_their_clips(monkeypatch):
    monkeypatch.setattr(front_end, "FRAMES", 16)
    log_mel = LogMel(FrontEnd()).eval()
    parallel = ParallelLogMel(log_mel)
    clips = [torch.rand(1, 32_000, generator=torch.Generator().manual_seed(seed)) for seed in range(8)]
    with ThreadPoolExecutor(4) as pool:
        given = list(pool.map(parallel, clips))
    for clip, one in zip(clips, given, strict=True):
        torch.testing.assert_close(one, log_mel(clip), atol=2e-5, rtol=0)


def test_threads_that_never_come_are_not_waited_for():
    """As in a process that was forked, where the pool's threads are gone."""
    log_mel, waveform, gate = LogMel(FrontEnd()).eval(), torch.rand(1, 320_000), threading.Event()
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        busy = front_end._pool(2).submit(gate.wait, 60)
        torch.testing.assert_close(ParallelLogMel(log_mel)(waveform), log_mel(waveform), atol=2e-5, rtol=0)
        assert not busy.done()
    finally:
        gate.set()
        torch.set_num_threads(before)


def test_too_short_clips_are_refused():
    with pytest.raises(ModelError, match="at least 513"):
        ParallelLogMel(LogMel(FrontEnd()))(torch.zeros(1, 100))
    assert torch.get_num_threads() >= 1
