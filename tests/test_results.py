"""Results on disk: what a run folder keeps, and what it says of itself."""

import os
import time

import pytest

from pannslib import catalogue, files, results
from pannslib.datasets import miniature


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


def test_what_was_trained_from_other_inputs_is_set_aside_and_told(plan, capsys):
    run = results.open_run(plan, "multi_adds")
    before, digest = run.path, run.inputs["digest"]
    for name in ("state.pt", "error.txt", "done.json"):
        run.file(name).write_text(name)
    results.open_run(other(plan, multi_adds={"seed": 7}), "multi_adds")
    aside = before.with_name(f"multi_adds.before-{digest}")
    assert sorted(path.name for path in aside.iterdir()) == ["inputs.json", "state.pt"]
    assert [path.name for path in before.iterdir()] == ["inputs.json"]
    told = capsys.readouterr().err
    assert f"settings.seed ({plan.profile.seed}, now 7)" in told
    assert aside.name in told
    run.file("summary.json").write_text("{}")
    results.open_run(plan, "multi_adds")
    assert not aside.exists()
    assert len(list(before.parent.glob("multi_adds.before-*"))) == 1


def test_a_changed_data_set_is_told_by_name(plan, real_data, capsys):
    run = results.open_run(plan, "transfer_esc50")
    files.write_text(run.file("predictions", "scratch_1.npz"), "1")
    results.open_run(catalogue.plan("smoke", real_data), "transfer_esc50")
    assert "what is other now: the data set esc50. " in capsys.readouterr().err


def test_the_clips_that_changed_are_named(tmp_path, home, monkeypatch, capsys):
    folder = miniature.make("esc50", tmp_path / "raw" / "esc50", classes=2, clips_per_class_and_fold=2)
    (folder / "miniature.json").unlink()
    monkeypatch.setenv("PANNS_HOME", str(tmp_path / "home"))
    opened = catalogue.plan("smoke", tmp_path)
    opened.packed("esc50")
    run = results.open_run(opened, "transfer_esc50")
    files.write_text(run.file("predictions", "scratch_1.npz"), "1")
    changed = sorted((folder / "audio").glob("*.wav"))[3]
    later = time.time() + 5
    os.utime(changed, (later, later))
    results.open_run(catalogue.plan("smoke", tmp_path), "transfer_esc50")
    assert f"the data set esc50 (1 written since: {changed.name}). " in capsys.readouterr().err


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
