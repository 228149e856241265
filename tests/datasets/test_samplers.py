"""Samplers: what they draw, and that they go on where they were."""

import json

import h5py
import numpy as np
import pytest
import scipy.sparse

from pannslib.datasets.samplers import (
    KINDS,
    AlternatingSampler,
    BalancedSampler,
    ShuffledSampler,
    allowed,
    make_sampler,
    members,
)
from pannslib.errors import DataError

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


# --- streams: restored in the middle, shared, the same again ----------------------------------------------------------

LONG_TAIL = np.random.default_rng(4).random((700, 9)) < np.geomspace(0.6, 0.004, 9)
LONG_TAIL[0, :] = True


def make(kind, seed=3, **options):
    return make_sampler(kind, LONG_TAIL, np.arange(20, 700), seed, **options)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("drawn", [0, 1, 17, 1500])
def test_every_kind_goes_on_exactly_and_its_state_stays_small(kind, drawn):
    whole, halved, restored = make(kind), make(kind), make(kind)
    for _ in range(drawn):
        halved.draw(7)
        whole.draw(7)
    state = halved.state()
    assert len(state) < 500
    assert isinstance(json.loads(state), dict)
    restored.restore(state)
    for _ in range(5):
        np.testing.assert_array_equal(restored.draw(11), whole.draw(11))
    assert restored.state() == whole.state()


@pytest.mark.parametrize("kind", KINDS)
def test_the_seed_decides_the_stream(kind):
    first, same, other = make(kind).draw(400), make(kind).draw(400), make(kind, seed=4).draw(400)
    np.testing.assert_array_equal(first, same)
    assert (first != other).any()


@pytest.mark.parametrize("kind", ["uniform", "balanced"])
def test_the_size_of_the_batches_does_not_change_the_stream(kind):
    whole, parts = make(kind), make(kind)
    np.testing.assert_array_equal(np.concatenate([parts.draw(n) for n in (1, 300, 2, 5000)]), whole.draw(5303))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("world", [2, 3])
def test_processes_divide_the_stream_of_one(kind, world):
    alone = make(kind)
    ranks = [make(kind, rank=rank, world=world) for rank in range(world)]
    for _ in range(9):
        shared = np.stack([sampler.draw(100) for sampler in ranks], axis=1).ravel()
        np.testing.assert_array_equal(shared, alone.draw(100 * world))
    assert {sampler.state() for sampler in ranks} == {alone.state()}


@pytest.mark.parametrize("world", [2, 3, 7])
def test_processes_see_no_clip_twice_in_an_epoch(world):
    indices = np.arange(10, 10 + 21 * world)
    ranks = [ShuffledSampler(indices, 1, rank, world) for rank in range(world)]
    for _ in range(3):
        shares = [sampler.draw(21) for sampler in ranks]
        assert sorted(np.concatenate(shares)) == indices.tolist()
    with pytest.raises(ValueError, match="process 2 of 2"):
        ShuffledSampler(indices, 1, 2, 2)


def test_a_state_of_another_stream_is_refused():
    state = ShuffledSampler(np.arange(10), 1).state()
    with pytest.raises(DataError, match="its clips is 10, not 11"):
        ShuffledSampler(np.arange(11), 1).restore(state)
    with pytest.raises(DataError, match="its seed is 1, not 2"):
        ShuffledSampler(np.arange(10), 2).restore(state)
    with pytest.raises(DataError, match="its kind is ShuffledSampler"):
        BalancedSampler(TARGETS, np.arange(20), 1).restore(state)


def test_a_state_over_other_clips_of_the_same_number_is_refused():
    with pytest.raises(DataError, match="its checksum of the clips is"):
        ShuffledSampler(np.arange(1, 11), 1).restore(ShuffledSampler(np.arange(10), 1).state())
    state = BalancedSampler(TARGETS, np.arange(20), 1).state()
    with pytest.raises(DataError, match="its checksum of the clips is"):
        BalancedSampler(TARGETS[::-1], np.arange(20), 1).restore(state)


def test_a_class_gives_all_its_clips_before_any_comes_again():
    drawn = BalancedSampler(TARGETS, np.arange(20), seed=5).draw(3 * 160)
    rounds = drawn.reshape(160, 3)
    of_first = drawn[TARGETS[drawn, 0]]
    assert (np.sort(of_first.reshape(10, 16), axis=1) == np.arange(16)).all()
    assert len({tuple(TARGETS[row].argmax(1)) for row in rounds}) > 1  # the order of the classes changes


def test_alternating_batches():
    sampler = AlternatingSampler(TARGETS, np.arange(20), seed=1)
    batches = [sampler.draw(20) for _ in range(6)]
    balanced, uniform = np.concatenate(batches[::2]), np.concatenate(batches[1::2])
    assert TARGETS[balanced].sum(0).tolist() == [20, 20, 20]
    assert np.bincount(uniform).tolist() == [3] * 20


def test_an_unknown_kind_is_told_the_right_ones():
    with pytest.raises(DataError, match="'fair'; there are uniform, balanced, alternating"):
        make("fair")


# --- what is drawn from -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_clips_on_the_black_list_are_never_drawn(kind):
    names = [f"Y{'Y' if number == 22 else ''}id{number}.wav" for number in range(700)]
    barred = {21, 22, 23, 24, 699}
    black_list = [21, "Yid22", "id23", "Yid24.wav", np.int64(699), "no such clip"]
    drawn = make(kind, black_list=black_list, names=names).draw(3000)
    assert not barred & set(drawn.tolist())
    assert allowed(np.arange(30, 32), black_list, names).tolist() == [30, 31]
    with pytest.raises(DataError, match="names of all clips are needed"):
        make(kind, black_list=["id23"])


def test_targets_may_come_in_many_forms(tmp_path):
    indices = np.arange(50, 650)
    expected = [indices[LONG_TAIL[indices, column]] for column in range(9)]
    path = tmp_path / "packed.h5"
    with h5py.File(path, "w") as store:
        store["audio_name"] = np.array([f"{number}.wav".encode() for number in range(700)])
        store["target"] = LONG_TAIL
        store["waveform"] = np.zeros((700, 1), np.int16)
    forms = [
        LONG_TAIL,
        LONG_TAIL.astype(np.float32),
        scipy.sparse.csr_matrix(LONG_TAIL),
        [tuple(np.flatnonzero(row)) for row in LONG_TAIL],
        path,
    ]
    for form in forms:
        for found, wanted in zip(members(form, indices), expected, strict=True):
            np.testing.assert_array_equal(found, wanted)
    with pytest.raises(ValueError, match="clip 700 is to be drawn from"):
        members(LONG_TAIL, np.arange(701))
