"""How many clips a second does a training step take? Run: python benchmarks/training_step.py

A step is mixup, forward, binary cross-entropy, backward and Adam on random clips of one length, per architecture in
float32 and bf16, eager and through torch.compile, in turns in one process; the baseline is eager float32. On a GPU,
where there is one, it runs there. Writes benchmarks/results/training_step.csv, .png and .json.
"""

import argparse
import os
import statistics
import sys
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import torch
import torch.nn.functional as F

from pannslib import features, files, models, results
from pannslib.inference import speed

FOLDER = Path(__file__).parent / "results"
NAMES = ("Cnn6", "Cnn10", "Cnn14", "ResNet22", "ResNet38", "ResNet54", "MobileNetV1", "MobileNetV2")
NAMES += ("LeeNet11", "LeeNet24", "DaiNet19", "Res1dNet31", "Res1dNet51", "Wavegram_Cnn14", "Wavegram_Logmel_Cnn14")
BASELINE = ("fp32", "eager")


def step_of(name: str, precision: str, mode: str, options, device: str):
    """A function that makes one training step."""
    torch.manual_seed(0)
    model = models.create_model(name, width=options.width).to(device).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    call = torch.compile(model) if mode == "compiled" else model
    waveform = torch.from_numpy(speed.noise(2 * options.batch, options.seconds, model.sample_rate)).to(device)
    share = torch.full((2 * options.batch,), 0.5, device=device)
    target = features.mixup((torch.rand(2 * options.batch, model.classes, device=device) < 0.01).float(), share)

    def step() -> None:
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
            output = call(waveform, share)
        loss = F.binary_cross_entropy_with_logits(output.logits.float(), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()

    return step


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=NAMES)
    parser.add_argument("--batch", type=int, default=2, help="mixed clips a step; twice as many are read")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--compile", nargs="*", default=NAMES, metavar="MODEL", help="through torch.compile too: minutes each (all)"
    )
    parser.add_argument("--output", type=Path, default=FOLDER)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    rows = []
    for name in options.models:
        modes = ("eager", "compiled") if name in options.compile else ("eager",)
        print(f"{name} ...", file=sys.stderr)
        steps, times = {}, {}
        torch.compiler.reset()  # else it gives up after eight, and computes the rest uncompiled unsaid
        for way in [(precision, mode) for precision in ("fp32", "bf16") for mode in modes]:
            step = step_of(name, *way, options, device)
            try:
                step()  # warm up, and compile
            except Exception as fault:  # whatever a compiler can't take
                print(f"{name}, {', '.join(way)}: {type(fault).__name__}, left out", file=sys.stderr)
                continue
            steps[way], times[way] = step, []
        for _ in range(options.repeats):
            for way, step in steps.items():
                times[way].append(speed.seconds_of(step))
        medians = {way: statistics.median(spent) for way, spent in times.items()}
        for (precision, mode), median in medians.items():
            rows.append(
                {
                    "model": name,
                    "precision": precision,
                    "mode": mode,
                    "clips_per_second": round(2 * options.batch / median, 2),
                    "ms_per_step": round(1000 * median, 1),
                    "times_faster": round(medians[BASELINE] / median, 2),
                }
            )
    table = pd.DataFrame(rows).assign(batch=options.batch, seconds=options.seconds, width=options.width, device=device)
    print(table.to_string(index=False))
    files.write_text(options.output / "training_step.csv", table.to_csv(index=False))
    record = {
        "evidence": "computed",
        "threads": options.threads,
        "repeats": options.repeats,
        "hardware": results.hardware(),
        "load_average": os.getloadavg(),
        "code": results.code_version(),
        "torch": torch.__version__,
        "measured_utc": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    files.write_json(options.output / "training_step.json", record)
    with files.replacing(options.output / "training_step.png") as path:
        draw(table, path)


def draw(table: pd.DataFrame, path: Path) -> None:
    """Clips per second of each architecture's training step, a bar a way."""
    import matplotlib.pyplot as plt
    from matplotlib.ticker import LogLocator, NullFormatter

    table = table.assign(way=table["precision"] + ", " + table["mode"])
    wide = table.pivot(index="model", columns="way", values="clips_per_second")
    wide = wide.loc[list(dict.fromkeys(table["model"])), list(dict.fromkeys(table["way"]))]
    axes = wide.iloc[::-1].plot.barh(figsize=(7, 1.2 + 0.14 * wide.size), width=0.85, logx=True)
    axes.set_xlabel(f"clips of {table['seconds'].iloc[0]:g} s per second in training (computed on this machine)")
    axes.set_ylabel("")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.legend(title="precision, mode", fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    axes.figure.savefig(path, dpi=150, bbox_inches="tight")
    plt.close(axes.figure)


if __name__ == "__main__":
    main()
