"""``panns``: the package on the command line.

Exit codes: 0 done; 1 some of the work failed; 2 the call or its input can't be used; 130 stopped by Ctrl-C.
Nothing heavy is imported before the command that needs it.
"""

import errno
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from pannslib import __version__
from pannslib.errors import PannsError, ResultError

ALL_CORES = os.cpu_count() or 1
# faults of folders and disks, not of the program -> what to do
OF_THE_MACHINE = {
    errno.EACCES: "Change its permissions, or set PANNS_HOME to a folder that you may write to.",
    errno.EPERM: "Change its permissions, or set PANNS_HOME to a folder that you may write to.",
    errno.EROFS: "Set PANNS_HOME to a folder that can be written to.",
    errno.ENOTDIR: "A file is where a folder must be: move it away, or set PANNS_HOME to another folder.",
    errno.EEXIST: "A file is where a folder must be: move it away, or set PANNS_HOME to another folder.",
    errno.ENOSPC: "Make room, or set PANNS_HOME to a folder on another disk.",
    errno.EDQUOT: "Make room, or set PANNS_HOME to a folder on another disk.",
}
app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

ProfileOption = Annotated[str, typer.Option(help="smoke, demo, gpu, full, or the path of a YAML file.")]
DataRootOption = Annotated[str, typer.Option(help="Folder with your own copies: <data root>/raw/<data set>/.")]
MissingOption = Annotated[bool, typer.Option("--allow-missing", help="Go on without clips that a CSV names.")]
CoresOption = Annotated[int, typer.Option(min=1, help="CPU cores to use.")]


def _absolute(text: str) -> str:
    """A path as jobs in other folders can use it; nothing stays nothing."""
    return str(Path(text).expanduser().resolve()) if text else text


def _profile(text: str) -> str:
    """The name of a profile of ours as it is, anything else as the path of a file."""
    from pannslib.profiles import BUILT_IN

    is_path = Path(text).suffix or os.sep in text or Path(text).is_file()
    return _absolute(text) if is_path and text not in BUILT_IN else text


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

    profile, data_root = _profile(profile), _absolute(data_root)
    plan = _plan(profile, data_root, allow_missing)
    # a fault in the input is told now, before anything is begun
    for sentence in whole.check(plan):
        typer.echo(sentence, err=True)
    try:
        whole.reproduce(plan, profile, data_root, cores)
    except KeyboardInterrupt:
        typer.echo("panns: stopped; the same command goes on from here.", err=True)
        raise typer.Exit(130) from None
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
    profile, data_root = _profile(profile), _absolute(data_root)
    os.environ["PANNS_HOME"] = str(paths.home())
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
    checkpoint: Annotated[
        Path | None, typer.Option(help="Weights: a .safetensors of ours or an authors' .pth.")
    ] = None,
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
    except OSError as fault:
        if fault.errno not in OF_THE_MACHINE:
            raise
        print(f"panns: {fault.filename or 'a file'}: {fault.strerror}. {OF_THE_MACHINE[fault.errno]}", file=sys.stderr)
        sys.exit(2)
