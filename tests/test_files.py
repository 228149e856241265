"""Writing that loses nothing."""

import pytest

from pannslib import files


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = files.write_text(tmp_path / "a.txt", "old")

    def fail():
        with files.replacing(path) as temporary:
            temporary.write_text("half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_json_survives_the_way_there_and_back(tmp_path):
    content = {"title": "Glockenspiel, hörbar", "values": [1, 2.5, None]}
    assert files.read_json(files.write_json(tmp_path / "new" / "a.json", content)) == content


def test_digest_depends_on_content_alone():
    assert files.digest({"a": 1, "b": [2]}) == files.digest({"b": [2], "a": 1})
    assert files.digest({"a": 1}) != files.digest({"a": 2})


def test_what_killed_processes_left_of_a_file_goes_and_nothing_else(tmp_path):
    path = tmp_path / ("語" * 83 + ".npy")
    with files.replacing(path) as temporary:
        temporary.write_bytes(b"half")
        (tmp_path / "copy").write_bytes(b"")
        temporary.rename(tmp_path / "kept")  # as it is when a process is killed
        (tmp_path / "kept").rename(temporary)
        others = {tmp_path / ".other.0123456789ab.part.npy", tmp_path / "own.npy"}
        for other in others:
            other.write_bytes(b"")
        files.sweep(path)
        assert not temporary.exists()
        temporary.write_bytes(b"whole")
    assert {*others, path, tmp_path / "copy"} == set(tmp_path.iterdir())
