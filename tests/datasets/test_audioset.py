"""AudioSet: the lists of segments, the files of their clips, what may be missing and what may not."""

import h5py
import numpy as np
import pytest

from pannslib import audio, datasets
from pannslib.datasets import audioset
from pannslib.errors import DataError

LABELS = 'index,mid,display_name\n0,/m/a,"Speech"\n1,/m/b,"Siren"\n2,/m/c,"Dog, bark"\n'
REMARKS = "# Segments csv\n# num_ytids=2\n# YTID, start_seconds, end_seconds, positive_labels\n"
SEGMENTS = {
    "balanced_train": '-aaaaaaaaaa, 30.000, 40.000, "/m/c,/m/a"\nbbbbbbbbbbb, 0.000, 10.000, "/m/a"\n',
    "eval": 'Yccccccccccc, 30.000, 40.000, "/m/c"\n',
}
FILES = {
    "balanced_train": ["Y-aaaaaaaaaa.wav", "part00/Ybbbbbbbbbbb.flac"],
    "eval": ["YYccccccccccc.wav"],
}


def make(root, segments=SEGMENTS, files=FILES, labels=LABELS, remarks=REMARKS):
    """An AudioSet folder with these lists and files."""
    (root / "metadata").mkdir(parents=True)
    (root / "metadata" / "class_labels_indices.csv").write_text(labels)
    for split, rows in segments.items():
        (root / "metadata" / f"{split}_segments.csv").write_text(remarks + rows)
    for split, names in files.items():
        for name in names:
            audio.save(root / "audios" / f"{split}_segments" / name, np.zeros(320), 32_000)
    return root


def test_the_official_layout(tmp_path):
    dataset = datasets.load("audioset", make(tmp_path))
    assert dataset.classes == ("Speech", "Dog, bark")
    assert dataset.clips["clip"].tolist() == ["Y-aaaaaaaaaa.wav", "Ybbbbbbbbbbb.flac", "YYccccccccccc.wav"]
    assert dataset.clips["path"].iloc[1] == "audios/balanced_train_segments/part00/Ybbbbbbbbbbb.flac"
    assert dataset.clips["split"].tolist() == ["balanced_train", "balanced_train", "eval"]
    assert dataset.folds == [0]
    np.testing.assert_array_equal(dataset.targets, [[True, True], [True, False], [False, True]])
    assert (dataset.evidence, dataset.expected_clips) == ("partial", 2_084_320)
    assert "unbalanced_train is not there." in dataset.notes
    assert all((tmp_path / path).is_file() for path in dataset.clips["path"])


def test_missing_and_surplus_clips_are_counted(tmp_path):
    files = {**FILES, "balanced_train": ["a/Ybbbbbbbbbbb.wav", "b/Ybbbbbbbbbbb.ogg", "Yother.wav", "Ynotes.txt.wav"]}
    dataset = datasets.load("audioset", make(tmp_path, files=files))
    assert dataset.clips["clip"].tolist() == ["Ybbbbbbbbbbb.wav", "YYccccccccccc.wav"]
    assert "balanced_train: 1 of 2 clips are not there." in dataset.notes
    assert "balanced_train: 2 files that the list doesn't name are ignored: notes.txt, other." in dataset.notes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"remarks": "# a\n# b\n# YTID, start, end, labels\n"}, "line 3: the remarks at the top must end with"),
        ({"remarks": "YTID,start_seconds,end_seconds,positive_labels\n"}, "line 1: the remarks"),
        (
            {"segments": {"eval": 'a, 0, 10, "/m/a"\nb, 0, 10, "/m/a,/m/x"\n'}, "files": {}},
            "line 5: the label id '/m/x'",
        ),
        (
            {"segments": {"eval": 'a, 0, 10, "/m/a"\na, 5, 15, "/m/b"\n'}, "files": {}},
            "line 5: the clip a is there already: .*line 4",
        ),
        (
            {"segments": {**SEGMENTS, "eval": 'bbbbbbbbbbb, 0, 10, "/m/a"\n'}},
            "eval_.*line 4: .* already: .*balanced_train",
        ),
        ({"segments": {"eval": "a, 0, 10\n"}, "files": {}}, "line 4: 3 values, but 4 belong there"),
        ({"segments": {"balanced_train": SEGMENTS["balanced_train"]}}, "eval_segments has sound, but its list"),
        ({"segments": {}, "files": {}}, "has no list of clips"),
        ({"files": {}}, "no clip of AudioSet is there"),
        ({"labels": "index,mid\n0,/m/a\n"}, "line 1: the header lacks display_name"),
        ({"labels": LABELS + "2,/m/d,Cat\n"}, "line 5: index '2'"),
        ({"labels": LABELS + "3,/m/c,Cat\n"}, "line 5: index '3' and mid '/m/c'"),
        ({"labels": LABELS + "x,/m/d,Cat\n"}, "line 5: index 'x'"),
    ],
)
def test_lists_that_cannot_be_right_are_refused(tmp_path, changes, message):
    with pytest.raises(DataError, match=message):
        datasets.load("audioset", make(tmp_path, **changes))


def test_as_many_clips_as_the_authors_had_are_the_real_data_set(tmp_path, monkeypatch):
    segments = {**SEGMENTS, "unbalanced_train": 'd, 0, 10, "/m/b"\n'}
    files = {**FILES, "unbalanced_train": ["Yd.wav"]}
    monkeypatch.setattr(audioset, "AUTHORS_COPY", {"balanced_train": 2, "unbalanced_train": 1, "eval": 1})
    dataset = datasets.load("audioset", make(tmp_path, segments, files))
    assert dataset.evidence == "real"
    assert "4 of the official 2,084,320 clips are there." in dataset.notes


def packed(path, names):
    """One of the authors' packed files, of silence."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as store:
        store["audio_name"] = np.array(names, "S20")
        store["waveform"], store["target"] = np.zeros((len(names), 320), np.int16), np.ones((len(names), 527), bool)


def test_a_clip_that_is_packed_twice_is_named_with_both_files(tmp_path):
    folder = tmp_path / "hdf5s" / "waveforms"
    packed(folder / "balanced_train.h5", [b"Ya.wav", b"Yb.wav"])
    packed(folder / "eval.h5", [b"Yc.wav", b"Yb.wav", b"Yc.wav"])
    message = (
        r"eval\.h5: the clip Yb.wav is there already, in .*balanced_train\.h5; 2 rows repeat a clip: Yb.wav, Yc.wav"
    )
    with pytest.raises(DataError, match=message):
        audioset.load(tmp_path)


def test_a_packed_file_without_a_clip_is_named(tmp_path):
    packed(tmp_path / "hdf5s" / "waveforms" / "balanced_train.h5", [b"Ya.wav"])
    packed(tmp_path / "hdf5s" / "waveforms" / "eval.h5", [])
    with pytest.raises(DataError, match=r"eval\.h5 has no clip in it"):
        audioset.load(tmp_path)
