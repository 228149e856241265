"""Results of trainings that never were: the real dataclasses, filled with plausible numbers."""

import numpy as np
import pandas as pd
import pytest

from pannslib import catalogue, reference
from pannslib.audioset_runs import BASE, RUNS
from pannslib.report import tagging
from pannslib.results import RunFolder
from pannslib.training import Baseline, TrainingResult

# how well each run tags; the others are like the base
SKILL = {
    BASE: 2.0,
    "train_cnn14_nobal_nomixup": 1.2,
    "train_cnn14_bal_nomixup": 1.7,
    "train_cnn14_small_bal_mixup": 1.0,
    "train_cnn14_mel128": 2.3,
    "train_cnn6": 1.3,
    "train_mobilenetv1": 1.7,
    "train_wavegram_logmel_cnn14": 2.05,
}


def results_like_trained(folder, classes=44, clips=300, evaluations=10, verdicts=None) -> dict:
    """Run -> `TrainingResult` for every run of the catalogue, of a long-tailed set that is no one's.

    Every network makes its mistakes on the same clips, as networks do, so that paired differences are small.
    """
    plan = catalogue.plan("smoke")
    rng = np.random.default_rng(1)
    labels = reference.class_labels()["display_name"].tolist()[:classes]
    targets = rng.random((clips, classes)) < 0.05
    targets[np.arange(classes) % clips, np.arange(classes)] = True
    training = np.sort(rng.lognormal(5, 1.2, classes).astype(int) + 5)[::-1]
    ease, noise = rng.normal(0, 0.5, classes), rng.standard_normal(targets.shape)
    iterations = np.linspace(100, 1000, evaluations).astype(int)
    results = {}
    for name in RUNS:
        skill = SKILL.get(name, 1.9)
        own = 0.9 * noise + 0.4 * rng.standard_normal(targets.shape)
        scores = (np.maximum(skill + ease, 0.1) * targets + own).astype(np.float32)
        measured = tagging.metrics.evaluate(targets, scores)
        grown = 1 - np.exp(-iterations / 300)
        curves = [
            pd.DataFrame({"iteration": iterations, "split": split, "map": ahead * measured["map"] * grown})
            for split, ahead in (("balanced_train", 1.3), ("eval", 1.0))
        ]
        path = folder / name
        path.mkdir(parents=True)
        np.savez(path / "scores.npz", scores=scores, targets=targets, clips=[f"Y{clip}.wav" for clip in range(clips)])
        wide = pd.DataFrame(grown[:, None] * measured["ap"][None], columns=labels)
        wide.insert(0, "iteration", iterations)
        wide.to_csv(path / "class_ap.csv", index=False)
        frame = pd.DataFrame({"index": range(classes), "label": labels, "training_clips": training})
        frame["evaluation_clips"] = targets.sum(0)
        frame["ap"], frame["auc"] = measured["ap"], measured["auc"]
        summary = {"chance": targets.mean(), "verdict": (verdicts or {}).get(name, "trained"), "advice": "",
                   "clips_per_second": 40.0, "parameters": 10_000}  # fmt: skip
        results[name] = TrainingResult(
            RunFolder(plan, name, path, {}),
            plan.settings(name),
            summary,
            pd.concat(curves, ignore_index=True).assign(mauc=0.9, d_prime=1.8),
            pd.DataFrame({"iteration": [10], "loss": [0.1], "learning_rate": [1e-3]}),
            frame,
        )
    return results


def linear_like_trained(results: dict) -> Baseline:
    """A weaker system on the same clips."""
    base = results[BASE]
    scores = (0.6 * base.targets + np.random.default_rng(5).standard_normal(base.targets.shape)).astype(np.float32)
    measured = tagging.metrics.evaluate(base.targets, scores)
    return Baseline(scores, base.targets, *(float(measured[key]) for key in ("map", "mauc", "d_prime")))


@pytest.fixture(scope="session")
def trained(tmp_path_factory) -> dict:
    return results_like_trained(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="session")
def systems(trained) -> tagging.Systems:
    return tagging.Systems(trained, linear_like_trained(trained), "miniature", draws=200)
