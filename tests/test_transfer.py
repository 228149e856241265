"""Transfer: the strategies, the folds, and that nothing leaks from a test fold."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

from pannslib import catalogue, files, report, transfer


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PANNS_HOME", str(tmp_path_factory.mktemp("home")))
        yield catalogue.plan("smoke")


@pytest.fixture(scope="module")
def result(plan):
    return transfer.run(plan, "ravdess")


def test_every_clip_is_tested_once_by_every_strategy(plan, result):
    packed = plan.packed("ravdess")
    for strategy in transfer.STRATEGIES:
        part = result.predictions[result.predictions["strategy"] == strategy]
        assert sorted(part["clip"]) == sorted(packed.names)
        assert part["predicted"].between(0, len(packed.classes) - 1).all()


def test_no_actor_is_in_two_folds(result):
    assert (result.predictions.groupby("group")["fold"].nunique() == 1).all()


def test_the_summary_is_of_the_folds(result):
    folds = result.folds()
    assert len(folds) == 4 * len(transfer.STRATEGIES)
    part = folds[folds["strategy"] == "freeze_l1"]
    row = result.summary().set_index("strategy").loc["freeze_l1"]
    assert row["accuracy"] == pytest.approx(part["accuracy"].mean())
    assert row["low"] <= row["accuracy"] <= row["high"]
    assert result.confusion("scratch").to_numpy().sum() == result.predictions["clip"].nunique()


def test_a_lost_fold_alone_is_run_again_with_the_same_predictions(plan, result):
    path = result.run.file("predictions", "fine_tune_fold_2.csv")
    kept = result.run.file("predictions", "fine_tune_fold_1.csv").stat().st_mtime_ns
    before = path.read_text()
    path.unlink()
    transfer.run(plan, "ravdess")
    assert path.read_text() == before
    assert result.run.file("predictions", "fine_tune_fold_1.csv").stat().st_mtime_ns == kept


def test_other_settings_leave_nothing_of_the_old_results(plan, result):
    profile = plan.profile.model_copy(update={"runs": {"transfer_ravdess": {"freeze_l1": {"iterations": 3}}}})
    other = catalogue.Plan(profile, plan.data_root)
    before = files.read_json(result.run.file("inputs.json"))
    transfer.run(other, "ravdess")
    after = files.read_json(result.run.file("inputs.json"))
    assert after["settings"]["freeze_l1"]["iterations"] == 3
    assert before["digest"] != after["digest"]


def test_embeddings_are_scaled_by_training_clips_alone():
    embeddings = np.random.default_rng(0).normal(3, 2, (10, 4)).astype(np.float32)
    training_clips = np.arange(7)
    scaled = transfer._standardised(embeddings, training_clips)
    np.testing.assert_allclose(scaled[training_clips].mean(0), 0, atol=1e-5)
    changed = embeddings.copy()
    changed[8] = 1000
    np.testing.assert_array_equal(transfer._standardised(changed, training_clips)[:7], scaled[:7])


@pytest.mark.parametrize("layers", [1, 3])
def test_frozen_classifiers_have_as_many_layers_as_they_say(layers):
    classifier = transfer._classifier(6, 4, layers)
    assert sum(isinstance(module, torch.nn.Linear) for module in classifier) == layers
    assert classifier(torch.zeros(2, 6)).shape == (2, 4)


def test_frozen_embeddings_can_be_mixed_in_training():
    classifier = transfer._classifier(6, 4, 1)
    clips, shares = torch.randn(4, 6), torch.tensor([0.25, 0.75, 1.0, 0.0])
    mixed = classifier(clips, mixup_lambda=shares)
    expected = classifier(torch.stack([0.25 * clips[0] + 0.75 * clips[1], clips[2]]))
    torch.testing.assert_close(mixed, expected)
    assert classifier.eval()(clips, mixup_lambda=shares).shape == (4, 4)


def test_published_rows_are_the_papers():
    values = transfer.published("esc50").set_index("strategy")["value"]
    assert isinstance(values, pd.Series)
    assert values["fine_tune"] == 0.947
    assert set(transfer.STRATEGIES) < set(values.index)


def test_reading_finished_results_leaves_their_provenance(plan):
    first = transfer.run(plan, "ravdess")
    figure, _ = plt.subplots()
    frame = first.summary()
    recorded = files.read_json(first.run.file("provenance.json"))
    report.save_figure(plan, "transfer_ravdess", "ravdess_folds", figure, frame, "Folds", "A figure.")
    plt.close(figure)
    assert files.read_json(first.run.file("provenance.json")) == recorded
    assert files.read_json(plan.figures / "ravdess_folds.json")["provenance"] == recorded
