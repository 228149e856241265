"""What computes a model: plain PyTorch, or an engine that does the same several times faster.

| engine | what it is | precisions |
|---|---|---|
| "torch" | PyTorch as the model is written, the front end by FFT | fp32, bf16, tf32 on a GPU |
| "folded" | the same, batch norms and poolings folded into convolutions (`folding`), channels last | as above |
| "compile" | the folded network through torch.compile | as above |
| "onnxruntime" | the folded network as a graph in ONNX Runtime | fp32 |
| "openvino" | the same graph in OpenVINO | fp32, bf16 |

"auto" takes the fastest of those that are installed (`FASTEST`), and says in one line on the standard error what it
would rather have had. The front end always computes in float32, by FFT. What runs on a GPU is written from the
documentation: nobody has measured it on one yet.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from pannslib import files
from pannslib.errors import CheckpointError, ModelError, PannsError
from pannslib.models.base import PannsModel

ENGINES = ("auto", "torch", "folded", "compile", "onnxruntime", "openvino")
PRECISIONS = ("fp32", "bf16", "tf32")
NEEDS = {"onnxruntime": ("onnx", "onnxruntime"), "openvino": ("onnx", "openvino")}
# engines by device and precision, the fastest first (benchmarks/inference.py)
FASTEST = {
    ("cpu", "fp32"): ("onnxruntime", "openvino", "folded"),
    ("cpu", "bf16"): ("openvino", "folded"),
    ("cuda", "fp32"): ("folded",),
    ("cuda", "bf16"): ("compile", "folded"),
    ("cuda", "tf32"): ("compile", "folded"),
}
ALLOWED = {"fp32": 1e-4, "bf16": 0.02}  # difference of probabilities between an engine and PyTorch in float32
GET_FAST = "pip install 'pannslib[fast]', or make env in a checkout"
BF16_FLAGS = {"avx512_bf16", "amx_bf16"}
GRAPH = "graph.onnx"
KEPT = 5  # models whose engine files stay in the cache folder; CNN14's have up to 1.3 GB


@dataclass(frozen=True)
class Prediction:
    """What a model says of a batch of clips, as NumPy float32.

    Attributes:
        clipwise_output: (batch, classes) in [0, 1].
        embedding: (batch, embedding size).
        framewise_output: (batch, frames, classes) in [0, 1] of DecisionLevel models, else None.
    """

    clipwise_output: np.ndarray
    embedding: np.ndarray
    framewise_output: np.ndarray | None


class TorchEngine:
    """PyTorch on any device, plain, folded or compiled; waveform float32 (batch, samples) -> `Prediction`."""

    def __init__(self, model: PannsModel, device: str, precision: str, kind: str):
        self.name, self.precision, self.device = kind, precision, torch.device(device)
        if kind != "torch":
            from pannslib.inference.folding import fold

            model = fold(model)
        self.model = model.to(self.device).eval()
        if kind != "torch":
            self.model = self.model.to(memory_format=torch.channels_last)
        if precision == "tf32":
            torch.set_float32_matmul_precision("high")
            torch.backends.cudnn.conv.fp32_precision = "tf32"
        self.call = self.model
        if kind == "compile":
            from torch._inductor import config

            config.freezing = True
            self.call = torch.compile(self.model)

    @torch.inference_mode()
    def __call__(self, waveform: np.ndarray) -> Prediction:
        batch = torch.from_numpy(waveform).to(self.device, non_blocking=True)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            output = self.call(batch)
        arrays = (output.clipwise_output, output.embedding, output.framewise_output)
        return Prediction(*(None if x is None else x.float().cpu().numpy() for x in arrays))


class GraphEngine:
    """A graph engine on the CPU behind the FFT front end; waveform float32 (batch, samples) -> `Prediction`.

    Args:
        settings: the model, or one without weights: only its front end is used.
        path: of the graph that `graphs.write` wrote without a front end.
        kind: "onnxruntime" or "openvino".
        precision: "fp32", or for OpenVINO "bf16".
    """

    def __init__(self, settings: PannsModel, path: Path, kind: str, precision: str):
        from pannslib.features import LogMel
        from pannslib.inference.graphs import inputs_of

        self.name, self.precision, self.device = kind, precision, torch.device("cpu")
        self.inputs = inputs_of(settings)
        self.log_mel = LogMel(settings.front_end).eval() if "log_mel" in self.inputs else None
        self.run = {"onnxruntime": _onnxruntime, "openvino": _openvino}[kind](path, precision)

    @torch.inference_mode()
    def __call__(self, waveform: np.ndarray) -> Prediction:
        given = {"waveform": waveform}
        if self.log_mel is not None:
            given["log_mel"] = self.log_mel(torch.from_numpy(waveform)).numpy()
        logits, embedding, *framewise = self.run({name: given[name] for name in self.inputs})
        with np.errstate(over="ignore"):
            probability = 1 / (1 + np.exp(-logits))
        return Prediction(probability, embedding, framewise[0] if framewise else None)


def _onnxruntime(path: Path, precision: str) -> Callable[[dict], list[np.ndarray]]:
    import onnxruntime

    # the graph as this processor wants it, with the weights beside it in the order in which they are used: it is read
    # through a memory map, in half the memory and a tenth of the time
    ready = path.parent / f"onnxruntime-{onnxruntime.__version__}-{files.digest(sorted(processor_flags()))[:8]}"
    if not ready.is_dir():
        _optimise(onnxruntime, path, ready)
    options = _options(onnxruntime)
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(ready / GRAPH), options, providers=["CPUExecutionProvider"])
    return partial(session.run, None)


def _optimise(onnxruntime, path: Path, ready: Path) -> None:
    """Let ONNX Runtime write its own form of a graph, all or nothing."""
    options = _options(onnxruntime)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made = Path(folder) / "made"
        made.mkdir()
        options.optimized_model_filepath = str(made / GRAPH)
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
    # threads that wait by spinning take the cores from PyTorch's, which compute the front end, and from other programs
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _openvino(path: Path, precision: str) -> Callable[[dict], list[np.ndarray]]:
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


def create(
    model: Callable[[], PannsModel],
    settings: PannsModel,
    key: str,
    device: str = "cpu",
    precision: str = "fp32",
    engine: str = "auto",
    folder: Path | None = None,
):
    """The engine that is asked for, or the fastest there is.

    Args:
        model: gives the model with its weights; it isn't called where the engine's file is there already.
        settings: the model or its `models.registry.skeleton`.
        key: stands for the weights; engine files are kept by it.
        device: "cpu" or "cuda".
        precision: of `PRECISIONS`.
        engine: of `ENGINES`.
        folder: where engine files are kept.

    Raises:
        ModelError: an engine or precision that there isn't, or one that can't do what is asked.
    """
    if precision not in PRECISIONS or (device, precision) not in FASTEST:
        allowed = [name for name in PRECISIONS if (device, name) in FASTEST]
        raise ModelError(f"precision is {precision!r}; on this device it can be {' or '.join(allowed)}.")
    if engine not in ENGINES:
        raise ModelError(f"engine is {engine!r}; it can be {', '.join(ENGINES)}.")
    if engine in NEEDS and (device != "cpu" or engine not in FASTEST[device, precision]):
        raise ModelError(
            f"The engine {engine} computes on the CPU, in {_precisions_of(engine)}; asked was {precision}."
        )
    wanted = FASTEST[device, precision] if engine == "auto" else (engine, "folded")
    if precision == "bf16" and device == "cpu" and not has_bf16():
        explain("this processor has no bf16 instructions, so that bf16 is not faster than fp32 here.")
    reasons = []
    for name in wanted:
        try:
            made = _make(name, model, settings, key, device, precision, folder)
        except _Unavailable as fault:
            reasons.append(str(fault))
            continue
        except PannsError:
            raise
        except Exception as fault:  # whatever an engine makes of a network that it can't take
            reasons.append(
                f"{name} can't take {settings.name} ({type(fault).__name__}: {str(fault).splitlines()[0][:120]})"
            )
            continue
        if reasons:
            explain(f"computing by {made.name}, because {'; '.join(reasons)}.")
        return made
    raise ModelError(f"No engine can compute {settings.name}: {'; '.join(reasons)}.")


class _Unavailable(Exception):
    """An engine that isn't installed."""


def _make(name, model, settings, key, device, precision, folder):
    if name not in NEEDS:
        return TorchEngine(model(), device, precision, name)
    missing = [package for package in NEEDS[name] if not installed(package)]
    if missing:
        raise _Unavailable(f"{' and '.join(missing)} isn't installed ({GET_FAST})")
    from pannslib.inference import graphs

    path = folder / f"{settings.name}-{key}" / GRAPH
    new = not path.is_file()
    if new:
        graphs.write(model(), path, with_front_end=False)
        forget_old(folder)
    else:
        os.utime(path.parent)
    try:
        engine = GraphEngine(settings, path, name, precision)
        if new:
            _check(engine, model())
        return engine
    except Exception:
        shutil.rmtree(path.parent, ignore_errors=True)  # it may be damaged; the next call writes it anew
        raise


@torch.inference_mode()
def _check(engine: GraphEngine, model: PannsModel) -> None:
    """Raise unless an engine gives what PyTorch gives for two seconds of noise: engines have faults too."""
    samples = max(2 * model.sample_rate, model.least_samples)
    waveform = np.random.default_rng(0).uniform(-0.5, 0.5, (1, samples)).astype(np.float32)
    given, expected = engine(waveform), model.cpu().eval()(torch.from_numpy(waveform))
    names = ("clipwise_output", "framewise_output") if model.classifies_frames else ("clipwise_output",)
    worst = max(float(np.abs(getattr(given, name) - getattr(expected, name).numpy()).max()) for name in names)
    if not worst <= ALLOWED[engine.precision]:
        raise ValueError(f"its output differs from PyTorch's by {worst:.2g}")


def _precisions_of(engine: str) -> str:
    return " or ".join(precision for (_, precision), names in FASTEST.items() if engine in names)


def installed(package: str) -> bool:
    """Whether a package can be imported, without importing it."""
    return package in sys.modules or find_spec(package) is not None


def has_bf16() -> bool:
    """Whether the processor multiplies in bf16 (AVX512-BF16 or AMX)."""
    return bool(BF16_FLAGS & processor_flags())


def processor_flags() -> set[str]:
    """The processor's instruction sets as Linux names them; none where they can't be read."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return set()
    return {flag for line in text.splitlines() if line.startswith("flags") for flag in line.split(":")[1].split()}


def explain(sentence: str) -> None:
    """One line on the standard error."""
    print(f"pannslib: {sentence}", file=sys.stderr)


def key_of(checkpoint: Path) -> str:
    """Sixteen hex digits that stand for a file of weights.

    Raises:
        CheckpointError: there is no such file.
    """
    if not checkpoint.is_file():
        raise CheckpointError(f"There is no checkpoint {checkpoint}. Give the path of a .safetensors or .pth file.")
    return files.sha256(checkpoint)[:16]


def forget_old(folder: Path) -> None:
    """Remove the engine files of models that were used longest ago, so that those of `KEPT` models stay."""
    kept = sorted((path for path in folder.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
    for path in kept[:-KEPT]:
        shutil.rmtree(path, ignore_errors=True)
