"""A clip on one time axis: what is heard, its waveform and log-mel, and what one or two networks find when."""

from __future__ import annotations

import html
from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd

from pannslib import audio, audioset_runs, results
from pannslib.errors import ModelError, PannsError, ResultError
from pannslib.explorer import frontend, pictures
from pannslib.explorer.clips import ANY, FRONT_END, RATE, EvaluationClips, Sound, sound_of_bytes, sound_of_file
from pannslib.explorer.rolls import Roll, finished_runs, predictor_of, roll_of
from pannslib.inference.predictor import SUFFIXES, Predictor
from pannslib.report import plots
from pannslib.report.artifacts import EVIDENCE

NOTHING = "none"
LEAST_ROWS, MOST_ROWS = 3, 20
# a server drops what is larger without a word, and the connection with it; `make lab` allows more
UPLOADS = (
    "Any sound file; of a long one the first minute is shown. A Jupyter server takes uploads of up to 10 MB (make lab: "
    "200 MB); put a larger file into a folder (JupyterLab's file list takes it) and give its path."
)


class ClipExplorer(frontend.Explorer):
    """Choose or upload a clip, hear it, see what networks find in it, and move the threshold.

    Example::

        ClipExplorer({"CNN14": AudioTagger("Cnn14"), "events": SoundEventDetector("Cnn14_DecisionLevelMax")}).show()
    """

    def __init__(
        self,
        models: Mapping[str, Predictor | str | Path],
        clips: EvaluationClips | None = None,
        sound: Sound | None = None,
        threshold: float = 0.3,
        rows: int = 8,
        remark: str = "",
    ):
        """Explore with some networks.

        Args:
            models: what a network is called -> a detector or tagger, or the path of a checkpoint of this package, which
                is loaded when it is first chosen. The first one is shown, the second one compared with it.
            clips: to choose from; None for uploaded sounds and files alone.
            sound: to begin with; None for the clip with the most labels.
            threshold: on the probability, in [0, 1].
            rows: how many classes are shown, 3 to 20.
            remark: a sentence that stands below the picture.

        Raises:
            ModelError: no network, or a threshold or number of rows out of range.
        """
        if not models:
            raise ModelError("There is no network to explore with; give at least one, or train one: panns train.")
        if not 0 <= threshold <= 1:
            raise ModelError(f"threshold is {threshold}; it must be a probability, from 0 to 1.")
        if not LEAST_ROWS <= rows <= MOST_ROWS:
            raise ModelError(f"rows is {rows}; it must be from {LEAST_ROWS} to {MOST_ROWS} classes.")
        self.models, self.clips, self.remark = dict(models), clips, remark
        self.threshold, self.rows = threshold, rows
        names = list(self.models)
        self.first, self.second = names[0], names[1] if len(names) > 1 else NOTHING
        self._predictors = {name: model for name, model in self.models.items() if isinstance(model, Predictor)}
        self._rolls: dict[str, Roll] = {}  # of the present sound
        self._log_mel = self._box = None
        self.sound = sound
        if sound is None and clips is not None and clips.names:
            self.sound = clips.sound(clips.of_class()[0])

    @classmethod
    def of_plan(cls, plan, **options) -> ClipExplorer:
        """With the evaluation clips and all trained networks of a `catalogue.Plan`, the one for sound events first.

        Raises:
            ResultError: none has been trained.
        """
        there = finished_runs(plan)
        if not there:
            raise ResultError(
                f"No network has been trained with profile {plan.profile.name}. Train one: panns train "
                f"{audioset_runs.EVENTS} --profile {plan.profile.name}"
            )
        order = [name for name in (audioset_runs.EVENTS, audioset_runs.BASE) if name in there]
        order += [name for name in there if name not in order]
        evidence = results.evidence_of(plan, audioset_runs.BASE)
        return cls(
            {there[name].title: there[name].checkpoint for name in order},
            EvaluationClips(plan),
            remark=f"{evidence}: {EVIDENCE[evidence]}.",
            **options,
        )

    # --- what is chosen ------------------------------------------------------------------------------------------

    def choose(self, name: str) -> None:
        """Take a clip of the evaluation set."""
        self._take(self.clips.sound(name))

    def open(self, path: str | Path) -> None:
        """Take a sound file; `AudioError` says why it can't be used."""
        self._take(sound_of_file(path))

    def upload(self, content: bytes, name: str) -> None:
        """Take the bytes of a sound file; `AudioError` says why they can't be used."""
        self._take(sound_of_bytes(content, name))

    def _take(self, sound: Sound) -> None:
        self.sound, self._rolls, self._log_mel = sound, {}, None

    def predictor(self, name: str) -> Predictor:
        """A network by what it is called here."""
        if name not in self._predictors:
            self._predictors[name] = predictor_of(self.models[name])
        return self._predictors[name]

    # --- what is shown -------------------------------------------------------------------------------------------

    def rolls(self) -> dict[str, Roll]:
        """What the chosen networks find in the chosen sound: name -> roll.

        Raises:
            ResultError: no sound is chosen.
        """
        if self.sound is None:
            raise ResultError("No clip is chosen yet: upload a sound file, or give the path of one.")
        names = dict.fromkeys(name for name in (self.first, self.second) if name != NOTHING)
        for name in names:
            if name not in self._rolls:
                self._rolls[name] = roll_of(self.predictor(name), self.sound.waveform)
        return {name: self._rolls[name] for name in names}

    def log_mel(self) -> np.ndarray:
        """The log-mel spectrogram of the sound with the paper's settings, dB (frames, mel_bins)."""
        if self._log_mel is None:
            import torch

            from pannslib.features import LogMel

            waveform = self.sound.waveform
            waveform = audio.fit_length(waveform, max(len(waveform), FRONT_END.least_samples))
            with torch.inference_mode():
                self._log_mel = LogMel(FRONT_END)(torch.from_numpy(waveform)[None])[0, 0].numpy()
        return self._log_mel

    def figure(self):
        """Waveform, log-mel and rolls on one time axis, a matplotlib figure."""
        rolls = self.rolls()
        return pictures.clip(self.sound, self.log_mel(), rolls, self.threshold, self.rows)

    def numbers(self) -> pd.DataFrame:
        """What is drawn: a row a frame, with the waveform's range, the log-mel, and each network's probabilities."""
        rolls, log_mel, waveform = self.rolls(), self.log_mel(), self.sound.waveform
        frame = plots.log_mel_frame(log_mel, RATE, FRONT_END.hop)
        starts = np.minimum(np.arange(len(log_mel)) * FRONT_END.hop, len(waveform) - 1)
        for place, (name, edge) in enumerate((("amplitude_low", np.minimum), ("amplitude_high", np.maximum)), 1):
            frame.insert(place, name, edge.reduceat(waveform, starts))
        for name, roll in rolls.items():
            step = np.searchsorted(roll.edges, frame["time_s"], side="right") - 1
            step = np.clip(step, 0, len(roll.probabilities) - 1)
            for label in pictures.shown_labels(self.sound, rolls, self.rows):
                frame[f"{name}: {label}"] = roll.of(label)[step]
        return frame

    def events(self) -> pd.DataFrame:
        """The events at or above the threshold: network, label, onset (s), offset (s), probability, labelled so."""
        parts = []
        for name, roll in self.rolls().items():
            part = roll.events(self.threshold)
            part.insert(0, "network", name)
            parts.append(part)
        found = pd.concat(parts, ignore_index=True)
        if self.sound.labels is not None:
            found["in the clip"] = np.where(found["label"].isin(self.sound.labels), "yes", "no")
        return found.rename(columns={"onset_s": "onset (s)", "offset_s": "offset (s)"})

    def still(self) -> list:
        """Title, player, picture and events of what is chosen."""
        from IPython.display import HTML, Image

        if self.sound is None:
            return [HTML(frontend.note("No sound is chosen: give the explorer clips, or a path to open()."))]
        return [HTML(self._player()), Image(frontend.png(self.figure())), HTML(self._events_html())]

    def _player(self) -> str:
        sound = self.sound
        labels = "" if sound.labels is None else f": {', '.join(sound.labels) or 'no label'}"
        line = f"<p style='margin:4px 0'><b>{html.escape(sound.name)}</b>{html.escape(labels)}</p>"
        return line + frontend.player(sound.waveform, RATE, sound.name, wide=True)

    def _events_html(self) -> str:
        events = self.events()
        shown = events.sort_values("probability", ascending=False, kind="stable").head(MOST_ROWS)
        text = f"{len(events)} event{'s' if len(events) != 1 else ''} at or above {self.threshold:.2f}"
        text += f", the {MOST_ROWS} likeliest of them:" if len(events) > MOST_ROWS else ":" if len(events) else "."
        lines = [frontend.note(text), frontend.table_html(shown.sort_index()) if len(events) else ""]
        notes = " ".join(part for part in (self.sound.remark, self.remark) if part)
        return "".join(lines) + (frontend.note(notes) if notes else "")

    # --- widgets -------------------------------------------------------------------------------------------------

    def widget(self):
        """The explorer as an ipywidgets box; its parts are in ``controls`` by name."""
        if self._box is None:
            self._box = self._build()
        return self._box

    def _build(self):
        import ipywidgets as widgets

        wide = {"style": {"description_width": "6em"}, "layout": widgets.Layout(width="430px")}
        full = {
            "style": {"description_width": "6em"},
            "layout": widgets.Layout(width="868px", max_width="calc(100% - 4px)"),
        }
        others = [NOTHING, *self.models]
        self.controls = parts = {
            "upload": widgets.FileUpload(
                accept=",".join(sorted(SUFFIXES)), multiple=False, description="Upload a sound", tooltip="A sound file",
                layout=widgets.Layout(width="200px"),
            ),
            "path": widgets.Text(
                description="or a file", placeholder="its path on the kernel's machine, then Enter",
                continuous_update=False, **wide,
            ),
            "first": widgets.Dropdown(options=list(self.models), value=self.first, description="Network", **wide),
            "second": widgets.Dropdown(options=others, value=self.second, description="compared", **wide),
            "threshold": widgets.FloatSlider(
                value=self.threshold, min=0, max=1, step=0.01, description="Threshold", readout_format=".2f", **wide
            ),
            "rows": widgets.IntSlider(
                value=self.rows, min=LEAST_ROWS, max=MOST_ROWS, description="Classes", continuous_update=False, **wide
            ),
            "help": widgets.HTML(frontend.note(UPLOADS)),
            "message": widgets.HTML(),
            "player": widgets.HTML(),
            "picture": widgets.Image(format="png", layout=widgets.Layout(width="950px", max_width="calc(100% - 4px)")),
            "events": widgets.HTML(),
        }  # fmt: skip
        lines = []
        if self.clips is not None:
            clips = self.clips
            used = [label for column, label in enumerate(clips.classes) if clips.targets[:, column].any()]
            names = clips.of_class()
            start = self.sound.name if self.sound is not None and self.sound.name in names else None
            parts["of_class"] = widgets.Dropdown(options=[ANY, *used], description="Class", **wide)
            parts["clip"] = widgets.Dropdown(options=self._titled(names), value=start, description="Clip", **full)
            parts["of_class"].observe(self._list_clips, "value")
            parts["clip"].observe(self._choose_clip, "value")
            lines += [parts["of_class"], parts["clip"]]
        parts["upload"].observe(self._upload_file, "value")
        parts["path"].observe(self._open_path, "value")
        for name in ("first", "second", "rows", "threshold"):
            parts[name].observe(self._change, "value")
        row = widgets.Layout(flex_flow="row wrap", align_items="center")
        lines += [
            widgets.HBox([parts["path"], parts["upload"]], layout=row),
            widgets.HBox([parts["first"], parts["second"]], layout=row),
            widgets.HBox([parts["threshold"], parts["rows"]], layout=row),
            *(parts[name] for name in ("help", "message", "player", "picture", "events")),
        ]
        box = widgets.VBox(lines)
        box.add_class("panns-clip-explorer")
        self._draw(with_player=True)
        return box

    def _titled(self, names: list[str]) -> list[tuple[str, str]]:
        return [(self.clips.title(name), name) for name in names]

    def _list_clips(self, change) -> None:
        """Another class: its clips, and the first of them."""
        self.controls["clip"].options = self._titled(self.clips.of_class(change["new"]))

    def _choose_clip(self, change) -> None:
        if change["new"] is not None:
            with self._told():
                self.choose(change["new"])
                self._draw(with_player=True)

    def _upload_file(self, change) -> None:
        if change["new"]:
            file = change["new"][0]
            with self._told():
                self.upload(bytes(file["content"]), file["name"])
                self._draw_own()
            self.controls["upload"].value = ()  # so that the same file can be chosen again

    def _open_path(self, change) -> None:
        if change["new"].strip():
            with self._told():
                self.open(change["new"].strip())
                self._draw_own()

    def _draw_own(self) -> None:
        """A sound of the user's own is shown: no clip of the list is."""
        if "clip" in self.controls:
            self.controls["clip"].value = None
        self._draw(with_player=True)

    def _change(self, change) -> None:
        with self._told():
            parts = self.controls
            self.first, self.second = parts["first"].value, parts["second"].value
            self.threshold, self.rows = parts["threshold"].value, parts["rows"].value
            self._draw()

    def _draw(self, with_player: bool = False) -> None:
        """Bring what is shown up to date."""
        parts = self.controls
        if self.sound is None:
            parts["message"].value = frontend.note("Upload a sound file, or give the path of one.")
            return
        if with_player:
            parts["player"].value = self._player()
        parts["picture"].value = frontend.png(self.figure())
        parts["events"].value = self._events_html()
        parts["message"].value = ""

    @contextmanager
    def _told(self):
        """Say that something is done, and what is wrong with what was chosen; what was shown before stays."""
        message = self.controls["message"]
        message.value = frontend.note("Listening …")
        try:
            yield
        except (PannsError, OSError, RuntimeError) as fault:
            message.value = frontend.note(str(fault), fault=True)
