"""The building blocks that several families share. The names of their parts are those of the released weights."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Conv1d(nn.Conv1d):
    """A convolution along samples, which in training keeps the channels of a sample side by side.

    PyTorch has that memory layout for two axes, so that a second axis of length 1 is there for the time being. On CPUs
    forward and backward pass together take half to two thirds of the time; the numbers are the same but for rounding.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        x = x.unsqueeze(2).contiguous(memory_format=torch.channels_last)
        weight, zero, one = self.weight.unsqueeze(2), (0,), (1,)
        settings = (one + self.stride, zero + self.padding, one + self.dilation, self.groups)
        return F.conv2d(x, weight, self.bias, *settings).squeeze(2)


class BatchNorm1d(nn.BatchNorm1d):
    """A batch norm in the memory layout that `Conv1d` gives."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.unsqueeze(2)).squeeze(2) if self.training else super().forward(x)

    def _check_input_dim(self, x: Tensor) -> None:
        if x.dim() != 4:
            super()._check_input_dim(x)


CONVOLUTIONS = {1: Conv1d, 2: nn.Conv2d}
BATCH_NORMS = {1: BatchNorm1d, 2: nn.BatchNorm2d}
# what `BatchNorm1d` gives is a view, and gradients of views that were changed in place take copies
RELUS = {1: F.relu, 2: F.relu_}


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
        self.relu = RELUS[axes]
        # the state dict has all convolutions first, then all batch norms
        for index, dilation in enumerate(dilations):
            first = index == 0
            conv = convolution(axes, inputs if first else outputs, outputs, kernel, dilation, stride if first else 1)
            self.add_module(f"conv{index + 1}", conv)
        for index in range(self.depth):
            self.add_module(f"bn{index + 1}", BATCH_NORMS[axes](outputs))

    def forward(self, x: Tensor, pooling: int = 1) -> Tensor:
        """Compute the block; of two axes, averages of ``pooling`` x ``pooling`` of it."""
        for index in range(1, self.depth + 1):
            conv, norm = getattr(self, f"conv{index}"), getattr(self, f"bn{index}")
            x = self.relu(norm(conv(x)))
        return x if pooling == 1 else F.avg_pool2d(x, pooling)


def initialise(model: nn.Module) -> None:
    """Draw weights as the authors' code does: Glorot's uniform distribution, biases 0, batch norms 1 and 0.

    The last batch norm of a residual branch starts at 0; the block that has it sees to that.
    """
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
