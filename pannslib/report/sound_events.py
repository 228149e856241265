"""Pictures and sentences about sound events: framewise probabilities against time, and what the threshold does."""

import numpy as np
import pandas as pd

from pannslib import models
from pannslib.report.style import VARIANT_COLOURS

# network -> how it makes a clip's probability of those of its segments
POOLINGS = {
    "Cnn14_DecisionLevelMax": "the highest",
    "Cnn14_DecisionLevelAvg": "the mean",
    "Cnn14_DecisionLevelAtt": "a mean weighted by attention, for each class",
}


def networks() -> pd.DataFrame:
    """The networks that say when a sound is heard: pooling, parameters, segment (s), published mAP, a row a network."""
    released = models.released_checkpoints().set_index("model")["map"]
    rows = []
    for name, pooling in POOLINGS.items():
        network = models.registry.skeleton(name)
        rows.append(
            {
                "network": name,
                "a clip's probability": pooling,
                "parameters": sum(parameter.numel() for parameter in network.parameters()),
                "segment (s)": network.least_frames * network.front_end.hop / network.sample_rate,
                "mAP, published": released.get(name, np.nan),
            }
        )
    return pd.DataFrame(rows).set_index("network")


def event_roll(framewise: np.ndarray, labels, true: pd.DataFrame, duration: float, ax, classes: int = 10):
    """Framewise probabilities (colour) with the true events (outlines) on one time axis.

    Args:
        framewise: (frames, classes) in [0, 1].
        labels: display name of each class.
        true: the recording's events: label, onset_s, offset_s.
        duration: of the recording, s.
        classes: how many rows at most besides those of the true events: the likeliest ones.

    Returns:
        the image, for a colour bar, and the numbers drawn: time_s, and a column a class.
    """
    from matplotlib.patches import Rectangle

    labels = list(labels)
    wanted = [labels.index(label) for label in dict.fromkeys(true.sort_values("onset_s")["label"]) if label in labels]
    likely = [k for k in np.argsort(-framewise.max(0), kind="stable")[:classes] if k not in wanted]
    rows = [*wanted, *likely[: max(0, classes - len(wanted))]]
    image = ax.imshow(
        framewise[:, rows].T,
        aspect="auto",
        origin="upper",
        extent=(0, duration, len(rows) - 0.5, -0.5),
        cmap="Greys",
        vmin=0,
        vmax=1,
        interpolation="nearest",
    )
    for event in true.itertuples():
        if event.label in labels:
            place = rows.index(labels.index(event.label))
            size = (event.offset_s - event.onset_s, 0.8)
            edge = {"fill": False, "edgecolor": VARIANT_COLOURS[0], "linewidth": 1.5}
            ax.add_patch(Rectangle((event.onset_s, place - 0.4), *size, **edge))
    ax.set(yticks=range(len(rows)), xlabel="Time (s)", xlim=(0, duration))
    ax.set_yticklabels([labels[k] for k in rows])
    ax.grid(False)
    times = np.linspace(0, duration, len(framewise), endpoint=False)
    numbers = pd.DataFrame(framewise[:, rows], columns=[labels[k] for k in rows])
    numbers.insert(0, "time_s", times.round(4))
    return image, numbers


def threshold_curves(table: pd.DataFrame, axes):
    """F1, precision and recall against the threshold; left event-based, right segment-based (see `events`)."""
    for ax, kind, title in zip(axes, ("event", "segment"), ("Event-based", "Segment-based"), strict=True):
        for measure, colour in zip(("f1", "precision", "recall"), ("#0072b2", *VARIANT_COLOURS[:2]), strict=True):
            name = "F1" if measure == "f1" else measure
            ax.plot(table["threshold"], table[f"{kind}_{measure}"], marker="o", markersize=3, color=colour, label=name)
        ax.set(title=title, xlabel="Threshold on the framewise probability", ylim=(0, 1), xlim=(0, 1))
    axes[0].set_ylabel("Score")
    axes[0].legend(loc="upper right")


def reading(table: pd.DataFrame, result, recordings: int) -> str:
    """What the threshold does, in sentences whose numbers are read from the table of `events.thresholds`."""
    best = table.loc[table["event_f1"].idxmax()]
    low, high = table.iloc[0], table.iloc[-1]
    return (
        f"On {recordings} recordings made of evaluation clips ({result.run.plan.profile.name} profile) "
        f"the event-based F1 is highest, {best['event_f1']:.2f}, at a threshold of {best['threshold']:.2f} "
        f"(segment-based: {best['segment_f1']:.2f}). At {low['threshold']:.2f} the recall is {low['event_recall']:.2f} "
        f"and the precision {low['event_precision']:.2f}; at {high['threshold']:.2f} they are "
        f"{high['event_recall']:.2f} and {high['event_precision']:.2f}. The threshold was looked at on the same "
        "recordings, so the highest F1 flatters; choose it on others before you report it."
    )
