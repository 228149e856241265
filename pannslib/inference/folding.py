"""A network as it computes fastest with the same results: batch norms and poolings folded into convolutions.

In evaluation mode a batch norm multiplies and adds by channel. After a convolution the factor goes into its weights
and the summand into its bias; that of the log-mel (``bn0``) follows the front end without axes going there and back.
An average pooling between convolution and batch norm commutes with it; where a depthwise or a first convolution of
3 x 3 comes before a pooling of 2 x 2, both are one convolution of 4 x 4 with stride 2. Where only two bands are left of
the mel bins, a third of what a 3 x 3 convolution multiplies is padding, which can be left out. Nothing else of a model
changes, so that what a folded one gives is the same but for float32 rounding.
"""

import copy

import torch
import torch.nn.functional as F
from torch import nn

from pannslib.models.base import PannsModel
from pannslib.models.layers import ConvBlock
from pannslib.models.log_mel import LogMelInput

# the batch norm that follows a convolution is named after it: conv2 and bn2, downsample and bn_downsample
PAIRS = {"pre_conv0": "pre_bn0", "downsample": "bn_downsample"} | {f"conv{index}": f"bn{index}" for index in range(8)}


@torch.no_grad()
def fold(model: PannsModel, two_bands: bool = False) -> PannsModel:
    """A copy of a model, in evaluation mode, with batch norms and poolings folded into the convolutions before them.

    With ``two_bands`` blocks that see two bands are convolved along time alone (`TwoBands`): fewer multiplications
    with a third more weights, which pays in OpenVINO (a fifth of CNN14's time) and not where weights are the limit.
    It has other parameters than the published architecture, so that it can be used but not trained or saved as one.
    """
    model = copy.deepcopy(model).eval()
    for module in list(model.modules()):
        if isinstance(module, nn.Sequential):
            _fold_sequence(module)
            continue
        children = dict(module.named_children())
        for conv, norm in PAIRS.items():
            if isinstance(children.get(conv), nn.Conv1d | nn.Conv2d) and norm in children:
                setattr(module, conv, _with_norm(children[conv], children[norm]))
                setattr(module, norm, nn.Identity())
    if isinstance(model, LogMelInput) and type(model).normalise is LogMelInput.normalise and hasattr(model, "bn0"):
        model.log_mel, model.bn0 = Normalised(model.log_mel, model.bn0), nn.Identity()
    if two_bands:
        _fold_two_bands(model)
    return model.requires_grad_(False)


class Normalised(nn.Module):
    """A front end and the batch norm of its mel bins: waveform -> (batch, 1, frames, mel_bins)."""

    def __init__(self, front: nn.Module, norm: nn.BatchNorm2d):
        super().__init__()
        self.front = front
        factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        self.register_buffer("factor", factor)
        self.register_buffer("shift", norm.bias - norm.running_mean * factor)

    def forward(self, waveform: torch.Tensor | None) -> torch.Tensor:
        return self.front(waveform) * self.factor + self.shift


class TwoBands(nn.Module):
    """A block of 3 x 3 convolutions on two bands, as convolutions along time on twice the channels.

    (batch, inputs, frames, 2) -> (batch, outputs, frames, 2). A band sees itself and the other one; the third column
    of each kernel would meet padding alone.
    """

    def __init__(self, block: ConvBlock):
        super().__init__()
        # a convolution a band: an engine that keeps weights in its own order has the half of them twice at a time
        self.layers = nn.ModuleList(self._bands(getattr(block, f"conv{index}")) for index in range(1, block.depth + 1))

    @staticmethod
    def _bands(conv: nn.Conv2d) -> nn.ModuleList:
        below, same, above = conv.weight.unbind(dim=3)  # (outputs, inputs, 3), what a band takes from which
        bands = nn.ModuleList()
        for weight in (torch.cat([same, above], dim=1), torch.cat([below, same], dim=1)):
            band = nn.Conv2d(2 * conv.in_channels, conv.out_channels, (3, 1), padding=(1, 0))
            band.weight.copy_(weight[..., None])
            band.bias.copy_(conv.bias)
            bands.append(band)
        return bands

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        low, high = x[..., :1], x[..., 1:]
        for layer in self.layers:
            x = torch.cat([low, high], dim=1)  # (batch, 2 * inputs, frames, 1)
            low, high = (F.relu_(band(x)) for band in layer)
        return torch.cat([low, high], dim=3)


def _fold_two_bands(model: PannsModel) -> None:
    """Put `TwoBands` where a folded block of 3 x 3 convolutions sees two bands; a short clip tells which do."""
    narrow, hooks = set(), []
    for name, block in model.named_modules():
        if isinstance(block, ConvBlock) and _is_plain(block):
            hooks.append(block.register_forward_pre_hook(lambda _, args, name=name: _note(narrow, name, args[0])))
    if hooks:
        model(torch.zeros(1, max(model.least_samples, model.sample_rate), device=next(model.parameters()).device))
    for hook in hooks:
        hook.remove()
    for name in narrow:
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, TwoBands(model.get_submodule(name)))


def _is_plain(block: ConvBlock) -> bool:
    """Whether a block has 3 x 3 convolutions alone, without stride or dilation, their batch norms folded."""
    convolutions = [getattr(block, f"conv{index}") for index in range(1, block.depth + 1)]
    return all(
        isinstance(conv, nn.Conv2d)
        and (conv.kernel_size, conv.stride, conv.dilation, conv.groups) == ((3, 3), (1, 1), (1, 1), 1)
        and conv.bias is not None
        for conv in convolutions
    )


def _note(narrow: set[str], name: str, x: torch.Tensor) -> None:
    if x.shape[3] == 2:
        narrow.add(name)


def _fold_sequence(sequence: nn.Sequential) -> None:
    """Fold what stands as convolution, (average pooling,) batch norm in a sequence; the places keep their numbers."""
    for place, norm in enumerate(sequence):
        if not isinstance(norm, nn.BatchNorm2d | nn.BatchNorm1d):
            continue
        pooling = sequence[place - 1] if isinstance(sequence[place - 1], nn.AvgPool2d) else None
        at = place - 1 if pooling is None else place - 2
        conv = sequence[at]
        if at < 0 or not isinstance(conv, nn.Conv1d | nn.Conv2d):
            continue
        conv = _with_norm(conv, norm)
        sequence[place] = nn.Identity()
        if pooling is not None and pooling.kernel_size == 1:
            sequence[place - 1] = nn.Identity()
        elif pooling is not None and _few_inputs(conv):
            conv = _with_pooling(conv)
            sequence[place - 1] = nn.Identity()
        sequence[at] = conv


def _with_norm(conv: nn.Module, norm: nn.Module) -> nn.Module:
    """A convolution that does what it and the batch norm after it do."""
    factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    bias = norm.bias - norm.running_mean * factor
    if conv.bias is not None:
        bias = bias + conv.bias * factor
    return _like(conv, conv.weight * factor.reshape(-1, *[1] * (conv.weight.ndim - 1)), bias)


def _few_inputs(conv: nn.Module) -> bool:
    """Whether a 3 x 3 convolution costs so little for an input that a larger kernel at fewer places is cheaper."""
    return conv.weight.shape[1] == 1 and conv.kernel_size == (3, 3) and conv.stride == (1, 1)


def _with_pooling(conv: nn.Conv2d) -> nn.Conv2d:
    """A convolution that does what one of 3 x 3 with stride 1 and an average pooling of 2 x 2 after it do."""
    weight = F.conv2d(F.pad(conv.weight, (1, 1, 1, 1)), torch.full((1, 1, 2, 2), 0.25))  # (outputs, 1, 4, 4)
    return _like(conv, weight, conv.bias, kernel=4, stride=2)


def _like(
    conv: nn.Module, weight: torch.Tensor, bias: torch.Tensor, kernel: int | None = None, stride: int | None = None
) -> nn.Module:
    """A convolution with this weight and bias, otherwise as ``conv``."""
    new = type(conv)(
        conv.in_channels,
        conv.out_channels,
        kernel or conv.kernel_size,
        stride or conv.stride,
        conv.padding,
        conv.dilation,
        conv.groups,
        bias=True,
    )
    new.weight.copy_(weight)
    new.bias.copy_(bias)
    return new
