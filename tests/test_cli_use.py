"""`panns tag|detect|embed|export|doctor`: pipes, exit codes, files that are written, JSON."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from pannslib import audio, create_model, models
from pannslib.inference.speed import noise


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tagger's and a detector's weights, and a clip of a second and a half."""
    folder = tmp_path_factory.mktemp("use")
    models.save_checkpoint(create_model("Cnn6", classes=2, width=0.0625), folder / "tag.safetensors", labels=["a", "b"])
    detector = create_model("Cnn14_DecisionLevelAvg", classes=2, width=0.0625)
    models.save_checkpoint(detector, folder / "detect.safetensors", labels=["a", "b"])
    audio.save(folder / "clip ñ.wav", noise(1, 1.5, 32_000)[0], 32_000)
    return folder


def panns(folder, *arguments, **options) -> subprocess.CompletedProcess:
    call = [sys.executable, "-m", "pannslib", *map(str, arguments)]
    return subprocess.run(call, capture_output=True, cwd=folder, timeout=120, check=False, **options)


def test_a_pipe_in_and_json_out(folder):
    sound = (folder / "clip ñ.wav").read_bytes()
    result = panns(folder, "tag", "-", "--checkpoint", "tag.safetensors", "--json", input=sound)
    rows = json.loads(result.stdout)
    assert {row["clip"] for row in rows} == {"-"}
    assert {row["label"] for row in rows} == {"a", "b"}
    assert result.returncode == 0


def test_a_wav_whose_header_was_written_before_its_sound(folder):
    sound = bytearray((folder / "clip ñ.wav").read_bytes())
    expected = panns(folder, "tag", "-", "--checkpoint", "tag.safetensors", "--json", input=bytes(sound))
    place = sound.index(b"data") + 4
    sound[4:8] = sound[place : place + 4] = bytes(4)
    result = panns(folder, "tag", "-", "--checkpoint", "tag.safetensors", "--json", input=bytes(sound))
    assert result.returncode == 0, result.stderr
    assert result.stdout == expected.stdout


@pytest.mark.parametrize(("content", "words"), [(b"", b"Nothing came"), (b"RIFF", b"the pipe (-)")])
def test_a_pipe_that_closes_early(folder, content, words):
    result = panns(folder, "tag", "-", "--checkpoint", "tag.safetensors", input=content)
    assert result.returncode == 2
    assert words in result.stderr
    assert b"Traceback" not in result.stderr


def test_a_reader_that_goes_away_is_no_error(folder):
    call = f"{sys.executable} -m pannslib tag 'clip ñ.wav' --checkpoint tag.safetensors | true; exit ${{PIPESTATUS[0]}}"
    result = subprocess.run(["bash", "-c", call], capture_output=True, cwd=folder, check=False)
    assert result.returncode in (0, 141, 128 + signal.SIGPIPE)
    assert result.stderr == b""


def test_events_as_labels_for_audacity(folder):
    arguments = ("--checkpoint", "detect.safetensors", "--threshold", 0, "--out", "labels.txt")
    result = panns(folder, "detect", "clip ñ.wav", *arguments)
    assert (result.returncode, result.stdout.decode().strip()) == (0, "labels.txt")
    assert (folder / "labels.txt").read_text().splitlines()[0].split("\t")[:2] == ["0.000000", "1.500000"]


def test_a_threshold_outside_of_0_to_1(folder):
    result = panns(folder, "detect", "clip ñ.wav", "--checkpoint", "detect.safetensors", "--threshold", "1.5")
    assert (result.returncode, b"from 0 to 1" in result.stderr) == (2, True)


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
def test_embeddings_in_a_file(folder, suffix):
    out = folder / f"embeddings{suffix}"
    result = panns(folder, "embed", "clip ñ.wav", "--checkpoint", "tag.safetensors", "--out", out, "--json")
    told = json.loads(result.stdout)
    assert (told["clips"], told["embedding_size"]) == (1, 32)
    if suffix == ".npz":
        with np.load(out) as content:
            assert content["clips"].tolist() == ["clip ñ.wav"]
            assert content["embeddings"].shape == (1, 32)
    else:
        table = pd.read_parquet(out)
        assert table["clip"].tolist() == ["clip ñ.wav"]
        assert table.shape == (1, 33)


def test_export_and_what_it_says(folder):
    result = panns(folder, "export", "model.onnx", "--checkpoint", "tag.safetensors", "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["inputs"] == ["waveform"]
    assert (folder / "model.onnx").stat().st_size == json.loads(result.stdout)["size"]


def test_doctor_knows_the_machine(folder):
    found = json.loads(panns(folder, "doctor", "--json").stdout)
    assert found["machine"]["cores"] >= 1
    assert {row["name"]: row["version"] for row in found["packages"]}["numpy"] == np.__version__
    assert set(found["chosen"]) == {"fp32", "bf16"}
    text = panns(folder, "doctor").stdout.decode()
    assert "engines" in text
    assert "missing" in text


def test_without_weights_it_says_where_they_come_from(folder, tmp_path):
    environment = os.environ | {"PANNS_CACHE": str(tmp_path)}
    result = panns(folder, "tag", "clip ñ.wav", "--model", "Cnn14", env=environment)
    assert (result.returncode, b"zenodo.org" in result.stderr) == (2, True)
    result = panns(folder, "detect", "clip ñ.wav", env=environment)
    assert (result.returncode, b"Cnn14_DecisionLevelMax" in result.stderr) == (2, True)


def test_a_closed_standard_input_is_told(folder):
    call = f"exec {sys.executable} -m pannslib tag - --checkpoint tag.safetensors <&-"
    result = subprocess.run(["bash", "-c", call], capture_output=True, cwd=folder, timeout=120, check=False, text=True)
    assert result.returncode == 2
    assert "from a pipe" in result.stderr


@pytest.mark.parametrize(
    ("command", "out", "words"),
    [
        ("tag", "taken.csv", "is a folder"),
        ("tag", "labels.txt", "Add --windows"),
        ("tag", "clip ñ.wav/x.csv", "not a folder"),
        ("embed", "taken.npz", "is a folder"),
    ],
)
def test_where_results_go_is_judged_before_anything_is_computed(folder, command, out, words):
    for name in ("taken.csv", "taken.npz"):
        (folder / name).mkdir(exist_ok=True)
    result = panns(folder, command, "no such clip.wav", "--checkpoint", "none.safetensors", "--out", out, text=True)
    assert result.returncode == 2
    assert words in result.stderr


def test_names_that_the_terminal_cannot_show_are_escaped(folder):
    result = panns(
        folder, "tag", "clip ñ.wav", "--checkpoint", "tag.safetensors", env=os.environ | {"PYTHONIOENCODING": "ascii"}
    )
    assert result.returncode == 0
    assert b"clip \\xf1.wav" in result.stdout
