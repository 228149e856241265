"""A network as it computes fastest with the same results: batch norms and poolings folded into convolutions.

In evaluation mode a batch norm multiplies and adds by channel. After a convolution the factor goes into its weights
and the summand into its bias; that of the log-mel (``bn0``) follows the front end without axes going there and back.
An average pooling between convolution and batch norm commutes with it; where a depthwise or a first convolution of
3 x 3 comes before a pooling of 2 x 2, both are one convolution of 4 x 4 with stride 2. Nothing else of a model changes,
so that what a folded one gives is the same but for float32 rounding.
"""

import copy

import torch
import torch.nn.functional as F
from torch import nn

from pannslib.inference.rearranging import WAYS, with_weight
from pannslib.models.base import PannsModel
from pannslib.models.log_mel import LogMelInput

# the batch norm that follows a convolution is named after it: conv2 and bn2, downsample and bn_downsample
PAIRS = {"pre_conv0": "pre_bn0", "downsample": "bn_downsample"} | {f"conv{index}": f"bn{index}" for index in range(8)}


@torch.no_grad()
def fold(model: PannsModel, rearranged: tuple[str, ...] = ()) -> PannsModel:
    """A copy of a model, in evaluation mode, with batch norms and poolings folded into the convolutions before them.

    Args:
        model: any architecture.
        rearranged: ways of `rearranging.WAYS` to compute convolutions with fewer multiplications. Such a model has
            other parameters than the published architecture, so that it can be used but not trained or saved as one.
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
    for way in rearranged:
        WAYS[way](model)
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
    return with_weight(conv, conv.weight * factor.reshape(-1, *[1] * (conv.weight.ndim - 1)), bias)


def _few_inputs(conv: nn.Module) -> bool:
    """Whether a 3 x 3 convolution costs so little for an input that a larger kernel at fewer places is cheaper."""
    return conv.weight.shape[1] == 1 and conv.kernel_size == (3, 3) and conv.stride == (1, 1)


def _with_pooling(conv: nn.Conv2d) -> nn.Conv2d:
    """A convolution that does what one of 3 x 3 with stride 1 and an average pooling of 2 x 2 after it do."""
    weight = F.conv2d(F.pad(conv.weight, (1, 1, 1, 1)), torch.full((1, 1, 2, 2), 0.25))  # (outputs, 1, 4, 4)
    return with_weight(conv, weight, conv.bias, stride=2)
