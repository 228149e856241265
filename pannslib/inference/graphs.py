"""A network as a graph: what the graph engines compute, and what `pannslib.export` hands to others.

The exporter to ONNX is torch.onnx's tracing one: it takes a second where the newer one takes six. What tracing could
get wrong, a size that is kept as a constant, is looked for by whoever writes a graph: `pannslib.export` and the tests
compare each with PyTorch at another batch and length.
"""

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from pannslib.features import LogMel, decibels
from pannslib.files import replacing
from pannslib.inference.folding import Normalised, fold
from pannslib.models.base import PannsModel
from pannslib.models.log_mel import LogMelModel
from pannslib.models.wavegram import WavegramLogmel

OPSET = 18  # OpenVINO reduces over all axes where 17 says one (ReduceLogSumExp)
EXAMPLE_SECONDS = (2.5, 4.03)  # of the clips that a graph is traced with
# how a log-mel comes into a graph: not at all, its front end being in it; as a spectrum; as it is
FRONTS = ("waveform", "spectrum", "log_mel")


class Graph(nn.Module):
    """A folded model whose inputs and outputs are plain tensors, ready to be traced.

    Args:
        model: any architecture, on the CPU.
        front: how much of the front end is outside, of `FRONTS`. "waveform": nothing, it is in the graph as a
            convolution. "spectrum": the FFT, which makes it faster. "log_mel": all of it.
        two_bands: see `folding.fold`.

    Attributes:
        inputs: "waveform" (batch, samples); "spectrum" (batch, frames, window // 2 + 1, 2), real and imaginary part;
            "log_mel" (batch, 1, frames, mel_bins); or the first and one of the others.
        outputs: "logits" (batch, classes) or with the front end "clipwise_output"; "embedding" (batch, embedding
            size); and for DecisionLevel models "framewise_output" (batch, frames, classes).
    """

    def __init__(self, model: PannsModel, front: str, two_bands: bool = False):
        super().__init__()
        self.model = fold(model, two_bands)
        self.inputs = inputs_of(model, front)
        # where a batch norm is folded into the front end, it stays in the graph
        holder, name = (self.model.log_mel, "front") if self._is_normalised() else (self.model, "log_mel")
        self.given = {"log_mel": Given, "spectrum": GivenSpectrum}.get(self.inputs[-1], lambda _: None)(
            getattr(holder, name, None)
        )
        if self.given is not None:
            setattr(holder, name, self.given)
        for name, module in list(self.model.named_modules()):
            if isinstance(module, LogMel):
                parent, _, child = name.rpartition(".")
                setattr(self.model.get_submodule(parent), child, LogMel(module.front_end, "conv"))
        framewise = ("framewise_output",) if model.classifies_frames else ()
        self.outputs = ("clipwise_output" if front == "waveform" else "logits", "embedding", *framewise)

    def _is_normalised(self) -> bool:
        return isinstance(getattr(self.model, "log_mel", None), Normalised)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The tensors named ``inputs`` -> those named ``outputs``."""
        named = dict(zip(self.inputs, inputs, strict=True))
        if self.given is not None:
            self.given.value = inputs[-1]
        output = self.model.from_waveform(named.get("waveform"), None)
        return tuple(getattr(output, name) for name in self.outputs)


class Given(nn.Module):
    """Stands where the front end was, for a log-mel that is known already."""

    value: Tensor | None = None

    def __init__(self, log_mel: nn.Module):
        super().__init__()

    def forward(self, waveform: Tensor | None) -> Tensor:
        return self.value


class GivenSpectrum(nn.Module):
    """Stands where the front end was, for a spectrum that is known already: what is left of it after the FFT."""

    value: Tensor | None = None

    def __init__(self, log_mel: LogMel):
        super().__init__()
        # each filter twice, for the squares of real and imaginary part, which need not be added up before
        self.register_buffer("mel", log_mel.mel.repeat_interleave(2, dim=0))

    def forward(self, waveform: Tensor | None) -> Tensor:
        return decibels(self.value.square().flatten(2) @ self.mel)


def inputs_of(model: PannsModel, front: str) -> tuple[str, ...]:
    """What a graph takes for a model: the waveform, the front end's ``front``, or both."""
    if front == "waveform" or not isinstance(model, LogMelModel | WavegramLogmel):
        return ("waveform",)
    return (front,) if isinstance(model, LogMelModel) else ("waveform", front)


def given_for(inputs: tuple[str, ...], log_mel: LogMel | None, waveform: Tensor) -> dict[str, Tensor]:
    """The tensors that a graph takes for a waveform (batch, samples), by name, from the front end ``log_mel``."""
    given = {"waveform": waveform}
    if "log_mel" in inputs:
        given["log_mel"] = log_mel(waveform)
    elif "spectrum" in inputs:
        given["spectrum"] = torch.view_as_real(log_mel.spectrum(waveform))
    return {name: given[name] for name in inputs}


@torch.no_grad()
def trace(model: PannsModel, front: str, batch: int, two_bands: bool = False) -> tuple[Graph, list[tuple[Tensor, ...]]]:
    """The graph of a model, and what it takes for a batch of noise of each of the `EXAMPLE_SECONDS`."""
    graph = Graph(model, front, two_bands).eval()
    generator, examples = torch.Generator().manual_seed(0), []
    log_mel = LogMel(model.front_end).eval() if graph.inputs != ("waveform",) else None
    for seconds in EXAMPLE_SECONDS:
        samples = max(round(seconds * model.sample_rate), model.least_samples)
        waveform = torch.rand(batch, samples, generator=generator) - 0.5
        examples.append(tuple(given_for(graph.inputs, log_mel, waveform).values()))
    return graph, examples


@torch.no_grad()
def write(model: PannsModel, path: Path, front: str, two_bands: bool = False) -> Graph:
    """Write a model as ONNX with dynamic batch and length, all or nothing; returns what was traced.

    Raises:
        Exception: whatever torch's exporter makes of an operator that it can't write.
    """
    graph, (example, *_) = trace(model, front, batch=2, two_bands=two_bands)
    axes = {
        "waveform": {0: "batch", 1: "samples"},
        "spectrum": {0: "batch", 1: "frames"},
        "log_mel": {0: "batch", 2: "frames"},
    }
    axes |= {name: {0: "batch"} for name in graph.outputs} | {"framewise_output": {0: "batch", 1: "frames"}}
    with replacing(Path(path)) as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of each size that is looked at while it is traced
        torch.onnx.export(
            graph,
            example,
            str(temporary),
            dynamo=False,
            opset_version=OPSET,
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            dynamic_axes={name: axes[name] for name in (*graph.inputs, *graph.outputs)},
        )
    return graph
