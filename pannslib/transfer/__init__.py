"""Transfer to other tasks: section V of the paper.

A network that was pretrained on AudioSet is used for a new task in one of four ways (the rows of Tables XIII to
XVIII). In each the classifier is new and has one output a class:

- *scratch*: nothing is pretrained; the same network starts from random weights.
- *fine-tune*: all weights but the classifier's start from the pretrained ones, and all are trained.
- *freeze, L1*: the pretrained network only turns clips into embeddings; one fully connected layer is trained.
- *freeze, L3*: the same with three fully connected layers.

Every number of iterations is fixed beforehand. A test fold is used once, to predict it with the last weights:
neither a weight, nor a scale, nor a setting is chosen on it.

The six tasks of the paper, by the catalogue::

    result = transfer.run(plan, "esc50")
    curve = transfer.run_few_shot(plan, "esc50", result)

Any packed clips, without it::

    splits, notes = transfer.splits_of(packed)
    start = transfer.Pretrained.from_path("checkpoint.safetensors")
    result = transfer.experiment(packed, splits, ["scratch", "fine_tune"], start, settings, "results")
    curve = transfer.few_shot(packed, splits, ["freeze_l1"], start, settings, "results", [2, 5, 10], result)
    transfer.final_model(packed, "fine_tune", start, settings, "model.safetensors")  # for AudioTagger
"""

from pannslib.transfer.experiment import METRICS, Metric, TransferResult, experiment, final_model
from pannslib.transfer.few_shot import FewShotResult, few_shot
from pannslib.transfer.pretrained import Pretrained
from pannslib.transfer.splits import Clips, Split, few_clips, sizes, splits_of
from pannslib.transfer.strategies import STRATEGIES, Strategy
from pannslib.transfer.tasks import pretrained_for, published, published_axis, run, run_few_shot

__all__ = [
    "METRICS",
    "STRATEGIES",
    "Clips",
    "FewShotResult",
    "Metric",
    "Pretrained",
    "Split",
    "Strategy",
    "TransferResult",
    "experiment",
    "few_clips",
    "few_shot",
    "final_model",
    "pretrained_for",
    "published",
    "published_axis",
    "run",
    "run_few_shot",
    "sizes",
    "splits_of",
]
