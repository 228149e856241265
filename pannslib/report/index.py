"""The page that shows all tables and figures of a profile with their evidence. It opens from disk."""

import re
from pathlib import Path

from pannslib import files
from pannslib.audioset_runs import RUNS
from pannslib.catalogue import JOBS, Plan
from pannslib.report.artifacts import EVIDENCE, evidence_text
from pannslib.report.pages import rendered


def write_index(plan: Plan) -> Path:
    """Write ``figures/<profile>/index.html`` from the records that the tables and figures left there."""
    records = [path for path in plan.figures.glob("*.json") if path.stem in _known()]
    entries = sorted((_entry(plan, path) for path in records), key=lambda entry: _order(entry["name"]))
    page = rendered(
        "index.html",
        profile=plan.profile.name,
        description=plan.profile.description,
        kinds=EVIDENCE,
        entries=entries,
        runs=_runs(plan),
    )
    return files.write_text(plan.figures / "index.html", page)


def _runs(plan: Plan) -> list[dict]:
    """A line a training run whose notebook was executed: its title, and where its curve, classes and notebook are."""
    found = []
    for name, run in RUNS.items():
        records = {part: plan.figures / "runs" / f"{name}_{part}.json" for part in ("curve", "classes")}
        if all(path.is_file() for path in records.values()):
            provenance = files.read_json(records["curve"])["provenance"]
            found.append({"name": name, "title": run.title, "provenance": provenance})
    return found


def _known() -> set[str]:
    return {name for job in JOBS.values() for name in job.makes}


def _entry(plan: Plan, path: Path) -> dict:
    """What the page says of one table or figure."""
    record = files.read_json(path)
    executed = f"{record['provenance']['job']}.ipynb"
    entry = record | {
        "note": evidence_text(record["provenance"]),
        "executed": executed,
        "executed_there": (plan.figures / "notebooks" / executed).is_file(),
    }
    if record["kind"] == "table":
        page = path.with_suffix(".html").read_text(encoding="utf-8")
        entry["table"] = re.search(r"<table.*</table>", page, flags=re.DOTALL).group(0)
    return entry


def _order(name: str) -> tuple:
    """The paper's tables, then its figures, by number, what belongs to one behind it; then what the paper lacks."""
    match = re.fullmatch(r"(table|figure)_(\d+)(_\w+)?", name)
    if match is None:
        return (2, 0, name)
    return (0 if match[1] == "table" else 1, int(match[2]), name)
