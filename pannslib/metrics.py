"""The paper's metrics, class by class first and then their means.

Arrays: ``targets`` bool or 0/1 (clips, classes), ``scores`` (clips, classes), any real numbers of which the
higher means the more likely. All values agree with scikit-learn's within 1e-9, ties included.

- average precision (AP): sum over distinct thresholds of precision times the gain in recall, in [0, 1]. mAP is
  its mean over the classes (section VI-A, Table IV).
- AUC: area under the ROC curve, in [0, 1], ties count one half; mAUC is its mean.
- d-prime: sqrt(2) times the normal quantile of an AUC. The paper's is that of the *mean* AUC, not the mean of the
  classes' d-primes.

A class without a positive clip has neither an AP nor an AUC: it is nan here, and left out of the means.

Both depend on the scores' order alone. So every class is sorted once, and a bootstrap draw of the clips is no more
than other weights along that order.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from pannslib.errors import PannsError


class MetricError(PannsError, ValueError):
    """Targets and scores that no metric can be computed from."""


DRAWS_AT_ONCE = 200  # bootstrap draws that are weighed together: limits memory at AudioSet's size


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
    if targets.dtype != bool and not ((targets == 0) | (targets == 1)).all():
        raise MetricError("targets hold values other than 0 and 1; give one bool a clip and class.")
    if not np.isfinite(scores).all():
        clip, column = np.argwhere(~np.isfinite(scores))[0]
        raise MetricError(f"the score of clip {clip}, class {column} is {scores[clip, column]}; all must be finite.")
    return targets.astype(bool), scores


@dataclass(frozen=True, eq=False)
class _Ranking:
    """The clips of one class from the highest score down, cut where a step of its curves begins or ends.

    Only equal scores that a positive clip has make a step; all clips between two steps are negative, and count only
    by how many they are. The pieces are so alternately between steps and a step.

    Attributes:
        clips: of all scores, from the highest down, int (clips,).
        edges: of the pieces, int (2 * steps + 2,): piece k is clips[edges[k]:edges[k + 1]].
        positive: bool (clips,), in the order of `clips`.
    """

    clips: np.ndarray
    edges: np.ndarray
    positive: np.ndarray

    @classmethod
    def of(cls, target: np.ndarray, score: np.ndarray) -> _Ranking:
        """The ranking by ``score`` (clips,) of clips of which ``target`` (clips,) are positive."""
        clips = np.argsort(-score)
        positive, ordered = target[clips], score[clips]
        # of each group of equal scores: its first clip, and the one after its last
        bounds = np.concatenate([[0], np.flatnonzero(np.diff(ordered)) + 1, [len(clips)]])
        with_positive = np.add.reduceat(positive, bounds[:-1], dtype=np.int64) > 0
        steps = np.stack([bounds[:-1][with_positive], bounds[1:][with_positive]], axis=1)
        return cls(clips, np.concatenate([[0], steps.ravel(), [len(clips)]]), positive)

    @cached_property
    def _matrices(self) -> tuple:
        """Sums of weights over pieces: of all clips (pieces, clips), and of the positive ones (steps, clips)."""
        from scipy.sparse import csr_matrix

        every = np.ones(len(self.clips), np.float32)
        shape = (len(self.edges) - 1, len(self.clips))
        pieces = csr_matrix((every, self.clips, self.edges), shape)
        before = np.concatenate([[0], np.cumsum(self.positive)])[self.edges]
        chosen = self.clips[self.positive]
        # between steps nobody is positive
        positives = csr_matrix((every[: len(chosen)], chosen, before[1::2]), (shape[0] // 2, shape[1]))
        return pieces, positives

    def weigh(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """AP and AUC, float64 (draws,) each, where clips count as often as ``weights`` (clips, draws) say.

        nan where a draw holds no positive clip, and the AUC also where it holds no negative one.
        """
        pieces, positives = self._matrices
        gained = (positives @ weights).astype(np.float64)  # (steps, draws)
        sizes = (pieces @ weights).astype(np.float64)  # (2 * steps + 1, draws)
        reached = np.cumsum(sizes, axis=0)
        total, found = reached[-1], gained.sum(0)
        hits = np.cumsum(gained, axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            precision = np.where(gained > 0, hits / reached[1::2], 0)
            ap = (gained * precision).sum(0) / found
            # a positive clip is above each negative one of the steps below, and half above those of its own
            negative = sizes[1::2] - gained
            below = (total - found) - (reached[1::2] - hits)
            auc = (gained * (below + negative / 2)).sum(0) / (found * (total - found))
        return ap, auc


def _weigh_classes(targets: np.ndarray, scores: np.ndarray, weights: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """AP and AUC of each class, float64 (draws, classes) each, for parts (clips, draws) of the weights."""
    draws, classes = sum(part.shape[1] for part in weights), targets.shape[1]
    ap, auc = np.full((2, draws, classes), np.nan)
    for column in np.flatnonzero(targets.any(0)):
        ranking = _Ranking.of(targets[:, column], scores[:, column])
        values = [ranking.weigh(part) for part in weights]
        ap[:, column], auc[:, column] = (np.concatenate(parts) for parts in zip(*values, strict=True))
    return ap, auc


def _class_values(targets: npt.ArrayLike, scores: npt.ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """AP and AUC of each class, float64 (classes,) each."""
    targets, scores = validate(targets, scores)
    ap, auc = _weigh_classes(targets, scores, [np.ones((len(targets), 1), _weight_type(len(targets)))])
    return ap[0], auc[0]


def _weight_type(clips: int) -> type:
    """What counts of up to ``clips`` are exact in; half the memory where that does."""
    return np.float32 if clips <= 2**24 else np.float64


def average_precision(targets: npt.ArrayLike, scores: npt.ArrayLike) -> np.ndarray:
    """Average precision of each class, float64 (classes,); nan where a class has no positive clip."""
    return _class_values(targets, scores)[0]


def roc_auc(targets: npt.ArrayLike, scores: npt.ArrayLike) -> np.ndarray:
    """Area under the ROC curve of each class, float64 (classes,); nan where all clips have it or none has."""
    return _class_values(targets, scores)[1]


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
    ap, auc = _class_values(targets, scores)
    mean_ap, mean_auc = _mean(ap), _mean(auc)
    return {
        "ap": ap,
        "auc": auc,
        "map": float(mean_ap),
        "mauc": float(mean_auc),
        "d_prime": d_prime(mean_auc),
        "classes": int(np.isfinite(ap).sum()),
    }


def bootstrap(targets: npt.ArrayLike, scores: npt.ArrayLike, draws: int = 1000, seed: int = 0) -> dict:
    """The metrics of AudioSet tagging on clips drawn with replacement: how much they owe to the choice of clips.

    The same seed and number of clips draw the same clips, whatever the scores, so that the differences of two
    systems, draw by draw, are paired.

    Args:
        targets: bool or 0/1 (clips, classes).
        scores: (clips, classes).
        draws: how many sets of as many clips as there are.
        seed: of the draws.

    Returns:
        map, mauc, d_prime: float64 (draws,), each mean over the classes that the draw has a positive clip of (and, for
        the AUC, a negative one); ap: float64 (draws, classes), nan where it has none.
    """
    targets, scores = validate(targets, scores)
    if draws < 1:
        raise MetricError(f"{draws} draws were asked for; at least one is needed.")
    ap, auc = _weigh_classes(targets, scores, _draw_clips(len(targets), draws, seed))
    mean_auc = _mean(auc)
    return {"map": _mean(ap), "mauc": mean_auc, "d_prime": d_prime(mean_auc), "ap": ap}


def _draw_clips(clips: int, draws: int, seed: int) -> list[np.ndarray]:
    """How often each draw holds each clip: parts (clips, up to `DRAWS_AT_ONCE`) of a matrix (clips, draws)."""
    generator = np.random.default_rng(seed)
    parts = []
    for start in range(0, draws, DRAWS_AT_ONCE):
        part = np.empty((clips, min(DRAWS_AT_ONCE, draws - start)), _weight_type(clips))
        for column in part.T:
            column[:] = np.bincount(generator.integers(0, clips, clips), minlength=clips)
        parts.append(part)
    return parts


def _mean(values: np.ndarray) -> np.ndarray:
    """Mean over the classes (..., classes) that are not nan; nan where all are."""
    defined = np.isfinite(values)
    with np.errstate(invalid="ignore"):
        return np.where(defined, values, 0).sum(-1) / defined.sum(-1)


def interval(values: npt.ArrayLike, level: float = 0.95) -> tuple[float, float]:
    """The limits between which the middle ``level`` of bootstrap values (draws,) lies; nan values are left out.

    For values (draws, classes) each limit is (classes,). Where all values are nan, so are the limits.

    Raises:
        MetricError: no value, or a ``level`` outside (0, 1).
    """
    values = np.asarray(values, dtype=np.float64)
    if not values.ndim or not len(values) or not 0 < level < 1:
        raise MetricError(f"values {values.shape} and level {level} have no interval; give (draws,) and 0 < level < 1.")
    columns = values.reshape(len(values), -1).T
    limits = np.full((2, len(columns)), np.nan)
    for place, column in enumerate(columns):
        defined = column[~np.isnan(column)]
        if len(defined):
            # between a finite and an infinite d-prime nothing can be interpolated
            method = "linear" if np.isfinite(defined).all() else "nearest"
            limits[:, place] = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2], method=method)
    if values.ndim == 1:
        return float(limits[0, 0]), float(limits[1, 0])
    return limits[0].reshape(values.shape[1:]), limits[1].reshape(values.shape[1:])


def mean_average_precision_at_3(labels: npt.ArrayLike, scores: npt.ArrayLike) -> float:
    """mAP@3 of clips with one label each (Table XV of the paper): the mean of 1, 1/2, 1/3 or 0, in [0, 1].

    A clip gives 1 where its class has the highest score, 1/2 or 1/3 where that comes second or third, else 0. Classes
    whose score equals that of the right one count as ahead of it, so that nothing is gained by equal scores.

    Args:
        labels: the class of each clip, int (clips,).
        scores: (clips, classes).

    Raises:
        MetricError: other shapes, no clip, a label that is no class, scores that are not finite.
    """
    labels, scores = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    if labels.ndim != 1 or not labels.size or scores.ndim != 2 or len(scores) != len(labels):
        raise MetricError(f"labels {labels.shape} and scores {scores.shape} must be (clips,) and (clips, classes).")
    if not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0 or labels.max() >= scores.shape[1]:
        raise MetricError(f"labels must be whole numbers from 0 to {scores.shape[1] - 1}, one of each clip's class.")
    if not np.isfinite(scores).all():
        clip = int(np.argwhere(~np.isfinite(scores))[0, 0])
        raise MetricError(f"a score of clip {clip} is NaN or infinite; all must be finite.")
    own = scores[np.arange(len(labels)), labels][:, None]
    rank = (scores >= own).sum(1)
    return float(np.where(rank <= 3, 1 / rank, 0).mean())


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
