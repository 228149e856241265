"""UrbanSound8K: what its table may say, what happens when the files don't match it, and the miniature."""

import csv
import hashlib

import numpy as np
import pytest
import soundfile

from pannslib import audio, datasets
from pannslib.datasets import miniature, urbansound8k
from pannslib.errors import DataError

HEADER = ["slice_file_name", "fsID", "start", "end", "salience", "fold", "classID", "class"]
ROWS = [
    ["100032-3-0-0.wav", "100032", "0.0", "0.317551", "1", "5", "3", "dog_bark"],
    ["100263-2-0-117.wav", "100263", "58.5", "62.5", "1", "5", "2", "children_playing"],
    ["100648-1-0-0.wav", "100648", "4.823402", "5.471927", "2", "10", "1", "car_horn"],
    ["100648-1-1-0.wav", "100648", "8.998279", "10.052132", "2", "10", "1", "car_horn"],
]
SMALL = {"clips_per_class_and_fold": 1, "seconds": 0.5}


def make(root, rows=ROWS, absent=(), newline="\n"):
    """An UrbanSound8K folder with these rows, and a file for each slice but the absent ones."""
    (root / "metadata").mkdir(parents=True)
    with open(root / "metadata" / "UrbanSound8K.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator=newline).writerows([HEADER, *rows])
    for row in rows:
        folder = root / "audio" / f"fold{row[5]}"
        folder.mkdir(parents=True, exist_ok=True)
        if row[0] not in absent and row[0] and "/" not in row[0]:
            audio.save(folder / row[0], np.zeros(800), 8000)
    return root


def changed(line, column, value):
    """The rows with one value changed; the header is line 1."""
    rows = [list(row) for row in ROWS]
    rows[line - 2][HEADER.index(column)] = value
    return rows


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_the_official_layout(tmp_path, newline):
    root = make(tmp_path / "raw" / "urbansound8k" / "UrbanSound8K", newline=newline)
    assert datasets.find("urbansound8k", tmp_path) == root
    dataset = datasets.load("urbansound8k", root)
    assert dataset.classes == ("car horn", "children playing", "dog bark")
    np.testing.assert_array_equal(dataset.label, [2, 1, 0, 0])
    assert dataset.clips["fold"].tolist() == [5, 5, 10, 10]
    assert dataset.clips["group"].tolist() == ["100032", "100263", "100648", "100648"]
    assert dataset.clips["path"][0] == "audio/fold5/100032-3-0-0.wav"
    assert (dataset.evidence, dataset.expected_clips) == ("partial", 8732)
    dataset.check_splits()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (changed(3, "fold", "11"), r"line 3: fold is '11', but must be a whole number from 1 to 10"),
        (changed(3, "fold", ""), "line 3: fold"),
        (changed(4, "classID", "10"), "line 4: classID is '10'"),
        (changed(2, "class", "cat"), "line 2: classID 3 is 'cat' here, but officially 'dog_bark'"),
        (changed(5, "slice_file_name", ROWS[2][0]), "line 5: 100648-1-0-0.wav is in line 4 already"),
        (changed(2, "slice_file_name", "../x.wav"), "line 2: slice_file_name '../x.wav' is not the name"),
        (changed(2, "fsID", " "), "line 2: fsID"),
    ],
)
def test_rows_that_cannot_be_right(tmp_path, rows, message):
    with pytest.raises(DataError, match=message):
        datasets.load("urbansound8k", make(tmp_path, rows))


def test_missing_slices_stop_it_unless_they_may_be_missing(tmp_path):
    root = make(tmp_path, absent=("100648-1-1-0.wav",))
    with pytest.raises(DataError, match=r"names 1 slices .* that are not there: audio/fold10/100648-1-1-0.wav"):
        datasets.load("urbansound8k", root)
    dataset = datasets.load("urbansound8k", root, allow_missing=True)
    assert len(dataset.clips) == 3
    assert any("not there" in note for note in dataset.notes)


def test_a_slice_in_another_fold_than_its_line_is_missing_there(tmp_path):
    root = make(tmp_path)
    (root / "audio" / "fold5" / ROWS[0][0]).rename(root / "audio" / "fold10" / ROWS[0][0])
    with pytest.raises(DataError, match=r"audio/fold5/100032-3-0-0\.wav"):
        datasets.load("urbansound8k", root)


def test_extra_files_and_a_divided_recording_are_said(tmp_path):
    root = make(tmp_path, changed(5, "fold", "9"))
    audio.save(root / "audio" / "fold5" / "extra.wav", np.zeros(800), 8000)
    dataset = datasets.load("urbansound8k", root)
    assert any("1 files in audio/" in note and "extra.wav" in note for note in dataset.notes)
    assert any("1 recordings have slices in several folds" in note for note in dataset.notes)
    with pytest.raises(DataError, match="100648"):
        dataset.check_splits()


def test_without_its_table(tmp_path):
    with pytest.raises(DataError, match=r"has no metadata/UrbanSound8K\.csv"):
        datasets.load("urbansound8k", tmp_path)


# --- the miniature ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mini(tmp_path_factory):
    return miniature.make("urbansound8k", tmp_path_factory.mktemp("us8k") / "us8k", **SMALL)


def test_the_miniature_reads_as_the_real_one(mini):
    dataset = datasets.load("urbansound8k", mini)
    assert (dataset.evidence, len(dataset.clips), len(dataset.classes)) == ("miniature", 100, 10)
    assert dataset.folds == list(range(1, 11))
    dataset.check_splits()
    rates, channels = set(), set()
    for path in dataset.clips["path"]:
        facts = soundfile.info(mini / path)
        assert 0.1 < facts.duration <= 0.5
        assert facts.subtype == "PCM_16"
        rates.add(facts.samplerate)
        channels.add(facts.channels)
        assert 30 < np.abs(soundfile.read(mini / path, dtype="int16")[0].astype(int)).max() <= 32_767
    assert len(rates) > 1
    assert channels == {1, 2}
    with open(mini / "metadata" / "UrbanSound8K.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["salience"] for row in rows} == {"1", "2"}
    assert all(row["slice_file_name"].startswith(f"{row['fsID']}-{row['classID']}-") for row in rows)


def test_the_miniature_is_the_same_for_the_same_seed(mini, tmp_path):
    def sounds(folder):
        return {path.name: hashlib.sha256(path.read_bytes()).digest() for path in folder.rglob("*.wav")}

    assert sounds(miniature.make("urbansound8k", tmp_path / "again", **SMALL)) == sounds(mini)
    other = sounds(miniature.make("urbansound8k", tmp_path / "other", seed=1, **SMALL))
    assert not set(other.values()) & set(sounds(mini).values())


def test_the_classes_are_the_official_ones():
    from pannslib.datasets.miniature import urbansound8k as recipes

    assert tuple(sound.name for sound in recipes.SOUNDS) == urbansound8k.CLASSES
