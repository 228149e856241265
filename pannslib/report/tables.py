"""The tables: published numbers and ours side by side, never in one column."""

import pandas as pd

from pannslib import reference


def data_sets(loaded: list, packed: list) -> pd.DataFrame:
    """A row a data set: what is there of it.

    Args:
        loaded: `datasets.Dataset`s.
        packed: the `PackedClips` of each, in the same order.
    """
    rows = []
    for dataset, clips in zip(loaded, packed, strict=True):
        report = clips.clips_report
        good = report[report["status"] == "ok"]
        rows.append(
            {
                "data set": dataset.title,
                "evidence": clips.evidence,
                "clips": len(dataset.clips),
                "official clips": dataset.expected_clips,
                "classes": len(dataset.classes),
                "minutes": float(good["seconds"].sum() / 60),
                "shortest (s)": float(good["seconds"].min()),
                "longest (s)": float(good["seconds"].max()),
                "sample rates (Hz)": ", ".join(f"{rate:,}" for rate in sorted(set(good["sample_rate"].astype(int)))),
                "over full scale": int((good["peak"] > 1).sum()),
                "duplicates": int(good["duplicate_of"].notna().sum()),
                "rejected": int((report["status"] != "ok").sum()),
            }
        )
    return pd.DataFrame(rows)


def oddities(clips: pd.DataFrame) -> pd.DataFrame:
    """How many clips of each data set are unusual in which way: a row a data set.

    Args:
        clips: the clips' reports of some data sets, with a column data_set.
    """
    kinds = pd.DataFrame(
        {
            "data set": clips["data_set"],
            "beyond full scale": clips["peak"] > 1,
            "several channels": clips["channels"] > 1,
            "bytes of another clip": clips["duplicate_of"].notna(),
            "ends in 0.5 s of zeros": clips["trailing_zero_seconds"] > 0.5,
            "peak below 0.02": clips["peak"] < 0.02,
            "any remark": clips["remark"].notna(),
            "left out": clips["status"] != "ok",
        }
    )
    return kinds.groupby("data set", sort=False).sum().astype(int).reset_index()


def complexity(counts: pd.DataFrame) -> pd.DataFrame:
    """Table XII for the architectures that are there, beside the paper's.

    Args:
        counts: a row an architecture: model (the class name), multi_adds, parameters, macs.

    Returns:
        Columns: architecture, model, published and counted multi-adds (1e9) and parameters, whether they agree to the
        last printed digit, and the true multiply-accumulates (1e9).
    """
    names = reference.class_in_repository()
    paper = reference.table(12)
    merged = paper.assign(model=paper["architecture"].map(names)).merge(counts, on="model")
    counted = merged["multi_adds"] / 1e9
    return pd.DataFrame(
        {
            "architecture": merged["architecture"],
            "model": merged["model"],
            "multi-adds, published (1e9)": merged["multi_adds_e9"],
            "multi-adds, counted (1e9)": counted.round(3),
            "parameters, published": merged["parameters_x"],
            "parameters, counted": merged["parameters_y"],
            "equal": (counted.round(3) == merged["multi_adds_e9"]) & (merged["parameters_x"] == merged["parameters_y"]),
            "true MACs, network (1e9)": merged["macs"] / 1e9,
        }
    )


def costs(counts: pd.DataFrame, threads: int) -> pd.DataFrame:
    """What an architecture costs by every reckoning, beside the mAP that the paper published: a row each.

    The *true cost* is what is computed here: the network's multiply-accumulates and half of the operations of the
    front end with its FFT, since those count multiplications and additions apart.

    Args:
        counts: a row an architecture: model, multi_adds, stft_multi_adds, macs, front_end_macs, front_end_fft_flops,
            seconds (latency of a batch of one), device.
        threads: that the latency was measured with.
    """
    names = reference.class_in_repository()
    paper = reference.complexity_map()
    merged = paper.assign(model=paper["architecture"].map(names)).merge(counts, on="model")
    return pd.DataFrame(
        {
            "architecture": merged["architecture"],
            "group": merged["group"],
            "mAP, published": merged["map"],
            "multi-adds, paper's convention (1e9)": merged["multi_adds"] / 1e9,
            "of which STFT by convolution (1e9)": merged["stft_multi_adds"] / 1e9,
            "true MACs, network (1e9)": merged["macs"] / 1e9,
            "MACs, front end by convolution (1e9)": merged["front_end_macs"] / 1e9,
            "FLOPs, front end by FFT (1e9)": merged["front_end_fft_flops"] / 1e9,
            "true cost with FFT (1e9 MACs)": (merged["macs"] + merged["front_end_fft_flops"] / 2) / 1e9,
            "true cost with convolution (1e9 MACs)": (merged["macs"] + merged["front_end_macs"]) / 1e9,
            "latency (ms)": merged["seconds"] * 1e3,
            "clips per second": 1 / merged["seconds"],
            "batch": 1,
            "precision": "fp32",
            "device": merged["device"],
            "threads": threads,
        }
    )
