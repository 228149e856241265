"""Class by class: Figures 3 and 12 and section VI-E of the paper, with its own 527-class values and with ours.

Also Figure 5 with our mAPs, a point a system. The functions take tables whose columns are the same for both sources, so
that the layout which 44 classes get is the one that 527 get.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from pannslib import metrics, reference
from pannslib.audioset_runs import BASE, PAPER_ROWS
from pannslib.report.plots import label_points
from pannslib.report.style import FAMILY_COLOURS, SYSTEM_COLOURS, VARIANT_COLOURS
from pannslib.report.tagging import LINEAR, Systems, interval

CLASSES_A_PANEL = 10  # of Figure 3
CLASSES_A_ROW = 44  # of Figure 12: what is readable on a page 1000 pixels wide; the paper has 132
ROW_INCHES = 1.95  # height of a row of Figure 12, and of the names below it
LEGEND_INCHES = 0.65
COLUMNS = {"left": "Most training clips", "middle": "Middle of the classes", "right": "Fewest training clips"}
# the systems of Figure 12: the paper's column of class-wise AP, and our run; the baselines differ
FIGURE_12 = {
    "CNN14": ("ap_cnn14", BASE),
    "MobileNetV1": ("ap_mobilenetv1", "train_mobilenetv1"),
    "Wavegram-Logmel-CNN": ("ap_wavegram_logmel_cnn", "train_wavegram_logmel_cnn14"),
    "baseline": ("ap_averaging_instances_baseline", LINEAR),
}
BASELINES = {"published": "averaging instances, [20]", "ours": "linear, mean log-mel"}
# who is compared with whom, class by class
PAIRS = (("CNN14", "baseline"), ("CNN14", "MobileNetV1"), ("Wavegram-Logmel-CNN", "CNN14"))


# --- Figure 3: class AP against iterations ---------------------------------------------------------------------


def curves_published() -> pd.DataFrame:
    """Figure 3 as it is printed: panel, rank (by training clips, from 1), label, training_clips, iteration, ap."""
    classes, curves = reference.class_curves()
    named = classes.rename(columns={"rank_by_training_clips": "rank", "display_name": "label", "column": "panel"})
    merged = curves.merge(named[["panel", "rank", "index", "label", "training_clips"]], on="index")
    columns = ["panel", "rank", "label", "training_clips", "iteration", "ap"]
    return merged.sort_values(["rank", "iteration"])[columns].reset_index(drop=True)


def curves_ours(result) -> pd.DataFrame:
    """The same of a run: the classes with the most training clips, those in the middle and those with the fewest.

    Args:
        result: a `training.TrainingResult`.
    """
    classes = result.classes.sort_values("training_clips", ascending=False, kind="stable", ignore_index=True)
    size = max(1, min(CLASSES_A_PANEL, len(classes) // 3))
    starts = {"left": 0, "middle": (len(classes) - size) // 2, "right": len(classes) - size}
    chosen = []
    for panel, start in starts.items():
        part = classes.iloc[start : start + size]
        chosen.append(part.assign(panel=panel, rank=range(start + 1, start + size + 1)))
    chosen = pd.concat(chosen)[["panel", "rank", "index", "label", "training_clips"]]
    merged = result.class_curves.merge(chosen.drop(columns="label"), on="index")
    columns = ["panel", "rank", "label", "training_clips", "iteration", "ap"]
    return merged.sort_values(["rank", "iteration"])[columns].reset_index(drop=True)


def figure_3(curves: pd.DataFrame):
    """AP against iterations, a line a class named at its end, a panel each for large, middling and small classes.

    Returns:
        The matplotlib figure.
    """
    import matplotlib.pyplot as plt

    colours = [*SYSTEM_COLOURS.values(), *VARIANT_COLOURS[:1]]
    figure, axes = plt.subplots(3, 1, figsize=(9.5, 11.5), sharex=True)
    end = curves["iteration"].max()
    for ax, (panel, part) in zip(axes, curves.groupby("panel", sort=False), strict=True):
        last = part.sort_values("iteration").groupby("label")["ap"].last().fillna(0).sort_values(ascending=False)
        names = part.drop_duplicates("label").set_index("label")
        heights = _spread(last.to_numpy(), gap=0.062)
        for number, (label, height) in enumerate(zip(last.index, heights, strict=True)):
            curve = part[part["label"] == label]
            style = {"color": colours[number % 5], "linestyle": ("-", (0, (4, 1.5)))[number // 5 % 2]}
            ax.plot(curve["iteration"], curve["ap"], linewidth=1.5, **style)
            ax.plot([end, 1.03 * end], [last[label], height], linewidth=0.7, color=style["color"], clip_on=False)
            ax.text(1.035 * end, height, f"{label[:30]} ({names.loc[label, 'training_clips']:,})", color=style["color"],
                    fontsize=9, va="center", clip_on=False)  # fmt: skip
        ranks = f"ranks {part['rank'].min()} to {part['rank'].max()}"
        ax.set(ylabel="Average precision", ylim=(0, 1), xlim=(0, end), title=f"{COLUMNS[panel]} ({ranks})")
        if end >= 10_000:
            ax.xaxis.set_major_formatter(lambda value, _: f"{value / 1e3:g}k")
    axes[-1].set_xlabel("Iterations; in brackets: training clips of the class")
    return figure


def _spread(values: np.ndarray, gap: float) -> np.ndarray:
    """Heights of labels, as near to the descending ``values`` as goes with ``gap`` between them, within [0, 1]."""
    heights = np.array(values, dtype=float)
    for _ in range(500):
        moved = False
        for upper in range(len(heights) - 1):
            overlap = gap - (heights[upper] - heights[upper + 1])
            if overlap > 1e-6:
                heights[upper] += overlap / 2
                heights[upper + 1] -= overlap / 2
                moved = True
        heights += min(0.0, 1.02 - heights[0]) + max(0.0, -0.02 - heights[-1])
        if not moved:
            break
    return heights


def figure_3_sentence(curves: pd.DataFrame) -> str:
    """How high each panel's classes end, and when they are at nine tenths of that."""
    means = curves.groupby(["panel", "iteration"], sort=False)["ap"].mean().unstack("panel").sort_index()
    parts = []
    for panel, title in COLUMNS.items():
        curve = means[panel].dropna()
        reached = curve.index[curve >= 0.9 * curve.iloc[-1]][0]
        parts.append(f"{title.lower()}: {curve.iloc[-1]:.3f}, nine tenths of it after {reached:,} iterations")
    return f"Mean AP at the end, by the classes' training clips: {'; '.join(parts)}."


# --- Figure 12: all classes ------------------------------------------------------------------------------------


def classwise_published() -> pd.DataFrame:
    """Figure 12 as numbers, in its order: label, training_clips, label_quality, and the AP of each system by name."""
    printed = reference.classwise_ap().sort_values("position_in_figure", ignore_index=True)
    columns = {"display_name": "label", "training_clips_official": "training_clips", "label_quality": "label_quality"}
    return printed.rename(columns=columns | {column: name for name, (column, _) in FIGURE_12.items()})[
        [*columns.values(), *FIGURE_12]
    ]


def classwise_ours(systems: Systems, quality: pd.Series) -> pd.DataFrame:
    """The same of our systems, the classes that the baseline tags best first, as in the paper.

    Args:
        quality: class -> label quality, as `label_quality` gives it.
    """
    classes = systems.results[BASE].classes
    frame = classes[["label", "training_clips"]].assign(label_quality=classes["label"].map(quality))
    for name, (_, run) in FIGURE_12.items():
        frame[name] = systems[run].measured["ap"]
    return frame.sort_values("baseline", ascending=False, ignore_index=True, na_position="last")


def label_quality(dataset) -> pd.Series:
    """Share of rightly labelled clips of each class, by its name, in [0, 1]; nan where nobody looked.

    The miniature knows what is truly heard in its clips, so there it is counted over the training clips; for AudioSet
    it is what the paper's Figure 12 shows, found by an expert on ten clips a class.

    Args:
        dataset: the `datasets.Dataset` of AudioSet or its miniature.
    """
    events = dataset.root / "metadata" / "events.csv"
    if dataset.evidence != "miniature" or not events.is_file():
        printed = reference.classwise_ap()
        return printed.set_index("display_name")["label_quality"]
    names = reference.class_labels().set_index("mid")["display_name"]
    heard = pd.read_csv(events)
    true = set(zip(heard["split"], heard["YTID"], heard["mid"].map(names), strict=True))
    clips = dataset.clips[dataset.clips["split"] != "eval"]
    labelled = clips[["split", "group", "labels"]].explode("labels")
    labelled["label"] = [dataset.classes[index] for index in labelled["labels"]]
    right = [row in true for row in labelled[["split", "group", "label"]].itertuples(index=False, name=None)]
    return pd.Series(right, index=labelled["label"]).groupby(level=0).mean().astype(float)


def figure_12(frame: pd.DataFrame, baseline: str):
    """AP of all systems, training clips and label quality of every class, in as many rows as they need.

    Args:
        frame: what `classwise_published` or `classwise_ours` made.
        baseline: which system the baseline is.

    Returns:
        The matplotlib figure: `CLASSES_A_ROW` classes a row, AP on the left axis, clips on the right one, logarithmic.
    """
    import matplotlib.pyplot as plt

    count = -(-len(frame) // CLASSES_A_ROW)
    # placed by hand: a dozen rows of rotated names take a layout engine a quarter of a minute
    height = ROW_INCHES * 2 * count + LEGEND_INCHES
    figure, axes = plt.subplots(count, 1, figsize=(10.5, height), squeeze=False, layout="none")
    edges = {"left": 0.055, "right": 0.935, "top": 1 - LEGEND_INCHES / height, "bottom": ROW_INCHES / height}
    figure.subplots_adjust(**edges, hspace=1)
    low, high = frame["training_clips"].min(), frame["training_clips"].max()
    for row, ax in enumerate(axes.flat):
        part = frame.iloc[row * CLASSES_A_ROW : (row + 1) * CLASSES_A_ROW]
        places = np.arange(len(part))
        clips = ax.twinx()
        bars = clips.bar(
            places, part["training_clips"], width=0.8, color="#dfe4ea", label="training clips (right axis)"
        )
        clips.set(yscale="log", ylim=(max(0.5, low / 2), high * 1.5), ylabel="Training clips")
        clips.spines["right"].set_visible(True)
        clips.grid(False)
        ax.set_zorder(clips.get_zorder() + 1)
        ax.patch.set_visible(False)
        quality = ax.plot(places, part["label_quality"], "x", color="#b3261e", markersize=5.5, label="label quality")
        lines = [
            ax.plot(places, part[name], color=colour, marker="o", markersize=3, label=name, **_line(name))[0]
            for name, colour in SYSTEM_COLOURS.items()
        ]
        ax.set(ylim=(0, 1.04), xlim=(-0.8, CLASSES_A_ROW - 0.2), ylabel="AP, label quality")
        names = [label if len(label) <= 25 else f"{label[:24]}…" for label in part["label"]]
        ax.set_xticks(places, names, rotation=90, fontsize=8.5)
        ax.grid(False, axis="x")
    lines[-1].set_label(f"baseline: {baseline}")
    figure.legend(handles=[*lines, *quality, bars], loc="upper center", ncols=3, fontsize=9.5)
    return figure


def _line(name: str) -> dict:
    return {"linewidth": 1, "linestyle": ":"} if name == "baseline" else {"linewidth": 1.3}


# --- section VI-E: systems compared class by class -------------------------------------------------------------


def _correlations(frame: pd.DataFrame, seed: int = 0, draws: int = 1000) -> pd.DataFrame:
    """Rank correlation of each system's AP with clips, label quality and CNN14's AP; intervals over the classes."""
    rng = np.random.default_rng(seed)
    others = {
        "training clips of the class": frame["training_clips"],
        "label quality": frame["label_quality"],
        "AP of CNN14": frame["CNN14"],
    }
    found = []
    for system in FIGURE_12:
        for title, values in others.items():
            if system == "CNN14" and title == "AP of CNN14":
                continue
            both = pd.DataFrame({"ap": frame[system].to_numpy(), "other": values.to_numpy()}).dropna()
            row = {"system": system, "AP correlates with": title, "value": np.nan, "low": np.nan, "high": np.nan}
            # neither a rank correlation nor its interval means anything on a constant or on a handful of classes
            if len(both) > 4 and both.nunique().min() > 1:
                drawn = both.to_numpy().T[:, rng.integers(len(both), size=(draws, len(both)))]
                row["value"] = float(_spearman(*both.to_numpy().T[:, None])[0])
                row["low"], row["high"] = metrics.interval(_spearman(*drawn))
            found.append(row | {"classes": len(both)})
    return pd.DataFrame(found)


def _spearman(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Spearman's rank correlation of each row of two arrays (draws, classes); nan where one of them is constant."""
    from scipy.stats import rankdata

    ranks = [rankdata(values, axis=1) for values in (first, second)]
    centred = [values - values.mean(1, keepdims=True) for values in ranks]
    scale = np.sqrt((centred[0] ** 2).sum(1) * (centred[1] ** 2).sum(1))
    products = (centred[0] * centred[1]).sum(1)
    return np.divide(products, scale, out=np.full(len(scale), np.nan), where=scale > 0)


def correlations(published: pd.DataFrame, ours: pd.DataFrame) -> pd.DataFrame:
    """What the AP of a class goes with, in the paper's values and in ours, in columns of their own.

    Args:
        published, ours: what `classwise_published` and `classwise_ours` made.

    Returns:
        A row a system and quantity: Spearman's rank correlation over the classes with its 95 % interval.
    """
    keys = ["system", "AP correlates with"]
    sides = []
    for source, frame in (("published", published), ("ours", ours)):
        titles = {"value": source, "low": f"{source}, 95 % low", "high": f"{source}, 95 % high"}
        sides.append(_correlations(frame).rename(columns=titles | {"classes": f"{source}, classes"}))
    return sides[0].merge(sides[1], on=keys)


def comparison(published: pd.DataFrame, ours: pd.DataFrame) -> pd.DataFrame:
    """Pairs of systems over all classes: in how many the first is better, and by how much on average."""
    frame = []
    for first, second in PAIRS:
        row = {"system": first, "compared with": second}
        for source, values in (("published", published), ("ours", ours)):
            difference = (values[first] - values[second]).dropna()
            row[f"better in (%), {source}"] = float(100 * (difference > 0).mean()) if len(difference) else np.nan
            row[f"mean difference of AP, {source}"] = float(difference.mean())
            row[f"classes, {source}"] = len(difference)
        frame.append(row)
    return pd.DataFrame(frame)


def gains_published(published: pd.DataFrame, most: int = 5) -> pd.DataFrame:
    """The classes that differ most between the pairs of systems, in the paper's values: the gains, then the losses."""
    parts = [
        _extremes(published.assign(difference=published[first] - published[second]), first, second, most)
        for first, second in PAIRS
    ]
    return pd.concat(parts, ignore_index=True)


def gains_ours(systems: Systems, most: int = 5) -> pd.DataFrame:
    """The same in ours, each difference with its 95 % interval (paired bootstrap over the evaluation clips)."""
    classes = systems.results[BASE].classes
    parts = []
    for first, second in PAIRS:
        one, other = (systems[FIGURE_12[name][1]] for name in (first, second))
        frame = classes[["label", "training_clips"]].copy()
        frame[first], frame[second] = one.measured["ap"], other.measured["ap"]
        frame["difference"] = frame[first] - frame[second]
        draws = one.bootstrap["ap"] - other.bootstrap["ap"]
        limits = [interval(value, drawn) for value, drawn in zip(frame["difference"], draws.T, strict=True)]
        frame[["low", "high"]] = limits
        parts.append(_extremes(frame, first, second, most))
    return pd.concat(parts, ignore_index=True)


def _extremes(frame: pd.DataFrame, first: str, second: str, most: int) -> pd.DataFrame:
    """The ``most`` largest differences and as many of the smallest, as rows of one table; none twice."""
    ordered = frame.dropna(subset=["difference"]).sort_values("difference", ascending=False, kind="stable")
    most = min(most, len(ordered) // 2)
    parts = [ordered.head(most), ordered.tail(most)]
    shown = pd.concat(parts) if most else ordered
    table = pd.DataFrame(
        {
            "system": first,
            "compared with": second,
            "class": shown["label"],
            "training clips": shown["training_clips"],
            "AP of the system": shown[first],
            "AP of the other": shown[second],
            "difference": shown["difference"],
        }
    )
    if "low" in shown:
        table["95 % low"], table["95 % high"] = shown["low"], shown["high"]
    return table


def comparison_sentence(table: pd.DataFrame, correlated: pd.DataFrame) -> str:
    """What section VI-E says of the classes, and whether ours say the same.

    Args:
        table: what `comparison` made.
        correlated: what `correlations` made.
    """
    pairs = [
        f"{row['system']} is better than {_called(row['compared with'])} in {row['better in (%), published']:.0f} % of "
        f"the classes in the paper and in {row['better in (%), ours']:.0f} % here"
        for _, row in table.iterrows()
    ]
    parts = []
    for title, text in (("training clips of the class", "training clips"), ("label quality", "label quality")):
        row = correlated[(correlated["system"] == "CNN14") & (correlated["AP correlates with"] == title)].iloc[0]
        parts.append(
            f"with {text} {_with_interval(row, 'published')} in the paper and {_with_interval(row, 'ours')} here"
        )
    agreement = correlated[
        (correlated["system"] == "MobileNetV1") & (correlated["AP correlates with"] == "AP of CNN14")
    ].iloc[0]
    return (
        f"{'; '.join(pairs)}. The rank correlation of CNN14's AP over the classes is {' and '.join(parts)}. What is "
        f"easy for one network is easy for another: CNN14 and MobileNetV1 correlate by "
        f"{agreement['published']:.2f} in the paper and by {_number(agreement['ours'])} here."
    )


def _called(system: str) -> str:
    return "the baseline" if system == "baseline" else system


def _number(value: float) -> str:
    return "(undefined)" if np.isnan(value) else f"{value:.2f}"


def _with_interval(row: pd.Series, source: str) -> str:
    if np.isnan(row[source]):
        return "(undefined)"
    return f"{row[source]:.2f} ({row[f'{source}, 95 % low']:.2f} to {row[f'{source}, 95 % high']:.2f})"


# --- Figure 5 with our mAPs ------------------------------------------------------------------------------------


def cost_and_quality(plan, systems: Systems) -> pd.DataFrame:
    """Figure 5 in the paper and here: a row an architecture of Table XI.

    Returns:
        Columns: architecture, group, multi-adds (1e9) of a clip and mAP as published; multi-adds of a clip as it was
        trained here (the profile's width and seconds; Table XII's convention), mAP and its 95 % interval.
    """
    from pannslib import complexity, models

    frame = []
    paper = reference.complexity_map().set_index("architecture")
    for name, run in zip(reference.table(11)["architecture"], PAPER_ROWS[11], strict=True):
        settings = plan.settings(run)
        labels = len(systems.results[run].classes)
        count = complexity.count(models.create_model(settings.architecture, classes=labels, width=settings.width),
                                 seconds=settings.seconds)  # fmt: skip
        value = float(systems[run].measured["map"])
        low, high = interval(value, systems[run].bootstrap["map"])
        frame.append(
            {
                "architecture": name,
                "group": paper.loc[name, "group"],
                "multi-adds, published (1e9)": paper.loc[name, "multi_adds_e9"],
                "mAP, published": paper.loc[name, "map"],
                "multi-adds as trained here (1e9)": count.multi_adds / 1e9,
                "mAP, ours": value,
                "mAP, 95 % low": low,
                "mAP, 95 % high": high,
                "it is": systems[run].verdict,
            }
        )
    return pd.DataFrame(frame)


def figure_5_ours(frame: pd.DataFrame, evidence: str):
    """Multi-adds of a full-size clip against mAP: the paper's above, ours with their intervals below.

    Args:
        frame: what `cost_and_quality` made.
        evidence: where ours come from.

    Returns:
        The matplotlib figure.
    """
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, 1, figsize=(9, 10), sharex=True)
    cost = "multi-adds, published (1e9)"
    titles = {
        "mAP, published": "Published",
        "mAP, ours": f"Ours ({evidence}), 95 % intervals over the evaluation clips",
    }
    for ax, (quality, title) in zip(axes, titles.items(), strict=True):
        shown = frame.dropna(subset=[quality])
        colours = shown["group"].map(FAMILY_COLOURS)
        if quality == "mAP, ours":
            limits = [shown[quality] - shown["mAP, 95 % low"], shown["mAP, 95 % high"] - shown[quality]]
            bars = np.clip(np.nan_to_num(np.array(limits)), 0, None)
            ax.errorbar(shown[cost], shown[quality], bars, fmt="none", ecolor=colours, elinewidth=1, zorder=2)
        ax.scatter(shown[cost], shown[quality], s=46, color=colours, zorder=4)
        ax.set(ylabel="mAP", title=title)
        ax.margins(x=0.1, y=0.08)
        best_first = shown.sort_values(quality, ascending=False)
        label_points(best_first["architecture"], best_first[cost], best_first[quality], [], ax)
    axes[1].set_xlabel("Multi-adds for a 10 s clip at full width ($10^9$)")
    return figure


def cost_and_quality_sentence(frame: pd.DataFrame) -> str:
    """Whether the architectures stand in the paper's order here, and which failed to train."""
    shown = frame.dropna(subset=["mAP, ours"])
    order = shown["mAP, published"].corr(shown["mAP, ours"], "spearman")
    failed = frame.loc[frame["it is"] != "trained", ["architecture", "it is"]]
    told = [f"{row['architecture']} ({row['it is']})" for _, row in failed.iterrows()]
    text = f"The rank correlation of the published mAPs with ours over the {len(shown)} architectures is {order:.2f}."
    return text + (f" Not trained as they should be here: {', '.join(told)}." if told else "")
