"""The one-dimensional networks on the waveform: DaiNet, LeeNet and Res1dNet, section II-D of the paper.

Kernel sizes, strides and widths that the text doesn't give are those of the authors' code.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from pannslib.features import mixup
from pannslib.models.base import Output, PannsModel, Settings
from pannslib.models.layers import BatchNorm1d, Conv1d, ConvBlock, convolution, initialise
from pannslib.models.residual import WAVEFORM, ResidualStages

DAI_CHANNELS = (64, 128, 256, 512)
RES1D_CHANNELS = (64, 128, 256, 512, 1024, 1024, 2048)


class WaveformModel(PannsModel):
    """A network on the waveform alone; mixup mixes waveforms."""

    def from_waveform(self, waveform: Tensor, mixup_lambda: Tensor | None) -> Output:
        if mixup_lambda is not None:
            waveform = mixup(waveform, mixup_lambda)
        return self.classify(self.body(waveform[:, None]))

    def body(self, x: Tensor) -> Tensor:
        """The convolutions: (batch, 1, samples) -> (batch, channels, steps)."""
        raise NotImplementedError


class LeeNet(WaveformModel):
    """Blocks of length-3 convolutions, the first with stride 3, each followed by a max pooling of 3.

    Args:
        settings: see `Settings`.
        channels: of each block.
        convolutions: layers a block.
        embedding_size: before scaling by the width.
        last_pooling: whether the last block is pooled too.
        block_dropout: after each block but the last.
    """

    def __init__(
        self,
        settings: Settings,
        channels: tuple[int, ...],
        convolutions: int,
        embedding_size: int,
        last_pooling: bool,
        block_dropout: float,
    ):
        super().__init__(settings)
        self.block_dropout = block_dropout
        self.blocks = len(channels)
        self.pooled = range(2, self.blocks + last_pooling)
        widths = [1, *map(settings.channels, channels)]
        for index in range(1, self.blocks + 1):
            stride = 3 if index == 1 else 1
            dilations = (1,) * convolutions
            block = ConvBlock(widths[index - 1], widths[index], axes=1, dilations=dilations, stride=stride)
            self.add_module(f"conv_block{index}", block)
        self.add_classifier(widths[-1], settings.channels(embedding_size))
        initialise(self)

    @property
    def least_samples(self) -> int:
        return 1  # all its layers are padded

    def body(self, x: Tensor) -> Tensor:
        for index in range(1, self.blocks + 1):
            x = getattr(self, f"conv_block{index}")(x)
            if index in self.pooled:
                x = F.max_pool1d(x, 3, padding=1)  # the paper says 2, the authors' code has 3 (ERRATA, row 24)
            if index < self.blocks:
                x = self.dropout(x, self.block_dropout)
        return x


class DaiBlock(nn.Module):
    """Four length-3 convolutions and a shortcut; (batch, inputs, steps) -> (batch, outputs, steps)."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        for index in range(1, 5):
            conv = convolution(1, inputs if index == 1 else outputs, outputs, kernel=3)
            self.add_module(f"conv{index}", conv)
        # where the shape stays the released weights have a shortcut convolution too, and nothing uses it
        self.downsample = convolution(1, inputs, outputs, kernel=1)
        for index in range(1, 5):
            self.add_module(f"bn{index}", BatchNorm1d(outputs))
        nn.init.zeros_(self.bn4.weight)
        self.bn_downsample = BatchNorm1d(outputs)
        self.plain_shortcut = inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.plain_shortcut else self.bn_downsample(self.downsample(x))
        for index in range(1, 4):
            x = F.relu(getattr(self, f"bn{index}")(getattr(self, f"conv{index}")(x)))
        return F.relu(self.bn4(self.conv4(x)) + shortcut)


class DaiNet(WaveformModel):
    """A length-80 convolution of stride 4 and four blocks, with max poolings of 4 between them."""

    unused_parameters = ("conv_block1.downsample", "conv_block1.bn_downsample")

    def __init__(self, settings: Settings):
        super().__init__(settings)
        widths = [settings.channels(64), *map(settings.channels, DAI_CHANNELS)]
        self.conv0 = Conv1d(1, widths[0], 80, stride=4, bias=False)
        self.bn0 = BatchNorm1d(widths[0])
        for index in range(1, 5):
            self.add_module(f"conv_block{index}", DaiBlock(widths[index - 1], widths[index]))
        self.add_classifier(widths[-1], settings.channels(512))
        initialise(self)

    @property
    def least_samples(self) -> int:
        return 80 + 4 * (4**3 - 1)

    def body(self, x: Tensor) -> Tensor:
        x = self.bn0(self.conv0(x))  # (batch, 64, samples / 4)
        for index in range(1, 5):
            x = getattr(self, f"conv_block{index}")(x if index == 1 else F.max_pool1d(x, 4))
        return x  # (batch, 512, samples / 256)


class Res1dNet(WaveformModel):
    """A length-11 convolution of stride 5 and seven stages of dilated residual blocks.

    Args:
        settings: see `Settings`.
        blocks: of each stage.
    """

    def __init__(self, settings: Settings, blocks: tuple[int, ...]):
        super().__init__(settings)
        stem, last = settings.channels(64), settings.channels(2048)
        self.conv0 = convolution(1, 1, stem, kernel=11, stride=5)
        self.bn0 = BatchNorm1d(stem)
        stages = [settings.channels(width) for width in RES1D_CHANNELS]
        self.resnet = ResidualStages(stem, stages, blocks, WAVEFORM)
        self.add_classifier(last, last)
        initialise(self)

    @property
    def least_samples(self) -> int:
        return 5 * (4**6 - 1) + 1

    def body(self, x: Tensor) -> Tensor:
        return self.resnet(self.bn0(self.conv0(x)))  # (batch, 2048, samples / 20480)
