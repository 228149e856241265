"""A network whose convolutions are computed by `winograd_code`, and the rest of it by PyTorch.

Those of `ConvBlock` and `ResidualBlock` on pictures are, and of a Wavegram those along samples. In bf16, those are that
have so many weights that reading them takes the time; they sum in float32.

What a convolution gives is channels last in memory, and lies where that of an earlier one lay: new memory for each
would take as long as to compute it, in a virtual machine. Convolution, bias, ReLU and pooling go to memory once.
"""

import ctypes
import itertools
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
from pannslib.inference import graphs, winograd_code
from pannslib.inference.graphs import Graph
from pannslib.inference.rearranging import TwoBands, bands_seen, convolutions, is_plain, replace
from pannslib.inference.threads import in_parallel
from pannslib.inference.winograd_code import KERNEL, LANES, PAIR, POOLED, TILES, Ending
from pannslib.models.base import PannsModel
from pannslib.models.layers import ConvBlock
from pannslib.models.residual import ResidualBlock
from pannslib.models.wavegram import Wavegram

# of this code and `winograd_code`, which together decide how weights lie in memory
VERSION = files.digest([winograd_code.VERSION, Path(__file__).read_text()])
# four places along an axis at a time multiply least often, and need four times the weights; two places 1.8 times, and
# are for the largest and for pictures so narrow that reading the weights counts
MOST_BY_FOUR, NARROW = KERNEL**2 * 512**2, 4
CACHE = 5 * 2**18  # bytes of tiles and of products that a thread works on at a time
LEAST = 3 * TILES  # tiles of that at least, so that weights are read seldom
SHARED = 2**24  # bytes of weights from which on the threads share each step, so that they are read once
MOST_SHARED = 256  # tiles then
RESULTS = 4  # that live at a time: the shortcut of a residual block and what its three convolutions give
ROWS = 2048  # of one channel that a thread works on at a time


Array = Tensor | int | tuple[str, int]
_ALONE = threading.Lock()


class Code:
    """The functions of `winograd_code`, and the memory that convolutions use one after the other."""

    def __init__(self, folder: Path):
        self.functions, self.threads = winograd_code.load(folder), torch.get_num_threads()
        self.memory = threading.local()
        self.results, self.given = [torch.empty(0)] * RESULTS, 0

    def share(self, name: str, parts: int, some: int, arrays: list[Array], numbers: list[int]) -> None:
        """Call a function for all parts, of which each thread takes ``some`` at a time.

        Arrays are tensors, addresses or what `scratch` takes, which each thread has for itself.
        """
        function, counter = self.functions[name], ctypes.c_int64(0)

        def work() -> None:
            function(ctypes.addressof(counter), parts, some, *map(self.address, arrays), *numbers)

        in_parallel(work, [()] * min(self.threads, -(-parts // some)), self.threads)

    def address(self, array: Array) -> int:
        """Where an array's first number is."""
        if isinstance(array, tuple):
            return self.scratch(*array)
        return array if isinstance(array, int) else array.data_ptr()

    def scratch(self, name: str, numbers: int) -> int:
        """The address of memory for so many numbers, which a thread has for itself: zeros, until something is there."""
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
        name = "first{}x{}".format(*self.kernel)
        for clip in range(clips):
            arrays = [padded[clip], result[clip], self.weight, self.bias]
            self.code.share(name, height, max(1, ROWS // width), arrays, [width, row_length, channels])
        return result.permute(0, 3, 1, 2)


class Maxima(Compiled):
    """The greatest of every `POOLED` rows: (batch, channels, height, 1) -> (batch, channels, height / 4, 1)."""

    def forward(self, x: Tensor) -> Tensor:
        clips, channels, height, _ = x.shape
        x = x.permute(0, 2, 3, 1).contiguous()
        result = self.code.result(clips, height // POOLED, 1, channels)

        for clip in range(clips):
            self.code.share("maxima", height // POOLED, ROWS, [x[clip], result[clip]], [channels])
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
        self.bf16, self.words = bf16, weight.shape[-2] // (2 if bf16 else 1)
        self.products = "products" + "_bf16" * bf16  # the function for them
        if bf16:  # two inputs side by side
            weight = weight.unflatten(-2, (-1, 2)).transpose(-1, -2).bfloat16()
        self.register_buffer("weight", weight.contiguous())
        self.register_buffer("bias", conv.bias.detach().clone())


class Convolution(Products):
    """A convolution, bias and ReLU: (batch, inputs, height, width) -> (batch, outputs, height, width).

    Args:
        conv: of 3 x 3, of 1 x 1 or of 3 samples, with outputs by `PAIR` and without stride. Along samples, the
            picture's width is 1.
        bf16: whether to multiply in bf16 where that rounds no more than the convolution itself in bf16: by two places.
        linear: whether to leave the ReLU out, which only convolutions of 1 x 1 can.
        bands: the width of pictures as it will be, where that is known.
    """

    def __init__(self, conv: nn.Conv2d | nn.Conv1d, bf16: bool = False, linear: bool = False, bands: int | None = None):
        weight = F.pad(conv.weight, (0, 0) * (conv.weight.ndim - 2) + (0, -conv.in_channels % LANES))
        weight = weight if weight.ndim == 4 else weight[..., None]
        is_narrow = bands is not None and bands <= NARROW
        by_four = (2, 2) if is_narrow or weight.numel() > MOST_BY_FOUR else (4, 4)
        places = {(1, 1): (1, 1), (KERNEL, 1): (4, 1), (KERNEL, KERNEL): by_four}[tuple(weight.shape[2:])]
        left, right = map(torch.from_numpy, winograd_code.weight_matrices(places))
        weight = (left @ weight.double() @ right.T).permute(2, 3, 0, 1)  # (row, column, output, input)
        inputs = weight.shape[3]
        weight = weight.flatten(0, 1).unflatten(1, (-1, PAIR)).transpose(2, 3).float()
        super().__init__(conv, weight, bf16 and places in winograd_code.PLACES_BF16 and inputs % (2 * LANES) == 0)
        self.places, self.points, self.dilation = places, len(weight), conv.dilation[0]
        self.missing, self.linear = inputs - conv.in_channels, linear

    def forward(self, x: Tensor, pooling: tuple[int, int] = (1, 1), residual: Tensor | None = None) -> Tensor:
        """Give averages of ``pooling``, rows and columns (one of 1 x 1, 2 x 2, 2 x 1), or add ``residual`` before."""
        x = x.permute(0, 2, 3, 1)
        x = F.pad(x, (0, self.missing)) if self.missing else x.contiguous()
        clips, height, width, _ = x.shape
        shape = clips, height // pooling[0], width // pooling[1], self.outputs
        result = self.code.result(*shape)
        if residual is not None:
            residual = residual.permute(0, 2, 3, 1).contiguous()
        if self.points == 1:  # which pixels are neighbours doesn't matter
            x, result, residual = (
                each if each is None else each.flatten(1, 2)[:, :, None] for each in (x, result, residual)
            )
            height, width = height * width, 1
        # along samples, those that a dilation leaves between two are neighbours in a row of tiles
        along = winograd_code.is_along(self.places)
        columns = self.dilation if along else -(-width // self.places[1])
        rows = -(-height // self.dilation) if along else height // pooling[0] * pooling[0]
        tiles = columns * -(-rows // self.places[0])
        shared = self.weight.nbytes >= SHARED
        chunk = MOST_SHARED if shared else max(LEAST, CACHE // (4 * self.points * (self.words + self.outputs)))
        chunk = max(TILES, min(chunk, tiles + TILES - 1) // TILES * TILES)
        ending = Ending(self.places, pooling, residual is not None, self.linear)
        call = partial(self._together if shared else self._alone, ending, columns, tiles, chunk)
        call(x, result, *([] if residual is None else [residual]))
        return result.view(shape).permute(0, 3, 1, 2)

    def _strides(self, chunk: int) -> tuple[int, int]:
        """From point to point of tiles and of products.

        A line of the cache more, so that they don't lie a power of two apart, where they'd throw each other out.
        """
        return chunk * self.words + LANES, chunk * self.outputs + LANES

    def _alone(self, ending: Ending, columns: int, tiles: int, chunk: int, x: Tensor, result: Tensor, *more: Tensor):
        """All steps for a chunk of tiles by one thread."""
        tiles_stride, stride = self._strides(chunk)
        clips, *size = x.shape
        chunks = -(-tiles // chunk)
        zeros, nowhere = ("zeros", size[2]), ("nowhere", self.outputs)
        between = ("tiles", self.points * tiles_stride), self.weight, ("products", self.points * stride)
        self.code.share(
            ending.convolution(self.bf16),
            *(clips * chunks, 1),
            [x, zeros, *between, result, self.bias, nowhere, *more],
            [*(chunk, chunks, tiles, columns), *size, self.words, self.points, tiles_stride, *result.shape[1:], stride],
        )

    def _together(self, ending: Ending, columns: int, tiles: int, chunk: int, x: Tensor, result: Tensor, *more: Tensor):
        """Each step for a chunk of tiles by all threads."""
        share, (tiles_stride, stride) = self.code.share, self._strides(chunk)
        there, products = (
            self.code.scratch(*each)
            for each in (("tiles", self.points * tiles_stride), ("products", self.points * stride))
        )
        size, results_size = x.shape[1:], result.shape[1:]
        zeros, nowhere = ("zeros", size[2]), ("nowhere", self.outputs)
        inputs = winograd_code.inputs_name(self.places, self.bf16)
        for clip, start in itertools.product(range(len(x)), range(0, tiles, chunk)):
            count = min(chunk, tiles - start)
            share(inputs, count, TILES, [x[clip], there, zeros], [start, columns, *size, tiles_stride])
            numbers = [self.outputs // PAIR, -(-count // TILES), self.words // LANES, self.outputs]
            strides = [self.words * self.outputs, tiles_stride, stride]
            share(self.products, self.points, 1, [self.weight, there, products], numbers + strides)
            arrays = [products, result[clip], self.bias, nowhere, *(each[clip] for each in more)]
            share(ending.function, count, TILES, arrays, [start, columns, *results_size, stride])


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

        # pairs of blocks of outputs are shared, as points are that have the same tiles
        pairs, strides = len(self.weight), [self.words * PAIR, 0, PAIR]
        numbers = [1, groups, self.words // LANES, self.outputs, *strides]
        self.code.share(self.products, pairs, 1, [self.weight, tiles, result], numbers)
        result = result[:places].reshape(clips, height, self.outputs) + self.bias
        return result.transpose(1, 2)[..., None]


class Block(nn.Module):
    """A `ConvBlock` whose convolutions are compiled."""

    def __init__(self, block: ConvBlock, bf16: bool, bands: int):
        super().__init__()
        self.layers = nn.ModuleList(compiled(conv, bf16, bands) for conv in convolutions(block))

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
    """A `ResidualBlock` whose convolutions are compiled."""

    def __init__(self, block: ResidualBlock, bf16: bool, bands: int):
        super().__init__()
        self.pool, self.pooling, self.downsample = block.pool, block.pooling, block.downsample
        for index, layer in enumerate(self.downsample or ()):
            if is_plain(layer, 1) and has_lanes(layer):
                self.downsample[index] = Convolution(layer, linear=True)
        bands //= 1 if self.pool is None else 2
        self.layers = nn.ModuleList(compiled(conv, bf16, bands) for conv in convolutions(block))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        if self.pool is not None:
            x = self.pool(x, self.pooling)
        *before, last = self.layers
        for layer in before:
            x = layer(x)
        return last(x, residual=shortcut)


def compiled(conv: nn.Conv2d, bf16: bool, bands: int) -> Compiled:
    """A folded convolution and the ReLU that follows, as `winograd_code` has it."""
    return First(conv) if conv.in_channels == 1 else Convolution(conv, bf16, bands=bands)


def can_take(conv: nn.Module) -> bool:
    """Whether `compiled` has such a convolution."""
    is_first = is_plain(conv, KERNEL) and conv.in_channels == 1 and conv.out_channels % PAIR == 0
    return is_first or ((is_plain(conv, KERNEL) or is_plain(conv, 1)) and has_lanes(conv))


def has_lanes(conv: nn.Conv2d) -> bool:
    """Whether a convolution takes channels by `LANES` and gives them by `PAIR`."""
    return conv.in_channels % LANES == 0 and conv.out_channels % PAIR == 0


def compile_blocks(graph: Graph, bf16: bool, bands: dict[str, int]) -> None:
    """Put compiled blocks where the convolutions of a graph's folded model are such.

    Args:
        graph: that changes.
        bf16: see `Convolution`.
        bands: that blocks see, by name.
    """
    for name, block in list(graph.named_modules()):
        if name in bands:
            kind = Block if isinstance(block, ConvBlock) else Residual
            if block.depth > 1 and all(map(can_take, convolutions(block))):
                replace(graph, name, partial(kind, bf16=bf16, bands=bands[name]))
        elif isinstance(block, TwoBands):
            for index, layer in enumerate(block.layers):
                if all(map(has_lanes, layer)):
                    block.layers[index] = nn.ModuleList(Along(conv, bf16) for conv in layer)


def graph_of(model: PannsModel, precision: str = "fp32") -> Graph:
    """What computes a model, see `graphs.Graph`; in "bf16", convolutions with so many weights that reading them counts.

    The others are as fast in float32, by tiles that multiply less often.
    """
    graph, (example, _) = graphs.trace(model, whole=False, batch=1, rearranged=("two_bands",))

    def is_block(module: nn.Module) -> bool:
        return isinstance(module, ConvBlock | ResidualBlock) and isinstance(module.conv1, nn.Conv2d)

    compile_blocks(graph, precision == "bf16", bands_seen(graph, is_block, lambda: graph(*example)))
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
    with _ALONE:  # one at a time, or the second would remember one thread
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
