"""The explorers' pictures. They are figures without pyplot: nothing else shows or keeps them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from pannslib.explorer.clips import FRONT_END, RATE, Sound
from pannslib.explorer.rolls import Roll
from pannslib.report import plots
from pannslib.report.style import FAMILY_COLOURS, SHEET, SYSTEM_COLOURS

FOUND, TRUE = "#d55e00", "#009e73"  # colours of events that are found and that are there
NAME = 26  # characters of a class's name at most
ROW_INCHES = 0.235  # of a class in a roll


# inches of a picture of a clip: its width, what is left of the time axis and right of it, and the heights from the top.
# Placed by hand, so that nothing moves when the threshold does; a layout engine would also take half of the time
WIDTH, LEFT, RIGHT = 9.5, 2.15, 0.95
TITLE, GAP, FOOT = 0.35, 0.1, 0.85
WAVEFORM, LOG_MEL = 0.9, 1.7


def shown_labels(sound: Sound, rolls: dict[str, Roll], most: int) -> list[str]:
    """The classes worth a row: those of the clip first, then the likeliest of all networks, ``most`` in all."""
    highest = pd.concat([roll.highest() for roll in rolls.values()]).groupby(level=0).max()
    likely = highest.sort_values(ascending=False, kind="stable").index
    return list(dict.fromkeys([*(sound.labels or ()), *likely]))[:most]


def clip(sound: Sound, log_mel: np.ndarray, rolls: dict[str, Roll], threshold: float, most: int):
    """A sound on one time axis: waveform, log-mel spectrogram, and a roll of events a network.

    Args:
        sound: at `RATE`.
        log_mel: dB (frames, mel_bins).
        rolls: what a network is called -> its roll.
        threshold: events at or above it are framed.
        most: how many classes are shown.

    Returns:
        The matplotlib figure.
    """
    import matplotlib.pyplot as plt
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    labels = shown_labels(sound, rolls, most)
    heights = [WAVEFORM, LOG_MEL, *[ROW_INCHES * len(labels) + 0.1] * len(rolls)]
    above = [TITLE, GAP, *[TITLE] * len(rolls)]  # of each part
    total = sum(heights) + sum(above) + FOOT
    bottoms = total - np.cumsum(heights) - np.cumsum(above)

    def box(left: float, first: int, last: int, width: float) -> tuple:
        """From the left (inches), parts ``first`` to ``last``, as shares of the figure."""
        height = bottoms[first] + heights[first] - bottoms[last]
        return left / WIDTH, bottoms[last] / total, width / WIDTH, height / total

    with plt.style.context(str(SHEET)):
        figure = Figure(figsize=(WIDTH, total), layout="none")
        axes = []
        for part in range(len(heights)):
            place = box(LEFT, part, part, WIDTH - LEFT - RIGHT)
            axes.append(figure.add_axes(place, sharex=axes[0] if axes else None))
            axes[-1].tick_params(labelbottom=part == len(heights) - 1)
        bars = [figure.add_axes(box(WIDTH - RIGHT + 0.1, first, last, 0.15)) for first, last in ((1, 1), (2, -1))]
        plots.draw_waveform(sound.waveform, RATE, axes[0])
        title = f"{_short(sound.name, 40)}, {sound.seconds:.2f} s"
        axes[0].set_title(title if sound.labels is None else f"{title}: {_short(', '.join(sound.labels), 45)}")
        figure.colorbar(plots.draw_log_mel(log_mel, RATE, FRONT_END.hop, axes[1]), cax=bars[0], label="Log-mel (dB)")
        # the colours of both networks mean the same
        top = max(0.05, *(float(roll.highest().reindex(labels).max()) for roll in rolls.values()))
        for ax, (name, roll) in zip(axes[2:], rolls.items(), strict=True):
            image = _roll(roll, sound, labels, threshold, top, ax)
            ax.set_title(f"{name} ({roll.resolution})", fontsize=10)
        figure.colorbar(image, cax=bars[1], label="Probability")
        axes[-1].set(xlabel="Time (s)", xlim=(0, sound.seconds))
        handles = [Patch(facecolor="none", edgecolor=FOUND, linewidth=1.5, label=f"at or above {threshold:.2f}")]
        if sound.events is not None:
            handles.append(Line2D([], [], color=TRUE, linewidth=3, label="truly heard"))
        if sound.labels is not None:
            handles.append(Line2D([], [], linestyle="", label="bold: the clip's labels"))
        figure.legend(handles=handles, loc="lower center", ncols=len(handles))
        for ax in axes[:2]:
            ax.yaxis.set_label_coords(-0.11, 0.5)
    return figure


def _roll(roll: Roll, sound: Sound, labels: list[str], threshold: float, top: float, ax):
    """Draw a roll, a row a class from the top down; returns the mesh that a colour bar is of."""
    from matplotlib.patches import Rectangle

    values = np.stack([roll.of(label) for label in labels])
    rows = np.arange(len(labels) + 1) - 0.5
    image = ax.pcolormesh(roll.edges, rows, values, cmap="Blues", vmin=0, vmax=top, rasterized=True)
    place = {label: row for row, label in enumerate(labels)}
    events = roll.events(threshold)
    for event in events[events["label"].isin(place)].itertuples():
        box = (event.onset_s, place[event.label] - 0.4), event.offset_s - event.onset_s, 0.8
        ax.add_patch(Rectangle(*box, facecolor="none", edgecolor=FOUND, linewidth=1.5))
    if sound.events is not None:
        heard = sound.events[sound.events["label"].isin(place)]
        ax.hlines(heard["label"].map(place) + 0.4, heard["onset_s"], heard["offset_s"], color=TRUE, linewidth=3)
    ax.set_yticks(range(len(labels)), [_short(label, NAME) for label in labels], fontsize=9)
    for label, text in zip(labels, ax.get_yticklabels(), strict=True):
        text.set_fontweight("bold" if label in (sound.labels or ()) else "normal")
    ax.set_ylim(len(labels) - 0.5, -0.5)
    ax.grid(False)
    return image


def systems(frame: pd.DataFrame, label: str, chosen: str):
    """The AP of a class across systems, a bar each with its interval.

    Args:
        frame: system, AP, low, high, AP published, in the order from the top.
        chosen: the system whose clips are heard; its bar is darker.

    Returns:
        The matplotlib figure.
    """
    import matplotlib.pyplot as plt
    from matplotlib.figure import Figure

    with plt.style.context(str(SHEET)):
        figure = Figure(figsize=(WIDTH, 0.24 * len(frame) + 1.3), layout="constrained")
        ax = figure.subplots()
        places = np.arange(len(frame))
        colours = [FAMILY_COLOURS["cnn"] if name == chosen else "#9fc3de" for name in frame["system"]]
        ax.barh(places, frame["AP"], color=colours, height=0.72)
        reach = np.abs(frame[["AP, 95 % low", "AP, 95 % high"]].to_numpy().T - frame["AP"].to_numpy())
        known = np.isfinite(reach).all(axis=0) & frame["AP"].notna().to_numpy()
        ax.errorbar(frame["AP"][known], places[known], xerr=reach[:, known], fmt="none", ecolor="0.25", elinewidth=1,
                    capsize=2, label="95 % interval over the evaluation clips")  # fmt: skip
        if frame["AP, published"].notna().any():
            ax.plot(frame["AP, published"], places, "D", markersize=5, markerfacecolor="white",
                    color=SYSTEM_COLOURS["baseline"], label="published (Figure 12)")  # fmt: skip
        ax.set_yticks(places, [_short(name, NAME) for name in frame["system"]], fontsize=9)
        ax.set(ylim=(len(frame) - 0.4, -0.6), xlim=(0, 1), xlabel="Average precision", title=_short(label, 70))
        ax.grid(False, axis="y")
        if ax.get_legend_handles_labels()[0]:
            figure.legend(loc="outside lower center", ncols=2)
    return figure


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
