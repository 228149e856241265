"""ImageNet's networks: torchvision's to the last weight, on images that are made of sound."""

import re
import subprocess
import sys

import pytest
import torch

from pannslib import complexity, imagenet_files
from pannslib.errors import CheckpointError, ModelError
from pannslib.models import create_model, imagenet, list_models, load_checkpoint, read_metadata, save_checkpoint
from pannslib.models.registry import skeleton
from pannslib.tagging import AudioTagger

pytestmark = pytest.mark.skipif(not imagenet_files.installed(), reason="the extra imagenet isn't installed")

PUBLISHED = {"DenseNet201": 20_013_928, "ResNet50": 25_557_032, "InceptionV3": 27_161_264}
NAMES = list(PUBLISHED)


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def no_cache(tmp_path, monkeypatch):
    """No weights that someone has on this machine."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv("PANNS_CACHE", raising=False)


def torchvisions(name: str) -> torch.nn.Module:
    facts = imagenet.NETWORKS[name]
    options = {"init_weights": False} if facts.unused else {}
    return imagenet.import_torchvision().models.get_model(facts.builder, weights=None, **options)


def python(code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


# --- torchvision -----------------------------------------------------------------------------------------------


def test_torchvision_is_imported_whatever_its_build_and_as_often_as_one_likes():
    run = python(
        "try:\n    import torchvision\nexcept RuntimeError as fault:\n    assert 'nms' in str(fault)\n"
        "import torch\n"
        "other = torch.library.Library('torchvision', 'DEF')\n"  # as another library may mend it, in part
        "hasattr(torch.ops.torchvision, 'nms') or other.define("
        "'nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')\n"
        "from pannslib.models import imagenet\n"
        "first = imagenet.import_torchvision()\n"
        "assert imagenet.import_torchvision() is first\n"
        "import torchvision\nassert torchvision is first\n"
        "assert torchvision.models.resnet50(weights=None).fc.out_features == 1000\n"
    )
    assert run.returncode == 0, run.stderr


def test_without_the_extra_everything_else_works():
    run = python(
        "import importlib.util, sys\n"
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *a: None if name in ('torchvision', 'captum') else find(name, *a)\n"
        "from pannslib import catalogue, models, rethinking\n"
        "names = models.list_models()\n"
        "assert 'Cnn14' in names and 'ResNet50' not in names\n"
        "models.create_model('Cnn6', width=0.125)\n"
        "assert catalogue.JOBS['rethinking'].makes == ('rethinking_scores',)\n"
        "print(rethinking.missing())\n"
        "models.create_model('ResNet50')\n"
    )
    assert "torchvision and captum are not installed: pip install 'pannslib[imagenet]'" in run.stdout
    assert "ModelError: The ImageNet networks need torchvision, which isn't installed: pip install" in run.stderr


# --- the networks ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_parameters_are_torchvisions_published_counts(name):
    model = skeleton(name, classes=1000)
    assert sum(parameter.numel() for parameter in model.parameters()) == PUBLISHED[name]
    assert name in list_models()
    assert f"{name}_repeated" in list_models()


@pytest.mark.parametrize("name", NAMES)
def test_torchvisions_weights_give_torchvisions_output(name, tmp_path):
    torch.manual_seed(1)
    original = torchvisions(name).eval()
    path = tmp_path / f"{imagenet.NETWORKS[name].builder}-mine.pth"
    torch.save(original.state_dict(), path)
    model = imagenet.load_weights(create_model(name, classes=1000), path).eval()
    images = torch.randn(2, 3, 96, 130, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.allclose(model.from_images(images).logits, original(images), rtol=1e-5, atol=1e-5)
    assert "a file" in model.weights
    assert path.name in model.weights


def test_a_new_classifier_keeps_the_rest_and_older_names_are_known(tmp_path):
    torch.manual_seed(1)
    # the published DenseNet files have a dot that the code lost, and no counts of batches
    dotted = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))([12]\.)")
    state = torchvisions("DenseNet201").state_dict()
    old = {dotted.sub(r"\1.\2", key): value for key, value in state.items() if "num_batches" not in key}
    assert set(old) - set(state)
    model = create_model("DenseNet201", classes=5)
    head = model.head.weight.clone()
    load_checkpoint(model, old, head=False)
    assert torch.equal(model.head.weight, head)
    assert torch.equal(model.network.features.conv0.weight, state["features.conv0.weight"])
    name = "features.denseblock4.denselayer7.conv2.weight"
    assert torch.equal(model.network.get_parameter(name), state[name])


@pytest.mark.parametrize("name", NAMES)
def test_random_weights_are_spread_as_torchvisions(name):
    torch.manual_seed(0)
    ours = create_model(name, classes=1000).network
    facts = imagenet.NETWORKS[name]
    options = {"init_weights": True} if facts.unused else {}
    theirs = imagenet.import_torchvision().models.get_model(facts.builder, weights=None, **options)
    for (layer, one), two in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
        if one.ndim > 1 and one.numel() > 20_000:
            assert one.std() / two.std() == pytest.approx(1, abs=0.05), layer
        elif "norm" in layer or "bn" in layer:
            assert torch.equal(one, two), layer


@pytest.mark.parametrize("name", NAMES)
def test_narrower_networks_join_up_whatever_the_rounding(name):
    width = 0.3
    model = create_model(name, classes=4, width=width)
    stem = next(module for module in model.modules() if isinstance(module, torch.nn.Conv2d))
    published = 32 if name == "InceptionV3" else 64
    assert stem.out_channels == round(published * width)
    assert model(0.1 * torch.randn(2, 16_000)).logits.shape == (2, 4)


def test_the_cost_of_three_spectrograms_is_counted():
    one, three = (complexity.count(skeleton(name, classes=3), 2) for name in ("ResNet50_repeated", "ResNet50"))
    assert one.macs == three.macs
    layers = three.layers.set_index("name")["output_shape"]
    assert [layers[name][2] for name in ("stft", "stft_2", "stft_3")] == [201, 81, 41]
    # twice and four times the window at 0.4 and 0.2 of the frames
    assert 2.4 < three.front_end_fft_flops / one.front_end_fft_flops < 3


def test_the_three_channels():
    three, one = (create_model(name, classes=3, width=0.125) for name in ("ResNet50", "ResNet50_repeated"))
    milliseconds = [(1000 * f.window / f.sample_rate, 1000 * f.hop / f.sample_rate) for f in three.front_ends]
    assert milliseconds == [(25, 10), (50, 25), (100, 50)]
    time = torch.arange(64_000) / 32_000
    tone = 0.5 * torch.sin(2 * torch.pi * 1000 * time) * (time > 1)
    log_mels = three.log_mel(tone[None])
    assert log_mels.shape == (1, 3, 201, 128)
    assert torch.equal(log_mels[:, :1], one.log_mel(tone[None]))
    images = three.images(log_mels)
    assert images.shape == one.images(log_mels[:, :1]).shape == (1, 3, 128, 81)
    # the three see the same sound at the same time and pitch, each with another window
    onset = (images[0].amax(1) > images[0].amax((1, 2))[:, None] - 0.5).int().argmax(1)
    assert ((onset - 40).abs() <= 3).all(), onset
    assert len({int(bin) for bin in images[0, :, :, 60].argmax(1)}) <= 2
    assert not torch.equal(images[0, 0], images[0, 1])
    repeated = one.images(log_mels[:, :1])
    assert torch.equal(repeated[0, 0], repeated[0, 2])


def test_short_clips_become_images_that_the_network_can_take():
    model = create_model("InceptionV3", classes=3, width=0.125).eval()
    waveform = 0.1 * torch.randn(1, model.least_samples)
    assert model.images(model.log_mel(waveform)).shape == (1, 3, 128, 75)
    with torch.inference_mode():
        assert torch.isfinite(model(waveform).logits).all()


def test_frozen_blocks_stay_and_the_others_learn():
    torch.manual_seed(0)
    model = create_model("ResNet50", classes=3, width=0.125)
    model.freeze("block2")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.01)
    model.train()
    model(0.1 * torch.randn(2, 16_000)).logits.square().mean().backward()
    optimizer.step()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert {model.block_of(name.rpartition(".")[0]) for name in changed} == {"block3", "block4", ""}
    with pytest.raises(ModelError, match="no block 'block9'; its blocks are stem, block1"):
        model.freeze("block9")


@pytest.mark.parametrize("name", NAMES)
def test_a_network_is_cut_off_behind_a_block(name):
    model = create_model(name, classes=3, width=0.125).eval()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    waveform = 0.1 * torch.randn(2, 32_000)
    with torch.no_grad():
        whole = model.features(model.images(model.log_mel(waveform)))
        model.cut("block2")
        output = model(waveform)
    assert torch.allclose(output.embedding, whole[2].mean((2, 3)))
    assert output.logits.shape == (2, 3)
    assert sum(parameter.numel() for parameter in model.parameters()) < parameters
    assert model.block_names == ("stem", "block1", "block2")


# --- weights ---------------------------------------------------------------------------------------------------


def test_where_the_weights_come_from_stays_with_them(tmp_path):
    model = create_model("ResNet50", classes=3, width=0.125)
    assert model.weights == "random"
    model.weights = "ImageNet, somewhere"
    path = save_checkpoint(model, tmp_path / "mine.safetensors", labels=["a", "b", "c"])
    assert read_metadata(path)["weights"] == "ImageNet, somewhere"
    assert load_checkpoint(create_model("ResNet50", classes=3, width=0.125), path).weights == "ImageNet, somewhere"
    tagger = AudioTagger(checkpoint=path, device="cpu")
    tags = tagger.tag(torch.zeros(32_000).numpy(), top=3)
    assert set(tags["label"]) == {"a", "b", "c"}
    assert tagger.embed(torch.zeros(32_000).numpy()).shape == (model.embedding_size,)


def test_files_are_found_by_torchvisions_names(tmp_path):
    assert imagenet.find_weights("ResNet50", [tmp_path]) is None
    (tmp_path / "resnet50-0123.pth").write_bytes(b"")
    (tmp_path / "resnet50.txt").write_bytes(b"")
    assert imagenet.find_weights("ResNet50_repeated", [tmp_path]).name == "resnet50-0123.pth"
    assert imagenet.find_weights("InceptionV3", [tmp_path]) is None
    imagenet_files.hub_folder().mkdir(parents=True)
    (imagenet_files.hub_folder() / "inception_v3_google-1.pth").write_bytes(b"")
    assert imagenet.find_weights("InceptionV3", [tmp_path]).parent == imagenet_files.hub_folder()


def test_weights_that_do_not_fit_are_refused(tmp_path):
    path = tmp_path / "resnet50-mine.pth"
    torch.save(
        {key: value for key, value in torchvisions("ResNet50").state_dict().items() if key != "bn1.weight"}, path
    )
    with pytest.raises(CheckpointError, match=r"network\.bn1\.weight is missing"):
        imagenet.load_weights(create_model("ResNet50", classes=3), path)
    with pytest.raises(ModelError, match="need the published network"):
        imagenet.load_weights(create_model("ResNet50", classes=3, width=0.5), path)
    with pytest.raises(ModelError, match="no ImageNet network"):
        imagenet.network_of("Cnn14")


def test_no_network_is_told_with_what_to_do(monkeypatch):
    torchvision = imagenet.import_torchvision()
    closed = "http://127.0.0.1:9/resnet50-0676ba61.pth"  # nothing listens there
    weights = torchvision.models.ResNet50_Weights.IMAGENET1K_V1
    monkeypatch.setattr(weights, "_value_", weights.value.__class__(closed, weights.transforms, weights.meta))
    with pytest.raises(CheckpointError, match="Download it by other means and put it into"):
        imagenet.load_weights(create_model("ResNet50", classes=3), "torchvision")
