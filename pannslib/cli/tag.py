"""Use a model on sound files: `panns tag`."""

from pathlib import Path
from typing import Annotated

import typer

from pannslib.cli.base import app
from pannslib.errors import PannsError


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
