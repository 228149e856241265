"""The counts against Table XII, the stored numbers and PyTorch's own counter."""

import json

import golden_recipe
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from pannslib import complexity, reference
from pannslib.errors import ModelError
from pannslib.models import create_model, list_models
from pannslib.models.registry import skeleton

ONE_OF_EACH = [
    *["Cnn6", "Cnn14_DecisionLevelAtt", "ResNet54", "MobileNetV1", "MobileNetV2", "DaiNet19", "Res1dNet31"],
    *["LeeNet24", "Wavegram_Logmel_Cnn14", "VGGish"],
]
STORED = json.loads((golden_recipe.GOLDEN / "complexity.json").read_text())


@pytest.mark.parametrize("name", STORED)
def test_counts_equal_the_stored_ones(name):
    count = complexity.count(skeleton(name))
    assert count.multi_adds == STORED[name]["multi_adds_paper_convention"]
    assert count.parameters == STORED[name]["parameters"]


def test_counts_equal_table_12():
    names = reference.class_in_repository()
    table = reference.table(12)
    assert len(table) == 15
    for row in table.itertuples():
        count = complexity.count(skeleton(names[row.architecture]))
        assert f"{count.multi_adds / 1e9:.3f}" == f"{row.multi_adds_e9:.3f}", row.architecture
        assert count.parameters == row.parameters, row.architecture


@pytest.mark.parametrize("name", list_models())
def test_layers_add_up(name):
    model = create_model(name, classes=5, width=0.125)
    count = complexity.count(model, seconds=2)
    layers = count.layers
    assert layers["multi_adds"].sum() == count.multi_adds
    assert layers["parameters"].sum() == count.parameters == sum(p.numel() for p in model.parameters())
    assert layers["activation_bytes"].sum() == count.activation_bytes
    front_end = layers["kind"] == "front end"
    assert layers.loc[~front_end, "macs"].sum() == count.macs
    assert (count.front_end_macs > 0) == (count.front_end_fft_flops > 0) == front_end.any()
    unused = layers.loc[layers["output_shape"].isna(), "name"]
    assert all(entry.startswith(model.unused_parameters or ("-",)) for entry in unused)
    assert bool(len(unused)) == bool(model.unused_parameters)


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_macs_equal_pytorchs_counter(name):
    model = create_model(name, classes=5, width=0.125).eval()
    count = complexity.count(model, seconds=2)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, 2 * model.sample_rate))
    # PyTorch's counter sees the product with the mel filters, and no FFT
    mel = count.layers.loc[count.layers["name"] == "mel", "macs"].sum()
    assert counter.get_total_flops() == 2 * (count.macs + mel)


def test_front_end_by_convolution_equals_pytorchs_counter():
    model = create_model("Cnn6", classes=5, width=0.125, method="conv").eval()
    count = complexity.count(model, seconds=2)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, 64_000))
    assert counter.get_total_flops() == 2 * (count.macs + count.front_end_macs)


def test_most_of_mobilenets_published_cost_is_the_stft():
    count = complexity.count(skeleton("MobileNetV1"))
    stft = count.layers.set_index("name").loc["stft", "multi_adds"]
    assert stft == 4 * 1024 * 513 * 1001
    assert stft / count.multi_adds > 0.5
    assert count.front_end_fft_flops < stft / 20


def test_layers_of_cnn14_have_the_sizes_of_table_1():
    layers = complexity.count(skeleton("Cnn14")).layers.set_index("name")
    assert layers.loc["conv_block1.conv2", "output_shape"] == (1, 64, 1001, 64)
    assert layers.loc["conv_block6.conv2", "output_shape"] == (1, 2048, 31, 2)
    assert layers.loc["conv_block1.conv1", "macs"] == 9 * 64 * 1001 * 64
    assert layers.loc["fc_audioset", "multi_adds"] == 2 * 2048 * 527 + 527


def test_memory_is_that_of_the_weights():
    model = create_model("Cnn6", classes=5, width=0.125)
    count = complexity.count(model)
    assert count.weight_bytes == sum(v.numel() * v.element_size() for v in model.state_dict().values())
    # ten convolution blocks' outputs of a clip twice as long take twice as much, but for the ends
    longer = complexity.count(model, seconds=20)
    assert longer.activation_bytes == pytest.approx(2 * count.activation_bytes, rel=0.01)


def test_counting_and_timing_change_nothing():
    torch.manual_seed(0)
    model = create_model("ResNet22", classes=5, width=0.125).train()
    model.conv_block1.eval()
    modes = [module.training for module in model.modules()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    generator = torch.get_rng_state()
    complexity.count(model, seconds=1)
    complexity.latency(model, seconds=0.5, repeats=1)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), generator)
    assert not any(module._forward_hooks for module in model.modules())


def test_latency_is_the_median():
    model = create_model("MobileNetV1", classes=5, width=0.125)
    latency = complexity.latency(model, seconds=1, batch=2, repeats=3)
    assert len(latency.times) == 3
    assert latency.seconds == sorted(latency.times)[1] > 0
    assert latency.clips_per_second == pytest.approx(2 / latency.seconds)
    assert (latency.device, latency.threads) == ("cpu", torch.get_num_threads())


def test_impossible_clips_are_refused():
    model = create_model("Cnn14", classes=5, width=0.125)
    with pytest.raises(ModelError, match=r"0\.31 s at least"):
        complexity.count(model, seconds=0.1)
    with pytest.raises(ModelError, match="1 or more"):
        complexity.latency(model, batch=0)
