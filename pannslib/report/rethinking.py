"""Tables, figures and sentences of the second paper, on ImageNet's networks: theirs and ours, never in one column."""

import numpy as np
import pandas as pd

from pannslib import reference
from pannslib.report.style import STRATEGY_COLOURS

CONDITIONS = {"pretrained_single": "pretrained", "pretrained_ensemble": "ensemble", "random_single": "random"}
BASES = {
    "stated": "stated",
    "inferred": "inferred",
    "inferred_unconfirmed": "inferred, not confirmed",
}
START_COLOURS = {
    "ImageNet": STRATEGY_COLOURS["fine_tune"],
    "AudioSet stand-in": STRATEGY_COLOURS["freeze_l3"],
    "AudioSet": STRATEGY_COLOURS["freeze_l1"],
    "random": STRATEGY_COLOURS["scratch"],
}
WAY_MARKS = {"freeze": "o", "cut": "s", "fuse": "^", "reset": "D"}
WAY_COLOURS = dict(zip(WAY_MARKS, START_COLOURS.values(), strict=True))
MISSING = "not here"


def published() -> pd.DataFrame:
    """The paper's table, a row a network and data set; percent, as printed.

    Columns: network, data set, pretrained, std, random, ensemble, basis (what is stated and what inferred).
    """
    rows = []
    for (model, dataset), part in reference.rethinking().groupby(["model", "dataset"], sort=False):
        part = part.set_index("condition")
        row = {"network": model, "data set": dataset}
        for condition, name in CONDITIONS.items():
            row[name] = part["accuracy_percent"].get(condition, np.nan)
        row["std"] = part["std_percent"].get("pretrained_single", np.nan)
        row["basis"] = "; ".join(f"{CONDITIONS[name]}: {BASES[basis]}" for name, basis in part["basis"].items())
        rows.append(row)
    return pd.DataFrame(rows)


def scores(ours: pd.DataFrame | None, titles: dict[str, str]) -> pd.DataFrame:
    """The paper's table beside ours: a row a network and data set, percent.

    Where no pretrained weights of a network are here, the cells of the pretrained one say so.

    Args:
        ours: `rethinking.Study.scores`; None for the paper's columns alone.
        titles: task -> the data set's name in the paper.
    """
    rows = []
    if ours is None:
        units = {name: f"published: {name} (%)" for name in ("pretrained", "std", "random", "ensemble")}
        return published().rename(columns=units | {"basis": "published: basis"})
    for paper in published().itertuples(index=False):
        task = next(key for key, title in titles.items() if title == paper[1])
        part = ours[(ours["network"] == paper.network) & (ours["task"] == task)]
        started = part[part["start"] != "random"]
        chance = part[part["start"] == "random"].iloc[0]
        first = started.iloc[0] if len(started) else None
        rows.append(
            {
                "network": paper.network,
                "data set": paper[1],
                "published: pretrained (%)": _with_spread(paper.pretrained, paper.std),
                "published: random (%)": paper.random,
                "published: ensemble of 5 (%)": paper.ensemble,
                "published: basis": paper.basis,
                "ours: pretrained on": MISSING if first is None else first["start"],
                "ours: pretrained (%)": MISSING if first is None else _percent(first),
                "ours: random (%)": _percent(chance),
                "ours: ensemble, pretrained (%)": MISSING if first is None else f"{100 * first['ensemble']:.1f}",
                "ours: ensemble, random (%)": f"{100 * chance['ensemble']:.1f}",
                "runs": int(chance["runs"]),
                "folds": int(chance["folds"]),
                "evidence": chance["evidence"],
                "weights": chance["weights"] if first is None else first["weights"],
            }
        )
    return pd.DataFrame(rows)


def _percent(row: pd.Series) -> str:
    return _with_spread(100 * row["mean"], 100 * row["std"], decimals=1)


def _with_spread(mean: float, deviation: float, decimals: int = 2) -> str:
    spread = "" if np.isnan(deviation) else f" ± {deviation:.{decimals}f}"
    return f"{mean:.{decimals}f}{spread}"


def changes(ours: pd.DataFrame) -> pd.DataFrame:
    """One spectrogram or three, and augmentation: `rethinking.Study.compared` in percent."""
    return pd.DataFrame(
        {
            "input": ours["input"],
            "start": ours["start"],
            "accuracy (%)": [_percent(row) for _, row in ours.iterrows()],
            "ensemble (%)": 100 * ours["ensemble"],
            "runs": ours["runs"],
            "folds": ours["folds"],
            "evidence": ours["evidence"],
            "weights": ours["weights"],
        }
    )


def six_tasks(ours: pd.DataFrame) -> pd.DataFrame:
    """PANNs and ImageNet's networks on the six transfer tasks: `rethinking.Study.six_tasks`, with units."""
    names = [_named(row.system, row.width) for row in ours.itertuples()]
    return pd.DataFrame(
        {
            "task": ours["task"],
            "metric": ours["metric"],
            "network": names,
            "start": ours["start"],
            "value": ours["value"],
            "folds": ours["folds"],
            "clip (s)": ours["seconds"],
            "parameters (1e6)": ours["parameters"] / 1e6,
            "multi-adds (1e9)": ours["multi_adds"] / 1e9,
            "latency (ms)": ours["latency_ms"],
            "evidence": ours["evidence"],
            "weights": ours["weights"],
        }
    )


def _named(name: str, width: float) -> str:
    return name if width == 1 else f"{name}, {width:g} of its width"


# --- figures ---------------------------------------------------------------------------------------------------


def draw_scores(ours: pd.DataFrame, titles: dict[str, str], axes):
    """Mean and spread over the runs (bars and lines), the ensemble (diamonds): an axis a data set.

    Args:
        ours: `rethinking.Study.scores`.
        titles: task -> its name.
        axes: as many matplotlib axes.
    """
    networks = list(dict.fromkeys(ours["network"]))
    starts = [start for start in START_COLOURS if start in set(ours["start"])]
    height = 0.8 / len(starts)
    for (task, title), ax in zip(titles.items(), axes, strict=True):
        part = ours[ours["task"] == task]
        # a network's bars are side by side, about its name
        place = part.groupby("network").cumcount() - (part.groupby("network")["network"].transform("size") - 1) / 2
        part = part.assign(y=part["network"].map(networks.index) + place * height)
        for start in starts:
            some, colour = part[part["start"] == start], START_COLOURS[start]
            ax.barh(some["y"], 100 * some["mean"], height * 0.85, color=colour, alpha=0.45, label=start)
            spread = 100 * some["std"].fillna(0)
            ax.errorbar(100 * some["mean"], some["y"], xerr=spread, fmt="none", ecolor=colour, capsize=3)
        marks = {"marker": "D", "s": 26, "facecolor": "white", "edgecolor": "black", "zorder": 3}
        ax.scatter(100 * part["ensemble"], part["y"], label="ensemble of the runs", **marks)
        ax.set(title=title, xlabel="Accuracy (%)", xlim=(0, 103), ylim=(len(networks) - 0.4, -0.6))
        ax.set_yticks(range(len(networks)), networks)
        ax.grid(False, axis="y")
    for ax in axes[1:]:
        ax.set_yticklabels([])
    handles = {label: handle for ax in axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    axes[0].figure.legend(handles.values(), handles, loc="outside lower center", ncols=len(handles))
    return axes


def draw_blocks(blocks: pd.DataFrame, chance: float, ax):
    """Accuracy against the block that is frozen, cut off behind, fused or made random: a line a way.

    Args:
        blocks: `rethinking.Study.blocks`.
        chance: accuracy of a guess.
        ax: matplotlib axes.
    """
    names = list(dict.fromkeys(blocks.loc[blocks["way"] != "whole", "block"]))
    for way, marker in WAY_MARKS.items():
        part = blocks[blocks["way"] == way]
        x = [names.index(block) for block in part["block"]]
        line = "none" if way == "reset" else "-"
        colour = WAY_COLOURS[way]
        ax.plot(x, 100 * part["accuracy"], marker=marker, linestyle=line, color=colour, label=part["title"].iloc[0])
    for row, line in zip(blocks[blocks["way"] == "whole"].itertuples(), ("-.", "--"), strict=False):
        ax.axhline(100 * row.accuracy, color="0.35", linestyle=line, linewidth=1.2, label=row.title)
    ax.axhline(100 * chance, color="0.7", linestyle=":", linewidth=1.2, label="chance")
    ax.set(xlabel="Block, from the image to the classifier", ylabel="Accuracy (%)", ylim=(0, 102))
    ax.set_xticks(range(len(names)), names)
    ax.margins(x=0.05)
    ax.figure.legend(loc="outside lower center", ncols=2)
    return ax


def draw_change(change: pd.DataFrame, ax):
    """SVCCA of every layer before and after fine-tuning, a colour a block, with what an unrelated layer would have.

    Args:
        change: `rethinking.Study.change`.
        ax: matplotlib axes.
    """
    depth = np.arange(1, len(change) + 1)
    colours = [*START_COLOURS.values(), "#8e5ea2"]
    for colour, (block, part) in zip(colours, change.groupby("block", sort=False), strict=False):
        ax.plot(depth[part.index], part["svcca"], "o", markersize=4, color=colour, label=block)
    ax.plot(depth, change["chance"], color="0.6", linestyle="--", linewidth=1, label="unrelated (order by chance)")
    ax.set(xlabel="Convolution, from the image to the classifier", ylabel="SVCCA, before against after", ylim=(0, 1.03))
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.figure.legend(loc="outside lower center", ncols=3)
    return ax


def draw_attributions(records: list[dict], front_end, axes):
    """A row a clip: its log-mel, and what each of its values adds to the class's logit, drawn over it.

    Args:
        records: `rethinking.Study.attributions`.
        front_end: the `features.FrontEnd` of the first spectrogram.
        axes: (clips, 2) matplotlib axes.
    """
    ticks, labels = _frequency_ticks(front_end)
    for row, record in zip(axes, records, strict=True):
        log_mel, values = record["log_mel"], record["attribution"].image
        extent = (0, log_mel.shape[0] * front_end.hop / front_end.sample_rate, -0.5, log_mel.shape[1] - 0.5)
        options = {"origin": "lower", "aspect": "auto", "extent": extent}
        sound = row[0].imshow(log_mel.T, vmin=log_mel.max() - 80, **options)
        row[0].figure.colorbar(sound, ax=row[0], label="Log-mel (dB)", pad=0.02)
        row[1].imshow(log_mel.T, vmin=log_mel.max() - 80, cmap="gray", **options)
        limit = np.quantile(np.abs(values), 0.995) or 1.0
        shown = np.clip(np.abs(values) / limit, 0, 1)
        drawn = row[1].imshow(values.T, vmin=-limit, vmax=limit, cmap="coolwarm", alpha=shown.T, **options)
        row[1].figure.colorbar(drawn, ax=row[1], label="Adds to the logit", pad=0.02)
        said = "right" if record["right"] else "wrong"
        row[0].set_title(f"{record['label']} ({said}, {record['probability']:.2f})", fontsize=9)
        row[1].set_title(
            f"sum {values.sum():+.2f}, change of the logit {record['attribution'].change:+.2f}", fontsize=9
        )
        for ax in row:
            ax.set(xlabel="Time (s)", ylabel="Frequency (kHz)")
            ax.set_yticks(ticks, labels)
            ax.grid(False)
    return axes


def _frequency_ticks(front_end) -> tuple[list[float], list[str]]:
    """Where round frequencies lie between the mel bins, and how they are written in kHz."""
    from librosa import mel_frequencies

    # the filters' centres; the two ends are edges
    centres = mel_frequencies(front_end.mel_bins + 2, fmin=front_end.fmin, fmax=front_end.fmax)[1:-1]
    wanted = [hertz for hertz in (250, 500, 1000, 2000, 4000, 8000) if centres[0] <= hertz <= centres[-1]]
    return list(np.interp(wanted, centres, np.arange(len(centres)))), [f"{hertz / 1000:g}" for hertz in wanted]


def attribution_frame(records: list[dict], front_end) -> pd.DataFrame:
    """The numbers behind the attributions: a row a clip and frame, a column a mel bin."""
    parts = []
    for record in records:
        values = record["attribution"].image
        frame = pd.DataFrame(values.astype(float), columns=[f"mel_{index}" for index in range(values.shape[1])])
        frame.insert(0, "time_s", np.arange(len(frame)) * front_end.hop / front_end.sample_rate)
        frame.insert(0, "clip", record["clip"])
        parts.append(frame)
    return pd.concat(parts, ignore_index=True)


# --- sentences -------------------------------------------------------------------------------------------------


def read_starts(origins: pd.DataFrame) -> str:
    """Which weights the networks start from.

    Args:
        origins: `rethinking.Study.origins`.
    """
    lines = [
        f"- {row.network}, *{row.start}*: {row.weights}{_width(row.width)}." for row in origins.itertuples(index=False)
    ]
    there = set(origins["start"])
    if "ImageNet" in there and (origins.groupby("network")["start"].first() == "ImageNet").all():
        verdict = "ImageNet's weights are here for all three networks: *pretrained* below means them."
    elif "ImageNet" in there:
        verdict = "ImageNet's weights are here for some of the networks alone; the others' rows say that they aren't."
    else:
        verdict = (
            "**ImageNet's weights are not here, so nothing below says what they are worth.** Put torchvision's files "
            "(resnet50-….pth and so on) into `imagenet/` of the data root, or set `rethinking: {weights: download}` "
            "in a profile. Until then networks start from random values, and the analyses, which need something learnt "
            "before, from a stand-in that was trained on sound, not on photographs."
        )
    return "\n".join([verdict, "", *lines])


def _width(width: float) -> str:
    return "" if width == 1 else f"; {width:g} of its width"


def read_scores(ours: pd.DataFrame) -> str:
    """Whether pretraining helps here, against the spread of the runs.

    Args:
        ours: `rethinking.Study.scores`.
    """
    sentences = []
    for (network, task), part in ours.groupby(["network", "task"], sort=False):
        if len(part) < 2:
            continue
        first, chance = part.iloc[0], part[part["start"] == "random"].iloc[0]
        gain = 100 * (first["mean"] - chance["mean"])
        sentences.append(f"{network} on {task}: {first['start']} {gain:+.1f} points against random")
    together = 100 * (ours["ensemble"] - ours["mean"]).mean()
    runs = int(ours["runs"].iloc[0])
    text = "; ".join(sentences) + ". " if sentences else "No network has pretrained weights here. "
    if runs > 1:
        text += f"Averaging the softmax of {runs} runs changes the accuracy by {together:+.1f} points on average."
    return text


def read_blocks(blocks: pd.DataFrame) -> str:
    """Which block matters most, by each way of looking.

    Args:
        blocks: `rethinking.Study.blocks`.
    """
    whole = blocks[blocks["way"] == "whole"].iloc[0]
    reset = blocks[blocks["way"] == "reset"].set_index("block")["accuracy"]
    worst = ", ".join(reset.index[reset == reset.min()])
    return (
        f"Started from {whole['weights']}, the whole network reaches {100 * whole['accuracy']:.1f} %. With one block "
        f"made random it reaches least for {worst} ({100 * reset.min():.1f} %). These are single runs on one fold: "
        "differences of a few clips are chance. The paper finds that its Block3, in the middle, matters most."
    )


def read_change(change: pd.DataFrame) -> str:
    """Where fine-tuning has changed the layers most.

    Args:
        change: `rethinking.Study.change`.
    """
    means = change.groupby("block", sort=False)["svcca"].mean()
    listed = ", ".join(f"{block} {value:.3f}" for block, value in means.items())
    return (
        f"Mean SVCCA by block: {listed}. The block that changed most is {means.idxmin()}, the least {means.idxmax()}. "
        f"An unrelated layer would have {change['chance'].mean():.2f} on average. In the paper the first layers keep "
        "most of what they were, and the middle ones change."
    )


def read_attributions(records: list[dict]) -> str:
    """How complete the attributions are.

    Args:
        records: `rethinking.Study.attributions`.
    """
    worst = max(record["attribution"].error for record in records)
    steps = ", ".join(str(record["attribution"].steps) for record in records)
    return f"The attributions add up to the change of the logit within {100 * worst:.2f} % (steps: {steps})."


def read_six_tasks(ours: pd.DataFrame) -> str:
    """Who is ahead where, in what was measured here.

    Args:
        ours: `rethinking.Study.six_tasks`.
    """
    sentences = []
    for task, part in ours.groupby("task", sort=False):
        ranked = part.sort_values("value", ascending=False, kind="stable")
        best, second = ranked.iloc[0], ranked.iloc[1]
        sentences.append(
            f"- {task}: {best['system']} from {best['start']} {best['value']:.3f}, then {second['system']} from "
            f"{second['start']} {second['value']:.3f} ({best['metric']})"
        )
    return "\n".join(sentences)
