"""``panns``: the package on the command line.

Exit codes: 0 done; 1 some of the work failed; 2 the call or its input can't be used; 130 stopped by Ctrl-C.
Nothing heavy is imported before the command that needs it.
"""

import errno
import sys

import typer

from pannslib import __version__

# a command is there once its module is imported
from pannslib.cli import bench, doctor, download, export, pack, reproduce, tag, train  # noqa: F401
from pannslib.cli.base import app
from pannslib.errors import PannsError, ResultError

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
