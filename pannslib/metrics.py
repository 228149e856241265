"""The paper's metrics, class by class first and then their means.

Arrays: ``targets`` bool or 0/1 (clips, classes), ``scores`` (clips, classes), any real numbers of which the
higher means the more likely. All but the d-prime are scikit-learn's.

- average precision (AP): sum over distinct thresholds of precision times the gain in recall, in [0, 1]. mAP is
  its mean over the classes (section VI-A, Table IV).
- AUC: area under the ROC curve, in [0, 1], ties count one half; mAUC is its mean.
- d-prime: sqrt(2) times the normal quantile of an AUC. The paper's is that of the *mean* AUC, not the mean of the
  classes' d-primes.

A class without a positive clip has neither an AP nor an AUC: it is nan here, and left out of the means.
"""

import numpy as np
import numpy.typing as npt

from pannslib.errors import PannsError


class MetricError(PannsError, ValueError):
    """Targets and scores that no metric can be computed from."""


def validate(targets: npt.ArrayLike, scores: npt.ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Check targets (clips, classes) in {0, 1} and scores of the same shape; return them as bool and float64.

    Raises:
        MetricError: other shapes, no clip, targets that are neither 0 nor 1, scores that are not finite.
    """
    targets, scores = np.asarray(targets), np.asarray(scores, dtype=np.float64)
    if targets.ndim != 2 or targets.shape != scores.shape:
        raise MetricError(
            f"targets are {targets.shape} and scores {scores.shape}; both must be (clips, classes), of equal size."
        )
    if not targets.shape[0]:
        raise MetricError("there is no clip: a metric needs at least one.")
    if not np.isin(targets, (0, 1)).all():
        raise MetricError("targets hold values other than 0 and 1; give one bool a clip and class.")
    if not np.isfinite(scores).all():
        clip, column = np.argwhere(~np.isfinite(scores))[0]
        raise MetricError(f"the score of clip {clip}, class {column} is {scores[clip, column]}; all must be finite.")
    return targets.astype(bool), scores


def average_precision(targets: npt.ArrayLike, scores: npt.ArrayLike) -> np.ndarray:
    """Average precision of each class, float64 (classes,); nan where a class has no positive clip."""
    from sklearn.metrics import average_precision_score

    targets, scores = validate(targets, scores)
    positives = targets.any(0)
    values = np.full(targets.shape[1], np.nan)
    for column in np.flatnonzero(positives):
        values[column] = average_precision_score(targets[:, column], scores[:, column])
    return values


def roc_auc(targets: npt.ArrayLike, scores: npt.ArrayLike) -> np.ndarray:
    """Area under the ROC curve of each class, float64 (classes,); nan where all clips have it or none has."""
    from sklearn.metrics import roc_auc_score

    targets, scores = validate(targets, scores)
    both = targets.any(0) & ~targets.all(0)
    values = np.full(targets.shape[1], np.nan)
    for column in np.flatnonzero(both):
        values[column] = roc_auc_score(targets[:, column], scores[:, column])
    return values


def d_prime(auc: npt.ArrayLike) -> np.ndarray | float:
    """sqrt(2) times the normal quantile of ``auc`` (any shape, in [0, 1]); infinite at 0 and 1, nan stays nan."""
    from scipy.stats import norm

    value = np.sqrt(2.0) * norm.ppf(np.asarray(auc, dtype=np.float64))
    return float(value) if np.ndim(value) == 0 else value


def evaluate(targets: npt.ArrayLike, scores: npt.ArrayLike) -> dict:
    """All metrics of AudioSet tagging.

    Returns:
        ap, auc: (classes,), nan where undefined; map, mauc: means over the classes that have them; d_prime: of
        the mean AUC; classes: how many classes the mAP is over.
    """
    ap, auc = average_precision(targets, scores), roc_auc(targets, scores)
    mean_ap, mean_auc = (float(np.nanmean(v)) if np.isfinite(v).any() else float("nan") for v in (ap, auc))
    return {
        "ap": ap,
        "auc": auc,
        "map": mean_ap,
        "mauc": mean_auc,
        "d_prime": d_prime(mean_auc),
        "classes": int(np.isfinite(ap).sum()),
    }


def accuracy(labels: npt.ArrayLike, predicted: npt.ArrayLike) -> float:
    """Share of clips (clips,) whose predicted class is right, in [0, 1]; `MetricError` if there is none."""
    labels, predicted = np.asarray(labels), np.asarray(predicted)
    if labels.shape != predicted.shape or labels.ndim != 1 or not labels.size:
        raise MetricError(f"labels {labels.shape} and predictions {predicted.shape} must be (clips,), at least one.")
    return float((labels == predicted).mean())


def confusion(labels: npt.ArrayLike, predicted: npt.ArrayLike, classes: int) -> np.ndarray:
    """Clips of each class (rows) by predicted class (columns), int64 (classes, classes)."""
    from sklearn.metrics import confusion_matrix

    return confusion_matrix(labels, predicted, labels=np.arange(classes))


def mean_interval(
    values: npt.ArrayLike, level: float = 0.95, draws: int = 10_000, seed: int = 0
) -> tuple[float, float, float]:
    """Mean of samples (n,) such as folds, and the limits of its bootstrap interval.

    The samples are drawn with replacement ``draws`` times; the limits are the quantiles of the means. With one
    sample there is no interval: both limits are nan.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or not values.size:
        raise MetricError(f"the mean of {values.shape} samples is not defined; give (n,) with n of 1 or more.")
    if values.size == 1:
        return float(values[0]), float("nan"), float("nan")
    means = np.random.default_rng(seed).choice(values, (draws, values.size)).mean(1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(values.mean()), float(low), float(high)
