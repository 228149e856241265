"""What ``make clean`` does: remove what the project's commands made, and nothing else.

It needs nothing but Python. What belongs to the commands is known, not guessed: the environment with our stamp, run
folders with our ``inputs.json``, miniatures with our ``miniature.json``, packed files, and those files of figures/ that
a ``done.json`` lists with the checksum that they still have. A figure that git tracks is put back as it was
committed. One's own files, also inside these folders, stay.
"""

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

# what a miniature and a run folder hold that is ours
MINIATURE = ("**/*.wav", "meta/*.csv", "metadata/*.csv", "miniature.json")
RUN = (
    "*.json",
    "error.txt",
    "executing.ipynb",
    "*.safetensors",
    "state.pt",
    "classes.csv",
    "class_ap.csv",
    "class_auc.csv",
    "curve.csv",
    "losses.csv",
    "change.csv",
    "scores.npz",
    "tensorboard/events.*",
    ".*.part.*",
    "predictions/*.npz",
    "predictions/inputs.json",
    "few_shot/*.json",
)
PACKED = ("*/*_*s.h5", "*/*_*s.part[0-9]*.h5", "*/*_*s.clips.csv", "*/.*_*s.report.json", "*/.*.lock")
PACKED += ("*/embeddings/*.npy", "*/log_mels/*.npy", "*/log_mels/.*.lock")
ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Remove everything, and say what."""
    for profile in sorted(path for path in (ROOT / "runs").glob("*") if path.is_dir()):
        _clean_figures(profile)
        _clean_runs(profile)
    for mark in (ROOT / "data" / "miniature").glob("*/*/miniature.json"):
        _remove_files(mark.parent, *MINIATURE)
    _remove_files(ROOT / "data" / "miniature", "*/.*.lock")
    _remove_files(ROOT / "data" / "packed", *PACKED)
    if (ROOT / ".venv" / ".made-by-make").is_file():
        _remove(ROOT / ".venv")
    for folder in ("pannslib.egg-info", ".pytest_cache", ".ruff_cache", "__pycache__", "notebooks/.ipynb_checkpoints"):
        _remove(ROOT / folder)
    for package in ("pannslib", "tests", "tools", "benchmarks"):
        for cache in list((ROOT / package).rglob("__pycache__")):
            _remove(cache)
    for folder in ("runs", "data/miniature", "data/packed"):
        _prune(ROOT / folder)


def _clean_runs(profile: Path) -> None:
    for mark in profile.glob("*/inputs.json"):
        _remove_files(mark.parent, *RUN)
    for name in (".snakemake", ".progress"):
        _remove(profile / name)
    names = ("snakemake.log", "index.done", ".config.json", ".reproduce.json", ".*.lock")
    _remove_files(profile, *names)


def _clean_figures(profile: Path) -> None:
    """Remove the figures that the runs of ``profile`` made and nobody changed since."""
    for done in profile.glob("*/done.json"):
        for name, checksum in json.loads(done.read_text(encoding="utf-8"))["files"].items():
            path = ROOT / name
            if path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == checksum:
                _remove_or_restore(path)
    if (profile / "index.done").is_file():
        index = ROOT / "figures" / profile.name / "index.html"
        if index.is_file():
            _remove_or_restore(index)
    _prune(ROOT / "figures" / profile.name)


def _remove_or_restore(path: Path) -> None:
    def git(*arguments: str) -> bool:
        command = ["git", "-C", str(ROOT), *arguments, "--", str(path)]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    if shutil.which("git") and git("ls-files", "--error-unmatch"):
        git("restore")
    else:
        path.unlink()


def _remove_files(folder: Path, *patterns: str) -> None:
    """Remove the files below ``folder`` that a pattern names, and say how many there were."""
    found = [path for pattern in patterns for path in list(folder.glob(pattern)) if path.is_file()]
    for path in found:
        path.unlink()
    if found:
        print(f"removed {len(found)} files below {folder.relative_to(ROOT)}")


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
        print(f"removed {folder.relative_to(ROOT)}")


def _prune(folder: Path) -> None:
    """Remove ``folder`` and the folders in it that are empty."""
    if folder.is_dir():
        for inner in sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True):
            if not any(inner.iterdir()):
                inner.rmdir()
        if not any(folder.iterdir()):
            folder.rmdir()


if __name__ == "__main__":
    main()
