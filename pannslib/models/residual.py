"""Residual blocks and stages, in two dimensions for ResNet and in one for Res1dNet."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from pannslib.models.layers import BATCH_NORMS, convolution


@dataclass(frozen=True)
class Branch:
    """The residual branch of a block: BasicB and BottleneckB of Table II, and section II-D's for waveforms.

    Attributes:
        axes: 2 for (frames, bins), 1 for samples.
        kernels, dilations: of each convolution in turn.
        expansion: the last convolution's channels are so many times the others'.
        pooling: by how much the first block of a stage shortens each axis.
    """

    axes: int
    kernels: tuple[int, ...]
    dilations: tuple[int, ...]
    expansion: int
    pooling: int


BASIC = Branch(axes=2, kernels=(3, 3), dilations=(1, 1), expansion=1, pooling=2)
BOTTLENECK = Branch(axes=2, kernels=(1, 3, 1), dilations=(1, 1, 1), expansion=4, pooling=2)
WAVEFORM = Branch(axes=1, kernels=(3, 3), dilations=(1, 2), expansion=1, pooling=4)

# on the branch and on the shortcut: the authors' code takes the maximum on the branch of a waveform alone
BRANCH_POOLINGS = {1: F.max_pool1d, 2: F.avg_pool2d}
SHORTCUT_POOLINGS = {1: nn.AvgPool1d, 2: nn.AvgPool2d}


class ResidualBlock(nn.Module):
    """Pooling, convolutions with batch norm and ReLU, plus the shortcut, then ReLU."""

    dropout_factor = 1.0  # see `PannsModel.scale_dropout`

    def __init__(self, inputs: int, channels: int, branch: Branch, pooled: bool):
        super().__init__()
        self.depth = len(branch.kernels)
        self.pool = BRANCH_POOLINGS[branch.axes] if pooled else None
        self.pooling = branch.pooling
        outputs = channels * branch.expansion
        widths = [inputs, *[channels] * (self.depth - 1), outputs]
        for index, (kernel, dilation) in enumerate(zip(branch.kernels, branch.dilations, strict=True)):
            conv = convolution(branch.axes, widths[index], widths[index + 1], kernel, dilation)
            self.add_module(f"conv{index + 1}", conv)
            norm = BATCH_NORMS[branch.axes](widths[index + 1])
            self.add_module(f"bn{index + 1}", norm)
        # so that every block begins as its shortcut
        nn.init.zeros_(norm.weight)
        self.relu = nn.ReLU(inplace=branch.axes == 2)  # see `layers.RELUS`
        self.downsample = None
        if pooled or inputs != outputs:
            shorten = [SHORTCUT_POOLINGS[branch.axes](branch.pooling)] if pooled else []
            match = [convolution(branch.axes, inputs, outputs, kernel=1), BATCH_NORMS[branch.axes](outputs)]
            self.downsample = nn.Sequential(*shorten, *match)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        if self.pool is not None:
            x = self.pool(x, self.pooling)
        for index in range(1, self.depth):
            x = getattr(self, f"conv{index}")(x)
            x = self.relu(getattr(self, f"bn{index}")(x))
        x = F.dropout(x, 0.1 * self.dropout_factor, self.training)
        x = getattr(self, f"conv{self.depth}")(x)
        x = getattr(self, f"bn{self.depth}")(x)
        return self.relu(x + shortcut)


class ResidualStages(nn.Module):
    """layer1, layer2, ...: stages of residual blocks; all but the first begin with a pooling.

    Args:
        inputs: channels that come in.
        channels: of each stage, before the branch's expansion.
        blocks: of each stage.
        branch: the kind of block.
    """

    def __init__(self, inputs: int, channels: list[int], blocks: tuple[int, ...], branch: Branch):
        super().__init__()
        for stage, (width, count) in enumerate(zip(channels, blocks, strict=True), start=1):
            layers = []
            for block in range(count):
                layers.append(ResidualBlock(inputs, width, branch, pooled=stage > 1 and block == 0))
                inputs = width * branch.expansion
            self.add_module(f"layer{stage}", nn.Sequential(*layers))
        self.outputs = inputs  # channels that go out

    def forward(self, x: Tensor) -> Tensor:
        for stage in self.children():
            x = stage(x)
        return x
