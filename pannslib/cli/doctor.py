"""What is installed and what the machine can do: `panns doctor`."""

import json
import sys

import typer

from pannslib.cli.base import app
from pannslib.cli.tag import JsonOption, emit


@app.command()
def doctor(as_json: JsonOption = False) -> None:
    """Tell what is installed, what this machine can do, what is missing and how to get it."""
    try:
        from pannslib.inference.doctor import examine, text

        found = examine()
    except ImportError as fault:
        print(
            f"panns: {fault.name or fault} can't be imported, and everything needs it: pip install pannslib, or make "
            f"env in a checkout. ({fault})",
            file=sys.stderr,
        )
        raise typer.Exit(1) from fault
    emit(json.dumps(found, indent=1, ensure_ascii=False) if as_json else text(found))
    if any(row["needed"] and not row["version"] for row in found["packages"]):
        print("panns: a package that everything needs is missing.", file=sys.stderr)
        raise typer.Exit(1)
