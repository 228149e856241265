"""How many clips a second does each model tag, in each engine? Run: python benchmarks/inference.py

Every architecture with random weights, from waveform to probabilities, in turns with the published code's way (the
authors' front end by convolution, plain eager float32) in one process, a new one for each architecture: what memory one
has left behind would speed up the next. What counts is the ratio of the medians. Then
the peak memory of each in its own process, the cost against clip length and batch, and figures. The package
panns-inference computes CNN14 in the same turns.

Writes inference and inference_cost to benchmarks/results/, each as .csv, .png and .json (where it is from).
`panns bench` measures single models.
"""

import argparse
import os
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from importlib.util import find_spec
from multiprocessing import get_context
from pathlib import Path

import pandas as pd
import torch

from pannslib import features, files, models, reference, report, results
from pannslib.inference import engines, speed

FOLDER = Path(__file__).parent / "results"
COST_MODELS = ("Cnn14", "MobileNetV1")
LENGTHS, BATCHES = (1, 2, 5, 10, 20, 40), (1, 2, 4, 8)  # seconds; clips


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", help="architectures; all where left out")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument(
        "--memory", nargs="*", metavar="MODEL", help="whose peak memory is measured: minutes each (all)"
    )
    parser.add_argument("--only-memory", action="store_true", help="add it to the table that is there, whole")
    parser.add_argument("--no-cost", action="store_true", help="leave out clip lengths and batches")
    parser.add_argument("--compile", nargs="*", metavar="MODEL", help="through torch.compile too: a minute each (all)")
    parser.add_argument("--output", type=Path, default=FOLDER)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.only_memory:
        add_memory(options.output)
        return
    names = options.models or [str(name) for name in models.list_models() if name.family != "ImageNet"]

    tables = []
    for name in names:
        say(f"{name} ...")
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            table = process.submit(measure, name, options).result()
        tables.append(with_memory(table) if options.memory is None or name in options.memory else table)
    write(pd.concat(tables, ignore_index=True), options, "inference")
    if not options.no_cost:
        write(cost([name for name in COST_MODELS if name in names] or names[:1], options), options, "inference_cost")


def measure(name: str, options) -> pd.DataFrame:
    """What `speed.compare` finds of one architecture."""
    torch.set_num_threads(options.threads)
    compiled = options.compile is None or name in options.compile
    ways = speed.WAYS if compiled else speed.UNCOMPILED
    more = panns_inference() if name == "Cnn14" else {}
    return speed.compare(name, ways, repeats=options.repeats, seconds=options.seconds, progress=say, more=more)


def with_memory(table: pd.DataFrame) -> pd.DataFrame:
    """A table of ways with the peak memory of each in a process of its own."""
    own = {speed.PUBLISHED, *engines.ENGINES}
    ways = zip(table["model"], table["engine"], table["precision"], strict=True)
    return table.assign(peak_memory_mib=[speed.peak_memory_mib(*way) if way[1] in own else None for way in ways])


def add_memory(folder: Path) -> None:
    """Measure the peak memory of all rows of a table that was written without, and say so in its record."""
    tables = []
    for name, table in pd.read_csv(folder / "inference.csv").groupby("model", sort=False):
        say(f"{name} ...")
        tables.append(with_memory(table))
    record = files.read_json(folder / "inference.json")
    record["memory"] = {"code": results.code_version(), "measured_utc": now()}
    files.write_text(folder / "inference.csv", pd.concat(tables).to_csv(index=False))
    files.write_json(folder / "inference.json", record)


def cost(names: list[str], options) -> pd.DataFrame:
    """Time against clip length and batch, in the published way and the fastest."""
    settings = [(1, seconds) for seconds in LENGTHS] + [(batch, options.seconds) for batch in BATCHES[1:]]
    tables = [
        speed.compare(name, chosen(name), batch, seconds, repeats=max(3, options.repeats // 2))
        for name in names
        for batch, seconds in settings
    ]
    return pd.concat(tables, ignore_index=True)


def chosen(name: str) -> list[tuple[str, str]]:
    """The engine that "auto" takes for an architecture on this CPU, in each precision."""
    skeleton = models.registry.skeleton(name)
    return [(engines.choose(skeleton, "cpu", precision), precision) for precision in ("fp32", "bf16")]


def write(table: pd.DataFrame, options, name: str) -> None:
    """Print a table; write it with its record and, of the main one, the figure."""
    print(table.to_string(index=False))
    files.write_text(options.output / f"{name}.csv", table.to_csv(index=False))
    record = {
        "evidence": "computed",
        "weights": "random",
        "threads": options.threads,
        "repeats": options.repeats,
        "hardware": results.hardware(),
        "load_average": os.getloadavg(),
        "code": results.code_version(),
        "torch": torch.__version__,
        "measured_utc": now(),
    }
    files.write_json(options.output / f"{name}.json", record)
    with files.replacing(options.output / f"{name}.png") as path:
        {"inference": draw, "inference_cost": draw_cost}[name](table, path)


def draw_cost(table: pd.DataFrame, path: Path) -> None:
    """Milliseconds a clip against clip length and against batch, a line a way."""
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator

    report.use_style()
    names = list(dict.fromkeys(table["model"]))
    figure, axes = plt.subplots(len(names), 2, figsize=(9, 3.4 * len(names)), layout="constrained", squeeze=False)
    longest = table.loc[table["batch"] > 1, "seconds"].max()
    for row, name in zip(axes, names, strict=True):
        for ax, by, part in (
            (row[0], "seconds", table[(table["model"] == name) & (table["batch"] == 1)]),
            (row[1], "batch", table[(table["model"] == name) & (table["seconds"] == longest)]),
        ):
            for (engine, precision), line in part.groupby(["engine", "precision"], sort=False):
                cost = line["ms_per_call"] / line["batch"]
                ax.plot(line[by], cost, marker="o", label=f"{engine}, {precision}")
            ax.set(xscale="log", yscale="log", title=name, ylabel="Milliseconds a clip")
            ax.set_xlabel("Clip length (s), batch 1" if by == "seconds" else f"Batch (clips of {longest:g} s)")
            ticks = sorted(part[by].unique())
            ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
            ax.minorticks_off()
            ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            ax.yaxis.set_major_formatter("{x:g}")
        row[0].legend(title="engine, precision", fontsize=8)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def draw(table: pd.DataFrame, path: Path) -> None:
    """Clips per second of each model, a bar an engine."""
    import matplotlib
    import matplotlib.pyplot as plt

    table = table.assign(way=table["engine"] + ", " + table["precision"])
    wide = table.pivot(index="model", columns="way", values="clips_per_second")
    wide = wide.loc[list(dict.fromkeys(table["model"])), list(dict.fromkeys(table["way"]))]
    height = 1.2 + 0.14 * wide.size
    # the first way on top, as in the legend; ten colours wouldn't be enough
    shown = wide.iloc[::-1, ::-1]
    colours = matplotlib.colormaps["tab20"].colors[: len(wide.columns)]
    axes = shown.plot.barh(figsize=(7, height), width=0.85, logx=True, color=colours[::-1])
    axes.set_xlabel("clips of 10 s per second (computed on this machine, random weights)")
    axes.set_ylabel("")
    axes.legend(title="engine, precision", fontsize=8, loc="upper left", bbox_to_anchor=(1, 1), reverse=True)
    axes.figure.savefig(path, dpi=150, bbox_inches="tight")
    plt.close(axes.figure)


def now() -> str:
    """The time, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def say(text: str) -> None:
    """A line on the standard error."""
    print(text, file=sys.stderr)


def panns_inference() -> dict:
    """The authors' inference package as another way to compute CNN14, with our random weights in their format."""
    if find_spec("panns_inference") is None:
        say("panns-inference isn't installed; it is left out (pip install panns-inference).")
        return {}

    def make(model):
        folder = Path(tempfile.mkdtemp(prefix="panns-inference-"))
        # it reads the class labels from the home folder when it is imported, and would download them
        labels = reference.class_labels()
        rows = labels.assign(display_name='"' + labels["display_name"] + '"')
        text = "index,mid,display_name\n" + "".join(
            f"{number},x,{name}\n" for number, name in enumerate(rows["display_name"])
        )
        files.write_text(folder / "panns_data" / "class_labels_indices.csv", text)
        weights = dict(model.state_dict())
        kernels = torch.tensor(features.fourier_kernels(model.front_end.window))
        weights["spectrogram_extractor.stft.conv_real.weight"] = kernels[0, :, None]
        weights["spectrogram_extractor.stft.conv_imag.weight"] = kernels[1, :, None]
        weights["logmel_extractor.melW"] = torch.tensor(features.mel_matrix(model.front_end))
        torch.save({"model": weights}, folder / "Cnn14.pth")
        before, os.environ["HOME"] = os.environ.get("HOME", ""), str(folder)
        try:
            from panns_inference import AudioTagging

            tagging = AudioTagging(checkpoint_path=str(folder / "Cnn14.pth"), device="cpu")
        finally:
            os.environ["HOME"] = before
        return lambda waveform: tagging.inference(waveform)[0]

    return {"panns-inference": make}


if __name__ == "__main__":
    main()
