"""Get the real data sets: `panns download`."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from pannslib.cli.base import DataRootOption, app
from pannslib.errors import DataError

SPLIT_NAMES = "balanced_train,unbalanced_train,eval"


@app.command()
def download(
    tasks: Annotated[
        list[str] | None, typer.Argument(help="Data sets, as --list names them.", metavar="[TASK]...")
    ] = None,
    list_only: Annotated[
        bool, typer.Option("--list", help="Tell what each costs and its licence, and download nothing.")
    ] = False,
    data_root: DataRootOption = "",
    parts: Annotated[str, typer.Option(help="Archives wanted, as patterns: '*meta*,*audio.1.zip'.")] = "*",
    base_url: Annotated[str, typer.Option(help="Folder on a server that has the archives, or Hugging Face's.")] = "",
    rate: Annotated[float, typer.Option(min=0.001, help="MB a second that times are told for.")] = 10.0,
    delete_archives: Annotated[
        bool | None,
        typer.Option(
            "--delete-archives/--keep-archives",
            help="Whether a downloaded archive goes once it is unpacked; AudioSet's do, the others stay.",
            show_default=False,
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Begin without asking.")] = False,
    source: Annotated[str, typer.Option(help="AudioSet: where from, as --list names them.")] = "",
    folder: Annotated[str, typer.Option("--from", help="AudioSet: a folder that you have.")] = "",
    splits: Annotated[str, typer.Option(help="AudioSet: splits wanted.")] = SPLIT_NAMES,
    limit: Annotated[int, typer.Option(min=0, help="AudioSet: clips of each split at most; 0: all.")] = 0,
    link: Annotated[str, typer.Option(help="AudioSet, --from: symlink, hardlink or copy.")] = "symlink",
    workers: Annotated[int, typer.Option(min=1, max=64, help="AudioSet, youtube: clips fetched at once.")] = 4,
    repository: Annotated[str, typer.Option(help="AudioSet: another Hugging Face data set of the same layout.")] = "",
    revision: Annotated[str, typer.Option(help="AudioSet: another commit of the mirror than the pinned one.")] = "",
    retry: Annotated[bool, typer.Option("--retry", help="AudioSet: ask again for clips that were gone.")] = False,
    thorough: Annotated[bool, typer.Option("--thorough", help="AudioSet: decode whole clips, not headers.")] = False,
) -> None:
    """Download, verify and unpack data sets into <data root>/raw; what is done is not done again."""
    from pannslib import paths
    from pannslib.datasets import audioset_sources
    from pannslib.datasets import download as downloads

    root = Path(data_root or paths.default_data_root()).expanduser().absolute()
    tasks, per_second = tasks or [], rate * 1e6
    for task in tasks:
        downloads.facts_of(task)
    if not tasks and not list_only:
        raise DataError(f"Name what to download: {', '.join(downloads.facts())}; panns download --list says more.")
    if list_only and not tasks:
        _list(downloads.listing(per_second), rate)
        return
    chosen = tuple(split.strip() for split in splits.split(",") if split.strip())
    options = {
        "source": source or ("folder" if folder else ""),
        "path": folder or None,
        "splits": chosen,
        "limit": limit or None,
        "link": link,
        "workers": workers,
        "repository": repository,
        "revision": revision,
        "retry": retry,
        "thorough": thorough,
        "keep_archives": delete_archives is False,
    }
    plans = []
    for task in tasks:
        if task != "audioset":
            table = downloads.plan(task, root, base_url, per_second, parts, ask=not list_only)
        elif list_only and not options["source"]:
            table = downloads.listing(per_second).query("task == 'audioset'").drop(columns=["licence", "homepage"])
        elif options["source"] == "folder" and folder:
            table = audioset_sources.plan_folder(folder, link, per_second)
        elif options["source"] in ("folder", ""):
            table = None  # get says what is wrong
        else:
            table = audioset_sources.plan(
                options["source"], chosen, limit or None, per_second, workers, options["keep_archives"], root
            )
        plans.append((task, table))
    for task, table in plans:
        typer.echo(f"{task}: {downloads.facts_of(task)['title']}. Licence: {downloads.licence(task)}.")
        if table is not None:
            typer.echo(downloads.shown(table))
            alternatives = "source" in table
            needed = "" if alternatives else _needed(table["disk"])
            typer.echo(f"{needed}disk: with what archives unpack to, an upper estimate. Times at {rate:g} MB/s.\n")
    if list_only:
        return
    if not yes and sys.stdin.isatty() and sys.stdout.isatty():
        typer.confirm(f"Download into {root}?", abort=True, default=True)
    failed = False
    for task in tasks:
        extra = options if task == "audioset" else {"parts": parts, "delete_archives": bool(delete_archives)}
        result = downloads.download(task, root, base_url, progress=True, **extra)
        typer.echo(downloads.report(result))
        failed |= bool(result.failed) or not result.evidence
    if failed:
        typer.echo("Not everything could be had; the same call goes on from here.", err=True)
        raise typer.Exit(1)


def _needed(disk) -> str:
    """A sentence about the sum of what the parts need on the disk, so far as it is known."""
    from pannslib.datasets.archives import human

    if disk.isna().all():
        return ""
    return f"{'At least ' if disk.isna().any() else ''}{human(disk.sum())} of disk are needed. "


def _list(table, rate: float) -> None:
    """Print what every data set costs."""
    from pannslib.datasets import download as downloads

    typer.echo(downloads.shown(table.drop(columns=["licence", "homepage"])))
    typer.echo(
        "\n?: not published, found out at the download. disk: archives and what they unpack to, an upper estimate. "
        f"Times at {rate:g} MB/s.\n"
    )
    for task, group in table.groupby("task", sort=False):
        typer.echo(f"{task}: {group['licence'].iloc[0]}. {group['homepage'].iloc[0]}")
