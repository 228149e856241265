"""Wavegram-CNN and Wavegram-Logmel-CNN: section III and Figure 1 of the paper."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pannslib.errors import ModelError
from pannslib.features import mixup
from pannslib.models.base import Output, PannsModel, Settings
from pannslib.models.layers import BatchNorm1d, ConvBlock, convolution, initialise
from pannslib.models.log_mel import LogMelInput

MAPS = 4  # C / F of section III: how many channels each bin of a Wavegram has
STEP = 5 * 4**3  # samples a step of the Wavegram: a stride of 5 and three poolings of 4
CNN14_CHANNELS = (64, 128, 256, 512, 1024, 2048)


class Wavegram(PannsModel):
    """A picture of time and frequency learned from the waveform, then CNN14 from its second block.

    Figure 1: a convolution and three blocks of dilated ones leave ``samples // 320`` steps, whose channels are read
    as ``mel_bins // 2`` bins of `MAPS` maps; another block makes 64 maps of half as many steps.
    """

    # CNN14's first block and input batch norm are in the released weights, and not used
    unused_parameters = ("bn0", "conv_block1")
    pictures = 1  # of 64 channels each that conv_block2 sees

    def __init__(self, settings: Settings):
        super().__init__(settings)
        self.check_bins(32)
        self.bins = settings.front_end.mel_bins // 2
        first = settings.channels(64)
        maps = max(1, round(MAPS * settings.width))  # so that a width that leaves the others channels is enough
        self.pre_conv0 = convolution(1, 1, first, kernel=11, stride=5)
        self.pre_bn0 = BatchNorm1d(first)
        widths = [first, first, settings.channels(128), maps * self.bins]
        for index in range(1, 4):
            block = ConvBlock(widths[index - 1], widths[index], axes=1, dilations=(1, 2))
            self.add_module(f"pre_block{index}", block)
        self.pre_block4 = ConvBlock(maps, first)
        self.bn0 = nn.BatchNorm2d(settings.front_end.mel_bins)
        widths = [1, *map(settings.channels, CNN14_CHANNELS)]
        for index in range(1, 7):
            inputs = self.pictures * first if index == 2 else widths[index - 1]
            self.add_module(f"conv_block{index}", ConvBlock(inputs, widths[index]))
        self.add_classifier(widths[-1], widths[-1])
        initialise(self)

    @property
    def least_samples(self) -> int:
        # conv_block2 ... conv_block5 halve 16 steps to one, after pre_block4 has halved 32
        return 5 * (4**3 * 32 - 1) + 1

    def from_waveform(self, waveform: Tensor, mixup_lambda: Tensor | None) -> Output:
        picture = self.wavegram(waveform)
        return self.network(picture if mixup_lambda is None else mixup(picture, mixup_lambda))

    def wavegram(self, waveform: Tensor) -> Tensor:
        """Waveform (batch, samples) -> Wavegram (batch, 64, samples // 640, mel_bins // 2)."""
        x = F.relu(self.pre_bn0(self.pre_conv0(waveform[:, None])))  # (batch, 64, samples / 5)
        for block in (self.pre_block1, self.pre_block2, self.pre_block3):
            x = F.max_pool1d(block(x), 4)  # in the end (batch, maps * bins, steps)
        x = x.reshape(x.shape[0], -1, self.bins, x.shape[2]).transpose(2, 3)  # (batch, maps, steps, bins)
        return F.avg_pool2d(self.pre_block4(x), (2, 1))

    def network(self, x: Tensor) -> Output:
        """Pictures (batch, pictures * 64, steps, bins) -> output, by CNN14's blocks from the second on."""
        for index in range(2, 7):
            x = self.dropout(x, 0.2)
            x = getattr(self, f"conv_block{index}")(x, 2 if index < 6 else 1)
        return self.classify(self.dropout(x, 0.2).mean(dim=3))


class WavegramLogmel(LogMelInput, Wavegram):
    """A Wavegram beside what CNN14's first block makes of the log-mel spectrogram, as channels of one picture.

    The published network fails where one branch has a step more than the other (most lengths that are no multiple
    of 640 samples); here the longer one's last step, 20 ms, is left out.
    """

    unused_parameters = ()
    pictures = 2

    def __init__(self, settings: Settings):
        if settings.front_end.hop != STEP:
            raise ModelError(
                f"{settings.name}: the hop is {settings.front_end.hop} samples; it must be {STEP}, since that is a "
                "step of the Wavegram that the log-mel spectrogram is laid beside."
            )
        super().__init__(settings)

    def from_waveform(self, waveform: Tensor, mixup_lambda: Tensor | None) -> Output:
        learned = self.wavegram(waveform)
        log_mel = self.normalise(self.log_mel(waveform))
        if mixup_lambda is not None:
            learned, log_mel = mixup(learned, mixup_lambda), mixup(log_mel, mixup_lambda)
        log_mel = self.conv_block1(log_mel, 2)
        # each cut to the other's length, without asking which is longer, so that the network can be traced
        log_mel = log_mel[:, :, : learned.shape[2]]
        return self.network(torch.cat([log_mel, learned[:, :, : log_mel.shape[2]]], dim=1))
