"""The catalogue and its plans: what is refused, and what a job depends on."""

import pytest
import yaml

from pannslib import catalogue, profiles
from pannslib.errors import DataError, ProfileError


def profile_with(tmp_path, **change):
    content = yaml.safe_load((profiles.FOLDER / "smoke.yaml").read_text())
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(profiles.merge(content, change)))
    return path


def test_every_need_is_a_job_and_every_artifact_has_one_maker():
    made = [name for job in catalogue.JOBS.values() for name in job.makes]
    assert len(made) == len(set(made))
    assert {need for job in catalogue.JOBS.values() for need in job.needs} <= set(catalogue.JOBS)


def test_a_run_can_differ_from_its_profile(tmp_path):
    path = profile_with(tmp_path, runs={"transfer_esc50": {"scratch": {"iterations": 9}}})
    plan = catalogue.plan(path)
    assert plan.settings("transfer_esc50").scratch.iterations == 9
    assert plan.settings("transfer_esc50").scratch.batch_size == plan.profile.transfer.scratch.batch_size
    assert plan.settings("transfer_ravdess").scratch.iterations == plan.profile.transfer.scratch.iterations


@pytest.mark.parametrize(
    ("runs", "words"),
    [
        ({"transfer_esc51": {}}, "there is no such run; there are .*transfer_esc50"),
        ({"transfer_esc50": {"scratch": {"iteration": 9}}}, "scratch.iteration: there is no such setting"),
        ({"transfer_esc50": {"scratch": {"iterations": 0}}}, "scratch.iterations: 0 is not allowed"),
        ({"transfer_esc50": {"width": 0.5}}, "a transferred network is as wide as the pretrained one"),
    ],
)
def test_differences_are_checked_too(tmp_path, runs, words):
    with pytest.raises(ProfileError, match=words):
        catalogue.plan(profile_with(tmp_path, runs=runs))


def test_the_transferred_network_is_the_pretrained_one(tmp_path):
    plan = catalogue.plan(profile_with(tmp_path, runs={"train_cnn14": {"architecture": "Cnn6", "width": 0.25}}))
    settings = plan.settings("transfer_ravdess")
    assert (settings.architecture, settings.width) == ("Cnn6", 0.25)


def test_a_data_root_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match="nowhere doesn't exist"):
        catalogue.plan("smoke", tmp_path / "nowhere")


def test_seeds_differ_from_part_to_part_and_not_from_time_to_time():
    plan = catalogue.plan("smoke")
    assert plan.seed("a", 1) == catalogue.plan("smoke").seed("a", 1)
    assert len({plan.seed("a", 1), plan.seed("a", 2), plan.seed("b", 1)}) == 3


def test_real_data_takes_the_place_of_the_miniature(real_data):
    plan = catalogue.plan("smoke", real_data)
    assert plan.dataset("esc50").evidence == "partial"
    stamps = [p.data_stamp("esc50") for p in (plan, catalogue.plan("smoke", real_data), catalogue.plan("smoke"))]
    assert stamps[0] == stamps[1] != stamps[2]


def test_the_miniature_stands_in_where_there_is_no_real_data(home):
    plan = catalogue.plan("smoke")
    dataset = plan.dataset("esc50")
    assert dataset.evidence == "miniature"
    assert home in dataset.root.parents
