"""Packing: what is stored, what is rejected, when it is done again; reading, also from other processes."""

import os
import pickle
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from types import SimpleNamespace

import h5py
import numpy as np
import pandas as pd
import pytest
import soundfile

from pannslib import audio, datasets
from pannslib.datasets import PackedClips, packing
from pannslib.datasets.base import Clip, assemble
from pannslib.errors import DataError

RATE, SECONDS = 16_000, 0.5
STEP = 2**-14  # two roundings to 16 bit: in the WAV file and in the packed one


def noise(seed, seconds=SECONDS, rate=RATE):
    """Seeded noise, float32 (samples,), well below full scale."""
    return np.random.default_rng(seed).uniform(-0.5, 0.5, round(seconds * rate)).astype(np.float32)


def as_dataset(root):
    """The WAV files of `root`, named `{class}-{fold}-{anything}.wav`, as a data set."""
    names = sorted(path.name for path in root.glob("*.wav"))
    clips = [Clip(name, name, (int(name[0]),), int(name[2]), f"recording {name[2]}") for name in names]
    return assemble("noise", "Noise", root, clips, {0: "white", 1: "pink"}, expected_clips=len(clips))


@pytest.fixture
def root(tmp_path):
    """Two classes, two folds, two clips of each."""
    folder = tmp_path / "set"
    for number, name in enumerate(f"{c}-{f}-{take}.wav" for c in (0, 1) for f in (1, 2) for take in "ab"):
        audio.save(folder / name, noise(number), RATE)
    return folder


def pack(root, **options):
    request = {"sample_rate": RATE, "seconds": SECONDS, **options}
    return datasets.pack(as_dataset(root), root.parent / "packed" / "set.h5", **request)


# --- what is stored ------------------------------------------------------------------------------------------------


def test_the_authors_layout(root):
    clips = pack(root)
    with h5py.File(clips.path) as store:
        assert store["waveform"].shape == (8, 8000)
        assert store["waveform"].dtype == np.int16
        assert store["waveform"].chunks is None
        assert store["target"].dtype == bool
        assert store["audio_name"][0] == b"0-1-a.wav"
        assert store.attrs["sample_rate"] == RATE


def test_a_whole_data_set_with_a_bad_clip_is_a_part_of_it(root):
    (root / "0-1-a.wav").write_text("no sound")
    clips = pack(root)
    assert len(clips.names) == 7
    assert clips.evidence == "partial"


def test_all_is_read_back(root):
    dataset, clips = as_dataset(root), pack(root)
    assert clips.names == dataset.clips["clip"].tolist()
    assert clips.classes == dataset.classes
    assert (clips.sample_rate, clips.seconds, clips.evidence) == (RATE, SECONDS, "real")
    assert clips.fingerprint == dataset.fingerprint
    np.testing.assert_array_equal(clips.targets, dataset.targets)
    np.testing.assert_array_equal(clips.label, dataset.label)
    np.testing.assert_array_equal(clips.folds, dataset.clips["fold"])
    assert clips.groups.tolist() == dataset.clips["group"].tolist()
    assert isinstance(clips.waveforms, np.memmap)
    waveforms = clips.read([5, 0, 5])
    assert waveforms.dtype == np.float32
    np.testing.assert_allclose(waveforms, np.stack([noise(5), noise(0), noise(5)]), atol=STEP)


def test_packing_is_loading(root):
    soundfile.write(root / "0-1-a.wav", np.outer(1.5 * noise(9, 1.0, 44_100), [1, 0.5]), 44_100, subtype="FLOAT")
    expected = audio.load(root / "0-1-a.wav", RATE, SECONDS).clip(-1, 1)
    np.testing.assert_allclose(pack(root).read([0])[0], expected, atol=0.6 / 32_767)


# --- the report ------------------------------------------------------------------------------------------------------


def test_the_report_measures_every_clip(root):
    wave = np.zeros(4000)
    wave[:2000] = 0.5
    soundfile.write(root / "0-1-a.wav", np.outer(wave, [1, 1]), 8000, subtype="PCM_24")
    soundfile.write(root / "0-1-b.wav", 3 * noise(1, 2.0), RATE, subtype="FLOAT")
    audio.save(root / "0-2-a.wav", np.zeros(8000), RATE)
    report = pack(root).clips_report.set_index("clip")
    assert len(report) == 8
    assert (report["status"] == "ok").all()
    row = report.loc["0-1-a.wav"]
    assert row[["seconds", "sample_rate", "channels", "subtype"]].tolist() == [0.5, 8000, 2, "PCM_24"]
    assert row["peak"] == pytest.approx(0.5)
    assert row["rms_db"] == pytest.approx(20 * np.log10(0.5 / np.sqrt(2)), abs=1e-4)
    assert row["trailing_zero_seconds"] == pytest.approx(0.25)
    assert row["remark"] == "8 kHz: nothing above 4 kHz; 2 channels: averaged"
    loud = report.loc["0-1-b.wav"]
    assert loud["clipped_share"] == pytest.approx(1 / 3, abs=0.02)
    assert loud["remark"].startswith("peak 1.500: saturated when stored; lasts 2.00 s")
    assert report.loc["0-2-a.wav", "rms_db"] == -120
    assert report.loc["0-2-a.wav", "remark"] == "silent: all samples are zero"
    assert report["remark"].isna().sum() == 5


def test_duplicates_are_named_and_remarked_across_folds(root):
    for copy in ("0-1-b.wav", "1-2-b.wav"):
        (root / copy).write_bytes((root / "0-1-a.wav").read_bytes())
    report = pack(root).clips_report.set_index("clip")
    assert report["duplicate_of"].dropna().to_dict() == {"0-1-b.wav": "0-1-a.wav", "1-2-b.wav": "0-1-a.wav"}
    assert report["remark"].dropna().to_dict() == {
        "1-2-b.wav": "the same file as 0-1-a.wav, which is in another fold or split"
    }


def spoil(path, kind):
    if kind == "text":
        path.write_text("no sound")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "truncated":
        path.write_bytes(path.read_bytes()[:-1000])
    elif kind == "nan":
        soundfile.write(path, np.full(100, np.nan), RATE, subtype="FLOAT")


@pytest.mark.parametrize("kind", ["text", "empty", "truncated", "nan"])
def test_a_bad_clip_among_good_ones_is_listed_and_skipped(root, kind):
    spoil(root / "0-2-a.wav", kind)
    clips = pack(root)
    assert len(clips.names) == len(clips.waveforms) == len(clips.targets) == len(clips.folds) == 7
    assert "0-2-a.wav" not in clips.names
    np.testing.assert_allclose(clips.read([2])[0], noise(3), atol=STEP)  # 0-2-b.wav moved up
    rejected = clips.clips_report.query("status == 'rejected'")
    assert rejected["clip"].tolist() == ["0-2-a.wav"]
    reason = rejected["reason"].iloc[0]
    assert reason.startswith("0-2-a.wav")
    assert str(root) not in reason


@pytest.mark.parametrize(("lost", "message"), [("0-", "no clip of class 'white'"), ("", "none of its clips")])
def test_a_lost_class_is_an_error(root, lost, message):
    for path in root.glob(f"{lost}*.wav"):
        spoil(path, "text")
    with pytest.raises(DataError, match=f"Noise .*{message}.*0-1-a.wav is no sound file"):
        pack(root)
    assert not (root.parent / "packed" / "set.clips.csv").exists()
    with pytest.raises(DataError, match=message):
        pack(root)


def test_a_lost_fold_is_an_error(root):
    for path in root.glob("*-2-*.wav"):
        spoil(path, "empty")
    with pytest.raises(DataError, match="no clip of fold 2 can be used"):
        pack(root)


def test_too_little_space_is_told_before_writing(root, monkeypatch):
    monkeypatch.setattr(packing.shutil, "disk_usage", lambda folder: SimpleNamespace(free=100))
    with pytest.raises(DataError, match=r"0\.0 GiB of free space, but set\.h5 needs"):
        pack(root)
    assert [path.name for path in (root.parent / "packed").iterdir()] == [".set.lock"]


# --- when it is done again ---------------------------------------------------------------------------------------


def touch_clip(root, path):
    os.utime(root / "0-1-a.wav", (1, 1))


def truncate(root, path):
    path.write_bytes(path.read_bytes()[:-100])


def change_report(root, path):
    report = path.with_name("set.clips.csv")
    report.write_text(report.read_text().replace("ok", "OK"))


def remove_report(root, path):
    path.with_name("set.clips.csv").unlink()


def replace_by_text(root, path):
    path.write_text("no HDF5")


def test_a_finished_file_is_opened_and_not_remade(root):
    clips = pack(root)
    before = clips.path.stat()
    assert pack(root).path.stat() == before


@pytest.mark.parametrize("change", [change_report, remove_report])
def test_a_lost_report_is_written_again_without_packing(root, change):
    clips = pack(root)
    before, report = clips.path.stat(), clips.report_path.read_text()
    change(root, clips.path)
    assert pack(root).path.stat() == before
    assert clips.report_path.read_text() == report


@pytest.mark.parametrize("change", [touch_clip, truncate, replace_by_text])
def test_what_changed_is_packed_again(root, change):
    clips = pack(root)
    before = clips.path.stat().st_ino, clips.path.stat().st_mtime_ns
    change(root, clips.path)
    again = pack(root)
    assert (again.path.stat().st_ino, again.path.stat().st_mtime_ns) != before
    np.testing.assert_allclose(again.read([0])[0], noise(0), atol=STEP)
    assert (again.clips_report["status"] == "ok").all()


@pytest.mark.parametrize("options", [{"sample_rate": 8000}, {"seconds": 0.25}])
def test_other_settings_are_packed_again(root, options):
    assert pack(root).waveforms.shape == (8, 8000)
    assert pack(root, **options).waveforms.shape == (8, 4000)


def test_a_killed_packing_is_never_taken_for_finished(root):
    program = (
        "import sys, time; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
        "from test_packed import pack, packing\n"
        "packing.shutil.copyfileobj = lambda *a: time.sleep(60)\n"
        "pack(Path(sys.argv[2]))"
    )
    here = os.path.dirname(os.path.abspath(__file__))
    process = subprocess.Popen([sys.executable, "-c", program, here, str(root)])
    folder = root.parent / "packed"
    deadline = time.monotonic() + 30
    while not list(folder.glob(".set.*.part.h5")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(list(folder.glob(".set.*.part.h5"))) == 1
    assert not (folder / "set.h5").exists()
    assert len(pack(root).names) == 8
    assert sorted(path.name for path in folder.iterdir()) == [
        ".set.lock",
        ".set.report.json",
        "set.clips.csv",
        "set.h5",
    ]


# --- reading --------------------------------------------------------------------------------------------------------


def test_worker_processes_read_the_same(root):
    clips = pack(root)
    expected = clips.read([3, 1])
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(clips)).read([3, 1]), expected)
    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as pool:
        np.testing.assert_array_equal(pool.submit(clips.read, [3, 1]).result(), expected)


def test_the_authors_own_files_can_be_read(tmp_path):
    path = tmp_path / "eval.h5"
    waveforms = (np.arange(3 * 320).reshape(3, 320) - 400).astype(np.int16)
    with h5py.File(path, "w") as store:
        store["audio_name"] = np.array([b"Ya.wav", b"Yb.wav", b"Yc.wav"])
        store.create_dataset("waveform", data=waveforms, chunks=(1, 320), compression="gzip")
        store["target"] = np.eye(3, 527, dtype=bool)
        store.attrs["sample_rate"] = np.int32(32_000)
    clips = PackedClips(path)
    assert clips.names == ["Ya.wav", "Yb.wav", "Yc.wav"]
    assert clips.classes[0] == "Speech"
    assert len(clips.classes) == 527
    assert clips.groups.tolist() == clips.names
    assert clips.folds.tolist() == [0, 0, 0]
    assert clips.seconds == 0.01
    assert len(clips.fingerprint) == 64
    np.testing.assert_array_equal(clips.read([2, 0, 2]), audio.from_int16(waveforms[[2, 0, 2]]))
    with pytest.raises(DataError, match="report on the clips"):
        _ = clips.clips_report


def test_what_is_no_packed_data_set_is_refused(tmp_path):
    (tmp_path / "text.h5").write_text("no HDF5")
    with pytest.raises(DataError, match="cannot be opened"):
        PackedClips(tmp_path / "text.h5")
    with h5py.File(tmp_path / "other.h5", "w") as store:
        store["waveform"] = np.zeros(3)
    with pytest.raises(DataError, match="has no audio_name, target"):
        PackedClips(tmp_path / "other.h5")


# --- segments ------------------------------------------------------------------------------------------------------


def test_long_clips_become_rows(root):
    audio.save(root / "0-1-b.wav", noise(20, 2.3 * SECONDS), RATE)
    audio.save(root / "1-1-a.wav", noise(21, 1.005 * SECONDS), RATE)  # no segment for so short an end
    clips = pack(root, segments=True)
    assert clips.names[:4] == ["0-1-a.wav", "0-1-b.wav#0", "0-1-b.wav#1", "0-1-b.wav#2"]
    assert clips.clip_of_row.tolist() == [0, 1, 1, 1, 2, 3, 4, 5, 6, 7]
    assert clips.clip_of_row.dtype == np.int64
    assert clips.clip_names == as_dataset(root).clips["clip"].tolist()
    assert clips.folds.tolist() == [1, 1, 1, 1, 2, 2, 1, 1, 2, 2]
    assert len(clips.targets) == len(clips.groups) == len(clips.splits) == len(clips) == 10
    joined = clips.read([1, 2, 3]).ravel()
    np.testing.assert_allclose(joined[: round(2.3 * 8000)], noise(20, 2.3 * SECONDS), atol=STEP)
    assert not joined[round(2.3 * 8000) :].any()
    assert clips.clips_report["remark"].dropna().tolist() == ["lasts 1.15 s: cut into 3 rows of 0.5 s"]
    assert pack(root, segments=True).path.stat() == clips.path.stat()


def test_without_segments_a_row_is_a_clip(root):
    clips = pack(root)
    assert clips.clip_of_row.tolist() == list(range(8))
    assert clips.clip_names == clips.names


# --- shards ---------------------------------------------------------------------------------------------------------


def test_shards_are_read_as_one(root):
    spoil(root / "0-1-b.wav", "text")
    audio.save(root / "1-1-b.wav", noise(30, 1.5 * SECONDS), RATE)
    (root / "1-2-b.wav").write_bytes((root / "0-1-a.wav").read_bytes())
    whole = pack(root, segments=True)
    expected = {name: getattr(whole, name) for name in ("names", "clip_names", "targets", "folds", "groups", "splits")}
    expected["clip_of_row"], waveforms = whole.clip_of_row, np.array(whole.waveforms)
    report = whole.report_path.read_text()
    clips = pack(root, segments=True, shards=3)
    assert [path.name for path in clips.paths] == ["set.part00.h5", "set.part01.h5", "set.part02.h5"]
    assert not whole.path.exists()  # it would take as much room again
    assert clips.path == whole.path
    for name, values in expected.items():
        np.testing.assert_array_equal(getattr(clips, name), values, err_msg=name)
    assert clips.report_path.read_text() == report
    assert (clips.evidence, clips.classes, clips.seconds) == ("partial", ("white", "pink"), SECONDS)
    np.testing.assert_array_equal(clips.read_int16(range(8)), waveforms)
    np.testing.assert_array_equal(clips.read_int16([7, 0, 3, 0]), waveforms[[7, 0, 3, 0]])
    np.testing.assert_array_equal(clips.waveforms[2:-1:2], waveforms[2:-1:2])
    np.testing.assert_array_equal(clips.waveforms[-1], waveforms[-1])
    np.testing.assert_array_equal(np.concatenate(list(clips.target_blocks())), clips.targets)
    with pytest.raises(IndexError):
        clips.read([8])


def test_only_the_shard_that_changed_is_packed_again(root):
    before = [path.stat() for path in pack(root, shards=4).paths]
    touch_clip(root, None)
    after = [path.stat() for path in pack(root, shards=4).paths]
    assert [one == other for one, other in zip(before, after, strict=True)] == [False, True, True, True]


def test_shards_of_different_settings_do_not_mix(root):
    folder = root.parent / "packed"
    pack(root, shards=2)
    datasets.pack(as_dataset(root), folder / "short.h5", RATE, SECONDS / 2)
    with pytest.raises(DataError, match=r"short.h5 doesn't belong to .*part00"):
        PackedClips([folder / "set.part00.h5", folder / "short.h5"])


# --- real recordings ----------------------------------------------------------------------------------------------


def excerpt(dataset, names):
    """The data set with the clips of these names only."""
    clips = dataset.clips[dataset.clips["clip"].isin(names)].reset_index(drop=True)
    rows = [
        Clip(row.clip, row.path, row.labels, row.fold, row.group, row.split) for row in clips.itertuples(index=False)
    ]
    return assemble(dataset.name, dataset.title, dataset.root, rows, dict(enumerate(dataset.classes)), 2000)


def test_real_loud_and_long_clips(real_data, tmp_path):
    esc10 = datasets.load("esc50", datasets.find("esc50", real_data))
    some = excerpt(esc10, ["4-167642-A-21.ogg", "1-17808-B-12.ogg", "4-164661-B-12.ogg", "1-100032-A-0.ogg"])
    clips = datasets.pack(some, tmp_path / "esc10.h5", sample_rate=32_000, seconds=5)
    report = clips.clips_report.set_index("clip")
    assert report["peak"].max() == pytest.approx(1.0672, abs=1e-4)
    assert report.loc["4-167642-A-21.ogg", "remark"] == "peak 1.067: saturated when stored"
    assert report["seconds"].round(4).sort_values().tolist() == [3.6441, 5.001, 5.001, 7.2403]
    loud = audio.load(esc10.root / "audio" / "4-167642-A-21.ogg", 32_000, 5)
    stored = clips.read([clips.names.index("4-167642-A-21.ogg")])[0]
    assert np.abs(loud).max() > 1
    np.testing.assert_allclose(stored, loud.clip(-1, 1), atol=STEP)  # a wrapped sample would be off by 2


def test_real_twins(real_data, tmp_path):
    ravdess = datasets.load("ravdess", datasets.find("ravdess", real_data))
    twins = ["03-01-03-01-02-01-07.wav", "03-01-03-01-02-02-07.wav"]
    clips = datasets.pack(excerpt(ravdess, [*twins, "03-01-02-01-01-02-01.wav"]), tmp_path / "r.h5", 32_000, 4)
    report = clips.clips_report.set_index("clip")
    assert report["duplicate_of"].dropna().to_dict() == {twins[1]: twins[0]}
    assert pd.isna(report.loc[twins[1], "remark"])  # one actor, one fold
    assert report.loc["03-01-02-01-01-02-01.wav", "remark"] == "2 channels: averaged"
