"""Figures 1 and 2 of the paper: boxes and arrows, whose layers, shapes and counts are read off the models.

A diagram is made in two steps: a table of its boxes (the CSV beside the picture), then the drawing of that table.
Lengths are in inches of the finished figure.
"""

from dataclasses import dataclass

import pandas as pd

from pannslib.models import PannsModel
from pannslib.report import architectures

LINE, PADDING = 0.165, 0.16  # height of a line of text, and of a box besides its lines
TEXT_SIZE, SHAPE_SIZE = 8.5, 8.0
INK, GREY = "#222222", "#5c5c5c"
# what a box stands for -> fill, edge
COLOURS = {
    "data": ("#ffffff", "#222222"),
    "wavegram": ("#fde8d7", "#d35400"),
    "log-mel": ("#e4f2ea", "#2e8b57"),
    "join": ("#ffffff", "#222222"),
    "cnn14": ("#e3ecf7", "#1f5fa8"),
    "pretrained": ("#e3ecf7", "#1f5fa8"),
    "frozen": ("#c9c9c9", "#5c5c5c"),
    "new": ("#fde8d7", "#d35400"),
}


@dataclass(frozen=True)
class Box:
    """A drawn box: its middle, its size and where arrows meet it."""

    x: float
    y: float
    width: float
    height: float

    @property
    def top(self) -> float:
        return self.y + self.height / 2

    @property
    def bottom(self) -> float:
        return self.y - self.height / 2

    @property
    def left(self) -> float:
        return self.x - self.width / 2

    @property
    def right(self) -> float:
        return self.x + self.width / 2


def wavegram_logmel_boxes(model: PannsModel, seconds: float = 10) -> pd.DataFrame:
    """The boxes of Figure 1, in running order.

    Args:
        model: ``Wavegram_Logmel_Cnn14``; its blocks keep the names that they have in the code.
        seconds: length of the clip whose shapes are given.

    Returns:
        Columns: group ("data", "wavegram", "log-mel", "join" or "cnn14"), box, layers (a line each), input_shape
        and output_shape (maps x frames x bins, or maps x samples).
    """
    samples = (int(seconds * model.sample_rate),)
    rows = [_row("data", "waveform", f"{seconds:g} s, {model.sample_rate // 1000} kHz", samples, samples)]
    for layer in architectures.layers(model, seconds):
        last = rows[-1]
        if layer.is_pooling or (layer.part == last["box"] and layer.text != architectures.GLOBAL_POOLING):
            last["layers"] += f"\n{layer}"
            last["output_shape"] = architectures.size(layer.outputs)
            continue
        if architectures.size(layer.inputs) != last["output_shape"] and layer.part == "pre_block4":
            maps, frames, bins = layer.inputs
            text = f"{maps * bins} maps → {maps} maps of {bins} bins"
            rows.append(_row("wavegram", "reshape: the Wavegram", text, (maps * bins, frames), layer.inputs))
        if layer.part == "conv_block2":
            branches = [row["output_shape"] for row in rows if row["box"] in ("pre_block4", "conv_block1")]
            rows.append(_row("join", "concatenate", "along the maps", (), layer.inputs))
            rows[-1]["input_shape"] = " and ".join(branches)
        name, text = layer.part, str(layer)
        if text == architectures.GLOBAL_POOLING:
            name, text = text, "mean over bins; maximum + mean over time"
        elif text.startswith(architectures.LOG_MEL):
            front_end = model.front_end
            text += f"\nwindow {front_end.window}, hop {front_end.hop}, {front_end.mel_bins} mel bins"
        rows.append(_row(_group(layer.part), name, text, layer.inputs, layer.outputs))
    return pd.DataFrame(rows)


def _row(group: str, box: str, layers: str, inputs: tuple, outputs: tuple) -> dict:
    return {
        "group": group,
        "box": box,
        "layers": layers,
        "input_shape": architectures.size(inputs),
        "output_shape": architectures.size(outputs),
    }


def _group(part: str) -> str:
    if part.startswith("pre_"):
        return "wavegram"
    return "log-mel" if part in ("log_mel", "conv_block1") else "cnn14"


def wavegram_logmel(boxes: pd.DataFrame):
    """Draw Figure 1: the two front ends side by side, joined, then CNN14 from its second block.

    Args:
        boxes: what `wavegram_logmel_boxes` returned.

    Returns:
        The matplotlib figure.
    """
    width, height, box_width = 11.6, 8.8, 3.1
    ax = _canvas(width, height)
    columns = {"wavegram": 1.9, "log-mel": 5.4, "cnn14": 9.75}
    titles = {
        "wavegram": "Wavegram: learned",
        "log-mel": "Log-mel: computed",
        "cnn14": "CNN14 from its second block on",
    }
    front = (height - 1.72, 1.45)  # top and bottom of both front ends' boxes
    spans = {"wavegram": front, "log-mel": front, "cnn14": (height - 0.65, 0.85)}
    drawn = {}
    for group, x in columns.items():
        part = boxes[boxes["group"] == group]
        _panel(ax, x, box_width + 0.3, *spans[group], titles[group], group)
        drawn[group] = _column(ax, part, x, box_width, *spans[group])
    middle, across = (
        (columns["wavegram"] + columns["log-mel"]) / 2,
        box_width + columns["log-mel"] - columns["wavegram"],
    )
    ends = {row.group: row for row in boxes[boxes["group"].isin(["data", "join"])].itertuples()}
    wave = _box(ax, middle, height - 0.4, across, ends["data"].box, ends["data"].layers, "data")
    join = _box(ax, middle, 0.45, across, ends["join"].box, ends["join"].layers, "join")
    for group in ("wavegram", "log-mel"):
        x = columns[group]
        # the shapes stand outside of the frames
        _path(ax, [(x, wave.bottom), (x, drawn[group][0].top)])
        _shape(ax, x + 0.1, wave.bottom - 0.2, ends["data"].output_shape)
        _path(ax, [(x, drawn[group][-1].bottom), (x, join.top)])
        shape = boxes.loc[boxes["group"] == group, "output_shape"].iloc[-1]
        _shape(ax, x + 0.1, join.top + 0.2, shape)
    first, last = drawn["cnn14"][0], drawn["cnn14"][-1]
    bend = (join.right + first.left) / 2
    _path(ax, [(join.right, join.y), (bend, join.y), (bend, first.y), (first.left, first.y)])
    _shape(ax, bend + 0.14, (join.y + first.y) / 2, ends["join"].output_shape, ha="center", rotation=90)
    _path(ax, [(last.x, last.bottom), (last.x, 0.12)])
    _shape(ax, last.x + 0.1, 0.3, boxes["output_shape"].iloc[-1] + " probabilities")
    return ax.figure


def transfer_boxes(pretrained: PannsModel, new: PannsModel, task: str, seconds: float) -> pd.DataFrame:
    """The boxes of Figure 2: pretraining, feature extraction and fine-tuning.

    Args:
        pretrained: a network with AudioSet's classes.
        new: the same network with the new task's classes.
        task: what the new task is called.
        seconds: length of its clips; AudioSet's have 10 s.

    Returns:
        Columns: panel ("a", "b" or "c"), title, box, layers, kind (of `COLOURS`), parameters, start (of the
        weights: "random", "from (a)"), trained, output_shape.
    """
    panels = (
        ("a", "Pretraining", pretrained, "AudioSet", 10, "random", True, "binary cross-entropy", "₀"),
        ("b", "Feature extractor", new, task, seconds, "from (a)", False, "cross-entropy", "₁"),
        ("c", "Fine-tuning", new, task, seconds, "from (a)", True, "cross-entropy", "₁"),
    )
    rows = []
    for panel, title, model, data, length, start, trained, loss, index in panels:
        samples, embedding = (architectures.size((n,)) for n in (int(length * model.sample_rate), model.embedding_size))
        head = sum(model.get_parameter(name).numel() for name in model.head_names)
        body = sum(parameter.numel() for parameter in model.parameters()) - head
        body_kind, head_kind = "pretrained" if trained else "frozen", "pretrained" if panel == "a" else "new"
        contents = (
            (f"data set: {data}", f"clips x{index}, targets y{index}", "data", 0, "", False, samples),
            ("PANN", f"{model.name} up to its embedding", body_kind, body, start, trained, embedding),
            (f"FC {data}", f"{model.classes} classes", head_kind, head, "random", True, str(model.classes)),
            ("loss", f"{loss} of f(x{index}) and y{index}", "data", 0, "", False, ""),
        )
        for box, layers, kind, parameters, begin, learns, shape in contents:
            rows.append((panel, title, box, layers, kind, parameters, begin, learns, shape))
    names = ["panel", "title", "box", "layers", "kind", "parameters", "start", "trained", "output_shape"]
    return pd.DataFrame(rows, columns=names)


def transfer(boxes: pd.DataFrame):
    """Draw Figure 2: (a) pretraining, (b) the PANN as a feature extractor, (c) fine-tuning; frozen parts are grey.

    Args:
        boxes: what `transfer_boxes` returned.

    Returns:
        The matplotlib figure.
    """
    width, height, box_width = 11.0, 6.0, 2.9
    ax = _canvas(width, height)
    networks = {}
    for x, (panel, part) in zip((1.75, 5.5, 9.25), boxes.groupby("panel"), strict=True):
        heading = f"({panel}) {part['title'].iloc[0]}"
        ax.text(x, height - 0.22, heading, ha="center", va="center", fontsize=12, weight="bold", color=INK)
        shown = part.assign(layers=[_with_weights(row) for row in part.itertuples()], group=part["kind"])
        names = ("waveform: ", "embedding: ", "probabilities: ", "")
        shown["output_shape"] = [name + shape for name, shape in zip(names, shown["output_shape"], strict=True)]
        networks[panel] = _column(ax, shown, x, box_width, height - 0.5, 1.05)[1]
    a, b, c = (networks[panel] for panel in "abc")
    first_gap, second_gap, low = (a.right + b.left) / 2, (b.right + c.left) / 2, 0.8
    _path(ax, [(a.right, a.y), (b.left, b.y)], dashed=True)
    _path(ax, [(first_gap, a.y), (first_gap, low), (second_gap, low), (second_gap, c.y), (c.left, c.y)], dashed=True)
    _shape(ax, b.x, low - 0.12, "the weights of the pretrained PANN", ha="center")
    legend = (("pretrained", "trained"), ("frozen", "frozen: not trained"), ("new", "trained, new for this task"))
    for x, (kind, text) in zip((2.9, 4.7, 7.2), legend, strict=True):
        _rectangle(ax, Box(x, 0.28, 0.34, 0.2), kind)
        ax.text(x + 0.26, 0.28, text, ha="left", va="center", fontsize=TEXT_SIZE)
    return ax.figure


def _with_weights(row) -> str:
    """A box's lines, with what becomes of its weights."""
    if not row.parameters:
        return row.layers
    fate = "trained" if row.trained else "frozen"
    return f"{row.layers}\n{row.parameters:,} parameters, {fate}\nstart: {row.start}"


def _canvas(width: float, height: float):
    """Axes that fill a figure, in inches from its lower left corner, without anything drawn."""
    import matplotlib.pyplot as plt
    from matplotlib.layout_engine import PlaceHolderLayoutEngine

    # an engine that does nothing: where there is none, savefig takes up the style sheet's constrained layout
    engine = PlaceHolderLayoutEngine(adjust_compatible=True, colorbar_gridspec=True)
    figure = plt.figure(figsize=(width, height), layout=engine)
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, width), ylim=(0, height))
    ax.axis("off")
    return ax


def _column(ax, boxes: pd.DataFrame, x: float, width: float, top: float, bottom: float) -> list[Box]:
    """Draw boxes below one another, evenly between ``top`` and ``bottom``, with arrows that bear the shapes."""
    heights = [_height(text) for text in boxes["layers"]]
    gap = (top - bottom - sum(heights)) / max(len(heights) - 1, 1)
    drawn, edge = [], top
    for row, height in zip(boxes.itertuples(), heights, strict=True):
        drawn.append(_box(ax, x, edge - height / 2, width, row.box, row.layers, row.group))
        edge -= height + gap
    for upper, lower, shape in zip(drawn, drawn[1:], boxes["output_shape"], strict=False):
        _arrow(ax, (x, upper.bottom), (x, lower.top), shape)
    return drawn


def _height(text: str) -> float:
    return LINE * (text.count("\n") + 2) + PADDING


def _box(ax, x: float, y: float, width: float, name: str, text: str, kind: str) -> Box:
    """Draw a box with its name in bold above its lines."""
    box = Box(x, y, width, _height(text))
    _rectangle(ax, box, kind)
    lines = [name, *text.split("\n")]
    for number, line in enumerate(lines):
        weight = "normal" if number else "bold"
        height = y + LINE * ((len(lines) - 1) / 2 - number)
        ax.text(x, height, line.replace(" x ", " × "), ha="center", va="center", fontsize=TEXT_SIZE, weight=weight,
                color=INK)  # fmt: skip
    return box


def _rectangle(ax, box: Box, kind: str) -> None:
    from matplotlib.patches import FancyBboxPatch

    fill, edge = COLOURS[kind]
    style = "round,pad=0,rounding_size=0.06"
    corner = (box.left, box.bottom)
    ax.add_patch(
        FancyBboxPatch(corner, box.width, box.height, boxstyle=style, facecolor=fill, edgecolor=edge, linewidth=1.2)
    )


def _panel(ax, x: float, width: float, top: float, bottom: float, title: str, kind: str) -> None:
    """The frame around a column, with its title on the upper edge."""
    from matplotlib.patches import Rectangle

    edge = COLOURS[kind][1]
    low, high = bottom - 0.14, top + 0.4
    ax.add_patch(Rectangle((x - width / 2, low), width, high - low, fill=False, edgecolor=edge, linestyle=":"))
    ax.text(x - width / 2 + 0.1, high - 0.15, title, ha="left", va="center", fontsize=9, color=edge, weight="bold")


def _arrow(ax, start: tuple, end: tuple, shape: str) -> None:
    """An upright arrow with a shape at its right."""
    _path(ax, [start, end])
    _shape(ax, start[0] + 0.1, (start[1] + end[1]) / 2, shape)


def _path(ax, points: list[tuple], dashed: bool = False) -> None:
    """A line through points with a head at the last one."""
    style = "--" if dashed else "-"
    xs, ys = zip(*points[:-1], strict=True)
    if len(points) > 2:
        ax.plot(xs, ys, color=GREY, linewidth=1.2, linestyle=style)
    properties = {"arrowstyle": "-|>", "color": GREY, "linewidth": 1.2, "shrinkA": 0, "shrinkB": 0, "linestyle": style}
    ax.annotate("", points[-1], points[-2], arrowprops=properties)


def _shape(ax, x: float, y: float, text: str, ha: str = "left", rotation: float = 0) -> None:
    ax.text(x, y, text.replace(" x ", " × "), ha=ha, va="center", fontsize=SHAPE_SIZE, color=GREY, rotation=rotation)
