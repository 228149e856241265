"""Profiles: the four that come with the package, and what is refused."""

import pytest
import yaml

from pannslib import profiles
from pannslib.errors import ProfileError


def demo() -> dict:
    return yaml.safe_load((profiles.FOLDER / "demo.yaml").read_text())


def written(tmp_path, content) -> str:
    path = tmp_path / "my own.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return str(path)


@pytest.mark.parametrize("name", profiles.BUILT_IN)
def test_built_in_profiles_are_valid(name):
    assert profiles.load(name).name == name


def test_a_profile_of_ones_own_is_called_as_its_file(tmp_path):
    assert profiles.load(written(tmp_path, demo())).name == "my-own"
    copy = tmp_path / "demo.yaml"
    copy.write_text(yaml.safe_dump(demo()))
    assert profiles.load(copy).name == "demo-own"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"width": 0}, "width: 0.0 is not allowed"),
        ({"width": float("nan")}, "width"),
        ({"width": "wide"}, "width: 'wide' is not allowed"),
        ({"seed": "7"}, "seed: '7' is not allowed"),
        ({"seed": True}, "seed"),
        ({"widht": 1}, "widht: there is no such setting; allowed are .*width"),
        ({"transfer": {"esc50": {"seconds": 5.0, "folds": 0}}}, "transfer.esc50.folds: 0"),
        ({"precision": "fp8"}, "precision: 'fp8'"),
        ({"name": "x"}, "name is not a setting"),
        ({"miniatures": {"ravdess": {"actors": 1}}}, "miniatures.ravdess.actors: 1"),
    ],
)
def test_bad_settings_are_named(tmp_path, change, words):
    with pytest.raises(ProfileError, match=words):
        profiles.load(written(tmp_path, profiles.merge(demo(), change)))


def test_a_missing_key_is_named(tmp_path):
    content = demo()
    del content["training"]["evaluate_every"]
    with pytest.raises(ProfileError, match=r"training\.evaluate_every: is missing"):
        profiles.load(written(tmp_path, content))


@pytest.mark.parametrize(
    ("text", "words"), [("", "no settings"), ("- 1", "no settings"), ("a: [", "not YAML"), ("a: 1", "is missing")]
)
def test_files_that_are_no_profile(tmp_path, text, words):
    with pytest.raises(ProfileError, match=words):
        profiles.load(written(tmp_path, text))


def test_an_unknown_name_is_told_the_right_ones():
    with pytest.raises(ProfileError, match="smoke, demo, gpu, full"):
        profiles.load("dmo")


def test_numbers_may_be_written_as_people_write_them(tmp_path):
    text = yaml.safe_dump(demo()).replace("width: 0.125", "width: 1")
    assert profiles.load(written(tmp_path, text)).width == 1.0
    text = yaml.safe_dump(demo()).replace("learning_rate: 0.003", "learning_rate: 3e-3")
    assert profiles.load(written(tmp_path, text)).training.optimisation.learning_rate == 0.003
