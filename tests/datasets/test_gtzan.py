"""GTZAN: its layouts, its damaged file, its repetitions, its folds; and the miniature."""

import hashlib
import json

import numpy as np
import pytest
import soundfile

from pannslib import audio, catalogue, datasets
from pannslib.datasets import gtzan, miniature
from pannslib.errors import DataError

SMALL = {"clips_per_genre": 3, "seconds": 1.0}


def make(root, numbers=range(4), genres=gtzan.GENRES, place="genres", suffix="wav"):
    """A GTZAN folder with these excerpts of each genre, no two alike."""
    for k, genre in enumerate(genres):
        (root / place / genre).mkdir(parents=True)
        for number in numbers:
            wave = np.full(400, (1 + 100 * k + number) / 2000)
            soundfile.write(root / place / genre / f"{genre}.{number:05d}.{suffix}", wave, 22_050)
    return root


@pytest.mark.parametrize("place", gtzan.PLACES)
@pytest.mark.parametrize("suffix", ["wav", "au"])
def test_every_layout_is_read(tmp_path, place, suffix):
    root = make(tmp_path / "raw" / "gtzan", place=place, suffix=suffix)
    assert datasets.find("gtzan", tmp_path) == root
    assert datasets.find("gtzan", root) == root
    dataset = datasets.load("gtzan", root)
    assert dataset.classes == gtzan.GENRES
    assert (len(dataset.clips), dataset.expected_clips, dataset.evidence) == (40, 1000, "partial")
    assert dataset.clips["clip"][0] == f"blues.00000.{suffix}"
    assert (root / dataset.clips["path"][0]).is_file()


def test_ten_folds_are_stratified_and_by_seed(tmp_path):
    root = make(tmp_path, numbers=range(20), genres=gtzan.GENRES[:3])
    dataset = gtzan.load(root)
    assert dataset.folds == list(range(1, 11))
    counts = dataset.clips.assign(genre=dataset.label).groupby(["genre", "fold"]).size()
    assert set(counts) == {2}
    dataset.check_splits()
    assert (gtzan.load(root).clips["fold"] == dataset.clips["fold"]).all()
    assert (gtzan.load(root, seed=1).clips["fold"] != dataset.clips["fold"]).any()


def test_the_damaged_file_is_skipped_and_said(tmp_path):
    root = make(tmp_path, numbers=(53, 54, 55))
    (root / "genres" / "jazz" / "jazz.00054.wav").write_bytes(bytes(1000))
    dataset = gtzan.load(root)
    assert len(dataset.clips) == 29
    assert any("jazz.00054 is skipped" in note for note in dataset.notes)
    make(tmp_path / "whole", numbers=(53, 54, 55))
    assert any("can be read in this one" in note for note in gtzan.load(tmp_path / "whole").notes)


def test_a_collection_without_the_damaged_file_is_whole(tmp_path):
    root = make(tmp_path, numbers=range(100))
    (root / "genres" / "jazz" / "jazz.00054.wav").unlink()
    dataset = gtzan.load(root)
    assert (dataset.evidence, len(dataset.clips)) == ("real", 999)
    assert any("jazz.00054 isn't there" in note for note in dataset.notes)
    (root / "genres" / "rock" / "rock.00001.wav").unlink()
    assert gtzan.load(root).evidence == "partial"


def test_what_is_repeated_is_in_one_fold_and_said(tmp_path):
    root = make(tmp_path, numbers=range(20))
    genres = root / "genres"
    (genres / "rock" / "rock.00007.wav").write_bytes((genres / "rock" / "rock.00003.wav").read_bytes())
    (genres / "pop" / "pop.00001.wav").write_bytes((genres / "blues" / "blues.00001.wav").read_bytes())
    dataset = gtzan.load(root)
    fold = dataset.clips.set_index("clip")["fold"]
    group = dataset.clips.set_index("clip")["group"]
    for one, other in (("rock.00003", "rock.00007"), ("pop.00001", "blues.00001"), ("metal.00004", "metal.00013")):
        assert fold[f"{one}.wav"] == fold[f"{other}.wav"]
        assert group[f"{one}.wav"] == group[f"{other}.wav"]
    assert any("rock.00003 = rock.00007" in note and "blues.00001 = pop.00001" in note for note in dataset.notes)
    assert any("Sturm 2013" in note for note in dataset.notes)
    dataset.check_splits()


def test_listed_repetitions_are_disjoint_and_of_the_collection():
    for genre, sets in gtzan.REPETITIONS.items():
        numbers = [number for members in sets for number in members]
        assert genre in gtzan.GENRES
        assert len(set(numbers)) == len(numbers)
        assert max(numbers) < 100


def test_other_files_are_ignored_and_said(tmp_path):
    root = make(tmp_path)
    (root / "genres" / "blues" / "._blues.00000.wav").touch()
    (root / "genres" / "blues" / "notes.txt").touch()
    audio.save(root / "genres" / "blues" / "blues.00000.flac", np.ones(10) / 2, 22_050)
    soundfile.write(root / "genres" / "blues" / "blues.00001.au", np.ones(10) / 2, 22_050)
    dataset = gtzan.load(root)
    assert len(dataset.clips) == 40
    assert any("3 files that are not named" in note for note in dataset.notes)
    assert any("1 AU files" in note and "blues.00001.au" in note for note in dataset.notes)
    assert "genres/blues/blues.00001.wav" in dataset.clips["path"].tolist()


def test_what_cannot_be_gtzan(tmp_path):
    with pytest.raises(DataError, match="no folder of a genre"):
        gtzan.load(tmp_path)
    root = make(tmp_path, genres=("jazz", "rock"))
    (root / "genres" / "jazz" / "jazz.00001.wav").rename(root / "genres" / "rock" / "jazz.00001.wav")
    with pytest.raises(DataError, match="the name says jazz, the folder rock"):
        gtzan.load(root)
    (tmp_path / "empty" / "genres" / "jazz").mkdir(parents=True)
    with pytest.raises(DataError, match="no excerpt"):
        gtzan.load(tmp_path / "empty")


# --- the miniature ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mini(tmp_path_factory):
    return miniature.make("gtzan", tmp_path_factory.mktemp("gtzan") / "gtzan", **SMALL)


def test_the_miniature_has_the_layout_and_the_faults(mini):
    dataset = datasets.load("gtzan", mini)
    assert (dataset.evidence, len(dataset.clips), dataset.classes) == ("miniature", 30, gtzan.GENRES)
    assert any("jazz.00054 is skipped" in note for note in dataset.notes)
    assert any("pop.00001 = pop.00002" in note for note in dataset.notes)
    for path in dataset.clips["path"]:
        facts = soundfile.info(mini / path)
        assert (facts.samplerate, facts.channels, facts.frames, facts.subtype) == (22_050, 1, 22_050, "PCM_16")
        assert 30 < np.abs(soundfile.read(mini / path, dtype="int16")[0].astype(int)).max() <= 32_767


def test_the_miniature_is_the_same_for_the_same_seed(mini, tmp_path):
    def sounds(folder):
        return {p.name: hashlib.sha256(p.read_bytes()).digest() for p in folder.rglob("*.wav") if "00054" not in p.name}

    assert sounds(miniature.make("gtzan", tmp_path / "again", **SMALL)) == sounds(mini)
    other = sounds(miniature.make("gtzan", tmp_path / "other", seed=1, **SMALL))
    assert not set(other.values()) & set(sounds(mini).values())


def test_the_mark_counts_what_can_be_decoded(mini):
    counts = json.loads((mini / miniature.MARK).read_text())["counts"]
    assert counts == {"clips": 30, "repeated": 1, "broken": 1}


def test_every_profile_has_sizes_that_the_miniature_takes():
    for profile in ("smoke", "demo", "gpu", "full"):
        sizes = catalogue.plan(profile).profile.miniatures.gtzan.model_dump()
        assert set(sizes) == set(miniature.MINIATURES["gtzan"].sizes)
