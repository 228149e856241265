"""`make clean` removes what the commands made, and nothing else."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A small checkout with a committed figure, after a run, with some files of the user's own."""
    (tmp_path / "tools").mkdir()
    shutil.copy(ROOT / "tools" / "clean.py", tmp_path / "tools")
    write(tmp_path / "figures/demo/table_13.csv", "committed")

    def git(*arguments):
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        subprocess.run(["git", "-C", str(tmp_path), *identity, *arguments], check=True, capture_output=True)

    git("init")
    git("add", "figures")
    git("commit", "-m", "figures")
    made = ["figures/demo/table_13.csv", "figures/demo/table_18.csv", "figures/demo/notebooks/data.ipynb"]
    for name in made:
        write(tmp_path / name, f"made anew {name}")
    checksums = {name: hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in made}
    write(tmp_path / "runs/demo/data/inputs.json", "{}")
    write(tmp_path / "runs/demo/data/done.json", json.dumps({"files": checksums}))
    write(tmp_path / "runs/demo/.snakemake/metadata/x", "")
    write(tmp_path / "data/miniature/demo/esc50/miniature.json", "{}")
    packed = ("esc50_5s.h5", "audioset_1s.part00.h5", ".audioset_1s.report.json", ".audioset_1s.part00.lock")
    for name in (*packed, "log_mels/audioset_1s_0123456789abcdef.npy", "log_mels/.audioset_1s_0123456789abcdef.lock"):
        write(tmp_path / "data/packed/demo" / name, "")
    write(tmp_path / "data/packed/demo/embeddings/esc50_5s_0123456789abcdef.npy", "")
    write(tmp_path / "runs/demo/data/predictions/scratch_1.npz", "")
    write(tmp_path / "runs/demo/data/few_shot/scratch_2_0.json", "")
    for run in ("train_cnn14", "train_cnn14.before-0123456789abcdef"):  # of a run, and what was set aside of it
        names = ("inputs.json", "state.pt", "losses.csv", "class_auc.csv", "scores.npz", "tensorboard/events.out.1")
        for name in (*names, ".state.0123456789ab.part.pt"):
            write(tmp_path / "runs/demo" / run / name, "{}")
    for name in OWN:
        write(tmp_path / name, "mine")
    return tmp_path


OWN = (
    "figures/demo/notes.txt",
    "runs/demo/data/own.txt",
    "data/packed/demo/own.csv",
    "data/miniature/demo/esc50/own.txt",
    "runs/demo/notes.txt",
    "data/raw/esc50/clip.wav",
    "data/miniature/mine.txt",
    "notebooks/own.ipynb",
    ".venv/own-environment.txt",
)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def clean(checkout: Path) -> None:
    subprocess.run([sys.executable, checkout / "tools/clean.py"], check=True, capture_output=True)


def test_only_what_was_made_is_removed(checkout):
    clean(checkout)
    left = {
        str(path.relative_to(checkout)) for path in checkout.rglob("*") if path.is_file() and ".git/" not in str(path)
    }
    assert left == {*OWN, "tools/clean.py", "figures/demo/table_13.csv"}


def test_a_committed_figure_is_put_back(checkout):
    clean(checkout)
    assert (checkout / "figures/demo/table_13.csv").read_text() == "committed"


def test_a_figure_that_the_user_changed_stays(checkout):
    write(checkout / "figures/demo/table_18.csv", "changed by hand")
    clean(checkout)
    assert (checkout / "figures/demo/table_18.csv").read_text() == "changed by hand"


def test_cleaning_twice_is_fine(checkout):
    clean(checkout)
    clean(checkout)
