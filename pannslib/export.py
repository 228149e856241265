"""A model as an ONNX file that computes without PyTorch: waveform in, probabilities out, any batch and length.

    export.to_onnx(model, "cnn14.onnx", labels)

    session = onnxruntime.InferenceSession("cnn14.onnx")
    clipwise_output, embedding = session.run(None, {"waveform": waveform})

The front end is in the file. Its metadata are ``model``, ``sample_rate`` (Hz), ``least_samples`` (of the shortest clip)
and ``labels`` (JSON): ``session.get_modelmeta().custom_metadata_map``.
"""

import json
from pathlib import Path

import numpy as np
import torch

from pannslib import files
from pannslib.errors import ModelError
from pannslib.inference import engines, graphs
from pannslib.models.base import PannsModel

TOLERANCE = 1e-4  # between ONNX Runtime and PyTorch, of every output
CHECKS = ((1, 1.0), (3, 4.03))  # batch and seconds that the file is tried with; it was traced with others


def to_onnx(model: PannsModel, path: str | Path, labels: tuple[str, ...] = ()) -> dict:
    """Write a model as ONNX, try the file in ONNX Runtime against PyTorch, and only then give it its name.

    Args:
        model: any architecture; it is used in evaluation mode.
        path: of the ``.onnx`` file.
        labels: of the classes, kept in the file.

    Returns:
        path, inputs, outputs, size (bytes), checks (a list of batch, seconds, largest difference).

    Raises:
        ModelError: a package is missing, the architecture can't be written, or the file doesn't give what PyTorch does.
    """
    path = Path(path)
    if path.suffix != ".onnx":
        raise ModelError(f"{path}: an exported model is an .onnx file.")
    missing = [package for package in ("onnx", "onnxruntime") if not engines.installed(package)]
    if missing:
        raise ModelError(f"Exporting needs {' and '.join(missing)}: {engines.GET_FAST}.")
    model = model.cpu().eval()
    with files.replacing(path) as temporary:
        try:
            graph = graphs.write(model, temporary, whole=True)
        except (RuntimeError, TypeError, ValueError, torch.onnx.errors.OnnxExporterError) as fault:
            raise ModelError(f"{model.name} can't be written as ONNX: {str(fault).splitlines()[0]}") from fault
        _add_metadata(temporary, model, labels)
        checks = [_check(model, graph, temporary, batch, seconds) for batch, seconds in CHECKS]
    return {
        "path": str(path),
        "inputs": list(graph.inputs),
        "outputs": list(graph.outputs),
        "size": path.stat().st_size,
        "checks": checks,
    }


def _add_metadata(path: Path, model: PannsModel, labels: tuple[str, ...]) -> None:
    import onnx

    content = onnx.load(path)
    texts = {
        "model": model.name,
        "sample_rate": str(model.sample_rate),
        "least_samples": str(model.least_samples),
        "labels": json.dumps(list(labels), ensure_ascii=False),
    }
    onnx.helper.set_model_props(content, texts)
    onnx.save(content, path)


@torch.inference_mode()
def _check(model: PannsModel, graph: graphs.Graph, path: Path, batch: int, seconds: float) -> dict:
    """Compare the file with PyTorch on noise of this batch and length."""
    import onnxruntime

    samples = max(round(seconds * model.sample_rate), model.least_samples)
    waveform = np.random.default_rng(batch).uniform(-0.5, 0.5, (batch, samples)).astype(np.float32)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    expected = model(torch.from_numpy(waveform))
    largest = 0.0
    for name, value in zip(graph.outputs, session.run(None, {"waveform": waveform}), strict=True):
        reference = getattr(expected, name).numpy()
        if value.shape != reference.shape:
            raise ModelError(f"{path}: {name} is {value.shape} in ONNX Runtime, {reference.shape} in PyTorch.")
        # embeddings have no fixed range: their difference counts in units of the largest value
        scale = max(1.0, float(np.abs(reference).max())) if name == "embedding" else 1.0
        largest = max(largest, float(np.abs(value - reference).max()) / scale)
    if not largest <= TOLERANCE:
        raise ModelError(
            f"{model.name} as ONNX differs from PyTorch by {largest:.2g} at a batch of {batch} clips of {seconds} s; "
            f"{TOLERANCE} is allowed. The file isn't kept."
        )
    return {"batch": batch, "seconds": round(samples / model.sample_rate, 3), "largest_difference": largest}
