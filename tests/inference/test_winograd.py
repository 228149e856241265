"""3 x 3 convolutions in machine code give what PyTorch's give, at the edges too."""

from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from test_engines import small
from torch import nn

from pannslib import models
from pannslib.inference import engines, speed, winograd, winograd_code
from pannslib.inference.winograd import Along, Code, Convolution, First, Maxima

pytestmark = pytest.mark.skipif(not engines.can_run("winograd"), reason="the processor has no AVX-512")
needs_bf16 = pytest.mark.skipif(not engines.can_run("winograd", "bf16"), reason="the processor has no AVX512-BF16")

SIZES = [(2, 3), (7, 2), (8, 8), (9, 5), (50, 16), (301, 4)]


@pytest.fixture(scope="module")
def code(tmp_path_factory):
    return Code(tmp_path_factory.mktemp("code"))


def random(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def convolution(inputs: int, outputs: int, kernel=(3, 3)) -> nn.Conv2d:
    torch.manual_seed(inputs + outputs)
    return nn.Conv2d(inputs, outputs, kernel, padding=tuple(size // 2 for size in kernel)).requires_grad_(False)


def compiled(kind: type, conv: nn.Conv2d, code: Code, **options):
    layer = kind(conv, **options)
    layer.code = code
    return layer


def distance(given: torch.Tensor, expected: torch.Tensor) -> float:
    """As a share of what is expected."""
    return float((given - expected).norm() / expected.norm())


def rounding(conv: nn.Conv2d, x: torch.Tensor) -> float:
    """What it changes in a convolution that weights and pixels are rounded to bf16."""
    rounded = F.conv2d(x.bfloat16().float(), conv.weight.bfloat16().float(), conv.bias, padding=conv.padding)
    return distance(rounded, conv(x))


@pytest.mark.parametrize("by_four", [True, False])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize(
    ("size", "pooling"),
    [*product([(1, 1), (1, 9), *SIZES], [1]), *product(SIZES, [2])],
)
def test_a_convolution_of_any_size(size, pooling, shared, by_four, code, monkeypatch):
    monkeypatch.setattr(winograd, "SHARED", 0 if shared else 2**40)
    monkeypatch.setattr(winograd, "MOST_BY_FOUR", 2**40 if by_four else 0)
    conv, x = convolution(48, 96), random(2, 48, *size)
    layer = compiled(Convolution, conv, code)
    assert layer.places == ((4, 4) if by_four else (2, 2))
    expected = F.relu(conv(x))
    for _ in range(2):  # what is left of the first time changes nothing
        torch.testing.assert_close(layer(x, (pooling, pooling)), F.avg_pool2d(expected, pooling), atol=1e-4, rtol=1e-4)


def test_a_residual_is_added_before_the_relu(code):
    conv, x, residual = convolution(32, 32), random(3, 32, 13, 6), random(32, 3, 13, 6).transpose(0, 1)
    given = compiled(Convolution, conv, code)(x, residual=residual)
    torch.testing.assert_close(given, F.relu(conv(x) + residual), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (130, 64)])
def test_a_convolution_of_one_channel(size, code):
    conv, x = convolution(1, 32), random(2, 1, *size)
    torch.testing.assert_close(compiled(First, conv, code)(x), F.relu(conv(x)), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("height", [1, 2, 31, 100])
def test_a_convolution_along_time(height, code):
    conv, x = convolution(64, 96, (3, 1)), random(2, 64, height, 1)
    torch.testing.assert_close(compiled(Along, conv, code)(x), conv(x), atol=1e-5, rtol=1e-5)


def test_averages_along_time_alone(code):
    conv, x = convolution(32, 64), random(2, 32, 21, 6)
    given = compiled(Convolution, conv, code)(x, (2, 1))
    torch.testing.assert_close(given, F.avg_pool2d(F.relu(conv(x)), (2, 1)), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("inputs", [1, 4, 17])
def test_channels_that_fill_no_block(inputs, code):
    conv, x = convolution(inputs, 32), random(2, inputs, 9, 6)
    torch.testing.assert_close(compiled(Convolution, conv, code)(x), F.relu(conv(x)), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("size", [(1, 1), (7, 3), (130, 4)])
def test_a_convolution_of_1_x_1(size, residual, code):
    conv, x = convolution(48, 64, (1, 1)), random(2, 48, *size)
    more = random(2, 64, *size) if residual else torch.zeros(2, 64, *size)
    given = compiled(Convolution, conv, code)(x, residual=more if residual else None)
    torch.testing.assert_close(given, F.relu(conv(x) + more), atol=1e-5, rtol=1e-5)
    if not residual:
        torch.testing.assert_close(compiled(Convolution, conv, code, linear=True)(x), conv(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dilation", [1, 2, 5])
@pytest.mark.parametrize("samples", [1, 2, 7, 64, 997])
def test_a_convolution_of_samples(samples, dilation, code):
    torch.manual_seed(samples)
    conv = nn.Conv1d(32, 64, 3, padding=dilation, dilation=dilation).requires_grad_(False)
    x = random(2, 32, samples)
    given = compiled(Convolution, conv, code)(x[..., None])
    torch.testing.assert_close(given[..., 0], F.relu(conv(x)), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("samples", [1, 5, 6, 10_243])
def test_the_first_convolution_of_samples(samples, code):
    torch.manual_seed(samples)
    conv = nn.Conv1d(1, 32, 11, stride=5, padding=5).requires_grad_(False)
    x = random(2, 1, samples)
    torch.testing.assert_close(compiled(First, conv, code)(x)[..., 0], F.relu(conv(x)), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("samples", [4, 7, 9_001])
def test_maxima(samples, code):
    x = random(2, 32, samples)
    x[1, 3, 2] = torch.nan
    layer = Maxima()
    layer.code = code
    torch.testing.assert_close(layer(x[..., None])[..., 0], F.max_pool1d(x, 4), equal_nan=True)


@needs_bf16
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("size", SIZES)
def test_bf16_rounds_little_more_than_the_convolution_itself(size, shared, code, monkeypatch):
    monkeypatch.setattr(winograd, "SHARED", 0 if shared else 2**40)
    monkeypatch.setattr(winograd, "MOST_BY_FOUR", 0)
    conv, x = convolution(128, 64), random(2, 128, *size)
    layer = compiled(Convolution, conv, code, bf16=True)
    assert layer.weight.dtype == torch.bfloat16
    assert 0 < distance(layer(x), F.relu(conv(x))) < 2 * rounding(conv, x)


@needs_bf16
@pytest.mark.parametrize("height", [1, 31, 100])
def test_bf16_along_time_rounds_as_the_convolution_itself(height, code):
    conv, x = convolution(64, 96, (3, 1)), random(2, 64, height, 1)
    layer = compiled(Along, conv, code, bf16=True)
    assert layer.weight.dtype == torch.bfloat16
    assert distance(layer(x), conv(x)) == pytest.approx(rounding(conv, x), rel=1e-3)


@needs_bf16
def test_bf16_is_for_many_weights_and_channels_by_32(code):
    """Tiles of four places would round ten times as much; and what a line of words can't hold stays in float32."""
    for conv in (convolution(64, 64), convolution(48, 8192)):
        assert compiled(Convolution, conv, code, bf16=True).weight.dtype == torch.float32
    assert compiled(Along, convolution(48, 64, (3, 1)), code, bf16=True).weight.dtype == torch.float32


@pytest.mark.parametrize("processor", ["skylake-avx512", "cascadelake", "sapphirerapids", "znver4", "znver5"])
def test_the_sums_of_a_product_stay_in_registers(processor):
    """LLVM loads as early as it thinks best for each processor, until sums have to wait in memory: half the speed."""
    winograd_code.binding.initialize_native_target()
    winograd_code.binding.initialize_native_asmprinter()
    features = "" if processor in ("skylake-avx512", "cascadelake") else "+avx512bf16"
    machine, module = winograd_code.optimise(processor, features)
    functions, lines = {}, []
    for line in machine.emit_assembly(module).splitlines():
        if line.endswith(":") and not line.startswith((".", "\t")):
            lines = functions.setdefault(line[:-1], [])
        lines.append(line)
    for name in ("products", *(["products_bf16"] if features else [])):
        assert sum("zmm" in line for line in functions[name]) > 2 * winograd_code.TILES
        assert not [line for line in functions[name] if "zmm" in line and "(%rsp)" in line]


def test_what_is_no_number_stays_so(code):
    """A fault in the weights or in the sound isn't hidden by the ReLU."""
    x = random(1, 32, 40, 8)
    x[0, 3, 0, 0] = torch.nan
    given = compiled(Convolution, convolution(32, 32), code)(x)
    assert given[..., :2, :2].isnan().all()
    assert given[..., 20:, :].isfinite().all()


@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("Cnn10", 8),
        ("Cnn14_DecisionLevelAtt", 16),
        ("ResNet22", 27),
        ("ResNet54", 60),
        ("Wavegram_Cnn14", 26),
        ("Wavegram_Logmel_Cnn14", 28),
    ],
)
def test_a_network_gives_the_same_at_other_batches_and_lengths(name, layers, tmp_path):
    """Blocks on two bands have three convolutions along time for each of theirs; a Wavegram takes twelve layers.

    Stages of a ResNet begin with a convolution of 1 x 1 on the shortcut.
    """
    torch.manual_seed(0)
    model = models.create_model(name, classes=5, width=0.5).eval()
    graph = winograd.graph_of(model)
    assert sum(isinstance(module, winograd.Compiled) for module in graph.modules()) == layers
    engine = engines.create(lambda: model, model, "x", engine="winograd", folder=tmp_path)
    assert engine.name == "winograd"
    for batch, seconds in ((1, 2.0), (3, 1.2345), (2, 2.0)):
        waveform = speed.noise(batch, seconds, model.sample_rate)
        with torch.inference_mode():
            expected = model(torch.from_numpy(waveform))
        given = engine(waveform)
        np.testing.assert_allclose(given.clipwise_output, expected.clipwise_output, atol=1e-5)
        np.testing.assert_allclose(given.embedding, expected.embedding, rtol=1e-3, atol=1e-4)
        if model.classifies_frames:
            np.testing.assert_allclose(given.framewise_output, expected.framewise_output, atol=1e-5)


@needs_bf16
def test_a_network_in_bf16(tmp_path):
    model = speed.random_model("Cnn14")
    made = {
        precision: engines.create(lambda: model, model, "x", precision=precision, engine="winograd", folder=tmp_path)
        for precision in ("fp32", "bf16")
    }
    assert [engine.name for engine in made.values()] == ["winograd"] * 2
    waveform = speed.noise(2, 1.5, model.sample_rate)
    embeddings = {precision: torch.from_numpy(engine(waveform).embedding) for precision, engine in made.items()}
    assert 1e-4 < distance(embeddings["bf16"], embeddings["fp32"]) < 0.01


def test_the_machine_code_is_kept(tmp_path):
    winograd_code.load.cache_clear()
    (tmp_path / "winograd-of-an-older-version.o").write_bytes(b"")
    Code(tmp_path)
    (kept,) = tmp_path.glob("*.o")
    written = kept.stat().st_mtime_ns
    winograd_code.load.cache_clear()
    Code(tmp_path)
    assert kept.stat().st_mtime_ns == written


@pytest.mark.parametrize("damage", [lambda code: b"", lambda code: code[:-4096], lambda code: bytes(len(code))])
def test_damaged_machine_code_is_made_anew(damage, tmp_path):
    """It would crash the process."""
    winograd_code.load.cache_clear()
    Code(tmp_path)
    (kept,) = tmp_path.glob("*.o")
    whole = kept.read_bytes()
    kept.write_bytes(damage(whole))
    winograd_code.load.cache_clear()
    conv, x = convolution(32, 32), random(1, 32, 9, 6)
    torch.testing.assert_close(compiled(Convolution, conv, Code(tmp_path))(x), F.relu(conv(x)), atol=1e-4, rtol=1e-4)
    assert kept.read_bytes() == whole


def test_weights_of_another_version_are_not_used(monkeypatch, tmp_path, capfd):
    """Machine code doesn't see that they lie in another order."""
    model = small("Cnn10")
    assert engines.create(lambda: model, model, "x", engine="winograd", folder=tmp_path).name == "winograd"
    monkeypatch.setattr(winograd, "VERSION", "another")
    assert engines.create(lambda: model, model, "x", engine="winograd", folder=tmp_path).name == "folded"
    assert "another version" in capfd.readouterr().err
    assert engines.create(lambda: model, model, "x", engine="winograd", folder=tmp_path).name == "winograd"


def test_a_network_with_nothing_for_it_is_left_to_pytorch(tmp_path, capfd):
    """Which has all threads then."""
    model = small("MobileNetV1")
    assert engines.create(lambda: model, model, "x", engine="winograd", folder=tmp_path).name == "folded"
    assert "no convolution" in capfd.readouterr().err


def test_it_is_chosen_for_channels_and_mel_bins_that_suit(monkeypatch):
    monkeypatch.setattr(engines, "installed", lambda package: True)
    chosen = {
        (name, width): engines.choose(models.registry.skeleton(name, width=width), "cpu", "fp32")
        for name in ("Cnn10", "Cnn14", "Cnn14_mel128", "Cnn14_mel32", "ResNet38")
        for width in (1.0, 0.5, 0.25)
    }
    assert engines.choose(models.registry.skeleton("Cnn14", width=0.495), "cpu", "fp32") == "ncnn"  # 32, 63, 127
    suited = {(name, width) for name in ("Cnn10", "Cnn14", "ResNet38") for width in (1.0, 0.5)}
    assert {key for key, engine in chosen.items() if engine == "winograd"} == suited
    assert set(chosen.values()) == {"winograd", "ncnn"}


def test_bf16_is_left_to_a_matrix_unit_where_there_is_one(monkeypatch):
    monkeypatch.setattr(engines, "installed", lambda package: True)
    flags = {"avx512f", "avx512_bf16"}
    for more, expected in ((set(), "winograd"), ({"amx_bf16"}, "openvino")):
        monkeypatch.setattr(engines, "processor_flags", lambda more=more: flags | more)
        assert engines.choose(models.registry.skeleton("Cnn14"), "cpu", "bf16") == expected
    monkeypatch.setattr(engines, "processor_flags", lambda: {"avx512f"})
    assert engines.choose(models.registry.skeleton("Cnn14"), "cpu", "bf16") == "openvino"


def test_a_processor_without_avx512_gets_another_engine(monkeypatch, tmp_path, capfd):
    monkeypatch.setattr(engines, "processor_flags", set)
    assert engines.fastest("cpu", "fp32", "Cnn14")[0] == "ncnn"
    assert not engines.available("winograd")
    model = small("Cnn10")
    assert engines.create(lambda: model, model, "x", engine="winograd", folder=tmp_path).name == "folded"
    assert "winograd needs a processor with avx512f" in capfd.readouterr().err
