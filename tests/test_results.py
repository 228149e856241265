"""Results on disk: what a run folder keeps, and what it says of itself."""

import pytest

from pannslib import catalogue, files, results


def other(plan, **runs):
    return catalogue.Plan(plan.profile.model_copy(update={"runs": runs}), plan.data_root)


@pytest.fixture
def plan(home):
    return catalogue.plan("smoke")


def test_results_stay_while_their_inputs_do(plan):
    run = results.open_run(plan, "multi_adds")
    files.write_text(run.file("scores", "a.csv"), "1")
    assert (results.open_run(catalogue.plan("smoke"), "multi_adds").path / "scores" / "a.csv").is_file()


def test_results_of_other_inputs_are_removed(plan):
    run = results.open_run(plan, "multi_adds")
    files.write_text(run.file("scores", "a.csv"), "1")
    results.open_run(other(plan, multi_adds={"seed": 7}), "multi_adds")
    assert not run.path.joinpath("scores").exists()


def test_a_run_that_needs_another_changes_with_it(plan):
    changed = other(plan, train_cnn14={"seed": 7})
    assert plan.inputs("transfer_esc50") == changed.inputs("transfer_esc50")
    assert plan.digest("transfer_esc50") != changed.digest("transfer_esc50")


def test_provenance_says_where_everything_comes_from(plan):
    record = results.open_run(plan, "multi_adds").write_provenance("reproduced")
    assert record == files.read_json(plan.runs / "multi_adds" / "provenance.json")
    assert record["code"].startswith("0.1.0")
    assert record["seed"] == plan.profile.seed
    assert set(results.RECORDED_PACKAGES) < set(record["packages"])
    assert record["hardware"]["cores"] >= 1
    assert record["duration_s"] > 0
    assert record["peak_memory_mib"] > 10


def test_the_provenance_of_transfer_names_both_data_sets(plan):
    record = results.provenance(plan, "transfer_ravdess", "miniature")
    assert record["data"][0]["evidence"] == "miniature"
    assert len(record["data"][0]["fingerprint"]) == 64
    assert record["pretrained_on"]["task"] == "audioset"


def test_an_unknown_run_is_told_which_there_are(plan):
    with pytest.raises(Exception, match="there are data, "):
        results.open_run(plan, "transfer")


def test_evidence_is_that_of_the_weakest_data(plan, real_data):
    assert results.evidence_of(plan, "multi_adds") == "reproduced"
    assert results.evidence_of(plan, "transfer_esc50") == "miniature"
    real = catalogue.plan("smoke", real_data)
    assert results.evidence_of(real, "transfer_esc50") == "partial"
    assert results.evidence_of(real, "data") == "miniature"  # AudioSet isn't there
