"""A network whose 3 x 3 convolutions are computed by `winograd_code`, and the rest of it by PyTorch.

What a convolution gives is channels last in memory, and lies where it lay the last time: new memory for each would
take as long as to compute it, in a virtual machine. Convolution, bias, ReLU and pooling go to memory once.
"""

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
from pannslib.inference.rearranging import TwoBands, is_plain, replace, winograd_matrices
from pannslib.inference.threads import in_parallel
from pannslib.inference.winograd_code import KERNEL, LANES, PAIR, TILES, Ending
from pannslib.models.base import PannsModel
from pannslib.models.layers import ConvBlock
from pannslib.models.residual import ResidualBlock

# of this code and the other, by which it is given how weights lie in memory
VERSION = files.digest([winograd_code.VERSION, Path(__file__).read_text()])
# four places along an axis at a time multiply least often, and need four times the weights; two places 1.8 times
MOST_BY_FOUR = KERNEL**2 * 512**2
CACHE = 5 * 2**18  # bytes of tiles and of products that a thread works on at a time
LEAST = 3 * TILES  # tiles of that at least, so that weights are read seldom
SHARED = 2**24  # bytes of weights from which on the threads share each step, so that they are read once
MOST_SHARED = 256  # tiles then


class Code:
    """The functions of `winograd_code`, and the memory between them, which convolutions use one after the other."""

    def __init__(self, folder: Path):
        self.functions, self.threads = winograd_code.load(folder), torch.get_num_threads()
        self.memory = threading.local()

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


class Compiled(nn.Module):
    """What `winograd_code` computes: `load` gives it the code."""

    code: Code
    kept: Tensor | None = None

    def result(self, *shape: int) -> Tensor:
        """Memory for (batch, height, width, channels), the same as the last time where the shape is."""
        if self.kept is None or self.kept.shape != shape:
            self.kept = torch.empty(shape)
        return self.kept


class First(Compiled):
    """A 3 x 3 convolution of one channel, bias and ReLU: (batch, 1, height, width) -> (batch, outputs, ...)."""

    def __init__(self, conv: nn.Conv2d):
        super().__init__()
        weight = conv.weight.reshape(-1, LANES, KERNEL**2).transpose(1, 2)
        self.register_buffer("weight", weight.contiguous())  # (block, place, lane)
        self.register_buffer("bias", conv.bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        clips, _, height, width = x.shape
        channels = len(self.bias)
        padded = F.pad(x[:, 0], (1, 1, 1, 1))
        result = self.result(clips, height, width, channels)

        def rows(clip: int, first: int) -> None:
            count = min(TILES * 4, height - first)
            arrays = padded[clip], result[clip], self.weight, self.bias
            self.code.functions["first"](*map(Tensor.data_ptr, arrays), first, count, width, channels)

        self.code.share(rows, [(clip, first) for clip in range(clips) for first in range(0, height, TILES * 4)])
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
    """A 3 x 3 convolution, bias, ReLU: (batch, inputs, height, width) -> (batch, outputs, height, width).

    Args:
        conv: with stride 1, as many inputs as are a multiple of `LANES`, and outputs of `PAIR`.
        bf16: whether to multiply in bf16 where that rounds no more than the convolution itself in bf16: by two places.
    """

    def __init__(self, conv: nn.Conv2d, bf16: bool = False):
        places = 4 if conv.weight.numel() <= MOST_BY_FOUR else 2
        points = (places + KERNEL - 1) ** 2
        matrix = torch.from_numpy(winograd_matrices(KERNEL, places)[0])
        weight = (matrix @ conv.weight.double() @ matrix.T).permute(2, 3, 0, 1)  # (row, column, output, input)
        weight = weight.reshape(points, -1, PAIR, conv.in_channels).transpose(2, 3).float()
        super().__init__(conv, weight, bf16 and places == 2 and conv.in_channels % (2 * LANES) == 0)
        self.places, self.points = places, points

    def forward(self, x: Tensor, pooling: int = 1, residual: Tensor | None = None) -> Tensor:
        """Give averages of ``pooling`` x ``pooling`` (1, 2), or add ``residual`` before the ReLU."""
        x = x.permute(0, 2, 3, 1).contiguous()
        clips, height, width, _ = x.shape
        result = self.result(clips, height // pooling, width // pooling, self.outputs)
        columns = -(-width // self.places)
        tiles = columns * -(-(height // pooling * pooling) // self.places)
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
        self.inputs = functions[f"inputs{conv.places}{conv.suffix}"]
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
        result = self.result(groups * TILES, self.outputs)

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
        return last(x, pooling)


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
    return graph.requires_grad_(False)


def write(model: PannsModel, path: Path, precision: str) -> None:
    """Keep what computes a model, with its weights transformed."""
    with files.replacing(path) as temporary, torch.no_grad():
        torch.save({"code": VERSION, "graph": graph_of(model, precision)}, temporary)


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
            return [tensor.numpy() for tensor in graph(*(torch.from_numpy(given[name]) for name in graph.inputs))]

    return run
