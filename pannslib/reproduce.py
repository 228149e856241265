"""``panns reproduce``: all jobs of the catalogue through Snakemake, with one bar, and recovery after any stop.

Snakemake decides what has to run; each job is a ``panns execute``. One run a profile at a time: a lock that
the operating system releases when its holder dies, so that it never goes stale.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

import psutil
from filelock import FileLock, Timeout
from tqdm import tqdm

from pannslib import execution, files, paths
from pannslib.catalogue import JOBS, PRETRAINING, Plan
from pannslib.errors import ModelError, PannsError, ProfileError, ResultError

# how much longer than the others the notebooks that train take, about
WEIGHTS = {"training": 6, "transfer": 12}
POLL = 0.5  # seconds between two looks at the jobs
LINE_EVERY = 30  # seconds between two lines where the output isn't a terminal
GRACE = 10  # seconds that a stopped Snakemake gets before it is killed


def check(plan: Plan) -> list[str]:
    """Find what is wrong with the input of ``plan`` before anything is begun or written.

    Returns:
        A sentence a data set: where it is and how much of it is there, or that a miniature takes its place.

    Raises:
        DataError: a data set contradicts itself, or can't be divided into training and test clips.
        ProfileError: there is no such architecture, or no such network at this width or for clips this short.
    """
    told = []
    for task in sorted({task for job in JOBS.values() for task in job.tasks}):
        root = plan.real(task)
        if root is None:
            told.append(f"{task}: miniature (synthetic sound); there is none below {plan.data_root or 'data/'}")
            continue
        plan.data_stamp(task)  # reaches for every clip
        dataset = plan.dataset(task)
        if any(job.kind == "transfer" and task in job.tasks for job in JOBS.values()):
            dataset.check_splits()
        count, official = len(dataset.clips), dataset.expected_clips
        told.append(f"{task}: {dataset.evidence}, {count:,} of {official:,} clips, in {root}")
    _check_networks(plan)
    return told


def left_out(plan: Plan) -> list[str]:
    """A sentence a real data set some clips of which could not be used, with the report that lists them."""
    told = []
    for task in sorted({task for job in JOBS.values() for task in job.tasks if plan.real(task)}):
        packed = plan.packed(task)
        statuses = packed.clips_report["status"]
        rejected = int((statuses != "ok").sum())
        if rejected:
            listed = paths.shown(packed.report_path)
            told.append(f"{task}: {rejected:,} of {len(statuses):,} clips were left out; {listed} says why.")
    return told


def _check_networks(plan: Plan) -> None:
    """Build the networks of all runs without their weights; one that has been trained is not built again."""
    for name, job in JOBS.items():
        if job.kind == "training" and not _is_done(plan, name):
            settings = plan.settings(name)
            _check_network(f"profile {plan.profile.name}, {name}", settings, settings.front_end.model_dump())
    base = plan.settings(PRETRAINING)
    for name, job in JOBS.items():
        if job.kind == "transfer" and not _is_done(plan, PRETRAINING):
            changed = base.model_copy(update={"seconds": plan.settings(name).seconds})
            _check_network(f"profile {plan.profile.name}, {name}", changed, base.front_end.model_dump())


def _check_network(where: str, settings, front_end: dict) -> None:
    """`ProfileError` unless the network can be built and takes clips of that length and rate."""
    from pannslib.models import registry

    changes = {key: value for key, value in front_end.items() if value is not None}
    try:
        network = registry.skeleton(settings.architecture, width=settings.width, **changes)
    except ModelError as fault:
        raise ProfileError(f"{where}, architecture and width: {fault}") from None
    least = network.least_samples / network.sample_rate
    if settings.seconds < least:
        raise ProfileError(
            f"{where}, seconds: {settings.seconds:g} is too short for {settings.architecture}; it needs {least:g} "
            "at least."
        )


def _is_done(plan: Plan, name: str) -> bool:
    """Whether the job was finished with the settings and data that it has now."""
    done = plan.runs / name / "done.json"
    return done.is_file() and files.read_json(done)["digest"] == plan.digest(name)


def reproduce(plan: Plan, profile: str, data_root: str, cores: int, only: Sequence[str] = ()) -> None:
    """Bring every table and figure of ``plan`` up to date, or those of the jobs ``only`` and what they need.

    Raises:
        ProfileError: ``only`` names a job that there isn't.
        PannsError: another run of this profile is on, or jobs failed (their messages are in it).
    """
    for name in only:
        plan.job(name)
    plan.runs.mkdir(parents=True, exist_ok=True)
    holder = plan.runs / ".reproduce.json"
    try:
        with FileLock(plan.runs / ".reproduce.lock", timeout=0):
            files.write_json(holder, {"pid": os.getpid()})
            _drop_incomplete(plan)
            _supervise(plan, profile, data_root, cores, only)
    except Timeout:
        pid = files.read_json(holder)["pid"] if holder.is_file() else "unknown"
        raise PannsError(
            f"Profile {plan.profile.name} is being reproduced already, by process {pid}. Wait for it, or stop it "
            "and start again."
        ) from None


def _drop_incomplete(plan: Plan) -> None:
    """A job whose files are no longer there isn't done, whatever it said when it was.

    Nor is the page that shows them: Snakemake asks for what a finished target was made from no more.
    """
    marks = [plan.runs / name / "done.json" for name in JOBS]
    for done in marks:
        if done.is_file() and not all((paths.home() / file).is_file() for file in files.read_json(done)["files"]):
            done.unlink()
    if not (plan.figures / "index.html").is_file() or not all(done.is_file() for done in marks):
        (plan.runs / "index.done").unlink(missing_ok=True)


def _command(plan: Plan, profile: str, data_root: str, cores: int, only: Sequence[str]) -> list[str]:
    options = [
        *("--snakefile", str(paths.SNAKEFILE)),
        *("--directory", str(plan.runs)),
        *("--cores", str(cores)),
        *("--rerun-triggers", "mtime", "params", "input"),
        "--rerun-incomplete",
        "--keep-going",
        "--nolock",  # our own lock can't go stale
        *("--quiet", "progress", "rules"),
    ]
    # in a file, because Snakemake takes what follows --config as YAML, to which ": " and " #" in a path mean something
    config = {"profile": profile, "data_root": data_root, "allow_missing": plan.allow_missing}
    written = files.write_json(plan.runs / ".config.json", config)
    targets = [f"{name}/done.json" for name in only]
    return [sys.executable, "-m", "snakemake", *targets, *options, "--configfile", str(written)]


def _die_with_parent() -> None:
    """In the child, on Linux: be killed when the parent is, even by a signal that it can't handle."""
    if sys.platform.startswith("linux"):
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)


def _supervise(plan: Plan, profile: str, data_root: str, cores: int, only: Sequence[str]) -> None:
    """Run Snakemake, show how far its jobs are, and stop all of it when this process is told to stop."""
    log = plan.runs / "snakemake.log"
    for leftover in (plan.runs / ".progress").glob("*.json"):
        leftover.unlink()
    # jobs run in other folders, where a relative PANNS_HOME would be another one
    parent = execution.identify(psutil.Process())
    environment = os.environ | {execution.PARENT: parent, "PANNS_HOME": str(paths.home())}
    started = time.time()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with open(log, "w", encoding="utf-8") as output:
        child = subprocess.Popen(
            _command(plan, profile, data_root, cores, only),
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )
        try:
            Display(plan).follow(child)
        except KeyboardInterrupt:
            _stop(child)
            raise
    failures = [path for path in plan.runs.glob("*/error.txt") if path.stat().st_mtime >= started]
    if child.returncode:
        told = [f"{path.parent.name}: {path.read_text(encoding='utf-8').strip()}" for path in failures]
        told = told or [log.read_text(encoding="utf-8", errors="replace")[-2000:]]
        raise ResultError("\n".join([*told, f"(Snakemake's own log: {paths.shown(log)})"]))


def _stop(child: subprocess.Popen) -> None:
    """End Snakemake and its jobs: asked first, then killed."""
    os.killpg(child.pid, signal.SIGTERM)
    try:
        child.wait(GRACE)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def _weight(name: str) -> int:
    return WEIGHTS.get(JOBS[name].kind, 1)


class Display:
    """One bar over all notebooks on a terminal; a line now and then elsewhere."""

    def __init__(self, plan: Plan):
        """Show the jobs of ``plan``."""
        self.plan = plan
        self.terminal = sys.stderr.isatty()
        self.begun: dict[str, float] = {}
        self.finished: set[str] = {name for name in JOBS if _is_done(plan, name)}
        self._line_at = 0.0

    def follow(self, child: subprocess.Popen) -> None:
        """Look at the jobs until ``child`` has ended."""
        layout = "{percentage:3.0f}%|{bar:24}| {elapsed} {desc}"
        total = sum(map(_weight, JOBS))
        with tqdm(total=total, bar_format=layout, disable=not self.terminal, file=sys.stderr) as bar:
            while child.poll() is None:
                self._look(bar)
                time.sleep(POLL)
            self._look(bar)

    def _look(self, bar: tqdm) -> None:
        """Read how far every running job is, and show it."""
        shares, texts = 0.0, []
        for name in JOBS:
            told = self._read(name)
            if told is None:
                if name in self.begun and (self.plan.runs / name / "done.json").is_file():
                    self.finished.add(name)
                    self._say(bar, f"{name} done in {time.monotonic() - self.begun.pop(name):.0f} s")
                continue
            if name not in self.begun:
                self.begun[name] = time.monotonic()
                self.finished.discard(name)
                self._say(bar, f"{name} begins: notebooks/{JOBS[name].notebook}.ipynb")
            share, text = told
            shares += share * _weight(name)
            texts.append(f"{name}: {text}")
        texts += self._packing()
        bar.n = min(sum(map(_weight, self.finished)) + shares, bar.total)
        bar.set_description_str(f"{len(self.finished)}/{len(JOBS)} notebooks; " + "; ".join(texts))
        if texts and not self.terminal and time.monotonic() - self._line_at > LINE_EVERY:
            self._say(bar, f"{100 * bar.n / bar.total:.0f}%: " + "; ".join(texts))

    def _packing(self) -> list[str]:
        """How far the shards are that are being packed before the notebooks."""
        texts = []
        for path in sorted((self.plan.runs / ".progress").glob("pack_*.work.json")):
            try:
                told = files.read_json(path)
            except (OSError, ValueError):  # just gone
                continue
            texts.append(f"{path.name.removesuffix('.work.json')}: {told['done']}/{told['total']} clips")
        return texts

    def _read(self, name: str) -> tuple[float, str] | None:
        """Share of the notebook that is done, and in words; None where the job isn't running."""
        cells, work = execution.progress_files(self.plan, name)
        try:
            at = files.read_json(cells)
        except (OSError, ValueError):  # not there, or just being written
            return None
        share, text = at["done"] / at["total"], f"cell {at['done'] + 1}/{at['total']}"
        try:
            told = files.read_json(work)
        except (OSError, ValueError):
            return (share if JOBS[name].kind not in WEIGHTS else 0.1 * share), text
        note = f", {told['note']}" if told["note"] else ""
        text += f", {told['title']}, step {told['done']}/{told['total']}{note}"
        # nearly all of the time goes into the one cell that trains
        return 0.1 * share + 0.9 * min(told["done"] / max(told["total"], 1), 1.0), text

    def _say(self, bar: tqdm, text: str) -> None:
        self._line_at = time.monotonic()
        if self.terminal:
            bar.write(text, file=sys.stderr)
        else:
            print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)
