"""The figures: each function takes results and an ``ax`` (or draws a figure of several) and returns what it drew."""

import numpy as np
import pandas as pd
from matplotlib.ticker import LogLocator, NullFormatter
from matplotlib.transforms import Bbox

from pannslib.report.style import FAMILY_COLOURS


def waveform_and_log_mel(waveform: np.ndarray, log_mel: np.ndarray, sample_rate: int, hop: int, title: str):
    """A clip as a waveform above its log-mel spectrogram, on one time axis.

    Args:
        waveform: float32 (samples,) in [-1, 1].
        log_mel: dB (frames, mel_bins).
        sample_rate: of the waveform, in Hz.
        hop: samples between two frames.

    Returns:
        The matplotlib figure.
    """
    import matplotlib.pyplot as plt

    figure, (top, bottom) = plt.subplots(2, 1, sharex=True, height_ratios=(1, 2.2), figsize=(7, 4.6))
    draw_waveform(waveform, sample_rate, top)
    top.set_title(title)
    image = draw_log_mel(log_mel, sample_rate, hop, bottom)
    bottom.set(xlabel="Time (s)", xlim=(0, len(waveform) / sample_rate))
    figure.colorbar(image, ax=bottom, label="Log-mel (dB)", pad=0.01)
    return figure


def draw_waveform(waveform: np.ndarray, sample_rate: int, ax):
    """A waveform, float32 (samples,) in [-1, 1], against seconds; returns the axes."""
    ax.plot(np.arange(len(waveform)) / sample_rate, waveform, linewidth=0.5, color=FAMILY_COLOURS["cnn"])
    ax.set(ylabel="Amplitude")
    return ax


def draw_log_mel(log_mel: np.ndarray, sample_rate: int, hop: int, ax):
    """A log-mel spectrogram, dB (frames, mel_bins), against seconds; returns the image that a colour bar is of."""
    extent = (0, log_mel.shape[0] * hop / sample_rate, -0.5, log_mel.shape[1] - 0.5)
    # 80 dB below the loudest is black: what lies lower is silence
    image = ax.imshow(log_mel.T, origin="lower", aspect="auto", extent=extent, vmin=log_mel.max() - 80)
    ax.set(ylabel="Mel bin")
    ax.grid(False)
    return image


def complexity(frame: pd.DataFrame, cost: str, label: str, ax, log: bool = True, compared: str | None = None):
    """Figure 5 of the paper: the cost of each architecture against its mAP, a colour a family.

    Args:
        frame: what `tables.costs` made.
        cost: the column on the horizontal axis.
        label: of that axis.
        ax: matplotlib axes.
        log: whether that axis is logarithmic: true costs differ by a hundred times, the published ones by twenty.
        compared: another column of the same unit, drawn as open circles that a line joins to the filled ones.

    Returns:
        The axes.
    """
    quality = frame["mAP, published"]
    if log:
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_minor_formatter(NullFormatter())
    ax.xaxis.set_major_formatter("{x:g}")
    colours = frame["group"].map(FAMILY_COLOURS)
    ax.scatter(frame[cost], quality, s=46, color=colours, zorder=4, label=cost)
    segments = []
    if compared:
        ax.scatter(frame[compared], quality, s=46, facecolor="white", edgecolor=colours, zorder=3, label=compared)
        ax.legend(loc="lower right")
        ax.hlines(quality, frame[cost], frame[compared], color="0.6", linewidth=1)
        segments = list(zip(frame[cost], frame[compared], quality, strict=True))
    ax.set(xlabel=label, ylabel="mAP on AudioSet, published")
    ax.margins(x=0.12, y=0.1)
    # the best are the most crowded: they have the first choice of a place
    best_first = frame.sort_values("mAP, published", ascending=False)
    label_points(best_first["architecture"], best_first[cost], best_first["mAP, published"], segments, ax)
    return ax


# where a label may stand about its point: offset in points, alignment; the first of the freest places is taken
PLACES = (
    ((7, 0), "left", "center"),
    ((0, 6), "center", "bottom"),
    ((0, -6), "center", "top"),
    ((-7, 0), "right", "center"),
    ((3, 6), "left", "bottom"),
    ((3, -6), "left", "top"),
    ((-3, 6), "right", "bottom"),
    ((-3, -6), "right", "top"),
    ((0, 16), "center", "bottom"),
    ((0, -16), "center", "top"),
)
FAR = 16  # points; a label so far above or below gets a line to its point


def label_points(labels, xs, ys, segments: list[tuple], ax) -> None:
    """Write a label at each point, where it covers the fewest points, lines and other labels.

    Args:
        labels, xs, ys: one each a point, in data units.
        segments: level lines (x, x, y) to keep clear of.
        ax: matplotlib axes with everything else drawn.
    """
    ax.figure.draw_without_rendering()  # only then it is known where on the page a point lies
    points = [(x, x, y) for x, y in zip(xs, ys, strict=True)]
    taken = [_around(segment, ax) for segment in points + segments]
    for label, (x, _, y) in zip(labels, points, strict=True):
        tried = []
        for offset, ha, va in PLACES:
            text = ax.annotate(label, (x, y), offset, textcoords="offset points", ha=ha, va=va, fontsize=8)
            box = text.get_window_extent()
            outside = box.x0 < ax.bbox.x0 or box.x1 > ax.bbox.x1
            tried.append((box.count_overlaps(taken) + outside, box, text))
            text.set_visible(False)
        _, box, text = min(tried, key=lambda trial: trial[0])
        text.set_visible(True)
        taken.append(box)
        if abs(text.xyann[1]) >= FAR:
            leader = {"arrowstyle": "-", "color": "0.5", "linewidth": 0.8, "shrinkA": 2, "shrinkB": 4}
            ax.annotate("", (x, y), text.xyann, textcoords="offset points", arrowprops=leader)
        for _, _, other in tried:
            if other is not text:
                other.remove()


def _around(segment: tuple, ax, radius: float = 4) -> Bbox:
    """The box on the page about a level line (x, x, y), ``radius`` points wider on all sides."""
    left, right, y = segment
    (x0, y0), (x1, y1) = sorted(map(tuple, ax.transData.transform([(left, y), (right, y)])))
    margin = radius * ax.figure.dpi / 72
    return Bbox.from_extents(x0 - margin, y0 - margin, x1 + margin, y1 + margin)


def training_curve(curve: pd.DataFrame, ax, chance: float | None = None):
    """mAP on the balanced training clips and on the evaluation clips against iterations, as in Figure 4.

    Args:
        curve: iteration, split, map; see `training.TrainingResult`.
        chance: the mAP of a guess, for a line.
    """
    for split, label, style in (("balanced_train", "balanced training clips", ":"), ("eval", "evaluation clips", "-")):
        part = curve[curve["split"] == split]
        if len(part):
            line = {"linestyle": style, "marker": "o", "markersize": 3, "color": FAMILY_COLOURS["cnn"]}
            ax.plot(part["iteration"], part["map"], label=label, **line)
    if chance is not None:
        ax.axhline(chance, color="0.5", linestyle="--", linewidth=1, label="chance")
    ax.set(xlabel="Iteration", ylabel="mAP", ylim=(0, min(1.0, 1.3 * max(curve["map"].max(), chance or 0))))
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.legend(loc="upper left")
    return ax


def loss_curve(losses: pd.DataFrame, ax):
    """The training loss against iterations (see `training.TrainingResult.losses`), with the learning rate behind it."""
    ax.plot(losses["iteration"], losses["loss"], color=FAMILY_COLOURS["cnn"])
    ax.set(xlabel="Iteration", ylabel="Loss (binary cross-entropy)")
    rate = ax.twinx()
    rate.plot(losses["iteration"], losses["learning_rate"], color="0.6", linewidth=1)
    rate.set(ylabel="Learning rate (grey)", ylim=(0, None))
    rate.grid(False)
    return ax


def confusion(counts: pd.DataFrame, ax):
    """A confusion matrix: share of each class's clips (rows) by predicted class (columns), with the clips' numbers.

    Args:
        counts: clips, (classes, classes), named on both sides.
    """
    import seaborn

    names = [str(name).replace("_", " ") for name in counts.columns]
    clips = counts.to_numpy()
    shares = clips / np.maximum(clips.sum(1, keepdims=True), 1)
    # numbers are read up to some twenty classes; the zeros would only hide the others
    numbers = np.where(clips > 0, clips.astype(str), "") if len(names) <= 20 else False
    seaborn.heatmap(
        shares,
        annot=numbers,
        fmt="",
        annot_kws={"fontsize": 8},
        vmin=0,
        vmax=1,
        cmap="Blues",
        square=True,
        xticklabels=names,
        yticklabels=names,
        cbar_kws={"label": "Share of the class's clips", "shrink": 0.8},
        ax=ax,
    )
    ax.set(xlabel="Predicted", ylabel="True")
    ax.set_xticks(ax.get_xticks(), names, rotation=45, ha="right", rotation_mode="anchor")
    ax.set_yticks(ax.get_yticks(), names, rotation=0)
    return ax


def level_histograms(clips: pd.DataFrame, axes):
    """Peak and loudness of all clips of some data sets, side by side.

    Args:
        clips: a row a clip: data_set, peak (1 is full scale), rms_db (dB re full scale).
        axes: two matplotlib axes.
    """
    colours = dict(zip(clips["data_set"].unique(), list(FAMILY_COLOURS.values()), strict=False))
    for column, ax, bins, label in (
        ("peak", axes[0], np.linspace(0, 1.5, 46), "Peak (1 is full scale)"),
        ("rms_db", axes[1], np.linspace(-80, 0, 41), "Level (dB re full scale, RMS)"),
    ):
        for name, part in clips.groupby("data_set", sort=False):
            values = part[column].clip(bins[0], bins[-1])
            ax.hist(values, bins, weights=np.full(len(part), 100 / len(part)), histtype="step", linewidth=1.8,
                    label=name, color=colours[name])  # fmt: skip
        ax.set(xlabel=label, ylabel="Share of clips (%)")
    axes[0].axvline(1, color="0.4", linestyle="--", linewidth=1)
    axes[0].figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return axes


def log_mel_frame(log_mel: np.ndarray, sample_rate: int, hop: int) -> pd.DataFrame:
    """A log-mel spectrogram, dB (frames, mel_bins), as a table: time_s, then a column a mel bin."""
    frame = pd.DataFrame(log_mel.round(2), columns=[f"mel_{bin}" for bin in range(log_mel.shape[1])])
    frame.insert(0, "time_s", np.arange(len(frame)) * hop / sample_rate)
    return frame
