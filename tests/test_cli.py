"""The command line: help, exit codes, and errors in their own words."""

import os
import subprocess
import sys
import time

import numpy as np
import pytest

from pannslib import __version__, audio, create_model, models


def panns(*arguments, **environment) -> subprocess.CompletedProcess:
    call = [sys.executable, "-m", "pannslib", *map(str, arguments)]
    return subprocess.run(call, capture_output=True, text=True, env=os.environ | environment, timeout=120, check=False)


def test_help_names_the_commands():
    result = panns("--help")
    assert result.returncode == 0
    for command in ("reproduce", "report", "tag", "version"):
        assert command in result.stdout


def test_version():
    assert panns("version").stdout.strip() == __version__


def test_importing_the_package_loads_nothing_heavy():
    code = "import sys, pannslib, pannslib.cli; print({'torch', 'librosa', 'pandas', 'matplotlib'} & set(sys.modules))"
    started = time.monotonic()
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"
    assert time.monotonic() - started < 30


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("reproduce", "--profile", "dmo"), "There is no profile 'dmo'"),
        (("reproduce", "--data-root", "/nowhere/at/all"), "/nowhere/at/all doesn't exist"),
        (("reproduce", "--cores", "0"), "cores"),
        (("execute", "transfer_x", "--profile", "smoke"), "There is no run 'transfer_x'"),
        (("tag", "clip.wav", "--checkpoint", "absent.safetensors"), "absent.safetensors"),
    ],
)
def test_a_call_that_cannot_work_says_why_and_exits_with_2(arguments, words):
    result = panns(*arguments)
    assert result.returncode == 2
    assert words in result.stderr
    assert "Traceback" not in result.stderr


def test_tag_prints_csv_and_names_the_file_that_it_cannot_use(tmp_path):
    weights = tmp_path / "small.safetensors"
    models.save_checkpoint(create_model("Cnn6", classes=3, width=0.0625), weights, labels=["a", "b", "c"])
    audio.save(tmp_path / "good.wav", np.zeros(32_000, np.float32), 32_000)
    (tmp_path / "bad.wav").write_text("no sound")
    result = panns("tag", tmp_path / "good.wav", tmp_path / "bad.wav", "--checkpoint", weights, "--top", 2)
    lines = result.stdout.strip().splitlines()
    assert lines[0] == "clip,label,probability"
    assert len(lines) == 3
    assert result.returncode == 1
    assert "bad.wav" in result.stderr
