"""What computes a model: plain PyTorch, or an engine that does the same several times faster.

| engine | what it is | precisions |
|---|---|---|
| "torch" | PyTorch as the model is written, the front end by FFT | fp32, bf16, tf32 on a GPU |
| "folded" | the same, batch norms and poolings folded into convolutions (`folding`), channels last | as above |
| "compile" | the folded network through torch.compile | as above |
| "winograd", "ncnn", "onnxruntime", "openvino" | the folded network as a graph, see `runtimes` | as each has |

"auto" takes the fastest for the architecture of those that are installed (`fastest`), and says in one line on the
standard error what it would rather have had. The FFT is always in float32. What runs on a GPU is
written from the documentation: nobody has measured it on one yet.
"""

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from pannslib import files
from pannslib.errors import CheckpointError, ModelError, PannsError
from pannslib.inference.runtimes import RUNTIMES, processor, processor_flags
from pannslib.models import registry
from pannslib.models.base import PannsModel

ENGINES = ("auto", "torch", "folded", "compile", *RUNTIMES)
PRECISIONS = ("fp32", "bf16", "tf32")
# engines by device and precision, the fastest first (benchmarks/inference.py)
FASTEST = {
    ("cpu", "fp32"): ("onnxruntime", "openvino", "folded"),
    ("cpu", "bf16"): ("openvino", "folded"),
    ("cuda", "fp32"): ("folded",),
    ("cuda", "bf16"): ("compile", "folded"),
    ("cuda", "tf32"): ("compile", "folded"),
}
# what is faster still on the CPU, by precision and architecture or family; in float32 OpenVINO where it takes less than
# a GiB, since it keeps weights twice
FASTER = {
    "fp32": {
        **dict.fromkeys(("Cnn6", "LeeNet11", "LeeNet24", "DaiNet19"), ("openvino",)),
        **dict.fromkeys(("CNN", "DecisionLevel", "ResNet", "Wavegram"), ("winograd", "ncnn")),
    },
    "bf16": {
        **dict.fromkeys(("Cnn6", "ResNet54"), ("openvino",)),
        **dict.fromkeys(("CNN", "DecisionLevel", "ResNet", "Wavegram"), ("winograd",)),
    },
}
ALLOWED = {"fp32": 1e-4, "bf16": 0.02}  # difference of probabilities between an engine and PyTorch in float32
GET_FAST = "pip install 'pannslib[fast]', or make env in a checkout"
LARGE = 2**24  # weights of a network that takes too long for the front end's compiled kernel to matter
KEYS = "keys.json"  # in the cache folder: checkpoints' SHA-256
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
    """A graph's runtime on the CPU behind the FFT front end; waveform float32 (batch, samples) -> `Prediction`.

    Args:
        settings: the model, or one without weights: only its front end is used.
        path: of the graph that the runtime has written.
        kind: of `RUNTIMES`.
        precision: that the runtime has.
    """

    def __init__(self, settings: PannsModel, path: Path, kind: str, precision: str):
        from pannslib.features import LogMel
        from pannslib.inference.front_end import ParallelLogMel
        from pannslib.inference.graphs import inputs_of

        runtime = RUNTIMES[kind]
        self.name, self.precision, self.device = kind, precision, torch.device("cpu")
        self.inputs = inputs_of(settings)
        self.log_mel = None
        if "log_mel" in self.inputs:
            weights = sum(weight.numel() for weight in settings.parameters())
            self.log_mel = ParallelLogMel(LogMel(settings.front_end), compiled=weights < LARGE)
        self.framewise = settings.framewise if settings.classifies_frames else None
        self.run = runtime.load(path, precision, settings)

    def __call__(self, waveform: np.ndarray) -> Prediction:
        given = {"waveform": waveform}
        if self.log_mel:
            given["log_mel"] = self.log_mel(waveform)
        logits, embedding, *segmentwise = self.run({name: given[name] for name in self.inputs})
        with np.errstate(over="ignore"):
            probability = 1 / (1 + np.exp(-logits))
        framewise = None
        if self.framewise:
            framewise = self.framewise(torch.from_numpy(segmentwise[0]), given["log_mel"].shape[2]).numpy()
        return Prediction(probability, embedding, framewise)


def choose(settings: PannsModel, device: str, precision: str, engine: str = "auto") -> str:
    """The engine that computes a model: the one that is asked for, or the fastest of those that are installed."""
    if engine != "auto":
        return engine
    return next((name for name in _wanted(device, precision, settings) if available(name, precision)), "folded")


def _wanted(device: str, precision: str, settings: PannsModel) -> tuple[str, ...]:
    """The engines for a model, the fastest first.

    Machine code is for channels by 32, and where of 64 mel bins two bands are left for the last block; with more bands
    its weights would be too many, with one they'd meet padding for the most part.
    """
    is_suited = 64 * settings.width % 32 == 0 and settings.front_end.mel_bins == 64
    names = fastest(device, precision, settings.name)
    return tuple(name for name in names if is_suited or name != "winograd")


def fastest(device: str, precision: str, architecture: str) -> tuple[str, ...]:
    """The engines for an architecture, the fastest first."""
    order = FASTEST.get((device, precision), ())  # none where `create` refuses the precision
    has_matrix_unit = precision == "bf16" and "amx_bf16" in processor_flags()  # machine code doesn't use it
    if device != "cpu" or precision not in FASTER or has_matrix_unit:
        return order
    faster = FASTER[precision]
    first = faster.get(architecture) or faster.get(registry.architecture(architecture).family) or order[:1]
    first = tuple(name for name in first if can_run(name, precision))
    return (*first, *(name for name in order if name not in first))


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
    if engine in RUNTIMES and (device != "cpu" or precision not in RUNTIMES[engine].precisions):
        raise ModelError(
            f"The engine {engine} computes on the CPU, in {' or '.join(RUNTIMES[engine].precisions)}; asked was "
            f"{precision}."
        )
    wanted = _wanted(device, precision, settings) if engine == "auto" else (engine, "folded")
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
    """An engine that isn't installed, or not for this processor."""


def _make(name, model, settings, key, device, precision, folder):
    if name not in RUNTIMES:
        return TorchEngine(model(), device, precision, name)
    runtime = RUNTIMES[name]
    if not can_run(name, precision):
        raise _Unavailable(f"{name} needs a processor with {' and '.join(runtime.flags[precision])}")
    missing = [package for package in runtime.packages if not installed(package)]
    if missing:
        raise _Unavailable(f"{' and '.join(missing)} isn't installed ({GET_FAST})")
    path = graph_file(name, settings, key, folder, precision)
    new = not path.is_file()
    if new:
        runtime.write(model(), path, precision)
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


def graph_file(name: str, settings: PannsModel, key: str, folder: Path, precision: str) -> Path:
    """Where the graph of a runtime is kept."""
    return folder / f"{settings.name}-{key}" / RUNTIMES[name].file.format(precision=precision)


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


def packages_of(engine: str) -> tuple[str, ...]:
    """What an engine needs besides what is always there."""
    return RUNTIMES[engine].packages if engine in RUNTIMES else ()


def available(engine: str, precision: str = "fp32") -> bool:
    """Whether all that an engine needs is there."""
    return can_run(engine, precision) and all(map(installed, packages_of(engine)))


def can_run(engine: str, precision: str = "fp32") -> bool:
    """Whether the processor has the instruction sets that an engine needs."""
    return engine not in RUNTIMES or processor_flags().issuperset(RUNTIMES[engine].flags[precision])


def installed(package: str) -> bool:
    """Whether a package can be imported, without importing it."""
    return package in sys.modules or find_spec(package) is not None


def has_bf16() -> bool:
    """Whether the processor multiplies faster in bf16 than in float32.

    With AMX it does, and AMD's do with AVX512-BF16. Intel's that show no AMX, as in some virtual machines, have the
    latter too, but networks take 1.5 times as long with it as in float32 (Emerald Rapids, PyTorch and OpenVINO).
    """
    flags = processor_flags()
    return "amx_bf16" in flags or ("avx512_bf16" in flags and processor("vendor_id") == "AuthenticAMD")


def precision_for(precision: str, device: str, engine: str) -> str:
    """The precision that is computed in: what is asked for, or "auto" for the fastest there is.

    Where the engine is free and the processor isn't faster in bf16, float32 is taken in its place, which is nearer to
    the truth, and a line on the standard error says so.
    """
    if precision == "auto":
        return "bf16" if device == "cuda" or has_bf16() else "fp32"
    if precision == "bf16" and device == "cpu" and not has_bf16():
        if engine == "auto":
            explain("this processor is no faster in bf16: computing in fp32.")
            return "fp32"
        explain("this processor is no faster in bf16 than in fp32.")
    return precision


def explain(sentence: str) -> None:
    """One line on the standard error."""
    print(f"pannslib: {sentence}", file=sys.stderr)


def key_of(checkpoint: Path, folder: Path) -> str:
    """Sixteen hex digits that stand for a file of weights: the beginning of its SHA-256.

    That is computed once, and remembered in ``folder``.

    Raises:
        CheckpointError: there is no such file.
    """
    if not checkpoint.is_file():
        raise CheckpointError(f"There is no checkpoint {checkpoint}. Give the path of a .safetensors or .pth file.")
    return files.remembered(checkpoint, folder / KEYS, files.sha256)[:16]


def forget_old(folder: Path) -> None:
    """Remove the engine files of models that were used longest ago, so that those of `KEPT` models stay."""
    kept = sorted((path for path in folder.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
    for path in kept[:-KEPT]:
        shutil.rmtree(path, ignore_errors=True)
