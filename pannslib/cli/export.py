"""Write a model for other programs: `panns export`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from pannslib.cli.base import app
from pannslib.cli.tag import CheckpointOption, JsonOption, ModelOption, emit


@app.command()
def export(
    path: Annotated[Path, typer.Argument(help="The .onnx file to write.")],
    checkpoint: CheckpointOption = "",
    model: ModelOption = "",
    as_json: JsonOption = False,
) -> None:
    """Write a model as ONNX: waveform in, probabilities out, any batch and length; checked against PyTorch."""
    from pannslib.export import to_onnx
    from pannslib.tagging import AudioTagger

    tagger = AudioTagger(model or None, checkpoint or None, device="cpu", engine="torch")
    report = to_onnx(tagger.model, path, tagger.labels)
    if as_json:
        emit(json.dumps(report, indent=1))
        return
    largest = max(check["largest_difference"] for check in report["checks"])
    emit(
        f"{path}: {report['size'] / 2**20:.0f} MiB, {', '.join(report['inputs'])} -> {', '.join(report['outputs'])}; "
        f"differs from PyTorch by {largest:.1g} at most"
    )
