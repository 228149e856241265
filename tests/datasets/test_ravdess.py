"""RAVDESS: names, actors and the folds that are made of them."""

import numpy as np
import pytest

from pannslib import audio, datasets
from pannslib.datasets.ravdess import assign_folds
from pannslib.errors import DataError


def make(root, actors=(1, 2), emotions=range(1, 9)):
    """A RAVDESS folder with one recording of each emotion by each actor."""
    for actor in actors:
        for emotion in emotions:
            add(root, f"Actor_{actor:02d}/03-01-{emotion:02d}-01-01-01-{actor:02d}.wav")
    return root


def add(root, path):
    audio.save(root / path, np.zeros(480), 48_000)


def test_the_official_layout(tmp_path):
    dataset = datasets.load("ravdess", make(tmp_path))
    assert dataset.classes[:3] == ("neutral", "calm", "happy")
    assert len(dataset.classes) == 8
    np.testing.assert_array_equal(dataset.label, [*range(8), *range(8)])
    assert dataset.clips["clip"].iloc[9] == "03-01-02-01-01-01-02.wav"
    assert dataset.clips["path"].iloc[9] == "Actor_02/03-01-02-01-01-01-02.wav"
    assert set(dataset.clips["group"]) == {"actor 01", "actor 02"}
    assert (dataset.evidence, dataset.expected_clips) == ("partial", 1440)
    assert any(note.startswith("2 of 24 actors are there; without 03") for note in dataset.notes)
    assert any("fewer than 60 recordings: 01 (8), 02 (8)" in note for note in dataset.notes)


def test_only_emotions_that_occur_are_classes(tmp_path):
    assert datasets.load("ravdess", make(tmp_path, emotions=[5, 8])).classes == ("angry", "surprised")


def test_other_files_are_ignored_and_noted(tmp_path):
    make(tmp_path)
    for name in ("03-02-05-01-01-01-01.wav", "03-01-09-01-01-01-01.wav", "copy of 03-01-05-01-01-01-01.wav"):
        add(tmp_path, f"Actor_01/{name}")
    (tmp_path / "Actor_01" / "01-01-05-01-01-01-01.mp4").touch()
    add(tmp_path, "loose.wav")
    dataset = datasets.load("ravdess", tmp_path)
    assert len(dataset.clips) == 16
    notes = " ".join(dataset.notes)
    assert "3 files that are not named as RAVDESS's are ignored: loose.wav, Actor_01/03-01-09-" in notes
    assert "2 recordings that are song or not sound alone are ignored: Actor_01/01-01-05-" in notes


def test_an_actor_in_the_wrong_folder_is_refused(tmp_path):
    add(make(tmp_path), "Actor_01/03-01-05-01-01-02-02.wav")
    with pytest.raises(DataError, match=r"Actor_01/03-01-05-01-01-02-02.wav: the name says actor 02"):
        datasets.load("ravdess", tmp_path)


@pytest.mark.parametrize("actors", [(), (7,)])
def test_fewer_than_two_actors_are_refused(tmp_path, actors):
    with pytest.raises(DataError, match=f"recordings of {len(actors)} actors, but two at least"):
        datasets.load("ravdess", make(tmp_path, actors))


def test_the_full_assignment_is_the_published_one():
    folds = assign_folds(range(1, 25))
    assert [folds[actor] for actor in range(1, 11)] == [1, 1, 2, 2, 3, 3, 4, 4, 1, 1]
    for fold in range(1, 5):
        members = [actor for actor in folds if folds[actor] == fold]
        assert len(members) == 6
        assert sum(actor % 2 for actor in members) == 3  # as many men as women


@pytest.mark.parametrize(
    ("actors", "expected"),
    [
        (range(1, 9), [1, 1, 2, 2, 3, 3, 4, 4]),
        ((1, 2), [1, 2]),
        ((3, 11), [1, 2]),  # by pairs both are in fold 2
        ((1, 2, 3, 4), [1, 2, 3, 4]),
        ((5, 6, 7), [1, 2, 3]),
        ((1, 3, 5, 7), [1, 2, 3, 4]),
        ((1, 2, 3, 4, 5), [1, 2, 3, 4, 1]),
    ],
)
def test_any_actors_fill_as_many_folds_as_they_can(actors, expected):
    assert list(assign_folds(actors).values()) == expected


def test_real_ravdess(real_data):
    dataset = datasets.load("ravdess", datasets.find("ravdess", real_data))
    assert (dataset.evidence, len(dataset.clips), len(dataset.classes)) == ("partial", 480, 8)
    assert dataset.targets.sum(0).tolist() == [32, 64, 64, 64, 64, 64, 64, 64]
    assert dataset.clips.groupby("fold")["group"].nunique().to_dict() == {1: 2, 2: 2, 3: 2, 4: 2}
    assert dataset.clips.groupby("group")["fold"].nunique().max() == 1
