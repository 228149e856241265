"""How well sound events are found: event-based and segment-based F1 against true onsets and offsets.

As in Mesaros, Heittola and Virtanen, *Metrics for Polyphonic Sound Event Detection* (2016). An event is a row of a
frame with recording, label, onset_s and offset_s.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from pannslib.metrics import MetricError

COLLAR = 0.5  # seconds that an onset may be off; the networks decide every 0.32 s
SEGMENT = 1.0  # seconds of a segment
COLUMNS = ("recording", "label", "onset_s", "offset_s")


def event_f1(true: pd.DataFrame, found: pd.DataFrame, collar_s: float = COLLAR) -> dict[str, float]:
    """Event-based scores: a found event is right if its label is and its onset is within the collar of a true one.

    Each true event is matched with at most one that was found, so that as many as possible are.

    Returns:
        f1, precision, recall in [0, 1] (micro: over all classes), and the counts true, found, matched.

    Raises:
        MetricError: a column is missing, or there is no true event.
    """
    _check(true, found)
    if collar_s < 0:
        raise MetricError(f"collar_s is {collar_s}; it must be 0 s or more.")
    matched = 0
    groups = dict(list(found.groupby(["recording", "label"])))
    for key, events in true.groupby(["recording", "label"]):
        if key in groups:
            matched += _matches(events["onset_s"].to_numpy(), groups[key]["onset_s"].to_numpy(), collar_s)
    return _scores(matched, len(true), len(found))


def _matches(true: np.ndarray, found: np.ndarray, collar_s: float) -> int:
    """How many pairs there can be at most with onsets within the collar; on a line, taking the earliest is best."""
    true, found = np.sort(true), np.sort(found)
    count = place = 0
    for onset in true:
        while place < len(found) and found[place] < onset - collar_s - 1e-9:
            place += 1
        if place < len(found) and found[place] <= onset + collar_s + 1e-9:
            count += 1
            place += 1
    return count


def segment_f1(
    true: pd.DataFrame, found: pd.DataFrame, durations: dict[str, float], segment_s: float = SEGMENT
) -> dict[str, float]:
    """Segment-based scores: in each segment of each recording, which classes are active.

    Args:
        durations: recording -> its length, s.
    """
    _check(true, found)
    labels = sorted(set(true["label"]) | set(found["label"]))
    matched = truly = claimed = 0
    for recording, duration in durations.items():
        active = [_active(events, recording, duration, labels, segment_s) for events in (true, found)]
        matched += int((active[0] & active[1]).sum())
        truly += int(active[0].sum())
        claimed += int(active[1].sum())
    return _scores(matched, truly, claimed)


def _active(events: pd.DataFrame, recording: str, duration: float, labels: Sequence[str], segment_s: float):
    """bool (segments, labels): which class is heard in which segment."""
    active = np.zeros((max(1, int(np.ceil(duration / segment_s - 1e-9))), len(labels)), bool)
    column = {label: number for number, label in enumerate(labels)}
    for event in events[events["recording"] == recording].itertuples():
        first = int(event.onset_s // segment_s)
        last = max(first + 1, int(np.ceil(event.offset_s / segment_s - 1e-9)))
        active[first:last, column[event.label]] = True
    return active


def _scores(matched: int, true: int, found: int) -> dict[str, float]:
    precision = matched / found if found else 0.0
    recall = matched / true
    f1 = 2 * matched / (true + found)
    return {"f1": f1, "precision": precision, "recall": recall, "true": true, "found": found, "matched": matched}


def _check(true: pd.DataFrame, found: pd.DataFrame) -> None:
    for name, frame in (("true", true), ("found", found)):
        missing = [column for column in COLUMNS if column not in frame]
        if missing:
            raise MetricError(f"the {name} events have no {', '.join(missing)}; they need {', '.join(COLUMNS)}.")
    if not len(true):
        raise MetricError("there is no true event to find.")


def joined_recordings(
    root: Path, sample_rate: int, clips: int = 10, most: int = 20
) -> tuple[dict[str, np.ndarray], pd.DataFrame]:
    """Recordings of known events: the evaluation clips of a Mini-AudioSet, joined one after another.

    Args:
        root: the miniature's folder, whose metadata/events.csv says what is truly heard, and when.
        sample_rate: Hz, of the recordings.
        clips: of each recording; what is left over is left out.
        most: recordings.

    Returns:
        recording -> waveform float32 (samples,), and its events: recording, label, onset_s, offset_s.
    """
    from pannslib import audio, reference

    labels = reference.class_labels().set_index("mid")["display_name"]
    events = pd.read_csv(root / "metadata" / "events.csv")
    heard = dict(list(events[events["split"] == "eval"].groupby("YTID")))
    paths = sorted((root / "audios" / "eval_segments").glob("Y*.wav"))
    recordings, found = {}, []
    for number in range(min(most, max(1, len(paths) // clips))):
        name, parts, start = f"recording_{number + 1:02d}", [], 0.0
        for path in paths[number * clips : (number + 1) * clips]:
            parts.append(audio.load(path, sample_rate=sample_rate))
            for event in heard.get(path.stem.removeprefix("Y"), events[:0]).itertuples():
                found.append((name, labels[event.mid], start + event.onset_seconds, start + event.offset_seconds))
            start += len(parts[-1]) / sample_rate
        recordings[name] = np.concatenate(parts)
    return recordings, pd.DataFrame(found, columns=list(COLUMNS))


def thresholds(
    true: pd.DataFrame,
    detect: Callable,
    recordings: dict[str, np.ndarray],
    durations: dict[str, float],
    values: Sequence[float],
) -> pd.DataFrame:
    """What the threshold does: a row a threshold with event-based and segment-based F1, precision and recall.

    Args:
        detect: (waveform, threshold) -> events (label, onset_s, offset_s), such as a detector's.
        values: thresholds in [0, 1].
    """
    rows = []
    for value in values:
        found = pd.concat(
            [detect(waveform, value).assign(recording=name) for name, waveform in recordings.items()],
            ignore_index=True,
        )
        event, segment = event_f1(true, found), segment_f1(true, found, durations)
        rows.append(
            {
                "threshold": value,
                **{f"event_{key}": event[key] for key in ("f1", "precision", "recall")},
                **{f"segment_{key}": segment[key] for key in ("f1", "precision", "recall")},
                "events_found": event["found"],
            }
        )
    return pd.DataFrame(rows)


def by_class(true: pd.DataFrame, detect: Callable, recordings: dict[str, np.ndarray], threshold: float) -> pd.DataFrame:
    """Event-based scores of each class that is truly heard: a row a class, the best first.

    Args:
        detect, recordings: as in `thresholds`.
    """
    found = pd.concat(
        [detect(waveform, threshold).assign(recording=name) for name, waveform in recordings.items()],
        ignore_index=True,
    )
    rows = []
    for label, events in true.groupby("label"):
        scores = event_f1(events, found[found["label"] == label])
        rows.append({"label": label, "true": scores["true"], "found": scores["found"], "matched": scores["matched"]})
        rows[-1]["F1"] = scores["f1"]
    return pd.DataFrame(rows).sort_values(["F1", "label"], ascending=[False, True], ignore_index=True)
