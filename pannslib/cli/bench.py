"""How fast models are on this machine: `panns bench`."""

import sys
from typing import Annotated

import typer

from pannslib.cli.base import app
from pannslib.cli.tag import JsonOption, emit


@app.command()
def bench(
    models: Annotated[
        list[str] | None, typer.Argument(help="Architectures; Cnn14 and MobileNetV1 where left out.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="Length of the clips, s.")] = 10.0,
    batch: Annotated[int, typer.Option(min=1, help="Clips a call.")] = 1,
    repeats: Annotated[int, typer.Option(min=1, help="Turns; what counts is the median.")] = 11,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 2,
    compiled: Annotated[bool, typer.Option("--compile", help="torch.compile too, a minute a model.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Time models in every engine, in turns with the published code's way (random weights)."""
    import torch

    from pannslib.inference import speed
    from pannslib.inference.tables import to_json
    from pannslib.models.registry import architecture

    names = models or ["Cnn14", "MobileNetV1"]
    for name in names:
        architecture(name)
    torch.set_num_threads(threads)
    tables = []
    for name in names:
        print(f"panns: {name} ...", file=sys.stderr)
        tables.append(
            speed.compare(
                name,
                speed.WAYS if compiled else speed.UNCOMPILED,
                batch=batch,
                seconds=seconds,
                repeats=repeats,
                progress=lambda text: print(f"panns: {text}", file=sys.stderr),
            )
        )
    import pandas as pd

    table = pd.concat(tables, ignore_index=True)
    emit(to_json(table).rstrip() if as_json else table.to_string(index=False))
