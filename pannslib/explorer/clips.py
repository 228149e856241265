"""The sounds that an explorer can show: clips of the evaluation set, files, and what a browser uploads."""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from pannslib import audio, reference
from pannslib.errors import AudioError
from pannslib.features import FRONT_ENDS

RATE = 32_000  # Hz, of the sounds and of their log-mel: the paper's (section VI-A)
FRONT_END = FRONT_ENDS[RATE]
LONGEST_S = 60.0  # of a longer recording the beginning is shown
LISTED = 200  # clips of a class in the list at most; nobody scrolls through more
ANY = "any class"


@dataclass(frozen=True)
class Sound:
    """A sound to look at.

    Attributes:
        name: of the clip or file.
        waveform: float32 (samples,) in [-1, 1] at `RATE`.
        labels: the classes that it is labelled with; None where nobody labelled it.
        events: what is truly heard when: label, onset_s, offset_s; None where that isn't known.
        remark: what a listener should know, e.g. that it was cut.
    """

    name: str
    waveform: np.ndarray
    labels: tuple[str, ...] | None = None
    events: pd.DataFrame | None = None
    remark: str = ""

    @property
    def seconds(self) -> float:
        """Its length."""
        return len(self.waveform) / RATE


class EvaluationClips:
    """The evaluation clips of AudioSet or its miniature, as the networks are tested on them."""

    def __init__(self, plan):
        """Of a `catalogue.Plan`; its clips are packed if they aren't yet."""
        self.plan = plan
        self.packed = plan.packed("audioset")
        self.rows = np.flatnonzero(np.asarray(self.packed.splits) == "eval")
        self.targets = np.asarray(self.packed.targets[self.rows], dtype=bool)
        self.classes = tuple(self.packed.classes)
        names = self.packed.names
        self.names = [names[row] for row in self.rows]
        self._place = {name: place for place, name in enumerate(self.names)}
        self._events = _true_events(plan.dataset("audioset"))

    def of_class(self, label: str = ANY, most: int = LISTED) -> list[str]:
        """Names of the clips with a label (or of all), those with the most labels first, ``most`` of them at most."""
        places = np.arange(len(self.names))
        if label != ANY:
            places = np.flatnonzero(self.targets[:, self.classes.index(label)])
        order = np.argsort(-self.targets[places].sum(1), kind="stable")
        return [self.names[place] for place in places[order][:most]]

    def labels(self, name: str) -> tuple[str, ...]:
        """The classes of a clip."""
        return tuple(self.classes[column] for column in np.flatnonzero(self.targets[self._place[name]]))

    def title(self, name: str) -> str:
        """A clip as it is listed: its name and classes."""
        labels = ", ".join(self.labels(name)) or "no label"
        return f"{name}: {labels if len(labels) <= 60 else labels[:59] + '…'}"

    def sound(self, name: str) -> Sound:
        """A clip by its name."""
        row = self.rows[self._place[name]]
        waveform = audio.resample(self.packed.read([row])[0], self.packed.sample_rate, RATE)
        events = None
        if self._events is not None:
            heard = self._events.get(self.packed.groups[row])
            events = _NO_EVENTS if heard is None else heard
            events = events[events["onset_s"] < len(waveform) / RATE]
        return Sound(name, waveform, self.labels(name), events)


_NO_EVENTS = pd.DataFrame({"label": [], "onset_s": [], "offset_s": []})


def _true_events(dataset) -> dict[str, pd.DataFrame] | None:
    """Events of the evaluation clips by recording, where the data set knows them: the miniature does."""
    path = dataset.root / "metadata" / "events.csv"
    if dataset.evidence != "miniature" or not path.is_file():
        return None
    heard = pd.read_csv(path)
    names = reference.class_labels().set_index("mid")["display_name"]
    heard = heard[heard["split"] == "eval"].assign(label=lambda frame: frame["mid"].map(names))
    heard = heard.rename(columns={"onset_seconds": "onset_s", "offset_seconds": "offset_s"})
    columns = ["label", "onset_s", "offset_s"]
    return {name: part[columns].reset_index(drop=True) for name, part in heard.groupby("YTID")}


def sound_of_file(path: str | Path, name: str | None = None) -> Sound:
    """A sound file, of which the first `LONGEST_S` are taken.

    Raises:
        AudioError: it can't be used; the message says why.
    """
    path = Path(path).expanduser()
    parts, samples, limit = [], 0, round(LONGEST_S * RATE)
    for block in audio.stream(path, RATE):
        parts.append(block)
        samples += len(block)
        if samples > limit:
            break
    waveform = np.concatenate(parts) if parts else np.zeros(0, np.float32)
    if not len(waveform):
        raise AudioError(f"{path} has no samples. Choose another file.")
    remark = f"Longer than {LONGEST_S:g} s: this is its beginning." if len(waveform) > limit else ""
    return Sound(name or path.name, waveform[:limit], remark=remark)


def sound_of_bytes(content: bytes, name: str) -> Sound:
    """What a browser uploaded as a file of that name, as `sound_of_file` takes it.

    Raises:
        AudioError: it can't be used; the message names the uploaded file.
    """
    name = re.split(r"[\\/]", name)[-1] or "upload"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"upload{Path(name).suffix[:10]}"
        path.write_bytes(content)
        try:
            return sound_of_file(path, name)
        except AudioError as fault:
            raise AudioError(str(fault).replace(str(path), name)) from None
