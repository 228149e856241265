"""What all data sets share: the table of clips, fingerprints, CSV files, finding and the registry."""

import os
import shutil

import numpy as np
import pytest

from pannslib import audio, datasets
from pannslib.datasets.base import Clip, assemble, read_rows, some
from pannslib.errors import DataError

NAMES = {3: "cat", 5: "dog", 9: "owl"}


@pytest.fixture
def root(tmp_path):
    """A folder with three sound files."""
    folder = tmp_path / "set"
    for name in ("a.wav", "b.wav", "c.wav"):
        audio.save(folder / name, np.zeros(ord(name[0])), 8000)
    return folder


def build(root, targets=((5,), (3,), (5,)), folds=(1, 2, 2), **options):
    clips = [
        Clip(name, name, numbers, fold, f"recording {fold}")
        for name, numbers, fold in zip(("a.wav", "b.wav", "c.wav"), targets, folds, strict=True)
    ]
    return assemble("set", "A set", root, clips, NAMES, expected_clips=3, **options)


def test_classes_are_those_present_in_official_order(root):
    dataset = build(root)
    assert dataset.classes == ("cat", "dog")
    np.testing.assert_array_equal(dataset.label, [1, 0, 1])
    np.testing.assert_array_equal(dataset.targets, [[False, True], [True, False], [False, True]])
    assert dataset.folds == [1, 2]
    assert "2 of the official 3 classes are there." in dataset.notes


def test_several_labels_make_targets_and_no_label(root):
    dataset = build(root, targets=((9, 3), (5,), (3,)))
    np.testing.assert_array_equal(dataset.targets, [[True, False, True], [False, True, False], [True, False, False]])
    with pytest.raises(ValueError, match="several labels"):
        _ = dataset.label


def test_evidence_says_how_much_is_there(root):
    clip = [Clip("a.wav", "a.wav", (3,), 1, "r")]
    assert build(root).evidence == "real"
    assert assemble("set", "A set", root, clip, NAMES, expected_clips=3).evidence == "partial"
    assert assemble("set", "A set", root, clip, NAMES, expected_clips=3, complete=True).evidence == "real"
    (root / "miniature.json").write_text("{}")
    assert build(root).evidence == "miniature"


def test_folds_can_be_cross_validated_or_it_is_said_why_not(root):
    dataset = build(root)
    assert not dataset.is_split
    dataset.check_splits()
    with pytest.raises(DataError, match=r"2 classes in 1 folds \(2\)"):
        build(root, folds=(2, 2, 2)).check_splits()
    with pytest.raises(DataError, match=r"1 class \(dog\)"):
        build(root, targets=((5,), (5,), (5,))).check_splits()
    dataset.clips["group"] = ["x", "y", "x"]
    with pytest.raises(DataError, match=r"several folds, so that test clips would be known from training: x\."):
        dataset.check_splits()


def given(root, splits, groups=("x", "y", "z")):
    clips = [
        Clip(f"{name}.wav", f"{name}.wav", (3 + 2 * (name == "b"),), 0, group, split)
        for name, group, split in zip("abc", groups, splits, strict=True)
    ]
    return assemble("set", "A set", root, clips, NAMES, expected_clips=3)


def test_a_given_split_needs_both_parts_and_no_group_in_both(root):
    dataset = given(root, ("train", "train", "test"))
    assert dataset.is_split
    dataset.check_splits()
    for missing, splits in (("test", ("train",) * 3), ("train", ("test",) * 3)):
        with pytest.raises(DataError, match=f"has no {missing} clips"):
            given(root, splits).check_splits()
    with pytest.raises(DataError, match=r"several splits, .* known from training: y\."):
        given(root, ("train", "train", "test"), groups=("x", "y", "y")).check_splits()


def test_a_header_may_be_in_other_letters_and_columns_optional(tmp_path):
    (tmp_path / "t.csv").write_text("NAME;Label ;more\na;b;c\n")
    rows = list(read_rows(tmp_path / "t.csv", ("name", "label"), ";", optional=("extra",)))
    assert rows == [(2, {"name": "a", "label": "b", "more": "c"})]


def test_no_clip_is_an_error(root):
    with pytest.raises(DataError, match="no clip"):
        assemble("set", "A set", root, [], NAMES, expected_clips=3)


def test_fingerprint_is_that_of_a_copy_and_no_other(root, tmp_path):
    fingerprint, stamp = build(root).fingerprint, build(root).stamp
    shutil.copytree(root, tmp_path / "copy")
    assert build(tmp_path / "copy").fingerprint == fingerprint
    assert build(root, folds=(1, 1, 2)).fingerprint != fingerprint
    assert build(root, targets=((3,), (3,), (5,))).fingerprint != fingerprint
    os.utime(root / "a.wav", (1, 1))
    assert build(root).fingerprint == fingerprint
    assert build(root).stamp != stamp
    audio.save(root / "a.wav", np.zeros(5), 8000)
    assert build(root).fingerprint != fingerprint


# --- CSV files --------------------------------------------------------------------------------------------------


def test_rows_come_with_their_lines(tmp_path):
    path = tmp_path / "table.csv"
    path.write_bytes('\ufeffname,fold\r\n"a, b",1\r\n\r\nc,2\r\n'.encode())
    assert list(read_rows(path, ["fold"])) == [(2, {"name": "a, b", "fold": "1"}), (4, {"name": "c", "fold": "2"})]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"name,fold\na,1,2\n", "line 2: the row has another number of values"),
        (b"name,fold\na,1\nb\n", "line 3: the row has another number of values"),
        (b"name\na\n", "line 1: the header lacks fold; it has name"),
        (b"", "line 1: the header lacks name, fold; it has nothing"),
        (b'name,fold\n"a,1\n', "is no CSV"),
        ("name,fold\nB\u00e4r,1\n".encode("latin-1"), "not UTF-8"),
    ],
)
def test_wrong_tables_are_refused(tmp_path, content, message):
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        list(read_rows(path, ["name", "fold"]))
    assert str(path) in str(caught.value)


def test_an_absent_table_is_refused(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        list(read_rows(tmp_path / "table.csv", ["name"]))


def test_some_shortens_long_lists():
    assert some("abc", most=3) == "a, b, c"
    assert some("abcdef", most=3) == "a, b, c and 3 more"


# --- finding and loading ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "place", "inside"),
    [
        ("esc50", "raw/esc50/ESC-50-master", "meta"),
        ("esc50", "raw/esc50", "meta"),
        ("esc50", "esc50", "audio"),
        ("esc50", "ESC-50-master", "meta"),
        ("ravdess", "raw/ravdess", "Actor_01"),
        ("ravdess", "raw/ravdess/Audio_Speech_Actors_01-24", "Actor_01"),
        ("ravdess", ".", "Actor_01"),
        ("audioset", "audioset", "metadata"),
        ("audioset", ".", "audios/eval_segments"),
    ],
)
def test_a_data_set_is_found_where_it_may_be(tmp_path, task, place, inside):
    (tmp_path / place / inside).mkdir(parents=True)
    assert datasets.find(task, tmp_path) == tmp_path / place
    assert not any(datasets.find(other, tmp_path) for other in datasets.TASKS if other != task)


def test_the_data_root_may_be_the_data_set_itself(tmp_path):
    (tmp_path / "ESC-50-master" / "audio").mkdir(parents=True)
    assert datasets.find("esc50", tmp_path / "ESC-50-master") == tmp_path / "ESC-50-master"


def test_an_empty_data_root_has_none(tmp_path):
    assert all(datasets.find(task, tmp_path) is None for task in datasets.TASKS)


def test_a_wrong_data_root_or_task_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"data root .*nowhere is no folder"):
        datasets.find("esc50", tmp_path / "nowhere")
    with pytest.raises(DataError, match="nowhere is no folder"):
        datasets.load("esc50", tmp_path / "nowhere")
    for call in (datasets.find, datasets.load):
        with pytest.raises(DataError, match=r"no data set 'esc51'; there are audioset, esc50, .*ravdess"):
            call("esc51", tmp_path)
