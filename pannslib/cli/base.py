"""What all commands share: the application, its common options, and how their values are read."""

import os
from pathlib import Path
from typing import Annotated

import typer

ALL_CORES = os.cpu_count() or 1
app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

ProfileOption = Annotated[str, typer.Option(help="smoke, demo, gpu, full, or the path of a YAML file.")]
DataRootOption = Annotated[str, typer.Option(help="Folder with your own copies: <data root>/raw/<data set>/.")]
MissingOption = Annotated[bool, typer.Option("--allow-missing", help="Go on without clips that a CSV names.")]
CoresOption = Annotated[int, typer.Option(min=1, help="CPU cores to use.")]


def absolute(text: str) -> str:
    """A path as jobs in other folders can use it; nothing stays nothing."""
    return str(Path(text).expanduser().resolve()) if text else text


def profile_of(text: str) -> str:
    """The name of a profile of ours as it is, anything else as the path of a file."""
    from pannslib.profiles import BUILT_IN

    is_path = Path(text).suffix or os.sep in text or Path(text).is_file()
    return absolute(text) if is_path and text not in BUILT_IN else text


def plan_of(profile: str, data_root: str, allow_missing: bool):
    from pannslib import catalogue

    return catalogue.plan(profile, data_root, allow_missing)
