"""Training: one visible loop, moved between devices, precisions and processes by Lightning Fabric.

result = training.run(plan, "train_cnn14")      # a network of the catalogue, trained or read
training.fit(fabric, state, batch, targets, ...)  # the loop itself, which the transfer tasks use too
"""

from pannslib.training.baseline import Baseline, linear_baseline
from pannslib.training.devices import make_fabric, set_up
from pannslib.training.loop import (
    State,
    Stopped,
    classification_loss,
    fit,
    learning_rate,
    logits_of,
    predict,
    tagging_loss,
)
from pannslib.training.runs import TrainingResult, judge, result, run, training_rows
from pannslib.training.sources import ClipSource

__all__ = [
    "Baseline",
    "ClipSource",
    "State",
    "Stopped",
    "TrainingResult",
    "classification_loss",
    "fit",
    "judge",
    "learning_rate",
    "linear_baseline",
    "logits_of",
    "make_fabric",
    "predict",
    "result",
    "run",
    "set_up",
    "tagging_loss",
    "training_rows",
]
