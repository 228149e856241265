"""The second paper: its analyses against what must hold for them, and its experiments end to end at the least size."""

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from pannslib import catalogue, imagenet_files, models, profiles, rethinking
from pannslib.errors import AudioError, ModelError
from pannslib.models import imagenet
from pannslib.report import rethinking as pages
from pannslib.rethinking.augmentation import Images
from pannslib.rethinking.study import TASKS, Variant

pytestmark = pytest.mark.skipif(not imagenet_files.installed(), reason="the extra imagenet isn't installed")
RATE = 32_000


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def no_cache(tmp_path, monkeypatch):
    """No ImageNet weights that someone has on this machine."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv("PANNS_CACHE", raising=False)


def network(name: str = "ResNet50", seed: int = 0, **options) -> torch.nn.Module:
    """A narrow network whose batch norms have seen a batch."""
    torch.manual_seed(seed)
    model = models.create_model(name, classes=4, width=0.125, **({"mel_bins": 32, "hop": 640} | options))
    with torch.no_grad():
        for _ in range(15):
            model(0.1 * torch.randn(4, RATE))
    return model.eval()


# --- SVCCA -----------------------------------------------------------------------------------------------------


def test_svcca_of_a_layer_with_itself_is_1_however_it_is_turned():
    generator = np.random.default_rng(0)
    layer = generator.normal(size=(500, 12)) * np.linspace(1, 5, 12)
    turn = np.linalg.qr(generator.normal(size=(12, 12)))[0]
    assert rethinking.svcca(layer, layer) == pytest.approx(1, abs=1e-9)
    assert rethinking.svcca(layer, 3 * layer @ turn - 7, variance=1) == pytest.approx(1, abs=1e-9)
    # what is shared in part is between the two
    half = np.hstack([layer[:, :6], generator.normal(size=(500, 6))])
    assert 0.4 < rethinking.svcca(layer, half, variance=1) < 0.75


@pytest.mark.parametrize("channels", [8, 300])
def test_svcca_of_independent_layers_is_low(channels):
    generator = np.random.default_rng(1)
    first, second = generator.normal(size=(2, 2000, channels))
    assert rethinking.svcca(first, second) < 0.35
    assert rethinking.svcca(first, first) == pytest.approx(1, abs=1e-9)


def test_svcca_ignores_directions_that_hold_next_to_nothing():
    generator = np.random.default_rng(2)
    strong, weak, other = (generator.normal(size=(400, 3)) for _ in range(3))
    first, second = (np.hstack([strong, 1e-3 * part]) for part in (weak, other))
    assert rethinking.svcca(first, second) == pytest.approx(1, abs=1e-3)
    assert rethinking.svcca(first, second, variance=1) < 0.8


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        (np.zeros((50, 3)), np.zeros((40, 3)), "the same points"),
        (np.eye(10), np.eye(10), "10 points; it needs 20"),
        (np.zeros((50, 3)), np.zeros((50, 3)), "the same for all points"),
        (np.full((50, 3), np.nan), np.zeros((50, 3)), "NaN"),
    ],
)
def test_layers_that_can_not_be_compared_are_refused(first, second, words):
    with pytest.raises(ModelError, match=words):
        rethinking.svcca(first, second)


def test_change_of_a_networks_layers():
    before, other = network(seed=0), network(seed=1)
    log_mels = before.log_mel(0.1 * torch.randn(40, RATE, generator=torch.Generator().manual_seed(0)))

    def batch(indices):
        return {"log_mel": log_mels[torch.from_numpy(indices)]}

    clips = np.arange(40)
    same = rethinking.change_of_layers(before, before, batch, clips, points=400).dropna()
    assert len(same) >= 40
    assert (same["svcca"] > 1 - 1e-6).all()
    unlike = rethinking.change_of_layers(before, other, batch, clips, points=400).dropna()
    inside = unlike["layer"].str.contains("layer[234]")
    assert unlike.loc[inside, "svcca"].mean() < 0.75
    assert same["chance"].mean() < 0.45
    # one changed layer shows itself and what follows, not what lies before
    changed = network(seed=0)
    torch.nn.init.normal_(changed.network.layer3[0].conv1.weight)
    change = rethinking.change_of_layers(before, changed, batch, clips, points=400).set_index("layer")["svcca"]
    assert change["network.layer2.3.conv3"] > 1 - 1e-6
    assert change["network.layer3.0.conv1"] < 0.9


# --- Integrated Gradients --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ResNet50", "DenseNet201_repeated"])
def test_attributions_add_up_to_the_change_of_the_output(name):
    model = network(name)
    log_mel = model.log_mel(0.1 * torch.randn(1, RATE, generator=torch.Generator().manual_seed(3)))
    found = rethinking.integrated_gradients(model, log_mel, target=2)
    with torch.no_grad():
        change = model(log_mel=log_mel).logits[0, 2] - model(log_mel=torch.full_like(log_mel, -100.0)).logits[0, 2]
    assert found.values.shape == tuple(log_mel.shape[1:])
    assert found.image.shape == tuple(log_mel.shape[2:])
    assert found.change == pytest.approx(float(change), rel=1e-4)
    assert abs(found.values.sum() - float(change)) <= 0.02 * abs(float(change))
    assert found.error <= 0.02


def test_attributions_of_a_linear_network_are_exact_and_where_they_belong():
    class Linear(torch.nn.Module):
        name, classes = "Linear", 1

        def forward(self, log_mel):
            return type("Output", (), {"logits": log_mel[:, 0, 3:5, 2].sum(1, keepdim=True)})

    log_mel = torch.full((1, 1, 8, 4), -40.0)
    found = rethinking.integrated_gradients(Linear(), log_mel, target=0)
    expected = np.zeros((8, 4))
    expected[3:5, 2] = 60  # dB above silence
    assert np.allclose(found.image, expected, atol=1e-3)


def test_attributions_refuse_what_is_not_there():
    model = network()
    log_mel = model.log_mel(0.1 * torch.randn(2, RATE))
    with pytest.raises(ModelError, match=r"\(1, spectrograms, frames, mel_bins\)"):
        rethinking.integrated_gradients(model, log_mel, 0)
    with pytest.raises(ModelError, match="target is 4"):
        rethinking.integrated_gradients(model, log_mel[:1], 4)


# --- augmentation ----------------------------------------------------------------------------------------------


def pitch(waveform: np.ndarray) -> float:
    return float(np.abs(np.fft.rfft(waveform * np.hanning(len(waveform)))).argmax() * RATE / len(waveform))


def test_augmentation_shifts_pitch_and_time_within_its_limits():
    time = np.arange(2 * RATE) / RATE
    tone = (0.5 * np.sin(2 * np.pi * 1000 * time)).astype(np.float32)
    click = np.zeros(2 * RATE, np.float32)
    click[RATE : RATE + 400] = 0.9
    altered = [rethinking.augment(tone, RATE, seed) for seed in range(6)]
    pitches = np.array([pitch(clip[8000:40_000]) for clip in altered])
    assert all(len(clip) == len(tone) and clip.dtype == np.float32 and np.abs(clip).max() <= 1 for clip in altered)
    assert (np.abs(12 * np.log2(pitches / 1000)) < 2.1).all()
    assert pitches.std() > 10
    places = np.array([np.abs(rethinking.augment(click, RATE, seed)).argmax() / RATE for seed in range(6)])
    assert (places > 0.78).all()
    assert (places < 1.28).all()
    assert places.std() > 0.03
    assert np.array_equal(rethinking.augment(tone, RATE, 3), altered[3])
    with pytest.raises(AudioError, match="finite"):
        rethinking.augment(np.full(100, np.nan), RATE, 0)


def test_copies_are_of_the_training_clips_alone_and_keep_their_labels(home):
    packed = catalogue.plan("smoke").packed("esc50")
    model = network()
    images = Images(packed, model, torch.device("cpu"), cache_gib=1, seconds=0.5, copies=2, seed=5)
    rows = np.array([1, 4])
    items = images.of(rows)
    assert sorted(items % len(packed.names)) == [1, 1, 1, 4, 4, 4]
    assert np.array_equal(images.targets()[items], packed.targets[[1, 4, 1, 4, 1, 4]])
    log_mels = images.batch(items)["log_mel"]
    assert log_mels.shape == (6, 3, 26, 32)
    assert torch.equal(log_mels[:1], model.log_mel(torch.from_numpy(packed.read([1])[:, : RATE // 2])))
    assert not torch.allclose(log_mels[0], log_mels[2])
    assert not torch.allclose(log_mels[2], log_mels[4])
    again = Images(packed, model, torch.device("cpu"), cache_gib=0, seconds=0.5, copies=2, seed=5)
    assert torch.allclose(again.batch(items)["log_mel"], log_mels, atol=1e-4)


# --- the study -------------------------------------------------------------------------------------------------


@pytest.fixture
def plan(home, tmp_path):
    """The smoke profile with two runs, and a data root of its own."""
    content = yaml.safe_load((profiles.FOLDER / "smoke.yaml").read_text())
    content["rethinking"] |= {"runs": 2}
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(content))
    (tmp_path / "root" / "imagenet").mkdir(parents=True)
    return catalogue.plan(path, tmp_path / "root")


class NoBar:
    def update(self, *_):
        pass

    def set_postfix(self, **_):
        pass


def test_without_imagenets_weights_the_starts_say_so(plan):
    study = rethinking.Study(plan)
    assert [start.kind for start in study.starts["ResNet50"]] == ["stand_in", "random"]
    assert [start.kind for start in study.starts["DenseNet201"]] == ["random"]
    assert all("ImageNet's weights aren't here" in start.origin or start.kind == "stand_in"
               for starts in study.starts.values() for start in starts)  # fmt: skip
    text = pages.read_starts(study.origins())
    assert "ImageNet's weights are not here" in text
    assert "in place of ImageNet's weights" in text


def test_a_file_in_torchvisions_format_is_what_the_network_starts_from(plan, tmp_path):
    torch.manual_seed(7)
    original = imagenet.import_torchvision().models.resnet50(weights=None)
    before = plan.digest("rethinking")
    torch.save(original.state_dict(), tmp_path / "root" / "imagenet" / "resnet50-mine.pth")
    assert plan.digest("rethinking") != before, "other weights, other results"
    study = rethinking.Study(plan)
    first, chance = study.starts["ResNet50"]
    assert (first.kind, first.width, chance.kind, chance.width) == ("imagenet", 1.0, "random", 1.0)
    assert "resnet50-mine.pth" in first.origin
    assert "not one that torchvision publishes" in first.origin
    whole = study.network(Variant("ResNet50", first), 3)
    assert torch.equal(whole.network.layer4[2].conv3.weight, original.layer4[2].conv3.weight)
    assert whole.weights == first.origin
    # fused: pretrained up to block2, random behind; reset: block2 alone random
    fused = study.network(Variant("ResNet50", first, way="fuse", block="block2"), 3)
    reset = study.network(Variant("ResNet50", first, way="reset", block="block2"), 3)
    for model, kept in ((fused, {"layer1", "layer2"}), (reset, {"layer1", "layer3", "layer4"})):
        for layer in ("layer1", "layer2", "layer3", "layer4"):
            weight = model.network.get_submodule(layer)[0].conv1.weight
            assert torch.equal(weight, original.get_submodule(layer)[0].conv1.weight) == (layer in kept), layer


def test_runs_differ_ensembles_average_and_what_is_finished_is_read(plan):
    study = rethinking.Study(plan)
    chance = study.starts["ResNet50"][-1]
    variant = Variant("ResNet50", chance)
    units = [unit for unit in study.units() if unit.variant == variant and unit.task == "esc50"]
    assert [unit.run for unit in units] == [0, 1]
    for unit in units:
        study._train(unit, NoBar())
    (clips, first), (_, second) = (study._read(unit) for unit in units)
    assert np.allclose(first.sum(1), 1, atol=1e-6)
    assert not np.allclose(first, second)
    values, ensemble = study.of_runs("esc50", variant)
    task = study.task("esc50")
    assert ensemble == task.score(clips, (first + second) / 2)
    assert values.tolist() == [task.score(clips, first), task.score(clips, second)]
    # the same seed, the same training
    path = study._file(units[0])
    path.unlink()
    rethinking.Study(plan)._train(units[0], NoBar())
    assert np.array_equal(study._read(units[0])[1], first)


def test_every_training_is_listed_once(plan):
    units = rethinking.Study(plan).units()
    assert len({unit.key for unit in units}) == len(units)
    assert {unit.task for unit in units} >= {*TASKS, *catalogue.TRANSFER_TASKS}
    assert {unit.variant.way for unit in units} == {"", "freeze", "cut", "fuse", "reset"}
    assert any(unit.variant.augmented for unit in units)
    assert any(unit.variant.architecture.endswith("_repeated") for unit in units)
    for unit in units:
        assert not set(unit.split.training) & set(unit.split.test)


# --- the pages -------------------------------------------------------------------------------------------------


def test_published_and_ours_never_share_a_column():
    paper = pages.scores(None, TASKS)
    assert len(paper) == 9
    dense = paper[(paper["network"] == "DenseNet-201") & (paper["data set"] == "ESC-50")].iloc[0]
    assert "ensemble: stated" in dense["published: basis"]
    assert np.isnan(dense["published: random (%)"]), "the review has no random start on ESC-50"
    rows = [
        {"network": name, "task": task, "start": "random", "weights": "random values", "mean": 0.5, "std": 0.1,
         "ensemble": 0.6, "runs": 2, "folds": 1, "evidence": "miniature"}
        for name in ("DenseNet-201", "ResNet", "Inception")
        for task in TASKS
    ]  # fmt: skip
    table = pages.scores(pd.DataFrame(rows), TASKS)
    assert (table["ours: pretrained (%)"] == "not here").all()
    assert set(table["ours: random (%)"]) == {"50.0 ± 10.0"}
    assert set(table.columns) >= {"weights", "evidence", "published: basis"}
