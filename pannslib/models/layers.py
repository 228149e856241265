"""The building blocks that several families share. The names of their parts are those of the released weights."""

import torch.nn.functional as F
from torch import Tensor, nn

CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d}
BATCH_NORMS = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d}


def convolution(axes: int, inputs: int, outputs: int, kernel: int, dilation: int = 1, stride: int = 1) -> nn.Module:
    """A convolution along one axis or two, zero-padded so that stride 1 keeps the size, without a bias."""
    padding = dilation * (kernel // 2)
    return CONVOLUTIONS[axes](inputs, outputs, kernel, stride, padding, dilation, bias=False)


class ConvBlock(nn.Module):
    """conv1, bn1, ReLU, conv2, bn2, ReLU, ...: (batch, inputs, ...) -> (batch, outputs, ...) of the same size.

    Args:
        inputs, outputs: channels.
        axes: 2 for (frames, bins), 1 for samples.
        kernel: along each axis.
        dilations: of each convolution in turn; there are as many convolutions.
        stride: of the first convolution.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        axes: int = 2,
        kernel: int = 3,
        dilations: tuple[int, ...] = (1, 1),
        stride: int = 1,
    ):
        super().__init__()
        self.depth = len(dilations)
        # the state dict has all convolutions first, then all batch norms
        for index, dilation in enumerate(dilations):
            first = index == 0
            conv = convolution(axes, inputs if first else outputs, outputs, kernel, dilation, stride if first else 1)
            self.add_module(f"conv{index + 1}", conv)
        for index in range(self.depth):
            self.add_module(f"bn{index + 1}", BATCH_NORMS[axes](outputs))

    def forward(self, x: Tensor) -> Tensor:
        for index in range(1, self.depth + 1):
            conv, norm = getattr(self, f"conv{index}"), getattr(self, f"bn{index}")
            x = F.relu_(norm(conv(x)))
        return x


def initialise(model: nn.Module) -> None:
    """Draw weights as the authors' code does: Glorot's uniform distribution, biases 0, batch norms 1 and 0.

    The last batch norm of a residual branch starts at 0; the block that has it sees to that.
    """
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
