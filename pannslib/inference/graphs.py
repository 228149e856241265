"""A network as a graph: what the graph engines compute, and what `pannslib.export` hands to others.

The exporter to ONNX is torch.onnx's tracing one: it takes a second where the newer one takes six. What tracing could
get wrong, a size that is kept as a constant, is looked for by whoever writes a graph: `pannslib.export` and the tests
compare each with PyTorch at another batch and length.
"""

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from pannslib.features import LogMel
from pannslib.files import replacing
from pannslib.inference.folding import Normalised, fold
from pannslib.models.base import PannsModel
from pannslib.models.log_mel import LogMelModel
from pannslib.models.wavegram import WavegramLogmel

OPSET = 18  # OpenVINO reduces over all axes where 17 says one (ReduceLogSumExp)
EXAMPLE_SECONDS = (2.5, 4.03)  # of the clips that a graph is traced with


class Graph(nn.Module):
    """A folded model whose inputs and outputs are plain tensors, ready to be traced.

    Args:
        model: any architecture, on the CPU.
        whole: with the front end, as a convolution; otherwise it takes what the front end gives.
        rearranged: see `folding.fold`.

    Attributes:
        inputs: "waveform" (batch, samples), "log_mel" (batch, 1, frames, mel_bins), or both.
        outputs: "logits" (batch, classes) or of a whole model "clipwise_output"; "embedding" (batch, embedding
            size); and for DecisionLevel models "segmentwise_output" (batch, segments, classes), of a whole model
            "framewise_output" (batch, frames, classes).
    """

    def __init__(self, model: PannsModel, whole: bool, rearranged: tuple[str, ...] = ()):
        super().__init__()
        self.model = fold(model, rearranged)
        self.inputs = ("waveform",) if whole else inputs_of(model)
        self.given = Given() if "log_mel" in self.inputs else None
        if self.given is not None:
            # where a batch norm is folded into the front end, it stays in the graph
            is_normalised = isinstance(self.model.log_mel, Normalised)
            setattr(*(self.model.log_mel, "front") if is_normalised else (self.model, "log_mel"), self.given)
        for name, module in list(self.model.named_modules()):
            if isinstance(module, LogMel):
                parent, _, child = name.rpartition(".")
                setattr(self.model.get_submodule(parent), child, LogMel(module.front_end, "conv"))
        self.outputs = ("clipwise_output", "embedding") if whole else ("logits", "embedding")
        if model.classifies_frames:
            self.outputs += ("framewise_output",) if whole else ("segmentwise_output",)
        if model.classifies_frames and not whole:
            self.model.framewise = as_it_is  # which engines repeat over the frames

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The tensors named ``inputs`` -> those named ``outputs``."""
        named = dict(zip(self.inputs, inputs, strict=True))
        if self.given is not None:
            self.given.log_mel = named["log_mel"]
        output = self.model.from_waveform(named.get("waveform"), None)
        return tuple(getattr(output, name.replace("segmentwise", "framewise")) for name in self.outputs)


def as_it_is(segmentwise: Tensor, frames: int) -> Tensor:
    """Stand in for `PannsModel.framewise`."""
    return segmentwise


class Given(nn.Module):
    """Stands where the front end was, for a log-mel that is known already."""

    log_mel: Tensor | None = None

    def forward(self, waveform: Tensor | None) -> Tensor:
        return self.log_mel


def inputs_of(model: PannsModel) -> tuple[str, ...]:
    """What the graph of a model without its front end takes: the waveform, the log-mel, or both."""
    if isinstance(model, LogMelModel):
        return ("log_mel",)
    return ("waveform", "log_mel") if isinstance(model, WavegramLogmel) else ("waveform",)


@torch.no_grad()
def trace(
    model: PannsModel, whole: bool, batch: int, rearranged: tuple[str, ...] = ()
) -> tuple[Graph, list[tuple[Tensor, ...]]]:
    """The graph of a model, and what it takes for a batch of noise of each of the `EXAMPLE_SECONDS`."""
    graph = Graph(model, whole, rearranged).eval()
    generator, examples = torch.Generator().manual_seed(0), []
    log_mel = LogMel(model.front_end).eval() if "log_mel" in graph.inputs else None
    for seconds in EXAMPLE_SECONDS:
        samples = max(round(seconds * model.sample_rate), model.least_samples)
        waveform = torch.rand(batch, samples, generator=generator) - 0.5
        given = {"waveform": waveform, "log_mel": log_mel and log_mel(waveform)}
        examples.append(tuple(given[name] for name in graph.inputs))
    return graph, examples


@torch.no_grad()
def write(model: PannsModel, path: Path, whole: bool, rearranged: tuple[str, ...] = ()) -> Graph:
    """Write a model as ONNX with dynamic batch and length, all or nothing; returns what was traced.

    Raises:
        Exception: whatever torch's exporter makes of an operator that it can't write.
    """
    graph, (example, *_) = trace(model, whole, batch=2, rearranged=rearranged)
    axes = {"waveform": {0: "batch", 1: "samples"}, "log_mel": {0: "batch", 2: "frames"}}
    axes |= {name: {0: "batch"} for name in ("logits", "clipwise_output", "embedding")}
    axes |= {f"{name}wise_output": {0: "batch", 1: f"{name}s"} for name in ("frame", "segment")}
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
