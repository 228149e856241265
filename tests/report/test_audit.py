"""The data audit: what it measures, and that it finds each of the usual causes."""

from pathlib import Path
from types import SimpleNamespace

import h5py
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from pannslib import reference
from pannslib.datasets import PackedClips
from pannslib.report import audit

RATE = 32_000


def packed_file(path: Path, waveforms: np.ndarray, targets: np.ndarray, splits: list[str]) -> PackedClips:
    """A packed file as the authors' are, with splits."""
    with h5py.File(path, "w") as store:
        store["audio_name"] = np.array([f"Y{number}.wav".encode() for number in range(len(waveforms))])
        store["waveform"] = waveforms.astype(np.int16)
        store["target"] = targets
        store["split"] = np.array([split.encode() for split in splits])
        store.attrs["sample_rate"] = RATE
    return PackedClips(path)


@pytest.fixture
def clips():
    """Eight clips of noise at different levels, and their labels and splits."""
    rng = np.random.default_rng(3)
    levels = np.linspace(500, 6000, 8)[:, None]
    waveforms = np.clip(rng.standard_normal((8, RATE // 4)) * levels, -32_000, 32_000)
    targets = np.zeros((8, 527), bool)
    targets[np.arange(8), [0, 0, 0, 137, 137, 300, 0, 137]] = True
    targets[:, 500] = [True, False] * 4
    return waveforms, targets, ["balanced_train"] * 3 + ["unbalanced_train"] * 3 + ["eval"] * 2


def audited(path: Path, waveforms, targets, splits, groups=None) -> pd.DataFrame:
    packed = packed_file(path / "clips.h5", waveforms, targets, splits)
    groups = groups or [f"video{number}" for number in range(len(splits))]
    dataset = SimpleNamespace(clips=pd.DataFrame({"clip": packed.names, "split": splits, "group": groups}))
    return audit.causes(dataset, packed, audit.measure(packed)).set_index("check")


def test_good_clips_are_fine(tmp_path, clips):
    table = audited(tmp_path, *clips)
    sound = table.loc["clips with nothing above 8 kHz":"the same sound twice", "verdict"]
    assert set(sound) == {"fine"}
    assert table.loc["sample rate of the files", "verdict"] == "not known"  # packed files that came without a report
    assert table.loc["evaluation clips", "verdict"] == "look at it"


def test_clips_of_one_name_do_not_stop_the_audit(tmp_path, clips):
    waveforms, targets, splits = clips
    packed = packed_file(tmp_path / "clips.h5", waveforms, targets, splits)
    names = ["Y0.wav", *packed.names[:-1]]  # the first name is there twice
    report = pd.DataFrame({"clip": names, "status": "ok", "seconds": 0.25, "sample_rate": RATE, "channels": 1})
    report = report.assign(subtype="PCM_16", peak=0.5, trailing_zero_seconds=0.0, duplicate_of=None)
    report.loc[7, "duplicate_of"] = "Y0.wav"
    report.to_csv(packed.report_path, index=False)
    dataset = SimpleNamespace(clips=pd.DataFrame({"clip": names, "split": splits}))
    assert audit.files(dataset, packed)["files"].sum() == 8


def halved(waveforms):
    """What is left of clips that were stored at half the rate and brought back."""
    spectrum = np.fft.rfft(waveforms)
    spectrum[:, spectrum.shape[1] // 2 - 50 :] = 0
    return np.fft.irfft(spectrum, waveforms.shape[1])


def wrapped(waveforms):
    return (waveforms * 12).astype(np.int64).astype(np.int16)


@pytest.mark.parametrize(
    ("check", "spoil"),
    [
        ("silent clips", lambda waveforms: np.where(np.arange(8)[:, None] == 4, 0, waveforms)),
        ("samples that wrapped round", wrapped),
        ("clipped clips", lambda waveforms: np.clip(waveforms * 12, -32_768, 32_767)),
        ("clips with an offset", lambda waveforms: waveforms + 800),
        ("the same sound twice", lambda waveforms: waveforms[[0, 0, 2, 3, 4, 5, 6, 7]]),
        ("the same sound in training and evaluation", lambda waveforms: waveforms[[0, 1, 2, 3, 4, 5, 6, 0]]),
    ],
)
def test_each_cause_is_found(tmp_path, clips, check, spoil):
    waveforms, targets, splits = clips
    table = audited(tmp_path, spoil(waveforms), targets, splits)
    assert table.loc[check, "verdict"] == "look at it", table.loc[check]


def test_a_copy_at_half_the_rate_is_found_however_quiet_it_is(tmp_path, clips):
    waveforms, targets, splits = clips
    levels = np.geomspace(0.02, 1, 8)[:, None]  # the quietest has an RMS of ten steps of 16 bit
    table = audited(tmp_path, halved(waveforms * levels).round(), targets, splits)
    assert table.loc["clips with nothing above 8 kHz", "here"] == "100.0%"
    assert table.loc["clips with nothing above 8 kHz", "verdict"] == "look at it"


def test_labels_are_looked_at(tmp_path, clips):
    waveforms, targets, splits = clips
    targets[2] = False
    table = audited(tmp_path, waveforms, targets, splits, groups=["a", "b", "c", "d", "e", "f", "a", "g"])
    assert table.loc["clips without a label", "here"] == "1"
    assert table.loc["the same video in training and evaluation", "verdict"] == "look at it"
    assert table.loc["classes without an evaluation clip", "verdict"] == "look at it"


def test_columns_in_another_order_show_in_the_sizes_of_the_classes(tmp_path):
    rng = np.random.default_rng(0)
    official = reference.class_labels()["training_clips"].to_numpy()
    targets = rng.random((400, 527)) < (official / official.max()) ** 0.5
    splits = ["balanced_train"] * 390 + ["eval"] * 10
    waveforms = rng.integers(-5000, 5000, (400, 800))
    name = "sizes of the classes against the published ones"
    (tmp_path / "right").mkdir()
    assert audited(tmp_path / "right", waveforms, targets, splits).loc[name, "verdict"] == "fine"
    (tmp_path / "wrong").mkdir()
    wrong = targets[:, rng.permutation(527)]
    assert audited(tmp_path / "wrong", waveforms, wrong, splits).loc[name, "verdict"] == "look at it"


def test_what_is_measured_is_right(tmp_path):
    seconds = np.arange(RATE) / RATE
    tone = 16_384 * np.sin(2 * np.pi * 1000 * seconds)
    packed = packed_file(tmp_path / "tone.h5", np.array([tone, 0 * tone]), np.eye(2, 527, dtype=bool), ["eval"] * 2)
    measured = audit.measure(packed)
    assert measured["peak"].tolist() == pytest.approx([0.5, 0])
    assert measured["rms_db"].iloc[0] == pytest.approx(-9.03, abs=0.01)
    assert measured["edge_hz"].iloc[0] == pytest.approx(1000, abs=2)
    assert measured["above_8k_db"].iloc[0] < -80
    assert np.isnan(measured["edge_hz"].iloc[1])
    assert audit.levels(measured)["silent (%)"].tolist() == [50]


def test_at_most_so_many_clips_are_measured(tmp_path, clips):
    packed = packed_file(tmp_path / "clips.h5", *clips)
    measured = audit.measure(packed, most=5, seed=1)
    assert len(measured) == 5
    assert measured["row"].is_monotonic_increasing
    assert measured.equals(audit.measure(packed, most=5, seed=1))


def test_splits_are_set_beside_the_authors_numbers(tmp_path, clips):
    packed = packed_file(tmp_path / "clips.h5", *clips)
    dataset = SimpleNamespace(clips=pd.DataFrame({"split": clips[2]}))
    table = audit.splits(dataset, packed).set_index("split")
    assert table.loc["eval", "the authors' clips"] == 18_887
    assert table.loc["eval", "missing against the authors"] == 18_885
    assert table["usable"].tolist() == [3, 3, 2]
    assert audit.files(dataset, packed).empty


def test_the_pictures_and_the_sentence(tmp_path, clips):
    packed = packed_file(tmp_path / "clips.h5", *clips)
    figure, axes = plt.subplots(1, 2)
    audit.class_sizes(audit.labels(packed), "partial", axes[0])
    audit.bandwidth(audit.measure(packed), RATE, axes[1])
    assert axes[0].get_legend_handles_labels()[1] == ["published, 527 classes", "here (partial), 527 classes"]
    plt.close(figure)
    table = pd.DataFrame(
        {"check": ["a", "b", "c"], "here": ["1", "2", "3"], "verdict": ["fine", "look at it", "not known"]}
    )
    text = audit.sentence(table)
    assert "1 of 3 checks" in text
    assert "b (2)" in text
    assert "Not known here: c" in text
