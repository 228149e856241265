"""The cost planner: hours, disk and memory of every run of Tables IV to XI at full size, here and on named GPUs.

A training step of a clip is taken to cost three forward passes (the gradients by inputs and by weights cost one each),
a pass two operations for each multiply-accumulate, and the front end's FFT comes on top. Operations become time in
three ways, and each number says which:

- *from training*: the operations a second that the runs reached here, at this profile's size;
- *from latency*: three times what a forward pass of a full-size clip takes here;
- on a named GPU: the longer of operations over a share of its peak rate, and bytes over a share of its bandwidth.
"""

from __future__ import annotations

import time

import numpy as np
import pandas as pd

from pannslib import reference
from pannslib.audioset_runs import BASE, PAPER_ROWS, RUNS
from pannslib.datasets import audioset
from pannslib.report.style import FAMILY_COLOURS, VARIANT_COLOURS

TRAINING_PASSES = 3  # forward, gradient by the inputs, gradient by the weights
STATES = 5  # float32 numbers a parameter: itself, its gradient, and three of Adam with amsgrad
ACTIVATION_PASSES = 6  # written, read forward and backward; its gradient written and read twice
KEPT = 1.4  # autograd keeps 0.98 to 1.42 times what a network's layers put out (five architectures, 10 s, measured)
SHARES = {"fp32": "fp32_tflops", "tf32": "tf32_tflops", "half": "half_tflops"}
BYTES = {"fp32": 4, "tf32": 4, "half": 2}  # of an activation
RATE = 32_000  # Hz, at which the clips are packed
HEADLINE = ("Tesla V100 SXM2 32 GB", "GeForce RTX 4090", "A100 SXM4 80 GB", "H100 SXM5 80 GB")


def work(full, runs: dict[str, list[int]] | None = None) -> pd.DataFrame:
    """What every run of Tables IV to XI asks for at full size: a row a run.

    Args:
        full: the `catalogue.Plan` of the profile "full", whose settings are the paper's.
        runs: run -> the tables that it is in; None for all of them.

    Returns:
        Columns: run, system, tables, architecture, iterations (of the paper), clips (drawn, after mixup), evaluated
        (clips, over all evaluations), macs and front_end_flops (of a clip), parameters, activation_bytes (of a clip),
        training_set (clips), train_flops, evaluate_flops (of the whole run), memory_bytes, disk_bytes.
    """
    from pannslib import complexity, models

    counted = {}
    iterations = reference.evaluation_iterations().set_index("system")["iteration"]
    frame = []
    for name, tables in (runs or in_tables()).items():
        settings = full.settings(name)
        front_end = settings.front_end.model_dump(exclude_none=True)
        key = (settings.architecture, settings.width, settings.seconds, *front_end.items())
        if key not in counted:
            model = models.create_model(settings.architecture, classes=527, width=settings.width, **front_end)
            counted[key] = complexity.count(model, seconds=settings.seconds)
        cost, optimisation = counted[key], settings.optimisation
        steps = int(iterations.get(RUNS[name].title.replace(", ", " "), optimisation.iterations))
        training = _training_clips(settings)
        kept = training + audioset.AUTHORS_COPY["eval"]
        evaluated = (
            steps // settings.evaluate_every * (audioset.AUTHORS_COPY["balanced_train"] + audioset.AUTHORS_COPY["eval"])
        )
        clips = steps * optimisation.batch_size
        drawn = 2 if optimisation.mixup else 1  # a pair's log-mels, or waveforms, become one
        forward = 2 * cost.macs
        frame.append(
            {
                "run": name,
                "system": RUNS[name].title,
                "tables": ", ".join(ROMAN[table] for table in tables),
                "architecture": settings.architecture,
                "iterations": steps,
                "clips": clips,
                "evaluated": evaluated,
                "macs": cost.macs,
                "front_end_flops": cost.front_end_fft_flops,
                "parameters": cost.parameters,
                "activation_bytes": cost.activation_bytes,
                "training_set": training,
                "train_flops": float(clips) * (TRAINING_PASSES * forward + drawn * cost.front_end_fft_flops),
                "evaluate_flops": float(evaluated) * (forward + cost.front_end_fft_flops),
                "memory_bytes": 4 * STATES * cost.parameters
                + round(KEPT * optimisation.batch_size * cost.activation_bytes),
                "disk_bytes": int(kept * settings.seconds * RATE * 2 + 4 * STATES * cost.parameters),
                "read_bytes_a_clip": int(drawn * settings.seconds * RATE * 2),
            }
        )
    return pd.DataFrame(frame)


ROMAN = {5: "V", 6: "VI", 7: "VII", 8: "VIII", 9: "IX", 10: "X", 11: "XI", 4: "IV"}


def in_tables() -> dict[str, list[int]]:
    """Every run of the catalogue -> the tables that it is in; the base is CNN14's row of Table IV, too."""
    places: dict[str, list[int]] = {BASE: [4]}
    for table, names in PAPER_ROWS.items():
        for name in names:
            places.setdefault(name, []).append(table)
    return places


def _training_clips(settings) -> int:
    """Clips of the authors' copy that a run learns from."""
    splits = ("balanced_train",) if settings.training_set == "balanced" else ("balanced_train", "unbalanced_train")
    return round(settings.share * sum(audioset.AUTHORS_COPY[split] for split in splits))


# --- what is measured here -------------------------------------------------------------------------------------


def matmul_flops(device: str = "cpu", size: int | None = None, repeats: int = 7) -> float:
    """Operations a second of a large float32 matrix product here: what a network could reach at most in practice.

    Args:
        device: "cpu" or "cuda".
        size: of the square matrices; None for one that suits the device.
        repeats: the fastest counts; one more goes before.
    """
    import torch

    size = size or (8192 if device == "cuda" else 1536)
    matrix = torch.rand(size, size, device=device)
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        torch.mm(matrix, matrix)
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return 2 * size**3 / min(times[1:])


def measured(plan, results: dict, peak: float) -> pd.DataFrame:
    """What the finished runs reached: a row a run.

    Args:
        plan: the `catalogue.Plan` whose runs these are.
        results: run -> its `training.TrainingResult`.
        peak: operations a second that this machine can reach, as `matmul_flops` gives them.

    Returns:
        Columns: run, system, architecture, clips a second, operations a clip (1e9), operations a second (1e9), share of
        the matrix product's rate (%).
    """
    from pannslib import complexity, models

    frame = []
    for name, result in results.items():
        settings = plan.settings(name)
        model = models.create_model(
            settings.architecture,
            classes=len(result.classes),
            width=settings.width,
            **settings.front_end.model_dump(exclude_none=True),
        )
        flops = TRAINING_PASSES * 2 * complexity.count(model, seconds=settings.seconds).macs
        rate = result.clips_per_second * flops
        frame.append(
            {
                "run": name,
                "system": RUNS[name].title,
                "architecture": settings.architecture,
                "clips a second": float(result.clips_per_second),
                "operations a clip (1e9)": flops / 1e9,
                "operations a second (1e9)": rate / 1e9,
                "share of the matrix product's rate (%)": 100 * rate / peak,
            }
        )
    return pd.DataFrame(frame)


def latencies(plan) -> pd.DataFrame | None:
    """Latency of a full-size 10 s clip, by architecture, as 04_multi_adds measured it; None if it hasn't yet."""
    path = plan.figures / "cost_latency.csv"
    return pd.read_csv(path) if path.is_file() else None


# --- the plan --------------------------------------------------------------------------------------------------


def hours_here(asked: pd.DataFrame, reached: pd.DataFrame, latency: pd.DataFrame | None) -> pd.DataFrame:
    """Hours of every run on the machine at hand: a row a run, nan where nothing was measured.

    Args:
        asked: what `work` made.
        reached: what `measured` made.
        latency: what `latencies` read.

    Returns:
        Columns: run, hours from training, hours from latency. Runs of one network reached what the median of them did:
        what else the machine had to do differed, not the work. A variant of CNN14 has CNN14's latency, scaled by its
        operations.
    """
    same_network = reached.groupby(["architecture", "operations a clip (1e9)"])["operations a second (1e9)"]
    rates = same_network.transform("median").set_axis(reached["run"]) * 1e9
    total = asked["train_flops"] + asked["evaluate_flops"]
    from_training = total / asked["run"].map(rates) / 3600
    seconds = pd.Series(np.nan, index=asked.index)
    if latency is not None:
        classes = reference.class_in_repository()
        known = dict(zip(latency["architecture"].map(classes), latency["latency (ms)"] / 1e3, strict=True))
        macs = asked.drop_duplicates("architecture").set_index("architecture")["macs"]
        base = asked.loc[asked["run"] == BASE].iloc[0]
        scaled = asked["macs"] / base["macs"] * known.get(base["architecture"], np.nan)
        exact = asked["architecture"].map(known) * asked["macs"] / asked["architecture"].map(macs)
        seconds = exact.fillna(scaled)
    from_latency = seconds * (TRAINING_PASSES * asked["clips"] + asked["evaluated"]) / 3600
    return pd.DataFrame({"run": asked["run"], "hours from training": from_training, "hours from latency": from_latency})


def gpu_hours(
    asked: pd.DataFrame, gpu: pd.Series, precision: str, share: float, share_of_bandwidth: float
) -> pd.Series:
    """Hours of every run on a named GPU, by its peak rate or its bandwidth, whichever takes longer.

    Args:
        asked: what `work` made.
        gpu: a row of `reference.gpus`.
        precision: "fp32", "tf32" (fp32 where the GPU has none) or "half" (bf16, or fp16 on older ones).
        share: of the peak rate that is reached, in (0, 1].
        share_of_bandwidth: of the bandwidth that is reached, in (0, 1].
    """
    peak = gpu[SHARES[precision]]
    peak = gpu["fp32_tflops"] if np.isnan(peak) else peak
    rate, bandwidth = share * peak * 1e12, share_of_bandwidth * gpu["bandwidth_gb_s"] * 1e9
    passes = BYTES[precision] / 4 * asked["activation_bytes"]
    moved = passes * (ACTIVATION_PASSES * asked["clips"] + 2 * asked["evaluated"])
    computing = (asked["train_flops"] + asked["evaluate_flops"]) / rate
    return np.maximum(computing, moved / bandwidth) / 3600


def runs_table(
    asked: pd.DataFrame, here: pd.DataFrame, precision: str, share: float, share_of_bandwidth: float
) -> pd.DataFrame:
    """The plan: a row a run with its iterations, operations, memory, disk, and hours here and on the headline GPUs.

    The last row is all of them together, one after the other, on one machine; its disk is what they share.

    Args:
        asked: what `work` made.
        here: what `hours_here` made.
        precision, share, share_of_bandwidth: as in `gpu_hours`.
    """
    table = pd.DataFrame(
        {
            "system": asked["system"],
            "in tables": asked["tables"],
            "iterations": asked["iterations"],
            "clips drawn (1e6)": asked["clips"] / 1e6,
            "MACs of a clip (1e9)": asked["macs"] / 1e9,
            "operations (1e15)": (asked["train_flops"] + asked["evaluate_flops"]) / 1e15,
            "memory (GiB)": asked["memory_bytes"] / 2**30,
            "disk (GB)": asked["disk_bytes"] / 1e9,
            "hours here, from training": here["hours from training"],
            "hours here, from latency": here["hours from latency"],
        }
    )
    cards = reference.gpus().set_index("name")
    for name in HEADLINE:
        reached = "fp32" if np.isnan(cards.loc[name, SHARES[precision]]) else precision
        table[f"hours, {name} ({reached})"] = gpu_hours(asked, cards.loc[name], reached, share, share_of_bandwidth)
    sums = table.select_dtypes("number").sum(min_count=len(table))
    total = sums.to_dict() | {"system": "all of them", "in tables": ""}
    total["iterations"] = int(table["iterations"].sum())
    total["memory (GiB)"], total["MACs of a clip (1e9)"] = table["memory (GiB)"].max(), np.nan
    total["disk (GB)"] = table["disk (GB)"].max() + 4 * asked["parameters"].sum() / 1e9
    return pd.concat([table, pd.DataFrame([total])], ignore_index=True)


def gpus_table(asked: pd.DataFrame, share: float, share_of_bandwidth: float) -> pd.DataFrame:
    """The base run on every named GPU, in each precision: hours, what limits it, and what the disk must deliver."""
    base = asked[asked["run"] == BASE]
    frame = []
    for _, gpu in reference.gpus().iterrows():
        row = {"GPU": gpu["name"], "memory (GB)": gpu["memory_gb"], "bandwidth (GB/s)": gpu["bandwidth_gb_s"]}
        for precision, column in SHARES.items():
            if np.isnan(gpu[column]):
                row |= {f"hours, {precision}": np.nan}
                continue
            hours = float(gpu_hours(base, gpu, precision, share, share_of_bandwidth).iloc[0])
            row[f"hours, {precision}"] = hours
            fastest = precision, hours
        computing = float(gpu_hours(base, gpu, fastest[0], share, 1e9).iloc[0])
        row["the fastest is limited by"] = "computing" if computing >= 0.999 * fastest[1] else "bandwidth"
        row["to be read then (MB/s)"] = float(
            (base["clips"] * base["read_bytes_a_clip"]).iloc[0] / (3600 * fastest[1]) / 1e6
        )
        needed = base["memory_bytes"].iloc[0]
        row["fits"] = bool(needed < gpu["memory_gb"] * 1e9)
        frame.append(row | {"source": gpu["source"]})
    return pd.DataFrame(frame)


def figure(table: pd.DataFrame, share: float):
    """Hours of every run, a mark a machine, on a logarithmic axis; returns the matplotlib figure.

    Args:
        table: what `runs_table` made.
        share: of the peak rate that was assumed, for the legend.
    """
    import matplotlib.pyplot as plt

    runs = table.iloc[:-1][::-1]
    figure, ax = plt.subplots(figsize=(9, 0.27 * len(runs) + 1.9))
    places = np.arange(len(runs))
    columns = [name for name in table.columns if name.startswith("hours, ")]
    colours = (*VARIANT_COLOURS[:3], FAMILY_COLOURS["wavegram"])
    for column, colour, marker in zip(columns, colours, "o^Dv", strict=True):
        ax.plot(runs[column], places, marker, color=colour, label=column.removeprefix("hours, "), markersize=6)
    for column, fill in (("hours here, from training", FAMILY_COLOURS["cnn"]), ("hours here, from latency", "white")):
        if runs[column].notna().any():
            ax.plot(runs[column], places, "s", markerfacecolor=fill, color=FAMILY_COLOURS["cnn"],
                    label=column.removeprefix("hours "), markersize=6)  # fmt: skip
    ax.set_yticks(places, runs["system"])
    ax.set(xscale="log", xlabel=f"Hours at full size (GPUs at {share:.0%} of their peak rate)",
           ylim=(-0.7, len(runs) - 0.3))  # fmt: skip
    for hours, name in ((24, "a day"), (24 * 7, "a week"), (24 * 365, "a year")):
        if ax.get_xlim()[0] < hours < ax.get_xlim()[1]:
            ax.axvline(hours, color="0.4", linestyle="--", linewidth=1)
            ax.annotate(name, (hours, 1), (3, 2), xycoords=("data", "axes fraction"), textcoords="offset points",
                        fontsize=9, color="0.3")  # fmt: skip
    ax.grid(True, axis="x")
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return figure


def sentence(table: pd.DataFrame, gpus: pd.DataFrame, reached: pd.DataFrame, share: float) -> str:
    """What the paper's experiment costs, and how far the assumptions can be trusted.

    Args:
        table: what `runs_table` made.
        gpus: what `gpus_table` made.
        reached: what `measured` made.
        share: of the peak rate that was assumed.
    """
    total, base = table.iloc[-1], table[table["in tables"].str.startswith("IV")].iloc[0]
    cards = {column: total[column] for column in table.columns if column.startswith("hours, ")}
    days = "; ".join(f"{column.removeprefix('hours, ')} {_duration(hours)}" for column, hours in cards.items())
    here = ", ".join(
        f"{_duration(base[column])} by what it {text}"
        for column, text in (
            ("hours here, from training", "reached in training at this profile's size"),
            ("hours here, from latency", "takes for a forward pass at full size"),
        )
        if not np.isnan(base[column])
    )
    own = reached["share of the matrix product's rate (%)"]
    stated = reference.training_time().set_index("source")
    card = gpus.set_index("GPU").loc[HEADLINE[0], "hours, fp32"] / 24
    return (
        f"All {len(table) - 1} runs, one after the other: {days}. They need {total['disk (GB)'] / 1e3:.2f} TB for the "
        f"packed clips, which they share, and {total['memory (GiB)']:.0f} GiB for the largest. CNN14 alone would take "
        f"this machine {here or 'a time that nothing here was measured for'}.\n\n"
        f"The GPUs are taken to reach {share:.0%} of their peak rate. The runs here reached {own.min():.0f} to "
        f"{own.max():.0f} % of the rate of a large matrix product (median {own.median():.0f} %): small networks and "
        f"small clips leave more of it unused. As a check: the paper's CNN14 took about "
        f"{stated.loc['paper', 'days_low']:g} days, by the authors' README "
        f"{stated.loc[AUTHORS, 'days_low']:g} to {stated.loc[AUTHORS, 'days_high']:g}; by this reckoning a card of its "
        f"time ({HEADLINE[0]}, float32) takes {card:.1f}."
    )


AUTHORS = "authors' README"


def _duration(hours: float) -> str:
    """Hours as people say them."""
    if np.isnan(hours):
        return "not known"
    if hours < 48:
        return f"{hours:.1f} hours"
    return f"{hours / 24:.1f} days" if hours < 24 * 365 * 2 else f"{hours / 24 / 365:.1f} years"
