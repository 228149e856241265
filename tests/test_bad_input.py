"""Input that can't be used, as a user meets it: what is told, with which exit code, and that nothing half-made is left.

The data sets are miniatures without their mark, so that they count as real ones, and are then damaged.
"""

import csv
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import pytest
import soundfile
import yaml
from pydantic import TypeAdapter, ValidationError

from pannslib import catalogue, cli, profiles, reproduce
from pannslib.datasets import miniature
from pannslib.datasets.packed import PackedClips

RATE = 44_100


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A data root with a small ESC-50 (two classes, two clips of each in each fold) and RAVDESS (four actors)."""
    root = tmp_path_factory.mktemp("whole")
    miniature.make("esc50", root / "raw" / "esc50", classes=2, clips_per_class_and_fold=2)
    miniature.make("ravdess", root / "raw" / "ravdess", actors=4, files_per_actor=15)
    for mark in root.glob("raw/*/miniature.json"):
        mark.unlink()
    return root


@pytest.fixture
def root(whole, tmp_path) -> Path:
    """A copy of `whole` to damage, in a folder whose name is awkward."""
    return Path(shutil.copytree(whole, tmp_path / "données: a #1"))


@pytest.fixture
def esc50(root) -> Path:
    return root / "raw" / "esc50"


@pytest.fixture
def ravdess(root) -> Path:
    return root / "raw" / "ravdess"


@pytest.fixture
def panns(tmp_path, monkeypatch, capsys):
    """Call the command line with a home of its own: (exit code, what it told on stderr)."""
    monkeypatch.setenv("PANNS_HOME", str(tmp_path / "home"))

    def call(*arguments) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["panns", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code, capsys.readouterr().err

    return call


@pytest.fixture
def refused(panns, tmp_path):
    """Call `panns reproduce`, which must exit with 2 before it writes anything; what it told."""

    def call(data_root: Path | str = "", profile: Path | str = "smoke", *options) -> str:
        code, told = panns("reproduce", "--profile", profile, "--data-root", data_root, *options)
        assert code == 2
        assert told.startswith("panns: ")
        assert "Traceback" not in told
        assert not (tmp_path / "home").exists()
        return told

    return call


def edit_table(esc50: Path, change) -> None:
    """Lay `change(row)` over every row of the table; a row for which it gives None is dropped."""
    table = esc50 / "meta" / "esc50.csv"
    with open(table, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    kept = [row | changed for row in rows if (changed := change(row)) is not None]
    with open(table, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(kept)


# --- the data root --------------------------------------------------------------------------------------------------


def test_a_data_root_that_is_not_there_or_is_a_file(refused, tmp_path):
    assert "absent doesn't exist" in refused(tmp_path / "absent")
    (tmp_path / "file").write_text("")
    assert "file doesn't exist or isn't a folder" in refused(tmp_path / "file")


def test_a_data_root_without_any_data_set_is_told_so(tmp_path):
    (tmp_path / "empty" / "raw").mkdir(parents=True)
    told = reproduce.check(catalogue.plan("smoke", tmp_path / "empty"))
    assert len(told) == len({task for job in catalogue.JOBS.values() for task in job.tasks})
    assert all(f"miniature (synthetic sound); there is none below {tmp_path / 'empty'}" in line for line in told)


def test_a_relative_data_root(root, monkeypatch):
    monkeypatch.chdir(root.parent)
    plan = catalogue.plan("smoke", root.name)
    assert "esc50: partial, 20 of 2,000 clips" in "\n".join(reproduce.check(plan))
    assert "audioset: miniature" in "\n".join(reproduce.check(plan))


# --- ESC-50 ---------------------------------------------------------------------------------------------------------


def test_esc50_without_its_table(refused, root, esc50):
    (esc50 / "meta" / "esc50.csv").unlink()
    assert "has no meta/esc50.csv" in refused(root)


def test_esc50_with_clips_missing(refused, root, esc50):
    names = sorted(path.name for path in (esc50 / "audio").glob("1-*"))
    for name in names:
        (esc50 / "audio" / name).unlink()
    told = refused(root)
    assert "names 4 clips (of 20) that are not in audio/" in told
    assert all(name in told for name in names)
    assert "ALLOW_MISSING=1" in told
    allowed = reproduce.check(catalogue.plan("smoke", root, allow_missing=True))
    assert "esc50: partial, 16 of 2,000 clips" in "\n".join(allowed)


def test_esc50_with_all_clips_missing_is_refused_even_with_allow_missing(refused, root, esc50):
    shutil.rmtree(esc50 / "audio")
    assert "no clip of ESC-50 is there" in refused(root, "smoke", "--allow-missing")


def test_esc50_with_fold_9(refused, root, esc50):
    edit_table(esc50, lambda row: {"fold": "9"} if row["fold"] == "5" else {})
    assert "fold is '9', but must be a whole number from 1 to 5" in refused(root)


def test_esc50_with_one_fold_alone_is_told_before_anything_is_trained(refused, root, esc50):
    edit_table(esc50, lambda row: {} if row["fold"] == "1" else None)
    assert "2 classes in 1 folds (1)" in refused(root)


def test_esc50_with_one_class_alone(refused, root, esc50):
    edit_table(esc50, lambda row: {} if row["target"] == "10" else None)
    assert "clips of 1 class (rain), but there must be two at least" in refused(root)


def test_esc50_with_a_recording_in_two_folds(refused, root, esc50):
    edit_table(esc50, lambda row: {"src_file": "777"})
    assert "in several folds, so that test clips would be known from training: 777" in refused(root)


# --- RAVDESS --------------------------------------------------------------------------------------------------------


def test_ravdess_with_one_actor(refused, root, ravdess):
    for actor in ("02", "03", "04"):
        shutil.rmtree(ravdess / f"Actor_{actor}")
    assert "recordings of 1 actors, but two at least are needed" in refused(root)


def test_ravdess_with_another_actors_recording(refused, root, ravdess):
    stray = next((ravdess / "Actor_02").glob("*.wav"))
    stray.rename(ravdess / "Actor_01" / stray.name)
    assert f"{stray.name}: the name says actor 02, the folder Actor_01" in refused(root)


def test_a_link_that_leads_nowhere(refused, root, ravdess):
    clip = next((ravdess / "Actor_02").glob("*.wav"))
    clip.unlink()
    clip.symlink_to("annexed.wav")
    assert f"{clip} cannot be reached" in refused(root)


def test_stray_files_with_names_that_are_not_utf8_can_be_told(root, ravdess):
    (ravdess / "Actor_01" / b"str\xff.txt".decode("utf-8", "surrogateescape")).write_text("")
    notes = " ".join(catalogue.plan("smoke", root).dataset("ravdess").notes)
    assert "str\\udcff.txt" in notes


# --- profiles -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sede": 1}, "sede: there is no such setting; allowed are description, seed"),
        ({"seed": "many"}, "seed: 'many' is not allowed"),
        ({"width": 0}, "width: 0.0 is not allowed"),
        ({"width": 0.001}, "width 0.001 leaves none of 64 channels"),
        ({"architecture": "Cnn41"}, "There is no model 'Cnn41'. Did you mean 'Cnn14'?"),
        ({"transfer": {"esc50": {"seconds": 0.05}}}, "transfer_esc50, seconds: 0.05 is too short for Cnn14"),
        ({"runs": {"train_cnn14": {"width": 0}}}, "runs.train_cnn14 is not a valid profile:\n  width: 0"),
        ({"runs": {"train_cnn14": {"threads": 0}}}, "threads: 0 is not allowed"),
        ({"runs": {"train_cnn14": {"precision": "fp8"}}}, "precision: 'fp8' is not allowed"),
        ({"miniatures": {"audioset": {"unbalanced": 1}}}, "miniatures.audioset.unbalanced: 1"),
    ],
)
def test_profiles_that_cannot_work(refused, tmp_path, change, words):
    smoke = yaml.safe_load((profiles.FOLDER / "smoke.yaml").read_text())
    path = tmp_path / "mein profil.yaml"
    path.write_text(yaml.safe_dump(profiles.merge(smoke, change)))
    assert words in refused(profile=path)


def test_a_setting_that_is_there_twice(refused, tmp_path):
    path = tmp_path / "twice.yaml"
    path.write_text((profiles.FOLDER / "smoke.yaml").read_text() + "width: 0.5\n")
    assert "width is there twice" in refused(profile=path)


def test_profiles_in_other_scripts_have_names_of_their_own(tmp_path):
    names = []
    for stem in ("проба", "тест", "Été 2"):
        path = tmp_path / f"{stem}.yaml"
        shutil.copy(profiles.FOLDER / "smoke.yaml", path)
        names.append(profiles.load(path).name)
    assert names == ["проба", "тест", "été-2"]


@pytest.mark.parametrize("task", miniature.MINIATURES)
def test_a_profile_allows_the_sizes_that_the_miniatures_do(task):
    section = profiles.Miniatures.model_fields[task].annotation
    assert set(section.model_fields) == set(miniature.MINIATURES[task].sizes)
    for name, (default, allowed) in miniature.MINIATURES[task].sizes.items():
        field = section.model_fields[name]
        adapter = TypeAdapter(Annotated[field.annotation, *field.metadata, "the type with its limits"])
        for value in sorted(allowed):
            adapter.validate_python(type(default)(value))
        for value in (min(allowed) - 1, max(allowed) + 1):
            with pytest.raises(ValidationError):
                adapter.validate_python(type(default)(value))


# --- clips ----------------------------------------------------------------------------------------------------------


def small_profile(tmp_path) -> Path:
    """The smoke profile with the least Mini-AudioSet that there is."""
    content = yaml.safe_load((profiles.FOLDER / "smoke.yaml").read_text())
    content["miniatures"]["audioset"] |= {"unbalanced": 44, "balanced_per_class": 1, "eval_per_class": 1}
    path = tmp_path / "kleines profil.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def damage(esc50: Path) -> dict[str, str]:
    """Spoil a clip of the first class in each fold; by clip what must be said of it."""
    first = {}
    for clip in sorted((esc50 / "audio").glob("*-10.wav")):
        first.setdefault(clip.name[0], clip)
    empty, truncated, text, no_samples, nan = first.values()
    empty.write_bytes(b"")
    truncated.write_bytes(truncated.read_bytes()[:50_000])
    text.write_text("404 Not Found\n")
    soundfile.write(no_samples, np.zeros(0), RATE)
    soundfile.write(nan, np.array([0, np.nan, 0.5]), RATE, subtype="FLOAT")
    return {
        empty.name: "is empty",
        truncated.name: "is truncated",
        text.name: "is no sound file",
        no_samples.name: "holds no samples",
        nan.name: "1 samples that are NaN",
    }


def odd(esc50: Path) -> dict[str, str]:
    """Replace three clips of the other class by usable ones of other forms; by clip what must be remarked."""
    clips = sorted(set((esc50 / "audio").glob("*.wav")) - set((esc50 / "audio").glob("*-10.wav")))[:3]
    noise = 0.1 * np.random.default_rng(0).standard_normal((RATE, 6))
    soundfile.write(clips[0], noise[:8000, 0], 8000)
    soundfile.write(clips[1], noise[:, 0], 192_000)
    soundfile.write(clips[2], noise, RATE)
    remarks = ("8 kHz: nothing above 4 kHz", "192 kHz, where most clips have 44.1 kHz", "6 channels: averaged")
    return {clip.name: remark for clip, remark in zip(clips, remarks, strict=True)}


def test_bad_clips_among_good_ones_are_listed_and_skipped(root, esc50, panns, tmp_path):
    reasons, remarks = damage(esc50), odd(esc50)
    profile = small_profile(tmp_path)
    before = sorted(path.stat().st_mtime_ns for path in root.rglob("*"))
    code, _ = panns("execute", "data", "--profile", profile, "--data-root", root)
    assert code == 0
    home = tmp_path / "home"
    assert (home / "runs/kleines-profil/data/done.json").is_file()
    packed = PackedClips(next(home.glob("data/packed/kleines-profil/esc50_*.h5")))
    assert len(packed.names) == 15
    assert not set(packed.names) & set(reasons)
    report = packed.clips_report.set_index("clip")
    assert set(report.index[report["status"] == "rejected"]) == set(reasons)
    assert all(words in report.loc[clip, "reason"] for clip, words in reasons.items())
    assert all(words in report.loc[clip, "remark"] for clip, words in remarks.items())
    table = pd.read_csv(home / "figures/kleines-profil/data_sets.csv").set_index("data set")
    assert table.loc["ESC-50", "rejected"] == 5
    told = reproduce.left_out(catalogue.plan(profile, root))
    assert len(told) == 1
    assert told[0].startswith("esc50: 5 of 20 clips were left out; ")
    assert sorted(path.stat().st_mtime_ns for path in root.rglob("*")) == before


def test_a_class_without_a_usable_clip_stops_the_job_in_plain_words(root, esc50, panns, tmp_path):
    for clip in (esc50 / "audio").glob("*-10.wav"):
        clip.write_text("404 Not Found\n")
    code, told = panns("execute", "data", "--profile", small_profile(tmp_path), "--data-root", root)
    assert code == 1
    assert "no clip of class 'rain' can be used. 10 clips are rejected" in told
    assert "Traceback" not in told
    home = tmp_path / "home"
    assert "class 'rain'" in (home / "runs/kleines-profil/data/error.txt").read_text()
    assert not list(home.glob("data/packed/kleines-profil/*esc50*[hv]5*"))
    assert not list(home.glob("figures/**/*.*"))
    assert not list(home.glob("runs/**/done.json"))


def test_any_path_reaches_the_jobs_as_it_is(root, tmp_path, monkeypatch):
    monkeypatch.setenv("PANNS_HOME", str(tmp_path / "hö me: b #2"))
    profile = tmp_path / "mein profil: #3.yaml"
    shutil.copy(profiles.FOLDER / "smoke.yaml", profile)
    plan = catalogue.plan(profile, root)
    call = [*reproduce._command(plan, str(profile), str(root), 1, ()), "--dry-run", "--printshellcmds"]
    dry = subprocess.run(call, capture_output=True, text=True, check=False)
    assert dry.returncode == 0, dry.stderr[-2000:]
