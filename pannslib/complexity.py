"""What a model costs: parameters, operations in three conventions, memory and time. Section VI-C15, Table XII.

Three numbers are called the cost of a network, and differ by more than a factor of two:

- *multi-adds*, Table XII's: a multiplication and an addition count as two, so do the scale and shift of a batch
  norm and each value of a ReLU module; a pooling module counts its window for each output; a linear layer counts
  once a clip even where it classifies every segment. The STFT counts as the two convolutions that torchlibrosa makes
  of it. ReLU6, functional calls and the mel filters count nothing. Which ReLUs and poolings are modules is an
  accident of the authors' code, and the models here have the same ones as modules.
- *MACs*: multiply-accumulates of convolutions and linear layers, wherever they run; the front end apart.
- *FFT operations*: what the front end here costs, which has an FFT in place of the convolutions.

Counting needs no arithmetic: the model runs on shapes alone, in evaluation mode, for one clip.
"""

import math
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor, nn

from pannslib.errors import ModelError
from pannslib.features import FrontEnd
from pannslib.models.base import PannsModel
from pannslib.models.log_mel import LogMelInput

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d)
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
POOLINGS = (nn.AvgPool1d, nn.AvgPool2d, nn.MaxPool1d, nn.MaxPool2d)
COLUMNS = ["name", "kind", "output_shape", "parameters", "multi_adds", "macs", "activation_bytes"]


@dataclass(frozen=True)
class Complexity:
    """What one clip costs.

    Attributes:
        parameters: what is trained.
        multi_adds: Table XII's convention.
        macs: true multiply-accumulates of the network, the front end not included.
        front_end_macs: of the front end, were its STFT a convolution; 0 where there is none.
        front_end_fft_flops: floating-point operations of the front end with its FFT, multiplications and additions
            apart; estimated as 2.5 N log2 N for a real FFT of N samples.
        weight_bytes: parameters and buffers of the state dict, as they are stored in the model.
        activation_bytes: what the layers put out, float32; about what training keeps of a clip. Evaluation needs
            far less at a time.
        layers: a row for each layer in running order: name, kind, output_shape, parameters, multi_adds, macs,
            activation_bytes. Rows of layers that the network has but doesn't use come last, without an output.
    """

    parameters: int
    multi_adds: int
    macs: int
    front_end_macs: int
    front_end_fft_flops: int
    weight_bytes: int
    activation_bytes: int
    layers: pd.DataFrame


@dataclass(frozen=True)
class Latency:
    """How fast a model is here.

    Attributes:
        seconds: median of the time for a batch.
        clips_per_second: batch size over ``seconds``.
        times: of each repeat, seconds.
        device, threads: where it was measured.
    """

    seconds: float
    clips_per_second: float
    times: tuple[float, ...]
    device: str
    threads: int


def count(model: PannsModel, seconds: float = 10) -> Complexity:
    """Count a model's parameters and operations for one clip of ``seconds``, without running it.

    Raises:
        ModelError: the clip is shorter than the model can take.
    """
    samples = _samples(model, seconds)
    front_ends = model.front_ends if isinstance(model, LogMelInput) else []
    rows = [
        row for number, front_end in enumerate(front_ends, 1) for row in _front_end_rows(front_end, samples, number)
    ]
    rows += _network_rows(model, samples)
    layers = pd.DataFrame(rows, columns=COLUMNS)
    front_end = layers["kind"] == "front end"
    return Complexity(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        multi_adds=int(layers["multi_adds"].sum()),
        macs=int(layers.loc[~front_end, "macs"].sum()),
        front_end_macs=int(layers.loc[front_end, "macs"].sum()),
        front_end_fft_flops=sum(fft_flops(settings, samples) for settings in front_ends),
        weight_bytes=sum(value.nbytes for value in model.state_dict().values()),
        activation_bytes=int(layers["activation_bytes"].sum()),
        layers=layers,
    )


def fft_flops(front_end: FrontEnd, samples: int) -> int:
    """Floating-point operations of a log-mel spectrogram by FFT.

    For each frame: the window, the FFT, the power (three operations a frequency), the mel product, the logarithm
    with its floor and scale (three a bin).
    """
    window, frequencies, bins = front_end.window, front_end.window // 2 + 1, front_end.mel_bins
    fft = math.ceil(2.5 * window * math.log2(window))
    return front_end.frames(samples) * (window + fft + 3 * frequencies + 2 * frequencies * bins + 3 * bins)


def latency(model: PannsModel, seconds: float = 10, batch: int = 1, repeats: int = 5) -> Latency:
    """Measure the time that a batch of clips takes, where the model is, in evaluation mode and float32.

    One batch runs beforehand and isn't counted.

    Raises:
        ModelError: the clips are shorter than the model can take; no batch or no repeat.
    """
    if batch < 1 or repeats < 1:
        raise ModelError(f"latency got batch {batch} and repeats {repeats}; both must be 1 or more.")
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(0)
    waveform = 0.1 * torch.randn(batch, _samples(model, seconds), generator=generator)
    waveform = waveform.to(device)
    times = []
    with evaluation(model), torch.inference_mode():
        for _ in range(repeats + 1):
            _wait(device)
            start = time.perf_counter()
            model(waveform)
            _wait(device)
            times.append(time.perf_counter() - start)
    median = statistics.median(times[1:])
    return Latency(median, batch / median, tuple(times[1:]), str(device), torch.get_num_threads())


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _samples(model: PannsModel, seconds: float) -> int:
    samples = int(seconds * model.sample_rate)
    if samples < model.least_samples:
        raise ModelError(
            f"{model.name} takes clips of {model.least_samples / model.sample_rate:.3g} s at least; "
            f"seconds is {seconds:g}."
        )
    return samples


@contextmanager
def evaluation(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside, and afterwards every module in the mode that it was in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _front_end_rows(front_end: FrontEnd, samples: int, number: int = 1) -> list[tuple]:
    """The rows of the STFT by convolution and of the mel filters of a model's spectrogram of that number."""
    suffix = f"_{number}" if number > 1 else ""
    frames, frequencies, bins = front_end.frames(samples), front_end.window // 2 + 1, front_end.mel_bins
    stft = 2 * front_end.window * frequencies * frames
    mel = frequencies * bins * frames
    shapes = (1, 1, frames, frequencies), (1, 1, frames, bins)
    return [
        (f"stft{suffix}", "front end", shapes[0], 0, 2 * stft, stft, 4 * frames * frequencies),
        (f"mel{suffix}", "front end", shapes[1], 0, 0, mel, 4 * frames * bins),
    ]


def _network_rows(model: PannsModel, samples: int) -> list[tuple]:
    """Run the model on a clip without values and note every layer that runs; then those that don't."""
    leaves = {name: module for name, module in model.named_modules() if _counted(module)}
    rows, seen, handles = [], set(), []

    def note(name: str):
        def hook(module: nn.Module, inputs: tuple, output: Tensor) -> None:
            # a module that runs twice (the ReLU of a residual block) has its parameters counted once
            parameters = 0 if name in seen else _parameters(module)
            seen.add(name)
            multi_adds, macs = _operations(module, inputs[0], output)
            kept = 0 if getattr(module, "inplace", False) else 4 * output.numel()
            rows.append((name, type(module).__name__, tuple(output.shape), parameters, multi_adds, macs, kept))

        return hook

    weights = {name: torch.empty_like(value, device="meta") for name, value in _tensors(model).items()}
    with evaluation(model), torch.no_grad():
        try:
            handles += [module.register_forward_hook(note(name)) for name, module in leaves.items()]
            torch.func.functional_call(model, weights, (torch.empty(1, samples, device="meta"),))
        finally:
            for handle in handles:
                handle.remove()
    unused = [(name, module) for name, module in leaves.items() if name not in seen]
    return rows + [(name, type(module).__name__, None, _parameters(module), 0, 0, 0) for name, module in unused]


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return dict(model.named_parameters()) | dict(model.named_buffers())


def _counted(module: nn.Module) -> bool:
    return isinstance(module, (*CONVOLUTIONS, *BATCH_NORMS, *POOLINGS, nn.Linear, nn.ReLU, nn.ReLU6))


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _operations(module: nn.Module, x: Tensor, output: Tensor) -> tuple[int, int]:
    """A layer's multi-adds in Table XII's convention, and its true multiply-accumulates."""
    if isinstance(module, CONVOLUTIONS):
        products = math.prod(module.kernel_size) * module.in_channels // module.groups
        bias = module.bias is not None
        return output.numel() * (2 * products + bias), output.numel() * products
    if isinstance(module, nn.Linear):
        # once a clip in the paper's convention, on however many segments the layer runs
        return 2 * module.weight.numel() + module.out_features, output.numel() * module.in_features
    if isinstance(module, (*BATCH_NORMS, nn.ReLU)):
        return 2 * x.numel(), 0
    if isinstance(module, POOLINGS):
        size = module.kernel_size
        axes = output.ndim - 2
        return output.numel() * (size**axes if isinstance(size, int) else math.prod(size)), 0
    return 0, 0
