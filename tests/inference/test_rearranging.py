"""Convolutions that are computed in another way give the same."""

import numpy as np
import pytest
import torch
from test_engines import small
from torch import nn

from pannslib.inference import rearranging, speed
from pannslib.inference.folding import fold
from pannslib.inference.rearranging import Turned, TwoBands, Winograd


def count(model: nn.Module, kind: type) -> int:
    return sum(isinstance(module, kind) for module in model.modules())


def same(model, folded):
    for seconds in (0.4, 1.01, 3.0):
        waveform = torch.from_numpy(speed.noise(2, seconds, model.sample_rate))
        with torch.inference_mode():
            given, expected = folded(waveform), model(waveform)
        for one, other in zip(given, expected, strict=True):
            assert one is other is None or torch.allclose(one, other, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["Cnn14", "Cnn14_DecisionLevelMax", "ResNet22", "Wavegram_Cnn14"])
def test_two_bands_are_convolved_along_time(name):
    """Of 64 mel bins five poolings leave two; whatever stands there gives the same with fewer multiplications."""
    model = small(name)
    folded = fold(model, ("two_bands",))
    assert count(folded, TwoBands) == 1
    same(model, folded)


def test_blocks_on_other_numbers_of_bands_stay():
    assert not count(fold(small("Cnn14_mel128"), ("two_bands",)), TwoBands)


@pytest.mark.parametrize("name", ["Cnn14", "ResNet54", "Wavegram_Logmel_Cnn14", "MobileNetV2", "LeeNet11"])
def test_narrow_convolutions_are_turned(name):
    model = small(name)
    folded = fold(model, ("two_bands", "turned"))
    assert bool(count(folded, Turned)) == (name not in ("MobileNetV2", "LeeNet11"))
    same(model, folded)


@pytest.mark.parametrize(("name", "convolutions"), [("Cnn6", 3), ("Cnn14", 11), ("ResNet22", 19), ("LeeNet11", 0)])
def test_winograds_method_gives_the_same(name, convolutions, monkeypatch):
    monkeypatch.setattr(rearranging, "LEAST_INPUTS", {3: 2, 5: 2})
    model = small(name)
    folded = fold(model, ("winograd",))
    assert count(folded, Winograd) == convolutions
    same(model, folded)


def test_winograds_method_is_for_many_channels_and_not_too_many_weights():
    model = nn.Sequential(nn.Conv2d(1, 4, 5, padding=2), nn.Conv2d(128, 8, 3, padding=1))
    model.append(nn.Conv2d(128, 8, 3, stride=2, padding=1)).append(nn.Conv2d(128, 8, 3, padding=1, groups=2))
    model.append(nn.Conv2d(1024, 1024, 3, padding=1))
    with torch.no_grad():
        rearranging.WAYS["winograd"](model)
    assert [type(module) for module in model] == [nn.Conv2d, Winograd, nn.Conv2d, nn.Conv2d, nn.Conv2d]


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (4, 8), (7, 5), (50, 16)])
def test_winograds_tiles_cover_what_there_is(kernel, height, width):
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 4, kernel, padding=kernel // 2)
    x = torch.randn(2, 3, height, width)
    with torch.no_grad():
        torch.testing.assert_close(Winograd(conv)(x), conv(x), atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("kernel", [3, 5])
def test_winograds_matrices_are_exact(kernel):
    kernels, inputs, outputs = rearranging.winograd_matrices(kernel)
    rng = np.random.default_rng(0)
    weights, samples = rng.standard_normal(kernel), rng.standard_normal(len(inputs))
    given = outputs @ ((kernels @ weights) * (inputs @ samples))
    np.testing.assert_allclose(given, np.correlate(samples, weights, "valid"), atol=1e-12)
