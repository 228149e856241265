"""`panns pack`, and what a plan does with packed data: shards, the authors' files, data that changes during a run."""

import os
import shutil
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from pannslib import audio, catalogue, cli, datasets, execution
from pannslib.datasets import miniature
from pannslib.errors import DataError


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A data root with a small AudioSet: the miniature, without the mark that says it is one."""
    root = tmp_path_factory.mktemp("whole")
    folder = root / "raw" / "audioset"
    miniature.make("audioset", folder, seconds=1.0, unbalanced=44, balanced_per_class=1, eval_per_class=1)
    (folder / "miniature.json").unlink()
    return root


@pytest.fixture
def root(whole, tmp_path, monkeypatch) -> Path:
    """A copy of `whole` to change; what is written goes elsewhere."""
    monkeypatch.setenv("PANNS_HOME", str(tmp_path / "home"))
    return Path(shutil.copytree(whole, tmp_path / "data"))


@pytest.fixture
def panns(monkeypatch, capsys):
    """Call the command line: (exit code, stdout, stderr)."""

    def call(*arguments) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["panns", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        told = capsys.readouterr()
        return ended.value.code, told.out, told.err

    return call


def clip(root: Path, number: int = 0) -> Path:
    return sorted((root / "raw" / "audioset" / "audios" / "eval_segments").glob("*.wav"))[number]


# --- the command ---------------------------------------------------------------------------------------------------


def test_one_shard_after_the_other_and_then_all(root, panns, tmp_path):
    folder = tmp_path / "home" / "data" / "packed" / "smoke"
    options = ("--profile", "smoke", "--data-root", root, "--cores", 1)
    assert panns("pack", "--shard", 1, *options)[0] == 0
    assert [path.name for path in folder.glob("[!.]*")] == ["audioset_1s.part01.h5"]
    code, told, _ = panns("pack", "--task", "audioset", *options)
    assert code == 0
    assert "132 clips (partial) of 1 s in" in told
    assert "audioset_1s.part00.h5" in told
    assert "0 left out" in told
    assert sorted(path.name for path in folder.glob("[!.]*")) == [
        "audioset_1s.clips.csv",
        "audioset_1s.part00.h5",
        "audioset_1s.part01.h5",
    ]


def test_clips_that_are_left_out_are_named_with_the_reason(root, panns):
    for number in range(6):
        clip(root, number).write_text("no sound")
    code, told, _ = panns("pack", "--task", "audioset", "--profile", "smoke", "--data-root", root, "--cores", 1)
    assert code == 0
    assert "6 left out; " in told
    assert told.count(" is left out: ") == 5
    assert f"{clip(root).name} is left out: " in told
    assert "and 1 more, with status rejected in that file" in told


def test_faults_of_the_call_are_told(root, panns):
    code, _, told = panns("pack", "--profile", "smoke", "--shard", 2, "--data-root", root)
    assert (code, told) == (2, "panns: There is no shard 2 of AudioSet: they are numbered from 0 to 1.\n")
    code, _, told = panns("pack", "--profile", "smoke", "--task", "esc51")
    assert code == 2
    assert "no data set 'esc51'" in told


def test_a_shard_that_fails_tells_it_where_the_run_looks(root, panns, monkeypatch, tmp_path):
    monkeypatch.setattr(datasets.packing.shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(1, 1, 0))
    code, _, told = panns("pack", "--profile", "smoke", "--shard", 0, "--data-root", root)
    assert code == 2
    assert "GiB of free space" in told
    written = tmp_path / "home" / "runs" / "smoke" / "pack_audioset_00" / "error.txt"
    assert f"panns: {written.read_text()}" in told


# --- a plan --------------------------------------------------------------------------------------------------------


def test_a_changed_clip_changes_what_is_packed_anew(root):
    digest = catalogue.plan("smoke", root).packing_digest("audioset")
    assert catalogue.plan("smoke", root).packing_digest("audioset") == digest
    os.utime(clip(root), (1, 1))
    assert catalogue.plan("smoke", root).packing_digest("audioset") != digest


def test_data_that_changed_since_the_run_began_is_told_by_name(root):
    plan = catalogue.plan("smoke", root)
    plan.data_stamp("audioset")
    plan.check_unchanged("audioset")
    plan.check_unchanged("esc50")  # a miniature that this plan hasn't read
    changed, gone = clip(root), clip(root, 1)
    os.utime(changed, (1, 1))
    gone.unlink()
    with pytest.raises(DataError, match="changed since the run began") as fault:
        plan.check_unchanged("audioset")
    assert f"1 gone ({gone.name})" in str(fault.value)
    assert f"1 other files ({changed.name})" in str(fault.value)
    (root / "raw/audioset/metadata/eval_segments.csv").write_text("no list\n")
    with pytest.raises(DataError, match=r"changed since the run began: .*eval_segments\.csv, line 1"):
        plan.check_unchanged("audioset")


def test_a_miniature_that_changes_during_a_run_is_told_by_name(tmp_path, monkeypatch):
    monkeypatch.setenv("PANNS_HOME", str(tmp_path))
    plan = catalogue.plan("smoke")
    plan.packed("esc50")
    plan.check_unchanged("esc50")
    changed = next((plan.dataset("esc50").root / "audio").glob("*.wav"))
    os.utime(changed, (1, 1))
    with pytest.raises(DataError, match=rf"1 other files \({changed.name}\).*Delete the folder"):
        plan.check_unchanged("esc50")
    catalogue.plan("smoke").check_unchanged("esc50")  # of another run


def test_a_job_whose_data_changes_meanwhile_is_not_done(root, monkeypatch):
    plan = catalogue.plan("smoke", root)

    def papermill(*_):
        os.utime(clip(root), (1, 1))
        return 0

    monkeypatch.setattr(execution, "_run_papermill", papermill)
    with pytest.raises(DataError, match=r"changed since the run began: 1 other files \(Y.*\.wav\)"):
        execution.execute(plan, "data_audit", "smoke", str(root))
    assert "changed since the run began" in (plan.runs / "data_audit" / "error.txt").read_text()
    assert not (plan.runs / "data_audit" / "done.json").exists()


def test_the_authors_packed_files_are_used_as_they_are(tmp_path, monkeypatch, panns):
    monkeypatch.setenv("PANNS_HOME", str(tmp_path / "home"))
    folder = tmp_path / "data" / "raw" / "audioset" / "hdf5s" / "waveforms"
    names = ("balanced_train", "unbalanced_train/unbalanced_train_part00", "eval")
    waveforms = []
    for number, name in enumerate(names):
        path = folder / f"{name}.h5"
        path.parent.mkdir(parents=True, exist_ok=True)
        waveforms.append(np.random.default_rng(number).integers(-9000, 9000, (2, 320_000)).astype(np.int16))
        with h5py.File(path, "w") as store:
            store["audio_name"] = np.array([f"Yclip{number}{row}.wav".encode() for row in range(2)])
            store["waveform"], store["target"] = waveforms[-1], np.eye(2, 527, dtype=bool)
    plan = catalogue.plan("smoke", tmp_path / "data")
    assert plan.comes_packed("audioset")
    packed = plan.packed("audioset")
    assert packed.splits.tolist() == [split for split in ("balanced_train", "unbalanced_train", "eval") for _ in "ab"]
    assert (packed.seconds, packed.sample_rate, packed.evidence) == (1.0, 32_000, "partial")
    np.testing.assert_array_equal(packed.read_int16(range(6)), np.concatenate(waveforms)[:, :32_000])
    np.testing.assert_array_equal(packed.read([3])[0], audio.from_int16(waveforms[1][1, :32_000]))
    assert not list((tmp_path / "home").rglob("*.h5"))
    code, told, _ = panns("pack", "--profile", "smoke", "--task", "audioset", "--data-root", tmp_path / "data")
    assert code == 0
    assert "32,000 Hz is assumed" in told
    code, _, told = panns("pack", "--profile", "smoke", "--shard", 0, "--data-root", tmp_path / "data")
    assert code == 2
    assert "come packed, so there is nothing to pack" in told
