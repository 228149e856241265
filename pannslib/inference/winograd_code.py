"""Machine code for convolutions of 3 x 3 and of 3 by Winograd's method, made by LLVM for the processor that it runs on.

Libraries move what the method transforms to memory and back, or have no such method for float32. Here as many tiles as
a core's cache holds are transformed, multiplied and transformed back together, with the bias, a residual, the ReLU and
the pooling on the way. That is Winograd's method as `rearranging.winograd_matrices` has it (Lavin and Gray 2016, Fast
algorithms for convolutional neural networks); a product of matrices is its step in between, which stands for itself
too.

Arrays are float32, channels last: (rows, columns, channels). `LANES` channels are computed together, of which a vector
register of AVX-512 holds as many. Between the steps, ``tiles`` are (point, group of `TILES` tiles, block of `LANES`
channels, tile, channel) and ``products`` (point, tile, channel), where a point is a place in a transformed tile.

Every function does ``count`` parts of its work from the part ``first`` on. What is exported takes parts from a counter,
until there are none: all threads call it with the same one.

Functions with "bf16" in their names have tiles and weights in bf16, two channels where float32 has one, and sums in
float32. They are for tiles of two places, which round as a convolution in bf16 does; with four, sums of numbers many
times as large as their own would lose three more bits.
"""

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import llvmlite
import numpy as np
from llvmlite import binding, ir

from pannslib import files
from pannslib.inference import rearranging
from pannslib.inference.rearranging import winograd_matrices

LANES, TILES, KERNEL = 16, 11, 3
PAIR = 2 * LANES  # output channels that a product computes together: for `TILES` tiles, in 22 of 32 vector registers
# (rows, columns) that a tile gives; one column: of a convolution along rows alone, whose dilation is the columns; one
# pixel: of a convolution of 1 x 1, which is a product of matrices and nothing else
PLACES = ((4, 4), (2, 2), (4, 1), (1, 1))
PLACES_BF16 = ((2, 2),)  # of those, that are computed in bf16 too

FLOAT, INDEX, ARRAY = ir.FloatType(), ir.IntType(64), ir.FloatType().as_pointer()
VECTOR, WORDS = ir.VectorType(FLOAT, LANES), ir.VectorType(ir.IntType(32), LANES)
HALVES = ir.VectorType(ir.IntType(16), 2 * LANES)
# as LLVM names them: a * b + c; the same of pairs in bf16, summed; pairs of vectors rounded to bf16; the greater of two
MULTIPLY_ADD, DOT = f"llvm.fma.v{LANES}f32", "llvm.x86.avx512bf16.dpbf16ps.512"
ROUND, MAXIMUM = "llvm.x86.avx512bf16.cvtne2ps2bf16.512", f"llvm.maximum.v{LANES}f32"

EXPORTED = "shared_"  # begins the name of what is exported of a function
VERSION = files.digest([Path(path).read_text() for path in (__file__, rearranging.__file__)])  # of what is compiled
_ENGINES: list = []  # whose memory the machine code is in, for as long as the process lives

Value = ir.Value
Grid = list[list[Value]]


class Ending(NamedTuple):
    """What happens to a convolution's outputs besides the bias and the ReLU.

    Attributes:
        places: that a tile gives, of `PLACES`.
        pooling: (rows, columns) of which averages are taken.
        residual: whether another picture is added before the ReLU.
        linear: whether there is no ReLU.
    """

    places: tuple[int, int]
    pooling: tuple[int, int] = (1, 1)
    residual: bool = False
    linear: bool = False

    @property
    def function(self) -> str:
        """The name of the function that does it."""
        return f"outputs{self}"

    def convolution(self, bf16: bool) -> str:
        """The name of the function that does all steps up to it, a part being a chunk of tiles of a clip."""
        return f"convolution{self}" + "_bf16" * bf16

    def __str__(self) -> str:
        more = "_residual" * self.residual + "_linear" * self.linear
        return f"{_by(self.places)}_pooled{_by(self.pooling)}{more}"


def _by(pair: tuple[int, int]) -> str:
    return f"{pair[0]}x{pair[1]}"


def is_along(places: tuple[int, int]) -> bool:
    """Whether tiles for such places are of pictures of one column."""
    return places[1] == 1


def inputs_name(places: tuple[int, int], bf16: bool) -> str:
    """The name of the function that makes tiles for so many places."""
    return f"inputs{_by(places)}" + "_bf16" * bf16


ENDINGS = [
    *(Ending(places, *rest) for places in ((4, 4), (2, 2)) for rest in (((1, 1),), ((2, 2),), ((1, 1), True))),
    *(Ending((4, 4), (2, 1)), Ending((4, 1))),
    *(Ending((1, 1)), Ending((1, 1), residual=True), Ending((1, 1), linear=True)),
]
FIRST_KERNELS = ((KERNEL, KERNEL), (1, 11))  # of convolutions of one channel
POOLED = 4  # rows of which "maxima" takes the greatest
INPUTS = "picture tiles zeros", "start columns height width channels stride"
PRODUCTS = "weights tiles products", "pairs groups blocks outputs weights_stride tiles_stride stride"
OUTPUTS = "products picture bias nowhere", "start columns height width channels stride"
CONVOLUTION = (
    "picture zeros tiles weights products results bias nowhere",
    "chunk chunks limit columns height width channels words points tiles_stride results_height results_width outputs "
    "stride",
)
FIRST, MAXIMA = ("picture results weights bias", "width row_length channels"), ("picture results", "channels")


def _signatures(bf16: bool) -> dict[str, tuple[str, str]]:
    """Functions: their arrays, and their numbers after ``first`` and ``count``."""
    functions = {
        **{inputs_name(places, bf16): INPUTS for places in (PLACES_BF16 if bf16 else PLACES)},
        "products" + "_bf16" * bf16: PRODUCTS,
    }
    for ending in ENDINGS:
        more = " residual" * ending.residual
        if not bf16:
            functions[ending.function] = OUTPUTS[0] + more, OUTPUTS[1]
        if not bf16 or ending.places in PLACES_BF16:
            functions[ending.convolution(bf16)] = CONVOLUTION[0] + more, CONVOLUTION[1]
    if not bf16:
        functions |= {f"first{_by(kernel)}": FIRST for kernel in FIRST_KERNELS} | {"maxima": MAXIMA}
    return functions


SIGNATURES = _signatures(bf16=False)
SIGNATURES_BF16 = _signatures(bf16=True)


class Function:
    """A function of machine code that is being written: arrays and whole numbers -> nothing.

    Args:
        module: that it belongs to.
        name: of `SIGNATURES` or `SIGNATURES_BF16`; its arguments are attributes then.
    """

    def __init__(self, module: ir.Module, name: str):
        arrays, numbers = (text.split() for text in (SIGNATURES | SIGNATURES_BF16)[name])
        numbers = ["first", "count", *numbers]
        kinds = [ARRAY] * len(arrays) + [INDEX] * len(numbers)
        self.module, self.function = module, ir.Function(module, ir.FunctionType(ir.VoidType(), kinds), name)
        self.function.attributes.add("noinline")
        self.build = ir.IRBuilder(self.function.append_basic_block())
        for argument, called in zip(self.function.args, arrays + numbers, strict=True):
            setattr(self, called, argument)
            if argument.type is ARRAY:
                argument.add_attribute("noalias")

    def ready(self) -> None:
        """End it, and export what takes its parts: a counter, how many there are, how many at a time, then arrays, ...

        The arrays and numbers are its own, but for ``first`` and ``count``.
        """
        self.build.ret_void()
        arrays = [argument.type for argument in self.function.args if argument.type is ARRAY]
        numbers = [INDEX] * (len(self.function.args) - len(arrays) - 2)
        kinds = [INDEX.as_pointer(), INDEX, INDEX, *arrays, *numbers]
        shared = ir.Function(self.module, ir.FunctionType(ir.VoidType(), kinds), f"{EXPORTED}{self.function.name}")
        counter, total, some, *given = shared.args
        entry, take, work, end = (shared.append_basic_block() for _ in range(4))
        build = ir.IRBuilder(entry)
        build.branch(take)
        build.position_at_end(take)
        first = build.atomic_rmw("add", counter, some, "monotonic")
        build.cbranch(build.icmp_signed("<", first, total), work, end)
        build.position_at_end(work)
        left = build.sub(total, first)
        count = build.select(build.icmp_signed("<", left, some), left, some)
        build.call(self.function, [*given[: len(arrays)], first, count, *given[len(arrays) :]])
        build.branch(take)
        ir.IRBuilder(end).ret_void()

    @contextmanager
    def loop(self, count: Value, carried: tuple[Value, ...] = ()) -> Iterator[tuple[Value, list[Value]]]:
        """Repeat what is written inside, ``count`` times and once at least.

        Yields the number of the turn and a list of vectors that go from turn to turn, whose entries are replaced; it
        holds the last turn's afterwards.
        """
        before, inside = self.build.block, self.function.append_basic_block()
        self.build.branch(inside)
        self.build.position_at_end(inside)
        turn = self.build.phi(INDEX)
        entering = [self.build.phi(value.type) for value in carried]
        leaving = list(entering)
        yield turn, leaving
        following = self.build.add(turn, INDEX(1))
        for phi, first, next_value in zip([turn, *entering], [INDEX(0), *carried], [following, *leaving], strict=True):
            phi.add_incoming(first, before)
            phi.add_incoming(next_value, self.build.block)
        after = self.function.append_basic_block()
        self.build.cbranch(self.build.icmp_signed("<", following, count), inside, after)
        self.build.position_at_end(after)

    def times(self, *factors: Value | int) -> Value:
        """The product of whole numbers."""
        first, *others = (INDEX(factor) if isinstance(factor, int) else factor for factor in factors)
        for factor in others:
            first = self.build.mul(first, factor)
        return first

    def at(self, array: Value, *terms: Value | int | tuple) -> Value:
        """The place in an array so many numbers further on; a tuple is a product."""
        for term in terms:
            array = self.build.gep(array, [self.times(*term) if isinstance(term, tuple) else self.times(term)])
        return array

    def load(self, array: Value) -> Value:
        """`LANES` numbers."""
        return self.build.load(self.build.bitcast(array, VECTOR.as_pointer()), align=4)

    def store(self, vector: Value, array: Value) -> None:
        """Write `LANES` numbers."""
        self.build.store(vector, self.build.bitcast(array, VECTOR.as_pointer()), align=4)

    def spread(self, array: Value) -> Value:
        """One number, `LANES` times."""
        undefined = VECTOR(ir.Undefined)
        vector = self.build.insert_element(undefined, self.build.load(array), ir.IntType(32)(0))
        return self.build.shuffle_vector(vector, undefined, ir.VectorType(ir.IntType(32), LANES)([0] * LANES))

    def call(self, name: str, kind: ir.Type, *values: Value) -> Value:
        """What an instruction of LLVM's gives."""
        known = self.module.globals.get(name)
        called = known or ir.Function(self.module, ir.FunctionType(kind, [value.type for value in values]), name)
        return self.build.call(called, values)

    def multiply_add(self, a: Value, b: Value, c: Value) -> Value:
        """a * b + c"""
        return self.call(MULTIPLY_ADD, VECTOR, a, b, c)

    def multiply_add_bf16(self, a: Value, b: Value, c: Value) -> Value:
        """a * b + c, where a and b have two numbers in bf16 for each of c, whose products are both added."""
        return self.call(DOT, VECTOR, c, self.build.bitcast(a, WORDS), self.build.bitcast(b, WORDS))

    def rounded(self, first: Value, second: Value) -> Value:
        """Two vectors' numbers in bf16."""
        return self.build.bitcast(self.call(ROUND, HALVES, second, first), VECTOR)

    def weighted(self, factors: np.ndarray, vectors: list[Value]) -> Value:
        """The sum of vectors times constants."""
        total = None
        for factor, vector in zip(factors, vectors, strict=True):
            if factor == 0:
                continue
            if total is None:
                total = vector if factor == 1 else self.build.fmul(vector, constant(factor))
            elif abs(factor) == 1:
                total = (self.build.fadd if factor == 1 else self.build.fsub)(total, vector)
            else:
                total = self.multiply_add(vector, constant(factor), total)
        return total

    def transformed(self, matrices: tuple[np.ndarray, np.ndarray], grid: Grid) -> Grid:
        """``first @ grid @ second.T`` of vectors."""
        columns = [[self.weighted(row, list(column)) for row in matrices[0]] for column in zip(*grid, strict=True)]
        return [[self.weighted(row, list(line)) for row in matrices[1]] for line in zip(*columns, strict=True)]

    def pixels(
        self, tile: Value, places: tuple[int, int], offset: int, size: tuple[int, int], outside: Value, along: bool
    ) -> Grid:
        """Where the pixels of a tile are, and ``outside`` for those that the picture doesn't have.

        The picture is ``self.picture`` (self.height, self.width, self.channels), and ``self.columns`` are the tiles in
        a row.

        Args:
            tile: its number, row by row.
            places: (rows, columns) from one tile to the next.
            offset: of its first pixel, along axes of several places.
            size: (rows, columns) of it.
            outside: an array with as many channels.
            along: whether the picture is of one column, and a row of tiles stands for as many rows of it as there are
                tiles: those of a tile lie so far apart.
        """
        build = self.build
        row, column = build.sdiv(tile, self.columns), build.srem(tile, self.columns)
        rows = [build.add(self.times(row, places[0]), INDEX(offset + step)) for step in range(size[0])]
        if along:
            pixels = [build.add(self.times(place, self.columns), column) for place in rows]
            return [[self._pixel(pixel, self._is_below(pixel, self.height), outside)] for pixel in pixels]
        columns = [build.add(self.times(column, places[1]), INDEX(offset + step)) for step in range(size[1])]
        inside = [self._is_below(place, self.width) for place in columns]
        grid = []
        for place in rows:
            is_row, start = self._is_below(place, self.height), build.mul(place, self.width)
            grid.append(
                [
                    self._pixel(build.add(start, each), build.and_(is_row, is_column), outside)
                    for each, is_column in zip(columns, inside, strict=True)
                ]
            )
        return grid

    def _is_below(self, place: Value, limit: Value) -> Value:
        return self.build.icmp_unsigned("<", place, limit)  # below zero is beyond any limit

    def _pixel(self, number: Value, is_there: Value, outside: Value) -> Value:
        return self.build.select(is_there, self.at(self.picture, (number, self.channels)), outside)


def constant(number: float) -> Value:
    """A number, `LANES` times."""
    return VECTOR([float(number)] * LANES)


def _matrices(places: tuple[int, int], which: int) -> tuple[np.ndarray, np.ndarray]:
    """Of Winograd's, for rows and columns, those that ``which`` stands for."""
    return tuple(winograd_matrices(KERNEL, along)[which] if along > 1 else np.eye(1) for along in places)


def weight_matrices(places: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """What weights (rows, columns) are multiplied by from the left, and by what transposed from the right."""
    return _matrices(places, 0)


def _write_inputs(module: ir.Module, places: tuple[int, int], bf16: bool) -> None:
    """Tiles out of a picture, with zeros around it; the first tile in memory is the picture's tile ``start``."""
    matrices, together = _matrices(places, 1), 2 if bf16 else 1
    offset = 0 if places == (1, 1) else -(KERNEL // 2)
    to = Function(module, inputs_name(places, bf16))
    build = to.build
    row = build.sdiv(to.channels, INDEX(together))
    with to.loop(to.count) as (turn, _):
        number = build.add(to.first, turn)
        tile = build.add(to.start, number)
        pixels = to.pixels(tile, places, offset, tuple(map(len, matrices)), to.zeros, is_along(places))
        group, place = build.sdiv(number, INDEX(TILES)), build.srem(number, INDEX(TILES))
        target = to.at(to.tiles, (group, row, TILES), (place, LANES))
        with to.loop(build.sdiv(row, INDEX(LANES))) as (block, _):
            halves = []
            for half in range(together):
                here = build.add(to.times(block, LANES * together), INDEX(half * LANES))
                grid = [[to.load(to.at(pixel, here)) for pixel in line] for line in pixels]
                halves.append(chain(*to.transformed(matrices, grid)))
            there = to.at(target, (block, LANES * TILES))
            for point, vectors in enumerate(zip(*halves, strict=True)):
                to.store(to.rounded(*vectors) if bf16 else vectors[0], to.at(there, (to.stride, point)))
    to.ready()


def _write_products(module: ir.Module, bf16: bool) -> None:
    """Products of weights (point, pair of blocks, input, `PAIR`) and tiles, at ``count`` points."""
    to = Function(module, "products" + "_bf16" * bf16)
    build, multiply_add = to.build, to.multiply_add_bf16 if bf16 else to.multiply_add
    with to.loop(to.count) as (turn, _), to.loop(to.pairs) as (pair, _):
        point = build.add(to.first, turn)
        weights = to.at(to.weights, (point, to.weights_stride), (pair, to.blocks, LANES * PAIR))
        with to.loop(to.groups) as (group, _):
            tiles = to.at(to.tiles, (point, to.tiles_stride), (group, to.blocks, LANES * TILES))
            with to.loop(to.blocks, (constant(0),) * (2 * TILES)) as (block, sums):
                row, column = to.at(weights, (block, LANES * PAIR)), to.at(tiles, (block, LANES * TILES))
                # channels in a loop: of 16 written out, LLVM would load so many early that sums left their registers
                with to.loop(INDEX(LANES), tuple(sums)) as (channel, within):
                    pair_weights = [to.load(to.at(row, (channel, PAIR), half * LANES)) for half in range(2)]
                    for tile in range(TILES):
                        number = to.spread(to.at(column, channel, tile * LANES))
                        for half in range(2):
                            place = 2 * tile + half
                            within[place] = multiply_add(pair_weights[half], number, within[place])
                sums[:] = within
            there = to.at(to.products, (point, to.stride), (group, to.outputs, TILES), (pair, PAIR))
            for place, total in enumerate(sums):
                to.store(total, to.at(there, (to.outputs, place // 2), place % 2 * LANES))
    to.ready()


def _write_outputs(module: ir.Module, ending: Ending) -> None:
    """A picture (height, width, channels) out of tiles' products: plus bias (and residual), ReLU, (and averages)."""
    matrices = _matrices(ending.places, 2)
    height, width = (matrix.shape[1] for matrix in matrices)
    to = Function(module, ending.function)
    build, blocks = to.build, to.build.sdiv(to.channels, INDEX(LANES))
    kept = tuple(places // pooling for places, pooling in zip(ending.places, ending.pooling, strict=True))
    averages = tuple(
        np.kron(np.eye(places), np.full((1, pooling), 1 / pooling))
        for places, pooling in zip(kept, ending.pooling, strict=True)
    )
    with to.loop(to.count) as (turn, _):
        number = build.add(to.first, turn)
        tile = build.add(to.start, number)
        pixels = to.pixels(tile, kept, 0, kept, to.nowhere, is_along(ending.places))
        source = to.at(to.products, (number, to.channels))
        if ending.residual:
            to.picture = to.residual
            others = to.pixels(tile, kept, 0, kept, to.nowhere, is_along(ending.places))
        with to.loop(blocks) as (block, _):
            here = to.times(block, LANES)
            points = [
                [to.load(to.at(source, here, (to.stride, width * row + column))) for column in range(width)]
                for row in range(height)
            ]
            bias = to.load(to.at(to.bias, here))
            grid = [[build.fadd(vector, bias) for vector in line] for line in to.transformed(matrices, points)]
            if ending.residual:
                grid = [
                    [build.fadd(vector, to.load(to.at(other, here))) for vector, other in zip(*lines, strict=True)]
                    for lines in zip(grid, others, strict=True)
                ]
            if not ending.linear:
                grid = [[_relu(build, vector) for vector in line] for line in grid]
            grid = to.transformed(averages, grid)
            for line, places_of_line in zip(grid, pixels, strict=True):
                for vector, pixel in zip(line, places_of_line, strict=True):
                    to.store(vector, to.at(pixel, here))
    to.ready()


def _write_convolution(module: ir.Module, ending: Ending, bf16: bool) -> None:
    """All three steps for a chunk of tiles; a clip has so many ``chunks``, of ``limit`` tiles in all."""
    to = Function(module, ending.convolution(bf16))
    build = to.build
    with to.loop(to.count) as (turn, _):
        number = build.add(to.first, turn)
        clip = build.sdiv(number, to.chunks)
        start = to.times(build.srem(number, to.chunks), to.chunk)
        left = build.sub(to.limit, start)
        tiles = build.select(build.icmp_signed("<", left, to.chunk), left, to.chunk)
        zero = INDEX(0)

        def call(name: str, *arguments: Value) -> None:
            build.call(module.globals[name], arguments)

        picture = to.at(to.picture, (clip, to.height, to.width, to.channels))
        size = to.height, to.width, to.channels
        call(
            inputs_name(ending.places, bf16),
            *(picture, to.tiles, to.zeros),
            *(zero, tiles, start, to.columns, *size, to.tiles_stride),
        )
        groups = build.sdiv(build.add(tiles, INDEX(TILES - 1)), INDEX(TILES))
        call(
            "products" + "_bf16" * bf16,
            *(to.weights, to.tiles, to.products, zero, to.points),
            *(build.sdiv(to.outputs, INDEX(PAIR)), groups, build.sdiv(to.words, INDEX(LANES)), to.outputs),
            *(to.times(to.words, to.outputs), to.tiles_stride, to.stride),
        )
        size = to.results_height, to.results_width, to.outputs
        more = [to.at(to.residual, (clip, *size))] if ending.residual else []
        call(
            ending.function,
            *(to.products, to.at(to.results, (clip, *size)), to.bias, to.nowhere, *more),
            *(zero, tiles, start, to.columns, *size, to.stride),
        )
    to.ready()


def _relu(build: ir.IRBuilder, vector: Value) -> Value:
    zero = constant(0)
    return build.select(build.fcmp_ordered("<", vector, zero), zero, vector)  # what is no number stays so


def _write_first(module: ir.Module, kernel: tuple[int, int]) -> None:
    """A convolution of one channel that has more all around, and ReLU: ``count`` rows of results from ``first``.

    Each begins ``row_length`` further on in the picture than the one before.
    """
    to, places = Function(module, f"first{_by(kernel)}"), kernel[0] * kernel[1]
    build, blocks = to.build, to.build.sdiv(to.channels, INDEX(LANES))
    with to.loop(blocks) as (block, _):
        weights = [to.load(to.at(to.weights, (block, LANES * places), LANES * place)) for place in range(places)]
        bias = to.load(to.at(to.bias, (block, LANES)))
        with to.loop(to.count) as (number, _):
            row = build.add(to.first, number)
            rows = [to.at(to.picture, (build.add(row, INDEX(step)), to.row_length)) for step in range(kernel[0])]
            results = to.at(to.results, (row, to.width, to.channels), (block, LANES))
            with to.loop(to.width) as (column, _):
                total = bias
                for place, weight in enumerate(weights):
                    pixel = to.at(rows[place // kernel[1]], column, place % kernel[1])
                    total = to.multiply_add(weight, to.spread(pixel), total)
                to.store(_relu(build, total), to.at(results, (column, to.channels)))
    to.ready()


def _write_maxima(module: ir.Module) -> None:
    """The greatest of `POOLED` rows of a picture of one column: ``count`` rows of results from ``first``."""
    to = Function(module, "maxima")
    blocks = to.build.sdiv(to.channels, INDEX(LANES))
    with to.loop(to.count) as (number, _), to.loop(blocks) as (block, _):
        row = to.build.add(to.first, number)
        source = to.at(to.picture, (row, to.channels, POOLED), (block, LANES))
        first, *others = (to.load(to.at(source, (to.channels, step))) for step in range(POOLED))
        for other in others:
            first = to.call(MAXIMUM, VECTOR, first, other)
        to.store(first, to.at(to.results, (row, to.channels), (block, LANES)))
    to.ready()


def _module(bf16: bool) -> ir.Module:
    """All functions."""
    module = ir.Module("winograd")
    module.triple = binding.get_process_triple()
    for kernel in FIRST_KERNELS:
        _write_first(module, kernel)
    _write_maxima(module)
    for ending in ENDINGS:
        _write_outputs(module, ending)
    for each in (False, True) if bf16 else (False,):
        _write_products(module, each)
        for places in PLACES_BF16 if each else PLACES:
            _write_inputs(module, places, each)
        for ending in ENDINGS:
            if not each or ending.places in PLACES_BF16:
                _write_convolution(module, ending, each)
    return module


def optimise(processor: str, features: str) -> tuple[binding.TargetMachine, binding.ModuleRef]:
    """What emits machine code, and the functions for it; it takes a second.

    Args:
        processor: as LLVM names it.
        features: its instruction sets, with signs; those in bf16 are there if "+avx512bf16" is.
    """
    module = _module("+avx512bf16" in features)
    target = binding.Target.from_triple(module.triple)
    machine = target.create_target_machine(cpu=processor, features=features, opt=3, jit=True)
    parsed = binding.parse_assembly(str(module))
    parsed.verify()
    passes = binding.create_pass_builder(machine, binding.create_pipeline_tuning_options(speed_level=2))
    passes.getModulePassManager().run(parsed, passes)
    return machine, parsed


def _whole(path: Path) -> bytes | None:
    """The machine code in a file after its SHA-256; None where it isn't there or is damaged: LLVM would crash on it."""
    kept = path.read_bytes() if path.is_file() else b""
    return kept[32:] if sha256(kept[32:]).digest() == kept[:32] else None


@lru_cache(maxsize=1)
def load(folder: Path) -> dict[str, Callable[..., None]]:
    """The functions by name, as they share their parts among threads; they let other threads work.

    They take the address of a counter that is zero at first, how many parts there are and how many are taken at a time,
    then arrays' addresses and numbers as in `SIGNATURES`.

    Args:
        folder: where the machine code is kept for the next time.
    """
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    host = binding.get_host_cpu_name(), binding.get_host_cpu_features().flatten()
    path = folder / f"winograd-{files.digest([*host, llvmlite.__version__, VERSION])}.o"
    code = _whole(path)
    if code is None:
        for old in folder.glob("winograd-*.o"):
            old.unlink(missing_ok=True)
        machine, module = optimise(*host)
        code = machine.emit_object(module)
        with files.replacing(path) as temporary:
            temporary.write_bytes(sha256(code).digest() + code)
    empty = binding.parse_assembly("")
    machine = binding.Target.from_default_triple().create_target_machine(jit=True)
    engine = binding.create_mcjit_compiler(empty, machine)
    engine.add_object_file(binding.ObjectFileRef.from_data(code))
    engine.finalize_object()
    functions: dict[str, Callable[..., None]] = {}
    signatures = SIGNATURES | (SIGNATURES_BF16 if "+avx512bf16" in host[1] else {})
    for name, (arrays, numbers) in signatures.items():
        kinds = [ctypes.c_void_p] * len(arrays.split()) + [ctypes.c_int64] * len(numbers.split())
        kinds = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, *kinds]  # of the counter and what goes with it
        functions[name] = ctypes.CFUNCTYPE(None, *kinds)(engine.get_function_address(EXPORTED + name))
    _ENGINES.append(engine)
    return functions
