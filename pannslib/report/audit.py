"""The data audit: what AudioSet's clips and labels are like here, against what the paper and its authors state.

Where numbers don't reproduce, the cause is mostly here: another set of evaluation clips, clips at another rate or
level, samples that wrapped round, the same clip on both sides of a split, classes in another order.
"""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd

from pannslib import reference
from pannslib.datasets import audioset
from pannslib.report.style import FAMILY_COLOURS, VARIANT_COLOURS

FULL_SCALE = 32_767  # of int16
JUMP = 49_152  # a step between neighbouring samples of three quarters of the whole range: a sample that wrapped round
CLIPPED_SHARE = 0.001  # of a clip's samples at full scale, from which on it counts as clipped
EMPTY_DB = (
    -80.0
)  # power of a band relative to the whole clip's, below which nothing is in it; nor is there anything ...
ROUNDING = 4.0  # ... where it is below so many times the power that rounding to 16 bit leaves there
OFFSET = 0.01  # mean of a clip's samples relative to full scale, from which on it has a DC offset
CHUNK = 64  # clips measured at once
AUTHORS_TRAINING = audioset.AUTHORS_COPY["balanced_train"] + audioset.AUTHORS_COPY["unbalanced_train"]


def splits(dataset, packed) -> pd.DataFrame:
    """A row a split: how many clips there should be, how many the authors had, how many are here.

    Args:
        dataset: AudioSet's `datasets.Dataset`, or its miniature's.
        packed: its `PackedClips`.
    """
    found, usable = dataset.clips["split"].value_counts(), pd.Series(packed.splits).value_counts()
    frame = []
    for split, official in audioset.OFFICIAL.items():
        targets = packed.targets[packed.splits == split]
        here = int(usable.get(split, 0))
        frame.append(
            {
                "split": split,
                "official clips": official,
                "the authors' clips": audioset.AUTHORS_COPY[split],
                "clips here": int(found.get(split, 0)),
                "usable": here,
                "missing against the authors": max(0, audioset.AUTHORS_COPY[split] - here),
                "labels a clip": float(targets.sum(1).mean()) if here else np.nan,
                "clips without a label": int((~targets.any(1)).sum()),
                "classes with a clip": int(targets.any(0).sum()),
            }
        )
    return pd.DataFrame(frame)


def measure(packed, most: int = 20_000, seed: int = 0) -> pd.DataFrame:
    """Measure stored clips, all of them or ``most`` drawn at random: a row a clip.

    Returns:
        Columns: row, split, peak (1 is full scale), rms_db (dB re full scale), offset (mean sample, signed),
        clipped_share, jumps (steps of `JUMP` or more), above_4k_db, above_8k_db and above_14k_db (power above that
        frequency relative to the clip's; nan for silence), empty_above_8k (nothing but rounding is there), edge_hz (the
        frequency below which 99.9 % of the power is), digest (of the samples).
    """
    rows = np.arange(len(packed.splits))
    if len(rows) > most:
        rows = np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))
    parts = [_measure(packed, chunk) for chunk in np.array_split(rows, max(1, -(-len(rows) // CHUNK)))]
    return pd.concat(parts, ignore_index=True)


def _measure(packed, rows: np.ndarray) -> pd.DataFrame:
    stored = packed.read_int16(rows)
    waveforms = stored.astype(np.float32) / (FULL_SCALE + 1)
    magnitude = np.abs(stored.astype(np.int32))
    rms = np.sqrt(np.square(waveforms, dtype=np.float64).mean(1))
    power = np.square(np.abs(np.fft.rfft(waveforms - waveforms.mean(1, keepdims=True), axis=1)))
    frequencies = np.fft.rfftfreq(waveforms.shape[1], 1 / packed.sample_rate)
    total = power.sum(1)
    silent = total <= 1e-9
    edges = np.array([np.searchsorted(line, 0.999 * line[-1]) for line in power.cumsum(1)])
    frame = pd.DataFrame(
        {
            "row": rows,
            "split": packed.splits[rows],
            "peak": magnitude.max(1) / (FULL_SCALE + 1),
            "rms_db": 20 * np.log10(np.maximum(rms, 1e-6)),
            "offset": waveforms.mean(1),
            "clipped_share": (magnitude >= FULL_SCALE).mean(1),
            "jumps": (np.abs(np.diff(stored.astype(np.int32), axis=1)) >= JUMP).sum(1),
        }
    )
    rounding = waveforms.shape[1] / 12 / (FULL_SCALE + 1) ** 2  # expected in each frequency of the spectrum
    for limit in (4, 8, 14):
        band = frequencies >= 1000 * limit
        above = power[:, band].sum(1)
        relative = 10 * np.log10(np.maximum(above / np.maximum(total, 1e-30), 1e-15))
        frame[f"above_{limit}k_db"] = np.where(silent, np.nan, relative)
        if limit == 8:
            frame["empty_above_8k"] = ~silent & ((relative < EMPTY_DB) | (above < ROUNDING * rounding * band.sum()))
    frame["edge_hz"] = np.where(silent, np.nan, frequencies[np.minimum(edges, len(frequencies) - 1)])
    frame["digest"] = [hashlib.blake2b(clip.tobytes(), digest_size=12).hexdigest() for clip in stored]
    return frame


def clips_report(packed) -> pd.DataFrame | None:
    """The report on the files that the clips were packed from; None for packed files that came without one."""
    return packed.clips_report if packed.report_path.is_file() else None


def files(dataset, packed) -> pd.DataFrame:
    """A row a split: what the files are like that the clips were packed from; empty where nobody reported on them."""
    report = clips_report(packed)
    if report is None:
        return pd.DataFrame(columns=["split", "files"])
    # a name should be there once; of one that isn't the first counts
    split = dataset.clips.drop_duplicates("clip").set_index("clip")["split"]
    report = report.assign(split=report["clip"].map(split))
    of = report.drop_duplicates("clip").set_index("clip")["split"]
    frame = []
    for name, part in report.groupby("split", sort=False):
        good = part[part["status"] == "ok"]
        twins = good["duplicate_of"].dropna()
        frame.append(
            {
                "split": name,
                "files": len(part),
                "rejected": len(part) - len(good),
                "shortest (s)": float(good["seconds"].min()),
                "median (s)": float(good["seconds"].median()),
                "longest (s)": float(good["seconds"].max()),
                f"shorter than {packed.seconds:g} s (%)": _percent(good["seconds"] < 0.99 * packed.seconds),
                "sample rates (Hz)": ", ".join(f"{rate:,}" for rate in sorted(set(good["sample_rate"].astype(int)))),
                "several channels": int((good["channels"] > 1).sum()),
                "formats": ", ".join(sorted(set(good["subtype"].dropna()))),
                "silent": int((good["peak"] == 0).sum()),
                "beyond full scale": int((good["peak"] > 1).sum()),
                "ends in 0.5 s of zeros (%)": _percent(good["trailing_zero_seconds"] > 0.5),
                "twins in the split": int((of.reindex(twins).to_numpy() == name).sum()),
                "twins in another split": int((of.reindex(twins).to_numpy() != name).sum()),
            }
        )
    return pd.DataFrame(frame)


def _percent(values) -> float:
    return float(100 * np.mean(values)) if len(values) else float("nan")


def levels(measured: pd.DataFrame) -> pd.DataFrame:
    """A row a split: peak, level, clipping, silence, offset and bandwidth of the stored clips that were measured."""
    frame = []
    for split, part in measured.groupby("split", sort=False):
        frame.append(
            {
                "split": split,
                "clips measured": len(part),
                "peak, median": float(part["peak"].median()),
                "level (dB), 5 %": float(part["rms_db"].quantile(0.05)),
                "level (dB), median": float(part["rms_db"].median()),
                "level (dB), 95 %": float(part["rms_db"].quantile(0.95)),
                "clipped (%)": _percent(part["clipped_share"] > CLIPPED_SHARE),
                "silent (%)": _percent(part["peak"] == 0),
                "with an offset (%)": _percent(part["offset"].abs() > OFFSET),
                "nothing above 8 kHz (%)": _percent(part["empty_above_8k"]),
                "99.9 % of the power below (Hz), median": float(part["edge_hz"].median()),
            }
        )
    return pd.DataFrame(frame)


def labels(packed) -> pd.DataFrame:
    """A row a class: its training and evaluation clips here, and its training clips as published (nan if unknown)."""
    training = packed.splits != "eval"
    official = reference.class_labels().set_index("display_name")["training_clips"]
    frame = pd.DataFrame(
        {
            "class": packed.classes,
            "training clips, published": official.reindex(packed.classes).to_numpy(dtype=float),
            "training clips here": packed.targets[training].sum(0),
            "evaluation clips here": packed.targets[~training].sum(0),
        }
    )
    return frame.sort_values("training clips here", ascending=False, kind="stable", ignore_index=True)


# --- the usual causes ------------------------------------------------------------------------------------------


def causes(dataset, packed, measured: pd.DataFrame) -> pd.DataFrame:
    """The usual causes of numbers that don't reproduce, looked for one by one.

    Args:
        dataset, packed: AudioSet's, or the miniature's.
        measured: what `measure` made of ``packed``.

    Returns:
        A row a check: check, what is stated or expected, here, verdict ("fine", "look at it", "miniature" where it is
        small by design, "not known"), and what the difference does to the numbers.
    """
    frame = [*_size_checks(packed), *_sound_checks(packed, measured), *_overlap_checks(dataset, packed, measured)]
    frame += _label_checks(packed)
    return pd.DataFrame(frame, columns=["check", "stated or expected", "here", "verdict", "what it does"])


def _verdict(fine: bool | None) -> str:
    return "not known" if fine is None else "fine" if fine else "look at it"


def _size_checks(packed) -> list[tuple]:
    """Numbers of clips, classes and seconds."""
    counts = {name: int((packed.splits == name).sum()) for name in audioset.OFFICIAL}
    training = counts["balanced_train"] + counts["unbalanced_train"]
    miniature = packed.evidence == "miniature"

    def sized(check: str, wanted: float, here: float, effect: str, enough: bool) -> tuple:
        verdict = "miniature" if miniature and not enough else _verdict(enough)
        return check, f"{wanted:,}", f"{here:,}", verdict, effect

    wanted = audioset.AUTHORS_COPY["eval"]
    return [
        sized("evaluation clips", wanted, counts["eval"], "another test set: no mAP is comparable with the paper's, "
              "in either direction", counts["eval"] == wanted),
        sized("training clips", AUTHORS_TRAINING, training, f"half of the clips cost {_half_costs():.3f} mAP in the "
              "paper (Table VIII)", training >= AUTHORS_TRAINING),
        sized("classes", 527, len(packed.classes), "the mAP is a mean over other classes", len(packed.classes) == 527),
        sized("seconds a clip", 10, packed.seconds, "shorter clips hold fewer of the sounds that their labels name",
              packed.seconds == 10),
    ]  # fmt: skip


def _half_costs() -> float:
    """mAP that the paper loses when it trains on half of the clips."""
    maps = reference.table(8).set_index("training_data_percent")["map"]
    return round(float(maps[100] - maps[50]), 3)


def _sound_checks(packed, measured: pd.DataFrame) -> list[tuple]:
    """Rate, band, level, clipping, wrapping, silence, offset."""
    report = clips_report(packed)
    rates = None if report is None else report.loc[report["status"] == "ok", "sample_rate"].astype(float)
    low = None if rates is None or not len(rates) else float((rates < packed.sample_rate).mean())
    sounding = measured[measured["peak"] > 0]
    empty = float(sounding["empty_above_8k"].mean()) if len(sounding) else 0.0
    clipped = float((measured["clipped_share"] > CLIPPED_SHARE).mean())
    # a copy whose clips were each brought to full scale has nearly all its peaks at one value
    usual = float(sounding["peak"].round(2).value_counts(normalize=True).max()) if len(sounding) else 0.0
    silent = float((measured["peak"] == 0).mean())
    offset = float((measured["offset"].abs() > OFFSET).mean())
    # loud clips can cross from one side to the other; a clip that wrapped does it again and again without being clipped
    wrapped = int(((measured["jumps"] >= 3) & (measured["clipped_share"] < CLIPPED_SHARE)).sum())
    return [
        ("sample rate of the files", f"{packed.sample_rate:,} Hz or more",
         "not reported" if low is None else f"{low:.1%} below", _verdict(None if low is None else low < 0.02),
         f"16 kHz costs {_rate_costs()[0]:.3f} mAP and 8 kHz {_rate_costs()[1]:.3f} where the network is trained for "
         "it (Table IX), more where it isn't"),
        ("clips with nothing above 8 kHz", "few", f"{empty:.1%}", _verdict(empty < 0.3),
         "a copy at 16 kHz that was brought to 32 kHz: the upper mel bins are empty"),
        ("levels as they were recorded", "peaks differ", f"{usual:.0%} of the peaks are the same to 0.01",
         _verdict(usual < 0.6 or len(sounding) < 20), "the paper doesn't normalise; a network knows its levels"),
        ("clipped clips", "some: YouTube is loud", f"{clipped:.1%}", _verdict(clipped < 0.25),
         "clipping adds overtones; much of it tells of a gain on the way"),
        ("samples that wrapped round", "none", f"{wrapped:,} clips", _verdict(wrapped == 0),
         "clicks at each peak: floats beyond 1 were cast to int16 without a limit"),
        ("silent clips", "hardly any", f"{silent:.2%}", _verdict(silent < 0.005),
         "clips that couldn't be got were stored as zeros, with or without labels"),
        ("clips with an offset", "few", f"{offset:.1%}", _verdict(offset < 0.05), "the lowest mel bins are raised"),
    ]  # fmt: skip


def _rate_costs() -> tuple[float, float]:
    """mAP that the paper loses at 16 and at 8 kHz."""
    maps = reference.table(9).set_index("sample_rate_khz")["map"]
    return round(float(maps[32] - maps[16]), 3), round(float(maps[32] - maps[8]), 3)


def _overlap_checks(dataset, packed, measured: pd.DataFrame) -> list[tuple]:
    """Clips that are there twice, above all on both sides of the split."""
    evaluation = measured["split"] == "eval"
    heard = measured[measured["peak"] > 0]
    shared = len(set(heard.loc[evaluation, "digest"]) & set(heard.loc[~evaluation, "digest"]))
    twins = int(heard["digest"].duplicated().sum())
    clips = dataset.clips
    recordings = set(clips.loc[clips["split"] == "eval", "group"]) & set(clips.loc[clips["split"] != "eval", "group"])
    part = "" if len(measured) == len(packed.splits) else f" of {len(measured):,} measured"
    return [
        ("the same sound in training and evaluation", "none", f"{shared:,}{part}", _verdict(shared == 0),
         "the evaluation tells what was learnt by heart"),
        ("the same video in training and evaluation", "none", f"{len(recordings):,}", _verdict(not recordings),
         "nearly the same sound on both sides"),
        ("the same sound twice", "few", f"{twins:,}{part}", _verdict(twins <= 0.01 * max(1, len(measured))),
         "some clips count twice in the mean and in the sampling"),
    ]  # fmt: skip


def _label_checks(packed) -> list[tuple]:
    """Labels a clip, clips without one, the order of the classes, the long tail."""
    counted = labels(packed)
    known = counted.dropna(subset=["training clips, published"])
    agreement = known["training clips, published"].corr(known["training clips here"], "spearman")
    agreement = None if len(known) < 5 or np.isnan(agreement) else float(agreement)
    training = packed.targets[packed.splits != "eval"]
    a_clip = float(training.sum(1).mean()) if len(training) else float("nan")
    published = reference.class_labels()["training_clips"].sum() / AUTHORS_TRAINING
    unlabelled = int((~packed.targets.any(1)).sum())
    absent = int((counted["evaluation clips here"] == 0).sum())
    return [
        ("labels a training clip", f"{published:.2f}", f"{a_clip:.2f}", _verdict(abs(a_clip - published) < 0.6),
         "labels got lost, or were added from the ontology's parents"),
        ("clips without a label", "none", f"{unlabelled:,}", _verdict(unlabelled == 0),
         "rows of clips that were never there, packed as silence: they count as negatives of every class"),
        ("sizes of the classes against the published ones", "rank correlation near 1",
         "not known" if agreement is None else f"{agreement:.2f}",
         _verdict(None if agreement is None else agreement > 0.7),
         "near 0: the columns are in another order than the names, and every class-wise number is another class's"),
        ("classes without an evaluation clip", "none", f"{absent:,}", _verdict(absent == 0),
         "they have no AP and are left out of the mAP; scikit-learn would count them as 0"),
    ]  # fmt: skip


def sentence(table: pd.DataFrame) -> str:
    """What the checks found, in plain words.

    Args:
        table: what `causes` made.
    """
    fine, odd = (table["verdict"] == "fine").sum(), table[table["verdict"] == "look at it"]
    small, unknown = (table[table["verdict"] == kind] for kind in ("miniature", "not known"))
    text = f"{fine} of {len(table)} checks are as they should be."
    if len(odd):
        text += f" To look at: {'; '.join(f'{row.check} ({row.here})' for row in odd.itertuples())}."
    if len(small):
        text += f" Small by design, since this is a miniature: {', '.join(small['check'])}."
    if len(unknown):
        text += f" Not known here: {', '.join(unknown['check'])}."
    return text


# --- pictures --------------------------------------------------------------------------------------------------


def class_sizes(counted: pd.DataFrame, evidence: str, ax):
    """Training clips of the classes, the largest first: all of AudioSet's as published, and those here.

    Args:
        counted: what `labels` made.
        evidence: where ours come from.
        ax: matplotlib axes.
    """
    published = np.sort(reference.class_labels()["training_clips"].to_numpy())[::-1]
    here = np.sort(counted["training clips here"].to_numpy())[::-1]
    style = {"marker": ".", "markersize": 4, "linewidth": 1.2}
    ax.plot(np.arange(1, len(published) + 1), published, color="0.5", label="published, 527 classes", **style)
    label = f"here ({evidence}), {len(here)} classes"
    ax.plot(np.arange(1, len(here) + 1), np.maximum(here, 0.5), color=FAMILY_COLOURS["cnn"], label=label, **style)
    ax.set(xscale="log", yscale="log", xlabel="Rank of the class by its training clips", ylabel="Training clips")
    ax.xaxis.set_major_formatter("{x:g}")
    ax.legend(loc="upper right")
    return ax


def bandwidth(measured: pd.DataFrame, sample_rate: int, ax):
    """The frequency below which 99.9 % of a clip's power is, as shares of each split's clips."""
    bins = np.linspace(0, sample_rate / 2000, 33)
    colours = dict(zip(audioset.OFFICIAL, (FAMILY_COLOURS["cnn"], *VARIANT_COLOURS), strict=False))
    for split, part in measured.dropna(subset=["edge_hz"]).groupby("split", sort=False):
        weights = np.full(len(part), 100 / len(part))
        ax.hist(part["edge_hz"] / 1000, bins, weights=weights, histtype="step", linewidth=1.8, label=split,
                color=colours[split])  # fmt: skip
    for limit in (4, 8):
        ax.axvline(limit, color="0.5", linestyle="--", linewidth=1)
    ax.set(xlabel="99.9 % of the power is below (kHz)", ylabel="Share of clips (%)", xlim=(0, sample_rate / 2000))
    ax.legend(loc="upper left" if measured["edge_hz"].median() > sample_rate / 4 else "upper right")
    return ax
