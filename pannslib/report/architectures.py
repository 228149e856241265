"""What a network is made of, in the notation of Tables I to III, with the sizes that a clip has on its way.

Nothing is typed in: the model runs on a clip without values, every convolution, batch norm, activation and pooling
that it calls is noted with its output, and blocks that the paper has a name for are written by that name.
"""

from dataclasses import dataclass, field
from itertools import pairwise

import pandas as pd
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from pannslib import complexity
from pannslib.features import LogMel
from pannslib.models import PannsModel
from pannslib.models.mobilenet import InvertedResidual, MobileNet
from pannslib.models.residual import ResidualBlock

CONVOLUTIONS = ("conv1d", "conv2d")
POOLINGS = {"avg_pool1d": "pooling", "avg_pool2d": "pooling", "max_pool1d": "max pooling", "max_pool2d": "max pooling"}
# what is written behind the convolution or linear layer that it follows
FOLLOWERS = {"batch_norm": "BN", "relu": "ReLU", "relu_": "ReLU", "relu6": "ReLU6", "hardtanh": "ReLU6",
             "hardtanh_": "ReLU6", "sigmoid": "sigmoid"}  # fmt: skip
LOG_MEL, GLOBAL_POOLING, FLATTEN = "log-mel spectrogram", "global pooling", "flatten"
# the rows that end a network, from the first of these on
ENDS = (GLOBAL_POOLING, FLATTEN)


@dataclass
class Layer:
    """One row of an architecture.

    Attributes:
        text: in the paper's notation.
        inputs, outputs: shape of a clip before and after, without the batch axis; () where there is none to show.
        part: the model's submodule that it is in, or that ran before it.
        count: how many of them follow one another.
        inside: layers of a block that is written by its name.
    """

    text: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    part: str = ""
    count: int = 1
    inside: list["Layer"] = field(default_factory=list)

    @property
    def is_pooling(self) -> bool:
        return self.text.startswith(("pooling", "max pooling"))

    def __str__(self) -> str:
        return self.text if self.count == 1 else f"({self.text}) x {self.count}"


def layers(model: PannsModel, seconds: float = 10) -> list[Layer]:
    """The layers of ``model`` in running order, with the sizes of a clip of ``seconds``.

    A block's pooling is a row of its own, where Tables II and III have it: above a residual block, below a
    MobileNet's. There the block's row has no size, since the pooling sits inside it.
    """
    weights = {name: torch.empty_like(value, device="meta") for name, value in _tensors(model).items()}
    clip = torch.empty(1, int(seconds * model.sample_rate), device="meta")
    recorder = _Recorder()
    with complexity.evaluation(model), torch.no_grad():
        handles = recorder.watch(model)
        try:
            with recorder:
                torch.func.functional_call(model, weights, (clip,))
        finally:
            for handle in handles:
                handle.remove()
    return _with_poolings(_repeated(recorder.layers))


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return dict(model.named_parameters()) | dict(model.named_buffers())


class _Recorder(TorchFunctionMode):
    """Notes every operation of `CONVOLUTIONS`, `POOLINGS` and `FOLLOWERS`, and the few others that are rows."""

    def __init__(self):
        super().__init__()
        self.layers: list[Layer] = []
        self.part = ""

    def watch(self, model: PannsModel) -> list:
        """Hook the blocks that are written by a name; returns the handles."""
        handles = []
        for name, module in model.named_children():
            handles.append(module.register_forward_pre_hook(lambda *_, name=name: setattr(self, "part", name)))
        blocks = [(module, _block_text) for module in model.modules() if isinstance(module, ResidualBlock)]
        if isinstance(model, MobileNet):
            blocks += [(module, _mobile_text) for module in model.features]
        blocks += [(module, _log_mel_text) for module in model.modules() if isinstance(module, LogMel)]
        for module, text in blocks:
            handles += self._fold(module, text)
        return handles

    def _fold(self, module: nn.Module, text) -> list:
        """Put what runs inside of ``module`` into one layer."""
        outer = []

        def enter(*_) -> None:
            outer.append(self.layers)
            self.layers = []

        def leave(module: nn.Module, inputs: tuple, output: Tensor) -> None:
            inside, self.layers = self.layers, outer.pop()
            shapes = _shape(inputs[0]), _shape(output)
            self.layers.append(Layer(text(module, inside), *shapes, self.part, inside=inside))

        return [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]

    def __torch_function__(self, function, types, args=(), kwargs=None):
        output = function(*args, **(kwargs or {}))
        self._note(getattr(function, "__name__", ""), args, kwargs or {}, output)
        return output

    def _note(self, name: str, args: tuple, options: dict, output) -> None:
        if name in CONVOLUTIONS:
            self._add(_convolution_text(args), args[0], output)
        elif name == "linear":
            self._add(f"FC {output.shape[-1]}", args[0], output)
        elif name in POOLINGS and _size(args[1], output) is not None:
            self._add(f"{POOLINGS[name]} {_size(args[1], output)}", args[0], output)
        elif name == "flatten" and args[1:] == (1,):
            self._add(FLATTEN, args[0], output)
        elif name == "mean" and args[0].ndim == 4:
            self._add(GLOBAL_POOLING, args[0], output)
        elif name == "mean" and self.layers and self.layers[-1].text == GLOBAL_POOLING:
            # over frequency first, then over time
            self.layers[-1].outputs = _shape(output)
        elif name in FOLLOWERS and self.layers:
            self._follow(FOLLOWERS[name], output)

    def _add(self, text: str, inputs: Tensor, output: Tensor) -> None:
        self.layers.append(Layer(text, _shape(inputs), _shape(output), self.part))

    def _follow(self, text: str, output: Tensor) -> None:
        # in a MobileNet's block a pooling stands between the convolution and what follows it
        layer = next((layer for layer in reversed(self.layers) if not layer.is_pooling), None)
        if layer is None:
            return
        layer.text += f", {text}"
        if text == "sigmoid":
            layer.outputs = _shape(output)


def _shape(x: Tensor) -> tuple[int, ...]:
    return tuple(x.shape[1:])


def _size(kernel: int | tuple[int, ...], output: Tensor) -> str | None:
    """ "2 x 2" for a pooling over two axes, "4" over one; None where it changes nothing."""
    sizes = (kernel,) * (output.ndim - 2) if isinstance(kernel, int) else tuple(kernel)
    return None if set(sizes) == {1} else " x ".join(map(str, sizes))


def _convolution_text(args: tuple) -> str:
    _, weight, _, stride, _, dilation, groups = args
    text = " x ".join(map(str, weight.shape[2:])) + f" @ {weight.shape[0]}"
    if weight.ndim == 3:
        text = f"length {text}"
    if stride[0] > 1:
        text += f", stride {stride[0]}"
    if dilation[0] > 1:
        text += f", dilation {dilation[0]}"
    return f"depthwise {text}" if groups > 1 else text


def _log_mel_text(module: LogMel, inside: list[Layer]) -> str:
    return LOG_MEL


def _block_text(block: ResidualBlock, inside: list[Layer]) -> str:
    return f"{'BottleneckB' if block.depth == 3 else 'BasicB'} @ {block.conv1.out_channels}"


def _mobile_text(block: nn.Module, inside: list[Layer]) -> str:
    """The stem, V1Block, V2Block or last layer of a MobileNet."""
    convolutions = [layer for layer in inside if not layer.is_pooling]
    if len(convolutions) == 1:
        return convolutions[0].text
    channels = convolutions[-1].outputs[0]
    if not isinstance(block, InvertedResidual):
        return f"V1Block @ {channels}"
    return f"V2Block, t={convolutions[-1].inputs[0] // convolutions[0].inputs[0]} @ {channels}"


def _pooling(layer: Layer) -> Layer | None:
    """The first pooling inside a block."""
    return next((inner for inner in layer.inside if inner.is_pooling), None)


def _repeated(found: list[Layer]) -> list[Layer]:
    """Equal layers that follow one another as one, with their number."""
    merged: list[Layer] = []
    for layer in found:
        last = merged[-1] if merged else None
        # Table III has V1's pooling below its block, V2's below the stage whose first block holds it
        splits = last is not None and _pooling(last) and last.text.startswith("V1Block")
        if last is not None and last.text == layer.text and not layer.is_pooling and not splits:
            last.count += 1
            last.outputs = layer.outputs
        else:
            merged.append(layer)
    return merged


def _with_poolings(merged: list[Layer]) -> list[Layer]:
    """The rows: poolings inside blocks get one of their own, above the block or below."""
    rows = []
    for layer, following in pairwise([*merged, None]):
        if layer.text.startswith(LOG_MEL):
            # what the network sees of it: VGGish takes a clip apart into patches of 96 frames
            layer.outputs = following.inputs
        pooling = _pooling(layer)
        if pooling is None:
            rows.append(layer)
        elif layer.inside[0].is_pooling:
            rows += [Layer(pooling.text, pooling.inputs, pooling.outputs, layer.part), layer]
        else:
            rows.append(Layer(str(layer), layer.inputs, (), layer.part))
            rows.append(Layer(pooling.text, (), layer.outputs, layer.part))
    return rows


def size(shape: tuple[int, ...]) -> str:
    """How a shape is written: "64 x 500 x 32"; empty for none."""
    return " x ".join(f"{axis:,}" for axis in shape)


def table(models: dict[str, PannsModel], seconds: float = 10) -> pd.DataFrame:
    """One of Tables I to III: two columns a system, layers and the size after them (maps x frames x mel bins).

    Rows are laid out so that poolings of the same depth, and the ends of the networks, stand side by side.

    Args:
        models: what a system is called in the paper -> its model, all of the published width.
        seconds: length of the clip.
    """
    stacks = {name: _sections(layers(model, seconds)) for name, model in models.items()}
    depth = max(len(sections) for sections in stacks.values())
    for sections in stacks.values():
        sections[-1:-1] = [[]] * (depth - len(sections))
    heights = [max(map(len, level)) for level in zip(*stacks.values(), strict=True)]
    columns = {}
    for name, sections in stacks.items():
        rows = [row for section, height in zip(sections, heights, strict=True) for row in _padded(section, height)]
        columns[name] = [str(row) if row else "" for row in rows]
        columns[f"{name}: size"] = [size(row.outputs) if row else "" for row in rows]
    return pd.DataFrame(columns)


def _sections(found: list[Layer]) -> list[list[Layer]]:
    """Layers cut after every pooling and before the end of the network."""
    sections: list[list[Layer]] = [[]]
    for layer in found:
        if layer.text in ENDS:
            sections.append([])
        sections[-1].append(layer)
        if layer.is_pooling:
            sections.append([])
    return [section for section in sections if section]


def _padded(section: list[Layer], height: int) -> list[Layer | None]:
    """A section with empty rows above its pooling, or at its foot where it has none."""
    empty = [None] * (height - len(section))
    if section and section[-1].is_pooling:
        return [*section[:-1], *empty, section[-1]]
    return [*section, *empty]
