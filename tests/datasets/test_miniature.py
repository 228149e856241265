"""The miniatures: layout, determinism, levels, honesty of the labels, and what an interrupted call leaves."""

import csv
import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pannslib import datasets
from pannslib.datasets import miniature
from pannslib.datasets.miniature import audioset, dcase2019_task1a, esc50, ravdess, synthesis
from pannslib.errors import DataError

SMALL = {
    "audioset": {"seconds": 1.0, "unbalanced": 200, "balanced_per_class": 1, "eval_per_class": 1},
    "dcase2018_task2": {"classes": 16, "largest_class": 3, "test_per_class": 1, "longest": 1.5},
    "dcase2019_task1a": {"seconds": 1.0, "training_per_scene": 2, "test_per_scene": 1},
    "esc50": {"classes": 16, "clips_per_class_and_fold": 1},
    "msos": {"seconds": 1.0, "development_per_category": 6, "evaluation_per_category": 2},
    "ravdess": {"actors": 2, "files_per_actor": 15},
}
TASKS = sorted(SMALL)
# sample rate, channels, encoding, seconds from and to
FORMATS = {
    "audioset": (32_000, 1, "PCM_16", 1, 1),
    "dcase2018_task2": (44_100, 1, "PCM_16", 0.2999, 1.5),
    "dcase2019_task1a": (48_000, 2, "PCM_24", 1, 1),
    "esc50": (44_100, 1, "PCM_16", 5, 5),
    "msos": (44_100, 1, "PCM_16", 1, 1),
    "ravdess": (48_000, 1, "PCM_16", 2, 6),
}
# Class sizes in the order of SOUNDS, as the package's class list gives them for the real data set.
OFFICIAL = [{"mid": sound.mid, "training_clips": 1000 - k} for k, sound in enumerate(audioset.SOUNDS)]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> dict[str, Path]:
    """One small miniature of each task."""
    folder = tmp_path_factory.mktemp("miniatures")
    return {task: miniature.make(task, folder / task, **sizes) for task, sizes in SMALL.items()}


def contents(folder: Path) -> dict[str, str]:
    """The hash of every file below a folder by its relative name."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def rows(path: Path) -> list[dict]:
    """The rows of a CSV with a header."""
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def segments(path: Path) -> dict[str, list[str]]:
    """Clip id -> label ids of a list of segments."""
    lines = [line.split(", ") for line in path.read_text().splitlines() if not line.startswith("#")]
    return {name: labels.strip('"').split(",") for name, _, _, labels in lines}


# --- what holds for every task ---------------------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS)
def test_the_same_request_gives_the_same_bytes_and_another_seed_others(task, made, tmp_path):
    assert contents(miniature.make(task, tmp_path / "again", **SMALL[task])) == contents(made[task])
    other = contents(miniature.make(task, tmp_path / "other", seed=1, **SMALL[task]))
    sounds = {name for name in other if name.endswith(".wav")}
    assert not {other[name] for name in sounds} & set(contents(made[task]).values())


@pytest.mark.parametrize("task", TASKS)
def test_every_clip_is_whole_audible_and_within_full_scale(task, made):
    *form, shortest, longest = FORMATS[task]
    clips = sorted(made[task].rglob("*.wav"))
    for clip in clips:
        facts = soundfile.info(clip)
        assert [facts.samplerate, facts.channels, facts.subtype] == form
        assert shortest <= facts.duration <= longest
        peak = np.abs(soundfile.read(clip, dtype="int16")[0].astype(int)).max()
        assert 30 < peak <= 32767
    assert len({hashlib.sha256(clip.read_bytes()).hexdigest() for clip in clips}) == len(clips)


@pytest.mark.parametrize("task", TASKS)
def test_the_mark_says_what_was_made(task, made):
    mark = json.loads((made[task] / miniature.MARK).read_text())
    assert mark["task"] == task
    assert mark["seed"] == 0
    assert mark["sizes"] == SMALL[task]
    expected = miniature.MINIATURES[task].clips(**SMALL[task])
    assert expected == len(list(made[task].rglob("*.wav")))


@pytest.mark.parametrize("task", TASKS)
def test_the_loader_of_the_real_data_set_reads_it(task, made):
    dataset = datasets.load(task, made[task])
    unused = dcase2019_task1a.UNUSED * len(dcase2019_task1a.SCENES) if task == "dcase2019_task1a" else 0
    assert len(dataset.clips) == miniature.MINIATURES[task].clips(**SMALL[task]) - unused
    assert dataset.evidence == "miniature"


# --- requests --------------------------------------------------------------------------------------------------


def test_a_finished_miniature_is_left_and_another_request_replaces_it(tmp_path):
    folder = miniature.make("ravdess", tmp_path / "data" / "ravdess", actors=2, files_per_actor=15)
    first = (folder / miniature.MARK).stat().st_ino
    miniature.make("ravdess", folder, actors=2, files_per_actor=15)
    assert (folder / miniature.MARK).stat().st_ino == first
    miniature.make("ravdess", folder, actors=3, files_per_actor=15)
    assert (folder / "Actor_03").is_dir()
    assert os.listdir(folder.parent) == ["ravdess"]


def test_an_empty_folder_is_filled(tmp_path):
    assert any(miniature.make("esc50", tmp_path, classes=2, clips_per_class_and_fold=1).iterdir())


def test_a_foreign_folder_is_not_touched(tmp_path):
    folder = tmp_path / "ESC-50-master"
    (folder / "meta").mkdir(parents=True)
    (folder / "meta" / "esc50.csv").write_text("filename\n")
    with pytest.raises(DataError, match="is not a miniature"):
        miniature.make("esc50", folder, classes=2, clips_per_class_and_fold=1)
    assert contents(folder).keys() == {"meta/esc50.csv"}
    assert os.listdir(tmp_path) == ["ESC-50-master"]


def test_a_file_in_the_place_of_the_folder_is_not_touched(tmp_path):
    (tmp_path / "esc50").write_text("mine")
    with pytest.raises(DataError, match="is not a miniature"):
        miniature.make("esc50", tmp_path / "esc50")
    assert (tmp_path / "esc50").read_text() == "mine"


@pytest.mark.parametrize(
    ("task", "arguments", "message"),
    [
        ("esc51", {}, "no miniature of 'esc51'.*audioset, .*esc50, .*ravdess"),
        ("esc50", {"class": 3}, "no size 'class'.*clips_per_class_and_fold, classes"),
        ("esc50", {"classes": 1}, "classes is 1, .*whole number, from 2 to 16"),
        ("esc50", {"classes": 2.5}, "classes is 2.5, .*whole number"),
        ("esc50", {"classes": True}, "classes is True"),
        ("esc50", {"seed": -1}, "seed is -1"),
        ("ravdess", {"files_per_actor": 20}, "files_per_actor is 20, .*one of 15, 30, 60"),
        ("ravdess", {"actors": 25}, "actors is 25, .*from 2 to 24"),
        ("audioset", {"seconds": "2"}, "seconds is '2', .*from 1.0 to 10.0"),
        ("audioset", {"seconds": float("nan")}, "seconds is nan"),
    ],
)
def test_an_impossible_request_is_refused_by_name_before_anything_is_written(task, arguments, message, tmp_path):
    with pytest.raises(DataError, match=message):
        miniature.make(task, tmp_path / "data", **arguments)
    assert not any(tmp_path.iterdir())


def test_an_interrupted_call_leaves_nothing_and_keeps_the_former_miniature(tmp_path, monkeypatch):
    folder = miniature.make("esc50", tmp_path / "esc50", classes=2, clips_per_class_and_fold=1)
    before, written = contents(folder), []

    def write_some_then_stop(path, wave, rate):
        if len(written) == 3:
            raise KeyboardInterrupt
        written.append(path)
        synthesis.write_wav(path, wave, rate)

    monkeypatch.setattr(esc50, "write_wav", write_some_then_stop)
    for place in (folder, tmp_path / "fresh"):
        written.clear()
        with pytest.raises(KeyboardInterrupt):
            miniature.make("esc50", place, seed=1, classes=2, clips_per_class_and_fold=1)
        assert len(written) == 3
    assert contents(folder) == before
    assert os.listdir(tmp_path) == ["esc50"]


FULL = """
import resource, sys
from pannslib.datasets import miniature
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
try:
    miniature.make("esc50", sys.argv[1], seed=1, classes=2, clips_per_class_and_fold=1)
except Exception as error:
    print(f"{type(error).__name__}: {error}")
"""


def test_a_disk_that_fills_up_is_told_and_keeps_the_former_miniature(tmp_path):
    folder = miniature.make("esc50", tmp_path / "esc50", classes=2, clips_per_class_and_fold=1)
    before = contents(folder)
    ended = subprocess.run([sys.executable, "-c", FULL, str(folder)], capture_output=True, text=True, check=True)
    assert ended.stdout.startswith(f"DataError: {folder} could not be written: file too large")
    assert "what was there before is kept" in ended.stdout
    assert contents(folder) == before
    assert os.listdir(tmp_path) == ["esc50"]


def test_what_a_killed_process_left_is_swept_and_what_a_living_one_writes_is_not(tmp_path):
    host = miniature.socket.gethostname()
    dead, alive = (tmp_path / f".esc50.{host}-{process}.partial" for process in (2**22 + 1, os.getppid()))
    for leftover in (dead, alive):
        (leftover / "audio").mkdir(parents=True)
    miniature.make("esc50", tmp_path / "esc50", classes=2, clips_per_class_and_fold=1)
    assert not dead.exists()
    assert alive.exists()


def test_a_bar_counts_every_clip(tmp_path, monkeypatch):
    monkeypatch.setenv("PANNS_PROGRESS", str(tmp_path / "progress.json"))
    miniature.make("esc50", tmp_path / "esc50", progress=True, classes=2, clips_per_class_and_fold=2)
    state = json.loads((tmp_path / "progress.json").read_text())
    assert (state["done"], state["total"]) == (20, 20)


# --- ESC-50 ----------------------------------------------------------------------------------------------------


def test_esc50_metadata_are_in_the_official_form(tmp_path):
    folder = miniature.make("esc50", tmp_path / "esc50", classes=3, clips_per_class_and_fold=4)
    clips = rows(folder / "meta" / "esc50.csv")
    assert tuple(clips[0]) == ("filename", "fold", "target", "category", "esc10", "src_file", "take")
    for clip in clips:
        assert clip["filename"] == "{fold}-{src_file}-{take}-{target}.wav".format(**clip)
        assert (folder / "audio" / clip["filename"]).is_file()
    assert set(Counter((clip["category"], clip["fold"]) for clip in clips).values()) == {4}
    assert {(clip["category"], clip["target"], clip["esc10"]) for clip in clips} == {
        ("rain", "10", "True"),
        ("clock_tick", "38", "True"),
        ("helicopter", "40", "True"),
    }
    recordings = {clip["src_file"]: set() for clip in clips}
    for clip in clips:
        recordings[clip["src_file"]].add((clip["fold"], clip["category"]))
    assert all(len(places) == 1 for places in recordings.values())
    assert len(recordings) < len(clips)  # some recordings gave several takes


def test_esc50_targets_are_the_official_ones(real_data):
    official = {row["category"]: row for row in rows(real_data / "raw/esc50/ESC-50-master/meta/esc50.csv")}
    ours = {category.name: category for category in esc50.CATEGORIES}
    shared = official.keys() & ours.keys()
    assert len(shared) >= 6
    assert all(int(official[name]["target"]) == ours[name].target and ours[name].esc10 for name in shared)
    assert {name for name in ours if ours[name].esc10} <= official.keys()


# --- RAVDESS ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("files", sorted(ravdess.PARTS))
def test_ravdess_file_names_are_the_official_combinations(files):
    takes = ravdess.takes(files)
    assert len(set(takes)) == files
    statements, repetitions = ravdess.PARTS[files]
    for emotion, intensity, statement, repetition in takes:
        assert emotion in range(1, 9)
        assert intensity in ((1,) if emotion == 1 else (1, 2))
        assert statement <= statements
        assert repetition <= repetitions


def test_ravdess_voices_start_and_end_in_silence_and_women_speak_higher(made):
    pitches = {}
    for clip in sorted(made["ravdess"].glob("*/03-01-01-*.wav")):
        wave, rate = soundfile.read(clip, dtype="float32")
        edge = int(0.5 * rate)
        inside = synthesis.root_mean_square(wave[edge:-edge])
        assert max(map(synthesis.root_mean_square, (wave[:edge], wave[-edge:]))) < inside / 10
        pitches[clip.parent.name] = _pitch(wave, rate)
    assert 70 < pitches["Actor_01"] < 165 < pitches["Actor_02"] < 300


def _pitch(wave: np.ndarray, rate: int) -> float:
    """The median fundamental in Hz of the loudest frames, from the peak of their autocorrelation."""
    frames = wave[: len(wave) // 2048 * 2048].reshape(-1, 2048)
    frames = frames[np.argsort(np.mean(frames**2, axis=1))[-20:]]
    power = np.abs(np.fft.rfft(frames * np.hanning(2048), 4096)) ** 2
    correlation = np.fft.irfft(power)[:, : rate // 60]
    correlation[:, : rate // 400] = 0
    return float(np.median(rate / np.argmax(correlation, axis=1)))


# --- Mini-AudioSet ---------------------------------------------------------------------------------------------


def test_class_labels_are_the_official_file(made):
    content = (made["audioset"] / "metadata" / "class_labels_indices.csv").read_bytes()
    assert hashlib.md5(content).hexdigest() == "68c0b5c199d6cc789852b144cc3ab500"  # reference/datasets.yaml


def test_classes_are_of_the_ontology_each_once(made):
    names = {row["mid"]: row["display_name"] for row in rows(made["audioset"] / "metadata/class_labels_indices.csv")}
    mids = [sound.mid for sound in audioset.SOUNDS]
    assert len(mids) == len(set(mids)) >= 30
    assert [names[mid] for mid in mids[:4]] == ["Sine wave", "Chirp tone", "Dial tone", "Busy signal"]
    assert len({sound.recipe for sound in audioset.SOUNDS}) == len(mids)


def test_segments_are_in_the_official_form(made):
    metadata = made["audioset"] / "metadata"
    seen = set()
    for split in ("balanced_train", "unbalanced_train", "eval"):
        lines = (metadata / f"{split}_segments.csv").read_text().splitlines()
        clips = segments(metadata / f"{split}_segments.csv")
        labels = [label for labels in clips.values() for label in labels]
        assert all(line.startswith("# ") for line in lines[:3])
        assert lines[1] == (
            f"# num_ytids={len(clips)}, num_segs={len(clips)}, num_unique_labels={len(set(labels))}, "
            f"num_positive_labels={len(labels)}"
        )
        audios = {path.stem for path in (made["audioset"] / "audios" / f"{split}_segments").iterdir()}
        assert audios == {f"Y{name}" for name in clips}
        assert all(len(name) == 11 for name in clips)
        assert not seen & set(clips)
        seen |= set(clips)


def test_labels_are_true_in_eval_and_a_little_noisy_in_training(made):
    truth = {}
    for event in rows(made["audioset"] / "metadata" / "events.csv"):
        assert 0 <= float(event["onset_seconds"]) < float(event["offset_seconds"]) <= 1.0
        truth.setdefault(event["split"], {}).setdefault(event["YTID"], []).append(event["mid"])
    labels = {split: segments(made["audioset"] / "metadata" / f"{split}_segments.csv") for split in truth}
    assert {name: sorted(mids) for name, mids in labels["eval"].items()} == {
        name: sorted(mids) for name, mids in truth["eval"].items()
    }
    wrong = [
        name for name, mids in labels["unbalanced_train"].items() if set(mids) != set(truth["unbalanced_train"][name])
    ]
    assert 0.02 < len(wrong) / len(labels["unbalanced_train"]) < 0.25
    assert max(Counter(len(mids) for mids in truth["eval"].values())) <= 3


@pytest.mark.parametrize("clips", [len(audioset.SOUNDS), 60, 1200])
def test_no_class_is_absent_from_the_tail_and_none_is_twice_in_a_clip(clips):
    plan = audioset.long_tailed_plan(np.random.default_rng(0), clips, OFFICIAL)
    assert len(plan) == clips
    assert {k for classes in plan for k in classes} == set(range(len(audioset.SOUNDS)))
    assert all(len(set(classes)) == len(classes) for classes in plan)


def test_the_tail_is_long_and_its_order_the_official_one():
    plan = audioset.long_tailed_plan(np.random.default_rng(0), 1200, OFFICIAL)
    counts = Counter(k for classes in plan for k in classes)
    assert counts[0] >= 100 * min(counts.values())
    assert counts[0] > counts[5] > counts[10] > counts[20]


@pytest.mark.parametrize("sound", audioset.SOUNDS, ids=lambda sound: sound.recipe.__name__)
def test_every_recipe_sounds_at_its_shortest_and_varies(sound):
    samples = int(sound.shortest * audioset.RATE)
    waves = [sound.recipe(synthesis.generator(seed, "test", 0), samples, audioset.RATE) for seed in range(4)]
    for wave in waves:
        assert wave.shape == (samples,)
        assert wave.dtype == np.float32
        assert np.isfinite(wave).all()
        frames = wave[: samples // 800 * 800].reshape(-1, 800)
        level = np.mean(frames**2, axis=1)
        assert np.mean(level > level.max() / 1000) > 0.05  # not one click in silence
    assert not np.allclose(waves[0], waves[1])


# --- building blocks -------------------------------------------------------------------------------------------


def test_noise_has_the_tilt_asked_for():
    wave = synthesis.noise(np.random.default_rng(0), 2**17, 32_000, tilt=-6.0)
    power = np.abs(np.fft.rfft(wave)) ** 2
    frequency = np.fft.rfftfreq(len(wave), 1 / 32_000)
    octave = [10 * np.log10(power[(frequency > f) & (frequency < 2 * f)].mean()) for f in (250, 500, 1000, 2000)]
    assert np.allclose(np.diff(octave), -6.0, atol=0.5)
    assert synthesis.root_mean_square(wave) == pytest.approx(1.0, abs=0.02)


def test_modes_are_the_sum_of_dying_sines():
    time = np.arange(5000) / 32_000
    expected = np.sin(2 * np.pi * 440 * time) * 10 ** (-3 * time / 0.5)
    expected += 0.5 * np.sin(2 * np.pi * 1000.5 * time) * 10 ** (-3 * time / 0.1)
    wave = synthesis.modes(5000, 32_000, [440, 1000.5, 15_000], [0.5, 0.1, 1.0], [1, 0.5, 9])  # the last is too high
    assert np.allclose(wave, expected, atol=1e-4)


def test_a_harmonic_tone_never_folds_back():
    wave = synthesis.harmonic_tone(3000.0, np.ones(40), 32_000, 32_000)
    power = np.abs(np.fft.rfft(wave * np.hanning(32_000))) ** 2
    harmonics = power[[3000, 6000, 9000, 12_000]].sum() + 2 * power[[2999, 5999, 8999, 11_999]].sum()
    assert harmonics > 0.99 * power.sum()


def test_too_loud_a_wave_is_turned_down_and_not_wrapped(tmp_path):
    wave = np.sin(np.arange(8000, dtype=np.float32) / 10) * 3
    synthesis.write_wav(tmp_path / "loud.wav", wave, 8000)
    read, _ = soundfile.read(tmp_path / "loud.wav", dtype="float32")
    assert np.allclose(read, wave / 3 * 0.999, atol=1e-3)
