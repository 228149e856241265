"""The power in mel bins of a clip's frames, compiled: framing, window, FFT, power and mel filters in one pass.

A library's FFT takes two thirds of the time of a log-mel; the rest goes with what lies before and after it to memory
and back. Here `LANES` frames are computed side by side. Each step does the same to so many neighbours in memory, as a
processor's vector instructions want it, and all of it stays in the cache of one core: three times as fast.

The FFT of ``window`` real samples is one of half as many complex numbers, even samples as real parts and odd ones as
imaginary parts, by decimation in frequency: in place, four parts at a time, and at last two where the size isn't a
power of four. The frames of a block lie in ``z`` (number, real and imaginary part, lane).
"""

from dataclasses import dataclass

import numpy as np
from numba import literal_unroll, njit, uint64

LANES = 64  # frames of a block; for a window of 1,024 samples it takes half a megabyte
QUARTERS = (512, 256, 128, 64, 32, 16, 8, 4, 2, 1)  # the distances of four parts, each compiled for itself
LONGEST = 8 * QUARTERS[0]  # window
HALF = np.float32(0.5)
COMPILED = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", "nsz"}}


@dataclass(frozen=True)
class Tables:
    """What the kernel looks up; see `tables_of`.

    Attributes:
        window: (window,).
        twiddles: cosine and sine by which the second, third and fourth part are multiplied (rows, 6), a step's rows
            after those of the step before.
        places: (window // 2,), where the FFT leaves each of its numbers.
        turns: cosine and sine that make the real FFT of the complex one (window // 2 + 1, 2).
        weights: of the mel filters, without the zeros around them.
        starts: (mel_bins,), the first frequency that a filter takes.
        ends: (mel_bins + 1,), between which weights a filter's are.
    """

    window: np.ndarray
    twiddles: np.ndarray
    places: np.ndarray
    turns: np.ndarray
    weights: np.ndarray
    starts: np.ndarray
    ends: np.ndarray


def can_take(window: int) -> bool:
    """Whether the kernel has this window: a power of two from 4 to `LONGEST` samples."""
    return 4 <= window <= LONGEST and window & (window - 1) == 0


def tables_of(window: np.ndarray, filters: np.ndarray) -> Tables:
    """The tables for a window (window,) and mel filters (window // 2 + 1, mel_bins)."""
    half = len(window) // 2
    twiddles, places, size, stride = [np.zeros((0, 6))], np.zeros(half, np.int64), half, 1
    while size > 1:
        parts = 4 if size >= 4 else 2
        if parts == 4:
            angles = -2 * np.pi / size * np.outer(np.arange(size // 4), (1, 2, 3))
            twiddles.append(np.stack([np.cos(angles), np.sin(angles)], axis=2).reshape(-1, 6))
        size //= parts
        places += np.arange(half) // stride % parts * size
        stride *= parts
    angles = -np.pi / half * np.arange(half + 1)
    used = [np.flatnonzero(column) for column in filters.T]
    weights = [column[rows[0] : rows[-1] + 1] for column, rows in zip(filters.T, used, strict=True)]
    return Tables(
        window=window.astype(np.float32),
        twiddles=np.concatenate(twiddles).astype(np.float32),
        places=places,
        turns=np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32),
        weights=np.concatenate(weights).astype(np.float32),
        starts=np.array([rows[0] for rows in used]),
        ends=np.cumsum([0, *map(len, weights)]),
    )


def mel_power(samples: np.ndarray, power: np.ndarray, start: int, stop: int, hop: int, tables: Tables) -> None:
    """Compute the frames from ``start`` up to ``stop`` of a clip that is reflected at its ends.

    Args:
        samples: float32 (samples,), more than half a window.
        power: float32 (frames, mel_bins), of which these frames are written.
        hop: samples between frames.
    """
    spectrum = tables.window, tables.twiddles, tables.places, tables.turns
    _mel_power(samples, power, start, stop, hop, *spectrum, tables.weights, tables.starts, tables.ends)


@njit(forceinline=True, **COMPILED)
def _gather(samples, first, hop, columns, tile):
    """Put the samples from ``first`` on into ``tile`` (hop, columns): what lanes take together lies together."""
    count = len(samples)
    for column in range(columns):
        base = first + column * hop
        if base >= 0 and base + hop <= count:
            for row in range(hop):
                tile[uint64(row * columns + column)] = samples[uint64(base + row)]
        else:
            for row in range(hop):
                at = abs(base + row)
                if at >= count:
                    at = 2 * count - 2 - at
                # beyond the last frame there may be nothing to reflect
                tile[row * columns + column] = samples[at] if at >= 0 else np.float32(0)


@njit(forceinline=True, **COMPILED)
def _window(tile, hop, columns, window, z):
    for number in range(len(window)):
        factor = window[number]
        here = uint64(number * LANES)  # even samples are real parts, odd ones imaginary parts
        there = uint64(number % hop * columns + number // hop)
        for lane in range(LANES):
            z[here + uint64(lane)] = tile[there + uint64(lane)] * factor


@njit(forceinline=True, **COMPILED)
def _four_parts(z, twiddles, quarter):
    """A step of the FFT; ``quarter`` must be known when it is compiled, for the steps of lanes to be taken together."""
    one, step = uint64(LANES), uint64(2 * quarter * LANES)
    for block in range(len(z) // (8 * quarter * LANES)):
        for number in range(quarter):
            c1, s1, c2, s2, c3, s3 = (
                twiddles[number, 0],
                twiddles[number, 1],
                twiddles[number, 2],
                twiddles[number, 3],
                twiddles[number, 4],
                twiddles[number, 5],
            )
            first = uint64(2 * (4 * block * quarter + number) * LANES)
            for lane in range(LANES):
                a = first + uint64(lane)
                b, c, d = a + step, a + step + step, a + step + step + step
                even_r, even_i = z[a] + z[c], z[a + one] + z[c + one]
                even_difference_r, even_difference_i = z[a] - z[c], z[a + one] - z[c + one]
                odd_r, odd_i = z[b] + z[d], z[b + one] + z[d + one]
                odd_difference_r, odd_difference_i = z[b] - z[d], z[b + one] - z[d + one]
                z[a], z[a + one] = even_r + odd_r, even_i + odd_i
                r, i = even_difference_r + odd_difference_i, even_difference_i - odd_difference_r
                z[b], z[b + one] = r * c1 - i * s1, r * s1 + i * c1
                r, i = even_r - odd_r, even_i - odd_i
                z[c], z[c + one] = r * c2 - i * s2, r * s2 + i * c2
                r, i = even_difference_r - odd_difference_i, even_difference_i + odd_difference_r
                z[d], z[d + one] = r * c3 - i * s3, r * s3 + i * c3


@njit(forceinline=True, **COMPILED)
def _two_parts(z):
    """The last step of the FFT where its size isn't a power of four."""
    for block in range(len(z) // (4 * LANES)):
        first = uint64(4 * block * LANES)
        for lane in range(2 * LANES):  # real and imaginary parts
            a = first + uint64(lane)
            b = a + uint64(2 * LANES)
            z[a], z[b] = z[a] + z[b], z[a] - z[b]


@njit(forceinline=True, **COMPILED)
def _power(z, places, turns, power):
    """The power (window // 2 + 1, lanes) of the real samples whose pairs ``z`` is the FFT of."""
    half, one = len(places), uint64(LANES)
    for number in range(half + 1):
        c, s = turns[number, 0], turns[number, 1]
        first, other = uint64(2 * places[number % half] * LANES), uint64(2 * places[(half - number) % half] * LANES)
        here = uint64(number * LANES)
        for lane in range(LANES):
            a, b = first + uint64(lane), other + uint64(lane)
            even_r, even_i = z[a] + z[b], z[a + one] - z[b + one]
            odd_r, odd_i = z[a + one] + z[b + one], z[b] - z[a]
            r, i = even_r + odd_r * c - odd_i * s, even_i + odd_r * s + odd_i * c
            power[here + uint64(lane)] = HALF * HALF * (r * r + i * i)


@njit(forceinline=True, **COMPILED)
def _filter(power, weights, starts, ends, mel):
    """The sums (mel_bins, lanes) of the power that the mel filters take."""
    mel[:] = 0
    for mel_bin in range(len(starts)):
        here = uint64(mel_bin * LANES)
        for index in range(ends[mel_bin], ends[mel_bin + 1]):
            weight = weights[index]
            there = uint64((starts[mel_bin] + index - ends[mel_bin]) * LANES)
            for lane in range(LANES):
                mel[here + uint64(lane)] += weight * power[there + uint64(lane)]


def _cached(function):
    """Compiled once for the machine, which takes seconds, or where nothing can be written once for the process."""
    try:
        return njit(cache=True, **COMPILED)(function)
    except RuntimeError:
        return njit(**COMPILED)(function)


@_cached
def _mel_power(samples, result, start, stop, hop, window, twiddles, places, turns, weights, starts, ends):
    half, bins = len(window) // 2, len(starts)
    columns = LANES + (len(window) - 1) // hop
    tile = np.empty(hop * columns, np.float32)
    z = np.empty(2 * half * LANES, np.float32)
    power = np.empty((half + 1) * LANES, np.float32)
    mel = np.empty(bins * LANES, np.float32)
    for frame in range(start, stop, LANES):
        _gather(samples, frame * hop - half, hop, columns, tile)
        _window(tile, hop, columns, window, z)
        row, size = 0, half
        while size >= 4:
            for quarter in literal_unroll(QUARTERS):
                if 4 * quarter == size:
                    _four_parts(z, twiddles[row : row + quarter], quarter)
            row, size = row + size // 4, size // 4
        if size == 2:
            _two_parts(z)
        _power(z, places, turns, power)
        _filter(power, weights, starts, ends, mel)
        for lane in range(min(LANES, stop - frame)):
            for mel_bin in range(bins):
                result[frame + lane, mel_bin] = mel[uint64(mel_bin * LANES + lane)]
