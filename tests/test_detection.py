"""Sound events: windows give what one piece gives, runs of segments become events, and what is refused."""

import numpy as np
import pytest
import torch

from pannslib import SoundEventDetector, audio, models
from pannslib.errors import AudioError, ModelError
from pannslib.inference.speed import noise

RATE = 32_000


@pytest.fixture(scope="module")
def model():
    """A small DecisionLevel model whose output moves with its input."""
    torch.manual_seed(0)
    model = models.create_model("Cnn14_DecisionLevelMax", classes=3, width=0.0625).eval()
    for name, value in model.state_dict().items():
        if name.endswith("running_mean"):
            value.normal_(0, 0.1)
    return model


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """70 s of noise whose level changes, three windows and a bit."""
    waveform = noise(1, 70.123, RATE)[0]
    level = np.random.default_rng(1).uniform(0, 1, 71) ** 3
    path = tmp_path_factory.mktemp("sound") / "straße.wav"
    return audio.save(path, waveform * np.repeat(level, RATE)[: len(waveform)].astype(np.float32), RATE)


@pytest.fixture(scope="module")
def detector(model):
    return SoundEventDetector(model)


def test_windows_give_what_one_piece_gives(model, detector, recording):
    waveform = audio.load(recording)
    with torch.inference_mode():
        whole = model(torch.from_numpy(waveform)[None]).framewise_output[0].numpy()
    framewise = detector.framewise(recording, progress=False)
    assert framewise.shape == whole.shape == (len(waveform) // 320 + 1, 3)
    assert whole.std(axis=0).max() > 1e-3  # there is something to compare
    np.testing.assert_allclose(framewise, whole, atol=1e-5)


def test_another_rate_and_blocks_give_the_same(detector, tmp_path):
    waveform = noise(1, 40, 44_100)[0]
    audio.save(tmp_path / "a.wav", waveform, 44_100)
    stored, _ = audio.decode(tmp_path / "a.wav")
    from_file = detector.framewise(tmp_path / "a.wav", progress=False)
    np.testing.assert_allclose(from_file, detector.framewise(stored, sample_rate=44_100), atol=1e-5)


def test_events_are_the_runs_of_frames_at_the_threshold(detector, recording):
    framewise = detector.framewise(recording, progress=False)
    threshold = float(np.median(framewise))
    events = detector.detect(recording, threshold=threshold, progress=False)
    assert list(events.columns) == ["label", "onset_s", "offset_s", "probability"]
    seconds = audio.info(recording).seconds
    for index, label in enumerate(detector.labels):
        active = framewise[:, index] >= np.float32(threshold)
        edges = np.diff(active.astype(int), prepend=0, append=0)
        mine = events[events["label"] == label]
        np.testing.assert_allclose(mine["onset_s"], np.flatnonzero(edges == 1) / 100, atol=1e-9)
        np.testing.assert_allclose(mine["offset_s"], np.minimum(np.flatnonzero(edges == -1) / 100, seconds), atol=0.011)
    assert events["onset_s"].is_monotonic_increasing
    assert (events["probability"] >= np.float32(threshold)).all()
    assert events["offset_s"].max() <= seconds


def test_short_events_go_and_gaps_close(detector, recording):
    threshold = float(np.median(detector.framewise(recording, progress=False)))
    plain = detector.detect(recording, threshold, progress=False)
    long = detector.detect(recording, threshold, shortest_s=1.0, progress=False)
    joined = detector.detect(recording, threshold, gap_s=100, progress=False)
    assert 0 < len(long) < len(plain)
    assert (long["offset_s"] - long["onset_s"] >= 1).all()
    assert len(joined) == plain["label"].nunique()


def test_the_ends_of_the_scale(detector, recording):
    always = detector.detect(recording, threshold=0, progress=False)
    assert len(always) == 3
    assert always["offset_s"].tolist() == [pytest.approx(audio.info(recording).seconds)] * 3
    never = detector.detect(recording, threshold=1, progress=False)
    assert len(never) == 0
    assert list(never.columns) == ["label", "onset_s", "offset_s", "probability"]


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan")])
def test_a_threshold_outside_of_0_to_1(detector, recording, threshold):
    with pytest.raises(ModelError, match="from 0 to 1"):
        detector.detect(recording, threshold=threshold)


def test_a_tenth_of_a_second_and_silence(detector):
    short = detector.framewise(noise(1, 0.1, RATE)[0])
    assert short.shape == (11, 3)
    assert detector.detect(np.zeros(3200, np.float32), threshold=0)["offset_s"].tolist() == [0.1] * 3


def test_several_clips_and_what_cannot_be_used(detector, recording, tmp_path):
    (tmp_path / "bad.wav").write_text("no sound")
    clips = [recording, tmp_path / "bad.wav", (noise(1, 1, 8000)[0], 8000)]
    with pytest.warns(UserWarning, match=r"1 of 3 clips couldn't be used"):
        events = detector.detect(clips, 0, progress=False)
    assert events["clip"].unique().tolist() == [str(recording), "array 2"]
    assert list(events.skipped) == [str(tmp_path / "bad.wav")]
    folder = events.save(tmp_path / "labels.txt")
    first = sorted(folder.iterdir())[0].read_text().splitlines()[0].split("\t")
    assert (float(first[0]), float(first[1])) == (0, pytest.approx(70.123, abs=1e-3))
    with pytest.raises(AudioError, match=r"bad\.wav"):
        detector.detect([tmp_path / "bad.wav"])


def test_a_model_without_frames():
    with pytest.raises(ModelError, match="Cnn14_DecisionLevelMax"):
        SoundEventDetector(models.create_model("Cnn6", classes=2, width=0.0625))
