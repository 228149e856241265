"""What a network hears when: the event roll of a sound, also by networks that classify whole clips."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from pannslib import audioset_runs, models, training
from pannslib.detection import SoundEventDetector
from pannslib.errors import ModelError, ResultError
from pannslib.explorer.clips import RATE
from pannslib.inference.predictor import Predictor
from pannslib.models.registry import skeleton
from pannslib.tagging import AudioTagger

STEP_S, WINDOW_S = 0.5, 1.0  # a network of whole clips judges each half second by the second around it


@dataclass(frozen=True)
class Roll:
    """Probabilities against time.

    Attributes:
        probabilities: float32 (steps, classes).
        edges: s (steps + 1,): step k lasts from ``edges[k]`` to ``edges[k + 1]``.
        labels: the classes' names.
        resolution: what a step is, in words.
    """

    probabilities: np.ndarray
    edges: np.ndarray
    labels: tuple[str, ...]
    resolution: str

    def highest(self) -> pd.Series:
        """The highest probability of each class, by its name."""
        return pd.Series(self.probabilities.max(axis=0), index=self.labels)

    def of(self, label: str) -> np.ndarray:
        """The probabilities of a class (steps,); zeros where the network doesn't know it."""
        if label not in self.labels:
            return np.zeros(len(self.probabilities), np.float32)
        return self.probabilities[:, self.labels.index(label)]

    def events(self, threshold: float) -> pd.DataFrame:
        """Where a class is at or above the threshold: label, onset_s, offset_s, probability (the highest), by onset.

        Of a detector these are the events that `SoundEventDetector.detect` finds.
        """
        if not 0 <= threshold <= 1:
            raise ModelError(f"threshold is {threshold}; it must be a probability, from 0 to 1.")
        active = np.zeros((len(self.probabilities) + 2, len(self.labels)), bool)
        active[1:-1] = self.probabilities >= np.float32(threshold)
        change = np.diff(active.astype(np.int8), axis=0)  # 1 where an event begins, -1 at the step after its last
        rows = []
        for column in np.flatnonzero(active.any(axis=0)):
            begins, ends = (np.flatnonzero(change[:, column] == sign) for sign in (1, -1))
            for first, stop in zip(begins, ends, strict=True):
                rows.append((first, column, stop, self.probabilities[first:stop, column].max()))
        return pd.DataFrame(
            [(self.labels[column], self.edges[first], self.edges[stop], float(highest))
             for first, column, stop, highest in sorted(rows)],
            columns=["label", "onset_s", "offset_s", "probability"],
        )  # fmt: skip


def roll_of(predictor: Predictor, waveform: np.ndarray) -> Roll:
    """The event roll of a waveform, float32 (samples,) in [-1, 1] at `RATE`.

    A `SoundEventDetector` gives a step for each 32 frames, 0.32 s. An `AudioTagger` knows no times: each half second is
    judged by the second around it, a clip of up to a second as a whole.
    """
    seconds = len(waveform) / RATE
    if isinstance(predictor, SoundEventDetector):
        pieces = list(predictor.segments((waveform, RATE), progress=False))
        probabilities = np.concatenate([segments for _, segments, _ in pieces])
        step = predictor.segment_samples / predictor.sample_rate
        edges = np.append(np.arange(len(probabilities)) * step, pieces[-1][2] / predictor.sample_rate)
        return Roll(probabilities, edges, predictor.labels, f"framewise, a step of {step:.2f} s")
    steps = max(1, round(seconds / STEP_S)) if seconds > WINDOW_S else 1
    edges = np.append(np.arange(steps) * STEP_S, seconds)
    size = round(WINDOW_S * RATE)
    rows = []
    for middle in (edges[:-1] + np.minimum(edges[:-1] + STEP_S, seconds)) / 2:
        start = int(np.clip(round((middle - WINDOW_S / 2) * RATE), 0, max(0, len(waveform) - size)))
        rows.append(predictor.probabilities((waveform[start : start + size], RATE)))
    what = f"whole clips: each {STEP_S:g} s by the {WINDOW_S:g} s around it" if steps > 1 else "the clip as a whole"
    return Roll(np.stack(rows), edges, predictor.labels, what)


def finished_runs(plan) -> dict:
    """The AudioSet runs of a plan that are there, in the catalogue's order: name -> `training.TrainingResult`."""
    found = {}
    for name in audioset_runs.RUNS:
        try:
            found[name] = training.result(plan, name)
        except ResultError:
            continue
    return found


def predictor_of(checkpoint: str | Path) -> Predictor:
    """A checkpoint of this package as a detector if its network classifies frames, else as a tagger.

    It computes by plain PyTorch: a faster engine costs seconds to make, which one clip at a time doesn't earn back.
    """
    name = models.read_metadata(checkpoint).get("model")
    frames = name is not None and skeleton(name).classifies_frames
    return (SoundEventDetector if frames else AudioTagger)(checkpoint=checkpoint, engine="torch")
