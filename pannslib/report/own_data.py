"""One's own data on paper: what they are, the strategies side by side, the classes, the mistakes."""

import numpy as np
import pandas as pd

from pannslib import own_data, transfer
from pannslib.report import plots
from pannslib.report.style import STRATEGY_COLOURS
from pannslib.report.transfer import TITLES, interval

SHOWN_CLASSES = 40  # more are not legible in one figure


def about(plan: own_data.OwnPlan, packed) -> str:
    """How much there is, what became of clips that cannot be used, and every note of the checks."""
    dataset, clips = plan.dataset(own_data.TASK), transfer.Clips.of(packed)
    report = packed.clips_report
    good = report[report["status"] == "ok"]
    rejected = report[report["status"] != "ok"]
    rates = ", ".join(f"{rate / 1000:g}" for rate in sorted(good["sample_rate"].dropna().unique()))
    longer = int((good["seconds"] > 1.01 * packed.seconds).sum())
    low, high = good["seconds"].min(), good["seconds"].max()
    cut = "cut into segments of" if len(packed.names) > len(clips.names) else "cut to"
    lines = [
        f"**{dataset.title}.** {len(clips.names):,} clips of {low:.1f} to {high:.1f} s, {rates} kHz, in "
        f"{len(clips.classes)} classes and {len(set(clips.groups)):,} groups. Each is padded to {packed.seconds:g} s; "
        f"{f'{longer:,} that are longer are {cut} it' if longer else 'none is longer'}. There is "
        f"{'one label' if clips.single_label else 'more than one label'} a clip: "
        f"{'accuracy' if clips.single_label else 'mean average precision'} is measured."
    ]
    if len(rejected):
        lines.append(f"**{len(rejected):,} clips can't be used and are left out:**")
        lines += [f"- {reason}" for reason in rejected["reason"].head(5)]
        if len(rejected) > 5:
            lines.append(f"- and {len(rejected) - 5:,} more, in `{packed.report_path.name}`")
    return "\n\n".join(lines) + "".join(f"\n\n- {note}" for note in dataset.notes)


def table(result: "transfer.TransferResult") -> pd.DataFrame:
    """A row a strategy: the metric's mean over the folds with its 95 % interval."""
    summary = result.summary()
    clips = result.predictions.groupby("strategy")["clip"].nunique()
    return pd.DataFrame(
        {
            "strategy": [TITLES[name] for name in summary["strategy"]],
            "metric": result.metric.title,
            "ours": summary["value"],
            "ours, 95 % low": summary["low"],
            "ours, 95 % high": summary["high"],
            "chance": result.chance,
            "evidence of ours": result.evidence,
            "test clips": [int(clips[name]) for name in summary["strategy"]],
            "folds": summary["folds"],
        }
    )


def classes(result: "transfer.TransferResult", strategy: str):
    """What a strategy makes of each class: the figure and its numbers.

    Where a clip has one class it is the confusion matrix; where it may have several, the average precision of each.
    """
    import matplotlib.pyplot as plt

    if result.clips.single_label:
        counts = result.confusion(strategy)
        size = max(4.5, 0.42 * len(counts) + 2)
        figure, ax = plt.subplots(figsize=(size + 1, size))
        plots.confusion(counts, ax)
        return figure, counts.reset_index()
    frame = result.per_class().sort_values(strategy, kind="stable", ignore_index=True)
    drawn = frame.tail(SHOWN_CLASSES)
    figure, ax = plt.subplots(figsize=(7.5, 1.5 + 0.28 * len(drawn)))
    height = np.arange(len(drawn))
    ax.barh(height, drawn[strategy], color=STRATEGY_COLOURS[strategy], alpha=0.6)
    share = drawn["test clips"] / max(len(result.tested(strategy)[0]), 1)
    ax.plot(share, height, "|", color="0.3", markersize=12, label="a guess: the share of the clips that have it")
    ax.set_yticks(height, [f"{row[1]} ({row[2]:,})" for row in drawn.itertuples()])
    ax.set(xlabel="Average precision", xlim=(0, 1.02), ylabel="Class (test clips)", ylim=(-0.6, len(drawn) - 0.4))
    ax.grid(False, axis="y")
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center")
    return figure, frame


def reading(result: "transfer.TransferResult") -> str:
    """Which strategy is ahead, by how much, and how sure that is."""
    summary = result.summary().set_index("strategy")
    best = result.best()
    row = summary.loc[best]
    lines = [
        f"{TITLES[best]} reaches {row['value']:.3f}, 95 % interval over the {interval(result)} {row['low']:.3f} to "
        f"{row['high']:.3f}; a guess would reach {result.chance:.3f}."
    ]
    for name in summary.index.drop(best):
        apart = summary.loc[name, "high"] < row["low"]
        lines.append(
            f"{TITLES[name]} has {summary.loc[name, 'value']:.3f}: "
            f"{'less, and the intervals are apart' if apart else 'no clear difference, as the intervals overlap'}."
        )
    return " ".join([*lines, *result.notes])
