"""How fast are reading, sampling and evaluation at AudioSet's size? Run: python benchmarks/data.py [reading ...]

- reading: clips of 10 s at random from a packed file that is in the system's cache, in batches, against a loader that
  opens the HDF5 file for each clip and scales it to float32, as the authors' does.
- sampling: 1.9 million clips x 527 classes with made-up labels, each kind of sampler in a process of its own, in
  batches of 32, against a loop over the clips of a batch.
- evaluation: AP and AUC of 18,887 x 527 scores, against scikit-learn class by class.

What is compared takes turns in one process; what counts is the ratio of the medians. Each table is printed and written
to benchmarks/results/.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import scipy.sparse

from pannslib import audio, files, metrics, reference, results
from pannslib.datasets import PackedClips, samplers

RESULTS = Path(__file__).parent / "results"
CLIP_SAMPLES = audio.sample_count(10, 32_000)
BATCH = 32
CLASSES = len(reference.class_labels())
TRAINING_CLIPS, EVALUATION_CLIPS = 1_900_000, 18_887


def medians(candidates: dict[str, Callable[[], None]], repeats: int) -> dict[str, float]:
    """Median seconds of each candidate, called in turns, after a first round that doesn't count."""
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(repeats + 1):
        for name, call in candidates.items():
            started = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - started)
    return {name: statistics.median(values[1:]) for name, values in times.items()}


def provenance() -> dict:
    """The columns that say where a number comes from."""
    hardware = results.hardware()
    return {
        "processor": hardware["processor"],
        "cores": hardware["cores"],
        "load_average": round(os.getloadavg()[0], 1),  # of the machine: above its cores, all times are too long
        "python": platform.python_version(),
        "numpy": np.__version__,
        "code": results.code_version(),
    }


# --- reading ---------------------------------------------------------------------------------------------------


def reading(clips: int, repeats: int) -> pd.DataFrame:
    """Clips per second of each way to read, from a file of so many ``clips``."""
    with tempfile.TemporaryDirectory(dir=RESULTS.parent) as folder:
        path = Path(folder) / "clips.h5"
        generator = np.random.default_rng(0)
        with h5py.File(path, "w") as store:
            store["audio_name"] = np.array([f"Y{number:011d}.wav".encode() for number in range(clips)])
            store["target"] = generator.random((clips, CLASSES)) < 0.004
            waveform = store.create_dataset("waveform", (clips, CLIP_SAMPLES), np.int16)
            for row in range(clips):
                waveform[row] = generator.integers(-32_767, 32_768, CLIP_SAMPLES, np.int16)
            store.attrs["sample_rate"] = 32_000
        packed = PackedClips(path)
        targets = packed.targets

        def opened_for_each() -> None:
            items = []
            for index in generator.integers(0, clips, BATCH):
                with h5py.File(path, "r") as store:
                    wave = audio.from_int16(store["waveform"][index])
                    items.append((store["audio_name"][index].decode(), wave, store["target"][index]))
            np.stack([wave for _, wave, _ in items])

        def opened_for_each_int16() -> None:
            items = []
            for index in generator.integers(0, clips, BATCH):
                with h5py.File(path, "r") as store:
                    items.append((store["waveform"][index], store["target"][index]))
            np.stack([wave for wave, _ in items])

        def mapped_int16() -> None:
            indices = generator.integers(0, clips, BATCH)
            _ = packed.read_int16(indices), targets[indices]

        def mapped_float32() -> None:
            indices = generator.integers(0, clips, BATCH)
            _ = packed.read(indices), targets[indices]

        ways = {
            "HDF5 file opened for each clip, float32 (baseline)": opened_for_each,
            "HDF5 file opened for each clip, int16": opened_for_each_int16,
            "memory map, float32 scaled on the CPU": mapped_float32,
            "memory map, int16": mapped_int16,
        }
        packed.waveforms.sum()  # into the cache
        seconds = medians(ways, repeats)
    baseline = next(iter(seconds.values()))
    return pd.DataFrame(
        {
            "way": name,
            "clips_per_s": round(BATCH / value),
            "times_baseline": round(baseline / value, 1),
            "batch": BATCH,
            "clips": clips,
            "repeats": repeats,
            "h5py": h5py.__version__,
        }
        for name, value in seconds.items()
    )


# --- sampling --------------------------------------------------------------------------------------------------


def labels(clips: int) -> scipy.sparse.csr_matrix:
    """Made-up labels, bool (clips, classes): two draws a clip from a long tail."""
    shares = 1 / np.arange(1, CLASSES + 1) ** 1.2
    columns = np.random.default_rng(0).choice(CLASSES, (clips, 2), p=shares / shares.sum()).astype(np.int32)
    pointers = np.arange(0, 2 * clips + 1, 2)
    return scipy.sparse.csr_matrix((np.ones(2 * clips, bool), columns.ravel(), pointers), (clips, CLASSES))


class LoopSampler:
    """The baseline: the classes in turn, one clip after the other in Python, with a list of clips a class."""

    def __init__(self, targets: scipy.sparse.csr_matrix):
        self.generator = np.random.default_rng(0)
        self.members = [clips for clips in samplers.members(targets, np.arange(targets.shape[0])) if len(clips)]
        self.places = [0] * len(self.members)
        self.queue: list[int] = []

    def draw(self, count: int) -> np.ndarray:
        """The next ``count`` clip indices, int64 (count,)."""
        drawn = []
        while len(drawn) < count:
            if not self.queue:
                self.queue = self.generator.permutation(len(self.members)).tolist()
            number = self.queue.pop()
            drawn.append(self.members[number][self.places[number]])
            self.places[number] += 1
            if self.places[number] == len(self.members[number]):
                self.places[number] = 0
                self.generator.shuffle(self.members[number])
        return np.array(drawn, dtype=np.int64)


def sample(kind: str, clips: int, repeats: int) -> dict:
    """What one kind of sampler needs, measured in this process."""
    targets = labels(clips)
    before = results.peak_memory_mib()
    started = time.perf_counter()
    sampler = LoopSampler(targets) if kind == "loop" else samplers.make_sampler(kind, targets, np.arange(clips), seed=0)
    sampler.draw(BATCH)
    ready = time.perf_counter() - started
    rates = []
    for _ in range(repeats):
        started = time.perf_counter()
        for _ in range(1000):
            sampler.draw(BATCH)
        rates.append(1000 * BATCH / (time.perf_counter() - started))
    return {
        "sampler": kind,
        "ready_s": round(ready, 2),
        "indices_per_s": round(statistics.median(rates)),
        "state_bytes": len(sampler.state()) if kind != "loop" else None,
        "process_peak_mib": results.peak_memory_mib(),
        "peak_before_mib": before,
    }


def sampling(clips: int, repeats: int) -> pd.DataFrame:
    """A row a kind of sampler, each from a process of its own."""
    rows = []
    for kind in ("loop", *samplers.KINDS):
        command = [
            sys.executable,
            __file__,
            "--sample",
            kind,
            "--training-clips",
            str(clips),
            "--repeats",
            str(repeats),
        ]
        rows.append(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    table = pd.DataFrame(rows)
    table["sampler"] = table["sampler"].replace("loop", "balanced, a loop in Python (baseline)")
    table.insert(3, "times_baseline", (table["indices_per_s"] / table["indices_per_s"][0]).round(1))
    return table.assign(clips=clips, classes=CLASSES, batch=BATCH)


# --- evaluation ------------------------------------------------------------------------------------------------


def evaluation(clips: int, repeats: int) -> pd.DataFrame:
    """Seconds for AP and AUC of all classes, and for a bootstrap."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    generator = np.random.default_rng(0)
    targets = generator.random((clips, CLASSES)) < np.geomspace(0.3, 0.003, CLASSES)
    targets[0] = True  # scikit-learn has no value for a class without a positive clip
    scores = (generator.normal(size=(clips, CLASSES)) + targets).astype(np.float32)
    values = {}

    def with_scikit_learn() -> None:
        columns = range(CLASSES)
        values["scikit-learn"] = np.array(
            [
                [score(targets[:, c], scores[:, c]) for c in columns]
                for score in (average_precision_score, roc_auc_score)
            ]
        )

    def ours() -> None:
        found = metrics.evaluate(targets, scores)
        values["ours"] = np.stack([found["ap"], found["auc"]])

    seconds = medians({"scikit-learn, class by class (baseline)": with_scikit_learn, "metrics.evaluate": ours}, repeats)
    difference = float(np.abs(values["ours"] - values["scikit-learn"]).max())
    started = time.perf_counter()
    metrics.bootstrap(targets, scores, draws=200)
    rows = [
        {"what": name, "seconds": round(value, 2), "times_baseline": round(next(iter(seconds.values())) / value, 1)}
        for name, value in seconds.items()
    ]
    rows.append({"what": "metrics.bootstrap, 200 draws", "seconds": round(time.perf_counter() - started, 2)})
    return pd.DataFrame(rows).assign(largest_difference=difference, clips=clips, classes=CLASSES, repeats=repeats)


def main() -> None:
    """Measure what is asked for, print and write its table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("which", nargs="*", help="reading, sampling, evaluation; all of them if none is given")
    parser.add_argument("--clips", type=int, default=512, help="in the file that is read; 0.6 MB each")
    parser.add_argument("--training-clips", type=int, default=TRAINING_CLIPS, help="that are sampled")
    parser.add_argument("--evaluation-clips", type=int, default=EVALUATION_CLIPS)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--sample", choices=("loop", *samplers.KINDS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.sample:
        print(json.dumps(sample(options.sample, options.training_clips, options.repeats)))
        return
    benchmarks = {
        "reading": lambda: reading(options.clips, options.repeats),
        "sampling": lambda: sampling(options.training_clips, options.repeats),
        "evaluation": lambda: evaluation(options.evaluation_clips, min(options.repeats, 5)),
    }
    for unknown in set(options.which) - set(benchmarks):
        parser.error(f"there is no benchmark {unknown!r}; there are {', '.join(benchmarks)}")
    for name in options.which or benchmarks:
        table = benchmarks[name]().assign(**provenance())
        print(table.to_string(index=False))
        files.write_text(RESULTS / f"{name}.csv", table.to_csv(index=False))


if __name__ == "__main__":
    main()
