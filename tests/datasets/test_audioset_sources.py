"""AudioSet from every source: small stand-ins of each format, a real server, a fake yt-dlp, files, packed files."""

import csv
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import soundfile
from local_server import LocalServer

from pannslib import audio, datasets, training
from pannslib.datasets import archives, audioset, audioset_sources, download, miniature
from pannslib.datasets.audioset import read_black_list, sound_files
from pannslib.errors import DataError

SPLITS = audioset_sources.SPLITS
COMMIT = "a" * 40


@pytest.fixture(scope="session")
def original(tmp_path_factory) -> Path:
    """A Mini-AudioSet, which all stand-ins are made of."""
    folder = tmp_path_factory.mktemp("original") / "audioset"
    return miniature.make("audioset", folder, seconds=1.0, balanced_per_class=1, unbalanced=60, eval_per_class=1)


def clips_of(root: Path, split: str) -> dict[str, Path]:
    folder = root / "audios" / f"{split}_segments"
    return {name: folder / path for name, path in sound_files(folder).items()}


@pytest.fixture
def server(original, tmp_path, monkeypatch):
    """A server that has the official lists and the authors' black list, on which are two clips of each split."""
    folder = tmp_path / "served"
    shutil.copytree(original / "metadata", folder)
    banned = [name for split in SPLITS for name in sorted(clips_of(original, split))[:2]]
    text = "".join(f"{name}_30.000_40.000.wav\t30.000\t40.000\tTrain horn\r\n" for name in banned)
    (folder / "black.csv").write_text(text, newline="")
    digest = hashlib.sha256((folder / "black.csv").read_bytes()).hexdigest()
    monkeypatch.setattr(audioset_sources, "BLACK_LISTS", {"black.csv": digest})
    with LocalServer(folder).running() as running:
        running.banned = banned
        yield running


def as_flac(file: Path) -> bytes:
    samples, rate = soundfile.read(file, dtype="int16")
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format="FLAC")
    return buffer.getvalue()


def put_zip(path: Path, clips: dict[str, Path], split: str) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, file in clips.items():
            archive.writestr(f"{split}_segments/Y{name}.wav", file.read_bytes())
        archive.writestr("readme.txt", "hello")


def put_tar(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def put_shards(path: Path, clips: dict[str, Path], split: str) -> None:
    """A WebDataset: numbered, the id in a JSON beside each clip."""
    members = {}
    for number, (name, file) in enumerate(clips.items()):
        members[f"{number:09d}.json"] = json.dumps({"id": name, "label": ["Speech"]}).encode()
        members[f"{number:09d}.wav"] = file.read_bytes()
    put_tar(path, members)


def put_flac_tar(path: Path, clips: dict[str, Path], split: str) -> None:
    put_tar(path, {f"audio/{split}/{name}.flac": as_flac(file) for name, file in clips.items()})


def put_parquet(path: Path, clips: dict[str, Path], split: str) -> None:
    rows = [
        {"video_id": name, "audio": {"bytes": as_flac(file), "path": f"audio/{split}/{name}.flac"}, "labels": ["x"]}
        for name, file in clips.items()
    ]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)


# source -> where its archives of each split are, and how they are made
FORMS = {
    "hf_confit_audioset_full": (
        {
            "balanced_train": "balanced/balanced_train_segments.zip",
            "unbalanced_train": "unbalanced/unbalanced_train_segments_part{:02d}_full.zip",
            "eval": "eval/eval_segments.zip",
        },
        put_zip,
    ),
    "hf_confit_audioset_16k_wds": (
        {
            "balanced_train": "20k/train/{:05d}.tar",
            "unbalanced_train": "2m/train/{:05d}.tar",
            "eval": "20k/test/{:05d}.tar",
        },
        put_shards,
    ),
    "hf_agkphysics_audioset": (
        {
            "balanced_train": "data/bal_train/{:02d}.parquet",
            "unbalanced_train": "data/unbal_train/{:03d}.parquet",
            "eval": "data/eval/{:02d}.parquet",
        },
        put_parquet,
    ),
    "hf_agkphysics_audioset_tar": (
        {
            "balanced_train": "data/bal_train{:02d}.tar",
            "unbalanced_train": "data/unbal_train{:03d}.tar",
            "eval": "data/eval{:02d}.tar",
        },
        put_flac_tar,
    ),
}


def mirror(server, original: Path, source: str, left_out=(), changed=None) -> str:
    """Make `server` a mirror in the form of `source`; returns the folder that its archives are in."""
    places, put = FORMS[source]
    entry = audioset_sources._entry(source)
    repository = entry["url"].removeprefix("https://huggingface.co/datasets/")
    pinned = audioset_sources.MIRRORS[source].revision_of
    commit = pinned(entry) if pinned else COMMIT
    base = f"datasets/{repository}/resolve/{commit}"
    listed = []
    for split, place in places.items():
        clips = {name: file for name, file in clips_of(original, split).items() if name not in left_out}
        clips |= {name: file for name, file in (changed or {}).items() if name in clips}
        names = sorted(clips)
        numbers = 2 if "{" in place else 1
        for number in range(numbers):
            path = place.format(number)
            file = server.folder / base / path
            file.parent.mkdir(parents=True, exist_ok=True)
            put(file, {name: clips[name] for name in names[number::numbers]}, split)
            sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
            size = file.stat().st_size
            listed.append({"type": "file", "path": path, "size": size, "lfs": {"oid": sha256, "size": size}})
    listed.append({"type": "file", "path": "README.md", "size": 3})
    listed.append({"type": "directory", "path": "data"})
    api = f"api/datasets/{repository}"
    server.content[f"{api}/revision/main"] = json.dumps({"sha": commit}).encode()
    first, second = f"{api}/tree/{commit}?recursive=true", f"{api}/tree/{commit}?recursive=true&cursor=x"
    server.content[first], server.content[second] = json.dumps(listed[:2]).encode(), json.dumps(listed[2:]).encode()
    server.links[first] = f'<{server.url}/{second}>; rel="next"'
    return base


def get(tmp_path, server, *arguments, **options):
    return audioset_sources.get(tmp_path / "data", *arguments, base_url=server.url, wait=0.01, **options)


def missing(root: Path) -> dict[str, tuple[str, str]]:
    with open(root / "metadata" / "missing.csv", newline="") as file:
        return {row["clip"]: (row["split"], row["reason"]) for row in csv.DictReader(file)}


def banned_in_training(server, original) -> set[str]:
    return {name for name in server.banned if name not in clips_of(original, "eval")}


# --- mirrors ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", FORMS)
def test_each_form_of_a_mirror_becomes_the_official_layout(source, server, original, tmp_path):
    base = mirror(server, original, source)
    result = get(tmp_path, server, source)
    assert not result.failed, download.report(result)
    root = tmp_path / "data" / "raw" / "audioset"
    assert result.root == root
    banned = banned_in_training(server, original)
    for split in SPLITS:
        there, expected = clips_of(root, split), clips_of(original, split)
        assert set(there) == set(expected) - banned
        for name, file in list(there.items())[:5]:
            assert file.name.startswith(f"Y{name}.")
            np.testing.assert_array_equal(audio.decode(file)[0], audio.decode(expected[name])[0])
    assert {name: reason for name, (_, reason) in missing(root).items()} == dict.fromkeys(
        banned, audioset_sources.BLACK_LISTED
    )
    dataset = datasets.load("audioset", datasets.find("audioset", tmp_path / "data"))
    whole = datasets.load("audioset", original)
    assert len(dataset.clips) == len(whole.clips) - len(banned)
    assert dataset.evidence == "partial"
    # what was done is not done again, and archives don't lie around
    asked = len(server.requests)
    assert not get(tmp_path, server, source).failed
    assert not [path for path, _ in server.requests[asked:] if path.startswith(base)]
    assert not [path for path in (tmp_path / "data" / "downloads").rglob("*") if path.suffix in (".zip", ".tar")]


def test_a_mirror_of_unknown_commit_is_pinned_at_the_first_call(server, original, tmp_path):
    mirror(server, original, "hf_confit_audioset_full")
    get(tmp_path, server, "hf_confit_audioset_full", splits=("eval",))
    server.content["api/datasets/confit/audioset-full/revision/main"] = json.dumps({"sha": "b" * 40}).encode()
    assert not get(tmp_path, server, "hf_confit_audioset_full", splits=("balanced_train",)).failed
    assert not [path for path, _ in server.requests if "b" * 40 in path]


def test_a_pinned_mirror_is_asked_for_its_commit(server, original, tmp_path):
    mirror(server, original, "hf_agkphysics_audioset_tar")
    get(tmp_path, server, "hf_agkphysics_audioset_tar", splits=("eval",))
    asked = [path for path, _ in server.requests if "agkphysics" in path]
    assert asked
    assert all("5a2fa42a1506470d275a47ff8e1fdac5b364e6ef" in path for path in asked)


def test_clips_that_are_absent_corrupt_or_unlisted_are_told(server, original, tmp_path):
    names = sorted(clips_of(original, "eval"))
    corrupt, cut = tmp_path / "corrupt.wav", tmp_path / "cut.wav"
    corrupt.write_bytes(b"no sound at all")
    cut.write_bytes(clips_of(original, "eval")[names[4]].read_bytes()[:5000])
    changed = {names[3]: corrupt, names[4]: cut}
    mirror(server, original, "hf_confit_audioset_full", left_out=names[:3], changed=changed)
    result = get(tmp_path, server, "hf_confit_audioset_full", splits=("eval",))
    known = missing(result.root)
    assert set(known) == set(names[:5])
    assert {reason for _, reason in map(known.get, names[:3])} == {f"not in confit/audioset-full at {COMMIT[:12]}"}
    assert "no sound file that can be decoded" in known[names[3]][1]
    assert "truncated" in known[names[4]][1]
    assert {split for split, _ in known.values()} == {"eval"}
    assert any("5" in note or "3" in note for note in result.notes)
    # a second call asks for no archive, since what is missing isn't in them, and forgets no reason
    asked = server.asked.copy()
    get(tmp_path, server, "hf_confit_audioset_full", splits=("eval",))
    assert missing(result.root) == known
    assert not [path for path in server.asked - asked if path.endswith(".zip")]


def test_an_archive_that_cannot_be_had_is_told_and_got_at_the_next_call(server, original, tmp_path):
    base = mirror(server, original, "hf_agkphysics_audioset")
    broken = f"{base}/data/eval/01.parquet"
    server.codes[broken] = [404] * 3
    result = get(tmp_path, server, "hf_agkphysics_audioset", splits=("eval",))
    assert [part.name for part in result.failed] == ["data/eval/01.parquet"]
    some = len(clips_of(result.root, "eval"))
    assert 0 < some < len(clips_of(original, "eval"))
    server.codes.clear()
    assert not get(tmp_path, server, "hf_agkphysics_audioset", splits=("eval",)).failed
    assert len(clips_of(result.root, "eval")) == len(clips_of(original, "eval"))
    assert server.asked[f"{base}/data/eval/00.parquet"] == 1
    assert missing(result.root) == {}


def test_a_wrong_archive_is_refused(server, original, tmp_path):
    base = mirror(server, original, "hf_confit_audioset_full")
    file = server.folder / base / "eval" / "eval_segments.zip"
    data = bytearray(file.read_bytes())
    data[100] ^= 1
    file.write_bytes(data)
    result = get(tmp_path, server, "hf_confit_audioset_full", splits=("eval",))
    assert "sha256" in result.failed[0].remark
    assert clips_of(result.root, "eval") == {}


def test_a_limit_takes_the_first_clips_and_no_more_archives_than_needed(server, original, tmp_path):
    base = mirror(server, original, "hf_agkphysics_audioset")
    names = list(audioset_sources._read_times(original / "metadata" / "eval_segments.csv"))
    result = get(tmp_path, server, "hf_agkphysics_audioset", splits=("eval",), limit=3)
    assert set(clips_of(result.root, "eval")) == set(names[:3])
    more = get(tmp_path, server, "hf_agkphysics_audioset", splits=("eval",), limit=6)
    assert set(clips_of(more.root, "eval")) == set(names[:6])
    assert len([path for path in server.asked if path.startswith(f"{base}/data/bal")]) == 0


def test_a_mirror_that_changed_its_layout_is_told(server, original, tmp_path):
    mirror(server, original, "hf_confit_audioset_full")
    repository = "api/datasets/confit/audioset-full"
    listed = [{"type": "file", "path": "new/everything.bin", "size": 1}]
    server.content[f"{repository}/tree/{COMMIT}?recursive=true"] = json.dumps(listed).encode()
    server.links.clear()
    with pytest.raises(DataError, match=r"has no archives of balanced_train; it has new/everything\.bin"):
        get(tmp_path, server, "hf_confit_audioset_full")


def test_too_small_a_disk_is_told_beforehand(server, original, tmp_path, monkeypatch):
    mirror(server, original, "hf_confit_audioset_full")
    usage = archives.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda _: usage._replace(free=archives.SPARE + (1 << 20)))
    with pytest.raises(DataError, match=r"AudioSet from confit/audioset-full needs .* MB in"):
        get(tmp_path, server, "hf_confit_audioset_full")


# --- lists and black list --------------------------------------------------------------------------------------


def test_the_class_labels_are_the_published_file():
    entry = next(entry for entry in download.facts()["audioset"]["files"] if entry["name"].startswith("class_labels"))
    made = audioset_sources.class_labels_csv().encode()
    assert (len(made), hashlib.sha256(made).hexdigest()) == (entry["size"], entry["sha256"])


def test_the_black_list_is_read_in_both_of_the_authors_forms(tmp_path):
    folder = tmp_path / "metadata" / "black_list"
    folder.mkdir(parents=True)
    (folder / "a.csv").write_text("-5QrBL6MzLg_60.000_70.000.wav\t60.000\t70.000\tTrain horn\r\n")
    (folder / "b.csv").write_text("YJMT0mK0Dbg\n3ACjUf9QpAQ,x\nY3S2-TODd__k.wav\n\nid\n")
    assert audioset.read_black_list(tmp_path) == {"-5QrBL6MzLg", "YJMT0mK0Dbg", "3ACjUf9QpAQ", "3S2-TODd__k"}
    assert audioset.read_black_list(tmp_path / "elsewhere") == set()


def test_black_listed_clips_are_not_trained_on_where_a_copy_has_them(original, tmp_path):
    names = sorted(clips_of(original, "balanced_train"))
    pack_like_the_authors(tmp_path / "balanced_train.h5", names)
    packed = datasets.PackedClips([tmp_path / "balanced_train.h5"])
    settings = SimpleNamespace(training_set="full", share=1)
    rows = training.training_rows(packed, settings, seed=0, black_list={names[0], names[7], "elsewhere00"})
    assert rows.tolist() == [row for row in range(len(names)) if row not in (0, 7)]


def test_a_copy_without_the_black_listed_clips_is_whole(server, original, tmp_path, monkeypatch):
    mirror(server, original, "hf_confit_audioset_full")
    sizes = {split: len(clips_of(original, split)) for split in SPLITS}
    monkeypatch.setattr(audioset, "AUTHORS_COPY", sizes)
    result = get(tmp_path, server, "hf_confit_audioset_full")
    assert result.evidence == "real"
    assert any("are on the black list" in note for note in result.notes)
    sorted(clips_of(result.root, "balanced_train").values())[0].unlink()
    assert datasets.load("audioset", result.root).evidence == "partial"


def test_without_a_black_list_it_is_said(server, original, tmp_path):
    mirror(server, original, "hf_confit_audioset_full")
    server.codes["black.csv"] = [404]
    result = get(tmp_path, server, "hf_confit_audioset_full", splits=("balanced_train",))
    assert set(clips_of(result.root, "balanced_train")) == set(clips_of(original, "balanced_train"))
    assert any("Warning" in note and "no clip is left out" in note for note in result.notes)
    assert [part.name for part in result.failed] == ["black.csv"]
    server.codes.clear()
    again = get(tmp_path, server, "hf_confit_audioset_full", splits=("balanced_train",))
    assert not again.failed
    assert read_black_list(result.root)


def test_half_a_black_list_is_completed(server, original, tmp_path, monkeypatch):
    mirror(server, original, "hf_confit_audioset_full")
    monkeypatch.setitem(audioset_sources.BLACK_LISTS, "other.csv", "0" * 64)
    result = get(tmp_path, server, "hf_confit_audioset_full", splits=("eval",))
    assert [part.name for part in result.failed] == ["other.csv"]
    (server.folder / "other.csv").write_text("Yccccccccccc\n")
    digest = hashlib.sha256((server.folder / "other.csv").read_bytes()).hexdigest()
    monkeypatch.setitem(audioset_sources.BLACK_LISTS, "other.csv", digest)
    assert not get(tmp_path, server, "hf_confit_audioset_full", splits=("eval",)).failed


def test_a_list_that_is_damaged_is_told_with_its_line(server, original, tmp_path):
    mirror(server, original, "hf_confit_audioset_full")
    lines = (server.folder / "eval_segments.csv").read_text().splitlines(keepends=True)
    lines[4] = "short, 1, 2, x\n"
    (server.folder / "eval_segments.csv").write_text("".join(lines))
    with pytest.raises(DataError, match=r"eval_segments\.csv, line 5: .* must be an id of 11 characters"):
        get(tmp_path, server, "hf_confit_audioset_full", splits=("eval",))


# --- from the source of each clip ------------------------------------------------------------------------------

YT_DLP = """#!/bin/sh
for last; do :; done
name=${{last#*=}}
printf '%s\\n' "$*" >> {folder}/log
if [ -e "{folder}/answers/$name" ]; then
    cat "{folder}/answers/$name" >&2
    test ! -s "{folder}/answers/$name"
    exit
fi
while [ "$1" != --output ]; do shift; done
cp {original}/audios/*/"Y$name.wav" "${{2%.*}}.wav"
"""


@pytest.fixture
def videos(original, tmp_path, monkeypatch):
    """A program yt-dlp on the path; `answer` tells what it complains of, `calls` reads what it was asked for."""
    folder = tmp_path / "bin"
    (folder / "answers").mkdir(parents=True)
    (folder / "yt-dlp").write_text(YT_DLP.format(folder=folder, original=original))
    (folder / "yt-dlp").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    class Videos:
        def answer(self, clips: dict[str, str]):
            """Complain of these clips, and end without a sound where the complaint is empty."""
            for file in (folder / "answers").iterdir():
                file.unlink()
            for name, text in clips.items():
                (folder / "answers" / name).write_text(text)

        def calls(self) -> list[list[str]]:
            log = folder / "log"
            return [line.split(" ") for line in log.read_text().splitlines()] if log.is_file() else []

    return Videos()


def test_clips_from_their_source(server, original, videos, tmp_path):
    names = list(audioset_sources._read_times(original / "metadata" / "eval_segments.csv"))[:6]
    gone, later, silent = names[1], names[2], names[3]
    unavailable = "ERROR: [youtube] x: Video unavailable. This video is private"
    busy = "ERROR: unable to download video data: HTTP Error 503: Service Unavailable"
    videos.answer({gone: f"WARNING: something\n{unavailable}", later: busy, silent: ""})
    result = get(tmp_path, server, "youtube", splits=("eval",), limit=6)
    assert set(clips_of(result.root, "eval")) == {names[0], names[4], names[5]}
    known = missing(result.root)
    assert known[gone] == ("eval", "[youtube] x: Video unavailable. This video is private")
    assert "503" in known[later][1]
    assert "left no sound file" in known[silent][1]
    call = next(call for call in videos.calls() if call[-1].endswith(names[0]))
    start, end = audioset_sources._read_times(original / "metadata" / "eval_segments.csv")[names[0]]
    assert call[call.index("--download-sections") + 1] == f"*{start:g}-{end:g}"
    assert call[-1] == f"https://www.youtube.com/watch?v={names[0]}"
    # the next call asks for what may be there by now, but not for what is gone
    videos.answer({})
    before = len(videos.calls())
    again = get(tmp_path, server, "youtube", splits=("eval",), limit=6)
    assert {call[-1].rpartition("=")[2] for call in videos.calls()[before:]} == {later, silent}
    assert set(missing(again.root)) == {gone}
    get(tmp_path, server, "youtube", splits=("eval",), limit=6, retry=True)
    assert len(clips_of(result.root, "eval")) == 6
    assert datasets.load("audioset", result.root).clips["split"].tolist() == ["eval"] * 6


def test_black_listed_clips_are_not_asked_for(server, original, videos, tmp_path):
    result = get(tmp_path, server, "youtube", splits=("balanced_train",))
    asked = {call[-1].rpartition("=")[2] for call in videos.calls()}
    assert not asked & set(server.banned)
    assert len(asked) == len(clips_of(result.root, "balanced_train")) > 10


def test_a_source_that_refuses_to_answer_stops_the_call(server, original, videos, tmp_path, monkeypatch):
    monkeypatch.setattr(audioset_sources, "BLOCKED_IN_A_ROW", 4)
    names = clips_of(original, "eval")
    videos.answer(dict.fromkeys(names, "ERROR: Sign in to confirm you're not a bot"))
    with pytest.raises(DataError, match="refuses to answer"):
        get(tmp_path, server, "youtube", splits=("eval",), workers=1)
    assert len(videos.calls()) < len(names) / 2
    known = missing(tmp_path / "data" / "raw" / "audioset")
    assert len(known) == len(names)
    assert {"not asked for yet"} < {reason for _, reason in known.values()}


def test_a_killed_call_goes_on(server, original, videos, tmp_path):
    code = (
        "import sys; from pannslib.datasets import audioset_sources as s; s.BLACK_LISTS = {}; "
        f"s.get(sys.argv[1], 'youtube', splits=('eval',), base_url='{server.url}', workers=1)"
    )
    root = tmp_path / "data" / "raw" / "audioset"
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "data")]) as process:
        while process.poll() is None and len(clips_of(root, "eval")) < 3:
            pass
        process.kill()
    done = set(clips_of(root, "eval"))
    assert done
    before = len(videos.calls())
    get(tmp_path, server, "youtube", splits=("eval",))
    asked = {call[-1].rpartition("=")[2] for call in videos.calls()[before:]}
    assert not asked & done
    assert set(clips_of(root, "eval")) == set(clips_of(original, "eval"))
    assert not list(root.rglob("*.part"))


def test_without_yt_dlp_it_is_said(server, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DataError, match="yt-dlp isn't there"):
        get(tmp_path, server, "youtube", splits=("eval",))


# --- a folder that one has -------------------------------------------------------------------------------------


@pytest.mark.parametrize("link", ["symlink", "hardlink", "copy"])
def test_a_folder_of_files_named_by_id(link, server, original, tmp_path):
    given = tmp_path / "given"
    clips = clips_of(original, "eval")
    names = sorted(clips)
    patterns = ("deep/er/Y{}.wav", "{}.wav", "{}_30.000_40.000.wav", "flat/Y{}_30.000.wav")
    for number, name in enumerate(names):
        target = given / patterns[number % 4].format(name)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(clips[name], target)
    (given / "holiday.wav").write_bytes(clips[names[0]].read_bytes())
    (given / "notes.txt").write_text("x")
    (given / patterns[0].format(names[0])).write_bytes(b"broken")
    result = get(tmp_path, server, path=given, splits=("eval",), link=link)
    there = clips_of(result.root, "eval")
    assert set(there) == set(names[1:])
    file = there[names[1]]
    assert file.is_symlink() == (link == "symlink")
    assert (file.stat().st_nlink > 1) == (link == "hardlink")
    assert "no sound file" in missing(result.root)[names[0]][1]
    assert any("holiday.wav" in note for note in result.notes)
    assert len(datasets.load("audioset", result.root).clips) == len(names) - 1
    shutil.rmtree(given)
    assert (len(datasets.load("audioset", original).clips)) > 0


def test_the_folder_itself_is_never_changed(server, original, tmp_path):
    given = tmp_path / "given"
    shutil.copytree(original, given)
    before = {path: path.stat().st_mtime_ns for path in given.rglob("*")}
    (given / "miniature.json").unlink()
    before.pop(given / "miniature.json")
    result = audioset_sources.get(tmp_path / "data", path=given, base_url="http://127.0.0.1:9", wait=0.001)
    # its own lists are taken over, so that no connection is needed
    assert {split: len(clips_of(result.root, split)) for split in SPLITS} == {
        split: len(clips_of(original, split)) for split in SPLITS
    }
    after = {path: path.stat().st_mtime_ns for path in given.rglob("*")}
    assert {path for path in after if path.is_file()} == {path for path in before if path.is_file()}
    assert not (result.root / "miniature.json").exists()


def test_a_folder_of_archives_of_a_mirror(server, original, tmp_path):
    given = tmp_path / "given"
    given.mkdir()
    put_zip(given / "a.zip", clips_of(original, "balanced_train"), "balanced_train")
    put_parquet(given / "b.parquet", clips_of(original, "eval"), "eval")
    put_shards(given / "c.tar", clips_of(original, "unbalanced_train"), "unbalanced_train")
    (given / "d.tar").write_bytes((given / "c.tar").read_bytes()[:10_000])
    (given / "e.parquet").write_bytes((given / "b.parquet").read_bytes()[:10_000])
    result = get(tmp_path, server, path=given)
    banned = banned_in_training(server, original)
    for split in SPLITS:
        assert set(clips_of(result.root, split)) == set(clips_of(original, split)) - banned
    assert {part.name for part in result.failed} == {"d.tar", "e.parquet"}
    assert all(part.name in part.remark and "cut off" in part.remark for part in result.failed)
    assert sorted(path.name for path in given.iterdir()) == ["a.zip", "b.parquet", "c.tar", "d.tar", "e.parquet"]


def test_sound_of_another_format_becomes_flac(server, original, tmp_path):
    given = tmp_path / "given"
    given.mkdir()
    name, file = sorted(clips_of(original, "eval").items())[0]
    samples, rate = soundfile.read(file, dtype="int16")
    soundfile.write(given / f"{name}.aiff", samples, rate, subtype="PCM_16")
    result = get(tmp_path, server, path=given, splits=("eval",))
    made = clips_of(result.root, "eval")[name]
    assert made.suffix == ".flac"
    np.testing.assert_array_equal(soundfile.read(made, dtype="int16")[0], samples)


def test_thorough_looks_at_all_of_a_clip(server, original, tmp_path):
    given = tmp_path / "given"
    given.mkdir()
    name, file = sorted(clips_of(original, "eval").items())[0]
    data = as_flac(file)
    (given / f"{name}.flac").write_bytes(data[: len(data) // 2])
    result = get(tmp_path, server, path=given, splits=("eval",), thorough=True)
    assert clips_of(result.root, "eval") == {}
    assert "truncated" in missing(result.root)[name][1]


# --- the authors' packed files ---------------------------------------------------------------------------------


def pack_like_the_authors(path: Path, names: list[str], classes: int = 527, kind=np.int16) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    target = rng.random((len(names), classes)) < 0.01
    target[:, 0] = True
    with h5py.File(path, "w") as store:
        store.create_dataset("audio_name", data=[f"Y{name}.wav".encode() for name in names], dtype="S20")
        store.create_dataset("waveform", data=rng.integers(-999, 999, (len(names), 3200)).astype(kind))
        store.create_dataset("target", data=target)
        store.attrs.create("sample_rate", data=32_000, dtype=np.int32)


def test_packed_files_are_taken_as_they_are(server, original, tmp_path):
    given = tmp_path / "workspace" / "hdf5s"
    clips = {split: sorted(clips_of(original, split)) for split in SPLITS}
    pack_like_the_authors(given / "waveforms" / "balanced_train.h5", clips["balanced_train"][:10])
    pack_like_the_authors(given / "waveforms" / "eval.h5", clips["eval"])
    part = given / "waveforms" / "unbalanced_train" / "unbalanced_train_part00.h5"
    pack_like_the_authors(part, clips["unbalanced_train"])
    pack_like_the_authors(given / "waveforms" / "unbalanced_train" / "unbalanced_train_part01.h5", ["x" * 11], 10)
    whole = (given / "waveforms" / "eval.h5").read_bytes()
    (given / "waveforms" / "unbalanced_train" / "unbalanced_train_part02.h5").write_bytes(whole[: len(whole) // 2])
    with h5py.File(given / "full_train.h5", "w") as store:
        store["audio_name"], store["index_in_hdf5"] = np.array([b"a"]), np.array([0])
    result = get(tmp_path, server, path=given)
    assert {part.name: part.remark.split("part0")[0] for part in result.failed}.keys() == {
        "unbalanced_train_part01.h5",
        "unbalanced_train_part02.h5",
    }
    remarks = {part.name: part.remark for part in result.failed}
    assert "10 classes, but AudioSet has 527" in remarks["unbalanced_train_part01.h5"]
    assert any("full_train.h5 is an index" in note for note in result.notes)
    places = result.root / "hdf5s" / "waveforms"
    assert sorted(path.relative_to(places).as_posix() for path in places.rglob("*.h5")) == [
        "balanced_train.h5",
        "eval.h5",
        "unbalanced_train/unbalanced_train_part00.h5",
    ]
    assert (places / "eval.h5").is_symlink()
    known = missing(result.root)
    absent = {name for name, (_, reason) in known.items() if reason != audioset_sources.BLACK_LISTED}
    assert absent == set(clips["balanced_train"][10:])
    dataset = datasets.load("audioset", result.root)
    assert len(dataset.clips) == 10 + len(clips["eval"]) + len(clips["unbalanced_train"])


def test_a_bad_packed_file_does_not_stop_the_others(server, original, tmp_path):
    given = tmp_path / "given"
    pack_like_the_authors(given / "balanced_train.h5", sorted(clips_of(original, "balanced_train")))
    pack_like_the_authors(given / "eval.h5", sorted(clips_of(original, "eval")))
    with h5py.File(given / "balanced_train.h5", "r+") as store:
        store["audio_name"][1] = b"Y\xff.wav"
    pack_like_the_authors(given / "unbalanced_train_part00.h5", [])
    result = get(tmp_path, server, path=given)
    remarks = {part.name: part.remark for part in result.failed}
    assert "balanced_train.h5, row 1: its audio_name is no UTF-8" in remarks["balanced_train.h5"]
    assert "has no clip in it" in remarks["unbalanced_train_part00.h5"]
    assert len(remarks) == 2
    assert result.evidence == "partial"


def test_packed_files_of_floats_are_refused(server, original, tmp_path):
    given = tmp_path / "given"
    pack_like_the_authors(given / "eval.h5", sorted(clips_of(original, "eval")), kind=np.float32)
    result = get(tmp_path, server, path=given, splits=("eval",))
    assert [part.name for part in result.failed] == ["eval.h5"]
    assert "int16" in result.failed[0].remark
    assert not list((result.root).rglob("*.h5"))


# --- what it costs ---------------------------------------------------------------------------------------------


def test_the_plan_tells_clips_disk_and_time_before_anything():
    table = audioset_sources.plan("hf_confit_audioset_full", rate=1e6).set_index("split")
    assert table["clips"].to_dict() == {"balanced_train": 20_550, "unbalanced_train": 1_913_637, "eval": 18_887}
    assert table["disk"].sum() == pytest.approx((20_550 + 1_913_637 + 18_887) * 10 * 32_000 * 2)
    assert table.loc["eval", "hours"] == pytest.approx(18_887 * 640_000 / 1e6 / 3600)
    half = audioset_sources.plan("hf_confit_audioset_16k_wds").set_index("split")
    assert half.loc["balanced_train", "disk"] * 2 == table.loc["balanced_train", "disk"]
    videos = audioset_sources.plan("youtube", ("eval",), limit=100, workers=10).iloc[0]
    assert videos["clips"] == 100
    assert videos["hours"] == pytest.approx(100 * audioset_sources.SECONDS_PER_VIDEO / 10 / 3600)
    parquet = audioset_sources.plan("hf_agkphysics_audioset", ("balanced_train", "eval"))
    assert parquet["download"].sum() == pytest.approx(49_805_654_900)


def test_the_plan_knows_kept_archives_and_clips_that_are_there(tmp_path):
    plan = partial(audioset_sources.plan, "hf_confit_audioset_full", ("eval",))
    plain, kept = plan().iloc[0], plan(keep_archives=True).iloc[0]
    assert kept["disk"] == 2 * plain["disk"]
    folder = tmp_path / "raw" / "audioset" / "audios" / "eval_segments"
    folder.mkdir(parents=True)
    for number in range(10):
        (folder / f"Y{number:011d}.wav").touch()
    row = plan(limit=40, data_root=tmp_path).iloc[0]
    assert (row["clips"], row["there"]) == (40, 10)
    assert row["disk"] == pytest.approx(0.75 * plan(limit=40).iloc[0]["disk"])
    assert row["download"] == pytest.approx(0.75 * plain["download"])


def test_the_plan_of_a_folder_counts_what_it_has(original, tmp_path):
    clips = clips_of(original, "eval")
    put_zip(tmp_path / "a.zip", clips, "eval")
    name, file = next(iter(clips.items()))
    shutil.copy(file, tmp_path / f"{name}.wav")
    table = audioset_sources.plan_folder(tmp_path, "symlink", rate=1e6).set_index("kind")
    assert table["files"].to_dict() == {"sound": 1, "archives": 1, "packed": 0}
    assert (table.loc["sound", "bytes"], table.loc["sound", "disk"]) == (file.stat().st_size, 0)
    assert table.loc["archives", "hours"] == pytest.approx((tmp_path / "a.zip").stat().st_size / 1e6 / 3600)
    assert audioset_sources.plan_folder(tmp_path, "copy").set_index("kind").loc["sound", "disk"] > 0


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"source": "napster"}, "AudioSet has no source 'napster'; there are hf_confit"),
        ({"source": "youtube", "splits": ("dev",)}, "AudioSet has no split dev"),
        ({"source": "folder"}, "A folder needs its path"),
        ({"source": "youtube", "path": "/tmp"}, "A folder needs its path"),
        ({"path": "/nowhere/at/all"}, "/nowhere/at/all is no folder"),
        ({"source": "youtube", "limit": 0}, "The limit is 0"),
        ({"path": "/tmp", "link": "teleport"}, "can't be linked by 'teleport'"),
        ({}, "choose one of"),
    ],
)
def test_calls_that_cannot_work_are_refused(options, text, tmp_path):
    with pytest.raises(DataError, match=text):
        audioset_sources.get(tmp_path, **options)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_clips_is_told(server, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="has no sound files"):
        get(tmp_path, server, path=tmp_path / "empty")
