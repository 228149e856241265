"""Folds that are made: every class in equal parts, no group divided, the same for the same seed."""

import numpy as np
import pytest

from pannslib.datasets.folds import identical_files, stratified_folds


def test_single_clips_are_dealt_out_evenly():
    label = np.repeat(np.arange(4), 30)
    folds = stratified_folds(label[:, None] == np.arange(4), [f"clip {k}" for k in range(120)], 10, seed=3)
    counts = np.array([np.bincount(folds[label == k], minlength=11)[1:] for k in range(4)])
    assert (counts == 3).all()


@pytest.mark.parametrize("several", [False, True])
def test_groups_stay_whole_and_classes_even(several):
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 40, 600)
    targets = rng.random((600, 6)) < (0.3 if several else 0)
    targets[np.arange(600), rng.integers(0, 6, 600)] = True
    folds = stratified_folds(targets, groups.astype(str), 5, seed=1)
    assert sorted(set(folds)) == [1, 2, 3, 4, 5]
    assert all(len(set(folds[groups == group])) == 1 for group in set(groups))
    share = np.array([targets[folds == fold].sum(0) for fold in range(1, 6)]) / targets.sum(0)
    assert share.min() > 0.12
    assert share.max() < 0.28


def test_the_seed_and_the_names_decide_and_the_order_does_not():
    targets = np.arange(60)[:, None] % 3 == np.arange(3)
    names = np.array([f"recording {k}" for k in range(60)])
    first, order = stratified_folds(targets, names, 5, seed=0), np.random.default_rng(0).permutation(60)
    np.testing.assert_array_equal(stratified_folds(targets[order], names[order], 5, seed=0), first[order])
    assert (stratified_folds(targets, names, 5, seed=1) != first).any()


def test_there_are_no_more_folds_than_groups():
    assert set(stratified_folds(np.ones((9, 1)), list("aabbccccc"), 10)) == {1, 2, 3}
    with pytest.raises(ValueError, match="folds is 0"):
        stratified_folds(np.ones((2, 1)), ["a", "b"], 0)


def test_files_that_differ_at_their_end_only_are_not_the_same(tmp_path):
    start = bytes(100_000)
    for name, content in {"a": start + b"1", "b": start + b"2", "c": start + b"1", "d": b"1", "e": start}.items():
        (tmp_path / name).write_bytes(content)
    assert identical_files({name: tmp_path / name for name in "dcbae"}) == [["a", "c"]]
