"""The metrics against scikit-learn's stored values, and at their edges."""

from pathlib import Path

import numpy as np
import pytest

from pannslib import metrics

GOLDEN = Path(__file__).parent / "golden" / "metrics.npz"


@pytest.fixture(scope="module")
def golden():
    return dict(np.load(GOLDEN))


@pytest.fixture(scope="module")
def evaluated(golden):
    return metrics.evaluate(golden["targets"], golden["scores_milli"] / 1000)


def test_classwise_values_equal_the_golden_ones(golden, evaluated):
    # class 526 has no positive: scikit-learn says 0 there, we say nan
    np.testing.assert_allclose(evaluated["ap"][:526], golden["ap"][:526], atol=1e-9, rtol=0)
    np.testing.assert_allclose(evaluated["auc"][:526], golden["auc"][:526], atol=1e-9, rtol=0)
    assert np.isnan(evaluated["ap"][526])
    assert np.isnan(evaluated["auc"][526])
    finite = np.isfinite(golden["dprime"])
    np.testing.assert_allclose(metrics.d_prime(evaluated["auc"])[finite], golden["dprime"][finite], atol=1e-9)


def test_means_leave_the_class_without_positives_out(golden, evaluated):
    assert evaluated["classes"] == 526
    assert evaluated["map"] == pytest.approx(float(golden["map"]), abs=1e-9)
    assert evaluated["mauc"] == pytest.approx(float(golden["mauc"]), abs=1e-9)
    assert evaluated["d_prime"] == pytest.approx(float(golden["dprime_of_mauc"]), abs=1e-9)


def test_perfect_and_reversed_scores():
    targets = np.array([[1], [1], [0], [0]])
    assert metrics.average_precision(targets, targets) == pytest.approx([1.0])
    assert metrics.roc_auc(targets, 1 - targets) == pytest.approx([0.0])
    assert metrics.d_prime(0.5) == pytest.approx(0.0)
    assert metrics.d_prime(1.0) == np.inf


def test_a_class_that_all_clips_have_has_an_ap_but_no_auc():
    targets = np.ones((3, 1))
    scores = np.array([[0.1], [0.2], [0.3]])
    assert metrics.average_precision(targets, scores) == pytest.approx([1.0])
    assert np.isnan(metrics.roc_auc(targets, scores)).all()


@pytest.mark.parametrize(
    ("targets", "scores", "words"),
    [
        (np.zeros((2, 3)), np.zeros((3, 2)), "equal size"),
        (np.zeros((0, 3)), np.zeros((0, 3)), "no clip"),
        (np.full((1, 1), 2), np.zeros((1, 1)), "other than 0 and 1"),
        (np.zeros((2, 2)), np.array([[0, 1], [np.nan, 0]]), "clip 1, class 0"),
    ],
)
def test_bad_input_is_refused(targets, scores, words):
    with pytest.raises(metrics.MetricError, match=words):
        metrics.average_precision(targets, scores)


def test_accuracy_and_confusion():
    assert metrics.accuracy([0, 1, 1, 2], [0, 1, 2, 2]) == 0.75
    expected = [[1, 0, 0], [0, 1, 1], [0, 0, 1]]
    assert metrics.confusion([0, 1, 1, 2], [0, 1, 2, 2], 3).tolist() == expected
    with pytest.raises(metrics.MetricError):
        metrics.accuracy([], [])


def test_interval_holds_the_mean_and_needs_two_samples():
    mean, low, high = metrics.mean_interval([0.5, 0.6, 0.7, 0.8, 0.9])
    assert mean == pytest.approx(0.7)
    assert 0.5 < low < mean < high < 0.9
    assert metrics.mean_interval([0.5, 0.6]) == metrics.mean_interval([0.5, 0.6])
    assert np.isnan(metrics.mean_interval([0.5])[1])
