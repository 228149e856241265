"""Results on disk: a folder a run, with its settings and where everything in it comes from.

``runs/<profile>/<job>/`` holds ``inputs.json`` (what the results depend on), the results themselves,
``provenance.json`` (code, packages, hardware, data, seed, duration, peak memory) and, once the notebook has been
executed to its end by papermill, ``done.json``.
"""

import importlib.metadata
import importlib.util
import os
import platform
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import pandas as pd
import psutil

from pannslib import __version__, files, paths
from pannslib.audioset_runs import RUNS
from pannslib.catalogue import PRETRAINING, Plan
from pannslib.datasets.base import some
from pannslib.datasets.packed import report_path

# packages whose version can change a number
RECORDED_PACKAGES = (
    "torch",
    "lightning-fabric",
    "numpy",
    "scipy",
    "pandas",
    "scikit-learn",
    "soundfile",
    "soxr",
    "h5py",
    "librosa",
    "torchlibrosa",
)
EXTRA_PACKAGES = ("torchvision", "captum")  # where they are installed
# what takes long to make: a run folder that holds any of it is set aside before it is used for other inputs
KEPT = ("state.pt", "summary.json", "*.safetensors", "predictions/*.npz", "few_shot/*.json")
ASIDE = ".before-"  # and the digest of its inputs, behind the name of a folder that was set aside


@dataclass(frozen=True)
class RunFolder:
    """The folder of one job's results, opened for what its inputs are now."""

    plan: Plan
    name: str
    path: Path
    inputs: dict

    def file(self, *parts: str) -> Path:
        """A path inside the folder, whose parent exists."""
        path = self.path.joinpath(*parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def write_provenance(self, evidence: str, resumed: bool = False) -> dict:
        """Write ``provenance.json`` for the work of this process, and return it.

        ``resumed`` says that an earlier process did a part of the work, whose time isn't in the duration.
        """
        record = provenance(self.plan, self.name, evidence) | {"resumed": resumed}
        files.write_json(self.file("provenance.json"), record)
        return record


def open_run(plan: Plan, name: str) -> RunFolder:
    """Open the folder of job ``name``, empty of what came from other inputs (settings, data, needs).

    Trained networks, predictions and the state of an unfinished run are never lost by that: they are set aside beside
    the folder, in place of what was set aside before, and a line on the standard error says where and why.
    """
    path = plan.runs / name
    inputs = plan.inputs(name) | {"digest": plan.digest(name)}
    recorded = path / "inputs.json"
    before = files.read_json(recorded) if recorded.is_file() else inputs
    if before != inputs:
        if any(found for pattern in KEPT for found in path.glob(pattern)):
            aside = _set_aside(path, before.get("digest", "unknown"))
            differing = ", ".join(_differences(plan, before, inputs))
            print(
                f"pannslib: {name} begins anew, for it depends on what is other now: {differing}. What it left before "
                f"is in {paths.shown(aside)}.",
                file=sys.stderr,
            )
        else:
            shutil.rmtree(path)
    if not recorded.is_file():
        files.write_json(recorded, inputs)
    return RunFolder(plan, name, path, inputs)


def _set_aside(path: Path, digest: str) -> Path:
    """Rename the folder of a run, whose earlier set-aside folders go; returns where it is now."""
    for former in path.parent.glob(f"{path.name}{ASIDE}*"):
        shutil.rmtree(former)
    aside = path.with_name(f"{path.name}{ASIDE}{digest}")
    path.rename(aside)
    for mark in ("done.json", "error.txt"):  # of runs that count
        (aside / mark).unlink(missing_ok=True)
    return aside


def _differences(plan: Plan, before: dict, now: dict) -> list[str]:
    """What is other in two records of inputs, for people: "settings.seed (0, now 7)", "the data set esc50"."""
    old, new = dict(_leaves(before)), dict(_leaves(now))
    differing = [key for key in {**old, **new} if key != "digest" and old.get(key) != new.get(key)]
    texts = []
    for key in differing:
        kind, _, rest = key.partition(".")
        if kind == "data":
            texts.append(f"the data set {rest}{_other_clips(plan, rest)}")
        else:
            texts.append(f"{key} ({old.get(key)}, now {new.get(key)})")
    return texts or ["the results of the runs that it needs"]


def _other_clips(plan: Plan, task: str) -> str:
    """Which clips of a real data set are other than when it was packed, in brackets; nothing where that isn't known."""
    report = report_path(paths.packed(plan.profile.name) / f"{task}_{plan.seconds(task):g}s.h5")
    if plan.real(task) is None or not report.is_file():
        return ""
    dataset, packed = plan.dataset(task), set(pd.read_csv(report, usecols=["clip"], dtype=str)["clip"])
    here = set(dataset.clips["clip"])
    later = set(dataset.written_since(report.stat().st_mtime_ns)) & packed
    kinds = {"gone": packed - here, "new": here - packed, "written since": later}
    texts = [f"{len(names):,} {kind}: {some(sorted(names))}" for kind, names in kinds.items() if names]
    return f" ({'; '.join(texts)})" if texts else ""


def _leaves(content: dict, prefix: str = "") -> Iterator[tuple[str, object]]:
    """The values in nested dicts, by keys with dots."""
    for key, value in content.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def read_run(plan: Plan, name: str) -> RunFolder | None:
    """The folder of job ``name`` if it holds results of today's inputs; nothing is made or removed."""
    path = plan.runs / name
    inputs = plan.inputs(name) | {"digest": plan.digest(name)}
    recorded = path / "inputs.json"
    fits = recorded.is_file() and files.read_json(recorded) == inputs
    return RunFolder(plan, name, path, inputs) if fits else None


def evidence_of(plan: Plan, name: str) -> str:
    """Where the numbers of a job come from: "reproduced", "partial" (real, but not the whole set) or "miniature".

    A job that reads several data sets is as good as the weakest of them.
    """
    kinds = {plan.packed(task).evidence for task in plan.job(name).tasks}
    for kind in ("miniature", "partial"):
        if kind in kinds:
            return kind
    return "reproduced"


def provenance(plan: Plan, name: str, evidence: str) -> dict:
    """Everything that one needs to know where the results of a job come from, as a JSON-like record."""
    job = plan.job(name)
    settings = plan.settings(name).model_dump()
    process = psutil.Process()
    started = datetime.fromtimestamp(process.create_time(), UTC)
    return {
        "job": name,
        "title": job.title,
        "notebook": f"notebooks/{job.notebook}.ipynb",
        "profile": plan.profile.name,
        "evidence": evidence,
        "data": [_data_record(plan, task) for task in job.tasks],
        "pretrained_on": _data_record(plan, "audioset") if _starts_pretrained(job) else None,
        "settings": settings,
        "seed": settings["seed"],
        "code": code_version(),
        "packages": {"python": platform.python_version(), **_package_versions()},
        "hardware": hardware(),
        "threads": plan.threads(name),
        "started_utc": started.isoformat(timespec="seconds"),
        "duration_s": round(datetime.now(UTC).timestamp() - process.create_time(), 1),
        "peak_memory_mib": peak_memory_mib(),
    }


def _starts_pretrained(job) -> bool:
    """Whether a job goes on from the pretrained network; one that needs several AudioSet runs compares them."""
    return PRETRAINING in job.needs and sum(need in RUNS for need in job.needs) == 1


def _data_record(plan: Plan, task: str) -> dict:
    """What there is of a data set, less the clips that can't be used."""
    dataset, packed = plan.dataset(task), plan.packed(task)
    return {
        "task": task,
        "title": dataset.title,
        "evidence": packed.evidence,
        "clips": len(packed.names),
        "official_clips": dataset.expected_clips,
        "classes": len(packed.classes),
        "fingerprint": dataset.fingerprint,
    }


def peak_memory_mib() -> int:
    """The largest resident memory of this process so far, in MiB."""
    # on Linux what getrusage knows begins with the memory of the process that started this one
    with suppress(OSError, StopIteration, ValueError):
        lines = Path("/proc/self/status").read_text().splitlines()
        return round(int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) / 2**10)
    unit = 2**20 if sys.platform == "darwin" else 2**10  # bytes there, KiB elsewhere
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit)


@cache
def code_version() -> str:
    """The package's version and, in a git checkout, the commit; "+" where files differ from it."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(paths.REPOSITORY), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()

    if not shutil.which("git") or not (paths.REPOSITORY / ".git").exists():
        return __version__
    # figures are what a run writes: they don't make the code another one
    changed = git("status", "--porcelain", "--", "pannslib", "notebooks", "Snakefile")
    return f"{__version__} ({git('rev-parse', '--short=10', 'HEAD')}{'+' if changed else ''})"


@cache
def _package_versions() -> dict:
    there = [name for name in EXTRA_PACKAGES if importlib.util.find_spec(name)]
    return {name: importlib.metadata.version(name) for name in (*RECORDED_PACKAGES, *there)}


@cache
def hardware() -> dict:
    """Processor, cores, memory and GPU of this machine."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "gpu": _gpu(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _gpu() -> str | None:
    torch = sys.modules.get("torch")  # a job that never loaded torch used no GPU
    return torch.cuda.get_device_name(0) if torch is not None and torch.cuda.is_available() else None
