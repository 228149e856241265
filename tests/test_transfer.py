"""Transfer: the strategies, the splits, few clips a class, and that nothing leaks from a test fold."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from pannslib import AudioTagger, catalogue, datasets, files, models, profiles, report, transfer
from pannslib.datasets.base import Clip, assemble
from pannslib.errors import CheckpointError, DataError, ProfileError, ResultError
from pannslib.report import transfer as shown
from pannslib.transfer import pretrained as weights
from pannslib.transfer.experiment import Bench
from pannslib.transfer.strategies import Scale, classifier

STRATEGIES = ["scratch", "fine_tune", "freeze_l1", "freeze_l3"]


# --- a task of the catalogue -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PANNS_HOME", str(tmp_path_factory.mktemp("home")))
        yield catalogue.plan("smoke")


@pytest.fixture(scope="module")
def result(plan):
    return transfer.run(plan, "ravdess")


@pytest.fixture(scope="module")
def curve(plan, result):
    return transfer.run_few_shot(plan, "ravdess", result)


def test_every_clip_is_tested_once_by_every_strategy(plan, result):
    packed = plan.packed("ravdess")
    assert result.strategies == list(transfer.STRATEGIES)
    for strategy in transfer.STRATEGIES:
        part = result.predictions[result.predictions["strategy"] == strategy]
        assert sorted(part["clip"]) == sorted(packed.names)
        assert part["predicted"].between(0, len(packed.classes) - 1).all()


def test_no_actor_is_on_both_sides(result):
    assert (result.predictions.groupby("group")["fold"].nunique() == 1).all()
    for split in result.splits:
        groups = [set(result.clips.groups[result.clips.of_row[rows]]) for rows in (split.training, split.test)]
        assert not groups[0] & groups[1]


def test_the_summary_is_of_the_folds(result):
    folds = result.folds()
    assert len(folds) == 4 * len(transfer.STRATEGIES)
    part = folds[folds["strategy"] == "freeze_l1"]
    row = result.summary().set_index("strategy").loc["freeze_l1"]
    assert row["value"] == pytest.approx(part["value"].mean())
    assert row["low"] <= row["value"] <= row["high"]
    clips = result.predictions["clip"].nunique()
    assert result.confusion("scratch").to_numpy().sum() == clips
    recognised = result.per_class()
    counted = (recognised["scratch"] * recognised["test clips"]).sum() / clips
    parts = result.predictions[result.predictions["strategy"] == "scratch"]
    assert counted == pytest.approx((parts["label"] == parts["predicted"]).mean())


def test_mistakes_are_wrong_and_the_surest_come_first(result):
    mistakes = result.mistakes("scratch", 5)
    assert (mistakes["label"] != mistakes["predicted"]).all()
    assert mistakes["probability"].is_monotonic_decreasing
    assert (mistakes["true_probability"] <= mistakes["probability"]).all()


def test_a_lost_unit_alone_is_run_again_with_the_same_result(plan, result, curve):
    lost = [
        result.folder / "predictions" / "fine_tune_2.npz",
        result.folder / "few_shot" / "freeze_l1_2_1.json",
        next(plan.packed("ravdess").path.parent.glob("embeddings/ravdess*.npy")),
    ]
    kept = result.folder / "predictions" / "fine_tune_1.npz"
    times, before = kept.stat().st_mtime_ns, [path.read_bytes() for path in lost]
    for path in lost:
        path.unlink()
    again = transfer.run(plan, "ravdess")
    transfer.run_few_shot(plan, "ravdess", again)
    assert [path.read_bytes() for path in lost[1:]] == before[1:]
    pd.testing.assert_frame_equal(again.predictions, result.predictions)
    assert kept.stat().st_mtime_ns == times


def test_the_points_that_the_data_lack_are_left_out_and_told(curve):
    frame = curve.summary()
    assert set(frame["shots"]) == {0, 2, 5}
    assert curve.fewest() == 2
    assert "Left out: 10, 20, 50 clips a class" in curve.notes[0]
    assert "Whole networks are trained at 2 clips a class only" in " ".join(curve.notes)
    draws = curve.draws[(curve.draws["strategy"] == "freeze_l1") & (curve.draws["shots"] == 2)]
    assert draws["fold"].tolist() == ["1", "2", "3"]


def test_the_last_point_of_the_curve_is_the_tables(curve, result):
    every = curve.summary().query("all").set_index("strategy")
    table = result.summary().set_index("strategy").loc[every.index]
    pd.testing.assert_frame_equal(every[["value", "low", "high"]], table[["value", "low", "high"]])


def test_table_figures_and_sentences(plan, result, curve):
    table = shown.table(result, "ravdess").set_index("strategy")
    assert table.loc["fine_tune", "published"] == 0.721
    assert table.loc["fine_tune", "ours"] == result.summary().set_index("strategy").loc["fine_tune", "value"]
    assert pd.isna(table.loc["stoa", "ours"])
    figure, axes = plt.subplots(1, 2)
    shown.spread(result, {"scratch": 0.5}, axes[0])
    ax = shown.few_shot(curve, axes[1], "ravdess")
    assert ax.get_xscale() == "log"
    axis = transfer.published_axis("ravdess")["training_clips_per_class"].tolist()
    assert ax.get_xticks().tolist() == axis
    assert ax.get_xticklabels()[-1].get_text().endswith("(all)")
    plt.close(figure)
    text = shown.reading_few(curve)
    beaten = curve.summary().query("shots == 2").set_index("strategy")["value"]
    assert ("not beat" in text) == bool((beaten.drop("scratch") <= beaten["scratch"]).any())
    frame = shown.compared({"ravdess": result}, {"ravdess": curve})
    assert frame.loc[0, "fine-tune - scratch, published"] == pytest.approx(0.721 - 0.692)
    assert "in the paper on 1 of 1 tasks" in shown.reading_compared(frame)
    figure, axes = plt.subplots(1, 2, sharey=True)
    shown.gains(frame, axes)
    assert [label.get_text() for label in axes[0].get_yticklabels()] == ["RAVDESS"]
    plt.close(figure)
    assert "miniature" in shown.about(plan.dataset("ravdess"), plan.packed("ravdess"), "ravdess")


def test_reading_finished_results_leaves_their_provenance(plan):
    first = transfer.run(plan, "ravdess")
    recorded = files.read_json(first.folder / "provenance.json")
    assert recorded["pretrained"]["architecture"] == "Cnn14"
    figure, _ = plt.subplots()
    report.save_figure(
        plan, "transfer_ravdess", "ravdess_folds", figure, first.folds(), "Folds", "A figure.", first.evidence
    )
    plt.close(figure)
    transfer.run(plan, "ravdess")
    assert files.read_json(first.folder / "provenance.json") == recorded
    assert files.read_json(plan.figures / "ravdess_folds.json")["provenance"] == recorded


def test_other_settings_leave_nothing_of_the_old_results(plan, result):
    profile = plan.profile.model_copy(update={"runs": {"transfer_ravdess": {"freeze_l1": {"iterations": 3}}}})
    before = plan.digest("transfer_ravdess")
    other = catalogue.Plan(profile, plan.data_root)
    assert other.digest("transfer_ravdess") != before
    transfer.run(other, "ravdess", ("freeze_l1",))
    assert [path.name for path in sorted((result.folder / "predictions").glob("scratch*"))] == []


# --- which weights ---------------------------------------------------------------------------------------------


def with_transfer(plan, **change):
    return catalogue.Plan(profiles.Profile.model_validate(
        profiles.merge(plan.profile.model_dump(), {"transfer": change})
    ), plan.data_root)  # fmt: skip


def test_another_architecture_starts_from_its_own_run(plan):
    other = with_transfer(plan, architecture="MobileNetV1")
    assert other.pretraining("transfer_esc50") == "train_mobilenetv1"
    assert other.needs("transfer_esc50") == ("train_mobilenetv1",)
    assert plan.needs("transfer_esc50") == (catalogue.PRETRAINING,)
    with pytest.raises(ProfileError, match="no run trains VGGish"):
        with_transfer(plan, architecture="VGGish").digest("transfer_esc50")


def test_weights_from_a_path(plan, tmp_path):
    model = models.create_model("MobileNetV2", classes=3, width=0.25)
    path = models.save_checkpoint(model, tmp_path / "mine.safetensors")
    other = with_transfer(plan, pretrained=str(path))
    found = transfer.pretrained_for(other, "transfer_esc50")
    assert (found.architecture, found.width, found.official) == ("MobileNetV2", 0.25, False)
    assert other.needs("transfer_esc50") == ()
    first = other.digest("transfer_esc50")
    models.save_checkpoint(models.create_model("MobileNetV2", classes=3, width=0.25), path)
    assert other.digest("transfer_esc50") != first
    with pytest.raises(ProfileError, match="there is no checkpoint"):
        with_transfer(plan, pretrained=str(tmp_path / "none.pth")).digest("transfer_esc50")


def test_released_weights_are_only_taken_from_the_cache(plan, tmp_path, monkeypatch):
    monkeypatch.setenv("PANNS_CACHE", str(tmp_path))
    released = with_transfer(plan, pretrained="released", architecture="Cnn6")
    with pytest.raises(CheckpointError, match="fetches them once"):
        transfer.pretrained_for(released, "transfer_esc50")
    name = models.released_checkpoints().set_index("model").loc["Cnn6", "name"]
    (tmp_path / name).write_bytes(b"weights")
    found = transfer.pretrained_for(released, "transfer_esc50")
    assert (found.checkpoint, found.width, found.official) == (tmp_path / name, 1.0, True)
    with pytest.raises(CheckpointError, match="released no weights of VGGish"):
        transfer.Pretrained.released("VGGish")


# --- any packed clips ------------------------------------------------------------------------------------------

RATE, SECONDS = 32_000, 0.5


def tones(folder, rows):
    """A packed data set of tones, one pitch a class, with noise: rows of clip, classes, fold, group, split, seconds."""
    folder.mkdir(exist_ok=True)
    generator = np.random.default_rng(0)
    clips = []
    for name, labels, fold, group, split, seconds in rows:
        time = np.arange(int(seconds * RATE)) / RATE
        sound = sum(0.2 * np.sin(2 * np.pi * 400 * 2**label * time) for label in labels)
        soundfile.write(folder / f"{name}.wav", sound + 0.01 * generator.standard_normal(len(time)), RATE)
        clips.append(Clip(f"{name}.wav", f"{name}.wav", tuple(labels), fold, group, split))
    count = max(label for _, labels, *_ in rows for label in labels) + 1
    names = {index: f"tone {index}" for index in range(count)}
    return assemble("tones", "Tones", folder, clips, names, len(clips))


def packed_of(folder, rows, **options):
    return datasets.pack(tones(folder / "raw", rows), folder / "tones.h5", RATE, SECONDS, **options)


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    torch.manual_seed(0)
    model = models.create_model("MobileNetV1", classes=5, width=0.125)
    path = models.save_checkpoint(model, tmp_path_factory.mktemp("weights") / "start.safetensors")
    return transfer.Pretrained.from_path(path)


@pytest.fixture(scope="module")
def settings(plan):
    base = plan.settings("transfer_esc50")
    few = base.few_shot.model_copy(update={"draws": 2})
    return base.model_copy(update={"few_shot": few})


def folds_of(count, classes=2, folds=2):
    return [(f"{c}_{n}", (c,), n % folds + 1, f"{c}_{n}", "", 0.5) for c in range(classes) for n in range(count)]


def test_any_clips_any_network_and_the_results_stay(tmp_path, start, settings):
    packed = packed_of(tmp_path, folds_of(4))
    splits, notes = transfer.splits_of(packed)
    assert notes == []
    made = transfer.experiment(packed, splits, STRATEGIES, start, settings, tmp_path / "run")
    assert made.metric.name == "accuracy"
    assert made.summary()["strategy"].tolist() == STRATEGIES
    # pitches are told apart even by random embeddings
    assert made.summary().set_index("strategy").loc["freeze_l1", "value"] > 0.6
    files_before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*.npz")}
    assert len(files_before) == 8
    transfer.experiment(packed, splits, STRATEGIES, start, settings, tmp_path / "run")
    assert files_before == {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*.npz")}
    other = settings.model_copy(update={"seed": 1})
    transfer.experiment(packed, splits, ["freeze_l1"], start, other, tmp_path / "run")
    assert len(list((tmp_path / "run").rglob("*.npz"))) == 2
    with pytest.raises(ResultError, match="no strategy 'freeze_l2'"):
        transfer.experiment(packed, splits, ["freeze_l2"], start, settings, tmp_path / "run")


def test_several_labels_a_clip(tmp_path, start, settings):
    rows = [(f"{n}", labels, n % 2 + 1, f"{n}", "", 0.5) for n, labels in enumerate([(0,), (1,), (0, 1), (0, 1)] * 3)]
    packed = packed_of(tmp_path, rows)
    splits, _ = transfer.splits_of(packed)
    made = transfer.experiment(packed, splits, ["freeze_l1"], start, settings, tmp_path / "run")
    assert made.metric.name == "map"
    assert made.per_class()["freeze_l1"].between(0, 1).all()
    assert made.predictions["label"].map(type).eq(tuple).all()
    few = transfer.few_shot(packed, splits, ["freeze_l1"], start, settings, tmp_path / "run", [2, 50], made)
    assert set(few.summary()["shots"]) == {0, 2}
    path = transfer.final_model(packed, "scratch", start, settings, tmp_path / "model.safetensors")
    assert models.read_metadata(path)["activation"] == "sigmoid"


@pytest.mark.parametrize("strategy", ["fine_tune", "freeze_l1"])
def test_a_final_model_is_what_the_tagger_loads(tmp_path, start, settings, strategy):
    packed = packed_of(tmp_path, folds_of(3, classes=3))
    path = transfer.final_model(packed, strategy, start, settings, tmp_path / "model.safetensors")
    assert models.read_metadata(path)["activation"] == "softmax"
    tagger = AudioTagger(checkpoint=path)
    assert tagger.labels == packed.classes
    if strategy == "freeze_l1":
        # the classifier says of the network's embeddings what the layer on scaled ones said
        bench = Bench(packed, start, settings)
        trained = bench.train(strategy, np.arange(len(packed.names)), settings.freeze_l1, ("all",))
        _, expected = trained.predict(np.arange(len(packed.names)))
        with torch.no_grad():
            logits = tagger.model(torch.from_numpy(packed.read(np.arange(len(packed.names))))).logits
        np.testing.assert_allclose(logits.softmax(1).numpy(), expected, atol=1e-4)


def test_three_layers_are_no_network_to_keep(tmp_path, start, settings):
    packed = packed_of(tmp_path, folds_of(2))
    with pytest.raises(CheckpointError, match="can't be kept as one network"):
        transfer.final_model(packed, "freeze_l3", start, settings, tmp_path / "model.safetensors")


# --- no leak ---------------------------------------------------------------------------------------------------


def test_segments_stay_together_and_their_mean_is_the_clips(tmp_path, start, settings):
    rows = [(f"{c}_{n}", (c,), 0, f"{c}_{n}", "test" if n == 3 else "train", 0.5 + 0.6 * (n % 2))
            for c in range(2) for n in range(4)]  # fmt: skip
    packed = packed_of(tmp_path, rows, segments=True)
    assert len(packed.names) > len(packed.clip_names) == 8
    splits, _ = transfer.splits_of(packed)
    (split,) = splits
    assert split.name == "test"
    assert not set(packed.clip_of_row[split.training]) & set(packed.clip_of_row[split.test])
    clips = transfer.Clips.of(packed)
    drawn = transfer.few_clips(split, clips, 1, seed=3)
    chosen = np.unique(clips.of_row[drawn])
    assert len(chosen) == 2
    assert set(drawn) == set(np.flatnonzero(np.isin(clips.of_row, chosen)))
    values = np.random.default_rng(0).random((len(split.test), 2))
    tested, mean = clips.mean(split.test, values)
    first = values[clips.of_row[split.test] == tested[0]]
    assert len(first) > 1
    np.testing.assert_allclose(mean[0], first.mean(0), rtol=1e-6)
    made = transfer.experiment(packed, splits, ["freeze_l1"], start, settings, tmp_path / "run")
    assert len(made.predictions) == 2
    # one split: the interval is over the test clips
    row = made.summary().iloc[0]
    assert 0 <= row["low"] <= row["value"] <= row["high"] <= 1


def test_a_group_on_both_sides_stops_the_run(tmp_path):
    rows = folds_of(4)
    rows[0] = (*rows[0][:3], "the same", *rows[0][4:])
    rows[1] = (*rows[1][:3], "the same", *rows[1][4:])
    with pytest.raises(DataError, match=r"on both sides.*the same"):
        transfer.splits_of(packed_of(tmp_path, rows))


def test_a_copy_of_a_test_clip_is_not_learnt_from(tmp_path):
    dataset = tones(tmp_path / "raw", folds_of(4))
    (tmp_path / "raw" / "0_0.wav").write_bytes((tmp_path / "raw" / "0_1.wav").read_bytes())
    packed = datasets.pack(dataset, tmp_path / "tones.h5", RATE, SECONDS)
    splits, notes = transfer.splits_of(packed)
    # 0_0 is in fold 1 and 0_1, the same sound, in fold 2
    assert "0_0.wav" not in [packed.names[row] for row in splits[1].training]
    assert "0_1.wav" not in [packed.names[row] for row in splits[0].training]
    assert "byte for byte" in notes[0]
    assert "0_0.wav, 0_1.wav" in notes[0]


def test_embeddings_are_scaled_by_training_clips_alone(tmp_path, start, settings):
    embeddings = np.random.default_rng(0).normal(3, 2, (10, 4)).astype(np.float32)
    embeddings[:7, 3] = 1  # says nothing in the training clips
    scale = Scale.of(embeddings[:7])
    scaled = scale(embeddings)
    np.testing.assert_allclose(scaled[:7].mean(0), 0, atol=1e-5)
    assert np.abs(scaled[7:, 3]).max() < 100
    # and in the experiment: other test clips leave the trained layer as it was
    layers = []
    for number, pitch in enumerate((0, 1)):
        folder = tmp_path / str(number)
        folder.mkdir()
        packed = packed_of(folder, [*folds_of(3), ("test", (pitch,), 3, "test", "", 0.5)])
        bench = Bench(packed, start, settings)
        trained = bench.train("freeze_l1", np.flatnonzero(packed.folds < 3), settings.freeze_l1, ("1",))
        layers.append(trained.network[0].weight.detach().clone())
    assert torch.equal(*layers)


def test_few_clips_are_drawn_from_training_clips_alone(tmp_path):
    packed = packed_of(tmp_path, folds_of(6, classes=3))
    clips = transfer.Clips.of(packed)
    for split in transfer.splits_of(packed)[0]:
        for seed in range(5):
            rows = transfer.few_clips(split, clips, 2, seed)
            assert set(rows) <= set(split.training)
            assert packed.targets[rows].sum(0).tolist() == [2, 2, 2]
    assert transfer.few_clips(split, clips, 2, 0).tolist() == transfer.few_clips(split, clips, 2, 0).tolist()


# --- what data can be like -------------------------------------------------------------------------------------


def test_a_class_with_fewer_clips_than_folds_and_more_shots_than_clips(tmp_path, start, settings):
    rows = [*folds_of(6, folds=3), ("rare", (2,), 1, "rare", "", 0.5)]
    packed = packed_of(tmp_path, rows)
    splits, notes = transfer.splits_of(packed)
    assert "fewer clips than the 3 folds" in notes[0]
    assert "tone 2 (1)" in notes[0]
    assert "no clip to learn from where the test fold is 1" in notes[1]
    made = transfer.experiment(packed, splits, ["freeze_l1"], start, settings, tmp_path / "run")
    assert made.per_class()["freeze_l1"].notna().all()
    few = transfer.few_shot(packed, splits, ["freeze_l1"], start, settings, tmp_path / "run", [2, 4, 1000], made)
    assert set(few.summary()["shots"]) == {0, 2}
    assert "Left out: 4, 1000 clips a class" in few.notes[0]
    none = transfer.few_shot(packed, splits, ["freeze_l1"], start, settings, tmp_path / "run", [1000], made)
    assert none.summary()["all"].all()
    assert "With all" in shown.reading_few(none)


def test_clips_that_cannot_be_divided_are_refused(tmp_path):
    rows = [(f"{n}", (n % 2,), 0, f"{n}", "", 0.5) for n in range(4)]
    with pytest.raises(DataError, match=r"neither two folds .* nor a split"):
        transfer.splits_of(packed_of(tmp_path, rows))


def test_one_class_is_refused(tmp_path):
    with pytest.raises(DataError, match="has 1 class"):
        transfer.splits_of(packed_of(tmp_path, folds_of(2, classes=1)))


def test_fewer_folds_can_be_tested(tmp_path):
    splits, notes = transfer.splits_of(packed_of(tmp_path, folds_of(3, folds=3)), most=2)
    assert [split.name for split in splits] == ["1", "2"]
    assert "2 of the 3 folds are tested" in notes[-1]
    sizes = transfer.sizes(splits, transfer.Clips.of(packed_of(tmp_path, folds_of(3, folds=3))))
    assert sizes[0]["training clips"] == 4


# --- embeddings ------------------------------------------------------------------------------------------------


def test_embeddings_are_found_again_by_content_and_by_nothing_else(tmp_path, start):
    packed = packed_of(tmp_path, folds_of(2))
    calls = []

    def compute():
        calls.append(1)
        return np.full((len(packed.names), 3), len(calls), np.float32)

    first = weights.embeddings(packed, start, compute)
    np.testing.assert_array_equal(weights.embeddings(packed, start, compute), first)
    assert len(calls) == 1
    (path,) = packed.path.parent.glob("embeddings/*.npy")
    path.write_bytes(path.read_bytes()[:-5])
    weights.embeddings(packed, start, compute)  # a damaged file is made again
    assert len(calls) == 2
    model = models.create_model("MobileNetV1", classes=5, width=0.125)
    other = transfer.Pretrained.from_path(models.save_checkpoint(model, tmp_path / "b.safetensors"))
    weights.embeddings(packed, other, compute)
    assert len(calls) == 3


def test_another_sound_under_the_same_name_has_another_key(tmp_path):
    rows = folds_of(2)
    before = weights.content_of(packed_of(tmp_path, rows))
    sound, _ = soundfile.read(tmp_path / "raw" / "0_0.wav")
    soundfile.write(tmp_path / "raw" / "0_0.wav", -sound, RATE)
    clips = [Clip(f"{n}.wav", f"{n}.wav", labels, fold, group) for n, labels, fold, group, _, _ in rows]
    again = assemble("tones", "Tones", tmp_path / "raw", clips, {0: "tone 0", 1: "tone 1"}, 4)
    packed = datasets.pack(again, tmp_path / "again.h5", RATE, SECONDS)
    assert weights.content_of(packed) != before


# --- parts -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layers", [1, 3])
def test_frozen_classifiers_have_as_many_layers_as_they_say(layers):
    made = classifier(6, 4, layers)
    assert sum(isinstance(module, torch.nn.Linear) for module in made) == layers
    assert made(torch.zeros(2, 6)).shape == (2, 4)


def test_frozen_embeddings_can_be_mixed_in_training():
    made = classifier(6, 4, 1)
    clips, shares = torch.randn(4, 6), torch.tensor([0.25, 0.75, 1.0, 0.0])
    mixed = made(clips, mixup_lambda=shares)
    expected = made(torch.stack([0.25 * clips[0] + 0.75 * clips[1], clips[2]]))
    torch.testing.assert_close(mixed, expected)
    assert made.eval()(clips, mixup_lambda=shares).shape == (4, 4)


def test_published_rows_and_axes_are_the_papers():
    values = transfer.published("esc50").set_index("strategy")["value"]
    assert values["fine_tune"] == 0.947
    assert set(transfer.STRATEGIES) < set(values.index)
    axis = transfer.published_axis("esc50")
    assert axis["training_clips_per_class"].tolist() == [2, 5, 10, 20, 32]
    numbers = [(facts.table, facts.figure) for facts in catalogue.TRANSFER_TASKS.values()]
    assert sorted(numbers) == list(zip(range(13, 19), range(6, 12), strict=True))


def test_the_chance_of_the_first_three_places():
    targets = np.eye(5, dtype=bool).repeat(40, 0)
    scores = np.random.default_rng(0).random((200, 5))
    metric = transfer.METRICS["map_at_3"]
    assert metric.of(targets, scores) == pytest.approx(metric.chance(targets), abs=0.1)
