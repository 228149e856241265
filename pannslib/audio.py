"""Sound files: decode, mix to mono, resample, pad or crop; and back to 16 bits.

    waveform = load("clip.ogg", sample_rate=32_000, seconds=10)     # float32 (320000,)

Whatever libsndfile decodes can be read: any sample rate, number of channels and bit depth. A file is always decoded
as float, because a reader that is asked for 16-bit integers wraps samples beyond full scale to the other sign. What
cannot be used raises an `AudioError`; a truncated file is one of these, which libsndfile itself takes as a short one.
"""

from __future__ import annotations

import errno
import os
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
import soxr

from pannslib import files
from pannslib.errors import AudioError

FULL_SCALE = 32_767  # the int16 value of 1.0, as in the authors' packed files (int16_to_float32 of their utilities.py)
BLOCK_FRAMES = 1 << 20  # read at once: a header may promise more frames than memory can hold
UNKNOWN_SIZE = 0x7FFF_F000  # sizes from here on are what streaming programs write when they do not know the length
OGG_TAIL = 1 << 16  # bytes; no Ogg page is longer than 65,307
LONGEST_PATH = 1000  # bytes
# Matroska, FLV, WMV, MPEG with and without sound
VIDEO_HEADS = (b"\x1aE\xdf\xa3", b"FLV\x01", b"0&\xb2u\x8ef\xcf\x11", b"\x00\x00\x01\xba", b"\x00\x00\x01\xb3")
DOWNLOAD_AGAIN = "Download or export the file again, or leave it out."
FROM_VIDEO = "It is a video, or sound packed like one; take the sound out: ffmpeg -i video.mp4 -vn sound.wav"


@dataclass(frozen=True)
class AudioInfo:
    """What a sound file is: length in seconds and frames, sample rate (Hz), channels, encoding, container."""

    seconds: float
    sample_rate: int
    channels: int
    frames: int
    subtype: str
    format: str


def info(path: str | Path) -> AudioInfo:
    """What the header of a sound file says, without decoding it.

    Raises:
        AudioError: the file is absent, unreadable, empty or no sound file.
    """
    with _open(Path(path)) as file:
        return _info(file, file.frames)


def load(path: str | Path, sample_rate: int = 32_000, seconds: float | None = None) -> np.ndarray:
    """The mono waveform of a sound file, resampled and, if `seconds` is given, of that very length.

    Args:
        path: of a file in any format, sample rate, bit depth and number of channels that libsndfile decodes.
        sample_rate: wanted, Hz; the paper's is 32,000 (section VI-A).
        seconds: wanted; shorter clips get zeros at their end, longer ones lose their end. None: as long as it is.

    Returns:
        float32 (samples,); full scale is 1, and what the file has beyond is kept.

    Raises:
        AudioError: as for `decode`, or a `sample_rate` or `seconds` that is not positive.
    """
    samples = None if seconds is None else sample_count(seconds, sample_rate)
    waveform, about = decode(path)
    waveform = resample(waveform, about.sample_rate, sample_rate)
    return waveform if samples is None else fit_length(waveform, samples)


def decode(path: str | Path) -> tuple[np.ndarray, AudioInfo]:
    """A whole sound file at its own sample rate: the mean of its channels, float32 (frames,), and its facts.

    Raises:
        AudioError: the file is absent, a folder, unreadable, empty, no sound file or truncated, or it has no samples
            or samples that are NaN or infinite. The message names the file and what to do.
    """
    path = Path(path)
    with _open(path) as file:
        announced = file.frames
        blocks = [block.mean(axis=1, dtype=np.float32) for block in _read_blocks(path, file)]
        about = _info(file, sum(map(len, blocks)))
        _check_whole(path, file, announced, about)
    waveform = np.concatenate(blocks)
    bad = np.count_nonzero(~np.isfinite(waveform))
    if bad:
        raise AudioError(f"{path} has {bad:,} samples that are NaN or infinite. {DOWNLOAD_AGAIN}")
    return waveform, about


def stream(path: str | Path, sample_rate: int) -> Iterator[np.ndarray]:
    """The mono waveform of a sound file of any length, block by block: what `load` gives, at constant memory.

    Args:
        path: as for `load`.
        sample_rate: wanted, Hz.

    Yields:
        float32 (samples,), some seconds each; together they are the waveform, within 1e-6.

    Raises:
        AudioError: as for `load`. A file that turns out to be truncated or not finite does so only when that is met.
    """
    path = Path(path)
    with _open(path) as file:
        announced, rate, frames, given = file.frames, file.samplerate, 0, 0
        resampler = None if rate == sample_rate else soxr.ResampleStream(rate, sample_rate, 1, "float32", "VHQ")
        for block in _read_blocks(path, file):
            mono = block.mean(axis=1, dtype=np.float32)
            frames += len(mono)
            bad = np.count_nonzero(~np.isfinite(mono))
            if bad:
                raise AudioError(f"{path} has {bad:,} samples that are NaN or infinite. {DOWNLOAD_AGAIN}")
            if resampler is not None:
                mono = resampler.resample_chunk(mono)
            given += len(mono)
            if len(mono):
                yield mono
        _check_whole(path, file, announced, _info(file, frames))
        if resampler is not None:
            rest = resampler.resample_chunk(np.zeros(0, np.float32), last=True)
            yield fit_length(rest, max(1, round(frames * sample_rate / rate)) - given)


def resample(waveform: np.ndarray, sample_rate: int, wanted_rate: int) -> np.ndarray:
    """Resample float32 (samples,) from `sample_rate` to `wanted_rate` (Hz) with soxr at its very high quality.

    Returns:
        float32 (round(samples * wanted_rate / sample_rate),), at least one sample.

    Raises:
        AudioError: a rate that is not positive.
    """
    for rate in (sample_rate, wanted_rate):
        if not 0 < rate < np.inf:
            raise AudioError(f"The sample rate is {rate} Hz, but must be positive; the paper's is 32000 Hz.")
    if sample_rate == wanted_rate:
        return waveform
    samples = max(1, round(len(waveform) * wanted_rate / sample_rate))
    return fit_length(soxr.resample(waveform, sample_rate, wanted_rate, quality="VHQ"), samples)


def sample_count(seconds: float, sample_rate: int) -> int:
    """How many samples `seconds` at `sample_rate` (Hz) are; AudioError where that is less than one."""
    wanted = seconds * sample_rate if sample_rate > 0 else 0
    samples = round(wanted) if np.isfinite(wanted) else 0
    if samples < 1:
        raise AudioError(
            f"A waveform of {seconds:g} s at {sample_rate} Hz cannot be: both numbers must be positive and finite, and "
            "seconds times sample rate at least 1."
        )
    return samples


def fit_length(waveform: np.ndarray, samples: int) -> np.ndarray:
    """Zeros at the end of a shorter waveform (samples,), the end cut off a longer one; the result has `samples`."""
    if len(waveform) >= samples:
        return waveform[:samples]
    return np.pad(waveform, (0, samples - len(waveform)))


def to_int16(waveform: np.ndarray) -> np.ndarray:
    """Float samples of any shape as int16: rounded, and saturated beyond full scale (never wrapped).

    Raises:
        AudioError: NaN or infinite samples.
    """
    if not np.isfinite(waveform).all():
        raise AudioError("The waveform has samples that are NaN or infinite, so it cannot be stored as 16 bit.")
    return np.round(np.clip(waveform, -1, 1) * FULL_SCALE).astype(np.int16)


def from_int16(waveform: np.ndarray) -> np.ndarray:
    """Int16 samples of any shape as float32 in about [-1, 1]: the value divided by 32,767, as in the authors' code."""
    return waveform.astype(np.float32) / np.float32(FULL_SCALE)


def save(path: str | Path, waveform: np.ndarray, sample_rate: int) -> Path:
    """Write float samples (samples,) as a 16-bit mono WAV file, all or nothing, and return its path.

    Raises:
        AudioError: NaN or infinite samples, more than one dimension, or a `sample_rate` (Hz) that is not positive.
    """
    waveform = np.asarray(waveform)
    if waveform.ndim != 1 or sample_rate <= 0:
        raise AudioError(
            f"{path} is not written: a waveform of shape {waveform.shape} at {sample_rate} Hz was given, but it must "
            "be (samples,) at a positive rate."
        )
    stored = to_int16(waveform)
    with files.replacing(Path(path)) as temporary:
        soundfile.write(temporary, stored, sample_rate, subtype="PCM_16", format="WAV")
    return Path(path)


# --- opening and reading ---------------------------------------------------------------------------------------


def _open(path: Path) -> soundfile.SoundFile:
    """The opened sound file; AudioError says why it cannot be opened."""
    try:
        if not path.exists():
            raise AudioError(f"There is no file {path}. Check the path, or complete the download.")
        if not path.is_file():
            raise AudioError(
                f"{path} is a folder, a pipe or a device, not a sound file. Give the path of one file; panns tag - "
                "reads a pipe."
            )
        with open(path, "rb") as file:
            empty = not file.read(1)
    except OSError as error:
        what_to_do = "Give it a shorter name." if error.errno == errno.ENAMETOOLONG else "Change its permissions."
        raise AudioError(f"{path} cannot be read: {error.strerror}. {what_to_do}") from error
    if empty:
        raise AudioError(f"{path} is empty (0 bytes). {DOWNLOAD_AGAIN}")
    if path.suffix.lower() == ".raw":
        raise AudioError(f"{path} is raw audio without a header. Convert it to WAV or FLAC first.")
    try:
        # by its bytes, which need not be UTF-8; libsndfile takes no path of more than 1,024
        name = os.fsencode(path)
        return soundfile.SoundFile(name if len(name) < LONGEST_PATH else os.open(path, os.O_RDONLY))
    except soundfile.LibsndfileError as error:
        reason = error.error_string.rstrip(".")
        what_to_do = FROM_VIDEO if _is_video(path) else DOWNLOAD_AGAIN
        raise AudioError(f"{path} is no sound file that can be decoded ({reason}). {what_to_do}") from error


def _is_video(path: Path) -> bool:
    """Whether a file begins as an MP4, QuickTime, Matroska, WebM, AVI, FLV, WMV or MPEG stream does."""
    with open(path, "rb") as file:
        head = file.read(189)
    packets = head[:1] == head[188:189] == b"G"  # of an MPEG transport stream, each of 188 bytes
    return packets or head[4:8] in (b"ftyp", b"moov") or head[8:12] == b"AVI " or head.startswith(VIDEO_HEADS)


def _info(file: soundfile.SoundFile, frames: int) -> AudioInfo:
    return AudioInfo(frames / file.samplerate, file.samplerate, file.channels, frames, file.subtype, file.format)


def _read_blocks(path: Path, file: soundfile.SoundFile) -> Iterator[np.ndarray]:
    """All that can be decoded, as float32 (frames, channels) blocks."""
    try:
        while len(block := file.read(BLOCK_FRAMES, dtype="float32", always_2d=True)):
            yield block
    except soundfile.LibsndfileError as error:
        reason = error.error_string.rstrip(".")
        raise AudioError(
            f"{path} is damaged or truncated: decoding stops early ({reason}). {DOWNLOAD_AGAIN}"
        ) from error


# --- is the file whole? libsndfile takes a truncated file as a shorter one, so the container is asked ------------


def _check_whole(path: Path, file: soundfile.SoundFile, announced: int, about: AudioInfo) -> None:
    """Raise `AudioError` if a file that was read to its end holds less than it says, or nothing."""
    shortfall = CONTAINER_CHECKS.get(about.format, _shortfall_of_others)(path, file.extra_info)
    if shortfall is None and announced != about.frames and announced < 2**62:  # libsndfile's sign for "unknown"
        shortfall = f"its header promises {announced:,} frames, but only {about.frames:,} can be decoded"
    if shortfall:
        raise AudioError(f"{path} is truncated: {shortfall}. {DOWNLOAD_AGAIN}")
    if not about.frames:
        raise AudioError(f"{path} holds no samples. {DOWNLOAD_AGAIN}")


def _wav_shortfall(path: Path, log: str) -> str | None:
    """What the `data` chunk of a RIFF or RF64 file promises and the file does not hold; None if it is whole.

    The chunks are walked here, because libsndfile's `log` of them ends after 2,047 characters, which long metadata
    fill. Sizes that stand for "unknown" are no promise.
    """
    length, long_size = path.stat().st_size, 0
    with open(path, "rb") as file:
        order = ">" if file.read(12).startswith(b"RIFX") else "<"
        for name, size in _chunks(file, order):
            if name == b"ds64":
                long_size = struct.unpack("<Q", file.read(16)[8:])[0]
            if name == b"data":
                promised = size if size < UNKNOWN_SIZE else long_size
                held = length - file.tell()
                # a file that lacks no more than a padding byte is whole
                return _missing_bytes(promised, held) if promised > held + 1 else None
    return None


def _chunks(file: BinaryIO, order: str) -> Iterator[tuple[bytes, int]]:
    """Name and size of each chunk of a RIFF file from here on; the file stands at the chunk's content meanwhile."""
    while len(header := file.read(8)) == 8:
        size, start = struct.unpack(f"{order}I", header[4:])[0], file.tell()
        yield header[:4], size
        file.seek(start + size + size % 2)


def mark_open_end(path: Path) -> None:
    """Let a WAV file end where its bytes do, if its header says that there is no sound, and yet there are bytes.

    So programs write that begin before they know the length, into a pipe, which can't go back to its header.
    """
    with open(path, "r+b") as file:
        head = file.read(12)
        if head[:4] != b"RIFF" or head[8:] != b"WAVE":
            return
        for name, size in _chunks(file, "<"):
            if name == b"data":
                start, after = file.tell(), file.read(8)
                another = len(after) == 8 and start + 8 + struct.unpack("<I", after[4:])[0] == path.stat().st_size
                if size == 0 and after and not another:  # another chunk would end where the file ends
                    file.seek(start - 4)
                    file.write(b"\xff" * 4)
                return


def _ogg_shortfall(path: Path, log: str) -> str | None:
    """Whether an Ogg file lacks its last page: one that is marked as the end of the stream and is all there."""
    length = path.stat().st_size
    with open(path, "rb") as file:
        file.seek(max(0, length - OGG_TAIL))
        tail = file.read()
    start = tail.rfind(b"OggS")
    page = tail[start:] if start >= 0 else b""
    segments = page[26] if len(page) > 26 else 0
    whole = len(page) >= 27 + segments + sum(page[27 : 27 + segments])
    if page and whole and page[5] & 4:
        return None
    return "the last Ogg page is cut off or is not marked as the end of the stream"


def _shortfall_of_others(path: Path, log: str) -> str | None:
    """What libsndfile's `log` says of a chunk that is longer than the rest of the file (AIFF, AU, Wave64, CAF)."""
    found = re.search(r"^\s*(?:SSND|Data Size|riff|data)\s*:\s*(\d+) \(should be (\d+)\)", log, re.MULTILINE)
    return _missing_bytes(int(found[1]), int(found[2])) if found and int(found[1]) > int(found[2]) + 1 else None


def _missing_bytes(promised: int, held: int) -> str:
    return f"its header promises {promised:,} bytes of sound, but the file holds {held:,}"


CONTAINER_CHECKS: dict[str, Callable[[Path, str], str | None]] = {
    "WAV": _wav_shortfall,
    "WAVEX": _wav_shortfall,
    "RF64": _wav_shortfall,
    "OGG": _ogg_shortfall,
}
