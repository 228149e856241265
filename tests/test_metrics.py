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


# --- against scikit-learn, with equal scores -----------------------------------------


def graded(seed, clips=300, classes=12):
    """Targets of falling frequency, and scores that know something of them; every third class has many equal ones."""
    generator = np.random.default_rng(seed)
    targets = generator.random((clips, classes)) < np.geomspace(0.6, 0.01, classes)
    targets[0] = True
    scores = generator.normal(size=(clips, classes)) + targets
    scores[:, ::3] = scores[:, ::3].round()
    scores[:, 4] = 0.25
    return targets, scores


def by_scikit_learn(targets, scores):
    from sklearn.metrics import average_precision_score, roc_auc_score

    columns = range(targets.shape[1])
    return tuple(
        np.array([score(targets[:, c], scores[:, c]) for c in columns])
        for score in (average_precision_score, roc_auc_score)
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equal_scores_count_as_in_scikit_learn(dtype):
    targets, scores = graded(1)
    scores = scores.astype(dtype)
    ap, auc = by_scikit_learn(targets, scores)
    np.testing.assert_allclose(metrics.average_precision(targets, scores), ap, atol=1e-9, rtol=0)
    np.testing.assert_allclose(metrics.roc_auc(targets, scores), auc, atol=1e-9, rtol=0)


# --- bootstrap -----------------------------------------


def test_a_draw_is_the_metric_of_the_drawn_clips(monkeypatch):
    targets, scores = graded(2, clips=80, classes=5)
    monkeypatch.setattr(metrics, "DRAWS_AT_ONCE", 3)
    drawn = metrics.bootstrap(targets, scores, draws=7, seed=5)
    generator = np.random.default_rng(5)
    for draw in range(7):
        clips = generator.integers(0, 80, 80)
        expected = metrics.evaluate(targets[clips], scores[clips])
        np.testing.assert_allclose(drawn["ap"][draw], expected["ap"], atol=1e-12)
        for name in ("map", "mauc", "d_prime"):
            assert drawn[name][draw] == pytest.approx(expected[name], abs=1e-12)


def test_two_systems_are_drawn_in_pairs():
    targets, scores = graded(3)
    first, same = (metrics.bootstrap(targets, s, draws=50, seed=1)["map"] for s in (scores, 2 * scores))
    other = metrics.bootstrap(targets, scores, draws=50, seed=2)["map"]
    np.testing.assert_array_equal(first, same)  # a monotone change of the scores changes no rank
    assert (first != other).any()


def test_a_draw_without_a_positive_clip_has_no_ap():
    targets = np.zeros((6, 2), bool)
    targets[0, 0] = targets[:3, 1] = True
    drawn = metrics.bootstrap(targets, np.arange(12.0).reshape(6, 2), draws=40)
    without = np.isnan(drawn["ap"][:, 0])
    assert 0 < without.sum() < 40
    np.testing.assert_array_equal(drawn["map"][without], drawn["ap"][without, 1])


def test_an_interval_holds_its_share():
    values = np.arange(1001) / 1000
    assert metrics.interval(values) == pytest.approx((0.025, 0.975))
    assert metrics.interval(np.append(values, np.nan), level=0.5) == pytest.approx((0.25, 0.75))
    low, high = metrics.interval(np.stack([values, values + 1, np.full(1001, np.nan)], axis=1))
    np.testing.assert_allclose(low, [0.025, 1.025, np.nan])
    np.testing.assert_allclose(high, [0.975, 1.975, np.nan])
    assert metrics.interval([1.0, np.inf, np.inf]) == (1.0, np.inf)
    with pytest.raises(metrics.MetricError):
        metrics.interval([])


# --- mAP@3 -----------------------------------------


def test_map_at_3_counts_first_second_and_third_places():
    scores = np.array([[4, 3, 2, 1]] * 4)
    assert metrics.mean_average_precision_at_3([0, 1, 2, 3], scores) == pytest.approx((1 + 1 / 2 + 1 / 3 + 0) / 4)
    assert metrics.mean_average_precision_at_3([0, 1, 2, 3], np.zeros((4, 4))) == 0
    assert metrics.mean_average_precision_at_3([1], [[1, 0]]) == 0.5


@pytest.mark.parametrize(
    ("labels", "scores"), [([], np.zeros((0, 3))), ([3], [[1, 2, 3]]), ([0.5], [[1, 2]]), ([0], [[np.nan, 1]])]
)
def test_map_at_3_refuses_what_it_cannot_rank(labels, scores):
    with pytest.raises(metrics.MetricError):
        metrics.mean_average_precision_at_3(labels, scores)
