"""The transfer tasks on paper: tables, figures and sentences of one task, and of all six side by side."""

import numpy as np
import pandas as pd

from pannslib import catalogue, transfer
from pannslib.report.artifacts import EVIDENCE
from pannslib.report.style import STRATEGY_COLOURS

NUMERALS = {13: "XIII", 14: "XIV", 15: "XV", 16: "XVI", 17: "XVII", 18: "XVIII"}
TITLES = {name: strategy.title for name, strategy in transfer.STRATEGIES.items()}
SIZES = {
    "real": "the whole data set",
    "partial": "a part of the data set: real recordings, but not all of them",
    "miniature": "a miniature: synthetic sound in the official layout, not to be compared with the paper's numbers",
}
# what is said of a task before its table: what is to be told apart, and by what
ABOUT = {
    "esc50": "Short environmental sounds, one a clip: animals, weather, people without speech, the home, the street.",
    "dcase2019_task1a": "Where was this recorded? Ten seconds of an airport, a park, a tram: an acoustic scene is a "
    "mixture of many sounds, and no single one of them names it.",
    "dcase2018_task2": "Sounds of Freesound with one of 41 labels, from a third of a second to half a minute long. A "
    "prediction is a ranking: the right label counts in full in the first place, a half in the second, a third in the "
    "third.",
    "msos": "Is it nature, people, music, an effect or the city? Five wide categories, each of many kinds of sound.",
    "gtzan": "Which genre is this music? Rhythm and timbre over half a minute tell, not a single event.",
    "ravdess": "Which emotion is in the voice? The actors say the same two sentences in all of them, so that only how "
    "they say it differs.",
}


# --- what the task is ------------------------------------------------------------------------------------------


def about(dataset, packed, task: str) -> str:
    """What a transfer task is and how much of it there is.

    Args:
        dataset: the task's `datasets.Dataset`.
        packed: its `PackedClips`.
        task: name in `catalogue.TRANSFER_TASKS`.
    """
    facts, clips = catalogue.TRANSFER_TASKS[task], transfer.Clips.of(packed)
    report = packed.clips_report
    seconds, rejected = report["seconds"], int((report["status"] != "ok").sum())
    low, high = f"{seconds.min():.1f}", f"{seconds.max():.1f}"
    segments = len(packed.names) - len(clips.names)
    length = (
        f"Longer clips are {len(packed.names):,} segments of {packed.seconds:g} s; a clip's segments stay together, "
        "each is learnt from with the clip's label, and the mean of their probabilities is the clip's."
        if segments
        else f"Each clip is cut or padded to {packed.seconds:g} s."
    )
    lines = [
        f"**{facts.title}.** {ABOUT[task]}",
        f"{len(clips.names):,} clips of {low if low == high else f'{low} to {high}'} s in {len(clips.classes)} classes "
        f"({', '.join(clips.classes)}); {facts.protocol}.",
        f"This is {SIZES[packed.evidence]} ({len(clips.names):,} of {dataset.expected_clips:,} clips). {length}",
    ]
    if rejected:
        lines.append(f"{rejected} clips can't be used and are left out; `02_data` lists them.")
    return "\n\n".join([*lines, *dataset.notes])


def examples(packed, classes: int = 4) -> pd.DataFrame:
    """A clip each of some classes, spread over all of them: a row each with row (of the packed file), class, clip."""
    chosen = np.unique(np.linspace(0, len(packed.classes) - 1, min(classes, len(packed.classes))).round().astype(int))
    first = [int(packed.targets[:, column].argmax()) for column in chosen]
    return pd.DataFrame(
        {"row": first, "class": [packed.classes[i] for i in chosen], "clip": [packed.names[row] for row in first]}
    )


def excerpt(packed, row: int, seconds: float = 2.0) -> np.ndarray:
    """The loudest part of a packed row, float32 (samples,), to listen to: recordings often begin with silence."""
    waveform = packed.read([row])[0]
    length = min(len(waveform), int(seconds * packed.sample_rate))
    energy = np.cumsum(np.concatenate([[0], np.square(waveform, dtype=np.float64)]))
    start = int(np.argmax(energy[length:] - energy[:-length]))
    return waveform[start : start + length]


def log_mels(packed, shown: pd.DataFrame):
    """The log-mel spectrograms of some clips side by side, one scale for all, and their numbers.

    Args:
        packed: `datasets.PackedClips`.
        shown: of `examples`.

    Returns:
        The matplotlib figure, and a frame with a row a clip and frame: class, clip, time_s, mel_0 (dB), ...
    """
    import matplotlib.pyplot as plt
    import torch

    from pannslib import features
    from pannslib.report.plots import log_mel_frame

    front_end = features.FRONT_ENDS[packed.sample_rate]
    with torch.no_grad():
        waveforms = torch.from_numpy(packed.read(shown["row"].to_numpy()))
        images = features.LogMel(front_end)(waveforms)[:, 0].numpy()  # (clips, frames, mel_bins)
    size = (1 + 1.8 * len(shown), 2.9)
    figure, axes = plt.subplots(1, len(shown), sharey=True, figsize=size, squeeze=False)
    top, parts = images.max(), []
    for ax, image, row in zip(axes[0], images, shown.itertuples(index=False), strict=True):
        extent = (0, image.shape[0] * front_end.hop / front_end.sample_rate, -0.5, image.shape[1] - 0.5)
        drawn = ax.imshow(image.T, origin="lower", aspect="auto", extent=extent, vmin=top - 80, vmax=top)
        ax.set_title(_wrapped(row[1]), fontsize=9)
        ax.set(xlabel="Time (s)", xlim=(0, packed.seconds))
        ax.grid(False)
        frame = log_mel_frame(image, front_end.sample_rate, front_end.hop)
        parts.append(pd.concat([pd.DataFrame({"class": [row[1]] * len(frame), "clip": row[2]}), frame], axis=1))
    axes[0, 0].set_ylabel("Mel bin")
    figure.colorbar(drawn, ax=axes, label="Log-mel (dB)", pad=0.01)
    return figure, pd.concat(parts, ignore_index=True)


def _wrapped(name: str) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(str(name).replace("_", " "), 18))


# --- one task --------------------------------------------------------------------------------------------------


def title(task: str) -> str:
    """How the table of a transfer task is called, with the paper's number in Roman figures."""
    facts = catalogue.TRANSFER_TASKS[task]
    return f"Table {NUMERALS[facts.table]}: {transfer.METRICS[facts.metric].title} on {facts.title}"


def table(result: "transfer.TransferResult", task: str) -> pd.DataFrame:
    """One of Tables XIII to XVIII: a row a system, the paper's number and ours in columns of their own.

    The paper's first row is the best earlier system; it has no counterpart here.
    """
    ours = result.summary().set_index("strategy")
    clips = result.predictions.groupby("strategy")["clip"].nunique()
    rows = []
    for row in transfer.published(task).itertuples():
        there = row.strategy in ours.index
        rows.append(
            {
                "system": TITLES.get(row.strategy, f"Best earlier system {row.reference}"),
                "strategy": row.strategy,
                "metric": row.metric,
                "published": row.value,
                "ours": ours.loc[row.strategy, "value"] if there else None,
                "ours, 95 % low": ours.loc[row.strategy, "low"] if there else None,
                "ours, 95 % high": ours.loc[row.strategy, "high"] if there else None,
                "evidence of ours": result.evidence if there else "",
                "test clips": int(clips[row.strategy]) if there else None,
                "folds": int(ours.loc[row.strategy, "folds"]) if there else None,
            }
        )
    return pd.DataFrame(rows).astype({"test clips": "Int64", "folds": "Int64"})


def divisions(result: "transfer.TransferResult") -> pd.DataFrame:
    """A row a tested fold (or split): clips and groups (recordings, actors, artists) on both sides."""
    return pd.DataFrame(transfer.sizes(result.splits, result.clips))


def classes(result: "transfer.TransferResult") -> pd.DataFrame:
    """Accuracy on each class, a column a strategy, the hardest for the best strategy first."""
    frame = result.per_class().sort_values(result.best(), kind="stable", ignore_index=True)
    return frame.rename(columns=TITLES)


def interval(result: "transfer.TransferResult") -> str:
    """What the interval of a result is of."""
    return "folds" if len(result.splits) > 1 else "test clips"


def spread(result: "transfer.TransferResult", published: dict[str, float], ax):
    """The metric on every fold (points), its mean (bar) with the interval, and the paper's number, a row a strategy.

    Args:
        published: strategy -> the paper's number, on the whole real data set; nothing where there is none.
    """
    names, folds, summary = result.strategies, result.folds(), result.summary().set_index("strategy")
    for row, name in enumerate(names):
        values = folds.loc[folds["strategy"] == name, "value"].to_numpy()
        height, colour = len(names) - 1 - row, STRATEGY_COLOURS[name]
        mean, low, high = summary.loc[name, ["value", "low", "high"]].astype(float)
        ax.barh(height, mean, height=0.5, color=colour, alpha=0.35)
        if np.isfinite(low):
            label = f"95 % interval over the {interval(result)}" if not row else None
            ax.plot((low, high), (height, height), color=colour, linewidth=2, solid_capstyle="butt", label=label)
        if len(values) > 1:
            jitter = np.linspace(-0.13, 0.13, len(values)) + height
            ax.scatter(values, jitter, s=22, color=colour, zorder=3, label="a fold" if not row else None)
        if name in published:
            label = "published, on the whole real data set" if not row else None
            style = {"marker": "D", "s": 42, "facecolor": "white", "edgecolor": "black", "zorder": 2.5}
            ax.scatter(published[name], height, label=label, **style)
    ax.axvline(result.chance, color="0.5", linestyle="--", linewidth=1, label="chance")
    ax.set_yticks(range(len(names) - 1, -1, -1), [TITLES[name] for name in names])
    ax.set(xlabel=f"{result.metric.title} on the test clips", xlim=(0, 1.02), ylim=(-0.6, len(names) - 0.4))
    ax.grid(False, axis="y")
    ax.figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return ax


def few_shot(curve: "transfer.FewShotResult", ax, task: str | None = None):
    """One of Figures 6 to 11: the metric against training clips a class, on a logarithmic axis, a line a strategy.

    The band is the 95 % interval over the draws; the square is the point of all training clips, whose band is the
    table's. With a ``task`` the ticks are the paper's, and its table's values open diamonds at the last, "all".
    """
    frame = curve.summary()
    ax.set_xscale("log")
    for strategy, part in frame.groupby("strategy", sort=False):
        colour = STRATEGY_COLOURS[strategy]
        x = part["clips_per_class"]
        ax.plot(x, part["value"], marker="o", markersize=4, color=colour, label=TITLES[strategy])
        ax.fill_between(x, part["low"], part["high"], color=colour, alpha=0.18, linewidth=0)
        every = part[part["all"]]
        ax.plot(every["clips_per_class"], every["value"], marker="s", markersize=8, color=colour, linestyle="none")
    ax.plot([], [], marker="s", markersize=8, color="0.4", linestyle="none", label="all training clips here")
    ax.axhline(curve.chance, color="0.5", linestyle="--", linewidth=1, label="chance")
    ticks = sorted(set(frame["shots"]) - {0})
    labels = [str(tick) for tick in ticks]
    if task is not None:
        axis = transfer.published_axis(task)
        ticks = axis["training_clips_per_class"].tolist()
        labels = [f"{row.training_clips_per_class}{' (all)' * row.is_all}" for row in axis.itertuples()]
        paper = transfer.published(task).set_index("strategy")["value"]
        for position, strategy in enumerate(frame["strategy"].unique()):
            label = "published, all clips (table)" if not position else None
            ax.scatter(ticks[-1], paper[strategy], marker="D", s=42, facecolor="white", zorder=3, label=label,
                       edgecolor=STRATEGY_COLOURS[strategy], linewidth=1.6)  # fmt: skip
    ax.set_xticks(ticks, labels)
    ax.minorticks_off()
    right = max(ticks[-1], frame["clips_per_class"].max())
    left = min(ticks[0], frame["clips_per_class"].min())
    ax.set(xlabel="Training clips a class", ylabel=curve.metric.title, ylim=(0, 1.02))
    ax.set_xlim(left / 1.15, right * 1.25)
    ax.figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return ax


def reading(result: "transfer.TransferResult", task: str) -> str:
    """Which strategy wins here, which in the paper, and what must not be compared."""
    summary = result.summary().set_index("strategy")
    ours = summary["value"].sort_values(ascending=False)
    paper = transfer.published(task).set_index("strategy")["value"].reindex(ours.index).sort_values(ascending=False)

    def ranked(values: pd.Series) -> str:
        return ", ".join(f"{TITLES[name].lower()} {value:.3f}" for name, value in values.items())

    gain = ours["fine_tune"] - ours["scratch"]
    return (
        f"Here: {ranked(ours)}; a guess would reach {result.chance:.3f}. In the paper: {ranked(paper)}.\n\n"
        f"Fine-tuning {_verdict(summary, 'fine_tune')} against training from scratch here ({gain:+.3f}); in the paper "
        f"it is {paper['fine_tune'] - paper['scratch']:+.3f}. Our numbers are *{result.evidence}*: "
        f"{EVIDENCE[result.evidence]}."
    )


def _verdict(summary: pd.DataFrame, strategy: str) -> str:
    """Whether a strategy's interval is apart from that of training from scratch."""
    if summary.loc[strategy, "low"] > summary.loc["scratch", "high"]:
        return "helps clearly (the intervals are apart)"
    if summary.loc[strategy, "high"] < summary.loc["scratch", "low"]:
        return "clearly does harm (the intervals are apart)"
    return "makes no clear difference (the intervals overlap)"


def fewest(curve: "transfer.FewShotResult") -> pd.Series:
    """What every strategy reaches at the fewest clips a class: strategy -> mean over the draws."""
    frame = curve.summary()
    return frame[(frame["shots"] == curve.fewest())].set_index("strategy")["value"]


def reading_few(curve: "transfer.FewShotResult") -> str:
    """Whether what is pretrained beats training from scratch at the fewest clips a class; what was left out."""
    values, shots = fewest(curve), curve.fewest()
    told = ", ".join(f"{TITLES[name].lower()} {value:.3f}" for name, value in values.items())
    where = f"all {curve.draws['clips_per_class'].mean():.0f} clips" if not shots else f"{shots} clips"
    lines = [f"With {where} a class: {told}; a guess would reach {curve.chance:.3f}."]
    if "scratch" in values:
        better = [TITLES[name].lower() for name in values.index if values[name] > values["scratch"]]
        worse = [TITLES[n].lower() for n in values.index if n != "scratch" and values[n] <= values["scratch"]]
        if better:
            verb = "beats" if len(better) == 1 else "beat"
            lines.append(f"There, {' and '.join(better)} {verb} training from scratch.")
        if worse:
            verb = "does" if len(worse) == 1 else "do"
            lines.append(f"**There, {' and '.join(worse)} {verb} not beat training from scratch.**")
    return " ".join([*lines, *curve.notes])


# --- across tasks ----------------------------------------------------------------------------------------------


def compared(results: dict, curves: dict) -> pd.DataFrame:
    """Which strategy wins where: a row a task, the paper's findings and ours in columns of their own.

    Args:
        results: task -> `transfer.TransferResult`.
        curves: task -> `transfer.FewShotResult`.
    """
    rows = []
    for task, result in results.items():
        facts = catalogue.TRANSFER_TASKS[task]
        paper = transfer.published(task).set_index("strategy")["value"].drop("stoa")
        ours = result.summary().set_index("strategy")["value"]
        few = fewest(curves[task])
        rows.append(
            {
                "task": facts.title,
                "metric": result.metric.title,
                "evidence of ours": result.evidence,
                "test clips": int(result.predictions["clip"].nunique()),
                "best, published": TITLES[paper.idxmax()],
                "best, ours": TITLES[ours.idxmax()],
                "fine-tune - scratch, published": paper["fine_tune"] - paper["scratch"],
                "fine-tune - scratch, ours": ours["fine_tune"] - ours["scratch"],
                "best frozen - scratch, published": paper[["freeze_l1", "freeze_l3"]].max() - paper["scratch"],
                "best frozen - scratch, ours": ours[["freeze_l1", "freeze_l3"]].max() - ours["scratch"],
                "three layers - one, published": paper["freeze_l3"] - paper["freeze_l1"],
                "three layers - one, ours": ours["freeze_l3"] - ours["freeze_l1"],
                "fewest clips a class": curves[task].fewest(),
                "best at the fewest, ours": TITLES[few.idxmax()],
                "best pretrained - scratch at the fewest, ours": few.drop("scratch").max() - few["scratch"],
            }
        )
    return pd.DataFrame(rows)


def gains(frame: pd.DataFrame, axes):
    """What pretraining brings on each task, in the paper (open diamonds) and here (filled), a panel a strategy.

    Args:
        frame: of `compared`.
        axes: two matplotlib axes beside each other.
    """
    places = np.arange(len(frame))[::-1]
    for ax, key, strategy, text in (
        (axes[0], "fine-tune - scratch", "fine_tune", "Fine-tune against from scratch"),
        (axes[1], "best frozen - scratch", "freeze_l3", "Best frozen against from scratch"),
    ):
        published, ours = frame[f"{key}, published"], frame[f"{key}, ours"]
        colour = STRATEGY_COLOURS[strategy]
        ax.axvline(0, color="0.5", linewidth=1)
        ax.hlines(places, published, ours, color="0.8", linewidth=1.5)
        style = {"marker": "D", "s": 42, "facecolor": "white", "edgecolor": "black", "zorder": 3}
        ax.scatter(published, places, label="published, whole real data", **style)
        for evidence, marker in (("reproduced", "o"), ("partial", "^"), ("miniature", "o")):
            rows = (frame["evidence of ours"] == evidence).to_numpy()
            if rows.any():
                face = colour if evidence != "miniature" else "0.55"
                ax.scatter(
                    ours[rows], places[rows], s=46, marker=marker, color=face, zorder=4, label=f"ours, {evidence}"
                )
        ax.set(title=text, xlabel="Difference of the metric", ylim=(-0.6, len(frame) - 0.4))
        ax.grid(False, axis="y")
    axes[0].set_yticks(places, frame["task"])
    axes[1].tick_params(axis="y", labelleft=False)
    handles = {label: handle for ax in axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    axes[0].figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles))
    return axes


def reading_compared(frame: pd.DataFrame) -> str:
    """The paper's findings across the tasks, and in how many tasks each holds here."""

    def count(column: str, of: str) -> str:
        values = frame.set_index("task")[f"{column}, {of}"]
        kept = values[values > 0]
        names = "" if len(kept) in (0, len(values)) else f" ({', '.join(kept.index)})"
        return f"{len(kept)} of {len(values)} tasks{names}"

    def told(text: str, column: str) -> str:
        return f"- {text}: in the paper on {count(column, 'published')}, here on {count(column, 'ours')}."

    same = frame.loc[frame["best, published"] == frame["best, ours"], "task"].tolist()
    lost = frame.loc[frame["best pretrained - scratch at the fewest, ours"] <= 0, "task"].tolist()
    shots = ", ".join(map(str, sorted(set(frame["fewest clips a class"]))))
    kinds = frame.groupby("evidence of ours", sort=False)["task"].agg(", ".join)
    lines = [
        told("Fine-tuning beats training from scratch", "fine-tune - scratch"),
        told("A frozen network beats training from scratch", "best frozen - scratch"),
        told("Three layers on the frozen embedding beat one", "three layers - one"),
        f"- The same strategy is best here and in the paper on {len(same)} of {len(frame)} tasks"
        + (f" ({', '.join(same)})." if same else "."),
        f"- At the fewest clips a class ({shots}), the best pretrained strategy beats training from scratch on "
        f"{len(frame) - len(lost)} of {len(frame)} tasks here"
        + (f"; not on {', '.join(lost)}. " if lost else ". ")
        + "The paper says so of the frozen network on ESC-50 and GTZAN, below ten clips a class (VI-D1, VI-D5).",
    ]
    origin = "; ".join(f"*{kind}*: {names}" for kind, names in kinds.items())
    end = f"Ours are {origin}. Whether a difference is clear its task's notebook says, with the intervals."
    return "\n".join(lines) + f"\n\n{end}"


def weakest(results: dict) -> str:
    """The evidence of what rests on all of some results: that of the weakest."""
    kinds = {result.evidence for result in results.values()}
    return next(kind for kind in ("miniature", "partial", "reproduced") if kind in kinds)
