"""Write one table or one figure, with its numbers and its evidence."""

from pathlib import Path

import pandas as pd

from pannslib import files, results
from pannslib.catalogue import Plan
from pannslib.report.pages import rendered

# where a number comes from -> what is said of it
EVIDENCE = {
    "published": "printed in the paper",
    "reproduced": "computed here, on all that the paper's number rests on",
    "computed": "computed or measured here, on the machine that is named; the paper has no such number",
    "partial": "computed here on real recordings, but on a part of the data set only: not comparable with the paper",
    "miniature": "computed here on a small synthetic stand-in for the data set: not comparable with the paper",
}


def evidence_text(record: dict) -> str:
    """One sentence on where the numbers of a table or figure come from, from its provenance record."""
    parts = [_data_text(data) for data in record["data"]]
    if record["pretrained_on"]:
        parts.append(f"pretrained on {_data_text(record['pretrained_on'])}")
    elif record.get("pretrained"):
        parts.append(f"pretrained weights: {record['pretrained']['origin']}")
    return f"{record['evidence']}: {EVIDENCE[record['evidence']]}" + (". " + "; ".join(parts) if parts else "")


def _data_text(data: dict) -> str:
    """A data set, how much of it there is, and whether it is real."""
    if data["evidence"] == "miniature":
        return f"{data['title']}: {data['clips']:,} synthetic clips (miniature)"
    return f"{data['title']}: {data['clips']:,} of {data['official_clips']:,} clips ({data['evidence']})"


def _record(plan: Plan, job: str, name: str, **facts) -> None:
    """Write ``<name>.json``: what this is, which files it has, and the provenance of its numbers."""
    evidence = facts.pop("evidence") or results.evidence_of(plan, job)
    run = results.open_run(plan, job)
    trained = plan.job(job).kind in ("training", "transfer", "rethinking") and run.file("provenance.json").is_file()
    # what was trained is told as it was then, also where a later execution only reads it
    provenance = files.read_json(run.file("provenance.json")) if trained else run.write_provenance(evidence)
    files.write_json(plan.figures / f"{name}.json", {"name": name, **facts, "provenance": provenance})


def save_table(
    plan: Plan,
    job: str,
    name: str,
    frame: pd.DataFrame,
    title: str,
    caption: str,
    evidence: str | None = None,
    decimals: int = 3,
) -> pd.DataFrame:
    """Write a table as ``<name>.csv`` (all digits), ``.md`` and ``.html`` (rounded), and return it.

    Args:
        job: the job of the catalogue whose results these are.
        name: "table_13" for the paper's Table XIII, another word for one that the paper doesn't have.
        frame: the rows; column names with their units.
        caption: one or two sentences: what is in it and what it shows.
        evidence: one of `EVIDENCE`; None for what the job's data are.
        decimals: of the fractions in .md and .html.
    """
    base = plan.figures / name
    shown = frame.map(lambda value: _cell(value, decimals))
    files.write_text(base.with_suffix(".csv"), frame.to_csv(index=False))
    sides = _alignment(frame)
    escaped = shown.map(lambda text: text.replace("|", "\\|"))
    markdown = escaped.to_markdown(index=False, disable_numparse=True, colalign=sides)
    html = rendered("numbers.html", columns=list(zip(frame.columns, sides, strict=True)), rows=shown.to_numpy())
    outputs = [f"{name}.csv", f"{name}.md", f"{name}.html"]
    _record(plan, job, name, kind="table", title=title, caption=caption, files=outputs, evidence=evidence)
    note = evidence_text(files.read_json(base.with_suffix(".json"))["provenance"])
    files.write_text(base.with_suffix(".md"), f"**{title}.** {caption}\n\n{markdown}\n\n*{note}*\n")
    files.write_text(
        base.with_suffix(".html"), rendered("table.html", title=title, caption=caption, table=html, note=note)
    )
    return frame


def save_figure(
    plan: Plan,
    job: str,
    name: str,
    figure,
    data: pd.DataFrame,
    title: str,
    caption: str,
    evidence: str | None = None,
) -> list[Path]:
    """Write a figure as ``<name>.png`` and ``.svg`` with ``<name>.csv``, the numbers that it was drawn from.

    Args:
        figure: a matplotlib figure.
        data: the numbers, columns with their units.
        The others are as in `save_table`.
    """
    base = plan.figures / name
    import matplotlib

    for suffix in (".png", ".svg"):
        # no date and no program version: the same numbers give the same bytes
        metadata = {"Software": None} if suffix == ".png" else {"Date": None, "Creator": None}
        with files.replacing(base.with_suffix(suffix)) as temporary, matplotlib.rc_context({"svg.hashsalt": name}):
            figure.savefig(temporary, metadata=metadata)
    files.write_text(base.with_suffix(".csv"), data.to_csv(index=False))
    outputs = [f"{name}.png", f"{name}.svg", f"{name}.csv"]
    _record(plan, job, name, kind="figure", title=title, caption=caption, files=outputs, evidence=evidence)
    return [plan.figures / output for output in outputs]


def _alignment(frame: pd.DataFrame) -> list[str]:
    """Numbers to the right, words to the left."""
    return ["right" if pd.api.types.is_any_real_numeric_dtype(frame[name]) else "left" for name in frame.columns]


def _cell(value, decimals: int) -> str:
    """A value as it is shown: fractions rounded, large counts with commas, nothing for what is missing."""
    if pd.isna(value):
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.{decimals}f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
