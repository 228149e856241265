"""Pack data sets to HDF5 without the notebooks: `panns pack`, and what the Snakefile calls for each shard."""

import os
from pathlib import Path
from typing import Annotated

import typer

from pannslib.cli.base import (
    ALL_CORES,
    CoresOption,
    DataRootOption,
    MissingOption,
    ProfileOption,
    app,
    plan_of,
    profile_of,
)

SHOWN = 5  # rejected clips that are named on the terminal


@app.command()
def pack(
    task: Annotated[
        str, typer.Option(help="A data set, such as audioset or esc50; all of the profile's if none.")
    ] = "",
    profile: ProfileOption = "demo",
    shard: Annotated[int, typer.Option(help="Of AudioSet only this file, from 0; all of them if it is -1.")] = -1,
    data_root: DataRootOption = "",
    allow_missing: MissingOption = False,
    cores: CoresOption = ALL_CORES,
) -> None:
    """Decode all clips of a data set into HDF5 files; what is packed already is left as it is.

    Clips that can't be used are left out, and listed with the reason in a CSV file beside the packed one.
    """
    from pannslib import catalogue, paths
    from pannslib.errors import DataError

    plan = plan_of(profile_of(profile), data_root, allow_missing)
    known = sorted({name for job in catalogue.JOBS.values() for name in job.tasks})
    if task and task not in known:
        raise DataError(f"There is no data set {task!r} in the catalogue; there are {', '.join(known)}.")
    if shard >= 0:
        typer.echo(paths.shown(_pack_shard(plan, task or "audioset", shard, cores)))
        return
    for name in [task] if task else known:
        packed = plan.packed(name, progress=True)
        rejected = packed.clips_report[packed.clips_report["status"] != "ok"]
        typer.echo(
            f"{name}: {len(packed.clip_names):,} clips ({packed.evidence}) of {packed.seconds:g} s in "
            f"{', '.join(map(paths.shown, packed.paths[:3]))}{' ...' if len(packed.paths) > 3 else ''}; "
            f"{len(rejected):,} left out; {paths.shown(packed.report_path)} tells of each clip."
        )
        for clip, reason in rejected[["clip", "reason"]].head(SHOWN).itertuples(index=False):
            typer.echo(f"  {clip} is left out: {reason}")
        if len(rejected) > SHOWN:
            typer.echo(f"  ... and {len(rejected) - SHOWN:,} more, with status rejected in that file")
        for note in packed.notes:
            typer.echo(note)


def _pack_shard(plan, task: str, shard: int, cores: int) -> Path:
    """Pack one shard, and tell `panns reproduce`, where it serves that, how far it is and what went wrong."""
    from pannslib import execution, files
    from pannslib.errors import PannsError

    name = f"pack_{task}_{shard:02d}"
    told, work = plan.runs / name / "error.txt", execution.progress_files(plan, name)[1]
    told.unlink(missing_ok=True)
    if execution.PARENT in os.environ:
        os.environ["PANNS_PROGRESS"] = str(work)
        execution.end_with_parent()
    try:
        return plan.pack_shard(task, shard, progress=True, workers=cores)
    except PannsError as fault:
        files.write_text(told, f"{fault}\n")
        raise
    finally:
        work.unlink(missing_ok=True)
