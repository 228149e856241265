"""MobileNetV1 and MobileNetV2: section II-C and Table III of the paper.

Both replace strides by average poolings, which sit between a 3 x 3 convolution and its batch norm. A pooling of
1 x 1 changes nothing; it keeps the places that the released weights' names count.
"""

from torch import Tensor, nn

from pannslib.models.base import Settings
from pannslib.models.layers import initialise
from pannslib.models.log_mel import LogMelModel

# V1: channels and pooling of each depthwise separable block
V1_BLOCKS = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *[(512, 1)] * 5,
    (1024, 2),
    (1024, 1),
)
# V2: expansion of the channels inside a block, channels, blocks, pooling of the first of them
V2_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 2),
    (6, 160, 3, 1),
    (6, 320, 1, 1),
)


def pooled_3x3(inputs: int, outputs: int, pooling: int, activation: type[nn.Module], groups: int = 1) -> list:
    """3 x 3 convolution, average pooling, batch norm, activation; depthwise where groups equals the channels."""
    return [
        nn.Conv2d(inputs, outputs, 3, padding=1, groups=groups, bias=False),
        nn.AvgPool2d(pooling),
        nn.BatchNorm2d(outputs),
        activation(inplace=True),
    ]


def pointwise(inputs: int, outputs: int) -> list:
    """1 x 1 convolution and batch norm."""
    return [nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs)]


class InvertedResidual(nn.Module):
    """V2Block of Table III: expand, filter each channel, project; the input is added where the shape is the same."""

    def __init__(self, inputs: int, outputs: int, expansion: int, pooling: int):
        super().__init__()
        hidden = inputs * expansion
        expand = [*pointwise(inputs, hidden), nn.ReLU6(inplace=True)] if expansion > 1 else []
        filtering = pooled_3x3(hidden, hidden, pooling, nn.ReLU6, groups=hidden)
        self.conv = nn.Sequential(*expand, *filtering, *pointwise(hidden, outputs))
        self.shortcut = pooling == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.shortcut else self.conv(x)


class MobileNet(LogMelModel):
    """Depthwise separable convolutions on a log-mel spectrogram; version 1 or 2."""

    def __init__(self, settings: Settings, version: int):
        super().__init__(settings, halvings=5)
        layers = self._version_1(settings) if version == 1 else self._version_2(settings)
        self.features = nn.Sequential(*layers)
        if version == 2:
            self.pooled_dropout = 0.0  # as in the authors' code, for this architecture alone
        self.add_classifier(settings.channels(1024 if version == 1 else 1280), settings.channels(1024))
        initialise(self)

    @staticmethod
    def _version_1(settings: Settings) -> list[nn.Module]:
        channels = settings.channels(32)
        layers = [nn.Sequential(*pooled_3x3(1, channels, 2, nn.ReLU))]
        for published, pooling in V1_BLOCKS:
            outputs = settings.channels(published)
            filtering = pooled_3x3(channels, channels, pooling, nn.ReLU, groups=channels)
            layers.append(nn.Sequential(*filtering, *pointwise(channels, outputs), nn.ReLU(inplace=True)))
            channels = outputs
        return layers

    @staticmethod
    def _version_2(settings: Settings) -> list[nn.Module]:
        channels = settings.channels(32)
        layers = [nn.Sequential(*pooled_3x3(1, channels, 2, nn.ReLU6))]
        for expansion, published, blocks, first_pooling in V2_STAGES:
            outputs = settings.channels(published)
            for block in range(blocks):
                layers.append(InvertedResidual(channels, outputs, expansion, 1 if block else first_pooling))
                channels = outputs
        # not in Table III, but needed for the printed number of parameters (ERRATA, row 26)
        last = nn.Sequential(*pointwise(channels, settings.channels(1280)), nn.ReLU6(inplace=True))
        return [*layers, last]

    def body(self, x: Tensor) -> Tensor:
        return self.features(x)  # (batch, 1024 or 1280, frames / 32, bins / 32)
