"""How much faster is the log-mel by FFT than by the authors' convolution? Run: python benchmarks/front_end.py

"fft" is PyTorch's, for training and the GPU; "compiled" the kernel that the engines for a CPU have before them. All
turn the same clips into log-mel spectrograms, in turns, in one process on one machine; what counts is the ratio of the
medians. The result is printed and written to benchmarks/results/front_end.csv.
"""

import argparse
import statistics
from functools import partial
from pathlib import Path

import pandas as pd
import torch

from pannslib import features, files, results
from pannslib.inference import speed
from pannslib.inference.front_end import ParallelLogMel

OUTPUT = Path(__file__).parent / "results" / "front_end.csv"


@torch.inference_mode()
def main() -> None:
    """Measure every published sample rate, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=8, help="clips of 10 s a call")
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    rows = []
    for rate, front_end in features.FRONT_ENDS.items():
        waveform = torch.rand(options.batch, 10 * rate, generator=torch.Generator().manual_seed(0)) * 2 - 1
        modules = {method: features.LogMel(front_end, method=method).eval() for method in ("conv", "fft")}
        calls = {method: partial(module, waveform) for method, module in modules.items()}
        calls["compiled"] = partial(ParallelLogMel(modules["fft"]), waveform.numpy())
        times: dict[str, list[float]] = {method: [] for method in calls}
        for turn in range(options.repeats + 1):
            for method, call in calls.items():
                seconds = speed.seconds_of(call)
                if turn:  # the first one warms up
                    times[method].append(seconds)
        conv, fft, compiled = (statistics.median(spent) / options.batch for spent in times.values())
        rows.append(
            {
                "sample_rate_hz": rate,
                "convolution_ms_per_clip": round(1000 * conv, 3),
                "fft_ms_per_clip": round(1000 * fft, 3),
                "compiled_ms_per_clip": round(1000 * compiled, 3),
                "fft_times_faster": round(conv / fft, 2),
                "compiled_times_faster": round(conv / compiled, 2),
                "threads": options.threads,
                "batch": options.batch,
                "processor": results.hardware()["processor"],
                "torch": torch.__version__,
            }
        )
    table = pd.DataFrame(rows)
    print(table.to_string(index=False))
    files.write_text(OUTPUT, table.to_csv(index=False))


if __name__ == "__main__":
    main()
