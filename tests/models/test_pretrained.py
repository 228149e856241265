"""Fetching released weights from a real server on this machine: whole, cut off, wrong, absent, unreachable."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

import golden_recipe
import pytest
import torch

from pannslib import files
from pannslib.errors import CheckpointError, ModelError
from pannslib.models import fetch_pretrained, list_models, load_pretrained, pretrained, released_checkpoints

FILE = "Cnn6_mAP=0.343.pth"
UNKNOWN = "LeeNet11_mAP=0.266.pth"  # a file whose checksum isn't known


class Server(ThreadingHTTPServer):
    """Serves bytes under names; ``cut`` ends an answer early, ``ranges`` says whether a part can be asked for."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.cut, self.ranges, self.asked = {}, None, True, []
        self.address = f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server, name = self.server, unquote(self.path).lstrip("/")
        wanted = self.headers.get("Range")
        server.asked.append((name, wanted))
        if name not in server.content:
            self.send_error(404)
            return
        body = server.content[name]
        start = int(wanted.split("=")[1].rstrip("-")) if wanted and server.ranges else 0
        if start >= len(body):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        self.wfile.write(body[start : server.cut])

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("released") / FILE
    torch.save({"iteration": 0, "model": golden_recipe.state_dict("Cnn6")}, path)
    return path.read_bytes()


@pytest.fixture
def release(monkeypatch, server, weights):
    """Serve stand-ins for the released files, with the stand-in's checksum in the table."""
    table = released_checkpoints()
    table.loc[table["name"] == FILE, ["md5", "sha256"]] = [hashlib.md5(weights).hexdigest(), None]
    monkeypatch.setattr(pretrained, "released_checkpoints", lambda: table)
    server.content = {FILE: weights, UNKNOWN: b"these could be weights"}
    return server


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr("pooch.core.time.sleep", lambda seconds: None)


def fetch(server, folder, name: str = "Cnn6"):
    return fetch_pretrained(name, cache=folder, mirror=server.address, progress=False)


def test_the_table_names_every_released_file():
    table = released_checkpoints()
    assert set(table["model"]) <= set(list_models())
    assert len(table) == 22
    row = table.set_index("model").loc["Cnn14"]
    assert row["url"].endswith("/Cnn14_mAP%3D0.431.pth?download=1")
    assert (row["map"], row["size"], row["licence"]) == (0.431, 327_428_481, "CC-BY-4.0")


def test_a_whole_file_is_loaded_and_kept(release, tmp_path, weights):
    model = load_pretrained("Cnn6", cache=tmp_path, mirror=release.address, progress=False)
    assert not model.training
    assert torch.equal(model.fc1.bias, golden_recipe.state_dict("Cnn6")["fc1.bias"])
    assert (tmp_path / FILE).read_bytes() == weights
    assert [path.name for path in tmp_path.iterdir()] == [FILE]
    asked = len(release.asked)
    fetch(release, tmp_path)
    assert len(release.asked) == asked, "a second call needs no network"


def test_the_cache_folder_can_be_moved(release, tmp_path, monkeypatch):
    monkeypatch.setenv("PANNS_CACHE", str(tmp_path / "cache"))
    path = fetch_pretrained("Cnn6", mirror=release.address, progress=False)
    assert path == tmp_path / "cache" / FILE


def test_a_cut_off_transfer_goes_on_where_it_stopped(release, tmp_path, weights):
    release.cut = 300_000
    with pytest.raises(CheckpointError, match="cut off"):
        fetch(release, tmp_path)
    assert not (tmp_path / FILE).exists()
    release.cut, release.asked[:] = None, []
    assert fetch(release, tmp_path).read_bytes() == weights
    assert len(release.asked) == 1
    assert int(release.asked[0][1].removeprefix("bytes=").rstrip("-")) > 0


def test_a_server_without_ranges_begins_anew(release, tmp_path, weights):
    release.cut = 300_000
    with pytest.raises(CheckpointError):
        fetch(release, tmp_path)
    release.cut, release.ranges = None, False
    assert fetch(release, tmp_path).read_bytes() == weights


def test_a_part_of_a_longer_file_is_thrown_away(release, tmp_path, weights):
    (tmp_path / f".{FILE}.part").write_bytes(weights + b"more")
    assert fetch(release, tmp_path).read_bytes() == weights


def test_a_wrong_checksum_is_refused(release, tmp_path):
    release.content[FILE] = b"<html>busy</html>"
    with pytest.raises(CheckpointError, match="checksum is wrong"):
        fetch(release, tmp_path)
    assert len(release.asked) == 2, "tried again once"
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_copy_in_the_cache_is_fetched_again(release, tmp_path, weights):
    (tmp_path / FILE).write_bytes(weights[:-1] + b"?")
    assert fetch(release, tmp_path).read_bytes() == weights


def test_an_absent_file_says_so_and_how_to_go_on(release, tmp_path):
    release.content = {}
    with pytest.raises(CheckpointError, match="answered 404") as error:
        fetch(release, tmp_path)
    assert str(tmp_path / FILE) in str(error.value)


def test_no_network_says_so(tmp_path):
    with pytest.raises(CheckpointError, match="can't be reached"):
        fetch_pretrained("Cnn6", cache=tmp_path, mirror="http://127.0.0.1:9", progress=False)


def test_an_unknown_checksum_is_kept_and_holds_from_then_on(release, tmp_path):
    fetch(release, tmp_path, "LeeNet11")
    lock = files.read_json(tmp_path / pretrained.LOCK)
    assert lock == {UNKNOWN: "sha256:" + hashlib.sha256(b"these could be weights").hexdigest()}
    (tmp_path / UNKNOWN).unlink()
    release.content[UNKNOWN] = b"others"
    with pytest.raises(CheckpointError, match="checksum is wrong"):
        fetch(release, tmp_path, "LeeNet11")


def test_models_without_released_weights_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="released no weights of VGGish"):
        fetch_pretrained("VGGish", cache=tmp_path)
    with pytest.raises(ModelError, match="Did you mean"):
        load_pretrained("Cnn41", cache=tmp_path)
