"""Fetching and unpacking: what is cut off, wrong, hostile or there already, with a real server and real archives."""

import hashlib
import io
import json
import os
import stat
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from local_server import LocalServer

from pannslib.datasets import archives
from pannslib.datasets.archives import Remote
from pannslib.errors import DataError

BODY = np.random.default_rng(0).bytes(300_000)
CHUNK = archives.CHUNK  # the server stops at whole ones
MD5, SHA256 = hashlib.md5(BODY).hexdigest(), hashlib.sha256(BODY).hexdigest()


@pytest.fixture
def server(tmp_path):
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "clips.bin").write_bytes(BODY)
    with LocalServer(tmp_path / "served").running() as running:
        yield running


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "got"


def remote(server, **known) -> Remote:
    return Remote("clips.bin", f"{server.url}/clips.bin", **known)


def fetch(remote, folder):
    return archives.fetch(remote, folder, wait=0.01)


# --- fetching --------------------------------------------------------------------------------------------------


def test_a_file_is_fetched_once_and_its_checksum_kept(server, folder):
    path = fetch(remote(server, size=len(BODY), md5=MD5), folder)
    assert path.read_bytes() == BODY
    assert fetch(remote(server, size=len(BODY), md5=MD5), folder) == path
    assert server.asked["clips.bin"] == 1
    entry = archives.checksums(folder)["clips.bin"]
    assert (entry["md5"], entry["sha256"], entry["size"], entry["published"]) == (MD5, SHA256, len(BODY), True)
    assert [file.name for file in folder.iterdir() if file.suffix == ".part"] == []


def test_a_transfer_that_is_cut_off_goes_on_where_it_stopped(server, folder):
    server.cut["clips.bin"] = [2 * CHUNK, CHUNK]
    assert fetch(remote(server, sha256=SHA256), folder).read_bytes() == BODY
    starts = [wanted for _, wanted in server.requests]
    assert starts == ["", f"bytes={2 * CHUNK}-", f"bytes={3 * CHUNK}-"]


def test_a_later_call_goes_on_where_an_earlier_one_gave_up(server, folder):
    server.cut["clips.bin"] = [2 * CHUNK]
    server.codes["clips.bin"] = [200] + [503] * 10
    with pytest.raises(DataError, match=r"503.*131 kB\): the same call goes on"):
        fetch(remote(server), folder)
    assert not (folder / "clips.bin").exists()
    server.codes.clear()
    assert fetch(remote(server), folder).read_bytes() == BODY
    assert server.requests[-1][1] == f"bytes={2 * CHUNK}-"


def test_a_server_without_ranges_sends_all_of_it_again(server, folder):
    server.ranges = False
    server.cut["clips.bin"] = [2 * CHUNK]
    assert fetch(remote(server, sha256=SHA256), folder).read_bytes() == BODY


def test_a_server_that_always_stops_at_the_same_byte_is_given_up(server, folder):
    server.ranges = False
    server.cut["clips.bin"] = [2 * CHUNK] * 20
    with pytest.raises(DataError, match=r"clips.bin can't be had"):
        fetch(remote(server), folder)
    assert len(server.requests) <= archives.ATTEMPTS + 1


def test_a_server_that_is_busy_is_asked_again(server, folder):
    server.codes["clips.bin"] = [503, 429]
    assert fetch(remote(server, md5=MD5), folder).read_bytes() == BODY
    assert server.asked["clips.bin"] == 3


def test_a_file_that_is_not_there_is_not_asked_for_again(server, folder):
    with pytest.raises(DataError, match=r"absent.bin can't be had from .*404"):
        fetch(Remote("absent.bin", f"{server.url}/absent.bin"), folder)
    assert len(server.requests) == 1


def test_no_server(folder):
    with pytest.raises(DataError, match=r"clips.bin can't be had"):
        fetch(Remote("clips.bin", "http://127.0.0.1:9/clips.bin"), folder)


@pytest.mark.parametrize("known", [{"md5": "0" * 32}, {"sha256": "0" * 64}, {"size": 5}])
def test_a_wrong_file_is_refused_and_nothing_of_it_kept(server, folder, known):
    with pytest.raises(DataError, match=r"clips.bin from .* is not what was published"):
        fetch(remote(server, **known), folder)
    assert [file.name for file in folder.iterdir() if not file.name.endswith(".lock")] == []
    assert len(server.requests) == 2  # a wrong answer may come by chance


def test_a_file_of_unknown_checksum_must_stay_what_it_was_at_first(server, folder):
    fetch(remote(server), folder).unlink()
    assert archives.checksums(folder)["clips.bin"]["published"] is False
    (server.folder / "clips.bin").write_bytes(BODY[::-1])
    with pytest.raises(DataError, match=r"sha256 .*checksums\.json"):
        fetch(remote(server), folder)


def test_a_file_that_lies_there_is_checked(server, folder):
    folder.mkdir()
    (folder / "clips.bin").write_bytes(BODY[:1000])
    with pytest.raises(DataError, match=r"clips.bin is cut off: it has 1,000 bytes, but 300,000 belong there"):
        fetch(remote(server, size=len(BODY)), folder)
    (folder / "clips.bin").write_bytes(BODY[::-1])
    with pytest.raises(DataError, match=f"clips.bin is not what it should be: its md5 is .* but {MD5} is expected"):
        fetch(remote(server, size=len(BODY), md5=MD5), folder)
    assert (folder / "clips.bin").exists()  # it is the user's
    assert server.requests == []


def test_a_changed_file_is_noticed_by_the_kept_checksum(server, folder):
    path = fetch(remote(server), folder)
    path.write_bytes(BODY[:-1] + b"x")
    with pytest.raises(DataError, match="not what it should be"):
        fetch(remote(server), folder)


def test_half_of_another_file_is_not_continued(server, folder):
    server.cut["clips.bin"] = [2 * CHUNK]
    server.codes["clips.bin"] = [200] + [503] * 10
    with pytest.raises(DataError):
        fetch(remote(server), folder)
    (server.folder / "other.bin").write_bytes(BODY[::-1])
    got = fetch(Remote("clips.bin", f"{server.url}/other.bin"), folder)
    assert got.read_bytes() == BODY[::-1]


def test_two_at_once_do_not_disturb_each_other(server, folder):
    with archives.exclusive(folder, "clips.bin"), pytest.raises(DataError, match="Another process"):
        fetch(remote(server), folder)


def test_a_full_disk_is_told_before_it_is_full(server, folder, monkeypatch):
    usage = archives.shutil.disk_usage(folder.parent)
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda _: usage._replace(free=archives.SPARE + 1000))
    with pytest.raises(DataError, match=r"clips.bin needs 300 kB in .*only 67.1 MB left"):
        fetch(remote(server), folder)


def test_a_killed_transfer_goes_on(server, folder):
    server.cut["clips.bin"] = [2 * CHUNK]
    server.codes["clips.bin"] = [200] + [503] * 50
    code = (
        "import sys; from pannslib.datasets import archives; "
        f"archives.fetch(archives.Remote('clips.bin', '{server.url}/clips.bin'), sys.argv[1], wait=30)"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(folder)]) as process:
        part = folder / ".clips.bin.part"
        while not (part.is_file() and part.stat().st_size == 2 * CHUNK):
            assert process.poll() is None
        process.kill()
    server.codes.clear()
    assert fetch(remote(server, md5=MD5), folder).read_bytes() == BODY
    assert server.requests[-1][1] == f"bytes={2 * CHUNK}-"


# --- unpacking -------------------------------------------------------------------------------------------------


def make_zip(path: Path, files: dict[str, bytes], **options) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, **options) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def make_tar(path: Path, files: dict[str, bytes], mode: str = "w", extra=()) -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for info in extra:
            archive.addfile(info)
    return path


def link(name: str, target: str, kind=tarfile.SYMTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


FILES = {"set/a.wav": BODY[:5000], "set/meta/b.csv": b"x,y\n" * 100, "readme.txt": b"hello"}


@pytest.mark.parametrize("name", ["c.zip", "c.tar", "c.tar.gz", "c.tar.bz2", "c.tar.xz"])
def test_archives_are_unpacked_once(tmp_path, name):
    path = tmp_path / name
    make_zip(path, FILES) if name == "c.zip" else make_tar(path, FILES, f"w:{name[6:]}" if name[6:] else "w")
    result = archives.unpack(path, tmp_path / "out")
    assert {file: (tmp_path / "out" / file).read_bytes() for file in FILES} == FILES
    assert (result.files, result.kept) == (3, 0)
    assert result.paths == {file: len(content) for file, content in FILES.items()}
    (tmp_path / "out" / "readme.txt").write_bytes(b"cut")
    again = archives.unpack(path, tmp_path / "out")
    assert (again.files, again.kept) == (1, 2)
    assert (tmp_path / "out" / "readme.txt").read_bytes() == b"hello"


def test_what_systems_add_and_what_is_not_wanted_is_ignored_and_said(tmp_path):
    junk = {"__MACOSX/set/._a.wav": b"1", "set/.DS_Store": b"2", "set/Thumbs.db": b"3", "other.exe": b"4"}
    path = make_zip(tmp_path / "c.zip", FILES | junk)
    result = archives.unpack(
        path, tmp_path / "out", lambda member: None if member.suffix == ".exe" else PurePosixPath("x", *member.parts)
    )
    assert result.files == 3
    assert set(result.ignored) == set(junk)
    assert "4 ignored" in str(result)
    assert not list((tmp_path / "out").rglob("*.exe"))


HOSTILE = ("../outside.txt", "set/../../outside.txt", "/tmp/outside.txt", "C:\\outside.txt", "..\\outside.txt")


@pytest.mark.parametrize(
    ("kind", "name"),
    # a backslash is an ordinary character in a tar
    [
        (kind, name)
        for kind in ("zip", "tar", "tar.gz")
        for name in HOSTILE
        if kind == "zip" or not name.startswith("..\\")
    ],
)
def test_a_path_that_leaves_the_folder_refuses_the_whole_archive(tmp_path, kind, name):
    path = tmp_path / f"evil.{kind}"
    files = {"good.wav": b"1", name: b"2"}
    if kind == "zip":
        make_zip(path, files)
    else:
        make_tar(path, files, "w:gz" if kind.endswith("gz") else "w")
    with pytest.raises(DataError, match=r"evil.* is refused: its member .* outside of the folder"):
        archives.unpack(path, tmp_path / "out" / "deep")
    assert not list(tmp_path.rglob("outside.txt"))
    assert not list(tmp_path.rglob("good.wav"))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
@pytest.mark.parametrize("target", ["../../secret", "/etc/passwd", "a/../../../secret"])
def test_a_link_that_leaves_the_folder_refuses_the_whole_archive(tmp_path, kind, target):
    path = make_tar(tmp_path / "evil.tar", {"good.wav": b"1"}, extra=[link("set/link", target, kind)])
    with pytest.raises(DataError, match=r"evil.tar is refused: its member 'set/link' is a link"):
        archives.unpack(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_file_through_a_link_in_the_archive_cannot_leave(tmp_path):
    info = tarfile.TarInfo("here/file")
    path = make_tar(tmp_path / "c.tar", {}, extra=[link("here", "."), info])
    archives.unpack(path, tmp_path / "out")
    assert not (tmp_path / "out" / "here").is_symlink()


def test_a_link_inside_becomes_a_copy(tmp_path):
    extra = [link("copy.wav", "set/a.wav"), link("set/hard.wav", "set/a.wav", tarfile.LNKTYPE), link("x", "absent")]
    path = make_tar(tmp_path / "c.tar.gz", FILES, "w:gz", extra)
    result = archives.unpack(path, tmp_path / "out")
    for name in ("copy.wav", "set/hard.wav"):
        file = tmp_path / "out" / name
        assert not file.is_symlink()
        assert file.read_bytes() == FILES["set/a.wav"]
    assert result.ignored == ["x (a link to what is not in the archive)"]


def test_links_in_a_zip(tmp_path):
    def with_link(name, target):
        info = zipfile.ZipInfo("link")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        path = make_zip(tmp_path / name, FILES)
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(info, target)
        return path

    assert archives.unpack(with_link("c.zip", "readme.txt"), tmp_path / "out").ignored == ["link (a link)"]
    with pytest.raises(DataError, match=r"evil.zip is refused: its member 'link' is a link to '../../x'"):
        archives.unpack(with_link("evil.zip", "../../x"), tmp_path / "out2")


def test_devices_are_not_made(tmp_path):
    info = tarfile.TarInfo("pipe")
    info.type = tarfile.FIFOTYPE
    result = archives.unpack(make_tar(tmp_path / "c.tar", FILES, extra=[info]), tmp_path / "out")
    assert result.ignored == ["pipe (no ordinary file)"]


def test_a_link_in_the_folder_is_not_followed(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "set").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="is a link that leaves"):
        archives.unpack(make_zip(tmp_path / "c.zip", FILES), tmp_path / "out")
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "tar.xz"])
def test_a_bomb_is_refused_before_anything_is_written(tmp_path, kind):
    zeros = {"zeros.wav": bytes(24 << 20)}
    path = tmp_path / f"bomb.{kind}"
    make_zip(path, zeros) if kind == "zip" else make_tar(path, zeros, f"w:{kind[4:]}")
    assert path.stat().st_size < 60_000
    with pytest.raises(DataError, match=r"bomb.* is refused: it would unpack to 25.2 MB"):
        archives.unpack(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_bomb_that_lies_about_its_size_is_stopped(tmp_path):
    path = make_zip(tmp_path / "bomb.zip", {"zeros.wav": bytes(5 << 20)})
    data = bytearray(path.read_bytes())
    at = data.rindex(b"PK\x01\x02") + 24  # the size as the list declares it
    data[at : at + 4] = (1000).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"bomb.zip is cut off or damaged: zeros.wav"):
        archives.unpack(path, tmp_path / "out")
    assert not (tmp_path / "out" / "zeros.wav").exists()


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "tar.xz"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 0.97])
def test_an_archive_that_is_cut_off_is_told_by_name(tmp_path, kind, share):
    path = tmp_path / f"c.{kind}"
    contents = {f"{number}.wav": BODY[number * 20_000 :][:20_000] for number in range(10)}
    make_zip(path, contents) if kind == "zip" else make_tar(path, contents, f"w:{kind[4:]}" if kind[4:] else "w")
    whole = path.read_bytes()
    if kind == "tar":  # tar ends with empty blocks, all of which may go but two
        whole = whole.rstrip(b"\0")
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(DataError, match=rf"c\.{kind}.*(cut off|empty)"):
        archives.unpack(path, tmp_path / "out")
    for file in (tmp_path / "out").rglob("*"):
        assert file.read_bytes() == contents[file.name]  # what is there is whole


def test_a_tar_that_is_cut_between_two_files_is_noticed(tmp_path):
    path = make_tar(tmp_path / "c.tar", {"a.wav": b"1" * 512, "b.wav": b"2" * 512})
    path.write_bytes(path.read_bytes()[:1024])
    with pytest.raises(DataError, match=r"c.tar is cut off"):
        archives.unpack(path, tmp_path / "out")


def test_a_damaged_member_is_told_by_name_and_the_others_stay(tmp_path):
    path = tmp_path / "c.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.wav", BODY[:1000])
        archive.writestr("b.wav", BODY[1000:2000])
    data = bytearray(path.read_bytes())
    data[data.index(BODY[1000:1010])] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"c.zip is cut off or damaged: b.wav can't be read \(Bad CRC-32"):
        archives.unpack(path, tmp_path / "out")
    assert (tmp_path / "out" / "a.wav").read_bytes() == BODY[:1000]
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["a.wav"]


def test_no_archive_at_all(tmp_path):
    (tmp_path / "page.zip").write_text("<html>Please log in</html>")
    with pytest.raises(DataError, match=r"page.zip is cut off, damaged or no archive"):
        archives.unpack(tmp_path / "page.zip", tmp_path / "out")
    with pytest.raises(DataError, match="There is no archive"):
        archives.unpack(tmp_path / "absent.zip", tmp_path / "out")


def test_a_name_twice_and_a_folder_in_the_way(tmp_path):
    path = make_zip(tmp_path / "twice.zip", {"a": b"1", "b": b"2"})
    path.write_bytes(path.read_bytes().replace(b"b", b"a"))
    with pytest.raises(DataError, match="holds a twice"):
        archives.unpack(path, tmp_path / "out")
    (tmp_path / "out" / "readme.txt").mkdir(parents=True)
    with pytest.raises(DataError, match=r"readme.txt is a folder"):
        archives.unpack(make_zip(tmp_path / "c.zip", FILES), tmp_path / "out")


def test_too_small_a_disk_is_told_before_unpacking(tmp_path, monkeypatch):
    path = make_zip(tmp_path / "c.zip", FILES)
    usage = archives.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda _: usage._replace(free=archives.SPARE))
    with pytest.raises(DataError, match=r"Unpacking c.zip needs 5.41 kB"):
        archives.unpack(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def split_zip(path: Path, size: int) -> list[Path]:
    """Parts of a zip as archivers make them: each member's place is counted from the start of its part."""
    data, parts = path.read_bytes(), []
    data = b"PK\x07\x08" + data
    directory = data.rindex(b"PK\x05\x06")
    begin = int.from_bytes(data[directory + 16 : directory + 20], "little") + 4
    edited = bytearray(data)
    at = begin
    while edited[at : at + 4] == b"PK\x01\x02":
        offset = int.from_bytes(edited[at + 42 : at + 46], "little") + 4
        edited[at + 34 : at + 36] = (offset // size).to_bytes(2, "little")
        edited[at + 42 : at + 46] = (offset % size).to_bytes(4, "little")
        lengths = [int.from_bytes(edited[at + k : at + k + 2], "little") for k in (28, 30, 32)]
        at += 46 + sum(lengths)
    last = (len(edited) - 1) // size
    edited[directory + 4 : directory + 6] = last.to_bytes(2, "little")
    edited[directory + 6 : directory + 8] = (begin // size).to_bytes(2, "little")
    edited[directory + 16 : directory + 20] = (begin % size).to_bytes(4, "little")
    pieces = [edited[start : start + size] for start in range(0, len(edited), size)]
    for number, piece in enumerate(pieces, 1):
        name = path.with_suffix(".zip" if number == len(pieces) else f".z{number:02d}")
        name.write_bytes(piece)
        parts.append(name)
    return parts


CLIPS = {f"set/{number}.wav": BODY[number * 30_000 :][:30_000] for number in range(10)}


def test_a_split_zip_is_read_as_one(tmp_path):
    parts = split_zip(make_zip(tmp_path / "c.zip", CLIPS), 70_000)
    assert len(parts) == 5
    assert archives.unpack(tmp_path / "c.zip", tmp_path / "out").files == 10
    assert all((tmp_path / "out" / name).read_bytes() == content for name, content in CLIPS.items())
    parts[1].unlink()
    with pytest.raises(DataError, match=r"c.zip is in parts, of which 2 are not there"):
        archives.unpack(tmp_path / "c.zip", tmp_path / "out")


def test_a_zip_in_pieces_is_read_as_one(tmp_path):
    data = make_zip(tmp_path / "c.zip", CLIPS).read_bytes()
    for number in range(4):
        (tmp_path / f"d.zip.{number + 1:03d}").write_bytes(data[number * 80_000 : (number + 1) * 80_000])
    assert archives.unpack(tmp_path / "d.zip.001", tmp_path / "out").files == 10
    assert all((tmp_path / "out" / name).read_bytes() == content for name, content in CLIPS.items())


def test_only_files_are_written_whatever_their_rights(tmp_path):
    info = tarfile.TarInfo("run.sh")
    info.size, info.mode = 2, 0o4777
    with tarfile.open(tmp_path / "c.tar", "w") as archive:
        archive.addfile(info, io.BytesIO(b"hi"))
    archives.unpack(tmp_path / "c.tar", tmp_path / "out")
    assert not os.stat(tmp_path / "out" / "run.sh").st_mode & 0o4111


def test_a_list_over_several_pages(server):
    server.content["list?page=1"] = json.dumps([1]).encode()
    server.content["list?page=2"] = json.dumps([2]).encode()
    server.links["list?page=1"] = f'<{server.url}/list?page=2>; rel="next"'
    content, links = archives.get_json(f"{server.url}/list?page=1")
    assert (content, links) == ([1], {"next": f"{server.url}/list?page=2"})
    with pytest.raises(DataError, match="404"):
        archives.get_json(f"{server.url}/absent")


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1500, "1.5 kB"), (208_468_073, "208 MB"), (2.43e12, "2.43 TB"), (None, "?")],
)
def test_sizes_for_people(size, text):
    assert archives.human(size) == text
