"""The tagger: from a file to labels."""

import numpy as np
import pytest

from pannslib import AudioTagger, audio, create_model, models
from pannslib.errors import AudioError, CheckpointError, ModelError


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    model = create_model("Cnn6", classes=3, width=0.0625)
    models.save_checkpoint(model, path, labels=["a", "b", "c"])
    return path


@pytest.fixture(scope="module")
def tagger(checkpoint):
    return AudioTagger(checkpoint=checkpoint)


@pytest.fixture
def clip(tmp_path):
    waveform = np.random.default_rng(0).uniform(-0.5, 0.5, 44_100).astype(np.float32)
    audio.save(tmp_path / "clip.wav", waveform, 44_100)
    return tmp_path / "clip.wav"


def test_tags_are_sorted_probabilities(tagger, clip):
    tags = tagger.tag(clip, top=2)
    assert list(tags.columns) == ["label", "probability"]
    assert len(tags) == 2
    assert tags["probability"].is_monotonic_decreasing
    assert tags["probability"].between(0, 1).all()


def test_a_file_and_its_waveform_get_the_same_tags(tagger, clip):
    waveform = audio.load(clip, sample_rate=tagger.model.sample_rate)
    assert tagger.tag(clip).equals(tagger.tag(waveform))
    assert tagger.embed(clip).shape == (tagger.model.embedding_size,)


def test_very_short_clips_are_padded(tagger):
    assert len(tagger.tag(np.zeros(100, np.float32))) == 3


def test_bf16_is_near_fp32(checkpoint, tagger, clip):
    low = AudioTagger(checkpoint=checkpoint, precision="bf16").tag(clip).set_index("label")["probability"]
    high = tagger.tag(clip).set_index("label")["probability"]
    np.testing.assert_allclose(low[high.index], high, atol=0.02)


def test_without_weights_it_says_where_to_get_them():
    with pytest.raises(CheckpointError, match=r"zenodo\.org"):
        AudioTagger("Cnn14")


@pytest.mark.parametrize(
    "waveform", [np.zeros(0, np.float32), np.zeros((2, 9), np.float32), np.array([np.nan]), np.ones(9, np.int16)]
)
def test_arrays_that_are_no_waveform(tagger, waveform):
    with pytest.raises(AudioError, match=r"\(samples,\)"):
        tagger.tag(waveform)


def test_a_device_or_precision_that_there_is_not(checkpoint):
    with pytest.raises(ModelError, match="device is 'tpu'"):
        AudioTagger(checkpoint=checkpoint, device="tpu")
    with pytest.raises(ModelError, match="fp32 or bf16"):
        AudioTagger(checkpoint=checkpoint, precision="fp8")


def test_a_checkpoint_brings_its_front_end(tmp_path):
    path = tmp_path / "fine.safetensors"
    models.save_checkpoint(create_model("Cnn6", classes=2, width=0.0625, hop=160), path, labels=["a", "b"])
    assert AudioTagger(checkpoint=path).model.front_end.hop == 160
