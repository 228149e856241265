"""A class in all systems: its AP in each, and the clips that a system finds easy and hard, to listen to."""

from __future__ import annotations

import html

import numpy as np
import pandas as pd

from pannslib import audioset_runs, metrics, reference, results
from pannslib.errors import ModelError, ResultError
from pannslib.explorer import frontend, pictures
from pannslib.explorer.clips import RATE, EvaluationClips
from pannslib.explorer.rolls import finished_runs
from pannslib.report.artifacts import EVIDENCE
from pannslib.report.classes import FIGURE_12

# kinds of clips: whether they have the class, and whether the highest scores come first
KINDS = {
    "has it, highest scores": (True, True),
    "has it, lowest scores": (True, False),
    "lacks it, highest scores": (False, True),
}


class ResultsExplorer(frontend.Explorer):
    """Choose a class: see its AP across the trained systems, hear the best and worst clips of one of them."""

    def __init__(self, plan, label: str | None = None, system: str | None = None, shown: int = 3, draws: int = 1000):
        """Explore the AudioSet runs of a plan that have been trained.

        Args:
            plan: a `catalogue.Plan`.
            label: the class to begin with; None for the one with the most evaluation clips.
            system: whose clips are heard, by its title; None for the base run, or the first that is there.
            shown: clips of each kind.
            draws: bootstrap draws of the evaluation clips, for the intervals.

        Raises:
            ResultError: no run has been trained.
            ModelError: a class or system that there isn't; a number below 1.
        """
        if shown < 1 or draws < 1:
            raise ModelError(f"shown is {shown} and draws {draws}; both must be 1 or more.")
        there = finished_runs(plan)
        if not there:
            raise ResultError(
                f"No network has been trained with profile {plan.profile.name}. Train one: panns train --profile "
                f"{plan.profile.name}"
            )
        self.clips, self.shown, self.draws = EvaluationClips(plan), shown, draws
        self.runs = {result.title: name for name, result in there.items()}
        self.systems = {result.title: result for result in there.values()}
        first = next(iter(there.values()))
        self.labels = first.classes["label"].tolist()
        counts = first.targets.sum(0)
        self.label = label if label is not None else self.labels[int(counts.argmax())]
        base = there.get(audioset_runs.BASE, first)
        self.system = system if system is not None else base.title
        self._check()
        evidence = results.evidence_of(plan, audioset_runs.BASE)
        self.remark = f"{evidence}: {EVIDENCE[evidence]}."
        self._box = None

    def _check(self) -> None:
        if self.label not in self.labels:
            raise ModelError(f"There is no class {self.label!r}; there are {', '.join(self.labels[:10])}, ...")
        if self.system not in self.systems:
            raise ModelError(f"There is no system {self.system!r}; there are {', '.join(self.systems)}.")

    def choose(self, label: str | None = None, system: str | None = None) -> None:
        """Take another class, another system, or both; `ModelError` names those that there are."""
        before = self.label, self.system
        self.label, self.system = label or self.label, system or self.system
        try:
            self._check()
        except ModelError:
            self.label, self.system = before
            raise

    # --- what is shown -------------------------------------------------------------------------------------------

    def class_ap(self) -> pd.DataFrame:
        """The AP of the class in each system, the best first.

        Returns:
            Columns: system, run, AP, its 95 % interval over draws of the evaluation clips (nan where the class has no
            clip), AP published (Figure 12's, of the systems that it has), verdict of the training.
        """
        column = self.labels.index(self.label)
        printed = reference.classwise_ap().set_index("display_name")
        published = {run: name for name, run in FIGURE_12.values()}
        rows = []
        for title, result in self.systems.items():
            targets, scores = result.targets[:, [column]], result.scores[:, [column]]
            low = high = np.nan
            if targets.any():
                low, high = metrics.interval(metrics.bootstrap(targets, scores, self.draws)["ap"][:, 0])
            known = published.get(self.runs[title])
            rows.append(
                {
                    "system": title,
                    "run": self.runs[title],
                    "AP": float(metrics.average_precision(targets, scores)[0]),
                    "AP, 95 % low": low,
                    "AP, 95 % high": high,
                    "AP, published": float(printed[known].get(self.label, np.nan)) if known else np.nan,
                    "training": result.verdict,
                }
            )
        return pd.DataFrame(rows).sort_values("AP", ascending=False, kind="stable", ignore_index=True)

    def best_and_worst(self) -> pd.DataFrame:
        """Clips of the chosen system: the easiest and hardest that have the class, and the likeliest that lack it.

        Returns:
            Columns: class, system, clips (one of `KINDS`), rank (1 is the foremost of its kind), clip, probability,
            labels. No rows of a kind that there is no clip of.
        """
        result, column = self.systems[self.system], self.labels.index(self.label)
        scores, has = result.scores[:, column].astype(np.float64), result.targets[:, column]
        rows = []
        for kind, (positive, highest) in KINDS.items():
            places = np.flatnonzero(has == positive)
            order = places[np.argsort(-scores[places] if highest else scores[places], kind="stable")][: self.shown]
            for rank, place in enumerate(order, 1):
                rows.append(
                    {
                        "class": self.label,
                        "system": self.system,
                        "clips": kind,
                        "rank": rank,
                        "clip": result.clips[place],
                        "probability": float(1 / (1 + np.exp(-scores[place]))),
                        "labels": "; ".join(np.array(self.labels)[result.targets[place]]),
                    }
                )
        columns = ["class", "system", "clips", "rank", "clip", "probability", "labels"]
        return pd.DataFrame(rows, columns=columns)

    def figure(self):
        """The AP of the class in each system, a matplotlib figure."""
        count = int(self.systems[self.system].targets[:, self.labels.index(self.label)].sum())
        title = f"{self.label} ({count} evaluation clip{'s' if count != 1 else ''})"
        return pictures.systems(self.class_ap(), title, self.system)

    def still(self) -> list:
        """The picture, and the clips with their players."""
        from IPython.display import HTML, Image

        return [Image(frontend.png(self.figure())), HTML(self._clips_html())]

    def _clips_html(self) -> str:
        """A table of best and worst clips with a player each."""
        table = self.best_and_worst()
        heard = []
        for clip in table["clip"]:
            sound = self.clips.sound(clip)
            heard.append(frontend.player(sound.waveform, RATE, clip))
        table = table.assign(listen=heard)[["clips", "listen", "probability", "clip", "labels"]]
        table["clips"] = table["clips"].where(~table["clips"].duplicated(), "")
        title = f"<p style='margin:4px 0'><b>{html.escape(self.label)}</b> in {html.escape(self.system)}</p>"
        return (
            title + frontend.table_html(table, 3, raw=("listen",)) + frontend.note(f"{self._verdicts()}{self.remark}")
        )

    def _verdicts(self) -> str:
        """Which systems haven't learnt, in a sentence; none where all have."""
        kinds: dict[str, list[str]] = {}
        for title, result in self.systems.items():
            if result.verdict != "trained":
                kinds.setdefault(result.verdict, []).append(title)
        return "".join(f"Over all classes {kind}: {'; '.join(titles)}. " for kind, titles in kinds.items())

    # --- widgets -------------------------------------------------------------------------------------------------

    def widget(self):
        """The explorer as an ipywidgets box; its parts are in ``controls`` by name."""
        if self._box is None:
            self._box = self._build()
        return self._box

    def _build(self):
        import ipywidgets as widgets

        wide = {"style": {"description_width": "6em"}, "layout": widgets.Layout(width="430px")}
        self.controls = parts = {
            "label": widgets.Dropdown(options=self.labels, value=self.label, description="Class", **wide),
            "system": widgets.Dropdown(options=list(self.systems), value=self.system, description="System", **wide),
            "picture": widgets.Image(format="png", layout=widgets.Layout(width="950px", max_width="calc(100% - 4px)")),
            "clips": widgets.HTML(),
        }
        for name in ("label", "system"):
            parts[name].observe(self._change, "value")
        row = widgets.Layout(flex_flow="row wrap", align_items="center")
        choices = widgets.HBox([parts["label"], parts["system"]], layout=row)
        box = widgets.VBox([choices, parts["picture"], parts["clips"]])
        box.add_class("panns-results-explorer")
        self._draw()
        return box

    def _change(self, change) -> None:
        self.choose(self.controls["label"].value, self.controls["system"].value)
        self._draw()

    def _draw(self) -> None:
        """Bring what is shown up to date."""
        self.controls["picture"].value = frontend.png(self.figure())
        self.controls["clips"].value = self._clips_html()
