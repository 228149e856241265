"""ResNet22, ResNet38 and ResNet54: section II-B and Table II of the paper."""

import torch.nn.functional as F
from torch import Tensor

from pannslib.models.base import Settings
from pannslib.models.layers import ConvBlock, initialise
from pannslib.models.log_mel import LogMelModel
from pannslib.models.residual import Branch, ResidualStages

STAGES = (64, 128, 256, 512)  # channels; Table II prints 512 for the stem, which has 64 (ERRATA, row 2)


class ResNet(LogMelModel):
    """A stem, four stages of residual blocks and a last block on a log-mel spectrogram.

    Args:
        settings: see `Settings`.
        blocks: of each stage.
        branch: `residual.BASIC` or `residual.BOTTLENECK`.
    """

    def __init__(self, settings: Settings, blocks: tuple[int, ...], branch: Branch):
        super().__init__(settings, halvings=5)
        stem, last = settings.channels(64), settings.channels(2048)
        self.conv_block1 = ConvBlock(1, stem)
        self.resnet = ResidualStages(stem, [settings.channels(width) for width in STAGES], blocks, branch)
        self.conv_block_after1 = ConvBlock(self.resnet.outputs, last)
        self.add_classifier(last, last)
        initialise(self)

    def body(self, x: Tensor) -> Tensor:
        x = self.conv_block1(x, 2)  # (batch, 64, frames / 2, bins / 2)
        x = self.resnet(self.dropout(x, 0.2))  # (batch, 512 or 2048, frames / 16, bins / 16)
        x = F.avg_pool2d(x, 2)
        x = self.conv_block_after1(self.dropout(x, 0.2))
        return self.dropout(x, 0.2)  # (batch, 2048, frames / 32, bins / 32)
