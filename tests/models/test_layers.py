"""One axis in the memory layout of two: the same numbers, gradients and running statistics."""

import pytest
import torch
from torch import nn

from pannslib.models import layers


@pytest.mark.parametrize(
    "options",
    [{"padding": 1}, {"padding": 2, "dilation": 2}, {"stride": 5, "padding": 1}, {"groups": 2, "bias": False}],
)
def test_a_convolution_along_samples_trains_as_torchs_does(options):
    torch.manual_seed(0)
    ours, theirs = layers.Conv1d(4, 6, 3, **options), nn.Conv1d(4, 6, 3, **options)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 4, 31)
    outputs = []
    for conv in (ours, theirs):
        given = x.clone().requires_grad_()
        output = conv(given)
        (output**2).sum().backward()
        outputs.append((output, given.grad, conv.weight.grad))
    for one, other in zip(*outputs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))


def test_a_batch_norm_along_samples_gathers_the_same_statistics():
    torch.manual_seed(0)
    ours, theirs = layers.BatchNorm1d(5), nn.BatchNorm1d(5)
    for _ in range(3):
        x = torch.randn(4, 5, 17) * 3 + 1
        torch.testing.assert_close(ours(x), theirs(x), atol=1e-5, rtol=1e-4)
    assert ours.num_batches_tracked == 3
    for key, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[key], value)
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))
    with pytest.raises(ValueError, match="expected 2D or 3D"):
        ours.eval()(x[None, :, :, None, :])
