"""CNN6, CNN10 and CNN14: Table I of the paper, and CNN14's variants of Tables V to X."""

from itertools import pairwise

from torch import Tensor

from pannslib.models.base import Settings
from pannslib.models.layers import ConvBlock, initialise
from pannslib.models.log_mel import LogMelModel


class Cnn(LogMelModel):
    """Blocks of convolutions and 2 x 2 average poolings on a log-mel spectrogram.

    Args:
        settings: see `Settings`.
        channels: of each block.
        convolutions: 3 x 3 layers a block; 1 stands for CNN6's single layer of 5 x 5.
        last_pooling: whether there is a pooling after the last block as well. CNN6 and CNN10 have it in the
            authors' code, not in Table I (ERRATA, row 27).
        embedding_size: before scaling by the width.
        block_dropout: after each block.
        **training: SpecAugment and mixup, see `LogMelModel`.
    """

    def __init__(
        self,
        settings: Settings,
        channels: tuple[int, ...],
        embedding_size: int,
        convolutions: int = 2,
        last_pooling: bool = False,
        block_dropout: float = 0.2,
        **training,
    ):
        super().__init__(settings, halvings=len(channels) - (not last_pooling), **training)
        self.block_dropout = block_dropout
        self.poolings = [2] * len(channels[:-1]) + [2 if last_pooling else 1]
        widths = [1, *map(settings.channels, channels)]
        kernel = 5 if convolutions == 1 else 3
        for index, (inputs, outputs) in enumerate(pairwise(widths), start=1):
            block = ConvBlock(inputs, outputs, kernel=kernel, dilations=(1,) * convolutions)
            self.add_module(f"conv_block{index}", block)
        self.add_head(widths[-1], settings.channels(embedding_size))
        initialise(self)

    def add_head(self, channels: int, embedding_size: int) -> None:
        """Add what follows the blocks."""
        self.add_classifier(channels, embedding_size)

    def body(self, x: Tensor) -> Tensor:
        for index, pooling in enumerate(self.poolings, start=1):
            x = getattr(self, f"conv_block{index}")(x, pooling)  # (batch, channels, frames / 2, bins / 2)
            x = self.dropout(x, self.block_dropout)
        return x
