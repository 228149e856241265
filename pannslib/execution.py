"""One job: execute its notebook by papermill, check what it left, and only then call it done.

papermill marks every cell of a notebook whose kernel died as completed, so its word is not taken for it: the
executed notebook gets its final name, and the job its ``done.json``, only after papermill returned without an
error, every code cell has been executed, and every table and figure of the catalogue is there.
"""

import json
import os
import signal
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import psutil
from filelock import FileLock

from pannslib import files, paths, results
from pannslib.catalogue import Job, Plan
from pannslib.errors import PannsError, ResultError

PARENT = "PANNS_REPRODUCE"  # "<process id> <start time>" of the `panns reproduce` that this belongs to
LOCK_WAIT = 60  # seconds to wait for an earlier execution of the same job that is just ending


def progress_files(plan: Plan, name: str) -> tuple[Path, Path]:
    """Where a running job tells which cell it is at, and where its notebook's work tells how far that is."""
    folder = plan.runs / ".progress"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{name}.cells.json", folder / f"{name}.work.json"


def execute(plan: Plan, name: str, profile: str, data_root: str) -> Path:
    """Execute the notebook of job ``name`` and return the path of the executed one.

    An error is written to ``error.txt`` in the job's folder too, where ``panns reproduce`` reads it.

    Args:
        plan: made from ``profile`` and ``data_root``, which are injected into the notebook as they are.

    Raises:
        ResultError: a cell failed, the kernel died, or something is missing that the notebook must leave.
        DataError: a real data set that it read changed meanwhile.
    """
    end_with_parent()
    told = plan.runs / name / "error.txt"
    with FileLock(plan.runs / f".{name}.lock", timeout=LOCK_WAIT):
        # what is finished is read again quickly, so nothing is removed but the marks
        for mark in (plan.runs / name / "done.json", told):
            mark.unlink(missing_ok=True)
        try:
            return _execute(plan, name, profile, data_root)
        except Exception as fault:
            files.write_text(told, f"{fault}\n")
            raise


def _execute(plan: Plan, name: str, profile: str, data_root: str) -> Path:
    job = plan.job(name)
    run = results.open_run(plan, name)
    started = time.time()
    partial = run.file("executing.ipynb")
    parameters = {"profile": profile, "data_root": data_root, **job.parameters}
    if plan.allow_missing:
        parameters["allow_missing"] = True
    memory = _run_papermill(plan, job, partial, parameters)
    for task in job.tasks:
        plan.check_unchanged(task)
    artifacts = _artifact_files(plan, job, started)
    final = _accept(plan, job, partial)
    outputs = [final, *artifacts]
    files.write_json(
        run.file("done.json"),
        {
            "job": name,
            "digest": run.inputs["digest"],
            "finished_utc": datetime.now(UTC).isoformat(timespec="seconds"),
            "duration_s": round(time.time() - started, 1),
            "peak_memory_mib": memory,
            "files": {str(path.relative_to(paths.home())): files.sha256(path) for path in outputs},
        },
    )
    return final


def _run_papermill(plan: Plan, job: Job, output: Path, parameters: dict) -> int:
    """Execute the job's notebook into ``output``; return the kernel's peak memory in MiB."""
    import papermill
    from nbclient.exceptions import DeadKernelError

    cells, work = progress_files(plan, job.name)
    work.unlink(missing_ok=True)
    os.environ["PANNS_PROGRESS"] = str(work)
    # jobs that run beside each other on few cores lose most of their time if each starts a thread a core
    os.environ["OMP_NUM_THREADS"] = str(plan.threads(job.name))
    _register_engine(cells)
    try:
        papermill.execute_notebook(
            str(paths.NOTEBOOKS / f"{job.notebook}.ipynb"),
            str(output),
            parameters=parameters,
            engine_name="panns",
            kernel_name="python3",
            cwd=str(paths.NOTEBOOKS),
            progress_bar=False,
        )
    except papermill.PapermillExecutionError as fault:
        reason = fault.evalue if fault.ename in _our_errors() else f"{fault.ename}: {fault.evalue}"
        raise ResultError(f"{reason}\n(in {paths.shown(output)}, which shows everything up to there)") from None
    except DeadKernelError:
        raise ResultError(
            f"The kernel of {job.name} died: it was killed, or the memory was not enough. Start again to go on from "
            f"what is finished. ({paths.shown(output)} shows everything up to there)"
        ) from None
    finally:
        for path in (cells, work):
            path.unlink(missing_ok=True)
    import resource

    return round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**10)


def _our_errors() -> set[str]:
    """Names of the errors whose message is for people and complete without the class."""

    def family(kind: type) -> set[str]:
        return {kind.__name__}.union(*(family(child) for child in kind.__subclasses__()))

    return family(PannsError)


def _register_engine(progress: Path) -> None:
    """Give papermill an engine that tells in ``progress`` which cell runs."""
    from papermill.engines import NBClientEngine, papermill_engines

    class Engine(NBClientEngine):
        @classmethod
        def execute_managed_notebook(cls, nb_man, kernel_name, **options):
            start, total = nb_man.cell_start, len(nb_man.nb.cells)

            def cell_start(cell, cell_index=None, **other):
                progress.write_text(json.dumps({"done": cell_index or 0, "total": total}))
                return start(cell, cell_index, **other)

            nb_man.cell_start = cell_start
            return super().execute_managed_notebook(nb_man, kernel_name, **options)

    papermill_engines.register("panns", Engine)


def _artifact_files(plan: Plan, job: Job, started: float) -> list[Path]:
    """All files of the job's tables and figures; `ResultError` if one was not written since ``started``."""
    found: list[Path] = []
    for name in job.makes:
        record = plan.figures / f"{name}.json"
        if not record.is_file() or record.stat().st_mtime < started - 1:  # clocks of folders may be coarse
            raise ResultError(
                f"notebooks/{job.notebook}.ipynb ended without leaving {name} in {paths.shown(plan.figures)}."
            )
        found += [record, *(plan.figures / output for output in files.read_json(record)["files"])]
    missing = [path.name for path in found if not path.is_file()]
    if missing:
        raise ResultError(f"notebooks/{job.notebook}.ipynb ended, but {', '.join(missing)} is not there.")
    return found


def _accept(plan: Plan, job: Job, partial: Path) -> Path:
    """Check that every code cell ran, strip what only papermill needs, and give the notebook its final name."""
    import nbformat

    notebook = nbformat.read(partial, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
    skipped = [number for number, cell in enumerate(code, 1) if cell.get("execution_count") is None]
    if skipped:
        raise ResultError(f"notebooks/{job.notebook}.ipynb: code cell {skipped[0]} was not executed; start again.")
    for part in (notebook, *notebook.cells):
        part.metadata.pop("papermill", None)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
    final = plan.figures / "notebooks" / f"{job.name}.ipynb"
    files.write_text(final, nbformat.writes(notebook) + "\n")
    partial.unlink()
    return final


def identify(process: psutil.Process) -> str:
    """A process as it is handed on in the environment: its id and start, since ids are used again."""
    return f"{process.pid} {process.create_time()}"


def _alive(identity: str) -> bool:
    pid, started = identity.split()
    try:
        return abs(psutil.Process(int(pid)).create_time() - float(started)) < 1
    except psutil.NoSuchProcess:
        return False


def end_with_parent() -> None:
    """End this process and its kernel when it is told to, or when the `panns reproduce` that it serves is gone."""

    def end(*_):
        for child in psutil.Process().children(recursive=True):
            child.kill()
        os._exit(143)

    signal.signal(signal.SIGTERM, end)
    parent = os.environ.get(PARENT)
    if parent:

        def watch() -> None:
            while _alive(parent):
                time.sleep(0.5)
            end()

        threading.Thread(target=watch, daemon=True).start()
