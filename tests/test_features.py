"""The front end against stored spectrograms and torchlibrosa; SpecAugment and mixup by their definitions."""

from dataclasses import replace

import golden_recipe
import numpy as np
import pytest
import torch
from torchlibrosa.stft import LogmelFilterBank, Spectrogram

from pannslib.errors import ModelError
from pannslib.features import FRONT_ENDS, FrontEnd, LogMel, SpecAugment, fourier_kernels, mel_matrix, mixup

GOLDEN = [(32_000, 64, 2e-3), (16_000, 64, 2e-3), (8_000, 64, 2e-3), (32_000, 128, 2e-2)]


@pytest.fixture(scope="module")
def golden():
    return np.load(golden_recipe.GOLDEN / "logmel.npz")


@pytest.mark.parametrize("method", ["fft", "conv"])
@pytest.mark.parametrize(("rate", "bins", "decibels"), GOLDEN)
def test_log_mel_equals_stored(golden, rate, bins, decibels, method):
    log_mel = LogMel(replace(FRONT_ENDS[rate], mel_bins=bins), method)(golden_recipe.input_a(rate))
    assert log_mel.shape == (2, 1, 1001, bins)
    stored = golden[f"logmel_{rate}_{bins}"]
    assert np.abs(log_mel[:, 0, ::10].numpy() - stored).max() < decibels


@pytest.mark.parametrize(("rate", "bins"), [(32_000, 32), *[row[:2] for row in GOLDEN]])
def test_mel_matrix_equals_stored(golden, rate, bins):
    ours = mel_matrix(replace(FRONT_ENDS[rate], mel_bins=bins))
    assert np.abs(ours - golden[f"melW_{rate}_{bins}"]).max() < 1e-7


@pytest.mark.parametrize("samples", [513, 3_333, 16_000])
def test_methods_equal_torchlibrosa(samples):
    front_end = FrontEnd()
    theirs = Spectrogram(n_fft=front_end.window, hop_length=front_end.hop)
    mel = LogmelFilterBank(
        sr=front_end.sample_rate, n_fft=front_end.window, n_mels=64, fmin=50, fmax=14_000, top_db=None
    )
    waveform = torch.randn(2, samples, generator=torch.Generator().manual_seed(0)).mul(0.1)
    expected = mel(theirs(waveform))
    assert (LogMel(front_end, "conv")(waveform) - expected).abs().max() < 1e-3
    assert (LogMel(front_end, "fft")(waveform) - expected).abs().max() < 2e-3
    kernels = torch.tensor(fourier_kernels(front_end.window))
    assert torch.allclose(kernels[0], theirs.stft.conv_real.weight[:, 0], atol=1e-6)
    assert torch.allclose(kernels[1], theirs.stft.conv_imag.weight[:, 0], atol=1e-6)


@pytest.mark.parametrize("method", ["fft", "conv"])
def test_front_end_has_no_state_and_stays_in_float32(method):
    front_end = LogMel(FrontEnd(), method)
    waveform = 1e-4 * torch.randn(1, 4_000, generator=torch.Generator().manual_seed(0))
    expected = front_end(waveform)
    with torch.autocast("cpu", torch.bfloat16):
        log_mel = front_end(waveform)
    assert not front_end.state_dict()
    assert log_mel.dtype == torch.float32
    assert torch.equal(log_mel, expected)


def test_silence_is_the_floor():
    assert (LogMel(FrontEnd())(torch.zeros(1, 2_000)) == -100).all()


def test_gradients_reach_the_waveform():
    waveform = torch.randn(1, 2_000, generator=torch.Generator().manual_seed(0)).requires_grad_()
    LogMel(FrontEnd())(waveform).sum().backward()
    assert torch.isfinite(waveform.grad).all()
    assert waveform.grad.abs().max() > 0


@pytest.mark.parametrize(
    ("waveform", "message"),
    [
        (torch.zeros(32_000), "(batch, samples) is needed"),
        (torch.zeros(1, 1, 32_000), "(batch, samples) is needed"),
        (torch.zeros(1, 32_000, dtype=torch.int16), "float32"),
        (torch.zeros(1, 32_000, dtype=torch.float64), "float32"),
        (torch.zeros(0, 32_000), "holds no clip"),
        (torch.zeros(1, 512), "at least 513"),
        (np.zeros((1, 32_000), np.float32), "torch.from_numpy"),
    ],
)
def test_bad_waveforms_are_refused(waveform, message):
    with pytest.raises(ModelError) as error:
        LogMel(FrontEnd())(waveform)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mel_bins": 0}, "mel_bins is 0"),
        ({"hop": 2.5}, "hop is 2.5"),
        ({"window": 1023}, "even"),
        ({"fmax": 20_000}, "16000 Hz"),
        ({"fmin": 14_000}, "fmin"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ModelError, match=message):
        FrontEnd(**settings)


def test_a_mel_bin_without_a_frequency_is_refused():
    with pytest.raises(ModelError, match="narrower than the spacing"):
        mel_matrix(FrontEnd(mel_bins=256))


def test_unknown_method_is_refused():
    with pytest.raises(ModelError, match="fft or conv"):
        LogMel(FrontEnd(), "dft")


def _widths(lines: torch.Tensor) -> list[int]:
    """Lengths of the runs of True in each row."""
    edges = torch.nn.functional.pad(lines.int(), (1, 1)).diff(dim=1)
    return ((edges == -1).nonzero()[:, 1] - (edges == 1).nonzero()[:, 1]).tolist()


def test_spec_augment_masks_stripes_of_the_published_widths():
    torch.manual_seed(0)
    augment = SpecAugment(frames=64, bins=8, stripes=1)
    masked = augment(torch.ones(2_000, 1, 200, 64)) == 0
    in_time, in_frequency = masked[:, 0].all(dim=2), masked[:, 0].all(dim=1)
    assert torch.equal(masked[:, 0], in_time[:, :, None] | in_frequency[:, None, :])
    times, bins = _widths(in_time), _widths(in_frequency)
    assert (max(times), max(bins)) == (63, 7)
    # uniform on 0 ... 63 and 0 ... 7; runs of width 0 can't be seen, hence the sums over all clips
    assert sum(times) / 2_000 == pytest.approx(31.5, abs=1.5)
    assert sum(bins) / 2_000 == pytest.approx(3.5, abs=0.2)
    assert in_time[:, 0].any()
    assert not in_time[:, -1].any(), "as in the authors' code"


def test_spec_augment_differs_between_clips_and_obeys_the_seed():
    augment, spectrogram = SpecAugment(), torch.ones(4, 1, 300, 64)
    torch.manual_seed(1)
    first = augment(spectrogram)
    torch.manual_seed(1)
    assert torch.equal(first, augment(spectrogram))
    assert not torch.equal(first[0], first[1])
    assert (spectrogram == 1).all(), "the input isn't changed"


def test_spec_augment_takes_short_clips_and_rests_in_evaluation():
    augment = SpecAugment()
    assert augment(torch.ones(8, 1, 1, 4)).shape == (8, 1, 1, 4)
    assert (augment.eval()(torch.ones(8, 1, 300, 64)) == 1).all()


def test_mixup_mixes_neighbours():
    x = torch.arange(8.0).reshape(4, 2)
    mixed = mixup(x, torch.tensor([0.25, 0.75, 1.0, 0.0]))
    assert torch.equal(mixed, torch.stack([0.25 * x[0] + 0.75 * x[1], x[2]]))
    images = x.reshape(4, 1, 2, 1)
    assert torch.equal(mixup(images, torch.tensor([0.25, 0.75, 1.0, 0.0])), mixed.reshape(2, 1, 2, 1))


@pytest.mark.parametrize(("clips", "shares"), [(3, 3), (4, 2), (4, 3)])
def test_mixup_refuses_what_has_no_pairs(clips, shares):
    with pytest.raises(ModelError, match="even number of clips"):
        mixup(torch.zeros(clips, 5), torch.full((shares,), 0.5))
