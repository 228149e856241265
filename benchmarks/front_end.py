"""How much faster is the log-mel by FFT than by the authors' convolution? Run: python benchmarks/front_end.py

Both turn the same clips into log-mel spectrograms, in turns, in one process on one machine; what counts is the ratio of
the medians. The result is printed and written to benchmarks/results/front_end.csv.
"""

import argparse
import statistics
import time
from pathlib import Path

import pandas as pd
import torch

from pannslib import features, files, results

OUTPUT = Path(__file__).parent / "results" / "front_end.csv"


def seconds_of(module: torch.nn.Module, waveform: torch.Tensor) -> float:
    """Seconds that one call takes."""
    started = time.perf_counter()
    module(waveform)
    return time.perf_counter() - started


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
        times: dict[str, list[float]] = {method: [] for method in modules}
        for module in modules.values():
            seconds_of(module, waveform)  # warm up
        for _ in range(options.repeats):
            for method, module in modules.items():
                times[method].append(seconds_of(module, waveform))
        conv, fft = (statistics.median(times[method]) / options.batch for method in ("conv", "fft"))
        rows.append(
            {
                "sample_rate_hz": rate,
                "convolution_ms_per_clip": round(1000 * conv, 3),
                "fft_ms_per_clip": round(1000 * fft, 3),
                "times_faster": round(conv / fft, 2),
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
