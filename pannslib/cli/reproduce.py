"""Execute the catalogue: `panns reproduce`, and the two commands that the Snakefile calls."""

import os
from typing import Annotated

import typer

from pannslib.cli.base import (
    ALL_CORES,
    CoresOption,
    DataRootOption,
    MissingOption,
    ProfileOption,
    absolute,
    app,
    plan_of,
    profile_of,
)

OnlyOption = Annotated[list[str] | None, typer.Option(help="A job to do, with what it needs; may be given again.")]


@app.command()
def reproduce(
    profile: ProfileOption = "demo",
    data_root: DataRootOption = "",
    cores: CoresOption = ALL_CORES,
    allow_missing: MissingOption = False,
    only: OnlyOption = None,
) -> None:
    """Regenerate every table and figure, or some; what is up to date is not run again."""
    from pannslib import paths
    from pannslib import reproduce as whole

    profile, data_root = profile_of(profile), absolute(data_root)
    plan = plan_of(profile, data_root, allow_missing)
    # a fault in the input is told now, before anything is begun
    for sentence in whole.check(plan):
        typer.echo(sentence, err=True)
    try:
        whole.reproduce(plan, profile, data_root, cores, only or ())
    except KeyboardInterrupt:
        typer.echo("panns: stopped; the same command goes on from here.", err=True)
        raise typer.Exit(130) from None
    if only:
        from pannslib.report import write_index

        typer.echo(f"The tables and figures of {', '.join(only)} are in {paths.shown(plan.figures)}.")
        typer.echo(f"{paths.shown(write_index(plan))} shows all that there are.")
        return
    for sentence in whole.left_out(plan):
        typer.echo(sentence, err=True)
    typer.echo(f"All tables and figures are in {paths.shown(plan.figures)}; open index.html there.")


@app.command(hidden=True)
def execute(
    job: str,
    profile: ProfileOption = "demo",
    data_root: DataRootOption = "",
    allow_missing: MissingOption = False,
) -> None:
    """Execute the notebook of one job of the catalogue (what the Snakefile calls)."""
    from pannslib import execution, paths

    # the notebook runs in another folder, where relative paths would be others
    profile, data_root = profile_of(profile), absolute(data_root)
    os.environ["PANNS_HOME"] = str(paths.home())
    execution.execute(plan_of(profile, data_root, allow_missing), job, profile, data_root)


@app.command()
def report(
    profile: ProfileOption = "demo", data_root: DataRootOption = "", allow_missing: MissingOption = False
) -> None:
    """Write the page that shows all tables and figures of a profile."""
    from pannslib.report import write_index

    typer.echo(str(write_index(plan_of(profile, data_root, allow_missing))))
