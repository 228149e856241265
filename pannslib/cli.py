"""``panns``: the package on the command line.

Exit codes: 0 done; 1 some of the work failed; 2 the call or its input can't be used; 130 stopped by Ctrl-C.
Nothing heavy is imported before the command that needs it.
"""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from pannslib import __version__
from pannslib.errors import PannsError, ResultError

ALL_CORES = os.cpu_count() or 1
app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

ProfileOption = Annotated[str, typer.Option(help="smoke, demo, gpu, full, or the path of a YAML file.")]
DataRootOption = Annotated[str, typer.Option(help="Folder with your own copies: <data root>/raw/<data set>/.")]
MissingOption = Annotated[bool, typer.Option("--allow-missing", help="Go on without clips that a CSV names.")]
CoresOption = Annotated[int, typer.Option(min=1, help="CPU cores to use.")]


def _absolute(text: str, always: bool = True) -> str:
    """A path as jobs in other folders can use it; with ``always=False`` words that are no file stay as they are."""
    if not text or not (always or Path(text).suffix or os.sep in text):
        return text
    return str(Path(text).expanduser().resolve())


def _plan(profile: str, data_root: str, allow_missing: bool):
    from pannslib import catalogue

    return catalogue.plan(profile, data_root, allow_missing)


@app.command()
def reproduce(
    profile: ProfileOption = "demo",
    data_root: DataRootOption = "",
    cores: CoresOption = ALL_CORES,
    allow_missing: MissingOption = False,
) -> None:
    """Regenerate every table and figure; what is up to date is not run again."""
    from pannslib import paths
    from pannslib import reproduce as whole

    profile, data_root = _absolute(profile, always=False), _absolute(data_root)
    plan = _plan(profile, data_root, allow_missing)
    # a fault in a data set is told now, before anything is begun
    for task in sorted({task for job in whole.JOBS.values() for task in job.tasks}):
        plan.data_stamp(task)
    try:
        whole.reproduce(plan, profile, data_root, cores)
    except KeyboardInterrupt:
        typer.echo("panns: stopped; the same command goes on from here.", err=True)
        raise typer.Exit(130) from None
    typer.echo(f"All tables and figures are in {paths.shown(plan.figures)}; open index.html there.")


@app.command(hidden=True)
def execute(
    job: str,
    profile: ProfileOption = "demo",
    data_root: DataRootOption = "",
    allow_missing: MissingOption = False,
) -> None:
    """Execute the notebook of one job of the catalogue (what the Snakefile calls)."""
    from pannslib import execution

    execution.execute(_plan(profile, data_root, allow_missing), job, profile, data_root)


@app.command()
def report(
    profile: ProfileOption = "demo", data_root: DataRootOption = "", allow_missing: MissingOption = False
) -> None:
    """Write the page that shows all tables and figures of a profile."""
    from pannslib.report import write_index

    typer.echo(str(write_index(_plan(profile, data_root, allow_missing))))


@app.command()
def tag(
    clips: Annotated[list[Path], typer.Argument(help="Sound files.")],
    checkpoint: Annotated[Path, typer.Option(help="Weights: a .safetensors of ours or an authors' .pth.")],
    model: Annotated[str, typer.Option(help="Architecture; ours is written in the file.")] = "",
    top: Annotated[int, typer.Option(min=1, help="Labels a clip.")] = 10,
) -> None:
    """Tag sound files: one line a clip and label, as CSV."""
    import pandas as pd

    from pannslib.tagging import AudioTagger

    tagger = AudioTagger(model or None, checkpoint=checkpoint)
    frames, faults = [], []
    for clip in clips:
        try:
            frame = tagger.tag(clip, top=top)
        except PannsError as fault:
            faults.append(str(fault))
            continue
        frames.append(frame.assign(clip=str(clip))[["clip", "label", "probability"]])
    if frames:
        typer.echo(pd.concat(frames).to_csv(index=False, float_format="%.4f").rstrip())
    if faults:
        raise PannsError("\n".join(faults))


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def main() -> None:
    """Run the command line; errors that the user can mend are told in their own words, without a traceback."""
    try:
        app()
    except ResultError as fault:
        print(f"panns: {fault}", file=sys.stderr)
        sys.exit(1)
    except PannsError as fault:
        print(f"panns: {fault}", file=sys.stderr)
        sys.exit(2)
