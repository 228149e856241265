"""Use a model on sound files: `panns tag`, `panns detect`, `panns embed`."""

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from pannslib.cli.base import app
from pannslib.errors import AudioError, PannsError

STDIN = "-"
ClipsArgument = Annotated[list[str], typer.Argument(help="Sound files and folders; - reads one file from a pipe.")]
CheckpointOption = Annotated[
    str, typer.Option(help="Weights: a .safetensors or .pth, the folder of a run, or 'released' to download them once.")
]
ModelOption = Annotated[
    str, typer.Option(help="Architecture; where left out, what the file says, or Cnn14 (detect: its DecisionLevelMax).")
]
EngineOption = Annotated[
    str, typer.Option(help="auto, torch (plain PyTorch), folded, compile, winograd, ncnn, onnxruntime, openvino.")
]
PrecisionOption = Annotated[str, typer.Option(help="fp32, bf16, tf32 (on a GPU), or auto: bf16 where there is some.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON in place of text.")]
OutOption = Annotated[Path | None, typer.Option(help="Write to this file: .csv, .json, or .txt for Audacity.")]


@app.command()
def tag(
    clips: ClipsArgument,
    checkpoint: CheckpointOption = "",
    model: ModelOption = "",
    top: Annotated[int, typer.Option(min=1, help="Labels a clip.")] = 10,
    windows: Annotated[bool, typer.Option("--windows", help="Tags of every 10 s, with times.")] = False,
    engine: EngineOption = "auto",
    precision: PrecisionOption = "fp32",
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
    out: OutOption = None,
) -> None:
    """Tag sound files: one line a clip and label, as CSV."""
    _check_out(out, with_times=windows)
    with _readable(clips) as (paths, names):
        from pannslib.tagging import AudioTagger

        tagger = AudioTagger(model or None, checkpoint or None, device, precision, engine)
        table = (tagger.tag_windows if windows else tagger.tag)(paths, top=top, progress=_progress(as_json))
        _finish(table, names, as_json, out)


@app.command()
def detect(
    clips: ClipsArgument,
    checkpoint: CheckpointOption = "",
    model: ModelOption = "",
    threshold: Annotated[float, typer.Option(help="On the framewise probability, from 0 to 1.")] = 0.3,
    shortest: Annotated[float, typer.Option(min=0, help="Leave out events that are shorter, s.")] = 0.0,
    gap: Annotated[float, typer.Option(min=0, help="Join events of a class with at most this between, s.")] = 0.0,
    engine: EngineOption = "auto",
    precision: PrecisionOption = "fp32",
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
    out: OutOption = None,
) -> None:
    """Find sound events: one line an event, with onset and offset in seconds, as CSV."""
    _check_out(out)
    if not 0 <= threshold <= 1:
        raise PannsError(f"--threshold is {threshold:g}; it must be a probability, from 0 to 1.")
    with _readable(clips) as (paths, names):
        from pannslib.detection import SoundEventDetector

        detector = SoundEventDetector(model or None, checkpoint or None, device, precision, engine)
        table = detector.detect(paths, threshold, shortest_s=shortest, gap_s=gap, progress=_progress(as_json))
        _finish(table, names, as_json, out)


@app.command()
def embed(
    clips: ClipsArgument,
    out: Annotated[Path, typer.Option(help="Write to this file: .npz (clips, embeddings) or .parquet.")],
    checkpoint: CheckpointOption = "",
    model: ModelOption = "",
    engine: EngineOption = "auto",
    precision: PrecisionOption = "fp32",
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Write the embeddings of sound files, a row a clip."""
    if out.suffix not in (".npz", ".parquet"):
        raise PannsError(f"{out}: embeddings are written as .npz or .parquet.")
    _check_place(out)
    with _readable(clips) as (paths, names):
        import numpy as np

        from pannslib import files
        from pannslib.tagging import AudioTagger

        tagger = AudioTagger(model or None, checkpoint or None, device, precision, engine)
        table = tagger.embed(paths, progress=_progress(as_json))
        clips_of_rows = [names.get(clip, clip) for clip in table.index]
        with files.replacing(out) as temporary:
            if out.suffix == ".npz":
                np.savez(temporary, clips=np.array(clips_of_rows), embeddings=table.to_numpy())
            else:
                table.set_axis(clips_of_rows).rename_axis("clip").reset_index().to_parquet(temporary, index=False)
        clips_, size = table.shape
        told = {"path": str(out), "clips": clips_, "embedding_size": size}
        emit(json.dumps(told) if as_json else f"{out}: {clips_} clips, {size} values each")
        _tell_skipped(table.skipped, names)


def emit(text: str) -> None:
    """Print to the standard output; where its reader has gone, end quietly with the code that shells know for that."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # what is left in the buffer would raise again when the interpreter closes it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(141) from None


@contextmanager
def _readable(clips: list[str]) -> Iterator[tuple[list[str], dict[str, str]]]:
    """Paths of all clips, the pipe's content among them as a temporary file, and the name of that one."""
    if STDIN not in clips:
        yield clips, {}
        return
    if clips.count(STDIN) > 1:
        raise PannsError("The pipe (-) can be read once only.")
    if sys.stdin is None or sys.stdin.isatty():
        raise PannsError("- reads a sound file from a pipe, but there is none: cat clip.wav | panns tag -")
    from pannslib.audio import mark_open_end

    with tempfile.TemporaryDirectory(prefix="panns-") as folder:
        path = Path(folder) / "pipe"
        with open(path, "wb") as file:
            shutil.copyfileobj(sys.stdin.buffer, file)
        if not path.stat().st_size:
            raise AudioError("Nothing came through the pipe. Does the command before it fail?")
        mark_open_end(path)
        try:
            yield [str(path) if clip == STDIN else clip for clip in clips], {str(path): STDIN}
        except AudioError as fault:
            raise AudioError(str(fault).replace(str(path), "the pipe (-)")) from fault


def _check_out(out: Path | None, with_times: bool = True) -> None:
    """Refuse a file that can't be written before anything is computed for it."""
    from pannslib.inference.tables import SUFFIXES

    if out is None:
        return
    if out.suffix not in SUFFIXES:
        raise PannsError(f"{out}: results are written as {', '.join(SUFFIXES)} (.txt: labels for Audacity).")
    if out.suffix == ".txt" and not with_times:
        raise PannsError(f"{out}: Audacity's labels have times. Add --windows, or write .csv or .json.")
    _check_place(out)


def _check_place(out: Path) -> None:
    folder = out.parent
    if out.is_dir():
        raise PannsError(f"{out} is a folder; give the name of a file.")
    there = next((place for place in (folder, *folder.parents) if place.exists()), folder)
    if not there.is_dir():
        raise PannsError(f"{out} can't be written: {there} is a file, not a folder.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise PannsError(f"{out} can't be written: {there} can't be written to. Give a file in another folder.")


def _progress(as_json: bool) -> bool | None:
    """No bar where nobody looks at it."""
    return None if sys.stderr.isatty() and not as_json else False


def _finish(table, names: dict[str, str], as_json: bool, out: Path | None) -> None:
    """Print or write a table, then tell of the clips that couldn't be used."""
    from pannslib.inference.tables import to_json

    table = table.assign(clip=table["clip"].map(lambda clip: names.get(clip, clip)))
    table.clips = [names.get(clip, clip) for clip in table.clips]
    if out is not None:
        emit(str(table.save(out)))
    elif as_json:
        emit(to_json(table).rstrip())
    else:
        emit(table.to_csv(index=False, float_format="%.4f").rstrip())
    _tell_skipped(table.skipped, names)


def _tell_skipped(skipped: dict[str, str], names: dict[str, str]) -> None:
    """Name each clip that couldn't be used on the standard error; exit code 1 then."""
    for path, fault in skipped.items():
        print(f"panns: {fault.replace(path, names.get(path, path))}", file=sys.stderr)
    if skipped:
        raise typer.Exit(1)
