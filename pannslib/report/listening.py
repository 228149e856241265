"""Players: a clip of each class to listen to, small enough to be kept inside a notebook."""

from __future__ import annotations

import base64
import html
import io

import numpy as np

from pannslib import audio

BUDGET = 3_000_000  # bytes of sound in one page; base64 makes a third more of it
RATE = 24_000  # Hz: Opus knows this one; what is above 12 kHz is lost
# compression (from 0, large and good, to 1) and the seconds of a clip at most, the best first
QUALITIES = ((0.8, 10.0), (0.8, 5.0), (0.9, 5.0), (0.9, 2.0), (0.95, 2.0), (0.95, 1.0), (1.0, 1.0))
TRIED = 6  # clips by which the size of all is judged


def encode(waveform: np.ndarray, sample_rate: int, compression: float = 0.8) -> bytes:
    """A waveform, float32 (samples,) in [-1, 1] at ``sample_rate`` (Hz), as the bytes of an Ogg Opus file."""
    import soundfile

    buffer = io.BytesIO()
    resampled = np.clip(audio.resample(waveform, sample_rate, RATE), -1, 1)
    soundfile.write(buffer, resampled, RATE, format="OGG", subtype="OPUS", compression_level=compression)
    return buffer.getvalue()


def examples(packed) -> dict[str, int]:
    """A clip of each class -> its row: one with no other label where there is one, of the evaluation clips if any."""
    rows = {}
    alone = packed.targets.sum(1) == 1
    evaluated = np.asarray(packed.splits) == "eval"
    for column, name in enumerate(packed.classes):
        has = packed.targets[:, column]
        for kind in (has & alone & evaluated, has & alone, has & evaluated, has):
            if kind.any():
                rows[name] = int(kind.argmax())
                break
    return rows


def players(packed, clips: dict[str, int], budget: int = BUDGET) -> str:
    """An HTML table with a player for each of some clips, in four columns; all of them together within ``budget``.

    Where they would be larger, they are shortened, or their quality is reduced, alike for all.

    Args:
        packed: the `PackedClips`.
        clips: what a clip is called -> its row, as `examples` gives them.
        budget: bytes of encoded sound, before base64.
    """
    names, waveforms = list(clips), packed.read(list(clips.values()))

    def encoded(count: int, compression: float, seconds: float) -> list[bytes]:
        parts = waveforms[:count, : round(seconds * packed.sample_rate)]
        return [encode(part, packed.sample_rate, compression) for part in parts]

    some = min(TRIED, len(names))
    for compression, seconds in QUALITIES:
        size = sum(map(len, encoded(some, compression, seconds))) / some
        if 1.25 * size * len(names) <= budget:
            break
    sounds = encoded(len(names), compression, seconds)
    cells = [
        f'<td style="text-align:left">{html.escape(name)}<br><audio controls preload="none" style="width:15em" '
        f'src="data:audio/ogg;base64,{base64.b64encode(sound).decode()}"></audio></td>'
        for name, sound in zip(names, sounds, strict=True)
    ]
    lines = "\n".join(f"<tr>{''.join(cells[start : start + 4])}</tr>" for start in range(0, len(cells), 4))
    shown = min(seconds, packed.seconds)
    return f"<table>\n{lines}\n</table>\n<p>{len(names)} clips, the first {shown:g} s of each.</p>"
