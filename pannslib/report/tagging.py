"""AudioSet tagging: Tables IV to XI and Figure 4, the paper's numbers and ours, and whether its findings show here.

Whether one system is better than another is judged on the same clips: both are scored on the same bootstrap draws of
the evaluation clips, and the differences of a draw are taken (a *paired* bootstrap). Their 95 % interval decides.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from pannslib import metrics, models, reference
from pannslib.audioset_runs import BASE, FIGURE_4, PAPER_ROWS
from pannslib.errors import ResultError
from pannslib.report.style import SYSTEM_COLOURS, VARIANT_COLOURS

TITLES = {
    4: "Table IV: earlier systems, and CNN14",
    5: "Table V: balancing and augmentation",
    6: "Table VI: hop of the log-mel spectrogram",
    7: "Table VII: size of the embedding",
    8: "Table VIII: part of the training data",
    9: "Table IX: sample rate",
    10: "Table X: mel bins",
    11: "Table XI: the architectures",
}
# the columns of `reference.table` that say what a row is -> how they are called
ROW_COLUMNS = {
    4: {"system": "system", "reference": "reference"},
    5: {"label": "CNN14 trained with"},
    6: {"hop_size_samples": "hop (samples)", "time_resolution_ms": "time resolution (ms)"},
    7: {"embedding_dimension": "embedding"},
    8: {"training_data_percent": "training data (%)"},
    9: {"sample_rate_khz": "sample rate (kHz)"},
    10: {"mel_bins": "mel bins"},
    11: {"architecture": "architecture"},
}
UNTRAINED = {"at chance": "is at chance", "hardly trained": "is hardly trained"}  # verdict -> how it is told
LINEAR, GUESS = "Linear classifier on the mean log-mel", "Random guess"
METRICS = {"map": "mAP", "mauc": "AUC", "d_prime": "d-prime"}  # ours -> how it is called
PUBLISHED = {"map": "map", "mauc": "auc", "d_prime": "d_prime"}  # ours -> the column of `reference.table`


@dataclass(frozen=True)
class Claim:
    """One thing that the paper finds in a table: one row's mAP is above another's.

    Attributes:
        table: its number.
        text: what is set against what.
        better, worse: the rows, by the first of their `ROW_COLUMNS`.
        rarest: the mAP is over the rarest third of the classes, for which the paper prints no number.
    """

    table: int
    text: str
    better: str | int
    worse: str | int
    rarest: bool = False


# of each table, the claim that its text rests on first
CLAIMS = (
    Claim(4, "CNN14 against a linear classifier", "CNN14", LINEAR),
    Claim(4, "CNN14 against a guess", "CNN14", GUESS),
    Claim(5, "balanced against uniform sampling", "bal,no-mixup (1.9m)", "no-bal,no-mixup (1.9m)"),
    Claim(5, "the same on the rarest third", "bal,no-mixup (1.9m)", "no-bal,no-mixup (1.9m)", rarest=True),
    Claim(5, "mixup against none", "bal,mixup (1.9m)", "bal,no-mixup (1.9m)"),
    Claim(5, "mixup against none on the small set", "bal,mixup (20k)", "bal,no-mixup (20k)"),
    Claim(5, "mixup of log-mels against mixup of waveforms", "bal,mixup (1.9m)", "bal,mixup-wav (1.9m)"),
    Claim(5, "the full against the small set", "bal,mixup (1.9m)", "bal,mixup (20k)"),
    Claim(6, "a hop of 320 against 1000 samples", 320, 1000),
    Claim(6, "a hop of 320 against 500 samples", 320, 500),
    Claim(7, "an embedding of 2048 against 32", 2048, 32),
    Claim(7, "2048 against 128", 2048, 128),
    Claim(7, "2048 against 512", 2048, 512),
    Claim(8, "all training clips against half of them", 100, 50),
    Claim(8, "all against four fifths", 100, 80),
    Claim(9, "32 against 8 kHz", 32, 8),
    Claim(9, "32 against 16 kHz", 32, 16),
    Claim(10, "128 against 32 mel bins", 128, 32),
    Claim(10, "128 against 64 mel bins", 128, 64),
    Claim(11, "CNN14 against the shallower CNN6", "CNN14", "CNN6"),
    Claim(11, "Wavegram-Logmel-CNN against CNN14", "Wavegram-Logmel-CNN", "CNN14"),
    Claim(11, "CNN14 against MobileNetV1", "CNN14", "MobileNetV1"),
    Claim(11, "CNN14 against Res1dNet31 on the waveform", "CNN14", "Res1dNet31"),
    Claim(11, "Wavegram-CNN against LeeNet24 on the waveform", "Wavegram-CNN", "LeeNet24"),
)


@dataclass(frozen=True, eq=False)
class System:
    """One row of ours: scores of the evaluation clips, and what the bootstrap says of them.

    Attributes:
        name: the run's, or `LINEAR` or `GUESS`.
        targets: bool (clips, classes).
        scores: (clips, classes).
        verdict: "trained", "hardly trained", "at chance" or "diverged".
        draws, seed: of the bootstrap; systems of equal ones are paired.
    """

    name: str
    targets: np.ndarray
    scores: np.ndarray
    verdict: str = "trained"
    draws: int = 1000
    seed: int = 0

    @cached_property
    def usable(self) -> bool:
        """Whether all scores are numbers: those of a diverged run may not be."""
        return bool(np.isfinite(self.scores).all())

    @cached_property
    def measured(self) -> dict:
        """map, mauc, d_prime, ap (classes,), auc (classes,); all nan where the scores are no numbers."""
        if self.usable:
            return metrics.evaluate(self.targets, self.scores)
        classes = np.full(self.targets.shape[1], np.nan)
        return {"map": np.nan, "mauc": np.nan, "d_prime": np.nan, "ap": classes, "auc": classes}

    @cached_property
    def bootstrap(self) -> dict:
        """map, mauc, d_prime (draws,) and ap (draws, classes) over draws of the evaluation clips."""
        if self.usable:
            return metrics.bootstrap(self.targets, self.scores, draws=self.draws, seed=self.seed)
        one = np.full(self.draws, np.nan)
        return {"map": one, "mauc": one, "d_prime": one, "ap": np.full((self.draws, self.targets.shape[1]), np.nan)}

    def mean_ap(self, classes: np.ndarray | None = None) -> tuple[float, np.ndarray]:
        """The mAP over some classes (indices; None: all), and the same of each draw (draws,)."""
        if classes is None:
            return float(self.measured["map"]), self.bootstrap["map"]
        return _mean(self.measured["ap"][classes][None])[0], _mean(self.bootstrap["ap"][:, classes])


def interval(value: float, draws: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of a measured ``value`` from its bootstrap draws (draws,); nan where there are none.

    A draw holds some clips twice, which raises an AP a little, the more the fewer positives a class has. So the draws
    are shifted until their mean is the measured value; infinite ones (d-primes) stay as they are.
    """
    finite = draws[~np.isnan(draws)]
    shift = value - finite.mean() if len(finite) and np.isfinite(finite).all() and np.isfinite(value) else 0.0
    return metrics.interval(draws + shift)


def _mean(values: np.ndarray) -> np.ndarray:
    """Means of the rows over what isn't nan; nan, without a warning, where nothing is left."""
    counts = np.isfinite(values).sum(1)
    return np.where(counts > 0, np.nansum(values, 1) / np.maximum(counts, 1), np.nan)


@dataclass(frozen=True, eq=False)
class Systems:
    """All systems that Tables IV to XI need, and the results of the runs behind them.

    Attributes:
        results: run -> its `training.TrainingResult`.
        linear: the `training.Baseline` of `training.linear_baseline`.
        evidence: where the numbers come from ("miniature", ...).
        draws: of the bootstrap.
    """

    results: dict
    linear: object
    evidence: str
    draws: int = 1000

    @cached_property
    def _systems(self) -> dict[str, System]:
        targets = self.results[BASE].targets
        guess = np.random.default_rng(0).random(targets.shape)
        systems = {
            LINEAR: System(LINEAR, self.linear.targets, self.linear.scores, draws=self.draws),
            GUESS: System(GUESS, targets, guess, verdict="at chance", draws=self.draws),
        }
        for name, result in self.results.items():
            systems[name] = System(name, result.targets, result.scores, result.verdict, self.draws)
        for name, system in systems.items():
            if not np.array_equal(system.targets, targets):
                raise ResultError(
                    f"{name} was evaluated on other clips than {BASE}, so the two can't be compared. Train both on the "
                    "same data: panns train, or make reproduce."
                )
        return systems

    def __getitem__(self, name: str) -> System:
        return self._systems[name]

    @cached_property
    def rarest_third(self) -> np.ndarray:
        """Indices of the third of the classes with the fewest training clips in the full set, (classes / 3,)."""
        clips = self.results[BASE].classes["training_clips"].to_numpy()
        return np.sort(np.argsort(clips, kind="stable")[: max(1, round(len(clips) / 3))])


def train(plan, tables: tuple[int, ...] = tuple(PAPER_ROWS)) -> dict:
    """Run -> `training.TrainingResult` of every run behind ``tables``; those that aren't there yet are trained."""
    from pannslib import training

    names = dict.fromkeys([BASE, *(name for table in tables for name in PAPER_ROWS[table])])
    return {name: training.run(plan, name) for name in names}


def collect(plan, draws: int = 1000, tables: tuple[int, ...] = tuple(PAPER_ROWS)) -> Systems:
    """The systems behind ``tables``: the runs, and the linear baseline, which is fitted anew.

    Args:
        plan: a `catalogue.Plan`.
        draws: of the bootstrap.
        tables: numbers from 5 to 11.
    """
    from pannslib import results, training

    return Systems(train(plan, tables), training.linear_baseline(plan), results.evidence_of(plan, BASE), draws)


# --- tables ----------------------------------------------------------------------------------------------------


def rows(number: int) -> dict[str | int, str | None]:
    """The rows of a table by the first of their `ROW_COLUMNS` -> our system behind each; None where there is none."""
    key = next(iter(ROW_COLUMNS[number]))
    labels = reference.table(number)[key]
    if number == 4:
        ours = {GUESS: GUESS, "CNN14": BASE}
        return {label: ours.get(label) for label in labels} | {LINEAR: LINEAR}
    return dict(zip(labels, PAPER_ROWS[number], strict=True))


def table(number: int, systems: Systems) -> pd.DataFrame:
    """One of Tables IV to XI: the paper's rows in its order, published numbers and ours in columns of their own.

    Ours are followed by the limits of their 95 % interval (bootstrap over the evaluation clips). A row that only the
    paper has, or only we, has the other's columns empty.
    """
    printed, columns = reference.table(number), ROW_COLUMNS[number]
    key = next(iter(columns))
    frame = []
    for label, name in rows(number).items():
        published = printed[printed[key] == label]
        row = {title: None if published.empty else published[column].iloc[0] for column, title in columns.items()}
        row[columns[key]] = label
        if number == 7:
            row["units here"] = _embedding_size(systems.results[name])
        for ours, title in METRICS.items():
            row[f"{title}, published"] = np.nan if published.empty else float(published[PUBLISHED[ours]].iloc[0])
            value, low, high = (np.nan,) * 3
            if name is not None:
                value = float(systems[name].measured[ours])
                low, high = interval(value, systems[name].bootstrap[ours])
            row |= {f"{title}, ours": value, f"{title}, 95 % low": low, f"{title}, 95 % high": high}
        row["our run"] = name if name in PAPER_ROWS[11] or name in systems.results else ""
        row["it is"] = systems[name].verdict if name in systems.results else ""
        frame.append(row)
    return pd.DataFrame(frame)


def _embedding_size(result) -> int:
    """How many units the embedding of a run's network has, which go with its width."""
    return models.registry.skeleton(result.settings.architecture, width=result.settings.width).embedding_size


def caption(number: int, systems: Systems) -> str:
    """What a table holds, in two sentences."""
    clips, classes = systems[BASE].targets.shape
    extra = {
        4: " The earlier systems are published only; the last row is ours only.",
        7: " Embeddings go with the width of the network: *units here* says how many ours have.",
    }.get(number, "")
    return (
        f"The paper's rows in its order; ours are *{systems.evidence}*, on {clips:,} evaluation clips of {classes} "
        f"classes, with 95 % intervals over {systems.draws:,} bootstrap draws of the clips.{extra}"
    )


def rarest_third(systems: Systems) -> pd.DataFrame:
    """Balancing and mixup on the rarest third of the classes, beside the others: a row a run on the full set."""
    rare = systems.rarest_third
    common = np.setdiff1d(np.arange(systems[BASE].targets.shape[1]), rare)
    frame = []
    for label, name in rows(5).items():
        if not label.endswith("(1.9m)"):
            continue
        row = {"CNN14 trained with": label}
        for title, classes in (("rarest third", rare), ("other classes", common)):
            value, draws = systems[name].mean_ap(classes)
            low, high = interval(value, draws)
            row |= {f"mAP, {title}": value, f"{title}, 95 % low": low, f"{title}, 95 % high": high}
        frame.append(row | {"our run": name})
    return pd.DataFrame(frame)


# --- does it show? ---------------------------------------------------------------------------------------------


def findings(systems: Systems, number: int | None = None) -> pd.DataFrame:
    """The paper's findings in a table (or in all), judged on our systems: a row a claim.

    Returns:
        Columns: table, finding, better, worse, published (difference of mAP), ours, low, high (95 % interval of the
        paired differences), shows ("yes", "no" or "can't tell"), because (a remark: why it can't be told, or "").
    """
    frame = []
    for claim in CLAIMS:
        if number not in (None, claim.table) or claim.table not in ROW_COLUMNS:
            continue
        names = rows(claim.table)
        pair = [systems[names[label]] for label in (claim.better, claim.worse)]
        classes = systems.rarest_third if claim.rarest else None
        values = [system.mean_ap(classes) for system in pair]
        difference = values[0][0] - values[1][0]
        low, high = interval(difference, values[0][1] - values[1][1])
        shows, because = _verdict(low, high, pair, claim.table)
        frame.append(
            {
                "table": claim.table,
                "finding": claim.text,
                "better": str(claim.better),
                "worse": str(claim.worse),
                "published": np.nan if claim.rarest else _published_difference(claim),
                "ours": difference,
                "low": low,
                "high": high,
                "shows": shows,
                "because": because,
            }
        )
    return pd.DataFrame(frame)


def _published_difference(claim: Claim) -> float:
    """The difference of the published mAPs, to the printed digits; nan where a row isn't the paper's."""
    maps = reference.table(claim.table).set_index(next(iter(ROW_COLUMNS[claim.table])))["map"]
    if not {claim.better, claim.worse} <= set(maps.index):
        return float("nan")
    return round(float(maps[claim.better] - maps[claim.worse]), 3)


def _verdict(low: float, high: float, pair: list[System], table: int) -> tuple[str, str]:
    """Yes where the whole interval is above 0, no where it is below; and a remark, if there is one.

    A network that diverged tells nothing, nor does a better one that stayed at chance or hardly learnt. A worse one
    tells something of data and sampling, but nothing of its architecture: another rate might have trained it.
    """
    better, worse = ("trained" if system.name in (LINEAR, GUESS) else system.verdict for system in pair)
    failed = [
        system
        for system, verdict in zip(pair, (better, worse), strict=True)
        if verdict == "diverged" or (verdict in UNTRAINED and (system is pair[0] or table == 11))
    ]
    if failed:
        return "can't tell", f"{failed[0].name} {UNTRAINED.get(failed[0].verdict, failed[0].verdict)}"
    if np.isnan([low, high]).any():
        return "can't tell", "there is no interval"
    remark = f"{pair[1].name} {UNTRAINED[worse]}" if worse in UNTRAINED else ""
    return ("yes" if low > 0 else "no" if high < 0 else "can't tell"), remark


def sentence(number: int, systems: Systems) -> str:
    """One plain sentence: does what the paper finds in this table show at this size?"""
    told = {"yes": [], "no": [], "can't tell": []}
    for row in findings(systems, number).itertuples():
        ours = "no number" if np.isnan(row.low) else f"{row.ours:+.3f} mAP, {row.low:+.3f} to {row.high:+.3f}"
        paper = "" if np.isnan(row.published) else f"; in the paper {row.published:+.3f}"
        told[row.shows].append(f"{row.finding} ({ours}{paper}{'; ' + row.because if row.because else ''})")
    parts = [f"**{answer[0].upper()}{answer[1:]}** for {', '.join(items)}" for answer, items in told.items() if items]
    intervals = "differences of mAP with 95 % intervals"
    return f"Does the paper's finding show at this size ({systems.evidence}; {intervals})? {'; '.join(parts)}."


# --- Figure 4 --------------------------------------------------------------------------------------------------

PANELS = {
    "a": "Architectures",
    "b": "Balancing and augmentation",
    "c": "Size of the embedding",
    "d": "Part of the training data",
    "e": "Sample rate",
    "f": "Mel bins",
}


def figure_4_frame(systems: Systems) -> pd.DataFrame:
    """Figure 4 as numbers: panel, series, label, split ("train" or "eval"), source, run, iteration, map.

    "train" is the mAP on the balanced training set. The published curves are those that the paper's axes show.
    """
    series = reference.training_curve_series().drop_duplicates(["panel", "series"])
    labels = series.set_index(["panel", "series"])["legend_label"]
    published = reference.training_curves()
    published = published[published["inside_axes"] == 1]
    parts = [published.assign(source="published", run="")]
    for (panel, name), run in FIGURE_4.items():
        curve = systems.results[run].curve
        split = curve["split"].map({"balanced_train": "train", "eval": "eval"})
        own = curve[["iteration", "map"]].assign(panel=panel, series=name, split=split, source="ours", run=run)
        parts.append(own)
    frame = pd.concat(parts, ignore_index=True)
    keys = pd.MultiIndex.from_frame(frame[["panel", "series"]])
    frame["label"] = [label.replace("cnn14", "CNN14").replace("CNN14,", "") for label in labels.reindex(keys)]
    return frame[["panel", "series", "label", "split", "source", "run", "iteration", "map"]]


def figure_4(frame: pd.DataFrame, evidence: str):
    """Figure 4: six panels, our curves over the paper's; returns the matplotlib figure.

    The paper's iterations are on the lower axis and ours on the upper one, so that both trainings end at the right.

    Args:
        frame: what `figure_4_frame` made.
        evidence: where ours come from, for the legend.
    """
    import matplotlib.pyplot as plt
    from matplotlib.lines import Line2D

    # placed by hand: no layout engine keeps two axes of iterations and a legend below clear of the next panel
    figure, axes = plt.subplots(3, 2, figsize=(10, 14), layout="none")
    figure.subplots_adjust(left=0.065, right=0.965, top=0.9, bottom=0.075, hspace=0.72, wspace=0.17)
    ends = {source: part["iteration"].max() for source, part in frame.groupby("source")}
    top = max(0.8, 1.05 * frame["map"].max())
    for ax, (panel, part) in zip(axes.flat, frame.groupby("panel"), strict=True):
        ours = ax.twiny()
        handles = []
        for series, colour in _series_colours(part).items():
            own = part[part["series"] == series]
            for (source, split), curve in own.groupby(["source", "split"]):
                _curve(ours if source == "ours" else ax, curve, source, split, colour)
            handles.append(Line2D([], [], color=colour, linewidth=2.5, label=own["label"].iloc[0].strip()))
        ax.set(xlim=(0, ends["published"] / 1e3), ylim=(0, top), xlabel="Iterations of the paper (thousands)")
        ax.set_ylabel("mAP")
        ours.set(xlim=(0, ends["ours"]), xlabel="Iterations here")
        ours.spines["top"].set_visible(True)
        ours.grid(False)
        ours.set_title(f"({panel}) {PANELS[panel]}", pad=8)
        ax.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, -0.19), ncols=2, fontsize=9.5)
    styles = [
        Line2D([], [], color="0.35", linewidth=1, alpha=0.9, label="published, evaluation"),
        Line2D([], [], color="0.35", linewidth=1, linestyle=":", label="published, balanced training set"),
        Line2D([], [], color="0.35", linewidth=2.6, marker="o", markersize=5, label=f"ours ({evidence}), evaluation"),
        Line2D([], [], color="0.35", linewidth=2, linestyle="--", label="ours, balanced training set"),
    ]
    figure.legend(handles=styles, loc="upper center", ncols=2, fontsize=10)
    return figure


def _series_colours(part: pd.DataFrame) -> dict[str, str]:
    """A colour a series of a panel: the systems' own, the base's for CNN14 as it is, others in their order."""
    variants = iter(VARIANT_COLOURS)
    colours = {}
    for series, own in part.groupby("series", sort=False):
        run = own.loc[own["source"] == "ours", "run"].max()
        label = own["label"].iloc[0].strip()
        colours[series] = SYSTEM_COLOURS.get("CNN14" if run == BASE else label) or next(variants)
    return colours


def _curve(ax, curve: pd.DataFrame, source: str, split: str, colour: str) -> None:
    """One line: thin and pale for the paper's, strong for ours; broken on the training set."""
    if source == "published":
        style = {"linewidth": 1, "alpha": 0.75, "linestyle": "-" if split == "eval" else ":", "zorder": 2}
        ax.plot(curve["iteration"] / 1e3, curve["map"], color=colour, **style)
    else:
        evaluated = split == "eval"
        style = {"linewidth": 2.6 if evaluated else 2, "linestyle": "-" if evaluated else "--", "zorder": 4}
        ax.plot(curve["iteration"], curve["map"], color=colour, marker="o", markersize=5 if evaluated else 3, **style)


def figure_4_sentence(frame: pd.DataFrame) -> str:
    """In how many panels the last evaluations of ours stand in the paper's order, and how far training runs ahead."""
    last = frame[frame["split"] == "eval"].sort_values("iteration").groupby(["panel", "series", "source"])["map"].last()
    wide = last.unstack("source")
    agreements = {
        panel: part["published"].corr(part["ours"], method="kendall") for panel, part in wide.groupby(level="panel")
    }
    same = [panel for panel, value in agreements.items() if value == 1]
    gaps = frame.sort_values("iteration").groupby(["panel", "series", "source", "split"])["map"].last().unstack("split")
    gap = (gaps["train"] - gaps["eval"]).groupby(level="source").mean()
    return (
        f"At their ends our curves stand in the paper's order in {len(same)} of {len(agreements)} panels"
        f"{' (' + ', '.join(same) + ')' if same else ''}; near ties are a matter of chance, so the tables above judge. "
        f"The training set is ahead of the evaluation set by {gap['published']:.2f} mAP in the paper and by "
        f"{gap['ours']:.2f} here, on average over the curves."
    )
