"""Every architecture against the stored vectors, its manifest, and what they all promise."""

import golden_recipe
import numpy as np
import pytest
import torch

from pannslib.errors import ModelError
from pannslib.features import SpecAugment
from pannslib.models import create_model, list_models, load_checkpoint
from pannslib.models.registry import skeleton

STORED = [
    *[
        "Cnn6",
        "Cnn10",
        "Cnn14",
        "Cnn14_emb128",
        "Cnn14_mel128",
        "Cnn14_16k",
        "Cnn14_DecisionLevelMax",
        "ResNet22",
    ],
    *["MobileNetV1", "MobileNetV2", "LeeNet11", "DaiNet19", "Res1dNet31", "Wavegram_Logmel_Cnn14"],
]
FAMILIES = [
    *[
        "Cnn6",
        "Cnn14",
        "Cnn14_mixup_time_domain",
        "Cnn14_DecisionLevelMax",
        "Cnn14_DecisionLevelAtt",
        "ResNet22",
    ],
    *["ResNet54", "MobileNetV1", "MobileNetV2", "LeeNet11", "DaiNet19", "Res1dNet31", "Wavegram_Cnn14"],
    *["Wavegram_Logmel_Cnn14", "VGGish"],
]
WIDTH = 0.125


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """These networks are so small that threads cost more than they bring."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def golden():
    return np.load(golden_recipe.GOLDEN / "panns_parity.npz")


def small(name: str, classes: int = 6, **options) -> torch.nn.Module:
    """A narrow model whose activations are neither 0 nor huge: its batch norms have seen a batch."""
    torch.manual_seed(0)
    model = create_model(name, classes=classes, width=WIDTH, **options)
    norms = [module for module in model.modules() if isinstance(module, torch.nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        torch.nn.init.ones_(norm.weight)
        norm.momentum = 1.0
    with torch.no_grad():
        model(clips(model, 4, model.least_samples + 6_400))
    return model.eval()


def clips(model, batch: int, samples: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(samples)
    return 0.1 * torch.randn(batch, samples, generator=generator)


@pytest.mark.parametrize("name", STORED)
def test_outputs_equal_the_stored_ones(golden, name):
    model = load_checkpoint(create_model(name), {"model": golden_recipe.state_dict(name)}).eval()
    with torch.inference_mode():
        output = model(golden_recipe.input_a(model.sample_rate))
    computed = {"clipwise_output": output.clipwise_output, "embedding": output.embedding}
    if output.framewise_output is not None:
        frames = output.framewise_output
        assert tuple(frames.shape) == tuple(golden[f"{name}/framewise_output.shape"])
        computed["framewise_output"] = frames[:, ::50, ::27]
        computed["framewise_output.all_frames"] = frames[:, :, [0, 137, 526]]
        computed["framewise_output.last_frame"] = frames[:, -1]
    stored = [key.removeprefix(f"{name}/") for key in golden if key.startswith(f"{name}/")]
    compared = [key for key in stored if not key.endswith(".shape")]
    assert len(compared) >= 2
    for key in compared:
        difference = np.abs(computed[key].numpy() - golden[f"{name}/{key}"]).max()
        assert difference < 1e-4, f"{key} differs by {difference:.1e}"


@pytest.mark.parametrize("name", golden_recipe.manifest())
def test_state_dict_is_the_manifests(name):
    state = skeleton(name).state_dict()
    expected = [
        (entry, shape)
        for entry, shape in golden_recipe.entries(name)
        if not entry.startswith(golden_recipe.FRONT_END_PREFIXES)
    ]
    assert [(entry, tuple(value.shape)) for entry, value in state.items()] == expected
    settings, front_end = golden_recipe.manifest()[name]["config"], create_model(name, width=WIDTH).front_end
    assert settings == {
        "sample_rate": front_end.sample_rate,
        "window_size": front_end.window,
        "hop_size": front_end.hop,
        "mel_bins": front_end.mel_bins,
        "fmin": front_end.fmin,
        "fmax": front_end.fmax,
        "classes_num": 527,
    }


def test_list_models_names_all_of_them():
    names = list_models()
    assert {name for name in names if name.family != "ImageNet"} == {*golden_recipe.manifest(), "VGGish"}
    assert "Cnn14" in names
    cnn14 = names[names.index("Cnn14_16k")]
    assert (cnn14.family, cnn14.sample_rate, cnn14.paper_table) == ("CNN", 16_000, "IX")
    assert cnn14.parameters == 80_753_615
    assert create_model(names[0], width=WIDTH).name == "Cnn6"


@pytest.mark.parametrize("name", list_models())
def test_every_model_keeps_the_contract(name):
    model = small(name)
    least = model.least_samples
    for batch, samples in ((1, least), (3, least + 6_543)):
        waveform = clips(model, batch, samples)
        with torch.inference_mode():
            output = model(waveform)
        assert output.clipwise_output.shape == output.logits.shape == (batch, 6)
        assert torch.equal(output.clipwise_output, output.logits.sigmoid())
        assert output.embedding.shape == (batch, model.embedding_size)
        assert output.embedding.min() >= 0
        assert all(part.dtype == torch.float32 for part in output if part is not None)
        if "DecisionLevel" in name:
            assert output.framewise_output.shape == (batch, model.front_end.frames(samples), 6)
        else:
            assert output.framewise_output is None
    # clips of a batch don't see each other
    with torch.inference_mode():
        assert torch.allclose(model(waveform[1:2]).logits, output.logits[1:2], rtol=1e-4, atol=1e-4)
        assert output.logits.std(dim=0).max() > 1e-4, "the model tells clips apart"
        if model.takes_log_mel:
            assert torch.equal(model(log_mel=model.log_mel(waveform)).logits, output.logits)
        else:
            with pytest.raises(ModelError, match="give it the waveform"):
                model(log_mel=torch.zeros(1, 1, 100, 64))
    assert (model.name, model.classes, model.width) == (name, 6, WIDTH)
    assert model.head_names
    assert all(model.state_dict()[entry].shape[0] == 6 for entry in model.head_names if "tracked" not in entry)


@pytest.mark.parametrize("name", list_models())
def test_the_least_length_is_the_least(name):
    model = small(name)
    least = model.least_samples
    if least > 1:
        with pytest.raises(ModelError, match=f"at least {least}"):
            model(clips(model, 1, least - 1))
        with pytest.raises((RuntimeError, IndexError, ModelError)):
            model.from_waveform(clips(model, 1, least - 1), None)


@pytest.mark.parametrize("name", ["Wavegram_Logmel_Cnn14", "Wavegram_Logmel128_Cnn14"])
def test_wavegram_logmel_takes_lengths_where_the_published_network_fails(name):
    model = small(name)
    even = 640 * 20
    with torch.inference_mode():
        outputs = {samples: model(clips(model, 1, samples)) for samples in (even + 320, even + 500, even + 635)}
        assert all(torch.isfinite(output.logits).all() for output in outputs.values())
        learned = model.wavegram(clips(model, 1, even + 500))
        log_mel = model.log_mel(clips(model, 1, even + 500))
    assert (learned.shape[2], log_mel.shape[2] // 2) == (20, 21)


def test_widths_and_front_ends_can_be_chosen():
    model = create_model("Cnn14", classes=3, width=0.25, hop=500, mel_bins=80)
    assert model.bn0.num_features == 80
    assert model.log_mel(torch.zeros(1, 16_000)).shape == (1, 1, 33, 80)
    assert model.conv_block1.conv1.out_channels == 16
    at_16k = create_model("Cnn10", width=WIDTH, sample_rate=16_000)
    assert (at_16k.front_end.window, at_16k.front_end.hop, at_16k.front_end.fmax) == (512, 160, 8_000)


def test_convolution_front_end_gives_the_same_output():
    by_fft, by_convolution = (
        create_model("Cnn6", width=WIDTH),
        create_model("Cnn6", width=WIDTH, method="conv"),
    )
    by_convolution.load_state_dict(by_fft.state_dict())
    waveform = clips(by_fft, 2, 9_000)
    with torch.inference_mode():
        difference = by_fft.eval()(waveform).logits - by_convolution.eval()(waveform).logits
    assert difference.abs().max() < 1e-4


@pytest.mark.parametrize("name", ["Cnn14", "Cnn14_no_specaug", "Cnn14_no_dropout", "MobileNetV2", "LeeNet11"])
def test_augmentation_and_dropout_are_as_published(name):
    torch.manual_seed(0)
    model = create_model(name, classes=4, width=WIDTH).train()
    seen = []
    model.dropout = lambda x, rate: (seen.append(rate), x)[1]
    model(clips(model, 2, 20_000))
    expected = {"Cnn14": [0.2] * 6, "Cnn14_no_specaug": [0.2] * 6, "Cnn14_no_dropout": [0.0] * 6}
    blocks = expected.get(name, [0.0] * 8 if name == "LeeNet11" else [])
    assert seen == [*blocks, 0.0 if name == "MobileNetV2" else 0.5, 0.5]
    if name != "LeeNet11":
        augments = "SpecAugment" in type(model.spec_augment).__name__
        assert augments == (name != "Cnn14_no_specaug")


@pytest.mark.parametrize("name", FAMILIES)
def test_mixup_halves_the_batch_and_with_shares_of_1_changes_nothing(name):
    model = small(name)
    waveform = clips(model, 4, model.least_samples + 3_000)
    shares = torch.tensor([1.0, 0.0, 0.0, 1.0])
    with torch.inference_mode():
        plain = model(waveform).logits
        assert torch.equal(model(waveform, shares).logits, plain), "no mixup in evaluation"
        model.training = True  # only the model's own switch: its layers stay in evaluation
        model.dropout = lambda x, rate: x
        mixed = model(waveform, shares).logits
        even = model(waveform, torch.full((4,), 0.5)).logits
    assert torch.allclose(mixed, plain[[0, 3]], atol=1e-5)
    assert not torch.allclose(even, plain[[0, 3]], atol=1e-5)


def train(model, steps: int, rate: float) -> tuple[list[float], dict[str, float]]:
    """Losses of some steps on one batch, and the largest gradient that each parameter has had."""
    # at least three segments: of two, the decision-level models see the same, and attention learns nothing
    waveform = clips(model, 4, 3 * model.least_samples + 640)
    targets = torch.eye(model.classes)[[0, 1, 2, 0]]
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    losses, largest = [], {}
    for _ in range(steps):
        optimizer.zero_grad()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(model(waveform).logits, targets)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        for name, parameter in model.named_parameters():
            size = 0.0 if parameter.grad is None else parameter.grad.abs().max().item()
            largest[name] = max(size, largest.get(name, 0.0))
    return losses, largest


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_trains(name):
    torch.manual_seed(0)
    model = create_model(name, classes=3, width=WIDTH).train()
    # what is random would hide the fall in so few steps
    model.dropout = lambda x, rate: x
    for module in model.modules():
        module.training = not isinstance(module, SpecAugment)
    losses, gradients = train(model, steps=20, rate=1e-3)
    assert losses[-1] < 0.9 * losses[0], losses
    without = {parameter for parameter, size in gradients.items() if size == 0}
    unused = {parameter for parameter in gradients if parameter.startswith(model.unused_parameters or ("-",))}
    assert without == unused


@pytest.mark.parametrize("name", FAMILIES)
def test_compiled_and_exported_models_give_the_same(name):
    model = small(name)
    waveform = clips(model, 2, max(model.least_samples, 15_500))
    torch._dynamo.reset()
    with torch.no_grad():
        expected = model(waveform)
        compiled = torch.compile(model, backend="aot_eager", fullgraph=True)(waveform)
        exported = torch.export.export(model, (waveform,)).module()(waveform)
    for other in (compiled, exported):
        for one, two in zip(expected, other, strict=True):
            assert (one is None and two is None) or torch.allclose(one, two, atol=1e-5)


@pytest.mark.parametrize("name", ["Cnn14_DecisionLevelMax", "Cnn14_DecisionLevelAvg", "Cnn14_DecisionLevelAtt"])
def test_decision_level_pools_its_segments(name):
    model = small(name)
    with torch.inference_mode():
        output = model(clips(model, 2, 40_000))
    segments = output.framewise_output[:, ::32][:, :3]  # 126 frames: three whole segments, the rest repeats
    assert torch.equal(output.framewise_output[:, 96:], segments[:, 2:].expand(-1, 30, -1))
    low, high = segments.min(dim=1).values, segments.max(dim=1).values
    pooled = {"Max": high, "Avg": segments.mean(dim=1)}.get(name[-3:])
    if pooled is None:
        assert (output.clipwise_output >= low - 1e-6).all()
        assert (output.clipwise_output <= high + 1e-6).all()
    else:
        assert torch.allclose(output.clipwise_output, pooled, atol=1e-6)


def test_bfloat16_gives_float32_outputs_near_the_full_precision():
    model = small("Cnn14")
    waveform = clips(model, 2, 32_000)
    with torch.inference_mode():
        exact = model(waveform)
        with torch.autocast("cpu", torch.bfloat16):
            rough = model(waveform)
    assert rough.clipwise_output.dtype == torch.float32
    assert (rough.clipwise_output - exact.clipwise_output).abs().max() < 0.05


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "Cnn41"}, "Did you mean 'Cnn14'"),
        ({"name": "wavegram-logmel-cnn14"}, "Did you mean 'Wavegram_Logmel_Cnn14'"),
        ({"name": "AST"}, "There are Cnn6, Cnn10"),
        ({"name": "Cnn14", "classes": 0}, "classes is 0"),
        ({"name": "Cnn14", "classes": 2.0}, "classes is 2.0"),
        ({"name": "Cnn14", "width": 0}, "width is 0"),
        ({"name": "Cnn14", "width": 0.001}, "leaves none of 64 channels"),
        ({"name": "Cnn14", "mel_bins": 31}, "needs 32"),
        ({"name": "Cnn6", "mel_bins": 15}, "needs 16"),
        ({"name": "Wavegram_Cnn14", "mel_bins": 16}, "needs 32"),
        ({"name": "Wavegram_Logmel_Cnn14", "hop": 500}, "must be 320"),
        ({"name": "Cnn14", "hop_size": 320}, "no setting 'hop_size'"),
        ({"name": "Cnn14", "sample_rate": 22_050}, "11025 Hz"),
    ],
)
def test_bad_settings_are_refused(arguments, message):
    with pytest.raises(ModelError) as error:
        create_model(**arguments)
    assert message in str(error.value)


def test_bad_inputs_are_refused():
    model = create_model("Cnn6", width=WIDTH)
    broken = torch.zeros(3, 32_000)
    broken[1, 7] = float("nan")
    for arguments, message in [
        ({"waveform": broken}, "Clip 1 of the batch holds NaN"),
        ({"waveform": torch.zeros(2, 4_799)}, "at least 4800 (0.15 s)"),
        ({"waveform": torch.zeros(2, 32_000, dtype=torch.int16)}, "float32"),
        ({"waveform": torch.zeros(32_000)}, "(batch, samples)"),
        ({"waveform": torch.zeros(0, 32_000)}, "no clip"),
        ({}, "one of the two"),
        ({"log_mel": torch.zeros(2, 1, 100, 32)}, "(batch, 1, frames, 64)"),
        ({"log_mel": torch.zeros(2, 1, 15, 64)}, "16 frames at least"),
        ({"log_mel": torch.full((2, 1, 16, 64), float("inf"))}, "NaN or infinity"),
    ]:
        with pytest.raises(ModelError) as error:
            model(**arguments)
        assert message in str(error.value)
