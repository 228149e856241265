"""Making Sense of Sounds: log sheets, folders a category, and its miniature."""

import csv
from itertools import pairwise

import numpy as np
import pytest
import soundfile
import yaml

from pannslib import audio, datasets, reference
from pannslib.datasets import miniature, msos
from pannslib.datasets.miniature import msos as made_up
from pannslib.errors import DataError

DEVELOPMENT = [("Effects", "Beep", "1.wav"), ("Human", "Cough", "2.wav"), ("Music", "Drum", "3.wav")]
EVALUATION = [("Music", "Flute", "1.wav"), ("Human", "cough", "9.wav")]
HEADER = ("Category", "Event", "File")


def write(path, rows, newline="\n", encoding="utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding=encoding, newline="") as file:
        csv.writer(file, lineterminator=newline).writerows(rows)


def make(root, development=DEVELOPMENT, evaluation=EVALUATION, absent=(), header=HEADER, **options):
    """A folder in the official layout with these clips, and a file for each but the absent ones."""
    unpacked = root / msos.DEVELOPMENT
    write(unpacked / "Logsheet_Development.csv", [header, *development], **options)
    write(root / "Logsheet_EvaluationMaster.csv", [header, *evaluation], **options)
    paths = [unpacked / "Development" / category / name for category, _, name in development]
    paths += [root / "Evaluation" / name for _, _, name in evaluation]
    for path in paths:
        if path.name not in absent and path.suffix == ".wav":
            audio.save(path, np.zeros(441), 44_100)
    return root


def load(root, **options):
    return datasets.load("msos", root, **options)


def test_its_facts_are_those_of_the_reference():
    facts = yaml.safe_load((reference.FOLDER / "datasets.yaml").read_text(encoding="utf-8"))["datasets"]["msos"]
    assert facts["clips"] == {"development": msos.TRAINING, "evaluation": msos.TEST}
    assert len(msos.CATEGORIES) == facts["classes"]
    assert f"{msos.DEVELOPMENT}/Development/{{{','.join(msos.CATEGORIES)}}}/*.wav" in facts["layout"]


@pytest.mark.parametrize(("encoding", "newline"), [("utf-8", "\n"), ("utf-8-sig", "\r\n")])
def test_the_official_layout(tmp_path, encoding, newline):
    dataset = load(make(tmp_path, encoding=encoding, newline=newline))
    assert dataset.classes == ("Effects", "Human", "Music")
    assert dataset.clips["split"].tolist() == ["train"] * 3 + ["test"] * 2
    assert dataset.clips["clip"].tolist()[::3] == ["Development/Effects/1.wav", "Evaluation/1.wav"]
    assert dataset.clips["path"].iloc[0] == f"{msos.DEVELOPMENT}/Development/Effects/1.wav"
    np.testing.assert_array_equal(dataset.label, [0, 1, 2, 2, 1])
    assert (dataset.evidence, dataset.expected_clips) == ("partial", 2000)
    notes = " ".join(dataset.notes)
    assert "4 kinds of event" in notes
    assert "1 kinds of event are in the evaluation set alone: flute." in notes
    dataset.check_splits()


def test_everything_in_one_folder_and_other_letters(tmp_path):
    make(tmp_path, header=("CATEGORY", "event", "file"), development=[("human", "Cough", "2.WAV"), *DEVELOPMENT[2:]])
    audio.save(tmp_path / msos.DEVELOPMENT / "Development" / "Human" / "2.wav", np.zeros(441), 44_100)
    for path in (tmp_path / msos.DEVELOPMENT).iterdir():
        path.rename(tmp_path / path.name)
    (tmp_path / "Logsheet_EvaluationMaster.csv").rename(tmp_path / "logsheet_evaluation.csv")
    dataset = load(tmp_path)
    assert dataset.clips["path"].tolist()[:2] == ["Development/Human/2.wav", "Development/Music/3.wav"]
    assert datasets.find("msos", tmp_path) == tmp_path


def test_equal_names_in_two_categories_are_two_clips(tmp_path):
    dataset = load(make(tmp_path, development=[*DEVELOPMENT, ("Urban", "Car", "1.wav")]))
    assert dataset.clips["path"].iloc[3] == f"{msos.DEVELOPMENT}/Development/Urban/1.wav"
    assert dataset.clips["clip"].is_unique


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"development": [*DEVELOPMENT, ("Space", "Wind", "4.wav")]},
            r"Logsheet_Development\.csv, line 5: Category is 'Space'",
        ),
        (
            {"development": [*DEVELOPMENT, ("", "Wind", "4.wav")]},
            "line 5: Category is empty, but must be one of Effects",
        ),
        ({"development": [*DEVELOPMENT, DEVELOPMENT[0]]}, r"line 5: Effects/1\.wav is in line 2 already"),
        (
            {"evaluation": [*EVALUATION, ("Music", "Flute", "1.wav")]},
            r"EvaluationMaster\.csv, line 4: 1\.wav is in line 2",
        ),
        ({"development": [*DEVELOPMENT, ("Urban", "Car", "a/4.wav")]}, "line 5: File is 'a/4.wav'"),
        ({"header": ("Kind", "Event", "File")}, "line 1: the header lacks Category"),
    ],
)
def test_rows_that_cannot_be_right_are_refused(tmp_path, changes, message):
    with pytest.raises(DataError, match=message):
        load(make(tmp_path, **changes))


def test_what_there_is_is_gone_on_with_where_parts_are_missing(tmp_path):
    root = make(tmp_path, absent=["9.wav"])
    dataset = load(root)
    assert (len(dataset.clips), dataset.evidence) == (4, "partial")
    assert any("1 of 5 clips" in note and "Evaluation/9.wav" in note for note in dataset.notes)
    audio.save(root / "Evaluation" / "stray.wav", np.zeros(4), 8000)
    assert any("ignored: Evaluation/stray.wav" in note for note in load(root).notes)


@pytest.mark.parametrize("sheet", ["Logsheet_Development.csv", "Logsheet_EvaluationMaster.csv"])
def test_a_log_sheet_that_is_not_there_is_named(tmp_path, sheet):
    next(make(tmp_path).rglob(sheet)).unlink()
    with pytest.raises(DataError, match=f"has no {sheet}"):
        load(tmp_path)


# --- the miniature ---------------------------------------------------------------------------------------------


def test_the_miniature_has_kinds_of_event_within_categories(tmp_path):
    root = miniature.make("msos", tmp_path / "msos", seconds=1.0, development_per_category=6, evaluation_per_category=7)
    dataset = load(root)
    dataset.check_splits()
    assert dataset.classes == msos.CATEGORIES
    assert dataset.clips.groupby("split").size().to_dict() == {"test": 35, "train": 30}
    assert {soundfile.info(root / path).duration for path in dataset.clips["path"]} == {1.0}
    kinds = {category: list(events) for category, events in made_up.EVENTS.items()}
    assert any("5 kinds of event are in the evaluation set alone" in note for note in dataset.notes)
    with open(root / "Logsheet_EvaluationMaster.csv", newline="") as file:
        sheet = list(csv.DictReader(file))
    assert {(row["Category"], row["Event"]) for row in sheet} == {(c, e) for c, events in kinds.items() for e in events}
    # the files' names in alphabetical order don't tell the category
    order = [row["Category"] for row in sorted(sheet, key=lambda row: row["File"])]
    assert sum(a != b for a, b in pairwise(order)) > 15


@pytest.mark.parametrize("kind", [(c, e) for c, events in made_up.EVENTS.items() for e in events])
def test_every_recipe_sounds_and_varies(kind):
    recipe = made_up.EVENTS[kind[0]][kind[1]]
    waves = [recipe(np.random.default_rng(seed), 44_100, 44_100) for seed in range(6)]
    for wave in waves:
        assert wave.shape == (44_100,)
        assert np.isfinite(wave).all()
    assert min(np.abs(wave).max() for wave in waves) > 1e-3
    assert not np.allclose(*waves[:2])
