"""A network whose 3 x 3 convolutions are computed by `winograd_code`, and the rest of it by PyTorch.

What a convolution gives is channels last in memory, and lies where that of an earlier one lay: new memory for each
would take as long as to compute it, in a virtual machine. Convolution, bias, ReLU and pooling go to memory once.
"""

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pannslib import files
from pannslib.inference import winograd_code
from pannslib.inference.graphs import Graph
from pannslib.inference.rearranging import TwoBands, is_plain, replace
from pannslib.inference.threads import in_parallel
from pannslib.inference.winograd_code import KERNEL, LANES, PAIR, POOLED, TILES, Ending
from pannslib.models.base import PannsModel
from pannslib.models.layers import ConvBlock
from pannslib.models.residual import ResidualBlock
from pannslib.models.wavegram import Wavegram

# of this code and the other, by which it is given how weights lie in memory
VERSION = files.digest([winograd_code.VERSION, Path(__file__).read_text()])
# four places along an axis at a time multiply least often, and need four times the weights; two places 1.8 times
MOST_BY_FOUR = KERNEL**2 * 512**2
CACHE = 5 * 2**18  # bytes of tiles and of products that a thread works on at a time
LEAST = 3 * TILES  # tiles of that at least, so that weights are read seldom
SHARED = 2**24  # bytes of weights from which on the threads share each step, so that they are read once
MOST_SHARED = 256  # tiles then
RESULTS = 3  # that live at a time: what a residual block is given, and what its two convolutions give
ROWS = 2048  # of one channel that a thread works on at a time


class Code:
    """The functions of `winograd_code`, and the memory that convolutions use one after the other."""

    def __init__(self, folder: Path):
        self.functions, self.threads = winograd_code.load(folder), torch.get_num_threads()
        self.memory = threading.local()
        self.results, self.given = [torch.empty(0)] * RESULTS, 0

    def share(self, work: Callable[..., object], parts: list[tuple]) -> None:
        """Call ``work(*part)`` for all parts, by all threads."""
        in_parallel(work, parts, self.threads)

    def scratch(self, name: str, numbers: int) -> int:
        """The address of memory for so many numbers, which a thread has for itself; what is there is finite."""
        kept = getattr(self.memory, name, None)
        if kept is None or len(kept) < numbers:
            kept = torch.zeros(numbers)
            setattr(self.memory, name, kept)
        return kept.data_ptr()

    def result(self, *shape: int) -> Tensor:
        """Memory for what a convolution gives, until `RESULTS` more have been given."""
        place, size = self.given % RESULTS, math.prod(shape)
        self.given += 1
        if len(self.results[place]) < size:
            self.results[place] = torch.empty(size)
        return self.results[place][:size].view(shape)


class Compiled(nn.Module):
    """What `winograd_code` computes: `load` gives it the code."""

    code: Code


class First(Compiled):
    """A convolution of one channel, bias and ReLU, of 3 x 3 or of 11 samples with any stride.

    (batch, 1, height, width) -> (batch, outputs, height, width), or (batch, 1, samples) -> (batch, outputs, steps, 1).
    """

    def __init__(self, conv: nn.Conv2d | nn.Conv1d):
        super().__init__()
        self.kernel = (1, *conv.kernel_size)[-2:]
        self.stride, self.padding = conv.stride[0], conv.padding[0]
        weight = conv.weight.reshape(len(conv.weight) // LANES, LANES, -1).transpose(1, 2)
        self.register_buffer("weight", weight.contiguous())  # (block, place, lane)
        self.register_buffer("bias", conv.bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        clips, channels = len(x), len(self.bias)
        padded = F.pad(x[:, 0], (self.padding,) * (2 * (x.ndim - 2)))
        if x.ndim == 4:
            height, width, row_length = *x.shape[2:], padded.shape[2]
        else:  # a row for each step, of which a kernel sees more than the row
            height, width, row_length = (padded.shape[1] - self.kernel[1]) // self.stride + 1, 1, self.stride
        result = self.code.result(clips, height, width, channels)
        some = max(1, ROWS // width)
        first = self.code.functions["first{}x{}".format(*self.kernel)]

        def rows(clip: int, start: int) -> None:
            arrays = padded[clip], result[clip], self.weight, self.bias
            count = min(some, height - start)
            first(*map(Tensor.data_ptr, arrays), start, count, width, row_length, channels)

        self.code.share(rows, [(clip, start) for clip in range(clips) for start in range(0, height, some)])
        return result.permute(0, 3, 1, 2)


class Maxima(Compiled):
    """The greatest of every `POOLED` rows: (batch, channels, height, 1) -> (batch, channels, height / 4, 1)."""

    def forward(self, x: Tensor) -> Tensor:
        clips, channels, height, _ = x.shape
        x = x.permute(0, 2, 3, 1).contiguous()
        result = self.code.result(clips, height // POOLED, 1, channels)

        def rows(clip: int, start: int) -> None:
            arrays, count = (x[clip], result[clip]), min(ROWS, height // POOLED - start)
            self.code.functions["maxima"](*map(Tensor.data_ptr, arrays), start, count, channels)

        self.code.share(rows, [(clip, start) for clip in range(clips) for start in range(0, height // POOLED, ROWS)])
        return result.permute(0, 3, 1, 2)


class Products(Compiled):
    """A convolution by products of its weights and tiles.

    Args:
        conv: its bias is kept.
        weight: (..., inputs, `PAIR`)
        bf16: whether to multiply in bf16.

    Attributes:
        words: of 32 bits that a tile's inputs take: two to one in bf16.
    """

    def __init__(self, conv: nn.Conv2d, weight: Tensor, bf16: bool):
        super().__init__()
        self.outputs, self.inputs = conv.weight.shape[:2]
        self.suffix, self.words = ("_bf16", weight.shape[-2] // 2) if bf16 else ("", weight.shape[-2])
        if bf16:  # two inputs side by side
            weight = weight.unflatten(-2, (-1, 2)).transpose(-1, -2).bfloat16()
        self.register_buffer("weight", weight.contiguous())
        self.register_buffer("bias", conv.bias.detach().clone())

    @property
    def products(self) -> Callable[..., None]:
        """The function for them."""
        return self.code.functions["products" + self.suffix]


class Convolution(Products):
    """A convolution, bias, ReLU: (batch, inputs, height, width) -> (batch, outputs, height, width).

    Args:
        conv: of 3 x 3 with as many inputs as are a multiple of `LANES`, or fewer, or of 3 samples; without stride, and
            with outputs of `PAIR`. Along samples, the picture's width is 1.
        bf16: whether to multiply in bf16 where that rounds no more than the convolution itself in bf16: by two places.
    """

    def __init__(self, conv: nn.Conv2d | nn.Conv1d, bf16: bool = False):
        weight = F.pad(conv.weight, (0, 0) * (conv.weight.ndim - 2) + (0, -conv.in_channels % LANES))
        weight = weight if weight.ndim == 4 else weight[..., None]
        places = (4, 1) if weight.shape[3] == 1 else (4, 4) if weight.numel() <= MOST_BY_FOUR else (2, 2)
        left, right = map(torch.from_numpy, winograd_code.weight_matrices(places))
        weight = (left @ weight.double() @ right.T).permute(2, 3, 0, 1)  # (row, column, output, input)
        inputs = weight.shape[3]
        weight = weight.flatten(0, 1).unflatten(1, (-1, PAIR)).transpose(2, 3).float()
        super().__init__(conv, weight, bf16 and places == (2, 2) and inputs % (2 * LANES) == 0)
        self.places, self.points, self.dilation = places, len(weight), conv.dilation[0]
        self.missing = inputs - conv.in_channels

    def forward(self, x: Tensor, pooling: tuple[int, int] = (1, 1), residual: Tensor | None = None) -> Tensor:
        """Give averages of ``pooling``, rows and columns (one of 1 x 1, 2 x 2, 2 x 1), or add ``residual`` before."""
        x = x.permute(0, 2, 3, 1)
        x = F.pad(x, (0, self.missing)) if self.missing else x.contiguous()
        clips, height, width, _ = x.shape
        result = self.code.result(clips, height // pooling[0], width // pooling[1], self.outputs)
        # along samples, those that a dilation leaves between two are neighbours in a row of tiles
        along = winograd_code.is_along(self.places)
        columns = self.dilation if along else -(-width // self.places[1])
        rows = -(-height // self.dilation) if along else height // pooling[0] * pooling[0]
        tiles = columns * -(-rows // self.places[0])
        if residual is not None:
            residual = residual.permute(0, 2, 3, 1).contiguous()
        shared = self.weight.nbytes >= SHARED
        chunk = MOST_SHARED if shared else max(LEAST, CACHE // (4 * self.points * (self.words + self.outputs)))
        chunk = max(TILES, min(chunk, tiles + TILES - 1) // TILES * TILES)
        steps = Steps(self, x, result, residual, Ending(self.places, pooling, residual is not None), columns, chunk)
        chunks = [(clip, first, min(chunk, tiles - first)) for clip in range(clips) for first in range(0, tiles, chunk)]
        if not shared:
            self.code.share(steps.alone, chunks)
        else:
            for each in chunks:
                steps.together(*each)
        return result.permute(0, 3, 1, 2)


class Steps:
    """The three steps of a convolution for a chunk of tiles of a clip."""

    def __init__(self, conv: Convolution, x: Tensor, result: Tensor, residual: Tensor | None, ending, columns, chunk):
        self.conv, self.x, self.result, self.residual = conv, x, result, residual
        self.columns = columns
        functions = conv.code.functions
        self.inputs = functions[winograd_code.inputs_name(conv.places, conv.suffix != "")]
        self.outputs = functions[ending.function]
        # a line of the cache more, so that points don't lie a power of two apart, where they'd throw each other out
        self.tiles_stride, self.stride = chunk * conv.words + LANES, chunk * conv.outputs + LANES

    def alone(self, clip: int, first: int, count: int) -> None:
        """All three, by the thread that calls."""
        tiles, products = self._scratch()
        self._inputs(tiles, clip, first, 0, count)
        self._products(tiles, products, 0, self.conv.points, -(-count // TILES))
        self._outputs(products, clip, first, 0, count)

    def together(self, clip: int, first: int, count: int) -> None:
        """Each step by all threads."""
        conv, (tiles, products) = self.conv, self._scratch()
        parts = [(at, min(TILES, count - at)) for at in range(0, count, TILES)]
        conv.code.share(lambda at, some: self._inputs(tiles, clip, first, at, some), list(parts))
        groups = len(parts)
        conv.code.share(
            lambda point: self._products(tiles, products, point, 1, groups),
            [(point,) for point in range(conv.points)],
        )
        conv.code.share(lambda at, some: self._outputs(products, clip, first, at, some), parts)

    def _scratch(self) -> tuple[int, int]:
        conv = self.conv
        return (
            conv.code.scratch("tiles", conv.points * self.tiles_stride),
            conv.code.scratch("products", conv.points * self.stride),
        )

    def _inputs(self, tiles: int, clip: int, first: int, at: int, count: int) -> None:
        _, height, width, channels = self.x.shape
        zeros = self.conv.code.scratch("zeros", channels)
        arrays = self.x[clip].data_ptr(), tiles + 4 * at * self.conv.words, zeros
        self.inputs(*arrays, first + at, count, self.columns, height, width, channels, self.tiles_stride)

    def _products(self, tiles: int, products: int, point: int, points: int, groups: int) -> None:
        conv = self.conv
        weights_stride = conv.words * conv.outputs
        conv.products(
            conv.weight.data_ptr() + 4 * point * weights_stride,
            tiles + 4 * point * self.tiles_stride,
            products + 4 * point * self.stride,
            *(points, conv.outputs // PAIR, groups, conv.words // LANES, conv.outputs),
            *(weights_stride, self.tiles_stride, self.stride),
        )

    def _outputs(self, products: int, clip: int, first: int, at: int, count: int) -> None:
        _, height, width, channels = self.result.shape
        nowhere = self.conv.code.scratch("nowhere", channels)
        residual = () if self.residual is None else (self.residual[clip].data_ptr(),)
        arrays = products + 4 * at * channels, self.result[clip].data_ptr(), self.conv.bias.data_ptr(), nowhere
        self.outputs(*arrays, *residual, first + at, count, self.columns, height, width, channels, self.stride)


class Along(Products):
    """A convolution of three rows, and bias, on pictures of one column: (batch, inputs, height, 1) -> (..., outputs).

    One product of matrices: each place's inputs of three rows lie side by side in memory.
    """

    def __init__(self, conv: nn.Conv2d, bf16: bool = False):
        weight = conv.weight.reshape(-1, PAIR, conv.in_channels, KERNEL).permute(0, 3, 2, 1)
        weight = weight.flatten(1, 2)  # (pair, row and input, lane)
        super().__init__(conv, weight, bf16 and conv.in_channels % (2 * LANES) == 0)

    def forward(self, x: Tensor) -> Tensor:
        clips, channels, height, _ = x.shape
        rows = F.pad(x[..., 0].transpose(1, 2), (0, 0, 1, 1))  # (batch, height + 2, inputs)
        size = KERNEL * channels
        places = clips * height
        groups = -(-places // TILES)
        # a row, the next and the one after that, as they lie in memory
        three = rows.contiguous().as_strided((clips, height, size), (rows.shape[1] * channels, channels, 1))
        wide = F.pad(three.reshape(places, size), (0, 0, 0, groups * TILES - places))
        wide = wide.to(self.weight.dtype).reshape(groups, TILES, self.words // LANES, -1)
        tiles = wide.transpose(1, 2).contiguous()
        result = self.code.result(groups * TILES, self.outputs)

        def products(pair: int) -> None:
            self.products(
                self.weight[pair].data_ptr(),
                tiles.data_ptr(),
                result.data_ptr() + 4 * pair * PAIR,
                *(1, 1, groups, self.words // LANES, self.outputs, 0, 0, 0),
            )

        self.code.share(products, [(pair,) for pair in range(len(self.weight))])
        result = result[:places].reshape(clips, height, self.outputs) + self.bias
        return result.transpose(1, 2)[..., None]


class Block(nn.Module):
    """A `ConvBlock` whose convolutions are compiled."""

    def __init__(self, block: ConvBlock, bf16: bool):
        super().__init__()
        self.layers = nn.ModuleList(compiled(getattr(block, f"conv{index + 1}"), bf16) for index in range(block.depth))

    def forward(self, x: Tensor, pooling: int = 1) -> Tensor:
        *before, last = self.layers
        for layer in before:
            x = layer(x)
        return last(x, (pooling, pooling))


class Learned(nn.Module):
    """The Wavegram of a folded model: waveform (batch, samples) -> what `Wavegram.wavegram` gives.

    Args:
        model: whose layers are taken.
    """

    def __init__(self, model: Wavegram):
        super().__init__()
        self.first, self.bins = First(model.pre_conv0), model.bins
        blocks = (model.pre_block1, model.pre_block2, model.pre_block3)
        self.blocks = nn.ModuleList(
            nn.Sequential(Convolution(block.conv1), Convolution(block.conv2), Maxima()) for block in blocks
        )
        self.last = nn.ModuleList([Convolution(model.pre_block4.conv1), Convolution(model.pre_block4.conv2)])

    def forward(self, waveform: Tensor) -> Tensor:
        x = self.first(waveform[:, None])
        for block in self.blocks:
            x = block(x)
        x = x[..., 0].unflatten(1, (-1, self.bins)).transpose(2, 3)  # (batch, maps, steps, bins)
        return self.last[1](self.last[0](x), (2, 1))


class Residual(nn.Module):
    """A `ResidualBlock` of two convolutions that are compiled."""

    def __init__(self, block: ResidualBlock, bf16: bool):
        super().__init__()
        self.pool, self.pooling, self.downsample = block.pool, block.pooling, block.downsample
        self.first, self.second = compiled(block.conv1, bf16), compiled(block.conv2, bf16)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        if self.pool is not None:
            x = self.pool(x, self.pooling)
        return self.second(self.first(x), residual=shortcut)


def compiled(conv: nn.Conv2d, bf16: bool) -> Compiled:
    """A folded convolution and the ReLU that follows, as `winograd_code` has it."""
    return First(conv) if conv.in_channels == 1 else Convolution(conv, bf16)


def can_take(conv: nn.Module) -> bool:
    """Whether `compiled` has such a convolution."""
    return is_plain(conv, KERNEL) and (conv.in_channels == 1 or has_lanes(conv)) and conv.out_channels % PAIR == 0


def has_lanes(conv: nn.Conv2d) -> bool:
    """Whether a convolution takes channels by `LANES` and gives them by `PAIR`."""
    return conv.in_channels % LANES == 0 and conv.out_channels % PAIR == 0


def compile_blocks(model: nn.Module, bf16: bool) -> None:
    """Put compiled blocks where the convolutions of a folded model are such."""
    for name, block in list(model.named_modules()):
        if isinstance(block, ConvBlock):
            convolutions = [getattr(block, f"conv{index + 1}") for index in range(block.depth)]
            if block.depth > 1 and all(map(can_take, convolutions)):
                replace(model, name, partial(Block, bf16=bf16))
        elif isinstance(block, ResidualBlock) and block.depth == 2 and can_take(block.conv1) and can_take(block.conv2):
            replace(model, name, partial(Residual, bf16=bf16))
        elif isinstance(block, TwoBands):
            for index, convolutions in enumerate(block.layers):
                if all(map(has_lanes, convolutions)):
                    block.layers[index] = nn.ModuleList(Along(conv, bf16) for conv in convolutions)


def graph_of(model: PannsModel, precision: str = "fp32") -> Graph:
    """What computes a model, see `graphs.Graph`; in "bf16", convolutions with so many weights that reading them counts.

    The others are as fast in float32, by tiles that multiply less often.
    """
    graph = Graph(model, whole=False, rearranged=("two_bands",)).eval()
    compile_blocks(graph, precision == "bf16")
    if isinstance(graph.model, Wavegram) and all(
        conv.out_channels % PAIR == 0
        for name, conv in graph.model.named_modules()
        if name.startswith("pre_") and isinstance(conv, nn.Conv1d | nn.Conv2d)
    ):
        graph.learned = Learned(graph.model)
        graph.model.wavegram = graph.learned.forward
        for name in [name for name, _ in graph.model.named_children() if name.startswith("pre_")]:
            delattr(graph.model, name)
    return graph.requires_grad_(False)


def write(model: PannsModel, path: Path, precision: str) -> None:
    """Keep what computes a model, with its weights transformed.

    Raises:
        ValueError: nothing of it would be computed by `winograd_code`.
    """
    with torch.no_grad():
        graph = graph_of(model, precision)
    if not any(isinstance(module, Compiled) for module in graph.modules()):
        raise ValueError("it has no convolution of 3 x 3 with channels by 32")
    with files.replacing(path) as temporary:
        torch.save({"code": VERSION, "graph": graph}, temporary)


@contextmanager
def alone() -> Iterator[None]:
    """Let PyTorch work without threads of its own, which would wait by spinning when others need the cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def load(path: Path) -> Callable[[dict[str, np.ndarray]], list[np.ndarray]]:
    """What computes a model, as `write` has kept it; its weights are read when they are needed.

    Such a file is a pickle: to be loaded from the user's own cache alone.

    Raises:
        ValueError: other code has written it, whose weights may lie in another order.
    """
    kept = torch.load(path, mmap=True, weights_only=False)
    if kept["code"] != VERSION:
        raise ValueError(f"{path.name} is of another version of pannslib; it is written anew the next time")
    graph = kept["graph"]
    code, lock = Code(path.parent.parent), threading.Lock()
    for module in graph.modules():
        if isinstance(module, Compiled):
            module.code = code

    @torch.inference_mode()
    def run(given: dict[str, np.ndarray]) -> list[np.ndarray]:
        with lock, alone():
            code.given = 0  # so that the same memory serves the same convolution
            return [tensor.numpy() for tensor in graph(*(torch.from_numpy(given[name]) for name in graph.inputs))]

    return run
