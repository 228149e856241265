"""``panns``: the package on the command line.

Exit codes: 0 done; 1 some of the work failed; 2 the call or its input can't be used; 130 stopped by Ctrl-C.
Nothing heavy is imported before the command that needs it.
"""

import errno
import gc
import sys

import typer

from pannslib import __version__, paths

# a command is there once its module is imported
from pannslib.cli import bench, doctor, download, export, pack, reproduce, tag, train  # noqa: F401
from pannslib.cli.base import app
from pannslib.errors import PannsError, ResultError

# faults of folders and disks, not of the program -> what to do
OF_THE_MACHINE = {
    errno.EACCES: "Change its permissions.",
    errno.EPERM: "Change its permissions.",
    errno.EROFS: "It is on a disk that can only be read.",
    errno.ENOTDIR: "A file is where a folder must be: move it away.",
    errno.EEXIST: "A file is where a folder must be: move it away.",
    errno.EISDIR: "A folder is where a file must be: give another name.",
    errno.ENAMETOOLONG: "Give it a shorter name.",
    errno.ENOSPC: "Make room on the disk.",
    errno.EDQUOT: "Make room on the disk.",
}
ELSEWHERE = "Or set PANNS_HOME to another folder: data, runs and figures are written there then."


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def main() -> None:
    """Run the command line; errors that the user can mend are told in their own words, without a traceback."""
    gc.set_threshold(50_000)  # objects; with Python's 700, a fifth of the time that importing PyTorch takes is this
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # names of files need not be what the terminal can show
            stream.reconfigure(errors="backslashreplace")
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
        where = str(fault.filename or "a file")
        advice = [OF_THE_MACHINE[fault.errno], *[ELSEWHERE] * where.startswith(str(paths.home()))]
        print(f"panns: {where}: {fault.strerror}. {' '.join(advice)}", file=sys.stderr)
        sys.exit(2)
