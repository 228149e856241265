"""The whole chain in the smoke size, in a real Snakemake with real kernels: what it leaves, and what stops it."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import psutil
import pytest

from pannslib import catalogue, execution, paths, profiles
from pannslib.errors import ResultError

SMOKE = catalogue.plan("smoke")


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "pannslib", *arguments]


def reproduce(home: Path, *arguments: str, check: bool = True) -> subprocess.CompletedProcess:
    environment = os.environ | {"PANNS_HOME": str(home)}
    call = command("reproduce", "--profile", "smoke", "--cores", "2", *arguments)
    return subprocess.run(call, env=environment, capture_output=True, text=True, check=check, timeout=900)


# latency is measured anew in every run, and never the same twice
MEASURED = {"cost_table.csv", "cost_latency.csv"}


def tables(home: Path) -> dict[str, str]:
    """The numbers of all tables and figures that must not differ between two runs, by file."""
    folder = home / "figures" / "smoke"
    paths = [path for path in sorted(folder.rglob("*.csv")) if path.name not in MEASURED]
    return {str(path.relative_to(folder)): path.read_text() for path in paths}


def marks(home: Path) -> dict[str, int]:
    """When each job was last finished."""
    return {path.parent.name: path.stat().st_mtime_ns for path in (home / "runs" / "smoke").glob("*/done.json")}


# one of each kind; the gate runs all of them in the smoke size, and every notebook is a test of its own
DONE = ("architectures", "data", "multi_adds", "train_cnn14", "train_cnn6", "transfer_esc50", "transfer_ravdess")
ONLY = [argument for name in DONE for argument in ("--only", name)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A home in which a part of the catalogue has been reproduced once."""
    home = tmp_path_factory.mktemp("finished")
    reproduce(home, *ONLY)
    return home


@pytest.mark.parametrize("job", [catalogue.JOBS[name] for name in DONE], ids=lambda job: job.name)
def test_each_job_leaves_its_notebook_and_its_tables_and_figures(finished, job):
    folder = finished / "figures" / "smoke"
    notebook = nbformat.read(folder / "notebooks" / f"{job.name}.ipynb", as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code)
    assert not [o for cell in code for o in cell.outputs if o.output_type == "error"]
    for name in job.makes:
        record = json.loads((folder / f"{name}.json").read_text())
        suffixes = {"table": {".csv", ".md", ".html"}, "figure": {".png", ".svg", ".csv"}}[record["kind"]]
        assert {Path(file).suffix for file in record["files"]} == suffixes
        assert all((folder / file).read_bytes().strip() for file in record["files"])
        provenance = record["provenance"]
        assert provenance["job"] == job.name
        assert provenance["duration_s"] > 0
        assert provenance["peak_memory_mib"] > 0


def test_table_12_has_the_paper_beside_our_count(finished):
    table = pd.read_csv(finished / "figures" / "smoke" / "table_12.csv")
    assert {"CNN6", "CNN10", "CNN14", "MobileNetV1"} <= set(table["architecture"])
    assert table["equal"].all()


@pytest.mark.parametrize(("number", "folds"), [(13, 2), (18, 4)])
def test_transfer_tables_keep_published_and_ours_apart(finished, number, folds):
    table = pd.read_csv(finished / "figures" / "smoke" / f"table_{number}.csv").set_index("strategy")
    assert list(table.index) == ["stoa", "scratch", "fine_tune", "freeze_l1", "freeze_l3"]
    assert table["published"].between(0, 1).all()
    assert np.isnan(table.loc["stoa", "ours"])
    ours = table.drop(index="stoa")
    assert (ours["folds"] == folds).all()
    assert (ours["ours, 95 % low"] <= ours["ours"]).all()
    assert (ours["ours"] <= ours["ours, 95 % high"]).all()
    assert set(ours["evidence of ours"]) == {"miniature"}


def test_the_index_shows_everything_from_disk(finished):
    page = (finished / "figures" / "smoke" / "index.html").read_text()
    for job in map(catalogue.JOBS.get, DONE):
        for name in job.makes:
            # the training runs share a table
            assert (f'href="{name}.csv"' if name.startswith("runs/") else f'id="{name}"') in page
    assert "http://" not in page
    assert "miniature" in page


def test_a_second_call_runs_nothing_again(finished):
    before = marks(finished)
    started = time.monotonic()
    reproduce(finished, *ONLY)
    assert marks(finished) == before
    assert time.monotonic() - started < 60  # a run takes minutes: nothing may have begun


def test_a_table_that_was_deleted_is_made_again_from_the_results(finished):
    before = marks(finished)
    (finished / "figures" / "smoke" / "table_18.csv").unlink()
    reproduce(finished, *ONLY)
    changed = {name for name, mark in marks(finished).items() if mark != before[name]}
    assert changed == {"transfer_ravdess"}
    assert (finished / "figures" / "smoke" / "table_18.csv").is_file()


def test_another_number_runs_only_what_depends_on_it():
    def digests(**runs):
        profile = SMOKE.profile.model_copy(update={"runs": runs})
        plan = catalogue.Plan(profile, None)
        return {name: plan.digest(name) for name in catalogue.JOBS}

    base = digests()

    def changed(**runs):
        return {name for name, digest in digests(**runs).items() if digest != base[name]}

    all_tasks = {"transfer_compared", "rethinking"}
    assert changed(transfer_esc50={"fine_tune": {"iterations": 5}}) == {"transfer_esc50", *all_tasks}
    all_runs = {"tagging_tables", "cost_planner", "explorer"}
    assert changed(train_cnn14_hop640={"seed": 7}) == {"train_cnn14_hop640", *all_runs}
    transfers = {f"transfer_{task}" for task in catalogue.TRANSFER_TASKS}
    from_the_base = {*transfers, *all_tasks, *all_runs, "own_data", "quickstart", "tagging_classes"}
    assert changed(train_cnn14={"seed": 7}) == {"train_cnn14", *from_the_base}
    assert changed(multi_adds={"seed": 7}) == {"multi_adds", "cost_planner"}


def test_killed_and_started_again_it_ends_with_the_same_tables(finished, tmp_path):
    environment = os.environ | {"PANNS_HOME": str(tmp_path)}
    some = ("--only", "train_cnn6", "--only", "transfer_ravdess")
    call = command("reproduce", "--profile", "smoke", "--cores", "2", *some)
    process = subprocess.Popen(call, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for(lambda: any((tmp_path / "runs/smoke").glob("*/inputs.json")), process)
    time.sleep(4)
    family = [process.pid, *(child.pid for child in psutil.Process(process.pid).children(recursive=True))]
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    wait_for(lambda: not [pid for pid in family if running(pid)], None)
    done = {"train_cnn14", "train_cnn6", "transfer_ravdess"}
    assert set(marks(tmp_path)) < done
    reproduce(tmp_path, *some)
    assert set(marks(tmp_path)) == done
    again, whole = tables(tmp_path), tables(finished)
    assert "table_18.csv" in again
    assert again == {name: whole[name] for name in again}


def test_two_at_once_are_refused(finished, tmp_path):
    (tmp_path / "runs" / "smoke").mkdir(parents=True)
    holder = tmp_path / "runs" / "smoke" / ".reproduce.lock"
    code = (
        f"import filelock, time; lock = filelock.FileLock({str(holder)!r}); lock.acquire();"
        "print(1, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        refused = reproduce(tmp_path, check=False)
        other.kill()
    assert refused.returncode == 2
    assert "already" in refused.stderr


def running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_for(condition, process, seconds: float = 60) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "nothing happened in time"
        assert process is None or process.poll() is None, "it ended early"
        time.sleep(0.2)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "kernel of multi_adds died"),
        ("raise ValueError('broken')", "ValueError: broken"),
        ("from pannslib.errors import DataError; raise DataError('clip.wav is empty')", "^clip.wav is empty"),
        ("1 + 1", "without leaving table_12"),
    ],
)
def test_a_notebook_that_fails_never_counts_as_done(home, tmp_path, monkeypatch, source, words):
    folder = tmp_path / "notebooks"
    folder.mkdir()
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    cells = [nbformat.v4.new_code_cell("1", metadata={"tags": ["parameters"]}), nbformat.v4.new_code_cell(source)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), folder / "04_multi_adds.ipynb")
    monkeypatch.setattr(paths, "NOTEBOOKS", folder)
    with pytest.raises(ResultError, match=words):
        execution.execute(SMOKE, "multi_adds", "smoke", "")
    assert not (home / "runs/smoke/multi_adds/done.json").exists()
    assert not (home / "figures/smoke/notebooks/multi_adds.ipynb").exists()
    assert (home / "runs/smoke/multi_adds/error.txt").is_file()


def test_bad_input_is_told_before_anything_is_written(tmp_path):
    absent = reproduce(tmp_path, "--data-root", str(tmp_path / "nowhere"), check=False)
    assert absent.returncode == 2
    assert "nowhere doesn't exist" in absent.stderr
    assert "Traceback" not in absent.stderr
    own = tmp_path / "own.yaml"
    own.write_text((profiles.FOLDER / "smoke.yaml").read_text().replace("width: 0.0625", "width: 0"))
    refused = subprocess.run(command("reproduce", "--profile", str(own)), capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "width: 0.0 is not allowed" in refused.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["own.yaml"]
