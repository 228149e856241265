"""A network as an ONNX graph: what the graph engines compute, and what `pannslib.export` hands to others.

The exporter is torch.onnx's tracing one: it takes a second where the newer one takes six. What tracing could get wrong,
a size that is kept as a constant, is looked for by whoever writes a graph: `pannslib.export` and the tests compare
each with PyTorch at another batch and length.
"""

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from pannslib.features import LogMel
from pannslib.files import replacing
from pannslib.inference.folding import fold
from pannslib.models.base import PannsModel
from pannslib.models.log_mel import LogMelModel
from pannslib.models.wavegram import WavegramLogmel

OPSET = 18  # OpenVINO reduces over all axes where 17 says one (ReduceLogSumExp)
EXAMPLE_SECONDS = 2.5  # of the clips that a graph is traced with


class Graph(nn.Module):
    """A folded model whose inputs and outputs are plain tensors, ready to be traced.

    Args:
        model: any architecture, on the CPU.
        with_front_end: whether the waveform is the only input, so that the front end is a part of the graph, as a
            convolution. Otherwise the log-mel comes from outside, where an FFT makes it faster.

    Attributes:
        inputs: "waveform" (batch, samples), "log_mel" (batch, 1, frames, mel_bins), or both.
        outputs: "logits" (batch, classes) or with the front end "clipwise_output"; "embedding" (batch, embedding
            size); and for DecisionLevel models "framewise_output" (batch, frames, classes).
    """

    def __init__(self, model: PannsModel, with_front_end: bool):
        super().__init__()
        self.model = fold(model)
        self.inputs = ("waveform",) if with_front_end else inputs_of(model)
        if "log_mel" in self.inputs:
            self.model.log_mel = Given()
        for name, module in list(self.model.named_modules()):
            if isinstance(module, LogMel):
                parent, _, child = name.rpartition(".")
                setattr(self.model.get_submodule(parent), child, LogMel(module.front_end, "conv"))
        self.probabilities = with_front_end
        framewise = ("framewise_output",) if model.classifies_frames else ()
        self.outputs = ("clipwise_output" if with_front_end else "logits", "embedding", *framewise)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The tensors named ``inputs`` -> those named ``outputs``."""
        named = dict(zip(self.inputs, inputs, strict=True))
        if "log_mel" in named:
            self.model.log_mel.value = named["log_mel"]
        output = self.model.from_waveform(named.get("waveform"), None)
        return tuple(getattr(output, name) for name in self.outputs)


class Given(nn.Module):
    """Stands where the front end was, for a log-mel that is known already."""

    value: Tensor | None = None

    def forward(self, waveform: Tensor | None) -> Tensor:
        return self.value


def inputs_of(model: PannsModel) -> tuple[str, ...]:
    """What a graph engine is given for a model: the log-mel, the waveform, or both."""
    if isinstance(model, LogMelModel):
        return ("log_mel",)
    return ("waveform", "log_mel") if isinstance(model, WavegramLogmel) else ("waveform",)


@torch.no_grad()
def write(model: PannsModel, path: Path, with_front_end: bool) -> Graph:
    """Write a model as ONNX with dynamic batch and length, all or nothing; returns what was traced.

    Raises:
        Exception: whatever torch's exporter makes of an operator that it can't write.
    """
    graph = Graph(model, with_front_end).eval()
    samples = max(round(EXAMPLE_SECONDS * model.sample_rate), model.least_samples)
    waveform = torch.rand(2, samples, generator=torch.Generator().manual_seed(0)) - 0.5
    given = {"waveform": waveform}
    if "log_mel" in graph.inputs:
        given["log_mel"] = model.log_mel(waveform)
    axes = {"waveform": {0: "batch", 1: "samples"}, "log_mel": {0: "batch", 2: "frames"}}
    axes |= {name: {0: "batch"} for name in graph.outputs} | {"framewise_output": {0: "batch", 1: "frames"}}
    with replacing(Path(path)) as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of each size that is looked at while it is traced
        torch.onnx.export(
            graph,
            tuple(given[name] for name in graph.inputs),
            str(temporary),
            dynamo=False,
            opset_version=OPSET,
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            dynamic_axes={name: axes[name] for name in (*graph.inputs, *graph.outputs)},
        )
    return graph
