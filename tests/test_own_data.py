"""Your own data, end to end: a folder and a CSV to results, few-shot curve, mistakes and a model that tags."""

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

import pannslib
from pannslib import catalogue, models, own_data
from pannslib.errors import DataError, ResultError
from pannslib.report import own_data as shown

RATE = 8000
PITCHES = {"low": 200, "middle": 700, "high": 2500}  # Hz


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Weights of a tiny network."""
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    torch.manual_seed(0)
    return models.save_checkpoint(models.create_model("Cnn14", classes=4, width=0.0625), path, labels=list("abcd"))


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    monkeypatch.setenv("PANNS_HOME", str(tmp_path / "home"))


def make(tmp_path, several=False, clips=4, speakers=3):
    """Tones of three pitches by several speakers, of 0.3 to 0.8 s, and their table."""
    folder = tmp_path / "recordings"
    folder.mkdir()
    rng, rows = np.random.default_rng(0), []
    for speaker in range(speakers):
        for label, pitch in PITCHES.items():
            for take in range(clips):
                name = f"{label}_{speaker}_{take}.wav"
                time = np.arange(int(RATE * rng.uniform(0.3, 0.8))) / RATE
                wave = np.sin(2 * np.pi * pitch * rng.uniform(0.95, 1.05) * time) + rng.normal(0, 0.05, len(time))
                soundfile.write(folder / name, 0.3 * wave, RATE)
                rows.append((name, f"{label};{'even' if take % 2 == 0 else 'odd'}" if several else label, speaker))
    pd.DataFrame(rows, columns=["file", "label", "group"]).to_csv(tmp_path / "clips.csv", index=False)
    return folder, tmp_path / "clips.csv"


def plan_of(tmp_path, checkpoint, several=False, **settings):
    folder, table = make(tmp_path, several)
    chosen = {"folds": 3, "iterations": 4, "threads": 1} | settings
    return own_data.plan(folder, table, checkpoint, "smoke", tmp_path / "output", **chosen)


def test_from_a_folder_to_a_model(tmp_path, checkpoint):
    plan = plan_of(tmp_path, checkpoint)
    assert plan.settings("own_data").seconds == 1.0
    result = own_data.run(plan, "freeze_l1, scratch")
    assert (result.evidence, result.metric.name, result.classes) == ("computed", "accuracy", ("high", "low", "middle"))
    assert result.strategies == ["scratch", "freeze_l1"]
    # tones are told apart by any network's embedding
    assert result.summary().set_index("strategy").loc["freeze_l1", "value"] > result.chance + 0.15
    # no speaker on both sides
    for split in result.splits:
        groups = result.clips.groups
        assert not set(groups[split.training]) & set(groups[split.test])
    assert len(result.predictions) == 2 * 36
    mistakes = result.mistakes("scratch")
    assert (mistakes["label"] != mistakes["predicted"]).all()
    model = own_data.save_model(plan, "freeze_l1")
    assert model == tmp_path / "output" / "own_data.safetensors"
    tags = pannslib.AudioTagger(checkpoint=model).tag(tmp_path / "recordings" / "high_0_0.wav", top=3)
    assert set(tags["label"]) == set(PITCHES)
    assert tags["label"][0] == "high"
    before = model.stat().st_mtime_ns
    assert own_data.save_model(plan, "freeze_l1").stat().st_mtime_ns == before
    assert own_data.save_model(plan, "scratch").stat().st_mtime_ns != before


def test_more_shots_than_clips_are_left_out_and_said(tmp_path, checkpoint):
    plan = plan_of(tmp_path, checkpoint)
    result = own_data.run(plan, ["freeze_l1"])
    curve = own_data.run_few_shot(plan, result, "1, 2, 1000")
    assert sorted(set(curve.draws["shots"])) == [0, 1, 2]  # 0: all
    assert any("1000" in note for note in curve.notes)
    for wrong in ("", "0", "two", [-1]):
        with pytest.raises(ResultError, match="shots is"):
            own_data.run_few_shot(plan, result, wrong)


def test_several_labels_a_clip(tmp_path, checkpoint):
    plan = plan_of(tmp_path, checkpoint, several=True)
    result = own_data.run(plan, ["freeze_l1"])
    assert result.metric.name == "map"
    assert result.classes == ("even", "high", "low", "middle", "odd")
    frame = result.per_class()
    assert frame["freeze_l1"].between(0, 1).all()
    assert frame["test clips"].tolist() == [18, 12, 12, 12, 18]
    figure, numbers = shown.classes(result, "freeze_l1")
    assert len(numbers) == 5
    assert figure.axes[0].get_xlabel() == "Average precision"
    assert "more than one label" in shown.about(plan, plan.packed("own_data"))
    model = own_data.save_model(plan, "freeze_l1")
    tags = pannslib.AudioTagger(checkpoint=model).tag(tmp_path / "recordings" / "low_0_0.wav", top=5)
    assert tags.set_index("label")["probability"]["low"] > tags.set_index("label")["probability"]["high"]


def test_a_file_that_cannot_be_decoded_is_left_out_and_listed(tmp_path, checkpoint):
    folder, table = make(tmp_path)
    (folder / "low_0_0.wav").write_bytes(b"no sound")
    plan = own_data.plan(folder, table, checkpoint, "smoke", tmp_path / "output", folds=3)
    packed = plan.packed("own_data")
    assert len(packed.names) == 35
    assert "1 clips can't be used" in shown.about(plan, packed)
    assert "low_0_0.wav" in shown.about(plan, packed)


def test_the_length_is_that_of_most_clips(tmp_path, checkpoint):
    folder, table = make(tmp_path)
    for take in range(4):
        soundfile.write(folder / f"low_0_{take}.wav", np.zeros(int(2.2 * RATE)) + 0.1, RATE)
    found = own_data.plan(folder, table, checkpoint, "smoke").settings("own_data")
    assert (found.seconds, found.folds) == (2.5, None)
    assert own_data.plan(folder, table, checkpoint, "smoke", seconds=0.5).settings("own_data").seconds == 0.5
    assert own_data.plan(folder, table, checkpoint, "smoke", segments=True).settings("own_data").segments
    for file in folder.iterdir():
        file.write_text(f"no sound, {file.name}")
    with pytest.raises(DataError, match="can be read as sound"):
        own_data.plan(folder, table, checkpoint, "smoke")


def test_without_a_folder_it_is_the_catalogues_example():
    plan = own_data.plan(profile="smoke")
    assert plan.dataset("own_data").evidence == own_data.evidence_of(plan) == "miniature"
    assert plan.digest("own_data") == catalogue.plan("smoke").digest("own_data")
    assert plan.figures == catalogue.plan("smoke").figures


def test_own_data_below_a_data_root_take_the_examples_place(tmp_path):
    folder, table = make(tmp_path)
    root = tmp_path / "root" / "raw"
    root.mkdir(parents=True)
    folder.rename(root / "own_data")
    table.rename(root / "own_data" / "clips.csv")
    plan = own_data.plan(profile="smoke", data_root=tmp_path / "root")
    assert len(plan.dataset("own_data").clips) == 36
    assert own_data.evidence_of(plan) == "computed"
    assert plan.digest("own_data") == catalogue.plan("smoke", tmp_path / "root").digest("own_data")


def test_no_strategy_and_one_that_there_is_not(tmp_path, checkpoint):
    plan = plan_of(tmp_path, checkpoint)
    with pytest.raises(ResultError, match="No strategy"):
        own_data.run(plan, "")
    with pytest.raises(ResultError, match="no strategy 'magic'"):
        own_data.run(plan, "magic")
