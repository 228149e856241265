"""Files found by name however they were unpacked, and tables whose faults are told with their lines."""

import pytest

from pannslib.datasets.base import Clip
from pannslib.datasets.listed import Files, Table, divided_groups, keep_present, unnamed
from pannslib.errors import DataError


def touch(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("x")
    return Files(root)


def table(tmp_path, text):
    (tmp_path / "t.csv").write_text(text, newline="")
    return Table(tmp_path / "t.csv", "take it again")


def test_files_are_found_at_any_depth_and_in_any_case(tmp_path):
    files = touch(
        tmp_path, "b/META.csv", "a/deep/meta.csv", "set.audio.1/set/Audio/X.WAV", "set.audio.2/set/audio/y.wav"
    )
    assert files.find("meta.csv") == tmp_path / "b" / "META.csv"
    assert files.find("other.csv", "meta.csv") == tmp_path / "b" / "META.csv"
    assert files.find("none.csv") is None
    audio = files.below("audio")
    assert audio.find("x.wav") == "set.audio.1/set/Audio/X.WAV"
    assert audio.find("y.wav") == "set.audio.2/set/audio/y.wav"
    assert audio.find("meta.csv") is None


def test_the_exact_name_goes_before_another_case_and_another_format_will_do(tmp_path):
    audio = touch(tmp_path, "audio/A.WAV", "audio/a.wav", "audio/b.flac", "audio/c.txt").below("audio")
    assert audio.find("a.wav") == "audio/a.wav"
    assert audio.find("A.WAV") == "audio/A.WAV"
    assert audio.find("b.wav") == "audio/b.flac"
    assert audio.find("c.wav") is None


def test_a_folder_can_be_preferred(tmp_path):
    audio = touch(tmp_path, "dev/Music/1.wav", "dev/Urban/1.wav", "dev/2.wav").below("dev")
    assert audio.find("1.wav", "urban") == "dev/Urban/1.wav"
    assert audio.find("2.wav", "Urban") == "dev/2.wav"


def test_leftovers_of_archivers_and_loops_of_links_are_no_files(tmp_path):
    touch(tmp_path, "audio/a.wav", "audio/._a.wav", "__MACOSX/audio/b.wav", "audio/.DS_Store")
    (tmp_path / "audio" / "self").symlink_to(tmp_path)
    (tmp_path / "audio" / "gone.wav").symlink_to(tmp_path / "nowhere.wav")
    audio = Files(tmp_path).below("audio")
    assert {path.rpartition("/")[2] for path in audio.paths} == {"a.wav"}
    assert audio.find("a.wav") == "audio/a.wav"
    assert audio.find("gone.wav") is None


def test_a_linked_folder_is_looked_into(tmp_path):
    touch(tmp_path / "disk", "a.wav")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "audio").symlink_to(tmp_path / "disk")
    assert Files(tmp_path / "set").below("audio").find("a.wav") == "audio/a.wav"


def test_rows_have_their_lines_and_optional_columns(tmp_path):
    rows = list(table(tmp_path, "\ufeffName\tLABEL\r\na.wav\t dog \r\n").rows(("name", "label"), ("more",), "\t"))
    assert rows == [(2, {"more": "", "name": "a.wav", "label": "dog"})]


@pytest.mark.parametrize("text", ["", "..", "a/b.wav", "../b.wav", "C:\\b.wav", "audio/../b.wav", "audio/"])
def test_what_is_no_file_name_is_refused(tmp_path, text):
    with pytest.raises(DataError, match=r"t\.csv, line 7: file is .*not the name of a file in audio/.*take it again"):
        table(tmp_path, "").name(7, "file", text, "audio")


def test_names_are_taken_without_their_folder_and_only_once(tmp_path):
    checked = table(tmp_path, "")
    assert checked.name(2, "file", "audio/a.wav", "audio") == "a.wav"
    assert checked.name(3, "file", "Audio\\b.wav", "audio") == "b.wav"
    assert checked.name(4, "file", "a.wav", within="music/") == "a.wav"
    with pytest.raises(DataError, match=r"line 9: a\.wav is in line 2 already"):
        checked.name(9, "file", "a.wav", "audio")


def test_labels_are_known_ones(tmp_path):
    checked = table(tmp_path, "")
    assert checked.choice(2, "label", "street TRAFFIC", ("bus", "street_traffic")) == 1
    with pytest.raises(DataError, match="line 3: label is 'car', but must be one of bus, tram"):
        checked.choice(3, "label", "car", ("bus", "tram"))
    with pytest.raises(DataError, match="line 4: label is empty, but must be"):
        checked.choice(4, "label", "", ("bus", "tram"))


def test_missing_clips_are_counted_by_part():
    clips = [
        (Clip(f"{k}.wav", "", (0,), 0, "g", split), None if k else "a/0.wav")
        for k, split in enumerate(("train", "train", "test"))
    ]
    present, notes = keep_present(clips, "the tables", "a/")
    assert [clip.path for clip in present] == ["a/0.wav"]
    assert notes[0].startswith(
        "2 of 3 clips that the tables name are not in a/ (train 1 of 2, test 1 of 1): 1.wav, 2.wav."
    )
    assert keep_present(clips[:1], "the tables", "a/")[1] == []


def test_strange_files_and_divided_groups_are_told(tmp_path):
    part = touch(tmp_path, "1/audio/a.wav", "2/audio/a.wav", "1/audio/b.wav").below("audio")
    assert unnamed(part, ["1/audio/a.wav"], "t.csv", "audio/") == [
        "1 files in audio/ that t.csv doesn't name are ignored: 1/audio/b.wav."
    ]
    assert unnamed(part, ["1/audio/a.wav", "1/audio/b.wav"], "t.csv", "audio/") == []
    clips = [
        Clip(str(k), "", (0,), 0, group, split)
        for k, (group, split) in enumerate([("x", "train"), ("y", "train"), ("x", "test")])
    ]
    assert divided_groups(clips, "places") == ["1 places have clips in training and in test, which must not be: x."]
    assert divided_groups(clips[:2], "places") == []
