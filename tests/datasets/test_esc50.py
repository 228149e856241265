"""ESC-50: what its table may say, and what happens when the files don't match it."""

import csv

import numpy as np
import pytest

from pannslib import audio, datasets
from pannslib.errors import DataError

HEADER = ["filename", "fold", "target", "category", "esc10", "src_file", "take"]
ROWS = [
    ["1-100-A-0.wav", "1", "0", "dog", "True", "100", "A"],
    ["2-200-A-0.wav", "2", "0", "dog", "True", "200", "A"],
    ["1-300-A-38.wav", "1", "38", "clock_tick", "True", "300", "A"],
    ["2-400-A-38.wav", "2", "38", "clock_tick", "True", "400", "A"],
]


def make(root, rows=ROWS, header=HEADER, encoding="utf-8", newline="\n", absent=()):
    """An ESC-50 folder with these rows, and a file for each clip but the absent ones."""
    (root / "meta").mkdir(parents=True)
    (root / "audio").mkdir()
    with open(root / "meta" / "esc50.csv", "w", encoding=encoding, newline="") as file:
        csv.writer(file, lineterminator=newline).writerows([header, *rows])
    for row in rows:
        if row[0] not in absent and row[0] and "/" not in row[0]:
            audio.save(root / "audio" / row[0], np.zeros(800), 8000)
    return root


def changed(line, column, value):
    """The rows with one value changed; the header is line 1."""
    rows = [list(row) for row in ROWS]
    rows[line - 2][HEADER.index(column)] = value
    return rows


@pytest.mark.parametrize(("encoding", "newline"), [("utf-8", "\n"), ("utf-8-sig", "\r\n")])
def test_the_official_layout(tmp_path, encoding, newline):
    dataset = datasets.load("esc50", make(tmp_path, encoding=encoding, newline=newline))
    assert dataset.classes == ("dog", "clock tick")
    assert dataset.clips["clip"].tolist() == [row[0] for row in ROWS]
    assert dataset.clips["path"].iloc[0] == "audio/1-100-A-0.wav"
    assert dataset.clips["group"].tolist() == ["100", "200", "300", "400"]
    np.testing.assert_array_equal(dataset.label, [0, 0, 1, 1])
    assert dataset.clips["fold"].tolist() == [1, 2, 1, 2]
    assert (dataset.evidence, dataset.expected_clips) == ("partial", 2000)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (changed(3, "fold", "9"), r"line 3: fold is '9', but must be a whole number from 1 to 5"),
        (changed(3, "fold", "1.5"), "line 3: fold"),
        (changed(2, "target", "50"), "line 2: target is '50'"),
        (changed(4, "target", "dog"), "line 4: target is 'dog'"),
        (changed(5, "target", "-1"), "line 5: target is '-1'"),
        (changed(3, "category", "cat"), "line 3: target 0 is 'cat' here, but 'dog' above"),
        (changed(3, "filename", ROWS[0][0]), "line 3: 1-100-A-0.wav is in line 2 already"),
        (changed(3, "filename", "../meta/esc50.csv"), "line 3: the filename .* is not the name of a file in audio/"),
        (changed(3, "filename", "C:\\clip.wav"), "line 3: the filename"),
        (changed(3, "filename", ""), "line 3: the filename"),
    ],
)
def test_rows_that_cannot_be_right_are_refused(tmp_path, rows, message):
    with pytest.raises(DataError, match=message) as caught:
        datasets.load("esc50", make(tmp_path, rows))
    assert "esc50.csv" in str(caught.value)


def test_a_wrong_header_names_what_is_missing(tmp_path):
    header = ["file", "fold", "class", "category", "esc10", "src_file", "take"]
    with pytest.raises(DataError, match="header lacks filename, target"):
        datasets.load("esc50", make(tmp_path, header=header))


def test_a_table_that_is_not_utf8_is_refused(tmp_path):
    with pytest.raises(DataError, match="not UTF-8"):
        datasets.load("esc50", make(tmp_path, changed(2, "category", "f\u00fcchse"), encoding="latin-1"))


def test_a_folder_without_its_table_is_refused(tmp_path):
    make(tmp_path)
    (tmp_path / "meta" / "esc50.csv").unlink()
    with pytest.raises(DataError, match=r"has no meta/esc50\.csv"):
        datasets.load("esc50", tmp_path)


def test_missing_clips_are_refused_unless_allowed(tmp_path):
    root = make(tmp_path, absent=[ROWS[1][0]])
    with pytest.raises(DataError, match=r"names 1 clips \(of 4\).*2-200-A-0.wav.*ALLOW_MISSING=1"):
        datasets.load("esc50", root)
    dataset = datasets.load("esc50", root, allow_missing=True)
    assert len(dataset.clips) == 3
    assert dataset.evidence == "partial"
    assert any("2-200-A-0.wav" in note for note in dataset.notes)


def test_no_clip_at_all_is_refused_even_then(tmp_path):
    root = make(tmp_path, absent=[row[0] for row in ROWS])
    with pytest.raises(DataError, match="no clip of ESC-50 is there"):
        datasets.load("esc50", root, allow_missing=True)


def test_oddities_are_noted(tmp_path):
    root = make(tmp_path, changed(3, "src_file", "100"))
    audio.save(root / "audio" / "stray.wav", np.zeros(8), 8000)
    notes = " ".join(datasets.load("esc50", root).notes)
    assert "1 source recordings have clips in several folds, which the official folds avoid: 100." in notes
    assert "doesn't name are ignored: stray.wav" in notes


def test_real_esc10(real_data):
    dataset = datasets.load("esc50", datasets.find("esc50", real_data))
    assert (dataset.evidence, len(dataset.clips), len(dataset.classes)) == ("partial", 400, 10)
    assert dataset.classes[:3] == ("dog", "rooster", "rain")
    assert dataset.clips.groupby("fold").size().to_dict() == dict.fromkeys(range(1, 6), 80)
    assert (dataset.targets.sum(0) == 40).all()
    assert dataset.clips.groupby("group")["fold"].nunique().max() == 1
