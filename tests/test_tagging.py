"""The tagger: from files, folders and arrays to labels, embeddings and saved tables."""

import json
import os
import pickle
import resource
import struct
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from pannslib import AudioTagger, audio, create_model, files, models
from pannslib.errors import AudioError, CheckpointError, ModelError, PannsError
from pannslib.inference import tables


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
    low = (
        AudioTagger(checkpoint=checkpoint, precision="bf16", engine="openvino")
        .tag(clip)
        .set_index("label")["probability"]
    )
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


def test_lists_folders_and_arrays_of_different_lengths(tagger, tmp_path):
    names = ["a.wav", "straße ñ 音.flac", f"{'x' * 240}.wav"]
    (tmp_path / "deeper").mkdir()
    for seconds, name in zip((0.1, 1.5, 3), names, strict=True):
        sound = np.random.default_rng(0).uniform(-0.5, 0.5, round(seconds * 16_000))
        soundfile.write(tmp_path / "deeper" / name, sound, 16_000)
    (tmp_path / "notes.txt").write_text("no sound")
    tags = tagger.tag(tmp_path, top=2, progress=False)
    assert list(tags.columns) == ["clip", "label", "probability"]
    assert [Path(clip).name for clip in tags["clip"].unique()] == sorted(names)
    one = tagger.tag(tmp_path / "deeper" / names[1], top=2)
    assert tags[tags["clip"].str.endswith(names[1])]["probability"].tolist() == one["probability"].tolist()
    samples, rate = soundfile.read(tmp_path / "deeper" / names[1], dtype="float32")
    again = tagger.tag([(samples, rate), samples], sample_rate=rate, top=2)
    np.testing.assert_allclose(again["probability"], [*one["probability"]] * 2, atol=1e-6)
    embeddings = tagger.embed(tmp_path, progress=False)
    assert embeddings.shape == (3, tagger.model.embedding_size)
    np.testing.assert_array_equal(embeddings.iloc[1], tagger.embed(tmp_path / "deeper" / sorted(names)[1]))


def test_a_long_recording_has_the_highest_probability_of_its_windows(tagger, tmp_path):
    level = np.repeat(np.linspace(0, 1, 65), 32_000)
    waveform = (np.random.default_rng(0).uniform(-1, 1, len(level)) * level).astype(np.float32)
    audio.save(tmp_path / "long.wav", waveform, 32_000)
    tags = tagger.tag(tmp_path / "long.wav", top=3, progress=False).set_index("label")["probability"]
    windows = tagger.tag_windows(tmp_path / "long.wav", top=3, progress=False)
    assert windows["onset_s"].drop_duplicates().tolist() == [5.0 * index for index in range(12)]
    assert windows["offset_s"].max() == pytest.approx(65)
    np.testing.assert_allclose(windows.groupby("label")["probability"].max()[tags.index], tags)
    lines = windows.save(tmp_path / "tags.txt").read_text().splitlines()
    assert lines[-1].startswith("55.000000\t65.000000\t")


def test_tables_save_themselves(tagger, clip, tmp_path):
    tags = tagger.tag([clip], top=2)
    assert pd.read_csv(tags.save(tmp_path / "tags.csv"))["label"].tolist() == tags["label"].tolist()
    assert [row["label"] for row in json.loads(tags.save(tmp_path / "tags.json").read_text())] == tags["label"].tolist()
    with pytest.raises(PannsError, match="times"):
        tags.save(tmp_path / "tags.txt")
    with pytest.raises(PannsError, match=r"\.csv"):
        tags.save(tmp_path / "tags.xls")


def test_silence_has_tags_that_are_numbers(tagger):
    assert tagger.tag(np.zeros(64_000, np.float32))["probability"].between(0, 1).all()


def test_folders_and_lists_without_sound(tagger, tmp_path):
    with pytest.raises(AudioError, match="no sound files"):
        tagger.tag(tmp_path)
    with pytest.raises(AudioError, match="empty"):
        tagger.tag([])


@pytest.mark.parametrize(
    "head", [b"\x00\x00\x00\x20ftypisom", b"\x1aE\xdf\xa3\x01\x00\x00", b"RIFF\x00\x10\x00\x00AVI "]
)
def test_a_video_is_told_to_be_one(tagger, tmp_path, head):
    (tmp_path / "film.mp4").write_bytes(head + bytes(4096))
    with pytest.raises(AudioError, match="is a video"):
        tagger.tag(tmp_path / "film.mp4")


@pytest.mark.skipif(os.geteuid() == 0, reason="the administrator may read everything")
def test_what_may_not_be_read(tagger, clip, tmp_path):
    clip.chmod(0)
    with pytest.raises(AudioError, match="permissions"):
        tagger.tag(clip)
    (tmp_path / "closed").mkdir(mode=0)
    with pytest.raises(AudioError, match="permissions"):
        tagger.tag(tmp_path / "closed")


def test_a_day_of_audio_is_read_at_constant_memory(tmp_path):
    """24 h at 2 kHz, sparse on the disk: the first and the last blocks of what the tagger is given."""
    frames = 24 * 3600 * 2000
    with open(tmp_path / "day.wav", "wb") as file:
        form = (16, 1, 1, 2000, 2000, 1, 8)  # of 8 bits, one channel
        header = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", frames + 36, b"WAVE", b"fmt ", *form, b"data", frames)
        file.write(header)
        file.truncate(len(header) + frames)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    total = sum(len(block) for block in audio.stream(tmp_path / "day.wav", 2000))
    assert total == frames
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024  # KiB


def test_weights_are_random_only_where_they_are_asked_for():
    assert len(AudioTagger("LeeNet11", checkpoint="random", engine="torch").tag(np.zeros(32_000, np.float32))) == 10
    with pytest.raises(CheckpointError, match="Random weights"):
        AudioTagger(checkpoint="random")


def test_where_one_label_alone_is_right_the_probabilities_are_a_softmax(tmp_path):
    network = create_model("Cnn6", classes=4, width=0.1).eval()
    path = models.save_checkpoint(network, tmp_path / "own.safetensors", labels=list("abcd"), activation="softmax")
    waveform = (0.1 * np.random.default_rng(0).standard_normal(64_000)).astype(np.float32)
    with torch.no_grad():
        expected = torch.softmax(network(torch.from_numpy(waveform)[None]).logits[0], 0).numpy()
    tagger = AudioTagger(checkpoint=path)
    assert np.allclose(tagger.probabilities(waveform), expected, atol=1e-5)
    assert tagger.tag(waveform, top=4)["probability"].sum() == pytest.approx(1)


def test_names_that_no_file_system_takes_are_skipped_and_warned_of(tagger, clip):
    with pytest.warns(UserWarning, match=r"1 of 2 clips couldn't be used; \.skipped"):
        tags = tagger.tag([clip, "y" * 300 + ".wav"])
    assert set(tags["clip"]) == {str(clip)}
    assert "name" in next(iter(tags.skipped.values()))
    with pytest.raises(AudioError, match="cannot be read"):
        tagger.tag("y" * 300 + ".wav")


def test_names_that_are_not_utf8_and_deep_folders_are_read(tagger, clip, tmp_path):
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/bad\xff\xfename.wav"))
    odd.write_bytes(clip.read_bytes())
    assert tagger.tag(odd).equals(tagger.tag(clip))
    deep = tmp_path.joinpath(*["d" * 200] * 6)
    deep.mkdir(parents=True)
    (deep / "clip.wav").write_bytes(clip.read_bytes())
    assert tagger.tag(deep / "clip.wav").equals(tagger.tag(clip))


def test_a_folder_that_cannot_be_used_is_noted_beside_others(tagger, clip, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.warns(UserWarning, match="1 of 2"):
        tags = tagger.tag([clip, tmp_path / "empty"])
    assert "no sound files" in tags.skipped[str(tmp_path / "empty")]
    with pytest.raises(AudioError, match="no sound files"):
        tagger.tag([tmp_path / "empty"])


def test_a_model_without_names_of_classes_gets_numbers_or_what_is_given(tmp_path):
    path = models.save_checkpoint(create_model("Cnn6", classes=3, width=0.0625), tmp_path / "plain.safetensors")
    assert AudioTagger(checkpoint=path).labels == ("class 0", "class 1", "class 2")
    assert AudioTagger(checkpoint=path, labels=["x", "y", "z"]).labels == ("x", "y", "z")
    with pytest.raises(ModelError, match="2 labels are given, but the network has 3"):
        AudioTagger(checkpoint=path, labels=["x", "y"])
    # a file of another's training, whose classifier says how many there are
    torch.save({"model": create_model("MobileNetV1", classes=4).state_dict()}, tmp_path / "own.pth")
    assert len(AudioTagger("MobileNetV1", checkpoint=tmp_path / "own.pth").labels) == 4


def test_released_weights_are_those_of_the_default_network_and_are_checked(tmp_path, monkeypatch):
    monkeypatch.setenv("PANNS_CACHE", str(tmp_path))
    with pytest.raises(CheckpointError, match="needs trained weights"):
        AudioTagger()
    torch.save({"model": create_model("Cnn14", width=0.0625).state_dict()}, tmp_path / "Cnn14_mAP=0.431.pth")
    with pytest.raises(CheckpointError, match="isn't the released file: its"):
        AudioTagger()


def test_what_was_released_is_checked_once(tmp_path, monkeypatch):
    path = tmp_path / "Cnn14_mAP=0.431.pth"
    path.write_bytes(b"weights")
    table = models.released_checkpoints()
    table.loc[table["name"] == path.name, ["sha256", "md5"]] = [files.sha256(path), None]
    monkeypatch.setattr(models.pretrained, "released_checkpoints", lambda: table)
    assert models.check_released(path) == path
    monkeypatch.setattr(models.pretrained, "_checksum", None)  # it isn't asked for again ...
    assert models.check_released(path) == path
    monkeypatch.undo()
    path.write_bytes(b"others!")  # ... unless the file is another one
    with pytest.raises(CheckpointError, match="Delete it"):
        models.check_released(path)


def test_wrong_types_are_told(tagger, clip):
    for wrong in (2.5, "3", 0):
        with pytest.raises(ModelError, match="whole number"):
            tagger.tag(clip, top=wrong)
    with pytest.raises(AudioError, match="Tensor"):
        tagger.tag(torch.zeros(32_000))
    with pytest.raises(AudioError, match="rate is 0 Hz"):
        tagger.tag(np.zeros(32_000, np.float32), sample_rate=0)


def test_embeddings_of_a_list_are_saved_with_their_clips_and_tables_are_pickled(tagger, clip, tmp_path):
    table = tagger.embed([clip])
    table.save(tmp_path / "e.csv")
    table.save(tmp_path / "e.json")
    assert pd.read_csv(tmp_path / "e.csv")["clip"].tolist() == [str(clip)]
    assert json.loads((tmp_path / "e.json").read_text())[0]["clip"] == str(clip)
    tags = tagger.tag([clip])
    assert pickle.loads(pickle.dumps(tags)).equals(tags)


def test_labels_for_audacity_have_a_file_for_every_clip_that_was_asked_for(tmp_path):
    rows = [{"clip": "語" * 80 + ".wav", "onset_s": 0.0, "offset_s": 1.0, "label": "a", "probability": 0.5}]
    table = tables.results(rows, list(rows[0]), clips=[rows[0]["clip"], "silent.wav"])
    folder = table.save(tmp_path / "labels.txt")
    assert [len(path.read_text().splitlines()) for path in sorted(folder.iterdir())] == [1, 0]


@pytest.mark.parametrize("length", [235, 250])
def test_long_names_of_results_are_written(tagger, clip, tmp_path, length):
    name = "n" * length + ".csv"
    assert tagger.tag(clip).save(tmp_path / name).is_file()
    assert tagger.tag(clip).save(tmp_path / ("語" * 80 + ".csv")).is_file()


@pytest.mark.parametrize("head", [b"FLV\x01", b"0&\xb2u\x8ef\xcf\x11", b"\x00\x00\x01\xba", b"G" + bytes(187) + b"G"])
def test_videos_of_other_kinds_get_the_advice_for_videos(tagger, tmp_path, head):
    (tmp_path / "film.bin").write_bytes(head + bytes(400))
    with pytest.raises(AudioError, match="ffmpeg"):
        tagger.tag(tmp_path / "film.bin")
