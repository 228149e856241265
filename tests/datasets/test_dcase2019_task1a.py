"""TAU Urban Acoustic Scenes 2019: the given split, what its tables may say, and its miniature."""

import csv
import shutil

import numpy as np
import pytest
import soundfile
import yaml

from pannslib import audio, datasets, reference
from pannslib.datasets import dcase2019_task1a, miniature
from pannslib.datasets.miniature import dcase2019_task1a as made_up
from pannslib.errors import DataError

TRAIN = [("audio/airport-lisbon-0-1-a.wav", "airport"), ("audio/tram-paris-7-2-a.wav", "tram")]
TEST = [("audio/airport-milan-3-3-a.wav", "airport"), ("audio/metro_station-lyon-9-4-a.wav", "metro_station")]
UNUSED = [("audio/tram-paris-8-5-a.wav", "tram")]


def write(path, rows, newline="\n", encoding="utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding=encoding, newline="") as file:
        csv.writer(file, delimiter="\t", lineterminator=newline).writerows(rows)


def make(root, train=TRAIN, test=TEST, unused=UNUSED, absent=(), meta=None, **options):
    """A folder in the official layout with these clips, and a file for each but the absent ones."""
    rows = [(name, label, "-".join(name.split("-")[1:3]), "a") for name, label in [*train, *test, *unused]]
    write(root / "meta.csv", [("filename", "scene_label", "identifier", "source_label"), *(meta or rows)], **options)
    setup = root / "evaluation_setup"
    write(setup / "fold1_train.csv", [("filename", "scene_label"), *train], **options)
    write(setup / "fold1_test.csv", [("filename",), *[row[:1] for row in test]], **options)
    write(setup / "fold1_evaluate.csv", [("filename", "scene_label"), *test], **options)
    for name, _ in [*train, *test, *unused]:
        if name not in absent and name.startswith("audio/"):
            audio.save(root / name, np.zeros(480), 48_000)
    return root


def load(root, **options):
    return datasets.load("dcase2019_task1a", root, **options)


def test_its_facts_are_those_of_the_reference():
    facts = yaml.safe_load((reference.FOLDER / "datasets.yaml").read_text(encoding="utf-8"))
    facts = facts["datasets"]["dcase2019_task1a"]
    assert (facts["splits"]["train"], facts["splits"]["test"]) == (dcase2019_task1a.TRAINING, dcase2019_task1a.TEST)
    assert len(dcase2019_task1a.SCENES) == facts["classes"]
    assert facts["files"][0]["name"].startswith(dcase2019_task1a.ARCHIVE_FOLDER)
    assert (made_up.RATE, made_up.SIZES["seconds"][1][1]) == (facts["sample_rate"], facts["clip_seconds"])


@pytest.mark.parametrize(("encoding", "newline"), [("utf-8", "\n"), ("utf-8-sig", "\r\n")])
def test_the_official_layout(tmp_path, encoding, newline):
    dataset = load(make(tmp_path, encoding=encoding, newline=newline))
    assert dataset.classes == ("airport", "metro station", "tram")
    assert dataset.clips["split"].tolist() == ["train", "train", "test", "test"]
    assert dataset.clips["path"].tolist() == [name for name, _ in [*TRAIN, *TEST]]
    assert dataset.clips["group"].tolist() == ["lisbon-0", "paris-7", "milan-3", "lyon-9"]
    assert dataset.clips["fold"].tolist() == [0, 0, 0, 0]
    np.testing.assert_array_equal(dataset.label, [0, 2, 0, 1])
    assert (dataset.evidence, dataset.expected_clips) == ("partial", 13370)
    assert any(
        "1 clips of meta.csv are in neither part of the given split and are left out." in n for n in dataset.notes
    )
    assert not any("ignored" in note for note in dataset.notes)
    dataset.check_splits()


def test_parts_unpacked_to_folders_of_their_own_are_one_data_set(tmp_path):
    whole = make(tmp_path / "whole")
    root, folder = tmp_path / "raw" / "dcase2019_task1a", dcase2019_task1a.ARCHIVE_FOLDER
    for number, (name, _) in enumerate([*TRAIN, *TEST, *UNUSED]):
        place = root / f"{folder}.audio.{number}" / folder / "audio"
        place.mkdir(parents=True)
        shutil.copy(whole / name, place)
    shutil.copytree(whole / "evaluation_setup", root / f"{folder}.meta" / folder / "evaluation_setup")
    shutil.copy(whole / "meta.csv", root / f"{folder}.meta" / folder)
    found = datasets.find("dcase2019_task1a", tmp_path)
    assert found == root
    assert load(found).clips["clip"].tolist() == load(whole).clips["clip"].tolist()


def test_it_is_found_in_the_folder_of_the_archives(tmp_path):
    root = make(tmp_path / "raw" / "dcase2019_task1a" / dcase2019_task1a.ARCHIVE_FOLDER)
    assert datasets.find("dcase2019_task1a", tmp_path) == root
    assert datasets.find("dcase2019_task1a", root) == root
    assert datasets.find("dcase2019_task1a", tmp_path / "raw" / "dcase2019_task1a") == root


def test_letters_of_another_case_are_no_fault(tmp_path):
    make(tmp_path, train=[("audio/Airport-lisbon-0-1-a.wav", "Airport"), TRAIN[1]])
    (tmp_path / "audio").rename(tmp_path / "Audio")
    (tmp_path / "Audio" / "tram-paris-7-2-a.wav").rename(tmp_path / "Audio" / "TRAM-paris-7-2-a.WAV")
    dataset = load(tmp_path)
    assert dataset.clips["path"].tolist()[:2] == ["Audio/Airport-lisbon-0-1-a.wav", "Audio/TRAM-paris-7-2-a.WAV"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"train": [*TRAIN, ("audio/x-lisbon-1-1-a.wav", "ship")]},
            r"line 4: scene_label is 'ship', but must be one of",
        ),
        ({"train": [*TRAIN, ("audio/x-lisbon-1-1-a.wav", "")]}, r"line 4: scene_label is empty, but must be one of"),
        (
            {"train": [*TRAIN, TRAIN[0]], "meta": [(*TRAIN[0], "lisbon-0", "a")]},
            r"fold1_train\.csv, line 4: .* in line 2 already",
        ),
        (
            {"train": [*TRAIN, TEST[0]], "meta": [(*TRAIN[0], "lisbon-0", "a")]},
            r"fold1_evaluate\.csv, line 2: .*line 4 of fold1_train\.csv too",
        ),
        ({"train": [("../airport-lisbon-0-1-a.wav", "airport"), TRAIN[1]]}, r"line 2: filename is '\.\./airport"),
        (
            {"meta": [(TRAIN[0][0], "bus", "lisbon-0", "a")]},
            r"fold1_train\.csv, line 2: .* is airport here, but bus in meta\.csv",
        ),
    ],
)
def test_rows_that_cannot_be_right_are_refused(tmp_path, changes, message):
    with pytest.raises(DataError, match=message) as caught:
        load(make(tmp_path, **changes))
    assert "take the file from" in str(caught.value)


def test_what_there_is_is_gone_on_with_where_parts_are_missing(tmp_path):
    root = make(tmp_path, absent=[TEST[0][0]])
    dataset = load(root)
    assert (len(dataset.clips), dataset.evidence) == (3, "partial")
    assert any(
        "1 of 4 clips" in note and "test 1 of 2" in note and "airport-milan-3-3-a.wav" in note for note in dataset.notes
    )
    dataset.check_splits()
    (root / TEST[1][0]).unlink()
    with pytest.raises(DataError, match="has no test clips"):
        load(root).check_splits()


def test_a_clip_that_is_in_neither_part_may_be_missing(tmp_path):
    dataset = load(make(tmp_path, absent=[UNUSED[0][0]]))
    assert len(dataset.clips) == 4
    assert any("are in neither part of the given split" in note for note in dataset.notes)


def test_without_labels_of_the_test_part_meta_tells_them(tmp_path):
    (make(tmp_path) / "evaluation_setup" / "fold1_evaluate.csv").unlink()
    np.testing.assert_array_equal(load(tmp_path).label, [0, 2, 0, 1])
    (tmp_path / "meta.csv").unlink()
    with pytest.raises(DataError, match=r"no evaluation_setup/fold1_evaluate\.csv, so it is not known what to test on"):
        load(tmp_path)


def test_without_meta_the_names_tell_the_places(tmp_path):
    (make(tmp_path) / "meta.csv").unlink()
    dataset = load(tmp_path)
    assert dataset.clips["group"].tolist() == ["lisbon-0", "paris-7", "milan-3", "lyon-9"]
    assert any("ignored: audio/tram-paris-8-5-a.wav" in note for note in dataset.notes)


def test_a_place_in_both_parts_is_told_and_refused_for_training(tmp_path):
    dataset = load(make(tmp_path, test=[("audio/tram-paris-7-9-a.wav", "tram")]))
    assert any("1 places have clips in training and in test" in note for note in dataset.notes)
    with pytest.raises(DataError, match=r"several splits, so that test clips would be known.*paris-7"):
        dataset.check_splits()


# --- the miniature ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return miniature.make(
        "dcase2019_task1a",
        tmp_path_factory.mktemp("scenes") / "set",
        seconds=1.0,
        training_per_scene=4,
        test_per_scene=3,
    )


def test_the_miniature_is_stereo_of_24_bits_and_its_parts_share_no_place(scenes):
    dataset = load(scenes)
    dataset.check_splits()
    assert dataset.evidence == "miniature"
    assert dataset.clips.groupby("split").size().to_dict() == {"train": 40, "test": 30}
    assert len(dataset.classes) == 10
    cities = dataset.clips["group"].str.split("-").str[0]
    assert made_up.TEST_CITY not in set(cities[dataset.clips["split"] == "train"])
    for path in dataset.clips["path"]:
        facts = soundfile.info(scenes / path)
        assert (facts.channels, facts.samplerate, facts.subtype, facts.duration) == (2, 48_000, "PCM_24", 1.0)
    left, right = soundfile.read(scenes / dataset.clips["path"].iloc[0])[0].T
    assert 0.2 < np.corrcoef(left, right)[0, 1] < 0.999
    np.testing.assert_allclose(audio.decode(scenes / dataset.clips["path"].iloc[0])[0], (left + right) / 2, atol=1e-6)


def test_the_tables_of_the_miniature_are_in_the_official_form(scenes):
    def rows(name):
        return [line.split("\t") for line in (scenes / name).read_text().splitlines()]

    meta, train = rows("meta.csv"), rows("evaluation_setup/fold1_train.csv")
    assert meta[0] == ["filename", "scene_label", "identifier", "source_label"]
    assert len(meta) == 1 + 80
    for name, scene, place, device in meta[1:]:
        parts = name.removeprefix("audio/").removesuffix(".wav").split("-")
        assert [parts[0], "-".join(parts[1:3]), parts[4]] == [scene, place, device]
    assert train[0] == ["filename", "scene_label"]
    evaluate, test = rows("evaluation_setup/fold1_evaluate.csv"), rows("evaluation_setup/fold1_test.csv")
    assert [row[:1] for row in evaluate] == test


@pytest.mark.parametrize("texture", made_up.TEXTURES)
def test_every_texture_sounds_and_varies(texture):
    waves = [made_up.TEXTURES[texture](np.random.default_rng(seed), 48_000, 48_000) for seed in (0, 1)]
    for wave in waves:
        assert wave.shape == (48_000,)
        assert np.isfinite(wave).all()
    assert max(np.abs(wave).max() for wave in waves) > 1e-3
    assert not np.allclose(*waves)
