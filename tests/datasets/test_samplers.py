"""Samplers: what they draw, and that they go on where they were."""

import numpy as np
import pytest

from pannslib.datasets.samplers import BalancedSampler, ShuffledSampler

TARGETS = np.zeros((20, 3), dtype=bool)
TARGETS[:16, 0] = True
TARGETS[16:19, 1] = True
TARGETS[19, 2] = True


def test_shuffled_gives_every_clip_once_an_epoch():
    sampler = ShuffledSampler(np.arange(5, 15), seed=1)
    first, second = sampler.draw(10), sampler.draw(10)
    assert sorted(first) == sorted(second) == list(range(5, 15))
    assert first.tolist() != second.tolist()


def test_balanced_gives_every_class_the_same_number():
    drawn = BalancedSampler(TARGETS, np.arange(20), seed=1).draw(300)
    assert TARGETS[drawn].sum(0).tolist() == [100, 100, 100]


def test_balanced_leaves_out_classes_without_clips_and_clips_not_asked_for():
    drawn = BalancedSampler(TARGETS, np.arange(19), seed=1).draw(100)
    assert 19 not in drawn
    assert TARGETS[drawn].sum(0).tolist() == [50, 50, 0]


@pytest.mark.parametrize("make", [ShuffledSampler, lambda i, seed: BalancedSampler(TARGETS, i, seed)])
def test_a_restored_sampler_goes_on(make):
    whole, halved, restored = (make(np.arange(20), seed=3) for _ in range(3))
    expected = whole.draw(37)
    start = halved.draw(13)
    restored.restore(halved.state())
    assert np.concatenate([start, restored.draw(24)]).tolist() == expected.tolist()


def test_nothing_to_draw_from_is_an_error():
    with pytest.raises(ValueError, match="no clip"):
        ShuffledSampler(np.array([], dtype=int), seed=0)
    with pytest.raises(ValueError, match="no clip has a label"):
        BalancedSampler(np.zeros((3, 2), dtype=bool), np.arange(3), seed=0)
