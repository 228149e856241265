"""The libraries that compute graphs on a CPU, and how each is given one.

| runtime | its graph | precisions | fast at |
|---|---|---|---|
| "winograd" | PyTorch's, with machine code in it (`winograd`) | fp32, bf16 | 3 x 3 convolutions of many channels |
| "ncnn" | its own, made by pnnx | fp32 | 3 x 3 convolutions, by Winograd's method too |
| "onnxruntime" | ONNX | fp32 | 1 x 1 convolutions |
| "openvino" | ONNX, rearranged (`rearranging`) | fp32, bf16 | everything else |

All take the log-mel, or what else `graphs.inputs_of` says.
"""

import os
import subprocess
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from pannslib import files
from pannslib.inference import graphs
from pannslib.models.base import PannsModel

Run = Callable[[dict[str, np.ndarray]], list[np.ndarray]]  # a graph's inputs by name -> its outputs


@dataclass(frozen=True)
class Runtime:
    """A library that computes graphs.

    Attributes:
        packages: what must be installed.
        flags: the processor's instruction sets that it needs, by precision ("fp32", "bf16").
        file: of the graph, in a model's folder; "{precision}" in it is replaced.
        write: (model, path, precision) -> None.
        load: (path, precision, the model or one without weights) -> what computes.
    """

    packages: tuple[str, ...]
    flags: dict[str, tuple[str, ...]]
    file: str
    write: Callable[[PannsModel, Path, str], None]
    load: Callable[[Path, str, PannsModel], Run]

    @property
    def precisions(self) -> tuple[str, ...]:
        """In which it computes."""
        return tuple(self.flags)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _move(made: Path, path: Path) -> None:
    """Give a graph and its weights their names, the graph last: where it is, all is."""
    os.replace(made.with_suffix(".bin"), path.with_suffix(".bin"))
    os.replace(made, path)


# --- ONNX Runtime ------------------------------------------------------------------------------------------------


def _write_onnxruntime(model: PannsModel, path: Path, precision: str) -> None:
    graphs.write(model, path, whole=False)


def _load_onnxruntime(path: Path, precision: str, settings: PannsModel) -> Run:
    import onnxruntime

    # the graph as this processor wants it, with the weights beside it in the order in which they are used: it is read
    # through a memory map, in half the memory and a tenth of the time
    ready = path.parent / f"onnxruntime-{onnxruntime.__version__}-{files.digest(sorted(processor_flags()))[:8]}"
    if not ready.is_dir():
        _optimise(onnxruntime, path, ready)
    options = _options(onnxruntime)
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(ready / path.name), options, providers=["CPUExecutionProvider"])
    return partial(session.run, None)


def _optimise(onnxruntime, path: Path, ready: Path) -> None:
    """Let ONNX Runtime write its own form of a graph, all or nothing."""
    options = _options(onnxruntime)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made = Path(folder) / "made"
        made.mkdir()
        options.optimized_model_filepath = str(made / path.name)
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", "weights.bin")
        options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "1024")
        onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        if not ready.is_dir():  # another process may have been first
            os.replace(made, ready)


def _options(onnxruntime):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = False  # memory goes back after each call: half of what a window takes, no slower
    # its threads wait by spinning while a graph is computed, and leave the cores to others when it is done
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options


# --- OpenVINO ----------------------------------------------------------------------------------------------------


def _write_openvino(model: PannsModel, path: Path, precision: str) -> None:
    """Write OpenVINO's own form of a graph, ``path`` and the weights beside it, all or nothing."""
    import openvino

    # Winograd's method in bf16 would round more often, and isn't faster there
    winograd = ("winograd",) if precision == "fp32" else ()
    with tempfile.TemporaryDirectory(dir=_made(path.parent)) as name:
        graph, made = Path(name) / "graph.onnx", Path(name) / "made.xml"
        graphs.write(model, graph, whole=False, rearranged=("two_bands", *winograd, "turned"))
        # for bf16 weights in half precision, more than it keeps of them: the file, and what it takes when it is loaded
        openvino.save_model(openvino.Core().read_model(graph), made, compress_to_fp16=precision == "bf16")
        _move(made, path)


def _load_openvino(path: Path, precision: str, settings: PannsModel) -> Run:
    import openvino

    settings = {
        "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision],
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "CACHE_DIR": str(path.parent),  # what it makes of the graph is read from there the next time
    }
    request = openvino.Core().compile_model(str(path), "CPU", settings).create_infer_request()

    def run(given: dict[str, np.ndarray]) -> list[np.ndarray]:
        # copies: the request uses its own memory again next time
        return [np.array(value, dtype=np.float32) for value in request.infer(given).values()]

    return run


# --- machine code for 3 x 3 convolutions -------------------------------------------------------------------------


def _write_winograd(model: PannsModel, path: Path, precision: str) -> None:
    from pannslib.inference import winograd

    winograd.write(model, path, precision)


def _load_winograd(path: Path, precision: str, settings: PannsModel) -> Run:
    from pannslib.inference import winograd

    return winograd.load(path)


# --- ncnn --------------------------------------------------------------------------------------------------------

# Winograd's method multiplies less often and keeps and reads more weights: four times as many for 4 x 4 places at once,
# which is for the first convolutions, of the most places and the fewest weights, up to so many in all; 1.8 times for
# 2 x 2 places, which is for those that follow. With so many weights kept, no network needs a GiB for an hour of sound
MOST_BY_FOUR, MOST_KEPT = 5 * 2**20, 7 * 2**24
WITHOUT_WINOGRAD = "31=64"  # a layer's feature mask
# ncnn chooses the places by what a layer says that it gives (dimensions, width, height, channels), and four where it
# says nothing: width and height of which it takes two, where there are as many channels as here
BY_TWO = "-23330=4,3,4,62,{outputs}"


def _write_ncnn(model: PannsModel, path: Path, precision: str) -> None:
    """Let pnnx make ncnn's files of a model, ``path`` and the weights beside it, all or nothing.

    Raises:
        ValueError: there is an operator that ncnn doesn't have.
    """
    import pnnx

    graph, examples = graphs.trace(model, whole=False, batch=1, rearranged=("two_bands",))
    with tempfile.TemporaryDirectory(dir=_made(path.parent)) as name:
        folder = Path(name)
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # TorchScript is deprecated, but it is what pnnx reads
            torch.jit.trace(graph, examples[0], check_trace=False).save(folder / "traced.pt")
        shapes = [",".join(str(list(x.shape)).replace(" ", "") for x in example) for example in examples]
        call = [pnnx.EXEC_PATH, "traced.pt", f"inputshape={shapes[0]}", f"inputshape2={shapes[1]}", "fp16=0"]
        done = subprocess.run(call, cwd=folder, capture_output=True, text=True, check=False)
        made = folder / "traced.ncnn.param"
        layers = made.read_text().splitlines()[2:] if made.is_file() else []
        foreign = [line.split()[0] for line in layers if "." in line.split()[0]]  # operators are PyTorch's by name
        if done.returncode or not layers or foreign:
            raise ValueError(f"pnnx can't translate {foreign[0] if foreign else 'it'}")
        _move(made, path)


def _load_ncnn(path: Path, precision: str, settings: PannsModel) -> Run:
    import ncnn

    outputs = 3 if settings.classifies_frames else 2
    net = ncnn.Net()
    net.opt.num_threads = torch.get_num_threads()
    for name in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "winograd63_convolution", "vulkan_compute"):
        setattr(net.opt, f"use_{name}", False)
    layers = "\n".join(_tuned(path.read_text().splitlines())) + "\n"
    if net.load_param_mem(layers) or net.load_model(str(path.with_suffix(".bin"))):
        raise ValueError(f"{path} is damaged")

    def run(given: dict[str, np.ndarray]) -> list[np.ndarray]:
        clips = []
        for clip in zip(*given.values(), strict=True):
            extractor = net.create_extractor()
            arrays = [np.ascontiguousarray(array) for array in clip]  # which ncnn reads where they are
            for number, array in enumerate(arrays):
                extractor.input(f"in{number}", ncnn.Mat(array))
            clips.append([np.array(extractor.extract(f"out{number}")[1]) for number in range(outputs)])
        return [np.stack(parts) for parts in zip(*clips, strict=True)]

    return run


def _tuned(lines: list[str]) -> list[str]:
    """The lines of a ``.param`` file; each convolution says whether Winograd's method pays, and for how many places."""
    layers = [_settings(line) for line in lines]
    by_four, kept = 0, sum(layer["weights"] for layer in layers)
    tuned = []
    for line, layer in zip(lines, layers, strict=True):
        added, weights = "", layer["weights"]
        if line.startswith("Convolution "):
            is_square = layer["1"] == layer.get("11", layer["1"]) == 3
            has_one_input = weights == 9 * layer["0"]
            added = f" {WITHOUT_WINOGRAD}"
            if is_square and not has_one_input:
                if by_four + weights <= MOST_BY_FOUR and kept + 3 * weights <= MOST_KEPT:
                    added, by_four, kept = "", by_four + weights, kept + 3 * weights
                elif kept + weights * 7 // 9 <= MOST_KEPT:
                    added, kept = f" {BY_TWO.format(outputs=layer['0'])}", kept + weights * 7 // 9
        tuned.append(line + added)
    return tuned


def _settings(line: str) -> dict[str, int]:
    """A layer's settings by ncnn's numbers, of those that have many weights, and how many: "weights"."""
    kind, *words = line.split()
    number = {"Convolution": "6", "InnerProduct": "2"}.get(kind)
    if number is None:
        return {"weights": 0}
    pairs = (entry.split("=") for entry in words[3 + int(words[1]) + int(words[2]) :])
    settings = {name: int(value) for name, value in pairs if value.lstrip("-").isdigit()}
    return settings | {"weights": settings[number]}


RUNTIMES = {
    "winograd": Runtime(
        ("llvmlite",),
        {"fp32": ("avx512f",), "bf16": ("avx512f", "avx512_bf16")},
        "winograd_{precision}.pt",
        _write_winograd,
        _load_winograd,
    ),
    "ncnn": Runtime(("ncnn", "pnnx"), {"fp32": ()}, "ncnn.param", _write_ncnn, _load_ncnn),
    "onnxruntime": Runtime(("onnx", "onnxruntime"), {"fp32": ()}, "folded.onnx", _write_onnxruntime, _load_onnxruntime),
    "openvino": Runtime(
        ("onnx", "openvino"), {"fp32": (), "bf16": ()}, "openvino_{precision}.xml", _write_openvino, _load_openvino
    ),
}


def processor(field: str) -> str:
    """What Linux says of the processor, such as its "vendor_id" or "flags"; nothing where it can't be read."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.split(":")[0].strip() == field), "")


def processor_flags() -> set[str]:
    """The processor's instruction sets as Linux names them; none where they can't be read."""
    return set(processor("flags").split())
