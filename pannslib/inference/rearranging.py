"""Convolutions as engines compute them faster, with the same results.

"two_bands": where two bands are left of the mel bins, a third of what a 3 x 3 convolution multiplies is padding, which
can be left out, and a quarter of the rest can be shared. "winograd": a 5 x 5 convolution is, for 4 x 4 places, a
product of 8 x 8 numbers for each pair of channels, where its definition has 400 (Lavin and Gray 2016, Fast algorithms
for convolutional neural networks). "turned": OpenVINO computes neighbours along the last axis together, of which there
are few where that is the mel bins; narrow convolutions get time as their last axis. Of 10 s at batch 1 on two cores
the second saves half of CNN6's time in float32, the others a quarter of CNN14's in bf16.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pannslib.models.base import PannsModel
from pannslib.models.layers import ConvBlock
from pannslib.models.residual import ResidualBlock

TILE = 4  # places along an axis that are computed together
POINTS = (0, 1, -1, 2, -2, 1 / 2, -1 / 2)  # where Winograd's polynomials are taken, besides infinity; the first of them
LEAST_INPUTS, MOST_WEIGHTS = {3: 128, 5: 64}, 2**23  # of a convolution for which Winograd's method pays
MOST_BANDS = 8  # of a convolution that is turned


def with_weight(conv: nn.Module, weight: Tensor, bias: Tensor, **sizes) -> nn.Module:
    """A convolution with this weight and bias, and these of stride, padding and dilation, otherwise as ``conv``."""
    sizes = {"stride": conv.stride, "padding": conv.padding, "dilation": conv.dilation} | sizes
    outputs, inputs, *kernel = weight.shape
    new = type(conv)(inputs * conv.groups, outputs, tuple(kernel), groups=conv.groups, **sizes)
    new.weight.copy_(weight)
    new.bias.copy_(bias)
    return new


class TwoBands(nn.Module):
    """A block of 3 x 3 convolutions on two bands, as convolutions along time.

    (batch, inputs, frames, 2) -> (batch, outputs, frames, 2). A kernel's middle column sees a band itself, one of the
    others the other band; where the third would be, there is padding alone. ``same(low) + above(high)`` comes out low
    and ``same(high) + below(low)`` high. Those are ``same(low + high)`` plus ``(above - same)(high)`` and
    ``(below - same)(low)``: three products of one band, where there were four.
    """

    def __init__(self, block: ConvBlock):
        super().__init__()
        self.layers = nn.ModuleList(map(self._columns, convolutions(block)))

    @staticmethod
    def _columns(conv: nn.Conv2d) -> nn.ModuleList:
        below, same, above = conv.weight.unbind(dim=3)  # (outputs, inputs, 3)
        biases = conv.bias, torch.zeros_like(conv.bias), torch.zeros_like(conv.bias)
        pairs = zip((same, below - same, above - same), biases, strict=True)
        return nn.ModuleList(with_weight(conv, weight[..., None], bias, padding=(1, 0)) for weight, bias in pairs)

    def forward(self, x: Tensor, pooling: int = 1) -> Tensor:
        for both, below, above in self.layers:
            low, high = x[..., :1], x[..., 1:]
            shared = both(low + high)
            x = F.relu_(torch.cat([shared + above(high), shared + below(low)], dim=3))
        return x if pooling == 1 else F.avg_pool2d(x, pooling)


def _use_two_bands(model: PannsModel) -> None:
    """Put `TwoBands` where a folded block of 3 x 3 convolutions sees two bands."""

    def is_wanted(block: nn.Module) -> bool:
        return isinstance(block, ConvBlock) and all(is_plain(conv, 3) for conv in convolutions(block))

    for name, bands in bands_seen(model, is_wanted, partial(_hear, model)).items():
        if bands == 2:
            replace(model, name, TwoBands)


class Turned(nn.Module):
    """A convolution (batch, inputs, frames, bands) -> (batch, outputs, frames, bands) with its axes exchanged."""

    def __init__(self, conv: nn.Conv2d):
        super().__init__()
        sizes = {name: getattr(conv, name)[::-1] for name in ("stride", "padding", "dilation")}
        self.conv = with_weight(conv, conv.weight.transpose(2, 3), conv.bias, **sizes)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x.transpose(2, 3)).transpose(2, 3)


def _turn(model: PannsModel) -> None:
    """Put `Turned` where a folded convolution sees few bands; those of 1 x 1 and of single channels have no need."""

    def is_wanted(conv: nn.Module) -> bool:
        if not isinstance(conv, nn.Conv2d) or conv.bias is None:
            return False
        return conv.groups == 1 and conv.kernel_size != (1, 1) and conv.padding_mode == "zeros"

    for name, bands in bands_seen(model, is_wanted, partial(_hear, model)).items():
        if bands <= MOST_BANDS:
            replace(model, name, Turned)


def bands_seen(model: nn.Module, is_wanted: Callable[[nn.Module], bool], hear: Callable[[], object]) -> dict[str, int]:
    """How many bands modules see, by name, when ``hear`` has the model compute something."""
    seen: dict[str, int] = {}
    hooks = [
        module.register_forward_pre_hook(lambda _, args, name=name: seen.update({name: args[0].shape[3]}))
        for name, module in model.named_modules()
        if is_wanted(module)
    ]
    if hooks:
        hear()
    for hook in hooks:
        hook.remove()
    return seen


def _hear(model: PannsModel) -> None:
    """Compute a short clip."""
    model(torch.zeros(1, max(model.least_samples, model.sample_rate)))


def replace(model: nn.Module, name: str, by: Callable[[nn.Module], nn.Module]) -> None:
    """Put what ``by`` makes of the module of this name in its place."""
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, by(model.get_submodule(name)))


def convolutions(block: ConvBlock | ResidualBlock) -> list[nn.Module]:
    """Those of a block, in their order."""
    return [getattr(block, f"conv{index + 1}") for index in range(block.depth)]


def is_plain(conv: nn.Module, kernel: int) -> bool:
    """Whether a folded convolution has square kernels of this size, without stride, dilation or groups."""
    return (
        isinstance(conv, nn.Conv2d)
        and (conv.kernel_size, conv.stride, conv.dilation, conv.groups) == ((kernel,) * 2, (1, 1), (1, 1), 1)
        and conv.padding == (kernel // 2,) * 2
        and conv.bias is not None
    )


def winograd_matrices(kernel: int, places: int = TILE) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The matrices of Winograd's method for one axis, float64, by interpolation at `POINTS` (Toom and Cook).

    With ``weights`` (kernel,) and ``samples`` (size,), where size is places + kernel - 1,
    ``outputs @ ((kernels @ weights) * (inputs @ samples))`` is what the kernel gives at so many places.

    Returns:
        kernels (size, kernel), inputs (size, size) and outputs (places, size).
    """
    points = np.array(POINTS[: places + kernel - 2])
    others = [np.delete(points, index) for index in range(len(points))]
    scale = np.array([np.prod(point - rest) for point, rest in zip(points, others, strict=True)])
    kernels = np.vstack([np.vander(points, kernel, increasing=True) / scale[:, None], np.eye(1, kernel, kernel - 1)])
    inputs = np.vstack([*(np.append(np.poly(rest)[::-1], 0) for rest in others), np.poly(points)[::-1]])
    outputs = np.vstack([np.vander(points, places, increasing=True), np.eye(1, places, places - 1)]).T
    return kernels, inputs, outputs


class Winograd(nn.Module):
    """A convolution of stride 1 by Winograd's method: (batch, inputs, frames, bands) -> (batch, outputs, ...)."""

    halves = slice(TILE), slice(TILE, None)  # of a tile along an axis: its own places, and those of the next one

    def __init__(self, conv: nn.Conv2d):
        super().__init__()
        self.kernel, self.channels = conv.kernel_size[0], conv.out_channels
        kernels, inputs, outputs = winograd_matrices(self.kernel)
        size = len(inputs)
        weight = torch.from_numpy(kernels) @ conv.weight.double() @ torch.from_numpy(kernels.T)
        self.register_buffer("weight", weight.permute(2, 3, 1, 0).flatten(0, 1).float().contiguous())
        self.register_buffer("bias", conv.bias.clone())
        # `forward` puts a tile together from four parts
        places = np.arange(size * size).reshape(size, size)
        order = np.concatenate([places[rows, columns].ravel() for rows in self.halves for columns in self.halves])
        self.register_buffer("inputs", torch.from_numpy(np.kron(inputs, inputs)[:, order]).float())
        self.register_buffer("outputs", torch.from_numpy(np.kron(outputs, outputs)).float())

    def forward(self, x: Tensor) -> Tensor:
        _, channels, height, width = x.shape
        rows, columns = (height + TILE - 1) // TILE, (width + TILE - 1) // TILE
        edge = self.kernel // 2
        x = F.pad(x, (edge, TILE * (columns + 1) - width - edge, edge, TILE * (rows + 1) - height - edge))
        # channels last, as the engine has them: whatever is moved keeps them together
        x = x.permute(0, 2, 3, 1).reshape(-1, rows + 1, TILE, columns + 1, TILE, channels)
        x = x.permute(2, 4, 0, 1, 3, 5)  # (row and column in a tile, batch, rows + 1, columns + 1, channels)
        ways = (slice(None), slice(-1)), (slice(self.kernel - 1), slice(1, None))  # places in a tile, which tiles
        parts = [x[row, column, :, tall, wide].flatten(0, 1) for row, tall in ways for column, wide in ways]
        tiles = (self.inputs @ torch.cat(parts).flatten(1)).reshape(len(self.inputs), -1, channels)
        x = self.outputs @ (tiles @ self.weight).flatten(1)
        x = x.reshape(TILE, TILE, -1, rows, columns, self.channels).permute(2, 3, 0, 4, 1, 5)
        x = x.reshape(-1, TILE * rows, TILE * columns, self.channels)[:, :height] + self.bias
        return (x if width % TILE == 0 else x[:, :, :width]).permute(0, 3, 1, 2)


def _use_winograd(model: PannsModel) -> None:
    """Put `Winograd` where a folded convolution has many channels, and kernels of 3 x 3 or 5 x 5."""
    for name, conv in list(model.named_modules()):
        if not (is_plain(conv, 3) or is_plain(conv, 5)):
            continue
        if conv.in_channels >= LEAST_INPUTS[conv.kernel_size[0]] and conv.weight.numel() < MOST_WEIGHTS:
            replace(model, name, Winograd)


WAYS = {"two_bands": _use_two_bands, "winograd": _use_winograd, "turned": _turn}
