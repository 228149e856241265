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


def written(path):
    """Which file this is and when it was written."""
    return path.stat().st_ino, path.stat().st_mtime_ns


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
    before = written(clips.path)
    assert written(pack(root).path) == before


@pytest.mark.parametrize("change", [change_report, remove_report])
def test_a_lost_report_is_written_again_without_packing(root, change):
    clips = pack(root)
    before, report = written(clips.path), clips.report_path.read_text()
    change(root, clips.path)
    assert written(pack(root).path) == before
    assert clips.report_path.read_text() == report


@pytest.mark.parametrize("change", [touch_clip, truncate, replace_by_text])
def test_what_changed_is_packed_again(root, change):
    clips = pack(root)
    before = written(clips.path)
    change(root, clips.path)
    again = pack(root)
    assert written(again.path) != before
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


def authors_file(path, names, samples=320, seed=0, **options):
    """A file as the authors' code writes it: three arrays, and attributes only if they are given; its waveforms."""
    generator = np.random.default_rng(seed)
    waveforms = generator.integers(-20_000, 20_000, (len(names), samples)).astype(np.int16)
    path.parent.mkdir(parents=True, exist_ok=True)
    attributes = options.pop("attributes", {})
    with h5py.File(path, "w") as store:
        store["audio_name"] = np.array([name.encode() for name in names])
        store.create_dataset("waveform", data=waveforms, **options)
        store["target"] = generator.random((len(names), 527)) < 0.01
        store.attrs.update(attributes)
    return waveforms


def test_the_authors_own_files_can_be_read(tmp_path):
    path = tmp_path / "eval.h5"
    options = {"chunks": (1, 320), "compression": "gzip", "attributes": {"sample_rate": np.int32(32_000)}}
    waveforms = authors_file(path, ["Ya.wav", "Yb.wav", "Yc.wav"], **options)
    clips = PackedClips(path)
    assert clips.names == ["Ya.wav", "Yb.wav", "Yc.wav"]
    assert clips.classes[0] == "Speech"
    assert len(clips.classes) == 527
    assert clips.groups.tolist() == clips.names
    assert clips.folds.tolist() == [0, 0, 0]
    assert clips.splits.tolist() == ["eval"] * 3
    assert clips.seconds == 0.01
    assert clips.notes == ()
    assert len(clips.fingerprint) == 64
    np.testing.assert_array_equal(clips.read([2, 0, 2]), audio.from_int16(waveforms[[2, 0, 2]]))
    with pytest.raises(DataError, match="report on the clips"):
        _ = clips.clips_report


def test_the_authors_folder_is_a_data_set_without_sound_files(tmp_path):
    folder = tmp_path / "raw" / "audioset" / "hdf5s" / "waveforms"
    stored = [
        authors_file(folder / "balanced_train.h5", ["Ya.wav", "Yb.wav"], seed=1),
        authors_file(folder / "unbalanced_train" / "unbalanced_train_part00.h5", ["Yc.wav"], seed=2),
        authors_file(folder / "unbalanced_train" / "unbalanced_train_part01.h5", ["YYd.wav", "Ye.wav"], seed=3),
        authors_file(folder / "eval.h5", ["Yf.wav"], seed=4),
    ]
    root = datasets.find("audioset", tmp_path)
    dataset = datasets.load("audioset", root)
    assert dataset.clips["clip"].tolist() == ["Ya.wav", "Yb.wav", "Yc.wav", "YYd.wav", "Ye.wav", "Yf.wav"]
    assert dataset.clips["group"].tolist() == ["a", "b", "c", "Yd", "e", "f"]
    assert dataset.evidence == "partial"
    assert len(dataset.classes) == 527
    clips = datasets.pack(dataset, tmp_path / "packed" / "audioset_0.01s.h5", 32_000, 0.01, shards=4)
    assert len(clips.paths) == 4
    assert clips.paths[1].name == "unbalanced_train_part00.h5"
    assert not list((tmp_path / "packed").glob("*.h5"))  # nothing was packed
    assert clips.splits.tolist() == dataset.clips["split"].tolist()
    np.testing.assert_array_equal(clips.targets, dataset.targets)
    np.testing.assert_array_equal(clips.read_int16(range(6)), np.concatenate(stored))
    sentence = "balanced_train.h5 does not tell its sample rate: 32,000 Hz is assumed, at which its clips last 0.01 s."
    assert clips.notes == (sentence,)
    assert sentence in dataset.notes
    report = clips.clips_report
    assert report["clip"].tolist() == clips.names
    assert report["peak"].to_numpy() == pytest.approx(np.abs(clips.read(range(6))).max(1), rel=1e-5)

    shorter = datasets.pack(dataset, tmp_path / "packed" / "short.h5", 32_000, 0.005)
    np.testing.assert_array_equal(shorter.read_int16([5, 0]), np.concatenate(stored)[[5, 0], :160])
    longer = datasets.pack(dataset, tmp_path / "packed" / "long.h5", 32_000, 0.02)
    assert longer.seconds == 0.02
    assert not longer.read_int16([3])[0, 320:].any()
    with pytest.raises(DataError, match="come packed, at 32,000 Hz, but are needed at 16,000 Hz"):
        datasets.pack(dataset, tmp_path / "packed" / "other.h5", 16_000, 0.01)

    truncate(None, folder / "eval.h5")
    with pytest.raises(DataError, match=r"eval\.h5 cannot be opened"):
        datasets.load("audioset", root)


def test_what_is_no_packed_data_set_is_refused(tmp_path):
    (tmp_path / "text.h5").write_text("no HDF5")
    with pytest.raises(DataError, match="cannot be opened"):
        PackedClips(tmp_path / "text.h5")
    with h5py.File(tmp_path / "other.h5", "w") as store:
        store["waveform"] = np.zeros(3)
    with pytest.raises(DataError, match="has no audio_name, target"):
        PackedClips(tmp_path / "other.h5")
    with h5py.File(tmp_path / "floats.h5", "w") as store:
        store["audio_name"], store["target"] = np.array([b"a"]), np.ones((1, 2), bool)
        store["waveform"] = np.zeros((1, 3))
    with pytest.raises(DataError, match=r"its waveform is float64 \(1, 3\)"):
        PackedClips(tmp_path / "floats.h5")
    with h5py.File(tmp_path / "uneven.h5", "w") as store:
        store["audio_name"], store["target"] = np.array([b"a"]), np.ones((1, 2), bool)
        store["waveform"] = np.zeros((2, 3), np.int16)
    with pytest.raises(DataError, match="contradicts itself: 1 names, 2 waveforms, 1 targets"):
        PackedClips(tmp_path / "uneven.h5")


class Batches:
    """What a DataLoader reads batch by batch: the rows of a packed data set."""

    def __init__(self, clips):
        self.clips = clips

    def __len__(self):
        return len(self.clips)

    def __getitem__(self, indices):
        return self.clips.read_int16(indices)


@pytest.mark.parametrize(("method", "compressed"), [("fork", False), ("fork", True), ("spawn", False)])
def test_a_data_loader_with_workers_reads_the_same(root, method, compressed):
    from torch.utils.data import DataLoader

    clips = pack(root, shards=2)
    if compressed:
        for path in clips.paths:
            compress(path)
        clips = PackedClips(clips.paths)
    expected = clips.read_int16(range(8))
    batches = [np.array([7, 1, 1]), np.array([4]), np.array([0, 5, 2]), np.array([3, 6])]
    loader = DataLoader(
        Batches(clips), batch_size=None, sampler=batches, num_workers=2, multiprocessing_context=get_context(method)
    )
    read = list(loader)
    assert len(read) == 4
    for batch, indices in zip(read, batches, strict=True):
        np.testing.assert_array_equal(batch.numpy(), expected[indices])


def compress(path):
    """Store the waveforms of a packed file in compressed chunks."""
    with h5py.File(path, "r+") as store:
        waveforms = store["waveform"][:]
        del store["waveform"]
        store.create_dataset("waveform", data=waveforms, chunks=(1, 100), compression="gzip")


def test_compressed_files_are_read_like_others(root):
    clips = pack(root)
    expected = np.array(clips.waveforms)
    compress(clips.path)
    clips = PackedClips(clips.path)
    assert not isinstance(clips.waveforms, np.memmap)
    np.testing.assert_array_equal(clips.read_int16([5, 0, 5, 2]), expected[[5, 0, 5, 2]])
    np.testing.assert_array_equal(clips.waveforms[1:7:3], expected[1:7:3])
    np.testing.assert_array_equal(clips.waveforms[-1], expected[-1])


def test_a_truncated_file_is_told_by_name(root):
    clips = pack(root, shards=2)
    truncate(root, clips.paths[1])
    with pytest.raises(DataError, match=r"set\.part01\.h5 cannot be opened as HDF5: .*truncated"):
        PackedClips(clips.paths)


def test_full_scale_is_clipped_and_never_wraps(root):
    loud = np.linspace(-3, 3, 8000).astype(np.float32)
    soundfile.write(root / "0-1-a.wav", loud, RATE, subtype="FLOAT")
    stored = pack(root).read_int16([0])[0].astype(int)
    assert (np.diff(stored) >= 0).all()
    assert (stored.min(), stored.max()) == (-32_767, 32_767)


# --- clips that are short, long, silent, damaged -------------------------------------------------------------------


def test_odd_clips_are_told_by_name(root):
    audio.save(root / "0-1-a.wav", np.zeros(8000), RATE)
    audio.save(root / "0-1-b.wav", noise(1, 0.01), RATE)
    audio.save(root / "0-2-a.wav", noise(2, 20.0), RATE)
    spoil(root / "0-2-b.wav", "truncated")
    clips = pack(root)
    report = clips.clips_report.set_index("clip")
    assert report["remark"].dropna().to_dict() == {
        "0-1-a.wav": "silent: all samples are zero",
        "0-1-b.wav": "shorter than 0.5 s: filled up with silence",
        "0-2-a.wav": "lasts 20.00 s: only the first 0.5 s are used",
    }
    assert report["status"].drop("0-2-b.wav").eq("ok").all()
    assert "0-2-b.wav is truncated" in report.loc["0-2-b.wav", "reason"]
    assert not clips.read([1])[0, 160:].any()


# --- the disk fills up, the folder changes ---------------------------------------------------------------------------

FULL = """
import resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_packed import as_dataset, datasets, packing, RATE, SECONDS
packing.SPOOL_BYTES = int(sys.argv[3])
root = Path(sys.argv[2])
path = root.parent / "packed" / "set.h5"
shard = lambda number: datasets.pack_shard(as_dataset(root), path, number, 2, RATE, SECONDS)
shard(0)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[4]), resource.RLIM_INFINITY))
try:
    shard(1)
except Exception as error:
    print(f"{type(error).__name__}: {error}")
"""


@pytest.mark.parametrize("spool", [1, 1 << 28])
@pytest.mark.parametrize("limit", [10_000, 1_100_000])
def test_a_disk_that_fills_up_is_told_and_nothing_finished_is_lost(root, spool, limit):
    here = os.path.dirname(os.path.abspath(__file__))
    command = [sys.executable, "-c", FULL, here, str(root), str(spool), str(limit)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ended.stderr == ""
    assert ended.stdout.startswith("DataError: ")
    assert "set.part01.h5 could not be written: file too large" in ended.stdout
    assert "what is packed already is kept" in ended.stdout
    folder = root.parent / "packed"
    assert sorted(path.name for path in folder.glob("[!.]*")) == ["set.part00.h5"]
    assert not list(folder.glob("*.part.*"))
    before = written(folder / "set.part00.h5")
    assert len(pack(root, shards=2)) == 8
    assert written(folder / "set.part00.h5") == before


def test_a_real_disk_that_is_full(root, tmp_path):
    program = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
        "from test_packed import datasets, as_dataset, packing, RATE, SECONDS\n"
        "packing._check_space = lambda *arguments: None\n"  # as if another program had filled it in between
        "try:\n"
        "    datasets.pack(as_dataset(Path(sys.argv[2])), Path(sys.argv[3]) / 'set.h5', RATE, SECONDS)\n"
        "except Exception as error:\n"
        "    print(f'{type(error).__name__}: {error}')\n"
        "print([path.name for path in Path(sys.argv[3]).glob('[!.]*')])"
    )
    disk, here = tmp_path / "disk", os.path.dirname(os.path.abspath(__file__))
    disk.mkdir()
    mount = f"mount -t tmpfs -o size=64k none '{disk}' && exec \"$@\""
    shell = ["unshare", "--mount", "--map-root-user", "sh", "-c", mount, "sh"]
    try:
        subprocess.run([*shell, "true"], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no small disk can be mounted here")
    ended = subprocess.run([*shell, sys.executable, "-c", program, here, str(root), str(disk)], capture_output=True)
    told = ended.stdout.decode()
    assert ended.stderr == b""
    assert "DataError" in told
    assert "set.h5 could not be written: no space left on device" in told
    assert told.endswith("[]\n")


def test_a_folder_that_changes_while_it_is_packed_is_told(root, monkeypatch):
    read = packing.read_clip

    def read_and_change(path, *options):
        if path.name == "1-1-a.wav":
            audio.save(root / "1-1-b.wav", noise(40), RATE)
            (root / "0-1-b.wav").unlink()
        return read(path, *options)

    before = written(pack(root, shards=2).paths[0])
    touch = root / "1-2-b.wav"
    os.utime(touch, (1, 1))
    monkeypatch.setattr(packing, "read_clip", read_and_change)
    with pytest.raises(DataError, match=r"changed while it was packed: 1-1-b\.wav\. .*finished are kept"):
        pack(root, shards=2)  # the second shard, of class 1
    assert pack_paths(root) == ["set.part00.h5", "set.part01.h5"]
    assert written(root.parent / "packed" / "set.part00.h5") == before


def pack_paths(root):
    return sorted(path.name for path in (root.parent / "packed").glob("[!.]*.h5"))


def test_what_is_other_now_is_told_by_name(root):
    before = as_dataset(root)
    assert before.stamp == as_dataset(root).stamp
    assert before.differences(as_dataset(root)) == []
    touch_clip(root, None)
    (root / "0-1-b.wav").rename(root / "1-1-c.wav")
    assert before.changed() == ["0-1-a.wav", "0-1-b.wav"]
    assert before.differences(as_dataset(root)) == [
        "1 gone (0-1-b.wav)",
        "1 new (1-1-c.wav)",
        "1 other files (0-1-a.wav)",
    ]


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
    before = written(clips.path)
    assert written(pack(root, segments=True).path) == before


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
    before = [written(path) for path in pack(root, shards=4).paths]
    touch_clip(root, None)
    after = [written(path) for path in pack(root, shards=4).paths]
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
    assert "the same file" not in report.loc[twins[1], "remark"]  # one actor, one fold
    assert report.loc["03-01-02-01-01-02-01.wav", "remark"].startswith("2 channels: averaged; shorter than 4 s")


# --- files that are damaged ------------------------------------------------------------------------------------------


def like_the_authors(path, rows=4, names=None, kind="<i2", **storage):
    """A packed file as the authors' are, of noise."""
    with h5py.File(path, "w") as store:
        store["audio_name"] = np.array(names or [f"Yclip{row}.wav".encode() for row in range(rows)], "S20")
        waveform = np.random.default_rng(0).integers(-9000, 9000, (rows, 3200)).astype(kind)
        store.create_dataset("waveform", data=waveform, **storage)
        store["target"] = np.ones((rows, 3), bool)
    return path


def test_a_damaged_chunk_names_file_row_and_clip(tmp_path):
    path = like_the_authors(tmp_path / "eval.h5", chunks=(1, 3200), compression="gzip")
    with h5py.File(path) as store:
        chunk = store["waveform"].id.get_chunk_info(2)
    with open(path, "r+b") as file:
        file.seek(chunk.byte_offset)
        file.write(bytes(100))
    clips = PackedClips(path)
    assert clips.read_int16([0, 1, 3]).any()
    with pytest.raises(DataError, match=r"eval\.h5, row 2 \(Yclip2\.wav\): the waveform can't be read"):
        clips.read_int16([1, 2])


def test_a_name_that_is_no_utf8_names_file_and_row(tmp_path):
    good = like_the_authors(tmp_path / "balanced_train.h5")
    bad = like_the_authors(tmp_path / "eval.h5", 2, [b"Ya.wav", b"Y\xff.wav"])
    with pytest.raises(DataError, match=r"eval\.h5, row 1: its audio_name is no UTF-8"):
        _ = PackedClips([good, bad]).names


def test_samples_of_the_other_byte_order_are_read(tmp_path):
    other = PackedClips(like_the_authors(tmp_path / "big.h5", kind=">i2"))
    own = PackedClips(like_the_authors(tmp_path / "little.h5"))
    np.testing.assert_array_equal(other.read_int16([2, 0]), own.read_int16([2, 0]))


def test_a_clip_that_is_shorter_than_wanted_is_remarked(root):
    audio.save(root / "0-1-a.wav", noise(0, 0.497), RATE)
    audio.save(root / "0-1-b.wav", noise(1, 0.49), RATE)
    remarks = pack(root).clips_report.set_index("clip")["remark"]
    assert remarks.dropna().to_dict() == {"0-1-b.wav": "shorter than 0.5 s: filled up with silence"}
