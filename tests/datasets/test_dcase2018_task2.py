"""FSDKaggle2018: both tables, Kaggle's own copies, and its miniature."""

import csv

import numpy as np
import pytest
import soundfile
import yaml

from pannslib import audio, datasets, reference
from pannslib.datasets import dcase2018_task2, miniature
from pannslib.datasets.miniature import dcase2018_task2 as made_up
from pannslib.errors import DataError

TRAIN = [
    ("00044347.wav", "Hi-hat", "0", "28739", "Attribution"),
    ("001ca53d.wav", "Saxophone", "1", "358827", "Attribution"),
    ("002d256b.wav", "Hi-hat", "1", "10897", "Creative Commons 0"),
]
TEST = [
    ("00326aa9.wav", "Saxophone", "Private", "355125", "Attribution"),
    ("0038a046.wav", "Hi-hat", "Public", "90621", "Creative Commons 0"),
]
OFFICIAL = {"train": "FSDKaggle2018.audio_train", "test": "FSDKaggle2018.audio_test", "meta": "FSDKaggle2018.meta"}
NAMES = {"train": "train_post_competition.csv", "test": "test_post_competition_scoring_clips.csv"}


def write(path, rows, newline="\n", encoding="utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding=encoding, newline="") as file:
        csv.writer(file, lineterminator=newline).writerows(rows)


def make(root, train=TRAIN, test=TEST, absent=(), folders=OFFICIAL, names=NAMES, **options):
    """A folder with these clips, and a file for each but the absent ones."""
    meta = root / folders["meta"]
    write(
        meta / names["train"], [("fname", "label", "manually_verified", "freesound_id", "license"), *train], **options
    )
    write(meta / names["test"], [("fname", "label", "usage", "freesound_id", "license"), *test], **options)
    for split, rows in (("train", train), ("test", test)):
        for row in rows:
            if row[0] not in absent and row[0] and "/" not in row[0]:
                audio.save(root / folders[split] / row[0], np.zeros(441), 44_100)
    return root


def load(root, **options):
    return datasets.load("dcase2018_task2", root, **options)


def changed(rows, line, column, value):
    rows = [list(row) for row in rows]
    rows[line - 2][column] = value
    return rows


def test_its_facts_are_those_of_the_reference():
    facts = yaml.safe_load((reference.FOLDER / "datasets.yaml").read_text(encoding="utf-8"))
    facts = facts["datasets"]["dcase2018_task2"]
    assert (facts["splits"]["train"], facts["splits"]["test"]) == (dcase2018_task2.TRAINING, dcase2018_task2.TEST)
    assert len(dcase2018_task2.CLASSES) == facts["classes"]
    assert list(dcase2018_task2.CLASSES) == sorted(dcase2018_task2.CLASSES)
    assert {f"{OFFICIAL['meta']}/{name}" for name in NAMES.values()} == set(facts["metadata"].values())
    assert [made_up.SHORTEST, made_up.SIZES["longest"][1][1]] == facts["clip_seconds"]
    assert facts["sample_rate"] == made_up.RATE
    verified = facts["splits"]["train_manually_verified"] / facts["splits"]["train"]
    assert pytest.approx(verified, abs=0.02) == made_up.VERIFIED


@pytest.mark.parametrize(("encoding", "newline"), [("utf-8", "\n"), ("utf-8-sig", "\r\n")])
def test_the_official_layout(tmp_path, encoding, newline):
    dataset = load(make(tmp_path, encoding=encoding, newline=newline))
    assert dataset.classes == ("Hi-hat", "Saxophone")
    assert dataset.clips["split"].tolist() == ["train"] * 3 + ["test"] * 2
    assert dataset.clips["path"].iloc[0] == "FSDKaggle2018.audio_train/00044347.wav"
    assert dataset.clips["group"].iloc[0] == "Freesound 28739"
    np.testing.assert_array_equal(dataset.label, [0, 1, 0, 1, 0])
    assert (dataset.evidence, dataset.expected_clips) == ("partial", 11073)
    notes = " ".join(dataset.notes)
    assert "2 of the 3 labels in train_post_competition.csv were verified by people" in notes
    assert "Attribution (2), Creative Commons 0 (1)" in notes
    dataset.check_splits()


def test_kaggles_layout(tmp_path):
    folders = {"train": "audio_train", "test": "audio_test", "meta": "."}
    names = {"train": "train_post_competition.csv", "test": "test_post_competition.csv"}
    padding = ("ffff0000.wav", "None", "Ignored", "", "")
    dataset = load(make(tmp_path, test=[*TEST, padding], folders=folders, names=names))
    assert len(dataset.clips) == 5
    notes = " ".join(dataset.notes)
    assert "1 clips of test_post_competition.csv that don't count (usage Ignored) are left out." in notes
    assert "are ignored" not in notes
    write(tmp_path / "train.csv", [("fname", "label", "manually_verified"), *[row[:3] for row in TRAIN]])
    (tmp_path / "train_post_competition.csv").unlink()
    assert load(tmp_path).clips["group"].tolist()[:2] == ["00044347.wav", "001ca53d.wav"]


def test_it_is_found_by_its_folders(tmp_path):
    root = make(tmp_path / "raw" / "dcase2018_task2")
    assert datasets.find("dcase2018_task2", tmp_path) == root
    assert datasets.find("dcase2018_task2", root) == root
    root = root.rename(tmp_path / "FSDKaggle2018")
    (tmp_path / "raw" / "dcase2018_task2").mkdir()
    root = root.rename(tmp_path / "raw" / "dcase2018_task2" / "FSDKaggle2018")
    assert datasets.find("dcase2018_task2", tmp_path) == root


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"train": changed(TRAIN, 3, 1, "Kazoo")},
            r"train_post_competition\.csv, line 3: label is 'Kazoo', but must be",
        ),
        ({"train": changed(TRAIN, 3, 1, "")}, "line 3: label is empty"),
        ({"train": changed(TRAIN, 3, 0, TRAIN[0][0])}, r"line 3: 00044347\.wav is in line 2 already"),
        ({"train": changed(TRAIN, 4, 2, "yes")}, "line 4: manually_verified is 'yes', but must be 0 or 1"),
        ({"train": changed(TRAIN, 2, 0, "../x.wav")}, "line 2: fname is"),
        ({"test": changed(TEST, 3, 0, TRAIN[0][0])}, r"scoring_clips\.csv, line 3: .* train_post_competition\.csv too"),
    ],
)
def test_rows_that_cannot_be_right_are_refused(tmp_path, changes, message):
    with pytest.raises(DataError, match=message):
        load(make(tmp_path, **changes))


def test_what_there_is_is_gone_on_with_where_parts_are_missing(tmp_path):
    dataset = load(make(tmp_path, absent=[TEST[1][0], TRAIN[2][0]]))
    assert (len(dataset.clips), dataset.evidence) == (3, "partial")
    assert any("2 of 5 clips" in note and "train 1 of 3, test 1 of 2" in note for note in dataset.notes)


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_table_that_is_not_there_is_named(tmp_path, split):
    (make(tmp_path) / OFFICIAL["meta"] / NAMES[split]).unlink()
    with pytest.raises(DataError, match=rf"no {NAMES[split]}, so it is not known what to {split} on.*meta\.zip"):
        load(tmp_path)


def test_one_freesound_recording_in_both_parts_is_told_and_refused_for_training(tmp_path):
    dataset = load(make(tmp_path, test=changed(TEST, 2, 3, "28739")))
    assert any("1 Freesound recordings have clips in training and in test" in note for note in dataset.notes)
    with pytest.raises(DataError, match="Freesound 28739"):
        dataset.check_splits()


# --- the miniature ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    return miniature.make(
        "dcase2018_task2",
        tmp_path_factory.mktemp("sounds") / "set",
        classes=8,
        largest_class=24,
        test_per_class=3,
        longest=1.5,
    )


def test_the_miniature_has_the_tail_the_lengths_and_the_faults_of_the_real_set(sounds):
    dataset = load(sounds)
    dataset.check_splits()
    assert len(dataset.classes) == 8
    lengths = [soundfile.info(sounds / path).duration for path in dataset.clips["path"]]
    assert min(lengths) >= made_up.SHORTEST - 1e-4
    assert max(lengths) == pytest.approx(1.5, abs=1e-3)
    assert len({round(length, 3) for length in lengths}) > 30
    assert made_up.training_sizes(8, 24)[::7] == [24, 8]  # 3.2 : 1, rounded
    with open(sounds / "truth.csv", newline="") as file:
        heard = {row["fname"]: row["heard"] for row in csv.DictReader(file)}
    wrong = {"0": 0, "1": 0, "test": 0}
    with open(sounds / OFFICIAL["meta"] / NAMES["train"], newline="") as file:
        train = list(csv.DictReader(file))
    with open(sounds / OFFICIAL["meta"] / NAMES["test"], newline="") as file:
        test = list(csv.DictReader(file))
    for row in train:
        wrong[row["manually_verified"]] += row["label"] != heard[row["fname"]]
    wrong["test"] = sum(row["label"] != heard[row["fname"]] for row in test)
    assert wrong["1"] == wrong["test"] == 0
    assert 0.1 < wrong["0"] / sum(row["manually_verified"] == "0" for row in train) < 0.5
    assert {row["usage"] for row in test} == {"Public", "Private"}


@pytest.mark.parametrize("label", made_up.SOUNDS)
def test_every_recipe_sounds_at_its_shortest_and_varies(label):
    assert label in dcase2018_task2.CLASSES
    for samples in (int(made_up.SHORTEST * 44_100), 44_100):
        waves = [made_up.SOUNDS[label](np.random.default_rng(seed), samples, 44_100) for seed in range(6)]
        for wave in waves:
            assert wave.shape == (samples,)
            assert np.isfinite(wave).all()
            assert np.abs(wave).max() > 1e-4
        assert not np.allclose(*waves[:2])
