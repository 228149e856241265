"""Downloading data sets: stand-ins of the official archives from a real server, to what the loaders read."""

import copy
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from local_server import LocalServer

from pannslib import cli, datasets
from pannslib.datasets import archives, download, miniature
from pannslib.errors import DataError

SIZES = {
    "esc50": {"classes": 3, "clips_per_class_and_fold": 1},
    "dcase2019_task1a": {"seconds": 1.0, "training_per_scene": 1, "test_per_scene": 1},
    "dcase2018_task2": {"classes": 3, "largest_class": 3, "test_per_class": 1, "longest": 1.0},
    "msos": {"seconds": 1.0, "development_per_category": 6, "evaluation_per_category": 7},
    "gtzan": {"clips_per_genre": 2, "seconds": 1.0},
    "ravdess": {"actors": 2, "files_per_actor": 15},
    "urbansound8k": {"clips_per_class_and_fold": 1, "seconds": 0.5},
}
TAU = "TAU-urban-acoustic-scenes-2019-development"
MSOS = "MSoS_challenge_2018_Development_v1-00"


def part_of(task: str, path: str) -> tuple[str, str]:
    """The official archive that a file of the data set is in, and its place in it."""
    top = path.split("/")[0]
    if task == "esc50":
        return "ESC-50-master.zip", f"ESC-50-33c8ce9eb2cf0b1c2f8bcf322eb349b6be34dbb6/{path}"
    if task == "dcase2019_task1a":
        audio = 1 + sum(path.encode()) % 3
        return f"{TAU}.{f'audio.{audio}' if top == 'audio' else 'meta'}.zip", f"{TAU}/{path}"
    if task == "dcase2018_task2":
        return f"{top if top.startswith('FSD') else 'FSDKaggle2018.doc'}.zip", path
    if task == "msos":
        return ("Evaluation.zip" if top == "Evaluation" else top if "Master" in top else f"{MSOS}.zip"), path
    if task == "gtzan":
        return "genres.tar.gz", path if top == "genres" else f"genres/{path}"
    if task == "ravdess":
        return "Audio_Speech_Actors_01-24.zip", path
    return "UrbanSound8K.tar.gz", f"UrbanSound8K/{path}"


@pytest.fixture(scope="session")
def stand_ins(tmp_path_factory) -> dict[str, Path]:
    """Folder with the archives of each task, made of its miniature."""
    made = {}
    for task, sizes in SIZES.items():
        root = miniature.make(task, tmp_path_factory.mktemp("sets") / task, seed=0, **sizes)
        folder = made[task] = tmp_path_factory.mktemp(task)
        contents: dict[str, dict[str, Path]] = {}
        for file in sorted(path for path in root.rglob("*") if path.is_file() and path.name != "miniature.json"):
            part, place = part_of(task, file.relative_to(root).as_posix())
            contents.setdefault(part, {})[place] = file
        for part, files in contents.items():
            if part.endswith(".zip"):
                with zipfile.ZipFile(folder / part, "w") as archive:
                    for place, file in files.items():
                        archive.write(file, place)
            elif part.endswith(".tar.gz"):
                with tarfile.open(folder / part, "w:gz", compresslevel=1) as archive:
                    for place, file in files.items():
                        archive.add(file, place)
            else:
                shutil.copy(next(iter(files.values())), folder / part)
    return made


@pytest.fixture
def served(stand_ins, monkeypatch, request):
    """A server of one task's stand-ins, whose sizes and checksums are in place of the official ones."""
    facts = copy.deepcopy(download.facts())
    task = request.param
    known = {file.name: file for file in stand_ins[task].iterdir()}
    for entry in facts[task]["files"]:
        file = known.get(entry["name"])
        md5 = hashlib.md5(file.read_bytes()).hexdigest() if file else None
        if entry.get("md5"):
            entry["md5"] = md5 or entry["md5"]
        if entry.get("size"):
            entry["size"] = file.stat().st_size if file else entry["size"]
    monkeypatch.setattr(download, "facts", lambda: facts)
    with LocalServer(stand_ins[task]).running() as server:
        if task == "msos":
            files = [
                {
                    "name": file.name,
                    "size": file.stat().st_size,
                    "download_url": f"https://elsewhere/{file.name}",
                    "computed_md5": hashlib.md5(file.read_bytes()).hexdigest(),
                }
                for file in known.values()
            ]
            server.content["v2/articles/6901475"] = json.dumps({"files": files}).encode()
        yield server


def each_task(function):
    return pytest.mark.parametrize(("task", "served"), [(task, task) for task in SIZES], indirect=["served"])(function)


@each_task
def test_each_data_set_is_fetched_unpacked_and_loaded(task, served, tmp_path):
    result = download.download(task, tmp_path, base_url=served.url, wait=0.01)
    absent = {part.name for part in result.failed}
    # the miniatures have no files of documentation, and not clips for all parts of audio
    assert not {name for name in absent if ".doc" not in name and ".audio." not in name}, download.report(result)
    assert result.evidence == "partial"
    root = datasets.find(task, tmp_path)
    dataset = datasets.load(task, root)
    assert result.root == root
    assert root.is_relative_to(tmp_path / "raw" / task)
    sizes = {path.name for path in served.folder.iterdir()}
    assert {part.name for part in result.parts if part.status == "unpacked"} == sizes
    assert len(dataset.clips) > 5
    before = len(served.requests)
    again = download.download(task, tmp_path, base_url=served.url, wait=0.01)
    assert {part.status for part in again.parts if part.name in sizes} == {"was there"}
    assert not [path for path, _ in served.requests[before:] if path in sizes]


@each_task
def test_an_archive_that_lies_there_is_taken(task, served, tmp_path):
    folder = tmp_path / "raw" / task
    shutil.copytree(served.folder, folder)
    served.codes = {path: [503] * 99 for path in (file.name for file in served.folder.iterdir())}
    if task == "msos":  # the list can't be had either
        served.content.clear()
    result = download.download(task, tmp_path, base_url=served.url, wait=0.001)
    sizes = {path.name for path in served.folder.iterdir()}
    taken = {part.name for part in result.parts if "taken from" in part.remark}
    assert taken == sizes, download.report(result)
    assert len(datasets.load(task, datasets.find(task, tmp_path)).clips) > 5


@pytest.mark.parametrize("served", ["ravdess"], indirect=True)
def test_a_wrong_checksum_is_refused_and_the_file_kept(served, tmp_path):
    name = "Audio_Speech_Actors_01-24.zip"
    lying = tmp_path / "raw" / "ravdess" / name
    lying.parent.mkdir(parents=True)
    data = bytearray((served.folder / name).read_bytes())
    data[1000] ^= 1
    lying.write_bytes(data)
    result = download.download("ravdess", tmp_path, base_url=served.url, wait=0.01)
    assert [part.name for part in result.failed] == [name]
    assert "its md5 is" in result.failed[0].remark
    assert lying.read_bytes() == data
    assert not list((tmp_path / "raw").rglob("*.wav"))
    assert result.evidence == ""


@pytest.mark.parametrize("served", ["dcase2019_task1a"], indirect=True)
def test_what_is_missing_is_said_and_the_rest_is_used(served, tmp_path):
    audio = sorted(path.name for path in served.folder.glob("*audio*"))
    served.codes = {audio[0]: [404] * 9}
    result = download.download("dcase2019_task1a", tmp_path, base_url=served.url, wait=0.01)
    assert audio[0] in {part.name for part in result.failed}
    assert any(audio[0] in note and "parts are not there" in note for note in result.notes)
    assert result.evidence == "partial"
    root = datasets.find("dcase2019_task1a", tmp_path)
    fewer = len(datasets.load("dcase2019_task1a", root).clips)
    # the next call gets what was missing, and nothing else
    served.codes.clear()
    before = len(served.requests)
    download.download("dcase2019_task1a", tmp_path, base_url=served.url, wait=0.01)
    asked = {path for path, _ in served.requests[before:]}
    assert audio[0] in asked
    assert not asked & set(audio[1:])
    assert len(datasets.load("dcase2019_task1a", root).clips) > fewer


@pytest.mark.parametrize("served", ["dcase2019_task1a"], indirect=True)
def test_some_parts_only(served, tmp_path):
    result = download.download("dcase2019_task1a", tmp_path, base_url=served.url, parts="*meta.zip", wait=0.01)
    assert [part.status for part in result.parts] == ["unpacked"]
    with pytest.raises(DataError, match=r"has no part '\*video\*'; it has TAU"):
        download.download("dcase2019_task1a", tmp_path, base_url=served.url, parts="*video*")


@pytest.mark.parametrize("served", ["esc50"], indirect=True)
def test_archives_are_deleted_on_request_and_not_fetched_again(served, tmp_path):
    result = download.download("esc50", tmp_path, base_url=served.url, delete_archives=True, wait=0.01)
    assert not list(tmp_path.rglob("*.zip"))
    assert not result.failed
    clips = sorted((tmp_path / "raw" / "esc50" / "ESC-50-master" / "audio").iterdir())
    download.download("esc50", tmp_path, base_url=served.url, wait=0.01)
    assert served.asked["ESC-50-master.zip"] == 1
    clips[0].unlink()  # then it is needed again
    download.download("esc50", tmp_path, base_url=served.url, wait=0.01)
    assert served.asked["ESC-50-master.zip"] == 2
    assert clips[0].exists()


@pytest.mark.parametrize("served", ["esc50"], indirect=True)
def test_contents_that_are_not_as_published_are_said(served, tmp_path):
    result = download.download("esc50", tmp_path, base_url=served.url, wait=0.01)
    assert any("meta/esc50.csv isn't the published file" in note for note in result.notes)
    assert any("belong there" in note for note in result.notes)


@pytest.mark.parametrize("served", ["esc50"], indirect=True)
def test_an_unpacking_that_was_killed_goes_on(served, tmp_path):
    lying = tmp_path / "downloads" / "esc50"
    lying.mkdir(parents=True)
    shutil.copy(served.folder / "ESC-50-master.zip", lying)
    audio = tmp_path / "raw" / "esc50" / "ESC-50-master" / "audio"
    code = "import sys; from pannslib.datasets import download; download.download('esc50', sys.argv[1])"
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)]) as process:
        while not (audio.is_dir() and any(audio.glob("*.wav"))) and process.poll() is None:
            pass
        process.kill()
    result = download.download("esc50", tmp_path, base_url=served.url)
    assert not result.failed
    assert served.requests == []
    dataset = datasets.load("esc50", result.root)
    assert len(dataset.clips) == 15
    assert not [file for file in audio.iterdir() if file.suffix != ".wav"]


@pytest.mark.parametrize("served", ["gtzan"], indirect=True)
def test_an_archive_of_another_name_is_taken_without_the_official_checksum(served, tmp_path):
    shutil.copy(served.folder / "genres.tar.gz", tmp_path / "gtzan-from-elsewhere.tar.gz")
    result = download.download("gtzan", tmp_path, base_url="http://127.0.0.1:9")
    assert not result.failed, download.report(result)
    assert result.evidence == "partial"


@pytest.mark.parametrize("served", ["gtzan"], indirect=True)
def test_an_archive_that_is_cut_off_is_told_by_name(served, tmp_path):
    data = (served.folder / "genres.tar.gz").read_bytes()
    (tmp_path / "genres-copy.tar.gz").write_bytes(data[: len(data) // 2])
    result = download.download("gtzan", tmp_path, base_url=served.url)
    assert "genres-copy.tar.gz is cut off" in result.failed[0].remark


def test_a_complete_data_set_is_left_alone(tmp_path, monkeypatch):
    root = miniature.make("gtzan", tmp_path / "raw" / "gtzan", clips_per_genre=2, seconds=1.0)
    (root / "miniature.json").unlink()
    monkeypatch.setattr(datasets.gtzan, "CLIPS", 20)
    result = download.download("gtzan", tmp_path, base_url="http://127.0.0.1:9")
    assert result.evidence == "real"
    assert result.parts[0].remark == "all 20 clips"


def test_unknown_data_sets_and_options_are_refused(tmp_path):
    with pytest.raises(DataError, match="There is no data set 'esc51'; there are audioset, esc50"):
        download.download("esc51", tmp_path)
    with pytest.raises(DataError, match="limit can be given for audioset alone"):
        download.download("esc50", tmp_path, limit=3)


# --- what it costs ---------------------------------------------------------------------------------------------


def test_the_listing_has_every_data_set_with_its_licence_and_invents_no_size():
    table = download.listing(rate=1e6)
    assert set(table["task"]) == set(download.facts())
    assert (table["licence"].str.len() > 5).all()
    rows = table.set_index("task")
    assert rows.loc["dcase2019_task1a", "download"] == 35_622_537_482
    assert rows.loc["dcase2019_task1a", "hours"] == pytest.approx(35_622_537_482 / 1e6 / 3600)
    assert rows.loc["ravdess", "download"] == 208_468_073
    for task in ("gtzan", "msos", "dcase2018_task2"):  # null in the facts
        assert rows.loc[task, ["download", "hours"]].isna().all()
    assert "not known" in rows.loc["gtzan", "licence"]
    sources = table.query("task == 'audioset'")["source"]
    assert {"hf_confit_audioset_full", "youtube"} <= set(sources)
    known = table.dropna(subset=["download"])
    assert (known["disk"] >= known["download"]).all()


@pytest.mark.parametrize("served", ["ravdess"], indirect=True)
def test_the_plan_knows_what_is_there_and_asks_for_sizes(served, tmp_path, monkeypatch):
    name = "Audio_Speech_Actors_01-24.zip"
    size = (served.folder / name).stat().st_size
    row = download.plan("ravdess", tmp_path, served.url, rate=1e3).iloc[0]
    assert (row["part"], row["bytes"], row["download"], row["checksum"]) == (name, size, size, "md5")
    assert row["minutes"] == pytest.approx(size / 1e3 / 60)
    assert row["disk"] > 2 * size
    monkeypatch.setitem(download.facts()["ravdess"]["files"][0], "size", None)
    assert download.plan("ravdess", tmp_path, served.url).iloc[0][["bytes", "disk"]].isna().all()
    assert download.plan("ravdess", tmp_path, served.url, ask=True).iloc[0]["bytes"] == size
    download.download("ravdess", tmp_path, served.url, wait=0.01)
    row = download.plan("ravdess", tmp_path, served.url).iloc[0]
    assert (row["there"], row["download"], row["disk"]) == ("unpacked", 0, 0)


@pytest.mark.parametrize(
    ("hours", "text"), [(0.001, "4 s"), (0.5, "30 min"), (1.0, "60 min"), (35, "35 h"), (1158, "48 days")]
)
def test_times_for_people(hours, text):
    assert download.duration(hours) == text


# --- on the command line ---------------------------------------------------------------------------------------


def test_the_command_lists_costs_and_licences(tmp_path):
    call = [sys.executable, "-m", "pannslib", "download", "--list"]
    environment = os.environ | {"PANNS_HOME": str(tmp_path), "COLUMNS": "200"}
    result = subprocess.run(call, capture_output=True, text=True, env=environment, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    for text in ("ravdess", "208 MB", "CC-BY-NC-SA-4.0", "hf_confit_audioset_full", "35.6 GB"):
        assert text in result.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def panns(monkeypatch, capsys, tmp_path):
    """The command `panns download` in this process; returns exit code, output and error output."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["panns", "download", *map(str, arguments), "--data-root", str(tmp_path)])
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        return exit_.value.code, *capsys.readouterr()

    return run


def test_the_command_takes_an_archive_and_tells_what_it_did(stand_ins, tmp_path, panns):
    with LocalServer(stand_ins["esc50"]).running() as server:
        code, output, _ = panns("esc50", "--base-url", server.url)
    assert code == 0
    assert "Licence: CC-BY-NC-3.0" in output
    assert "ESC-50-master.zip: unpacked" in output
    assert "partial" in output
    assert (tmp_path / "raw" / "esc50" / "ESC-50-master" / "meta" / "esc50.csv").is_file()


def test_the_command_fails_where_parts_do(stand_ins, panns):
    with LocalServer(stand_ins["esc50"]).running() as server:
        code, output, error = panns("ravdess", "--base-url", server.url)
    assert code == 1
    assert "Audio_Speech_Actors_01-24.zip: failed" in output
    assert "404" in output
    assert "the same call goes on" in error


@pytest.mark.parametrize(
    ("arguments", "text"),
    [((), "Name what to download"), (("esc51",), "There is no data set 'esc51'"), (("audioset",), "choose one of")],
)
def test_calls_that_cannot_work(arguments, text, panns):
    code, _, error = panns(*arguments)
    assert code == 2
    assert text in error


def test_every_address_and_checksum_is_well_formed():
    for task in download.facts():
        if task == "msos":  # asked for at figshare
            continue
        for remote in download.remotes(task):
            assert remote.url.startswith("https://")
            assert remote.md5 is None or len(remote.md5) == 32
            assert remote.sha256 is None or len(remote.sha256) == 64
            assert archives.name_of(remote.url)
