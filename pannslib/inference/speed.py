"""How fast models are in each engine, against the published code's way, on the machine at hand.

The published way is the authors' front end, torchlibrosa's, before a plain network in eager float32. All ways get the
same clips in turns, in one process; what counts is the ratio of the medians. In its turn a way computes twice, and the
second time counts: as for one clip after the other, caches hold its weights, not those of the way before, whose threads
no longer wait by spinning. Each row says which share of the machine's own rate of matrix products, measured in the same
run, is reached, counting the network's multiply-adds alone.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from pannslib import complexity, models
from pannslib.features import POWER_FLOOR
from pannslib.inference import engines
from pannslib.models.base import PannsModel

PUBLISHED = "published"
# engine and precision of each way but the published one
WAYS = (
    ("torch", "fp32"),
    ("folded", "fp32"),
    ("compile", "fp32"),
    ("winograd", "fp32"),
    ("ncnn", "fp32"),
    ("onnxruntime", "fp32"),
    ("openvino", "fp32"),
    ("folded", "bf16"),
    ("winograd", "bf16"),
    ("openvino", "bf16"),
)
UNCOMPILED = tuple(way for way in WAYS if way[0] != "compile")  # without what takes a minute a model
SIZE = 2048  # of the square matrices whose product gives the machine's rate
COLUMNS = [
    *["model", "engine", "precision", "batch", "seconds", "ms_per_call", "clips_per_second", "times_faster"],
    *["largest_difference", "gflops", "share_of_matrix_rate"],
]


def random_model(name: str, seed: int = 0) -> PannsModel:
    """A published architecture with random weights and batch norms that do something, in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = models.create_model(name).eval()
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for key, value in model.state_dict().items():
                if key.endswith("running_mean"):
                    value.normal_(0, 0.1, generator=generator)
                elif key.endswith("running_var") or (value.ndim == 1 and key.endswith("weight")):
                    value.uniform_(0.5, 1.5, generator=generator)
    return model


def noise(batch: int, seconds: float, sample_rate: int) -> np.ndarray:
    """White noise, float32 (batch, samples)."""
    return np.random.default_rng(0).uniform(-0.5, 0.5, (batch, round(seconds * sample_rate))).astype(np.float32)


def matrix_rate(precision: str, repeats: int = 7) -> float:
    """Floating-point operations per second of a product of two matrices, the best of some: what the machine can do."""
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = (torch.ones(SIZE, SIZE, dtype=kind) for _ in range(2))
    return 2 * SIZE**3 / min(seconds_of(lambda: a @ b) for _ in range(repeats))


def seconds_of(call: Callable[[], object]) -> float:
    """Seconds that one call takes."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def compare(
    name: str,
    ways=WAYS,
    batch: int = 1,
    seconds: float = 10.0,
    repeats: int = 11,
    progress: Callable[[str], None] = lambda text: None,
    more: dict[str, Callable[[PannsModel], Callable[[np.ndarray], np.ndarray]]] | None = None,
) -> pd.DataFrame:
    """Time an architecture in several ways, in turns: a row a way, `COLUMNS`.

    Args:
        name: of `list_models`.
        ways: pairs of engine and precision; those that aren't installed are left out.
        batch, seconds: clips a call and their length.
        repeats: turns, after one that warms up.
        progress: told what is being done.
        more: other ways by name: what makes a function from waveforms to probabilities out of a model.
    """
    fast = random_model(name)
    waveform = noise(batch, seconds, fast.sample_rate)
    calls = {(PUBLISHED, "fp32"): published_way(name)}
    with tempfile.TemporaryDirectory() as folder:
        for engine, precision in ways:
            if not engines.can_run(engine, precision):
                progress(f"{engine} in {precision} isn't for this processor; it is left out.")
                continue
            if not engines.available(engine, precision):
                progress(f"{engine} isn't installed ({engines.GET_FAST}); it is left out.")
                continue
            made = engines.create(lambda: fast, fast, "speed", "cpu", precision, engine, Path(folder))
            if made.name == engine:
                calls[engine, precision] = lambda batch, made=made: made(batch).clipwise_output
    for other, make in (more or {}).items():
        calls[other, "fp32"] = make(fast)
    times: dict = {way: [] for way in calls}
    given = {}
    for turn in range(repeats + 1):
        for way, call in calls.items():
            call(waveform)
            started = time.perf_counter()
            given[way] = call(waveform)
            if turn:
                times[way].append(time.perf_counter() - started)
    rates = {precision: matrix_rate(precision) for precision in {precision for _, precision in calls}}
    operations = 2 * complexity.count(fast, seconds=seconds).macs * batch
    medians = {way: statistics.median(spent) for way, spent in times.items()}
    expected = given[PUBLISHED, "fp32"]
    rows = [
        {
            "model": name,
            "engine": engine,
            "precision": precision,
            "batch": batch,
            "seconds": seconds,
            "ms_per_call": round(1000 * median, 2),
            "clips_per_second": round(batch / median, 2),
            "times_faster": round(medians[PUBLISHED, "fp32"] / median, 2),
            "largest_difference": float(np.abs(given[engine, precision] - expected).max()),
            "gflops": round(operations / median / 1e9, 1),
            "share_of_matrix_rate": round(operations / median / rates[precision], 3),
        }
        for (engine, precision), median in medians.items()
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def published_way(name: str) -> Callable[[np.ndarray], np.ndarray]:
    """What the published code does: waveform float32 (batch, samples) -> probabilities (batch, classes)."""
    from torchlibrosa.stft import LogmelFilterBank, Spectrogram

    model = random_model(name)
    if hasattr(model, "log_mel"):
        front = model.front_end
        spectrogram = Spectrogram(n_fft=front.window, hop_length=front.hop, win_length=front.window)
        filters = LogmelFilterBank(
            sr=front.sample_rate,
            n_fft=front.window,
            n_mels=front.mel_bins,
            fmin=front.fmin,
            fmax=front.fmax,
            amin=POWER_FLOOR,
            top_db=None,
        )
        model.log_mel = torch.nn.Sequential(spectrogram, filters)

    @torch.inference_mode()
    def call(waveform: np.ndarray) -> np.ndarray:
        return model(torch.from_numpy(waveform)).clipwise_output.numpy()

    return call


# a process of its own, so that nothing else is counted
_PEAK = """
import sys, torch
from pathlib import Path
from pannslib import results
from pannslib.inference import engines, speed
from pannslib.models.registry import skeleton
name, engine, precision, batch, seconds, threads = sys.argv[1:]
torch.set_num_threads(int(threads))
if engine == speed.PUBLISHED:
    call = speed.published_way(name)
    rate = skeleton(name).sample_rate
else:
    settings = skeleton(name)
    rate = settings.sample_rate
    call = engines.create(lambda: speed.random_model(name), settings, "peak", "cpu", precision, engine, Path(FOLDER))
call(speed.noise(int(batch), float(seconds), rate))
print(results.peak_memory_mib())
"""


def peak_memory_mib(name: str, engine: str, precision: str, batch: int = 1, seconds: float = 10.0) -> int:
    """The largest resident memory (MiB) of a process that loads a model and computes one batch with it.

    A graph engine finds its file written, as it does from the second use on.
    """
    with tempfile.TemporaryDirectory() as folder:
        code = _PEAK.replace("FOLDER", repr(folder))
        threads = str(torch.get_num_threads())
        call = [sys.executable, "-c", code, name, engine, precision, str(batch), str(seconds), threads]
        for _ in range(2 if engine in engines.RUNTIMES else 1):
            result = subprocess.run(call, capture_output=True, text=True, check=True)
        return int(result.stdout.split()[-1])
