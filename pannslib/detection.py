"""Use a DecisionLevel model: which sounds are in a recording, and when.

detector = SoundEventDetector("Cnn14_DecisionLevelMax", checkpoint="released")
detector.detect("street.flac", threshold=0.3).save("street.txt")  # label, onset_s, offset_s, probability
"""

from collections.abc import Iterator
from numbers import Real

import numpy as np

from pannslib.errors import ModelError
from pannslib.inference.predictor import Clip, Predictor, is_one
from pannslib.inference.tables import Results, results

# segments of 32 frames (0.32 s). A segment sees 174 frames to either side (twelve convolutions of 3 x 3, five poolings
# of 2, a pooling over three segments), and a frame half a window more of the waveform: six segments
CONTEXT, CORE = 6, 18
COLUMNS = ["label", "onset_s", "offset_s", "probability"]


class SoundEventDetector(Predictor):
    """Finds sound events with a network that classifies every 0.32 s.

    Clips are given as for `AudioTagger`. A recording of any length is seen in windows of 9.6 s, at constant memory;
    the windows overlap by more than the network sees of what lies around a segment, so that the result is that of the
    whole recording in one piece.
    """

    DEFAULT = "Cnn14_DecisionLevelMax"

    def _check_model(self) -> None:
        if not self._settings.classifies_frames:
            raise ModelError(
                f"{self._settings.name} classifies whole clips, not frames. Sound events are found by "
                "Cnn14_DecisionLevelMax, Cnn14_DecisionLevelAvg and Cnn14_DecisionLevelAtt."
            )

    @property
    def segment_samples(self) -> int:
        """How many samples share a row of probabilities: 32 frames."""
        return self._settings.least_frames * self._settings.front_end.hop

    def detect(
        self,
        clips,
        threshold: float = 0.3,
        sample_rate: float | None = None,
        shortest_s: float = 0.0,
        gap_s: float = 0.0,
        progress: bool | None = None,
    ) -> Results:
        """The events of a clip or of several: where a class's framewise probability reaches the threshold.

        Args:
            clips: a path, a waveform (samples,), an array and its rate, a folder, or a list of such.
            threshold: on the framewise probability, in [0, 1].
            sample_rate: Hz, of arrays; the model's where left out.
            shortest_s: events that are shorter are left out, s.
            gap_s: events of a class with a gap of at most so many seconds between them are one.
            progress: whether to draw a bar; where left out for more than one clip or window.

        Returns:
            A row an event: label, onset_s, offset_s, probability (the highest in it), by onset; for a folder or list
            the clip's name first.

        Raises:
            ModelError: a threshold outside [0, 1], a negative duration.
            AudioError: the clip, or all of several, can't be used; it says why.
        """
        if not isinstance(threshold, Real) or not 0 <= threshold <= 1:
            raise ModelError(f"threshold is {threshold!r}; it must be a probability, from 0 to 1.")
        if not all(isinstance(value, Real) and value >= 0 for value in (shortest_s, gap_s)):
            raise ModelError(f"shortest_s is {shortest_s} and gap_s {gap_s}; both must be 0 s or more.")

        def rows(clip: Clip, bar: bool | None = False) -> list[dict]:
            found = _Events(threshold, len(self.labels))
            duration = 0.0
            for first, segments, samples in self.segments(clip, sample_rate, bar):
                found.add(first, segments)
                duration = samples / self.sample_rate
            events = self._events(found.close(), self.segment_samples / self.sample_rate, duration, gap_s)
            return [event for event in events if event["offset_s"] - event["onset_s"] >= shortest_s]

        if is_one(clips):
            return results(rows(clips, progress), COLUMNS)
        found, used = self.each(clips, rows, progress)
        return results(found, ["clip", *COLUMNS], self.skipped, used)

    def framewise(self, clip: Clip, sample_rate: float | None = None, progress: bool | None = None) -> np.ndarray:
        """The framewise probabilities of a clip of any length, float32 (frames, classes), a frame every 10 ms.

        An hour of 527 classes has 0.7 GiB; `segments` gives the same piece by piece, and a row for each 32 frames.
        """
        pieces = [(segments, samples) for _, segments, samples in self.segments(clip, sample_rate, progress)]
        segments = np.concatenate([segments for segments, _ in pieces])
        frames = self._settings.front_end.frames(pieces[-1][1])
        row = np.minimum(np.arange(frames) // self._settings.least_frames, len(segments) - 1)
        return segments[row]

    def segments(
        self, clip: Clip, sample_rate: float | None = None, progress: bool | None = None
    ) -> Iterator[tuple[int, np.ndarray, int]]:
        """The probabilities of each segment, piece by piece at constant memory.

        Yields:
            the number of the piece's first segment; float32 (segments, classes); and how many samples of the clip, at
            the model's rate, have been seen. Frames after the last whole segment have that one's probabilities.
        """
        size = self.segment_samples
        with self.progress(clip, CORE * size, progress) as update:
            for start, waveform, last in self.windows(
                clip, (CORE + 2 * CONTEXT) * size, CORE * size, sample_rate=sample_rate
            ):
                framewise = self.engine(self.padded(waveform)[None]).framewise_output[0]
                segments = framewise[:: self._settings.least_frames]
                whole = max(1, self._settings.front_end.frames(len(waveform)) // self._settings.least_frames)
                skip = CONTEXT if start else 0
                stop = whole if last else CORE + CONTEXT
                yield start // size + skip, segments[skip:stop], start + len(waveform)
                update()

    def _events(self, found: list[tuple], segment_s: float, duration: float, gap_s: float) -> list[dict]:
        """Runs of segments as events in seconds, those with small gaps between them joined."""
        events: list[dict] = []
        latest: dict[int, dict] = {}
        for label, first, stop, probability, ends in sorted(found, key=lambda run: (run[1], run[0])):
            onset, offset = first * segment_s, duration if ends else min(stop * segment_s, duration)
            before = latest.get(label)
            if before is not None and onset - before["offset_s"] <= gap_s:
                before["offset_s"] = offset
                before["probability"] = max(before["probability"], probability)
                continue
            latest[label] = {
                "label": self.labels[label],
                "onset_s": onset,
                "offset_s": offset,
                "probability": probability,
            }
            events.append(latest[label])
        return events


class _Events:
    """Collects runs of segments at or above a threshold, piece by piece: only runs are kept."""

    def __init__(self, threshold: float, classes: int):
        self.threshold = np.float32(threshold)
        self.runs: list[tuple] = []  # class, first segment, segment after the last, highest probability, at the end
        self.open = np.full(classes, -1)  # where the run of each class began; -1: there is none
        self.highest = np.zeros(classes, np.float32)
        self.end = 0

    def add(self, first: int, segments: np.ndarray) -> None:
        """Take in the segments (segments, classes) that follow, the first of them numbered ``first``."""
        active = segments >= self.threshold
        for label in np.flatnonzero(active.any(axis=0) | (self.open >= 0)):
            edges = np.flatnonzero(np.diff(active[:, label], prepend=self.open[label] >= 0))
            position = 0
            for edge in edges:
                if self.open[label] >= 0:
                    self._extend(label, segments[position:edge, label])
                    self._close(label, first + edge, at_end=False)
                else:
                    self.open[label] = first + edge
                position = edge
            if self.open[label] >= 0:
                self._extend(label, segments[position:, label])
        self.end = first + len(segments)

    def close(self) -> list[tuple]:
        """All runs, those too that last until the end."""
        for label in np.flatnonzero(self.open >= 0):
            self._close(label, self.end, at_end=True)
        return self.runs

    def _extend(self, label: int, probabilities: np.ndarray) -> None:
        if len(probabilities):
            self.highest[label] = max(self.highest[label], probabilities.max())

    def _close(self, label: int, stop: int, at_end: bool) -> None:
        self.runs.append((int(label), int(self.open[label]), int(stop), float(self.highest[label]), at_end))
        self.open[label], self.highest[label] = -1, 0
